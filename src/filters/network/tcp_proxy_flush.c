/*
 * The client has gone while bytes for the upstream were still waiting (L6): the connection lives on without its session
 * until they are written, nothing moves for the idle time, or the worker ends. What the upstream says is dropped.
 */
#include "filters/network/tcp_proxy.h"

struct flush {
    struct mz_list link;
    struct tcp_lease up;
    struct mz_scope *scope; /* reference */
    struct mz_loop *loop;
    uint64_t idle_ms;
    struct mz_timer idle;
};

/* Those of this thread: a worker is one thread. */
static _Thread_local struct mz_list flushing;

static void flush_free(void *p)
{
    struct flush *f = p;
    mz_host_unref(f->up.host);
    mz_wcluster_unref(f->up.cluster);
    mz_scope_unref(f->scope);
    mz_free(MZ_MEM_CONN, f);
}

static void on_event(struct mz_conn *c, void *arg, enum mz_conn_event ev)
{
    struct flush *f = arg;
    if (ev == MZ_CONN_CONNECTED)
        return;
    (void)c;
    tcp_lease_closed(&f->up, ev);
    mz_timer_stop(&f->idle);
    mz_gauge_add(f->scope, TCP_STAT_FLUSH_ACTIVE, -1);
    mz_list_del(&f->link);
    mz_loop_free_later(f->loop, f, flush_free);
}

static void on_data(struct mz_conn *c, void *arg, bool end)
{
    (void)arg;
    (void)end;
    mz_buf_drain(mz_conn_in(c), mz_buf_len(mz_conn_in(c)));
}

static const struct mz_conn_ops flush_ops = { .data = on_data, .event = on_event };

static void on_idle(struct mz_timer *t)
{
    struct flush *f = MZ_CONTAINER(t, struct flush, idle);
    uint64_t quiet_ms = (mz_loop_now_us(f->loop) - f->up.conn->last_activity_us) / 1000;
    if (quiet_ms < f->idle_ms) {
        mz_timer_start_ms(&f->idle, f->idle_ms - quiet_ms);
        return;
    }
    mz_count(f->scope, TCP_STAT_IDLE_TIMEOUT, 1);
    mz_conn_close(f->up.conn, MZ_CLOSE_NOW, "tcp_session_idle_timeout", 0);
}

void tcp_flush_start(struct mz_worker *w, const struct tcp_cfg *cfg, struct tcp_lease *take,
                     uint64_t idle_ms)
{
    struct flush *f = mz_new0(MZ_MEM_CONN, struct flush);
    *f = (struct flush){
        .up = *take, .scope = mz_scope_ref(cfg->scope), .loop = w->loop, .idle_ms = idle_ms
    };
    *take = (struct tcp_lease){ 0 };
    if (!flushing.next)
        mz_list_init(&flushing);
    mz_list_add_tail(&flushing, &f->link);
    mz_timer_init(w->loop, &f->idle, on_idle);
    if (f->idle_ms)
        mz_timer_start_ms(&f->idle, f->idle_ms);
    mz_count(f->scope, TCP_STAT_FLUSH_TOTAL, 1);
    mz_gauge_add(f->scope, TCP_STAT_FLUSH_ACTIVE, 1);
    mz_conn_set_ops(f->up.conn, &flush_ops, f);
    mz_conn_close(f->up.conn, MZ_CLOSE_FLUSH,
                  "closing_upstream_tcp_connection_due_to_downstream_remote_close", 0);
}

void tcp_flush_stop(struct mz_worker *w)
{
    (void)w;
    while (flushing.next && !mz_list_empty(&flushing)) {
        struct flush *f = MZ_CONTAINER(flushing.next, struct flush, link);
        mz_conn_close(f->up.conn, MZ_CLOSE_NOW, "worker_stop", 0); /* on_event() takes it off */
    }
}
