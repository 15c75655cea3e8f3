/* envoy.filters.network.mongo_proxy: counts what passes between MongoDB clients and servers (L5). It changes nothing. */
#include "base/list.h"
#include "base/map.h"
#include "filters/network/mongo_decode.h"
#include "filters/network/sniffer.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#define NAMES_MAX   1024 /* collections that a worker knows: their names are the client's */
#define NAME_MAX_N  128
#define QUERIES_MAX 1024 /* of a connection, without a reply yet */

#define STATS(X)                                                                                   \
    X(CX_LOCAL, "cx_destroy_local_with_active_rq", COUNTER)                                        \
    X(CX_REMOTE, "cx_destroy_remote_with_active_rq", COUNTER)                                      \
    X(CX_DRAIN, "cx_drain_close", COUNTER)                                                         \
    X(DECODING_ERROR, "decoding_error", COUNTER)                                                   \
    X(COMMAND, "op_command", COUNTER)                                                              \
    X(COMMAND_REPLY, "op_command_reply", COUNTER)                                                  \
    X(GET_MORE, "op_get_more", COUNTER)                                                            \
    X(INSERT, "op_insert", COUNTER)                                                                \
    X(KILL_CURSORS, "op_kill_cursors", COUNTER)                                                    \
    X(QUERY, "op_query", COUNTER)                                                                  \
    X(QUERY_AWAIT_DATA, "op_query_await_data", COUNTER)                                            \
    X(QUERY_EXHAUST, "op_query_exhaust", COUNTER)                                                  \
    X(QUERY_MULTI_GET, "op_query_multi_get", COUNTER)                                              \
    X(QUERY_NO_CURSOR_TIMEOUT, "op_query_no_cursor_timeout", COUNTER)                              \
    X(QUERY_NO_MAX_TIME, "op_query_no_max_time", COUNTER)                                          \
    X(QUERY_SCATTER_GET, "op_query_scatter_get", COUNTER)                                          \
    X(QUERY_TAILABLE_CURSOR, "op_query_tailable_cursor", COUNTER)                                  \
    X(REPLY, "op_reply", COUNTER)                                                                  \
    X(REPLY_CURSOR_NOT_FOUND, "op_reply_cursor_not_found", COUNTER)                                \
    X(REPLY_QUERY_FAILURE, "op_reply_query_failure", COUNTER)                                      \
    X(REPLY_VALID_CURSOR, "op_reply_valid_cursor", COUNTER)                                        \
    X(QUERY_ACTIVE, "op_query_active", GAUGE)
enum {
#define X(id, name, type) STAT_##id,
    STATS(X)
#undef X
        STAT__COUNT
};
static const struct mz_stat_def stat_defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_NONE, 0 },
    STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "mongo", stat_defs, STAT__COUNT };

/* Of a command, or of the queries of a collection. */
enum { KIND_TOTAL, KIND_SCATTER_GET, KIND_MULTI_GET, KIND_NUM_DOCS, KIND_SIZE, KIND_TIME };
static const struct mz_stat_def kind_defs[] = {
    { "total", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "scatter_get", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "multi_get", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "reply_num_docs", MZ_HISTOGRAM, MZ_UNIT_NONE, MZ_STAT_LAZY },
    { "reply_size", MZ_HISTOGRAM, MZ_UNIT_BYTES, MZ_STAT_LAZY },
    { "reply_time_ms", MZ_HISTOGRAM, MZ_UNIT_MS, MZ_STAT_LAZY },
};
static const struct mz_stat_kind kind_stats = { "mongo kind", kind_defs, MZ_COUNT(kind_defs) };

struct mongo_cfg {
    struct mz_arena *arena;
    struct mz_stats *stats;
    struct mz_scope *scope;
    struct mz_str prefix;
    struct mz_map commands;     /* name -> scope */
    struct mz_scope *unknown;   /* of other commands */
    struct mz_map *collections; /* of each worker: name -> scope */
    unsigned n_slots;
};
struct query {
    struct mz_list link;
    int32_t id;
    uint64_t start_us;
    struct mz_scope *scope; /* NULL: of a collection too many */
};
struct mongo_filter {
    struct sniffer sniffer;
    struct mongo mongo;
    struct mz_list queries;
    unsigned n_queries;
    bool ended;
    struct mz_task close; /* the listener drains and no query is open */
};

/* ---- configuration ---- */

static void scopes_unref(struct mz_map *m)
{
    mz_map_foreach (e, m)
        mz_scope_unref(e->value);
    mz_map_fini(m);
}

