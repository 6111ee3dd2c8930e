/* verify_index.c - the log's records against the index, and the index against the log.
 *
 * Record by record (verify_record): the key's version chain has this very location, or
 * something at least as new. Otherwise the key is a suspect: the newest such record of
 * each key is kept. A suspect that is a delete may be right to have no entry; one that is
 * a put may have been deleted behind the moment, or by a delete that is read later.
 * At the end, what still is a put is looked up again; what remains is held against all
 * that is on the log then: a row can only have left the index after its delete was on
 * the log, perhaps behind the moment, perhaps before it but read while the entry was
 * still there. What is left then was lost.
 *
 * Entry by entry (verify_index): the bit of its place was set when the record there was
 * read, else the record is read now and must be of this key. No change can fool this: a
 * version's location below the moment's lengths was given before the moment, or by
 * compaction, which gives places of the same key alone.
 *
 * Both indexes: what one has must be in the other. Only with the lock of the key's
 * partition that is certain, so that a first look that fails is repeated under it.
 *
 * The count is compared when nobody wrote to the table while its rows were counted, each
 * segment's live bytes when nobody wrote to any, nor compacted, while all were. */
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/location.h"
#include "engine/store/verify_internal.h"

enum { SUSPECTS_MIN = 1024 };

static const char reopen[] =
    "close the store and open it again: the index is built anew from the log; if the "
    "finding stays, restore the store from a backup";

/* ---- One record ---- */

static bool is_known(const struct verify_segment *segment, uint64_t offset)
{
    return segment->known != NULL &&
           (segment->known[offset / 64] >> (offset / 8 % 8) & 1) != 0;
}

/* What a key's chain says about a record. */
struct chain_look {
    bool at_place;   /* a version has this very location */
    bool covered;    /* a settled version is at least as new */
    bool head;       /* the newest version has it */
    uint64_t gsn;    /* of the version with this location, 0: not settled */
    uint32_t length; /* its value_len */
};

/* Inside an epoch. */
static void look_at_chain(const struct tab *tab, struct node *node, uint64_t location,
                          uint64_t gsn, struct chain_look *look)
{
    version_ref ref = atomic_load_explicit(&node->head, memory_order_acquire);
    bool first = true;

    memset(look, 0, sizeof *look);
    for (; ref != 0; first = false) {
        const struct version *version = arena_version(tab->arena, ref);
        /* Both pair with the releases of who places, settles and moves versions. */
        uint64_t word = atomic_load_explicit(&version->word, memory_order_acquire);

        if (atomic_load_explicit(&version->location, memory_order_acquire) == location) {
            look->at_place = true;
            look->head = first;
            look->gsn = (word & 1) != 0 ? word >> 1 : 0;
            look->length = version->value_len;
        }
        if ((word & 1) != 0 && word >> 1 >= gsn)
            look->covered = true;
        ref = atomic_load_explicit(&version->older, memory_order_acquire);
    }
}

static uint64_t location_of(const struct verify *v, size_t segment, uint64_t offset)
{
    return location_make(v->segments[segment].slot, offset);
}

bool verify_is_live(struct verify *v, const struct verify_tab *tab, size_t segment,
                    uint64_t offset, const struct record *record)
{
    const struct tab *rows = tab->tab;
    struct chain_look look = {.at_place = false};
    node_ref ref;

    epoch_enter(v->session->slot);
    ref = hashmap_find(rows->map, hashmap_hash(rows->map, record->key, record->key_len),
                       record->key, record->key_len);
    if (ref != 0)
        look_at_chain(rows, arena_node(rows->arena, ref), location_of(v, segment, offset),
                      0, &look);
    epoch_leave(v->session->slot);
    return look.at_place;
}

/* Does the order index lead to this node? Inside an epoch. */
static bool is_ordered(const struct tab *tab, const struct node *node, node_ref ref)
{
    struct order_from from = {node->key, node_key_len(node), true, false};
    node_ref found = 0;
    size_t count = 0;

    order_scan(tab->order, &from, &found, 1, &count);
    return count == 1 && found == ref;
}

