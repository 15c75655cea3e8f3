#ifndef MZ_ROUTE_ROUTE_H
#define MZ_ROUTE_ROUTE_H
/*
 * The route table (H8): built from RouteConfiguration, immutable, shared by threads, indexed at build time. Below the
 * connection manager, which reads a matched route's timeouts, filter configurations and metadata; the router filter reads the
 * rest. A stream holds a reference to its table, so a route stays valid as long as the stream.
 */
#include "base/err.h"
#include "base/regex.h"
#include "http/header_map.h"
#include "listener/factory.h"
#include "net/addr.h"
#include "observe/format.h"
#include "observe/matcher.h"
#include "observe/custom_tag.h"
#include "observe/metadata.h"
#include "runtime/runtime.h"

struct mz_stream_info;
struct mz_decision;
struct mz_route_table;
struct mz_vhost;
struct mz_rate_limits;

/* ---- header mutations (request_headers_to_add/remove, header_mutation filter) ---- */
enum mz_append_action { MZ_APPEND_IF_EXISTS_OR_ADD, MZ_ADD_IF_ABSENT, MZ_OVERWRITE_IF_EXISTS_OR_ADD, MZ_OVERWRITE_IF_EXISTS };
struct mz_header_add {
    struct mz_str name; /* lower case */
    struct mz_format *value;
    enum mz_append_action action;
    bool keep_empty;
};
struct mz_header_mutations { /* removals first; counts are narrow: there are two of these per route */
    struct mz_header_add *add;
    struct mz_str *remove;
    uint32_t n_add, n_remove;
};
struct Envoy__Config__Core__V3__HeaderValueOption;
bool mz_header_mutations_build(struct Envoy__Config__Core__V3__HeaderValueOption **add, size_t n_add, char **remove, size_t n_remove,
                               bool allow_pseudo, struct mz_header_mutations *out, struct mz_err *err); /* path: [i].header... */
void mz_header_mutations_fini(struct mz_header_mutations *m);
/* Formats see the headers as they are in @c; texts go to the arena of @h. */
void mz_header_mutations_apply(const struct mz_header_mutations *m, struct mz_headers *h, const struct mz_format_ctx *c);

/* envoy.config.common.mutation_rules.v3.HeaderMutation: one list, applied in its order (mirrors, header_mutation filter). */
struct mz_header_op {
    enum { MZ_HEADER_OP_REMOVE, MZ_HEADER_OP_ADD, MZ_HEADER_OP_REMOVE_ON_MATCH } kind;
    struct mz_str remove;
    struct mz_header_add add;
    struct mz_string_match *match; /* of names */
};
struct mz_header_ops {
    struct mz_header_op *v;
    size_t n;
};
struct Envoy__Config__Common__MutationRules__V3__HeaderMutation;
bool mz_header_ops_build(struct Envoy__Config__Common__MutationRules__V3__HeaderMutation **v, size_t n, struct mz_header_ops *out,
                         struct mz_err *err); /* path: [i]... */
void mz_header_ops_fini(struct mz_header_ops *o);
void mz_header_ops_apply(const struct mz_header_ops *o, struct mz_headers *h, const struct mz_format_ctx *c);

/* ---- what a route says ---- */
enum mz_route_action { MZ_ACTION_CLUSTER, MZ_ACTION_REDIRECT, MZ_ACTION_DIRECT, MZ_ACTION_NON_FORWARDING };
struct mz_opt_ms { uint64_t ms : 63; uint64_t set : 1; };

struct mz_reset_header { struct mz_str name; bool unix_time; };
struct mz_retry_policy {
    uint32_t retry_on;            /* bits of retry_on.h */
    uint32_t num_retries;         /* default 1 */
    uint64_t per_try_timeout_ms, per_try_idle_timeout_ms;
    uint64_t backoff_base_ms, backoff_max_ms; /* 0: runtime upstream.base_retry_backoff_ms (25); 10 x base */
    uint32_t *status_codes; size_t n_status_codes;
    struct mz_header_match **retriable_headers; size_t n_retriable_headers;
    struct mz_header_match **retriable_request_headers; size_t n_retriable_request_headers;
    bool previous_hosts, omit_canary_hosts, previous_priorities;
    uint32_t previous_priorities_frequency;
    const struct mz_meta *omit_metadata;
    uint32_t host_selection_attempts;
    struct mz_reset_header *reset_headers; size_t n_reset_headers; /* rate_limited_retry_back_off */
    uint64_t reset_max_ms;
};
struct Envoy__Config__Core__V3__RetryPolicy;
/* That of a service which the proxy asks itself (router/async.h); in the arena. @retry_on: instead of the message's; NULL: its own. */
const struct mz_retry_policy *mz_retry_policy_core(const struct Envoy__Config__Core__V3__RetryPolicy *m, const char *retry_on,
                                                   struct mz_arena *a, struct mz_err *err);
