#ifndef MZ_CONTROL_TRANSLATE_PRIV_H
#define MZ_CONTROL_TRANSLATE_PRIV_H
#include "control/model/peer_auth.h"
#include "control/model/rule.h"
#include "control/translate/build.h"
#include "control/translate/fragment.h"
#include "control/translate/touch.h"
#include "control/translate/translate.h"

struct tr_egress { /* one listener of a Sidecar, or the one that is for everything */
    const ist_IstioEgressListener *listener; /* NULL: no Sidecar says any */
    const struct mz_imports *imports;        /* model/sidecar.h */
    const struct mz_service *const *services; /* what is exported to few first, then the model's order; each host once */
    size_t services_n;
    const struct mz_virtual *const *virtuals; /* bound to the mesh; model/virtual_service.h */
    size_t virtuals_n;
};
struct tr_scope { /* what workloads of one namespace, or those that a Sidecar selects, can see; shared by their views */
    struct mz_str ns, key; /* in the translator's map */
    MZ_VEC(const struct mz_service *) own; /* of the one listener, where it follows the model; else empty */
    MZ_VEC(const struct mz_virtual *) own_virtuals;
    bool stale; /* the next model has others that it would see: it goes */
    const struct mz_sidecar *sidecar; /* NULL: none */
    struct tr_egress *egress; /* at least one */
    size_t egress_n;
    const struct mz_service *const *services; /* of all egress listeners; each host once */
    size_t services_n;
    struct mz_map by_host; /* const struct mz_service */
    bool registry_only;    /* nothing leaves that no service stands for */
    const char *elsewhere; /* the cluster of what no service stands for */
    bool resolves;         /* ... or, where that is HTTP, what the request's host resolves to */
    uint64_t leaves_hash;  /* of these */
    bool node_local;       /* some service has endpoints for their own node alone */
    bool by_labels;        /* some VirtualService looks at the labels of clients */
};
struct tr_group { /* of sidecars that see the same in the same way */
    uint64_t id;
    struct mz_str key;
    const struct tr_scope *scope;
    struct mz_set *clusters; /* towards others; NULL: not made yet */
    uint64_t clusters_at;    /* where touches were then, as of the others */
    struct plan *plans;      /* of listeners (listeners_outbound.c); NULL: not made yet */
    uint64_t plans_at;
    bool personal;           /* each proxy needs a plan of its own */
    struct tr_ahead *ahead;  /* ahead.c; NULL: nothing of it yet */
    struct mz_map tables;    /* of routes, by name, to struct tr_table (routes.c) */
    struct mz_set *names;    /* the name table; NULL: not made yet */
    uint64_t names_at;
};
struct tr_last_common { /* of mutual TLS, as the last cluster had it (cluster_tls.c) */
    size_t key_n, packed_n; /* key_n 0: none */
    char key[512], packed[1024];
};
struct mz_translator {
    const struct mz_model *model;
    struct mz_features features;
    struct mz_cache *cache;
    struct mz_fragments *fragments;
    struct mz_arena *arena; /* of the scopes: goes with the model */
    struct mz_map scopes;   /* scope.c */
    struct mz_sets *sets;
    struct mz_map groups;   /* struct tr_group by what it follows from (group.c); goes with the scopes */
    uint64_t groups_made, epoch; /* epoch: models so far */
    struct mz_map told;     /* tell.h */
    uint64_t secrets_refused;
    struct mz_map telemetry; /* telemetry.c; goes with the scopes */
    struct tr_touches touches;
    uint64_t judged;        /* serial of a model to come that scopes were looked through for */
    bool stays;             /* ... what was made for this one may stay */
    struct tr_last_common last_common;
};
struct mz_view {
    struct mz_translator *t;
    const struct mz_model *model;
    const struct mz_proxy *proxy;
    const struct tr_scope *scope;
    struct tr_group *group; /* NULL: nobody else is like it */
    const struct mz_workload *workload; /* NULL: not known (yet) */
    struct mz_arena *arena;
    struct mz_targets targets;
    const struct tr_ingress *ingress; /* one for each target; NULL: they are those of services (ingress.h) */
    bool exchange, alpn; /* whether this proxy has them and is to have them */
    const struct tr_telemetry *telemetry[3]; /* telemetry.h, by class; NULL: not yet */
    struct tr_patches *patches; /* patch.h; NULL: not yet */
    const struct tr_extensions *extensions; /* extensions.h; NULL: not yet */
    const struct tr_guards *guards; /* authz.h; NULL: not yet */
    const struct tr_servers *servers; /* gateway.h; NULL: not yet */
    uint64_t own_hash;     /* own.h; 0: not made yet */
    struct mz_outs own;    /* clusters of its own; empty: not made yet */
    const struct mz_set *made_of, *made; /* all clusters, of those of the group; NULL: not made yet */
};
static inline const void *tr_piece(const struct mz_view *v, enum mz_fragment f)
{
    return mz_fragment(v->t->fragments, f);
}
/* The DestinationRule that holds for what the proxy sends. */
static inline const struct mz_rule *tr_rule(const struct mz_view *v, const struct mz_service *s)
{
    return mz_model_rule_for(v->model, v->proxy->ns, v->workload ? v->workload->labels : v->proxy->labels, s);
}
/* How many of its subsets get clusters, each at every port of the service: all, but for limits that nobody reaches who means well. */
static inline size_t tr_subsets(const struct mz_service *s, const struct mz_rule *r)
{
    enum { MAX_CLUSTERS = 65536, MAX_OF_WILDCARD = 16 }; /* which holds for services of everybody */
    const size_t room = s->ports_n ? MAX_CLUSTERS / s->ports_n : MAX_CLUSTERS,
                 most = r && r->host.n && r->host.p[0] == '*' && room > MAX_OF_WILDCARD ? MAX_OF_WILDCARD : room;
    return !r ? 0 : r->subsets_n < most ? r->subsets_n : most;
}
/* ... for what comes to it: of services alone that it would see as a client, too. */
static inline const struct mz_rule *tr_inbound_rule(const struct mz_view *v, const struct mz_service *s)
{
    return mz_map_get(&v->scope->by_host, s->host) ? mz_model_rule(v->model, v->proxy->ns, s) : NULL;
}
/* Shared pieces in messages that are not changed any more. */
#define TR_PIECE(v, which) ((void *)(uintptr_t)tr_piece((v), MZ_FRAGMENT_##which))
/* ... and nobody looks into. */
#define TR_PACKED(v, which) ((void *)(uintptr_t)mz_fragment_packed((v)->t->fragments, MZ_FRAGMENT_##which))

