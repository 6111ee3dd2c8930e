/* io_rw.h - the operations of a batch, by system calls.
 *
 * The plain engine runs on these alone; the uring engine uses them for whatever
 * has no parallelism and to finish what a ring left unfinished. A chain is an
 * operation and those that follow it with `after_previous`. All files are
 * posix_files. Private to the engines. Layer 1. */
#ifndef ADB_ENGINE_IO_IO_RW_H
#define ADB_ENGINE_IO_IO_RW_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/io/io.h"

enum { RW_IOV_MAX = 1024 };                    /* iovecs that one system call takes */
#define RW_CALL_BYTES_MAX UINT64_C(0x7ffff000) /* bytes that one system call moves */

/* Operations of the chain that begins at ops[0]; at least 1. */
size_t rw_chain_len(const struct adb_io_op *ops, size_t count);
/* Bytes that a read or write is to move. */
uint64_t rw_op_bytes(const struct adb_io_op *op);

/* Runs one operation to its end and sets its sys_errno. */
void rw_op_run(struct adb_io_op *op);
/* The same for a read or write of which the first `moved` bytes are done. */
void rw_op_resume(struct adb_io_op *op, uint64_t moved);
/* Runs operations one after the other; `after_previous` looks at the one before,
 * for ops[0] at nothing. */
void rw_run(struct adb_io_op *ops, size_t count);
/* Does a read only if the kernel's cache holds all its bytes; true when done. */
bool rw_read_cached(struct adb_io_op *op);

#endif
