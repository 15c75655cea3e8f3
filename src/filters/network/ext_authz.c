/* envoy.filters.network.ext_authz: a service decides who may send the first byte (L5). The asking is that of ../ext_authz. */
#include "filters/ext_authz/ext_authz.h"
#include "filters/network/network_filters.h"
#include "listener/listener_filter.h"
#include "observe/matcher.h"
#include "stats/stats.h"

#define NET_EXT_AUTHZ_STATS(X)                                                                     \
    X(ACTIVE, "active", GAUGE)                                                                     \
    X(CX_CLOSED, "cx_closed", COUNTER)                                                             \
    X(DENIED, "denied", COUNTER)                                                                   \
    X(DISABLED, "disabled", COUNTER)                                                               \
    X(ERROR, "error", COUNTER)                                                                     \
    X(FAILURE_MODE_ALLOWED, "failure_mode_allowed", COUNTER)                                       \
    X(OK, "ok", COUNTER)                                                                           \
    X(TOTAL, "total", COUNTER)
enum {
#define X(id, name, type) STAT_##id,
    NET_EXT_AUTHZ_STATS(X)
#undef X
};
static const struct mz_stat_def defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_NONE, 0 },
    NET_EXT_AUTHZ_STATS(X)
#undef X
};
static const struct mz_stat_kind stats = { "network ext_authz", defs, MZ_COUNT(defs) };

struct nea_cfg {
    struct mz_arena *arena;
    struct authz_service *service;
    struct mz_scope *scope;
    bool allow, certificate, tls_session;
    struct mz_metadata_match *enabled; /* NULL: always */
    struct mz_str *namespaces;
    size_t n_namespaces;
    struct authz_labels labels;
};
struct nea {
    struct mz_net_filter base;
    struct authz_call *call; /* the service is asked */
    struct mz_arena *arena;  /* of question and answer */
    uint64_t asked_us;
    bool allowed;
};

