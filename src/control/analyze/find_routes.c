/* VirtualServices: what they refer to, who has the same host, rules that no request reaches. */
#include <stdio.h>

#include "base/map.h"
#include "control/analyze/finders.h"
#include "control/model/model.h"

static struct mz_str text(const struct mz_node *n)
{
    return n && n->kind == MZ_NODE_STR ? n->text : MZ_STR("");
}

/* ---- destinations ---- */

struct hosts {
    struct mz_documents *d;
    struct mz_map known; /* FQDN to struct mz_object: Services and ServiceEntries */
    bool any;            /* without a Service nobody can tell what is missing */
};

static void hosts_init(struct hosts *h, struct mz_documents *d)
{
    *h = (struct hosts){ .d = d };
    mz_map_init(&h->known, MZ_MEM_CONFIG);
    objects_foreach(it, d, "Service")
    {
        (void)mz_map_put(&h->known, host_fqdn((*it)->name, (*it)->ns, d->arena), *it);
        h->any = true;
    }
    objects_foreach(it, d, "ServiceEntry")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        for (size_t i = 0; i < mz_node_count(list); i++)
            (void)mz_map_put(&h->known, host_fqdn(text(list->list[i]), (*it)->ns, d->arena), *it);
    }
}

/* Names below the domain may be cut: "web.demo", "web.demo.svc". */
static struct mz_object *host_find(const struct hosts *h, struct mz_str fqdn)
{
    struct mz_object *o = mz_map_get(&h->known, fqdn);
    static const char *const suffixes[] = { ".svc.cluster.local", ".cluster.local" };
    for (size_t i = 0; !o && i < MZ_COUNT(suffixes); i++)
        o = mz_map_get(&h->known,
                       mz_arena_printf(h->d->arena, "%.*s%s", MZ_STR_ARG(fqdn), suffixes[i]));
    if (o)
        return o;
    mz_map_foreach (e, &h->known)
        if (e->key.n && e->key.p[0] == '*' && host_matches(e->key, fqdn))
            return e->value;
    return NULL;
}

static bool has_port(const struct mz_object *o, uint64_t port)
{
    const struct mz_node *list = mz_node_at(o->tree, "spec.ports");
    const char *field = object_is(o, "Service") ? "port" : "number";
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_node_number(list->list[i], field) == port)
            return true;
    return false;
}

static bool has_subset(const struct mz_documents *d, struct mz_str fqdn, struct mz_str subset)
{
    objects_foreach(it, d, "DestinationRule")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.subsets");
        if (!host_matches(host_fqdn(mz_node_text((*it)->tree, "spec.host"), (*it)->ns, d->arena),
                          fqdn))
            continue;
        for (size_t i = 0; i < mz_node_count(list); i++)
            if (mz_str_eq(mz_node_text(list->list[i], "name"), subset))
                return true;
    }
    return false;
}

static void destination(const struct hosts *h, const struct mz_object *vs, const struct mz_node *n)
{
    const struct mz_node *host = mz_node_get(n, "host");
    const struct mz_str name = text(host), subset = mz_node_text(n, "subset"),
                        fqdn = host_fqdn(name, vs->ns, h->d->arena);
    const uint64_t port = mz_node_number(n, "port.number");
    if (!name.n)
        return;
    struct mz_object *o = host_find(h, fqdn);
    if (!o && h->any)
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line, "Referenced host not found: \"%.*s\"",
              MZ_STR_ARG(name));
    else if (o && port && !has_port(o, port))
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line,
              "Referenced host:port not found: \"%.*s:%u\"", MZ_STR_ARG(name), (unsigned)port);
    if (subset.n && !has_subset(h->d, fqdn, subset))
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line,
              "Referenced host+subset in destinationrule not found: \"%.*s+%.*s\"",
              MZ_STR_ARG(name), MZ_STR_ARG(subset));
}

