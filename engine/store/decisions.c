/* decisions.c - verdicts and CLOSE frames, gathered in a first reading of the log.
 *
 * What decides over a frame may stand behind it, or in the manifest when its segment is
 * gone. Recovery has its own, stricter way (recover_verdict.c): it also says what the log
 * must hold. This one takes what there is, in order to look at the log (verify) or to
 * save what it holds (salvage). */
#include "engine/store/decisions.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/base/mem.h"

static int compare_u64(const void *a, const void *b)
{
    const uint64_t *x = a;
    const uint64_t *y = b;

    return *x < *y ? -1 : *x > *y;
}

static int compare_txids(const struct decided_close *x, const struct decided_close *y)
{
    if (x->txid_edit != y->txid_edit)
        return x->txid_edit < y->txid_edit ? -1 : 1;
    return x->txid_count < y->txid_count ? -1 : x->txid_count > y->txid_count;
}

static int compare_closes(const void *a, const void *b)
{
    const struct decided_close *x = a;
    const struct decided_close *y = b;
    int order = compare_txids(x, y);

    return order != 0 ? order : x->gsn < y->gsn ? -1 : x->gsn > y->gsn;
}

/* By their first number. */
static int compare_runs(const void *a, const void *b)
{
    return compare_u64(a, b);
}

static enum armdb_rc add_gsn(struct list *list, uint64_t gsn)
{
    uint64_t *item = list_push(list, sizeof *item);

    if (item == NULL)
        return ARMDB_NOMEM;
    *item = gsn;
    return ARMDB_OK;
}

static enum armdb_rc add_verdict(struct decisions *decisions, uint64_t gsn,
                                 uint32_t outcome)
{
    return add_gsn(
        outcome == FRAME_OUTCOME_ABORT ? &decisions->aborts : &decisions->commits, gsn);
}

/* For binary search; damage may have made anything of them. */
static size_t join_runs(uint64_t *runs, size_t count)
{
    size_t kept = 0;

    if (count > 1)
        qsort(runs, count, 2 * sizeof *runs, compare_runs);
    for (size_t i = 0; i < count; i++) {
        if (kept > 0 && runs[2 * i] <= runs[2 * kept - 1]) {
            if (runs[2 * i + 1] > runs[2 * kept - 1])
                runs[2 * kept - 1] = runs[2 * i + 1];
        } else {
            runs[2 * kept] = runs[2 * i];
            runs[2 * kept + 1] = runs[2 * i + 1];
            kept++;
        }
    }
    return kept;
}

/* Room for a CLOSE with `count` runs, to be filled. */
static struct decided_close *add_close(struct decisions *decisions, size_t count)
{
    uint64_t *runs = NULL;
    struct decided_close *close;

    if (count > 0) {
        runs = adb_alloc(ADB_MEM_LOG, count * 2 * sizeof *runs);
        if (runs == NULL)
            return NULL;
    }
    close = list_push(&decisions->closes, sizeof *close);
    if (close == NULL) {
        adb_free(ADB_MEM_LOG, runs);
        return NULL;
    }
    close->runs = runs;
    close->run_count = count;
    return close;
}

enum armdb_rc decisions_take_manifest(struct decisions *decisions,
                                      const struct manifest *manifest)
{
    enum armdb_rc rc = ARMDB_OK;

    for (size_t i = 0; rc == ARMDB_OK && i < manifest->verdict_count; i++)
        rc = add_verdict(decisions, manifest->verdicts[i].gsn,
                         manifest->verdicts[i].outcome);
    for (size_t i = 0; rc == ARMDB_OK && i < manifest->close_count; i++) {
        const struct manifest_close *from = &manifest->closes[i];
        struct decided_close *close = add_close(decisions, from->void_run_count);

        if (close == NULL)
            return ARMDB_NOMEM;
        close->txid_edit = from->txid_edit;
        close->txid_count = from->txid_count;
        close->gsn = from->gsn;
        if (from->void_run_count > 0)
            memcpy(close->runs, from->void_runs,
                   from->void_run_count * 2 * sizeof *close->runs);
        close->run_count = join_runs(close->runs, from->void_run_count);
    }
    return rc;
}

