/* armdb.h - the engine's public interface, usable without SQLite.
 *
 * A store is one directory (or memory). It holds tables of (key, value) rows,
 * keys in memcmp order. A session is one caller's view: it owns at most one
 * transaction and one snapshot and is used by one thread at a time; any number
 * of sessions on any threads work on one store. The SQL side (ext/) includes no
 * other header of the engine.
 *
 * Reading. All reads of a session see its snapshot: the moment at which it was
 * acquired, plus the session's own writes of earlier statements. Readers never
 * wait.
 *
 * Writing. A write outside a transaction begins one; nothing is durable or seen
 * by others before armdb_prepare() and armdb_commit(). First writer wins: a
 * write that meets another open transaction's version answers ARMDB_BUSY (then
 * armdb_wait() waits for it), one that meets a version newer than the session's
 * snapshot ARMDB_BUSY_SNAPSHOT.
 *
 * Errors. Functions return enum armdb_rc; those that can fail take a struct
 * armdb_error (may be NULL) whose text names the thing and what to do.
 *
 * By theme: stores, backup, compaction, sessions and snapshots, tables, transactions,
 * writing one row, changes in one step, values, reading one row, cursors, ranges,
 * warming up, migration, write hooks, statistics. */
#ifndef ARMDB_H
#define ARMDB_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#include "engine/base/rc.h"

struct armdb;          /* a store, opened once per process and counted */
struct armdb_session;  /* one user of a store */
struct armdb_snapshot; /* a moment that several sessions read */
struct armdb_table;    /* an opener's handle to a table */
struct armdb_cursor;   /* a scan or a list of look-ups */

enum {
    ARMDB_KEY_BYTES_MAX = 1 << 20,    /* encoded key */
    ARMDB_TABLE_NAME_BYTES_MAX = 255, /* bytes of a table name */
    ARMDB_SCHEMA_BYTES_MAX = 1 << 20, /* bytes of a table's schema text */
    ARMDB_SHARDS_MAX = 64
};
#define ARMDB_VALUE_BYTES_MAX UINT32_C(1073741824) /* 1 GiB */

/* ---- Version --------------------------------------------------------------- */

#define ARMDB_RELEASE "0.1.0"

/* ARMDB_RELEASE of the library in use. */
const char *armdb_release(void);

enum {
    ARMDB_FEATURE_URING = 1 << 0, /* io_uring works in this process now */
    ARMDB_FEATURE_CHECKS = 1 << 1 /* built with assertions: slow, for tests */
};
/* ARMDB_FEATURE_ bits. Probes io_uring: keep the answer. */
uint32_t armdb_features(void);

/* ---- Stores ---------------------------------------------------------------- */

enum armdb_sync { ARMDB_SYNC_OFF = 0, ARMDB_SYNC_NORMAL = 1, ARMDB_SYNC_FULL = 2 };
enum armdb_io_engine { ARMDB_IO_AUTO = 0, ARMDB_IO_URING = 1, ARMDB_IO_PLAIN = 2 };

/* Bits of armdb_options.given: what the caller set on purpose. A given option
 * that is fixed at creation (shards, shard_prefix_bits) must agree with an
 * existing store; the others apply when this is the store's first opener. */
enum {
    ARMDB_GIVEN_SHARDS = 1 << 0,
    ARMDB_GIVEN_PREFIX_BITS = 1 << 1,
    ARMDB_GIVEN_SEGMENT_SIZE = 1 << 2,
    ARMDB_GIVEN_CACHE_SIZE = 1 << 3,
    ARMDB_GIVEN_IO_ENGINE = 1 << 4,
    ARMDB_GIVEN_IO_DIRECT = 1 << 5,
    ARMDB_GIVEN_COMPACT_AT = 1 << 6,
    ARMDB_GIVEN_COMPACT = 1 << 7,
    ARMDB_GIVEN_COMPACT_RATE = 1 << 8
};

struct armdb_options {
    uint32_t given;             /* ARMDB_GIVEN_ bits */
    uint32_t shards;            /* 1 to ARMDB_SHARDS_MAX */
    uint32_t shard_prefix_bits; /* 0 = the whole key chooses the shard */
    uint64_t segment_size;      /* bytes, 1 MiB to 512 GiB */
    uint64_t cache_size;        /* bytes, at least 1 MiB */
    enum armdb_io_engine io_engine;
    bool io_direct;
    bool compact_off;        /* no compaction in the background */
    uint32_t compact_at;     /* dead share in percent, 1 to 99 */
    uint64_t compact_rate;   /* bytes per second it may read and write; 0: any */
    bool create;             /* make the folder and the store when missing */
    bool read_only;          /* never write; no store is created */
    uint64_t hint_bytes_min; /* shorter segments get no hint; UINT64_MAX: none does */
    uint32_t lock_wait_ms;   /* how long to wait for another process's lock */
};

/* Fills the defaults: 4 shards, 64 MiB segments, 256 MiB cache, buffered I/O,
 * engine auto, compaction in the background at 30 with 256 MiB a second, create. */
void armdb_options_init(struct armdb_options *options);

/* Opens the store in folder `path` (absolute), or counts the open one up. The
 * path ":memory:" makes a new store that lives in memory and is never shared.
 * A folder that cannot be written opens read-only.
 *
 * Gives:  *out, to be given back with armdb_close(); NULL unless ARMDB_OK.
 * Errors: ARMDB_NOT_FOUND (no store and not create), ARMDB_NOTADB (a file, or a
 *         folder of something else), ARMDB_VERSION, ARMDB_CORRUPT, ARMDB_LOCKED
 *         (names the pid), ARMDB_INVALID (option differs: names it),
 *         ARMDB_CANTOPEN, ARMDB_IO, ARMDB_NOMEM, ARMDB_FULL, ARMDB_FORKED. */
enum armdb_rc armdb_open(const char *path, const struct armdb_options *options,
                         struct armdb **out, struct armdb_error *err) ADB_MUST_CHECK;
/* Counts down; the last one syncs what is not yet durable, gives unused
 * preallocated space back and ends the background threads. NULL is allowed. */
void armdb_close(struct armdb *store);

