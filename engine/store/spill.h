/* spill.h - transactions larger than memory's share. Layer 4. */
#ifndef ADB_ENGINE_STORE_SPILL_H
#define ADB_ENGINE_STORE_SPILL_H

#include "engine/store/internal.h"

/* Writes the session's staged records as CHUNK frames when they have outgrown the
 * store's share. On an error nothing is lost: the records stay staged. */
enum armdb_rc spill_if_large(struct armdb_session *session,
                             struct armdb_error *err) ADB_MUST_CHECK;
/* Has this transaction chunks on the log? Then spill_close() ends it instead of a
 * COMMIT frame: the rest goes into a last chunk, a CLOSE names them all. */
bool spill_has_chunks(const struct txn *txn);
enum armdb_rc spill_close(struct armdb_session *session,
                          struct armdb_error *err) ADB_MUST_CHECK;
/* A write was undone: its ordinal is void. Returns false when out of memory; the
 * transaction can then only be rolled back. */
bool spill_void(struct txn *txn, const struct txn_write *write);
/* The transaction ended: with its CLOSE's GSN, or 0 when it was rolled back. */
void spill_end(struct armdb *store, struct txn *txn, uint64_t gsn);
/* Frees what a transaction knows of its chunks. */
void spill_fini(struct txn *txn);

#endif
