/* io_mem.c - the engine whose files live in memory, for stores that do.
 *
 * One engine is one file system with one directory. A directory handle is only a
 * handle; any path opens the same directory.
 *
 *     names:  "manifest" --> inode --> extents  [0][1][ ][3]   256 KiB each
 *     handles:  adb_file ----^                        hole: reads as zeros
 *
 * An inode lives as long as a name or a handle refers to it, so an unlinked or
 * replaced file stays usable where it is open. Extents are mapped pages, zero until
 * they are written and taken from the system page by page; they never move, and a
 * larger file means more of them. Only the table of pointers is reallocated.
 *
 * Two kinds of lock, both of rank ADB_RANK_IO and never held together: the
 * engine's guards the names and all reference counts, an inode's its size and its
 * extents. Bytes are copied under the inode's lock, one extent at a time, so that
 * nobody waits for longer than one copy of 256 KiB. As in the kernel, a read that
 * meets a write of the same bytes may see some old and some new ones.
 *
 * Semantics are those of the other engines: error codes, sys_errno of operations,
 * zeros in whatever a file gained by growing. Differences: a sync does nothing, no
 * file is direct, and where a disk would be full, memory is out (ENOMEM);
 * file_reserve() takes all extents, so writes below it cannot meet that. */
#include <errno.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/io/io.h"
#include "engine/io/io_posix.h"

enum { EXTENT_BYTES = 256 * 1024, TABLE_COUNT_MIN = 8, NAME_BYTES_MAX = 255 };

struct inode {
    uint32_t refs;  /* names and handles; guarded by the engine's lock */
    bool is_locked; /* by a lock handle; guarded by the engine's lock */

    struct adb_mutex lock; /* rank ADB_RANK_IO */
    struct {
        uint64_t size;
        unsigned char **extents; /* owned; NULL = hole */
        size_t table_count;      /* pointers in the table */
    } locked ADB_GUARDED;
};

struct entry {
    struct entry *next;
    struct inode *inode; /* counted */
    char name[NAME_BYTES_MAX + 1];
};

struct mem_io {
    struct adb_io base;

    struct adb_mutex lock; /* rank ADB_RANK_IO */
    struct {
        struct entry *first; /* owned */
    } locked ADB_GUARDED;
};

struct mem_dir {
    struct adb_dir base;
};

struct mem_file {
    struct adb_file base;
    struct inode *inode; /* counted */
    bool writable;
};

static struct mem_io *mem_of(struct adb_io *io)
{
    return (struct mem_io *)io;
}

static struct mem_file *mem_file_of(struct adb_file *file)
{
    return (struct mem_file *)file;
}

/* ---- Inodes ---------------------------------------------------------------- */

static struct inode *inode_create(void)
{
    struct inode *inode = adb_alloc_zero(ADB_MEM_IO, sizeof *inode);

    if (inode == NULL)
        return NULL;
    if (adb_mutex_init(&inode->lock, ADB_RANK_IO) != ARMDB_OK) {
        adb_free(ADB_MEM_IO, inode);
        return NULL;
    }
    inode->refs = 1;
    return inode;
}

static ADB_NOT_SHARED void inode_destroy(struct inode *inode)
{
    if (inode == NULL)
        return;
    for (size_t i = 0; i < inode->locked.table_count; i++)
        adb_unmap(ADB_MEM_IO, inode->locked.extents[i], EXTENT_BYTES);
    adb_free(ADB_MEM_IO, inode->locked.extents);
    adb_mutex_fini(&inode->lock);
    adb_free(ADB_MEM_IO, inode);
}

/* Counts down; gives the inode back for inode_destroy() when that was the last. */
static struct inode *inode_unref_locked(struct mem_io *io, struct inode *inode)
    ADB_REQUIRES(io->lock)
{
    adb_mutex_assert_held(&io->lock);
    ADB_ASSERT(inode->refs > 0);
    inode->refs--;
    return inode->refs == 0 ? inode : NULL;
}

