/* recover_internal.h - what the files of recovery share.
 *
 * recover.c drives (R1, threads, R7), recover_scan.c reads segments and delivers
 * records (R2, R3), recover_gsn.c finds what counts (R3 to R5), recover_verdict.c
 * what is in (R6). Layer 4. */
#ifndef ADB_ENGINE_STORE_RECOVER_INTERNAL_H
#define ADB_ENGINE_STORE_RECOVER_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/log/frame.h"
#include "engine/log/scan.h"
#include "engine/store/recover.h"

/* A growing array. */
struct list {
    void *items; /* owned */
    size_t count;
    size_t room;
};

/* Room for one more item of `size` bytes, zeroed; NULL: no memory. */
void *list_push(struct list *list, size_t size);
void list_sort(struct list *list, size_t size,
               int (*compare)(const void *, const void *));

/* A frame with a GSN, in a segment beyond Wm. */
struct gsn_mark {
    uint64_t gsn; /* 0: a CLOSE that does not count as present */
    uint64_t end; /* offset behind the frame */
};

/* A frame that decides about others or waits for others' decision: CHUNK, CLOSE,
 * VERDICT, and COMMIT with another in-doubt rule than "commit". */
struct frame_note {
    enum frame_kind kind;
    enum frame_doubt doubt;
    uint32_t outcome;
    bool damaged; /* its header checks, its body does not */
    uint64_t offset;
    uint64_t end;
    uint64_t gsn;
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t arg_a;
    uint64_t arg_b;
    uint64_t check;
    uint64_t *void_runs; /* CLOSE: pairs, rising and apart; owned */
    size_t void_run_count;
};

/* Bytes that belong to no whole frame although something may follow them. */
struct hole {
    uint64_t from;
    uint64_t to;
    uint64_t untrusted_from; /* part whose keys are not known; empty: values only */
    uint64_t untrusted_to;
    uint64_t gsn_before; /* last GSN before it in its shard, or Wm */
    uint64_t gsn_own;    /* of the damaged frame that it is, or 0 */
    bool damage;         /* not a tear: decided in R5 */
};

struct segment_state {
    /* Constant once loaded. */
    struct manifest_segment listed;
    struct segment_header header;
    char name[SEGMENT_NAME_MAX];
    bool old; /* wholly at or below Wm: its frames count whatever recovery finds */

    /* Written by the thread that surveys it. */
    struct scan_result scan;
    uint64_t file_bytes;
    uint64_t gsn_last; /* of the frames surveyed so far; 0 = none */
    struct list marks; /* struct gsn_mark, in file order */
    struct list notes; /* struct frame_note, in file order */
    struct list holes; /* struct hole, in file order */
    bool deferred;     /* records from deferred_at on wait for the second step */
    uint64_t deferred_at;
    bool hinted;           /* its hint was delivered: it is not read */
    uint64_t record_bytes; /* of all its records */
    uint64_t record_count;
    enum armdb_rc hint_rc; /* ARMDB_OK: not asked for, or used */
    char hint_why[200];

    /* Set by recovery_decide(). */
    uint64_t candidate_end; /* frames ending behind it do not count (R3) */
    uint64_t count_end;     /* end of what counts; the new sealed length */
    uint64_t gsn_low;
    uint64_t gsn_high;
    bool keep;
};

/* The segments of one shard, in rising number. */
struct shard_state {
    struct segment_state **segments; /* owned array of borrowed pointers */
    size_t count;
};

/* A closed transaction: what its chunks need to know. */
struct closed {
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t gsn;
    uint64_t chunks; /* those with lower numbers are its own */
    bool out;
    const uint64_t *void_runs; /* borrowed */
    size_t void_run_count;
};

struct recovery {
    struct adb_dir *dir; /* borrowed, as the next three */
    const struct superblock *sb;
    const struct recover_sink *sink;
    struct recovered *out;
    bool read_only;
    bool decided; /* between the two steps: verdicts, closes and G are known */
    bool restart; /* the first step delivered what does not count */
    uint64_t w_star;
    uint64_t gsn;
    struct segment_state *segments; /* owned */
    size_t segment_count;
    struct shard_state *shards; /* owned; sb->shards of them */
    struct list verdicts;       /* struct manifest_verdict, by GSN; aborts first */
    struct list closed;         /* struct closed, by txid */
    struct list aborts; /* uint64_t: GSNs found aborted, unknown to the manifest */
};

static inline struct frame_note *notes_of(const struct segment_state *segment)
{
    return segment->notes.items;
}

/* ---- recover.c ---- */

enum armdb_rc recovery_fail_nomem(struct armdb_error *err);

/* ---- recover_scan.c ---- */

/* Step 1: reads a segment; old ones deliver what needs no decision. */
enum armdb_rc recovery_survey(struct recovery *recovery, struct segment_state *segment,
                              struct armdb_error *err) ADB_MUST_CHECK;
/* Step 2: delivers what step 1 did not, or, after a restart, everything. */
enum armdb_rc recovery_deliver(struct recovery *recovery, struct segment_state *segment,
                               struct armdb_error *err) ADB_MUST_CHECK;

/* ---- recover_gsn.c ---- */

/* Between the steps: R3 to R6 over what all segments were found to hold. */
enum armdb_rc recovery_decide(struct recovery *recovery,
                              struct armdb_error *err) ADB_MUST_CHECK;

/* ---- recover_verdict.c ---- */

/* The verdicts and closed transactions that the manifest holds. */
enum armdb_rc recovery_load_verdicts(struct recovery *recovery,
                                     struct armdb_error *err) ADB_MUST_CHECK;
/* Adds the log's verdicts up to G. */
enum armdb_rc recovery_gather_verdicts(struct recovery *recovery,
                                       struct armdb_error *err) ADB_MUST_CHECK;
/* Applies the in-doubt rules and collects the closed transactions that count. */
enum armdb_rc recovery_apply_rules(struct recovery *recovery,
                                   struct armdb_error *err) ADB_MUST_CHECK;
/* Whether a frame's records must not be delivered, as far as is known. */
bool recovery_is_out(const struct recovery *recovery, uint64_t gsn,
                     enum frame_doubt doubt);
const struct closed *recovery_find_closed(const struct recovery *recovery,
                                          uint64_t txid_edit, uint64_t txid_count);

static inline uint64_t align_to_frame(uint64_t offset)
{
    return (offset + FRAME_ALIGNMENT - 1) & ~(uint64_t)(FRAME_ALIGNMENT - 1);
}

#endif
