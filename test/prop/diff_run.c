/* diff_run.c - runs a list of steps on both sides and compares what comes back.
 *
 * Side 0 is a database with native tables, side 1 one with armdb tables of the same
 * names. Each step runs on side 0, then on side 1; its rows (values with their types
 * and bytes, column names), result code, extended code, message, changes(), growth of
 * total_changes(), last_insert_rowid() and transaction state must agree. The first
 * disagreement ends the run.
 *
 * Rows are written down as text, one line each, so that a difference can be shown as
 * it was compared. Long values are shown by length, hash and beginning. */
#define _GNU_SOURCE
#include "test/prop/diff.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { CONNECTIONS_MAX = 2, ROWS_MAX = 50000 };

struct outcome {
    int rc;
    int extended;
    char message[400];
    int changes;
    int64_t total;
    int64_t last_rowid;
    int autocommit;
    bool ran; /* it could be prepared */
    struct text head; /* column names */
    struct text rows; /* lines */
    struct text prefix; /* the leading columns of each row, folded */
    int row_count;
};

struct side {
    int number;
    sqlite3 *db[CONNECTIONS_MAX];
    sqlite3_stmt *slot[CONNECTIONS_MAX][SLOTS_MAX];
    sqlite3_stmt *cursor[CURSORS_MAX];
    bool made[2]; /* tables t and o were created (TEMP tables come again) */
    struct outcome out;
};

struct run {
    const struct plan *plan;
    const struct settings *settings;
    struct verdict *verdict;
    struct side side[2];
    bool tainted[CURSORS_MAX];
    bool ended; /* the sides may differ from here on */
    /* What the other connection had changed when this one's moment began, or later. */
    int64_t seen[CONNECTIONS_MAX];
};

/* ---- Writing values down --------------------------------------------------- */

static uint64_t hash_bytes(const unsigned char *data, size_t len)
{
    uint64_t hash = UINT64_C(14695981039346656037);
    size_t i;

    for (i = 0; i < len; i++)
        hash = (hash ^ data[i]) * UINT64_C(1099511628211);
    return hash;
}

static void note_bytes(struct text *out, char tag, const unsigned char *data, size_t len)
{
    static const char digits[] = "0123456789abcdef";
    size_t i, shown = len > 160 ? 24 : len;

    text_add_bytes(out, &tag, 1);
    text_add_bytes(out, "'", 1);
    for (i = 0; i < shown; i++) {
        if (tag == 't' && data[i] >= 32 && data[i] < 127 && data[i] != '\\') {
            text_add_bytes(out, data + i, 1);
        } else {
            char hex[3] = { tag == 't' ? '\\' : digits[data[i] >> 4] };

            if (tag == 't')
                text_add_bytes(out, hex, 1);
            hex[0] = digits[data[i] >> 4];
            hex[1] = digits[data[i] & 15];
            text_add_bytes(out, hex, 2);
        }
    }
    text_add_bytes(out, "'", 1);
    if (shown < len)
        text_add(out, "..%zu bytes, hash %llx", len,
                 (unsigned long long)hash_bytes(data, len));
}

/* As any of the collations may see it. To NOCASE a NUL ends the text, but for the length:
 * 'a<NUL>b' equals 'a<NUL>y'. */
static void note_folded_text(struct text *out, const unsigned char *data, size_t len)
{
    unsigned char *copy;
    bool ended = false;
    size_t i;

    while (len > 0 && data[len - 1] == ' ')
        len--;
    copy = malloc(len + 1);
    if (copy == NULL)
        abort();
    for (i = 0; i < len; i++) {
        ended = ended || data[i] == 0;
        copy[i] = data[i] >= 'a' && data[i] <= 'z' ? (unsigned char)(data[i] - 32)
                                                   : data[i];
        if (ended)
            copy[i] = 0;
    }
    note_bytes(out, 't', copy, len);
    free(copy);
}

