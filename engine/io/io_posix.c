/* io_posix.c - directories, files and locks by system calls.
 *
 * A directory is opened once by its path; everything in it is reached from its
 * descriptor by name, so that renaming the directory or changing the working
 * directory of the host does no harm. Every object keeps the path it was opened
 * by, for error texts alone.
 *
 * Opening is careful, because names may come from strangers: no symbolic link is
 * followed at the last step, only regular files are opened (with O_NONBLOCK first,
 * so that a pipe of that name cannot hold us up), descriptors close on exec.
 *
 * O_DIRECT is switched on after the file is open: an open() that combines it with
 * O_CREAT leaves a file behind when the file system refuses. Refused, or offered
 * only for larger blocks than 4096, means buffered; file_is_direct() tells.
 *
 * The lock is flock(), which belongs to the open file: it is given back when the
 * process dies, however that happens, and no other descriptor of the same file
 * that gets closed can lose it. The pid in the file is only for error texts, so
 * failing to write it is no failure. The lock file may be replaced between our
 * open and our lock; so it is looked up again afterwards, and if the name now
 * means another file, the lock is worth nothing and all begins anew. Where the
 * file cannot be opened for writing but for reading, a shared lock is taken:
 * readers of a read-only folder let each other in, and a writer keeps them out.
 *
 * Reserving asks fallocate() for the whole range, which also fills holes. With
 * `written` zeros are written over the new part and synced: afterwards a durable
 * append overwrites blocks that the file already has, and its sync touches no
 * metadata. Measured here (ext4, virtual disk; one 4 KiB page, write + fdatasync,
 * medians of 12 rounds with rotating order): growing file 142 us, reserved 115 us,
 * reserved and written 69 us; with O_DIRECT 108, 108 and 67 us. Writing the zeros
 * costs about 3 us a page (1 MiB 0.7 ms, 64 MiB 22 ms, buffered and direct alike
 * once the page cache has memory; several times that while it has to get it) and
 * saves 40 or more at its commit. Buffered, they are written in small calls: the kernel
 * keeps what one call writes as one large folio where it can, and ext4 then walks over
 * all blocks of it in every later write of a page (Linux 6.18: a commit with sync=off
 * cost 3.6 us in the kernel after calls of 1 MiB, 1.7 us after calls of 32 KiB). The sync
 * inside makes the price fall due here, where the caller can choose the moment, and not
 * at the next commit. It is a sync like any other: when it fails, the pages of the file
 * that were written before are in doubt as well, and ARMDB_IO from file_reserve() must
 * wound like a failed sync.
 *
 * Every call that makes a file longer asks for RLIMIT_FSIZE first; see io_rw.c. */
#define _GNU_SOURCE /* O_DIRECT, O_PATH, fallocate, statx, AT_EACCESS */
#include "engine/io/io_posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"

enum {
    ZERO_BYTES = 32 * 1024,
    ZERO_IOV_DIRECT = 32, /* 1 MiB a call */
    FALLOCATE_TRIES = 100,
    LOCK_TRIES = 100,
    PID_TEXT_MAX = 32
};

/* Never written; not const, so that it takes no room in the library's file. */
static _Alignas(POSIX_DIRECT_ALIGN) unsigned char zeros[ZERO_BYTES];

static struct posix_dir *posix_dir_of(struct adb_dir *dir)
{
    return (struct posix_dir *)dir;
}

static bool is_plain_name(const char *name)
{
    return name[0] != '\0' && strchr(name, '/') == NULL && strcmp(name, ".") != 0 &&
           strcmp(name, "..") != 0;
}

static int open_retrying(int dir_fd, const char *name, int flags)
{
    int fd;

    do
        fd = openat(dir_fd, name, flags | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK, 0600);
    while (fd < 0 && errno == EINTR);
    return fd;
}

