/* Rules for VirtualServices: what Istio's webhook refuses, and what would make proxies refuse the routes made of it. */
#include <string.h>

#include "base/map.h"
#include "base/regex.h"
#include "control/analyze/check_priv.h"

enum { MAX_REGEX = 1024 }; /* as Istio has it */

/* ---- parts ---- */

bool mz_check_regex(const char *text, const char *path, struct mz_err *err)
{
    if (strlen(text) > MAX_REGEX)
        return AT(mz_err_set(err, "is longer than %d bytes", MAX_REGEX), "%s", path);
    struct mz_regex *r = mz_regex_create(mz_str_c(text), err);
    mz_regex_destroy(r);
    return r || mz_err_at(err, "%s", path);
}

static bool match(const ist_StringMatch *m, const char *path, struct mz_err *err)
{
    if (!m || m->match_type_case != ist_StringMatch_MATCH_TYPE_REGEX)
        return true;
    if (!m->regex[0])
        return AT(mz_err_set(err, "must not be empty"), "%s.regex", path);
    return mz_check_regex(m->regex, "regex", err) || mz_err_at(err, "%s", path);
}

/* Nothing begins with nothing: proxies refuse it, but of a path. */
static bool match_some(const ist_StringMatch *m, const char *path, struct mz_err *err)
{
    if (m && m->match_type_case == ist_StringMatch_MATCH_TYPE_PREFIX && !m->prefix[0])
        return AT(mz_err_set(err, "must not be empty"), "%s.prefix", path);
    return match(m, path, err);
}

static bool header_name(const char *name, const char *path, struct mz_err *err)
{
    for (const char *c = name; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
              strchr("!#$%&'*+-.^_`|~", *c)) &&
            !(c == name && *c == ':'))
            return AT(mz_err_set(err, "\"%.100s\" is not a name of a header", name), "%s", path);
    return name[0] ? true : AT(mz_err_set(err, "a header without a name"), "%s", path);
}

static bool percentage(const ist_Percent *p, const char *path, struct mz_err *err)
{
    if (!p || (p->value >= 0 && p->value <= 100)) {
        if (!p || p->value == 0 || p->value >= 0.0001)
            return true;
        return AT(mz_err_set(err, "the smallest one above 0 is 0.0001, is %g", p->value),
                  "%s.value", path);
    }
    return AT(mz_err_set(err, "must be in 0..100, is %g", p->value), "%s.value", path);
}

static bool destination(const ist_Destination *d, struct mz_err *err)
{
    if (!d)
        return mz_err_set(err, "is required");
    if (!d->host[0])
        return AT(mz_err_set(err, "is required"), "host");
    if (strcmp(d->host, "*") == 0 || !mz_check_is_host(mz_str_c(d->host)))
        return AT(mz_err_set(err, "\"%.100s\" is not a host", d->host), "host");
    if (d->subset[0] && !mz_check_is_dns_label(mz_str_c(d->subset)))
        return AT(mz_err_set(err, "\"%.100s\" is not a label", d->subset), "subset");
    if (d->port && (d->port->number < 1 || d->port->number > UINT16_MAX))
        return AT(mz_err_set(err, "must be in 1..65535, is %u", d->port->number), "port.number");
    return true;
}

static bool total(uint64_t sum, size_t n, struct mz_err *err)
{
    if (n > 1 && !sum)
        return AT(mz_err_set(err, "all weights are 0"), "route");
    return sum <= UINT32_MAX ||
           AT(mz_err_set(err, "the weights together are more than %u", UINT32_MAX), "route");
}

static bool weight(int32_t w, struct mz_err *err)
{
    return w >= 0 ? true : AT(mz_err_set(err, "must not be negative, is %d", w), "weight");
}

/* ---- matches ---- */

