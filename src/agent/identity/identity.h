#ifndef MZ_AGENT_IDENTITY_H
#define MZ_AGENT_IDENTITY_H
/*
 * The workload's certificate (A2): asked of the authority with the workload's token, renewed long before it ends, asked again
 * with a growing pause while nobody answers. What was got stays in use until its end, whatever happens to the authority. Or it
 * is in files that somebody else writes: then they are followed, and no authority is asked. Main thread.
 */
#include "agent/link/link.h"
#include "base/list.h"

struct mz_identity;
struct mz_identity_opts {
    struct mz_loop *loop;
    struct mz_link *link;       /* its service "ca" */
    const char *spiffe;         /* "spiffe://cluster.local/ns/demo/sa/web" */
    const char *token_path;     /* read before each question; absent: asked without a token */
    const char *cluster_id;     /* header ClusterID; "" none */
    uint64_t ttl_s;             /* wished for: 86400 */
    double grace;               /* share of the time that is left when it is renewed: 0.5 */
    unsigned rsa_bits;          /* 0: P-256 */
    const char *chain, *key, *root; /* files, PEM; NULL: an authority is asked. What does not fit together is looked at again */
    void (*changed)(void *arg); /* there is a (new) certificate */
    void *arg;
};
struct mz_identity *mz_identity_create(const struct mz_identity_opts *o); /* asks in the next turn; texts are borrowed */
void mz_identity_destroy(struct mz_identity *d);                          /* wipes the key; NULL is fine */

struct mz_identity_pair {
    struct mz_str chain, key, root; /* PEM; "" while there is none. Valid until the next change */
    int64_t from, until;            /* UNIX seconds */
    unsigned serial;                /* another at each change; 0 none */
};
const struct mz_identity_pair *mz_identity_get(const struct mz_identity *d);
struct mz_identity_counts {
    uint64_t asked, got, failed;
};
struct mz_identity_counts mz_identity_counted(const struct mz_identity *d);
#endif
