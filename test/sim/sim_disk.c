/* sim_disk.c - the I/O seam on a simulated disk.
 *
 * Every function of struct adb_io_ops counts as one call (each operation of a batch by
 * itself), may be the one that a test wants to fail, and is a place where another
 * coroutine may go on: before it starts, and between its start and its end. So a write
 * or a sync takes time, others run meanwhile, and what they do is not covered by it: a
 * sync makes durable what was complete when it began.
 *
 * The operations of a batch run in an order drawn from the seed, but for chains
 * (after_previous). */
#include "test/sim/sim_disk.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/mem.h"
#include "test/sim/sim_sched.h"

enum { FLIGHTS_MAX = 256 };

struct sim_io {
    struct adb_io base;
    struct sim_disk *disk;
};
struct sim_dir {
    struct adb_dir base;
    uint32_t dir;
};
struct sim_file {
    struct adb_file base;
    uint32_t inode;
    bool writable;
    bool direct;
};

/* A write that has begun and not ended. */
struct flight {
    const struct sim_disk *disk; /* NULL = free */
    const struct adb_file *file;
    uint32_t inode;
    uint64_t from;
    uint64_t to;
};

static struct sim_disk *mounted;
static unsigned handles;
static struct flight flights[FLIGHTS_MAX];

/* ---- Journal ---- */

static struct sim_event *new_event(struct sim_disk *disk, enum sim_event_kind kind,
                                   uint32_t inode, uint32_t dir, uint64_t offset)
{
    static struct sim_event none;
    struct sim_journal *journal = disk->journal;
    struct sim_event *event = &none;

    if (journal != NULL) {
        if (journal->count == journal->capacity) {
            journal->capacity = journal->capacity * 2 + 256;
            journal->events =
                realloc(journal->events, journal->capacity * sizeof *journal->events);
        }
        event = &journal->events[journal->count++];
    }
    memset(event, 0, sizeof *event);
    event->kind = kind;
    event->inode = inode;
    event->dir = dir;
    event->offset = offset;
    return event;
}

static void event_names(struct sim_event *event, const char *name, const char *name2)
{
    (void)snprintf(event->name, sizeof event->name, "%s", name);
    (void)snprintf(event->name2, sizeof event->name2, "%s", name2);
}

/* ---- The disk itself ---- */

struct sim_disk *sim_disk_create(uint64_t seed)
{
    struct sim_disk *disk = calloc(1, sizeof *disk);

    disk->random = sim_mix(seed ^ 0xD15C);
    return disk;
}

void sim_disk_destroy(struct sim_disk *disk)
{
    if (disk == NULL)
        return;
    for (uint32_t i = 0; i < disk->inode_count; i++) {
        if (disk->inodes[i].handles > 0)
            sim_fail("a file is still open although its store is closed");
        sim_content_fini(&disk->inodes[i].content);
    }
    free(disk->inodes);
    free(disk->names.list);
    if (mounted == disk)
        mounted = NULL;
    free(disk);
}

void sim_disk_mount(struct sim_disk *disk)
{
    mounted = disk;
}

struct sim_disk *sim_disk_mounted(void)
{
    return mounted;
}

unsigned sim_disk_handles(void)
{
    return handles;
}

void sim_disk_fault(struct sim_disk *disk, const struct sim_fault *fault)
{
    static const struct sim_fault none;

    disk->fault = fault != NULL ? *fault : none;
    disk->calls = 0;
    disk->faults_hit = 0;
}

uint32_t sim_disk_new_inode(struct sim_disk *disk)
{
    if (disk->inode_count == disk->inode_capacity) {
        disk->inode_capacity = disk->inode_capacity * 2 + 32;
        disk->inodes = realloc(disk->inodes, disk->inode_capacity * sizeof *disk->inodes);
    }
    memset(&disk->inodes[disk->inode_count], 0, sizeof *disk->inodes);
    return disk->inode_count++;
}

