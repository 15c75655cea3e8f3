#include "route/route_priv.h"
#include "stats/stats.h"

/* ---- per-filter configuration ---- */

struct override_cleanup {
    const struct mz_route_filter_ops *ops;
    const struct mz_http_filter_type *type;
    void *cfg;
};

static void override_free(void *arg)
{
    struct override_cleanup *c = arg;
    c->ops->destroy(c->type, c->cfg);
}

static bool override_config_build(struct builder *b, const pb_Any *any, bool optional,
                                  struct mz_filter_override *out)
{
    const struct mz_factory *f = b->env->factory;
    struct mz_str name = mz_any_type(any);
    out->type = f->http_filter(name);
    if (!out->type)
        return optional ||
               mz_err_set(b->err,
                          "no filter has a per-route configuration of type '" MZ_STR_FMT "'",
                          MZ_STR_ARG(name));
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!mz_any_unpack(f->proto, any, &type, &msg, b->err))
        return false;
    const char *expected = b->env->filter_ops->message(out->type);
    if (!mz_str_eq(mz_str_c(type->name), mz_str_c(expected)))
        return mz_err_set(b->err, "is a %s; per route this filter takes a %s", type->name,
                          expected);
    out->cfg = b->env->filter_ops->build(out->type, msg, f, b->err);
    if (!out->cfg)
        return false;
    struct override_cleanup *c = build_new0(b, struct override_cleanup);
    *c = (struct override_cleanup){ b->env->filter_ops, out->type, out->cfg };
    mz_arena_cleanup(b->a, override_free, c);
    return true;
}

static bool override_build(struct builder *b, const struct pb_override *m,
                           struct mz_filter_override *out)
{
    out->name = build_str(b, m->key);
    out->enabled = true;
    if (!m->value ||
        !mz_str_eq(mz_any_type(m->value), MZ_STR("envoy.config.route.v3.FilterConfig")))
        return m->value ? override_config_build(b, m->value, false, out)
                        : mz_err_set(b->err, "must not be empty");
    ProtobufCMessage *msg;
    if (!mz_any_unpack_as(b->env->factory->proto, m->value, &pb_FilterConfig__descriptor, &msg,
                          b->err))
        return false;
    const pb_FilterConfig *cfg = (const pb_FilterConfig *)msg;
    out->disabled = cfg->disabled;
    out->enabled = !cfg->disabled;
    if (!cfg->config || !cfg->config->type_url[0]) {
        bool says_something = cfg->disabled || cfg->is_optional ||
                              cfg->config; /* {}: on, with its own configuration */
        return says_something ||
               mz_err_set(b->err, "config is required unless disabled or is_optional is true");
    }
    return override_config_build(b, cfg->config, cfg->is_optional, out) ||
           mz_err_at(b->err, "config");
}

bool build_overrides(struct builder *b, const struct pb_override *v, size_t n,
                     struct mz_filter_overrides *out)
{
    if (!n)
        return true;
    out->v = build_newn0(b, struct mz_filter_override, n);
    for (size_t i = 0; i < n; i++) {
        if (!override_build(b, &v[i], &out->v[i]))
            return mz_err_at(b->err, "typed_per_filter_config[\"%s\"]", v[i].key);
        out->n++;
    }
    return true;
}

/* The deprecated cors fields say what the message of the cors filter says: it builds them. */
bool build_cors(struct builder *b, const pb_CorsPolicy *m, const void **out)
{
    if (!m)
        return true;
    const struct mz_factory *f = b->env->factory;
    const struct mz_http_filter_type *type =
        f->http_filter(mz_str_c(pb_cors_CorsPolicy__descriptor.name));
    if (!type)
        return mz_err_set(b->err, "cors: there is no cors filter");
    pb_cors_CorsPolicy policy = pb_cors_CorsPolicy__INIT;
    policy.allow_origin_string_match = m->allow_origin_string_match;
    policy.n_allow_origin_string_match = m->n_allow_origin_string_match;
    policy.allow_methods = m->allow_methods;
    policy.allow_headers = m->allow_headers;
    policy.expose_headers = m->expose_headers;
    policy.max_age = m->max_age;
    policy.allow_credentials = m->allow_credentials;
    policy.filter_enabled = m->filter_enabled;
    policy.shadow_enabled = m->shadow_enabled;
    policy.allow_private_network_access = m->allow_private_network_access;
    policy.forward_not_matching_preflights = m->forward_not_matching_preflights;
    void *cfg = b->env->filter_ops->build(type, &policy, f, b->err);
    if (!cfg)
        return mz_err_at(b->err, "cors");
    struct override_cleanup *c = build_new0(b, struct override_cleanup);
    *c = (struct override_cleanup){ b->env->filter_ops, type, cfg };
    mz_arena_cleanup(b->a, override_free, c);
    *out = cfg;
    return true;
}

/* ---- mirrors ---- */

static bool mirror_build(struct builder *b, const pb_RouteAction_RequestMirrorPolicy *m,
                         struct mz_mirror_policy *out)
{
    if ((m->cluster[0] != 0) == (m->cluster_header[0] != 0))
        return mz_err_set(b->err, "exactly one of cluster, cluster_header is required");
    if (m->cluster[0] && !build_cluster_known(b, m->cluster))
        return mz_err_at(b->err, "cluster");
    out->cluster = build_str(b, m->cluster);
    out->cluster_header = build_lower(b, m->cluster_header);
    out->host_rewrite = build_str(b, m->host_rewrite_literal);
    out->disable_host_suffix = m->disable_shadow_host_suffix_append;
    out->fraction = (struct mz_fraction){ { 0 }, 100, 100 };
    if (m->runtime_fraction && !build_fraction(b, m->runtime_fraction, &out->fraction))
        return mz_err_at(b->err, "runtime_fraction");
    if (!mz_header_ops_build(m->request_headers_mutations, m->n_request_headers_mutations,
                             &out->mutations, b->err))
        return mz_err_at(b->err, "request_headers_mutations");
    mz_arena_cleanup(b->a, (void (*)(void *))mz_header_ops_fini, &out->mutations);
    return true;
}

