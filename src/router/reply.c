#include "http/grpc.h"
#include "router/router_priv.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* What an attempt's outcome means for the client: the answer, another try, or an answer of our own. */

/* ---- ending ---- */

static void drop_others(struct router *r, const struct attempt *keep)
{
    mz_list_foreach (it, &r->attempts) {
        struct attempt *a = MZ_CONTAINER(it, struct attempt, link);
        if (a != keep)
            attempt_drop(a);
    }
}

/* Has the client anything of an answer? Then no other try may give it one, 1xx included (Envoy). */
static bool begun(const struct router *r)
{
    return r->response_started || r->informed;
}

static void finish(struct router *r)
{
    r->finished = true;
    mz_timer_stop(&r->timeout_timer);
    mz_timer_stop(&r->backoff_timer);
}

/* How many tries there were, the one that could not even begin included. */
static void write_attempts(struct router *r, struct mz_headers *h)
{
    if (!r->route->vhost || !r->route->vhost->include_attempt_count_in_response)
        return;
    char text[20];
    struct mz_str n = { text, mz_u64_text(info_of(r)->attempts, text) };
    mz_headers_set_id(h, MZ_H_X_ENVOY_ATTEMPT_COUNT,
                      mz_arena_dup(mz_stream_arena(stream_of(r)), n));
}

static void overloaded_header(struct mz_headers *h, void *arg)
{
    struct router *r = arg;
    if (!r->cfg->suppress_headers)
        mz_headers_set_id(h, MZ_H_X_ENVOY_OVERLOADED, MZ_STR("true"));
}

static void own_headers(struct mz_headers *h, void *arg)
{
    write_attempts(arg, h);
}

static void overload_and_own_headers(struct mz_headers *h, void *arg)
{
    own_headers(h, arg);
    overloaded_header(h, arg);
}

/* Ends the request without an upstream's answer: our own, or an abort when an answer has begun. */
static void give_up(struct router *r, unsigned status, uint64_t flags, struct mz_str body,
                    const char *details, bool overloaded)
{
    struct mz_stream *s = stream_of(r);
    finish(r);
    drop_others(r, NULL);
    if (r->response_started) {
        mz_info_flag(info_of(r), flags);
        mz_stream_reset(s, details);
        return;
    }
    mz_stream_local_reply(
        s, &(struct mz_local_reply){ .status = status,
                                     .body = body,
                                     .details = details,
                                     .flags = flags,
                                     .modify = overloaded ? overload_and_own_headers : own_headers,
                                     .modify_arg = r });
}

static void no_upstream(struct router *r)
{
    charge_code(r, 503, NULL, NULL);
    give_up(r, 503, MZ_FLAG(NO_HEALTHY_UPSTREAM), MZ_STR("no healthy upstream"),
            "no_healthy_upstream", false);
}

void reply_no_host(struct router *r)
{
    mz_count(r->cluster->scope, MZ_CS_CX_NONE_HEALTHY, 1);
    no_upstream(r);
}

/* As Envoy: not like the other breakers, but as if there were no host. */
void reply_no_pool(struct attempt *a)
{
    struct router *r = a->r;
    if (a->over || r->finished)
        return;
    mz_stream_story(stream_of(r), MZ_STEP_BREAKER, MZ_STR("max_connection_pools"), r->cluster->name,
                    0, 0);
    attempt_drop(a);
    no_upstream(r);
}

/* ---- retries ---- */

void reply_retry(struct router *r)
{
    mz_stream_story(stream_of(r), MZ_STEP_RETRY, MZ_STR(""), mz_str_c(r->retry.why), r->n_started,
                    0);
    r->backing_off = r->retried = true;
    mz_timer_start_ms(&r->backoff_timer, r->retry.backoff_ms);
}

