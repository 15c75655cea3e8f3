#ifndef MZ_AGENT_LINK_H
#define MZ_AGENT_LINK_H
/*
 * The way to others: services by name ("ca", "xds", "admin"), each a cluster of its own on the proxy's upstream machinery, so
 * that DNS, TLS, HTTP/2 and their limits are the same as everywhere. Main thread.
 */
#include "grpc/client.h"

struct mz_loop;
struct mz_link;

struct mz_link_target {
    const char *address;        /* "istiod.istio-system.svc:15012" */
    bool http1;                 /* a server of plain HTTP/1 (mz_async_start()), not of gRPC */
    bool tls;
    const char *server_name;    /* of SNI, and a name that the certificate must have */
    struct mz_str root;         /* PEM; with tls; "" trusts the system's authorities */
    struct mz_str chain, key;   /* PEM of ours; "" none. The key is not kept where dumps could show it */
};
struct mz_link *mz_link_create(struct mz_loop *l);
void mz_link_stop(struct mz_link *k);    /* streams on it have ended; before its loop is destroyed */
void mz_link_destroy(struct mz_link *k); /* afterwards; NULL is fine */
/* Sets or changes a service; connections that stand keep what they began with. */
bool mz_link_set(struct mz_link *k, const char *name, const struct mz_link_target *t, struct mz_err *err);
struct mz_upstream *mz_link_upstream(struct mz_link *k);
const struct mz_grpc_service *mz_link_service(struct mz_link *k, const char *name); /* NULL: never set, or http1 */
#endif
