/*
 * Pools (U3, U4): who waits for a connection and who gets one.
 *
 * A connection that was released rests until the loop has polled it: whoever asks meanwhile waits for it to the end of the
 * turn (or of the next one), which costs no time, since output leaves at the end of a turn anyway; then either the
 * connection stands and serves, or its end was seen and the request goes the ordinary way (H10).
 */
#include "upstream/pool_priv.h"

static void pool_serve(struct pool *p);
static void serve_next(struct mz_task *t);

static void close_list(struct pool *p, enum client_state s, const char *why)
{
    while (!mz_list_empty(&p->clients[s]))
        client_close(MZ_CONTAINER(p->clients[s].next, struct client, link), why);
}

/* ---- finding pools ---- */
static unsigned uses_of(const struct mz_host *h, enum pool_kind k)
{
    return k == POOL_TCP ? 0 /* TCP connections are shared by nobody */
                         : mz_host_transport(h)->uses | MZ_TRANSPORT_USES_CONN;
}

static uint32_t slot_of(const struct mz_wcluster *w, const struct mz_host *h, enum mz_priority prio,
                        enum pool_kind k, const struct mz_transport_opts *o, uint64_t owner)
{
    uint64_t x = ((uint64_t)(uintptr_t)h >> 4) * 0x9e3779b97f4a7c15ull + (uint64_t)prio * 2 +
                 (uint64_t)k + owner * 0xff51afd7ed558ccdull;
    if (MZ_UNLIKELY(o != NULL))
        x += mz_transport_opts_hash(o, uses_of(h, k));
    return (uint32_t)((x ^ (x >> 32)) & (w->pools.cap - 1));
}

static void map_insert(struct mz_wcluster *w, struct pool *p)
{
    uint32_t i = slot_of(w, p->host, p->prio, p->kind, p->transport, p->owner);
    while (w->pools.v[i])
        i = (i + 1) & (w->pools.cap - 1);
    w->pools.v[i] = p;
}

static void map_rebuild(struct mz_wcluster *w, uint32_t cap, const struct pool *without)
{
    struct pool **old = w->pools.v;
    uint32_t old_cap = w->pools.cap;
    w->pools.v = mz_newn0(MZ_MEM_UPSTREAM, struct pool *, cap);
    w->pools.cap = cap;
    for (uint32_t i = 0; i < old_cap; i++)
        if (old[i] && old[i] != without)
            map_insert(w, old[i]);
    mz_free(MZ_MEM_UPSTREAM, old);
}

static bool pool_empty(const struct pool *p)
{
    return !p->n[CLIENT_CONNECTING] && !p->n[CLIENT_READY] && !p->n[CLIENT_RESTING] &&
           !p->n[CLIENT_BUSY] && !p->n_pending && !p->n_waiting;
}

static void pool_free(void *arg)
{
    struct pool *p = arg;
    for (struct mz_pool_pending *q = p->spare, *next; q; q = next) {
        next = q->next_spare;
        mz_free(MZ_MEM_UPSTREAM, q);
    }
    mz_transport_opts_destroy(p->transport);
    mz_vec_free(&p->leases, MZ_MEM_UPSTREAM);
    mz_host_unref(p->host);
    mz_wcluster_unref(p->w);
    mz_free(MZ_MEM_UPSTREAM, p);
}

void pool_unref(struct pool *p)
{
    if (--p->refs == 0) {
        mz_task_cancel(&p->serve);
        mz_loop_free_later(p->w->loop, p, pool_free);
    }
}

static void pool_drop(struct pool *p)
{
    if (!p->mapped)
        return;
    p->mapped = false;
    p->w->pools.n--;
    map_rebuild(p->w, p->w->pools.cap, p);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_POOL);
    pool_unref(p);
}

/* An idle pool makes room for a new one when max_connection_pools is reached. */
static bool drop_idle_pool(struct mz_wcluster *w, enum mz_priority prio)
{
    for (uint32_t i = 0; i < w->pools.cap; i++) {
        struct pool *p = w->pools.v[i];
        if (p && p->prio == prio && pool_empty(p)) {
            pool_drop(p);
            return true;
        }
    }
    return false;
}

static void serve_task(struct mz_task *t)
{
    struct pool *p = MZ_CONTAINER(t, struct pool, serve);
    pool_ref(p);
    pool_serve(p);
    pool_unref(p);
}

