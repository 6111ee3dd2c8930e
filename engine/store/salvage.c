/* salvage.c - everything that is still whole goes into a new store.
 *
 *   1  what is there: superblock, manifest, segments. Of a store that is open a moment
 *      (engine/log/moment.c) says it; of a folder the files do, as far as they can be
 * read 2  the readings (salvage_read.c): what decides, the newest record of each key,
 * rows 3  the new store (salvage_write.c), in a folder that becomes one at once
 * (target.c)
 *
 * What each file is needed for. The superblock: nothing, since uuid and shards are in the
 * segments. A segment's header: its identity is in the manifest. The manifest: without it
 * nobody knows which segments were replaced by a compaction whose end came in between,
 * nor of aborts whose segments are gone; all that is in the folder counts then, and the
 * caller is told. Without header and manifest a segment's records cannot be checked, and
 * are lost.
 *
 * The new store is the old one at a later moment: its uuid, its tables' uuids and ids,
 * the GSNs of its rows; numbers of segments, GSNs and edits go on above all that were
 * used. So a database file that knows the old store finds the new one in its place. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/moment.h"
#include "engine/store/internal.h"
#include "engine/store/salvage_internal.h"
#include "engine/store/table.h"

enum { TEXT_BYTES = 400 };

/* ---- Reports ---- */

enum armdb_rc salvage_nomem(const struct salvage *s)
{
    return ADB_FAIL(ARMDB_NOMEM, s->err, "out of memory to salvage a store");
}

void salvage_report(struct salvage *s, const struct armdb_finding *place, bool lost,
                    const char *todo, const char *format, ...)
{
    char text[TEXT_BYTES];
    struct armdb_finding finding = *place;
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    finding.what = text;
    finding.todo = todo;
    s->info->lost += lost;
    s->visit(s->arg, &finding);
}

/* ---- Tables ---- */

struct salvage_table *salvage_find_table(const struct salvage *s, uint64_t id)
{
    struct salvage_table *tables = s->tables.items;

    for (size_t i = 0; i < s->tables.count; i++)
        if (tables[i].id == id)
            return &tables[i];
    return NULL;
}

enum armdb_rc salvage_make_table(struct salvage *s, uint64_t id,
                                 struct salvage_table **out)
{
    struct armdb_finding place = {.file = NULL};
    struct salvage_table *table = list_push(&s->tables, sizeof *table);

    *out = table;
    if (table == NULL)
        return salvage_nomem(s);
    (void)snprintf(table->name, sizeof table->name, "lost_%llu", (unsigned long long)id);
    table->id = id;
    table->made = true;
    place.table = table->name;
    salvage_report(
        s, &place, false,
        "attach to it by table= with the columns that it had, or drop it",
        "rows that belong to no table's definition, because it is lost, or the "
        "table was dropped or cleared, are kept as table %s",
        table->name);
    return ARMDB_OK;
}

/* Definitions of the tables made here. */
static enum armdb_rc put_definitions(struct salvage *s)
{
    struct salvage_table *tables = s->tables.items;
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < s->tables.count; i++) {
        struct catalog_row row = {.id = tables[i].id,
                                  .schema = (const unsigned char *)ARMDB_SCHEMA_LOST,
                                  .schema_len = sizeof ARMDB_SCHEMA_LOST - 1};
        struct record record = {.kind = RECORD_PUT};
        unsigned char *bytes;

        s->info->tables += tables[i].id != 0;
        if (!tables[i].made)
            continue;
        rc = s->dir->io->ops->random(s->dir->io, row.uuid, sizeof row.uuid, s->err);
        if (rc != ARMDB_OK)
            return rc;
        bytes = catalog_encode(&row, &record.value_len);
        if (bytes == NULL)
            return salvage_nomem(s);
        record.key = (const unsigned char *)tables[i].name;
        record.key_len = strlen(tables[i].name);
        record.value = bytes;
        rc = salvage_put(s, &record, ++s->gsn_max, 0);
        adb_free(ADB_MEM_MISC, bytes);
    }
    return rc;
}