static int sync_all(int fd)
{
    while (fsync(fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

uint64_t posix_size_limit(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_FSIZE, &limit) != 0 || limit.rlim_cur == RLIM_INFINITY)
        return UINT64_MAX;
    return limit.rlim_cur;
}

/* ---- Directories ----------------------------------------------------------- */

/* Length of path without trailing "/" and "/.": with them the kernel would follow
 * a symbolic link in the last component. */
static size_t trimmed_len(const char *path)
{
    size_t len = strlen(path);

    while ((len > 1 && path[len - 1] == '/') ||
           (len > 2 && path[len - 1] == '.' && path[len - 2] == '/'))
        len--;
    return len;
}

static enum armdb_rc fail_dir_open(int error, const char *path, struct armdb_error *err)
{
    struct stat st;

    if (error == ENOENT)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "there is no folder %s", path);
    if ((error == ENOTDIR || error == ELOOP) && lstat(path, &st) == 0) {
        if (S_ISLNK(st.st_mode))
            return ADB_FAIL(ARMDB_CANTOPEN, err,
                            "%s is a symbolic link; name the folder itself", path);
        if (!S_ISDIR(st.st_mode))
            return ADB_FAIL(ARMDB_NOTADB, err, "%s is a file, not a folder", path);
    }
    return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot open folder %s", path);
}

/* Makes the name of an open directory durable in its parent. 0 or errno. */
static int sync_parent(int dir_fd)
{
    int fd = open_retrying(dir_fd, "..", O_RDONLY | O_DIRECTORY);
    int error;

    if (fd < 0)
        return errno;
    error = sync_all(fd);
    (void)close(fd);
    return error;
}

/* Makes the directory, one level; *made tells whether it was missing. */
static enum armdb_rc make_dir(const char *path, bool *made, struct armdb_error *err)
{
    int error;

    *made = mkdir(path, 0700) == 0;
    if (*made)
        return ARMDB_OK;
    error = errno;
    if (error == EEXIST)
        return ARMDB_OK;
    if (error == ENOENT) {
        int parent_len = (int)strlen(path);

        while (parent_len > 1 && path[parent_len - 1] != '/')
            parent_len--;
        if (parent_len > 1)
            parent_len--;
        return ADB_FAIL(ARMDB_CANTOPEN, err,
                        "cannot make folder %s: its parent %.*s does not exist", path,
                        parent_len, path);
    }
    return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot make folder %s", path);
}

static int open_dir(const char *path)
{
    return open_retrying(AT_FDCWD, path, O_RDONLY | O_DIRECTORY);
}

/* Gives dir its descriptor. The parent is synced even if the directory was there,
 * as well as may be: who made it may have been killed before doing so. */
static enum armdb_rc reach_dir(struct posix_dir *dir, bool create,
                               struct armdb_error *err)
{
    bool made = false;
    enum armdb_rc rc;
    int error;

    dir->fd = open_dir(dir->path);
    if (dir->fd < 0 && errno == ENOENT && create) {
        rc = make_dir(dir->path, &made, err);
        if (rc != ARMDB_OK)
            return rc;
        dir->fd = open_dir(dir->path);
    }
    if (dir->fd < 0)
        return fail_dir_open(errno, dir->path, err);
    if (!create)
        return ARMDB_OK;
    error = sync_parent(dir->fd);
    if (error == 0 || !made)
        return ARMDB_OK;
    (void)rmdir(dir->path);
    return adb_fail_errno(error, ARMDB_CANTOPEN, err,
                          "cannot sync the parent of the new folder %s", dir->path);
}

enum armdb_rc posix_dir_open(struct adb_io *io, const char *path, bool create,
                             struct adb_dir **out, struct armdb_error *err)
{
    size_t len = trimmed_len(path);
    struct posix_dir *dir;
    enum armdb_rc rc;

