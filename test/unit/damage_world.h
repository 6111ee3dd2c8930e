/* damage_world.h - a store whose rows are known, and every region of its files, to be
 * damaged. Shared by test_damage.c and test_salvage.c. */
#ifndef ADB_TEST_UNIT_DAMAGE_WORLD_H
#define ADB_TEST_UNIT_DAMAGE_WORLD_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "engine/armdb.h"
#include "engine/log/segfile.h"
#include "engine/store/internal.h"

enum { DAMAGE_KEYS = 160, DAMAGE_VALUE_MAX = 20000, DAMAGE_REGIONS_MAX = 1000 };

#define OK(call) assert_int_equal((call), ARMDB_OK)

extern char damage_folder[200];
extern struct armdb_error damage_err;
/* The round that wrote each key's row last; 0: there is none. */
extern uint32_t damage_written[DAMAGE_KEYS];

/* Set up and torn down for each test. */
int damage_make_folder(void **state);
int damage_remove_folder(void **state);
/* A shell command, which must succeed. */
void damage_run(const char *format, ...) ADB_PRINTF(1, 2);

struct damage_fixture {
    struct armdb *store;
    struct armdb_session *session;
    struct armdb_table *table;
};

/* Opens the store `name` below the folder, and the table "rows" in it. What was opened is
 * to be closed in any case. */
enum armdb_rc damage_open(struct damage_fixture *f, const char *name);
void damage_close(struct damage_fixture *f);
size_t damage_value_of(uint32_t key, uint32_t round, unsigned char *value);
/* Writes the keys from first to last, and notes it. */
void damage_put(struct damage_fixture *f, uint32_t first, uint32_t last, uint32_t round);
void damage_commit(struct damage_fixture *f);
/* Makes the store "a", with hints for all its segments or without any. */
void damage_make_store(bool hints);

enum what {
    WHAT_CLOSED, /* the store does not open */
    WHAT_VALUE,  /* of one row, or of none that is needed */
    WHAT_HINT,   /* of a hint: nothing is needed of it */
    WHAT_OTHER
};

struct damage_region {
    char file[SEGMENT_NAME_MAX];
    uint64_t from; /* the first place at which it may be found */
    uint64_t at;   /* the byte */
    enum what what;
    bool has_key; /* the row that cannot be read */
    bool in_row;  /* the head of a row's record: only a hint knows whose */
    uint32_t key;
    char name[48];
};

extern struct damage_region damage_regions[DAMAGE_REGIONS_MAX];
extern size_t damage_region_count;

/* Every region of the open store "a", at most `each` of a kind. */
void damage_list_regions(struct damage_fixture *f, int each);
struct damage_region *damage_add_region(const char *file, uint64_t from, uint64_t at,
                                        enum what what, const char *name);
/* Flips a bit in the region of store `store`. */
void damage_flip(const char *store, const struct damage_region *region);
/* Makes the store "b" of another one, in which `file` may be damaged. */
void damage_copy_store(const char *from, const char *file);

#endif
