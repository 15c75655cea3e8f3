#ifndef MZ_MESH_POD_H
#define MZ_MESH_POD_H
/*
 * A pod that runs: sandbox, then its containers in their order; who follows a proxy waits until it has started. At the end the
 * applications go first, then proxies. What dies is started again with a growing pause. Main thread.
 */
#include "mesh/node.h"
#include "mesh/probe.h"

enum mz_mesh_phase { MZ_MESH_PENDING, MZ_MESH_RUNNING, MZ_MESH_SUCCEEDED, MZ_MESH_FAILED };
enum mz_mesh_container_state { MZ_MESH_WAITING, MZ_MESH_UP, MZ_MESH_BACK_OFF, MZ_MESH_DONE };
enum mz_mesh_stage { MZ_MESH_RUN, MZ_MESH_LEAVING /* others learn of it */, MZ_MESH_END_APPS, MZ_MESH_END_PROXIES, MZ_MESH_OVER };

struct mz_mesh_pod;
struct mz_mesh_container {
    struct mz_mesh_pod *pod;
    const struct mz_mesh_container_spec *spec;
    struct mz_mesh_process process;
    enum mz_mesh_container_state state;
    int code; /* of its last end */
    unsigned restarts;
    uint64_t began_us, pause_ms;
    bool started, ever_started; /* its startup probe has passed, or there is none; now, or once */
    struct mz_timer again;
    struct mz_mesh_probe startup, readiness, liveness;
};
struct mz_mesh_pod_ops {
    void (*changed)(void *arg, struct mz_mesh_pod *p); /* phase, readiness, or that it is going */
    void (*over)(void *arg, struct mz_mesh_pod *p);    /* nothing of it runs any more, later than any call; destroy it or keep it */
    void *arg;
};
struct mz_mesh_pod {
    struct mz_list link;
    struct mz_mesh_node *node;
    struct mz_mesh_pod_spec *spec; /* owned */
    const struct mz_mesh_pod_ops *ops;
    const char *workload;          /* "Deployment/web": of the spec's arena */
    uint64_t hash;                 /* of the workload as it was */
    uint32_t ip;
    unsigned number;
    struct mz_mesh_sandbox sandbox;
    struct mz_mesh_container *v;
    size_t n;
    enum mz_mesh_phase phase;
    enum mz_mesh_stage stage;
    bool ready, leaving /* for good, not because its work is done */, quick;
    uint64_t created_us /* wall clock */, began_us, ready_after_us /* since its first proxy began, else the pod */;
    char why[200];                 /* what it waits for, what failed; "" */
    struct mz_timer patience, nudge;
    struct mz_mesh_ask tell;
};
/* Takes @spec. Its folder of work is there with its files. False from start: sandbox or network could not be made; destroy it. */
struct mz_mesh_pod *mz_mesh_pod_create(struct mz_mesh_node *node, struct mz_mesh_pod_spec *spec, uint32_t ip, unsigned number,
                                       const struct mz_mesh_pod_ops *ops);
bool mz_mesh_pod_start(struct mz_mesh_pod *p, const struct mz_mesh_mount *mounts, size_t n, struct mz_err *err);
/* @quick: the whole mesh ends: nobody is served any more, so nothing drains. May be called again to hurry. */
void mz_mesh_pod_stop(struct mz_mesh_pod *p, bool quick);
void mz_mesh_pod_destroy(struct mz_mesh_pod *p); /* kills what runs; NULL is fine */
struct mz_mesh_container *mz_mesh_pod_container(struct mz_mesh_pod *p, const char *name); /* NULL: the first application; NULL: none */
unsigned mz_mesh_pod_restarts(const struct mz_mesh_pod *p);
const char *mz_mesh_pod_log(const struct mz_mesh_pod *p, const char *container, char *out, size_t n); /* path of its log */
/* The Pod document as it is now: a new reference. */
json_t *mz_mesh_pod_document(const struct mz_mesh_pod *p);
const char *mz_mesh_phase_name(enum mz_mesh_phase phase);
#endif
