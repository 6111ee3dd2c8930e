/* test_io_fallback.c - what the engines do when the kernel does less than asked.
 *
 * Three ways to make it so: a seccomp filter in a child refuses io_uring; a timer
 * interrupts every millisecond; and this program defines preadv(), pwritev(),
 * fdatasync(), fsync(), flock() and two functions of liburing itself, in front of
 * the libraries', so that calls are interrupted, cut short or refused and completions
 * tell of short counts and cancelled operations whenever a test wants. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <dlfcn.h>
#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <liburing.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/io/io.h"

enum { PAGE = 4096, DOCTORED_MAX = 256 };

static uint64_t seed;

static uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

/* ---- Calls that do less ------------------------------------------------------ */

/* Of `calls_bad` calls each is, in turn, interrupted or moves about a third. Threads
 * of the engine count, too; order means nothing here, so relaxed. */
static _Atomic int calls_bad;
static _Atomic unsigned calls_seen;

static bool call_is_bad(unsigned *turn)
{
    *turn = atomic_fetch_add_explicit(&calls_seen, 1, memory_order_relaxed);
    if (atomic_load_explicit(&calls_bad, memory_order_relaxed) <= 0)
        return false;
    return atomic_fetch_sub_explicit(&calls_bad, 1, memory_order_relaxed) > 0;
}

static _Atomic bool counts_lie;  /* bad calls move all and tell of an odd half */
static _Atomic int write_errno;  /* what each write answers; 0 = the truth */
static _Atomic int sync_errno;   /* what each fdatasync answers; 0 = the truth */
static _Atomic int dir_errno;    /* what each fsync answers; 0 = the truth */
static _Atomic int syncs_seen;   /* fdatasyncs */
static _Atomic int syncs_wanted; /* a sync waits until so many have begun */

static int get(_Atomic int *p)
{
    return atomic_load_explicit(p, memory_order_relaxed);
}

static void set(_Atomic int *p, int value)
{
    atomic_store_explicit(p, value, memory_order_relaxed);
}

static ssize_t do_less(long number, int fd, const struct iovec *iov, int count,
                       off_t offset)
{
    struct iovec part = {NULL, 0};
    unsigned turn;

    if (!call_is_bad(&turn))
        return syscall(number, fd, iov, (long)count, (long)offset, 0L);
    if (turn % 2 == 0) {
        errno = EINTR;
        return -1;
    }
    if (atomic_load_explicit(&counts_lie, memory_order_relaxed)) {
        ssize_t n = syscall(number, fd, iov, (long)count, (long)offset, 0L);

        return n >= 2 * PAGE ? n / 2 + 512 : n;
    }
    while (count > 1 && iov->iov_len == 0) {
        iov++;
        count--;
    }
    part = *iov;
    part.iov_len = (part.iov_len + 2) / 3;
    return syscall(number, fd, &part, 1L, (long)offset, 0L);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    return do_less(SYS_preadv, fd, iov, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    if (get(&write_errno) != 0) {
        errno = get(&write_errno);
        return -1;
    }
    return do_less(SYS_pwritev, fd, iov, count, offset);
}

int fdatasync(int fd)
{
    const struct timespec pause = {0, 1000000};
    unsigned turn;

    (void)atomic_fetch_add_explicit(&syncs_seen, 1, memory_order_relaxed);
    for (int ms = 0; ms < 5000 && get(&syncs_seen) < get(&syncs_wanted); ms++)
        (void)nanosleep(&pause, NULL);
    if (get(&syncs_seen) < get(&syncs_wanted) || get(&sync_errno) != 0) {
        errno = get(&sync_errno) != 0 ? get(&sync_errno) : EIO;
        return -1;
    }
    if (call_is_bad(&turn)) {
        errno = EINTR;
        return -1;
    }
    return (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    unsigned turn;

    if (get(&dir_errno) != 0) {
        errno = get(&dir_errno);
        return -1;
    }
    if (call_is_bad(&turn)) {
        errno = EINTR;
        return -1;
    }
    return (int)syscall(SYS_fsync, fd);
}

/* The lock file at this path is removed by somebody else, once, in between. */
static const char *removed_before_flock;

int flock(int fd, int operation)
{
    if (removed_before_flock != NULL)
        (void)unlink(removed_before_flock);
    removed_before_flock = NULL;
    return (int)syscall(SYS_flock, fd, operation);
}

/* ---- A ring that tells something else ---------------------------------------- */

enum ring_mood { RING_HONEST, RING_REFUSES, RING_TAKES_HALF, RING_INTERRUPTS };

struct doctored {
    bool on;
    bool halve; /* tell half the count instead of `res` */
    int res;
};

static enum ring_mood mood;
static struct doctored doctored[DOCTORED_MAX]; /* by user data */
static unsigned ring_calls;
static unsigned rings_made;

static int real_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    static int (*real)(struct io_uring *, unsigned);

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

        memcpy(&real, &symbol, sizeof real);
    }
    return real(ring, wait_nr);
}

