#ifndef MZ_CONTROL_CA_SERVICE_H
#define MZ_CONTROL_CA_SERVICE_H
/* istio.v1.auth.IstioCertificateService (C8): requests, who may make them and how many. Main thread. */
#include "control/ca/authority.h"
#include "control/ca/caller.h"

struct mz_ca_service;
struct mz_ca_counts { /* citadel_server_... */
    uint64_t requests, unauthenticated, refused, limited, failed, issued;
};
struct mz_ca_service *mz_ca_service_create(struct mz_authority *a, const struct mz_callers *c); /* borrows both */
void mz_ca_service_destroy(struct mz_ca_service *s); /* after the server; NULL is fine */
void mz_ca_service_add(struct mz_ca_service *s, struct mz_grpc_server *to);
const struct mz_ca_counts *mz_ca_service_counts(const struct mz_ca_service *s);
#endif
