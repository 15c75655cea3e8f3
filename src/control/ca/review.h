#ifndef MZ_CONTROL_CA_REVIEW_H
#define MZ_CONTROL_CA_REVIEW_H
/*
 * Whose a token is (C8): the seat of everybody who can tell. The issuers whose keys are here (token.h) tell at once; one that has to
 * ask elsewhere, as Kubernetes' TokenReview asks its API server, tells later. Main thread.
 */
#include "base/arena.h"
#include "base/err.h"

struct mz_account {
    struct mz_str ns, name;
};
enum mz_reviewed { MZ_REVIEW_GOOD, MZ_REVIEW_BAD, MZ_REVIEW_LATER };

struct mz_review { /* one token; its owner's until it is told or cancelled */
    struct mz_str token;
    struct mz_arena *arena; /* for what is told */
    /* Once, never from inside begin(), with GOOD or BAD; then the reviewer has forgotten it. */
    void (*done)(struct mz_review *r, enum mz_reviewed how);
    /* told: */
    struct mz_account who; /* of GOOD; names that mz_account_ok() takes */
    struct mz_err err;     /* of BAD; for the log only */
    void *state;           /* the reviewer's, while it is LATER */
};
struct mz_reviewer;
struct mz_reviewer_ops {
    const char *name; /* "local issuer", for the log */
    /* Checks signature or validity, times and the audience. LATER: @r's done follows, unless it is cancelled. */
    enum mz_reviewed (*begin)(struct mz_reviewer *v, struct mz_review *r);
    void (*cancel)(struct mz_reviewer *v, struct mz_review *r); /* of one that is LATER; silent. NULL: it never is */
};
struct mz_reviewer { /* first member of the reviewer's own struct */
    const struct mz_reviewer_ops *ops;
};
bool mz_account_ok(struct mz_account who); /* names of Kubernetes: what identities are made of */
#endif
