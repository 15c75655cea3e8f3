/* envoy.filters.http.istio_stats, and the same for TCP (S1): counts at the end, and of what lasts every few seconds before. */
#include "filters/http/http_filters.h"
#include "filters/istio/istio_filters.h"
#include "filters/istio/stats_priv.h"
#include "http/grpc.h"

static void count(const struct series *s, uint64_t n)
{
    if (s->scope)
        mz_count(s->scope, s->i, n);
}

static void record(const struct series *s, uint64_t v)
{
    if (s->scope)
        mz_hist_record(s->scope, s->i, v);
}

static struct mz_str flags_of(const struct mz_stream_info *i)
{
    char text[MZ_FLAGS_TEXT];
    if (!i->flags)
        return MZ_STR("-");
    return mz_arena_dup(
        i->arena, (struct mz_str){ text, mz_flags_text(i->flags, i->flag_order, false, text) });
}

static struct mz_str *values_of(const struct stats_cfg *c, struct mz_arena *a)
{
    return c->n_exprs ? mz_arena_alloc0(a, c->n_exprs * sizeof(struct mz_str)) : NULL;
}

/* ---- HTTP ---- */

struct http {
    struct mz_filter base;
    bool grpc, peer_known;
    struct labels labels;                /* of the peers, once they are known */
    struct mz_timer timer;               /* of gRPC */
    struct series series[METRIC__COUNT]; /* of messages, then of the request */
    uint64_t requests, responses;        /* messages that were counted */
};

static void peers_take(struct http *h, bool end)
{
    const struct stats_cfg *c = h->base.cfg;
    const struct mz_stream_info *i = mz_stream_info(h->base.stream);
    if (h->peer_known || !(labels_peer_known(c, i->filter_state) || end))
        return;
    const struct subject s = { i, i->filter_state, i->route.cluster_raw, i->up.cluster_metadata };
    h->peer_known = true;
    labels_of_peers(c, &s, &h->labels);
    if (!h->grpc)
        return;
    struct labels early = h->labels; /* what is known at the end only is none of its labels */
    early.has &= ~(UINT32_C(1) << LABEL_CONNECTION_SECURITY_POLICY);
    struct mz_str *values = values_of(c, i->arena);
    stats_evaluate(c, i, false, values);
    series_find(c, GROUP_MESSAGES, &early, values, h->series);
}

static void messages_count(struct http *h)
{
    const struct mz_grpc_counts *n = (const struct mz_grpc_counts *)(const void *)mz_info_state(
        mz_stream_info(h->base.stream), MZ_STR(MZ_STATE_GRPC_COUNTS));
    if (!h->grpc || !h->peer_known || !n)
        return;
    count(&h->series[METRIC_REQUEST_MESSAGES], n->request - h->requests);
    count(&h->series[METRIC_RESPONSE_MESSAGES], n->response - h->responses);
    h->requests = n->request;
    h->responses = n->response;
}

static void on_timer(struct mz_timer *t)
{
    struct http *h = MZ_CONTAINER(t, struct http, timer);
    peers_take(h, false);
    messages_count(h);
    mz_timer_start_ms(t, ((const struct stats_cfg *)h->base.cfg)->report_ms);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *headers, bool end)
{
    (void)end;
    struct http *h = (struct http *)(void *)f;
    const struct stats_cfg *c = f->cfg;
    h->grpc = mz_is_grpc(headers);
    if (h->grpc && c->report_ms) {
        mz_timer_init(mz_stream_worker(f->stream)->loop, &h->timer, on_timer);
        mz_timer_start_ms(&h->timer, c->report_ms);
    }
    return MZ_FLOW_CONTINUE;
}

static struct mz_str number(unsigned n, struct mz_arena *a)
{
    char digits[20];
    return mz_arena_dup(a, (struct mz_str){ digits, mz_u64_text(n, digits) });
}

/* Of the trailers, of the answer's head, or by its status. */
static struct mz_str grpc_status_of(const struct mz_stream_info *i)
{
    int status;
    if ((i->resp_trailers && mz_grpc_status(i->resp_trailers, &status)) ||
        (i->resp && mz_grpc_status(i->resp, &status)))
        return status < 0 ? MZ_STR("-1") : number((unsigned)status, i->arena);
    return i->status ? number(mz_grpc_status_of_http(i->status), i->arena) : MZ_STR("");
}

static void on_log(struct mz_filter *f)
{
    struct http *h = (struct http *)(void *)f;
    const struct stats_cfg *c = f->cfg;
    struct mz_stream_info *i = mz_stream_info(f->stream);
    peers_take(h, true);
    messages_count(h);
    struct labels l = h->labels;
    label_set(&l, LABEL_REQUEST_PROTOCOL, h->grpc ? MZ_STR("grpc") : MZ_STR("http"));
    label_set(&l, LABEL_RESPONSE_CODE, number(i->status, i->arena));
    label_set(&l, LABEL_GRPC_RESPONSE_STATUS, h->grpc ? grpc_status_of(i) : MZ_STR(""));
    label_set(&l, LABEL_RESPONSE_FLAGS, flags_of(i));
    struct mz_str *values = values_of(c, i->arena);
    stats_evaluate(c, i, true, values);
    series_find(c, GROUP_HTTP, &l, values, h->series);
    count(&h->series[METRIC_REQUESTS], 1);
    record(&h->series[METRIC_DURATION], (i->end_us - i->start_us) / 1000);
    record(&h->series[METRIC_REQUEST_BYTES], i->wire_in);
    record(&h->series[METRIC_RESPONSE_BYTES], i->wire_out);
    if (c->n_customs) {
        struct custom_value *own = mz_arena_alloc(i->arena, c->n_customs * sizeof(*own));
        customs_find(c, values, own);
        customs_count(c, own);
    }
}

