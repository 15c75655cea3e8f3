#ifndef MZ_CONTROL_MONITOR_MONITOR_H
#define MZ_CONTROL_MONITOR_MONITOR_H
/* The monitoring port (15014): /ready, /metrics with istiod's names, /version, and /debug for clients on this machine. Main thread. */
#include "control/debug/pages.h"
#include "control/monitor/metrics.h"
#include "web/server.h"

struct mz_monitor_env {
    struct mz_loop *loop;
    struct mz_debug_env debug;
    /* More metrics of others, appended to the page; NULL: none. */
    void (*more)(void *arg, struct mz_buf *out);
    void *arg;
};
struct mz_monitor;
struct mz_monitor *mz_monitor_create(const struct mz_monitor_env *e); /* copied */
bool mz_monitor_listen(struct mz_monitor *m, const struct mz_addr *a, struct mz_addr *out_addr, struct mz_err *err);
void mz_monitor_destroy(struct mz_monitor *m); /* NULL is fine */
/* A change of documents was read and told to everybody. */
struct mz_monitor_push {
    uint64_t waited_us; /* from the first change that was noticed until the model stood */
    uint64_t model_us;  /* of that for the model */
    uint64_t told_us;   /* for the model and for telling the clients */
};
void mz_monitor_pushed(struct mz_monitor *m, const struct mz_monitor_push *p);
#endif