uint64_t sim_disk_hash(const struct sim_disk *disk)
{
    uint64_t sum = disk->names.count;

    for (size_t i = 0; i < disk->names.count; i++) {
        const struct sim_name *name = &disk->names.list[i];
        const struct sim_content *content = &disk->inodes[name->inode].content;
        uint64_t hash = sim_mix(name->dir + content->size);

        for (const char *p = name->name; *p != '\0'; p++)
            hash = sim_mix(hash ^ (unsigned char)*p);
        for (size_t page = 0; page < content->count; page++) {
            uint64_t word;

            if (content->pages[page] == NULL)
                continue;
            hash = sim_mix(hash ^ page);
            for (size_t at = 0; at < SIM_PAGE; at += sizeof word) {
                memcpy(&word, content->pages[page]->bytes + at, sizeof word);
                hash = (hash ^ word) * UINT64_C(0x9E3779B97F4A7C15);
                hash ^= hash >> 29;
            }
        }
        sum += sim_mix(hash); /* the order of names does not count */
    }
    return sum;
}

static struct sim_disk *disk_of(struct adb_io *io)
{
    return ((struct sim_io *)io)->disk;
}

static struct sim_file *file_of(struct adb_file *file)
{
    return (struct sim_file *)file;
}

static uint32_t dir_of(struct adb_dir *dir)
{
    return ((struct sim_dir *)dir)->dir;
}

/* Counts a call; an errno when it is to fail. Others may run before it. */
static int enter_call(struct sim_disk *disk, bool is_sync)
{
    struct sim_fault *fault = &disk->fault;

    sim_sched_yield();
    if (disk->dead)
        return EIO;
    if (fault->only_sync && !is_sync)
        return 0;
    disk->calls++;
    if (fault->at == 0 || disk->calls < fault->at ||
        (disk->calls > fault->at && !fault->sticky))
        return 0;
    disk->faults_hit++;
    return fault->lie ? 0 : fault->error;
}

static bool is_lie(const struct sim_disk *disk)
{
    const struct sim_fault *fault = &disk->fault;

    return fault->lie && fault->at != 0 &&
           (disk->calls == fault->at || (disk->calls > fault->at && fault->sticky));
}

/* May the files together grow by this much? */
static bool is_room(const struct sim_disk *disk, uint32_t inode, uint64_t size)
{
    uint64_t used = 0;

    if (disk->room == 0 || size <= disk->inodes[inode].content.size)
        return true;
    for (uint32_t i = 0; i < disk->inode_count; i++)
        if (disk->inodes[i].links + disk->inodes[i].handles > 0)
            used += i == inode ? size : disk->inodes[i].content.size;
    return used <= disk->room;
}

static void release_inode(struct sim_disk *disk, uint32_t i)
{
    if (disk->inodes[i].links == 0 && disk->inodes[i].handles == 0)
        sim_content_fini(&disk->inodes[i].content);
}

/* ---- Folders ---- */

static void make_dir(struct sim_disk *disk, const char *path)
{
    struct sim_event *event = new_event(disk, SIM_MKDIR, 0, disk->dir_count, 0);

    if (disk->dir_count == sizeof disk->dirs / sizeof disk->dirs[0])
        sim_fail("too many folders");
    (void)snprintf(disk->dirs[disk->dir_count++], sizeof disk->dirs[0], "%s", path);
    if (disk->journal == NULL)
        return;
    event->len = strlen(path) + 1;
    event->data = malloc(event->len);
    memcpy(event->data, path, event->len);
}

static enum armdb_rc sim_dir_open(struct adb_io *io, const char *path, bool create,
                                  struct adb_dir **out, struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(io);
    struct sim_dir *dir;
    int error = enter_call(disk, false);
    uint32_t i = 0;

    *out = NULL;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot open folder %s", path);
    while (i < disk->dir_count && strcmp(disk->dirs[i], path) != 0)
        i++;
    if (i == disk->dir_count && !create)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "there is no folder %s", path);
    dir = adb_alloc_zero(ADB_MEM_IO, sizeof *dir);
    if (dir == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open folder %s", path);
    if (i == disk->dir_count) {
        make_dir(disk, path);
    }
    dir->base.io = io;
    dir->dir = i;
    handles++;
    *out = &dir->base;
    return ARMDB_OK;
}

