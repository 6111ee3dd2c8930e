/* fault_io.h - an I/O engine around another one whose n-th call fails.
 *
 * Every operation that can fail counts: opening, size, listing, each read, write and
 * sync of a batch, rename, unlink, truncate, directory sync. */
#ifndef ADB_TEST_UNIT_FAULT_IO_H
#define ADB_TEST_UNIT_FAULT_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "engine/io/io.h"

/* `inner` is borrowed. */
struct adb_io *fault_io_create(struct adb_io *inner);
void fault_io_destroy(struct adb_io *io);
/* The n-th call from now on fails (1 = the next; 0 = none), and, when `sticky`, every
 * later one, as if the process had been killed there. */
void fault_io_fail_at(struct adb_io *io, uint64_t n, bool sticky);
/* Calls since fault_io_fail_at(). */
uint64_t fault_io_calls(struct adb_io *io);

#endif
