/* LDS of gateways: a listener per port, a chain for all plain HTTP of it, else one per server or per TLS route. */
#include "control/translate/extensions.h"
#include "control/translate/gateway.h"
#include "control/translate/mesh.h"
#include "control/translate/tcp_routes.h"
#include "control/translate/telemetry.h"
#include "control/translate/tell.h"

struct listening { /* one port and address being built */
    struct mz_view *v;
    struct mz_arena *a;
    pb_Listener *m;
    const char *bind;
    uint16_t port;
    struct mz_map names; /* server names of chains that are there */
    struct mz_map had;   /* hosts of servers, for tr_server_meets() */
    struct mz_map tls;   /* VirtualServices whose TLS routes are there, at a Gateway's port */
    struct mz_map first; /* to struct first */
    size_t others;       /* chains of the listeners before it */
    bool inspects;
};

static pb_FilterChain *add_chain(struct listening *l)
{
    pb_FilterChain *c = TR_NEW(l->a, FilterChain);
    c->transport_socket_connect_timeout = tr_mesh_handshake(l->v, l->a);
    TR_ADD(l->a, l->m, filter_chains) = c;
    return c;
}

static int compare_texts(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

/* "*" among them is every name: then nothing is to be told apart. Proxies refuse a name that stands there twice. */
static void match_names(struct listening *l, pb_FilterChain *c, const struct mz_str *v, size_t n)
{
    bool all = false;
    l->inspects = true;
    for (size_t i = 0; i < n; i++)
        all |= mz_str_eq(v[i], MZ_STR("*"));
    if (all || !n)
        return;
    struct mz_str *sorted = mz_arena_alloc(l->a, n * sizeof(*sorted));
    memcpy(sorted, v, n * sizeof(*sorted));
    mz_sort(sorted, n, sizeof(*sorted), compare_texts);
    c->filter_chain_match = TR_NEW(l->a, FilterChainMatch);
    for (size_t i = 0; i < n; i++)
        if (!i || !mz_str_eq(sorted[i], sorted[i - 1]))
            TR_ADD(l->a, c->filter_chain_match, server_names) = tr_text(l->a, sorted[i]);
}

static void match_server(struct listening *l, pb_FilterChain *c, const struct tr_server *s)
{
    struct mz_str *names = mz_arena_alloc(l->a, s->hosts_n * sizeof(*names));
    for (size_t i = 0; i < s->hosts_n; i++) {
        const ptrdiff_t slash = mz_str_chr(s->hosts[i], '/');
        names[i] = slash < 0 ? s->hosts[i] : mz_str_skip(s->hosts[i], (size_t)slash + 1);
    }
    match_names(l, c, names, s->hosts_n);
}

static void http_chain(struct listening *l, const struct tr_server *s)
{
    struct mz_arena *a = l->a;
    pb_FilterChain *c = add_chain(l);
    const bool named = !s->plain_http && s->s->name[0];
    const struct tr_at at = { TR_GATEWAY, l->port,
                              mz_protocol_parse(mz_str_c(s->s->port->protocol)) ==
                                  MZ_PROTOCOL_GRPC_WEB };
    pb_HttpConnectionManager *h = tr_http_manager(
        l->v, a, &at, named ? s->s->name : TR_PRINTF(a, "outbound_%s_%u;", l->bind, l->port));
    h->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS;
    h->rds = TR_NEW(a, Rds);
    h->rds->config_source = tr_ads(a);
    h->rds->route_config_name = tr_text(a, s->route);
    tr_http_filters(l->v, a, c, &at, h);
    if (s->plain_http)
        return;
    match_server(l, c, s);
    c->transport_socket = tr_gateway_tls(l->v, a, s);
}

static struct tr_routing routing(struct listening *l, const struct tr_server *s,
                                 const struct mz_virtual *vs)
{
    return (struct tr_routing){ .v = l->v,
                                .a = l->a,
                                .vs = vs,
                                .gateways = { &s->gateway_name, 1 },
                                .port = (uint16_t)s->s->port->number,
                                .whole = true };
}

/* Of what is known of a VirtualService at the port of a Gateway, whichever of its servers asks. */
struct key {
    const struct mz_virtual *vs;
    const struct mz_gateway *gateway;
    uint64_t port;
};
#define KEY(s, vs)                                                                                 \
    ((struct mz_str){ (const char *)&(struct key){ (vs), (s)->gateway, (s)->s->port->number },     \
                      sizeof(struct key) })

static bool here(const struct tr_routing *r, uint32_t port, char *const *gateways, size_t n)
{
    return (!port || port == r->port) && (!n || tr_gateway_named(r, gateways, n));
}

static bool any_match(const struct tr_routing *r, const ist_TCPRoute *t)
{
    for (size_t i = 0; i < t->n_match; i++)
        if (here(r, t->match[i]->port, t->match[i]->gateways, t->match[i]->n_gateways))
            return true;
    return !t->n_match;
}

static pb_FilterChain *routed_chain(struct listening *l, const struct tr_routing *r,
                                    ist_RouteDestination *const *to, size_t n,
                                    const struct tr_server *s)
{
    const ist_ServerTLSSettings *tls = s->s->tls;
    uint64_t ignored;
    struct tr_tcp t = tr_l4_route(r, to, n, &ignored);
    pb_FilterChain *c = add_chain(l);
    t.protocol = s->protocol;
    t.exchange = tls && tls->mode == ist_ServerTLSSettings_TLSmode_ISTIO_MUTUAL;
    t.port = r->port;
    tr_tcp_filters(l->v, l->a, c, TR_GATEWAY, &t);
    return c;
}

/* A TLSRoute holds where TLS ends, too; what VirtualServices say of TLS is for where it goes through. */
static const ist_TLSRoute *first_tls(const struct tr_routing *r)
{
    const ist_VirtualService *m = r->vs->spec;
    for (size_t i = 0; i < m->n_tls && r->vs->semantics == MZ_SEMANTICS_GATEWAY; i++)
        for (size_t k = 0; k < m->tls[i]->n_match && m->tls[i]->n_route; k++) {
            const ist_TLSMatchAttributes *t = m->tls[i]->match[k];
            if (here(r, t->port, t->gateways, t->n_gateways))
                return m->tls[i];
        }
    return NULL;
}

static const ist_TCPRoute *first_tcp(const struct tr_routing *r)
{
    const ist_VirtualService *m = r->vs->spec;
    for (size_t i = 0; i < m->n_tcp; i++)
        if (m->tcp[i]->n_route && any_match(r, m->tcp[i]))
            return m->tcp[i];
    return NULL;
}

struct first { /* of the routes of a VirtualService that holds at a Gateway's port */
    ist_RouteDestination *const *to;
    size_t n; /* 0: none does */
};

static const struct first *first_route(struct listening *l, const struct tr_server *s,
                                       const struct tr_routing *r)
{
    struct first *f = mz_map_get(&l->first, KEY(s, r->vs));
    if (f)
        return f;
    const ist_TCPRoute *tcp = first_tcp(r);
    const ist_TLSRoute *tls = tcp ? NULL : first_tls(r);
    f = mz_arena_new0(l->a, struct first);
    if (tcp)
        *f = (struct first){ tcp->route, tcp->n_route };
    else if (tls)
        *f = (struct first){ tls->route, tls->n_route };
    (void)mz_map_put(&l->first, mz_arena_dup(l->a, KEY(s, r->vs)), f);
    return f;
}

/* The first route that holds takes all. */
static void tcp_chain(struct listening *l, const struct tr_server *s)
{
    size_t n;
    struct mz_map had;
    mz_map_init(&had, MZ_MEM_XDS); /* each of such servers needs a chain of its own */
    const struct tr_meeting *v = tr_server_meets(l->v, s, &had, l->a, &n);
    mz_map_fini(&had);
    for (size_t i = 0; i < n; i++) {
        if (i && v[i].vs == v[i - 1].vs)
            continue;
        const struct tr_routing r = routing(l, s, v[i].vs);
        const struct first *f = first_route(l, s, &r);
        if (!f->n)
            continue;
        pb_FilterChain *c = routed_chain(l, &r, f->to, f->n, s);
        if (!s->s->tls)
            return;
        match_server(l, c, s);
        c->transport_socket = tr_gateway_tls(l->v, l->a, s);
        return;
    }
}

static bool names_are_new(struct listening *l, const struct mz_str *v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (mz_map_get(&l->names, v[i]))
            return false;
    for (size_t i = 0; i < n; i++)
        (void)mz_map_put(&l->names, v[i], l);
    return true;
}

static void tls_chains_of(struct listening *l, const struct tr_server *s,
                          const struct tr_routing *r)
{
    for (size_t i = 0; i < r->vs->spec->n_tls; i++) {
        const ist_TLSRoute *t = r->vs->spec->tls[i];
        for (size_t k = 0; k < t->n_match && t->n_route; k++) {
            const ist_TLSMatchAttributes *m = t->match[k];
            struct mz_str *names = mz_arena_alloc(l->a, m->n_sni_hosts * sizeof(*names));
            for (size_t j = 0; j < m->n_sni_hosts; j++)
                names[j] = mz_str_c(m->sni_hosts[j]);
            if (!here(r, m->port, m->gateways, m->n_gateways) ||
                !names_are_new(l, names, m->n_sni_hosts))
                continue;
            match_names(l, routed_chain(l, r, t->route, t->n_route, s), names, m->n_sni_hosts);
        }
    }
}

/* By server name, without a look inside. */
static void tls_chains(struct listening *l, const struct tr_server *s)
{
    size_t n;
    const struct tr_meeting *v = tr_server_meets(l->v, s, &l->had, l->a, &n);
    for (size_t i = 0; i < n; i++) {
        const struct tr_routing r = routing(l, s, v[i].vs);
        if (mz_map_get(&l->tls, KEY(s, v[i].vs)))
            continue;
        (void)mz_map_put(&l->tls, mz_arena_dup(l->a, KEY(s, v[i].vs)), l);
        tls_chains_of(l, s, &r);
    }
}

/* ---- AUTO_PASSTHROUGH: the server name is that of a cluster ---- */

static bool is_within_server(const struct tr_server *s, struct mz_str host)
{
    for (size_t i = 0; i < s->hosts_n; i++) {
        const ptrdiff_t slash = mz_str_chr(s->hosts[i], '/');
        if (mz_host_is_within(host, slash < 0 ? s->hosts[i]
                                              : mz_str_skip(s->hosts[i], (size_t)slash + 1)))
            return true;
    }
    return false;
}

/* Only what ends mutual TLS of the mesh is reached: its ALPN, and endpoints that have it. */
static void auto_chain(struct listening *l, const struct mz_rule *rule, uint16_t port,
                       const char *cluster, const char *subset)
{
    static const char *const alpn[] = { "istio", "istio-peer-exchange", "istio-http/1.0",
                                        "istio-http/1.1", "istio-h2" };
    pb_FilterChain *c = add_chain(l);
    struct tr_tcp t = { .cluster = cluster, .port = port, .unguarded = true };
    uint64_t ignored = 0;
    const struct mz_str name = mz_str_c(cluster);
    if (rule)
        tr_tcp_policy(&t, rule, mz_str_c(subset), &ignored);
    t.tunnel = NULL;
    match_names(l, c, &name, 1);
    for (size_t i = 0; i < MZ_COUNT(alpn); i++)
        TR_ADD(l->a, c->filter_chain_match, application_protocols) = TR_CONST(alpn[i]);
    tr_tcp_filters(l->v, l->a, c, TR_GATEWAY, &t);
}

/* Ports of a gateway, services and their subsets multiply. */
static bool is_full(struct listening *l, const struct tr_server *s)
{
    enum { MAX_CHAINS = 131072 };
    if (l->others + l->m->n_filter_chains < MAX_CHAINS)
        return false;
    tr_tell(l->v,
            mz_arena_printf(l->a, "Gateway/%.*s/%.*s", MZ_STR_ARG(s->gateway->ns),
                            MZ_STR_ARG(s->gateway->name)),
            "services are left out of %s: servers, services and subsets multiply to more than %d",
            l->m->name, MAX_CHAINS);
    return true;
}

static void auto_chains(struct listening *l, const struct tr_server *s)
{
    for (size_t i = 0; i < l->v->scope->services_n && !is_full(l, s); i++) {
        const struct mz_service *one = l->v->scope->services[i];
        const struct mz_rule *r = tr_rule(l->v, one);
        if (one->external || one->resolution == MZ_RESOLVE_ALIAS || !is_within_server(s, one->host))
            continue;
        const size_t subsets = tr_subsets(one, r);
        for (size_t k = 0; k < one->ports_n; k++) {
            const struct mz_port *p = &one->ports[k];
            if (p->protocol == MZ_PROTOCOL_UDP || mz_service_port(one, p->port) != p)
                continue;
            auto_chain(l, r, p->port, tr_sni_cluster_name(l->a, p->port, MZ_STR(""), one->host),
                       "");
            for (size_t j = 0; j < subsets; j++) {
                const char *subset = r->subsets[j]->name;
                auto_chain(l, r, p->port,
                           tr_sni_cluster_name(l->a, p->port, mz_str_c(subset), one->host), subset);
            }
        }
    }
}

/* ---- listeners ---- */

static void server_chains(struct listening *l, const struct tr_server *s)
{
    if (s->route.n)
        http_chain(l, s);
    else if (s->s->tls && s->s->tls->mode == ist_ServerTLSSettings_TLSmode_AUTO_PASSTHROUGH)
        auto_chains(l, s);
    else if (mz_server_passes_through(s->s))
        tls_chains(l, s);
    else
        tcp_chain(l, s);
}

/* The listener that the first of its servers, @first, stands for. NULL: nothing leads anywhere. */
static struct mz_out *build(struct mz_view *v, const struct tr_servers *all, size_t first,
                            size_t *chains)
{
    const struct tr_server *s = &all->v[first];
    const char *bind = s->s->bind[0] ? s->s->bind : tr_wildcard(v->proxy).p;
    struct listening l = { .v = v,
                           .a = mz_arena_create(MZ_MEM_STREAM),
                           .bind = bind,
                           .port = s->port,
                           .others = *chains };
    const struct tr_telemetry *t = tr_telemetry(v, TR_GATEWAY);
    bool plain = false;
    l.m = TR_NEW(l.a, Listener);
    struct mz_map *const maps[] = { &l.names, &l.had, &l.tls, &l.first };
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_init(maps[i], MZ_MEM_XDS);
    l.m->name = TR_PRINTF(l.a, "%s_%u", bind, s->port);
    l.m->address = tr_address(l.a, mz_str_c(bind), s->port);
    if (!s->s->bind[0])
        tr_other_wildcard(v, l.a, l.m, s->port);
    l.m->traffic_direction = pb_TrafficDirection_OUTBOUND;
    l.m->max_connections_to_accept_per_socket_event = tr_mesh_accepts(v, l.a);
    if (v->proxy->balance_out)
        l.m->connection_balance_config = tr_mesh_balance(l.a);
    l.m->per_connection_buffer_limit_bytes = tr_mesh_buffer_limit(v, l.a);
    for (size_t i = 0; i < t->n_listener_logs; i++)
        TR_ADD(l.a, l.m, access_log) = t->listener_logs[i];
    for (const struct tr_server *one = s; one; one = one->next ? &all->v[one->next] : NULL) {
        if (plain && one->plain_http)
            continue;
        plain |= one->plain_http;
        server_chains(&l, one);
    }
    if (tr_mesh_takes_proxy_protocol(v)) {
        pb_ListenerFilter *f = TR_NEW(l.a, ListenerFilter);
        f->name = TR_CONST("envoy.filters.listener.proxy_protocol");
        f->config_type_case = pb_ListenerFilter_CONFIG_TYPE_TYPED_CONFIG;
        f->typed_config = tr_any(l.a, TR_NEW(l.a, ProxyProtocol));
        TR_ADD(l.a, l.m, listener_filters) = f;
    }
    if (l.inspects)
        TR_ADD(l.a, l.m, listener_filters) = TR_PIECE(v, TLS_INSPECTOR);
    *chains += l.m->n_filter_chains;
    struct mz_out *o = l.m->n_filter_chains ? mz_out_create(mz_str_c(l.m->name), &l.m->base) : NULL;
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_fini(maps[i]);
    mz_arena_destroy(l.a);
    return o;
}

void tr_gateway_listeners(struct mz_view *v, struct mz_outs *out)
{
    const struct tr_servers *all = tr_servers_of(v);
    size_t chains = 0;
    for (size_t i = 0; i < all->n_v; i++) {
        const bool takes = all->v[i].first && !(v->proxy->unprivileged && all->v[i].port < 1024);
        struct mz_out *o = takes ? build(v, all, i, &chains) : NULL;
        if (o)
            *mz_vec_push(&out->v, MZ_MEM_XDS) = o;
    }
}
