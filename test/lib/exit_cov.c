/* exit_cov.c - what a child process ran counts, too.
 *
 * Children of fork() end by _exit(), which does not write down what gcov has counted. In
 * FLAVOR=cov the linker sends these calls here (--wrap=_exit); in other flavours nobody
 * comes. A child that is killed is lost to the count. */
#define _GNU_SOURCE
#include <sys/syscall.h>
#include <unistd.h>

/* gcov's, where the program was compiled for it. */
extern void __gcov_dump(void) __attribute__((weak));
void __wrap__exit(int code) __attribute__((noreturn));

void __wrap__exit(int code)
{
    if (__gcov_dump != NULL)
        __gcov_dump();
    for (;;)
        (void)syscall(SYS_exit_group, code);
}
