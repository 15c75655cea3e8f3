#ifndef MZ_CONTROL_TRANSLATE_TRANSLATE_H
#define MZ_CONTROL_TRANSLATE_TRANSLATE_H
/*
 * Which resources a proxy is given (C3). The one entry for everybody: the xDS server, `--mode dump`, analyzers. Main thread.
 */
#include "control/translate/proxy.h"
#include "control/model/change.h"
#include "control/translate/resource.h"
#include "control/translate/set.h"
#include "xds/subscription.h"

/* What may be sent at all; istiod's names of the environment. */
enum mz_jwks_fetch { /* who fetches the keys of a RequestAuthentication that only says where they are */
    MZ_JWKS_CONTROL_PLANE, /* "false", "istiod" */
    MZ_JWKS_HYBRID,        /* "true", "hybrid": proxies where the server is a service of the mesh */
    MZ_JWKS_PROXY,         /* "envoy" */
};
struct mz_features { /* all but the first two: as Istio does by itself where it is 0 */
    bool metadata_exchange; /* PILOT_ENABLE_METADATA_EXCHANGE, on */
    bool alpn;              /* PILOT_ENABLE_ALPN_FILTER, on */
    bool many_custom;       /* PILOT_ENABLE_MULTIPLE_CUSTOM_AUTHZ_PROVIDERS, off */
    bool http10;            /* HTTP/1.0 is answered */
    bool remote_address;    /* of clients that sidecars send for: the real one counts */
    bool redis, mysql, no_mongo; /* filters of these protocols */
    bool no_continue;       /* 100 (Continue) ends at the proxy */
    bool gateways_at_home;  /* Gateways are for proxies of their own namespace */
    bool always_weighs;     /* proxies weigh places by their shares, whatever is said */
    bool track_remaining;   /* gauges of what circuit breakers have left */
    bool any_trust_domain;  /* of peers */
    bool shadow_suffix;     /* "-shadow" behind the authority of mirrored requests */
    bool no_service_names, no_workload_names; /* for telemetry, of clusters and endpoints */
    bool no_absolute_names; /* no virtual host answers to "name." */
    bool no_exchange_alpn;  /* istio-peer-exchange is not offered */
    bool ingress_tls;       /* `tls` of a Sidecar's ingress counts */
    bool sessions;          /* services with the labels of persistent sessions have them */
    bool always_unhealthy, no_unhealthy; /* endpoints that are not ready are told; else but for panic thresholds */
    uint32_t accepts;       /* connections at once, 1 */
    bool accepts_all;
    uint64_t handshake_ms;  /* 15,000 */
    bool handshake_forever;
    uint32_t dynamic_hosts; /* that a proxy knows addresses of, 1,024 (outboundTrafficPolicy ALLOW_ANY_DYNAMIC_DNS) */
    enum mz_jwks_fetch jwks_fetch; /* PILOT_JWT_ENABLE_REMOTE_JWKS, "false" */
    double trace_sampling;      /* PILOT_TRACE_SAMPLING, 1; percent */
};
struct mz_features mz_features_from_env(void); /* what a variable does not say is as written above */
struct mz_translator; /* the cache, and what all proxies of a model share */
struct mz_translator *mz_translator_create(const struct mz_features *f); /* copied */
void mz_translator_destroy(struct mz_translator *t);       /* after its views; NULL is fine */
/* Takes a reference. Views that do not stay (mz_view_stays) end first, the others are renewed behind it. */
void mz_translator_set_model(struct mz_translator *t, const struct mz_model *m);
struct mz_cache_counts mz_translator_counts(const struct mz_translator *t);
uint64_t mz_translator_secrets_refused(const struct mz_translator *t); /* that were asked for and could not be, or might not be, given */
struct mz_sets *mz_translator_sets(const struct mz_translator *t);

/* One proxy in one model. */
struct mz_view;
struct mz_view *mz_view_create(struct mz_translator *t, const struct mz_proxy *p); /* borrows p */
bool mz_view_by_name(const struct mz_view *v); /* it asks for listeners and clusters by name: gRPC without a proxy */
bool mz_view_answers_dns(const struct mz_view *v); /* its agent asks for the name table */
bool mz_view_stays(const struct mz_view *v, const struct mz_model *next); /* before the translator gets @next */
void mz_view_renew(struct mz_view *v); /* to the translator's model, which stands on the view's */
void mz_view_destroy(struct mz_view *v); /* NULL is fine */

struct mz_outs { /* by name; a reference each */
    MZ_VEC(struct mz_out *) v;
};
void mz_outs_fini(struct mz_outs *o);
/* Types that are served: what there is of them. MZ_XDS_TYPE__COUNT: not served. */
enum mz_xds_type mz_translate_type(struct mz_str type_url);
const ProtobufCMessageDescriptor *mz_translate_descriptor(enum mz_xds_type t); /* of a type that is served */
const char *mz_translate_short(enum mz_xds_type t); /* "cds"; NULL: not served */
/* Names of endpoints (EDS) that @v may have for a host: of its ports, and their subsets; of those that it had before, too. In @a. */
void mz_translate_names(const struct mz_view *v, struct mz_str host, const struct mz_change_host *as, struct mz_arena *a,
                        struct mz_str **out, size_t *out_n);
/* Clients ask by name (EDS, RDS, SDS; gRPC for all types); else everything is sent (CDS, LDS, NDS). */
bool mz_translate_is_named(const struct mz_proxy *p, enum mz_xds_type t);
/* Listeners that a client of gRPC without a proxy may ask for: of each service that it sees and port, in full, and of what it serves itself
 * at any of its addresses. By name, in @a. */
void mz_view_listeners(const struct mz_view *v, struct mz_arena *a, struct mz_str **out, size_t *out_n);
/* Everything of a type that is not asked for by name; what views have in common is made once. A reference. */
struct mz_set *mz_view_all(struct mz_view *v, enum mz_xds_type t);
/* Makes some more (100 us) of what a client that was sent clusters will ask for next; false: there is no more. */
bool mz_view_ahead(struct mz_view *v);
/* What was begun that way, and nobody asked for so far, goes; it is made when it is asked for. */
void mz_translator_stop_ahead(struct mz_translator *t);
/* Of what listeners follow from among services, of which the settings stay; the same, the same listeners. 0: unknown. */
uint64_t mz_view_listens(struct mz_view *v);
/* Views of one kind get the same of @t for the same names, until the model is another. 0: nobody else is known to. */
uint64_t mz_view_kind(struct mz_view *v, enum mz_xds_type t);
/**
 * Everything of a type: for named ones what @names asks for and exists. @names sorted, each once; NULL with 0 for the others.
 * A name that no such resource can have is left out.
 */
void mz_translate(struct mz_view *v, enum mz_xds_type t, const struct mz_str *names, size_t n, struct mz_outs *out);
#endif
