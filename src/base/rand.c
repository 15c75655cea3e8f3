#include "base/rand.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

void mz_rand_system(void *out, size_t n)
{
    for (unsigned char *p = out; n;) {
        ssize_t got = getrandom(p, n, 0);
        if (got < 0 && errno == EINTR)
            continue;
        if (got <= 0)
            abort();
        p += got;
        n -= (size_t)got;
    }
}

static uint64_t splitmix(uint64_t *x)
{
    uint64_t z = (*x += 0x9e3779b97f4a7c15ull);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ull;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebull;
    return z ^ (z >> 31);
}

void mz_rand_init(struct mz_rand *r, uint64_t seed)
{
    if (seed == 0)
        mz_rand_system(&seed, sizeof(seed));
    for (int i = 0; i < 4; i++)
        r->s[i] = splitmix(&seed);
}

static inline uint64_t rotl(uint64_t v, int k)
{
    return (v << k) | (v >> (64 - k));
}

uint64_t mz_rand_u64(struct mz_rand *r)
{
    uint64_t *s = r->s, out = rotl(s[0] + s[3], 23) + s[0], t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return out;
}

uint64_t mz_rand_below(struct mz_rand *r, uint64_t n)
{
    return (uint64_t)(((unsigned __int128)mz_rand_u64(r) * n) >> 64);
}
