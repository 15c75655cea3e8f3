#include "router/router_priv.h"

/*
 * Mirrors (H8): a copy of the whole request to another cluster, its answer thrown away. A mirror outlives its stream, so it
 * has an arena of its own; it belongs to the worker's loop and ends by answer, reset, pool failure or its timeout.
 */
struct mirror {
    struct mz_arena *arena;
    struct mz_loop *loop;
    struct mz_stream_in in;
    struct mz_pool_pending *pending;
    struct mz_stream_enc *enc;
    struct mz_cluster *cluster;
    struct mz_host *host;
    struct mz_headers *headers;
    struct mz_buf body;
    struct mz_timer timeout;
    bool answered, over;
};

static void mirror_free(void *p)
{
    struct mirror *m = p;
    mz_buf_fini(&m->body);
    mz_host_unref(m->host);
    mz_cluster_unref(m->cluster);
    mz_arena_destroy(m->arena);
}

static void end(struct mirror *m)
{
    if (m->over)
        return;
    m->over = true;
    mz_timer_stop(&m->timeout);
    mz_loop_free_later(m->loop, m, mirror_free);
}

static void count_answer(struct mirror *m, unsigned status)
{
    mz_count(m->cluster->scope, MZ_CS_RQ_COMPLETED, 1);
    mz_count_code(m->cluster->scope, "upstream_rq_", status);
    mz_count(m->cluster->scope, MZ_CS_INTERNAL_RQ_COMPLETED, 1);
    mz_count_code(m->cluster->scope, "internal.upstream_rq_", status);
}

static void on_headers(void *arg, struct mz_headers *h, bool ended)
{
    struct mirror *m = arg;
    m->answered = true;
    count_answer(m, mz_headers_status(h));
    mz_outlier_status(m->host, mz_headers_status(h));
    if (ended) {
        m->enc = NULL;
        end(m);
    }
}

static void on_data(void *arg, struct mz_buf *data, bool ended)
{
    mz_buf_drain(data, mz_buf_len(data));
    if (ended) {
        ((struct mirror *)arg)->enc = NULL;
        end(arg);
    }
}

static void on_trailers(void *arg, struct mz_headers *h)
{
    (void)h;
    ((struct mirror *)arg)->enc = NULL;
    end(arg);
}

static void on_reset(void *arg, enum mz_reset_reason r, const char *details)
{
    (void)r;
    (void)details;
    struct mirror *m = arg;
    mz_outlier_report(m->host, MZ_OUTLIER_CONNECT_FAILED, 0);
    m->enc = NULL;
    end(m);
}

static void on_timeout(struct mz_timer *t)
{
    struct mirror *m = MZ_CONTAINER(t, struct mirror, timeout);
    mz_count(m->cluster->scope, MZ_CS_RQ_TIMEOUT, 1);
    if (!m->answered)
        mz_outlier_report(m->host, MZ_OUTLIER_TIMEOUT, 504);
    if (m->pending)
        mz_pool_cancel(m->pending, false);
    else if (m->enc)
        m->enc->ops->reset(m->enc, MZ_RESET_LOCAL);
    m->pending = NULL;
    m->enc = NULL;
    end(m);
}

static void on_1xx(void *arg, struct mz_headers *h)
{
    (void)arg;
    (void)h;
}

static void ignore(void *arg) /* the body is there whole: nothing to pause */
{
    (void)arg;
}
static const struct mz_stream_in_ops in_ops = { on_1xx,   on_headers, on_data, on_trailers,
                                                on_reset, ignore,     ignore };

static void on_ready(void *arg, const struct mz_pool_ready *p)
{
    struct mirror *m = arg;
    m->pending = NULL;
    m->enc = p->enc;
    mz_outlier_report(m->host, MZ_OUTLIER_CONNECTED, 0);
    bool body = mz_buf_len(&m->body) > 0;
    struct mz_stream_enc *e = p->enc;
    e->ops->encode_headers(e, m->headers, !body);
    if (body && !m->over && m->enc)
        e->ops->encode_data(e, &m->body, true);
}