static void destinations(const struct hosts *h, const struct mz_object *vs)
{
    static const char *const kinds[] = { "http", "tcp", "tls" };
    for (size_t k = 0; k < MZ_COUNT(kinds); k++) {
        const struct mz_node *rules = mz_node_get(mz_node_get(vs->tree, "spec"), kinds[k]);
        for (size_t i = 0; i < mz_node_count(rules); i++) {
            const struct mz_node *route = mz_node_get(rules->list[i], "route"),
                                 *mirrors = mz_node_get(rules->list[i], "mirrors"),
                                 *mirror = mz_node_get(rules->list[i], "mirror");
            for (size_t j = 0; j < mz_node_count(route); j++)
                destination(h, vs, mz_node_get(route->list[j], "destination"));
            for (size_t j = 0; j < mz_node_count(mirrors); j++)
                destination(h, vs, mz_node_get(mirrors->list[j], "destination"));
            if (mirror)
                destination(h, vs, mirror);
        }
    }
}

/* ---- gateways ---- */

static bool has_host(const struct mz_object *gateway, const struct mz_object *vs)
{
    const struct mz_node *servers = gateway ? mz_node_at(gateway->tree, "spec.servers") : NULL,
                         *want = mz_node_at(vs->tree, "spec.hosts");
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const struct mz_node *list = mz_node_get(servers->list[i], "hosts");
        for (size_t j = 0; j < mz_node_count(list); j++) {
            struct mz_str host = text(list->list[j]), ns = MZ_STR("*");
            const ptrdiff_t slash = mz_str_chr(host, '/');
            if (slash >= 0) {
                ns = (struct mz_str){ host.p, (size_t)slash };
                host = mz_str_skip(host, (size_t)slash + 1);
            }
            if (mz_str_eq(ns, MZ_STR(".")))
                ns = gateway->ns;
            if (!mz_str_eq(ns, MZ_STR("*")) && !mz_str_eq(ns, vs->ns))
                continue;
            for (size_t k = 0; k < mz_node_count(want); k++)
                if (host_matches(host, text(want->list[k])))
                    return true;
        }
    }
    return false;
}

/* One of the Gateway API. */
static const struct mz_object *other_gateway(const struct mz_documents *d, struct mz_str ns,
                                             struct mz_str name)
{
    for (size_t i = 0; i < d->v.n; i++)
        if (mz_str_eq(d->v.v[i]->kind, MZ_STR("Gateway")) && !object_is(d->v.v[i], "Gateway") &&
            mz_str_eq(d->v.v[i]->ns, ns) && mz_str_eq(d->v.v[i]->name, name))
            return d->v.v[i];
    return NULL;
}

static bool listener_has_host(const struct mz_documents *d, struct mz_str ns, struct mz_str name,
                              const struct mz_object *vs)
{
    const struct mz_object *o = other_gateway(d, ns, name);
    const struct mz_node *list = o ? mz_node_at(o->tree, "spec.listeners") : NULL,
                         *want = mz_node_at(vs->tree, "spec.hosts");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str host = mz_node_text(list->list[i], "hostname");
        if (!host.n)
            return true;
        for (size_t k = 0; k < mz_node_count(want); k++)
            if (host_matches(host, text(want->list[k])))
                return true;
    }
    return false;
}

static struct mz_str joined(const struct mz_node *list, struct mz_arena *a)
{
    struct mz_str out = MZ_STR("");
    for (size_t i = 0; i < mz_node_count(list); i++)
        out = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(out), i ? " " : "",
                              MZ_STR_ARG(text(list->list[i])));
    return out;
}