/* Makes sure that extent `idx` is there. */
static bool ensure_extent_locked(struct inode *inode, uint64_t idx)
    ADB_REQUIRES(inode->lock)
{
    adb_mutex_assert_held(&inode->lock);
    if (idx >= inode->locked.table_count) {
        uint64_t count = inode->locked.table_count;
        unsigned char **table;

        if (idx >= SIZE_MAX / 4 / sizeof *table)
            return false;
        count = count < TABLE_COUNT_MIN ? TABLE_COUNT_MIN : count;
        while (count <= idx)
            count *= 2;
        table =
            adb_realloc(ADB_MEM_IO, inode->locked.extents, (size_t)count * sizeof *table);
        if (table == NULL)
            return false;
        for (size_t i = inode->locked.table_count; i < count; i++)
            table[i] = NULL;
        inode->locked.extents = table;
        inode->locked.table_count = (size_t)count;
    }
    if (inode->locked.extents[idx] == NULL)
        inode->locked.extents[idx] = adb_map(ADB_MEM_IO, EXTENT_BYTES, 4096, false);
    return inode->locked.extents[idx] != NULL;
}

/* Copies at most one extent's worth at `offset`: bytes moved, 0 at the end of the
 * file (read) or without memory (write). */
static size_t copy_piece(struct inode *inode, enum adb_io_kind kind, unsigned char *p,
                         size_t n, uint64_t offset) ADB_EXCLUDES(inode->lock)
{
    uint64_t idx = offset / EXTENT_BYTES;
    size_t inside = (size_t)(offset % EXTENT_BYTES);
    size_t moved = EXTENT_BYTES - inside;

    if (moved > n)
        moved = n;
    adb_mutex_lock(&inode->lock);
    if (kind == ADB_IO_WRITE) {
        if (ensure_extent_locked(inode, idx)) {
            memcpy(inode->locked.extents[idx] + inside, p, moved);
            if (inode->locked.size < offset + moved)
                inode->locked.size = offset + moved;
        } else {
            moved = 0;
        }
    } else {
        uint64_t left = offset < inode->locked.size ? inode->locked.size - offset : 0;

        if (moved > left)
            moved = (size_t)left;
        if (moved > 0 && idx < inode->locked.table_count &&
            inode->locked.extents[idx] != NULL)
            memcpy(p, inode->locked.extents[idx] + inside, moved);
        else
            memset(p, 0, moved);
    }
    adb_mutex_unlock(&inode->lock);
    return moved;
}

/* ---- Names ----------------------------------------------------------------- */

/* The place of the pointer to the entry `name`; *place is NULL if there is none. */
static struct entry **find_locked(struct mem_io *io, const char *name)
    ADB_REQUIRES(io->lock)
{
    struct entry **place = &io->locked.first;

    while (*place != NULL && strcmp((*place)->name, name) != 0)
        place = &(*place)->next;
    return place;
}

static bool is_name_too_long(const char *name)
{
    return strlen(name) > NAME_BYTES_MAX;
}

/* A new entry of a new, empty inode. */
static enum armdb_rc entry_create(const char *name, struct entry **out,
                                  struct armdb_error *err)
{
    struct entry *entry;

    *out = NULL;
    if (is_name_too_long(name))
        return adb_fail_errno(ENAMETOOLONG, ARMDB_CANTOPEN, err, "cannot make %s", name);
    entry = adb_alloc_zero(ADB_MEM_IO, sizeof *entry);
    if (entry != NULL)
        entry->inode = inode_create();
    if (entry == NULL || entry->inode == NULL) {
        adb_free(ADB_MEM_IO, entry);
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to make %s", name);
    }
    memcpy(entry->name, name, strlen(name) + 1);
    *out = entry;
    return ARMDB_OK;
}

static void entry_destroy(struct entry *entry)
{
    if (entry == NULL)
        return;
    inode_destroy(entry->inode);
    adb_free(ADB_MEM_IO, entry);
}

