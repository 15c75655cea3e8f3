#include "base/log.h"
#include "route/route_priv.h"
#include "stats/stats.h"
#include "upstream/cluster.h"

const struct mz_internal_redirect no_internal_redirect = { 0 };
const struct mz_hedge_policy no_hedge = { 0 };

/* ---- small things that many messages have ---- */

struct mz_str build_lower(struct builder *b, const char *s)
{
    size_t n = strlen(s);
    char *out = mz_arena_alloc(b->a, n + 1);
    for (size_t i = 0; i <= n; i++)
        out[i] = mz_lower(s[i]);
    return (struct mz_str){ out, n };
}

bool build_regex(struct builder *b, const pb_RegexMatcher *m, struct mz_regex **out)
{
    *out = mz_regex_create(mz_str_c(m->regex), b->err);
    if (!*out)
        return mz_err_at(b->err, "regex");
    mz_arena_cleanup(b->a, (void (*)(void *))mz_regex_destroy, *out);
    return true;
}

bool build_substitution(struct builder *b, const pb_RegexMatchAndSubstitute *m,
                        struct mz_regex **out, struct mz_str *out_with)
{
    if (!m->pattern)
        return mz_err_set(b->err, "pattern is required");
    if (!build_regex(b, m->pattern, out))
        return mz_err_at(b->err, "pattern");
    *out_with = build_str(b, m->substitution);
    struct mz_err why;
    if (!mz_regex_rewrite_ok(*out, *out_with, &why)) /* it does at work what it does in Envoy */
        MZ_LOG(WARN, config, "substitution '%s' of regex '%s': %s", m->substitution,
               m->pattern->regex, why.msg);
    return true;
}

bool build_format(struct builder *b, const char *text, bool omit_empty, struct mz_format **out)
{
    *out = mz_format_create(mz_str_c(text), omit_empty, b->err);
    if (*out)
        mz_arena_cleanup(b->a, (void (*)(void *))mz_format_destroy, *out);
    return *out != NULL;
}

bool build_percent(struct builder *b, const pb_FractionalPercent *m, struct mz_fraction *out)
{
    static const uint32_t denominators[] = { 100, 10000, 1000000 };
    if ((unsigned)m->denominator >= MZ_COUNT(denominators))
        return mz_err_set(b->err, "denominator %d is not one of HUNDRED, TEN_THOUSAND, MILLION",
                          (int)m->denominator);
    *out = (struct mz_fraction){ { 0 }, m->numerator, denominators[m->denominator] };
    return true;
}

bool build_fraction(struct builder *b, const pb_RuntimeFractionalPercent *m,
                    struct mz_fraction *out)
{
    if (!m->default_value)
        return mz_err_set(b->err, "default_value is required");
    if (!build_percent(b, m->default_value, out))
        return mz_err_at(b->err, "default_value");
    out->key = build_str(b, m->runtime_key);
    return true;
}

bool build_cluster_known(struct builder *b, const char *name)
{
    struct mz_cluster_manager *clusters = b->env->factory->clusters;
    if (!b->check_clusters || !clusters || mz_cluster_manager_has(clusters, mz_str_c(name)))
        return true;
    return mz_err_set(
        b->err, "unknown cluster '%s'; expected the name of a cluster of this configuration", name);
}

bool build_opt_ms(struct builder *b, const pb_Duration *d, const char *field, struct mz_opt_ms *out)
{
    uint64_t ms = 0;
    if (!mz_duration_ms(d, 0, &ms, b->err))
        return mz_err_at(b->err, "%s", field);
    *out = (struct mz_opt_ms){ .ms = ms & (UINT64_MAX >> 1), .set = d != NULL };
    return true;
}

