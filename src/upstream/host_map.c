/* Hosts by address: open addressing. Borrows the hosts. */
#include "upstream/upstream_priv.h"

static void place(struct host_map *m, struct mz_host *h)
{
    uint64_t at = mz_addr_hash(&h->addr);
    while (m->v[at & m->mask])
        at++;
    m->v[at & m->mask] = h;
}

static void grow(struct host_map *m)
{
    struct host_map wide = { .mask = m->v ? m->mask * 2 + 1 : 15, .n = m->n };
    wide.v = mz_newn0(MZ_MEM_UPSTREAM, struct mz_host *, (size_t)wide.mask + 1);
    for (uint32_t i = 0; m->v && i <= m->mask; i++)
        if (m->v[i])
            place(&wide, m->v[i]);
    mz_free(MZ_MEM_UPSTREAM, m->v);
    *m = wide;
}

struct mz_host *host_map_find(const struct host_map *m, const struct mz_addr *a)
{
    if (!m->v)
        return NULL;
    for (uint64_t at = mz_addr_hash(a);; at++) {
        struct mz_host *h = m->v[at & m->mask];
        if (!h || mz_addr_eq(&h->addr, a))
            return h;
    }
}

void host_map_put(struct host_map *m, struct mz_host *h)
{
    if (host_map_find(m, &h->addr))
        return;
    if (!m->v || m->n * 2 > m->mask)
        grow(m);
    place(m, h);
    m->n++;
}

void host_map_fini(struct host_map *m)
{
    mz_free(MZ_MEM_UPSTREAM, m->v);
    *m = (struct host_map){ 0 };
}

const struct host_map *host_sets_map(struct host_sets *s)
{
    struct host_map *m = __atomic_load_n(&s->by_address, __ATOMIC_ACQUIRE), *made;
    if (MZ_LIKELY(m != NULL))
        return m;
    made = mz_new0(MZ_MEM_UPSTREAM, struct host_map);
    for (uint32_t i = 0; i < s->n_hosts; i++)
        host_map_put(made, s->hosts[i]);
    if (__atomic_compare_exchange_n(&s->by_address, &m, made, false, __ATOMIC_ACQ_REL,
                                    __ATOMIC_ACQUIRE))
        return made;
    host_map_destroy(made); /* another thread was faster */
    return m;
}

void host_map_destroy(struct host_map *m)
{
    if (m)
        host_map_fini(m);
    mz_free(MZ_MEM_UPSTREAM, m);
}

/* "1.2.3.4:80", "[::1]:80"; port 0 is nobody's. */
bool host_address_parse(struct mz_str text, struct mz_addr *out_addr)
{
    return mz_addr_parse(text, out_addr) && mz_addr_port(out_addr);
}