static void config_destroy(void *cfg)
{
    struct mongo_cfg *c = cfg;
    scopes_unref(&c->commands);
    mz_scope_unref(c->unknown);
    for (unsigned i = 0; i < c->n_slots; i++) {
        struct mz_map *m = &c->collections[i];
        mz_map_foreach (e, m) {
            mz_scope_unref(e->value);
            mz_free(MZ_MEM_STATS, (void *)(uintptr_t)e->key.p);
        }
        mz_map_fini(m);
    }
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static struct mz_scope *kind_scope(const struct mongo_cfg *c, struct mz_arena *a,
                                   const char *before, struct mz_str name, const char *after)
{
    const struct mz_str v[] = { c->prefix, mz_str_c(before), name, mz_str_c(after) };
    return mz_scope_create(c->stats, &kind_stats, mz_arena_cat(a, MZ_COUNT(v), v));
}

static void command_add(struct mongo_cfg *c, struct mz_str name)
{
    if (!mz_map_get(&c->commands, name))
        (void)mz_map_put(&c->commands, mz_arena_dup(c->arena, name),
                         kind_scope(c, c->arena, "cmd.", name, "."));
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    static const struct mz_str usual[] = { MZ_STR_INIT("delete"), MZ_STR_INIT("insert"),
                                           MZ_STR_INIT("update") };
    (void)err;
    const pb_MongoProxy *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mongo_cfg *c = mz_arena_new0(a, struct mongo_cfg);
    c->arena = a;
    c->stats = f->stats;
    c->n_slots = f->workers + 1;
    c->prefix = mz_arena_cat(
        a, 3, (struct mz_str[]){ MZ_STR("mongo."), mz_str_c(m->stat_prefix), MZ_STR(".") });
    c->scope = mz_scope_create(f->stats, &stats, c->prefix);
    mz_map_init(&c->commands, MZ_MEM_CONFIG);
    for (size_t i = 0; i < (m->n_commands ? m->n_commands : MZ_COUNT(usual)); i++)
        command_add(c, m->n_commands ? mz_str_c(m->commands[i]) : usual[i]);
    c->unknown = kind_scope(c, a, "cmd.", MZ_STR("unknown_command"), ".");
    c->collections = mz_arena_alloc0(a, c->n_slots * sizeof(*c->collections));
    for (unsigned i = 0; i < c->n_slots; i++)
        mz_map_init(&c->collections[i], MZ_MEM_STATS);
    return c;
}

/* ---- counting ---- */

static const struct mongo_cfg *cfg_of(const struct mongo_filter *f)
{
    return f->sniffer.base.cfg;
}

static void add(const struct mongo_filter *f, unsigned stat)
{
    mz_count(cfg_of(f)->scope, stat, 1);
}

static struct mz_scope *collection_scope(const struct mongo_cfg *c, struct mz_str name)
{
    if (mz_stats_slot >= c->n_slots || name.n > NAME_MAX_N)
        return NULL;
    struct mz_map *mine = &c->collections[mz_stats_slot];
    struct mz_scope *s = mz_map_get(mine, name);
    if (s || mine->n >= NAMES_MAX)
        return s;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STATS);
    s = kind_scope(c, a, "collection.", name, ".query.");
    mz_arena_destroy(a);
    (void)mz_map_put(mine, (struct mz_str){ mz_strndup(MZ_MEM_STATS, name.p, name.n), name.n }, s);
    return s;
}

static struct mz_scope *query_count(struct mongo_filter *f, const struct mongo_message *m)
{
    const struct mongo_cfg *c = cfg_of(f);
    if (m->command.n) {
        struct mz_scope *s = mz_map_get(&c->commands, m->command);
        s = s ? s : c->unknown;
        mz_count(s, KIND_TOTAL, 1);
        return s;
    }
    struct mz_scope *s = collection_scope(c, m->collection);
    if (s)
        mz_count(s, KIND_TOTAL, 1);
    if (!m->max_time)
        add(f, STAT_QUERY_NO_MAX_TIME);
    if (m->get == MONGO_PRIMARY_KEY)
        return s;
    if (s)
        mz_count(s, m->get == MONGO_SCATTER_GET ? KIND_SCATTER_GET : KIND_MULTI_GET, 1);
    add(f, m->get == MONGO_SCATTER_GET ? STAT_QUERY_SCATTER_GET : STAT_QUERY_MULTI_GET);
    return s;
}

static uint64_t now_us(const struct mongo_filter *f)
{
    return mz_loop_now_us(f->sniffer.base.worker->loop);
}

static void on_query(struct mongo_filter *f, const struct mongo_message *m)
{
    static const struct {
        uint32_t flag;
        unsigned stat;
    } flags[] = { { 1u << 1, STAT_QUERY_TAILABLE_CURSOR },
                  { 1u << 4, STAT_QUERY_NO_CURSOR_TIMEOUT },
                  { 1u << 5, STAT_QUERY_AWAIT_DATA },
                  { 1u << 6, STAT_QUERY_EXHAUST } };
    add(f, STAT_QUERY);
    for (size_t i = 0; i < MZ_COUNT(flags); i++)
        if (m->flags & flags[i].flag)
            add(f, flags[i].stat);
    if (m->odd)
        return;
    struct mz_scope *scope = query_count(f, m);
    if (f->n_queries >= QUERIES_MAX)
        return;
    struct query *q = mz_new0(MZ_MEM_CONN, struct query);
    q->id = m->id;
    q->start_us = now_us(f);
    q->scope = scope;
    mz_list_add_tail(&f->queries, &q->link);
    f->n_queries++;
    mz_gauge_add(cfg_of(f)->scope, STAT_QUERY_ACTIVE, 1);
}