bool build_mutations(struct builder *b, pb_HeaderValueOption **add, size_t n_add, char **remove,
                     size_t n_remove, const char *what, struct mz_header_mutations *out)
{
    if (!n_add && !n_remove)
        return true;
    if (!mz_header_mutations_build(add, n_add, NULL, 0, false, out, b->err))
        return mz_err_at(b->err, "%s_headers_to_add", what);
    mz_arena_cleanup(b->a, (void (*)(void *))mz_header_mutations_fini, out);
    struct mz_header_mutations removals;
    if (!mz_header_mutations_build(NULL, 0, remove, n_remove, false, &removals, b->err))
        return mz_err_at(b->err, "%s_headers_to_remove", what);
    out->remove = removals.remove;
    out->n_remove = removals.n_remove;
    mz_free(MZ_MEM_CONFIG, removals.add);
    return true;
}

/* ---- match ---- */

bool build_header_matches(struct builder *b, pb_HeaderMatcher **v, size_t n,
                          struct mz_header_match ***out)
{
    *out = build_newn0(b, struct mz_header_match *, n);
    for (size_t i = 0; i < n; i++) {
        (*out)[i] = mz_header_match_build(v[i], b->err);
        if (!(*out)[i])
            return mz_err_at(b->err, "[%zu]", i);
        mz_arena_cleanup(b->a, (void (*)(void *))mz_header_match_destroy, (*out)[i]);
    }
    return true;
}

bool build_query_matches(struct builder *b, pb_QueryParameterMatcher **v, size_t n,
                         struct query_match **out_v)
{
    *out_v = build_newn0(b, struct query_match, n);
    for (size_t i = 0; i < n; i++) {
        const pb_QueryParameterMatcher *q = v[i];
        struct query_match *out = &(*out_v)[i];
        out->name = build_str(b, q->name);
        out->absent = q->query_parameter_match_specifier_case ==
                          pb_QueryParameterMatcher_QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH &&
                      !q->present_match;
        if (q->query_parameter_match_specifier_case !=
            pb_QueryParameterMatcher_QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH)
            continue;
        out->value = mz_string_match_build(q->string_match, b->err);
        if (!out->value)
            return mz_err_at(b->err, "[%zu].string_match", i);
        mz_arena_cleanup(b->a, (void (*)(void *))mz_string_match_destroy, out->value);
    }
    return true;
}

static bool cookies_build(struct builder *b, const pb_RouteMatch *m, struct match_more *x)
{
    x->cookies = build_newn0(b, struct cookie_match, m->n_cookies);
    for (size_t i = 0; i < m->n_cookies; i++) {
        struct cookie_match *c = &x->cookies[i];
        c->name = build_str(b, m->cookies[i]->name);
        c->invert = m->cookies[i]->invert_match;
        c->value = mz_string_match_build(m->cookies[i]->string_match, b->err);
        if (!c->value)
            return mz_err_at(b->err, "cookies[%zu].string_match", i);
        mz_arena_cleanup(b->a, (void (*)(void *))mz_string_match_destroy, c->value);
        x->n_cookies++;
    }
    return true;
}

static bool metadata_build(struct builder *b, const pb_RouteMatch *m, struct match_more *x)
{
    x->metadata = build_newn0(b, struct mz_metadata_match *, m->n_dynamic_metadata);
    for (size_t i = 0; i < m->n_dynamic_metadata; i++) {
        x->metadata[i] = mz_metadata_match_build(m->dynamic_metadata[i], b->err);
        if (!x->metadata[i])
            return mz_err_at(b->err, "dynamic_metadata[%zu]", i);
        mz_arena_cleanup(b->a, (void (*)(void *))mz_metadata_match_destroy, x->metadata[i]);
        x->n_metadata++;
    }
    return true;
}

static int8_t asked(const pb_BoolValue *v)
{
    return v ? v->value != 0 : -1;
}

