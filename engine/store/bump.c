/* bump.c - blocks of growing size, chained; the newest is filled.
 *
 * The first block is small (a transaction of one row should cost one small
 * allocation), later ones double up to 1 MiB; a larger piece gets a block of its own
 * size. */
#include "engine/store/bump.h"

#include "engine/base/mem.h"

enum { BLOCK_MIN = 256, BLOCK_MAX = 1 << 20 };

struct bump_block {
    struct bump_block *previous;
    size_t size; /* of bytes[] */
    _Alignas(16) unsigned char bytes[];
};

void *bump_alloc(struct bump *bump, size_t bytes)
{
    size_t size = (bytes + 7) & ~(size_t)7;
    struct bump_block *block = bump->last;
    void *p;

    if (size < bytes)
        return NULL;
    if (block == NULL || block->size - bump->used < size) {
        size_t block_size = block == NULL ? BLOCK_MIN : block->size * 2;

        if (block_size > BLOCK_MAX)
            block_size = BLOCK_MAX;
        if (block_size < size)
            block_size = size;
        block = adb_alloc(ADB_MEM_TXN, sizeof *block + block_size);
        if (block == NULL)
            return NULL;
        block->previous = bump->last;
        block->size = block_size;
        bump->last = block;
        bump->used = 0;
        bump->total += block_size;
    }
    p = block->bytes + bump->used;
    bump->used += size;
    return p;
}

struct bump_mark bump_mark(const struct bump *bump)
{
    struct bump_mark mark = {bump->last, bump->used};

    return mark;
}

void bump_back(struct bump *bump, struct bump_mark mark)
{
    while (bump->last != mark.block) {
        struct bump_block *block = bump->last;

        bump->last = block->previous;
        bump->total -= block->size;
        adb_free(ADB_MEM_TXN, block);
    }
    bump->used = mark.used;
}

void bump_fini(struct bump *bump)
{
    struct bump_mark start = {NULL, 0};

    bump_back(bump, start);
}