/* ---- What there is ---- */

/* Every segment in the folder; others of our files. */
struct folder {
    struct list numbers; /* uint64_t */
    bool any;
    bool nomem;
};

static bool look_at_name(void *arg, const char *name)
{
    struct folder *folder = arg;
    uint64_t number;
    uint64_t *item;

    if (strcmp(name, SUPERBLOCK_NAME) == 0 || strcmp(name, MANIFEST_NAME) == 0)
        folder->any = true;
    if (!segment_name_parse(name, &number))
        return true;
    folder->any = true;
    item = list_push(&folder->numbers, sizeof *item);
    if (item == NULL)
        folder->nomem = true;
    else
        *item = number;
    return !folder->nomem;
}

static int compare_numbers(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return *x < *y ? -1 : *x > *y;
}

static enum armdb_rc read_header(const struct salvage *s, const char *name,
                                 struct segment_header *header, struct armdb_error *error)
{
    struct adb_file *file = NULL;
    unsigned char *page;
    enum armdb_rc rc = s->dir->io->ops->file_open(s->dir, name, 0, &file, error);

    if (rc != ARMDB_OK)
        return rc;
    page = adb_alloc_aligned(ADB_MEM_LOG, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);
    rc = page == NULL ? salvage_nomem(s)
                      : adb_file_read(file, name, page, SEGMENT_HEADER_BYTES, 0, error);
    if (rc == ARMDB_OK)
        rc = segment_header_decode(page, name, header, error);
    adb_free_aligned(ADB_MEM_LOG, page);
    file->io->ops->file_close(file);
    return rc;
}

static void report_segment(struct salvage *s, const char *name, bool lost,
                           const char *text)
{
    struct armdb_finding place = {.file = name};

    salvage_report(s, &place, lost,
                   lost ? "compare with a backup" : "nothing: it was not needed", "%s",
                   text);
}

/* A segment that the manifest lists: its identity is known, whatever its header says. */
static enum armdb_rc take_listed(struct salvage *s, struct salvage_segment *segment,
                                 const struct manifest_segment *listed)
{
    struct segment_header found;
    struct armdb_error error = {.rc = ARMDB_OK};
    enum armdb_rc rc;

    segment_name(listed->number, segment->name);
    segment->limit = listed->sealed ? listed->length : UINT64_MAX;
    segment->readable = true;
    memcpy(segment->header.identity, listed->identity, 16);
    memcpy(segment->header.store_uuid, s->sb.uuid, 16);
    segment->header.number = listed->number;
    segment->header.shard = listed->shard;
    segment->header.kind = listed->kind;
    rc = read_header(s, segment->name, &found, &error);
    if (rc == ARMDB_NOMEM)
        return rc;
    if (rc == ARMDB_CORRUPT || rc == ARMDB_VERSION) {
        report_segment(s, segment->name, false, error.text);
    } else if (rc != ARMDB_OK) {
        segment->readable = false;
        s->keys_lost = true;
        report_segment(s, segment->name, true,
                       rc == ARMDB_NOT_FOUND ? "the segment is missing" : error.text);
    } else if (memcmp(found.identity, listed->identity, 16) != 0) {
        segment->readable = false;
        s->keys_lost = true;
        report_segment(s, segment->name, true,
                       "it is not the segment that the manifest lists under this name");
    }
    return ARMDB_OK;
}

/* A segment that is there, without a manifest. */
static enum armdb_rc take_found(struct salvage *s, struct salvage_segment *segment,
                                uint64_t number)
{
    struct armdb_error error = {.rc = ARMDB_OK};
    enum armdb_rc rc;

    segment_name(number, segment->name);
    segment->limit = UINT64_MAX;
    rc = read_header(s, segment->name, &segment->header, &error);
    if (rc == ARMDB_NOMEM)
        return rc;
    if (rc == ARMDB_OK && (memcmp(segment->header.store_uuid, s->sb.uuid, 16) != 0 ||
                           segment->header.number != number)) {
        report_segment(s, segment->name, false, "it belongs to another store");
        return ARMDB_OK;
    }
    segment->readable = rc == ARMDB_OK;
    if (rc != ARMDB_OK) {
        s->keys_lost = true;
        report_segment(s, segment->name, true, error.text);
    }
    return ARMDB_OK;
}

