/* Routes (RDS): a virtual host per service of a port, under each name that a client may call it by; and those of 15006. */
#include <stdlib.h>

#include "control/translate/dynamic.h"
#include "control/translate/gateway.h"
#include "control/translate/mesh.h"
#include "control/translate/route_table.h"
#include "control/translate/scope.h"
#include "control/translate/tell.h"
#include "control/translate/virtual_routes.h"

static pb_Route *any_path(struct mz_arena *a, const char *name, const char *operation)
{
    pb_Route *r = TR_NEW(a, Route);
    r->name = TR_CONST(name);
    r->match = TR_NEW(a, RouteMatch);
    r->match->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PREFIX;
    r->match->prefix = TR_CONST("/");
    if (operation) {
        r->decorator = TR_NEW(a, Decorator);
        r->decorator->operation = TR_CONST(operation);
    }
    return r;
}

static pb_RouteAction *to_cluster(struct mz_arena *a, pb_Route *r, char *cluster)
{
    pb_RouteAction *m = TR_NEW(a, RouteAction);
    r->action_case = pb_Route_ACTION_ROUTE;
    r->route = m;
    m->cluster_specifier_case = pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER;
    m->cluster = cluster;
    m->timeout = TR_NEW(a, Duration); /* none */
    return m;
}

/* ---- inbound ---- */

pb_RouteConfiguration *tr_inbound_routes(struct mz_view *v, struct mz_arena *a, char *cluster,
                                         const struct mz_target *t)
{
    const unsigned port = t ? t->port->port : 0;
    pb_RouteConfiguration *m = TR_NEW(a, RouteConfiguration);
    pb_VirtualHost *h = TR_NEW(a, VirtualHost);
    pb_Route *r = any_path(
        a, "default", t ? TR_PRINTF(a, "%.*s:%u/*", MZ_STR_ARG(t->service->host), port) : ":0/*");
    pb_RouteAction *to = to_cluster(a, r, cluster);
    to->max_stream_duration = TR_NEW(a, RouteAction_MaxStreamDuration);
    to->max_stream_duration->max_stream_duration = TR_NEW(a, Duration);
    to->max_stream_duration->grpc_timeout_header_max = TR_NEW(a, Duration);
    if (!t || (t->port->protocol != MZ_PROTOCOL_GRPC && t->port->protocol != MZ_PROTOCOL_GRPC_WEB))
        to->retry_policy = tr_inbound_retries(v, a); /* clients of gRPC retry themselves */
    h->name = TR_PRINTF(a, "inbound|http|%u", port);
    TR_ADD(a, h, domains) = TR_CONST("*");
    TR_ADD(a, h, routes) = r;
    m->name = cluster;
    m->validate_clusters = tr_bool(a, false);
    TR_ADD(a, m, virtual_hosts) = h;
    return m;
}

/* ---- outbound: names ---- */

enum { AT_ONCE = 8 };

struct naming {            /* of one virtual host */
    struct mz_arena *a;    /* of the host alone */
    struct mz_arena *kept; /* ... and of what stays taken */
    pb_VirtualHost *h;
    struct mz_map *taken; /* each domain to the first that has it */
    uint16_t port; /* written behind each once more; 0: whoever asks leaves ports out of account */
    struct mz_str soon[AT_ONCE]; /* to be added, and what the map fetches of them */
    uint64_t fetched[AT_ONCE];
    size_t soon_n;
};

/* Takes those that nobody has. */
static void add_soon(struct naming *n)
{
    for (size_t i = 0; i < n->soon_n; i++)
        if (!mz_map_put_fetched(n->taken, n->fetched[i], n->soon[i], n->taken))
            TR_ADD(n->a, n->h, domains) = TR_CONST(n->soon[i].p);
    n->soon_n = 0;
}

static void add_one(struct naming *n, struct mz_str own)
{
    if (n->soon_n == AT_ONCE)
        add_soon(n);
    n->fetched[n->soon_n] = mz_map_prefetch(n->taken, own);
    n->soon[n->soon_n++] = own;
}

/* @kept: in that arena. */
static void add_domain(struct naming *n, struct mz_str kept)
{
    char number[20];
    add_one(n, kept);
    if (n->port)
        add_one(n, TR_CAT_STR(n->kept, kept, MZ_STR(":"), tr_number(n->port, number)));
}