struct mz_cookie_attribute { struct mz_str name, value; };
struct mz_hash_policy {
    enum { MZ_HASH_HEADER, MZ_HASH_COOKIE, MZ_HASH_SOURCE_IP, MZ_HASH_QUERY, MZ_HASH_STATE, MZ_HASH_NONE } kind;
    struct mz_str name;                /* header, cookie or query parameter */
    struct mz_regex *rewrite; struct mz_str rewrite_with;
    bool cookie_ttl_set; uint64_t cookie_ttl_s; struct mz_str cookie_path;
    struct mz_cookie_attribute *cookie_attributes; size_t n_cookie_attributes;
    bool terminal;
};
struct mz_mirror_policy {
    struct mz_str cluster, cluster_header;
    struct mz_fraction fraction;
    bool disable_host_suffix;
    struct mz_header_ops mutations; struct mz_str host_rewrite;
};
struct mz_weighted_cluster {
    struct mz_str name, cluster_header, host_rewrite;
    uint32_t weight;
    struct mz_str runtime_key;
    const struct mz_meta *metadata_match;
    struct mz_header_mutations req, resp;
    struct mz_filter_overrides *overrides;
};
struct mz_internal_redirect {
    bool enabled;
    uint32_t max; uint16_t codes[8]; unsigned n_codes;
    bool allow_cross_scheme, previous_routes, allow_listed, safe_cross_scheme;
    struct mz_str *allow_list; size_t n_allow_list;
    struct mz_str *copy_headers; size_t n_copy_headers;
};
struct mz_route_tracing { /* decorator and tracing of a route */
    struct mz_str operation; /* "" none */
    bool propagate;
    struct mz_fraction client, random, overall; /* denominator 0: as the connection manager has it */
    struct mz_custom_tags tags; /* besides the manager's; they win */
};
struct mz_hedge_policy { bool set, on_per_try_timeout; uint32_t initial_requests; struct mz_fraction additional; };
struct mz_upgrade { struct mz_str type; bool enabled; bool connect; bool allow_post; };

/* typed_per_filter_config of one level: configurations built by their filter types. */
struct mz_filter_override { struct mz_str name; const struct mz_http_filter_type *type; void *cfg; bool disabled, enabled; };
struct mz_filter_overrides { struct mz_filter_override *v; size_t n; };

struct mz_direct_response {
    struct mz_str body;
    const struct mz_format *format;    /* body_format as text, or ... */
    const struct mz_format_json *json; /* ... as JSON; NULL: the body as it is (also %LOCAL_REPLY_BODY%) */
    struct mz_str content_type;        /* of body_format; "" none given */
};

