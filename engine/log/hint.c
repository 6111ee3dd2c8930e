/* hint.c - hint files.
 *
 * Order of the file: blocks of the run, index of the blocks, filter, notes, footer. The
 * footer has fixed size and stands last, so that everything is written once and front to
 * back. Checks form a tree: the footer's own, in it those of index, filter and notes, in
 * the index one per block. So one read binds the whole file to the segment, and every
 * block can still be read and checked alone; no byte is outside the tree, for the parts
 * fill the file without gaps. All are bound to the segment's identity and to their place,
 * and the footer repeats what the manifest says of the segment and how its bytes end.
 *
 * Reading takes the whole file into memory and verifies every entry at once: whoever uses
 * it later meets no surprise, and a hint that is no good is known before anything was
 * built from it. That costs the bytes of a run (some 25 a key of 16 bytes) while a store
 * is opened, a third of what the key takes in the index afterwards.
 *
 * The filter is a Bloom filter whose six bits for a key lie in one cache line: ten bits
 * a key, about 1% false "may hold".
 *
 * A segment with range deletes or cleared tables has no hint: their effect reaches keys
 * that a list of keys does not name. */
#include "engine/log/hint.h"

#include <assert.h>
#include <stdio.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"

enum { /* on disk: never renumber */
       HINT_VERSION = 1,
       AT_VERSION = 8,
       AT_ZERO_WORD = 12,
       AT_UUID = 16,
       AT_IDENTITY = 32,
       AT_NUMBER = 48,
       AT_LENGTH = 56,
       AT_GSN_LOW = 64,
       AT_GSN_HIGH = 72,
       AT_END_RAW = 80,
       AT_WATERMARK = 88,
       AT_RECORD_BYTES = 96,
       AT_ENTRIES = 104,
       AT_GSN_BASE = 112,
       AT_KEY_MAX = 120,
       AT_BLOCKS = 128,
       AT_INDEX = 136,
       AT_INDEX_CHECK = 144,
       AT_FILTER_LINES = 152,
       AT_FILTER_CHECK = 160,
       AT_NOTES = 168,
       AT_NOTES_BYTES = 176,
       AT_NOTES_CHECK = 184,
       AT_RECORDS = 192,
       AT_CHECK = 200,
       FOOTER_BYTES = 208,
       INDEX_BYTES = 24
};

enum {
    LINE_BYTES = 64,
    KEY_FILTER_BITS = 10,
    PROBES = 6,
    END_BYTES = 4096,
    NOTE_NUMBERS = 12,
    HINT_BYTES_MAX = 0x7fffffff /* no larger hint is written or read */
};

static const unsigned char magic[8] = {'a', 'r', 'm', 'd', 'b', 'H', 'n', 't'};
static const char suffix[] = ".hint";
static const char temporary_suffix[] = ".hint.tmp";

static_assert(16 + sizeof temporary_suffix <= HINT_NAME_MAX, "a name has room");

static void make_name(uint64_t number, const char *end, char *name)
{
    (void)snprintf(name, HINT_NAME_MAX, "%016llx%s", (unsigned long long)number, end);
}

void hint_name(uint64_t number, char *name)
{
    make_name(number, suffix, name);
}

bool hint_name_parse(const char *name, uint64_t *number, bool *temporary)
{
    char segment[SEGMENT_NAME_MAX];

    if (strlen(name) < 16)
        return false;
    *temporary = strcmp(name + 16, temporary_suffix) == 0;
    if (!*temporary && strcmp(name + 16, suffix) != 0)
        return false;
    (void)snprintf(segment, sizeof segment, "%.16s.seg", name);
    return segment_name_parse(segment, number);
}

void hint_fini(struct hint *hint)
{
    run_fini(&hint->run);
    for (size_t i = 0; i < hint->note_count; i++)
        adb_free(ADB_MEM_LOG, hint->notes[i].void_runs);
    adb_free(ADB_MEM_LOG, hint->notes);
    memset(hint, 0, sizeof *hint);
}

enum armdb_rc hint_segment_end(struct adb_file *segment, const char *name,
                               const struct manifest_segment *listed, uint64_t *raw,
                               struct armdb_error *err)
{
    unsigned char *page = adb_alloc_aligned(ADB_MEM_LOG, END_BYTES, END_BYTES);
    uint64_t from = listed->length < END_BYTES ? 0 : listed->length - END_BYTES;
    size_t n = (size_t)(listed->length - from);
    enum armdb_rc rc = ARMDB_NOMEM;

