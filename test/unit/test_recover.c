/* test_recover.c - which records count, for folders built frame by frame.
 *
 * A world is a set of segments and a manifest, written into a memory folder. expect()
 * recovers it three times: read-only (nothing may change), for writing, and once more
 * (nothing may be left to do); all three must give the same GSN, records and damage. */
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

static void open_world(struct world *w)
{
    assert_int_equal(adb_io_mem_create(&w->memory, NULL), ARMDB_OK);
    w->io = fault_io_create(w->memory);
    assert_int_equal(w->io->ops->dir_open(w->io, "/store", true, &w->dir, NULL),
                     ARMDB_OK);
}

static void close_world(struct world *w)
{
    w->io->ops->dir_close(w->dir);
    w->io->ops->destroy(w->io);
    w->memory->ops->destroy(w->memory);
}

static void begin(struct world *w, uint32_t shards)
{
    memset(w, 0, sizeof *w);
    w->sb.shards = shards;
    memcpy(w->sb.uuid, uuid, 16);
    manifest_init(&w->manifest);
    open_world(w);
}

static void finish(struct world *w)
{
    for (size_t i = 0; i < w->image_count; i++)
        image_fini(&w->images[i]);
    manifest_fini(&w->manifest);
    close_world(w);
    assert_int_equal(adb_mem_used_total(), 0);
}

/* A new open segment; numbers count from 1. */
static struct log_image *segment(struct world *w, uint32_t shard, enum segment_kind kind)
{
    struct manifest_segment listed = {.shard = shard, .kind = kind};
    struct log_image *image = &w->images[w->image_count++];

    listed.number = w->manifest.next_segment++;
    image_init(image, uuid, listed.number, shard, kind);
    memcpy(listed.identity, image->header.identity, 16);
    assert_int_equal(manifest_add(&w->manifest, &listed), ARMDB_OK);
    return image;
}

static struct log_image *log_of(struct world *w, uint32_t shard)
{
    return segment(w, shard, SEGMENT_LOG);
}

/* Seals the segment in the manifest at its present length. */
static void seal(struct world *w, const struct log_image *image, uint64_t low,
                 uint64_t high)
{
    struct manifest_segment *listed = manifest_find(&w->manifest, image->header.number);

    listed->sealed = true;
    listed->length = image->len;
    listed->gsn_low = low;
    listed->gsn_high = high;
}

static struct record put(const char *key)
{
    struct record r = {.kind = RECORD_PUT,
                       .table = 1,
                       .key = (const unsigned char *)key,
                       .key_len = strlen(key),
                       .value = (const unsigned char *)"value of this key",
                       .value_len = 17};

    return r;
}

static uint64_t add(struct log_image *image, struct frame frame, const char *key)
{
    struct record r = put(key);

    return image_add(image, &frame, &r, 1);
}

static uint64_t commit(struct log_image *image, uint64_t gsn, const char *key,
                       uint64_t watermark)
{
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = gsn, .watermark = watermark};

    return add(image, frame, key);
}

static void verdict(struct log_image *image, uint64_t gsn, uint64_t target,
                    uint32_t outcome)
{
    struct frame frame = {
        .kind = FRAME_VERDICT, .gsn = gsn, .arg_a = target, .outcome = outcome};

    (void)image_add(image, &frame, NULL, 0);
}

static void seal_frame(struct log_image *image)
{
    struct frame frame = {.kind = FRAME_SEAL};

    (void)image_add(image, &frame, NULL, 0);
}

