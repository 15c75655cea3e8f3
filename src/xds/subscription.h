#ifndef MZ_XDS_SUBSCRIPTION_H
#define MZ_XDS_SUBSCRIPTION_H
/*
 * Resources by subscription (X1-X4), as those see it who use them: a name and a source in, whole updates out. Which source it is
 * (a file, REST, a gRPC stream of its own, ADS; state of the world or delta) they do not see. Main thread.
 *
 * Order of a life: subscribe, start, updates..., end. Nothing is called back from inside subscribe; update() may be called from
 * inside start (a file is there at once). `first` runs once: after the first update, taken or refused, or when
 * initial_fetch_timeout passed; a stream that cannot be opened does not count.
 */
#include "base/err.h"
#include "base/str.h"
#include "event/loop.h"
#include "proto/mapper.h"
#include "stats/stats.h"

enum mz_xds_type { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT, MZ_XDS_LISTENER, MZ_XDS_ROUTE, MZ_XDS_SCOPED_ROUTE, MZ_XDS_VIRTUAL_HOST,
                   MZ_XDS_SECRET, MZ_XDS_RUNTIME, MZ_XDS_EXTENSION,
                   MZ_XDS_WORKLOAD, /* istio.workload.Workload, of ADS */
                   MZ_XDS_NAME_TABLE, /* of Istio's agents: served by mizzend, asked for by no proxy */
                   MZ_XDS_TYPE__COUNT };
const ProtobufCMessageDescriptor *mz_xds_descriptor(enum mz_xds_type t);

struct mz_resource { /* borrowed during update() */
    struct mz_str name, version;
    struct mz_str bytes; /* of a message of the subscription's type; not looked at yet */
};
struct mz_answered {
    struct mz_str name;
    bool exists; /* a resource came for it */
};
struct mz_xds_update {
    struct mz_str version; /* of the whole */
    const struct mz_resource *v;
    size_t n;
    bool whole; /* all there is of the type: what is not here exists no more */
    const struct mz_str *removed;
    size_t n_removed;
    const struct mz_answered *answered; /* VHDS: all names that it is about, aliases too */
    size_t n_answered;
};
struct mz_subscriber {
    /* False and @err: something was refused, which the server is told. Whoever takes several resources takes the good ones. */
    bool (*update)(void *arg, const struct mz_xds_update *u, struct mz_err *err);
    void (*first)(void *arg); /* NULL: nobody waits */
    void *arg;
    /* What it was given last, borrowed, for another subscription to the same; NULL: it does not keep that. */
    bool (*current)(void *arg, struct mz_resource *out);
    void (*failed)(void *arg); /* an update was refused, or the first did not come in time; NULL: nobody cares */
};

struct mz_xds; /* every subscription of the process */
struct mz_xds_env {
    struct mz_loop *main;
    struct mz_stats *stats;
    struct mz_loop *const *workers; /* see thread_slot.h */
    unsigned n_workers;
    bool reject_unknown; /* --reject-unknown-dynamic-fields */
    bool validate;       /* --mode validate: sources are looked at, nothing is started */
};
struct mz_xds *mz_xds_create(const struct mz_xds_env *env);
void mz_xds_destroy(struct mz_xds *x); /* after the last subscription ended */
const struct mz_xds_env *mz_xds_env(const struct mz_xds *x);
uint64_t mz_xds_unknown_fields(const struct mz_xds *x); /* server.dynamic_unknown_fields */

/* ---- servers ---- */
struct Envoy__Config__Core__V3__ApiConfigSource;
struct Envoy__Config__Core__V3__ConfigSource;
struct Envoy__Config__Core__V3__GrpcService;
struct mz_xds_transport; /* mux.h */
struct mz_xds_net { /* how they are reached; nothing of it before: only files can be */
    struct mz_str node; /* packed envoy.config.core.v3.Node */
    /* A transport to the service; *out_destroy(out->arg) ends it. */
    bool (*grpc)(void *arg, const struct Envoy__Config__Core__V3__GrpcService *m, struct mz_xds_transport *out,
                 void (**out_destroy)(void *arg), struct mz_err *err);
    /* A POST of JSON to the cluster; done once, not from inside, status 0: no answer. Returns what cancel takes. */
    void *(*post)(void *arg, struct mz_str cluster, const char *path, struct mz_str body, uint64_t timeout_ms,
                  void (*done)(void *done_arg, unsigned status, struct mz_str body), void *done_arg);
    void (*post_cancel)(void *post);
    void *arg;
};
void mz_xds_set_net(struct mz_xds *x, const struct mz_xds_net *n); /* copied, with node */
/* The stream of sources that say ads: {}; without it they wait for ever. The error has the path within the message. */
bool mz_xds_set_ads(struct mz_xds *x, const struct Envoy__Config__Core__V3__ApiConfigSource *m, struct mz_err *err);
/* A source of the bootstrap for names of xDS-TP: of the authorities that it names, or (@is_default) of all that no other names.
 * Before whatever subscribes. */
