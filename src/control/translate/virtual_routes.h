#ifndef MZ_CONTROL_TRANSLATE_VIRTUAL_ROUTES_H
#define MZ_CONTROL_TRANSLATE_VIRTUAL_ROUTES_H
/* VirtualServices to routes: what holds for one proxy at one port, bound to one gateway or to the mesh (C4). */
#include "control/model/virtual_service.h"
#include "control/translate/translate_priv.h"

struct tr_gateways { /* whose routes are made: "mesh", or the Gateways behind one port */
    const struct mz_str *v;
    size_t n;
};
struct tr_routing {
    struct mz_view *v;
    struct mz_arena *a;
    const struct mz_virtual *vs;
    struct tr_gateways gateways;
    uint16_t port; /* where clients knock */
    bool tls;      /* they have to use TLS there */
    bool whole;    /* targets are services with all their ports, not as far as they have this one */
    size_t most;   /* no more routes are wanted; 0: all */
};
struct tr_route_list {
    pb_Route **routes;
    size_t n_routes;
};
/* In order; what can never be reached behind a route for everything is left out. */
struct tr_route_list tr_virtual_routes(const struct tr_routing *r);
/* Of all that these routes are made of, except the documents of the mesh and the proxy's shape. */
uint64_t tr_virtual_hash(const struct tr_routing *r);

pb_RouteConfiguration *tr_route_configuration(struct mz_arena *a, struct mz_str name); /* without virtual hosts (routes.c) */

/* ---- parts ---- */
/* route_match.c */
bool tr_match_applies(const struct tr_routing *r, const ist_HTTPMatchRequest *m); /* by port, gateway and client; NULL: always */
pb_RouteMatch *tr_route_match(const struct tr_routing *r, const ist_HTTPMatchRequest *m);
bool tr_matches_everything(const pb_RouteMatch *m);
bool tr_labels_within(const struct mz_view *v, const void *const *entries, size_t n); /* a map<string, string>: the proxy has them all */
bool tr_gateway_named(const struct tr_routing *r, char *const *names, size_t n);
pb_StringMatcher *tr_string_matcher(struct mz_arena *a, const ist_StringMatch *m); /* NULL: matches all */
/* route_action.c */
void tr_route_action(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out);
/* The cluster that is meant. */
char *tr_destination(const struct tr_routing *r, const ist_Destination *d);
/* By what requests are spread over the endpoints of a destination; none: nothing said so. */
void tr_add_hash(struct mz_arena *a, pb_RouteAction *m, const ist_LoadBalancerSettings *lb); /* of mz_rule_hash() */
/* What a client asks for in grpc-timeout is no longer than the route's own. */
void tr_limit_streams(const struct mz_view *v, struct mz_arena *a, pb_RouteAction *m);
/* route_filters.c: faults and CORS */
void tr_route_filters(const struct tr_routing *r, const ist_HTTPRoute *in, pb_Route *out);
/* Clients of @s stay with an endpoint: what says so at a route or virtual host. NULL: they do not. */
pb_StatefulSessionPerRoute *tr_session(const struct mz_view *v, struct mz_arena *a, const struct mz_service *s);
void tr_put_session(const struct mz_view *v, struct mz_arena *a, pb_VirtualHost *h, const struct mz_service *s);
pb_FractionalPercent *tr_percent(struct mz_arena *a, double percent);
pb_RuntimeFractionalPercent *tr_every(struct mz_arena *a); /* 100 % */
#endif
