/* verify.c - is everything there, whole, and does the index say the same as the log?
 *
 *   1  superblock, manifest, lock file, stray files
 *   2  the moment (engine/log/moment.c): which segments, how long. What lies below
 *      never changes, so that writers go on undisturbed
 *   3  every byte of every segment: header, frames, records, values, gaps, length
 *   4  every record that counts against the index; hints against their segments
 *   5  every entry of the index against the log, hash map against order index,
 *      the number of rows against the count
 *
 * Segments are read twice, since what decides over a frame may stand behind it; the
 * second reading mostly finds the kernel's cache. Nothing is locked but for moments.
 *
 * No false alarms although rows change meanwhile: whatever looks wrong is looked at
 * again in a way that a change cannot fool, and what cannot be told is not reported.
 * verify_index.c has the arguments. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/store/table.h"
#include "engine/store/verify_internal.h"

enum { TEXT_BYTES = 400, STRAY_NAME_MAX = 64 };

static const char restore_file[] =
    "restore the store from a backup, or save what is whole into a new one";

/* ---- Findings ---- */

enum armdb_rc verify_check(const struct verify *v)
{
    return watch_ask(v->watch, v->err);
}

enum armdb_rc verify_nomem(const struct verify *v)
{
    return ADB_FAIL(ARMDB_NOMEM, v->err, "out of memory to verify a store");
}

void verify_report(struct verify *v, const struct verify_place *place, const char *todo,
                   const char *format, ...)
{
    char text[TEXT_BYTES];
    struct armdb_finding finding = {.file = place->file,
                                    .has_offset = place->has_offset,
                                    .offset = place->offset,
                                    .table = place->tab == NULL ? NULL : place->tab->name,
                                    .key = place->key,
                                    .key_len = place->key_len,
                                    .what = text,
                                    .todo = todo};
    va_list args;

    va_start(args, format);
    (void)vsnprintf(text, sizeof text, format, args);
    va_end(args);
    v->findings++;
    v->visit(v->arg, &finding);
}

static void report_file(struct verify *v, const char *file, const char *text)
{
    struct verify_place place = {.file = file};

    verify_report(v, &place, restore_file, "%s", text);
}

/* ---- Small files ---- */

static bool is_hard(enum armdb_rc rc)
{
    return rc == ARMDB_NOMEM || rc == ARMDB_INTERRUPT;
}

static enum armdb_rc verify_superblock(struct verify *v)
{
    struct superblock sb;
    struct armdb_error error = {.rc = ARMDB_OK};
    bool read_only;
    enum armdb_rc rc = superblock_read(v->store->dir, &sb, &read_only, &error);

    if (rc == ARMDB_NOMEM)
        return verify_nomem(v);
    if (rc != ARMDB_OK)
        report_file(v, SUPERBLOCK_NAME, rc == ARMDB_NOT_FOUND ? "missing" : error.text);
    else if (memcmp(sb.uuid, v->store->superblock.uuid, sizeof sb.uuid) != 0 ||
             sb.shards != v->store->superblock.shards ||
             sb.shard_prefix_bits != v->store->superblock.shard_prefix_bits)
        report_file(v, SUPERBLOCK_NAME, "this is the superblock of another store");
    return ARMDB_OK;
}

/* A file that should not be there. */
struct stray {
    char name[STRAY_NAME_MAX];
    const char *kind;
};

/* What is seen of the folder while the manifest lock is held, to be reported after. */
struct folder {
    struct armdb *store;
    struct list strays; /* struct stray */
    enum armdb_rc manifest_rc;
    enum armdb_rc list_rc;
    bool foreign; /* the manifest is whole, but not the one that was written last */
    struct armdb_error manifest_error;
    struct armdb_error list_error;
};

/* Nobody lists it, has it open or makes it: a compaction's output is not listed yet, its
 * inputs are open for as long as they have their names. */
static ADB_NOT_SHARED bool is_stray_number(struct log *log, uint64_t number)
{
    return number != log->locked.output &&
           manifest_find(&log->locked.manifest, number) == NULL &&
           (number <= log->slot_base ||
            segtab_get(&log->segments, log_slot(log->slot_base, number)) == NULL);
}

