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
 * Killed before 6: opening refuses the folder and says why, and the next backup into it
 * begins anew. A failure takes back what was made; the folder stays, empty.
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

enum { COPY_BYTES = 1 << 20, MARK_BYTES_MAX = 64 };

static const char mark_magic[8] = {'a', 'r', 'm', 'd', 'b', 'B', 'a', 'k'};

struct backup {
    struct armdb *store;
    struct adb_dir *from;  /* borrowed: the store's folder */
    struct adb_dir *dir;   /* owned: the target */
    struct adb_file *lock; /* owned: the target's */
    const char *path;
    struct log_moment moment;
    bool has_moment;
    bool began;            /* the mark may be there: undo what follows it */
    bool links;            /* the pair of folders may have hard links */
    unsigned char *buffer; /* owned, COPY_BYTES */
    const struct armdb_watch *watch;
    struct armdb_backup_info *info;
};

/* ---- The folder ---- */

struct contents {
    bool mark;
    bool lock;
    bool any;         /* something but lock files and temporary marks */
    bool foreign;     /* something that no backup puts there */
    char example[64]; /* one name of `any` */
    char victim[64];  /* a name to be removed; "" for none */
};

static bool is_ours(const char *name)
{
    uint64_t number;

    return segment_name_parse(name, &number) || strcmp(name, MANIFEST_NAME) == 0 ||
           strcmp(name, SUPERBLOCK_NAME) == 0 ||
           strcmp(name, MANIFEST_NAME ".tmp") == 0 ||
           strcmp(name, SUPERBLOCK_NAME ".tmp") == 0;
}

static void keep_name(char to[64], const char *name)
{
    size_t n = strlen(name) < 63 ? strlen(name) : 63;

    memcpy(to, name, n);
    to[n] = '\0';
}

static bool look_at_name(void *arg, const char *name)
{
    struct contents *contents = arg;

    if (strcmp(name, BACKUP_MARK_NAME) == 0) {
        contents->mark = true;
    } else if (strcmp(name, ADB_LOCK_NAME) == 0) {
        contents->lock = true;
    } else if (strcmp(name, BACKUP_MARK_NAME ".tmp") != 0) {
        if (!contents->any)
            keep_name(contents->example, name);
        contents->any = true;
        if (is_ours(name))
            keep_name(contents->victim, name);
        else
            contents->foreign = true;
    }
    return true;
}

static enum armdb_rc look(struct backup *backup, struct contents *contents,
                          struct armdb_error *err)
{
    memset(contents, 0, sizeof *contents);
    return backup->dir->io->ops->dir_list(backup->dir, look_at_name, contents, err);
}

/* Does the folder's mark begin as ours do? */
static enum armdb_rc check_mark(struct backup *backup, struct armdb_error *err)
{
    enum armdb_rc rc;
    unsigned char *bytes = NULL;
    size_t n = 0;

    rc = adb_file_slurp(backup->dir, BACKUP_MARK_NAME, MARK_BYTES_MAX, &bytes, &n, err);
    if (rc == ARMDB_CORRUPT ||
        (rc == ARMDB_OK &&
         (n < sizeof mark_magic || memcmp(bytes, mark_magic, sizeof mark_magic) != 0)))
        rc = ADB_FAIL(ARMDB_NOTADB, err,
                      "%s holds a file %s that is not armdb's; name an empty or a new "
                      "folder",
                      backup->path, BACKUP_MARK_NAME);
    adb_free(ADB_MEM_IO, bytes);
    return rc;
}

static enum armdb_rc check_empty(struct backup *backup, struct contents *contents,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = look(backup, contents, err);
    bool ours;

    if (rc == ARMDB_OK && contents->mark)
        rc = check_mark(backup, err);
    if (rc == ARMDB_OK && contents->lock) {
        rc = store_lock_is_ours(backup->dir, &ours, err);
        if (rc == ARMDB_OK && !ours) {
            contents->foreign = true;
            keep_name(contents->example, ADB_LOCK_NAME);
        }
    }
    if (rc == ARMDB_OK && (contents->foreign || (contents->any && !contents->mark)))
        rc = ADB_FAIL(ARMDB_CANTOPEN, err,
                      "%s is not empty: it holds %s; a backup needs an empty or a new "
                      "folder",
                      backup->path, contents->example);
    return rc;
}

/* Removes what a backup puts into a folder, but the mark. */
static enum armdb_rc empty_folder(struct backup *backup, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct contents contents;

    for (;;) {
        rc = look(backup, &contents, err);
        if (rc != ARMDB_OK || contents.victim[0] == '\0')
            return rc;
        rc = backup->dir->io->ops->dir_unlink(backup->dir, contents.victim, err);
        if (rc != ARMDB_OK)
            return rc;
    }
}