static void doctor_completions(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(ring, head, cqe)
    {
        uint64_t idx = cqe->user_data;

        if (idx >= DOCTORED_MAX || !doctored[idx].on)
            continue;
        doctored[idx].on = false;
        cqe->res = doctored[idx].halve ? cqe->res / 2 : doctored[idx].res;
    }
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    unsigned queued = io_uring_sq_ready(ring);
    int res;

    ring_calls++;
    if (mood == RING_REFUSES)
        return -EAGAIN;
    if (mood == RING_INTERRUPTS && ring_calls % 2 == 1)
        return -EINTR;
    if (mood == RING_TAKES_HALF && queued > 1) {
        unsigned kept = queued / 2;

        ring->sq.sqe_tail -= kept;
        res = real_submit_and_wait(ring, 1);
        ring->sq.sqe_tail += kept;
        return res;
    }
    res = real_submit_and_wait(ring, wait_nr);
    doctor_completions(ring);
    return res;
}

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
    static int (*real)(unsigned, struct io_uring *, unsigned);

    rings_made++;
    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "io_uring_queue_init");

        memcpy(&real, &symbol, sizeof real);
    }
    return real(entries, ring, flags);
}

/* ---- Fixture ------------------------------------------------------------------ */

struct fixture {
    struct adb_io *io;
    const struct adb_io_ops *ops;
    struct adb_dir *dir;
    struct adb_file *file;
    char path[256];
    struct armdb_error err;
    bool is_uring;
};

static void be_honest(void)
{
    set(&calls_bad, 0);
    set(&sync_errno, 0);
    set(&write_errno, 0);
    set(&dir_errno, 0);
    set(&syncs_wanted, 0);
    atomic_store_explicit(&counts_lie, false, memory_order_relaxed);
    mood = RING_HONEST;
    memset(doctored, 0, sizeof doctored);
}

