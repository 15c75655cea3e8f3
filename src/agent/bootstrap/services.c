/* Whom a proxy tells of its requests and numbers: tracers, sinks, access log services, load reports; by TLS where the ProxyConfig says so. */
#include "agent/agent.h"
#include "agent/bootstrap/bootstrap_priv.h"
#include "base/log.h"
#include "proto/node.h"

/* "host:port" as a SocketAddress. */
static struct mz_str socket_address(struct render *r, struct mz_str text, struct mz_err *err,
                                    const char *of)
{
    const ptrdiff_t colon = mz_str_rchr(text, ':');
    uint64_t port;
    struct mz_str host = { text.p, colon > 0 ? (size_t)colon : 0 };
    if (colon <= 0 || !mz_str_u64(mz_str_skip(text, (size_t)colon + 1), &port) || port > 65535) {
        (void)mz_err_set(err, "%s: \"%.80s\" is no host:port", of, text.p ? text.p : "");
        return (struct mz_str){ 0 };
    }
    if (host.n > 1 && host.p[0] == '[')
        host = (struct mz_str){ host.p + 1, host.n - 2 };
    if (mz_str_eq(host, MZ_STR("$(HOST_IP)")) && mz_agent_env(r->s, "HOST_IP"))
        host = mz_str_c(mz_agent_env(r->s, "HOST_IP"));
    return mz_arena_printf(r->a, "{ \"address\": " MZ_STR_FMT ", \"port_value\": %llu }",
                           MZ_STR_ARG(text_json(r->a, host)), (unsigned long long)port);
}

/* ---- TLS ---- */

/* A secret of the agent's socket. */
static struct mz_str sds(struct render *r, struct mz_str name)
{
    return mz_arena_printf(
        r->a,
        "{ \"name\": " MZ_STR_FMT
        ", \"sds_config\": { \"api_config_source\": { \"api_type\": \"GRPC\", \"grpc_services\": "
        "[{ \"envoy_grpc\": { \"cluster_name\": \"sds-grpc\" } }], "
        "\"set_node_on_first_message_only\": true, \"transport_api_version\": \"V3\" }, "
        "\"resource_api_version\": \"V3\" } }",
        MZ_STR_ARG(text_json(r->a, name)));
}

/* Files that the proxy is told of in its metadata count before those of the settings. */
static struct mz_str file_of(struct render *r, const char *metadata, const struct mz_node *tls,
                             const char *field)
{
    const struct mz_str first = member_text(r->node->metadata, metadata);
    return first.n ? first : mz_node_text(tls, field);
}

static struct mz_str names_of(struct render *r, const struct mz_node *tls)
{
    const struct mz_node *list = mz_node_get(tls, "subject_alt_names");
    struct mz_str all = { 0 };
    for (size_t i = 0; i < mz_node_count(list); i++)
        all = mz_arena_printf(r->a, MZ_STR_FMT "%s{ \"exact\": " MZ_STR_FMT " }", MZ_STR_ARG(all),
                              i ? ", " : "", MZ_STR_ARG(text_json(r->a, list->list[i]->text)));
    return all.n ? mz_arena_printf(r->a, "\"match_subject_alt_names\": [" MZ_STR_FMT "]",
                                   MZ_STR_ARG(all))
                 : all;
}

