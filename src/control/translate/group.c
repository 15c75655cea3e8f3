/* Proxies that see the same in the same way: what they have in common is made once. */
#include "control/translate/mesh.h"
#include "control/translate/patch.h"
#include "control/translate/scope.h"

static uint64_t add(uint64_t h, struct mz_str s)
{
    return mz_xxh64(s.p, s.n, h + s.n);
}

static uint64_t add_labels(uint64_t h, struct mz_labels l)
{
    for (size_t i = 0; i < l.n; i++)
        h = add(add(h, l.v[i].key), l.v[i].value);
    return h;
}

/* All that clusters towards others, their endpoints and routes follow from besides the model. */
static struct mz_str key_of(const struct mz_view *v, uint64_t key[4])
{
    const struct mz_proxy *p = v->proxy;
    uint64_t h = add(0, p->domain);
    h = add(add(add(h, p->locality.region), p->locality.zone), p->locality.subzone);
    if (v->scope->node_local)
        h = add(h, p->node);
    h += tr_mesh_counts_attempts(v); /* a proxy may have settings of its own */
    key[0] = (uintptr_t)v->scope;
    key[1] = p->shape;
    key[2] = h;
    key[3] = 0;
    if (v->scope->by_labels || v->model->rules_by_labels)
        key[3] = add_labels(add_labels(1, p->labels),
                            v->workload ? v->workload->labels : (struct mz_labels){ 0 });
    return (struct mz_str){ (const char *)key, 4 * sizeof(*key) };
}

/* Gateways follow from too much of themselves; and a patch may be for one alone. */
void tr_group_join(struct mz_view *v)
{
    struct mz_translator *t = v->t;
    uint64_t key[4];
    if (v->proxy->type != MZ_PROXY_SIDECAR || tr_patches(v)->n_v)
        return;
    const struct mz_str k = key_of(v, key);
    v->group = mz_map_get(&t->groups, k);
    if (v->group)
        return;
    v->group = mz_arena_new0(t->arena, struct tr_group);
    v->group->id = ++t->groups_made;
    v->group->key = mz_arena_dup(t->arena, k);
    v->group->scope = v->scope;
    mz_map_init(&v->group->tables, MZ_MEM_XDS);
    (void)mz_map_put(&t->groups, v->group->key, v->group);
}

static void group_free(struct tr_group *g)
{
    mz_set_unref(g->clusters);
    mz_set_unref(g->names);
    tr_plans_free(g->plans);
    tr_ahead_free(g->ahead);
    tr_tables_free(&g->tables);
}

void tr_groups_clear(struct mz_translator *t, const struct tr_scope *of)
{
    MZ_VEC(struct tr_group *) all = { 0 };
    mz_map_foreach (it, &t->groups) {
        struct tr_group *g = it->value;
        if (!of || g->scope == of)
            *mz_vec_push(&all, MZ_MEM_XDS) = g;
    }
    mz_vec_foreach (g, &all) {
        (void)mz_map_del(&t->groups, (*g)->key);
        group_free(*g);
    }
    mz_vec_free(&all, MZ_MEM_XDS);
}

/* ---- what they have in common, as the model is now ---- */

/* Names of clusters that a service had, as a rule has them. */
static void add_names(struct mz_arena *a, const struct mz_service *s, const struct mz_rule *r,
                      struct mz_set_edits *e)
{
    const size_t subsets = tr_subsets(s, r);
    for (size_t i = 0; i < s->ports_n; i++)
        for (size_t k = 0; k < 1 + subsets; k++)
            *mz_vec_push(&e->v, MZ_MEM_XDS) = (struct mz_set_edit){
                mz_str_c(tr_cluster_name(a, "outbound", s->ports[i].port,
                                         mz_str_c(k ? r->subsets[k - 1]->name : ""), s->host)),
                NULL
            };
}

/* ... as all rules had them meanwhile. */
static void add_stale(struct mz_view *v, struct mz_arena *a, const struct mz_service *s,
                      const struct tr_touch *t, size_t n, struct mz_set_edits *e)
{
    if (!s)
        return;
    add_names(a, s, tr_rule(v, s), e);
    for (size_t i = 0; i < n; i++)
        if (t[i].rule && mz_str_eq(t[i].rule->host, s->host))
            for (const struct mz_rule *r = t[i].rule->was; r; r = r->next)
                add_names(a, s, r, e);
}

