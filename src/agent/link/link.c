#include "agent/link/link.h"

#include <stdio.h>

#include "agent/tree.h"
#include "event/loop.h"
#include "proto/mapper.h"
#include "stats/stats.h"
#include "tls/tls.h"
#include "upstream/cluster.h"

#define SERVICES_MAX 72 /* ours, and an application's probes */

struct service {
    char name[24];
    struct mz_grpc_service *grpc;
};
struct mz_link {
    struct mz_stats *stats;
    struct mz_cluster_manager *clusters;
    struct mz_upstream *upstream;
    struct service services[SERVICES_MAX];
    size_t n;
    unsigned version;
};

static struct mz_transport_factory *transport(void *arg, const void *msg, struct mz_str prefix,
                                              struct mz_init *init, struct mz_err *err)
{
    struct mz_link *k = arg;
    const pb_TransportSocket *m = msg;
    const struct mz_tls_env env = { .stats = k->stats, .prefix = prefix, .init = init };
    struct mz_proto_ctx ctx = { .unknown = MZ_UNKNOWN_REJECT,
                                .arena = mz_arena_create(MZ_MEM_CONFIG) };
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *opened;
    struct mz_transport_factory *f = NULL;
    if (mz_any_unpack(&ctx, m->typed_config, &type, &opened, err)) /* always TLS: we wrote it */
        f = mz_tls_upstream_create((const pb_UpstreamTlsContext *)opened, &env, err);
    mz_arena_destroy(ctx.arena);
    return f;
}

struct mz_link *mz_link_create(struct mz_loop *l)
{
    struct mz_link *k = mz_alloc0(MZ_MEM_MISC, sizeof(*k));
    k->stats = mz_stats_create(1);
    const struct mz_upstream_env env = {
        .main = l, .stats = k->stats, .transport = transport, .transport_arg = k
    };
    k->clusters = mz_cluster_manager_create(&env);
    k->upstream = mz_upstream_create(k->clusters, l);
    return k;
}

void mz_link_stop(struct mz_link *k)
{
    mz_upstream_destroy(k->upstream);
    mz_cluster_manager_destroy(k->clusters);
    for (size_t i = 0; i < k->n; i++)
        mz_grpc_service_destroy(k->services[i].grpc);
}

void mz_link_destroy(struct mz_link *k)
{
    if (!k)
        return;
    mz_stats_destroy(k->stats);
    mz_free(MZ_MEM_MISC, k);
}

struct mz_upstream *mz_link_upstream(struct mz_link *k)
{
    return k->upstream;
}

const struct mz_grpc_service *mz_link_service(struct mz_link *k, const char *name)
{
    for (size_t i = 0; i < k->n; i++)
        if (strcmp(k->services[i].name, name) == 0)
            return k->services[i].grpc;
    return NULL;
}

bool mz_link_who(const char *token_path, const char *cluster_id, struct mz_headers *h,
                 struct mz_arena *a, struct mz_err *err)
{
    struct file_text token = { 0 };
    if (token_path[0] && !file_read(token_path, a, &token, err))
        return false;
    while (token.text.n && token.text.p[token.text.n - 1] <= ' ')
        token.text.n--;
    if (token.text.n)
        mz_headers_add(h, MZ_STR("authorization"),
                       mz_arena_printf(a, "Bearer " MZ_STR_FMT, MZ_STR_ARG(token.text)));
    if (cluster_id[0])
        mz_headers_add(h, MZ_STR("clusterid"), mz_str_c(cluster_id));
    return true;
}

/* ---- a target as a cluster ---- */

static struct mz_str json(struct mz_arena *a, struct mz_str s)
{
    return text_json(a, s);
}

static struct mz_str tls_text(const struct mz_link_target *t, struct mz_arena *a)
{
    const struct mz_str name = json(a, mz_str_c(t->server_name));
    struct mz_str own = { 0 }, trust = MZ_STR("system_root_certs: {}");
    if (!t->tls)
        return own;
    if (t->unchecked)
        return MZ_STR(
            "transport_socket:\n"
            "  name: envoy.transport_sockets.tls\n"
            "  typed_config: { \"@type\": "
            "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext }\n");
    if (t->chain.n)
        own = mz_arena_printf(a,
                              "      tls_certificates:\n"
                              "      - { certificate_chain: { inline_string: " MZ_STR_FMT
                              " }, private_key: { inline_string: " MZ_STR_FMT " } }\n",
                              MZ_STR_ARG(json(a, t->chain)), MZ_STR_ARG(json(a, t->key)));
    if (t->root.n)
        trust = mz_arena_printf(a, "trusted_ca: { inline_string: " MZ_STR_FMT " }",
                                MZ_STR_ARG(json(a, t->root)));
    return mz_arena_printf(
        a,
        "transport_socket:\n"
        "  name: envoy.transport_sockets.tls\n"
        "  typed_config:\n"
        "    \"@type\": "
        "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext\n"
        "    sni: " MZ_STR_FMT "\n"
        "    common_tls_context:\n"
        "      alpn_protocols: [h2]\n"
        "      tls_params: { tls_minimum_protocol_version: TLSv1_2, tls_maximum_protocol_version: "
        "TLSv1_3 }\n" MZ_STR_FMT "      validation_context:\n"
        "        " MZ_STR_FMT "\n"
        "        match_typed_subject_alt_names: [{ san_type: DNS, matcher: { exact: " MZ_STR_FMT
        " } }]\n",
        MZ_STR_ARG(name), MZ_STR_ARG(own), MZ_STR_ARG(trust), MZ_STR_ARG(name));
}

