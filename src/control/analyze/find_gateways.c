/* Gateways: the workloads that they select, the ports that lead there, their certificates. */
#include <time.h>

#include "control/analyze/finders.h"
#include "control/model/secret.h"

/* Services that select @pod: is one of them to @port, or does one lead there? */
static bool is_reached(const struct mz_documents *d, const struct mz_object *pod, uint64_t port)
{
    objects_foreach(it, d, "Service")
    {
        const struct mz_node *ports = mz_node_at((*it)->tree, "spec.ports");
        if (!mz_str_eq((*it)->ns, pod->ns) ||
            !selector_matches(mz_node_at((*it)->tree, "spec.selector"), object_labels(pod)))
            continue;
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
    }
    return false;
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

static void ports(struct mz_documents *d, const struct mz_object *gateway)
{
    const struct mz_node *servers = mz_node_at(gateway->tree, "spec.servers"),
                         *selector = selector_of(gateway);
    const struct mz_str text = selector_text(selector, d->arena);
    size_t pods = 0;
    objects_foreach(it, d, "Pod") pods += selects(gateway, *it);
    if (!pods) {
        found(d, MZ_LEVEL_ERROR, 101, gateway, selector_line(selector),
              "Referenced selector not found: \"%.*s\"", MZ_STR_ARG(text));
        return;
    }
    for (size_t i = 0; i < mz_node_count(servers); i++) {
        const uint64_t port = mz_node_number(servers->list[i], "port.number");
        bool ok = !mz_node_get(servers->list[i], "port");
        objects_foreach(it, d, "Pod") ok |= selects(gateway, *it) && is_reached(d, *it, port);
        if (!ok)
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

/* Of the pods that it selects; the first's is looked at. */
static const struct mz_object *pod_of(const struct mz_documents *d, const struct mz_object *gateway)
{
    objects_foreach(it, d, "Pod") if (selects(gateway, *it)) return *it;
    return NULL;
}

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

static bool same_text(const struct mz_node *a, const struct mz_node *b, const char *field)
{
    const struct mz_str x = mz_node_text(a, field);
    return x.n && mz_str_eq(x, mz_node_text(b, field));
}

static bool same_certificate(const struct mz_node *a, const struct mz_node *b)
{
    if (mz_node_text(a, "credential_name").n || mz_node_text(b, "credential_name").n)
        return same_text(a, b, "credential_name");
    return same_text(a, b, "server_certificate") && same_text(a, b, "private_key");
}

/* @wide selects at least what @narrow does not exclude: each label of @narrow is one of @wide's. */
static bool is_part(const struct mz_object *narrow, const struct mz_object *wide)
{
    const struct mz_node *s = selector_of(narrow);
    return !s || !s->n || selector_matches(s, selector_of(wide));
}

static void duplicates(struct mz_documents *d, const struct mz_object *a, const struct mz_object *b)
{
    const struct mz_node *of_a = mz_node_at(a->tree, "spec.servers"),
                         *of_b = mz_node_at(b->tree, "spec.servers");
    for (size_t i = 0; i < mz_node_count(of_a); i++)
        for (size_t j = 0; j < mz_node_count(of_b); j++)
            if (same_certificate(mz_node_get(of_a->list[i], "tls"),
                                 mz_node_get(of_b->list[j], "tls"))) {
                found(d, MZ_LEVEL_WARNING, 138, a, name_line(a),
                      "Duplicate certificate in multiple gateways [%.*s %.*s] may cause 404s if "
                      "clients re-use HTTP2 connections.",
                      MZ_STR_ARG(object_name(d, a)), MZ_STR_ARG(object_name(d, b)));
                return;
            }
}

/* ---- hosts of one port ---- */

static bool share_pod(const struct mz_documents *d, const struct mz_object *a,
                      const struct mz_object *b)
{
    const struct mz_str x = selector_text(selector_of(a), d->arena),
                        y = selector_text(selector_of(b), d->arena);
    if (mz_str_eq(x, y))
        return true;
    if (mz_str_find(x, y) < 0 && mz_str_find(y, x) < 0)
        return false;
    objects_foreach(it, d, "Pod") if (selects(a, *it) && selects(b, *it)) return true;
    return false;
}

static bool same_hosts(const struct mz_node *server, const struct mz_node *other)
{
    const struct mz_node *a = mz_node_get(server, "hosts"), *b = mz_node_get(other, "hosts");
    if (mz_node_number(server, "port.number") != mz_node_number(other, "port.number") ||
        !mz_str_eq(mz_node_text(server, "bind"), mz_node_text(other, "bind")))
        return false;
    for (size_t i = 0; i < mz_node_count(a); i++)
        for (size_t j = 0; j < mz_node_count(b); j++)
            if (mz_str_eq(scalar_text(a->list[i]), scalar_text(b->list[j])))
                return true;
    return false;
}

static void conflicts(struct mz_documents *d, const struct mz_object *gateway,
                      const struct mz_node *server)
{
    struct names names = { 0 }, hosts = { 0 };
    const struct mz_node *list = mz_node_get(server, "hosts");
    objects_foreach(it, d, "Gateway")
    {
        const struct mz_node *servers = mz_node_at((*it)->tree, "spec.servers");
        bool same = false;
        for (size_t i = 0; *it != gateway && !same && i < mz_node_count(servers); i++)
            same = same_hosts(server, servers->list[i]);
        if (same && share_pod(d, gateway, *it))
            names_add(&names, object_name(d, *it));
    }
    for (size_t i = 0; i < mz_node_count(list); i++)
        names_add(&hosts, scalar_text(list->list[i]));
    const bool any = names.v.n > 0;
    const struct mz_str others = names_text(&names, ",", d->arena),
                        all = names_text(&hosts, ",", d->arena);
    if (any)
        found(d, MZ_LEVEL_ERROR, 145, gateway, 0,
              "Conflict with gateways %.*s (workload selector %.*s, port %u, hosts %.*s).",
              MZ_STR_ARG(others), MZ_STR_ARG(selector_text(selector_of(gateway), d->arena)),
              (unsigned)mz_node_number(server, "port.number"), MZ_STR_ARG(all));
}

void find_in_gateways(struct mz_documents *d)
{
    objects_foreach(it, d, "Gateway")
    {
        const struct mz_node *servers = mz_node_at((*it)->tree, "spec.servers");
        ports(d, *it);
        credentials(d, *it);
        objects_foreach(other, d, "Gateway") if (*other != *it && is_part(*it, *other))
            duplicates(d, *it, *other);
        for (size_t i = 0; i < mz_node_count(servers); i++)
            conflicts(d, *it, servers->list[i]);
    }
}
