/*
 * Aggregate clusters (U1): the priorities of the inner clusters in a row, those of the first one first. The aggregate chooses
 * among them as a cluster does among its priorities; the inner cluster's balancer chooses the host, its pools and statistics
 * serve the request.
 */
#include "upstream/stats.h"
#include "upstream/upstream_priv.h"

#define PLACES_MAX                                                                                 \
    (2 * (size_t)(PRIORITIES_MAX + 1)) /* priorities in a row; further ones get nothing */

struct aggregate {
    uint32_t n;
    struct mz_str names[];
};
struct place {                 /* one priority in the row */
    struct mz_wcluster *inner; /* one of used[] */
    uint32_t priority;
    struct mz_str text;
};
struct aggregate_here {     /* one worker's */
    uint64_t generation;    /* of the worker's clusters when the row was made */
    struct mz_arena *arena; /* texts of the row */
    struct place *v;
    uint32_t n;
    struct priority_load *loads;
    MZ_VEC(struct mz_wcluster *)
    used; /* one reference each: in the row, or removed with connections left */
};

/* ---- configuration ---- */

bool aggregate_config(const pb_Cluster_CustomClusterType *m, struct mz_cluster *c,
                      struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg = NULL;
    bool ok = m->typed_config ? mz_any_unpack_as(&ctx, m->typed_config,
                                                 &pb_aggregate_ClusterConfig__descriptor, &msg, err)
                              : mz_err_set(err, "is required");
    if (ok) {
        const pb_aggregate_ClusterConfig *from = (const pb_aggregate_ClusterConfig *)msg;
        struct aggregate *a =
            cluster_keep(c, sizeof(*a) + mz_mul(from->n_clusters, sizeof(a->names[0])));
        for (size_t i = 0; i < from->n_clusters; i++)
            a->names[a->n++] = cluster_keep_str(c, from->clusters[i]);
        cluster_priv(c)->aggregate = a;
    }
    mz_arena_destroy(ctx.arena);
    return ok || mz_err_at(err, "cluster_type.typed_config");
}

struct walk { /* along the names, each cluster once */
    struct mz_cluster *end;
    MZ_VEC(struct mz_cluster *) seen;
    MZ_VEC(struct mz_cluster *) way;
};
#define DEPTH_MAX 100 /* of aggregates that name aggregates */

static bool was_seen(const struct walk *w, const struct mz_cluster *c)
{
    for (size_t i = 0; i < w->seen.n; i++)
        if (w->seen.v[i] == c)
            return true;
    return false;
}

static bool leads_back(struct walk *w, struct mz_cluster *at)
{
    const struct aggregate *a = cluster_priv(at)->aggregate;
    if (!a || was_seen(w, at))
        return false;
    *mz_vec_push(&w->seen, MZ_MEM_UPSTREAM) = at;
    *mz_vec_push(&w->way, MZ_MEM_UPSTREAM) = at;
    for (uint32_t i = 0; i < a->n; i++) {
        if (mz_str_eq(a->names[i], w->end->name) || w->way.n > DEPTH_MAX)
            return true;
        struct mz_cluster *next = cluster_look(cluster_priv(at)->manager, a->names[i]);
        if (next && leads_back(w, next))
            return true;
    }
    w->way.n--;
    return false;
}

/* @c is not in the map yet: the cluster that closes a cycle is the one that is refused. */
bool aggregate_check(struct mz_cluster *c, struct mz_err *err)
{
    struct walk w = { .end = c };
    bool cycle = leads_back(&w, c);
    if (cycle) {
        char text[600];
        size_t n = 0;
        for (size_t i = 0; i < w.way.n && n < sizeof(text); i++)
            n += (size_t)snprintf(text + n, sizeof(text) - n, MZ_STR_FMT " -> ",
                                  MZ_STR_ARG(w.way.v[i]->name));
        (void)(mz_err_set(err, "aggregate clusters form a cycle: %s" MZ_STR_FMT, text,
                          MZ_STR_ARG(c->name)) ||
               mz_err_at(err, "cluster_type.typed_config.clusters"));
    }
    mz_vec_free(&w.seen, MZ_MEM_UPSTREAM);
    mz_vec_free(&w.way, MZ_MEM_UPSTREAM);
    return !cycle;
}

/* ---- a worker: the row of priorities ---- */

static struct mz_wcluster *use(struct aggregate_here *h, struct mz_wcluster *inner)
{
    for (size_t i = 0; i < h->used.n; i++)
        if (h->used.v[i] == inner)
            return inner;
    *mz_vec_push(&h->used, MZ_MEM_UPSTREAM) = mz_wcluster_ref(inner);
    return inner;
}

/* Removed clusters whose last connection ended are let go. */
static void forget(struct aggregate_here *h)
{
    size_t kept = 0;
    for (size_t i = 0; i < h->used.n; i++) {
        if (h->used.v[i]->removed && !h->used.v[i]->pools.n)
            mz_wcluster_unref(h->used.v[i]);
        else
            h->used.v[kept++] = h->used.v[i];
    }
    h->used.n = kept;
}

