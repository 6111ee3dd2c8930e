/* io_uring.c - the engine that gives the kernel whole batches through io_uring.
 *
 * A pool of up to 4 rings of 64 entries. submit() takes a ring for itself, runs its
 * batch through it and gives it back; a fifth thread waits for a ring. Rings are
 * made when they are first needed.
 *
 * What goes through a ring. A batch that is one chain (a single operation, or a
 * write and its sync) has no parallelism, and system calls do it as fast or faster.
 * Measured here (4 processors, ext4, virtual disk; one 4 KiB page written and
 * synced; microseconds, medians of 12 rounds in which the order of the methods
 * rotates, because the machine drifts by more than they differ):
 *
 *                              buffered                     direct
 *                        grow  reserved  written     grow  reserved  written
 *     pwritev, fdatasync  142       115       69      108       108       67
 *     pwritev2 RWF_DSYNC  142       112       68      107       108       66
 *     linked in a ring    156       122       78      114       134       68
 *     O_DIRECT, O_DSYNC                               113       111       67
 *
 * Only under "buffered, written" do the rounds of ring and calls not overlap (76 to
 * 80 against 67 to 71); no column favours the ring. So a single chain goes by system
 * calls (io_rw.c), which also spares the ring. 32 random reads take 390 to 410 us through
 * a ring and 1,540 to 1,830 us in a loop. Four logs written and synced in one batch: 244
 * us here and 211 us in the plain engine buffered, 196 and 202 us direct.
 *
 * How a batch runs. Chains are queued whole, linked with IOSQE_IO_LINK, as long as
 * no more than 64 operations are under way; so neither queue can overflow (the
 * completion queue has 128 entries). A chain that is longer than that, has an
 * operation too large for one call, or would pass RLIMIT_FSIZE, stays out. Each
 * completion's `res` is put into its operation's sys_errno. Then settle() goes over
 * the batch in order and turns these raw answers into results:
 *
 *     all bytes moved                  done
 *     fewer                            the rest is moved by system calls
 *     -EINTR, -EAGAIN                  run again by system calls
 *     -ECANCELED (also: stayed out)    run by system calls, unless the operation
 *                                      before it in the chain has failed
 *     another error                    the result
 *
 * A short count breaks a link in the kernel, so what follows it in the chain comes
 * back cancelled and is run after the rest has been moved: the order holds. No
 * answer of a sync is asked for twice except these three, which all mean that it
 * was not carried out.
 *
 * When the ring itself fails (io_uring_enter() refuses, or takes only a part of
 * what was queued, which could tear a chain), nothing more is queued, everything
 * under way is waited for, because the kernel holds our caller's buffers until
 * then, the ring is closed and system calls do the rest. The next batch tries a
 * new ring.
 *
 * After fork() the child closes its copies of the ring descriptors. The rings'
 * memory is not inherited at all (MADV_DONTFORK).
 *
 * No SQPOLL: a polling kernel thread would burn a processor of our host. */
#define _GNU_SOURCE /* what liburing.h asks for */
#include <errno.h>
#include <liburing.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "engine/base/mem.h"
#include "engine/base/thread.h"
#include "engine/io/io.h"
#include "engine/io/io_posix.h"
#include "engine/io/io_rw.h"

enum {
    RING_COUNT = 4,
    RING_DEPTH = 64,
    DRAIN_PAUSE_NS = 1000000,
    STAYED_OUT = -ECANCELED /* raw answer of an operation never queued */
};

struct slot {
    struct io_uring ring;
    bool open; /* the ring is there; else it is made at the next use */
    bool taken;
};

struct uring_io {
    struct adb_io base;

    struct adb_mutex lock; /* rank ADB_RANK_IO */
    struct adb_cond given; /* a slot was given back */
    struct {
        /* Whoever has taken a slot owns its ring without the lock. */
        struct slot slots[RING_COUNT];
    } locked ADB_GUARDED;
};

/* A batch on its way through a ring. */
struct flight {
    struct io_uring *ring;
    struct adb_io_op *ops;
    size_t count;
    size_t next;        /* first operation not yet looked at */
    unsigned under_way; /* queued and not reaped */
};

