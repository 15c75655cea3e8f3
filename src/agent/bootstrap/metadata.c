/* The node: who the proxy is. ISTIO_META_* come as they are, ISTIO_METAJSON_* as the members of their JSON. */
#include "agent/agent.h"
#include "agent/bootstrap/bootstrap_priv.h"
#include "proto/node.h"

const char *mz_agent_env(const struct mz_agent_settings *s, const char *name)
{
    const size_t n = strlen(name);
    for (char *const *e = s->env; *e; e++)
        if (strncmp(*e, name, n) == 0 && (*e)[n] == '=')
            return *e + n + 1;
    return NULL;
}

static struct mz_str env(const struct mz_agent_settings *s, const char *name)
{
    const char *v = mz_agent_env(s, name);
    return mz_str_c(v ? v : "");
}

static bool variable(const char *e, const char *prefix, struct mz_str *out_key,
                     struct mz_str *out_value)
{
    const size_t n = strlen(prefix);
    const char *eq = strchr(e, '=');
    if (!eq || strncmp(e, prefix, n) != 0 || (size_t)(eq - e) <= n)
        return false;
    *out_key = (struct mz_str){ e + n, (size_t)(eq - e) - n };
    *out_value = mz_str_c(eq + 1);
    return true;
}

/* POD_PORTS is a list as a string, each with all of its fields. */
static struct mz_str pod_ports(struct mz_str text, struct mz_arena *a)
{
    struct mz_err ignored;
    const struct mz_node *n = mz_tree_read_json(a, text, &ignored);
    struct mz_str all = MZ_STR("[");
    if (!n || n->kind != MZ_NODE_LIST)
        return text;
    for (uint32_t i = 0; i < n->n; i++)
        all = mz_arena_printf(a,
                              MZ_STR_FMT "%s{\"name\":" MZ_STR_FMT
                                         ",\"containerPort\":%llu,\"protocol\":" MZ_STR_FMT "}",
                              MZ_STR_ARG(all), i ? "," : "",
                              MZ_STR_ARG(text_json(a, mz_node_text(n->list[i], "name"))),
                              (unsigned long long)mz_node_number(n->list[i], "containerPort"),
                              MZ_STR_ARG(text_json(a, mz_node_text(n->list[i], "protocol"))));
    return mz_arena_printf(a, MZ_STR_FMT "]", MZ_STR_ARG(all));
}

static void from_environment(const struct mz_agent_settings *s, const struct mz_node *config,
                             struct map *m)
{
    const struct mz_node *of_config = mz_node_get(config, "proxy_metadata");
    struct mz_str key, value;
    for (uint32_t i = 0; of_config && i < of_config->n; i++)
        if (mz_str_starts(of_config->pairs[i].key, MZ_STR("ISTIO_META_")))
            map_set(m, mz_str_skip(of_config->pairs[i].key, 11), of_config->pairs[i].value);
    for (char *const *e = s->env; *e; e++)
        if (variable(*e, "ISTIO_META_", &key, &value))
            map_set(m, key,
                    made_text(m->a, mz_str_eq(key, MZ_STR("POD_PORTS")) ? pod_ports(value, m->a)
                                                                        : value));
    for (char *const *e = s->env; *e; e++) {
        struct mz_err ignored;
        if (!variable(*e, "ISTIO_METAJSON_", &key, &value))
            continue;
        const struct mz_node *n = mz_tree_read_json(m->a, value, &ignored);
        map_all(m, n);
        if (n && mz_str_eq(key, MZ_STR("LABELS"))) {
            map_set(m, MZ_STR("LABELS"), n);
            map_set(m, MZ_STR("STATIC_LABELS"), n);
        }
    }
    if (env(s, "DNS_PROXY_ADDR").n)
        map_text(m, "DNS_PROXY_ADDR", env(s, "DNS_PROXY_ADDR"));
}

static const struct mz_node *labels(const struct mz_agent_settings *s, struct map *m,
                                    struct mz_err *err)
{
    const struct mz_node *of_pod = pod_info(s, "labels", m->a, err);
    struct map all = { .a = m->a };
    if (!of_pod)
        return NULL;
    for (size_t i = 0; i < m->v.n; i++)
        if (mz_str_eq(m->v.v[i].key, MZ_STR("LABELS")))
            map_all(&all, m->v.v[i].value);
    map_all(&all, of_pod);
    map_drop(&all, MZ_STR("pod-template-hash"));
    return map_node(&all);
}

