/* Which transport a host's connections have: transport_socket, transport_socket_matches (U8). */
#include "upstream/upstream_priv.h"
#include "xds/init.h"

#define NAMESPACE "envoy.transport_socket_match"

struct transport_match {
    const struct mz_value *labels; /* all of them a host must have */
    struct mz_transport_factory *factory;
    struct mz_scope *scope; /* cluster.<name>.<match>. */
};
static const struct mz_stat_def stat_defs[] = { { "total_match_count", MZ_COUNTER, MZ_UNIT_NONE,
                                                  0 } };
static const struct mz_stat_kind stats = { "transport_socket_match", stat_defs,
                                           MZ_COUNT(stat_defs) };

static struct mz_transport_factory *socket_build(const pb_TransportSocket *m, struct mz_cluster *c,
                                                 const struct mz_upstream_env *env,
                                                 struct mz_err *err)
{
    char prefix[1024];
    if (!m || !env->transport)
        return mz_transport_factory_raw();
    int n = snprintf(prefix, sizeof(prefix), "cluster." MZ_STR_FMT ".", MZ_STR_ARG(c->stat_name));
    const struct mz_str p = { prefix, (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1 };
    struct mz_init **init = &cluster_priv(c)->init;
    if (!*init) {
        *init = mz_new0(MZ_MEM_UPSTREAM, struct mz_init);
        mz_init_init(*init);
    }
    return env->transport(env->transport_arg, m, p, *init, err);
}

/* The first filter is the nearest to the socket. The error's path is within the cluster. */
static struct mz_transport_factory *build(const pb_TransportSocket *m, const pb_Cluster *cluster,
                                          struct mz_cluster *c, const struct mz_upstream_env *env,
                                          struct mz_err *err)
{
    struct mz_transport_factory *f = socket_build(m, c, env, err);
    if (!f)
        mz_err_at(err, "transport_socket");
    for (size_t i = 0; f && i < cluster->n_filters; i++) {
        f = env->filter(env->transport_arg, cluster->filters[i], f, err);
        if (!f)
            mz_err_at(err, "filters[%zu]", i);
    }
    return f;
}

static bool match_build(const pb_Cluster_TransportSocketMatch *m, const pb_Cluster *cluster,
                        struct mz_cluster *c, const struct mz_upstream_env *env, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    struct transport_match *to = &p->matches[p->n_matches];
    char prefix[1024];
    *to = (struct transport_match){ 0 };
    if (!c->arena)
        c->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    to->labels = m->match ? mz_value_build(m->match, c->arena) : NULL;
    to->factory = build(m->transport_socket, cluster, c, env, err);
    if (!to->factory)
        return false;
    int n = snprintf(prefix, sizeof(prefix), "cluster." MZ_STR_FMT ".%s.", MZ_STR_ARG(c->stat_name),
                     m->name);
    to->scope = mz_scope_create(
        env->stats, &stats,
        (struct mz_str){ prefix, (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1 });
    c->transport_uses |= to->factory->uses;
    p->n_matches++;
    return true;
}

static void init_drop(struct cluster_priv *p)
{
    if (p->init)
        mz_init_fini(p->init);
    mz_free(MZ_MEM_UPSTREAM, p->init);
    p->init = NULL;
}

static bool config(const pb_Cluster *m, struct mz_cluster *c, const struct mz_upstream_env *env,
                   struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    c->transport = build(m->transport_socket, m, c, env, err);
    if (!c->transport)
        return false;
    if (c->auto_protocol && !c->transport->secure)
        return mz_err_set(err, "the cluster's transport socket does not negotiate a protocol "
                               "(ALPN), which this needs") ||
               mz_err_at(err, "typed_extension_protocol_options[\"%s\"].auto_config",
                         "envoy.extensions.upstreams.http.v3.HttpProtocolOptions");
    c->transport_uses = c->transport->uses;
    if (!m->n_transport_socket_matches)
        return true;
    p->matches = cluster_keep(c, mz_mul(m->n_transport_socket_matches, sizeof(*p->matches)));
    for (size_t i = 0; i < m->n_transport_socket_matches; i++)
        if (!match_build(m->transport_socket_matches[i], m, c, env, err))
            return mz_err_at(err, "transport_socket_matches[%zu]", i);
    return true;
}

bool cluster_transport_config(const pb_Cluster *m, struct mz_cluster *c,
                              const struct mz_upstream_env *env, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    if (!config(m, c, env, err))
        return false;
    if (p->init && mz_list_empty(&p->init->targets)) /* no secret is awaited */
        init_drop(p);
    return true;
}

void cluster_transport_fini(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    mz_transport_factory_unref(c->transport);
    for (size_t i = 0; i < p->n_matches; i++) {
        mz_transport_factory_unref(p->matches[i].factory);
        mz_scope_unref(p->matches[i].scope);
    }
    init_drop(p);
}

static bool fits(const struct mz_value *labels, const struct mz_host *h)
{
    for (size_t i = 0; labels && i < labels->fields.n; i++) {
        const struct mz_field *f = &labels->fields.v[i];
        const struct mz_value *has = mz_meta_get(h->metadata, MZ_STR(NAMESPACE), &f->key, 1);
        if (!has || !mz_value_eq(has, f->value))
            return false;
    }
    return true;
}

void host_transport_set(struct mz_host *h)
{
    const struct cluster_priv *p = cluster_priv(h->cluster);
    if (!p->n_matches)
        return; /* cluster_members_count() counts it for the one transport there is */
    for (size_t i = 0; i < p->n_matches; i++)
        if (fits(p->matches[i].labels, h)) {
            h->transport = p->matches[i].factory;
            mz_count(p->matches[i].scope, 0, 1);
            return;
        }
    mz_count(h->cluster->circuit[MZ_PRIORITY_DEFAULT].scope, MZ_CM_TOTAL_MATCH_COUNT, 1);
}
