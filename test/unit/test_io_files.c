/* test_io_files.c - what only files of the operating system have: direct I/O,
 * links, modes, locks between processes, limits, fork(). On both engines for them. */
#define _GNU_SOURCE
#include "test/unit/io_fixture.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static void wait_for_child(pid_t pid)
{
    int status = 0;

    assert_true(pid > 0);
    while (waitpid(pid, &status, 0) < 0)
        assert_int_equal(errno, EINTR);
    assert_true(WIFEXITED(status));
    if (WEXITSTATUS(status) != 0)
        fail_msg("the child failed its check %d", WEXITSTATUS(status));
}

/* In a child of fork(): ends it when a check does not hold. */
static void child_check(bool holds, int number)
{
    if (!holds)
        _exit(number);
}

/* The file system tells blocks that were reserved from such that were written. */
static void written_room_is_written(void **state)
{
    struct fixture *fx = fixture_of(state);
    enum { SPAN = 3 * 1024 * 1024 };
    off_t first_hole[2];

    for (int written = 0; written < 2; written++) {
        const char *name = written ? "written" : "reserved";
        struct adb_file *file = new_file(fx, name);
        char path[400];
        int fd;

        assert_ok(fx, fx->ops->file_reserve(file, SPAN, written, &fx->err));
        fx->ops->file_close(file);
        (void)snprintf(path, sizeof path, "%s/%s", fx->path, name);
        fd = open(path, O_RDONLY);
        assert_true(fd >= 0);
        first_hole[written] = lseek(fd, 0, SEEK_HOLE);
        (void)close(fd);
    }
    if (first_hole[0] != 0)
        skip(); /* this one does not tell */
    assert_int_equal(first_hole[1], SPAN);
}

static void a_direct_file_moves_whole_blocks(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file =
        open_file(fx, "direct", ADB_OPEN_WRITE | ADB_OPEN_CREATE | ADB_OPEN_DIRECT);
    enum { COUNT = 100 };
    unsigned char *data = NULL;
    unsigned char *got = NULL;
    struct adb_io_op ops[COUNT + 1];
    struct iovec iov[COUNT];

    assert_int_equal(posix_memalign((void **)&data, PAGE, COUNT * PAGE), 0);
    assert_int_equal(posix_memalign((void **)&got, PAGE, COUNT * PAGE), 0);
    if (!fx->ops->file_is_direct(file))
        print_message("no direct files in %s: buffered instead\n", fx->path);
    fill(data, COUNT * PAGE, 5);
    assert_ok(fx, fx->ops->file_reserve(file, 50 * PAGE, true, &fx->err));
    assert_ok(fx, fx->ops->file_reserve(file, 70 * PAGE, false, &fx->err));
    assert_ok(fx, adb_file_read(file, "direct", got, 70 * PAGE, 0, &fx->err));
    assert_true(all_zero(got, 70 * PAGE));
    for (int i = 0; i < COUNT; i++) {
        iov[i] = (struct iovec){data + i * PAGE, PAGE};
        ops[i] = op_of(file, ADB_IO_WRITE, &iov[i], (uint64_t)i * PAGE, false);
    }
    ops[COUNT] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
    fx->ops->submit(fx->io, ops, COUNT + 1);
    for (int i = 0; i <= COUNT; i++)
        assert_int_equal(ops[i].sys_errno, 0);
    for (int i = 0; i < COUNT; i++) {
        iov[i].iov_base = got + i * PAGE;
        ops[i] = op_of(file, ADB_IO_READ, &iov[i], (uint64_t)i * PAGE, false);
    }
    fx->ops->submit(fx->io, ops, COUNT);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(ops[i].sys_errno, 0);
    assert_memory_equal(got, data, COUNT * PAGE);
    /* A file that ends inside a block: its bytes cannot be had as a whole block. */
    assert_ok(fx, fx->ops->file_truncate(file, 3 * PAGE + 100, &fx->err));
    assert_int_equal(adb_file_read(file, "direct", got, 2 * PAGE, 2 * PAGE, &fx->err),
                     ARMDB_CORRUPT);
    assert_ok(fx, adb_file_read(file, "direct", got, 3 * PAGE, 0, &fx->err));
    fx->ops->file_close(file);
    free(data);
    free(got);
}