static struct mz_str tls_context(struct render *r, const struct mz_node *tls, struct mz_str cert,
                                 struct mz_str root, const char *alpn, struct mz_str sni)
{
    const struct mz_str names = names_of(r, tls);
    struct mz_str text = mz_arena_printf(
        r->a,
        "{ \"name\": \"envoy.transport_sockets.tls\", \"typed_config\": { \"@type\": "
        "\"type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\", "
        "\"common_tls_context\": { \"combined_validation_context\": { "
        "\"default_validation_context\": { " MZ_STR_FMT " }",
        MZ_STR_ARG(names));
    if (root.n)
        text = mz_arena_printf(r->a,
                               MZ_STR_FMT ", \"validation_context_sds_secret_config\": " MZ_STR_FMT,
                               MZ_STR_ARG(text), MZ_STR_ARG(sds(r, root)));
    text = mz_arena_printf(r->a, MZ_STR_FMT " }", MZ_STR_ARG(text));
    if (cert.n)
        text = mz_arena_printf(
            r->a, MZ_STR_FMT ", \"tls_certificate_sds_secret_configs\": [" MZ_STR_FMT "]",
            MZ_STR_ARG(text), MZ_STR_ARG(sds(r, cert)));
    if (alpn)
        text = mz_arena_printf(r->a, MZ_STR_FMT ", \"alpn_protocols\": %s", MZ_STR_ARG(text), alpn);
    text = mz_arena_printf(r->a, MZ_STR_FMT " }", MZ_STR_ARG(text));
    if (sni.n)
        text = mz_arena_printf(r->a, MZ_STR_FMT ", \"sni\": " MZ_STR_FMT, MZ_STR_ARG(text),
                               MZ_STR_ARG(text_json(r->a, sni)));
    return mz_arena_printf(r->a, MZ_STR_FMT " } }", MZ_STR_ARG(text));
}

/* What ClientTLSSettings ask for, as a transport socket; "" in @out where they ask for none. @h2: the service speaks HTTP/2. */
static bool tls_socket(struct render *r, const char *of, const char *name, bool h2,
                       struct mz_str *out, struct mz_err *err)
{
    const struct mz_node *tls = mz_node_at(r->config, of);
    const struct mz_str mode = mz_node_text(tls, "mode"), sni = mz_node_text(tls, "sni");
    const bool mutual = mz_str_eq(mode, MZ_STR("MUTUAL"));
    *out = (struct mz_str){ 0 };
    if (!tls || !mode.n || mz_str_eq(mode, MZ_STR("DISABLE")))
        return true;
    if (mz_str_eq(mode, MZ_STR("ISTIO_MUTUAL"))) {
        *out = tls_context(r, tls, MZ_STR("default"), MZ_STR("ROOTCA"),
                           h2 ? "[\"istio\", \"h2\"]" : NULL, sni.n ? sni : mz_str_c(name));
        return true;
    }
    if (!mutual && !mz_str_eq(mode, MZ_STR("SIMPLE")))
        return mz_err_set(
            err, "%s.mode: \"%.40s\" is none of DISABLE, SIMPLE, MUTUAL, ISTIO_MUTUAL", of, mode.p);
    const struct mz_str chain = file_of(r, "TLS_CLIENT_CERT_CHAIN", tls, "client_certificate"),
                        key = file_of(r, "TLS_CLIENT_KEY", tls, "private_key"),
                        root = file_of(r, "TLS_CLIENT_ROOT_CERT", tls, "ca_certificates");
    struct mz_str cert = { 0 };
    if (mutual && chain.n && key.n)
        cert = mz_arena_printf(r->a, "file-cert:" MZ_STR_FMT "~" MZ_STR_FMT, MZ_STR_ARG(chain),
                               MZ_STR_ARG(key));
    *out = tls_context(r, tls, cert,
                       root.n ? mz_arena_printf(r->a, "file-root:" MZ_STR_FMT, MZ_STR_ARG(root))
                              : root,
                       h2 ? "[\"h2\"]" : NULL, sni);
    return true;
}

/* ---- services ---- */

/* Istio's TcpKeepalive as a proxy's. */
static struct mz_str keepalive(struct render *r, const char *path)
{
    static const struct {
        const char *from, *to;
        bool is_duration;
    } fields[] = { { "probes", "keepalive_probes", false },
                   { "time", "keepalive_time", true },
                   { "interval", "keepalive_interval", true } };
    const struct mz_node *n = mz_node_at(r->config, path);
    struct map m = { .a = r->a };
    for (size_t i = 0; n && i < MZ_COUNT(fields); i++) {
        uint64_t v = fields[i].is_duration ? 0 : mz_node_number(n, fields[i].from);
        const struct mz_str text = mz_node_text(n, fields[i].from);
        if (fields[i].is_duration && text.n && mz_agent_duration(text.p, &v))
            v /= 1000;
        if (v)
            map_number(&m, fields[i].to, v);
    }
    return n ? node_json(r->a, map_node(&m)) : (struct mz_str){ 0 };
}

