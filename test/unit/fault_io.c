/* fault_io.c - counts calls and fails one. */
#include "fault_io.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct fault_io {
    struct adb_io io;
    struct adb_io *inner; /* borrowed */
    _Atomic uint64_t calls;
    uint64_t fail_at; /* set while no thread is inside */
    bool sticky;
};

struct fault_dir {
    struct adb_dir dir;
    struct adb_dir *inner;
};

struct fault_file {
    struct adb_file file;
    struct adb_file *inner;
};

static struct adb_dir *inner_dir(struct adb_dir *dir)
{
    return ((struct fault_dir *)dir)->inner;
}

static struct adb_file *inner_file(struct adb_file *file)
{
    return ((struct fault_file *)file)->inner;
}

static bool hit(struct adb_io *io)
{
    struct fault_io *fault = (struct fault_io *)io;
    uint64_t call = 1 + atomic_fetch_add_explicit(&fault->calls, 1, memory_order_relaxed);

    return fault->fail_at != 0 &&
           (call == fault->fail_at || (fault->sticky && call > fault->fail_at));
}

static enum armdb_rc fail(struct armdb_error *err)
{
    return adb_fail_errno(EIO, ARMDB_IO, err, "injected");
}

static enum armdb_rc open_dir(struct adb_io *io, const char *path, bool create,
                              struct adb_dir **out, struct armdb_error *err)
{
    struct adb_io *inner = ((struct fault_io *)io)->inner;
    struct fault_dir *dir = calloc(1, sizeof *dir);
    enum armdb_rc rc;

    *out = NULL;
    rc = inner->ops->dir_open(inner, path, create, &dir->inner, err);
    if (rc != ARMDB_OK) {
        free(dir);
        return rc;
    }
    dir->dir.io = io;
    *out = &dir->dir;
    return ARMDB_OK;
}

static void close_dir(struct adb_dir *dir)
{
    inner_dir(dir)->io->ops->dir_close(inner_dir(dir));
    free(dir);
}

static bool is_writable(struct adb_dir *dir)
{
    return inner_dir(dir)->io->ops->dir_is_writable(inner_dir(dir));
}

static enum armdb_rc list_dir(struct adb_dir *dir,
                              bool (*visit)(void *arg, const char *name), void *arg,
                              struct armdb_error *err)
{
    return hit(dir->io)
               ? fail(err)
               : inner_dir(dir)->io->ops->dir_list(inner_dir(dir), visit, arg, err);
}

static enum armdb_rc sync_dir(struct adb_dir *dir, struct armdb_error *err)
{
    return hit(dir->io) ? fail(err)
                        : inner_dir(dir)->io->ops->dir_sync(inner_dir(dir), err);
}

static enum armdb_rc rename_file(struct adb_dir *dir, const char *from, const char *to,
                                 struct armdb_error *err)
{
    return hit(dir->io)
               ? fail(err)
               : inner_dir(dir)->io->ops->dir_rename(inner_dir(dir), from, to, err);
}

static enum armdb_rc unlink_file(struct adb_dir *dir, const char *name,
                                 struct armdb_error *err)
{
    return hit(dir->io) ? fail(err)
                        : inner_dir(dir)->io->ops->dir_unlink(inner_dir(dir), name, err);
}

static enum armdb_rc link_file(struct adb_dir *from, struct adb_dir *to, const char *name,
                               bool *linked, struct armdb_error *err)
{
    *linked = false;
    return hit(to->io) ? fail(err)
                       : inner_dir(to)->io->ops->dir_link(inner_dir(from), inner_dir(to),
                                                          name, linked, err);
}

static enum armdb_rc identity_of(struct adb_dir *dir, uint64_t *device, uint64_t *inode,
                                 struct armdb_error *err)
{
    return inner_dir(dir)->io->ops->dir_identity(inner_dir(dir), device, inode, err);
}

static enum armdb_rc take_lock(struct adb_dir *dir, const char *name,
                               struct adb_file **lock, uint64_t *holder,
                               struct armdb_error *err)
{
    struct fault_file *file;
    enum armdb_rc rc;

