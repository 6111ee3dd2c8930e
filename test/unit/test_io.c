/* test_io.c - one suite over the plain, the uring and the memory engine: files,
 * names, batches and small whole files behave alike. */
#define _GNU_SOURCE
#include "test/unit/io_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

static void bytes_written_anywhere_are_read_back(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "data");
    enum { SPAN = 3 * 1024 * 1024 };
    unsigned char *model = calloc(1, SPAN);
    unsigned char *got = malloc(SPAN);
    uint64_t end = 0;

    for (int i = 0; i < 200; i++) {
        uint64_t offset = next_random() % (SPAN - 300000);
        size_t n = (size_t)(next_random() % (i % 10 == 0 ? 300000 : 5000));

        fill(model + offset, n, (unsigned)i);
        assert_ok(fx, adb_file_write(file, "data", model + offset, n, offset, &fx->err));
        if (n > 0 && offset + n > end)
            end = offset + n;
        if (i % 20 == 0)
            assert_ok(fx, adb_file_sync(file, "data", &fx->err));
    }
    assert_int_equal(size_of(fx, file), end);
    for (int i = 0; i < 200; i++) {
        uint64_t offset = next_random() % end;
        size_t n = (size_t)(next_random() % (end - offset + 1));

        assert_ok(fx, adb_file_read(file, "data", got, n, offset, &fx->err));
        assert_memory_equal(got, model + offset, n);
    }
    fx->ops->file_drop_cache(file);
    assert_ok(fx, adb_file_read(file, "data", got, (size_t)end, 0, &fx->err));
    assert_memory_equal(got, model, (size_t)end);
    fx->ops->file_close(file);
    free(model);
    free(got);
}

static void a_hole_reads_as_zeros(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "sparse");
    uint64_t far = UINT64_C(5) << 30; /* beyond 32 bits */
    unsigned char buf[1000];

    assert_ok(fx, adb_file_write(file, "sparse", "end", 3, far, &fx->err));
    assert_int_equal(size_of(fx, file), far + 3);
    memset(buf, 1, sizeof buf);
    assert_ok(fx, adb_file_read(file, "sparse", buf, sizeof buf, far / 2, &fx->err));
    assert_true(all_zero(buf, sizeof buf));
    assert_ok(fx, adb_file_read(file, "sparse", buf, 13, far - 10, &fx->err));
    assert_true(all_zero(buf, 10));
    assert_memory_equal(buf + 10, "end", 3);
    fx->ops->file_close(file);
}

static void iovecs_beyond_one_system_call_move_all_their_bytes(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "wide");
    enum { COUNT = 3001, SPAN = COUNT * 100 };
    struct iovec *iov = calloc(COUNT, sizeof *iov);
    unsigned char *data = malloc(SPAN);
    unsigned char *got = calloc(1, SPAN);
    struct adb_io_op ops[3];
    size_t total = 0;

    fill(data, SPAN, 3);
    for (int i = 0; i < COUNT; i++) {
        iov[i].iov_base = data + total;
        iov[i].iov_len = (size_t)(next_random() % 100); /* some of length 0 */
        total += iov[i].iov_len;
    }
    /* Twice, so that it is no single chain; then with a sync behind. */
    ops[0] = op_of(file, ADB_IO_WRITE, iov, 11, false);
    ops[0].iov_count = COUNT;
    ops[1] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
    ops[2] = op_of(file, ADB_IO_WRITE, iov, 11, false);
    ops[2].iov_count = COUNT;
    fx->ops->submit(fx->io, ops, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ops[i].sys_errno, 0);
    assert_int_equal(size_of(fx, file), 11 + total);
    for (int i = 0; i < COUNT; i++)
        iov[i].iov_base = got + ((unsigned char *)iov[i].iov_base - data);
    ops[0] = op_of(file, ADB_IO_READ, iov, 11, false);
    ops[0].iov_count = COUNT;
    fx->ops->submit(fx->io, ops, 1);
    assert_int_equal(ops[0].sys_errno, 0);
    assert_memory_equal(got, data, total);
    fx->ops->file_close(file);
    free(iov);
    free(data);
    free(got);
}

