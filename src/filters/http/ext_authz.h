#ifndef MZ_FILTERS_HTTP_EXT_AUTHZ_H
#define MZ_FILTERS_HTTP_EXT_AUTHZ_H
/* Between ext_authz.c (the filter), ext_authz_config.c and ext_authz_apply.c (what an answer changes). */
#include "filters/ext_authz/ext_authz.h"
#include "filters/http/http_filters.h"
#include "filters/http/mutation_rules.h"
#include "filters/http/side_call.h"

/* http.<prefix>.ext_authz.<stat_prefix> */
#define EXT_AUTHZ_STATS(X)                                                                                             \
    X(DENIED, "denied") X(DISABLED, "disabled") X(ERROR, "error") X(FAILURE_MODE_ALLOWED, "failure_mode_allowed")      \
    X(STATE_COLLISION, "filter_state_name_collision") X(IGNORED_METADATA, "ignored_dynamic_metadata")                  \
    X(INVALID, "invalid") X(OK, "ok") X(OMITTED, "omitted_response_headers")                                           \
    X(REQUEST_LIMITS, "request_header_limits_reached") X(RESPONSE_LIMITS, "response_header_limits_reached")            \
    X(SHADOW_DENIED, "shadow_denied") X(SHADOW_ERROR, "shadow_error")
enum ext_authz_stat {
#define X(id, name) EA_##id,
    EXT_AUTHZ_STATS(X)
#undef X
    EA__COUNT
};
/* cluster.<of the route>.ext_authz.<stat_prefix.> */
enum ext_authz_cluster_stat { EAC_DENIED, EAC_ERROR, EAC_FAILURE_MODE_ALLOWED, EAC_INVALID, EAC_OK, EAC__COUNT };

struct ea_body {
    bool set, partial;
    uint32_t max_bytes;
    bool as_bytes;
};
struct ea_extension {
    char *key, *value;
};
struct ea_route_cfg {
    struct mz_arena *arena;
    bool disabled, no_body;
    struct ea_body body;
    struct ea_extension *extensions;
    size_t n_extensions;
    struct authz_service *service; /* NULL: the filter's */
};
struct ea_cfg {
    struct mz_arena *arena;
    struct authz_service *service;
    struct ea_body body;
    bool allow, allow_header, clear_route, validate, certificate, tls_session, charge, take_metadata;
    bool raw_headers;  /* the service gets them as they are, each by itself */
    struct authz_labels labels;
    bool only_allowed; /* not: all headers but the disallowed ones */
    struct authz_names allowed, disallowed;
    unsigned status_on_error;
    const struct mutation_rules *rules; /* of what may be changed in a request; NULL: anything */
    struct mutation_rules rules_of;
    uint32_t max_denied_body; /* 0: all of it */
    struct mz_str *namespaces, *route_namespaces;
    size_t n_namespaces, n_route_namespaces;
    bool has_fraction;
    struct mz_fraction enabled;
    struct mz_metadata_match *enabled_metadata; /* NULL: always */
    bool deny_at_disable;                       /* and the runtime key */
    struct mz_str deny_key;
    struct mz_scope *scope;
    struct cluster_scopes clusters;
};
void *ea_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void ea_config_destroy(void *cfg);
void *ea_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void ea_route_config_destroy(void *cfg);

/* ext_authz_apply.c */
enum ea_applied {
    EA_APPLIED,
    EA_BAD_HEADER, /* out_name: a name or value that cannot be sent */
    EA_FORBIDDEN,  /* by the rules, which say that it is an error */
    EA_TOO_LARGE,  /* the request exceeds the limits of a head */
};
/* Changes the request as an answer says; @limits of the connection manager. What frames a message is left alone. */
enum ea_applied ea_apply_request(const struct authz_reply *r, const struct mutation_rules *rules, struct mz_headers *h,
                                 struct mz_str *out_name);
/* Those that may go into an answer, checked: the first that may not be sent is in out_name (NULL otherwise). */
bool ea_valid(const struct authz_headers *v, struct mz_str *out_name);
void ea_apply_response(const struct authz_headers *v, struct mz_headers *h);
void ea_apply_own(const struct authz_headers *v, struct mz_headers *h);
#endif