/* Both indexes, or neither, have the node; certain. Inside an epoch. */
static bool indexes_agree(struct tab *tab, const struct node *node, node_ref ref)
{
    uint64_t hash = hashmap_hash(tab->map, node->key, node_key_len(node));
    struct adb_mutex *lock;
    bool hashed;
    bool ordered;

    if (hashmap_find(tab->map, hash, node->key, node_key_len(node)) == ref &&
        is_ordered(tab, node, ref))
        return true;
    lock = hashmap_lock(tab->map, hash);
    hashed = hashmap_find(tab->map, hash, node->key, node_key_len(node)) == ref;
    ordered = is_ordered(tab, node, ref);
    hashmap_unlock(lock);
    return hashed == ordered;
}

/* ---- Suspects ---- */

static struct suspect *suspect_place(const struct verify *v, size_t tab, uint64_t hash)
{
    size_t at = (size_t)(hash ^ (hash >> 32)) & (v->suspect_room - 1);

    while (v->suspects[at].tab != 0 &&
           (v->suspects[at].tab != tab || v->suspects[at].hash != hash))
        at = (at + 1) & (v->suspect_room - 1);
    return &v->suspects[at];
}

static enum armdb_rc grow_suspects(struct verify *v)
{
    struct suspect *old = v->suspects;
    size_t old_room = v->suspect_room;
    size_t room = old_room == 0 ? SUSPECTS_MIN : old_room * 2;
    struct suspect *grown;

    if (v->suspect_count * 4 < old_room * 3)
        return ARMDB_OK;
    grown = adb_alloc_zero(ADB_MEM_LOG, room * sizeof *grown);
    if (grown == NULL)
        return verify_nomem(v);
    v->suspects = grown;
    v->suspect_room = room;
    for (size_t i = 0; i < old_room; i++)
        if (old[i].tab != 0)
            *suspect_place(v, old[i].tab, old[i].hash) = old[i];
    adb_free(ADB_MEM_LOG, old);
    return ARMDB_OK;
}

static enum armdb_rc note_suspect(struct verify *v, const struct suspect *found)
{
    struct suspect *place;
    enum armdb_rc rc = grow_suspects(v);

    if (rc != ARMDB_OK)
        return rc;
    place = suspect_place(v, found->tab, found->hash);
    if (place->tab == 0)
        v->suspect_count++;
    else if (place->gsn > found->gsn ||
             (place->gsn == found->gsn && place->ordinal >= found->ordinal))
        return ARMDB_OK;
    *place = *found;
    return ARMDB_OK;
}

void verify_clear(struct verify *v, const struct record *record, uint64_t gsn,
                  uint64_t ordinal)
{
    const struct verify_tab *tab = verify_find_tab(v, record->table);
    struct suspect *place;

    if (tab == NULL || v->suspect_room == 0)
        return;
    place = suspect_place(v, (size_t)(tab - v->tabs) + 1,
                          hashmap_hash(tab->tab->map, record->key, record->key_len));
    if (place->tab != 0 &&
        (gsn > place->gsn || (gsn == place->gsn && ordinal > place->ordinal)))
        place->cleared = true;
}

/* ---- From the log to the index ---- */

static void check_version(struct verify *v, const struct verify_tab *tab, size_t segment,
                          uint64_t offset, const struct record *record, uint64_t gsn,
                          const struct chain_look *look, bool agree)
{
    struct verify_place place = {.file = v->segments[segment].name,
                                 .has_offset = true,
                                 .offset = offset,
                                 .tab = tab,
                                 .key = record->key,
                                 .key_len = record->key_len};
    uint32_t length =
        record->kind == RECORD_PUT ? (uint32_t)record->value_len : VERSION_DELETED;

    if (look->gsn != 0 && look->gsn != gsn)
        verify_report(v, &place, reopen,
                      "the index has number %llu for the row, the log %llu",
                      (unsigned long long)look->gsn, (unsigned long long)gsn);
    if (look->length != length)
        verify_report(v, &place, reopen,
                      "the index has another length for the row than the log");
    if (!agree)
        verify_report(v, &place, reopen,
                      "the row is in one of the two indexes and not in the other");
}

