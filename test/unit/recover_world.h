/* recover_world.h - folders built frame by frame, and what recovery makes of them.
 * Shared by test_recover.c and test_recover_verdicts.c. */
#ifndef ADB_TEST_UNIT_RECOVER_WORLD_H
#define ADB_TEST_UNIT_RECOVER_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/store/recover.h"
#include "fault_io.h"
#include "log_image.h"

enum { IMAGES_MAX = 8, TEXT_MAX = 2000, ENTRIES_MAX = 100 };

static const unsigned char uuid[16] = "the store's uuid";

struct world {
    struct adb_io *memory;
    struct adb_io *io; /* around memory */
    struct adb_dir *dir;
    struct superblock sb;
    struct manifest manifest;
    struct log_image images[IMAGES_MAX];
    size_t image_count;
    bool lost[IMAGES_MAX];  /* not written */
    size_t cut[IMAGES_MAX]; /* file length, 0 = whole */
};

static inline void open_world(struct world *w)
{
    assert_int_equal(adb_io_mem_create(&w->memory, NULL), ARMDB_OK);
    w->io = fault_io_create(w->memory);
    assert_int_equal(w->io->ops->dir_open(w->io, "/store", true, &w->dir, NULL),
                     ARMDB_OK);
}

static inline void close_world(struct world *w)
{
    w->io->ops->dir_close(w->dir);
    w->io->ops->destroy(w->io);
    w->memory->ops->destroy(w->memory);
}

static inline void begin(struct world *w, uint32_t shards)
{
    memset(w, 0, sizeof *w);
    w->sb.shards = shards;
    memcpy(w->sb.uuid, uuid, 16);
    manifest_init(&w->manifest);
    open_world(w);
}

static inline void finish(struct world *w)
{
    for (size_t i = 0; i < w->image_count; i++)
        image_fini(&w->images[i]);
    manifest_fini(&w->manifest);
    close_world(w);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* A new open segment; numbers count from 1. */
static inline struct log_image *segment(struct world *w, uint32_t shard,
                                        enum segment_kind kind)
{
    struct manifest_segment listed = {.shard = shard, .kind = kind};
    struct log_image *image = &w->images[w->image_count++];

    listed.number = w->manifest.next_segment++;
    image_init(image, uuid, listed.number, shard, kind);
    memcpy(listed.identity, image->header.identity, 16);
    assert_int_equal(manifest_add(&w->manifest, &listed), ARMDB_OK);
    return image;
}

static inline struct log_image *log_of(struct world *w, uint32_t shard)
{
    return segment(w, shard, SEGMENT_LOG);
}

/* Seals the segment in the manifest at its present length. */
static inline void seal(struct world *w, const struct log_image *image, uint64_t low,
                        uint64_t high)
{
    struct manifest_segment *listed = manifest_find(&w->manifest, image->header.number);

    listed->sealed = true;
    listed->length = image->len;
    listed->gsn_low = low;
    listed->gsn_high = high;
}

static inline struct record put(const char *key)
{
    struct record r = {.kind = RECORD_PUT,
                       .table = 1,
                       .key = (const unsigned char *)key,
                       .key_len = strlen(key),
                       .value = (const unsigned char *)"value of this key",
                       .value_len = 17};

    return r;
}

static inline uint64_t add(struct log_image *image, struct frame frame, const char *key)
{
    struct record r = put(key);

    return image_add(image, &frame, &r, 1);
}

static inline uint64_t commit(struct log_image *image, uint64_t gsn, const char *key,
                              uint64_t watermark)
{
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = gsn, .watermark = watermark};

    return add(image, frame, key);
}

static inline void verdict(struct log_image *image, uint64_t gsn, uint64_t target,
                           uint32_t outcome)
{
    struct frame frame = {
        .kind = FRAME_VERDICT, .gsn = gsn, .arg_a = target, .outcome = outcome};

    (void)image_add(image, &frame, NULL, 0);
}

