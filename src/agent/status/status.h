#ifndef MZ_AGENT_STATUS_H
#define MZ_AGENT_STATUS_H
/*
 * The agent's own port, 15020 (A3): readiness, metrics of agent, proxy and application in one page, the application's probes,
 * /quitquitquit and /drain for clients on this machine. Main thread.
 */
#include "agent/link/link.h"

struct mz_status;
struct mz_status_opts {
    struct mz_loop *loop;
    struct mz_link *link;         /* its target "admin"; further ones are set here */
    uint16_t port, prometheus_port;
    const char *localhost;        /* "127.0.0.1", "::1" */
    const char *probers;          /* ISTIO_KUBE_APP_PROBERS, JSON; "" none */
    const char *prometheus;       /* ISTIO_PROMETHEUS_ANNOTATIONS, JSON {"scrape", "port", "path"}; "" none */
    void (*quit)(void *arg);
    void (*drain)(void *arg);
    const char *(*waits)(void *arg); /* what the agent itself is not ready for; NULL: it is ready */
    void (*metrics)(void *arg, struct mz_buf *out); /* the agent's own, in Prometheus' text form */
    void *arg;
};
/* Texts are borrowed. NULL and @err: a prober that cannot be, the port. */
struct mz_status *mz_status_create(const struct mz_status_opts *o, struct mz_err *err);
void mz_status_stop(struct mz_status *s);    /* before the link; NULL is fine */
void mz_status_destroy(struct mz_status *s); /* after the loop; NULL is fine */
#endif
