#include "hcm/hcm_priv.h"

#include "hcm/trace.h"
#include "http/grpc.h"
#include "listener/listener_filter.h"
#include "upstream/cluster.h"

#include <string.h>

/* One request: from its first byte to the access log. Lives in its own arena, on its connection's loop. */

uint64_t stream_now(const struct mz_stream *s)
{
    return mz_loop_now_us(conn_loop(s->conn));
}

static uint64_t next_stream_id(void)
{
    static _Thread_local uint64_t last;
    if (!last)
        mz_rand_system(&last, sizeof(last)); /* ids of different workers do not meet */
    last = last * 6364136223846793005ull + 1442695040888963407ull;
    return last ? last : 1;
}

/* ---- late completions ---- */

static _Thread_local struct {
    struct ticket_slot {
        struct mz_stream *s;
        uint32_t generation, next_free;
    } * v;
    uint32_t n, cap, free; /* free: index + 1 of the first free slot */
} tickets;

struct mz_ticket mz_stream_ticket(struct mz_stream *s)
{
    if (!s->ticket_slot) {
        uint32_t i = tickets.free;
        if (i) {
            tickets.free = tickets.v[i - 1].next_free;
        } else {
            if (tickets.n == tickets.cap) {
                tickets.cap = tickets.cap ? tickets.cap * 2 : 64;
                tickets.v =
                    mz_realloc(MZ_MEM_CONN, tickets.v, mz_mul(tickets.cap, sizeof(*tickets.v)));
            }
            i = ++tickets.n;
            tickets.v[i - 1].generation = 0;
        }
        tickets.v[i - 1].s = s;
        s->ticket_slot = i;
    }
    return (struct mz_ticket){ s->ticket_slot, tickets.v[s->ticket_slot - 1].generation };
}

struct mz_stream *mz_stream_by_ticket(struct mz_ticket t)
{
    if (t.slot == 0 || t.slot > tickets.n || tickets.v[t.slot - 1].generation != t.generation)
        return NULL;
    return tickets.v[t.slot - 1].s;
}

static void ticket_drop(struct mz_stream *s)
{
    if (!s->ticket_slot)
        return;
    struct ticket_slot *t = &tickets.v[s->ticket_slot - 1];
    t->generation++;
    t->s = NULL;
    t->next_free = tickets.free;
    tickets.free = s->ticket_slot;
    s->ticket_slot = 0;
}

void mz_stream_thread_trim(void)
{
    mz_free(MZ_MEM_CONN, tickets.v);
    tickets.v = NULL;
    tickets.n = tickets.cap = tickets.free = 0;
}

/* ---- timers ---- */

static struct mz_stream *from_timer(struct mz_timer *t, size_t offset)
{
    return (struct mz_stream *)(void *)((char *)t - offset);
}

void stream_idle_arm(struct mz_stream *s)
{
    if (s->idle_timeout_ms &&
        !s->dead) /* a body may come behind a stream that ended at its headers */
        mz_timer_start_ms(&s->idle_timer, s->idle_timeout_ms);
}

static void on_idle(struct mz_timer *t)
{
    struct mz_stream *s = from_timer(t, offsetof(struct mz_stream, idle_timer));
    uint64_t idle_us = stream_now(s) - s->touched_us, limit_us = s->idle_timeout_ms * 1000;
    if (idle_us < limit_us) { /* something moved since it was armed */
        mz_timer_start_us(&s->idle_timer, limit_us - idle_us);
        return;
    }
    hcm_count(s->conn, MZ_HS_RQ_IDLE_TIMEOUT);
    mz_stream_story(s, MZ_STEP_TIMED_OUT, MZ_STR("the stream's idle time"), MZ_STR(""), 0,
                    (int64_t)s->idle_timeout_ms);
    mz_info_flag(&s->info, MZ_FLAG(STREAM_IDLE_TIMEOUT));
    if (s->responding) {
        mz_stream_reset(s, "stream_idle_timeout");
        return;
    }
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = s->remote_end ? 504 : 408,
                                                       .body = MZ_STR("stream timeout"),
                                                       .details = "stream_idle_timeout" });
}

static void on_request_timeout(struct mz_timer *t)
{
    struct mz_stream *s = from_timer(t, offsetof(struct mz_stream, request_timer));
    hcm_count(s->conn, MZ_HS_RQ_TIMEOUT);
    mz_stream_story(s, MZ_STEP_TIMED_OUT, MZ_STR("receiving the request"), MZ_STR(""), 0,
                    (int64_t)s->conn->cfg->request_timeout_ms);
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 408,
                                                       .body = MZ_STR("request timeout"),
                                                       .details = "request_overall_timeout" });
}

