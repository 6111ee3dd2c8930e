/* backup.c - a copy of the whole store at one moment, while writers go on.
 *
 *   1  the folder: empty, or an unfinished backup (then it is emptied)
 *   2  `backup.unfinished` written, durable: from now on nobody takes the folder for
 *      anything else
 *   3  the moment (engine/log/moment.c): which segments, how long, which GSN
 *   4  segments: a hard link for those that never change any more, where the file system
 *      has them; a copy of their bytes for the others
 *   5  folder synced, manifest, superblock: a store, were it not for the mark
 *   6  the mark removed, folder synced: the backup exists
 *
 * 1, 2, 5 and 6 are target.c's: killed before 6, opening refuses the folder and says why,
 * and the next backup into it begins anew.
 *
 * The copy has the original's uuid: its segments carry it, and they are shared. It is the
 * same store at an earlier moment, and can take the original's place; in one process both
 * may be open, for stores are told apart by their folders. What either does to a shared
 * file harms the other in no way: a sealed segment is never written and never cut
 * (recovery passes such files by, closing cuts the open ones alone), compaction removes a
 * name, and new segments have identities of their own, so that none is ever taken for
 * one of the other's.
 *
 * What is damaged in the store is damaged in the copy: it is linked, not looked at.
 * armdb_verify tells. Memory: one buffer and the manifest. */
#include "engine/store/backup.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/moment.h"
#include "engine/store/internal.h"
#include "engine/store/target.h"

enum { COPY_BYTES = 1 << 20 };

struct backup {
    struct armdb *store;
    struct adb_dir *from; /* borrowed: the store's folder */
    struct target target;
    struct log_moment moment;
    bool has_moment;
    bool links;            /* the pair of folders may have hard links */
    unsigned char *buffer; /* owned, COPY_BYTES */
    const struct armdb_watch *watch;
    struct armdb_backup_info *info;
};

/* ---- Segments ---- */

/* Moves `bytes` bytes from one open file to the other. */
static enum armdb_rc copy_bytes(struct backup *backup, struct adb_file *from,
                                struct adb_file *to, const char *name, uint64_t bytes,
                                struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;

    for (uint64_t at = 0; rc == ARMDB_OK && at < bytes;) {
        size_t n = bytes - at < COPY_BYTES ? (size_t)(bytes - at) : COPY_BYTES;

        rc = watch_ask(backup->watch, err);
        if (rc == ARMDB_OK)
            rc = adb_file_read(from, name, backup->buffer, n, at, err);
        if (rc == ARMDB_OK)
            rc = adb_file_write(to, name, backup->buffer, n, at, err);
        at += n;
    }
    if (rc == ARMDB_OK)
        rc = adb_file_sync(to, name, err);
    return rc;
}

