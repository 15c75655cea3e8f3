/* VirtualServices: what they refer to, who has the same host, rules that no request reaches. */
#include <stdio.h>
#include <stdlib.h>

#include "control/analyze/finders.h"

static struct mz_str text(const struct mz_node *n)
{
    return n && n->kind == MZ_NODE_STR ? n->text : MZ_STR("");
}

/* ---- destinations ---- */

static bool has_port(const struct mz_object *o, uint64_t port)
{
    const struct mz_node *list = mz_node_at(o->tree, "spec.ports");
    const char *field = object_is(o, "Service") ? "port" : "number";
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_node_number(list->list[i], field) == port)
            return true;
    return false;
}

static struct mz_str port_numbers(const struct mz_object *o, struct mz_arena *a)
{
    const struct mz_node *list = mz_node_at(o->tree, "spec.ports");
    const char *field = object_is(o, "Service") ? "port" : "number";
    struct mz_str *v = mz_arena_alloc(a, mz_node_count(list) * sizeof(*v));
    for (size_t i = 0; i < mz_node_count(list); i++)
        v[i] = mz_arena_printf(a, "%u", (unsigned)mz_node_number(list->list[i], field));
    return texts_join(v, mz_node_count(list), " ", a);
}

static void destination(const struct hosts *h, const struct mz_object *vs, const struct mz_node *n,
                        bool mirror)
{
    const struct mz_node *host = mz_node_get(n, "host");
    const struct mz_str name = text(host), subset = mz_node_text(n, "subset"),
                        fqdn = host_fqdn(name, vs->ns, h->d->arena);
    const uint64_t port = mz_node_number(n, "port.number");
    if (!name.n)
        return;
    const struct mz_object *o = hosts_find(h, vs, name);
    if (!o && h->any)
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line, "Referenced %shost not found: \"%.*s\"",
              mirror ? "mirror " : "", MZ_STR_ARG(name));
    else if (o && port && !has_port(o, port))
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line,
              "Referenced host:port not found: \"%.*s:%u\"", MZ_STR_ARG(name), (unsigned)port);
    else if (o && !mz_node_get(n, "port") && mz_node_count(mz_node_at(o->tree, "spec.ports")) > 1)
        found(h->d, MZ_LEVEL_ERROR, 112, vs, host->line,
              "This VirtualService routes to a service \"%.*s\" that exposes multiple ports "
              "[%.*s]. Specifying a port in the destination is required to disambiguate.",
              MZ_STR_ARG(name), MZ_STR_ARG(port_numbers(o, h->d->arena)));
    if (subset.n && !hosts_has_subset(h, fqdn, subset))
        found(h->d, MZ_LEVEL_ERROR, 101, vs, host->line,
              "Referenced %s+subset in destinationrule not found: \"%.*s+%.*s\"",
              mirror ? "mirror" : "host", MZ_STR_ARG(name), MZ_STR_ARG(subset));
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
                destination(h, vs, mz_node_get(route->list[j], "destination"), false);
            for (size_t j = 0; j < mz_node_count(mirrors); j++)
                destination(h, vs, mz_node_get(mirrors->list[j], "destination"), true);
            if (mirror)
                destination(h, vs, mirror, true);
        }
    }
}

/* ---- subsets that requests through a gateway do not come by ---- */

/* Into @subsets, by host: a VirtualService that routes requests for a host of its own to a subset of it. */
static void subsets_of(struct mz_documents *d, struct mz_map *subsets, struct mz_object *vs)
{
    const struct mz_node *rules = mz_node_at(vs->tree, "spec.http"),
                         *hosts = mz_node_at(vs->tree, "spec.hosts");
    for (size_t i = 0; i < mz_node_count(rules); i++) {
        const struct mz_node *route = mz_node_get(rules->list[i], "route");
        for (size_t j = 0; j < mz_node_count(route); j++) {
            const struct mz_str host = mz_node_text(route->list[j], "destination.host");
            bool own = false;
            if (!mz_node_text(route->list[j], "destination.subset").n)
                continue;
            for (size_t k = 0; !own && k < mz_node_count(hosts); k++)
                own = mz_str_eq(text(hosts->list[k]), host);
            struct objects *l = own ? objects_listed(d->arena, subsets, host) : NULL;
            if (l && (!l->v.n || l->v.v[l->v.n - 1] != vs))
                objects_push(l, vs);
        }
    }
}