/* Adds chunk `number` and returns its check. */
static uint64_t chunk(struct log_image *image, uint64_t txid, uint64_t number,
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

static void close_chunks(struct log_image *image, uint64_t gsn, uint64_t txid,
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

static void write_world(struct world *w)
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

static enum armdb_rc collect(void *arg, uint64_t segment_number, uint64_t offset,
                             const struct record *record, uint64_t gsn, uint64_t ordinal)
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

static enum armdb_rc forget(void *arg)
{
    struct collector *c = arg;

    c->count = 0;
    c->restarts++;
    memset(c->last_offset, 0, sizeof c->last_offset);
    return ARMDB_OK;
}

static int compare_entries(const void *a, const void *b)
{
    return strcmp(a, b);
}

static void recover(struct world *w, bool read_only, struct outcome *o)
{
    static struct collector c;
    struct recover_sink sink = {&c, collect, forget};
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

static void assert_outcome(const struct outcome *o, uint64_t gsn, const char *text,
                           size_t damage)
{
    if (o->rc != ARMDB_OK)
        fail_msg("%s: %s", adb_rc_name(o->rc), o->err.text);
    assert_string_equal(o->text, text);
    assert_int_equal(o->gsn, gsn);
    assert_int_equal(o->damage, damage);
}

/* What three recoveries must give; *first is the first one's outcome. */
static void expect_all(struct world *w, uint64_t gsn, const char *text, size_t damage,
                       struct outcome *first)
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

static void expect(struct world *w, uint64_t gsn, const char *text, size_t damage)
{
    struct outcome first;

    expect_all(w, gsn, text, damage, &first);
}

static void expect_refused(struct world *w, enum armdb_rc rc, const char *part)
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

static bool exists(struct world *w, const char *name)
{
    struct adb_file *file = NULL;

    if (w->io->ops->file_open(w->dir, name, 0, &file, NULL) != ARMDB_OK)
        return false;
    w->io->ops->file_close(file);
    return true;
}

/* ---- Undamaged folders ---- */

static void an_empty_store_recovers_to_nothing(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 4);
    expect(&w, 0, "", 0);
    finish(&w);
}

static void segments_without_frames_are_dropped(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 2);
    (void)log_of(&w, 0);
    seal_frame(log_of(&w, 1));
    expect(&w, 0, "", 0);
    assert_false(exists(&w, "0000000000000001.seg"));
    assert_false(exists(&w, "0000000000000002.seg"));
    finish(&w);
}

static void all_commits_of_all_shards_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(b, 3, "c", 1);
    (void)commit(a, 4, "d", 2);
    expect_all(&w, 4, "1:a 2:b 3:c 4:d", 0, &first);
    assert_false(first.cut);
    finish(&w);
}

static void old_segments_and_outputs_are_delivered_with_their_own_gsns(void **state)
{
    struct world w;
    struct log_image *old;
    struct log_image *moved;
    struct frame frame = {.kind = FRAME_MOVED};
    struct record r[2] = {put("m"), put("n")};

    (void)state;
    begin(&w, 1);
    old = log_of(&w, 0);
    (void)commit(old, 4, "a", 3); /* 1 to 3 were compacted */
    seal(&w, old, 4, 4);
    moved = segment(&w, 0, SEGMENT_OUTPUT);
    r[0].flags = RECORD_HAS_GSN;
    r[0].gsn = 3;
    r[1].flags = RECORD_HAS_GSN | RECORD_HAS_ORDINAL;
    r[1].gsn = 1;
    r[1].ordinal = 8;
    (void)image_add(moved, &frame, r, 2);
    seal(&w, moved, 1, 3);
    w.manifest.watermark = 4;
    (void)commit(log_of(&w, 0), 5, "b", 4);
    expect(&w, 5, "1:n 3:m 4:a 5:b", 0);
    finish(&w);
}

static void a_seal_lets_the_shard_go_on_and_its_lack_ends_it(void **state)
{
    (void)state;
    for (int sealed = 0; sealed < 2; sealed++) {
        struct world w;
        struct log_image *first;
        struct outcome o;

        begin(&w, 1);
        first = log_of(&w, 0);
        (void)commit(first, 1, "a", 0);
        if (sealed != 0)
            seal_frame(first);
        (void)commit(log_of(&w, 0), 2, "b", 0);
        expect_all(&w, sealed != 0 ? 2 : 1, sealed != 0 ? "1:a 2:b" : "1:a", 0, &o);
        assert_int_equal(o.cut, sealed == 0);
        assert_int_equal(exists(&w, "0000000000000002.seg"), sealed != 0);
        finish(&w);
    }
}

