#include "router/router_priv.h"

#include "http/grpc.h"
#include "observe/stream_info.h"

/*
 * Response codes and times of a cluster: plain, canary, internal or external, each also under the name that the caller asked
 * for; virtual cluster, route (Envoy's CodeStats).
 */

/* Response flag and, for Envoy, the status of each way an attempt can end. */
static const struct reset_outcome outcomes[] = {
    [MZ_RESET_LOCAL] = { MZ_FLAG(LOCAL_RESET), 503 },
    [MZ_RESET_LOCAL_REFUSED] = { MZ_FLAG(LOCAL_RESET), 503 },
    [MZ_RESET_REMOTE] = { MZ_FLAG(UPSTREAM_REMOTE_RESET), 503 },
    [MZ_RESET_REMOTE_REFUSED] = { MZ_FLAG(UPSTREAM_REMOTE_RESET), 503 },
    [MZ_RESET_LOCAL_CONNECT_FAIL] = { MZ_FLAG(UPSTREAM_CONNECTION_FAILURE), 503 },
    [MZ_RESET_REMOTE_CONNECT_FAIL] = { MZ_FLAG(UPSTREAM_CONNECTION_FAILURE), 503 },
    [MZ_RESET_CONNECT_TIMEOUT] = { MZ_FLAG(UPSTREAM_CONNECTION_FAILURE), 503 },
    [MZ_RESET_CONN_TERMINATED] = { MZ_FLAG(UPSTREAM_CONNECTION_TERMINATION), 503 },
    [MZ_RESET_OVERFLOW] = { MZ_FLAG(UPSTREAM_OVERFLOW), 503 },
    [MZ_RESET_CONNECT_ERROR] = { MZ_FLAG(UPSTREAM_REMOTE_RESET), 503 },
    [MZ_RESET_PROTOCOL_ERROR] = { MZ_FLAG(UPSTREAM_PROTOCOL_ERROR), 502 },
    [MZ_RESET_OVERLOAD_MANAGER] = { MZ_FLAG(OVERLOAD_MANAGER), 503 },
};

const struct reset_outcome *reset_outcome(enum mz_reset_reason why)
{
    return &outcomes[why];
}

enum { ALL, CANARY, INTERNAL, EXTERNAL, SORTS };
struct code_stats { /* indices in a kind */
    uint16_t completed[SORTS], time[SORTS];
};
static const struct code_stats of_cluster = {
    { MZ_CS_RQ_COMPLETED, MZ_CS_CANARY_RQ_COMPLETED, MZ_CS_INTERNAL_RQ_COMPLETED,
      MZ_CS_EXTERNAL_RQ_COMPLETED },
    { MZ_CS_RQ_TIME, MZ_CS_CANARY_RQ_TIME, MZ_CS_INTERNAL_RQ_TIME, MZ_CS_EXTERNAL_RQ_TIME },
};
static const struct code_stats of_alt = {
    { MZ_CA_RQ_COMPLETED, MZ_CA_CANARY_RQ_COMPLETED, MZ_CA_INTERNAL_RQ_COMPLETED,
      MZ_CA_EXTERNAL_RQ_COMPLETED },
    { MZ_CA_RQ_TIME, MZ_CA_CANARY_RQ_TIME, MZ_CA_INTERNAL_RQ_TIME, MZ_CA_EXTERNAL_RQ_TIME },
};
static const char *const families[SORTS] = { "upstream_rq_", "canary.upstream_rq_",
                                             "internal.upstream_rq_", "external.upstream_rq_" };

static bool is_canary(const struct mz_host *host, const struct mz_headers *response)
{
    if (host && host->canary)
        return true;
    return response &&
           mz_str_eq(mz_headers_value_id(response, MZ_H_X_ENVOY_UPSTREAM_CANARY), MZ_STR("true"));
}

