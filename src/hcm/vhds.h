#ifndef MZ_HCM_VHDS_H
#define MZ_HCM_VHDS_H
/*
 * Virtual hosts by subscription (VHDS, X1), beside those that their route configuration has: they come under names that begin
 * with its own ("routes/host"), ahead of requests or because one asked. Main thread.
 *
 * A host that a client names is asked for once, whatever number of requests wait; one that nobody knows, or about which nothing
 * is said in VHDS_ANSWER_MS, is forgotten. At most VHDS_QUESTIONS are unanswered at once.
 */
#include "base/buf.h"
#include "hcm/rds.h"

#define VHDS_ANSWER_MS 15000
#define VHDS_QUESTIONS 1024

struct Envoy__Config__Route__V3__Vhds;
struct vhds_owner {
    /* The hosts are to be others now: vhds_append() gives them. False and @err: it cannot be, they stay as they are. */
    bool (*changed)(void *arg, struct mz_err *err);
    void (*first)(void *arg); /* once: the first of them came, or did not in time */
    void (*answered)(void *arg, struct mz_str host, bool known); /* of vhds_ask() */
    void *arg;
};
struct vhds;
/* @prefix: "http.in.vhds.r."; path of an error within the message. */
struct vhds *vhds_create(struct mz_xds *x, const struct Envoy__Config__Route__V3__Vhds *m, struct mz_str name, struct mz_str prefix,
                         const struct vhds_owner *owner, struct mz_err *err);
void vhds_start(struct vhds *v);
void vhds_destroy(struct vhds *v); /* not from inside its calls; whoever waits is told that its host is not known. NULL is fine */
void vhds_append(const struct vhds *v, struct mz_buf *out); /* as field virtual_hosts of a packed RouteConfiguration */
void vhds_ask(struct vhds *v, struct mz_str host); /* in lower case; answered() may come from inside */
#endif
