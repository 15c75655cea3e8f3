/* The bootstrap's values, and the proxy's command line. */
#include <stdio.h>

#include "agent/agent.h"
#include "agent/bootstrap/bootstrap_priv.h"
#include "base/log.h"
#include "proto/node.h"

#define FILE_SOCKET "./var/run/secrets/credential-uds/files-socket"
static const char workload_socket[] = "./var/run/secrets/workload-spiffe-uds/";

void render_set(struct render *r, const char *name, struct mz_str json)
{
    MZ_ASSERT(r->n < MZ_COUNT(r->v));
    r->v[r->n++] = (struct variable){ name, json };
}

void render_text(struct render *r, const char *name, struct mz_str text)
{
    render_set(r, name, text.n ? text_json(r->a, text) : (struct mz_str){ 0 });
}

void render_number(struct render *r, const char *name, uint64_t v)
{
    render_set(r, name, mz_arena_printf(r->a, "%llu", (unsigned long long)v));
}

static void set_on(struct render *r, const char *name, bool on)
{
    render_set(r, name, on ? MZ_STR("true") : (struct mz_str){ 0 });
}

static bool env_on(const struct mz_agent_settings *s, const char *name, bool otherwise)
{
    bool v = otherwise;
    const char *text = mz_agent_env(s, name);
    return text && mz_agent_bool(text, &v) ? v : otherwise;
}

/* ---- addresses ---- */

static void families(const struct mz_node *metadata, bool *out_four, bool *out_six,
                     bool *out_first_six)
{
    struct mz_str rest = mz_node_text(metadata, "INSTANCE_IPS"), one;
    *out_first_six = mz_str_chr(rest, ':') >= 0 &&
                     (mz_str_chr(rest, ',') < 0 || mz_str_chr(rest, ':') < mz_str_chr(rest, ','));
    *out_four = *out_six = false;
    while (mz_str_split(&rest, ',', &one))
        *(mz_str_chr(one, ':') >= 0 ? out_six : out_four) = true;
}

static void addresses(struct render *r)
{
    static const char *const wildcards[] = { "0.0.0.0", "::" }, *const locals[] = { "127.0.0.1",
                                                                                    "::1" };
    bool four, six, first_six, local_only = false;
    families(r->node->metadata, &four, &six, &first_six);
    const bool dual = four && six && env_on(r->s, "ISTIO_DUAL_STACK", false);
    const bool as_six = dual ? first_six : !four;
    const char *wildcard = wildcards[as_six];
    const struct mz_node *of_config = mz_node_get(r->config, "proxy_metadata");
    const struct mz_str only =
        of_config ? member_text(of_config, "METRICS_LOCALHOST_ACCESS_ONLY") : (struct mz_str){ 0 };
    if (only.n)
        (void)mz_agent_bool(only.p, &local_only);
    const char *metrics = local_only ? locals[as_six] : wildcard;
    r->out->localhost = locals[as_six];
    render_text(r, "localhost", mz_str_c(locals[as_six]));
    render_text(r, "wildcard", mz_str_c(wildcard));
    render_text(r, "metrics_address", mz_str_c(metrics));
    render_text(r, "metrics_listener",
                mz_arena_printf(r->a, "%s_%u", metrics, r->out->prometheus_port));
    render_text(r, "status_listener",
                mz_arena_printf(r->a, "%s_%u", wildcard, r->out->envoy_status_port));
    render_secure_metrics(r, wildcard);
    render_text(r, "other_wildcard", mz_str_c(dual ? wildcards[!as_six] : ""));
    render_text(r, "other_metrics_address",
                mz_str_c(!dual        ? ""
                         : local_only ? locals[!as_six]
                                      : wildcards[!as_six]));
    render_text(r, "dns_family", mz_str_c(dual ? "ALL" : as_six ? "V6_ONLY" : "V4_ONLY"));
}

/* ---- statistics ---- */