static enum armdb_rc take_segments(struct salvage *s, const struct folder *folder)
{
    const uint64_t *numbers = folder->numbers.items;
    size_t count = s->has_manifest ? s->manifest.segment_count : folder->numbers.count;
    enum armdb_rc rc = ARMDB_OK;

    s->segments = adb_alloc_zero(ADB_MEM_LOG, (count + 1) * sizeof *s->segments);
    if (s->segments == NULL)
        return salvage_nomem(s);
    s->segment_count = count;
    for (size_t i = 0; i < folder->numbers.count; i++)
        if (numbers[i] > s->number_max)
            s->number_max = numbers[i];
    for (size_t i = 0; rc == ARMDB_OK && i < count; i++) {
        struct salvage_segment *segment = &s->segments[i];

        rc = s->has_manifest ? take_listed(s, segment, &s->manifest.segments[i])
                             : take_found(s, segment, numbers[i]);
        s->info->segments_read += segment->readable;
        if (segment->header.shard >= s->sb.shards &&
            segment->header.shard < ARMDB_SHARDS_MAX)
            s->sb.shards = segment->header.shard + 1;
        if (segment->header.watermark > s->gsn_max)
            s->gsn_max = segment->header.watermark;
    }
    return rc == ARMDB_NOMEM ? salvage_nomem(s) : rc;
}

/* Which store it is, when the superblock does not say: the one whose manifest is there,
 * else the one whose segments come first. */
static enum armdb_rc find_uuid(struct salvage *s, const struct folder *folder)
{
    const uint64_t *numbers = folder->numbers.items;
    bool found = false;
    enum armdb_rc rc = ARMDB_NOT_FOUND;

    for (size_t i = 0; rc != ARMDB_OK && i < folder->numbers.count; i++) {
        char name[SEGMENT_NAME_MAX];
        struct segment_header header;
        struct armdb_error error;

        segment_name(numbers[i], name);
        rc = read_header(s, name, &header, &error);
        if (rc == ARMDB_NOMEM)
            return rc;
        if (rc != ARMDB_OK || (found && memcmp(header.store_uuid, s->sb.uuid, 16) == 0)) {
            rc = ARMDB_NOT_FOUND;
            continue;
        }
        rc = manifest_read(s->dir, header.store_uuid, &s->manifest, &error);
        if (rc == ARMDB_NOMEM)
            return salvage_nomem(s);
        if (rc == ARMDB_OK || !found)
            memcpy(s->sb.uuid, header.store_uuid, 16);
        found = true;
    }
    if (!found)
        return ADB_FAIL(ARMDB_CORRUPT, s->err,
                        "neither superblock nor any segment's header can be read");
    s->has_manifest = rc == ARMDB_OK;
    return ARMDB_OK;
}

static void report_small(struct salvage *s, const char *file, bool lost, const char *todo,
                         enum armdb_rc rc, const struct armdb_error *error)
{
    struct armdb_finding place = {.file = file};

    salvage_report(s, &place, lost, todo, "%s",
                   rc == ARMDB_NOT_FOUND ? "missing" : error->text);
}

static enum armdb_rc read_small_files(struct salvage *s, const struct folder *folder)
{
    struct armdb_error error = {.rc = ARMDB_OK};
    bool read_only;
    enum armdb_rc rc = superblock_read(s->dir, &s->sb, &read_only, &error);

