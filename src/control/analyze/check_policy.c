#include "control/analyze/check_policy.h"

#include "base/vec.h"
#include "jwt/jwt.h"
#include "net/addr.h"
#include "proto/mapper.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))

/* ---- to whom ---- */

static bool selector(const ist_WorkloadSelector *s, struct mz_err *err)
{
    for (size_t i = 0; s && i < s->n_match_labels; i++) {
        const char *key = s->match_labels[i]->key;
        if (!key[0])
            return AT(mz_err_set(err, "a key must not be empty"), "selector.match_labels");
        if (strchr(key, '*') || strchr(s->match_labels[i]->value, '*'))
            return AT(mz_err_set(err, "\"%.100s=%.100s\": wildcards are not supported", key,
                                 s->match_labels[i]->value),
                      "selector.match_labels");
    }
    return true;
}

static bool target(const ist_PolicyTargetReference *t, struct mz_err *err)
{
    static const char *const kinds[][2] = { { "", "Service" },
                                            { "core", "Service" },
                                            { "networking.istio.io", "ServiceEntry" },
                                            { "gateway.networking.k8s.io", "Gateway" },
                                            { "gateway.networking.k8s.io", "GatewayClass" } };
    if (!t->name[0])
        return AT(mz_err_set(err, "is required"), "name");
    if (t->namespace_[0])
        return AT(mz_err_set(err, "references to other namespaces are not supported"), "namespace");
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (strcmp(t->group, kinds[i][0]) == 0 && strcmp(t->kind, kinds[i][1]) == 0)
            return true;
    return AT(mz_err_set(err,
                         "\"%.100s\" of group \"%.100s\" is none of Service, ServiceEntry, "
                         "Gateway, GatewayClass",
                         t->kind, t->group),
              "kind");
}

bool check_targets(const ist_WorkloadSelector *s, const ist_PolicyTargetReference *one,
                   ist_PolicyTargetReference *const *many, size_t n, struct mz_err *err)
{
    if ((s != NULL) + (one != NULL) + (n != 0) > 1)
        return mz_err_set(err, "only one of selector, targetRef and targetRefs can be set");
    if (one && !target(one, err))
        return mz_err_at(err, "targetRef");
    for (size_t i = 0; i < n; i++)
        if (!target(many[i], err))
            return mz_err_at(err, "targetRefs[%zu]", i);
    return selector(s, err);
}

/* ---- values ---- */

typedef bool value_fn(struct mz_str value, struct mz_err *err);

static bool any_text(struct mz_str v, struct mz_err *err)
{
    (void)v;
    (void)err;
    return true;
}

static bool ip(struct mz_str v, struct mz_err *err)
{
    const ptrdiff_t slash = mz_str_chr(v, '/');
    struct mz_addr a;
    uint64_t bits = 0;
    if (!mz_addr_parse_ip(slash < 0 ? v : (struct mz_str){ v.p, (size_t)slash }, 0, &a) ||
        (slash >= 0 && (!mz_str_u64(mz_str_skip(v, (size_t)slash + 1), &bits) ||
                        bits > (a.sa.sa_family == AF_INET ? 32 : 128))))
        return mz_err_set(err, "\"%.100s\" is neither an address nor address/bits", v.p);
    return true;
}

static bool port(struct mz_str v, struct mz_err *err)
{
    uint64_t n;
    return (mz_str_u64(v, &n) && n <= UINT16_MAX) ||
           mz_err_set(err, "\"%.100s\" is not a port in 0..65535", v.p);
}

static size_t stars(struct mz_str v)
{
    size_t n = 0;
    for (size_t i = 0; i < v.n; i++)
        n += v.p[i] == '*';
    return n;
}

static bool star_at_end(struct mz_str v, struct mz_err *err)
{
    const size_t n = stars(v);
    return n == 0 || (n == 1 && (v.p[0] == '*' || v.p[v.n - 1] == '*')) ||
           mz_err_set(err, "\"%.100s\": one * is allowed, at the begin or the end", v.p);
}

static bool trust_domain(struct mz_str v, struct mz_err *err)
{
    return mz_str_chr(v, '/') < 0 ? star_at_end(v, err)
                                  : mz_err_set(err, "\"%.100s\" must not have a /", v.p);
}