    *out = NULL;
    if (path[0] != '/')
        return ADB_FAIL(ARMDB_CANTOPEN, err, "\"%s\" is not an absolute path", path);
    dir = adb_alloc_zero(ADB_MEM_IO, sizeof *dir + len + 1);
    if (dir == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open folder %s", path);
    dir->base.io = io;
    memcpy(dir->path, path, len);
    rc = reach_dir(dir, create, err);
    if (rc == ARMDB_OK)
        *out = &dir->base;
    else
        posix_dir_close(&dir->base);
    return rc;
}

void posix_dir_close(struct adb_dir *base)
{
    struct posix_dir *dir = posix_dir_of(base);

    if (dir == NULL)
        return;
    if (dir->fd >= 0)
        (void)close(dir->fd);
    adb_free(ADB_MEM_IO, dir);
}

enum armdb_rc posix_dir_identity(struct adb_dir *base, uint64_t *device, uint64_t *inode,
                                 struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);
    struct stat st;

    *device = 0;
    *inode = 0;
    if (fstat(dir->fd, &st) != 0)
        return adb_fail_errno(errno, ARMDB_IO, err, "cannot look at folder %s",
                              dir->path);
    *device = st.st_dev;
    *inode = st.st_ino;
    return ARMDB_OK;
}

bool posix_dir_is_writable(struct adb_dir *base)
{
    return faccessat(posix_dir_of(base)->fd, ".", W_OK | X_OK, AT_EACCESS) == 0;
}

enum armdb_rc posix_dir_list(struct adb_dir *base,
                             bool (*visit)(void *arg, const char *name), void *arg,
                             struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);
    enum armdb_rc rc = ARMDB_OK;
    struct dirent *entry;
    DIR *list;
    int fd;

    /* A descriptor of its own: the position in the directory belongs to it. */
    fd = open_retrying(dir->fd, ".", O_RDONLY | O_DIRECTORY);
    if (fd < 0)
        return adb_fail_errno(errno, ARMDB_CANTOPEN, err, "cannot list folder %s",
                              dir->path);
    list = fdopendir(fd);
    if (list == NULL) {
        rc = adb_fail_errno(errno, ARMDB_CANTOPEN, err, "cannot list folder %s",
                            dir->path);
        (void)close(fd);
        return rc;
    }
    for (;;) {
        errno = 0;
        entry = readdir(list);
        if (entry == NULL) {
            if (errno != 0)
                rc = adb_fail_errno(errno, ARMDB_IO, err, "cannot list folder %s",
                                    dir->path);
            break;
        }
        if (is_plain_name(entry->d_name) && !visit(arg, entry->d_name))
            break;
    }
    (void)closedir(list);
    return rc;
}

enum armdb_rc posix_dir_sync(struct adb_dir *base, struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);
    int error = sync_all(dir->fd);

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot sync folder %s", dir->path);
    return ARMDB_OK;
}

enum armdb_rc posix_dir_rename(struct adb_dir *base, const char *from, const char *to,
                               struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);

    ADB_ASSERT(is_plain_name(from) && is_plain_name(to));
    if (renameat(dir->fd, from, dir->fd, to) == 0)
        return ARMDB_OK;
    return adb_fail_errno(errno, ARMDB_IO, err, "cannot rename %s/%s to %s", dir->path,
                          from, to);
}

enum armdb_rc posix_dir_unlink(struct adb_dir *base, const char *name,
                               struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);

    ADB_ASSERT(is_plain_name(name));
    if (unlinkat(dir->fd, name, 0) == 0)
        return ARMDB_OK;
    return adb_fail_errno(errno, errno == ENOENT ? ARMDB_NOT_FOUND : ARMDB_IO, err,
                          "cannot remove %s/%s", dir->path, name);
}

/* What says that this pair of folders has no links to offer, rather than an error. */
static bool is_no_link(int error)
{
    return error == EXDEV || error == EPERM || error == EMLINK || error == EOPNOTSUPP ||
           error == ENOSYS || error == EACCES;
}

