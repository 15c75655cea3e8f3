/* Rules of HTTPRoutes and GRPCRoutes, one match at a time. */
#include "control/model/gateway_api_priv.h"

/* ---- matches ---- */

static bool is_regex(const pb_StringValue *type)
{
    return type && strcmp(type->value, "RegularExpression") == 0;
}

static ist_StringMatch *path(struct gw_making *g, const k8s_HTTPPathMatch *p)
{
    const char *type = p ? gw_or(p->type, "PathPrefix") : "PathPrefix";
    struct mz_str v = mz_str_c(p ? gw_or(p->value, "/") : "/");
    if (strcmp(type, "PathPrefix") != 0)
        return gw_match(g, strcmp(type, "Exact") == 0 ? GW_EXACT : GW_REGEX, gw_text(g->a, v));
    if (v.n > 1)
        v.n -= mz_str_ends(v, MZ_STR("/"));
    return gw_match(g, GW_PREFIX, gw_text(g->a, v));
}

struct entries { /* of a generated map<string, StringMatch> */
    ist_HTTPMatchRequest_HeadersEntry **e;
    size_t n_e;
};

static void value_matches(struct gw_making *g, k8s_HTTPValueMatch *const *v, size_t n,
                          const ProtobufCMessageDescriptor *entry, struct entries *out)
{
    for (size_t i = 0; i < n; i++) {
        ist_HTTPMatchRequest_HeadersEntry *one = NULL;
        for (size_t k = 0; k < out->n_e; k++)
            if (strcmp(out->e[k]->key, v[i]->name) == 0)
                one = out->e[k]; /* of one name the last counts */
        if (!one) {
            one = (ist_HTTPMatchRequest_HeadersEntry *)gw_new(g->a, entry);
            one->key = v[i]->name;
            GW_ADD(g->a, out, e) = one;
        }
        one->value = gw_match(g, is_regex(v[i]->type) ? GW_REGEX : GW_EXACT, v[i]->value);
    }
}

static void add_headers(struct gw_making *g, k8s_HTTPValueMatch *const *v, size_t n,
                        ist_HTTPMatchRequest *m)
{
    struct entries e = { 0 };
    value_matches(g, v, n, &ist_HTTPMatchRequest_HeadersEntry__descriptor, &e);
    m->headers = e.e;
    m->n_headers = e.n_e;
}

static ist_HTTPMatchRequest *http_match(struct gw_making *g, const k8s_HTTPRouteMatch *in)
{
    ist_HTTPMatchRequest *m = GW_MAKE(g->a, HTTPMatchRequest);
    struct entries query = { 0 };
    m->uri = path(g, in->path);
    add_headers(g, in->headers, in->n_headers, m);
    value_matches(g, in->queryparams, in->n_queryparams,
                  &ist_HTTPMatchRequest_QueryParamsEntry__descriptor, &query);
    m->query_params = (ist_HTTPMatchRequest_QueryParamsEntry **)query.e;
    m->n_query_params = query.n_e;
    if (in->method)
        m->method = gw_match(g, GW_EXACT, in->method->value);
    return m;
}

/* "/package.Service/Method" */
static ist_StringMatch *call(struct gw_making *g, const k8s_GRPCMethodMatch *m)
{
    const bool regex = is_regex(m->type);
    if (!m->service)
        return gw_match(g, GW_REGEX, GW_PRINTF(g->a, "/[^/]+/%s", gw_or(m->method, "")));
    if (!m->method)
        return regex ? gw_match(g, GW_REGEX, GW_PRINTF(g->a, "/%s/.+", m->service->value))
                     : gw_match(g, GW_PREFIX, GW_PRINTF(g->a, "/%s/", m->service->value));
    return gw_match(g, regex ? GW_REGEX : GW_EXACT,
                    GW_PRINTF(g->a, "/%s/%s", m->service->value, m->method->value));
}

/* ---- tries and times ---- */

