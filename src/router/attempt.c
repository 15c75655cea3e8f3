#include "router/router_priv.h"

#include "net/eyeballs.h"
#include "observe/access_log.h"

/*
 * One try: choose a host, get a stream from its pool, send the request, hand on what comes back. An attempt is in
 * r->attempts until it is dropped; once dropped, neither pool nor codec calls it again.
 */

static struct mz_stream *stream_here(const struct attempt *a)
{
    return stream_of(a->r);
}

void attempt_keep_counts(struct attempt *a)
{
    struct mz_stream_info *i = info_of(a->r);
    if (!a->enc)
        return;
    const struct mz_stream_enc *e = a->enc;
    const struct attempt_bytes now = { e->wire_in > e->wire_came ? e->wire_in : e->wire_came,
                                       e->wire_out, e->header_in, e->header_out };
    i->up.wire_in += now.wire_in - a->counted.wire_in;
    i->up.wire_out += now.wire_out - a->counted.wire_out;
    i->up.header_in += now.header_in - a->counted.header_in;
    i->up.header_out += now.header_out - a->counted.header_out;
    a->counted = now;
}

/* ---- flow control ---- */

static void pause_client(struct attempt *a, bool pause)
{
    if (a->paused_client == pause)
        return;
    a->paused_client = pause;
    mz_count(a->r->cluster->scope, pause ? MZ_CS_FLOW_BACKED_UP : MZ_CS_FLOW_DRAINED, 1);
    mz_stream_request_read_disable(stream_here(a), pause);
}

void attempt_read_disable(struct attempt *a, bool disable)
{
    if (!a->enc || a->answer_end || a->paused_upstream == disable)
        return;
    a->paused_upstream = disable;
    mz_count(a->r->cluster->scope, disable ? MZ_CS_FLOW_PAUSED : MZ_CS_FLOW_RESUMED, 1);
    a->enc->ops->read_disable(a->enc, disable);
}

/* ---- timeouts of the try ---- */

static void on_try_timeout(struct mz_timer *t)
{
    reply_try_timeout(MZ_CONTAINER(t, struct attempt, try_timer), false);
}

static void on_try_idle(struct mz_timer *t)
{
    reply_try_timeout(MZ_CONTAINER(t, struct attempt, try_idle_timer), true);
}

static void on_life(struct mz_timer *t)
{
    reply_max_duration(MZ_CONTAINER(t, struct attempt, life_timer));
}

static void touch(struct attempt *a)
{
    if (a->r->times.per_try_idle_ms)
        mz_timer_start_ms(&a->try_idle_timer, a->r->times.per_try_idle_ms);
}

void attempt_request_complete(struct attempt *a)
{
    if (a->started && a->r->times.per_try_ms && !a->answered)
        mz_timer_start_ms(&a->try_timer, a->r->times.per_try_ms);
}

/* ---- what comes back ---- */

static void on_1xx(void *arg, struct mz_headers *h)
{
    struct attempt *a = arg;
    touch(a);
    reply_1xx(a, h);
}

static void note_first_byte(struct attempt *a)
{
    struct mz_stream_info *i = info_of(a->r);
    if (!i->up.first_rx_us)
        i->up.first_rx_us = now_of(a->r);
}

static void answer_ended(struct attempt *a)
{
    a->answer_end = true;
    info_of(a->r)->up.last_rx_us = now_of(a->r);
    mz_timer_stop(&a->try_timer);
    mz_timer_stop(&a->try_idle_timer);
    mz_timer_stop(&a->life_timer);
}

/* Request and answer are through: the codec's stream belongs to the connection again, which may end or serve the next one
 * while a filter still holds this answer. */