/* Flags of a verdict that says no. */
static void note_no_retry(struct router *r, enum mz_retry_verdict v)
{
    if (v == MZ_RETRY_NO_OVERFLOW)
        mz_info_flag(info_of(r), MZ_FLAG(UPSTREAM_OVERFLOW));
    else if (v == MZ_RETRY_NO_LIMIT)
        mz_info_flag(info_of(r), MZ_FLAG(UPSTREAM_RETRY_LIMIT_EXCEEDED));
    if (r->retry.policy || r->retry.retry_on)
        mz_stream_story(stream_of(r), MZ_STEP_NO_RETRY, MZ_STR(""), mz_str_c(r->retry.why), 0, 0);
}

/* Others may still bring an answer: hedges, or a try that is about to begin. */
static bool others_alive(const struct router *r)
{
    return !mz_list_empty((struct mz_list *)(uintptr_t)&r->attempts) || r->backing_off;
}

/* ---- resets ---- */

/* Log fields have no blanks. */
static struct mz_str no_blanks(struct router *r, struct mz_str s)
{
    struct mz_str copy = mz_arena_dup(mz_stream_arena(stream_of(r)), s);
    char *p = (char *)(uintptr_t)copy.p;
    for (size_t i = 0; i < copy.n; i++)
        if (p[i] == ' ')
            p[i] = '_';
    return copy;
}

static const char *reset_details(struct router *r, const char *head, const char *reason,
                                 struct mz_str failure)
{
    struct mz_arena *a = mz_stream_arena(stream_of(r));
    struct mz_str parts[] = { mz_str_c(head), mz_str_c(reason),
                              failure.n ? MZ_STR("|") : MZ_STR(""), failure, MZ_STR("}") };
    return no_blanks(r, mz_arena_cat(a, MZ_COUNT(parts), parts)).p;
}

static void tell_reset(struct attempt *a, enum mz_reset_reason why, struct mz_str failure, int err)
{
    struct router *r = a->r;
    struct mz_str host = { a->host->addr_text, a->host->addr_text_n };
    struct mz_str reason = mz_str_c(mz_reset_reason_text(why));
    if (why == MZ_RESET_OVERFLOW)
        mz_stream_story(stream_of(r), MZ_STEP_BREAKER,
                        MZ_STR("max_pending_requests or max_requests"), r->cluster->name, 0, 0);
    else if (!a->started)
        mz_stream_story(stream_of(r), MZ_STEP_CONN_FAILED, host, failure.n ? failure : reason, err,
                        0);
    else
        mz_stream_story(stream_of(r), MZ_STEP_CONN_LOST, host, reason,
                        (int64_t)info_of(r)->up.conn_id,
                        (int64_t)((now_of(r) - a->ready_us + a->conn_age_us) / 1000));
}

void reply_reset(struct attempt *a, enum mz_reset_reason why, struct mz_str failure, int err)
{
    struct router *r = a->r;
    if (a->over || r->finished)
        return;
    struct mz_stream_info *info = info_of(r);
    if (failure.n)
        failure = mz_arena_dup(mz_stream_arena(stream_of(r)), failure);
    info->up.transport_failure = no_blanks(r, failure);
    tell_reset(a, why, failure, err);
    a->failure = mz_reset_reason_text(why);
    a->failure_flags = reset_outcome(why)->flag;
    if (why != MZ_RESET_OVERFLOW) /* a breaker says nothing of the host */
        mz_outlier_report(a->host, MZ_OUTLIER_CONNECT_FAILED, 0);
    bool sent = a->started, answered = a->answered, was_final = r->final == a;
    struct mz_host *host = mz_host_ref(a->host);
    attempt_drop(a);
    if (!begun(r) && !answered && !a->retried && r->retry_ready) {
        enum mz_retry_verdict v = mz_retry_on_reset(&r->retry, why, sent);
        if (v == MZ_RETRY_YES) {
            r->retry_is_timeout = false;
            mz_host_unref(host);
            reply_retry(r);
            return;
        }
        note_no_retry(r, v);
    }
    const char *reason = mz_reset_reason_text(why);
    bool after = begun(r);
    if (!after)
        charge_code(r, reset_outcome(why)->status, host, NULL);
    else
        charge_broken(a, host);
    mz_host_unref(host);
    if (!was_final && others_alive(r))
        return;
    struct mz_str body = mz_arena_printf(
        mz_stream_arena(stream_of(r)),
        "upstream connect error or disconnect/reset before headers. %sreset reason: %s",
        r->retried ? "retried and the latest " : "", reason);
    give_up(r, reset_outcome(why)->status, reset_outcome(why)->flag, body,
            reset_details(r,
                          after ? "upstream_reset_after_response_started{"
                                : "upstream_reset_before_response_started{",
                          reason, after ? MZ_STR("") : failure),
            why == MZ_RESET_OVERFLOW);
}

