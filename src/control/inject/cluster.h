#ifndef MZ_CONTROL_INJECT_CLUSTER_H
#define MZ_CONTROL_INJECT_CLUSTER_H
/* What documents of a cluster say of injection: templates of its ConfigMap, versions of its nodes. Main thread. */
#include "control/inject/inject.h"
#include "control/inject/templates.h"
#include "control/sources/store.h"

struct mz_inject_cluster;
struct mz_inject_cluster *mz_inject_cluster_create(struct mz_store *s); /* borrows it */
void mz_inject_cluster_destroy(struct mz_inject_cluster *c);
/* Looks at the ConfigMap istio-sidecar-injector of @root_ns again; one that cannot be read is told, and the last good one counts. */
void mz_inject_cluster_look(struct mz_inject_cluster *c, struct mz_str root_ns);
/* For mz_inject_opts.templates. */
const struct mz_inject_templates *const *mz_inject_cluster_templates(const struct mz_inject_cluster *c);
/* ENABLE_NATIVE_SIDECARS=auto: the kubelet of @node, or where that is not known those of all nodes, are of 1.33 or later. Without a
 * document of any node nothing is known: no. */
bool mz_inject_cluster_native(const struct mz_inject_cluster *c, const char *node);
#endif