static bool more_build(struct builder *b, const pb_RouteMatch *m, struct route_priv *p)
{
    if (!m->n_headers && !m->n_query_parameters && !m->n_cookies && !m->n_dynamic_metadata &&
        !m->runtime_fraction && !m->grpc && !m->tls_context)
        return true;
    struct match_more *x = p->more = build_new0(b, struct match_more);
    x->grpc = m->grpc != NULL;
    x->tls = m->tls_context != NULL;
    x->cert_presented = asked(m->tls_context ? m->tls_context->presented : NULL);
    x->cert_validated = asked(m->tls_context ? m->tls_context->validated : NULL);
    x->has_fraction = m->runtime_fraction != NULL;
    if (m->runtime_fraction && !build_fraction(b, m->runtime_fraction, &x->fraction))
        return mz_err_at(b->err, "runtime_fraction");
    x->n_headers = (uint32_t)m->n_headers;
    if (!build_header_matches(b, m->headers, m->n_headers, &x->headers))
        return mz_err_at(b->err, "headers");
    x->n_queries = (uint32_t)m->n_query_parameters;
    if (!build_query_matches(b, m->query_parameters, m->n_query_parameters, &x->queries))
        return mz_err_at(b->err, "query_parameters");
    return cookies_build(b, m, x) && metadata_build(b, m, x);
}

static bool template_build(struct builder *b, const pb_TypedExtensionConfig *m,
                           struct route_priv *p)
{
    ProtobufCMessage *msg;
    if (!m->typed_config || !mz_any_unpack_as(b->env->factory->proto, m->typed_config,
                                              &pb_UriTemplateMatchConfig__descriptor, &msg, b->err))
        return m->typed_config ? mz_err_at(b->err, "typed_config")
                               : mz_err_set(b->err, "typed_config is required");
    const pb_UriTemplateMatchConfig *cfg = (const pb_UriTemplateMatchConfig *)msg;
    route_set_path(p, PATH_TEMPLATE, cfg->path_template, b->a);
    p->tpl = mz_uri_template_create(p->path, b->err);
    if (!p->tpl)
        return mz_err_at(b->err, "typed_config.path_template");
    mz_arena_cleanup(b->a, (void (*)(void *))mz_uri_template_destroy, p->tpl);
    return true;
}

static bool literal_build(struct builder *b, enum path_kind kind, const char *text,
                          struct route_priv *p)
{
    route_set_path(p, kind, text, b->a);
    if (kind != PATH_SEPARATED)
        return true;
    bool ok = p->path.n > 1 && p->path.p[0] == '/' && p->path.p[p->path.n - 1] != '/' &&
              mz_str_chr(p->path, '?') < 0 && mz_str_chr(p->path, '#') < 0;
    return ok ||
           mz_err_set(b->err, "'%s' must begin with '/', not end with it, and have no '?' or '#'",
                      text);
}

bool build_match(struct builder *b, const pb_RouteMatch *m, struct mz_route *r)
{
    struct route_priv *p = r->priv;
    p->nocase = !mz_bool_or(m->case_sensitive, true);
    const char *field = "path_specifier";
    bool ok = false;
    switch (m->path_specifier_case) {
    case pb_RouteMatch_PATH_SPECIFIER_PREFIX:
        ok = literal_build(b, PATH_PREFIX, m->prefix, p);
        break;
    case pb_RouteMatch_PATH_SPECIFIER_PATH:
        ok = literal_build(b, PATH_EXACT, m->path, p);
        break;
    case pb_RouteMatch_PATH_SPECIFIER_PATH_SEPARATED_PREFIX:
        field = "path_separated_prefix";
        ok = literal_build(b, PATH_SEPARATED, m->path_separated_prefix, p);
        break;
    case pb_RouteMatch_PATH_SPECIFIER_SAFE_REGEX:
        field = "safe_regex";
        route_set_path(p, PATH_REGEX, m->safe_regex->regex, b->a);
        ok = build_regex(b, m->safe_regex, &p->regex);
        break;
    case pb_RouteMatch_PATH_SPECIFIER_PATH_MATCH_POLICY:
        field = "path_match_policy";
        ok = template_build(b, m->path_match_policy, p);
        break;
    case pb_RouteMatch_PATH_SPECIFIER_CONNECT_MATCHER:
        route_set_path(p, PATH_CONNECT, "", b->a);
        r->is_connect = true;
        ok = true;
        break;
    default:
        return mz_err_set(
            b->err, "one of prefix, path, safe_regex, connect_matcher, path_separated_prefix, "
                    "path_match_policy is required");
    }
    return ok ? more_build(b, m, p) : mz_err_at(b->err, "%s", field);
}

