#include "base/vec.h"

#include <stdlib.h>

void *mz_vec_grow(enum mz_mem mem, void *v, size_t *cap, size_t need, size_t elem)
{
    size_t n = *cap ? *cap * 2 : 4;
    if (n < need)
        n = need;
    v = mz_realloc(mem, v, mz_mul(n, elem));
    *cap = n;
    return v;
}

void mz_sort(void *v, size_t n, size_t size, int (*order)(const void *a, const void *b))
{
    const char *at = v;
    for (size_t i = 1; i < n; i++, at += size)
        if (order(at, at + size) > 0) {
            qsort(v, n, size, order);
            return;
        }
}
