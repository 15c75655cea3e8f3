/* What is done with a request that matched: where it goes, how often it is tried, what is changed of it. */
#include "control/translate/mesh.h"
#include "control/translate/virtual_routes.h"

/* ---- destinations ---- */

/* Another name stands for it: the cluster is that of the real one. */
static const struct mz_service *service_of(const struct tr_routing *r, const ist_Destination *d)
{
    const struct mz_service *s = mz_map_get(&r->v->scope->by_host, mz_str_c(d->host));
    if (s && !r->whole && !mz_service_port(s, r->port))
        return NULL; /* of this port's routes it is none */
    return s;
}

static uint16_t port_of(const struct tr_routing *r, const ist_Destination *d,
                        const struct mz_service *s)
{
    if (d->port)
        return (uint16_t)d->port->number;
    const bool one = s && s->ports_n == 1 && r->whole;
    return one ? s->ports[0].port : r->port;
}

char *tr_destination(const struct tr_routing *r, const ist_Destination *d)
{
    if (!d || !d->host[0])
        return TR_CONST("UnknownService"); /* a target that is not there or may not be used */
    const struct mz_service *s = service_of(r, d);
    const bool alias = s && s->resolution == MZ_RESOLVE_ALIAS;
    return tr_cluster_name(r->a, "outbound", port_of(r, d, s), mz_str_c(d->subset),
                           alias ? s->alias_of : mz_str_c(d->host));
}

static const ist_LoadBalancerSettings *hashed_by(const struct tr_routing *r,
                                                 const ist_Destination *d, uint64_t *out_hash)
{
    const struct mz_service *s =
        d && d->host[0] ? mz_map_get(&r->v->scope->by_host, mz_str_c(d->host)) : NULL;
    const struct mz_rule *rule = s ? tr_rule(r->v, s) : NULL;
    if (!rule)
        return NULL;
    *out_hash = rule->hash;
    const ist_Subset *subset = d->subset[0] ? mz_rule_subset(rule, mz_str_c(d->subset)) : NULL;
    return mz_rule_hash(rule, subset, d->port ? (uint16_t)d->port->number : 0);
}

void tr_add_hash(struct mz_arena *a, pb_RouteAction *m, const ist_LoadBalancerSettings *lb)
{
    if (!lb)
        return;
    const ist_LoadBalancerSettings_ConsistentHashLB *h = lb->consistent_hash;
    pb_RouteAction_HashPolicy *p = TR_NEW(a, RouteAction_HashPolicy);
    switch (h->hash_key_case) {
    case ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY_HTTP_HEADER_NAME:
        p->policy_specifier_case = pb_RouteAction_HashPolicy_POLICY_SPECIFIER_HEADER;
        p->header = TR_NEW(a, RouteAction_HashPolicy_Header);
        p->header->header_name = h->http_header_name;
        break;
    case ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY_HTTP_COOKIE:
        p->policy_specifier_case = pb_RouteAction_HashPolicy_POLICY_SPECIFIER_COOKIE;
        p->cookie = TR_NEW(a, RouteAction_HashPolicy_Cookie);
        p->cookie->name = h->http_cookie->name;
        p->cookie->path = h->http_cookie->path;
        p->cookie->ttl = h->http_cookie->ttl;
        for (size_t i = 0; i < h->http_cookie->n_attributes; i++) {
            pb_RouteAction_HashPolicy_CookieAttribute *one =
                TR_NEW(a, RouteAction_HashPolicy_CookieAttribute);
            one->name = h->http_cookie->attributes[i]->name;
            one->value = h->http_cookie->attributes[i]->value;
            TR_ADD(a, p->cookie, attributes) = one;
        }
        break;
    case ist_LoadBalancerSettings_ConsistentHashLB_HASH_KEY_USE_SOURCE_IP:
        p->policy_specifier_case = pb_RouteAction_HashPolicy_POLICY_SPECIFIER_CONNECTION_PROPERTIES;
        p->connection_properties = TR_NEW(a, RouteAction_HashPolicy_ConnectionProperties);
        p->connection_properties->source_ip = h->use_source_ip;
        break;
    default:
        p->policy_specifier_case = pb_RouteAction_HashPolicy_POLICY_SPECIFIER_QUERY_PARAMETER;
        p->query_parameter = TR_NEW(a, RouteAction_HashPolicy_QueryParameter);
        p->query_parameter->name = h->http_query_parameter_name;
    }
    TR_ADD(a, m, hash_policy) = p;
}