    *raw = 0;
    if (page == NULL)
        return ADB_FAIL(rc, err, "no memory to read the segment %s", name);
    rc = adb_file_read(segment, name, page, n, from, err);
    if (rc == ARMDB_OK)
        *raw = adb_check_raw(page, n);
    adb_free_aligned(ADB_MEM_LOG, page);
    return rc;
}

/* ---- Filter ------------------------------------------------------------------- */

static uint64_t key_hash(uint64_t table, const unsigned char *key, size_t key_len)
{
    return adb_hash_seeded(key, key_len, table * UINT64_C(0x9E3779B97F4A7C15) + 1);
}

/* Position of a key's line, and the word that its bits are taken from, 9 at a time. */
static uint64_t filter_line(uint64_t lines, uint64_t hash, uint64_t *bits)
{
    *bits = hash * UINT64_C(0xD6E8FEB86659FD93);
    *bits ^= *bits >> 32;
    return (((hash >> 32) * lines) >> 32) * LINE_BYTES;
}

static void filter_set(unsigned char *filter, uint64_t lines, uint64_t hash)
{
    uint64_t bits;
    unsigned char *line = filter + filter_line(lines, hash, &bits);

    for (int i = 0; i < PROBES; i++, bits >>= 9)
        line[(bits & 511) / 8] |= (unsigned char)(1u << (bits & 7));
}

bool hint_may_hold(const struct hint_filter *filter, uint64_t table,
                   const unsigned char *key, size_t key_len)
{
    uint64_t bits;
    const unsigned char *line =
        filter->lines + filter_line(filter->count, key_hash(table, key, key_len), &bits);

    for (int i = 0; i < PROBES; i++, bits >>= 9)
        if ((line[(bits & 511) / 8] & (1u << (bits & 7))) == 0)
            return false;
    return true;
}

void hint_filter_fini(struct hint_filter *filter)
{
    adb_free(ADB_MEM_LOG, filter->lines);
    memset(filter, 0, sizeof *filter);
}

static uint64_t filter_lines_for(uint64_t entries)
{
    return entries * KEY_FILTER_BITS / (8 * LINE_BYTES) + 1;
}

static enum armdb_rc fill_filter(const struct run *run, unsigned char *filter,
                                 uint64_t lines)
{
    struct run_cursor cursor;
    struct run_entry e;
    enum armdb_rc rc = run_cursor_init(&cursor, run);

    memset(filter, 0, (size_t)lines * LINE_BYTES);
    while (rc == ARMDB_OK && run_next(&cursor, &e))
        filter_set(filter, lines, key_hash(e.table, e.key, e.key_len));
    run_cursor_fini(&cursor);
    return rc;
}

/* ---- Notes: numbers one behind the other ---------------------------------------- */

static void list_numbers(const struct hint_note *note, uint64_t n[NOTE_NUMBERS])
{
    const uint64_t numbers[NOTE_NUMBERS] = {(uint64_t)note->kind,
                                            (uint64_t)note->doubt,
                                            note->outcome,
                                            note->offset,
                                            note->end,
                                            note->gsn,
                                            note->txid_edit,
                                            note->txid_count,
                                            note->arg_a,
                                            note->arg_b,
                                            note->check,
                                            note->void_run_count};

    memcpy(n, numbers, sizeof numbers);
}

static size_t notes_bytes(const struct hint *hint)
{
    size_t bytes = 0;

    for (size_t i = 0; i < hint->note_count; i++)
        bytes += 8 * (NOTE_NUMBERS + 2 * hint->notes[i].void_run_count);
    return bytes;
}

static void put_notes(const struct hint *hint, unsigned char *p)
{
    for (size_t i = 0; i < hint->note_count; i++) {
        const struct hint_note *note = &hint->notes[i];
        uint64_t n[NOTE_NUMBERS];

        list_numbers(note, n);
        for (size_t k = 0; k < NOTE_NUMBERS; k++, p += 8)
            adb_put_u64(p, n[k]);
        for (size_t k = 0; k < 2 * note->void_run_count; k++, p += 8)
            adb_put_u64(p, note->void_runs[k]);
    }
}

