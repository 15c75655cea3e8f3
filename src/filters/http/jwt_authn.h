#ifndef MZ_FILTERS_HTTP_JWT_AUTHN_H
#define MZ_FILTERS_HTTP_JWT_AUTHN_H
/* jwt_authn (H9): configuration and what happens with one request. For jwt_authn*.c only. */
#include "base/list.h"
#include "base/map.h"
#include "hcm/filter.h"
#include "jwt/jwt.h"
#include "observe/matcher.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#define JWT_NAMESPACE "envoy.filters.http.jwt_authn" /* of dynamic metadata */

enum jwt_stat {
    JWT_ALLOWED,
    JWT_CORS_BYPASSED,
    JWT_DENIED,
    JWT_FETCH_FAILED,
    JWT_FETCH_SUCCESS,
    JWT_CACHE_HIT,
    JWT_CACHE_MISS,
};

struct jwt_strs {
    struct mz_str *v;
    size_t n;
};

/* ---- where tokens are (jwt_authn_extract.c) ---- */
struct jwt_location {
    enum { JWT_HEADER, JWT_PARAM, JWT_COOKIE } kind;
    struct mz_str name, prefix;
    bool any_issuer;         /* of some provider that names none */
    struct jwt_strs issuers; /* of the providers that look here */
};
struct jwt_places { /* of one provider, or of all; sorted */
    struct jwt_location *v;
    size_t n;
    struct jwt_strs reserved; /* headers that only a verified token may set */
};
struct jwt_found {
    struct mz_str token;
    const struct jwt_location *at;
};
/* Tokens of the request in the order of their places; in the stream's arena, headers are borrowed. */
size_t jwt_find(const struct jwt_places *p, const struct mz_headers *h, struct mz_arena *a,
                struct jwt_found **out);
void jwt_remove(const struct jwt_location *at, struct mz_headers *h,
                struct mz_arena *a); /* the token, where that can be done */
void jwt_reserve(const struct jwt_places *p, struct mz_headers *h); /* takes reserved headers out of a request */
bool jwt_location_allows(const struct jwt_location *l, struct mz_str issuer);
struct mz_str jwt_location_text(const struct jwt_location *l,
                                struct mz_arena *a); /* "header authorization" */

/* ---- verified tokens (jwt_authn_cache.c): of one provider and thread; least recently used goes first ---- */
struct jwt_cache;
struct jwt_cache *jwt_cache_create(size_t tokens);
void jwt_cache_destroy(struct jwt_cache *c); /* NULL is fine */
/* Verified with keys of @version (another: they changed meanwhile); NULL: not. Valid until the next insertion. */
const struct mz_jwt *jwt_cache_get(struct jwt_cache *c, struct mz_str token, uint64_t version);
void jwt_cache_put(struct jwt_cache *c, struct mz_str token, uint64_t version); /* copies */

/* ---- keys of a provider (jwt_authn_keys.c): given with the configuration, or fetched by a worker when it needs them ---- */
struct jwt_keys;    /* counted: a fetch may outlive the configuration */
struct jwt_waiter { /* embedded in who waits for keys; zeroed, or in no list */
    struct mz_list link;
    void (*ready)(struct jwt_waiter *w, const struct mz_jwks *keys,
                  uint64_t version); /* once; keys NULL: the fetch failed */
};
struct jwt_keys *jwt_keys_create(struct mz_jwks *take); /* NULL: none, every token is refused */
struct Envoy__Extensions__Filters__Http__JwtAuthn__V3__RemoteJwks;
struct jwt_keys *
jwt_keys_create_remote(const struct Envoy__Extensions__Filters__Http__JwtAuthn__V3__RemoteJwks *m,
                       struct mz_scope *scope, unsigned n_slots, struct mz_err *err);
struct jwt_keys *jwt_keys_ref(struct jwt_keys *k);
void jwt_keys_unref(struct jwt_keys *k); /* any thread; NULL is fine */
struct mz_str jwt_keys_name(const struct jwt_keys *k); /* of remote ones, as init targets are named; lives as long as they do */
uint64_t jwt_keys_lifetime_us(const struct jwt_keys *k);
/* What is at hand and not too old, NULL: nothing. Valid until the end of the turn. A worker's thread. */
const struct mz_jwks *jwt_keys_get(struct jwt_keys *k, const struct mz_worker *w,
                                   uint64_t *out_version);
/* Asks for keys; false: they can be had from nowhere. One fetch serves all of this worker that wait; ready() is not called from
 * inside. */
bool jwt_keys_wait(struct jwt_keys *k, const struct mz_worker *w, struct jwt_waiter *waiter);
void jwt_waiter_cancel(struct jwt_waiter *waiter); /* also when it does not wait */

