/* What is taken, and still hardly meant: what Istio's webhook warns of when a document is written. By fields of the document's tree. */
#include <stdarg.h>
#include <stdio.h>

#include "control/analyze/check_priv.h"
#include "control/analyze/finders.h"
#include "control/model/gateway.h"
#include "control/model/model.h"

struct warning {
    struct mz_documents *d;
    const struct mz_object *of;
    const struct mz_node *spec;
    object_warned *tell;
    void *arg;
};

__attribute__((format(printf, 3, 4))) static void warn(const struct warning *w, uint32_t line,
                                                       const char *fmt, ...)
{
    char text[1024];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap); /* very long lists are cut */
    va_end(ap);
    w->tell(w->arg, w->of, line ? line : w->of->line, mz_arena_dup(w->d->arena, mz_str_c(text)));
}

static uint32_t line_of(const struct mz_node *n)
{
    return n ? n->line : 0;
}

static const struct mz_node *const *items(const struct mz_node *list)
{
    return mz_node_count(list) ? list->list : NULL;
}

#define EACH(it, of, path)                                                                         \
    for (const struct mz_node *const *                                                             \
             it = items(mz_node_at((of), (path))),                                                 \
            *const *it##_end = it + mz_node_count(mz_node_at((of), (path)));                       \
         it != it##_end; it++)

static bool says(const struct mz_node *n, const char *path)
{
    const struct mz_node *v = mz_node_at(n, path);
    return v &&
           (v->kind == MZ_NODE_MAP || v->kind == MZ_NODE_LIST ? v->n > 0 : scalar_text(v).n > 0);
}

/* ---- to whom ---- */

#define WITHOUT_LABELS "workload selector specified without labels"

static void no_labels(const struct warning *w, const char *selector, const char *labels,
                      const char *before, const char *behind)
{
    const struct mz_node *s = mz_node_get(w->spec, selector);
    if (s && s->kind == MZ_NODE_MAP && !says(s, labels))
        warn(w, s->line, "%s" WITHOUT_LABELS "%s", before, behind);
}

static void selector(const struct warning *w)
{
    no_labels(w, "selector", "match_labels", "", "");
}

/* ---- AuthorizationPolicy ---- */

static bool is_of_connections(const struct mz_node *source)
{
    static const char *const fields[] = { "principals",       "not_principals",
                                          "ip_blocks",        "not_ip_blocks",
                                          "namespaces",       "not_namespaces",
                                          "remote_ip_blocks", "not_remote_ip_blocks",
                                          "service_accounts", "not_service_accounts" };
    bool any = false;
    for (size_t i = 0; i < MZ_COUNT(fields); i++)
        any |= says(source, fields[i]);
    return any;
}

/* Of a connection nobody knows methods and paths: who denies by them denies it whole. */
static void authorization_policy(const struct warning *w)
{
    selector(w);
    if (!mz_str_eq(mz_node_text(w->spec, "action"), MZ_STR("DENY")))
        return;
    EACH(rule, w->spec, "rules")
    {
        bool from = false, from_tcp = false, to = false, to_tcp = false;
        EACH(one, *rule, "from")
        {
            const struct mz_node *source = mz_node_get(*one, "source");
            from |= source != NULL;
            from_tcp |= is_of_connections(source);
        }
        EACH(one, *rule, "to")
        {
            const struct mz_node *op = mz_node_get(*one, "operation");
            to |= op != NULL;
            to_tcp |= says(op, "ports") || says(op, "not_ports");
        }
        if ((from && !to && !from_tcp) || (to && !to_tcp))
            warn(
                w, (*rule)->line,
                "configured AuthorizationPolicy will deny all traffic to TCP ports under its scope "
                "due to the use of only HTTP attributes in a DENY rule; it is recommended to "
                "explicitly specify the port");
    }
}

/* ---- RequestAuthentication ---- */

static void private_keys(const struct warning *w, const struct mz_node *rule)
{
    struct mz_err ignored;
    const struct mz_str text = mz_node_text(rule, "jwks");
    const struct mz_node *set =
        text.n ? mz_tree_read(w->d->arena, text, MZ_TEXT_JSON, &ignored) : NULL;
    const struct mz_node *keys = mz_node_get(set, "keys");
    const size_t n = keys ? mz_node_count(keys) : set != NULL;
    for (size_t i = 0; i < n; i++) {
        const struct mz_node *key = keys ? keys->list[i] : set;
        if (mz_node_get(key, "d") || mz_str_eq(mz_node_text(key, "kty"), MZ_STR("oct")))
            warn(w, line_of(mz_node_get(rule, "jwks")),
                 "jwks key at index %zu contains private key material; only public keys are used "
                 "for verification",
                 i);
    }
}

static void request_authentication(const struct warning *w)
{
    selector(w);
    EACH(rule, w->spec, "jwt_rules") private_keys(w, *rule);
}

/* ---- servers ---- */

static void ciphers(const struct warning *w, const struct mz_node *tls)
{
    struct names unknown = { 0 }, twice = { 0 };
    struct mz_map seen;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    EACH(one, tls, "cipher_suites")
    {
        const struct mz_str name = scalar_text(*one);
        if (!mz_is_cipher(name))
            names_add(&unknown, name);
        else if (mz_map_put(&seen, name, &seen))
            names_add(&twice, name);
    }
    mz_map_fini(&seen);
    names_unique(&unknown);
    names_unique(&twice);
    const struct mz_str no = names_text(&unknown, " ", w->d->arena),
                        more = names_text(&twice, " ", w->d->arena);
    if (no.n)
        warn(w, tls->line, "ignoring invalid cipher suites: [%.*s]", MZ_STR_ARG(no));
    if (more.n)
        warn(w, tls->line, "ignoring duplicate cipher suites: [%.*s]", MZ_STR_ARG(more));
}

static void certificates(const struct warning *w, const struct mz_node *tls)
{
    static const char *const all[] = { "ca_crl",           "server_certificate",
                                       "private_key",      "ca_certificates",
                                       "tls_certificates", "credential_name",
                                       "credential_names", NULL };
    const struct mz_str said = mz_node_text(tls, "mode"),
                        mode = said.n ? said : MZ_STR("PASSTHROUGH");
    const bool passes = mz_str_ends(mode, MZ_STR("PASSTHROUGH")),
               simple = mz_str_eq(mode, MZ_STR("SIMPLE")),
               mutual =
                   mz_str_ends(mode, MZ_STR("MUTUAL")) && !mz_str_eq(mode, MZ_STR("ISTIO_MUTUAL"));
    bool some = false;
    for (size_t i = 0; all[i]; i++)
        some |= says(tls, all[i]);
    if (passes && some)
        warn(w, tls->line, "%.*s mode does not use certificates, they will be ignored",
             MZ_STR_ARG(mode));
    if ((simple || mutual) && !says(tls, "credential_name") && !says(tls, "credential_names") &&
        mz_node_count(mz_node_get(tls, "tls_certificates")) > 2)
        warn(w, tls->line, "%s TLS can support up to 2 server certificates",
             simple ? "SIMPLE" : "MUTUAL");
}

static void server_tls(const struct warning *w, const struct mz_node *tls)
{
    const struct mz_str least = mz_node_text(tls, "min_protocol_version");
    if (!tls || tls->kind != MZ_NODE_MAP)
        return;
    if ((mz_str_eq(least, MZ_STR("TLSV1_0")) || mz_str_eq(least, MZ_STR("TLSV1_1"))) &&
        !says(tls, "cipher_suites"))
        warn(w, tls->line,
             "TLS version below TLSV1_2 require setting compatible ciphers as by default they no "
             "longer include compatible ciphers.");
    ciphers(w, tls);
    certificates(w, tls);
}

static void gateway(const struct warning *w)
{
    EACH(server, w->spec, "servers")
    {
        const struct mz_node *tls = mz_node_get(*server, "tls");
        server_tls(w, tls);
        if (mz_node_is(tls, "https_redirect") &&
            !mz_protocol_is_http(mz_protocol_parse(mz_node_text(*server, "port.protocol"))))
            warn(w, tls->line, "tls.httpsRedirect should only be used with http servers");
    }
}

/* ---- DestinationRule ---- */

static void policy(const struct warning *w, const struct mz_node *p)
{
    static const char *const places[] = { "locality_lb_setting", "zone_aware_lb_setting" };
    const struct mz_node *outlier = mz_node_get(p, "outlier_detection"),
                         *lb = mz_node_get(p, "load_balancer");
    const struct mz_str errors = scalar_text(mz_node_get(outlier, "consecutive_errors"));
    if (errors.n && !mz_str_eq(errors, MZ_STR("0")))
        warn(w, outlier->line,
             "outlier detection consecutive errors is deprecated, use consecutiveGatewayErrors or "
             "consecutive5xxErrors instead");
    if (mz_node_number(lb, "consistent_hash.minimum_ring_size"))
        warn(w, lb->line,
             "consistent hash MinimumRingSize is deprecated, use ConsistentHashLB's RingHash "
             "configuration instead");
    for (size_t i = 0; i < MZ_COUNT(places); i++) {
        const struct mz_node *l = mz_node_get(lb, places[i]);
        if (!outlier && !says(l, "distribute") &&
            (says(l, "failover") || says(l, "failover_priority")))
            warn(w, l->line, "outlier detection policy must be provided for failover");
    }
}

static void destination_rule(const struct warning *w)
{
    no_labels(w, "workload_selector", "match_labels", "", "");
    policy(w, mz_node_get(w->spec, "traffic_policy"));
}

/* ---- ServiceEntry and WorkloadEntry ---- */

static void address(const struct warning *w, const struct mz_node *of)
{
    const struct mz_str network = mz_node_text(of, "network");
    if (network.n && !says(of, "address"))
        warn(w, line_of(of), "address is unset with network \"%.*s\"", MZ_STR_ARG(network));
}

static void workload_entry(const struct warning *w)
{
    address(w, w->spec);
}

/* It is given an address, where it has none. */
static bool is_given_one(const struct warning *w, struct mz_str resolution)
{
    return resolution.n && !mz_str_eq(resolution, MZ_STR("NONE")) &&
           !mz_str_ieq(object_label(w->of, "networking.istio.io/enable-autoallocate-ip"),
                       MZ_STR("false"));
}

static void entry_hosts(const struct warning *w, struct mz_str resolution)
{
    EACH(host, w->spec, "hosts")
    {
        const struct mz_str h = scalar_text(*host);
        if (!mz_str_eq(resolution, MZ_STR("DYNAMIC_DNS")) && h.n > 1 && mz_str_chr(h, '*') >= 0 &&
            !mz_str_starts(h, MZ_STR("*.")))
            warn(w, (*host)->line, "partial wildcard \"%.*s\" not allowed", MZ_STR_ARG(h));
    }
}

static void entry_ports(const struct warning *w, struct mz_str resolution)
{
    const bool bare = !says(w->spec, "addresses");
    bool tcp = false;
    EACH(port, w->spec, "ports")
    {
        const struct mz_str said = mz_node_text(*port, "protocol");
        const enum mz_protocol p = mz_protocol_parse(said);
        tcp |=
            said.n && p != MZ_PROTOCOL_UNKNOWN && p != MZ_PROTOCOL_UDP && !mz_protocol_is_http(p);
        if (bare && (!said.n || mz_str_eq(said, MZ_STR("TCP"))) && !is_given_one(w, resolution))
            warn(w, (*port)->line,
                 "addresses are required for ports serving TCP (or unset) protocol when IP "
                 "Autoallocation is not enabled");
    }
    if (!bare && tcp && mz_str_starts(resolution, MZ_STR("DNS")) &&
        mz_node_count(mz_node_get(w->spec, "hosts")) > 1)
        warn(w, 0,
             "service entry can not have more than one host specified simultaneously with address "
             "and tcp port");
}

static void service_entry(const struct warning *w)
{
    const struct mz_str resolution = mz_node_text(w->spec, "resolution");
    const struct mz_node *s = mz_node_get(w->spec, "workload_selector");
    no_labels(w, "workload_selector", "labels",
              "service entry: ", ", will be applied to all services in namespace");
    if (s && (!resolution.n || mz_str_eq(resolution, MZ_STR("NONE"))))
        warn(w, s->line, "workloadSelector should not be set when resolution mode is NONE");
    entry_hosts(w, resolution);
    entry_ports(w, resolution);
    if (mz_str_eq(resolution, MZ_STR("STATIC")))
        EACH(one, w->spec, "endpoints") address(w, *one);
}

/* ---- Sidecar ---- */

/* Hosts of one listener: each namespace's are there once, and all of all is all there is. */
static void egress_hosts(const struct warning *w, const struct mz_node *listener)
{
    struct mz_map seen;
    size_t namespaces = 0;
    bool all = false;
    mz_map_init(&seen, MZ_MEM_CONFIG);
    EACH(one, listener, "hosts")
    {
        const struct mz_str text = scalar_text(*one);
        const ptrdiff_t slash = mz_str_chr(text, '/');
        if (slash < 0 || mz_str_starts(text, MZ_STR("~")))
            continue;
        struct mz_str ns = { text.p, (size_t)slash };
        const struct mz_str host = mz_str_skip(text, (size_t)slash + 1),
                            own = mz_str_eq(ns, MZ_STR(".")) ? w->of->ns : ns,
                            any = mz_arena_printf(w->d->arena, "%.*s/*", MZ_STR_ARG(own)),
                            key = mz_arena_printf(w->d->arena, "%.*s/%.*s", MZ_STR_ARG(own),
                                                  MZ_STR_ARG(host)),
                            space = mz_arena_dup(w->d->arena, own);
        const bool known = mz_map_get(&seen, space) != NULL;
        if (mz_str_eq(host, MZ_STR("*")) ? known : mz_map_get(&seen, key) || mz_map_get(&seen, any))
            warn(w, (*one)->line, "duplicated egress host: %.*s", MZ_STR_ARG(text));
        namespaces += !known;
        (void)mz_map_put(&seen, space, &seen);
        (void)mz_map_put(&seen, key, &seen);
        all |= mz_str_eq(key, MZ_STR("*/*"));
    }
    mz_map_fini(&seen);
    if (all && namespaces > 1)
        warn(w, listener->line, "`*/*` host select all resources, no other hosts can be added");
}

static void sidecar(const struct warning *w)
{
    no_labels(w, "workload_selector", "labels",
              "sidecar: ", ", will be applied to all services in namespace");
    EACH(listener, w->spec, "ingress")
    {
        const struct mz_str protocol = mz_node_text(*listener, "port.protocol"),
                            name = mz_node_text(*listener, "port.name");
        server_tls(w, mz_node_get(*listener, "tls"));
        if (mz_node_at(*listener, "connection_pool.http") &&
            !mz_protocol_is_http(mz_protocol_parse(protocol)))
            warn(w, (*listener)->line,
                 "sidecar: HTTP connection pool settings are configured for port %llu (\"%.*s\") "
                 "but "
                 "its protocol is not HTTP (%.*s); only TCP settings will apply",
                 (unsigned long long)mz_node_number(*listener, "port.number"), MZ_STR_ARG(name),
                 MZ_STR_ARG(protocol));
    }
    EACH(listener, w->spec, "egress") egress_hosts(w, *listener);
}

/* ---- Telemetry ---- */

static void telemetry(const struct warning *w)
{
    const struct mz_node *list = mz_node_get(w->spec, "tracing");
    selector(w);
    if (mz_node_count(list) > 1)
        warn(w, list->line, "multiple tracing is not currently supported");
    EACH(one, w->spec, "tracing")
    if (mz_node_count(mz_node_get(*one, "providers")) > 1)
        warn(w, (*one)->line, "multiple providers is not currently supported");
}

/* ---- VirtualService ---- */

/* "name.namespace.svc.cluster.local" */
static void gateway_names(const struct warning *w, const struct mz_node *of)
{
    EACH(one, of, "gateways")
    {
        struct mz_str rest = scalar_text(*one), name = MZ_STR(""), ns = MZ_STR("");
        const struct mz_str whole = rest;
        if (mz_str_chr(whole, '/') >= 0 || mz_str_chr(whole, '.') < 0)
            continue;
        (void)mz_str_split(&rest, '.', &name); /* there is a dot */
        (void)mz_str_split(&rest, '.', &ns);
        warn(w, (*one)->line,
             "using legacy gatewayName format \"%.*s\"; prefer the <namespace>/<name> format: "
             "\"%.*s/%.*s\"",
             MZ_STR_ARG(whole), MZ_STR_ARG(ns), MZ_STR_ARG(name));
    }
}

/* Each proxy is sent it. */
static void large(const struct warning *w, const struct mz_node *response)
{
    enum { LARGE = 100 * 1024 };
    const struct mz_str text = mz_node_text(response, "body.string"),
                        coded = mz_node_text(response, "body.bytes");
    if (text.n > LARGE || coded.n / 4 * 3 > LARGE)
        warn(w, line_of(response), "large direct_responses may impact control plane performance");
}

static void sni_hosts(const struct warning *w, const struct mz_node *match)
{
    EACH(one, match, "sni_hosts")
    {
        const struct mz_str name = scalar_text(*one);
        if (mz_str_chr(name, '/') < 0 && mz_check_is_subnet(mz_arena_dup(w->d->arena, name).p))
            warn(w, (*one)->line,
                 "using an IP address (\"%.*s\") goes against SNI spec and most clients do not "
                 "support this",
                 MZ_STR_ARG(name));
    }
}

static void virtual_service(const struct warning *w)
{
    static const char *const protocols[] = { "http", "tcp", "tls" };
    gateway_names(w, w->spec);
    for (size_t k = 0; k < MZ_COUNT(protocols); k++)
        EACH(rule, w->spec, protocols[k])
        {
            const struct mz_node *percent = mz_node_get(*rule, "mirror_percent");
            if (percent && percent->kind != MZ_NODE_NULL)
                warn(
                    w, percent->line,
                    "using deprecated setting \"mirrorPercent\", use \"mirrorPercentage\" instead");
            large(w, mz_node_get(*rule, "direct_response"));
            EACH(match, *rule, "match")
            {
                gateway_names(w, *match);
                sni_hosts(w, *match);
            }
        }
}

/* ---- all ---- */

static void envoy_filter(const struct warning *w)
{
    warn(w, 0,
         "EnvoyFilter exposes internal implementation details that may change at any time. Prefer "
         "other APIs if possible, and exercise extreme caution, especially around upgrades.");
    no_labels(w, "workload_selector", "labels",
              "Envoy filter: ", ", will be applied to all services in namespace");
    EACH(p, w->spec, "config_patches")
    {
        const struct mz_str to = mz_node_text(*p, "apply_to");
        if (mz_node_at(*p, "match.listener.filter_chain.filter") &&
            (mz_str_eq(to, MZ_STR("LISTENER")) || mz_str_eq(to, MZ_STR("FILTER_CHAIN"))))
            warn(w, (*p)->line, "Envoy filter: filter match has no effect when used with %.*s",
                 MZ_STR_ARG(to));
    }
}

static const struct {
    const char *kind;
    void (*look)(const struct warning *w);
} kinds[] = {
    { "AuthorizationPolicy", authorization_policy },
    { "DestinationRule", destination_rule },
    { "EnvoyFilter", envoy_filter },
    { "Gateway", gateway },
    { "PeerAuthentication", selector },
    { "ProxyConfig", selector },
    { "RequestAuthentication", request_authentication },
    { "ServiceEntry", service_entry },
    { "Sidecar", sidecar },
    { "Telemetry", telemetry },
    { "TrafficExtension", selector },
    { "VirtualService", virtual_service },
    { "WasmPlugin", selector },
    { "WorkloadEntry", workload_entry },
};

void objects_warn(struct mz_documents *d, object_warned *tell, void *arg)
{
    for (size_t k = 0; k < MZ_COUNT(kinds); k++)
        objects_foreach(it, d, kinds[k].kind)
        {
            const struct warning w = { d, *it, mz_node_get((*it)->tree, "spec"), tell, arg };
            kinds[k].look(&w);
        }
}

/* A policy counts all the same, as one that is no rehearsal: nothing is open that was closed. */
static struct mz_str dry_run(const struct mz_object *o)
{
    static const char *const words[] = { "1", "t", "T", "TRUE",  "true",  "True",
                                         "0", "f", "F", "FALSE", "false", "False" };
    const struct mz_node *note = map_get(object_annotations(o), MZ_STR("istio.io/dry-run"));
    if (!note)
        return MZ_STR("");
    if (!object_is(o, "AuthorizationPolicy"))
        return MZ_STR("annotation istio.io/dry-run is for AuthorizationPolicies");
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(scalar_text(note), mz_str_c(words[i])))
            return MZ_STR("");
    return MZ_STR("annotation istio.io/dry-run is neither true nor false");
}

void objects_refuse(struct mz_documents *d, object_warned *tell, void *arg)
{
    for (size_t k = 0; k < MZ_COUNT(kinds); k++)
        objects_foreach(it, d, kinds[k].kind)
        {
            const struct mz_str why = dry_run(*it);
            if (why.n)
                tell(arg, *it, (*it)->line, why);
        }
}
