#ifndef MZ_CONTROL_MODEL_PRIV_H
#define MZ_CONTROL_MODEL_PRIV_H
#include "control/model/model.h"
#include "net/addr.h"

struct model_gathered { /* endpoints of one service while they are looked for */
    MZ_VEC(struct mz_endpoint) *ports;
    size_t n;    /* in all */
    size_t *all; /* of its namespace so far: of services of Kubernetes, or of what ServiceEntries select; NULL: they are not counted */
    bool full;   /* some are left out */
};
enum { MODEL_MAX_ENDPOINTS = 262144, MODEL_MAX_IN_NAMESPACE = 1 << 19 }; /* of a service with all its ports; of all of them */
struct mz_gateway;
struct mz_virtual;
struct model_rule { /* a DestinationRule, from wherever */
    struct mz_str ns, name, created;
    const ist_DestinationRule *m;
    uint64_t version;
    struct mz_str host, key; /* in full; "ns/host" */
    bool made; /* of policies of the Gateway API */
};
struct model_waiting { /* a service of Kubernetes one of whose endpoints waits for a pod */
    struct mz_str key; /* "ns/name" */
    const struct model_waiting *next;
};
struct model_pod {
    struct mz_workload *w;
    struct mz_str ip[2]; /* the first of IPv4, of IPv6; "": none */
    bool ready, leaving;
};
struct model_draft { /* a model being built */
    struct mz_model *m;
    struct mz_store *store;
    struct mz_arena *scratch; /* messages; goes when the model stands */
    MZ_VEC(struct mz_service *) services;
    MZ_VEC(const struct mz_endpoints *) table; /* by mz_port.at */
    /* made of documents of the Gateway API and Ingresses */
    MZ_VEC(const struct mz_gateway *) gateways;
    MZ_VEC(struct mz_virtual *) virtuals;
    MZ_VEC(struct model_rule) made_rules;
    MZ_VEC(struct model_pod) pods; /* those that have an address; by namespace and name */
    MZ_VEC(struct mz_workload *) machines; /* as pods */
    struct mz_service_ips *addresses; /* NULL: services without one get none */
    struct mz_map selected; /* pods.c */
    struct mz_map in_namespace; /* namespace to how many endpoints its services of Kubernetes have; endpoints.c */
    struct mz_map states; /* of a model on another: pods whose documents were opened, to struct model_pod; pods.c */
    struct mz_map entries_select; /* namespace to how many endpoints its ServiceEntries have selected; service_entry.c */
    struct mz_map grants; /* ReferenceGrants: "FROM-KIND/ns>TO-KIND/ns/name", name "*" for all, to anything */
};

/* pods.c */
void model_add_pods(struct model_draft *d); /* and what nodes tell of their places */
/* Of the document. Not in any index yet. */
struct mz_workload *model_make_pod(struct model_draft *d, const struct mz_doc *doc, const struct mz_map *nodes /* NULL: looked up */);
/* Before endpoints of services are gathered: pods of those that no document has endpoints of, found in one pass over all pods. */
void model_select_pods(struct model_draft *d);
void model_forget_selected(struct model_draft *d);
/* The endpoints that controllers of Kubernetes would write for a service with a selector: its pods that have an address and have not
 * ended, ready or not, at the ports of the service that they have. Of IPv4 or IPv6 as the service says or its address is. */
void model_gather_pods(struct model_draft *d, const struct mz_service *s, struct model_gathered *g);

/* service_ips.c: one build */
struct model_addresses;
struct model_addresses *model_addresses_begin(struct model_draft *d); /* in the scratch */
/* @s wants one; nothing happens where @ips is NULL. */
void model_addresses_want(struct model_addresses *a, struct mz_service *s, const k8s_ServiceSpec *spec, const struct mz_service_ips *ips);
void model_addresses_give(struct model_draft *d, struct model_addresses *a); /* to all who want one; into their hashes, too */

/* layer.c */
struct mz_model *model_create(const struct mz_model *before); /* on it: with all that it has; NULL: empty. refs 1 */
struct mz_table *model_table(size_t n); /* refs 1 */
struct mz_table *model_table_ref(struct mz_table *t);
void model_table_unref(struct mz_table *t); /* NULL is fine */
void model_table_own(struct mz_table **t, size_t n, size_t more); /* a copy of its @n, with room for more */
bool model_is_heavy(const struct mz_model *m); /* much in its layers is no more: build anew */

void model_index_ports(struct mz_arena *a, struct mz_service *s); /* by_number; model.c */

