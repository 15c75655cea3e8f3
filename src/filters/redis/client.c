/*
 * Connections to servers (L5). All clients of a worker share one connection to each host: commands go out in the order in
 * which they come, answers come back in the same. A pool belongs to a configuration and a thread; it outlives the last
 * client by some time, so that clients that come and go do not cost a connection each.
 */
#include "filters/redis/redis.h"

#define LINGER_MS    60000 /* a pool without clients */
#define SWEEP_US     UINT64_C(1000000)
#define BUFFER_HIGH  (1u << 20)
#define MIRRORED_MAX 16384 /* calls of a server that does not answer, before copies are dropped */

enum { UP_TOTAL, UP_SUCCESS, UP_FAILURE, UP_LATENCY };
static const struct mz_stat_def up_defs[] = {
    { "total", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "success", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "failure", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "latency", MZ_HISTOGRAM, MZ_UNIT_US, MZ_STAT_LAZY },
};
static const struct mz_stat_kind up_stats = { "redis upstream command", up_defs,
                                              MZ_COUNT(up_defs) };
static const struct mz_stat_def all_defs[] = {
    { "upstream_rq_time", MZ_HISTOGRAM, MZ_UNIT_US, MZ_STAT_LAZY },
};
static const struct mz_stat_kind all_stats = { "redis upstream", all_defs, MZ_COUNT(all_defs) };

struct redis_pool {
    struct mz_list link; /* of this thread's */
    uint64_t id;         /* of the configuration */
    struct mz_worker *worker;
    struct redis_settings settings;
    struct mz_stats *stats;
    struct mz_list clients;
    unsigned users;
    uint64_t swept_us;
    struct mz_timer linger;
};
struct client {
    struct mz_list link; /* of its pool */
    struct redis_pool *pool;
    struct mz_wcluster *cluster; /* reference */
    struct mz_host *host;        /* reference */
    struct mz_tcp_pending *pending;
    struct mz_conn *conn; /* NULL: it does not stand */
    struct mz_list calls; /* without an answer yet, the oldest first */
    struct mz_buf out;    /* not written yet */
    struct resp_decoder decoder;
    struct mz_timer op, batch;
    struct mz_task fail;
    bool dead; /* its connection failed: nothing more is sent */
    size_t n_calls;
    struct mz_scope **commands, *all; /* as redis_commands, the last of others; NULL: not counted */
};
struct redis_call {
    struct mz_list link;
    struct client *client;
    redis_done done; /* NULL: nobody waits (any more) */
    void *arg;
    struct mz_scope *scope; /* of its command; NULL: not counted */
    uint64_t start_us;
    bool cancelled;
};

static _Thread_local struct mz_list pools; /* a worker is one thread */

static struct mz_scope *cluster_scope(const struct client *c)
{
    return mz_wcluster_info(c->cluster)->scope;
}

static uint64_t now_us(const struct client *c)
{
    return mz_loop_now_us(c->pool->worker->loop);
}

/* The pool counts a lease as one request for as long as it stands; here requests come and go one by one. */
static void active_add(const struct client *c, int64_t n)
{
    mz_gauge_add(cluster_scope(c), MZ_CS_RQ_ACTIVE, n);
    __atomic_fetch_add(&c->host->stats.rq_active, (uint64_t)n, __ATOMIC_RELAXED);
}

/* ---- statistics of commands: enable_command_stats ---- */

static struct mz_scope *stat_scope(const struct client *c, const struct mz_stat_kind *kind,
                                   struct mz_str command, const char *dot)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STATS);
    const struct mz_str v[] = { MZ_STR("cluster."), mz_wcluster_info(c->cluster)->stat_name,
                                MZ_STR(".redis_cluster.upstream_commands."), command,
                                mz_str_c(dot) };
    struct mz_scope *s = mz_scope_create(c->pool->stats, kind, mz_arena_cat(a, MZ_COUNT(v), v));
    mz_arena_destroy(a);
    return s;
}

static struct mz_scope *command_scope(struct client *c, const struct redis_command *cmd)
{
    if (!c->commands)
        return NULL;
    bool known = cmd && cmd->kind != REDIS_OBJECT; /* Envoy does not know that one either */
    struct mz_scope **s = &c->commands[known ? (size_t)(cmd - redis_commands) : redis_n_commands];
    if (!*s)
        *s = stat_scope(c, &up_stats, known ? cmd->name : MZ_STR("unknown"), ".");
    return *s;
}

