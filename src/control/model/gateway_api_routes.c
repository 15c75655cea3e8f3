/* Documents of routes to VirtualServices: one for each gateway and host, whoever wrote their rules (the API orders rules by what they
 * match, across documents). */
#include <stdio.h>
#include <stdlib.h>

#include "control/model/gateway_api_priv.h"

struct rules { /* of one document */
    ist_HTTPRoute **v;
    size_t n_v;
};
struct part {
    struct mz_str created, ns, name;
    struct rules rules;
};
struct gw_merged { /* rules of one gateway (or namespace and port of the mesh) and host */
    struct mz_str key, host, gateway;
    MZ_VEC(struct part) parts;
};

/* ---- order of rules ---- */

struct ranked {
    ist_HTTPRoute *r;
    size_t at;
};

static int uri_rank(const ist_StringMatch *m)
{
    if (!m)
        return -1;
    return m->match_type_case == ist_StringMatch_MATCH_TYPE_EXACT    ? 3
           : m->match_type_case == ist_StringMatch_MATCH_TYPE_PREFIX ? 2
                                                                     : 1;
}

static size_t uri_length(const ist_StringMatch *m)
{
    if (!m)
        return 0;
    return strlen(m->match_type_case == ist_StringMatch_MATCH_TYPE_EXACT    ? m->exact
                  : m->match_type_case == ist_StringMatch_MATCH_TYPE_PREFIX ? m->prefix
                                                                            : m->regex);
}

/* Exact before prefix before expression, the longer, with a method, with more headers, with more parameters; each has one match at most. */
static int compare_rules(const void *a, const void *b)
{
    const struct ranked *x = a, *y = b;
    const ist_HTTPMatchRequest *m = x->r->n_match ? x->r->match[0] : NULL,
                               *n = y->r->n_match ? y->r->match[0] : NULL;
    const int in_order = x->at < y->at ? -1 : x->at > y->at;
    if (!m || !n)
        return m ? -1 : n ? 1 : in_order;
    const size_t of_m[] = { (size_t)(uri_rank(m->uri) + 1), uri_length(m->uri), m->method != NULL,
                            m->n_headers, m->n_query_params };
    const size_t of_n[] = { (size_t)(uri_rank(n->uri) + 1), uri_length(n->uri), n->method != NULL,
                            n->n_headers, n->n_query_params };
    for (size_t i = 0; i < MZ_COUNT(of_m); i++)
        if (of_m[i] != of_n[i])
            return of_m[i] > of_n[i] ? -1 : 1;
    return in_order;
}

static void sort_rules(struct gw_making *g, struct rules *l)
{
    struct ranked *v = mz_arena_alloc(g->d->scratch, l->n_v * sizeof(*v));
    for (size_t i = 0; i < l->n_v; i++)
        v[i] = (struct ranked){ l->v[i], i };
    if (l->n_v)
        qsort(v, l->n_v, sizeof(*v), compare_rules);
    for (size_t i = 0; i < l->n_v; i++)
        l->v[i] = v[i].r;
}

/* ---- HTTP and gRPC ---- */

/* False: the document cannot be used. */
static bool add_rule(struct gw_making *g, struct rules *l, ist_HTTPRoute *m,
                     const struct mz_gw_error *one, struct mz_gw_error *e)
{
    if (one->reason)
        *e = *one;
    if (!m)
        return false;
    GW_ADD(g->a, l, v) = m;
    return true;
}

static struct rules http_rules(struct gw_making *g, struct gw_route *r, const k8s_HTTPRoute *m,
                               bool mesh, struct mz_gw_error *e)
{
    struct rules l = { 0 };
    for (size_t i = 0; i < m->n_rules; i++) {
        const k8s_HTTPRouteRule *rule = m->rules[i];
        for (size_t k = 0; k < (rule->n_matches ? rule->n_matches : 1); k++) {
            struct mz_gw_error one = { 0 };
            ist_HTTPRoute *made =
                gw_http_rule(g, r, rule, i, rule->n_matches ? rule->matches[k] : NULL, mesh, &one);
            if (!add_rule(g, &l, made, &one, e))
                return (struct rules){ 0 };
        }
    }
    return l;
}