    *lock = NULL;
    *holder = 0;
    if (hit(dir->io))
        return fail(err);
    file = calloc(1, sizeof *file);
    rc = inner_dir(dir)->io->ops->lock_acquire(inner_dir(dir), name, &file->inner, holder,
                                               err);
    if (rc != ARMDB_OK) {
        free(file);
        return rc;
    }
    file->file.io = dir->io;
    *lock = &file->file;
    return ARMDB_OK;
}

static void give_lock(struct adb_file *lock)
{
    inner_file(lock)->io->ops->lock_release(inner_file(lock));
    free(lock);
}

static enum armdb_rc open_file(struct adb_dir *dir, const char *name, unsigned flags,
                               struct adb_file **out, struct armdb_error *err)
{
    struct fault_file *file;
    enum armdb_rc rc;

    *out = NULL;
    if (hit(dir->io))
        return fail(err);
    file = calloc(1, sizeof *file);
    rc = inner_dir(dir)->io->ops->file_open(inner_dir(dir), name, flags, &file->inner,
                                            err);
    if (rc != ARMDB_OK) {
        free(file);
        return rc;
    }
    file->file.io = dir->io;
    *out = &file->file;
    return ARMDB_OK;
}

static void close_file(struct adb_file *file)
{
    inner_file(file)->io->ops->file_close(inner_file(file));
    free(file);
}

static enum armdb_rc size_of(struct adb_file *file, uint64_t *bytes,
                             struct armdb_error *err)
{
    return hit(file->io)
               ? fail(err)
               : inner_file(file)->io->ops->file_size(inner_file(file), bytes, err);
}

static uint64_t changed_ns(struct adb_file *file)
{
    return inner_file(file)->io->ops->file_changed_ns(inner_file(file));
}

static enum armdb_rc truncate_file(struct adb_file *file, uint64_t bytes,
                                   struct armdb_error *err)
{
    return hit(file->io)
               ? fail(err)
               : inner_file(file)->io->ops->file_truncate(inner_file(file), bytes, err);
}

static bool is_direct(struct adb_file *file)
{
    return inner_file(file)->io->ops->file_is_direct(inner_file(file));
}

static void drop_cache(struct adb_file *file)
{
    inner_file(file)->io->ops->file_drop_cache(inner_file(file));
}

static void submit(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    struct adb_io *inner = ((struct fault_io *)io)->inner;

    for (size_t i = 0; i < count; i++) {
        struct adb_io_op op = ops[i];

        if (op.after_previous && i > 0 && ops[i - 1].sys_errno != 0) {
            ops[i].sys_errno = ECANCELED;
            continue;
        }
        if (hit(io)) {
            ops[i].sys_errno = EIO;
            continue;
        }
        op.file = inner_file(op.file);
        op.after_previous = false;
        inner->ops->submit(inner, &op, 1);
        ops[i].sys_errno = op.sys_errno;
    }
}

static const struct adb_io_ops fault_ops = {
    .name = "fault",
    .dir_open = open_dir,
    .dir_close = close_dir,
    .dir_is_writable = is_writable,
    .dir_list = list_dir,
    .dir_sync = sync_dir,
    .dir_rename = rename_file,
    .dir_unlink = unlink_file,
    .dir_link = link_file,
    .dir_identity = identity_of,
    .lock_acquire = take_lock,
    .lock_release = give_lock,
    .file_open = open_file,
    .file_close = close_file,
    .file_size = size_of,
    .file_changed_ns = changed_ns,
    .file_truncate = truncate_file,
    .file_is_direct = is_direct,
    .file_drop_cache = drop_cache,
    .submit = submit,
    .destroy = fault_io_destroy,
};

struct adb_io *fault_io_create(struct adb_io *inner)
{
    struct fault_io *fault = calloc(1, sizeof *fault);

    fault->io.ops = &fault_ops;
    fault->inner = inner;
    return &fault->io;
}

void fault_io_destroy(struct adb_io *io)
{
    free(io);
}

void fault_io_fail_at(struct adb_io *io, uint64_t n, bool sticky)
{
    struct fault_io *fault = (struct fault_io *)io;

    atomic_store_explicit(&fault->calls, 0, memory_order_relaxed);
    fault->fail_at = n;
    fault->sticky = sticky;
}

uint64_t fault_io_calls(struct adb_io *io)
{
    return atomic_load_explicit(&((struct fault_io *)io)->calls, memory_order_relaxed);
}
