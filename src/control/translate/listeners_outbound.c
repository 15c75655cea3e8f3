/*
 * Listeners towards services. Which there are follows from all services together: HTTP of one port shares a listener on the wildcard
 * address, TCP has the service's address, what is unknown has both kinds of chains; where kinds meet on one address their chains
 * stand in one listener.
 */
#include <stdlib.h>

#include "control/translate/scope.h"

enum kind { KIND_TCP, KIND_HTTP, KIND_AUTO, KIND_NONE };

struct chain {
    bool http;                         /* chosen by what the first bytes look like */
    char *name;                        /* of the routes, or of the cluster */
    struct mz_str sni;                 /* "" any */
    struct mz_str range;               /* of addresses, "10.0.0.0/8"; "" any */
    enum mz_protocol protocol;         /* of TCP: some have a filter of their own */
    const pb_Duration *idle, *longest; /* of TCP; NULL: not said */
    uint64_t rule;                     /* what said so; 0: nothing */
};
struct entry {
    struct mz_str address, other; /* of the other family, where the proxy has both; "" none */
    uint16_t port;
    enum kind kind;
    enum mz_protocol protocol; /* of the service that came first */
    bool own_socket; /* it listens itself; else 15001 catches what the application sends */
    bool closed;     /* a listener of the Sidecar: no other service comes in */
    MZ_VEC(struct chain) chains;
    uint64_t hash; /* of what its bytes are made of */
};
struct plan {
    struct mz_view *v;
    struct mz_arena *a;
    const struct tr_egress *egress; /* that is being planned */
    struct mz_str bind;             /* "" as services have it */
    struct mz_str other;            /* of the service that is being planned */
    bool own_socket;
    struct mz_map by_key; /* "address_port" to struct entry */
    MZ_VEC(struct entry *) entries;
};

static enum kind kind_of(enum mz_protocol p)
{
    if (p == MZ_PROTOCOL_UDP)
        return KIND_NONE;
    if (p == MZ_PROTOCOL_UNKNOWN)
        return KIND_AUTO;
    return mz_protocol_is_http(p) ? KIND_HTTP : KIND_TCP;
}

struct mz_str tr_wildcard(const struct mz_proxy *p)
{
    return p->ipv4 ? MZ_STR("0.0.0.0") : MZ_STR("::");
}

bool tr_can_dial(const struct mz_view *v, struct mz_str address)
{
    return mz_str_chr(address, ':') < 0 ? v->proxy->ipv4 : v->proxy->ipv6;
}

/* The first address that the proxy can dial, and the next; a service that has none of its family has its own. */
static struct mz_str address_of(const struct mz_view *v, const struct mz_service *s,
                                struct mz_str *out_other)
{
    struct mz_str first = MZ_STR("");
    for (size_t i = 0; i < s->addresses_n; i++)
        if (tr_can_dial(v, s->addresses[i]) && first.n)
            *out_other = s->addresses[i];
        else if (tr_can_dial(v, s->addresses[i]))
            first = s->addresses[i];
    return first.n ? first : s->addresses[0];
}

const char *tr_elsewhere(const struct mz_view *v)
{
    return v->scope->registry_only ? "BlackHoleCluster" : "PassthroughCluster";
}

/* Ports that the proxy needs for itself on every address. */
static bool is_reserved(const struct mz_proxy *p, uint16_t port)
{
    return port == 15001 || port == 15006 ||
           (port && (port == p->reserved[0] || port == p->reserved[1]));
}

/* ---- chains of one service ---- */

static struct chain tcp_chain(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                              struct mz_str address, struct mz_str range)
{
    const bool tls = p->protocol == MZ_PROTOCOL_HTTPS || p->protocol == MZ_PROTOCOL_TLS;
    const bool any = !s->addresses_n && mz_str_eq(address, tr_wildcard(pl->v->proxy));
    const uint16_t port = s->ports_n == 1 ? s->ports[0].port : p->port; /* p may be a Sidecar's */
    const struct mz_rule *r = mz_model_rule(pl->v->model, pl->v->proxy->ns, s);
    const ist_ConnectionPoolSettings *pool = mz_rule_policy(r, NULL, p->port).pool;
    const ist_ConnectionPoolSettings_TCPSettings *tcp = pool ? pool->tcp : NULL;
    return (struct chain){ .name = tr_cluster_name(pl->a, "outbound", port, MZ_STR(""), s->host),
                           .sni = tls && (any || range.n) ? s->host : MZ_STR(""),
                           .range = range,
                           .protocol = p->protocol,
                           .idle = tcp ? tcp->idle_timeout : NULL,
                           .longest = tcp ? tcp->max_connection_duration : NULL,
                           .rule = tcp ? r->hash : 0 };
}