    if (rc == ARMDB_NOMEM)
        return salvage_nomem(s);
    if (rc == ARMDB_VERSION)
        return ADB_FAIL(rc, s->err, "%s", error.text);
    if (rc != ARMDB_OK) {
        memset(&s->sb, 0, sizeof s->sb);
        s->sb.shards = 1;
        report_small(s, SUPERBLOCK_NAME, false, "nothing: it was not needed", rc, &error);
        rc = find_uuid(s, folder);
        if (rc != ARMDB_OK || s->has_manifest)
            return rc;
    }
    rc = manifest_read(s->dir, s->sb.uuid, &s->manifest, &error);
    if (rc == ARMDB_NOMEM)
        return salvage_nomem(s);
    s->has_manifest = rc == ARMDB_OK;
    if (!s->has_manifest) {
        s->keys_lost = true;
        report_small(
            s, MANIFEST_NAME, true,
            "compare with a backup: rows that were deleted or rolled back may be "
            "back",
            rc, &error);
    }
    return ARMDB_OK;
}

/* ---- The whole ---- */

/* Numbers go on above all that the old store may have used. */
static void begin_manifest(struct salvage *s)
{
    s->made.edit = s->manifest.edit > s->edit_max ? s->manifest.edit : s->edit_max;
    s->made.next_segment = s->number_max + 1;
    if (s->manifest.next_segment > s->made.next_segment)
        s->made.next_segment = s->manifest.next_segment;
    s->made.next_table = s->table_max + 1;
    if (s->manifest.next_table > s->made.next_table)
        s->made.next_table = s->manifest.next_table;
    if (s->manifest.watermark > s->gsn_max)
        s->gsn_max = s->manifest.watermark;
}

/* Tables whose ids only the catalogue knows. */
static void note_table_ids(struct salvage *s)
{
    const struct salvage_table *tables = s->tables.items;

    for (size_t i = 0; i < s->tables.count; i++) {
        if (tables[i].id > s->table_max)
            s->table_max = tables[i].id;
        s->keys_lost = s->keys_lost || tables[i].lost;
    }
}

/* What there is is known. */
static enum armdb_rc run(struct salvage *s, struct adb_io *io, const char *path)
{
    enum armdb_rc rc = target_take(&s->target, io, path, s->sb.uuid, s->err);

    manifest_init(&s->made);
    if (rc == ARMDB_OK)
        rc = salvage_decide(s);
    if (rc == ARMDB_OK)
        rc = salvage_choose(s);
    if (rc == ARMDB_OK) {
        note_table_ids(s);
        begin_manifest(s);
        rc = salvage_copy(s);
    }
    if (rc == ARMDB_OK)
        rc = put_definitions(s);
    if (rc == ARMDB_OK)
        rc = salvage_flush(s);
    if (rc == ARMDB_OK) {
        s->made.watermark = s->gsn_max;
        s->made.feed_horizon = s->gsn_max + 1;
        rc = target_finish(&s->target, &s->made, &s->sb, s->err);
    }
    target_leave(&s->target, rc != ARMDB_OK);
    return rc;
}

static void salvage_fini(struct salvage *s)
{
    manifest_fini(&s->manifest);
    manifest_fini(&s->made);
    decisions_fini(&s->decisions);
    bump_fini(&s->records);
    adb_free(ADB_MEM_LOG, s->batch.items);
    adb_free(ADB_MEM_LOG, s->tables.items);
    adb_free(ADB_MEM_LOG, s->winners);
    adb_free(ADB_MEM_LOG, s->segments);
}

static enum armdb_rc check_path(const char *path, struct armdb_error *err)
{
    return path[0] == '/' ? ARMDB_OK
                          : ADB_FAIL(ARMDB_INVALID, err,
                                     "folders are named by absolute paths, not %s", path);
}

enum armdb_rc armdb_salvage(struct armdb *store, const char *target,
                            const struct armdb_watch *watch, armdb_finding_visit *visit,
                            void *arg, struct armdb_salvage_info *info,
                            struct armdb_error *err)
{
    struct folder none = {.any = false};
    struct log_moment moment;
    struct salvage s = {.dir = store->dir,
                        .sb = store->superblock,
                        .watch = watch,
                        .visit = visit,
                        .arg = arg,
                        .err = err,
                        .info = info};
    struct adb_io *io = store->io;
    enum armdb_rc rc = check_path(target, err);

