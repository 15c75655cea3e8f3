#ifndef MZ_CONTROL_MODEL_PRIV_H
#define MZ_CONTROL_MODEL_PRIV_H
#include "control/model/model.h"

struct model_draft { /* a model being built */
    struct mz_model *m;
    struct mz_store *store;
    struct mz_arena *scratch; /* messages; goes when the model stands */
    MZ_VEC(struct mz_service *) services;
};
void model_add_kubernetes(struct model_draft *d); /* kubernetes.c */
void model_add_rules(struct model_draft *d);      /* rule.c */
void model_add_peer_auth(struct model_draft *d);  /* peer_auth.c */

/* model.c */
uint64_t model_hash_str(uint64_t h, struct mz_str s); /* h and the text, its length too */
uint64_t model_hash_labels(uint64_t h, struct mz_labels l);
struct mz_str *model_sorted(struct mz_arena *a, struct mz_str *v, size_t *n); /* in place, each once */
#endif
