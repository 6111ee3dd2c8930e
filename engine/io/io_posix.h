/* io_posix.h - directories and files of the operating system.
 *
 * What the plain and the uring engine have in common: everything in the table of
 * io.h but submit(), forked() and destroy(). Clock and random numbers serve the
 * memory engine, too. Private to the engines. Layer 1. */
#ifndef ADB_ENGINE_IO_IO_POSIX_H
#define ADB_ENGINE_IO_IO_POSIX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"

enum { POSIX_DIRECT_ALIGN = 4096 }; /* bytes; what callers keep to, see io.h */

struct posix_dir {
    struct adb_dir base;
    int fd;      /* owned */
    char path[]; /* as opened, for error texts */
};

struct posix_file {
    struct adb_file base;
    int fd; /* owned */
    bool direct;
    char path[]; /* directory and name, for error texts */
};

static inline struct posix_file *posix_file_of(struct adb_file *file)
{
    return (struct posix_file *)file;
}

/* The highest file size that this process may reach (RLIMIT_FSIZE). Asked before
 * every call that could pass it, because passing it raises SIGXFSZ. */
uint64_t posix_size_limit(void);

/* The functions of the table; see struct adb_io_ops. */
enum armdb_rc posix_dir_open(struct adb_io *io, const char *path, bool create,
                             struct adb_dir **out,
                             struct armdb_error *err) ADB_MUST_CHECK;
void posix_dir_close(struct adb_dir *dir);
enum armdb_rc posix_dir_identity(struct adb_dir *dir, uint64_t *device, uint64_t *inode,
                                 struct armdb_error *err) ADB_MUST_CHECK;
bool posix_dir_is_writable(struct adb_dir *dir);
enum armdb_rc posix_dir_list(struct adb_dir *dir,
                             bool (*visit)(void *arg, const char *name), void *arg,
                             struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_dir_sync(struct adb_dir *dir, struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_dir_rename(struct adb_dir *dir, const char *from, const char *to,
                               struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_dir_link(struct adb_dir *from, struct adb_dir *to, const char *name,
                             bool *linked, struct armdb_error *err);
enum armdb_rc posix_dir_unlink(struct adb_dir *dir, const char *name,
                               struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_lock_acquire(struct adb_dir *dir, const char *name,
                                 struct adb_file **lock, uint64_t *holder,
                                 struct armdb_error *err) ADB_MUST_CHECK;
void posix_lock_release(struct adb_file *lock);
void posix_forked_dir(struct adb_dir *dir);
void posix_forked_file(struct adb_file *file);
enum armdb_rc posix_file_open(struct adb_dir *dir, const char *name, unsigned flags,
                              struct adb_file **out,
                              struct armdb_error *err) ADB_MUST_CHECK;
void posix_file_close(struct adb_file *file);
enum armdb_rc posix_file_size(struct adb_file *file, uint64_t *bytes,
                              struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_file_truncate(struct adb_file *file, uint64_t bytes,
                                  struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc posix_file_reserve(struct adb_file *file, uint64_t bytes, bool written,
                                 struct armdb_error *err) ADB_MUST_CHECK;
bool posix_file_is_direct(struct adb_file *file);
void posix_file_drop_cache(struct adb_file *file);
uint64_t posix_file_changed_ns(struct adb_file *file);
uint64_t posix_wall_ns(struct adb_io *io);
enum armdb_rc posix_random(struct adb_io *io, void *p, size_t n,
                           struct armdb_error *err) ADB_MUST_CHECK;

#endif