static void expect_dir_open(struct fixture *fx, const char *path, bool create,
                            enum armdb_rc expected, const char *words)
{
    struct adb_dir *dir = NULL;
    enum armdb_rc rc = fx->ops->dir_open(fx->io, path, create, &dir, &fx->err);

    if (rc != expected)
        fail_msg("%s: %s instead of %s (%s)", path, adb_rc_name(rc),
                 adb_rc_name(expected), rc == ARMDB_OK ? "" : fx->err.text);
    if (rc == ARMDB_OK) {
        fx->ops->dir_close(dir);
        return;
    }
    assert_null(dir);
    if (strstr(fx->err.text, words) == NULL)
        fail_msg("no \"%s\" in \"%s\"", words, fx->err.text);
}

static void folders_are_opened_with_care(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[400];
    char deeper[500];
    char link_slash[450];
    struct stat st;

    fx->ops->file_close(new_file(fx, "file"));
    (void)snprintf(path, sizeof path, "%s/file", fx->path);
    expect_dir_open(fx, path, false, ARMDB_NOTADB, path);
    expect_dir_open(fx, path, true, ARMDB_NOTADB, path);
    (void)snprintf(deeper, sizeof deeper, "%s/below", path);
    expect_dir_open(fx, deeper, true, ARMDB_CANTOPEN, deeper);
    expect_dir_open(fx, "relative/path", true, ARMDB_CANTOPEN, "relative/path");
    expect_dir_open(fx, "", true, ARMDB_CANTOPEN, "absolute");

    (void)snprintf(path, sizeof path, "%s/new", fx->path);
    expect_dir_open(fx, path, false, ARMDB_NOT_FOUND, path);
    (void)snprintf(deeper, sizeof deeper, "%s/below", path);
    expect_dir_open(fx, deeper, true, ARMDB_CANTOPEN, "/new does not exist");
    expect_dir_open(fx, path, true, ARMDB_OK, "");
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0700);
    expect_dir_open(fx, path, true, ARMDB_OK, "");
    (void)snprintf(deeper, sizeof deeper, "%s//", path);
    expect_dir_open(fx, deeper, false, ARMDB_OK, "");

    (void)snprintf(deeper, sizeof deeper, "%s/link", fx->path);
    assert_int_equal(symlink(path, deeper), 0);
    expect_dir_open(fx, deeper, false, ARMDB_CANTOPEN, "symbolic link");
    expect_dir_open(fx, deeper, true, ARMDB_CANTOPEN, "symbolic link");
    (void)snprintf(link_slash, sizeof link_slash, "%.400s/", deeper);
    expect_dir_open(fx, link_slash, true, ARMDB_CANTOPEN, "symbolic link");
    (void)snprintf(link_slash, sizeof link_slash, "%.400s/./", deeper);
    expect_dir_open(fx, link_slash, true, ARMDB_CANTOPEN, "symbolic link");
    /* On the way to the last component links are followed. */
    (void)snprintf(link_slash, sizeof link_slash, "%.400s/sub", deeper);
    expect_dir_open(fx, link_slash, true, ARMDB_OK, "");
    assert_int_equal(rmdir(link_slash), 0);
    (void)snprintf(deeper, sizeof deeper, "%s/dangling", fx->path);
    assert_int_equal(symlink("/nonexistent", deeper), 0);
    expect_dir_open(fx, deeper, true, ARMDB_CANTOPEN, "symbolic link");
}

