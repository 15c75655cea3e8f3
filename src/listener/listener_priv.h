#ifndef MZ_LISTENER_LISTENER_PRIV_H
#define MZ_LISTENER_LISTENER_PRIV_H
/* What the files of this folder share. */
#include "base/list.h"
#include "listener/chain_match.h"
#include "listener/ecds.h"
#include "listener/listener.h"
#include "listener/listener_filter.h"
#include "listener/stats.h"
#include "net/socket.h"

struct mz_access_log;

/* ---- configuration: immutable but for the atomics ---- */
struct mz_chain_filter {
    const struct mz_net_filter_type *type;
    void *cfg;
    struct mz_ecds_place *place; /* not NULL: type and cfg come from there */
    struct mz_str name;
};
struct mz_filter_chain { /* immutable but for the drain; an update of its listener that leaves it as it is keeps it */
    unsigned refs; /* atomic: configurations of its listener */
    struct mz_arena *arena;
    struct mz_str bytes; /* its message */
    uint64_t drain_start_us, drain_end_us; /* atomics, monotonic; 0: it is in use */
    bool drain_at_once;                    /* the strategy; atomic */
    struct mz_str name;
    struct mz_chain_filter *filters;
    size_t n_filters;
    size_t objects_bytes; /* of the filters' objects, each rounded up; without those of places */
    bool has_places;
    struct mz_transport_factory *transport;
    uint32_t connect_timeout_ms; /* transport handshake; 0: none */
    bool borrowed_cfg;           /* the admin listener's configuration is not ours */
};
struct mz_port_rule; /* predicate.c */
struct Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate;
struct mz_port_rule *mz_port_rule_build(const struct Envoy__Config__Listener__V3__ListenerFilterChainMatchPredicate *m,
                                        struct mz_arena *a, struct mz_err *err);
bool mz_port_rule_match(const struct mz_port_rule *r, unsigned port);
struct mz_listener_filter {
    const struct mz_lfilter_type *type;
    void *cfg;
    struct mz_ecds_place *place; /* not NULL: type and cfg come from there */
    const struct mz_port_rule *disabled; /* NULL: never */
};
/* filter_chain_matcher. Built on the main thread, immutable; chains are borrowed. */
struct mz_chain_tree;
struct Xds__Type__Matcher__V3__Matcher;
struct mz_chain_tree *mz_chain_tree_create(const struct Xds__Type__Matcher__V3__Matcher *m,
                                           struct mz_filter_chain *const *chains, size_t n, const struct mz_factory *f,
                                           struct mz_err *err);
void mz_chain_tree_destroy(struct mz_chain_tree *t); /* NULL is fine */
/* False: it says nothing of this connection, which is for the default chain. *out NULL: no chain has the name it says. */
bool mz_chain_tree_find(const struct mz_chain_tree *t, const struct mz_incoming *in, struct mz_filter_chain **out);
struct mz_listen_address {
    struct mz_addr addr; /* as configured; a port of 0 is replaced when bound */
    bool v4_compat;
    unsigned unix_mode;
    struct mz_socket_opts opts;
};
struct mz_listener_config {
    unsigned refs; /* atomic: the manager, acceptors, connections */
    int64_t connections; /* atomic: active now */
    struct mz_arena *arena;
    struct mz_str name, bytes;
    struct mz_listen_address *addrs;
    size_t n_addrs;
    struct mz_filter_chain **chains; /* one reference each; the default chain, when there is one, is the last */
    size_t n_chains;
    struct mz_str rest; /* the message without its chains: an update that is equal here changes chains only */
    struct mz_str sockets; /* the part that makes the sockets: an update that is equal here takes them over */
    struct mz_filter_chain *default_chain;
    struct mz_chain_match *match;
    struct mz_chain_tree *tree; /* NULL: chains are chosen by @match */
    struct mz_listener_filter *lfilters;
    size_t n_lfilters;
    uint64_t lfilters_timeout_ms; /* 0: none */
    bool go_on_at_timeout, use_original_dst;
    struct mz_access_log **logs;
    size_t n_logs;
    const struct mz_meta *metadata;
    struct mz_scope *scope;
    struct mz_scope **worker_scopes; /* per worker */
    unsigned n_workers;
    struct mz_str limit_key; /* runtime: envoy.resource_limits.listener.<name>.connection_limit */
    uint32_t buffer_limit;
    uint32_t max_accept; /* connections taken per event of the socket */
    int backlog;
    uint32_t fast_open; /* 0: off */
    uint8_t traffic_direction;
    uint32_t wire_bytes; /* of an internal listener: what an end may leave unread; 0: it is none */
    bool bind_to_port, reuse_port, exact_balance, transparent, freebind, ignore_global_limit, modify_only_drain;
    bool via_api;
    struct mz_str version;
    uint64_t updated_wall_us;
};
struct Envoy__Config__Listener__V3__Listener;
/* @before NULL, or what this one replaces: chains that did not change are shared with it, where nothing else changed. */
struct mz_listener_config *mz_listener_config_create(const struct Envoy__Config__Listener__V3__Listener *m,
                                                     struct mz_str bytes, const struct mz_factory *f, unsigned n_workers,
                                                     const struct mz_listener_config *before, struct mz_err *err);
