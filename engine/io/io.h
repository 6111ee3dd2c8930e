/* io.h - the seam: every file operation, clock and random number passes here.
 *
 * An I/O engine is a table of functions. Production has io_uring (io_uring.c) and
 * plain system calls (io_plain.c); memory stores run on files in memory
 * (io_mem.c); tests put a simulated disk here. EINTR, short counts and completion
 * errors are dealt with inside the engines: a read or write either moved all its
 * bytes or failed. Layer 1. */
#ifndef ADB_ENGINE_IO_IO_H
#define ADB_ENGINE_IO_IO_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "engine/base/rc.h"

struct adb_io;   /* an engine with its state */
struct adb_dir;  /* an open directory */
struct adb_file; /* an open file */

enum {
    ADB_OPEN_WRITE = 1 << 0,  /* else read-only */
    ADB_OPEN_CREATE = 1 << 1, /* must not exist yet; mode 0600 */
    ADB_OPEN_DIRECT = 1 << 2  /* O_DIRECT where offered; see adb_file_is_direct() */
};

enum adb_io_kind { ADB_IO_READ, ADB_IO_WRITE, ADB_IO_SYNC };

/* One operation of a batch. For a direct file offset, lengths and addresses are
 * multiples of 4096. */
struct adb_io_op {
    struct adb_file *file;
    enum adb_io_kind kind;
    bool after_previous;     /* starts when the operation before it has succeeded;
                                if that one failed, this one fails with ECANCELED */
    const struct iovec *iov; /* read, write; borrowed until the call returns */
    uint32_t iov_count;
    uint64_t offset;
    int sys_errno; /* result: 0, or why it failed; a read past the end of the
                      file is ENODATA */
};

struct adb_io_ops {
    const char *name; /* "plain", "uring", "memory" */

    /* Opens the directory at an absolute path; `create` makes it (0700) when
     * missing and syncs its parent. The last component must not be a symbolic
     * link. ARMDB_NOT_FOUND, ARMDB_NOTADB (not a directory), ARMDB_CANTOPEN. */
    enum armdb_rc (*dir_open)(struct adb_io *io, const char *path, bool create,
                              struct adb_dir **out, struct armdb_error *err);
    void (*dir_close)(struct adb_dir *dir);
    /* Device and inode, by which one directory is known under all its paths. */
    enum armdb_rc (*dir_identity)(struct adb_dir *dir, uint64_t *device, uint64_t *inode,
                                  struct armdb_error *err);
    bool (*dir_is_writable)(struct adb_dir *dir);
    /* visit(arg, name) for each entry but "." and ".."; stops when it returns false. */
    enum armdb_rc (*dir_list)(struct adb_dir *dir,
                              bool (*visit)(void *arg, const char *name), void *arg,
                              struct armdb_error *err);
    /* After a sync of the directory its new, renamed and removed names are durable. */
    enum armdb_rc (*dir_sync)(struct adb_dir *dir, struct armdb_error *err);
    enum armdb_rc (*dir_rename)(struct adb_dir *dir, const char *from, const char *to,
                                struct armdb_error *err);
    /* ARMDB_NOT_FOUND when there is no such name. */
    enum armdb_rc (*dir_unlink)(struct adb_dir *dir, const char *name,
                                struct armdb_error *err);
    /* Gives a file a second name, the same one, in another directory of this engine;
     * *linked is false where that cannot be (another file system, no such links): the
     * caller copies. ARMDB_NOT_FOUND, ARMDB_EXISTS. */
    enum armdb_rc (*dir_link)(struct adb_dir *from, struct adb_dir *to, const char *name,
                              bool *linked, struct armdb_error *err);
    /* Takes an exclusive lock (flock) on file `name`, made when missing, and writes
     * this process's pid into it. ARMDB_LOCKED, with the holder's pid (0 = unknown)
     * in *holder, when another open file has it. Held until lock_release(). */
    enum armdb_rc (*lock_acquire)(struct adb_dir *dir, const char *name,
                                  struct adb_file **lock, uint64_t *holder,
                                  struct armdb_error *err);
    void (*lock_release)(struct adb_file *lock);
    /* After fork(), in the child: closes descriptors of these objects without
     * unlocking or waiting; they must not be used again. */
    void (*forked_dir)(struct adb_dir *dir);
    void (*forked_file)(struct adb_file *file);
    void (*forked)(struct adb_io *io);