static enum armdb_rc mem_dir_open(struct adb_io *io, const char *path, bool create,
                                  struct adb_dir **out, struct armdb_error *err)
{
    struct mem_dir *dir = adb_alloc_zero(ADB_MEM_IO, sizeof *dir);

    (void)create;
    *out = NULL;
    if (dir == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open folder %s", path);
    dir->base.io = io;
    *out = &dir->base;
    return ARMDB_OK;
}

static void mem_dir_close(struct adb_dir *dir)
{
    adb_free(ADB_MEM_IO, (struct mem_dir *)dir);
}

/* No device has the number 0; the address tells engines apart. */
static enum armdb_rc mem_dir_identity(struct adb_dir *dir, uint64_t *device,
                                      uint64_t *inode, struct armdb_error *err)
{
    (void)err;
    *device = 0;
    *inode = (uint64_t)(uintptr_t)dir->io;
    return ARMDB_OK;
}

static bool mem_dir_is_writable(struct adb_dir *dir)
{
    (void)dir;
    return true;
}

/* Visits a copy of the names, because the visitor may well change them. */
static enum armdb_rc mem_dir_list(struct adb_dir *dir,
                                  bool (*visit)(void *arg, const char *name), void *arg,
                                  struct armdb_error *err)
{
    struct mem_io *io = mem_of(dir->io);
    size_t used = 0;
    size_t bytes = 0;
    char *names;

    adb_mutex_lock(&io->lock);
    for (struct entry *e = io->locked.first; e != NULL; e = e->next)
        bytes += strlen(e->name) + 1;
    names = adb_alloc(ADB_MEM_IO, bytes);
    if (names != NULL)
        for (struct entry *e = io->locked.first; e != NULL; e = e->next) {
            size_t len = strlen(e->name) + 1;

            memcpy(names + used, e->name, len);
            used += len;
        }
    adb_mutex_unlock(&io->lock);
    if (names == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to list a folder in memory");
    for (size_t at = 0; at < used; at += strlen(names + at) + 1)
        if (!visit(arg, names + at))
            break;
    adb_free(ADB_MEM_IO, names);
    return ARMDB_OK;
}

static enum armdb_rc mem_dir_sync(struct adb_dir *dir, struct armdb_error *err)
{
    (void)dir;
    (void)err;
    return ARMDB_OK;
}

/* Takes the entry out of the list, its inode out of it if that is now unused. */
static struct entry *remove_locked(struct mem_io *io, const char *name)
    ADB_REQUIRES(io->lock)
{
    struct entry **place = find_locked(io, name);
    struct entry *entry = *place;

    if (entry == NULL)
        return NULL;
    *place = entry->next;
    entry->inode = inode_unref_locked(io, entry->inode);
    return entry;
}

static enum armdb_rc mem_dir_rename(struct adb_dir *dir, const char *from, const char *to,
                                    struct armdb_error *err)
{
    struct mem_io *io = mem_of(dir->io);
    struct entry *replaced = NULL;
    struct entry *entry;

    if (is_name_too_long(to))
        return adb_fail_errno(ENAMETOOLONG, ARMDB_IO, err, "cannot rename %s", from);
    adb_mutex_lock(&io->lock);
    entry = *find_locked(io, from);
    if (entry != NULL && strcmp(from, to) != 0) {
        replaced = remove_locked(io, to);
        memcpy(entry->name, to, strlen(to) + 1);
    }
    adb_mutex_unlock(&io->lock);
    entry_destroy(replaced);
    if (entry == NULL)
        return ADB_FAIL(ARMDB_IO, err, "cannot rename %s: no such file", from);
    return ARMDB_OK;
}

static enum armdb_rc mem_dir_unlink(struct adb_dir *dir, const char *name,
                                    struct armdb_error *err)
{
    struct mem_io *io = mem_of(dir->io);
    struct entry *entry;

