#ifndef MZ_CONTROL_CA_CA_H
#define MZ_CONTROL_CA_CA_H
/* The authority as mizzend runs it: service, callers, TLS for its own servers, and a look at all of it every few seconds. Main thread. */
#include "control/ca/service.h"
#include "control/ca/serving.h"
#include "control/ca/token.h"
#include "control/discovery/server.h"

struct mz_ca_opts {
    struct mz_authority_opts authority;
    struct mz_tokens_opts tokens;
    struct mz_reviewer *reviewers[MZ_REVIEWERS_MAX]; /* asked of tokens after our own issuers; to the first NULL. Borrowed: they stay longer */
    const char *root_ns, *domain; /* of the control plane's service: "istio-system", "cluster.local" */
    uint32_t refresh_ms;          /* 0: 5 s */
    void (*changed)(void *arg);   /* roots or lists of revoked certificates are others; NULL: nobody cares */
    void *arg;
};
struct mz_ca;
struct mz_ca *mz_ca_create(struct mz_loop *l, const struct mz_ca_opts *o, struct mz_err *err); /* NULL and @err */
void mz_ca_stop(struct mz_ca *c);    /* looks no more; NULL is fine */
void mz_ca_destroy(struct mz_ca *c); /* stopped, and the loop of its connections is gone; NULL is fine */
struct mz_ca_service *mz_ca_get_service(struct mz_ca *c);
const struct mz_transport_factory *mz_ca_grpc_factory(struct mz_ca *c);
const struct mz_transport_factory *mz_ca_web_factory(struct mz_ca *c);
struct mz_discovery_gate mz_ca_gate(struct mz_ca *c);
struct mz_str mz_ca_roots(const struct mz_ca *c); /* PEM */
struct mz_str mz_ca_crl(const struct mz_ca *c);   /* PEM; "" none */
void mz_ca_metrics(const struct mz_ca *c, struct mz_buf *out);
#endif
