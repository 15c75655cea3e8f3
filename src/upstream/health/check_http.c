/* Asks a host by HTTP/1 or HTTP/2, or by gRPC (U6). A connection serves one check after the other while both sides keep it. */
#include "http/grpc.h"
#include "net/conn.h"
#include "observe/stream_info.h"
#include "runtime/runtime.h"
#include "upstream/health/check.h"
#include "upstream/stats.h"

#define BODY_MAX                                                                                   \
    (1u << 20) /* kept of an answer when response_buffer_size is 0, which means all of it */

struct probe {
    struct check_session *session; /* NULL: given up */
    struct mz_loop *loop;
    struct mz_conn *conn; /* NULL once closed */
    struct mz_codec *codec;
    struct mz_stream_enc *enc; /* a request is under way */
    struct mz_arena *arena;    /* of the present request and its answer */
    const struct mz_headers *answer, *trailers;
    struct mz_buf body;
    bool connected, last; /* last: it serves no further check */
};

static const struct check_http_config *cfg_of(const struct check_session *s)
{
    return &s->checker->cfg.http;
}

static void probe_free(void *arg)
{
    struct probe *p = arg;
    if (p->codec)
        p->codec->ops->destroy(p->codec);
    mz_buf_fini(&p->body);
    mz_arena_destroy(p->arena);
    mz_free(MZ_MEM_UPSTREAM, p);
}

/* Nobody waits for it any more; the rest follows from the end of its connection. */
static void probe_give_up(struct probe *p)
{
    struct check_session *s = p->session;
    p->session = NULL;
    p->enc = NULL;
    if (s && s->probe == p)
        s->probe = NULL;
    if (p->conn)
        mz_conn_close(p->conn, MZ_CLOSE_NOW, "health_check_done", 0);
}

static void fail(struct probe *p, const struct check_outcome *o)
{
    struct check_session *s = p->session;
    p->enc = NULL;
    if (s)
        check_failed(s, o);
}

static void lost(struct probe *p, enum check_result result, int err)
{
    fail(p, &(struct check_outcome){ .type = FAILURE_NETWORK,
                                     .result = result,
                                     .value = (uint32_t)(err > 0 ? err : 0) });
}

/* ---- the answer ---- */
static bool in_ranges(const struct check_ranges *r, unsigned status)
{
    for (size_t i = 0; i < r->n; i++)
        if (status >= r->v[i].from && status < r->v[i].to)
            return true;
    return false;
}

static bool service_fits(struct check_session *s, const struct mz_headers *h)
{
    const struct check_http_config *c = cfg_of(s);
    struct mz_rand *r = mz_loop_rand(s->checker->main);
    uint64_t share = mz_runtime_u64(mz_runtime_here(), MZ_STR("health_check.verify_cluster"), 100);
    if (!c->service || mz_rand_below(r, 100) >= share)
        return true;
    mz_count(s->checker->scope, MZ_HCS_VERIFY_CLUSTER, 1);
    const struct mz_header *e = mz_headers_get(h, MZ_STR("x-envoy-upstream-healthchecked-cluster"));
    return mz_string_match(c->service, e ? e->value : MZ_STR(""));
}

/* CHECK_PASSED or what is wrong with it. */
static enum check_result judge(struct check_session *s, struct probe *p, uint32_t *value)
{
    const struct check_http_config *c = cfg_of(s);
    unsigned status = mz_headers_status(p->answer);
    if (c->grpc)
        return check_grpc_judge(p->answer, p->trailers,
                                mz_buf_linearize(&p->body, mz_buf_len(&p->body)), value);
    *value = status;
    if (c->receive.n &&
        !check_bytes_found(&c->receive, mz_buf_linearize(&p->body, mz_buf_len(&p->body))))
        return CHECK_BODY;
    if (c->expected.n ? !in_ranges(&c->expected, status) : status != 200)
        return CHECK_STATUS;
    return service_fits(s, p->answer) ? CHECK_PASSED : CHECK_NAME;
}

