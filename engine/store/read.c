/* read.c - from a location to a pinned value.
 *
 * Small records lie within one page: the value is handed out where it lies, with a pin
 * on its frame. Records over a page come in a buffer of their own. A record is verified
 * the first time its bytes are used after they came from the disk; the page's bits
 * remember that (one bit per 64 bytes, so that only records of at least 64 bytes can
 * own one: smaller ones are verified every time, which is cheap for them).
 *
 * Bytes that do not check are ARMDB_CORRUPT with the file's name and the offset: never
 * an absent row. */
#include <stdio.h>
#include <string.h>

#include "engine/base/mem.h"
#include "engine/log/location.h"
#include "engine/store/internal.h"

enum value_kind { VALUE_NONE = 0, VALUE_PAGE, VALUE_LARGE, VALUE_COPY };

enum { VERIFIED_GRANULE = 64, KEY_TEXT_BYTES = 96 };

/* The key as text: printable bytes as they are, others as \\xx. */
static void print_key(const struct fetch *fetch, char text[KEY_TEXT_BYTES])
{
    const unsigned char *key = fetch->key;
    size_t used = 0;

    for (size_t i = 0; i < fetch->key_len && used + 8 < KEY_TEXT_BYTES; i++) {
        bool plain = key[i] >= 0x20 && key[i] < 0x7f && key[i] != '\\';

        used += (size_t)snprintf(text + used, KEY_TEXT_BYTES - used,
                                 plain ? "%c" : "\\%02x", key[i]);
        if (used + 8 >= KEY_TEXT_BYTES && i + 1 < fetch->key_len)
            (void)memcpy(text + used, "...", 4);
    }
    if (fetch->key_len == 0)
        text[0] = '\0';
}

static enum armdb_rc report_damage(const struct segment *segment, uint64_t offset,
                                   const char *what, const struct fetch *fetch,
                                   struct armdb_error *err)
{
    char key[KEY_TEXT_BYTES];

    print_key(fetch, key);
    return ADB_FAIL(ARMDB_CORRUPT, err,
                    "%s of the record at offset %llu of %s is damaged (key %s); write "
                    "the row anew, delete it, or restore the store from a backup",
                    what, (unsigned long long)offset, segment->name, key);
}

/* Is this record, whose bytes start at p, whole, and the one that was looked for? */
static enum armdb_rc check_record(const struct segment *segment, uint64_t offset,
                                  const unsigned char *p, const struct record *record,
                                  const struct fetch *fetch, struct armdb_error *err)
{
    if (!record_head_ok(p, record, segment->seed, offset))
        return report_damage(segment, offset, "the head", fetch, err);
    if (!record_value_ok(p, record, segment->seed, offset))
        return report_damage(segment, offset, "the value", fetch, err);
    if (record->kind != RECORD_PUT || record->table != fetch->tab->id ||
        record->value_len != fetch->value_len || record->key_len != fetch->key_len ||
        (fetch->key_len > 0 && memcmp(record->key, fetch->key, fetch->key_len) != 0))
        return report_damage(segment, offset, "the place", fetch, err);
    return ARMDB_OK;
}

/* ---- Large records ---- */

struct large_check {
    const struct segment *segment;
    uint64_t offset;
    const struct fetch *fetch;
};

static enum armdb_rc verify_large(void *arg, const unsigned char *bytes, uint64_t len,
                                  struct armdb_error *err)
{
    const struct large_check *check = arg;
    struct record record;

    if (record_decode(bytes, (size_t)len, &record) != ARMDB_OK)
        return report_damage(check->segment, check->offset, "the head", check->fetch,
                             err);
    return check_record(check->segment, check->offset, bytes, &record, check->fetch, err);
}

/* The first bytes of a record that may begin at the end of a page. */
static enum armdb_rc read_head(const struct segment *segment, uint64_t offset,
                               const unsigned char *first_page, const struct fetch *fetch,
                               struct record *record, struct armdb_error *err)
{
    enum armdb_rc rc;
    unsigned char head[RECORD_HEAD_MAX];
    size_t in_page = (size_t)(offset % CACHE_PAGE_BYTES);
    size_t left = CACHE_PAGE_BYTES - in_page;
    const unsigned char *second_page = NULL;

    if (left >= RECORD_HEAD_MAX) {
        rc = record_decode_head(first_page + in_page, left, record);
    } else {
        rc = cache_pin(segment->cf, offset / CACHE_PAGE_BYTES + 1, &second_page, err);
        if (rc != ARMDB_OK)
            return rc;
        memcpy(head, first_page + in_page, left);
        memcpy(head + left, second_page, RECORD_HEAD_MAX - left);
        cache_unpin(second_page);
        rc = record_decode_head(head, RECORD_HEAD_MAX, record);
    }
    if (rc != ARMDB_OK)
        return report_damage(segment, offset, "the head", fetch, err);
    return ARMDB_OK;
}

static enum armdb_rc fetch_large(const struct segment *segment, uint64_t offset,
                                 const struct record *record, const struct fetch *fetch,
                                 struct armdb_value *value, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct large_check check = {segment, offset, fetch};
    const unsigned char *bytes;

    /* Never more than the index and the segment allow, whatever the bytes say. */
    if (record->value_len != fetch->value_len || record->key_len != fetch->key_len ||
        record->size > LOCATION_SEGMENT_BYTES_MAX - offset)
        return report_damage(segment, offset, "the head", fetch, err);
    rc = cache_large_pin(segment->cf, offset, record->size, verify_large, &check, &bytes,
                         &value->owner, err);
    if (rc != ARMDB_OK)
        return rc;
    value->data = bytes + record->value_at;
    value->len = record->value_len;
    value->kind = VALUE_LARGE;
    return ARMDB_OK;
}

