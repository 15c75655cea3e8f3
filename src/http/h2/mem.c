#include "http/h2/h2_priv.h"

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

static void *mem_malloc(size_t n, void *arg)
{
    (void)arg;
    return mz_alloc(MZ_MEM_CONN, n);
}

static void mem_free(void *p, void *arg)
{
    (void)arg;
    if (p && p == frames.mem)
        frames_drop();
    else
        mz_free(MZ_MEM_CONN, p);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
    (void)arg;
    return mz_alloc0(MZ_MEM_CONN, mz_mul(n, size));
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
    struct h2 *c = arg;
    if (!p && c->creating && n > H2_FRAMES_MIN) {
        void *shared = frames_take(n);
        if (shared)
            return shared;
    }
    if (!p || p != frames.mem)
        return mz_realloc(MZ_MEM_CONN, p, n);
    void *own = mz_alloc(MZ_MEM_CONN, n); /* larger than anybody else needs it */
    memcpy(own, p, n < frames.size ? n : frames.size);
    frames_drop();
    return own;
}

nghttp2_mem h2_mem(struct h2 *c)
{
    return (nghttp2_mem){ c, mem_malloc, mem_free, mem_calloc, mem_realloc };
}