/* ---- Tears and gaps ---- */

static void a_torn_tail_is_cut_at_every_byte(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 0);
    before = a->len;
    (void)commit(a, 3, "c", 1);
    (void)commit(b, 4, "d", 1);
    for (size_t cut = before; cut < a->len; cut++) {
        w.cut[0] = cut;
        expect(&w, 2, "1:a 2:b", 0);
    }
    w.cut[0] = 0;
    expect(&w, 4, "1:a 2:b 3:c 4:d", 0);
    finish(&w);
}

static void a_frame_behind_a_hole_in_its_own_shard_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 1);
    a->bytes[second + 130] ^= 1; /* its header stays whole */
    expect(&w, 1, "1:a", 0);
    a->bytes[second + 40] ^= 1; /* now the header is gone too */
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void what_follows_a_gap_over_shards_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(a, 3, "c", 2);
    before = a->len;
    (void)commit(a, 4, "lost", 2);
    (void)commit(b, 5, "e", 3);
    (void)commit(b, 6, "f", 3);
    w.cut[0] = before;
    expect_all(&w, 3, "1:a 2:b 3:c", 0, &first);
    assert_true(first.cut);
    finish(&w);
}

static void a_sealed_segment_beyond_the_watermark_is_cut_at_the_gap_too(void **state)
{
    struct world w;
    struct log_image *b;

    (void)state;
    begin(&w, 2);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    b = log_of(&w, 1);
    (void)commit(b, 2, "b", 0);
    (void)commit(b, 4, "d", 1);
    seal(&w, b, 2, 4);
    expect(&w, 2, "1:a 2:b", 0);
    finish(&w);
}

/* ---- Damage ---- */

static void a_gap_below_a_durable_watermark_is_damage_and_nothing_is_cut(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    size_t before;
    struct outcome first;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    before = a->len;
    (void)commit(a, 2, "lost", 1);
    (void)commit(b, 3, "c", 2);
    (void)commit(b, 4, "d", 3); /* 2 and 3 were durable */
    w.cut[0] = before;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_int_equal(first.damage_high, 4);
    finish(&w);
}

static void a_watermark_behind_a_tear_makes_it_damage(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 0);
    (void)commit(a, 4, "d", 3);
    a->bytes[second + 20] ^= 1;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_false(first.cut);
    assert_int_equal(first.damage_high, 4);
    finish(&w);
}

static void damage_below_a_durable_length_is_passed_in_the_middle(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 4};
    uint64_t second;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 0);
    frame.durable_bytes = a->len;
    (void)add(a, frame, "d");
    (void)commit(a, 5, "e", 0);
    a->bytes[second + 20] ^= 1;
    expect(&w, 5, "1:a 3:c 4:d 5:e", 1);
    finish(&w);
}

static void a_frame_whose_header_checks_gives_the_keys_that_check(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame frame = {.kind = FRAME_COMMIT, .gsn = 2};
    struct record r[3] = {put("k1"), put("k2"), put("k3")};
    uint64_t second;
    struct outcome first;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = image_add(a, &frame, r, 3);
    (void)commit(a, 3, "c", 2);
    p = a->bytes + second;
    while (memcmp(p, "k2", 2) != 0)
        p++;
    p[12] ^= 1; /* the value of k2: its key is known, the read will report it */
    expect(&w, 3, "1:a 2:k1 2:k2! 2:k3 3:c", 0);
    p[1] ^= 1; /* its key: what follows in the frame is not known */
    expect_all(&w, 3, "1:a 2:k1 3:c", 1, &first);
    assert_int_equal(first.damage_high, 2);
    finish(&w);
}

