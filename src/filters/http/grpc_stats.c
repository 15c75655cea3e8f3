#include "base/map.h"
#include "filters/http/grpc_frames.h"
#include "filters/http/http_filters.h"
#include "http/grpc.h"
#include "proto/mapper.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

/*
 * grpc_stats: calls, outcomes and messages of gRPC, as statistics of the cluster (H9): cluster.<name>.grpc.<service>.<method>.
 *
 * Service and method are what a client wrote. Each worker knows NAMES_MAX pairs; what comes later, or is longer than NAME_MAX,
 * is counted without them. A status that gRPC does not know is a failure without a name of its own (E13).
 */
#define NAMES_MAX  1024
#define NAME_BYTES 256

enum grpc_stat {
    /* 0..16: the status of that number */
    GS_SUCCESS = 17,
    GS_FAILURE,
    GS_TOTAL,
    GS_REQUEST_MESSAGES,
    GS_RESPONSE_MESSAGES,
    GS_UPSTREAM_RQ_TIME,
    GS__COUNT
};
#define STATUS(n) [n] = { #n, MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY }
static const struct mz_stat_def stat_defs[GS__COUNT] = {
    STATUS(0),
    STATUS(1),
    STATUS(2),
    STATUS(3),
    STATUS(4),
    STATUS(5),
    STATUS(6),
    STATUS(7),
    STATUS(8),
    STATUS(9),
    STATUS(10),
    STATUS(11),
    STATUS(12),
    STATUS(13),
    STATUS(14),
    STATUS(15),
    STATUS(16),
    [GS_SUCCESS] = { "success", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_FAILURE] = { "failure", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_TOTAL] = { "total", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_REQUEST_MESSAGES] = { "request_message_count", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_RESPONSE_MESSAGES] = { "response_message_count", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [GS_UPSTREAM_RQ_TIME] = { "upstream_rq_time", MZ_HISTOGRAM, MZ_UNIT_MS, MZ_STAT_LAZY },
};
static const struct mz_stat_kind stats = { "grpc", stat_defs, GS__COUNT };

struct known { /* a scope that a worker has met, behind it its key */
    struct mz_scope *scope;
};
struct names {         /* of one worker, touched by its thread only */
    struct mz_map map; /* key -> struct known */
    unsigned n;        /* those with service and method */
};
struct gs_cfg {
    struct mz_arena *arena;
    struct mz_stats *stats;
    bool all, emit, upstream, replace_dots;
    struct mz_map allowed; /* "service/method" */
    struct names *names;   /* n_slots */
    unsigned n_slots;
};
struct state {
    struct mz_filter base;
    struct mz_scope *scope;        /* borrowed of the configuration; NULL: nothing is counted */
    struct mz_grpc_counts *counts; /* NULL until the first message */
    struct grpc_frames request, response;
    bool grpc_request, grpc_response;
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct gs_cfg *c = cfg;
    for (unsigned i = 0; i < c->n_slots; i++) {
        struct mz_map *m = &c->names[i].map;
        for (size_t k = 0; k < m->cap; k++)
            if (m->v[k].value) {
                mz_scope_unref(((struct known *)m->v[k].value)->scope);
                mz_free(MZ_MEM_STATS, m->v[k].value);
            }
        mz_map_fini(m);
    }
    mz_map_fini(&c->allowed);
    mz_arena_destroy(c->arena);
}

static void allow(struct gs_cfg *c, const pb_GrpcMethodList *m)
{
    for (size_t i = 0; m && i < m->n_services; i++)
        for (size_t k = 0; k < m->services[i]->n_method_names; k++) {
            struct mz_str key = mz_arena_printf(c->arena, "%s/%s", m->services[i]->name,
                                                m->services[i]->method_names[k]);
            (void)mz_map_put(&c->allowed, key, c); /* named twice is named */
        }
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)err;
    const pb_grpc_stats_FilterConfig *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct gs_cfg *c = mz_arena_new0(a, struct gs_cfg);
    *c = (struct gs_cfg){ .arena = a,
                          .stats = f->stats,
                          .emit = m->emit_filter_state,
                          .upstream = m->enable_upstream_stats,
                          .replace_dots = m->replace_dots_in_grpc_service_name,
                          .n_slots = f->workers + 1 };
    mz_map_init(&c->allowed, MZ_MEM_CONFIG);
    if (m->per_method_stat_specifier_case ==
        pb_grpc_stats_FilterConfig_PER_METHOD_STAT_SPECIFIER_STATS_FOR_ALL_METHODS)
        c->all = m->stats_for_all_methods->value;
    else if (m->per_method_stat_specifier_case ==
             pb_grpc_stats_FilterConfig_PER_METHOD_STAT_SPECIFIER_INDIVIDUAL_METHOD_STATS_ALLOWLIST)
        allow(c, m->individual_method_stats_allowlist);
    c->names = mz_arena_alloc0(a, c->n_slots * sizeof(*c->names));
    for (unsigned i = 0; i < c->n_slots; i++)
        mz_map_init(&c->names[i].map, MZ_MEM_STATS);
    return c;
}

