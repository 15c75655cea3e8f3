/* RequestAuthentication (C10): whose tokens are taken, and from where. A token that is there must be good; none is fine. */
#include <stdlib.h>

#include "control/model/attached.h"
#include "control/translate/authz.h"
#include "control/translate/providers.h"

/* ---- the keys ---- */

/* "https://host:port/..." */
static bool parse_uri(const char *uri, struct mz_str *host, uint16_t *port)
{
    struct mz_str s = mz_str_c(uri);
    const bool tls = mz_str_starts(s, MZ_STR("https://"));
    if (!tls && !mz_str_starts(s, MZ_STR("http://")))
        return false;
    s = mz_str_skip(s, tls ? 8 : 7);
    for (size_t i = 0; i < s.n; i++)
        if (strchr("/?#", s.p[i]))
            s.n = i;
    const ptrdiff_t at = mz_str_rchr(s, '@');
    s = mz_str_skip(s, (size_t)(at + 1));
    const ptrdiff_t colon = mz_str_rchr(s, ':'), bracket = mz_str_rchr(s, ']');
    uint64_t number = tls ? 443 : 80;
    if (colon > bracket) {
        if (!mz_str_u64(mz_str_skip(s, (size_t)colon + 1), &number) || number > UINT16_MAX)
            return false;
        s.n = (size_t)colon;
    }
    *host = s;
    *port = (uint16_t)number;
    return s.n != 0;
}

static pb_Duration *seconds(struct mz_arena *a, int64_t n)
{
    pb_Duration *d = TR_NEW(a, Duration);
    d->seconds = n;
    return d;
}

static void fetched_by_proxy(struct mz_arena *a, const ist_JWTRule *r, char *cluster,
                             pb_JwtProvider *p)
{
    pb_RemoteJwks *j = TR_NEW(a, RemoteJwks);
    j->http_uri = TR_NEW(a, HttpUri);
    j->http_uri->uri = r->jwks_uri;
    j->http_uri->http_upstream_type_case = pb_HttpUri_HTTP_UPSTREAM_TYPE_CLUSTER;
    j->http_uri->cluster = cluster;
    j->http_uri->timeout = r->timeout ? r->timeout : seconds(a, 5);
    j->cache_duration = seconds(a, 300);
    p->jwks_source_specifier_case = pb_JwtProvider_JWKS_SOURCE_SPECIFIER_REMOTE_JWKS;
    p->remote_jwks = j;
}

/* A key whose other half nobody has: until the keys are here no token is good. */
static const char nobodys[] =
    "{\n  \"keys\": [\n    {\n      \"kty\": \"RSA\",\n      \"e\": \"AQAB\",\n      \"n\": "
    "\"0xObjM0UvS_oaazjpEYlAbwctEJ4L8pH3OuTb7qth7gUwqet-"
    "EzQB4dgFdvSdMgrLnSncQGRjpEYz3F3viIbH-3EN3TxSlPNviHxeOdyiBVfumN8dMxbLvVJUpfNOnvmMxJcl-"
    "8NNjAwcOjk4otSALaYgYYyOPyvKtgVdrQr-FoubWX4yrjxW-MJ2-"
    "7OBeepUUNOsVwGV23YX03sVkkyvY3otRflkBcY3_HKpBxJl9wk2GyOShN4_PNUF9-"
    "vwfnvOXMbCDX-w4PTef4geeb_GiT40YCKHTKMSPVanGRn5GExIWmki-mmqh94-mPTJyBR74ShspL3BxPZitDL574T1w"
    "\"\n    }\n  ]\n}";

static void written_here(struct mz_view *v, struct mz_arena *a, const ist_JWTRule *r,
                         pb_JwtProvider *p)
{
    const char *fetched = r->jwks[0] ? NULL : mz_model_keys(v->model, r);
    p->jwks_source_specifier_case = pb_JwtProvider_JWKS_SOURCE_SPECIFIER_LOCAL_JWKS;
    p->local_jwks = TR_NEW(a, DataSource);
    p->local_jwks->specifier_case = pb_DataSource_SPECIFIER_INLINE_STRING;
    p->local_jwks->inline_string = r->jwks[0] ? r->jwks : TR_CONST(fetched ? fetched : nobodys);
}