static void damage_in_an_old_segment_leaves_the_rest_readable(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t second;
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    second = commit(a, 2, "b", 0);
    (void)commit(a, 3, "c", 1);
    seal(&w, a, 1, 3);
    w.manifest.watermark = 3;
    (void)commit(log_of(&w, 0), 4, "d", 3);
    a->bytes[second + 8] ^= 0x40;
    expect_all(&w, 4, "1:a 3:c 4:d", 1, &first);
    assert_int_equal(first.damage_high, 3);
    /* Shorter than it was sealed. */
    a->bytes[second + 8] ^= 0x40;
    w.cut[0] = second;
    expect(&w, 4, "1:a 4:d", 1);
    finish(&w);
}

static void a_lost_seal_before_durable_frames_is_damage(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    b = log_of(&w, 0);
    (void)commit(b, 2, "b", 1);
    (void)commit(b, 3, "c", 2);
    expect(&w, 3, "1:a 2:b 3:c", 1);
    finish(&w);
}

static void a_durable_gsn_that_no_segment_can_hold_is_refused(void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 3, "c", 2);
    seal(&w, a, 1, 3);
    expect_refused(&w, ARMDB_CORRUPT, "GSN 2");
    finish(&w);
}

/* ---- What is listed, what is not ---- */

static void a_listed_segment_must_be_there_and_be_the_one(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 2);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    (void)commit(log_of(&w, 1), 2, "b", 0);
    w.lost[1] = true;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.lost[1] = false;
    w.manifest.segments[1].identity[3] ^= 1;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.manifest.segments[1].identity[3] ^= 1;
    w.manifest.segments[1].shard = 0;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.manifest.segments[1].shard = 1;
    w.images[1].bytes[100] ^= 1;
    expect_refused(&w, ARMDB_CORRUPT, "0000000000000002.seg");
    w.images[1].bytes[100] ^= 1;
    expect(&w, 2, "1:a 2:b", 0);
    assert_int_equal(w.dir->io->ops->dir_unlink(w.dir, MANIFEST_NAME, NULL), ARMDB_OK);
    {
        struct outcome o;

        recover(&w, false, &o);
        assert_int_equal(o.rc, ARMDB_CORRUPT);
        assert_non_null(strstr(o.err.text, "manifest"));
    }
    finish(&w);
}

static void leftovers_of_this_store_go_and_other_files_stay(void **state)
{
    static const unsigned char other_uuid[16] = "some other store";
    static const char *const ours[] = {"manifest.tmp", "superblock.tmp",
                                       "0000000000000003.seg.tmp", "0000000000000009.seg",
                                       "000000000000000b.seg"};
    static const char *const others[] = {"notes.txt", "x.tmp", "000000000000000a.seg",
                                         "000000000000000C.seg"};
    struct world w;
    struct log_image mine;
    struct log_image foreign;
    struct outcome o;

    (void)state;
    begin(&w, 1);
    (void)commit(log_of(&w, 0), 1, "a", 0);
    image_init(&mine, uuid, 9, 0, SEGMENT_LOG);
    (void)commit(&mine, 1, "never listed", 77);
    image_init(&foreign, other_uuid, 10, 0, SEGMENT_LOG);
    write_world(&w);
    for (size_t i = 0; i < 3; i++)
        store_bytes(w.dir, ours[i], "x", 1);
    image_store(&mine, w.dir, 0);
    store_bytes(w.dir, "000000000000000b.seg", "torn creation", 13);
    for (size_t i = 0; i < 4; i++)
        store_bytes(w.dir, others[i], "x", 1);
    image_store(&foreign, w.dir, 0);
    recover(&w, true, &o);
    assert_outcome(&o, 1, "1:a", 0);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_true(exists(&w, ours[i]));
    recover(&w, false, &o);
    assert_outcome(&o, 1, "1:a", 0);
    for (size_t i = 0; i < sizeof ours / sizeof ours[0]; i++)
        assert_false(exists(&w, ours[i]));
    for (size_t i = 0; i < sizeof others / sizeof others[0]; i++)
        assert_true(exists(&w, others[i]));
    image_fini(&mine);
    image_fini(&foreign);
    finish(&w);
}