static void maybe_let_go(struct attempt *a)
{
    if (a->over || !a->sent_end || !a->answer_end)
        return;
    attempt_keep_counts(a);
    a->enc = NULL;
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct attempt *a = arg;
    touch(a);
    note_first_byte(a);
    mz_timer_stop(&a->try_timer);
    a->answered = true;
    a->status = mz_headers_status(h);
    if (end)
        answer_ended(a);
    reply_headers(a, h, end);
    maybe_let_go(a);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct attempt *a = arg;
    touch(a);
    if (!info_of(a->r)->up.first_body_us)
        info_of(a->r)->up.first_body_us = now_of(a->r);
    if (end)
        answer_ended(a);
    reply_data(a, data, end);
    maybe_let_go(a);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct attempt *a = arg;
    answer_ended(a);
    reply_trailers(a, h);
    maybe_let_go(a);
}

static void on_reset(void *arg, enum mz_reset_reason why, const char *details)
{
    struct attempt *a = arg;
    (void)details;
    attempt_keep_counts(a);
    a->enc = NULL; /* the codec has let go of it */
    reply_reset(a, why, MZ_STR(""), 0);
}

static void on_above_high(void *arg)
{
    pause_client(arg, true);
}

static void on_below_low(void *arg)
{
    pause_client(arg, false);
}

static const struct mz_stream_in_ops in_ops = { on_1xx,   on_headers,    on_data,     on_trailers,
                                                on_reset, on_above_high, on_below_low };

/* ---- sending ---- */

static void sent_all(struct attempt *a)
{
    a->sent_end = true;
    info_of(a->r)->up.last_tx_us = now_of(a->r);
}

static void send_body(struct attempt *a, struct mz_buf *data, bool end)
{
    if (end)
        sent_all(a);
    a->enc->ops->encode_data(a->enc, data, end);
    maybe_let_go(a);
}

void attempt_body(struct attempt *a, struct mz_buf *data, bool end)
{
    if (a->started) {
        if (a->enc && !a->sent_end)
            send_body(a, data, end);
        return;
    }
    if (a->r->keep_body)
        return; /* it goes out of r->body when the connection is there */
    mz_buf_move_all(&a->queued, data);
    uint32_t limit = mz_stream_buffer_limit(stream_here(a));
    if (limit && mz_buf_len(&a->queued) > limit)
        pause_client(a, true);
}

void attempt_trailers(struct attempt *a)
{
    if (!a->started || !a->enc || a->sent_end)
        return;
    sent_all(a);
    a->enc->ops->encode_trailers(a->enc, a->r->trailers);
    maybe_let_go(a);
}

/* A host of several addresses: which answered, and what of those tried before it? */
static void note_race(struct attempt *a, const struct mz_conn *c)
{
    struct mz_arena *arena = mz_stream_arena(stream_of(a->r));
    struct mz_eyeballs_story s = mz_eyeballs_story(c, arena);
    char at[MZ_ADDR_TEXT];
    struct mz_str won = mz_arena_dup(arena, (struct mz_str){ at, mz_addr_text(&c->remote, at) });
    mz_stream_story(stream_here(a), MZ_STEP_CONN_RACED, won, s.others, s.attempt, s.n);
}

static void set_info(struct attempt *a, const struct mz_pool_ready *p)
{
    struct mz_stream_info *i = info_of(a->r);
    i->up.conn_id = a->r->tried[a->number - 1].conn_id = p->conn_id;
    i->up.local = *p->local;
    i->up.remote = *p->remote;
    mz_format_upstream_facts(i, p->conn->transport);
    i->up.protocol = p->protocol;
    i->up.has_protocol = !a->is_tunnel;
    i->up.conn_requests = p->conn_requests;
    i->up.pool_ready_us = i->up.first_tx_us = now_of(a->r);
    if (!p->reused) {
        i->up.connect_start_us = p->connect_start_us;
        i->up.connect_us = p->connect_us;
    }
    struct mz_str host = { p->host->addr_text, p->host->addr_text_n };
    if (p->reused)
        router_note(a->r, CONN_REUSED, host, MZ_STR(""), p->conn_id, p->conn_age_us / 1000);
    else
        mz_stream_story(stream_here(a), MZ_STEP_CONN_NEW, host, MZ_STR(""), 0, 0);
    if (!p->reused && p->conn->race)
        note_race(a, p->conn);
}

