/* system_calls.c - each call of the operating system fails, is interrupted or does less.
 *
 *   system_calls [--seed=N] [--kind=NAME] [--step=N]
 *
 * The simulated disk of test/sim/ stands in the place of the I/O engines; here they are
 * under test themselves, below the whole engine, on real files. This program defines the
 * system calls' functions, and two of liburing, in front of the libraries', so that the
 * n-th call of a kind is interrupted, moves a part of what was asked, or fails, for every
 * n (every third in `make check`, the seed says from where) until a workload gets through
 * without meeting it: with ordinary calls and with io_uring, on a new store and on one
 * that has rows. A call that the kernel's ring carries out counts like any other; its
 * completion tells what a failure would tell.
 *
 *     interrupted, short     nothing is to be seen of it
 *     failed                 an error of the right kind with a text; what was
 * acknowledged is read, now and after reopening; what failed is not, unless the store was
 * wounded (then it is in doubt); a backup that was made holds what it must always no
 * memory, no descriptor is left */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

enum call {
    CALL_OPEN = 1 << 0,
    CALL_READ = 1 << 1,
    CALL_WRITE = 1 << 2,
    CALL_SYNC = 1 << 3,
    CALL_RESERVE = 1 << 4, /* and truncate */
    CALL_NAME = 1 << 5,    /* rename, unlink, link, mkdir */
    CALL_LOCK = 1 << 6
};
enum { ALL_CALLS = (1 << 7) - 1, RING_OPS_MAX = 1024, TX_COUNT = 11, COUNT_BY = 3 };
enum { FILLERS = 90, FILLER_BYTES = 3900 };

struct kind {
    const char *name;
    int error; /* 0: a short count */
    unsigned calls;
    bool sticky;
};
static const struct kind kinds[] = {
    {"interrupted", EINTR, ALL_CALLS & ~(unsigned)CALL_NAME, false},
    {"short", 0, CALL_READ | CALL_WRITE, false},
    {"short-all", 0, CALL_READ | CALL_WRITE, true},
    {"eio", EIO, ALL_CALLS, false},
    {"eio-all", EIO, ALL_CALLS, true},
    {"enospc", ENOSPC, CALL_OPEN | CALL_WRITE | CALL_SYNC | CALL_RESERVE | CALL_NAME,
     false},
    {"enospc-all", ENOSPC, CALL_OPEN | CALL_WRITE | CALL_SYNC | CALL_RESERVE | CALL_NAME,
     true},
    {"edquot", EDQUOT, CALL_OPEN | CALL_WRITE | CALL_RESERVE | CALL_NAME, false},
    {"emfile-all", EMFILE, CALL_OPEN, true},
};
enum { KINDS = sizeof kinds / sizeof kinds[0] };

/* ---- Calls that fail ----------------------------------------------------------------
 */

/* Threads of the engine make calls, too; which of them meets the failure means nothing,
 * so everything here is relaxed. */
static const struct kind *armed; /* set while no other thread runs */
static _Atomic int64_t calls_left;
static _Atomic uint64_t hits;

static bool meets(unsigned call)
{
    int64_t left;

    if (armed == NULL || (armed->calls & call) == 0)
        return false;
    left = atomic_fetch_sub_explicit(&calls_left, 1, memory_order_relaxed);
    if (left != 1 && (left > 1 || !armed->sticky))
        return false;
    (void)atomic_fetch_add_explicit(&hits, 1, memory_order_relaxed);
    return true;
}

/* True with errno set when the call fails. */
static bool fails(unsigned call)
{
    if (!meets(call))
        return false;
    errno = armed->error;
    return true;
}

static ssize_t move(unsigned call, long number, int fd, const struct iovec *iov,
                    int count, off_t offset)
{
    struct iovec part;

    if (!meets(call))
        return syscall(number, fd, iov, (long)count, (long)offset, 0L);
    if (armed->error != 0) {
        errno = armed->error;
        return -1;
    }
    part = *iov;
    part.iov_len = (part.iov_len + COUNT_BY - 1) / COUNT_BY;
    return syscall(number, fd, &part, 1L, (long)offset, 0L);
}