#define ENTRIES(m, field, ok)                                                                      \
    for (size_t i = 0; i < (m)->n_##field; i++)                                                    \
        if (!(ok))                                                                                 \
            return mz_err_at(err, #field);

/* "@request.auth.claims.a.b" or "@request.auth.claims[a][b]" */
static bool is_claim(const char *name)
{
    const struct mz_str prefix = MZ_STR("@request.auth.claims"), all = mz_str_c(name),
                        s = mz_str_istarts(all, prefix) ? mz_str_skip(all, prefix.n) : MZ_STR("");
    return (s.n > 1 && s.p[0] == '.') || (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']');
}

static bool name_or_claim(const char *name, struct mz_err *err)
{
    static const char *const pseudo[] = { ":method", ":scheme", ":authority", ":path", ":status" };
    for (size_t i = 0; i < MZ_COUNT(pseudo); i++)
        if (strcmp(name, pseudo[i]) == 0)
            return true;
    if (name[0] == ':')
        return mz_err_set(err, "\"%.100s\" is not a name of a header", name);
    return is_claim(name) || header_name(name, "name", err);
}

/* As an expression "*" stands for any value. */
static bool without(const ist_StringMatch *m, const char *path, struct mz_err *err)
{
    return (m && m->match_type_case == ist_StringMatch_MATCH_TYPE_REGEX &&
            strcmp(m->regex, "*") == 0) ||
           match_some(m, path, err);
}

static bool gateway_names(char *const *v, size_t n, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct mz_str s = mz_str_c(v[i]);
        const ptrdiff_t slash = mz_str_chr(s, '/');
        const struct mz_str ns = { s.p, slash < 0 ? 0 : (size_t)slash };
        const bool ok = slash < 0 ? mz_check_is_fqdn(s)
                                  : mz_check_is_dns_label(ns) &&
                                        mz_check_is_dns_label(mz_str_skip(s, ns.n + 1));
        if (!ok)
            return AT(mz_err_set(err, "\"%.100s\" is neither name nor namespace/name", v[i]),
                      "gateways[%zu]", i);
    }
    return true;
}

static bool http_match(const ist_HTTPMatchRequest *m, struct mz_err *err)
{
    ENTRIES(m, headers,
            name_or_claim(m->headers[i]->key, err) &&
                match_some(m->headers[i]->value, m->headers[i]->key, err));
    ENTRIES(m, without_headers,
            name_or_claim(m->without_headers[i]->key, err) &&
                without(m->without_headers[i]->value, m->without_headers[i]->key, err));
    ENTRIES(m, query_params, match_some(m->query_params[i]->value, m->query_params[i]->key, err));
    MZ_CHECK_LABELS(m, source_labels);
    if (m->port > UINT16_MAX)
        return AT(mz_err_set(err, "must be in 1..65535, is %u", m->port), "port");
    if (m->source_namespace[0] && !mz_check_is_dns_label(mz_str_c(m->source_namespace)))
        return AT(mz_err_set(err, "\"%.100s\": no such namespace can be", m->source_namespace),
                  "source_namespace");
    return match(m->uri, "uri", err) && match_some(m->scheme, "scheme", err) &&
           match_some(m->method, "method", err) && match_some(m->authority, "authority", err) &&
           gateway_names(m->gateways, m->n_gateways, err);
}

/* ---- what is done ---- */

/* Only what was found by its begin can be replaced. */
static bool only_prefixes(const ist_HTTPRoute *r, struct mz_err *err)
{
    for (size_t i = 0; i < r->n_match; i++) {
        const ist_StringMatch *m = r->match[i]->uri;
        if (m && m->match_type_case != ist_StringMatch_MATCH_TYPE_PREFIX)
            return AT(mz_err_set(err, "needs a prefix wherever a uri is matched"),
                      "prefix_rewrite");
    }
    return true;
}

static bool redirect(const ist_HTTPRoute *of, struct mz_err *err)
{
    const ist_HTTPRedirect *r = of->redirect;
    static const uint32_t codes[] = { 0, 301, 302, 303, 307, 308 };
    bool known = false;
    for (size_t i = 0; i < sizeof(codes) / sizeof(*codes); i++)
        known |= r->redirect_code == codes[i];
    if (!known)
        return AT(mz_err_set(err, "%u is none of 301, 302, 303, 307, 308", r->redirect_code),
                  "redirect_code");
    if (!r->uri[0] && !r->authority[0] && !r->scheme[0] && !r->prefix_rewrite[0] &&
        r->redirect_port_case == ist_HTTPRedirect_REDIRECT_PORT__NOT_SET)
        return mz_err_set(err, "says nothing: uri, authority, scheme or port is needed");
    if (r->redirect_port_case == ist_HTTPRedirect_REDIRECT_PORT_PORT &&
        (!r->port || r->port > UINT16_MAX))
        return AT(mz_err_set(err, "must be in 1..65535, is %u", r->port), "port");
    if (r->scheme[0] && strcmp(r->scheme, "http") != 0 && strcmp(r->scheme, "https") != 0)
        return AT(mz_err_set(err, "\"%.40s\" is neither http nor https", r->scheme), "scheme");
    if (r->uri[0] && r->prefix_rewrite[0])
        return mz_err_set(err, "has both uri and prefix_rewrite");
    return !r->prefix_rewrite[0] || only_prefixes(of, err);
}

static bool direct_response(const ist_HTTPDirectResponse *r, struct mz_err *err)
{
    const struct mz_str text = mz_str_c(
        r->body && r->body->specifier_case == ist_HTTPBody_SPECIFIER_STRING ? r->body->string : "");
    const size_t n = r->body && r->body->specifier_case == ist_HTTPBody_SPECIFIER_BYTES
                         ? r->body->bytes.len
                         : text.n;
    if (r->status < 200 || r->status > 599)
        return AT(mz_err_set(err, "must be in 200..599, is %u", r->status), "status");
    return n <= 1 << 20 || AT(mz_err_set(err, "is larger than 1 MiB"), "body");
}

static bool rewrite(const ist_HTTPRewrite *w, struct mz_err *err)
{
    const ist_RegexRewrite *r = w->uri_regex_rewrite;
    if (!w->uri[0] && !w->authority[0] && !r)
        return mz_err_set(err, "says nothing: uri, authority or uri_regex_rewrite is needed");
    if (r && w->uri[0])
        return mz_err_set(err, "has both uri and uri_regex_rewrite");
    if (r && (!r->match[0] || !r->rewrite[0]))
        return AT(mz_err_set(err, "needs match and rewrite"), "uri_regex_rewrite");
    return !r || mz_check_regex(r->match, "uri_regex_rewrite.match", err);
}

/* A status that HTTP has a name for. */
static bool is_status(struct mz_str s)
{
    static const uint16_t ranges[][2] = { { 100, 103 }, { 200, 208 }, { 226, 226 }, { 300, 305 },
                                          { 307, 308 }, { 400, 418 }, { 421, 426 }, { 428, 429 },
                                          { 431, 431 }, { 451, 451 }, { 500, 508 }, { 510, 511 } };
    uint64_t n;
    for (size_t i = 0; mz_str_u64(s, &n) && i < MZ_COUNT(ranges); i++)
        if (n >= ranges[i][0] && n <= ranges[i][1])
            return true;
    return false;
}

static bool is_reason(struct mz_str s)
{
    static const char *const words[] = { "5xx",
                                         "gateway-error",
                                         "reset",
                                         "reset-before-request",
                                         "connect-failure",
                                         "retriable-4xx",
                                         "refused-stream",
                                         "retriable-status-codes",
                                         "retriable-headers",
                                         "envoy-ratelimited",
                                         "http3-post-connect-failure",
                                         "cancelled",
                                         "deadline-exceeded",
                                         "internal",
                                         "resource-exhausted",
                                         "unavailable" };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(s, mz_str_c(words[i])))
            return true;
    return is_status(s);
}