    adb_mutex_lock(&io->lock);
    entry = remove_locked(io, name);
    adb_mutex_unlock(&io->lock);
    if (entry == NULL)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "cannot remove %s: no such file", name);
    entry_destroy(entry);
    return ARMDB_OK;
}

/* An engine in memory has one directory: there is nowhere to link to. */
static enum armdb_rc mem_dir_link(struct adb_dir *from, struct adb_dir *to,
                                  const char *name, bool *linked, struct armdb_error *err)
{
    (void)from;
    (void)to;
    (void)name;
    (void)err;
    *linked = false;
    return ARMDB_OK;
}

/* ---- Files ----------------------------------------------------------------- */

static enum armdb_rc handle_create(struct mem_io *io, bool writable,
                                   struct mem_file **out, struct armdb_error *err)
{
    struct mem_file *file = adb_alloc_zero(ADB_MEM_IO, sizeof *file);

    *out = file;
    if (file == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open a file in memory");
    file->base.io = &io->base;
    file->writable = writable;
    return ARMDB_OK;
}

/* Finds the inode of `name` for `file`, or makes it from *fresh, which is NULL then. */
static enum armdb_rc attach_locked(struct mem_io *io, struct mem_file *file,
                                   const char *name, struct entry **fresh)
    ADB_REQUIRES(io->lock)
{
    struct entry **place = find_locked(io, name);

    if (*place == NULL) {
        if (*fresh == NULL)
            return ARMDB_NOT_FOUND;
        *place = *fresh;
        *fresh = NULL;
    }
    file->inode = (*place)->inode;
    file->inode->refs++;
    return ARMDB_OK;
}

static enum armdb_rc mem_file_open(struct adb_dir *dir, const char *name, unsigned flags,
                                   struct adb_file **out, struct armdb_error *err)
{
    struct mem_io *io = mem_of(dir->io);
    struct mem_file *file = NULL;
    bool create = (flags & ADB_OPEN_CREATE) != 0;
    struct entry *fresh = NULL;
    enum armdb_rc rc = ARMDB_OK;

    *out = NULL;
    if (create)
        rc = entry_create(name, &fresh, err);
    if (rc == ARMDB_OK)
        rc = handle_create(io, (flags & ADB_OPEN_WRITE) != 0, &file, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = ARMDB_EXISTS;
    adb_mutex_lock(&io->lock);
    if (!create || *find_locked(io, name) == NULL)
        rc = attach_locked(io, file, name, &fresh);
    adb_mutex_unlock(&io->lock);
    if (rc == ARMDB_EXISTS)
        rc = ADB_FAIL(ARMDB_EXISTS, err, "cannot make %s: the file exists", name);
    else if (rc == ARMDB_NOT_FOUND)
        rc = ADB_FAIL(ARMDB_NOT_FOUND, err, "cannot open %s: no such file", name);
    if (rc != ARMDB_OK)
        goto out;
    *out = &file->base;
    file = NULL;
out:
    entry_destroy(fresh);
    adb_free(ADB_MEM_IO, file);
    return rc;
}

static void mem_file_close(struct adb_file *base)
{
    struct mem_file *file = mem_file_of(base);
    struct inode *gone;
    struct mem_io *io;

    if (file == NULL)
        return;
    io = mem_of(base->io);
    adb_mutex_lock(&io->lock);
    gone = inode_unref_locked(io, file->inode);
    adb_mutex_unlock(&io->lock);
    inode_destroy(gone);
    adb_free(ADB_MEM_IO, file);
}

static enum armdb_rc mem_lock_acquire(struct adb_dir *dir, const char *name,
                                      struct adb_file **lock, uint64_t *holder,
                                      struct armdb_error *err)
{
    struct mem_io *io = mem_of(dir->io);
    struct mem_file *file = NULL;
    struct entry *fresh = NULL;
    bool was_locked;
    enum armdb_rc rc;

