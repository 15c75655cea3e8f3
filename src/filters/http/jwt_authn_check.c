/*
 * Does a request have what its rule requires? A requirement is a tree: leaves ask for tokens of a provider (or of any), nodes want
 * any or all of their members. Members are asked in their order, until the node is decided.
 */
#include "filters/http/jwt_authn.h"

struct jwt_node { /* state of a node of the tree, in the stream's arena */
    bool done;
    uint32_t completed; /* members of ANY, ALL that have their outcome */
    enum mz_jwt_status status;
};
struct leaf {            /* one that looks for tokens */
    struct mz_list link; /* while it waits */
    struct jwt_waiter waiter;
    struct jwt_check *c;
    const struct jwt_need *need;
    struct jwt_found *tokens;
    size_t left;                         /* the last of tokens[0..left) is next */
    const struct jwt_found *token;       /* that which is looked at */
    struct mz_jwt jwt;                   /* it, where it was not cached */
    const struct jwt_provider *provider; /* whose it is */
};

static struct jwt_node *node_of(const struct jwt_check *c, const struct jwt_need *n)
{
    return &c->nodes[n->index];
}

/* ---- outcomes go up ---- */

static void node_done(struct jwt_check *c, const struct jwt_need *n, enum mz_jwt_status s);

/* The most telling fault of the members: neither "missing" nor "unknown issuer", if there is one. */
static enum mz_jwt_status worst(const struct jwt_check *c, const struct jwt_need *n)
{
    enum mz_jwt_status out = MZ_JWT_MISSING;
    for (size_t i = 0; i < n->n_children; i++) {
        enum mz_jwt_status s = node_of(c, &n->children[i])->status;
        if ((s != MZ_JWT_MISSING && s != MZ_JWT_ISSUER_UNKNOWN) || out == MZ_JWT_MISSING)
            out = s;
    }
    if (n->allow_failed || (n->allow_missing && out == MZ_JWT_MISSING))
        return MZ_JWT_OK;
    return out;
}

static void member_done(struct jwt_check *c, const struct jwt_need *n, enum mz_jwt_status s)
{
    struct jwt_node *node = node_of(c, n);
    if (node->done)
        return;
    bool last = ++node->completed == n->n_children;
    if (n->kind == JWT_NEED_ANY && (s == MZ_JWT_OK || last))
        node_done(c, n, s == MZ_JWT_OK ? s : worst(c, n));
    else if (n->kind == JWT_NEED_ALL && (s != MZ_JWT_OK || last))
        node_done(c, n, s);
}

static void node_done(struct jwt_check *c, const struct jwt_need *n, enum mz_jwt_status s)
{
    struct jwt_node *node = node_of(c, n);
    node->done = true;
    node->status = s;
    if (n->parent) {
        member_done(c, n->parent, s);
        return;
    }
    jwt_check_cancel(c); /* members whose outcome matters no more */
    c->done(c, s);
}

void jwt_check_cancel(struct jwt_check *c)
{
    if (!c->nodes)
        return;
    mz_list_foreach (it, &c->waiting) {
        struct leaf *l = MZ_CONTAINER(it, struct leaf, link);
        mz_list_del(&l->link);
        jwt_waiter_cancel(&l->waiter);
    }
}

/* ---- one token ---- */

static const struct jwt_provider *provider_by_issuer(const struct jwt_cfg *cfg,
                                                     struct mz_str issuer)
{
    const struct jwt_provider *any = NULL;
    for (size_t i = 0; i < cfg->n_providers; i++) {
        const struct jwt_provider *p = &cfg->providers[i];
        if (mz_str_eq(p->issuer, issuer))
            return p;
        if (!any && !p->issuer.n)
            any = p;
    }
    return any;
}

static bool audience_ok(const struct leaf *l, const struct mz_jwt *j)
{
    const struct jwt_strs *want =
        l->need->own_audiences ? &l->need->audiences : &l->provider->audiences;
    for (size_t i = 0; i < j->n_aud; i++)
        for (size_t k = 0; k < want->n; k++)
            if (mz_str_eq(mz_jwt_audience(j->aud[i]), want->v[k]))
                return true;
    return !want->n;
}

static bool lifetime_ok(const struct jwt_provider *p, const struct mz_jwt *j, uint64_t now_us)
{
    if (!p->require_expiration && !p->has_max_lifetime)
        return true;
    if (!j->exp.set)
        return false;
    uint64_t now_s = now_us / 1000000;
    if (!p->has_max_lifetime || j->exp.s <= now_s)
        return true;
    uint64_t left_s = j->exp.s - now_s;
    return left_s <= UINT64_MAX / 1000000 &&
           left_s * 1000000 - now_us % 1000000 < p->max_lifetime_us;
}

