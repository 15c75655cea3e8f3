/* A downstream connection and its network filters (L5), on its worker. */
#include "base/log.h"
#include "listener/listener_priv.h"
#include "observe/access_log.h"
#include "observe/metadata.h"
#include "observe/shared_state.h"
#include "observe/stream_info.h"

struct handshake {
    struct mz_timer timer;
    struct mz_net_chain *chain;
};

struct mz_net_chain {
    struct mz_list link; /* of the acceptor */
    struct mz_downstream down;
    struct mz_acceptor *acceptor;
    struct handshake *handshake; /* NULL: its time has no limit, or it is over */
    uint32_t n, started;         /* filters; those whose on_new_connection ran */
    bool end, closed;
    const struct mz_extension *
        *extensions; /* of places, a reference each; NULL: the chain has none */
    struct mz_net_filter *filters[];
};

/* The reference that the connection holds. */
static struct mz_listener_config *config(const struct mz_net_chain *c)
{
    return (struct mz_listener_config *)(uintptr_t)c->down.listener;
}

static size_t object_size(size_t n)
{
    return (n + 15) & ~(size_t)15;
}

/* Filters from @i on see the buffered input; each is started first, in order. A filter may close the connection. */
static void run(struct mz_net_chain *c, size_t i)
{
    struct mz_buf *in = mz_conn_in(c->down.conn);
    for (; i < c->n && !c->closed; i++) {
        struct mz_net_filter *f = c->filters[i];
        if (i == c->started) {
            c->started++;
            if (f->type->on_new_connection && f->type->on_new_connection(f) == MZ_NET_STOP)
                return;
            if (c->closed)
                return;
        }
        if ((mz_buf_len(in) || c->end) && f->type->on_data &&
            f->type->on_data(f, in, c->end) == MZ_NET_STOP)
            return;
    }
}

void mz_net_filter_continue(struct mz_net_filter *f)
{
    struct mz_net_chain *c = f->chain;
    for (size_t i = 0; i < c->n && !c->closed; i++) {
        if (c->filters[i] != f)
            continue;
        run(c, i + 1);
        if (!c->closed)
            mz_conn_read_resume(c->down.conn);
        return;
    }
}

void mz_net_filter_written(struct mz_net_filter *f, const struct mz_buf *data, bool end)
{
    struct mz_net_chain *c = f->chain;
    for (size_t i = 0; i < c->n && c->filters[i] != f; i++)
        if (c->filters[i]->type->on_write)
            c->filters[i]->type->on_write(c->filters[i], data, end);
}

bool mz_net_filter_alone(const struct mz_net_filter *f)
{
    const struct mz_net_chain *c = f->chain;
    for (size_t i = 0; i < c->n; i++)
        if (c->filters[i] != f && (c->filters[i]->type->on_data || c->filters[i]->type->on_write))
            return false;
    return true;
}

static void on_data(struct mz_conn *conn, void *arg, bool end)
{
    (void)conn;
    struct mz_net_chain *c = arg;
    c->end |= end;
    run(c, 0);
}

static void info_fill(const struct mz_downstream *d, struct mz_stream_info *i)
{
    const struct mz_conn *conn = d->conn;
    i->start_us = i->cx_start_us = d->start_us;
    i->start_wall_us = d->start_wall_us;
    i->secure = d->secure;
    i->transport = conn->transport;
    i->conn_id = conn->id;
    i->local = d->local_restored;
    i->remote = conn->remote;
    i->direct_remote = conn->direct_remote;
    i->direct_local = conn->local;
    i->rx_body = i->wire_in = conn->rx_bytes;
    i->tx_body = i->wire_out = conn->tx_bytes;
    i->filter_chain_name = d->chain_name;
    i->listener_name = d->listener_name;
    i->listener_metadata = d->listener_metadata;
    i->listener_direction = d->direction;
    i->sni = d->sni;
    i->ja3 = d->found ? d->found->ja3 : MZ_STR("");
    i->ja4 = d->found ? d->found->ja4 : MZ_STR("");
    i->conn_termination = d->termination;
    i->local_close_reason = conn->close_reason;
}

struct mz_stream_info *mz_downstream_info(struct mz_downstream *d)
{
    if (!d->info) {
        struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
        d->info = mz_arena_new0(a, struct mz_stream_info);
        d->info->arena = a;
        if (d->found && d->found->metadata)
            d->info->dynamic_metadata = mz_meta_clone(d->found->metadata, a);
    }
    info_fill(d, d->info);
    return d->info;
}

struct mz_str mz_downstream_caller(const struct mz_downstream *d, struct mz_arena *a)
{
    if (!d->found || !d->found->hops)
        return MZ_STR("");
    return mz_arena_printf(a, "connection %llu of this process",
                           (unsigned long long)d->found->caller);
}