static void add_fresh(struct mz_view *v, struct mz_str host, struct mz_outs *out,
                      struct mz_set_edits *e)
{
    const struct mz_service *s = mz_map_get(&v->scope->by_host, host);
    const size_t first = out->v.n;
    if (s)
        tr_clusters_of(v, s, out);
    for (size_t i = first; i < out->v.n; i++) {
        struct mz_out *o = out->v.v[i], *had = mz_set_find(v->group->clusters, o->name);
        *mz_vec_push(&e->v, MZ_MEM_XDS) =
            (struct mz_set_edit){ o->name, had && had->version == o->version ? had : o };
    }
}

/* Of edits those that change nothing. */
static void drop_same(const struct mz_set *of, struct mz_set_edits *e)
{
    size_t n = 0;
    for (size_t i = 0; i < e->v.n; i++)
        if (mz_set_find(of, e->v.v[i].name) != e->v.v[i].out)
            e->v.v[n++] = e->v.v[i];
    e->v.n = n;
}

static void edit_clusters(struct mz_view *v, const struct tr_touch *t, size_t n)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_set_edits e = { 0 };
    struct mz_outs out = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (t[i].routed)
            continue;
        add_stale(v, a, t[i].was, t, n, &e);
        add_stale(v, a, t[i].is, t, n, &e);
        add_fresh(v, tr_touch_host(&t[i]), &out, &e);
    }
    mz_set_edits_sort(&e);
    drop_same(v->group->clusters, &e);
    if (e.v.n) { /* else everybody has the same as before, and nobody is looked at */
        struct mz_set *now = mz_set_edit(v->t->sets, v->group->clusters, e.v.v, e.v.n);
        mz_set_unref(v->group->clusters);
        v->group->clusters = now;
    }
    mz_vec_free(&e.v, MZ_MEM_XDS);
    mz_outs_fini(&out);
    mz_arena_destroy(a);
}

const struct mz_set *tr_group_clusters(struct mz_view *v)
{
    struct tr_group *g = v->group;
    const struct tr_touches *touches = &v->t->touches;
    const struct tr_touch *t;
    size_t n;
    struct mz_outs o = { 0 };
    if (g->clusters && !tr_touches_since(touches, g->clusters_at, &t, &n)) {
        mz_set_unref(g->clusters);
        g->clusters = NULL;
    }
    if (!g->clusters) {
        tr_clusters_outbound(v, &o);
        g->clusters = tr_set_of(v, &o);
    } else if (n) {
        edit_clusters(v, t, n);
    }
    g->clusters_at = touches->now;
    return g->clusters;
}

static bool is_any_service(const struct tr_touch *t, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (!t[i].routed && !tr_touch_is_bare(&t[i]))
            return true;
    return false;
}

const struct mz_set *tr_group_names(struct mz_view *v)
{
    struct tr_group *g = v->group;
    const struct tr_touches *touches = &v->t->touches;
    const struct tr_touch *t;
    size_t n;
    struct mz_outs o = { 0 };
    if (!g->names || !tr_touches_since(touches, g->names_at, &t, &n) || is_any_service(t, n)) {
        mz_set_unref(g->names);
        tr_names(v, &o);
        g->names = tr_set_of(v, &o);
    }
    g->names_at = touches->now;
    return g->names;
}

uint64_t mz_view_listens(struct mz_view *v)
{
    if (!v->group || v->proxy->proxyless || tr_asks_services(v->model))
        return 0;
    uint64_t h = tr_listeners_hash(v);
    for (size_t i = 0; i < v->targets.n; i++) {
        const struct mz_target *t = &v->targets.v[i];
        const uint64_t one[] = { t->service->hash, t->port->port, t->number };
        h = mz_xxh64(one, sizeof(one), mz_xxh64(t->service->host.p, t->service->host.n, h));
    }
    return h | 1;
}

uint64_t mz_view_kind(struct mz_view *v, enum mz_xds_type t)
{
    const uint64_t key[] = { v->group ? v->group->id : 0, v->t->epoch };
    const bool common =
        v->group && (t == MZ_XDS_CLUSTER || t == MZ_XDS_ENDPOINT || t == MZ_XDS_ROUTE);
    return common ? mz_xxh64(key, sizeof(key), 0) | 1 : 0;
}