static void on_headers_timeout(struct mz_timer *t)
{
    struct mz_stream *s = from_timer(t, offsetof(struct mz_stream, headers_timer));
    hcm_count(s->conn, MZ_HS_RQ_HEADER_TIMEOUT);
    mz_stream_story(s, MZ_STEP_TIMED_OUT, MZ_STR("receiving the request's head"), MZ_STR(""), 0,
                    (int64_t)s->conn->cfg->request_headers_timeout_ms);
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = 408,
                                                       .body = MZ_STR("request header timeout"),
                                                       .details = "request_header_timeout" });
}

static void on_max_duration(struct mz_timer *t)
{
    struct mz_stream *s = from_timer(t, offsetof(struct mz_stream, duration_timer));
    hcm_count(s->conn, MZ_HS_RQ_MAX_DURATION_REACHED);
    mz_stream_story(s, MZ_STEP_TIMED_OUT, MZ_STR("the stream's longest duration"), MZ_STR(""), 0,
                    0);
    if (s->responding) {
        mz_stream_reset(s, "max_duration_timeout");
        return;
    }
    mz_stream_local_reply(s,
                          &(struct mz_local_reply){ .status = s->remote_end ? 504 : 408,
                                                    .body = MZ_STR("downstream duration timeout"),
                                                    .details = "max_duration_timeout",
                                                    .has_grpc_status = true,
                                                    .grpc_status = 4 /* DEADLINE_EXCEEDED */ });
}

static void stop_timers(struct mz_stream *s)
{
    mz_timer_stop(&s->idle_timer);
    mz_timer_stop(&s->request_timer);
    mz_timer_stop(&s->headers_timer);
    mz_timer_stop(&s->duration_timer);
    mz_timer_stop(&s->log_timer);
}

static void start_timers(struct mz_stream *s)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    struct mz_loop *l = conn_loop(s->conn);
    mz_timer_init(l, &s->idle_timer, on_idle);
    mz_timer_init(l, &s->request_timer, on_request_timeout);
    mz_timer_init(l, &s->headers_timer, on_headers_timeout);
    mz_timer_init(l, &s->duration_timer, on_max_duration);
    s->idle_timeout_ms = c->stream_idle_timeout_ms;
    stream_touch(s);
    if (c->request_timeout_ms)
        mz_timer_start_ms(&s->request_timer, c->request_timeout_ms);
    if (c->request_headers_timeout_ms)
        mz_timer_start_ms(&s->headers_timer, c->request_headers_timeout_ms);
    if (c->max_stream_duration_ms)
        mz_timer_start_ms(&s->duration_timer, c->max_stream_duration_ms);
    log_begin(s);
}

/*
 * How long the stream may live: what the caller's grpc-timeout asks for within the route's limits, else the route's
 * duration, else the manager's. The upstream learns it by grpc-timeout (H8).
 */
static void apply_duration(struct mz_stream *s, const struct mz_route *r)
{
    uint64_t ms, asked = 0, max = r->grpc_timeout_header_max.ms;
    bool asks = s->req.headers && mz_grpc_timeout_ms(s->req.headers, &asked);
    if (asks && r->grpc_timeout_header_max.set) {
        ms = max && asked > max ? max : asked;
        if (r->grpc_timeout_header_offset.set)
            ms -= r->grpc_timeout_header_offset.ms < ms ? r->grpc_timeout_header_offset.ms : ms;
    } else {
        ms = r->max_stream_duration.set ? r->max_stream_duration.ms
                                        : s->conn->cfg->max_stream_duration_ms;
        if (!ms) {
            mz_timer_stop(&s->duration_timer);
            return;
        }
    }
    if (r->new_timeouts && s->req.headers && mz_is_grpc(s->req.headers))
        mz_grpc_timeout_set(s->req.headers, ms);
    uint64_t gone_ms = (stream_now(s) - s->info.start_us) / 1000;
    mz_timer_start_ms(&s->duration_timer, ms > gone_ms ? ms - gone_ms : 0);
}

/* What the route says about times replaces the manager's. */
static void apply_route_times(struct mz_stream *s)
{
    const struct mz_route *r = s->route;
    if (!r || s->dead)
        return;
    if (r->idle_timeout.set) {
        s->idle_timeout_ms = r->idle_timeout.ms;
        mz_timer_stop(&s->idle_timer);
        stream_touch(s);
    }
    apply_duration(s, r);
}

/* ---- route ---- */