static void a_read_only_recovery_changes_no_file(void **state)
{
    struct world w;
    struct log_image *a;
    unsigned char *before;
    unsigned char *after;
    size_t n;
    size_t m;
    struct outcome o;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 3, "c", 0);
    write_world(&w);
    assert_int_equal(adb_file_slurp(w.dir, MANIFEST_NAME, 9999, &before, &n, NULL),
                     ARMDB_OK);
    recover(&w, true, &o);
    assert_outcome(&o, 1, "1:a", 0);
    assert_int_equal(adb_file_slurp(w.dir, MANIFEST_NAME, 9999, &after, &m, NULL),
                     ARMDB_OK);
    assert_int_equal(n, m);
    assert_memory_equal(before, after, n);
    adb_free(ADB_MEM_IO, after);
    assert_int_equal(
        adb_file_slurp(w.dir, "0000000000000001.seg", 99999, &after, &m, NULL), ARMDB_OK);
    assert_int_equal(m, a->len + 5000);
    adb_free(ADB_MEM_IO, before);
    adb_free(ADB_MEM_IO, after);
    finish(&w);
}

/* ---- Verdicts ---- */

static void rules_and_verdicts_decide_prepared_frames(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct frame ask = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT};

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "rolled back", 0);
    ask.gsn = 2;
    (void)add(a, ask, "in by verdict");
    ask.gsn = 3;
    (void)add(a, ask, "out by rule");
    verdict(b, 4, 1, FRAME_OUTCOME_ABORT);
    verdict(b, 5, 2, FRAME_OUTCOME_COMMIT);
    (void)commit(a, 6, "f", 1);
    expect(&w, 6, "2:in by verdict 6:f", 0);
    finish(&w);
}

static void a_verdict_behind_a_gap_does_not_count(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;

    (void)state;
    begin(&w, 2);
    a = log_of(&w, 0);
    b = log_of(&w, 1);
    (void)commit(a, 1, "a", 0);
    verdict(b, 3, 1, FRAME_OUTCOME_ABORT); /* 2 is missing */
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void a_late_abort_makes_the_sink_forget_once(void **state)
{
    struct world w;
    struct log_image *a;
    struct log_image *b;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 3};
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    (void)commit(a, 2, "rolled back", 0);
    (void)add(a, rule, "out by rule");
    seal(&w, a, 1, 3);
    b = log_of(&w, 0);
    verdict(b, 4, 2, FRAME_OUTCOME_ABORT);
    (void)commit(b, 5, "e", 4);
    seal(&w, b, 4, 5);
    w.manifest.watermark = 5;
    expect_all(&w, 5, "1:a 5:e", 0, &first);
    assert_int_equal(first.restarts, 1);
    finish(&w);
}

