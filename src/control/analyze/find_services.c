/* Services and ServiceEntries: names and protocols of ports, addresses. */
#include <stdlib.h>

#include "control/analyze/finders.h"
#include "control/model/model.h"

static bool is_made_by_gateway(const struct mz_object *service)
{
    const struct mz_str by = object_label(service, "gateway.istio.io/managed");
    return mz_str_eq(by, MZ_STR("istio.io-gateway-controller")) ||
           mz_str_eq(by, MZ_STR("istio.io-mesh-controller")) ||
           mz_str_eq(by, MZ_STR("istio.io-eastwest-controller"));
}

static void port_names(struct mz_documents *d, const struct mz_object *service)
{
    const struct mz_node *ports = mz_node_at(service->tree, "spec.ports");
    const bool external =
        mz_str_eq(mz_node_text(service->tree, "spec.type"), MZ_STR("ExternalName"));
    if (is_of_control_plane(service) || is_made_by_gateway(service))
        return;
    for (size_t i = 0; i < mz_node_count(ports); i++) {
        const struct mz_node *p = ports->list[i], *number = mz_node_get(p, "port"),
                             *to = mz_node_get(p, "targetPort");
        const struct mz_str name = mz_node_text(p, "name");
        const uint32_t line = number ? number->line : 0;
        const enum mz_protocol protocol =
            mz_protocol_of_port((uint16_t)mz_node_number(p, "port"), name,
                                mz_node_text(p, "protocol"), mz_node_text(p, "appProtocol"));
        if (protocol != MZ_PROTOCOL_UNKNOWN && !(external && mz_str_eq(name, MZ_STR("tcp"))))
            continue;
        if (external)
            found(d, MZ_LEVEL_WARNING, 150, service, line,
                  "Port name for ExternalName service is invalid. Proxy may prevent tcp named "
                  "ports and unmatched traffic for ports serving TCP protocol from being "
                  "forwarded correctly");
        else
            found(d, MZ_LEVEL_INFO, 118, service, line,
                  "Port name %.*s (port: %u, targetPort: %.*s) doesn't follow the naming "
                  "convention of Istio port.",
                  MZ_STR_ARG(name), (unsigned)mz_node_number(p, "port"),
                  MZ_STR_ARG(to ? scalar_text(to) : MZ_STR("0")));
    }
}

/* ---- ServiceEntries ---- */

static bool is_true(const struct mz_node *map, const char *name)
{
    return mz_str_eq(map_text(map, name), MZ_STR("true"));
}

/* Services without an address get one. */
static bool allocates(const struct mz_documents *d)
{
    const struct mz_node *m = mz_node_at(d->mesh, "default_config.proxy_metadata");
    return is_true(m, "ISTIO_META_DNS_CAPTURE") && (is_true(m, "ISTIO_META_DNS_AUTO_ALLOCATE") ||
                                                    is_true(m, "PILOT_ENABLE_IP_AUTOALLOCATE"));
}

static void addresses(struct mz_documents *d, const struct mz_object *entry)
{
    const struct mz_node *ports = mz_node_at(entry->tree, "spec.ports");
    if (mz_node_at(entry->tree, "spec.addresses") ||
        mz_node_count(mz_node_at(entry->tree, "status.addresses")))
        return;
    for (size_t i = 0; i < mz_node_count(ports); i++) {
        const struct mz_str protocol = mz_node_text(ports->list[i], "protocol");
        const struct mz_node *name = mz_node_get(ports->list[i], "name");
        if (!protocol.n || mz_str_ieq(protocol, MZ_STR("TCP")))
            found(d, MZ_LEVEL_WARNING, 134, entry, name ? name->line : 0,
                  "ServiceEntry addresses are required for this protocol.");
    }
}

/* ---- one host and port, several protocols ---- */

struct port_claim {
    struct mz_str scope, host, protocol;
    unsigned port;
    const struct mz_object *entry;
};
struct port_claims {
    MZ_VEC(struct port_claim) v;
};

