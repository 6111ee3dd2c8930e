/* keycodec.h - keys of a table as byte strings whose memcmp order is SQLite's order.
 *
 * For the declared columns, collations and DESC flags: encodings compare as SQLite
 * compares the keys, and are equal exactly when SQLite calls the keys equal (1 and
 * 1.0; 'a' and 'A' under NOCASE). A single ascending TEXT or BLOB key costs one byte
 * over its length. keycodec.c shows the bytes.
 *
 * Values given to the encoder have had their column's affinity applied
 * (affinity_store()); values of bounds have passed affinity_compare(). */
#ifndef ARMDB_EXT_KEYCODEC_H
#define ARMDB_EXT_KEYCODEC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/armdb.h"
#include "ext/affinity.h"
#include "ext/bytebuf.h"

enum collation { COLLATION_BINARY = 0, COLLATION_NOCASE, COLLATION_RTRIM };

/* One column of a key. */
struct key_part {
    uint32_t column; /* its index among the table's visible columns */
    enum affinity affinity;
    enum collation collation;
    bool desc;
};

struct key_layout {
    uint32_t part_count;    /* at least 1 */
    struct key_part *parts; /* in key order; owned by the schema */
};

/* Appends the key of a row to *out. `row` holds all visible columns of the row;
 * part p takes row[parts[p].column].
 *
 * Gives:  *lossy: the bytes do not tell the original of at least one part (a folded
 *         or trimmed text, 1.0 where 1 is read back). Then the row must carry the
 *         originals: see key_originals() and row_encode().
 * Errors: ARMDB_NOMEM, ARMDB_TOOBIG (over ARMDB_KEY_BYTES_MAX). On an error out->len
 *         is as before. */
enum armdb_rc key_encode(const struct key_layout *layout, const struct sql_value *row,
                         struct bytebuf *out, bool *lossy) ADB_MUST_CHECK;

/* The same with the values of the parts in key order: for look-ups by key, where
 * ARMDB_TOOBIG means that no row can have this key. */
enum armdb_rc key_encode_values(const struct key_layout *layout,
                                const struct sql_value *values,
                                struct bytebuf *out) ADB_MUST_CHECK;

/* Fills originals[0 .. part_count) for row_encode() after key_encode() said lossy:
 * the value of each part that its bytes do not tell, NULL for the others. */
void key_originals(const struct key_layout *layout, const struct sql_value *row,
                   struct sql_value *originals);

/* Reads part `part` of an encoded key.
 *
 * Gives:  *out; text and blob borrow from `key` or from *scratch, valid until
 *         either changes (each decode with one scratch buffer overwrites it).
 *         *exact: true when *out is certainly the value that was stored; false when
 *         the row may carry another original: ask row_original(row, part) and take
 *         that unless it says NULL.
 * Errors: ARMDB_CORRUPT (not an encoding of this layout), ARMDB_NOMEM. */
enum armdb_rc key_decode(const struct key_layout *layout, const void *key, size_t len,
                         uint32_t part, struct bytebuf *scratch, struct sql_value *out,
                         bool *exact) ADB_MUST_CHECK;

/* How many bytes at the beginning of an encoded key stand for the first `n` bytes of its
 * first part, a text or blob of BINARY collation that has them; KEY_FIRST_WHOLE: for the
 * whole first part, of any type. Keys with these bytes in common have that in common,
 * and no others do (but for KEY_FIRST_WHOLE in a key of one ascending part, where the
 * bytes are the key: longer ones may begin with it).
 * Errors: ARMDB_CORRUPT. */
#define KEY_FIRST_WHOLE SIZE_MAX
enum armdb_rc key_first_len(const struct key_layout *layout, const void *key, size_t len,
                            size_t n, size_t *out) ADB_MUST_CHECK;

/* True when key_decode() of this part always says exact, whatever the key. */
bool key_part_is_exact(const struct key_part *part);

