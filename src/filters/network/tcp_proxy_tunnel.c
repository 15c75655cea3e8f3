/*
 * A session whose upstream is an HTTP stream (tunneling_config, L6): CONNECT or POST, its body what the client says, the answer's
 * body what it hears. The client is not read before the answer says that the tunnel stands.
 */
#include "base/log.h"
#include "filters/network/tcp_proxy.h"
#include "observe/metadata.h"

#define STATE_HEADERS  "envoy.tcp_proxy.propagate_response_headers"
#define STATE_TRAILERS "envoy.tcp_proxy.propagate_response_trailers"

struct tcp_tunnel { /* of one attempt; in the session's arena */
    struct tcp_session *s;
    struct mz_stream_in in;
    struct mz_pool_pending *pending;
    struct mz_stream_enc *enc; /* NULL: not there, or over */
    struct mz_host *host;      /* the session holds it */
    uint64_t last_us;          /* the last byte either way */
    enum mz_http_protocol protocol;
    bool stands, in_end, out_end;
};

/* ---- headers and trailers of the answer, for logs and for HTTP filters of a connection within ---- */

struct headers_object {
    struct mz_filter_object base;
    const struct mz_value *tree;
};

static const struct mz_value *object_tree(const struct mz_filter_object *o, struct mz_arena *a)
{
    (void)a;
    return ((const struct headers_object *)(const void *)o)->tree;
}

static const struct mz_value *text_value(struct mz_arena *a, struct mz_str s)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    v->kind = MZ_VALUE_STRING;
    v->str = mz_arena_dup(a, s);
    return v;
}

static void field_set(struct mz_value *to, struct mz_str key, const struct mz_value *v)
{
    to->fields.v[to->fields.n++] = (struct mz_field){ key, v };
}

/* {"headers": [{"key": ..., "value": ...}]}, as config.core.v3.HeaderMap */
static const struct mz_value *headers_tree(const struct mz_headers *h, struct mz_arena *a)
{
    size_t n = 0, i = 0;
    mz_headers_foreach(it, h) n++;
    struct mz_value *items = mz_arena_alloc0(a, n * sizeof(*items));
    mz_headers_foreach(it, h)
    {
        struct mz_value *pair = &items[i++];
        pair->kind = MZ_VALUE_STRUCT;
        pair->fields.v = mz_arena_alloc0(a, 2 * sizeof(struct mz_field));
        field_set(pair, MZ_STR("key"), text_value(a, it->name));
        field_set(pair, MZ_STR("value"), text_value(a, it->value));
    }
    struct mz_value *list = mz_arena_new0(a, struct mz_value);
    list->kind = MZ_VALUE_LIST;
    list->list.v = items;
    list->list.n = n;
    struct mz_value *all = mz_arena_new0(a, struct mz_value);
    all->kind = MZ_VALUE_STRUCT;
    all->fields.v = mz_arena_alloc0(a, sizeof(struct mz_field));
    field_set(all, MZ_STR("headers"), list);
    return all;
}

static void keep_headers(struct tcp_session *s, struct mz_str key, const struct mz_headers *h)
{
    struct headers_object *o = mz_arena_new0(s->arena, struct headers_object);
    o->base.tree = object_tree;
    o->base.read_only = true;
    o->tree = headers_tree(h, s->arena);
    mz_info_set_state(s->info, key, &o->base);
}

/* ---- the answer ---- */

static void touch(struct tcp_tunnel *t)
{
    t->last_us = tcp_now_us(t->s);
}

/* The stream ended or was never good: nothing of it is heard any more. */
static void drop(struct tcp_tunnel *t, bool reset)
{
    struct mz_stream_enc *e = t->enc;
    t->enc = NULL;
    if (e) {
        t->s->info->up.wire_in = e->wire_in;
        t->s->info->up.wire_out = e->wire_out;
    }
    if (e && reset)
        e->ops->reset(e, MZ_RESET_LOCAL);
}

static void refused(struct tcp_tunnel *t, struct mz_str why)
{
    struct tcp_session *s = t->s;
    drop(t, true);
    s->tunnel = NULL;
    tcp_attempt_refused(s, why, t->host);
}

static bool accepts(const struct tcp_tunnel *t, unsigned status)
{
    return t->protocol < MZ_HTTP2 ? status / 100 == 2 : status == 200;
}

static void on_headers(void *arg, struct mz_headers *h, bool end)
{
    struct tcp_tunnel *t = arg;
    unsigned status = mz_headers_status(h);
    if (!t->enc)
        return;
    if (end || !accepts(t, status)) {
        refused(t, mz_arena_printf(t->s->arena, "tunnel_response:%u", status));
        return;
    }
    if (tcp_cfg_of(t->s)->tunnel->keep_headers)
        keep_headers(t->s, MZ_STR(STATE_HEADERS), h);
    t->stands = true;
    touch(t);
    tcp_tunnel_stands(t->s);
}

static void on_data(void *arg, struct mz_buf *data, bool end)
{
    struct tcp_tunnel *t = arg;
    if (!t->enc)
        return;
    touch(t);
    t->in_end |= end;
    if (t->in_end && t->out_end)
        drop(t, false); /* both directions ended in order */
    tcp_from_upstream(t->s, data, end);
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    struct tcp_tunnel *t = arg;
    struct mz_buf none;
    if (t->enc && tcp_cfg_of(t->s)->tunnel->keep_trailers)
        keep_headers(t->s, MZ_STR(STATE_TRAILERS), h);
    mz_buf_init(&none);
    on_data(t, &none, true);
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    struct tcp_tunnel *t = arg;
    (void)details;
    if (!t->enc)
        return;
    if (!t->stands) {
        refused(t, MZ_STR(""));
        return;
    }
    drop(t, false);
    tcp_upstream_gone(t->s, r == MZ_RESET_REMOTE || r == MZ_RESET_CONNECT_ERROR);
}

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h; /* the answer is still to come */
}