/* auto_host_rewrite wants the name of the host that was chosen. */
static void rewrite_host(struct attempt *a)
{
    struct router *r = a->r;
    if (!r->route->auto_host_rewrite || !a->host->hostname.n)
        return;
    struct mz_str now = mz_headers_value_id(r->headers, MZ_H_AUTHORITY);
    struct mz_arena *arena = mz_stream_arena(stream_of(r));
    if (mz_str_eq(now, a->host->hostname))
        return;
    if (r->route->append_x_forwarded_host && a->number == 1)
        mz_headers_append_id(r->headers, MZ_H_X_FORWARDED_HOST, now, ",");
    if (!r->cfg->suppress_headers && !mz_headers_get_id(r->headers, MZ_H_X_ENVOY_ORIGINAL_HOST))
        mz_headers_set_id(r->headers, MZ_H_X_ENVOY_ORIGINAL_HOST, now);
    mz_headers_set_id(r->headers, MZ_H_AUTHORITY, mz_arena_dup(arena, a->host->hostname));
}

static void send_request(struct attempt *a)
{
    struct router *r = a->r;
    bool body = mz_buf_len(&r->body) || mz_buf_len(&a->queued);
    bool more = !r->request_end || body || r->trailers;
    a->started = true;
    rewrite_host(a);
    attempt_span_inject(a);
    if (!more)
        sent_all(a);
    /* cppcheck-suppress nullPointerRedundantCheck ; what was sent may have ended the encoder */
    a->enc->ops->encode_headers(a->enc, r->headers, !more);
    if (body && a->enc) {
        struct mz_buf data;
        mz_buf_init(&data);
        if (r->keep_body || mz_buf_len(&r->body))
            mz_buf_copy(&data, &r->body);
        else
            mz_buf_move_all(&data, &a->queued);
        send_body(a, &data, r->request_end && !r->trailers);
        mz_buf_fini(&data);
        if (!a->over)
            pause_client(a, a->enc && a->enc->ops->above_high && a->enc->ops->above_high(a->enc));
    } else if (r->request_end && body == false && more && !r->trailers && a->enc) {
        struct mz_buf none;
        mz_buf_init(&none);
        send_body(a, &none, true);
    }
    if (r->trailers && a->enc && !a->over)
        attempt_trailers(a);
}

static void on_ready(void *arg, const struct mz_pool_ready *p)
{
    struct attempt *a = arg;
    a->pending = NULL;
    a->tunnel_pending = NULL;
    a->enc = p->enc;
    a->ready_us = now_of(a->r);
    a->conn_age_us = p->conn_age_us;
    mz_outlier_report(p->host, MZ_OUTLIER_CONNECTED, 0);
    if (a->r->vcluster)
        mz_count(a->r->vcluster, MZ_VC_RQ_TOTAL, 1);
    if (a->r->route->scope)
        mz_count(a->r->route->scope, MZ_VC_RQ_TOTAL, 1);
    set_info(a, p);
    touch(a);
    const struct mz_timeouts *times = &a->r->times;
    uint64_t life = times->has_stream ? times->stream_ms : a->r->cluster->max_stream_duration_ms;
    if (life)
        mz_timer_start_ms(&a->life_timer, life);
    send_request(a);
    if (!a->over && a->r->request_end)
        attempt_request_complete(a);
}

static enum mz_reset_reason reason_of(enum mz_pool_failure f)
{
    static const uint8_t reasons[] = { [MZ_POOL_NONE] = MZ_RESET_OVERFLOW,
                                       [MZ_POOL_OVERFLOW] = MZ_RESET_OVERFLOW,
                                       [MZ_POOL_LOCAL_CONNECT_FAIL] = MZ_RESET_LOCAL_CONNECT_FAIL,
                                       [MZ_POOL_REMOTE_CONNECT_FAIL] = MZ_RESET_REMOTE_CONNECT_FAIL,
                                       [MZ_POOL_CONNECT_TIMEOUT] = MZ_RESET_CONNECT_TIMEOUT };
    return (enum mz_reset_reason)reasons[f];
}