static void note_value(struct text *out, sqlite3_stmt *stmt, int column, bool folded)
{
    const unsigned char *data;
    double real;
    size_t len;

    switch (sqlite3_column_type(stmt, column)) {
    case SQLITE_INTEGER:
        text_add(out, "%lld", (long long)sqlite3_column_int64(stmt, column));
        break;
    case SQLITE_FLOAT:
        real = sqlite3_column_double(stmt, column);
        if (folded && real >= -9223372036854775808.0 && real < 9223372036854775808.0
            && (double)(int64_t)real == real)
            text_add(out, "%lld", (long long)(int64_t)real);
        else
            text_add(out, "r%.17g", real);
        break;
    case SQLITE_TEXT:
        data = sqlite3_column_text(stmt, column);
        len = (size_t)sqlite3_column_bytes(stmt, column);
        if (folded)
            note_folded_text(out, data, len);
        else
            note_bytes(out, 't', data, len);
        break;
    case SQLITE_BLOB:
        data = sqlite3_column_blob(stmt, column);
        len = (size_t)sqlite3_column_bytes(stmt, column);
        note_bytes(out, 'x', data, len);
        break;
    default:
        text_add(out, "NULL");
    }
}

static void note_row(struct outcome *out, sqlite3_stmt *stmt, const struct step *step)
{
    int i, columns = sqlite3_data_count(stmt);

    for (i = 0; i < columns; i++) {
        text_add_bytes(&out->rows, "|", i > 0);
        note_value(&out->rows, stmt, i, step->loose);
    }
    text_add_bytes(&out->rows, "\n", 1);
    for (i = 0; i < step->prefix_columns && i < columns; i++) {
        text_add_bytes(&out->prefix, "|", i > 0);
        note_value(&out->prefix, stmt, i, true);
    }
    if (step->prefix_columns > 0)
        text_add_bytes(&out->prefix, "\n", 1);
    out->row_count++;
}

/* ---- Databases ------------------------------------------------------------- */

static void side_path(const struct run *run, int side, char *path, size_t room)
{
    if (run->plan->schema.place == PLACE_MEMORY)
        snprintf(path, room, ":memory:");
    else
        snprintf(path, room, "%s/%c.db", run->settings->folder, "ab"[side]);
}

static bool must_exec(struct run *run, sqlite3 *db, const char *sql)
{
    if (sqlite3_exec(db, sql, NULL, NULL, NULL) == SQLITE_OK)
        return true;
    snprintf(run->verdict->text, sizeof run->verdict->text, "%s: %s\n", sql,
             sqlite3_errmsg(db));
    run->verdict->differs = 1;
    return false;
}

static bool load_extension(struct run *run, sqlite3 *db)
{
    char *message = NULL;

    sqlite3_db_config(db, SQLITE_DBCONFIG_ENABLE_LOAD_EXTENSION, 1, NULL);
    if (sqlite3_load_extension(db, run->settings->extension, NULL, &message)
        == SQLITE_OK)
        return true;
    snprintf(run->verdict->text, sizeof run->verdict->text, "load %s: %s\n",
             run->settings->extension, message != NULL ? message : "?");
    sqlite3_free(message);
    run->verdict->differs = 1;
    return false;
}