static struct mz_route_query route_query(struct mz_stream *s)
{
    return (struct mz_route_query){ .h = s->req.headers,
                                    .secure = s->info.secure,
                                    .internal = s->internal,
                                    .random = s->random,
                                    .dynamic_metadata = s->info.dynamic_metadata,
                                    .info = &s->info,
                                    .arena = s->arena,
                                    .decision = s->info.decision,
                                    .now_us = stream_now(s) };
}

static void drop_cluster(struct mz_stream *s)
{
    if (s->wcluster)
        mz_wcluster_unref(s->wcluster);
    s->wcluster = NULL;
}

/* The route's cluster, held as long as the stream may use it: a filter may wait before the router asks. */
static void find_cluster(struct mz_stream *s)
{
    drop_cluster(s);
    s->weighted = NULL;
    s->cluster_name = MZ_STR("");
    s->info.route.cluster_name = s->info.route.cluster_raw = MZ_STR("");
    if (!s->route || s->route->action != MZ_ACTION_CLUSTER)
        return;
    struct mz_route_query q = route_query(s);
    if (!mz_route_cluster(s->route, &q, &s->cluster_name, &s->weighted))
        return;
    s->wcluster = mz_upstream_find(s->conn->base.worker->upstream, s->cluster_name);
    const struct mz_cluster *c = s->wcluster ? mz_wcluster_info(s->wcluster) : NULL;
    if (!c)
        return;
    mz_wcluster_ref(s->wcluster);
    s->info.route.cluster_name = c->stat_name;
    s->info.route.cluster_raw = c->name;
    s->info.up.cluster_stat_name = c->stat_name;
    s->info.up.cluster_metadata = c->metadata;
    mz_cluster_show_members(c, &s->info);
}

struct mz_wcluster *mz_stream_cluster(struct mz_stream *s, struct mz_str *out_name,
                                      const struct mz_weighted_cluster **out_weighted)
{
    *out_name = s->cluster_name;
    *out_weighted = s->weighted;
    return s->wcluster;
}

/* What the table of before gave stays as long as the stream may point there. */
static void take_routes(struct mz_stream *s, const struct mz_route_table *t)
{
    if (t == s->routes)
        return;
    if (s->routes) {
        struct held_table *old = mz_arena_new0(s->arena, struct held_table);
        *old = (struct held_table){ s->held_tables, s->routes };
        s->held_tables = old;
    }
    s->routes = t ? mz_route_table_ref(t) : NULL;
}

/* The request's scope, as its headers are now. */
static void choose_scope(struct mz_stream *s)
{
    take_routes(s, mz_srds_table(s->conn->cfg->srds, s->req.headers, s->arena));
}

void mz_stream_renew_routes(struct mz_stream *s)
{
    if (!s->conn->cfg->srds)
        take_routes(s, hcm_routes(s->conn->cfg));
    mz_stream_clear_route_cache(s);
}

#define HOST_MAX_BYTES 255

static bool demand_vhost(struct mz_stream *s, struct mz_rds *rds, struct mz_discovery_wait *w,
                         void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    struct mz_str host = mz_headers_value_id(s->req.headers, MZ_H_AUTHORITY);
    if (!rds || !mz_route_table_on_demand(s->routes) || !host.n || host.n > HOST_MAX_BYTES ||
        mz_route_table_serves(s->routes, host, s->arena))
        return false;
    char *low = mz_arena_alloc(s->arena, host.n);
    for (size_t i = 0; i < host.n; i++) {
        low[i] = mz_lower(host.p[i]);
        if (low[i] <= ' ' || low[i] > '~' || low[i] == '/') /* no name of a resource */
            return false;
    }
    mz_rds_demand(rds, s->conn->base.worker->upstream, (struct mz_str){ low, host.n }, w, done);
    return true;
}

bool mz_stream_demand_routes(struct mz_stream *s, struct mz_discovery_wait *w,
                             void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    struct mz_srds *scopes = s->conn->cfg->srds;
    if (s->routes)
        return demand_vhost(
            s, scopes ? mz_srds_rds(scopes, s->req.headers, s->arena) : s->conn->cfg->rds, w, done);
    return scopes && mz_srds_demand(scopes, s->req.headers, s->arena,
                                    s->conn->base.worker->upstream, w, done);
}

