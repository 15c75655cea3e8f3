#include "base/str.h"

#include "base/alloc.h"
#include "base/rand.h"

bool mz_str_split(struct mz_str *rest, char sep, struct mz_str *out_part)
{
    if (rest->n == 0)
        return false;
    const char *end = memchr(rest->p, sep, rest->n);
    out_part->p = rest->p;
    out_part->n = end ? (size_t)(end - rest->p) : rest->n;
    size_t used = end ? out_part->n + 1 : out_part->n;
    rest->p += used;
    rest->n -= used;
    return true;
}

static inline uint64_t read64(const void *p)
{
    uint64_t v;
    memcpy(&v, p, 8);
    return v;
}

static inline uint64_t two32(const void *a, const void *b)
{
    uint32_t v[2];
    memcpy(&v[0], a, 4);
    memcpy(&v[1], b, 4);
    return v[0] | (uint64_t)v[1] << 32;
}

static inline uint64_t lower8(uint64_t v)
{
    uint64_t heptets = v & 0x7f7f7f7f7f7f7f7full;
    uint64_t above_z = heptets + 0x2525252525252525ull, from_a = heptets + 0x3f3f3f3f3f3f3f3full;
    uint64_t upper = (from_a & ~above_z & ~v) & 0x8080808080808080ull;
    return v | (upper >> 2);
}

/* Eight bytes at a time; the last eight may overlap those before. */
bool mz_str_ieq_n(const char *a, const char *b, size_t n)
{
    if (n >= 4 && n < 8) /* two halves that may overlap */
        return lower8(two32(a, a + n - 4)) == lower8(two32(b, b + n - 4));
    if (n < 4) {
        for (size_t i = 0; i < n; i++)
            if (mz_lower(a[i]) != mz_lower(b[i]))
                return false;
        return true;
    }
    for (size_t i = 0; i + 8 < n; i += 8)
        if (lower8(read64(a + i)) != lower8(read64(b + i)))
            return false;
    return lower8(read64(a + n - 8)) == lower8(read64(b + n - 8));
}

bool mz_str_istarts(struct mz_str s, struct mz_str prefix)
{
    return s.n >= prefix.n && mz_str_ieq_n(s.p, prefix.p, prefix.n);
}

int mz_str_cmp(struct mz_str a, struct mz_str b)
{
    size_t n = a.n < b.n ? a.n : b.n;
    int c = n ? memcmp(a.p, b.p, n) : 0;
    return c ? c : (a.n > b.n) - (a.n < b.n);
}

ptrdiff_t mz_str_find(struct mz_str s, struct mz_str needle)
{
    if (needle.n == 0)
        return 0;
    const char *at = s.n ? memmem(s.p, s.n, needle.p, needle.n) : NULL;
    return at ? at - s.p : -1;
}

ptrdiff_t mz_str_chr(struct mz_str s, char c)
{
    const char *at = s.n ? memchr(s.p, c, s.n) : NULL;
    return at ? at - s.p : -1;
}

ptrdiff_t mz_str_rchr(struct mz_str s, char c)
{
    const char *at = s.n ? memrchr(s.p, c, s.n) : NULL;
    return at ? at - s.p : -1;
}

static bool is_ows(char c)
{
    return c == ' ' || c == '\t';
}

struct mz_str mz_str_trim(struct mz_str s)
{
    while (s.n && is_ows(s.p[0])) {
        s.p++;
        s.n--;
    }
    while (s.n && is_ows(s.p[s.n - 1]))
        s.n--;
    return s;
}

bool mz_str_u64(struct mz_str s, uint64_t *out_value)
{
    uint64_t v = 0;
    if (s.n == 0)
        return false;
    for (size_t i = 0; i < s.n; i++) {
        unsigned d = (unsigned)(unsigned char)s.p[i] - '0';
        if (d > 9 || __builtin_mul_overflow(v, 10u, &v) || __builtin_add_overflow(v, d, &v))
            return false;
    }
    *out_value = v;
    return true;
}

