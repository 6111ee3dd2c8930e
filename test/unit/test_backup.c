/* Backups through the engine's interface: what is in a copy, what is not, who may have
 * the folder, and what a failure at each call leaves. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/log/moment.h"
#include "engine/store/backup.h"
#include "engine/store/target.h"
#include "engine/store/internal.h"
#include "fault_io.h"

enum { PATH_BYTES = 300, ROWS = 4000, VALUE = 1000 };

static char folder[200];
static struct armdb_error err;

#define OK(call) assert_int_equal((call), ARMDB_OK)

static int make_folder(void **state)
{
    const char *tmp = getenv("TMPDIR");

    (void)state;
    (void)snprintf(folder, sizeof folder, "%s/armdb_test_backup_XXXXXX",
                   tmp != NULL ? tmp : "/tmp");
    return mkdtemp(folder) == NULL;
}

static int remove_folder(void **state)
{
    char command[PATH_BYTES];

    (void)state;
    (void)snprintf(command, sizeof command, "rm -rf '%s'", folder);
    return system(command) != 0;
}

static const char *below(const char *name)
{
    static char paths[4][PATH_BYTES];
    static int next;
    char *path = paths[next++ % 4];

    (void)snprintf(path, PATH_BYTES, "%s/%s", folder, name);
    return path;
}

struct fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

static enum armdb_rc try_open(struct fixture *f, const char *path, bool create)
{
    struct armdb_options options;
    enum armdb_rc rc;

    memset(f, 0, sizeof *f);
    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.create = create;
    rc = armdb_open(path, &options, &f->store, &err);
    if (rc != ARMDB_OK)
        return rc;
    OK(armdb_session_open(f->store, &f->session, &err));
    rc = armdb_table_open(f->session, "t", NULL, &f->table, &err);
    if (rc == ARMDB_NOT_FOUND && create) {
        OK(armdb_table_create(f->session, "t", "schema", 6, &f->table, &err));
        OK(armdb_commit(f->session, &err));
        rc = ARMDB_OK;
    }
    return rc;
}

static void open_fixture(struct fixture *f, const char *path)
{
    OK(try_open(f, path, true));
}

static void open_copy(struct fixture *f, const char *path)
{
    enum armdb_rc rc = try_open(f, path, false);

    if (rc != ARMDB_OK)
        (void)fprintf(stderr, "%s: %s\n", path, err.text);
    OK(rc);
}

static void close_fixture(struct fixture *f)
{
    armdb_table_close(f->table);
    armdb_session_close(f->session);
    armdb_close(f->store);
}

static void put_row(struct fixture *f, uint32_t key, char fill)
{
    char value[VALUE];

    memset(value, fill, sizeof value);
    OK(armdb_put(f->session, f->table, &key, sizeof key, value, sizeof value, &err));
}

/* Rows [0, n), all filled with one letter, a commit each 100. */
static void fill(struct fixture *f, uint32_t n, char letter)
{
    for (uint32_t i = 0; i < n; i++) {
        put_row(f, i, letter);
        if (i % 100 == 99)
            OK(armdb_commit(f->session, &err));
    }
    OK(armdb_commit(f->session, &err));
}

/* Reads every row; there are n, each filled with `letter`. */
static void expect_rows(struct fixture *f, uint32_t n, char letter)
{
    struct armdb_cursor *cursor;
    struct armdb_range all = {.low_bound = ARMDB_BOUND_OPEN};
    uint32_t found = 0;
    enum armdb_rc rc;

    assert_int_equal(armdb_count(f->table), n);
    armdb_statement_begin(f->session);
    OK(armdb_cursor_open(f->session, f->table, &cursor, &err));
    rc = armdb_cursor_seek_range(cursor, &all, &err);
    for (; rc == ARMDB_OK; rc = armdb_cursor_next(cursor, &err)) {
        struct armdb_value value;

        OK(armdb_cursor_value(cursor, &value, &err));
        assert_int_equal(value.len, VALUE);
        assert_int_equal(((const char *)value.data)[0], letter);
        assert_int_equal(((const char *)value.data)[VALUE - 1], letter);
        found++;
    }
    assert_int_equal(rc, ARMDB_DONE);
    assert_int_equal(found, n);
    armdb_cursor_close(cursor);
}

static void backup(struct fixture *f, const char *path, struct armdb_backup_info *info)
{
    enum armdb_rc rc = armdb_backup(f->store, path, NULL, info, &err);

    if (rc != ARMDB_OK)
        (void)fprintf(stderr, "backup: %s\n", err.text);
    OK(rc);
}

/* ---- What is in it ---- */

