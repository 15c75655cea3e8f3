/*
 * Listeners towards services. Which there are follows from all services together: HTTP of one port shares a listener on the wildcard
 * address, TCP has the service's address, what is unknown has both kinds of chains; where kinds meet on one address their chains
 * stand in one listener.
 */
#include <stdio.h>
#include <stdlib.h>

#include "control/translate/dynamic.h"
#include "control/translate/extensions.h"
#include "control/translate/mesh.h"
#include "control/translate/scope.h"
#include "control/translate/tcp_routes.h"
#include "control/translate/telemetry.h"

enum kind { KIND_TCP, KIND_HTTP, KIND_AUTO, KIND_NONE };

struct texts {
    const struct mz_str *v;
    size_t n;
};
struct chain {
    bool http;                   /* chosen by what the first bytes look like */
    bool proxied;                /* HTTP, and nothing else: clients know that there is a proxy */
    bool grpc_web;               /* of whichever service was first at the port */
    char *name;                  /* of the routes */
    struct texts snis;           /* none: any */
    struct texts ranges;         /* of addresses, "10.0.0.0/8"; none: any */
    struct tr_tcp tcp;           /* where it is none of HTTP */
    const struct mz_virtual *vs; /* that said so; NULL: nobody */
    uint64_t rule;               /* of what said how; 0: nothing */
};
struct entry {
    struct mz_str address, other; /* of the other family, where the proxy has both; "" none */
    uint16_t port;
    enum kind kind;
    enum mz_protocol protocol; /* of the service that came first */
    bool own_socket; /* it listens itself; else 15001 catches what the application sends */
    bool closed;     /* a listener of the Sidecar: no other service comes in */
    MZ_VEC(struct chain) chains;
    MZ_VEC(struct mz_str) dynamic; /* hosts whose names in requests are resolved */
    uint64_t hash;                 /* of what its bytes are made of */
    struct mz_str key;
    size_t at;              /* among the plan's */
    unsigned https, others; /* ports of services that came to it: of HTTP, of anything else */
    unsigned endpoints; /* of the others those of headless services, whose endpoints are dialled */
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
    /* Kept for the other proxies of a group (@next), as far as they keep the same ports to themselves. */
    uint16_t reserved[2];
    bool personal; /* without what the proxy itself is the endpoint of: for nobody else */
    uint64_t hash; /* of all entries, whatever their order */
    struct plan *next;
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

/* Ports that the proxy needs for itself on every address. */
static bool is_reserved(const struct plan *pl, uint16_t port)
{
    return port == tr_mesh_port(pl->v, false) || port == tr_mesh_port(pl->v, true) ||
           (port && (port == pl->reserved[0] || port == pl->reserved[1]));
}

static bool can_listen(const struct plan *pl, uint16_t port)
{
    return !pl->own_socket || port >= 1024 || !port || !pl->v->proxy->unprivileged;
}

/* ---- chains of one service ---- */

static bool is_tls(const struct mz_port *p)
{
    return p->protocol == MZ_PROTOCOL_HTTPS || p->protocol == MZ_PROTOCOL_TLS;
}

static struct texts one_text(struct mz_arena *a, struct mz_str s)
{
    struct mz_str *v = mz_arena_alloc(a, sizeof(*v));
    *v = s;
    return (struct texts){ v, s.n != 0 };
}

static struct texts texts_of(struct mz_arena *a, char *const *v, size_t n)
{
    struct mz_str *own = mz_arena_alloc(a, n * sizeof(*own));
    for (size_t i = 0; i < n; i++)
        own[i] = mz_str_c(v[i]);
    return (struct texts){ own, n };
}

/* Its host, and all names of those that mean it. */
static struct texts names_in_tls(struct plan *pl, const struct mz_service *s)
{
    struct texts all = one_text(pl->a, s->host);
    for (size_t i = 0; i < s->aliases_n; i++) {
        size_t n;
        char *const *more = tr_names_of(pl->v, pl->a, s->aliases[i], &n);
        struct mz_str *v = mz_arena_alloc(pl->a, (all.n + n) * sizeof(*v));
        memcpy(v, all.v, all.n * sizeof(*v));
        for (size_t k = 0; k < n; k++)
            v[all.n + k] = mz_str_c(more[k]);
        all = (struct texts){ v, all.n + n };
    }
    return all;
}

static struct chain tcp_chain(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                              struct mz_str address, struct mz_str range)
{
    const bool any = !s->addresses_n && mz_str_eq(address, tr_wildcard(pl->v->proxy));
    const uint16_t port = s->ports_n == 1 ? s->ports[0].port : p->port; /* p may be a Sidecar's */
    const struct mz_rule *r = tr_rule(pl->v, s);
    const bool dynamic = s->resolution == MZ_RESOLVE_DYNAMIC;
    const bool named = is_tls(p) && (any || range.n || dynamic);
    struct chain c = { .snis = named ? names_in_tls(pl, s) : (struct texts){ 0 },
                       .ranges = one_text(pl->a, range) };
    c.tcp.cluster = tr_cluster_name(pl->a, "outbound", port, MZ_STR(""), s->host);
    c.tcp.protocol = p->protocol;
    c.tcp.dynamic = dynamic ? s->host : MZ_STR("");
    const char *pattern = pl->v->model->mesh.config->outbound_cluster_stat_name;
    if (pattern[0])
        c.tcp.stat = tr_mesh_stat_name(pl->a, pattern, s, MZ_STR(""), p, 0);
    if (r)
        tr_tcp_policy(&c.tcp, r, MZ_STR(""), &c.rule);
    return c;
}

/* A UNIX socket (port 0) has its own. */
static char *routes_of(struct mz_arena *a, struct mz_str address, uint16_t port)
{
    return port ? TR_PRINTF(a, "%u", port) : tr_text(a, address);
}

/* Routes of a wildcard address are those of its port; a service with an address of its own has its own. */
static struct chain http_chain(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                               struct mz_str address, enum kind kind)
{
    const bool own = kind == KIND_AUTO && p->port && !mz_str_eq(address, tr_wildcard(pl->v->proxy));
    return (struct chain){ .http = true,
                           .grpc_web = p->protocol == MZ_PROTOCOL_GRPC_WEB,
                           .name = own ? TR_PRINTF(pl->a, "%.*s:%u", MZ_STR_ARG(s->host), p->port)
                                       : routes_of(pl->a, address, p->port) };
}

static bool same_texts(struct texts a, struct texts b)
{
    for (size_t i = 0; a.n == b.n && i < a.n; i++)
        if (!mz_str_eq(a.v[i], b.v[i]))
            return false;
    return a.n == b.n;
}

static bool same_match(const struct chain *a, const struct chain *b)
{
    return a->http == b->http && same_texts(a->snis, b->snis) && same_texts(a->ranges, b->ranges);
}

static uint64_t hash_texts(uint64_t h, struct texts t)
{
    for (size_t i = 0; i < t.n; i++)
        h = mz_xxh64(t.v[i].p, t.v[i].n, h + t.v[i].n);
    return h + t.n;
}

static void add_chain(struct entry *e, struct chain c)
{
    const char *name = c.http ? c.name : c.tcp.cluster;
    for (size_t i = 0; i < e->chains.n; i++)
        if (same_match(&e->chains.v[i], &c))
            return; /* the older service has it */
    *mz_vec_push(&e->chains, MZ_MEM_XDS) = c;
    const uint64_t match[] = {
        e->hash, c.http, c.grpc_web, c.rule, c.tcp.protocol, c.tcp.dynamic.n
    };
    e->hash = mz_xxh64(match, sizeof(match), mz_xxh64(name, strlen(name), 0));
    e->hash = hash_texts(hash_texts(e->hash, c.snis), c.ranges);
}

/* ---- chains that VirtualServices say ---- */

static bool is_for_host(const struct mz_virtual *vs, struct mz_str host)
{
    for (size_t i = 0; i < vs->spec->n_hosts; i++)
        if (mz_hosts_meet(mz_str_c(vs->spec->hosts[i]), host))
            return true;
    return false;
}

static struct chain routed(const struct tr_routing *r, ist_RouteDestination *const *to, size_t n,
                           const struct mz_port *p)
{
    struct chain c = { .vs = r->vs };
    c.tcp = tr_l4_route(r, to, n, &c.rule);
    c.tcp.protocol = p->protocol;
    return c;
}

/* By the name that the client asks for in its TLS. False: nothing is said of this listener. */
static bool add_tls_routes(struct plan *pl, const struct tr_routing *r, struct entry *e,
                           const struct mz_port *p, struct mz_str range)
{
    bool any = false;
    for (size_t i = 0; i < r->vs->spec->n_tls; i++) {
        const ist_TLSRoute *t = r->vs->spec->tls[i];
        for (size_t k = 0; k < t->n_match && t->n_route; k++) {
            const ist_TLSMatchAttributes *m = t->match[k];
            if (!tr_l4_applies(r, TR_L4_MATCH(m)))
                continue;
            struct chain c = routed(r, t->route, t->n_route, p);
            c.snis = texts_of(pl->a, m->sni_hosts, m->n_sni_hosts);
            c.ranges = m->n_destination_subnets
                           ? texts_of(pl->a, m->destination_subnets, m->n_destination_subnets)
                           : one_text(pl->a, range);
            add_chain(e, c);
            any = true;
        }
    }
    return any;
}

/* Of a route's matches those that hold, joined: @out_subnets, none: every address. False: none holds. */
static bool match_subnets(struct plan *pl, const struct tr_routing *r, const ist_TCPRoute *t,
                          struct texts *out_subnets)
{
    MZ_VEC(struct mz_str) all = { 0 };
    bool any = !t->n_match, found = any;
    for (size_t i = 0; i < t->n_match && !any; i++) {
        const ist_L4MatchAttributes *m = t->match[i];
        if (!tr_l4_applies(r, TR_L4_MATCH(m)))
            continue;
        found = true;
        any = !m->n_destination_subnets;
        for (size_t k = 0; k < m->n_destination_subnets; k++)
            *mz_vec_push(&all, MZ_MEM_XDS) = mz_str_c(m->destination_subnets[k]);
    }
    const size_t n = any ? 0 : all.n;
    struct mz_str *own = mz_arena_alloc(pl->a, n * sizeof(*own));
    if (n)
        memcpy(own, all.v, n * sizeof(*own));
    *out_subnets = (struct texts){ own, n };
    mz_vec_free(&all, MZ_MEM_XDS);
    return found;
}

/* True: a route takes every address, and nothing behind it is reached. */
static bool add_tcp_routes(struct plan *pl, const struct tr_routing *r, struct entry *e,
                           const struct mz_port *p, struct mz_str range)
{
    for (size_t i = 0; i < r->vs->spec->n_tcp; i++) {
        const ist_TCPRoute *t = r->vs->spec->tcp[i];
        struct texts subnets;
        if (!t->n_route || !match_subnets(pl, r, t, &subnets))
            continue;
        struct chain c = routed(r, t->route, t->n_route, p);
        c.ranges = subnets.n ? subnets : one_text(pl->a, range);
        if (subnets.n)
            c.vs = NULL; /* the field names no document here either */
        add_chain(e, c);
        if (!subnets.n)
            return true;
    }
    return false;
}

static void add_tcp(struct plan *pl, struct entry *e, const struct mz_service *s,
                    const struct mz_port *p, struct mz_str address, struct mz_str range)
{
    static const struct mz_str mesh = MZ_STR_INIT(MZ_GATEWAY_MESH);
    struct tr_routing r = {
        .v = pl->v, .a = pl->a, .gateways = { &mesh, 1 }, .port = p->port, .whole = true
    };
    bool done = false;
    for (size_t i = 0; i < pl->egress->virtuals_n && !(done && !is_tls(p)); i++) {
        r.vs = pl->egress->virtuals[i];
        if (!is_for_host(r.vs, s->host))
            continue;
        done |=
            is_tls(p) ? add_tls_routes(pl, &r, e, p, range) : add_tcp_routes(pl, &r, e, p, range);
    }
    if (!done)
        add_chain(e, tcp_chain(pl, s, p, address, range));
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
    e->key = key;
    e->at = pl->entries.n;
    (void)mz_map_put(&pl->by_key, key, e);
    *mz_vec_push(&pl->entries, MZ_MEM_XDS) = e;
    return e;
}

static void count(struct entry *e, enum kind kind)
{
    e->https += kind == KIND_HTTP;
    e->others += kind != KIND_HTTP;
}

/* Whichever service was first at the address: requests for this one are there, too. */
static void add_dynamic(struct plan *pl, struct entry *e, const struct mz_service *s)
{
    if (s->resolution != MZ_RESOLVE_DYNAMIC)
        return;
    for (size_t i = 0; i < e->dynamic.n; i++)
        if (mz_str_eq(e->dynamic.v[i], s->host))
            return;
    *mz_vec_push(&e->dynamic, MZ_MEM_XDS) = mz_arena_dup(pl->a, s->host);
    e->hash = mz_xxh64(s->host.p, s->host.n, e->hash + 1);
}

/* One service's port at one address. */
static void add(struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                struct mz_str address)
{
    enum kind kind = kind_of(p->protocol);
    struct mz_str range = MZ_STR("");
    if (p->port && mz_str_chr(address, '/') >= 0) { /* nobody can listen on a range */
        range = address;
        address = tr_wildcard(pl->v->proxy);
    }
    struct mz_str key = mz_arena_printf(pl->a, "%.*s_%u", MZ_STR_ARG(address), p->port);
    struct entry *e = mz_map_get(&pl->by_key, key);
    if (e)
        count(e, kind);
    if (e && e->closed)
        return;
    if (e && kind == KIND_HTTP)
        add_dynamic(pl, e, s);
    if (e && kind == KIND_HTTP && e->kind != KIND_TCP)
        return; /* its virtual host is all that it needs */
    if (e && is_exclusive(e->protocol, p->protocol))
        return;
    const bool fresh = !e;
    if (fresh) {
        e = entry_new(pl, key, address, p);
        count(e, kind);
        const bool any = mz_str_eq(address, tr_wildcard(pl->v->proxy));
        e->kind =
            kind == KIND_HTTP && any ? KIND_AUTO : kind; /* with a chain for what is no HTTP */
        if (kind == KIND_HTTP)
            add_dynamic(pl, e, s);
    } else if (kind != e->kind) {
        e->kind = KIND_AUTO;
    }
    if (kind != KIND_HTTP)
        add_tcp(pl, e, s, p, address, range);
    if (kind != KIND_TCP)
        add_chain(e, http_chain(pl, s, p, address, kind));
}

static struct entry *entry_at(const struct plan *pl, struct mz_str address, uint16_t port)
{
    char key[100];
    const int n = snprintf(key, sizeof(key), "%.*s_%u", MZ_STR_ARG(address), port);
    return n > 0 && (size_t)n < sizeof(key)
               ? mz_map_get(&pl->by_key, (struct mz_str){ key, (size_t)n })
               : NULL;
}

/* Headless TCP: clients dial the endpoints themselves, and so each has a listener, except where the client is the endpoint. */
static void add_endpoints(struct plan *pl, const struct mz_service *s, const struct mz_port *p)
{
    const struct mz_endpoints *e = mz_model_endpoints(pl->v->model, p);
    for (size_t i = 0; i < e->n; i++) {
        if (pl->personal && mz_str_eq(e->v[i].address, pl->v->proxy->ips[0]))
            continue;
        add(pl, s, p, e->v[i].address);
        struct entry *at = entry_at(pl, e->v[i].address, p->port);
        if (at)
            at->endpoints++;
    }
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
        if (kind != KIND_NONE && !(kind == KIND_HTTP && is_reserved(pl, s->ports[i].port)) &&
            can_listen(pl, s->ports[i].port))
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
    if (kind == KIND_NONE || is_reserved(pl, p->port) || !can_listen(pl, p->port))
        return;
    if (pl->bind.n || kind == KIND_HTTP || !s->addresses_n)
        add(pl, s, p, pl->bind.n ? pl->bind : any);
    else
        add(pl, s, p, s->entry ? s->addresses[0] : address_of(pl->v, s, &pl->other));
}

/* Services have no say in it. */
static void plan_proxy(struct plan *pl, const ist_SidecarPort *port)
{
    const struct mz_port p = { .port = (uint16_t)port->number };
    const struct mz_str at = pl->bind.n ? pl->bind : tr_wildcard(pl->v->proxy);
    const struct mz_str key = mz_arena_printf(pl->a, "%.*s_%u", MZ_STR_ARG(at), p.port);
    pl->other = MZ_STR("");
    if (is_reserved(pl, p.port) || !can_listen(pl, p.port) || mz_map_get(&pl->by_key, key))
        return;
    struct entry *e = entry_new(pl, key, at, &p);
    e->kind = KIND_HTTP;
    e->https = 1;
    add_chain(
        e, (struct chain){ .http = true, .proxied = true, .name = routes_of(pl->a, at, p.port) });
}

static void plan_egress(struct plan *pl, const struct tr_egress *e)
{
    const ist_IstioEgressListener *l = e->listener;
    const bool listens = l && l->port;
    pl->egress = e;
    pl->bind = mz_str_c(l ? l->bind : "");
    pl->own_socket = pl->v->proxy->uncaught || (l && (l->capture_mode == ist_CaptureMode_NONE ||
                                                      mz_str_starts(pl->bind, MZ_STR(TR_UNIX))));
    if (!pl->bind.n && pl->own_socket)
        pl->bind = pl->v->proxy->ipv4 ? MZ_STR("127.0.0.1") : MZ_STR("::1");
    if (!listens) /* what came before stays as its listener says */
        mz_vec_foreach (it, &pl->entries)
            (*it)->closed = true;
    if (tr_egress_is_proxy(l) && e->services_n)
        plan_proxy(pl, l->port);
    for (size_t i = 0; i < e->services_n && !tr_egress_is_proxy(l); i++) {
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

/* "GET http://web/" as clients write to a proxy. */
static void take_whole_addresses(struct mz_arena *a, pb_HttpConnectionManager *h)
{
    pb_Http1ProtocolOptions *own = TR_NEW(a, Http1ProtocolOptions);
    if (h->http_protocol_options)
        *own = *h->http_protocol_options;
    own->allow_absolute_url = tr_bool(a, true);
    h->http_protocol_options = own;
}

static pb_FilterChain *build_chain(struct mz_view *v, struct mz_arena *a, const struct entry *e,
                                   const struct chain *c)
{
    pb_FilterChain *m = TR_NEW(a, FilterChain);
    m->transport_socket_connect_timeout = tr_mesh_handshake(v, a);
    if (!c->http) {
        struct tr_tcp to = c->tcp;
        to.port = e->port;
        tr_tcp_filters(v, a, m, TR_OUTBOUND, &to);
        if (c->vs)
            tr_name_document(a, &m->metadata, "virtual-service", c->vs->ns, c->vs->name);
        return m;
    }
    const struct tr_at at = { TR_OUTBOUND, e->port, c->grpc_web };
    pb_HttpConnectionManager *h = tr_http_manager(
        v, a, &at, TR_PRINTF(a, "outbound_%.*s_%u;", MZ_STR_ARG(e->address), e->port));
    h->route_specifier_case = pb_HttpConnectionManager_ROUTE_SPECIFIER_RDS;
    h->rds = TR_NEW(a, Rds);
    h->rds->config_source = tr_ads(a);
    h->rds->route_config_name = c->name;
    if (c->proxied && strcmp(c->name, TR_HTTP_PROXY) == 0)
        take_whole_addresses(a, h);
    for (size_t i = 0; i < e->dynamic.n; i++)
        tr_http_before_router(a, h, tr_dynamic_http_filter(v, a, e->dynamic.v[i]));
    if (v->scope->resolves)
        tr_http_before_router(a, h, tr_dynamic_http_filter(v, a, MZ_STR("")));
    tr_http_filters(v, a, m, &at, h);
    return m;
}

/* HTTP at an address that was said has it alone: nothing else of its port comes there. */
static bool matches_all(const struct entry *e, const struct chain *c)
{
    return c->proxied || (c->http && e->kind == KIND_HTTP) ||
           (!c->http && !c->snis.n && !c->ranges.n);
}

static void match_chain(const struct mz_view *v, struct mz_arena *a, pb_FilterChain *m,
                        const struct chain *c)
{
    m->filter_chain_match = TR_NEW(a, FilterChainMatch);
    if (c->http) {
        if (v->t->features.http10)
            TR_ADD(a, m->filter_chain_match, application_protocols) = TR_CONST("http/1.0");
        TR_ADD(a, m->filter_chain_match, application_protocols) = TR_CONST("http/1.1");
        TR_ADD(a, m->filter_chain_match, application_protocols) = TR_CONST("h2c");
        m->filter_chain_match->transport_protocol = TR_CONST("raw_buffer");
    }
    for (size_t i = 0; i < c->snis.n; i++)
        TR_ADD(a, m->filter_chain_match, server_names) = tr_text(a, c->snis.v[i]);
    for (size_t i = 0; i < c->ranges.n; i++)
        TR_ADD(a, m->filter_chain_match, prefix_ranges) = tr_range(a, c->ranges.v[i]);
}

/* What matches no chain goes where it wanted. */
static pb_FilterChain *pass_through(struct mz_view *v, struct mz_arena *a)
{
    pb_FilterChain *m = TR_NEW(a, FilterChain);
    m->name = TR_CONST("PassthroughFilterChain");
    m->filter_chain_match = TR_NEW(a, FilterChainMatch);
    tr_tcp_filters(v, a, m, TR_OUTBOUND,
                   &(struct tr_tcp){ .cluster = v->scope->elsewhere, .bare = true });
    return m;
}

static void add_chains(struct mz_view *v, struct mz_arena *a, pb_Listener *m, const struct entry *e)
{
    pb_FilterChain *all = NULL;
    for (size_t i = 0; i < e->chains.n; i++) {
        const struct chain *c = &e->chains.v[i];
        pb_FilterChain *f = build_chain(v, a, e, c);
        if (matches_all(e, c)) {
            all = f;
            continue;
        }
        match_chain(v, a, f, c);
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
        http |= e->chains.v[i].http && !matches_all(e, &e->chains.v[i]);
        sni |= e->chains.v[i].snis.n != 0;
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
    const size_t scheme = e->port ? 0 : strlen(TR_UNIX);
    m->address = tr_address_or_pipe(a, mz_str_skip(e->address, scheme), e->port);
    m->traffic_direction = pb_TrafficDirection_OUTBOUND;
    if (e->other.n) {
        pb_AdditionalAddress *o = TR_NEW(a, AdditionalAddress);
        o->address = tr_address(a, e->other, e->port);
        TR_ADD(a, m, additional_addresses) = o;
    }
    if (v->proxy->balance_out)
        m->connection_balance_config = tr_mesh_balance(a);
    if (e->own_socket)
        m->max_connections_to_accept_per_socket_event = tr_mesh_accepts(v, a);
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
    mz_key_u64(&k, v->scope->leaves_hash);
    mz_key_u64(&k, tr_telemetry(v, TR_OUTBOUND)->hash);
    mz_key_u64(&k, tr_extensions_hash(v));
    mz_key_u64(&k, v->proxy->identity);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build(v, e);
        mz_cache_put(v->t->cache, &k, o);
    }
    return o;
}

/* ---- plans ---- */

static uint64_t entry_hash(const struct entry *e)
{
    const uint64_t one[] = { e->hash, e->port };
    return mz_xxh64(one, sizeof(one), mz_xxh64(e->address.p, e->address.n, 1));
}

/* What is at an address of the proxy itself goes without it, where nothing else is there, too. */
static bool is_only_endpoints(const struct entry *e)
{
    return e->endpoints == e->https + e->others;
}

static struct plan *plan_make(struct mz_view *v, bool personal)
{
    struct plan *pl = mz_new0(MZ_MEM_XDS, struct plan);
    pl->v = v;
    pl->a = mz_arena_create(MZ_MEM_XDS);
    pl->personal = personal;
    mz_map_init(&pl->by_key, MZ_MEM_XDS);
    memcpy(pl->reserved, v->proxy->reserved, sizeof(pl->reserved));
    for (size_t i = 0; i < v->scope->egress_n; i++)
        plan_egress(pl, &v->scope->egress[i]);
    pl->v = NULL; /* it may outlive the view */
    mz_vec_foreach (e, &pl->entries)
        pl->hash += entry_hash(*e);
    return pl;
}

static void plan_free(struct plan *pl)
{
    mz_map_fini(&pl->by_key);
    mz_vec_foreach (e, &pl->entries) {
        mz_vec_free(&(*e)->chains, MZ_MEM_XDS);
        mz_vec_free(&(*e)->dynamic, MZ_MEM_XDS);
    }
    mz_vec_free(&pl->entries, MZ_MEM_XDS);
    mz_arena_destroy(pl->a);
    mz_free(MZ_MEM_XDS, pl);
}

void tr_plans_free(struct plan *pl)
{
    for (struct plan *next; pl; pl = next) {
        next = pl->next;
        plan_free(pl);
    }
}

/* ---- plans followed from model to model: ports that have their listener to themselves, or share it with HTTP alone ---- */

static void entry_drop(struct plan *pl, struct entry *e)
{
    pl->hash -= entry_hash(e);
    (void)mz_map_del(&pl->by_key, e->key);
    pl->entries.v[e->at] = pl->entries.v[--pl->entries.n];
    pl->entries.v[e->at]->at = e->at;
    mz_vec_free(&e->chains, MZ_MEM_XDS);
    mz_vec_free(&e->dynamic, MZ_MEM_XDS);
}

/* Its address for this port, where that follows from it alone. False: it does not. */
static bool own_address(const struct plan *pl, const struct mz_service *s, const struct mz_port *p,
                        struct mz_str *out)
{
    struct mz_str other;
    *out = tr_wildcard(pl->v->proxy);
    if (kind_of(p->protocol) == KIND_HTTP)
        return true;
    if (s->entry || !s->addresses_n || s->resolution != MZ_RESOLVE_EDS)
        return false;
    *out = address_of(pl->v, s, &other);
    return mz_str_chr(*out, '/') < 0;
}

static bool leave(struct plan *pl, const struct mz_service *s, const struct mz_port *p)
{
    struct mz_str address;
    struct entry *e = own_address(pl, s, p, &address) ? entry_at(pl, address, p->port) : NULL;
    const bool http = kind_of(p->protocol) == KIND_HTTP;
    if (!e || (http ? e->others != 0 : e->others != 1 || e->https))
        return false;
    if (http)
        e->https--;
    if (!http || !e->https)
        entry_drop(pl, e);
    return true;
}

static bool come(struct plan *pl, const struct mz_service *s, size_t port)
{
    const struct mz_port *p = &s->ports[port];
    struct mz_str address;
    if (!own_address(pl, s, p, &address))
        return false;
    struct entry *e = entry_at(pl, address, p->port);
    const bool http = kind_of(p->protocol) == KIND_HTTP;
    if (e && (!http || e->others))
        return false;
    plan_port(pl, s, port);
    if (!e) {
        e = entry_at(pl, address, p->port);
        pl->hash += e ? entry_hash(e) : 0;
    }
    return e != NULL;
}

static bool is_planned(const struct plan *pl, const struct mz_service *s, size_t port)
{
    const enum kind kind = kind_of(s->ports[port].protocol);
    return kind != KIND_NONE && !(kind == KIND_HTTP && is_reserved(pl, s->ports[port].port)) &&
           can_listen(pl, s->ports[port].port);
}

static bool is_seen(const struct plan *pl, const struct mz_service *s)
{
    return s && s->resolution != MZ_RESOLVE_ALIAS && mz_service_visible(s, pl->v->scope->ns);
}

static bool says_connections(const struct mz_virtual *v)
{
    return v && (v->spec->n_tcp || v->spec->n_tls);
}

/* False: make it anew. */
static bool plan_follow(struct plan *pl, const struct tr_touch *t)
{
    const bool was = is_seen(pl, t->was), is = is_seen(pl, t->is);
    if (t->routed)
        return !says_connections(t->routed->was) && !says_connections(t->routed->is);
    if (t->routed4 && (was || is))
        return false;
    if ((was && t->was->resolution == MZ_RESOLVE_DYNAMIC) ||
        (is && t->is->resolution == MZ_RESOLVE_DYNAMIC))
        return false; /* a listener that others share is told of it */
    for (size_t i = 0; was && i < t->was->ports_n; i++)
        if (is_planned(pl, t->was, i) && !leave(pl, t->was, &t->was->ports[i]))
            return false;
    for (size_t i = 0; is && i < t->is->ports_n; i++)
        if (is_planned(pl, t->is, i) && !come(pl, t->is, i))
            return false;
    return true;
}

static bool plans_follow(struct mz_view *v)
{
    const struct tr_scope *scope = v->scope;
    const struct tr_touch *t;
    size_t n;
    bool ok = tr_touches_since(&v->t->touches, v->group->plans_at, &t, &n);
    ok &= !n || !v->group->personal; /* what is in nobody's plan is not followed */
    ok &= !n || (!scope->sidecar && scope->egress_n == 1);
    for (struct plan *pl = v->group->plans; pl && ok; pl = pl->next) {
        pl->v = v;
        pl->egress = &scope->egress[0];
        for (size_t i = 0; i < n && ok; i++)
            ok = tr_touch_is_bare(&t[i]) || plan_follow(pl, &t[i]);
        pl->v = NULL;
    }
    return ok;
}

static bool is_shared(const struct plan *pl)
{
    for (size_t i = 0; i < pl->entries.n; i++)
        if (pl->entries.v[i]->endpoints && !is_only_endpoints(pl->entries.v[i]))
            return false;
    return true;
}

/* @out_own: the caller's to free; else it is its group's. */
static struct plan *plan_of(struct mz_view *v, bool *out_own)
{
    if (v->group && v->group->plans_at != v->t->touches.now && !plans_follow(v)) {
        tr_plans_free(v->group->plans);
        v->group->plans = NULL;
        v->group->personal = false;
    }
    if (v->group)
        v->group->plans_at = v->t->touches.now;
    struct plan *pl = v->group ? v->group->plans : NULL;
    while (pl && memcmp(pl->reserved, v->proxy->reserved, sizeof(pl->reserved)) != 0)
        pl = pl->next;
    *out_own = !pl;
    if (pl)
        return pl;
    pl = v->group && !v->group->personal ? plan_make(v, false) : NULL;
    if (pl && is_shared(pl)) {
        pl->next = v->group->plans;
        v->group->plans = pl;
        *out_own = false;
        return pl;
    }
    if (pl) {
        v->group->personal = true;
        plan_free(pl);
    }
    return plan_make(v, true);
}

void tr_listeners_outbound(struct mz_view *v, struct mz_outs *out)
{
    bool own;
    struct plan *pl = plan_of(v, &own);
    mz_vec_foreach (e, &pl->entries)
        if (!(*e)->endpoints || pl->personal || !mz_str_eq((*e)->address, v->proxy->ips[0]))
            *mz_vec_push(&out->v, MZ_MEM_XDS) = cached(v, *e);
    if (own)
        plan_free(pl);
}

struct mz_out *tr_listener_of_proxy(struct mz_view *v)
{
    const struct mz_proxy *p = v->proxy;
    const int32_t port =
        p->http_proxy_port ? p->http_proxy_port : v->model->mesh.config->proxy_http_port;
    struct chain c = { .http = true, .proxied = true, .name = TR_CONST(TR_HTTP_PROXY) };
    struct entry e = { .address = p->ipv4 ? MZ_STR("127.0.0.1") : MZ_STR("::1"),
                       .other = p->ipv4 && p->ipv6 ? MZ_STR("::1") : MZ_STR(""),
                       .port = (uint16_t)port,
                       .own_socket = true };
    if (port <= 0 || port > UINT16_MAX)
        return NULL;
    *mz_vec_push(&e.chains, MZ_MEM_XDS) = c;
    struct mz_out *o = build(v, &e);
    mz_vec_free(&e.chains, MZ_MEM_XDS);
    return o;
}

uint64_t tr_listeners_hash(struct mz_view *v)
{
    bool own;
    struct plan *pl = plan_of(v, &own);
    const uint64_t h = pl->hash;
    if (own)
        plan_free(pl);
    return h;
}
