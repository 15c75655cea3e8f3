#ifndef MZ_CONTROL_STATUS_STATUS_H
#define MZ_CONTROL_STATUS_STATUS_H
/*
 * What a control plane writes into the `status` of objects, as documents of their own: conditions of the Gateway API with Istio's reasons
 * and words, addresses of Ingresses, and of Istio's documents whether they are used and what analyzers say of them. Beside them, for each
 * namespace, the ConfigMaps that pods verify each other by: roots and lists of revoked certificates. Pure functions of documents, model
 * and authority: same input, same bytes. Main thread.
 */
#include "control/model/model.h"
#include "control/sources/source.h"

struct mz_status_from {
    const struct mz_model *model;
    struct mz_store *store;
    const struct mz_source *source;
    struct mz_str roots, crl; /* of the authority, PEM; no roots: there is none, and no ConfigMaps */
};
struct mz_status { /* one object's */
    struct mz_str ns;   /* "" of none */
    const char *kind;   /* as in keys: "KubernetesGateway" */
    struct mz_str name;
    struct mz_str text; /* YAML */
};
struct mz_statuses { /* in @a of mz_status_make() */
    struct mz_status *v;
    size_t n_v;
};
void mz_status_make(const struct mz_status_from *f, struct mz_arena *a, struct mz_statuses *out);
/*
 * Writes @dir/NAMESPACE/KIND/NAME.yaml for each (without NAMESPACE where there is none), those only that are different, each whole or
 * not at all; removes files that it once wrote for objects that are gone, and no others. False: something could not be written, the
 * rest was.
 */
bool mz_status_write(const struct mz_status_from *f, const char *dir, struct mz_err *err);
/* Makes it. Documents below @configs are read: @dir may not be among them. A name that begins with '.' hides it. */
bool mz_status_dir_ok(const char *dir, const char *const *configs, size_t n, struct mz_err *err);
#endif
