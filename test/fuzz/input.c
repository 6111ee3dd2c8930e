/* input.c - an input read from its front.
 *
 * Every reader gives zeros behind the end, so a program never has to ask how much is
 * left, and a longer input is a shorter one with something added. */
#include <stdlib.h>
#include <string.h>

#include "test/fuzz/harness.h"

uint8_t fuzz_u8(struct fuzz_input *in)
{
    if (in->left == 0)
        return 0;
    in->left--;
    return *in->p++;
}

uint16_t fuzz_u16(struct fuzz_input *in)
{
    uint16_t low = fuzz_u8(in);

    return (uint16_t)(low | (fuzz_u8(in) << 8));
}

uint64_t fuzz_u64(struct fuzz_input *in)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v |= (uint64_t)fuzz_u8(in) << (8 * i);
    return v;
}

uint64_t fuzz_number(struct fuzz_input *in)
{
    uint8_t how = fuzz_u8(in);
    uint64_t small = fuzz_u8(in);

    switch (how >> 6) {
    case 0:
        return small;
    case 1: /* near a power of two */
        return (UINT64_C(1) << (how & 63)) + small - 128;
    case 2:
        return small | (uint64_t)fuzz_u8(in) << 8 | (uint64_t)fuzz_u8(in) << 16;
    default:
        return fuzz_u64(in);
    }
}

const uint8_t *fuzz_bytes(struct fuzz_input *in, size_t n, size_t *got)
{
    const uint8_t *p = in->p;

    *got = n < in->left ? n : in->left;
    in->p += *got;
    in->left -= *got;
    return p;
}

uint8_t *fuzz_copy(const void *p, size_t n)
{
    uint8_t *copy = malloc(n > 0 ? n : 1);

    FUZZ_CHECK(copy != NULL);
    if (n > 0)
        memcpy(copy, p, n);
    return copy;
}

void fuzz_scribble(void *p, size_t n)
{
    memset(p, 0xA5, n);
}