/* ---- the end of calls and clients ---- */

static void call_end(struct redis_call *k, const struct resp_value *answer)
{
    struct client *c = k->client;
    mz_list_del(&k->link);
    c->n_calls--;
    active_add(c, -1);
    if (k->cancelled)
        mz_count(cluster_scope(c), MZ_CS_RQ_CANCELLED, 1);
    if (k->scope && answer) {
        uint64_t took = now_us(c) - k->start_us;
        mz_count(k->scope, answer->type == RESP_ERROR || k->cancelled ? UP_FAILURE : UP_SUCCESS, 1);
        mz_hist_record(k->scope, UP_LATENCY, took);
        mz_hist_record(c->all, 0, took);
    }
    redis_done done = k->done;
    void *arg = k->arg;
    mz_free(MZ_MEM_CONN, k);
    if (done)
        done(arg, answer);
}

static void client_free(void *p)
{
    struct client *c = p;
    resp_fini(&c->decoder);
    mz_buf_fini(&c->out);
    for (size_t i = 0; c->commands && i <= redis_n_commands; i++)
        mz_scope_unref(c->commands[i]);
    mz_scope_unref(c->all);
    mz_free(MZ_MEM_CONN, c->commands);
    mz_host_unref(c->host);
    mz_wcluster_unref(c->cluster);
    mz_free(MZ_MEM_CONN, c);
}

/* Its connection is gone, or never came. */
static void client_end(struct client *c)
{
    mz_list_del(&c->link);
    mz_timer_stop(&c->op);
    mz_timer_stop(&c->batch);
    mz_task_cancel(&c->fail);
    while (!mz_list_empty(&c->calls))
        call_end(MZ_CONTAINER(c->calls.next, struct redis_call, link), NULL);
    mz_loop_free_later(c->pool->worker->loop, c, client_free);
}

static void client_close(struct client *c, const char *why)
{
    if (c->conn) {
        mz_conn_close(c->conn, MZ_CLOSE_NOW, why, 0); /* on_event() ends it */
        return;
    }
    if (c->pending)
        mz_tcp_pool_cancel(c->pending);
    c->pending = NULL;
    client_end(c);
}

static void on_fail(struct mz_task *t)
{
    client_end(MZ_CONTAINER(t, struct client, fail));
}

/* ---- the connection ---- */

static void flush(struct client *c)
{
    mz_timer_stop(&c->batch);
    if (c->conn && mz_buf_len(&c->out))
        mz_conn_write(c->conn, &c->out, false);
}

static void on_batch(struct mz_timer *t)
{
    flush(MZ_CONTAINER(t, struct client, batch));
}

/* Each answer gives the next one its time anew (Envoy). */
static void op_start(struct client *c)
{
    if (mz_list_empty(&c->calls))
        mz_timer_stop(&c->op);
    else if (c->pool->settings.op_timeout_ms)
        mz_timer_start_ms(&c->op, c->pool->settings.op_timeout_ms);
}

static void on_op_timeout(struct mz_timer *t)
{
    struct client *c = MZ_CONTAINER(t, struct client, op);
    mz_count(cluster_scope(c), MZ_CS_RQ_TIMEOUT, 1);
    __atomic_fetch_add(&c->host->stats.rq_timeout, 1, __ATOMIC_RELAXED);
    mz_outlier_report(c->host, MZ_OUTLIER_TIMEOUT, 0);
    client_close(c, "redis_op_timeout");
}

static void protocol_error(struct client *c)
{
    mz_count(cluster_scope(c), MZ_CS_CX_PROTOCOL_ERROR, 1);
    __atomic_fetch_add(&c->host->stats.rq_error, 1, __ATOMIC_RELAXED);
    mz_outlier_report(c->host, MZ_OUTLIER_FAILURE, 0);
    client_close(c, "redis_protocol_error");
}

static void on_data(struct mz_conn *conn, void *arg, bool end)
{
    struct client *c = arg;
    (void)end;
    for (;;) {
        struct mz_arena *a;
        const struct resp_value *v;
        enum resp_result r = resp_decode(&c->decoder, mz_conn_in(conn), &a, &v);
        if (r == RESP_MORE)
            return;
        if (r == RESP_BROKEN || mz_list_empty(&c->calls)) { /* an answer that nobody asked for */
            if (r == RESP_VALUE)
                mz_arena_destroy(a);
            protocol_error(c);
            return;
        }
        mz_outlier_report(c->host, MZ_OUTLIER_SUCCESS, 0);
        call_end(MZ_CONTAINER(c->calls.next, struct redis_call, link), v);
        mz_arena_destroy(a);
        if (!c->conn) /* whoever got the answer closed everything */
            return;
        op_start(c);
    }
}