static void gateways(struct mz_documents *d, const struct mz_object *vs)
{
    const struct mz_node *list = mz_node_at(vs->tree, "spec.gateways");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str ref = text(list->list[i]);
        const ptrdiff_t slash = mz_str_chr(ref, '/');
        const struct mz_str ns = slash < 0 ? vs->ns : (struct mz_str){ ref.p, (size_t)slash },
                            name = mz_str_skip(ref, (size_t)(slash + 1));
        if (!ref.n || mz_str_eq(ref, MZ_STR("mesh")))
            continue;
        const struct mz_object *gateway = object_find(d, "Gateway", ns, name);
        if (mz_str_find(name, MZ_STR("~istio-autogenerated-k8s-gateway~")) >= 0) {
            found(d, MZ_LEVEL_WARNING, 165, vs, list->list[i]->line,
                  "Gateway reference in VirtualService %.*s/%.*s is to an implementation-generated "
                  "internal Gateway: %.*s.",
                  MZ_STR_ARG(vs->ns), MZ_STR_ARG(vs->name), MZ_STR_ARG(ref));
            continue;
        }
        if (!gateway && listener_has_host(d, ns, name, vs))
            continue; /* the Gateway API's */
        if (!gateway && !other_gateway(d, ns, name))
            found(d, MZ_LEVEL_ERROR, 101, vs, list->list[i]->line,
                  "Referenced gateway not found: \"%.*s\"", MZ_STR_ARG(ref));
        if (!has_host(gateway, vs))
            found(d, MZ_LEVEL_WARNING, 132, vs, list->list[i]->line,
                  "one or more host [%.*s] defined in VirtualService %.*s/%.*s not found in "
                  "Gateway %.*s/%.*s.",
                  MZ_STR_ARG(joined(mz_node_at(vs->tree, "spec.hosts"), d->arena)),
                  MZ_STR_ARG(vs->ns), MZ_STR_ARG(vs->name), MZ_STR_ARG(ns), MZ_STR_ARG(name));
    }
}

/* ---- one host, several VirtualServices ---- */

struct claim {
    struct mz_str key; /* "*" or a namespace, '/', the host */
    MZ_VEC(const struct mz_object *) by;
};

static bool is_of_mesh(const struct mz_object *vs)
{
    const struct mz_node *list = mz_node_at(vs->tree, "spec.gateways");
    bool mesh = !mz_node_count(list);
    for (size_t i = 0; i < mz_node_count(list); i++)
        mesh |= mz_str_eq(text(list->list[i]), MZ_STR("mesh"));
    return mesh;
}

static void claim_host(struct mz_map *claims, struct mz_documents *d, const struct mz_object *vs,
                       struct mz_str host)
{
    const struct mz_str key = mz_arena_printf(
        d->arena, "%.*s/%.*s", MZ_STR_ARG(exports_everywhere(vs) ? MZ_STR("*") : vs->ns),
        MZ_STR_ARG(host_fqdn(host, vs->ns, d->arena)));
    struct claim *c = mz_map_get(claims, key);
    if (!c) {
        c = mz_arena_new0(d->arena, struct claim);
        c->key = key;
        (void)mz_map_put(claims, key, c);
    }
    *mz_vec_push(&c->by, MZ_MEM_CONFIG) = vs;
}

static void tell_claim(struct mz_documents *d, const struct claim *c)
{
    struct mz_str names = MZ_STR("");
    for (size_t i = 0; i < c->by.n; i++)
        names = mz_arena_printf(d->arena, "%.*s%s%.*s/%.*s", MZ_STR_ARG(names), i ? "," : "",
                                MZ_STR_ARG(c->by.v[i]->ns), MZ_STR_ARG(c->by.v[i]->name));
    for (size_t i = 0; i < c->by.n && c->by.n > 1; i++)
        found(d, MZ_LEVEL_ERROR, 109, c->by.v[i], name_line(c->by.v[i]),
              "The VirtualServices %.*s associated with mesh gateway define the same host %.*s "
              "which can "
              "lead to undefined behavior. This can be fixed by merging the conflicting "
              "VirtualServices "
              "into a single resource.",
              MZ_STR_ARG(names), MZ_STR_ARG(c->key));
}

static void conflicts(struct mz_documents *d)
{
    struct mz_map claims;
    mz_map_init(&claims, MZ_MEM_CONFIG);
    objects_foreach(it, d, "VirtualService")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        for (size_t i = 0; is_of_mesh(*it) && i < mz_node_count(list); i++)
            claim_host(&claims, d, *it, text(list->list[i]));
    }
    mz_map_foreach (e, &claims) {
        struct claim *c = e->value;
        tell_claim(d, c);
        mz_vec_free(&c->by, MZ_MEM_CONFIG);
    }
    mz_map_fini(&claims);
}

/* ---- rules ---- */

