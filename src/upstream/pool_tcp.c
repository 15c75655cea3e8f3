/* TCP (tcp_proxy): each lease is a connection of its own; it passes to the caller once it stands (U3, U4). */
#include "upstream/pool_priv.h"

struct mz_tcp_pending {
    struct pool *pool; /* reference */
    struct mz_conn *conn;
    struct mz_timer timer;
    uint64_t start_us;
    const struct mz_tcp_pool_ops *ops;
    void *arg;
    bool timed_out, silent, overflow;
};

static void pending_free(void *arg)
{
    mz_free(MZ_MEM_CONN, arg);
}

/* The pending object ends; the connection either ended or passed on. */
static void pending_done(struct mz_tcp_pending *q)
{
    struct pool *p = q->pool;
    mz_timer_stop(&q->timer);
    pending_count(p, -1);
    mz_circuit_give(p->w->cluster, p->prio, MZ_CIRCUIT_PENDING);
    p->n[CLIENT_CONNECTING]--;
    mz_loop_free_later(p->w->loop, q, pending_free);
}

static void stream_count(struct pool *p, int64_t n)
{
    mz_gauge_add(pool_scope(p), MZ_CS_RQ_ACTIVE, n);
    host_add(&p->host->stats.rq_active, n);
}

static void connected(struct mz_tcp_pending *q)
{
    struct pool *p = q->pool;
    struct mz_cluster *cl = p->w->cluster;
    uint64_t now = mz_loop_now_us(p->w->loop);
    mz_hist_record(cl->scope, MZ_CS_CX_CONNECT_MS, (now - q->start_us) / 1000);
    if (!mz_circuit_take(cl, p->prio, MZ_CIRCUIT_RQ)) {
        mz_count(cl->scope, MZ_CS_RQ_ACTIVE_OVERFLOW, 1);
        const struct mz_tcp_pool_ops *ops = q->ops;
        void *arg = q->arg;
        struct mz_host *host = p->host;
        q->silent = q->overflow = true;
        mz_conn_close(q->conn, MZ_CLOSE_NOW, "overflow", 0);
        ops->failed(arg, MZ_POOL_OVERFLOW, MZ_STR(""), 0, host);
        return;
    }
    if (cluster_priv(cl)->close_on_health_failure)
        *mz_vec_push(&p->leases, MZ_MEM_UPSTREAM) = q->conn;
    const struct mz_tcp_ready r = { q->conn, p->host, q->start_us, now };
    pending_done(q);
    p->n[CLIENT_BUSY]++; /* until mz_tcp_pool_closed(), which finds the pool by host: its reference stays */
    mz_count(cl->scope, MZ_CS_RQ_TOTAL, 1);
    host_add(&p->host->stats.rq_total, 1);
    stream_count(p, 1);
    q->ops->ready(q->arg, &r);
}

static void failed(struct mz_tcp_pending *q, bool remote)
{
    struct pool *p = q->pool;
    struct mz_scope *s = pool_scope(p);
    char text[CX_ERROR_TEXT];
    int err = q->conn->error;
    const struct mz_transport *t = q->conn->transport;
    struct mz_str why = t->ops->failure ? t->ops->failure(t) : MZ_STR("");
    if (!why.n)
        why = mz_str_c(q->timed_out ? "" : cx_error_text(q->conn, text));
    const struct cx_end e = { q->start_us, remote, false };
    cx_ended(p, &e);
    pending_done(q);
    if (!q->overflow) {
        mz_count(s, MZ_CS_CX_CONNECT_FAIL, 1);
        host_add(&p->host->stats.cx_connect_fail, 1);
    }
    if (!q->silent) {
        mz_count(s, MZ_CS_RQ_PENDING_FAILURE_EJECT, 1);
        q->ops->failed(q->arg,
                       q->timed_out ? MZ_POOL_CONNECT_TIMEOUT
                       : remote     ? MZ_POOL_REMOTE_CONNECT_FAIL
                                    : MZ_POOL_LOCAL_CONNECT_FAIL,
                       why, err, p->host);
    }
    pool_client_gone(p);
    pool_unref(p);
}

static void tcp_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    (void)conn;
    if (ev == MZ_CONN_CONNECTED)
        connected(arg);
    else
        failed(arg, ev == MZ_CONN_REMOTE_CLOSE);
}

