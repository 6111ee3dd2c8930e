/* store.c - opening, sharing and closing stores.
 *
 * Inside one process a store is opened once: the registry knows open stores by the
 * device and inode of their folder and counts openers. Between processes the lock file
 * decides (flock, never a POSIX lock: closing another descriptor would drop it).
 *
 * A store is created in this order, so that a kill at any point leaves either nothing
 * that counts or a store: folder; lock; manifest; superblock (temporary file, sync,
 * rename, directory sync). A folder with a manifest but without a superblock is a
 * creation that did not finish and is begun again.
 *
 * fork(): the child's handler closes the descriptors it inherited and marks every
 * store foreign; each entry point then answers ARMDB_FORKED. The child's memory of the
 * store is left alone: other threads' locks are frozen in it. */
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "engine/base/mem.h"
#include "engine/store/internal.h"
#include "engine/store/load.h"
#include "engine/store/target.h"

static struct adb_mutex registry_lock; /* guards the list and the counts */
static struct armdb *registry;
static enum armdb_rc registry_rc = ARMDB_NOMEM;
static struct adb_once registry_once = ADB_ONCE_INIT;

/* ---- fork() ---- */

static ADB_NOT_SHARED void before_fork(void)
{
    adb_mutex_lock(&registry_lock);
}

static ADB_NOT_SHARED void after_fork_parent(void)
{
    adb_mutex_unlock(&registry_lock);
}

static ADB_NOT_SHARED void after_fork_child(void)
{
    for (struct armdb *store = registry; store != NULL; store = store->registry_next) {
        const struct adb_io_ops *ops = store->io->ops;

        /* Pairs with the acquire in session_check(). */
        atomic_store_explicit(&store->foreign, true, memory_order_release);
        if (store->lock_file != NULL)
            ops->forked_file(store->lock_file);
        ops->forked_dir(store->dir);
        ops->forked(store->io);
    }
    registry = NULL; /* the child may open the same folders anew */
    adb_mutex_unlock(&registry_lock);
}

static void init_registry(void)
{
    registry_rc = adb_mutex_init(&registry_lock, ADB_RANK_REGISTRY);
    if (registry_rc == ARMDB_OK)
        registry_rc = adb_at_fork(before_fork, after_fork_parent, after_fork_child);
}

/* ---- Options ---- */

void armdb_options_init(struct armdb_options *options)
{
    memset(options, 0, sizeof *options);
    options->shards = 4;
    options->segment_size = UINT64_C(64) << 20;
    options->cache_size = UINT64_C(256) << 20;
    options->compact_at = 30;
    options->hint_bytes_min = UINT64_C(1) << 20;
    options->compact_rate = UINT64_C(256) << 20;
    options->create = true;
}

static enum armdb_rc check_options(const struct armdb_options *o, struct armdb_error *err)
{
    if (o->shards < 1 || o->shards > ARMDB_SHARDS_MAX)
        return ADB_FAIL(ARMDB_INVALID, err, "shards=%u: allowed are 1 to %d", o->shards,
                        ARMDB_SHARDS_MAX);
    if (o->segment_size < (UINT64_C(1) << 20) || o->segment_size > (UINT64_C(1) << 39))
        return ADB_FAIL(ARMDB_INVALID, err,
                        "segment_size=%llu: allowed are 1 MiB to 512 GiB",
                        (unsigned long long)o->segment_size);
    if (o->cache_size < (UINT64_C(1) << 20))
        return ADB_FAIL(ARMDB_INVALID, err, "cache_size=%llu: at least 1 MiB",
                        (unsigned long long)o->cache_size);
    if (o->compact_at < 1 || o->compact_at > 99)
        return ADB_FAIL(ARMDB_INVALID, err, "compact_at=0.%02u: allowed are 0.01 to 0.99",
                        o->compact_at);
    return ARMDB_OK;
}

