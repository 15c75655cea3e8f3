/* The endpoints of a cluster as a ClusterLoadAssignment, for /config_dump: what was assigned or found, and what checks say of it now. */
#include "observe/to_proto.h"
#include "upstream/health/health.h"
#include "upstream/upstream_priv.h"

static pb_UInt32Value *wrapped(struct mz_arena *a, uint32_t v)
{
    pb_UInt32Value *w = mz_proto_new(a, pb_UInt32Value);
    w->value = v;
    return w;
}

static pb_Endpoint *endpoint_message(const struct mz_host *h, struct mz_arena *a)
{
    pb_Endpoint *e = mz_proto_new(a, pb_Endpoint);
    pb_Endpoint_HealthCheckConfig *hc = mz_proto_new(a, pb_Endpoint_HealthCheckConfig);
    e->address = mz_proto_address(&h->addr, a);
    e->hostname = mz_proto_text(h->hostname, a);
    e->health_check_config = hc;
    if (h->health && h->health->check_name)
        hc->hostname = h->health->check_name;
    if (mz_addr_port(&h->health_check_addr) != mz_addr_port(&h->addr))
        hc->port_value = mz_addr_port(&h->health_check_addr);
    e->additional_addresses =
        mz_arena_alloc0(a, mz_mul(h->n_addrs, sizeof(*e->additional_addresses)));
    for (uint32_t i = 1; i < h->n_addrs; i++) {
        pb_Endpoint_AdditionalAddress *more = mz_proto_new(a, pb_Endpoint_AdditionalAddress);
        more->address = mz_proto_address(&h->addrs[i], a);
        e->additional_addresses[e->n_additional_addresses++] = more;
    }
    return e;
}

static pb_LbEndpoint *lb_endpoint_message(const struct mz_host *h, struct mz_arena *a)
{
    static const pb_HealthStatus coarse[] = { [MZ_HOST_UNHEALTHY] = pb_HealthStatus_UNHEALTHY,
                                              [MZ_HOST_DEGRADED] = pb_HealthStatus_DEGRADED,
                                              [MZ_HOST_HEALTHY] = pb_HealthStatus_HEALTHY };
    pb_LbEndpoint *e = mz_proto_new(a, pb_LbEndpoint);
    e->host_identifier_case = pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT;
    e->endpoint = endpoint_message(h, a);
    e->health_status = coarse[mz_host_health(h)];
    e->load_balancing_weight = wrapped(a, h->weight);
    if (h->metadata)
        e->metadata = mz_proto_metadata(h->metadata, a);
    return e;
}

static pb_LocalityLbEndpoints *group_of(const struct mz_host *h, uint32_t weight, size_t most,
                                        struct mz_arena *a)
{
    pb_LocalityLbEndpoints *g = mz_proto_new(a, pb_LocalityLbEndpoints);
    g->locality = mz_proto_new(a, pb_Locality);
    g->locality->region = mz_proto_text(h->region, a);
    g->locality->zone = mz_proto_text(h->zone, a);
    g->locality->sub_zone = mz_proto_text(h->sub_zone, a);
    g->priority = h->priority;
    g->load_balancing_weight = wrapped(a, weight);
    g->lb_endpoints = mz_arena_alloc0(a, mz_mul(most, sizeof(*g->lb_endpoints)));
    return g;
}

/* By priority, then as localities first came; those without hosts are not there. */
static void groups_fill(const struct host_sets *s, pb_ClusterLoadAssignment *m, struct mz_arena *a)
{
    size_t n = s->n_places ? s->n_places : 1;
    uint32_t *count = mz_arena_alloc0(a, mz_mul(n, sizeof(*count)));
    pb_LocalityLbEndpoints **of = mz_arena_alloc0(a, mz_mul(n, sizeof(*of)));
    m->endpoints = mz_arena_alloc0(a, mz_mul(n, sizeof(*m->endpoints)));
    for (uint32_t i = 0; i < s->n_hosts; i++)
        count[s->host_locality[i]]++;
    for (uint32_t i = 0; i < s->n_hosts; i++) {
        uint32_t at = s->host_locality[i];
        if (!of[at])
            of[at] = group_of(s->hosts[i], s->places[at].weight, count[at], a);
        of[at]->lb_endpoints[of[at]->n_lb_endpoints++] = lb_endpoint_message(s->hosts[i], a);
    }
    for (uint32_t priority = 0; priority < s->n; priority++)
        for (size_t i = 0; i < n; i++)
            if (of[i] && of[i]->priority == priority)
                m->endpoints[m->n_endpoints++] = of[i];
}

static void drop_fill(const struct mz_cluster *c, pb_ClusterLoadAssignment_Policy *p,
                      struct mz_arena *a)
{
    uint32_t millionths = __atomic_load_n(&c->drop_millionths, __ATOMIC_RELAXED);
    if (!millionths)
        return;
    pb_ClusterLoadAssignment_Policy_DropOverload *d =
        mz_proto_new(a, pb_ClusterLoadAssignment_Policy_DropOverload);
    d->category = mz_proto_text(eds_drop_category(c, a), a);
    d->drop_percentage = mz_proto_new(a, pb_FractionalPercent);
    d->drop_percentage->numerator = millionths;
    d->drop_percentage->denominator = pb_FractionalPercent_DenominatorType_MILLION;
    p->drop_overloads = mz_arena_alloc(a, sizeof(*p->drop_overloads));
    p->drop_overloads[0] = d;
    p->n_drop_overloads = 1;
}

static const pb_ClusterLoadAssignment *assignment_of(struct mz_cluster *c, struct mz_arena *a)
{
    pb_ClusterLoadAssignment *m = mz_proto_new(a, pb_ClusterLoadAssignment);
    struct host_sets *s = cluster_sets_peek(c);
    struct mz_str service = eds_service(c);
    m->cluster_name = mz_proto_text(service.n ? service : c->name, a);
    m->policy = mz_proto_new(a, pb_ClusterLoadAssignment_Policy);
    m->policy->overprovisioning_factor = wrapped(a, cluster_priv(c)->priorities.overprovisioning);
    drop_fill(c, m->policy, a);
    groups_fill(s, m, a);
    host_sets_unref(s);
    return m;
}

void mz_cluster_manager_assignments(struct mz_cluster_manager *m, struct mz_arena *a,
                                    void (*fn)(void *arg, const struct mz_assignment_shown *s),
                                    void *arg)
{
    size_t n;
    struct cluster_entry **v = cluster_list(m, &n);
    while (n > 0) {
        struct mz_cluster *c = cluster_entry_peek(v[--n]);
        const struct mz_assignment_shown shown = { c->name, c->added_via_api, assignment_of(c, a) };
        fn(arg, &shown);
        mz_cluster_unref(c);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
}
