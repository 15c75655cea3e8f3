/* Resources over gRPC: by ADS, or over a stream that all subscriptions of one type to one server share (of VHDS: of one table). */
#include "xds/mux_priv.h"

struct shared_mux { /* not of ADS */
    struct mz_xds_mux *mux;
    unsigned users;
    struct mz_str key; /* behind the struct */
    struct mz_xds *xds;
};
struct over_grpc {
    struct mz_xds_mux *mux;    /* NULL: ADS without an ads_config, so nothing ever comes */
    struct shared_mux *shared; /* NULL: it is ADS */
    struct mz_xds_watch *watch;
};

/* ---- streams ---- */

/* A bucket of 100, 10 more a second, where the settings do not say (Envoy). */
static bool rate_limit(const pb_RateLimitSettings *m, struct mz_xds_mux_opts *o, struct mz_err *err)
{
    if (!m)
        return true;
    o->max_tokens = mz_u32_or(m->max_tokens, 100);
    o->fill_rate = m->fill_rate ? m->fill_rate->value : 10;
    if (o->max_tokens < 1)
        return mz_err_set(err, "must be at least 1") || mz_err_at(err, "max_tokens");
    return true;
}

static bool is_delta(const pb_ApiConfigSource *m)
{
    return m->api_type == pb_ApiConfigSource_ApiType_DELTA_GRPC ||
           m->api_type == pb_ApiConfigSource_ApiType_AGGREGATED_DELTA_GRPC;
}

static struct mz_xds_mux *mux_make(struct mz_xds *x, const pb_ApiConfigSource *m, bool ads,
                                   enum mz_xds_type t, struct mz_str scope, struct mz_err *err)
{
    struct mz_xds_transport transport;
    struct mz_xds_mux_opts o = { .delta = is_delta(m),
                                 .ads = ads,
                                 .type = t,
                                 .node_once = m->set_node_on_first_message_only,
                                 .node = x->net.node,
                                 .scope = scope,
                                 .rand = mz_loop_rand(x->env.main) };
    if (m->api_type == pb_ApiConfigSource_ApiType_REST || /* of ads_config */
        m->api_type == pb_ApiConfigSource_ApiType_DEPRECATED_AND_UNAVAILABLE_DO_NOT_USE) {
        (void)(mz_err_set(err, "GRPC and DELTA_GRPC are supported") || mz_err_at(err, "api_type"));
        return NULL;
    }
    if (m->transport_api_version != pb_ApiVersion_V3) {
        (void)(mz_err_set(err, "V2 (and AUTO) xDS transport protocol versions are deprecated: V3 "
                               "is required") ||
               mz_err_at(err, "transport_api_version"));
        return NULL;
    }
    if (!ads && !(o.delta ? xds_types[t].delta_method : xds_types[t].stream_method)) {
        mz_err_set(err, "this type comes by ADS or from a file only");
        return NULL;
    }
    if (!rate_limit(m->rate_limit_settings, &o, err)) {
        mz_err_at(err, "rate_limit_settings");
        return NULL;
    }
    if (m->n_cluster_names || m->n_grpc_services != 1) {
        (void)(mz_err_set(err, "exactly one is required, and no cluster_names") ||
               mz_err_at(err, "grpc_services"));
        return NULL;
    }
    if (!x->net.grpc ||
        !x->net.grpc(x->net.arg, m->grpc_services[0], &transport, &o.destroy, err)) {
        mz_err_at(err, "grpc_services[0]");
        return NULL;
    }
    return mz_xds_mux_create(x, &o, &transport);
}

struct mz_xds_mux *ads_mux_make(struct mz_xds *x, const pb_ApiConfigSource *m, struct mz_err *err)
{
    return mux_make(x, m, true, MZ_XDS_CLUSTER, MZ_STR(""), err);
}

bool mz_xds_set_ads(struct mz_xds *x, const pb_ApiConfigSource *m, struct mz_err *err)
{
    x->ads = ads_mux_make(x, m, err);
    return x->ads != NULL;
}

bool mz_xds_is_delta(const struct mz_xds *x, const pb_ConfigSource *m)
{
    if (m->config_source_specifier_case == pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS)
        return x->ads && x->ads->opts.delta;
    return m->config_source_specifier_case ==
               pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE &&
           is_delta(m->api_config_source);
}

void mz_xds_halt(struct mz_xds *x)
{
    x->halted = true;
}

void mz_xds_go(struct mz_xds *x)
{
    x->going = true;
    if (x->ads)
        mz_xds_mux_start(x->ads);
    authorities_go(x);
    mz_map_foreach (it, &x->muxes)
        mz_xds_mux_start(((struct shared_mux *)it->value)->mux);
}

static struct shared_mux *shared_take(struct mz_subscription *s, const pb_ApiConfigSource *m,
                                      struct mz_str scope, struct mz_err *err)
{
    struct mz_xds *x = s->xds;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    char type = (char)('a' + (int)s->type);
    /* VHDS: each table asks for itself (as in Envoy). A server that told all to one stream does not tell it again when another
     * table asks there, and may tell of hosts before their table is known. */
    struct mz_str parts[] = { { &type, 1 },
                              mz_msg_pack_alloc(&m->base, a),
                              s->type == MZ_XDS_VIRTUAL_HOST ? s->name : MZ_STR("") };
    struct mz_str key = mz_arena_cat(a, MZ_COUNT(parts), parts);
    struct shared_mux *h = mz_map_get(&x->muxes, key);
    if (!h) {
        struct mz_xds_mux *mux = mux_make(x, m, false, s->type, scope, err);
        if (mux) {
            h = mz_alloc0(MZ_MEM_XDS, sizeof(*h) + key.n);
            h->mux = mux;
            h->xds = x;
            h->key = (struct mz_str){ (char *)(h + 1), key.n };
            memcpy(h + 1, key.p, key.n);
            (void)mz_map_put(&x->muxes, h->key, h);
        }
    }
    if (h)
        h->users++;
    mz_arena_destroy(a);
    return h;
}

