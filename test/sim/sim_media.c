/* sim_media.c - from a journal to the disks of a power cut: see sim_media.h.
 *
 * Pending changes are indices into the journal, in its order. A sync takes from them
 * what stood before its beginning; so a write that came while the sync ran stays
 * pending. Contents share pages, so that an image costs little more than its names. */
#include "test/sim/sim_media.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/sim/sim_sched.h"

struct pending {
    size_t *events; /* owned; indices into the journal */
    size_t count;
    size_t capacity;
};

struct media_inode {
    struct sim_content durable;
    struct pending pending;
};

struct sim_media {
    const struct sim_journal *journal;
    size_t at; /* events taken in */
    struct media_inode *inodes;
    uint32_t inode_count;
    struct sim_names names; /* durable ones */
    struct pending name_changes;
    char dirs[8][256];
    uint32_t dir_count;
};

/* How an image is drawn. */
struct draw {
    enum sim_cut cut;
    uint64_t random;
    uint32_t keep; /* in 100: how much of what is pending survives */
    bool garbage;  /* lost pieces of a part that grew are no zeros */
    bool in_order; /* names survive up to some change */
    size_t last;   /* index of the last pending event that survives (PREFIX) */
};

const char *sim_cut_name(enum sim_cut cut)
{
    static const char *const names[SIM_CUTS] = {
        "kill",      "all pending lost", "names alone", "bytes alone",
        "last torn", "prefix",           "4 KiB pages", "512-byte sectors"};

    return names[cut];
}

static void add_pending(struct pending *pending, size_t event)
{
    if (pending->count == pending->capacity) {
        pending->capacity = pending->capacity * 2 + 8;
        pending->events =
            realloc(pending->events, pending->capacity * sizeof *pending->events);
    }
    pending->events[pending->count++] = event;
}

static struct media_inode *inode_at(struct sim_media *media, uint32_t i)
{
    if (i >= media->inode_count) {
        media->inodes = realloc(media->inodes, (i + 1) * sizeof *media->inodes);
        memset(media->inodes + media->inode_count, 0,
               (i + 1 - media->inode_count) * sizeof *media->inodes);
        media->inode_count = i + 1;
    }
    return &media->inodes[i];
}

struct sim_media *sim_media_create(const struct sim_disk *base,
                                   const struct sim_journal *journal)
{
    struct sim_media *media = calloc(1, sizeof *media);

    media->journal = journal;
    for (uint32_t i = 0; i < base->inode_count; i++)
        sim_content_copy(&inode_at(media, i)->durable, &base->inodes[i].content);
    for (size_t i = 0; i < base->names.count; i++)
        sim_names_set(&media->names, base->names.list[i].dir, base->names.list[i].name,
                      base->names.list[i].inode);
    memcpy(media->dirs, base->dirs, sizeof media->dirs);
    media->dir_count = base->dir_count;
    return media;
}

void sim_media_destroy(struct sim_media *media)
{
    if (media == NULL)
        return;
    for (uint32_t i = 0; i < media->inode_count; i++) {
        sim_content_fini(&media->inodes[i].durable);
        free(media->inodes[i].pending.events);
    }
    free(media->inodes);
    free(media->names.list);
    free(media->name_changes.events);
    free(media);
}

/* ---- Applying ---- */

static void apply_name(struct sim_names *names, const struct sim_event *event)
{
    struct sim_name *entry;

    switch (event->kind) {
    case SIM_CREATE:
    case SIM_LINK:
        sim_names_set(names, event->dir, event->name, event->inode);
        break;
    case SIM_RENAME:
        sim_names_set(names, event->dir, event->name2, event->inode);
        entry = sim_names_find(names, event->dir, event->name);
        if (entry != NULL && entry->inode == event->inode)
            sim_names_remove(names, event->dir, event->name);
        break;
    case SIM_UNLINK:
        entry = sim_names_find(names, event->dir, event->name);
        if (entry != NULL && entry->inode == event->inode)
            sim_names_remove(names, event->dir, event->name);
        break;
    case SIM_MKDIR:
    case SIM_DIR_SYNC_BEGIN:
    case SIM_DIR_SYNC_END:
    case SIM_WRITE:
    case SIM_RESIZE:
    case SIM_SYNC_BEGIN:
    case SIM_SYNC_END:
    case SIM_SYNC_FAILED:
        break;
    }
}