/* Routes of a wildcard address are those of its port; a service with an address of its own has its own. */
static struct chain http_chain(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                               struct mz_str address, enum kind kind)
{
    const bool own = kind == KIND_AUTO && !mz_str_eq(address, tr_wildcard(pl->v->proxy));
    return (struct chain){ .http = true,
                           .name = own ? TR_PRINTF(pl->a, "%.*s:%u", MZ_STR_ARG(s->host), p->port)
                                       : TR_PRINTF(pl->a, "%u", p->port) };
}

static bool same_match(const struct chain *a, const struct chain *b)
{
    return a->http == b->http && mz_str_eq(a->sni, b->sni) && mz_str_eq(a->range, b->range);
}

static void add_chain(struct entry *e, struct chain c)
{
    for (size_t i = 0; i < e->chains.n; i++)
        if (same_match(&e->chains.v[i], &c))
            return; /* the older service has it */
    *mz_vec_push(&e->chains, MZ_MEM_XDS) = c;
    const uint64_t match[] = { e->hash, c.http, c.rule, c.protocol, c.sni.n, c.range.n };
    e->hash = mz_xxh64(match, sizeof(match), mz_xxh64(c.name, strlen(c.name), 0));
    e->hash = mz_xxh64(c.sni.p, c.sni.n, mz_xxh64(c.range.p, c.range.n, e->hash));
}

/* Protocols whose servers speak first cannot share an address with anything that waits for bytes. */
static bool is_exclusive(enum mz_protocol a, enum mz_protocol b)
{
    return a != b && (a == MZ_PROTOCOL_MONGO || a == MZ_PROTOCOL_MYSQL || b == MZ_PROTOCOL_MONGO ||
                      b == MZ_PROTOCOL_MYSQL);
}

static struct entry *entry_new(struct plan *pl, struct mz_str key, struct mz_str address,
                               const struct mz_port *p)
{
    struct entry *e = mz_arena_new0(pl->a, struct entry);
    e->address = address;
    e->port = p->port;
    e->protocol = p->protocol;
    e->own_socket = pl->own_socket;
    e->other = mz_str_eq(address, MZ_STR("0.0.0.0")) && pl->v->proxy->ipv6 && !pl->bind.n
                   ? MZ_STR("::")
                   : pl->other;
    e->hash = mz_xxh64(e->other.p, e->other.n, 0) + pl->own_socket;
    (void)mz_map_put(&pl->by_key, key, e);
    *mz_vec_push(&pl->entries, MZ_MEM_XDS) = e;
    return e;
}

/* One service's port at one address. */
static void add(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                struct mz_str address)
{
    enum kind kind = kind_of(p->protocol);
    struct mz_str range = MZ_STR("");
    if (mz_str_chr(address, '/') >= 0) { /* nobody can listen on a range */
        range = address;
        address = tr_wildcard(pl->v->proxy);
    }
    struct mz_str key = mz_arena_printf(pl->a, "%.*s_%u", MZ_STR_ARG(address), p->port);
    struct entry *e = mz_map_get(&pl->by_key, key);
    if (e && e->closed)
        return;
    if (e && kind == KIND_HTTP && e->kind != KIND_TCP)
        return; /* its virtual host is all that it needs */
    if (e && is_exclusive(e->protocol, p->protocol))
        return;
    const bool fresh = !e;
    if (fresh) {
        e = entry_new(pl, key, address, p);
        const bool any = mz_str_eq(address, tr_wildcard(pl->v->proxy));
        e->kind =
            kind == KIND_HTTP && any ? KIND_AUTO : kind; /* with a chain for what is no HTTP */
    } else if (kind != e->kind) {
        e->kind = KIND_AUTO;
    }
    if (kind != KIND_HTTP)
        add_chain(e, tcp_chain(pl, s, p, address, range));
    if (kind != KIND_TCP)
        add_chain(e, http_chain(pl, s, p, address, kind));
}

/* Headless TCP: clients dial the endpoints themselves, and so each has a listener, except where the client is the endpoint. */
static void add_endpoints(struct plan *pl, const struct mz_service *s, const struct mz_port *p)
{
    const struct mz_endpoints *e = mz_model_endpoints(pl->v->model, p);
    for (size_t i = 0; i < e->n; i++)
        if (!mz_str_eq(e->v[i].address, pl->v->proxy->ips[0]))
            add(pl, s, p, e->v[i].address);
}

/* Nobody can tell its addresses: clients dial any. */
static bool is_anywhere(const struct plan *pl, const struct mz_service *s, size_t port)
{
    return s->entry && !mz_model_endpoints(pl->v->model, &s->ports[port])->n && !s->selector.n;
}