static struct uring_io *uring_of(struct adb_io *io)
{
    return (struct uring_io *)io;
}

/* ---- Rings ----------------------------------------------------------------- */

/* 0 or a negative errno. COOP_TASKRUN (Linux 5.19) spares interrupts: the thread
 * that waits runs the completions itself. */
static int open_ring(struct io_uring *ring)
{
    int res = io_uring_queue_init(RING_DEPTH, ring, IORING_SETUP_COOP_TASKRUN);

    if (res == -EINVAL)
        res = io_uring_queue_init(RING_DEPTH, ring, 0);
    if (res < 0)
        return res;
    res = io_uring_ring_dontfork(ring);
    if (res < 0)
        io_uring_queue_exit(ring);
    return res;
}

static bool offers_operations(struct io_uring *ring)
{
    struct io_uring_probe *probe = io_uring_get_probe_ring(ring);
    bool offers;

    if (probe == NULL)
        return false;
    offers = io_uring_opcode_supported(probe, IORING_OP_READV) != 0 &&
             io_uring_opcode_supported(probe, IORING_OP_WRITEV) != 0 &&
             io_uring_opcode_supported(probe, IORING_OP_FSYNC) != 0;
    io_uring_free_probe(probe);
    return offers;
}

/* A slot of our own with an open ring; NULL when no ring can be had. Free slots
 * with a ring come first. */
static struct slot *take_slot(struct uring_io *io)
{
    struct slot *slot = NULL;

    adb_mutex_lock(&io->lock);
    for (;;) {
        for (int i = 0; i < RING_COUNT; i++) {
            struct slot *s = &io->locked.slots[i];

            if (!s->taken && (slot == NULL || (s->open && !slot->open)))
                slot = s;
        }
        if (slot != NULL)
            break;
        adb_cond_wait(&io->given, &io->lock);
    }
    slot->taken = true;
    adb_mutex_unlock(&io->lock);
    if (!slot->open)
        slot->open = open_ring(&slot->ring) == 0;
    return slot;
}

static void give_slot(struct uring_io *io, struct slot *slot)
{
    adb_mutex_lock(&io->lock);
    slot->taken = false;
    adb_cond_signal(&io->given);
    adb_mutex_unlock(&io->lock);
}

/* ---- A batch through a ring ------------------------------------------------ */

static bool fits_ring(const struct adb_io_op *chain, size_t len, uint64_t size_limit)
{
    if (len > RING_DEPTH)
        return false;
    for (size_t i = 0; i < len; i++) {
        uint64_t bytes;

        if (chain[i].kind == ADB_IO_SYNC)
            continue;
        bytes = rw_op_bytes(&chain[i]);
        if (chain[i].iov_count > RW_IOV_MAX || bytes > RW_CALL_BYTES_MAX ||
            chain[i].offset > INT64_MAX - bytes)
            return false;
        if (chain[i].kind == ADB_IO_WRITE && chain[i].offset + bytes > size_limit)
            return false;
    }
    return true;
}

static void queue_op(struct flight *flight, size_t idx, bool link)
{
    const struct adb_io_op *op = &flight->ops[idx];
    struct io_uring_sqe *sqe = io_uring_get_sqe(flight->ring);
    int fd = posix_file_of(op->file)->fd;

    ADB_ASSERT(sqe != NULL); /* no more is under way than the ring has entries */
    switch (op->kind) {
    case ADB_IO_READ:
        io_uring_prep_readv(sqe, fd, op->iov, op->iov_count, op->offset);
        break;
    case ADB_IO_WRITE:
        io_uring_prep_writev(sqe, fd, op->iov, op->iov_count, op->offset);
        break;
    case ADB_IO_SYNC:
        io_uring_prep_fsync(sqe, fd, IORING_FSYNC_DATASYNC);
        break;
    }
    if (link)
        sqe->flags |= IOSQE_IO_LINK;
    io_uring_sqe_set_data64(sqe, idx);
    flight->under_way++;
}

