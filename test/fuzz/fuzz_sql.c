/* fuzz_sql.c - SQL over damaged stores.
 *
 * Three stores are made by SQL on the simulated disk when the program starts: one closed
 * in order, one compacted and written to again, one whose process was killed. Input: a
 * byte that picks one, a byte of choices, edits, and the statements to run:
 *
 *   edit   | file 1 | offset 2 | kind 1 | more |    kinds: a byte changed, 8 bytes set,
 *          bytes put, the file cut, the file gone, a name that another file gets
 *
 * Then the statements run, in the order that the input says. Each ends in one of the
 * codes for damage, or well; none says that memory is lacking or an invariant broken.
 * With checks left wrong, a table of the store that was closed in order that is read to
 * its end has exactly the rows it had. In the end everything is closed and nothing is
 * left. */
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/base/bytes.h"
#include "test/fuzz/harness.h"
#include "test/fuzz/reseal.h"
#include "test/sim/sim_disk.h"
#include "test/sim/sim_sched.h"

int sqlite3_armdbvtab_init(sqlite3 *db, char **err, const void *api);

const struct fuzz_setup fuzz_setup = {"sql", 600, 300, 64 << 20, 4000};

enum {
    STORES = 3,
    EDITS_MAX = 12,
    STEPS_MAX = 40,
    SQLITE_BYTES_MAX = 24 << 20,
    DUMP_BYTES = 1 << 16
};
enum choice { CHOICE_SEAL = 1 << 0, CHOICE_FIT = 1 << 1 };

static const char *const making[] = {
    "CREATE VIRTUAL TABLE t USING armdb(k TEXT PRIMARY KEY, a INTEGER, b, path='/sql', "
    "shards=2, cache_size=1048576, segment_size=1048576, io_engine=plain)",
    "CREATE VIRTUAL TABLE c USING armdb(x TEXT COLLATE NOCASE, y REAL, z BLOB DEFAULT "
    "'z', "
    "PRIMARY KEY(x, y DESC), CHECK(y < 1000), path='/sql', cache_size=1048576, "
    "segment_size=1048576, io_engine=plain)",
    "INSERT INTO t VALUES('a', 1, x'00'), ('b', 2, 'text'), ('c/d', 3, zeroblob(5000))",
    "INSERT INTO t SELECT 'k/' || value, value, hex(value) FROM (WITH RECURSIVE n(value) "
    "AS "
    "(SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 20) SELECT value FROM n)",
    "INSERT INTO c(x, y) SELECT k, a FROM t",
    "INSERT OR REPLACE INTO c VALUES('A', 1, NULL), ('e ', 2.5, x'ff')",
    "DELETE FROM t WHERE a % 3 = 0",
    "UPDATE t SET b = b || '!' WHERE a > 15",
};
static const char compacting[] = "SELECT armdb_compact('t')";
static const char more[] = "INSERT OR REPLACE INTO t VALUES('a', 100, 'later')";

static const char *const statements[] = {
    "SELECT k, a, quote(b) FROM t",
    "SELECT x, y, quote(z) FROM c ORDER BY x DESC, y DESC",
    "SELECT count(*), sum(a), max(length(b)) FROM t WHERE k > 'b'",
    "SELECT * FROM t WHERE k = 'k/5'",
    "SELECT * FROM t WHERE k IN ('a', 'b', 'k/7', 'none')",
    "SELECT * FROM c WHERE x LIKE 'K/%' AND y > 3",
    "SELECT k FROM t WHERE k GLOB 'k/*' ORDER BY k DESC LIMIT 3",
    "INSERT INTO t VALUES('new', 5, zeroblob(3000))",
    "INSERT OR REPLACE INTO t VALUES('b', 6, NULL)",
    "UPDATE t SET a = a + 1",
    "DELETE FROM t WHERE k < 'k/2'",
    "UPDATE c SET x = x || 'x', y = y + 1 WHERE y < 10",
    "BEGIN",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "COMMIT",
    "ROLLBACK",
    "SELECT * FROM armdb_verify('t')",
    "SELECT * FROM armdb_list('t', 'k', '/')",
    "SELECT * FROM armdb_segments('t')",
    "SELECT * FROM armdb_stat('t')",
    "SELECT armdb_count('t'), armdb_count('c')",
    "SELECT armdb_compact('t')",
    "SELECT armdb_backup('t', '/copy')",
    "SELECT armdb_flush('t')",
    "SELECT armdb_incr('t', 'a', 1, 'a')",
    "SELECT armdb_cas('t', 'b', 'x', 'y')",
    "SELECT armdb_clear('c')",
    "ALTER TABLE c RENAME TO renamed",
    "DROP TABLE t",
    "PRAGMA integrity_check",
};
enum { STATEMENTS = sizeof statements / sizeof statements[0] };

static struct sim_disk *bases[STORES];
static char good[2][DUMP_BYTES]; /* what t and c hold in the first store */

