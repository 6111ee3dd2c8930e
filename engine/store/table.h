/* table.h - rows of the catalogue, for those who change them. Layer 4. */
#ifndef ADB_ENGINE_STORE_TABLE_H
#define ADB_ENGINE_STORE_TABLE_H

#include "engine/store/internal.h"

struct catalog_row {
    unsigned char uuid[16];
    uint64_t id;
    const unsigned char *schema;
    size_t schema_len;
};

/* *row points into the value. ARMDB_CORRUPT, ARMDB_VERSION. */
enum armdb_rc catalog_decode(const struct armdb_value *value, struct catalog_row *row,
                             struct armdb_error *err) ADB_MUST_CHECK;
/* Gives the encoded row, to be freed with adb_free(ADB_MEM_MISC); NULL: no memory. */
unsigned char *catalog_encode(const struct catalog_row *row, size_t *len);
/* A handle to the catalogue for one call. */
struct armdb_table catalog_handle(struct armdb_session *session);

#endif