static int set_up(void **state, bool is_uring)
{
    struct fixture *fx = calloc(1, sizeof *fx);
    const char *tmp = getenv("TMPDIR");
    enum armdb_rc rc;

    assert_non_null(fx);
    *state = fx;
    be_honest();
    fx->is_uring = is_uring;
    (void)snprintf(fx->path, sizeof fx->path, "%s/test_io_fallback.XXXXXX",
                   tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    assert_non_null(mkdtemp(fx->path));
    rc = is_uring ? adb_io_uring_create(&fx->io, &fx->err)
                  : adb_io_plain_create(&fx->io, &fx->err);
    if (rc != ARMDB_OK) {
        print_message("no such engine here: %s\n", fx->err.text);
        return 0;
    }
    fx->ops = fx->io->ops;
    assert_int_equal(fx->ops->dir_open(fx->io, fx->path, false, &fx->dir, &fx->err),
                     ARMDB_OK);
    assert_int_equal(fx->ops->file_open(fx->dir, "file", ADB_OPEN_WRITE | ADB_OPEN_CREATE,
                                        &fx->file, &fx->err),
                     ARMDB_OK);
    return 0;
}

static int set_up_plain(void **state)
{
    return set_up(state, false);
}

static int set_up_uring(void **state)
{
    return set_up(state, true);
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;

    be_honest();
    if (fx->io != NULL) {
        fx->ops->file_close(fx->file);
        assert_int_equal(fx->ops->dir_unlink(fx->dir, "file", &fx->err), ARMDB_OK);
        fx->ops->dir_close(fx->dir);
        fx->ops->destroy(fx->io);
    }
    assert_int_equal(rmdir(fx->path), 0);
    assert_int_equal(adb_mem_used(ADB_MEM_IO), 0);
    free(fx);
    return 0;
}

static struct fixture *fixture_of(void **state)
{
    struct fixture *fx = *state;

    if (fx->io == NULL)
        skip();
    return fx;
}

static struct adb_io_op op_of(struct fixture *fx, enum adb_io_kind kind,
                              const struct iovec *iov, uint64_t offset, bool linked)
{
    struct adb_io_op op = {
        .file = fx->file,
        .kind = kind,
        .after_previous = linked,
        .iov = iov,
        .iov_count = iov != NULL ? 1 : 0,
        .offset = offset,
        .sys_errno = 12345,
    };

    return op;
}

/* A thousand operations on a file of pages, checked against a model in memory: in
 * each round some batches of writes, linked rewrites and syncs, then a batch that
 * reads all. */
static void stress(struct fixture *fx, int rounds, int bad_calls)
{
    enum { PAGES = 60 };
    static unsigned char model[PAGES][PAGE];
    static unsigned char data[2 * PAGES][PAGE];
    struct iovec iov[2 * PAGES][3];
    struct adb_io_op ops[3 * PAGES];

    memset(model, 0, sizeof model);
    assert_int_equal(fx->ops->file_reserve(fx->file, sizeof model, true, &fx->err),
                     ARMDB_OK);
    for (int round = 0; round < rounds; round++) {
        size_t count = 0;

        set(&calls_bad, bad_calls);
        for (size_t i = 0; i < PAGES; i++) {
            /* The second write of a chain covers the first but for its first byte. */
            for (size_t k = 0; k < 2; k++) {
                unsigned char *page = data[2 * i + k];
                struct iovec *v = iov[2 * i + k];
                size_t cut = (size_t)(next_random() % PAGE);

                memset(page, (int)(next_random() % 256), PAGE);
                v[0] = (struct iovec){page + k, cut > k ? cut - k : 0};
                v[1] = (struct iovec){page, 0};
                v[2] = (struct iovec){page + cut, PAGE - (cut > k ? cut : k)};
                if (cut <= k)
                    v[2].iov_base = page + k;
                ops[count] = op_of(fx, ADB_IO_WRITE, v, i * PAGE + k, k > 0);
                ops[count].iov_count = 3;
                memcpy(model[i] + k, page + k, PAGE - k);
                count++;
            }
            if (i % 7 == 0)
                ops[count++] = op_of(fx, ADB_IO_SYNC, NULL, 0, true);
        }
        fx->ops->submit(fx->io, ops, count);
        for (size_t i = 0; i < count; i++)
            assert_int_equal(ops[i].sys_errno, 0);
        memset(data, 0, sizeof data);
        if (round % 3 == 0)
            fx->ops->file_drop_cache(fx->file);
        for (size_t i = 0; i < PAGES; i++) {
            iov[i][0] = (struct iovec){data[i], PAGE};
            ops[i] = op_of(fx, ADB_IO_READ, iov[i], i * PAGE, false);
        }
        set(&calls_bad, bad_calls);
        fx->ops->submit(fx->io, ops, PAGES);
        for (size_t i = 0; i < PAGES; i++)
            assert_int_equal(ops[i].sys_errno, 0);
        assert_memory_equal(data, model, sizeof model);
    }
}

/* ---- Interrupted and short calls ---------------------------------------------- */

static void interrupted_and_short_calls_still_move_all_bytes(void **state)
{
    struct fixture *fx = fixture_of(state);
    unsigned char a[5000];
    unsigned char b[5000] = {0};

    stress(fx, 10, 200);
    for (size_t i = 0; i < sizeof a; i++)
        a[i] = (unsigned char)next_random();
    for (int bad = 0; bad < 20; bad++) {
        set(&calls_bad, bad);
        assert_int_equal(adb_file_write(fx->file, "f", a, sizeof a, 77, &fx->err),
                         ARMDB_OK);
        assert_int_equal(adb_file_sync(fx->file, "f", &fx->err), ARMDB_OK);
        memset(b, 0, sizeof b);
        set(&calls_bad, bad);
        assert_int_equal(adb_file_read(fx->file, "f", b, sizeof b, 77, &fx->err),
                         ARMDB_OK);
        assert_memory_equal(a, b, sizeof a);
        /* The missing end is found however the call was cut. */
        set(&calls_bad, bad);
        assert_int_equal(
            adb_file_read(fx->file, "f", b, sizeof b, 60 * PAGE - 4999, &fx->err),
            ARMDB_CORRUPT);
    }
}

static void an_interrupted_sync_is_asked_again(void **state)
{
    struct fixture *fx = fixture_of(state);

    set(&calls_bad, 3);
    set(&syncs_seen, 0);
    assert_int_equal(adb_file_sync(fx->file, "f", &fx->err), ARMDB_OK);
    assert_int_equal(get(&syncs_seen), 4);
    set(&calls_bad, 3);
    assert_int_equal(fx->ops->dir_sync(fx->dir, &fx->err), ARMDB_OK);
    assert_true(get(&calls_bad) <= 0);
}

/* The next call on a direct file must begin on a block, wherever the last one
 * stopped. */
static void a_direct_file_goes_on_at_a_block(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *direct = NULL;
    enum { SPAN = 16 * PAGE };
    unsigned char *data = NULL;
    unsigned char *got = NULL;

    assert_int_equal(posix_memalign((void **)&data, PAGE, SPAN), 0);
    assert_int_equal(posix_memalign((void **)&got, PAGE, SPAN), 0);
    for (size_t i = 0; i < SPAN; i++)
        data[i] = (unsigned char)next_random();
    assert_int_equal(fx->ops->file_open(fx->dir, "file", ADB_OPEN_WRITE | ADB_OPEN_DIRECT,
                                        &direct, &fx->err),
                     ARMDB_OK);
    atomic_store_explicit(&counts_lie, true, memory_order_relaxed);
    set(&calls_bad, 8);
    assert_int_equal(adb_file_write(direct, "f", data, SPAN, 0, &fx->err), ARMDB_OK);
    set(&calls_bad, 8);
    assert_int_equal(adb_file_read(direct, "f", got, SPAN, 0, &fx->err), ARMDB_OK);
    assert_memory_equal(got, data, SPAN);
    fx->ops->file_close(direct);
    free(data);
    free(got);
}

/* Each of the syncs waits for the others to begin. */
static void independent_chains_run_at_the_same_time(void **state)
{
    struct fixture *fx = fixture_of(state);
    char text[] = "text";
    struct iovec iov = {text, 4};
    struct adb_io_op ops[8];

    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < 8; i += 2) {
            ops[i] = op_of(fx, ADB_IO_WRITE, &iov, (uint64_t)i * 4, false);
            ops[i + 1] = op_of(fx, ADB_IO_SYNC, NULL, 0, true);
        }
        set(&syncs_seen, 0);
        set(&syncs_wanted, 4);
        fx->ops->submit(fx->io, ops, 8);
        for (int i = 0; i < 8; i++)
            assert_int_equal(ops[i].sys_errno, 0);
    }
}