static void what_moved_is_counted_and_what_failed_is_not(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "counted");
    unsigned char buf[300] = {0};
    struct iovec iov[2] = {{buf, 100}, {buf + 100, 200}};
    struct adb_io_op ops[4];

    ops[0] = op_of(file, ADB_IO_WRITE, iov, 0, false);
    ops[0].iov_count = 2;
    ops[1] = op_of(file, ADB_IO_WRITE, iov, 300, false);
    ops[2] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
    adb_io_run(fx->io, ops, 3);
    ops[0] = op_of(file, ADB_IO_READ, iov, 300, false);
    ops[1] = op_of(file, ADB_IO_READ, iov, 1000, false); /* behind the end */
    adb_io_run(fx->io, ops, 2);
    assert_int_equal(ops[1].sys_errno, ENODATA);
    assert_int_equal(atomic_load(&fx->io->writes), 2);
    assert_int_equal(atomic_load(&fx->io->bytes_written), 400);
    assert_int_equal(atomic_load(&fx->io->reads), 1);
    assert_int_equal(atomic_load(&fx->io->bytes_read), 100);
    assert_int_equal(atomic_load(&fx->io->syncs), 1);
    fx->ops->file_close(file);
}

static void a_read_past_the_end_says_so(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "short");
    unsigned char buf[64];
    struct iovec iov = {buf, sizeof buf};
    struct adb_io_op ops[3];

    assert_ok(fx, adb_file_write(file, "short", "0123456789", 10, 0, &fx->err));
    ops[0] = op_of(file, ADB_IO_READ, &iov, 0, false);
    ops[1] = op_of(file, ADB_IO_READ, &iov, 10, false);
    ops[2] = op_of(file, ADB_IO_READ, &iov, UINT64_MAX - 5, false);
    fx->ops->submit(fx->io, ops, 3);
    for (int i = 0; i < 3; i++)
        assert_int_equal(ops[i].sys_errno, ENODATA);
    assert_int_equal(adb_file_read(file, "short", buf, 5, 6, &fx->err), ARMDB_CORRUPT);
    assert_non_null(strstr(fx->err.text, "short ends before"));
    assert_ok(fx, adb_file_read(file, "short", buf, 4, 6, &fx->err));
    assert_memory_equal(buf, "6789", 4);
    /* Nothing wanted is nothing missed. */
    assert_ok(fx, adb_file_read(file, "short", buf, 0, 10, &fx->err));
    assert_ok(fx, adb_file_write(file, "short", buf, 0, 5, &fx->err));
    assert_int_equal(size_of(fx, file), 10);
    fx->ops->file_close(file);
}

static void a_write_beyond_the_largest_offset_is_full(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "huge");

    assert_int_equal(adb_file_write(file, "huge", "ab", 2, INT64_MAX - 1, &fx->err),
                     ARMDB_FULL);
    assert_int_equal(adb_file_write(file, "huge", "ab", 2, UINT64_MAX - 1, &fx->err),
                     ARMDB_FULL);
    assert_int_equal(size_of(fx, file), 0);
    fx->ops->file_close(file);
}