static void a_copy_is_a_store_and_neither_harms_the_other(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;
    struct fixture copy;
    unsigned char a[16];
    unsigned char b[16];

    (void)state;
    open_fixture(&f, below("store"));
    fill(&f, ROWS, 'a');
    backup(&f, below("copy"), &info);
    assert_true(info.segments_linked >= 2); /* TMPDIR on a file system with links */
    assert_true(info.segments_copied >= 1);
    assert_true(info.bytes_copied < (uint64_t)ROWS * VALUE);
    fill(&f, ROWS, 'b');
    put_row(&f, ROWS, 'b');
    OK(armdb_commit(f.session, &err));
    open_copy(&copy, below("copy"));
    armdb_uuid(f.store, a);
    armdb_uuid(copy.store, b);
    assert_memory_equal(a, b, sizeof a);
    assert_ptr_not_equal(f.store, copy.store);
    expect_rows(&copy, ROWS, 'a');
    expect_rows(&f, ROWS + 1, 'b');
    fill(&copy, 500, 'c'); /* a life of its own */
    fill(&copy, ROWS, 'd');
    close_fixture(&f);
    expect_rows(&copy, ROWS, 'd');
    close_fixture(&copy);
    for (int round = 0; round < 2; round++) {
        open_fixture(&f, below("store"));
        expect_rows(&f, ROWS + 1, 'b');
        open_copy(&copy, below("copy"));
        expect_rows(&copy, ROWS, 'd');
        close_fixture(&copy);
        close_fixture(&f);
    }
}

static void a_copy_of_a_copy_and_a_copy_after_reopening_are_the_same(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;

    (void)state;
    open_fixture(&f, below("store"));
    fill(&f, ROWS, 'x');
    close_fixture(&f);
    open_fixture(&f, below("store"));
    backup(&f, below("one"), &info);
    assert_int_equal(info.segments_copied, 0); /* all are sealed */
    close_fixture(&f);
    open_copy(&f, below("one"));
    backup(&f, below("two"), &info);
    close_fixture(&f);
    open_copy(&f, below("two"));
    expect_rows(&f, ROWS, 'x');
    close_fixture(&f);
}

static void what_is_undecided_is_not_in_it(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;
    struct fixture copy;
    struct armdb_session *other;
    struct armdb_table *table;
    uint32_t key = 77777;

    (void)state;
    for (int doubt = ARMDB_DOUBT_COMMIT; doubt <= ARMDB_DOUBT_ABORT; doubt++) {
        char name[16];

        (void)snprintf(name, sizeof name, "copy%d", doubt);
        open_fixture(&f, below(doubt == ARMDB_DOUBT_COMMIT ? "one" : "two"));
        fill(&f, 100, 'u');
        OK(armdb_session_open(f.store, &other, &err));
        OK(armdb_table_open(other, "t", NULL, &table, &err));
        OK(armdb_put(other, table, &key, sizeof key, "prepared", 8, &err));
        OK(armdb_prepare(other, (enum armdb_doubt)doubt, &err));
        put_row(&f, 100, 'u'); /* a higher GSN, committed: in the copy */
        OK(armdb_commit(f.session, &err));
        put_row(&f, 101, 'u'); /* open: not in it */
        backup(&f, below(name), &info);
        OK(armdb_commit(other, &err));
        OK(armdb_commit(f.session, &err));
        assert_int_equal(armdb_count(f.table), 103);
        open_copy(&copy, below(name));
        expect_rows(&copy, 101, 'u');
        close_fixture(&copy);
        open_copy(&copy, below(name)); /* and after its own recovery and close */
        expect_rows(&copy, 101, 'u');
        close_fixture(&copy);
        armdb_table_close(table);
        armdb_session_close(other);
        close_fixture(&f);
    }
}

static void an_open_transaction_that_streams_chunks_is_not_in_it(void **state)
{
    struct armdb_backup_info info;
    struct armdb_options options;
    struct fixture f;
    struct fixture copy;

    (void)state;
    open_fixture(&f, below("store"));
    fill(&f, 100, 'v');
    close_fixture(&f);
    memset(&f, 0, sizeof f);
    armdb_options_init(&options);
    options.segment_size = 1 << 20;
    options.cache_size = 1 << 20; /* little memory: it spills early */
    OK(armdb_open(below("store"), &options, &f.store, &err));
    OK(armdb_session_open(f.store, &f.session, &err));
    OK(armdb_table_open(f.session, "t", NULL, &f.table, &err));
    for (uint32_t i = 0; i < 20000; i++)
        put_row(&f, i, 'w');
    backup(&f, below("during"), &info);
    assert_true(info.bytes_copied > 1 << 20); /* chunks are on the log */
    OK(armdb_commit(f.session, &err));
    backup(&f, below("after"), &info);
    close_fixture(&f);
    open_copy(&copy, below("during"));
    expect_rows(&copy, 100, 'v');
    close_fixture(&copy);
    open_copy(&copy, below("after"));
    expect_rows(&copy, 20000, 'w');
    close_fixture(&copy);
}

