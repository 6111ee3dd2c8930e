/* scan.h - reading the frames of a segment from the file.
 *
 * Used by recovery and verify. Reads with large sequential reads past the cache,
 * checks every byte, and delivers whole frames: header, keys and values all check,
 * padding is zero. On request it goes on behind damage. Layer 2. */
#ifndef ADB_ENGINE_LOG_SCAN_H
#define ADB_ENGINE_LOG_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/base/rc.h"
#include "engine/io/io.h"
#include "engine/log/frame.h"
#include "engine/log/record.h"
#include "engine/log/segfile.h"

/* Called for a whole frame, before its records, in file order; frame and records
 * point into the scanner's buffer. A code other than ARMDB_OK ends the scan and is
 * returned; ARMDB_DONE skips the frame's records.
 *
 * With `stretch` the scan goes on behind what is invalid: `damaged` is called instead
 * of `frame` for a frame whose header checks but whose body does not; unless it says
 * ARMDB_DONE, those of its records are delivered whose head checks (value is NULL
 * where the value does not). `stretch` names bytes that belong to no frame or record
 * that can be trusted, once what follows them is known; ARMDB_DONE ends the delivery:
 * the rest is only searched for marks. What lies behind the last frame (from `tail`
 * on) is no stretch. */
struct scan_visitor {
    void *arg;
    enum armdb_rc (*frame)(void *arg, const struct frame *frame, uint64_t offset);
    enum armdb_rc (*record)(void *arg, const struct frame *frame,
                            const struct record *record, uint64_t offset); /* or NULL */
    enum armdb_rc (*damaged)(void *arg, const struct frame *frame, uint64_t offset);
    enum armdb_rc (*stretch)(void *arg, uint64_t from, uint64_t to); /* or both NULL */
    bool patient; /* pages that the device does not give are taken for zeros */
};

struct scan_result {
    uint64_t end;         /* first byte that belongs to no whole frame */
    uint64_t tail;        /* end of the last frame delivered; `end` without `stretch` */
    bool sealed;          /* a SEAL frame ended the segment, at `tail` */
    bool clean;           /* nothing but zeros from `tail` to the file's or limit's end */
    char why[160];        /* why the scan ended at `end`, for error texts */
    uint64_t w_max;       /* highest watermark in any frame header that checks, also those
                             behind `end` (searched for at every multiple of 8) */
    uint64_t durable_max; /* highest durable-bytes mark, likewise */
};

/* Scans frames from SEGMENT_FIRST_FRAME up to `limit` bytes (UINT64_MAX: the file's
 * end). Errors of the device are returned, never taken for the end (but see `patient`);
 * so is ARMDB_VERSION for a frame of an unknown kind. */
enum armdb_rc scan_segment(struct adb_file *file, const char *name,
                           const struct segment_header *header, uint64_t limit,
                           const struct scan_visitor *visitor, struct scan_result *result,
                           struct armdb_error *err) ADB_MUST_CHECK;

#endif
