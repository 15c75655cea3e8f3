/* Sockets of a cluster's connections (U3): source address, keep-alive, options; and its DNS settings (U1). */
#include "upstream/upstream_priv.h"
#include <netinet/tcp.h>

#ifndef IP_FREEBIND
#define IP_FREEBIND 15
#endif
#define DEFAULT_REFRESH_MS 5000

static void option_int(struct mz_socket_opts *o, int level, int name, enum mz_socket_state state,
                       int value)
{
    o->v[o->n++] = (struct mz_socket_opt){
        .level = level, .name = name, .state = state, .is_int = true, .value = value
    };
}

static bool option_build(const pb_SocketOption *m, struct mz_cluster *c, struct mz_socket_opts *o,
                         struct mz_err *err)
{
    if (m->level < 0 || m->level > INT32_MAX || m->name < 0 || m->name > INT32_MAX)
        return mz_err_set(err, "level and name must be numbers of the system's socket options");
    struct mz_socket_opt *s = &o->v[o->n];
    *s = (struct mz_socket_opt){ .level = (int)m->level, .name = (int)m->name };
    static const enum mz_socket_state states[] = { MZ_SOCK_PREBIND, MZ_SOCK_BOUND,
                                                   MZ_SOCK_LISTENING };
    if ((unsigned)m->state >= MZ_COUNT(states))
        return mz_err_set(err, "unknown state %d", (int)m->state) || mz_err_at(err, "state");
    s->state = states[m->state];
    switch (m->value_case) {
    case pb_SocketOption_VALUE_INT_VALUE:
        if (m->int_value < INT32_MIN || m->int_value > INT32_MAX)
            return mz_err_set(err, "must fit 32 bits") || mz_err_at(err, "int_value");
        s->is_int = true;
        s->value = (int)m->int_value;
        break;
    case pb_SocketOption_VALUE_BUF_VALUE: {
        char *copy = cluster_keep(c, m->buf_value.len + 1);
        if (m->buf_value.len)
            memcpy(copy, m->buf_value.data, m->buf_value.len);
        s->bytes = (struct mz_str){ copy, m->buf_value.len };
        break;
    }
    default:
        return mz_err_set(err, "one of int_value, buf_value is required");
    }
    o->n++;
    return true;
}

static void keepalive_build(const pb_TcpKeepalive *k, struct mz_socket_opts *o)
{
    option_int(o, SOL_SOCKET, SO_KEEPALIVE, MZ_SOCK_PREBIND, 1);
    if (k->keepalive_probes)
        option_int(o, IPPROTO_TCP, TCP_KEEPCNT, MZ_SOCK_PREBIND, (int)k->keepalive_probes->value);
    if (k->keepalive_interval)
        option_int(o, IPPROTO_TCP, TCP_KEEPINTVL, MZ_SOCK_PREBIND,
                   (int)k->keepalive_interval->value);
    if (k->keepalive_time)
        option_int(o, IPPROTO_TCP, TCP_KEEPIDLE, MZ_SOCK_PREBIND, (int)k->keepalive_time->value);
}

static bool source_address(const pb_SocketAddress *m, struct mz_cluster *c,
                           struct mz_conn_source *out, struct mz_err *err)
{
    struct mz_addr a, *kept;
    if (!address_build(m, &a, err))
        return false;
    kept = cluster_keep(c, sizeof(a));
    *kept = a;
    out->addr = kept;
    return true;
}

/* What all sockets of the cluster have, then @v. */
static bool options_build(const pb_Cluster *m, pb_SocketOption *const *v, size_t n,
                          struct mz_cluster *c, struct mz_conn_source *out, struct mz_err *err)
{
    const pb_BindConfig *b = m->upstream_bind_config;
    const pb_UpstreamConnectionOptions *u = m->upstream_connection_options;
    const size_t fixed = 5; /* keep-alive and freebind */
    struct mz_socket_opts *o = cluster_keep(c, sizeof(*o));
    *o = (struct mz_socket_opts){ .v = cluster_keep(c, mz_mul(fixed + n, sizeof(*o->v))) };
    if (u && u->tcp_keepalive)
        keepalive_build(u->tcp_keepalive, o);
    if (b && mz_bool_or(b->freebind, false))
        option_int(o, IPPROTO_IP, IP_FREEBIND, MZ_SOCK_PREBIND, 1);
    for (size_t i = 0; i < n; i++)
        if (!option_build(v[i], c, o, err))
            return mz_err_at(err, "socket_options[%zu]", i);
    out->opts = o->n ? o : NULL;
    return true;
}

