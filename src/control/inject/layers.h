#ifndef MZ_CONTROL_INJECT_LAYERS_H
#define MZ_CONTROL_INJECT_LAYERS_H
/* What a model says of proxies that are started: the mesh's defaultConfig and documents of kind ProxyConfig (C9, C12). */
#include "control/inject/inject.h"
#include "control/model/model.h"

/**
 * For a pod with @labels (NULL: none) of @ns, as JSON in the field's names; new references, NULL: nothing is said. The annotation
 * proxy.istio.io/config stands between them: @out_under is the mesh's, the root namespace's, the namespace's, @out_over that
 * which selects the pod.
 */
void mz_inject_layers(const struct mz_model *m, const char *ns, const json_t *labels, json_t **out_under, json_t **out_over);
/* The MeshConfig under the names of its JSON form; a new reference. */
json_t *mz_inject_mesh(const struct mz_model *m);
#endif
