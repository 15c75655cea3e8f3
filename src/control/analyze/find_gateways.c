/* Gateways: the workloads that they select, the ports that lead there, their certificates. */
#include <time.h>

#include "control/analyze/finders.h"
#include "control/model/secret.h"

struct gateways {
    struct mz_documents *d;
    struct mz_map reached;        /* "istio=ingressgateway|80": true */
    struct mz_map servers, pairs; /* Gateways by port, bind and host; by certificate */
    struct mz_str *selectors;     /* by order of objects: their texts */
    uint32_t *seen, now;          /* by order: in which round one was met */
};

static bool leads_to(const struct mz_object *service, const struct mz_object *pod, uint64_t port)
{
    const struct mz_node *ports = mz_node_at(service->tree, "spec.ports");
    for (size_t i = 0; i < mz_node_count(ports); i++) {
        const struct mz_str protocol = mz_node_text(ports->list[i], "protocol");
        const uint64_t target = mz_node_number(ports->list[i], "targetPort"),
                       number = mz_node_number(ports->list[i], "port");
        /* The field's tool counts only ports whose protocol is written: documents from a server have it. Those that
           have pods still to be made are no such documents. */
        if ((mz_str_eq(protocol, MZ_STR("TCP")) || (!protocol.n && pod->made)) &&
            (number == port || target == port))
            return true;
    }
    return false;
}

/* Services that select @pod: is one of them to @port, or does one lead there? */
static bool is_reached(const struct mz_documents *d, const struct mz_object *pod, uint64_t port)
{
    struct objects list;
    bool reached = false;
    objects_selecting(d, "Service", pod->ns, object_labels(pod), &list);
    for (size_t i = 0; i < list.v.n && !reached; i++)
        reached = leads_to(list.v.v[i], pod, port);
    mz_vec_free(&list.v, MZ_MEM_CONFIG);
    return reached;
}

static const struct mz_node *selector_of(const struct mz_object *gateway)
{
    return mz_node_at(gateway->tree, "spec.selector");
}

/* One without a selector is everybody's. */
static bool selects(const struct mz_object *gateway, const struct mz_object *pod)
{
    const struct mz_node *s = selector_of(gateway);
    return !s || !s->n || selector_matches(s, object_labels(pod));
}

/* The first that it selects; NULL. */
static const struct mz_object *pod_of(const struct mz_documents *d, const struct mz_object *gateway)
{
    struct mz_object *const *it = pods_near(d, MZ_STR("*"), selector_of(gateway));
    while (*it && !selects(gateway, *it))
        it++;
    return *it;
}

/* Gateways of one selector are asked for the same ports. */
static bool reaches(struct gateways *g, const struct mz_object *gateway, struct mz_str selector,
                    uint64_t port)
{
    static const bool yes = true, no = false;
    struct mz_documents *d = g->d;
    const struct mz_str key =
        mz_arena_printf(d->arena, "%.*s|%u", MZ_STR_ARG(selector), (unsigned)port);
    const bool *known = mz_map_get(&g->reached, key);
    if (known)
        return *known;
    struct mz_object *const *it = pods_near(d, MZ_STR("*"), selector_of(gateway));
    bool ok = false;
    for (; *it && !ok; it++)
        ok = selects(gateway, *it) && is_reached(d, *it, port);
    (void)mz_map_put(&g->reached, key, (void *)(uintptr_t)(ok ? &yes : &no));
    return ok;
}

static void ports(struct gateways *g, const struct mz_object *gateway)
{
    struct mz_documents *d = g->d;
    const struct mz_node *servers = mz_node_at(gateway->tree, "spec.servers"),
                         *selector = selector_of(gateway);
    const struct mz_str text = g->selectors[gateway->order];
    if (!pod_of(d, gateway)) {
        found(d, MZ_LEVEL_ERROR, 101, gateway, selector_line(selector),
              "Referenced selector not found: \"%.*s\"", MZ_STR_ARG(text));
        return;
    }
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const uint64_t port = mz_node_number(servers->list[i], "port.number");
        if (mz_node_get(servers->list[i], "port") && !reaches(g, gateway, text, port))
            found(d, MZ_LEVEL_WARNING, 162, gateway, selector_line(selector),
                  "The gateway is listening on a target port (port %u) that is not defined in the "
                  "Service associated with its workload instances (Pod selector %.*s). If you need "
                  "to access the gateway port through the gateway Service, it will not be "
                  "available.",
                  (unsigned)port, MZ_STR_ARG(text));
    }
}