enum armdb_rc posix_dir_link(struct adb_dir *from, struct adb_dir *to, const char *name,
                             bool *linked, struct armdb_error *err)
{
    struct posix_dir *source = posix_dir_of(from);
    struct posix_dir *target = posix_dir_of(to);

    ADB_ASSERT(is_plain_name(name));
    *linked = linkat(source->fd, name, target->fd, name, 0) == 0;
    if (*linked || is_no_link(errno))
        return ARMDB_OK;
    return adb_fail_errno(errno,
                          errno == ENOENT   ? ARMDB_NOT_FOUND
                          : errno == EEXIST ? ARMDB_EXISTS
                                            : ARMDB_IO,
                          err, "cannot link %s/%s to %s", source->path, name,
                          target->path);
}

void posix_forked_dir(struct adb_dir *base)
{
    struct posix_dir *dir = posix_dir_of(base);

    (void)close(dir->fd);
    dir->fd = -1;
}

/* ---- Opening files --------------------------------------------------------- */

/* A file object without a descriptor; NULL when there is no memory. */
static struct posix_file *new_file(struct posix_dir *dir, const char *name)
{
    size_t dir_len = strlen(dir->path);
    size_t name_len = strlen(name);
    struct posix_file *file;

    file = adb_alloc_zero(ADB_MEM_IO, sizeof *file + dir_len + name_len + 2);
    if (file == NULL)
        return NULL;
    file->base.io = dir->base.io;
    file->fd = -1;
    memcpy(file->path, dir->path, dir_len);
    file->path[dir_len] = '/';
    memcpy(file->path + dir_len + 1, name, name_len);
    return file;
}

/* Whether blocks of 4096 bytes suit the device under a direct file. */
static bool direct_blocks_suit(int fd)
{
#ifdef STATX_DIOALIGN
    struct statx st;

    if (statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &st) == 0 &&
        (st.stx_mask & STATX_DIOALIGN) != 0)
        return st.stx_dio_offset_align > 0 && st.stx_dio_mem_align > 0 &&
               POSIX_DIRECT_ALIGN % st.stx_dio_offset_align == 0 &&
               POSIX_DIRECT_ALIGN % st.stx_dio_mem_align == 0;
#else
    (void)fd;
#endif
    return true;
}

/* Sets the descriptor's flags for use: O_DIRECT when wanted and possible, without
 * the O_NONBLOCK of the opening in any case. 0 or errno. */
static int settle_flags(struct posix_file *file, bool want_direct)
{
    if (want_direct && direct_blocks_suit(file->fd) &&
        fcntl(file->fd, F_SETFL, O_DIRECT) == 0) {
        file->direct = true;
        return 0;
    }
    return fcntl(file->fd, F_SETFL, 0) == 0 ? 0 : errno;
}

/* Where a file is to be made, ENOENT says that the folder itself is gone: that is no
 * answer that a caller goes on with. */
static enum armdb_rc fail_file_open(int error, const struct posix_file *file, bool create,
                                    struct armdb_error *err)
{
    switch (error) {
    case ENOENT:
        return adb_fail_errno(error, create ? ARMDB_CANTOPEN : ARMDB_NOT_FOUND, err,
                              "cannot %s %s", create ? "make" : "open", file->path);
    case EEXIST:
        return adb_fail_errno(error, ARMDB_EXISTS, err, "cannot make %s", file->path);
    case ELOOP:
        return ADB_FAIL(ARMDB_CANTOPEN, err,
                        "%s is a symbolic link and will not be followed", file->path);
    default:
        return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot open %s", file->path);
    }
}