static bool says_close(const struct mz_headers *h)
{
    struct mz_str v = mz_headers_value_id(h, MZ_H_CONNECTION), part;
    while (mz_str_split(&v, ',', &part))
        if (mz_str_ieq(mz_str_trim(part), MZ_STR("close")))
            return true;
    return false;
}

static void complete(struct probe *p)
{
    struct check_session *s = p->session;
    p->enc = NULL;
    if (!s)
        return;
    uint32_t value = 0;
    enum check_result result = judge(s, p, &value);
    bool degraded = !cfg_of(s)->grpc && mz_headers_get_id(p->answer, MZ_H_X_ENVOY_DEGRADED);
    p->last = p->last || !s->checker->cfg.reuse || says_close(p->answer);
    if ((result == CHECK_STATUS || result == CHECK_BODY) &&
        mz_headers_get_id(p->answer, MZ_H_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL))
        __atomic_fetch_or(&s->host->health_flags, MZ_HOST_EXCLUDED_IMMEDIATE_HC, __ATOMIC_RELAXED);
    if (result == CHECK_PASSED)
        check_passed(s, degraded);
    else
        check_failed(s,
                     &(struct check_outcome){ .type = FAILURE_ACTIVE,
                                              .retriable = result == CHECK_STATUS &&
                                                           in_ranges(&cfg_of(s)->retriable, value),
                                              .result = result,
                                              .value = value });
}

static void in_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h;
}

static void in_headers(void *arg, struct mz_headers *h, bool end)
{
    struct probe *p = arg;
    struct mz_stream_enc *e = p->enc;
    p->answer = h;
    bool useless = p->session && cfg_of(p->session)->grpc && !check_grpc_answers(h);
    if (end || useless)
        complete(p);
    if (!end && useless && e)
        e->ops->reset(e, MZ_RESET_LOCAL);
}

/* How much of the answer is looked at. */
static size_t body_limit(const struct check_http_config *c)
{
    if (c->grpc)
        return CHECK_GRPC_ANSWER;
    return c->buffer_size && c->buffer_size < BODY_MAX ? (size_t)c->buffer_size : BODY_MAX;
}

/* What is expected stands at the beginning: no more than that is kept, however much comes (F04). */
static void in_data(void *arg, struct mz_buf *data, bool end)
{
    struct probe *p = arg;
    if (p->session && (cfg_of(p->session)->receive.n || cfg_of(p->session)->grpc)) {
        size_t most = body_limit(cfg_of(p->session));
        size_t have = mz_buf_len(&p->body), room = have < most ? most - have : 0;
        mz_buf_move(&p->body, data, room < mz_buf_len(data) ? room : mz_buf_len(data));
    }
    mz_buf_drain(data, mz_buf_len(data));
    if (end)
        complete(p);
}

static void in_trailers(void *arg, struct mz_headers *h)
{
    struct probe *p = arg;
    p->trailers = h;
    complete(p);
}

static void in_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    (void)details;
    struct probe *p = arg;
    p->last = p->last || r != MZ_RESET_REMOTE || !p->session || !p->session->checker->cfg.reuse;
    lost(p, r == MZ_RESET_PROTOCOL_ERROR ? CHECK_PROTOCOL : CHECK_CLOSED, 0);
}

static void ignore(void *arg) /* a request that fits the connection's buffer */
{
    (void)arg;
}
static const struct mz_stream_in_ops in_ops = { in_1xx,   in_headers, in_data, in_trailers,
                                                in_reset, ignore,     ignore };