static bool account(struct mz_str v, struct mz_err *err)
{
    const ptrdiff_t slash = mz_str_chr(v, '/');
    if (v.n > 320)
        return mz_err_set(err, "may have at most 320 characters");
    if (stars(v) || slash == 0 || (size_t)slash == v.n - 1 || mz_str_rchr(v, '/') != slash)
        return mz_err_set(err, "\"%.100s\" is neither an account nor namespace/account", v.p);
    return true;
}

/* One segment of a path in which {*} and {**} stand for others. */
static bool segment(struct mz_str s, bool is_template, bool *after_rest, struct mz_err *err)
{
    static const char literal[] = "-._~%!$&'()+,;:@=";
    const bool rest = mz_str_eq(s, MZ_STR("{**}")), one = mz_str_eq(s, MZ_STR("{*}"));
    if ((rest || one) && *after_rest)
        return mz_err_set(err, "{**} must be the last operator");
    *after_rest |= rest;
    if (rest || one)
        return true;
    for (size_t i = 0; i < s.n; i++) {
        const char c = s.p[i], low = mz_lower(c);
        if (c == '{' || c == '}')
            return mz_err_set(err, "{ and } may only stand in the operators {*} and {**}");
        if (is_template &&
            !((low >= 'a' && low <= 'z') || (c >= '0' && c <= '9') || strchr(literal, c)))
            return mz_err_set(err, "\"%.*s\" is no literal that a template may have",
                              (int)(s.n > 60 ? 60 : s.n), s.p);
    }
    return s.n || !is_template || mz_err_set(err, "a template has no empty segments");
}

static bool path(struct mz_str v, struct mz_err *err)
{
    const bool is_template =
        mz_str_find(v, MZ_STR("{*}")) >= 0 || mz_str_find(v, MZ_STR("{**}")) >= 0;
    bool after_rest = false;
    while (v.n && v.p[0] == '/')
        v = mz_str_skip(v, 1);
    while (v.n && v.p[v.n - 1] == '/')
        v.n--;
    while (v.n) {
        const ptrdiff_t slash = mz_str_chr(v, '/');
        const struct mz_str s = { v.p, slash < 0 ? v.n : (size_t)slash };
        if (!segment(s, is_template, &after_rest, err))
            return false;
        v = mz_str_skip(v, s.n + (slash >= 0));
    }
    return true;
}