/* Which sorts a response is of: a bit each. */
unsigned charge_sorts_of(const struct mz_headers *request, const struct mz_host *host,
                         const struct mz_headers *response)
{
    bool internal = mz_headers_get_id(request, MZ_H_X_ENVOY_INTERNAL) != NULL;
    return 1u << ALL | (is_canary(host, response) ? 1u << CANARY : 0) |
           (internal ? 1u << INTERNAL : 1u << EXTERNAL);
}

static void charge_scope(struct mz_scope *s, unsigned status)
{
    if (!s)
        return;
    mz_count(s, MZ_VC_RQ_COMPLETED, 1);
    mz_count_code(s, families[ALL], status);
}

static void charge_sorts(struct mz_scope *s, const struct code_stats *at, unsigned sorts,
                         unsigned status, bool codes)
{
    for (unsigned i = 0; i < SORTS; i++) {
        if (!(sorts & 1u << i))
            continue;
        mz_count(s, at->completed[i], 1);
        if (codes || i != ALL) /* what leaves codes out leaves out the plain ones (Envoy) */
            mz_count_code(s, families[i], status);
    }
}

void charge_cluster_code(struct mz_cluster *c, unsigned sorts, unsigned status)
{
    charge_sorts(c->scope, &of_cluster, sorts, status, true);
}

static void charge_cluster(struct router *r, unsigned status, unsigned sorts)
{
    bool codes = !r->grpc || !r->cfg->suppress_grpc_failure_codes;
    charge_sorts(r->cluster->scope, &of_cluster, sorts, status, codes);
    if (r->alt)
        charge_sorts(r->alt, &of_alt, sorts, status, codes);
    charge_scope(r->vcluster, status);
    charge_scope(r->route->scope, status);
}

void charge_code(struct router *r, unsigned status, const struct mz_host *host,
                 const struct mz_headers *response)
{
    if (info_of(r)->health_check)
        return;
    if (r->cfg->dynamic_stats)
        charge_cluster(r, status, charge_sorts_of(r->headers, host, response));
    if (host && status >= 500)
        charge_host((struct mz_host *)(uintptr_t)host, false);
}

void charge_host(struct mz_host *h, bool success)
{
    __atomic_add_fetch(success ? &h->stats.rq_success : &h->stats.rq_error, 1, __ATOMIC_RELAXED);
}

/* Of gRPC only grpc-status knows; it may come in the trailers. */
void charge_success(struct attempt *a, const struct mz_headers *h, bool end)
{
    const struct router *r = a->r;
    int status;
    if (!r->grpc)
        charge_host(a->host, true);
    else if (end)
        charge_host(a->host, mz_grpc_status(h, &status) && mz_http_status_of_grpc(status) < 500);
    a->grpc_outcome_open = r->grpc && !end;
}

void charge_broken(const struct attempt *a, struct mz_host *host)
{
    if (!a->grpc_outcome_open)
        return;
    charge_host(host, false);
    mz_count(a->r->cfg->scope, MZ_RS_RESET_AFTER_RESPONSE, 1);
}

static void record_sorts(struct mz_scope *s, const struct code_stats *at, unsigned sorts,
                         uint64_t ms)
{
    for (unsigned i = 0; i < SORTS; i++)
        if (sorts & 1u << i)
            mz_hist_record(s, at->time[i], ms);
}

void charge_cluster_time(struct mz_cluster *c, unsigned sorts, uint64_t ms)
{
    record_sorts(c->scope, &of_cluster, sorts, ms);
}

void charge_time(struct router *r, const struct mz_host *host, const struct mz_headers *response)
{
    if (!r->request_end_us || info_of(r)->health_check || !r->cfg->dynamic_stats)
        return;
    uint64_t ms = (now_of(r) - r->request_end_us) / 1000;
    unsigned sorts = charge_sorts_of(r->headers, host, response);
    record_sorts(r->cluster->scope, &of_cluster, sorts, ms);
    if (r->alt)
        record_sorts(r->alt, &of_alt, sorts, ms);
    if (r->vcluster)
        mz_hist_record(r->vcluster, MZ_VC_RQ_TIME, ms);
    if (r->route->scope)
        mz_hist_record(r->route->scope, MZ_VC_RQ_TIME, ms);
}
