/* internal.h - the store's own structures, shared by the files of this folder.
 *
 * Who may touch what is said at each field. Lock ranks: engine/base/thread.h; the
 * picture of a write from SQL to disk: DESIGN.md. Layer 4. */
#ifndef ADB_ENGINE_STORE_INTERNAL_H
#define ADB_ENGINE_STORE_INTERNAL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "engine/armdb.h"
#include "engine/base/histogram.h"
#include "engine/base/thread.h"
#include "engine/index/epoch.h"
#include "engine/index/hashmap.h"
#include "engine/index/node.h"
#include "engine/index/order.h"
#include "engine/io/cache.h"
#include "engine/io/io.h"
#include "engine/log/log.h"
#include "engine/log/record.h"
#include "engine/log/superblock.h"
#include "engine/store/bump.h"
#include "engine/store/compact.h"
#include "engine/store/hints.h"

#define ADB_LOCK_NAME "lock" /* the file in a store's folder that says who has it */

/* ---- A table's rows ---- */

struct tab {
    uint64_t id; /* constant */
    struct armdb *store;
    struct arena *arena;        /* owned */
    struct hashmap *map;        /* owned */
    struct order *order;        /* owned */
    _Atomic uint64_t live_rows; /* committed; relaxed: ordered by the commit itself */

    char apart[64]; /* readers of the lines above are not disturbed by writers */
    /* Who writes and who replaces these rows as a whole: newid.c. */
    _Atomic uint64_t replacer;    /* id of the open transaction, TAB_REPLACED, 0 = none */
    _Atomic uint32_t writers;     /* open transactions that have written here */
    _Atomic uint32_t users;       /* the same, until they are settled */
    _Atomic uint64_t last_writer; /* id of one of them, for who waits; relaxed */
    _Atomic uint64_t changed;     /* stamp of the newest commit that wrote here */

    /* Guarded by the store's catalog lock. */
    struct tab *next;
    uint32_t handles;
    bool moving; /* a compaction moves its records: they are not counted as dead yet */
    struct tab *next_retired; /* guarded by the keeper lock */
    bool unlisted;            /* out of the store's list, its bytes counted as dead */
};
#define TAB_REPLACED UINT64_MAX

struct armdb_table {
    struct armdb_session *session; /* borrowed: the opener */
    struct tab *tab;               /* counted; table_resolve() says which */
    uint64_t resolved;             /* catalog_changes for which `tab` is right; 0 = ask */
    char *name;                    /* owned; NULL: the catalogue itself */
    unsigned char uuid[16];
    unsigned char *schema; /* owned */
    size_t schema_len;
    enum armdb_sync sync;
    /* Guarded by the store's catalog lock. */
    bool holds; /* armdb_table_hold() */
    struct armdb_table *next_holder;
};

/* ---- Transactions ---- */

enum write_kind { WRITE_PUT, WRITE_DELETE, WRITE_LOCK };

/* One write of an open transaction; a version's word points here until it is settled.
 * Written by the transaction's thread before it is linked; `superseded` only by it. */
struct txn_write {
    struct txn *txn;
    struct txn_write *previous; /* the transaction's write before this one */
    struct tab *tab;
    uint64_t hash;
    unsigned char *record; /* staged bytes; NULL for WRITE_LOCK */
    size_t record_size;
    uint64_t ordinal; /* place among the transaction's writes, from 1 */
    uint32_t head_check_at;
    node_ref node;
    version_ref version;
    uint32_t statement; /* number of the statement that made it */
    enum write_kind kind;
    bool superseded;     /* a later write of this transaction to the same key */
    bool committed_live; /* the key had a live committed row before the transaction */
    bool spilled;        /* its record is in a chunk on the log; `record` is gone */
};

enum txn_state { TXN_ACTIVE, TXN_PREPARED };

struct savepoint {
    int id;
    struct txn_write *last;
};

struct txn_tab {
    struct tab *tab;
    uint64_t writes;
};

/* A table that got another id, or none (`fresh` NULL: a DROP), in this transaction. */
struct tab_swap {
    struct tab *old;
    struct tab *fresh;
    struct txn_write *write; /* of the catalogue's row */
};

struct txn {
    struct epoch_item retired; /* first: freed through the epoch */
    /* 0 while open, the visible counter's value once committed. Stored with release in
     * commit, acquired by readers that meet one of its versions. */
    _Atomic uint64_t stamp;
    struct gsn_undecided undecided; /* .gsn = 0: nothing of it is on the log */
    uint64_t id;                    /* unique in this process, for waiters */
    uint64_t txid_count;
    struct armdb_session *session; /* NULL once it has ended */

