#include "filters/http/fraction.h"
#include "filters/http/ratelimit.h"

/* Configuration of ratelimit, of the filter and of routes (H9). */

#define TIMEOUT_MS 20

static const struct mz_stat_def defs[] = {
    [RL_ERROR] = { "error", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [RL_FAILURE_MODE_ALLOWED] = { "failure_mode_allowed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [RL_OK] = { "ok", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [RL_OVER_LIMIT] = { "over_limit", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind kind = { "ratelimit", defs, MZ_COUNT(defs) };

void rl_config_destroy(void *cfg)
{
    struct rl_cfg *c = cfg;
    mz_grpc_service_destroy(c->service);
    mz_header_mutations_fini(&c->response);
    cluster_scopes_fini(&c->clusters);
    mz_arena_destroy(c->arena);
}

static bool service_build(const pb_RateLimitServiceConfig *m, struct rl_cfg *c, struct mz_err *err)
{
    if (m->transport_api_version != pb_ApiVersion_V3)
        return mz_err_set(err, "must be V3: other versions of the protocol are no longer served") ||
               mz_err_at(err, "transport_api_version");
    c->service = mz_grpc_service_create(m->grpc_service, err);
    return c->service || mz_err_at(err, "grpc_service");
}

/* A fraction of its own, or the runtime key that Envoy asks otherwise, all of the requests where that is not set. */
static struct mz_fraction fraction_or(const pb_RuntimeFractionalPercent *m, struct mz_str key,
                                      struct mz_arena *a)
{
    if (m)
        return fraction_build(m, true, a);
    return (struct mz_fraction){ .key = key, .numerator = 100, .denominator = 100 };
}

static enum rl_requests requests_of(const char *type)
{
    if (strcmp(type, "internal") == 0)
        return RL_INTERNAL;
    return strcmp(type, "external") == 0 ? RL_EXTERNAL : RL_BOTH;
}

static void options_fill(const pb_ratelimit_RateLimit *m, const struct mz_factory *f,
                         struct rl_cfg *c)
{
    int limited = m->rate_limited_status ? (int)m->rate_limited_status->code : 0;
    int failed = m->status_on_error ? (int)m->status_on_error->code : 0;
    c->domain = mz_arena_dup(c->arena, mz_str_c(m->domain));
    c->service_cluster = mz_arena_dup(c->arena, f->node_cluster);
    c->stage = m->stage;
    c->requests = requests_of(m->request_type);
    c->limited_status = limited >= 400 && limited <= 511 ? (unsigned)limited : 429;
    c->error_status = failed >= 100 && failed <= 511 ? (unsigned)failed : 500;
    c->resource_exhausted = m->rate_limited_as_resource_exhausted != 0;
    c->no_limited_header = m->disable_x_envoy_ratelimited_header != 0;
    c->limit_headers =
        m->enable_x_ratelimit_headers == pb_RateLimit_XRateLimitHeadersRFCVersion_DRAFT_VERSION_03;
    c->enabled = fraction_or(m->filter_enabled, MZ_STR("ratelimit.http_filter_enabled"), c->arena);
    c->enforced =
        fraction_or(m->filter_enforced, MZ_STR("ratelimit.http_filter_enforcing"), c->arena);
    c->deny = fraction_build(m->failure_mode_deny_percent, m->failure_mode_deny != 0, c->arena);
    cluster_scopes_init(&c->clusters, f, &kind, "ratelimit", m->stat_prefix, c->arena);
}

void *rl_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_ratelimit_RateLimit *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct rl_cfg *c = mz_arena_new0(a, struct rl_cfg);
    c->arena = a;
    options_fill(m, f, c);
    if (!mz_duration_ms(m->timeout, TIMEOUT_MS, &c->timeout_ms, err))
        (void)mz_err_at(err, "timeout");
    else if (!service_build(m->rate_limit_service, c, err))
        (void)mz_err_at(err, "rate_limit_service");
    else if (!mz_header_mutations_build(m->response_headers_to_add, m->n_response_headers_to_add,
                                        NULL, 0, false, &c->response, err))
        (void)mz_err_at(err, "response_headers_to_add");
    else if (!mz_rate_limits_build(m->rate_limits, m->n_rate_limits, true, a, &c->own, err))
        (void)mz_err_at(err, "rate_limits");
    else
        return c;
    rl_config_destroy(c);
    return NULL;
}

/* ---- routes' ---- */

void rl_route_config_destroy(void *cfg)
{
    mz_arena_destroy(((struct rl_route_cfg *)cfg)->arena);
}

void *rl_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    static const enum rl_vhost vhosts[] = { RL_OVERRIDE, RL_INCLUDE, RL_IGNORE };
    const pb_RateLimitPerRoute *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct rl_route_cfg *c = mz_arena_new0(a, struct rl_route_cfg);
    (void)f;
    c->arena = a;
    c->domain = mz_arena_dup(a, mz_str_c(m->domain));
    c->vhost = vhosts[m->vh_rate_limits];
    if (mz_rate_limits_build(m->rate_limits, m->n_rate_limits, true, a, &c->own, err))
        return c;
    (void)mz_err_at(err, "rate_limits");
    rl_route_config_destroy(c);
    return NULL;
}