static void sim_dir_close(struct adb_dir *dir)
{
    if (dir == NULL)
        return;
    handles--;
    adb_free(ADB_MEM_IO, (struct sim_dir *)dir);
}

static enum armdb_rc sim_dir_identity(struct adb_dir *dir, uint64_t *device,
                                      uint64_t *inode, struct armdb_error *err)
{
    int error = enter_call(disk_of(dir->io), false);

    *device = 7;
    *inode = (uint64_t)(uintptr_t)disk_of(dir->io) + dir_of(dir);
    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot look at a folder");
    return ARMDB_OK;
}

static bool sim_dir_is_writable(struct adb_dir *dir)
{
    (void)dir;
    return true;
}

static enum armdb_rc sim_dir_list(struct adb_dir *dir,
                                  bool (*visit)(void *arg, const char *name), void *arg,
                                  struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, false);
    size_t count = disk->names.count;
    struct sim_name *copy;

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot list a folder");
    copy = malloc((count + 1) * sizeof *copy); /* visit() may change the names */
    if (count > 0)
        memcpy(copy, disk->names.list, count * sizeof *copy);
    for (size_t i = 0; i < count; i++)
        if (copy[i].dir == dir_of(dir) && !visit(arg, copy[i].name))
            break;
    free(copy);
    return ARMDB_OK;
}

static enum armdb_rc sim_dir_sync(struct adb_dir *dir, struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, true);
    size_t begin = disk->journal != NULL ? disk->journal->count : 0;

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot sync a folder");
    if (is_lie(disk))
        return ARMDB_OK;
    (void)new_event(disk, SIM_DIR_SYNC_BEGIN, 0, dir_of(dir), 0);
    sim_sched_yield();
    (void)new_event(disk, SIM_DIR_SYNC_END, 0, dir_of(dir), begin);
    return ARMDB_OK;
}

static enum armdb_rc sim_dir_rename(struct adb_dir *dir, const char *from, const char *to,
                                    struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, false);
    struct sim_name *source = sim_names_find(&disk->names, dir_of(dir), from);
    struct sim_name *target = sim_names_find(&disk->names, dir_of(dir), to);
    uint32_t inode;

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot rename %s to %s", from, to);
    if (source == NULL)
        return ADB_FAIL(ARMDB_IO, err, "cannot rename %s: no such file", from);
    inode = source->inode;
    if (target != NULL && target->inode != inode) {
        disk->inodes[target->inode].links--;
        release_inode(disk, target->inode);
    }
    sim_names_set(&disk->names, dir_of(dir), to, inode);
    sim_names_remove(&disk->names, dir_of(dir), from);
    event_names(new_event(disk, SIM_RENAME, inode, dir_of(dir), 0), from, to);
    return ARMDB_OK;
}

static enum armdb_rc sim_dir_unlink(struct adb_dir *dir, const char *name,
                                    struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, false);
    struct sim_name *entry = sim_names_find(&disk->names, dir_of(dir), name);
    uint32_t inode;

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot remove %s", name);
    if (entry == NULL)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "cannot remove %s: no such file", name);
    inode = entry->inode;
    sim_names_remove(&disk->names, dir_of(dir), name);
    disk->inodes[inode].links--;
    release_inode(disk, inode);
    event_names(new_event(disk, SIM_UNLINK, inode, dir_of(dir), 0), name, "");
    return ARMDB_OK;
}