static void links_and_pipes_are_not_opened(void **state)
{
    struct fixture *fx = fixture_of(state);
    static const char *const names[] = {"link", "dangling", "pipe", "folder"};
    struct adb_file *file = NULL;
    uint64_t holder;
    char path[400];
    char target[400];

    fx->ops->file_close(new_file(fx, "file"));
    (void)snprintf(target, sizeof target, "%s/file", fx->path);
    (void)snprintf(path, sizeof path, "%s/link", fx->path);
    assert_int_equal(symlink(target, path), 0);
    (void)snprintf(path, sizeof path, "%s/dangling", fx->path);
    assert_int_equal(symlink("nowhere", path), 0);
    (void)snprintf(path, sizeof path, "%s/pipe", fx->path);
    assert_int_equal(mkfifo(path, 0600), 0);
    (void)snprintf(path, sizeof path, "%s/folder", fx->path);
    assert_int_equal(mkdir(path, 0700), 0);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(fx->ops->file_open(fx->dir, names[i], 0, &file, &fx->err),
                         ARMDB_CANTOPEN);
        assert_non_null(strstr(fx->err.text, names[i]));
        assert_int_equal(
            fx->ops->file_open(fx->dir, names[i], ADB_OPEN_WRITE, &file, &fx->err),
            ARMDB_CANTOPEN);
        assert_int_equal(fx->ops->file_open(fx->dir, names[i],
                                            ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file,
                                            &fx->err),
                         ARMDB_EXISTS);
        assert_int_equal(
            fx->ops->lock_acquire(fx->dir, names[i], &file, &holder, &fx->err),
            ARMDB_CANTOPEN);
        assert_null(file);
    }
    (void)snprintf(path, sizeof path, "%s/nowhere", fx->path);
    assert_int_equal(access(path, F_OK), -1);
}

static void new_files_are_private(void **state)
{
    struct fixture *fx = fixture_of(state);
    char path[400];
    struct stat st;

    fx->ops->file_close(new_file(fx, "private"));
    (void)snprintf(path, sizeof path, "%s/private", fx->path);
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_mode & 0777, 0600);
}

static void a_lock_names_the_process_that_has_it_and_dies_with_it(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *lock = NULL;
    uint64_t holder = 0;
    int ready[2];
    int status;
    char byte;
    pid_t pid;

    assert_int_equal(pipe(ready), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        if (fx->ops->lock_acquire(fx->dir, "lock", &lock, &holder, NULL) != ARMDB_OK)
            _exit(1);
        if (write(ready[1], "r", 1) != 1)
            _exit(2);
        for (;;)
            (void)pause();
    }
    assert_int_equal(read(ready[0], &byte, 1), 1);
    assert_int_equal(fx->ops->lock_acquire(fx->dir, "lock", &lock, &holder, &fx->err),
                     ARMDB_LOCKED);
    assert_int_equal(holder, pid);
    assert_null(lock);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &lock, &holder, &fx->err));
    fx->ops->lock_release(lock);
    (void)close(ready[0]);
    (void)close(ready[1]);
}

static void nonsense_in_a_lock_file_is_no_pid(void **state)
{
    struct fixture *fx = fixture_of(state);
    static const char *const texts[] = {"", "12", "abc\n", "-5\n",
                                        "99999999999999999999999999\n"};
    struct adb_file *lock = NULL;
    struct adb_file *second = NULL;
    uint64_t holder = 0;

    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &lock, &holder, &fx->err));
    for (int i = 0; i < 5; i++) {
        struct adb_file *file = open_file(fx, "lock", ADB_OPEN_WRITE);

        assert_ok(fx, fx->ops->file_truncate(file, 0, &fx->err));
        assert_ok(fx,
                  adb_file_write(file, "lock", texts[i], strlen(texts[i]), 0, &fx->err));
        fx->ops->file_close(file); /* closing another descriptor keeps the lock */
        assert_int_equal(
            fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err),
            ARMDB_LOCKED);
        assert_int_equal(holder, 0);
    }
    fx->ops->lock_release(lock);
}

