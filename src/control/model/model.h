#ifndef MZ_CONTROL_MODEL_MODEL_H
#define MZ_CONTROL_MODEL_MODEL_H
/*
 * The mesh as it is at one moment (C1): services, their ports and endpoints, workloads, settings. No platform's words: adapters
 * (one file per platform, kubernetes.c) fill it from the store.
 *
 * Immutable once built and counted; everything lies in its arena and goes with it. Same documents, same model: every list has an
 * order that is written at it. Hashes are of content, the same in every process: answers are cached by them.
 */
#include "base/arena.h"
#include "base/map.h"
#include "base/vec.h"
#include "control/model/index.h"
#include "control/sources/store.h"

enum mz_protocol { /* as ports announce it (protocol.c) */
    MZ_PROTOCOL_UNKNOWN, /* nothing known: found out by looking at the first bytes */
    MZ_PROTOCOL_TCP,
    MZ_PROTOCOL_UDP,
    MZ_PROTOCOL_HTTP,
    MZ_PROTOCOL_HTTP2,
    MZ_PROTOCOL_GRPC,
    MZ_PROTOCOL_GRPC_WEB,
    MZ_PROTOCOL_HTTPS,
    MZ_PROTOCOL_TLS,
    MZ_PROTOCOL_MONGO,
    MZ_PROTOCOL_REDIS,
    MZ_PROTOCOL_MYSQL,
};
enum mz_protocol mz_protocol_parse(struct mz_str name); /* "HTTP2", "grpc-web"; UNKNOWN when it is none */
/* Of a port of a Kubernetes service: appProtocol, else the name up to its first '-', else what the number is known for. */
enum mz_protocol mz_protocol_of_port(uint16_t port, struct mz_str name, struct mz_str transport, struct mz_str app);
bool mz_protocol_is_http(enum mz_protocol p); /* HTTP, HTTP2, gRPC */
bool mz_protocol_is_http2(enum mz_protocol p);

struct mz_label {
    struct mz_str key, value;
};
struct mz_labels { /* by key */
    const struct mz_label *v;
    size_t n;
};
struct mz_labels mz_labels_make(struct mz_arena *a, const struct mz_label *v, size_t n); /* sorts a copy; strings are shared */
struct mz_str mz_label_get(struct mz_labels l, const char *key); /* "" when absent */
struct mz_str mz_labels_first(struct mz_labels l, const char *const *keys, size_t n, struct mz_str otherwise); /* of @keys the first that is there */
bool mz_labels_match(struct mz_labels selector, struct mz_labels of); /* every one of @selector; an empty one: never */

struct mz_locality {
    struct mz_str region, zone, subzone;
};
struct mz_workload { /* one instance: a pod, a machine, an endpoint of a ServiceEntry */
    struct mz_str name, ns;
    struct mz_str address; /* the first; a name or "unix://..." where it is no pod */
    struct mz_str account; /* "spiffe://cluster.local/ns/demo/sa/web"; "" unknown */
    struct mz_str owner;   /* the workload's name in telemetry */
    struct mz_str hostname, subdomain; /* of a pod that has a name of its own in DNS; "" */
    struct mz_str node;    /* of Kubernetes, "" unknown */
    struct mz_labels labels;
    struct mz_locality locality;
    bool mtls; /* a proxy of the mesh stands before it */
    bool gone; /* succeeded or failed: keeps its address no longer */
    bool pod;
    uint32_t weight; /* 0: not said, counts as 1 */
    struct mz_labels ports; /* names to numbers: of a pod's containers, of a WorkloadEntry */
    uint64_t hash;
};

