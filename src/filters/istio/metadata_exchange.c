/*
 * envoy.filters.network.metadata_exchange (S2), on both sides of a TCP connection: where ALPN chose the protocol of the exchange,
 * each side tells who it is before its first byte. On clients' connections it is a network filter; on connections to a
 * cluster it stands around their transport, so that the pool's users see the application's bytes only.
 */
#include "filters/istio/exchange.h"
#include "filters/istio/istio_filters.h"
#include "filters/istio/workloads.h"
#include "filters/registry.h"
#include "proto/mapper.h"
#include "stats/stats.h"
#include "transports/wrap.h"

#define MX_STATS(X)                                                                                \
    X(ALPN_NOT_FOUND, "alpn_protocol_not_found")                                                   \
    X(ALPN_FOUND, "alpn_protocol_found")                                                           \
    X(HEAD_NOT_FOUND, "initial_header_not_found")                                                  \
    X(PEER_NOT_FOUND, "header_not_found")                                                          \
    X(ADDED, "metadata_added")
enum mx_stat {
#define X(id, name) MX_STAT_##id,
    MX_STATS(X)
#undef X
        MX_STAT__COUNT
};
static const struct mz_stat_def stat_defs[] = {
#define X(id, name) [MX_STAT_##id] = { name, MZ_COUNTER, MZ_UNIT_NONE, 0 },
    MX_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "metadata_exchange", stat_defs, MX_STAT__COUNT };

struct config {
    struct mz_arena *arena;
    struct mz_str protocol; /* by ALPN */
    struct peer_labels labels;
    struct mz_str part; /* ours */
    struct mz_scope *scope;
    const struct mz_workloads *workloads; /* asked where a peer says nothing; NULL: nobody is */
};
enum mx_state { MX_START, MX_READING, MX_OVER };
struct side { /* of either kind */
    const struct config *cfg;
    enum mx_state state;
    struct exchange exchange;
};

/* ---- configuration ---- */

static bool build(struct config *c, const pb_MetadataExchange *m, const struct mz_factory *f,
                  struct mz_arena *a, struct mz_err *err)
{
    struct peer self;
    if (!m->protocol[0])
        return mz_err_set(err, "is required") || mz_err_at(err, "protocol");
    c->arena = a;
    c->protocol = mz_arena_dup(a, mz_str_c(m->protocol));
    c->labels = peer_labels_of(m->additional_labels, m->n_additional_labels, a);
    peer_from_metadata(f->node_metadata, &c->labels, a, &self);
    c->workloads = m->enable_discovery ? f->workloads : NULL;
    c->part = exchange_write(&self, f->node_id, a);
    c->scope = mz_scope_create(f->stats, &stats, MZ_STR("metadata_exchange."));
    return true;
}

static void config_destroy(void *cfg)
{
    struct config *c = cfg;
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct config *c = mz_arena_new0(a, struct config);
    if (build(c, msg, f, a, err))
        return c;
    mz_arena_destroy(a);
    return NULL;
}

/* ---- what both sides do ---- */

/* Knows after it whether there is an exchange. True: our part is to be written now. */
static bool begin(struct side *s, struct mz_str alpn)
{
    bool found = mz_str_eq(alpn, s->cfg->protocol);
    mz_count(s->cfg->scope, found ? MX_STAT_ALPN_FOUND : MX_STAT_ALPN_NOT_FOUND, 1);
    s->state = found ? MX_READING : MX_OVER;
    if (found)
        mz_count(s->cfg->scope, MX_STAT_ADDED, 1);
    return found;
}

/* False: nothing of @in is the application's yet. */
static bool take(struct side *s, struct mz_buf *in, bool end, struct mz_arena *a, struct peer *peer,
                 enum exchange_result *out_result)
{
    enum exchange_result r = exchange_read(&s->exchange, in, end, &s->cfg->labels, a, peer);
    *out_result = r;
    if (r == EXCHANGE_MORE_HEAD || r == EXCHANGE_NO_HEAD)
        mz_count(s->cfg->scope, MX_STAT_HEAD_NOT_FOUND, 1);
    if (r == EXCHANGE_NO_PEER)
        mz_count(s->cfg->scope, MX_STAT_PEER_NOT_FOUND, 1);
    if (r == EXCHANGE_MORE || r == EXCHANGE_MORE_HEAD)
        return false;
    s->state = MX_OVER;
    return true;
}

static struct peer_object *object_new(const struct peer *p, struct mz_arena *a)
{
    struct peer_object *o = mz_arena_alloc(a, sizeof(*o));
    peer_object_init(o, peer_copy(p, a));
    return o;
}

/* ---- a client's connection ---- */

struct client {
    struct mz_net_filter base;
    struct side side;
};