/* ---- All records ---- */

static enum armdb_rc fetch_logged(const struct segment *segment,
                                  const struct fetch *fetch, struct armdb_value *value,
                                  struct armdb_error *err)
{
    enum armdb_rc rc;
    uint64_t offset = location_offset(fetch->location);
    uint64_t page_no = offset / CACHE_PAGE_BYTES;
    size_t in_page = (size_t)(offset % CACHE_PAGE_BYTES);
    const unsigned char *page = cache_pin_cached(segment->cf, page_no);
    const unsigned char *p;
    struct record record;

    if (page == NULL) {
        rc = cache_pin(segment->cf, page_no, &page, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    p = page + in_page;
    rc = record_decode(p, CACHE_PAGE_BYTES - in_page, &record);
    if (rc != ARMDB_OK) {
        rc = read_head(segment, offset, page, fetch, &record, err);
        if (rc == ARMDB_OK && record.size <= CACHE_PAGE_BYTES)
            rc = report_damage(segment, offset, "the head", fetch, err);
        if (rc == ARMDB_OK)
            rc = fetch_large(segment, offset, &record, fetch, value, err);
        cache_unpin(page);
        return rc;
    }
    if (record.size < VERIFIED_GRANULE || !cache_verified(p)) {
        rc = check_record(segment, offset, p, &record, fetch, err);
        if (rc != ARMDB_OK) {
            cache_unpin(page);
            return rc;
        }
        if (record.size >= VERIFIED_GRANULE)
            cache_set_verified(p);
    }
    value->data = record.value;
    value->len = record.value_len;
    value->kind = VALUE_PAGE;
    value->owner = (void *)(uintptr_t)page;
    return ARMDB_OK;
}

bool value_is_in_page(const struct armdb_value *value)
{
    return value->kind == VALUE_PAGE;
}

void value_pin_again(const struct armdb_value *value)
{
    cache_pin_again(value->owner);
}

bool fetch_beside(const struct fetch *fetch, struct armdb_value *value)
{
    size_t in_page = (size_t)(fetch->location % CACHE_PAGE_BYTES);
    const unsigned char *p = (const unsigned char *)value->owner + in_page;
    struct record record;

    if (record_decode(p, CACHE_PAGE_BYTES - in_page, &record) != ARMDB_OK ||
        record.size < VERIFIED_GRANULE || !cache_verified(p))
        return false;
    value->data = record.value;
    value->len = record.value_len;
    return true;
}

void value_of_copy(struct armdb_value *value, unsigned char *bytes, size_t len)
{
    value->data = bytes;
    value->len = len;
    value->kind = VALUE_COPY;
    value->owner = bytes;
}

/* A row of the session's own transaction, still in its memory: copied, since a
 * rollback may free it at any time. */
static enum armdb_rc fetch_staged(const struct fetch *fetch, struct armdb_value *value,
                                  struct armdb_error *err)
{
    const unsigned char *p = location_staged_bytes(fetch->location);
    struct record record;
    size_t size_max =
        RECORD_HEAD_MAX + 16 + fetch->key_len + (size_t)fetch->value_len + 8;
    unsigned char *copy;

    if (record_decode(p, size_max, &record) != ARMDB_OK)
        return ADB_FAIL(ARMDB_INTERNAL, err, "a staged record cannot be read");
    copy = adb_alloc(ADB_MEM_TXN, record.value_len);
    if (copy == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a value");
    if (record.value_len > 0)
        memcpy(copy, record.value, record.value_len);
    value_of_copy(value, copy, record.value_len);
    return ARMDB_OK;
}

enum armdb_rc fetch_value(struct armdb_session *session, const struct fetch *fetch,
                          struct armdb_value *value, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct segment *segment;
    uint64_t began = 0;

    memset(value, 0, sizeof *value);
    if (location_is_staged(fetch->location))
        return fetch_staged(fetch, value, err);
    if (stat_is_sampled(&session->read_countdown))
        began = adb_mono_ns();
    epoch_enter(session->slot);
    segment = segtab_get(&session->store->log.segments, location_slot(fetch->location));
    rc = segment == NULL ? ARMDB_NOT_FOUND : fetch_logged(segment, fetch, value, err);
    epoch_leave(session->slot);
    if (began != 0)
        histogram_add(&session->store->latencies.read, adb_mono_ns() - began);
    return rc;
}

/* ---- Pins ---- */

void armdb_value_release(struct armdb_value *value)
{
    switch ((enum value_kind)value->kind) {
    case VALUE_NONE:
        break;
    case VALUE_PAGE:
        cache_unpin(value->owner);
        break;
    case VALUE_LARGE:
        cache_large_unpin(value->owner);
        break;
    case VALUE_COPY:
        adb_free(ADB_MEM_TXN, value->owner);
        break;
    }
    memset(value, 0, sizeof *value);
}

static void unpin_page(void *inner)
{
    cache_unpin(inner);
}

armdb_unpin armdb_value_pin(const struct armdb_value *value, const void *inner)
{
    const unsigned char *end = (const unsigned char *)value->data + value->len;

    /* The address behind the last byte may belong to another page. */
    if ((const unsigned char *)inner >= end)
        return NULL;
    switch ((enum value_kind)value->kind) {
    case VALUE_PAGE:
        cache_pin_again(inner);
        return unpin_page;
    case VALUE_LARGE:
        return cache_large_pin_inner(value->owner, inner) ? cache_large_unpin_inner
                                                          : NULL;
    case VALUE_NONE:
    case VALUE_COPY:
        break;
    }
    return NULL;
}
