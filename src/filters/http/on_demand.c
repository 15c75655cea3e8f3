#include "filters/http/http_filters.h"

#include "proto/mapper.h"
#include "upstream/on_demand.h"

/*
 * on_demand: a request whose cluster, virtual host or scope's table is not there waits until the control plane was asked for it
 * (ODCDS, VHDS, SRDS; X1), and goes on from here: the filters before this one have run without it (as in Envoy).
 */
#define TIMEOUT_MS 5000

struct on_demand_cfg {
    struct mz_odcds *source; /* NULL: clusters are not asked for */
    uint64_t timeout_ms;
};
struct state {
    struct mz_filter base;
    struct mz_discovery_wait wait;
    struct mz_str cluster; /* that is waited for */
    bool asked_again;      /* for routes */
};

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static bool odcds_build(const pb_OnDemandCds *m, const struct mz_factory *f,
                        struct on_demand_cfg *c, struct mz_err *err)
{
    if (!mz_duration_ms(m->timeout, TIMEOUT_MS, &c->timeout_ms, err))
        return mz_err_at(err, "timeout");
    c->source = mz_odcds_get(f->clusters, m->source, err);
    return c->source || mz_err_at(err, "source");
}

static void *build(const pb_OnDemandCds *m, const struct mz_factory *f, struct mz_err *err)
{
    struct on_demand_cfg *c = mz_new0(MZ_MEM_CONFIG, struct on_demand_cfg);
    if (!m || odcds_build(m, f, c, err))
        return c;
    mz_err_at(err, "odcds");
    config_destroy(c);
    return NULL;
}

static void *config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    return build(((const pb_OnDemand *)msg)->odcds, f, err);
}

static void *route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    return build(((const pb_on_demand_PerRouteConfig *)msg)->odcds, f, err);
}

/* ---- a stream ---- */

static void discovered(struct mz_discovery_wait *w, enum mz_discovery how)
{
    struct state *st = MZ_CONTAINER(w, struct state, wait);
    static const char *const words[] = { [MZ_DISCOVERY_AVAILABLE] = "it is there",
                                         [MZ_DISCOVERY_MISSING] = "it does not exist",
                                         [MZ_DISCOVERY_TIMEOUT] = "none in time" };
    mz_stream_story(st->base.stream, MZ_STEP_DISCOVERED, st->cluster, mz_str_c(words[how]), 0, 0);
    mz_stream_clear_route_cache(st->base.stream); /* with it the cluster is looked for again */
    mz_filter_continue_request(&st->base);
}

/* The request's route names a cluster that is not there: it is waited for. */
static bool wait_for_cluster(struct state *st)
{
    struct mz_filter *f = &st->base;
    const struct mz_route *route = mz_stream_route(f->stream);
    const struct on_demand_cfg *c = f->route_cfg ? f->route_cfg : f->cfg;
    const struct mz_weighted_cluster *weighted;
    struct mz_str name;
    if (!c->source || !route || route->action != MZ_ACTION_CLUSTER ||
        mz_stream_cluster(f->stream, &name, &weighted) || !name.n)
        return false;
    st->cluster = mz_arena_dup(mz_stream_arena(f->stream), name);
    mz_stream_story(f->stream, MZ_STEP_DISCOVER, st->cluster, MZ_STR(""), 0, 0);
    mz_discover(mz_stream_worker(f->stream)->upstream, c->source, st->cluster, c->timeout_ms,
                &st->wait, discovered);
    return true;
}

static void routes_discovered(struct mz_discovery_wait *w, enum mz_discovery how)
{
    struct state *st = MZ_CONTAINER(w, struct state, wait);
    struct mz_stream *s = st->base.stream;
    if (mz_stream_response_headers(s)) /* it was answered meanwhile: a timeout */
        return;
    mz_stream_renew_routes(s);
    /* With the table of a scope there may be virtual hosts to be asked for. */
    if (how == MZ_DISCOVERY_AVAILABLE && !st->asked_again && !mz_stream_route(s)) {
        st->asked_again = true;
        if (mz_stream_demand_routes(s, w, routes_discovered))
            return;
    }
    if (!wait_for_cluster(st))
        mz_filter_continue_request(&st->base);
}

static enum mz_flow on_request_headers(struct mz_filter *f, struct mz_headers *h, bool end)
{
    (void)h, (void)end;
    struct state *st = (struct state *)(void *)f;
    bool waits = mz_stream_route(f->stream)
                     ? wait_for_cluster(st)
                     : mz_stream_demand_routes(f->stream, &st->wait, routes_discovered);
    return waits ? MZ_FLOW_STOP_AND_WATERMARK : MZ_FLOW_CONTINUE;
}

static void on_destroy(struct mz_filter *f)
{
    mz_discover_cancel(&((struct state *)(void *)f)->wait);
}

const struct mz_http_filter_type mz_filter_on_demand = {
    .name = "envoy.filters.http.on_demand",
    .config_type = "envoy.extensions.filters.http.on_demand.v3.OnDemand",
    .route_config_type = "envoy.extensions.filters.http.on_demand.v3.PerRouteConfig",
    .size = sizeof(struct state),
    .config_build = config_build,
    .config_destroy = config_destroy,
    .route_config_build = route_config_build,
    .route_config_destroy = config_destroy,
    .on_request_headers = on_request_headers,
    .on_destroy = on_destroy,
};
