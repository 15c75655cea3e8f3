/* Configuration of jwt_authn: providers, requirements, rules. Main thread. */
#include "filters/http/jwt_authn.h"

#include "proto/data_source.h"

#include <stdlib.h>

static const struct mz_stat_def stat_defs[] = {
    [JWT_ALLOWED] = { "allowed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_CORS_BYPASSED] = { "cors_preflight_bypassed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_DENIED] = { "denied", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_FETCH_FAILED] = { "jwks_fetch_failed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_FETCH_SUCCESS] = { "jwks_fetch_success", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_CACHE_HIT] = { "jwt_cache_hit", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [JWT_CACHE_MISS] = { "jwt_cache_miss", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
static const struct mz_stat_kind stat_kind = { "jwt_authn", stat_defs, MZ_COUNT(stat_defs) };

#define CACHE_TOKENS    100 /* Envoy's defaults */
#define CACHE_MAX_BYTES 4096
#define SKEW_S          60

struct build {
    struct jwt_cfg *c;
    const struct mz_factory *f;
    struct mz_err *err;
};

static struct mz_str keep(struct build *b, const char *s)
{
    return mz_arena_dup(b->c->arena, mz_str_c(s));
}

static struct mz_str keep_lower(struct build *b, const char *s)
{
    struct mz_str out = keep(b, s);
    for (size_t i = 0; i < out.n; i++)
        ((char *)(uintptr_t)out.p)[i] = mz_lower(out.p[i]);
    return out;
}

static struct jwt_strs keep_all(struct build *b, char **v, size_t n)
{
    struct jwt_strs out = { mz_arena_alloc0(b->c->arena, (n + 1) * sizeof(struct mz_str)), n };
    for (size_t i = 0; i < n; i++)
        out.v[i] = keep(b, v[i]);
    return out;
}

static struct jwt_strs audiences_keep(struct build *b, char **v, size_t n)
{
    struct jwt_strs out = keep_all(b, v, n);
    for (size_t i = 0; i < n; i++)
        out.v[i] = mz_jwt_audience(out.v[i]);
    return out;
}

static void add(struct build *b, struct jwt_strs *to, struct mz_str s)
{
    struct mz_str *wider = mz_arena_alloc0(b->c->arena, (to->n + 1) * sizeof(*wider));
    if (to->n)
        memcpy(wider, to->v, to->n * sizeof(*wider));
    wider[to->n++] = s;
    to->v = wider;
}

/* ---- places ---- */

static void issuer_add(struct build *b, struct jwt_location *l, struct mz_str issuer)
{
    if (issuer.n)
        add(b, &l->issuers, issuer);
    else
        l->any_issuer = true;
}

static void place_add(struct build *b, struct jwt_places *p, struct jwt_location l,
                      struct mz_str issuer)
{
    for (size_t i = 0; i < p->n; i++)
        if (p->v[i].kind == l.kind && mz_str_eq(p->v[i].name, l.name) &&
            mz_str_eq(p->v[i].prefix, l.prefix)) {
            issuer_add(b, &p->v[i], issuer);
            return;
        }
    struct jwt_location *wider = mz_arena_alloc0(b->c->arena, (p->n + 1) * sizeof(*wider));
    if (p->n)
        memcpy(wider, p->v, p->n * sizeof(*wider));
    issuer_add(b, &l, issuer);
    wider[p->n++] = l;
    p->v = wider;
}

static void places_add(struct build *b, struct jwt_places *out, const pb_JwtProvider *m,
                       const struct jwt_provider *p)
{
    for (size_t i = 0; i < m->n_from_headers; i++)
        place_add(b, out,
                  (struct jwt_location){ .kind = JWT_HEADER,
                                         .name = keep_lower(b, m->from_headers[i]->name),
                                         .prefix = keep(b, m->from_headers[i]->value_prefix) },
                  p->issuer);
    for (size_t i = 0; i < m->n_from_params; i++)
        place_add(b, out,
                  (struct jwt_location){ .kind = JWT_PARAM, .name = keep(b, m->from_params[i]) },
                  p->issuer);
    for (size_t i = 0; i < m->n_from_cookies; i++)
        place_add(b, out,
                  (struct jwt_location){ .kind = JWT_COOKIE, .name = keep(b, m->from_cookies[i]) },
                  p->issuer);
    if (!m->n_from_headers && !m->n_from_params && !m->n_from_cookies) {
        place_add(b, out,
                  (struct jwt_location){ .kind = JWT_HEADER,
                                         .name = MZ_STR("authorization"),
                                         .prefix = MZ_STR("Bearer ") },
                  p->issuer);
        place_add(b, out,
                  (struct jwt_location){ .kind = JWT_PARAM, .name = MZ_STR("access_token") },
                  p->issuer);
    }
    if (p->payload_header.n)
        add(b, &out->reserved, p->payload_header);
    for (size_t i = 0; i < p->n_claims; i++)
        add(b, &out->reserved, p->claims[i].header);
}

/* Headers, then parameters, then cookies, each by name: the order in which Envoy looks. */
static int location_cmp(const void *x, const void *y)
{
    const struct jwt_location *a = x, *b = y;
    if (a->kind != b->kind)
        return a->kind < b->kind ? -1 : 1;
    int by_name = mz_str_cmp(a->name, b->name);
    return by_name ? by_name : mz_str_cmp(a->prefix, b->prefix);
}

static void places_sort(struct jwt_places *p)
{
    if (p->n)
        qsort(p->v, p->n, sizeof(*p->v), location_cmp);
}

/* ---- providers ---- */

static bool local_keys_build(struct build *b, const pb_DataSource *m, struct jwt_provider *p)
{
    struct mz_str text;
    struct mz_jwks *keys = NULL;
    enum mz_jwt_status s = MZ_JWT_OK;
    if (!mz_data_source_read(m, MZ_JWKS_MAX_BYTES, b->f->proto->arena, &text, b->err))
        return false;
    if (text.n) /* no keys: nobody gets in, as in Envoy */
        keys = mz_jwks_create(text, &s);
    if (s != MZ_JWT_OK)
        return mz_err_set(b->err, "%s", mz_jwt_status_text(s));
    p->keys = jwt_keys_create(keys);
    return true;
}

static bool remote_keys_build(struct build *b, const pb_RemoteJwks *m, struct jwt_provider *p)
{
    p->keys = jwt_keys_create_remote(m, b->c->scope, b->c->n_slots, b->err);
    if (!p->keys || !m->async_fetch)
        return p->keys != NULL;
    p->async = jwt_async_create(jwt_keys_ref(p->keys), m->async_fetch,
                                jwt_keys_lifetime_us(p->keys), b->f, b->err);
    return p->async != NULL;
}

static bool keys_build(struct build *b, const pb_JwtProvider *m, struct jwt_provider *p)
{
    if (m->jwks_source_specifier_case == pb_JwtProvider_JWKS_SOURCE_SPECIFIER_LOCAL_JWKS)
        return local_keys_build(b, m->local_jwks, p) || mz_err_at(b->err, "local_jwks");
    return remote_keys_build(b, m->remote_jwks, p) || mz_err_at(b->err, "remote_jwks");
}

static bool claims_build(struct build *b, const pb_JwtProvider *m, struct jwt_provider *p)
{
    if (m->subjects) {
        p->subjects = mz_string_match_build(m->subjects, b->err);
        if (!p->subjects)
            return mz_err_at(b->err, "subjects");
    }
    p->require_expiration = m->require_expiration;
    p->has_max_lifetime = m->max_lifetime != NULL;
    return mz_duration_us(m->max_lifetime, 0, &p->max_lifetime_us, b->err) ||
           mz_err_at(b->err, "max_lifetime");
}

static void outputs_build(struct build *b, const pb_JwtProvider *m, struct jwt_provider *p)
{
    p->forward = m->forward;
    p->pad = m->pad_forward_payload_header;
    p->clear_route_cache = m->clear_route_cache;
    p->payload_header = keep_lower(b, m->forward_payload_header);
    p->payload_key = keep(b, m->payload_in_metadata);
    p->header_key = keep(b, m->header_in_metadata);
    p->failed_key = keep(b, m->failed_status_in_metadata);
    const pb_JwtProvider_NormalizePayload *normalize = m->normalize_payload_in_metadata;
    if (normalize)
        p->space_delimited =
            keep_all(b, normalize->space_delimited_claims, normalize->n_space_delimited_claims);
    p->n_claims = m->n_claim_to_headers;
    p->claims = mz_arena_alloc0(b->c->arena, (p->n_claims + 1) * sizeof(*p->claims));
    for (size_t i = 0; i < p->n_claims; i++)
        p->claims[i] =
            (struct jwt_claim_header){ keep_lower(b, m->claim_to_headers[i]->header_name),
                                       keep(b, m->claim_to_headers[i]->claim_name) };
}

static void cache_build(struct build *b, const pb_JwtCacheConfig *m, struct jwt_provider *p)
{
    if (!m)
        return;
    p->cache_tokens = m->jwt_cache_size ? m->jwt_cache_size : CACHE_TOKENS;
    p->cache_max_bytes = m->jwt_max_token_size ? m->jwt_max_token_size : CACHE_MAX_BYTES;
    p->caches = mz_arena_alloc0(b->c->arena, b->c->n_slots * sizeof(struct jwt_cache *));
}

static bool provider_build(struct build *b, const char *name, const pb_JwtProvider *m,
                           struct jwt_provider *p)
{
    p->name = keep(b, name);
    p->issuer = keep(b, m->issuer);
    p->audiences = audiences_keep(b, m->audiences, m->n_audiences);
    p->skew_s = m->clock_skew_seconds ? m->clock_skew_seconds : SKEW_S;
    outputs_build(b, m, p);
    places_add(b, &p->places, m, p);
    places_add(b, &b->c->everywhere, m, p);
    places_sort(&p->places);
    cache_build(b, m->jwt_cache_config, p);
    return claims_build(b, m, p) && keys_build(b, m, p);
}

static bool providers_build(struct build *b, const pb_JwtAuthentication *m)
{
    struct jwt_cfg *c = b->c;
    c->providers = mz_arena_alloc0(c->arena, (m->n_providers + 1) * sizeof(*c->providers));
    for (size_t i = 0; i < m->n_providers; i++)
        if (!provider_build(b, m->providers[i]->key, m->providers[i]->value,
                            &c->providers[c->n_providers++]))
            return mz_err_at(b->err, "providers[\"%s\"]", m->providers[i]->key);
    places_sort(&c->everywhere);
    return true;
}

/* ---- requirements ---- */

static bool provider_find(struct build *b, const char *name, struct jwt_need *out)
{
    for (size_t i = 0; i < b->c->n_providers; i++)
        if (mz_str_eq(b->c->providers[i].name, mz_str_c(name))) {
            out->kind = JWT_NEED_PROVIDER;
            out->provider = &b->c->providers[i];
            return true;
        }
    return mz_err_set(b->err, "provider '%s' is not configured", name);
}

static bool need_build(struct build *b, const pb_JwtRequirement *m, struct jwt_tree *t,
                       const struct jwt_need *parent, struct jwt_need *out);

/* Members that only allow something are no members of ANY, but change its verdict; without others one of them is asked. */
static bool any_member_left_out(const pb_JwtRequirement *m, struct jwt_need *out)
{
    bool failed = m->requires_type_case == pb_JwtRequirement_REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED;
    bool missing = m->requires_type_case == pb_JwtRequirement_REQUIRES_TYPE_ALLOW_MISSING;
    out->allow_failed |= failed;
    out->allow_missing |= missing;
    return failed || missing;
}

static bool members_build(struct build *b, pb_JwtRequirement **v, size_t n, struct jwt_tree *t,
                          struct jwt_need *out)
{
    out->children = mz_arena_alloc0(b->c->arena, (n + 1) * sizeof(*out->children));
    for (size_t i = 0; i < n; i++) {
        if (out->kind == JWT_NEED_ANY && any_member_left_out(v[i], out))
            continue;
        if (!need_build(b, v[i], t, out, &out->children[out->n_children++]))
            return mz_err_at(b->err, "requirements[%zu]", i);
    }
    if (!out->n_children)
        out->children[out->n_children++] = (struct jwt_need){
            .kind = out->allow_failed ? JWT_NEED_MISSING_OR_FAILED : JWT_NEED_MISSING,
            .index = t->n++,
            .parent = out,
        };
    return true;
}

static bool need_build(struct build *b, const pb_JwtRequirement *m, struct jwt_tree *t,
                       const struct jwt_need *parent, struct jwt_need *out)
{
    out->index = t->n++;
    out->parent = parent;
    switch (m->requires_type_case) {
    case pb_JwtRequirement_REQUIRES_TYPE_PROVIDER_NAME:
        return provider_find(b, m->provider_name, out) || mz_err_at(b->err, "provider_name");
    case pb_JwtRequirement_REQUIRES_TYPE_PROVIDER_AND_AUDIENCES: {
        const pb_ProviderWithAudiences *p = m->provider_and_audiences;
        out->own_audiences = p->n_audiences > 0;
        out->audiences = audiences_keep(b, p->audiences, p->n_audiences);
        return provider_find(b, p->provider_name, out) ||
               mz_err_at(b->err, "provider_and_audiences.provider_name");
    }
    case pb_JwtRequirement_REQUIRES_TYPE_REQUIRES_ANY:
        out->kind = JWT_NEED_ANY;
        return members_build(b, m->requires_any->requirements, m->requires_any->n_requirements, t,
                             out) ||
               mz_err_at(b->err, "requires_any");
    case pb_JwtRequirement_REQUIRES_TYPE_REQUIRES_ALL:
        out->kind = JWT_NEED_ALL;
        return members_build(b, m->requires_all->requirements, m->requires_all->n_requirements, t,
                             out) ||
               mz_err_at(b->err, "requires_all");
    case pb_JwtRequirement_REQUIRES_TYPE_ALLOW_MISSING:
        out->kind = JWT_NEED_MISSING;
        return true;
    case pb_JwtRequirement_REQUIRES_TYPE_ALLOW_MISSING_OR_FAILED:
        out->kind = JWT_NEED_MISSING_OR_FAILED;
        return true;
    default:
        out->kind = JWT_NEED_NOTHING;
        return true;
    }
}

static struct jwt_tree *tree_build(struct build *b, const pb_JwtRequirement *m)
{
    struct jwt_tree *t = mz_arena_new0(b->c->arena, struct jwt_tree);
    return need_build(b, m, t, NULL, &t->root) ? t : NULL;
}

static bool trees_build(struct build *b, const char *key, const pb_JwtRequirement *m,
                        struct mz_map *out)
{
    struct jwt_tree *t = tree_build(b, m);
    if (!t)
        return mz_err_at(b->err, "[\"%s\"]", key);
    (void)mz_map_put(out, keep(b, key), t); /* keys of a map are unique */
    return true;
}

static int str_cmp(const void *x, const void *y)
{
    return mz_str_cmp(*(const struct mz_str *)x, *(const struct mz_str *)y);
}

static void names_build(struct build *b, const pb_JwtAuthentication *m)
{
    struct mz_arena *a = b->c->arena;
    size_t n = m->n_requirement_map;
    struct mz_str *v = mz_arena_alloc0(a, (n + 1) * sizeof(*v));
    for (size_t i = 0; i < n; i++)
        v[i] = mz_str_c(m->requirement_map[i]->key);
    if (n)
        qsort(v, n, sizeof(*v), str_cmp);
    struct mz_str *all = mz_arena_alloc0(a, (2 * n + 1) * sizeof(*all));
    for (size_t i = 0; i < n; i++) {
        all[2 * i] = v[i];
        all[2 * i + 1] = i + 1 < n ? MZ_STR(",") : MZ_STR("");
    }
    b->c->names = mz_arena_cat(a, 2 * n, all);
}

/* ---- rules ---- */

static bool rule_build(struct build *b, const pb_RequirementRule *m, size_t i, struct jwt_rule *out)
{
    out->match = mz_route_match_create(m->match, b->f, b->err);
    if (!out->match)
        return mz_err_at(b->err, "match");
    out->text = mz_arena_printf(b->c->arena, "rules[%zu] " MZ_STR_FMT, i,
                                MZ_STR_ARG(mz_route_match_text(out->match)));
    switch (m->requirement_type_case) {
    case pb_RequirementRule_REQUIREMENT_TYPE_REQUIRES:
        out->tree = tree_build(b, m->requires);
        return out->tree || mz_err_at(b->err, "requires");
    case pb_RequirementRule_REQUIREMENT_TYPE_REQUIREMENT_NAME:
        out->tree = mz_map_get(&b->c->named, mz_str_c(m->requirement_name));
        if (out->tree)
            return true;
        mz_err_set(b->err, "'%s' is not in requirement_map, which has [" MZ_STR_FMT "]",
                   m->requirement_name, MZ_STR_ARG(b->c->names));
        return mz_err_at(b->err, "requirement_name");
    default:
        return true;
    }
}

static bool rules_build(struct build *b, const pb_JwtAuthentication *m)
{
    struct jwt_cfg *c = b->c;
    c->rules = mz_arena_alloc0(c->arena, (m->n_rules + 1) * sizeof(*c->rules));
    for (size_t i = 0; i < m->n_rules; i++)
        if (!rule_build(b, m->rules[i], i, &c->rules[c->n_rules++]))
            return mz_err_at(b->err, "rules[%zu]", i);
    return true;
}

static bool requirements_build(struct build *b, const pb_JwtAuthentication *m)
{
    for (size_t i = 0; i < m->n_requirement_map; i++)
        if (!trees_build(b, m->requirement_map[i]->key, m->requirement_map[i]->value, &b->c->named))
            return mz_err_at(b->err, "requirement_map");
    names_build(b, m);
    if (!m->filter_state_rules)
        return true;
    const pb_FilterStateRule *r = m->filter_state_rules;
    b->c->state_name = keep(b, r->name);
    for (size_t i = 0; i < r->n_requires; i++)
        if (!trees_build(b, r->requires[i] -> key, r -> requires[i] -> value, &b -> c -> by_state))
            return mz_err_at(b->err, "filter_state_rules.requires");
    return true;
}

/* ---- the whole ---- */

static void provider_fini(struct jwt_provider *p, unsigned n_slots)
{
    mz_string_match_destroy(p->subjects);
    jwt_async_destroy(p->async);
    jwt_keys_unref(p->keys);
    for (unsigned i = 0; p->caches && i < n_slots; i++)
        jwt_cache_destroy(p->caches[i]);
}

void jwt_config_destroy(void *cfg)
{
    struct jwt_cfg *c = cfg;
    for (size_t i = 0; i < c->n_providers; i++)
        provider_fini(&c->providers[i], c->n_slots);
    for (size_t i = 0; i < c->n_rules; i++)
        mz_route_match_destroy(c->rules[i].match);
    mz_map_fini(&c->named);
    mz_map_fini(&c->by_state);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

void *jwt_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_JwtAuthentication *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct jwt_cfg *c = mz_arena_new0(a, struct jwt_cfg);
    *c = (struct jwt_cfg){ .arena = a,
                           .bypass_cors = m->bypass_cors_preflight,
                           .strip = m->strip_failure_response,
                           .n_slots = f->workers + 1 };
    mz_map_init(&c->named, MZ_MEM_CONFIG);
    mz_map_init(&c->by_state, MZ_MEM_CONFIG);
    struct mz_str own = mz_str_c(m->stat_prefix);
    struct mz_str dot = own.n ? MZ_STR(".") : MZ_STR("");
    c->scope = mz_scope_create(f->stats, &stat_kind,
                               mz_arena_cat(a, 5,
                                            (struct mz_str[]){ MZ_STR("http."), f->http_stat_prefix,
                                                               MZ_STR(".jwt_authn."), own, dot }));
    struct build b = { c, f, err };
    if (providers_build(&b, m) && requirements_build(&b, m) && rules_build(&b, m))
        return c;
    jwt_config_destroy(c);
    return NULL;
}

void *jwt_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    (void)f, (void)err;
    const pb_jwt_authn_PerRouteConfig *m = msg;
    bool by_name = m->requirement_specifier_case ==
                   pb_jwt_authn_PerRouteConfig_REQUIREMENT_SPECIFIER_REQUIREMENT_NAME;
    struct mz_str name = mz_str_c(by_name ? m->requirement_name : "");
    struct jwt_route_cfg *c = mz_alloc0(MZ_MEM_CONFIG, sizeof(*c) + name.n + 1);
    c->disabled = !by_name; /* disabled: true is all that may stand there */
    if (name.n)
        memcpy(c + 1, name.p, name.n);
    c->requirement = (struct mz_str){ (const char *)(c + 1), name.n };
    return c;
}

void jwt_route_config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}