static enum armdb_rc sim_dir_link(struct adb_dir *from, struct adb_dir *to,
                                  const char *name, bool *linked, struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(from->io);
    int error = enter_call(disk, false);
    struct sim_name *entry = sim_names_find(&disk->names, dir_of(from), name);
    uint32_t inode;

    *linked = false;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot link %s", name);
    if (entry == NULL)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "cannot link %s: no such file", name);
    if (sim_names_find(&disk->names, dir_of(to), name) != NULL)
        return ADB_FAIL(ARMDB_EXISTS, err, "cannot link %s: the file exists", name);
    inode = entry->inode;
    disk->inodes[inode].links++;
    sim_names_set(&disk->names, dir_of(to), name, inode);
    event_names(new_event(disk, SIM_LINK, inode, dir_of(to), 0), name, "");
    *linked = true;
    return ARMDB_OK;
}

/* ---- Files ---- */

static struct sim_file *new_handle(struct adb_io *io, uint32_t inode, bool writable)
{
    struct sim_file *file = adb_alloc_zero(ADB_MEM_IO, sizeof *file);

    if (file == NULL)
        return NULL;
    file->base.io = io;
    file->inode = inode;
    file->writable = writable;
    disk_of(io)->inodes[inode].handles++;
    handles++;
    return file;
}

/* The inode of the name, made when missing and wanted. */
static uint32_t create_name(struct sim_disk *disk, uint32_t dir, const char *name)
{
    uint32_t inode = sim_disk_new_inode(disk);

    disk->inodes[inode].links = 1;
    sim_names_set(&disk->names, dir, name, inode);
    event_names(new_event(disk, SIM_CREATE, inode, dir, 0), name, "");
    return inode;
}

static enum armdb_rc sim_file_open(struct adb_dir *dir, const char *name, unsigned flags,
                                   struct adb_file **out, struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, false);
    struct sim_name *entry = sim_names_find(&disk->names, dir_of(dir), name);
    bool create = (flags & ADB_OPEN_CREATE) != 0;
    struct sim_file *file;
    uint32_t inode;

    *out = NULL;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot open %s", name);
    if (create && entry != NULL)
        return ADB_FAIL(ARMDB_EXISTS, err, "cannot make %s: the file exists", name);
    if (!create && entry == NULL)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "cannot open %s: no such file", name);
    inode = entry != NULL ? entry->inode : create_name(disk, dir_of(dir), name);
    file = new_handle(dir->io, inode, (flags & ADB_OPEN_WRITE) != 0);
    if (file == NULL) /* a file that was made stays, as it could with the kernel */
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to open %s", name);
    file->direct = disk->direct && (flags & ADB_OPEN_DIRECT) != 0;
    *out = &file->base;
    return ARMDB_OK;
}

static void sim_file_close(struct adb_file *base)
{
    struct sim_file *file = file_of(base);
    struct sim_disk *disk;

    if (file == NULL)
        return;
    disk = disk_of(base->io);
    for (int i = 0; i < FLIGHTS_MAX; i++)
        if (flights[i].disk == disk && flights[i].file == base)
            sim_fail("a file is closed while a write to it is in flight");
    disk->inodes[file->inode].handles--;
    release_inode(disk, file->inode);
    handles--;
    adb_free(ADB_MEM_IO, file);
}

static enum armdb_rc sim_lock_acquire(struct adb_dir *dir, const char *name,
                                      struct adb_file **lock, uint64_t *holder,
                                      struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(dir->io);
    int error = enter_call(disk, false);
    struct sim_name *entry = sim_names_find(&disk->names, dir_of(dir), name);
    struct sim_file *file;
    uint32_t inode;

    *lock = NULL;
    *holder = 0;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_CANTOPEN, err, "cannot lock %s", name);
    inode = entry != NULL ? entry->inode : create_name(disk, dir_of(dir), name);
    if (disk->inodes[inode].locked) {
        *holder = 4711;
        return ADB_FAIL(ARMDB_LOCKED, err, "%s is locked", name);
    }
    file = new_handle(dir->io, inode, true);
    if (file == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory to lock %s", name);
    disk->inodes[inode].locked = true;
    *lock = &file->base;
    return ARMDB_OK;
}