static void a_store_in_memory_is_written_to_the_disk(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;
    struct fixture copy;

    (void)state;
    open_fixture(&f, ":memory:");
    fill(&f, ROWS, 'm');
    backup(&f, below("copy"), &info);
    assert_int_equal(info.segments_linked, 0);
    close_fixture(&f);
    open_copy(&copy, below("copy"));
    assert_false(armdb_is_memory(copy.store));
    expect_rows(&copy, ROWS, 'm');
    close_fixture(&copy);
}

static void a_store_without_rows_can_be_copied(void **state)
{
    struct armdb_backup_info info;
    struct armdb_options options;
    struct armdb *store;

    (void)state;
    armdb_options_init(&options);
    OK(armdb_open(below("store"), &options, &store, &err));
    OK(armdb_backup(store, below("copy"), NULL, &info, &err));
    armdb_close(store);
    options.create = false;
    OK(armdb_open(below("copy"), &options, &store, &err));
    armdb_close(store);
}

static bool ask_for_names(void *arg)
{
    struct armdb *store = arg;

    adb_mutex_lock(&store->log.manifest_lock);
    if (!log_has_moment(&store->log))
        store = NULL;
    adb_mutex_unlock(&((struct armdb *)arg)->log.manifest_lock);
    return store == NULL; /* the backup is interrupted, and the test fails */
}

static void files_keep_their_names_while_a_backup_runs(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;
    struct armdb_watch watch = {ask_for_names, NULL};

    (void)state;
    open_fixture(&f, below("store"));
    watch.arg = f.store;
    fill(&f, ROWS, 'k');
    assert_true(ask_for_names(f.store)); /* none runs: they may go */
    OK(armdb_backup(f.store, below("copy"), &watch, &info, &err));
    assert_true(ask_for_names(f.store));
    close_fixture(&f);
}

/* ---- Who may have the folder ---- */

static void expect_refusal(struct fixture *f, const char *path, const char *words)
{
    struct armdb_backup_info info;

    assert_int_not_equal(armdb_backup(f->store, path, NULL, &info, &err), ARMDB_OK);
    if (strstr(err.text, words) == NULL)
        (void)fprintf(stderr, "wanted '%s' in: %s\n", words, err.text);
    assert_non_null(strstr(err.text, words));
}

static void write_file(const char *dir, const char *name, const char *text)
{
    char path[PATH_BYTES + 40];
    FILE *file;

    (void)mkdir(dir, 0700);
    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "w");
    assert_non_null(file);
    (void)fputs(text, file);
    assert_int_equal(fclose(file), 0);
}

static void expect_file(const char *dir, const char *name, const char *text)
{
    char path[PATH_BYTES + 40];
    char found[64] = "";
    FILE *file;

    (void)snprintf(path, sizeof path, "%s/%s", dir, name);
    file = fopen(path, "r");
    assert_non_null(file);
    (void)!fgets(found, sizeof found, file);
    (void)fclose(file);
    assert_string_equal(found, text);
}

static void a_folder_that_is_not_empty_is_refused_and_left_alone(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;

    (void)state;
    open_fixture(&f, below("store"));
    fill(&f, 100, 'n');
    write_file(below("photos"), "photo.jpg", "picture");
    expect_refusal(&f, below("photos"), "not empty: it holds photo.jpg");
    expect_file(below("photos"), "photo.jpg", "picture");
    write_file(below("locks"), "lock", "somebody's words");
    expect_refusal(&f, below("locks"), "not empty: it holds lock");
    expect_file(below("locks"), "lock", "somebody's words");
    write_file(below("marks"), BACKUP_MARK_NAME, "somebody's words");
    expect_refusal(&f, below("marks"), "is not armdb's");
    expect_file(below("marks"), BACKUP_MARK_NAME, "somebody's words");
    backup(&f, below("copy"), &info);
    expect_refusal(&f, below("copy"), "not empty");
    expect_refusal(&f, below("store"), "not empty");
    expect_refusal(&f, below("none/copy"), "parent");
    expect_refusal(&f, below("photos/photo.jpg"), "file, not a folder");
    assert_int_equal(symlink(below("none"), below("link")), 0);
    expect_refusal(&f, below("link"), "");
    expect_refusal(&f, "copy", "absolute");
    expect_rows(&f, 100, 'n');
    close_fixture(&f);
}

static bool always(void *arg)
{
    int *left = arg;

    return (*left)-- <= 0;
}

