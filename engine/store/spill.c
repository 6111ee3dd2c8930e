/* spill.c - transactions larger than memory's share stream to the log in chunks.
 *
 * When the staged records of a transaction have outgrown the store's share, they all
 * go to the log as one CHUNK frame, each with its ordinal (its place among the
 * transaction's writes), and their memory is given back. Superseded writes go too: a
 * later ROLLBACK TO may bring them back to the top. A chunk takes no GSN, so an open
 * transaction holds up nobody's acknowledgement; it counts only if the CLOSE frame is
 * there, which takes the GSN, gives the number of chunks, their segments, a digest
 * over their checks, and the runs of ordinals that were undone after they had gone out.
 *
 * A segment that holds a chunk stays "open" in the manifest until the transaction has
 * ended, since its highest GSN is not known before. */
#include "engine/store/spill.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"
#include "engine/log/location.h"

/* A chunk's records at most; more than a share goes out in several. */
enum { CHUNK_RECORDS_MAX = 1 << 20 };

static const uint64_t share_bytes_max = UINT64_C(32) << 20;

struct chunk_segment {
    uint64_t number;
    uint32_t chunks;
};

struct void_run {
    uint64_t first;
    uint64_t last;
};

struct spill {
    uint64_t chunk_count;
    uint64_t digest;                /* over the chunks' header checks */
    struct chunk_segment *segments; /* owned */
    size_t segment_count;
    size_t segment_capacity;
    struct void_run *voids; /* owned; runs in the order in which they were undone */
    size_t void_count;
    size_t void_capacity;
};

bool spill_has_chunks(const struct txn *txn)
{
    return txn->spill != NULL && txn->spill->chunk_count > 0;
}

void spill_fini(struct txn *txn)
{
    if (txn->spill == NULL)
        return;
    adb_free(ADB_MEM_TXN, txn->spill->segments);
    adb_free(ADB_MEM_TXN, txn->spill->voids);
    adb_free(ADB_MEM_TXN, txn->spill);
    txn->spill = NULL;
}

void spill_end(struct armdb *store, struct txn *txn, uint64_t gsn)
{
    if (txn->spill == NULL)
        return;
    for (size_t i = 0; i < txn->spill->segment_count; i++)
        log_chunks_ended(&store->log, txn->shard, txn->spill->segments[i].number,
                         txn->spill->segments[i].chunks, gsn);
    spill_fini(txn);
}

bool spill_void(struct txn *txn, const struct txn_write *write)
{
    struct spill *spill = txn->spill;
    struct void_run *run;

    if (!write->spilled)
        return true;
    run = spill->void_count > 0 ? &spill->voids[spill->void_count - 1] : NULL;
    if (run != NULL && run->first == write->ordinal + 1) {
        run->first = write->ordinal;
        return true;
    }
    if (spill->void_count == spill->void_capacity) {
        size_t capacity = spill->void_capacity * 2 + 8;
        struct void_run *grown =
            adb_realloc(ADB_MEM_TXN, spill->voids, capacity * sizeof *grown);

        if (grown == NULL)
            return false;
        spill->voids = grown;
        spill->void_capacity = capacity;
    }
    ADB_ASSERT(spill->voids != NULL);
    spill->voids[spill->void_count].first = write->ordinal;
    spill->voids[spill->void_count++].last = write->ordinal;
    return true;
}

/* ---- Writing a chunk ---- */

/* The record with its ordinal, in memory of the chunk. */
static enum armdb_rc encode_with_ordinal(const struct txn_write *write,
                                         struct bump *memory, struct log_record *out)
{
    struct record record;

    if (record_decode(write->record, write->record_size, &record) != ARMDB_OK)
        return ARMDB_INTERNAL;
    record.flags |= RECORD_HAS_ORDINAL;
    record.ordinal = write->ordinal;
    out->size = record_size(&record);
    out->bytes = bump_alloc(memory, out->size);
    if (out->bytes == NULL)
        return ARMDB_NOMEM;
    record_encode(&record, out->bytes, &out->head_check_at);
    out->ordinal_bytes = out->size - write->record_size;
    out->has_value_check = record.kind == RECORD_PUT;
    out->location = &arena_version(write->tab->arena, write->version)->location;
    return ARMDB_OK;
}

