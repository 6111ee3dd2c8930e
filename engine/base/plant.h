/* plant.h - classic mistakes that a test can switch on.
 *
 * A build with -DADB_PLANT (FLAVOR=plant) makes the mistake that the environment
 * variable ADB_PLANT names; test/sim/planted.sh shows that the simulations find each
 * one. In every other build the condition is the constant false and nothing of it is
 * left. Layer 0. */
#ifndef ADB_ENGINE_BASE_PLANT_H
#define ADB_ENGINE_BASE_PLANT_H

#include <stdbool.h>

#ifdef ADB_PLANT
#include <stdlib.h>
#include <string.h>

static inline bool adb_planted(const char *name)
{
    const char *wanted = getenv("ADB_PLANT");

    return wanted != NULL && strcmp(wanted, name) == 0;
}
#define ADB_PLANTED(name) adb_planted(name)
#else
#define ADB_PLANTED(name) false
#endif

#endif
