/* Matches of VirtualServices: what can be told now decides whether there is a route, the rest the proxy looks at. */
#include "control/translate/virtual_routes.h"

/* ---- what is known now ---- */

bool tr_labels_within(const struct mz_view *v, const void *const *entries, size_t n)
{
    const struct mz_labels l = v->proxy->labels;
    for (size_t i = 0; i < n; i++) {
        const ist_HTTPMatchRequest_SourceLabelsEntry *e = entries[i];
        if (!mz_str_eq(mz_label_get(l, e->key), mz_str_c(e->value)))
            return false;
    }
    return true;
}

bool tr_gateway_named(const struct tr_routing *r, char *const *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < r->gateways.n; k++)
            if (mz_str_eq(mz_str_c(names[i]), r->gateways.v[k]))
                return true;
    return false;
}

bool tr_match_applies(const struct tr_routing *r, const ist_HTTPMatchRequest *m)
{
    if (!m)
        return true;
    if (m->port && m->port != r->port)
        return false;
    if (m->n_gateways)
        return tr_gateway_named(r, m->gateways, m->n_gateways);
    return tr_labels_within(r->v, (const void *const *)m->source_labels, m->n_source_labels) &&
           (!m->source_namespace[0] || mz_str_eq(mz_str_c(m->source_namespace), r->v->proxy->ns));
}

/* ---- texts ---- */

static pb_RegexMatcher *regex(struct mz_arena *a, const char *text)
{
    pb_RegexMatcher *m = TR_NEW(a, RegexMatcher);
    m->regex = tr_text(a, mz_str_c(text));
    return m;
}

pb_StringMatcher *tr_string_matcher(struct mz_arena *a, const ist_StringMatch *m)
{
    if (!m || m->match_type_case == ist_StringMatch_MATCH_TYPE__NOT_SET ||
        (m->match_type_case == ist_StringMatch_MATCH_TYPE_REGEX && strcmp(m->regex, "*") == 0))
        return NULL;
    pb_StringMatcher *s = TR_NEW(a, StringMatcher);
    if (m->match_type_case == ist_StringMatch_MATCH_TYPE_EXACT) {
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_EXACT;
        s->exact = tr_text(a, mz_str_c(m->exact));
    } else if (m->match_type_case == ist_StringMatch_MATCH_TYPE_PREFIX) {
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_PREFIX;
        s->prefix = tr_text(a, mz_str_c(m->prefix));
    } else {
        s->match_pattern_case = pb_StringMatcher_MATCH_PATTERN_SAFE_REGEX;
        s->safe_regex = regex(a, m->regex);
    }
    return s;
}

static pb_HeaderMatcher *header(struct mz_arena *a, const char *name, const ist_StringMatch *m)
{
    pb_HeaderMatcher *h = TR_NEW(a, HeaderMatcher);
    h->name = tr_text(a, mz_str_c(name));
    h->string_match = tr_string_matcher(a, m);
    h->header_match_specifier_case = h->string_match
                                         ? pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH
                                         : pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_PRESENT_MATCH;
    if (!h->string_match)
        h->present_match = true;
    return h;
}

/* ---- claims of a token that was checked: "@request.auth.claims.a.b", "@request.auth.claims[a][b]" ---- */

static void add_segment(struct mz_arena *a, pb_MetadataMatcher *m, struct mz_str key)
{
    pb_MetadataMatcher_PathSegment *s = TR_NEW(a, MetadataMatcher_PathSegment);
    s->segment_case = pb_MetadataMatcher_PathSegment_SEGMENT_KEY;
    s->key = tr_text(a, key);
    TR_ADD(a, m, path) = s;
}

static bool add_claims(struct mz_arena *a, pb_MetadataMatcher *m, struct mz_str name)
{
    const struct mz_str prefix = MZ_STR("@request.auth.claims");
    if (!mz_str_istarts(name, prefix))
        return false;
    name = mz_str_skip(name, prefix.n);
    const bool dots = mz_str_starts(name, MZ_STR(".")) && name.n > 1;
    if (!dots &&
        !(mz_str_starts(name, MZ_STR("[")) && mz_str_ends(name, MZ_STR("]")) && name.n > 2))
        return false;
    add_segment(a, m, MZ_STR("payload"));
    name = mz_str_skip(name, 1);
    if (dots) {
        for (struct mz_str one; mz_str_split(&name, '.', &one);)
            add_segment(a, m, one);
        return true;
    }
    name.n--;
    for (ptrdiff_t at; (at = mz_str_find(name, MZ_STR("]["))) >= 0;
         name = mz_str_skip(name, (size_t)at + 2))
        add_segment(a, m, (struct mz_str){ name.p, (size_t)at });
    add_segment(a, m, name);
    return true;
}

static pb_ValueMatcher *text_value(struct mz_arena *a, const ist_StringMatch *m)
{
    pb_ValueMatcher *v = TR_NEW(a, ValueMatcher);
    v->string_match = tr_string_matcher(a, m);
    v->match_pattern_case = v->string_match ? pb_ValueMatcher_MATCH_PATTERN_STRING_MATCH
                                            : pb_ValueMatcher_MATCH_PATTERN_PRESENT_MATCH;
    if (!v->string_match)
        v->present_match = true;
    return v;
}