/* kubernetes.c */
void model_add_kubernetes(struct model_draft *d);
/* Of the document, without endpoints. @wants: an address of ours. */
struct mz_service *model_make_service(struct model_draft *d, const struct mz_doc *doc, const k8s_ServiceSpec **spec, bool *wants);
#define MODEL_DISTRIBUTION "networking.istio.io/traffic-distribution" /* annotation of services, entries and namespaces */
/* enum mz_preference: @spec "" of entries; @said: the annotation, "": that of the namespace. */
uint64_t model_distribution(struct model_draft *d, struct mz_str ns, const char *spec, struct mz_str said);
enum mz_audience { MZ_AUDIENCE_ALL, MZ_AUDIENCE_NAMESPACE, MZ_AUDIENCE_NOBODY };
/* At most these see ServiceEntries of @ns (serviceEntryVisibility), whatever their exportTo says. discovery.c */
enum mz_audience model_audience(struct model_draft *d, struct mz_str ns);
/* discovery.c: of namespaces that are looked at, by namespace and name; in the scratch or borrowed of the store */
const struct mz_doc *const *model_docs(struct model_draft *d, enum mz_kind k, size_t *out_n);
const k8s_ObjectMeta *model_namespace(struct model_draft *d, struct mz_str ns); /* NULL: nobody has told of it */
void model_add_workload_entries(struct model_draft *d); /* workload_entry.c; before services */
void model_add_service_entries(struct model_draft *d);  /* service_entry.c; after Kubernetes' services */
void model_resolve_aliases(struct model_draft *d);      /* alias.c; after all services */
void model_add_sidecars(struct model_draft *d);         /* sidecar.c */
void model_add_gateway_api(struct model_draft *d);      /* gateway_api.c; before rules, VirtualServices and Gateways */
void model_made_gateway(struct model_draft *d, struct mz_gateway *g); /* gateway.c */
void model_made_rule(struct model_draft *d, struct mz_str ns, struct mz_str name, const ist_DestinationRule *m); /* rule.c */
void model_add_rules(struct model_draft *d);      /* rule.c */
struct mz_str model_full_host(struct model_draft *d, struct mz_str host, struct mz_str ns); /* as a document of @ns means it */
void model_add_gateways(struct model_draft *d);   /* gateway.c */
/* Objects of @from in namespace @ns may refer to @name of @to (kind and group) in @other. gateway_api_refs.c */
bool model_granted(struct model_draft *d, const char *from, struct mz_str ns, const char *to, struct mz_str other, const char *name);
void model_add_secrets(struct model_draft *d);    /* secrets.c */
void model_add_virtuals(struct model_draft *d);   /* virtual_service.c */
void model_add_peer_auth(struct model_draft *d);  /* peer_auth.c */
void model_add_attached(struct model_draft *d);   /* attached.c */

/* attached.c */
const struct mz_doc *const *model_oldest_first(struct model_draft *d, enum mz_kind k, size_t *out_n); /* then by name and namespace */
struct mz_labels model_selector(struct mz_arena *a, const ist_WorkloadSelector *s); /* NULL: none */

/* endpoints.c */
struct mz_labels model_labels(struct model_draft *d, const void *const *entries, size_t n); /* of a generated map<string, string> */
struct mz_locality model_locality(struct mz_str text); /* "region.zone.subzone", or with slashes */
uint64_t model_hash_workload(const struct mz_workload *w);
/* Where @p is found on a workload that has these names of ports: by its own name, else its target; a named target there or nowhere (0). */
uint16_t model_port_on(const struct mz_port *p, struct mz_labels names);
uint16_t model_port_of_pod(const struct mz_port *p, struct mz_labels container_ports); /* 0: it has none of that name */
struct model_gathered *model_gather(struct model_draft *d, const struct mz_service *s);
/* How many endpoints services of Kubernetes have in @ns, as the draft has it so far. */
size_t *model_in_namespace(struct model_draft *d, struct mz_str ns);
void model_keep_counts(struct model_draft *d); /* in the model */
/* One more; left out above the limits, which model_take_gathered() tells. */
void model_gather_put(struct model_gathered *g, size_t port, struct mz_endpoint e);
/* At each port that @w has. */
void model_gather_everywhere(const struct mz_service *s, struct model_gathered *g, const struct mz_workload *w);
void model_take_gathered(struct model_draft *d, const struct mz_service *s, struct model_gathered *g, bool sorted,
                         struct mz_endpoints *out); /* one per port; frees what was gathered */
/* Those that a document names and those of the endpoints, sorted, each once. */
const struct mz_str *model_accounts(struct model_draft *d, const struct mz_str *named, size_t named_n, const struct mz_endpoints *e,
                                    size_t ports, size_t *out_n);
/* Endpoints of a service of Kubernetes as the documents of now have them. */
struct model_gathered *model_gather_slices(struct model_draft *d, const struct mz_service *s);
/* A model on top of @before, or NULL: it has to be built anew. patch.c */
struct mz_model *model_patch(struct mz_store *s, const struct mz_model *before);
struct model_patch { /* a model being made of the one before */
    struct model_draft d;
    const struct mz_model *before;
    struct mz_map touched; /* services of Kubernetes, "ns/name", to struct model_touch */
    MZ_VEC(struct mz_patched) services;
    MZ_VEC(const struct mz_workload *) workloads;
    MZ_VEC(struct mz_patched_rule) rules;
    MZ_VEC(struct mz_patched_virtual) virtuals;
};
struct model_touch {
    struct mz_str ns, name;
    bool itself; /* not only its endpoints */
};
bool model_patch_virtual(struct model_patch *p, const struct mz_store_change *c); /* virtual_service.c; the same */
bool model_patch_rule(struct model_patch *p, const struct mz_store_change *c); /* rule.c. False: build anew */
bool model_is_given(const struct mz_model *m, struct mz_str address); /* we gave it: whoever has it now takes it away (patch.c) */
struct model_touch *model_touch(struct model_patch *p, struct mz_str key); /* "ns/name" */
bool model_patch_pod(struct model_patch *p, const struct mz_store_change *c); /* patch_pod.c. False: build anew */
void model_default_export(const struct mz_model *m, struct mz_service *s); /* as the mesh says, where it says nothing */
/* Endpoints and accounts of a service (those that it has are kept). @sorted: by address. Frees what was gathered. */
void model_finish_service(struct model_draft *d, struct mz_service *s, struct model_gathered *g, bool sorted);

/* model.c */
const struct mz_str *model_texts(struct model_draft *d, char *const *v, size_t n); /* copies */
struct mz_str model_label(struct mz_labels l, struct mz_str key); /* "" when absent */
bool model_has_label(struct mz_labels l, struct mz_str key);
uint64_t model_hash_str(uint64_t h, struct mz_str s); /* h and the text, its length too */
uint64_t model_hash_labels(uint64_t h, struct mz_labels l);
struct mz_str *model_sorted(struct mz_arena *a, struct mz_str *v, size_t *n); /* in place, each once */
#endif
