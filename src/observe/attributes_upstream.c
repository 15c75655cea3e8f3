#include "observe/attributes_priv.h"

/* upstream.*, xds.*, and what either end of a connection tells of its TLS. */

/* ---- TLS ---- */

static bool give_first(struct mz_cel_value *out, const struct mz_tls_names *names)
{
    return names->n && give_str(out, names->v[0]);
}

#define TLS(name, give)                                                                            \
    bool attributes_tls_##name(const struct mz_tls_facts *f, struct mz_cel_value *out)             \
    {                                                                                              \
        return give;                                                                               \
    }
TLS(tls_version, give_str(out, f->version))
TLS(subject_local_certificate, give_str(out, f->own.subject))
TLS(subject_peer_certificate, give_str(out, f->peer.subject))
TLS(uri_san_local_certificate, give_first(out, &f->own.uri_sans))
TLS(uri_san_peer_certificate, give_first(out, &f->peer.uri_sans))
TLS(dns_san_local_certificate, give_first(out, &f->own.dns_sans))
TLS(dns_san_peer_certificate, give_first(out, &f->peer.dns_sans))
TLS(sha256_peer_certificate_digest, f->peer_presented &&give_str(out, f->peer.sha256))
TLS(peer_certificate, f->peer_presented &&give_str(out, f->peer.pem))

/* ---- upstream ---- */

FIELD(upstream_address)
{
    return give_addr(out, &c->info->up.host, a);
}

FIELD(upstream_port)
{
    (void)a;
    return give_port(out, &c->info->up.host);
}

FIELD(upstream_local_address)
{
    return give_addr(out, &c->info->up.local, a);
}

FIELD(upstream_locality)
{
    if (!c->info->up.place)
        return false;
    give_locality(out, c->info->up.place, a);
    return true;
}

FIELD(upstream_failure)
{
    (void)a;
    const struct mz_stream_info *i = c->info;
    return (i->up.host.len || i->up.transport_failure.n) &&
           give_str(out, i->up.transport_failure.n ? i->up.transport_failure : MZ_STR(""));
}

FIELD(upstream_ready)
{
    (void)a;
    return give_span(out, c->info->up.begin_us, c->info->up.pool_ready_us);
}

FIELD(upstream_attempts)
{
    (void)a;
    *out = mz_cel_uint(c->info->attempts);
    return true;
}

FIELD(upstream_endpoints)
{
    (void)a;
    const struct mz_stream_info *i = c->info;
    if (!i->up.members.scope)
        return false;
    *out = mz_cel_uint(mz_scope_value(i->up.members.scope, i->up.members.i));
    return true;
}

#define UPSTREAM_TLS(name)                                                                         \
    FIELD(upstream_##name)                                                                         \
    {                                                                                              \
        (void)a;                                                                                   \
        return c->info->up.tls && attributes_tls_##name(c->info->up.tls, out);                     \
    }
ATTRIBUTES_TLS(UPSTREAM_TLS)

const struct field attributes_upstream[ATTRIBUTES_UPSTREAM] = {
    { MZ_STR_INIT("address"), upstream_address },
    { MZ_STR_INIT("port"), upstream_port },
    { MZ_STR_INIT("local_address"), upstream_local_address },
    { MZ_STR_INIT("locality"), upstream_locality },
    { MZ_STR_INIT("transport_failure_reason"), upstream_failure },
    { MZ_STR_INIT("cx_pool_ready_duration"), upstream_ready },
    { MZ_STR_INIT("request_attempt_count"), upstream_attempts },
    { MZ_STR_INIT("num_endpoints"), upstream_endpoints },
#define X(name) { MZ_STR_INIT(#name), upstream_##name },
    ATTRIBUTES_TLS(X)
#undef X
};

/* ---- xds ---- */

FIELD(xds_node)
{
    (void)c, (void)a;
    return give_node(out);
}

FIELD(xds_cluster_name)
{
    (void)a;
    return c->info->route.cluster_raw.n && give_str(out, c->info->route.cluster_raw);
}

FIELD(xds_cluster_metadata)
{
    (void)a;
    return c->info->route.cluster_raw.n && give_meta(out, c->info->up.cluster_metadata);
}

FIELD(xds_route_name)
{
    (void)a;
    struct mz_str name = c->info->route.route_name;
    return give_str(out, name.n ? name : MZ_STR(""));
}

FIELD(xds_route_metadata)
{
    (void)a;
    return give_meta(out, c->info->route_metadata);
}

FIELD(xds_vhost_name)
{
    (void)a;
    return c->info->route.vhost_name.n && give_str(out, c->info->route.vhost_name);
}

FIELD(xds_vhost_metadata)
{
    (void)a;
    return give_meta(out, c->info->vhost_metadata);
}

FIELD(xds_host_metadata)
{
    (void)a;
    return c->info->up.metadata && give_meta(out, c->info->up.metadata);
}

FIELD(xds_filter_chain_name)
{
    (void)a;
    struct mz_str name = c->info->filter_chain_name;
    return give_str(out, name.n ? name : MZ_STR(""));
}

FIELD(xds_listener_metadata)
{
    (void)a;
    return give_meta(out, c->info->listener_metadata);
}

FIELD(xds_listener_direction)
{
    (void)a;
    return give_int(out, c->info->listener_direction);
}

FIELD(xds_locality_metadata)
{
    (void)a;
    return c->info->up.locality_metadata && give_meta(out, c->info->up.locality_metadata);
}

const struct field attributes_xds[ATTRIBUTES_XDS] = {
    { MZ_STR_INIT("node"), xds_node },
    { MZ_STR_INIT("cluster_name"), xds_cluster_name },
    { MZ_STR_INIT("cluster_metadata"), xds_cluster_metadata },
    { MZ_STR_INIT("route_name"), xds_route_name },
    { MZ_STR_INIT("route_metadata"), xds_route_metadata },
    { MZ_STR_INIT("virtual_host_name"), xds_vhost_name },
    { MZ_STR_INIT("virtual_host_metadata"), xds_vhost_metadata },
    { MZ_STR_INIT("upstream_host_metadata"), xds_host_metadata },
    { MZ_STR_INIT("upstream_host_locality_metadata"), xds_locality_metadata },
    { MZ_STR_INIT("filter_chain_name"), xds_filter_chain_name },
    { MZ_STR_INIT("listener_metadata"), xds_listener_metadata },
    { MZ_STR_INIT("listener_direction"), xds_listener_direction },
};
