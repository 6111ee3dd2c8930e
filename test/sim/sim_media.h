/* sim_media.h - what a power cut leaves of a journal.
 *
 * A media follows a journal from the disk that was there before it. For each file it
 * knows the bytes that are durable and the changes since that are not yet, for each
 * folder the same of its names. At any moment it builds disks: the durable state with
 * any part of what was pending.
 *
 *   a write      each piece of 512 bytes or 4 KiB kept or lost by itself; order among
 *                writes means nothing; where a file grew, lost pieces are zeros or
 *                garbage
 *   a length     old or new
 *   a name       created, renamed, removed or not; in order or not
 *   a failed sync   the kernel calls the pages clean: part of them got there, the rest
 *                is gone for good, whatever a later sync says */
#ifndef TEST_SIM_SIM_MEDIA_H
#define TEST_SIM_SIM_MEDIA_H

#include "test/sim/sim_disk.h"

enum sim_cut {
    SIM_KILL,      /* the process died: all that the kernel got is there */
    SIM_LOST,      /* nothing pending survives */
    SIM_NAMES,     /* names survive, bytes and lengths do not */
    SIM_BYTES,     /* bytes survive, names do not */
    SIM_LAST_TORN, /* everything but the end of the last write */
    SIM_PREFIX,    /* a beginning of what was pending */
    SIM_PAGES,     /* each 4 KiB, length and name by itself */
    SIM_SECTORS,   /* each 512 bytes, length and name by itself */
    SIM_CUTS       /* count */
};

struct sim_media;

/* Follows `journal` (borrowed) from `base`, of which it takes a copy. */
struct sim_media *sim_media_create(const struct sim_disk *base,
                                   const struct sim_journal *journal);
void sim_media_destroy(struct sim_media *media);
/* Takes the events before `end` in. Never goes back. */
void sim_media_advance(struct sim_media *media, size_t end);
/* The disk after a cut of this kind, everything drawn from the seed. */
struct sim_disk *sim_media_image(const struct sim_media *media, enum sim_cut cut,
                                 uint64_t seed);
/* Changes that are not durable yet. */
size_t sim_media_pending(const struct sim_media *media);
const char *sim_cut_name(enum sim_cut cut);

#endif