/* NULL: it is none. A hint on its way has a name of its own. */
static const char *stray_kind(struct log *log, const char *name)
{
    uint64_t number;
    bool temporary;

    if (strcmp(name, MANIFEST_NAME ".tmp") == 0 ||
        strcmp(name, SUPERBLOCK_NAME ".tmp") == 0)
        return "left over from a replacement that did not finish";
    if (segment_name_parse(name, &number))
        return is_stray_number(log, number) ? "a segment that the manifest does not list"
                                            : NULL;
    if (hint_name_parse(name, &number, &temporary) && !temporary)
        return is_stray_number(log, number)
                   ? "the hint of a segment that the manifest does not list"
                   : NULL;
    return NULL;
}

static bool look_at_name(void *arg, const char *name)
{
    struct folder *folder = arg;
    const char *kind = stray_kind(&folder->store->log, name);
    struct stray *stray;

    if (kind == NULL)
        return true;
    stray = list_push(&folder->strays, sizeof *stray);
    if (stray == NULL) {
        folder->list_rc = ARMDB_NOMEM;
        return false;
    }
    (void)snprintf(stray->name, sizeof stray->name, "%s", name);
    stray->kind = kind;
    return true;
}

/* With the manifest lock the file is not being replaced, and no segment comes or goes. A
 * read-only store may have recovered in memory, and then lists something else than its
 * file. */
static void look_at_folder(struct folder *folder) ADB_NOT_SHARED
{
    struct armdb *store = folder->store;
    struct manifest manifest;
    enum armdb_rc rc;

    manifest_init(&manifest);
    adb_mutex_lock(&store->log.manifest_lock);
    folder->manifest_rc = manifest_read(store->dir, store->superblock.uuid, &manifest,
                                        &folder->manifest_error);
    folder->foreign = folder->manifest_rc == ARMDB_OK && !store->read_only &&
                      manifest.edit != store->log.locked.manifest.edit;
    if (!store->read_only) {
        rc = store->dir->io->ops->dir_list(store->dir, look_at_name, folder,
                                           &folder->list_error);
        if (folder->list_rc == ARMDB_OK)
            folder->list_rc = rc;
    }
    adb_mutex_unlock(&store->log.manifest_lock);
    manifest_fini(&manifest);
}

static enum armdb_rc verify_folder(struct verify *v)
{
    struct folder folder = {.store = v->store};
    const struct stray *strays;

    look_at_folder(&folder);
    strays = folder.strays.items;
    if (folder.manifest_rc != ARMDB_OK && folder.manifest_rc != ARMDB_NOMEM)
        report_file(v, MANIFEST_NAME,
                    folder.manifest_rc == ARMDB_NOT_FOUND ? "missing"
                                                          : folder.manifest_error.text);
    if (folder.foreign)
        report_file(v, MANIFEST_NAME,
                    "this is not the manifest that the store wrote last: an older one "
                    "was put back, or another store's");
    if (folder.list_rc != ARMDB_OK && folder.list_rc != ARMDB_NOMEM)
        report_file(v, "", folder.list_error.text);
    for (size_t i = 0; i < folder.strays.count; i++) {
        struct verify_place place = {.file = strays[i].name};

        verify_report(v, &place, "nothing: the next opening removes it if it is ours",
                      "%s", strays[i].kind);
    }
    adb_free(ADB_MEM_LOG, folder.strays.items);
    return folder.manifest_rc == ARMDB_NOMEM || folder.list_rc == ARMDB_NOMEM
               ? verify_nomem(v)
               : ARMDB_OK;
}

static enum armdb_rc verify_lock(struct verify *v)
{
    struct armdb_error error = {.rc = ARMDB_OK};
    bool ours = false;
    enum armdb_rc rc;