static void the_manifest_holds_verdicts_and_closes_of_segments_that_are_gone(void **state)
{
    struct world w;
    struct log_image *a;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 3};
    struct outcome first;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)chunk(a, 7, 0, "x", 1);
    (void)chunk(a, 7, 1, "void", 2);
    (void)chunk(a, 8, 0, "never closed", 1);
    (void)commit(a, 2, "out", 0);
    (void)add(a, rule, "in");
    seal(&w, a, 2, 6);
    w.manifest.watermark = 6;
    w.manifest.verdicts = adb_alloc(ADB_MEM_LOG, 2 * sizeof *w.manifest.verdicts);
    w.manifest.verdicts[0] =
        (struct manifest_verdict){.gsn = 3, .outcome = FRAME_OUTCOME_COMMIT};
    w.manifest.verdicts[1] =
        (struct manifest_verdict){.gsn = 2, .outcome = FRAME_OUTCOME_ABORT};
    w.manifest.verdict_count = 2;
    w.manifest.closes = adb_alloc_zero(ADB_MEM_LOG, sizeof *w.manifest.closes);
    w.manifest.closes[0].txid_edit = 1;
    w.manifest.closes[0].txid_count = 7;
    w.manifest.closes[0].gsn = 6;
    w.manifest.closes[0].void_runs = adb_alloc(ADB_MEM_LOG, 16);
    w.manifest.closes[0].void_runs[0] = 2;
    w.manifest.closes[0].void_runs[1] = 2;
    w.manifest.closes[0].void_run_count = 1;
    w.manifest.close_count = 1;
    expect_all(&w, 6, "3:in 6:x", 0, &first);
    assert_int_equal(first.restarts, 0);
    finish(&w);
}

static void a_transaction_that_asks_another_database_is_refused(void **state)
{
    struct world w;
    struct frame ask = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ASK, .gsn = 1};
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)add(a, ask, "a");
    expect_refused(&w, ARMDB_VERSION, "GSN 1");
    verdict(a, 2, 1, FRAME_OUTCOME_COMMIT);
    expect(&w, 2, "1:a", 0);
    finish(&w);
}

/* ---- Chunks ---- */

/* Two chunks in two segments, an ordinal void, closed as GSN 2. */
static void build_chunked(struct world *w, uint64_t watermark)
{
    struct log_image *a = log_of(w, 0);
    struct log_image *b;
    uint64_t digest = FRAME_DIGEST_START;

    (void)commit(a, 1, "a", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 0, "x", 1));
    seal_frame(a);
    b = log_of(w, 0);
    digest = frame_chain_chunk(digest, chunk(b, 5, 1, "void", 2));
    digest = frame_chain_chunk(digest, chunk(b, 5, 2, "y", 3));
    (void)chunk(b, 6, 0, "open", 1);
    close_chunks(b, 2, 5, 3, digest, 2, 2);
    (void)commit(b, 3, "c", watermark);
}

static void chunks_count_with_their_close(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    expect(&w, 3, "1:a 2:x 2:y 3:c", 0);
    finish(&w);
}

static void a_close_that_lacks_a_chunk_is_missing(void **state)
{
    struct world w;
    struct log_image *a;
    uint64_t digest = FRAME_DIGEST_START;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)commit(a, 1, "a", 0);
    digest = frame_chain_chunk(digest, chunk(a, 5, 0, "x", 1));
    digest = frame_chain_chunk(digest, 4711); /* one that is not there */
    close_chunks(a, 2, 5, 2, digest, 0, 0);
    (void)commit(a, 3, "c", 0);
    expect(&w, 1, "1:a", 0);
    (void)commit(a, 4, "d", 2); /* but GSN 2 was durable */
    expect_refused(&w, ARMDB_CORRUPT, "GSN 2");
    finish(&w);
}

static void a_torn_chunk_takes_its_transaction_with_it(void **state)
{
    struct world w;
    struct log_image *b;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    b = &w.images[1];
    p = b->bytes + SEGMENT_FIRST_FRAME;
    while (memcmp(p, "\1\21y", 3) != 0) /* lengths of key and value, key */
        p++;
    p[2] = 'z';
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

static void a_damaged_chunk_is_damage_and_the_rest_is_kept(void **state)
{
    struct world w;
    struct log_image *b;
    unsigned char *p;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 2);
    b = &w.images[1];
    p = b->bytes + SEGMENT_FIRST_FRAME;
    while (memcmp(p, "\1\21y", 3) != 0) /* lengths of key and value, key */
        p++;
    p[2] = 'z';
    expect(&w, 3, "1:a 2:x 3:c", 1);
    finish(&w);
}