ssize_t preadv(int fd, const struct iovec *iov, int count, off_t offset)
{
    return move(CALL_READ, SYS_preadv, fd, iov, count, offset);
}

ssize_t pwritev(int fd, const struct iovec *iov, int count, off_t offset)
{
    return move(CALL_WRITE, SYS_pwritev, fd, iov, count, offset);
}

int openat(int dir, const char *name, int flags, ...)
{
    va_list more;
    int mode;

    va_start(more, flags);
    mode = (flags & O_CREAT) != 0 ? va_arg(more, int) : 0;
    va_end(more);
    return fails(CALL_OPEN) ? -1 : (int)syscall(SYS_openat, dir, name, flags, mode);
}

int fdatasync(int fd)
{
    return fails(CALL_SYNC) ? -1 : (int)syscall(SYS_fdatasync, fd);
}

int fsync(int fd)
{
    return fails(CALL_SYNC) ? -1 : (int)syscall(SYS_fsync, fd);
}

int fallocate(int fd, int mode, off_t offset, off_t len)
{
    return fails(CALL_RESERVE) ? -1 : (int)syscall(SYS_fallocate, fd, mode, offset, len);
}

int ftruncate(int fd, off_t length)
{
    return fails(CALL_RESERVE) ? -1 : (int)syscall(SYS_ftruncate, fd, length);
}

int renameat(int from_dir, const char *from, int to_dir, const char *to)
{
    return fails(CALL_NAME) ? -1
                            : (int)syscall(SYS_renameat2, from_dir, from, to_dir, to, 0);
}

int unlinkat(int dir, const char *name, int flags)
{
    return fails(CALL_NAME) ? -1 : (int)syscall(SYS_unlinkat, dir, name, flags);
}

int linkat(int from_dir, const char *from, int to_dir, const char *to, int flags)
{
    return fails(CALL_NAME) ? -1
                            : (int)syscall(SYS_linkat, from_dir, from, to_dir, to, flags);
}

int mkdir(const char *path, mode_t mode)
{
    return fails(CALL_NAME) ? -1 : (int)syscall(SYS_mkdirat, AT_FDCWD, path, mode);
}

int flock(int fd, int operation)
{
    return fails(CALL_LOCK) ? -1 : (int)syscall(SYS_flock, fd, operation);
}

/* What the ring was asked to do, by the number that its completion carries. */
static _Atomic unsigned char ring_ops[RING_OPS_MAX];

static void note_submissions(struct io_uring *ring)
{
    for (unsigned at = ring->sq.sqe_head; at != ring->sq.sqe_tail; at++) {
        const struct io_uring_sqe *sqe = &ring->sq.sqes[at & *ring->sq.kring_mask];

        if (sqe->user_data < RING_OPS_MAX)
            atomic_store_explicit(&ring_ops[sqe->user_data], sqe->opcode,
                                  memory_order_relaxed);
    }
}

static unsigned call_of(unsigned opcode)
{
    return opcode == IORING_OP_FSYNC                                 ? CALL_SYNC
           : opcode == IORING_OP_WRITEV || opcode == IORING_OP_WRITE ? CALL_WRITE
                                                                     : CALL_READ;
}

static void doctor_completions(struct io_uring *ring)
{
    struct io_uring_cqe *cqe;
    unsigned head;

    io_uring_for_each_cqe(ring, head, cqe)
    {
        unsigned char opcode;

        if (cqe->user_data >= RING_OPS_MAX || cqe->res < 0)
            continue;
        opcode = atomic_load_explicit(&ring_ops[cqe->user_data], memory_order_relaxed);
        if (opcode == IORING_OP_NOP || !meets(call_of(opcode)))
            continue;
        cqe->res =
            armed->error != 0 ? -armed->error : (cqe->res + COUNT_BY - 1) / COUNT_BY;
        /* Asked once: a completion that is not taken is looked at again. */
        atomic_store_explicit(&ring_ops[cqe->user_data], IORING_OP_NOP,
                              memory_order_relaxed);
    }
}