struct mz_listener_config *mz_listener_config_ref(struct mz_listener_config *c);
void mz_listener_config_unref(struct mz_listener_config *c);
struct mz_filter_chain *mz_listener_config_chain(const struct mz_listener_config *c, const struct mz_incoming *in);

/* ---- a worker's end of one listening socket ---- */
struct mz_acceptor {
    struct mz_io io;
    struct mz_worker *worker;
    struct mz_listener_config *cfg;
    struct mz_scope *worker_scope;
    struct mz_addr local;     /* of the socket; a wildcard asks the kernel for each connection */
    int64_t *process_connections; /* atomic: all listeners, for the global limit */
    int64_t connections;      /* atomic: of this acceptor, for exact balance */
    struct mz_acceptor **peers; /* exact balance: the acceptors of the other workers; NULL: none */
    unsigned n_peers;
    struct mz_list chains; /* connections: struct mz_net_chain */
    struct mz_list inspected; /* those that are in their listener filters */
    struct mz_list called;    /* an internal listener's of this turn */
    struct mz_task call_task; /* takes them */
    struct mz_timer pause; /* no descriptor was left: accept again when it fires (E09) */
    int fd;                /* -1: stopped */
    bool exclusive;
    bool v4_compat; /* a wildcard of IPv6 that takes IPv4, too */
    bool started;   /* others may hand connections over to it */
    bool stopping; /* the socket closes when the timer fires */
    struct mz_loop *main; /* set when its listener is retired, with the latter */
    struct listener *listener;
};
struct mz_acceptor *mz_acceptor_create(struct mz_worker *w, struct mz_listener_config *cfg, int take_fd,
                                       const struct mz_addr *local);
void mz_acceptor_start(struct mz_acceptor *a);   /* on its loop; on main before the loop runs */
/* Takes in->fd and in->arena: a connection that another listener accepted and that wants to go to this one's address (L3). Runs
 * the listener filters of this one; it goes no further. */
void mz_acceptor_take(struct mz_acceptor *a, const struct mz_incoming *in);
/* A connection to this internal listener; the client's end, or NULL and errno. Its life here begins at the end of the turn. */
struct mz_wire;
struct mz_wire_call;
struct mz_wire *mz_acceptor_call(struct mz_acceptor *a, const struct mz_wire_call *call);
/* Ends one that has no owner yet, with its arena. */
void mz_incoming_close(struct mz_loop *l, const struct mz_incoming *in);
/* The listener's logs of one that never had a chain; @no_chain: the details of why none fits, NULL: its listener filters ended it. */
void mz_incoming_log(const struct mz_listener_config *cfg, const struct mz_incoming *in, const char *no_chain);
/* by_address.c: a worker's started acceptors, on its thread */
void mz_acceptors_put(struct mz_acceptor *a); /* replaces one of the same address */
void mz_acceptors_del(struct mz_acceptor *a); /* nothing where it is not there */
/* Who serves @to: exactly it, then any address of its family with its port, then any of IPv6 that takes IPv4. */
struct mz_acceptor *mz_acceptors_find(const struct mz_worker *w, const struct mz_addr *to);
/* On its loop: no new handshakes from now on; those that began are still taken, then the socket closes (10 ms). A second
 * call closes it at once. */
void mz_acceptor_stop(struct mz_acceptor *a);
void mz_acceptor_drain(struct mz_acceptor *a);   /* on its loop: tells the filters of each connection */
void mz_acceptor_end_idle(struct mz_acceptor *a); /* on its loop: connections between two requests end */
void mz_acceptor_close_connections(struct mz_acceptor *a); /* on its loop */
/* On its loop: connections from now on are of @cfg (a reference moves in). Those of before go on with what they began with. */
void mz_acceptor_set_config(struct mz_acceptor *a, struct mz_listener_config *cfg);
void mz_acceptor_close_drained(struct mz_acceptor *a); /* on its loop: connections of chains whose drain time is over */
void mz_acceptor_destroy(struct mz_acceptor *a); /* without connections, its loop not running */

/* ---- a connection ---- */
/* Takes in->fd and in->arena: picks the chain, builds the filters, starts them; closes it where no chain fits. */
void mz_net_chain_start(struct mz_acceptor *a, const struct mz_incoming *in);
/* Takes in->fd and in->arena (NULL: it gets one): runs the listener filters, then starts its chain or hands it over (L3),
 * unless it was @handed_over. */
void mz_inspect_start(struct mz_acceptor *a, const struct mz_incoming *in, bool handed_over);
void mz_inspect_close_all(struct mz_acceptor *a);
void mz_net_chain_drain(struct mz_list *link);
void mz_net_chain_end_idle(struct mz_list *link);
void mz_net_chain_close(struct mz_list *link);
bool mz_net_chain_drained(const struct mz_list *link); /* its filter chain's drain time is over */
#endif