static struct mz_str pattern(struct render *r, struct mz_str all, const char *kind,
                             struct mz_str value)
{
    const struct mz_str json = text_json(r->a, value);
    const bool regex = strcmp(kind, "regex") == 0;
    return mz_arena_printf(r->a, MZ_STR_FMT "%s{ \"%s\": %s" MZ_STR_FMT "%s }", MZ_STR_ARG(all),
                           all.n > 1 ? ", " : "", regex ? "safe_regex" : kind,
                           regex ? "{ \"regex\": " : "", MZ_STR_ARG(json), regex ? " }" : "");
}

/* {pod_ip} stands for each address of the pod. */
static struct mz_str patterns_of(struct render *r, struct mz_str all, const char *kind,
                                 struct mz_str value)
{
    const ptrdiff_t at = mz_str_find(value, MZ_STR("{pod_ip}"));
    struct mz_str ips = mz_node_text(r->node->metadata, "INSTANCE_IPS"), ip;
    if (!value.n)
        return all;
    if (at < 0)
        return pattern(r, all, kind, value);
    while (mz_str_split(&ips, ',', &ip))
        all = pattern(r, all, kind,
                      mz_arena_printf(r->a, "%.*s" MZ_STR_FMT MZ_STR_FMT, (int)at, value.p,
                                      MZ_STR_ARG(ip),
                                      MZ_STR_ARG(mz_str_skip(value, (size_t)at + 8))));
    return all;
}

/* The annotation's list, else the ProxyConfig's, then what the agent itself needs. */
static struct mz_str inclusions(struct render *r, struct mz_str all, const char *kind,
                                const char *annotation, const char *field, const char *needed)
{
    struct mz_str note = member_text(r->annotations, annotation), part, rest = mz_str_c(needed);
    const struct mz_node *matcher = mz_node_get(r->config, "proxy_stats_matcher");
    const struct mz_node *list = mz_node_get(matcher, field);
    if (note.n)
        while (mz_str_split(&note, ',', &part))
            all = patterns_of(r, all, kind, part);
    else
        for (size_t i = 0; i < mz_node_count(list); i++)
            all = patterns_of(r, all, kind, list->list[i]->text);
    while (mz_str_split(&rest, ',', &part))
        all = patterns_of(r, all, kind, part);
    return all;
}