static void plan_port(struct plan *pl, const struct mz_service *s, size_t i)
{
    const struct mz_str any = tr_wildcard(pl->v->proxy);
    const struct mz_port *p = &s->ports[i];
    const enum kind kind = kind_of(p->protocol);
    pl->other = MZ_STR("");
    if (pl->bind.n)
        add(pl, s, p, pl->bind);
    else if (kind == KIND_HTTP)
        add(pl, s, p, any);
    else if (s->resolution == MZ_RESOLVE_PASSTHROUGH && !s->addresses_n && !is_anywhere(pl, s, i))
        add_endpoints(pl, s, p);
    else if (!s->addresses_n)
        add(pl, s, p, pl->v->proxy->auto_addresses && s->automatic.n ? s->automatic : any);
    else if (!s->entry)
        add(pl, s, p, address_of(pl->v, s, &pl->other));
    else
        for (size_t k = 0; k < s->addresses_n; k++)
            add(pl, s, p, s->addresses[k]);
}

static void plan_service(struct plan *pl, const struct mz_service *s)
{
    for (size_t i = 0; i < s->ports_n; i++) {
        const enum kind kind = kind_of(s->ports[i].protocol);
        if (kind != KIND_NONE &&
            !(kind == KIND_HTTP && is_reserved(pl->v->proxy, s->ports[i].port)))
            plan_port(pl, s, i);
    }
}

/* A port that a Sidecar opens, whatever its services say. */
static void plan_listener(struct plan *pl, const struct mz_service *s, const ist_SidecarPort *port)
{
    struct mz_port *p = mz_arena_new0(pl->a, struct mz_port);
    *p = (struct mz_port){ .name = mz_str_c(port->name),
                           .port = (uint16_t)port->number,
                           .protocol = mz_protocol_parse(mz_str_c(port->protocol)) };
    const enum kind kind = kind_of(p->protocol);
    const struct mz_str any = tr_wildcard(pl->v->proxy);
    pl->other = MZ_STR("");
    if (kind == KIND_NONE || is_reserved(pl->v->proxy, p->port))
        return;
    if (pl->bind.n || kind == KIND_HTTP || !s->addresses_n)
        add(pl, s, p, pl->bind.n ? pl->bind : any);
    else
        add(pl, s, p, s->entry ? s->addresses[0] : address_of(pl->v, s, &pl->other));
}

static void plan_egress(struct plan *pl, const struct tr_egress *e)
{
    const ist_IstioEgressListener *l = e->listener;
    const bool listens = l && l->port;
    pl->egress = e;
    pl->own_socket = l && l->capture_mode == ist_CaptureMode_NONE;
    pl->bind = mz_str_c(l ? l->bind : "");
    if (!pl->bind.n && pl->own_socket)
        pl->bind = pl->v->proxy->ipv4 ? MZ_STR("127.0.0.1") : MZ_STR("::1");
    if (!listens) /* what came before stays as its listener says */
        mz_vec_foreach (it, &pl->entries)
            (*it)->closed = true;
    for (size_t i = 0; i < e->services_n; i++) {
        const struct mz_service *s = e->services[i];
        if (s->resolution == MZ_RESOLVE_ALIAS)
            continue;
        if (listens)
            plan_listener(pl, s, l->port);
        else
            plan_service(pl, s);
    }
}

/* ---- messages ---- */

static pb_FilterChain *build_chain(struct mz_view *v, struct mz_arena *a, const struct entry *e,
                                   const struct chain *c)
{
    pb_FilterChain *m = TR_NEW(a, FilterChain);
    m->transport_socket_connect_timeout = tr_duration_us(a, 15000000);
    if (!c->http) {
        tr_tcp_filters(v, a, m, false,
                       &(struct tr_tcp){ .cluster = c->name,
                                         .idle = c->idle,
                                         .longest = c->longest,
                                         .protocol = c->protocol });
        return m;
    }
    pb_HttpConnectionManager *h = tr_http_manager(
        v, a, false, TR_PRINTF(a, "outbound_%.*s_%u;", MZ_STR_ARG(e->address), e->port));
    h->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS;
    h->rds = TR_NEW(a, Rds);
    h->rds->config_source = tr_ads(a);
    h->rds->route_config_name = c->name;
    TR_ADD(a, m, filters) = tr_http_filter(a, h);
    return m;
}

static bool matches_all(const struct chain *c)
{
    return !c->http && !c->sni.n && !c->range.n;
}