/* Short forms that DNS would complete: "web", "web.demo.svc", "web.demo" in the namespace itself, without the first in others. */
static void add_short(struct naming *n, const struct mz_view *v, struct mz_str host,
                      struct mz_str prefix)
{
    struct mz_arena *a = n->kept;
    const ptrdiff_t svc = mz_str_find(v->proxy->domain, MZ_STR(".svc."));
    const struct mz_str suffix = svc < 0 ? MZ_STR("") : mz_str_skip(v->proxy->domain, (size_t)svc);
    if (svc < 0 || !mz_str_ends(host, suffix))
        return; /* the client's DNS completes no name to this one */
    const struct mz_str in = { host.p, host.n - suffix.n }; /* "name.namespace" */
    const ptrdiff_t dot = mz_str_rchr(in, '.');
    const struct mz_str name = { in.p, dot < 0 ? in.n : (size_t)dot };
    const bool home = dot >= 0 && mz_str_eq((struct mz_str){ v->proxy->domain.p, (size_t)svc },
                                            mz_str_skip(in, (size_t)dot + 1));
    const struct mz_str full = TR_CAT_STR(a, prefix, in);
    const struct mz_str with_svc = TR_CAT_STR(a, full, MZ_STR(".svc"));
    if (home)
        add_domain(n, TR_CAT_STR(a, prefix, name));
    add_domain(n, home ? with_svc : full);
    add_domain(n, home ? full : with_svc);
}

static void add_names(struct naming *n, const struct mz_view *v, struct mz_str host,
                      struct mz_str prefix)
{
    add_domain(n, TR_CAT_STR(n->kept, prefix, host));
    if (!v->t->features.no_absolute_names)
        add_domain(n, TR_CAT_STR(n->kept, prefix, host, MZ_STR(".")));
    add_short(n, v, host, prefix);
}

char *const *tr_names_of(struct mz_view *v, struct mz_arena *a, struct mz_str host, size_t *out_n)
{
    struct mz_map taken;
    struct naming n = { .a = a, .kept = a, .h = TR_NEW(a, VirtualHost), .taken = &taken };
    mz_map_init(&taken, MZ_MEM_XDS);
    add_names(&n, v, host, MZ_STR(""));
    add_soon(&n);
    mz_map_fini(&taken);
    *out_n = n.h->n_domains;
    return n.h->domains;
}

static bool is_imported(const struct mz_view *v, const struct mz_service *s, uint16_t port,
                        struct mz_str alias)
{
    const struct tr_egress *e = tr_egress_for(v->scope, port);
    return e && mz_imports_service(e->imports, s->ns, alias);
}

static void add_address(struct naming *n, struct mz_str address)
{
    const bool v6 = mz_str_chr(address, ':') >= 0;
    add_domain(n, v6 ? TR_CAT_STR(n->kept, MZ_STR("["), address, MZ_STR("]"))
                     : mz_arena_dup(n->kept, address));
}

/* Everything that a client may write to mean this service. */
static void add_domains(struct mz_view *v, struct naming *n, const struct mz_service *s,
                        uint16_t port)
{
    const bool each =
        s->resolution == MZ_RESOLVE_PASSTHROUGH && !s->entry; /* endpoints have names */
    for (unsigned i = 0; i <= each; i++) {
        const struct mz_str prefix = i ? MZ_STR("*.") : MZ_STR("");
        add_names(n, v, s->host, prefix);
        for (size_t k = 0; k < s->aliases_n; k++)
            if (is_imported(v, s, port, s->aliases[k]))
                add_names(n, v, s->aliases[k], prefix);
    }
    for (size_t i = 0; i < s->addresses_n; i++)
        if (s->entry || tr_can_dial(v, s->addresses[i]))
            add_address(n, s->addresses[i]);
    if (!s->addresses_n && s->automatic.n && v->proxy->auto_addresses)
        add_address(n, s->automatic);
    add_soon(n);
}

/* ---- outbound ---- */