/* ---- Ranges ---------------------------------------------------------------- */

/* The keys between two bounds, built up step by step:
 *   key_range_begin(layout, eq, n, &range)      equality on the first n parts
 *   key_range_narrow(layout, n, op, v, &range)  any number of comparisons on part n
 *   key_range_prefix(...)                       and/or text prefixes of part n
 *   key_range_get(&range, &armdb_range)
 * DESC parts turn the bounds round by themselves. A comparison holds for non-NULL
 * values only; keys hold no NULL. */
struct key_range {
    struct bytebuf low;
    struct bytebuf high;
    struct bytebuf scratch; /* a bound before it is compared with the one held */
    enum armdb_bound low_bound;
    enum armdb_bound high_bound;
    size_t prefix_len; /* bytes of low that key_range_begin() wrote */
};

enum key_op { KEY_LT, KEY_LE, KEY_GT, KEY_GE };

void key_range_init(struct key_range *range);
void key_range_fini(struct key_range *range);

/* Starts anew: all keys whose first eq_count parts equal eq[0 .. eq_count). With
 * eq_count == part_count the range is that one key, if it is there. */
enum armdb_rc key_range_begin(const struct key_layout *layout, const struct sql_value *eq,
                              uint32_t eq_count, struct key_range *range) ADB_MUST_CHECK;

/* Adds `part n OP value`, n being the eq_count given to key_range_begin(). The
 * tighter of several bounds counts. The range is then exact: it holds the keys that
 * satisfy all comparisons and no other. */
enum armdb_rc key_range_narrow(const struct key_layout *layout, uint32_t part,
                               enum key_op op, const struct sql_value *value,
                               struct key_range *range) ADB_MUST_CHECK;

enum key_prefix_case {
    KEY_PREFIX_BYTES,   /* GLOB 'abc*': these very bytes */
    KEY_PREFIX_ANY_CASE /* LIKE 'abc%': ASCII letters in either case */
};

/* Adds `part n is TEXT that starts with prefix`. An empty prefix asks for any text.
 *
 * Gives:  *exact: the range (so far as this call narrowed it) holds exactly those
 *         keys. Else it holds them all and some more, and each must be tested:
 *         BINARY with ANY_CASE ([UPPER(p), lower(p)+1)), NOCASE with BYTES, RTRIM
 *         with a prefix that ends in spaces, NOCASE with a NUL in the prefix. */
enum armdb_rc key_range_prefix(const struct key_layout *layout, uint32_t part,
                               const void *prefix, size_t prefix_len,
                               enum key_prefix_case prefix_case, struct key_range *range,
                               bool *exact) ADB_MUST_CHECK;

/* Adds `part n is a BLOB that starts with prefix`; always exact. An empty prefix asks
 * for any blob. */
enum armdb_rc key_range_blobs(const struct key_layout *layout, uint32_t part,
                              const void *prefix, size_t prefix_len,
                              struct key_range *range) ADB_MUST_CHECK;

/* Adds `part n is above everything of this type (SQLITE_TEXT, SQLITE_BLOB) that starts
 * with prefix`, for a part of BINARY collation. */
enum armdb_rc key_range_above(const struct key_layout *layout, uint32_t part, int type,
                              const void *prefix, size_t prefix_len,
                              struct key_range *range) ADB_MUST_CHECK;

/* True when no key can lie between the bounds. */
bool key_range_is_empty(const struct key_range *range);

/* Fills the six bound fields of *out, which borrow from *range. The others (reverse,
 * keys_only, limit_hint) are left alone. */
void key_range_get(const struct key_range *range, struct armdb_range *out);

/* Turns a byte string into the smallest one above everything that begins with it:
 * the last byte that is not 0xFF is raised, what follows dropped. False, and the
 * buffer empty, when there is none (all 0xFF, or empty): no upper bound. */
bool key_successor(struct bytebuf *bytes);

#endif