/* A source of the other family. */
static bool extra_build(const pb_Cluster *m, const pb_ExtraSourceAddress *e, struct mz_cluster *c,
                        struct mz_err *err)
{
    struct mz_conn_source *v = cluster_priv(c)->sources;
    if (!e->address)
        return mz_err_set(err, "is required") || mz_err_at(err, "address");
    if (!source_address(e->address, c, &v[1], err))
        return mz_err_at(err, "address");
    if (v[1].addr->sa.sa_family == v[0].addr->sa.sa_family)
        return mz_err_set(err, "must be of another family than source_address") ||
               mz_err_at(err, "address");
    v[1].opts = v[0].opts;
    return !e->socket_options ||
           options_build(m, e->socket_options->socket_options, e->socket_options->n_socket_options,
                         c, &v[1], err) ||
           mz_err_at(err, "socket_options");
}

static bool bind_build(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    const pb_BindConfig *b = m->upstream_bind_config;
    struct mz_conn_source *v = cluster_priv(c)->sources;
    if (b->source_address && !source_address(b->source_address, c, &v[0], err))
        return mz_err_at(err, "source_address");
    if (!options_build(m, b->socket_options, b->n_socket_options, c, &v[0], err))
        return false;
    if (!b->n_extra_source_addresses)
        return true;
    if (!b->source_address || b->n_extra_source_addresses > 1)
        return mz_err_set(err, "at most one, and not without source_address") ||
               mz_err_at(err, "extra_source_addresses");
    return extra_build(m, b->extra_source_addresses[0], c, err) ||
           mz_err_at(err, "extra_source_addresses[0]");
}

static bool eyeballs_build(const pb_UpstreamConnectionOptions_HappyEyeballsConfig *m,
                           struct cluster_priv *p, struct mz_err *err)
{
    /* Addresses of internal listeners do not exist here: preferring them is preferring none. */
    static const int families[] = { AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX, AF_NETLINK };
    p->first_count = 1;
    if (!m)
        return true;
    if ((unsigned)m->first_address_family_version <
        MZ_COUNT(families)) /* Envoy takes others as DEFAULT */
        p->first_family = families[m->first_address_family_version];
    p->first_count = mz_u32_or(m->first_address_family_count, 1);
    return p->first_count || mz_err_set(err, "must be at least 1, is 0") ||
           mz_err_at(err, "first_address_family_count");
}

bool cluster_socket_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    const pb_BindConfig *b = m->upstream_bind_config;
    const pb_UpstreamConnectionOptions *u = m->upstream_connection_options;
    if (!eyeballs_build(u ? u->happy_eyeballs_config : NULL, cluster_priv(c), err))
        return mz_err_at(err, "upstream_connection_options.happy_eyeballs_config");
    if (!b && !u)
        return true;
    if (u && u->set_local_interface_name_on_upstream_connections)
        return mz_err_set(err, "not supported yet") ||
               mz_err_at(
                   err,
                   "upstream_connection_options.set_local_interface_name_on_upstream_connections");
    if (!b)
        return options_build(m, NULL, 0, c, &cluster_priv(c)->sources[0], err);
    return bind_build(m, c, err) || mz_err_at(err, "upstream_bind_config");
}

static bool resolvers_build(pb_Address *const *v, size_t n, const pb_DnsResolverOptions *opts,
                            struct dns_config *d, const struct dns_keep *keep, struct mz_err *err)
{
    d->servers = n ? keep->alloc(keep->arg, mz_mul(n, sizeof(*d->servers))) : NULL;
    for (size_t i = 0; i < n; i++) {
        if (v[i]->address_case != pb_Address_ADDRESS_SOCKET_ADDRESS)
            return mz_err_set(err, "a socket_address is required") ||
                   mz_err_at(err, "resolvers[%zu]", i);
        const pb_SocketAddress *a = v[i]->socket_address;
        uint16_t port = a->port_specifier_case == pb_SocketAddress_PORT_SPECIFIER_PORT_VALUE
                            ? (uint16_t)a->port_value
                            : 53;
        if (!mz_addr_parse_ip(mz_str_c(a->address), port, &d->servers[i]))
            return mz_err_set(err, "malformed IP address: %s", a->address) ||
                   mz_err_at(err, "resolvers[%zu].socket_address", i);
    }
    d->n_servers = n;
    if (opts) {
        d->use_tcp = opts->use_tcp_for_dns_lookups;
        d->no_default_search = opts->no_default_search_domain;
    }
    return true;
}