/* In a child without privileges, where that is possible. */
static void what_may_not_be_written_says_read_only(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = NULL;
    struct adb_dir *dir = NULL;
    struct adb_dir *closed = NULL;
    uint64_t holder;
    char path[400];
    pid_t pid;

    (void)snprintf(path, sizeof path, "%s/sealed", fx->path);
    assert_int_equal(mkdir(path, 0755), 0);
    assert_ok(fx, fx->ops->dir_open(fx->io, path, false, &dir, &fx->err));
    fx->ops->file_close(new_file(fx, "lock"));
    assert_int_equal(chmod(fx->path, 0755), 0);
    assert_int_equal(chmod(path, 0555), 0);
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        char below[450];

        if (geteuid() == 0 && (setgid(65534) != 0 || setuid(65534) != 0))
            _exit(0);
        child_check(!fx->ops->dir_is_writable(dir), 1);
        child_check(fx->ops->lock_acquire(dir, "lock", &file, &holder, &fx->err) ==
                        ARMDB_READONLY,
                    2);
        child_check(strstr(fx->err.text, "sealed/lock") != NULL, 3);
        child_check(fx->ops->file_open(dir, "x", ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file,
                                       &fx->err) == ARMDB_CANTOPEN,
                    4);
        (void)snprintf(below, sizeof below, "%s/below", path);
        child_check(fx->ops->dir_open(fx->io, below, true, &closed, &fx->err) ==
                        ARMDB_CANTOPEN,
                    5);
        child_check(strstr(fx->err.text, below) != NULL, 6);
        if (chmod(path, 0) == 0) {
            child_check(fx->ops->dir_open(fx->io, path, false, &closed, &fx->err) ==
                            ARMDB_CANTOPEN,
                        7);
            child_check(strstr(fx->err.text, path) != NULL, 8);
        }
        _exit(0);
    }
    wait_for_child(pid);
    assert_int_equal(chmod(path, 0700), 0);
    fx->ops->dir_close(dir);
}

/* A lock file that may be read but not written: shared between readers, and kept
 * out by a writer. */
static void readers_of_a_sealed_folder_respect_the_writer(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *writer = NULL;
    struct adb_file *reader = NULL;
    struct adb_file *second = NULL;
    uint64_t holder;
    char path[400];

    if (geteuid() != 0)
        skip();
    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &writer, &holder, &fx->err));
    (void)snprintf(path, sizeof path, "%s/lock", fx->path);
    assert_int_equal(chmod(path, 0644), 0);
    assert_int_equal(chmod(fx->path, 0755), 0);
    for (int written = 0; written < 2; written++) {
        pid_t pid = fork();

        assert_true(pid >= 0);
        if (pid == 0) {
            enum armdb_rc rc;

            if (written == 0)
                fx->ops->forked_file(writer);
            child_check(setgid(65534) == 0 && setuid(65534) == 0, 1);
            rc = fx->ops->lock_acquire(fx->dir, "lock", &reader, &holder, &fx->err);
            if (written == 0) {
                child_check(rc == ARMDB_LOCKED, 2);
                child_check(holder == (uint64_t)getppid(), 3);
                _exit(0);
            }
            child_check(rc == ARMDB_OK, 4);
            child_check(fx->ops->lock_acquire(fx->dir, "lock", &second, &holder,
                                              &fx->err) == ARMDB_OK,
                        5);
            _exit(0);
        }
        wait_for_child(pid);
        if (written == 0)
            fx->ops->lock_release(writer);
    }
}

static bool see_name(void *arg, const char *name)
{
    (void)arg;
    return name != NULL;
}