static void claim_ports(struct port_claims *c, struct mz_documents *d,
                        const struct mz_object *entry)
{
    const struct mz_node *hosts = mz_node_at(entry->tree, "spec.hosts"),
                         *ports = mz_node_at(entry->tree, "spec.ports");
    const size_t before = c->v.n;
    for (const struct mz_str *s = export_scopes(d, entry); s->n; s++)
        for (size_t i = 0; i < mz_node_count(hosts); i++)
            for (size_t j = 0; j < mz_node_count(ports) && c->v.n - before < MAX_PRODUCT; j++) {
                struct mz_str p = mz_arena_dup(d->arena, mz_node_text(ports->list[j], "protocol"));
                for (size_t k = 0; k < p.n; k++)
                    if (p.p[k] >= 'a' && p.p[k] <= 'z')
                        ((char *)(uintptr_t)p.p)[k] &= ~0x20;
                *mz_vec_push(&c->v, MZ_MEM_CONFIG) =
                    (struct port_claim){ *s, scalar_text(hosts->list[i]), p,
                                         (unsigned)mz_node_number(ports->list[j], "number"),
                                         entry };
            }
}

static int by_host(const void *a, const void *b)
{
    const struct port_claim *x = a, *y = b;
    int c = mz_str_cmp(x->host, y->host);
    if (c == 0)
        c = (x->port > y->port) - (x->port < y->port);
    return c ? c : mz_str_cmp(x->scope, y->scope);
}

/* There are few kinds. */
static void protocols_add(struct names *n, struct mz_str s)
{
    enum { MAX = 32 };
    bool known = n->v.n >= MAX;
    for (size_t i = 0; !known && i < n->v.n; i++)
        known = mz_str_eq(n->v.v[i], s);
    if (!known)
        names_add(n, s);
}

/* Claims of one host and port: those of @scope and of everybody. */
static void tell_ports(struct mz_documents *d, const struct port_claim *v, size_t n,
                       struct mz_str scope, struct mz_map *told)
{
    struct names names = { 0 }, protocols = { 0 };
    for (size_t i = 0; i < n; i++)
        if (mz_str_eq(v[i].scope, scope) || mz_str_eq(v[i].scope, MZ_STR("*"))) {
            names_add(&names, object_name(d, v[i].entry));
            protocols_add(&protocols, v[i].protocol);
        }
    names_unique(&names);
    const bool differ = protocols.v.n > 1;
    const struct mz_str who = names_text(&names, ", ", d->arena),
                        what = names_text(&protocols, ", ", d->arena);
    for (size_t i = 0; differ && i < n; i++) {
        const struct mz_object *e = v[i].entry;
        const struct mz_str name = object_name(d, e);
        if ((!mz_str_eq(v[i].scope, scope) && !mz_str_eq(v[i].scope, MZ_STR("*"))) ||
            mz_map_get(told, name))
            continue;
        (void)mz_map_put(told, name, (void *)(uintptr_t)e);
        found(d, MZ_LEVEL_WARNING, 177, e, name_line(e),
              "Multiple ServiceEntries (%.*s) define the same host \"%.*s\" and port %u with "
              "conflicting protocols (%.*s).",
              MZ_STR_ARG(who), MZ_STR_ARG(v[i].host), v[i].port, MZ_STR_ARG(what));
    }
}

static void port_conflicts(struct mz_documents *d)
{
    struct port_claims c = { 0 };
    struct mz_map told;
    mz_map_init(&told, MZ_MEM_CONFIG);
    objects_foreach(it, d, "ServiceEntry") claim_ports(&c, d, *it);
    if (c.v.n)
        qsort(c.v.v, c.v.n, sizeof(*c.v.v), by_host);
    for (size_t i = 0, n; i < c.v.n; i += n) {
        const struct port_claim *v = &c.v.v[i];
        for (n = 1; i + n < c.v.n && v[n].port == v->port && mz_str_eq(v[n].host, v->host);)
            n++;
        for (size_t k = 0; n > 1 && k < n; k++)
            if (!k || !mz_str_eq(v[k].scope, v[k - 1].scope))
                tell_ports(d, v, n, v[k].scope, &told);
    }
    mz_vec_free(&c.v, MZ_MEM_CONFIG);
    mz_map_fini(&told);
}

void find_in_services(struct mz_documents *d)
{
    const bool allocated = allocates(d);
    objects_foreach(it, d, "Service") port_names(d, *it);
    objects_foreach(it, d, "ServiceEntry") if (!allocated) addresses(d, *it);
    port_conflicts(d);
}