int io_uring_submit_and_wait(struct io_uring *ring, unsigned wait_nr)
{
    static int (*real)(struct io_uring *, unsigned);
    int res;

    if (real == NULL) {
        void *symbol = dlsym(RTLD_NEXT, "io_uring_submit_and_wait");

        memcpy(&real, &symbol, sizeof real);
    }
    if (armed != NULL)
        note_submissions(ring);
    res = real(ring, wait_nr);
    if (armed != NULL)
        doctor_completions(ring);
    return res;
}

/* ---- A workload ---------------------------------------------------------------------
 */

static uint64_t seed;
static char context[300];

static void fail(const char *what, const char *why)
{
    printf("not ok - %s: %s: %s\n", context, what, why);
    (void)fflush(stdout);
    _exit(1);
}

struct world {
    const struct kind *kind;
    enum armdb_io_engine engine;
    bool used; /* there is a store already */
    char folder[200];
    char path[220];
    char copy[220];
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
    struct armdb_error err;
    bool created;
    bool acknowledged[TX_COUNT];
    bool tried[TX_COUNT];
    int backup_of; /* transactions that were acknowledged before it; -1: none made */
    bool wounded;
};

/* Errors that this kind may turn into. */
static bool is_right(const struct kind *kind, enum armdb_rc rc)
{
    switch (kind->error) {
    case 0:
    case EINTR:
        return false;
    case ENOSPC:
    case EDQUOT:
        return rc == ARMDB_FULL || rc == ARMDB_WOUNDED;
    case EMFILE:
        return rc == ARMDB_CANTOPEN || rc == ARMDB_IO;
    default:
        return rc == ARMDB_IO || rc == ARMDB_CANTOPEN || rc == ARMDB_WOUNDED;
    }
}

/* True when it went well; else the error is looked at. */
static bool good(struct world *w, enum armdb_rc rc, const char *what)
{
    char text[400];

    if (rc >= 0)
        return true;
    (void)snprintf(text, sizeof text, "%s (%.300s)", adb_rc_name(rc), w->err.text);
    if (armed == NULL || !is_right(w->kind, rc) || w->err.text[0] == '\0')
        fail(what, text);
    if (rc == ARMDB_WOUNDED)
        w->wounded = true;
    return false;
}

/* The bytes of each transaction's row, made once. */
static struct {
    unsigned char *bytes;
    size_t len;
} values[TX_COUNT];

static void make_values(void)
{
    for (int tx = 0; tx < TX_COUNT; tx++) {
        uint64_t x = seed * 977 + (uint64_t)tx;

        values[tx].len = tx == 4 ? 1200000 : tx % 3 == 2 ? 9000 : 300;
        values[tx].bytes = malloc(values[tx].len);
        for (size_t i = 0; i < values[tx].len; i++) {
            x = x * UINT64_C(6364136223846793005) + 1442695040888963407;
            values[tx].bytes[i] = (unsigned char)(x >> 56);
        }
    }
}

static enum armdb_rc open_store(struct world *w, const char *path)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.shards = 2;
    options.cache_size = 1 << 20;
    options.segment_size = 1 << 20;
    options.io_engine = w->engine;
    return armdb_open(path, &options, &w->store, &w->err);
}

static void close_store(struct world *w)
{
    armdb_table_close(w->table);
    armdb_session_close(w->session);
    armdb_close(w->store);
    w->table = NULL;
    w->session = NULL;
    w->store = NULL;
}