enum armdb_rc verify_record(struct verify *v, size_t segment, uint64_t offset,
                            const struct record *record, uint64_t gsn, uint64_t ordinal)
{
    const struct verify_tab *tab = verify_find_tab(v, record->table);
    struct chain_look look = {.at_place = false};
    struct suspect suspect = {.gsn = gsn,
                              .ordinal = ordinal,
                              .offset = offset,
                              .segment = segment,
                              .put = record->kind == RECORD_PUT};
    bool agree = true;
    node_ref ref;

    if (tab == NULL || (record->kind != RECORD_PUT && record->kind != RECORD_DELETE))
        return ARMDB_OK;
    suspect.tab = (size_t)(tab - v->tabs) + 1;
    suspect.hash = hashmap_hash(tab->tab->map, record->key, record->key_len);
    epoch_enter(v->session->slot);
    ref = hashmap_find(tab->tab->map, suspect.hash, record->key, record->key_len);
    if (ref != 0) {
        struct node *node = arena_node(tab->tab->arena, ref);

        look_at_chain(tab->tab, node, location_of(v, segment, offset), gsn, &look);
        if (look.head && suspect.put)
            agree = indexes_agree(tab->tab, node, ref);
    }
    epoch_leave(v->session->slot);
    if (look.at_place) {
        v->segments[segment].known[offset / 64] |=
            (unsigned char)(1u << (offset / 8 % 8));
        check_version(v, tab, segment, offset, record, gsn, &look, agree);
        return ARMDB_OK;
    }
    return look.covered ? ARMDB_OK : note_suspect(v, &suspect);
}

/* ---- Single records ---- */

/* Reads the head of the record at a place, whose bytes are in buffer until it is freed
 * with adb_free(ADB_MEM_LOG). ARMDB_NOT_FOUND: no record is there. */
static enum armdb_rc read_record(struct verify *v, size_t at, uint64_t offset,
                                 struct record *record, unsigned char **buffer)
{
    const struct verify_segment *segment = &v->segments[at];
    uint64_t left = segment->listed.length - offset;
    size_t n = left < RECORD_HEAD_MAX ? (size_t)left : RECORD_HEAD_MAX;
    unsigned char head[RECORD_HEAD_MAX] = {0};
    struct armdb_error error;
    enum armdb_rc rc = ARMDB_OK;

    *buffer = NULL;
    if (v->probe == NULL || v->probe_segment != at) {
        const struct adb_io_ops *ops = v->store->dir->io->ops;

        if (v->probe != NULL)
            ops->file_close(v->probe);
        v->probe = NULL;
        v->probe_segment = at;
        rc = ops->file_open(v->store->dir, segment->name, 0, &v->probe, &error);
    }
    if (rc == ARMDB_OK)
        rc = adb_file_read(v->probe, segment->name, head, n, offset, &error);
    if (rc == ARMDB_OK)
        rc = record_decode_head(head, n, record);
    if (rc == ARMDB_OK && record->head_check_at + 8 > left)
        rc = ARMDB_CORRUPT;
    if (rc != ARMDB_OK)
        return rc == ARMDB_NOMEM ? verify_nomem(v) : ARMDB_NOT_FOUND;
    *buffer = adb_alloc(ADB_MEM_LOG, record->head_check_at + 8);
    if (*buffer == NULL)
        return verify_nomem(v);
    rc = adb_file_read(v->probe, segment->name, *buffer, record->head_check_at + 8,
                       offset, &error);
    if (rc == ARMDB_OK)
        rc = record_decode_head(*buffer, record->head_check_at + 8, record);
    if (rc == ARMDB_OK &&
        !record_head_ok(*buffer, record, adb_check_seed(segment->header.identity),
                        offset))
        rc = ARMDB_CORRUPT;
    return rc == ARMDB_OK      ? ARMDB_OK
           : rc == ARMDB_NOMEM ? verify_nomem(v)
                               : ARMDB_NOT_FOUND;
}

