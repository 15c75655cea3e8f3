#include "router/router_priv.h"
#include "upstream/auto_sni.h"

#define SNI_MAX 255 /* bytes of a host name */

#include "http/grpc.h"
#include "http/status.h"
#include "observe/access_log.h"
#include "proto/mapper.h"

/* The request's side of the router filter: what the route asks for, the body, the timeouts of the whole. */

static struct router *from_filter(struct mz_filter *f)
{
    return (struct router *)(void *)f;
}

/* ---- answers that need no upstream ---- */

static enum mz_flow no_route(struct router *r)
{
    mz_count(r->cfg->scope, MZ_RS_NO_ROUTE, 1);
    mz_stream_local_reply(stream_of(r),
                          &(struct mz_local_reply){ .status = 404,
                                                    .details = "route_not_found",
                                                    .flags = MZ_FLAG(NO_ROUTE_FOUND) });
    return MZ_FLOW_STOP;
}

struct direct {
    struct router *r;
    struct mz_str location;
};

static void direct_headers(struct mz_headers *h, void *arg)
{
    struct direct *d = arg;
    struct mz_stream *s = stream_of(d->r);
    if (d->location.n)
        mz_headers_set_id(h, MZ_H_LOCATION, d->location);
    struct mz_format_ctx ctx = { .info = mz_stream_info(s), .req = d->r->headers, .resp = h };
    if (!d->r->route->unmutated)
        mz_route_finalize_response(d->r->route, NULL, h, &ctx);
    const struct mz_direct_response *what = d->r->route->direct;
    if (what && what->content_type.n)
        mz_headers_set_id(h, MZ_H_CONTENT_TYPE, what->content_type);
}