static void row_add(struct aggregate_here *h, struct mz_wcluster *inner)
{
    const struct host_sets *s = inner->lb.sets;
    for (uint32_t p = 0; p < s->n && h->n < PLACES_MAX; p++)
        if (s->v[p].lists[SOURCE_ALL].n)
            h->v[h->n++] =
                (struct place){ use(h, inner), p,
                                mz_arena_printf(h->arena, "cluster " MZ_STR_FMT ", its priority %u",
                                                MZ_STR_ARG(inner->cluster->name), p) };
}

static void loads_make(struct mz_wcluster *w, struct aggregate_here *h)
{
    const struct host_set **sets = mz_newn0(MZ_MEM_UPSTREAM, const struct host_set *, h->n + 1);
    const struct priority_opts **opts =
        mz_newn0(MZ_MEM_UPSTREAM, const struct priority_opts *, h->n + 1);
    for (uint32_t i = 0; i < h->n; i++) {
        sets[i] = &h->v[i].inner->lb.sets->v[h->v[i].priority];
        opts[i] = h->v[i].inner->lb.opts;
    }
    priority_loads_of(sets, opts, h->n, panic_threshold(w->lb.opts), h->loads);
    mz_free(MZ_MEM_UPSTREAM, sets);
    mz_free(MZ_MEM_UPSTREAM, opts);
}

static void row_make(struct mz_wcluster *w)
{
    const struct aggregate *a = cluster_priv(w->cluster)->aggregate;
    struct aggregate_here *h = w->aggregate;
    if (!h) {
        h = w->aggregate = mz_new0(MZ_MEM_UPSTREAM, struct aggregate_here);
        h->v = mz_newn0(MZ_MEM_UPSTREAM, struct place, PLACES_MAX);
        h->loads = mz_newn0(MZ_MEM_UPSTREAM, struct priority_load, PLACES_MAX);
    }
    forget(h);
    mz_arena_destroy(h->arena);
    h->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    h->n = 0;
    for (uint32_t i = 0; i < a->n; i++) {
        struct mz_wcluster *inner = mz_upstream_find(w->upstream, a->names[i]);
        if (inner && inner != w)
            row_add(h, inner);
    }
    if (h->n)
        loads_make(w, h);
    h->generation = upstream_generation(w->upstream);
}

uint32_t aggregate_row(struct mz_wcluster *w, const struct priority_load **out_loads)
{
    if (!w->aggregate || w->aggregate->generation != upstream_generation(w->upstream))
        row_make(w);
    *out_loads = w->aggregate->loads;
    return w->aggregate->n;
}

uint32_t aggregate_priority_of(struct mz_wcluster *w, const struct mz_host *host)
{
    const struct priority_load *loads;
    uint32_t n = aggregate_row(w, &loads);
    for (uint32_t i = 0; i < n; i++)
        if (w->aggregate->v[i].inner->cluster == host->cluster &&
            w->aggregate->v[i].priority == host->priority)
            return i;
    return UINT32_MAX;
}

static struct mz_host *choose(struct mz_wcluster *w, struct mz_lb_ctx *ctx)
{
    const struct priority_load *loads;
    (void)aggregate_row(w, &loads); /* as it is now */
    const struct aggregate_here *h = w->aggregate;
    enum source s;
    if (!h->n) {
        ctx->why = "no cluster of the aggregate has hosts";
        return NULL;
    }
    uint32_t at = (uint32_t)mz_rand_below(w->lb.rand, 100);
    const struct place *p = &h->v[priority_choose(loads, h->n, ctx->priority_load, at, &s)];
    ctx->forced = true;
    ctx->forced_priority = p->priority;
    ctx->forced_degraded = s == SOURCE_DEGRADED;
    struct mz_host *host = mz_wcluster_choose(p->inner, ctx);
    ctx->forced = false;
    if (!ctx->where.n)
        ctx->where = p->text;
    return host;
}

struct mz_wcluster *aggregate_inner(struct mz_wcluster *w, const struct mz_host *host)
{
    for (size_t i = 0; w->aggregate && i < w->aggregate->used.n; i++)
        if (w->aggregate->used.v[i]->cluster == host->cluster)
            return w->aggregate->used.v[i];
    return w;
}

bool aggregate_hashes(struct mz_wcluster *w)
{
    const struct priority_load *loads;
    (void)aggregate_row(w, &loads); /* as it is now */
    for (size_t i = 0; i < w->aggregate->used.n; i++)
        if (mz_wcluster_hashes(w->aggregate->used.v[i]))
            return true;
    return false;
}

void aggregate_drop(struct mz_wcluster *w)
{
    struct aggregate_here *h = w->aggregate;
    if (!h)
        return;
    for (size_t i = 0; i < h->used.n; i++)
        mz_wcluster_unref(h->used.v[i]);
    mz_vec_free(&h->used, MZ_MEM_UPSTREAM);
    mz_arena_destroy(h->arena);
    mz_free(MZ_MEM_UPSTREAM, h->v);
    mz_free(MZ_MEM_UPSTREAM, h->loads);
    mz_free(MZ_MEM_UPSTREAM, h);
    w->aggregate = NULL;
}

const struct lb_type lb_aggregate = { .name = "aggregate", .provided = choose };
