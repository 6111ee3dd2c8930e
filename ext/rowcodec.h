/* rowcodec.h - the columns of a row that are not in its key, as bytes.
 *
 * One column is read without decoding the others; text and blob are handed out
 * where they lie. Two bytes over a row of one text or blob of any length. The
 * originals of key columns that the key does not tell (see key_encode()) travel in
 * front. Row bytes may come from a damaged file: nothing is read out of bounds. */
#ifndef ARMDB_EXT_ROWCODEC_H
#define ARMDB_EXT_ROWCODEC_H

#include <stddef.h>
#include <stdint.h>

#include "engine/armdb.h"
#include "ext/affinity.h"
#include "ext/bytebuf.h"

/* Appends a row to *out: `count` columns, numbered 0 .. count-1 for row_column(),
 * and, when original_count is not 0, the key's originals (key_originals()).
 *
 * Errors: ARMDB_NOMEM, ARMDB_TOOBIG (over ARMDB_VALUE_BYTES_MAX). On an error
 *         out->len is as before. */
enum armdb_rc row_encode(const struct sql_value *values, uint32_t count,
                         const struct sql_value *originals, uint32_t original_count,
                         struct bytebuf *out) ADB_MUST_CHECK;

/* The same for the common source: picks values[columns[i]] as column i. */
enum armdb_rc row_encode_picked(const struct sql_value *values, const uint32_t *columns,
                                uint32_t count, const struct sql_value *originals,
                                uint32_t original_count,
                                struct bytebuf *out) ADB_MUST_CHECK;

/* Reads column n. A column that the row does not have (it was added to the table
 * after the row was written) is NULL.
 *
 * Gives:  *out; text and blob point into `row`. NULL on an error.
 * Errors: ARMDB_CORRUPT. */
enum armdb_rc row_column(const void *row, size_t len, uint32_t n,
                         struct sql_value *out) ADB_MUST_CHECK;

/* Reads the original of key part `part`; NULL: the key tells it. */
enum armdb_rc row_original(const void *row, size_t len, uint32_t part,
                           struct sql_value *out) ADB_MUST_CHECK;

/* Reads all of columns 0 .. count-1 in one pass. */
enum armdb_rc row_columns(const void *row, size_t len, uint32_t count,
                          struct sql_value *out) ADB_MUST_CHECK;

#endif
