/* A connection on its way through the listener filters (L2), on the worker that accepted it. */
#include <errno.h>
#include <sys/socket.h>

#include "base/log.h"
#include "listener/listener_priv.h"
#include "net/wire.h"

#define PEEK_FIRST                                                                                 \
    2048 /* bytes looked at in the first place; a filter that needs more gets twice as many each time */

struct inspect {
    struct mz_list link; /* of the acceptor */
    struct mz_io io;
    struct mz_timer timer;
    struct mz_acceptor *acceptor;
    struct mz_listener_config *cfg; /* reference: the acceptor's may be replaced meanwhile */
    struct mz_incoming in;
    struct mz_lfilter **filters;
    const struct mz_extension *
        *extensions; /* of those that came by ECDS, a reference each; NULL: there are none */
    size_t n, at;
    bool watching, over;
    bool handed_over; /* another listener accepted it */
    char *peek;
    size_t peek_cap, seen; /* seen: bytes that the filter was shown */
};

static void inspect_free(void *p)
{
    struct inspect *x = p;
    for (size_t i = 0; x->extensions && i < x->n; i++)
        mz_extension_unref(x->extensions[i]);
    mz_free(MZ_MEM_CONN, x->extensions);
    mz_free(MZ_MEM_CONN, x->peek);
    mz_free(MZ_MEM_CONN, x);
}

static void let_go(struct inspect *x)
{
    x->over = true;
    mz_list_del(&x->link);
    mz_timer_stop(&x->timer);
    if (x->watching)
        mz_io_del(&x->io);
    if (x->in.wire)
        mz_wire_watch(x->in.wire, NULL);
    mz_gauge_add(x->cfg->scope, MZ_LISTENER_STAT_PRE_CX_ACTIVE, -1);
    mz_listener_config_unref(x->cfg);
    mz_loop_free_later(x->acceptor->worker->loop, x, inspect_free);
}

static void drop(struct inspect *x, const char *why)
{
    MZ_LOG(DEBUG, conn_handler, "closing a connection in its listener filters: %s", why);
    mz_incoming_log(x->cfg, &x->in, NULL);
    let_go(x);
    mz_incoming_close(x->acceptor->worker->loop, &x->in);
}

/* use_original_dst (L3): the listener at the address where the client wanted to go, once; NULL: it stays. */
static struct mz_acceptor *listener_wanted(const struct inspect *x)
{
    const struct mz_incoming *in = &x->in;
    if (!x->cfg->use_original_dst || x->handed_over || in->wire ||
        !(in->local_restored || in->local_asked) || !mz_addr_is_ip(&in->local))
        return NULL;
    struct mz_acceptor *to = mz_acceptors_find(x->acceptor->worker, &in->local);
    return to == x->acceptor ? NULL : to;
}

/* All filters are done: the connection goes to its chain, or to another listener. */
static void pass_on(struct inspect *x)
{
    struct mz_acceptor *a = x->acceptor, *to = listener_wanted(x);
    struct mz_incoming in = x->in;
    in.scope = a->cfg->scope;
    let_go(x);
    if (to)
        mz_acceptor_take(to, &in);
    else
        mz_net_chain_start(a, &in);
}

/* ---- looking at bytes ---- */

enum look { LOOK_SOME, LOOK_WAIT, LOOK_END, LOOK_FAILED };

static enum look peek(struct inspect *x, const struct mz_lfilter *f, size_t want, size_t *out_n)
{
    if (!x->peek_cap || (x->seen == x->peek_cap && x->peek_cap < want)) {
        size_t cap = x->peek_cap      ? x->peek_cap * 2
                     : f->type->first ? f->type->first(f)
                                      : PEEK_FIRST;
        x->peek_cap = cap < want ? cap : want;
        x->peek = mz_realloc(MZ_MEM_CONN, x->peek, x->peek_cap);
    }
    ssize_t n;
    do
        n = x->in.wire ? mz_wire_peek(x->in.wire, x->peek, x->peek_cap)
                       : recv(x->in.fd, x->peek, x->peek_cap, MSG_PEEK);
    while (n < 0 && errno == EINTR);
    *out_n = n > 0 ? (size_t)n : 0;
    if (n < 0)
        return errno == EAGAIN ? LOOK_WAIT : LOOK_FAILED;
    return n == 0 ? LOOK_END : LOOK_SOME;
}

static bool take(struct inspect *x, size_t n)
{
    while (n) {
        const struct iovec v = { x->peek, n < x->peek_cap ? n : x->peek_cap };
        ssize_t got = x->in.wire ? mz_wire_readv(x->in.wire, &v, 1)
                                 : recv(x->in.fd, v.iov_base, v.iov_len, 0);
        if (got <= 0)
            return false;
        n -= (size_t)got;
    }
    return true;
}

/* @ended: the client will say no more; set when that is found out here. */
static enum mz_lfilter_flow show(struct inspect *x, struct mz_lfilter *f, bool *ended)
{
    size_t want = f->type->want(f);
    for (;;) {
        size_t n;
        enum look l = peek(x, f, want, &n);
        if (l == LOOK_FAILED) {
            mz_count(x->cfg->scope, MZ_LISTENER_STAT_FILTER_ERROR, 1);
            return MZ_LF_CLOSE;
        }
        if (l == LOOK_END) /* who says nothing is not served (Envoy) */
            *ended = true;
        if (l != LOOK_SOME && *ended)
            return MZ_LF_CLOSE;
        if (l == LOOK_WAIT || (n == x->seen && !*ended))
            return MZ_LF_STOP;
        x->seen = n;
        enum mz_lfilter_flow flow =
            f->type->on_data(f, (struct mz_str){ x->peek, n }, *ended && n < x->peek_cap);
        if (flow != MZ_LF_STOP)
            return flow;
        if (n < x->peek_cap || x->peek_cap >= want) /* the socket held no more */
            return *ended || n >= want ? MZ_LF_CLOSE : MZ_LF_STOP;
    }
}