static struct mz_str source_text(const struct mz_link_target *t, struct mz_arena *a)
{
    if (!t->source)
        return (struct mz_str){ 0 };
    return mz_arena_printf(
        a, "upstream_bind_config: { source_address: { address: " MZ_STR_FMT ", port_value: 0 } }\n",
        MZ_STR_ARG(json(a, mz_str_c(t->source))));
}

static bool split(const char *address, struct mz_str *out_host, uint64_t *out_port,
                  struct mz_err *err)
{
    const struct mz_str s = mz_str_c(address);
    const ptrdiff_t colon = mz_str_rchr(s, ':');
    if (colon <= 0 || !mz_str_u64(mz_str_skip(s, (size_t)colon + 1), out_port) ||
        *out_port > 65535 || !*out_port)
        return mz_err_set(err, "\"%.120s\" is no host:port", address);
    *out_host = (struct mz_str){ s.p, (size_t)colon };
    if (out_host->n > 2 && out_host->p[0] == '[')
        *out_host = (struct mz_str){ out_host->p + 1, out_host->n - 2 };
    return true;
}

static struct mz_str cluster_text(const char *name, const struct mz_link_target *t,
                                  struct mz_arena *a, struct mz_err *err)
{
    struct mz_str host;
    struct mz_addr ip;
    uint64_t port;
    if (!split(t->address, &host, &port, err))
        return (struct mz_str){ 0 };
    return mz_arena_printf(
        a,
        "name: %s\n"
        "type: %s\n"
        "connect_timeout: 5s\n"
        "dns_lookup_family: ALL\n"
        "typed_extension_protocol_options:\n"
        "  envoy.extensions.upstreams.http.v3.HttpProtocolOptions:\n"
        "    \"@type\": "
        "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions\n"
        "    explicit_http_config: { %s }\n"
        "%s"
        "load_assignment:\n"
        "  cluster_name: %s\n"
        "  endpoints: [{ lb_endpoints: [{ endpoint: { address: { socket_address: { "
        "address: " MZ_STR_FMT ", port_value: %llu } } } }] }]\n" MZ_STR_FMT MZ_STR_FMT,
        name, mz_addr_parse_ip(host, (uint16_t)port, &ip) ? "STATIC" : "STRICT_DNS",
        t->http1 ? "http_protocol_options: {}"
        : t->once
            ? "http2_protocol_options: {}"
            : "http2_protocol_options: { connection_keepalive: { interval: 30s, timeout: 10s } }",
        t->once ? "    common_http_protocol_options: { max_requests_per_connection: 1 }\n" : "",
        name, MZ_STR_ARG(json(a, host)), (unsigned long long)port, MZ_STR_ARG(tls_text(t, a)),
        MZ_STR_ARG(source_text(t, a)));
}

static bool service_add(struct mz_link *k, const char *name, struct mz_proto_ctx *ctx,
                        struct mz_err *err)
{
    ProtobufCMessage *m;
    const struct mz_str text =
        mz_arena_printf(ctx->arena, "envoy_grpc: { cluster_name: %s }\n", name);
    if (k->n == SERVICES_MAX || strlen(name) >= sizeof(k->services[0].name))
        return mz_err_set(err, "no room for the service %s", name);
    if (!mz_msg_from_text(ctx, text, MZ_TEXT_YAML, &pb_GrpcService__descriptor, &m, err))
        return false;
    struct service *s = &k->services[k->n];
    s->grpc = mz_grpc_service_create((const pb_GrpcService *)m, err);
    if (!s->grpc)
        return false;
    memcpy(s->name, name, strlen(name) + 1);
    k->n++;
    return true;
}

bool mz_link_set(struct mz_link *k, const char *name, const struct mz_link_target *t,
                 struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .unknown = MZ_UNKNOWN_REJECT,
                                .arena = mz_arena_create(MZ_MEM_CONFIG) };
    char version[16];
    ProtobufCMessage *m;
    const struct mz_str text = cluster_text(name, t, ctx.arena, err);
    (void)snprintf(version, sizeof(version), "%u", ++k->version);
    bool ok =
        text.n && mz_msg_from_text(&ctx, text, MZ_TEXT_YAML, &pb_Cluster__descriptor, &m, err) &&
        mz_cluster_manager_set(k->clusters, (const pb_Cluster *)m, mz_msg_pack_alloc(m, ctx.arena),
                               mz_str_c(version), err) != MZ_CLUSTER_REFUSED &&
        (t->http1 || mz_link_service(k, name) || service_add(k, name, &ctx, err));
    mz_arena_destroy(ctx.arena);
    return ok;
}