/* ---- timeouts ---- */

static unsigned timeout_status(const struct router *r)
{
    return r->times.alt_response ? 204 : 504;
}

static void give_up_late(struct router *r, const char *details)
{
    give_up(r, timeout_status(r), MZ_FLAG(UPSTREAM_REQUEST_TIMEOUT),
            r->times.alt_response ? MZ_STR("") : MZ_STR("upstream request timeout"), details,
            false);
}

/* A client that wants 204 for a timeout gets no 5xx, and yet the host has failed. */
static void charge_late(struct router *r, struct mz_host *host)
{
    charge_code(r, timeout_status(r), host, NULL);
    if (r->times.alt_response)
        charge_host(host, false);
}

static void note_late(struct attempt *a)
{
    if (!a->timed_out)
        mz_outlier_report(a->host, MZ_OUTLIER_TIMEOUT, timeout_status(a->r));
    a->timed_out = true;
}

/* The whole request's. Each try that is under way is charged, as in Envoy. */
void reply_timeout(struct router *r)
{
    if (r->finished)
        return;
    mz_list_foreach (it, &r->attempts) {
        struct attempt *a = MZ_CONTAINER(it, struct attempt, link);
        mz_count(r->cluster->scope, MZ_CS_RQ_TIMEOUT, 1);
        if (r->vcluster)
            mz_count(r->vcluster, MZ_VC_RQ_TIMEOUT, 1);
        __atomic_add_fetch(&a->host->stats.rq_timeout, 1, __ATOMIC_RELAXED);
        if (a->answered)
            continue;
        note_late(a);
        if (!begun(r))
            charge_late(r, a->host);
    }
    mz_stream_story(stream_of(r), MZ_STEP_TIMED_OUT, MZ_STR("the request"), MZ_STR(""), 0,
                    (int64_t)r->times.global_ms);
    give_up_late(r, "response_timeout");
}

/* Hedging: another try beside the slow one, which may still win. */
static void hedge(struct attempt *a)
{
    struct router *r = a->r;
    note_late(a);
    if (begun(r) || a->retried || !r->retry_ready)
        return;
    enum mz_retry_verdict v = mz_retry_on_try_timeout(&r->retry);
    if (v != MZ_RETRY_YES) {
        note_no_retry(r, v);
        return;
    }
    a->retried = true;
    mz_stream_story(stream_of(r), MZ_STEP_HEDGED, MZ_STR(""), MZ_STR(""), 0, 0);
    r->retry_is_timeout = true;
    reply_retry(r);
}

void reply_try_timeout(struct attempt *a, bool idle)
{
    struct router *r = a->r;
    if (r->finished || a->over)
        return;
    mz_stream_story(stream_of(r), MZ_STEP_TRY_TIMED_OUT, MZ_STR(""), MZ_STR(""), a->number,
                    (int64_t)((now_of(r) - a->start_us) / 1000));
    if (r->times.hedge_on_try_timeout) {
        hedge(a);
        return;
    }
    mz_count(r->cluster->scope, idle ? MZ_CS_RQ_PER_TRY_IDLE_TIMEOUT : MZ_CS_RQ_PER_TRY_TIMEOUT, 1);
    __atomic_add_fetch(&a->host->stats.rq_timeout, 1, __ATOMIC_RELAXED);
    note_late(a);
    bool answered = a->answered || begun(r);
    struct mz_host *host = mz_host_ref(a->host);
    attempt_drop(a);
    if (!answered) {
        enum mz_retry_verdict v = mz_retry_on_reset(&r->retry, MZ_RESET_LOCAL, true);
        if (v == MZ_RETRY_YES) {
            mz_host_unref(host);
            r->retry_is_timeout = true;
            reply_retry(r);
            return;
        }
        if (others_alive(r)) {
            mz_host_unref(host);
            return;
        }
        note_no_retry(r, v);
        charge_late(r, host);
    } else {
        charge_broken(a, host);
    }
    mz_host_unref(host);
    give_up_late(r, idle ? "upstream_per_try_idle_timeout" : "upstream_per_try_timeout");
}