/* ---- names ---- */

/* "/service/method", empty parts and a query aside. */
static bool split_path(struct mz_str path, struct mz_str *out_service, struct mz_str *out_method)
{
    struct mz_str rest = path, part, parts[2];
    unsigned n = 0;
    ptrdiff_t query = mz_str_chr(path, '?');
    if (query >= 0)
        rest.n = (size_t)query;
    while (mz_str_split(&rest, '/', &part)) {
        if (!part.n)
            continue;
        if (n == 2)
            return false;
        parts[n++] = part;
    }
    if (n != 2)
        return false;
    *out_service = parts[0];
    *out_method = parts[1];
    return true;
}

/* What stands behind "cluster.x.grpc." in the names of this call; 0: nothing. */
static size_t middle(const struct gs_cfg *c, struct mz_str service, struct mz_str method,
                     char out[NAME_BYTES])
{
    size_t n = service.n + method.n + 2;
    if (n > NAME_BYTES || (!c->all && !c->allowed.n))
        return 0;
    memcpy(out, service.p, service.n);
    memcpy(out + service.n + 1, method.p, method.n);
    if (!c->all) {
        out[service.n] = '/';
        if (!mz_map_get(&c->allowed, (struct mz_str){ out, n - 1 }))
            return 0;
    }
    for (size_t i = 0; c->all && c->replace_dots && i < service.n; i++)
        if (out[i] == '.')
            out[i] = '_';
    out[service.n] = out[n - 1] = '.';
    return n;
}

static struct mz_scope *scope_of(const struct gs_cfg *c, struct mz_str cluster, struct mz_str names)
{
    char key[2 * NAME_BYTES];
    if (mz_stats_slot >= c->n_slots || cluster.n + 5 + names.n > sizeof(key))
        return NULL;
    struct names *mine = &c->names[mz_stats_slot];
    size_t n = 0;
    const struct mz_str parts[] = { cluster, MZ_STR("grpc."), names };
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        memcpy(key + n, parts[i].p, parts[i].n);
        n += parts[i].n;
    }
    struct known *k = mz_map_get(&mine->map, (struct mz_str){ key, n });
    if (k)
        return k->scope;
    if (names.n && mine->n >= NAMES_MAX)
        return scope_of(c, cluster, MZ_STR(""));
    mine->n += names.n > 0;
    k = mz_alloc(MZ_MEM_STATS, sizeof(*k) + n);
    memcpy(k + 1, key, n);
    struct mz_str own = { (const char *)(k + 1), n };
    k->scope = mz_scope_create(c->stats, &stats, own);
    (void)mz_map_put(&mine->map, own, k); /* it was not there */
    return k->scope;
}

/* ---- counting ---- */

static void count(const struct state *st, enum grpc_stat stat, uint64_t n)
{
    if (st->scope)
        mz_count(st->scope, stat, n);
}

static void count_outcome(const struct state *st, const struct mz_headers *h)
{
    const struct mz_header *e = mz_headers_get_id(h, MZ_H_GRPC_STATUS);
    uint64_t status;
    if (!e || !st->scope)
        return;
    bool known = mz_str_u64(e->value, &status) && status <= 16;
    if (known)
        count(st, (enum grpc_stat)status, 1);
    count(st, known && status == 0 ? GS_SUCCESS : GS_FAILURE, 1);
    count(st, GS_TOTAL, 1);
}