static struct chunk_segment *find_segment(struct spill *spill, uint64_t number)
{
    for (size_t i = spill->segment_count; i > 0; i--)
        if (spill->segments[i - 1].number == number)
            return &spill->segments[i - 1];
    return NULL;
}

/* Room to note one more segment, taken before the chunk is written. */
static enum armdb_rc reserve_segment(struct spill *spill)
{
    size_t capacity = spill->segment_capacity * 2 + 4;
    struct chunk_segment *grown;

    if (spill->segment_count < spill->segment_capacity)
        return ARMDB_OK;
    grown = adb_realloc(ADB_MEM_TXN, spill->segments, capacity * sizeof *grown);
    if (grown == NULL)
        return ARMDB_NOMEM;
    spill->segments = grown;
    spill->segment_capacity = capacity;
    return ARMDB_OK;
}

static void note_chunk(struct spill *spill, uint64_t number, const struct frame *frame)
{
    struct chunk_segment *segment = find_segment(spill, number);

    if (segment == NULL) {
        segment = &spill->segments[spill->segment_count++];
        segment->number = number;
        segment->chunks = 0;
    }
    segment->chunks++;
    spill->chunk_count++;
    spill->digest = frame_chain_chunk(spill->digest, frame->check);
}

/* Appends the records as one chunk and hands them to the kernel, so that their pages
 * can be given to others. */
static enum armdb_rc append_chunk(struct armdb *store, struct txn *txn,
                                  const struct log_record *records, size_t count,
                                  struct armdb_error *err)
{
    struct frame frame = {.kind = FRAME_CHUNK};
    uint64_t number;
    enum armdb_rc rc;

    frame.txid_edit = store->log.txid_edit;
    frame.txid_count = txn->txid_count;
    frame.arg_a = txn->spill->chunk_count;
    if (reserve_segment(txn->spill) != ARMDB_OK)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a large transaction");
    rc = log_append(&store->log, txn->shard, &frame, records, count, NULL, &number, err);
    if (rc != ARMDB_OK)
        return rc;
    note_chunk(txn->spill, number, &frame);
    return log_flush(&store->log, txn->shard, false, err);
}

static enum armdb_rc begin_spill(struct armdb *store, struct txn *txn,
                                 struct armdb_error *err)
{
    if (txn->spill != NULL)
        return ARMDB_OK;
    txn->spill = adb_alloc_zero(ADB_MEM_TXN, sizeof *txn->spill);
    if (txn->spill == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a large transaction");
    txn->spill->digest = FRAME_DIGEST_START;
    txn->txid_count =
        atomic_fetch_add_explicit(&store->log.txid_count, 1, memory_order_relaxed) + 1;
    txn->shard = txn_home_shard(store, txn->last);
    return ARMDB_OK;
}

/* Is there anything of this write to put into a chunk? */
static bool is_staged(const struct txn_write *write)
{
    return write->kind != WRITE_LOCK && !write->spilled;
}

/* Encodes the staged writes, oldest first. `records` has room for all of them. */
static enum armdb_rc encode_staged(const struct txn *txn, struct log_record *records,
                                   size_t count, struct bump *memory,
                                   struct armdb_error *err)
{
    size_t i = count;

