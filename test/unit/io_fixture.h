/* io_fixture.h - a fresh folder, opened through one of the I/O engines, for each
 * test of a suite; and what the suites have in common. */
#ifndef ADB_TEST_UNIT_IO_FIXTURE_H
#define ADB_TEST_UNIT_IO_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
/* cmocka.h wants those four first. */
#include <cmocka.h>

#include <stdbool.h>
#include <sys/uio.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"

enum { PAGE = 4096, WORKERS = 4 };

/* Engines by number; those on disk come first. */
enum { PLAIN, URING, MEMORY, ENGINES };

struct fixture {
    const char *engine;
    enum armdb_rc (*create)(struct adb_io **out, struct armdb_error *err);
    bool on_disk;
    struct adb_io *io; /* NULL: cannot be had here, the test is skipped */
    const struct adb_io_ops *ops;
    struct adb_dir *dir;
    char path[256];
    struct armdb_error err;
    uint64_t mem_before;
};

struct suite_test {
    const char *name;
    CMUnitTestFunction run;
};

#define SUITE_TEST(function) \
    {                        \
#function, function  \
    }

/* Runs all tests on the engines first to last; what main() returns. */
int run_suite(const struct suite_test *tests, size_t count, int first, int last);

/* A number from the seed that was printed; SEED= replays. */
uint64_t next_random(void);

/* The fixture of this test, which is skipped where the engine cannot be had. */
struct fixture *fixture_of(void **state);

#define assert_ok(fx, call)                                                  \
    do {                                                                     \
        enum armdb_rc rc_ = (call);                                          \
        if (rc_ != ARMDB_OK)                                                 \
            fail_msg("%s: %s: %s", #call, adb_rc_name(rc_), (fx)->err.text); \
    } while (0)

struct adb_file *open_file(struct fixture *fx, const char *name, unsigned flags);
struct adb_file *new_file(struct fixture *fx, const char *name);
uint64_t size_of(struct fixture *fx, struct adb_file *file);
void fill(unsigned char *p, size_t n, unsigned tag);
bool all_zero(const unsigned char *p, size_t n);
struct adb_io_op op_of(struct adb_file *file, enum adb_io_kind kind,
                       const struct iovec *iov, uint64_t offset, bool linked);

/* A thread's share of a file: every WORKERS-th page. */
struct worker {
    struct fixture *fx;
    struct adb_file *file;
    int number;
    int failure; /* line of the first check that failed, or 0 */
};

/* Writes and reads the share in batches; `arg` is a struct worker. */
void work_in_batches(void *arg);

#endif
