/* Documents with certificates. Keys are not unpacked before somebody is to have them (translate/secrets.c). */
#include "control/model/model_priv.h"

void model_add_secrets(struct model_draft *d)
{
    static const enum mz_kind kinds[] = { MZ_KIND_SECRET, MZ_KIND_CONFIG_MAP };
    for (size_t k = 0; k < MZ_COUNT(kinds); k++) {
        size_t n;
        const struct mz_doc *const *docs = model_docs(d, kinds[k], &n);
        for (size_t i = 0; i < n; i++)
            if (docs[i]->body.n) /* nothing else was kept when it was read */
                (void)mz_map_put(&d->m->secrets, docs[i]->key, mz_doc_ref(docs[i]));
    }
}

void model_free_secrets(struct mz_model *m)
{
    mz_map_foreach (it, &m->secrets)
        mz_doc_unref(it->value);
    mz_map_fini(&m->secrets);
}
