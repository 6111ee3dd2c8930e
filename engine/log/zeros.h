/* zeros.h - looking for the first byte that is not zero.
 *
 * Reserved fields, padding and the unused tail of a preallocated file are zero, and
 * readers check that. Private to log/. Layer 2, header only. */
#ifndef ADB_ENGINE_LOG_ZEROS_H
#define ADB_ENGINE_LOG_ZEROS_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* How many bytes at p are zero before the first other one: n when all are. */
static inline size_t zeros_count(const unsigned char *p, size_t n)
{
    size_t i = 0;

    while (n - i >= 8) {
        uint64_t word;

        memcpy(&word, p + i, sizeof word);
        if (word != 0)
            break;
        i += 8;
    }
    while (i < n && p[i] == 0)
        i++;
    return i;
}

#endif
