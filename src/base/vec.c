#include "base/vec.h"

void *mz_vec_grow(enum mz_mem mem, void *v, size_t *cap, size_t need, size_t elem)
{
    size_t n = *cap ? *cap * 2 : 4;
    if (n < need)
        n = need;
    v = mz_realloc(mem, v, mz_mul(n, elem));
    *cap = n;
    return v;
}