static void an_aborted_chunked_transaction_is_out(void **state)
{
    struct world w;

    (void)state;
    begin(&w, 1);
    build_chunked(&w, 0);
    verdict(&w.images[1], 4, 2, FRAME_OUTCOME_ABORT);
    expect(&w, 4, "1:a 3:c", 0);
    finish(&w);
}

static void chunks_without_a_close_do_not_exist(void **state)
{
    struct world w;
    struct log_image *a;

    (void)state;
    begin(&w, 1);
    a = log_of(&w, 0);
    (void)chunk(a, 5, 0, "x", 1);
    (void)commit(a, 1, "a", 0);
    (void)chunk(a, 5, 1, "y", 2);
    expect(&w, 1, "1:a", 0);
    finish(&w);
}

/* ---- Failures ---- */

/* A folder in which every part of recovery has something to do. */
static void build_everything(struct world *w)
{
    struct log_image *old;
    struct log_image *b;
    struct frame rule = {.kind = FRAME_COMMIT, .doubt = FRAME_DOUBT_ABORT, .gsn = 2};

    begin(w, 3);
    old = log_of(w, 1);
    (void)commit(old, 1, "a", 0);
    (void)add(old, rule, "out by rule");
    seal(w, old, 1, 2);
    w->manifest.watermark = 2;
    b = log_of(w, 1);
    (void)commit(b, 3, "c", 2);
    seal_frame(b);
    (void)commit(log_of(w, 2), 4, "d", 2);
    b = log_of(w, 1);
    (void)commit(b, 6, "behind a gap", 3);
    (void)commit(log_of(w, 0), 7, "dropped", 3);
}

#define EVERYTHING "1:a 3:c 4:d"

static void recovery_killed_at_any_call_can_be_done_again(void **state)
{
    (void)state;
    for (int sticky = 0; sticky < 2; sticky++) {
        for (uint64_t n = 1;; n++) {
            struct world w;
            struct outcome o;
            uint64_t calls;

            build_everything(&w);
            write_world(&w);
            store_bytes(w.dir, "0000000000000033.seg", "left over", 9);
            fault_io_fail_at(w.io, n, sticky != 0);
            recover(&w, false, &o);
            calls = fault_io_calls(w.io);
            fault_io_fail_at(w.io, 0, false);
            if (o.rc == ARMDB_OK)
                assert_outcome(&o, 4, EVERYTHING, 0);
            else
                assert_int_equal(o.rc, ARMDB_IO);
            recover(&w, false, &o);
            assert_outcome(&o, 4, EVERYTHING, 0);
            recover(&w, false, &o);
            assert_outcome(&o, 4, EVERYTHING, 0);
            finish(&w);
            if (calls < n) {
                assert_true(n > 40);
                break;
            }
        }
    }
}

static void recovery_without_memory_changes_nothing(void **state)
{
    struct world w;
    struct outcome o;
    uint64_t n = 1;

    (void)state;
    build_everything(&w);
    write_world(&w);
    for (;; n++) {
        adb_mem_fail_at(n, true);
        recover(&w, false, &o);
        adb_mem_fail_at(0, false);
        if (adb_mem_failures() == 0)
            break;
        if (o.rc != ARMDB_OK) /* else: an error after the last step that decides */
            assert_int_equal(o.rc, ARMDB_NOMEM);
    }
    assert_outcome(&o, 4, EVERYTHING, 0);
    assert_true(n > 10);
    finish(&w);
}

static enum armdb_rc refuse(void *arg, uint64_t segment_number, uint64_t offset,
                            const struct record *record, uint64_t gsn, uint64_t ordinal)
{
    const uint64_t *refused = arg;

    (void)segment_number;
    (void)offset;
    (void)record;
    (void)ordinal;
    return gsn == *refused ? ARMDB_FULL : ARMDB_OK;
}