enum mz_health { MZ_HEALTHY, MZ_UNHEALTHY, MZ_TERMINATING, MZ_UNCHECKED /* nobody looks: counts as healthy */, MZ_DRAINING /* ends, but serves */ };
struct mz_endpoint {
    struct mz_str address; /* a path where port is 0 */
    uint16_t port;
    enum mz_health health;
    const struct mz_workload *workload; /* NULL: nothing is known of it */
};
struct mz_endpoints { /* by address; of ServiceEntries in their order */
    const struct mz_endpoint *v;
    size_t n;
    uint64_t hash;
    bool node_local; /* clients use those on their own node only */
    uint32_t gathered; /* before those that were there twice went */
};

enum mz_resolution { /* numbered as in Istio's debug pages */
    MZ_RESOLVE_EDS,         /* endpoints are known here */
    MZ_RESOLVE_DNS,         /* proxies look endpoints up by name; every address is one */
    MZ_RESOLVE_PASSTHROUGH, /* headless: clients choose */
    MZ_RESOLVE_DNS_ONE,     /* as DNS, but the first address at each new connection */
    MZ_RESOLVE_ALIAS,       /* another name stands for it */
    MZ_RESOLVE_DYNAMIC,     /* a wildcard: proxies look up the name that a client asks for */
};
struct mz_port {
    struct mz_str name;
    uint16_t port, target; /* target 0: by name */
    struct mz_str target_name;
    enum mz_protocol protocol;
    uint32_t at; /* its endpoints in the model's table */
};
enum mz_preference { /* where a service wants its clients to go first */
    MZ_PREFER_NOTHING,
    MZ_PREFER_SAME_ZONE, /* then the region, then the network */
    MZ_PREFER_SAME_NODE, /* then the subzone, the zone... */
};
/* Labels of services whose clients stay with an endpoint: by a cookie "name:path", by a header. */
#define MZ_SESSION_LABEL        "istio.io/persistent-session"
#define MZ_SESSION_HEADER_LABEL "istio.io/persistent-session-header"
enum { MZ_FAMILY_IPV4 = 1, MZ_FAMILY_IPV6 = 2 };
struct mz_service {
    struct mz_str host, name, ns;
    struct mz_str created;
    const struct mz_port *ports; /* in the document's order */
    size_t ports_n;
    const uint32_t *by_number; /* of many ports their places, in order of numbers, those of UDP last, then as written; NULL: there are few */
    const struct mz_str *addresses; /* virtual ones, of a ServiceEntry also ranges "10.0.0.0/8"; none: headless */
    size_t addresses_n;
    enum mz_resolution resolution;
    struct mz_str automatic; /* an address for proxies that answer DNS themselves, where there is no other; "" */
    bool external; /* not of the mesh: no mutual TLS by itself */
    bool entry;    /* of a ServiceEntry */
    bool given;    /* its addresses are ours to give (service_ips.h) */
    bool unready;  /* names in DNS count endpoints that are not ready */
    bool node_local; /* only endpoints on the client's own node */
    unsigned families; /* MZ_FAMILY_*; 0: not said */
    uint64_t distribution; /* enum mz_preference */
    const struct mz_str *aliases; /* hosts of ExternalName services that mean this one */
    size_t aliases_n;
    struct mz_str alias_of; /* of ALIAS: the host that is meant */
    struct mz_labels labels, selector;
    const struct mz_str *export_to; /* none: everywhere. ".": its namespace; "~": nowhere */
    size_t export_to_n;
    const struct mz_str *accounts; /* of its endpoints; sorted, each once */
    size_t accounts_n;
    uint64_t hash; /* of all but the endpoints; with the accounts */
};

struct mz_attached; /* attached.h */
struct mz_attached_list { /* of one kind; oldest first, then by name and namespace */
    const struct mz_attached *v;
    size_t n;
    uint64_t hash;
};