bool mz_check_retries(const ist_HTTPRetry *r, struct mz_err *err)
{
    struct mz_str rest = mz_str_c(r->retry_on), one;
    while (mz_str_split(&rest, ',', &one))
        if (!is_reason(one))
            return AT(
                mz_err_set(err, "\"%.*s\" is not known", (int)(one.n < 60 ? one.n : 60), one.p),
                "retry_on");
    if (r->attempts < 0)
        return AT(mz_err_set(err, "must not be negative, is %d", r->attempts), "attempts");
    if (!r->attempts && (r->per_try_timeout || r->retry_on[0] || r->retry_remote_localities))
        return mz_err_set(err, "says how, but attempts is 0");
    return mz_check_is_positive(r->per_try_timeout, "per_try_timeout", err) &&
           mz_check_is_positive(r->backoff, "backoff", err);
}

static bool grpc_status(const char *name)
{
    static const char *const names[] = { "OK",
                                         "CANCELLED",
                                         "UNKNOWN",
                                         "INVALID_ARGUMENT",
                                         "DEADLINE_EXCEEDED",
                                         "NOT_FOUND",
                                         "ALREADY_EXISTS",
                                         "PERMISSION_DENIED",
                                         "RESOURCE_EXHAUSTED",
                                         "FAILED_PRECONDITION",
                                         "ABORTED",
                                         "OUT_OF_RANGE",
                                         "UNIMPLEMENTED",
                                         "INTERNAL",
                                         "UNAVAILABLE",
                                         "DATA_LOSS",
                                         "UNAUTHENTICATED" };
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        if (strcmp(name, names[i]) == 0)
            return true;
    return false;
}

