/* bump.h - memory that is given piece by piece and taken back all at once.
 *
 * A transaction's write entries and staged records live in such memory. A mark
 * remembers a moment; going back to it frees what came later. Layer 4. */
#ifndef ADB_ENGINE_STORE_BUMP_H
#define ADB_ENGINE_STORE_BUMP_H

#include <stddef.h>
#include <stdint.h>

struct bump_block;

struct bump {
    struct bump_block *last; /* owned; blocks are chained backwards */
    size_t used;             /* bytes used of the last block */
    uint64_t total;          /* bytes of all blocks */
};

struct bump_mark {
    struct bump_block *block;
    size_t used;
};

/* A zeroed struct bump is valid and empty. 8-aligned memory, NULL when there is none. */
void *bump_alloc(struct bump *bump, size_t bytes);
struct bump_mark bump_mark(const struct bump *bump);
void bump_back(struct bump *bump, struct bump_mark mark);
void bump_fini(struct bump *bump);

#endif