/* Is the row of a suspect there after all, or is it right that it is not? */
static enum armdb_rc look_again(struct verify *v, struct suspect *suspect)
{
    const struct tab *tab = v->tabs[suspect->tab - 1].tab;
    struct chain_look look = {.at_place = false};
    struct record record;
    unsigned char *buffer;
    bool present = false;
    enum armdb_rc rc =
        read_record(v, suspect->segment, suspect->offset, &record, &buffer);

    if (rc == ARMDB_OK) {
        node_ref ref;

        epoch_enter(v->session->slot);
        ref = hashmap_find(tab->map, suspect->hash, record.key, record.key_len);
        if (ref != 0) {
            struct node *node = arena_node(tab->arena, ref);
            version_ref head = atomic_load_explicit(&node->head, memory_order_acquire);

            look_at_chain(tab, node, location_of(v, suspect->segment, suspect->offset),
                          suspect->gsn, &look);
            /* Whoever put an open or unsettled version there settles what is below. */
            present =
                head != 0 && (atomic_load_explicit(&arena_version(tab->arena, head)->word,
                                                   memory_order_acquire) &
                              1) == 0;
        }
        epoch_leave(v->session->slot);
        suspect->cleared =
            look.at_place || look.covered || present || (ref == 0 && !suspect->put);
    }
    adb_free(ADB_MEM_LOG, buffer);
    return rc == ARMDB_NOT_FOUND ? ARMDB_OK : rc;
}

enum armdb_rc verify_recheck(struct verify *v, bool *left)
{
    enum armdb_rc rc = ARMDB_OK;

    *left = false;
    for (size_t i = 0; rc == ARMDB_OK && i < v->suspect_room; i++) {
        struct suspect *suspect = &v->suspects[i];

        if (i % SUSPECTS_MIN == 0)
            rc = verify_check(v);
        if (rc == ARMDB_OK && suspect->tab != 0 && !suspect->cleared) {
            rc = look_again(v, suspect);
            *left = *left || !suspect->cleared;
        }
    }
    return rc;
}

static bool is_listed(const struct manifest *manifest, uint64_t number)
{
    for (size_t i = 0; i < manifest->segment_count; i++)
        if (manifest->segments[i].number == number)
            return true;
    return false;
}

static bool is_gone(const struct verify *v, const struct verify_tab *tab)
{
    bool gone;

    adb_mutex_lock(&v->store->catalog_lock);
    gone = tab->tab->unlisted;
    adb_mutex_unlock(&v->store->catalog_lock);
    return gone;
}

void verify_report_suspects(struct verify *v, const struct manifest *now)
{
    for (size_t i = 0; i < v->suspect_room; i++) {
        const struct suspect *suspect = &v->suspects[i];
        struct verify_place place = {.has_offset = true};
        struct record record = {.key = NULL};
        unsigned char *buffer = NULL;

        /* A segment that compaction took meanwhile had nothing live left in it. Of a
         * table that was cleared or dropped meanwhile it may have taken the deletes
         * alone. */
        if (suspect->tab == 0 || suspect->cleared ||
            is_gone(v, &v->tabs[suspect->tab - 1]) ||
            !is_listed(now, v->segments[suspect->segment].listed.number))
            continue;
        place.file = v->segments[suspect->segment].name;
        place.offset = suspect->offset;
        place.tab = &v->tabs[suspect->tab - 1];
        if (read_record(v, suspect->segment, suspect->offset, &record, &buffer) ==
            ARMDB_OK) {
            place.key = record.key;
            place.key_len = record.key_len;
        }
        verify_report(v, &place, reopen,
                      suspect->put ? "the row is on the log and not in the index"
                                   : "the row is in the index, but the log deletes it");
        adb_free(ADB_MEM_LOG, buffer);
    }
}

/* ---- From the index to the log ---- */

/* An entry of the index, copied out of the epoch. */
struct entry {
    uint64_t location;
    uint32_t value_len;
    size_t key_len;
};