static void room_that_was_not_got_whole_is_given_back(void **state)
{
    struct fixture *fx = fixture_of(state);
    uint64_t size = 0;

    assert_int_equal(adb_file_write(fx->file, "f", "abc", 3, 0, &fx->err), ARMDB_OK);
    set(&write_errno, ENOSPC);
    assert_int_equal(fx->ops->file_reserve(fx->file, 1 << 20, true, &fx->err),
                     ARMDB_FULL);
    assert_int_equal(fx->ops->file_size(fx->file, &size, &fx->err), ARMDB_OK);
    assert_int_equal(size, 3);
}

static void a_replacement_that_fails_leaves_the_old_file(void **state)
{
    struct fixture *fx = fixture_of(state);
    _Atomic int *const causes[] = {&write_errno, &sync_errno};
    unsigned char *p = NULL;
    size_t n = 0;

    assert_int_equal(adb_file_replace(fx->dir, "whole", "old", 3, &fx->err), ARMDB_OK);
    for (int i = 0; i < 2; i++) {
        set(causes[i], EIO);
        assert_int_equal(adb_file_replace(fx->dir, "whole", "newer", 5, &fx->err),
                         ARMDB_IO);
        set(causes[i], 0);
        assert_int_equal(fx->ops->dir_unlink(fx->dir, "whole.tmp", &fx->err),
                         ARMDB_NOT_FOUND);
        assert_int_equal(adb_file_slurp(fx->dir, "whole", 9, &p, &n, &fx->err), ARMDB_OK);
        assert_int_equal(n, 3);
        assert_memory_equal(p, "old", 3);
        adb_free(ADB_MEM_IO, p);
    }
    /* Renamed, but nobody can say whether that lasts. */
    set(&dir_errno, EIO);
    assert_int_equal(adb_file_replace(fx->dir, "whole", "newer", 5, &fx->err), ARMDB_IO);
    assert_int_equal(fx->ops->dir_unlink(fx->dir, "whole", &fx->err), ARMDB_OK);
}

