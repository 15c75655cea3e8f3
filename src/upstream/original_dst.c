/*
 * ORIGINAL_DST clusters (U1): a host is made when the first connection asks for its address, and goes when nobody used it for
 * a while. A worker that meets a new address makes the host, uses it at once and tells the main thread, which gives it to all.
 */
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

#define DEFAULT_CLEANUP_MS 5000
#define HOSTS_MAX          65536 /* addresses come from clients: further ones are refused */

struct original_dst {
    /* configuration */
    struct mz_str header; /* lower case; "" none */
    struct lb_meta_key metadata;
    bool has_port;
    uint16_t port;
    uint64_t cleanup_ms;
    /* main thread */
    struct mz_cluster *cluster;
    MZ_VEC(struct mz_host *) hosts; /* one reference each */
    struct mz_timer cleanup;
    struct mz_task publish;
    uint32_t added;   /* since the last publishing */
    uint32_t n_hosts; /* atomic: made, on whatever thread, and not yet gone */
};
struct original_dst_here { /* one worker's */
    struct host_map fresh; /* made here and not yet in the sets; one reference each */
};

static struct original_dst *of(const struct mz_cluster *c)
{
    return cluster_priv(c)->original_dst;
}

/* ---- configuration ---- */

void lb_meta_key_build(const pb_MetadataKey *m, struct mz_cluster *c, struct lb_meta_key *out)
{
    out->ns = cluster_keep_str(c, m->key);
    out->path = cluster_keep(c, mz_mul(m->n_path + 1, sizeof(*out->path)));
    for (size_t i = 0; i < m->n_path; i++)
        out->path[out->n++] = cluster_keep_str(c, m->path[i]->key);
}

struct mz_str cluster_keep_lower(struct mz_cluster *c, const char *s)
{
    struct mz_str kept = cluster_keep_str(c, s);
    char *p = (char *)(uintptr_t)kept.p; /* just made */
    for (size_t i = 0; i < kept.n; i++)
        p[i] = mz_lower(p[i]);
    return kept;
}

static bool options_build(const pb_Cluster_OriginalDstLbConfig *m, struct mz_cluster *c,
                          struct original_dst *o, struct mz_err *err)
{
    if (!m->use_http_header && m->http_header_name[0])
        return mz_err_set(err,
                          "invalid config http_header_name=%s and use_http_header is false. Set "
                          "use_http_header to true if http_header_name is desired.",
                          m->http_header_name) ||
               mz_err_at(err, "original_dst_lb_config.http_header_name");
    if (m->use_http_header)
        o->header = cluster_keep_lower(c, m->http_header_name[0] ? m->http_header_name
                                                                 : "x-envoy-original-dst-host");
    if (m->metadata_key)
        lb_meta_key_build(m->metadata_key, c, &o->metadata);
    o->has_port = m->upstream_port_override != NULL;
    o->port = (uint16_t)mz_u32_or(m->upstream_port_override, 0);
    return true;
}

bool original_dst_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct original_dst *o = cluster_keep(c, sizeof(*o));
    cluster_priv(c)->original_dst = o;
    o->cluster = c;
    if (m->load_assignment)
        return mz_err_set(err, "ORIGINAL_DST clusters must have no load assignment configured") ||
               mz_err_at(err, "load_assignment");
    if (m->lb_config_case == pb_Cluster_LB_CONFIG_ORIGINAL_DST_LB_CONFIG &&
        !options_build(m->original_dst_lb_config, c, o, err))
        return false;
    return mz_duration_ms(m->cleanup_interval, DEFAULT_CLEANUP_MS, &o->cleanup_ms, err) ||
           mz_err_at(err, "cleanup_interval");
}

/* ---- main thread ---- */

static void count(const struct original_dst *o, bool changed)
{
    struct endpoints_count n = { .added = o->added, .changed = changed };
    for (size_t i = 0; i < o->hosts.n; i++) {
        enum mz_host_health health = mz_host_health(o->hosts.v[i]);
        n.total++;
        n.healthy += health == MZ_HOST_HEALTHY;
        n.degraded += health == MZ_HOST_DEGRADED;
    }
    cluster_members_count(o->cluster, &n);
}