static bool values(value_fn *ok, char *const *v, size_t n, struct mz_err *err)
{
    if (ok == account && n > 16)
        return mz_err_set(err, "may have at most 16 values");
    for (size_t i = 0; i < n; i++) {
        if (!v[i][0])
            return AT(mz_err_set(err, "must not be empty"), "[%zu]", i);
        if (!ok(mz_str_c(v[i]), err))
            return mz_err_at(err, "[%zu]", i);
    }
    return true;
}
#define VALUES(ok, m, field)                                                                       \
    ((values((ok), (m)->field, (m)->n_##field, err) || mz_err_at(err, #field)) &&                  \
     (values((ok), (m)->not_##field, (m)->n_not_##field, err) || mz_err_at(err, "not_" #field)))
#define COUNT(m, field) ((m)->n_##field + (m)->n_not_##field)

/* ---- AuthorizationPolicy ---- */

static bool source(const ist_Source *s, bool custom, struct mz_err *err)
{
    const size_t names = COUNT(s, principals) + COUNT(s, namespaces),
                 accounts = COUNT(s, service_accounts),
                 identities =
                     names + accounts + COUNT(s, trust_domains) + COUNT(s, request_principals);
    if (names && accounts)
        return mz_err_set(err, "service_accounts cannot stand with namespaces or principals");
    if (!identities && !COUNT(s, ip_blocks) && !COUNT(s, remote_ip_blocks))
        return mz_err_set(err, "must not be empty");
    if (custom && identities)
        return mz_err_set(err, "only addresses are supported with the action CUSTOM");
    return VALUES(any_text, s, principals) && VALUES(any_text, s, request_principals) &&
           VALUES(any_text, s, namespaces) && VALUES(account, s, service_accounts) &&
           VALUES(trust_domain, s, trust_domains) && VALUES(ip, s, ip_blocks) &&
           VALUES(ip, s, remote_ip_blocks);
}

static bool operation(const ist_Operation *o, struct mz_err *err)
{
    if (!COUNT(o, hosts) && !COUNT(o, ports) && !COUNT(o, methods) && !COUNT(o, paths))
        return mz_err_set(err, "must not be empty");
    return VALUES(any_text, o, hosts) && VALUES(port, o, ports) && VALUES(any_text, o, methods) &&
           VALUES(path, o, paths);
}

static const struct condition {
    const char *key;
    bool bracketed; /* a name in brackets follows */
    bool identity;  /* not with CUSTOM */
    value_fn *ok;   /* NULL: was once */
} conditions[] = {
    { "request.headers", true, false, any_text },
    { "source.ip", false, false, ip },
    { "remote.ip", false, false, ip },
    { "source.namespace", false, true, any_text },
    { "source.serviceAccount", false, true, account },
    { "source.principal", false, true, any_text },
    { "source.trustDomain", false, true, star_at_end },
    { "request.auth.principal", false, true, any_text },
    { "request.auth.audiences", false, true, any_text },
    { "request.auth.presenter", false, true, any_text },
    { "request.auth.claims", true, true, any_text },
    { "destination.ip", false, false, ip },
    { "destination.port", false, false, port },
    { "connection.sni", false, false, any_text },
    { "experimental.envoy.filters.", true, false, any_text },
};

static const struct condition *find_condition(struct mz_str key)
{
    for (size_t i = 0; i < MZ_COUNT(conditions); i++) {
        const struct mz_str k = mz_str_c(conditions[i].key);
        if (conditions[i].bracketed ? mz_str_starts(key, k) : mz_str_eq(key, k))
            return &conditions[i];
    }
    return NULL;
}

static bool when(const ist_Condition *m, bool custom, struct mz_err *err)
{
    const struct mz_str key = mz_str_c(m->key);
    const struct condition *c = find_condition(key);
    const ptrdiff_t open = mz_str_chr(key, '[');
    if (!key.n)
        return AT(mz_err_set(err, "must not be empty"), "key");
    if (!c)
        return AT(mz_err_set(err, "\"%.100s\" is no attribute", m->key), "key");
    if (c->bracketed && (open <= 0 || key.p[key.n - 1] != ']' || (size_t)open + 2 >= key.n))
        return AT(mz_err_set(err, "\"%.100s\" must have the form a[b]", m->key), "key");
    if (custom && c->identity)
        return AT(mz_err_set(err, "\"%.100s\" is not supported with the action CUSTOM", m->key),
                  "key");
    if (!COUNT(m, values))
        return mz_err_set(err, "one of values and not_values must be set");
    return VALUES(c->ok, m, values);
}

static bool rule(const ist_Rule *r, bool custom, struct mz_err *err)
{
    for (size_t i = 0; i < r->n_from; i++) {
        if (!r->from[i]->source)
            return AT(mz_err_set(err, "is required"), "from[%zu].source", i);
        if (!source(r->from[i]->source, custom, err))
            return mz_err_at(err, "from[%zu].source", i);
    }
    for (size_t i = 0; i < r->n_to; i++) {
        if (!r->to[i]->operation)
            return AT(mz_err_set(err, "is required"), "to[%zu].operation", i);
        if (!operation(r->to[i]->operation, err))
            return mz_err_at(err, "to[%zu].operation", i);
    }
    for (size_t i = 0; i < r->n_when; i++)
        if (!when(r->when[i], custom, err))
            return mz_err_at(err, "when[%zu]", i);
    return true;
}

bool check_authorization_policy(const ist_AuthorizationPolicy *m, struct mz_err *err)
{
    const bool custom = m->action == ist_AuthorizationPolicy_Action_CUSTOM,
               provided = m->action_detail_case == ist_AuthorizationPolicy_ACTION_DETAIL_PROVIDER;
    if (!check_targets(m->selector, m->targetref, m->targetrefs, m->n_targetrefs, err))
        return false;
    if (!m->n_rules && (custom || m->action == ist_AuthorizationPolicy_Action_DENY))
        return AT(mz_err_set(err, "without rules this action is never taken: add an empty rule {} "
                                  "for every request"),
                  "rules");
    if (custom && (!provided || !m->provider->name[0]))
        return AT(mz_err_set(err, "is required with the action CUSTOM"), "provider.name");
    if (!custom && provided)
        return AT(mz_err_set(err, "stands only with the action CUSTOM"), "provider");
    for (size_t i = 0; i < m->n_rules; i++)
        if (!rule(m->rules[i], custom, err))
            return mz_err_at(err, "rules[%zu]", i);
    return true;
}

/* ---- RequestAuthentication ---- */

static bool texts(const char *field, char *const *v, size_t n, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!v[i][0])
            return AT(mz_err_set(err, "must not be empty"), "%s[%zu]", field, i);
    return true;
}

/* Letters, digits, '-' and '_'. */
static bool header_name(const char *s)
{
    for (const char *p = s; *p; p++)
        if (!((mz_lower(*p) >= 'a' && mz_lower(*p) <= 'z') || (*p >= '0' && *p <= '9') ||
              *p == '-' || *p == '_'))
            return false;
    return s[0] != 0;
}

static bool jwks_text(const char *text, struct mz_err *err)
{
    enum mz_jwt_status status;
    struct mz_jwks *k = text[0] ? mz_jwks_create(mz_str_c(text), &status) : NULL;
    if (!k && text[0])
        return AT(mz_err_set(err, "%s", mz_jwt_status_text(status)), "jwks");
    mz_jwks_unref(k);
    return true;
}

/* "https://host:443/path": where it has a port at all. */
static bool is_port_number(struct mz_str uri)
{
    struct mz_str host = mz_str_skip(uri, (size_t)mz_str_find(uri, MZ_STR("://")) + 3);
    host.n = strcspn(host.p, "/?#");
    host = mz_str_skip(host, (size_t)(mz_str_rchr(host, '@') + 1));
    const ptrdiff_t colon = mz_str_rchr(host, ':'), bracket = mz_str_rchr(host, ']');
    uint64_t n;
    return colon < 0 || colon < bracket || (size_t)colon + 1 == host.n ||
           mz_str_u64(mz_str_skip(host, (size_t)colon + 1), &n);
}

static bool jwt_rule(const ist_JWTRule *r, struct mz_err *err)
{
    uint64_t ms;
    const struct mz_str uri = mz_str_c(r->jwks_uri);
    if (!r->issuer[0] && !uri.n)
        return mz_err_set(err, "one of issuer and jwks_uri must be set");
    if (uri.n && !mz_str_starts(uri, MZ_STR("http://")) && !mz_str_starts(uri, MZ_STR("https://")))
        return AT(mz_err_set(err, "\"%.200s\" is neither http:// nor https://", uri.p), "jwks_uri");
    if (uri.n && !is_port_number(uri))
        return AT(mz_err_set(err, "\"%.200s\": the port is no number", uri.p), "jwks_uri");
    if (!jwks_text(r->jwks, err) || !texts("audiences", r->audiences, r->n_audiences, err) ||
        !texts("from_params", r->from_params, r->n_from_params, err) ||
        !texts("from_cookies", r->from_cookies, r->n_from_cookies, err))
        return false;
    for (size_t i = 0; i < r->n_from_headers; i++)
        if (!r->from_headers[i]->name[0])
            return AT(mz_err_set(err, "must not be empty"), "from_headers[%zu].name", i);
    for (size_t i = 0; i < r->n_output_claim_to_headers; i++) {
        const ist_ClaimToHeader *c = r->output_claim_to_headers[i];
        if (!c->claim[0])
            return AT(mz_err_set(err, "must not be empty"), "output_claim_to_headers[%zu].claim",
                      i);
        if (!header_name(c->header))
            return AT(mz_err_set(err, "\"%.100s\" is no name of a header", c->header),
                      "output_claim_to_headers[%zu].header", i);
    }
    if (!r->timeout)
        return true;
    if (!mz_duration_ms(r->timeout, 0, &ms, err))
        return mz_err_at(err, "timeout");
    return ms ? true : AT(mz_err_set(err, "must be at least 1ms"), "timeout");
}

bool check_request_authentication(const ist_RequestAuthentication *m, struct mz_err *err)
{
    if (!check_targets(m->selector, m->targetref, m->targetrefs, m->n_targetrefs, err))
        return false;
    for (size_t i = 0; i < m->n_jwt_rules; i++)
        if (!jwt_rule(m->jwt_rules[i], err))
            return mz_err_at(err, "jwt_rules[%zu]", i);
    return true;
}
