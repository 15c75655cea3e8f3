/*
 * Rules for the Gateway API and Ingress: what the API server refuses, as far as it would harm a proxy or leave open what is meant. So
 * names, sizes and expressions of one document cannot make a proxy refuse what others say (H01-H03).
 */
#include <stdio.h>

#include "base/regex.h"
#include "control/analyze/check_priv.h"
#include "control/model/model.h"

enum { MAX_NAME = 253, MAX_PATH = 1024, MAX_VALUE = 4096, MAX_HEADER = 256, MAX_MATCHES = 128 };

/* ---- texts ---- */

static bool is_among(const char *v, const char *const *words)
{
    for (; *words; words++)
        if (strcmp(v, *words) == 0)
            return true;
    return false;
}
#define AMONG(v, ...) is_among((v), (const char *const[]){ __VA_ARGS__, NULL })

static bool one_of(const char *v, const char *path, const char *const *words, struct mz_err *err)
{
    return is_among(v, words) || AT(mz_err_set(err, "\"%.60s\" is not known", v), "%s", path);
}
#define ONE_OF(v, path, ...) one_of((v), (path), (const char *const[]){ __VA_ARGS__, NULL }, err)

static bool count(size_t n, size_t most, const char *path, struct mz_err *err)
{
    return n <= most ||
           AT(mz_err_set(err, "has %zu items, at most %zu may be", n, most), "%s", path);
}

static bool length(const char *v, size_t most, const char *path, struct mz_err *err)
{
    return strlen(v) <= most || AT(mz_err_set(err, "is longer than %zu bytes", most), "%s", path);
}

static bool is_name_byte(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
}

/* Labels of lower case letters, digits and '-', with dots between them. */
static bool is_dns(const char *v)
{
    const size_t n = strlen(v);
    for (size_t i = 0; i < n; i++) {
        const bool edge = i == 0 || i + 1 == n || v[i - 1] == '.' || v[i + 1] == '.';
        if (v[i] == '.' ? edge && (i == 0 || i + 1 == n || v[i + 1] == '.')
                        : !is_name_byte(v[i]) && (v[i] != '-' || edge))
            return false;
    }
    return n > 0 && n <= MAX_NAME;
}

static bool dns(const char *v, const char *path, struct mz_err *err)
{
    return is_dns(v) || AT(mz_err_set(err, "\"%.100s\" is not a name", v), "%s", path);
}

static bool hostname(const char *v, const char *path, struct mz_err *err)
{
    return is_dns(strncmp(v, "*.", 2) == 0 ? v + 2 : v) ||
           AT(mz_err_set(err, "\"%.100s\" is not a host name", v), "%s", path);
}

static bool is_token(const char *v)
{
    for (const char *p = v; *p; p++)
        if (!is_name_byte(mz_lower(*p)) && !strchr("!#$%&'*+-.^_`|~", *p))
            return false;
    return *v && strlen(v) <= MAX_HEADER;
}

static bool token(const char *v, const char *path, struct mz_err *err)
{
    return is_token(v) || AT(mz_err_set(err, "\"%.100s\" is not a header name", v), "%s", path);
}

static bool printable(const char *v, const char *path, struct mz_err *err)
{
    for (const unsigned char *p = (const unsigned char *)v; *p; p++)
        if ((*p < 0x20 && *p != '\t') || *p == 0x7f)
            return AT(mz_err_set(err, "has bytes that cannot be sent"), "%s", path);
    return length(v, MAX_VALUE, path, err);
}

static bool port(int32_t v, const char *path, struct mz_err *err)
{
    return (v >= 1 && v <= UINT16_MAX) ||
           AT(mz_err_set(err, "must be in 1..65535, is %d", v), "%s", path);
}

static bool optional_port(const pb_Int32Value *v, struct mz_err *err)
{
    return !v || port(v->value, "port", err);
}

static bool duration(const pb_Duration *d, const char *path, struct mz_err *err)
{
    uint64_t ms;
    return !d || mz_duration_ms(d, 0, &ms, err) || mz_err_at(err, "%s", path);
}

/* ---- references ---- */