static void around_subsets(struct mz_documents *d, const struct mz_map *subsets,
                           const struct mz_object *vs)
{
    const struct mz_node *rules = mz_node_at(vs->tree, "spec.http");
    if (!mz_node_count(mz_node_at(vs->tree, "spec.gateways")))
        return;
    for (size_t i = 0; i < mz_node_count(rules); i++) {
        const struct mz_node *route = mz_node_get(rules->list[i], "route");
        for (size_t j = 0; j < mz_node_count(route); j++) {
            const struct mz_node *to = mz_node_get(route->list[j], "destination");
            const struct objects *l =
                mz_node_text(to, "subset").n ? NULL : mz_map_get(subsets, mz_node_text(to, "host"));
            for (size_t k = 0; l && k < l->v.n && !found_enough(d, vs); k++)
                found(d, MZ_LEVEL_WARNING, 140, vs, to ? to->line : 0,
                      "Subset in virtual service %.*s has no effect on ingress gateway %.*s "
                      "requests",
                      MZ_STR_ARG(object_name(d, l->v.v[k])), MZ_STR_ARG(object_name(d, vs)));
        }
    }
}

/* ---- claims of tokens ---- */

static bool is_claim(struct mz_str header)
{
    static const struct mz_str prefix = MZ_STR_INIT("@request.auth.claims");
    const struct mz_str rest =
        mz_str_istarts(header, prefix) ? mz_str_skip(header, prefix.n) : MZ_STR("");
    return rest.n > 1 &&
           (rest.p[0] == '.' || (rest.n > 2 && rest.p[0] == '[' && rest.p[rest.n - 1] == ']'));
}

static struct mz_str claim_in(const struct mz_node *match, const char *field)
{
    const struct mz_node *m = mz_node_get(match, field);
    for (uint32_t i = 0; m && m->kind == MZ_NODE_MAP && i < m->n; i++)
        if (is_claim(m->pairs[i].key))
            return m->pairs[i].key;
    return MZ_STR("");
}

static struct mz_str claim_of(const struct mz_object *vs)
{
    const struct mz_node *rules = mz_node_at(vs->tree, "spec.http");
    for (size_t i = 0; i < mz_node_count(rules); i++) {
        const struct mz_node *matches = mz_node_get(rules->list[i], "match");
        for (size_t j = 0; j < mz_node_count(matches); j++) {
            const struct mz_str with = claim_in(matches->list[j], "headers"),
                                without = claim_in(matches->list[j], "without_headers");
            if (with.n || without.n)
                return with.n ? with : without;
        }
    }
    return MZ_STR("");
}

static bool is_authenticated(const struct mz_documents *d, const struct mz_object *pod)
{
    const struct mz_str places[] = { MZ_STR_INIT("istio-system"), pod->ns };
    for (size_t i = 0; i < MZ_COUNT(places); i++)
        for (struct mz_object *const *it = objects_in(d, "RequestAuthentication", places[i]); *it;
             it++) {
            const struct mz_node *s = mz_node_at((*it)->tree, "spec.selector.match_labels");
            if (!s || !s->n || selector_matches(s, object_labels(pod)))
                return true;
        }
    return false;
}

/* The name of a Gateway as a VirtualService writes it: "name", "ns/name". */
static struct mz_str gateway_ns(const struct mz_object *vs, struct mz_str ref, struct mz_str *name)
{
    const ptrdiff_t slash = mz_str_chr(ref, '/');
    *name = mz_str_skip(ref, (size_t)(slash + 1));
    return slash < 0 ? vs->ns : (struct mz_str){ ref.p, (size_t)slash };
}