static struct rules grpc_rules(struct gw_making *g, struct gw_route *r, const k8s_GRPCRoute *m,
                               bool mesh, struct mz_gw_error *e)
{
    struct rules l = { 0 };
    for (size_t i = 0; i < m->n_rules; i++) {
        const k8s_GRPCRouteRule *rule = m->rules[i];
        for (size_t k = 0; k < (rule->n_matches ? rule->n_matches : 1); k++) {
            struct mz_gw_error one = { 0 };
            ist_HTTPRoute *made =
                gw_grpc_rule(g, r, rule, i, rule->n_matches ? rule->matches[k] : NULL, mesh, &one);
            if (!add_rule(g, &l, made, &one, e))
                return (struct rules){ 0 };
        }
    }
    return l;
}

static struct rules at_port(struct gw_making *g, const struct rules *l, uint32_t port)
{
    struct rules out = { 0 };
    for (size_t i = 0; i < l->n_v; i++) {
        ist_HTTPRoute *r = GW_MAKE(g->a, HTTPRoute);
        ist_HTTPMatchRequest *m = GW_MAKE(g->a, HTTPMatchRequest);
        *r = *l->v[i];
        if (r->n_match)
            *m = *r->match[0];
        m->port = port;
        r->match = NULL;
        r->n_match = 0;
        GW_ADD(g->a, r, match) = m;
        GW_ADD(g->a, &out, v) = r;
    }
    return out;
}

struct hosts {
    char **v;
    size_t n_v;
};

/* What a Service or ServiceEntry of the mesh is called. */
static struct hosts mesh_hosts(struct gw_making *g, const struct gw_binding *b)
{
    struct hosts h = { 0 };
    if (b->kind == MZ_KIND_SERVICE_ENTRY) {
        const struct mz_doc *doc = gw_doc(g, "ServiceEntry", b->ns, b->ref->name);
        const ist_ServiceEntry *e = doc ? (const ist_ServiceEntry *)mz_doc_body(doc, g->a) : NULL;
        return e ? (struct hosts){ e->hosts, e->n_hosts } : h;
    }
    GW_ADD(g->a, &h, v) = GW_PRINTF(g->a, "%s.%.*s.svc.%.*s", b->ref->name, MZ_STR_ARG(b->ns),
                                    MZ_STR_ARG(g->d->m->mesh.domain));
    return h;
}

static struct hosts route_hosts(const struct gw_route *r)
{
    static char star[] = "*";
    static char *every[] = { star };
    return r->hostnames_n ? (struct hosts){ (char **)(uintptr_t)r->hostnames, r->hostnames_n }
                          : (struct hosts){ every, 1 };
}

static void merge(struct gw_making *g, const struct gw_route *r, struct mz_str where,
                  struct mz_str gateway, const char *host, const struct rules *l)
{
    const struct mz_str key = mz_arena_printf(g->a, "%.*s/%s", MZ_STR_ARG(where), host);
    struct gw_merged *m = mz_map_get(&g->merging, key);
    if (!m) {
        m = mz_arena_new0(g->d->scratch, struct gw_merged);
        m->key = key;
        m->host = mz_arena_dup(g->a, mz_str_c(host));
        m->gateway = gateway;
        (void)mz_map_put(&g->merging, key, m);
        *mz_vec_push(&g->merged, MZ_MEM_CONFIG) = m;
    }
    *mz_vec_push(&m->parts, MZ_MEM_CONFIG) =
        (struct part){ r->doc->created, r->doc->ns, r->doc->name, *l };
}

static void add_http(struct gw_making *g, struct gw_route *r, const struct rules *mesh,
                     const struct rules *gateway)
{
    size_t n;
    const struct gw_binding **v = gw_accepted(g, r, &n);
    for (size_t i = 0; i < n; i++) {
        const struct gw_binding *b = v[i];
        struct rules l = b->listener ? *gateway : *mesh;
        const struct hosts h = b->listener ? route_hosts(r) : mesh_hosts(g, b);
        struct mz_str where = b->listener ? b->listener->internal : r->doc->ns;
        if (!b->listener && b->ref->port) {
            l = at_port(g, &l, (uint32_t)b->ref->port->value);
            where = mz_arena_printf(g->a, "%.*s/%d", MZ_STR_ARG(where), b->ref->port->value);
        }
        for (size_t k = 0; k < h.n_v && l.n_v; k++)
            if (gw_host_is_ours(b, mz_str_c(h.v[k])))
                merge(g, r, where, b->listener ? b->listener->internal : MZ_STR(MZ_GATEWAY_MESH),
                      h.v[k], &l);
    }
}