/* Steps 1 and 2. */
static enum armdb_rc take_folder(struct backup *backup, struct adb_io *io,
                                 struct armdb_error *err)
{
    enum armdb_rc rc;
    struct contents contents;
    unsigned char mark[24];
    uint64_t holder;

    rc = io->ops->dir_open(io, backup->path, true, &backup->dir, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = check_empty(backup, &contents, err); /* before a lock file is put into it */
    if (rc != ARMDB_OK)
        return rc;
    rc = io->ops->lock_acquire(backup->dir, ADB_LOCK_NAME, &backup->lock, &holder, err);
    if (rc == ARMDB_LOCKED)
        return ADB_FAIL(ARMDB_LOCKED, err,
                        "%s is in use, perhaps by another backup (pid %llu)",
                        backup->path, (unsigned long long)holder);
    if (rc == ARMDB_OK)
        rc = check_empty(backup, &contents, err); /* somebody was faster */
    if (rc != ARMDB_OK)
        return rc;
    backup->began = true;
    memcpy(mark, mark_magic, sizeof mark_magic);
    memcpy(mark + sizeof mark_magic, backup->store->superblock.uuid, 16);
    rc = adb_file_replace(backup->dir, BACKUP_MARK_NAME, mark, sizeof mark, err);
    if (rc == ARMDB_OK && contents.any)
        rc = empty_folder(backup, err);
    return rc;
}

/* Gives the folder back; after a failure empty, if that can be. */
static void leave_folder(struct backup *backup, bool failed)
{
    const struct adb_io_ops *ops;
    struct armdb_error ignored;

    if (backup->dir == NULL)
        return;
    ops = backup->dir->io->ops;
    if (failed && backup->began && empty_folder(backup, &ignored) == ARMDB_OK &&
        ops->dir_sync(backup->dir, &ignored) == ARMDB_OK) {
        /* The mark goes last: until then the rest is known for what it is. */
        ignored.rc = ops->dir_unlink(backup->dir, BACKUP_MARK_NAME, &ignored);
        ignored.rc = ops->dir_unlink(backup->dir, ADB_LOCK_NAME, &ignored);
    }
    if (backup->lock != NULL)
        ops->lock_release(backup->lock);
    ops->dir_close(backup->dir);
}

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
    rc = backup->dir->io->ops->file_open(backup->dir, name,
                                         ADB_OPEN_WRITE | ADB_OPEN_CREATE, &to, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = copy_bytes(backup, from, to, name, bytes, err);
    backup->info->segments_copied++;
    backup->info->bytes_copied += bytes;
out:
    if (from != NULL)
        backup->from->io->ops->file_close(from);
    if (to != NULL)
        backup->dir->io->ops->file_close(to);
    return rc;
}

static enum armdb_rc link_segment(struct backup *backup, const char *name, bool *linked,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;

    *linked = false;
    if (!backup->links)
        return ARMDB_OK;
    rc = backup->dir->io->ops->dir_link(backup->from, backup->dir, name, linked, err);
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

/* Steps 5 and 6. */
static enum armdb_rc finish(struct backup *backup, struct armdb_error *err)
{
    enum armdb_rc rc;
    const struct adb_io_ops *ops = backup->dir->io->ops;
    const struct superblock *sb = &backup->store->superblock;

    rc = ops->dir_sync(backup->dir, err);
    if (rc == ARMDB_OK)
        rc = manifest_write(backup->dir, sb->uuid, &backup->moment.manifest, err);
    if (rc == ARMDB_OK)
        rc = superblock_write(backup->dir, sb, err);
    if (rc == ARMDB_OK)
        rc = ops->dir_unlink(backup->dir, BACKUP_MARK_NAME, err);
    if (rc == ARMDB_OK)
        rc = ops->dir_sync(backup->dir, err);
    return rc;
}

enum armdb_rc backup_through(struct armdb *store, struct adb_io *io, struct adb_dir *from,
                             const char *path, const struct armdb_watch *watch,
                             struct armdb_backup_info *info, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct backup backup = {.store = store,
                            .from = from,
                            .path = path,
                            .links = io->ops == from->io->ops,
                            .watch = watch,
                            .info = info};

    memset(info, 0, sizeof *info);
    rc = take_folder(&backup, io, err);
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
        rc = finish(&backup, err);
out:
    if (backup.has_moment)
        log_moment_fini(&store->log, &backup.moment);
    leave_folder(&backup, rc != ARMDB_OK);
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
