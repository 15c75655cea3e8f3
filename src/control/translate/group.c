/* Proxies that see the same in the same way: what they have in common is made once. */
#include "control/translate/mesh.h"
#include "control/translate/patch.h"

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
    (void)mz_map_put(&t->groups, mz_arena_dup(t->arena, k), v->group);
}

void tr_groups_clear(struct mz_translator *t)
{
    mz_map_foreach (it, &t->groups) {
        struct tr_group *g = it->value;
        mz_set_unref(g->clusters);
        tr_plans_free(g->plans);
    }
    mz_map_fini(&t->groups);
    mz_map_init(&t->groups, MZ_MEM_XDS);
}

/* Services that telemetry, authorization and keys of tokens are asked of count when they come or go. */
static bool asks_services(const struct mz_model *m)
{
    return m->mesh.config->n_extension_providers || m->attached[MZ_KIND_REQUEST_AUTHENTICATION].n;
}

uint64_t mz_view_listens(struct mz_view *v)
{
    if (!v->group || v->proxy->proxyless || asks_services(v->model))
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
