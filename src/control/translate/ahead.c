/*
 * What a client that was sent its clusters asks for next, made in steps while it reads them: its large tables of routes, which it asks
 * for last, then endpoints. Whatever it asks for meanwhile is made, or finished, at once.
 */
#include "control/translate/route_table.h"

#include <stdio.h>
#include <stdlib.h>

#include "control/translate/scope.h"

enum {
    LARGE_TABLE = 64, /* services; others are made in no time */
    TABLES = 8,
    STEP = 64, /* services, some 100 us */
};
struct wanted {
    uint16_t port;
    size_t services;
};
struct tr_ahead {
    uint64_t epoch; /* of all below */
    struct wanted tables[TABLES];
    size_t tables_n, next;
    struct mz_set *clusters; /* whose endpoints are made */
    struct mz_set_at at;
    bool making; /* a table, with all below */
    char name[8];
    struct route_plan plan;
    struct mz_key key;
    struct making k;
};

static void stop(struct tr_ahead *a)
{
    if (a->making) {
        tr_making_end(&a->k);
        tr_plan_free(&a->plan);
    }
    mz_set_unref(a->clusters);
    *a = (struct tr_ahead){ .epoch = a->epoch };
}

void tr_ahead_free(struct tr_ahead *a)
{
    if (a)
        stop(a);
    mz_free(MZ_MEM_XDS, a);
}

/* ---- tables of routes ---- */

static int compare_wanted(const void *a, const void *b)
{
    const struct wanted *x = a, *y = b;
    return (x->services < y->services) - (x->services > y->services);
}

/* They are all over the memory. */
static void fetch(const struct tr_scope *s, size_t i)
{
    enum { BEFORE = 8 };
    if (i + 2 * BEFORE < s->services_n)
        __builtin_prefetch(s->services[i + 2 * BEFORE]);
    if (i + BEFORE < s->services_n)
        __builtin_prefetch(s->services[i + BEFORE]->ports);
}

static void find_tables(struct mz_view *v, struct tr_ahead *a)
{
    uint32_t *count = mz_newn0(MZ_MEM_XDS, uint32_t, UINT16_MAX + 1u);
    MZ_VEC(struct wanted) all = { 0 };
    for (size_t i = 0; i < v->scope->services_n; i++) {
        const struct mz_service *s = v->scope->services[i];
        fetch(v->scope, i);
        for (size_t k = 0; k < s->ports_n; k++)
            if (tr_port_speaks_http(&s->ports[k]) && ++count[s->ports[k].port] == LARGE_TABLE)
                *mz_vec_push(&all, MZ_MEM_XDS) = (struct wanted){ s->ports[k].port, 0 };
    }
    mz_vec_foreach (w, &all)
        w->services = count[w->port];
    mz_sort(all.v, all.n, sizeof(*all.v), compare_wanted);
    for (; a->tables_n < all.n && a->tables_n < TABLES; a->tables_n++)
        a->tables[a->tables_n] = all.v[a->tables_n];
    mz_vec_free(&all, MZ_MEM_XDS);
    mz_free(MZ_MEM_XDS, count);
}

/* False: there is one, or it is not for a port alone. */
static bool begin_table(struct mz_view *v, struct tr_ahead *a, uint16_t port)
{
    const struct tr_egress *e = tr_egress_for(v->scope, port);
    const int n = snprintf(a->name, sizeof(a->name), "%u", port);
    const struct mz_str name = { a->name, (size_t)n };
    if (!e || tr_egress_is_proxy(e->listener) || mz_map_get(&v->group->tables, name))
        return false;
    a->plan = (struct route_plan){ .name = name, .port = port };
    tr_plan_make(v, &a->plan);
    tr_plan_key(v, &a->plan, &a->key);
    struct mz_out *o = mz_cache_get(v->t->cache, &a->key);
    if (o) {
        tr_table_add(v, name, o);
        tr_plan_free(&a->plan);
        return false;
    }
    tr_making_begin(&a->k, v, &a->plan);
    a->making = true;
    return true;
}

static void finish_table(struct mz_view *v, struct tr_ahead *a)
{
    struct mz_out *o = tr_making_finish(&a->k);
    mz_cache_put(v->t->cache, &a->key, o);
    tr_table_add(v, a->plan.name, o);
    tr_making_end(&a->k);
    tr_plan_free(&a->plan);
    a->making = false;
}

void tr_ahead_finish(struct mz_view *v, struct mz_str name)
{
    struct tr_ahead *a = v->group->ahead;
    if (!a || !a->making || a->epoch != v->t->epoch || !mz_str_eq(a->plan.name, name))
        return;
    a->k.v = v;
    (void)tr_making_go_on(&a->k, SIZE_MAX);
    finish_table(v, a);
}

static bool tables_ahead(struct mz_view *v, struct tr_ahead *a)
{
    while (!a->making && a->next < a->tables_n)
        if (begin_table(v, a, a->tables[a->next++].port))
            return true;
    if (!a->making)
        return false;
    a->k.v = v;
    if (!tr_making_go_on(&a->k, STEP))
        finish_table(v, a);
    return true;
}

/* ---- endpoints ---- */

static bool endpoints_ahead(struct mz_view *v, struct tr_ahead *a)
{
    for (unsigned i = 0; i < STEP; i++) {
        const struct mz_out *cluster = a->clusters ? mz_set_next(a->clusters, &a->at) : NULL;
        struct tr_subset_key key;
        if (!cluster) {
            stop(a);
            return false;
        }
        const struct mz_service *s = tr_cluster_name_parse(cluster->name, &key)
                                         ? mz_map_get(&v->scope->by_host, key.host)
                                         : NULL;
        if (s && tr_has_endpoints(v, s))
            mz_out_unref(tr_endpoints(v, cluster->name));
    }
    return true;
}

void mz_translator_stop_ahead(struct mz_translator *t)
{
    mz_map_foreach (it, &t->groups) {
        struct tr_group *g = it->value;
        if (g->ahead)
            stop(g->ahead);
    }
}

bool mz_view_ahead(struct mz_view *v)
{
    struct tr_group *g = v->group;
    if (!g || !g->clusters || v->proxy->proxyless)
        return false;
    if (!g->ahead)
        g->ahead = mz_new0(MZ_MEM_XDS, struct tr_ahead);
    struct tr_ahead *a = g->ahead;
    if (a->epoch != v->t->epoch) {
        stop(a);
        a->epoch = v->t->epoch;
        a->clusters = mz_set_ref(g->clusters);
        find_tables(v, a);
        return true;
    }
    return tables_ahead(v, a) || endpoints_ahead(v, a);
}