/* Who fetches keys is istiod's variable PILOT_JWT_ENABLE_REMOTE_JWKS. */
static void keys(struct mz_view *v, struct mz_arena *a, const ist_JWTRule *r, pb_JwtProvider *p)
{
    const enum mz_jwks_fetch how = v->t->features.jwks_fetch;
    struct mz_str host = { 0 };
    uint16_t port = 0;
    if (how == MZ_JWKS_CONTROL_PLANE || !r->jwks_uri[0] || !parse_uri(r->jwks_uri, &host, &port)) {
        written_here(v, a, r, p);
        return;
    }
    struct tr_provider_cluster to;
    struct mz_err err;
    if (tr_provider_cluster(v, a, tr_text(a, host), port, &to, &err))
        fetched_by_proxy(a, r, to.cluster, p);
    else if (how == MZ_JWKS_HYBRID)
        written_here(v, a, r, p);
    else /* the cluster may come: until then there are no keys */
        fetched_by_proxy(a, r, tr_cluster_name(a, "outbound", port, MZ_STR(""), host), p);
}

/* ---- one issuer ---- */

static int compare_texts(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static pb_JwtProvider_NormalizePayload *space_delimited(struct mz_arena *a, const ist_JWTRule *r)
{
    pb_JwtProvider_NormalizePayload *m = TR_NEW(a, JwtProvider_NormalizePayload);
    TR_ADD(a, m, space_delimited_claims) = TR_CONST("permission");
    TR_ADD(a, m, space_delimited_claims) = TR_CONST("scope");
    for (size_t i = 0; i < r->n_space_delimited_claims; i++) {
        bool had = false;
        for (size_t k = 0; k < m->n_space_delimited_claims; k++)
            had |= strcmp(m->space_delimited_claims[k], r->space_delimited_claims[i]) == 0;
        if (!had)
            TR_ADD(a, m, space_delimited_claims) = r->space_delimited_claims[i];
    }
    qsort(m->space_delimited_claims, m->n_space_delimited_claims, sizeof(char *), compare_texts);
    return m;
}

static void places(struct mz_arena *a, const ist_JWTRule *r, pb_JwtProvider *p)
{
    for (size_t i = 0; i < r->n_from_headers; i++) {
        pb_JwtHeader *h = TR_NEW(a, JwtHeader);
        h->name = r->from_headers[i]->name;
        h->value_prefix = r->from_headers[i]->prefix;
        TR_ADD(a, p, from_headers) = h;
    }
    p->from_params = r->from_params;
    p->n_from_params = r->n_from_params;
    p->from_cookies = r->from_cookies;
    p->n_from_cookies = r->n_from_cookies;
}

static pb_JwtProvider *provider(struct mz_view *v, struct mz_arena *a, const ist_JWTRule *r)
{
    pb_JwtProvider *p = TR_NEW(a, JwtProvider);
    p->issuer = r->issuer;
    p->audiences = r->audiences;
    p->n_audiences = r->n_audiences;
    p->forward = r->forward_original_token;
    p->forward_payload_header = r->output_payload_to_header;
    p->payload_in_metadata = TR_CONST("payload");
    p->normalize_payload_in_metadata = space_delimited(a, r);
    p->clear_route_cache = v->proxy->type != MZ_PROXY_SIDECAR; /* gateways route by claims */
    for (size_t i = 0; i < r->n_output_claim_to_headers; i++) {
        pb_JwtClaimToHeader *c = TR_NEW(a, JwtClaimToHeader);
        c->header_name = r->output_claim_to_headers[i]->header;
        c->claim_name = r->output_claim_to_headers[i]->claim;
        TR_ADD(a, p, claim_to_headers) = c;
    }
    places(a, r, p);
    keys(v, a, r, p);
    return p;
}

/* ---- requirements ---- */

static pb_JwtRequirement *named(struct mz_arena *a, char *name)
{
    pb_JwtRequirement *r = TR_NEW(a, JwtRequirement);
    r->requires_type_case = pb_JwtRequirement_REQUIRES_TYPE_PROVIDER_NAME;
    r->provider_name = name;
    return r;
}

static pb_JwtRequirement *any_of(struct mz_arena *a)
{
    pb_JwtRequirement *r = TR_NEW(a, JwtRequirement);
    r->requires_type_case = pb_JwtRequirement_REQUIRES_TYPE_REQUIRES_ANY;
    r->requires_any = TR_NEW(a, JwtRequirementOrList);
    return r;
}

/* A good token of this provider, or none. */
static pb_JwtRequirement *good_or_none(struct mz_arena *a, char *name)
{
    pb_JwtRequirement *r = any_of(a), *none = TR_NEW(a, JwtRequirement);
    none->requires_type_case = pb_JwtRequirement_REQUIRES_TYPE_ALLOW_MISSING;
    none->allow_missing = TR_NEW(a, Empty);
    TR_ADD(a, r->requires_any, requirements) = named(a, name);
    TR_ADD(a, r->requires_any, requirements) = none;
    return r;
}

/* With several: a good token of any, or whatever is there is good; by the last alone two that share a place would always fail. */
static pb_JwtRequirement *required(struct mz_arena *a, const pb_JwtAuthentication *m)
{
    if (m->n_providers == 1)
        return good_or_none(a, m->providers[0]->key);
    pb_JwtRequirement *any = any_of(a), *all = TR_NEW(a, JwtRequirement);
    all->requires_type_case = pb_JwtRequirement_REQUIRES_TYPE_REQUIRES_ALL;
    all->requires_all = TR_NEW(a, JwtRequirementAndList);
    for (size_t i = 0; i < m->n_providers; i++) {
        TR_ADD(a, any->requires_any, requirements) = named(a, m->providers[i]->key);
        TR_ADD(a, all->requires_all, requirements) = good_or_none(a, m->providers[i]->key);
    }
    TR_ADD(a, any->requires_any, requirements) = all;
    return any;
}

/* ---- all issuers of a workload ---- */

struct issuer {
    const ist_JWTRule *rule;
    size_t at; /* as they came */
};
struct issuers {
    size_t n_v;
    struct issuer *v;
};

static int compare_issuers(const void *a, const void *b)
{
    const struct issuer *x = a, *y = b;
    const int c = strcmp(x->rule->issuer, y->rule->issuer);
    return c ? c : (x->at > y->at) - (x->at < y->at);
}

static void collect(struct mz_view *v, struct issuers *out)
{
    const struct mz_attach_to to = { v->proxy->ns,
                                     v->workload ? v->workload->labels : v->proxy->labels };
    struct mz_attached_refs all = { 0 };
    mz_model_attached_all(v->model, MZ_KIND_REQUEST_AUTHENTICATION, &to, true, &all);
    mz_vec_foreach (it, &all.v) {
        const ist_RequestAuthentication *m = (const ist_RequestAuthentication *)(*it)->m;
        for (size_t i = 0; i < m->n_jwt_rules; i++) {
            const struct issuer one = { m->jwt_rules[i], out->n_v };
            TR_ADD(v->arena, out, v) = one;
        }
    }
    mz_vec_free(&all.v, MZ_MEM_CONFIG);
    if (out->n_v)
        qsort(out->v, out->n_v, sizeof(*out->v), compare_issuers);
}

void tr_jwt_add(struct mz_view *v, struct tr_guards *g)
{
    struct mz_arena *a = v->arena;
    struct issuers from = { 0 };
    collect(v, &from);
    if (!from.n_v)
        return;
    pb_JwtAuthentication *m = TR_NEW(a, JwtAuthentication);
    for (size_t i = 0; i < from.n_v; i++) {
        pb_JwtAuthentication_ProvidersEntry *e = TR_NEW(a, JwtAuthentication_ProvidersEntry);
        e->key = TR_PRINTF(a, "origins-%zu", i);
        e->value = provider(v, a, from.v[i].rule);
        TR_ADD(a, m, providers) = e;
    }
    pb_RequirementRule *rule = TR_NEW(a, RequirementRule);
    rule->match = TR_NEW(a, RouteMatch);
    rule->match->path_specifier_case = pb_RouteMatch_PATH_SPECIFIER_PREFIX;
    rule->match->prefix = TR_CONST("/");
    rule->requirement_type_case = pb_RequirementRule_REQUIREMENT_TYPE_REQUIRES;
    rule->requires = required(a, m);
    TR_ADD(a, m, rules) = rule;
    m->bypass_cors_preflight = true;
    TR_ADD(a, g, jwt) = tr_named_http_filter(a, "envoy.filters.http.jwt_authn", m);
}
