#ifndef MZ_AGENT_RUN_PRIV_H
#define MZ_AGENT_RUN_PRIV_H
/* What the steps of `proxy` share. Main thread. */
#include "agent/dns/dns.h"
#include "agent/identity/sds.h"
#include "agent/link/link.h"
#include "agent/relay/relay.h"
#include "agent/run/end.h"
#include "agent/run/process.h"
#include "agent/settings.h"
#include "agent/status/status.h"
#include "event/loop.h"
#include "grpc/server.h"

struct agent {
    struct mz_agent_options options;
    struct mz_bootstrap boot;
    struct mz_arena *arena;
    struct mz_loop *loop;
    struct mz_link *link;
    struct mz_identity *identity; /* NULL: secrets are somebody else's, or there are none */
    struct mz_sds *sds;
    struct mz_relay *relay;
    struct mz_grpc_server *sds_server, *xds_server;
    struct mz_process *process;
    struct mz_status *status; /* NULL: status port 0 */
    struct mz_agent_dns *dns; /* NULL: the pod's DNS is not ours */
    struct mz_end *end;
    const char *token_path, *cluster_id;
    const char *output;       /* folder that certificates are written to; NULL: none */
    uint64_t own_version;     /* of the files that we show the control plane (PROV_CERT) */
    bool authority, interrupted; /* authority: the workload's certificate may come from one */
};
const char *agent_env(const struct agent *g, const char *name, const char *otherwise);

/* sockets.c */
bool agent_folders(const char *path, struct mz_err *err); /* of a file: every folder before its name */
/* A server of root's or this user's that answers there. False without @err->msg: nobody answers. */
bool agent_is_served(const char *path, struct mz_err *err);
struct mz_grpc_server *agent_serve(struct agent *g, const char *path, struct mz_err *err);

/* links.c: "xds", "ca", "admin" */
bool agent_links(struct agent *g, struct mz_err *err);
void agent_links_follow(struct agent *g); /* certificates that we show may have changed */

/* secrets.c */
bool agent_secrets(struct agent *g, struct mz_err *err);
#endif
