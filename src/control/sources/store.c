#include "control/sources/store.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/vec.h"

struct of_kind {
    MZ_VEC(const struct mz_doc *) sorted;
    bool stale;
};
struct mz_store {
    struct mz_map docs; /* key to struct mz_doc, one reference each */
    struct of_kind kinds[MZ_KIND__COUNT];
    bool dirty; /* since the last commit */
    void (*changed)(void *arg);
    void *arg;
};

struct mz_store *mz_store_create(void (*changed)(void *arg), void *arg)
{
    struct mz_store *s = mz_new0(MZ_MEM_CONFIG, struct mz_store);
    mz_map_init(&s->docs, MZ_MEM_CONFIG);
    s->changed = changed;
    s->arg = arg;
    return s;
}

void mz_store_destroy(struct mz_store *s)
{
    if (!s)
        return;
    mz_map_foreach (it, &s->docs)
        mz_doc_unref(it->value);
    mz_map_fini(&s->docs);
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++)
        mz_vec_free(&s->kinds[k].sorted, MZ_MEM_CONFIG);
    mz_free(MZ_MEM_CONFIG, s);
}

void mz_store_put(struct mz_store *s, struct mz_doc *d)
{
    struct mz_doc *old = mz_map_get(&s->docs, d->key);
    if (old && old->version == d->version && mz_str_eq(old->file, d->file) &&
        old->line == d->line) {
        mz_doc_unref(d);
        return;
    }
    s->dirty |=
        !old || old->version != d->version; /* that it moved within its file changes no answer */
    if (old)
        (void)mz_map_del(&s->docs, old->key); /* the key lives in the document */
    (void)mz_map_put(&s->docs, d->key, d);
    s->kinds[d->kind].stale = true;
    mz_doc_unref(old);
}

void mz_store_remove(struct mz_store *s, struct mz_str key)
{
    struct mz_doc *old = mz_map_del(&s->docs, key);
    if (!old)
        return;
    s->dirty = true;
    s->kinds[old->kind].stale = true;
    mz_doc_unref(old);
}

void mz_store_commit(struct mz_store *s)
{
    if (!s->dirty)
        return;
    s->dirty = false;
    s->changed(s->arg);
}

const struct mz_doc *mz_store_get(const struct mz_store *s, struct mz_str key)
{
    return mz_map_get(&s->docs, key);
}

static int compare(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->ns, (*y)->ns);
    return c ? c : mz_str_cmp((*x)->name, (*y)->name);
}

static void sort(struct mz_store *s, enum mz_kind k)
{
    struct of_kind *o = &s->kinds[k];
    o->sorted.n = 0;
    mz_map_foreach (it, &s->docs) {
        const struct mz_doc *d = it->value;
        if (d->kind == k)
            *mz_vec_push(&o->sorted, MZ_MEM_CONFIG) = d;
    }
    if (o->sorted.n)
        qsort(o->sorted.v, o->sorted.n, sizeof(*o->sorted.v), compare);
    o->stale = false;
}

const struct mz_doc *const *mz_store_list(struct mz_store *s, enum mz_kind k, size_t *out_n)
{
    if (s->kinds[k].stale)
        sort(s, k);
    *out_n = s->kinds[k].sorted.n;
    return s->kinds[k].sorted.v;
}