static bool address(struct render *r, const char *name, const char *path, bool *out_is_there,
                    struct mz_err *err)
{
    const struct mz_str text = mz_node_text(r->config, path);
    struct mz_str json = { 0 };
    if (text.n && !(json = socket_address(r, text, err, path)).n)
        return false;
    render_set(r, name, json);
    *out_is_there |= json.n != 0;
    return true;
}

static bool tls(struct render *r, const char *name, const char *of, const char *sni, bool h2,
                struct mz_err *err)
{
    struct mz_str json;
    if (!tls_socket(r, of, sni, h2, &json, err))
        return false;
    render_set(r, name, json);
    return true;
}

static void load_reports(struct render *r)
{
    const struct mz_str text = member_text(r->node->metadata, "LOAD_STATS_CONFIG_JSON");
    struct mz_err ignored;
    const struct mz_node *n = text.n ? mz_tree_read_json(r->a, text, &ignored) : NULL;
    render_set(r, "load_stats", n ? node_json(r->a, n) : (struct mz_str){ 0 });
}

void render_secure_metrics(struct render *r, const char *wildcard)
{
    static const char *const ports[][3] = {
        { "ENVOY_SECURE_METRICS_PORT", "secure_port", "secure_listener" },
        { "ENVOY_SECURE_MERGED_METRICS_PORT", "merged_port", "merged_listener" },
    };
    render_set(r, "own_certificate", sds(r, MZ_STR("default")));
    render_set(r, "own_root", sds(r, MZ_STR("ROOTCA")));
    for (size_t i = 0; i < MZ_COUNT(ports); i++) {
        const uint64_t port = mz_node_number(r->node->metadata, ports[i][0]);
        if (!port)
            continue;
        render_number(r, ports[i][1], port);
        render_text(r, ports[i][2],
                    mz_arena_printf(r->a, "%s_%llu", wildcard, (unsigned long long)port));
    }
}

bool render_services(struct render *r, struct mz_err *err)
{
    bool zipkin = false, datadog = false, metrics = false, statsd = false, logs = false;
    if (!address(r, "zipkin", "tracing.zipkin.address", &zipkin, err) ||
        !address(r, "datadog", "tracing.datadog.address", &datadog, err) ||
        !address(r, "metrics_service", "envoy_metrics_service.address", &metrics, err) ||
        !address(r, "access_log_service", "envoy_access_log_service.address", &logs, err) ||
        !address(r, "statsd", "statsd_udp_address", &statsd, err) ||
        !tls(r, "tracing_tls", "tracing.tls_settings", "tracer", false, err) ||
        !tls(r, "metrics_service_tls", "envoy_metrics_service.tls_settings",
             "envoy_metrics_service", true, err) ||
        !tls(r, "access_log_service_tls", "envoy_access_log_service.tls_settings",
             "envoy_accesslog_service", true, err))
        return false;
    render_set(r, "sinks", metrics || statsd ? MZ_STR("true") : (struct mz_str){ 0 });
    render_set(r, "metrics_service_keepalive", keepalive(r, "envoy_metrics_service.tcp_keepalive"));
    render_set(r, "access_log_service_keepalive",
               keepalive(r, "envoy_access_log_service.tcp_keepalive"));
    load_reports(r);
    const char *const ignored[] = {
        datadog ? "tracing.datadog" : "",
        mz_node_at(r->config, "tracing.lightstep") ? "tracing.lightstep" : "",
        metrics ? "envoyMetricsService" : "",
        statsd ? "statsdUdpAddress" : "",
        mz_node_get(r->node->metadata, "LOAD_STATS_CONFIG_JSON") ? "LOAD_STATS_CONFIG_JSON" : "",
    };
    struct mz_str all = { 0 };
    for (size_t i = 0; i < MZ_COUNT(ignored); i++)
        if (ignored[i][0])
            all = mz_arena_printf(r->a, MZ_STR_FMT "%s%s", MZ_STR_ARG(all), all.n ? ", " : "",
                                  ignored[i]);
    r->out->not_followed = all.n ? all.p : NULL;
    return true;
}