static void on_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure, int err,
                      struct mz_host *host)
{
    struct attempt *a = arg;
    struct mz_stream_info *i = info_of(a->r);
    a->pending = NULL;
    a->tunnel_pending = NULL;
    if (!host) { /* a breaker refused before any host was asked; Envoy shows none */
        i->up.host.len = 0;
        i->up.host_name = MZ_STR("");
        i->up.metadata = i->up.locality_metadata = NULL;
        i->up.place = NULL;
        if (i->up.hosts_n == a->number)
            i->up.hosts_n--;
    }
    if (why == MZ_POOL_NONE)
        reply_no_pool(a);
    else
        reply_reset(a, reason_of(why), transport_failure, err);
}

static const struct mz_pool_ops pool_ops = { on_ready, on_failed };

/* ---- begin and end ---- */

/* connect_config: CONNECT, and POST where that is allowed, are a TCP connection's bytes. */
static bool ends_here(const struct router *r)
{
    struct mz_str method = mz_headers_method(r->headers);
    if (mz_str_eq(method, MZ_STR("CONNECT")))
        return true;
    for (size_t i = 0; i < r->route->n_upgrades; i++)
        if (r->route->upgrades[i].allow_post && mz_str_eq(method, MZ_STR("POST")))
            return true;
    return false;
}

/* The list of all attempts, the last also by itself; it doubles when full, in the stream's arena. */
static void note_attempt(struct attempt *a)
{
    struct mz_stream_info *i = info_of(a->r);
    struct router *r = a->r;
    if (a->number > r->tried_cap) {
        uint32_t cap = r->tried_cap ? 2 * r->tried_cap : 4;
        struct mz_attempt *v =
            mz_arena_alloc(mz_stream_arena(stream_of(r)), mz_mul(cap, sizeof(*v)));
        if (r->tried_cap)
            memcpy(v, r->tried, r->tried_cap * sizeof(*v));
        r->tried = v;
        r->tried_cap = cap;
    }
    const struct mz_host *h = a->host;
    struct mz_str name =
        h->hostname.n ? h->hostname : (struct mz_str){ h->addr_text, h->addr_text_n };
    r->tried[a->number - 1] =
        (struct mz_attempt){ .host = h->addr,
                             .host_name = mz_arena_dup(mz_stream_arena(stream_of(r)), name) };
    i->up.host = h->addr;
    i->up.local.len = i->up.remote.len = 0; /* until its connection stands */
    i->up.host_name = r->tried[a->number - 1].host_name;
    i->up.metadata = h->metadata;
    i->up.locality_metadata = h->locality_metadata;
    i->up.place = &h->place;
    i->up.hosts = r->tried;
    i->up.hosts_n = a->number;
    i->up.begin_us = a->start_us;
}

static struct mz_host *choose(struct router *r, const char **out_why)
{
    const struct mz_downstream *down = mz_stream_downstream(stream_of(r));
    struct mz_lb_ctx c = { .has_hash = r->has_hash,
                           .hash = r->hash,
                           .headers = r->headers,
                           .metadata_match = r->weighted && r->weighted->metadata_match
                                                 ? r->weighted->metadata_match
                                                 : r->route->metadata_match,
                           .request_metadata = info_of(r)->dynamic_metadata,
                           .downstream = down->conn,
                           .original_dst = mz_downstream_destination(down),
                           .override_taken = &r->override_taken };
    if (!r->n_started) /* other tries look for other hosts */
        c.override_host = mz_stream_wished_host(stream_of(r), &c.override_strict);
    MZ_UNINIT uint32_t load[16], changed[16];
    unsigned n = mz_wcluster_priorities(r->wcluster);
    if (r->n_started && r->retry_ready) {
        c.avoid = mz_retry_avoid;
        c.avoid_arg = &r->retry;
        c.avoid_attempts = mz_retry_host_attempts(&r->retry);
        if (r->retry.policy && r->retry.policy->previous_priorities && n <= 16) {
            mz_wcluster_priority_load(r->wcluster, load, n);
            if (mz_retry_priority_load(&r->retry, r->wcluster, load, changed, n))
                c.priority_load = changed;
        }
    }
    struct mz_host *h = mz_wcluster_choose(r->wcluster, &c);
    *out_why = c.why ? c.why : "";
    if (c.where.n)
        mz_stream_story(stream_of(r), MZ_STEP_AMONG,
                        mz_arena_dup(mz_stream_arena(stream_of(r)), c.where), MZ_STR(""), 0, 0);
    return h;
}