static void publish(struct mz_task *t)
{
    struct original_dst *o = MZ_CONTAINER(t, struct original_dst, publish);
    struct cluster_priv *p = cluster_priv(o->cluster);
    static const struct locality_spec place = { .priority = 0 };
    struct host_spec *v = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, o->hosts.n + 1);
    for (size_t i = 0; i < o->hosts.n; i++)
        v[i] = (struct host_spec){ mz_host_ref(o->hosts.v[i]), 0 };
    p->seq = p->sets->seq + 1;
    struct host_sets *s = host_sets_create(v, (uint32_t)o->hosts.n, &place, 1, false, p->seq);
    mz_free(MZ_MEM_UPSTREAM, v);
    (void)host_sets_map(s); /* made here rather than on the workers */
    cluster_set_hosts(o->cluster, s);
    count(o, true);
    o->added = 0;
}

static bool in_use(struct mz_host *h)
{
    if (__atomic_exchange_n(&h->used, false, __ATOMIC_RELAXED))
        return true;
    return __atomic_load_n(&h->stats.cx_active, __ATOMIC_RELAXED) ||
           __atomic_load_n(&h->stats.rq_active, __ATOMIC_RELAXED) ||
           __atomic_load_n(&h->stats.rq_pending_active, __ATOMIC_RELAXED);
}

