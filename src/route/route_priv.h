#ifndef MZ_ROUTE_ROUTE_PRIV_H
#define MZ_ROUTE_ROUTE_PRIV_H
/* Shared by the files of this folder: what is behind mz_route.priv and mz_vhost.priv, and the builders. */
#include "base/map.h"
#include "observe/decision.h"
#include "proto/mapper.h"
#include "route/rate_limit.h"
#include "route/route.h"
#include "route/uri_template.h"

/* ---- how a route matches ---- */
enum path_kind { PATH_PREFIX, PATH_EXACT, PATH_SEPARATED, PATH_REGEX, PATH_TEMPLATE, PATH_CONNECT };
struct query_match {
    struct mz_str name;
    struct mz_string_match *value; /* NULL: presence decides */
    bool absent;                   /* present_match: false */
};
struct cookie_match {
    struct mz_str name;
    struct mz_string_match *value;
    bool invert;
};
/* Conditions beyond the path; most routes have none. */
struct match_more {
    struct mz_header_match **headers;
    struct query_match *queries;
    struct cookie_match *cookies;
    struct mz_metadata_match **metadata;
    uint32_t n_headers, n_queries, n_cookies, n_metadata;
    struct mz_fraction fraction;
    bool has_fraction, grpc, tls;
    int8_t cert_presented, cert_validated; /* -1: not asked */
};
enum miss {
    MISS_NONE,
    MISS_PATH,
    MISS_RUNTIME,
    MISS_GRPC,
    MISS_HEADER,
    MISS_QUERY,
    MISS_COOKIE,
    MISS_TLS,
    MISS_METADATA
};

struct path_rewrite {
    enum { REWRITE_PREFIX, REWRITE_REGEX, REWRITE_TEMPLATE, REWRITE_FORMAT } kind;
    struct mz_str with; /* prefix, or substitution of the regex */
    struct mz_regex *regex;
    struct mz_uri_rewrite *tpl;
    struct mz_format *format;
};
struct redirect {
    struct mz_str scheme, host, port /* ":8443" */, path;
    struct path_rewrite *rewrite; /* NULL: none */
    bool path_has_query, strip_query, keep_port /* require_tls: host as it came */;
};
struct route_priv {
    uint8_t kind; /* enum path_kind */
    bool nocase;
    struct mz_str path; /* literal of prefix, path, separated prefix; pattern of others: route_set_path() */
    union {
        struct mz_regex *regex;
        struct mz_uri_template *tpl;
    };
    struct match_more *more; /* NULL: the path alone decides */
    struct path_rewrite *rewrite;
    struct redirect *redirect;
    struct mz_format *host_format; /* host_rewrite; NULL: none */
};

/* ---- virtual hosts ---- */
struct route_index;
struct vcluster {
    struct mz_str name;
    struct mz_header_match **headers;
    size_t n_headers;
    struct mz_scope *scope;
};
struct vhost_priv { /* absent where all of it would be empty */
    struct route_index *index;
    struct vcluster *vclusters;
    size_t n_vclusters;
    struct mz_scope *other;        /* vcluster.other. */
    struct mz_route *tls_redirect; /* what require_tls answers with */
};

/* Domains with a "*": by their literal part; lengths longest first. */
struct wildcards {
    struct mz_map map;
    uint32_t *lens;
    size_t n;
};
struct mz_route_table {
    unsigned refs;          /* atomic */
    struct mz_arena *arena; /* holds everything, this struct too */
    struct mz_str name;
    struct mz_vhost *vhosts;
    size_t n_vhosts;
    struct mz_map exact;
    struct wildcards suffix, prefix;
    struct mz_vhost *any; /* "*" */
    struct mz_header_mutations req, resp;
    struct mz_filter_overrides overrides;
    const struct mz_meta *metadata;
    struct mz_str *internal_only;
    size_t n_internal_only;
    bool most_specific_wins, ignore_port, ignore_path_params;
    struct mz_str vhost_header; /* its value is matched in place of the authority; empty: none */
    bool on_demand; /* VHDS may have more virtual hosts */
};

/* ---- matching (match.c, index.c) ---- */
struct match_req {
    const struct mz_route_query *q;
    struct mz_str full; /* :path */
    struct mz_str path; /* without query, fragment and (where ignored) parameters */
};
/* False: *out_why tells the first condition that failed, *out_i which of its kind. */
bool route_matches(const struct mz_route *r, const struct match_req *m, enum miss *out_why,
                   unsigned *out_i);
/* "prefix /a": for the story, as borrowed as the route. The path is the end of that text, so a request makes none. */
struct mz_str route_match_text(const struct mz_route *r);
void route_set_path(struct route_priv *p, enum path_kind kind, const char *text,
                    struct mz_arena *a); /* copies */
struct mz_str route_miss_text(const struct mz_route *r, enum miss why, unsigned i,
                              struct mz_arena *a);
const struct mz_route *vhost_route(const struct mz_vhost *v, const struct match_req *m);
/* The first of that name, without quotes. */
bool cookie_get(const struct mz_headers *h, struct mz_str name, struct mz_str *out_value);
bool query_get(struct mz_str query, struct mz_str name,
               struct mz_str *out_value); /* the first; not decoded, as Envoy */