static void http_destroy(struct mz_filter *f)
{
    struct http *h = (struct http *)(void *)f;
    if (h->grpc && ((const struct stats_cfg *)f->cfg)->report_ms)
        mz_timer_stop(&h->timer);
}

const struct mz_http_filter_type mz_filter_istio_stats = {
    .name = "envoy.filters.http.istio_stats",
    .config_type = "stats.PluginConfig",
    .size = sizeof(struct http),
    .config_build = stats_config_build,
    .config_destroy = stats_config_destroy,
    .on_request_headers = on_request_headers,
    .on_log = on_log,
    .on_destroy = http_destroy,
};

/* ---- TCP ---- */

struct tcp {
    struct mz_net_filter base;
    struct mz_timer timer;
    bool started, reported; /* the timer; the connection was counted as opened */
    struct series series[METRIC__COUNT];
    uint64_t sent, received;  /* counted so far */
    struct custom_value *own; /* known when it opened, counted at the end; NULL: none */
};

/* What the terminal filter knows, where it proxies. */
static const struct mz_stream_info *info_of(const struct tcp *t)
{
    const struct mz_stream_info *session = t->base.down->session;
    return session ? session : mz_downstream_info(t->base.down);
}

static const struct mz_map *peers_of(const struct stats_cfg *c, const struct mz_stream_info *i)
{
    return c->reporter == REPORTER_CLIENT && i->up.filter_state ? i->up.filter_state
                                                                : i->filter_state;
}

static void opened(struct tcp *t, const struct mz_stream_info *i, const struct mz_map *peers)
{
    const struct stats_cfg *c = t->base.cfg;
    const struct subject s = { i, peers, i->route.cluster_raw, i->up.cluster_metadata };
    struct labels l = { .has = 0 };
    labels_of_peers(c, &s, &l);
    label_set(&l, LABEL_REQUEST_PROTOCOL, MZ_STR("tcp"));
    label_set(&l, LABEL_RESPONSE_FLAGS, flags_of(i));
    struct mz_str *values = values_of(c, i->arena);
    stats_evaluate(c, i, false, values);
    series_find(c, GROUP_TCP, &l, values, t->series);
    t->reported = true;
    count(&t->series[METRIC_TCP_OPENED], 1);
    if (c->n_customs) {
        struct mz_arena *a = mz_downstream_info(t->base.down)->arena;
        t->own = mz_arena_alloc(a, c->n_customs * sizeof(*t->own));
        customs_find(c, values, t->own);
    }
}

static void report(struct tcp *t, bool end)
{
    const struct stats_cfg *c = t->base.cfg;
    const struct mz_stream_info *i = info_of(t);
    const struct mz_map *peers = peers_of(c, i);
    if (!t->reported && (labels_peer_known(c, peers) || end))
        opened(t, i, peers);
    if (!t->reported)
        return;
    count(&t->series[METRIC_TCP_SENT], i->tx_body - t->sent);
    count(&t->series[METRIC_TCP_RECEIVED], i->rx_body - t->received);
    t->sent = i->tx_body;
    t->received = i->rx_body;
    if (!end)
        return;
    count(&t->series[METRIC_TCP_CLOSED], 1);
    if (t->own)
        customs_count(c, t->own);
}

static void on_report(struct mz_timer *timer)
{
    struct tcp *t = MZ_CONTAINER(timer, struct tcp, timer);
    report(t, false);
    mz_timer_start_ms(timer, ((const struct stats_cfg *)t->base.cfg)->report_ms);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    struct tcp *t = (struct tcp *)(void *)f;
    const struct stats_cfg *c = f->cfg;
    t->started = c->report_ms > 0;
    if (t->started) {
        mz_timer_init(f->worker->loop, &t->timer, on_report);
        mz_timer_start_ms(&t->timer, c->report_ms);
    }
    return MZ_NET_CONTINUE;
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    struct tcp *t = (struct tcp *)(void *)f;
    if (ev == MZ_CONN_CONNECTED)
        return;
    if (t->started)
        mz_timer_stop(&t->timer);
    t->started = false;
    report(t, true);
}

const struct mz_net_filter_type mz_net_filter_istio_stats = {
    .name = "envoy.filters.network.istio_stats",
    .config_type = "stats.PluginConfig",
    .size = sizeof(struct tcp),
    .config_build = stats_config_build,
    .config_destroy = stats_config_destroy,
    .on_new_connection = on_new_connection,
    .on_event = on_event,
};
