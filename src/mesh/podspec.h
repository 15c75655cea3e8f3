#ifndef MZ_MESH_PODSPEC_H
#define MZ_MESH_PODSPEC_H
/*
 * One pod, expanded from its workload: the document after injection, and what is run for its containers. Pure but for looking
 * whether programs are there.
 */
#include "mesh/workload.h"

#define MZ_MESH_PROXY_GID 1337 /* by which capture knows the proxy's own traffic */

enum mz_mesh_role {
    MZ_MESH_APP,     /* runs beside others, to the end */
    MZ_MESH_PROXY,   /* mizzen-agent with its proxy: what follows waits until it has started, and it ends last */
    MZ_MESH_SIDECAR, /* an init container that goes on: as a proxy, of somebody else's */
    MZ_MESH_INIT,    /* runs to its end before what follows */
    MZ_MESH_CAPTURE, /* istio-init: an INIT that is mizzen-agent */
};
enum mz_mesh_probe_kind { MZ_MESH_PROBE_NONE, MZ_MESH_PROBE_HTTP, MZ_MESH_PROBE_TCP, MZ_MESH_PROBE_EXEC };
struct mz_mesh_probe_spec {
    enum mz_mesh_probe_kind kind;
    uint16_t port;
    const char *request;     /* HTTP: as it is sent */
    const char *const *argv; /* EXEC */
    unsigned delay_ms, period_ms, timeout_ms, failures, successes;
};
struct mz_mesh_container_spec {
    const char *name;
    enum mz_mesh_role role;
    const char *const *argv, *const *env; /* NULL at the end; argv[0] is a path */
    const char *dir;                      /* absolute */
    uint32_t gid;
    uint64_t caps; /* bits of capabilities that it keeps */
    struct mz_mesh_probe_spec startup, readiness, liveness;
};
enum mz_mesh_restart { MZ_MESH_ALWAYS, MZ_MESH_ON_FAILURE, MZ_MESH_NEVER };
struct mz_mesh_volume_mount {
    const char *volume, *path; /* @volume: folder with its files */
};
struct mz_mesh_pod_spec {
    struct mz_arena *arena;
    json_t *object; /* the Pod, with status.podIP */
    const char *ns, *name, *account, *ip, *ip6 /* "": none */, *work;
    bool gateway, injected;
    struct mz_mesh_container_spec *v; /* in the order in which they start */
    size_t n;
    unsigned grace_ms;
    enum mz_mesh_restart restart;
};
struct mz_mesh_place { /* where pods live; borrowed */
    const struct mz_mesh_folder *folder;
    const char *bin;  /* the folder of our programs */
    const char *work; /* the pod's own folder */
    const char *host_ip, *node, *ip, *name;
    const char *ip6; /* "": none */
    char *const *env; /* of `up`: PATH and what sanitizers read goes on to processes */
};
/* NULL and @err, which names the container: no command, a program that is not there, an annotation that cannot be read. */
struct mz_mesh_pod_spec *mz_mesh_pod_spec(const struct mz_mesh_workload *w, const struct mz_mesh_place *p, struct mz_err *err);
void mz_mesh_pod_spec_destroy(struct mz_mesh_pod_spec *s); /* NULL is fine */
#endif
