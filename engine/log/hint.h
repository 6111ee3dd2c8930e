/* hint.h - what opening a store needs to know of a sealed segment, in a file beside it.
 *
 * A hint spares reading the segment's values. It is never needed: whatever is wrong
 * with it, the segment itself has the answer. Normative text: FORMAT.md, "Hint".
 * Layer 2. */
#ifndef ADB_ENGINE_LOG_HINT_H
#define ADB_ENGINE_LOG_HINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"
#include "engine/log/frame.h"
#include "engine/log/manifest.h"
#include "engine/log/run.h"

enum { HINT_NAME_MAX = 32 };

/* "0000000000000001.hint"; `name` has HINT_NAME_MAX bytes. */
void hint_name(uint64_t number, char *name);
/* True, and the number, when `name` is a hint's, or (*temporary) a hint's on its way. */
bool hint_name_parse(const char *name, uint64_t *number, bool *temporary);

/* A frame that decides about records of other segments: every CLOSE that counts (with
 * the in-doubt rule "commit", for it is decided), every VERDICT but commits of frames in
 * the same segment. */
struct hint_note {
    enum frame_kind kind;
    enum frame_doubt doubt;
    uint32_t outcome;
    uint64_t offset;
    uint64_t end;
    uint64_t gsn;
    uint64_t txid_edit;
    uint64_t txid_count;
    uint64_t arg_a;
    uint64_t arg_b;
    uint64_t check;
    uint64_t *void_runs; /* pairs, rising and apart; owned */
    size_t void_run_count;
};

/* A zeroed struct hint is valid and empty. */
struct hint {
    struct run run;
    struct hint_note *notes; /* owned */
    size_t note_count;
    uint64_t watermark_max; /* highest W in the segment's frames */
    uint64_t record_bytes;  /* of all its records, also those that count no more */
    uint64_t record_count;  /* of them; no less than the run's entries */
};

void hint_fini(struct hint *hint);

/* raw() of the last bytes of the segment that count, at most a page of them: what tells
 * an older copy of its file. `segment` is that file. ARMDB_CORRUPT: it is shorter. */
enum armdb_rc hint_segment_end(struct adb_file *segment, const char *name,
                               const struct manifest_segment *listed, uint64_t *raw,
                               struct armdb_error *err) ADB_MUST_CHECK;

/* Writes the hint of this sealed segment to NAME.hint.tmp and syncs it; one left behind
 * is replaced. After a failure the file is gone, or the next opening removes it. */
enum armdb_rc hint_write(struct adb_dir *dir, const unsigned char store_uuid[16],
                         const struct manifest_segment *listed, uint64_t end_raw,
                         const struct hint *hint, struct armdb_error *err) ADB_MUST_CHECK;
/* Gives it its name. The caller keeps the segment from being removed meanwhile, or a
 * hint without a segment would remain. The name is durable after a dir_sync. */
enum armdb_rc hint_install(struct adb_dir *dir, uint64_t number,
                           struct armdb_error *err) ADB_MUST_CHECK;
/* Removes it, and what of it is on its way; what cannot be removed the next opening
 * removes. */
void hint_remove(struct adb_dir *dir, uint64_t number);

/* Reads and verifies, every byte and entry, the hint of exactly this segment. Gives
 * *hint, to be freed with hint_fini(). ARMDB_NOT_FOUND: there is none; ARMDB_CORRUPT:
 * damaged, another segment's, of another length; ARMDB_VERSION: of a newer format. */
enum armdb_rc hint_read(struct adb_dir *dir, const unsigned char store_uuid[16],
                        const struct manifest_segment *listed, uint64_t end_raw,
                        struct hint *hint, struct armdb_error *err) ADB_MUST_CHECK;

/* ---- The filter alone ---- */

struct hint_filter {
    unsigned char *lines; /* owned */
    uint64_t count;
};

/* Reads the filter of a segment's hint; the codes are hint_read()'s. */
enum armdb_rc hint_filter_read(struct adb_dir *dir, const unsigned char store_uuid[16],
                               const struct manifest_segment *listed, uint64_t end_raw,
                               struct hint_filter *filter,
                               struct armdb_error *err) ADB_MUST_CHECK;
/* False: the segment has no record of this key. */
bool hint_may_hold(const struct hint_filter *filter, uint64_t table,
                   const unsigned char *key, size_t key_len);
void hint_filter_fini(struct hint_filter *filter);

#endif
