#ifndef MZ_XDS_PRIV_H
#define MZ_XDS_PRIV_H
/* What the files of this folder share. Who owns what: README.md. */
#include "base/list.h"
#include "base/map.h"
#include "base/log.h"
#include "xds/file_watch.h"
#include "xds/name.h"
#include "xds/subscription.h"

#define INITIAL_FETCH_TIMEOUT_MS 15000

struct mz_xds {
    struct mz_xds_env env;
    struct mz_xds_net net;
    struct mz_xds_mux *ads; /* NULL: no ads_config */
    struct mz_map muxes;    /* of sources of their own */
    struct mz_arena *arena; /* of what the bootstrap says once */
    struct xds_authority *authorities; /* the last one first */
    struct mz_xds_params context;      /* of the node; names of collections are completed with it */
    bool going;             /* streams may open */
    bool halted;            /* ... no more */
    struct mz_file_watches *watches;
    uint64_t unknown_fields;
    struct version_text *last_version; /* subscription_counts.c; NULL: none yet */
};
struct xds_authority { /* a source of the bootstrap that tells of names by their authority */
    struct xds_authority *next;
    struct mz_xds_mux *mux;
    uint64_t first_ms;
    struct mz_str *names;
    size_t n_names;
    bool any; /* also of names that no other tells of */
};
struct mz_hist;
struct subscription_counts { /* of a subscription without a scope */
    uint32_t n[MZ_SUB_STAT_SUCCESS + 1]; /* counters, by their index */
    uint32_t at_once;                    /* updates that took less than 1 ms */
    struct mz_hist *durations;           /* of the others; NULL: none */
    struct version_text *version;        /* of the last success; NULL: none */
    uint64_t wall_ms;
};
struct source_ops { /* where resources come from */
    bool (*create)(struct mz_subscription *s, const pb_ConfigSource *m, struct mz_err *err);
    void (*start)(struct mz_subscription *s);
    void (*destroy)(struct mz_subscription *s); /* takes a half-made one */
};
extern const struct source_ops source_file, source_grpc, source_rest;

struct mz_subscription {
    struct mz_xds *xds;
    enum mz_xds_type type;
    struct mz_str name; /* behind the struct; of a collection in canonical form */
    bool collection;    /* ... and all that is in it is wanted */
    const struct xds_authority *authority; /* who tells of it; NULL: the source that was given */
    struct mz_str stat_prefix; /* during create() */
    struct mz_scope *scope; /* NULL: it is small */
    struct subscription_counts counts;
    struct mz_subscriber who;
    const struct source_ops *source;
    void *state; /* of the source */
    struct mz_timer first_timer;
    uint64_t first_ms; /* 0: waits for ever */
    bool first_done;
    unsigned busy; /* callbacks that run */
    bool ended;    /* during one */
};

/* subscription_counts.c */
void subscription_count(struct mz_subscription *s, unsigned which);
void subscription_count_success(struct mz_subscription *s, struct mz_str version, uint64_t wall_ms, uint64_t took_ms);
void subscription_counts_fini(struct subscription_counts *c);
void version_text_unref(struct version_text *v); /* NULL is fine */

/* ---- what sources tell ---- */
/* Hands an update on and counts it. False: refused, @err says why. @received_us: mono, when it began to be read. */
bool subscription_take(struct mz_subscription *s, const struct mz_xds_update *u, struct mz_err *err);
/* Reads @text as a DiscoveryResponse (@name ends with .json, .pb, or it is YAML) and hands on what @s is about. */
bool subscription_text(struct mz_subscription *s, struct mz_str name, struct mz_str text, struct mz_arena *a,
                       struct mz_str *out_version);
void subscription_enter(struct mz_subscription *s); /* it lives to the leave(), whoever ends it meanwhile */
void subscription_leave(struct mz_subscription *s);
void subscription_refused(struct mz_subscription *s, const struct mz_err *err); /* it never reached the subscriber; @err NULL: logged already */
void subscription_failed(struct mz_subscription *s, const struct mz_err *err);  /* it could not be had */
void subscription_first(struct mz_subscription *s); /* whoever waits waits no longer */

/* authority.c */
/* Who tells of @name: *out NULL is the source @m, which may be NULL where an authority has to. */
bool authority_of(struct mz_xds *x, const pb_ConfigSource *m, struct mz_str name, const struct xds_authority **out,
                  struct mz_err *err);
void authorities_go(struct mz_xds *x);
void authorities_destroy(struct mz_xds *x);
/* source_grpc.c, subscription.c */
struct mz_xds_mux *ads_mux_make(struct mz_xds *x, const pb_ApiConfigSource *m, struct mz_err *err);
bool source_first_ms(const pb_ConfigSource *m, uint64_t *out, struct mz_err *err);

/* types.c */
struct xds_type {
    const ProtobufCMessageDescriptor *descriptor;
    const ProtobufCMessageDescriptor *collection; /* of them in a file; NULL: there is none */
    const char *short_name; /* "cds" */
    const char *stream_method, *delta_method; /* of a server of this type alone; NULL: there is none */
    const char *rest_path;
    unsigned name_field; /* number of the field that is a resource's name; 0: the first */
};
extern const struct xds_type xds_types[MZ_XDS_TYPE__COUNT];
/* The text in field number @field of a message. False: not a message. */
bool resource_name(struct mz_str bytes, unsigned field, struct mz_str *out_name);
struct wrapped { /* a resource, and what a Resource around it says */
    struct mz_resource r;
    uint64_t ttl_ms; /* 0: none */
    bool heartbeat;  /* no body: the time to live begins anew */
};
bool resource_of_message(const pb_Resource *m, enum mz_xds_type type, struct mz_str version, struct wrapped *out,
                         struct mz_err *err);
bool resource_unwrap(const pb_Any *any, enum mz_xds_type type, struct mz_str version, struct mz_arena *a,
                     struct wrapped *out, struct mz_err *err);
/* An entry of a response's resources to a resource. @version: of the response. The error has no path. */
bool resource_of_any(const pb_Any *any, enum mz_xds_type type, struct mz_str version, struct mz_resource *out,
                     struct mz_err *err);
#endif