static void on_above_high(void *arg)
{
    struct tcp_tunnel *t = arg;
    if (t->enc)
        tcp_upstream_full(t->s, true);
}

static void on_below_low(void *arg)
{
    struct tcp_tunnel *t = arg;
    if (t->enc)
        tcp_upstream_full(t->s, false);
}

static const struct mz_stream_in_ops in_ops = { .on_1xx = on_1xx,
                                                .on_headers = on_headers,
                                                .on_data = on_data,
                                                .on_trailers = on_trailers,
                                                .on_reset = on_reset,
                                                .on_above_high = on_above_high,
                                                .on_below_low = on_below_low };

/* ---- the request ---- */

/* Of formats and clients: what is no authority (RFC 3986) must not become a head. */
static bool host_good(struct mz_str s)
{
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] <= ' ' || (unsigned char)s.p[i] >= 0x7f)
            return false;
    return s.n != 0;
}

static struct mz_str host_made(struct tcp_session *s)
{
    const struct mz_format_ctx ctx = { .info = s->info, .now_us = tcp_now_us(s) };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_log_format_append(tcp_cfg_of(s)->tunnel->host, &ctx, &b);
    struct mz_str out = mz_arena_dup(s->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return out;
}

static struct mz_headers *request_head(struct tcp_tunnel *t, struct mz_str host)
{
    struct tcp_session *s = t->s;
    const struct tcp_tunnel_cfg *c = tcp_cfg_of(s)->tunnel;
    struct mz_headers *h = mz_headers_create(s->arena);
    mz_headers_add_id(h, MZ_H_METHOD, c->post ? MZ_STR("POST") : MZ_STR("CONNECT"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, host);
    if (c->post) {
        mz_headers_add_id(h, MZ_H_PATH, c->path);
        mz_headers_add_id(h, MZ_H_SCHEME,
                          mz_host_transport(t->host)->secure ? MZ_STR("https") : MZ_STR("http"));
    }
    const struct mz_format_ctx ctx = { .info = s->info, .req = h, .now_us = tcp_now_us(s) };
    mz_header_mutations_apply(&c->headers, h, &ctx);
    return h;
}

static void pool_ready(void *arg, const struct mz_pool_ready *r)
{
    struct tcp_tunnel *t = arg;
    struct mz_stream_info *i = t->s->info;
    t->pending = NULL;
    t->enc = r->enc;
    t->protocol = r->protocol;
    i->up.local = *r->local;
    i->up.remote = *r->remote;
    mz_format_upstream_facts(i, r->conn->transport);
    i->up.conn_id = r->conn_id;
    i->up.connect_start_us = r->connect_start_us;
    i->up.connect_us = r->connect_us;
    i->up.pool_ready_us = tcp_now_us(t->s);
    tcp_attempt_host(t->s, r->host);
    struct mz_str host = host_made(t->s);
    if (!host_good(host)) {
        refused(t, MZ_STR("tunnel_hostname_invalid"));
        return;
    }
    t->enc->ops->encode_headers(t->enc, request_head(t, host), false);
}

static void pool_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure,
                        int err, struct mz_host *host)
{
    struct tcp_tunnel *t = arg;
    struct tcp_session *s = t->s;
    t->pending = NULL;
    s->tunnel = NULL;
    tcp_attempt_failed(s, why, transport_failure, err, host);
}

static const struct mz_pool_ops pool_ops = { pool_ready, pool_failed };

void tcp_tunnel_start(struct tcp_session *s, struct mz_host *h)
{
    struct tcp_tunnel *t = mz_arena_new0(s->arena, struct tcp_tunnel);
    const struct mz_pool_opts o = { .priority = MZ_PRIORITY_DEFAULT,
                                    .downstream_protocol = MZ_HTTP11,
                                    .upgrade = true,
                                    .transport = tcp_transport_opts(s, h) };
    t->s = s;
    t->host = h;
    t->in = (struct mz_stream_in){ &in_ops, t, s->arena };
    s->tunnel = t;
    struct mz_pool_pending *p = mz_http_pool_request(s->up.cluster, h, &o, &t->in, &pool_ops, t);
    if (p)
        t->pending = p;
}

/* ---- what the session does with it ---- */

uint64_t tcp_tunnel_activity_us(const struct tcp_tunnel *t)
{
    return t->last_us;
}

void tcp_tunnel_write(struct tcp_tunnel *t, struct mz_buf *data, bool end)
{
    struct mz_stream_enc *e = t->enc;
    if (!e || !t->stands) {
        mz_buf_drain(data, mz_buf_len(data));
        return;
    }
    touch(t);
    t->out_end |= end;
    e->ops->encode_data(e, data, end);
    if (t->in_end && t->out_end)
        drop(t, false);
}

void tcp_tunnel_read_disable(struct tcp_tunnel *t, bool disable)
{
    if (t->enc)
        t->enc->ops->read_disable(t->enc, disable);
}

void tcp_tunnel_end(struct tcp_tunnel *t)
{
    if (t->pending)
        mz_pool_cancel(t->pending, false);
    t->pending = NULL;
    drop(t, true);
}
