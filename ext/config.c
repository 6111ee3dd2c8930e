/* config.c - armdb_config(t, name [, value]).
 *
 * The names are those of options of CREATE VIRTUAL TABLE, and the value is read as it
 * is there, by the same code. What is set counts for the whole store, until it is
 * closed; the options in the schema stay as they are. The answer is the value in force.
 *
 * DIRECTONLY: a schema from a stranger must not turn anything off. */
#include "ext/config.h"

#include <string.h>

#include "ext/functions.h"

SQLITE_EXTENSION_INIT3

static void get_compact(sqlite3_context *context, const struct armdb_options *options)
{
    sqlite3_result_text(context, options->compact_off ? "off" : "on", -1, SQLITE_STATIC);
}

static void set_compact(struct armdb *store, const struct armdb_options *options)
{
    armdb_compact_pause(store, options->compact_off);
}

static void get_compact_at(sqlite3_context *context, const struct armdb_options *options)
{
    sqlite3_result_double(context, options->compact_at / 100.0);
}

static void set_compact_at(struct armdb *store, const struct armdb_options *options)
{
    armdb_compact_at(store, options->compact_at);
}

static void get_compact_rate(sqlite3_context *context,
                             const struct armdb_options *options)
{
    sqlite3_result_int64(context, (sqlite3_int64)options->compact_rate);
}

static void set_compact_rate(struct armdb *store, const struct armdb_options *options)
{
    armdb_compact_rate(store, options->compact_rate);
}

static const struct setting {
    const char *name;
    void (*get)(sqlite3_context *context, const struct armdb_options *options);
    void (*set)(struct armdb *store, const struct armdb_options *options);
} settings[] = {
    {"compact", get_compact, set_compact},
    {"compact_at", get_compact_at, set_compact_at},
    {"compact_rate", get_compact_rate, set_compact_rate},
};

static const struct setting *find_setting(sqlite3_context *context, sqlite3_value *value)
{
    const char *name = (const char *)sqlite3_value_text(value);
    char *text;

    for (size_t i = 0; name != NULL && i < sizeof settings / sizeof settings[0]; i++)
        if (sqlite3_stricmp(name, settings[i].name) == 0)
            return &settings[i];
    text = sqlite3_mprintf("armdb_config: '%s' cannot be set; known are: compact, "
                           "compact_at, compact_rate",
                           name == NULL ? "" : name);
    if (text == NULL)
        sqlite3_result_error_nomem(context);
    else
        sqlite3_result_error(context, text, -1);
    sqlite3_free(text);
    return NULL;
}

/* Reads name=value as an option; false when the function's error was set. */
static bool read_setting(sqlite3_context *context, const struct setting *setting,
                         sqlite3_value *value, struct table_options *options)
{
    const char *text = (const char *)sqlite3_value_text(value);
    char *arg = NULL;
    char *err = NULL;
    bool is_option = false;
    int rc = SQLITE_NOMEM;

    if (text != NULL || sqlite3_value_type(value) == SQLITE_NULL)
        arg = sqlite3_mprintf("%s=%Q", setting->name, text == NULL ? "NULL" : text);
    if (arg != NULL)
        rc = options_parse(options, arg, &is_option, &err);
    if (rc != SQLITE_OK) {
        if (err != NULL)
            sqlite3_result_error(context, err, -1);
        sqlite3_result_error_code(context, rc);
    }
    sqlite3_free(err);
    sqlite3_free(arg);
    return rc == SQLITE_OK;
}

static void config_function(sqlite3_context *context, int argc, sqlite3_value **argv)
{
    const struct setting *setting;
    struct table_options wanted;
    struct armdb_options in_force;
    struct vtab *vtab = NULL;
    sqlite3_stmt *stmt = NULL;

    options_init(&wanted);
    if (!functions_find_argument(context, argv, &vtab, &stmt))
        goto out;
    setting = find_setting(context, argv[1]);
    if (setting == NULL)
        goto out;
    if (argc == 3) {
        if (!read_setting(context, setting, argv[2], &wanted))
            goto out;
        setting->set(vtab->store->store, &wanted.store);
    }
    armdb_options_get(vtab->store->store, &in_force);
    setting->get(context, &in_force);
out:
    options_fini(&wanted);
    sqlite3_finalize(stmt);
}

int config_register(struct conn *conn)
{
    int rc = SQLITE_OK;

    for (int argc = 2; rc == SQLITE_OK && argc <= 3; argc++)
        rc = sqlite3_create_function_v2(
            conn->db, "armdb_config", argc, SQLITE_UTF8 | SQLITE_DIRECTONLY,
            conn_acquire(conn), config_function, NULL, NULL, conn_release);
    return rc;
}