    /* The owner's thread alone, until it has committed. */
    enum txn_state state;
    enum armdb_doubt doubt;
    enum armdb_sync sync;
    bool drops;  /* something is superseded: settling waits for the durable mark */
    bool silent; /* a migration's: no write hook hears of it */
    bool doomed; /* memory for an undo was lacking: it can only be rolled back */
    uint32_t shard;
    uint64_t segment_number; /* of its prepared frame */
    uint64_t prepare_ns;     /* how long armdb_prepare() took */
    /* Newest write; turned round by the commit: then it is the oldest one, and each
     * write's `previous` is the one made after it. */
    struct txn_write *last;
    uint64_t write_count;
    struct bump writes;  /* struct txn_write */
    struct bump records; /* staged bytes */
    uint64_t last_ordinal;
    struct spill *spill;          /* owned; NULL: nothing went out early */
    struct savepoint *savepoints; /* owned */
    size_t savepoint_count;
    size_t savepoint_capacity;
    struct txn_tab *tabs; /* owned: the tables written */
    size_t tab_count;
    size_t tab_capacity;
    struct tab_swap *swaps; /* owned */
    size_t swap_count;
    size_t swap_capacity;

    struct txn *next_committed; /* guarded by the store's txn lock */
};

enum { SESSION_GROUPS_MAX = 4 };

/* What a session counts by itself, and its unit; see README, "armdb_stat". */
#define SESSION_COUNTERS(X)   \
    X(gets, "count")          \
    X(seeks, "count")         \
    X(scans, "count")         \
    X(scan_steps, "count")    \
    X(puts, "count")          \
    X(inserts, "count")       \
    X(deletes, "count")       \
    X(nodes_touched, "count") \
    X(values_read, "count")   \
    X(bytes_user, "bytes")
#define COUNTER(name, unit) _Atomic uint64_t name;

struct armdb_session {
    struct armdb *store;
    struct epoch_slot *slot; /* owned */
    /* The snapshot held, + 1; 0 = none. Written by the owner, read by who settles:
     * see session.c. */
    _Atomic uint64_t snapshot_slot;
    uint64_t snapshot; /* what reads that begin now see; >= the one in the slot */
    uint32_t snapshot_refs;
    bool snapshot_read;        /* something was read with it */
    bool expects_write;        /* armdb_expect_write(), until the first seek */
    bool keeps_house;          /* armdb_session_keeps_house() */
    uint32_t statement;        /* number of the current statement */
    uint64_t stage_generation; /* moves when staged bytes may have gone */
    struct txn *txn;           /* NULL = none open; owned */
    bool txn_snapshot;         /* the transaction counts in snapshot_refs */
    uint32_t wait_ms;          /* how long the steps of modify.c wait for a row */
    /* The transaction that the last ARMDB_BUSY was about. */
    uint64_t busy_txn;
    bool busy_any;       /* or, when that one has ended, about any other */
    struct tab *orphans; /* rows of ids that came to nothing; a cursor may be on them */

    /* Guarded by the store's txn lock. */
    struct armdb_session *next;
    struct armdb_session *previous;
    struct armdb_session *waits_for;
    uint64_t open_txn;                   /* id of the open transaction, 0 = none */
    uint64_t groups[SESSION_GROUPS_MAX]; /* of the open transaction; 0 = none */

    /* Statistics: the owner adds, others read; relaxed. */
    SESSION_COUNTERS(COUNTER)
    _Atomic uint64_t snapshot_since; /* when the one in the slot was taken, coarse */
    uint32_t stripe;                 /* of the store's commit latencies; constant */
    uint32_t seek_countdown;         /* the owner's: look-ups until one is timed */
    uint32_t read_countdown;         /* the same for rows read */
};

/* ---- The store ---- */

struct store_stats {
    _Atomic uint64_t commits, rollbacks, busy, busy_snapshot;
    _Atomic uint64_t stale_reads; /* a location had moved before it was read */
    SESSION_COUNTERS(COUNTER)     /* what closed sessions had counted */
};

/* Every commit is timed: its threads have a histogram each, up to so many. Look-ups and
 * reads take less than two looks at the clock: one in so many is timed. */
enum { COMMIT_STRIPES = 4, SAMPLE_EVERY = 61 };