static void matcher(struct render *r, bool discovery)
{
    struct mz_str all = pattern(r, MZ_STR("["), "prefix", MZ_STR("reporter="));
    if (discovery)
        all = pattern(r, all, "prefix", MZ_STR("workload_discovery"));
    all = inclusions(r, all, "prefix", "sidecar.istio.io/statsInclusionPrefixes",
                     "inclusion_prefixes",
                     "cluster_manager,listener_manager,server,cluster.xds-grpc,wasm");
    all = inclusions(
        r, all, "suffix", "sidecar.istio.io/statsInclusionSuffixes", "inclusion_suffixes",
        mz_str_eq(mz_node_text(r->node->metadata, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS"),
                  MZ_STR("true"))
            ? "rbac.allowed,rbac.denied,shadow_allowed,shadow_denied,downstream_cx_active"
            : "rbac.allowed,rbac.denied,shadow_allowed,shadow_denied");
    all = inclusions(r, all, "regex", "sidecar.istio.io/statsInclusionRegexps", "inclusion_regexps",
                     "vhost\\..*\\.route\\..*");
    all = pattern(r, all, "prefix", MZ_STR("component"));
    all = pattern(r, all, "prefix", MZ_STR("istio"));
    render_set(r, "patterns", mz_arena_printf(r->a, MZ_STR_FMT "]", MZ_STR_ARG(all)));
}

static struct mz_str extra_tag(struct render *r, struct mz_str all, struct mz_str tag)
{
    const struct mz_str regex =
        mz_arena_printf(r->a, "(" MZ_STR_FMT "=\\.=(.*?);\\.;)", MZ_STR_ARG(tag));
    const struct mz_str line =
        mz_arena_printf(r->a, "  - { tag_name: " MZ_STR_FMT ", regex: " MZ_STR_FMT " }\n",
                        MZ_STR_ARG(text_json(r->a, tag)), MZ_STR_ARG(text_json(r->a, regex)));
    return !tag.n || mz_str_find(all, line) >= 0
               ? all
               : mz_arena_printf(r->a, MZ_STR_FMT MZ_STR_FMT, MZ_STR_ARG(all), MZ_STR_ARG(line));
}

/* {"prefix": [1, 5, 10]} */
static struct mz_str histogram_buckets(struct render *r)
{
    const struct mz_str note =
        member_text(r->annotations, "sidecar.istio.io/statsHistogramBuckets");
    struct mz_str all = MZ_STR("[");
    struct mz_err ignored;
    const struct mz_node *n = note.n ? mz_tree_read_json(r->a, note, &ignored) : NULL;
    struct map sorted = { .a = r->a };
    if (!n || n->kind != MZ_NODE_MAP || !n->n)
        return (struct mz_str){ 0 };
    map_all(&sorted, n);
    n = map_node(&sorted);
    for (uint32_t i = 0; i < n->n; i++)
        all = mz_arena_printf(r->a,
                              MZ_STR_FMT "%s{ \"match\": { \"prefix\": " MZ_STR_FMT
                                         " }, \"buckets\": " MZ_STR_FMT " }",
                              MZ_STR_ARG(all), i ? ", " : "",
                              MZ_STR_ARG(text_json(r->a, n->pairs[i].key)),
                              MZ_STR_ARG(node_json(r->a, n->pairs[i].value)));
    return mz_arena_printf(r->a, MZ_STR_FMT "]", MZ_STR_ARG(all));
}

static struct mz_str seconds(struct render *r, uint64_t ms)
{
    if (ms % 1000 == 0)
        return mz_arena_printf(r->a, "\"%llus\"", (unsigned long long)(ms / 1000));
    return mz_arena_printf(r->a, "\"%llu.%03llus\"", (unsigned long long)(ms / 1000),
                           (unsigned long long)(ms % 1000));
}

static void statistics(struct render *r)
{
    const struct mz_node *tags = mz_node_get(r->config, "extra_stat_tags");
    struct mz_str extra = { 0 }, part,
                  rest = member_text(r->annotations, "sidecar.istio.io/extraStatTags");
    const struct mz_str flush = member_text(r->annotations, "sidecar.istio.io/statsFlushInterval"),
                        evict =
                            member_text(r->annotations, "sidecar.istio.io/statsEvictionInterval");
    uint64_t flush_ms = 5000, evict_ms;
    for (size_t i = 0; i < mz_node_count(tags); i++)
        extra = extra_tag(r, extra, tags->list[i]->text);
    while (mz_str_split(&rest, ',', &part))
        extra = extra_tag(r, extra, part);
    render_set(r, "extra_tags", extra);
    render_set(r, "histogram_buckets", histogram_buckets(r));
    const bool flushes = flush.n && mz_agent_duration(flush.p, &flush_ms) && flush_ms;
    render_set(r, "stats_flush_interval", flushes ? seconds(r, flush_ms) : (struct mz_str){ 0 });
    const bool evicts = evict.n && mz_agent_duration(evict.p, &evict_ms) && evict_ms && flush_ms &&
                        evict_ms % flush_ms == 0;
    render_set(r, "stats_eviction_interval", evicts ? seconds(r, evict_ms) : (struct mz_str){ 0 });
}

/* ---- the rest ---- */

static void runtime(struct render *r)
{
    static const char *const on[][2] = {
        { "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_"
          "original_dst",
          "true" },
        { "envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update", "false" },
        { "envoy.reloadable_features.fixed_heap_use_allocated", "true" },
        { "envoy.reloadable_features.http_reject_path_with_fragment", "false" },
        { "re2.max_program_size.error_level", "\"32768\"" },
    };
    const struct mz_node *given = mz_node_get(r->config, "runtime_values");
    struct map m = { .a = r->a };
    struct mz_err ignored;
    for (size_t i = 0; i < sizeof(on) / sizeof(on[0]); i++)
        map_set(&m, mz_str_c(on[i][0]), mz_tree_read_json(r->a, mz_str_c(on[i][1]), &ignored));
    const char *policy = mz_agent_env(r->s, "COMPLIANCE_POLICY");
    if (policy && strcmp(policy, "fips-140-2") == 0)
        map_set(&m, MZ_STR("envoy.reloadable_features.google_grpc_disable_tls_13"),
                mz_tree_read_json(r->a, MZ_STR("true"), &ignored));
    if (!env_on(r->s, "HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED", true))
        map_text(&m, "envoy.reloadable_features.http_strip_fragment_from_path_unsafe_if_disabled",
                 MZ_STR("false"));
    for (uint32_t i = 0; given && i < given->n; i++) {
        const struct mz_str v = given->pairs[i].value->text;
        if (!v.n) /* takes a default out */
            map_drop(&m, given->pairs[i].key);
        else if (mz_str_eq(v, MZ_STR("true")) || mz_str_eq(v, MZ_STR("false")))
            map_set(&m, given->pairs[i].key, mz_tree_read_json(r->a, v, &ignored));
        else
            map_set(&m, given->pairs[i].key, given->pairs[i].value);
    }
    render_set(r, "runtime", node_json(r->a, map_node(&m)));
}

static uint64_t max_connections(struct render *r)
{
    const struct mz_node *meta = mz_node_get(r->config, "proxy_metadata"),
                         *values = mz_node_get(r->config, "runtime_values");
    uint64_t n =
        mz_node_number(r->config, "connection_settings.global_downstream_connection_limit");
    if (n)
        return n;
    if (meta && mz_str_u64(member_text(meta, "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS"), &n))
        return n;
    return values &&
                   mz_str_u64(member_text(values, "overload.global_downstream_max_connections"), &n)
               ? n
               : 2147483647;
}

static void paths(struct render *r)
{
    const struct mz_str socket = mz_node_text(r->node->metadata, "WORKLOAD_IDENTITY_SOCKET_FILE");
    render_text(r, "sds_path",
                mz_arena_printf(r->a, "%s" MZ_STR_FMT, workload_socket, MZ_STR_ARG(socket)));
    render_text(r, "xds_path", mz_arena_printf(r->a, "%s/XDS", r->out->config_path));
    render_text(r, "files_path",
                mz_str_c(mz_node_get(r->node->metadata, "file-credential") ? FILE_SOCKET : ""));
}

static void all_variables(struct render *r)
{
    const bool waypoint = strcmp(r->s->role, "waypoint") == 0;
    const bool delta = waypoint || env_on(r->s, "ISTIO_DELTA_XDS", true);
    const bool discovery =
        delta && (waypoint ||
                  mz_str_eq(mz_node_text(r->node->metadata, "METADATA_DISCOVERY"), MZ_STR("true")));
    const bool self =
        mz_str_eq(mz_node_text(r->node->metadata, "ENABLE_SELF_DISCOVERY"), MZ_STR("true"));
    set_on(r, "log_json", r->s->log_json);
    set_on(r, "log_text", !r->s->log_json);
    render_text(r, "id", r->node->id);
    render_text(r, "cluster", r->node->cluster);
    render_set(r, "locality", node_json(r->a, r->node->locality));
    render_set(r, "metadata", node_json(r->a, r->node->metadata));
    set_on(r, "metadata_discovery", discovery);
    render_set(r, "discovery_value", MZ_STR("{ \"config_source\": { \"ads\": {} } }"));
    render_number(r, "admin_port", r->out->admin_port);
    render_number(r, "status_port", r->out->status_port);
    render_number(r, "prometheus_port", r->out->prometheus_port);
    render_number(r, "envoy_status_port", r->out->envoy_status_port);
    render_text(r, "xds_type", mz_str_c(delta ? "DELTA_GRPC" : "GRPC"));
    set_on(r, "compression",
           !mz_node_get(r->config, "stats_compression") ||
               mz_node_is(r->config, "stats_compression"));
    set_on(r, "status_proxy_protocol",
           env_on(r->s, "ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL", false));
    render_number(r, "max_connections", max_connections(r));
    set_on(r, "self_discovery", self);
    render_text(r, "outlier_log_path", mz_str_c(r->s->outlier_log_path));
    set_on(r, "cluster_manager",
           self || r->s->outlier_log_path[0] ||
               mz_node_get(r->node->metadata, "LOAD_STATS_CONFIG_JSON"));
    addresses(r);
    matcher(r, discovery);
    statistics(r);
    runtime(r);
    paths(r);
}

static uint16_t port(const struct mz_node *n, const char *path)
{
    const uint64_t v = mz_node_number(n, path);
    return (uint16_t)(v < 65536 ? v : 0);
}

static void facts(struct render *r)
{
    struct mz_bootstrap *o = r->out;
    o->proxy_config = r->config;
    o->metadata = r->node->metadata;
    o->id = r->node->id.p;
    o->namespace_ = mz_node_text(o->metadata, "NAMESPACE").p;
    o->account = mz_node_text(o->metadata, "SERVICE_ACCOUNT").p;
    o->config_path = mz_node_text(r->config, "config_path").p;
    const char *bare = strncmp(o->config_path, "./", 2) == 0 ? o->config_path + 2 : o->config_path;
    o->file = mz_arena_printf(r->a, "%s/envoy-rev.json", bare).p;
    o->binary = mz_node_text(r->config, "binary_path").p;
    o->discovery = mz_node_text(r->config, "discovery_address").p;
    o->plain =
        !mz_str_eq(mz_node_text(r->config, "control_plane_auth_policy"), MZ_STR("MUTUAL_TLS"));
    o->admin_port = port(r->config, "proxy_admin_port");
    o->status_port = port(r->config, "status_port");
    o->envoy_status_port = port(o->metadata, "ENVOY_STATUS_PORT");
    o->prometheus_port = port(o->metadata, "ENVOY_PROMETHEUS_PORT");
}

/* "info,misc:error": a level, then components. */
static void log_levels(struct render *r, const char **out_level, const char **out_components)
{
    struct mz_str rest = mz_str_c(r->s->log_level), part, components = { 0 };
    *out_level = NULL;
    while (mz_str_split(&rest, ',', &part))
        if (mz_str_chr(part, ':') < 0)
            *out_level = mz_arena_dup(r->a, part).p;
        else
            components = mz_arena_printf(r->a, MZ_STR_FMT "%s" MZ_STR_FMT, MZ_STR_ARG(components),
                                         components.n ? "," : "", MZ_STR_ARG(part));
    *out_components = components.n                   ? components.p
                      : r->s->component_log_level[0] ? r->s->component_log_level
                                                     : NULL;
}

static bool command_line(struct render *r, struct mz_err *err)
{
    struct mz_bootstrap *o = r->out;
    const struct mz_str drain = mz_node_text(r->config, "drain_duration"),
                        last = mz_node_text(r->config, "termination_drain_duration"),
                        flush = mz_node_text(r->config, "file_flush_interval");
    const uint64_t kb = mz_node_number(r->config, "file_flush_min_size_kb"),
                   workers = mz_node_number(r->config, "concurrency");
    const char *level, *components;
    uint64_t flush_ms = 1000;
    size_t n = 0;
    if (!drain.n || !mz_agent_duration(drain.p, &o->drain_ms))
        return mz_err_set(err, "drainDuration: \"%.60s\" is no duration like 45s",
                          drain.n ? drain.p : "");
    if (!last.n || !mz_agent_duration(last.p, &o->termination_drain_ms))
        return mz_err_set(err, "terminationDrainDuration: \"%.60s\" is no duration like 5s",
                          last.n ? last.p : "");
    if (flush.n && !mz_agent_duration(flush.p, &flush_ms))
        return mz_err_set(err, "fileFlushInterval: \"%.60s\" is no duration like 1s", flush.p);
    log_levels(r, &level, &components);
    const char *const args[] = {
        o->binary,
        "-c",
        o->file,
        "--drain-time-s",
        mz_arena_printf(r->a, "%llu", (unsigned long long)(o->drain_ms / 1000)).p,
        "--drain-strategy",
        "immediate",
        "--local-address-ip-version",
        strchr(o->localhost, ':') ? "v6" : "v4",
        "--file-flush-interval-msec",
        mz_arena_printf(r->a, "%llu", (unsigned long long)flush_ms).p,
        "--disable-hot-restart",
        "--allow-unknown-static-fields",
    };
    for (; n < sizeof(args) / sizeof(args[0]); n++)
        o->argv[n] = args[n];
    const char *const pairs[][2] = {
        { "--file-flush-min-size-kb",
          kb ? mz_arena_printf(r->a, "%llu", (unsigned long long)kb).p : NULL },
        { "-l", level },
        { "--component-log-level", components },
    };
    for (size_t i = 0; i < sizeof(pairs) / sizeof(pairs[0]); i++)
        if (pairs[i][1]) {
            o->argv[n++] = pairs[i][0];
            o->argv[n++] = pairs[i][1];
        }
    if (mz_str_eq(mz_node_text(o->metadata, "ENVOY_SKIP_DEPRECATED_LOGS"), MZ_STR("true")))
        o->argv[n++] = "--skip-deprecated-logs";
    const char *override = mz_agent_env(r->s, "ISTIO_BOOTSTRAP_OVERRIDE");
    if (override && *override) {
        struct file_text f;
        if (!file_read(override, r->a, &f, err))
            return false;
        if (!f.there)
            return mz_err_set(err, "ISTIO_BOOTSTRAP_OVERRIDE: there is no %s", override);
        const struct mz_node *tree = mz_tree_read_yaml(r->a, f.text, 0, err);
        if (!tree)
            return mz_err_at(err, "%s", override);
        o->argv[n++] = "--config-yaml";
        o->argv[n++] = node_json(r->a, tree).p;
    }
    if (workers) {
        o->argv[n++] = "--concurrency";
        o->argv[n++] = mz_arena_printf(r->a, "%llu", (unsigned long long)workers).p;
    }
    o->argv[n] = NULL;
    return true;
}

bool mz_bootstrap_make(const struct mz_agent_settings *s, struct mz_arena *a,
                       struct mz_bootstrap *out, struct mz_err *err)
{
    struct node node;
    struct render r = { .s = s, .a = a, .out = out, .node = &node };
    *out = (struct mz_bootstrap){ 0 };
    r.annotations = pod_info(s, "annotations", a, err);
    if (!r.annotations || !(r.config = proxy_config(s, r.annotations, a, err)) ||
        !node_make(s, r.config, r.annotations, a, &node, err))
        return false;
    facts(&r);
    if (!render_services(&r, err))
        return false;
    all_variables(&r);
    if (!command_line(&r, err))
        return false;
    const struct mz_str yaml = template_fill(a, mz_str_c(bootstrap_template), r.v, r.n);
    const struct mz_node *tree = mz_tree_read_yaml(a, yaml, 0, err);
    if (!tree)
        return mz_err_at(err, "bootstrap");
    out->json = node_json(a, tree);
    return true;
}
