#ifndef MZ_FILTERS_RBAC_RBAC_H
#define MZ_FILTERS_RBAC_RBAC_H
/*
 * The engine of the rbac filters (H9, L5): policies compiled into an indexed form. Built on the main thread, immutable, any
 * thread. A request is compared with the policies that one of its own values points to (path, header, address, port, SNI)
 * and with those that no such value can rule out, in the order of their names, as Envoy; the first that matches is the one
 * that counts.
 */
#include "listener/factory.h"
#include "observe/stream_info.h"

struct mz_rbac;
struct Envoy__Config__Rbac__V3__RBAC;
/* @http false: for connections, where rules for headers are refused as in Envoy. NULL: err names the path below @m. */
struct mz_rbac *mz_rbac_create(const struct Envoy__Config__Rbac__V3__RBAC *m, bool http, const struct mz_factory *f,
                               struct mz_err *err);
/* The other form: a matcher whose actions are envoy.config.rbac.v3.Action. What no action is found for is denied. */
struct Xds__Type__Matcher__V3__Matcher;
struct mz_rbac *mz_rbac_create_matcher(const struct Xds__Type__Matcher__V3__Matcher *m, const struct mz_factory *f,
                                       struct mz_err *err);
void mz_rbac_destroy(struct mz_rbac *r);            /* NULL is fine */
bool mz_rbac_logs(const struct mz_rbac *r);         /* it has an action LOG: access_log_hint is to be set */

enum mz_rbac_action { MZ_RBAC_ALLOW, MZ_RBAC_DENY, MZ_RBAC_LOG };
struct mz_rbac_input {
    const struct mz_stream_info *info; /* addresses, SNI, metadata, filter state */
    const struct mz_headers *h;        /* as they are at this place of the chain (C17); NULL: a connection without HTTP */
    struct mz_arena *arena;
    const struct mz_addr *peer;        /* of the connection (source_ip); NULL: info's direct_remote */
    bool has_route;                    /* the stream has one: its metadata may be asked for */
};
struct mz_rbac_result {
    bool allowed;
    bool matched;
    enum mz_rbac_action action;
    const char *details;  /* "rbac_access_denied_matched_policy[a_b]", as long as the engine lives */
    struct mz_str policy; /* or action, that matched; of the configuration. "": none */
    size_t number;        /* of that policy, or mz_rbac_policies(): none; not of a matcher */
};
void mz_rbac_check(const struct mz_rbac *r, const struct mz_rbac_input *in, struct mz_rbac_result *out);

/* ---- pain 16: why ---- */
/* "policy a matched: permissions[0].url_path: prefix /a; principals[1].any", in the arena. */
struct mz_str mz_rbac_why(const struct mz_rbac *r, const struct mz_rbac_input *in, const struct mz_rbac_result *res);
/* The first condition of policy number @i (by name) that does not hold: "policy a: principals[0].header: header x-user exact
 * b". "" behind the last policy, or when it matches. */
struct mz_str mz_rbac_why_not(const struct mz_rbac *r, const struct mz_rbac_input *in, size_t i);
/* For an imagined request or connection: what decides goes into the story as filter @name's. True: it would be denied. */
bool mz_rbac_imagine(const struct mz_rbac *r, const struct mz_rbac_input *in, struct mz_str name);
size_t mz_rbac_policies(const struct mz_rbac *r); /* a matcher counts as one */
/* How policy number @i, all of them or mz_rbac_policies() for no match, would decide; false: a matcher, where there is none. */
bool mz_rbac_outcome(const struct mz_rbac *r, size_t i, struct mz_rbac_result *out);
#endif
