/* diff_shrink.c - runs a list of steps in a child process; makes a failing one small.
 *
 * The child shares its verdict with the parent through a mapping, so that a crash or a
 * hang tells at which step it happened. Shrinking leaves out ever smaller runs of
 * steps and keeps each smaller list that still ends in a difference (any one). What
 * remains is printed as an SQL script. */
#define _GNU_SOURCE
#include "test/prop/diff.h"

#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { CHILD_SECONDS = 120 };

void plan_run_child(const struct plan *plan, const struct settings *settings,
                    const char *keep, struct verdict *verdict)
{
    struct verdict *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE,
                                  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int status = 0;
    pid_t child;

    if (shared == MAP_FAILED) {
        perror("mmap");
        exit(2);
    }
    fflush(NULL);
    child = fork();
    if (child < 0) {
        perror("fork");
        exit(2);
    }
    if (child == 0) {
        alarm(CHILD_SECONDS);
        plan_run(plan, settings, keep, shared);
        if (shared->differs)
            _exit(0); /* stopped in the middle: nothing was freed */
        exit(0);      /* not _exit: the sanitizers look for leaks here */
    }
    waitpid(child, &status, 0);
    memcpy(verdict, shared, sizeof *verdict);
    munmap(shared, sizeof *shared);
    if (!verdict->differs && status != 0) {
        verdict->differs = 1;
        if (WIFSIGNALED(status) && WTERMSIG(status) == SIGALRM)
            snprintf(verdict->text, sizeof verdict->text, "hangs\n");
        else if (WIFSIGNALED(status))
            snprintf(verdict->text, sizeof verdict->text, "killed by signal %d\n",
                     WTERMSIG(status));
        else
            snprintf(verdict->text, sizeof verdict->text, "exit status %d\n",
                     WEXITSTATUS(status));
    }
}

/* ---- The script ------------------------------------------------------------ */

static void print_value(const struct value *value)
{
    struct text t = { 0 };
    size_t i;

    if (value_has_literal(value)) {
        value_add_literal(&t, value);
    } else if (value->len > 64) {
        text_add(&t, value->kind == VALUE_TEXT ? "/* %zu characters */ 'long'"
                                               : "zeroblob(%zu)",
                 value->len);
    } else {
        text_add(&t, "CAST(x'");
        for (i = 0; i < value->len; i++)
            text_add(&t, "%02x", (unsigned char)value->data[i]);
        text_add(&t, "' AS TEXT)");
    }
    printf("%s", t.data);
    text_free(&t);
}

/* Puts the bound values in; '?' inside quotes is no parameter. */
static void print_statement(const struct step *step, const char *sql)
{
    int next = 0;
    char quote = 0;

    for (; *sql != '\0'; sql++) {
        if (quote != 0) {
            if (*sql == quote)
                quote = 0;
        } else if (*sql == '\'' || *sql == '"' || *sql == '`' || *sql == '[') {
            quote = *sql;
            if (quote == '[')
                quote = ']';
        } else if (*sql == '?' && next < step->bind_count) {
            print_value(&step->bind[next++]);
            continue;
        }
        putchar(*sql);
    }
    printf(";%s\n", step->bind_count > 0 ? " -- values were bound" : "");
}

static void print_step(const struct settings *settings, const struct step *step)
{
    if (settings->connections > 1)
        printf("/* connection %d */ ", step->connection + 1);
    switch (step->kind) {
    case STEP_REOPEN:
        printf("-- close and open again\n");
        return;
    case STEP_CURSOR_OPEN:
        printf("-- cursor %d: ", step->cursor);
        break;
    case STEP_CURSOR_NEXT:
        printf("-- cursor %d: step %d times\n", step->cursor, step->rows);
        return;
    case STEP_CURSOR_CLOSE:
        printf("-- cursor %d: close\n", step->cursor);
        return;
    case STEP_SQL:
        if (step->slot >= 0)
            printf("/* prepared once */ ");
        break;
    }
    if (strcmp(step->sql[0], step->sql[1]) != 0)
        printf("-- native: %s;\n", step->sql[0]);
    print_statement(step, step->sql[1]);
}

/* ---- Leaving steps out ----------------------------------------------------- */

static double now_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

static bool still_fails(const struct plan *plan, const struct settings *settings,
                        char *keep, struct verdict *verdict)
{
    int i;

    plan_run_child(plan, settings, keep, verdict);
    if (!verdict->differs)
        return false;
    for (i = verdict->step + 1; i < plan->step_count; i++)
        keep[i] = 0;
    return true;
}

/* One try without any reading step: most differences are about what was written. */
static void leave_out_reads(const struct plan *plan, const struct settings *settings,
                            char *keep, char *trial, struct verdict *best)
{
    struct verdict verdict;
    int i;

    memcpy(trial, keep, (size_t)plan->step_count);
    for (i = 0; i < best->step; i++)
        if (plan->step[i].kind == STEP_SQL
            && (strncmp(plan->step[i].sql[0], "SELECT", 6) == 0
                || strncmp(plan->step[i].sql[0], "WITH", 4) == 0))
            trial[i] = 0;
    if (!still_fails(plan, settings, trial, &verdict))
        return;
    memcpy(keep, trial, (size_t)plan->step_count);
    *best = verdict;
}

static void shrink(const struct plan *plan, const struct settings *settings,
                   double deadline, char *keep, struct verdict *best)
{
    struct verdict verdict;
    char *trial = malloc((size_t)plan->step_count);
    int size, at, left = best->step + 1;

    if (trial == NULL)
        abort();
    leave_out_reads(plan, settings, keep, trial, best);
    for (size = left / 2; size >= 1; size = size > 1 && size / 2 < 1 ? 1 : size / 2) {
        bool any = false;

        for (at = 2; at < best->step && now_seconds() < deadline; at += size) {
            int i, taken = 0;

            memcpy(trial, keep, (size_t)plan->step_count);
            for (i = at; i < at + size && i < best->step; i++) {
                taken += trial[i];
                trial[i] = 0;
            }
            if (taken == 0 || !still_fails(plan, settings, trial, &verdict))
                continue;
            memcpy(keep, trial, (size_t)plan->step_count);
            *best = verdict;
            any = true;
        }
        if (now_seconds() >= deadline || (size == 1 && !any))
            break;
        if (size == 1)
            size = 2; /* once more one by one: leaving out may allow more */
    }
    free(trial);
}

void plan_shrink(const struct plan *plan, const struct settings *settings, int seconds,
                 const struct verdict *first)
{
    struct verdict best = *first;
    char *keep = calloc(1, (size_t)plan->step_count + 1);
    int i;

    if (keep == NULL)
        abort();
    memset(keep, 1, (size_t)best.step + 1);
    shrink(plan, settings, now_seconds() + seconds, keep, &best);
    printf("shortest script found (place %d, %s journal):\n", (int)plan->schema.place,
           plan->schema.wal ? "WAL" : "DELETE");
    for (i = 0; i < plan->step_count; i++)
        if (keep[i])
            print_step(settings, &plan->step[i]);
    printf("%s", best.text);
    free(keep);
}