/* "region.zone.subzone" of the label istio-locality; slashes are fine, too. */
static const struct mz_node *locality(const struct mz_node *labels, struct mz_arena *a)
{
    static const char *const parts[] = { "region", "zone", "sub_zone" };
    struct map m = { .a = a };
    struct mz_str rest = member_text(labels, "istio-locality"), part;
    const char sep = mz_str_chr(rest, '/') >= 0 ? '/' : '.';
    for (size_t i = 0; i < 3 && mz_str_split(&rest, sep, &part); i++)
        map_text(&m, parts[i], part);
    return map_node(&m);
}

static struct mz_str app_of(const struct mz_node *labels)
{
    const struct mz_str k8s = member_text(labels, "app.kubernetes.io/name");
    return k8s.n ? k8s : member_text(labels, "app");
}

static struct mz_str dotted(struct mz_arena *a, struct mz_str x, struct mz_str y)
{
    return mz_arena_printf(a, MZ_STR_FMT "." MZ_STR_FMT, MZ_STR_ARG(x), MZ_STR_ARG(y));
}

static struct mz_str cluster(const struct mz_node *config, const struct mz_node *labels,
                             struct mz_str workload, struct mz_str ns, struct mz_arena *a)
{
    struct mz_str given = mz_node_text(config, "service_cluster"),
                  how = mz_node_text(config, "tracing_service_name");
    struct mz_str canonical = member_text(labels, "service.istio.io/canonical-name");
    if (!canonical.n)
        canonical = app_of(labels).n ? app_of(labels)
                    : workload.n     ? workload
                                     : MZ_STR("istio-proxy");
    if (mz_str_eq(how, MZ_STR("CANONICAL_NAME_ONLY")))
        given = canonical;
    else if (mz_str_eq(how, MZ_STR("CANONICAL_NAME_AND_NAMESPACE")) && ns.n)
        return dotted(a, canonical, ns);
    if (given.n && !mz_str_eq(given, MZ_STR("istio-proxy")))
        return given;
    if (app_of(labels).n)
        return dotted(a, app_of(labels), ns);
    if (workload.n)
        return dotted(a, workload, ns);
    return ns.n ? dotted(a, MZ_STR("istio-proxy"), ns) : MZ_STR("istio-proxy");
}

static struct mz_str instance_ips(const struct mz_agent_settings *s, struct mz_arena *a,
                                  struct mz_str *out_first)
{
    struct mz_str all = env(s, "INSTANCE_IP");
    const struct mz_str first = all;
    for (size_t i = 0; i < s->addresses_n; i++) {
        const struct mz_str address = mz_str_c(s->addresses[i]);
        if (mz_str_eq(address, first))
            continue;
        all = all.n ? mz_arena_printf(a, MZ_STR_FMT "," MZ_STR_FMT, MZ_STR_ARG(all),
                                      MZ_STR_ARG(address))
                    : address;
    }
    if (!all.n)
        all = MZ_STR("127.0.0.1,::1");
    struct mz_str rest = all;
    (void)mz_str_split(&rest, ',', out_first);
    return all;
}

static void number_of(const struct mz_agent_settings *s, struct map *m, const char *key,
                      const char *name, uint64_t otherwise)
{
    uint64_t v = otherwise;
    if ((!env(s, name).n || mz_str_u64(env(s, name), &v)) && v)
        map_number(m, key, v);
}

static bool on(const struct mz_agent_settings *s, const char *name, bool otherwise)
{
    bool v = otherwise;
    const char *text = mz_agent_env(s, name);
    return text && mz_agent_bool(text, &v) ? v : otherwise;
}

static bool member_on(const struct map *m, const char *key)
{
    for (size_t i = 0; i < m->v.n; i++)
        if (mz_str_eq(m->v.v[i].key, mz_str_c(key)) && m->v.v[i].value->kind == MZ_NODE_STR)
            return mz_str_eq(m->v.v[i].value->text, MZ_STR("true"));
    return false;
}

static bool has(const struct map *m, const char *key)
{
    for (size_t i = 0; i < m->v.n; i++)
        if (mz_str_eq(m->v.v[i].key, mz_str_c(key)))
            return true;
    return false;
}

