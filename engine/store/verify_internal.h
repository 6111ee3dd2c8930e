/* verify_internal.h - what the files of armdb_verify() share.
 *
 * verify.c drives and looks at the small files, verify_log.c reads the segments,
 * verify_index.c holds what they say against the index. Layer 4. */
#ifndef ADB_ENGINE_STORE_VERIFY_INTERNAL_H
#define ADB_ENGINE_STORE_VERIFY_INTERNAL_H

#include "engine/log/moment.h"
#include "engine/log/scan.h"
#include "engine/store/decisions.h"
#include "engine/store/internal.h"

/* A segment of the moment. */
struct verify_segment {
    struct manifest_segment listed;
    struct segment_header header;
    char name[SEGMENT_NAME_MAX];
    uint32_t slot;
    bool readable;    /* its header is right */
    uint64_t live;    /* bytes of the rows that the index has in it */
    uint64_t counted; /* what the store takes that for */
    /* Owned: a bit for every 8 bytes; set where a record begins that the index knows.
     * No record is that short, so that no two share a bit. */
    unsigned char *known;
};

struct verify_tab {
    struct tab *tab; /* counted as a handle */
    char name[ARMDB_TABLE_NAME_BYTES_MAX + 1];
};

/* The newest record found of a key whose index entry is older than it, or missing. */
struct suspect {
    uint64_t hash; /* of the key; with the table's number in front it names it */
    uint64_t gsn;
    uint64_t ordinal;
    uint64_t offset;
    size_t tab; /* index + 1; 0: an empty place */
    size_t segment;
    bool put;
    bool cleared; /* a later pass found what made it old */
};

struct verify {
    struct armdb *store;
    struct armdb_session *session; /* owned: its epoch slot and snapshot */
    const struct armdb_watch *watch;
    armdb_finding_visit *visit;
    void *arg;
    struct armdb_error *err;
    uint64_t findings;

    struct log_moment moment;
    bool has_moment;
    struct verify_segment *segments; /* owned */
    size_t segment_count;
    struct verify_tab *tabs; /* owned */
    size_t tab_count;
    size_t last_tab; /* that was found */

    struct decisions decisions;

    struct suspect *suspects; /* owned: open addressing */
    size_t suspect_room;      /* a power of two, or 0 */
    size_t suspect_count;

    struct adb_file *probe; /* owned: a segment opened to look at single records */
    size_t probe_segment;
};

/* ARMDB_INTERRUPT when the caller wants to stop. */
enum armdb_rc verify_check(const struct verify *v) ADB_MUST_CHECK;
enum armdb_rc verify_nomem(const struct verify *v);
/* Where a finding is; zeroed: nowhere in particular. */
struct verify_place {
    const char *file;
    bool has_offset;
    uint64_t offset;
    const struct verify_tab *tab;
    const void *key;
    size_t key_len;
};
ADB_PRINTF(4, 5)
void verify_report(struct verify *v, const struct verify_place *place, const char *todo,
                   const char *format, ...);
/* NULL when the table is none of those that live. */
const struct verify_tab *verify_find_tab(struct verify *v, uint64_t id);

/* ---- verify_log.c ---- */
/* Every byte of every segment; gathers aborts and closed transactions. */
enum armdb_rc verify_bytes(struct verify *v) ADB_MUST_CHECK;
/* Every record that counts, against the index. */
enum armdb_rc verify_records(struct verify *v) ADB_MUST_CHECK;
/* The log as it is now may explain suspects; reports those that it does not. */
enum armdb_rc verify_newer(struct verify *v) ADB_MUST_CHECK;

/* ---- verify_index.c ---- */
/* A record that counts, with the order that decides between versions. */
enum armdb_rc verify_record(struct verify *v, size_t segment, uint64_t offset,
                            const struct record *record, uint64_t gsn,
                            uint64_t ordinal) ADB_MUST_CHECK;
/* Is this record the row that readers get? */
bool verify_is_live(struct verify *v, const struct verify_tab *tab, size_t segment,
                    uint64_t offset, const struct record *record);
/* A record that counts: a suspect of its key that is older is none any more. */
void verify_clear(struct verify *v, const struct record *record, uint64_t gsn,
                  uint64_t ordinal);
/* Any suspect left that a newer record might explain? Looks at the index again. */
enum armdb_rc verify_recheck(struct verify *v, bool *left) ADB_MUST_CHECK;
void verify_report_suspects(struct verify *v, const struct manifest *now);
/* Every entry of the index: its place, both indexes, the count. */
enum armdb_rc verify_index(struct verify *v) ADB_MUST_CHECK;

#endif