/* ---- The stores ---- */

static sqlite3 *open_database(void)
{
    sqlite3 *db;

    FUZZ_CHECK(sqlite3_open(":memory:", &db) == SQLITE_OK);
    FUZZ_CHECK(sqlite3_armdbvtab_init(db, NULL, NULL) == SQLITE_OK);
    return db;
}

static void must(sqlite3 *db, const char *sql)
{
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);

    if (rc != SQLITE_OK)
        (void)fprintf(stderr, "%s: %s\n", sql, sqlite3_errmsg(db));
    FUZZ_CHECK(rc == SQLITE_OK);
}

static struct sim_disk *copy_disk(const struct sim_disk *from)
{
    struct sim_disk *to = sim_disk_create(36);

    memcpy(to->dirs, from->dirs, sizeof to->dirs);
    to->dir_count = from->dir_count;
    for (uint32_t i = 0; i < from->inode_count; i++) {
        uint32_t inode = sim_disk_new_inode(to);

        sim_content_copy(&to->inodes[inode].content, &from->inodes[i].content);
        to->inodes[inode].links = from->inodes[i].links;
    }
    for (size_t i = 0; i < from->names.count; i++)
        sim_names_set(&to->names, from->names.list[i].dir, from->names.list[i].name,
                      from->names.list[i].inode);
    return to;
}

/* Every row, appended to `out`; the code that the table's end gives. */
static int dump(sqlite3 *db, const char *sql, char *out)
{
    sqlite3_stmt *stmt = NULL;
    size_t used = 0;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);

    out[0] = '\0';
    if (rc != SQLITE_OK)
        return rc;
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW) {
        for (int i = 0; i < sqlite3_column_count(stmt); i++) {
            const char *text = (const char *)sqlite3_column_text(stmt, i);

            used += (size_t)snprintf(out + used, DUMP_BYTES - used, "%s|",
                                     text != NULL ? text : "NULL");
            FUZZ_CHECK(used < DUMP_BYTES);
        }
    }
    (void)sqlite3_finalize(stmt);
    return rc;
}

static void make_store(int which)
{
    struct sim_disk *disk = sim_disk_create(36);
    sqlite3 *db;

    sim_sched_seed(36, 0);
    sim_disk_mount(disk);
    db = open_database();
    for (size_t i = 0; i < sizeof making / sizeof making[0]; i++)
        must(db, making[i]);
    if (which == 1) {
        must(db, compacting);
        must(db, more);
    }
    if (which == 0) {
        FUZZ_CHECK(dump(db, statements[0], good[0]) == SQLITE_DONE);
        FUZZ_CHECK(dump(db, statements[1], good[1]) == SQLITE_DONE);
    }
    if (which == 2)
        bases[which] = copy_disk(disk);
    FUZZ_CHECK(sqlite3_close(db) == SQLITE_OK);
    if (which != 2)
        bases[which] = copy_disk(disk);
    sim_disk_destroy(disk);
}

/* ---- Damage ---- */

static void edit_bytes(struct sim_content *content, struct fuzz_input *in,
                       uint64_t offset, uint8_t kind)
{
    uint8_t bytes[8];
    size_t n = 8;

    if (kind == 0) {
        sim_content_read(content, offset, bytes, 1);
        bytes[0] ^= fuzz_u8(in);
        n = 1;
    } else if (kind == 1) {
        adb_put_u64(bytes, fuzz_number(in));
    } else {
        const uint8_t *p = fuzz_bytes(in, 1 + fuzz_u8(in) % 8, &n);

        memcpy(bytes, p, n);
    }
    if (n > content->size - offset)
        n = (size_t)(content->size - offset);
    sim_content_write(content, offset, bytes, n);
}

/* Zeros behind the frames are no place to look at: most offsets lie before them. */
static uint64_t place(const struct sim_content *content, uint64_t at)
{
    uint64_t span = content->size < 16384 ? content->size : 16384;

    return span == 0 ? 0 : at % span;
}

static void edit(struct sim_disk *disk, struct fuzz_input *in)
{
    size_t which = fuzz_u8(in);
    uint16_t at = fuzz_u16(in);
    uint8_t kind = fuzz_u8(in);
    struct sim_name *name;
    struct sim_content *content;

    if (disk->names.count == 0)
        return;
    name = &disk->names.list[which % disk->names.count];
    content = &disk->inodes[name->inode].content;
    switch (kind % 16) {
    case 13:
        sim_content_resize(content, at % (content->size + 1));
        break;
    case 14:
        sim_names_remove(&disk->names, name->dir, name->name);
        break;
    case 15:
        name->inode = disk->names.list[at % disk->names.count].inode;
        break;
    default:
        if (content->size > 0)
            edit_bytes(content, in, place(content, at), kind % 3);
    }
}