/* Routes of one destination stand together: it is looked for once. */
struct hashing {
    const struct tr_routing *r;
    const ist_Destination *last;
    uint64_t h;
};

static bool is_same(const ist_Destination *x, const ist_Destination *y)
{
    return x && strcmp(x->host, y->host) == 0 && strcmp(x->subset, y->subset) == 0 &&
           (x->port ? x->port->number : 0) == (y->port ? y->port->number : 0);
}

static void hash_destination(struct hashing *x, const ist_Destination *d)
{
    const struct mz_service *s;
    uint64_t rule = 0;
    if (!d || is_same(x->last, d))
        return;
    x->last = d;
    s = d->host[0] ? service_of(x->r, d) : NULL;
    (void)hashed_by(x->r, d, &rule);
    const uint64_t parts[] = { x->h, rule, s ? s->ports_n : 0,
                               s && s->ports_n ? s->ports[0].port : 0 };
    x->h = mz_xxh64(parts, sizeof(parts), 0);
    if (s && x->r->v->t->features.sessions) /* its labels count */
        x->h = mz_xxh64(&s->hash, sizeof(s->hash), x->h);
    if (s && s->alias_of.n)
        x->h = mz_xxh64(s->alias_of.p, s->alias_of.n, x->h);
}

uint64_t tr_virtual_hash(const struct tr_routing *r)
{
    struct hashing x = { r, NULL, r->vs->hash };
    const struct mz_labels l = r->v->proxy->labels;
    for (size_t i = 0; i < r->vs->spec->n_http; i++) {
        const ist_HTTPRoute *one = r->vs->spec->http[i];
        for (size_t k = 0; k < one->n_route; k++)
            hash_destination(&x, one->route[k]->destination);
        for (size_t k = 0; k < one->n_mirrors; k++)
            hash_destination(&x, one->mirrors[k]->destination);
        hash_destination(&x, one->mirror);
    }
    uint64_t h = x.h;
    if (!r->vs->by_source)
        return h;
    for (size_t i = 0; i < l.n; i++)
        h = mz_xxh64(l.v[i].key.p, l.v[i].key.n, mz_xxh64(l.v[i].value.p, l.v[i].value.n, h));
    return mz_xxh64(r->v->proxy->ns.p, r->v->proxy->ns.n, h);
}

/* ---- headers ---- */

struct changed { /* by route or by one of its targets */
    pb_HeaderValueOption **add;
    size_t n_add;
    char **remove;
    size_t n_remove;
    const char *authority; /* NULL: stays */
};

static bool is_host(const char *name)
{
    return mz_str_ieq(mz_str_c(name), MZ_STR(":authority")) ||
           mz_str_ieq(mz_str_c(name), MZ_STR("host"));
}

static bool is_internal(const char *name)
{
    return name[0] == ':' || is_host(name);
}

static void add_headers(struct mz_arena *a, struct changed *c,
                        ist_Headers_HeaderOperations_SetEntry *const *v, size_t n, bool append)
{
    MZ_VEC(struct tr_keyed) sorted = { 0 };
    for (size_t i = 0; i < n; i++) {
        if (is_host(v[i]->key) && !(append && c->authority))
            c->authority = v[i]->value;
        if (is_internal(v[i]->key))
            continue;
        pb_HeaderValueOption *o = TR_NEW(a, HeaderValueOption);
        o->header = TR_NEW(a, HeaderValue);
        o->header->key = v[i]->key; /* shared with the model */
        o->header->value = v[i]->value;
        o->append_action = append
                               ? pb_HeaderValueOption_HeaderAppendAction_APPEND_IF_EXISTS_OR_ADD
                               : pb_HeaderValueOption_HeaderAppendAction_OVERWRITE_IF_EXISTS_OR_ADD;
        *mz_vec_push(&sorted, MZ_MEM_XDS) = (struct tr_keyed){ o->header->key, o, 0 };
    }
    tr_sort(sorted.v, sorted.n);
    for (size_t i = 0; i < sorted.n; i++)
        TR_ADD(a, c, add) = sorted.v[i].what;
    mz_vec_free(&sorted, MZ_MEM_XDS);
}

