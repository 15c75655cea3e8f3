#include "filters/http/fault.h"

#include "proto/mapper.h"

/* Configuration of fault (H9), of the filter and of routes. */

struct fault_cluster {
    struct fault_cluster *next;
    struct mz_scope *scope;
};
#define CLUSTER_NAME_MAX 128

static const struct mz_stat_def stat_defs[] = {
    [FAULT_ABORTS_INJECTED] = { "aborts_injected", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAULT_DELAYS_INJECTED] = { "delays_injected", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAULT_FAULTS_OVERFLOW] = { "faults_overflow", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAULT_RESPONSE_RL_INJECTED] = { "response_rl_injected", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAULT_ACTIVE_FAULTS] = { "active_faults", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stats = { "fault", stat_defs, MZ_COUNT(stat_defs) };
static const struct mz_stat_def cluster_defs[] = {
    [FAULT_ABORTS_INJECTED] = { "aborts_injected", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [FAULT_DELAYS_INJECTED] = { "delays_injected", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind cluster_stats = { "fault cluster", cluster_defs,
                                                   MZ_COUNT(cluster_defs) };

void fault_config_destroy(void *cfg)
{
    struct fault_cfg *c = cfg;
    if (!c)
        return;
    for (size_t i = 0; i < c->n_headers; i++)
        mz_header_match_destroy(c->headers[i]);
    for (unsigned i = 0; i < c->n_slots; i++)
        for (struct fault_cluster *e = c->clusters[i], *next; e; e = next) {
            next = e->next;
            mz_scope_unref(e->scope);
            mz_free(MZ_MEM_CONFIG, e);
        }
    mz_free(MZ_MEM_CONFIG, c->clusters);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
    mz_free(MZ_MEM_CONFIG, c);
}

static struct mz_str keep(struct fault_cfg *c, const char *text)
{
    return mz_arena_dup(c->arena, mz_str_c(text));
}

static struct mz_str key_or(struct fault_cfg *c, const char *text, struct mz_str otherwise)
{
    return text[0] ? keep(c, text) : otherwise;
}

static void share_fill(const pb_FractionalPercent *p, struct mz_str key, struct mz_fraction *out)
{
    static const uint32_t denominators[] = { 100, 10000, 1000000 };
    *out = (struct mz_fraction){ .key = key, .denominator = 100 };
    if (!p)
        return;
    out->numerator = p->numerator;
    out->denominator = denominators[p->denominator];
}

static bool delay_fill(const pb_HTTPFault *m, struct fault_cfg *c, struct mz_err *err)
{
    const pb_FaultDelay *d = m->delay;
    if (!d)
        return true;
    bool fixed = d->fault_delay_secifier_case != pb_FaultDelay_FAULT_DELAY_SECIFIER_HEADER_DELAY;
    c->delay.source = fixed ? FAULT_FIXED : FAULT_BY_HEADER;
    c->delay.value_key =
        key_or(c, m->delay_duration_runtime, MZ_STR("fault.http.delay.fixed_duration_ms"));
    share_fill(d->percentage,
               key_or(c, m->delay_percent_runtime, MZ_STR("fault.http.delay.fixed_delay_percent")),
               &c->delay.share);
    if (fixed && !mz_duration_ms(d->fixed_delay, 0, &c->delay.value, err))
        return mz_err_at(err, "delay.fixed_delay");
    return true;
}

static void abort_fill(const pb_HTTPFault *m, struct fault_cfg *c)
{
    const pb_FaultAbort *a = m->abort;
    if (!a)
        return;
    c->abort.source =
        a->error_type_case == pb_FaultAbort_ERROR_TYPE_HEADER_ABORT ? FAULT_BY_HEADER : FAULT_FIXED;
    c->abort_is_grpc = a->error_type_case == pb_FaultAbort_ERROR_TYPE_GRPC_STATUS;
    c->abort.value = c->abort_is_grpc ? a->grpc_status : a->http_status;
    c->abort.value_key =
        key_or(c, m->abort_http_status_runtime, MZ_STR("fault.http.abort.http_status"));
    c->abort_grpc_key =
        key_or(c, m->abort_grpc_status_runtime, MZ_STR("fault.http.abort.grpc_status"));
    share_fill(a->percentage,
               key_or(c, m->abort_percent_runtime, MZ_STR("fault.http.abort.abort_percent")),
               &c->abort.share);
}

static void rate_fill(const pb_HTTPFault *m, struct fault_cfg *c)
{
    const pb_FaultRateLimit *r = m->response_rate_limit;
    if (!r)
        return;
    bool fixed = r->limit_type_case != pb_FaultRateLimit_LIMIT_TYPE_HEADER_LIMIT;
    c->rate.source = fixed ? FAULT_FIXED : FAULT_BY_HEADER;
    c->rate.value = fixed ? r->fixed_limit->limit_kbps : 0;
    share_fill(r->percentage,
               key_or(c, m->response_rate_limit_percent_runtime,
                      MZ_STR("fault.http.rate_limit.response_percent")),
               &c->rate.share);
}

static bool fill(const pb_HTTPFault *m, struct fault_cfg *c, struct mz_err *err)
{
    if (!delay_fill(m, c, err))
        return false;
    abort_fill(m, c);
    rate_fill(m, c);
    c->upstream_cluster = keep(c, m->upstream_cluster);
    c->max_active = m->max_active_faults ? m->max_active_faults->value : UINT64_MAX;
    c->max_active_key =
        key_or(c, m->max_active_faults_runtime, MZ_STR("fault.http.max_active_faults"));
    c->no_cluster_stats = m->disable_downstream_cluster_stats;
    c->nodes = mz_arena_alloc0(c->arena, m->n_downstream_nodes * sizeof(*c->nodes));
    while (c->n_nodes < m->n_downstream_nodes) {
        c->nodes[c->n_nodes] = keep(c, m->downstream_nodes[c->n_nodes]);
        c->n_nodes++;
    }
    c->headers = mz_arena_alloc0(c->arena, m->n_headers * sizeof(struct mz_header_match *));
    while (c->n_headers < m->n_headers) {
        c->headers[c->n_headers] = mz_header_match_build(m->headers[c->n_headers], err);
        if (!c->headers[c->n_headers])
            return mz_err_at(err, "headers[%zu]", c->n_headers);
        c->n_headers++;
    }
    return true;
}

void *fault_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f;
    struct fault_cfg *c = mz_new0(MZ_MEM_CONFIG, struct fault_cfg);
    c->arena = mz_arena_create(MZ_MEM_CONFIG);
    if (fill(msg, c, err))
        return c;
    fault_config_destroy(c);
    return NULL;
}

void *fault_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    struct fault_cfg *c = fault_route_config_build(msg, f, err);
    if (!c)
        return NULL;
    c->prefix = mz_arena_cat(
        c->arena, 3, (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".fault.") });
    c->stats = f->stats;
    c->scope = mz_scope_create(f->stats, &stats, c->prefix);
    c->n_slots = f->workers + 1;
    c->clusters = mz_newn0(MZ_MEM_CONFIG, struct fault_cluster *, c->n_slots);
    return c;
}

void fault_count_cluster(const struct fault_cfg *filter, struct mz_str cluster,
                         enum fault_stat stat)
{
    if (!cluster.n || cluster.n > CLUSTER_NAME_MAX || mz_stats_slot >= filter->n_slots)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_str prefix =
        mz_arena_cat(a, 3, (struct mz_str[]){ filter->prefix, cluster, MZ_STR(".") });
    struct fault_cluster **at = &filter->clusters[mz_stats_slot];
    unsigned n = 0;
    while (*at && !mz_str_eq((*at)->scope->prefix, prefix)) {
        at = &(*at)->next;
        n++;
    }
    if (!*at && n < FAULT_CLUSTERS_MAX) {
        *at = mz_new0(MZ_MEM_CONFIG, struct fault_cluster);
        (*at)->scope = mz_scope_create(filter->stats, &cluster_stats, prefix);
    }
    if (*at)
        mz_count((*at)->scope, stat, 1);
    mz_arena_destroy(a);
}