static enum armdb_rc forget_nothing(void *arg)
{
    (void)arg;
    return ARMDB_OK;
}

static void the_sinks_error_ends_the_recovery_and_leaves_the_folder(void **state)
{
    struct world w;
    struct outcome o;

    (void)state;
    build_everything(&w);
    write_world(&w);
    for (unsigned threads = 0; threads < 9; threads += 4) {
        for (uint64_t refused = 1; refused <= 4; refused += 3) { /* each step once */
            struct recover_sink sink = {&refused, refuse, forget_nothing};
            struct armdb_error err = {.rc = ARMDB_OK};
            struct recovered out;

            assert_int_equal(
                recover_store(w.dir, &w.sb, false, threads, &sink, &out, &err),
                ARMDB_FULL);
            assert_int_equal(err.rc, ARMDB_FULL);
            assert_int_not_equal(err.text[0], 0);
        }
    }
    recover(&w, false, &o);
    assert_outcome(&o, 4, EVERYTHING, 0);
    assert_int_equal(o.edit, 1); /* the first replacement */
    finish(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(an_empty_store_recovers_to_nothing),
        cmocka_unit_test(segments_without_frames_are_dropped),
        cmocka_unit_test(all_commits_of_all_shards_count),
        cmocka_unit_test(old_segments_and_outputs_are_delivered_with_their_own_gsns),
        cmocka_unit_test(a_seal_lets_the_shard_go_on_and_its_lack_ends_it),
        cmocka_unit_test(a_torn_tail_is_cut_at_every_byte),
        cmocka_unit_test(a_frame_behind_a_hole_in_its_own_shard_does_not_count),
        cmocka_unit_test(what_follows_a_gap_over_shards_does_not_count),
        cmocka_unit_test(a_sealed_segment_beyond_the_watermark_is_cut_at_the_gap_too),
        cmocka_unit_test(a_gap_below_a_durable_watermark_is_damage_and_nothing_is_cut),
        cmocka_unit_test(a_watermark_behind_a_tear_makes_it_damage),
        cmocka_unit_test(damage_below_a_durable_length_is_passed_in_the_middle),
        cmocka_unit_test(a_frame_whose_header_checks_gives_the_keys_that_check),
        cmocka_unit_test(damage_in_an_old_segment_leaves_the_rest_readable),
        cmocka_unit_test(a_lost_seal_before_durable_frames_is_damage),
        cmocka_unit_test(a_durable_gsn_that_no_segment_can_hold_is_refused),
        cmocka_unit_test(a_listed_segment_must_be_there_and_be_the_one),
        cmocka_unit_test(leftovers_of_this_store_go_and_other_files_stay),
        cmocka_unit_test(a_read_only_recovery_changes_no_file),
        cmocka_unit_test(rules_and_verdicts_decide_prepared_frames),
        cmocka_unit_test(a_verdict_behind_a_gap_does_not_count),
        cmocka_unit_test(a_late_abort_makes_the_sink_forget_once),
        cmocka_unit_test(
            the_manifest_holds_verdicts_and_closes_of_segments_that_are_gone),
        cmocka_unit_test(a_transaction_that_asks_another_database_is_refused),
        cmocka_unit_test(chunks_count_with_their_close),
        cmocka_unit_test(a_close_that_lacks_a_chunk_is_missing),
        cmocka_unit_test(a_torn_chunk_takes_its_transaction_with_it),
        cmocka_unit_test(a_damaged_chunk_is_damage_and_the_rest_is_kept),
        cmocka_unit_test(an_aborted_chunked_transaction_is_out),
        cmocka_unit_test(chunks_without_a_close_do_not_exist),
        cmocka_unit_test(recovery_killed_at_any_call_can_be_done_again),
        cmocka_unit_test(recovery_without_memory_changes_nothing),
        cmocka_unit_test(the_sinks_error_ends_the_recovery_and_leaves_the_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
