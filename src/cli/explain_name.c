/* The name in the URL: which Service it means, which address the application connects to. */
#include <arpa/inet.h>

#include "base/near.h"
#include "cli/explain.h"

static bool is_address(struct mz_str s)
{
    unsigned char bytes[16];
    char text[64];
    if (s.n >= sizeof(text))
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = 0;
    return inet_pton(AF_INET, text, bytes) == 1 || inet_pton(AF_INET6, text, bytes) == 1;
}

/* ---- with the control plane's registry ---- */

static bool has_host(const struct mz_node *s, struct mz_str host)
{
    const struct mz_str own = mz_node_text(s, "hostname");
    if (mz_str_starts(own, MZ_STR("*.")))
        return mz_str_ends(host, mz_str_skip(own, 1)) && host.n >= own.n;
    return mz_str_ieq(own, host);
}

static const struct mz_node *service_of(const struct mz_node *list, struct mz_str host)
{
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (has_host(list->list[i], host))
            return list->list[i];
    return NULL;
}

/* As a resolver asks: with the search list of a pod's resolv.conf, the namespace's own first. */
static const struct mz_node *search(const struct explain *x, struct mz_str host)
{
    const struct mz_str ns = x->from ? x->from->ns : MZ_STR("default");
    const struct mz_str names[] = {
        mz_arena_printf(x->arena, "%.*s.%.*s.svc.cluster.local", MZ_STR_ARG(host), MZ_STR_ARG(ns)),
        mz_arena_printf(x->arena, "%.*s.svc.cluster.local", MZ_STR_ARG(host)),
        mz_arena_printf(x->arena, "%.*s.cluster.local", MZ_STR_ARG(host)), host
    };
    const struct mz_node *s = NULL;
    for (size_t i = 0; !s && i < MZ_COUNT(names); i++)
        s = service_of(x->registry.root, names[i]);
    return s;
}

static const struct mz_node *addresses_of(const struct mz_node *s)
{
    const struct mz_node *all = mz_node_at(s, "clusterVIPs.Addresses");
    return all && all->kind == MZ_NODE_MAP && all->n ? all->pairs[0].value : NULL;
}

static struct mz_str address_of(const struct mz_node *s)
{
    const struct mz_node *list = addresses_of(s);
    struct mz_str a = mz_node_text(s, "defaultAddress");
    if (mz_node_count(list) && list->list[0]->kind == MZ_NODE_STR)
        a = list->list[0]->text;
    if (!is_address(a) || mz_str_eq(a, MZ_STR("0.0.0.0")))
        a = mz_node_text(s, "AutoAllocatedIPv4Address");
    return a;
}

static const struct mz_node *by_address(const struct mz_node *list, struct mz_str ip)
{
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_node *all = addresses_of(list->list[i]);
        for (size_t k = 0; k < mz_node_count(all); k++)
            if (all->list[k]->kind == MZ_NODE_STR && mz_str_eq(all->list[k]->text, ip))
                return list->list[i];
    }
    return NULL;
}

/* Of a service without an address of its own DNS gives those of its pods. */
static struct mz_str first_endpoint(struct explain *x, const struct mz_node *s)
{
    struct mz_str found = MZ_STR(""), host = mz_node_text(s, "hostname");
    struct mz_err err;
    struct dump d;
    if (plane_load(&x->pods, "/debug/endpointShardz", &d, &err))
        for (uint32_t i = 0; i < d.root->n && d.root->kind == MZ_NODE_MAP && !found.n; i++) {
            const struct mz_node *n = d.root->pairs[i].value;
            if (!mz_str_eq(d.root->pairs[i].key, host) || n->kind != MZ_NODE_MAP || !n->n)
                continue;
            n = mz_node_get(n->pairs[0].value, "Shards");
            n = n && n->kind == MZ_NODE_MAP && n->n ? n->pairs[0].value : NULL;
            n = mz_node_count(n) ? mz_node_get(n->list[0], "Addresses") : NULL;
            if (mz_node_count(n) && n->list[0]->kind == MZ_NODE_STR)
                found = mz_arena_dup(x->arena, n->list[0]->text);
        }
    dump_fini(&d);
    return found;
}

struct mz_str first_endpoint_of(struct explain *x)
{
    const struct mz_node *s = search(x, x->request.host);
    return s ? first_endpoint(x, s) : MZ_STR("");
}

static struct mz_str port_name(const struct explain *x, const struct mz_node *s, char path[80])
{
    const struct mz_node *ports = mz_node_get(s, "ports");
    for (size_t i = 0; i < mz_node_count(ports); i++)
        if (mz_node_number(ports->list[i], "port") == x->request.port) {
            (void)snprintf(path, 80, "spec.ports[port|number=%u]", x->request.port);
            return mz_node_text(ports->list[i], "name");
        }
    path[0] = 0;
    return MZ_STR("");
}

static struct object_ref object_of(const struct explain *x, const struct mz_node *s,
                                   const char *path)
{
    return object_of_service(&x->objects,
                             mz_arena_dup(x->arena, mz_node_text(s, "Attributes.Namespace")),
                             mz_arena_dup(x->arena, mz_node_text(s, "Attributes.Name")),
                             path[0] ? path : NULL, x->arena);
}