static enum armdb_rc copy_segment(struct backup *backup, const char *name, uint64_t bytes,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;
    struct adb_file *from = NULL;
    struct adb_file *to = NULL;

    rc = backup->from->io->ops->file_open(backup->from, name, 0, &from, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = backup->target.dir->io->ops->file_open(
        backup->target.dir, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &to, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = copy_bytes(backup, from, to, name, bytes, err);
    backup->info->segments_copied++;
    backup->info->bytes_copied += bytes;
out:
    if (from != NULL)
        backup->from->io->ops->file_close(from);
    if (to != NULL)
        backup->target.dir->io->ops->file_close(to);
    return rc;
}

static enum armdb_rc link_segment(struct backup *backup, const char *name, bool *linked,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;

    *linked = false;
    if (!backup->links)
        return ARMDB_OK;
    rc = backup->target.dir->io->ops->dir_link(backup->from, backup->target.dir, name,
                                               linked, err);
    if (rc != ARMDB_OK)
        return rc;
    if (*linked)
        backup->info->segments_linked++;
    else
        backup->links = false; /* nor will the others */
    return ARMDB_OK;
}

/* Step 4. */
static enum armdb_rc take_segments(struct backup *backup, struct armdb_error *err)
{
    const struct manifest *manifest = &backup->moment.manifest;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < manifest->segment_count; i++) {
        char name[SEGMENT_NAME_MAX];
        bool linked = false;

        segment_name(manifest->segments[i].number, name);
        rc = watch_ask(backup->watch, err);
        if (rc == ARMDB_OK && backup->moment.fixed[i])
            rc = link_segment(backup, name, &linked, err);
        if (rc == ARMDB_OK && !linked)
            rc = copy_segment(backup, name, manifest->segments[i].length, err);
    }
    return rc;
}

/* ---- The whole ---- */

enum armdb_rc backup_through(struct armdb *store, struct adb_io *io, struct adb_dir *from,
                             const char *path, const struct armdb_watch *watch,
                             struct armdb_backup_info *info, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct backup backup = {.store = store,
                            .from = from,
                            .links = io->ops == from->io->ops,
                            .watch = watch,
                            .info = info};

    memset(info, 0, sizeof *info);
    rc = target_take(&backup.target, io, path, store->superblock.uuid, err);
    if (rc != ARMDB_OK)
        goto out;
    backup.buffer = adb_alloc_aligned(ADB_MEM_IO, COPY_BYTES, 4096);
    if (backup.buffer == NULL) {
        rc = ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a backup");
        goto out;
    }
    rc = log_moment_take(&store->log, &backup.moment, err);
    if (rc != ARMDB_OK)
        goto out;
    backup.has_moment = true;
    info->gsn = backup.moment.manifest.watermark;
    rc = take_segments(&backup, err);
    if (rc == ARMDB_OK)
        rc = target_finish(&backup.target, &backup.moment.manifest, &store->superblock,
                           err);
out:
    if (backup.has_moment)
        log_moment_fini(&store->log, &backup.moment);
    target_leave(&backup.target, rc != ARMDB_OK);
    adb_free_aligned(ADB_MEM_IO, backup.buffer);
    return rc;
}

enum armdb_rc armdb_backup(struct armdb *store, const char *path,
                           const struct armdb_watch *watch,
                           struct armdb_backup_info *info, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct adb_io *io = store->io;

    memset(info, 0, sizeof *info);
    if (atomic_load_explicit(&store->foreign, memory_order_acquire))
        return ADB_FAIL(ARMDB_FORKED, err, "the store %s was opened before fork()",
                        store->path);
    if (path[0] != '/')
        return ADB_FAIL(ARMDB_INVALID, err,
                        "a backup goes into a folder named by an absolute path, not %s",
                        path);
    if (store->memory) { /* its engine knows no disk */
        rc = adb_io_plain_create(&io, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    rc = backup_through(store, io, store->dir, path, watch, info, err);
    if (io != store->io)
        io->ops->destroy(io);
    return rc;
}

/* ---- Restoring one table ---- */

enum { ROWS_PER_LOOK = 256 }; /* rows copied between two questions to the watch */

static enum armdb_rc copy_row(struct armdb_session *session, struct armdb_table *table,
                              struct armdb_cursor *cursor, struct armdb_error *err)
{
    struct armdb_value value;
    const void *key;
    size_t key_len;
    enum armdb_rc rc = armdb_cursor_value(cursor, &value, err);

    if (rc != ARMDB_OK)
        return rc;
    armdb_cursor_key(cursor, &key, &key_len);
    return armdb_put(session, table, key, key_len, value.data, value.len, err);
}

enum armdb_rc armdb_table_restore(struct armdb_session *session,
                                  struct armdb_table *table,
                                  struct armdb_session *source_session,
                                  struct armdb_table *source,
                                  const struct armdb_watch *watch, uint64_t *rows,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb_cursor *cursor = NULL;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};

    *rows = 0;
    rc = armdb_table_clear(session, table, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_cursor_open(source_session, source, &cursor, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = armdb_cursor_seek_range(cursor, &all, err);
    while (rc == ARMDB_OK) {
        if (*rows % ROWS_PER_LOOK == 0)
            rc = watch_ask(watch, err);
        if (rc == ARMDB_OK)
            rc = copy_row(session, table, cursor, err);
        if (rc == ARMDB_OK) {
            (*rows)++;
            rc = armdb_cursor_next(cursor, err);
        }
    }
    armdb_cursor_close(cursor);
    return rc == ARMDB_DONE ? ARMDB_OK : rc;
}
