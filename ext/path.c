/* path.c - from the option path= to an absolute folder.
 *
 * The text comes from a schema, perhaps a stranger's, so it is looked at closely:
 * no control characters, nothing longer than the system takes, no symbolic link at the
 * end. That the folder holds the store the table was made in is checked later, by uuid.
 *
 * No system call is made here. SQLite's VFS makes a path absolute and follows links
 * (xFullPathname); a link at the end shows by comparing the path resolved as a whole
 * with its folder resolved and the last name put behind it. */
#include "ext/path.h"

#include <string.h>

SQLITE_EXTENSION_INIT3

enum { PATH_BYTES_MAX = 3000 };

static bool is_plain_text(const char *path)
{
    for (const unsigned char *p = (const unsigned char *)path; *p != '\0'; p++) {
        if (*p < 0x20 || *p == 0x7f)
            return false;
    }
    return true;
}

/* Length up to and with the last '/', 0 when there is none. */
static int folder_len(const char *path)
{
    const char *slash = strrchr(path, '/');

    return slash == NULL ? 0 : (int)(slash - path) + 1;
}

/* The path made absolute by the VFS; *rc tells why it is NULL. */
static char *full_path(sqlite3_vfs *vfs, const char *path, int *rc)
{
    int room = vfs->mxPathname + 1;
    char *full = sqlite3_malloc64((sqlite3_uint64)room);

    if (full == NULL) {
        *rc = SQLITE_NOMEM;
        return NULL;
    }
    full[0] = '\0';
    *rc = vfs->xFullPathname(vfs, path, room, full);
    if ((*rc & 0xff) != SQLITE_OK) {
        sqlite3_free(full);
        return NULL;
    }
    *rc = SQLITE_OK;
    return full;
}

/* Makes an absolute path of `path` and refuses a link at its end. */
static int check_and_finish(const char *path, char **out, char **err)
{
    sqlite3_vfs *vfs = sqlite3_vfs_find(NULL);
    int cut = folder_len(path);
    char *folder = NULL;
    char *folder_full = NULL;
    char *whole = NULL;
    char *expected = NULL;
    int rc = SQLITE_OK;

    if (vfs == NULL)
        return SQLITE_ERROR;
    /* Of the root itself the VFS makes no path. */
    folder = sqlite3_mprintf("%.*s%s", cut, path, cut == 1 ? "" : ".");
    if (folder == NULL)
        return SQLITE_NOMEM;
    folder_full = cut == 1 ? sqlite3_mprintf("/") : full_path(vfs, folder, &rc);
    if (folder_full == NULL && rc == SQLITE_OK)
        rc = SQLITE_NOMEM;
    if (folder_full == NULL)
        goto out;
    whole = full_path(vfs, path, &rc);
    if (whole == NULL)
        goto out;
    /* "/dir/." comes back as "/dir". */
    expected = sqlite3_mprintf("%s%s%s", folder_full,
                               strcmp(folder_full, "/") == 0 ? "" : "/", path + cut);
    if (expected == NULL) {
        rc = SQLITE_NOMEM;
        goto out;
    }
    if (strcmp(expected, whole) != 0) {
        *err =
            sqlite3_mprintf("path='%s' is a symbolic link; name the folder itself", path);
        rc = SQLITE_ERROR;
        goto out;
    }
    *out = whole;
    whole = NULL;
out:
    if (rc != SQLITE_OK && rc != SQLITE_NOMEM && *err == NULL)
        *err = sqlite3_mprintf("path='%s' cannot be made an absolute path", path);
    sqlite3_free(folder);
    sqlite3_free(folder_full);
    sqlite3_free(whole);
    sqlite3_free(expected);
    return rc;
}

static int refuse(char **err, const char *option, const char *why)
{
    *err = sqlite3_mprintf("path='%w' %s", option, why);
    return SQLITE_ERROR;
}

/* The path as written, without slashes at its end, "." and "..": those would make
 * "the name at the end" mean something else. */
static int check_option(const char *option, char **err)
{
    const char *name = option + folder_len(option);

    if (strlen(option) > PATH_BYTES_MAX)
        return refuse(err, "...", "is longer than 3000 bytes");
    if (!is_plain_text(option)) {
        *err = sqlite3_mprintf("path= holds a control character");
        return SQLITE_ERROR;
    }
    if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
        return refuse(err, option, "does not end in the name of a folder");
    return SQLITE_OK;
}

/* The file of the database that a relative path starts from; NULL when it has none. */
static const char *base_file(sqlite3 *db, const char *schema)
{
    const char *name = sqlite3_stricmp(schema, "temp") == 0 ? "main" : schema;
    const char *file = sqlite3_db_filename(db, name);
    const char *vfs = NULL;
    char *vfs_name = NULL;
    bool in_memory;

    if (file == NULL || file[0] == '\0')
        return NULL;
    if (sqlite3_file_control(db, name, SQLITE_FCNTL_VFSNAME, &vfs_name) == SQLITE_OK)
        vfs = vfs_name;
    in_memory = vfs != NULL && strcmp(vfs, "memdb") == 0;
    sqlite3_free(vfs_name);
    return in_memory ? NULL : file;
}

static int memory_path(const char *schema, char **out, bool *memory)
{
    *memory = true;
    *out = sqlite3_mprintf(":memory:%s", schema);
    if (*out == NULL)
        return SQLITE_NOMEM;
    for (char *p = *out; *p != '\0'; p++) {
        if (*p >= 'A' && *p <= 'Z')
            *p = (char)(*p + ('a' - 'A'));
    }
    return SQLITE_OK;
}

int path_resolve(sqlite3 *db, const char *schema, const char *option, char **out,
                 bool *memory, char **err)
{
    const char *file = base_file(db, schema);
    bool temp = sqlite3_stricmp(schema, "temp") == 0;
    char *path = NULL;
    size_t n;
    int rc = SQLITE_OK;

    *out = NULL;
    *memory = false;
    if (option != NULL && strcmp(option, ":memory:") == 0)
        return memory_path(schema, out, memory);
    if (option == NULL) {
        if (temp || file == NULL)
            return memory_path(schema, out, memory);
        path = sqlite3_mprintf("%s-armdb", file);
    } else {
        path = sqlite3_mprintf("%s", option);
    }
    if (path == NULL)
        return SQLITE_NOMEM;
    for (n = strlen(path); n > 1 && path[n - 1] == '/'; n--)
        path[n - 1] = '\0';
    rc = check_option(path, err);
    if (rc == SQLITE_OK && path[0] != '/' && file != NULL) {
        char *joined = sqlite3_mprintf("%.*s%s", folder_len(file), file, path);

        sqlite3_free(path);
        path = joined;
        if (path == NULL)
            rc = SQLITE_NOMEM;
    }
    if (rc == SQLITE_OK)
        rc = check_and_finish(path, out, err);
    sqlite3_free(path);
    return rc;
}