static struct side *side_of(struct mz_net_filter *f)
{
    struct side *s = &((struct client *)(void *)f)->side;
    s->cfg = f->cfg;
    return s;
}

static void client_is(struct mz_net_filter *f, const struct peer *p)
{
    struct mz_stream_info *i = mz_downstream_info(f->down);
    mz_info_set_state(i, MZ_STR(PEER_DOWNSTREAM), &object_new(p, i->arena)->base);
}

static void client_found(struct mz_net_filter *f, enum exchange_result r, const struct peer *p)
{
    const struct config *c = f->cfg;
    if (r == EXCHANGE_FOUND)
        client_is(f, p);
    if (r == EXCHANGE_FOUND || r == EXCHANGE_SILENT)
        return;
    const struct workload *w = workload_find(c->workloads, &f->down->conn->remote);
    if (w) {
        client_is(f, &w->peer);
        mz_count(c->scope, MX_STAT_ADDED, 1);
    } else {
        mz_info_set_state(mz_downstream_info(f->down), MZ_STR(PEER_NONE), &peer_not_found);
    }
    workload_unref(w);
}

static void client_begin(struct mz_net_filter *f)
{
    struct side *s = side_of(f);
    struct mz_conn *conn = f->down->conn;
    const struct mz_transport *t = conn->transport;
    if (!begin(s, t->ops->protocol ? t->ops->protocol(t) : MZ_STR(""))) {
        client_found(f, EXCHANGE_NO_HEAD, NULL);
        return;
    }
    mz_buf_prepend(mz_conn_out(conn), s->cfg->part.p, s->cfg->part.n);
    mz_conn_written(conn, false);
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct side *s = side_of(f);
    struct peer peer = { .type = PEER_UNKNOWN };
    enum exchange_result r;
    if (s->state == MX_START)
        client_begin(f);
    if (s->state == MX_OVER)
        return MZ_NET_CONTINUE;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    bool over = take(s, data, end, a, &peer, &r);
    if (over)
        client_found(f, r, &peer);
    mz_arena_destroy(a);
    return over && (mz_buf_len(data) || end) ? MZ_NET_CONTINUE : MZ_NET_STOP;
}

/* A tcp_proxy behind it shares the state from its beginning. */
static enum mz_net_flow on_new_connection(struct mz_net_filter *f)
{
    (void)mz_info_state_map(mz_downstream_info(f->down));
    return MZ_NET_CONTINUE;
}

/* The upstream speaks first: ours goes before it. What it says before the handshake waits for that. */
static void on_write(struct mz_net_filter *f, const struct mz_buf *data, bool end)
{
    (void)end;
    const struct mz_transport *t = f->down->conn->transport;
    if (side_of(f)->state == MX_START && mz_buf_len(data) && (!t->ops->ready || t->ops->ready(t)))
        client_begin(f);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    if (ev == MZ_CONN_CONNECTED && side_of(f)->state == MX_START &&
        mz_buf_len(mz_conn_out(f->down->conn)))
        client_begin(f);
}

const struct mz_net_filter_type mz_net_filter_metadata_exchange = {
    .name = "envoy.filters.network.metadata_exchange",
    .config_type = "envoy.tcp.metadataexchange.config.MetadataExchange",
    .size = sizeof(struct client),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = on_data,
    .on_write = on_write,
    .on_event = on_event,
};

/* ---- a connection to a cluster ---- */

struct around {
    struct wrap w;
    struct mz_transport_factory *factory; /* reference */
    struct side side;
    struct mz_buf came;          /* the peer's part, as long as it is not whole */
    struct mz_conn_state *state; /* NULL: nobody asked, nothing was found */
    struct mz_addr end; /* where a connection to an internal address is to end; len 0: unknown */
};
struct factory {
    struct mz_transport_factory base;
    struct config cfg;
};

static struct around *of(const struct mz_transport *t)
{
    return (struct around *)(void *)wrap_of(t);
}

static struct mz_conn_state *around_state(struct mz_transport *t)
{
    struct around *m = of(t);
    if (!m->state)
        m->state = mz_conn_state_create();
    return m->state;
}

static void around_found(struct around *m, struct mz_filter_object *o, const char *key)
{
    (void)mz_map_put(around_state(&m->w.base)->map, mz_str_c(key), o);
}

/* The peer says nothing; the control plane may. */
static void around_unknown(struct around *m)
{
    const struct mz_conn *conn = m->w.base.conn;
    const struct mz_addr *at = mz_addr_is_internal(&conn->remote) ? &m->end : &conn->remote;
    const struct workload *w = at->len ? workload_find(m->side.cfg->workloads, at) : NULL;
    if (w) {
        around_found(m, &object_new(&w->peer, around_state(&m->w.base)->arena)->base,
                     PEER_UPSTREAM);
        mz_count(m->side.cfg->scope, MX_STAT_ADDED, 1);
    } else {
        around_found(m, &peer_not_found, PEER_NONE);
    }
    workload_unref(w);
}

