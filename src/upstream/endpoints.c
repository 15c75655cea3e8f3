/*
 * load_assignment (U1, U2): checked and counted when the cluster is added; the hosts of a static cluster are made at first
 * use from the message's bytes, because a mesh has thousands of clusters of which a proxy uses a few.
 */
#include "upstream/health/health.h"
#include "upstream/lb_subset.h"

#define MAX_PRIORITY 128

bool address_build(const pb_SocketAddress *a, struct mz_addr *out_addr, struct mz_err *err)
{
    struct mz_addr addr;
    if (a->protocol != pb_SocketAddress_Protocol_TCP)
        return mz_err_set(err, "must be TCP") || mz_err_at(err, "protocol");
    if (a->port_specifier_case != pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE)
        return mz_err_set(err, a->port_specifier_case
                                   ? "named ports are not supported, use port_value"
                                   : "is required") ||
               mz_err_at(err, a->port_specifier_case ? "named_port" : "port_value");
    if (a->port_value > UINT16_MAX)
        return mz_err_set(err, "must be at most 65535, is %u", a->port_value) ||
               mz_err_at(err, "port_value");
    if (!mz_addr_parse_ip(mz_str_c(a->address), (uint16_t)a->port_value, &addr))
        return mz_err_set(err,
                          "malformed IP address: %s. Consider setting resolver_name or setting "
                          "cluster type to 'STRICT_DNS' "
                          "or 'LOGICAL_DNS'",
                          a->address) ||
               mz_err_at(err, "address");
    *out_addr = addr;
    return true;
}

static const pb_Endpoint *named(const pb_ClusterLoadAssignment *m, const char *name)
{
    for (size_t i = 0; i < m->n_named_endpoints; i++)
        if (strcmp(m->named_endpoints[i]->key, name) == 0)
            return m->named_endpoints[i]->value;
    return NULL;
}

const pb_Endpoint *endpoint_of(const pb_ClusterLoadAssignment *m, const pb_LbEndpoint *e)
{
    switch (e->host_identifier_case) {
    case pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT:
        return e->endpoint;
    case pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT_NAME:
        return named(m, e->endpoint_name);
    default:
        return NULL;
    }
}

bool endpoint_address(const pb_Address *a, struct mz_addr *out_addr, struct mz_err *err)
{
    if (a && a->address_case == pb_Address_ADDRESS_PIPE)
        return mz_addr_unix(mz_str_c(a->pipe->path), out_addr, err) || mz_err_at(err, "pipe.path");
    if (a && a->address_case == pb_Address_ADDRESS_ENVOY_INTERNAL_ADDRESS)
        return mz_addr_internal(mz_str_c(a->envoy_internal_address->server_listener_name),
                                mz_str_c(a->envoy_internal_address->endpoint_id), out_addr, err) ||
               mz_err_at(err, "envoy_internal_address");
    if (!a || a->address_case != pb_Address_ADDRESS_SOCKET_ADDRESS)
        return mz_err_set(err, "one of socket_address, pipe, envoy_internal_address is required");
    return address_build(a->socket_address, out_addr, err) || mz_err_at(err, "socket_address");
}

/* The endpoint's other addresses; a cluster that resolves names does not look at them, as Envoy's. */
static bool additional_check(const pb_Endpoint *e, struct mz_err *err)
{
    struct mz_addr addr;
    for (size_t i = 0; i < e->n_additional_addresses; i++)
        if (!endpoint_address(e->additional_addresses[i]->address, &addr, err))
            return mz_err_at(err, "additional_addresses[%zu].address", i);
    return true;
}

static void additional_build(struct mz_host *h, const pb_Endpoint *e)
{
    MZ_VEC(struct mz_addr) v = { 0 };
    struct mz_err err;
    *mz_vec_push(&v, MZ_MEM_UPSTREAM) = h->addr;
    for (size_t i = 0; i < e->n_additional_addresses; i++) {
        struct mz_addr addr;
        if (!MZ_BUG(!endpoint_address(e->additional_addresses[i]->address, &addr, &err)))
            *mz_vec_push(&v, MZ_MEM_UPSTREAM) = addr;
    }
    host_set_addresses(h, v.v, v.n);
    mz_vec_free(&v, MZ_MEM_UPSTREAM);
}

static bool name_address(const pb_Endpoint *e, struct mz_err *err)
{
    const pb_Address *a = e->address;
    if (!a || a->address_case != pb_Address_ADDRESS_SOCKET_ADDRESS)
        return mz_err_set(err, "a socket_address is required for a cluster that uses DNS");
    const pb_SocketAddress *s = a->socket_address;
    if (s->port_specifier_case != pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE)
        return mz_err_set(err, "is required") || mz_err_at(err, "socket_address.port_value");
    if (s->port_value > UINT16_MAX)
        return mz_err_set(err, "must be at most 65535, is %u", s->port_value) ||
               mz_err_at(err, "socket_address.port_value");
    if (!s->address[0] || strlen(s->address) > 255)
        return mz_err_set(err, "must be a name of 1 to 255 characters") ||
               mz_err_at(err, "socket_address.address");
    return true;
}