struct store_latencies { /* ns */
    struct histogram commit[COMMIT_STRIPES];
    struct histogram seek;
    struct histogram read;
};

struct armdb {
    /* Guarded by the registry's lock. */
    struct armdb *registry_next;
    uint32_t refs;
    uint64_t device;
    uint64_t inode;

    /* Constant while open. */
    char *path; /* owned */
    bool memory;
    bool read_only;
    struct armdb_options options;
    struct superblock superblock;
    struct adb_io *io;          /* owned */
    struct adb_dir *dir;        /* owned */
    struct adb_file *lock_file; /* owned; NULL when read-only without lock */
    struct cache *cache;        /* owned */
    struct epoch *epoch;        /* owned */
    struct epoch_slot *slot;    /* owned: the keeper's */
    struct log log;
    bool log_open;
    uint64_t damage_gsn; /* records up to this GSN may be missing; 0 = none */
    char damage_text[160];
    uint64_t recovered_bytes_cut;
    _Atomic bool foreign; /* this process is a fork of the one that opened it */

    struct adb_mutex catalog_lock; /* rank ADB_RANK_CATALOG: tabs, reaping */
    struct tab *tabs;              /* owned list, the catalogue (id 0) among them */
    struct tab *catalog;
    struct armdb_table *holders;      /* borrowed list: handles that hold their table */
    uint32_t reaping;                 /* tables whose bytes are being counted as dead */
    _Atomic bool has_retired;         /* relaxed: a hint */
    _Atomic uint64_t catalog_changes; /* from 1: moves when a table may have another id */

    struct adb_mutex txn_lock; /* rank ADB_RANK_TXN: sessions, committed queue */
    struct adb_cond txn_ended;
    struct adb_cond hook_turn; /* a call of a write hook has returned */
    struct armdb_hook *hooks;  /* owned list */
    struct armdb_session *sessions;
    struct armdb_snapshot *snapshots; /* owned by their openers */
    struct txn *committed_first;      /* in stamp order: not yet settled */
    struct txn *committed_last;
    uint64_t next_txn;
    uint32_t waiters;
    _Atomic uint64_t visible;   /* stamp of the newest commit */
    _Atomic uint64_t noticed;   /* of the newest that makes snapshots stale */
    _Atomic uint64_t unsettled; /* length of the committed queue; relaxed, a hint */

    struct adb_mutex settle_lock; /* rank ADB_RANK_SETTLE: one settles at a time */

    struct adb_thread keeper;     /* background sync and reclamation */
    struct adb_mutex keeper_lock; /* rank ADB_RANK_LEAF: retired, keeper_stop */
    struct tab *retired;          /* rows that no snapshot sees any more */
    struct adb_cond keeper_wake;
    _Atomic bool keeper_running;
    bool keeper_stop;

    struct compactor compactor;
    struct hinter hinter;
    struct store_stats stats; /* relaxed */
    struct store_latencies latencies;
    uint64_t opened_ns;           /* constant: adb_mono_ns() */
    _Atomic uint32_t next_stripe; /* relaxed */
};

/* ---- session.c ---- */
uint64_t session_snapshot(const struct armdb_session *session); /* one is held */
void session_snapshot_refresh(struct armdb_session *session);
/* After a commit of its own: reads that begin now see it, whoever still holds the
 * snapshot from before. The older one stays protected until all have let go. */
void session_snapshot_advance(struct armdb_session *session);
/* The oldest snapshot held by anybody, or the newest commit. txn lock held. */
uint64_t oldest_snapshot_locked(struct armdb *store) ADB_REQUIRES(store->txn_lock);
enum armdb_rc session_check(const struct armdb_session *session,
                            struct armdb_error *err) ADB_MUST_CHECK;

/* ---- snapshot.c ---- */
/* The oldest of `oldest` and of the moments of snapshot objects. */
uint64_t snapshots_oldest_locked(const struct armdb *store, uint64_t oldest)
    ADB_REQUIRES(store->txn_lock);

/* ---- table.c ---- */
enum armdb_rc tab_create(struct armdb *store, uint64_t id,
                         struct tab **out) ADB_MUST_CHECK;
void tab_destroy(struct tab *tab);
/* The rows of table `id`, made when missing. */
enum armdb_rc tab_of_id(struct armdb *store, uint64_t id,
                        struct tab **out) ADB_MUST_CHECK;
/* After recovery: drops rows of tables that the catalogue does not list. */
enum armdb_rc catalog_sweep(struct armdb *store, struct armdb_error *err) ADB_MUST_CHECK;