static inline void seal_frame(struct log_image *image)
{
    struct frame frame = {.kind = FRAME_SEAL};

    (void)image_add(image, &frame, NULL, 0);
}

/* Adds chunk `number` and returns its check. */
static inline uint64_t chunk(struct log_image *image, uint64_t txid, uint64_t number,
                             const char *key, uint64_t ordinal)
{
    struct frame frame = {
        .kind = FRAME_CHUNK, .txid_edit = 1, .txid_count = txid, .arg_a = number};
    struct record r = put(key);

    r.flags = RECORD_HAS_ORDINAL;
    r.ordinal = ordinal;
    (void)image_add(image, &frame, &r, 1);
    return frame.check;
}

static inline void close_chunks(struct log_image *image, uint64_t gsn, uint64_t txid,
                                uint64_t count, uint64_t digest, uint64_t void_first,
                                uint64_t void_last)
{
    unsigned char optional[24] = {FRAME_FIELD_VOID_RUNS, 0, 0, 0, 16};
    struct frame frame = {.kind = FRAME_CLOSE,
                          .gsn = gsn,
                          .txid_edit = 1,
                          .txid_count = txid,
                          .arg_a = count,
                          .arg_b = digest};

    adb_put_u64(optional + 8, void_first);
    adb_put_u64(optional + 16, void_last);
    if (void_last != 0) {
        frame.optional = optional;
        frame.optional_len = sizeof optional;
    }
    (void)image_add(image, &frame, NULL, 0);
}

static inline void write_world(struct world *w)
{
    unsigned char *bytes;
    size_t n;

    for (size_t i = 0; i < w->image_count; i++) {
        char name[SEGMENT_NAME_MAX];

        segment_name(w->images[i].header.number, name);
        if (w->cut[i] != 0)
            store_bytes(w->dir, name, w->images[i].bytes, w->cut[i]);
        else if (!w->lost[i])
            image_store(&w->images[i], w->dir, 5000);
    }
    assert_int_equal(manifest_encode(&w->manifest, uuid, &bytes, &n), ARMDB_OK);
    store_bytes(w->dir, MANIFEST_NAME, bytes, n);
    adb_free(ADB_MEM_LOG, bytes);
}

/* ---- Recovering ---- */

struct outcome {
    enum armdb_rc rc;
    uint64_t gsn;
    uint64_t edit;
    bool cut;
    size_t damage;
    uint64_t damage_high;
    unsigned restarts;
    struct armdb_error err;
    char text[TEXT_MAX]; /* "gsn:key gsn:key ..." by GSN, ordinal, key */
};

struct collector {
    struct adb_mutex lock;
    char entries[ENTRIES_MAX][96];
    size_t count;
    unsigned restarts;
    bool overflow;
    uint64_t last_offset[IMAGES_MAX + 1];
    bool disorder;
};

static inline enum armdb_rc collect(void *arg, uint64_t segment_number, uint64_t offset,
                                    const struct record *record, uint64_t gsn,
                                    uint64_t ordinal)
{
    struct collector *c = arg;

    adb_mutex_lock(&c->lock);
    if (c->count == ENTRIES_MAX || segment_number > IMAGES_MAX) {
        c->overflow = true;
    } else {
        /* Sorts by its first characters; they are taken off again. */
        char key[32] = "";

        memcpy(key, record->key, record->key_len < 31 ? record->key_len : 31);
        if (snprintf(c->entries[c->count++], sizeof c->entries[0],
                     "%06llu.%06llu %llu:%s%s", (unsigned long long)gsn,
                     (unsigned long long)ordinal, (unsigned long long)gsn, key,
                     record->value == NULL ? "!" : "") >= (int)sizeof c->entries[0])
            c->overflow = true;
        if (offset <= c->last_offset[segment_number])
            c->disorder = true;
        c->last_offset[segment_number] = offset;
    }
    adb_mutex_unlock(&c->lock);
    return ARMDB_OK;
}