    if (v->store->lock_file == NULL)
        return ARMDB_OK;
    rc = store_lock_is_ours(v->store->dir, &ours, &error);
    if (rc == ARMDB_NOMEM)
        return verify_nomem(v);
    if (rc != ARMDB_OK || !ours) {
        struct verify_place place = {.file = ADB_LOCK_NAME};

        verify_report(v, &place, "nothing: it is written anew at the next opening",
                      "the lock file does not hold a process number");
    }
    return ARMDB_OK;
}

/* ---- Tables ---- */

const struct verify_tab *verify_find_tab(struct verify *v, uint64_t id)
{
    if (v->last_tab < v->tab_count && v->tabs[v->last_tab].tab->id == id)
        return &v->tabs[v->last_tab];
    for (size_t i = 0; i < v->tab_count; i++)
        if (v->tabs[i].tab->id == id) {
            v->last_tab = i;
            return &v->tabs[i];
        }
    return NULL;
}

/* Those that are there now; held as by a handle, so that they stay. */
static enum armdb_rc hold_tables(struct verify *v)
{
    struct armdb *store = v->store;
    size_t count = 0;

    adb_mutex_lock(&store->catalog_lock);
    for (const struct tab *tab = store->tabs; tab != NULL; tab = tab->next)
        count++;
    v->tabs = adb_alloc_zero(ADB_MEM_MISC, (count + 1) * sizeof *v->tabs);
    if (v->tabs != NULL)
        for (struct tab *tab = store->tabs; tab != NULL; tab = tab->next) {
            v->tabs[v->tab_count++].tab = tab;
            tab->handles++;
        }
    adb_mutex_unlock(&store->catalog_lock);
    return v->tabs == NULL ? verify_nomem(v) : ARMDB_OK;
}

static void release_tables(struct verify *v)
{
    adb_mutex_lock(&v->store->catalog_lock);
    for (size_t i = 0; i < v->tab_count; i++)
        v->tabs[i].tab->handles--;
    adb_mutex_unlock(&v->store->catalog_lock);
    adb_free(ADB_MEM_MISC, v->tabs);
}

/* The names are for the report alone: a catalogue that cannot be read is a finding of
 * the passes over the log. */
static void name_tables(struct verify *v)
{
    struct armdb_table catalog = catalog_handle(v->session);
    struct armdb_cursor *cursor = NULL;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    struct armdb_error ignored;
    enum armdb_rc rc;

    for (size_t i = 0; i < v->tab_count; i++)
        (void)snprintf(v->tabs[i].name, sizeof v->tabs[i].name,
                       v->tabs[i].tab->id == 0 ? "the catalogue" : "");
    rc = armdb_cursor_open(v->session, &catalog, &cursor, &ignored);
    if (rc == ARMDB_OK)
        rc = armdb_cursor_seek_range(cursor, &all, &ignored);
    while (rc == ARMDB_OK) {
        struct armdb_value value;
        struct catalog_row row;
        const void *key;
        size_t len;

        armdb_cursor_key(cursor, &key, &len);
        if (armdb_cursor_value(cursor, &value, &ignored) == ARMDB_OK &&
            catalog_decode(&value, &row, &ignored) == ARMDB_OK)
            for (size_t i = 0; i < v->tab_count; i++)
                if (v->tabs[i].tab->id == row.id && len < sizeof v->tabs[i].name) {
                    memcpy(v->tabs[i].name, key, len);
                    v->tabs[i].name[len] = '\0';
                }
        rc = armdb_cursor_next(cursor, &ignored);
    }
    armdb_cursor_close(cursor);
}

/* ---- All of it ---- */

static enum armdb_rc take_moment(struct verify *v)
{
    const struct manifest *manifest = &v->moment.manifest;
    struct armdb_error error = {.rc = ARMDB_OK};
    enum armdb_rc rc = log_moment_take(&v->store->log, &v->moment, &error);

