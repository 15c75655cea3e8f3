#ifndef MZ_CONTROL_CA_CALLER_H
#define MZ_CONTROL_CA_CALLER_H
/*
 * Who calls (C8): by a client certificate of ours, else by a token ("authorization: Bearer ..."), which reviewers look at one after
 * the other until one knows it (review.h). Main thread.
 */
#include "control/ca/review.h"
#include "grpc/server.h"

enum { MZ_REVIEWERS_MAX = 4 };
struct mz_callers {
    struct mz_reviewer *reviewers[MZ_REVIEWERS_MAX]; /* in the order in which they are asked; borrowed */
    size_t reviewers_n;
    struct mz_str trust_domain;
};
struct mz_caller {
    struct mz_str identity; /* "spiffe://cluster.local/ns/demo/sa/web" */
    struct mz_account account;
};
struct mz_caller_ask { /* one question; its owner's until it is answered or cancelled */
    void (*done)(struct mz_caller_ask *q, bool known); /* set before; runs only after WAITING, never from inside */
    struct mz_caller who; /* where known; in the arena */
    struct mz_err err;    /* where not; for the log only */
    /* private: */
    const struct mz_callers *callers;
    struct mz_review review;
    size_t at;
    bool waiting;
};
enum mz_caller_found { MZ_CALLER_KNOWN, MZ_CALLER_UNKNOWN, MZ_CALLER_WAITING };
enum mz_caller_found mz_caller_find(const struct mz_callers *c, const struct mz_grpc_serving *call, const struct mz_headers *h,
                                    struct mz_arena *a, struct mz_caller_ask *q);
/* The same of a token alone. */
enum mz_caller_found mz_caller_find_token(const struct mz_callers *c, struct mz_str token, struct mz_arena *a, struct mz_caller_ask *q);
void mz_caller_cancel(struct mz_caller_ask *q); /* silent; nothing happens where nobody is asked */
/* "spiffe://TD/ns/NS/sa/NAME" of @trust_domain and nothing behind it; parts point into @uri. */
bool mz_account_of_identity(struct mz_str uri, struct mz_str trust_domain, struct mz_account *out);
#endif