static void reserving_makes_a_file_longer_and_zero(void **state)
{
    struct fixture *fx = fixture_of(state);
    enum { SPAN = 2 * 1024 * 1024 };
    unsigned char *got = malloc(SPAN);

    for (int written = 0; written < 2; written++) {
        struct adb_file *file = new_file(fx, written ? "written" : "reserved");

        assert_ok(fx, adb_file_write(file, "f", "abc", 3, 0, &fx->err));
        assert_ok(fx, fx->ops->file_reserve(file, 1 << 20, written, &fx->err));
        assert_int_equal(size_of(fx, file), 1 << 20);
        assert_ok(fx, fx->ops->file_reserve(file, SPAN - 5, written, &fx->err));
        assert_int_equal(size_of(fx, file), SPAN - 5);
        assert_ok(fx, fx->ops->file_reserve(file, 1000, written, &fx->err));
        assert_ok(fx, fx->ops->file_reserve(file, 0, written, &fx->err));
        assert_int_equal(size_of(fx, file), SPAN - 5);
        assert_ok(fx, adb_file_read(file, "f", got, SPAN - 5, 0, &fx->err));
        assert_memory_equal(got, "abc", 3);
        assert_true(all_zero(got + 3, SPAN - 8));
        fx->ops->file_close(file);
    }
    free(got);
}

static void what_was_cut_off_comes_back_as_zeros(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "cut");
    enum { SPAN = 700 * 1000 };
    unsigned char *data = malloc(SPAN);
    unsigned char *got = malloc(SPAN);

    fill(data, SPAN, 9);
    assert_ok(fx, adb_file_write(file, "cut", data, SPAN, 0, &fx->err));
    assert_ok(fx, fx->ops->file_truncate(file, 1234, &fx->err));
    assert_int_equal(size_of(fx, file), 1234);
    assert_int_equal(adb_file_read(file, "cut", got, 10, 1230, &fx->err), ARMDB_CORRUPT);
    assert_ok(fx, fx->ops->file_truncate(file, SPAN, &fx->err));
    assert_ok(fx, adb_file_read(file, "cut", got, SPAN, 0, &fx->err));
    assert_memory_equal(got, data, 1234);
    assert_true(all_zero(got + 1234, SPAN - 1234));
    assert_int_equal(fx->ops->file_truncate(file, UINT64_MAX, &fx->err), ARMDB_FULL);
    fx->ops->file_close(file);
    free(data);
    free(got);
}

static void names_that_are_missing_or_taken_are_told_apart(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = NULL;
    char long_name[300];

    assert_int_equal(fx->ops->file_open(fx->dir, "none", 0, &file, &fx->err),
                     ARMDB_NOT_FOUND);
    assert_null(file);
    assert_non_null(strstr(fx->err.text, "none"));
    assert_int_equal(fx->ops->dir_unlink(fx->dir, "none", &fx->err), ARMDB_NOT_FOUND);
    assert_int_equal(fx->ops->dir_rename(fx->dir, "none", "x", &fx->err), ARMDB_IO);
    assert_non_null(strstr(fx->err.text, "none"));
    fx->ops->file_close(new_file(fx, "taken"));
    assert_int_equal(fx->ops->file_open(fx->dir, "taken",
                                        ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file,
                                        &fx->err),
                     ARMDB_EXISTS);
    assert_null(file);
    memset(long_name, 'n', sizeof long_name - 1);
    long_name[sizeof long_name - 1] = '\0';
    assert_int_equal(fx->ops->file_open(fx->dir, long_name,
                                        ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file,
                                        &fx->err),
                     ARMDB_CANTOPEN);
    assert_int_equal(fx->ops->dir_rename(fx->dir, "taken", long_name, &fx->err),
                     ARMDB_IO);
    assert_int_equal(adb_file_replace(fx->dir, long_name, "x", 1, &fx->err),
                     ARMDB_INVALID);
}