static struct pool *pool_create(struct mz_wcluster *w, struct mz_host *h, enum mz_priority prio,
                                enum pool_kind k, const struct mz_transport_opts *o, uint64_t owner)
{
    while (!mz_circuit_take(w->cluster, prio, MZ_CIRCUIT_POOL))
        if (!drop_idle_pool(w, prio)) {
            mz_count(w->cluster->scope, MZ_CS_CX_POOL_OVERFLOW, 1);
            return NULL;
        }
    bool host_gone = __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED) & MZ_HOST_GONE;
    struct pool *p = mz_new0(MZ_MEM_UPSTREAM, struct pool);
    *p = (struct pool){ .w = mz_wcluster_ref(w),
                        .host = mz_host_ref(h),
                        .prio = prio,
                        .kind = k,
                        .owner = owner,
                        .transport = o ? mz_transport_opts_copy(o, uses_of(h, k)) : NULL,
                        .refs = 1,
                        .gone = w->removed ||
                                host_gone, /* a request that began before one of them went */
                        .mapped = true };
    for (unsigned s = 0; s < CLIENT__STATES; s++)
        mz_list_init(&p->clients[s]);
    mz_list_init(&p->pending);
    mz_list_init(&p->waiting);
    mz_task_init(&p->serve, serve_task);
    mz_task_init(&p->serve_next, serve_next);
    if ((w->pools.n + 1) * 2 > w->pools.cap)
        map_rebuild(w, w->pools.cap ? w->pools.cap * 2 : 4, NULL);
    w->pools.n++;
    map_insert(w, p);
    return p;
}

static struct pool *map_get(struct mz_wcluster *w, const struct mz_host *h, enum mz_priority prio,
                            enum pool_kind k, const struct mz_transport_opts *o, uint64_t owner)
{
    if (!w->pools.cap)
        return NULL;
    for (uint32_t i = slot_of(w, h, prio, k, o, owner); w->pools.v[i];
         i = (i + 1) & (w->pools.cap - 1)) {
        struct pool *p = w->pools.v[i];
        if (p->host == h && p->prio == prio && p->kind == k && p->owner == owner &&
            MZ_LIKELY((!o && !p->transport) ||
                      mz_transport_opts_same(p->transport, o, uses_of(h, k))))
            return p;
    }
    return NULL;
}

struct pool *pool_get(struct mz_wcluster *w, struct mz_host *h, enum mz_priority prio,
                      enum pool_kind k, const struct mz_transport_opts *o, uint64_t owner)
{
    struct pool *p = map_get(w, h, prio, k, o, owner);
    return MZ_LIKELY(p != NULL) ? p : pool_create(w, h, prio, k, o, owner);
}

struct pool *pool_find_tcp(struct mz_wcluster *w, struct mz_host *h, enum mz_priority prio)
{
    return map_get(w, h, prio, POOL_TCP, NULL, 0);
}

/* ---- connections ---- */
bool cx_allowed(struct pool *p)
{
    const struct mz_host *h = p->host;
    bool below = mz_circuit_can(p->w->cluster, p->prio, MZ_CIRCUIT_CX) &&
                 __atomic_load_n(&h->stats.cx_active, __ATOMIC_RELAXED) <
                     cluster_priv(p->w->cluster)->host_max_connections;
    if (!below)
        mz_count(pool_scope(p), MZ_CS_CX_OVERFLOW, 1);
    /* Others may hold all that the breaker allows: without a connection of its own a queue here would never move. */
    return below || (!p->n[CLIENT_READY] && !p->n[CLIENT_RESTING] && !p->n[CLIENT_BUSY] &&
                     !p->n[CLIENT_CONNECTING]);
}

static bool wants_connection(const struct pool *p)
{
    if (p->gone || mz_host_health(p->host) != MZ_HOST_HEALTHY) /* nothing beyond need */
        return p->n_pending > p->room_connecting;
    uint64_t room = p->room_connecting + p->room_ready - p->n_waiting;
    return ((double)p->n_pending + p->n_active) * p->w->cluster->preconnect_per_upstream >
           (double)(room + p->n_active);
}

static void pool_grow(struct pool *p)
{
    for (unsigned i = 0; i < 3 && wants_connection(p) && cx_allowed(p);
         i++) /* at most 3 for one request */
        client_create(p);
}

