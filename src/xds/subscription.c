/* Subscriptions: what all kinds of sources have in common. */
#include "base/clock.h"
#include "xds/mux.h"
#include "xds/xds_priv.h"

#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
static const struct mz_stat_def stat_defs[] = { MZ_SUBSCRIPTION_STATS(X) };
#undef X
const struct mz_stat_kind mz_subscription_stats = { "subscription", stat_defs, MZ_SUB_STAT__COUNT };

struct mz_xds *mz_xds_create(const struct mz_xds_env *env)
{
    struct mz_xds *x = mz_new0(MZ_MEM_XDS, struct mz_xds);
    x->env = *env;
    x->watches = mz_file_watches_create(env->main);
    mz_map_init(&x->muxes, MZ_MEM_XDS);
    x->arena = mz_arena_create(MZ_MEM_XDS);
    return x;
}

void mz_xds_destroy(struct mz_xds *x)
{
    if (!x)
        return;
    mz_xds_mux_destroy(x->ads);
    authorities_destroy(x);
    mz_arena_destroy(x->arena);
    MZ_ASSERT(!x->muxes.n);
    mz_map_fini(&x->muxes);
    version_text_unref(x->last_version);
    mz_free(MZ_MEM_XDS, (void *)(uintptr_t)x->net.node.p);
    mz_file_watches_destroy(x->watches);
    mz_free(MZ_MEM_XDS, x);
}

void mz_xds_set_net(struct mz_xds *x, const struct mz_xds_net *n)
{
    mz_free(MZ_MEM_XDS, (void *)(uintptr_t)x->net.node.p);
    x->net = *n;
    x->net.node.p = mz_strndup(MZ_MEM_XDS, n->node.n ? n->node.p : "", n->node.n);
}

const struct mz_xds_env *mz_xds_env(const struct mz_xds *x)
{
    return &x->env;
}

uint64_t mz_xds_unknown_fields(const struct mz_xds *x)
{
    return x->unknown_fields;
}

/* ---- a subscription ---- */

static void tell_failed(struct mz_subscription *s)
{
    if (s->who.failed && !s->ended)
        s->who.failed(s->who.arg);
}

static void on_first_timeout(struct mz_timer *t)
{
    struct mz_subscription *s = MZ_CONTAINER(t, struct mz_subscription, first_timer);
    subscription_count(s, MZ_SUB_STAT_INIT_FETCH_TIMEOUT);
    MZ_LOG(WARN, config, "%s: initial fetch timed out for '" MZ_STR_FMT "'",
           xds_types[s->type].short_name, MZ_STR_ARG(s->name));
    tell_failed(s);
    subscription_first(s);
}

static const struct source_ops *source_of(const pb_ConfigSource *m, struct mz_err *err)
{
    switch (m->config_source_specifier_case) {
    case pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_PATH:
    case pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_PATH_CONFIG_SOURCE:
        return &source_file;
    case pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE:
        return m->api_config_source->api_type == pb_ApiConfigSource_ApiType_REST ? &source_rest
                                                                                 : &source_grpc;
    case pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS:
        return &source_grpc;
    default:
        mz_err_set(err, "one of path_config_source, api_config_source, ads is required");
        return NULL;
    }
}

bool source_first_ms(const pb_ConfigSource *m, uint64_t *out, struct mz_err *err)
{
    if (!mz_duration_ms(m->initial_fetch_timeout, INITIAL_FETCH_TIMEOUT_MS, out, err))
        return mz_err_at(err, "initial_fetch_timeout");
    return m->resource_api_version == pb_ApiVersion_V3 ||
           mz_err_set(err, "V2 (and AUTO) xDS transport protocol versions are deprecated: V3 "
                           "is required") ||
           mz_err_at(err, "resource_api_version");
}

struct wanted {
    const struct source_ops *ops;
    const pb_ConfigSource *source; /* NULL: the authority's */
    const struct xds_authority *authority;
    enum mz_xds_type type;
    struct mz_str name;
    bool collection;
    uint64_t first_ms;
};

