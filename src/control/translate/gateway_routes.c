/* RDS of gateways: virtual hosts of the VirtualServices that are bound to the servers of one name of routes. */
#include <stdlib.h>

#include "control/translate/gateway.h"
#include "control/translate/mesh.h"

struct part { /* what one document says of a host */
    const struct mz_virtual *vs;
    struct mz_str gateway;
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
    const struct tr_server **servers;
    size_t n_servers;
    MZ_VEC(struct host *) hosts;
    struct mz_map by_name; /* to struct host */
};

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

/* The narrower of two names that have some in common. */
static void add_common(struct making *k, const struct tr_server *s, const struct mz_virtual *vs,
                       struct mz_str ours, struct mz_str theirs)
{
    if (!mz_hosts_meet(ours, theirs))
        return;
    struct host *h = host_of(k, mz_host_is_within(ours, theirs) ? ours : theirs, s);
    for (size_t i = 0; i < h->parts.n; i++)
        if (h->parts.v[i].vs == vs && mz_str_eq(h->parts.v[i].gateway, s->gateway_name))
            return;
    *mz_vec_push(&h->parts, MZ_MEM_XDS) = (struct part){ vs, s->gateway_name };
}

static void add_virtual(struct making *k, const struct tr_server *s, const struct mz_virtual *vs)
{
    const struct tr_routing r = routing(k, s, vs);
    if (!tr_virtual_routes(&r).n_routes)
        return;
    for (size_t i = 0; i < s->hosts_n; i++) {
        struct mz_str host;
        if (!tr_server_host(s->hosts[i], vs->ns, &host))
            continue;
        for (size_t j = 0; j < vs->spec->n_hosts; j++)
            add_common(k, s, vs, host, mz_str_c(vs->spec->hosts[j]));
    }
}

static void collect(struct making *k)
{
    for (size_t i = 0; i < k->n_servers; i++) {
        const struct tr_server *s = k->servers[i];
        size_t n;
        const struct mz_virtual *const *v =
            mz_model_virtuals(k->v->model, k->v->proxy->ns, s->gateway_name, k->a, &n);
        for (size_t j = 0; j < n; j++)
            add_virtual(k, s, v[j]);
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

static bool says_the_same(const struct host *a, const struct host *b)
{
    if (a->https != b->https || a->parts.n != b->parts.n)
        return false;
    for (size_t i = 0; i < a->parts.n; i++)
        if (a->parts.v[i].vs != b->parts.v[i].vs ||
            !mz_str_eq(a->parts.v[i].gateway, b->parts.v[i].gateway))
            return false;
    return true;
}

static const struct tr_server *server_of(const struct making *k, struct mz_str gateway)
{
    for (size_t i = 0; i < k->n_servers; i++)
        if (mz_str_eq(k->servers[i]->gateway_name, gateway))
            return k->servers[i];
    return k->servers[0];
}

/* What is for everything comes last, whichever document said it. */
static void add_routes(struct making *k, const struct host *h, pb_VirtualHost *m)
{
    for (unsigned last = 0; last < 2; last++)
        for (size_t i = 0; i < h->parts.n; i++) {
            const struct tr_routing r =
                routing(k, server_of(k, h->parts.v[i].gateway), h->parts.v[i].vs);
            const struct tr_route_list l = tr_virtual_routes(&r);
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
    const struct host **kept = mz_arena_alloc(k->a, k->hosts.n * sizeof(*kept));
    for (size_t i = 0; i < k->hosts.n; i++) {
        size_t at = 0;
        while (at < m->n_virtual_hosts && !says_the_same(kept[at], k->hosts.v[i]))
            at++;
        if (at == m->n_virtual_hosts) {
            kept[at] = k->hosts.v[i];
            TR_ADD(k->a, m, virtual_hosts) = new_host(k, kept[at]);
        }
        TR_ADD(k->a, m->virtual_hosts[at], domains) = tr_text(k->a, k->hosts.v[i]->name);
    }
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
        size_t n;
        const struct mz_virtual *const *v =
            mz_model_virtuals(k->v->model, k->v->proxy->ns, k->servers[i]->gateway_name, k->a, &n);
        for (size_t j = 0; j < n; j++) {
            const struct tr_routing r = routing(k, k->servers[i], v[j]);
            const uint64_t h = tr_virtual_hash(&r);
            virtuals = mz_xxh64(&h, sizeof(h), virtuals);
            if (k->v->t->features.sessions)
                virtuals = hash_hosts(k->v, v[j], virtuals);
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
    for (size_t i = 0; i < all->n_v; i++)
        if (mz_str_eq(all->v[i].route, name))
            TR_ADD(k.a, &k, servers) = &all->v[i];
    make_key(&k, all->hash, &key);
    struct mz_out *o = mz_cache_get(v->t->cache, &key);
    if (!o) {
        mz_map_init(&k.by_name, MZ_MEM_XDS);
        o = build(&k);
        mz_cache_put(v->t->cache, &key, o);
        mz_vec_free(&k.hosts, MZ_MEM_XDS);
        mz_map_fini(&k.by_name);
    }
    mz_arena_destroy(k.a);
    return o;
}
