/* kill_model.c - the model of the kill test: see kill_model.h. */
#include "test/crash/kill_model.h"

#include <stdio.h>
#include <string.h>

uint64_t kill_mix(uint64_t x)
{
    x += UINT64_C(0x9E3779B97F4A7C15);
    x = (x ^ (x >> 30)) * UINT64_C(0xBF58476D1CE4E5B9);
    x = (x ^ (x >> 27)) * UINT64_C(0x94D049BB133111EB);
    return x ^ (x >> 31);
}

static uint64_t tx_seed(uint64_t seed, int thread, int64_t number)
{
    return kill_mix(seed ^ kill_mix((uint64_t)number * 8 + (uint64_t)thread));
}

void kill_tx_make(struct kill_tx *tx, uint64_t seed, int thread, int64_t number)
{
    uint64_t bits = tx_seed(seed, thread, number);
    uint64_t kind = bits % 1000;
    int i;

    tx->number = number;
    tx->single = kind < 300;
    tx->aborted = kind >= 300 && kind < 350;
    tx->savepoint = kind >= 350 && kind < 400;
    tx->op_count = 1 + (int)((bits >> 20) % 8);
    if (kind >= 980)
        tx->op_count = 300;
    if (kind >= 998)
        tx->op_count = KILL_OPS_MAX;
    for (i = 0; i < tx->op_count; i++) {
        bits = kill_mix(bits);
        tx->op[i].key = (int)((bits >> 8) % KILL_KEYS);
        tx->op[i].put = tx->single || (bits >> 40) % 5 != 0;
    }
}

size_t kill_value(uint64_t seed, int thread, int64_t number, int key,
                  unsigned char value[KILL_VALUE_MAX])
{
    uint64_t bits = kill_mix(tx_seed(seed, thread, number) ^ (uint64_t)key);
    size_t len = (bits >> 8) % 16 == 0 ? (bits >> 16) % KILL_VALUE_MAX
                                       : (bits >> 16) % 120;
    size_t i;

    for (i = 0; i < len; i++) {
        if (i % 8 == 0)
            bits = kill_mix(bits);
        value[i] = (unsigned char)(bits >> (i % 8 * 8));
    }
    return len;
}

void kill_state_make(struct kill_state *state, uint64_t seed, int thread, int64_t count)
{
    static struct kill_tx tx;
    int64_t number;
    int i;

    memset(state, 0, sizeof *state);
    for (number = 1; number <= count; number++) {
        kill_tx_make(&tx, seed, thread, number);
        for (i = 0; i < tx.op_count; i++)
            state->key_tx[tx.op[i].key] = tx.op[i].put ? number : 0;
        if (!tx.single)
            state->slot_tx[number % KILL_SLOTS] = number;
    }
}

void kill_key_text(char key[32], int thread, int number)
{
    if (number < 0)
        snprintf(key, 32, "t%d/counter", thread);
    else
        snprintf(key, 32, "t%d/%04d", thread, number);
}

static sqlite3_stmt *prepare(sqlite3 *db, const char *sql, char *text, size_t room)
{
    sqlite3_stmt *stmt = NULL;

    if (sqlite3_prepare_v2(db, sql, -1, &stmt, NULL) != SQLITE_OK)
        snprintf(text, room, "%s: %s", sql, sqlite3_errmsg(db));
    return stmt;
}

bool kill_state_count(sqlite3 *db, int thread, int64_t *count, char *text, size_t room)
{
    sqlite3_stmt *stmt = prepare(db, "SELECT tx FROM acc WHERE k = ?", text, room);
    char key[32];
    int rc;

    *count = 0;
    if (stmt == NULL)
        return false;
    kill_key_text(key, thread, -1);
    sqlite3_bind_text(stmt, 1, key, -1, SQLITE_STATIC);
    rc = sqlite3_step(stmt);
    if (rc == SQLITE_ROW)
        *count = sqlite3_column_int64(stmt, 0);
    else if (rc != SQLITE_DONE)
        snprintf(text, room, "reading the counter: %s", sqlite3_errmsg(db));
    sqlite3_finalize(stmt);
    return rc == SQLITE_ROW || rc == SQLITE_DONE;
}

