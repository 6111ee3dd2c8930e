/* target.c - a folder that becomes a store at once, or not at all.
 *
 *   1  the folder: empty, or left unfinished (then it is emptied)
 *   2  `backup.unfinished` written, durable: from now on nobody takes the folder for
 *      anything else
 *   3  the caller's segments
 *   4  folder synced, manifest, superblock: a store, were it not for the mark
 *   5  the mark removed, folder synced: the store exists
 *
 * Killed before 5: opening refuses the folder and says why, and the next one who takes it
 * begins anew. A failure takes back what was made; the folder stays, empty. */
#include "engine/store/target.h"

#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"

enum { MARK_BYTES_MAX = 64 };

static const char mark_magic[8] = {'a', 'r', 'm', 'd', 'b', 'B', 'a', 'k'};

struct contents {
    bool mark;
    bool lock;
    bool any;         /* something but lock files and temporary marks */
    bool foreign;     /* something that no copy of a store puts there */
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

static enum armdb_rc look(struct target *target, struct contents *contents,
                          struct armdb_error *err)
{
    memset(contents, 0, sizeof *contents);
    return target->dir->io->ops->dir_list(target->dir, look_at_name, contents, err);
}

/* Does the folder's mark begin as ours do? */
static enum armdb_rc check_mark(struct target *target, struct armdb_error *err)
{
    enum armdb_rc rc;
    unsigned char *bytes = NULL;
    size_t n = 0;

    rc = adb_file_slurp(target->dir, BACKUP_MARK_NAME, MARK_BYTES_MAX, &bytes, &n, err);
    if (rc == ARMDB_CORRUPT ||
        (rc == ARMDB_OK &&
         (n < sizeof mark_magic || memcmp(bytes, mark_magic, sizeof mark_magic) != 0)))
        rc = ADB_FAIL(ARMDB_NOTADB, err,
                      "%s holds a file %s that is not armdb's; name an empty or a new "
                      "folder",
                      target->path, BACKUP_MARK_NAME);
    adb_free(ADB_MEM_IO, bytes);
    return rc;
}

static enum armdb_rc check_empty(struct target *target, struct contents *contents,
                                 struct armdb_error *err)
{
    enum armdb_rc rc = look(target, contents, err);
    bool ours;

    if (rc == ARMDB_OK && contents->mark)
        rc = check_mark(target, err);
    if (rc == ARMDB_OK && contents->lock) {
        rc = store_lock_is_ours(target->dir, &ours, err);
        if (rc == ARMDB_OK && !ours) {
            contents->foreign = true;
            keep_name(contents->example, ADB_LOCK_NAME);
        }
    }
    if (rc == ARMDB_OK && (contents->foreign || (contents->any && !contents->mark)))
        rc = ADB_FAIL(ARMDB_CANTOPEN, err,
                      "%s is not empty: it holds %s; a copy needs an empty or a new "
                      "folder",
                      target->path, contents->example);
    return rc;
}

/* Removes what such a copy puts into a folder, but the mark. */
static enum armdb_rc empty_folder(struct target *target, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct contents contents;

    for (;;) {
        rc = look(target, &contents, err);
        if (rc != ARMDB_OK || contents.victim[0] == '\0')
            return rc;
        rc = target->dir->io->ops->dir_unlink(target->dir, contents.victim, err);
        if (rc != ARMDB_OK)
            return rc;
    }
}

enum armdb_rc target_take(struct target *target, struct adb_io *io, const char *path,
                          const unsigned char uuid[16], struct armdb_error *err)
{
    enum armdb_rc rc;
    struct contents contents;
    unsigned char mark[24];
    uint64_t holder;

    memset(target, 0, sizeof *target);
    target->path = path;
    rc = io->ops->dir_open(io, target->path, true, &target->dir, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = check_empty(target, &contents, err); /* before a lock file is put into it */
    if (rc != ARMDB_OK)
        return rc;
    rc = io->ops->lock_acquire(target->dir, ADB_LOCK_NAME, &target->lock, &holder, err);
    if (rc == ARMDB_LOCKED)
        return ADB_FAIL(ARMDB_LOCKED, err,
                        "%s is in use, perhaps by another backup (pid %llu)",
                        target->path, (unsigned long long)holder);
    if (rc == ARMDB_OK)
        rc = check_empty(target, &contents, err); /* somebody was faster */
    if (rc != ARMDB_OK)
        return rc;
    target->began = true;
    memcpy(mark, mark_magic, sizeof mark_magic);
    memcpy(mark + sizeof mark_magic, uuid, 16);
    rc = adb_file_replace(target->dir, BACKUP_MARK_NAME, mark, sizeof mark, err);
    if (rc == ARMDB_OK && contents.any)
        rc = empty_folder(target, err);
    return rc;
}

void target_leave(struct target *target, bool failed)
{
    const struct adb_io_ops *ops;
    struct armdb_error ignored;

    if (target->dir == NULL)
        return;
    ops = target->dir->io->ops;
    if (failed && target->began && empty_folder(target, &ignored) == ARMDB_OK &&
        ops->dir_sync(target->dir, &ignored) == ARMDB_OK) {
        /* The mark goes last: until then the rest is known for what it is. */
        ignored.rc = ops->dir_unlink(target->dir, BACKUP_MARK_NAME, &ignored);
        ignored.rc = ops->dir_unlink(target->dir, ADB_LOCK_NAME, &ignored);
    }
    if (target->lock != NULL)
        ops->lock_release(target->lock);
    ops->dir_close(target->dir);
}

enum armdb_rc target_finish(struct target *target, struct manifest *manifest,
                            const struct superblock *sb, struct armdb_error *err)
{
    const struct adb_io_ops *ops = target->dir->io->ops;
    enum armdb_rc rc = ops->dir_sync(target->dir, err);

    if (rc == ARMDB_OK)
        rc = manifest_write(target->dir, sb->uuid, manifest, err);
    if (rc == ARMDB_OK)
        rc = superblock_write(target->dir, sb, err);
    if (rc == ARMDB_OK)
        rc = ops->dir_unlink(target->dir, BACKUP_MARK_NAME, err);
    if (rc == ARMDB_OK)
        rc = ops->dir_sync(target->dir, err);
    return rc;
}
