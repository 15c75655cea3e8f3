#ifndef MZ_CONTROL_CA_CALLER_H
#define MZ_CONTROL_CA_CALLER_H
/*
 * Who calls (C8): by a client certificate of ours, else by a token ("authorization: Bearer ..."). Kubernetes' TokenReview takes its
 * seat beside the local issuers (token.h). Main thread.
 */
#include "control/ca/token.h"
#include "grpc/server.h"

struct mz_callers {
    const struct mz_tokens *tokens;
    struct mz_str trust_domain;
};
struct mz_caller {
    struct mz_str identity; /* "spiffe://cluster.local/ns/demo/sa/web" */
    struct mz_account account;
};
/* What it names lives in @a. False: nobody that is known, @err for the log only. */
bool mz_caller_find(const struct mz_callers *c, const struct mz_grpc_serving *call, const struct mz_headers *h, struct mz_arena *a,
                    struct mz_caller *out, struct mz_err *err);
/* "spiffe://TD/ns/NS/sa/NAME" of @trust_domain and nothing behind it; parts point into @uri. */
bool mz_account_of_identity(struct mz_str uri, struct mz_str trust_domain, struct mz_account *out);
#endif