static void sim_lock_release(struct adb_file *lock)
{
    if (lock == NULL)
        return;
    disk_of(lock->io)->inodes[file_of(lock)->inode].locked = false;
    sim_file_close(lock);
}

static enum armdb_rc sim_file_size(struct adb_file *file, uint64_t *bytes,
                                   struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(file->io);
    int error = enter_call(disk, false);

    *bytes = disk->inodes[file_of(file)->inode].content.size;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot look at a file");
    return ARMDB_OK;
}

static uint64_t sim_file_changed_ns(struct adb_file *file)
{
    (void)file;
    return 0;
}

static enum armdb_rc resize(struct adb_file *file, uint64_t bytes, bool grow_only,
                            struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(file->io);
    int error = enter_call(disk, false);
    uint32_t inode = file_of(file)->inode;

    if (error == 0 && !file_of(file)->writable)
        error = EBADF;
    if (error == 0 && !is_room(disk, inode, bytes))
        error = ENOSPC;
    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "cannot change a file's length");
    if (grow_only && bytes <= disk->inodes[inode].content.size)
        return ARMDB_OK;
    sim_content_resize(&disk->inodes[inode].content, bytes);
    (void)new_event(disk, SIM_RESIZE, inode, 0, bytes);
    return ARMDB_OK;
}

static enum armdb_rc sim_file_truncate(struct adb_file *file, uint64_t bytes,
                                       struct armdb_error *err)
{
    return resize(file, bytes, false, err);
}

static enum armdb_rc sim_file_reserve(struct adb_file *file, uint64_t bytes, bool written,
                                      struct armdb_error *err)
{
    (void)written; /* zeros either way */
    return resize(file, bytes, true, err);
}

static bool sim_file_is_direct(struct adb_file *file)
{
    return file_of(file)->direct;
}

static void sim_file_drop_cache(struct adb_file *file)
{
    (void)file;
}

static void sim_forked_dir(struct adb_dir *dir)
{
    (void)dir;
}

static void sim_forked_file(struct adb_file *file)
{
    (void)file;
}

static void sim_forked(struct adb_io *io)
{
    (void)io;
}

/* ---- Operations ---- */

static size_t op_bytes(const struct adb_io_op *op)
{
    size_t n = 0;

    for (uint32_t i = 0; i < op->iov_count; i++)
        n += op->iov[i].iov_len;
    return n;
}

static void check_alignment(const struct adb_io_op *op)
{
    if (!file_of(op->file)->direct || op->kind == ADB_IO_SYNC)
        return;
    for (uint32_t i = 0; i < op->iov_count; i++)
        if (op->iov[i].iov_len % SIM_PAGE != 0 ||
            (uintptr_t)op->iov[i].iov_base % SIM_PAGE != 0)
            sim_fail("direct I/O with memory that is not aligned");
    if (op->offset % SIM_PAGE != 0)
        sim_fail("direct I/O at offset %llu", (unsigned long long)op->offset);
}

static struct flight *begin_flight(const struct sim_disk *disk,
                                   const struct adb_io_op *op)
{
    uint64_t from = op->offset / SIM_PAGE;
    uint64_t to = (op->offset + op_bytes(op) + SIM_PAGE - 1) / SIM_PAGE;
    struct flight *free_one = NULL;

    for (int i = 0; i < FLIGHTS_MAX; i++) {
        struct flight *f = &flights[i];

        if (f->disk == NULL)
            free_one = f;
        else if (f->disk == disk && f->inode == file_of(op->file)->inode &&
                 from < f->to && f->from < to)
            sim_fail("two writes are in flight on block %llu of a file",
                     (unsigned long long)(from > f->from ? from : f->from));
    }
    if (free_one == NULL)
        sim_fail("more than %d writes are in flight", FLIGHTS_MAX);
    free_one->disk = disk;
    free_one->file = op->file;
    free_one->inode = file_of(op->file)->inode;
    free_one->from = from;
    free_one->to = to;
    return free_one;
}

