#ifndef MZ_XDS_MUX_PRIV_H
#define MZ_XDS_MUX_PRIV_H
#include "base/map.h"
#include "base/vec.h"
#include "proto/wire.h"
#include "xds/mux.h"
#include "xds/name.h"
#include "xds/xds_priv.h"

#define RETRY_FIRST_MS 500
#define RETRY_MAX_MS   30000
#define REFILL_MAX_MS  3600000

struct mz_xds_watch {
    struct mz_list link; /* of its type: wildcards, or its name */
    struct mz_xds_mux *mux;
    struct named *named; /* NULL: every resource */
    enum mz_xds_type type;
    const struct mz_xds_watch_ops *ops;
    void *arg;
};
struct ttl {
    struct mz_timer timer;
    struct named *named;
};
struct named { /* a name that somebody watches, or a resource that a delta stream gave */
    struct mz_str name; /* behind the struct */
    struct mz_list watches;
    struct mz_xds_mux *mux;
    enum mz_xds_type type;
    char *version;       /* delta: what we have; NULL: nothing */
    bool asked;          /* the server knows that we want it */
    bool space;          /* VHDS: all that is under it is wanted */
    bool glob;           /* a collection of xDS-TP: all whose name is its but for the last part */
    bool left_out;       /* SotW: of the request that goes now; see mux_ask_anew() */
    bool changed;        /* delta: in the list of changes */
    struct ttl *ttl; /* NULL: none */
};
struct type_state {
    struct mz_list every; /* watches of every resource */
    struct mz_map names;  /* struct named */
    size_t n_watched;     /* of names, those with watches */
    size_t n_spaces;      /* of those, spaces: they ask for the whole type */
    size_t n_globs;       /* of those, collections */
    bool due;             /* a request is to be sent */
    bool every_asked;     /* delta: on this stream */
    bool every_off;       /* delta: not in the request that goes now; see ask_all_anew() */
    bool first_sent;      /* delta: the first request of the type on this stream */
    char *version, *nonce; /* SotW: last taken; of the last response on this stream */
    char *error;          /* of the last response: refused because; NULL: taken */
    bool answer_due;      /* the request that is due answers a response */
    struct mz_str packed_names; /* SotW: the field resource_names of a request; kept while names stay */
    bool names_valid;
    bool names_new; /* SotW: packed_names are others than those of the last request */
    MZ_VEC(struct named *) changes; /* delta: to subscribe or unsubscribe */
};
struct mz_xds_mux {
    struct mz_xds *xds;
    struct mz_xds_mux_opts opts;
    struct mz_xds_transport transport;
    struct mz_arena *arena;
    struct mz_str node;
    struct mz_scope *scope;
    void *stream;  /* NULL: none now */
    bool started, node_sent, connected /* it said something */, told /* that it is away */;
    uint32_t retry_ms;
    struct mz_timer retry;
    struct mz_timer refill; /* runs while requests wait for the next token */
    double tokens;
    uint64_t filled_us;
    struct mz_task flush;
    struct type_state types[MZ_XDS_TYPE__COUNT];
    unsigned dispatching;
    bool closed_inside;
};
enum { CP_CONNECTED, CP_IDENTIFIER, CP_PENDING, CP_RATE_LIMIT, CP__COUNT };

/* Resources of these types belong to the watch of the name in front of their last '/' (VHDS). */
static inline bool type_has_spaces(enum mz_xds_type t)
{
    return t == MZ_XDS_VIRTUAL_HOST;
}
static inline struct mz_str mux_space_of(struct mz_str name) /* what stands in front of the last '/' */
{
    ptrdiff_t slash = mz_str_rchr(name, '/');
    return (struct mz_str){ name.p, slash < 0 ? 0 : (size_t)slash };
}
static inline bool type_every(const struct type_state *s) /* is the whole type wanted? */
{
    return s->n_spaces || s->every.next != &s->every;
}
static inline struct type_state *state_of(struct mz_xds_mux *m, enum mz_xds_type t)
{
    return &m->types[t];
}
void mux_due(struct mz_xds_mux *m, enum mz_xds_type t); /* a request goes at the end of the turn */
void mux_ttl(struct named *n, uint64_t ttl_ms);         /* 0: for ever */
struct named *mux_named(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name, bool make);
/* Who watches a resource of that name, as the server writes it: its own entry, else that of its collection; NULL: nobody knows it. */
struct named *mux_watched(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name);
/* The entry of a resource itself, whoever watches it. */
struct named *mux_resource(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name, bool make);
bool mux_space_watched(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_str name); /* that of a resource's name */
void mux_named_drop(struct named *n); /* where nobody watches it and nothing is known of it */
/* Hands resources to those who watch them. False: somebody refused, @err tells of the first. */
bool mux_deliver(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_xds_update *u, struct mz_err *err);
/* A response that is none as a whole: all who watch the type are told, one line is logged. */
void mux_refuse(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_err *err);
bool mux_answer(struct mz_xds_mux *m, enum mz_xds_type t, bool ok, const struct mz_err *err); /* ACK or NACK now */
void mux_keep_text(char **at, struct mz_str s); /* s.p NULL: none */
/* What begins a response of either kind. False: it is of a type that nobody here asks for, and ignored. */
struct mux_head {
    const char *type_url, *nonce;
    const pb_ControlPlane *control_plane; /* NULL: it does not say */
};
bool mux_head_taken(struct mz_xds_mux *m, const struct mux_head *h, enum mz_xds_type *out);
/* Bytes from the stream as a message of the lenient kind: resources are checked one by one. NULL: @err tells. */
const ProtobufCMessage *mux_unpack(struct mz_str bytes, const ProtobufCMessageDescriptor *d, struct mz_arena *a, struct mz_err *err);

/* mux_sotw.c, mux_delta.c */
void sotw_request(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_buf *out);
void sotw_requested(struct mz_xds_mux *m, enum mz_xds_type t); /* the transport took it */
bool sotw_received(struct mz_xds_mux *m, struct mz_str bytes, struct mz_err *err); /* false: no message */
void delta_request(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_buf *out);
void delta_requested(struct mz_xds_mux *m, enum mz_xds_type t); /* the transport took it */
bool delta_received(struct mz_xds_mux *m, struct mz_str bytes, struct mz_err *err);
void delta_watched(struct named *n); /* somebody began or ceased to watch it */
bool mux_type_of(const struct mz_xds_mux *m, struct mz_str url, enum mz_xds_type *out); /* one that this stream is about */
#endif
