/* drop.h - tables of a store whose place in a database is not settled: dropped ones
 * whose DROP may still be rolled back, and new ones whose CREATE may be. */
#ifndef ARMDB_EXT_DROP_H
#define ARMDB_EXT_DROP_H

#include <stdbool.h>

#include "ext/conn.h"
#include "ext/shadow.h"

/* Names of tables that begin so are armdb's own. */
#define DROP_RESERVED_PREFIX "armdb:"

/* xDestroy: remembers the drop, in the store as well unless that is in memory or the
 * table was in the TEMP schema. */
enum armdb_rc drop_record(struct conn_store *store, const char *schema,
                          const struct shadow *shadow,
                          struct armdb_error *err) ADB_MUST_CHECK;

/* xCreate: registers the attachment in the session's transaction and remembers that
 * the table is new. */
enum armdb_rc drop_attach(struct conn_store *store, const char *schema,
                          const struct shadow *shadow,
                          struct armdb_error *err) ADB_MUST_CHECK;
/* First write of a later transaction: the attachment's CREATE was committed. */
enum armdb_rc drop_confirm(struct conn_store *store, const char *schema,
                           const struct shadow *shadow,
                           struct armdb_error *err) ADB_MUST_CHECK;

/* Removes from the session's transaction the new tables whose CREATE was rolled back
 * to a savepoint, which nobody tells them. */
int drop_reap(struct conn_store *store, struct armdb_error *err);
/* The transaction is over: nothing is new any more. */
void drop_transaction_ended(struct conn_store *store);

/* True when the table is dropped, so far as this connection sees. */
bool drop_is_pending(const struct conn_store *store, const unsigned char *table);
/* True when the table of this uuid is what a killed CREATE in this schema left. */
enum armdb_rc drop_is_orphan(struct conn_store *store, const char *schema,
                             const unsigned char *table, bool *orphan,
                             struct armdb_error *err) ADB_MUST_CHECK;

/* Carries out or cancels what is pending, if this moment allows it: autocommit, and at
 * most `writers` running statements that write. Failures leave it pending. */
void drop_settle(struct conn_store *store, uint32_t writers);

/* Reads, once, what earlier processes left pending. Failures leave it where it is. */
void drop_load(struct conn_store *store);

#endif