static inline enum armdb_rc forget(void *arg)
{
    struct collector *c = arg;

    c->count = 0;
    c->restarts++;
    memset(c->last_offset, 0, sizeof c->last_offset);
    return ARMDB_OK;
}

static inline int compare_entries(const void *a, const void *b)
{
    return strcmp(a, b);
}

static inline void recover(struct world *w, bool read_only, struct outcome *o)
{
    static struct collector c;
    struct recover_sink sink = {.arg = &c, .record = collect, .restart = forget};
    struct recovered out;

    memset(&c, 0, sizeof c);
    memset(o, 0, sizeof *o);
    assert_int_equal(adb_mutex_init(&c.lock, ADB_RANK_LEAF), ARMDB_OK);
    o->rc = recover_store(w->dir, &w->sb, read_only, 3, &sink, &out, &o->err);
    o->gsn = out.gsn;
    o->edit = out.manifest.edit;
    o->cut = out.cut;
    o->damage = out.damage_count;
    o->restarts = c.restarts;
    for (size_t i = 0; i < out.damage_count; i++) {
        assert_true(out.damage[i].from < out.damage[i].to);
        if (out.damage[i].gsn_high > o->damage_high)
            o->damage_high = out.damage[i].gsn_high;
    }
    if (o->rc == ARMDB_OK) {
        assert_int_equal(out.manifest.watermark, out.gsn);
        for (size_t i = 0; i < out.manifest.segment_count; i++)
            assert_true(out.manifest.segments[i].sealed);
    }
    assert_false(c.overflow);
    assert_false(c.disorder);
    qsort(c.entries, c.count, sizeof c.entries[0], compare_entries);
    for (size_t i = 0; i < c.count; i++) {
        if (i > 0)
            strcat(o->text, " ");
        strcat(o->text, strchr(c.entries[i], ' ') + 1);
    }
    recovered_fini(&out);
    adb_mutex_fini(&c.lock);
}

static inline void assert_outcome(const struct outcome *o, uint64_t gsn, const char *text,
                                  size_t damage)
{
    if (o->rc != ARMDB_OK)
        fail_msg("%s: %s", adb_rc_name(o->rc), o->err.text);
    assert_string_equal(o->text, text);
    assert_int_equal(o->gsn, gsn);
    assert_int_equal(o->damage, damage);
}

/* What three recoveries must give; *first is the first one's outcome. */
static inline void expect_all(struct world *w, uint64_t gsn, const char *text,
                              size_t damage, struct outcome *first)
{
    struct outcome o;
    uint64_t edit;

    write_world(w);
    recover(w, true, first);
    assert_outcome(first, gsn, text, damage);
    recover(w, true, &o);
    assert_outcome(&o, gsn, text, damage);
    recover(w, false, &o);
    assert_outcome(&o, gsn, text, damage);
    assert_int_equal(o.cut, first->cut);
    edit = o.edit;
    recover(w, false, &o);
    assert_outcome(&o, gsn, text, damage);
    assert_int_equal(o.edit, edit); /* nothing was left to do */
    assert_false(o.cut);
    assert_int_equal(o.restarts, 0);
}

static inline void expect(struct world *w, uint64_t gsn, const char *text, size_t damage)
{
    struct outcome first;

    expect_all(w, gsn, text, damage, &first);
}

static inline void expect_refused(struct world *w, enum armdb_rc rc, const char *part)
{
    struct outcome o;

    write_world(w);
    for (int writing = 0; writing < 2; writing++) {
        recover(w, writing == 0, &o);
        assert_int_equal(o.rc, rc);
        if (strstr(o.err.text, part) == NULL)
            fail_msg("\"%s\" does not name \"%s\"", o.err.text, part);
    }
}

static inline bool exists(struct world *w, const char *name)
{
    struct adb_file *file = NULL;

    if (w->io->ops->file_open(w->dir, name, 0, &file, NULL) != ARMDB_OK)
        return false;
    w->io->ops->file_close(file);
    return true;
}

#endif