static int compare_parts(const void *a, const void *b)
{
    const struct part *x = a, *y = b;
    int c = mz_str_cmp(x->created, y->created);
    c = c ? c : mz_str_cmp(x->ns, y->ns);
    return c ? c : mz_str_cmp(x->name, y->name);
}

static int compare_merged(const void *a, const void *b)
{
    const struct gw_merged *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->key, (*y)->key);
}

static struct mz_str tildes(struct gw_making *g, struct mz_str key)
{
    char *own = gw_text(g->a, key);
    for (size_t i = 0; i < key.n; i++)
        if (own[i] == '/')
            own[i] = '~';
    return (struct mz_str){ own, key.n };
}

static void finish_merged(struct gw_making *g, struct gw_merged *m)
{
    struct rules all = { 0 };
    ist_VirtualService *s = GW_MAKE(g->a, VirtualService);
    qsort(m->parts.v, m->parts.n, sizeof(*m->parts.v), compare_parts);
    mz_vec_foreach (p, &m->parts)
        for (size_t i = 0; i < p->rules.n_v; i++)
            GW_ADD(g->a, &all, v) = p->rules.v[i];
    sort_rules(g, &all);
    GW_ADD(g->a, s, hosts) = gw_text(g->a, m->host);
    GW_ADD(g->a, s, gateways) = gw_text(g->a, m->gateway);
    s->http = all.v;
    s->n_http = all.n_v;
    gw_add_virtual(g, m->parts.v[0].ns, tildes(g, m->key), m->parts.v[0].created, s,
                   MZ_SEMANTICS_GATEWAY);
    mz_vec_free(&m->parts, MZ_MEM_CONFIG);
}

/* ---- TCP and TLS ---- */

struct l4_rules {
    struct l4_rule {
        ist_RouteDestination **to;
        size_t n_to;
    } * v;
    size_t n_v;
};

static struct l4_rules l4_rules(struct gw_making *g, struct gw_route *r, const k8s_L4Route *m,
                                bool mesh, struct mz_gw_error *e)
{
    struct l4_rules l = { 0 };
    for (size_t i = 0; i < m->n_rules; i++) {
        struct l4_rule one = { 0 };
        struct mz_gw_error bad = { 0 };
        const bool ok =
            gw_l4_destinations(g, r, m->rules[i]->backendrefs, m->rules[i]->n_backendrefs, mesh,
                               &one.to, &one.n_to, &bad);
        if (bad.reason)
            *e = bad;
        if (!ok)
            return (struct l4_rules){ 0 };
        GW_ADD(g->a, &l, v) = one;
    }
    return l;
}

static void add_tcp(struct gw_making *g, ist_VirtualService *s, const struct l4_rules *l,
                    const pb_Int32Value *port)
{
    for (size_t i = 0; i < l->n_v; i++) {
        ist_TCPRoute *t = GW_MAKE(g->a, TCPRoute);
        t->route = l->v[i].to;
        t->n_route = l->v[i].n_to;
        if (port) {
            ist_L4MatchAttributes *m = GW_MAKE(g->a, L4MatchAttributes);
            m->port = (uint32_t)port->value;
            GW_ADD(g->a, t, match) = m;
        }
        GW_ADD(g->a, s, tcp) = t;
    }
}

static void add_tls(struct gw_making *g, ist_VirtualService *s, const struct l4_rules *l,
                    const struct hosts *snis, const pb_Int32Value *port)
{
    for (size_t i = 0; i < l->n_v && snis->n_v; i++) {
        ist_TLSRoute *t = GW_MAKE(g->a, TLSRoute);
        ist_TLSMatchAttributes *m = GW_MAKE(g->a, TLSMatchAttributes);
        t->route = l->v[i].to;
        t->n_route = l->v[i].n_to;
        m->sni_hosts = snis->v;
        m->n_sni_hosts = snis->n_v;
        m->port = port ? (uint32_t)port->value : 0;
        GW_ADD(g->a, t, match) = m;
        GW_ADD(g->a, s, tls) = t;
    }
}