static void on_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct client *c = arg;
    if (ev == MZ_CONN_CONNECTED)
        return;
    c->conn = NULL;
    if (ev == MZ_CONN_REMOTE_CLOSE && !mz_list_empty(&c->calls))
        mz_outlier_report(c->host, MZ_OUTLIER_CONNECT_FAILED, 0);
    active_add(c, 1);
    mz_tcp_pool_closed(c->cluster, c->host, MZ_PRIORITY_DEFAULT, conn, ev == MZ_CONN_LOCAL_CLOSE);
    client_end(c);
}

static const struct mz_conn_ops conn_ops = { .data = on_data, .event = on_event };

static void pool_ready(void *arg, const struct mz_tcp_ready *r)
{
    struct client *c = arg;
    c->pending = NULL;
    c->conn = r->conn;
    active_add(c, -1);
    mz_outlier_report(c->host, MZ_OUTLIER_CONNECTED, 0);
    mz_conn_set_ops(c->conn, &conn_ops, c);
    mz_conn_set_buffer_limit(c->conn, BUFFER_HIGH);
    mz_conn_no_delay(c->conn, true);
    flush(c);
    op_start(c);
}

static void pool_failed(void *arg, enum mz_pool_failure why, struct mz_str transport_failure,
                        int err, struct mz_host *host)
{
    struct client *c = arg;
    (void)transport_failure;
    (void)err;
    (void)host;
    c->pending = NULL;
    if (why == MZ_POOL_REMOTE_CONNECT_FAIL)
        mz_outlier_report(c->host, MZ_OUTLIER_CONNECT_FAILED, 0);
    else if (why == MZ_POOL_CONNECT_TIMEOUT)
        mz_outlier_report(c->host, MZ_OUTLIER_TIMEOUT, 0);
    c->dead = true; /* the next command tries again */
    mz_task_schedule_next(c->pool->worker->loop, &c->fail);
}

static const struct mz_tcp_pool_ops pool_ops = { pool_ready, pool_failed };

static struct client *client_new(struct redis_pool *p, struct mz_wcluster *w, struct mz_host *h)
{
    struct client *c = mz_new0(MZ_MEM_CONN, struct client);
    c->pool = p;
    c->cluster = mz_wcluster_ref(w);
    c->host = mz_host_ref(h);
    mz_list_init(&c->calls);
    mz_buf_init(&c->out);
    mz_timer_init(p->worker->loop, &c->op, on_op_timeout);
    mz_timer_init(p->worker->loop, &c->batch, on_batch);
    mz_task_init(&c->fail, on_fail);
    mz_list_add_tail(&p->clients, &c->link);
    if (p->settings.command_stats) {
        c->commands = mz_newn0(MZ_MEM_CONN, struct mz_scope *, redis_n_commands + 1);
        c->all = stat_scope(c, &all_stats, MZ_STR(""), "");
    }
    struct mz_tcp_pending *q = mz_tcp_pool_connect(w, h, MZ_PRIORITY_DEFAULT, NULL, &pool_ops, c);
    if (!c->dead) /* it did not fail at once */
        c->pending = q;
    return c;
}

/* ---- pools ---- */

/* Its host, or the cluster as it was, is there no more. */
static bool outdated(const struct client *c)
{
    return __atomic_load_n(&c->host->health_flags, __ATOMIC_RELAXED) & MZ_HOST_GONE ||
           mz_upstream_find(c->pool->worker->upstream, mz_wcluster_info(c->cluster)->name) !=
               c->cluster;
}

static void sweep(struct redis_pool *p)
{
    uint64_t now = mz_loop_now_us(p->worker->loop);
    if (now - p->swept_us < SWEEP_US)
        return;
    p->swept_us = now;
    for (struct mz_list *it = p->clients.next, *next; it != &p->clients; it = next) {
        struct client *c = MZ_CONTAINER(it, struct client, link);
        next = it->next;
        if (mz_list_empty(&c->calls) && outdated(c))
            client_close(c, "redis_host_removed");
    }
}

