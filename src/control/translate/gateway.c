#include "control/translate/gateway.h"

#include <stdlib.h>

struct merging {
    struct mz_view *v;
    struct mz_arena *a;
    struct tr_servers *out;
    MZ_VEC(struct tr_server) v_out;
    struct mz_map names;  /* "port bind host" that is told apart by TLS's server name */
    struct mz_map plain;  /* "port bind", to struct tr_server: one without TLS is there */
    struct mz_map routes; /* "port bind route" of those with TLS */
    struct mz_map last;   /* "port bind" to the number of the last one there */
    struct mz_map behind; /* number of a port to struct numbers: where services lead to from it */
};

static struct mz_str host_in_full(struct mz_arena *a, const char *host, struct mz_str ns)
{
    const struct mz_str h = mz_str_c(host);
    if (mz_str_starts(h, MZ_STR("./")))
        return mz_arena_printf(a, "%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(mz_str_skip(h, 2)));
    return mz_str_starts(h, MZ_STR("*/")) ? mz_str_skip(h, 2) : h;
}

bool tr_server_host(struct mz_str host, struct mz_str ns, struct mz_str *out)
{
    const ptrdiff_t slash = mz_str_chr(host, '/');
    *out = slash < 0 ? host : mz_str_skip(host, (size_t)slash + 1);
    return slash < 0 || mz_str_eq((struct mz_str){ host.p, (size_t)slash }, ns);
}

static struct mz_str route_name(struct mz_arena *a, const struct tr_server *s)
{
    const char *dot = s->s->bind[0] ? "." : "";
    if (s->plain_http)
        return mz_arena_printf(a, "http.%u%s%s", s->port, dot, s->s->bind);
    if (!mz_server_is_http(s->s))
        return MZ_STR("");
    return mz_arena_printf(a, "https.%u.%s.%.*s.%.*s%s%s", s->s->port->number, s->s->port->name,
                           MZ_STR_ARG(s->gateway->name), MZ_STR_ARG(s->gateway->ns), dot,
                           s->s->bind);
}

/* Two chains of one server name the proxy would refuse. Names of a server that is left out are free for others. */
static bool names_are_new(struct merging *m, const struct tr_server *s)
{
    struct mz_str *keys = mz_arena_alloc(m->a, s->hosts_n * sizeof(*keys));
    for (size_t i = 0; i < s->hosts_n; i++) {
        keys[i] = mz_arena_printf(m->a, "%u %s %.*s", s->port, s->s->bind, MZ_STR_ARG(s->hosts[i]));
        if (mz_map_get(&m->names, keys[i]))
            return false;
    }
    for (size_t i = 0; i < s->hosts_n; i++)
        (void)mz_map_put(&m->names, keys[i], m);
    return true;
}

/* Plain servers share a listener where all of them speak HTTP; those with TLS need names of their own. */
static bool fits(const struct merging *m, const struct tr_server *s, struct mz_str at,
                 struct mz_str route)
{
    const struct tr_server *plain = mz_map_get(&m->plain, at);
    return plain ? plain->plain_http && s->plain_http
                 : !s->route.n || !mz_map_get(&m->routes, route);
}

static void add(struct merging *m, struct tr_server s)
{
    s.route = route_name(m->a, &s);
    const struct mz_str at = mz_arena_printf(m->a, "%u %s", s.port, s.s->bind);
    const struct mz_str route =
        mz_arena_printf(m->a, "%.*s %.*s", MZ_STR_ARG(at), MZ_STR_ARG(s.route));
    if (s.s->tls && !s.plain_http && !names_are_new(m, &s))
        return;
    if (!fits(m, &s, at, route))
        return;
    struct tr_server *own = mz_arena_new0(m->a, struct tr_server);
    *own = s;
    if (s.s->tls && !s.plain_http)
        (void)mz_map_put(&m->routes, route, own);
    else if (!mz_map_get(&m->plain, at))
        (void)mz_map_put(&m->plain, at, own);
    void *const number = (void *)(uintptr_t)(m->v_out.n + 1);
    const size_t before = (size_t)(uintptr_t)mz_map_put(&m->last, at, number);
    s.first = !before;
    if (before)
        m->v_out.v[before - 1].next = m->v_out.n;
    *mz_vec_push(&m->v_out, MZ_MEM_XDS) = s;
    const uint64_t h[] = { m->out->hash, s.gateway->hash, s.port };
    m->out->hash = mz_xxh64(h, sizeof(h), 0);
}

struct numbers { /* each once */
    uint16_t *v;
    size_t n_v;
};

/* Where services lead to from a port, in order of their targets. @g: from those that it names only; NULL: from all. */
static struct numbers numbers_behind(struct merging *m, const struct mz_gateway *g, uint32_t port)
{
    const struct mz_targets *t = &m->v->targets;
    uint64_t had[(UINT16_MAX + 1) / 64] = { 0 };
    struct numbers out = { 0 };
    for (size_t i = 0; i < t->n; i++) {
        const uint16_t number = t->v[i].number;
        uint64_t *word = &had[number / 64];
        const uint64_t bit = 1ull << number % 64;
        if (t->v[i].port->port != port || (*word & bit) ||
            (g && !mz_gateway_serves(g, t->v[i].service)))
            continue;
        *word |= bit;
        TR_ADD(m->a, &out, v) = number;
    }
    return out;
}

static int compare_numbers(const void *a, const void *b)
{
    return *(const uint16_t *)a - *(const uint16_t *)b;
}

/* The ports of the services that it names, and no others. */
static void add_behind_services(struct merging *m, struct tr_server s)
{
    const struct numbers n = numbers_behind(m, s.gateway, s.s->port->number);
    if (n.n_v)
        qsort(n.v, n.n_v, sizeof(*n.v), compare_numbers);
    for (size_t i = 0; i < n.n_v; i++) {
        s.port = n.v[i];
        if (s.port)
            add(m, s);
    }
}

/* At every port that the services in front of the proxy lead to; at its own where none has it. */
static void add_at_ports(struct merging *m, struct tr_server s)
{
    const struct mz_str key =
        mz_arena_dup(m->a, (struct mz_str){ (const char *)&s.s->port->number, 4 });
    struct numbers *n = mz_map_get(&m->behind, key);
    if (!n) {
        n = mz_arena_new0(m->a, struct numbers);
        *n = numbers_behind(m, NULL, s.s->port->number);
        (void)mz_map_put(&m->behind, key, n);
    }
    for (size_t i = 0; i < n->n_v; i++) {
        s.port = n->v[i];
        add(m, s);
    }
    s.port = (uint16_t)s.s->port->number;
    if (!n->n_v)
        add(m, s);
}

static void add_gateway(struct merging *m, const struct mz_gateway *g)
{
    struct tr_bound **bound = mz_arena_alloc0(m->a, sizeof(*bound));
    const struct mz_str name =
        mz_arena_printf(m->a, "%.*s/%.*s", MZ_STR_ARG(g->ns), MZ_STR_ARG(g->name));
    for (size_t i = 0; i < g->spec->n_servers; i++) {
        const ist_Server *one = g->spec->servers[i];
        struct mz_str *hosts = mz_arena_alloc(m->a, one->n_hosts * sizeof(*hosts));
        for (size_t k = 0; k < one->n_hosts; k++)
            hosts[k] = host_in_full(m->a, one->hosts[k], g->ns);
        struct tr_server s = { .gateway = g,
                               .gateway_name = name,
                               .bound = bound,
                               .s = one,
                               .hosts = hosts,
                               .hosts_n = one->n_hosts,
                               .protocol = mz_protocol_parse(mz_str_c(one->port->protocol)) };
        s.plain_http = mz_protocol_is_http(s.protocol);
        if (g->by_service)
            add_behind_services(m, s);
        else
            add_at_ports(m, s);
    }
}

static int compare_routes(const void *a, const void *b)
{
    const struct tr_server *const *x = a, *const *y = b;
    const int c = mz_str_cmp((*x)->route, (*y)->route);
    return c ? c : (*x > *y) - (*x < *y);
}

static void sort_by_route(struct tr_servers *all, struct mz_arena *a)
{
    all->by_route = mz_arena_alloc(a, all->n_v * sizeof(*all->by_route));
    for (size_t i = 0; i < all->n_v; i++)
        if (all->v[i].route.n)
            all->by_route[all->n_by_route++] = &all->v[i];
    if (all->n_by_route)
        qsort(all->by_route, all->n_by_route, sizeof(*all->by_route), compare_routes);
}

const struct tr_server *const *tr_servers_of_route(const struct tr_servers *all,
                                                   struct mz_str route, size_t *out_n)
{
    size_t from = 0, to = all->n_by_route;
    while (from < to) {
        const size_t mid = from + (to - from) / 2;
        if (mz_str_cmp(all->by_route[mid]->route, route) < 0)
            from = mid + 1;
        else
            to = mid;
    }
    while (to < all->n_by_route && mz_str_eq(all->by_route[to]->route, route))
        to++;
    *out_n = to - from;
    return all->by_route + from;
}

const struct tr_servers *tr_servers_of(struct mz_view *v)
{
    const struct mz_labels labels = v->workload ? v->workload->labels : v->proxy->labels;
    if (v->servers)
        return v->servers;
    struct merging m = { .v = v, .a = v->arena, .out = mz_arena_new0(v->arena, struct tr_servers) };
    struct mz_map *const maps[] = { &m.names, &m.plain, &m.routes, &m.last, &m.behind };
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_init(maps[i], MZ_MEM_XDS);
    for (size_t i = 0; i < v->model->gateways_n; i++)
        if ((v->model->gateways[i]->by_service ||
             mz_gateway_selects(v->model->gateways[i], labels)) &&
            (!v->t->features.gateways_at_home ||
             mz_str_eq(v->model->gateways[i]->ns, v->proxy->ns)))
            add_gateway(&m, v->model->gateways[i]);
    for (size_t i = 0; i < MZ_COUNT(maps); i++)
        mz_map_fini(maps[i]);
    m.out->n_v = m.v_out.n;
    m.out->v = mz_arena_alloc(v->arena, m.v_out.n * sizeof(*m.out->v));
    if (m.v_out.n)
        memcpy(m.out->v, m.v_out.v, m.v_out.n * sizeof(*m.out->v));
    mz_vec_free(&m.v_out, MZ_MEM_XDS);
    sort_by_route(m.out, v->arena);
    return v->servers = m.out;
}

bool tr_has_auto_passthrough(struct mz_view *v)
{
    if (v->proxy->type == MZ_PROXY_SIDECAR || !v->model->gateways_n)
        return false;
    const struct tr_servers *all = tr_servers_of(v);
    bool has = false;
    for (size_t i = 0; i < all->n_v; i++)
        has |= all->v[i].s->tls &&
               all->v[i].s->tls->mode == ist_ServerTLSSettings_TLSmode_AUTO_PASSTHROUGH;
    return has;
}