struct mz_route { /* there may be very many: flags stand together, what few of them have stands apart */
    const struct mz_vhost *vhost;
    struct mz_str name;
    uint32_t index; /* in its virtual host */
    enum mz_route_action action;
    /* cluster action */
    struct mz_str cluster, cluster_header;
    struct mz_weighted_cluster *weighted; uint64_t total_weight;
    uint32_t n_weighted, n_hash, n_mirrors, n_upgrades;
    struct mz_str weighted_random_header;
    unsigned cluster_not_found_status; /* 503 default, 404, 500 */
    unsigned status;                   /* of a redirect or direct response */
    const struct mz_meta *metadata_match;
    uint64_t timeout_ms;               /* default 15000; 0 none */
    struct mz_opt_ms idle_timeout;
    struct mz_opt_ms max_stream_duration, grpc_timeout_header_max, grpc_timeout_header_offset;
    struct mz_opt_ms max_grpc_timeout, grpc_timeout_offset; /* deprecated spellings */
    const struct mz_retry_policy *retry;            /* own, else the virtual host's, else NULL */
    bool new_timeouts; /* max_stream_duration is there, whatever it says */
    bool priority_high, auto_host_rewrite, append_x_forwarded_host, buffer_limit_set;
    bool include_vh_rate_limits; /* deprecated, as filters' vh_rate_limits INCLUDE */
    bool unmutated; /* its answers get no headers of the configuration: not a route of it */
    bool is_connect, connect_terminates; /* the latter: connect_config is present, the tunnel ends here */
    const struct mz_hedge_policy *hedge;            /* own, else the virtual host's, else one that is not set; never NULL */
    struct mz_str host_rewrite, host_rewrite_header;
    struct mz_regex *host_rewrite_path_regex; struct mz_str host_rewrite_path_with;
    struct mz_hash_policy *hash;
    struct mz_mirror_policy *mirrors; /* own, else vhost's, else table's */
    struct mz_upgrade *upgrades;
    const struct mz_internal_redirect *internal_redirect; /* never NULL: one that is not enabled */
    const struct mz_direct_response *direct; /* NULL unless the action is DIRECT */
    /* all */
    struct mz_header_mutations req, resp;
    struct mz_filter_overrides overrides;
    const struct mz_rate_limits *rate_limits; /* NULL: none; route/rate_limit.h */
    const void *cors; /* the deprecated field, built by the cors filter; NULL: not set */
    const struct mz_meta *metadata;
    const struct mz_route_tracing *tracing; /* NULL: neither decorator nor tracing is there */
    uint64_t buffer_limit; /* request_body_buffer_limit, else per_request_buffer_limit_bytes */
    struct mz_str stat_prefix; struct mz_scope *scope; /* vhost.<v>.route.<stat_prefix>. */
    void *priv; /* matchers, rewrites */
};
struct mz_vcluster_match; 
struct mz_vhost {
    const struct mz_route_table *table;
    struct mz_str name;
    struct mz_route **routes; size_t n_routes;
    struct mz_header_mutations req, resp;
    struct mz_filter_overrides overrides;
    const struct mz_rate_limits *rate_limits;
    const void *cors; /* as of routes */
    const struct mz_meta *metadata;
    bool include_attempt_count, include_attempt_count_in_response, include_is_timeout_retry;
    bool require_tls_all, require_tls_external;
    bool buffer_limit_set; uint64_t buffer_limit;
    void *priv;
};
/* What typed_per_filter_config needs of filter types, which this folder does not know. */
struct mz_route_filter_ops {
    const char *(*message)(const struct mz_http_filter_type *t); /* full name of the per-route message of @t */
    void *(*build)(const struct mz_http_filter_type *t, const void *msg, const struct mz_factory *f, struct mz_err *err);
    void (*destroy)(const struct mz_http_filter_type *t, void *cfg);
};
struct mz_route_env { /* of the table's owner, main thread */
    const struct mz_factory *factory;
    const struct mz_route_filter_ops *filter_ops;
    bool validate_clusters; /* default for static tables: true */
};
struct Envoy__Config__Route__V3__RouteConfiguration;
struct mz_route_table *mz_route_table_build(const struct Envoy__Config__Route__V3__RouteConfiguration *m, const struct mz_route_env *env,
                                            struct mz_err *err);
const struct mz_route_table *mz_route_table_ref(const struct mz_route_table *t);
void mz_route_table_unref(const struct mz_route_table *t);
bool mz_route_table_on_demand(const struct mz_route_table *t); /* VHDS may have virtual hosts that are not here (yet) */
/* Has it a virtual host for @host (an authority)? @a: for long ones. */
bool mz_route_table_serves(const struct mz_route_table *t, struct mz_str host, struct mz_arena *a);
struct mz_str mz_route_table_name(const struct mz_route_table *t);
const struct mz_filter_overrides *mz_route_table_overrides(const struct mz_route_table *t);
const struct mz_meta *mz_route_table_metadata(const struct mz_route_table *t);
const struct mz_str *mz_route_table_internal_only(const struct mz_route_table *t, size_t *out_n); /* internal_only_headers */

