#include "base/alloc.h"

#include <malloc.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Written by its own thread only; readers use relaxed loads. Never freed: a thread that begins takes on those of one that ended. */
struct counts {
    struct counts *next;
    bool idle; /* atomic */
    struct mz_mem_count c[MZ_MEM__COUNT];
};
static struct counts *all;
static _Thread_local struct counts *mine;

static struct counts *counts_here(void)
{
    struct counts *c = mine;
    if (MZ_LIKELY(c != NULL))
        return c;
    for (c = __atomic_load_n(&all, __ATOMIC_ACQUIRE); c; c = c->next)
        if (__atomic_load_n(&c->idle, __ATOMIC_RELAXED) &&
            __atomic_exchange_n(&c->idle, false, __ATOMIC_ACQUIRE))
            return mine = c;
    c = calloc(1, sizeof(*c));
    if (!c)
        abort();
    c->next = __atomic_load_n(&all, __ATOMIC_ACQUIRE);
    while (
        !__atomic_compare_exchange_n(&all, &c->next, c, false, __ATOMIC_RELEASE, __ATOMIC_ACQUIRE))
        ;
    mine = c;
    return c;
}

void mz_mem_thread_end(void)
{
    if (mine)
        __atomic_store_n(&mine->idle, true, __ATOMIC_RELEASE);
    mine = NULL;
}

static void count(enum mz_mem type, int64_t bytes, int64_t objects)
{
    struct mz_mem_count *c = &counts_here()->c[type];
    __atomic_store_n(&c->bytes, c->bytes + bytes, __ATOMIC_RELAXED);
    __atomic_store_n(&c->objects, c->objects + objects, __ATOMIC_RELAXED);
}

static void *checked(void *p)
{
    if (MZ_LIKELY(p != NULL))
        return p;
    fputs("out of memory\n", stderr);
    abort();
}

const char *mz_mem_name(enum mz_mem type)
{
    static const char *const names[MZ_MEM__COUNT] = { "misc", "config", "loop",     "buffer",
                                                      "conn", "stream", "upstream", "stats",
                                                      "log",  "admin",  "tls",      "xds" };
    return names[type];
}

void *mz_alloc(enum mz_mem type, size_t n)
{
    void *p = checked(malloc(n ? n : 1));
    count(type, (int64_t)malloc_usable_size(p), 1);
    return p;
}

void *mz_alloc0(enum mz_mem type, size_t n)
{
    void *p = checked(calloc(1, n ? n : 1));
    count(type, (int64_t)malloc_usable_size(p), 1);
    return p;
}

void *mz_realloc(enum mz_mem type, void *p, size_t n)
{
    int64_t old = p ? (int64_t)malloc_usable_size(p) : 0;
    int64_t object = p == NULL;
    p = checked(realloc(p, n ? n : 1));
    count(type, (int64_t)malloc_usable_size(p) - old, object);
    return p;
}

char *mz_strndup(enum mz_mem type, const char *s, size_t n)
{
    char *p = mz_alloc(type, n + 1);
    if (n)
        memcpy(p, s, n);
    p[n] = '\0';
    return p;
}

void mz_free(enum mz_mem type, void *p)
{
    if (!p)
        return;
    count(type, -(int64_t)malloc_usable_size(p), -1);
    free(p);
}

void mz_mem_note(enum mz_mem type, int64_t bytes, int64_t objects)
{
    count(type, bytes, objects);
}

size_t mz_mul(size_t a, size_t b)
{
    size_t n;
    if (__builtin_mul_overflow(a, b, &n))
        abort();
    return n;
}

void mz_mem_counts(struct mz_mem_count out_counts[MZ_MEM__COUNT])
{
    memset(out_counts, 0, sizeof(out_counts[0]) * MZ_MEM__COUNT);
    for (struct counts *c = __atomic_load_n(&all, __ATOMIC_ACQUIRE); c; c = c->next)
        for (int i = 0; i < MZ_MEM__COUNT; i++) {
            out_counts[i].bytes += __atomic_load_n(&c->c[i].bytes, __ATOMIC_RELAXED);
            out_counts[i].objects += __atomic_load_n(&c->c[i].objects, __ATOMIC_RELAXED);
        }
}

size_t mz_mem_resident_bytes(void)
{
    char text[128], *rest;
    FILE *f = fopen("/proc/self/statm", "re");
    bool ok = f && fgets(text, sizeof(text), f); /* all pages, then those in memory */
    if (f)
        (void)fclose(f); /* only read */
    if (!ok)
        return 0;
    (void)strtoull(text, &rest, 10);
    return (size_t)strtoull(rest, NULL, 10) * (size_t)sysconf(_SC_PAGESIZE);
}