struct reference {
    const pb_StringValue *kind, *ns;
    const char *name;
};

static bool reference(const struct reference *r, struct mz_err *err)
{
    if (!r->name[0])
        return AT(mz_err_set(err, "is required"), "name");
    if (!length(r->name, MAX_NAME, "name", err) || !printable(r->name, "name", err))
        return false;
    if (strpbrk(r->name, "/|"))
        return AT(mz_err_set(err, "\"%.100s\" is not a name", r->name), "name");
    if (r->ns && !dns(r->ns->value, "namespace", err))
        return false;
    return !r->kind ||
           (length(r->kind->value, 63, "kind", err) && printable(r->kind->value, "kind", err));
}
#define REFERENCE(r) reference(&(struct reference){ (r)->kind, (r)->namespace_, (r)->name }, err)

static bool parents(k8s_ParentReference *const *v, size_t n, struct mz_err *err)
{
    if (!count(n, 32, "parentRefs", err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!REFERENCE(v[i]) || !optional_port(v[i]->port, err) ||
            (v[i]->sectionname && !dns(v[i]->sectionname->value, "sectionName", err)))
            return mz_err_at(err, "parentRefs[%zu]", i);
    return true;
}

static bool filters(k8s_HTTPRouteFilter *const *v, size_t n, struct mz_err *err);

static bool backends(k8s_BackendRef *const *v, size_t n, struct mz_err *err)
{
    if (!count(n, 16, "backendRefs", err))
        return false;
    for (size_t i = 0; i < n; i++) {
        const int32_t w = v[i]->weight ? v[i]->weight->value : 1;
        bool ok = REFERENCE(v[i]) && optional_port(v[i]->port, err) &&
                  filters(v[i]->filters, v[i]->n_filters, err);
        if (ok && (w < 0 || w > 1000000))
            ok = AT(mz_err_set(err, "must be in 0..1000000, is %d", w), "weight");
        if (!ok)
            return mz_err_at(err, "backendRefs[%zu]", i);
    }
    return true;
}

/* ---- matches ---- */

static bool plain_path(const char *v, struct mz_err *err)
{
    if (v[0] != '/')
        return mz_err_set(err, "must begin with \"/\"");
    if (strstr(v, "//") || strstr(v, "/./") || strstr(v, "/../") || strstr(v, "%2f") ||
        strstr(v, "%2F") || mz_str_ends(mz_str_c(v), MZ_STR("/..")) ||
        mz_str_ends(mz_str_c(v), MZ_STR("/.")))
        return mz_err_set(err, "\"%.100s\" is not a path in its plain form", v);
    for (const char *p = v; *p; p++)
        if (!is_name_byte(mz_lower(*p)) && !strchr("-/._~!$&'()*+,;=:@%", *p))
            return mz_err_set(err, "\"%.100s\" has bytes that a path cannot have", v);
    return true;
}

static bool path_match(const k8s_HTTPPathMatch *p, struct mz_err *err)
{
    const char *type = p && p->type ? p->type->value : "PathPrefix";
    const char *v = p && p->value ? p->value->value : "/";
    if (!ONE_OF(type, "type", "Exact", "PathPrefix", "RegularExpression") ||
        !length(v, MAX_PATH, "value", err))
        return false;
    return strcmp(type, "RegularExpression") == 0 ? mz_check_regex(v, "value", err)
                                                  : plain_path(v, err) || mz_err_at(err, "value");
}

static bool value_matches(k8s_HTTPValueMatch *const *v, size_t n, const char *path,
                          struct mz_err *err)
{
    if (!count(n, 16, path, err))
        return false;
    for (size_t i = 0; i < n; i++) {
        const char *type = v[i]->type ? v[i]->type->value : "Exact";
        if (!token(v[i]->name, "name", err) ||
            !ONE_OF(type, "type", "Exact", "RegularExpression") ||
            !printable(v[i]->value, "value", err) ||
            (strcmp(type, "Exact") != 0 && !mz_check_regex(v[i]->value, "value", err)))
            return mz_err_at(err, "%s[%zu]", path, i);
        if (!v[i]->value[0])
            return AT(mz_err_set(err, "is required"), "%s[%zu].value", path, i);
    }
    return true;
}

static bool http_match(const k8s_HTTPRouteMatch *m, struct mz_err *err)
{
    return (path_match(m->path, err) || mz_err_at(err, "path")) &&
           value_matches(m->headers, m->n_headers, "headers", err) &&
           value_matches(m->queryparams, m->n_queryparams, "queryParams", err) &&
           (!m->method || ONE_OF(m->method->value, "method", "GET", "HEAD", "POST", "PUT", "DELETE",
                                 "CONNECT", "OPTIONS", "TRACE", "PATCH"));
}

/* ---- filters ---- */

static bool headers(k8s_HTTPHeader *const *v, size_t n, const char *path, struct mz_err *err)
{
    if (!count(n, 16, path, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!token(v[i]->name, "name", err) || !length(v[i]->value, MAX_VALUE, "value", err))
            return mz_err_at(err, "%s[%zu]", path, i);
    return true;
}

static bool modifier(const k8s_HTTPHeaderFilter *f, const char *path, struct mz_err *err)
{
    bool ok =
        !f || (headers(f->set, f->n_set, "set", err) && headers(f->add, f->n_add, "add", err) &&
               count(f->n_remove, 16, "remove", err));
    for (size_t i = 0; ok && f && i < f->n_remove; i++)
        ok = token(f->remove[i], "remove", err);
    return ok || mz_err_at(err, "%s", path);
}

static bool path_modifier(const k8s_HTTPPathModifier *p, struct mz_err *err)
{
    if (!p)
        return true;
    if (!ONE_OF(p->type, "type", "ReplaceFullPath", "ReplacePrefixMatch"))
        return mz_err_at(err, "path");
    const bool full = strcmp(p->type, "ReplaceFullPath") == 0;
    const pb_StringValue *v = full ? p->replacefullpath : p->replaceprefixmatch;
    const char *name = full ? "replaceFullPath" : "replacePrefixMatch";
    if (!v)
        return AT(mz_err_set(err, "is required"), "path.%s", name);
    return (length(v->value, MAX_PATH, name, err) && printable(v->value, name, err)) ||
           mz_err_at(err, "path");
}

static bool redirect(const k8s_HTTPRequestRedirectFilter *f, struct mz_err *err)
{
    const int32_t s = f && f->statuscode ? f->statuscode->value : 302;
    if (!f)
        return true;
    if (s != 301 && s != 302 && s != 303 && s != 307 && s != 308)
        return AT(mz_err_set(err, "%d is no status of a redirect", s),
                  "requestRedirect.statusCode");
    return ((!f->scheme || ONE_OF(f->scheme->value, "scheme", "http", "https")) &&
            (!f->hostname || dns(f->hostname->value, "hostname", err)) &&
            optional_port(f->port, err) && path_modifier(f->path, err)) ||
           mz_err_at(err, "requestRedirect");
}

static bool mirror(const k8s_HTTPRequestMirrorFilter *f, struct mz_err *err)
{
    const int32_t of =
        f && f->fraction && f->fraction->denominator ? f->fraction->denominator->value : 100;
    if (!f)
        return true;
    if (!f->backendref)
        return AT(mz_err_set(err, "is required"), "requestMirror.backendRef");
    if (!REFERENCE(f->backendref) || !optional_port(f->backendref->port, err))
        return mz_err_at(err, "requestMirror.backendRef");
    if (f->percent && f->fraction)
        return AT(mz_err_set(err, "only one of percent and fraction may be there"),
                  "requestMirror");
    if (f->percent && (f->percent->value < 0 || f->percent->value > 100))
        return AT(mz_err_set(err, "must be in 0..100, is %d", f->percent->value),
                  "requestMirror.percent");
    return !f->fraction ||
           (of >= 1 && f->fraction->numerator >= 0 && f->fraction->numerator <= of) ||
           AT(mz_err_set(err, "is not a part of a whole"), "requestMirror.fraction");
}

static bool words(char *const *v, size_t n, size_t most, const char *path, struct mz_err *err)
{
    if (!count(n, most, path, err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!token(v[i], path, err))
            return false;
    return true;
}

static bool origin(const char *v, struct mz_err *err)
{
    const char *rest = strncmp(v, "http://", 7) == 0    ? v + 7
                       : strncmp(v, "https://", 8) == 0 ? v + 8
                                                        : NULL;
    if (strcmp(v, "*") == 0)
        return true;
    for (const char *p = rest; p && *p; p++)
        if (!is_name_byte(mz_lower(*p)) && !strchr("-.:*", *p))
            rest = NULL;
    return (rest && *rest && strlen(v) <= MAX_NAME) ||
           AT(mz_err_set(err, "\"%.100s\" is not an origin", v), "allowOrigins");
}

static bool cors(const k8s_HTTPCORSFilter *f, struct mz_err *err)
{
    bool ok = !f || (count(f->n_alloworigins, 64, "allowOrigins", err) &&
                     words(f->allowmethods, f->n_allowmethods, 9, "allowMethods", err) &&
                     words(f->allowheaders, f->n_allowheaders, 64, "allowHeaders", err) &&
                     words(f->exposeheaders, f->n_exposeheaders, 64, "exposeHeaders", err));
    for (size_t i = 0; ok && f && i < f->n_alloworigins; i++)
        ok = origin(f->alloworigins[i], err);
    if (ok && f && f->maxage < 0)
        ok = AT(mz_err_set(err, "must not be negative"), "maxAge");
    return ok || mz_err_at(err, "cors");
}

static bool rewrite(const k8s_HTTPURLRewriteFilter *f, struct mz_err *err)
{
    return !f ||
           ((!f->hostname || dns(f->hostname->value, "hostname", err)) &&
            path_modifier(f->path, err)) ||
           mz_err_at(err, "urlRewrite");
}

static bool needs(const void *part, const char *type, const char *path, struct mz_err *err)
{
    return part || AT(mz_err_set(err, "is required of a filter of type %s", type), "%s", path);
}

static bool filter(const k8s_HTTPRouteFilter *f, struct mz_err *err)
{
    const struct {
        const char *type, *path;
        const void *part;
    } kinds[] = { { "RequestHeaderModifier", "requestHeaderModifier", f->requestheadermodifier },
                  { "ResponseHeaderModifier", "responseHeaderModifier", f->responseheadermodifier },
                  { "RequestMirror", "requestMirror", f->requestmirror },
                  { "RequestRedirect", "requestRedirect", f->requestredirect },
                  { "URLRewrite", "urlRewrite", f->urlrewrite },
                  { "CORS", "cors", f->cors } };
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (strcmp(f->type, kinds[i].type) == 0 &&
            !needs(kinds[i].part, f->type, kinds[i].path, err))
            return false;
    return printable(f->type, "type", err) && length(f->type, 63, "type", err) &&
           modifier(f->requestheadermodifier, "requestHeaderModifier", err) &&
           modifier(f->responseheadermodifier, "responseHeaderModifier", err) &&
           mirror(f->requestmirror, err) && redirect(f->requestredirect, err) &&
           rewrite(f->urlrewrite, err) && cors(f->cors, err);
}

static bool filters(k8s_HTTPRouteFilter *const *v, size_t n, struct mz_err *err)
{
    if (!count(n, 16, "filters", err))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!filter(v[i], err))
            return mz_err_at(err, "filters[%zu]", i);
        for (size_t k = 0; k < i; k++) {
            const bool twice = strcmp(v[k]->type, v[i]->type) == 0 &&
                               !AMONG(v[i]->type, "RequestMirror", "ExtensionRef");
            const bool both = AMONG(v[k]->type, "RequestRedirect", "URLRewrite") &&
                              AMONG(v[i]->type, "RequestRedirect", "URLRewrite");
            if (twice || both)
                return AT(mz_err_set(err, "cannot stand beside %s", v[k]->type),
                          "filters[%zu].type", i);
        }
    }
    return true;
}

/* ---- routes ---- */

static bool names(char *const *v, size_t n, struct mz_err *err)
{
    if (!count(n, 16, "hostnames", err))
        return false;
    for (size_t i = 0; i < n; i++)
        if (!hostname(v[i], "hostnames", err))
            return false;
    return true;
}

static bool redirects(const k8s_HTTPRouteRule *r)
{
    for (size_t i = 0; i < r->n_filters; i++)
        if (strcmp(r->filters[i]->type, "RequestRedirect") == 0)
            return true;
    return false;
}

static bool retry(const k8s_HTTPRouteRetry *r, struct mz_err *err)
{
    for (size_t i = 0; r && i < r->n_codes; i++)
        if (r->codes[i] < 400 || r->codes[i] > 599)
            return AT(mz_err_set(err, "must be in 400..599, is %d", r->codes[i]),
                      "retry.codes[%zu]", i);
    if (r && r->attempts && (r->attempts->value < 0 || r->attempts->value > 1000))
        return AT(mz_err_set(err, "must be in 0..1000, is %d", r->attempts->value),
                  "retry.attempts");
    return !r || (count(r->n_codes, 64, "retry.codes", err) &&
                  mz_check_is_positive(r->backoff, "retry.backoff", err));
}

static bool timeouts(const k8s_HTTPRouteTimeouts *t, struct mz_err *err)
{
    return !t || ((duration(t->request, "request", err) &&
                   duration(t->backendrequest, "backendRequest", err)) ||
                  mz_err_at(err, "timeouts"));
}

static bool rule_name(const pb_StringValue *v, struct mz_err *err)
{
    return !v || dns(v->value, "name", err);
}

static bool http_rule(const k8s_HTTPRouteRule *r, struct mz_err *err)
{
    if (!rule_name(r->name, err) || !count(r->n_matches, 64, "matches", err) ||
        !filters(r->filters, r->n_filters, err) ||
        !backends(r->backendrefs, r->n_backendrefs, err) || !retry(r->retry, err) ||
        !timeouts(r->timeouts, err))
        return false;
    if (r->n_backendrefs && redirects(r))
        return AT(mz_err_set(err, "a rule that redirects leads nowhere else"), "backendRefs");
    for (size_t i = 0; i < r->n_matches; i++)
        if (!http_match(r->matches[i], err))
            return mz_err_at(err, "matches[%zu]", i);
    return true;
}

static bool http_route(const k8s_HTTPRoute *m, struct mz_err *err)
{
    size_t matches = 0;
    if (!parents(m->parentrefs, m->n_parentrefs, err) ||
        !names(m->hostnames, m->n_hostnames, err) || !count(m->n_rules, 16, "rules", err))
        return false;
    for (size_t i = 0; i < m->n_rules; i++) {
        if (!http_rule(m->rules[i], err))
            return mz_err_at(err, "rules[%zu]", i);
        matches += m->rules[i]->n_matches;
    }
    return matches <= MAX_MATCHES ||
           AT(mz_err_set(err, "has %zu matches, at most %d may be", matches, MAX_MATCHES), "rules");
}

/* Two that are fine may be too large as one. */
static bool grpc_expression(const k8s_GRPCMethodMatch *m, struct mz_err *err)
{
    char whole[2 * MAX_PATH + 8];
    const int n = snprintf(whole, sizeof(whole), "/%s/%s", m->service ? m->service->value : "",
                           m->method ? m->method->value : "");
    struct mz_regex *r = mz_regex_create((struct mz_str){ whole, (size_t)n }, err);
    mz_regex_destroy(r);
    return r != NULL;
}

static bool grpc_method(const k8s_GRPCMethodMatch *m, struct mz_err *err)
{
    const char *type = m && m->type ? m->type->value : "Exact";
    if (!m)
        return true;
    if (!ONE_OF(type, "type", "Exact", "RegularExpression"))
        return false;
    if (!m->service && !m->method)
        return mz_err_set(err, "needs service or method");
    const struct {
        const pb_StringValue *v;
        const char *path;
    } parts[] = { { m->service, "service" }, { m->method, "method" } };
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        const char *v = parts[i].v ? parts[i].v->value : NULL;
        if (!v)
            continue;
        if (!length(v, MAX_PATH, parts[i].path, err))
            return false;
        const bool plain = strcmp(type, "Exact") == 0;
        for (const char *p = v; plain && *p; p++)
            if (!is_name_byte(mz_lower(*p)) && *p != '_' && !(i == 0 && *p == '.'))
                return AT(mz_err_set(err, "\"%.100s\" is not a name of gRPC", v), "%s",
                          parts[i].path);
        if (!v[0])
            return AT(mz_err_set(err, "must not be empty"), "%s", parts[i].path);
        if (!plain && !mz_check_regex(v, parts[i].path, err))
            return false;
    }
    return strcmp(type, "Exact") == 0 || grpc_expression(m, err);
}

