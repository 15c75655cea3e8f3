#ifndef MZ_BASE_ARENA_H
#define MZ_BASE_ARENA_H
#include "base/alloc.h"
#include "base/str.h"
#include <stdarg.h>

/*
 * Many small objects that go at once. Belongs to one thread, takes no lock. The arena lives in its own first block; blocks
 * of MZ_ARENA_BLOCK bytes come from a free list of the thread, so a stream's arena costs no malloc (not under ASan, where
 * each block is malloc'ed so that use after free is seen). Only arenas of MZ_MEM_STREAM use the free list; blocks of the
 * others grow with the arena, up to MZ_ARENA_BLOCK_MAX.
 */
#define MZ_ARENA_BLOCK     4096
#define MZ_ARENA_BLOCK_MAX (256u << 10)
struct mz_arena;

struct mz_arena *mz_arena_create(enum mz_mem mem);
void mz_arena_destroy(struct mz_arena *a); /* runs clean-ups (last added first), frees everything; NULL is fine */

static inline void *mz_arena_alloc(struct mz_arena *a, size_t n); /* not zeroed, 8-byte aligned, never NULL */
void *mz_arena_alloc0(struct mz_arena *a, size_t n); /* zeroed */
#define mz_arena_new0(a, T) ((T *)mz_arena_alloc0((a), sizeof(T)))
struct mz_str mz_arena_dup(struct mz_arena *a, struct mz_str s); /* the copy has a NUL behind it, not counted */
struct mz_str mz_arena_cat(struct mz_arena *a, size_t n, const struct mz_str *parts); /* joined, NUL behind it */
__attribute__((format(printf, 2, 3))) struct mz_str mz_arena_printf(struct mz_arena *a, const char *fmt, ...);
void mz_arena_cleanup(struct mz_arena *a, void (*fn)(void *arg), void *arg); /* fn runs in mz_arena_destroy() */
size_t mz_arena_size(const struct mz_arena *a); /* bytes of its blocks */
void mz_arena_thread_trim(void);                /* gives the thread's free blocks back to malloc */

/* A request takes some twenty pieces: the usual case is a sum and a compare, in place. */
struct mz_arena_room { /* the begin of every arena */
    char *at, *end;    /* free space of the newest standard block */
};
void *mz_arena_alloc_slow(struct mz_arena *a, size_t n); /* n is a multiple of 8 */
static inline void *mz_arena_alloc(struct mz_arena *a, size_t n)
{
    struct mz_arena_room *r = (struct mz_arena_room *)(void *)a;
    n = (n + 7) & ~(size_t)7;
    if (MZ_UNLIKELY((size_t)(r->end - r->at) < n))
        return mz_arena_alloc_slow(a, n);
    void *p = r->at;
    r->at += n;
    return p;
}
#endif