static enum mz_jwt_status claims_check(struct leaf *l, const struct mz_jwt *j)
{
    uint64_t now_us = mz_loop_wall_us(mz_stream_worker(l->c->filter->stream)->loop);
    const struct jwt_provider *p = l->provider;
    enum mz_jwt_status s = mz_jwt_check_time(j, now_us / 1000000, p->skew_s);
    if (s != MZ_JWT_OK)
        return s;
    if (!audience_ok(l, j))
        return MZ_JWT_AUDIENCE;
    if (p->subjects && !mz_string_match(p->subjects, j->sub))
        return MZ_JWT_VERIFICATION;
    return lifetime_ok(p, j, now_us) ? MZ_JWT_OK : MZ_JWT_VERIFICATION;
}

static const struct mz_worker *worker_of(const struct leaf *l)
{
    return mz_stream_worker(l->c->filter->stream);
}

static struct jwt_cache *cache_here(const struct leaf *l)
{
    const struct jwt_provider *p = l->need->provider;
    if (!p || !p->caches || l->token->token.n > p->cache_max_bytes)
        return NULL;
    struct jwt_cache **c = &p->caches[worker_of(l)->slot];
    if (!*c)
        *c = jwt_cache_create(p->cache_tokens);
    return *c;
}

static enum mz_jwt_status signature_check(struct leaf *l, const struct mz_jwks *keys,
                                          uint64_t version)
{
    enum mz_jwt_status s = mz_jwks_verify(keys, &l->jwt);
    struct jwt_cache *cache = s == MZ_JWT_OK ? cache_here(l) : NULL;
    if (cache)
        jwt_cache_put(cache, l->token->token, version);
    return s;
}

/* NULL: not cached. Where its keys are too old the token is checked anew. */
static const struct mz_jwt *cached(struct leaf *l)
{
    const struct jwt_provider *p = l->need->provider;
    if (!p)
        return NULL;
    uint64_t version;
    struct jwt_cache *cache = cache_here(l);
    const struct mz_jwt *j = cache && jwt_keys_get(p->keys, worker_of(l), &version)
                                 ? jwt_cache_get(cache, l->token->token, version)
                                 : NULL;
    mz_count(l->c->cfg->scope, j ? JWT_CACHE_HIT : JWT_CACHE_MISS, 1);
    return j;
}

static enum mz_jwt_status issuer_check(struct leaf *l, const struct mz_jwt *j)
{
    if (!jwt_location_allows(l->token->at, j->iss))
        return MZ_JWT_ISSUER_UNKNOWN;
    if (!l->provider)
        l->provider = provider_by_issuer(l->c->cfg, j->iss);
    return l->provider ? claims_check(l, j) : MZ_JWT_ISSUER_UNKNOWN;
}

static void keys_ready(struct jwt_waiter *w, const struct mz_jwks *keys, uint64_t version);

/* False: the signature must wait for keys. */
static bool keys_check(struct leaf *l, enum mz_jwt_status *out)
{
    uint64_t version;
    const struct mz_jwks *keys = jwt_keys_get(l->provider->keys, worker_of(l), &version);
    if (keys) {
        *out = signature_check(l, keys, version);
        return true;
    }
    l->waiter.ready = keys_ready;
    *out = MZ_JWT_JWKS_NO_VALID_KEYS;
    if (!jwt_keys_wait(l->provider->keys, worker_of(l), &l->waiter))
        return true;
    mz_list_add_tail(&l->c->waiting, &l->link);
    return false;
}

/* False: not yet known. A good token has become headers and metadata. */
static bool token_check(struct leaf *l, enum mz_jwt_status *out)
{
    l->provider = l->need->provider;
    const struct mz_jwt *hit = cached(l), *j = hit ? hit : &l->jwt;
    *out = hit ? MZ_JWT_OK
               : mz_jwt_parse(l->token->token, mz_stream_arena(l->c->filter->stream), &l->jwt);
    if (*out == MZ_JWT_OK)
        *out = issuer_check(l, j);
    if (*out == MZ_JWT_OK && !hit && !keys_check(l, out))
        return false;
    if (*out == MZ_JWT_OK)
        jwt_apply(l->c, l->provider, j, l->token->at);
    return true;
}

/* ---- leaves ---- */