/* One walk over a table's order index. */
struct walk {
    struct verify *v;
    const struct verify_tab *tab;
    uint64_t rows; /* that the snapshot sees */
    struct entry entries[ORDER_BATCH_MAX];
    size_t count;
    unsigned char *keys; /* owned: of the entries, one after the other */
    size_t keys_room;
    size_t keys_used;
    size_t last_key; /* where the last one begins */
    size_t last_len;
    bool bad_order;
    bool disagree;
};

/* They come in rising number, which is rising slot. */
static size_t segment_of(const struct verify *v, uint32_t slot)
{
    size_t low = 0;
    size_t high = v->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (v->segments[middle].slot < slot)
            low = middle + 1;
        else
            high = middle;
    }
    return low < v->segment_count && v->segments[low].slot == slot ? low
                                                                   : v->segment_count;
}

static enum armdb_rc keep_key(struct walk *walk, const struct node *node)
{
    size_t len = node_key_len(node);

    if (walk->keys_used + len > walk->keys_room) {
        size_t room = (walk->keys_used + len) * 2 + 1024;
        unsigned char *grown = adb_realloc(ADB_MEM_LOG, walk->keys, room);

        if (grown == NULL)
            return verify_nomem(walk->v);
        walk->keys = grown;
        walk->keys_room = room;
    }
    memcpy(walk->keys + walk->keys_used, node->key, len);
    walk->last_key = walk->keys_used;
    walk->last_len = len;
    walk->keys_used += len;
    return ARMDB_OK;
}

static bool is_logged(const struct entry *entry)
{
    return entry->location != LOCATION_NONE && !location_is_staged(entry->location);
}

static void add_live(struct verify *v, const struct tab *tab, const struct node *node,
                     const struct entry *entry)
{
    size_t segment;

    if (entry->value_len == VERSION_DELETED || !is_logged(entry))
        return;
    segment = segment_of(v, location_slot(entry->location));
    if (segment < v->segment_count)
        v->segments[segment].live += record_bytes(tab, node, entry->value_len);
}

/* Inside an epoch. */
static enum armdb_rc take_node(struct walk *walk, node_ref ref, bool first)
{
    struct tab *tab = walk->tab->tab;
    struct node *node = arena_node(tab->arena, ref);
    struct entry *entry = &walk->entries[walk->count];
    const struct version *version;
    version_ref head;
    bool committed;
    size_t len = node_key_len(node);
    size_t shorter = len < walk->last_len ? len : walk->last_len;
    int order = first ? 1 : memcmp(node->key, walk->keys + walk->last_key, shorter);
    enum armdb_rc rc;

    if (order < 0 || (order == 0 && len <= walk->last_len))
        walk->bad_order = true;
    rc = keep_key(walk, node);
    if (rc != ARMDB_OK)
        return rc;
    if (!indexes_agree(tab, node, ref))
        walk->disagree = true;
    version = version_visible(tab, node, walk->v->session->snapshot, NULL, 0);
    walk->rows += version != NULL && version->value_len != VERSION_DELETED;
    entry->location = LOCATION_NONE;
    entry->key_len = len;
    committed = version != NULL;
    if (!committed) {
        head = atomic_load_explicit(&node->head, memory_order_acquire);
        version = head == 0 ? NULL : arena_version(tab->arena, head);
    }
    if (version != NULL) {
        entry->location = atomic_load_explicit(&version->location, memory_order_acquire);
        entry->value_len = version->value_len;
    }
    if (committed) /* what an open transaction put above it may be rolled back */
        add_live(walk->v, tab, node, entry);
    walk->count++;
    return ARMDB_OK;
}