void router_write_attempt(struct router *r, unsigned number)
{
    if (!r->route->vhost || !r->route->vhost->include_attempt_count)
        return;
    char text[20];
    struct mz_str n = { text, mz_u64_text(number, text) };
    mz_headers_set_id(r->headers, MZ_H_X_ENVOY_ATTEMPT_COUNT,
                      mz_arena_dup(mz_stream_arena(stream_of(r)), n));
}

static void count_try(struct router *r)
{
    struct mz_stream_info *i = info_of(r);
    i->attempts = r->n_started;
    if (r->n_started > 1)
        router_write_attempt(r, r->n_started);
    if (r->n_started > 1 && r->route->vhost && r->route->vhost->include_is_timeout_retry)
        mz_headers_set_id(r->headers, MZ_H_X_ENVOY_IS_TIMEOUT_RETRY,
                          r->retry_is_timeout ? MZ_STR("true") : MZ_STR("false"));
    if (r->n_started > 1)
        mz_timeouts_write(&r->times, r->route, r->headers, r->grpc, !r->cfg->suppress_headers,
                          r->request_end_us ? (now_of(r) - r->request_end_us) / 1000 : 0);
}

/* ---- pools of one client connection (connection_pool_per_downstream_connection) ---- */

struct owned {
    struct mz_wcluster *w; /* reference */
    uint64_t owner;
};

static void owner_gone(void *object)
{
    struct owned *o = object;
    mz_http_pool_owner_gone(o->w, o->owner);
    mz_wcluster_unref(o->w);
    mz_free(MZ_MEM_CONN, o);
}

static uint64_t owner_of(struct router *r)
{
    struct mz_stream *s = stream_of(r);
    uint64_t key = (uint64_t)(uintptr_t)r->wcluster;
    uint64_t owner = mz_stream_downstream(s)->conn->id + 1;
    if (MZ_LIKELY(!r->cluster->pool_per_downstream))
        return 0;
    if (!mz_stream_conn_object(s, key)) {
        struct owned *o = mz_new0(MZ_MEM_CONN, struct owned);
        *o = (struct owned){ mz_wcluster_ref(r->wcluster), owner };
        mz_stream_set_conn_object(s, key, o, owner_gone);
    }
    return owner;
}

/* NULL: the host's transports look at nothing of the request, or it has nothing for them: it shares the ordinary pool. */
static const struct mz_transport_opts *
transport_wanted(struct router *r, const struct mz_host *host, struct mz_transport_opts *out)
{
    const struct mz_downstream *down = mz_stream_downstream(stream_of(r));
    unsigned uses = host->cluster->transport_uses | mz_downstream_transport_uses(down);
    if (MZ_LIKELY(!uses))
        return NULL;
    mz_downstream_transport_opts(down, info_of(r), uses, out);
    if (!out->sni.n)
        out->sni = r->auto_sni;
    if (!out->sans.n && r->auto_san.n)
        out->sans = (struct mz_tls_names){ &r->auto_san, 1 };
    return out->sni.n || out->sans.n || out->alpn.n || out->source || out->bind || out->state ||
                   out->hops
               ? out
               : NULL;
}