static pb_Route *default_route(struct mz_view *v, struct mz_arena *a, const struct mz_service *s,
                               uint16_t port)
{
    char number[20];
    pb_Route *r = any_path(a, "default",
                           TR_CAT(a, s->host, MZ_STR(":"), tr_number(port, number), MZ_STR("/*")));
    pb_RouteAction *to =
        to_cluster(a, r, tr_cluster_name(a, "outbound", port, MZ_STR(""), s->host));
    r->match = TR_PACKED(v, ANY_PATH);
    tr_limit_streams(v, a, to);
    to->retry_policy = tr_default_retries(v, a);
    if (to->retry_policy == TR_PIECE(v, RETRY))
        to->retry_policy = TR_PACKED(v, RETRY);
    const struct mz_rule *rule = tr_rule(v, s);
    tr_add_hash(a, to, mz_rule_hash(rule, NULL, port));
    return r;
}

pb_VirtualHost *tr_everything_else(struct mz_view *v, struct mz_arena *a)
{
    const bool block = v->scope->registry_only, resolve = v->scope->resolves;
    const char *name = block ? "block_all" : resolve ? "allow_any_dynamic_dns" : "allow_any";
    pb_VirtualHost *h = TR_NEW(a, VirtualHost);
    pb_Route *r = any_path(a, name, NULL);
    if (block) {
        r->action_case = pb_Route_ACTION_DIRECT_RESPONSE;
        r->direct_response = TR_NEW(a, DirectResponseAction);
        r->direct_response->status = 502;
    } else {
        pb_RouteAction *m = to_cluster(
            a, r, resolve ? TR_CONST(TR_DYNAMIC_CLUSTER) : TR_CONST(v->scope->elsewhere));
        m->max_grpc_timeout = TR_NEW(a, Duration);
        m->append_x_forwarded_host = tr_mesh_appends_host(v);
    }
    h->name = TR_CONST(name);
    h->include_request_attempt_count = tr_mesh_counts_attempts(v);
    TR_ADD(a, h, domains) = TR_CONST("*");
    TR_ADD(a, h, routes) = r;
    return h;
}

bool tr_speaks_http(const struct mz_service *s, uint16_t port)
{
    const struct mz_port *p = mz_service_port(s, port);
    return p && s->resolution != MZ_RESOLVE_ALIAS && tr_port_speaks_http(p);
}

static int compare_hosts(const void *a, const void *b)
{
    const struct mz_service *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->host, (*y)->host);
}

static bool meets_service(const struct route_plan *p, struct mz_str host)
{
    if (!tr_is_wild(host) && mz_map_get(&p->by_host, host))
        return true;
    mz_map_foreach (it, &p->by_host)
        if ((tr_is_wild(host) || tr_is_wild(it->key)) && mz_hosts_meet(host, it->key))
            return true;
    return false;
}

static bool has_host(const struct mz_virtual *vs, struct mz_str host)
{
    for (size_t i = 0; i < vs->spec->n_hosts; i++)
        if (mz_str_eq(mz_str_c(vs->spec->hosts[i]), host))
            return true;
    return false;
}

/* Only on port 80 a VirtualService counts for hosts that no service has here; in a table for one host, for this one. */
static bool is_wanted(const struct route_plan *p, const struct mz_virtual *vs)
{
    bool wanted = p->port == 80 && !p->every && (!p->host.n || has_host(vs, p->host));
    for (size_t i = 0; i < vs->spec->n_hosts && !wanted; i++)
        wanted = meets_service(p, mz_str_c(vs->spec->hosts[i]));
    return wanted && vs->spec->n_http;
}

void tr_plan_make(struct mz_view *v, struct route_plan *p)
{
    const struct tr_egress *e = p->egress = p->every ? p->egress : tr_egress_for(v->scope, p->port);
    mz_map_init(&p->by_host, MZ_MEM_XDS);
    for (size_t i = 0; e && i < e->services_n; i++) {
        const struct mz_service *s = e->services[i];
        const struct mz_port *port = mz_service_port(s, p->port);
        if (!port || (p->host.n && !mz_str_eq(s->host, p->host)))
            continue;
        if (e->virtuals_n) /* nobody else asks */
            (void)mz_map_put(&p->by_host, s->host, (void *)(uintptr_t)s);
        if (s->resolution != MZ_RESOLVE_ALIAS && tr_port_speaks_http(port))
            *mz_vec_push(&p->services, MZ_MEM_XDS) = s;
    }
    for (size_t i = 0; e && i < e->virtuals_n; i++)
        if (is_wanted(p, e->virtuals[i]))
            *mz_vec_push(&p->virtuals, MZ_MEM_XDS) = e->virtuals[i];
    mz_sort(p->services.v, p->services.n, sizeof(*p->services.v), compare_hosts);
}