/* A claim is a text, or a list of which one will do. NULL: the name means a header. */
static pb_MetadataMatcher *claim(struct mz_arena *a, const char *name, const ist_StringMatch *in)
{
    pb_MetadataMatcher *m = TR_NEW(a, MetadataMatcher);
    if (!add_claims(a, m, mz_str_c(name)))
        return NULL;
    pb_ValueMatcher *list = TR_NEW(a, ValueMatcher), *value = text_value(a, in);
    list->match_pattern_case = pb_ValueMatcher_MATCH_PATTERN_LIST_MATCH;
    list->list_match = TR_NEW(a, ListMatcher);
    list->list_match->match_pattern_case = pb_ListMatcher_MATCH_PATTERN_ONE_OF;
    list->list_match->one_of = value;
    m->filter = TR_CONST("envoy.filters.http.jwt_authn");
    m->value = TR_NEW(a, ValueMatcher);
    m->value->match_pattern_case = pb_ValueMatcher_MATCH_PATTERN_OR_MATCH;
    m->value->or_match = TR_NEW(a, OrMatcher);
    TR_ADD(a, m->value->or_match, value_matchers) = list;
    TR_ADD(a, m->value->or_match, value_matchers) = value;
    return m;
}

/* ---- matches ---- */

static void put_path(const struct tr_routing *r, const ist_StringMatch *uri, pb_RouteMatch *m)
{
    struct mz_arena *a = r->a;
    if (!uri || uri->match_type_case == ist_StringMatch_MATCH_TYPE__NOT_SET)
        return;
    if (uri->match_type_case == ist_StringMatch_MATCH_TYPE_EXACT) {
        m->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PATH;
        m->path = tr_text(a, mz_str_c(uri->exact));
    } else if (uri->match_type_case == ist_StringMatch_MATCH_TYPE_REGEX) {
        m->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_SAFE_REGEX;
        m->safe_regex = regex(a, uri->regex);
    } else if (r->vs->semantics == MZ_SEMANTICS_ISTIO || strcmp(uri->prefix, "/") == 0) {
        m->prefix = tr_text(a, mz_str_c(uri->prefix));
    } else {
        struct mz_str path = mz_str_c(uri->prefix);
        path.n -= mz_str_ends(path, MZ_STR("/"));
        m->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PATH_SEPARATED_PREFIX;
        m->path_separated_prefix = tr_text(a, path);
    }
}

static void add_matcher(struct mz_arena *a, pb_RouteMatch *out, const char *name,
                        const ist_StringMatch *m, bool without)
{
    pb_MetadataMatcher *c = claim(a, name, m);
    if (c) {
        c->invert = without;
        TR_ADD(a, out, dynamic_metadata) = c;
        return;
    }
    pb_HeaderMatcher *h = header(a, name, m);
    h->invert_match = without;
    h->treat_missing_header_as_empty =
        without &&
        h->header_match_specifier_case == pb_HeaderMatcher_HEADER_MATCH_SPECIFIER_STRING_MATCH;
    TR_ADD(a, out, headers) = h;
}

static void sort_headers(struct mz_arena *a, pb_RouteMatch *m)
{
    struct tr_keyed *v = mz_arena_alloc(a, m->n_headers * sizeof(*v));
    for (size_t i = 0; i < m->n_headers; i++)
        v[i] = (struct tr_keyed){ m->headers[i]->name, m->headers[i], 0 };
    tr_sort(v, m->n_headers);
    for (size_t i = 0; i < m->n_headers; i++)
        m->headers[i] = v[i].what;
}

static void add_parameters(struct mz_arena *a, const ist_HTTPMatchRequest *m, pb_RouteMatch *out)
{
    for (size_t i = 0; i < m->n_query_params; i++) {
        pb_QueryParameterMatcher *q = TR_NEW(a, QueryParameterMatcher);
        q->name = tr_text(a, mz_str_c(m->query_params[i]->key));
        q->string_match = tr_string_matcher(a, m->query_params[i]->value);
        q->query_parameter_match_specifier_case =
            q->string_match
                ? pb_QueryParameterMatcher_QUERY_PARAMETER_MATCH_SPECIFIER_STRING_MATCH
                : pb_QueryParameterMatcher_QUERY_PARAMETER_MATCH_SPECIFIER_PRESENT_MATCH;
        if (!q->string_match)
            q->present_match = true;
        TR_ADD(a, out, query_parameters) = q;
    }
}

pb_RouteMatch *tr_route_match(const struct tr_routing *r, const ist_HTTPMatchRequest *m)
{
    struct mz_arena *a = r->a;
    pb_RouteMatch *out = TR_NEW(a, RouteMatch);
    out->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PREFIX;
    out->prefix = TR_CONST("/");
    if (!m)
        return out;
    put_path(r, m->uri, out);
    out->case_sensitive = tr_bool(a, !m->ignore_uri_case);
    for (size_t i = 0; i < m->n_headers; i++)
        add_matcher(a, out, m->headers[i]->key, m->headers[i]->value, false);
    for (size_t i = 0; i < m->n_without_headers; i++)
        add_matcher(a, out, m->without_headers[i]->key, m->without_headers[i]->value, true);
    sort_headers(a, out);
    if (m->method)
        TR_ADD(a, out, headers) = header(a, ":method", m->method);
    if (m->authority)
        TR_ADD(a, out, headers) = header(a, ":authority", m->authority);
    if (m->scheme)
        TR_ADD(a, out, headers) = header(a, ":scheme", m->scheme);
    add_parameters(a, m, out);
    return out;
}

bool tr_matches_everything(const pb_RouteMatch *m)
{
    const bool any = m->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_PREFIX
                         ? strcmp(m->prefix, "/") == 0
                     : m->path_specifier_case == pb_RouteMatch_PATH_SPECIFIER_SAFE_REGEX
                         ? strcmp(m->safe_regex->regex, ".*") == 0
                         : false;
    return any && !m->n_headers && !m->n_query_parameters && !m->n_dynamic_metadata;
}