/* The narrower ones of names that have some in common. */
static struct hosts common(struct gw_making *g, const struct hosts *h, const char *with)
{
    struct hosts out = { 0 };
    for (size_t i = 0; i < h->n_v; i++) {
        const struct mz_str a = mz_str_c(h->v[i]), b = mz_str_c(with);
        char *one = gw_hosts_within(a, b)   ? h->v[i]
                    : gw_hosts_within(b, a) ? gw_text(g->a, b)
                                            : NULL;
        for (size_t k = 0; one && k < out.n_v; k++)
            if (strcmp(out.v[k], one) == 0)
                one = NULL;
        if (one)
            GW_ADD(g->a, &out, v) = one;
    }
    return out;
}

/* Names that clients of one host of the mesh may ask for. */
static struct hosts compatible(struct gw_making *g, const struct hosts *snis, const char *host)
{
    struct hosts out = { 0 };
    if (snis->n_v < 2)
        return *snis;
    for (size_t i = 0; i < snis->n_v; i++)
        if (mz_hosts_meet(mz_str_c(host), mz_str_c(snis->v[i])))
            GW_ADD(g->a, &out, v) = snis->v[i];
    return out;
}

static struct hosts snis_of(struct gw_making *g, struct gw_route *r, const struct gw_binding *b,
                            const struct hosts *names)
{
    const struct hosts own = route_hosts(r);
    const char *listener = b->listener ? gw_or(b->listener->spec->hostname, "") : "";
    if (!b->listener && own.n_v == 1 && strcmp(own.v[0], "*") == 0)
        return *names;
    return listener[0] ? common(g, &own, listener) : own;
}

static void add_l4(struct gw_making *g, struct gw_route *r, const struct l4_rules *mesh,
                   const struct l4_rules *gateway)
{
    static char star[] = "*";
    static char *every[] = { star };
    const bool tls = r->kind == MZ_GW_TLS;
    size_t n, count = 0;
    const struct gw_binding **v = gw_accepted(g, r, &n);
    for (size_t i = 0; i < n; i++) {
        const struct gw_binding *b = v[i];
        const struct l4_rules *l = b->listener ? gateway : mesh;
        const char *listener = b->listener ? gw_or(b->listener->spec->hostname, "") : "";
        const pb_Int32Value *port = b->listener ? NULL : b->ref->port;
        struct hosts h = route_hosts(r);
        if (!b->listener)
            h = mesh_hosts(g, b);
        else if (tls && listener[0])
            h = common(g, &h, listener);
        else if (!tls)
            h = (struct hosts){ every, 1 };
        const struct hosts snis = snis_of(g, r, b, &h);
        for (size_t k = 0; k < h.n_v; k++) {
            ist_VirtualService *s = GW_MAKE(g->a, VirtualService);
            const struct hosts some = b->listener ? snis : compatible(g, &snis, h.v[k]);
            GW_ADD(g->a, s, hosts) = h.v[k];
            GW_ADD(g->a, s, gateways) =
                gw_text(g->a, b->listener ? b->listener->internal : MZ_STR(MZ_GATEWAY_MESH));
            if (tls)
                add_tls(g, s, l, &some, port);
            else
                add_tcp(g, s, l, port);
            gw_add_virtual(g, r->doc->ns,
                           mz_arena_printf(g->a, "%.*s~%s~%zu~" GW_INTERNAL,
                                           MZ_STR_ARG(r->doc->name), tls ? "tls" : "tcp", count++),
                           r->doc->created, s, MZ_SEMANTICS_GATEWAY);
        }
    }
}

/* ---- documents ---- */

static void begin(struct gw_making *g, struct gw_route *r, k8s_ParentReference *const *refs,
                  size_t refs_n, char *const *hostnames, size_t hostnames_n)
{
    r->refs = refs;
    r->refs_n = refs_n;
    r->hostnames = hostnames;
    r->hostnames_n = hostnames_n;
    gw_bind(g, r);
}