bool stream_refresh_route(struct mz_stream *s)
{
    if (MZ_UNLIKELY(s->conn->cfg->srds != NULL) && s->req.headers)
        choose_scope(s);
    s->route_cached = true;
    s->route = NULL;
    if (s->routes && s->req.headers) {
        struct mz_route_query q = route_query(s);
        s->route = mz_route_table_match(s->routes, &q);
    }
    const struct mz_route *r = s->route;
    s->info.route.route_name = r ? r->name : MZ_STR("");
    s->info.route.vhost_name = r && r->vhost ? r->vhost->name : MZ_STR("");
    s->info.route_metadata = r ? r->metadata : NULL;
    s->info.vhost_metadata = r && r->vhost ? r->vhost->metadata : NULL;
    find_cluster(s);
    if (s->chain_made)
        chain_route_changed(s);
    apply_route_times(s);
    if (r && r->buffer_limit_set)
        s->buffer_limit = r->buffer_limit > UINT32_MAX ? UINT32_MAX : (uint32_t)r->buffer_limit;
    return r != NULL;
}

const struct mz_route *mz_stream_route(struct mz_stream *s)
{
    if (!s->route_cached)
        stream_refresh_route(s);
    return s->route;
}

void mz_stream_clear_route_cache(struct mz_stream *s)
{
    s->route_cached = false;
    s->route = NULL;
}

/* ---- flow control (H7) ---- */

void stream_read_disable(struct mz_stream *s, bool disable)
{
    hcm_count(s->conn, disable ? MZ_HS_FLOW_PAUSED : MZ_HS_FLOW_RESUMED);
    if (disable ? s->read_disables++ != 0 : --s->read_disables != 0)
        return;
    if (!disable && !s->dead)
        chain_request_resumed(s);
    if (!s->codec_done)
        s->enc->ops->read_disable(s->enc, disable);
}

bool mz_stream_request_paused(const struct mz_stream *s)
{
    return s->read_disables > 0;
}

bool mz_stream_response_paused(const struct mz_stream *s)
{
    return s->down_above > 0;
}

void mz_stream_request_read_disable(struct mz_stream *s, bool disable)
{
    if (!s->dead)
        stream_read_disable(s, disable);
}

void stream_down_above(struct mz_stream *s)
{
    if (s->down_above++ == 0 && !s->dead)
        chain_down_above(s);
}

void stream_down_below(struct mz_stream *s)
{
    if (--s->down_above == 0 && !s->dead)
        chain_down_below(s);
}

static void on_above_high(void *arg)
{
    stream_down_above(arg);
}

static void on_below_low(void *arg)
{
    stream_down_below(arg);
}

/* ---- the request comes in ---- */

static bool upgrade_allowed(struct mz_stream *s, struct mz_str type,
                            const struct filter_list **out_list)
{
    const struct mz_hcm_config *c = s->conn->cfg;
    const struct upgrade_entry *own = NULL;
    for (size_t i = 0; i < c->n_upgrades; i++)
        if (mz_str_ieq(c->upgrades[i].type, type))
            own = &c->upgrades[i];
    bool ok = own && own->enabled;
    for (size_t i = 0; s->route && i < s->route->n_upgrades; i++)
        if (mz_str_ieq(s->route->upgrades[i].type, type))
            ok = s->route->upgrades[i].enabled;
    if (own && own->own_filters)
        *out_list = &own->filters;
    return ok;
}

/* The chain for this request; upgrades may have a chain of their own, or be refused. */
static bool make_chain(struct mz_stream *s)
{
    const struct filter_list *list = &s->conn->cfg->filters;
    struct mz_str type = MZ_STR("");
    if (s->is_upgrade)
        type = mz_headers_value_id(s->req.headers, MZ_H_UPGRADE);
    else if (s->is_connect)
        type = MZ_STR("CONNECT");
    bool ok = !type.n || upgrade_allowed(s, type, &list);
    chain_make(s, list);
    if (ok) {
        if (type.n) {
            s->upgrade_accepted = true;
            hcm_count(s->conn, MZ_HS_CX_UPGRADES_TOTAL);
            mz_gauge_add(s->conn->cfg->scope, MZ_HS_CX_UPGRADES_ACTIVE, 1);
        }
        return true;
    }
    if (s->is_connect && !s->route)
        return true; /* the router answers 404 */
    hcm_count(s->conn, MZ_HS_RQ_WS_ON_NON_WS);
    s->needs_close = s->conn->codec->protocol < MZ_HTTP2;
    mz_stream_local_reply(s,
                          &(struct mz_local_reply){ .status = 403, .details = "upgrade_failed" });
    return false;
}