/* Queues chains while there is room for them. */
static void queue_chains(struct flight *flight, uint64_t size_limit)
{
    while (flight->next < flight->count) {
        struct adb_io_op *chain = &flight->ops[flight->next];
        size_t len = rw_chain_len(chain, flight->count - flight->next);

        if (fits_ring(chain, len, size_limit)) {
            if (flight->under_way + len > RING_DEPTH)
                return;
            for (size_t i = 0; i < len; i++)
                queue_op(flight, flight->next + i, i + 1 < len);
        }
        flight->next += len;
    }
}

/* Takes the completions that are there. */
static void reap(struct flight *flight)
{
    struct io_uring_cqe *cqe;
    unsigned head;
    unsigned seen = 0;

    io_uring_for_each_cqe(flight->ring, head, cqe)
    {
        size_t idx = (size_t)io_uring_cqe_get_data64(cqe);

        ADB_ASSERT(idx < flight->count);
        flight->ops[idx].sys_errno = cqe->res;
        seen++;
    }
    io_uring_cq_advance(flight->ring, seen);
    ADB_ASSERT(seen <= flight->under_way);
    flight->under_way -= seen;
}

/* Waits for what the kernel has in hand after the ring has failed. If not even
 * waiting works, looks again from time to time: the buffers are not ours until
 * every completion is there. */
static void drain(struct flight *flight)
{
    const struct timespec pause = {0, DRAIN_PAUSE_NS};
    struct io_uring_cqe *cqe;

    flight->under_way -= io_uring_sq_ready(flight->ring);
    for (;;) {
        int res;

        reap(flight);
        if (flight->under_way == 0)
            return;
        res = io_uring_wait_cqe(flight->ring, &cqe);
        if (res < 0 && res != -EINTR)
            (void)nanosleep(&pause, NULL);
    }
}

/* Runs the chains that fit; false when the ring is not to be used any more. */
static bool fly(struct flight *flight)
{
    uint64_t size_limit = posix_size_limit();

    for (;;) {
        unsigned wait_count;
        int res;

        queue_chains(flight, size_limit);
        if (flight->under_way == 0)
            return true;
        /* More to come: room for half a ring. Else: for all. */
        wait_count = flight->next < flight->count ? (flight->under_way + 1) / 2
                                                  : flight->under_way;
        res = io_uring_submit_and_wait(flight->ring, wait_count);
        if ((res < 0 && res != -EINTR) ||
            (res >= 0 && io_uring_sq_ready(flight->ring) > 0)) {
            drain(flight);
            return false;
        }
        reap(flight);
    }
}

/* ---- From raw answers to results ------------------------------------------- */

static void settle_op(struct adb_io_op *op)
{
    int raw = op->sys_errno;

    if (raw == -EINTR || raw == -EAGAIN || raw == -ECANCELED)
        rw_op_run(op);
    else if (raw < 0)
        op->sys_errno = -raw;
    else if (op->kind == ADB_IO_SYNC || (uint64_t)raw == rw_op_bytes(op))
        op->sys_errno = 0;
    else
        rw_op_resume(op, (uint64_t)raw);
}

static void settle(struct adb_io_op *ops, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (i > 0 && ops[i].after_previous && ops[i - 1].sys_errno != 0)
            ops[i].sys_errno = ECANCELED;
        else
            settle_op(&ops[i]);
    }
}

static void uring_submit(struct adb_io *base, struct adb_io_op *ops, size_t count)
{
    struct uring_io *io = uring_of(base);
    struct flight flight = {.ops = ops, .count = count};
    struct slot *slot;

    if (count == 0)
        return;
    if (rw_chain_len(ops, count) == count) {
        rw_run(ops, count);
        return;
    }
    for (size_t i = 0; i < count; i++)
        ops[i].sys_errno = STAYED_OUT;
    slot = take_slot(io);
    if (slot->open) {
        flight.ring = &slot->ring;
        if (!fly(&flight)) {
            io_uring_queue_exit(&slot->ring);
            slot->open = false;
        }
    }
    give_slot(io, slot);
    settle(ops, count);
}

/* ---- Life ------------------------------------------------------------------ */

static ADB_NOT_SHARED void uring_forked(struct adb_io *base)
{
    struct uring_io *io = uring_of(base);

    for (int i = 0; i < RING_COUNT; i++) {
        struct slot *slot = &io->locked.slots[i];

        if (slot->open)
            (void)close(slot->ring.ring_fd);
        slot->open = false;
    }
}