/* What is fixed at creation must be as given. */
static enum armdb_rc check_fixed(const struct superblock *sb,
                                 const struct armdb_options *o, const char *path,
                                 struct armdb_error *err)
{
    if ((o->given & ARMDB_GIVEN_SHARDS) != 0 && o->shards != sb->shards)
        return ADB_FAIL(
            ARMDB_INVALID, err,
            "shards=%u cannot be changed: the store %s was made with shards=%u",
            o->shards, path, sb->shards);
    if ((o->given & ARMDB_GIVEN_PREFIX_BITS) != 0 &&
        o->shard_prefix_bits != sb->shard_prefix_bits)
        return ADB_FAIL(ARMDB_INVALID, err,
                        "shard_prefix_bits=%u cannot be changed: the store %s was made "
                        "with shard_prefix_bits=%u",
                        o->shard_prefix_bits, path, sb->shard_prefix_bits);
    return ARMDB_OK;
}

/* ---- The folder ---- */

struct folder {
    bool superblock;
    bool manifest;
    bool segments;
    bool lock;
    bool unfinished; /* a backup into it did not end */
    bool foreign;    /* something that no store puts there */
    char foreign_name[64];
};

static bool look_at_name(void *arg, const char *name)
{
    struct folder *folder = arg;
    bool temporary;
    uint64_t number;

    if (strcmp(name, SUPERBLOCK_NAME) == 0) {
        folder->superblock = true;
    } else if (strcmp(name, MANIFEST_NAME) == 0) {
        folder->manifest = true;
    } else if (segment_name_parse(name, &number) ||
               hint_name_parse(name, &number, &temporary)) {
        folder->segments = true;
    } else if (strcmp(name, ADB_LOCK_NAME) == 0) {
        folder->lock = true;
    } else if (strcmp(name, BACKUP_MARK_NAME) == 0) {
        folder->unfinished = true;
    } else if (strcmp(name, BACKUP_MARK_NAME ".tmp") != 0 &&
               strcmp(name, MANIFEST_NAME ".tmp") != 0 &&
               strcmp(name, SUPERBLOCK_NAME ".tmp") != 0) {
        if (!folder->foreign)
            (void)snprintf(folder->foreign_name, sizeof folder->foreign_name, "%.60s",
                           name);
        folder->foreign = true;
    }
    return true;
}

/* Our lock file is empty, or holds the number of a process and a line's end. */
enum armdb_rc store_lock_is_ours(struct adb_dir *dir, bool *ours, struct armdb_error *err)
{
    struct armdb_error why = {.rc = ARMDB_OK};
    unsigned char *bytes = NULL;
    size_t n = 0;
    enum armdb_rc rc = adb_file_slurp(dir, ADB_LOCK_NAME, 32, &bytes, &n, &why);

    *ours = rc == ARMDB_OK || rc == ARMDB_NOT_FOUND;
    for (size_t i = 0; *ours && i < n; i++)
        *ours = (bytes[i] >= '0' && bytes[i] <= '9') || bytes[i] == '\n';
    adb_free(ADB_MEM_IO, bytes);
    if (*ours || rc == ARMDB_OK || rc == ARMDB_CORRUPT ||
        (rc == ARMDB_CANTOPEN && adb_is_no_file(&why)))
        return ARMDB_OK;
    if (err != NULL)
        *err = why;
    return rc;
}

static void note_foreign(struct folder *folder, const char *what)
{
    folder->foreign = true;
    (void)snprintf(folder->foreign_name, sizeof folder->foreign_name, "%.60s", what);
}

/* Files of our names that are not ours. An error while looking is no answer. */
static enum armdb_rc look_into_files(struct armdb *store, struct folder *folder,
                                     struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    bool ours;

    if (folder->manifest && !folder->foreign) {
        rc = manifest_is_there(store->dir, &ours, err);
        if (rc == ARMDB_OK && !ours)
            note_foreign(folder, "a file named " MANIFEST_NAME " that is not armdb's");
    }
    if (rc == ARMDB_OK && folder->lock && !folder->foreign) {
        rc = store_lock_is_ours(store->dir, &ours, err);
        if (rc == ARMDB_OK && !ours)
            note_foreign(folder, "a file named " ADB_LOCK_NAME " that is not armdb's");
    }
    return rc;
}

/* A store, an empty folder, the rest of a creation that did not finish, or something of
 * somebody else? A creation makes no segment before the superblock is there: a folder
 * with segments and without one is a store that was damaged, and is left alone. */