static bool grpc_rule(const k8s_GRPCRouteRule *r, struct mz_err *err)
{
    if (!rule_name(r->name, err) || !count(r->n_matches, 64, "matches", err) ||
        !filters(r->filters, r->n_filters, err) || !backends(r->backendrefs, r->n_backendrefs, err))
        return false;
    for (size_t i = 0; i < r->n_matches; i++)
        if (!(grpc_method(r->matches[i]->method, err) || mz_err_at(err, "method")) ||
            !value_matches(r->matches[i]->headers, r->matches[i]->n_headers, "headers", err))
            return mz_err_at(err, "matches[%zu]", i);
    return true;
}

static bool grpc_route(const k8s_GRPCRoute *m, struct mz_err *err)
{
    size_t matches = 0;
    if (!parents(m->parentrefs, m->n_parentrefs, err) ||
        !names(m->hostnames, m->n_hostnames, err) || !count(m->n_rules, 16, "rules", err))
        return false;
    for (size_t i = 0; i < m->n_rules; i++) {
        if (!grpc_rule(m->rules[i], err))
            return mz_err_at(err, "rules[%zu]", i);
        matches += m->rules[i]->n_matches;
    }
    return matches <= MAX_MATCHES ||
           AT(mz_err_set(err, "has %zu matches, at most %d may be", matches, MAX_MATCHES), "rules");
}

