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
    bool once;                  /* a connection for each request (as kubelets probe) */
    bool unchecked;             /* with tls: whatever certificate the server has (as kubelets probe) */
    const char *source;         /* address to dial from; NULL: the kernel chooses */
    struct mz_str root;         /* PEM; with tls; "" trusts the system's authorities */
    struct mz_str chain, key;   /* PEM of ours; "" none. The key is not kept where dumps could show it */
};
/* Who asks, for @h: the workload's token (a file, read now; "" or absent: none) and the cluster's name ("": none). */
bool mz_link_who(const char *token_path, const char *cluster_id, struct mz_headers *h, struct mz_arena *a, struct mz_err *err);

/* ---- one GET of a small document from an http1 target ---- */
struct mz_link_get;
struct mz_link_got {
    unsigned status;   /* 0: no answer */
    struct mz_str body, type; /* whole; "" without an answer */
    const char *why;   /* where there is none */
};
typedef void mz_link_done(void *arg, const struct mz_link_got *got);

struct mz_link *mz_link_create(struct mz_loop *l);
void mz_link_stop(struct mz_link *k);    /* streams on it have ended; before its loop is destroyed */
void mz_link_destroy(struct mz_link *k); /* afterwards; NULL is fine */
/* Sets or changes a service; connections that stand keep what they began with. */
bool mz_link_set(struct mz_link *k, const char *name, const struct mz_link_target *t, struct mz_err *err);
struct mz_upstream *mz_link_upstream(struct mz_link *k);
const struct mz_grpc_service *mz_link_service(struct mz_link *k, const char *name); /* NULL: never set, or http1 */
/* @headers: lines "name: value\n" more; "" none. @done once, later; a body above @max_bytes counts as no answer. */
struct mz_link_get *mz_link_get(struct mz_link *k, const char *name, struct mz_str path, struct mz_str headers,
                                uint64_t timeout_ms, size_t max_bytes, mz_link_done *done, void *arg);
void mz_link_get_cancel(struct mz_link_get *g); /* silent; NULL is fine */
#endif