/* "outbound|80|v1|web.demo.svc.cluster.local" and its parts. False: another form. */
struct tr_subset_key {
    struct mz_str direction, subset, host;
    uint16_t port;
    bool sni; /* the name is one of tr_sni_cluster_name() */
};
char *tr_cluster_name(struct mz_arena *a, const char *direction, uint16_t port, struct mz_str subset, struct mz_str host);
/* "outbound_.80_.v1_.web.demo.svc.cluster.local": what a gateway finds by the server name that a client of the mesh sends. */
char *tr_sni_cluster_name(struct mz_arena *a, uint16_t port, struct mz_str subset, struct mz_str host);
bool tr_cluster_name_parse(struct mz_str name, struct tr_subset_key *out);

struct mz_out *tr_share(struct mz_view *v, struct mz_out *o); /* takes it; the one that others have, where one is like it */
void tr_group_join(struct mz_view *v); /* group.c */
void tr_groups_clear(struct mz_translator *t, const struct tr_scope *of); /* NULL: all */
const struct mz_set *tr_group_clusters(struct mz_view *v); /* towards others; borrowed, as is the next */
const struct mz_set *tr_group_names(struct mz_view *v);    /* the name table */
struct mz_set *tr_set_of(struct mz_view *v, struct mz_outs *o); /* takes what is in it */

/* A file each. They add references. */
void tr_clusters_outbound(struct mz_view *v, struct mz_outs *out); /* the same for all of a group */
void tr_clusters_of(struct mz_view *v, const struct mz_service *s, struct mz_outs *out); /* ... those of one service */
void tr_clusters_own(struct mz_view *v, struct mz_outs *out);      /* of the workload itself, and what is always there */
/* Endpoints by locality; @policy NULL or what says which are nearer and what shares they have. */
/* Those that take mutual TLS of the mesh. */
const struct mz_endpoints *tr_with_mtls(const struct mz_view *v, struct mz_arena *a, const struct mz_endpoints *e, const struct mz_policy *p);
pb_ClusterLoadAssignment *tr_assignment(const struct mz_view *v, struct mz_arena *a, struct mz_str name, const struct mz_service *s, const struct mz_endpoints *e,
                                        const ist_Subset *subset, const struct mz_policy *policy);
/* Subsets and endpoints multiply: those of the last subsets of many are left out, which is told. NULL: it is none. */
bool tr_subset_has_room(struct mz_view *v, const struct mz_service *s, const struct mz_rule *r, const ist_Subset *subset,
                        const struct mz_endpoints *e);
struct mz_out *tr_endpoints(struct mz_view *v, struct mz_str name); /* NULL: no cluster of ours has this name */
bool tr_has_endpoints(const struct mz_view *v, const struct mz_service *s); /* clients ask for them by the names of its clusters */

