#ifndef MZ_MESH_PODENV_H
#define MZ_MESH_PODENV_H
/* The environment of a container and what refers to it, as Kubernetes has them. */
#include "mesh/podspec.h"

struct mz_mesh_env { /* "NAME=VALUE", in the order of definition */
    struct mz_arena *arena;
    MZ_VEC(const char *) v;
};
void mz_mesh_env_set(struct mz_mesh_env *e, const char *name, const char *value); /* replaces */
const char *mz_mesh_env_get(const struct mz_mesh_env *e, const char *name);       /* NULL */
/* $(NAME) of what is defined so far; others stay as they are, and "$$(" is "$(". */
const char *mz_mesh_env_expand(const struct mz_mesh_env *e, const char *text);
/* `env` and `envFrom` of a container. */
bool mz_mesh_env_read(struct mz_mesh_env *e, json_t *pod, json_t *container, const struct mz_mesh_folder *f, struct mz_err *err);
/* "metadata.labels['app']", "status.podIP", ...; NULL: not one of those. */
const char *mz_mesh_field(json_t *pod, const char *path, struct mz_arena *a);
/* "500m", "2", "1Gi", "64M" in @divisor's units, rounded up. False: no quantity. */
bool mz_mesh_quantity(const char *text, const char *divisor, uint64_t *out);
/* Of a ConfigMap's data, a Secret's data (base64) or stringData. NULL: there is none. */
struct mz_str mz_mesh_key_of(const struct mz_mesh_doc *d, const char *key, struct mz_arena *a);
#endif