static enum armdb_rc check_entry(struct walk *walk, const struct entry *entry,
                                 const unsigned char *key)
{
    struct verify *v = walk->v;
    struct verify_place place = {.tab = walk->tab, .key = key, .key_len = entry->key_len};
    uint64_t offset = location_offset(entry->location);
    struct record record;
    unsigned char *buffer;
    size_t segment;
    enum armdb_rc rc;

    if (!is_logged(entry))
        return ARMDB_OK;
    segment = segment_of(v, location_slot(entry->location));
    /* Written behind the moment, or in a file that could not be read: reported. */
    if (segment == v->segment_count || !v->segments[segment].readable ||
        offset >= v->segments[segment].listed.length ||
        is_known(&v->segments[segment], offset))
        return ARMDB_OK;
    rc = read_record(v, segment, offset, &record, &buffer);
    if (rc == ARMDB_OK &&
        (record.table != walk->tab->tab->id || record.key_len != entry->key_len ||
         memcmp(record.key, key, entry->key_len) != 0 ||
         (record.kind == RECORD_PUT ? (uint32_t)record.value_len : VERSION_DELETED) !=
             entry->value_len))
        rc = ARMDB_NOT_FOUND;
    adb_free(ADB_MEM_LOG, buffer);
    if (rc != ARMDB_NOT_FOUND)
        return rc;
    place.file = v->segments[segment].name;
    place.has_offset = true;
    place.offset = offset;
    verify_report(v, &place, reopen,
                  "the index leads to this place for the row, but its record is not "
                  "there");
    return ARMDB_OK;
}

/* The entries of one batch; *more: there may be another one. */
static enum armdb_rc walk_batch(struct walk *walk, bool first, bool *more)
{
    struct verify *v = walk->v;
    node_ref nodes[ORDER_BATCH_MAX];
    struct order_from from = {NULL, 0, false, false};
    size_t count = 0;
    size_t at;
    enum armdb_rc rc = ARMDB_OK;

    if (!first) { /* the last key goes to the front */
        memmove(walk->keys, walk->keys + walk->last_key, walk->last_len);
        walk->last_key = 0;
        walk->keys_used = walk->last_len;
        from.key = walk->keys;
        from.key_len = walk->last_len;
    }
    at = walk->keys_used;
    walk->count = 0;
    epoch_enter(v->session->slot);
    order_scan(walk->tab->tab->order, &from, nodes, ORDER_BATCH_MAX, &count);
    for (size_t i = 0; rc == ARMDB_OK && i < count; i++)
        rc = take_node(walk, nodes[i], first && i == 0);
    epoch_leave(v->session->slot);
    for (size_t i = 0; rc == ARMDB_OK && i < walk->count; i++) {
        rc = check_entry(walk, &walk->entries[i], walk->keys + at);
        at += walk->entries[i].key_len;
    }
    *more = count > 0;
    return rc;
}

static enum armdb_rc walk_table(struct walk *walk)
{
    struct verify_place place = {.tab = walk->tab};
    bool more = true;
    enum armdb_rc rc = ARMDB_OK;

    for (bool first = true; rc == ARMDB_OK && more; first = false) {
        rc = verify_check(walk->v);
        if (rc == ARMDB_OK)
            rc = walk_batch(walk, first, &more);
    }
    if (walk->bad_order)
        verify_report(walk->v, &place, reopen, "the order index is not in order");
    if (walk->disagree)
        verify_report(walk->v, &place, reopen,
                      "the order index and the hash map do not hold the same rows");
    return rc;
}

/* Does anybody write to the table, or is a commit on its way? */
static bool is_quiet(const struct verify *v, const struct tab *tab)
{
    /* Pairs with the release of the last who left: what it counted is seen. */
    return atomic_load_explicit(&tab->users, memory_order_acquire) == 0 &&
           atomic_load_explicit(&v->store->visible, memory_order_seq_cst) ==
               v->session->snapshot;
}

static enum armdb_rc verify_table(struct verify *v, const struct verify_tab *tab)
{
    struct walk walk = {.v = v, .tab = tab};
    struct verify_place place = {.tab = tab};
    uint64_t rows;
    bool quiet;
    enum armdb_rc rc = armdb_snapshot_acquire(v->session, v->err);