static struct changed change(struct mz_arena *a, const ist_Headers_HeaderOperations *o)
{
    struct changed c = { 0 };
    if (!o)
        return c;
    add_headers(a, &c, o->set, o->n_set, false);
    add_headers(a, &c, (ist_Headers_HeaderOperations_SetEntry *const *)o->add, o->n_add, true);
    for (size_t i = 0; i < o->n_remove; i++)
        if (!is_internal(o->remove[i]))
            TR_ADD(a, &c, remove) = o->remove[i];
    return c;
}

/* @m: a route or one of its weighted clusters, which have the same fields. Returns the new authority, NULL: none. */
#define PUT_HEADERS(a, m, in, out_authority)                                                       \
    do {                                                                                           \
        const struct changed to = change((a), (in) ? (in)->request : NULL),                        \
                             back = change((a), (in) ? (in)->response : NULL);                     \
        for (size_t i_ = 0; i_ < to.n_add; i_++)                                                   \
            TR_ADD((a), (m), request_headers_to_add) = to.add[i_];                                 \
        for (size_t i_ = 0; i_ < to.n_remove; i_++)                                                \
            TR_ADD((a), (m), request_headers_to_remove) = to.remove[i_];                           \
        for (size_t i_ = 0; i_ < back.n_add; i_++)                                                 \
            TR_ADD((a), (m), response_headers_to_add) = back.add[i_];                              \
        for (size_t i_ = 0; i_ < back.n_remove; i_++)                                              \
            TR_ADD((a), (m), response_headers_to_remove) = back.remove[i_];                        \
        (out_authority) = to.authority;                                                            \
    } while (0)

/* ---- tries ---- */

static bool is_status(uint64_t n)
{
    return (n >= 100 && n <= 103) || (n >= 200 && n <= 208) || n == 226 || (n >= 300 && n <= 305) ||
           n == 307 || n == 308 || (n >= 400 && n <= 418) || (n >= 421 && n <= 426) || n == 428 ||
           n == 429 || n == 431 || n == 451 || (n >= 500 && n <= 508) || n == 510 || n == 511;
}

/* Numbers among the conditions are status codes. */
static void retry_on(struct mz_arena *a, const char *text, pb_route_RetryPolicy *p)
{
    struct mz_str rest = mz_str_c(text), all = MZ_STR("");
    for (struct mz_str one; mz_str_split(&rest, ',', &one);) {
        uint64_t status;
        one = mz_str_trim(one);
        if (!one.n)
            continue;
        if (mz_str_u64(one, &status) && is_status(status))
            TR_ADD(a, p, retriable_status_codes) = (uint32_t)status;
        else
            all = mz_arena_printf(a, "%.*s%s%.*s", MZ_STR_ARG(all), all.n ? "," : "",
                                  MZ_STR_ARG(one));
    }
    if (p->n_retriable_status_codes && mz_str_find(all, MZ_STR("retriable-status-codes")) < 0)
        all = mz_arena_printf(a, "%.*s,retriable-status-codes", MZ_STR_ARG(all));
    p->retry_on = tr_text(a, all);
}

static void put_backoff(struct mz_arena *a, const ist_HTTPRetry *in, pb_route_RetryPolicy *p)
{
    if (!in->backoff)
        return;
    p->retry_back_off = TR_NEW(a, RetryPolicy_RetryBackOff);
    p->retry_back_off->base_interval = in->backoff;
}

static pb_route_RetryPolicy *retries(const struct tr_routing *r, const ist_HTTPRetry *in)
{
    struct mz_arena *a = r->a;
    if (!in)
        return TR_PIECE(r->v, RETRY);
    if (in->attempts <= 0)
        return NULL;
    pb_route_RetryPolicy *p = TR_NEW(a, route_RetryPolicy);
    *p = *(const pb_route_RetryPolicy *)TR_PIECE(r->v, RETRY); /* shares its parts */
    p->num_retries = tr_u32(a, (uint32_t)in->attempts);
    if (in->retry_on[0])
        retry_on(a, in->retry_on, p);
    p->per_try_timeout = in->per_try_timeout;
    if (in->retry_ignore_previous_hosts && !in->retry_ignore_previous_hosts->value)
        p->n_retry_host_predicate = 0;
    if (in->retry_remote_localities && in->retry_remote_localities->value)
        p->retry_priority = TR_PIECE(r->v, RETRY_PRIORITY);
    put_backoff(a, in, p);
    return p;
}