void tr_plan_free(struct route_plan *p)
{
    mz_vec_free(&p->services, MZ_MEM_XDS);
    mz_vec_free(&p->virtuals, MZ_MEM_XDS);
    mz_map_fini(&p->by_host);
}

static struct tr_routing routing(struct mz_view *v, struct mz_arena *a, const struct route_plan *p,
                                 const struct mz_virtual *vs)
{
    static const struct mz_str mesh = MZ_STR_INIT(MZ_GATEWAY_MESH);
    return (
        struct tr_routing){ .v = v, .a = a, .vs = vs, .gateways = { &mesh, 1 }, .port = p->port };
}

/* Which of its hosts are those of services here, HTTP or not. @wild: one is a wildcard. */
static uint64_t hash_hosts(const struct route_plan *p, const struct mz_virtual *vs, bool *wild)
{
    uint64_t h = 1;
    for (size_t i = 0; i < vs->spec->n_hosts; i++) {
        const struct mz_str host = mz_str_c(vs->spec->hosts[i]);
        const struct mz_service *s = mz_map_get(&p->by_host, host);
        const bool any = s || (tr_is_wild(host) && meets_service(p, host));
        const uint64_t one[] = { h, any + (s && tr_speaks_http(s, p->port) ? 2u : 0) };
        h = mz_xxh64(one, sizeof(one), 0);
        *wild |= tr_is_wild(host);
    }
    return h;
}

void tr_plan_key(struct mz_view *v, struct route_plan *p, struct mz_key *k)
{
    uint64_t services = p->services.n, virtuals = p->virtuals.n;
    bool wild = false;
    for (size_t i = 0; i < p->services.n; i++) {
        const struct mz_service *s = p->services.v[i];
        const struct mz_rule *rule = tr_rule(v, s);
        services = mz_xxh64(&s->hash, sizeof(uint64_t), mz_xxh64(s->host.p, s->host.n, services));
        services = rule ? mz_xxh64(&rule->hash, sizeof(uint64_t), services) : services;
        for (size_t j = 0; j < s->aliases_n; j++)
            services = services * 2 + is_imported(v, s, p->port, s->aliases[j]);
    }
    mz_vec_foreach (vs, &p->virtuals) {
        const struct tr_routing r = routing(v, NULL, p, *vs);
        const uint64_t h[] = { tr_virtual_hash(&r), hash_hosts(p, *vs, &wild) };
        virtuals = mz_xxh64(h, sizeof(h), virtuals);
    }
    for (size_t i = 0; wild && i < p->egress->virtuals_n; i++) /* any may be more specific */
        virtuals = mz_xxh64(&p->egress->virtuals[i]->hash, sizeof(uint64_t), virtuals);
    mz_key_init(k, 'r');
    mz_key_str(k, p->name);
    mz_key_str(k, v->proxy->domain);
    mz_key_u64(k, services);
    mz_key_u64(k, virtuals);
    mz_key_u64(k, v->model->mesh.hash);
    mz_key_u64(k, v->scope->leaves_hash);
    mz_key_u64(k, v->proxy->shape);
    mz_key_u64(k, tr_mesh_counts_attempts(v)); /* by settings of its own */
}

/* ---- virtual hosts ---- */

/* NULL: there is one of this name. @surely: nobody has made one, nor will. */
static pb_VirtualHost *new_host(struct making *k, struct mz_str host, bool surely)
{
    char number[20];
    pb_VirtualHost *h = TR_NEW(k->own, VirtualHost);
    h->name = TR_CAT(k->a, host, MZ_STR(":"), tr_number(k->plan->port, number));
    h->include_request_attempt_count = tr_mesh_counts_attempts(k->v);
    return !surely && mz_map_put(&k->names, mz_str_c(h->name), k) ? NULL : h;
}