static bool l4_route(const k8s_L4Route *m, struct mz_err *err)
{
    if (!parents(m->parentrefs, m->n_parentrefs, err) ||
        !names(m->hostnames, m->n_hostnames, err) || !count(m->n_rules, 16, "rules", err))
        return false;
    for (size_t i = 0; i < m->n_rules; i++)
        if (!backends(m->rules[i]->backendrefs, m->rules[i]->n_backendrefs, err))
            return mz_err_at(err, "rules[%zu]", i);
    return true;
}

/* ---- Gateways ---- */

static bool selector(const k8s_LabelSelector *s, struct mz_err *err)
{
    for (size_t i = 0; s && i < s->n_matchexpressions; i++) {
        const k8s_LabelSelectorRequirement *r = s->matchexpressions[i];
        if (!ONE_OF(r->operator_, "operator", "In", "NotIn", "Exists", "DoesNotExist"))
            return mz_err_at(err, "selector.matchExpressions[%zu]", i);
    }
    return true;
}

static bool namespaces(const k8s_RouteNamespaces *n, struct mz_err *err)
{
    return !n ||
           ((!n->from || ONE_OF(n->from->value, "from", "All", "Same", "Selector", "None")) &&
            selector(n->selector, err)) ||
           mz_err_at(err, "namespaces");
}

