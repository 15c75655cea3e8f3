#include "filters/http/grpc_frames.h"
#include "filters/http/grpc_names.h"
#include "filters/http/http_filters.h"
#include "http/grpc.h"
#include "proto/mapper.h"
#include "upstream/cluster.h"

/* grpc_stats: calls, outcomes and messages of gRPC, as statistics of the cluster (H9): cluster.<name>.grpc.<service>.<method>. */

struct gs_cfg {
    struct mz_arena *arena;
    bool all, emit, upstream, replace_dots;
    struct mz_map allowed; /* "service/method" */
    struct grpc_names names;
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
    grpc_names_fini(&c->names);
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
                          .emit = m->emit_filter_state,
                          .upstream = m->enable_upstream_stats,
                          .replace_dots = m->replace_dots_in_grpc_service_name };
    mz_map_init(&c->allowed, MZ_MEM_CONFIG);
    if (m->per_method_stat_specifier_case ==
        pb_grpc_stats_FilterConfig_PER_METHOD_STAT_SPECIFIER_STATS_FOR_ALL_METHODS)
        c->all = m->stats_for_all_methods->value;
    else if (m->per_method_stat_specifier_case ==
             pb_grpc_stats_FilterConfig_PER_METHOD_STAT_SPECIFIER_INDIVIDUAL_METHOD_STATS_ALLOWLIST)
        allow(c, m->individual_method_stats_allowlist);
    grpc_names_init(&c->names, f->stats, "grpc.", f->workers, a);
    return c;
}

/* ---- names ---- */

/* What stands behind "cluster.x.grpc." in the names of this call; 0: nothing. */
static size_t middle(const struct gs_cfg *c, struct mz_str service, struct mz_str method,
                     char out[GRPC_NAMES_BYTES])
{
    size_t n = service.n + method.n + 2;
    if (n > GRPC_NAMES_BYTES || (!c->all && !c->allowed.n))
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

/* ---- counting ---- */

static void count(const struct state *st, enum grpc_stat stat, uint64_t n)
{
    if (st->scope)
        mz_count(st->scope, stat, n);
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
    if (!cluster || !grpc_names_split(mz_headers_path(h), &service, &method))
        return MZ_FLOW_CONTINUE;
    char names[GRPC_NAMES_BYTES];
    size_t n = middle(f->cfg, service, method, names);
    const struct gs_cfg *c = f->cfg;
    st->scope = grpc_names_scope(&c->names, mz_wcluster_info(cluster)->scope->prefix,
                                 (struct mz_str){ names, n });
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
    grpc_names_outcome(st->scope, h);
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
    grpc_names_outcome(st->scope, h);
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
