/* sim_disk.h - a disk in memory that remembers what was synced.
 *
 * A disk is what the kernel shows: folders, names, files. While a journal is attached,
 * every change and every sync is an event in it; sim_media.h
 * turns a beginning of the journal into the disks that a power cut there could have
 * left. The disk is mounted in the place of the system's: adb_io_plain_create() and
 * adb_io_uring_create() answer with an engine on it.
 *
 * It also watches the engine: two writes in flight on one 4 KiB block, bytes that
 * change under a write, direct I/O that is not aligned end the test. */
#ifndef TEST_SIM_SIM_DISK_H
#define TEST_SIM_SIM_DISK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "engine/io/io.h"

enum { SIM_PAGE = 4096, SIM_SECTOR = 512, SIM_NAME_MAX = 64 };

/* Bytes of a file. Pages are shared between disks and copied when they are written. */
struct sim_page {
    uint32_t refs;
    unsigned char bytes[SIM_PAGE];
};
struct sim_content {
    uint64_t size;
    size_t count;
    struct sim_page **pages; /* owned; NULL = zeros */
};
void sim_content_copy(struct sim_content *to, const struct sim_content *from);
void sim_content_fini(struct sim_content *content);
void sim_content_write(struct sim_content *content, uint64_t offset,
                       const unsigned char *bytes, size_t n);
void sim_content_read(const struct sim_content *content, uint64_t offset,
                      unsigned char *bytes, size_t n);
void sim_content_resize(struct sim_content *content, uint64_t size);

struct sim_name {
    uint32_t dir;
    uint32_t inode;
    char name[SIM_NAME_MAX];
};
struct sim_names {
    struct sim_name *list; /* owned */
    size_t count;
    size_t capacity;
};
struct sim_name *sim_names_find(const struct sim_names *names, uint32_t dir,
                                const char *name);
void sim_names_set(struct sim_names *names, uint32_t dir, const char *name,
                   uint32_t inode);
void sim_names_remove(struct sim_names *names, uint32_t dir, const char *name);

/* ---- Journal ---- */

enum sim_event_kind {
    SIM_MKDIR,
    SIM_CREATE,
    SIM_LINK,
    SIM_RENAME,
    SIM_UNLINK,
    SIM_DIR_SYNC_BEGIN,
    SIM_DIR_SYNC_END,
    SIM_WRITE,
    SIM_RESIZE,
    SIM_SYNC_BEGIN,
    SIM_SYNC_END,
    SIM_SYNC_FAILED
};

struct sim_event {
    enum sim_event_kind kind;
    uint32_t inode;
    uint32_t dir;
    uint64_t offset; /* RESIZE: the new size; SYNC_END: index of its BEGIN */
    size_t len;
    unsigned char *data; /* owned */
    char name[SIM_NAME_MAX];
    char name2[SIM_NAME_MAX];
};
struct sim_journal {
    struct sim_event *events; /* owned */
    size_t count;
    size_t capacity;
};
void sim_journal_fini(struct sim_journal *journal);
/* For whoever looks for a mistake: a line for each event. */
void sim_journal_print(const struct sim_journal *journal);
/* `to` (empty) gets the first `count` events. */
void sim_journal_copy(struct sim_journal *to, const struct sim_journal *from,
                      size_t count);

/* ---- Disk ---- */

struct sim_inode {
    struct sim_content content;
    uint32_t links;
    uint32_t handles;
    bool locked;
};

/* What call fails, and how. */
struct sim_fault {
    uint64_t at;    /* the n-th call from now on, 1 = the next; 0 = none */
    bool sticky;    /* and every later one */
    int error;      /* errno */
    bool partial;   /* a write that fails has moved some of its bytes */
    bool only_sync; /* calls are syncs of files and folders alone */
    bool lie;       /* succeeds, but does nothing (syncs) */
};

struct sim_disk {
    struct sim_inode *inodes; /* owned */
    uint32_t inode_count;
    uint32_t inode_capacity;
    struct sim_names names;
    char dirs[8][256]; /* paths of folders */
    uint32_t dir_count;
    uint64_t random; /* state: what the engine gets as random bytes */
    uint64_t calls;  /* of the seam, since the last sim_disk_fault() */
    struct sim_fault fault;
    uint64_t faults_hit;
    bool dead;                   /* after the crash: nothing is done any more */
    uint64_t room;               /* bytes that files may have together; 0 = any number */
    bool direct;                 /* offers direct I/O */
    struct sim_journal *journal; /* borrowed; NULL: not recorded */
};

struct sim_disk *sim_disk_create(uint64_t seed);
void sim_disk_destroy(struct sim_disk *disk); /* every handle is closed */
/* The disk that stores are opened on from now on; borrowed. */
void sim_disk_mount(struct sim_disk *disk);
struct sim_disk *sim_disk_mounted(void);
void sim_disk_fault(struct sim_disk *disk, const struct sim_fault *fault);
uint32_t sim_disk_new_inode(struct sim_disk *disk);
/* Handles that are open now, of files and folders, on all disks. */
unsigned sim_disk_handles(void);
/* Hash of everything that names reach, to tell disks apart. */
uint64_t sim_disk_hash(const struct sim_disk *disk);

#endif