/* A lock on a file that has lost its name would keep nobody out. */
static void a_lock_file_removed_meanwhile_is_made_anew(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *first = NULL;
    struct adb_file *second = NULL;
    uint64_t holder;
    char path[300];

    (void)snprintf(path, sizeof path, "%s/lock", fx->path);
    removed_before_flock = path;
    assert_int_equal(fx->ops->lock_acquire(fx->dir, "lock", &first, &holder, &fx->err),
                     ARMDB_OK);
    assert_null(removed_before_flock);
    assert_int_equal(fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err),
                     ARMDB_LOCKED);
    fx->ops->lock_release(first);
    assert_int_equal(fx->ops->dir_unlink(fx->dir, "lock", &fx->err), ARMDB_OK);
}

static void a_new_folder_that_may_not_last_is_removed(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_dir *dir = NULL;
    char path[300];

    (void)snprintf(path, sizeof path, "%s/new", fx->path);
    set(&dir_errno, EIO);
    assert_int_equal(fx->ops->dir_open(fx->io, path, true, &dir, &fx->err),
                     ARMDB_CANTOPEN);
    assert_null(dir);
    assert_non_null(strstr(fx->err.text, path));
    assert_int_equal(access(path, F_OK), -1);
}

static void reserving_survives_short_and_interrupted_writes(void **state)
{
    struct fixture *fx = fixture_of(state);
    enum { SPAN = 3 * 1024 * 1024 + 77 };
    unsigned char *got = malloc(SPAN);
    uint64_t size = 0;

    set(&calls_bad, 40);
    assert_int_equal(fx->ops->file_reserve(fx->file, SPAN, true, &fx->err), ARMDB_OK);
    assert_int_equal(fx->ops->file_size(fx->file, &size, &fx->err), ARMDB_OK);
    assert_int_equal(size, SPAN);
    assert_int_equal(adb_file_read(fx->file, "f", got, SPAN, 0, &fx->err), ARMDB_OK);
    for (size_t i = 0; i < SPAN; i++)
        if (got[i] != 0)
            fail_msg("byte %zu is %d", i, got[i]);
    free(got);
}