static enum armdb_rc look_at_folder(struct armdb *store, struct folder *folder,
                                    struct armdb_error *err)
{
    enum armdb_rc rc;

    memset(folder, 0, sizeof *folder);
    rc = store->io->ops->dir_list(store->dir, look_at_name, folder, err);
    if (rc == ARMDB_OK && folder->unfinished)
        return ADB_FAIL(ARMDB_NOTADB, err,
                        "%s holds a backup that did not end; run armdb_backup into it "
                        "again, or remove it",
                        store->path);
    if (rc != ARMDB_OK || folder->superblock)
        return rc;
    rc = look_into_files(store, folder, err);
    if (rc != ARMDB_OK)
        return rc;
    if (folder->foreign)
        return ADB_FAIL(ARMDB_NOTADB, err,
                        "%s is not an armdb store: it holds %s; name an empty or a new "
                        "folder",
                        store->path, folder->foreign_name);
    if (folder->segments)
        return ADB_FAIL(ARMDB_NOTADB, err,
                        "%s holds segments of an armdb store but no " SUPERBLOCK_NAME
                        "; put that file back from a backup",
                        store->path);
    if (!store->options.create)
        return ADB_FAIL(ARMDB_NOT_FOUND, err, "there is no armdb store in %s",
                        store->path);
    return ARMDB_OK;
}

static enum armdb_rc lock_folder(struct armdb *store, struct armdb_error *err)
{
    uint64_t deadline =
        adb_mono_ns() + (uint64_t)store->options.lock_wait_ms * UINT64_C(1000000);
    struct timespec pause = {0, 5000000};

    if (store->options.read_only || !store->io->ops->dir_is_writable(store->dir)) {
        store->read_only = true;
        return ARMDB_OK;
    }
    for (;;) {
        uint64_t holder = 0;
        enum armdb_rc rc = store->io->ops->lock_acquire(store->dir, ADB_LOCK_NAME,
                                                        &store->lock_file, &holder, err);

        if (rc == ARMDB_READONLY) {
            store->read_only = true;
            return ARMDB_OK;
        }
        if (rc != ARMDB_LOCKED)
            return rc;
        if (adb_mono_ns() >= deadline)
            return ADB_FAIL(ARMDB_LOCKED, err,
                            "the store %s is in use by another process (pid %llu)",
                            store->path, (unsigned long long)holder);
        (void)nanosleep(&pause, NULL);
    }
}

static enum armdb_rc create_files(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct manifest manifest;
    struct superblock *sb = &store->superblock;

    if (store->read_only)
        return ADB_FAIL(ARMDB_READONLY, err, "%s cannot be written: no store made there",
                        store->path);
    memset(sb, 0, sizeof *sb);
    sb->shards = store->options.shards;
    sb->shard_prefix_bits = store->options.shard_prefix_bits;
    sb->created_wall_ns = store->io->ops->wall_ns(store->io);
    rc = store->io->ops->random(store->io, sb->uuid, sizeof sb->uuid, err);
    if (rc != ARMDB_OK)
        return rc;
    manifest_init(&manifest);
    manifest.next_segment = 1;
    manifest.next_table = 1;
    rc = manifest_write(store->dir, sb->uuid, &manifest, err);
    manifest_fini(&manifest);
    if (rc != ARMDB_OK)
        return rc;
    return superblock_write(store->dir, sb, err);
}

/* ---- Making and unmaking the object ---- */

static enum armdb_rc init_locks(struct armdb *store)
{
    if (adb_mutex_init(&store->catalog_lock, ADB_RANK_CATALOG) != ARMDB_OK ||
        adb_mutex_init(&store->txn_lock, ADB_RANK_TXN) != ARMDB_OK ||
        adb_mutex_init(&store->settle_lock, ADB_RANK_SETTLE) != ARMDB_OK ||
        adb_mutex_init(&store->keeper_lock, ADB_RANK_LEAF) != ARMDB_OK ||
        adb_cond_init(&store->txn_ended) != ARMDB_OK ||
        adb_cond_init(&store->hook_turn) != ARMDB_OK ||
        adb_cond_init(&store->keeper_wake) != ARMDB_OK ||
        compactor_init(store) != ARMDB_OK || hinter_init(store) != ARMDB_OK)
        return ARMDB_NOMEM;
    return ARMDB_OK;
}

