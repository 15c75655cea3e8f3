/* RDS of gateways: virtual hosts of the VirtualServices that are bound to the servers of one name of routes. */
#include <stdlib.h>

#include "control/translate/gateway.h"
#include "control/translate/mesh.h"
#include "control/translate/tell.h"

struct part { /* what one document says of a host */
    const struct mz_virtual *vs;
    const struct mz_gateway *gateway;
};
struct key { /* of what is made of them */
    const struct mz_virtual *vs;
    const struct mz_gateway *gateway;
    uint64_t more; /* port and TLS, or the host */
};
#define BYTES(v) ((struct mz_str){ (const char *)&(v), sizeof(v) })
struct listed { /* the routes of one document at the port of a Gateway */
    struct tr_route_list list;
};
struct share { /* of one document in all of this */
    size_t hosts, routes;
};
struct host { /* one virtual host */
    struct mz_str name;
    uint16_t port;
    bool https; /* plain requests are sent to HTTPS */
    MZ_VEC(struct part) parts;
};
struct making {
    struct mz_view *v;
    struct mz_arena *a;
    struct mz_str name;
    const struct tr_server *const *servers;
    size_t n_servers;
    MZ_VEC(struct host *) hosts;
    struct mz_map by_name;    /* to struct host */
    struct mz_map had;        /* hosts of servers, for tr_server_meets() */
    struct mz_map parts;      /* that hosts have */
    struct mz_map routes;     /* to struct listed */
    struct mz_map shares;     /* of documents, to struct share */
    struct mz_map by_gateway; /* to the first server of a Gateway */
};
/* As of one document alone (analyze/check_route.c). */
enum { MAX_ROUTES_AND_HOSTS = 65536, MAX_PARTS = 1 << 20 };