static void no_descriptor_left_is_a_clean_error(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "file");
    struct adb_file *other = NULL;
    struct adb_dir *dir = NULL;
    struct adb_io *io = NULL;
    uint64_t holder;
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit none = {0, 0};

        child_check(setrlimit(RLIMIT_NOFILE, &none) == 0, 1);
        child_check(fx->ops->file_open(fx->dir, "file", 0, &other, &fx->err) ==
                        ARMDB_CANTOPEN,
                    2);
        child_check(other == NULL && fx->err.sys_errno == EMFILE, 3);
        child_check(fx->ops->dir_open(fx->io, fx->path, true, &dir, &fx->err) ==
                        ARMDB_CANTOPEN,
                    4);
        child_check(
            fx->ops->dir_list(fx->dir, see_name, NULL, &fx->err) == ARMDB_CANTOPEN, 5);
        child_check(fx->ops->lock_acquire(fx->dir, "lock", &other, &holder, &fx->err) ==
                        ARMDB_CANTOPEN,
                    6);
        child_check(adb_file_replace(fx->dir, "x", "x", 1, &fx->err) == ARMDB_CANTOPEN,
                    7);
        child_check(adb_io_uring_create(&io, &fx->err) == ARMDB_CANTOPEN && io == NULL,
                    8);
        /* What is open goes on. */
        child_check(adb_file_write(file, "file", "abc", 3, 0, &fx->err) == ARMDB_OK, 9);
        child_check(adb_file_sync(file, "file", &fx->err) == ARMDB_OK, 10);
        _exit(0);
    }
    wait_for_child(pid);
    fx->ops->file_close(file);
}

/* Every answer is a failure, none a "no" that a caller goes on with. */
static void a_folder_that_is_gone_takes_no_files(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "file");
    struct adb_file *other = NULL;

    assert_ok(fx, fx->ops->dir_unlink(fx->dir, "file", &fx->err));
    assert_int_equal(rmdir(fx->path), 0);
    assert_int_equal(fx->ops->file_open(fx->dir, "new", ADB_OPEN_WRITE | ADB_OPEN_CREATE,
                                        &other, &fx->err),
                     ARMDB_CANTOPEN);
    assert_null(other);
    assert_int_equal(fx->err.sys_errno, ENOENT);
    assert_non_null(strstr(fx->err.text, "new"));
    assert_int_equal(fx->ops->file_open(fx->dir, "file", 0, &other, &fx->err),
                     ARMDB_NOT_FOUND);
    assert_int_equal(adb_file_replace(fx->dir, "x", "x", 1, &fx->err), ARMDB_CANTOPEN);
    /* What is open goes on. */
    assert_ok(fx, adb_file_write(file, "file", "abc", 3, 0, &fx->err));
    assert_ok(fx, adb_file_sync(file, "file", &fx->err));
    fx->ops->file_close(file);
    assert_int_equal(mkdir(fx->path, 0700), 0); /* for the end of the test */
}

/* The child has no handler for SIGXFSZ: the signal would end it. */
static void the_size_limit_is_full_and_raises_no_signal(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "file");
    pid_t pid = fork();

    assert_true(pid >= 0);
    if (pid == 0) {
        struct rlimit limit = {10000, 10000};
        char text[] = "abcdef";
        struct iovec iov = {text, 6};
        struct adb_io_op ops[4];
        struct adb_io *io = NULL;
        struct adb_dir *dir = NULL;
        uint64_t size = 0;

        /* An engine of its own: threads and rings are not inherited. */
        child_check(fx->create(&io, NULL) == ARMDB_OK, 1);
        child_check(io->ops->dir_open(io, fx->path, false, &dir, NULL) == ARMDB_OK, 2);
        child_check(
            io->ops->file_open(dir, "file", ADB_OPEN_WRITE, &file, NULL) == ARMDB_OK, 3);
        child_check(setrlimit(RLIMIT_FSIZE, &limit) == 0, 4);
        child_check(adb_file_write(file, "f", text, 6, 9994, NULL) == ARMDB_OK, 5);
        child_check(adb_file_write(file, "f", text, 6, 9995, NULL) == ARMDB_FULL, 6);
        child_check(adb_file_write(file, "f", text, 6, 20000, NULL) == ARMDB_FULL, 7);
        child_check(io->ops->file_truncate(file, 10001, NULL) == ARMDB_FULL, 8);
        child_check(io->ops->file_reserve(file, 10001, true, NULL) == ARMDB_FULL, 9);
        for (uint64_t offset = 9999; offset < 30000; offset += 10000) {
            ops[0] = op_of(file, ADB_IO_WRITE, &iov, offset, false);
            ops[1] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
            ops[2] = op_of(file, ADB_IO_WRITE, &iov, 100, false);
            ops[3] = op_of(file, ADB_IO_SYNC, NULL, 0, true);
            io->ops->submit(io, ops, 4);
            child_check(ops[0].sys_errno == EFBIG && ops[1].sys_errno == ECANCELED, 10);
            child_check(ops[2].sys_errno == 0 && ops[3].sys_errno == 0, 11);
        }
        child_check(io->ops->file_size(file, &size, NULL) == ARMDB_OK && size == 10000,
                    12);
        child_check(io->ops->file_truncate(file, 10, NULL) == ARMDB_OK, 13);
        _exit(0);
    }
    wait_for_child(pid);
    fx->ops->file_close(file);
}

