/* Documents with certificates. Keys are not unpacked before somebody is to have them (translate/secrets.c). */
#include "control/model/model_priv.h"

static void free_all(void *arg)
{
    mz_map_foreach (it, (struct mz_map *)arg)
        mz_doc_unref(it->value);
    mz_map_fini(arg);
}

void model_add_secrets(struct model_draft *d)
{
    struct mz_map *all = mz_arena_new0(d->m->arena, struct mz_map);
    static const enum mz_kind kinds[] = { MZ_KIND_SECRET, MZ_KIND_CONFIG_MAP };
    mz_map_init(all, MZ_MEM_CONFIG);
    mz_arena_cleanup(d->m->arena, free_all, all);
    d->m->secrets = all;
    for (size_t k = 0; k < MZ_COUNT(kinds); k++) {
        size_t n;
        const struct mz_doc *const *docs = model_docs(d, kinds[k], &n);
        for (size_t i = 0; i < n; i++)
            if (docs[i]->body.n) /* nothing else was kept when it was read */
                (void)mz_map_put(all, docs[i]->key, mz_doc_ref(docs[i]));
    }
}
