#include "filters/http/http_filters.h"

#include "base/vec.h"
#include "proto/mapper.h"
#include "upstream/cluster.h"

/* health_check: answers probes itself, or lets them pass and remembers the answer; /healthcheck/fail makes it say 503 (H9, P5). */

#define STATS(X)                                                                                   \
    X(CACHED, "cached_response")                                                                   \
    X(DEGRADED, "degraded")                                                                        \
    X(FAILED, "failed")                                                                            \
    X(CLUSTER_EMPTY, "failed_cluster_empty")                                                       \
    X(CLUSTER_NOT_FOUND, "failed_cluster_not_found")                                               \
    X(CLUSTER_UNHEALTHY, "failed_cluster_unhealthy")                                               \
    X(OK, "ok")                                                                                    \
    X(TOTAL, "request_total")
enum {
#define X(id, name) HC_##id,
    STATS(X)
#undef X
};
static const struct mz_stat_def stat_defs[] = {
#define X(id, name) [HC_##id] = { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "health check filter", stat_defs, MZ_COUNT(stat_defs) };

struct min_healthy {
    struct mz_str cluster;
    double percent;
};
struct hc_cfg {
    struct mz_scope *scope;
    bool pass_through;
    uint64_t cache_ms;
    struct mz_header_match **headers;
    size_t n_headers;
    struct min_healthy *clusters;
    size_t n_clusters;
    struct mz_process *process;
    struct mz_str node_cluster;
    /* the remembered answer, for all workers: status in the upper half, time of its end (ms) in the lower */
    uint64_t cached_until_ms;
    uint32_t cached_status;
    bool cached_degraded;
};
struct state {
    struct mz_filter base;
    bool probe, handling;
};

static void config_destroy(void *cfg)
{
    struct hc_cfg *c = cfg;
    if (!c)
        return;
    mz_scope_unref(c->scope);
    for (size_t i = 0; i < c->n_headers; i++)
        mz_header_match_destroy(c->headers[i]);
    for (size_t i = 0; i < c->n_clusters; i++)
        mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)c->clusters[i].cluster.p);
    mz_free(MZ_MEM_CONFIG, c->headers);
    mz_free(MZ_MEM_CONFIG, c->clusters);
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)c->node_cluster.p);
    mz_free(MZ_MEM_CONFIG, c);
}

static struct mz_str dup(struct mz_str s)
{
    return (struct mz_str){ mz_strndup(MZ_MEM_CONFIG, s.p, s.n), s.n };
}

static bool fill(const pb_health_check_HealthCheck *m, struct hc_cfg *c, struct mz_err *err)
{
    c->pass_through = mz_bool_or(m->pass_through_mode, false);
    if (!mz_duration_ms(m->cache_time, 0, &c->cache_ms, err))
        return mz_err_at(err, "cache_time");
    if (c->cache_ms && !c->pass_through)
        return mz_err_set(err, "cache_time needs pass_through_mode: true");
    if (m->n_cluster_min_healthy_percentages && c->pass_through)
        return mz_err_set(err, "cluster_min_healthy_percentages needs pass_through_mode: false");
    c->headers = mz_newn0(MZ_MEM_CONFIG, struct mz_header_match *, m->n_headers);
    for (size_t i = 0; i < m->n_headers; i++) {
        c->headers[i] = mz_header_match_build(m->headers[i], err);
        if (!c->headers[i])
            return mz_err_at(err, "headers[%zu]", i);
        c->n_headers++;
    }
    c->clusters = mz_newn0(MZ_MEM_CONFIG, struct min_healthy, m->n_cluster_min_healthy_percentages);
    for (size_t i = 0; i < m->n_cluster_min_healthy_percentages; i++) {
        const pb_HealthCheck_ClusterMinHealthyPercentagesEntry *e =
            m->cluster_min_healthy_percentages[i];
        c->clusters[c->n_clusters++] =
            (struct min_healthy){ dup(mz_str_c(e->key)), e->value ? e->value->value : 0 };
    }
    return true;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    struct hc_cfg *c = mz_new0(MZ_MEM_CONFIG, struct hc_cfg);
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    c->scope = mz_scope_create(f->stats, &stats,
                               mz_arena_cat(a, 3,
                                            (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix,
                                                               MZ_STR(".health_check.") }));
    mz_arena_destroy(a);
    c->process = f->process;
    c->node_cluster = dup(f->node_cluster);
    if (fill(msg, c, err))
        return c;
    config_destroy(c);
    return NULL;
}

/* ---- at work ---- */

static bool failed(const struct hc_cfg *c)
{
    return __atomic_load_n(&c->process->health_failed, __ATOMIC_RELAXED);
}

static uint64_t now_ms(const struct mz_filter *f)
{
    return mz_loop_now_us(mz_stream_worker(f->stream)->loop) / 1000;
}

static bool cached(const struct hc_cfg *c, uint64_t now)
{
    return c->cache_ms && __atomic_load_n(&c->cached_until_ms, __ATOMIC_ACQUIRE) > now;
}

