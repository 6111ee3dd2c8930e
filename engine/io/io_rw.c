/* io_rw.c - reads, writes and syncs by system calls.
 *
 * A call may move less than it was asked to: a signal came, more than 1,024
 * iovecs or 2 GiB were given, the disk filled up half way. So a cursor (iovec,
 * bytes of it already done) walks over the operation until everything has moved.
 * In the middle of an iovec the rest of it goes alone, the following ones go
 * together again: no copy of the caller's array is needed.
 *
 *     iov   [0......][1..........][2....]
 *     call 1 moved ------------->|          cursor = (1, skip)
 *     call 2 takes               |-----|    rest of iovec 1
 *     call 3 takes                     [2....]
 *
 * Ends: a read that gets 0 bytes stands at the end of the file (ENODATA), a write
 * that gets 0 bytes gets no further (EIO). On a direct file progress counts in
 * whole blocks of 4096, because the next call must begin on one; what is left of
 * a block that moved in part is moved again.
 *
 * EINTR. Reads and writes begin again where they stood. A sync that is
 * interrupted is asked again as well: the kernel first waits, uninterruptibly, for
 * the pages and reports their errors; only the waiting for the journal after that
 * can be interrupted. So no failed write is forgotten by asking twice. Any other
 * answer of a sync is final.
 *
 * RLIMIT_FSIZE. A write that would pass the limit is answered with EFBIG before
 * the kernel sees it, because the kernel would also raise SIGXFSZ, which ends a
 * host that has no handler. (Blocking the signal around each call would cost two
 * system calls instead of one cheap one.) What remains is another thread of the
 * host that lowers the limit between the question and the write. */
#define _GNU_SOURCE /* preadv, pwritev, preadv2 */
#include "engine/io/io_rw.h"

#include <errno.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#include "engine/base/thread.h"
#include "engine/io/io_posix.h"

/* The next byte to move. */
struct cursor {
    uint32_t iov_idx;
    size_t skip; /* bytes of that iovec already moved */
};

size_t rw_chain_len(const struct adb_io_op *ops, size_t count)
{
    size_t len = 1;

    while (len < count && ops[len].after_previous)
        len++;
    return len;
}

uint64_t rw_op_bytes(const struct adb_io_op *op)
{
    uint64_t sum = 0;

    for (uint32_t i = 0; i < op->iov_count; i++)
        sum += op->iov[i].iov_len;
    return sum;
}

/* Moves the cursor on by n bytes; iovecs without a byte are passed by. */
static void advance(const struct adb_io_op *op, struct cursor *at, uint64_t n)
{
    while (at->iov_idx < op->iov_count) {
        uint64_t left = op->iov[at->iov_idx].iov_len - at->skip;

        if (n < left) {
            at->skip += (size_t)n;
            return;
        }
        n -= left;
        at->iov_idx++;
        at->skip = 0;
    }
    ADB_ASSERT(n == 0);
}

/* One system call from the cursor on: bytes moved, or -1 with errno. */
static ssize_t move_once(const struct adb_io_op *op, int fd, const struct cursor *at,
                         off_t offset)
{
    const struct iovec *iov = &op->iov[at->iov_idx];
    uint32_t left = op->iov_count - at->iov_idx;
    int count = (int)(left < RW_IOV_MAX ? left : RW_IOV_MAX);
    struct iovec rest;

    if (at->skip > 0) {
        rest.iov_base = (unsigned char *)iov->iov_base + at->skip;
        rest.iov_len = iov->iov_len - at->skip;
        iov = &rest;
        count = 1;
    }
    return op->kind == ADB_IO_READ ? preadv(fd, iov, count, offset)
                                   : pwritev(fd, iov, count, offset);
}

/* Moves what is left of a read or write; 0 or why not. */
static int move_all(const struct adb_io_op *op, uint64_t moved)
{
    const struct posix_file *file = posix_file_of(op->file);
    uint64_t total = rw_op_bytes(op);
    struct cursor at = {0, 0};

    ADB_ASSERT(!file->direct || (op->offset | total) % POSIX_DIRECT_ALIGN == 0);
    if (total > INT64_MAX || op->offset > INT64_MAX - total)
        return op->kind == ADB_IO_READ ? ENODATA : EFBIG;
    if (op->kind == ADB_IO_WRITE && op->offset + total > posix_size_limit())
        return EFBIG;
    if (file->direct)
        moved -= moved % POSIX_DIRECT_ALIGN;
    advance(op, &at, moved);
    while (moved < total) {
        ssize_t n = move_once(op, file->fd, &at, (off_t)(op->offset + moved));

        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0)
            return errno;
        if (file->direct)
            n -= n % POSIX_DIRECT_ALIGN;
        if (n == 0)
            return op->kind == ADB_IO_READ ? ENODATA : EIO;
        advance(op, &at, (uint64_t)n);
        moved += (uint64_t)n;
    }
    return 0;
}

static int sync_data(int fd)
{
    while (fdatasync(fd) != 0)
        if (errno != EINTR)
            return errno;
    return 0;
}

void rw_op_resume(struct adb_io_op *op, uint64_t moved)
{
    ADB_ASSERT(op->kind != ADB_IO_SYNC);
    op->sys_errno = move_all(op, moved);
}

void rw_op_run(struct adb_io_op *op)
{
    if (op->kind == ADB_IO_SYNC)
        op->sys_errno = sync_data(posix_file_of(op->file)->fd);
    else
        op->sys_errno = move_all(op, 0);
}

void rw_run(struct adb_io_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && ops[i].after_previous && ops[i - 1].sys_errno != 0)
            ops[i].sys_errno = ECANCELED;
        else
            rw_op_run(&ops[i]);
    }
}

bool rw_read_cached(struct adb_io_op *op)
{
    const struct posix_file *file = posix_file_of(op->file);
    uint64_t total = rw_op_bytes(op);
    ssize_t n;

    if (op->kind != ADB_IO_READ || file->direct || op->iov_count > RW_IOV_MAX ||
        total > RW_CALL_BYTES_MAX || op->offset > INT64_MAX - total)
        return false;
    n = preadv2(file->fd, op->iov, (int)op->iov_count, (off_t)op->offset, RWF_NOWAIT);
    if (n < 0 || (uint64_t)n != total)
        return false;
    op->sys_errno = 0;
    return true;
}
