#include "http/h2/h2_priv.h"

/* nghttp2's memory is counted as the connections' it serves. */

static void *mem_malloc(size_t n, void *arg)
{
    (void)arg;
    return mz_alloc(MZ_MEM_CONN, n);
}

static void mem_free(void *p, void *arg)
{
    (void)arg;
    mz_free(MZ_MEM_CONN, p);
}

static void *mem_calloc(size_t n, size_t size, void *arg)
{
    (void)arg;
    return mz_alloc0(MZ_MEM_CONN, mz_mul(n, size));
}

static void *mem_realloc(void *p, size_t n, void *arg)
{
    (void)arg;
    return mz_realloc(MZ_MEM_CONN, p, n);
}

nghttp2_mem *h2_mem(void)
{
    static nghttp2_mem mem = { NULL, mem_malloc, mem_free, mem_calloc, mem_realloc };
    return &mem; /* copied by the session */
}
