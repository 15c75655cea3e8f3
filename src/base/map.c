#include "base/map.h"

void mz_map_init(struct mz_map *m, enum mz_mem mem)
{
    *m = (struct mz_map){ .mem = mem };
}

void mz_map_fini(struct mz_map *m)
{
    mz_free(m->mem, m->v);
    m->v = NULL;
    m->n = m->cap = 0;
}

/* The place of the key, or the free place where it would go. cap is not 0. */
static struct mz_map_entry *place(const struct mz_map *m, uint64_t hash, struct mz_str key)
{
    for (size_t i = hash & (m->cap - 1);; i = (i + 1) & (m->cap - 1)) {
        struct mz_map_entry *e = &m->v[i];
        if (!e->value || (e->hash == hash && mz_str_eq(e->key, key)))
            return e;
    }
}

static void resize(struct mz_map *m, size_t cap)
{
    struct mz_map old = *m;
    const size_t bytes = mz_mul(cap, sizeof(*m->v));
    m->v = memset(mz_alloc(m->mem, bytes), 0,
                  bytes); /* pages that are read first are faulted in twice */
    m->cap = cap;
    for (size_t i = 0; i < old.cap; i++)
        if (old.v[i].value)
            *place(m, old.v[i].hash, old.v[i].key) = old.v[i];
    mz_free(m->mem, old.v);
}

void mz_map_reserve(struct mz_map *m, size_t n)
{
    size_t cap = m->cap ? m->cap : 8;
    while (n > cap / 4 * 3)
        cap = mz_mul(cap, 2);
    if (cap > m->cap)
        resize(m, cap);
}

void *mz_map_get(const struct mz_map *m, struct mz_str key)
{
    return m->n ? place(m, mz_str_hash(key), key)->value : NULL;
}

uint64_t mz_map_prefetch(const struct mz_map *m, struct mz_str key)
{
    const uint64_t hash = mz_str_hash(key);
    if (m->cap)
        __builtin_prefetch(&m->v[hash & (m->cap - 1)], 1);
    return hash;
}

void *mz_map_put(struct mz_map *m, struct mz_str key, void *value)
{
    return mz_map_put_fetched(m, mz_str_hash(key), key, value);
}

void *mz_map_put_fetched(struct mz_map *m, uint64_t hash, struct mz_str key, void *value)
{
    if (m->n * 4 >= m->cap * 3)
        resize(m, m->cap ? m->cap * 2 : 8);
    struct mz_map_entry *e = place(m, hash, key);
    void *old = e->value;
    *e = (struct mz_map_entry){ hash, key, value };
    m->n += old == NULL;
    return old;
}

void *mz_map_del(struct mz_map *m, struct mz_str key)
{
    struct mz_map_entry *e = m->n ? place(m, mz_str_hash(key), key) : NULL;
    if (!e || !e->value)
        return NULL;
    void *old = e->value;
    size_t hole = (size_t)(e - m->v), mask = m->cap - 1;
    /* Close the gap: move back each later entry of the run that may stand at the hole. */
    for (size_t i = (hole + 1) & mask; m->v[i].value; i = (i + 1) & mask) {
        size_t home = m->v[i].hash & mask;
        if (((i - home) & mask) >= ((i - hole) & mask)) {
            m->v[hole] = m->v[i];
            hole = i;
        }
    }
    m->v[hole] = (struct mz_map_entry){ 0 };
    m->n--;
    return old;
}

struct mz_map_entry *mz_map_next(const struct mz_map *m, struct mz_map_entry *e)
{
    for (size_t i = e ? (size_t)(e - m->v) + 1 : 0; i < m->cap; i++)
        if (m->v[i].value)
            return &m->v[i];
    return NULL;
}