/* ---- pending requests ---- */
#if defined(__SANITIZE_ADDRESS__)
enum { SPARE_MAX = 0 }; /* use after free is seen */
#else
enum { SPARE_MAX = 16 };
#endif

static struct mz_pool_pending *pending_create(struct pool *p, const struct mz_pool_opts *o,
                                              const struct mz_stream_in *in,
                                              const struct mz_pool_ops *ops, void *arg)
{
    struct mz_pool_pending *q = p->spare;
    if (q) {
        p->spare = q->next_spare;
        p->n_spare--;
    } else {
        q = mz_alloc(MZ_MEM_UPSTREAM, sizeof(*q));
    }
    *q = (struct mz_pool_pending){ .pool = p, .opts = *o, .in = *in, .ops = ops, .arg = arg };
    pool_ref(p);
    return q;
}

static void pending_free(struct mz_pool_pending *q)
{
    struct pool *p = q->pool;
    if (p->n_spare == SPARE_MAX) {
        mz_free(MZ_MEM_UPSTREAM, q);
    } else {
        q->next_spare = p->spare;
        p->spare = q;
        p->n_spare++;
    }
    pool_unref(p);
}

static void pending_unlink(struct mz_pool_pending *q)
{
    struct pool *p = q->pool;
    mz_list_del(&q->link);
    p->n_waiting -= q->queue == QUEUE_WAITING;
    p->w->n_waiting -= q->queue == QUEUE_WAITING;
    if (q->queue != QUEUE_PENDING)
        return;
    p->n_pending--;
    p->w->n_pending--;
    pending_count(p, -1);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_PENDING);
}

/* The breaker was taken by the caller. */
static void pending_queue(struct mz_pool_pending *q)
{
    struct pool *p = q->pool;
    MZ_LOG(DEBUG, pool,
           "queueing stream due to no available connections (ready=%u busy=%u connecting=%u)",
           p->n[CLIENT_READY] + p->n[CLIENT_RESTING], p->n[CLIENT_BUSY], p->n[CLIENT_CONNECTING]);
    q->queue = QUEUE_PENDING;
    mz_list_add_tail(&p->pending, &q->link);
    p->n_pending++;
    p->w->n_pending++;
    mz_count(pool_scope(p), MZ_CS_RQ_PENDING_TOTAL, 1);
    pending_count(p, 1);
}

static void serve_one(struct pool *p, struct mz_list *from)
{
    struct mz_pool_pending *q = MZ_CONTAINER(from->next, struct mz_pool_pending, link);
    pending_unlink(q); /* who asked hears of it first of all, and has then nothing to cancel */
    client_attach(MZ_CONTAINER(p->clients[CLIENT_READY].next, struct client, link), &q->opts,
                  &q->in, q->ops, q->arg);
    pending_free(q);
}

/* Connections that the loop polled since their release may be used. */
static void wake_rested(struct pool *p)
{
    uint64_t now = mz_loop_now_us(p->w->loop);
    mz_list_foreach (it, &p->clients[CLIENT_RESTING]) {
        struct client *c = MZ_CONTAINER(it, struct client, link);
        if (c->released_us == now) /* in this very turn: those behind it as well */
            break;
        client_move(c, CLIENT_READY);
    }
}

static void serve_next(struct mz_task *t)
{
    struct pool *p = MZ_CONTAINER(t, struct pool, serve_next);
    p->serves_next = false;
    pool_serve(p);
    pool_unref(p);
}

/* Runs after the descriptors of the next turn: what rests now has been polled then. */
static void serve_next_turn(struct pool *p)
{
    if (p->serves_next)
        return;
    p->serves_next = true;
    pool_ref(p);
    mz_task_schedule_next(p->w->loop, &p->serve_next);
}

/* The host went: what serves nobody closes, what does closes when it is through. */
static void retire_ready(struct pool *p)
{
    if (p->n_pending || p->n_waiting)
        return;
    mz_list_foreach (it, &p->clients[CLIENT_READY])
        client_drain(MZ_CONTAINER(it, struct client, link), "host_removed");
    close_list(p, CLIENT_RESTING, "host_removed");
}

/* Runs after the descriptors of a turn. */
static void pool_serve(struct pool *p)
{
    if (p->n[CLIENT_RESTING])
        wake_rested(p);
    while (p->n_waiting && p->n[CLIENT_READY])
        serve_one(p, &p->waiting);
    while (p->n_pending && p->n[CLIENT_READY])
        serve_one(p, &p->pending);
    if (p->n[CLIENT_RESTING] && (p->n_waiting || p->n_pending))
        serve_next_turn(p);
    else if (p->gone)
        retire_ready(p);
}

