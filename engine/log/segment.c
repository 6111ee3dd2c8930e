/* segment.c - opening, creating and finding segments.
 *
 * The table is two levels of atomic pointers: a chunk of 1,024 slots appears when
 * its first slot is given and stays until the store closes, so readers follow two
 * loads and take no lock. Whoever removes a segment clears its slot and frees it
 * when no epoch can hold it any more. */
#include "engine/log/segment.h"

#include <string.h>

#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/base/plant.h"
#include "engine/base/thread.h"

void segtab_init(struct segtab *table)
{
    for (int i = 0; i < SEGTAB_CHUNKS; i++)
        atomic_init(&table->chunks[i], NULL);
}

void segtab_fini(struct segtab *table)
{
    for (int i = 0; i < SEGTAB_CHUNKS; i++) {
        _Atomic(struct segment *) *chunk =
            atomic_load_explicit(&table->chunks[i], memory_order_relaxed);

        if (chunk == NULL)
            continue;
        for (int j = 0; j < SEGTAB_CHUNK; j++)
            segment_close(atomic_load_explicit(&chunk[j], memory_order_relaxed));
        adb_free(ADB_MEM_LOG, chunk);
        atomic_store_explicit(&table->chunks[i], NULL, memory_order_relaxed);
    }
}

enum armdb_rc segtab_add(struct segtab *table, uint32_t slot, struct segment *segment)
{
    _Atomic(struct segment *) *chunk;

    if (slot == 0 || slot / SEGTAB_CHUNK >= SEGTAB_CHUNKS)
        return ARMDB_FULL;
    chunk =
        atomic_load_explicit(&table->chunks[slot / SEGTAB_CHUNK], memory_order_relaxed);
    if (chunk == NULL) {
        chunk = adb_alloc(ADB_MEM_LOG, SEGTAB_CHUNK * sizeof *chunk);
        if (chunk == NULL)
            return ARMDB_NOMEM;
        for (int j = 0; j < SEGTAB_CHUNK; j++)
            atomic_init(&chunk[j], NULL);
        /* Pairs with the acquire in segtab_get(). */
        atomic_store_explicit(&table->chunks[slot / SEGTAB_CHUNK], chunk,
                              memory_order_release);
    }
    segment->slot = slot;
    /* Pairs with the acquire in segtab_get(): who finds it sees its fields. */
    atomic_store_explicit(&chunk[slot % SEGTAB_CHUNK], segment, memory_order_release);
    return ARMDB_OK;
}

void segtab_remove(struct segtab *table, uint32_t slot)
{
    _Atomic(struct segment *) *chunk =
        atomic_load_explicit(&table->chunks[slot / SEGTAB_CHUNK], memory_order_relaxed);

    /* Pairs with the acquire in segtab_get(). */
    atomic_store_explicit(&chunk[slot % SEGTAB_CHUNK], NULL, memory_order_release);
}

static struct segment *allocate_segment(const struct segment_header *header)
{
    struct segment *segment = adb_alloc_zero(ADB_MEM_LOG, sizeof *segment);

    if (segment == NULL)
        return NULL;
    segment->header = *header;
    segment->seed = adb_check_seed(header->identity);
    segment_name(header->number, segment->name);
    atomic_init(&segment->live_bytes, 0);
    atomic_init(&segment->body_bytes, 0);
    atomic_init(&segment->records, 0);
    atomic_init(&segment->compacting, false);
    atomic_init(&segment->written_ns, (int64_t)adb_mono_coarse_ns());
    return segment;
}