static struct mz_str lower(struct mz_arena *a, struct mz_str s)
{
    char *own = mz_arena_alloc(a, s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        own[i] = mz_lower(s.p[i]);
    own[s.n] = 0;
    return (struct mz_str){ own, s.n };
}

static struct host *host_of(struct making *k, struct mz_str name, const struct tr_server *s)
{
    name = lower(k->a, name);
    struct host *h = mz_map_get(&k->by_name, name);
    if (!h) {
        h = mz_arena_new0(k->a, struct host);
        h->name = name;
        h->port = (uint16_t)s->s->port->number;
        (void)mz_map_put(&k->by_name, name, h);
        *mz_vec_push(&k->hosts, MZ_MEM_XDS) = h;
    }
    h->https |= s->s->tls && s->s->tls->https_redirect;
    return h;
}

static struct tr_routing routing(const struct making *k, const struct tr_server *s,
                                 const struct mz_virtual *vs)
{
    return (struct tr_routing){ .v = k->v,
                                .a = k->a,
                                .vs = vs,
                                .gateways = { &s->gateway_name, 1 },
                                .port = (uint16_t)s->s->port->number,
                                .tls = s->s->tls != NULL,
                                .whole = true };
}

/* Made once for all servers of one Gateway and port. */
static struct tr_route_list routes_of(struct making *k, const struct tr_server *s,
                                      const struct mz_virtual *vs)
{
    const struct key key = { vs, s->gateway, s->s->port->number * 2ull + (s->s->tls != NULL) };
    struct listed *l = mz_map_get(&k->routes, BYTES(key));
    if (!l) {
        const struct tr_routing r = routing(k, s, vs);
        l = mz_arena_new0(k->a, struct listed);
        l->list = tr_virtual_routes(&r);
        (void)mz_map_put(&k->routes, mz_arena_dup(k->a, BYTES(key)), l);
    }
    return l->list;
}

/* Hosts and routes of a document multiply: what is too much is left out of those that come last. */
static bool has_room(struct making *k, const struct mz_virtual *vs, size_t routes)
{
    struct share *h = mz_map_get(&k->shares, BYTES(vs));
    if (!h) {
        h = mz_arena_new0(k->a, struct share);
        (void)mz_map_put(&k->shares, mz_arena_dup(k->a, BYTES(vs)), h);
    }
    h->hosts++;
    h->routes += routes;
    if (h->hosts == 1 || (h->routes <= MAX_ROUTES_AND_HOSTS && k->parts.n <= MAX_PARTS))
        return true;
    tr_tell(
        k->v,
        mz_arena_printf(k->a, "VirtualService/%.*s/%.*s", MZ_STR_ARG(vs->ns), MZ_STR_ARG(vs->name)),
        "its routes are left out of hosts of %.*s: hosts and routes multiply to more than %d",
        MZ_STR_ARG(k->name), MAX_ROUTES_AND_HOSTS);
    return false;
}

/* The narrower of two names that have some in common. */
static void add_common(struct making *k, const struct tr_server *s, const struct mz_virtual *vs,
                       struct mz_str ours, struct mz_str theirs, size_t routes)
{
    struct host *h = host_of(k, mz_host_is_within(ours, theirs) ? ours : theirs, s);
    const struct key key = { vs, s->gateway, (uintptr_t)h };
    if (mz_map_get(&k->parts, BYTES(key)))
        return;
    (void)mz_map_put(&k->parts, mz_arena_dup(k->a, BYTES(key)), h);
    if (has_room(k, vs, routes))
        *mz_vec_push(&h->parts, MZ_MEM_XDS) = (struct part){ vs, s->gateway };
}

static void add_server(struct making *k, const struct tr_server *s)
{
    size_t n;
    const struct tr_meeting *v = tr_server_meets(k->v, s, &k->had, k->a, &n);
    for (size_t i = 0; i < n && k->parts.n <= MAX_PARTS; i++) {
        const size_t routes = routes_of(k, s, v[i].vs).n_routes;
        const struct mz_str theirs = mz_str_c(v[i].vs->spec->hosts[v[i].host]);
        struct mz_str ours;
        if (routes && tr_server_host(s->hosts[v[i].server_host], v[i].vs->ns, &ours))
            add_common(k, s, v[i].vs, ours, theirs, routes);
    }
}

static void collect(struct making *k)
{
    for (size_t i = 0; i < k->n_servers; i++) {
        const struct tr_server *s = k->servers[i];
        if (!mz_map_get(&k->by_gateway, BYTES(s->gateway)))
            (void)mz_map_put(&k->by_gateway, mz_arena_dup(k->a, BYTES(s->gateway)),
                             (void *)(uintptr_t)s);
        add_server(k, s);
        for (size_t j = 0; j < s->hosts_n && s->s->tls && s->s->tls->https_redirect; j++)
            (void)host_of(k, s->hosts[j], s); /* also where nobody says anything of it */
    }
}

/* ---- messages ---- */

/* Names before wildcards, the longest first. */
static int compare_hosts(const void *a, const void *b)
{
    const struct host *const *x = a, *const *y = b;
    const struct mz_str n = (*x)->name, m = (*y)->name;
    const bool wild = mz_str_starts(n, MZ_STR("*")), other = mz_str_starts(m, MZ_STR("*"));
    if (wild != other)
        return wild ? 1 : -1;
    if (n.n != m.n)
        return n.n > m.n ? -1 : 1;
    return mz_str_cmp(n, m);
}

/* All that is said of a host, as bytes: hosts that have it in common are one virtual host. */
static struct mz_str said(struct making *k, const struct host *h)
{
    const struct mz_str parts[] = { h->https ? MZ_STR("s") : MZ_STR("-"),
                                    { (const char *)h->parts.v,
                                      h->parts.n * sizeof(*h->parts.v) } };
    return mz_arena_cat(k->a, MZ_COUNT(parts), parts);
}

/* What is for everything comes last, whichever document said it. */
static void add_routes(struct making *k, const struct host *h, pb_VirtualHost *m)
{
    for (unsigned last = 0; last < 2; last++)
        for (size_t i = 0; i < h->parts.n; i++) {
            const struct mz_gateway *g = h->parts.v[i].gateway;
            const struct tr_server *s = mz_map_get(&k->by_gateway, BYTES(g));
            const struct tr_route_list l = routes_of(k, s, h->parts.v[i].vs);
            for (size_t j = 0; j < l.n_routes; j++)
                if (tr_matches_everything(l.routes[j]->match) == (last == 1))
                    TR_ADD(k->a, m, routes) = l.routes[j];
        }
}

static pb_VirtualHost *new_host(struct making *k, const struct host *h)
{
    pb_VirtualHost *m = TR_NEW(k->a, VirtualHost);
    m->name = TR_PRINTF(k->a, "%.*s:%u", MZ_STR_ARG(h->name), h->port);
    m->include_request_attempt_count = tr_mesh_counts_attempts(k->v);
    if (h->https)
        m->require_tls = pb_VirtualHost_TlsRequirementType_ALL;
    add_routes(k, h, m);
    tr_put_session(k->v, k->a, m, mz_map_get(&k->v->scope->by_host, h->name));
    return m;
}

static void add_hosts(struct making *k, pb_RouteConfiguration *m)
{
    struct mz_map made;
    mz_map_init(&made, MZ_MEM_XDS);
    for (size_t i = 0; i < k->hosts.n; i++) {
        const struct mz_str key = said(k, k->hosts.v[i]);
        pb_VirtualHost *h = mz_map_get(&made, key);
        if (!h) {
            h = new_host(k, k->hosts.v[i]);
            TR_ADD(k->a, m, virtual_hosts) = h;
            (void)mz_map_put(&made, key, h);
        }
        TR_ADD(k->a, h, domains) = tr_text(k->a, k->hosts.v[i]->name);
    }
    mz_map_fini(&made);
}

static int compare_names(const void *a, const void *b)
{
    const pb_VirtualHost *const *x = a, *const *y = b;
    return strcmp((*x)->name, (*y)->name);
}

/* Nothing is known of any host: 404 for all. */
static void add_nothing(struct making *k, pb_RouteConfiguration *m)
{
    pb_VirtualHost *h = TR_NEW(k->a, VirtualHost);
    h->name = TR_PRINTF(k->a, "blackhole:%u", k->servers[0]->s->port->number);
    TR_ADD(k->a, h, domains) = TR_CONST("*");
    TR_ADD(k->a, m, virtual_hosts) = h;
}

static struct mz_out *build(struct making *k)
{
    pb_RouteConfiguration *m = tr_route_configuration(k->a, k->name);
    if (!k->n_servers) { /* it was there: proxies ask until their listener is drained */
        m->ignore_port_in_host_matching = false;
        m->max_direct_response_body_size_bytes = NULL;
        return mz_out_create(k->name, &m->base);
    }
    collect(k);
    if (k->hosts.n)
        qsort(k->hosts.v, k->hosts.n, sizeof(*k->hosts.v), compare_hosts);
    add_hosts(k, m);
    if (!k->hosts.n)
        add_nothing(k, m);
    qsort(m->virtual_hosts, m->n_virtual_hosts, sizeof(*m->virtual_hosts), compare_names);
    mz_vec_foreach (h, &k->hosts)
        mz_vec_free(&(*h)->parts, MZ_MEM_XDS);
    return mz_out_create(k->name, &m->base);
}

/* Labels of the services that virtual hosts are called after. */
static uint64_t hash_hosts(const struct mz_view *v, const struct mz_virtual *vs, uint64_t h)
{
    for (size_t i = 0; i < vs->spec->n_hosts; i++) {
        const struct mz_service *s = mz_map_get(&v->scope->by_host, mz_str_c(vs->spec->hosts[i]));
        if (s)
            h = mz_xxh64(&s->hash, sizeof(s->hash), h);
    }
    return h;
}

static void make_key(struct making *k, uint64_t servers, struct mz_key *key)
{
    uint64_t virtuals = 0;
    for (size_t i = 0; i < k->n_servers; i++) {
        const struct tr_server *s = k->servers[i];
        const struct key asked = { NULL, s->gateway, s->s->port->number };
        if (mz_map_get(&k->had, BYTES(asked)))
            continue; /* nothing else follows from it */
        (void)mz_map_put(&k->had, mz_arena_dup(k->a, BYTES(asked)), k);
        const struct tr_bound_list b = tr_bound_to(k->v, s);
        for (size_t j = 0; j < b.n; j++) {
            const struct tr_routing r = routing(k, s, b.v[j]);
            const uint64_t h = tr_virtual_hash(&r);
            virtuals = mz_xxh64(&h, sizeof(h), virtuals);
            if (k->v->t->features.sessions)
                virtuals = hash_hosts(k->v, b.v[j], virtuals);
        }
    }
    mz_key_init(key, 'g');
    mz_key_str(key, k->name);
    mz_key_str(key, k->v->proxy->ns);
    mz_key_u64(key, servers);
    mz_key_u64(key, virtuals);
    mz_key_u64(key, k->v->model->mesh.hash);
    mz_key_u64(key, k->v->proxy->shape);
}

struct mz_out *tr_gateway_routes(struct mz_view *v, struct mz_str name)
{
    struct mz_key key;
    if (!mz_str_starts(name, MZ_STR("http.")) && !mz_str_starts(name, MZ_STR("https.")))
        return NULL;
    struct making k = { .v = v, .a = mz_arena_create(MZ_MEM_STREAM), .name = name };
    const struct tr_servers *all = tr_servers_of(v);
    struct mz_map *const maps[] = { &k.by_name, &k.had,    &k.parts,
                                    &k.routes,  &k.shares, &k.by_gateway };
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_init(maps[i], MZ_MEM_XDS);
    k.servers = tr_servers_of_route(all, name, &k.n_servers);
    make_key(&k, all->hash, &key);
    struct mz_out *o = mz_cache_get(v->t->cache, &key);
    if (!o) {
        o = build(&k);
        mz_cache_put(v->t->cache, &key, o);
        mz_vec_free(&k.hosts, MZ_MEM_XDS);
    }
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_fini(maps[i]);
    mz_arena_destroy(k.a);
    return o;
}
