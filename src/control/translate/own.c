#include "control/translate/own.h"

#include "control/translate/scope.h"

static uint64_t add(uint64_t h, uint64_t v)
{
    return mz_xxh64(&v, sizeof(v), h);
}

static uint64_t add_str(uint64_t h, struct mz_str s)
{
    return mz_xxh64(s.p, s.n, add(h, s.n));
}

static uint64_t add_labels(uint64_t h, struct mz_labels l)
{
    for (size_t i = 0; i < l.n; i++)
        h = add_str(add_str(h, l.v[i].key), l.v[i].value);
    return add(h, l.n);
}

static uint64_t add_target(const struct mz_view *v, uint64_t h, const struct mz_target *t)
{
    const struct mz_rule *r = tr_inbound_rule(v, t->service); /* of its pool */
    h = add_str(add_str(add(h, t->service->hash), t->service->ns), t->service->host);
    h = add(add(h, (uint64_t)(t->port - t->service->ports)), t->number);
    return add(h, r ? r->hash : 0);
}

uint64_t tr_kin(const struct mz_view *v)
{
    const struct mz_model *m = v->model;
    const struct mz_proxy *p = v->proxy;
    uint64_t h = add(add(p->identity, m->mesh.hash), m->attached_hash);
    h = add(h, p->release * 4u + 2u * p->lacks_wasm + p->lacks_lua);
    h = add_str(add_str(h, p->service_cluster), p->otel_name);
    h = add_labels(h, v->workload ? v->workload->labels : p->labels);
    return add_labels(h, p->labels);
}

static uint64_t hash_of(const struct mz_view *v)
{
    uint64_t h = add(add(tr_kin(v), v->model->mtls_hash), v->scope->leaves_hash);
    h = add(h, v->scope->sidecar ? v->scope->sidecar->hash : 1);
    for (size_t i = 0; i < v->targets.n; i++)
        h = add_target(v, h, &v->targets.v[i]);
    return h ? h : 1;
}

struct mz_out *tr_own(struct mz_view *v, enum mz_xds_type t, unsigned what,
                      struct mz_out *(*make)(struct mz_view *v, unsigned what))
{
    struct mz_key k;
    if (v->ingress || tr_asks_services(v->model)) /* of addresses, or of other services */
        return make(v, what);
    if (!v->own_hash)
        v->own_hash = hash_of(v);
    mz_key_init(&k, 'o');
    mz_key_u64(&k, t);
    mz_key_u64(&k, what);
    mz_key_u64(&k, v->own_hash);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = make(v, what);
        mz_cache_put(v->t->cache, &k, o);
    }
    return o;
}