/* @out: what goes out next. */
static void around_begin(struct around *m, struct mz_buf *out)
{
    if (begin(&m->side, wrap_protocol(&m->w.base)))
        mz_buf_prepend(out, m->side.cfg->part.p, m->side.cfg->part.n);
    else
        around_unknown(m);
}

static enum mz_io_status around_write(struct mz_transport *t, struct mz_buf *out, bool end)
{
    struct around *m = of(t);
    if (m->side.state == MX_START && mz_buf_len(out) && wrap_ready(t))
        around_begin(m, out);
    return wrap_write(t, out, end);
}

static void around_take(struct around *m, struct mz_buf *in, bool end)
{
    struct peer peer = { .type = PEER_UNKNOWN };
    enum exchange_result r;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    if (take(&m->side, &m->came, end, a, &peer, &r)) {
        mz_buf_move_all(in, &m->came);
        if (r == EXCHANGE_FOUND)
            around_found(m, &object_new(&peer, around_state(&m->w.base)->arena)->base,
                         PEER_UPSTREAM);
        else if (r != EXCHANGE_SILENT)
            around_unknown(m);
    }
    mz_arena_destroy(a);
}

static enum mz_io_status around_read(struct mz_transport *t, struct mz_buf *in, size_t max)
{
    struct around *m = of(t);
    if (m->side.state == MX_OVER)
        return wrap_read(t, in, max);
    enum mz_io_status st = wrap_read(t, &m->came, max);
    if (!mz_buf_len(&m->came) && st != MZ_IO_EOF)
        return st;
    if (m->side.state == MX_START) { /* the peer speaks first */
        around_begin(m, mz_conn_out(t->conn));
        if (m->side.state == MX_READING)
            mz_conn_written(t->conn, false);
    }
    if (m->side.state == MX_READING)
        around_take(m, in, st == MZ_IO_EOF || st == MZ_IO_FAIL);
    else
        mz_buf_move_all(in, &m->came);
    return st;
}

static bool around_raw(const struct mz_transport *t)
{
    return of(t)->side.state == MX_OVER && wrap_raw(t);
}

static void around_destroy(struct mz_transport *t)
{
    struct around *m = of(t);
    wrap_fini(&m->w);
    mz_buf_fini(&m->came);
    mz_conn_state_unref(m->state);
    mz_transport_factory_unref(m->factory);
    mz_free(MZ_MEM_CONN, m);
}

static const struct mz_transport_ops around_ops = {
    .name = "metadata_exchange",
    .read = around_read,
    .write = around_write,
    .connected = wrap_connected,
    .ready = wrap_ready,
    .failure = wrap_failure,
    .protocol = wrap_protocol,
    .tls = wrap_tls,
    .state = around_state,
    .pending = wrap_pending,
    .raw = around_raw,
    .close = wrap_close,
    .destroy = around_destroy,
};

static struct mz_transport *around_create(const struct mz_transport_factory *base,
                                          const struct mz_transport_opts *o)
{
    struct around *m = mz_new0(MZ_MEM_CONN, struct around);
    m->factory = mz_transport_factory_ref(base);
    m->side.cfg = &((const struct factory *)(const void *)base)->cfg;
    if (o && m->side.cfg->workloads)
        (void)workload_internal_address(o->host_metadata,
                                        &m->end); /* unknown: its length stays 0 */
    mz_buf_init(&m->came);
    wrap_init(&m->w, &around_ops, base->inner->create(base->inner, o));
    return &m->w.base;
}

static void factory_destroy(struct mz_transport_factory *base)
{
    struct factory *f = (struct factory *)(void *)base;
    mz_transport_factory_unref(base->inner);
    mz_scope_unref(f->cfg.scope);
    mz_arena_destroy(f->cfg.arena); /* in which it lies */
}

static struct mz_transport_factory *around_build(const void *msg, const struct mz_factory *f,
                                                 const struct mz_transport_factory *take_inner,
                                                 struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct factory *to = mz_arena_new0(a, struct factory);
    if (!build(&to->cfg, msg, f, a, err)) {
        mz_transport_factory_unref(take_inner);
        mz_arena_destroy(a);
        return NULL;
    }
    wrap_factory_init(&to->base, "metadata_exchange", take_inner);
    to->base.create = around_create;
    to->base.destroy = factory_destroy;
    return &to->base;
}

const struct mz_upstream_filter_type mz_upstream_filter_metadata_exchange = {
    .name = "envoy.filters.network.upstream.metadata_exchange",
    .config_type = "envoy.tcp.metadataexchange.config.MetadataExchange",
    .around = around_build,
};