void attempt_start(struct router *r)
{
    struct mz_stream *s = stream_of(r);
    const char *why;
    struct mz_host *host = choose(r, &why);
    if (!host) {
        mz_stream_story(s, MZ_STEP_NO_HOST, MZ_STR(""),
                        mz_wcluster_why_none(r->wcluster, why, mz_stream_arena(s)), 0, 0);
        reply_no_host(r);
        return;
    }
    r->n_started++;
    count_try(r);
    struct attempt *a = mz_arena_new0(mz_stream_arena(s), struct attempt);
    a->r = r;
    a->number = r->n_started;
    a->host = mz_host_ref(host);
    a->start_us = now_of(r);
    a->in = (struct mz_stream_in){ &in_ops, a, mz_stream_arena(s) };
    note_attempt(a);
    attempt_span_begin(a);
    mz_buf_init(&a->queued);
    mz_timer_init(loop_of(r), &a->try_timer, on_try_timeout);
    mz_timer_init(loop_of(r), &a->try_idle_timer, on_try_idle);
    mz_timer_init(loop_of(r), &a->life_timer, on_life);
    mz_list_add_tail(&r->attempts, &a->link);
    r->n_attempts++;
    if (mz_retry_active(&r->retry) || r->retry.policy)
        mz_retry_host_tried(&r->retry, host);
    router_note(r, HOST, ((struct mz_str){ host->addr_text, host->addr_text_n }), mz_str_c(why),
                a->number, 0);
    MZ_UNINIT struct mz_transport_opts wanted; /* few requests have one */
    const struct mz_pool_opts o = { .priority = r->priority,
                                    .downstream_protocol = info_of(r)->protocol,
                                    .upgrade = r->is_upgrade,
                                    .can_send_early = false,
                                    .transport = transport_wanted(r, host, &wanted),
                                    .owner = owner_of(r) };
    a->is_tunnel = r->route->connect_terminates && ends_here(r);
    if (a->is_tunnel) {
        a->tunnel_pending = tunnel_start(r->wcluster, host, &o, loop_of(r), &a->in, &pool_ops, a);
        return;
    }
    struct mz_pool_pending *p = mz_http_pool_request(r->wcluster, host, &o, &a->in, &pool_ops, a);
    if (p) { /* NULL: ready or failed ran already; the attempt may be gone */
        a->pending = p;
        mz_stream_story(s, MZ_STEP_CONN_QUEUED,
                        (struct mz_str){ host->addr_text, host->addr_text_n }, MZ_STR(""), 0, 0);
    }
}

static void write_logs(struct attempt *a)
{
    struct router *r = a->r;
    struct mz_format_ctx ctx = {
        .info = info_of(r), .req = r->headers, .log_type = "UpstreamEnd", .now_us = now_of(r)
    };
    for (size_t i = 0; i < r->cfg->n_logs; i++)
        mz_access_log_write(r->cfg->logs[i], &ctx);
}

void attempt_drop(struct attempt *a)
{
    if (a->over)
        return;
    a->over = true;
    struct router *r = a->r;
    mz_timer_stop(&a->try_timer);
    mz_timer_stop(&a->try_idle_timer);
    mz_timer_stop(&a->life_timer);
    mz_list_del(&a->link);
    r->n_attempts--;
    if (a->pending) {
        mz_count(r->cluster->scope, MZ_CS_RQ_CANCELLED, 1);
        mz_pool_cancel(a->pending, false);
    }
    if (a->tunnel_pending)
        tunnel_cancel(a->tunnel_pending);
    attempt_keep_counts(a);
    struct mz_stream_enc *e = a->enc;
    a->enc = NULL;
    if (e && !(a->sent_end && a->answer_end)) {
        e->ops->reset(e, MZ_RESET_LOCAL);
    }
    attempt_span_end(a);
    if (r->cfg->n_logs)
        write_logs(a);
    pause_client(a, false);
    mz_buf_fini(&a->queued);
    mz_host_unref(r->last_host);
    r->last_host =
        a->host; /* the reference moves: logs read the host's metadata after the attempt */
    if (r->final == a)
        r->final = NULL;
}