static bool abort_fault(const ist_HTTPFaultInjection_Abort *a, struct mz_err *err)
{
    if (a->error_type_case == ist_HTTPFaultInjection_Abort_ERROR_TYPE__NOT_SET)
        return mz_err_set(err, "needs http_status or grpc_status");
    if (a->error_type_case == ist_HTTPFaultInjection_Abort_ERROR_TYPE_HTTP_STATUS &&
        (a->http_status < 200 || a->http_status > 599))
        return AT(mz_err_set(err, "must be in 200..599, is %d", a->http_status), "http_status");
    if (a->error_type_case == ist_HTTPFaultInjection_Abort_ERROR_TYPE_GRPC_STATUS &&
        !grpc_status(a->grpc_status))
        return AT(mz_err_set(err, "\"%.40s\" is no status", a->grpc_status), "grpc_status");
    return percentage(a->percentage, "percentage", err);
}

static bool fault(const ist_HTTPFaultInjection *f, struct mz_err *err)
{
    if (!f->delay && !f->abort)
        return mz_err_set(err, "needs delay or abort");
    if (f->abort && !abort_fault(f->abort, err))
        return mz_err_at(err, "abort");
    if (!f->delay)
        return true;
    if (f->delay->percent < 0 || f->delay->percent > 100)
        return AT(mz_err_set(err, "must be in 0..100, is %d", f->delay->percent), "delay.percent");
    return (f->delay->fixed_delay || AT(mz_err_set(err, "is required"), "delay.fixed_delay")) &&
           mz_check_is_positive(f->delay->fixed_delay, "delay.fixed_delay", err) &&
           percentage(f->delay->percentage, "delay.percentage", err);
}

static bool is_method(const char *name)
{
    static const char *const known[] = { "GET",    "HEAD",    "POST",    "PUT",   "PATCH",
                                         "DELETE", "CONNECT", "OPTIONS", "TRACE", "*" };
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (strcmp(name, known[i]) == 0)
            return true;
    return false;
}

static bool origin(const ist_StringMatch *m, struct mz_err *err)
{
    const bool exact = m->match_type_case == ist_StringMatch_MATCH_TYPE_EXACT;
    if (m->match_type_case == ist_StringMatch_MATCH_TYPE__NOT_SET || (exact && !m->exact[0]))
        return mz_err_set(err, "must not be empty");
    return match_some(m, "", err);
}

static bool cors(const ist_CorsPolicy *c, struct mz_err *err)
{
    for (size_t i = 0; i < c->n_allow_origins; i++)
        if (!origin(c->allow_origins[i], err))
            return mz_err_at(err, "allow_origins[%zu]", i);
    for (size_t i = 0; i < c->n_allow_methods; i++)
        if (!is_method(c->allow_methods[i]))
            return AT(mz_err_set(err, "\"%.40s\" is not a method", c->allow_methods[i]),
                      "allow_methods[%zu]", i);
    for (size_t i = 0; i < c->n_allow_headers; i++)
        if (!header_name(c->allow_headers[i], "allow_headers", err))
            return false;
    for (size_t i = 0; i < c->n_expose_headers; i++)
        if (!header_name(c->expose_headers[i], "expose_headers", err))
            return false;
    if (!mz_check_is_positive(c->max_age, "max_age", err))
        return false;
    return !c->max_age || c->max_age->nanos == 0 ||
           AT(mz_err_set(err, "must be whole seconds"), "max_age");
}

/* Behind the "VAR%" or "VAR(b)%" at @c; NULL: it has no end. */
static const char *behind_variable(const char *c)
{
    c += strcspn(c, "%(");
    if (*c == '(') {
        for (; *c && *c != ')'; c++)
            c += *c == '\\' && c[1];
        c += *c == ')';
        c += strspn(c, " ");
    }
    return *c == '%' ? c + 1 : NULL;
}