static void add_retry(struct gw_making *g, const k8s_HTTPRouteRetry *r, ist_HTTPRoute *out)
{
    struct mz_str on = MZ_STR("connect-failure,refused-stream,unavailable,cancelled");
    ist_HTTPRetry *m = out->retries = GW_MAKE(g->a, HTTPRetry);
    for (size_t i = 0; i < r->n_codes; i++)
        on = mz_arena_printf(g->a, "%.*s,%d", MZ_STR_ARG(on), r->codes[i]);
    m->attempts = r->attempts ? r->attempts->value : 2;
    if (m->attempts)
        m->retry_on = gw_text(g->a, on);
    m->backoff = r->backoff;
}

static bool is_some(const pb_Duration *d)
{
    return d && (d->seconds || d->nanos);
}

static void add_timeouts(const k8s_HTTPRouteTimeouts *t, ist_HTTPRoute *out)
{
    if (is_some(t->request))
        out->timeout = t->request;
    if (!is_some(t->backendrequest))
        return;
    if (out->retries)
        out->retries->per_try_timeout = t->backendrequest;
    else
        out->timeout = t->backendrequest;
}

/* ---- rules ---- */

static ist_HTTPRoute *begin(struct gw_making *g, const struct gw_route *r,
                            const pb_StringValue *name, size_t at)
{
    ist_HTTPRoute *m = GW_MAKE(g->a, HTTPRoute);
    m->name = name ? name->value
                   : GW_PRINTF(g->a, "%.*s.%.*s.%zu", MZ_STR_ARG(r->doc->ns),
                               MZ_STR_ARG(r->doc->name), at);
    return m;
}

static ist_HTTPRoute *finish(struct gw_making *g, const struct gw_route *r,
                             k8s_BackendRef *const *refs, size_t n, bool mesh, ist_HTTPRoute *m,
                             const struct mz_gw_error *mirrored, struct mz_gw_error *e)
{
    if (gw_weighs_nothing(refs, n) && !m->redirect) {
        m->direct_response = GW_MAKE(g->a, HTTPDirectResponse);
        m->direct_response->status = 500;
    } else if (!gw_http_destinations(g, r, refs, n, mesh, m, e)) {
        return NULL;
    }
    gw_join(g, e, mirrored);
    return m;
}

ist_HTTPRoute *gw_http_rule(struct gw_making *g, const struct gw_route *r,
                            const k8s_HTTPRouteRule *rule, size_t at,
                            const k8s_HTTPRouteMatch *match, bool mesh, struct mz_gw_error *e)
{
    ist_HTTPRoute *m = begin(g, r, rule->name, at);
    struct mz_gw_error mirrored = { 0 };
    if (match)
        GW_ADD(g->a, m, match) = http_match(g, match);
    if (!gw_filters(g, r, rule->filters, rule->n_filters, mesh, m, e, &mirrored))
        return NULL;
    if (rule->retry)
        add_retry(g, rule->retry, m);
    if (rule->timeouts)
        add_timeouts(rule->timeouts, m);
    return finish(g, r, rule->backendrefs, rule->n_backendrefs, mesh, m, &mirrored, e);
}

ist_HTTPRoute *gw_grpc_rule(struct gw_making *g, const struct gw_route *r,
                            const k8s_GRPCRouteRule *rule, size_t at,
                            const k8s_GRPCRouteMatch *match, bool mesh, struct mz_gw_error *e)
{
    ist_HTTPRoute *m = begin(g, r, rule->name, at);
    struct mz_gw_error mirrored = { 0 };
    if (match) {
        ist_HTTPMatchRequest *q = GW_MAKE(g->a, HTTPMatchRequest);
        if (match->method)
            q->uri = call(g, match->method);
        add_headers(g, match->headers, match->n_headers, q);
        GW_ADD(g->a, m, match) = q;
    }
    if (!gw_filters(g, r, rule->filters, rule->n_filters, mesh, m, e, &mirrored))
        return NULL;
    if (mirrored.reason) { /* of GRPCRoutes it is fatal */
        *e = mirrored;
        return NULL;
    }
    return finish(g, r, rule->backendrefs, rule->n_backendrefs, mesh, m, &mirrored, e);
}