/* As the API fills it in: every path, leading nowhere. */
static void default_rule(struct gw_making *g, k8s_HTTPRoute *m)
{
    k8s_HTTPRouteRule *rule = (k8s_HTTPRouteRule *)gw_new(g->a, &k8s_HTTPRouteRule__descriptor);
    GW_ADD(g->a, rule, matches) =
        (k8s_HTTPRouteMatch *)gw_new(g->a, &k8s_HTTPRouteMatch__descriptor);
    GW_ADD(g->a, m, rules) = rule;
}

static void http_route(struct gw_making *g, struct gw_route *r)
{
    k8s_HTTPRoute *m = (k8s_HTTPRoute *)(uintptr_t)mz_doc_body(r->doc, g->a);
    struct rules mesh = { 0 }, gateway = { 0 };
    if (!m->n_rules)
        default_rule(g, m);
    begin(g, r, m->parentrefs, m->n_parentrefs, m->hostnames, m->n_hostnames);
    if (r->mesh)
        mesh = http_rules(g, r, m, true, &r->mesh_error);
    if (r->gateway)
        gateway = http_rules(g, r, m, false, &r->gateway_error);
    for (size_t i = 0; i < m->n_rules; i++)
        gw_note_backend(g, r, m->rules[i]->backendrefs, m->rules[i]->n_backendrefs);
    add_http(g, r, &mesh, &gateway);
}

static void grpc_route(struct gw_making *g, struct gw_route *r)
{
    const k8s_GRPCRoute *m = (const k8s_GRPCRoute *)mz_doc_body(r->doc, g->a);
    struct rules mesh = { 0 }, gateway = { 0 };
    begin(g, r, m->parentrefs, m->n_parentrefs, m->hostnames, m->n_hostnames);
    if (r->mesh)
        mesh = grpc_rules(g, r, m, true, &r->mesh_error);
    if (r->gateway)
        gateway = grpc_rules(g, r, m, false, &r->gateway_error);
    for (size_t i = 0; i < m->n_rules; i++)
        gw_note_backend(g, r, m->rules[i]->backendrefs, m->rules[i]->n_backendrefs);
    add_http(g, r, &mesh, &gateway);
}

static void l4_route(struct gw_making *g, struct gw_route *r)
{
    const k8s_L4Route *m = (const k8s_L4Route *)mz_doc_body(r->doc, g->a);
    struct l4_rules mesh = { 0 }, gateway = { 0 };
    const bool names = r->kind == MZ_GW_TLS;
    begin(g, r, m->parentrefs, m->n_parentrefs, names ? m->hostnames : NULL,
          names ? m->n_hostnames : 0);
    if (r->mesh)
        mesh = l4_rules(g, r, m, true, &r->mesh_error);
    if (r->gateway)
        gateway = l4_rules(g, r, m, false, &r->gateway_error);
    for (size_t i = 0; i < m->n_rules; i++)
        gw_note_backend(g, r, m->rules[i]->backendrefs, m->rules[i]->n_backendrefs);
    add_l4(g, r, &mesh, &gateway);
}

void gw_add_routes(struct gw_making *g)
{
    static const struct {
        enum mz_kind kind;
        void (*add)(struct gw_making *g, struct gw_route *r);
    } kinds[MZ_GW_ROUTE_KINDS] = { [MZ_GW_HTTP] = { MZ_KIND_HTTP_ROUTE, http_route },
                                   [MZ_GW_GRPC] = { MZ_KIND_GRPC_ROUTE, grpc_route },
                                   [MZ_GW_TCP] = { MZ_KIND_TCP_ROUTE, l4_route },
                                   [MZ_GW_TLS] = { MZ_KIND_TLS_ROUTE, l4_route } };
    for (unsigned k = 0; k < MZ_GW_ROUTE_KINDS; k++) {
        size_t n;
        const struct mz_doc *const *docs = mz_store_list(g->d->store, kinds[k].kind, &n);
        for (size_t i = 0; i < n; i++) {
            struct gw_route r = { .doc = docs[i], .kind = (enum mz_gw_route_kind)k };
            kinds[k].add(g, &r);
            gw_report(g, &r);
            mz_vec_free(&r.bindings, MZ_MEM_CONFIG);
        }
    }
    if (g->merged.n)
        qsort(g->merged.v, g->merged.n, sizeof(*g->merged.v), compare_merged);
    mz_vec_foreach (m, &g->merged)
        finish_merged(g, *m);
}