/* ---- newid.c ---- */
/* Makes table->tab the rows that the session sees under this table now. A snapshot is
 * held. */
enum armdb_rc table_resolve_anew(struct armdb_table *table,
                                 struct armdb_error *err) ADB_MUST_CHECK;
static inline enum armdb_rc table_resolve(struct armdb_table *table,
                                          struct armdb_error *err)
{
    /* Pairs with the release of who changed the catalogue. */
    return atomic_load_explicit(&table->session->store->catalog_changes,
                                memory_order_acquire) == table->resolved
               ? ARMDB_OK
               : table_resolve_anew(table, err);
}
/* What handles have cached of their tables is to be asked anew. */
void table_note_change(struct armdb *store);
/* The transaction is about to write to these rows for the first time. ARMDB_BUSY and
 * ARMDB_BUSY_SNAPSHOT when another one replaces or has replaced them. */
enum armdb_rc tab_join(struct armdb_session *session, struct tab *tab) ADB_MUST_CHECK;
/* The table whose row the newest write of the transaction deleted. False: no memory. */
bool newid_note_drop(struct txn *txn, struct tab *tab);
/* A write to the catalogue was undone, before its entry goes. */
void newid_undone(struct armdb_session *session, const struct txn_write *write);
void newid_committed(struct txn *txn); /* it is visible */
/* The open transaction has ended: it is no writer any more. */
void newid_left(struct txn *txn);
/* Nobody needs what it superseded, and its own entries are not followed any more. */
void newid_settled(struct armdb *store, struct txn *txn);
void newid_forgotten(struct txn *txn); /* the same for one that left nothing */
void newid_give_orphans(struct armdb_session *session); /* no cursor is open */
/* Counts retired rows as dead and frees them where nobody has a handle. Outside an epoch;
 * `slot` is the caller's. */
void newid_reap(struct armdb *store, struct epoch_slot *slot);

/* ---- version.c ---- */
/* The version of a node that the session sees, NULL when none. Inside an epoch. */
struct version *version_visible(const struct tab *tab, struct node *node,
                                uint64_t snapshot, const struct txn *own,
                                uint32_t statement_limit);
/* Unlinks a transaction's newest write, undoing it. Inside an epoch. */
void write_undo(struct txn_write *write);
/* Makes a committed write permanent: marks its version settled and frees what it
 * superseded. Inside an epoch. */
void write_settle(struct txn_write *write, uint64_t gsn);
/* Pushes a version for `write` on top of the node's chain. Partition lock held. */
enum armdb_rc version_push(struct txn_write *write, struct node *node, uint32_t value_len,
                           uint64_t location) ADB_MUST_CHECK;
/* Takes a node with an empty or dead chain out of the index. Partition lock held. */
void node_unlink(struct tab *tab, node_ref ref, uint64_t hash);
/* Frees a node, which nothing links any more, when no reader can be on it. */
void node_retire(struct tab *tab, node_ref ref);
/* Every row of a table that nobody sees any more is dead from now on. Outside an epoch.
 */
void tab_count_dead(struct tab *tab, struct epoch_slot *slot);
/* Bytes that a record of this key and value takes on the log, for the statistics. */
uint64_t record_bytes(const struct tab *tab, const struct node *node, uint32_t value_len);

/* ---- txn.c ---- */
/* The session's transaction, begun when there is none and active again when it was
 * prepared (its prepared frame is aborted durably first). */