static bool open_side(struct run *run, struct side *side)
{
    const struct schema *schema = &run->plan->schema;
    char path[600];
    int i;

    side_path(run, side->number, path, sizeof path);
    for (i = 0; i < run->settings->connections; i++) {
        if (sqlite3_open(path, &side->db[i]) != SQLITE_OK) {
            run->verdict->differs = 1;
            snprintf(run->verdict->text, sizeof run->verdict->text, "open %s: %s\n", path,
                     sqlite3_errmsg(side->db[i]));
            return false;
        }
        if (side->number == 1 && run->settings->extension != NULL
            && !load_extension(run, side->db[i]))
            return false;
        if (!must_exec(run, side->db[i], schema->wal ? "PRAGMA journal_mode=WAL"
                                                     : "PRAGMA journal_mode=DELETE")
            || !must_exec(run, side->db[i], "PRAGMA synchronous=OFF"))
            return false;
    }
    if (side->number == 1 && schema->place == PLACE_TEMP_PATH
        && run->settings->extension != NULL) {
        if (side->made[0] && !must_exec(run, side->db[0], schema->create[1]))
            return false;
        if (side->made[1] && schema->other_is_armdb
            && !must_exec(run, side->db[0], schema->create_other[1]))
            return false;
    }
    if (side->number == 1 && plant_loses_row_at_reopen(run->settings->plant)
        && side->made[0])
        return must_exec(run, side->db[0], "DELETE FROM t ORDER BY 1 LIMIT 1");
    return true;
}

static bool close_side(struct run *run, struct side *side)
{
    int i, n, rc;

    for (i = 0; i < CURSORS_MAX; i++) {
        sqlite3_finalize(side->cursor[i]);
        side->cursor[i] = NULL;
    }
    for (i = 0; i < run->settings->connections; i++) {
        for (n = 0; n < SLOTS_MAX; n++) {
            sqlite3_finalize(side->slot[i][n]);
            side->slot[i][n] = NULL;
        }
        rc = sqlite3_close(side->db[i]);
        if (rc != SQLITE_OK) {
            run->verdict->differs = 1;
            snprintf(run->verdict->text, sizeof run->verdict->text,
                     "close of side %d: %s\n", side->number, sqlite3_errmsg(side->db[i]));
            return false;
        }
        side->db[i] = NULL;
    }
    return true;
}

/* ---- One step on one side -------------------------------------------------- */

static void bind_all(sqlite3_stmt *stmt, const struct step *step)
{
    int i;

    for (i = 0; i < step->bind_count; i++) {
        const struct value *v = &step->bind[i];

        switch (v->kind) {
        case VALUE_NULL:
            sqlite3_bind_null(stmt, i + 1);
            break;
        case VALUE_INT:
            sqlite3_bind_int64(stmt, i + 1, v->integer);
            break;
        case VALUE_REAL:
            sqlite3_bind_double(stmt, i + 1, v->real);
            break;
        case VALUE_TEXT:
            sqlite3_bind_text64(stmt, i + 1, v->data, v->len, SQLITE_STATIC, SQLITE_UTF8);
            break;
        case VALUE_BLOB:
            sqlite3_bind_blob64(stmt, i + 1, v->data, v->len, SQLITE_STATIC);
            break;
        }
    }
}

static void start_outcome(struct outcome *out)
{
    text_clear(&out->head);
    text_clear(&out->rows);
    text_clear(&out->prefix);
    out->row_count = 0;
    out->ran = true;
    out->message[0] = '\0';
}

static void end_outcome(struct outcome *out, sqlite3 *db, int rc, int64_t total_before)
{
    out->rc = rc & 0xff;
    if (out->rc == SQLITE_DONE || out->rc == SQLITE_ROW)
        out->rc = SQLITE_OK;
    out->extended = out->rc == SQLITE_OK ? 0 : sqlite3_extended_errcode(db);
    snprintf(out->message, sizeof out->message, "%s",
             out->rc == SQLITE_OK ? "" : sqlite3_errmsg(db));
    out->changes = sqlite3_changes(db);
    out->total = (int64_t)sqlite3_total_changes64(db) - total_before;
    out->last_rowid = sqlite3_last_insert_rowid(db);
    out->autocommit = sqlite3_get_autocommit(db);
}

