/* Asks a host by TCP (U6): a connect alone, or bytes that must come back. */
#include "net/conn.h"
#include "upstream/health/check.h"

#define ANSWER_MAX (64u << 10) /* of which the expected bytes must be found */

struct probe {
    struct check_session *session; /* NULL: given up */
    struct mz_loop *loop;
    struct mz_conn *conn; /* NULL once closed */
    bool waiting;         /* a check is under way */
    bool connected;
};

static void probe_free(void *arg)
{
    mz_free(MZ_MEM_UPSTREAM, arg);
}

static void probe_give_up(struct probe *p)
{
    struct check_session *s = p->session;
    p->session = NULL;
    p->waiting = false;
    if (s && s->probe == p)
        s->probe = NULL;
    if (p->conn)
        mz_conn_close(p->conn, MZ_CLOSE_NOW, "health_check_done", 0);
}

static void passed(struct probe *p, bool close)
{
    struct check_session *s = p->session;
    p->waiting = false;
    if (close)
        probe_give_up(p);
    check_passed(s, false);
}

static void failed(struct probe *p, enum check_result result, int err)
{
    struct check_session *s = p->session;
    probe_give_up(p);
    check_failed(s, &(struct check_outcome){ .type = FAILURE_NETWORK,
                                             .result = result,
                                             .value = (uint32_t)(err > 0 ? err : 0) });
}

static void conn_data(struct mz_conn *conn, void *arg, bool end)
{
    (void)end; /* the event that follows tells it */
    struct probe *p = arg;
    struct mz_buf *in = mz_conn_in(conn);
    if (!p->session || !p->waiting) { /* nobody asked for these */
        mz_buf_drain(in, mz_buf_len(in));
        return;
    }
    const struct check_config *c = &p->session->checker->cfg;
    if (check_bytes_found(&c->tcp_receive, mz_buf_linearize(in, mz_buf_len(in)))) {
        mz_buf_drain(in, mz_buf_len(in));
        passed(p, !c->reuse);
    } else if (mz_buf_len(in) > ANSWER_MAX) {
        failed(p, CHECK_BODY, 0);
    }
}

static void send_bytes(struct probe *p)
{
    const struct check_bytes *b = &p->session->checker->cfg.tcp_send;
    if (!b->n)
        return;
    mz_buf_append_str(mz_conn_out(p->conn), b->v[0]);
    mz_conn_written(p->conn, false);
}

static void conn_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct probe *p = arg;
    if (ev == MZ_CONN_CONNECTED) {
        if (!p->session)
            return;
        p->connected = true;
        if (!p->session->checker->cfg.tcp_receive.n)
            passed(p, true); /* a connect is all that is asked for */
        else
            send_bytes(p);
        return;
    }
    p->conn = NULL;
    if (p->session && p->waiting)
        failed(p, p->connected ? CHECK_CLOSED : CHECK_CONNECT, conn->error);
    else
        probe_give_up(p);
    mz_loop_free_later(p->loop, p, probe_free);
}

static const struct mz_conn_ops conn_ops = { .data = conn_data, .event = conn_event };

static void start(struct check_session *s)
{
    struct probe *p = s->probe;
    if (p) {
        p->waiting = true;
        send_bytes(p);
        return;
    }
    p = mz_new0(MZ_MEM_UPSTREAM, struct probe);
    p->session = s;
    p->loop = s->checker->main;
    p->waiting = true;
    s->probe = p;
    p->conn = check_connect(s, &conn_ops, p);
}

static void drop(struct check_session *s)
{
    if (s->probe)
        probe_give_up(s->probe);
}

const struct check_probe_type check_tcp = { 1, "TCP", start, drop };