static void config_destroy(void *cfg)
{
    struct nea_cfg *c = cfg;
    authz_service_fini(c->service);
    mz_metadata_match_destroy(c->enabled);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool service_build(struct nea_cfg *c, const pb_network_ext_authz_ExtAuthz *m,
                          struct mz_err *err)
{
    if (!authz_api_version(m->transport_api_version, err))
        return false;
    if (m->grpc_service)
        c->service = authz_service_grpc(m->grpc_service, c->arena, err);
    else
        (void)mz_err_set(err, "is required");
    return c->service || mz_err_at(err, "grpc_service");
}

static bool enabled_build(struct nea_cfg *c, const pb_network_ext_authz_ExtAuthz *m,
                          struct mz_err *err)
{
    if (!m->filter_enabled_metadata)
        return true;
    c->enabled = mz_metadata_match_build(m->filter_enabled_metadata, err);
    return c->enabled || mz_err_at(err, "filter_enabled_metadata");
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_network_ext_authz_ExtAuthz *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct nea_cfg *c = mz_arena_new0(a, struct nea_cfg);
    c->arena = a;
    c->allow = m->failure_mode_allow != 0;
    c->certificate = m->include_peer_certificate != 0;
    c->tls_session = m->include_tls_session != 0;
    c->scope =
        mz_scope_create(f->stats, &stats, mz_arena_printf(a, "ext_authz.%s.", m->stat_prefix));
    c->labels = authz_labels_of_node(f, m->bootstrap_metadata_labels_key, a);
    c->namespaces =
        mz_arena_alloc0(a, mz_mul(m->n_metadata_context_namespaces, sizeof(*c->namespaces)) + 1);
    for (size_t i = 0; i < m->n_metadata_context_namespaces; i++)
        c->namespaces[c->n_namespaces++] =
            mz_arena_dup(a, mz_str_c(m->metadata_context_namespaces[i]));
    if (service_build(c, m, err) && enabled_build(c, m, err))
        return c;
    config_destroy(c);
    return NULL;
}

/* ---- a connection ---- */

static void arena_free(void *arena)
{
    mz_arena_destroy(arena);
}

/* The answer may be in use until the end of the turn. */
static void call_over(struct nea *n)
{
    const struct nea_cfg *c = n->base.cfg;
    if (!n->arena)
        return;
    mz_gauge_add(c->scope, STAT_ACTIVE, -1);
    mz_loop_free_later(n->base.worker->loop, n->arena, arena_free);
    n->arena = NULL;
    n->call = NULL;
}

static void refuse(struct nea *n, const char *details)
{
    const struct nea_cfg *c = n->base.cfg;
    mz_count(c->scope, STAT_CX_CLOSED, 1);
    struct mz_stream_info *i = mz_downstream_info(n->base.down);
    i->details = details;
    mz_info_flag(i, MZ_FLAG(UNAUTHORIZED_EXTERNAL_SERVICE));
    mz_conn_close(n->base.down->conn, MZ_CLOSE_NOW, "ext_authz_close", 0);
}

/* What the service says of the connection, for later filters and logs; the answer itself goes. */
static void take_metadata(const struct nea *n, const struct authz_reply *r)
{
    static const struct mz_str ns = MZ_STR_INIT("envoy.filters.network.ext_authz");
    struct mz_stream_info *i = mz_downstream_info(n->base.down);
    if (!i->dynamic_metadata)
        i->dynamic_metadata = mz_meta_create(i->arena);
    for (size_t k = 0; r->metadata && k < r->metadata->fields.n; k++)
        mz_meta_set(i->dynamic_metadata, ns, mz_arena_dup(i->arena, r->metadata->fields.v[k].key),
                    mz_value_copy(r->metadata->fields.v[k].value, i->arena));
    if (r->verdict != AUTHZ_OK)
        return;
    struct mz_value *ms = mz_arena_new0(i->arena, struct mz_value);
    ms->kind = MZ_VALUE_NUMBER;
    ms->number = (double)((mz_loop_now_us(n->base.worker->loop) - n->asked_us) / 1000);
    mz_meta_set(i->dynamic_metadata, ns, MZ_STR("ext_authz_duration"), ms);
}

static void on_done(void *arg, const struct authz_reply *r)
{
    static const unsigned outcome[] = {
        [AUTHZ_OK] = STAT_OK, [AUTHZ_DENIED] = STAT_DENIED, [AUTHZ_ERROR] = STAT_ERROR
    };
    struct nea *n = arg;
    const struct nea_cfg *c = n->base.cfg;
    bool error = r->verdict == AUTHZ_ERROR;
    mz_count(c->scope, outcome[r->verdict], 1);
    if (r->metadata || r->verdict == AUTHZ_OK)
        take_metadata(n, r);
    call_over(n);
    if (error && c->allow)
        mz_count(c->scope, STAT_FAILURE_MODE_ALLOWED, 1);
    if (r->verdict == AUTHZ_DENIED || (error && !c->allow)) {
        refuse(n, error ? "ext_authz_error" : "ext_authz_denied");
        return;
    }
    n->allowed = true;
    mz_net_filter_continue(&n->base);
}

/* What earlier filters of the connection left. */
static const struct mz_meta *metadata_of(const struct mz_downstream *d)
{
    if (d->info)
        return d->info->dynamic_metadata;
    return d->found ? d->found->metadata : NULL;
}

static void ask(struct nea *n)
{
    const struct nea_cfg *c = n->base.cfg;
    const struct authz_peers peers = { .down = n->base.down,
                                       .certificate = c->certificate,
                                       .tls_session = c->tls_session,
                                       .destination = n->base.down->sni,
                                       .labels = &c->labels };
    const struct mz_meta *metadata = metadata_of(n->base.down);
    n->arena = mz_arena_create(MZ_MEM_STREAM);
    n->asked_us = mz_loop_now_us(n->base.worker->loop);
    pb_CheckRequest *m = mz_proto_new(n->arena, pb_CheckRequest);
    m->attributes = authz_attributes(&peers, n->arena);
    m->attributes->metadata_context =
        mz_proto_metadata_of(c->namespaces, c->n_namespaces, &metadata, 1, n->arena);
    const struct authz_ask a = { .request = m,
                                 .upstream = n->base.worker->upstream,
                                 .arena = n->arena };
    mz_count(c->scope, STAT_TOTAL, 1);
    mz_gauge_add(c->scope, STAT_ACTIVE, 1);
    n->call = authz_call(c->service, &a, on_done, n);
}

static enum mz_net_flow on_data(struct mz_net_filter *f, struct mz_buf *data, bool end)
{
    struct nea *n = (struct nea *)(void *)f;
    const struct nea_cfg *c = f->cfg;
    if (c->enabled && !n->arena && !n->allowed &&
        !mz_metadata_match(c->enabled, metadata_of(f->down))) {
        mz_count(c->scope, STAT_DISABLED, 1);
        return MZ_NET_CONTINUE;
    }
    if (n->allowed || (end && !mz_buf_len(data) && !n->arena)) /* an end alone asks for nothing */
        return MZ_NET_CONTINUE;
    if (!n->arena)
        ask(n);
    return MZ_NET_STOP;
}

static void give_up(struct nea *n)
{
    authz_cancel(n->call);
    call_over(n);
}

static void on_event(struct mz_net_filter *f, enum mz_conn_event ev)
{
    if (ev != MZ_CONN_CONNECTED)
        give_up((struct nea *)(void *)f);
}

static void destroy(struct mz_net_filter *f)
{
    give_up((struct nea *)(void *)f);
}

const struct mz_net_filter_type mz_net_filter_ext_authz = {
    .name = "envoy.filters.network.ext_authz",
    .config_type = "envoy.extensions.filters.network.ext_authz.v3.ExtAuthz",
    .size = sizeof(struct nea),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .on_data = on_data,
    .on_event = on_event,
    .destroy = destroy,
};