static void count_time(const struct state *st)
{
    const struct gs_cfg *c = st->base.cfg;
    const struct mz_stream_info *i = mz_stream_info(st->base.stream);
    if (c->upstream && st->scope && i->up.last_tx_us && i->up.last_rx_us)
        mz_hist_record(
            st->scope, GS_UPSTREAM_RQ_TIME,
            i->up.last_rx_us > i->up.last_tx_us ? (i->up.last_rx_us - i->up.last_tx_us) / 1000 : 0);
}

static struct mz_str counts_text(const struct mz_filter_object *o, struct mz_arena *a)
{
    const struct mz_grpc_counts *c = (const struct mz_grpc_counts *)(const void *)o;
    return mz_arena_printf(a, "%lu,%lu", (unsigned long)c->request, (unsigned long)c->response);
}

/* The message FilterObject as proto3 JSON: 64 bits are strings, 0 is absent. */
static const struct mz_value *counts_tree(const struct mz_filter_object *o, struct mz_arena *a)
{
    const struct mz_grpc_counts *c = (const struct mz_grpc_counts *)(const void *)o;
    const struct {
        struct mz_str key;
        uint64_t n;
    } fields[] = { { MZ_STR("requestMessageCount"), c->request },
                   { MZ_STR("responseMessageCount"), c->response } };
    struct mz_value *top = mz_arena_new0(a, struct mz_value);
    top->kind = MZ_VALUE_STRUCT;
    top->fields.v = mz_arena_alloc0(a, MZ_COUNT(fields) * sizeof(*top->fields.v));
    for (size_t i = 0; i < MZ_COUNT(fields); i++) {
        if (!fields[i].n)
            continue;
        struct mz_value *v = mz_arena_new0(a, struct mz_value);
        v->kind = MZ_VALUE_STRING;
        v->str = mz_arena_printf(a, "%lu", (unsigned long)fields[i].n);
        top->fields.v[top->fields.n++] = (struct mz_field){ fields[i].key, v };
    }
    return top;
}

static void note(struct state *st)
{
    const struct gs_cfg *c = st->base.cfg;
    struct mz_stream_info *i = mz_stream_info(st->base.stream);
    if (!c->emit)
        return;
    if (!st->counts) {
        st->counts = mz_arena_new0(i->arena, struct mz_grpc_counts);
        st->counts->base = (struct mz_filter_object){ .text = counts_text, .tree = counts_tree };
        mz_info_set_state(i, MZ_STR(MZ_STATE_GRPC_COUNTS), &st->counts->base);
    }
    st->counts->request = st->request.count;
    st->counts->response = st->response.count;
}

/* ---- the filter ---- */

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    st->grpc_request = mz_is_grpc(h);
    if (!st->grpc_request)
        return MZ_FLOW_CONTINUE;
    const struct mz_weighted_cluster *w;
    struct mz_str name, service, method;
    struct mz_wcluster *cluster = mz_stream_cluster(f->stream, &name, &w);
    if (!cluster || !split_path(mz_headers_path(h), &service, &method))
        return MZ_FLOW_CONTINUE;
    char names[NAME_BYTES];
    size_t n = middle(f->cfg, service, method, names);
    st->scope =
        scope_of(f->cfg, mz_wcluster_info(cluster)->scope->prefix, (struct mz_str){ names, n });
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_request_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    uint64_t n = st->grpc_request ? grpc_frames_pass(&st->request, data) : 0;
    if (n) {
        note(st);
        count(st, GS_REQUEST_MESSAGES, n);
    }
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    struct state *st = (struct state *)(void *)f;
    st->grpc_response = !end && mz_headers_status(h) == 200 && mz_is_grpc(h);
    count_outcome(st, h);
    if (end)
        count_time(st);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_data(struct mz_filter *f, struct mz_buf *data, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    uint64_t n = st->grpc_response ? grpc_frames_pass(&st->response, data) : 0;
    if (n) {
        note(st);
        count(st, GS_RESPONSE_MESSAGES, n);
    }
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_trailers(struct mz_filter *f, struct mz_headers *h)
{
    const struct state *st = (const struct state *)(const void *)f;
    count_outcome(st, h);
    count_time(st);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_grpc_stats = {
    .name = "envoy.filters.http.grpc_stats",
    .config_type = "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_request_data = on_request_data,
    .on_response_headers = on_response_headers,
    .on_response_data = on_response_data,
    .on_response_trailers = on_response_trailers,
};