bool build_mirrors(struct builder *b, pb_RouteAction_RequestMirrorPolicy **v, size_t n,
                   struct mz_mirror_policy **out)
{
    *out = n ? build_newn0(b, struct mz_mirror_policy, n) : NULL;
    for (size_t i = 0; i < n; i++)
        if (!mirror_build(b, v[i], &(*out)[i]))
            return mz_err_at(b->err, "request_mirror_policies[%zu]", i);
    return true;
}

/* ---- virtual clusters ---- */

static const struct mz_stat_def vcluster_defs[MZ_VC__COUNT] = {
    [MZ_VC_RQ_TOTAL] = { "upstream_rq_total", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_RETRY] = { "upstream_rq_retry", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_RETRY_LIMIT_EXCEEDED] = { "upstream_rq_retry_limit_exceeded", MZ_COUNTER,
                                        MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_RETRY_OVERFLOW] = { "upstream_rq_retry_overflow", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_RETRY_SUCCESS] = { "upstream_rq_retry_success", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_TIMEOUT] = { "upstream_rq_timeout", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MZ_VC_RQ_COMPLETED] = { "upstream_rq_completed", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
    [MZ_VC_RQ_TIME] = { "upstream_rq_time", MZ_HISTOGRAM, MZ_UNIT_MS, MZ_STAT_LAZY },
};
const struct mz_stat_kind mz_vcluster_stats = { "vcluster", vcluster_defs, MZ_VC__COUNT };

static struct mz_scope *vcluster_scope(struct builder *b, const struct mz_vhost *v,
                                       struct mz_str name)
{
    if (!b->env->factory->stats)
        return NULL;
    struct mz_str prefix = mz_arena_printf(b->a, "vhost." MZ_STR_FMT ".vcluster." MZ_STR_FMT ".",
                                           MZ_STR_ARG(v->name), MZ_STR_ARG(name));
    struct mz_scope *s = mz_scope_create(b->env->factory->stats, &mz_vcluster_stats, prefix);
    mz_arena_cleanup(b->a, (void (*)(void *))mz_scope_unref, s);
    return s;
}

static bool vcluster_build(struct builder *b, const pb_VirtualCluster *m, struct mz_vhost *v,
                           struct vcluster *out)
{
    if (!m->name[0])
        return mz_err_set(b->err, "name must not be empty");
    if (!m->n_headers)
        return mz_err_set(b->err, "headers must have at least 1 item");
    out->name = build_str(b, m->name);
    out->n_headers = m->n_headers;
    if (!build_header_matches(b, m->headers, m->n_headers, &out->headers))
        return mz_err_at(b->err, "headers");
    out->scope = vcluster_scope(b, v, out->name);
    return true;
}

bool build_vclusters(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v)
{
    if (!m->n_virtual_clusters)
        return true;
    struct vhost_priv *p = vhost_priv(b, v);
    p->vclusters = build_newn0(b, struct vcluster, m->n_virtual_clusters);
    for (size_t i = 0; i < m->n_virtual_clusters; i++) {
        if (!vcluster_build(b, m->virtual_clusters[i], v, &p->vclusters[i]))
            return mz_err_at(b->err, "virtual_clusters[%zu]", i);
        p->n_vclusters++;
    }
    p->other = vcluster_scope(b, v, MZ_STR("other"));
    return true;
}

/* ---- decorator and tracing ---- */

static void tags_fini(void *tags)
{
    mz_custom_tags_fini(tags);
}

bool build_tracing(struct builder *b, const pb_Route *m, struct mz_route *r)
{
    if (!m->decorator && !m->tracing)
        return true;
    struct mz_route_tracing *t = build_new0(b, struct mz_route_tracing);
    r->tracing = t;
    if (m->decorator) {
        t->operation = build_str(b, m->decorator->operation);
        t->propagate = mz_bool_or(m->decorator->propagate, true);
    }
    if (!m->tracing)
        return true;
    const struct {
        const pb_FractionalPercent *from;
        const char *name;
        struct mz_fraction *to;
    } parts[] = {
        { m->tracing->client_sampling, "client_sampling", &t->client },
        { m->tracing->random_sampling, "random_sampling", &t->random },
        { m->tracing->overall_sampling, "overall_sampling", &t->overall },
    };
    for (size_t i = 0; i < MZ_COUNT(parts); i++)
        if (parts[i].from && !build_percent(b, parts[i].from, parts[i].to)) {
            mz_err_at(b->err, "%s", parts[i].name);
            return mz_err_at(b->err, "tracing");
        }
    if (!mz_custom_tags_build(m->tracing->custom_tags, m->tracing->n_custom_tags, b->a, &t->tags,
                              b->err)) {
        mz_err_at(b->err, "custom_tags");
        return mz_err_at(b->err, "tracing");
    }
    mz_arena_cleanup(b->a, tags_fini, &t->tags);
    return true;
}
