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
    struct mz_init **init = &cluster_priv(c)->entry->init;
    if (!*init) {
        *init = mz_new0(MZ_MEM_UPSTREAM, struct mz_init);
        mz_init_init(*init);
    }
    return env->transport(env->transport_arg, m, p, *init, err);
}

/* The first filter is the nearest to the socket. The error's path is within the cluster. */
static struct mz_transport_factory *factory_build(const pb_TransportSocket *m,
                                                  const pb_Cluster *cluster, struct mz_cluster *c,
                                                  const struct mz_upstream_env *env,
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

/* Number @i of the cluster's: what was kept of it, where its object is made anew. */
static struct mz_transport_factory *build(const pb_TransportSocket *m, const pb_Cluster *cluster,
                                          size_t i, struct mz_cluster *c,
                                          const struct mz_upstream_env *env, struct mz_err *err)
{
    const struct cluster_entry *e = cluster_priv(c)->entry;
    return e->transports ? mz_transport_factory_ref(e->transports[i])
                         : factory_build(m, cluster, c, env, err);
}

static struct mz_scope *match_scope(struct mz_stats *st, struct mz_str cluster, const char *match)
{
    char text[1100];
    int n = snprintf(text, sizeof(text), MZ_STR_FMT "%s.", MZ_STR_ARG(cluster), match);
    return mz_scope_create(
        st, &stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
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
    to->factory = build(m->transport_socket, cluster, 1 + p->n_matches, c, env, err);
    if (!to->factory)
        return false;
    to->scope =
        match_scope(env->stats, cluster_prefix(c->stat_name, prefix, sizeof(prefix)), m->name);
    c->transport_uses |= to->factory->uses;
    p->n_matches++;
    return true;
}

static void init_drop(struct cluster_entry *e)
{
    if (e->init)
        mz_init_fini(e->init);
    mz_free(MZ_MEM_UPSTREAM, e->init);
    e->init = NULL;
}

static bool config(const pb_Cluster *m, struct mz_cluster *c, const struct mz_upstream_env *env,
                   struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    c->transport = build(m->transport_socket, m, 0, c, env, err);
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
    struct cluster_entry *e = cluster_priv(c)->entry;
    if (!config(m, c, env, err))
        return false;
    if (!e->transports && e->init && mz_list_empty(&e->init->targets)) /* no secret is awaited */
        init_drop(e);
    return true;
}

void cluster_transport_keep(const struct mz_cluster *c)
{
    const struct cluster_priv *p = cluster_priv(c);
    struct cluster_entry *e = p->entry;
    struct mz_transport_factory *raw = mz_transport_factory_raw();
    bool plain = !p->n_matches && c->transport == raw;
    mz_transport_factory_unref(raw);
    if (plain)
        return; /* there is but one such */
    e->transports = mz_newn0(MZ_MEM_UPSTREAM, struct mz_transport_factory *, 1 + p->n_matches);
    e->n_transports = (uint32_t)(1 + p->n_matches);
    e->transports[0] = mz_transport_factory_ref(c->transport);
    for (size_t i = 0; i < p->n_matches; i++)
        e->transports[1 + i] = mz_transport_factory_ref(p->matches[i].factory);
}

void cluster_transport_stop(struct cluster_entry *e)
{
    init_drop(e);
}

void cluster_transport_drop(struct cluster_entry *e)
{
    for (uint32_t i = 0; i < e->n_transports; i++)
        mz_transport_factory_unref(e->transports[i]);
    mz_free(MZ_MEM_UPSTREAM, e->transports);
}

void cluster_transport_show(const struct cluster_entry *e, const pb_Cluster *m, struct mz_stats *st,
                            struct mz_str prefix, void (*hold)(void *arg, struct mz_scope *take),
                            void *arg)
{
    for (size_t i = 0; e->n_transports > 1 && i < m->n_transport_socket_matches; i++)
        hold(arg, match_scope(st, prefix, m->transport_socket_matches[i]->name));
}

void cluster_transport_fini(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    mz_transport_factory_unref(c->transport);
    for (size_t i = 0; i < p->n_matches; i++) {
        mz_transport_factory_unref(p->matches[i].factory);
        mz_scope_unref(p->matches[i].scope);
    }
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

int cluster_transport_index(const struct mz_cluster *c, const struct mz_transport_factory *f)
{
    const struct cluster_priv *p = cluster_priv(c);
    for (size_t i = 0; i < p->n_matches; i++)
        if (p->matches[i].factory == f)
            return (int)i;
    return -1;
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
