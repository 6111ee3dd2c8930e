/* folder.c - between inputs and folders.
 *
 * What a fuzzer changes are the bytes of real files, in their places. Three things it
 * would never get right by chance are made right afterwards, unless the input's choices
 * say that they are not: files of one store bear one uuid, the i-th segment is the i-th
 * of the manifest's list (number, identity, shard, kind, length), and checks (reseal.c).
 * Every other field stays as the input has it. */
#include "test/fuzz/folder.h"

#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "engine/log/hint.h"
#include "engine/log/segfile.h"
#include "test/fuzz/reseal.h"

enum {
    SEGMENTS_MAX = 40,
    FILES_MAX = 8,
    PAGE = 4096,
    UUID_AT = 16,
    /* manifest */
    MANIFEST_HEADER = 104,
    SEGMENTS_AT = 80,
    ENTRY = 56,
    /* a segment's header */
    SHARD_AT = 12,
    IDENTITY_AT = 32,
    NUMBER_AT = 48,
    KIND_AT = 64,
    HEADER_USED = 112,
    HINT_FOOTER = 208
};

struct bytes {
    uint8_t *p; /* owned */
    size_t n;
};

struct folder {
    struct bytes superblock;
    struct bytes manifest;
    struct bytes segments[SEGMENTS_MAX];
    struct bytes hints[SEGMENTS_MAX]; /* of the segment of that place */
    size_t segment_count;
    struct bytes files[FILES_MAX];
    char names[FILES_MAX][SIM_NAME_MAX];
    size_t file_count;
};

static void resize(struct bytes *bytes, size_t n)
{
    bytes->p = realloc(bytes->p, n > 0 ? n : 1);
    if (n > bytes->n)
        memset(bytes->p + bytes->n, 0, n - bytes->n);
    bytes->n = n;
}

static void set(struct bytes *bytes, const uint8_t *p, size_t n, size_t room)
{
    resize(bytes, 0);
    resize(bytes, room);
    memcpy(bytes->p, p, n < room ? n : room);
}

static void append(struct bytes *bytes, const uint8_t *p, size_t n)
{
    size_t at = (bytes->n + 7) & ~(size_t)7;

    resize(bytes, at + n);
    if (p != NULL && n > 0)
        memcpy(bytes->p + at, p, n);
}

/* ---- Reading the input -------------------------------------------------------- */

static void take_file(struct folder *folder, const uint8_t *p, size_t n)
{
    size_t name_len = n > 0 ? p[0] % (SIM_NAME_MAX - 1) : 0;
    char *name;

    if (folder->file_count == FILES_MAX || name_len == 0 || name_len > n - 1)
        return;
    for (size_t i = 1; i <= name_len; i++)
        if (p[i] == '/' || p[i] == '\0')
            return;
    name = folder->names[folder->file_count];
    memcpy(name, p + 1, name_len);
    name[name_len] = '\0';
    set(&folder->files[folder->file_count++], p + 1 + name_len, n - 1 - name_len,
        n - 1 - name_len);
}

static void take_piece(struct folder *folder, unsigned kind, const uint8_t *p, size_t n)
{
    struct bytes *segment = NULL;

    if (folder->segment_count > 0)
        segment = &folder->segments[folder->segment_count - 1];
    switch ((enum folder_piece)(kind % PIECES)) {
    case PIECE_SUPERBLOCK:
        set(&folder->superblock, p, n, PAGE);
        break;
    case PIECE_MANIFEST:
        set(&folder->manifest, p, n, n + 8);
        break;
    case PIECE_SEGMENT:
        if (folder->segment_count < SEGMENTS_MAX)
            set(&folder->segments[folder->segment_count++], p, n, PAGE);
        break;
    case PIECE_BYTES:
        if (segment != NULL)
            append(segment, p, n);
        break;
    case PIECE_ZEROS:
        if (segment != NULL && n >= 2)
            append(segment, NULL, (size_t)adb_get_u16(p) * 8);
        break;
    case PIECE_HINT:
        if (segment != NULL)
            set(&folder->hints[folder->segment_count - 1], p, n, n);
        break;
    case PIECE_FILE:
        take_file(folder, p, n);
        break;
    case PIECES:
        break;
    }
}

/* ---- Putting right ------------------------------------------------------------ */