    if (is_hard(rc))
        return rc == ARMDB_NOMEM ? verify_nomem(v) : rc;
    if (rc != ARMDB_OK) {
        struct verify_place place = {.file = NULL};

        verify_report(v, &place, "close the store, open it again and verify once more",
                      "the segments cannot be looked at: %s", error.text);
        return ARMDB_OK;
    }
    v->has_moment = true;
    v->segments =
        adb_alloc_zero(ADB_MEM_LOG, manifest->segment_count * sizeof *v->segments + 1);
    if (v->segments == NULL)
        return verify_nomem(v);
    v->segment_count = manifest->segment_count;
    for (size_t i = 0; i < v->segment_count; i++) {
        v->segments[i].listed = manifest->segments[i];
        v->segments[i].slot =
            log_slot(v->store->log.slot_base, manifest->segments[i].number);
        segment_name(manifest->segments[i].number, v->segments[i].name);
    }
    return ARMDB_OK;
}

/* A hint that is wrong costs a scan at the next opening, or worse if nobody noticed. */
static enum armdb_rc verify_hint(struct verify *v, const struct verify_segment *segment)
{
    char name[HINT_NAME_MAX];
    struct verify_place place = {.file = name};
    struct armdb_error error = {.rc = ARMDB_OK};
    struct adb_file *file = NULL;
    const struct adb_io_ops *ops = v->store->dir->io->ops;
    enum armdb_rc rc;

    hint_name(segment->listed.number, name);
    rc = ops->file_open(v->store->dir, name, 0, &file, &error);
    if (rc == ARMDB_NOT_FOUND)
        return ARMDB_OK; /* small and new segments have none */
    if (rc == ARMDB_OK) {
        ops->file_close(file);
        rc = hint_check(v->store, segment->listed.number, &error);
    }
    if (rc == ARMDB_NOMEM)
        return verify_nomem(v);
    if (rc != ARMDB_OK && rc != ARMDB_NOT_FOUND && rc != ARMDB_BUSY)
        verify_report(v, &place, "nothing: the next opening reads the segment instead",
                      "%s", error.text);
    return ARMDB_OK;
}

static enum armdb_rc verify_hints(struct verify *v)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < v->segment_count; i++) {
        rc = verify_check(v);
        if (rc == ARMDB_OK && v->segments[i].readable)
            rc = verify_hint(v, &v->segments[i]);
    }
    return rc;
}

static enum armdb_rc verify_segments(struct verify *v)
{
    bool left = false;
    enum armdb_rc rc = verify_bytes(v);

    if (rc == ARMDB_OK)
        rc = verify_records(v);
    if (rc == ARMDB_OK)
        rc = verify_recheck(v, &left);
    if (rc == ARMDB_OK && left)
        rc = verify_newer(v);
    return rc == ARMDB_OK ? verify_hints(v) : rc;
}

static void verify_fini(struct verify *v)
{
    if (v->probe != NULL)
        v->probe->io->ops->file_close(v->probe);
    for (size_t i = 0; i < v->segment_count; i++)
        adb_free(ADB_MEM_LOG, v->segments[i].known);
    adb_free(ADB_MEM_LOG, v->segments);
    if (v->has_moment)
        log_moment_fini(&v->store->log, &v->moment);
    decisions_fini(&v->decisions);
    adb_free(ADB_MEM_LOG, v->suspects);
    release_tables(v);
    armdb_session_close(v->session);
}

enum armdb_rc armdb_verify(struct armdb *store, const struct armdb_watch *watch,
                           armdb_finding_visit *visit, void *arg, struct armdb_error *err)
{
    struct verify v = {
        .store = store, .watch = watch, .visit = visit, .arg = arg, .err = err};
    enum armdb_rc rc;

    rc = armdb_session_open(store, &v.session, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = verify_superblock(&v);
    if (rc == ARMDB_OK)
        rc = verify_folder(&v);
    if (rc == ARMDB_OK)
        rc = verify_lock(&v);
    if (rc == ARMDB_OK)
        rc = take_moment(&v);
    if (rc == ARMDB_OK)
        rc = hold_tables(&v); /* behind the moment: what is in it has its table here */
    if (rc == ARMDB_OK)
        name_tables(&v);
    if (rc == ARMDB_OK && v.has_moment)
        rc = verify_segments(&v);
    if (rc == ARMDB_OK)
        rc = verify_index(&v);
    verify_fini(&v);
    return rc;
}