/* One row of a scan in key order against the next row that the model expects. */
static bool check_key_row(sqlite3_stmt *stmt, const struct kill_state *state,
                          uint64_t seed, int thread, int number, char *text, size_t room)
{
    static unsigned char value[KILL_VALUE_MAX];
    int64_t tx = state->key_tx[number];
    size_t len = kill_value(seed, thread, tx, number, value);
    const char *got;
    char key[32];

    kill_key_text(key, thread, number);
    if (stmt == NULL) {
        snprintf(text, room, "row %s of transaction %lld is missing", key, (long long)tx);
        return false;
    }
    got = (const char *)sqlite3_column_text(stmt, 0);
    if (got == NULL || strcmp(got, key) != 0 || sqlite3_column_int64(stmt, 1) != tx) {
        snprintf(text, room, "found row %s of transaction %lld instead of %s of %lld",
                 got != NULL ? got : "NULL", (long long)sqlite3_column_int64(stmt, 1),
                 key, (long long)tx);
        return false;
    }
    if ((size_t)sqlite3_column_bytes(stmt, 2) != len
        || (len > 0 && memcmp(sqlite3_column_blob(stmt, 2), value, len) != 0)) {
        snprintf(text, room, "row %s of transaction %lld has a wrong value", key,
                 (long long)tx);
        return false;
    }
    return true;
}

static bool check_keys(sqlite3_stmt *stmt, const struct kill_state *state, uint64_t seed,
                       int thread, int64_t count, char *text, size_t room)
{
    char low[32], high[32];
    int rc = SQLITE_ROW, i;

    snprintf(low, sizeof low, "t%d/", thread);
    snprintf(high, sizeof high, "t%d0", thread);
    sqlite3_reset(stmt);
    sqlite3_bind_text(stmt, 1, low, -1, SQLITE_STATIC);
    sqlite3_bind_text(stmt, 2, high, -1, SQLITE_STATIC);
    for (i = 0; i < KILL_KEYS; i++) {
        if (state->key_tx[i] == 0)
            continue;
        rc = sqlite3_step(stmt);
        if (!check_key_row(rc == SQLITE_ROW ? stmt : NULL, state, seed, thread, i, text,
                           room))
            return false;
    }
    rc = sqlite3_step(stmt);
    if (count > 0 && rc == SQLITE_ROW
        && strstr((const char *)sqlite3_column_text(stmt, 0), "counter") != NULL)
        rc = sqlite3_step(stmt);
    if (rc != SQLITE_DONE) {
        snprintf(text, room, "a row too many: %s of transaction %lld, or an error: %s",
                 (const char *)sqlite3_column_text(stmt, 0),
                 (long long)sqlite3_column_int64(stmt, 1),
                 sqlite3_errmsg(sqlite3_db_handle(stmt)));
        return false;
    }
    return true;
}

static bool check_slots(sqlite3_stmt *stmt, const struct kill_state *state, int thread,
                        char *text, size_t room)
{
    int i, rc;

    for (i = 0; i < KILL_SLOTS; i++) {
        int64_t got = 0;

        sqlite3_reset(stmt);
        sqlite3_bind_int(stmt, 1, thread * KILL_SLOTS + i);
        rc = sqlite3_step(stmt);
        if (rc == SQLITE_ROW)
            got = sqlite3_column_int64(stmt, 0);
        if ((rc != SQLITE_ROW && rc != SQLITE_DONE) || got != state->slot_tx[i]) {
            snprintf(text, room, "second table, slot %d: transaction %lld, not %lld", i,
                     (long long)got, (long long)state->slot_tx[i]);
            return false;
        }
    }
    return true;
}

static bool check_totals(sqlite3 *db, int64_t rows, char *text, size_t room)
{
    sqlite3_stmt *stmt = prepare(db, "SELECT count(*) FROM acc", text, room);
    int64_t got = -1;

    if (stmt == NULL)
        return false;
    if (sqlite3_step(stmt) == SQLITE_ROW)
        got = sqlite3_column_int64(stmt, 0);
    sqlite3_finalize(stmt);
    if (got != rows)
        snprintf(text, room, "count(*) is %lld instead of %lld", (long long)got,
                 (long long)rows);
    return got == rows;
}

bool kill_state_check(sqlite3 *db, uint64_t seed, int threads, const int64_t *count,
                      char *text, size_t room)
{
    static struct kill_state state;
    sqlite3_stmt *keys = prepare(
        db, "SELECT k, tx, v FROM acc WHERE k >= ? AND k < ? ORDER BY k", text, room);
    sqlite3_stmt *slots = prepare(db, "SELECT tx FROM log WHERE slot = ?", text, room);
    bool good = keys != NULL && slots != NULL;
    int64_t rows = 0;
    int i, n;

    for (i = 0; good && i < threads; i++) {
        kill_state_make(&state, seed, i, count[i]);
        good = check_keys(keys, &state, seed, i, count[i], text, room)
               && check_slots(slots, &state, i, text, room);
        for (n = 0; n < KILL_KEYS; n++)
            rows += state.key_tx[n] != 0;
        rows += count[i] > 0;
    }
    sqlite3_finalize(keys);
    sqlite3_finalize(slots);
    return good && check_totals(db, rows, text, room);
}
