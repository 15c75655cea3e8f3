#ifndef MZ_AGENT_SDS_H
#define MZ_AGENT_SDS_H
/*
 * Secrets for the proxy beside us (A2), over a UNIX socket: `default` (the workload's certificate), `ROOTCA` (whom it trusts),
 * `file-cert:CHAIN~KEY` and `file-root:FILE` (files of the pod, followed as they change). State of the world and delta. A proxy
 * whose secret is not there yet waits. Main thread.
 */
#include "agent/identity/identity.h"

struct mz_grpc_server;
struct mz_sds;
/* Borrows both. @root_file: whom the proxy trusts, where it is there, instead of whom the identity names; NULL: none. */
struct mz_sds *mz_sds_create(struct mz_loop *l, struct mz_identity *d, const char *root_file);
void mz_sds_add(struct mz_sds *s, struct mz_grpc_server *server);       /* its methods */
void mz_sds_changed(struct mz_sds *s);                                  /* the identity has another certificate */
void mz_sds_destroy(struct mz_sds *s);                                  /* after the server; NULL is fine */
#endif
