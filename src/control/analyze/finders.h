#ifndef MZ_CONTROL_ANALYZE_FINDERS_H
#define MZ_CONTROL_ANALYZE_FINDERS_H
/* Between documents.c and the files that look for one topic each. */
#include "control/analyze/documents.h"

/* ---- objects ---- */
#define objects_foreach(it, d, what)                                                               \
    for (struct mz_object *const *it = (d)->v.v, *const *it##_end = it ? it + (d)->v.n : it;       \
         it != it##_end; it++)                                                                     \
        if (object_is(*it, what))
bool object_is(const struct mz_object *o, const char *kind); /* "Gateway": Istio's, not the Gateway API's */
const struct mz_object *object_find(const struct mz_documents *d, const char *kind, struct mz_str ns, struct mz_str name);
const struct mz_node *object_labels(const struct mz_object *o);
struct mz_str object_label(const struct mz_object *o, const char *key); /* "" when absent */
const struct mz_node *map_member(const struct mz_node *map, struct mz_str key); /* by its exact key; NULL */
/* Every member of @selector is one of @labels. An empty or absent selector: false. */
bool selector_matches(const struct mz_node *selector, const struct mz_node *labels);
struct mz_str selector_text(const struct mz_node *selector, struct mz_arena *a); /* "a=b,c=d" */

/* ---- hosts ---- */
struct mz_str host_fqdn(struct mz_str host, struct mz_str ns, struct mz_arena *a); /* "web" to "web.demo.svc.cluster.local" */
bool host_matches(struct mz_str a, struct mz_str b); /* either may begin with '*' */
bool exports_everywhere(const struct mz_object *o);

/* ---- findings ---- */
uint32_t name_line(const struct mz_object *o); /* of its metadata.name */
__attribute__((format(printf, 6, 7))) void found(struct mz_documents *d, enum mz_level level, unsigned code,
                                                 const struct mz_object *of, uint32_t line, const char *fmt, ...);
void workloads_expand(struct mz_documents *d); /* adds the Pods of Deployments and their like, named as these */
void find_in_workloads(struct mz_documents *d);
void find_in_routes(struct mz_documents *d);
void find_in_gateways(struct mz_documents *d);
void find_in_services(struct mz_documents *d);
void find_in_policies(struct mz_documents *d);
void find_in_gateway_api(struct mz_documents *d);
void documents_keep(struct mz_documents *d, struct mz_doc *doc); /* takes @doc: one that is right (find_gateway_api.c) */
/* A rule of a VirtualService that no request reaches: what there is to say, also at validation. @number counts rules from 0. */
typedef void route_unused(void *arg, const struct mz_object *vs, bool whole_rule, struct mz_str text);
void routes_unused(const struct mz_object *vs, struct mz_arena *a, route_unused *tell, void *arg);
#endif