#define INDEX_MAX_CURSORS 16
struct route_cursor {
    const uint32_t *v;
    const uint32_t *end;
};
struct route_index *route_index_build(const struct mz_vhost *v,
                                      struct mz_arena *a); /* NULL: linear search is as good */
/* Lists of route numbers, each ascending, that together hold every route that can match @path. */
unsigned route_index_find(const struct route_index *x, struct mz_str path,
                          struct route_cursor out[INDEX_MAX_CURSORS]);

/* ---- building ---- */
struct builder {
    struct mz_route_table *t;
    struct mz_arena *a; /* of the table */
    const struct mz_route_env *env;
    bool check_clusters;
    uint32_t max_direct_body;
    struct mz_err *err;
    /* inherited by routes */
    const struct mz_retry_policy *retry;
    const struct mz_hedge_policy *hedge;
    struct mz_mirror_policy *mirrors;
    uint32_t n_mirrors;
};
static inline struct mz_str build_str(struct builder *b, const char *s)
{
    return mz_arena_dup(b->a, mz_str_c(s));
}
struct mz_str build_lower(struct builder *b, const char *s); /* the same in lower case */
#define build_newn0(b, T, n) ((T *)mz_arena_alloc0((b)->a, mz_mul((n), sizeof(T))))
#define build_new0(b, T)     mz_arena_new0((b)->a, T)

/* Each returns false with b->err set and its own path in it. */
bool build_match(struct builder *b, const pb_RouteMatch *m, struct mz_route *r);
bool build_header_matches(struct builder *b, pb_HeaderMatcher **v, size_t n,
                          struct mz_header_match ***out);
bool build_query_matches(struct builder *b, pb_QueryParameterMatcher **v, size_t n,
                         struct query_match **out_v);
bool build_action(struct builder *b, const pb_RouteAction *m, struct mz_route *r);
bool build_cluster_choice(struct builder *b, const pb_RouteAction *m, struct mz_route *r);
bool build_path_rewrite(struct builder *b, const pb_RouteAction *m, struct mz_route *r);
bool build_host_rewrite(struct builder *b, const pb_RouteAction *m, struct mz_route *r);
bool build_redirect(struct builder *b, const pb_RedirectAction *m, struct mz_route *r);
bool build_direct(struct builder *b, const pb_DirectResponseAction *m, struct mz_route *r);
bool build_retry(struct builder *b, const pb_route_RetryPolicy *m, const struct mz_retry_policy **out);
bool build_hedge(struct builder *b, const pb_HedgePolicy *m, const struct mz_hedge_policy **out);
bool build_mirrors(struct builder *b, pb_RouteAction_RequestMirrorPolicy **v, size_t n,
                   struct mz_mirror_policy **out);
bool build_hash(struct builder *b, const pb_RouteAction *m, struct mz_route *r);
bool build_internal_redirect(struct builder *b, const pb_InternalRedirectPolicy *m,
                             struct mz_route *r);
bool build_mutations(
    struct builder *b, pb_HeaderValueOption **add, size_t n_add, char **remove, size_t n_remove,
    const char *what,
    struct mz_header_mutations *out); /* @what: "request" or "response"; freed with the arena */
bool build_regex(struct builder *b, const pb_RegexMatcher *m, struct mz_regex **out);
bool build_substitution(struct builder *b, const pb_RegexMatchAndSubstitute *m,
                        struct mz_regex **out, struct mz_str *out_with);
bool build_format(struct builder *b, const char *text, bool omit_empty, struct mz_format **out);
bool build_tracing(struct builder *b, const pb_Route *m, struct mz_route *r); /* decorator, tracing */
bool build_percent(struct builder *b, const pb_FractionalPercent *m, struct mz_fraction *out);
bool build_fraction(struct builder *b, const pb_RuntimeFractionalPercent *m,
                    struct mz_fraction *out);
bool build_cluster_known(struct builder *b, const char *name); /* validate_clusters */
bool build_opt_ms(struct builder *b, const pb_Duration *d, const char *field,
                  struct mz_opt_ms *out);
struct
    pb_override { /* an entry of a typed_per_filter_config map: the generated entries differ in type only */
    const char *key;
    const pb_Any *value;
};
bool build_overrides(struct builder *b, const struct pb_override *v, size_t n,
                     struct mz_filter_overrides *out);
bool build_rate_limits(struct builder *b, pb_RateLimit **v, size_t n,
                       const struct mz_rate_limits **out);
bool build_cors(struct builder *b, const pb_CorsPolicy *m,
                const void **out); /* NULL: nothing; out as the cors filter makes it */
bool build_vhost(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v);
bool build_route(struct builder *b, const pb_Route *m, struct mz_vhost *v, struct mz_route *r);
bool build_vclusters(struct builder *b, const pb_VirtualHost *m, struct mz_vhost *v);
struct vhost_priv *vhost_priv(struct builder *b, struct mz_vhost *v); /* makes it at first use */
extern const struct mz_internal_redirect no_internal_redirect;
extern const struct mz_hedge_policy no_hedge;

/* ---- rewriting (rewrite.c) ---- */
struct mz_str path_only(struct mz_str path); /* without query and fragment */
/* The new :path; empty when the rule gives none. */
struct mz_str path_rewritten(const struct path_rewrite *w, const struct mz_route *r,
                             struct mz_str path, const struct mz_format_ctx *c, struct mz_arena *a);
#endif