enum armdb_rc posix_file_open(struct adb_dir *base, const char *name, unsigned flags,
                              struct adb_file **out, struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);
    struct posix_file *file = NULL;
    enum armdb_rc rc = ARMDB_OK;
    struct stat st;
    int how = (flags & ADB_OPEN_WRITE) != 0 ? O_RDWR : O_RDONLY;
    int error;

    ADB_ASSERT(is_plain_name(name));
    *out = NULL;
    if ((flags & ADB_OPEN_CREATE) != 0)
        how |= O_CREAT | O_EXCL;
    file = new_file(dir, name);
    if (file == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open %s/%s", dir->path, name);
    file->fd = open_retrying(dir->fd, name, how);
    if (file->fd < 0) {
        rc = fail_file_open(errno, file, (flags & ADB_OPEN_CREATE) != 0, err);
        goto out;
    }
    if (fstat(file->fd, &st) != 0) {
        rc = adb_fail_errno(errno, ARMDB_IO, err, "cannot look at %s", file->path);
        goto out;
    }
    if (!S_ISREG(st.st_mode)) {
        rc = ADB_FAIL(ARMDB_CANTOPEN, err, "%s is not a regular file", file->path);
        goto out;
    }
    error = settle_flags(file, (flags & ADB_OPEN_DIRECT) != 0);
    if (error != 0) {
        rc = adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot set up %s", file->path);
        goto out;
    }
    *out = &file->base;
    file = NULL;
out:
    if (file != NULL)
        posix_file_close(&file->base);
    return rc;
}

void posix_file_close(struct adb_file *base)
{
    if (base == NULL)
        return;
    posix_forked_file(base);
    adb_free(ADB_MEM_IO, posix_file_of(base));
}

/* A descriptor is gone after close() even if that was interrupted. */
void posix_forked_file(struct adb_file *base)
{
    struct posix_file *file = posix_file_of(base);

    if (file->fd >= 0)
        (void)close(file->fd);
    file->fd = -1;
}

/* ---- The lock -------------------------------------------------------------- */

static void write_pid(int fd)
{
    char text[PID_TEXT_MAX];
    int len = snprintf(text, sizeof text, "%ld\n", (long)getpid());

    if (posix_size_limit() < PID_TEXT_MAX)
        return;
    if (pwrite(fd, text, (size_t)len, 0) == len)
        (void)!ftruncate(fd, len);
}

/* The pid in a lock file, 0 if there is none. */
static uint64_t read_pid(int fd)
{
    char text[PID_TEXT_MAX];
    ssize_t n = pread(fd, text, sizeof text, 0);
    uint64_t pid = 0;

    for (ssize_t i = 0; i < n; i++) {
        if (text[i] == '\n')
            return pid;
        if (text[i] < '0' || text[i] > '9' || pid > UINT32_MAX)
            return 0;
        pid = pid * 10 + (uint64_t)(text[i] - '0');
    }
    return 0; /* no end of line: half written */
}

