#ifndef MZ_MESH_SUPERVISOR_PRIV_H
#define MZ_MESH_SUPERVISOR_PRIV_H
/* Between supervisor.c (begin, control plane, end), rollout.c (workloads to pods), serve.c (the control socket). */
#include "mesh/names.h"
#include "mesh/pod.h"
#include "mesh/podfiles.h"
#include "mesh/supervisor.h"
#include "mesh/watch.h"

struct serve;
struct services;
struct settling;
struct supervisor {
    struct mz_mesh_node node;
    const struct mz_mesh_supervisor_opts *o;
    struct mz_arena *arena;
    struct mz_mesh_folder *folder;
    struct mz_mesh_workloads workloads;
    struct mz_mesh_files files;
    struct mz_list pods;  /* struct mz_mesh_pod */
    struct mz_mesh_pod_ops pod_ops;
    uint32_t next_ip;
    unsigned next_number;
    struct mz_rand *rand;
    struct mz_timer retry; /* Jobs whose pods failed, pods that could not be started */
    unsigned failures;     /* in a row, of starts */

    struct mz_mesh_process mizzend;
    struct mz_mesh_sandbox mizzend_in;
    struct mz_timer mizzend_again;
    uint64_t mizzend_began_us, mizzend_pause_ms;
    bool mizzend_again_once; /* it has been started again */

    struct mz_mesh_publisher *publisher;
    struct mz_mesh_ports ports;
    struct mz_mesh_watch *watch;
    struct mz_timer tokens, logs;
    struct serve *serve;
    struct services *services;
    struct settling *settling;
    struct mz_mesh_names *names;
    bool stopping, told, failed;
};
/* rollout.c */
void rollout_init(struct supervisor *s);
void rollout(struct supervisor *s); /* starts and stops pods until they are what the workloads say; called after each change */
bool rollout_check(const struct mz_mesh_folder *f, const struct mz_mesh_workloads *w, const char *bin, const char *state, char *const *env,
                   struct mz_err *err); /* can all of them be expanded? */
bool is_settled(const struct supervisor *s); /* every pod that shall be ready is */

/* supervisor.c */
void supervisor_stop(struct supervisor *s); /* again: in a hurry */
__attribute__((format(printf, 2, 3))) void say(const struct supervisor *s, const char *fmt, ...); /* a line for the person who watches */

/* Is it one of the pods that a Service or a workload publishes? Whatever its state. */
bool supervisor_is_behind(const struct mz_mesh_pod *p, const struct mz_mesh_port *port);
uint16_t supervisor_port_of(const struct mz_mesh_pod *p, const struct mz_mesh_port *port); /* 0: it has none of that name */

/* services.c: for pods without a proxy */
struct services *services_create(struct supervisor *s);
void services_changed(struct services *v); /* pods, their readiness, or documents; NULL is fine */
bool services_settled(const struct services *v); /* nothing of them is under way */
void services_stop(struct services *v);    /* before the loop goes; NULL is fine */
void services_destroy(struct services *v); /* after it; NULL is fine */

/* settle.c: waits until mizzend and all proxies know of the pods that are ready; @done is told once a start, even if that takes too long */
struct settling *settling_create(struct supervisor *s, void (*done)(struct supervisor *s));
void settling_start(struct settling *w); /* while one is under way: nothing */
void settling_destroy(struct settling *w); /* NULL is fine */

/* serve.c */
struct serve *serve_create(struct supervisor *s, int listening);
void serve_stopped(struct serve *v); /* who asked for the end is told; before destroy */
void serve_destroy(struct serve *v); /* NULL is fine */
#endif