static ADB_NOT_SHARED void uring_destroy(struct adb_io *base)
{
    struct uring_io *io = uring_of(base);

    if (io == NULL)
        return;
    for (int i = 0; i < RING_COUNT; i++) {
        ADB_ASSERT(!io->locked.slots[i].taken);
        if (io->locked.slots[i].open)
            io_uring_queue_exit(&io->locked.slots[i].ring);
    }
    adb_cond_fini(&io->given);
    adb_mutex_fini(&io->lock);
    adb_free(ADB_MEM_IO, io);
}

static const struct adb_io_ops uring_ops = {
    .name = "uring",
    .dir_open = posix_dir_open,
    .dir_close = posix_dir_close,
    .dir_identity = posix_dir_identity,
    .dir_is_writable = posix_dir_is_writable,
    .dir_list = posix_dir_list,
    .dir_sync = posix_dir_sync,
    .dir_rename = posix_dir_rename,
    .dir_unlink = posix_dir_unlink,
    .dir_link = posix_dir_link,
    .lock_acquire = posix_lock_acquire,
    .lock_release = posix_lock_release,
    .forked_dir = posix_forked_dir,
    .forked_file = posix_forked_file,
    .forked = uring_forked,
    .file_open = posix_file_open,
    .file_close = posix_file_close,
    .file_size = posix_file_size,
    .file_changed_ns = posix_file_changed_ns,
    .file_truncate = posix_file_truncate,
    .file_reserve = posix_file_reserve,
    .file_is_direct = posix_file_is_direct,
    .file_drop_cache = posix_file_drop_cache,
    .submit = uring_submit,
    .wall_ns = posix_wall_ns,
    .random = posix_random,
    .destroy = uring_destroy,
};

static enum armdb_rc fail_setup(int error, struct armdb_error *err)
{
    const char *hint = "";

    if (error == ENOSYS)
        hint = " (the kernel has none)";
    else if (error == EPERM || error == EACCES)
        hint = " (forbidden by kernel.io_uring_disabled or a seccomp filter)";
    else if (error == ENOMEM)
        hint = " (memory or the limit of locked memory, ulimit -l)";
    else if (error == EMFILE || error == ENFILE)
        hint = " (open files, ulimit -n)";
    /* Always CANTOPEN, also for ENOMEM: the answer to all of them is to fall back. */
    if (err != NULL) {
        (void)adb_fail_errno(error, ARMDB_CANTOPEN, err, "io_uring cannot be used%s",
                             hint);
        err->rc = ARMDB_CANTOPEN;
    }
    return ARMDB_CANTOPEN;
}

static enum armdb_rc init_locks(struct uring_io *io)
{
    if (adb_mutex_init(&io->lock, ADB_RANK_IO) != ARMDB_OK)
        return ARMDB_NOMEM;
    if (adb_cond_init(&io->given) == ARMDB_OK)
        return ARMDB_OK;
    adb_mutex_fini(&io->lock);
    return ARMDB_NOMEM;
}

ADB_NOT_SHARED enum armdb_rc adb_io_uring_create(struct adb_io **out,
                                                 struct armdb_error *err)
{
    struct uring_io *io = adb_alloc_zero(ADB_MEM_IO, sizeof *io);
    struct slot *first;
    int res;

    *out = NULL;
    if (io == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory for the io_uring engine");
    if (init_locks(io) != ARMDB_OK) {
        adb_free(ADB_MEM_IO, io);
        return ADB_FAIL(ARMDB_NOMEM, err, "no lock for the io_uring engine");
    }
    io->base.ops = &uring_ops;
    first = &io->locked.slots[0];
    res = open_ring(&first->ring);
    first->open = res == 0;
    if (first->open && offers_operations(&first->ring)) {
        *out = &io->base;
        return ARMDB_OK;
    }
    uring_destroy(&io->base);
    if (res < 0)
        return fail_setup(-res, err);
    return ADB_FAIL(ARMDB_CANTOPEN, err,
                    "io_uring cannot be used: it lacks READV, WRITEV or FSYNC here");
}