static bool has_upgrade(const struct mz_headers *h)
{
    struct mz_header *up = mz_headers_get_id(h, MZ_H_UPGRADE);
    if (!up)
        return false;
    for (struct mz_header *e = mz_headers_get_id(h, MZ_H_CONNECTION); e;
         e = mz_headers_next(h, e)) {
        struct mz_str rest = e->value;
        for (struct mz_str part; mz_str_split(&rest, ',', &part);)
            if (mz_str_ieq(mz_str_trim(part), MZ_STR("upgrade")))
                return true;
    }
    return false;
}

static void classify(struct mz_stream *s, struct mz_headers *h)
{
    struct mz_str method = mz_headers_method(h);
    s->is_head = mz_str_eq(method, MZ_STR("HEAD"));
    s->is_connect = mz_str_eq(method, MZ_STR("CONNECT"));
    s->is_upgrade = !s->is_connect && has_upgrade(h);
    s->is_grpc = mz_is_grpc(h);
}

static void log_request(struct mz_stream *s, const struct mz_headers *h, bool end)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_headers_foreach(e, h)
        mz_buf_printf(&b, "%s'" MZ_STR_FMT "', '" MZ_STR_FMT "'", mz_buf_len(&b) ? "\n" : "",
                      MZ_STR_ARG(e->name), MZ_STR_ARG(e->value));
    struct mz_str text = mz_buf_linearize(&b, mz_buf_len(&b));
    mz_log_write(MZ_LOG_C_http, MZ_LOG_DEBUG, s->info.conn_id, s->id, __FILE__, __LINE__,
                 "request headers complete (end_stream=%s):\n" MZ_STR_FMT, end ? "true" : "false",
                 MZ_STR_ARG(text));
    mz_buf_fini(&b);
}

static void request_ended(struct mz_stream *s)
{
    s->remote_end = s->req.ended = true;
    s->info.rx_end_us = stream_now(s);
    mz_timer_stop(&s->request_timer);
}

/* Headers are there and sane: manager's work, route, chain. Also the entry of a stream that begins anew. */
static void process_headers(struct mz_stream *s, struct mz_headers *h, bool end)
{
    uint32_t epoch = s->epoch;
    s->req.headers = h;
    s->info.req = h;
    s->info.rx_head_us = stream_now(s);
    if (MZ_UNLIKELY(s->conn->cfg->srds !=
                    NULL)) /* the table says which headers a client may not set */
        choose_scope(s);
    classify(s, h);
    /* A redirect's host and path may be spelled in any way too (C18); the rest was done when the request came. */
    if (mutate_check_request(s, h) != MUTATE_OK)
        return;
    if (!s->is_internal_created && mutate_request(s, h) != MUTATE_OK)
        return;
    s->trace = !s->conn->cfg->admin && mz_trace_matches(h, s->info.conn_id);
    if (s->trace || mz_log_on(MZ_LOG_C_http, MZ_LOG_DEBUG))
        log_request(s, h, end);
    stream_refresh_route(s);
    if (s->conn->cfg->tracing)
        tracing_request(s, h);
    if (s->conn->cfg->log_on_new_request)
        log_write(s, "DownstreamStart");
    if (!make_chain(s) || s->dead || s->epoch != epoch)
        return;
    chain_request_headers(s, h, end && !s->is_upgrade && !s->is_connect);
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct mz_stream *s = arg;
    stream_touch(s);
    mz_timer_stop(&s->headers_timer);
    s->info.protocol = s->conn->codec->protocol;
    if (end)
        request_ended(s);
    s->req.headers = h;
    s->info.req = h;
    if (!s->conn->cfg->proxy_100_continue) {
        struct mz_header *e = mz_headers_get_id(h, MZ_H_EXPECT);
        if (e && mz_str_ieq(e->value, MZ_STR("100-continue"))) {
            respond_continue(s);
            mz_headers_remove_id(h, MZ_H_EXPECT);
        }
    }
    process_headers(s, h, end);
    stream_maybe_finish(s);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct mz_stream *s = arg;
    stream_touch(s);
    s->info.rx_body += mz_buf_len(data);
    if (end)
        request_ended(s);
    if (s->local_replying || s->dead || s->local_end)
        mz_buf_drain(data, mz_buf_len(data));
    else if (s->chain_made)
        chain_request_data(s, data, end);
    stream_maybe_finish(s);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct mz_stream *s = arg;
    stream_touch(s);
    request_ended(s);
    s->info.req_trailers = h;
    if (!s->local_replying && s->chain_made)
        chain_request_trailers(s, h);
    stream_maybe_finish(s);
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct mz_stream *s = arg;
    if (s->dead)
        return;
    s->codec_done = true;
    hcm_count(s->conn, MZ_HS_RQ_RX_RESET);
    if (!s->info.details)
        s->info.details = details;
    if (r == MZ_RESET_REMOTE || r == MZ_RESET_REMOTE_REFUSED)
        mz_info_flag(&s->info, MZ_FLAG(DOWNSTREAM_REMOTE_RESET));
    else if (r == MZ_RESET_PROTOCOL_ERROR)
        mz_info_flag(&s->info, MZ_FLAG(DOWNSTREAM_PROTOCOL_ERROR));
    mz_stream_story(s, MZ_STEP_CLIENT_GONE, mz_str_c(""), mz_str_c(mz_reset_reason_text(r)), 0, 0);
    stream_end(s);
}