static void a_failed_sync_is_reported_and_not_asked_again(void **state)
{
    struct fixture *fx = fixture_of(state);
    char text[] = "abcd";
    struct iovec iov = {text, 4};
    struct adb_io_op ops[3];

    ops[0] = op_of(fx, ADB_IO_WRITE, &iov, 0, false);
    ops[1] = op_of(fx, ADB_IO_SYNC, NULL, 0, true);
    ops[2] = op_of(fx, ADB_IO_WRITE, &iov, 4, true);
    set(&sync_errno, EIO);
    set(&syncs_seen, 0);
    fx->ops->submit(fx->io, ops, 3);
    assert_int_equal(ops[0].sys_errno, 0);
    assert_int_equal(ops[1].sys_errno, EIO);
    assert_int_equal(ops[2].sys_errno, ECANCELED);
    assert_int_equal(get(&syncs_seen), 1);
    assert_int_equal(adb_file_sync(fx->file, "the log", &fx->err), ARMDB_IO);
    assert_int_equal(fx->err.sys_errno, EIO);
    assert_non_null(strstr(fx->err.text, "cannot sync the log"));
    assert_int_equal(fx->ops->file_reserve(fx->file, 1 << 20, true, &fx->err), ARMDB_IO);
    set(&sync_errno, ENOSPC);
    assert_int_equal(adb_file_sync(fx->file, "the log", &fx->err), ARMDB_FULL);
}

static void on_alarm(int number)
{
    (void)number;
}

static void a_storm_of_signals_changes_nothing(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct sigaction action = {.sa_handler = on_alarm}; /* no SA_RESTART */
    struct sigaction before;
    struct itimerval every_ms = {{0, 1000}, {0, 1000}};
    struct itimerval none = {{0, 0}, {0, 0}};
    uint64_t until = adb_mono_ns() + UINT64_C(700) * 1000 * 1000;

    assert_int_equal(sigaction(SIGALRM, &action, &before), 0);
    assert_int_equal(setitimer(ITIMER_REAL, &every_ms, NULL), 0);
    while (adb_mono_ns() < until) {
        stress(fx, 5, 0);
        assert_int_equal(adb_file_sync(fx->file, "f", &fx->err), ARMDB_OK);
        assert_int_equal(fx->ops->dir_sync(fx->dir, &fx->err), ARMDB_OK);
        assert_int_equal(fx->ops->file_truncate(fx->file, 0, &fx->err), ARMDB_OK);
    }
    assert_int_equal(setitimer(ITIMER_REAL, &none, NULL), 0);
    assert_int_equal(sigaction(SIGALRM, &before, NULL), 0);
}

/* ---- Completions that tell of less --------------------------------------------- */

static void short_and_cancelled_completions_are_finished_in_order(void **state)
{
    struct fixture *fx = fixture_of(state);
    char first[] = "1111111111";
    char second[] = "2222222222";
    char got[10] = {0};
    char other[10] = {0};
    struct iovec iov[4] = {{first, 10}, {second, 10}, {got, 10}, {other, 10}};
    struct adb_io_op ops[5];

    for (int round = 0; round < 4; round++) {
        ops[0] = op_of(fx, ADB_IO_WRITE, &iov[0], 0, false);
        ops[1] = op_of(fx, ADB_IO_WRITE, &iov[1], 2, true);
        ops[2] = op_of(fx, ADB_IO_SYNC, NULL, 0, true);
        ops[3] = op_of(fx, ADB_IO_READ, &iov[2], 0, true);
        ops[4] = op_of(fx, ADB_IO_READ, &iov[3], 0, false); /* not one chain */
        memset(got, 0, sizeof got);
        switch (round) {
        case 0: /* a short write breaks the chain */
            doctored[0] = (struct doctored){.on = true, .halve = true};
            break;
        case 1: /* interrupted before it began */
            doctored[0] = (struct doctored){.on = true, .res = -EINTR};
            break;
        case 2:
            doctored[0] = (struct doctored){.on = true, .res = -EAGAIN};
            break;
        default: /* nothing wrong, but the last read comes short */
            doctored[3] = (struct doctored){.on = true, .halve = true};
            break;
        }
        if (round < 3)
            for (int i = 1; i < 4; i++)
                doctored[i] = (struct doctored){.on = true, .res = -ECANCELED};
        fx->ops->submit(fx->io, ops, 5);
        for (int i = 0; i < 5; i++)
            assert_int_equal(ops[i].sys_errno, 0);
        assert_memory_equal(got, "1122222222", 10);
    }
}

