#include "control/translate/gateway.h"

struct merging {
    struct mz_view *v;
    struct mz_arena *a;
    struct tr_servers *out;
    MZ_VEC(struct tr_server) v_out;
    struct mz_map names;  /* "port bind host" that is told apart by TLS's server name */
    struct mz_map plain;  /* "port bind", to struct tr_server: one without TLS is there */
    struct mz_map routes; /* "port bind route" of those with TLS */
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

/* Two chains of one server name the proxy would refuse. */
static bool names_are_new(struct merging *m, const struct tr_server *s)
{
    bool fresh = true;
    for (size_t i = 0; i < s->hosts_n; i++) {
        struct mz_str key =
            mz_arena_printf(m->a, "%u %s %.*s", s->port, s->s->bind, MZ_STR_ARG(s->hosts[i]));
        fresh &= !mz_map_put(&m->names, key, m);
    }
    return fresh;
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
    *mz_vec_push(&m->v_out, MZ_MEM_XDS) = s;
    const uint64_t h[] = { m->out->hash, s.gateway->hash, s.port };
    m->out->hash = mz_xxh64(h, sizeof(h), 0);
}

/* The ports of the services that it names, and no others. */
static void add_behind_services(struct merging *m, struct tr_server s)
{
    const struct mz_targets *t = &m->v->targets;
    for (uint32_t last = 0, next; last <= UINT16_MAX;
         last = next) { /* in order of numbers, each once */
        next = UINT16_MAX + 1;
        for (size_t i = 0; i < t->n; i++)
            if (t->v[i].port->port == s.s->port->number && t->v[i].number > last &&
                t->v[i].number < next && mz_gateway_serves(s.gateway, t->v[i].service))
                next = t->v[i].number;
        s.port = (uint16_t)next;
        if (next <= UINT16_MAX)
            add(m, s);
    }
}

/* At every port that the services in front of the proxy lead to; at its own where none has it. */
static void add_at_ports(struct merging *m, struct tr_server s)
{
    const struct mz_targets *t = &m->v->targets;
    bool any = false;
    for (size_t i = 0; i < t->n; i++) {
        bool had = t->v[i].port->port != s.s->port->number;
        for (size_t k = 0; k < i && !had; k++)
            had = t->v[k].port->port == s.s->port->number && t->v[k].number == t->v[i].number;
        if (had)
            continue;
        s.port = t->v[i].number;
        add(m, s);
        any = true;
    }
    s.port = (uint16_t)s.s->port->number;
    if (!any)
        add(m, s);
}

static void add_gateway(struct merging *m, const struct mz_gateway *g)
{
    for (size_t i = 0; i < g->spec->n_servers; i++) {
        const ist_Server *one = g->spec->servers[i];
        struct mz_str *hosts = mz_arena_alloc(m->a, one->n_hosts * sizeof(*hosts));
        for (size_t k = 0; k < one->n_hosts; k++)
            hosts[k] = host_in_full(m->a, one->hosts[k], g->ns);
        struct tr_server s = { .gateway = g,
                               .s = one,
                               .hosts = hosts,
                               .hosts_n = one->n_hosts,
                               .protocol = mz_protocol_parse(mz_str_c(one->port->protocol)) };
        s.gateway_name = mz_arena_printf(m->a, "%.*s/%.*s", MZ_STR_ARG(g->ns), MZ_STR_ARG(g->name));
        s.plain_http = mz_protocol_is_http(s.protocol);
        if (g->by_service)
            add_behind_services(m, s);
        else
            add_at_ports(m, s);
    }
}

const struct tr_servers *tr_servers_of(struct mz_view *v)
{
    const struct mz_labels labels = v->workload ? v->workload->labels : v->proxy->labels;
    if (v->servers)
        return v->servers;
    struct merging m = { .v = v, .a = v->arena, .out = mz_arena_new0(v->arena, struct tr_servers) };
    struct mz_map *const maps[] = { &m.names, &m.plain, &m.routes };
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
