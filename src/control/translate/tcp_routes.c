#include "control/translate/tcp_routes.h"

bool tr_l4_applies(const struct tr_routing *r, const struct tr_l4_match *m)
{
    return (!m->port || m->port == r->port) &&
           (!m->gateways_n || tr_gateway_named(r, m->gateways, m->gateways_n)) &&
           tr_labels_within(r->v, m->labels, m->labels_n) &&
           (!m->ns[0] || mz_str_eq(mz_str_c(m->ns), r->v->proxy->ns));
}

static uint64_t hash_text(const char *text, uint64_t h)
{
    return mz_xxh64(text, strlen(text), h);
}

static void put_policy(const struct tr_routing *r, const ist_Destination *d, struct tr_tcp *t,
                       uint64_t *hash)
{
    const struct mz_service *s = mz_map_get(&r->v->scope->by_host, mz_str_c(d->host));
    const struct mz_rule *rule = s ? tr_rule(r->v, s) : NULL;
    if (rule)
        tr_tcp_policy(t, rule, mz_str_c(d->subset), hash);
}

struct tr_tcp tr_l4_route(const struct tr_routing *r, ist_RouteDestination *const *to, size_t n,
                          uint64_t *out_hash)
{
    struct tr_tcp t = { 0 };
    *out_hash = r->vs->hash;
    put_policy(r, to[0]->destination, &t, out_hash);
    if (n == 1) {
        t.cluster = tr_destination(r, to[0]->destination);
        *out_hash = hash_text(t.cluster, *out_hash);
        return t;
    }
    struct tr_weighted *v = mz_arena_alloc(r->a, n * sizeof(*v));
    for (size_t i = 0; i < n; i++) {
        if (to[i]->weight <= 0)
            continue;
        v[t.clusters_n].name = tr_destination(r, to[i]->destination);
        v[t.clusters_n].weight = (uint32_t)to[i]->weight;
        *out_hash = hash_text(v[t.clusters_n].name, *out_hash + v[t.clusters_n].weight);
        t.clusters_n++;
    }
    t.clusters = v;
    t.cluster = TR_PRINTF(r->a, "%.*s.%.*s", MZ_STR_ARG(r->vs->name), MZ_STR_ARG(r->vs->ns));
    return t;
}
