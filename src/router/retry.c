#include "router/retry.h"
#include "runtime/runtime.h"
#include <stdlib.h>

/* ---- what the request and the route ask for ---- */

static size_t parts_of(struct mz_str text)
{
    size_t n = 0;
    for (struct mz_str part; mz_str_split(&text, ',', &part);)
        n++;
    return n;
}

static void codes_read(struct mz_retry *r, struct mz_str text)
{
    r->codes = mz_arena_alloc(r->arena, mz_mul(parts_of(text), sizeof(*r->codes)));
    uint64_t code;
    for (struct mz_str part; mz_str_split(&text, ',', &part);)
        if (mz_str_u64(mz_str_trim(part), &code) && code < 1000)
            r->codes[r->n_codes++] = (uint32_t)code;
}

static void header_names_read(struct mz_retry *r, struct mz_str text)
{
    r->header_names = mz_arena_alloc(r->arena, mz_mul(parts_of(text), sizeof(*r->header_names)));
    for (struct mz_str part; mz_str_split(&text, ',', &part);) {
        struct mz_str name = mz_arena_dup(r->arena, mz_str_trim(part));
        for (size_t i = 0; i < name.n; i++)
            ((char *)(uintptr_t)name.p)[i] = mz_lower(name.p[i]);
        if (name.n)
            r->header_names[r->n_header_names++] = name;
    }
}

/* A policy may be for some requests only. */
static bool policy_wants(const struct mz_retry_policy *p, const struct mz_headers *h)
{
    if (!p || !p->n_retriable_request_headers)
        return true;
    for (size_t i = 0; i < p->n_retriable_request_headers; i++)
        if (mz_header_match(p->retriable_request_headers[i], h))
            return true;
    return false;
}

#define CONSUMED(X)                                                                                \
    X(X_ENVOY_RETRY_ON)                                                                            \
    X(X_ENVOY_RETRY_GRPC_ON)                                                                       \
    X(X_ENVOY_MAX_RETRIES)                                                                         \
    X(X_ENVOY_RETRIABLE_STATUS_CODES)                                                              \
    X(X_ENVOY_RETRIABLE_HEADER_NAMES)
static const struct mz_header_set consumed = MZ_HEADER_SET(CONSUMED);

static void request_read(struct mz_retry *r, const struct mz_headers *h)
{
    unsigned unknown;
    uint64_t max;
    if (!mz_headers_has_any(h, &consumed)) {
        r->retry_on = policy_wants(r->policy, h) ? r->retry_on : 0;
        return;
    }
    r->retry_on |= mz_retry_on_parse(mz_headers_value_id(h, MZ_H_X_ENVOY_RETRY_ON),
                                     MZ_RETRY_FAMILY_HTTP, &unknown);
    r->retry_on |= mz_retry_on_parse(mz_headers_value_id(h, MZ_H_X_ENVOY_RETRY_GRPC_ON),
                                     MZ_RETRY_FAMILY_GRPC, &unknown);
    if (!policy_wants(r->policy, h))
        r->retry_on = 0;
    if (r->retry_on && mz_str_u64(mz_headers_value_id(h, MZ_H_X_ENVOY_MAX_RETRIES), &max))
        r->left = max > UINT32_MAX ? UINT32_MAX : (uint32_t)max;
    codes_read(r, mz_headers_value_id(h, MZ_H_X_ENVOY_RETRIABLE_STATUS_CODES));
    header_names_read(r, mz_headers_value_id(h, MZ_H_X_ENVOY_RETRIABLE_HEADER_NAMES));
}

void mz_retry_init(struct mz_retry *r, const struct mz_route *route, struct mz_headers *h,
                   struct mz_cluster *cluster, enum mz_priority priority, struct mz_scope *vcluster,
                   struct mz_scope *route_scope, struct mz_rand *rand, struct mz_arena *arena)
{
    const struct mz_retry_policy *p = route->retry;
    *r = (struct mz_retry){ .policy = p,
                            .cluster = cluster,
                            .priority = priority,
                            .vcluster = vcluster,
                            .route_scope = route_scope,
                            .rand = rand,
                            .arena = arena,
                            .why = "" };
    r->retry_on = p ? p->retry_on : 0;
    r->left = p ? p->num_retries : 1;
    request_read(r, h);
    mz_headers_remove_set(h, &consumed);
    if (!r->retry_on)
        return;
    bool own = p && p->backoff_base_ms;
    r->base_ms =
        own ? p->backoff_base_ms
            : mz_runtime_u64(mz_runtime_here(), MZ_STR("upstream.base_retry_backoff_ms"), 25);
    if (!r->base_ms)
        r->base_ms = 1;
    r->max_ms = own ? p->backoff_max_ms : r->base_ms * 10;
    r->next_ms = r->base_ms;
}

