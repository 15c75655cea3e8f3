#ifndef MZ_CONTROL_TRANSLATE_AUTHZ_H
#define MZ_CONTROL_TRANSLATE_AUTHZ_H
/* AuthorizationPolicy (C10) as Envoy's RBAC and external authorization. */
#include "control/translate/translate_priv.h"

struct tr_authz { /* in what way a rule is said */
    struct mz_arena *a;
    const struct mz_mesh *mesh;
    struct mz_str ns; /* of the policy */
    bool tcp;         /* for connections: what needs a request cannot be said */
    bool allow;       /* what cannot be said drops the rule; else it drops the condition: a wider denial, a wider audit */
};
/* NULL: dropped. */
pb_Policy *tr_authz_rule(const struct tr_authz *x, const ist_Rule *r);

/* Asking a server that the MeshConfig names. False: @why it cannot be. @tcp is NULL where only requests can be asked about. */
struct tr_ext_authz {
    pb_http_ext_authz_ExtAuthz *http;
    pb_network_ext_authz_ExtAuthz *tcp;
};
bool tr_ext_authz(struct mz_view *v, struct mz_str provider, struct tr_ext_authz *out, struct mz_err *why);

/* What stands in front of a workload or a gateway; all in the view's arena, shared by its chains. */
struct tr_guards {
    size_t n_custom_http, n_jwt, n_http, n_custom_tcp, n_tcp;
    pb_HttpFilter **custom_http, **jwt, **http;
    pb_Filter **custom_tcp, **tcp;
};
const struct tr_guards *tr_guards(struct mz_view *v); /* made at the first call */
/* Rules of one action without those that only try; NULL: there are none. For whoever has no filters (proxyless.h). */
pb_RBAC *tr_authz_enforced(struct mz_view *v, ist_AuthorizationPolicy_Action action);
void tr_authz_add(struct mz_view *v, struct tr_guards *g); /* AuthorizationPolicies */
void tr_jwt_add(struct mz_view *v, struct tr_guards *g);   /* RequestAuthentications */
#endif