static const struct mz_stream_in_ops in_ops = { .on_headers = on_headers,
                                                .on_data = on_data,
                                                .on_trailers = on_trailers,
                                                .on_reset = on_reset,
                                                .on_above_high = on_above_high,
                                                .on_below_low = on_below_low };

/* ---- life ---- */

static void info_init(struct mz_stream *s)
{
    const struct mz_downstream *d = s->conn->base.down;
    struct mz_stream_info *i = &s->info;
    i->arena = s->arena;
    i->protocol = s->conn->codec->protocol;
    i->has_protocol = true;
    i->start_us = stream_now(s);
    i->cx_start_us = d->start_us;
    i->start_wall_us = mz_loop_wall_us(conn_loop(s->conn));
    i->filter_chain_name = d->chain_name;
    i->listener_name = d->listener_name;
    i->listener_metadata = d->listener_metadata;
    i->listener_direction = d->direction;
    i->sni = d->sni;
    if (d->found) { /* by listener filters; others add to a copy of the metadata */
        i->ja3 = d->found->ja3;
        i->ja4 = d->found->ja4;
        if (d->found->metadata)
            i->dynamic_metadata = mz_meta_clone(d->found->metadata, s->arena);
    }
    if (d->info)
        mz_info_inherit_state(i, d->info->filter_state);
    i->secure = d->secure;
    i->transport = d->conn->transport;
    i->local = d->local_restored;
    i->remote = d->conn->remote;
    i->direct_remote = d->conn->direct_remote;
    if (d->found && d->found->local_restored)
        i->direct_local = d->conn->local;
    i->conn_id = d->conn->id;
    i->stream_id = s->id;
    i->decision = mz_decision_create(s->arena, i->start_us);
    mz_note(i->decision, i->start_us, ACCEPTED, d->listener_name, mz_downstream_caller(d, s->arena),
            (int64_t)d->conn->id, 0);
    if (d->chain_name.n)
        mz_note(i->decision, i->start_us, CHAIN, d->chain_name, MZ_STR(""), 0, 0);
}

struct mz_stream *stream_create(struct hcm_conn *c, struct mz_stream_enc *enc,
                                struct mz_stream_in *out_in)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream *s = mz_arena_alloc(a, sizeof(*s));
    memset(s, 0, offsetof(struct mz_stream, redirected)); /* what is behind has its own beginning */
    mz_info_init(&s->info);
    s->arena = a;
    s->conn = c;
    s->enc = enc;
    s->id = next_stream_id();
    s->random = mz_rand_u64(mz_loop_rand(conn_loop(c)));
    s->buffer_limit = c->base.down->conn->out_wm.high > UINT32_MAX
                          ? UINT32_MAX
                          : (uint32_t)c->base.down->conn->out_wm.high;
    mz_buf_init(&s->req.kept);
    mz_buf_init(&s->resp.kept);
    const struct mz_route_table *routes = hcm_routes(c->cfg);
    s->routes = routes ? mz_route_table_ref(routes) : NULL;
    info_init(s);
    start_timers(s);
    s->in = (struct mz_stream_in){ &in_ops, s, a };
    *out_in = s->in;
    enc->flush_timeout_ms =
        (uint32_t)(s->idle_timeout_ms > UINT32_MAX ? UINT32_MAX : s->idle_timeout_ms);
    if (enc->ops->above_high && enc->ops->above_high(enc))
        s->down_above = 1;
    return s;
}

static void finish_info(struct mz_stream *s)
{
    struct mz_stream_info *i = &s->info;
    i->end_us = stream_now(s);
    if (!i->details && !s->responding)
        i->details = NULL;
}

