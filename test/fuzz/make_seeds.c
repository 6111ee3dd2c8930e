/* make_seeds.c - writes the seeds of the fuzzing programs, below the folder given.
 *
 * Stores are made on the simulated disk by the engine as it is; what they hold is cut
 * into pieces for the decoders and kept whole for the others. Run by `make seeds` after
 * a change of the format; seeds named after a mistake that was found stay. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "engine/armdb.h"
#include "engine/base/bytes.h"
#include "engine/store/internal.h"
#include "test/fuzz/folder.h"
#include "test/sim/sim_sched.h"

static const char *root;

static void must(enum armdb_rc rc, const struct armdb_error *err)
{
    if (rc != ARMDB_OK)
        sim_fail("%s: %s", adb_rc_name(rc), err->text);
}

void fuzz_failed(const char *condition, const char *file, int line)
{
    sim_fail("%s:%d: %s", file, line, condition);
}

static void write_seed(const char *harness, const char *name, const void *head,
                       size_t head_len, const void *p, size_t n)
{
    char path[300];
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", root, harness);
    (void)mkdir(path, 0777);
    (void)snprintf(path, sizeof path, "%s/%s/%s", root, harness, name);
    file = fopen(path, "wb");
    if (file == NULL || fwrite(head, 1, head_len, file) != head_len ||
        fwrite(p, 1, n, file) != n || fclose(file) != 0)
        sim_fail("%s cannot be written", path);
}

/* ---- Stores ---- */

struct maker {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_error err;
};

static void open_maker(struct maker *m, uint32_t shards)
{
    struct armdb_options options;

    armdb_options_init(&options);
    options.shards = shards;
    options.cache_size = 1 << 20;
    options.segment_size = 1 << 20;
    options.io_engine = ARMDB_IO_PLAIN;
    options.hint_bytes_min = 1;
    must(armdb_open("/store", &options, &m->store, &m->err), &m->err);
    m->store->log.segment_size = 24 << 10;
    must(armdb_session_open(m->store, &m->session, &m->err), &m->err);
}

static void close_maker(struct maker *m)
{
    armdb_session_close(m->session);
    armdb_close(m->store);
}

static void commit(struct maker *m, enum armdb_doubt doubt)
{
    must(armdb_prepare(m->session, doubt, &m->err), &m->err);
    must(armdb_commit(m->session, &m->err), &m->err);
}

static struct armdb_table *table_of(struct maker *m, const char *name)
{
    struct armdb_table *table;
    enum armdb_rc rc = armdb_table_open(m->session, name, NULL, &table, &m->err);

    if (rc == ARMDB_NOT_FOUND)
        rc = armdb_table_create(m->session, name, "schema", 6, &table, &m->err);
    must(rc, &m->err);
    return table;
}

static void put(struct maker *m, struct armdb_table *table, unsigned key, size_t n)
{
    char name[20];
    char *value = malloc(n + 1);

    (void)snprintf(name, sizeof name, "key %u", key);
    memset(value, (int)('a' + key % 26), n);
    must(armdb_put(m->session, table, name, strlen(name), value, n, &m->err), &m->err);
    free(value);
}

static void delete_key(struct maker *m, struct armdb_table *table, unsigned key)
{
    char name[20];

    (void)snprintf(name, sizeof name, "key %u", key);
    must(armdb_delete(m->session, table, name, strlen(name), &m->err), &m->err);
}

static void make_rows(struct maker *m)
{
    struct armdb_table *table = table_of(m, "t");

    for (unsigned i = 0; i < 4; i++)
        put(m, table, i, i * 20);
    commit(m, ARMDB_DOUBT_COMMIT);
    delete_key(m, table, 2);
    put(m, table, 1, 5);
    commit(m, ARMDB_DOUBT_ABORT);
    put(m, table, 7, 100);
    must(armdb_prepare(m->session, ARMDB_DOUBT_ABORT, &m->err), &m->err);
    must(armdb_rollback(m->session, &m->err), &m->err);
    armdb_table_close(table);
}