static struct client *client_of(struct redis_pool *p, struct mz_wcluster *w, struct mz_host *h)
{
    mz_list_foreach (it, &p->clients) {
        struct client *c = MZ_CONTAINER(it, struct client, link);
        if (c->host == h && c->cluster == w && !c->dead)
            return c;
    }
    return client_new(p, w, h);
}

static void pool_end(struct redis_pool *p)
{
    while (!mz_list_empty(&p->clients))
        client_close(MZ_CONTAINER(p->clients.next, struct client, link), "redis_pool_end");
    mz_timer_stop(&p->linger);
    mz_list_del(&p->link);
}

static void pool_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

static void on_linger(struct mz_timer *t)
{
    struct redis_pool *p = MZ_CONTAINER(t, struct redis_pool, linger);
    pool_end(p);
    mz_loop_free_later(p->worker->loop, p, pool_free);
}

struct redis_pool *redis_pool_use(struct mz_worker *w, const struct redis_cfg *cfg)
{
    if (!pools.next)
        mz_list_init(&pools);
    mz_list_foreach (it, &pools) {
        struct redis_pool *p = MZ_CONTAINER(it, struct redis_pool, link);
        if (p->id == cfg->id) {
            p->users++;
            mz_timer_stop(&p->linger);
            return p;
        }
    }
    struct redis_pool *p = mz_new0(MZ_MEM_CONN, struct redis_pool);
    *p = (struct redis_pool){
        .id = cfg->id, .worker = w, .settings = cfg->settings, .stats = cfg->stats, .users = 1
    };
    mz_list_init(&p->clients);
    mz_timer_init(w->loop, &p->linger, on_linger);
    mz_list_add_tail(&pools, &p->link);
    return p;
}

void redis_pool_leave(struct redis_pool *p)
{
    if (p && --p->users == 0)
        mz_timer_start_ms(&p->linger, LINGER_MS);
}

void redis_worker_stop(struct mz_worker *w)
{
    while (pools.next && !mz_list_empty(&pools)) {
        struct redis_pool *p = MZ_CONTAINER(pools.next, struct redis_pool, link);
        pool_end(p);
        mz_loop_free_later(w->loop, p, pool_free);
    }
}

/* ---- commands ---- */

static struct mz_host *host_of(struct redis_pool *p, struct mz_wcluster *w, struct mz_str key)
{
    struct mz_str what = p->settings.hash_tags ? redis_hash_tag(key) : key;
    struct mz_lb_ctx ctx = { .has_hash = true, .hash = mz_murmur2(what.p, what.n, MZ_MURMUR_SEED) };
    return mz_wcluster_choose(w, &ctx);
}

struct redis_call *redis_call(struct redis_pool *p, struct mz_str cluster, struct mz_str key,
                              const struct redis_command *cmd, struct mz_buf *take, redis_done done,
                              void *arg)
{
    sweep(p);
    struct mz_wcluster *w = mz_upstream_find(p->worker->upstream, cluster);
    struct mz_host *h = w ? host_of(p, w, key) : NULL;
    if (!h) {
        mz_buf_fini(take);
        return NULL;
    }
    struct client *c = client_of(p, w, h);
    if (!done && c->n_calls >= MIRRORED_MAX) { /* nobody waits for it, so nobody slows down */
        mz_buf_fini(take);
        return NULL;
    }
    struct redis_call *k = mz_new0(MZ_MEM_CONN, struct redis_call);
    bool first = mz_buf_len(&c->out) == 0;
    *k = (struct redis_call){
        .client = c, .done = done, .arg = arg, .scope = command_scope(c, cmd), .start_us = now_us(c)
    };
    mz_list_add_tail(&c->calls, &k->link);
    c->n_calls++;
    active_add(c, 1);
    if (c->calls.next != &k->link || c->conn) { /* the lease counts the first */
        mz_count(cluster_scope(c), MZ_CS_RQ_TOTAL, 1);
        __atomic_fetch_add(&h->stats.rq_total, 1, __ATOMIC_RELAXED);
    }
    if (k->scope)
        mz_count(k->scope, UP_TOTAL, 1);
    mz_buf_move_all(&c->out, take);
    if (mz_buf_len(&c->out) >= p->settings.batch_bytes)
        flush(c);
    else if (first && c->conn)
        mz_timer_start_ms(&c->batch, p->settings.batch_ms);
    if (c->conn && c->calls.next == &k->link)
        op_start(c);
    return k;
}

void redis_call_cancel(struct redis_call *k)
{
    if (!k)
        return;
    k->done = NULL;
    k->cancelled = true;
}
