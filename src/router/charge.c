#include "router/router_priv.h"

/* Response codes and times of a cluster: plain, canary, internal or external, virtual cluster, route (Envoy's CodeStats). */

static bool is_canary(const struct mz_host *host, const struct mz_headers *response)
{
    if (host && host->canary)
        return true;
    return response &&
           mz_str_eq(mz_headers_value_id(response, MZ_H_X_ENVOY_UPSTREAM_CANARY), MZ_STR("true"));
}

static bool is_internal(const struct router *r)
{
    return mz_headers_get_id(r->headers, MZ_H_X_ENVOY_INTERNAL) != NULL;
}

static void charge_scope(struct mz_scope *s, unsigned status)
{
    if (!s)
        return;
    mz_count(s, MZ_VC_RQ_COMPLETED, 1);
    mz_count_code(s, "upstream_rq_", status);
}

void charge_code(struct router *r, unsigned status, const struct mz_host *host,
                 const struct mz_headers *response)
{
    struct mz_scope *s = r->cluster->scope;
    struct mz_stream_info *info = info_of(r);
    if (info->health_check)
        return;
    mz_count(s, MZ_CS_RQ_COMPLETED, 1);
    mz_count_code(s, "upstream_rq_", status);
    if (is_canary(host, response)) {
        mz_count(s, MZ_CS_CANARY_RQ_COMPLETED, 1);
        mz_count_code(s, "canary.upstream_rq_", status);
    }
    if (is_internal(r)) {
        mz_count(s, MZ_CS_INTERNAL_RQ_COMPLETED, 1);
        mz_count_code(s, "internal.upstream_rq_", status);
    } else {
        mz_count(s, MZ_CS_EXTERNAL_RQ_COMPLETED, 1);
        mz_count_code(s, "external.upstream_rq_", status);
    }
    charge_scope(r->vcluster, status);
    charge_scope(r->route->scope, status);
    if (host) {
        struct mz_host_stats *st = (struct mz_host_stats *)(uintptr_t)&host->stats;
        __atomic_add_fetch(status >= 500 ? &st->rq_error : &st->rq_success, 1, __ATOMIC_RELAXED);
    }
}

void charge_time(struct router *r, const struct mz_host *host, const struct mz_headers *response)
{
    struct mz_scope *s = r->cluster->scope;
    if (!r->request_end_us || info_of(r)->health_check)
        return;
    uint64_t ms = (now_of(r) - r->request_end_us) / 1000;
    mz_hist_record(s, MZ_CS_RQ_TIME, ms);
    if (is_canary(host, response))
        mz_hist_record(s, MZ_CS_CANARY_RQ_TIME, ms);
    mz_hist_record(s, is_internal(r) ? MZ_CS_INTERNAL_RQ_TIME : MZ_CS_EXTERNAL_RQ_TIME, ms);
    if (r->vcluster)
        mz_hist_record(r->vcluster, MZ_VC_RQ_TIME, ms);
    if (r->route->scope)
        mz_hist_record(r->route->scope, MZ_VC_RQ_TIME, ms);
}