static bool certificate_refs(const k8s_ListenerTLSConfig *t, struct mz_err *err)
{
    if (!count(t->n_certificaterefs, 64, "certificateRefs", err) ||
        (t->mode && !ONE_OF(t->mode->value, "mode", "Terminate", "Passthrough")))
        return false;
    for (size_t i = 0; i < t->n_certificaterefs; i++)
        if (!REFERENCE(t->certificaterefs[i]))
            return mz_err_at(err, "certificateRefs[%zu]", i);
    return true;
}

static bool listener(const k8s_Listener *l, bool set, struct mz_err *err)
{
    const k8s_AllowedRoutes *r = l->allowedroutes;
    if (!dns(l->name, "name", err) ||
        (l->hostname && l->hostname->value[0] && !hostname(l->hostname->value, "hostname", err)))
        return false;
    if (!(set && !l->port) && !port(l->port, "port", err))
        return false;
    if (!l->protocol[0])
        return AT(mz_err_set(err, "is required"), "protocol");
    if (!length(l->protocol, 255, "protocol", err) || !printable(l->protocol, "protocol", err))
        return false;
    if (l->tls && !certificate_refs(l->tls, err))
        return mz_err_at(err, "tls");
    if (strcmp(l->protocol, "HTTP") == 0 && l->tls)
        return AT(mz_err_set(err, "is not for plain HTTP"), "tls");
    if (strcmp(l->protocol, "HTTPS") == 0 && l->tls && l->tls->mode &&
        strcmp(l->tls->mode->value, "Terminate") != 0)
        return AT(mz_err_set(err, "of HTTPS must be Terminate"), "tls.mode");
    return !r || (count(r->n_kinds, 8, "kinds", err) && namespaces(r->namespaces, err)) ||
           mz_err_at(err, "allowedRoutes");
}