/* The manifest's entry of the i-th segment; NULL when it has none. */
static uint8_t *entry_of(const struct folder *folder, size_t i)
{
    const struct bytes *manifest = &folder->manifest;

    if (manifest->n < MANIFEST_HEADER + 8 ||
        i >= (manifest->n - MANIFEST_HEADER - 8) / ENTRY ||
        i >= adb_get_u64(manifest->p + SEGMENTS_AT))
        return NULL;
    return manifest->p + MANIFEST_HEADER + i * ENTRY;
}

static void put_identities_right(struct folder *folder)
{
    const uint8_t *uuid;

    if (folder->superblock.p == NULL)
        return;
    uuid = folder->superblock.p + UUID_AT;
    memcpy(folder->superblock.p, "armdbSup", 8);
    if (folder->manifest.n >= MANIFEST_HEADER)
        memcpy(folder->manifest.p + UUID_AT, uuid, 16);
    for (size_t i = 0; i < folder->segment_count; i++) {
        uint8_t *header = folder->segments[i].p;
        const uint8_t *entry = entry_of(folder, i);

        memcpy(header, "armdbSeg", 8);
        memcpy(header + UUID_AT, uuid, 16);
        if (entry == NULL)
            continue;
        memcpy(header + NUMBER_AT, entry, 8);
        memcpy(header + IDENTITY_AT, entry + 8, 16);
        memcpy(header + SHARD_AT, entry + 24, 4);
        adb_put_u32(header + KIND_AT, entry[28]);
    }
}

/* A hint says what the manifest says of its segment, and how its bytes end. */
static void put_hint_right(const struct folder *folder, size_t i)
{
    const struct bytes *segment = &folder->segments[i];
    const struct bytes *hint = &folder->hints[i];
    const uint8_t *entry = entry_of(folder, i);
    uint8_t *footer;
    size_t end = segment->n < PAGE ? segment->n : PAGE;

    if (hint->n < HINT_FOOTER || entry == NULL)
        return;
    footer = hint->p + hint->n - HINT_FOOTER;
    memcpy(footer + UUID_AT, segment->p + UUID_AT, 16);
    memcpy(footer + 32, entry + 8, 16);  /* identity */
    memcpy(footer + 48, entry, 8);       /* number */
    memcpy(footer + 56, entry + 32, 24); /* length, GSNs */
    adb_put_u64(footer + 80, adb_check_raw(segment->p + segment->n - end, end));
}

static void put_lengths_right(struct folder *folder)
{
    for (size_t i = 0; i < folder->segment_count; i++) {
        uint8_t *entry = entry_of(folder, i);

        if (entry != NULL && entry[29] == 1)
            adb_put_u64(entry + 32, folder->segments[i].n);
    }
}

static void put_checks_right(struct folder *folder, bool fit)
{
    if (folder->superblock.p != NULL)
        (void)reseal_superblock(folder->superblock.p);
    if (folder->manifest.p != NULL)
        (void)reseal_manifest(folder->manifest.p, folder->manifest.n);
    for (size_t i = 0; i < folder->segment_count; i++)
        (void)reseal_segment(folder->segments[i].p, folder->segments[i].n, fit);
    for (size_t i = 0; i < folder->segment_count; i++) {
        put_hint_right(folder, i);
        (void)reseal_hint(folder->hints[i].p, folder->hints[i].n, fit);
    }
}

static void store(struct sim_disk *disk, uint32_t dir, const char *name,
                  struct bytes *bytes)
{
    if (bytes->p != NULL) {
        uint32_t inode = sim_disk_new_inode(disk);

        disk->inodes[inode].links = 1;
        sim_content_resize(&disk->inodes[inode].content, bytes->n);
        sim_content_write(&disk->inodes[inode].content, 0, bytes->p, bytes->n);
        sim_names_set(&disk->names, dir, name, inode);
    }
    free(bytes->p);
}