/* What a proxy would write: "a %VAR(b)% c", with "%%" for a percent sign. Which variables there are is the proxy's. */
static bool header_value(const char *text, struct mz_err *err)
{
    for (const char *c = text; *c; c++)
        if (((unsigned char)*c < ' ' && *c != '\t') || *c == 0x7f)
            return mz_err_set(err, "has a control character");
    for (const char *c = strchr(text, '%'); c; c = strchr(c, '%')) {
        c = c[1] == '%' ? c + 2 : behind_variable(c + 1);
        if (!c)
            return mz_err_set(err, "\"%.100s\": a %% without its end; %%%% is the sign", text);
    }
    return true;
}

static bool is_authority(const char *name)
{
    return mz_str_ieq(mz_str_c(name), MZ_STR(":authority")) ||
           mz_str_ieq(mz_str_c(name), MZ_STR("host"));
}

/* @authority: it may be set. */
static bool changed_name(const char *name, bool authority, const char *path, struct mz_err *err)
{
    if (is_authority(name))
        return authority || AT(mz_err_set(err, "\"%.20s\" cannot be changed", name), "%s", path);
    return (name[0] != ':' ||
            AT(mz_err_set(err, "\"%.100s\" is not a name of a header", name), "%s", path)) &&
           header_name(name, path, err);
}