static bool note_is_sound(const struct hint_note *note,
                          const struct manifest_segment *listed)
{
    if (note->kind != FRAME_CLOSE && note->kind != FRAME_VERDICT)
        return false;
    if (note->kind == FRAME_VERDICT && note->outcome != FRAME_OUTCOME_COMMIT &&
        note->outcome != FRAME_OUTCOME_ABORT)
        return false;
    if (note->doubt != FRAME_DOUBT_COMMIT)
        return false;
    for (size_t i = 0; i < note->void_run_count; i++)
        if (note->void_runs[2 * i] > note->void_runs[2 * i + 1] ||
            (i > 0 && note->void_runs[2 * i] <= note->void_runs[2 * i - 1]))
            return false;
    return note->gsn >= listed->gsn_low && note->gsn <= listed->gsn_high &&
           note->offset < note->end && note->end <= listed->length;
}

/* Reads one note; *p moves behind it. */
static enum armdb_rc get_note(const unsigned char **p, const unsigned char *end,
                              const struct manifest_segment *listed,
                              struct hint_note *note)
{
    uint64_t n[NOTE_NUMBERS];
    uint64_t left = (uint64_t)(end - *p) / 8;

    if (left < NOTE_NUMBERS)
        return ARMDB_CORRUPT;
    for (size_t k = 0; k < NOTE_NUMBERS; k++, *p += 8)
        n[k] = adb_get_u64(*p);
    if (n[0] > FRAME_SEAL || n[1] > FRAME_DOUBT_ASK || n[2] > UINT32_MAX ||
        n[NOTE_NUMBERS - 1] > (left - NOTE_NUMBERS) / 2)
        return ARMDB_CORRUPT;
    *note = (struct hint_note){.kind = (enum frame_kind)n[0],
                               .doubt = (enum frame_doubt)n[1],
                               .outcome = (uint32_t)n[2],
                               .offset = n[3],
                               .end = n[4],
                               .gsn = n[5],
                               .txid_edit = n[6],
                               .txid_count = n[7],
                               .arg_a = n[8],
                               .arg_b = n[9],
                               .check = n[10]};
    if (n[11] > 0) {
        note->void_runs =
            adb_alloc(ADB_MEM_LOG, (size_t)n[11] * 2 * sizeof *note->void_runs);
        if (note->void_runs == NULL)
            return ARMDB_NOMEM;
        note->void_run_count = (size_t)n[11];
    }
    for (size_t k = 0; k < 2 * note->void_run_count; k++, *p += 8)
        note->void_runs[k] = adb_get_u64(*p);
    return note_is_sound(note, listed) ? ARMDB_OK : ARMDB_CORRUPT;
}

static enum armdb_rc get_notes(const unsigned char *p, size_t n,
                               const struct manifest_segment *listed, struct hint *hint)
{
    const unsigned char *end = p + n;
    size_t room = n / (8 * NOTE_NUMBERS);
    enum armdb_rc rc = ARMDB_OK;

    hint->notes = adb_alloc_zero(ADB_MEM_LOG, room * sizeof *hint->notes);
    if (hint->notes == NULL)
        return ARMDB_NOMEM;
    while (rc == ARMDB_OK && p < end) {
        if (hint->note_count == room)
            return ARMDB_CORRUPT;
        rc = get_note(&p, end, listed, &hint->notes[hint->note_count++]);
    }
    return rc;
}

/* ---- Writing ------------------------------------------------------------------ */

static uint64_t part_check(uint64_t seed, const unsigned char *p, uint64_t n, uint64_t at)
{
    return adb_check_bind(adb_check_raw(p, (size_t)n), seed, at);
}

/* Where the parts of a hint lie. */
struct layout {
    uint64_t index;
    uint64_t filter;
    uint64_t filter_lines;
    uint64_t notes;
    uint64_t notes_bytes;
    uint64_t footer;
};

static struct layout lay_out(const struct hint *hint)
{
    struct layout l;

    l.index = hint->run.len;
    l.filter = l.index + hint->run.block_count * INDEX_BYTES;
    l.filter_lines = filter_lines_for(hint->run.entries);
    l.notes = l.filter + l.filter_lines * LINE_BYTES;
    l.notes_bytes = notes_bytes(hint);
    l.footer = l.notes + l.notes_bytes;
    return l;
}