    /* Opens a regular file below `dir`; never follows a symbolic link.
     * ARMDB_NOT_FOUND (not with ADB_OPEN_CREATE: then the directory itself is gone,
     * which is ARMDB_CANTOPEN), ARMDB_EXISTS (with it alone), ARMDB_CANTOPEN. */
    enum armdb_rc (*file_open)(struct adb_dir *dir, const char *name, unsigned flags,
                               struct adb_file **out, struct armdb_error *err);
    void (*file_close)(struct adb_file *file);
    enum armdb_rc (*file_size)(struct adb_file *file, uint64_t *bytes,
                               struct armdb_error *err);
    /* When it was last written, as wall_ns(); 0: not known. For display. */
    uint64_t (*file_changed_ns)(struct adb_file *file);
    enum armdb_rc (*file_truncate)(struct adb_file *file, uint64_t bytes,
                                   struct armdb_error *err);
    /* Reserves room: after it, writes below `bytes` cannot meet ENOSPC, and the file
     * is `bytes` long, its new part zero. With `written` the new part is also
     * written with zeros, so that later syncs need no change of the file's
     * metadata (a durable append then costs about half). */
    enum armdb_rc (*file_reserve)(struct adb_file *file, uint64_t bytes, bool written,
                                  struct armdb_error *err);
    bool (*file_is_direct)(struct adb_file *file);
    /* Throws the file's clean pages out of the kernel's cache, so that the next
     * read comes from the device; best effort. */
    void (*file_drop_cache)(struct adb_file *file);

    /* Runs a batch of operations, as parallel as the engine can, and returns when
     * all have ended; each op's sys_errno tells its fate. A SYNC is fdatasync.
     * Thread-safe; several threads may be inside. */
    void (*submit)(struct adb_io *io, struct adb_io_op *ops, size_t count);

    uint64_t (*wall_ns)(struct adb_io *io); /* display only */
    enum armdb_rc (*random)(struct adb_io *io, void *p, size_t n,
                            struct armdb_error *err);
    void (*destroy)(struct adb_io *io);
};

/* The first members of every engine's objects; engines embed them. */
struct adb_io {
    const struct adb_io_ops *ops;
    /* Statistics, relaxed: what adb_io_run() did well. */
    _Atomic uint64_t bytes_written, bytes_read;
    _Atomic uint64_t writes, reads, syncs;
};
struct adb_dir {
    struct adb_io *io;
};
struct adb_file {
    struct adb_io *io;
};

/* Engines. uring_create answers ARMDB_CANTOPEN when the kernel or a seccomp
 * filter refuses rings or the operations needed; the caller falls back. */
enum armdb_rc adb_io_plain_create(struct adb_io **out,
                                  struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc adb_io_uring_create(struct adb_io **out,
                                  struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc adb_io_mem_create(struct adb_io **out,
                                struct armdb_error *err) ADB_MUST_CHECK;

/* submit(), counted: the one way in which the engine above reads, writes and syncs. */
void adb_io_run(struct adb_io *io, struct adb_io_op *ops, size_t count);

/* One-operation calls built on it. `name` is for the error text. A failed
 * read or write is ARMDB_IO or what adb_fail_errno() makes of it; a read past the
 * end of the file ARMDB_CORRUPT ("ends before ..."). */
enum armdb_rc adb_file_read(struct adb_file *file, const char *name, void *p, size_t n,
                            uint64_t offset, struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc adb_file_write(struct adb_file *file, const char *name, const void *p,
                             size_t n, uint64_t offset,
                             struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc adb_file_sync(struct adb_file *file, const char *name,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* Writes a whole small file durably and atomically: `name`.tmp, sync, rename to
 * `name`, directory sync. */
enum armdb_rc adb_file_replace(struct adb_dir *dir, const char *name, const void *p,
                               size_t n, struct armdb_error *err) ADB_MUST_CHECK;
/* After ARMDB_CANTOPEN: what bears the name is no regular file (a folder, a symbolic
 * link), as opposed to one that cannot be opened now. */
bool adb_is_no_file(const struct armdb_error *err);
/* Reads a whole file of at most `bytes_max` bytes; *p is to be freed with
 * adb_free(ADB_MEM_IO). ARMDB_CORRUPT when it is longer. */
enum armdb_rc adb_file_slurp(struct adb_dir *dir, const char *name, size_t bytes_max,
                             unsigned char **p, size_t *n,
                             struct armdb_error *err) ADB_MUST_CHECK;

#endif