static bool of_service(struct explain *x, const struct mz_node *s, struct mz_str *out_ip)
{
    const struct mz_str host = mz_node_text(s, "hostname");
    struct mz_str ip = mz_arena_dup(x->arena, address_of(s));
    char path[80];
    const struct mz_str port = port_name(x, s, path);
    const struct object_ref by = object_of(x, s, path);
    const bool headless = !ip.n;
    if (headless)
        ip = first_endpoint(x, s);
    struct said *d =
        story_say(&x->story, "name", "%.*s is the host %.*s of the mesh%s%.*s%s",
                  MZ_STR_ARG(x->request.host), MZ_STR_ARG(host), port.n ? ", port " : "",
                  MZ_STR_ARG(port), port.n || path[0] ? "" : ", which has no such port");
    said_by(d, by);
    if (headless && !ip.n) {
        d->bad = true;
        return false;
    }
    (void)story_say(&x->story, "address", "the application's resolver is told %.*s%s",
                    MZ_STR_ARG(ip),
                    headless ? ", one of its pods: it has no address of its own"
                    : mz_str_starts(ip, MZ_STR("240.240."))
                        ? ", which its agent made up: the documents give none"
                        : "");
    *out_ip = ip;
    return true;
}

/* ---- without: the names in the proxy's virtual hosts ---- */

static bool ip_in_domains(const struct mz_node *vhost, struct mz_str host, struct mz_str *out)
{
    const struct mz_node *list = mz_node_get(vhost, "domains");
    bool has = false;
    *out = MZ_STR("");
    for (size_t i = 0; i < mz_node_count(list); i++) {
        const struct mz_str d =
            list->list[i]->kind == MZ_NODE_STR ? list->list[i]->text : MZ_STR("");
        has |= mz_str_ieq(d, host);
        if (!out->n && is_address(d))
            *out = d;
    }
    return has && out->n;
}

static bool by_routes(struct explain *x, struct mz_str *out_ip)
{
    struct view v;
    struct mz_err err;
    struct mz_str ip = MZ_STR("");
    if (!x->from)
        return false;
    view_open(&v, &x->pods, x->from);
    const struct mz_node *part =
        v.config.root ? dump_part(&v.config, "RoutesConfigDump", &err) : NULL;
    const struct mz_node *list = mz_node_get(part, "dynamic_route_configs");
    for (size_t i = 0; i < mz_node_count(list) && !ip.n; i++) {
        const struct mz_node *vhosts = mz_node_at(list->list[i], "route_config.virtual_hosts");
        for (size_t k = 0; k < mz_node_count(vhosts) && !ip.n; k++)
            if (!ip_in_domains(vhosts->list[k], x->request.host, &ip))
                ip = MZ_STR("");
    }
    *out_ip = mz_arena_dup(x->arena, ip);
    view_close(&v);
    if (out_ip->n)
        (void)story_say(&x->story, "address", "%.*s is %.*s: the proxy's virtual hosts have both",
                        MZ_STR_ARG(x->request.host), MZ_STR_ARG(*out_ip));
    return out_ip->n > 0;
}

/* ---- */

/* A host of the mesh with a name like it, as short as it is; "". */
static struct mz_str like_it(const struct explain *x)
{
    const bool is_short = mz_str_chr(x->request.host, '.') < 0;
    struct mz_near near;
    mz_near_init(&near, x->request.host);
    for (size_t i = 0; i < mz_node_count(x->registry.root); i++) {
        struct mz_str host = mz_node_text(x->registry.root->list[i], "hostname");
        const ptrdiff_t dot = mz_str_chr(host, '.');
        if (is_short && dot > 0)
            host.n = (size_t)dot;
        mz_near_try(&near, host);
    }
    return near.best;
}

/* What no document names: an address of nobody (RFC 5737) stands for whatever the world's DNS says. */
static bool of_the_world(struct explain *x, struct mz_str *out_ip, struct mz_err *err)
{
    if (x->registry.root && !x->request.http)
        return mz_err_set(err,
                          "%.*s: no document of the mesh names this host; --address gives what its "
                          "name is answered with",
                          MZ_STR_ARG(x->request.host));
    if (!x->registry.root)
        return mz_err_set(err,
                          "%.*s: the control plane does not tell which address this is, and the "
                          "proxy's routes do not; --address gives it",
                          MZ_STR_ARG(x->request.host));
    *out_ip = MZ_STR("192.0.2.1");
    const struct mz_str like = like_it(x);
    (void)story_say(&x->story, "name",
                    "no document of the mesh names %.*s%s%.*s%s: it is outside, and some DNS knows "
                    "its address (here %.*s stands for it)",
                    MZ_STR_ARG(x->request.host), like.n ? " (did you mean " : "", MZ_STR_ARG(like),
                    like.n ? "?)" : "", MZ_STR_ARG(*out_ip));
    return true;
}

bool explain_name(struct explain *x, struct mz_str *out_ip, struct mz_err *err)
{
    const struct mz_str host = x->request.host;
    (void)story_chapter(&x->story, "", MZ_STR(""), MZ_STR("The name"));
    if (x->address.n || is_address(host)) {
        *out_ip = x->address.n ? x->address : host;
        const struct mz_node *s = by_address(x->registry.root, *out_ip);
        struct said *d = story_say(&x->story, "address", "%.*s%s%.*s", MZ_STR_ARG(*out_ip),
                                   s ? ", which is the host " : "",
                                   MZ_STR_ARG(s ? mz_node_text(s, "hostname") : MZ_STR("")));
        if (s)
            said_by(d, object_of(x, s, ""));
        return true;
    }
    const struct mz_node *s = search(x, host);
    if (s)
        return of_service(x, s, out_ip) ||
               mz_err_set(err, "%.*s has no address and no endpoint: nobody can connect to it",
                          MZ_STR_ARG(host));
    return by_routes(x, out_ip) || of_the_world(x, out_ip, err);
}
