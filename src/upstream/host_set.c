/* Host sets: per priority the hosts, and those that are healthy or degraded, as they are at the moment of building. */
#include "upstream/upstream_priv.h"

static const enum source health_source[] = { [MZ_HOST_HEALTHY] = SOURCE_HEALTHY,
                                             [MZ_HOST_DEGRADED] = SOURCE_DEGRADED,
                                             [MZ_HOST_UNHEALTHY] = SOURCE_ALL };

static void list_add(struct host_list *l, struct mz_host *h)
{
    l->v[l->n++] = h;
    if (h->weight != l->v[0]->weight)
        l->weighted = true;
}

static void lists_add(struct host_list lists[SOURCE__COUNT], struct mz_host *h)
{
    list_add(&lists[SOURCE_ALL], h);
    enum source s = health_source[mz_host_health(h)];
    if (s != SOURCE_ALL && !host_excluded(h))
        list_add(&lists[s], h);
}

static void lists_room(struct host_list lists[SOURCE__COUNT], struct mz_arena *a, uint32_t n)
{
    struct mz_host **room = mz_arena_alloc(a, mz_mul(n ? n : 1, SOURCE__COUNT * sizeof(*room)));
    for (unsigned s = 0; s < SOURCE__COUNT; s++)
        lists[s] = (struct host_list){ .v = room + (size_t)s * n };
}

static void localities_fill(struct host_sets *s, const struct host_spec *v, uint32_t n,
                            const struct locality_spec *loc, uint32_t n_loc)
{
    for (uint32_t i = 0; i < n_loc; i++) {
        struct host_set *set = &s->v[loc[i].priority];
        if (!set->localities)
            set->localities = mz_arena_alloc0(s->arena, mz_mul(n_loc, sizeof(struct locality)));
        struct locality *l = &set->localities[set->n_localities++];
        l->weight = loc[i].weight;
        uint32_t members = 0;
        for (uint32_t h = 0; h < n; h++)
            members += v[h].locality == i;
        lists_room(l->lists, s->arena, members);
        for (uint32_t h = 0; h < n; h++)
            if (v[h].locality == i)
                lists_add(l->lists, v[h].host);
    }
}

static void places_keep(struct host_sets *s, const struct locality_spec *loc, uint32_t n_loc,
                        bool by_locality)
{
    s->places = mz_arena_alloc0(s->arena, mz_mul(n_loc ? n_loc : 1, sizeof(*s->places)));
    for (uint32_t i = 0; i < n_loc; i++)
        s->places[i] =
            (struct locality_spec){ .weight = loc[i].weight, .priority = loc[i].priority };
    s->n_places = n_loc;
    s->by_locality = by_locality;
}

struct host_sets *host_sets_create(const struct host_spec *v, uint32_t n,
                                   const struct locality_spec *loc, uint32_t n_loc,
                                   bool by_locality, uint64_t seq)
{
    uint32_t priorities = 1;
    for (uint32_t i = 0; i < n_loc; i++)
        priorities = loc[i].priority >= priorities ? loc[i].priority + 1 : priorities;
    struct mz_arena *a = mz_arena_create(MZ_MEM_UPSTREAM);
    struct host_sets *s = mz_arena_new0(a, struct host_sets);
    *s = (struct host_sets){ .refs = 1, .seq = seq, .n = priorities, .arena = a, .n_hosts = n };
    s->v = mz_arena_alloc0(a, mz_mul(priorities, sizeof(struct host_set)));
    s->hosts = mz_arena_alloc(a, mz_mul(n ? n : 1, sizeof(*s->hosts)));
    uint32_t *per = mz_arena_alloc0(a, mz_mul(priorities, sizeof(*per)));
    s->host_locality = mz_arena_alloc(a, mz_mul(n ? n : 1, sizeof(*s->host_locality)));
    for (uint32_t i = 0; i < n; i++) {
        s->hosts[i] = v[i].host;
        s->host_locality[i] = v[i].locality;
        per[v[i].host->priority]++;
    }
    places_keep(s, loc, n_loc, by_locality);
    for (uint32_t p = 0; p < priorities; p++)
        lists_room(s->v[p].lists, a, per[p]);
    for (uint32_t i = 0; i < n; i++) {
        struct mz_host *h = v[i].host;
        lists_add(s->v[h->priority].lists, h);
        s->v[h->priority].excluded += host_excluded(h);
        s->v[h->priority].excluded_weight += host_excluded(h) ? h->weight : 0;
    }
    if (by_locality)
        localities_fill(s, v, n, loc, n_loc);
    return s;
}

struct host_sets *host_sets_again(const struct host_sets *s, uint64_t seq)
{
    struct host_spec *v = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, s->n_hosts ? s->n_hosts : 1);
    for (uint32_t i = 0; i < s->n_hosts; i++)
        v[i] = (struct host_spec){ mz_host_ref(s->hosts[i]), s->host_locality[i] };
    struct host_sets *made =
        host_sets_create(v, s->n_hosts, s->places, s->n_places, s->by_locality, seq);
    mz_free(MZ_MEM_UPSTREAM, v);
    return made;
}

struct host_sets *host_sets_ref(struct host_sets *s)
{
    __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void host_sets_unref(struct host_sets *s)
{
    if (!s || __atomic_fetch_sub(&s->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (uint32_t i = 0; i < s->n_hosts; i++)
        mz_host_unref(s->hosts[i]);
    for (uint32_t p = 0; p < s->n; p++)
        for (unsigned k = 0; k < SOURCE__COUNT; k++)
            hash_table_destroy(s->v[p].tables[k]);
    mz_arena_destroy(s->arena);
}