static const ist_HTTPRetry *retries_of_mesh(const struct mz_view *v)
{
    const ist_MeshConfig *mesh = v->model->mesh.config;
    return mesh->default_http_retry_policy;
}

pb_route_RetryPolicy *tr_default_retries(struct mz_view *v, struct mz_arena *a)
{
    const struct tr_routing r = { .v = v, .a = a };
    return retries(&r, retries_of_mesh(v));
}

/* There is one place to try: which host and how long a try may take do not matter. */
pb_route_RetryPolicy *tr_inbound_retries(struct mz_view *v, struct mz_arena *a)
{
    const ist_HTTPRetry *in = v->model->mesh.config->default_inbound_http_retry_policy;
    if (!in)
        return TR_PIECE(v, RETRY_IN);
    if (in->attempts <= 0)
        return NULL;
    pb_route_RetryPolicy *p = TR_NEW(a, route_RetryPolicy);
    *p = *(const pb_route_RetryPolicy *)TR_PIECE(v, RETRY_IN); /* shares its parts */
    p->num_retries = tr_u32(a, (uint32_t)in->attempts);
    if (in->retry_on[0])
        retry_on(a, in->retry_on, p);
    put_backoff(a, in, p);
    return p;
}

/* What is hashed is tried where it belongs, unless it was said that it shall not be. */
static pb_route_RetryPolicy *stay(const struct tr_routing *r, const ist_HTTPRetry *in,
                                  const pb_route_RetryPolicy *p)
{
    if (in && in->retry_ignore_previous_hosts)
        return (pb_route_RetryPolicy *)(uintptr_t)p;
    pb_route_RetryPolicy *own = TR_NEW(r->a, route_RetryPolicy);
    *own = *p; /* shares its parts */
    own->n_retry_host_predicate = 0;
    return own;
}

/* ---- mirrors ---- */

/* @percent NULL: all; 0: none. */
static void add_mirror(const struct tr_routing *r, pb_RouteAction *m, const ist_Destination *to,
                       pb_FractionalPercent *percent)
{
    struct mz_arena *a = r->a;
    if (!to || (percent && !percent->numerator))
        return;
    pb_RouteAction_RequestMirrorPolicy *p = TR_NEW(a, RouteAction_RequestMirrorPolicy);
    p->cluster = tr_destination(r, to);
    p->runtime_fraction = tr_every(a);
    if (percent)
        p->runtime_fraction->default_value = percent;
    p->trace_sampled = tr_bool(a, false);
    p->disable_shadow_host_suffix_append = !r->v->t->features.shadow_suffix;
    TR_ADD(a, m, request_mirror_policies) = p;
}

static void mirrors(const struct tr_routing *r, const ist_HTTPRoute *in, pb_RouteAction *m)
{
    pb_FractionalPercent *percent = NULL;
    if (in->mirror_percentage)
        percent = tr_percent(r->a, in->mirror_percentage->value);
    else if (in->mirror_percent) {
        percent = TR_NEW(r->a, FractionalPercent);
        percent->numerator = in->mirror_percent->value;
    }
    add_mirror(r, m, in->mirror, percent);
    for (size_t i = 0; i < in->n_mirrors; i++) {
        const ist_Percent *p = in->mirrors[i]->percentage;
        add_mirror(r, m, in->mirrors[i]->destination, p ? tr_percent(r->a, p->value) : NULL);
    }
}

/* ---- actions ---- */

static void to_authority(struct mz_arena *a, pb_RouteAction *m, const char *authority)
{
    if (!authority || !authority[0])
        return;
    m->host_rewrite_specifier_case = pb_RouteAction_HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
    m->host_rewrite_literal = tr_text(a, mz_str_c(authority));
}

static pb_RegexMatchAndSubstitute *substitute(struct mz_arena *a, char *match, char *by)
{
    pb_RegexMatchAndSubstitute *s = TR_NEW(a, RegexMatchAndSubstitute);
    s->pattern = TR_NEW(a, RegexMatcher);
    s->pattern->regex = match;
    s->substitution = by;
    return s;
}