bool armdb_is_read_only(const struct armdb *store);
bool armdb_is_memory(const struct armdb *store);
/* The 16 bytes that name this store for ever. */
void armdb_uuid(const struct armdb *store, unsigned char uuid[16]);
/* What the store runs with (the options in force, `given` = all). */
void armdb_options_get(const struct armdb *store, struct armdb_options *options);
/* "uring" or "plain" or "memory": the I/O engine in force. */
const char *armdb_io_engine_name(const struct armdb *store);
/* Syncs everything committed so far, whatever its sync mode was. */
enum armdb_rc armdb_flush(struct armdb *store, struct armdb_error *err) ADB_MUST_CHECK;
/* Which I/O engines this process can use; probes io_uring once. */
bool armdb_uring_available(void);

/* ---- Backup ---------------------------------------------------------------- */

/* How the caller can stop a long call: asked about once a MiB. */
struct armdb_watch {
    bool (*interrupted)(void *arg); /* NULL: never; called on the calling thread */
    void *arg;
};

struct armdb_backup_info {
    uint64_t gsn; /* the moment: every commit up to this one is in the copy */
    uint64_t segments_linked;
    uint64_t segments_copied;
    uint64_t bytes_copied;
};

/* Copies the whole store, as it is at one moment of this call, into the folder `path`
 * (absolute; made when missing, else empty or an unfinished backup), while others read
 * and write. What is committed is in it, what is not decided at that moment is not, be
 * it the caller's own. Sealed segments are hard links where the file system has them.
 * The copy is a store of its own with the same uuid: see FORMAT.md, "Backup". A store in
 * memory is written to the disk. `watch` may be NULL; *info is filled on success.
 *
 * Errors:  ARMDB_CANTOPEN (among others: the folder is not empty), ARMDB_NOTADB,
 *          ARMDB_LOCKED (another backup into it), ARMDB_INTERRUPT, ARMDB_WOUNDED,
 * ARMDB_IO, ARMDB_FULL, ARMDB_NOMEM, ARMDB_FORKED. After one the folder is empty, or it
 *          is known as an unfinished backup: no store, and good for another try.
 * Locking: any thread; several backups may run. */
enum armdb_rc armdb_backup(struct armdb *store, const char *path,
                           const struct armdb_watch *watch,
                           struct armdb_backup_info *info,
                           struct armdb_error *err) ADB_MUST_CHECK;

/* Replaces the rows of `table` by those of `source`, of a session on another store or on
 * this one, inside the session's transaction, as armdb_table_clear() and puts. Keys and
 * values are taken as they are: whether they mean the same is the caller's to know. Gives
 * the number of rows. Errors: those of both, ARMDB_INTERRUPT; after one the caller rolls
 * back, at least to a savepoint from before. Locking: none; both sessions are the
 * caller's. */
