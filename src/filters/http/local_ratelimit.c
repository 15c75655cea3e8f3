#include "filters/http/local_ratelimit.h"

#include "filters/http/fraction.h"
#include "filters/http/http_filters.h"
#include "upstream/cluster.h"

/* local_ratelimit: a request takes tokens of the buckets that its descriptors name and of the default one, or is refused (H9). */

struct match {
    const struct lrl_rule *rule;
    token_bucket *bucket;
    uint64_t hits;
};
struct verdict {
    bool allowed;
    const struct bucket_rate *rate; /* of the bucket that headers tell of; NULL: none was asked */
    token_bucket *bucket;
    struct mz_str text; /* of the bucket that refused */
};
struct state {
    struct mz_filter base;
    const struct lrl_cfg *cfg;
    struct verdict verdict;
};

static uint64_t now_us(const struct mz_filter *f)
{
    return mz_loop_now_us(mz_stream_worker(f->stream)->loop);
}

/* ---- the limiter ---- */

static struct lrl_limiter *limiter_of(struct state *st)
{
    const struct lrl_cfg *c = st->cfg;
    if (c->limiter)
        return c->limiter;
    struct mz_stream *s = st->base.stream;
    struct lrl_limiter *l = mz_stream_conn_object(s, c->id);
    if (!l) {
        l = lrl_limiter_create(c);
        mz_stream_set_conn_object(s, c->id, l, lrl_limiter_destroy);
    }
    return l;
}

/* The descriptors of this request: of the filter's own rate_limits, else of the route's and its virtual host's. */
static struct mz_descriptor *describe(struct state *st, struct mz_headers *h, size_t *out_n)
{
    struct mz_stream *s = st->base.stream;
    const struct lrl_cfg *c = st->cfg;
    const struct mz_route *r = mz_stream_route(s);
    struct mz_arena *a = mz_stream_arena(s);
    struct mz_stream_info *info = mz_stream_info(s);
    struct mz_rate_query q = { .route = r, .service_cluster = c->service_cluster };
    q.q = (struct mz_route_query){ .h = h,
                                   .random = mz_stream_random(s),
                                   .info = info,
                                   .arena = a,
                                   .dynamic_metadata = info->dynamic_metadata };
    *out_n = 0;
    if (c->own) {
        struct mz_descriptor *d = mz_arena_alloc(a, mz_rate_limits_n(c->own) * sizeof(*d));
        *out_n = mz_rate_limits_describe(c->own, c->stage, &q, d);
        return d;
    }
    if (!r || r->action != MZ_ACTION_CLUSTER)
        return NULL;
    const struct mz_rate_limits *more = r->vhost->rate_limits;
    enum lrl_vhost vhost = r->include_vh_rate_limits ? LRL_INCLUDE : c->vhost;
    if (vhost == LRL_IGNORE || (vhost == LRL_OVERRIDE && mz_rate_limits_n(r->rate_limits)))
        more = NULL;
    size_t n = mz_rate_limits_n(r->rate_limits) + mz_rate_limits_n(more);
    struct mz_descriptor *d = mz_arena_alloc(a, n * sizeof(*d));
    *out_n = mz_rate_limits_describe(r->rate_limits, c->stage, &q, d);
    *out_n += mz_rate_limits_describe(more, c->stage, &q, d + *out_n);
    return d;
}

/* How many tokens one hit costs: limits that a cluster of proxies shares are each one's whole limit, at a higher price. */
static uint64_t price(const struct state *st)
{
    uint64_t n = st->cfg->by_cluster
                     ? mz_upstream_local_members(mz_stream_worker(st->base.stream)->upstream)
                     : 1;
    return n ? n : 1;
}

/* Slowest first: what refuses should be asked before others lose tokens. Keeps the order of equals. */
static void sort_in(struct match *v, size_t n, struct match m)
{
    while (n > 0 && v[n - 1].rule->rate.per_s > m.rule->rate.per_s) {
        v[n] = v[n - 1];
        n--;
    }
    v[n] = m;
}

static size_t match(struct state *st, struct lrl_limiter *l, struct mz_headers *h,
                    struct match **out)
{
    const struct lrl_cfg *c = st->cfg;
    size_t n_desc = 0, n = 0;
    struct mz_descriptor *d = c->n_rules ? describe(st, h, &n_desc) : NULL;
    struct mz_arena *a = mz_stream_arena(st->base.stream);
    *out = n_desc ? mz_arena_alloc(a, n_desc * sizeof(**out)) : NULL;
    for (size_t i = 0; i < n_desc; i++) {
        struct mz_str key = lrl_key(d[i].v, d[i].n, a);
        const struct lrl_rule *r = lrl_find(c, &d[i], key);
        if (!r)
            continue;
        token_bucket *b = r->exact.n ? &l->buckets[r->place]
                                     : lrl_table_get(l->tables[r->place], mz_str_hash(key));
        sort_in(*out, n++, (struct match){ r, b, d[i].hits });
    }
    return n;
}