static void query_end(struct mongo_filter *f, struct query *q)
{
    mz_list_del(&q->link);
    mz_free(MZ_MEM_CONN, q);
    f->n_queries--;
    mz_gauge_add(cfg_of(f)->scope, STAT_QUERY_ACTIVE, -1);
}

static struct query *query_find(struct mongo_filter *f, int32_t id)
{
    mz_list_foreach (it, &f->queries) {
        struct query *q = MZ_CONTAINER(it, struct query, link);
        if (q->id == id)
            return q;
    }
    return NULL;
}

static void on_reply(struct mongo_filter *f, const struct mongo_message *m)
{
    add(f, STAT_REPLY);
    if (m->cursor)
        add(f, STAT_REPLY_VALID_CURSOR);
    if (m->flags & 1)
        add(f, STAT_REPLY_CURSOR_NOT_FOUND);
    if (m->flags & 2)
        add(f, STAT_REPLY_QUERY_FAILURE);
    struct query *q = query_find(f, m->response_to);
    if (q) {
        if (q->scope) {
            mz_hist_record(q->scope, KIND_NUM_DOCS, m->documents);
            mz_hist_record(q->scope, KIND_SIZE, m->bytes);
            mz_hist_record(q->scope, KIND_TIME, (now_us(f) - q->start_us) / 1000);
        }
        query_end(f, q);
    }
    if (!f->n_queries && !f->ended && mz_downstream_draining(f->sniffer.base.down)) {
        add(f, STAT_CX_DRAIN);
        f->ended = true;
        mz_task_schedule_next(f->sniffer.base.worker->loop, &f->close); /* behind this reply */
    }
}

static void on_message(void *arg, const struct mongo_message *m)
{
    struct mongo_filter *f = arg;
    switch (m->op) {
    case MONGO_REPLY:
        on_reply(f, m);
        break;
    case MONGO_QUERY:
        on_query(f, m);
        break;
    case MONGO_INSERT:
        add(f, STAT_INSERT);
        break;
    case MONGO_GET_MORE:
        add(f, STAT_GET_MORE);
        break;
    case MONGO_KILL_CURSORS:
        add(f, STAT_KILL_CURSORS);
        break;
    case MONGO_COMMAND:
        add(f, STAT_COMMAND);
        break;
    case MONGO_COMMAND_REPLY:
        add(f, STAT_COMMAND_REPLY);
        break;
    }
}

static void on_broken(void *arg)
{
    add(arg, STAT_DECODING_ERROR);
}

/* ---- a connection ---- */

static bool feed(struct sniffer *s, bool from_client, const char *bytes, size_t n)
{
    struct mongo *m = &((struct mongo_filter *)(void *)s)->mongo;
    mongo_feed(m, from_client, bytes, n);
    return !m->deaf;
}

static void drain_close(struct mz_task *t)
{
    struct mongo_filter *f = MZ_CONTAINER(t, struct mongo_filter, close);
    mz_conn_close(f->sniffer.base.down->conn, MZ_CLOSE_FLUSH, "mongo_drain_close", 0);
}

static enum mz_net_flow on_new_connection(struct mz_net_filter *base)
{
    struct mongo_filter *f = (struct mongo_filter *)(void *)base;
    f->sniffer.feed = feed;
    f->mongo.message = on_message;
    f->mongo.broken = on_broken;
    f->mongo.arg = f;
    mz_list_init(&f->queries);
    mz_task_init(&f->close, drain_close);
    return MZ_NET_CONTINUE;
}

static void on_event(struct mz_net_filter *base, enum mz_conn_event ev)
{
    struct mongo_filter *f = (struct mongo_filter *)(void *)base;
    if (ev == MZ_CONN_CONNECTED || !f->sniffer.feed)
        return;
    f->ended = true;
    mz_task_cancel(&f->close);
    if (f->n_queries)
        add(f, ev == MZ_CONN_REMOTE_CLOSE ? STAT_CX_REMOTE : STAT_CX_LOCAL);
    while (f->n_queries)
        query_end(f, MZ_CONTAINER(f->queries.next, struct query, link));
}

static void destroy(struct mz_net_filter *base)
{
    mongo_fini(&((struct mongo_filter *)(void *)base)->mongo);
}

const struct mz_net_filter_type mz_net_filter_mongo_proxy = {
    .name = "envoy.filters.network.mongo_proxy",
    .config_type = "envoy.extensions.filters.network.mongo_proxy.v3.MongoProxy",
    .size = sizeof(struct mongo_filter),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_new_connection = on_new_connection,
    .on_data = sniffer_data,
    .on_write = sniffer_write,
    .on_event = on_event,
    .destroy = destroy,
};