static struct mz_subscription *make(struct mz_xds *x, const struct wanted *w,
                                    struct mz_str stat_prefix, const struct mz_subscriber *who,
                                    struct mz_err *err)
{
    struct mz_subscription *s = mz_alloc0(MZ_MEM_XDS, sizeof(*s) + w->name.n);
    s->xds = x;
    s->type = w->type;
    s->name = (struct mz_str){ (char *)(s + 1), w->name.n };
    if (w->name.n)
        memcpy(s + 1, w->name.p, w->name.n);
    s->collection = w->collection;
    s->authority = w->authority;
    s->who = *who;
    s->source = w->ops;
    s->stat_prefix = stat_prefix;
    s->first_ms = w->first_ms;
    mz_timer_init(x->env.main, &s->first_timer, on_first_timeout);
    if (!w->ops->create(s, w->source, err)) {
        mz_subscription_end(s);
        return NULL;
    }
    s->scope = mz_scope_create(x->env.stats, &mz_subscription_stats, stat_prefix);
    return s;
}

struct mz_subscription *mz_subscribe(struct mz_xds *x, const pb_ConfigSource *m,
                                     enum mz_xds_type type, struct mz_str name,
                                     struct mz_str stat_prefix, const struct mz_subscriber *who,
                                     struct mz_err *err)
{
    static const pb_ConfigSource none = pb_ConfigSource__INIT;
    struct wanted w = { .type = type, .name = name, .source = m };
    if (!authority_of(x, m, name, &w.authority, err))
        return NULL;
    if (w.authority) {
        w.ops = &source_grpc;
        w.first_ms = w.authority->first_ms;
        return make(x, &w, stat_prefix, who, err);
    }
    w.ops = source_of(m ? m : &none, err);
    return w.ops && source_first_ms(m, &w.first_ms, err) ? make(x, &w, stat_prefix, who, err)
                                                         : NULL;
}

/* ---- collections ---- */

static struct mz_subscription *of_file(struct mz_xds *x, const struct mz_xds_url *u,
                                       struct wanted *w, struct mz_str stat_prefix,
                                       const struct mz_subscriber *who, struct mz_err *err)
{
    if (!xds_types[w->type]
             .collection) { /* nor has an Envoy: its ClusterCollection holds one entry */
        mz_err_set(err, "there are no collections of %s in files",
                   xds_types[w->type].descriptor->name);
        return NULL;
    }
    pb_PathConfigSource path = pb_PathConfigSource__INIT;
    pb_ConfigSource source = pb_ConfigSource__INIT;
    path.path = (char *)(uintptr_t)u->file.p;
    source.config_source_specifier_case =
        pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_PATH_CONFIG_SOURCE;
    source.path_config_source = &path;
    w->ops = &source_file;
    w->source = &source;
    return make(x, w, stat_prefix, who, err);
}

static bool type_fits(const struct mz_xds_name *n, enum mz_xds_type type, struct mz_str text,
                      struct mz_err *err)
{
    const char *wanted = xds_types[type].descriptor->name;
    return mz_str_eq(n->type, mz_str_c(wanted)) ||
           mz_err_set(err, "xdstp:// type does not match %s in " MZ_STR_FMT, wanted,
                      MZ_STR_ARG(text));
}

static bool serves_collections(const pb_ConfigSource *m, struct mz_err *err)
{
    static const char text[] =
        "a collection comes by ads: {}, or by a source that is DELTA_GRPC or aggregated";
    if (m && m->config_source_specifier_case == pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_ADS)
        return true;
    if (!m || m->config_source_specifier_case !=
                  pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE)
        return mz_err_set(err, text);
    pb_ApiConfigSource_ApiType t = m->api_config_source->api_type;
    return t == pb_ApiConfigSource_ApiType_DELTA_GRPC ||
           t == pb_ApiConfigSource_ApiType_AGGREGATED_GRPC ||
           t == pb_ApiConfigSource_ApiType_AGGREGATED_DELTA_GRPC || mz_err_set(err, text) ||
           mz_err_at(err, "api_config_source.api_type");
}