static void apply_whole(struct sim_content *content, const struct sim_event *event)
{
    if (event->kind == SIM_RESIZE)
        sim_content_resize(content, event->offset);
    else
        sim_content_write(content, event->offset, event->data, event->len);
}

/* Applies pieces of a write, each kept by itself. */
static void apply_pieces(struct sim_content *content, const struct sim_event *event,
                         struct draw *draw, size_t piece_max)
{
    uint64_t old_size = content->size;
    uint64_t end = event->offset + event->len;
    uint64_t at = event->offset;
    unsigned char junk[SIM_PAGE];

    if (end > content->size) {
        if (sim_below(&draw->random, 100) < draw->keep)
            sim_content_resize(content, end);
        else
            end = content->size;
    }
    while (at < end) {
        size_t piece = piece_max - (size_t)(at % piece_max);

        if (piece > end - at)
            piece = (size_t)(end - at);
        if (sim_below(&draw->random, 100) < draw->keep) {
            sim_content_write(content, at, event->data + (at - event->offset), piece);
        } else if (draw->garbage && at >= old_size) {
            for (size_t i = 0; i < piece; i++)
                junk[i] = (unsigned char)sim_next(&draw->random);
            sim_content_write(content, at, junk, piece);
        }
        at += piece;
    }
}

/* Takes what stands before event `begin` out of the list; what became of it is said by
 * `failed`: all of it got there, or a part. */
static void settle_inode(struct sim_media *media, uint32_t i, size_t begin, bool failed,
                         size_t salt)
{
    struct media_inode *inode = inode_at(media, i);
    struct draw draw = {.random = sim_mix(salt), .keep = 50};
    size_t left = 0;

    if (sim_below(&draw.random, 3) == 0)
        draw.keep = 0;
    for (size_t p = 0; p < inode->pending.count; p++) {
        const struct sim_event *event = &media->journal->events[inode->pending.events[p]];

        if (inode->pending.events[p] >= begin)
            inode->pending.events[left++] = inode->pending.events[p];
        else if (!failed)
            apply_whole(&inode->durable, event);
        else if (event->kind == SIM_WRITE)
            apply_pieces(&inode->durable, event, &draw, SIM_SECTOR);
        else if (sim_below(&draw.random, 100) < draw.keep)
            apply_whole(&inode->durable, event);
    }
    inode->pending.count = left;
}

static void settle_names(struct sim_media *media, uint32_t dir, size_t begin)
{
    size_t left = 0;

    for (size_t p = 0; p < media->name_changes.count; p++) {
        size_t i = media->name_changes.events[p];

        if (i < begin && media->journal->events[i].dir == dir)
            apply_name(&media->names, &media->journal->events[i]);
        else
            media->name_changes.events[left++] = i;
    }
    media->name_changes.count = left;
}

void sim_media_advance(struct sim_media *media, size_t end)
{
    for (; media->at < end; media->at++) {
        const struct sim_event *event = &media->journal->events[media->at];

        switch (event->kind) {
        case SIM_CREATE:
        case SIM_LINK:
        case SIM_RENAME:
        case SIM_UNLINK:
            (void)inode_at(media, event->inode);
            add_pending(&media->name_changes, media->at);
            break;
        case SIM_WRITE:
        case SIM_RESIZE:
            add_pending(&inode_at(media, event->inode)->pending, media->at);
            break;
        case SIM_SYNC_END:
            settle_inode(media, event->inode, (size_t)event->offset, false, 0);
            break;
        case SIM_SYNC_FAILED:
            settle_inode(media, event->inode, (size_t)event->offset, true, media->at);
            break;
        case SIM_DIR_SYNC_END:
            settle_names(media, event->dir, (size_t)event->offset);
            break;
        case SIM_MKDIR: /* the seam's promise: made and its parent synced */
            (void)snprintf(media->dirs[event->dir], sizeof media->dirs[0], "%s",
                           (const char *)event->data);
            media->dir_count = event->dir + 1;
            break;
        case SIM_DIR_SYNC_BEGIN:
        case SIM_SYNC_BEGIN:
            break;
        }
    }
}