enum armdb_rc armdb_table_restore(struct armdb_session *session,
                                  struct armdb_table *table,
                                  struct armdb_session *source_session,
                                  struct armdb_table *source,
                                  const struct armdb_watch *watch, uint64_t *rows,
                                  struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Compaction ------------------------------------------------------------ */

struct armdb_compact_info {
    uint64_t segments_before;
    uint64_t segments_after;
    uint64_t bytes_before; /* of the log's files */
    uint64_t bytes_after;
    uint64_t bytes_moved; /* written anew */
};

/* Rewrites every segment that holds a dead byte, one after the other, while others read
 * and write; what is being written is sealed first. Space that an open snapshot or a
 * running backup needs comes back after it. `watch` may be NULL; *info is filled always.
 *
 * Errors:  ARMDB_INTERRUPT, ARMDB_READONLY, ARMDB_WOUNDED, ARMDB_IO, ARMDB_FULL,
 *          ARMDB_NOMEM, ARMDB_FORKED. After one the store is as it was but for the
 *          segments that were done. Segments with a damaged record are passed by.
 * Locking: any thread that holds no cursor in use on another; one runs at a time. */
enum armdb_rc armdb_compact(struct armdb *store, const struct armdb_watch *watch,
                            struct armdb_compact_info *info,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* The three change what the options said, until the store is closed. The first holds the
 * background (what it is at is given up, nothing is lost), or lets it go on; it holds
 * nothing of armdb_compact(). The rate counts for both. Locking: any thread. */
void armdb_compact_pause(struct armdb *store, bool paused);
void armdb_compact_rate(struct armdb *store, uint64_t bytes_per_second); /* 0: any */
void armdb_compact_at(struct armdb *store, uint32_t percent);            /* 1 to 99 */

/* ---- Verifying ------------------------------------------------------------- */

/* Something that is not as it should be. All of it is borrowed for the call. */
struct armdb_finding {
    const char *file; /* its name in the store's folder; NULL: none, the index */
    bool has_offset;
    uint64_t offset;   /* in the file */
    const char *table; /* NULL: not known, or none */
    const void *key;   /* as the engine stores it; NULL: not known */
    size_t key_len;
    const char *what;
    const char *todo; /* what to do about it */
};
typedef void armdb_finding_visit(void *arg, const struct armdb_finding *finding);

/* Reads every byte of the store, as it is at one moment of this call, from the files:
 * checks of superblock, manifest and segments, lengths, numbers; what the manifest lists
 * against what is there; every record against the index, every entry of the index
 * against the log, both indexes against each other, rows against their count (that only
 * where nobody writes meanwhile). Calls visit for each finding, on this thread; none:
 * all is well. Others read and write on; what they change is no finding. What was
 * committed is synced first, whatever its mode.
 *
 * Memory: a bit for every 8 bytes of log, and 56 bytes for every key that was deleted.
 * Errors: ARMDB_INTERRUPT, ARMDB_NOMEM, ARMDB_FORKED: it did not get to the end. Files
 * that cannot be read are findings. Locking: any thread; visit() must not close the
 * store. */
enum armdb_rc armdb_verify(struct armdb *store, const struct armdb_watch *watch,
                           armdb_finding_visit *visit, void *arg,
                           struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Salvage --------------------------------------------------------------- */

/* The schema of a table "lost_N", see armdb_salvage(). */
#define ARMDB_SCHEMA_LOST "(lost)"

struct armdb_salvage_info {
    uint64_t tables; /* with a definition, or made for rows that have lost theirs */
    uint64_t rows;   /* that are in the new store */
    uint64_t bytes;  /* of its segments */
    uint64_t segments_read;
    uint64_t lost; /* calls of visit that told of a loss */
};

/* Makes a new store in the folder `target` (absolute; missing, or empty) of everything
 * in `store` that is still whole: of each key the newest row, if its checks are right.
 * The new store has the uuid of the old one and the ids of its tables, so that it can
 * take its place. What was lost is told by visit, as armdb_verify() tells it: rows whose
 * value is damaged, by key; stretches in which nobody can say what stood, so that an
 * older row may stand in the place of a newer one, or of a delete. Rows of a table whose
 * definition is lost go into a table "lost_" and their id, with the schema
 * ARMDB_SCHEMA_LOST. `watch` may be NULL; *info is always filled.
 *
 * Memory: 56 bytes for each key in the log, deleted ones too, and 32 MiB.
 * Errors:  ARMDB_CANTOPEN (the folder is not empty, among others), ARMDB_INTERRUPT,
 *          ARMDB_WOUNDED (close it, and take its folder), ARMDB_IO, ARMDB_FULL,
 *          ARMDB_NOMEM, ARMDB_FORKED. After one no store is there.
 * Locking: any thread; others read and write on, and are not in it. */
enum armdb_rc armdb_salvage(struct armdb *store, const char *target,
                            const struct armdb_watch *watch, armdb_finding_visit *visit,
                            void *arg, struct armdb_salvage_info *info,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* The same for a store that does not open: `path` is its folder. A damaged or missing
 * superblock costs nothing. Without a manifest every segment in the folder counts, and
 * rows that were deleted or rolled back may be back. What a crash left is taken as it is,
 * commits among it that nobody was told of. Nobody may have the store open
 * (ARMDB_LOCKED). ARMDB_NOT_FOUND, ARMDB_NOTADB: no store is there. */
enum armdb_rc armdb_salvage_folder(const char *path, const char *target,
                                   const struct armdb_watch *watch,
                                   armdb_finding_visit *visit, void *arg,
                                   struct armdb_salvage_info *info,
                                   struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Sessions -------------------------------------------------------------- */

enum armdb_rc armdb_session_open(struct armdb *store, struct armdb_session **out,
                                 struct armdb_error *err) ADB_MUST_CHECK;
/* Rolls an open transaction back. All cursors of the session must be closed;
 * handed-out values may still be pinned. NULL is allowed. */
void armdb_session_close(struct armdb_session *session);

/* Acquires the session's snapshot, or counts the held one up; every cursor does
 * so too while it is open. Released with the last count: the next acquire sees a
 * newer moment. A transaction that has written holds it until it ends. */
enum armdb_rc armdb_snapshot_acquire(struct armdb_session *session,
                                     struct armdb_error *err) ADB_MUST_CHECK;
void armdb_snapshot_release(struct armdb_session *session);
/* A snapshot as an object: the moment that the session's snapshot has (the present one
 * when none is held), kept until it is closed, whatever the session does next. It sees
 * what was committed by then, nothing of open transactions. Old versions of rows are kept
 * for it, in memory and on disk.
 *
 * Gives:   *out, to be closed before the store is; NULL unless ARMDB_OK.
 * Errors:  ARMDB_NOMEM, ARMDB_FORKED.
 * Locking: the session is the caller's; the object may be used from any thread. */
enum armdb_rc armdb_snapshot_open(struct armdb_session *session,
                                  struct armdb_snapshot **out,
                                  struct armdb_error *err) ADB_MUST_CHECK;
/* Any thread, when nobody is inside armdb_snapshot_use() with it; sessions that use it
 * keep the moment until they let go of it. NULL is allowed. */
void armdb_snapshot_close(struct armdb_snapshot *snapshot);
/* The session reads the object's moment from now on, with all its cursors and calls, as
 * if it had acquired its snapshot then: until armdb_snapshot_release(). Any number of
 * sessions on any threads may use one object. Who writes from it meets
 * ARMDB_BUSY_SNAPSHOT where a row has changed since.
 *
 * Errors:  ARMDB_MISUSE (the session holds a snapshot or has a transaction open),
 *          ARMDB_INVALID (another store's object), ARMDB_FORKED. */
enum armdb_rc armdb_snapshot_use(struct armdb_session *session,
                                 const struct armdb_snapshot *snapshot,
                                 struct armdb_error *err) ADB_MUST_CHECK;
/* True when something was read with the held snapshot and others have committed since:
 * a serializable writer must not go on from it. */
bool armdb_snapshot_is_stale(const struct armdb_session *session);

/* A new statement: cursors opened from now on see the session's own writes made
 * before this call, and none made after it. */
void armdb_statement_begin(struct armdb_session *session);

/* ---- Tables ---------------------------------------------------------------- */

/* Creates the table `name` inside the session's transaction (one is begun when
 * none is open). `schema` is the caller's own description, returned unchanged by
 * armdb_table_schema(). ARMDB_EXISTS when a table of this name is there. */
enum armdb_rc armdb_table_create(struct armdb_session *session, const char *name,
                                 const void *schema, size_t schema_len,
                                 struct armdb_table **out,
                                 struct armdb_error *err) ADB_MUST_CHECK;
/* Finds a table by name, or by uuid when `uuid` is not NULL (then name may be
 * NULL), as the session sees it. ARMDB_NOT_FOUND when there is none. */
enum armdb_rc armdb_table_open(struct armdb_session *session, const char *name,
                               const unsigned char *uuid, struct armdb_table **out,
                               struct armdb_error *err) ADB_MUST_CHECK;
void armdb_table_close(struct armdb_table *table); /* NULL is allowed */
void armdb_table_uuid(const struct armdb_table *table, unsigned char uuid[16]);
/* Valid until armdb_table_close(). */
void armdb_table_schema(const struct armdb_table *table, const void **schema,
                        size_t *len);
const char *armdb_table_name(const struct armdb_table *table);
/* How durable commits that touch this table through this handle are; the
 * strictest of the tables written decides. Default ARMDB_SYNC_FULL. */
void armdb_table_set_sync(struct armdb_table *table, enum armdb_sync sync);
/* Says that the handle's owner counts on the table, and has no other place to say so than
 * this process, until the handle is closed. It keeps nobody from anything: who is about
 * to drop the table asks armdb_table_is_held(), which is true when a handle other than
 * this one holds it. Any thread may ask. */
void armdb_table_hold(struct armdb_table *table);
bool armdb_table_is_held(const struct armdb_table *table);
/* Removes the table and its rows inside the session's transaction. */
enum armdb_rc armdb_table_drop(struct armdb_session *session, struct armdb_table *table,
                               struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc armdb_table_rename(struct armdb_session *session, struct armdb_table *table,
                                 const char *name,
                                 struct armdb_error *err) ADB_MUST_CHECK;
/* Calls visit(arg, name, uuid) for every table the session sees. */
enum armdb_rc armdb_table_each(struct armdb_session *session,
                               void (*visit)(void *arg, const char *name,
                                             const unsigned char uuid[16]),
                               void *arg, struct armdb_error *err) ADB_MUST_CHECK;
/* Empties the table inside the session's transaction: it gets a new id, so that this is
 * O(1) whatever it holds. Older snapshots read the old rows on; a rollback, also to a
 * savepoint, brings them back. Rows are freed, their bytes counted as dead, in the
 * background once nobody sees them. Cursors that are open stay on the old rows.
 * Errors: ARMDB_BUSY (another open transaction has written to the table, or clears it:
 * armdb_wait()), ARMDB_BUSY_SNAPSHOT (it changed since the snapshot was taken), those of
 * armdb_put(). */
enum armdb_rc armdb_table_clear(struct armdb_session *session, struct armdb_table *table,
                                struct armdb_error *err) ADB_MUST_CHECK;
/* Committed live rows, O(1). */
uint64_t armdb_count(struct armdb_table *table);
/* True when the session's transaction has uncommitted writes in this table. */
bool armdb_table_has_writes(const struct armdb_session *session,
                            const struct armdb_table *table);

/* ---- Transactions ---------------------------------------------------------- */

/* What recovery does with a prepared transaction that has no verdict. */
enum armdb_doubt { ARMDB_DOUBT_COMMIT = 0, ARMDB_DOUBT_ABORT = 1, ARMDB_DOUBT_ASK = 2 };

/* Begins a transaction; ARMDB_OK also when one is open. Takes the snapshot at
 * the first read or write. */
enum armdb_rc armdb_begin(struct armdb_session *session,
                          struct armdb_error *err) ADB_MUST_CHECK;
/* The same for one of a group of writers that exclude one another by a lock of their own,
 * which they let go before armdb_commit() or armdb_rollback(): the caller has the lock.
 * `group` names it, not 0. If the session is in a transaction it joins the group as well.
 *
 * Errors also: ARMDB_BUSY while another of the group is still ending (armdb_wait() waits
 *         for it), ARMDB_BUSY_SNAPSHOT as armdb_snapshot_is_stale() says, when none was
 *         open. */
enum armdb_rc armdb_begin_in_group(struct armdb_session *session, uint64_t group,
                                   struct armdb_error *err) ADB_MUST_CHECK;
bool armdb_in_transaction(const struct armdb_session *session);
/* The statement that begins now will write. If the session has read nothing yet, its
 * first look-up by whole key (armdb_cursor_seek_key) takes the key as a writer does
 * before it reads, so that a read-modify-write of one row never meets
 * ARMDB_BUSY_SNAPSHOT; that seek can then answer ARMDB_BUSY. */
void armdb_expect_write(struct armdb_session *session);
/* This session's commits change nothing that a reader could miss (bookkeeping, and rows
 * that nothing reaches any more): they make nobody's snapshot stale for
 * armdb_begin_in_group(). Owner's thread, before its first transaction. */
void armdb_session_keeps_house(struct armdb_session *session);
/* Savepoints are numbered by the caller, as SQLite does: ids may repeat (the
 * newer one shadows), and one never set stands for the transaction's start. */
enum armdb_rc armdb_savepoint(struct armdb_session *session, int id,
                              struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc armdb_savepoint_release(struct armdb_session *session, int id,
                                      struct armdb_error *err) ADB_MUST_CHECK;
/* Undoes what was written since savepoint id was set, and keeps the savepoint. */
enum armdb_rc armdb_savepoint_rollback(struct armdb_session *session, int id,
                                       struct armdb_error *err) ADB_MUST_CHECK;
/* Makes the transaction's writes durable as its sync mode asks, invisible to
 * others yet. Everything that can fail fails here. Nothing written: no I/O.
 * Prepared and unchanged: nothing to do. */
enum armdb_rc armdb_prepare(struct armdb_session *session, enum armdb_doubt doubt,
                            struct armdb_error *err) ADB_MUST_CHECK;
/* Publishes a prepared transaction and ends it. With doubt ABORT it first writes
 * the commit verdict; a failure there wounds the store and is returned, and the
 * transaction is in doubt until the store is reopened. */
enum armdb_rc armdb_commit(struct armdb_session *session, struct armdb_error *err);
/* Undoes and ends the transaction, whatever its state; after a prepare a durable
 * abort verdict is written first. */
enum armdb_rc armdb_rollback(struct armdb_session *session, struct armdb_error *err);
/* After ARMDB_BUSY: waits until the transaction that held the key has ended.
 * ARMDB_OK: try again. ARMDB_BUSY: `timeout_ms` passed, or waiting would close a
 * cycle of waiters. */
enum armdb_rc armdb_wait(struct armdb_session *session,
                         uint32_t timeout_ms) ADB_MUST_CHECK;

/* ---- Writing one row ------------------------------------------------------- */

/* Inserts or replaces. Bytes are copied; a pointer may be NULL when its length is 0.
 * Refused, it leaves nothing but the transaction, which stays open.
 *
 * Errors: ARMDB_BUSY, ARMDB_BUSY_SNAPSHOT, ARMDB_TOOBIG, ARMDB_INVALID, ARMDB_READONLY,
 *         ARMDB_WOUNDED, ARMDB_NOMEM, ARMDB_FULL, ARMDB_IO, ARMDB_FORKED. */
enum armdb_rc armdb_put(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, const void *value,
                        size_t value_len, struct armdb_error *err) ADB_MUST_CHECK;
/* Inserts; ARMDB_EXISTS when the key has a live row. */
enum armdb_rc armdb_insert(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len, const void *value,
                           size_t value_len, struct armdb_error *err) ADB_MUST_CHECK;
/* Deletes; ARMDB_NOT_FOUND when the key has no live row. */
enum armdb_rc armdb_delete(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len,
                           struct armdb_error *err) ADB_MUST_CHECK;
/* Takes the key as a writer does (conflict checks 1 and 2), without writing:
 * ARMDB_EXISTS when it has a live row, ARMDB_NOT_FOUND when not, else BUSY... In
 * an autocommit statement that has read nothing yet it also moves the snapshot
 * forward, so that a read-modify-write never meets ARMDB_BUSY_SNAPSHOT. */
enum armdb_rc armdb_lock_key(struct armdb_session *session, struct armdb_table *table,
                             const void *key, size_t key_len,
                             struct armdb_error *err) ADB_MUST_CHECK;

/* The shard to which a key routes. A transaction goes as a whole to the shard of the
 * first of its keys in memcmp order (of the table made first): who writes to several
 * shards in parallel does so by transactions of keys that route to different ones. */
uint32_t armdb_key_shard(const struct armdb *store, const void *key, size_t key_len);

/* ---- Changes in one step --------------------------------------------------- */

/* armdb_cas(), armdb_modify() and armdb_batch() are one step each, whoever else writes:
 *
 * - With no transaction open each is a transaction of its own: when it answers ARMDB_OK
 *   it is committed, durable as the tables' sync says. Else nothing has changed.
 * - In an open transaction it takes part in it. Refused, it is undone alone and the
 *   transaction goes on.
 *
 * A row that another transaction holds is waited for, as long as armdb_session_set_wait()
 * says; nothing of the step is held meanwhile. What they see are all writes of the
 * session.
 *
 * Errors of all three: ARMDB_BUSY (a row was not let go in time, or waiting would close a
 * cycle of waiters), ARMDB_BUSY_SNAPSHOT (only where the session holds a snapshot that it
 * has read with, or a transaction that has read: the row has changed since),
 * ARMDB_INVALID (a NULL where something is wanted), ARMDB_MISUSE (a table of another
 * session), those of armdb_put(), armdb_commit() and reading. */

/* How long the session's steps wait for other transactions in all; 5,000 ms at first. */
void armdb_session_set_wait(struct armdb_session *session, uint32_t wait_ms);

/* Compare-and-swap: puts `fresh` if the row's value equals `expected`. expected = NULL:
 * if there is no row. fresh = NULL: deletes. An empty value is a length of 0 with a
 * pointer that is not NULL. ARMDB_MISMATCH: the row has another value, or there is none;
 * nothing has changed, and the row is not held. */
enum armdb_rc armdb_cas(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, const void *expected,
                        size_t expected_len, const void *fresh, size_t fresh_len,
                        struct armdb_error *err) ADB_MUST_CHECK;

enum armdb_verdict { ARMDB_KEEP, ARMDB_UPDATE, ARMDB_DELETE };

/* Says what becomes of a row, by its value; NULL: there is no row. With ARMDB_UPDATE it
 * points *fresh at the new value, which is read before anything else happens and may lie
 * in the old one. It runs on the calling thread with no lock held, and must not use the
 * session. It may be called again, when another one was first: the last call counts. */
typedef enum armdb_verdict armdb_change_row(void *arg, const void *value,
                                            size_t value_len, const void **fresh,
                                            size_t *fresh_len);
/* Read-modify-write: takes the row, shows it to `decide`, does as told. Inside a
 * transaction the row stays taken whatever was decided. */
enum armdb_rc armdb_modify(struct armdb_session *session, struct armdb_table *table,
                           const void *key, size_t key_len, armdb_change_row *decide,
                           void *arg, struct armdb_error *err) ADB_MUST_CHECK;

enum armdb_op_kind {
    ARMDB_OP_PUT,
    ARMDB_OP_INSERT, /* the batch is refused with ARMDB_EXISTS if the row is there */
    ARMDB_OP_DELETE  /* no row is as good */
};
struct armdb_op {
    enum armdb_op_kind kind;
    struct armdb_table *table; /* of the session */
    const void *key;
    size_t key_len;
    const void *value; /* of PUT and INSERT */
    size_t value_len;
};
/* Applies the operations in their order, all or none of them. *stopped_at (may be NULL)
 * gets the place of the operation that was refused, `count` when none was. */
enum armdb_rc armdb_batch(struct armdb_session *session, const struct armdb_op *ops,
                          size_t count, size_t *stopped_at,
                          struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Values and pins ------------------------------------------------------- */

/* A value handed out where it lies. */
struct armdb_value {
    const void *data; /* never NULL; valid until armdb_value_release() */
    size_t len;
    uint32_t kind; /* internal: what holds the pin */
    void *owner;   /* internal */
};

void armdb_value_release(struct armdb_value *value); /* a zeroed one is allowed */
/* Takes one more pin for `inner`, a pointer into the value, and returns the
 * function that gives it back when called with that pointer, on any thread, also
 * after the session or store was closed. NULL when no such pin can be had: the
 * caller copies. This is what SQLite wants as a destructor. */
typedef void (*armdb_unpin)(void *inner);
armdb_unpin armdb_value_pin(const struct armdb_value *value, const void *inner);

/* ---- Reading one row ------------------------------------------------------- */

/* The value of a key as the session sees it, all its own writes included: of its snapshot
 * when it holds one (or has a transaction that has written), else of the present moment.
 *
 * Gives:  *value, to be released with armdb_value_release(); data is NULL unless
 *         ARMDB_OK. It stays valid whatever happens to row, session and store.
 * Errors: ARMDB_NOT_FOUND, ARMDB_INVALID, ARMDB_MISUSE (the table is another session's),
 *         ARMDB_CORRUPT, ARMDB_IO (the row is there and cannot be read), ARMDB_NOMEM,
 *         ARMDB_FORKED. */
enum armdb_rc armdb_get(struct armdb_session *session, struct armdb_table *table,
                        const void *key, size_t key_len, struct armdb_value *value,
                        struct armdb_error *err) ADB_MUST_CHECK;
/* The length of the value alone, in bytes: from the index, nothing is read. It also tells
 * whether a row is there. Errors: as armdb_get(); *value_len is 0 then. */
enum armdb_rc armdb_value_len(struct armdb_session *session, struct armdb_table *table,
                              const void *key, size_t key_len, uint64_t *value_len,
                              struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Cursors --------------------------------------------------------------- */

enum armdb_bound { ARMDB_BOUND_OPEN = 0, ARMDB_BOUND_INCLUSIVE, ARMDB_BOUND_EXCLUSIVE };

/* The rows between two keys. Bytes are copied by the call that takes the range. */
struct armdb_range {
    const void *low;
    size_t low_len;
    enum armdb_bound low_bound;
    const void *high;
    size_t high_len;
    enum armdb_bound high_bound;
    bool reverse;        /* from high to low */
    bool keys_only;      /* a promise to ask for few values: nothing is read ahead */
    uint64_t limit_hint; /* rows the caller will probably take; 0 = unknown */
};

/* Makes a cursor, to be used with any of the three seeks below, again and again.
 * It holds the session's snapshot from the first seek until close or reset. */
enum armdb_rc armdb_cursor_open(struct armdb_session *session, struct armdb_table *table,
                                struct armdb_cursor **out,
                                struct armdb_error *err) ADB_MUST_CHECK;
void armdb_cursor_close(struct armdb_cursor *cursor); /* NULL is allowed */
/* Back to the state after open: no row, no snapshot held. */
void armdb_cursor_reset(struct armdb_cursor *cursor);

/* Each seek goes to its first row: ARMDB_OK, or ARMDB_DONE when there is none.
 * The keys of a list are looked up as one batch and come in the list's order. */
enum armdb_rc armdb_cursor_seek_key(struct armdb_cursor *cursor, const void *key,
                                    size_t key_len,
                                    struct armdb_error *err) ADB_MUST_CHECK;
struct armdb_key {
    const void *data;
    size_t len;
};
enum armdb_rc armdb_cursor_seek_keys(struct armdb_cursor *cursor,
                                     const struct armdb_key *keys, size_t key_count,
                                     struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc armdb_cursor_seek_range(struct armdb_cursor *cursor,
                                      const struct armdb_range *range,
                                      struct armdb_error *err) ADB_MUST_CHECK;
/* To the next row: ARMDB_OK or ARMDB_DONE (then, and only then, there is no row). */
enum armdb_rc armdb_cursor_next(struct armdb_cursor *cursor,
                                struct armdb_error *err) ADB_MUST_CHECK;
/* In a range: past all rows whose keys begin with the first `len` bytes of the current
 * row's key, to the next one in the scan's direction that does not: ARMDB_OK or
 * ARMDB_DONE. What lies between is not read: the cost does not depend on its number.
 * ARMDB_MISUSE when there is no row of a range, or its key is shorter. */
enum armdb_rc armdb_cursor_skip(struct armdb_cursor *cursor, size_t len,
                                struct armdb_error *err) ADB_MUST_CHECK;
/* The current row. Key bytes are valid until the cursor moves. */
void armdb_cursor_key(const struct armdb_cursor *cursor, const void **key, size_t *len);
uint64_t armdb_cursor_value_len(const struct armdb_cursor *cursor); /* reads nothing */
uint64_t armdb_cursor_seq(const struct armdb_cursor *cursor); /* GSN; 0 = uncommitted */
/* A number that no other row of the table has while the cursor's snapshot is held. */
uint64_t armdb_cursor_row_id(const struct armdb_cursor *cursor);
/* Reads and verifies the value; asked again for the same row, it is at hand. It is the
 * cursor's: not to be released, valid until the cursor moves, is reset or closed;
 * armdb_value_pin() for longer.
 * A row whose bytes are damaged is ARMDB_CORRUPT or ARMDB_IO, never absent. */
enum armdb_rc armdb_cursor_value(struct armdb_cursor *cursor, struct armdb_value *value,
                                 struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Ranges ---------------------------------------------------------------- */

/* Makes *range the keys that begin with `prefix`, forwards, with no hint given; the empty
 * prefix is every key. `buffer` has room for prefix_len bytes; it and `prefix` are needed
 * as long as the range is. */
void armdb_range_prefix(struct armdb_range *range, const void *prefix, size_t prefix_len,
                        void *buffer);
/* The row with the lowest, or highest, key of the range (NULL: of the table) as
 * armdb_get() would see it. `reverse` and the hints of the range are not looked at.
 *
 * Gives:  *key, a copy, and *value, each to be released with armdb_value_release(); each
 *         may be NULL: not wanted, and a value not wanted is not read.
 * Errors: those of armdb_get(); ARMDB_NOT_FOUND when the range is empty. */
enum armdb_rc armdb_first(struct armdb_session *session, struct armdb_table *table,
                          const struct armdb_range *range, struct armdb_value *key,
                          struct armdb_value *value,
                          struct armdb_error *err) ADB_MUST_CHECK;
enum armdb_rc armdb_last(struct armdb_session *session, struct armdb_table *table,
                         const struct armdb_range *range, struct armdb_value *key,
                         struct armdb_value *value,
                         struct armdb_error *err) ADB_MUST_CHECK;
/* The number of rows of the range (NULL: of the table) as armdb_get() would see them, by
 * walking the index; no value is read. armdb_count() knows the committed rows of a whole
 * table at once. `watch` may be NULL. Errors: those of armdb_get() but NOT_FOUND,
 * ARMDB_INTERRUPT. */
enum armdb_rc armdb_range_count(struct armdb_session *session, struct armdb_table *table,
                                const struct armdb_range *range,
                                const struct armdb_watch *watch, uint64_t *count,
                                struct armdb_error *err) ADB_MUST_CHECK;
/* Estimated rows between the bounds, from the index; touches a few blocks. */
uint64_t armdb_range_estimate(struct armdb_table *table, const struct armdb_range *range);

/* ---- Warming up ------------------------------------------------------------ */

struct armdb_warm_info {
    uint64_t rows;        /* live ones, looked up in the index */
    uint64_t pages_found; /* pages of 4 KiB that were in memory already */
    uint64_t pages_read;
    uint64_t large_read; /* values over a page */
    bool full;           /* the cache had no more room: some was not read */
};

/* Reads what is live in the table into the cache, in the order of the disk, until the
 * cache is full; nothing that is in memory goes for it. For after an opening, when the
 * first look-ups would each wait for the disk. `watch` is asked about once a MiB and may
 * be NULL; *info (may be NULL) is filled always.
 *
 * A hint: what cannot be read, or moves meanwhile, is passed by, and is met when the row
 * is read. Errors: ARMDB_INTERRUPT, ARMDB_NOMEM, ARMDB_INVALID, ARMDB_MISUSE,
 * ARMDB_FORKED. Locking: none held; others read and write meanwhile. */
enum armdb_rc armdb_warm(struct armdb_session *session, struct armdb_table *table,
                         const struct armdb_watch *watch, struct armdb_warm_info *info,
                         struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Migration ------------------------------------------------------------- */

/* What a migration is to do; zeroed fields are the defaults. */
struct armdb_migrate_options {
    /* Says what becomes of a row. Key and value are valid during the call. With
     * ARMDB_UPDATE it points *new_value at the new value's bytes, which are read before
     * the next call. It runs on the calling thread with no lock held; the row is taken,
     * as by armdb_lock_key(). It must not use the pass's session. */
    enum armdb_verdict (*visit)(void *arg, const void *key, size_t key_len,
                                const void *value, size_t value_len,
                                const void **new_value, size_t *new_len);
    void *arg;
    uint32_t batch_rows; /* rows of one transaction at most; 0 = 1000 */
    uint32_t wait_ms;    /* for another transaction's row, each time */
    /* Where to begin: behind this key; NULL = at the first one. */
    const void *after;
    size_t after_len;
    /* Another table of the same session and a key of it where the pass keeps its place,
     * as a part of each batch's transaction; NULL = nowhere. If the row is there, the
     * pass goes on behind it instead of `after`; at the end it is deleted. So a pass that
     * was stopped, by a kill too, is gone on with by calling it again. */
    struct armdb_table *place_table;
    const void *place_key;
    size_t place_key_len;
    const struct armdb_watch *watch; /* asked before each row; may be NULL */
};

struct armdb_migrate_info {
    uint64_t visited; /* of batches that were committed, as the others */
    uint64_t updated;
    uint64_t deleted;
    uint64_t batches;
};

/* Visits the rows of `table` in the order of their keys and keeps, updates or deletes
 * each as `visit` says, in transactions of at most batch_rows rows (and a MiB or so of
 * new values) of its own, while others read and write. Write hooks are not told.
 *
 * Exactly once: every row that is live when the pass begins and is still there when the
 * pass comes to it is visited once, with the value that it has then: it is taken before
 * it is read, so nobody changes it between the visit and the batch's commit. A row that
 * others insert is visited if it lies ahead of the pass, and not if it lies behind it.
 * When a batch cannot be committed its rows count as not visited: whoever goes on behind
 * the last committed batch visits them again.
 *
 * Gives:   *info always. *last (may be NULL), when not NULL, a copy of the last key whose
 *          batch was committed, to be released with armdb_value_release(); data is NULL
 *          when there was none. It is what `after` is for.
 * Errors:  ARMDB_MISUSE (the session has a transaction or a snapshot open), ARMDB_BUSY (a
 *          row was not let go within wait_ms), ARMDB_INTERRUPT, those of armdb_put(),
 *          armdb_prepare() and reading. After ARMDB_BUSY and ARMDB_INTERRUPT what was
 *          visited is committed; after another one the last batch is rolled back.
 * Locking: none held; the session is the caller's. Others wait for a row of the batch
 *          at work as for any writer's; the pass waits for them with no row taken. */
enum armdb_rc armdb_migrate(struct armdb_session *session, struct armdb_table *table,
                            const struct armdb_migrate_options *options,
                            struct armdb_migrate_info *info, struct armdb_value *last,
                            struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Write hooks ----------------------------------------------------------- */

enum armdb_change_kind {
    ARMDB_CHANGE_INSERT, /* the key had no row before the transaction */
    ARMDB_CHANGE_UPDATE,
    ARMDB_CHANGE_DELETE,
    ARMDB_CHANGE_REPLAY, /* a row that was there when the hook was added */
    ARMDB_CHANGE_CLEAR,  /* the whole table was emptied; no key */
    ARMDB_CHANGE_DROP    /* the table is gone: nothing more comes of it; no key */
};

/* One change, valid during the call, as everything that is got from it. */
struct armdb_change {
    enum armdb_change_kind kind;
    size_t table;    /* its place in armdb_hook_options.tables */
    uint64_t commit; /* rises from commit to commit; the same for all rows of one */
    const void *key;
    size_t key_len;
    uint64_t value_len; /* of the new value, 0 when there is none; reads nothing */
};

struct armdb_hook; /* a registered hook */

struct armdb_hook_options {
    struct armdb_table *const *tables; /* whose changes; handles are needed by the call of
                                        * armdb_hook_add() only */
    size_t table_count;
    /* Told of each change. Called on a thread that commits, with no lock held, by one
     * thread at a time. It may do anything through sessions of its own, also write,
     * commit, add and remove hooks; not close the last handle of the store, nor use the
     * session whose commit it is called from. What it commits is told when it has
     * returned. It must not wait for another thread that commits to this store: that one
     * waits for the hook. */
    void (*call)(void *arg, struct armdb_change *change);
    void *arg;
    bool replay;                     /* first tell of every live row */
    const struct armdb_watch *watch; /* asked during the replay; may be NULL */
};

/* Registers a write hook. From one moment of this call on it is told of every commit to
 * its tables, in the order in which commits become visible over all sessions: for each
 * transaction first the tables that were cleared or dropped, then once each row that it
 * changed, in the order in which the rows were last written. Not told: rows that came and
 * went within the transaction, rolled back writes, armdb_migrate(). armdb_commit()
 * returns when the hooks were told (a commit inside a hook's call may return before).
 *
 * With `replay` it is told of all rows that were live at that moment before: table by
 * table, in the order of keys, on the calling thread. Commits go on meanwhile and are
 * told afterwards: nothing is left out and nothing comes twice. Old versions of what
 * changed are kept until it was told, so a slow hook costs memory.
 *
 * Gives:   *out, for armdb_hook_remove(); NULL unless ARMDB_OK.
 * Errors:  ARMDB_INVALID, ARMDB_NOT_FOUND (no committed table), ARMDB_INTERRUPT,
 *          ARMDB_NOMEM, ARMDB_FORKED, those of reading. After one the hook is called no
 *          more.
 * Locking: any thread. Hooks that are left when the store closes are dropped. */
enum armdb_rc armdb_hook_add(struct armdb *store,
                             const struct armdb_hook_options *options,
                             struct armdb_hook **out,
                             struct armdb_error *err) ADB_MUST_CHECK;
/* Ends a hook; commits that it was not told of yet are not told. ARMDB_OK: no call is
 * running, and none begins. ARMDB_BUSY, only from inside a hook's call: a call of it is
 * running (this one, or on another thread) and is the last; `arg` is needed until it
 * returns. The handle is gone in both cases. NULL is allowed. */
enum armdb_rc armdb_hook_remove(struct armdb_hook *hook);
/* The new value, ARMDB_NOT_FOUND when there is none (DELETE, CLEAR, DROP). Read and
 * verified when asked for; not to be released, valid during the call
 * (armdb_value_pin() for longer). Errors: as armdb_cursor_value(). */
enum armdb_rc armdb_change_value(struct armdb_change *change, struct armdb_value *value,
                                 struct armdb_error *err) ADB_MUST_CHECK;
/* The same for the value before the transaction: of UPDATE and DELETE. */
enum armdb_rc armdb_change_old(struct armdb_change *change, struct armdb_value *value,
                               struct armdb_error *err) ADB_MUST_CHECK;

/* ---- Statistics ------------------------------------------------------------ */

struct armdb_stat {
    const char *name; /* lower case, words joined by '_'; valid during the call */
    uint64_t value;   /* or: */
    const char *text; /* not NULL for a textual row; valid during the call */
    const char *unit; /* "bytes", "count", "ns", "ms", "ratio", "" */
    double ratio;     /* of unit "ratio", where `value` is it rounded down */
};
/* Calls visit(arg, row) for every statistic of the table and its store, in an order that
 * does not change. Reading changes none of them. Names are listed in README,
 * "armdb_stat"; none goes away or changes its meaning. Counters are exact: while others
 * work each is right by itself, at rest they fit together. No lock is held during a call
 * of visit(), which may use the store. */
void armdb_stat_each(struct armdb_table *table,
                     void (*visit)(void *arg, const struct armdb_stat *row), void *arg);

/* ---- Segments -------------------------------------------------------------- */

enum armdb_segment_state {
    ARMDB_SEGMENT_ACTIVE,     /* commits go into it */
    ARMDB_SEGMENT_SEALED,     /* full, or the store was closed: it never changes */
    ARMDB_SEGMENT_COMPACTING, /* sealed; what lives in it is being moved now */
    ARMDB_SEGMENT_RETIRED     /* replaced, still read by a snapshot or being copied */
};

struct armdb_segment {
    uint64_t number;  /* its file is this in 16 hexadecimal digits, and ".seg" */
    const char *name; /* of that file; valid during the call */
    uint32_t shard;
    enum armdb_segment_state state;
    bool compacted;      /* a compaction wrote it, else commits did */
    bool has_hint;       /* beside it lies what the next opening needs to know of it */
    uint64_t records;    /* puts and deletes in it, also those that do not count */
    uint64_t live_bytes; /* of records that are needed or the newest of their key */
    uint64_t dead_bytes; /* of the others, deletions among them */
    uint64_t length;     /* bytes that count, headers and gaps too */
    uint64_t file_bytes; /* of the file: with room that is kept for what comes */
    uint64_t gsn_low;    /* of the commits in it; 0 = none yet */
    uint64_t gsn_high;
    uint64_t age_ms; /* since it was last written */
};

/* Calls visit(arg, segment) for every segment of the store, in rising number, as they are
 * at one moment. Reading changes nothing.
 *
 * Errors:  ARMDB_NOMEM, ARMDB_FORKED; then visit() was not called.
 * Locking: any thread; no lock is held during visit(), which may use the store. */
enum armdb_rc armdb_segment_each(struct armdb *store,
                                 void (*visit)(void *arg,
                                               const struct armdb_segment *segment),
                                 void *arg, struct armdb_error *err) ADB_MUST_CHECK;

/* ---- All stores ------------------------------------------------------------ */

struct armdb_store_info {
    const char *path;      /* or ":memory:"; valid during the call */
    const char *io_engine; /* "uring", "plain", "memory" */
    unsigned char uuid[16];
    bool read_only;
    bool wounded; /* read-only since a write failed */
    uint32_t shards;
    uint32_t openers; /* armdb_open() calls that were not closed yet */
    uint64_t tables;
    uint64_t sessions;
    uint64_t open_transactions;
    uint64_t snapshots; /* sessions that hold one */
    uint64_t uptime_ms;
};

/* Calls visit(arg, info) for every store that is open in this process, whoever opened it;
 * the one opened last comes first.
 *
 * Errors:  ARMDB_NOMEM; then visit() was not called.
 * Locking: any thread. Waits while a store is being opened or closed; no lock is held
 *          during visit(), when the store may be closed already. */
enum armdb_rc armdb_store_each(void (*visit)(void *arg,
                                             const struct armdb_store_info *info),
                               void *arg, struct armdb_error *err) ADB_MUST_CHECK;

#ifdef __cplusplus
}
#endif

#endif
