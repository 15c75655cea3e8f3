#ifndef MZ_CONTROL_ANALYZE_FINDERS_H
#define MZ_CONTROL_ANALYZE_FINDERS_H
/* Between documents.c and the files that look for one topic each. */
#include "base/map.h"
#include "control/analyze/documents.h"

/* ---- objects ---- */
/*
 * All of @kind, in the order of files and lines, ended by NULL. "Gateway" is Istio's, "KubernetesGateway" the Gateway API's;
 * "Service" is Kubernetes'. After documents_index().
 */
struct mz_object *const *objects_of(const struct mz_documents *d, const char *kind);
#define objects_foreach(it, d, what) for (struct mz_object *const *it = objects_of((d), (what)); *it; it++)
/* @system: also those in the namespaces of the cluster itself (kube-system ...). */
void documents_index(struct mz_documents *d, bool system);
void documents_unindex(struct mz_documents *d);
bool object_is(const struct mz_object *o, const char *kind);
/* ---- lists: by_label.c ---- */
struct objects {
    MZ_VEC(struct mz_object *) v; /* NULL behind the last, where objects_push() made it */
};
void objects_push(struct objects *l, struct mz_object *o);
struct objects *objects_listed(struct mz_arena *a, struct mz_map *lists, struct mz_str key); /* made where it is not there */
void objects_free(struct mz_map *lists);
void objects_list(struct mz_documents *d, struct mz_object *o); /* into d->lists */
/* All of @kind in @ns. As all lists of objects in the order of files and lines, ended by NULL. */
struct mz_object *const *objects_in(const struct mz_documents *d, const char *kind, struct mz_str ns);
/* Pods of @ns ("*": of all) with one label of @selector, all where it has none: those that it selects are among them. */
struct mz_object *const *pods_near(const struct mz_documents *d, struct mz_str ns, const struct mz_node *selector);
/* Of @kind (Service, Sidecar, Telemetry) in @ns those whose selector @labels satisfy. The caller frees out->v. */
void objects_selecting(const struct mz_documents *d, const char *kind, struct mz_str ns, const struct mz_node *labels,
                       struct objects *out);
const struct mz_object *object_find(const struct mz_documents *d, const char *kind, struct mz_str ns, struct mz_str name);
struct mz_str object_name(const struct mz_documents *d, const struct mz_object *o); /* "demo/web", or "web" of no namespace */
const struct mz_node *object_labels(const struct mz_object *o);
const struct mz_node *object_annotations(const struct mz_object *o);
struct mz_str object_label(const struct mz_object *o, const char *key); /* "" when absent */

/* ---- maps of texts ---- */
const struct mz_node *map_get(const struct mz_node *map, struct mz_str key); /* by its very spelling; NULL when absent */
struct mz_str scalar_text(const struct mz_node *n); /* of a text or a number; "" others */
struct mz_str map_text(const struct mz_node *map, const char *key);
/* Every member of @selector is one of @labels. An empty or absent selector: false. */
bool selector_matches(const struct mz_node *selector, const struct mz_node *labels);
/* A LabelSelector with matchLabels and matchExpressions. An empty or absent one: true. */
bool label_selector_matches(const struct mz_node *selector, const struct mz_node *labels);
struct mz_str selector_text(const struct mz_node *selector, struct mz_arena *a); /* "a=b,c=d" */
uint32_t selector_line(const struct mz_node *selector); /* of the first in that order; 0 there is none */

/* ---- lists of names ---- */
struct names {
    MZ_VEC(struct mz_str) v;
};
enum { MAX_NAMES = 1000 };
void names_add(struct names *n, struct mz_str s); /* the first MAX_NAMES count */
void names_unique(struct names *n); /* sorts them, and leaves each once */
/* Sorted; frees @n. @with is what stands between. Cut where nobody reads on. */
struct mz_str names_text(struct names *n, const char *with, struct mz_arena *a);
bool list_has(const struct mz_node *list, const char *text);
struct mz_str texts_join(const struct mz_str *v, size_t n, const char *with, struct mz_arena *a); /* cut after 4096 bytes */