static void seal_files(struct sim_disk *disk, bool fit)
{
    for (size_t i = 0; i < disk->names.count; i++) {
        struct sim_content *content = &disk->inodes[disk->names.list[i].inode].content;
        const char *name = disk->names.list[i].name;
        size_t n = (size_t)content->size;
        uint8_t *p = malloc(n + 1);

        sim_content_read(content, 0, p, n);
        if (strcmp(name, "superblock") == 0 && n == 4096)
            (void)reseal_superblock(p);
        else if (strcmp(name, "manifest") == 0)
            (void)reseal_manifest(p, n);
        else if (strstr(name, ".seg") != NULL)
            (void)reseal_segment(p, n, fit);
        sim_content_write(content, 0, p, n);
        free(p);
    }
}

/* ---- Statements ---- */

static void is_clean(int rc, sqlite3 *db, const char *sql)
{
    switch (rc & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE:
    case SQLITE_ERROR: /* no such table, a transaction that is not there */
    case SQLITE_CORRUPT:
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN:
    case SQLITE_NOTADB:
    case SQLITE_READONLY:
    case SQLITE_CONSTRAINT:
    case SQLITE_MISMATCH:
    case SQLITE_BUSY:
    case SQLITE_LOCKED: /* DROP in the transaction that wrote to the table */
    case SQLITE_FULL:
    case SQLITE_TOOBIG:
        return;
    default:
        (void)fprintf(stderr, "%s: %d %s\n", sql, rc, sqlite3_errmsg(db));
        FUZZ_CHECK(!"a code for damage");
    }
}

static void run(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &stmt, NULL);
    unsigned rows = 0;

    is_clean(rc, db, sql);
    while (rc == SQLITE_OK || rc == SQLITE_ROW) {
        rc = sqlite3_step(stmt);
        is_clean(rc, db, sql);
        for (int i = 0; rc == SQLITE_ROW && i < sqlite3_column_count(stmt); i++)
            (void)sqlite3_column_bytes(stmt, i);
        FUZZ_CHECK(rows++ < 100000);
    }
    (void)sqlite3_finalize(stmt);
}

static bool attach(sqlite3 *db, const char *name)
{
    char sql[200];
    int rc;

    (void)snprintf(sql, sizeof sql,
                   "CREATE VIRTUAL TABLE %s USING armdb(path='/sql', cache_size=1048576, "
                   "segment_size=1048576, io_engine=plain)",
                   name);
    rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    is_clean(rc, db, sql);
    return rc == SQLITE_OK;
}

/* Bits were changed and no check was made right: rows are as they were, or not told. */
static void must_be_true(sqlite3 *db)
{
    static char found[DUMP_BYTES];

    for (int i = 0; i < 2; i++) {
        int rc = dump(db, statements[i], found);

        is_clean(rc, db, statements[i]);
        if (rc == SQLITE_DONE && strcmp(found, good[i]) != 0) {
            (void)fprintf(stderr, "was: %s\nis:  %s\n", good[i], found);
            FUZZ_CHECK(!"the rows are those that were written");
        }
        FUZZ_CHECK(strncmp(found, good[i], strlen(found)) == 0);
    }
}

static void use_store(struct fuzz_input *in, bool untouched)
{
    sqlite3 *db = open_database();
    bool t = attach(db, "t");
    bool c = attach(db, "c");

    if (untouched && t && c)
        must_be_true(db);
    for (int i = 0; i < STEPS_MAX && in->left > 0; i++)
        run(db, statements[fuzz_u8(in) % STATEMENTS]);
    FUZZ_CHECK(sqlite3_close(db) == SQLITE_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct fuzz_input in = {data, size};
    unsigned which = fuzz_u8(&in) % STORES;
    unsigned choices = fuzz_u8(&in);
    unsigned edits = fuzz_u8(&in) % EDITS_MAX;
    struct sim_disk *disk;
    sqlite3_int64 before;

    for (int i = 0; bases[0] == NULL || i < STORES; i++) {
        if (bases[i] != NULL)
            break;
        make_store(i);
    }
    disk = copy_disk(bases[which]);
    for (unsigned i = 0; i < edits; i++)
        edit(disk, &in);
    if ((choices & CHOICE_SEAL) != 0)
        seal_files(disk, (choices & CHOICE_FIT) != 0);
    sim_sched_seed(36, 0);
    sim_disk_mount(disk);
    before = sqlite3_memory_used();
    (void)sqlite3_memory_highwater(1);
    fuzz_begin(size);
    use_store(&in, which == 0 && (choices & CHOICE_SEAL) == 0);
    if ((choices & 0x80) != 0) /* and again, as it was left */
        use_store(&in, false);
    fuzz_end();
    FUZZ_CHECK(sqlite3_memory_highwater(0) - before < SQLITE_BYTES_MAX);
    FUZZ_CHECK(sim_disk_handles() == 0 && sim_sched_count() == 0);
    sim_disk_destroy(disk);
    return 0;
}