struct mz_mesh {
    const ist_MeshConfig *config; /* everything that was said; never NULL */
    struct mz_str domain, trust_domain, root_ns;
    struct mz_str cluster_id; /* of the platform that is asked: "Kubernetes" */
    uint64_t connect_timeout_us, detection_timeout_us, dns_refresh_us;
    const struct mz_str *service_export_to; /* of services that say nothing; none: everywhere */
    size_t service_export_to_n;
    const struct mz_str *rule_export_to; /* of DestinationRules */
    size_t rule_export_to_n;
    const struct mz_str *virtual_export_to; /* of VirtualServices */
    size_t virtual_export_to_n;
    bool registry_only; /* nothing leaves that no service stands for */
    uint64_t hash;
};
/* The @i-th name of the mesh in identities: its trust domain, then the aliases. False: no more. */
bool mz_mesh_trust_domain(const struct mz_mesh *m, size_t i, struct mz_str *out);
struct mz_patched { /* a service as it was in the model before, as it is; NULL: not there. The same: its endpoints are others */
    const struct mz_service *was, *is;
};
struct mz_patched_rule { /* DestinationRules of one host in one namespace as they were, as they are; NULL: none */
    struct mz_str host;
    const struct mz_rule *was, *is; /* the first of each */
};
struct mz_patched_virtual { /* a VirtualService as it was, as it is; NULL: not there */
    const struct mz_virtual *was, *is;
};
struct mz_table { /* pointers that several models share */
    unsigned refs;
    const void *v[];
};
struct mz_layer; /* documents' contents: models that stand on each other hold those of all below */
/*
 * Where few documents changed, a model stands on the one before: it has what is different, and shares the rest. Everything that is
 * the same is the same pointer, and what is no more stays readable as long as a model stands on the one that had it.
 */
struct mz_model {
    unsigned refs;
    uint64_t serial; /* of this process: no other model has it */
    uint64_t on;     /* the serial of the model that it stands on; 0: built of all documents */
    struct mz_layer *layer;
    struct mz_arena *arena; /* the layer's */
    const struct mz_patched *patched; /* of the model that it stands on: each service that is another */
    size_t patched_n;
    const struct mz_patched_rule *rules_patched; /* ... each rule; of hosts that are no wildcards */
    size_t rules_patched_n;
    const struct mz_patched_virtual *virtuals_patched; /* ... each VirtualService */
    size_t virtuals_patched_n;
    const struct mz_workload *const *workloads; /* ... each workload, as it was and as it is */
    size_t workloads_n;
    struct mz_table *endpoints; /* to struct mz_endpoints, by mz_port.at */
    size_t endpoints_n;
    unsigned dialled; /* rules that let clients dial for themselves: clusters depend on endpoints */
    bool machines;  /* there are WorkloadEntries */
    bool gives;     /* some service has an address of ours */
    bool selecting; /* some ServiceEntry selects its workloads */
    bool aliases;   /* some service is another name of one */
    bool derived;   /* there are documents of which rules, routes and gateways are made: Gateway API, Ingress */
    bool loose;     /* some endpoint says no pod: which it is follows from its address */
    struct mz_index *by_ns; /* to struct mz_services */
    struct mz_mesh mesh;
    struct mz_table *services_table;
    const struct mz_service *const *services; /* oldest first, then by name and namespace */
    size_t services_n;
    struct mz_index *by_host;      /* to const struct mz_service */
    struct mz_index *by_name;      /* "ns/host" to const struct mz_service: hosts may stand in several namespaces */
    struct mz_index *twins;        /* hosts that several services have */
    struct mz_index *by_workload;  /* "ns/name" to const struct mz_workload */
    struct mz_index *awaited;      /* "ns/pod" that endpoints name and nobody has told of, to struct model_waiting */
    struct mz_index *in_namespace; /* namespace to size_t: endpoints of its services of Kubernetes */
    unsigned rules_by_labels;      /* rules that are for clients with certain labels */
    unsigned rules_wild;           /* ... for hosts beneath a wildcard */
    struct mz_index *rules;        /* "ns/host" to struct mz_rule (rule.h) */
    struct mz_index *rule_docs;    /* "ns/name" to struct model_rule */
    uint64_t rules_hash;
    struct mz_index *by_virtual; /* "ns/name" to struct mz_virtual, those that are only delegated to, too */
    struct mz_table *virtuals_table;
    const struct mz_virtual *const *virtuals; /* virtual_service.h; oldest first, then by name and namespace */
    size_t virtuals_n;
    uint64_t virtuals_hash;
    const struct mz_gateway *const *gateways; /* gateway.h; oldest first, then by name and namespace */
    size_t gateways_n;
    uint64_t gateways_hash;
    const struct mz_gateway_api *gateway_api; /* gateway_api.h: what became of its documents; of a model on another: that one's */
    const struct mz_peer_auth *peer_auth; /* peer_auth.h; by namespace, oldest first */
    size_t peer_auth_n;
    uint64_t mtls_hash; /* of them all */
    struct mz_attached_list attached[MZ_KIND__COUNT]; /* kinds of attached.h; the others have none */
    uint64_t attached_hash; /* of them all */
    struct mz_index *by_address; /* to const struct mz_workload; of two the first by namespace and name */
    struct mz_index *crowded;    /* addresses that several workloads have */
    const struct mz_map *secrets; /* Secrets and ConfigMaps with certificates: their documents by key, "Secret/ns/name"; a reference each */
    const struct mz_map *sidecars; /* namespace to struct mz_sidecars (sidecar.h) */
    uint64_t sidecars_hash;
};
struct mz_services { /* of one namespace, in the model's order */
    const struct mz_service **v;
    size_t n;
};
struct mz_service_ips; /* service_ips.h */
struct mz_model_opts {
    const char *domain; /* "cluster.local" */
    struct mz_service_ips *addresses; /* for Services without any; NULL: they stay so. Borrowed, the same from model to model */
    bool installed; /* without a MeshConfig: metrics for Prometheus, as the one of an installation has them */
};
/* @before may be NULL; where the store says that few documents changed since it was built, the new one stands on it. The answers are
 * the same either way. Returns refs 1. */