static void put_index(const struct run *run, uint64_t seed, unsigned char *p)
{
    for (size_t i = 0; i < run->block_count; i++, p += INDEX_BYTES) {
        const struct run_block *block = &run->blocks[i];

        adb_put_u64(p, block->at);
        adb_put_u32(p + 8, block->len);
        adb_put_u32(p + 12, block->count);
        adb_put_u64(p + 16,
                    part_check(seed, run->bytes + block->at, block->len, block->at));
    }
}

/* `tail` holds everything behind the blocks. */
static void put_footer(const unsigned char store_uuid[16],
                       const struct manifest_segment *listed, uint64_t end_raw,
                       const struct hint *hint, const struct layout *l,
                       unsigned char *tail)
{
    uint64_t seed = adb_check_seed(listed->identity);
    unsigned char *footer = tail + (l->footer - l->index);

    memset(footer, 0, FOOTER_BYTES);
    memcpy(footer, magic, sizeof magic);
    adb_put_u32(footer + AT_VERSION, HINT_VERSION);
    memcpy(footer + AT_UUID, store_uuid, 16);
    memcpy(footer + AT_IDENTITY, listed->identity, 16);
    adb_put_u64(footer + AT_NUMBER, listed->number);
    adb_put_u64(footer + AT_LENGTH, listed->length);
    adb_put_u64(footer + AT_GSN_LOW, listed->gsn_low);
    adb_put_u64(footer + AT_GSN_HIGH, listed->gsn_high);
    adb_put_u64(footer + AT_END_RAW, end_raw);
    adb_put_u64(footer + AT_WATERMARK, hint->watermark_max);
    adb_put_u64(footer + AT_RECORD_BYTES, hint->record_bytes);
    adb_put_u64(footer + AT_RECORDS, hint->record_count);
    adb_put_u64(footer + AT_ENTRIES, hint->run.entries);
    adb_put_u64(footer + AT_GSN_BASE, hint->run.gsn_base);
    adb_put_u64(footer + AT_KEY_MAX, hint->run.key_max);
    adb_put_u64(footer + AT_BLOCKS, hint->run.block_count);
    adb_put_u64(footer + AT_INDEX, l->index);
    adb_put_u64(footer + AT_INDEX_CHECK,
                part_check(seed, tail, l->filter - l->index, l->index));
    adb_put_u64(footer + AT_FILTER_LINES, l->filter_lines);
    adb_put_u64(footer + AT_FILTER_CHECK, part_check(seed, tail + (l->filter - l->index),
                                                     l->notes - l->filter, l->filter));
    adb_put_u64(footer + AT_NOTES, hint->note_count);
    adb_put_u64(footer + AT_NOTES_BYTES, l->notes_bytes);
    adb_put_u64(footer + AT_NOTES_CHECK,
                part_check(seed, tail + (l->notes - l->index), l->notes_bytes, l->notes));
    adb_put_u64(footer + AT_CHECK, part_check(seed, footer, AT_CHECK, l->footer));
}

/* Index, filter, notes and footer in memory; NULL without. */
static unsigned char *make_tail(const unsigned char store_uuid[16],
                                const struct manifest_segment *listed, uint64_t end_raw,
                                const struct hint *hint, const struct layout *l)
{
    unsigned char *tail =
        adb_alloc(ADB_MEM_LOG, (size_t)(l->footer - l->index) + FOOTER_BYTES);

    if (tail == NULL)
        return NULL;
    put_index(&hint->run, adb_check_seed(listed->identity), tail);
    if (fill_filter(&hint->run, tail + (l->filter - l->index), l->filter_lines) !=
        ARMDB_OK) {
        adb_free(ADB_MEM_LOG, tail);
        return NULL;
    }
    put_notes(hint, tail + (l->notes - l->index));
    put_footer(store_uuid, listed, end_raw, hint, l, tail);
    return tail;
}