static bool endpoint_check(const pb_ClusterLoadAssignment *m, const pb_LbEndpoint *e,
                           enum cluster_type type, struct mz_err *err)
{
    const pb_Endpoint *ep = endpoint_of(m, e);
    struct mz_addr addr;
    if (!ep)
        return mz_err_set(err,
                          e->host_identifier_case == pb_LbEndpoint_HOST_IDENTIFIER_ENDPOINT_NAME
                              ? "unknown endpoint name"
                              : "an endpoint is required");
    if (e->load_balancing_weight && !e->load_balancing_weight->value)
        return mz_err_set(err, "must be at least 1") || mz_err_at(err, "load_balancing_weight");
    if (!checker_host_check(ep, err))
        return mz_err_at(err, "endpoint");
    bool fixed = type == CLUSTER_STATIC || type == CLUSTER_EDS;
    if (fixed && !additional_check(ep, err))
        return mz_err_at(err, "endpoint");
    return (fixed ? endpoint_address(ep->address, &addr, err) : name_address(ep, err)) ||
           mz_err_at(err, "endpoint.address");
}

static void endpoint_count(const pb_LbEndpoint *e, struct endpoints_count *n)
{
    const struct mz_host probe = { .health_flags = host_eds_flags((int)e->health_status) };
    enum mz_host_health h = mz_host_health(&probe);
    n->total++;
    n->excluded += host_excluded(&probe);
    n->healthy += h == MZ_HOST_HEALTHY;
    n->degraded += h == MZ_HOST_DEGRADED;
}

static bool locality_check(const pb_ClusterLoadAssignment *m, const pb_LocalityLbEndpoints *l,
                           enum cluster_type type, struct endpoints_count *n, struct mz_err *err)
{
    uint64_t weights = 0;
    if (l->priority > MAX_PRIORITY)
        return mz_err_set(err, "must be at most %d, is %u", MAX_PRIORITY, l->priority) ||
               mz_err_at(err, "priority");
    for (size_t i = 0; i < l->n_lb_endpoints; i++) {
        if (!endpoint_check(m, l->lb_endpoints[i], type, err))
            return mz_err_at(err, "lb_endpoints[%zu]", i);
        endpoint_count(l->lb_endpoints[i], n);
        weights += mz_u32_or(l->lb_endpoints[i]->load_balancing_weight, 1);
    }
    if (weights > UINT32_MAX)
        return mz_err_set(
            err, "The sum of weights of all upstream hosts in a locality exceeds 4294967295");
    return true;
}

bool endpoints_check(const pb_ClusterLoadAssignment *a, enum cluster_type type,
                     struct endpoints_count *out_count, struct mz_err *err)
{
    struct endpoints_count n = { 0 };
    bool seen[MAX_PRIORITY + 1] = { false };
    for (size_t i = 0; a && i < a->n_endpoints; i++) {
        const pb_LocalityLbEndpoints *l = a->endpoints[i];
        if (!locality_check(a, l, type, &n, err))
            return mz_err_at(err, "endpoints[%zu]", i);
        n.changed += l->n_lb_endpoints && !seen[l->priority];
        seen[l->priority] |= l->n_lb_endpoints > 0;
    }
    if (type == CLUSTER_LOGICAL_DNS &&
        (!a || a->n_endpoints != 1 || a->endpoints[0]->n_lb_endpoints != 1))
        return mz_err_set(err, "LOGICAL_DNS clusters must have a single locality_lb_endpoint and a "
                               "single lb_endpoint");
    n.added = n.total;
    *out_count = n;
    return true;
}

bool endpoints_drop(const pb_ClusterLoadAssignment_Policy *m, uint32_t *out_millionths,
                    struct mz_err *err)
{
    static const uint32_t parts[] = { 100, 10000, 1000000 }; /* FractionalPercent.DenominatorType */
    const pb_FractionalPercent *p =
        m->n_drop_overloads ? m->drop_overloads[0]->drop_percentage : NULL;
    uint32_t of = p && (size_t)p->denominator < MZ_COUNT(parts) ? parts[p->denominator] : 0;
    *out_millionths = 0;
    if (m->n_drop_overloads > 1)
        return mz_err_set(err, "only one category is supported, there are %zu",
                          m->n_drop_overloads) ||
               mz_err_at(err, "drop_overloads");
    if (p && (!of || p->numerator > of))
        return mz_err_set(err, "must be at most 1, is %u/%u", p->numerator, of) ||
               mz_err_at(err, "drop_overloads[0].drop_percentage");
    if (p)
        *out_millionths = p->numerator * (1000000 / of);
    return true;
}

