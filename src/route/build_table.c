#include "route/route_priv.h"

static void map_free(void *map)
{
    mz_map_fini(map);
}

static bool wildcard_add(struct builder *b, struct wildcards *w, struct mz_str part,
                         struct mz_vhost *v)
{
    if (mz_map_get(&w->map, part))
        return false;
    mz_map_put(&w->map, part, v);
    size_t at = 0;
    while (at < w->n && w->lens[at] > part.n)
        at++;
    if (at < w->n && w->lens[at] == part.n)
        return true;
    uint32_t *lens = build_newn0(b, uint32_t, w->n + 1);
    for (size_t i = 0; i < w->n; i++)
        lens[i + (i >= at)] = w->lens[i];
    lens[at] = (uint32_t)part.n;
    w->lens = lens;
    w->n++;
    return true;
}

static bool domain_add(struct builder *b, const char *text, struct mz_vhost *v)
{
    struct mz_route_table *t = b->t;
    struct mz_str d = build_lower(b, text);
    if (!d.n)
        return mz_err_set(b->err, "must not be empty; '*' serves every host");
    if (mz_str_eq(d, MZ_STR("*"))) {
        if (t->any)
            return mz_err_set(b->err,
                              "'*' belongs to virtual host '" MZ_STR_FMT
                              "' already; only one may have it",
                              MZ_STR_ARG(t->any->name));
        t->any = v;
        return true;
    }
    bool first = d.p[0] == '*', last = d.p[d.n - 1] == '*';
    struct mz_str part = { d.p + first, d.n - first - last };
    bool added = first  ? wildcard_add(b, &t->suffix, part, v)
                 : last ? wildcard_add(b, &t->prefix, part, v)
                        : mz_map_put(&t->exact, d, v) == NULL;
    if (first && last)
        return mz_err_set(
            b->err, "'%s' has a '*' at both ends; one may stand at the beginning or the end", text);
    return added ||
           mz_err_set(b->err, "'%s' is there twice; a domain may be in one virtual host only",
                      text);
}

struct vhost_priv *vhost_priv(struct builder *b, struct mz_vhost *v)
{
    if (!v->priv)
        v->priv = build_new0(b, struct vhost_priv);
    return v->priv;
}

/* Not a route of the configuration: 301 to the same URL with https. */
static void tls_redirect_build(struct builder *b, struct mz_vhost *v)
{
    struct mz_route *r = build_new0(b, struct mz_route);
    struct route_priv *p = build_new0(b, struct route_priv);
    p->redirect = build_new0(b, struct redirect);
    p->redirect->scheme = MZ_STR("https");
    p->redirect->keep_port = true;
    *r = (struct mz_route){ .vhost = v,
                            .action = MZ_ACTION_REDIRECT,
                            .status = 301,
                            .unmutated = true,
                            .priv = p,
                            .hedge = &no_hedge,
                            .internal_redirect = &no_internal_redirect };
    vhost_priv(b, v)->tls_redirect = r;
}

static bool vhost_routes_build(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v)
{
    struct mz_route *routes = build_newn0(b, struct mz_route, m->n_routes);
    v->routes = build_newn0(b, struct mz_route *, m->n_routes);
    for (size_t i = 0; i < m->n_routes; i++) {
        v->routes[i] = &routes[i];
        routes[i].index = (uint32_t)i;
        if (!build_route(b, m->routes[i], v, &routes[i]))
            return mz_err_at(b->err, "routes[%zu]", i);
        v->n_routes++;
    }
    struct route_index *index = route_index_build(v, b->a);
    if (index)
        vhost_priv(b, v)->index = index;
    return true;
}

static bool vhost_policies_build(struct builder *b, const pb_VirtualHost *m)
{
    if (m->retry_policy && !build_retry(b, m->retry_policy, &b->retry))
        return mz_err_at(b->err, "retry_policy");
    if (m->hedge_policy && !build_hedge(b, m->hedge_policy, &b->hedge))
        return mz_err_at(b->err, "hedge_policy");
    if (m->n_request_mirror_policies) {
        b->n_mirrors = (uint32_t)m->n_request_mirror_policies;
        return build_mirrors(b, m->request_mirror_policies, m->n_request_mirror_policies,
                             &b->mirrors);
    }
    return true;
}

static bool vhost_mutations_build(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v)
{
    return build_mutations(b, m->request_headers_to_add, m->n_request_headers_to_add,
                           m->request_headers_to_remove, m->n_request_headers_to_remove, "request",
                           &v->req) &&
           build_mutations(b, m->response_headers_to_add, m->n_response_headers_to_add,
                           m->response_headers_to_remove, m->n_response_headers_to_remove,
                           "response", &v->resp);
}