    *lock = NULL;
    *holder = 0;
    rc = entry_create(name, &fresh, err);
    if (rc == ARMDB_OK)
        rc = handle_create(io, true, &file, err);
    if (rc != ARMDB_OK)
        goto out;
    adb_mutex_lock(&io->lock);
    rc = attach_locked(io, file, name, &fresh);
    was_locked = file->inode->is_locked;
    file->inode->is_locked = true;
    adb_mutex_unlock(&io->lock);
    ADB_ASSERT(rc == ARMDB_OK); /* `fresh` was there */
    if (!was_locked) {
        *lock = &file->base;
    } else {
        mem_file_close(&file->base);
        *holder = (uint64_t)getpid();
        rc = ADB_FAIL(ARMDB_LOCKED, err, "%s is locked in this process", name);
    }
    file = NULL;
out:
    entry_destroy(fresh);
    adb_free(ADB_MEM_IO, file);
    return rc;
}

static void mem_lock_release(struct adb_file *lock)
{
    struct mem_io *io;

    if (lock == NULL)
        return;
    io = mem_of(lock->io);
    adb_mutex_lock(&io->lock);
    mem_file_of(lock)->inode->is_locked = false;
    adb_mutex_unlock(&io->lock);
    mem_file_close(lock);
}

/* Files in memory are never opened a second time by who would ask. */
static uint64_t mem_file_changed_ns(struct adb_file *file)
{
    (void)file;
    return 0;
}

static enum armdb_rc mem_file_size(struct adb_file *file, uint64_t *bytes,
                                   struct armdb_error *err)
{
    struct inode *inode = mem_file_of(file)->inode;

    (void)err;
    adb_mutex_lock(&inode->lock);
    *bytes = inode->locked.size;
    adb_mutex_unlock(&inode->lock);
    return ARMDB_OK;
}

/* Frees what lies behind the new end and zeroes the rest of its extent, so that
 * growing again shows zeros. */
static void cut_locked(struct inode *inode, uint64_t bytes) ADB_REQUIRES(inode->lock)
{
    uint64_t first = bytes / EXTENT_BYTES;
    size_t inside = (size_t)(bytes % EXTENT_BYTES);

    if (inside > 0) {
        if (first < inode->locked.table_count && inode->locked.extents[first] != NULL)
            memset(inode->locked.extents[first] + inside, 0, EXTENT_BYTES - inside);
        first++;
    }
    for (uint64_t i = first; i < inode->locked.table_count; i++) {
        adb_unmap(ADB_MEM_IO, inode->locked.extents[i], EXTENT_BYTES);
        inode->locked.extents[i] = NULL;
    }
}

static enum armdb_rc mem_file_truncate(struct adb_file *file, uint64_t bytes,
                                       struct armdb_error *err)
{
    struct inode *inode = mem_file_of(file)->inode;

    if (!mem_file_of(file)->writable)
        return adb_fail_errno(EINVAL, ARMDB_IO, err, "cannot cut a file in memory");
    if (bytes > INT64_MAX)
        return adb_fail_errno(EFBIG, ARMDB_IO, err, "cannot grow a file in memory");
    adb_mutex_lock(&inode->lock);
    if (bytes < inode->locked.size)
        cut_locked(inode, bytes);
    inode->locked.size = bytes;
    adb_mutex_unlock(&inode->lock);
    return ARMDB_OK;
}

static enum armdb_rc mem_file_reserve(struct adb_file *file, uint64_t bytes, bool written,
                                      struct armdb_error *err)
{
    struct inode *inode = mem_file_of(file)->inode;
    uint64_t need = bytes / EXTENT_BYTES + (bytes % EXTENT_BYTES != 0);
    bool have = bytes <= INT64_MAX;