static void a_failed_completion_cancels_its_chain(void **state)
{
    struct fixture *fx = fixture_of(state);
    char text[] = "text";
    struct iovec iov = {text, 4};
    struct adb_io_op ops[4];

    ops[0] = op_of(fx, ADB_IO_WRITE, &iov, 0, false);
    ops[1] = op_of(fx, ADB_IO_SYNC, NULL, 0, true);
    ops[2] = op_of(fx, ADB_IO_WRITE, &iov, 8, true);
    ops[3] = op_of(fx, ADB_IO_WRITE, &iov, 4, false);
    doctored[1] = (struct doctored){.on = true, .res = -EIO};
    doctored[2] = (struct doctored){.on = true, .res = -ECANCELED};
    set(&syncs_seen, 0);
    fx->ops->submit(fx->io, ops, 4);
    assert_int_equal(ops[0].sys_errno, 0);
    assert_int_equal(ops[1].sys_errno, EIO);
    assert_int_equal(ops[2].sys_errno, ECANCELED);
    assert_int_equal(ops[3].sys_errno, 0);
    assert_int_equal(get(&syncs_seen), 0);
}

static void a_ring_that_fails_is_replaced_and_its_work_done(void **state)
{
    static const enum ring_mood moods[] = {RING_REFUSES, RING_TAKES_HALF};
    struct fixture *fx = fixture_of(state);

    for (int i = 0; i < 2; i++) {
        unsigned made = rings_made;

        mood = moods[i];
        stress(fx, 3, 0);
        assert_true(rings_made > made + 1); /* anew for each batch */
        mood = RING_HONEST;
        stress(fx, 1, 0);
        made = rings_made;
        ring_calls = 0;
        stress(fx, 2, 0);
        assert_int_equal(rings_made, made);
        assert_true(ring_calls > 0);
    }
    mood = RING_INTERRUPTS;
    rings_made = 0;
    stress(fx, 5, 0);
    assert_int_equal(rings_made, 0);
}

/* ---- No io_uring at all ---------------------------------------------------------- */

/* From now on io_uring_setup() answers `error` in this process. */
static bool forbid_io_uring(int error)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_uring_setup, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | ((unsigned)error & 0xffff)),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof code[0], code};

    return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
           prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program, 0, 0) == 0;
}

/* In a child: 0 = as it should be, 100 = filters are not to be had here. */
static int check_refusal(int error, const char *words)
{
    struct armdb_error err = {0};
    struct adb_io *io = NULL;

    if (!forbid_io_uring(error))
        return 100;
    if (adb_io_uring_create(&io, &err) != ARMDB_CANTOPEN || io != NULL)
        return 1;
    if (err.rc != ARMDB_CANTOPEN || strstr(err.text, "io_uring cannot be used") == NULL)
        return 2;
    if (strstr(err.text, words) == NULL)
        return 3;
    if (adb_io_uring_create(&io, NULL) != ARMDB_CANTOPEN || io != NULL)
        return 4;
    if (adb_mem_used(ADB_MEM_IO) != 0)
        return 5;
    if (adb_io_plain_create(&io, &err) != ARMDB_OK)
        return 6;
    io->ops->destroy(io);
    return 0;
}

