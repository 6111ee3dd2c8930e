/* sim_content.c - bytes of files, lists of names, journals: the parts of a disk.
 *
 * A page belongs to every content that refers to it and is copied when one of them
 * writes to it; a disk is so copied by its tables of pointers. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "test/sim/sim_disk.h"

/* ---- Content ---- */

static void page_unref(struct sim_page *page)
{
    if (page != NULL && --page->refs == 0)
        free(page);
}

void sim_content_copy(struct sim_content *to, const struct sim_content *from)
{
    to->size = from->size;
    to->count = from->count;
    to->pages = from->count > 0 ? malloc(from->count * sizeof *to->pages) : NULL;
    for (size_t i = 0; i < from->count; i++) {
        to->pages[i] = from->pages[i];
        if (to->pages[i] != NULL)
            to->pages[i]->refs++;
    }
}

void sim_content_fini(struct sim_content *content)
{
    for (size_t i = 0; i < content->count; i++)
        page_unref(content->pages[i]);
    free(content->pages);
    memset(content, 0, sizeof *content);
}

/* The page, to be written. */
static struct sim_page *own_page(struct sim_content *content, size_t i)
{
    struct sim_page *page;

    if (i >= content->count) {
        size_t count = content->count * 2 > i ? content->count * 2 : i + 1;

        content->pages = realloc(content->pages, count * sizeof *content->pages);
        memset(content->pages + content->count, 0,
               (count - content->count) * sizeof *content->pages);
        content->count = count;
    }
    page = content->pages[i];
    if (page != NULL && page->refs == 1)
        return page;
    content->pages[i] = calloc(1, sizeof *page);
    content->pages[i]->refs = 1;
    if (page != NULL) {
        memcpy(content->pages[i]->bytes, page->bytes, SIM_PAGE);
        page->refs--;
    }
    return content->pages[i];
}

void sim_content_write(struct sim_content *content, uint64_t offset,
                       const unsigned char *bytes, size_t n)
{
    if (offset + n > content->size)
        content->size = offset + n;
    while (n > 0) {
        size_t inside = (size_t)(offset % SIM_PAGE);
        size_t piece = SIM_PAGE - inside < n ? SIM_PAGE - inside : n;

        memcpy(own_page(content, (size_t)(offset / SIM_PAGE))->bytes + inside, bytes,
               piece);
        bytes += piece;
        offset += piece;
        n -= piece;
    }
}

void sim_content_read(const struct sim_content *content, uint64_t offset,
                      unsigned char *bytes, size_t n)
{
    while (n > 0) {
        size_t inside = (size_t)(offset % SIM_PAGE);
        size_t piece = SIM_PAGE - inside < n ? SIM_PAGE - inside : n;
        size_t i = (size_t)(offset / SIM_PAGE);

        if (i < content->count && content->pages[i] != NULL)
            memcpy(bytes, content->pages[i]->bytes + inside, piece);
        else
            memset(bytes, 0, piece);
        bytes += piece;
        offset += piece;
        n -= piece;
    }
}

void sim_content_resize(struct sim_content *content, uint64_t size)
{
    if (size < content->size) {
        size_t keep = (size_t)((size + SIM_PAGE - 1) / SIM_PAGE);

        for (size_t i = keep; i < content->count; i++) {
            page_unref(content->pages[i]);
            content->pages[i] = NULL;
        }
        if (size % SIM_PAGE != 0 && keep <= content->count &&
            content->pages[keep - 1] != NULL)
            memset(own_page(content, keep - 1)->bytes + size % SIM_PAGE, 0,
                   SIM_PAGE - (size_t)(size % SIM_PAGE));
    }
    content->size = size;
}

/* ---- Names ---- */

struct sim_name *sim_names_find(const struct sim_names *names, uint32_t dir,
                                const char *name)
{
    for (size_t i = 0; i < names->count; i++)
        if (names->list[i].dir == dir && strcmp(names->list[i].name, name) == 0)
            return &names->list[i];
    return NULL;
}

void sim_names_set(struct sim_names *names, uint32_t dir, const char *name,
                   uint32_t inode)
{
    struct sim_name *entry = sim_names_find(names, dir, name);

    if (entry == NULL) {
        if (names->count == names->capacity) {
            names->capacity = names->capacity * 2 + 16;
            names->list = realloc(names->list, names->capacity * sizeof *names->list);
        }
        entry = &names->list[names->count++];
        entry->dir = dir;
        (void)snprintf(entry->name, sizeof entry->name, "%s", name);
    }
    entry->inode = inode;
}

void sim_names_remove(struct sim_names *names, uint32_t dir, const char *name)
{
    struct sim_name *entry = sim_names_find(names, dir, name);

    if (entry == NULL)
        return;
    memmove(entry, entry + 1,
            (size_t)(names->list + names->count - entry - 1) * sizeof *entry);
    names->count--;
}

/* ---- Journal ---- */

void sim_journal_fini(struct sim_journal *journal)
{
    for (size_t i = 0; i < journal->count; i++)
        free(journal->events[i].data);
    free(journal->events);
    memset(journal, 0, sizeof *journal);
}

void sim_journal_print(const struct sim_journal *journal)
{
    static const char *const kinds[] = {"mkdir",  "create",     "link",    "rename",
                                        "unlink", "sync dir..", "..ended", "write",
                                        "resize", "sync..",     "..ended", "..failed"};

    for (size_t i = 0; i < journal->count; i++) {
        const struct sim_event *e = &journal->events[i];

        printf("# event %zu: %s inode %u offset %llu len %zu %s %s\n", i, kinds[e->kind],
               e->inode, (unsigned long long)e->offset, e->len, e->name, e->name2);
    }
}

void sim_journal_copy(struct sim_journal *to, const struct sim_journal *from,
                      size_t count)
{
    to->count = count;
    to->capacity = count + 256;
    to->events = malloc(to->capacity * sizeof *to->events);
    if (count > 0)
        memcpy(to->events, from->events, count * sizeof *to->events);
    for (size_t i = 0; i < count; i++) {
        if (from->events[i].data == NULL)
            continue;
        to->events[i].data = malloc(from->events[i].len + 1);
        memcpy(to->events[i].data, from->events[i].data, from->events[i].len);
    }
}
