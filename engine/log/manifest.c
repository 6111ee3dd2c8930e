/* manifest.c - the list of segments, as a structure and as a file.
 *
 * The manifest is small (56 bytes a segment) and replaced whole, so there is no log
 * of edits and no partly applied state: a reader finds the old one or the new one.
 * In memory it is a struct of sorted arrays that its owner changes under its own
 * lock; a change that must not be seen before it is durable is made on a copy
 * (manifest_copy, manifest_write, then swap).
 *
 * Decoding checks everything that later code relies on: counts against the file's
 * length before any allocation, numbers rising and below next_segment, lengths
 * within the largest segment, GSN ranges the right way round. */
#include "engine/log/manifest.h"

#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/check.h"
#include "engine/base/mem.h"
#include "engine/log/frame.h"
#include "engine/log/location.h"
#include "engine/log/record.h"

enum { /* on disk: never renumber */
       MANIFEST_VERSION = 1,
       AT_VERSION = 8,
       AT_ZERO_WORD = 12,
       AT_UUID = 16,
       AT_LENGTH = 32,
       AT_EDIT = 40,
       AT_NEXT_SEGMENT = 48,
       AT_WATERMARK = 56,
       AT_FEED_HORIZON = 64,
       AT_NEXT_TABLE = 72,
       AT_SEGMENTS = 80,
       AT_VERDICTS = 88,
       AT_CLOSES = 96,
       HEADER_BYTES = 104,
       SEGMENT_BYTES = 56,
       VERDICT_BYTES = 16,
       CLOSE_BYTES = 32,
       RUN_BYTES = 16,
       CHECK_BYTES = 8
};

enum { MANIFEST_BYTES_MAX = 1 << 30 };

static const unsigned char magic[8] = {'a', 'r', 'm', 'd', 'b', 'M', 'a', 'n'};

void manifest_init(struct manifest *manifest)
{
    memset(manifest, 0, sizeof *manifest);
    manifest->next_segment = 1;
    manifest->feed_horizon = 1;
    manifest->next_table = 1;
}

void manifest_fini(struct manifest *manifest)
{
    for (size_t i = 0; i < manifest->close_count; i++)
        adb_free(ADB_MEM_LOG, manifest->closes[i].void_runs);
    adb_free(ADB_MEM_LOG, manifest->segments);
    adb_free(ADB_MEM_LOG, manifest->verdicts);
    adb_free(ADB_MEM_LOG, manifest->closes);
    manifest_init(manifest);
}

/* A copy of n bytes; NULL for none, with *ok telling that apart from no memory. */
static void *copy_bytes(const void *from, size_t n, bool *ok)
{
    void *to;

    if (n == 0)
        return NULL;
    to = adb_alloc(ADB_MEM_LOG, n);
    if (to == NULL)
        *ok = false;
    else
        memcpy(to, from, n);
    return to;
}

enum armdb_rc manifest_copy(const struct manifest *from, struct manifest *to)
{
    struct manifest copy = *from;
    bool ok = true;

    copy.segments =
        copy_bytes(from->segments, from->segment_count * sizeof *from->segments, &ok);
    copy.verdicts =
        copy_bytes(from->verdicts, from->verdict_count * sizeof *from->verdicts, &ok);
    copy.closes = copy_bytes(from->closes, from->close_count * sizeof *from->closes, &ok);
    if (copy.closes == NULL)
        copy.close_count = 0;
    for (size_t i = 0; i < copy.close_count; i++) {
        const struct manifest_close *close = &from->closes[i];

        copy.closes[i].void_runs = copy_bytes(
            close->void_runs, close->void_run_count * 2 * sizeof *close->void_runs, &ok);
    }
    if (!ok) {
        manifest_fini(&copy);
        return ARMDB_NOMEM;
    }
    manifest_fini(to);
    *to = copy;
    return ARMDB_OK;
}