static void typed(const struct mz_agent_settings *s, struct map *m)
{
    static const char *const from[][2] = { { "NAME", "POD_NAME" },
                                           { "NAMESPACE", "POD_NAMESPACE" },
                                           { "SERVICE_ACCOUNT", "SERVICE_ACCOUNT" } };
    for (size_t i = 0; i < sizeof(from) / sizeof(from[0]); i++)
        if (env(s, from[i][1]).n)
            map_text(m, from[i][0], env(s, from[i][1]));
    number_of(s, m, "ENVOY_STATUS_PORT", "ENVOY_STATUS_PORT", 15021);
    number_of(s, m, "ENVOY_PROMETHEUS_PORT", "ENVOY_PROMETHEUS_PORT", 15090);
    number_of(s, m, "ENVOY_SECURE_METRICS_PORT", "ENVOY_SECURE_METRICS_PORT", 0);
    number_of(s, m, "ENVOY_SECURE_MERGED_METRICS_PORT", "ENVOY_SECURE_MERGED_METRICS_PORT", 0);
    if (on(s, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false))
        map_text(m, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", MZ_STR("true"));
    if (on(s, "ENVOY_SKIP_DEPRECATED_LOGS", true))
        map_text(m, "ENVOY_SKIP_DEPRECATED_LOGS", MZ_STR("true"));
    const char *discovery = mz_agent_env(s, "PEER_METADATA_DISCOVERY");
    map_text(m, "METADATA_DISCOVERY",
             (discovery ? on(s, "PEER_METADATA_DISCOVERY", false) : member_on(m, "ENABLE_HBONE"))
                 ? MZ_STR("true")
                 : MZ_STR("false"));
    map_text(m, "WORKLOAD_IDENTITY_SOCKET_FILE",
             env(s, "WORKLOAD_IDENTITY_SOCKET_FILE").n ? env(s, "WORKLOAD_IDENTITY_SOCKET_FILE")
                                                       : MZ_STR("socket"));
    if (!has(m, "ISTIO_VERSION"))
        map_text(m, "ISTIO_VERSION", MZ_STR("1.32.0"));
    if (s->outlier_log_path[0])
        map_text(m, "OUTLIER_LOG_PATH", mz_str_c(s->outlier_log_path));
}

/* The name that the control plane's certificate must have: of its address, unless the authority is asked without TLS. */
static void control_plane_name(const struct mz_node *config, struct map *m)
{
    struct mz_str host = mz_node_text(config, "discovery_address");
    const ptrdiff_t colon = mz_str_rchr(host, ':');
    if (!mz_str_eq(mz_node_text(config, "control_plane_auth_policy"), MZ_STR("MUTUAL_TLS")))
        return;
    host.n = colon < 0 ? host.n : (size_t)colon;
    if (mz_str_eq(host, MZ_STR("localhost")))
        host = MZ_STR("istiod.istio-system.svc");
    const struct mz_node *one = made_text(m->a, host);
    map_set(m, MZ_STR("PILOT_SAN"), node_list(m->a, &one, 1));
}

bool node_make(const struct mz_agent_settings *s, const struct mz_node *config,
               const struct mz_node *annotations, struct mz_arena *a, struct node *out,
               struct mz_err *err)
{
    struct map m = { .a = a };
    struct mz_str first;
    from_environment(s, config, &m);
    const struct mz_node *of_pod = labels(s, &m, err);
    if (!of_pod) {
        mz_vec_free(&m.v, MZ_MEM_CONFIG);
        return false;
    }
    typed(s, &m);
    if (of_pod->n)
        map_set(&m, MZ_STR("LABELS"), of_pod);
    if (annotations->n)
        map_set(&m, MZ_STR("ANNOTATIONS"), annotations);
    map_text(&m, "INSTANCE_IPS", instance_ips(s, a, &first));
    map_set(&m, MZ_STR("PROXY_CONFIG"), config);
    control_plane_name(config, &m);
    const struct mz_str name = env(s, "POD_NAME"), ns = env(s, "POD_NAMESPACE");
    const struct mz_str domain =
        s->domain[0] ? mz_str_c(s->domain) : dotted(a, ns, MZ_STR("svc.cluster.local"));
    out->metadata = map_node(&m);
    out->locality = locality(of_pod, a);
    out->id =
        mz_arena_printf(a, "%s~" MZ_STR_FMT "~" MZ_STR_FMT "." MZ_STR_FMT "~" MZ_STR_FMT, s->role,
                        MZ_STR_ARG(first), MZ_STR_ARG(name), MZ_STR_ARG(ns), MZ_STR_ARG(domain));
    out->cluster = cluster(config, of_pod, mz_node_text(out->metadata, "WORKLOAD_NAME"), ns, a);
    return true;
}