static void a_replaced_or_removed_file_lives_where_it_is_open(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *old = new_file(fx, "name");
    struct adb_file *fresh = new_file(fx, "name.new");
    struct adb_file *again;
    char buf[4];

    assert_ok(fx, adb_file_write(old, "name", "old", 3, 0, &fx->err));
    assert_ok(fx, adb_file_write(fresh, "name.new", "new", 3, 0, &fx->err));
    assert_ok(fx, fx->ops->dir_rename(fx->dir, "name.new", "name", &fx->err));
    assert_ok(fx, fx->ops->dir_rename(fx->dir, "name", "name", &fx->err));
    assert_ok(fx, fx->ops->dir_sync(fx->dir, &fx->err));
    again = open_file(fx, "name", 0);
    assert_ok(fx, adb_file_read(again, "name", buf, 3, 0, &fx->err));
    assert_memory_equal(buf, "new", 3);
    assert_ok(fx, adb_file_read(old, "name", buf, 3, 0, &fx->err));
    assert_memory_equal(buf, "old", 3);
    assert_ok(fx, fx->ops->dir_unlink(fx->dir, "name", &fx->err));
    assert_ok(fx, adb_file_write(fresh, "name", "w", 1, 2, &fx->err));
    assert_ok(fx, adb_file_read(again, "name", buf, 3, 0, &fx->err));
    assert_memory_equal(buf, "new", 2);
    assert_int_equal(buf[2], 'w');
    assert_int_equal(fx->ops->dir_unlink(fx->dir, "name", &fx->err), ARMDB_NOT_FOUND);
    fx->ops->file_close(old);
    fx->ops->file_close(fresh);
    fx->ops->file_close(again);
    fx->ops->file_close(NULL);
}

struct listing {
    struct fixture *fx;
    unsigned seen; /* a bit for each file */
    int visits;
    bool unlink;
    int stop_after;
    bool bad;
};

static bool note_name(void *arg, const char *name)
{
    struct listing *list = arg;
    int number = -1;

    list->visits++;
    if (sscanf(name, "file%d", &number) != 1 || number < 0 || number > 9 ||
        (list->seen & (1u << number)) != 0)
        list->bad = true;
    else
        list->seen |= 1u << number;
    if (list->unlink && list->fx->ops->dir_unlink(list->fx->dir, name, NULL) != ARMDB_OK)
        list->bad = true;
    return list->visits != list->stop_after;
}

static void a_listing_shows_each_name_once(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct listing all = {.fx = fx};
    struct listing some = {.fx = fx, .stop_after = 3};
    struct listing removing = {.fx = fx, .unlink = true};
    struct listing none = {.fx = fx};

    for (int i = 0; i < 10; i++) {
        char name[16];

        (void)snprintf(name, sizeof name, "file%d", i);
        fx->ops->file_close(new_file(fx, name));
    }
    assert_ok(fx, fx->ops->dir_list(fx->dir, note_name, &all, &fx->err));
    assert_int_equal(all.seen, 0x3ff);
    assert_ok(fx, fx->ops->dir_list(fx->dir, note_name, &some, &fx->err));
    assert_int_equal(some.visits, 3);
    /* The visitor may change what is listed. */
    assert_ok(fx, fx->ops->dir_list(fx->dir, note_name, &removing, &fx->err));
    assert_int_equal(removing.seen, 0x3ff);
    assert_ok(fx, fx->ops->dir_list(fx->dir, note_name, &none, &fx->err));
    assert_int_equal(none.visits, 0);
    assert_false(all.bad || some.bad || removing.bad);
}

static void a_second_lock_is_refused_until_the_first_is_released(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *first = NULL;
    struct adb_file *second = NULL;
    uint64_t holder = 99;

    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &first, &holder, &fx->err));
    assert_int_equal(holder, 0);
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err),
            ARMDB_LOCKED);
        assert_null(second);
        assert_int_equal(holder, getpid());
    }
    fx->ops->lock_release(first);
    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err));
    fx->ops->lock_release(second);
    fx->ops->lock_release(NULL);
}