static void tcp_data(struct mz_conn *conn, void *arg,
                     bool end) /* stays in the buffer for who takes the connection */
{
    (void)conn;
    (void)arg;
    (void)end;
}

static const struct mz_conn_ops conn_ops = { .data = tcp_data, .event = tcp_event };

static void timed_out(struct mz_timer *t)
{
    struct mz_tcp_pending *q = MZ_CONTAINER(t, struct mz_tcp_pending, timer);
    q->timed_out = true;
    mz_count(pool_scope(q->pool), MZ_CS_CX_CONNECT_TIMEOUT, 1);
    mz_conn_close(q->conn, MZ_CLOSE_NOW, "connect_timeout", 0);
}

static struct mz_tcp_pending *overflow(const struct mz_tcp_pool_ops *ops, void *arg)
{
    ops->failed(arg, MZ_POOL_OVERFLOW, MZ_STR(""), 0, NULL);
    return NULL;
}

struct mz_tcp_pending *mz_tcp_pool_connect(struct mz_wcluster *w, struct mz_host *host,
                                           enum mz_priority prio,
                                           const struct mz_transport_opts *transport,
                                           const struct mz_tcp_pool_ops *ops, void *arg)
{
    w = wcluster_of(w, host);
    struct pool *p = pool_get(w, host, prio, POOL_TCP, NULL, 0);
    if (!p)
        return overflow(ops, arg);
    if (!mz_circuit_take(w->cluster, prio, MZ_CIRCUIT_PENDING)) {
        mz_count(pool_scope(p), MZ_CS_RQ_PENDING_OVERFLOW, 1);
        return overflow(ops, arg);
    }
    if (!cx_allowed(
            p)) { /* nobody gives connections back to a queue here, so the request cannot wait */
        mz_circuit_give(w->cluster, prio, MZ_CIRCUIT_PENDING);
        return overflow(ops, arg);
    }
    struct mz_tcp_pending *q = mz_new0(MZ_MEM_CONN, struct mz_tcp_pending);
    *q = (struct mz_tcp_pending){
        .pool = p, .ops = ops, .arg = arg, .start_us = mz_loop_now_us(w->loop)
    };
    pool_ref(p);
    p->n[CLIENT_CONNECTING]++;
    mz_count(pool_scope(p), MZ_CS_RQ_PENDING_TOTAL, 1);
    pending_count(p, 1);
    mz_timer_init(w->loop, &q->timer, timed_out);
    mz_timer_start_ms(&q->timer, w->cluster->connect_timeout_ms);
    cx_begin(p);
    q->conn = cx_connect(p, transport, &conn_ops, q);
    return q;
}

void mz_tcp_pool_cancel(struct mz_tcp_pending *q)
{
    q->silent = true;
    mz_conn_close(q->conn, MZ_CLOSE_NOW, "cancelled", 0);
}

static void lease_forget(struct pool *p, const struct mz_conn *c)
{
    for (size_t i = p->leases.n; i-- > 0;)
        if (p->leases.v[i] == c) {
            p->leases.v[i] = p->leases.v[--p->leases.n];
            return;
        }
}

/* The host failed and the cluster says that its connections end then: their owners see a local close. */
void tcp_leases_close(struct pool *p)
{
    while (p->leases.n) {
        struct mz_conn *c = p->leases.v[--p->leases.n];
        mz_conn_close(c, MZ_CLOSE_NOW, "host_health_failure", 0);
    }
}

void mz_tcp_pool_closed(struct mz_wcluster *w, struct mz_host *host, enum mz_priority prio,
                        struct mz_conn *c, bool local)
{
    w = wcluster_of(w, host);
    struct pool *p = pool_find_tcp(w, host, prio);
    if (MZ_BUG(!p || !p->n[CLIENT_BUSY]))
        return;
    const struct cx_end e = { c->created_us, !local, true };
    p->n[CLIENT_BUSY]--;
    lease_forget(p, c);
    cx_ended(p, &e);
    stream_count(p, -1);
    mz_circuit_give(w->cluster, prio, MZ_CIRCUIT_RQ);
    pool_client_gone(p);
    pool_unref(p);
}