static void logs_write(const struct mz_listener_config *cfg, const struct mz_stream_info *info)
{
    const struct mz_format_ctx ctx = { .info = info, .log_type = "NotSet", .now_us = info->end_us };
    for (size_t i = 0; i < cfg->n_logs; i++)
        mz_access_log_write(cfg->logs[i], &ctx);
}

static void write_logs(struct mz_net_chain *c)
{
    if (config(c)->n_logs == 0)
        return;
    struct mz_stream_info *info = mz_downstream_info(&c->down);
    info->end_us = mz_loop_now_us(c->acceptor->worker->loop);
    logs_write(config(c), info);
}

void mz_incoming_log(const struct mz_listener_config *cfg, const struct mz_incoming *in,
                     const char *no_chain)
{
    if (!cfg->n_logs)
        return;
    struct mz_loop *loop = in->worker->loop;
    struct mz_arena *arena = mz_arena_create(MZ_MEM_STREAM);
    struct mz_stream_info *i = mz_arena_new0(arena, struct mz_stream_info);
    i->arena = arena;
    i->start_us = i->end_us = mz_loop_now_us(loop);
    i->start_wall_us = mz_loop_wall_us(loop);
    i->local = in->local;
    i->remote = in->remote;
    i->direct_remote = in->direct_remote;
    i->listener_name = cfg->name;
    i->listener_metadata = cfg->metadata;
    i->listener_direction = cfg->traffic_direction;
    i->sni = in->server_name;
    i->ja3 = in->ja3;
    i->ja4 = in->ja4;
    i->dynamic_metadata = in->metadata;
    if (no_chain) {
        i->details = no_chain;
        mz_info_flag(i, MZ_FLAG(NO_ROUTE_FOUND));
    }
    logs_write(cfg, i);
    mz_arena_destroy(arena);
}

/* No chain serves it: closed, counted, logged (L4). */
static void refuse(struct mz_acceptor *a, const struct mz_incoming *in)
{
    MZ_LOG(DEBUG, conn_handler, "closing connection: no matching filter chain found");
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_NO_CHAIN, 1);
    mz_incoming_log(a->cfg, in, "filter_chain_not_found");
}

static void extensions_drop(const struct mz_extension **v, size_t n)
{
    for (size_t i = 0; v && i < n; i++)
        mz_extension_unref(v[i]);
    mz_free(MZ_MEM_CONN, v);
}

static void chain_free(void *p)
{
    struct mz_net_chain *c = p;
    for (size_t i = 0; i < c->n; i++)
        if (c->filters[i]->type->destroy)
            c->filters[i]->type->destroy(c->filters[i]);
    extensions_drop(c->extensions, c->n);
    mz_listener_config_unref(config(c));
    if (c->down.info)
        mz_arena_destroy(c->down.info->arena);
    if (c->down.found)
        mz_arena_destroy(c->down.found->arena);
    mz_free(MZ_MEM_CONN, c);
}

static void count_start(struct mz_net_chain *c)
{
    struct mz_acceptor *a = c->acceptor;
    mz_count(c->down.scope, MZ_LISTENER_STAT_CX_TOTAL, 1);
    mz_gauge_add(c->down.scope, MZ_LISTENER_STAT_CX_ACTIVE, 1);
    mz_count(a->worker_scope, MZ_LISTENER_WORKER_CX_TOTAL, 1);
    mz_gauge_add(a->worker_scope, MZ_LISTENER_WORKER_CX_ACTIVE, 1);
}