void pool_client_ready(struct pool *p)
{
    pool_ref(p);
    while (p->n_pending && p->n[CLIENT_READY])
        serve_one(p, &p->pending);
    pool_grow(p);
    if (p->gone)
        retire_ready(p);
    pool_unref(p);
}

void pool_client_resting(struct pool *p)
{
    if (p->n_pending || p->n_waiting)
        serve_next_turn(p);
}

static void request_failed(struct pool *p, const struct mz_pool_ops *ops, void *arg,
                           unsigned counter)
{
    mz_count(pool_scope(p), counter, 1);
    ops->failed(arg, MZ_POOL_OVERFLOW, MZ_STR(""), 0, NULL);
}

/* A connection on which somebody waited takes no more: the last comer queues like a new request. */
static void waiting_to_pending(struct pool *p)
{
    while (p->n_waiting > p->room_ready) {
        struct mz_pool_pending *q = MZ_CONTAINER(p->waiting.prev, struct mz_pool_pending, link);
        pending_unlink(q);
        if (mz_circuit_take(p->w->cluster, p->prio, MZ_CIRCUIT_PENDING)) {
            pending_queue(q);
            continue;
        }
        struct mz_pool_pending copy = *q;
        pending_free(q);
        request_failed(p, copy.ops, copy.arg, MZ_CS_RQ_PENDING_OVERFLOW);
    }
}

void pool_room_lost(struct pool *p)
{
    waiting_to_pending(p);
    if (p->n_pending)
        pool_grow(p);
}

void pool_client_gone(struct pool *p)
{
    pool_room_lost(p);
    if ((p->gone || p->transport || p->owner) && pool_empty(p))
        pool_drop(p);
}

void pool_connect_failed(struct pool *p, enum mz_pool_failure why, struct mz_str text, int err)
{
    struct mz_list failing; /* who asks again from failed() is not among them */
    mz_list_init(&failing);
    while (!mz_list_empty(&p->pending)) {
        struct mz_list *e = p->pending.next;
        pending_unlink(MZ_CONTAINER(e, struct mz_pool_pending, link));
        mz_list_add_tail(&failing, e);
        MZ_CONTAINER(e, struct mz_pool_pending, link)->queue = QUEUE_FAILING;
    }
    while (!mz_list_empty(&failing)) {
        struct mz_pool_pending *q = MZ_CONTAINER(failing.next, struct mz_pool_pending, link),
                               copy = *q;
        pending_unlink(q);
        pending_free(q);
        mz_count(pool_scope(p), MZ_CS_RQ_PENDING_FAILURE_EJECT, 1);
        copy.ops->failed(copy.arg, why, text, err, p->host);
    }
}

/* ---- requests ---- */
static enum pool_kind kind_for(const struct mz_cluster *c, enum mz_http_protocol downstream)
{
    if (MZ_UNLIKELY(c->auto_protocol))
        return POOL_AUTO;
    bool http2 = c->use_downstream_protocol ? downstream >= MZ_HTTP2 : c->http2;
    return http2 ? POOL_HTTP2 : POOL_HTTP1;
}

struct mz_pool_pending *mz_http_pool_request(struct mz_wcluster *w, struct mz_host *host,
                                             const struct mz_pool_opts *o,
                                             const struct mz_stream_in *in,
                                             const struct mz_pool_ops *ops, void *arg)
{
    w = wcluster_of(w, host);
    enum pool_kind kind = kind_for(w->cluster, o->downstream_protocol);
    if (MZ_UNLIKELY(w->cluster->preconnect_predictive > 1) && !o->transport && !o->owner)
        preconnect_ahead(w, o->priority, kind);
    struct pool *p = pool_get(w, host, o->priority, kind, o->transport, o->owner);
    if (MZ_UNLIKELY(!p)) {
        ops->failed(arg, MZ_POOL_NONE, MZ_STR(""), 0, NULL);
        return NULL;
    }
    if (p->n[CLIENT_READY] && !p->n_waiting) {
        client_attach(MZ_CONTAINER(p->clients[CLIENT_READY].next, struct client, link), o, in, ops,
                      arg);
        pool_grow(p);
        return NULL;
    }
    if (p->room_ready > p->n_waiting) {
        struct mz_pool_pending *q = pending_create(p, o, in, ops, arg);
        q->queue = QUEUE_WAITING;
        mz_list_add_tail(&p->waiting, &q->link);
        p->n_waiting++;
        p->w->n_waiting++;
        mz_task_schedule(w->loop, &p->serve);
        return q;
    }
    if (!mz_circuit_take(w->cluster, o->priority, MZ_CIRCUIT_PENDING)) {
        request_failed(p, ops, arg, MZ_CS_RQ_PENDING_OVERFLOW);
        return NULL;
    }
    struct mz_pool_pending *q = pending_create(p, o, in, ops, arg);
    pending_queue(q);
    pool_grow(p);
    return q;
}

