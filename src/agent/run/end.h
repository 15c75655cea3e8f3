#ifndef MZ_AGENT_END_H
#define MZ_AGENT_END_H
/*
 * The end of a proxy, as Istio's agent brings it about: its listeners drain (what comes on new connections is still answered, kept
 * ones are asked to close), then it is stopped. Main thread.
 */
#include "agent/link/link.h"

struct mz_process;
struct mz_end;
struct mz_end_opts {
    struct mz_loop *loop;
    struct mz_link *link;        /* its target "admin" */
    struct mz_process *process;  /* which tells that it has gone */
    bool inbound_only;           /* what drains: outbound connections of an application that still runs go on */
    uint64_t drain_ms;           /* terminationDrainDuration */
    bool on_zero;                /* EXIT_ON_ZERO_ACTIVE_CONNECTIONS: instead, when no connection is left, not before minimum_ms */
    uint64_t minimum_ms;
    uint16_t own_ports[3];       /* whose listeners' connections do not count */
};
struct mz_end *mz_end_create(const struct mz_end_opts *o);
void mz_end_drain(struct mz_end *e); /* now; mz_end_begin() then stops the proxy at once */
void mz_end_begin(struct mz_end *e); /* again: nothing */
void mz_end_now(struct mz_end *e);   /* without draining; again: without patience */
void mz_end_destroy(struct mz_end *e); /* before the link stops; NULL is fine */
#endif