static void count_end(struct mz_net_chain *c)
{
    struct mz_acceptor *a = c->acceptor;
    uint64_t ms = (mz_loop_now_us(a->worker->loop) - c->down.start_us) / 1000;
    mz_gauge_add(c->down.scope, MZ_LISTENER_STAT_CX_ACTIVE, -1);
    mz_count(c->down.scope, MZ_LISTENER_STAT_CX_DESTROY, 1);
    mz_hist_record(c->down.scope, MZ_LISTENER_STAT_CX_LENGTH_MS, ms);
    mz_gauge_add(a->worker_scope, MZ_LISTENER_WORKER_CX_ACTIVE, -1);
    __atomic_sub_fetch(&config(c)->connections, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(&a->connections, 1, __ATOMIC_RELAXED);
    __atomic_sub_fetch(a->process_connections, 1, __ATOMIC_RELAXED);
}

static void handshake_free(void *p)
{
    mz_free(MZ_MEM_CONN, p);
}

static void handshake_over(struct mz_net_chain *c)
{
    if (!c->handshake)
        return;
    mz_timer_stop(&c->handshake->timer);
    mz_loop_free_later(c->acceptor->worker->loop, c->handshake, handshake_free);
    c->handshake = NULL;
}

static void on_event(struct mz_conn *conn, void *arg, enum mz_conn_event ev)
{
    struct mz_net_chain *c = arg;
    if (ev == MZ_CONN_CONNECTED)
        handshake_over(c);
    else
        c->closed = true;
    for (size_t i = 0; i < c->n; i++)
        if (c->filters[i]->type->on_event)
            c->filters[i]->type->on_event(c->filters[i], ev);
    if (!c->closed)
        return;
    handshake_over(c);
    count_end(c);
    write_logs(c);
    mz_list_del(&c->link);
    MZ_LOG_FORCED(conn->trace, DEBUG, conn_handler, conn->id, 0, "adding to cleanup list");
    mz_loop_free_later(c->acceptor->worker->loop, c, chain_free);
}

static void on_above_high(struct mz_conn *conn, void *arg)
{
    (void)conn;
    struct mz_net_chain *c = arg;
    for (size_t i = 0; i < c->n && !c->closed; i++)
        if (c->filters[i]->type->above_high)
            c->filters[i]->type->above_high(c->filters[i]);
}

static void on_below_low(struct mz_conn *conn, void *arg)
{
    (void)conn;
    struct mz_net_chain *c = arg;
    for (size_t i = 0; i < c->n && !c->closed; i++)
        if (c->filters[i]->type->below_low)
            c->filters[i]->type->below_low(c->filters[i]);
}

static const struct mz_conn_ops conn_ops = {
    .data = on_data, .event = on_event, .above_high = on_above_high, .below_low = on_below_low
};

static void handshake_timeout(struct mz_timer *t)
{
    struct mz_net_chain *c = MZ_CONTAINER(t, struct handshake, timer)->chain;
    mz_count(c->down.scope, MZ_LISTENER_STAT_CX_TRANSPORT_TIMEOUT, 1);
    c->down.termination = "transport socket timeout was reached";
    mz_conn_close(c->down.conn, MZ_CLOSE_NOW, "transport_socket_timeout", 0);
}

static void handshake_limit(struct mz_net_chain *c, uint64_t ms)
{
    c->handshake = mz_new0(MZ_MEM_CONN, struct handshake);
    c->handshake->chain = c;
    mz_timer_init(c->acceptor->worker->loop, &c->handshake->timer, handshake_timeout);
    mz_timer_start_ms(&c->handshake->timer, ms);
}

/* What came by ECDS for the places of a chain, as it is now. False: something is missing. */
static bool extensions_take(const struct mz_filter_chain *fc, const struct mz_extension ***out,
                            size_t *out_bytes)
{
    *out = mz_alloc0(MZ_MEM_CONN, fc->n_filters * sizeof(const struct mz_extension *));
    for (size_t i = 0; i < fc->n_filters; i++) {
        if (!fc->filters[i].place)
            continue;
        const struct mz_extension *x = mz_ecds_place_get(fc->filters[i].place);
        if (!x) {
            extensions_drop(*out, fc->n_filters);
            return false;
        }
        (*out)[i] = mz_extension_ref(x);
        *out_bytes += object_size(((const struct mz_net_filter_type *)x->type.type)->size);
    }
    return true;
}

/* NULL: a filter's configuration has not come. */
static struct mz_net_chain *chain_new(struct mz_acceptor *a, const struct mz_filter_chain *fc)
{
    size_t head =
        object_size(sizeof(struct mz_net_chain) + fc->n_filters * sizeof(struct mz_net_filter *));
    size_t objects = fc->objects_bytes;
    const struct mz_extension **extensions = NULL;
    if (fc->has_places && !extensions_take(fc, &extensions, &objects))
        return NULL;
    struct mz_net_chain *c = mz_alloc0(MZ_MEM_CONN, head + objects);
    char *object = (char *)c + head;
    c->acceptor = a;
    c->extensions = extensions;
    c->down.listener = mz_listener_config_ref(a->cfg);
    c->n = (uint32_t)fc->n_filters;
    for (size_t i = 0; i < c->n; i++) {
        const struct mz_extension *x = extensions ? extensions[i] : NULL;
        struct mz_net_filter *f = (struct mz_net_filter *)(void *)object;
        *f = (struct mz_net_filter){ .type = x ? x->type.type : fc->filters[i].type,
                                     .cfg = x ? x->cfg : fc->filters[i].cfg,
                                     .chain = c,
                                     .down = &c->down,
                                     .worker = a->worker };
        c->filters[i] = f;
        object += object_size(f->type->size);
    }
    return c;
}

static void down_fill(struct mz_net_chain *c, const struct mz_filter_chain *fc,
                      const struct mz_incoming *in)
{
    struct mz_loop *l = c->acceptor->worker->loop;
    c->down = (struct mz_downstream){
        .worker = c->acceptor->worker,
        .chain = fc,
        .listener = c->down.listener,
        .scope = config(c)->scope,
        .chain_name = fc->name,
        .listener_name = config(c)->name,
        .listener_metadata = config(c)->metadata,
        .direction = config(c)->traffic_direction,
        .secure = fc->transport->secure,
        .start_us = mz_loop_now_us(l),
        .start_wall_us = mz_loop_wall_us(l),
        .local_restored = in->local,
        .restored = in->local_restored,
        .sni = in->server_name,
    };
}

/* A filter's configuration is missing: Envoy makes the connection and closes it at once. */
static void count_incomplete(struct mz_acceptor *a)
{
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_NETWORK_EXTENSION_MISSING, 1);
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_CX_TOTAL, 1);
    mz_count(a->cfg->scope, MZ_LISTENER_STAT_CX_DESTROY, 1);
    mz_count(a->worker_scope, MZ_LISTENER_WORKER_CX_TOTAL, 1);
}

