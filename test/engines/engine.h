/* engine.h - what the benchmark of the engines asks of each of them.
 *
 * engines.c         rounds, children, answers, the table of results
 * phases.c          what is measured; every answer is checked
 * engine_armdb.c    engine/armdb.h, no SQLite
 * engine_lmdb.c     liblmdb
 * engine_rocksdb.c  librocksdb, its C interface
 *
 * A key is ENGINE_KEY_LEN bytes, a value begins with the row's number (8 bytes) and a
 * counter (8 bytes). An engine that fails a call ends the program. */
#ifndef TEST_ENGINES_ENGINE_H
#define TEST_ENGINES_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { ENGINE_KEY_LEN = 16, ENGINE_BATCH = 1000, ENGINE_CACHE_BYTES = 256 << 20 };

struct engine_slice {
    const void *data;
    size_t len;
};
struct engine_pair {
    char key[ENGINE_KEY_LEN];
    const void *value;
    size_t len;
};
/* Rows in the order of keys. */
struct engine_scan {
    const char *from; /* NULL: from the end; the first row at it, or behind it */
    size_t prefix;    /* so many bytes of `from` are a prefix that rows must have */
    uint64_t rows_max;
    bool reverse;
    bool values;
    /* What was found. */
    uint64_t rows;
    uint64_t key_sum;   /* of the keys' first 8 bytes */
    uint64_t value_sum; /* of the values' numbers, when asked for */
};

struct engine {
    const char *name;
    /* synced: a commit returns when it is on the disk. */
    void *(*open)(const char *folder, bool synced);
    void (*close)(void *db);
    /* One thread's way to it. */
    void *(*join)(void *db);
    void (*leave)(void *user);
    /* After the load: brings the engine into the state in which it reads best. */
    void (*settle)(void *db);
    /* Reads of this user are of one moment from now on, or each of its own again. */
    void (*hold)(void *user, bool on);
    /* False when there is none. The value is valid until the user's next call. */
    bool (*get)(void *user, const char *key, struct engine_slice *value);
    /* Each a transaction of its own. */
    void (*put)(void *user, const char *key, const void *value, size_t len);
    void (*batch)(void *user, const struct engine_pair *pairs, size_t count);
    /* Adds one to the value's counter. */
    void (*modify)(void *user, const char *key);
    void (*scan)(void *user, struct engine_scan *scan);
    void (*warm)(void *user); /* NULL: it has no such thing */
};

extern const struct engine engine_armdb;
extern const struct engine engine_lmdb;
extern const struct engine engine_rocksdb;

/* Prints and ends the program. */
void engine_fail(const char *engine, const char *what, const char *why)
    __attribute__((noreturn));

/* Counts a row of a scan. */
static inline void engine_scan_add(struct engine_scan *scan, const void *key,
                                   const void *value)
{
    uint64_t number;

    __builtin_memcpy(&number, key, sizeof number);
    scan->key_sum += number;
    if (value != NULL) {
        __builtin_memcpy(&number, value, sizeof number);
        scan->value_sum += number;
    }
    scan->rows++;
}

#endif