/* ---- pods ---- */
const struct mz_node *pod_spec(const struct mz_object *o);     /* of a Pod, or of a Deployment's template */
const struct mz_node *pod_labels(const struct mz_object *o);   /* likewise */
bool pod_is_in_mesh(const struct mz_documents *d, const struct mz_object *o); /* it has a proxy, or will have one */
bool pod_is_ambient(const struct mz_object *pod);
bool is_of_control_plane(const struct mz_object *o);

/* ---- hosts ---- */
struct mz_str host_fqdn(struct mz_str host, struct mz_str ns, struct mz_arena *a); /* "web" to "web.demo.svc.cluster.local" */
bool host_matches(struct mz_str a, struct mz_str b); /* either may begin with '*' */
bool exports_everywhere(const struct mz_object *o);
/* Where @o is seen: "*", or its namespaces; ended by an empty one. In the arena. */
const struct mz_str *export_scopes(const struct mz_documents *d, const struct mz_object *o);
struct hosts { /* find_hosts.c: Services and ServiceEntries by scope and name */
    struct mz_documents *d;
    struct mz_map known; /* "*|web.demo.svc.cluster.local" */
    struct mz_map wild;  /* "*|.com" of "*.com": the first ServiceEntry of that scope */
    bool lengths[256];   /* of what stands behind the asterisk */
    struct mz_map subsets; /* of DestinationRules: "web.demo.svc.cluster.local|v1" */
    bool any;            /* there is something of a cluster: else nobody can tell what is missing */
};
void hosts_init(struct hosts *h, struct mz_documents *d);
void hosts_fini(struct hosts *h);
bool hosts_has_subset(const struct hosts *h, struct mz_str fqdn, struct mz_str subset); /* a DestinationRule has it */
/* What @of, a VirtualService or DestinationRule, means by @host; NULL: nothing that it sees. */
const struct mz_object *hosts_find(const struct hosts *h, const struct mz_object *of, struct mz_str host);

/* ---- findings ---- */
uint32_t name_line(const struct mz_object *o); /* of its metadata.name */
/* Of one object the first MAX_FINDINGS, then that there are more. */
enum { MAX_PRODUCT = 20000 }; /* of one object: hosts that stand beside ports or namespaces */
enum { MAX_FINDINGS = 100, MAX_FINDINGS_ALL = 500000 };
bool found_enough(const struct mz_documents *d, const struct mz_object *of);
__attribute__((format(printf, 6, 7))) void found(struct mz_documents *d, enum mz_level level, unsigned code,
                                                 const struct mz_object *of, uint32_t line, const char *fmt, ...);
void workloads_expand(struct mz_documents *d); /* adds the Pods of Deployments and their like, named as these */
void find_in_workloads(struct mz_documents *d);
void find_in_routes(struct mz_documents *d);
void find_in_gateways(struct mz_documents *d);
void find_in_services(struct mz_documents *d);
void find_in_rules(struct mz_documents *d, const struct hosts *h);
void find_in_policies(struct mz_documents *d);
void find_in_gateway_api(struct mz_documents *d);
void find_in_namespaces(struct mz_documents *d);
void find_in_webhooks(struct mz_documents *d);
void find_in_annotations(struct mz_documents *d);
void find_in_selectors(struct mz_documents *d);
void documents_keep(struct mz_documents *d, struct mz_doc *doc); /* takes @doc: one that is right (find_gateway_api.c) */
/* A rule of a VirtualService that no request reaches: what there is to say, also at validation. @number counts rules from 0. */
typedef void route_unused(void *arg, const struct mz_object *vs, bool whole_rule, struct mz_str text);
void routes_unused(const struct mz_object *vs, struct mz_arena *a, route_unused *tell, void *arg);
/* What is taken, and hardly meant: what there is to warn of when @of is written (warnings.c). */
typedef void object_warned(void *arg, const struct mz_object *of, uint32_t line, struct mz_str text);
void objects_warn(struct mz_documents *d, object_warned *tell, void *arg);
/* What is refused when it is written, and still counts where it is there. */
void objects_refuse(struct mz_documents *d, object_warned *tell, void *arg);
#endif