void mz_stream_recreate(struct mz_stream *s, const struct mz_route *from, struct mz_buf *take_body,
                        struct mz_headers *original_response)
{
    s->info.resp = original_response;
    s->info.status = original_response ? mz_headers_status(original_response) : 0;
    chain_done(s);
    finish_info(s);
    log_end(s);
    chain_destroy(s);
    if (from && s->internal_redirects < MZ_COUNT(s->redirected))
        s->redirected[s->internal_redirects] = from;
    s->internal_redirects += from != NULL;
    struct mz_headers *h = s->req.headers;
    uint64_t rx = s->info.rx_body;
    struct mz_addr remote = s->info.remote;
    struct mz_str request_id = s->info.request_id;
    s->epoch++;
    mz_buf_fini(&s->req.kept);
    mz_buf_fini(&s->resp.kept);
    memset(&s->req, 0, sizeof(s->req));
    memset(&s->resp, 0, sizeof(s->resp));
    mz_buf_init(&s->req.kept);
    mz_buf_init(&s->resp.kept);
    mz_info_init(&s->info);
    s->chain_made = s->route_cached = s->responding = false;
    s->wished_host = (struct mz_str){ 0 };
    s->filters = NULL;
    s->n_filters = s->n_enders = 0;
    s->is_internal_created = true;
    hcm_count_request(s->conn); /* as Envoy: a request anew */
    info_init(s);
    s->info.remote = remote;
    s->info.request_id = request_id;
    s->info.rx_body = rx;
    s->req.ended = s->remote_end;
    s->info.rx_end_us = s->remote_end ? stream_now(s) : 0;
    bool body = mz_buf_len(take_body) > 0;
    uint32_t epoch = s->epoch;
    process_headers(s, h, !body);
    if (!s->dead && s->epoch == epoch && body && s->chain_made && !s->local_replying) {
        s->info.rx_body += mz_buf_len(take_body);
        chain_request_data(s, take_body, s->remote_end);
    }
    stream_maybe_finish(s);
}

static void free_stream(void *p)
{
    struct mz_stream *s = p;
    mz_buf_fini(&s->req.kept);
    mz_buf_fini(&s->resp.kept);
    drop_cluster(s);
    extensions_drop(s);
    if (s->routes)
        mz_route_table_unref(s->routes);
    for (struct held_table *t = s->held_tables; t; t = t->next)
        mz_route_table_unref(t->table);
    mz_arena_destroy(s->arena);
}

void stream_end(struct mz_stream *s)
{
    if (s->dead)
        return;
    struct hcm_conn *c = s->conn;
    s->dead = true;
    s->codec_done = true;
    stop_timers(s);
    ticket_drop(s);
    chain_done(s);
    finish_info(s);
    if (s->local_end)
        mz_hist_record(c->cfg->scope, MZ_HS_RQ_TIME, (s->info.end_us - s->info.start_us) / 1000);
    if (s->info.health_check)
        hcm_count(c, MZ_HS_TRACING_HEALTH_CHECK); /* whether or not anything traces */
    mz_gauge_add(c->cfg->scope, MZ_HS_RQ_ACTIVE, -1);
    if (s->upgrade_accepted)
        mz_gauge_add(c->cfg->scope, MZ_HS_CX_UPGRADES_ACTIVE, -1);
    log_end(s);
    chain_destroy(s);
    hcm_conn_stream_ended(c, s);
    mz_loop_free_later(conn_loop(c), s, free_stream);
}

void stream_abort(struct mz_stream *s, uint64_t flag, const char *details, const char *termination)
{
    if (s->dead)
        return;
    s->codec_done = true;
    mz_info_flag(&s->info, flag);
    if (!s->info.details || !s->response_complete)
        s->info.details = details;
    s->info.conn_termination = termination;
    mz_stream_story(s, MZ_STEP_CLIENT_GONE, MZ_STR(""), mz_str_c(details), 0, 0);
    stream_end(s);
}

/* The answer is complete: the stream is over; what is still coming of the request is nobody's. */
void stream_maybe_finish(struct mz_stream *s)
{
    if (s->dead || !s->local_end)
        return;
    if (!s->remote_end) {
        hcm_count(s->conn, MZ_HS_RQ_RESPONSE_BEFORE_COMPLETE);
        hcm_count(s->conn, MZ_HS_RQ_RX_RESET); /* Envoy counts its own reset of the rest here */
        if (s->conn->codec->protocol < MZ_HTTP2) {
            s->conn->drain = DRAIN_CLOSING;
            s->needs_close = true;
        } else if (!s->codec_done) {
            s->enc->ops->reset(s->enc, MZ_RESET_LOCAL);
        }
    }
    stream_end(s);
}