/* ---- keys that are fetched ahead of requests (jwt_authn_async.c). Main thread; destroyed on any. ---- */
struct jwt_async;
struct Envoy__Extensions__Filters__Http__JwtAuthn__V3__JwksAsyncFetch;
/* @take: a reference to remote keys that are good for @cache_us. NULL and @err: the path within RemoteJwks. */
struct jwt_async *
jwt_async_create(struct jwt_keys *take,
                 const struct Envoy__Extensions__Filters__Http__JwtAuthn__V3__JwksAsyncFetch *m,
                 uint64_t cache_us, const struct mz_factory *f, struct mz_err *err);
void jwt_async_destroy(struct jwt_async *s); /* NULL is fine */

/* ---- providers ---- */
struct jwt_claim_header {
    struct mz_str header, claim;
};
struct jwt_provider {
    struct mz_str name, issuer;
    struct jwt_strs audiences;        /* as mz_jwt_audience() */
    struct mz_string_match *subjects; /* NULL: any */
    bool require_expiration, has_max_lifetime;
    uint64_t max_lifetime_us;
    uint64_t skew_s;
    bool forward, pad, clear_route_cache;
    struct mz_str payload_header, payload_key, header_key,
        failed_key; /* "" none; keys of the metadata */
    struct jwt_strs space_delimited;
    struct jwt_claim_header *claims;
    size_t n_claims;
    struct jwt_places places;
    struct jwt_keys *keys;
    struct jwt_async *async; /* NULL: they are fetched when a request needs them */
    struct jwt_cache **
        caches; /* per slot of statistics, each made and used by its own thread; NULL: none wanted */
    size_t cache_tokens, cache_max_bytes;
};

/* ---- requirements: a tree ---- */
enum jwt_need_kind {
    JWT_NEED_NOTHING,
    JWT_NEED_PROVIDER,
    JWT_NEED_ANY,
    JWT_NEED_ALL,
    JWT_NEED_MISSING,
    JWT_NEED_MISSING_OR_FAILED
};
struct jwt_need {
    uint8_t kind;
    bool allow_missing, allow_failed; /* of ANY: one of its members said so */
    uint32_t index;                   /* in its tree; the root has 0 */
    const struct jwt_need *parent;    /* NULL: the root */
    const struct jwt_provider *provider;
    bool own_audiences;
    struct jwt_strs audiences;
    struct jwt_need *children;
    size_t n_children;
};
struct jwt_tree {
    struct jwt_need root;
    uint32_t n; /* nodes */
};
struct jwt_rule {
    struct mz_route_match *match;
    const struct jwt_tree *tree; /* NULL: nothing is required */
    struct mz_str text;          /* "rules[1] prefix /a" */
};

struct jwt_cfg {
    struct mz_arena *arena;
    struct mz_scope *scope;
    struct jwt_provider *providers; /* in the order of the document */
    size_t n_providers;
    struct jwt_places everywhere; /* of all providers */
    struct jwt_rule *rules;
    size_t n_rules;
    struct mz_map named,
        by_state;             /* requirement_map, filter_state_rules: name -> struct jwt_tree */
    struct mz_str names;      /* of requirement_map: "a,b" */
    struct mz_str state_name; /* "" no filter_state_rules */
    bool bypass_cors, strip;
    unsigned n_slots;
};
struct jwt_route_cfg {
    bool disabled;
    struct mz_str requirement; /* behind the struct */
};
void *jwt_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void jwt_config_destroy(void *cfg);
void *jwt_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void jwt_route_config_destroy(void *cfg);

/* ---- one request (jwt_authn_check.c) ---- */
struct jwt_check {
    const struct jwt_cfg *cfg;
    struct mz_filter *filter;
    const struct jwt_tree *tree;
    void (*done)(struct jwt_check *c,
                 enum mz_jwt_status s); /* once, perhaps from inside of jwt_check_start() */
    struct jwt_node *nodes;             /* states of the tree's nodes */
    struct mz_list waiting;             /* leaves that wait for keys */
    bool clear_route;
};
void jwt_check_start(struct jwt_check *c);
void jwt_check_cancel(
    struct jwt_check *c); /* the stream ends; also after done(), also when it never started */

/* What a verified token becomes: headers and metadata (jwt_authn_apply.c). */
void jwt_apply(struct jwt_check *c, const struct jwt_provider *p, const struct mz_jwt *j,
               const struct jwt_location *at);
void jwt_apply_failure(struct jwt_check *c, const struct jwt_provider *p, enum mz_jwt_status s);
#endif