void folder_build(struct sim_disk *disk, const char *path, struct fuzz_input *in,
                  unsigned choices)
{
    struct folder folder;
    uint32_t dir = disk->dir_count++;

    memset(&folder, 0, sizeof folder);
    (void)strncpy(disk->dirs[dir], path, sizeof disk->dirs[dir] - 1);
    while (in->left > 0) {
        unsigned kind = fuzz_u8(in);
        size_t n = fuzz_u16(in);
        const uint8_t *p = fuzz_bytes(in, n, &n);

        take_piece(&folder, kind, p, n);
    }
    if ((choices & FOLDER_NO_IDENTITY) == 0)
        put_identities_right(&folder);
    if ((choices & FOLDER_NO_LENGTHS) == 0)
        put_lengths_right(&folder);
    if ((choices & FOLDER_NO_CHECKS) == 0)
        put_checks_right(&folder, (choices & FOLDER_NO_FIT) == 0);
    for (size_t i = 0; i < folder.file_count; i++)
        store(disk, dir, folder.names[i], &folder.files[i]);
    for (size_t i = 0; i < folder.segment_count; i++) {
        char name[SEGMENT_NAME_MAX];

        hint_name(adb_get_u64(folder.segments[i].p + NUMBER_AT), name);
        store(disk, dir, name, &folder.hints[i]);
        segment_name(adb_get_u64(folder.segments[i].p + NUMBER_AT), name);
        store(disk, dir, name, &folder.segments[i]);
    }
    store(disk, dir, "manifest", &folder.manifest);
    store(disk, dir, "superblock", &folder.superblock);
}

/* ---- The other way ------------------------------------------------------------ */

static void add_piece(struct bytes *input, enum folder_piece kind, const uint8_t *p,
                      size_t n)
{
    uint8_t head[3] = {(uint8_t)kind, (uint8_t)n, (uint8_t)(n >> 8)};
    size_t at = input->n;

    resize(input, at + sizeof head + n);
    memcpy(input->p + at, head, sizeof head);
    if (n > 0)
        memcpy(input->p + at + sizeof head, p, n);
}

static size_t used(const uint8_t *p, size_t n)
{
    while (n > 0 && p[n - 1] == 0)
        n--;
    return n;
}

/* A segment's frames, rooms of zeros between them told by their length. */
static void add_frames(struct bytes *input, const uint8_t *p, size_t n)
{
    enum { PIECE_MAX = 60000, ROOM = 64 };
    size_t from = 0;

    n = (used(p, n) + 7) & ~(size_t)7;
    while (from < n) {
        size_t to = from;
        size_t zeros = 0;
        uint8_t count[2];

        while (to < n && to - from < PIECE_MAX && zeros < ROOM) {
            zeros = used(p + to, 8) == 0 ? zeros + 8 : 0;
            to += 8;
        }
        add_piece(input, PIECE_BYTES, p + from, to - from - zeros);
        from = to;
        while (zeros > 0 && from < n && used(p + from, 8) == 0) {
            from += 8;
            zeros += 8;
        }
        adb_put_u16(count, (uint16_t)(zeros / 8));
        if (zeros > 0)
            add_piece(input, PIECE_ZEROS, count, sizeof count);
    }
}

static struct bytes content_of(const struct sim_disk *disk, uint32_t inode)
{
    struct bytes bytes = {NULL, 0};

    resize(&bytes, (size_t)disk->inodes[inode].content.size);
    sim_content_read(&disk->inodes[inode].content, 0, bytes.p, bytes.n);
    return bytes;
}

uint8_t *folder_input(const struct sim_disk *disk, uint8_t choices, uint8_t more,
                      size_t *n)
{
    struct bytes input = {NULL, 0};

    resize(&input, 2);
    input.p[0] = choices;
    input.p[1] = more;
    /* Segments in rising number, as the manifest lists them. */
    for (uint64_t number = 0; number < 200; number++) {
        for (size_t i = 0; i < disk->names.count; i++) {
            const struct sim_name *name = &disk->names.list[i];
            struct bytes file = content_of(disk, name->inode);
            uint64_t of_name;

            if (number == 0 && strcmp(name->name, "superblock") == 0)
                add_piece(&input, PIECE_SUPERBLOCK, file.p, used(file.p, PAGE - 8));
            else if (number == 0 && strcmp(name->name, "manifest") == 0)
                add_piece(&input, PIECE_MANIFEST, file.p, file.n - 8);
            if (segment_name_parse(name->name, &of_name) && of_name == number) {
                add_piece(&input, PIECE_SEGMENT, file.p, used(file.p, HEADER_USED));
                add_frames(&input, file.p + PAGE, file.n - PAGE);
            }
            free(file.p);
        }
        for (size_t i = 0; i < disk->names.count; i++) {
            const struct sim_name *name = &disk->names.list[i];
            uint64_t of_name;
            bool temporary;

            if (hint_name_parse(name->name, &of_name, &temporary) && !temporary &&
                of_name == number) {
                struct bytes file = content_of(disk, name->inode);

                add_piece(&input, PIECE_HINT, file.p, file.n);
                free(file.p);
            }
        }
    }
    *n = input.n;
    return input.p;
}