struct locality_spec locality_spec_of(const pb_LocalityLbEndpoints *l)
{
    const pb_Locality *at = l->locality;
    return (struct locality_spec){ .region = mz_str_c(at ? at->region : NULL),
                                   .zone = mz_str_c(at ? at->zone : NULL),
                                   .sub_zone = mz_str_c(at ? at->sub_zone : NULL),
                                   .weight = mz_u32_or(l->load_balancing_weight, 0),
                                   .priority = l->priority,
                                   .metadata = l->metadata };
}

/* What of an endpoint cannot change on a host that lives. */
static uint64_t made_of(const pb_LbEndpoint *e, const pb_Endpoint *ep,
                        const struct locality_spec *l)
{
    uint64_t hash = e->metadata ? mz_msg_hash(&e->metadata->base) : 0;
    if (l->metadata)
        hash = hash * 31 + mz_msg_hash(&l->metadata->base);
    if (!ep->health_check_config && !ep->n_additional_addresses)
        return hash;
    pb_Endpoint rest = *ep; /* what is compared by itself is left out */
    rest.address = NULL;
    rest.hostname = (char *)(uintptr_t) "";
    return hash * 31 + mz_msg_hash(&rest.base);
}

/* What an endpoint says of its host besides the address. */
void endpoint_apply(struct mz_host *h, const pb_LbEndpoint *e, const struct locality_spec *l)
{
    static const struct mz_str canary = MZ_STR_INIT("canary");
    h->eds_status = (uint8_t)e->health_status;
    h->health_flags = host_eds_flags((int)e->health_status);
    if (e->metadata || l->metadata)
        h->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    if (l->metadata)
        h->locality_metadata = mz_meta_build(l->metadata, h->arena);
    if (e->metadata) {
        h->metadata = mz_meta_build(e->metadata, h->arena);
        const struct mz_value *v = mz_meta_get(h->metadata, MZ_STR("envoy.lb"), &canary, 1);
        h->canary = v && v->kind == MZ_VALUE_BOOL && v->b;
    }
    host_transport_set(h);
}

/* May the host go on, though its endpoint is described anew? Weight and health follow; what workers read without looking
 * twice makes another host. */
static bool same_host(const struct mz_host *h, const pb_LbEndpoint *e, const pb_Endpoint *ep,
                      const struct locality_spec *l)
{
    return h->priority == l->priority && mz_str_eq(h->hostname, mz_str_c(ep->hostname)) &&
           mz_str_eq(h->region, l->region) && mz_str_eq(h->zone, l->zone) &&
           mz_str_eq(h->sub_zone, l->sub_zone) && made_of(e, ep, l) == h->made_of;
}

static void host_follow(struct mz_host *h, const pb_LbEndpoint *e)
{
    enum { OF_EDS = MZ_HOST_FAILED_EDS | MZ_HOST_DEGRADED_EDS | MZ_HOST_DRAINING_EDS };
    uint32_t old = __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED), now;
    uint32_t set = host_eds_flags((int)e->health_status);
    __atomic_store_n(&h->weight, mz_u32_or(e->load_balancing_weight, 1), __ATOMIC_RELAXED);
    __atomic_store_n(&h->eds_status, (uint8_t)e->health_status, __ATOMIC_RELAXED);
    do
        now = (old & ~(uint32_t)(OF_EDS | MZ_HOST_PENDING_REMOVAL)) | set;
    while (!__atomic_compare_exchange_n(&h->health_flags, &old, now, true, __ATOMIC_RELAXED,
                                        __ATOMIC_RELAXED));
}

static struct mz_host *host_of(struct mz_cluster *c, const pb_LbEndpoint *e, const pb_Endpoint *ep,
                               const struct mz_addr *addr, const struct locality_spec *l,
                               const struct host_map *known)
{
    struct mz_host *old = known ? host_map_find(known, addr) : NULL;
    if (old && same_host(old, e, ep, l)) {
        host_follow(old, e);
        return mz_host_ref(old);
    }
    struct host_text t = { mz_str_c(ep->hostname), l };
    struct mz_host *h =
        host_create(c, addr, &t, mz_u32_or(e->load_balancing_weight, 1), l->priority);
    if (ep->n_additional_addresses)
        additional_build(h, ep);
    endpoint_apply(h, e, l);
    h->made_of = made_of(e, ep, l);
    checker_host(cluster_priv(c)->checker, h, ep);
    if (old)
        checker_inherit(h, old); /* the server is the same */
    return h;
}