void mz_retry_fini(struct mz_retry *r)
{
    if (r->held)
        mz_circuit_give(r->cluster, r->priority, MZ_CIRCUIT_RETRY);
    r->held = false;
    unsigned n = r->n_tried < MZ_RETRY_PREVIOUS ? r->n_tried : MZ_RETRY_PREVIOUS;
    for (unsigned i = 0; i < n; i++)
        mz_host_unref(r->tried[i]);
    r->n_tried = 0;
}

/* ---- would this outcome be retried? NULL: no; else the word that says so ---- */

static bool status_in(const uint32_t *codes, size_t n, unsigned status)
{
    for (size_t i = 0; i < n; i++)
        if (codes[i] == status)
            return true;
    return false;
}

static bool retriable_status(const struct mz_retry *r, unsigned status)
{
    return status_in(r->codes, r->n_codes, status) ||
           (r->policy && status_in(r->policy->status_codes, r->policy->n_status_codes, status));
}

static bool retriable_header(const struct mz_retry *r, const struct mz_headers *h)
{
    for (size_t i = 0; i < r->n_header_names; i++)
        if (mz_headers_get(h, r->header_names[i]))
            return true;
    for (size_t i = 0; r->policy && i < r->policy->n_retriable_headers; i++)
        if (mz_header_match(r->policy->retriable_headers[i], h))
            return true;
    return false;
}

static const char *grpc_why(uint32_t on, const struct mz_headers *h)
{
    static const struct {
        uint32_t bit;
        uint64_t status;
        const char *why;
    } statuses[] = {
        { MZ_RETRY_GRPC_CANCELLED, 1, "cancelled" },
        { MZ_RETRY_GRPC_DEADLINE_EXCEEDED, 4, "deadline-exceeded" },
        { MZ_RETRY_GRPC_RESOURCE_EXHAUSTED, 8, "resource-exhausted" },
        { MZ_RETRY_GRPC_INTERNAL, 13, "internal" },
        { MZ_RETRY_GRPC_UNAVAILABLE, 14, "unavailable" },
    };
    uint64_t status;
    if (!mz_str_u64(mz_headers_value_id(h, MZ_H_GRPC_STATUS), &status))
        return NULL;
    for (size_t i = 0; i < MZ_COUNT(statuses); i++)
        if ((on & statuses[i].bit) && statuses[i].status == status)
            return statuses[i].why;
    return NULL;
}

static const char *headers_why(const struct mz_retry *r, const struct mz_headers *h)
{
    uint32_t on = r->retry_on;
    unsigned status = mz_headers_status(h);
    /* From another Envoy that limits rates: retried only when the policy names this. */
    if (mz_headers_get_id(h, MZ_H_X_ENVOY_RATELIMITED))
        return on & MZ_RETRY_ENVOY_RATELIMITED ? "envoy-ratelimited" : NULL;
    if ((on & MZ_RETRY_5XX) && status >= 500 && status < 600)
        return "5xx";
    if ((on & MZ_RETRY_GATEWAY_ERROR) && status >= 502 && status <= 504)
        return "gateway-error";
    if ((on & MZ_RETRY_RETRIABLE_4XX) && status == 409)
        return "retriable-4xx";
    if ((on & MZ_RETRY_RETRIABLE_STATUS_CODES) && retriable_status(r, status))
        return "retriable-status-codes";
    if ((on & MZ_RETRY_RETRIABLE_HEADERS) && retriable_header(r, h))
        return "retriable-headers";
    return grpc_why(on, h);
}

static const char *reset_why(uint32_t on, enum mz_reset_reason reason, bool sent)
{
    bool connect = reason == MZ_RESET_LOCAL_CONNECT_FAIL ||
                   reason == MZ_RESET_REMOTE_CONNECT_FAIL || reason == MZ_RESET_CONNECT_TIMEOUT;
    if (reason == MZ_RESET_OVERFLOW) /* more of the same would not help */
        return NULL;
    if (on & MZ_RETRY_RESET)
        return "reset";
    if ((on & MZ_RETRY_RESET_BEFORE_REQUEST) && !sent)
        return "reset-before-request";
    if (on & MZ_RETRY_5XX) /* the client would get a 503 */
        return "5xx";
    if (on & MZ_RETRY_GATEWAY_ERROR)
        return "gateway-error";
    if ((on & MZ_RETRY_REFUSED_STREAM) && reason == MZ_RESET_REMOTE_REFUSED)
        return "refused-stream";
    return (on & MZ_RETRY_CONNECT_FAILURE) && connect ? "connect-failure" : NULL;
}

