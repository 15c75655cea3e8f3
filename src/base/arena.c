#include "base/arena.h"

#include <stdio.h>

#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define CACHE_MAX 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define CACHE_MAX 0
#endif
#endif
#ifndef CACHE_MAX
#define CACHE_MAX 64 /* blocks kept per thread: 256 KiB */
#endif

struct block {
    struct block *next;
    size_t size; /* of the whole block */
};
struct cleanup {
    struct cleanup *next;
    void (*fn)(void *arg);
    void *arg;
};
struct mz_arena {
    struct mz_arena_room room;
    struct block *blocks;
    struct cleanup *cleanups;
    size_t size;
    enum mz_mem mem;
};

static _Thread_local struct block *cache;
static _Thread_local unsigned cache_n;

static struct block *block_get(enum mz_mem mem, size_t size)
{
    struct block *b = cache;
    if (mem == MZ_MEM_STREAM && size == MZ_ARENA_BLOCK && b) {
        cache = b->next;
        cache_n--;
    } else {
        b = mz_alloc(mem, size);
        b->size = size;
    }
    return b;
}

static void block_put(enum mz_mem mem, struct block *b)
{
    if (mem == MZ_MEM_STREAM && b->size == MZ_ARENA_BLOCK && cache_n + 1 <= CACHE_MAX) {
        b->next = cache;
        cache = b;
        cache_n++;
    } else {
        mz_free(mem, b);
    }
}

void mz_arena_thread_trim(void)
{
    for (struct block *b = cache, *next; b; b = next) {
        next = b->next;
        mz_free(MZ_MEM_STREAM, b);
    }
    cache = NULL;
    cache_n = 0;
}

struct mz_arena *mz_arena_create(enum mz_mem mem)
{
    struct block *b = block_get(mem, MZ_ARENA_BLOCK);
    b->next = NULL;
    struct mz_arena *a = (struct mz_arena *)(void *)(b + 1);
    *a = (struct mz_arena){
        { (char *)(a + 1), (char *)b + MZ_ARENA_BLOCK }, b, NULL, MZ_ARENA_BLOCK, mem
    };
    return a;
}

/* Of the next standard block: those of a large arena grow with it, so that it has few and goes back to the system whole. */
static size_t block_size(const struct mz_arena *a)
{
    size_t share = a->size / 8 & ~(size_t)(MZ_ARENA_BLOCK - 1);
    if (a->mem == MZ_MEM_STREAM || share < MZ_ARENA_BLOCK)
        return MZ_ARENA_BLOCK;
    return share < MZ_ARENA_BLOCK_MAX ? share : MZ_ARENA_BLOCK_MAX;
}

void *mz_arena_alloc_slow(struct mz_arena *a, size_t n)
{
    size_t size = n + sizeof(struct block), standard = block_size(a);
    bool big = size > standard / 2; /* a block of its own; the current one stays current */
    struct block *b = block_get(a->mem, big ? size : standard);
    b->next = a->blocks;
    a->blocks = b;
    a->size += b->size;
    char *p = (char *)(b + 1);
    if (!big) {
        a->room.at = p + n;
        a->room.end = (char *)b + standard;
    }
    return p;
}

void *mz_arena_alloc0(struct mz_arena *a, size_t n)
{
    return memset(mz_arena_alloc(a, n), 0, n);
}

struct mz_str mz_arena_cat(struct mz_arena *a, size_t n, const struct mz_str *parts)
{
    size_t len = 0;
    for (size_t i = 0; i < n; i++)
        len += parts[i].n;
    char *p = mz_arena_alloc(a, len + 1), *at = p;
    for (size_t i = 0; i < n; i++) {
        if (parts[i].n)
            memcpy(at, parts[i].p, parts[i].n);
        at += parts[i].n;
    }
    *at = '\0';
    return (struct mz_str){ p, len };
}

struct mz_str mz_arena_dup(struct mz_arena *a, struct mz_str s)
{
    char *p = mz_arena_alloc(a, s.n + 1);
    if (s.n)
        memcpy(p, s.p, s.n);
    p[s.n] = '\0';
    return (struct mz_str){ p, s.n };
}

struct mz_str mz_arena_printf(struct mz_arena *a, const char *fmt, ...)
{
    va_list ap, again;
    const size_t room = (size_t)(a->room.end - a->room.at);
    va_start(ap, fmt);
    va_copy(again, ap);
    int n = vsnprintf(a->room.at, room, fmt, ap); /* most fit in what is free */
    va_end(ap);
    n = n < 0 ? 0 : n;
    char *p = mz_arena_alloc(a, (size_t)n + 1);
    if ((size_t)n >= room)
        vsnprintf(p, (size_t)n + 1, fmt, again);
    p[n] = 0;
    va_end(again);
    return (struct mz_str){ p, (size_t)n };
}

void mz_arena_cleanup(struct mz_arena *a, void (*fn)(void *arg), void *arg)
{
    struct cleanup *c = mz_arena_alloc(a, sizeof(*c));
    *c = (struct cleanup){ a->cleanups, fn, arg };
    a->cleanups = c;
}

size_t mz_arena_size(const struct mz_arena *a)
{
    return a->size;
}

void mz_arena_destroy(struct mz_arena *a)
{
    if (!a)
        return;
    for (struct cleanup *c = a->cleanups; c; c = c->next)
        c->fn(c->arg);
    enum mz_mem mem = a->mem;
    struct block *b = a->blocks; /* the arena itself lies in the last of them */
    for (struct block *next; b; b = next) {
        next = b->next;
        block_put(mem, b);
    }
}