/* Place of the first segment whose number is not below `number`. */
static size_t find_place(const struct manifest *manifest, uint64_t number)
{
    size_t low = 0;
    size_t high = manifest->segment_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (manifest->segments[middle].number < number)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

enum armdb_rc manifest_add(struct manifest *manifest,
                           const struct manifest_segment *segment)
{
    size_t place = find_place(manifest, segment->number);
    size_t count = manifest->segment_count;
    struct manifest_segment *segments;

    if (place < count && manifest->segments[place].number == segment->number)
        return ARMDB_INTERNAL;
    segments =
        adb_realloc(ADB_MEM_LOG, manifest->segments, (count + 1) * sizeof *segments);
    if (segments == NULL)
        return ARMDB_NOMEM;
    memmove(segments + place + 1, segments + place, (count - place) * sizeof *segments);
    segments[place] = *segment;
    manifest->segments = segments;
    manifest->segment_count = count + 1;
    return ARMDB_OK;
}

struct manifest_segment *manifest_find(struct manifest *manifest, uint64_t number)
{
    size_t place = find_place(manifest, number);

    if (place < manifest->segment_count && manifest->segments[place].number == number)
        return &manifest->segments[place];
    return NULL;
}

void manifest_remove(struct manifest *manifest, uint64_t number)
{
    struct manifest_segment *segment = manifest_find(manifest, number);
    size_t place;

    if (segment == NULL)
        return;
    place = (size_t)(segment - manifest->segments);
    manifest->segment_count--;
    memmove(segment, segment + 1, (manifest->segment_count - place) * sizeof *segment);
}

/* ---- Encoding ----------------------------------------------------------------- */

static void put_segment(unsigned char *p, const struct manifest_segment *segment)
{
    adb_put_u64(p, segment->number);
    memcpy(p + 8, segment->identity, sizeof segment->identity);
    adb_put_u32(p + 24, segment->shard);
    p[28] = (unsigned char)segment->kind;
    p[29] = segment->sealed ? 1 : 0;
    adb_put_u16(p + 30, 0);
    adb_put_u64(p + 32, segment->length);
    adb_put_u64(p + 40, segment->gsn_low);
    adb_put_u64(p + 48, segment->gsn_high);
}

static unsigned char *put_close(unsigned char *p, const struct manifest_close *close)
{
    adb_put_u64(p, close->txid_edit);
    adb_put_u64(p + 8, close->txid_count);
    adb_put_u64(p + 16, close->gsn);
    adb_put_u32(p + 24, close->void_run_count);
    adb_put_u32(p + 28, 0);
    p += CLOSE_BYTES;
    for (size_t i = 0; i < 2 * (size_t)close->void_run_count; i++) {
        adb_put_u64(p, close->void_runs[i]);
        p += 8;
    }
    return p;
}

static size_t encoded_len(const struct manifest *manifest)
{
    size_t n = HEADER_BYTES + manifest->segment_count * SEGMENT_BYTES +
               manifest->verdict_count * VERDICT_BYTES + CHECK_BYTES;

    for (size_t i = 0; i < manifest->close_count; i++)
        n += CLOSE_BYTES + (size_t)manifest->closes[i].void_run_count * RUN_BYTES;
    return n;
}

static uint64_t file_check(const unsigned char *bytes, size_t n,
                           const unsigned char uuid[16])
{
    return adb_check_bind(adb_check_raw(bytes, n - CHECK_BYTES), adb_check_seed(uuid),
                          n - CHECK_BYTES);
}

enum armdb_rc manifest_encode(const struct manifest *manifest,
                              const unsigned char uuid[16], unsigned char **bytes,
                              size_t *n)
{
    size_t len = encoded_len(manifest);
    unsigned char *start = adb_alloc_zero(ADB_MEM_LOG, len);
    unsigned char *p = start;

    *bytes = start;
    *n = start == NULL ? 0 : len;
    if (start == NULL)
        return ARMDB_NOMEM;
    memcpy(p, magic, sizeof magic);
    adb_put_u32(p + AT_VERSION, MANIFEST_VERSION);
    memcpy(p + AT_UUID, uuid, 16);
    adb_put_u64(p + AT_LENGTH, len);
    adb_put_u64(p + AT_EDIT, manifest->edit);
    adb_put_u64(p + AT_NEXT_SEGMENT, manifest->next_segment);
    adb_put_u64(p + AT_WATERMARK, manifest->watermark);
    adb_put_u64(p + AT_FEED_HORIZON, manifest->feed_horizon);
    adb_put_u64(p + AT_NEXT_TABLE, manifest->next_table);
    adb_put_u64(p + AT_SEGMENTS, manifest->segment_count);
    adb_put_u64(p + AT_VERDICTS, manifest->verdict_count);
    adb_put_u64(p + AT_CLOSES, manifest->close_count);
    p += HEADER_BYTES;
    for (size_t i = 0; i < manifest->segment_count; i++, p += SEGMENT_BYTES)
        put_segment(p, &manifest->segments[i]);
    for (size_t i = 0; i < manifest->verdict_count; i++, p += VERDICT_BYTES) {
        adb_put_u64(p, manifest->verdicts[i].gsn);
        adb_put_u32(p + 8, manifest->verdicts[i].outcome);
    }
    for (size_t i = 0; i < manifest->close_count; i++)
        p = put_close(p, &manifest->closes[i]);
    adb_put_u64(p, file_check(start, len, uuid));
    return ARMDB_OK;
}

/* ---- Decoding ----------------------------------------------------------------- */

/* What is left of the file; `what` names the part being read, for error texts. */
struct input {
    const unsigned char *p;
    size_t left;
    struct armdb_error *err;
};

static enum armdb_rc refuse(const struct input *in, const char *what)
{
    return ADB_FAIL(ARMDB_CORRUPT, in->err,
                    "the manifest is damaged (%s): restore the store "
                    "from a backup or salvage it",
                    what);
}

/* An array of `count` elements that take at least `element_bytes` each of what is
 * left; so no allocation is larger than the file gives reason for. */
static enum armdb_rc alloc_array(const struct input *in, uint64_t count,
                                 size_t element_bytes, size_t size, void **array)
{
    *array = NULL;
    if (count > in->left / element_bytes)
        return refuse(in, "a count is larger than the file");
    if (count == 0)
        return ARMDB_OK;
    *array = adb_alloc_zero(ADB_MEM_LOG, (size_t)count * size);
    if (*array == NULL)
        return ADB_FAIL(ARMDB_NOMEM, in->err, "no memory for the manifest's %llu entries",
                        (unsigned long long)count);
    return ARMDB_OK;
}

static const unsigned char *take(struct input *in, size_t n)
{
    const unsigned char *p = in->p;

    in->p += n;
    in->left -= n;
    return p;
}

static enum armdb_rc read_segment(struct input *in, uint64_t above, uint64_t below,
                                  struct manifest_segment *segment)
{
    const unsigned char *p = take(in, SEGMENT_BYTES);

    segment->number = adb_get_u64(p);
    memcpy(segment->identity, p + 8, sizeof segment->identity);
    segment->shard = adb_get_u32(p + 24);
    if (p[28] != SEGMENT_LOG && p[28] != SEGMENT_OUTPUT)
        return refuse(in, "a segment of unknown kind");
    segment->kind = (enum segment_kind)p[28];
    segment->sealed = p[29] == 1;
    segment->length = adb_get_u64(p + 32);
    segment->gsn_low = adb_get_u64(p + 40);
    segment->gsn_high = adb_get_u64(p + 48);
    if (p[29] > 1 || adb_get_u16(p + 30) != 0)
        return refuse(in, "a segment's reserved bytes");
    if (segment->number <= above || segment->number >= below)
        return refuse(in, "segment numbers out of order");
    if (segment->gsn_low > segment->gsn_high || segment->gsn_high >= RECORD_NUMBER_LIMIT)
        return refuse(in, "a segment's GSN range");
    if (segment->sealed) {
        if (segment->length < SEGMENT_FIRST_FRAME ||
            segment->length > LOCATION_SEGMENT_BYTES_MAX)
            return refuse(in, "a segment's length");
    } else if (segment->length != 0 || segment->kind != SEGMENT_LOG) {
        return refuse(in, "an open segment");
    }
    return ARMDB_OK;
}

static enum armdb_rc read_segments(struct input *in, uint64_t count,
                                   struct manifest *manifest)
{
    void *array;
    enum armdb_rc rc =
        alloc_array(in, count, SEGMENT_BYTES, sizeof *manifest->segments, &array);
    uint64_t above = 0;

    manifest->segments = array;
    while (rc == ARMDB_OK && manifest->segment_count < count) {
        struct manifest_segment *segment = &manifest->segments[manifest->segment_count];

        rc = read_segment(in, above, manifest->next_segment, segment);
        above = segment->number;
        manifest->segment_count++;
    }
    return rc;
}

static enum armdb_rc read_verdicts(struct input *in, uint64_t count,
                                   struct manifest *manifest)
{
    void *array;
    enum armdb_rc rc =
        alloc_array(in, count, VERDICT_BYTES, sizeof *manifest->verdicts, &array);

    manifest->verdicts = array;
    while (rc == ARMDB_OK && manifest->verdict_count < count) {
        struct manifest_verdict *verdict = &manifest->verdicts[manifest->verdict_count++];
        const unsigned char *p = take(in, VERDICT_BYTES);

        verdict->gsn = adb_get_u64(p);
        verdict->outcome = adb_get_u32(p + 8);
        if ((verdict->outcome != FRAME_OUTCOME_COMMIT &&
             verdict->outcome != FRAME_OUTCOME_ABORT) ||
            adb_get_u32(p + 12) != 0)
            rc = refuse(in, "a verdict");
    }
    return rc;
}

static enum armdb_rc read_close(struct input *in, struct manifest_close *close)
{
    enum armdb_rc rc;
    void *array;
    uint32_t count;

    if (in->left < CLOSE_BYTES)
        return refuse(in, "a closed transaction is cut off");
    close->txid_edit = adb_get_u64(in->p);
    close->txid_count = adb_get_u64(in->p + 8);
    close->gsn = adb_get_u64(in->p + 16);
    count = adb_get_u32(in->p + 24);
    if (adb_get_u32(in->p + 28) != 0)
        return refuse(in, "a closed transaction's reserved bytes");
    (void)take(in, CLOSE_BYTES);
    rc = alloc_array(in, count, RUN_BYTES, 2 * sizeof *close->void_runs, &array);
    close->void_runs = array;
    if (rc != ARMDB_OK)
        return rc;
    close->void_run_count = count;
    for (size_t i = 0; i < count; i++) {
        const unsigned char *p = take(in, RUN_BYTES);

        close->void_runs[2 * i] = adb_get_u64(p);
        close->void_runs[2 * i + 1] = adb_get_u64(p + 8);
        if (close->void_runs[2 * i] > close->void_runs[2 * i + 1])
            return refuse(in, "a run of void ordinals");
    }
    return ARMDB_OK;
}

static enum armdb_rc read_closes(struct input *in, uint64_t count,
                                 struct manifest *manifest)
{
    void *array;
    enum armdb_rc rc =
        alloc_array(in, count, CLOSE_BYTES, sizeof *manifest->closes, &array);

    manifest->closes = array;
    while (rc == ARMDB_OK && manifest->close_count < count)
        rc = read_close(in, &manifest->closes[manifest->close_count++]);
    return rc;
}

static enum armdb_rc check_frame(const unsigned char *bytes, size_t n,
                                 const unsigned char uuid[16], const struct input *in)
{
    uint32_t version;

    if (n < HEADER_BYTES + CHECK_BYTES)
        return refuse(in, "it is too short");
    if (memcmp(bytes, magic, sizeof magic) != 0)
        return refuse(in, "magic number");
    if (memcmp(bytes + AT_UUID, uuid, 16) != 0)
        return ADB_FAIL(ARMDB_CORRUPT, in->err,
                        "the manifest belongs to another store (its "
                        "uuid is not the superblock's): put the right file back");
    if (adb_get_u64(bytes + n - CHECK_BYTES) != file_check(bytes, n, uuid))
        return refuse(in, "its check is wrong");
    version = adb_get_u32(bytes + AT_VERSION);
    if (version != MANIFEST_VERSION)
        return ADB_FAIL(ARMDB_VERSION, in->err,
                        "the manifest has format version %u; this "
                        "build reads version %d: use a newer armdb",
                        version, MANIFEST_VERSION);
    if (adb_get_u64(bytes + AT_LENGTH) != n || adb_get_u32(bytes + AT_ZERO_WORD) != 0)
        return refuse(in, "length or reserved bytes");
    return ARMDB_OK;
}

/* Counters that only grow: one that could wrap was never counted there. */
static bool numbers_ok(const struct manifest *manifest)
{
    return manifest->watermark < RECORD_NUMBER_LIMIT &&
           manifest->feed_horizon < RECORD_NUMBER_LIMIT &&
           manifest->edit < RECORD_NUMBER_LIMIT &&
           manifest->next_segment < RECORD_NUMBER_LIMIT &&
           manifest->next_table < RECORD_NUMBER_LIMIT;
}

enum armdb_rc manifest_decode(const unsigned char *bytes, size_t n,
                              const unsigned char uuid[16], struct manifest *manifest,
                              struct armdb_error *err)
{
    struct input in = {.p = bytes, .left = n, .err = err};
    struct manifest found;
    enum armdb_rc rc;

    manifest_init(&found);
    rc = check_frame(bytes, n, uuid, &in);
    if (rc != ARMDB_OK)
        goto out;
    (void)take(&in, HEADER_BYTES);
    in.left -= CHECK_BYTES;
    found.edit = adb_get_u64(bytes + AT_EDIT);
    found.next_segment = adb_get_u64(bytes + AT_NEXT_SEGMENT);
    found.watermark = adb_get_u64(bytes + AT_WATERMARK);
    found.feed_horizon = adb_get_u64(bytes + AT_FEED_HORIZON);
    found.next_table = adb_get_u64(bytes + AT_NEXT_TABLE);
    rc = read_segments(&in, adb_get_u64(bytes + AT_SEGMENTS), &found);
    if (rc != ARMDB_OK)
        goto out;
    rc = read_verdicts(&in, adb_get_u64(bytes + AT_VERDICTS), &found);
    if (rc != ARMDB_OK)
        goto out;
    rc = read_closes(&in, adb_get_u64(bytes + AT_CLOSES), &found);
    if (rc != ARMDB_OK)
        goto out;
    if (in.left != 0 || !numbers_ok(&found)) {
        rc = refuse(&in, "bytes behind its end, or a number without end");
        goto out;
    }
    manifest_fini(manifest);
    *manifest = found;
    manifest_init(&found);
out:
    manifest_fini(&found);
    return rc;
}

enum armdb_rc manifest_is_there(struct adb_dir *dir, bool *is_there,
                                struct armdb_error *err)
{
    struct armdb_error why = {.rc = ARMDB_OK};
    struct adb_file *file = NULL;
    unsigned char bytes[sizeof magic];
    enum armdb_rc rc;

    *is_there = false;
    rc = dir->io->ops->file_open(dir, MANIFEST_NAME, 0, &file, &why);
    if (rc == ARMDB_NOT_FOUND || (rc == ARMDB_CANTOPEN && adb_is_no_file(&why)))
        return ARMDB_OK;
    if (rc == ARMDB_OK) {
        rc = adb_file_read(file, MANIFEST_NAME, bytes, sizeof bytes, 0, &why);
        dir->io->ops->file_close(file);
    }
    if (rc == ARMDB_CORRUPT) /* shorter than that */
        return ARMDB_OK;
    if (rc == ARMDB_OK)
        *is_there = memcmp(bytes, magic, sizeof magic) == 0;
    else if (err != NULL)
        *err = why;
    return rc;
}

enum armdb_rc manifest_read(struct adb_dir *dir, const unsigned char uuid[16],
                            struct manifest *manifest, struct armdb_error *err)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    enum armdb_rc rc;

    rc = adb_file_slurp(dir, MANIFEST_NAME, MANIFEST_BYTES_MAX, &bytes, &n, err);
    if (rc != ARMDB_OK)
        goto out;
    rc = manifest_decode(bytes, n, uuid, manifest, err);
out:
    adb_free(ADB_MEM_IO, bytes);
    return rc;
}

enum armdb_rc manifest_write(struct adb_dir *dir, const unsigned char uuid[16],
                             struct manifest *manifest, struct armdb_error *err)
{
    unsigned char *bytes = NULL;
    size_t n = 0;
    enum armdb_rc rc;

    manifest->edit++;
    rc = manifest_encode(manifest, uuid, &bytes, &n);
    if (rc != ARMDB_OK) {
        rc = ADB_FAIL(rc, err, "no memory to write the manifest");
        goto out;
    }
    rc = adb_file_replace(dir, MANIFEST_NAME, bytes, n, err);
out:
    if (rc != ARMDB_OK)
        manifest->edit--;
    adb_free(ADB_MEM_LOG, bytes);
    return rc;
}
