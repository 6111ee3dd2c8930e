/* bytes.h - little-endian integers and varints in byte strings.
 *
 * On disk every fixed integer is little-endian. Varints are LEB128: seven bits
 * a byte, low bits first, the high bit set on all but the last. Decoders take
 * the number of bytes left and never read past it. Layer 0, header only. */
#ifndef ADB_ENGINE_BASE_BYTES_H
#define ADB_ENGINE_BASE_BYTES_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t adb_get_u16(const unsigned char *p)
{
    return (uint16_t)((unsigned)p[0] | ((unsigned)p[1] << 8));
}

static inline uint32_t adb_get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] | ((uint32_t)p[1] << 8) | ((uint32_t)p[2] << 16) |
           ((uint32_t)p[3] << 24);
}

static inline uint64_t adb_get_u64(const unsigned char *p)
{
    return (uint64_t)adb_get_u32(p) | ((uint64_t)adb_get_u32(p + 4) << 32);
}

static inline void adb_put_u16(unsigned char *p, uint16_t v)
{
    p[0] = (unsigned char)(v & 0xff);
    p[1] = (unsigned char)(v >> 8);
}

static inline void adb_put_u32(unsigned char *p, uint32_t v)
{
    p[0] = (unsigned char)(v & 0xff);
    p[1] = (unsigned char)((v >> 8) & 0xff);
    p[2] = (unsigned char)((v >> 16) & 0xff);
    p[3] = (unsigned char)(v >> 24);
}

static inline void adb_put_u64(unsigned char *p, uint64_t v)
{
    adb_put_u32(p, (uint32_t)(v & 0xffffffffu));
    adb_put_u32(p + 4, (uint32_t)(v >> 32));
}

/* Big-endian load: the numeric order of the result is memcmp order. */
static inline uint64_t adb_get_u64_be(const unsigned char *p)
{
    uint64_t v = 0;

    for (int i = 0; i < 8; i++)
        v = (v << 8) | p[i];
    return v;
}

static inline void adb_put_u64_be(unsigned char *p, uint64_t v)
{
    for (int i = 7; i >= 0; i--) {
        p[i] = (unsigned char)(v & 0xff);
        v >>= 8;
    }
}

enum { ADB_VARINT_MAX = 10 };

/* Bytes that v takes as a varint: 1 to 10. */
static inline size_t adb_varint_len(uint64_t v)
{
    size_t n = 1;

    while (v >= 0x80) {
        v >>= 7;
        n++;
    }
    return n;
}

/* Writes v at p, which has room for adb_varint_len(v); returns the length. */
static inline size_t adb_put_varint(unsigned char *p, uint64_t v)
{
    size_t n = 0;

    while (v >= 0x80) {
        p[n++] = (unsigned char)((v & 0x7f) | 0x80);
        v >>= 7;
    }
    p[n++] = (unsigned char)v;
    return n;
}

/* Reads a varint from at most `left` bytes. Returns its length, 0 when it is
 * cut off, longer than ten bytes, over 64 bits, or not in its shortest form. */
static inline size_t adb_get_varint(const unsigned char *p, size_t left, uint64_t *v)
{
    uint64_t value = 0;

    for (size_t n = 0; n < left && n < ADB_VARINT_MAX; n++) {
        uint64_t bits = p[n] & 0x7fu;

        if (n == 9 && bits > 1)
            break;
        value |= bits << (7 * n);
        if ((p[n] & 0x80) == 0) {
            if (n > 0 && p[n] == 0)
                break;
            *v = value;
            return n + 1;
        }
    }
    *v = 0;
    return 0;
}

#endif