static void claims_at_gateways(struct mz_documents *d, const struct mz_object *vs)
{
    const struct mz_node *list = mz_node_at(vs->tree, "spec.gateways");
    const struct mz_str key = claim_of(vs);
    for (size_t i = 0; key.n && i < mz_node_count(list); i++) {
        struct mz_str name;
        const struct mz_str ns = gateway_ns(vs, text(list->list[i]), &name);
        const struct mz_object *gateway = object_find(d, "Gateway", ns, name);
        const struct mz_node *s = gateway ? mz_node_at(gateway->tree, "spec.selector") : NULL;
        if (!gateway || !s || !s->n)
            continue; /* nothing is selected by nothing */
        for (struct mz_object *const *pod = pods_near(d, MZ_STR("*"), s);
             *pod && !found_enough(d, vs); pod++)
            if (selector_matches(s, object_labels(*pod)) && !is_authenticated(d, *pod))
                found(
                    d, MZ_LEVEL_ERROR, 149, vs, 0,
                    "The virtual service uses the JWT claim based routing (key: %.*s) but found no "
                    "request authentication for the gateway (%.*s) pod (%.*s). The request "
                    "authentication must first be applied for the gateway pods to validate the JWT "
                    "token and make the claims available for routing.",
                    MZ_STR_ARG(key), MZ_STR_ARG(object_name(d, gateway)), MZ_STR_ARG((*pod)->name));
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
    return object_find(d, "KubernetesGateway", ns, name);
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
    struct mz_str *v = mz_arena_alloc(a, mz_node_count(list) * sizeof(*v));
    for (size_t i = 0; i < mz_node_count(list); i++)
        v[i] = text(list->list[i]);
    return texts_join(v, mz_node_count(list), " ", a);
}

static void gateways(struct mz_documents *d, const struct mz_object *vs)
{
    const struct mz_node *list = mz_node_at(vs->tree, "spec.gateways");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        struct mz_str name;
        const struct mz_str ref = text(list->list[i]), ns = gateway_ns(vs, ref, &name);
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
    bool told;
};

static bool is_of_mesh(const struct mz_object *vs)
{
    const struct mz_node *list = mz_node_at(vs->tree, "spec.gateways");
    bool mesh = !mz_node_count(list);
    for (size_t i = 0; i < mz_node_count(list); i++)
        mesh |= mz_str_eq(text(list->list[i]), MZ_STR("mesh"));
    return mesh;
}

static void claim_host(struct mz_map *claims, struct mz_documents *d, struct mz_str scope,
                       const struct mz_object *vs, struct mz_str host)
{
    const struct mz_str key = mz_arena_printf(d->arena, "%.*s/%.*s", MZ_STR_ARG(scope),
                                              MZ_STR_ARG(host_fqdn(host, vs->ns, d->arena)));
    struct claim *c = mz_map_get(claims, key);
    if (!c) {
        c = mz_arena_new0(d->arena, struct claim);
        c->key = key;
        (void)mz_map_put(claims, key, c);
    }
    *mz_vec_push(&c->by, MZ_MEM_CONFIG) = vs;
}

struct claims {
    struct mz_map *by_key;
    MZ_VEC(struct claim *) v; /* by key */
    struct mz_map told;       /* VirtualServices that were told of */
    bool lengths[256];        /* of what stands behind the asterisk, of those everywhere */
};
struct ways {
    MZ_VEC(struct claim *) v;
};
enum { LONGEST = 253 }; /* of a name */

static void add_way(const struct claims *all, struct ways *out, const char *wild,
                    struct mz_str tail)
{
    char key[LONGEST + 8];
    const int n = snprintf(key, sizeof(key), "*/%s%.*s", wild, MZ_STR_ARG(tail));
    struct claim *c =
        (size_t)n < sizeof(key) ? mz_map_get(all->by_key, (struct mz_str){ key, (size_t)n }) : NULL;
    if (c)
        *mz_vec_push(&out->v, MZ_MEM_CONFIG) = c;
}

/* Who claims everywhere the host, or a wildcard that holds it, is in the way of who claims it in one namespace. */
static void find_ways(const struct claims *all, const struct claim *of, struct ways *out)
{
    const struct mz_str host = mz_str_skip(of->key, (size_t)mz_str_chr(of->key, '/') + 1);
    if (mz_str_starts(of->key, MZ_STR("*/")))
        return;
    if (host.n && host.p[0] == '*') { /* it holds others, too */
        for (size_t k = 0; k < all->v.n; k++)
            if (mz_str_starts(all->v.v[k]->key, MZ_STR("*/")) &&
                host_matches(mz_str_skip(all->v.v[k]->key, 2), host))
                *mz_vec_push(&out->v, MZ_MEM_CONFIG) = all->v.v[k];
        return;
    }
    add_way(all, out, "", host);
    for (size_t n = 0; n <= host.n && n <= LONGEST; n++)
        if (all->lengths[n])
            add_way(all, out, "*", mz_str_skip(host, host.n - n));
}

static void tell_one(struct mz_documents *d, struct claims *all, const struct mz_object *vs,
                     struct mz_str names, struct mz_str host)
{
    const struct mz_str name = object_name(d, vs);
    if (mz_map_get(&all->told, name))
        return;
    (void)mz_map_put(&all->told, name, (void *)(uintptr_t)vs);
    found(d, MZ_LEVEL_ERROR, 109, vs, name_line(vs),
          "The VirtualServices %.*s associated with mesh gateway define the same host %.*s which "
          "can lead to undefined behavior. This can be fixed by merging the conflicting "
          "VirtualServices into a single resource.",
          MZ_STR_ARG(names), MZ_STR_ARG(host));
}

static void names_of(struct mz_documents *d, const struct claim *c, struct names *out)
{
    for (size_t i = 0; i < c->by.n && out->v.n < MAX_NAMES; i++)
        names_add(out, object_name(d, c->by.v[i]));
}

static void tell_all_of(struct mz_documents *d, struct claims *all, struct claim *c,
                        struct mz_str names, struct mz_str host)
{
    for (size_t i = 0; !c->told && i < c->by.n; i++)
        tell_one(d, all, c->by.v[i], names, host);
    c->told = true;
}

static void tell_claim(struct mz_documents *d, struct claims *all, struct claim *c)
{
    struct names names = { 0 };
    struct ways ways = { 0 };
    find_ways(all, c, &ways);
    for (size_t k = 0; k < ways.v.n; k++)
        names_of(d, ways.v.v[k], &names);
    names_of(d, c, &names);
    const bool several = names.v.n > 1;
    const struct mz_str list = names_text(&names, ",", d->arena);
    if (several)
        tell_all_of(d, all, c, list, c->key);
    for (size_t k = 0; several && k < ways.v.n; k++)
        tell_all_of(d, all, ways.v.v[k], list, c->key);
    mz_vec_free(&ways.v, MZ_MEM_CONFIG);
}

static int by_claim(const void *a, const void *b)
{
    const struct claim *const *x = a, *const *y = b;
    return mz_str_cmp((*x)->key, (*y)->key);
}

/* In the order of hosts, not of a hash: each VirtualService is told for the first of its conflicts. */
static void tell_claims(struct mz_documents *d, struct mz_map *claims)
{
    struct claims all = { .by_key = claims };
    mz_map_init(&all.told, MZ_MEM_CONFIG);
    mz_map_foreach (e, claims) {
        struct claim *c = e->value;
        *mz_vec_push(&all.v, MZ_MEM_CONFIG) = c;
        if (mz_str_starts(c->key, MZ_STR("*/*")) && c->key.n - 3 <= LONGEST)
            all.lengths[c->key.n - 3] = true;
    }
    if (all.v.n)
        qsort(all.v.v, all.v.n, sizeof(*all.v.v), by_claim);
    for (size_t i = 0; i < all.v.n; i++)
        tell_claim(d, &all, all.v.v[i]);
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
    mz_map_fini(&all.told);
}

static void conflicts(struct mz_documents *d)
{
    struct mz_map claims;
    mz_map_init(&claims, MZ_MEM_CONFIG);
    objects_foreach(it, d, "VirtualService")
    {
        const struct mz_node *list = mz_node_at((*it)->tree, "spec.hosts");
        size_t told = 0;
        for (const struct mz_str *s = export_scopes(d, *it); is_of_mesh(*it) && s->n; s++)
            for (size_t i = 0; i < mz_node_count(list) && told++ < MAX_PRODUCT; i++)
                claim_host(&claims, d, *s, *it, text(list->list[i]));
    }
    tell_claims(d, &claims);
    mz_map_foreach (e, &claims)
        mz_vec_free(&((struct claim *)e->value)->by, MZ_MEM_CONFIG);
    mz_map_fini(&claims);
}

/* ---- all ---- */

static void deprecated(struct mz_documents *d, const struct mz_object *vs)
{
    const struct mz_node *rules = mz_node_at(vs->tree, "spec.http");
    for (size_t i = 0; i < mz_node_count(rules); i++)
        if (mz_node_number(rules->list[i], "fault.delay.percent"))
            found(d, MZ_LEVEL_WARNING, 2, vs, 0,
                  "Deprecated: HTTPRoute.fault.delay.percent is deprecated; use "
                  "HTTPRoute.fault.delay.percentage");
}

static void unused(void *arg, const struct mz_object *vs, bool whole, struct mz_str what)
{
    found(arg, whole ? MZ_LEVEL_WARNING : MZ_LEVEL_INFO, whole ? 130 : 131, vs, vs->line,
          "VirtualService %.*s", MZ_STR_ARG(what));
}

void find_in_routes(struct mz_documents *d)
{
    struct mz_map subsets;
    struct hosts h;
    hosts_init(&h, d);
    mz_map_init(&subsets, MZ_MEM_CONFIG);
    objects_foreach(it, d, "VirtualService") subsets_of(d, &subsets, *it);
    objects_foreach(it, d, "VirtualService")
    {
        destinations(&h, *it);
        around_subsets(d, &subsets, *it);
        gateways(d, *it);
        claims_at_gateways(d, *it);
        deprecated(d, *it);
        routes_unused(*it, d->arena, unused, d);
    }
    conflicts(d);
    find_in_rules(d, &h);
    objects_free(&subsets);
    hosts_fini(&h);
}