/* Writes the header page, makes it and the file's name durable. */
static enum armdb_rc write_header(struct adb_dir *dir, struct segment *segment,
                                  uint64_t reserve, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_NOMEM;
    unsigned char *page =
        adb_alloc_aligned(ADB_MEM_LOG, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);

    if (page == NULL)
        goto out;
    segment_header_encode(&segment->header, page);
    rc = dir->io->ops->file_reserve(segment->file, reserve, false, err);
    if (rc != ARMDB_OK)
        goto out;
    segment->reserved = reserve;
    rc = adb_file_write(segment->file, segment->name, page, SEGMENT_HEADER_BYTES, 0, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = adb_file_sync(segment->file, segment->name, err);
    if (rc != ARMDB_OK)
        goto out;
    if (!ADB_PLANTED("directory_sync_left_out"))
        rc = dir->io->ops->dir_sync(dir, err);
out:
    adb_free_aligned(ADB_MEM_LOG, page);
    return rc;
}

enum armdb_rc segment_create(struct adb_dir *dir, struct cache *cache,
                             const struct segment_header *header, uint64_t reserve,
                             uint64_t bytes_max, bool direct, struct segment **out,
                             struct armdb_error *err)
{
    enum armdb_rc rc;
    struct segment *segment = allocate_segment(header);
    unsigned flags = ADB_OPEN_WRITE | ADB_OPEN_CREATE | (direct ? ADB_OPEN_DIRECT : 0u);
    bool made = false;

    *out = NULL;
    if (segment == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a new segment");
    rc = dir->io->ops->file_open(dir, segment->name, flags, &segment->file, err);
    if (rc != ARMDB_OK)
        goto out;
    made = true;
    rc = write_header(dir, segment, reserve, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = cache_file_create(cache, segment->file, segment->name,
                           bytes_max / CACHE_PAGE_BYTES + 1, &segment->cf);
    if (rc != ARMDB_OK) {
        rc = ADB_FAIL(rc, err, "out of memory for the pages of %s", segment->name);
        goto out;
    }
    segment->length = SEGMENT_FIRST_FRAME;
    *out = segment;
    segment = NULL;
out:
    /* A file that never got into the manifest is nobody's: take it away again. */
    if (segment != NULL && made) {
        struct armdb_error ignored;

        (void)dir->io->ops->dir_unlink(dir, segment->name, &ignored);
    }
    segment_close(segment);
    return rc;
}

/* The header on disk must be the one that the manifest means. */
static enum armdb_rc check_identity(struct segment *segment,
                                    const struct manifest_segment *listed,
                                    const unsigned char store_uuid[16],
                                    struct armdb_error *err)
{
    enum armdb_rc rc;
    unsigned char *page =
        adb_alloc_aligned(ADB_MEM_LOG, SEGMENT_HEADER_BYTES, SEGMENT_HEADER_BYTES);

    if (page == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory");
    rc = adb_file_read(segment->file, segment->name, page, SEGMENT_HEADER_BYTES, 0, err);
    if (rc == ARMDB_OK)
        rc = segment_header_decode(page, segment->name, &segment->header, err);
    if (rc == ARMDB_OK && (memcmp(segment->header.identity, listed->identity, 16) != 0 ||
                           memcmp(segment->header.store_uuid, store_uuid, 16) != 0 ||
                           segment->header.number != listed->number ||
                           segment->header.shard != listed->shard))
        rc = ADB_FAIL(ARMDB_CORRUPT, err,
                      "%s is not the segment that the manifest lists under this name; "
                      "restore the store's own file",
                      segment->name);
    adb_free_aligned(ADB_MEM_LOG, page);
    return rc;
}

/* The file says in wall time when it was written; here the other clock counts. */
static void note_age(struct segment *segment)
{
    struct adb_io *io = segment->file->io;
    uint64_t changed = io->ops->file_changed_ns(segment->file);
    uint64_t wall = io->ops->wall_ns(io);

    if (changed != 0 && changed < wall)
        atomic_store_explicit(&segment->written_ns,
                              (int64_t)adb_mono_coarse_ns() - (int64_t)(wall - changed),
                              memory_order_relaxed);
}

enum armdb_rc segment_open(struct adb_dir *dir, struct cache *cache,
                           const struct manifest_segment *listed,
                           const unsigned char store_uuid[16], bool direct,
                           struct segment **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct segment_header wanted = {.number = listed->number};
    struct segment *segment = allocate_segment(&wanted);

    *out = NULL;
    if (segment == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "out of memory for a segment");
    rc = dir->io->ops->file_open(dir, segment->name, direct ? ADB_OPEN_DIRECT : 0u,
                                 &segment->file, err);
    if (rc == ARMDB_NOT_FOUND)
        rc = ADB_FAIL(ARMDB_CORRUPT, err,
                      "segment %s is missing although the manifest lists it; restore "
                      "the file from a backup",
                      segment->name);
    if (rc != ARMDB_OK)
        goto out;
    rc = check_identity(segment, listed, store_uuid, err);
    if (rc != ARMDB_OK)
        goto out;
    segment->seed = adb_check_seed(segment->header.identity);
    note_age(segment);
    segment->length = listed->length;
    segment->gsn_low = listed->gsn_low;
    segment->gsn_high = listed->gsn_high;
    rc = cache_file_create(cache, segment->file, segment->name,
                           listed->length / CACHE_PAGE_BYTES + 1, &segment->cf);
    if (rc != ARMDB_OK) {
        rc = ADB_FAIL(rc, err, "out of memory for the pages of %s", segment->name);
        goto out;
    }
    *out = segment;
    segment = NULL;
out:
    segment_close(segment);
    return rc;
}

void segment_close(struct segment *segment)
{
    if (segment == NULL)
        return;
    if (segment->cf != NULL)
        cache_file_destroy(segment->cf);
    if (segment->file != NULL)
        segment->file->io->ops->file_close(segment->file);
    adb_free(ADB_MEM_LOG, segment);
}
