#include "filters/http/fault.h"

/* What a request gets, by its headers and the runtime (H9). The headers are the client's: only the first of a name counts, and
 * a value that is not a number is as if it were absent. */

/* Longest delay; timers of Envoy end there, too. */
#define DELAY_MAX_MS 2147483647u
/* A rate beyond this is none; keeps the sums of the bucket from overflowing. */
#define RATE_MAX_KIB ((uint64_t)1 << 32)

static bool header_number(const struct fault_query *q, struct mz_str name, uint64_t *out)
{
    const struct mz_header *h = mz_headers_get(q->h, name);
    return h && mz_str_u64(h->value, out);
}

/* "fault.http.<downstream cluster>.<what>"; "" without a cluster. */
static struct mz_str own_key(const struct fault_query *q, struct mz_str what)
{
    if (!q->downstream.n)
        return MZ_STR("");
    return mz_arena_cat(
        q->arena, 4, (struct mz_str[]){ MZ_STR("fault.http."), q->downstream, MZ_STR("."), what });
}

/* A key of the downstream cluster replaces the common one, as in Envoy: where it is not set, the configuration holds. */
static uint64_t number(const struct fault_query *q, struct mz_str key, struct mz_str own,
                       uint64_t configured)
{
    return mz_runtime_u64(q->runtime, own.n ? own : key, configured);
}

/* @percentage: header that may lower the share; "" none. */
static bool chosen(const struct fault_query *q, const struct fault_kind *k, struct mz_str own,
                   struct mz_str percentage)
{
    struct mz_fraction share = k->share;
    uint64_t n;
    if (own.n)
        share.key = own;
    if (k->source == FAULT_BY_HEADER && header_number(q, percentage, &n) && n < share.numerator)
        share.numerator = (uint32_t)n;
    return mz_runtime_fraction(q->runtime, &share, mz_rand_u64(q->rand));
}

bool fault_matches(const struct fault_query *q)
{
    const struct fault_cfg *c = q->cfg;
    if (c->n_nodes) {
        struct mz_str node = mz_headers_value_id(q->h, MZ_H_X_ENVOY_DOWNSTREAM_SERVICE_NODE);
        size_t i = 0;
        while (i < c->n_nodes && !mz_str_eq(c->nodes[i], node))
            i++;
        if (i == c->n_nodes)
            return false;
    }
    for (size_t i = 0; i < c->n_headers; i++)
        if (!mz_header_match(c->headers[i], q->h))
            return false;
    return true;
}

bool fault_delay(const struct fault_query *q, uint64_t *out_ms)
{
    const struct fault_kind *k = &q->cfg->delay;
    uint64_t ms = k->value;
    if (k->source == FAULT_OFF || !chosen(q, k, own_key(q, MZ_STR("delay.fixed_delay_percent")),
                                          MZ_STR("x-envoy-fault-delay-request-percentage")))
        return false;
    if (k->source == FAULT_BY_HEADER &&
        !header_number(q, MZ_STR("x-envoy-fault-delay-request"), &ms))
        return false;
    ms = mz_runtime_u64(q->runtime, k->value_key, ms);
    struct mz_str own = own_key(q, MZ_STR("delay.fixed_duration_ms"));
    if (own.n)
        ms = mz_runtime_u64(q->runtime, own, ms);
    *out_ms = ms < DELAY_MAX_MS ? ms : DELAY_MAX_MS;
    return ms > 0;
}

static bool status_by_header(const struct fault_query *q, bool *out_grpc, uint64_t *out)
{
    *out_grpc = false;
    if (header_number(q, MZ_STR("x-envoy-fault-abort-request"), out) && *out >= 200 && *out < 600)
        return true;
    *out_grpc = true;
    return header_number(q, MZ_STR("x-envoy-fault-abort-grpc-request"), out) && *out <= UINT32_MAX;
}

bool fault_abort(const struct fault_query *q, struct fault_abort *out)
{
    const struct fault_kind *k = &q->cfg->abort;
    uint64_t status = k->value;
    bool grpc = q->cfg->abort_is_grpc;
    if (k->source == FAULT_OFF || !chosen(q, k, own_key(q, MZ_STR("abort.abort_percent")),
                                          MZ_STR("x-envoy-fault-abort-request-percentage")))
        return false;
    if (k->source == FAULT_BY_HEADER && !status_by_header(q, &grpc, &status))
        return false;
    if (grpc) {
        status = number(q, q->cfg->abort_grpc_key, own_key(q, MZ_STR("abort.grpc_status")), status);
        *out = (struct fault_abort){ .status = 200, .grpc = true, .grpc_status = (unsigned)status };
        return true;
    }
    uint64_t wanted = number(q, k->value_key, own_key(q, MZ_STR("abort.http_status")), status);
    *out = (struct fault_abort){ .status =
                                     (unsigned)(wanted >= 200 && wanted < 600 ? wanted : status) };
    return true;
}

bool fault_rate(const struct fault_query *q, uint64_t *out_kib_per_s)
{
    const struct fault_kind *k = &q->cfg->rate;
    uint64_t rate = k->value;
    if (k->source == FAULT_OFF ||
        !chosen(q, k, MZ_STR(""), MZ_STR("x-envoy-fault-throughput-response-percentage")))
        return false;
    if (k->source == FAULT_BY_HEADER &&
        !header_number(q, MZ_STR("x-envoy-fault-throughput-response"), &rate))
        return false;
    *out_kib_per_s = rate < RATE_MAX_KIB ? rate : RATE_MAX_KIB;
    return rate > 0;
}

uint64_t fault_max_active(const struct fault_query *q)
{
    return mz_runtime_u64(q->runtime, q->cfg->max_active_key, q->cfg->max_active);
}