static struct mz_str direct_body(struct router *r)
{
    const struct mz_direct_response *d = r->route->direct;
    if (!d->format && !d->json)
        return d->body;
    struct mz_format_ctx ctx = { .info = info_of(r),
                                 .req = r->headers,
                                 .local_reply_body = d->body };
    struct mz_buf b;
    mz_buf_init(&b);
    if (d->format)
        mz_format_append(d->format, &ctx, &b);
    else
        mz_format_json_append(d->json, &ctx, &b);
    struct mz_str body =
        mz_arena_dup(mz_stream_arena(stream_of(r)), mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return body;
}

/* 201 points to what was made, and 3xx without a redirect somewhere, too: the request's own address, as Envoy does. */
static struct mz_str own_location(struct router *r)
{
    const struct mz_headers *h = r->headers;
    return mz_arena_cat(mz_stream_arena(stream_of(r)), 4,
                        (struct mz_str[]){ mz_headers_value_id(h, MZ_H_SCHEME), MZ_STR("://"),
                                           mz_headers_value_id(h, MZ_H_AUTHORITY),
                                           mz_headers_path(h) });
}

static enum mz_flow direct(struct router *r)
{
    const struct mz_route *route = r->route;
    struct direct d = { r, MZ_STR("") };
    struct mz_local_reply reply = { .status = route->status,
                                    .details = "direct_response",
                                    .modify = direct_headers,
                                    .modify_arg = &d };
    if (route->action == MZ_ACTION_REDIRECT) {
        mz_count(r->cfg->scope, MZ_RS_DIRECT_RESPONSE, 1); /* as Envoy: rq_redirect stays 0 */
        mz_route_rewrite_redirected(route, r->headers, mz_stream_arena(stream_of(r)),
                                    !r->cfg->suppress_headers);
        d.location = mz_route_redirect_location(route, r->headers, mz_stream_arena(stream_of(r)));
        mz_stream_story(stream_of(r), MZ_STEP_REDIRECT, MZ_STR(""), d.location, route->status, 0);
    } else {
        mz_count(r->cfg->scope, MZ_RS_DIRECT_RESPONSE, 1);
        if (route->status == 201 || route->status / 100 == 3)
            d.location = own_location(r);
        reply.body = direct_body(r);
        mz_stream_story(stream_of(r), MZ_STEP_DIRECT, MZ_STR(""), MZ_STR(""), route->status, 0);
    }
    mz_stream_local_reply(stream_of(r), &reply);
    return MZ_FLOW_STOP;
}

static enum mz_flow no_cluster(struct router *r, struct mz_str name)
{
    mz_count(r->cfg->scope, MZ_RS_NO_CLUSTER, 1);
    mz_stream_story(stream_of(r), MZ_STEP_NO_CLUSTER, name, MZ_STR(""), 0, 0);
    mz_stream_local_reply(stream_of(r),
                          &(struct mz_local_reply){ .status = r->route->cluster_not_found_status,
                                                    .details = "cluster_not_found",
                                                    .flags = MZ_FLAG(NO_CLUSTER_FOUND) });
    return MZ_FLOW_STOP;
}

static bool check_strict(struct router *r)
{
    for (size_t i = 0; i < r->cfg->n_strict; i++) {
        const struct strict_check *c = &r->cfg->strict[i];
        struct mz_header *e = mz_headers_get_id(r->headers, (enum mz_header_id)c->id);
        if (!e || c->valid(e->value))
            continue;
        struct mz_str name = mz_header_name((enum mz_header_id)c->id);
        struct mz_arena *a = mz_stream_arena(stream_of(r));
        mz_stream_local_reply(
            stream_of(r),
            &(struct mz_local_reply){
                .status = 400,
                .body = mz_arena_printf(
                    a, "invalid header '" MZ_STR_FMT "' with value '" MZ_STR_FMT "'",
                    MZ_STR_ARG(name), MZ_STR_ARG(e->value)),
                .details = mz_arena_printf(a, "request_headers_failed_strict_check{" MZ_STR_FMT "}",
                                           MZ_STR_ARG(name))
                               .p,
                .flags = MZ_FLAG(INVALID_ENVOY_REQUEST_HEADERS) });
        return false;
    }
    return true;
}

/* ---- towards the cluster ---- */

static bool find_cluster(struct router *r, struct mz_str *out_name)
{
    struct mz_stream *s = stream_of(r);
    struct mz_stream_info *info = info_of(r);
    r->wcluster = mz_stream_cluster(s, out_name, &r->weighted);
    if (!r->wcluster)
        return false;
    mz_wcluster_ref(r->wcluster);
    r->cluster = mz_cluster_ref(mz_wcluster_info(r->wcluster));
    router_note(r, CLUSTER, r->cluster->name,
                r->weighted                  ? MZ_STR("weight")
                : r->route->cluster_header.n ? MZ_STR("header")
                                             : MZ_STR("the route"),
                0, 0);
    if (mz_stream_trace(s) || mz_log_on(MZ_LOG_C_router, MZ_LOG_DEBUG))
        mz_log_write(MZ_LOG_C_router, MZ_LOG_DEBUG, info->conn_id, mz_stream_id(s), __FILE__,
                     __LINE__, "cluster '" MZ_STR_FMT "' match for URL '" MZ_STR_FMT "'",
                     MZ_STR_ARG(r->cluster->name), MZ_STR_ARG(mz_headers_path(r->headers)));
    return true;
}

bool cluster_maintained(struct mz_cluster *c, struct mz_loop *l, struct mz_arena *a)
{
    const struct mz_runtime *rt = mz_runtime_here();
    if (mz_runtime_empty(rt))
        return false;
    struct mz_str key =
        mz_arena_cat(a, 2, (struct mz_str[]){ MZ_STR("upstream.maintenance_mode."), c->name });
    struct mz_fraction f = { key, 0, 100 };
    if (!mz_runtime_fraction(rt, &f, mz_rand_u64(mz_loop_rand(l))))
        return false;
    mz_count(c->scope, MZ_CS_RQ_MAINTENANCE_MODE, 1);
    return true;
}

static bool maintenance(struct router *r)
{
    if (!cluster_maintained(r->cluster, loop_of(r), mz_stream_arena(stream_of(r))))
        return false;
    charge_code(r, 503, NULL, NULL);
    mz_stream_local_reply(stream_of(r),
                          &(struct mz_local_reply){ .status = 503,
                                                    .body = MZ_STR("maintenance mode"),
                                                    .details = "maintenance_mode",
                                                    .flags = MZ_FLAG(UPSTREAM_OVERFLOW) });
    return true;
}

static void drop_header(struct mz_headers *h, void *arg)
{
    struct router *r = arg;
    if (!r->cfg->suppress_headers)
        mz_headers_set(h,
                       r->dropped_all ? MZ_STR("x-envoy-unconditional-drop-overload")
                                      : MZ_STR("x-envoy-drop-overload"),
                       MZ_STR("true"));
}

/* The control plane lets a part of the cluster's requests go (drop_overloads). */
static bool dropped(struct router *r)
{
    uint32_t part = __atomic_load_n(&r->cluster->drop_millionths, __ATOMIC_RELAXED);
    bool all = part >= 1000000;
    if (MZ_LIKELY(!part) || (!all && mz_rand_below(mz_loop_rand(loop_of(r)), 1000000) >= part))
        return false;
    r->dropped_all = all;
    charge_code(r, 503, NULL, NULL);
    mz_stream_local_reply(
        stream_of(r),
        &(struct mz_local_reply){
            .status = 503,
            .body = all ? MZ_STR("unconditional drop overload") : MZ_STR("drop overload"),
            .details = all ? "unconditional_drop_overload" : "drop_overload",
            .flags = all ? MZ_FLAG(UNCONDITIONAL_DROP_OVERLOAD) : MZ_FLAG(DROP_OVERLOAD),
            .modify = drop_header,
            .modify_arg = r });
    return true;
}

/* The upstream's name for TLS is the request's host, as the route rewrote it (Envoy). */
static void names_of_request(struct router *r, const struct mz_headers *h)
{
    const struct mz_auto_sni *a = mz_cluster_auto_sni(r->cluster);
    struct mz_addr ip;
    if (!a)
        return;
    const struct mz_header *named = a->header.n ? mz_headers_get(h, a->header) : NULL;
    struct mz_str v =
        named && named->value.n ? named->value : mz_headers_value_id(h, MZ_H_AUTHORITY);
    const char *end = v.n ? memrchr(v.p, ':', v.n) : NULL;
    if (end && !memchr(end, ']', (size_t)(v.p + v.n - end)))
        v.n = (size_t)(end - v.p); /* the port */
    if (v.n > 2 && v.p[0] == '[' && v.p[v.n - 1] == ']')
        v = (struct mz_str){ v.p + 1, v.n - 2 };
    v = mz_arena_dup(mz_stream_arena(stream_of(r)), v);
    if (a->sni && v.n && v.n <= SNI_MAX && !mz_addr_parse_ip(v, 0, &ip))
        r->auto_sni = v;
    if (a->san)
        r->auto_san = v;
}

static void prepare_headers(struct router *r)
{
    struct mz_stream *s = stream_of(r);
    struct mz_stream_info *info = info_of(r);
    struct mz_headers *h = r->headers;
    struct mz_arena *a = mz_stream_arena(s);
    bool insert = !r->cfg->suppress_headers;
    mz_timeouts_read(r->route, h, r->grpc, r->cfg->respect_expected, &r->times);
    r->vcluster = mz_vhost_vcluster(r->route->vhost, h, &info->route.vcluster_name);
    mz_retry_init(&r->retry, r->route, h, r->cluster, r->priority, r->vcluster, r->route->scope,
                  mz_loop_rand(loop_of(r)), a);
    r->retry_ready = true;
    if (r->route->n_hash && mz_wcluster_hashes(r->wcluster)) {
        const struct mz_hash_from from = { &info->remote, &mz_stream_downstream(s)->conn->remote,
                                           &mz_stream_downstream(s)->local_restored,
                                           info->filter_state };
        r->has_hash = mz_route_hash(r->route, h, &from, a, &r->hash, &r->set_cookie);
    }
    struct mz_format_ctx ctx = { .info = info, .req = h };
    mz_timeouts_write(&r->times, r->route, h, r->grpc, insert, 0);
    info->attempts = 1; /* as the first try will find it */
    router_write_attempt(r, 1);
    mz_route_finalize_request(r->route, r->weighted, h, &ctx, a, insert);
    if (MZ_UNLIKELY(r->cluster->transport_uses & MZ_TRANSPORT_USES_NAMES))
        names_of_request(r, h);
    struct mz_header *alt = mz_headers_get_id(h, MZ_H_X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    if (MZ_UNLIKELY(alt != NULL)) {
        r->alt = mz_cluster_alt_scope(r->cluster, alt->value);
        mz_headers_remove_id(h, MZ_H_X_ENVOY_UPSTREAM_ALT_STAT_NAME);
    }
    if (mz_stream_scheme_of_upstream(s))
        mz_headers_set_id(h, MZ_H_SCHEME,
                          r->cluster->transport->secure ? MZ_STR("https") : MZ_STR("http"));
    router_note(r, TIMEOUT, MZ_STR(""),
                r->times.from_header ? MZ_STR("from the request's header") : MZ_STR("of the route"),
                r->times.global_ms, 0);
    if (r->times.per_try_ms)
        mz_stream_story(s, MZ_STEP_TRY_TIMEOUT, MZ_STR(""), MZ_STR(""),
                        (int64_t)r->times.per_try_ms, 0);
}

static void choose_mirrors(struct router *r)
{
    struct mz_rand *rand = mz_loop_rand(loop_of(r));
    for (uint32_t i = 0; i < r->route->n_mirrors && i < 32; i++)
        if (mz_runtime_fraction(mz_runtime_here(), &r->route->mirrors[i].fraction,
                                mz_rand_u64(rand)))
            r->mirrors_mask |= 1u << i;
}

static void on_timeout(struct mz_timer *t)
{
    reply_timeout(MZ_CONTAINER(t, struct router, timeout_timer));
}

static void on_backoff(struct mz_timer *t)
{
    struct router *r = MZ_CONTAINER(t, struct router, backoff_timer);
    r->backing_off = false;
    mz_retry_begins(&r->retry);
    attempt_start(r);
}

static void request_complete(struct router *r)
{
    r->request_end = true;
    r->request_end_us = now_of(r);
    if (r->mirrors_mask)
        mirrors_send(r);
    if (r->finished)
        return;
    if (r->times.global_ms)
        mz_timer_start_ms(&r->timeout_timer, r->times.global_ms);
    mz_list_foreach (it, &r->attempts)
        attempt_request_complete(MZ_CONTAINER(it, struct attempt, link));
}

static void init(struct router *r, struct mz_headers *h)
{
    r->cfg = r->base.cfg;
    r->headers = h;
    r->start_us = now_of(r);
    mz_list_init(&r->attempts);
    mz_buf_init(&r->body);
    mz_timer_init(loop_of(r), &r->timeout_timer, on_timeout);
    mz_timer_init(loop_of(r), &r->backoff_timer, on_backoff);
    struct mz_str method = mz_headers_method(h);
    r->grpc = mz_is_grpc(h);
    r->is_head = mz_str_eq(method, MZ_STR("HEAD"));
    r->is_upgrade =
        mz_headers_get_id(h, MZ_H_UPGRADE) != NULL || mz_str_eq(method, MZ_STR("CONNECT"));
}

/* How many tries at once the route wants. */
static uint32_t first_tries(const struct router *r)
{
    const struct mz_hedge_policy *p = r->route->hedge;
    if (!p->set)
        return 1;
    return p->initial_requests +
           (p->additional.denominator &&
            mz_runtime_fraction(mz_runtime_here(), &p->additional, mz_stream_random(stream_of(r))));
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct router *r = from_filter(f);
    init(r, h);
    mz_count(r->cfg->scope, MZ_RS_TOTAL, 1);
    r->route = mz_stream_route(f->stream);
    if (!r->route)
        return no_route(r);
    if (r->route->action == MZ_ACTION_REDIRECT || r->route->action == MZ_ACTION_DIRECT)
        return direct(r);
    struct mz_str name = { NULL, 0 };
    if (r->route->action != MZ_ACTION_CLUSTER || !find_cluster(r, &name))
        return no_cluster(r, name);
    if (!check_strict(r) || maintenance(r) || dropped(r))
        return MZ_FLOW_STOP;
    r->priority = r->route->priority_high ? MZ_PRIORITY_HIGH : MZ_PRIORITY_DEFAULT;
    prepare_headers(r);
    choose_mirrors(r);
    r->keep_body = !end && !r->is_upgrade &&
                   (mz_retry_active(&r->retry) || r->mirrors_mask ||
                    r->route->internal_redirect->enabled || r->times.hedge_on_try_timeout);
    r->request_end = end;
    struct mz_ticket ticket = mz_stream_ticket(f->stream);
    uint32_t tries = first_tries(r);
    for (uint32_t i = 0; i < tries && !r->finished && mz_stream_by_ticket(ticket) == f->stream; i++)
        attempt_start(r);
    if (mz_stream_by_ticket(ticket) && end && !r->finished)
        request_complete(r);
    return MZ_FLOW_STOP;
}

/* The body can be kept no longer: no retry, mirror or redirect can use it. */
static void abandon_body(struct router *r)
{
    r->keep_body = false;
    r->mirrors_mask = 0;
    mz_count(r->cluster->scope, MZ_CS_RETRY_OR_SHADOW_ABANDONED, 1);
    mz_retry_abandon(&r->retry);
    mz_list_foreach (it, &r->attempts) {
        struct attempt *a = MZ_CONTAINER(it, struct attempt, link);
        if (!a->started)
            mz_buf_copy(&a->queued, &r->body);
    }
    mz_buf_fini(&r->body);
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct router *r = from_filter(f);
    if (r->finished) {
        mz_buf_drain(data, mz_buf_len(data));
        return MZ_FLOW_STOP;
    }
    uint64_t limit =
        r->route->buffer_limit_set ? r->route->buffer_limit : mz_stream_buffer_limit(f->stream);
    if (r->keep_body) {
        if (limit && mz_buf_len(&r->body) + mz_buf_len(data) > limit)
            abandon_body(r);
        else
            mz_buf_copy(&r->body, data);
    }
    r->request_end |= end;
    struct mz_ticket ticket = mz_stream_ticket(f->stream);
    mz_list_foreach (it, &r->attempts) {
        struct mz_buf part;
        mz_buf_init(&part);
        if (it_next == &r->attempts)
            mz_buf_move_all(&part, data);
        else
            mz_buf_copy(&part, data);
        attempt_body(MZ_CONTAINER(it, struct attempt, link), &part, end);
        mz_buf_fini(&part);
        if (!mz_stream_by_ticket(ticket) || r->finished)
            return MZ_FLOW_STOP;
    }
    mz_buf_drain(data, mz_buf_len(data));
    if (end)
        request_complete(r);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    struct router *r = from_filter(f);
    if (r->finished)
        return MZ_FLOW_STOP;
    r->trailers = h;
    r->request_end = true;
    struct mz_ticket ticket = mz_stream_ticket(f->stream);
    mz_list_foreach (it, &r->attempts) {
        attempt_trailers(MZ_CONTAINER(it, struct attempt, link));
        if (!mz_stream_by_ticket(ticket) || r->finished)
            return MZ_FLOW_STOP;
    }
    request_complete(r);
    return MZ_FLOW_STOP;
}

static void on_above_high(struct mz_filter *f)
{
    struct router *r = from_filter(f);
    r->down_above = true;
    if (r->final)
        attempt_read_disable(r->final, true);
}

static void on_below_low(struct mz_filter *f)
{
    struct router *r = from_filter(f);
    r->down_above = false;
    if (r->final)
        attempt_read_disable(r->final, false);
}

static void on_stream_done(struct mz_filter *f)
{
    struct router *r = from_filter(f);
    if (r->cfg && r->final)
        attempt_keep_counts(r->final);
}

static void on_destroy(struct mz_filter *f)
{
    struct router *r = from_filter(f);
    if (!r->cfg)
        return; /* never saw a request */
    r->finished = true;
    mz_timer_stop(&r->timeout_timer);
    mz_timer_stop(&r->backoff_timer);
    mz_list_foreach (it, &r->attempts)
        attempt_drop(MZ_CONTAINER(it, struct attempt, link));
    mz_host_unref(r->last_host);
    r->last_host = NULL;
    mz_buf_fini(&r->body);
    if (r->retry_ready)
        mz_retry_fini(&r->retry);
    if (r->cluster)
        mz_cluster_unref(r->cluster);
    if (r->wcluster)
        mz_wcluster_unref(r->wcluster);
    r->cluster = NULL;
    r->wcluster = NULL;
}

/* ---- configuration ---- */

static bool valid_u64(struct mz_str v)
{
    uint64_t n;
    return mz_str_u64(v, &n);
}

static bool valid_retry_on(struct mz_str v)
{
    unsigned unknown = 0;
    mz_retry_on_parse(v, MZ_RETRY_FAMILY_HTTP, &unknown);
    return unknown == 0;
}

static bool valid_retry_grpc_on(struct mz_str v)
{
    unsigned unknown = 0;
    mz_retry_on_parse(v, MZ_RETRY_FAMILY_GRPC, &unknown);
    return unknown == 0;
}

static bool strict_build(const pb_Router *m, struct router_cfg *c, struct mz_err *err)
{
    static const struct strict_check known[] = {
        { MZ_H_X_ENVOY_UPSTREAM_RQ_TIMEOUT_MS, valid_u64 },
        { MZ_H_X_ENVOY_UPSTREAM_RQ_PER_TRY_TIMEOUT_MS, valid_u64 },
        { MZ_H_X_ENVOY_MAX_RETRIES, valid_u64 },
        { MZ_H_X_ENVOY_RETRY_GRPC_ON, valid_retry_grpc_on },
        { MZ_H_X_ENVOY_RETRY_ON, valid_retry_on },
    };
    for (size_t i = 0; i < m->n_strict_check_headers; i++) {
        size_t k = 0;
        while (k < MZ_COUNT(known) && !mz_str_eq(mz_header_name((enum mz_header_id)known[k].id),
                                                 mz_str_c(m->strict_check_headers[i])))
            k++;
        if (k == MZ_COUNT(known)) {
            mz_err_set(err,
                       "\"%s\" is not one of the headers that can be checked "
                       "(x-envoy-upstream-rq-timeout-ms, ...)",
                       m->strict_check_headers[i]);
            return mz_err_at(err, "strict_check_headers[%zu]", i);
        }
        if (c->n_strict < MZ_COUNT(c->strict))
            c->strict[c->n_strict++] = known[k];
    }
    return true;
}

static void config_destroy(void *cfg)
{
    struct router_cfg *c = cfg;
    for (size_t i = 0; i < c->n_logs; i++)
        mz_access_log_destroy(c->logs[i]);
    mz_free(MZ_MEM_CONFIG, c->logs);
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_CONFIG, c);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_Router *m = msg;
    struct router_cfg *c = mz_new0(MZ_MEM_CONFIG, struct router_cfg);
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    c->scope = mz_scope_create(
        f->stats, &mz_router_stats,
        mz_arena_cat(a, 3, (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix, MZ_STR(".") }));
    mz_arena_destroy(a);
    c->dynamic_stats = mz_bool_or(m->dynamic_stats, true);
    c->suppress_headers = m->suppress_envoy_headers;
    c->respect_expected = m->respect_expected_rq_timeout;
    c->suppress_grpc_failure_codes = m->suppress_grpc_request_failure_code_stats;
    bool ok = strict_build(m, c, err);
    c->logs = mz_newn0(MZ_MEM_CONFIG, struct mz_access_log *, m->n_upstream_log);
    for (size_t i = 0; ok && i < m->n_upstream_log; i++) {
        c->logs[i] = mz_access_log_create(m->upstream_log[i], f->log_files, err);
        ok = c->logs[i] || mz_err_at(err, "upstream_log[%zu]", i);
        c->n_logs += c->logs[i] != NULL;
    }
    if (ok)
        return c;
    config_destroy(c);
    return NULL;
}

const struct mz_http_filter_type mz_filter_router = {
    .name = "envoy.filters.http.router",
    .config_type = "envoy.extensions.filters.http.router.v3.Router",
    .terminal = true,
    .size = sizeof(struct router),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_downstream_above_high = on_above_high,
    .on_downstream_below_low = on_below_low,
    .on_stream_done = on_stream_done,
    .on_destroy = on_destroy,
};