#define WRITTEN(o, field, authority)                                                               \
    for (size_t i = 0; (o) && i < (o)->n_##field; i++)                                             \
        if (!changed_name((o)->field[i]->key, (authority), #field, err) ||                         \
            (!header_value((o)->field[i]->value, err) && !mz_err_at(err, #field)))                 \
            return false;

static bool operations(const ist_Headers_HeaderOperations *o, bool request, struct mz_err *err)
{
    WRITTEN(o, set, request);
    WRITTEN(o, add, request);
    for (size_t i = 0; o && i < o->n_remove; i++)
        if (!changed_name(o->remove[i], false, "remove", err))
            return false;
    return true;
}

static bool headers(const ist_Headers *h, struct mz_err *err)
{
    return !h || ((operations(h->request, true, err) || mz_err_at(err, "headers.request")) &&
                  (operations(h->response, false, err) || mz_err_at(err, "headers.response")));
}

/* The authority is written at one place. */
static bool one_authority(const ist_HTTPRoute *r, struct mz_err *err)
{
    const ist_Headers_HeaderOperations *o = r->headers ? r->headers->request : NULL;
    unsigned n = r->rewrite && r->rewrite->authority[0];
    for (size_t i = 0; o && i < o->n_set; i++)
        n += is_authority(o->set[i]->key);
    for (size_t i = 0; o && i < o->n_add; i++)
        n += is_authority(o->add[i]->key);
    return n < 2 || AT(mz_err_set(err, "the authority is set more than once"), "headers.request");
}

static bool targets(const ist_HTTPRoute *r, struct mz_err *err)
{
    uint64_t sum = 0;
    for (size_t i = 0; i < r->n_route; i++) {
        const ist_HTTPRouteDestination *d = r->route[i];
        if (!destination(d->destination, err))
            return mz_err_at(err, "route[%zu].destination", i);
        if (!weight(d->weight, err) || !headers(d->headers, err))
            return mz_err_at(err, "route[%zu]", i);
        sum += (uint64_t)d->weight;
    }
    return total(sum, r->n_route, err);
}

static bool mirrors(const ist_HTTPRoute *r, struct mz_err *err)
{
    if (r->mirror && r->n_mirrors)
        return mz_err_set(err, "has both mirror and mirrors");
    if (r->mirror && !destination(r->mirror, err))
        return mz_err_at(err, "mirror");
    if (mz_u32_or(r->mirror_percent, 0) > 100)
        return AT(mz_err_set(err, "must be in 0..100"), "mirror_percent");
    for (size_t i = 0; i < r->n_mirrors; i++)
        if (!destination(r->mirrors[i]->destination, err) ||
            !percentage(r->mirrors[i]->percentage, "percentage", err))
            return mz_err_at(err, "mirrors[%zu]", i);
    return percentage(r->mirror_percentage, "mirror_percentage", err);
}

/* Of things that exclude each other exactly one. */
static bool one_action(const ist_HTTPRoute *r, bool delegate, struct mz_err *err)
{
    if (r->delegate && delegate)
        return AT(mz_err_set(err, "what is delegated cannot delegate"), "delegate");
    if (r->delegate && (r->n_route || r->redirect || r->direct_response))
        return mz_err_set(err, "has both delegate and something else to do");
    if (r->redirect && (r->n_route || r->direct_response || r->fault || r->rewrite))
        return mz_err_set(err, "redirect goes with none of route, direct_response, fault, rewrite");
    if (r->direct_response && (r->n_route || r->fault || r->rewrite))
        return mz_err_set(err, "direct_response goes with none of route, fault, rewrite");
    if (!r->n_route && !r->redirect && !r->direct_response && !r->delegate)
        return mz_err_set(err, "needs route, redirect, direct_response or delegate");
    return true;
}

static bool http_route(const ist_HTTPRoute *r, bool delegate, struct mz_err *err)
{
    for (size_t i = 0; i < r->n_match; i++)
        if (!http_match(r->match[i], err))
            return mz_err_at(err, "match[%zu]", i);
    return one_action(r, delegate, err) &&
           (!r->redirect || redirect(r, err) || mz_err_at(err, "redirect")) &&
           (!r->direct_response || direct_response(r->direct_response, err) ||
            mz_err_at(err, "direct_response")) &&
           (!r->rewrite || rewrite(r->rewrite, err) || mz_err_at(err, "rewrite")) &&
           (!r->retries || mz_check_retries(r->retries, err) || mz_err_at(err, "retries")) &&
           (!r->fault || fault(r->fault, err) || mz_err_at(err, "fault")) &&
           (!r->cors_policy || cors(r->cors_policy, err) || mz_err_at(err, "cors_policy")) &&
           headers(r->headers, err) && one_authority(r, err) &&
           mz_check_is_positive(r->timeout, "timeout", err) && targets(r, err) && mirrors(r, err);
}

/* ---- connections ---- */

static bool l4_targets(ist_RouteDestination *const *v, size_t n, struct mz_err *err)
{
    uint64_t sum = 0;
    if (!n)
        return AT(mz_err_set(err, "is required"), "route");
    for (size_t i = 0; i < n; i++) {
        if (!destination(v[i]->destination, err))
            return mz_err_at(err, "route[%zu].destination", i);
        if (!weight(v[i]->weight, err))
            return mz_err_at(err, "route[%zu]", i);
        sum += (uint64_t)v[i]->weight;
    }
    return total(sum, n, err);
}

static bool subnets(char *const *v, size_t n, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!mz_check_is_subnet(v[i]))
            return AT(mz_err_set(err, "\"%.100s\" is no range of addresses", v[i]),
                      "destination_subnets[%zu]", i);
    return true;
}

static bool is_address(const char *s)
{
    return !strchr(s, '/') && mz_check_is_subnet(s);
}

static bool is_at_gateway(const ist_VirtualService *m)
{
    bool some = false;
    for (size_t i = 0; i < m->n_gateways; i++)
        some |= strcmp(m->gateways[i], "mesh") != 0;
    return some;
}

/* "outbound_.80_.v1_.web.demo.svc.cluster.local": what AUTO_PASSTHROUGH goes by. */
static bool is_of_passage(const ist_VirtualService *m, const char *text)
{
    struct mz_str rest = mz_str_c(text), port;
    if (!is_at_gateway(m) || !mz_str_starts(rest, MZ_STR("outbound_.")))
        return false;
    rest = mz_str_skip(rest, strlen("outbound_."));
    const ptrdiff_t end = mz_str_find(rest, MZ_STR("_."));
    port = (struct mz_str){ rest.p, end < 0 ? 0 : (size_t)end };
    uint64_t number;
    const struct mz_str host = mz_str_skip(rest, (size_t)(mz_str_rchr(rest, '_') + 1));
    return mz_str_u64(port, &number) && mz_str_starts(host, MZ_STR(".")) &&
           mz_check_is_host(mz_str_skip(host, 1));
}

/* Every name that the match lets in is one of the document's hosts. */
static bool sni_is_ours(const ist_VirtualService *m, const char *sni)
{
    const struct mz_str s = mz_str_c(sni);
    for (size_t i = 0; i < m->n_hosts; i++) {
        const struct mz_str host = mz_str_c(m->hosts[i]);
        if (mz_str_starts(host, MZ_STR("*")) ? mz_str_ends(s, mz_str_skip(host, 1))
                                             : mz_str_eq(s, host))
            return true;
    }
    return false;
}

static bool match_port(uint32_t port, struct mz_err *err)
{
    return port <= UINT16_MAX || AT(mz_err_set(err, "must be in 1..65535, is %u", port), "port");
}

static bool tls_match(const ist_TLSMatchAttributes *a, struct mz_err *err)
{
    MZ_CHECK_LABELS(a, source_labels);
    return match_port(a->port, err) &&
           subnets(a->destination_subnets, a->n_destination_subnets, err) &&
           gateway_names(a->gateways, a->n_gateways, err);
}

static bool tcp_match(const ist_L4MatchAttributes *a, struct mz_err *err)
{
    MZ_CHECK_LABELS(a, source_labels);
    return match_port(a->port, err) &&
           subnets(a->destination_subnets, a->n_destination_subnets, err) &&
           gateway_names(a->gateways, a->n_gateways, err);
}

static bool tls_route(const ist_VirtualService *m, const ist_TLSRoute *t, struct mz_err *err)
{
    if (!t->n_match)
        return AT(mz_err_set(err, "is required"), "match");
    for (size_t i = 0; i < t->n_match; i++) {
        const ist_TLSMatchAttributes *a = t->match[i];
        if (!a->n_sni_hosts)
            return AT(mz_err_set(err, "needs at least one"), "match[%zu].sni_hosts", i);
        for (size_t k = 0; k < a->n_sni_hosts; k++) {
            if (is_address(a->sni_hosts[k])) /* few clients send one */
                continue;
            if (!mz_check_is_host(mz_str_c(a->sni_hosts[k])) && !is_of_passage(m, a->sni_hosts[k]))
                return AT(mz_err_set(err, "\"%.100s\" is not a host", a->sni_hosts[k]),
                          "match[%zu].sni_hosts[%zu]", i, k);
            if (!sni_is_ours(m, a->sni_hosts[k]))
                return AT(mz_err_set(err, "\"%.100s\" is none of the hosts", a->sni_hosts[k]),
                          "match[%zu].sni_hosts[%zu]", i, k);
        }
        if (!tls_match(a, err))
            return mz_err_at(err, "match[%zu]", i);
    }
    return l4_targets(t->route, t->n_route, err);
}

static bool tcp_route(const ist_TCPRoute *t, struct mz_err *err)
{
    for (size_t i = 0; i < t->n_match; i++)
        if (!tcp_match(t->match[i], err))
            return mz_err_at(err, "match[%zu]", i);
    return l4_targets(t->route, t->n_route, err);
}

/* ---- the document ---- */

static bool is_of_mesh(const ist_VirtualService *m)
{
    bool mesh = !m->n_gateways;
    for (size_t i = 0; i < m->n_gateways; i++)
        mesh |= strcmp(m->gateways[i], "mesh") == 0;
    return mesh;
}

enum { MAX_NAME = 253 }; /* of a host */

/* The wildcard among @all that has @host in it, too; NULL: none. */
static const char *wider(const struct mz_map *all, struct mz_str host)
{
    char key[MAX_NAME + 2] = "*";
    const char *any = mz_map_get(all, MZ_STR("*"));
    for (size_t i = 1; i < host.n && !any; i++) {
        if (host.p[i] != '.' || host.n - i > MAX_NAME || (i == 1 && host.p[0] == '*'))
            continue;
        memcpy(key + 1, host.p + i, host.n - i);
        any = mz_map_get(all, (struct mz_str){ key, 1 + host.n - i });
    }
    return any;
}

/* No host is a part of another: nobody could tell which routes are meant. */
static bool each_once(const ist_VirtualService *m, struct mz_err *err)
{
    struct mz_map all;
    bool ok = true;
    mz_map_init(&all, MZ_MEM_CONFIG);
    for (size_t i = 0; i < m->n_hosts && ok; i++)
        if (mz_map_put(&all, mz_str_c(m->hosts[i]), m->hosts[i]))
            ok = AT(mz_err_set(err, "\"%.100s\" stands twice", m->hosts[i]), "hosts[%zu]", i);
    for (size_t i = 0; i < m->n_hosts && ok; i++) {
        const char *other = strcmp(m->hosts[i], "*") ? wider(&all, mz_str_c(m->hosts[i])) : NULL;
        if (other)
            ok = AT(mz_err_set(err, "\"%.100s\" is a part of \"%.100s\"", m->hosts[i], other),
                    "hosts[%zu]", i);
    }
    mz_map_fini(&all);
    return ok;
}

static bool hosts(const ist_VirtualService *m, struct mz_err *err)
{
    const bool mesh = is_of_mesh(m);
    for (size_t i = 0; i < m->n_hosts; i++) {
        const struct mz_str h = mz_str_c(m->hosts[i]);
        if (!mz_check_is_host(h) && !is_address(m->hosts[i]) && !is_of_passage(m, m->hosts[i]))
            return AT(mz_err_set(err, "\"%.100s\" is not a host", m->hosts[i]), "hosts[%zu]", i);
        if (mz_str_eq(h, MZ_STR("*")) && mesh)
            return AT(mz_err_set(err, "\"*\" can only be had at a gateway"), "hosts[%zu]", i);
    }
    return each_once(m, err);
}

/* No hosts: it says what others delegate to it. */
static bool as_delegate(const ist_VirtualService *m, struct mz_err *err)
{
    if (m->n_gateways)
        return AT(mz_err_set(err, "cannot be had without hosts"), "gateways");
    if (m->n_tcp || m->n_tls)
        return mz_err_set(err, "tcp and tls cannot be had without hosts");
    return m->n_http ? true : AT(mz_err_set(err, "is required"), "hosts");
}

/* Each host has all routes, and each match of one is a route of its own at a proxy. */
static bool lengths(const ist_VirtualService *m, struct mz_err *err)
{
    enum { MAX_HOSTS = 10000, MAX_ALL = 65536 };
    size_t routes = m->n_tcp + m->n_tls;
    if (m->n_hosts > MAX_HOSTS)
        return AT(mz_err_set(err, "has %zu items, at most %d may be", m->n_hosts, MAX_HOSTS),
                  "hosts");
    for (size_t i = 0; i < m->n_http; i++)
        routes += m->http[i]->n_match ? m->http[i]->n_match : 1;
    const size_t all = (m->n_hosts ? m->n_hosts : 1) * routes;
    return all <= MAX_ALL ||
           AT(mz_err_set(err, "hosts and matches multiply to %zu, at most %d may be", all, MAX_ALL),
              "http");
}

/* Sidecars verify no tokens before they route. */
static bool claims_at_gateways(const ist_VirtualService *m, struct mz_err *err)
{
    for (size_t i = 0; !is_at_gateway(m) && i < m->n_http; i++)
        for (size_t k = 0; k < m->http[i]->n_match; k++) {
            const ist_HTTPMatchRequest *r = m->http[i]->match[k];
            bool claim = false;
            for (size_t h = 0; h < r->n_headers; h++)
                claim |= is_claim(r->headers[h]->key);
            for (size_t h = 0; h < r->n_without_headers; h++)
                claim |= is_claim(r->without_headers[h]->key);
            if (claim)
                return AT(mz_err_set(err, "claims can be matched at gateways only"),
                          "http[%zu].match[%zu]", i, k);
        }
    return true;
}

bool mz_check_virtual_service(const ist_VirtualService *m, struct mz_err *err)
{
    if (!lengths(m, err) || !gateway_names(m->gateways, m->n_gateways, err) ||
        !claims_at_gateways(m, err))
        return false;
    if (!m->n_hosts && !as_delegate(m, err))
        return false;
    if (!m->n_http && !m->n_tcp && !m->n_tls)
        return mz_err_set(err, "needs http, tcp or tls");
    for (size_t i = 0; i < m->n_http; i++)
        if (!http_route(m->http[i], !m->n_hosts, err))
            return mz_err_at(err, "http[%zu]", i);
    for (size_t i = 0; i < m->n_tcp; i++)
        if (!tcp_route(m->tcp[i], err))
            return mz_err_at(err, "tcp[%zu]", i);
    for (size_t i = 0; i < m->n_tls; i++)
        if (!tls_route(m, m->tls[i], err))
            return mz_err_at(err, "tls[%zu]", i);
    return hosts(m, err) && mz_check_exports(m->export_to, m->n_export_to, false, err);
}