static void on_failed(void *arg, enum mz_pool_failure why, struct mz_str failure, int err,
                      struct mz_host *host)
{
    (void)failure;
    (void)err;
    if (host && why != MZ_POOL_OVERFLOW)
        mz_outlier_report(host, MZ_OUTLIER_CONNECT_FAILED, 0);
    ((struct mirror *)arg)->pending = NULL;
    end(arg);
}
static const struct mz_pool_ops pool_ops = { on_ready, on_failed };

/* "host-shadow" marks the copy, the port stays (unless disable_shadow_host_suffix_append). */
static void shadow_host(struct mirror *m, const struct mz_mirror_policy *p)
{
    struct mz_str host = mz_headers_value_id(m->headers, MZ_H_AUTHORITY);
    if (p->host_rewrite.n) {
        mz_headers_set_id(m->headers, MZ_H_AUTHORITY, mz_arena_dup(m->arena, p->host_rewrite));
        return;
    }
    if (p->disable_host_suffix || !host.n)
        return;
    ptrdiff_t colon = mz_str_rchr(host, ':');
    ptrdiff_t bracket = mz_str_rchr(host, ']');
    size_t cut = colon > bracket ? (size_t)colon : host.n;
    struct mz_str parts[] = { { host.p, cut }, MZ_STR("-shadow"), mz_str_skip(host, cut) };
    mz_headers_set_id(m->headers, MZ_H_AUTHORITY, mz_arena_cat(m->arena, 3, parts));
}

static void send_one(struct router *r, const struct mz_mirror_policy *p)
{
    struct mz_stream *s = stream_of(r);
    struct mz_str name = p->cluster.n ? p->cluster : MZ_STR("");
    struct mz_header *by_header =
        p->cluster_header.n ? mz_headers_get(r->headers, p->cluster_header) : NULL;
    if (!name.n && by_header)
        name = by_header->value;
    struct mz_wcluster *w = name.n ? mz_upstream_find(mz_stream_worker(s)->upstream, name) : NULL;
    if (!w)
        return;
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mirror *m = mz_arena_new0(arena, struct mirror);
    m->arena = arena;
    m->loop = loop_of(r);
    m->cluster = mz_cluster_ref(mz_wcluster_info(w));
    mz_buf_init(&m->body);
    mz_timer_init(m->loop, &m->timeout, on_timeout);
    m->headers = mz_headers_clone(r->headers, arena);
    mz_buf_copy(&m->body, &r->body);
    mz_headers_set_id(m->headers, MZ_H_X_ENVOY_INTERNAL, MZ_STR("true"));
    const struct mz_addr *own = mz_addr_local_machine();
    if (own->len) {
        char text[MZ_ADDR_TEXT];
        struct mz_str ip = { text, mz_addr_ip_text(own, text) };
        mz_headers_append_id(m->headers, MZ_H_X_FORWARDED_FOR, mz_arena_dup(arena, ip), ",");
    }
    shadow_host(m, p);
    struct mz_format_ctx ctx = { .info = info_of(r), .req = m->headers };
    mz_header_ops_apply(&p->mutations, m->headers, &ctx);
    mz_stream_story(s, MZ_STEP_MIRROR, m->cluster->name, MZ_STR(""), 0, 0);
    struct mz_lb_ctx lb = { .has_hash = r->has_hash, .hash = r->hash, .headers = m->headers };
    struct mz_host *host = mz_wcluster_choose(w, &lb);
    if (!host) {
        mz_count(m->cluster->scope, MZ_CS_CX_NONE_HEALTHY, 1);
        end(m);
        return;
    }
    m->host = mz_host_ref(host);
    m->in = (struct mz_stream_in){ &in_ops, m, arena };
    mz_timer_start_ms(&m->timeout, r->times.global_ms ? r->times.global_ms : 15000);
    struct mz_pool_opts o = { .priority = MZ_PRIORITY_DEFAULT,
                              .downstream_protocol = info_of(r)->protocol };
    struct mz_pool_pending *pending = mz_http_pool_request(w, host, &o, &m->in, &pool_ops, m);
    if (pending)
        m->pending = pending;
}

void mirrors_send(struct router *r)
{
    for (uint32_t i = 0; i < r->route->n_mirrors && i < 32; i++)
        if (r->mirrors_mask & (1u << i))
            send_one(r, &r->route->mirrors[i]);
}
