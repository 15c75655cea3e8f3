#include "http/h2/h2_priv.h"

#include <malloc.h>

/*
 * nghttp2's memory is counted as the connections' it serves. One piece is not each session's own: the 16 KiB in which it
 * makes frames. It is in use only within nghttp2_session_mem_send(), which h2_flush() calls until nothing is left, and never
 * for two sessions at once; so the sessions of a thread share one.
 */

static _Thread_local struct {
    char *mem;
    size_t size;
    unsigned users;
} frames;

static void *frames_take(size_t n)
{
    if (!frames.mem) {
        frames.mem = mz_alloc(MZ_MEM_CONN, n);
        frames.size = n;
    }
    if (frames.size < n)
        return NULL;
    frames.users++;
    return frames.mem;
}

static void frames_drop(void)
{
    if (--frames.users)
        return;
    mz_free(MZ_MEM_CONN, frames.mem);
    frames.mem = NULL;
}

/*
 * It also takes and gives a dozen small blocks for each request (stream, frames, entries of the HPACK tables): those wait here
 * for the next one, a bounded number of each size and thread.
 */
#define STEP    16 /* between sizes */
#define SIZES   32 /* up to SIZES * STEP bytes */
#define AT_MOST 64 /* of a size */

#if defined(__SANITIZE_ADDRESS__)
enum { CACHED = 0 }; /* what is freed shall be seen to be freed */
#else
enum { CACHED = 1 };
#endif

struct block {
    struct block *next;
};
static _Thread_local struct {
    struct block *free[SIZES];
    uint32_t n[SIZES];
    uint32_t sessions; /* of the thread; the last one's end gives everything back */
} blocks;

static void *mem_malloc(size_t n, void *arg)
{
    struct h2 *c = arg;
    void *own = c->creating ? h2_slot_alloc(c->slot, n) : NULL;
    if (own)
        return own;
    size_t at = n ? (n - 1) / STEP : 0;
    if (!CACHED || at >= SIZES)
        return mz_alloc(MZ_MEM_CONN, n);
    struct block *b = blocks.free[at];
    if (!b)
        return mz_alloc(MZ_MEM_CONN, (at + 1) * STEP);
    blocks.free[at] = b->next;
    blocks.n[at]--;
    return b;
}

static void mem_free(void *p, void *arg)
{
    struct h2 *c = arg;
    if (p && p == frames.mem) {
        frames_drop();
        return;
    }
    if (h2_slot_has(c->slot, p))
        return;
    size_t at = CACHED && p ? malloc_usable_size(p) / STEP : 0; /* it holds at * STEP bytes */
    if (at == 0 || at > SIZES || blocks.n[at - 1] >= AT_MOST) {
        mz_free(MZ_MEM_CONN, p);
        return;
    }
    struct block *b = p;
    b->next = blocks.free[at - 1];
    blocks.free[at - 1] = b;
    blocks.n[at - 1]++;
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
    struct h2 *c = arg;
    void *own = c->creating ? h2_slot_alloc(c->slot, mz_mul(n, size)) : NULL;
    return own ? own : mz_alloc0(MZ_MEM_CONN, mz_mul(n, size));
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
    struct h2 *c = arg;
    if (!p && c->creating && n > H2_FRAMES_MIN) {
        void *shared = frames_take(n);
        if (shared)
            return shared;
    }
    size_t has = p && p == frames.mem ? frames.size : h2_slot_has(c->slot, p);
    if (!has)
        return mz_realloc(MZ_MEM_CONN, p, n);
    void *own = mz_alloc(MZ_MEM_CONN, n); /* frames: larger than anybody else needs it */
    memcpy(own, p, n < has ? n : has);
    if (p == frames.mem)
        frames_drop();
    return own;
}

nghttp2_mem h2_mem_begin(struct h2 *c)
{
    blocks.sessions++;
    c->slot = h2_slot_take();
    return (nghttp2_mem){ c, mem_malloc, mem_free, mem_calloc, mem_realloc };
}

void h2_mem_end(struct h2 *c)
{
    h2_slot_drop(c->slot);
    c->slot = NULL;
    if (--blocks.sessions)
        return;
    for (size_t i = 0; i < SIZES; i++) {
        while (blocks.free[i]) {
            struct block *b = blocks.free[i];
            blocks.free[i] = b->next;
            mz_free(MZ_MEM_CONN, b);
        }
        blocks.n[i] = 0;
    }
}
