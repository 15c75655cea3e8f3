#ifndef MZ_LISTENER_LISTENER_H
#define MZ_LISTENER_LISTENER_H
/*
 * Listeners (L1, L4): configuration object built and sockets bound on the main thread, accepted on workers.
 * listener.c (manager, main), listener_config.c (message -> object), chain_match.c, accept.c (worker side), net_chain.c.
 */
#include "listener/factory.h"
#include "listener/network_filter.h"

struct Envoy__Config__Listener__V3__Listener;
struct mz_listener_manager; /* main thread */
struct mz_listener_manager *mz_listener_manager_create(const struct mz_factory *f, struct mz_worker *workers, unsigned n_workers);
void mz_listener_manager_destroy(struct mz_listener_manager *m);
/* Builds, binds every address (also in validate mode: two listeners with one address are an error; binds only when @bind). */
bool mz_listener_manager_add(struct mz_listener_manager *m, const struct Envoy__Config__Listener__V3__Listener *l, struct mz_str bytes,
                             bool via_api, bool bind, const struct mz_factory *f, struct mz_err *err);
void mz_listener_manager_start(struct mz_listener_manager *m); /* workers begin to accept */
enum mz_drain_scope { MZ_DRAIN_ALL, MZ_DRAIN_INBOUND };
void mz_listener_manager_stop(struct mz_listener_manager *m, enum mz_drain_scope s); /* closes the listening sockets */
void mz_listener_manager_drain(struct mz_listener_manager *m, enum mz_drain_scope s); /* tells every filter chain's filters */
void mz_listener_manager_end_idle(struct mz_listener_manager *m); /* ends connections that are between two requests */
/* Exit: closes every connection that is left, on its worker; done runs on @main_loop when all did. */
void mz_listener_manager_close_all(struct mz_listener_manager *m, struct mz_loop *main_loop, void (*done)(void *arg), void *arg);
/* The admin address ends now: its socket and its connections close; the next turn of its loop frees them. */
void mz_listener_manager_end_internal(struct mz_listener_manager *m);
uint64_t mz_listener_manager_connections(const struct mz_listener_manager *m); /* active, all listeners */
void mz_listener_manager_text(struct mz_listener_manager *m, struct mz_buf *out); /* /listeners: name::address a line */
void mz_listener_manager_json(struct mz_listener_manager *m, struct mz_buf *out);
struct mz_listener_shown { /* for /config_dump */
    struct mz_str name;
    bool via_api;
    struct mz_listener_state {
        struct mz_str version, bytes; /* bytes NULL: there is none in this state */
        uint64_t updated_wall_us;
    } active, warming, draining;
};
/* One that drains comes by itself, behind the others: its name may have been met already. */
void mz_listener_manager_each(struct mz_listener_manager *m, void (*fn)(void *arg, const struct mz_listener_shown *l), void *arg);

struct mz_init;
/* Those that warm, with what they wait for: /init_dump. */
void mz_listener_manager_each_init(struct mz_listener_manager *m,
                                   void (*fn)(void *arg, const struct mz_listener_shown *l, const struct mz_init *init), void *arg);

/* ---- listeners that come and go (LDS). What a message changes decides what happens to connections: only filter chains, and
 * those of the others do not notice; anything else, and all of them drain (over the drain time). Sockets stay as they are where
 * addresses and their options do, so no connection is lost. ---- */
enum mz_listener_change { MZ_LISTENER_REFUSED, MZ_LISTENER_UNCHANGED, MZ_LISTENER_CHANGED };
/* Adds or updates by name; serves once what it waits for is there (X3), until then the one of before does. A listener of the
 * bootstrap is left alone (UNCHANGED). REFUSED: @err; what runs goes on. */
enum mz_listener_change mz_listener_manager_set(struct mz_listener_manager *m,
                                                const struct Envoy__Config__Listener__V3__Listener *l, struct mz_str bytes,
                                                struct mz_str version, const struct mz_factory *f, struct mz_err *err);
/* Would set() leave it as it is? The message need not be opened then. */
bool mz_listener_manager_keeps(struct mz_listener_manager *m, struct mz_str name, struct mz_str bytes);
bool mz_listener_manager_remove(struct mz_listener_manager *m, struct mz_str name); /* false: no such dynamic one */
/* Names of all dynamic ones, warming or not. */
void mz_listener_manager_names(struct mz_listener_manager *m, void (*fn)(void *arg, struct mz_str name), void *arg);

/* ---- lds.c: the subscription ---- */
struct Envoy__Config__Core__V3__ConfigSource;
struct mz_lds;
struct mz_lds *mz_lds_create(struct mz_listener_manager *m, const struct mz_factory *f,
                             const struct Envoy__Config__Core__V3__ConfigSource *source, const char *locator,
                             struct mz_err *err); /* target of f->init; @source, @locator: as of mz_subscribe_all() */
void mz_lds_destroy(struct mz_lds *l); /* NULL is fine */
struct mz_str mz_lds_version(const struct mz_lds *l); /* of the last good update; "" */
struct mz_lds_error { /* what the last update had that was refused */
    struct mz_str name, bytes, details, version;
    uint64_t wall_us;
};
void mz_lds_errors(const struct mz_lds *l, void (*fn)(void *arg, const struct mz_lds_error *e), void *arg);
/* A listener that is not configured by a message: the admin address, served on the main thread by the given filter. */
bool mz_listener_manager_add_internal(struct mz_listener_manager *m, struct mz_str name, const struct mz_addr *a,
                                      const struct mz_net_filter_type *type, const void *cfg, struct mz_worker *main_worker,
                                      struct mz_err *err);
/* What would a connection get (explain)? */
struct mz_decision;
struct mz_imagined_conn {        /* texts are borrowed */
    struct mz_addr local;        /* the listener's; becomes what filters see */
    struct mz_addr destination;  /* where the client wanted to go, had it been caught; len 0: to local */
    struct mz_addr remote;
    bool tls;                    /* the client begins with a handshake; else with a request of @protocol */
    struct mz_str sni;           /* lower case; "" none */
    struct mz_str *alpn;         /* that it offers */
    size_t n_alpn;
    struct mz_str protocol;      /* what http_inspector would see in plain text: "http/1.1"; "" nothing of HTTP */
    /* out */
    struct mz_str listener;      /* that serves it */
    uint8_t direction;           /* its traffic_direction */
    const struct mz_filter_chain *chain; /* NULL: none matched */
    bool secure;                 /* the chain ends TLS */
};
/* Main thread. Steps go into @d, texts of them into @a. False: no listener has this address. */
bool mz_listener_manager_explain(struct mz_listener_manager *m, struct mz_imagined_conn *c, struct mz_decision *d,
                                 struct mz_arena *a);
/* The chain's filter number @i as this thread has it (one that has not come yet has no type); false: there are no more. */
struct mz_chain_place {
    const struct mz_net_filter_type *type;
    const void *cfg;
    struct mz_str name;
};
struct mz_str mz_filter_chain_name(const struct mz_filter_chain *c);
bool mz_filter_chain_place(const struct mz_filter_chain *c, size_t i, struct mz_chain_place *out);
/* The configuration of the chain's filter of this type, NULL when it has none (explain reads the HCM's). */
const void *mz_filter_chain_config(const struct mz_filter_chain *c, const struct mz_net_filter_type *type);
#endif