static int descriptors_at_start;

static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < 1000; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void a_forked_child_that_closes_disturbs_nothing(void **state)
{
    struct fixture *fx = fixture_of(state);
    struct adb_file *file = new_file(fx, "file");
    struct adb_file *lock = NULL;
    struct adb_file *second = NULL;
    uint64_t holder;
    pid_t pid;

    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &lock, &holder, &fx->err));
    for (int round = 0; round < 2; round++) {
        struct worker worker = {fx, file, 0, 0};

        work_in_batches(&worker); /* the engine is at work before and after */
        assert_int_equal(worker.failure, 0);
        pid = fork();
        assert_true(pid >= 0);
        if (pid == 0) {
            fx->ops->forked_file(file);
            fx->ops->forked_file(lock);
            fx->ops->forked_dir(fx->dir);
            fx->ops->forked(fx->io);
            child_check(count_descriptors() == descriptors_at_start, 1);
            _exit(0);
        }
        wait_for_child(pid);
        assert_int_equal(
            fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err),
            ARMDB_LOCKED);
        assert_int_equal(holder, getpid());
    }
    /* Releasing unlocks although a child still has the open file. */
    pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        for (;;)
            (void)pause();
    }
    fx->ops->lock_release(lock);
    assert_ok(fx, fx->ops->lock_acquire(fx->dir, "lock", &second, &holder, &fx->err));
    fx->ops->lock_release(second);
    assert_int_equal(kill(pid, SIGKILL), 0);
    assert_int_equal(waitpid(pid, NULL, 0), pid);
    fx->ops->file_close(file);
}

/* ---- The table -------------------------------------------------------------- */

static const struct suite_test suite[] = {
    SUITE_TEST(written_room_is_written),
    SUITE_TEST(a_direct_file_moves_whole_blocks),
    SUITE_TEST(folders_are_opened_with_care),
    SUITE_TEST(links_and_pipes_are_not_opened),
    SUITE_TEST(new_files_are_private),
    SUITE_TEST(a_lock_names_the_process_that_has_it_and_dies_with_it),
    SUITE_TEST(nonsense_in_a_lock_file_is_no_pid),
    SUITE_TEST(what_may_not_be_written_says_read_only),
    SUITE_TEST(readers_of_a_sealed_folder_respect_the_writer),
    SUITE_TEST(no_descriptor_left_is_a_clean_error),
    SUITE_TEST(a_folder_that_is_gone_takes_no_files),
    SUITE_TEST(the_size_limit_is_full_and_raises_no_signal),
    SUITE_TEST(a_forked_child_that_closes_disturbs_nothing),
};

int main(void)
{
    descriptors_at_start = count_descriptors();
    return run_suite(suite, sizeof suite / sizeof suite[0], PLAIN, URING);
}