static struct naming naming(struct making *k, pb_VirtualHost *h)
{
    return (struct naming){ .a = k->own,
                            .kept = k->a,
                            .h = h,
                            .taken = &k->taken,
                            .port = k->plan->bare || k->plan->every ? k->plan->port : 0 };
}

/* A proxy that clients know of: behind other ports than 80 only names with their port mean a service. */
static void keep_with_port(pb_VirtualHost *h)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->n_domains; i++)
        if (strchr(h->domains[i], ':'))
            h->domains[kept++] = h->domains[i];
    h->n_domains = kept;
}

static void finish_host(struct making *k, pb_VirtualHost *h, struct tr_route_list l)
{
    if (k->plan->every && k->plan->port != 80)
        keep_with_port(h);
    if (!h->n_domains)
        return;            /* others have them all */
    if (k->plan->host.n) { /* its listener has its address: whatever the client calls it */
        h->n_domains = 1;
        h->domains[0] = TR_CONST("*");
    }
    h->routes = l.routes;
    h->n_routes = l.n_routes;
    struct mz_out *o = mz_out_create(mz_str_c(h->name), &h->base);
    *mz_vec_push(&k->hosts.v, MZ_MEM_XDS) = k->shared ? tr_share(k->v, o) : o;
}

static void add_service(struct making *k, const struct mz_service *s, struct tr_route_list l,
                        bool surely)
{
    pb_VirtualHost *h = new_host(k, s->host, surely);
    struct naming n = naming(k, h);
    if (!h)
        return;
    add_domains(k->v, &n, s, k->plan->port);
    tr_put_session(k->v, k->own, h, s);
    finish_host(k, h, l);
}

static struct mz_str lower(struct mz_arena *a, struct mz_str s)
{
    char *own = mz_arena_alloc(a, s.n + 1);
    for (size_t i = 0; i < s.n; i++)
        own[i] = mz_lower(s.p[i]);
    own[s.n] = 0;
    return (struct mz_str){ own, s.n };
}

/* A host that no service has. */
static void add_stranger(struct making *k, struct mz_str host, struct tr_route_list l)
{
    host = lower(k->own, host);
    pb_VirtualHost *h = new_host(k, host, false);
    struct naming n = naming(k, h);
    if (!h)
        return;
    n.port = k->plan->every ? 0 : n.port;
    add_address(&n, host);
    add_soon(&n);
    finish_host(k, h, l);
}

/* Of all VirtualServices of the mesh the one that speaks for @host: by its name, else by the longest wildcard; the first. */
static const struct mz_virtual *find_specific(const struct tr_egress *e, struct mz_str host)
{
    const struct mz_virtual *best = NULL;
    size_t best_n = 0;
    for (size_t i = 0; i < e->virtuals_n; i++)
        for (size_t k = 0; k < e->virtuals[i]->spec->n_hosts; k++) {
            const struct mz_str h = mz_str_c(e->virtuals[i]->spec->hosts[k]);
            const size_t n = mz_str_eq(h, host) ? SIZE_MAX : h.n;
            if (n > best_n && mz_host_is_within(host, h)) {
                best = e->virtuals[i];
                best_n = n;
            }
        }
    return best;
}

/* Many wildcards may mean a host: it is looked for once. */
static const struct mz_virtual *most_specific(struct making *k, struct mz_str host)
{
    const struct mz_virtual *vs = mz_map_get(&k->speaks, host);
    if (!vs && (vs = find_specific(k->plan->egress, host)))
        (void)mz_map_put(&k->speaks, host, (void *)(uintptr_t)vs);
    return vs;
}

/* What a VirtualService's hosts mean here. */
struct meant {
    MZ_VEC(const struct mz_service *) services, by_wildcard; /* of HTTP */
    MZ_VEC(struct mz_str) strangers;
};

/* A table for one host has no other. */
static void meet_stranger(const struct making *k, struct mz_str host, struct meant *out)
{
    if (!k->plan->host.n || mz_str_eq(host, k->plan->host))
        *mz_vec_push(&out->strangers, MZ_MEM_XDS) = host;
}

static void find_wild(struct making *k, const struct mz_virtual *vs, struct mz_str host,
                      struct meant *out)
{
    bool any = false;
    mz_map_foreach (it, &k->plan->by_host)
        any |= mz_hosts_meet(host, it->key);
    mz_vec_foreach (s, &k->plan->services)
        if (mz_hosts_meet(host, (*s)->host) && most_specific(k, (*s)->host) == vs)
            *mz_vec_push(&out->by_wildcard, MZ_MEM_XDS) = *s;
    if (!any)
        meet_stranger(k, host, out);
}