static void on_cleanup(struct mz_timer *t)
{
    struct original_dst *o = MZ_CONTAINER(t, struct original_dst, cleanup);
    size_t kept = 0, n = o->hosts.n;
    for (size_t i = 0; i < n; i++) {
        struct mz_host *h = o->hosts.v[i];
        if (in_use(h)) {
            o->hosts.v[kept++] = h;
            continue;
        }
        __atomic_fetch_or(&h->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
        __atomic_fetch_sub(&o->n_hosts, 1, __ATOMIC_RELAXED);
        mz_host_unref(h);
    }
    o->hosts.n = kept;
    if (kept != n)
        mz_task_schedule(cluster_loop(o->cluster), &o->publish);
    mz_timer_start_ms(&o->cleanup, o->cleanup_ms);
}

void original_dst_start(struct mz_cluster *c)
{
    struct original_dst *o = of(c);
    mz_timer_init(cluster_loop(c), &o->cleanup, on_cleanup);
    mz_task_init(&o->publish, publish);
    mz_timer_start_ms(&o->cleanup, o->cleanup_ms);
}

void original_dst_stop(struct mz_cluster *c)
{
    struct original_dst *o = of(c);
    if (!o)
        return;
    mz_timer_stop(&o->cleanup);
    mz_task_cancel(&o->publish);
    for (size_t i = 0; i < o->hosts.n; i++)
        mz_host_unref(o->hosts.v[i]);
    mz_vec_free(&o->hosts, MZ_MEM_UPSTREAM);
}

struct made { /* a worker tells main */
    struct mz_cluster *cluster;
    struct mz_host *host;
};

static void take_made(struct mz_loop *loop, void *arg)
{
    struct made *m = arg;
    struct original_dst *o = of(m->cluster);
    if (cluster_is_current(m->cluster)) {
        *mz_vec_push(&o->hosts, MZ_MEM_UPSTREAM) = mz_host_ref(m->host);
        o->added++;
        mz_task_schedule(loop, &o->publish);
    }
    mz_host_unref(m->host);
    mz_cluster_unref(m->cluster);
    mz_free(MZ_MEM_UPSTREAM, m);
}

/* ---- a worker ---- */

static bool parse(struct mz_wcluster *w, struct mz_str text, struct mz_addr *out)
{
    if (host_address_parse(text, out))
        return true;
    mz_count(w->cluster->scope, MZ_CS_ORIGINAL_DST_HOST_INVALID, 1);
    return false;
}

static bool by_metadata(struct mz_wcluster *w, const struct lb_meta_key *k,
                        const struct mz_lb_ctx *ctx, struct mz_addr *out)
{
    const struct mz_value *v =
        k->n ? mz_meta_get(ctx->request_metadata, k->ns, k->path, k->n) : NULL;
    if (v && v->kind == MZ_VALUE_LIST && v->list.n)
        v = &v->list.v[0];
    return v && v->kind == MZ_VALUE_STRING && parse(w, v->str, out);
}

/* Who says where to: metadata, then the header's first value, then the connection's own destination. */
static bool target(struct mz_wcluster *w, struct mz_lb_ctx *ctx, struct mz_addr *out)
{
    const struct original_dst *o = of(w->cluster);
    const struct mz_header *h =
        o->header.n && ctx->headers ? mz_headers_get(ctx->headers, o->header) : NULL;
    if (by_metadata(w, &o->metadata, ctx, out)) {
        ctx->why = "the address in the request's metadata";
    } else if (h && parse(w, h->value, out)) {
        ctx->why = "the address in the request's header";
    } else if (ctx->original_dst) {
        *out = *ctx->original_dst;
        ctx->why = "the connection's original destination";
    } else {
        ctx->why = "neither the request nor the connection tells a destination";
        return false;
    }
    if (o->has_port)
        mz_addr_set_port(out, o->port);
    return mz_addr_is_ip(out);
}

static struct mz_host *make(struct mz_wcluster *w, const struct mz_addr *a)
{
    struct original_dst *o = of(w->cluster);
    char text[MZ_ADDR_TEXT], name[MZ_ADDR_TEXT + 256];
    size_t n = mz_addr_text(a, text);
    int len =
        snprintf(name, sizeof(name), MZ_STR_FMT "%.*s", MZ_STR_ARG(w->cluster->name), (int)n, text);
    struct host_text t = { { name, (size_t)len < sizeof(name) ? (size_t)len : sizeof(name) - 1 },
                           NULL };
    struct made *m = mz_new0(MZ_MEM_UPSTREAM, struct made);
    struct mz_host *h = host_create(w->cluster, a, &t, 1, 0);
    host_transport_set(h);
    __atomic_fetch_add(&o->n_hosts, 1, __ATOMIC_RELAXED);
    host_map_put(&w->original_dst->fresh, h);
    *m = (struct made){ mz_cluster_ref(w->cluster), mz_host_ref(h) };
    mz_loop_post(cluster_loop(w->cluster), take_made, m);
    return h;
}

static struct mz_host *choose(struct mz_wcluster *w, struct mz_lb_ctx *ctx)
{
    struct mz_addr a;
    if (!target(w, ctx, &a))
        return NULL;
    struct mz_host *h = host_map_find(host_sets_map(w->lb.sets), &a);
    if (!h && !w->original_dst)
        w->original_dst = mz_new0(MZ_MEM_UPSTREAM, struct original_dst_here);
    if (!h)
        h = host_map_find(&w->original_dst->fresh, &a);
    if (!h && __atomic_load_n(&of(w->cluster)->n_hosts, __ATOMIC_RELAXED) >= HOSTS_MAX) {
        ctx->why = "the cluster has too many hosts";
        return NULL;
    }
    if (!h)
        h = make(w, &a);
    __atomic_store_n(&h->used, true, __ATOMIC_RELAXED);
    return h;
}

/* Hosts that the new sets know of are found there from now on. */
void original_dst_follow(struct mz_wcluster *w)
{
    struct host_map *old = &w->original_dst->fresh, kept = { 0 };
    const struct host_map *known = host_sets_map(w->lb.sets);
    for (uint32_t i = 0; old->v && i <= old->mask; i++) {
        if (!old->v[i])
            continue;
        if (host_map_find(known, &old->v[i]->addr))
            mz_host_unref(old->v[i]);
        else
            host_map_put(&kept, old->v[i]);
    }
    host_map_fini(old);
    *old = kept;
}

void original_dst_drop(struct mz_wcluster *w)
{
    if (!w->original_dst)
        return;
    struct host_map *m = &w->original_dst->fresh;
    for (uint32_t i = 0; m->v && i <= m->mask; i++)
        mz_host_unref(m->v[i]);
    host_map_fini(m);
    mz_free(MZ_MEM_UPSTREAM, w->original_dst);
    w->original_dst = NULL;
}

const struct lb_type lb_original_dst = { .name = "original destination", .provided = choose };