static void a_failed_operation_cancels_the_rest_of_its_chain_alone(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "both");
    struct adb_file *read_only = open_file(fx, "both", 0);
    char a[] = "aaaa";
    char b[] = "bbbb";
    char got[4] = {0};
    struct iovec iov_a = {a, 4};
    struct iovec iov_b = {b, 4};
    struct iovec iov_got = {got, 4};
    struct adb_io_op ops[7];

    ops[0] = op_of(file, ADB_IO_WRITE, &iov_a, 0, true); /* has none before it */
    ops[1] = op_of(read_only, ADB_IO_WRITE, &iov_b, 0, true);
    ops[2] = op_of(file, ADB_IO_WRITE, &iov_b, 0, true);
    ops[3] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
    ops[4] = op_of(file, ADB_IO_WRITE, &iov_b, 8, false);
    ops[5] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
    ops[6] = op_of(file, ADB_IO_READ, &iov_got, 8, true);
    fx->ops->submit(fx->io, ops, 7);
    assert_int_equal(ops[0].sys_errno, 0);
    assert_int_equal(ops[1].sys_errno, EBADF);
    assert_int_equal(ops[2].sys_errno, ECANCELED);
    assert_int_equal(ops[3].sys_errno, ECANCELED);
    assert_int_equal(ops[4].sys_errno, 0);
    assert_int_equal(ops[5].sys_errno, 0);
    assert_int_equal(ops[6].sys_errno, 0);
    assert_memory_equal(got, "bbbb", 4);
    assert_ok(fx, adb_file_read(file, "both", got, 4, 0, &fx->err));
    assert_memory_equal(got, "aaaa", 4);
    /* The same as one chain, and with a read that meets the end in the middle. */
    fx->ops->submit(fx->io, ops, 4);
    assert_int_equal(ops[1].sys_errno, EBADF);
    assert_int_equal(ops[2].sys_errno, ECANCELED);
    assert_int_equal(ops[3].sys_errno, ECANCELED);
    ops[0] = op_of(file, ADB_IO_READ, &iov_got, 1000, false);
    ops[1] = op_of(file, ADB_IO_WRITE, &iov_b, 0, true);
    ops[2] = op_of(file, ADB_IO_READ, &iov_got, 0, false);
    fx->ops->submit(fx->io, ops, 3);
    assert_int_equal(ops[0].sys_errno, ENODATA);
    assert_int_equal(ops[1].sys_errno, ECANCELED);
    assert_int_equal(ops[2].sys_errno, 0);
    assert_memory_equal(got, "aaaa", 4);
    assert_int_equal(adb_file_write(read_only, "both", "x", 1, 0, &fx->err), ARMDB_IO);
    fx->ops->submit(fx->io, ops, 0);
    fx->ops->file_close(file);
    fx->ops->file_close(read_only);
}

/* Chains of write, overwrite, sync, read: the read sees the overwrite. `links` more
 * overwrites make a chain as long as is wanted. */
static void run_ordered_chains(struct fixture *fx, size_t chains, size_t links)
{
    struct adb_file *file = new_file(fx, "order");
    size_t per_chain = links + 3;
    struct adb_io_op *ops = calloc(chains * per_chain, sizeof *ops);
    struct iovec *iov = calloc(chains * per_chain, sizeof *iov);
    uint64_t *words = calloc(chains * per_chain, sizeof *words);

    for (size_t c = 0; c < chains; c++) {
        for (size_t k = 0; k < per_chain; k++) {
            size_t i = c * per_chain + k;
            enum adb_io_kind kind = k == per_chain - 1   ? ADB_IO_READ
                                    : k == per_chain - 2 ? ADB_IO_SYNC
                                                         : ADB_IO_WRITE;

            words[i] = kind == ADB_IO_READ ? 0 : (uint64_t)i + 1;
            iov[i].iov_base = &words[i];
            iov[i].iov_len = sizeof words[i];
            ops[i] = op_of(file, kind, kind == ADB_IO_SYNC ? NULL : &iov[i],
                           c * sizeof(uint64_t), k > 0);
        }
    }
    fx->ops->submit(fx->io, ops, chains * per_chain);
    for (size_t i = 0; i < chains * per_chain; i++)
        assert_int_equal(ops[i].sys_errno, 0);
    for (size_t c = 0; c < chains; c++) {
        size_t last_write = c * per_chain + links;

        assert_int_equal(words[c * per_chain + per_chain - 1], last_write + 1);
    }
    fx->ops->file_close(file);
    free(ops);
    free(iov);
    free(words);
}

