#ifndef MZ_CONTROL_MODEL_RULE_H
#define MZ_CONTROL_MODEL_RULE_H
/* DestinationRules: how clients of a host reach it (C4). */
#include "control/model/model.h"

struct mz_rule { /* of one host in one namespace: its documents of one selector, oldest first, joined */
    struct mz_str ns, name; /* of the first document */
    struct mz_str host;     /* in full; "*.x" a suffix, "*" all */
    bool made;              /* the first document was made of policies of the Gateway API */
    const struct mz_str *export_to; /* as of services */
    size_t export_to_n;
    const ist_TrafficPolicy *policy; /* NULL: none */
    const ist_Subset *const *subsets; /* each name once */
    const ist_Subset *const *by_name; /* the same, sorted */
    size_t subsets_n;
    struct mz_labels selector; /* of clients in its namespace; none: all */
    const struct mz_rule *next; /* of the same host for other clients */
    const struct model_rule *const *docs; /* of the first: that all of these were made of, oldest first */
    size_t docs_n;
    uint64_t hash;
};
/* The rule for @host that holds for clients in @ns: one of their own namespace, else an exported one of the service's, else one
 * of the root namespace; within a namespace the most specific host. NULL: none. */
const struct mz_rule *mz_model_rule(const struct mz_model *m, struct mz_str ns, const struct mz_service *s);
/* The same for a client with these labels: in its own namespace one that selects it comes first. */
const struct mz_rule *mz_model_rule_for(const struct mz_model *m, struct mz_str ns, struct mz_labels client, const struct mz_service *s);
const ist_Subset *mz_rule_subset(const struct mz_rule *r, struct mz_str name); /* NULL */

/* What holds for one port of a host or subset: the most specific one that says anything. Any may be NULL. */
struct mz_policy {
    const ist_LoadBalancerSettings *lb;
    const ist_ConnectionPoolSettings *pool;
    const ist_OutlierDetection *outlier;
    const ist_ClientTLSSettings *tls;
    const ist_TrafficPolicy_ProxyProtocol *proxy_protocol;
    const ist_TrafficPolicy_RetryBudget *retry_budget;
    const ist_ClientTLSSettings *endpoint_tls; /* what endpoints are told by: of the port where that says any, else of all */
};
struct mz_policy mz_rule_policy(const struct mz_rule *r, const ist_Subset *subset, uint16_t port); /* r, subset may be NULL */
/* What routes hash by: the most specific balancer that does, whatever plain ones say that are more specific; NULL: none. */
const ist_LoadBalancerSettings *mz_rule_hash(const struct mz_rule *r, const ist_Subset *subset, uint16_t port);
#endif
