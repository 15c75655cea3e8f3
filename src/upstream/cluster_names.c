#include "upstream/cluster_names.h"

#include "upstream/upstream_priv.h"

#define PARTS 256

struct part {
    unsigned refs;     /* atomic */
    struct mz_map map; /* name to entry, one reference each */
};
struct cluster_names {
    unsigned refs; /* atomic */
    size_t n;
    struct part *parts[PARTS]; /* one reference each; NULL: empty */
};

struct cluster_names *cluster_names_create(void)
{
    struct cluster_names *n = mz_new0(MZ_MEM_UPSTREAM, struct cluster_names);
    n->refs = 1;
    return n;
}

struct cluster_names *cluster_names_ref(struct cluster_names *n)
{
    __atomic_fetch_add(&n->refs, 1, __ATOMIC_RELAXED);
    return n;
}

static void part_unref(struct part *p)
{
    if (!p || __atomic_fetch_sub(&p->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_map_foreach (it, &p->map)
        cluster_entry_unref(it->value);
    mz_map_fini(&p->map);
    mz_free(MZ_MEM_UPSTREAM, p);
}

void cluster_names_unref(struct cluster_names *n)
{
    if (!n || __atomic_fetch_sub(&n->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (unsigned i = 0; i < PARTS; i++)
        part_unref(n->parts[i]);
    mz_free(MZ_MEM_UPSTREAM, n);
}

static unsigned part_of(struct mz_str name)
{
    return (unsigned)(mz_xxh64(name.p, name.n, 0) % PARTS);
}

struct cluster_entry *cluster_names_get(const struct cluster_names *n, struct mz_str name)
{
    const struct part *p = n->parts[part_of(name)];
    return p ? mz_map_get(&p->map, name) : NULL;
}

size_t cluster_names_count(const struct cluster_names *n)
{
    return n->n;
}

/* ---- changes: of what nobody else has ---- */

static struct cluster_names *own(struct cluster_names **io)
{
    struct cluster_names *old = *io;
    if (__atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1)
        return old;
    struct cluster_names *n = cluster_names_create();
    n->n = old->n;
    for (unsigned i = 0; i < PARTS; i++) {
        n->parts[i] = old->parts[i];
        if (n->parts[i])
            __atomic_fetch_add(&n->parts[i]->refs, 1, __ATOMIC_RELAXED);
    }
    cluster_names_unref(old);
    *io = n;
    return n;
}

static struct part *own_part(struct cluster_names *n, unsigned i)
{
    struct part *old = n->parts[i];
    if (old && __atomic_load_n(&old->refs, __ATOMIC_ACQUIRE) == 1)
        return old;
    struct part *p = mz_new0(MZ_MEM_UPSTREAM, struct part);
    p->refs = 1;
    mz_map_init(&p->map, MZ_MEM_UPSTREAM);
    if (old)
        mz_map_foreach (it, &old->map)
            (void)mz_map_put(&p->map, it->key, cluster_entry_ref(it->value));
    part_unref(old);
    n->parts[i] = p;
    return p;
}

struct cluster_entry *cluster_names_put(struct cluster_names **io, struct cluster_entry *take)
{
    struct cluster_names *n = own(io);
    struct part *p = own_part(n, part_of(take->name));
    struct cluster_entry *old = mz_map_put(&p->map, take->name, take);
    n->n += !old;
    return old;
}

struct cluster_entry *cluster_names_del(struct cluster_names **io, struct mz_str name)
{
    if (!cluster_names_get(*io, name))
        return NULL;
    struct cluster_names *n = own(io);
    struct part *p = own_part(n, part_of(name));
    n->n--;
    return mz_map_del(&p->map, name);
}

struct cluster_entry *cluster_names_next(const struct cluster_names *n, struct cluster_names_at *at)
{
    for (; at->part < PARTS; at->part++, at->entry = NULL) {
        const struct part *p = n->parts[at->part];
        at->entry = p ? mz_map_next(&p->map, at->entry) : NULL;
        if (at->entry)
            return at->entry->value;
    }
    return NULL;
}
