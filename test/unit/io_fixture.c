/* io_fixture.c - see io_fixture.h. Memory that an engine has not given back when
 * its test ends fails the test. */
#define _GNU_SOURCE
#include "test/unit/io_fixture.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum { TESTS_MAX = 200, NAME_MAX_BYTES = 120 };

struct engine {
    const char *name;
    enum armdb_rc (*create)(struct adb_io **out, struct armdb_error *err);
    bool on_disk;
};

static struct engine engines[ENGINES] = {
    {"plain", adb_io_plain_create, true},
    {"uring", adb_io_uring_create, true},
    {"memory", adb_io_mem_create, false},
};

static uint64_t seed;

uint64_t next_random(void)
{
    seed ^= seed << 13;
    seed ^= seed >> 7;
    seed ^= seed << 17;
    return seed;
}

static bool remove_entry(void *arg, const char *name)
{
    const char *folder = arg;
    char path[600];

    (void)snprintf(path, sizeof path, "%s/%s", folder, name);
    if (unlink(path) != 0)
        (void)rmdir(path);
    return true;
}

static int set_up(void **state)
{
    const struct engine *engine = *state;
    struct fixture *fx = calloc(1, sizeof *fx);
    const char *tmp = getenv("TMPDIR");

    assert_non_null(fx);
    fx->engine = engine->name;
    fx->create = engine->create;
    fx->on_disk = engine->on_disk;
    *state = fx;
    fx->mem_before = adb_mem_used(ADB_MEM_IO);
    (void)snprintf(fx->path, sizeof fx->path, "%s/test_io.XXXXXX",
                   tmp != NULL && tmp[0] == '/' ? tmp : "/tmp");
    assert_non_null(mkdtemp(fx->path));
    if (engine->create(&fx->io, &fx->err) != ARMDB_OK) {
        print_message("no %s engine here: %s\n", engine->name, fx->err.text);
        assert_int_equal(fx->err.rc, ARMDB_CANTOPEN);
        fx->io = NULL;
        return 0;
    }
    fx->ops = fx->io->ops;
    assert_string_equal(fx->ops->name, engine->name);
    assert_int_equal(fx->ops->dir_open(fx->io, fx->path, false, &fx->dir, &fx->err),
                     ARMDB_OK);
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *fx = *state;

    if (fx->io != NULL) {
        if (fx->on_disk)
            assert_int_equal(fx->ops->dir_list(fx->dir, remove_entry, fx->path, &fx->err),
                             ARMDB_OK);
        fx->ops->dir_close(fx->dir);
        fx->ops->destroy(fx->io);
    }
    assert_int_equal(rmdir(fx->path), 0);
    assert_int_equal(adb_mem_used(ADB_MEM_IO), fx->mem_before);
    free(fx);
    return 0;
}

/* The fixture of this test, which is skipped where the engine cannot be had. */
struct fixture *fixture_of(void **state)
{
    struct fixture *fx = *state;

    if (fx->io == NULL)
        skip();
    return fx;
}

struct adb_file *open_file(struct fixture *fx, const char *name, unsigned flags)
{
    struct adb_file *file = NULL;

    assert_ok(fx, fx->ops->file_open(fx->dir, name, flags, &file, &fx->err));
    assert_non_null(file);
    return file;
}

struct adb_file *new_file(struct fixture *fx, const char *name)
{
    return open_file(fx, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE);
}

uint64_t size_of(struct fixture *fx, struct adb_file *file)
{
    uint64_t size = 0;

    assert_ok(fx, fx->ops->file_size(file, &size, &fx->err));
    return size;
}

void fill(unsigned char *p, size_t n, unsigned tag)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (unsigned char)(i * 7 + i / 251 + tag);
}

bool all_zero(const unsigned char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (p[i] != 0)
            return false;
    return true;
}

struct adb_io_op op_of(struct adb_file *file, enum adb_io_kind kind,
                       const struct iovec *iov, uint64_t offset, bool linked)
{
    struct adb_io_op op = {
        .file = file,
        .kind = kind,
        .after_previous = linked,
        .iov = iov,
        .iov_count = iov != NULL ? 1 : 0,
        .offset = offset,
        .sys_errno = 12345, /* must be overwritten */
    };

    return op;
}

#define worker_check(w, cond)             \
    do {                                  \
        if (!(cond) && (w)->failure == 0) \
            (w)->failure = __LINE__;      \
    } while (0)

/* Each thread has every fourth page of the file, writes and reads it in batches. */
void work_in_batches(void *arg)
{
    struct worker *w = arg;
    enum { BATCH = 24 };
    struct adb_io_op ops[BATCH + 1];
    struct iovec iov[BATCH];
    static unsigned char pages[WORKERS][BATCH][PAGE];
    unsigned char(*mine)[PAGE] = pages[w->number];

    for (int round = 0; round < 20; round++) {
        for (int phase = 0; phase < 2; phase++) {
            for (int i = 0; i < BATCH; i++) {
                uint64_t page = (uint64_t)(i * WORKERS + w->number);

                iov[i].iov_base = mine[i];
                iov[i].iov_len = PAGE;
                if (phase == 0)
                    memset(mine[i], round + i + w->number, PAGE);
                else
                    memset(mine[i], 0, PAGE);
                ops[i] = op_of(w->file, phase == 0 ? ADB_IO_WRITE : ADB_IO_READ, &iov[i],
                               page * PAGE, false);
            }
            ops[BATCH] = op_of(w->file, ADB_IO_SYNC, NULL, 0, phase == 0);
            w->fx->ops->submit(w->fx->io, ops, BATCH + (phase == 0 && round % 5 == 0));
            for (int i = 0; i < BATCH; i++)
                worker_check(w, ops[i].sys_errno == 0);
        }
        for (int i = 0; i < BATCH; i++)
            for (int k = 0; k < PAGE; k++)
                worker_check(w, mine[i][k] == (unsigned char)(round + i + w->number));
    }
}

int run_suite(const struct suite_test *tests, size_t count, int first, int last)
{
    static struct CMUnitTest all[TESTS_MAX];
    static char names[TESTS_MAX][NAME_MAX_BYTES];
    const char *given = getenv("SEED");
    size_t at = 0;

    seed = given != NULL ? strtoull(given, NULL, 0)
                         : (uint64_t)time(NULL) * 2654435761u + (uint64_t)getpid();
    seed |= 1;
    (void)printf("SEED=%llu\n", (unsigned long long)seed);
    (void)fflush(stdout);
    for (int e = first; e <= last; e++) {
        for (size_t i = 0; i < count && at < TESTS_MAX; i++, at++) {
            (void)snprintf(names[at], sizeof names[at], "%s: %s", engines[e].name,
                           tests[i].name);
            all[at].name = names[at];
            all[at].test_func = tests[i].run;
            all[at].setup_func = set_up;
            all[at].teardown_func = tear_down;
            all[at].initial_state = &engines[e];
        }
    }
    return _cmocka_run_group_tests("io", all, at, NULL, NULL);
}