static bool listeners(k8s_Listener *const *v, size_t n, bool set, struct mz_err *err)
{
    if (!n && set)
        return AT(mz_err_set(err, "needs at least one"), "listeners");
    if (!count(n, 64, "listeners", err))
        return false;
    for (size_t i = 0; i < n; i++) {
        if (!listener(v[i], set, err))
            return mz_err_at(err, "listeners[%zu]", i);
        for (size_t k = 0; k < i; k++)
            if (strcmp(v[k]->name, v[i]->name) == 0)
                return AT(mz_err_set(err, "\"%.100s\" stands twice", v[i]->name),
                          "listeners[%zu].name", i);
    }
    return true;
}

static bool gateway(const k8s_Gateway *m, struct mz_err *err)
{
    if (!m->gatewayclassname[0])
        return AT(mz_err_set(err, "is required"), "gatewayClassName");
    if (!dns(m->gatewayclassname, "gatewayClassName", err) ||
        !count(m->n_addresses, 16, "addresses", err))
        return false;
    for (size_t i = 0; i < m->n_addresses; i++)
        if (!length(m->addresses[i]->value, MAX_NAME, "value", err) ||
            !printable(m->addresses[i]->value, "value", err))
            return mz_err_at(err, "addresses[%zu]", i);
    return listeners(m->listeners, m->n_listeners, false, err);
}