static struct mz_subscription *collection(struct mz_xds *x, const pb_ConfigSource *m,
                                          const char *locator, struct mz_arena *a, struct wanted *w,
                                          struct mz_str stat_prefix,
                                          const struct mz_subscriber *who, struct mz_err *err)
{
    struct mz_xds_url u;
    w->collection = true;
    if (!mz_xds_url_parse(a, mz_str_c(locator), &u, err))
        return NULL;
    if (m && !source_first_ms(m, &w->first_ms, err))
        return NULL;
    if (u.file.n)
        return of_file(x, &u, w, stat_prefix, who, err);
    if (!type_fits(&u.name, w->type, mz_str_c(locator), err) || !serves_collections(m, err))
        return NULL;
    mz_xds_name_complete(a, &u.name, &x->context);
    w->name = mz_xds_name_text(a, &u.name);
    w->ops = &source_grpc;
    w->source = m;
    return make(x, w, stat_prefix, who, err);
}

struct mz_subscription *mz_subscribe_all(struct mz_xds *x, const pb_ConfigSource *m,
                                         const char *locator, enum mz_xds_type type,
                                         struct mz_str stat_prefix, const struct mz_subscriber *who,
                                         struct mz_err *err)
{
    struct wanted w = { .type = type };
    if (!locator || !locator[0])
        return mz_subscribe(x, m, type, MZ_STR(""), stat_prefix, who, err);
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_subscription *s = collection(x, m, locator, a, &w, stat_prefix, who, err);
    mz_arena_destroy(a);
    return s;
}

void mz_subscription_start(struct mz_subscription *s)
{
    if (s->xds->env.validate)
        return;
    if (s->first_ms && !s->first_done)
        mz_timer_start_ms(&s->first_timer, s->first_ms);
    s->busy++;
    s->source->start(s);
    s->busy--;
    if (s->ended && !s->busy)
        mz_subscription_end(s);
}

void mz_subscription_end(struct mz_subscription *s)
{
    if (!s)
        return;
    mz_timer_stop(&s->first_timer);
    s->ended = true;
    if (s->busy)
        return; /* the outermost callback's return ends it */
    s->source->destroy(s);
    mz_scope_unref(s->scope);
    subscription_counts_fini(&s->counts);
    mz_free(MZ_MEM_XDS, s);
}

struct mz_scope *mz_subscription_scope(const struct mz_subscription *s)
{
    return s->scope;
}

void subscription_first(struct mz_subscription *s)
{
    if (s->first_done || s->ended)
        return;
    s->first_done = true;
    mz_timer_stop(&s->first_timer);
    if (s->who.first)
        s->who.first(s->who.arg);
}

static void warn(const struct mz_subscription *s, const char *what, const struct mz_err *err)
{
    char text[1600];
    MZ_LOG(WARN, config, "%s%s" MZ_STR_FMT ": %s: %s", xds_types[s->type].short_name,
           s->name.n ? " " : "", MZ_STR_ARG(s->name), what, mz_err_text(err, text, sizeof(text)));
}

void subscription_enter(struct mz_subscription *s)
{
    s->busy++;
}

/* Every way out of a callback: the subscriber may have ended the subscription inside. */
void subscription_leave(struct mz_subscription *s)
{
    if (--s->busy == 0 && s->ended)
        mz_subscription_end(s);
}

bool subscription_take(struct mz_subscription *s, const struct mz_xds_update *u, struct mz_err *err)
{
    uint64_t began = mz_clock->mono_us();
    s->busy++;
    bool ok = s->who.update(s->who.arg, u, err);
    if (ok && !s->ended)
        subscription_count_success(s, u->version, mz_clock->wall_us() / 1000,
                                   (mz_clock->mono_us() - began) / 1000);
    else if (!ok && !s->ended) {
        subscription_count(s, MZ_SUB_STAT_REJECTED);
        warn(s, "update refused", err);
        tell_failed(s);
    }
    subscription_first(s);
    subscription_leave(s);
    return ok;
}

void subscription_refused(struct mz_subscription *s, const struct mz_err *err)
{
    s->busy++;
    subscription_count(s, MZ_SUB_STAT_REJECTED);
    if (err)
        warn(s, "update refused", err);
    tell_failed(s);
    subscription_first(s);
    subscription_leave(s);
}

void subscription_failed(struct mz_subscription *s, const struct mz_err *err)
{
    s->busy++;
    subscription_count(s, MZ_SUB_STAT_FAILURE);
    warn(s, "update failed", err);
    if (s->source == &source_file) /* a server may be away for a while */
        tell_failed(s);
    subscription_first(s);
    subscription_leave(s);
}