/* A route of the Gateway API is for services of its namespace, and for clients there. */
static bool may_route(const struct making *k, const struct mz_virtual *vs,
                      const struct mz_service *s)
{
    return vs->semantics != MZ_SEMANTICS_GATEWAY || mz_str_eq(s->ns, vs->ns) ||
           mz_str_eq(k->v->proxy->ns, vs->ns);
}

static void find_meant(struct making *k, const struct mz_virtual *vs, struct meant *out)
{
    for (size_t i = 0; i < vs->spec->n_hosts; i++) {
        const struct mz_str host = mz_str_c(vs->spec->hosts[i]);
        const struct mz_service *s = mz_map_get(&k->plan->by_host, host);
        if (s && !may_route(k, vs, s))
            continue;
        if (tr_is_wild(host) && vs->semantics == MZ_SEMANTICS_GATEWAY)
            meet_stranger(k, host, out);
        else if (tr_is_wild(host))
            find_wild(k, vs, host, out);
        else if (!s)
            meet_stranger(k, host, out);
        else if (tr_speaks_http(s, k->plan->port))
            *mz_vec_push(&out->services, MZ_MEM_XDS) = s;
    }
}

/* Routes multiply with hosts and their ports, and under a wildcard with services of everybody: at most so many of a service. */
static size_t most_routes(const struct mz_virtual *vs, const struct mz_service *s, bool wild)
{
    enum { MAX_ROUTES = 262144, MAX_OF_WILDCARD = 128 };
    const size_t room = MAX_ROUTES / vs->spec->n_hosts / s->ports_n;
    return wild && room > MAX_OF_WILDCARD ? MAX_OF_WILDCARD : room ? room : 1;
}

static void add_routed(struct making *k, const struct mz_virtual *vs, const struct mz_service *s,
                       bool wild, struct tr_route_list l)
{
    const size_t most = most_routes(vs, s, wild);
    if (l.n_routes > most) {
        tr_tell(k->v,
                mz_arena_printf(k->own, "VirtualService/%.*s/%.*s", MZ_STR_ARG(vs->ns),
                                MZ_STR_ARG(vs->name)),
                "all but %zu routes are left out of %.*s: hosts, ports and routes multiply", most,
                MZ_STR_ARG(s->host));
        l.n_routes = most;
    }
    add_service(k, s, l, false);
    (void)mz_map_put(&k->routed, s->host, k);
}

static bool has_strangers(const struct making *k, const struct mz_virtual *vs, struct meant *m)
{
    const bool any = m->services.n || m->by_wildcard.n;
    if (vs->semantics == MZ_SEMANTICS_GATEWAY && !m->services.n)
        return false; /* it has no host of its own */
    return m->strangers.n && (any || (k->plan->port == 80 && !k->plan->every));
}

/* Routes that any of them takes, and one by which is seen that there are more; 0: all. */
static size_t wanted_routes(const struct making *k, const struct mz_virtual *vs, struct meant *m)
{
    size_t n = 0;
    if (has_strangers(k, vs, m))
        return 0;
    mz_vec_foreach (s, &m->services)
        n = most_routes(vs, *s, false) > n ? most_routes(vs, *s, false) : n;
    mz_vec_foreach (s, &m->by_wildcard)
        n = most_routes(vs, *s, true) > n ? most_routes(vs, *s, true) : n;
    return n + 1;
}

static void add_meant(struct making *k, const struct mz_virtual *vs, struct meant *m,
                      struct tr_route_list l)
{
    if (has_strangers(k, vs, m))
        mz_vec_foreach (host, &m->strangers)
            add_stranger(k, *host, l);
    mz_vec_foreach (s, &m->services)
        add_routed(k, vs, *s, false, l);
    mz_vec_foreach (s, &m->by_wildcard)
        add_routed(k, vs, *s, true, l);
}