struct mz_route_query {
    const struct mz_headers *h;   /* the request's, after the manager's own changes */
    bool secure;                  /* TLS downstream: require_tls */
    bool cert_presented, cert_validated; /* the client's: match.tls_context */
    bool internal;                /* x-envoy-internal: require_tls EXTERNAL_ONLY */
    uint64_t random;              /* runtime fractions and weights of this stream: the same at each match */
    const struct mz_meta *dynamic_metadata;
    const struct mz_stream_info *info;
    struct mz_arena *arena;
    struct mz_decision *decision; /* notes NOT_VHOST.. ROUTE; NULL: not noted */
    uint64_t now_us;
};
/* NULL: none matched (404). A route that redirects to https for require_tls is a synthetic one. */
const struct mz_route *mz_route_table_match(const struct mz_route_table *t, const struct mz_route_query *q);

/* ---- a RouteMatch outside of a table: rules of filters ---- */
struct mz_route_match;
struct Envoy__Config__Route__V3__RouteMatch;
/* Path, headers and query parameters; other conditions (runtime_fraction, grpc, tls_context, dynamic_metadata) are refused. */
struct mz_route_match *mz_route_match_create(const struct Envoy__Config__Route__V3__RouteMatch *m, const struct mz_factory *f,
                                             struct mz_err *err);
void mz_route_match_destroy(struct mz_route_match *m); /* NULL is fine */
bool mz_route_match(const struct mz_route_match *m, const struct mz_headers *h); /* any thread */
struct mz_str mz_route_match_text(const struct mz_route_match *m);               /* "prefix /a": as long as it is */

/* ---- a matched route at work ---- */
/* Cluster by name, header, weight; the weighted entry when there is one. False: cluster_header absent. */
bool mz_route_cluster(const struct mz_route *r, const struct mz_route_query *q, struct mz_str *out_name,
                      const struct mz_weighted_cluster **out_weighted);
/* Rewrites :path and :authority and applies request mutations of route, virtual host and table in their order; sets
 * x-envoy-original-path (and -host). insert_original: not suppress_envoy_headers. */
void mz_route_finalize_request(const struct mz_route *r, const struct mz_weighted_cluster *w, struct mz_headers *h,
                               const struct mz_format_ctx *c, struct mz_arena *a, bool insert_original);
/* The part that is known only with a chosen host (auto_host_rewrite): x-envoy-original-host, x-forwarded-host, :authority. */
void mz_route_set_host(struct mz_headers *h, struct mz_str host, bool append_forwarded_host, bool insert_original);
void mz_route_finalize_response(const struct mz_route *r, const struct mz_weighted_cluster *w, struct mz_headers *h,
                                const struct mz_format_ctx *c);
/* What a redirect rewrites is the request's path from then on, for logs, too; the location is made of it. */
void mz_route_rewrite_redirected(const struct mz_route *r, struct mz_headers *h, struct mz_arena *a, bool insert_original);
struct mz_str mz_route_redirect_location(const struct mz_route *r, const struct mz_headers *h, struct mz_arena *a);
/* The hash of the request for consistent balancing; false when no policy gave one. May want to add a cookie to the answer, the
 * same for all requests of a connection, so that answers that race set one value. */
struct mz_hash_from {
    const struct mz_addr *client;         /* as the manager found it; NULL: no hash of the source */
    const struct mz_addr *remote, *local; /* of the connection */
    const struct mz_map *state;           /* filter state; NULL: none */
};
bool mz_route_hash(const struct mz_route *r, const struct mz_headers *h, const struct mz_hash_from *from, struct mz_arena *a,
                   uint64_t *out_hash, struct mz_str *out_set_cookie);
/* Virtual cluster of the request and its statistics (vhost.<v>.vcluster.<c>.); NULL: none matched (and none configured). */
struct mz_scope *mz_vhost_vcluster(const struct mz_vhost *v, const struct mz_headers *h, struct mz_str *out_name);
/* vcluster and route scopes: kind of their tables. */
enum { MZ_VC_RQ_TOTAL, MZ_VC_RQ_RETRY, MZ_VC_RQ_RETRY_LIMIT_EXCEEDED, MZ_VC_RQ_RETRY_OVERFLOW, MZ_VC_RQ_RETRY_SUCCESS,
       MZ_VC_RQ_TIMEOUT, MZ_VC_RQ_COMPLETED, MZ_VC_RQ_TIME, MZ_VC__COUNT };
extern const struct mz_stat_kind mz_vcluster_stats;
#endif
