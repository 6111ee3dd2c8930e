/* location.h - where a record lies, in one 64-bit word.
 *
 *   bit 63        staged: the low bits are the address of bytes still in a
 *                 transaction's memory
 *   bits 40..62   slot of the segment in this process's segment table, >= 1
 *   bits 0..39    offset of the record in the segment (up to 1 TiB)
 *
 * Slots are never used again while the process has the store open, so a stale
 * location can be told from a live one. On disk segment numbers and offsets have
 * 64 bits each. Layer 2, header only. */
#ifndef ADB_ENGINE_LOG_LOCATION_H
#define ADB_ENGINE_LOG_LOCATION_H

#include <stdbool.h>
#include <stdint.h>

enum { LOCATION_OFFSET_BITS = 40, LOCATION_SLOT_BITS = 23 };

#define LOCATION_NONE UINT64_C(0)
#define LOCATION_STAGED (UINT64_C(1) << 63)
#define LOCATION_SLOT_MAX ((UINT32_C(1) << LOCATION_SLOT_BITS) - 1)
#define LOCATION_SEGMENT_BYTES_MAX (UINT64_C(1) << LOCATION_OFFSET_BITS)

static inline uint64_t location_make(uint32_t slot, uint64_t offset)
{
    return ((uint64_t)slot << LOCATION_OFFSET_BITS) | offset;
}

static inline uint32_t location_slot(uint64_t location)
{
    return (uint32_t)(location >> LOCATION_OFFSET_BITS) & LOCATION_SLOT_MAX;
}

static inline uint64_t location_offset(uint64_t location)
{
    return location & (LOCATION_SEGMENT_BYTES_MAX - 1);
}

static inline bool location_is_staged(uint64_t location)
{
    return (location & LOCATION_STAGED) != 0;
}

static inline uint64_t location_of_staged(const void *bytes)
{
    return LOCATION_STAGED | (uint64_t)(uintptr_t)bytes;
}

static inline unsigned char *location_staged_bytes(uint64_t location)
{
    return (unsigned char *)(uintptr_t)(location & ~LOCATION_STAGED);
}

#endif