void mz_pool_cancel(struct mz_pool_pending *q, bool close_excess)
{
    struct pool *p = q->pool;
    bool counted = q->queue == QUEUE_PENDING;
    pool_ref(p);
    pending_unlink(q);
    pending_free(q);
    if (counted && close_excess && p->n[CLIENT_CONNECTING]) {
        struct client *c = MZ_CONTAINER(p->clients[CLIENT_CONNECTING].prev, struct client, link);
        if (p->room_connecting - c->counted >= p->n_pending)
            client_close(c, "excess");
    }
    if ((p->gone || p->transport || p->owner) && pool_empty(p))
        pool_drop(p);
    pool_unref(p);
}

/* ---- the end of hosts and clusters ---- */
/* Idle connections close, busy ones after their answer, or @now. */
static void pool_retire(struct pool *p, bool now)
{
    pool_ref(p);
    p->gone = true;
    retire_ready(p);
    if (!p->n_waiting)
        close_list(p, CLIENT_RESTING, "host_removed");
    if (now) {
        close_list(p, CLIENT_READY, "host_removed");
        close_list(p, CLIENT_RESTING, "host_removed");
        close_list(p, CLIENT_BUSY, "host_removed");
        close_list(p, CLIENT_CONNECTING, "host_removed");
    }
    if (pool_empty(p))
        pool_drop(p);
    pool_unref(p);
}

/* The host failed: no connection that stands now serves another request after its present one. */
static void pool_let_go(struct pool *p, bool now)
{
    (void)now;
    pool_ref(p);
    mz_list_foreach (it, &p->clients[CLIENT_BUSY])
        MZ_CONTAINER(it, struct client, link)->last = true;
    if (!p->n_waiting)
        close_list(p, CLIENT_RESTING, "host_health_failure");
    mz_list_foreach (it, &p->clients[CLIENT_RESTING])
        MZ_CONTAINER(it, struct client, link)->last = true;
    while (!mz_list_empty(&p->clients[CLIENT_READY]))
        client_drain(MZ_CONTAINER(p->clients[CLIENT_READY].next, struct client, link),
                     "host_health_failure");
    tcp_leases_close(p);
    pool_unref(p);
}

static void retire_where(struct mz_wcluster *w, const struct mz_host *h, uint64_t owner,
                         void (*retire)(struct pool *p, bool now), bool now)
{
    struct pool **copy = mz_newn0(MZ_MEM_UPSTREAM, struct pool *, w->pools.n ? w->pools.n : 1);
    uint32_t n = 0;
    for (uint32_t i = 0; i < w->pools.cap; i++)
        if (w->pools.v[i] && (!h || w->pools.v[i]->host == h) &&
            (!owner || w->pools.v[i]->owner == owner)) {
            copy[n] = w->pools.v[i];
            pool_ref(copy[n++]);
        }
    for (uint32_t i = 0; i < n; i++) {
        retire(copy[i], now);
        pool_unref(copy[i]);
    }
    mz_free(MZ_MEM_UPSTREAM, copy);
}

void pools_host_gone(struct mz_wcluster *w, struct mz_host *h, bool close_all)
{
    retire_where(w, h, 0, pool_retire, close_all);
}

void pools_host_failed(struct mz_wcluster *w, struct mz_host *h)
{
    retire_where(w, h, 0, pool_let_go, false);
}

void pools_close_all(struct mz_wcluster *w, bool now)
{
    retire_where(w, NULL, 0, pool_retire, now);
}

void mz_http_pool_owner_gone(struct mz_wcluster *w, uint64_t owner)
{
    retire_where(w, NULL, owner, pool_retire, false);
}