/* ---- the request ---- */
static void add_header(struct probe *p, struct mz_headers *h, const struct check_header *add)
{
    struct mz_stream_info info = { 0 };
    const struct mz_format_ctx ctx = { .info = &info, .req = h };
    struct mz_buf text;
    info.up.host = p->session->host->addr;
    info.up.metadata = p->session->host->metadata;
    info.up.cluster_stat_name = p->session->checker->cluster->stat_name;
    mz_buf_init(&text);
    mz_format_append(add->value, &ctx, &text);
    struct mz_str value = mz_arena_dup(p->arena, mz_buf_linearize(&text, mz_buf_len(&text)));
    mz_buf_fini(&text);
    bool there = mz_headers_get(h, add->name) != NULL;
    if (!value.n && !add->keep_empty)
        return;
    switch (add->action) {
    case pb_HeaderValueOption_HeaderAppendAction_ADD_IF_ABSENT:
        if (there)
            return;
        break;
    case pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS:
        if (!there)
            return;
        mz_headers_set(h, add->name, value);
        return;
    case pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD:
        mz_headers_set(h, add->name, value);
        return;
    default:
        break;
    }
    mz_headers_add(h, add->name, value);
}

static struct mz_str authority(const struct check_session *s)
{
    if (s->host->health->check_name)
        return mz_str_c(s->host->health->check_name);
    return cfg_of(s)->host.n ? cfg_of(s)->host : s->checker->cluster->name;
}

static struct mz_headers *request_headers(struct probe *p)
{
    const struct check_http_config *c = cfg_of(p->session);
    struct mz_headers *h = mz_headers_create(p->arena);
    mz_headers_add_id(h, MZ_H_METHOD, c->method);
    mz_headers_add_id(h, MZ_H_AUTHORITY, authority(p->session));
    mz_headers_add_id(h, MZ_H_PATH, c->path);
    mz_headers_add_id(h, MZ_H_SCHEME,
                      mz_host_transport(p->session->host)->secure ? MZ_STR("https")
                                                                  : MZ_STR("http"));
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("Envoy/HC"));
    if (c->grpc) {
        mz_headers_add_id(h, MZ_H_TE, MZ_STR("trailers"));
        mz_grpc_timeout_set(h, p->session->checker->cfg.timeout_ms);
        mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    }
    for (size_t i = 0; i < c->n_remove; i++)
        (void)mz_headers_remove(h, c->remove[i]);
    for (size_t i = 0; i < c->n_add; i++)
        add_header(p, h, &c->add[i]);
    if (c->send.n && !c->grpc)
        mz_headers_set_id(h, MZ_H_CONTENT_LENGTH, mz_arena_printf(p->arena, "%zu", c->send.total));
    return h;
}

static void send_request(struct probe *p)
{
    const struct check_http_config *c = cfg_of(p->session);
    const struct mz_stream_in in = { &in_ops, p, p->arena };
    p->enc =
        c->http2 ? mz_http2_client_request(p->codec, &in) : mz_http1_client_request(p->codec, &in);
    if (!p->enc) { /* no stream id is left, or the host goes away */
        p->last = true;
        lost(p, CHECK_CLOSED, 0);
        return;
    }
    p->enc->ops->encode_headers(p->enc, request_headers(p), !c->send.n);
    if (!c->send.n || !p->enc)
        return;
    struct mz_buf body;
    mz_buf_init(&body);
    mz_buf_append_str(&body, c->send.v[0]);
    p->enc->ops->encode_data(p->enc, &body, true);
    mz_buf_fini(&body);
}

/* ---- the connection ---- */
static void settle(struct probe *p)
{
    if (p->conn && !p->enc && (p->last || p->codec->must_close))
        probe_give_up(p);
}

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    struct probe *p = arg;
    struct mz_buf *in = mz_conn_in(conn);
    if (!p->codec || !p->session) {
        mz_buf_drain(in, mz_buf_len(in));
        return;
    }
    bool http1 = p->codec->protocol != MZ_HTTP2;
    if (http1 &&
        !p->enc) { /* bytes that nobody asked for, or the peer's end, which follows by itself */
        if (mz_buf_len(in))
            probe_give_up(p);
        return;
    }
    enum mz_codec_status st = p->codec->ops->dispatch(p->codec, in, end);
    if (!p->conn)
        return;
    if (st != MZ_CODEC_OK) {
        p->last = true;
        p->codec->ops->conn_closed(p->codec, MZ_RESET_PROTOCOL_ERROR);
    }
    if (http1 && !p->enc && mz_buf_len(in)) /* behind the answer (F02) */
        p->last = true;
    settle(p);
}