bool mz_xds_add_authorities(struct mz_xds *x, const struct Envoy__Config__Core__V3__ConfigSource *m, bool is_default,
                            struct mz_err *err);
bool mz_xds_has_authorities(const struct mz_xds *x);
struct mz_xds_params; /* name.h */
void mz_xds_set_context(struct mz_xds *x, const struct mz_xds_params *p); /* copied; node_context_params */
/* Does such a source know single names (delta), or only the whole? False also for ads: {} where there is none. */
bool mz_xds_is_delta(const struct mz_xds *x, const struct Envoy__Config__Core__V3__ConfigSource *source);
void mz_xds_halt(struct mz_xds *x); /* the process ends: nobody is asked any more, what waits to be asked again does not */
void mz_xds_go(struct mz_xds *x); /* streams open from now on: the clusters that they go through are there */

struct Envoy__Config__Core__V3__ConfigSource;
struct mz_subscription;
/* @name "": every resource of the type. A name of xDS-TP comes from its authority where the bootstrap has that one, and
 * @source may be NULL then; otherwise from @source. @stat_prefix "cluster_manager.cds.": where update_success and so on are counted. Errors
 * (path within the source's message): a file that does not exist, a kind of source that is not known. */
struct mz_subscription *mz_subscribe(struct mz_xds *x, const struct Envoy__Config__Core__V3__ConfigSource *source,
                                     enum mz_xds_type type, struct mz_str name, struct mz_str stat_prefix,
                                     const struct mz_subscriber *who, struct mz_err *err);
/* All of a type: every resource of @source, or (@locator not empty) a collection: "file:///path", or an xdstp name of ADS or a
 * delta stream, which the node's parameters complete. @source may be NULL with a file. The error says which of the two it is about. */
struct mz_subscription *mz_subscribe_all(struct mz_xds *x, const struct Envoy__Config__Core__V3__ConfigSource *source,
                                         const char *locator, enum mz_xds_type type, struct mz_str stat_prefix,
                                         const struct mz_subscriber *who, struct mz_err *err);
void mz_subscription_start(struct mz_subscription *s);
void mz_subscription_end(struct mz_subscription *s); /* also from inside update(); NULL is fine */
/* VHDS over gRPC: the server is asked for one name more; what it says comes to @s. Until mz_xds_watch_end(). NULL: no server. */
struct mz_xds_watch;
struct mz_xds_watch *mz_subscription_ask(struct mz_subscription *s, struct mz_str name);
struct mz_scope *mz_subscription_scope(const struct mz_subscription *s); /* kind mz_subscription_stats; borrowed; NULL: it is small */
/* For subscriptions that there are thousands of. A small one has no scope: it counts for itself, until it grows. @prefix is the
 * stat_prefix that it began with. */
void mz_subscription_shrink(struct mz_subscription *s); /* before it starts */
void mz_subscription_grow(struct mz_subscription *s, struct mz_str prefix); /* again: nothing */
/* Its numbers for a page, added to what the scope has where @add; a reference. */
struct mz_scope *mz_subscription_show(const struct mz_subscription *s, struct mz_str prefix, bool add);
void mz_subscription_reset(struct mz_subscription *s); /* /reset_counters of a small one */

/* Opens a resource as a message of @type into @ctx, which it sets up with an arena of the caller's: constraints are checked,
 * unknown fields counted or refused. False: @err has the path. */
bool mz_resource_open(struct mz_xds *x, const struct mz_resource *r, enum mz_xds_type type, struct mz_proto_ctx *ctx,
                      ProtobufCMessage **out_msg, struct mz_err *err);

#define MZ_SUBSCRIPTION_STATS(X)                                                                                       \
    X(INIT_FETCH_TIMEOUT, "init_fetch_timeout", COUNTER, NONE) X(ATTEMPT, "update_attempt", COUNTER, NONE)             \
    X(DURATION, "update_duration", HISTOGRAM, MS) X(FAILURE, "update_failure", COUNTER, NONE)                          \
    X(REJECTED, "update_rejected", COUNTER, NONE) X(SUCCESS, "update_success", COUNTER, NONE)                          \
    X(TIME, "update_time", GAUGE, NONE) X(VERSION, "version", GAUGE, NONE) X(VERSION_TEXT, "version_text", TEXT, NONE)
enum {
#define X(id, name, type, unit) MZ_SUB_STAT_##id,
    MZ_SUBSCRIPTION_STATS(X)
#undef X
    MZ_SUB_STAT__COUNT
};
extern const struct mz_stat_kind mz_subscription_stats;
#endif