static void a_refused_ring_is_a_clean_answer(void **state)
{
    static const struct {
        int error;
        const char *words;
    } cases[] = {
        {EPERM, "seccomp"},
        {ENOSYS, "the kernel has none"},
        {ENOMEM, "locked memory"},
        {EMFILE, "open files"},
    };

    (void)state;
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        pid_t pid = fork();
        int status = 0;

        assert_true(pid >= 0);
        if (pid == 0)
            _exit(check_refusal(cases[i].error, cases[i].words));
        assert_int_equal(waitpid(pid, &status, 0), pid);
        assert_true(WIFEXITED(status));
        if (WEXITSTATUS(status) == 100)
            skip();
        assert_int_equal(WEXITSTATUS(status), 0);
    }
}

/* The engine is there, but no further ring can be had: threads share what is. */
static void rings_refused_later_are_done_without(void **state)
{
    struct fixture *fx = fixture_of(state);
    pid_t pid = fork();
    int status = 0;

    assert_true(pid >= 0);
    if (pid == 0) {
        char text[] = "text";
        char got[4] = {0};
        struct iovec iov[2] = {{text, 4}, {got, 4}};
        struct adb_io_op ops[3];
        struct adb_io *io = NULL;

        if (adb_io_uring_create(&io, NULL) != ARMDB_OK)
            _exit(0);
        if (!forbid_io_uring(EPERM))
            _exit(0);
        mood = RING_REFUSES; /* loses the only ring */
        for (int round = 0; round < 3; round++) {
            memset(got, 0, sizeof got);
            ops[0] = op_of(fx, ADB_IO_WRITE, &iov[0], 0, false);
            ops[1] = op_of(fx, ADB_IO_READ, &iov[1], 0, true);
            ops[2] = op_of(fx, ADB_IO_SYNC, NULL, 0, false);
            io->ops->submit(io, ops, 3);
            for (int i = 0; i < 3; i++)
                if (ops[i].sys_errno != 0)
                    _exit(1);
            if (memcmp(got, "text", 4) != 0)
                _exit(2);
        }
        io->ops->destroy(io);
        _exit(0);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_true(WIFEXITED(status));
    assert_int_equal(WEXITSTATUS(status), 0);
}

#define ON(engine, function)                                               \
    {                                                                      \
#engine ": " #function, function, set_up_##engine, tear_down, NULL \
    }

int main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_refused_ring_is_a_clean_answer),
        ON(plain, interrupted_and_short_calls_still_move_all_bytes),
        ON(uring, interrupted_and_short_calls_still_move_all_bytes),
        ON(plain, an_interrupted_sync_is_asked_again),
        ON(plain, a_direct_file_goes_on_at_a_block),
        ON(plain, independent_chains_run_at_the_same_time),
        ON(plain, room_that_was_not_got_whole_is_given_back),
        ON(plain, a_replacement_that_fails_leaves_the_old_file),
        ON(plain, a_lock_file_removed_meanwhile_is_made_anew),
        ON(plain, a_new_folder_that_may_not_last_is_removed),
        ON(plain, reserving_survives_short_and_interrupted_writes),
        ON(plain, a_failed_sync_is_reported_and_not_asked_again),
        ON(uring, a_failed_sync_is_reported_and_not_asked_again),
        ON(plain, a_storm_of_signals_changes_nothing),
        ON(uring, a_storm_of_signals_changes_nothing),
        ON(uring, short_and_cancelled_completions_are_finished_in_order),
        ON(uring, a_failed_completion_cancels_its_chain),
        ON(uring, a_ring_that_fails_is_replaced_and_its_work_done),
        ON(uring, rings_refused_later_are_done_without),
    };
    const char *given = getenv("SEED");

    seed = given != NULL ? strtoull(given, NULL, 0)
                         : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    seed |= 1;
    (void)printf("SEED=%llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
