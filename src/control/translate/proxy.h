#ifndef MZ_CONTROL_TRANSLATE_PROXY_H
#define MZ_CONTROL_TRANSLATE_PROXY_H
/* Who asks for configuration, as its Node message tells it. Immutable; one connection owns it. */
#include "control/model/model.h"

enum mz_proxy_type { MZ_PROXY_SIDECAR, MZ_PROXY_ROUTER };
struct mz_proxy {
    struct mz_arena *arena;
    enum mz_proxy_type type;
    struct mz_str id;            /* "web-0.demo" */
    struct mz_str name, ns;      /* of the workload */
    struct mz_str domain;        /* "demo.svc.cluster.local" */
    const struct mz_str *ips;    /* at least one */
    size_t ips_n;
    bool ipv4, ipv6;             /* it has such an address */
    struct mz_labels labels;
    struct mz_locality locality;
    struct mz_str cluster_id, mesh_id;
    struct mz_str node; /* of Kubernetes; "" not told */
    struct mz_str version;       /* "1.32.0", as it says itself */
    struct mz_str canonical, revision; /* what telemetry calls the workload */
    struct mz_str service_cluster; /* "web.demo": what spans are made in the name of */
    struct mz_str otel_name;       /* the same by OpenTelemetry's conventions for Kubernetes */
    struct mz_labels metadata;     /* what is text of what the node says of itself */
    struct mz_str verified_ns, verified_account; /* by certificate or token, not by what the node says; "": nobody knows */
    unsigned release;              /* of its agent: 1.32 is 132; 0 unknown */
    const ist_mesh_ProxyConfig *config; /* NULL: the mesh's */
    uint16_t reserved[2];        /* ports that the proxy itself listens on: health, metrics; 0: none */
    bool stock;                  /* it tells what it has, and Istio's extensions are not among it: they would be refused */
    bool lacks_wasm, lacks_lua, lacks_mysql; /* it tells what it has, and this filter is not among it */
    bool proxyless;              /* no proxy: gRPC itself, which asks for what it dials by name */
    bool auto_addresses;         /* it answers the application's DNS: services without an address have one of their own */
    struct mz_str dns;           /* where its agent answers questions of DNS; "": it does not */
    uint16_t dns_port;
    bool tproxy;                 /* connections are caught by TPROXY */
    bool uncaught;               /* nothing is caught: it listens itself wherever somebody dials */
    bool unprivileged;           /* ports below 1024 are not for it */
    bool http10;                 /* HTTP/1.0 is answered */
    bool balance_in, balance_out; /* connections are spread over workers exactly */
    uint16_t http_proxy_port;    /* where it stands as a proxy that clients know of; 0: as the mesh says */
    const pb_Duration *idle;     /* of connections where no rule says any; NULL: none */
    uint64_t shape;              /* of what clusters and routes look at */
    uint64_t identity;           /* and listeners besides */
};
/**
 * Reads @node: id "type~address~name.namespace~domain", metadata as pilot-agent writes it. What a client sends may be anything.
 * Errors: an id of another form, a type that is not served.
 */
struct mz_proxy *mz_proxy_create(const pb_Node *node, struct mz_err *err);
void mz_proxy_verify(struct mz_proxy *p, struct mz_str ns, struct mz_str account); /* copies */
void mz_proxy_destroy(struct mz_proxy *p); /* NULL is fine */
#endif