/* filter_disabled: by the destination as the filters before it found it (original_dst), and so in its turn. */
static bool disabled(const struct inspect *x)
{
    const struct mz_port_rule *r = x->cfg->lfilters[x->at].disabled;
    return r && !x->seen && mz_port_rule_match(r, mz_addr_port(&x->in.local));
}

static void run(struct inspect *x, bool ended)
{
    while (x->at < x->n) {
        if (disabled(x)) {
            x->at++;
            continue;
        }
        struct mz_lfilter *f = x->filters[x->at];
        enum mz_lfilter_flow flow =
            x->seen || !f->type->on_accept ? MZ_LF_STOP : f->type->on_accept(f);
        if (flow == MZ_LF_STOP)
            flow = show(x, f, &ended);
        if (flow == MZ_LF_STOP)
            return;
        if (flow == MZ_LF_CLOSE) {
            if (ended)
                mz_count(x->cfg->scope, MZ_LISTENER_STAT_FILTER_REMOTE_CLOSE, 1);
            drop(x, f->type->name);
            return;
        }
        if (f->consume && !take(x, f->consume)) {
            mz_count(x->cfg->scope, MZ_LISTENER_STAT_FILTER_ERROR, 1);
            drop(x, "read failed");
            return;
        }
        x->at++;
        x->seen = 0;
    }
    pass_on(x);
}

static void on_io(struct mz_io *io, unsigned events)
{
    struct inspect *x = MZ_CONTAINER(io, struct inspect, io);
    if (!x->over)
        run(x, (events & (MZ_IO_END | MZ_IO_HUP)) != 0);
}

static void on_timeout(struct mz_timer *t)
{
    struct inspect *x = MZ_CONTAINER(t, struct inspect, timer);
    mz_count(x->cfg->scope, MZ_LISTENER_STAT_PRE_CX_TIMEOUT, 1);
    if (x->cfg->go_on_at_timeout)
        pass_on(x);
    else
        drop(x, "listener_filters_timeout");
}

/* Of the filter that is made next. */
static void hold(struct inspect *x, const struct mz_extension *e)
{
    if (!x->extensions)
        x->extensions =
            mz_alloc0(MZ_MEM_CONN, x->cfg->n_lfilters * sizeof(const struct mz_extension *));
    x->extensions[x->n] = mz_extension_ref(e);
}

/* False: the configuration of one has not come. */
static bool make_filters(struct inspect *x)
{
    const struct mz_listener_config *c = x->cfg;
    x->filters = mz_arena_alloc(x->in.arena, c->n_lfilters * sizeof(*x->filters));
    for (size_t i = 0; i < c->n_lfilters; i++) {
        const struct mz_listener_filter *lf = &c->lfilters[i];
        const struct mz_extension *e = lf->place ? mz_ecds_place_get(lf->place) : NULL;
        if (lf->place && !e)
            return false;
        const struct mz_lfilter_type *type = e ? e->type.type : lf->type;
        struct mz_lfilter *f = mz_arena_alloc0(x->in.arena, type->size);
        f->type = type;
        f->cfg = e ? e->cfg : lf->cfg;
        f->in = &x->in;
        if (e)
            hold(x, e);
        x->filters[x->n++] = f;
    }
    return true;
}

void mz_inspect_start(struct mz_acceptor *a, const struct mz_incoming *in, bool handed_over)
{
    struct inspect *x = mz_new0(MZ_MEM_CONN, struct inspect);
    x->acceptor = a;
    x->io.fd = -1;
    x->handed_over = handed_over;
    x->in = *in;
    if (!x->in.arena)
        x->in.arena = mz_arena_create(MZ_MEM_CONN);
    x->cfg = mz_listener_config_ref(a->cfg);
    mz_list_add_tail(&a->inspected, &x->link);
    mz_gauge_add(a->cfg->scope, MZ_LISTENER_STAT_PRE_CX_ACTIVE, 1);
    mz_timer_init(a->worker->loop, &x->timer, on_timeout);
    if (!make_filters(x)) {
        mz_count(x->cfg->scope, MZ_LISTENER_STAT_EXTENSION_MISSING, 1);
        drop(x, "a listener filter's configuration is missing");
        return;
    }
    run(x, false);
    if (x->over)
        return;
    x->watching = true;
    if (in->wire) {
        mz_io_add_virtual(a->worker->loop, &x->io, on_io);
        mz_wire_watch(in->wire, &x->io);
    } else if (mz_io_add(a->worker->loop, &x->io, in->fd, on_io) != 0) {
        drop(x, "cannot be watched");
        return;
    }
    if (x->cfg->lfilters_timeout_ms)
        mz_timer_start_ms(&x->timer, x->cfg->lfilters_timeout_ms);
}

void mz_inspect_close_all(struct mz_acceptor *a)
{
    mz_list_foreach (it, &a->inspected)
        drop(MZ_CONTAINER(it, struct inspect, link), "the listener ends");
}