bool dns_resolver_build(const pb_TypedExtensionConfig *m, struct dns_config *d,
                        const struct dns_keep *keep, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg;
    bool ok =
        mz_any_unpack_as(&ctx, m->typed_config, &pb_CaresDnsResolverConfig__descriptor, &msg, err);
    if (ok) {
        const pb_CaresDnsResolverConfig *r = (const pb_CaresDnsResolverConfig *)msg;
        uint64_t seconds = mz_u64_or(r->query_timeout_seconds, 0);
        d->udp_max = mz_u32_or(r->udp_max_queries, 0);
        d->tries = mz_u32_or(r->query_tries, 0);
        d->timeout_ms = seconds < INT32_MAX / 1000 ? (uint32_t)seconds * 1000 : INT32_MAX;
        d->rotate = r->rotate_nameservers;
        if (r->use_resolvers_as_fallback || r->filter_unroutable_families)
            ok = mz_err_set(err, "use_resolvers_as_fallback and filter_unroutable_families are "
                                 "not supported yet");
        else
            ok = resolvers_build(r->resolvers, r->n_resolvers, r->dns_resolver_options, d, keep,
                                 err);
    }
    mz_arena_destroy(ctx.arena);
    return ok || mz_err_at(err, "typed_dns_resolver_config.typed_config");
}

static bool interval(const pb_Duration *d, const char *field, uint32_t *io_ms, struct mz_err *err)
{
    uint64_t ms;
    if (!mz_duration_ms(d, *io_ms, &ms, err))
        return mz_err_at(err, "%s", field);
    if (d && !ms)
        return mz_err_set(err, "must be greater than 0s") || mz_err_at(err, "%s", field);
    *io_ms = ms > UINT32_MAX ? UINT32_MAX : (uint32_t)ms;
    return true;
}

static bool rates_build(const pb_Cluster *m, struct dns_config *d, struct mz_err *err)
{
    d->refresh_ms = DEFAULT_REFRESH_MS;
    if (!interval(m->dns_refresh_rate, "dns_refresh_rate", &d->refresh_ms, err))
        return false;
    d->failure_base_ms = d->failure_max_ms = d->refresh_ms;
    const pb_Cluster_RefreshRate *f = m->dns_failure_refresh_rate;
    if (f) {
        if (!f->base_interval)
            return mz_err_set(err, "is required") ||
                   mz_err_at(err, "dns_failure_refresh_rate.base_interval");
        if (!interval(f->base_interval, "dns_failure_refresh_rate.base_interval",
                      &d->failure_base_ms, err))
            return false;
        d->failure_max_ms =
            d->failure_base_ms > UINT32_MAX / 10 ? UINT32_MAX : d->failure_base_ms * 10;
        if (!interval(f->max_interval, "dns_failure_refresh_rate.max_interval", &d->failure_max_ms,
                      err))
            return false;
        if (d->failure_max_ms < d->failure_base_ms)
            return mz_err_set(err, "must not be less than base_interval") ||
                   mz_err_at(err, "dns_failure_refresh_rate.max_interval");
    }
    uint64_t jitter;
    if (!mz_duration_ms(m->dns_jitter, 0, &jitter, err))
        return mz_err_at(err, "dns_jitter");
    d->jitter_ms = jitter > UINT32_MAX ? UINT32_MAX : (uint32_t)jitter;
    return true;
}

static void *keep_in_cluster(void *c, size_t n)
{
    return cluster_keep(c, n);
}

bool cluster_dns_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    static const enum mz_dns_family families[] = { MZ_DNS_AUTO, MZ_DNS_V4_ONLY, MZ_DNS_V6_ONLY,
                                                   MZ_DNS_V4_PREFERRED, MZ_DNS_ALL };
    if (c->type != CLUSTER_STRICT_DNS && c->type != CLUSTER_LOGICAL_DNS)
        return true;
    const struct dns_keep keep = { keep_in_cluster, c };
    struct dns_config *d = cluster_priv(c)->dns_config = cluster_keep(c, sizeof(*d));
    if ((unsigned)m->dns_lookup_family >= MZ_COUNT(families))
        return mz_err_set(err, "unknown family %d", (int)m->dns_lookup_family) ||
               mz_err_at(err, "dns_lookup_family");
    d->family = families[m->dns_lookup_family];
    d->respect_ttl = m->respect_dns_ttl;
    d->wait_for_warm = mz_bool_or(m->wait_for_warm_on_init, true);
    d->use_tcp = m->use_tcp_for_dns_lookups;
    if (!rates_build(m, d, err))
        return false;
    if (m->typed_dns_resolver_config)
        return dns_resolver_build(m->typed_dns_resolver_config, d, &keep, err);
    const pb_DnsResolutionConfig *r = m->dns_resolution_config;
    return !r ||
           resolvers_build(r->resolvers, r->n_resolvers, r->dns_resolver_options, d, &keep, err) ||
           mz_err_at(err, "dns_resolution_config");
}