    if (rc != ARMDB_OK)
        return rc;
    quiet = is_quiet(v, tab->tab);
    rows = atomic_load_explicit(&tab->tab->live_rows, memory_order_relaxed);
    rc = walk_table(&walk);
    quiet = quiet && is_quiet(v, tab->tab);
    armdb_snapshot_release(v->session);
    adb_free(ADB_MEM_LOG, walk.keys);
    if (rc == ARMDB_OK && quiet && rows != walk.rows)
        verify_report(v, &place, reopen, "%llu rows are there, %llu are counted",
                      (unsigned long long)walk.rows, (unsigned long long)rows);
    return rc;
}

/* What says that nothing has changed between two looks. */
struct calm {
    bool is;
    uint64_t visible;
    uint64_t compactions;
};

/* Only the tables that were held are there, nobody writes to any, and those that went are
 * counted as dead. */
static bool tables_are_calm(const struct verify *v)
{
    struct armdb *store = v->store;
    bool calm;
    size_t count = 0;

    adb_mutex_lock(&store->catalog_lock);
    calm = store->reaping == 0;
    for (const struct tab *tab = store->tabs; tab != NULL; tab = tab->next)
        count++;
    for (size_t i = 0; i < v->tab_count; i++)
        calm = calm && !v->tabs[i].tab->unlisted && /* pairs as in is_quiet() */
               atomic_load_explicit(&v->tabs[i].tab->users, memory_order_acquire) == 0;
    adb_mutex_unlock(&store->catalog_lock);
    return calm && count == v->tab_count;
}

static struct calm look_for_calm(const struct verify *v)
{
    struct compactor *compactor = &v->store->compactor;
    struct calm calm = {.is = false};

    if (!adb_mutex_trylock(&compactor->lock))
        return calm;
    calm.compactions = atomic_load_explicit(&compactor->runs, memory_order_relaxed) +
                       atomic_load_explicit(&compactor->failures, memory_order_relaxed);
    adb_mutex_unlock(&compactor->lock);
    calm.visible = atomic_load_explicit(&v->store->visible, memory_order_seq_cst);
    calm.is = tables_are_calm(v);
    return calm;
}

/* Of the segments that still are listed. */
static ADB_NOT_SHARED bool count_live_bytes(struct verify *v)
{
    struct log *log = &v->store->log;
    bool differs = false;

    adb_mutex_lock(&log->manifest_lock);
    for (size_t i = 0; i < v->segment_count; i++) {
        struct verify_segment *at = &v->segments[i];
        struct segment *segment = segtab_get(&log->segments, at->slot);

        at->counted = at->live;
        if (segment != NULL &&
            manifest_find(&log->locked.manifest, at->listed.number) != NULL)
            at->counted =
                atomic_load_explicit(&segment->live_bytes, memory_order_relaxed);
        differs = differs || at->counted != at->live;
    }
    adb_mutex_unlock(&log->manifest_lock);
    return differs;
}

/* A segment's live bytes, by which compaction chooses, against the rows that are in it.
 */
static void verify_live_bytes(struct verify *v, const struct calm *before)
{
    bool differs = count_live_bytes(v);
    struct calm after;

    if (!differs || !before->is)
        return;
    after = look_for_calm(v);
    if (!after.is || after.visible != before->visible ||
        after.compactions != before->compactions)
        return;
    for (size_t i = 0; i < v->segment_count; i++) {
        const struct verify_segment *segment = &v->segments[i];
        struct verify_place place = {.file = segment->name};

        if (segment->counted != segment->live)
            verify_report(v, &place, reopen,
                          "%llu bytes of rows are in the segment, %llu are counted",
                          (unsigned long long)segment->live,
                          (unsigned long long)segment->counted);
    }
}

enum armdb_rc verify_index(struct verify *v)
{
    struct calm calm;
    enum armdb_rc rc = ARMDB_OK;

    store_settle(v->store, v->session->slot); /* who has ended is no user any more */
    calm = look_for_calm(v);
    for (size_t i = 0; rc == ARMDB_OK && i < v->tab_count; i++)
        rc = verify_table(v, &v->tabs[i]);
    if (rc == ARMDB_OK)
        verify_live_bytes(v, &calm);
    return rc;
}