static void add_virtual(struct making *k, const struct mz_virtual *vs)
{
    struct meant m = { 0 };
    k->own = mz_arena_create(MZ_MEM_STREAM);
    find_meant(k, vs, &m);
    struct tr_routing r = routing(k->v, k->own, k->plan, vs);
    r.most = wanted_routes(k, vs, &m);
    const struct tr_route_list l = tr_virtual_routes(&r);
    if (l.n_routes)
        add_meant(k, vs, &m, l);
    mz_vec_free(&m.services, MZ_MEM_XDS);
    mz_vec_free(&m.by_wildcard, MZ_MEM_XDS);
    mz_vec_free(&m.strangers, MZ_MEM_XDS);
    mz_arena_destroy(k->own);
}

static void add_by_default(struct making *k, const struct mz_service *s, bool surely)
{
    struct tr_route_list l = { 0 };
    TR_ADD(k->own, &l, routes) = default_route(k->v, k->own, s, k->plan->port);
    add_service(k, s, l, surely);
}

/* What no VirtualService speaks for. */
static void add_unrouted(struct making *k, const struct mz_service *s)
{
    if (mz_map_get(&k->routed, s->host))
        return;
    k->own = mz_arena_create(MZ_MEM_STREAM);
    add_by_default(k, s, !k->names.n); /* each service has a host of its own */
    mz_arena_destroy(k->own);
}

bool tr_making_go_on(struct making *k, size_t n)
{
    const struct route_plan *p = k->plan;
    const size_t all = p->virtuals.n + p->services.n;
    for (; n && k->at < all; n--, k->at++)
        if (k->at < p->virtuals.n)
            add_virtual(k, p->virtuals.v[k->at]);
        else
            add_unrouted(k, p->services.v[k->at - p->virtuals.n]);
    return k->at < all;
}

void tr_making_begin(struct making *k, struct mz_view *v, struct route_plan *p)
{
    enum {
        DOMAINS = 6 /* of most services */
    };
    *k = (struct making){ .v = v, .a = mz_arena_create(MZ_MEM_STREAM), .plan = p };
    k->shared = p->services.n + p->virtuals.n >= MANY_HOSTS;
    mz_map_init(&k->taken, MZ_MEM_XDS);
    mz_map_init(&k->names, MZ_MEM_XDS);
    mz_map_init(&k->routed, MZ_MEM_XDS);
    mz_map_init(&k->speaks, MZ_MEM_XDS);
    mz_map_reserve(&k->taken, p->services.n * DOMAINS);
}

void tr_making_end(struct making *k)
{
    mz_outs_fini(&k->hosts);
    mz_map_fini(&k->taken);
    mz_map_fini(&k->names);
    mz_map_fini(&k->routed);
    mz_map_fini(&k->speaks);
    mz_arena_destroy(k->a);
}

static int compare_names(const void *a, const void *b)
{
    const struct mz_out *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->name, (*y)->name);
}

/* The table of all that were made. Large ones stay in parts: other namespaces have most of them in common with this one. */
static struct mz_out *configuration(struct making *k, pb_RouteConfiguration *rest)
{
    pb_RouteConfiguration head = pb_RouteConfiguration__INIT;
    head.name = rest->name;
    rest->name = TR_CONST("");
    if (!k->plan->host.n && !k->plan->bare)
        TR_ADD(k->a, rest, virtual_hosts) = tr_everything_else(k->v, k->a);
    mz_sort(k->hosts.v.v, k->hosts.v.n, sizeof(*k->hosts.v.v), compare_names);
    struct mz_set *parts = mz_set_create(k->v->t->sets, k->hosts.v.v, k->hosts.v.n);
    struct mz_out *o = mz_out_of_parts(k->plan->name, mz_msg_pack_alloc(&head.base, k->a), parts,
                                       mz_msg_pack_alloc(&rest->base, k->a));
    if (k->hosts.v.n >= MANY_HOSTS)
        return o;
    struct mz_out *whole = mz_out_of_bytes(k->plan->name, mz_out_bytes(o, k->a));
    mz_out_unref(o);
    return whole;
}

struct mz_out *tr_making_finish(struct making *k)
{
    pb_RouteConfiguration *m = TR_NEW(k->a, RouteConfiguration);
    if (k->plan->bare)
        m->name = tr_text(k->a, k->plan->name);
    else
        m = tr_route_configuration(k->a, k->plan->name);
    return configuration(k, m);
}

