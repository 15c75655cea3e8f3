#ifndef MZ_AGENT_RELAY_H
#define MZ_AGENT_RELAY_H
/*
 * The proxy's xDS streams, carried on to the control plane with the workload's token (A2): each stream of the proxy is one of
 * ours; messages pass as bytes. Who reads slowly stops the other side, nothing piles up here. When either end is lost the other
 * one is told, and the proxy asks again. On the same stream the agent asks for the name table (NDS), of which the proxy does not
 * hear. Main thread.
 */
#include "agent/link/link.h"

struct mz_grpc_server;
struct mz_relay;
struct mz_relay_opts {
    struct mz_loop *loop;
    struct mz_link *link;     /* its service "xds" */
    const char *token_path;   /* "" none: the control plane is asked without a token */
    const char *cluster_id;   /* "" none */
    char *const *env;         /* XDS_HEADER_name=value are added to each stream */
    void (*names)(void *arg, struct mz_str packed); /* a NameTable came; NULL: it is not asked for */
    void *arg;
};
struct mz_relay *mz_relay_create(const struct mz_relay_opts *o); /* texts are borrowed */
void mz_relay_add(struct mz_relay *r, struct mz_grpc_server *server);
void mz_relay_destroy(struct mz_relay *r); /* after the server; NULL is fine */

struct mz_relay_counts {
    uint64_t opened, lost;       /* streams to the control plane; those that ended with an error */
    uint64_t requests, responses; /* messages carried */
    unsigned connected;          /* streams that have brought something */
};
struct mz_relay_counts mz_relay_counted(const struct mz_relay *r);
#endif
