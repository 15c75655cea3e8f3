#ifndef MZ_AGENT_BOOTSTRAP_H
#define MZ_AGENT_BOOTSTRAP_H
/*
 * What a proxy is started with (A1): its bootstrap and its command line, from the agent's own command line, its environment and
 * the pod's files. Pure but for reading those files; everything made lives in the caller's arena. The shape is that of Istio's
 * agent (tests/conformance/istio/bootstrap.json.gz): stock Envoys start with it.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"
#include "proto/tree.h"

#define MZ_AGENT_ADDRESSES 16 /* of a pod */

struct mz_agent_settings {
    const char *role;            /* "sidecar", "router", "waypoint" */
    const char *domain;          /* "": <namespace>.svc.cluster.local */
    const char *service_cluster; /* "istio-proxy" */
    const char *mesh_config;     /* file; need not exist */
    const char *log_level;       /* "warning", or with components: "info,misc:error" */
    const char *component_log_level, *outlier_log_path;
    uint32_t concurrency; /* 0: not given */
    bool log_json;
    char *const *env;     /* NAME=value, NULL at the end */
    const char *pod_info; /* folder of the pod's labels and annotations; "./etc/istio/pod" */
    const char *addresses[MZ_AGENT_ADDRESSES]; /* of this machine, without loopback */
    size_t addresses_n;
    /* Flags of older agents, over the ProxyConfig's fields; NULL: not given. */
    const char *binary, *config_path, *discovery, *drain, *zipkin, *auth_policy, *admin_port;
};

struct mz_bootstrap {
    struct mz_str json;                 /* of the proxy */
    const struct mz_node *proxy_config; /* the effective ProxyConfig, names in lowerCamel */
    const struct mz_node *metadata;     /* of the node */
    const char *id, *namespace_, *account;
    const char *config_path, *file;     /* folder, and the bootstrap's file in it */
    const char *binary;
    const char *argv[40];               /* of the proxy, NULL at the end */
    const char *discovery;              /* "istiod.istio-system.svc:15012" */
    bool plain;                         /* the control plane is asked without TLS */
    uint16_t admin_port, status_port, envoy_status_port, prometheus_port;
    uint64_t drain_ms, termination_drain_ms;
    const char *localhost; /* "127.0.0.1" or "::1" */
    const char *not_followed; /* settings that an Envoy follows and our proxy does not; NULL: none */
};
bool mz_bootstrap_make(const struct mz_agent_settings *s, struct mz_arena *a, struct mz_bootstrap *out, struct mz_err *err);
const char *mz_agent_env(const struct mz_agent_settings *s, const char *name); /* NULL: not set */
#endif