static sqlite3_stmt *prepare(struct side *side, const struct step *step, int *rc)
{
    sqlite3 *db = side->db[step->connection];
    sqlite3_stmt **slot = step->slot >= 0 ? &side->slot[step->connection][step->slot]
                                          : NULL;
    sqlite3_stmt *stmt = NULL;
    int i;

    *rc = SQLITE_OK;
    if (slot != NULL && *slot != NULL)
        stmt = *slot;
    else
        *rc = sqlite3_prepare_v3(db, step->sql[side->number], -1,
                                 slot != NULL ? SQLITE_PREPARE_PERSISTENT : 0, &stmt,
                                 NULL);
    if (*rc != SQLITE_OK)
        return NULL;
    if (slot != NULL)
        *slot = stmt;
    for (i = 0; i < sqlite3_column_count(stmt); i++) {
        const char *type = sqlite3_column_decltype(stmt, i);

        text_add(&side->out.head, "%s:%s|", sqlite3_column_name(stmt, i),
                 type != NULL ? type : "");
    }
    return stmt;
}

/* SQLite 3.40 rewrites DELETE ... LIMIT before it has connected a virtual table, and
 * then takes it for one with a rowid: another statement must have come first. */
static void connect_table(sqlite3 *db, const char *sql)
{
    sqlite3_stmt *stmt = NULL;

    if (strncmp(sql, "DELETE", 6) != 0 || strstr(sql, " LIMIT ") == NULL)
        return;
    (void)sqlite3_prepare_v2(db, "SELECT 1 FROM t", -1, &stmt, NULL);
    sqlite3_finalize(stmt);
}

static void run_sql(struct side *side, const struct step *step)
{
    sqlite3 *db = side->db[step->connection];
    int64_t total = (int64_t)sqlite3_total_changes64(db);
    struct outcome *out = &side->out;
    sqlite3_stmt *stmt;
    int rc;

    start_outcome(out);
    connect_table(db, step->sql[side->number]);
    stmt = prepare(side, step, &rc);
    if (stmt == NULL) {
        out->ran = false;
        end_outcome(out, db, rc, total);
        return;
    }
    bind_all(stmt, step);
    while ((rc = sqlite3_step(stmt)) == SQLITE_ROW && out->row_count < ROWS_MAX)
        note_row(out, stmt, step);
    end_outcome(out, db, rc, total);
    sqlite3_reset(stmt);
    sqlite3_clear_bindings(stmt);
    if (step->slot < 0)
        sqlite3_finalize(stmt);
    if (step->ddl && out->rc == SQLITE_OK && step->sql[1] != NULL) {
        side->made[0] |= strstr(step->sql[1], "TABLE t") != NULL
                         || strstr(step->sql[1], "TABLE temp.t") != NULL;
        side->made[1] |= strstr(step->sql[1], "TABLE o") != NULL
                         || strstr(step->sql[1], "TABLE temp.o") != NULL;
    }
}

static void run_cursor(struct side *side, const struct step *step)
{
    sqlite3_stmt **cursor = &side->cursor[step->cursor];
    sqlite3 *db = side->db[step->connection];
    int64_t total = (int64_t)sqlite3_total_changes64(db);
    int i, rc = SQLITE_OK;

    start_outcome(&side->out);
    if (step->kind == STEP_CURSOR_OPEN) {
        sqlite3_finalize(*cursor);
        *cursor = prepare(side, step, &rc);
        if (*cursor != NULL)
            bind_all(*cursor, step);
    }
    if (step->kind == STEP_CURSOR_NEXT && *cursor != NULL) {
        rc = SQLITE_ROW;
        for (i = 0; i < step->rows && rc == SQLITE_ROW; i++)
            if ((rc = sqlite3_step(*cursor)) == SQLITE_ROW)
                note_row(&side->out, *cursor, step);
    }
    end_outcome(&side->out, db, rc, total);
    if (step->kind == STEP_CURSOR_CLOSE || (rc != SQLITE_ROW && rc != SQLITE_OK)) {
        sqlite3_finalize(*cursor);
        *cursor = NULL;
    }
}

/* ---- Comparing ------------------------------------------------------------- */