/* ---- back-off ---- */

static uint64_t interval_of(const struct mz_reset_header *x, const struct mz_headers *h,
                            uint64_t wall_us)
{
    const struct mz_header *e = mz_headers_get(h, x->name);
    uint64_t v, now = wall_us / 1000000;
    if (!e || !mz_str_u64(mz_str_trim(e->value), &v))
        return 0;
    if (x->unix_time)
        v = v > now ? v - now : 0;
    return v > UINT32_MAX ? 0 : v * 1000;
}

static uint64_t ratelimited_ms(const struct mz_retry *r, const struct mz_headers *h,
                               uint64_t wall_us)
{
    for (size_t i = 0; r->policy && i < r->policy->n_reset_headers; i++) {
        uint64_t ms = interval_of(&r->policy->reset_headers[i], h, wall_us);
        if (ms > 1 && ms <= r->policy->reset_max_ms)
            return ms;
    }
    return 0;
}

static void count(const struct mz_retry *r, enum mz_cluster_stat c, unsigned vc)
{
    mz_count(r->cluster->scope, c, 1);
    if (r->vcluster)
        mz_count(r->vcluster, vc, 1);
    if (r->route_scope)
        mz_count(r->route_scope, vc, 1);
}

static void backoff_choose(struct mz_retry *r)
{
    r->ratelimited = r->ratelimited_ms != 0;
    if (r->ratelimited) { /* as long as the upstream asked for and up to half of it more */
        r->backoff_ms = r->ratelimited_ms + mz_rand_below(r->rand, r->ratelimited_ms / 2 + 1);
        r->ratelimited_ms = 0;
        return;
    }
    r->backoff_ms = mz_rand_below(r->rand, r->next_ms); /* fully jittered */
    r->next_ms = r->next_ms < r->max_ms / 2 ? r->next_ms * 2 : r->max_ms;
}

void mz_retry_begins(const struct mz_retry *r)
{
    count(r, MZ_CS_RQ_RETRY, MZ_VC_RQ_RETRY);
    mz_count(r->cluster->scope,
             r->ratelimited ? MZ_CS_RQ_RETRY_BACKOFF_RATELIMITED
                            : MZ_CS_RQ_RETRY_BACKOFF_EXPONENTIAL,
             1);
}

/* ---- verdicts ---- */

static enum mz_retry_verdict refuse(struct mz_retry *r, enum mz_retry_verdict v, const char *why)
{
    r->why = why;
    return v;
}

static enum mz_retry_verdict decide(struct mz_retry *r, const char *why)
{
    static const struct mz_fraction use_retry = { MZ_STR_INIT("upstream.use_retry"), 100, 100 };
    if (r->armed && !why) { /* a retry led here, and what came is good enough */
        count(r, MZ_CS_RQ_RETRY_SUCCESS, MZ_VC_RQ_RETRY_SUCCESS);
        r->armed = false;
    }
    if (r->held)
        mz_circuit_give(r->cluster, r->priority, MZ_CIRCUIT_RETRY);
    r->held = false;
    if (!why)
        return refuse(r, MZ_RETRY_NO,
                      r->retry_on ? "the retry policy does not cover this outcome"
                                  : "no retry policy");
    if (!r->left) {
        count(r, MZ_CS_RQ_RETRY_LIMIT_EXCEEDED, MZ_VC_RQ_RETRY_LIMIT_EXCEEDED);
        return refuse(r, MZ_RETRY_NO_LIMIT, "all retries are used up");
    }
    r->left--;
    if (!mz_circuit_take(r->cluster, r->priority, MZ_CIRCUIT_RETRY)) {
        count(r, MZ_CS_RQ_RETRY_OVERFLOW, MZ_VC_RQ_RETRY_OVERFLOW);
        return refuse(r, MZ_RETRY_NO_OVERFLOW, "the circuit breaker for retries is open");
    }
    if (!mz_runtime_fraction(mz_runtime_here(), &use_retry, mz_rand_u64(r->rand))) {
        mz_circuit_give(r->cluster, r->priority, MZ_CIRCUIT_RETRY);
        return refuse(r, MZ_RETRY_NO, "runtime key upstream.use_retry forbids it");
    }
    r->held = r->armed = true;
    backoff_choose(r);
    r->why = why;
    return MZ_RETRY_YES;
}

