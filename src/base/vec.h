#ifndef MZ_BASE_VEC_H
#define MZ_BASE_VEC_H
#include "base/alloc.h"

/* A growing array: MZ_VEC(struct foo) v = { 0 }; *mz_vec_push(&v, MZ_MEM_CONFIG) = x; mz_vec_free(&v, MZ_MEM_CONFIG). */
#define MZ_VEC(T)                                                                                                      \
    struct {                                                                                                           \
        T *v;                                                                                                          \
        size_t n, cap;                                                                                                 \
    }
void *mz_vec_grow(enum mz_mem mem, void *v, size_t *cap, size_t need, size_t elem);
/* Points to a new last element, which is not zeroed; older pointers into the array become invalid. */
#define mz_vec_push(vec, mem)                                                                                          \
    (((vec)->n == (vec)->cap                                                                                           \
          ? (void)((vec)->v = mz_vec_grow((mem), (vec)->v, &(vec)->cap, (vec)->n + 1, sizeof(*(vec)->v)))              \
          : (void)0),                                                                                                  \
     &(vec)->v[(vec)->n++])
#define mz_vec_free(vec, mem)                                                                                          \
    do {                                                                                                               \
        mz_free((mem), (vec)->v);                                                                                      \
        (vec)->v = NULL;                                                                                               \
        (vec)->n = (vec)->cap = 0;                                                                                     \
    } while (0)
/* As qsort(), of any number; what is in order already costs a look. */
void mz_sort(void *v, size_t n, size_t size, int (*order)(const void *a, const void *b));
/* Of an empty vector there is no address to add to. */
#define mz_vec_foreach(it, vec)                                                                    \
    for (__typeof__((vec)->v) it = (vec)->v; (vec)->n && it != (vec)->v + (vec)->n; it++)
#endif
