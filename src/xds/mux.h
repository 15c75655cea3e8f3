#ifndef MZ_XDS_MUX_H
#define MZ_XDS_MUX_H
/*
 * The xDS protocol over one stream (X2, X4), of one type or of all (ADS), state of the world or delta, as a state machine that
 * knows no network: bytes of requests go out through struct mz_xds_transport, bytes of responses come in. Main thread.
 *
 * - Each response is answered: with its version (taken) or with error_detail and the version of before (refused).
 * - What is subscribed to changes in one request at the end of the turn, whatever number of subscriptions came or went.
 * - A stream that ends is opened again after a jittered back-off, 0.5 s doubled up to 30 s; versions go along, nonces do not.
 * - Nothing is kept here but versions: who watches what another watches already gets it from that one, else it is asked anew.
 */
#include "xds/subscription.h"

struct mz_xds_mux;
struct mz_xds_transport { /* how a stream reaches the server; no callback from inside open or send */
    void *(*open)(void *arg, struct mz_xds_mux *m, const char *method); /* never NULL; failure comes as mz_xds_mux_closed() */
    bool (*send)(void *stream, struct mz_str request); /* false: full, mz_xds_mux_writable() follows; nothing was taken */
    void (*close)(void *stream);                       /* silent from now on */
    void *arg;
};
struct mz_xds_mux_opts {
    bool delta;
    bool ads;               /* all types; else @type */
    enum mz_xds_type type;
    bool node_once;         /* set_node_on_first_message_only; delta always does */
    struct mz_str node;     /* packed envoy.config.core.v3.Node; copied */
    struct mz_str scope;    /* of control_plane.: "", "cluster_manager.cds." */
    struct mz_rand *rand;
    double max_tokens, fill_rate; /* requests: a bucket of so many, so many more a second; max_tokens 0: no limit */
    void (*destroy)(void *arg); /* with the mux, transport.arg; NULL */
};
struct mz_xds_mux *mz_xds_mux_create(struct mz_xds *x, const struct mz_xds_mux_opts *o, const struct mz_xds_transport *t);
void mz_xds_mux_destroy(struct mz_xds_mux *m); /* without subscriptions; NULL is fine */
void mz_xds_mux_start(struct mz_xds_mux *m);   /* opens the stream; subscriptions of before wait for it */

/* ---- from the transport ---- */
void mz_xds_mux_received(struct mz_xds_mux *m, struct mz_str response);
void mz_xds_mux_writable(struct mz_xds_mux *m);
void mz_xds_mux_closed(struct mz_xds_mux *m, int grpc_status, struct mz_str message); /* the stream is gone */

/* ---- for subscriptions ---- */
/* A watch of every resource (@name "") or of one. update: as of mz_subscriber, also with removed names. */
struct mz_xds_watch;
struct mz_xds_watch_ops {
    bool (*update)(void *arg, const struct mz_xds_update *u, struct mz_err *err);
    void (*disconnected)(void *arg); /* the stream could not be opened or ended */
    void (*refused)(void *arg); /* a response of the type was none as a whole: update() saw nothing of it; NULL: nobody cares */
    bool (*current)(void *arg, struct mz_resource *out); /* what it was given last, where it keeps that; borrowed */
    bool single; /* VHDS: the name is one resource's; else it stands for all "name/...", and the server is asked for the whole type */
};
struct mz_xds_watch *mz_xds_mux_watch(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name,
                                      const struct mz_xds_watch_ops *ops, void *arg);
bool mz_xds_watch_known(const struct mz_xds_watch *w, struct mz_resource *out); /* another watch of its name has it */
void mz_xds_watch_end(struct mz_xds_watch *w); /* also from inside update(); NULL is fine */
#endif
