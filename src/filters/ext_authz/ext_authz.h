#ifndef MZ_FILTERS_EXT_AUTHZ_H
#define MZ_FILTERS_EXT_AUTHZ_H
/*
 * External authorization, what its HTTP and network filters share (H9, L5): the service and what is asked of it, without
 * streams, statistics or answers. Texts of a question and of its answer lie in the arena that the asker gives.
 */
#include "grpc/client.h"
#include "observe/to_proto.h"
#include "proto/mapper.h"
#include "route/route.h"
#include "router/async.h"

struct mz_downstream;
struct mz_factory;

/* ---- names ---- */
struct authz_names { /* ListStringMatcher, and names besides it */
    struct mz_string_match **v;
    size_t n;
    const struct mz_str *also;
    size_t n_also;
    bool set; /* the list was there */
};
bool authz_names_build(const pb_ListStringMatcher *m, struct mz_arena *a, struct authz_names *out, struct mz_err *err);
void authz_names_fini(struct authz_names *n);
bool authz_names_have(const struct authz_names *n, struct mz_str name);

/* ---- the service: immutable, any thread ---- */
struct authz_service {
    struct mz_grpc_service *grpc; /* NULL: HTTP */
    uint64_t timeout_ms;
    /* HTTP: */
    struct mz_str cluster, path_prefix;
    const struct mz_retry_policy *retry;
    struct mz_header_mutations add;
    struct authz_names to_upstream, to_upstream_append, to_client, to_client_on_success, to_metadata;
};
struct authz_service *authz_service_grpc(const pb_GrpcService *m, struct mz_arena *a, struct mz_err *err);
struct authz_service *authz_service_http(const pb_ext_authz_HttpService *m, struct mz_arena *a, struct mz_err *err);
void authz_service_fini(struct authz_service *s); /* NULL is fine; its memory is the arena's */
bool authz_api_version(int transport_api_version, struct mz_err *err); /* only V3 is served */

/* ---- an answer ---- */
enum authz_verdict { AUTHZ_OK, AUTHZ_DENIED, AUTHZ_ERROR };
enum authz_action {
    AUTHZ_SET,
    AUTHZ_ADD,
    AUTHZ_APPEND, /* "a" becomes "a,b"; nothing where the header is not there */
    AUTHZ_ADD_IF_ABSENT,
    AUTHZ_SET_IF_THERE,
};
struct authz_header {
    struct mz_str name, value; /* as they came: not valid yet; the name in lower case */
    enum authz_action action;
};
struct authz_headers {
    struct authz_header *v;
    size_t n;
};
struct authz_reply {
    enum authz_verdict verdict;
    struct authz_headers request, response; /* OK: what changes */
    struct authz_headers own;               /* DENIED, ERROR: of the proxy's answer */
    struct mz_str *remove;                  /* of the request */
    size_t n_remove;
    struct authz_headers query; /* parameters to set; no actions */
    struct mz_str *query_remove;
    size_t n_query_remove;
    unsigned status; /* of the proxy's answer; 0: as configured */
    struct mz_str body;
    const struct mz_value *metadata; /* struct; NULL: none */
    bool invalid_action;             /* an append action that is none */
    struct mz_str why;               /* ERROR: for people */
};

/* ---- asking ---- */
struct authz_call; /* in the arena given */
struct authz_ask {
    const pb_CheckRequest *request; /* gRPC and HTTP read the same */
    struct mz_upstream *upstream;
    struct mz_arena *arena;
    const struct mz_format_ctx *format;
};
typedef void authz_done(void *arg, const struct authz_reply *r);
/* done runs once, not from inside, unless cancelled. */
struct authz_call *authz_call(const struct authz_service *s, const struct authz_ask *ask, authz_done *done, void *arg);
void authz_cancel(struct authz_call *c); /* NULL is fine */

/* ---- attributes of a connection ---- */
struct authz_label {
    char *key, *value;
};
struct authz_labels {
    struct authz_label *v;
    size_t n;
};
/* The texts below @key of the node's metadata; "" and what is not there: none. */
struct authz_labels authz_labels_of_node(const struct mz_factory *f, const char *key, struct mz_arena *a);
struct authz_peers {
    const struct mz_downstream *down;
    bool certificate, tls_session;
    struct mz_str service;     /* of the source; "" none */
    struct mz_str destination; /* service of the destination; "" none */
    const struct authz_labels *labels; /* of the destination */
};
pb_AttributeContext *authz_attributes(const struct authz_peers *p, struct mz_arena *a);

/* reply.c, for tests as well */
void authz_reply_grpc(const pb_CheckResponse *m, struct mz_arena *a, struct authz_reply *out);
void authz_reply_http(const struct authz_service *s, const struct mz_headers *h, struct mz_str body, struct mz_arena *a,
                      struct authz_reply *out);
#endif