size_t sim_media_pending(const struct sim_media *media)
{
    size_t count = media->name_changes.count;

    for (uint32_t i = 0; i < media->inode_count; i++)
        count += media->inodes[i].pending.count;
    return count;
}

/* ---- Images ---- */

static bool keeps(struct draw *draw, size_t event)
{
    switch (draw->cut) {
    case SIM_KILL:
    case SIM_LAST_TORN:
        return true;
    case SIM_PREFIX:
        return event <= draw->last;
    case SIM_PAGES:
    case SIM_SECTORS:
        return sim_below(&draw->random, 100) < draw->keep;
    case SIM_LOST:
    case SIM_NAMES:
    case SIM_BYTES:
    case SIM_CUTS:
        break;
    }
    return false;
}

static void build_names(const struct sim_media *media, struct draw *draw,
                        struct sim_disk *disk)
{
    size_t count = media->name_changes.count;
    size_t stop = count;

    for (size_t i = 0; i < media->names.count; i++)
        sim_names_set(&disk->names, media->names.list[i].dir, media->names.list[i].name,
                      media->names.list[i].inode);
    if (draw->in_order && (draw->cut == SIM_PAGES || draw->cut == SIM_SECTORS))
        stop = sim_below(&draw->random, (uint32_t)count + 1);
    for (size_t p = 0; p < count; p++) {
        size_t i = media->name_changes.events[p];
        bool kept = draw->cut == SIM_NAMES;

        if (draw->in_order && (draw->cut == SIM_PAGES || draw->cut == SIM_SECTORS))
            kept = p < stop;
        else if (!kept)
            kept = keeps(draw, i);
        if (kept)
            apply_name(&disk->names, &media->journal->events[i]);
    }
}

static void build_content(const struct sim_media *media, uint32_t i, struct draw *draw,
                          struct sim_content *content, size_t torn)
{
    const struct media_inode *inode = &media->inodes[i];

    sim_content_copy(content, &inode->durable);
    for (size_t p = 0; p < inode->pending.count; p++) {
        size_t e = inode->pending.events[p];
        const struct sim_event *event = &media->journal->events[e];
        bool pieces = draw->cut == SIM_PAGES || draw->cut == SIM_SECTORS;

        if (event->kind == SIM_WRITE && (pieces || e == torn))
            apply_pieces(content, event, draw,
                         draw->cut == SIM_PAGES ? SIM_PAGE : SIM_SECTOR);
        else if (draw->cut == SIM_BYTES || keeps(draw, e))
            apply_whole(content, event);
    }
}

/* The last pending write of all. */
static size_t last_write(const struct sim_media *media)
{
    size_t last = SIZE_MAX;

    for (uint32_t i = 0; i < media->inode_count; i++) {
        const struct pending *pending = &media->inodes[i].pending;

        for (size_t p = pending->count; p > 0; p--) {
            size_t e = pending->events[p - 1];

            if (media->journal->events[e].kind == SIM_WRITE) {
                if (last == SIZE_MAX || e > last)
                    last = e;
                break;
            }
        }
    }
    return last;
}

struct sim_disk *sim_media_image(const struct sim_media *media, enum sim_cut cut,
                                 uint64_t seed)
{
    static const uint32_t shares[] = {8, 50, 50, 92};
    struct sim_disk *disk = sim_disk_create(seed);
    struct draw draw = {.cut = cut, .random = sim_mix(seed)};
    size_t torn = cut == SIM_LAST_TORN ? last_write(media) : SIZE_MAX;

    draw.keep = shares[sim_below(&draw.random, 4)];
    draw.garbage = sim_below(&draw.random, 3) == 0;
    draw.in_order = sim_below(&draw.random, 2) == 0;
    draw.last = media->at > 0 ? sim_below(&draw.random, (uint32_t)media->at) : 0;
    memcpy(disk->dirs, media->dirs, sizeof disk->dirs);
    disk->dir_count = media->dir_count;
    build_names(media, &draw, disk);
    for (uint32_t i = 0; i < media->inode_count; i++)
        (void)sim_disk_new_inode(disk);
    for (size_t i = 0; i < disk->names.count; i++) {
        uint32_t inode = disk->names.list[i].inode;

        if (disk->inodes[inode].links++ == 0)
            build_content(media, inode, &draw, &disk->inodes[inode].content, torn);
    }
    return disk;
}