/* The text as an expression that matches nothing else. */
static char *quoted(struct mz_arena *a, const char *text)
{
    const size_t n = strlen(text);
    char *out = mz_arena_alloc(a, 2 * n + 1);
    size_t at = 0;
    for (size_t i = 0; i < n; i++) {
        if (strchr("\\.+*?()|[]{}^$", text[i]))
            out[at++] = '\\';
        out[at++] = text[i];
    }
    out[at] = 0;
    return out;
}

static void rewrite(const struct tr_routing *r, const ist_HTTPRewrite *w, const pb_Route *out,
                    pb_RouteAction *m)
{
    struct mz_arena *a = r->a;
    m->append_x_forwarded_host = tr_mesh_appends_host(r->v);
    if (w->uri_regex_rewrite)
        m->regex_rewrite =
            substitute(a, w->uri_regex_rewrite->match, w->uri_regex_rewrite->rewrite);
    else if (r->vs->semantics == MZ_SEMANTICS_GATEWAY && strcmp(w->uri, "/") == 0) {
        const bool prefix =
            out->match->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_PATH_SEPARATED_PREFIX;
        m->regex_rewrite = substitute(
            a,
            TR_PRINTF(a, "^%s(/?)(.*)", prefix ? quoted(a, out->match->path_separated_prefix) : ""),
            TR_CONST("/\\2")); /* the prefix goes; a path that has nothing else is "/" */
    } else {
        m->prefix_rewrite = w->uri;
    }
}

static void to_clusters(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out,
                        pb_RouteAction *m)
{
    struct mz_arena *a = r->a;
    const char *authority;
    if (in->n_route == 1) {
        m->cluster_specifier_case = pb_RouteAction_CLUSTER_SPECIFIER_CLUSTER;
        m->cluster = tr_destination(r, in->route[0]->destination);
        PUT_HEADERS(a, out, in->route[0]->headers, authority);
        if (m->host_rewrite_specifier_case == pb_RouteAction_HOST_REWRITE_SPECIFIER__NOT_SET)
            to_authority(a, m, authority);
        return;
    }
    m->cluster_specifier_case = pb_RouteAction_CLUSTER_SPECIFIER_WEIGHTED_CLUSTERS;
    m->weighted_clusters = TR_NEW(a, WeightedCluster);
    for (size_t i = 0; i < in->n_route; i++) {
        if (in->route[i]->weight <= 0)
            continue;
        pb_WeightedCluster_ClusterWeight *w = TR_NEW(a, WeightedCluster_ClusterWeight);
        w->name = tr_destination(r, in->route[i]->destination);
        w->weight = tr_u32(a, (uint32_t)in->route[i]->weight);
        PUT_HEADERS(a, w, in->route[i]->headers, authority);
        if (authority) {
            w->host_rewrite_specifier_case =
                pb_WeightedCluster_ClusterWeight_HOST_REWRITE_SPECIFIER_HOST_REWRITE_LITERAL;
            w->host_rewrite_literal = tr_text(a, mz_str_c(authority));
        }
        TR_ADD(a, m->weighted_clusters, clusters) = w;
    }
}

void tr_limit_streams(const struct mz_view *v, struct mz_arena *a, pb_RouteAction *m)
{
    if (!v->proxy->proxyless) {
        m->max_grpc_timeout = m->timeout;
        return;
    }
    m->max_stream_duration = TR_NEW(a, RouteAction_MaxStreamDuration); /* the one that gRPC knows */
    m->max_stream_duration->max_stream_duration = m->timeout;
}

static void forward(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out,
                    const char *authority)
{
    struct mz_arena *a = r->a;
    pb_RouteAction *m = TR_NEW(a, RouteAction);
    out->action_case = pb_Route_ACTION_ROUTE;
    out->route = m;
    m->timeout = in->timeout ? in->timeout : TR_NEW(a, Duration); /* none */
    tr_limit_streams(r->v, a, m);
    if (r->vs->semantics == MZ_SEMANTICS_GATEWAY)
        m->cluster_not_found_response_code =
            pb_RouteAction_ClusterNotFoundResponseCode_INTERNAL_SERVER_ERROR;
    if (in->rewrite) {
        rewrite(r, in->rewrite, out, m);
        authority = in->rewrite->authority[0] ? in->rewrite->authority : authority;
    }
    to_authority(a, m, authority);
    mirrors(r, in, m);
    to_clusters(r, in, out, m);
    uint64_t ignored;
    for (size_t i = 0; i < in->n_route; i++)
        if (in->n_route == 1 || in->route[i]->weight > 0)
            tr_add_hash(a, m, hashed_by(r, in->route[i]->destination, &ignored));
    const ist_HTTPRetry *again = in->retries ? in->retries : retries_of_mesh(r->v);
    m->retry_policy = retries(r, again);
    if (in->n_route == 1 && m->n_hash_policy && m->retry_policy)
        m->retry_policy = stay(r, again, m->retry_policy);
}