enum armdb_rc txn_for_write(struct armdb_session *session, struct txn **out,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* The shard that the first `shard_prefix_bits` of the key choose. */
uint32_t shard_of_key(const struct armdb *store, const void *key, size_t key_len);
uint32_t txn_home_shard(const struct armdb *store, const struct txn_write *write);
/* Undoes the writes after `last` (NULL: all), newest first. */
void txn_undo_to(struct armdb_session *session, struct txn_write *last);
void txn_destroy(struct txn *txn); /* nothing points to it any more */
/* Makes commits permanent that every snapshot sees and that are durable, and frees
 * what they superseded. `slot` is the caller's, outside an epoch. */
void store_settle(struct armdb *store, struct epoch_slot *slot);

/* ---- hook.c ---- */
/* Notes a transaction that becomes visible for every hook; true when there is any. */
bool hooks_note_locked(struct armdb *store, struct txn *txn)
    ADB_REQUIRES(store->txn_lock);
/* Tells the hooks of all commits up to `stamp`, or waits until others have. No lock is
 * held; the session's transaction has ended. */
void hooks_deliver(struct armdb_session *session, uint64_t stamp);
/* The oldest of `oldest` and of what hooks still need. */
uint64_t hooks_oldest_locked(const struct armdb *store, uint64_t oldest)
    ADB_REQUIRES(store->txn_lock);
void hooks_forget(struct armdb *store); /* the store closes */

/* ---- read.c ---- */
struct fetch { /* one record to read */
    const struct tab *tab;
    uint64_t location;
    uint32_t value_len;
    const void *key;
    size_t key_len;
};
/* Gives the value pinned. ARMDB_NOT_FOUND: the segment is gone, look the key up again. */
enum armdb_rc fetch_value(struct armdb_session *session, const struct fetch *fetch,
                          struct armdb_value *value,
                          struct armdb_error *err) ADB_MUST_CHECK;

/* Does its pin hold the page that it lies in? */
bool value_is_in_page(const struct armdb_value *value);
/* One more pin of such a one. */
void value_pin_again(const struct armdb_value *value);
/* Turns *value, which lies in the page of this record, into the record's, with no pin of
 * its own. False when the record has to be verified first or does not lie in one page. */
bool fetch_beside(const struct fetch *fetch, struct armdb_value *value);

/* Makes *value the owner of `bytes`, which were taken for ADB_MEM_TXN. */
void value_of_copy(struct armdb_value *value, unsigned char *bytes, size_t len);

/* ---- cursor.c ---- */
/* Damage that could hide a newer version of a row of this GSN, or a row where none was
 * found, is ARMDB_CORRUPT: P3. */
enum armdb_rc damage_check(const struct armdb *store, bool absent, uint64_t seq,
                           struct armdb_error *err) ADB_MUST_CHECK;
/* From the next seek on the cursor sees all own writes. Nothing may be written until it
 * is closed. */
void cursor_see_all(struct armdb_cursor *cursor);
/* The value of the current row; its pin is the caller's. */
enum armdb_rc cursor_take_value(struct armdb_cursor *cursor, struct armdb_value *value,
                                struct armdb_error *err) ADB_MUST_CHECK;

/* ---- point.c ---- */
/* What every call with a key of the caller's checks. */
enum armdb_rc point_check(const struct armdb_session *session,
                          const struct armdb_table *table, const void *key,
                          size_t key_len, struct armdb_error *err) ADB_MUST_CHECK;
/* armdb_get() without its checks, a snapshot being held. */
enum armdb_rc point_read(struct armdb_session *session, struct armdb_table *table,
                         const void *key, size_t key_len, struct armdb_value *value,
                         struct armdb_error *err) ADB_MUST_CHECK;

/* ---- modify.c ---- */
void session_init_wait(struct armdb_session *session);

/* ---- stat.c ---- */
/* `openers` is the caller's to fill in; the texts are the store's. */
void stat_describe(struct armdb *store, struct armdb_store_info *info);

/* ---- store.c ---- */
/* Is the file `lock` of a folder one of a store's, rather than another program's? */
enum armdb_rc store_lock_is_ours(struct adb_dir *dir, bool *ours,
                                 struct armdb_error *err) ADB_MUST_CHECK;

/* ---- keeper.c ---- */
/* Starts the background thread if it is not running; ARMDB_OK also when none can be
 * had (then the callers do its work). */
void keeper_start(struct armdb *store);
void keeper_wake(struct armdb *store);
void keeper_stop(struct armdb *store);

/* ARMDB_INTERRUPT when the caller of a long call wants it to stop. */
static inline enum armdb_rc watch_ask(const struct armdb_watch *watch,
                                      struct armdb_error *err)
{
    if (watch != NULL && watch->interrupted != NULL && watch->interrupted(watch->arg))
        return ADB_FAIL(ARMDB_INTERRUPT, err, "interrupted");
    return ARMDB_OK;
}

static inline void stat_add(_Atomic uint64_t *counter, uint64_t n)
{
    (void)atomic_fetch_add_explicit(counter, n, memory_order_relaxed);
}
/* For counters with one writer: no locked instruction. */
static inline void stat_bump(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter,
                          atomic_load_explicit(counter, memory_order_relaxed) + n,
                          memory_order_relaxed);
}

/* Is this one of those that are timed? */
static inline bool stat_is_sampled(uint32_t *countdown)
{
    if (--*countdown != 0)
        return false;
    *countdown = SAMPLE_EVERY;
    return true;
}

#endif
