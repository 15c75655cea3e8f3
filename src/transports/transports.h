#ifndef MZ_TRANSPORTS_TRANSPORTS_H
#define MZ_TRANSPORTS_TRANSPORTS_H
/*
 * Transport sockets that stand around another one (U8). Main thread; each returns one reference and takes that of @take_inner
 * in any case. NULL and err: the path within the message.
 */
#include "base/err.h"
#include "net/transport.h"
#include "stats/stats.h"

struct Envoy__Extensions__TransportSockets__InternalUpstream__V3__InternalUpstreamTransport;
struct Envoy__Extensions__TransportSockets__ProxyProtocol__V3__ProxyProtocolUpstreamTransport;
struct Envoy__Extensions__TransportSockets__TcpStats__V3__Config;

/* The PROXY protocol's header goes out before the inner transport's first byte. @prefix: "cluster.<name>." */
struct mz_transport_factory *mz_transport_proxy_create(
    const struct Envoy__Extensions__TransportSockets__ProxyProtocol__V3__ProxyProtocolUpstreamTransport *m,
    const struct mz_transport_factory *take_inner, struct mz_stats *st, struct mz_str prefix, struct mz_err *err);
/* What the listener at an internal address gets along with the connection: metadata of host and cluster, shared filter state. */
struct mz_transport_factory *mz_transport_internal_create(
    const struct Envoy__Extensions__TransportSockets__InternalUpstream__V3__InternalUpstreamTransport *m,
    const struct mz_transport_factory *take_inner, struct mz_stats *st, struct mz_str prefix, struct mz_err *err);
/* Plain until mz_conn_start_secure(). */
struct mz_transport_factory *mz_transport_starttls_create(const struct mz_transport_factory *take_tls);
/* Counts what the kernel knows of each connection (TCP_INFO). @prefix: "listener.<address>.", "cluster.<name>." */
struct mz_transport_factory *mz_transport_tcp_stats_create(const struct Envoy__Extensions__TransportSockets__TcpStats__V3__Config *m,
                                                           const struct mz_transport_factory *take_inner, struct mz_stats *st,
                                                           struct mz_str prefix, struct mz_err *err);

/* ---- proxy_emit.c: the header itself ---- */
struct mz_proxy_emit {
    unsigned version;                    /* 1, 2 */
    const struct mz_addr *source, *destination; /* NULL: LOCAL, of version 2 only */
    struct mz_str tlvs;                  /* of version 2: type, two bytes of length, value, and so on */
};
#define MZ_PROXY_V2_MAX (16 + 65535)
/* Bytes written to @out_head, at most MZ_PROXY_V2_MAX; TLVs that do not fit are all left out, *out_cut tells. */
size_t mz_proxy_emit(const struct mz_proxy_emit *e, char *out_head, bool *out_cut);
#endif