/* Moves what the file has, as the kernel does, also when that is not all. */
static int read_op(struct sim_disk *disk, const struct adb_io_op *op)
{
    const struct sim_content *content = &disk->inodes[file_of(op->file)->inode].content;
    uint64_t offset = op->offset;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        uint64_t left = offset < content->size ? content->size - offset : 0;
        size_t n = op->iov[i].iov_len < left ? op->iov[i].iov_len : (size_t)left;

        sim_content_read(content, offset, op->iov[i].iov_base, n);
        if (n < op->iov[i].iov_len)
            return ENODATA;
        offset += n;
    }
    return 0;
}

static unsigned char *gather(const struct adb_io_op *op, size_t n)
{
    unsigned char *bytes = malloc(n + 1);
    size_t at = 0;

    for (uint32_t i = 0; i < op->iov_count; i++) {
        memcpy(bytes + at, op->iov[i].iov_base, op->iov[i].iov_len);
        at += op->iov[i].iov_len;
    }
    return bytes;
}

/* The first n bytes of a write arrive. */
static void apply_write(struct sim_disk *disk, const struct adb_io_op *op,
                        unsigned char *bytes, size_t n)
{
    struct sim_event *event;
    uint32_t inode = file_of(op->file)->inode;

    sim_content_write(&disk->inodes[inode].content, op->offset, bytes, n);
    event = new_event(disk, SIM_WRITE, inode, 0, op->offset);
    event->len = n;
    event->data = disk->journal != NULL ? bytes : NULL;
    if (disk->journal == NULL)
        free(bytes);
}

static int write_op(struct sim_disk *disk, const struct adb_io_op *op, int error)
{
    size_t n = op_bytes(op);
    unsigned char *bytes = gather(op, n);
    unsigned char *after;

    sim_sched_yield();
    after = gather(op, n);
    if (memcmp(bytes, after, n) != 0)
        sim_fail("bytes changed while a write of them was in flight");
    free(after);
    if (disk->dead)
        error = EIO;
    if (error == 0 && !file_of(op->file)->writable)
        error = EBADF;
    if (error == 0 && !is_room(disk, file_of(op->file)->inode, op->offset + n))
        error = ENOSPC;
    if (error != 0) {
        n = disk->fault.partial && !disk->dead ? sim_below(&disk->random, (uint32_t)n)
                                               : 0;
        if (n == 0) {
            free(bytes);
            return error;
        }
    }
    apply_write(disk, op, bytes, n);
    return error;
}

static int sync_op(struct sim_disk *disk, const struct adb_io_op *op, int error)
{
    size_t begin = disk->journal != NULL ? disk->journal->count : 0;
    uint32_t inode = file_of(op->file)->inode;

    if (disk->dead)
        return EIO;
    if (error == 0 && is_lie(disk))
        return 0;
    (void)new_event(disk, SIM_SYNC_BEGIN, inode, 0, 0);
    sim_sched_yield();
    if (disk->dead)
        return EIO;
    (void)new_event(disk, error == 0 ? SIM_SYNC_END : SIM_SYNC_FAILED, inode, 0, begin);
    return error;
}

static void run_op(struct sim_disk *disk, struct adb_io_op *op)
{
    int error = enter_call(disk, op->kind == ADB_IO_SYNC);

    check_alignment(op);
    switch (op->kind) {
    case ADB_IO_READ:
        op->sys_errno = error != 0 ? error : read_op(disk, op);
        break;
    case ADB_IO_WRITE:
        op->sys_errno = write_op(disk, op, error);
        break;
    case ADB_IO_SYNC:
        op->sys_errno = sync_op(disk, op, error);
        break;
    }
}

/* Where the chain of operation `i` ends. */
static size_t chain_end(const struct adb_io_op *ops, size_t count, size_t i)
{
    do
        i++;
    while (i < count && ops[i].after_previous);
    return i;
}