static void make_tables(struct maker *m)
{
    struct armdb_table *a = table_of(m, "a");
    struct armdb_table *b = table_of(m, "b");

    put(m, a, 1, 10);
    put(m, b, 1, 10);
    commit(m, ARMDB_DOUBT_COMMIT);
    must(armdb_table_clear(m->session, a, &m->err), &m->err);
    put(m, a, 2, 10);
    commit(m, ARMDB_DOUBT_COMMIT);
    must(armdb_table_drop(m->session, b, &m->err), &m->err);
    must(armdb_table_rename(m->session, a, "renamed", &m->err), &m->err);
    commit(m, ARMDB_DOUBT_COMMIT);
    armdb_table_close(a);
    armdb_table_close(b);
}

static void make_chunks(struct maker *m)
{
    struct armdb_table *table = table_of(m, "t");

    m->store->options.cache_size = 4 << 10; /* a share is a quarter of it */
    must(armdb_savepoint(m->session, 1, &m->err), &m->err);
    for (unsigned i = 0; i < 6; i++)
        put(m, table, i, 500);
    must(armdb_savepoint_rollback(m->session, 1, &m->err), &m->err);
    for (unsigned i = 3; i < 8; i++)
        put(m, table, i, 400);
    commit(m, ARMDB_DOUBT_ABORT);
    armdb_table_close(table);
}

static void make_pages(struct maker *m)
{
    struct armdb_table *table = table_of(m, "t");

    put(m, table, 1, 3000);
    put(m, table, 2, 3000);
    put(m, table, 3, 5000);
    commit(m, ARMDB_DOUBT_COMMIT);
    armdb_table_close(table);
}

static void make_compacted(struct maker *m)
{
    struct armdb_compact_info info;

    make_rows(m);
    make_chunks(m);
    must(armdb_compact(m->store, NULL, &info, &m->err), &m->err);
    make_rows(m);
}

static void make_nothing(struct maker *m)
{
    (void)m;
}

static const struct {
    const char *name;
    void (*make)(struct maker *m);
    uint32_t shards;
    bool killed; /* not closed: recovery has something to do */
} stores[] = {
    {"empty", make_nothing, 1, false},
    {"rows", make_rows, 1, false},
    {"rows-killed", make_rows, 2, true},
    {"tables", make_tables, 2, true},
    {"chunks", make_chunks, 1, true},
    {"chunks-closed", make_chunks, 2, false},
    {"pages", make_pages, 1, true},
    {"compacted", make_compacted, 1, false},
    {"compacted-killed", make_compacted, 1, true},
};

/* What a process that is killed now would leave. */
static struct sim_disk *copy_disk(const struct sim_disk *disk)
{
    struct sim_disk *copy = sim_disk_create(1);

    for (uint32_t i = 0; i < disk->inode_count; i++) {
        uint32_t inode = sim_disk_new_inode(copy);

        sim_content_copy(&copy->inodes[inode].content, &disk->inodes[i].content);
    }
    for (size_t i = 0; i < disk->names.count; i++)
        sim_names_set(&copy->names, disk->names.list[i].dir, disk->names.list[i].name,
                      disk->names.list[i].inode);
    return copy;
}

/* ---- Pieces for the decoders ---- */

static void cut_segment(const char *name, const uint8_t *p, size_t n, size_t at)
{
    uint8_t head[3] = {adb_get_u32(p + 64) == 2 ? 4 : 0, 0, 0};
    char text[80];

    (void)snprintf(text, sizeof text, "%s-%zu", name, at);
    while (n > 4096 && p[n - 1] == 0)
        n--;
    write_seed("segment", text, head, sizeof head, p + 4096, n - 4096);
    for (size_t frame = 4096; n > 4096 && frame + 120 <= n; frame += 8) {
        static const uint8_t place[3];
        size_t end = frame + 120 + adb_get_u32(p + frame + 12);

        if (p[frame] != 0xA7 || end > n)
            continue;
        (void)snprintf(text, sizeof text, "%s-%zu-%zu", name, at, frame);
        if (frame < 5000 || p[frame + 8] == 3)
            write_seed("frame", text, place, sizeof place, p + frame, end - frame);
        if (frame < 5000 && n - end < 600)
            write_seed("record", text, place, sizeof place, p + end, n - end);
    }
}