static void shared_free(void *p)
{
    struct shared_mux *h = p;
    mz_xds_mux_destroy(h->mux);
    mz_free(MZ_MEM_XDS, h);
}

/* Perhaps from inside its own callback. */
static void shared_drop(struct shared_mux *h)
{
    if (!h || --h->users)
        return;
    (void)mz_map_del(&h->xds->muxes, h->key);
    mz_loop_free_later(h->xds->env.main, h, shared_free);
}

/* ---- the source of a subscription ---- */

static bool grpc_create(struct mz_subscription *s, const pb_ConfigSource *m, struct mz_err *err)
{
    struct over_grpc *g = mz_new0(MZ_MEM_XDS, struct over_grpc);
    s->state = g;
    if (s->authority) {
        g->mux = s->authority->mux;
        return true;
    }
    if (m->config_source_specifier_case == pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS) {
        g->mux = s->xds->ads;
        return true;
    }
    const pb_ApiConfigSource *api = m->api_config_source;
    bool aggregated = api->api_type == pb_ApiConfigSource_ApiType_AGGREGATED_GRPC ||
                      api->api_type == pb_ApiConfigSource_ApiType_AGGREGATED_DELTA_GRPC;
    if (aggregated && s->collection) { /* as in Envoy: another way to write ads */
        g->mux = s->xds->ads;
        return true;
    }
    if (aggregated)
        return mz_err_set(err, "aggregated sources are written as ads: {}") ||
               mz_err_at(err, "api_config_source.api_type");
    g->shared = shared_take(s, api, s->stat_prefix, err);
    if (!g->shared)
        return mz_err_at(err, "api_config_source");
    g->mux = g->shared->mux;
    return true;
}

/* A name of xDS-TP is the same in any order of its parameters: the subscriber sees it as it wrote it. */
static bool take_as_asked(struct mz_subscription *s, const struct mz_xds_update *u,
                          struct mz_err *err)
{
    struct mz_resource r;
    struct mz_xds_update own = *u;
    if (u->n == 1) {
        r = u->v[0];
        r.name = s->name;
        own.v = &r;
    }
    if (u->n_removed == 1)
        own.removed = &s->name;
    return subscription_take(s, &own, err);
}

static bool on_update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_subscription *s = arg;
    subscription_count(s, MZ_SUB_STAT_ATTEMPT);
    if (!s->collection && mz_xds_name_is(s->name) && s->type != MZ_XDS_VIRTUAL_HOST)
        return take_as_asked(s, u, err);
    return subscription_take(s, u, err);
}

static void on_disconnected(void *arg)
{
    struct mz_subscription *s = arg;
    subscription_count(s, MZ_SUB_STAT_FAILURE);
    subscription_count(s, MZ_SUB_STAT_ATTEMPT);
}

static void on_refused(void *arg)
{
    struct mz_subscription *s = arg;
    mz_count(s->scope, MZ_SUB_STAT_ATTEMPT, 1);
    subscription_refused(s, NULL);
}

static bool on_current(void *arg, struct mz_resource *out)
{
    struct mz_subscription *s = arg;
    return s->who.current && s->who.current(s->who.arg, out);
}

static const struct mz_xds_watch_ops watch_ops = { on_update, on_disconnected, on_refused,
                                                   on_current, false };

static struct mz_str canonical(const struct mz_subscription *s, struct mz_arena *a)
{
    struct mz_xds_name n;
    struct mz_err err; /* it was parsed before */
    return mz_xds_name_is(s->name) && s->type != MZ_XDS_VIRTUAL_HOST &&
                   mz_xds_name_parse(a, s->name, &n, &err)
               ? mz_xds_name_text(a, &n)
               : s->name;
}

static void grpc_start(struct mz_subscription *s)
{
    struct over_grpc *g = s->state;
    struct mz_resource r;
    struct mz_err err;
    subscription_count(s, MZ_SUB_STAT_ATTEMPT);
    if (!g->mux)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    g->watch = mz_xds_mux_watch(g->mux, s->type, canonical(s, a), &watch_ops, s);
    mz_arena_destroy(a);
    if (s->xds->going)
        mz_xds_mux_start(g->mux);
    /* The one that this replaces has it: nobody has to wait for the server. */
    if (!mz_xds_watch_known(g->watch, &r))
        return;
    const struct mz_xds_update u = { .version = r.version, .v = &r, .n = 1 };
    (void)subscription_take(s, &u, &err); /* the server is not asked: it gave this before */
}

static void grpc_destroy(struct mz_subscription *s)
{
    struct over_grpc *g = s->state;
    if (!g)
        return;
    mz_xds_watch_end(g->watch);
    shared_drop(g->shared);
    mz_free(MZ_MEM_XDS, g);
}

static bool silent_update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    (void)arg, (void)u, (void)err;
    return true;
}

static void silent_disconnected(void *arg)
{
    (void)arg;
}

struct mz_xds_watch *mz_subscription_ask(struct mz_subscription *s, struct mz_str name)
{
    static const struct mz_xds_watch_ops silent = { silent_update, silent_disconnected, NULL, NULL,
                                                    .single = true };
    struct over_grpc *g = s->state;
    return s->source == &source_grpc && g->mux
               ? mz_xds_mux_watch(g->mux, s->type, name, &silent, NULL)
               : NULL;
}

const struct source_ops source_grpc = { grpc_create, grpc_start, grpc_destroy };