static enum armdb_rc make_store(const char *path, const struct armdb_options *options,
                                struct armdb **out)
{
    struct armdb *store = adb_alloc_zero(ADB_MEM_MISC, sizeof *store);

    *out = store;
    if (store == NULL)
        return ARMDB_NOMEM;
    store->refs = 1;
    store->opened_ns = adb_mono_ns();
    atomic_init(&store->catalog_changes, 1);
    store->options = *options;
    store->path = adb_alloc(ADB_MEM_MISC, strlen(path) + 1);
    if (store->path == NULL || init_locks(store) != ARMDB_OK) {
        adb_free(ADB_MEM_MISC, store->path);
        adb_free(ADB_MEM_MISC, store);
        *out = NULL;
        return ARMDB_NOMEM;
    }
    memcpy(store->path, path, strlen(path) + 1);
    return ARMDB_OK;
}

static void unmake_store(struct armdb *store)
{
    if (store == NULL)
        return;
    compactor_stop(store);
    hinter_stop(store);
    keeper_stop(store);
    if (store->epoch != NULL && store->log_open)
        store_settle(store, store->slot);
    compactor_fini(store);
    if (store->log_open) {
        hinter_finish(store);
        log_close(&store->log);
    }
    hinter_fini(store);
    if (store->slot != NULL)
        epoch_slot_destroy(store->slot);
    while (store->committed_first != NULL) {
        struct txn *txn = store->committed_first;

        store->committed_first = txn->next_committed;
        txn_destroy(txn);
    }
    if (store->epoch != NULL)
        epoch_drain(store->epoch);
    while (store->retired != NULL) {
        struct tab *tab = store->retired;

        store->retired = tab->next_retired;
        if (tab->unlisted) /* the others are destroyed with the list */
            tab_destroy(tab);
    }
    while (store->tabs != NULL) {
        struct tab *tab = store->tabs;

        store->tabs = tab->next;
        tab_destroy(tab);
    }
    if (store->epoch != NULL)
        epoch_destroy(store->epoch);
    if (store->cache != NULL)
        cache_destroy(store->cache);
    if (store->lock_file != NULL)
        store->io->ops->lock_release(store->lock_file);
    if (store->dir != NULL)
        store->io->ops->dir_close(store->dir);
    if (store->io != NULL)
        store->io->ops->destroy(store->io);
    adb_cond_fini(&store->keeper_wake);
    hooks_forget(store);
    adb_cond_fini(&store->hook_turn);
    adb_cond_fini(&store->txn_ended);
    adb_mutex_fini(&store->keeper_lock);
    adb_mutex_fini(&store->settle_lock);
    adb_mutex_fini(&store->txn_lock);
    adb_mutex_fini(&store->catalog_lock);
    adb_free(ADB_MEM_MISC, store->path);
    adb_free(ADB_MEM_MISC, store);
}

static enum armdb_rc choose_engine(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;

    if (store->memory)
        return adb_io_mem_create(&store->io, err);
    if (store->options.io_engine == ARMDB_IO_PLAIN)
        return adb_io_plain_create(&store->io, err);
    rc = adb_io_uring_create(&store->io, err);
    if (rc == ARMDB_OK || store->options.io_engine == ARMDB_IO_URING)
        return rc;
    return adb_io_plain_create(&store->io, err); /* auto: the same, with ordinary calls */
}