static int take_flock(int fd, int how)
{
    while (flock(fd, how | LOCK_NB) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

/* Whether `name` still means the file that is open as fd. */
static bool is_still_named(struct posix_dir *dir, const char *name, int fd)
{
    struct stat here;
    struct stat there;

    return fstat(fd, &here) == 0 &&
           fstatat(dir->fd, name, &there, AT_SYMLINK_NOFOLLOW) == 0 &&
           here.st_dev == there.st_dev && here.st_ino == there.st_ino;
}

/* One try: ARMDB_DONE when the file was replaced meanwhile. */
static enum armdb_rc try_lock(struct posix_dir *dir, const char *name,
                              struct posix_file *lock, uint64_t *holder,
                              struct armdb_error *err)
{
    bool writable = true;
    struct stat st;
    int error;

    lock->fd = open_retrying(dir->fd, name, O_RDWR | O_CREAT);
    if (lock->fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS)) {
        writable = false;
        lock->fd = open_retrying(dir->fd, name, O_RDONLY);
        if (lock->fd < 0 && errno != EMFILE && errno != ENFILE)
            return ADB_FAIL(ARMDB_READONLY, err,
                            "cannot make the lock file %s: the "
                            "folder cannot be written",
                            lock->path);
    }
    if (lock->fd < 0)
        return adb_fail_errno(errno, ARMDB_CANTOPEN, err, "cannot open the lock file %s",
                              lock->path);
    if (fstat(lock->fd, &st) != 0 || !S_ISREG(st.st_mode))
        return ADB_FAIL(ARMDB_CANTOPEN, err, "the lock file %s is not a regular file",
                        lock->path);
    error = take_flock(lock->fd, writable ? LOCK_EX : LOCK_SH);
    if (error == EWOULDBLOCK) {
        *holder = read_pid(lock->fd);
        if (*holder == 0)
            return ADB_FAIL(ARMDB_LOCKED, err, "%s is locked by another process",
                            lock->path);
        return ADB_FAIL(ARMDB_LOCKED, err, "%s is locked by process %llu", lock->path,
                        (unsigned long long)*holder);
    }
    if (error != 0)
        return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot lock %s", lock->path);
    if (!is_still_named(dir, name, lock->fd))
        return ARMDB_DONE;
    if (writable)
        write_pid(lock->fd);
    return ARMDB_OK;
}

enum armdb_rc posix_lock_acquire(struct adb_dir *base, const char *name,
                                 struct adb_file **out, uint64_t *holder,
                                 struct armdb_error *err)
{
    struct posix_dir *dir = posix_dir_of(base);
    enum armdb_rc rc = ARMDB_DONE;
    struct posix_file *lock;

    ADB_ASSERT(is_plain_name(name));
    *out = NULL;
    *holder = 0;
    lock = new_file(dir, name);
    if (lock == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to lock %s/%s", dir->path, name);
    for (int i = 0; i < LOCK_TRIES && rc == ARMDB_DONE; i++) {
        posix_forked_file(&lock->base);
        rc = try_lock(dir, name, lock, holder, err);
    }
    if (rc == ARMDB_DONE)
        rc = ADB_FAIL(ARMDB_CANTOPEN, err, "the lock file %s is replaced again and again",
                      lock->path);
    if (rc == ARMDB_OK)
        *out = &lock->base;
    else
        posix_file_close(&lock->base);
    return rc;
}

/* Unlocks by name, not only by closing: a forked child may have the open file, too. */
void posix_lock_release(struct adb_file *lock)
{
    if (lock == NULL)
        return;
    (void)!ftruncate(posix_file_of(lock)->fd, 0);
    (void)flock(posix_file_of(lock)->fd, LOCK_UN);
    posix_file_close(lock);
}

/* ---- Sizes and room -------------------------------------------------------- */

enum armdb_rc posix_file_size(struct adb_file *base, uint64_t *bytes,
                              struct armdb_error *err)
{
    struct posix_file *file = posix_file_of(base);
    struct stat st;

    *bytes = 0;
    if (fstat(file->fd, &st) != 0)
        return adb_fail_errno(errno, ARMDB_IO, err, "cannot look at %s", file->path);
    *bytes = (uint64_t)st.st_size;
    return ARMDB_OK;
}

uint64_t posix_file_changed_ns(struct adb_file *base)
{
    struct stat st;

    if (fstat(posix_file_of(base)->fd, &st) != 0 || st.st_mtim.tv_sec < 0)
        return 0;
    return (uint64_t)st.st_mtim.tv_sec * UINT64_C(1000000000) +
           (uint64_t)st.st_mtim.tv_nsec;
}

static int set_size(int fd, uint64_t bytes)
{
    while (ftruncate(fd, (off_t)bytes) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

enum armdb_rc posix_file_truncate(struct adb_file *base, uint64_t bytes,
                                  struct armdb_error *err)
{
    struct posix_file *file = posix_file_of(base);
    uint64_t size;
    enum armdb_rc rc = posix_file_size(base, &size, err);
    int error;

    if (rc != ARMDB_OK)
        return rc;
    if (bytes > size && (bytes > INT64_MAX || bytes > posix_size_limit()))
        error = EFBIG;
    else
        error = set_size(file->fd, bytes);
    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot make %s %llu bytes long",
                              file->path, (unsigned long long)bytes);
    return ARMDB_OK;
}

/* Writes zeros over [from, to). 0 or errno. */
static int write_zeros(struct posix_file *file, uint64_t from, uint64_t to)
{
    struct iovec iov[ZERO_IOV_DIRECT];
    int count_max = file->direct ? ZERO_IOV_DIRECT : 1;

    while (from < to) {
        uint64_t left = to - from;
        int count = 0;
        ssize_t n;

        while (left > 0 && count < count_max) {
            iov[count].iov_base = zeros;
            iov[count].iov_len = left < ZERO_BYTES ? (size_t)left : ZERO_BYTES;
            left -= iov[count].iov_len;
            count++;
        }
        n = pwritev(file->fd, iov, count, (off_t)from);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (file->direct)
            n -= n % POSIX_DIRECT_ALIGN;
        if (n == 0)
            return EIO;
        from += (uint64_t)n;
    }
    return 0;
}

/* Gets blocks for [0, bytes), and writes zeros behind `size` where that is wanted or
 * the file system knows no other way. 0 or errno. */
static int get_room(struct posix_file *file, uint64_t size, uint64_t bytes, bool written)
{
    uint64_t align = file->direct ? POSIX_DIRECT_ALIGN : 1;
    /* The block in which a direct file ends unaligned is there already. */
    uint64_t from = (size + align - 1) / align * align;
    int error = EINTR;

    for (int i = 0; i < FALLOCATE_TRIES && error == EINTR; i++)
        error = fallocate(file->fd, 0, 0, (off_t)bytes) == 0 ? 0 : errno;
    /* tmpfs gives up at every signal: after so many tries zeros get there as well. */
    if (error == EOPNOTSUPP || error == ENOSYS || error == EINTR)
        written = true;
    else if (error != 0)
        return error;
    if (!written || bytes <= size)
        return 0;
    error = write_zeros(file, from, bytes);
    if (error != 0)
        return error;
    while (fdatasync(file->fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

enum armdb_rc posix_file_reserve(struct adb_file *base, uint64_t bytes, bool written,
                                 struct armdb_error *err)
{
    struct posix_file *file = posix_file_of(base);
    uint64_t size;
    enum armdb_rc rc = posix_file_size(base, &size, err);
    int error;

    ADB_ASSERT(!file->direct || bytes % POSIX_DIRECT_ALIGN == 0);
    if (rc != ARMDB_OK)
        return rc;
    if (bytes == 0)
        return ARMDB_OK;
    if (bytes > INT64_MAX || bytes > posix_size_limit())
        error = EFBIG;
    else
        error = get_room(file, size, bytes, written);
    if (error == 0)
        return ARMDB_OK;
    if (bytes > size)
        (void)set_size(file->fd, size); /* what was got before it failed goes back */
    return adb_fail_errno(error, ARMDB_IO, err, "cannot reserve %llu bytes for %s",
                          (unsigned long long)bytes, file->path);
}

bool posix_file_is_direct(struct adb_file *file)
{
    return posix_file_of(file)->direct;
}

void posix_file_drop_cache(struct adb_file *file)
{
    (void)posix_fadvise(posix_file_of(file)->fd, 0, 0, POSIX_FADV_DONTNEED);
}

/* ---- Clock and random numbers ---------------------------------------------- */

uint64_t posix_wall_ns(struct adb_io *io)
{
    struct timespec now;

    (void)io;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

enum armdb_rc posix_random(struct adb_io *io, void *p, size_t n, struct armdb_error *err)
{
    unsigned char *bytes = p;
    size_t done = 0;

    (void)io;
    while (done < n) {
        ssize_t got = getrandom(bytes + done, n - done, 0);

        if (got < 0 && errno != EINTR)
            return adb_fail_errno(errno, ARMDB_IO, err, "cannot get random numbers");
        if (got > 0)
            done += (size_t)got;
    }
    return ARMDB_OK;
}