static void written(void *arg)
{
    struct probe *p = arg;
    if (p->conn)
        mz_conn_written(p->conn, false);
}

static void read_disable(void *arg, bool disable)
{
    struct probe *p = arg;
    if (p->conn)
        mz_conn_read_disable(p->conn, disable);
}

/* GOAWAY: the check under way may end, the next one takes another connection. */
static void going_away(void *arg)
{
    struct probe *p = arg;
    p->last = true;
}

static void streams_changed(void *arg, uint32_t n) /* one at a time is ours */
{
    (void)arg;
    (void)n;
}

static void dead(void *arg)
{
    struct probe *p = arg;
    p->last = true;
    if (p->enc)
        lost(p, CHECK_TIMEOUT, 0);
    probe_give_up(p);
}
static const struct mz_codec_client_ops client_ops = { going_away, streams_changed, dead };

static void connected(struct probe *p)
{
    struct mz_cluster *c = p->session->checker->cluster;
    const struct mz_codec_sink sink = {
        .out = mz_conn_out(p->conn), .written = written, .read_disable = read_disable, .arg = p
    };
    struct checker *k = p->session->checker;
    const struct mz_http1_stats stats1 = cluster_http1_stats(k->codec_scope);
    const struct mz_http2_stats stats2 = { k->codec_scope };
    p->connected = true;
    p->codec = cfg_of(p->session)->http2
                   ? mz_http2_client_create(&c->http2_opts, &stats2, p->loop, &sink, &client_ops, p)
                   : mz_http1_client_create(&c->http1, &stats1, &sink);
    send_request(p);
    settle(p);
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct probe *p = arg;
    if (ev == MZ_CONN_CONNECTED) {
        if (p->session)
            connected(p);
        return;
    }
    int err = conn->error;
    p->conn = NULL;
    if (p->session && p->session->probe == p)
        p->session->probe = NULL;
    if (p->enc) /* its reset tells the session */
        p->codec->ops->conn_closed(p->codec, MZ_RESET_CONN_TERMINATED);
    else if (p->session && !p->connected)
        lost(p, CHECK_CONNECT, err);
    p->session = NULL;
    mz_loop_free_later(p->loop, p, probe_free);
}

static const struct mz_conn_ops conn_ops = { .data = conn_data, .event = conn_event };

/* ---- what the session calls ---- */
static void start(struct check_session *s)
{
    struct probe *p = s->probe;
    if (p && (p->last || !p->connected)) { /* it could not end yet */
        probe_give_up(p);
        p = NULL;
    }
    if (p) {
        mz_arena_destroy(p->arena);
        p->arena = mz_arena_create(MZ_MEM_UPSTREAM);
        mz_buf_drain(&p->body, mz_buf_len(&p->body));
        p->answer = p->trailers = NULL;
        send_request(p);
        settle(p);
        return;
    }
    p = mz_new0(MZ_MEM_UPSTREAM, struct probe);
    p->session = s;
    p->loop = s->checker->main;
    p->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    mz_buf_init(&p->body);
    s->probe = p;
    struct checker *k = s->checker;
    if (!k->codec_scope)
        k->codec_scope = cluster_codec_scope(k->cluster, cfg_of(s)->http2);
    p->conn = check_connect(s, &conn_ops, p);
}

static void drop(struct check_session *s)
{
    if (s->probe)
        probe_give_up(s->probe);
}

const struct check_probe_type check_http = { 0, "HTTP", start, drop };
const struct check_probe_type check_grpc = { 2, "GRPC", start, drop };