static bool listener_set(const k8s_ListenerSet *m, struct mz_err *err)
{
    if (!m->parentref)
        return AT(mz_err_set(err, "is required"), "parentRef");
    return (REFERENCE(m->parentref) || mz_err_at(err, "parentRef")) &&
           listeners(m->listeners, m->n_listeners, true, err);
}

static bool grant(const k8s_ReferenceGrant *m, struct mz_err *err)
{
    if (!count(m->n_from, 16, "from", err) || !count(m->n_to, 16, "to", err))
        return false;
    for (size_t i = 0; i < m->n_from; i++)
        if (!m->from[i]->kind[0] || !is_dns(m->from[i]->namespace_))
            return AT(mz_err_set(err, "needs kind and namespace"), "from[%zu]", i);
    for (size_t i = 0; i < m->n_to; i++)
        if (!m->to[i]->kind[0])
            return AT(mz_err_set(err, "is required"), "to[%zu].kind", i);
    return true;
}

static bool tls_policy(const k8s_BackendTLSPolicy *m, struct mz_err *err)
{
    const k8s_BackendTLSPolicyValidation *v = m->validation;
    if (!v)
        return AT(mz_err_set(err, "is required"), "validation");
    if (!count(m->n_targetrefs, 16, "targetRefs", err) ||
        !(dns(v->hostname, "hostname", err) || mz_err_at(err, "validation")) ||
        !count(v->n_subjectaltnames, 5, "validation.subjectAltNames", err))
        return false;
    if (!v->n_cacertificaterefs == !v->wellknowncacertificates)
        return AT(mz_err_set(err, "needs caCertificateRefs or wellKnownCACertificates, not both"),
                  "validation");
    for (size_t i = 0; i < v->n_subjectaltnames; i++)
        if (!printable(v->subjectaltnames[i]->uri, "uri", err) ||
            !printable(v->subjectaltnames[i]->hostname, "hostname", err))
            return mz_err_at(err, "validation.subjectAltNames[%zu]", i);
    for (size_t i = 0; i < m->n_targetrefs; i++)
        if (!m->targetrefs[i]->kind[0] || !is_dns(m->targetrefs[i]->name))
            return AT(mz_err_set(err, "needs kind and name"), "targetRefs[%zu]", i);
    return true;
}