static void linked_operations_run_in_order(void **state)
{
    run_ordered_chains(fixture_of(state), 30, 1);
}

static void more_chains_than_a_ring_holds_run_in_order(void **state)
{
    run_ordered_chains(fixture_of(state), 100, 4);
}

static void chains_longer_than_a_ring_run_in_order(void **state)
{
    run_ordered_chains(fixture_of(state), 3, 150);
}

static void a_batch_larger_than_a_ring_reads_everything(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "many");
    enum { COUNT = 1000, EACH = 512 };
    struct adb_io_op *ops = calloc(COUNT, sizeof *ops);
    struct iovec *iov = calloc(COUNT, sizeof *iov);
    unsigned char *data = malloc(COUNT * EACH);
    unsigned char *got = calloc(COUNT, EACH);

    fill(data, COUNT * EACH, 1);
    assert_ok(fx, adb_file_write(file, "many", data, COUNT * EACH, 0, &fx->err));
    for (int cold = 0; cold < 2; cold++) {
        if (cold) {
            assert_ok(fx, adb_file_sync(file, "many", &fx->err));
            fx->ops->file_drop_cache(file);
        }
        memset(got, 0, COUNT * EACH);
        for (size_t i = 0; i < COUNT; i++) {
            size_t where = (i * 617) % COUNT * EACH;

            iov[i].iov_base = got + where;
            iov[i].iov_len = EACH;
            ops[i] = op_of(file, ADB_IO_READ, &iov[i], where, false);
        }
        fx->ops->submit(fx->io, ops, COUNT);
        for (size_t i = 0; i < COUNT; i++)
            assert_int_equal(ops[i].sys_errno, 0);
        assert_memory_equal(got, data, COUNT * EACH);
    }
    fx->ops->file_close(file);
    free(ops);
    free(iov);
    free(data);
    free(got);
}

static void several_threads_submit_at_once(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_thread threads[WORKERS];
    struct worker workers[WORKERS];
    struct adb_file *files[2];

    files[0] = new_file(fx, "shared");
    files[1] = open_file(fx, "shared", ADB_OPEN_WRITE | ADB_OPEN_DIRECT);
    for (int direct = 0; direct < 2; direct++) {
        if (direct && fx->ops->file_is_direct(files[1]))
            break; /* its buffers would have to be aligned; see the direct tests */
        for (int i = 0; i < WORKERS; i++) {
            workers[i] = (struct worker){fx, files[direct], i, 0};
            assert_int_equal(adb_thread_start(&threads[i], work_in_batches, &workers[i]),
                             ARMDB_OK);
        }
        for (int i = 0; i < WORKERS; i++)
            adb_thread_join(&threads[i]);
        for (int i = 0; i < WORKERS; i++)
            assert_int_equal(workers[i].failure, 0);
    }
    fx->ops->file_close(files[0]);
    fx->ops->file_close(files[1]);
}