void tr_listeners(struct mz_view *v, struct mz_outs *out);
uint64_t tr_listeners_hash(struct mz_view *v); /* of what those towards others are made of, besides settings and the proxy */
void tr_plans_free(struct plan *pl);           /* NULL is fine */
void tr_tables_free(struct mz_map *tables);    /* routes.c */
void tr_listeners_outbound(struct mz_view *v, struct mz_outs *out);
struct mz_out *tr_listener_of_proxy(struct mz_view *v); /* proxyHttpPort: where clients know it as a proxy; NULL: nowhere */
void tr_names(struct mz_view *v, struct mz_outs *out);
struct mz_out *tr_secret(struct mz_view *v, struct mz_str name); /* secrets.c; NULL: not there, or not for this proxy */
struct mz_out *tr_routes(struct mz_view *v, struct mz_str name); /* NULL: not a name of routes */
void tr_table_add(struct mz_view *v, struct mz_str name, struct mz_out *o); /* to those of its group; takes @o */
void tr_ahead_finish(struct mz_view *v, struct mz_str name); /* the table of this name, where it is under way */
void tr_ahead_free(struct tr_ahead *a); /* NULL is fine */
bool tr_can_dial(const struct mz_view *v, struct mz_str address); /* the proxy has an address of its family */
struct mz_str tr_wildcard(const struct mz_proxy *p); /* "0.0.0.0", or "::" where there is only IPv6 */
void tr_other_wildcard(const struct mz_view *v, struct mz_arena *a, pb_Listener *m, uint32_t port); /* beside it, of proxies with both families */
/* What a client may write to mean @host, itself among it. */
char *const *tr_names_of(struct mz_view *v, struct mz_arena *a, struct mz_str host, size_t *out_n);
pb_VirtualHost *tr_everything_else(struct mz_view *v, struct mz_arena *a); /* what no service is meant by */
/* Routes of 15006 to the port of @t; NULL: to any other port. */
pb_RouteConfiguration *tr_inbound_routes(struct mz_view *v, struct mz_arena *a, char *cluster, const struct mz_target *t);

pb_route_RetryPolicy *tr_inbound_retries(struct mz_view *v, struct mz_arena *a); /* of routes of 15006; NULL: none */
pb_route_RetryPolicy *tr_default_retries(struct mz_view *v, struct mz_arena *a); /* of routes that say nothing; route_action.c; NULL: none */

/* http_manager.c */
enum tr_class { TR_OUTBOUND, TR_INBOUND, TR_GATEWAY }; /* from the workload, to it; at a gateway */
struct tr_at; /* extensions.h */
pb_HttpConnectionManager *tr_http_manager(struct mz_view *v, struct mz_arena *a, const struct tr_at *at, char *stat_prefix);
void tr_http_before_router(struct mz_arena *a, pb_HttpConnectionManager *m, pb_HttpFilter *f); /* of a manager that was just made */
pb_HttpFilter *tr_named_http_filter(struct mz_arena *a, const char *name, const void *config);
/* All filters of a chain whose last one is @m. */
void tr_http_filters(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, const struct tr_at *at, const pb_HttpConnectionManager *m);
pb_Filter *tr_filter(struct mz_arena *a, const char *name, const void *config);
struct tr_weighted {
    const char *name;
    uint32_t weight;
};
struct tr_tcp {
    const char *cluster; /* of several: what statistics call them */
    const char *stat;    /* what they call it; NULL: as the cluster */
    const struct tr_weighted *clusters; /* by weight; none: all goes to the one */
    size_t clusters_n;
    const pb_Duration *idle, *longest; /* NULL: as the proxy does by itself */
    const ist_TrafficPolicy_TunnelSettings *tunnel; /* NULL: none */
    bool by_source; /* the endpoint follows from the client's address */
    bool exchange; /* ends mutual TLS of the mesh at a gateway: both sides tell who they are */
    bool unguarded; /* who comes is judged where TLS ends */
    bool silent; /* not logged, not guarded: it goes nowhere */
    bool bare;   /* no extensions of users: of no service */
    struct mz_str dynamic; /* the host whose name in TLS is resolved (dynamic.h); "": none is */
    uint16_t port; /* of the service; 0: none */
    enum mz_protocol protocol; /* MONGO has a filter of its own; others: none */
};
/* What a DestinationRule says of connections to a subset (""). @hash gets what was looked at. */
void tr_tcp_policy(struct tr_tcp *t, const struct mz_rule *r, struct mz_str subset, uint64_t *hash);
void tr_tcp_filters(struct mz_view *v, struct mz_arena *a, pb_FilterChain *c, enum tr_class class, const struct tr_tcp *to);

/* cluster_tls.c */
struct tr_cluster { /* one being built */
    struct mz_view *v;
    struct mz_arena *a;
    pb_Cluster *m;
    const struct mz_service *service;
    const struct mz_port *port;
    struct mz_str subset; /* "" */
    struct mz_policy policy;
    const struct mz_endpoints *endpoints; /* of the port */
    const ist_Subset *selected; /* NULL: all of them */
    pb_http_HttpProtocolOptions *http; /* NULL: none yet */
};
void tr_cluster_tls(struct tr_cluster *c);
bool tr_cluster_is_http2(const struct tr_cluster *c);

/* cluster_policy.c: what a DestinationRule says; each part may say nothing */
pb_http_HttpProtocolOptions *tr_cluster_http(struct tr_cluster *c); /* to be changed */
void tr_cluster_as_client(struct tr_cluster *c); /* it speaks what the client speaks */
void tr_cluster_pool(struct tr_cluster *c);     /* after the protocol is known */
void tr_cluster_outlier(struct tr_cluster *c);
void tr_cluster_balancer(struct tr_cluster *c); /* may turn it into one that dials where the client wanted */
#endif
