#ifndef MZ_CONTROL_WEBHOOK_WEBHOOK_H
#define MZ_CONTROL_WEBHOOK_WEBHOOK_H
/*
 * What an API server asks before it writes (C9), over HTTPS on 15017: /inject answers for pods with a JSON Patch, /validate for
 * documents of Istio with a verdict. AdmissionReview of admission.k8s.io/v1 and v1beta1. Main thread.
 */
#include "control/inject/inject.h"
#include "web/server.h"

struct mz_webhook_counts { /* sidecar_injection_..., galley_validation_... */
    uint64_t requests, injected, skipped, failed, passed, refused;
};
struct mz_webhook;
struct mz_webhook *mz_webhook_create(struct mz_loop *l, const struct mz_inject_opts *o); /* borrows the texts of @o */
void mz_webhook_destroy(struct mz_webhook *w); /* NULL is fine */
bool mz_webhook_listen(struct mz_webhook *w, const struct mz_addr *a, const struct mz_transport_factory *f, struct mz_addr *out_addr,
                       struct mz_err *err);
void mz_webhook_metrics(const struct mz_webhook *w, struct mz_buf *out);
#endif
