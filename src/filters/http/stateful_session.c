#include "filters/http/http_filters.h"
#include "filters/http/session_state.h"
#include "proto/mapper.h"
#include "stats/stats.h"

/* stateful_session: a client stays with the host that served it first, which it names in a cookie or a header (H9, U2). */

enum { ROUTED, FAILED_OPEN, FAILED_CLOSED, NO_SESSION };
static const struct mz_stat_def stat_defs[] = {
    [ROUTED] = { "routed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAILED_OPEN] = { "failed_open", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [FAILED_CLOSED] = { "failed_closed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [NO_SESSION] = { "no_session", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "stateful_session", stat_defs, MZ_COUNT(stat_defs) };

struct session_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope; /* NULL: nothing is counted */
    struct session_state state;
    bool strict, disabled;
};
struct state {
    struct mz_filter base;
    const struct session_cfg *cfg; /* that which counts for this request; NULL: none does */
    bool bound;                    /* the request takes part */
    struct mz_str host;            /* that it names; "" none */
};

/* ---- configuration ---- */

static void config_destroy(void *cfg)
{
    struct session_cfg *c = cfg;
    if (c->scope)
        mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static bool state_build(const pb_TypedExtensionConfig *m, const struct mz_factory *f,
                        struct session_cfg *c, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!m)
        return true;
    return (mz_any_unpack(f->proto, m->typed_config, &type, &msg, err) &&
            session_state_build(type, msg, c->arena, &c->state, err)) ||
           mz_err_at(err, "typed_config");
}

static struct session_cfg *build(const pb_StatefulSession *m, const struct mz_factory *f,
                                 struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct session_cfg *c = mz_arena_new0(a, struct session_cfg);
    c->arena = a;
    c->disabled = m == NULL;
    c->strict = m && m->strict;
    if (!m || state_build(m->session_state, f, c, err))
        return c;
    mz_err_at(err, "session_state");
    config_destroy(c);
    return NULL;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_StatefulSession *m = msg;
    struct session_cfg *c = build(m, f, err);
    if (c && m->stat_prefix[0])
        c->scope = mz_scope_create(
            f->stats, &stat_kind,
            mz_arena_cat(c->arena, 5,
                         (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix,
                                            MZ_STR(".stateful_session."), mz_str_c(m->stat_prefix),
                                            MZ_STR(".") }));
    return c;
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_StatefulSessionPerRoute *m = msg;
    bool own = m->override_case == pb_StatefulSessionPerRoute_OVERRIDE_STATEFUL_SESSION;
    if (own && m->stateful_session->stat_prefix[0]) {
        (void)mz_err_set(err, "counts nothing per route");
        (void)mz_err_at(err, "stateful_session.stat_prefix");
        return NULL;
    }
    struct session_cfg *c = build(own ? m->stateful_session : NULL, f, err);
    if (!c)
        (void)mz_err_at(err, "stateful_session");
    return c;
}

/* ---- at work ---- */

static uint64_t now_s(const struct state *st)
{
    return mz_loop_wall_us(mz_stream_worker(st->base.stream)->loop) / 1000000;
}

static void count(const struct state *st, unsigned stat)
{
    if (st->cfg->scope)
        mz_count(st->cfg->scope, stat, 1);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct session_cfg *c = f->route_cfg ? f->route_cfg : f->cfg;
    if (c->disabled)
        return MZ_FLOW_CONTINUE;
    st->cfg = c;
    st->bound = session_applies(&c->state, mz_headers_path(h));
    if (st->bound)
        st->host = session_host(&c->state, h, now_s(st), mz_stream_arena(f->stream));
    if (st->host.n)
        mz_stream_wish_host(f->stream, st->host, c->strict);
    return MZ_FLOW_CONTINUE;
}

static enum mz_flow on_response_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)end;
    struct state *st = (struct state *)(void *)f;
    const struct mz_stream_info *info = mz_stream_info(f->stream);
    if (!st->cfg)
        return MZ_FLOW_CONTINUE;
    if (!info->up.host.len) { /* no host was had */
        if (st->bound && st->cfg->strict && (info->flags & MZ_FLAG(NO_HEALTHY_UPSTREAM)))
            count(st, FAILED_CLOSED);
        return MZ_FLOW_CONTINUE;
    }
    if (!st->bound) {
        count(st, NO_SESSION);
        return MZ_FLOW_CONTINUE;
    }
    char text[MZ_ADDR_TEXT];
    struct mz_str host = { text, mz_addr_text(&info->up.host, text) };
    if (mz_str_eq(host, st->host)) {
        count(st, ROUTED);
        return MZ_FLOW_CONTINUE;
    }
    session_bind(&st->cfg->state, h, host, now_s(st), mz_stream_arena(f->stream));
    if (!st->cfg->strict)
        count(st, FAILED_OPEN);
    return MZ_FLOW_CONTINUE;
}

const struct mz_http_filter_type mz_filter_stateful_session = {
    .name = "envoy.filters.http.stateful_session",
    .config_type = "envoy.extensions.filters.http.stateful_session.v3.StatefulSession",
    .route_config_type =
        "envoy.extensions.filters.http.stateful_session.v3.StatefulSessionPerRoute",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_response_headers = on_response_headers,
};