    for (struct txn_write *write = txn->last; write != NULL && i > 0;
         write = write->previous) {
        enum armdb_rc rc;

        if (!is_staged(write))
            continue;
        rc = encode_with_ordinal(write, memory, &records[--i]);
        if (rc != ARMDB_OK)
            return ADB_FAIL(rc, err, "out of memory in a large transaction");
    }
    return ARMDB_OK;
}

static enum armdb_rc spill_staged(struct armdb_session *session, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct txn *txn = session->txn;
    struct log_record *records = NULL;
    struct bump memory = {NULL, 0, 0};
    size_t count = 0;

    rc = begin_spill(session->store, txn, err);
    if (rc != ARMDB_OK)
        return rc;
    for (struct txn_write *write = txn->last; write != NULL; write = write->previous)
        count += is_staged(write);
    if (count == 0)
        return ARMDB_OK;
    records = adb_alloc(ADB_MEM_TXN, count * sizeof *records);
    if (records == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory in a large transaction");
    rc = encode_staged(txn, records, count, &memory, err);
    for (size_t done = 0; rc == ARMDB_OK && done < count; done += CHUNK_RECORDS_MAX)
        rc = append_chunk(
            session->store, txn, records + done,
            count - done < CHUNK_RECORDS_MAX ? count - done : CHUNK_RECORDS_MAX, err);
    if (rc == ARMDB_OK) {
        for (struct txn_write *write = txn->last; write != NULL;
             write = write->previous) {
            if (!is_staged(write))
                continue;
            write->spilled = true;
            write->record = NULL;
        }
        bump_fini(&txn->records);
        session->stage_generation++;
    }
    adb_free(ADB_MEM_TXN, records);
    bump_fini(&memory);
    return rc;
}

enum armdb_rc spill_if_large(struct armdb_session *session, struct armdb_error *err)
{
    uint64_t share = session->store->options.cache_size / 4;

    if (share > share_bytes_max)
        share = share_bytes_max;
    if (session->txn->records.total <= share)
        return ARMDB_OK;
    return spill_staged(session, err);
}

/* ---- The closing frame ---- */

static unsigned char *put_field(unsigned char *p, enum frame_field type, uint32_t len)
{
    adb_put_u16(p, (uint16_t)type);
    adb_put_u16(p + 2, 0);
    adb_put_u32(p + 4, len);
    return p + 8;
}

/* The optional area: the chunks' segments and the void runs. */
static unsigned char *encode_optional(const struct spill *spill, uint32_t *len)
{
    size_t segments_len = spill->segment_count * 8;
    size_t voids_len = spill->void_count * 16;
    size_t total = 8 + segments_len + (voids_len > 0 ? 8 + voids_len : 0);
    unsigned char *bytes = adb_alloc(ADB_MEM_TXN, total);
    unsigned char *p;

    if (bytes == NULL)
        return NULL;
    p = put_field(bytes, FRAME_FIELD_CHUNK_SEGMENTS, (uint32_t)segments_len);
    for (size_t i = 0; i < spill->segment_count; i++, p += 8)
        adb_put_u64(p, spill->segments[i].number);
    if (voids_len > 0)
        p = put_field(p, FRAME_FIELD_VOID_RUNS, (uint32_t)voids_len);
    for (size_t i = 0; i < spill->void_count; i++, p += 16) {
        adb_put_u64(p, spill->voids[i].first);
        adb_put_u64(p + 8, spill->voids[i].last);
    }
    *len = (uint32_t)total;
    return bytes;
}

enum armdb_rc spill_close(struct armdb_session *session, struct armdb_error *err)
{
    struct armdb *store = session->store;
    struct txn *txn = session->txn;
    struct frame frame = {.kind = FRAME_CLOSE};
    unsigned char *optional;
    enum armdb_rc rc = spill_staged(session, err);

    if (rc != ARMDB_OK)
        return rc;
    optional = encode_optional(txn->spill, &frame.optional_len);
    if (optional == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory closing a large transaction");
    frame.optional = optional;
    frame.doubt = (enum frame_doubt)txn->doubt;
    frame.txid_edit = store->log.txid_edit;
    frame.txid_count = txn->txid_count;
    frame.arg_a = txn->spill->chunk_count;
    frame.arg_b = txn->spill->digest;
    rc = log_append(&store->log, txn->shard, &frame, NULL, 0, &txn->undecided,
                    &txn->segment_number, err);
    adb_free(ADB_MEM_TXN, optional);
    return rc;
}
