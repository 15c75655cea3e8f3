#ifndef MZ_TLS_TLS_H
#define MZ_TLS_TLS_H
/*
 * TLS transport sockets (T1, T2). This header is all that the rest of the program knows of it: OpenSSL stays in this folder,
 * so that another library can take its place.
 */
#include "base/err.h"
#include "net/transport.h"
#include "stats/stats.h"

struct mz_init;
struct mz_xds;
struct mz_secrets; /* secrets.h */
struct Envoy__Extensions__TransportSockets__Tls__V3__DownstreamTlsContext;
struct Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext;

struct mz_tls_env {
    struct mz_stats *stats;
    struct mz_str prefix; /* of the statistics: "listener.0.0.0.0_443.", "cluster.a." */
    struct mz_secrets *secrets; /* NULL: contexts that name secrets are refused */
    struct mz_init *init;       /* waits for them; NULL: nobody does */
    /* Of the secrets that certificates and authority came from, for statistics; fewer or "": they have none. */
    const struct mz_str *cert_names;
    size_t n_cert_names;
    struct mz_str ca_name;
};
/* Main thread. The factory (one reference) keeps nothing of @m. NULL and @err: the path within the context's message. */
struct mz_transport_factory *
mz_tls_downstream_create(const struct Envoy__Extensions__TransportSockets__Tls__V3__DownstreamTlsContext *m,
                         const struct mz_tls_env *env, struct mz_err *err);
struct mz_transport_factory *
mz_tls_upstream_create(const struct Envoy__Extensions__TransportSockets__Tls__V3__UpstreamTlsContext *m,
                       const struct mz_tls_env *env, struct mz_err *err);

/* Where a context names secrets (SDS), the factory is there at once and refuses connections until they came; then it follows
 * each change of them. */
/* ALPN protocols that a factory offers or takes; NULL factory or none: 0. */
size_t mz_tls_alpn(const struct mz_transport_factory *f, const struct mz_str **out_protocols);
#endif
