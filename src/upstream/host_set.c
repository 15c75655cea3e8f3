/* Host sets: per priority the hosts, and those that are healthy or degraded, as they are at the moment of building. */
#include "upstream/lb_subset.h"
#include <stdlib.h>

static const enum source health_source[] = { [MZ_HOST_HEALTHY] = SOURCE_HEALTHY,
                                             [MZ_HOST_DEGRADED] = SOURCE_DEGRADED,
                                             [MZ_HOST_UNHEALTHY] = SOURCE_ALL };

static void list_add(struct host_list *l, struct mz_host *h)
{
    l->v[l->n++] = h;
    if (weight_of_host(h) != weight_of_host(l->v[0]))
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

/* ---- localities: places of one name and priority are one, as Envoy groups hosts ---- */

struct place {
    const struct mz_host *host; /* of whom the name is; NULL: nobody is there */
    uint32_t index, hosts, priority, weight;
    struct locality *locality;
};

static int by_name(const struct mz_host *a, const struct mz_host *b)
{
    int c = mz_str_cmp(a->region, b->region);
    c = c ? c : mz_str_cmp(a->zone, b->zone);
    return c ? c : mz_str_cmp(a->sub_zone, b->sub_zone);
}

static int by_priority_name(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    if (!a->host != !b->host)
        return a->host ? -1 : 1;
    if (!a->host || a->priority != b->priority)
        return (a->priority > b->priority) - (a->priority < b->priority);
    int c = by_name(a->host, b->host);
    return c ? c : (a->index > b->index) - (a->index < b->index);
}

static int by_index(const void *x, const void *y)
{
    const struct place *a = x, *b = y;
    return (a->index > b->index) - (a->index < b->index);
}

bool locality_same(const struct locality *a, const struct locality *b)
{
    return by_name(a->lists[SOURCE_ALL].v[0], b->lists[SOURCE_ALL].v[0]) == 0;
}

/* @v sorted by name: a locality for each name; the last weight of a name counts. */
static void localities_make(struct host_sets *s, struct place *v, uint32_t n)
{
    for (uint32_t i = 0; i < n && v[i].host;) {
        struct host_set *set = &s->v[v[i].priority];
        if (!set->localities)
            set->localities = mz_arena_alloc0(s->arena, mz_mul(n, sizeof(struct locality)));
        struct locality *l = &set->localities[set->n_localities++];
        uint32_t first = i, members = 0;
        for (; i < n && v[i].host && v[i].priority == v[first].priority &&
               by_name(v[i].host, v[first].host) == 0;
             i++) {
            members += v[i].hosts;
            l->weight = v[i].weight;
            v[i].locality = l;
        }
        lists_room(l->lists, s->arena, members);
    }
}

static void localities_fill(struct host_sets *s)
{
    struct place *v = mz_newn0(MZ_MEM_UPSTREAM, struct place, s->n_places + 1);
    for (uint32_t i = 0; i < s->n_places; i++)
        v[i] = (struct place){ .index = i,
                               .priority = s->places[i].priority,
                               .weight = s->places[i].weight };
    for (uint32_t h = 0; h < s->n_hosts; h++) {
        struct place *p = &v[s->host_locality[h]];
        p->host = p->host ? p->host : s->hosts[h];
        p->hosts++;
    }
    qsort(v, s->n_places, sizeof(*v), by_priority_name);
    localities_make(s, v, s->n_places);
    qsort(v, s->n_places, sizeof(*v), by_index);
    for (uint32_t h = 0; h < s->n_hosts; h++) {
        struct locality *l = v[s->host_locality[h]].locality;
        lists_add(l->lists, s->hosts[h]);
        l->excluded += host_excluded(s->hosts[h]);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
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
        s->v[h->priority].excluded_weight += host_excluded(h) ? weight_of_host(h) : 0;
    }
    if (by_locality)
        localities_fill(s);
    return s;
}

struct host_sets *host_sets_again(const struct host_sets *s, uint64_t seq)
{
    struct host_spec *v = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, s->n_hosts ? s->n_hosts : 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_hosts; i++)
        if (!(__atomic_load_n(&s->hosts[i]->health_flags, __ATOMIC_RELAXED) & MZ_HOST_GONE))
            v[n++] = (struct host_spec){ mz_host_ref(s->hosts[i]), s->host_locality[i] };
    struct host_sets *made = host_sets_create(v, n, s->places, s->n_places, s->by_locality, seq);
    mz_free(MZ_MEM_UPSTREAM, v);
    if (s->subsets)
        subsets_build(s->subsets->cfg, made);
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
    subsets_fini(s->subsets);
    host_map_destroy(s->by_address);
    mz_arena_destroy(s->arena);
}