bool mz_str_i64(struct mz_str s, int64_t *out_value)
{
    uint64_t v;
    bool neg = s.n && s.p[0] == '-';
    if (!mz_str_u64(neg ? mz_str_skip(s, 1) : s, &v) || v > (uint64_t)INT64_MAX + neg)
        return false;
    *out_value = neg ? (int64_t)(0 - v) : (int64_t)v;
    return true;
}

static inline uint64_t read32(const unsigned char *p)
{
    uint32_t v;
    memcpy(&v, p, 4);
    return v;
}

/* Folded 128-bit multiply, as the wyhash family does; the key is secret and per process. */
static inline uint64_t mum(uint64_t a, uint64_t b)
{
    unsigned __int128 m = (unsigned __int128)a * b;
    return (uint64_t)m ^ (uint64_t)(m >> 64);
}

static const uint64_t *hash_key(void)
{
    static uint64_t key[2];
    static int ready;
    if (MZ_UNLIKELY(!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))) {
        static int once;
        if (!__atomic_exchange_n(&once, 1, __ATOMIC_ACQ_REL)) {
            mz_rand_system(key, sizeof(key));
            key[0] |= 1;
            key[1] |= 1;
            __atomic_store_n(&ready, 1, __ATOMIC_RELEASE);
        }
        while (!__atomic_load_n(&ready, __ATOMIC_ACQUIRE))
            ;
    }
    return key;
}

/* The last @n bytes at @p, 1 to 7, of @all: read as words that overlap what was read before, or one another. */
static inline uint64_t tail8(const unsigned char *p, size_t n, size_t all)
{
    if (all >= 8)
        return read64(p + n - 8);
    if (n >= 4)
        return two32(p, p + n - 4);
    return p[0] | (uint64_t)p[n / 2] << 8 | (uint64_t)p[n - 1] << 16;
}

static uint64_t hash(struct mz_str s, bool fold)
{
    const uint64_t *key = hash_key();
    const unsigned char *p = (const unsigned char *)s.p;
    uint64_t h = key[0] ^ s.n;
    size_t n = s.n;
    for (; n >= 8; n -= 8, p += 8) {
        uint64_t v = read64(p);
        h = mum(h ^ (fold ? lower8(v) : v), key[1]);
    }
    uint64_t tail = n ? tail8(p, n, s.n) : 0;
    h = mum(h ^ (fold ? lower8(tail) : tail) ^ 0x9e3779b97f4a7c15ull, key[1]);
    return mum(h, key[0] ^ 0xa0761d6478bd642full);
}

uint64_t mz_str_hash(struct mz_str s)
{
    return hash(s, false);
}

uint64_t mz_str_ihash(struct mz_str s)
{
    return hash(s, true);
}

enum { ROUND_LANES = 4 };
static const uint64_t P1 = 0x9e3779b185ebca87ull, P2 = 0xc2b2ae3d27d4eb4full,
                      P3 = 0x165667b19e3779f9ull, P4 = 0x85ebca77c2b2ae63ull,
                      P5 = 0x27d4eb2f165667c5ull;

static inline uint64_t rotl(uint64_t v, int r)
{
    return (v << r) | (v >> (64 - r));
}

static inline uint64_t xxh_round(uint64_t acc, uint64_t in)
{
    return rotl(acc + in * P2, 31) * P1;
}