enum mz_retry_verdict mz_retry_on_headers(struct mz_retry *r, const struct mz_headers *response,
                                          uint64_t wall_us)
{
    const char *why = r->retry_on ? headers_why(r, response) : NULL;
    if (why)
        r->ratelimited_ms = ratelimited_ms(r, response, wall_us);
    return decide(r, why);
}

bool mz_retry_would(const struct mz_retry *r, const struct mz_headers *response)
{
    return r->retry_on && headers_why(r, response);
}

void mz_retry_abandon(struct mz_retry *r)
{
    if (r->held)
        mz_circuit_give(r->cluster, r->priority, MZ_CIRCUIT_RETRY);
    r->held = r->armed = false;
    r->retry_on = r->left = 0;
}

enum mz_retry_verdict mz_retry_on_reset(struct mz_retry *r, enum mz_reset_reason reason, bool sent)
{
    return decide(r, r->retry_on ? reset_why(r->retry_on, reason, sent) : NULL);
}

enum mz_retry_verdict mz_retry_on_try_timeout(struct mz_retry *r)
{
    /* Whatever the policy's words: hedging on a try's timeout was asked for by itself. */
    return decide(r, r->retry_on ? "per-try timeout" : NULL);
}

/* ---- which host next ---- */

void mz_retry_host_tried(struct mz_retry *r, struct mz_host *h)
{
    unsigned at = r->n_tried++ % MZ_RETRY_PREVIOUS;
    if (r->n_tried > MZ_RETRY_PREVIOUS)
        mz_host_unref(r->tried[at]);
    r->tried[at] = mz_host_ref(h);
}

uint32_t mz_retry_host_attempts(const struct mz_retry *r)
{
    return r->policy ? r->policy->host_selection_attempts : 1;
}

static bool was_tried(const struct mz_retry *r, const struct mz_host *h)
{
    for (unsigned i = 0; i < r->n_tried && i < MZ_RETRY_PREVIOUS; i++)
        if (r->tried[i] == h)
            return true;
    return false;
}

/* Does the host carry every label that is to be avoided? */
static bool has_labels(const struct mz_meta *labels, const struct mz_meta *host)
{
    const struct mz_value *want = mz_meta_get(labels, MZ_STR("envoy.lb"), NULL, 0);
    if (!want || want->kind != MZ_VALUE_STRUCT || !want->fields.n)
        return false;
    for (size_t i = 0; i < want->fields.n; i++) {
        const struct mz_value *has =
            mz_meta_get(host, MZ_STR("envoy.lb"), &want->fields.v[i].key, 1);
        if (!has || !mz_value_eq(has, want->fields.v[i].value))
            return false;
    }
    return true;
}

bool mz_retry_avoid(void *retry, const struct mz_host *h)
{
    const struct mz_retry *r = retry;
    const struct mz_retry_policy *p = r->policy;
    if (!p || !r->n_tried) /* the first try takes what it gets */
        return false;
    return (p->previous_hosts && was_tried(r, h)) || (p->omit_canary_hosts && h->canary) ||
           (p->omit_metadata && h->metadata && has_labels(p->omit_metadata, h->metadata));
}

static bool priority_tried(const struct mz_retry *r, struct mz_wcluster *w, unsigned n_known,
                           unsigned priority)
{
    for (unsigned i = 0; i < n_known; i++)
        if (mz_wcluster_priority_of(w, r->tried[i]) == priority)
            return true;
    return false;
}

bool mz_retry_priority_load(const struct mz_retry *r, struct mz_wcluster *w, const uint32_t *load,
                            uint32_t *out_load, unsigned n)
{
    if (!r->policy || !r->policy->previous_priorities)
        return false;
    unsigned every = r->policy->previous_priorities_frequency,
             known = r->n_tried - r->n_tried % every;
    known = known < MZ_RETRY_PREVIOUS ? known : MZ_RETRY_PREVIOUS;
    uint32_t sum = 0;
    int first = -1;
    for (unsigned i = 0; i < n; i++) {
        bool tried = priority_tried(r, w, known, i);
        first = first < 0 && !tried ? (int)i : first;
        out_load[i] = tried ? 0 : load[i];
        sum += out_load[i];
    }
    if (!known || first < 0) /* nothing to leave out yet, or all were tried: begin anew */
        return false;
    if (!sum) { /* the others have no load of their own while the tried ones are healthy */
        out_load[first] = 100;
        return true;
    }
    uint32_t given = 0;
    for (unsigned i = 0; i < n; i++) {
        out_load[i] = out_load[i] * 100 / sum;
        given += out_load[i];
    }
    for (unsigned i = 0; i < n && given < 100; i++)
        if (out_load[i]) {
            out_load[i] += 100 - given;
            given = 100;
        }
    return true;
}