/* ---- Ingress ---- */

static bool ingress_path(const k8s_HTTPIngressPath *p, struct mz_err *err)
{
    const char *type = p->pathtype ? p->pathtype->value : "ImplementationSpecific";
    const bool old = strcmp(type, "ImplementationSpecific") == 0;
    const k8s_IngressServiceBackend *b = p->backend ? p->backend->service : NULL;
    if (!ONE_OF(type, "pathType", "Exact", "Prefix", "ImplementationSpecific") ||
        !length(p->path, MAX_PATH, "path", err))
        return false;
    if (!(old && (!p->path[0] || strchr("*.", p->path[0]))) && !plain_path(p->path, err))
        return mz_err_at(err, "path");
    if (!b)
        return true; /* a resource, which is for others */
    if (!is_dns(b->name))
        return AT(mz_err_set(err, "\"%.100s\" is not a name", b->name), "backend.service.name");
    return !b->port || !b->port->number ||
           port(b->port->number, "backend.service.port.number", err);
}

static bool ingress_rule(const k8s_IngressRule *r, struct mz_err *err)
{
    if (r->host[0] && !hostname(r->host, "host", err))
        return false;
    for (size_t i = 0; r->http && i < r->http->n_paths; i++)
        if (!ingress_path(r->http->paths[i], err))
            return mz_err_at(err, "http.paths[%zu]", i);
    return true;
}

static bool ingress(const k8s_Ingress *m, struct mz_err *err)
{
    for (size_t i = 0; i < m->n_tls; i++) {
        if (m->tls[i]->secretname[0] && !is_dns(m->tls[i]->secretname))
            return AT(mz_err_set(err, "\"%.100s\" is not a name", m->tls[i]->secretname),
                      "tls[%zu].secretName", i);
        for (size_t k = 0; k < m->tls[i]->n_hosts; k++)
            if (!hostname(m->tls[i]->hosts[k], "hosts", err))
                return mz_err_at(err, "tls[%zu]", i);
    }
    for (size_t i = 0; i < m->n_rules; i++)
        if (!ingress_rule(m->rules[i], err))
            return mz_err_at(err, "rules[%zu]", i);
    return true;
}

bool mz_check_gateway_api(enum mz_kind k, const ProtobufCMessage *m, struct mz_err *err)
{
    switch (k) {
    case MZ_KIND_K8S_GATEWAY:
        return gateway((const k8s_Gateway *)m, err);
    case MZ_KIND_LISTENER_SET:
        return listener_set((const k8s_ListenerSet *)m, err);
    case MZ_KIND_HTTP_ROUTE:
        return http_route((const k8s_HTTPRoute *)m, err);
    case MZ_KIND_GRPC_ROUTE:
        return grpc_route((const k8s_GRPCRoute *)m, err);
    case MZ_KIND_TCP_ROUTE:
    case MZ_KIND_TLS_ROUTE:
        return l4_route((const k8s_L4Route *)m, err);
    case MZ_KIND_REFERENCE_GRANT:
        return grant((const k8s_ReferenceGrant *)m, err);
    case MZ_KIND_BACKEND_TLS_POLICY:
        return tls_policy((const k8s_BackendTLSPolicy *)m, err);
    case MZ_KIND_INGRESS:
        return ingress((const k8s_Ingress *)m, err);
    default:
        return true;
    }
}
