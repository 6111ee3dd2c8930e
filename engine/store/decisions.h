/* decisions.h - what a log says about its own frames: which are out, and which
 * transactions in chunks were closed. For who reads it after recovery. Layer 4. */
#ifndef ADB_ENGINE_STORE_DECISIONS_H
#define ADB_ENGINE_STORE_DECISIONS_H

#include "engine/log/frame.h"
#include "engine/log/manifest.h"
#include "engine/log/record.h"
#include "engine/store/recover_internal.h"

/* A transaction in chunks that has its CLOSE. */
struct decided_close {
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t gsn;
    enum frame_doubt doubt; /* commit, where the manifest knows it */
    uint64_t *runs;         /* owned: void ordinals, first and last, rising and apart */
    size_t run_count;
};

/* A zeroed one is valid, and empty. */
struct decisions {
    struct list aborts;  /* uint64_t: GSNs */
    struct list commits; /* uint64_t: GSNs that have a verdict to be in */
    struct list closes;  /* struct decided_close */
};

/* Both: ARMDB_NOMEM. decisions_sort() comes after the last of them and before the
 * questions. */
enum armdb_rc decisions_take_manifest(struct decisions *decisions,
                                      const struct manifest *manifest) ADB_MUST_CHECK;
enum armdb_rc decisions_take_frame(struct decisions *decisions,
                                   const struct frame *frame) ADB_MUST_CHECK;
void decisions_sort(struct decisions *decisions);
void decisions_fini(struct decisions *decisions);

bool decisions_is_out(const struct decisions *decisions, uint64_t gsn);
bool decisions_is_in(const struct decisions *decisions, uint64_t gsn);
/* Of the transaction of this frame: the CLOSE that is not out, or any; NULL: it has none.
 */
const struct decided_close *decisions_close_of(const struct decisions *decisions,
                                               const struct frame *frame);
/* Was this record of the transaction undone? `close` may be NULL. */
bool decisions_is_void(const struct decided_close *close, const struct record *record);

#endif
