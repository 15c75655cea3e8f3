#ifndef MZ_CONTROL_TRANSLATE_SCOPE_H
#define MZ_CONTROL_TRANSLATE_SCOPE_H
#include "control/model/sidecar.h"
#include "control/translate/translate_priv.h"

/* What workloads of @ns see for which @sidecar holds (NULL: everything that is exported to them). Made once for each model. */
const struct tr_scope *tr_scope_of(struct mz_translator *t, struct mz_str ns, const struct mz_sidecar *sidecar);
/* Services that telemetry, authorization and keys of tokens are asked of count when they come or go. */
/* An egress listener that clients know as a proxy of HTTP: for whatever port they name. NULL is fine. */
bool tr_egress_is_proxy(const ist_IstioEgressListener *l);
bool tr_asks_services(const struct mz_model *m);
void tr_scope_free(struct tr_scope *s); /* what is not in the translator's arena */
/* @next stands on the translator's model, and what was made for that may stay, scopes that are stale then left out. */
bool tr_may_stay(struct mz_translator *t, const struct mz_model *next);
void tr_scopes_follow(struct mz_translator *t, const struct mz_model *next); /* those that stay get its services, the others go */
#define TR_UNIX "unix://" /* in front of the path of a socket that a Sidecar opens */
/* The egress listener at a UNIX socket ("unix:///path"); NULL: none. */
const struct tr_egress *tr_egress_at(const struct tr_scope *s, struct mz_str bind);
/* The egress listener that routes of @port belong to: the one for this port, else the last, which is for all others. NULL: none. */
#define TR_HTTP_PROXY "http_proxy" /* routes of the port that clients know as a proxy */
const struct tr_egress *tr_egress_for(const struct tr_scope *s, uint16_t port);
#endif