static void run_chain(struct sim_disk *disk, struct adb_io_op *ops, size_t from,
                      size_t to)
{
    for (size_t i = from; i < to; i++) {
        if (i > from && ops[i - 1].sys_errno != 0)
            ops[i].sys_errno = ECANCELED;
        else
            run_op(disk, &ops[i]);
    }
}

static void sim_submit(struct adb_io *io, struct adb_io_op *ops, size_t count)
{
    struct sim_disk *disk = disk_of(io);
    struct flight **flown = calloc(count + 1, sizeof *flown);
    size_t *chains = calloc(count + 1, sizeof *chains);
    size_t chain_count = 0;

    for (size_t i = 0; i < count; i++)
        if (ops[i].kind == ADB_IO_WRITE)
            flown[i] = begin_flight(disk, &ops[i]);
    for (size_t i = 0; i < count; i = chain_end(ops, count, i))
        chains[chain_count++] = i;
    while (chain_count > 0) {
        size_t pick =
            chain_count == 1 ? 0 : sim_below(&disk->random, (uint32_t)chain_count);

        run_chain(disk, ops, chains[pick], chain_end(ops, count, chains[pick]));
        chains[pick] = chains[--chain_count];
    }
    for (size_t i = 0; i < count; i++)
        if (flown[i] != NULL)
            flown[i]->disk = NULL;
    free(chains);
    free(flown);
}

static uint64_t sim_wall_ns(struct adb_io *io)
{
    (void)io;
    return UINT64_C(1700000000000000000);
}

static enum armdb_rc sim_random(struct adb_io *io, void *p, size_t n,
                                struct armdb_error *err)
{
    struct sim_disk *disk = disk_of(io);
    int error = enter_call(disk, false);
    unsigned char *bytes = p;

    if (error != 0)
        return adb_fail_errno(error, ARMDB_IO, err, "no random bytes");
    for (size_t i = 0; i < n; i++)
        bytes[i] = (unsigned char)sim_next(&disk->random);
    return ARMDB_OK;
}

static void sim_destroy(struct adb_io *io)
{
    adb_free(ADB_MEM_IO, (struct sim_io *)io);
}

static const struct adb_io_ops sim_ops = {
    .name = "simulated",
    .dir_open = sim_dir_open,
    .dir_close = sim_dir_close,
    .dir_identity = sim_dir_identity,
    .dir_is_writable = sim_dir_is_writable,
    .dir_list = sim_dir_list,
    .dir_sync = sim_dir_sync,
    .dir_rename = sim_dir_rename,
    .dir_unlink = sim_dir_unlink,
    .dir_link = sim_dir_link,
    .lock_acquire = sim_lock_acquire,
    .lock_release = sim_lock_release,
    .forked_dir = sim_forked_dir,
    .forked_file = sim_forked_file,
    .forked = sim_forked,
    .file_open = sim_file_open,
    .file_close = sim_file_close,
    .file_size = sim_file_size,
    .file_changed_ns = sim_file_changed_ns,
    .file_truncate = sim_file_truncate,
    .file_reserve = sim_file_reserve,
    .file_is_direct = sim_file_is_direct,
    .file_drop_cache = sim_file_drop_cache,
    .submit = sim_submit,
    .wall_ns = sim_wall_ns,
    .random = sim_random,
    .destroy = sim_destroy,
};

static enum armdb_rc create_engine(struct adb_io **out, struct armdb_error *err)
{
    struct sim_io *io = adb_alloc_zero(ADB_MEM_IO, sizeof *io);

    *out = NULL;
    if (io == NULL)
        return ADB_FAIL(ARMDB_NOMEM, err, "no memory for an I/O engine");
    if (mounted == NULL)
        sim_fail("no disk is mounted");
    io->base.ops = &sim_ops;
    io->disk = mounted;
    *out = &io->base;
    return ARMDB_OK;
}

enum armdb_rc adb_io_plain_create(struct adb_io **out, struct armdb_error *err)
{
    return create_engine(out, err);
}

enum armdb_rc adb_io_uring_create(struct adb_io **out, struct armdb_error *err)
{
    return create_engine(out, err);
}
