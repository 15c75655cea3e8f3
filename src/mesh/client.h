#ifndef MZ_MESH_CLIENT_H
#define MZ_MESH_CLIENT_H
/*
 * Asks a running mesh (`mizzenctl up`) over its control socket. Blocking calls, one at a time; each ends within 30 s but exec and
 * stop. Errors name the mesh or pod.
 *
 * A pod is named "NAMESPACE/NAME", "NAME.NAMESPACE", "NAME", or by its workload ("reviews-v1") where that has one pod or any will
 * do; "mizzend" is the control plane.
 */
#include <jansson.h>

#include "base/err.h"
#include <stdint.h>

struct mz_mesh_client;
/* @name_or_dir: a name, or the folder that `up` was given; NULL: the only mesh that runs. NULL and @err. */
struct mz_mesh_client *mz_mesh_open(const char *name_or_dir, struct mz_err *err);
void mz_mesh_close(struct mz_mesh_client *m); /* NULL is fine */
const char *mz_mesh_name(const struct mz_mesh_client *m);

/**
 * All there is, a new reference; NULL and @err:
 * {"name","dir","state" (the mesh's own folder), "pods":[{"name","namespace","ip","labels":{},"account","node","workload","ready":bool,
 *   "restarts":n,"phase":"Pending|Running|Succeeded|Failed","why":"" or what it waits for,"kind":"app|gateway",
 *   "proxy":"mizzen|envoy|none","containers":[{"name","role":"app|proxy|sidecar|init","pid","rss_kb","pss_kb",
 *   "state","restarts","log","processes":[{"pid","command","rss_kb","pss_kb"}]}]}],
 *  "mizzend":{"pid","rss_kb","pss_kb"}, "supervisor":{the same}, "services_published":[{"host":"127.0.0.1:8080","service","port"}]}
 * Process ids are this machine's.
 */
json_t *mz_mesh_list(struct mz_mesh_client *m, struct mz_err *err);
/* A connected, blocking TCP socket to 127.0.0.1:@port inside the pod's network; -1 and @err. The caller closes it. */
int mz_mesh_dial(struct mz_mesh_client *m, const char *pod, uint16_t port, struct mz_err *err);
struct mz_mesh_exec {
    const char *pod, *container; /* @container NULL: the application's first */
    const char *const *argv;     /* NULL at the end */
    int fds[3];                  /* what it has as 0, 1, 2; borrowed */
};
/* Until it ends: its exit code (128 + signal); -1 and @err: it was not run. Closing @m from elsewhere kills it. */
int mz_mesh_exec(struct mz_mesh_client *m, const struct mz_mesh_exec *e, struct mz_err *err);
bool mz_mesh_stop(struct mz_mesh_client *m, struct mz_err *err); /* everything has ended when it returns */
#endif