    memset(info, 0, sizeof *info);
    if (rc == ARMDB_OK && atomic_load_explicit(&store->foreign, memory_order_acquire))
        rc = ADB_FAIL(ARMDB_FORKED, err, "the store %s was opened before fork()",
                      store->path);
    if (rc == ARMDB_OK && store->memory) /* its engine knows no disk */
        rc = adb_io_plain_create(&io, err);
    if (rc != ARMDB_OK)
        return rc;
    manifest_init(&s.manifest);
    rc = log_moment_take(&store->log, &moment, err);
    if (rc == ARMDB_OK) {
        rc = manifest_copy(&moment.manifest, &s.manifest);
        if (rc != ARMDB_OK)
            rc = salvage_nomem(&s);
        s.has_manifest = true;
        if (rc == ARMDB_OK)
            rc = take_segments(&s, &none);
        if (rc == ARMDB_OK)
            rc = run(&s, io, target);
        log_moment_fini(&store->log, &moment);
    }
    salvage_fini(&s);
    if (io != store->io)
        io->ops->destroy(io);
    return rc;
}

/* The folder is a store's and nobody has it open. */
static enum armdb_rc take_folder(struct salvage *s, const char *path,
                                 struct folder *folder, struct adb_file **lock)
{
    const struct adb_io_ops *ops = s->dir->io->ops;
    uint64_t holder = 0;
    enum armdb_rc rc = ops->dir_list(s->dir, look_at_name, folder, s->err);

    if (rc == ARMDB_OK && folder->nomem)
        rc = salvage_nomem(s);
    if (rc == ARMDB_OK && !folder->any)
        rc = ADB_FAIL(ARMDB_NOTADB, s->err, "%s holds nothing of an armdb store", path);
    if (rc != ARMDB_OK || !ops->dir_is_writable(s->dir))
        return rc;
    rc = ops->lock_acquire(s->dir, ADB_LOCK_NAME, lock, &holder, s->err);
    if (rc == ARMDB_LOCKED)
        return ADB_FAIL(
            rc, s->err,
            "the store %s is open in process %llu: close it first, or salvage "
            "it from there",
            path, (unsigned long long)holder);
    return rc == ARMDB_READONLY ? ARMDB_OK : rc;
}

enum armdb_rc armdb_salvage_folder(const char *path, const char *target,
                                   const struct armdb_watch *watch,
                                   armdb_finding_visit *visit, void *arg,
                                   struct armdb_salvage_info *info,
                                   struct armdb_error *err)
{
    struct folder folder = {.any = false};
    struct salvage s = {
        .watch = watch, .visit = visit, .arg = arg, .err = err, .info = info};
    struct adb_io *io = NULL;
    struct adb_file *lock = NULL;
    enum armdb_rc rc = check_path(path, err);

    memset(info, 0, sizeof *info);
    manifest_init(&s.manifest);
    manifest_init(&s.made);
    if (rc == ARMDB_OK)
        rc = check_path(target, err);
    if (rc == ARMDB_OK)
        rc = adb_io_plain_create(&io, err);
    if (rc == ARMDB_OK)
        rc = io->ops->dir_open(io, path, false, &s.dir, err);
    if (rc == ARMDB_OK)
        rc = take_folder(&s, path, &folder, &lock);
    list_sort(&folder.numbers, sizeof(uint64_t), compare_numbers);
    if (rc == ARMDB_OK)
        rc = read_small_files(&s, &folder);
    if (rc == ARMDB_OK)
        rc = take_segments(&s, &folder);
    if (rc == ARMDB_OK)
        rc = run(&s, io, target);
    salvage_fini(&s);
    adb_free(ADB_MEM_LOG, folder.numbers.items);
    if (io == NULL)
        return rc;
    if (lock != NULL)
        io->ops->lock_release(lock);
    if (s.dir != NULL)
        io->ops->dir_close(s.dir);
    io->ops->destroy(io);
    return rc;
}