/* The cluster's max_stream_duration. */
void reply_max_duration(struct attempt *a)
{
    struct router *r = a->r;
    if (r->finished || a->over)
        return;
    mz_count(r->cluster->scope, MZ_CS_RQ_MAX_DURATION_REACHED, 1);
    mz_stream_story(stream_of(r), MZ_STEP_TIMED_OUT,
                    MZ_STR("the upstream stream's longest duration"), MZ_STR(""), 0,
                    (int64_t)((now_of(r) - a->start_us) / 1000));
    bool answered = a->answered || begun(r);
    attempt_drop(a);
    if (!answered) {
        enum mz_retry_verdict v = mz_retry_on_reset(&r->retry, MZ_RESET_LOCAL, true);
        if (v == MZ_RETRY_YES) {
            r->retry_is_timeout = false;
            reply_retry(r);
            return;
        }
        if (others_alive(r))
            return;
        note_no_retry(r, v);
    }
    give_up(r, r->request_end ? 504 : 408, MZ_FLAG(UPSTREAM_MAX_STREAM_DURATION),
            MZ_STR("upstream max stream duration reached"), "upstream_max_stream_duration_reached",
            false);
}

/* ---- answers ---- */

void reply_1xx(struct attempt *a, struct mz_headers *h)
{
    struct router *r = a->r;
    if (a->over || r->finished)
        return;
    charge_code(r, mz_headers_status(h), a->host, h);
    drop_others(r, a);
    mz_timer_stop(&r->backoff_timer);
    r->backing_off = false;
    r->final = a;
    r->informed = true;
    mz_stream_respond_1xx(stream_of(r), h);
}

static void complete(struct attempt *a)
{
    struct router *r = a->r;
    charge_time(r, a->host, mz_stream_response_headers(stream_of(r)));
}

/* *out_bad: it is not retried though it is an answer that would have been. */
static bool retry_answer(struct attempt *a, struct mz_headers *h, bool *out_bad)
{
    struct router *r = a->r;
    if (!r->retry_ready || r->final)
        return false;
    if (a->retried) {
        *out_bad = mz_retry_would(&r->retry, h);
        return false;
    }
    enum mz_retry_verdict v = mz_retry_on_headers(&r->retry, h, mz_loop_wall_us(loop_of(r)));
    if (v == MZ_RETRY_YES) {
        mz_count_code(r->cluster->scope, "retry.upstream_rq_", mz_headers_status(h));
        mz_count(r->cluster->scope, MZ_CS_RETRY_RQ_COMPLETED, 1);
        charge_host(a->host, false);
        r->retry_is_timeout = false;
        attempt_drop(a);
        reply_retry(r);
        return true;
    }
    if (v != MZ_RETRY_NO)
        note_no_retry(r, v);
    *out_bad = v != MZ_RETRY_NO;
    return false;
}

static bool others_await(const struct router *r, const struct attempt *a)
{
    mz_list_foreach (it, (struct mz_list *)(uintptr_t)&r->attempts) {
        const struct attempt *other = MZ_CONTAINER(it, struct attempt, link);
        if (other != a && !other->answered)
            return true;
    }
    return r->backing_off;
}

