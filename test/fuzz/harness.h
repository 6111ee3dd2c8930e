/* harness.h - what the fuzzing programs share.
 *
 * Each test/fuzz/fuzz_NAME.c defines `fuzz_setup` and LLVMFuzzerTestOneInput(); the rest
 * of a libFuzzer program is harness.c. Called without arguments the program does what
 * `make check` wants of it: all seeds, then a fixed number of runs from a fixed seed.
 * With arguments it is a libFuzzer program like any other. */
#ifndef TEST_FUZZ_HARNESS_H
#define TEST_FUZZ_HARNESS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fuzz_setup {
    const char *name; /* test/fuzz/seeds/NAME, fuzz_NAME */
    unsigned runs;    /* in `make check` */
    unsigned len_max; /* bytes of an input */
    /* Bytes that the engine may have in use at once, beside those of the base and
     * this many times the input; a larger demand is an error. */
    size_t mem_base;
    size_t mem_factor;
};
extern const struct fuzz_setup fuzz_setup;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What must hold whatever the bytes are. */
#define FUZZ_CHECK(cond) ((cond) ? (void)0 : fuzz_failed(#cond, __FILE__, __LINE__))
void fuzz_failed(const char *condition, const char *file, int line)
    __attribute__((noreturn));

/* At the beginning of an input, and at its end: memory is held against the limits in
 * between, and none of it may be left. */
void fuzz_begin(size_t input_bytes);
void fuzz_end(void);

/* The input, read from its front; behind its end come zeros. */
struct fuzz_input {
    const uint8_t *p;
    size_t left;
};
uint8_t fuzz_u8(struct fuzz_input *in);
uint16_t fuzz_u16(struct fuzz_input *in);
uint64_t fuzz_u64(struct fuzz_input *in);
/* A number of any size: small ones are as likely as those near the limits. */
uint64_t fuzz_number(struct fuzz_input *in);
/* The next n bytes, or what is left of them. */
const uint8_t *fuzz_bytes(struct fuzz_input *in, size_t n, size_t *got);
/* A copy of exactly n bytes of the heap, so that the sanitizer sees a byte too far.
 * To be freed with free(). */
uint8_t *fuzz_copy(const void *p, size_t n);

/* A struct that no call has set: to see that every out parameter is. */
#define FUZZ_SCRIBBLE(x) fuzz_scribble(&(x), sizeof(x))
void fuzz_scribble(void *p, size_t n);

#endif