void mz_net_chain_start(struct mz_acceptor *a, const struct mz_incoming *in)
{
    const struct mz_filter_chain *fc = mz_listener_config_chain(a->cfg, in);
    struct mz_net_chain *c = fc && fc->n_filters ? chain_new(a, fc) : NULL;
    if (!c) {
        if (!fc)
            refuse(a, in);
        else if (fc->n_filters)
            count_incomplete(a);
        mz_incoming_close(a->worker->loop, in);
        return;
    }
    down_fill(c, fc, in);
    if (in->arena) {
        struct mz_incoming *found = mz_arena_alloc(in->arena, sizeof(*found));
        *found = *in;
        c->down.found = found;
    }
    mz_list_add_tail(&a->chains, &c->link);
    __atomic_add_fetch(&a->cfg->connections, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(&a->connections, 1, __ATOMIC_RELAXED);
    __atomic_add_fetch(a->process_connections, 1, __ATOMIC_RELAXED);
    count_start(c);
    struct mz_transport *t = fc->transport->create(fc->transport, NULL);
    c->down.conn = in->wire ? mz_conn_accepted_wire(a->worker->loop, in->wire, &in->socket_local,
                                                    &in->remote, t, &conn_ops, c)
                            : mz_conn_accepted(a->worker->loop, in->fd, &in->socket_local,
                                               &in->remote, t, &conn_ops, c);
    c->down.conn->direct_remote = in->direct_remote;
    mz_conn_set_buffer_limit(c->down.conn, a->cfg->buffer_limit);
    if (in->state)
        mz_shared_state_put(in->state, mz_downstream_info(&c->down));
    if (fc->connect_timeout_ms && t->ops->ready && !t->ops->ready(t))
        handshake_limit(c, fc->connect_timeout_ms);
    if (mz_log_on(MZ_LOG_C_conn_handler, MZ_LOG_DEBUG)) {
        char text[MZ_ADDR_TEXT];
        mz_addr_text(&in->remote, text);
        MZ_LOG_IDS(DEBUG, conn_handler, c->down.conn->id, 0, "new connection from %s", text);
    }
    run(c, 0);
}

void mz_net_chain_drain(struct mz_list *link)
{
    struct mz_net_chain *c = MZ_CONTAINER(link, struct mz_net_chain, link);
    for (size_t i = 0; i < c->n && !c->closed; i++)
        if (c->filters[i]->type->drain)
            c->filters[i]->type->drain(c->filters[i]);
}

void mz_net_chain_end_idle(struct mz_list *link)
{
    struct mz_net_chain *c = MZ_CONTAINER(link, struct mz_net_chain, link);
    for (size_t i = 0; i < c->n && !c->closed; i++)
        if (c->filters[i]->type->end_idle)
            c->filters[i]->type->end_idle(c->filters[i]);
}

bool mz_net_chain_drained(const struct mz_list *link)
{
    const struct mz_net_chain *c = MZ_CONTAINER((uintptr_t)link, struct mz_net_chain, link);
    uint64_t end = __atomic_load_n(&c->down.chain->drain_end_us, __ATOMIC_RELAXED);
    return end && mz_loop_now_us(c->acceptor->worker->loop) >= end;
}

void mz_net_chain_close(struct mz_list *link)
{
    struct mz_net_chain *c = MZ_CONTAINER(link, struct mz_net_chain, link);
    mz_conn_close(c->down.conn, MZ_CLOSE_NOW,
                  "purging_socket_that_have_not_progressed_to_connections", 0);
}

const void *mz_filter_chain_config(const struct mz_filter_chain *c,
                                   const struct mz_net_filter_type *type)
{
    for (size_t i = 0; i < c->n_filters; i++) {
        const struct mz_chain_filter *f = &c->filters[i];
        const struct mz_extension *x = f->place ? mz_ecds_place_get(f->place) : NULL;
        if (x ? x->type.type == type : f->type == type)
            return x ? x->cfg : f->cfg;
    }
    return NULL;
}