static void add_own_headers(struct attempt *a, struct mz_headers *h)
{
    struct router *r = a->r;
    struct mz_arena *arena = mz_stream_arena(stream_of(r));
    char text[20];
    if (!r->cfg->suppress_headers && r->request_end_us) {
        struct mz_str ms = { text, mz_u64_text((now_of(r) - r->request_end_us) / 1000, text) };
        mz_headers_set_id(h, MZ_H_X_ENVOY_UPSTREAM_SERVICE_TIME, mz_arena_dup(arena, ms));
    }
    if (r->set_cookie.n)
        mz_headers_add_id(h, MZ_H_SET_COOKIE, r->set_cookie);
    struct mz_format_ctx ctx = { .info = info_of(r), .req = r->headers, .resp = h };
    mz_route_finalize_response(r->route, r->weighted, h, &ctx);
    write_attempts(r, h);
}

/* The upstream did not switch protocols: the client gets the status, not a body that it would take for the tunnel's. */
static bool refused_upgrade(struct router *r, struct mz_headers *h)
{
    if (!mz_headers_get_id(r->headers, MZ_H_UPGRADE) || mz_headers_status(h) == 101)
        return false;
    info_of(r)->details = "websocket_handshake_unsuccessful";
    mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, MZ_STR("0"));
    mz_headers_remove_id(h, MZ_H_TRANSFER_ENCODING);
    return true;
}

/* An answer's status, of gRPC its grpc-status where it stands in the headers, tells of the host. */
static void report_status(struct attempt *a, const struct mz_headers *h, unsigned status)
{
    int grpc;
    if (a->r->grpc && mz_grpc_status(h, &grpc))
        status = mz_http_status_of_grpc(grpc);
    mz_outlier_status(a->host, status);
    if (MZ_UNLIKELY(mz_headers_get_id(h, MZ_H_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL) != NULL))
        mz_host_says_unhealthy(a->host);
}

void reply_headers(struct attempt *a, struct mz_headers *h, bool end)
{
    struct router *r = a->r;
    unsigned status = mz_headers_status(h);
    if (a->over || r->finished)
        return;
    router_note(r, ANSWER, ((struct mz_str){ a->host->addr_text, a->host->addr_text_n }),
                MZ_STR(""), status, (now_of(r) - a->start_us) / 1000);
    report_status(a, h, status);
    bool bad = false;
    if (retry_answer(a, h, &bad))
        return;
    if (r->route->internal_redirect->enabled && redirect_try(r, a, h))
        return;                      /* charged to nobody, as in Envoy */
    if (bad && others_await(r, a)) { /* a better one may come */
        charge_host(a->host, false);
        attempt_drop(a);
        return;
    }
    drop_others(r, a);
    r->final = a;
    mz_timer_stop(&r->backoff_timer);
    charge_code(r, status, a->host, h);
    if (status < 500)
        charge_success(a, h, end);
    struct mz_stream_info *info = info_of(r);
    if (!info->details)
        info->details = "via_upstream";
    info->status = status;
    if (r->is_upgrade && refused_upgrade(r, h))
        end = true;
    add_own_headers(a, h);
    r->response_started = true;
    if (r->down_above)
        attempt_read_disable(a, true);
    if (end) {
        complete(a);
        finish(r);
    }
    mz_stream_respond_headers(stream_of(r), h, end);
}

void reply_data(struct attempt *a, struct mz_buf *data, bool end)
{
    struct router *r = a->r;
    if (a->over || r->final != a || (r->finished && !end))
        return;
    if (end) {
        if (a->grpc_outcome_open) /* neither headers nor trailers told */
            charge_host(a->host, false);
        complete(a);
        finish(r);
    }
    mz_stream_respond_data(stream_of(r), data, end);
}

void reply_trailers(struct attempt *a, struct mz_headers *h)
{
    struct router *r = a->r;
    if (a->over || r->final != a)
        return;
    if (a->grpc_outcome_open)
        charge_success(a, h, true);
    complete(a);
    finish(r);
    mz_stream_respond_trailers(stream_of(r), h);
}