static bool cluster_ok(struct mz_filter *f, const struct min_healthy *min, unsigned *out_stat)
{
    struct mz_wcluster *w = mz_upstream_find(mz_stream_worker(f->stream)->upstream, min->cluster);
    if (!w) {
        *out_stat = HC_CLUSTER_NOT_FOUND;
        return false;
    }
    const struct mz_cluster *cluster = mz_wcluster_info(w);
    uint64_t total = mz_cluster_member(cluster, MZ_CM_TOTAL);
    uint64_t up =
        mz_cluster_member(cluster, MZ_CM_HEALTHY) + mz_cluster_member(cluster, MZ_CM_DEGRADED);
    uint64_t percent = (uint64_t)min->percent; /* whole ones, as Envoy */
    *out_stat = total ? HC_CLUSTER_UNHEALTHY : HC_CLUSTER_EMPTY;
    return total ? 100 * up >= total * percent : !percent;
}

static void by_clusters(struct mz_filter *f, const struct hc_cfg *c, struct mz_local_reply *r)
{
    static const char *const details[] = {
        [HC_CLUSTER_EMPTY] = "health_check_failed_cluster_empty",
        [HC_CLUSTER_NOT_FOUND] = "health_check_failed_no_cluster_found",
        [HC_CLUSTER_UNHEALTHY] = "health_check_failed_cluster_unhealthy",
    };
    if (c->n_clusters)
        r->details = "health_check_ok_cluster_healthy";
    for (size_t i = 0; i < c->n_clusters; i++) {
        unsigned why;
        if (cluster_ok(f, &c->clusters[i], &why))
            continue;
        mz_count(c->scope, why, 1);
        r->status = 503;
        r->details = details[why];
        return;
    }
}

static void say_degraded(struct mz_headers *h, void *arg)
{
    (void)arg;
    mz_headers_set_id(h, MZ_H_X_ENVOY_DEGRADED, MZ_STR(""));
}

static void by_cache(const struct hc_cfg *c, struct mz_local_reply *r)
{
    mz_count(c->scope, HC_CACHED, 1);
    r->status = __atomic_load_n(&c->cached_status, __ATOMIC_RELAXED);
    r->details = "health_check_cached";
    if (!__atomic_load_n(&c->cached_degraded, __ATOMIC_RELAXED))
        return;
    mz_count(c->scope, HC_DEGRADED, 1);
    r->modify = say_degraded;
}

static void answer(struct mz_filter *f)
{
    const struct hc_cfg *c = f->cfg;
    struct mz_local_reply r = { .status = 200, .details = "health_check_ok" };
    if (failed(c)) {
        r.status = 503;
        r.details = "health_check_failed";
    } else if (cached(c, now_ms(f))) {
        by_cache(c, &r);
    } else {
        by_clusters(f, c, &r);
    }
    bool ok = r.status >= 200 && r.status <= 299;
    if (!ok)
        r.flags = MZ_FLAG(FAILED_LOCAL_HEALTH_CHECK);
    mz_count(c->scope, HC_TOTAL, 1);
    mz_count(c->scope, ok ? HC_OK : HC_FAILED, 1);
    mz_stream_local_reply(f->stream, &r);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    const struct hc_cfg *c = f->cfg;
    for (size_t i = 0; i < c->n_headers; i++)
        if (!mz_header_match(c->headers[i], h))
            return MZ_FLOW_CONTINUE;
    st->probe = true;
    mz_stream_info(f->stream)->health_check = true;
    st->handling = !c->pass_through || failed(c) || cached(c, now_ms(f));
    if (!st->handling)
        return MZ_FLOW_CONTINUE;
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    struct state *st = (struct state *)(void *)f;
    if (!st->handling)
        return MZ_FLOW_CONTINUE;
    mz_buf_drain(data, mz_buf_len(data));
    if (end)
        answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_request_trailers(struct mz_filter *f, struct mz_headers *h)
{
    (void)h;
    struct state *st = (struct state *)(void *)f;
    if (!st->handling)
        return MZ_FLOW_CONTINUE;
    answer(f);
    return MZ_FLOW_STOP;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    struct hc_cfg *c = (struct hc_cfg *)(uintptr_t)f->cfg;
    if (failed(c))
        mz_headers_set_id(h, MZ_H_X_ENVOY_IMMEDIATE_HEALTH_CHECK_FAIL, MZ_STR("true"));
    if (st->probe) {
        if (c->cache_ms && !st->handling) {
            __atomic_store_n(&c->cached_degraded,
                             mz_headers_get_id(h, MZ_H_X_ENVOY_DEGRADED) != NULL, __ATOMIC_RELAXED);
            __atomic_store_n(&c->cached_status, mz_headers_status(h), __ATOMIC_RELAXED);
            __atomic_store_n(&c->cached_until_ms, now_ms(f) + c->cache_ms, __ATOMIC_RELEASE);
        }
        mz_headers_set(h, MZ_STR("x-envoy-upstream-healthchecked-cluster"), c->node_cluster);
    }
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_health_check = {
    .name = "envoy.filters.http.health_check",
    .config_type = "envoy.extensions.filters.http.health_check.v3.HealthCheck",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_request_trailers = on_request_trailers,
    .on_response_headers = on_response_headers,
};