void mz_stream_reset(struct mz_stream *s, const char *details)
{
    if (s->dead)
        return;
    hcm_count(s->conn, MZ_HS_RQ_TX_RESET);
    if (!s->codec_done)
        hcm_count(s->conn, MZ_HS_RQ_RX_RESET); /* Envoy hears its own reset here */
    if (details)
        s->info.details = details;
    s->codec_reset = true;
    struct mz_stream_enc *e = s->enc;
    bool tell = !s->codec_done;
    s->codec_done = true;
    if (tell)
        e->ops->reset(e, MZ_RESET_LOCAL);
    stream_end(s);
}

void stream_codec_error(struct mz_stream *s, const struct mz_codec_error *e, bool close)
{
    mz_info_flag(&s->info, MZ_FLAG(DOWNSTREAM_PROTOCOL_ERROR));
    mz_stream_story(s, MZ_STEP_PROTOCOL, mz_str_c(e->details), MZ_STR(""), 0, 0);
    s->needs_close = close;
    if (s->responding) {
        s->info.details = e->details;
        mz_stream_reset(s, e->details);
        return;
    }
    mz_stream_local_reply(s, &(struct mz_local_reply){ .status = e->status,
                                                       .body = mz_str_c(e->body),
                                                       .details = e->details });
}

/* ---- for filters ---- */

struct mz_stream_info *mz_stream_info(struct mz_stream *s)
{
    return &s->info;
}
struct mz_arena *mz_stream_arena(struct mz_stream *s)
{
    return s->arena;
}
struct mz_worker *mz_stream_worker(struct mz_stream *s)
{
    return s->conn->base.worker;
}
void *mz_stream_conn_object(const struct mz_stream *s, uint64_t key)
{
    const struct conn_object *o = s->conn->objects;
    while (o && o->key != key)
        o = o->next;
    return o ? o->object : NULL;
}

void mz_stream_set_conn_object(struct mz_stream *s, uint64_t key, void *take,
                               void (*destroy)(void *object))
{
    struct conn_object *o = mz_new0(MZ_MEM_CONN, struct conn_object);
    *o = (struct conn_object){ s->conn->objects, key, take, destroy };
    s->conn->objects = o;
}

void conn_objects_destroy(struct conn_object *o)
{
    while (o) {
        struct conn_object *next = o->next;
        o->destroy(o->object);
        mz_free(MZ_MEM_CONN, o);
        o = next;
    }
}

struct mz_downstream *mz_stream_downstream(struct mz_stream *s)
{
    return s->conn->base.down;
}
uint64_t mz_stream_id(const struct mz_stream *s)
{
    return s->id;
}
uint64_t mz_stream_random(const struct mz_stream *s)
{
    return s->random;
}
struct mz_headers *mz_stream_request_headers(struct mz_stream *s)
{
    return s->req.headers;
}
struct mz_headers *mz_stream_response_headers(struct mz_stream *s)
{
    return s->resp.headers;
}
struct mz_headers *mz_stream_request_trailers(struct mz_stream *s)
{
    return s->req.trailers;
}
const struct mz_hcm_config *mz_stream_config(const struct mz_stream *s)
{
    return s->conn->cfg;
}
const struct mz_route *const *mz_stream_redirected_routes(const struct mz_stream *s,
                                                          unsigned *out_n)
{
    *out_n = s->internal_redirects;
    return s->redirected;
}
bool mz_stream_scheme_of_upstream(const struct mz_stream *s)
{
    return s->conn->cfg->scheme_match_upstream;
}
bool mz_stream_trace(const struct mz_stream *s)
{
    return s->trace;
}
bool mz_stream_request_complete(const struct mz_stream *s)
{
    return s->remote_end;
}
uint32_t mz_stream_buffer_limit(const struct mz_stream *s)
{
    return s->buffer_limit;
}
void mz_stream_set_buffer_limit(struct mz_stream *s, uint32_t bytes)
{
    s->buffer_limit = bytes;
}
void mz_stream_wish_host(struct mz_stream *s, struct mz_str host, bool strict)
{
    s->wished_host = host;
    s->wished_strictly = strict;
}
struct mz_str mz_stream_wished_host(const struct mz_stream *s, bool *out_strict)
{
    *out_strict = s->wished_strictly;
    return s->wished_host;
}
void mz_stream_story(struct mz_stream *s, enum mz_step_kind k, struct mz_str a, struct mz_str b,
                     int64_t n, int64_t m)
{
    if (s->info.decision)
        mz_decision_step(s->info.decision, stream_now(s), k, a, b, n, m);
}