static void a_small_file_is_replaced_whole(void **state)
{
    struct fixture *fx = fixture_of(state);
    unsigned char *p = NULL;
    size_t n = 0;

    assert_int_equal(adb_file_slurp(fx->dir, "small", 100, &p, &n, &fx->err),
                     ARMDB_NOT_FOUND);
    /* One left over by a crash. */
    fx->ops->file_close(new_file(fx, "small.tmp"));
    assert_ok(fx, adb_file_replace(fx->dir, "small", "first text", 10, &fx->err));
    assert_ok(fx, adb_file_replace(fx->dir, "small", "second", 6, &fx->err));
    assert_ok(fx, adb_file_slurp(fx->dir, "small", 6, &p, &n, &fx->err));
    assert_int_equal(n, 6);
    assert_memory_equal(p, "second", 6);
    adb_free(ADB_MEM_IO, p);
    assert_int_equal(adb_file_slurp(fx->dir, "small", 5, &p, &n, &fx->err),
                     ARMDB_CORRUPT);
    assert_null(p);
    assert_int_equal(fx->ops->dir_unlink(fx->dir, "small.tmp", &fx->err),
                     ARMDB_NOT_FOUND);
    assert_ok(fx, adb_file_replace(fx->dir, "small", "", 0, &fx->err));
    assert_ok(fx, adb_file_slurp(fx->dir, "small", 0, &p, &n, &fx->err));
    assert_int_equal(n, 0);
    adb_free(ADB_MEM_IO, p);
}

static void random_numbers_and_the_clock_work(void **state)
{
    struct fixture *fx = fixture_of(state);
    unsigned char a[600] = {0};
    unsigned char b[600] = {0};

    assert_ok(fx, fx->ops->random(fx->io, a, sizeof a, &fx->err));
    assert_ok(fx, fx->ops->random(fx->io, b, sizeof b, &fx->err));
    assert_memory_not_equal(a, b, sizeof a);
    assert_memory_not_equal(a + 500, b + 500, 100);
    assert_true(fx->ops->wall_ns(fx->io) > UINT64_C(1600000000) * 1000000000);
}

/* Everything that needs memory, once; false with ARMDB_NOMEM at the first lack. */
static enum armdb_rc use_everything(struct fixture *fx)
{
    struct adb_io *io = NULL;
    struct adb_dir *dir = NULL;
    struct adb_file *lock = NULL;
    struct listing list = {.fx = fx};
    unsigned char *p = NULL;
    uint64_t holder;
    size_t n;
    enum armdb_rc rc;

    rc = fx->create(&io, &fx->err);
    if (rc != ARMDB_OK)
        return rc;
    rc = io->ops->dir_open(io, fx->path, true, &dir, &fx->err);
    if (rc == ARMDB_OK)
        rc = io->ops->lock_acquire(dir, "lock", &lock, &holder, &fx->err);
    if (rc == ARMDB_OK)
        rc = adb_file_replace(dir, "whole", "text", 4, &fx->err);
    if (rc == ARMDB_OK)
        rc = adb_file_slurp(dir, "whole", 4, &p, &n, &fx->err);
    if (rc == ARMDB_OK)
        rc = io->ops->dir_list(dir, note_name, &list, &fx->err);
    adb_free(ADB_MEM_IO, p);
    io->ops->lock_release(lock);
    io->ops->dir_close(dir);
    io->ops->destroy(io);
    return rc;
}

static void any_failed_allocation_is_a_clean_error(void **state)
{
    struct fixture *fx = fixture_of(state);
    uint64_t before = adb_mem_used(ADB_MEM_IO);

    for (uint64_t n = 1; n < 100; n++) {
        enum armdb_rc rc;
        uint64_t failures;

        (void)adb_mem_failures();
        adb_mem_fail_at(n, false);
        rc = use_everything(fx);
        adb_mem_fail_at(0, false);
        failures = adb_mem_failures();
        assert_int_equal(adb_mem_used(ADB_MEM_IO), before);
        if (failures == 0) {
            assert_int_equal(rc, ARMDB_OK);
            assert_true(n > 5);
            return;
        }
        /* A memory file that cannot grow says ENOMEM in its sys_errno. */
        assert_int_equal(rc, ARMDB_NOMEM);
    }
    fail_msg("allocations without end");
}