/* "provider p: Jwt is expired, in header authorization" */
static void tell(const struct leaf *l, enum mz_jwt_status s, const struct jwt_found *t)
{
    struct mz_stream *stream = l->c->filter->stream;
    struct mz_arena *a = mz_stream_arena(stream);
    struct mz_str who = l->provider ? l->provider->name : MZ_STR("any");
    struct mz_str where = t ? jwt_location_text(t->at, a) : MZ_STR("");
    struct mz_str text = mz_arena_cat(
        a, 5,
        (struct mz_str[]){ MZ_STR("provider "), who, MZ_STR(": "), mz_str_c(mz_jwt_status_text(s)),
                           t ? mz_arena_cat(a, 2, (struct mz_str[]){ MZ_STR(", in "), where })
                             : where });
    mz_stream_story(stream, MZ_STEP_NOT_RULE, l->c->filter->name, text, 0, 0);
}

static void failed(struct leaf *l, enum mz_jwt_status s, const struct jwt_found *t)
{
    const struct jwt_cfg *cfg = l->c->cfg;
    const struct jwt_provider *p = l->provider && t        ? l->provider
                                   : cfg->n_providers == 1 ? &cfg->providers[0]
                                                           : NULL;
    if (p)
        jwt_apply_failure(l->c, p, s);
    tell(l, s, t);
}

static void leaf_done(struct leaf *l, enum mz_jwt_status s)
{
    bool forgiven = l->need->kind == JWT_NEED_MISSING_OR_FAILED ||
                    (l->need->kind == JWT_NEED_MISSING && s == MZ_JWT_MISSING);
    node_done(l->c, l->need, forgiven ? MZ_JWT_OK : s);
}

/* True: the leaf has its outcome. */
static bool token_done(struct leaf *l, enum mz_jwt_status s)
{
    if (s == MZ_JWT_OK)
        return false;
    failed(l, s, l->token);
    if (l->need->kind == JWT_NEED_MISSING_OR_FAILED)
        return false;
    leaf_done(l, s);
    return true;
}

/* All tokens must be good, or the upstream might take the bad one for the one that was checked; the last one first (Envoy). */
static void leaf_run(struct leaf *l)
{
    while (l->left) {
        enum mz_jwt_status s;
        l->token = &l->tokens[--l->left];
        if (!token_check(l, &s) || token_done(l, s))
            return;
    }
    leaf_done(l, MZ_JWT_OK);
}

static void keys_ready(struct jwt_waiter *w, const struct mz_jwks *keys, uint64_t version)
{
    struct leaf *l = MZ_CONTAINER(w, struct leaf, waiter);
    mz_list_del(&l->link);
    enum mz_jwt_status s = keys ? signature_check(l, keys, version) : MZ_JWT_JWKS_FETCH;
    if (s == MZ_JWT_OK)
        jwt_apply(l->c, l->provider, &l->jwt, l->token->at);
    if (!token_done(l, s))
        leaf_run(l);
}

static void leaf_start(struct jwt_check *c, const struct jwt_need *n)
{
    struct mz_arena *a = mz_stream_arena(c->filter->stream);
    struct mz_headers *h = mz_stream_request_headers(c->filter->stream);
    const struct jwt_places *places = n->provider ? &n->provider->places : &c->cfg->everywhere;
    struct leaf *l = mz_arena_new0(a, struct leaf);
    *l = (struct leaf){ .c = c, .need = n, .provider = n->provider };
    mz_list_init(&l->link);
    mz_list_init(&l->waiter.link);
    l->left = jwt_find(places, h, a, &l->tokens);
    if (l->left) {
        leaf_run(l);
        return;
    }
    failed(l, MZ_JWT_MISSING, NULL);
    leaf_done(l, MZ_JWT_MISSING);
}

static void need_start(struct jwt_check *c, const struct jwt_need *n)
{
    switch ((enum jwt_need_kind)n->kind) {
    case JWT_NEED_NOTHING:
        node_done(c, n, MZ_JWT_OK);
        return;
    case JWT_NEED_ANY:
    case JWT_NEED_ALL:
        for (size_t i = 0; i < n->n_children && !node_of(c, n)->done; i++)
            need_start(c, &n->children[i]);
        return;
    case JWT_NEED_PROVIDER:
    case JWT_NEED_MISSING:
    case JWT_NEED_MISSING_OR_FAILED:
        leaf_start(c, n);
        return;
    }
}

void jwt_check_start(struct jwt_check *c)
{
    struct mz_stream *s = c->filter->stream;
    c->nodes = mz_arena_alloc0(mz_stream_arena(s), c->tree->n * sizeof(*c->nodes));
    mz_list_init(&c->waiting);
    need_start(c, &c->tree->root);
}
