#ifndef MZ_LISTENER_MANAGER_PRIV_H
#define MZ_LISTENER_MANAGER_PRIV_H
/* The manager's own: listener.c, update.c. Main thread. */
#include "base/vec.h"
#include "listener/listener_priv.h"
#include "xds/init.h"

struct warming;
struct listener {
    struct mz_list link; /* of the retired ones */
    struct mz_listener_manager *manager;
    struct mz_listener_config *cfg; /* NULL: it warms for the first time */
    struct mz_acceptor **acceptors; /* n_addrs times workers; none where it is not bound */
    size_t n_acceptors;
    bool internal, stopped;
    struct warming *warming; /* what comes next; NULL: nothing */
    struct mz_list drains;   /* of chains that were replaced */
    struct mz_timer end_timer; /* of a retired one */
    bool ending;
    unsigned unanswered; /* acceptors that were asked to end */
    bool second_round;
};
struct mz_listener_manager {
    struct mz_stats *stats;
    struct mz_scope *scope;
    struct mz_loop *main;
    uint64_t drain_ms;
    bool drain_at_once;
    struct mz_worker *workers;
    unsigned n_workers;
    int64_t connections, internal_connections; /* atomics */
    bool started, closing;
    bool stopped_all, stopped_inbound; /* listeners of these come and change no more */
    MZ_VEC(struct listener *) list;
    struct mz_list retired; /* removed or moved to other sockets; their connections drain */
};

/* listener.c */
struct listener *listener_create(struct mz_listener_manager *m, struct mz_listener_config *take);
void listener_destroy(struct listener *l); /* no loop of its acceptors runs; NULL is fine */
bool listener_bind(struct mz_listener_manager *m, struct listener *l, struct mz_err *err);
bool listener_address_free(const struct mz_listener_manager *m, const struct mz_listener_config *c, struct mz_err *err);
void listener_post(const struct listener *l, mz_post_fn *fn); /* to each acceptor's loop, the acceptor as argument */
void listener_start(struct listener *l);
void listener_drop_named(struct mz_listener_manager *m, struct mz_str name);

/* update.c */
void listener_updates_end(struct listener *l); /* timers, what warms */
const struct mz_listener_config *listener_warming(const struct listener *l); /* NULL: nothing */
struct mz_listener_state listener_state(const struct mz_listener_config *c); /* of NULL, too */
#endif