static enum armdb_rc write_file(struct adb_dir *dir, const char *name,
                                const struct hint *hint, const struct layout *l,
                                const unsigned char *tail, struct armdb_error *err)
{
    const struct adb_io_ops *ops = dir->io->ops;
    struct adb_file *file = NULL;
    enum armdb_rc rc = ops->dir_unlink(dir, name, err);

    if (rc != ARMDB_OK && rc != ARMDB_NOT_FOUND)
        return rc;
    rc = ops->file_open(dir, name, ADB_OPEN_WRITE | ADB_OPEN_CREATE, &file, err);
    if (rc != ARMDB_OK)
        return rc;
    if (hint->run.len > 0)
        rc = adb_file_write(file, name, hint->run.bytes, hint->run.len, 0, err);
    if (rc == ARMDB_OK)
        rc = adb_file_write(file, name, tail,
                            (size_t)(l->footer - l->index) + FOOTER_BYTES, l->index, err);
    if (rc == ARMDB_OK)
        rc = adb_file_sync(file, name, err);
    ops->file_close(file);
    if (rc != ARMDB_OK) {
        struct armdb_error ignored; /* what is left the next opening removes */

        (void)ops->dir_unlink(dir, name, &ignored);
    }
    return rc;
}

enum armdb_rc hint_write(struct adb_dir *dir, const unsigned char store_uuid[16],
                         const struct manifest_segment *listed, uint64_t end_raw,
                         const struct hint *hint, struct armdb_error *err)
{
    struct layout l = lay_out(hint);
    char name[HINT_NAME_MAX];
    unsigned char *tail;
    enum armdb_rc rc;

    make_name(listed->number, temporary_suffix, name);
    if (l.footer > HINT_BYTES_MAX - FOOTER_BYTES)
        return ADB_FAIL(ARMDB_FULL, err, "the hint %s would be too large", name);
    tail = make_tail(store_uuid, listed, end_raw, hint, &l);
    if (tail == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to write the hint %s", name);
    rc = write_file(dir, name, hint, &l, tail, err);
    adb_free(ADB_MEM_LOG, tail);
    return rc;
}

enum armdb_rc hint_install(struct adb_dir *dir, uint64_t number, struct armdb_error *err)
{
    char from[HINT_NAME_MAX];
    char to[HINT_NAME_MAX];

    make_name(number, temporary_suffix, from);
    make_name(number, suffix, to);
    return dir->io->ops->dir_rename(dir, from, to, err);
}

void hint_remove(struct adb_dir *dir, uint64_t number)
{
    struct armdb_error ignored;
    char name[HINT_NAME_MAX];

    make_name(number, temporary_suffix, name);
    (void)dir->io->ops->dir_unlink(dir, name, &ignored);
    make_name(number, suffix, name);
    (void)dir->io->ops->dir_unlink(dir, name, &ignored);
}

/* ---- Reading ------------------------------------------------------------------ */

/* One file being read. */
struct reader {
    struct adb_file *file; /* owned */
    char name[HINT_NAME_MAX];
    uint64_t seed;
    struct layout layout;
    unsigned char footer[FOOTER_BYTES];
};

static enum armdb_rc refuse(const struct reader *r, const char *what,
                            struct armdb_error *err)
{
    return ADB_FAIL(ARMDB_CORRUPT, err, "the hint %s cannot be used: %s", r->name, what);
}

static enum armdb_rc check_binding(const struct reader *r, const unsigned char uuid[16],
                                   const struct manifest_segment *listed,
                                   uint64_t end_raw, struct armdb_error *err)
{
    const unsigned char *footer = r->footer;

    if (memcmp(footer, magic, sizeof magic) != 0 ||
        adb_get_u64(footer + AT_CHECK) !=
            part_check(r->seed, footer, AT_CHECK, r->layout.footer))
        return refuse(r, "its end is damaged, or another segment's", err);
    if (adb_get_u32(footer + AT_VERSION) != HINT_VERSION)
        return ADB_FAIL(ARMDB_VERSION, err, "the hint %s has format version %u", r->name,
                        adb_get_u32(footer + AT_VERSION));
    if (memcmp(footer + AT_UUID, uuid, 16) != 0 ||
        memcmp(footer + AT_IDENTITY, listed->identity, 16) != 0 ||
        adb_get_u64(footer + AT_NUMBER) != listed->number)
        return refuse(r, "it is another segment's", err);
    if (adb_get_u64(footer + AT_LENGTH) != listed->length ||
        adb_get_u64(footer + AT_GSN_LOW) != listed->gsn_low ||
        adb_get_u64(footer + AT_GSN_HIGH) != listed->gsn_high ||
        adb_get_u64(footer + AT_END_RAW) != end_raw)
        return refuse(r, "its segment has another length, or other bytes", err);
    return ARMDB_OK;
}

/* The parts fill the file. */
static enum armdb_rc check_layout(struct reader *r, struct armdb_error *err)
{
    const unsigned char *footer = r->footer;
    struct layout *l = &r->layout;
    uint64_t blocks = adb_get_u64(footer + AT_BLOCKS);

    l->index = adb_get_u64(footer + AT_INDEX);
    l->filter_lines = adb_get_u64(footer + AT_FILTER_LINES);
    l->notes_bytes = adb_get_u64(footer + AT_NOTES_BYTES);
    if (adb_get_u32(footer + AT_ZERO_WORD) != 0 || l->index > l->footer ||
        blocks > l->footer / INDEX_BYTES || l->filter_lines == 0 ||
        l->filter_lines > l->footer / LINE_BYTES || l->notes_bytes > l->footer ||
        l->notes_bytes % 8 != 0)
        return refuse(r, "its parts do not fill it", err);
    l->filter = l->index + blocks * INDEX_BYTES;
    l->notes = l->filter + l->filter_lines * LINE_BYTES;
    if (l->notes + l->notes_bytes != l->footer)
        return refuse(r, "its parts do not fill it", err);
    return ARMDB_OK;
}

/* Opens the file and takes its footer in. The caller owes close_reader(). */
static enum armdb_rc open_reader(struct adb_dir *dir, const unsigned char uuid[16],
                                 const struct manifest_segment *listed, uint64_t end_raw,
                                 struct reader *r, struct armdb_error *err)
{
    uint64_t size = 0;
    enum armdb_rc rc;

    memset(r, 0, sizeof *r);
    make_name(listed->number, suffix, r->name);
    r->seed = adb_check_seed(listed->identity);
    rc = dir->io->ops->file_open(dir, r->name, 0, &r->file, err);
    if (rc == ARMDB_OK)
        rc = dir->io->ops->file_size(r->file, &size, err);
    if (rc == ARMDB_OK && (size < FOOTER_BYTES || size > HINT_BYTES_MAX))
        rc = refuse(r, "no hint is of this length", err);
    if (rc != ARMDB_OK)
        return rc;
    r->layout.footer = size - FOOTER_BYTES;
    rc = adb_file_read(r->file, r->name, r->footer, FOOTER_BYTES, r->layout.footer, err);
    if (rc == ARMDB_OK)
        rc = check_binding(r, uuid, listed, end_raw, err);
    return rc == ARMDB_OK ? check_layout(r, err) : rc;
}

static void close_reader(struct reader *r)
{
    if (r->file != NULL)
        r->file->io->ops->file_close(r->file);
}

/* The bytes [from, to) of the file in memory of their own, checked. */
static enum armdb_rc read_part(const struct reader *r, uint64_t from, uint64_t to,
                               size_t check_at, unsigned char **out,
                               struct armdb_error *err)
{
    size_t n = (size_t)(to - from);
    enum armdb_rc rc = ARMDB_OK;

    *out = adb_alloc(ADB_MEM_LOG, n);
    if (*out == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to read the hint %s", r->name);
    if (n > 0)
        rc = adb_file_read(r->file, r->name, *out, n, from, err);
    if (rc == ARMDB_OK && check_at != 0 &&
        part_check(r->seed, *out, n, from) != adb_get_u64(r->footer + check_at))
        rc = refuse(r, "index, filter or notes are damaged", err);
    return rc;
}

/* The index as a run's blocks; each block's check. */
static enum armdb_rc take_index(const struct reader *r, const unsigned char *index,
                                struct run *run, struct armdb_error *err)
{
    uint64_t at = 0;

    run->blocks = adb_alloc(ADB_MEM_LOG, run->block_count * sizeof *run->blocks);
    if (run->blocks == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to read the hint %s", r->name);
    for (size_t i = 0; i < run->block_count; i++, index += INDEX_BYTES) {
        struct run_block *block = &run->blocks[i];

        block->at = adb_get_u64(index);
        block->len = adb_get_u32(index + 8);
        block->count = adb_get_u32(index + 12);
        if (block->at != at || block->len > run->len - at ||
            part_check(r->seed, run->bytes + at, block->len, at) !=
                adb_get_u64(index + 16))
            return refuse(r, "a block is damaged", err);
        at += block->len;
    }
    return ARMDB_OK;
}

static enum armdb_rc take_run(const struct reader *r,
                              const struct manifest_segment *listed, struct run *run,
                              struct armdb_error *err)
{
    const struct run_limits limits = {.offset_low = SEGMENT_FIRST_FRAME,
                                      .offset_end = listed->length,
                                      .gsn_low = listed->gsn_low,
                                      .gsn_high = listed->gsn_high};
    const struct layout *l = &r->layout;
    unsigned char *index = NULL;
    enum armdb_rc rc = read_part(r, 0, l->index, 0, &run->bytes, err);

    run->len = (size_t)l->index;
    run->block_count = (size_t)adb_get_u64(r->footer + AT_BLOCKS);
    run->entries = adb_get_u64(r->footer + AT_ENTRIES);
    run->gsn_base = adb_get_u64(r->footer + AT_GSN_BASE);
    run->key_max = (size_t)adb_get_u64(r->footer + AT_KEY_MAX);
    if (rc == ARMDB_OK)
        rc = read_part(r, l->index, l->filter, AT_INDEX_CHECK, &index, err);
    if (rc == ARMDB_OK)
        rc = take_index(r, index, run, err);
    if (rc == ARMDB_OK && !run_verify(run, &limits))
        rc = refuse(r, "an entry cannot be right", err);
    adb_free(ADB_MEM_LOG, index);
    return rc;
}

enum armdb_rc hint_read(struct adb_dir *dir, const unsigned char store_uuid[16],
                        const struct manifest_segment *listed, uint64_t end_raw,
                        struct hint *hint, struct armdb_error *err)
{
    struct reader r;
    unsigned char *part = NULL;
    enum armdb_rc rc = open_reader(dir, store_uuid, listed, end_raw, &r, err);

    memset(hint, 0, sizeof *hint);
    if (rc == ARMDB_OK)
        rc = take_run(&r, listed, &hint->run, err);
    if (rc == ARMDB_OK) /* not used here, but no byte may be wrong */
        rc = read_part(&r, r.layout.filter, r.layout.notes, AT_FILTER_CHECK, &part, err);
    adb_free(ADB_MEM_LOG, part);
    part = NULL;
    if (rc == ARMDB_OK)
        rc = read_part(&r, r.layout.notes, r.layout.footer, AT_NOTES_CHECK, &part, err);
    if (rc == ARMDB_OK) {
        rc = get_notes(part, (size_t)r.layout.notes_bytes, listed, hint);
        if (rc == ARMDB_OK && hint->note_count != adb_get_u64(r.footer + AT_NOTES))
            rc = ARMDB_CORRUPT;
        if (rc == ARMDB_CORRUPT)
            rc = refuse(&r, "a note cannot be right", err);
        else if (rc != ARMDB_OK)
            rc = ADB_FAIL(rc, err, "no memory to read the hint %s", r.name);
    }
    hint->watermark_max = adb_get_u64(r.footer + AT_WATERMARK);
    hint->record_bytes = adb_get_u64(r.footer + AT_RECORD_BYTES);
    hint->record_count = adb_get_u64(r.footer + AT_RECORDS);
    if (rc == ARMDB_OK && hint->record_count < hint->run.entries)
        rc = refuse(&r, "it counts fewer records than keys", err);
    adb_free(ADB_MEM_LOG, part);
    close_reader(&r);
    if (rc != ARMDB_OK)
        hint_fini(hint);
    return rc;
}

enum armdb_rc hint_filter_read(struct adb_dir *dir, const unsigned char store_uuid[16],
                               const struct manifest_segment *listed, uint64_t end_raw,
                               struct hint_filter *filter, struct armdb_error *err)
{
    struct reader r;
    enum armdb_rc rc = open_reader(dir, store_uuid, listed, end_raw, &r, err);

    memset(filter, 0, sizeof *filter);
    if (rc == ARMDB_OK)
        rc = read_part(&r, r.layout.filter, r.layout.notes, AT_FILTER_CHECK,
                       &filter->lines, err);
    filter->count = r.layout.filter_lines;
    close_reader(&r);
    if (rc != ARMDB_OK)
        hint_filter_fini(filter);
    return rc;
}
