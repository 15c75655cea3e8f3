/* Clusters by subscription (CDS, X1): each resource by itself, so that a bad one leaves the good ones of its update alone. */
#include "base/clock.h"
#include "upstream/upstream_priv.h"
#include "xds/subscription.h"

enum { STAT_RELOAD, STAT_RELOAD_TIME, STAT__COUNT };
static const struct mz_stat_def stat_defs[] = {
    { "config_reload", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "config_reload_time_ms", MZ_GAUGE, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "cds", stat_defs, STAT__COUNT };

struct mz_cds {
    struct mz_cluster_manager *manager;
    struct mz_subscription *sub;
    struct mz_scope *scope;
    void (*first)(void *arg);
    void *arg;
    char *version;
};
struct tally {
    struct mz_cds *cds;
    unsigned set, same, removed, refused;
    struct mz_buf errors;
    struct mz_map named;
    struct mz_arena *arena;
    MZ_VEC(struct mz_str) gone;
};

static void note_gone(void *arg, const struct mz_cluster_shown *c)
{
    struct tally *t = arg;
    if (c->via_api && !mz_map_get(&t->named, c->name) &&
        !odcds_has(cluster_manager_odcds(t->cds->manager), c->name))
        *mz_vec_push(&t->gone, MZ_MEM_XDS) = mz_arena_dup(t->arena, c->name);
}

static void remove_gone(struct tally *t, const struct mz_xds_update *u)
{
    if (u->whole)
        mz_cluster_manager_show(t->cds->manager, note_gone, t);
    for (size_t i = 0; i < u->n_removed; i++)
        *mz_vec_push(&t->gone, MZ_MEM_XDS) = u->removed[i];
    for (size_t i = 0; i < t->gone.n; i++)
        t->removed += mz_cluster_manager_remove_dynamic(t->cds->manager, t->gone.v[i]);
}

enum mz_cluster_change cds_set(struct mz_cluster_manager *manager, const struct mz_resource *r,
                               struct mz_err *err)
{
    struct mz_xds *xds = cluster_manager_env(manager)->xds;
    if (mz_cluster_manager_keeps(manager, r->name, r->bytes))
        return MZ_CLUSTER_UNCHANGED;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    enum mz_cluster_change change = MZ_CLUSTER_REFUSED;
    ProtobufCMessage *m;
    if (mz_resource_open(xds, r, MZ_XDS_CLUSTER, &ctx, &m, err))
        change = mz_cluster_manager_set(manager, (const pb_Cluster *)m, r->bytes, r->version, err);
    mz_arena_destroy(ctx.arena);
    return change;
}

static void refused(struct tally *t, struct mz_str name, const struct mz_err *err)
{
    char why[1600];
    t->refused++;
    mz_buf_printf(&t->errors, MZ_STR_FMT ": %s\n", MZ_STR_ARG(name),
                  mz_err_text(err, why, sizeof(why)));
}

static void set_all(struct tally *t, const struct mz_xds_update *u)
{
    for (size_t i = 0; i < u->n; i++) {
        struct mz_err err;
        if (mz_map_put(&t->named, u->v[i].name, t)) {
            mz_err_set(&err, "duplicate cluster " MZ_STR_FMT " found", MZ_STR_ARG(u->v[i].name));
            refused(t, u->v[i].name, &err);
            continue;
        }
        enum mz_cluster_change c = cds_set(t->cds->manager, &u->v[i], &err);
        t->set += c == MZ_CLUSTER_CHANGED;
        t->same += c == MZ_CLUSTER_UNCHANGED;
        if (c == MZ_CLUSTER_REFUSED)
            refused(t, u->v[i].name, &err);
    }
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_cds *c = arg;
    struct tally t = { .cds = c, .arena = mz_arena_create(MZ_MEM_XDS) };
    mz_buf_init(&t.errors);
    mz_map_init(&t.named, MZ_MEM_XDS);
    MZ_LOG(DEBUG, upstream, "cds: %zu clusters, %zu removed", u->n, u->n_removed);
    set_all(&t, u);
    remove_gone(&t, u);
    MZ_LOG(INFO, upstream,
           "cds: added/updated %u cluster(s) (skipped %u unmodified cluster(s)); removed %u "
           "cluster(s)",
           t.set, t.same, t.removed);
    if (t.refused) {
        struct mz_str all = mz_buf_linearize(&t.errors, mz_buf_len(&t.errors));
        mz_err_set(err, "Error adding/updating cluster(s) " MZ_STR_FMT, MZ_STR_ARG(all));
    } else {
        mz_free(MZ_MEM_XDS, c->version);
        c->version = mz_strndup(MZ_MEM_XDS, u->version.n ? u->version.p : "", u->version.n);
    }
    if (t.set && !t.refused) { /* what went alone is no reload (Envoy) */
        mz_count(c->scope, STAT_RELOAD, 1);
        mz_gauge_set(c->scope, STAT_RELOAD_TIME, mz_clock->wall_us() / 1000);
    }
    mz_buf_fini(&t.errors);
    mz_map_fini(&t.named);
    mz_vec_free(&t.gone, MZ_MEM_XDS);
    mz_arena_destroy(t.arena);
    return t.refused == 0;
}

static void first(void *arg)
{
    struct mz_cds *c = arg;
    c->first(c->arg);
}

struct mz_cds *mz_cds_create(struct mz_cluster_manager *m, const pb_ConfigSource *source,
                             const char *locator, void (*done)(void *arg), void *arg,
                             struct mz_err *err)
{
    const struct mz_upstream_env *env = cluster_manager_env(m);
    struct mz_cds *c = mz_new0(MZ_MEM_XDS, struct mz_cds);
    const struct mz_subscriber who = { update, first, c, NULL, NULL };
    struct mz_str prefix = MZ_STR("cluster_manager.cds.");
    *c = (struct mz_cds){ .manager = m, .first = done, .arg = arg };
    c->sub = mz_subscribe_all(env->xds, source, locator, MZ_XDS_CLUSTER, prefix, &who, err);
    if (!c->sub) {
        mz_free(MZ_MEM_XDS, c);
        return NULL;
    }
    c->scope = mz_scope_create(env->stats, &stat_kind, prefix);
    return c;
}

void mz_cds_start(struct mz_cds *c)
{
    mz_subscription_start(c->sub);
}

void mz_cds_destroy(struct mz_cds *c)
{
    if (!c)
        return;
    mz_subscription_end(c->sub);
    mz_scope_unref(c->scope);
    mz_free(MZ_MEM_XDS, c->version);
    mz_free(MZ_MEM_XDS, c);
}

struct mz_str mz_cds_version(const struct mz_cds *c)
{
    return mz_str_c(c->version);
}