/* ---- certificates ---- */

static bool is_good(const struct mz_documents *d, struct mz_str ns, struct mz_str name)
{
    const struct mz_str key =
        mz_arena_printf(d->arena, "Secret/%.*s/%.*s", MZ_STR_ARG(ns), MZ_STR_ARG(name));
    const struct mz_doc *doc = d->store ? mz_store_get(d->store, key) : NULL;
    struct mz_secret s;
    struct mz_err err;
    if (!doc)
        return false; /* the reader could not take it */
    mz_secret_open(doc, d->arena, &s);
    return mz_secret_has_pair(&s, &err) && mz_secret_in_time(s.cert, (int64_t)time(NULL));
}

/* The first pod's are looked at. */
static void credentials(struct mz_documents *d, const struct mz_object *gateway)
{
    const struct mz_node *servers = mz_node_at(gateway->tree, "spec.servers");
    const struct mz_object *pod = pod_of(d, gateway);
    for (size_t i = 0; pod && i < mz_node_count(servers); i++) {
        const struct mz_node *n = mz_node_at(servers->list[i], "tls.credential_name");
        if (!n || n->kind != MZ_NODE_STR || !n->text.n)
            continue;
        if (!object_find(d, "Secret", pod->ns, n->text))
            found(d, MZ_LEVEL_ERROR, 101, gateway, n->line,
                  "Referenced credentialName not found: \"%.*s\"", MZ_STR_ARG(n->text));
        else if (!is_good(d, pod->ns, n->text))
            found(d, MZ_LEVEL_ERROR, 161, gateway, n->line,
                  "The credential referenced by the Gateway %.*s in namespace %.*s is invalid, "
                  "which can cause the traffic not to work as expected.",
                  MZ_STR_ARG(gateway->name), MZ_STR_ARG(pod->ns));
    }
}

/* Equal where two servers have the same certificate; "" where it has none of its own. */
static struct mz_str certificate(const struct mz_node *server, struct mz_arena *a)
{
    const struct mz_node *tls = mz_node_get(server, "tls");
    const struct mz_str name = mz_node_text(tls, "credential_name"),
                        cert = mz_node_text(tls, "server_certificate"),
                        key = mz_node_text(tls, "private_key");
    return name.n            ? mz_arena_printf(a, "%.*s", MZ_STR_ARG(name))
           : cert.n && key.n ? mz_arena_printf(a, "%.*s|%.*s", MZ_STR_ARG(cert), MZ_STR_ARG(key))
                             : MZ_STR("");
}

/* @wide selects at least what @narrow does not exclude: each label of @narrow is one of @wide's. */
static bool is_part(const struct mz_object *narrow, const struct mz_object *wide)
{
    const struct mz_node *s = selector_of(narrow);
    return !s || !s->n || selector_matches(s, selector_of(wide));
}

static void duplicates(struct gateways *g, const struct mz_object *a)
{
    struct mz_documents *d = g->d;
    const struct mz_node *servers = mz_node_at(a->tree, "spec.servers");
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const struct objects *l = mz_map_get(&g->pairs, certificate(servers->list[i], d->arena));
        for (size_t k = 0; l && k < l->v.n && !found_enough(d, a); k++)
            if (l->v.v[k] != a && is_part(a, l->v.v[k]))
                found(d, MZ_LEVEL_WARNING, 138, a, name_line(a),
                      "Duplicate certificate in multiple gateways [%.*s %.*s] may cause 404s if "
                      "clients re-use HTTP2 connections.",
                      MZ_STR_ARG(object_name(d, a)), MZ_STR_ARG(object_name(d, l->v.v[k])));
    }
}

/* ---- hosts of one port ---- */

static bool share_pod(const struct gateways *g, const struct mz_object *a,
                      const struct mz_object *b)
{
    const struct mz_str x = g->selectors[a->order], y = g->selectors[b->order];
    if (mz_str_eq(x, y))
        return true;
    if (mz_str_find(x, y) < 0 && mz_str_find(y, x) < 0)
        return false;
    struct mz_object *const *it = pods_near(g->d, MZ_STR("*"), selector_of(x.n < y.n ? b : a));
    while (*it && !(selects(a, *it) && selects(b, *it)))
        it++;
    return *it != NULL;
}