/* A session and the table, which is made if need be. */
static bool begin(struct world *w)
{
    enum armdb_rc rc;

    if (!good(w, armdb_session_open(w->store, &w->session, &w->err), "session"))
        return false;
    rc = armdb_table_open(w->session, "t", NULL, &w->table, &w->err);
    if (rc == ARMDB_NOT_FOUND && !w->created) {
        rc = armdb_table_create(w->session, "t", "s", 1, &w->table, &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_commit(w->session, &w->err);
        w->created = rc == ARMDB_OK;
        if (!w->created)
            (void)!armdb_rollback(w->session, &w->err);
    }
    return good(w, rc, "table") && rc == ARMDB_OK;
}

static void write_tx(struct world *w, int tx)
{
    const unsigned char *bytes = values[tx].bytes;
    char key[16];
    enum armdb_rc rc;

    (void)snprintf(key, sizeof key, "t%02d", tx);
    w->tried[tx] = true;
    rc =
        armdb_put(w->session, w->table, key, strlen(key), bytes, values[tx].len, &w->err);
    if (rc == ARMDB_OK && tx == 6) {
        rc = armdb_savepoint(w->session, 1, &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_put(w->session, w->table, "no", 2, bytes, 200, &w->err);
        if (rc == ARMDB_OK)
            rc = armdb_savepoint_rollback(w->session, 1, &w->err);
    }
    if (rc == ARMDB_OK)
        rc = armdb_put(w->session, w->table, "last", 4, key, strlen(key), &w->err);
    if (rc == ARMDB_OK)
        rc = armdb_commit(w->session, &w->err);
    w->acknowledged[tx] = good(w, rc, "transaction");
    if (!w->acknowledged[tx])
        (void)good(w, armdb_rollback(w->session, &w->err), "rollback");
}

/* Rows that are there from the beginning in a used store. */
static void write_fillers(struct world *w)
{
    char key[16];

    for (int i = 0; i < FILLERS; i++) {
        (void)snprintf(key, sizeof key, "f%02d", i);
        (void)good(w,
                   armdb_put(w->session, w->table, key, strlen(key), values[4].bytes + i,
                             FILLER_BYTES, &w->err),
                   "put");
    }
    (void)good(w, armdb_commit(w->session, &w->err), "commit");
}

/* A scan, which reads ahead: many pages in one batch. */
static void read_fillers(struct world *w, const char *when)
{
    const struct armdb_range range = {.low = "f",
                                      .low_len = 1,
                                      .low_bound = ARMDB_BOUND_INCLUSIVE,
                                      .high = "g",
                                      .high_len = 1,
                                      .high_bound = ARMDB_BOUND_EXCLUSIVE};
    struct armdb_cursor *cursor = NULL;
    struct armdb_value value;
    enum armdb_rc rc;
    int row = 0;

    if (!good(w, armdb_cursor_open(w->session, w->table, &cursor, &w->err), "cursor"))
        return;
    rc = armdb_cursor_seek_range(cursor, &range, &w->err);
    while (rc == ARMDB_OK) {
        if (good(w, armdb_cursor_value(cursor, &value, &w->err), "reading") &&
            (value.len != FILLER_BYTES ||
             memcmp(value.data, values[4].bytes + row, FILLER_BYTES) != 0))
            fail(when, "a row that was there has another value");
        row++;
        rc = armdb_cursor_next(cursor, &w->err);
    }
    if (good(w, rc, "scan") && row != (w->used ? FILLERS : 0))
        fail(when, "a row that was there is gone");
    armdb_cursor_close(cursor);
}

/* Reads everything. What must be there is: everything acknowledged before `until`. */
static void check(struct world *w, int until, const char *when)
{
    char key[16];
    int rows = 0;

    for (int tx = 0; tx < TX_COUNT; tx++) {
        struct armdb_value value = {0};
        enum armdb_rc rc;

        (void)snprintf(key, sizeof key, "t%02d", tx);
        rc = armdb_get(w->session, w->table, key, strlen(key), &value, &w->err);
        if (rc < 0 && armed != NULL && good(w, rc, "reading"))
            continue;
        if (rc < 0 && armed != NULL)
            continue; /* a failed read of one row says nothing of the others */
        if (rc < 0)
            fail(when, w->err.text);
        if (rc == ARMDB_NOT_FOUND && w->acknowledged[tx] && tx < until)
            fail(when, "a row that was acknowledged is gone");
        if (rc == ARMDB_OK && !w->acknowledged[tx] && !(w->wounded && w->tried[tx]))
            fail(when, "a row is there whose transaction failed");
        if (rc == ARMDB_OK && tx >= until && w->acknowledged[tx])
            fail(when, "a row is there that was written later");
        if (rc == ARMDB_OK && (value.len != values[tx].len ||
                               memcmp(value.data, values[tx].bytes, value.len) != 0))
            fail(when, "a row has another value than was written");
        rows += rc == ARMDB_OK;
        armdb_value_release(&value);
    }
    if (armed == NULL &&
        armdb_count(w->table) != (uint64_t)rows + (rows > 0) + (w->used ? FILLERS : 0))
        fail(when, "the count is wrong");
    read_fillers(w, when);
}

static void run_workload(struct world *w)
{
    struct armdb_backup_info backup;
    struct armdb_compact_info compacted;

    read_fillers(w, "at the beginning");
    for (int tx = 0; tx < TX_COUNT - 2; tx++) {
        write_tx(w, tx);
        if (tx == 5)
            (void)good(w, armdb_flush(w->store, &w->err), "flush");
        if (tx == 6 &&
            good(w, armdb_backup(w->store, w->copy, NULL, &backup, &w->err), "backup"))
            w->backup_of = tx + 1;
        if (tx == 7)
            (void)good(w, armdb_compact(w->store, NULL, &compacted, &w->err), "compact");
    }
    check(w, TX_COUNT, "while calls fail");
}

/* Opens what is there, with nothing failing. */
static void reopen(struct world *w, const char *path, int until, const char *when)
{
    enum armdb_rc rc = open_store(w, path);

    if (rc != ARMDB_OK)
        fail(when, w->err.text);
    if (w->created || until < TX_COUNT) {
        if (!begin(w))
            fail(when, "the table is gone");
        check(w, until, when);
        if (until == TX_COUNT) {
            write_tx(w, TX_COUNT - 1);
            check(w, until, when);
        }
    }
    close_store(w);
}

static unsigned count_descriptors(void)
{
    DIR *dir = opendir("/proc/self/fd");
    unsigned count = 0;

    while (dir != NULL && readdir(dir) != NULL)
        count++;
    if (dir != NULL)
        (void)closedir(dir);
    return count;
}

static void empty_folder(const char *path)
{
    DIR *dir = opendir(path);
    const struct dirent *entry;

    if (dir == NULL)
        return;
    while ((entry = readdir(dir)) != NULL)
        (void)unlinkat(dirfd(dir), entry->d_name, 0);
    (void)closedir(dir);
    (void)rmdir(path);
}

/* False when the workload got through without meeting the failure. */
static bool try_once(struct world *w, int64_t n)
{
    unsigned before = count_descriptors();
    bool open;

    memset(w->acknowledged, 0, sizeof w->acknowledged);
    memset(w->tried, 0, sizeof w->tried);
    w->created = false;
    w->wounded = false;
    w->backup_of = -1;
    atomic_store_explicit(&hits, 0, memory_order_relaxed);
    atomic_store_explicit(&calls_left, n, memory_order_relaxed);
    if (w->used) {
        if (!good(w, open_store(w, w->path), "opening") || !begin(w))
            fail("a store to use", w->err.text);
        write_fillers(w);
        close_store(w);
    }
    armed = w->kind;
    open = good(w, open_store(w, w->path), "opening");
    if (open && begin(w))
        run_workload(w);
    armed = NULL;
    if (open) {
        w->wounded = atomic_load_explicit(&w->store->log.wounded, memory_order_acquire);
        if (w->table != NULL && w->created) {
            check(w, TX_COUNT, "afterwards");
            if (!w->wounded)
                write_tx(w, TX_COUNT - 2);
            check(w, TX_COUNT, "used on");
        }
        close_store(w);
    }
    reopen(w, w->path, TX_COUNT, "opened again");
    if (w->backup_of >= 0)
        reopen(w, w->copy, w->backup_of, "the backup");
    if (adb_mem_used_total() != 0)
        fail("closed", "memory is left");
    if (count_descriptors() != before)
        fail("closed", "a descriptor is left");
    empty_folder(w->path);
    empty_folder(w->copy);
    return atomic_load_explicit(&hits, memory_order_relaxed) > 0;
}

/* ---- All of them --------------------------------------------------------------------
 */

static const char *only_kind;
static int64_t step = 3;

/* With which engine, on a new store or a used one. */
enum { WAYS = 4 };
static const char *const ways[WAYS] = {"plain", "uring", "plain, used", "uring, used"};

struct shared {
    _Atomic uint64_t next;
    uint64_t failed[WAYS * KINDS];
};

static void run_kind(struct shared *shared, uint64_t number)
{
    const char *base = getenv("TMPDIR");
    struct world *w = calloc(1, sizeof *w);
    bool hit = true;

    w->kind = &kinds[number / WAYS];
    w->used = number % WAYS >= 2;
    w->engine = number % 2 == 0 ? ARMDB_IO_PLAIN : ARMDB_IO_URING;
    if (base == NULL || base[0] != '/')
        base = access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp";
    (void)snprintf(w->folder, sizeof w->folder, "%s/armdb-system-calls-XXXXXX", base);
    if (mkdtemp(w->folder) == NULL)
        fail(w->folder, strerror(errno));
    (void)snprintf(w->path, sizeof w->path, "%s/store", w->folder);
    (void)snprintf(w->copy, sizeof w->copy, "%s/copy", w->folder);
    for (int64_t n = 1 + (int64_t)(seed % (uint64_t)step); hit; n += step) {
        (void)snprintf(context, sizeof context, "seed %llu, --kind=%s, %s, number %lld",
                       (unsigned long long)seed, w->kind->name, ways[number % WAYS],
                       (long long)n);
        hit = try_once(w, n);
        shared->failed[number] += hit;
    }
    (void)rmdir(w->folder);
    free(w);
}

static void run_share(struct shared *shared)
{
    for (;;) {
        /* Relaxed: each number is given once, nothing else depends on it. */
        uint64_t number =
            atomic_fetch_add_explicit(&shared->next, 1, memory_order_relaxed);

        if (number >= (uint64_t)WAYS * KINDS)
            return;
        if (only_kind == NULL || strcmp(only_kind, kinds[number / WAYS].name) == 0)
            run_kind(shared, number);
    }
}

int main(int argc, char **argv)
{
    const char *wanted_jobs = getenv("JOBS");
    const char *wanted_seed = getenv("SEED");
    uint64_t jobs = wanted_jobs != NULL ? strtoull(wanted_jobs, NULL, 10) : 1;
    time_t began = time(NULL);
    struct shared *shared;
    bool all_good = true;
    int status;

    seed = wanted_seed != NULL ? strtoull(wanted_seed, NULL, 10) : (uint64_t)began;
    for (int i = 1; i < argc; i++)
        if (strncmp(argv[i], "--kind=", 7) == 0)
            only_kind = argv[i] + 7;
        else if (strncmp(argv[i], "--seed=", 7) == 0)
            seed = strtoull(argv[i] + 7, NULL, 10);
        else if (strncmp(argv[i], "--step=", 7) == 0)
            step = strtoll(argv[i] + 7, NULL, 10);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED || step < 1)
        return 1;
    jobs = jobs < 1 || jobs > 64 ? 1 : jobs;
    make_values();
    (void)fflush(stdout);
    for (uint64_t j = 0; j < jobs; j++) {
        if (fork() == 0) {
            run_share(shared);
            _exit(0);
        }
    }
    while (wait(&status) > 0)
        all_good = all_good && WIFEXITED(status) && WEXITSTATUS(status) == 0;
    for (size_t i = 0; all_good && i < (size_t)WAYS * KINDS; i++)
        printf("ok - %s, %s: %llu calls, seed %llu\n", kinds[i / WAYS].name,
               ways[i % WAYS], (unsigned long long)shared->failed[i],
               (unsigned long long)seed);
    printf("# %lld s\n", (long long)(time(NULL) - began));
    return all_good ? 0 : 1;
}