static void a_reservation_without_memory_or_room_changes_nothing(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "file");
    uint64_t used;
    enum armdb_rc rc;

    assert_ok(fx, adb_file_write(file, "file", "abc", 3, 0, &fx->err));
    used = adb_mem_used(ADB_MEM_IO);
    if (!fx->on_disk)
        adb_mem_fail_at(4, true);
    rc = fx->ops->file_reserve(file, fx->on_disk ? UINT64_C(1) << 46 : 1 << 22, false,
                               &fx->err);
    adb_mem_fail_at(0, false);
    assert_int_equal(rc, fx->on_disk ? ARMDB_FULL : ARMDB_NOMEM);
    assert_int_equal(size_of(fx, file), 3);
    assert_int_equal(fx->ops->file_reserve(file, UINT64_MAX, false, &fx->err),
                     fx->on_disk ? ARMDB_FULL : ARMDB_NOMEM);
    assert_int_equal(size_of(fx, file), 3);
    /* At most a longer table of extents is left. */
    assert_in_range(adb_mem_used(ADB_MEM_IO), used, used + PAGE);
    fx->ops->file_close(file);
}

static void a_folder_is_known_under_all_its_paths(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_dir *other = NULL;
    uint64_t device[2];
    uint64_t inode[2];
    char path[300];

    (void)snprintf(path, sizeof path, "%s/../%s/", fx->path, strrchr(fx->path, '/') + 1);
    assert_ok(fx, fx->ops->dir_open(fx->io, path, true, &other, &fx->err));
    assert_ok(fx, fx->ops->dir_identity(fx->dir, &device[0], &inode[0], &fx->err));
    assert_ok(fx, fx->ops->dir_identity(other, &device[1], &inode[1], &fx->err));
    assert_int_equal(device[0], device[1]);
    assert_int_equal(inode[0], inode[1]);
    assert_true(fx->ops->dir_is_writable(other));
    fx->ops->file_close(new_file(fx, "seen"));
    assert_ok(fx, fx->ops->dir_unlink(other, "seen", &fx->err));
    fx->ops->dir_close(other);
    fx->ops->dir_close(NULL);
}

/* ---- The table -------------------------------------------------------------- */

static const struct suite_test suite[] = {
    SUITE_TEST(bytes_written_anywhere_are_read_back),
    SUITE_TEST(a_hole_reads_as_zeros),
    SUITE_TEST(iovecs_beyond_one_system_call_move_all_their_bytes),
    SUITE_TEST(what_moved_is_counted_and_what_failed_is_not),
    SUITE_TEST(a_read_past_the_end_says_so),
    SUITE_TEST(a_write_beyond_the_largest_offset_is_full),
    SUITE_TEST(reserving_makes_a_file_longer_and_zero),
    SUITE_TEST(what_was_cut_off_comes_back_as_zeros),
    SUITE_TEST(names_that_are_missing_or_taken_are_told_apart),
    SUITE_TEST(a_replaced_or_removed_file_lives_where_it_is_open),
    SUITE_TEST(a_listing_shows_each_name_once),
    SUITE_TEST(a_second_lock_is_refused_until_the_first_is_released),
    SUITE_TEST(a_failed_operation_cancels_the_rest_of_its_chain_alone),
    SUITE_TEST(linked_operations_run_in_order),
    SUITE_TEST(more_chains_than_a_ring_holds_run_in_order),
    SUITE_TEST(chains_longer_than_a_ring_run_in_order),
    SUITE_TEST(a_batch_larger_than_a_ring_reads_everything),
    SUITE_TEST(several_threads_submit_at_once),
    SUITE_TEST(a_small_file_is_replaced_whole),
    SUITE_TEST(random_numbers_and_the_clock_work),
    SUITE_TEST(any_failed_allocation_is_a_clean_error),
    SUITE_TEST(a_reservation_without_memory_or_room_changes_nothing),
    SUITE_TEST(a_folder_is_known_under_all_its_paths),
};

int main(void)
{
    return run_suite(suite, sizeof suite / sizeof suite[0], PLAIN, MEMORY);
}