    (void)written;
    if (!mem_file_of(file)->writable)
        return adb_fail_errno(EBADF, ARMDB_IO, err, "cannot reserve memory for a file");
    adb_mutex_lock(&inode->lock);
    for (uint64_t i = 0; have && i < need; i++)
        have = ensure_extent_locked(inode, i);
    if (have && inode->locked.size < bytes)
        inode->locked.size = bytes;
    if (!have)
        cut_locked(inode, inode->locked.size);
    adb_mutex_unlock(&inode->lock);
    if (!have)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to reserve %llu bytes for a file",
                        (unsigned long long)bytes);
    return ARMDB_OK;
}

static bool mem_file_is_direct(struct adb_file *file)
{
    (void)file;
    return false;
}

static void mem_file_drop_cache(struct adb_file *file)
{
    (void)file;
}

/* ---- Operations ------------------------------------------------------------ */

static int run_op(const struct adb_io_op *op)
{
    struct mem_file *file = mem_file_of(op->file);
    uint64_t offset = op->offset;

    if (op->kind == ADB_IO_SYNC)
        return 0;
    if (op->kind == ADB_IO_WRITE && !file->writable)
        return EBADF;
    for (uint32_t i = 0; i < op->iov_count; i++) {
        unsigned char *p = op->iov[i].iov_base;
        size_t left = op->iov[i].iov_len;

        if (offset > INT64_MAX - left)
            return op->kind == ADB_IO_READ ? ENODATA : EFBIG;
        while (left > 0) {
            size_t n = copy_piece(file->inode, op->kind, p, left, offset);

            if (n == 0)
                return op->kind == ADB_IO_READ ? ENODATA : ENOMEM;
            p += n;
            left -= n;
            offset += n;
        }
    }
    return 0;
}

static void mem_submit(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    (void)io;
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && ops[i].after_previous && ops[i - 1].sys_errno != 0)
            ops[i].sys_errno = ECANCELED;
        else
            ops[i].sys_errno = run_op(&ops[i]);
    }
}

/* A child of fork() has a copy of the memory; there is nothing to close. */
static void mem_forked_dir(struct adb_dir *dir)
{
    (void)dir;
}

static void mem_forked_file(struct adb_file *file)
{
    (void)file;
}

static void mem_forked(struct adb_io *io)
{
    (void)io;
}

static ADB_NOT_SHARED void mem_destroy(struct adb_io *base)
{
    struct mem_io *io = mem_of(base);

    if (io == NULL)
        return;
    while (io->locked.first != NULL) {
        struct entry *entry = io->locked.first;

        io->locked.first = entry->next;
        ADB_ASSERT(entry->inode->refs == 1); /* every handle must be closed */
        entry_destroy(entry);
    }
    adb_mutex_fini(&io->lock);
    adb_free(ADB_MEM_IO, io);
}

static const struct adb_io_ops mem_ops = {
    .name = "memory",
    .dir_open = mem_dir_open,
    .dir_close = mem_dir_close,
    .dir_identity = mem_dir_identity,
    .dir_is_writable = mem_dir_is_writable,
    .dir_list = mem_dir_list,
    .dir_sync = mem_dir_sync,
    .dir_rename = mem_dir_rename,
    .dir_unlink = mem_dir_unlink,
    .dir_link = mem_dir_link,
    .lock_acquire = mem_lock_acquire,
    .lock_release = mem_lock_release,
    .forked_dir = mem_forked_dir,
    .forked_file = mem_forked_file,
    .forked = mem_forked,
    .file_open = mem_file_open,
    .file_close = mem_file_close,
    .file_size = mem_file_size,
    .file_changed_ns = mem_file_changed_ns,
    .file_truncate = mem_file_truncate,
    .file_reserve = mem_file_reserve,
    .file_is_direct = mem_file_is_direct,
    .file_drop_cache = mem_file_drop_cache,
    .submit = mem_submit,
    .wall_ns = posix_wall_ns,
    .random = posix_random,
    .destroy = mem_destroy,
};

enum armdb_rc adb_io_mem_create(struct adb_io **out, struct armdb_error *err)
{
    struct mem_io *io = adb_alloc_zero(ADB_MEM_IO, sizeof *io);

    *out = NULL;
    if (io == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory for the memory I/O engine");
    if (adb_mutex_init(&io->lock, ADB_RANK_IO) != ARMDB_OK) {
        adb_free(ADB_MEM_IO, io);
        return ADB_FAIL(ARMDB_NOMEM, err, "no lock for the memory I/O engine");
    }
    io->base.ops = &mem_ops;
    *out = &io->base;
    return ARMDB_OK;
}
