#ifndef MZ_BASE_RAND_H
#define MZ_BASE_RAND_H
#include <stddef.h>
#include <stdint.h>

/* Bytes from the kernel (getrandom); for keys and seeds. Aborts when the kernel has none. */
void mz_rand_system(void *out, size_t n);

/* A fast generator (xoshiro256++), one per loop; seed 0 takes a seed from the system. Not for secrets. */
struct mz_rand {
    uint64_t s[4];
};
void mz_rand_init(struct mz_rand *r, uint64_t seed);
uint64_t mz_rand_u64(struct mz_rand *r);
uint64_t mz_rand_below(struct mz_rand *r, uint64_t n); /* 0 .. n-1; n is not 0 */
#endif