/* Reads or makes the store in the folder that is open. */
static enum armdb_rc open_files(struct armdb *store, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct folder folder;
    struct armdb_error why;
    bool must_not_write = false;

    rc = look_at_folder(store, &folder, err);
    if (rc != ARMDB_OK)
        return rc;
    if (folder.superblock) { /* of somebody else? Then nothing is put beside it */
        rc = superblock_read(store->dir, &store->superblock, &must_not_write, &why);
        if (rc != ARMDB_OK)
            return ADB_FAIL(rc, err, "%.200s: %.280s", store->path, why.text);
    }
    rc = lock_folder(store, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = look_at_folder(store, &folder, err); /* somebody may have made it meanwhile */
    if (rc != ARMDB_OK)
        return rc;
    if (!folder.superblock)
        rc = create_files(store, err);
    else
        rc = superblock_read(store->dir, &store->superblock, &must_not_write, &why);
    if (rc != ARMDB_OK && folder.superblock)
        return ADB_FAIL(rc, err, "%.200s: %.280s", store->path, why.text);
    if (rc != ARMDB_OK)
        return rc;
    store->read_only = store->read_only || must_not_write;
    /* A creation whose last sync failed leaves a superblock whose name is not durable:
     * no segment may become it before. */
    if (folder.superblock && !folder.segments && !store->read_only) {
        rc = store->io->ops->dir_sync(store->dir, err);
        if (rc != ARMDB_OK)
            return rc;
    }
    rc = check_fixed(&store->superblock, &store->options, store->path, err);
    if (rc != ARMDB_OK)
        return rc;
    store->options.shards = store->superblock.shards;
    store->options.shard_prefix_bits = store->superblock.shard_prefix_bits;
    rc = cache_create(store->options.cache_size, &store->cache);
    if (rc == ARMDB_OK)
        rc = epoch_create(&store->epoch);
    if (rc == ARMDB_OK)
        rc = epoch_slot_create(store->epoch, &store->slot);
    if (rc == ARMDB_OK)
        rc = tab_of_id(store, 0, &store->catalog);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory opening %s", store->path);
    return load_store(store, err);
}

static struct armdb *find_open(uint64_t device, uint64_t inode)
{
    struct armdb *store = registry;

    while (store != NULL && (store->device != device || store->inode != inode))
        store = store->registry_next;
    return store;
}

/* Counts an open store up, or opens it and enters it. Registry locked. */
static enum armdb_rc open_registered(struct armdb *store, struct armdb **out,
                                     struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb *open;

    rc = store->io->ops->dir_open(store->io, store->path, store->options.create,
                                  &store->dir, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = store->io->ops->dir_identity(store->dir, &store->device, &store->inode, err);
    if (rc != ARMDB_OK)
        return rc;
    open = store->memory ? NULL : find_open(store->device, store->inode);
    if (open != NULL) {
        /* What may differ from opening to opening is the first opener's to say. */
        rc = check_fixed(&open->superblock, &store->options, open->path, err);
        if (rc == ARMDB_OK) {
            open->refs++;
            *out = open;
        }
        return rc;
    }
    rc = open_files(store, err);
    if (rc != ARMDB_OK)
        return rc;
    store->registry_next = registry;
    registry = store;
    *out = store;
    return ARMDB_OK;
}

enum armdb_rc armdb_open(const char *path, const struct armdb_options *options,
                         struct armdb **out, struct armdb_error *err)
{
    enum armdb_rc rc;
    struct armdb *store;

    *out = NULL;
    adb_run_once(&registry_once, init_registry);
    if (registry_rc != ARMDB_OK)
        return ADB_FAIL(registry_rc, err, "out of memory opening %s", path);
    rc = check_options(options, err);
    if (rc != ARMDB_OK)
        return rc;
    rc = make_store(path, options, &store);
    if (rc != ARMDB_OK)
        return ADB_FAIL(rc, err, "out of memory opening %s", path);
    store->memory = strcmp(path, ":memory:") == 0;
    rc = choose_engine(store, err);
    if (rc == ARMDB_OK) {
        adb_mutex_lock(&registry_lock);
        rc = open_registered(store, out, err);
        adb_mutex_unlock(&registry_lock);
    }
    if (*out != store)
        unmake_store(store); /* failed, or it was open already */
    return rc;
}

void armdb_close(struct armdb *store)
{
    struct armdb **link;

    if (store == NULL || atomic_load_explicit(&store->foreign, memory_order_acquire))
        return;
    adb_mutex_lock(&registry_lock);
    if (--store->refs > 0) {
        adb_mutex_unlock(&registry_lock);
        return;
    }
    for (link = &registry; *link != store; link = &(*link)->registry_next)
        ;
    *link = store->registry_next;
    /* Closing is done under the lock: who opens the folder now must wait for it. */
    unmake_store(store);
    adb_mutex_unlock(&registry_lock);
}

/* ---- All stores ---- */

/* A store as it was, with a copy of its path. */
struct described {
    struct armdb_store_info info;
    char *path; /* owned */
};

/* Registry locked. Those before *count are to be freed in any case. */
static enum armdb_rc describe_all(struct described *all, size_t *count)
{
    for (struct armdb *store = registry; store != NULL; store = store->registry_next) {
        struct described *one = &all[*count];
        size_t len = strlen(store->path) + 1;

        stat_describe(store, &one->info);
        one->info.openers = store->refs;
        one->path = adb_alloc(ADB_MEM_MISC, len);
        if (one->path == NULL)
            return ARMDB_NOMEM;
        memcpy(one->path, store->path, len);
        one->info.path = one->path;
        (*count)++;
    }
    return ARMDB_OK;
}

enum armdb_rc armdb_store_each(void (*visit)(void *arg,
                                             const struct armdb_store_info *info),
                               void *arg, struct armdb_error *err)
{
    enum armdb_rc rc = ARMDB_OK;
    struct described *all;
    size_t stores = 1;
    size_t count = 0;

    adb_run_once(&registry_once, init_registry);
    if (registry_rc != ARMDB_OK)
        return ADB_FAIL(registry_rc, err, "out of memory");
    adb_mutex_lock(&registry_lock);
    for (const struct armdb *store = registry; store != NULL;
         store = store->registry_next)
        stores++;
    all = adb_alloc(ADB_MEM_MISC, stores * sizeof *all);
    rc = all == NULL ? ARMDB_NOMEM : describe_all(all, &count);
    adb_mutex_unlock(&registry_lock);
    if (rc != ARMDB_OK)
        (void)ADB_FAIL(rc, err, "out of memory listing the open stores");
    for (size_t i = 0; i < count; i++) {
        if (rc == ARMDB_OK)
            visit(arg, &all[i].info);
        adb_free(ADB_MEM_MISC, all[i].path);
    }
    adb_free(ADB_MEM_MISC, all);
    return rc;
}

/* ---- Small questions ---- */

bool armdb_is_read_only(const struct armdb *store)
{
    return store->read_only;
}

bool armdb_is_memory(const struct armdb *store)
{
    return store->memory;
}

void armdb_uuid(const struct armdb *store, unsigned char uuid[16])
{
    memcpy(uuid, store->superblock.uuid, 16);
}

void armdb_options_get(const struct armdb *store, struct armdb_options *options)
{
    *options = store->options;
    options->given = UINT32_MAX;
    options->read_only = store->read_only;
    /* Relaxed: wishes, nothing is ordered by them. */
    options->compact_off =
        atomic_load_explicit(&store->compactor.paused, memory_order_relaxed);
    options->compact_at =
        atomic_load_explicit(&store->compactor.at, memory_order_relaxed);
    options->compact_rate =
        atomic_load_explicit(&store->compactor.rate, memory_order_relaxed);
}

const char *armdb_io_engine_name(const struct armdb *store)
{
    return store->io->ops->name;
}

enum armdb_rc armdb_flush(struct armdb *store, struct armdb_error *err)
{
    if (atomic_load_explicit(&store->foreign, memory_order_acquire))
        return ADB_FAIL(ARMDB_FORKED, err, "the store %s was opened before fork()",
                        store->path);
    if (store->read_only)
        return ARMDB_OK;
    return log_sync_all(&store->log, err);
}

const char *armdb_release(void)
{
    return ARMDB_RELEASE;
}

uint32_t armdb_features(void)
{
    uint32_t bits = armdb_uring_available() ? ARMDB_FEATURE_URING : 0;

#ifdef ADB_DEBUG
    bits |= ARMDB_FEATURE_CHECKS;
#endif
    return bits;
}

bool armdb_uring_available(void)
{
    struct adb_io *io = NULL;
    struct armdb_error ignored;

    if (adb_io_uring_create(&io, &ignored) != ARMDB_OK)
        return false;
    io->ops->destroy(io);
    return true;
}