static void cut_disk(const char *name, const struct sim_disk *disk)
{
    for (size_t i = 0; i < disk->names.count; i++) {
        const struct sim_content *content =
            &disk->inodes[disk->names.list[i].inode].content;
        size_t n = (size_t)content->size;
        uint8_t *p = malloc(n + 1);
        const char *file = disk->names.list[i].name;

        sim_content_read(content, 0, p, n);
        if (strcmp(file, "manifest") == 0)
            write_seed("manifest", name, "", 1, p, n);
        else if (strcmp(file, "superblock") == 0)
            write_seed("superblock", name, "", 1, p, 80);
        else if (strstr(file, ".hint") != NULL)
            write_seed("hint", name, "", 1, p, n);
        else if (strstr(file, ".seg") != NULL)
            cut_segment(name, p, n, i);
        free(p);
    }
}

static void make_store(size_t i)
{
    struct maker m;
    struct sim_disk *disk = sim_disk_create(i);
    struct sim_disk *left = NULL;
    uint8_t *input;
    size_t n;

    sim_sched_seed(i, 0);
    sim_disk_mount(disk);
    open_maker(&m, stores[i].shards);
    stores[i].make(&m);
    if (stores[i].killed)
        left = copy_disk(disk);
    close_maker(&m);
    if (left == NULL)
        left = copy_disk(disk);
    input = folder_input(left, 0, (uint8_t)(i * 37), &n);
    write_seed("store", stores[i].name, "", 0, input, n);
    (void)printf("%s: %zu bytes\n", stores[i].name, n);
    free(input);
    cut_disk(stores[i].name, left);
    sim_disk_destroy(left);
    sim_disk_destroy(disk);
}

/* ---- Definitions ---- */

static const struct {
    const char *name;
    const char *text;
} definitions[] = {
    {"kv", "t\npath='dir'"},
    {"columns", "t\nk TEXT PRIMARY KEY\nv BLOB NOT NULL\npath='dir'"},
    {"composite",
     "files\ndir TEXT COLLATE NOCASE\nname TEXT COLLATE RTRIM\nsize INTEGER"
     "\nPRIMARY KEY(dir DESC, name COLLATE BINARY)\npath=\"a b\"\ntable='x'"},
    {"checks", "t\na INT PRIMARY KEY CHECK(a > 0)\nb REAL DEFAULT 1.5\n"
               "c DEFAULT (1 + 2) NOT NULL\nCHECK(b < c)\npath='d'"},
    {"options", "t\nk PRIMARY KEY\npath='d'\nsync=normal\nshards=4\nshard_prefix_bits=8\n"
                "segment_size='64M'\ncache_size=\"1G\"\nio=direct\nio_engine=plain\n"
                "mmap=off\ncompact_at='30%'"},
    {"quotes",
     "\"odd table\"\n[a b] VARCHAR(10) COLLATE nocase PRIMARY KEY\n`c` '' -- x\n"
     "path='it''s'"},
    {"wrong", "t\nk TEXT\nv\nunknown=1\npath='d'"},
    {"generated", "t\nk PRIMARY KEY\nv GENERATED ALWAYS AS (k + 1)\npath='d'"},
    {"stored", "k TEXT PRIMARY KEY, v BLOB"},
    {"stored-composite", "a INTEGER, b TEXT DEFAULT 'x', PRIMARY KEY(a, b DESC)"},
};

static void make_definitions(void)
{
    for (size_t i = 0; i < sizeof definitions / sizeof definitions[0]; i++)
        write_seed("schema", definitions[i].name, "", 0, definitions[i].text,
                   strlen(definitions[i].text));
}

/* ---- Damage and statements, drawn ---- */

static void make_sql(void)
{
    uint64_t random = 36;

    for (unsigned i = 0; i < 24; i++) {
        uint8_t bytes[100] = {(uint8_t)(i % 3), (uint8_t)(i % 5 < 2 ? 0 : i * 29)};
        unsigned edits = 1 + i % 8;
        size_t n = 3;
        char name[20];

        bytes[2] = (uint8_t)edits;
        while (n < 3 + 6 * (size_t)edits + 20)
            bytes[n++] = (uint8_t)sim_below(&random, 256);
        (void)snprintf(name, sizeof name, "drawn-%u", i);
        write_seed("sql", name, "", 0, bytes, n);
    }
}

int main(int argc, char **argv)
{
    sim_fix_addresses(argv);
    if (argc != 2)
        return 2;
    root = argv[1];
    for (size_t i = 0; i < sizeof stores / sizeof stores[0]; i++)
        make_store(i);
    make_definitions();
    make_sql();
    return 0;
}