static struct mz_str place(const struct mz_node *server, struct mz_str host, struct mz_arena *a)
{
    return mz_arena_printf(a, "%u|%.*s|%.*s", (unsigned)mz_node_number(server, "port.number"),
                           MZ_STR_ARG(mz_node_text(server, "bind")), MZ_STR_ARG(host));
}

/* Gateways of the same port with one of the same hosts, and a pod of both. */
static void rivals(struct gateways *g, const struct mz_object *gateway,
                   const struct mz_node *server, struct names *out)
{
    enum { MAX = 2000 }; /* of one host that are compared: time is their square */
    const struct mz_node *list = mz_node_get(server, "hosts");
    g->now++;
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct objects *l =
            mz_map_get(&g->servers, place(server, scalar_text(list->list[i]), g->d->arena));
        for (size_t k = 0; l && k < l->v.n && k < MAX && out->v.n < MAX_NAMES; k++) {
            const struct mz_object *o = l->v.v[k];
            if (o != gateway && g->seen[o->order] != g->now && share_pod(g, gateway, o))
                names_add(out, object_name(g->d, o));
            g->seen[o->order] = g->now;
        }
    }
}

static void conflicts(struct gateways *g, const struct mz_object *gateway,
                      const struct mz_node *server)
{
    struct mz_documents *d = g->d;
    struct names names = { 0 }, hosts = { 0 };
    const struct mz_node *list = mz_node_get(server, "hosts");
    if (found_enough(d, gateway))
        return;
    rivals(g, gateway, server, &names);
    for (size_t i = 0; names.v.n && i < mz_node_count(list); i++)
        names_add(&hosts, scalar_text(list->list[i]));
    const bool any = names.v.n > 0;
    const struct mz_str others = names_text(&names, ",", d->arena),
                        all = names_text(&hosts, ",", d->arena);
    if (any)
        found(d, MZ_LEVEL_ERROR, 145, gateway, 0,
              "Conflict with gateways %.*s (workload selector %.*s, port %u, hosts %.*s).",
              MZ_STR_ARG(others), MZ_STR_ARG(g->selectors[gateway->order]),
              (unsigned)mz_node_number(server, "port.number"), MZ_STR_ARG(all));
}

/* ---- all ---- */

static void list_once(struct objects *l, struct mz_object *o)
{
    if (!l->v.n || l->v.v[l->v.n - 1] != o)
        objects_push(l, o);
}

static void list_gateway(struct gateways *g, struct mz_object *o)
{
    struct mz_arena *a = g->d->arena;
    const struct mz_node *servers = mz_node_at(o->tree, "spec.servers");
    g->selectors[o->order] = selector_text(selector_of(o), a);
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const struct mz_node *hosts = mz_node_get(servers->list[i], "hosts");
        const struct mz_str c = certificate(servers->list[i], a);
        if (c.n)
            list_once(objects_listed(a, &g->pairs, c), o);
        for (size_t k = 0; k < mz_node_count(hosts); k++)
            list_once(objects_listed(a, &g->servers,
                                     place(servers->list[i], scalar_text(hosts->list[k]), a)),
                      o);
    }
}

void find_in_gateways(struct mz_documents *d)
{
    struct gateways g = { .d = d };
    if (!*objects_of(d, "Gateway"))
        return;
    g.selectors = mz_arena_alloc0(d->arena, d->v.n * sizeof(*g.selectors));
    g.seen = mz_arena_alloc0(d->arena, d->v.n * sizeof(*g.seen));
    mz_map_init(&g.reached, MZ_MEM_CONFIG);
    mz_map_init(&g.servers, MZ_MEM_CONFIG);
    mz_map_init(&g.pairs, MZ_MEM_CONFIG);
    objects_foreach(it, d, "Gateway") list_gateway(&g, *it);
    objects_foreach(it, d, "Gateway")
    {
        const struct mz_node *servers = mz_node_at((*it)->tree, "spec.servers");
        ports(&g, *it);
        credentials(d, *it);
        duplicates(&g, *it);
        for (size_t i = 0; i < mz_node_count(servers); i++)
            conflicts(&g, *it, servers->list[i]);
    }
    mz_map_fini(&g.reached);
    objects_free(&g.servers);
    objects_free(&g.pairs);
}