struct mz_model *mz_model_build(struct mz_store *s, const struct mz_model_opts *o, const struct mz_model *before);
struct mz_model *mz_model_ref(const struct mz_model *m);
void mz_model_unref(const struct mz_model *m); /* NULL is fine */
bool mz_model_stands_on(const struct mz_model *m, const struct mz_model *before); /* NULL: false */
bool mz_model_is_same_but_endpoints(const struct mz_model *m, const struct mz_model *before); /* it stands on it, and ... */
int mz_service_order(const struct mz_service *a, const struct mz_service *b); /* as in mz_model.services */
const struct mz_service *mz_model_service(const struct mz_model *m, struct mz_str host); /* the oldest, Kubernetes' first; NULL */
const struct mz_service *mz_model_service_in(const struct mz_model *m, struct mz_str ns, struct mz_str host); /* NULL */
bool mz_service_is_public(const struct mz_service *s); /* everybody sees it */
bool mz_service_visible(const struct mz_service *s, struct mz_str ns); /* to workloads of @ns, by exportTo */
const struct mz_endpoints *mz_model_endpoints(const struct mz_model *m, const struct mz_port *p);
const struct mz_port *mz_service_port(const struct mz_service *s, uint16_t port); /* NULL */

/* A service and the port of one workload that answers for it. */
struct mz_target {
    const struct mz_service *service;
    const struct mz_port *port;
    uint16_t number; /* on the workload */
    bool first;      /* of its number */
    uint32_t next;   /* of its number, by place; 0: none */
};
/* Tells which are the first of their number, and which comes next. */
void mz_targets_link(struct mz_target *v, size_t n);
struct mz_targets { /* services oldest first, then by host; ports as the document has them; of one number and protocol the first */
    const struct mz_target *v;
    size_t n;
};
/* What a workload with @labels answers for; @w, where it is known (else NULL), tells its ports. */
struct mz_targets mz_model_targets(const struct mz_model *m, struct mz_str ns, struct mz_labels labels,
                                   const struct mz_workload *w, struct mz_arena *a);
#endif
