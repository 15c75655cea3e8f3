#ifndef MZ_LISTENER_NETWORK_FILTER_H
#define MZ_LISTENER_NETWORK_FILTER_H
/*
 * Network filters (L5): a chain of read filters on a downstream connection, sharing its input buffer; the last one is
 * terminal (http_connection_manager, tcp_proxy, echo, direct_response). One object per connection.
 */
#include "listener/factory.h"
#include "net/conn.h"

enum mz_net_flow { MZ_NET_CONTINUE, MZ_NET_STOP };
struct mz_net_chain;
struct mz_incoming;
struct mz_net_filter {
    const struct mz_net_filter_type *type;
    const void *cfg;              /* borrowed: the connection holds its filter chain */
    struct mz_net_chain *chain;
    struct mz_downstream *down;   /* the connection and what is known of it */
    struct mz_worker *worker;
};
struct mz_imagined_target {
    struct mz_str cluster; /* of the configuration */
    uint64_t weight;       /* 0: it is the only one */
    const struct mz_meta *metadata_match; /* NULL: none */
};
struct mz_imagined_session { /* a connection that nobody made, and the filter that is asked what it would do with it */
    const void *cfg;
    struct mz_str name;
    struct mz_stream_info *info;  /* with arena and decision */
    bool refused;                 /* out: it would end */
    struct mz_imagined_target *targets; /* out, of a terminal filter: where its bytes would go; in the arena */
    size_t n_targets;
};
struct mz_net_filter_type {
    const char *name;        /* "envoy.filters.network.echo" */
    const char *config_type; /* "envoy.extensions.filters.network.echo.v3.Echo" */
    bool terminal;
    size_t size;             /* of the object below; zeroed, begins with struct mz_net_filter */
    /* Main thread: checked message (already unpacked, of config_type) to immutable configuration; NULL and err on failure. */
    void *(*config_build)(const void *msg, const struct mz_factory *f, struct mz_err *err);
    void (*config_destroy)(void *cfg);
    enum mz_net_flow (*on_new_connection)(struct mz_net_filter *f); /* NULL: CONTINUE */
    /* @data is the connection's input buffer; STOP keeps later filters from seeing it now. */
    enum mz_net_flow (*on_data)(struct mz_net_filter *f, struct mz_buf *data, bool end);
    /* NULL; a later filter is about to write this to the client: it may be looked at. */
    void (*on_write)(struct mz_net_filter *f, const struct mz_buf *data, bool end);
    void (*on_event)(struct mz_net_filter *f, enum mz_conn_event ev); /* close events; every filter gets them */
    void (*above_high)(struct mz_net_filter *f);                      /* downstream output buffer */
    void (*below_low)(struct mz_net_filter *f);
    void (*drain)(struct mz_net_filter *f);                           /* the listener or filter chain drains */
    void (*end_idle)(struct mz_net_filter *f); /* the process ends: close if nothing is in flight between two requests */
    void (*destroy)(struct mz_net_filter *f);                         /* at the end of the turn of the close */
    /* What it would do with an imagined connection (POST /mizzen/explain): nothing is counted or sent. NULL: not known. */
    void (*imagine)(struct mz_imagined_session *s);
    void (*worker_stop)(struct mz_worker *w); /* NULL; a worker ends, on its thread: close what outlived its connection */
};
/* A filter that stopped goes on with the later ones (they see the buffered input). */
void mz_net_filter_continue(struct mz_net_filter *f);
/* A filter that hands on what somebody else says tells the filters before it: those that listen (on_write). */
void mz_net_filter_written(struct mz_net_filter *f, const struct mz_buf *data, bool end);
/* No other filter of the connection looks at its bytes: they may pass by the buffers, mz_conn_join(). */
bool mz_net_filter_alone(const struct mz_net_filter *f);

struct mz_filter_chain; /* immutable: filters' configurations, transport factory, name, metadata; refs held by connections */
struct mz_listener_config;
struct mz_stream_info;
struct mz_downstream { /* a downstream connection; owned by its listener worker */
    struct mz_conn *conn;
    struct mz_worker *worker;
    const struct mz_filter_chain *chain;
    const struct mz_listener_config *listener;
    struct mz_scope *scope;         /* listener.<addr>. */
    struct mz_str chain_name, listener_name, sni;
    const struct mz_meta *listener_metadata;
    uint8_t direction; /* traffic_direction of the listener */
    bool secure;
    bool restored;           /* local_restored is another than the socket's */
    const char *termination; /* connection termination details, of the configuration; NULL: none */
    uint64_t start_us, start_wall_us;
    struct mz_addr local_restored;  /* original destination when restored, else the local address */
    struct mz_stream_info *info;    /* what filters of the connection know and set; NULL until mz_downstream_info() */
    struct mz_stream_info *session; /* what a terminal filter that proxies the connection knows of it (tcp_proxy); NULL: none does */
    const struct mz_incoming *found; /* by listener filters, with the arena that holds it; NULL: the listener has none */
};
/* Where the client wanted to go, had it not been caught (original_dst, proxy_protocol); NULL: to this listener's address, so
 * that a proxy does not connect to itself. */
static inline const struct mz_addr *mz_downstream_destination(const struct mz_downstream *d)
{
    return d->restored ? &d->local_restored : NULL;
}
/* What is known of the connection, for formats and for filters that leave something to later ones (filter state, dynamic
 * metadata, flags); the listener's access logs show it. Made at the first call, lives as long as the connection. */
struct mz_stream_info *mz_downstream_info(struct mz_downstream *d);
/* For the story: which connection of this process it is the other end of; "": none, it came by a socket. */
struct mz_str mz_downstream_caller(const struct mz_downstream *d, struct mz_arena *a);
/* What the transports of connections that are made for @d are to do (those with @uses), by its addresses and by what @info's
 * filter state says under these keys (lists are parted by commas). Borrows of @d, texts lie in @info's arena. */
#define MZ_STATE_SERVER_NAME "envoy.network.upstream_server_name"
#define MZ_STATE_SANS        "envoy.network.upstream_subject_alt_names"
#define MZ_STATE_ALPN        "envoy.network.application_protocols"
#define MZ_STATE_DYNAMIC_PORT "envoy.upstream.dynamic_port" /* of the name that a dynamic forward proxy goes to; a text */
unsigned mz_downstream_transport_uses(const struct mz_downstream *d); /* of whatever transport: the socket's options, or 0 */
void mz_downstream_transport_opts(const struct mz_downstream *d, const struct mz_stream_info *info, unsigned uses,
                                  struct mz_transport_opts *out);
bool mz_downstream_draining(const struct mz_downstream *d); /* process or listener drain, by strategy and chance */
#endif