static struct verdict judge(struct state *st, struct mz_headers *h)
{
    const struct lrl_cfg *c = st->cfg;
    struct lrl_limiter *l = limiter_of(st);
    struct match *m;
    uint64_t now = now_us(&st->base), each = price(st);
    size_t n = match(st, l, h, &m);
    for (size_t i = 0; i < n; i++)
        if (!bucket_take(m[i].bucket, &m[i].rule->rate, m[i].hits * each, now))
            return (struct verdict){ false, &m[i].rule->rate, m[i].bucket, m[i].rule->text };
    struct verdict ok = { .allowed = true };
    if (n) {
        ok.rate = &m[0].rule->rate;
        ok.bucket = m[0].bucket;
    }
    if (!c->has_default || (n && !c->always_default))
        return ok;
    if (!bucket_take(&l->buckets[0], &c->rate, each, now))
        return (struct verdict){ false, &c->rate, &l->buckets[0], c->text };
    if (!n) {
        ok.rate = &c->rate;
        ok.bucket = &l->buckets[0];
    }
    return ok;
}

/* ---- the filter ---- */

static void add_headers(struct mz_headers *h, void *arg)
{
    const struct state *st = arg;
    struct mz_format_ctx c = { .info = mz_stream_info(st->base.stream),
                               .req = mz_stream_request_headers(st->base.stream),
                               .resp = h };
    mz_header_mutations_apply(&st->cfg->response, h, &c);
}

static enum mz_flow refuse(struct state *st)
{
    struct mz_filter *f = &st->base;
    mz_count(st->cfg->scope, LRL_ENFORCED, 1);
    mz_stream_story(f->stream, MZ_STEP_FILTER, f->name, MZ_STR("local_rate_limited"), 0, 0);
    struct mz_local_reply r = { .status = st->cfg->status,
                                .body = MZ_STR("local_rate_limited"),
                                .details = "local_rate_limited",
                                .flags = MZ_FLAG(RATE_LIMITED),
                                .has_grpc_status = st->cfg->resource_exhausted,
                                .grpc_status = 8,
                                .modify = add_headers,
                                .modify_arg = st };
    mz_stream_local_reply(f->stream, &r);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct lrl_cfg *c = st->cfg = f->route_cfg ? f->route_cfg : f->cfg;
    if (!fraction_holds(&c->enabled, f))
        return MZ_FLOW_CONTINUE;
    mz_count(c->scope, LRL_ENABLED, 1);
    st->verdict = judge(st, h);
    mz_count(c->scope, st->verdict.allowed ? LRL_OK : LRL_RATE_LIMITED, 1);
    if (st->verdict.allowed)
        return MZ_FLOW_CONTINUE;
    mz_stream_story(f->stream, MZ_STEP_RULE, f->name,
                    mz_arena_cat(mz_stream_arena(f->stream), 2,
                                 (struct mz_str[]){ st->verdict.text, MZ_STR(" (no token left)") }),
                    0, 0);
    if (fraction_holds(&c->enforced, f))
        return refuse(st);
    struct mz_format_ctx ctx = { .info = mz_stream_info(f->stream), .req = h };
    mz_header_mutations_apply(&c->request, h, &ctx);
    return MZ_FLOW_CONTINUE;
}

static void set_number(struct mz_headers *h, struct mz_str name, uint64_t v)
{
    char *text = mz_arena_alloc(h->arena, 20);
    mz_headers_add(h, name, (struct mz_str){ text, mz_u64_text(v, text) });
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct verdict *v = &st->verdict;
    if (!v->bucket || !st->cfg->headers)
        return MZ_FLOW_CONTINUE;
    uint64_t now = now_us(f);
    set_number(h, MZ_STR("x-ratelimit-limit"), (uint64_t)v->rate->max);
    set_number(h, MZ_STR("x-ratelimit-remaining"), bucket_left(v->bucket, v->rate, now));
    set_number(h, MZ_STR("x-ratelimit-reset"), bucket_wait_s(v->bucket, v->rate, now));
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_local_ratelimit = {
    .name = "envoy.filters.http.local_ratelimit",
    .config_type = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit",
    .size = sizeof(struct state),
    .config_build = lrl_config_build,
    .config_destroy = lrl_config_destroy,
    .route_config_build = lrl_route_config_build,
    .route_config_destroy = lrl_config_destroy,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