/* ---- the route ---- */

static void stat_scope_build(struct builder *b, const pb_Route *m, struct mz_route *r)
{
    r->stat_prefix = build_str(b, m->stat_prefix);
    if (!r->stat_prefix.n || !b->env->factory->stats)
        return;
    struct mz_str prefix = mz_arena_printf(b->a, "vhost." MZ_STR_FMT ".route." MZ_STR_FMT ".",
                                           MZ_STR_ARG(r->vhost->name), MZ_STR_ARG(r->stat_prefix));
    r->scope = mz_scope_create(b->env->factory->stats, &mz_vcluster_stats, prefix);
    mz_arena_cleanup(b->a, (void (*)(void *))mz_scope_unref, r->scope);
}

static bool any_action_build(struct builder *b, const pb_Route *m, struct mz_route *r)
{
    switch (m->action_case) {
    case pb_Route_ACTION_ROUTE:
        return build_action(b, m->route, r) || mz_err_at(b->err, "route");
    case pb_Route_ACTION_REDIRECT:
        return build_redirect(b, m->redirect, r) || mz_err_at(b->err, "redirect");
    case pb_Route_ACTION_DIRECT_RESPONSE:
        return build_direct(b, m->direct_response, r) || mz_err_at(b->err, "direct_response");
    case pb_Route_ACTION_NON_FORWARDING_ACTION:
        r->action = MZ_ACTION_NON_FORWARDING;
        r->cluster_not_found_status = 503; /* what a proxy makes of it */
        return true;
    default:
        return mz_err_set(
            b->err, "one of route, redirect, direct_response, non_forwarding_action is required");
    }
}

static bool route_extras_build(struct builder *b, const pb_Route *m, struct mz_route *r)
{
    r->metadata = mz_meta_build(m->metadata, b->a);
    r->buffer_limit_set = m->per_request_buffer_limit_bytes || m->request_body_buffer_limit ||
                          r->vhost->buffer_limit_set;
    r->buffer_limit =
        mz_u64_or(m->request_body_buffer_limit,
                  mz_u32_or(m->per_request_buffer_limit_bytes, (uint32_t)r->vhost->buffer_limit));
    stat_scope_build(b, m, r);
    struct pb_override *v = build_newn0(b, struct pb_override, m->n_typed_per_filter_config);
    for (size_t i = 0; i < m->n_typed_per_filter_config; i++)
        v[i] = (struct pb_override){ m->typed_per_filter_config[i]->key,
                                     m->typed_per_filter_config[i]->value };
    return build_mutations(b, m->request_headers_to_add, m->n_request_headers_to_add,
                           m->request_headers_to_remove, m->n_request_headers_to_remove, "request",
                           &r->req) &&
           build_mutations(b, m->response_headers_to_add, m->n_response_headers_to_add,
                           m->response_headers_to_remove, m->n_response_headers_to_remove,
                           "response", &r->resp) &&
           build_overrides(b, v, m->n_typed_per_filter_config, &r->overrides) &&
           build_tracing(b, m, r);
}

bool build_route(struct builder *b, const pb_Route *m, struct mz_vhost *v, struct mz_route *r)
{
    r->vhost = v;
    r->name = build_str(b, m->name);
    r->hedge = &no_hedge;
    r->internal_redirect = &no_internal_redirect;
    r->priv = build_new0(b, struct route_priv);
    if (!m->match)
        return mz_err_set(b->err, "match is required");
    if (!build_match(b, m->match, r))
        return mz_err_at(b->err, "match");
    return any_action_build(b, m, r) && route_extras_build(b, m, r);
}