/* The generated type of the entries differs by message, their fields do not. */
#define OVERRIDES(b, m, out)                                                                       \
    ({                                                                                             \
        struct pb_override *ov_ =                                                                  \
            build_newn0(b, struct pb_override, (m)->n_typed_per_filter_config);                    \
        for (size_t i_ = 0; i_ < (m)->n_typed_per_filter_config; i_++)                             \
            ov_[i_] = (struct pb_override){ (m)->typed_per_filter_config[i_]->key,                 \
                                            (m)->typed_per_filter_config[i_]->value };             \
        build_overrides(b, ov_, (m)->n_typed_per_filter_config, out);                              \
    })

bool build_vhost(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v)
{
    struct builder own = *b; /* what routes inherit changes below this virtual host only */
    v->table = b->t;
    v->name = build_str(b, m->name);
    for (size_t i = 0; i < m->n_domains; i++)
        if (!domain_add(b, m->domains[i], v))
            return mz_err_at(b->err, "domains[%zu]", i);
    v->metadata = mz_meta_build(m->metadata, b->a);
    v->include_attempt_count = m->include_request_attempt_count;
    v->include_attempt_count_in_response = m->include_attempt_count_in_response;
    v->include_is_timeout_retry = m->include_is_timeout_retry_header;
    v->require_tls_all = m->require_tls == pb_VirtualHost_TlsRequirementType_ALL;
    v->require_tls_external = m->require_tls == pb_VirtualHost_TlsRequirementType_EXTERNAL_ONLY;
    if (v->require_tls_all || v->require_tls_external)
        tls_redirect_build(b, v);
    v->buffer_limit_set = m->per_request_buffer_limit_bytes || m->request_body_buffer_limit;
    v->buffer_limit =
        mz_u64_or(m->request_body_buffer_limit, mz_u32_or(m->per_request_buffer_limit_bytes, 0));
    return vhost_policies_build(&own, m) && vhost_mutations_build(&own, m, v) &&
           OVERRIDES(&own, m, &v->overrides) && build_cors(&own, m->cors, &v->cors) &&
           build_rate_limits(&own, m->rate_limits, m->n_rate_limits, &v->rate_limits) &&
           vhost_routes_build(&own, m, v) && build_vclusters(&own, m, v);
}

static bool table_mutations_build(struct builder *b, const pb_RouteConfiguration *m)
{
    return build_mutations(b, m->request_headers_to_add, m->n_request_headers_to_add,
                           m->request_headers_to_remove, m->n_request_headers_to_remove, "request",
                           &b->t->req) &&
           build_mutations(b, m->response_headers_to_add, m->n_response_headers_to_add,
                           m->response_headers_to_remove, m->n_response_headers_to_remove,
                           "response", &b->t->resp);
}

static bool table_fill(struct builder *b, const pb_RouteConfiguration *m)
{
    struct mz_route_table *t = b->t;
    t->name = build_str(b, m->name);
    t->most_specific_wins = m->most_specific_header_mutations_wins;
    t->ignore_port = m->ignore_port_in_host_matching;
    t->vhost_header = build_lower(b, m->vhost_header);
    t->on_demand = m->vhds != NULL;
    t->ignore_path_params = m->ignore_path_parameters_in_path_matching;
    t->metadata = mz_meta_build(m->metadata, b->a);
    t->internal_only = build_newn0(b, struct mz_str, m->n_internal_only_headers);
    for (; t->n_internal_only < m->n_internal_only_headers; t->n_internal_only++)
        t->internal_only[t->n_internal_only] =
            build_lower(b, m->internal_only_headers[t->n_internal_only]);
    b->n_mirrors = (uint32_t)m->n_request_mirror_policies;
    if (!build_mirrors(b, m->request_mirror_policies, m->n_request_mirror_policies, &b->mirrors))
        return false;
    if (!table_mutations_build(b, m) || !OVERRIDES(b, m, &t->overrides))
        return false;
    t->vhosts = build_newn0(b, struct mz_vhost, m->n_virtual_hosts);
    for (size_t i = 0; i < m->n_virtual_hosts; i++) {
        if (!build_vhost(b, m->virtual_hosts[i], &t->vhosts[i]))
            return mz_err_at(b->err, "virtual_hosts[%zu]", i);
        t->n_vhosts++;
    }
    return true;
}

struct mz_route_table *mz_route_table_build(const pb_RouteConfiguration *m,
                                            const struct mz_route_env *env, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_route_table *t = mz_arena_new0(a, struct mz_route_table);
    *t = (struct mz_route_table){ .refs = 1, .arena = a };
    struct mz_map *maps[] = { &t->exact, &t->suffix.map, &t->prefix.map };
    for (size_t i = 0; i < MZ_COUNT(maps); i++) {
        mz_map_init(maps[i], MZ_MEM_CONFIG);
        mz_arena_cleanup(a, map_free, maps[i]);
    }
    struct builder b = {
        .t = t,
        .a = a,
        .env = env,
        .err = err,
        .check_clusters = mz_bool_or(m->validate_clusters, env->validate_clusters),
        .max_direct_body = mz_u32_or(m->max_direct_response_body_size_bytes, 4096),
        .hedge = &no_hedge,
    };
    if (table_fill(&b, m))
        return t;
    mz_arena_destroy(a);
    return NULL;
}