struct build {
    MZ_VEC(struct host_spec) hosts;
    MZ_VEC(struct locality_spec) places;
    struct host_map named; /* of EDS, an address counts once (Envoy) */
};

/* Hosts that are named no more: those that pass their active checks stay (Envoy), the others' connections end. */
static void hosts_gone(struct mz_cluster *c, const struct host_sets *before, struct build *b)
{
    const struct checker *k = cluster_priv(c)->checker;
    for (uint32_t i = 0; i < before->n_hosts; i++) {
        struct mz_host *h = before->hosts[i], *now = host_map_find(&b->named, &h->addr);
        if (now == h)
            continue;
        if (now || !k || !checker_keeps(k, h)) {
            __atomic_fetch_or(&h->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
            continue;
        }
        __atomic_fetch_or(&h->health_flags, MZ_HOST_PENDING_REMOVAL, __ATOMIC_RELAXED);
        *mz_vec_push(&b->places, MZ_MEM_UPSTREAM) =
            (struct locality_spec){ h->region, h->zone, h->sub_zone, 1, h->priority, NULL };
        *mz_vec_push(&b->hosts, MZ_MEM_UPSTREAM) =
            (struct host_spec){ mz_host_ref(h), (uint32_t)b->places.n - 1 };
    }
}

struct host_sets *endpoints_build(struct mz_cluster *c, const pb_ClusterLoadAssignment *a,
                                  const struct host_sets *before, uint64_t seq)
{
    struct build b = { .places.n = 0 };
    const struct host_map *known =
        before ? host_sets_map((struct host_sets *)(uintptr_t)before) : NULL;
    for (size_t i = 0; a && i < a->n_endpoints; i++) {
        const pb_LocalityLbEndpoints *l = a->endpoints[i];
        *mz_vec_push(&b.places, MZ_MEM_UPSTREAM) = locality_spec_of(l);
        for (size_t k = 0; k < l->n_lb_endpoints; k++) {
            const pb_LbEndpoint *e = l->lb_endpoints[k];
            const pb_Endpoint *ep = endpoint_of(a, e);
            struct mz_addr addr;
            struct mz_err err;
            if (MZ_BUG(!ep || !endpoint_address(ep->address, &addr,
                                                &err))) /* was checked when the cluster was added */
                continue;
            if (c->type == CLUSTER_EDS && host_map_find(&b.named, &addr))
                continue;
            struct mz_host *h = host_of(c, e, ep, &addr, &b.places.v[i], known);
            if (c->type == CLUSTER_EDS)
                host_map_put(&b.named, h);
            *mz_vec_push(&b.hosts, MZ_MEM_UPSTREAM) = (struct host_spec){ h, (uint32_t)i };
        }
    }
    if (before)
        hosts_gone(c, before, &b);
    struct host_sets *s =
        host_sets_create(b.hosts.v, (uint32_t)b.hosts.n, b.places.v, (uint32_t)b.places.n,
                         cluster_priv(c)->lb.localities, seq);
    mz_vec_free(&b.hosts, MZ_MEM_UPSTREAM);
    mz_vec_free(&b.places, MZ_MEM_UPSTREAM);
    host_map_fini(&b.named);
    if (cluster_priv(c)->lb.subsets)
        subsets_build(cluster_priv(c)->lb.subsets, s);
    return s;
}

static const pb_ClusterLoadAssignment *kept_assignment(struct mz_cluster *c,
                                                       struct mz_proto_ctx *ctx)
{
    struct mz_err err;
    ProtobufCMessage *m = NULL;
    char text[256];
    if (c->type == CLUSTER_EDS && !eds_bytes(c).p)
        return NULL; /* nothing came yet */
    if (c->type == CLUSTER_EDS
            ? mz_msg_unpack(ctx, eds_bytes(c), &pb_ClusterLoadAssignment__descriptor, &m, &err)
            : mz_msg_unpack(ctx, cluster_priv(c)->entry->bytes, &pb_Cluster__descriptor, &m, &err))
        return c->type == CLUSTER_EDS ? (const pb_ClusterLoadAssignment *)m
                                      : ((const pb_Cluster *)m)->load_assignment;
    MZ_LOG(ERROR, upstream, "cluster " MZ_STR_FMT ": kept message is unreadable: %s",
           MZ_STR_ARG(c->name), mz_err_text(&err, text, sizeof(text)));
    return NULL;
}

struct host_sets *endpoints_of_bytes(struct mz_cluster *c)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct cluster_priv *p = cluster_priv(c);
    struct host_sets *s = endpoints_build(c, kept_assignment(c, &ctx), NULL, p->seq ? p->seq : 1);
    mz_arena_destroy(ctx.arena);
    return s;
}