/* An explicit port only where it is not the one that the scheme has anyway. */
static uint32_t redirect_port(const struct tr_routing *r, const ist_HTTPRedirect *in)
{
    const bool https = in->scheme[0] ? strcmp(in->scheme, "https") == 0 : r->tls;
    const bool http = in->scheme[0] ? strcmp(in->scheme, "http") == 0 : !r->tls;
    uint32_t port = in->redirect_port_case == ist_HTTPRedirect_REDIRECT_PORT_PORT ? in->port : 0;
    if (in->redirect_port_case == ist_HTTPRedirect_REDIRECT_PORT_DERIVE_PORT &&
        in->derive_port == ist_HTTPRedirect_RedirectPortSelection_FROM_REQUEST_PORT)
        port = r->port;
    return (port == 80 && http) || (port == 443 && https) ? 0 : port;
}

static void redirect(const struct tr_routing *r, const ist_HTTPRedirect *in, pb_Route *out)
{
    static const struct {
        uint32_t status;
        pb_RedirectAction_RedirectResponseCode code;
    } codes[] = { { 302, pb_RedirectAction_RedirectResponseCode_FOUND },
                  { 303, pb_RedirectAction_RedirectResponseCode_SEE_OTHER },
                  { 307, pb_RedirectAction_RedirectResponseCode_TEMPORARY_REDIRECT },
                  { 308, pb_RedirectAction_RedirectResponseCode_PERMANENT_REDIRECT } };
    pb_RedirectAction *m = TR_NEW(r->a, RedirectAction);
    out->action_case = pb_Route_ACTION_REDIRECT;
    out->redirect = m;
    m->host_redirect = in->authority;
    if (in->prefix_rewrite[0]) {
        m->path_rewrite_specifier_case = pb_RedirectAction_PATH_REWRITE_SPECIFIER_PREFIX_REWRITE;
        m->prefix_rewrite = in->prefix_rewrite;
    } else {
        m->path_rewrite_specifier_case = pb_RedirectAction_PATH_REWRITE_SPECIFIER_PATH_REDIRECT;
        m->path_redirect = in->uri;
    }
    if (in->scheme[0]) {
        m->scheme_rewrite_specifier_case =
            pb_RedirectAction_SCHEME_REWRITE_SPECIFIER_SCHEME_REDIRECT;
        m->scheme_redirect = in->scheme;
    }
    m->port_redirect = redirect_port(r, in);
    for (size_t i = 0; i < MZ_COUNT(codes); i++)
        if (in->redirect_code == codes[i].status)
            m->response_code = codes[i].code;
}

static void respond(const struct tr_routing *r, const ist_HTTPDirectResponse *in, pb_Route *out)
{
    pb_DirectResponseAction *m = TR_NEW(r->a, DirectResponseAction);
    out->action_case = pb_Route_ACTION_DIRECT_RESPONSE;
    out->direct_response = m;
    m->status = in->status;
    if (!in->body || in->body->specifier_case == ist_HTTPBody_SPECIFIER__NOT_SET)
        return;
    m->body = TR_NEW(r->a, DataSource);
    if (in->body->specifier_case == ist_HTTPBody_SPECIFIER_STRING) {
        m->body->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
        m->body->inline_string = in->body->string;
    } else {
        m->body->specifier_case = pb_DataSource_SPECIFIER_INLINE_BYTES;
        m->body->inline_bytes = in->body->bytes;
    }
}

void tr_route_action(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out)
{
    const char *authority;
    PUT_HEADERS(r->a, out, in->headers, authority);
    if (in->redirect)
        redirect(r, in->redirect, out);
    else if (in->direct_response)
        respond(r, in->direct_response, out);
    else
        forward(r, in, out, authority);
}