static int compare_lines(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Cuts into lines and, if asked, sorts them. Changes the text. */
static char **lines_of(struct text *text, int count, bool sorted)
{
    char **line = malloc(sizeof *line * (size_t)(count + 1));
    char *at = text->data;
    int i;

    if (line == NULL)
        abort();
    for (i = 0; i < count; i++) {
        line[i] = at;
        at = strchr(at, '\n');
        *at++ = '\0';
    }
    if (sorted && count > 1)
        qsort(line, (size_t)count, sizeof *line, compare_lines);
    return line;
}

static bool report(struct verdict *verdict, const char *what, const char *a,
                   const char *b)
{
    verdict->differs = 1;
    snprintf(verdict->text, sizeof verdict->text,
             "%s\n  native: %.2000s\n  armdb:  %.2000s\n", what, a, b);
    return false;
}

static bool report_number(struct verdict *verdict, const char *what, int64_t a, int64_t b)
{
    char left[32], right[32];

    if (a == b)
        return true;
    snprintf(left, sizeof left, "%lld", (long long)a);
    snprintf(right, sizeof right, "%lld", (long long)b);
    return report(verdict, what, left, right);
}

static bool compare_lists(struct verdict *verdict, const char *what, struct text *a,
                          struct text *b, int a_count, int b_count, bool sorted)
{
    char **left = lines_of(a, a_count, sorted);
    char **right = lines_of(b, b_count, sorted);
    bool same = true;
    char title[80];
    int i;

    for (i = 0; same && (i < a_count || i < b_count); i++) {
        const char *l = i < a_count ? left[i] : "(no row)";
        const char *r = i < b_count ? right[i] : "(no row)";

        if (i < a_count && i < b_count && strcmp(l, r) == 0)
            continue;
        snprintf(title, sizeof title, "%s%s: row %d of %d and %d", what,
                 sorted ? " (sorted)" : "", i + 1, a_count, b_count);
        same = report(verdict, title, l, r);
    }
    free(left);
    free(right);
    return same;
}

static bool is_write(const char *sql)
{
    return strncmp(sql, "INSERT", 6) == 0 || strncmp(sql, "UPDATE", 6) == 0
           || strncmp(sql, "DELETE", 6) == 0 || strncmp(sql, "REPLACE", 7) == 0;
}

static bool compare_codes(struct verdict *v, const struct step *step, struct outcome *a,
                          struct outcome *b)
{
    if (a->rc != b->rc || a->extended != b->extended
        || strcmp(a->message, b->message) != 0) {
        char left[500], right[500];

        snprintf(left, sizeof left, "%d (%d) %s", a->rc, a->extended, a->message);
        snprintf(right, sizeof right, "%d (%d) %s", b->rc, b->extended, b->message);
        return report(v, "result code or message", left, right);
    }
    if (!report_number(v, "autocommit", a->autocommit, b->autocommit)
        || !report_number(v, "last_insert_rowid()", a->last_rowid, b->last_rowid))
        return false;
    /* A statement that did not run leaves changes() as it was; on side 1 it may be 0,
     * since the first read of a transaction sets it (ext/txn.c; README says so). */
    if (!a->ran || (a->rc != SQLITE_OK && a->rc != SQLITE_CONSTRAINT) || step->ddl
        || step->skip_count || step->sql[0] == NULL || !is_write(step->sql[0]))
        return true;
    return report_number(v, "changes()", a->changes, b->changes)
           && report_number(v, "growth of total_changes()", a->total, b->total);
}

static bool compare_outcomes(struct run *run, const struct step *step)
{
    struct outcome *a = &run->side[0].out, *b = &run->side[1].out;
    struct verdict *v = run->verdict;

    if (!compare_codes(v, step, a, b))
        return false;
    v->errors += a->rc != SQLITE_OK;
    if (step->compare == COMPARE_CODE)
        return true;
    if (strcmp(a->head.data, b->head.data) != 0)
        return report(v, "column names and types", a->head.data, b->head.data);
    v->rows += a->row_count;
    if (a->row_count == ROWS_MAX && b->row_count == ROWS_MAX)
        return true; /* cut off, so perhaps different rows */
    if (step->compare == COMPARE_PREFIX
        && !compare_lists(v, "order", &a->prefix, &b->prefix, a->row_count, b->row_count,
                          false))
        return false;
    return compare_lists(v, "rows", &a->rows, &b->rows, a->row_count, b->row_count,
                         step->compare != COMPARE_ORDERED);
}

/* ---- The run --------------------------------------------------------------- */

static bool reopen(struct run *run)
{
    int i;

    for (i = 0; i < 2; i++)
        if (!close_side(run, &run->side[i]) || !open_side(run, &run->side[i]))
            return false;
    return true;
}

static bool cursor_step(struct run *run, const struct step *step)
{
    struct step now = *step;
    int i;

    if (step->kind == STEP_CURSOR_OPEN)
        run->tainted[step->cursor] = false;
    now.compare = run->tainted[step->cursor] ? COMPARE_CODE : COMPARE_ORDERED;
    for (i = 0; i < 2; i++)
        run_cursor(&run->side[i], &now);
    if (!run->tainted[step->cursor])
        return compare_outcomes(run, &now);
    return true;
}

/* After a write the cursors of the same connection show what they like; after a
 * rollback they are stepped once more, which must be harmless, and given up, since a
 * native one is. With two connections always: how long they live decides how long the
 * connection's moment does. */
static void taint_cursors(struct run *run, const struct step *step, int connection)
{
    bool reads = strncmp(step->sql[0], "SELECT", 6) == 0
                 || strncmp(step->sql[0], "WITH", 4) == 0;
    bool rolled_back = run->side[0].out.rc != SQLITE_OK
                       || strncmp(step->sql[0], "ROLLBACK", 8) == 0
                       || run->settings->connections > 1;
    int i, side;

    if (reads)
        return;
    for (i = 0; i < CURSORS_MAX; i++) {
        sqlite3_stmt *any = run->side[0].cursor[i];

        if (any == NULL
            || sqlite3_db_handle(any) != run->side[0].db[connection])
            continue;
        run->tainted[i] = true;
        for (side = 0; rolled_back && side < 2; side++) {
            sqlite3_stmt **cursor = &run->side[side].cursor[i];

            if (*cursor == NULL)
                continue;
            sqlite3_step(*cursor);
            sqlite3_finalize(*cursor);
            *cursor = NULL;
        }
    }
}

/* The limits that README names: keys over 1 MiB, and a change of one row by a number
 * that several texts among the keys are. */
static bool is_refused(const struct outcome *native, const struct outcome *armdb)
{
    return native->rc != armdb->rc
           && ((armdb->rc == SQLITE_TOOBIG && strstr(armdb->message, "1048576") != NULL)
               || (armdb->rc == SQLITE_MISMATCH
                   && strstr(armdb->message, "several texts") != NULL));
}

/* Where a native table answers SQLITE_BUSY_SNAPSHOT armdb may go on: nobody asks a
 * virtual table at BEGIN IMMEDIATE, so it says so at the first write; a native commit
 * of changes that were all undone makes other moments old, an armdb one not; and a
 * statement that cannot have rows (key IS NULL) does not fix the moment here. */
static bool is_milder(const struct step *step, const struct outcome *armdb)
{
    return armdb->extended != SQLITE_BUSY_SNAPSHOT
           || strncmp(step->sql[0], "BEGIN", 5) == 0;
}

/* A native table does not even write a row that is changed to what it was, so nobody's
 * moment gets old by it. To armdb it is a change. */
static bool is_changed_to_the_same(const struct run *run, int connection)
{
    return run->side[1].out.extended == SQLITE_BUSY_SNAPSHOT
           && sqlite3_total_changes64(run->side[0].db[1 - connection])
                  > run->seen[connection];
}

/* After each step: connections that hold no moment will begin a new one. */
static void note_moments(struct run *run)
{
    bool open[CONNECTIONS_MAX] = { false, false };
    int i;

    for (i = 0; i < CURSORS_MAX; i++)
        if (run->side[0].cursor[i] != NULL)
            open[sqlite3_db_handle(run->side[0].cursor[i]) == run->side[0].db[1]] = true;
    for (i = 0; i < 2; i++)
        if (!open[i] && sqlite3_get_autocommit(run->side[0].db[i]))
            run->seen[i] = sqlite3_total_changes64(run->side[0].db[1 - i]);
}

/* After SQLITE_BUSY_SNAPSHOT an application rolls back. A virtual table is asked after
 * SQLite has locked the file for writing, which lasts until then. */
static void give_transaction_up(struct run *run, int connection)
{
    static const struct step rollback = { .sql = { "ROLLBACK", "ROLLBACK" } };
    int i;

    for (i = 0; i < 2; i++)
        sqlite3_exec(run->side[i].db[connection], "ROLLBACK", NULL, NULL, NULL);
    taint_cursors(run, &rollback, connection);
}

static bool run_step(struct run *run, const struct step *step)
{
    bool stale;
    int i;

    if (step->kind == STEP_REOPEN)
        return reopen(run);
    if (step->kind != STEP_SQL)
        return cursor_step(run, step);
    /* A native transaction takes over the moment of what its connection still reads. */
    if (run->settings->connections > 1
        && (step->sql[0][0] == 'B' || strncmp(step->sql[0], "SAVE", 4) == 0))
        taint_cursors(run, step, step->connection);
    for (i = 0; i < 2; i++)
        run_sql(&run->side[i], step);
    if (is_refused(&run->side[0].out, &run->side[1].out)) {
        run->verdict->refused++;
        run->ended = true;
        return true;
    }
    stale = run->side[0].out.extended == SQLITE_BUSY_SNAPSHOT;
    if ((stale && is_milder(step, &run->side[1].out))
        || (!stale && is_changed_to_the_same(run, step->connection))) {
        run->ended = true;
        return true;
    }
    if (!compare_outcomes(run, step))
        return false;
    if (stale)
        give_transaction_up(run, step->connection);
    taint_cursors(run, step, step->connection);
    return true;
}

static void empty_folder(const char *folder)
{
    char command[700];

    snprintf(command, sizeof command, "%s", folder);
    if (mkdir(folder, 0700) != 0) {
        struct text shell = { 0 };

        text_add(&shell, "rm -rf '%s'/*", command);
        if (system(shell.data) != 0)
            fprintf(stderr, "diff: cannot empty %s\n", folder);
        text_free(&shell);
    }
}

void plan_run(const struct plan *plan, const struct settings *settings, const char *keep,
              struct verdict *verdict)
{
    struct run run = { .plan = plan, .settings = settings, .verdict = verdict };
    int i;

    memset(verdict, 0, sizeof *verdict);
    empty_folder(settings->folder);
    run.side[1].number = 1;
    if (!open_side(&run, &run.side[0]) || !open_side(&run, &run.side[1]))
        return;
    for (i = 0; i < plan->step_count && !run.ended; i++) {
        if (keep != NULL && !keep[i])
            continue;
        verdict->step = i;
        if (!run_step(&run, &plan->step[i]))
            return;
        if (settings->connections > 1)
            note_moments(&run);
        verdict->statements++;
    }
    for (i = 0; i < 2; i++) {
        if (!close_side(&run, &run.side[i]))
            return;
        text_free(&run.side[i].out.head);
        text_free(&run.side[i].out.rows);
        text_free(&run.side[i].out.prefix);
    }
}