static bool same(const struct mz_node *a, const struct mz_node *b)
{
    if (a->kind != b->kind || a->n != b->n)
        return a->kind == b->kind && a->kind < MZ_NODE_LIST && a->kind != MZ_NODE_BOOL &&
               mz_str_eq(a->text, b->text);
    switch (a->kind) {
    case MZ_NODE_NULL:
        return true;
    case MZ_NODE_BOOL:
        return a->b == b->b;
    case MZ_NODE_LIST:
        for (uint32_t i = 0; i < a->n; i++)
            if (!same(a->list[i], b->list[i]))
                return false;
        return true;
    case MZ_NODE_MAP:
        for (uint32_t i = 0; i < a->n; i++)
            if (!mz_str_eq(a->pairs[i].key, b->pairs[i].key) ||
                !same(a->pairs[i].value, b->pairs[i].value))
                return false;
        return true;
    default:
        return mz_str_eq(a->text, b->text);
    }
}

static struct mz_str name_of(const struct mz_node *n, size_t number, struct mz_arena *a)
{
    const struct mz_str name = mz_node_text(n, "name");
    return name.n ? mz_arena_printf(a, "\"%.*s\"", MZ_STR_ARG(name))
                  : mz_arena_printf(a, "#%zu", number);
}

enum { MAX_MATCHES = 2000 }; /* that are compared: time is their square */

struct seen {
    const struct mz_node *match;
    size_t rule;
};

static size_t seen_find(const struct seen *v, size_t n, const struct mz_node *match)
{
    for (size_t i = 0; i < n; i++)
        if (same(v[i].match, match))
            return i;
    return n;
}

void routes_unused(const struct mz_object *vs, struct mz_arena *a, route_unused *tell, void *arg)
{
    const struct mz_node *rules = mz_node_at(vs->tree, "spec.http");
    MZ_VEC(struct seen) seen = { 0 };
    bool all_before = false;
    for (size_t i = 0; i < mz_node_count(rules); i++) {
        const struct mz_node *matches = mz_node_get(rules->list[i], "match");
        const struct mz_str rule = name_of(rules->list[i], i, a);
        size_t duplicates = 0;
        if (!mz_node_count(matches) && all_before)
            tell(arg, vs, true,
                 mz_arena_printf(a, "rule %.*s not used (only the last rule can have no matches).",
                                 MZ_STR_ARG(rule)));
        for (size_t j = 0; j < mz_node_count(matches) && seen.n < MAX_MATCHES; j++) {
            if (all_before) {
                tell(arg, vs, true,
                     mz_arena_printf(a,
                                     "rule %.*s not used (route without matches defined before).",
                                     MZ_STR_ARG(rule)));
                continue;
            }
            const size_t at = seen_find(seen.v, seen.n, matches->list[j]);
            if (at == seen.n) {
                *mz_vec_push(&seen, MZ_MEM_CONFIG) = (struct seen){ matches->list[j], i };
                continue;
            }
            const size_t other = seen.v[at].rule;
            duplicates++;
            tell(arg, vs, false,
                 mz_arena_printf(
                     a,
                     "rule %.*s match %.*s is not used (duplicate/overlapping match in rule %.*s).",
                     MZ_STR_ARG(rule), MZ_STR_ARG(name_of(matches->list[j], j, a)),
                     MZ_STR_ARG(name_of(rules->list[other], other, a))));
        }
        if (duplicates && duplicates == mz_node_count(matches))
            tell(arg, vs, true,
                 mz_arena_printf(a, "rule %.*s not used (all matches used by prior rules).",
                                 MZ_STR_ARG(rule)));
        all_before |= !mz_node_count(matches);
    }
    mz_vec_free(&seen, MZ_MEM_CONFIG);
}

static void unused(void *arg, const struct mz_object *vs, bool whole, struct mz_str what)
{
    found(arg, whole ? MZ_LEVEL_WARNING : MZ_LEVEL_INFO, whole ? 130 : 131, vs, vs->line,
          "VirtualService %.*s", MZ_STR_ARG(what));
}

void find_in_routes(struct mz_documents *d)
{
    struct hosts h;
    hosts_init(&h, d);
    objects_foreach(it, d, "VirtualService")
    {
        destinations(&h, *it);
        gateways(d, *it);
        routes_unused(*it, d->arena, unused, d);
    }
    conflicts(d);
    mz_map_fini(&h.known);
}