uint64_t mz_xxh64(const void *data, size_t n, uint64_t seed)
{
    const unsigned char *p =
        data ? data : (const unsigned char *)""; /* an empty text may have none */
    const unsigned char *end = p + n;
    uint64_t h;
    if (n >= 32) {
        uint64_t v[ROUND_LANES] = { seed + P1 + P2, seed + P2, seed, seed - P1 };
        for (; end - p >= 32; p += 32)
            for (size_t i = 0; i < ROUND_LANES; i++)
                v[i] = xxh_round(v[i], read64(p + 8 * i));
        h = rotl(v[0], 1) + rotl(v[1], 7) + rotl(v[2], 12) + rotl(v[3], 18);
        for (int i = 0; i < ROUND_LANES; i++)
            h = (h ^ xxh_round(0, v[i])) * P1 + P4;
    } else {
        h = seed + P5;
    }
    h += n;
    for (; end - p >= 8; p += 8)
        h = rotl(h ^ xxh_round(0, read64(p)), 27) * P1 + P4;
    if (end - p >= 4) {
        h = rotl(h ^ (read32(p) * P1), 23) * P2 + P3;
        p += 4;
    }
    for (; p < end; p++)
        h = rotl(h ^ (*p * P5), 11) * P1;
    h = (h ^ (h >> 33)) * P2;
    h = (h ^ (h >> 29)) * P3;
    return h ^ (h >> 32);
}

unsigned mz_str_distance(struct mz_str a, struct mz_str b, unsigned cap)
{
    enum { MAX = 64 };
    while (a.n && b.n && a.p[a.n - 1] == b.p[b.n - 1])
        a.n--, b.n--;
    while (a.n && b.n && *a.p == *b.p) {
        a = mz_str_skip(a, 1);
        b = mz_str_skip(b, 1);
    }
    if (a.n > MAX || b.n > MAX)
        return cap + 1;
    unsigned row[MAX + 1];
    for (unsigned j = 0; j <= b.n; j++)
        row[j] = j;
    for (unsigned i = 1; i <= a.n; i++) {
        unsigned diag = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b.n; j++) {
            unsigned cost = diag + (a.p[i - 1] != b.p[j - 1]);
            diag = row[j];
            unsigned gap = (row[j] < row[j - 1] ? row[j] : row[j - 1]) + 1;
            row[j] = cost < gap ? cost : gap;
        }
    }
    return row[b.n] > cap ? cap + 1 : row[b.n];
}

void mz_u64_hex(uint64_t v, char out_text[16])
{
    for (unsigned i = 16; i-- > 0; v >>= 4)
        out_text[i] = "0123456789abcdef"[v & 15];
}

size_t mz_u64_text(uint64_t v, char out_text[20])
{
    static const char pairs[] =
        "00010203040506070809101112131415161718192021222324252627282930313233343536373839"
        "40414243444546474849505152535455565758596061626364656667686970717273747576777879"
        "8081828384858687888990919293949596979899";
    static const uint64_t tens[20] = { 0,
                                       UINT64_C(10),
                                       UINT64_C(100),
                                       UINT64_C(1000),
                                       UINT64_C(10000),
                                       UINT64_C(100000),
                                       UINT64_C(1000000),
                                       UINT64_C(10000000),
                                       UINT64_C(100000000),
                                       UINT64_C(1000000000),
                                       UINT64_C(10000000000),
                                       UINT64_C(100000000000),
                                       UINT64_C(1000000000000),
                                       UINT64_C(10000000000000),
                                       UINT64_C(100000000000000),
                                       UINT64_C(1000000000000000),
                                       UINT64_C(10000000000000000),
                                       UINT64_C(100000000000000000),
                                       UINT64_C(1000000000000000000),
                                       UINT64_C(10000000000000000000) };
    /* The digits are counted first, from the bits (1233 / 4096 is about log10(2)), and written where they stay. */
    unsigned bits = 64 - (unsigned)__builtin_clzll(v | 1), less = bits * 1233 >> 12,
             n = less + (v >= tens[less]);
    char *at = out_text + n;
    for (; v >= 100; v /= 100) {
        const char *two = &pairs[v % 100 * 2];
        *--at = two[1]; /* a memcpy() of two bytes would be a call: the room is not known here */
        *--at = two[0];
    }
    if (v >= 10) {
        out_text[0] = pairs[v * 2];
        out_text[1] = pairs[v * 2 + 1];
    } else {
        out_text[0] = (char)('0' + v);
    }
    return n;
}