static enum armdb_rc take_close(struct decisions *decisions, const struct frame *frame)
{
    const unsigned char *p = NULL;
    uint32_t len = 0;
    struct decided_close *close;

    if (frame_field(frame, FRAME_FIELD_VOID_RUNS, &p, &len) != ARMDB_OK)
        len = 0;
    close = add_close(decisions, len / 16);
    if (close == NULL)
        return ARMDB_NOMEM;
    close->txid_edit = frame->txid_edit;
    close->txid_count = frame->txid_count;
    close->gsn = frame->gsn;
    close->doubt = frame->doubt;
    for (size_t i = 0; i < 2 * (size_t)(len / 16); i++)
        close->runs[i] = adb_get_u64(p + 8 * i);
    close->run_count = join_runs(close->runs, len / 16);
    return ARMDB_OK;
}

enum armdb_rc decisions_take_frame(struct decisions *decisions, const struct frame *frame)
{
    if (frame->kind == FRAME_VERDICT)
        return add_verdict(decisions, frame->arg_a, frame->outcome);
    return frame->kind == FRAME_CLOSE ? take_close(decisions, frame) : ARMDB_OK;
}

void decisions_sort(struct decisions *decisions)
{
    list_sort(&decisions->aborts, sizeof(uint64_t), compare_u64);
    list_sort(&decisions->commits, sizeof(uint64_t), compare_u64);
    list_sort(&decisions->closes, sizeof(struct decided_close), compare_closes);
}

void decisions_fini(struct decisions *decisions)
{
    struct decided_close *closes = decisions->closes.items;

    for (size_t i = 0; i < decisions->closes.count; i++)
        adb_free(ADB_MEM_LOG, closes[i].runs);
    adb_free(ADB_MEM_LOG, decisions->closes.items);
    adb_free(ADB_MEM_LOG, decisions->commits.items);
    adb_free(ADB_MEM_LOG, decisions->aborts.items);
    memset(decisions, 0, sizeof *decisions);
}

static bool has_gsn(const struct list *list, uint64_t gsn)
{
    return list->count > 0 &&
           bsearch(&gsn, list->items, list->count, sizeof gsn, compare_u64) != NULL;
}

bool decisions_is_out(const struct decisions *decisions, uint64_t gsn)
{
    return has_gsn(&decisions->aborts, gsn);
}

bool decisions_is_in(const struct decisions *decisions, uint64_t gsn)
{
    return has_gsn(&decisions->commits, gsn);
}

/* A transaction that was prepared, changed and prepared again has several CLOSE frames of
 * one txid, of which at most one is not out. */
const struct decided_close *decisions_close_of(const struct decisions *decisions,
                                               const struct frame *frame)
{
    const struct decided_close wanted = {.txid_edit = frame->txid_edit,
                                         .txid_count = frame->txid_count};
    const struct decided_close *closes = decisions->closes.items;
    const struct decided_close *found = NULL;
    size_t low = 0;
    size_t high = decisions->closes.count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (compare_txids(&closes[middle], &wanted) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    for (; low < decisions->closes.count && compare_txids(&closes[low], &wanted) == 0;
         low++)
        if (found == NULL || !decisions_is_out(decisions, closes[low].gsn))
            found = &closes[low];
    return found;
}

bool decisions_is_void(const struct decided_close *close, const struct record *record)
{
    size_t low = 0;
    size_t high = close == NULL ? 0 : close->run_count;

    if ((record->flags & RECORD_HAS_ORDINAL) == 0)
        return false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (close->runs[2 * middle + 1] < record->ordinal)
            low = middle + 1;
        else
            high = middle;
    }
    return close != NULL && low < close->run_count &&
           close->runs[2 * low] <= record->ordinal;
}
