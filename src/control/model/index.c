#include "control/model/index.h"

#include "base/alloc.h"

enum { BUCKETS = 256 }; /* by the hash's first octet */

struct cell {
    uint64_t hash;
    struct mz_str key;
    void *value;
};
struct bucket { /* by hash */
    unsigned refs;
    size_t n, room;
    struct cell v[];
};
struct mz_index {
    unsigned refs;
    size_t n;
    struct bucket *buckets[BUCKETS]; /* NULL: empty */
};

struct mz_index *mz_index_create(void)
{
    struct mz_index *x = mz_new0(MZ_MEM_CONFIG, struct mz_index);
    x->refs = 1;
    return x;
}

/* Another edition that nobody has yet. */
static struct mz_index *fork_of(const struct mz_index *from)
{
    struct mz_index *x = mz_alloc(MZ_MEM_CONFIG, sizeof(*x));
    *x = *from;
    x->refs = 1;
    for (size_t i = 0; i < BUCKETS; i++)
        if (x->buckets[i])
            x->buckets[i]->refs++;
    return x;
}

struct mz_index *mz_index_ref(const struct mz_index *x)
{
    struct mz_index *own = (struct mz_index *)(uintptr_t)x; /* only the count changes */
    own->refs++;
    return own;
}

static void bucket_unref(struct bucket *b)
{
    if (b && --b->refs == 0)
        mz_free(MZ_MEM_CONFIG, b);
}

void mz_index_unref(const struct mz_index *x)
{
    struct mz_index *own = (struct mz_index *)(uintptr_t)x;
    if (!own || --own->refs)
        return;
    for (size_t i = 0; i < BUCKETS; i++)
        bucket_unref(own->buckets[i]);
    mz_free(MZ_MEM_CONFIG, own);
}

/* The first cell with this hash or a later one. */
static size_t lower(const struct bucket *b, uint64_t hash)
{
    size_t lo = 0, hi = b ? b->n : 0;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        if (b->v[mid].hash < hash)
            lo = mid + 1;
        else
            hi = mid;
    }
    return lo;
}

/* True: it is at *out; else it would go there. */
static bool find(const struct bucket *b, uint64_t hash, struct mz_str key, size_t *out)
{
    size_t i = lower(b, hash);
    while (b && i < b->n && b->v[i].hash == hash && !mz_str_eq(b->v[i].key, key))
        i++;
    *out = i;
    return b && i < b->n && b->v[i].hash == hash;
}

/* One that nobody else has, with room for one more. */
static struct bucket *own_bucket(struct mz_index *x, size_t at)
{
    struct bucket *b = x->buckets[at], *own;
    if (b && b->refs == 1 && b->n < b->room)
        return b;
    const size_t n = b ? b->n : 0, room = n < 4 ? 4 : n + n / 2;
    own = mz_alloc(MZ_MEM_CONFIG, sizeof(*own) + room * sizeof(*own->v));
    *own = (struct bucket){ .refs = 1, .n = n, .room = room };
    if (n)
        memcpy(own->v, b->v, n * sizeof(*b->v));
    bucket_unref(b);
    x->buckets[at] = own;
    return own;
}

void *mz_index_put(struct mz_index **edition, struct mz_str key, const void *value)
{
    struct mz_index *x = *edition;
    const uint64_t hash = mz_str_hash(key);
    const size_t bucket = hash >> 56;
    size_t at;
    const bool had = find(x->buckets[bucket], hash, key, &at);
    if (!had && !value)
        return NULL;
    if (x->refs > 1) {
        x->refs--;
        x = *edition = fork_of(x);
    }
    struct bucket *b = own_bucket(x, bucket);
    struct cell *c = &b->v[at];
    void *old = had ? c->value : NULL;
    if (!had) {
        memmove(c + 1, c, (b->n++ - at) * sizeof(*c));
        x->n++;
    } else if (!value) {
        memmove(c, c + 1, (--b->n - at) * sizeof(*c));
        x->n--;
    }
    if (value)
        *c = (struct cell){ hash, key, (void *)(uintptr_t)value };
    return old;
}

void *mz_index_get(const struct mz_index *x, struct mz_str key)
{
    if (!x->n)
        return NULL;
    const uint64_t hash = mz_str_hash(key);
    const struct bucket *b = x->buckets[hash >> 56];
    size_t at;
    return find(b, hash, key, &at) ? b->v[at].value : NULL;
}

size_t mz_index_count(const struct mz_index *x)
{
    return x->n;
}

bool mz_index_next(const struct mz_index *x, struct mz_index_at *at)
{
    for (; at->bucket < BUCKETS; at->bucket++, at->i = 0) {
        const struct bucket *b = x->buckets[at->bucket];
        if (!b || at->i == b->n)
            continue;
        at->key = b->v[at->i].key;
        at->value = b->v[at->i++].value;
        return true;
    }
    return false;
}