static struct mz_out *build(struct mz_view *v, struct route_plan *p)
{
    struct making k;
    tr_making_begin(&k, v, p);
    (void)tr_making_go_on(&k, SIZE_MAX);
    struct mz_out *o = tr_making_finish(&k);
    tr_making_end(&k);
    return o;
}

pb_RouteConfiguration *tr_route_configuration(struct mz_arena *a, struct mz_str name)
{
    pb_RouteConfiguration *m = TR_NEW(a, RouteConfiguration);
    m->name = tr_text(a, name);
    m->validate_clusters = tr_bool(a, false);
    m->max_direct_response_body_size_bytes = tr_u32(a, 1 << 20);
    m->ignore_port_in_host_matching = true;
    return m;
}

/* All virtual hosts, from all services. */
struct mz_out *tr_table_made(struct mz_view *v, struct route_plan *p)
{
    struct mz_key k;
    tr_plan_make(v, p);
    tr_plan_key(v, p, &k);
    struct mz_out *o = mz_cache_get(v->t->cache, &k);
    if (!o) {
        o = build(v, p);
        mz_cache_put(v->t->cache, &k, o);
    }
    tr_plan_free(p);
    return o;
}

/* NULL: it has none here. Borrowed. */
struct mz_out *tr_host_made(struct making *k, struct mz_str host)
{
    const struct mz_service *s = mz_map_get(&k->v->scope->by_host, host);
    const struct tr_egress *e = k->plan->egress;
    const size_t had = k->hosts.v.n;
    struct tr_route_list l = { 0 };
    if (!s || !tr_speaks_http(s, k->plan->port))
        return NULL;
    k->own = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 0; i < e->virtuals_n && !l.n_routes; i++) {
        struct tr_routing r = routing(k->v, k->own, k->plan, e->virtuals[i]);
        if (!e->virtuals[i]->spec->n_http || !has_host(e->virtuals[i], host))
            continue;
        r.most = most_routes(r.vs, s, false);
        l = tr_virtual_routes(&r);
    }
    if (l.n_routes)
        add_service(k, s, l, false);
    else
        add_by_default(k, s, false);
    mz_arena_destroy(k->own);
    return k->hosts.v.n > had ? k->hosts.v.v[had] : NULL;
}

/* ---- a proxy that clients know of ---- */

static void add_port(struct making *k, const struct tr_egress *e, uint16_t port)
{
    struct route_plan p = { .name = k->plan->name, .port = port, .every = true, .egress = e };
    struct route_plan *const was = k->plan;
    k->plan = &p;
    tr_plan_make(k->v, &p);
    k->at = 0;
    (void)tr_making_go_on(k, SIZE_MAX);
    mz_map_fini(&k->routed);
    mz_map_init(&k->routed, MZ_MEM_XDS);
    tr_plan_free(&p);
    k->plan = was;
}

static int compare_ports(const void *a, const void *b)
{
    const uint16_t *x = a, *y = b;
    return (*x == 80) != (*y == 80) ? (*y == 80) - (*x == 80) : (*x > *y) - (*x < *y);
}

/* All virtual hosts of all ports; 80, whose names may stand alone, first. */
struct mz_out *tr_every_port(struct mz_view *v, struct mz_str name, const struct tr_egress *e)
{
    struct route_plan p = { .name = name, .every = true };
    struct making k;
    MZ_VEC(uint16_t) ports = { 0 };
    tr_making_begin(&k, v, &p);
    k.shared = e->services_n >= MANY_HOSTS;
    for (size_t i = 0; i < e->services_n; i++)
        for (size_t j = 0; j < e->services[i]->ports_n; j++)
            *mz_vec_push(&ports, MZ_MEM_XDS) = e->services[i]->ports[j].port;
    if (ports.n)
        qsort(ports.v, ports.n, sizeof(*ports.v), compare_ports);
    for (size_t i = 0; i < ports.n; i++)
        if (!i || ports.v[i] != ports.v[i - 1])
            add_port(&k, e, ports.v[i]);
    struct mz_out *o = configuration(&k, tr_route_configuration(k.a, name));
    mz_vec_free(&ports, MZ_MEM_XDS);
    tr_making_end(&k);
    return o;
}
