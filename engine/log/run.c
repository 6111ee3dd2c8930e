/* run.c - reading runs, and the bytes of an entry.
 *
 *   block:  | entry | entry | ...                     ends with the entry that passes 32
 * KiB entry:  | flags 1 | table? | shared | rest | offset | gsn | ordinal? | value_len? |
 *           | the key's last `rest` bytes |           all numbers are varints
 *
 * A key gives only what it does not share with the one before it; the first of a block
 * shares nothing and names its table. So a block needs nothing but itself, and a search
 * looks at the first keys of blocks alone.
 *
 * run_verify() reads a run as one reads a stranger's bytes. A cursor then reads what it
 * knows to be right: loading a store decodes each entry twice, and the second time, in
 * the middle of a merge, there is nothing that could go wrong. */
#include "engine/log/run.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/log/run_block.h"

int run_compare_keys(const struct run_entry *a, const struct run_entry *b)
{
    size_t n = a->key_len < b->key_len ? a->key_len : b->key_len;
    int order;

    if (a->table != b->table)
        return a->table < b->table ? -1 : 1;
    order = n == 0 ? 0 : memcmp(a->key, b->key, n);
    if (order != 0)
        return order;
    return (a->key_len > b->key_len) - (a->key_len < b->key_len);
}

void run_fini(struct run *run)
{
    adb_free(ADB_MEM_LOG, run->bytes);
    adb_free(ADB_MEM_LOG, run->blocks);
    memset(run, 0, sizeof *run);
}

uint64_t run_bytes(const struct run *run)
{
    return run->len + run->block_count * sizeof *run->blocks;
}

/* ---- Verifying ---------------------------------------------------------------- */

/* One entry as it stands: nothing is believed. */
struct strange {
    struct run_entry entry; /* its key: the part that is not shared */
    uint64_t shared;
};

static bool get_number(const unsigned char **p, const unsigned char *end, uint64_t *value)
{
    size_t n = adb_get_varint(*p, (size_t)(end - *p), value);

    *p += n;
    return n > 0;
}

static bool decode_strange(const struct run *run, const unsigned char **p,
                           const unsigned char *end, bool first, struct strange *s)
{
    struct run_entry *e = &s->entry;
    uint64_t value_len = 0;
    uint64_t rest;
    unsigned flags;

    if (*p == end)
        return false;
    flags = *(*p)++;
    if ((flags & ~(unsigned)RUN_FLAGS) != 0 || (first && (flags & RUN_TABLE) == 0))
        return false;
    if ((flags & RUN_TABLE) != 0 && !get_number(p, end, &e->table))
        return false;
    e->ordinal = 0;
    if (!get_number(p, end, &s->shared) || !get_number(p, end, &rest) ||
        !get_number(p, end, &e->offset) || !get_number(p, end, &e->gsn) ||
        ((flags & RUN_ORDINAL) != 0 && !get_number(p, end, &e->ordinal)) ||
        ((flags & RUN_DELETED) == 0 && !get_number(p, end, &value_len)))
        return false;
    if (rest > (uint64_t)(end - *p) || value_len >= UINT32_MAX ||
        e->gsn > UINT64_MAX - run->gsn_base)
        return false;
    e->deleted = (flags & RUN_DELETED) != 0;
    e->value_len = (uint32_t)value_len;
    e->gsn += run->gsn_base;
    e->key = *p;
    e->key_len = (size_t)rest;
    *p += rest;
    return true;
}

/* What run_verify() knows of the entry before. */
struct before {
    bool any;
    uint64_t table;
    unsigned char *key; /* owned, run->key_max bytes */
    size_t key_len;
};

/* Does the entry follow the one before? Across blocks nothing is shared; then the whole
 * keys are compared, else what differs decides. */
static bool follows(const struct before *before, const struct strange *s)
{
    struct run_entry old = {.table = before->table};

    if (!before->any)
        return s->shared == 0;
    if (s->shared > before->key_len)
        return false;
    if (s->entry.table != before->table && s->shared > 0)
        return false;
    old.key = before->key + s->shared;
    old.key_len = before->key_len - (size_t)s->shared;
    return run_compare_keys(&old, &s->entry) < 0;
}

static bool is_within(const struct run_entry *e, const struct run_limits *limits)
{
    return e->offset >= limits->offset_low && e->offset < limits->offset_end &&
           e->value_len < limits->offset_end - e->offset && e->gsn >= limits->gsn_low &&
           e->gsn <= limits->gsn_high;
}

