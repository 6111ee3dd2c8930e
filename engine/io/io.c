/* io.c - single operations and small whole files, on any engine.
 *
 * submit() answers with an errno; here it becomes a code and a text that names the
 * file and the place. A read past the end of a file is damage (ARMDB_CORRUPT):
 * whoever reads has been told by other bytes that these are there.
 *
 * adb_file_replace() is the one way in which small files change. Order of steps and
 * what a crash leaves after each:
 *   1. name.tmp is made (one left over by a crash is removed first)   old file
 *   2. its bytes are written and synced                               old file
 *   3. it is renamed to name                                          old or new
 *   4. the directory is synced                                        new file
 * An error in 1 to 3 leaves the old file and no temporary one. After an error in 4
 * it is open which of the two a crash will show; readers see the new one. */
#include "engine/io/io.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/base/plant.h"

enum { NAME_BYTES_MAX = 255 }; /* what file systems take */

/* The iovec of an operation cannot promise that a write leaves its bytes alone. */
static void *without_const(const void *p)
{
    union {
        const void *in;
        void *out;
    } u = {.in = p};

    return u.out;
}

static void count_op(struct adb_io *io, const struct adb_io_op *op)
{
    bool writes = op->kind == ADB_IO_WRITE;
    uint64_t bytes = 0;

    for (uint32_t i = 0; i < op->iov_count; i++)
        bytes += op->iov[i].iov_len;
    if (op->kind == ADB_IO_SYNC) {
        (void)atomic_fetch_add_explicit(&io->syncs, 1, memory_order_relaxed);
        return;
    }
    (void)atomic_fetch_add_explicit(writes ? &io->writes : &io->reads, 1,
                                    memory_order_relaxed);
    (void)atomic_fetch_add_explicit(writes ? &io->bytes_written : &io->bytes_read, bytes,
                                    memory_order_relaxed);
}

void adb_io_run(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    io->ops->submit(io, ops, count);
    for (size_t i = 0; i < count; i++)
        if (ops[i].sys_errno == 0)
            count_op(io, &ops[i]);
}

static int run_one(struct adb_file *file, enum adb_io_kind kind, const struct iovec *iov,
                   uint64_t offset)
{
    struct adb_io_op op = {
        .file = file,
        .kind = kind,
        .iov = iov,
        .iov_count = iov != NULL ? 1 : 0,
        .offset = offset,
    };

    adb_io_run(file->io, &op, 1);
    return op.sys_errno;
}

enum armdb_rc adb_file_read(struct adb_file *file, const char *name, void *p, size_t n,
                            uint64_t offset, struct armdb_error *err)
{
    struct iovec iov = {.iov_base = p, .iov_len = n};
    int error = run_one(file, ADB_IO_READ, &iov, offset);

    if (error == 0)
        return ARMDB_OK;
    if (error == ENODATA)
        return ADB_FAIL(ARMDB_CORRUPT, err,
                        "%s ends before the %llu bytes at offset %llu that it should "
                        "have",
                        name, (unsigned long long)n, (unsigned long long)offset);
    return adb_fail_errno(error, ARMDB_IO, err, "cannot read %llu bytes of %s at %llu",
                          (unsigned long long)n, name, (unsigned long long)offset);
}

enum armdb_rc adb_file_write(struct adb_file *file, const char *name, const void *p,
                             size_t n, uint64_t offset, struct armdb_error *err)
{
    struct iovec iov = {.iov_base = without_const(p), .iov_len = n};
    int error = run_one(file, ADB_IO_WRITE, &iov, offset);

    if (error == 0)
        return ARMDB_OK;
    return adb_fail_errno(error, ARMDB_IO, err, "cannot write %llu bytes of %s at %llu",
                          (unsigned long long)n, name, (unsigned long long)offset);
}

enum armdb_rc adb_file_sync(struct adb_file *file, const char *name,
                            struct armdb_error *err)
{
    int error = run_one(file, ADB_IO_SYNC, NULL, 0);

    if (error == 0)
        return ARMDB_OK;
    return adb_fail_errno(error, ARMDB_IO, err, "cannot sync %s", name);
}

/* Step 1 and 2: the temporary file, durable and closed. */
static enum armdb_rc write_whole(struct adb_dir *dir, const char *name, const void *p,
                                 size_t n, struct armdb_error *err)
{
    const struct adb_io_ops *ops = dir->io->ops;
    struct adb_file *file = NULL;
    enum armdb_rc rc;

    rc = ops->dir_unlink(dir, name, err);
    if (rc != ARMDB_OK && rc != ARMDB_NOT_FOUND)
        return rc;
    rc = ops->file_open(dir, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = adb_file_write(file, name, p, n, 0, err);
    if (rc == ARMDB_OK && !ADB_PLANTED("rename_before_data"))
        rc = adb_file_sync(file, name, err);
    ops->file_close(file);
    return rc;
}

enum armdb_rc adb_file_replace(struct adb_dir *dir, const char *name, const void *p,
                               size_t n, struct armdb_error *err)
{
    const struct adb_io_ops *ops = dir->io->ops;
    char temporary[NAME_BYTES_MAX + 1];
    enum armdb_rc rc;

    if (strlen(name) + strlen(".tmp") > NAME_BYTES_MAX)
        return ADB_FAIL(ARMDB_INVALID, err, "the file name %s is too long", name);
    (void)snprintf(temporary, sizeof temporary, "%s.tmp", name);
    rc = write_whole(dir, temporary, p, n, err);
    if (rc == ARMDB_OK)
        rc = ops->dir_rename(dir, temporary, name, err);
    if (rc != ARMDB_OK) {
        /* The first failure is the one to report. */
        (void)!ops->dir_unlink(dir, temporary, NULL);
        return rc;
    }
    if (ADB_PLANTED("rename_not_synced"))
        return ARMDB_OK;
    return ops->dir_sync(dir, err);
}

bool adb_is_no_file(const struct armdb_error *err)
{
    return err->sys_errno == 0 || err->sys_errno == ELOOP || err->sys_errno == EISDIR ||
           err->sys_errno == ENXIO;
}

enum armdb_rc adb_file_slurp(struct adb_dir *dir, const char *name, size_t bytes_max,
                             unsigned char **p, size_t *n, struct armdb_error *err)
{
    const struct adb_io_ops *ops = dir->io->ops;
    struct adb_file *file = NULL;
    unsigned char *bytes = NULL;
    enum armdb_rc rc;
    uint64_t size;

    *p = NULL;
    *n = 0;
    rc = ops->file_open(dir, name, 0, &file, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = ops->file_size(file, &size, err);
    if (rc != ARMDB_OK)
        goto out;
    if (size > bytes_max) {
        rc = ADB_FAIL(ARMDB_CORRUPT, err, "%s has %llu bytes, more than the %llu allowed",
                      name, (unsigned long long)size, (unsigned long long)bytes_max);
        goto out;
    }
    bytes = adb_alloc(ADB_MEM_IO, (size_t)size);
    if (bytes == NULL) {
        rc = ADB_FAIL(ARMDB_NOMEM, err, "no memory to read %s", name);
        goto out;
    }
    rc = adb_file_read(file, name, bytes, (size_t)size, 0, err);
    if (rc != ARMDB_OK)
        goto out;
    *p = bytes;
    *n = (size_t)size;
    bytes = NULL;
out:
    adb_free(ADB_MEM_IO, bytes);
    ops->file_close(file);
    return rc;
}