static void match_chain(struct mz_arena *a, pb_FilterChain *m, const struct chain *c)
{
    m->filter_chain_match = TR_NEW(a, FilterChainMatch);
    if (c->http) {
        TR_ADD(a, m->filter_chain_match, application_protocols) = TR_CONST("http/1.1");
        TR_ADD(a, m->filter_chain_match, application_protocols) = TR_CONST("h2c");
        m->filter_chain_match->transport_protocol = TR_CONST("raw_buffer");
    }
    if (c->sni.n)
        TR_ADD(a, m->filter_chain_match, server_names) = tr_text(a, c->sni);
    if (c->range.n)
        TR_ADD(a, m->filter_chain_match, prefix_ranges) = tr_range(a, c->range);
}

/* What matches no chain goes where it wanted. */
static pb_FilterChain *pass_through(struct mz_view *v, struct mz_arena *a)
{
    pb_FilterChain *m = TR_NEW(a, FilterChain);
    m->name = TR_CONST("PassthroughFilterChain");
    m->filter_chain_match = TR_NEW(a, FilterChainMatch);
    tr_tcp_filters(v, a, m, false, &(struct tr_tcp){ .cluster = tr_elsewhere(v) });
    return m;
}

static void add_chains(struct mz_view *v, struct mz_arena *a, pb_Listener *m, const struct entry *e)
{
    pb_FilterChain *all = NULL;
    for (size_t i = 0; i < e->chains.n; i++) {
        const struct chain *c = &e->chains.v[i];
        pb_FilterChain *f = build_chain(v, a, e, c);
        if (matches_all(c)) {
            all = f;
            continue;
        }
        match_chain(a, f, c);
        TR_ADD(a, m, filter_chains) = f;
    }
    if (all && !m->n_filter_chains)
        TR_ADD(a, m, filter_chains) = all;
    else
        m->default_filter_chain = all ? all : pass_through(v, a);
}

static void add_inspectors(struct mz_view *v, struct mz_arena *a, pb_Listener *m,
                           const struct entry *e)
{
    bool http = false, sni = false;
    for (size_t i = 0; i < e->chains.n; i++) {
        http |= e->chains.v[i].http;
        sni |= e->chains.v[i].sni.n != 0;
    }
    if (sni)
        TR_ADD(a, m, listener_filters) = TR_PIECE(v, TLS_INSPECTOR);
    if (http)
        TR_ADD(a, m, listener_filters) = TR_PIECE(v, HTTP_INSPECTOR);
    m->listener_filters_timeout = tr_duration_us(a, http ? v->model->mesh.detection_timeout_us : 0);
}

static struct mz_out *build(struct mz_view *v, const struct entry *e)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    pb_Listener *m = TR_NEW(a, Listener);
    m->name = TR_PRINTF(a, "%.*s_%u", MZ_STR_ARG(e->address), e->port);
    m->address = tr_address(a, e->address, e->port);
    m->traffic_direction = pb_TrafficDirection_OUTBOUND;
    if (e->other.n) {
        pb_AdditionalAddress *o = TR_NEW(a, AdditionalAddress);
        o->address = tr_address(a, e->other, e->port);
        TR_ADD(a, m, additional_addresses) = o;
    }
    if (e->own_socket)
        m->max_connections_to_accept_per_socket_event = tr_u32(a, 1);
    else
        m->bind_to_port = tr_bool(a, false);
    m->continue_on_listener_filters_timeout = true;
    add_inspectors(v, a, m, e);
    add_chains(v, a, m, e);
    struct mz_out *o = mz_out_create(mz_str_c(m->name), &m->base);
    mz_arena_destroy(a);
    return o;
}

static struct mz_out *cached(struct mz_view *v, const struct entry *e)
{
    struct mz_key k;
    mz_key_init(&k, 'l');
    mz_key_str(&k, e->address);
    mz_key_u64(&k, e->port);
    mz_key_u64(&k, e->hash);
    mz_key_u64(&k, v->model->mesh.hash);
    mz_key_u64(&k, v->scope->registry_only);
    mz_key_u64(&k, v->proxy->identity);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build(v, e);
        mz_cache_put(v->t->cache, &k, o);
    }
    return o;
}

void tr_listeners_outbound(struct mz_view *v, struct mz_outs *out)
{
    struct plan pl = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM) };
    mz_map_init(&pl.by_key, MZ_MEM_XDS);
    for (size_t i = 0; i < v->scope->egress_n; i++)
        plan_egress(&pl, &v->scope->egress[i]);
    mz_vec_foreach (e, &pl.entries) {
        *mz_vec_push(&out->v, MZ_MEM_XDS) = cached(v, *e);
        mz_vec_free(&(*e)->chains, MZ_MEM_XDS);
    }
    mz_vec_free(&pl.entries, MZ_MEM_XDS);
    mz_map_fini(&pl.by_key);
    mz_arena_destroy(pl.a);
}
