/* TcpProxy message to configuration (L6). Main thread. */
#include "filters/network/tcp_proxy.h"
#include "proto/mapper.h"

#define IDLE_DEFAULT_MS   3600000
#define DEMAND_TIMEOUT_MS 60000

static const struct mz_stat_def defs[] = {
#define X(id, name, type, unit)                                                                    \
    { name, MZ_##type, MZ_UNIT_##unit,                                                             \
      TCP_STAT_##id == TCP_STAT_CX_HALF_CLOSED ? MZ_STAT_LAZY : 0 },
    TCP_STATS(X)
#undef X
};
const struct mz_stat_kind tcp_stats = { "tcp", defs, TCP_STAT__COUNT };

void tcp_config_destroy(void *cfg)
{
    struct tcp_cfg *c = cfg;
    if (!c)
        return;
    for (size_t i = 0; i < c->n_logs; i++)
        mz_access_log_destroy(c->logs[i]);
    for (size_t i = 0; i < c->n_tlvs; i++)
        mz_log_format_destroy(c->tlvs[i].format);
    if (c->tunnel) {
        mz_log_format_destroy(c->tunnel->host);
        mz_header_mutations_fini(&c->tunnel->headers);
        mz_scope_unref(c->tunnel->scope);
    }
    if (c->demand && c->demand->scope)
        mz_scope_unref(c->demand->scope);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

/* ---- clusters ---- */

static void add_cluster(struct tcp_cfg *c, const char *name, uint64_t weight,
                        const struct mz_meta *match)
{
    uint64_t before = c->n_clusters ? c->clusters[c->n_clusters - 1].weight_end : 0;
    c->clusters[c->n_clusters++] =
        (struct tcp_cluster){ mz_arena_dup(c->arena, mz_str_c(name)), before + weight, match };
}

static void clusters_build(const pb_TcpProxy *m, struct tcp_cfg *c)
{
    const pb_TcpProxy_WeightedCluster *w =
        m->cluster_specifier_case == pb_TcpProxy_CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS
            ? m->weighted_clusters
            : NULL;
    c->weighted = w;
    c->clusters = mz_arena_alloc0(c->arena, (w ? w->n_clusters : 1) * sizeof(*c->clusters));
    if (!w)
        add_cluster(c, m->cluster, 1, mz_meta_build(m->metadata_match, c->arena));
    for (size_t i = 0; w && i < w->n_clusters; i++) {
        const pb_TcpProxy_WeightedCluster_ClusterWeight *e = w->clusters[i];
        add_cluster(c, e->name, e->weight,
                    mz_meta_merged(mz_meta_build(m->metadata_match, c->arena),
                                   mz_meta_build(e->metadata_match, c->arena), MZ_STR("envoy.lb"),
                                   c->arena));
    }
}

const struct tcp_cluster *tcp_config_choose(const struct tcp_cfg *c, uint64_t random)
{
    uint64_t point = random % c->clusters[c->n_clusters - 1].weight_end;
    const struct tcp_cluster *e = c->clusters;
    while (point >= e->weight_end)
        e++;
    return e;
}

/* ---- times and logs ---- */

static bool backoff_build(const pb_BackoffStrategy *m, struct tcp_cfg *c, struct mz_err *err)
{
    if (!m)
        return true;
    if (!mz_duration_ms(m->base_interval, 0, &c->backoff_base_ms, err))
        return mz_err_at(err, "base_interval");
    if (!mz_duration_ms(m->max_interval, c->backoff_base_ms * 10, &c->backoff_max_ms, err))
        return mz_err_at(err, "max_interval");
    return c->backoff_max_ms >= c->backoff_base_ms ||
           mz_err_set(err,
                      "max_backoff_interval must be greater or equal to base_backoff_interval");
}

static bool times_build(const pb_TcpProxy *m, struct tcp_cfg *c, struct mz_err *err)
{
    if (!mz_duration_ms(m->idle_timeout, IDLE_DEFAULT_MS, &c->idle_ms, err))
        return mz_err_at(err, "idle_timeout");
    if (!mz_duration_ms(m->max_downstream_connection_duration, 0, &c->max_duration_ms, err))
        return mz_err_at(err, "max_downstream_connection_duration");
    const pb_Percent *jitter = m->max_downstream_connection_duration_jitter_percentage;
    c->duration_jitter_ms =
        jitter ? (uint64_t)((double)c->max_duration_ms * jitter->value / 100) : 0;
    return backoff_build(m->backoff_options, c, err) || mz_err_at(err, "backoff_options");
}

static bool logs_build(const pb_TcpProxy *m, const struct mz_factory *f, struct tcp_cfg *c,
                       struct mz_err *err)
{
    const pb_Duration *interval = m->access_log_flush_interval;
    const pb_TcpProxy_TcpAccessLogOptions *o = m->access_log_options;
    c->log_on_connected = m->flush_access_log_on_connected;
    if (o && (interval || m->flush_access_log_on_connected))
        return mz_err_set(err, "Only one of %s or access_log_options can be specified.",
                          interval ? "access_log_flush_interval" : "flush_access_log_on_connected");
    if (o) {
        interval = o->access_log_flush_interval;
        c->log_on_connected = o->flush_access_log_on_connected;
    }
    if (!mz_duration_ms(interval, 0, &c->log_interval_ms, err))
        return mz_err_at(err, o ? "access_log_options.access_log_flush_interval"
                                : "access_log_flush_interval");
    c->logs = mz_arena_alloc0(c->arena, m->n_access_log * sizeof(*c->logs));
    for (size_t i = 0; i < m->n_access_log; i++) {
        c->logs[i] = mz_access_log_create(m->access_log[i], f->log_files, err);
        if (!c->logs[i])
            return mz_err_at(err, "access_log[%zu]", i);
        c->n_logs++;
    }
    return true;
}

static bool tlv_build(const pb_TlvEntry *m, struct tcp_cfg *c, struct mz_err *err)
{
    struct tcp_tlv *t = &c->tlvs[c->n_tlvs++];
    *t = (struct tcp_tlv){ .type = (uint8_t)m->type };
    if ((m->value.len != 0) == (m->format_string != NULL))
        return mz_err_set(err, "one of value, format_string is required");
    if (m->value.len > 65535)
        return mz_err_set(err, "must be at most 65535 bytes long") || mz_err_at(err, "value");
    t->value = mz_arena_dup(c->arena, (struct mz_str){ (const char *)m->value.data, m->value.len });
    if (m->format_string)
        t->format = mz_log_format_create(m->format_string, err);
    return !m->format_string || t->format || mz_err_at(err, "format_string");
}

static bool tlvs_build(const pb_TcpProxy *m, struct tcp_cfg *c, struct mz_err *err)
{
    c->tlvs = mz_arena_alloc0(c->arena, m->n_proxy_protocol_tlvs * sizeof(*c->tlvs));
    for (size_t i = 0; i < m->n_proxy_protocol_tlvs; i++)
        if (!tlv_build(m->proxy_protocol_tlvs[i], c, err))
            return mz_err_at(err, "proxy_protocol_tlvs[%zu]", i);
    return true;
}

static bool tunnel_build(const pb_TcpProxy_TunnelingConfig *m, struct tcp_cfg *c,
                         struct mz_err *err)
{
    if (!m)
        return true;
    struct tcp_tunnel_cfg *t = c->tunnel = mz_arena_new0(c->arena, struct tcp_tunnel_cfg);
    t->scope = mz_scope_create(/* Envoy's tunnels pass through its router; these stay 0 */
                               c->scope->store, &mz_router_stats,
                               mz_arena_cat(c->arena, 2,
                                            (struct mz_str[]){ c->scope->prefix,
                                                               MZ_STR("tcpproxy_tunneling.") }));
    struct mz_str path = mz_str_c(m->post_path);
    t->post = m->use_post;
    t->keep_headers = m->propagate_response_headers;
    t->keep_trailers = m->propagate_response_trailers;
    t->path = path.n ? mz_arena_dup(c->arena, path) : MZ_STR("/");
    if (path.n && !t->post)
        return mz_err_set(err, "Can't set a post path when POST method isn't used") ||
               mz_err_at(err, "post_path");
    t->host = mz_log_format_create_text(mz_str_c(m->hostname), err);
    if (!t->host)
        return mz_err_at(err, "hostname");
    return mz_header_mutations_build(m->headers_to_add, m->n_headers_to_add, NULL, 0, false,
                                     &t->headers, err) ||
           mz_err_at(err, "headers_to_add");
}

static const struct mz_stat_def demand_defs[] = {
    [TCP_DEMAND_ATTEMPT] = { "on_demand_cluster_attempt", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [TCP_DEMAND_MISSING] = { "on_demand_cluster_missing", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [TCP_DEMAND_SUCCESS] = { "on_demand_cluster_success", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [TCP_DEMAND_TIMEOUT] = { "on_demand_cluster_timeout", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind demand_stats = { "tcp_on_demand", demand_defs, TCP_DEMAND__COUNT };

static bool demand_build(const pb_TcpProxy_OnDemand *m, const struct mz_factory *f,
                         struct mz_str prefix, struct tcp_cfg *c, struct mz_err *err)
{
    if (!m)
        return true;
    struct tcp_demand_cfg *d = mz_arena_new0(c->arena, struct tcp_demand_cfg);
    c->demand = d;
    if (!mz_duration_ms(m->timeout, DEMAND_TIMEOUT_MS, &d->timeout_ms, err))
        return mz_err_at(err, "timeout");
    if (!m->odcds_config)
        return mz_err_set(err, "is required") || mz_err_at(err, "odcds_config");
    d->source = mz_odcds_get(f->clusters, m->odcds_config, err);
    if (!d->source)
        return mz_err_at(err, "odcds_config");
    d->scope = mz_scope_create(f->stats, &demand_stats, prefix);
    return true;
}

void *tcp_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_TcpProxy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct tcp_cfg *c = mz_arena_new0(a, struct tcp_cfg);
    c->arena = a;
    c->recorder = f->recorder;
    c->max_attempts = mz_u32_or(m->max_connect_attempts, 1);
    c->hash_source_ip = m->n_hash_policy > 0 && m->hash_policy[0]->policy_specifier_case ==
                                                    pb_HashPolicy_POLICY_SPECIFIER_SOURCE_IP;
    struct mz_str prefix = mz_arena_cat(
        a, 3, (struct mz_str[]){ MZ_STR("tcp."), mz_str_c(m->stat_prefix), MZ_STR(".") });
    c->scope = mz_scope_create(f->stats, &tcp_stats, prefix);
    clusters_build(m, c);
    if ((demand_build(m->on_demand, f, prefix, c, err) || mz_err_at(err, "on_demand")) &&
        times_build(m, c, err) && logs_build(m, f, c, err) && tlvs_build(m, c, err) &&
        (tunnel_build(m->tunneling_config, c, err) || mz_err_at(err, "tunneling_config")))
        return c;
    tcp_config_destroy(c);
    return NULL;
}