static bool verify_block(const struct run *run, const struct run_block *block,
                         const struct run_limits *limits, struct before *before,
                         size_t *key_max)
{
    const unsigned char *p = run->bytes + block->at;
    const unsigned char *end = p + block->len;
    struct strange s = {.shared = 0};

    for (uint32_t i = 0; i < block->count; i++) {
        size_t key_len;

        if (!decode_strange(run, &p, end, i == 0, &s) || (i == 0 && s.shared != 0) ||
            s.shared > run->key_max || s.entry.key_len > run->key_max - s.shared ||
            !follows(before, &s) || !is_within(&s.entry, limits))
            return false;
        key_len = (size_t)s.shared + s.entry.key_len;
        memcpy(before->key + s.shared, s.entry.key, s.entry.key_len);
        before->key_len = key_len;
        before->table = s.entry.table;
        before->any = true;
        if (key_len > *key_max)
            *key_max = key_len;
    }
    return p == end;
}

bool run_verify(const struct run *run, const struct run_limits *limits)
{
    struct before before = {.any = false};
    uint64_t entries = 0;
    uint64_t at = 0;
    size_t key_max = 0;
    bool ok = run->key_max < RUN_KEY_MAX && run->key_max <= run->len;

    if (ok)
        before.key = adb_alloc(ADB_MEM_LOG, run->key_max);
    ok = ok && before.key != NULL;
    for (size_t i = 0; ok && i < run->block_count; i++) {
        const struct run_block *block = &run->blocks[i];

        ok = block->at == at && block->count > 0 && block->len <= run->len - at &&
             verify_block(run, block, limits, &before, &key_max);
        at += block->len;
        entries += block->count;
    }
    adb_free(ADB_MEM_LOG, before.key);
    return ok && at == run->len && entries == run->entries && key_max == run->key_max;
}

/* ---- Reading ------------------------------------------------------------------ */

enum armdb_rc run_cursor_init(struct run_cursor *cursor, const struct run *run)
{
    memset(cursor, 0, sizeof *cursor);
    cursor->run = run;
    cursor->key = adb_alloc(ADB_MEM_LOG, run->key_max + sizeof(uint64_t));
    return cursor->key != NULL ? ARMDB_OK : ARMDB_NOMEM;
}

void run_cursor_fini(struct run_cursor *cursor)
{
    adb_free(ADB_MEM_LOG, cursor->key);
    cursor->key = NULL;
}

void run_seek_block(struct run_cursor *cursor, size_t block)
{
    cursor->block = block;
    cursor->left = 0;
}

/* A varint that is known to be whole. */
static inline const unsigned char *get_known(const unsigned char *p, uint64_t *value)
{
    uint64_t v = *p & 0x7fu;

    for (unsigned shift = 7; (*p++ & 0x80) != 0; shift += 7)
        v |= (uint64_t)(*p & 0x7fu) << shift;
    *value = v;
    return p;
}

bool run_next(struct run_cursor *cursor, struct run_entry *entry)
{
    const unsigned char *p = cursor->p;
    uint64_t shared;
    uint64_t rest;
    uint64_t value_len = 0;
    unsigned flags;

    if (cursor->left == 0) {
        const struct run_block *block;

        if (cursor->block >= cursor->run->block_count)
            return false;
        block = &cursor->run->blocks[cursor->block++];
        p = cursor->run->bytes + block->at;
        cursor->left = block->count;
    }
    flags = *p++;
    if ((flags & RUN_TABLE) != 0)
        p = get_known(p, &cursor->table);
    p = get_known(p, &shared);
    p = get_known(p, &rest);
    p = get_known(p, &entry->offset);
    p = get_known(p, &entry->gsn);
    entry->ordinal = 0;
    if ((flags & RUN_ORDINAL) != 0)
        p = get_known(p, &entry->ordinal);
    if ((flags & RUN_DELETED) == 0)
        p = get_known(p, &value_len);
    memcpy(cursor->key + shared, p, rest);
    cursor->p = p + rest;
    cursor->left--;
    entry->table = cursor->table;
    entry->key = cursor->key;
    entry->key_len = (size_t)(shared + rest);
    entry->gsn += cursor->run->gsn_base;
    entry->value_len = (uint32_t)value_len;
    entry->deleted = (flags & RUN_DELETED) != 0;
    return true;
}

void run_seek(struct run_cursor *cursor, const struct run_entry *key)
{
    size_t low = 0; /* blocks below it begin below the key */
    size_t high = cursor->run->block_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        struct run_entry first;

        run_seek_block(cursor, middle);
        if (run_next(cursor, &first) && run_compare_keys(&first, key) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    run_seek_block(cursor, low == 0 ? 0 : low - 1);
}