static void an_interrupted_backup_leaves_an_empty_folder(void **state)
{
    struct armdb_backup_info info;
    struct fixture f;
    int left;
    struct armdb_watch watch = {always, &left};
    struct armdb_options options;
    struct armdb *store;

    (void)state;
    open_fixture(&f, below("store"));
    fill(&f, ROWS, 'i');
    for (int i = 0; i < 6; i++) {
        left = i;
        assert_int_equal(armdb_backup(f.store, below("copy"), &watch, &info, &err),
                         ARMDB_INTERRUPT);
        assert_int_equal(rmdir(below("copy")), 0);
    }
    backup(&f, below("copy"), &info);
    close_fixture(&f);
    armdb_options_init(&options);
    OK(armdb_open(below("copy"), &options, &store, &err));
    armdb_close(store);
}

/* ---- Every call fails in turn ---- */

static void remove_copy(void)
{
    char command[PATH_BYTES + 20];

    (void)snprintf(command, sizeof command, "rm -rf '%s'", below("copy"));
    assert_int_equal(system(command), 0);
}

/* Runs backups whose n-th call of I/O fails, until one gets through; checks what each
 * leaves and that the next one into the same folder is right. */
static void fail_each_call(struct fixture *f, struct adb_io *inner, bool sticky,
                           bool links)
{
    struct adb_io *fault = fault_io_create(inner);
    struct adb_dir *from = NULL;
    struct adb_dir *plain_from = NULL;
    struct armdb_backup_info info;
    uint64_t n = 1;

    fault_io_fail_at(fault, 0, false);
    OK(fault->ops->dir_open(fault, below("store"), false, &from, &err));
    OK(inner->ops->dir_open(inner, below("store"), false, &plain_from, &err));
    for (;; n++) {
        struct fixture copy;
        enum armdb_rc rc;

        fault_io_fail_at(fault, n, sticky);
        rc = backup_through(f->store, fault, links ? from : plain_from, below("copy"),
                            NULL, &info, &err);
        if (rc == ARMDB_OK && fault_io_calls(fault) < n)
            break;
        fault_io_fail_at(fault, 0, false);
        if (rc == ARMDB_OK) { /* a call whose failure does no harm */
            open_copy(&copy, below("copy"));
            expect_rows(&copy, ROWS / 4, 'f');
            close_fixture(&copy);
        } else {
            /* Never a store, unless it is a whole one that only lacked its last sync. */
            rc = try_open(&copy, below("copy"), false);
            if (rc == ARMDB_OK) {
                expect_rows(&copy, ROWS / 4, 'f');
                close_fixture(&copy);
            } else {
                assert_true(rc == ARMDB_NOT_FOUND || rc == ARMDB_NOTADB);
                backup(f, below("copy"), &info);
                open_copy(&copy, below("copy"));
                expect_rows(&copy, ROWS / 4, 'f');
                close_fixture(&copy);
            }
        }
        remove_copy();
        assert_true(n < 500);
    }
    fault_io_fail_at(fault, 0, false);
    from->io->ops->dir_close(from);
    plain_from->io->ops->dir_close(plain_from);
    fault_io_destroy(fault);
    assert_true(n > 20);
}

static void run_failing_calls(bool links)
{
    struct adb_io *inner = NULL;
    struct fixture f;

    open_fixture(&f, below("store"));
    fill(&f, ROWS / 4, 'f');
    close_fixture(&f);
    open_fixture(&f, below("store"));
    put_row(&f, 0, 'f'); /* a tail to be copied, beside what can be linked */
    OK(armdb_commit(f.session, &err));
    OK(adb_io_plain_create(&inner, &err));
    for (int sticky = 0; sticky <= 1; sticky++) {
        fail_each_call(&f, inner, sticky != 0, links);
        remove_copy();
    }
    expect_rows(&f, ROWS / 4, 'f');
    close_fixture(&f);
    inner->ops->destroy(inner);
}

static void a_failing_call_leaves_no_half_store_where_files_are_linked(void **state)
{
    (void)state;
    run_failing_calls(true);
}

static void a_failing_call_leaves_no_half_store_where_files_are_copied(void **state)
{
    (void)state;
    run_failing_calls(false);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_copy_is_a_store_and_neither_harms_the_other),
        TEST(a_copy_of_a_copy_and_a_copy_after_reopening_are_the_same),
        TEST(what_is_undecided_is_not_in_it),
        TEST(an_open_transaction_that_streams_chunks_is_not_in_it),
        TEST(a_store_in_memory_is_written_to_the_disk),
        TEST(a_store_without_rows_can_be_copied),
        TEST(files_keep_their_names_while_a_backup_runs),
        TEST(a_folder_that_is_not_empty_is_refused_and_left_alone),
        TEST(an_interrupted_backup_leaves_an_empty_folder),
        TEST(a_failing_call_leaves_no_half_store_where_files_are_linked),
        TEST(a_failing_call_leaves_no_half_store_where_files_are_copied),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
