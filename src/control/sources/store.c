#include "control/sources/store.h"

#include <stdlib.h>

#include "base/map.h"
#include "base/vec.h"

struct of_kind {
    MZ_VEC(const struct mz_doc *) sorted;
    bool stale;
};
struct group {         /* endpoints of one service */
    struct mz_str key; /* behind the struct */
    MZ_VEC(const struct mz_doc *) docs;
};
enum { MAX_CHANGES = 1000 }; /* documents; more are many */
struct mz_store {
    struct mz_map groups;                   /* struct group */
    MZ_VEC(struct mz_store_change) changes; /* their texts stand behind the keys, which are owned */
    bool many;
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
    mz_map_init(&s->groups, MZ_MEM_CONFIG);
    s->many = true;
    s->changed = changed;
    s->arg = arg;
    return s;
}

/* ---- endpoints by service ---- */

static void group_free(struct group *g)
{
    mz_vec_free(&g->docs, MZ_MEM_CONFIG);
    mz_free(MZ_MEM_CONFIG, g);
}

static void group_add(struct mz_store *s, const struct mz_doc *d)
{
    struct group *g = mz_map_get(&s->groups, d->of);
    if (!g) {
        g = mz_alloc0(MZ_MEM_CONFIG, sizeof(*g) + d->of.n);
        memcpy(g + 1, d->of.p, d->of.n);
        g->key = (struct mz_str){ (const char *)(g + 1), d->of.n };
        (void)mz_map_put(&s->groups, g->key, g);
    }
    *mz_vec_push(&g->docs, MZ_MEM_CONFIG) = d;
}

static void group_remove(struct mz_store *s, const struct mz_doc *d)
{
    struct group *g = mz_map_get(&s->groups, d->of);
    for (size_t i = 0; g && i < g->docs.n; i++)
        if (g->docs.v[i] == d) {
            g->docs.v[i] = g->docs.v[--g->docs.n];
            break;
        }
    if (g && !g->docs.n) {
        (void)mz_map_del(&s->groups, g->key);
        group_free(g);
    }
}

static struct mz_str put_text(char **at, struct mz_str s)
{
    char *own = *at;
    if (s.n)
        memcpy(own, s.p, s.n);
    *at += s.n;
    return (struct mz_str){ own, s.n };
}

static void note_change(struct mz_store *s, const struct mz_doc *d)
{
    if (!d || s->many)
        return;
    if (s->changes.n == MAX_CHANGES) {
        mz_store_forget_changes(s);
        s->many = true;
        return;
    }
    char *at = mz_alloc(MZ_MEM_CONFIG, d->key.n + d->ns.n + d->name.n + d->of.n);
    struct mz_store_change c = { .kind = d->kind };
    c.key = put_text(&at, d->key);
    c.ns = put_text(&at, d->ns);
    c.name = put_text(&at, d->name);
    c.of = put_text(&at, d->of);
    *mz_vec_push(&s->changes, MZ_MEM_CONFIG) = c;
}

struct mz_store_changes mz_store_changes(const struct mz_store *s)
{
    return (struct mz_store_changes){ s->many, s->changes.v, s->changes.n };
}

void mz_store_forget_changes(struct mz_store *s)
{
    mz_vec_foreach (c, &s->changes)
        mz_free(MZ_MEM_CONFIG, (char *)(uintptr_t)c->key.p);
    s->changes.n = 0;
    s->many = false;
}

static int compare_kinds(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = ((*x)->kind > (*y)->kind) - ((*x)->kind < (*y)->kind);
    return c ? c : mz_str_cmp((*x)->name, (*y)->name);
}

const struct mz_doc *const *mz_store_of(struct mz_store *s, struct mz_str service, size_t *out_n)
{
    struct group *g = mz_map_get(&s->groups, service);
    *out_n = g ? g->docs.n : 0;
    if (g)
        qsort(g->docs.v, g->docs.n, sizeof(*g->docs.v), compare_kinds);
    return g ? g->docs.v : NULL;
}

/* ---- the store ---- */

void mz_store_destroy(struct mz_store *s)
{
    if (!s)
        return;
    mz_map_foreach (it, &s->docs)
        mz_doc_unref(it->value);
    mz_map_fini(&s->docs);
    for (unsigned k = 0; k < MZ_KIND__COUNT; k++)
        mz_vec_free(&s->kinds[k].sorted, MZ_MEM_CONFIG);
    mz_map_foreach (it, &s->groups)
        group_free(it->value);
    mz_map_fini(&s->groups);
    mz_store_forget_changes(s);
    mz_vec_free(&s->changes, MZ_MEM_CONFIG);
    mz_free(MZ_MEM_CONFIG, s);
}

static int compare(const void *a, const void *b)
{
    const struct mz_doc *const *x = a, *const *y = b;
    int c = mz_str_cmp((*x)->ns, (*y)->ns);
    return c ? c : mz_str_cmp((*x)->name, (*y)->name);
}

/* A document in the place of the one it replaces: to sort again costs what all documents are. */
static bool replace_sorted(struct of_kind *o, const struct mz_doc *old, const struct mz_doc *d)
{
    const struct mz_doc **at = o->stale || !o->sorted.n ? NULL
                                                        : bsearch(&old, o->sorted.v, o->sorted.n,
                                                                  sizeof(*o->sorted.v), compare);
    if (at)
        *at = d;
    return at != NULL;
}

void mz_store_put(struct mz_store *s, struct mz_doc *d)
{
    struct mz_doc *old = mz_map_get(&s->docs, d->key);
    if (old == d || (old && old->version == d->version && mz_str_eq(old->file, d->file) &&
                     old->line == d->line)) {
        mz_doc_unref(d);
        return;
    }
    s->dirty |=
        !old || old->version != d->version; /* that it moved within its file changes no answer */
    if (!old || old->version != d->version) {
        note_change(s, old);
        note_change(s, d);
    }
    if (old)
        (void)mz_map_del(&s->docs, old->key); /* the key lives in the document */
    if (old && old->of.n)
        group_remove(s, old);
    if (d->of.n)
        group_add(s, d);
    (void)mz_map_put(&s->docs, d->key, d);
    if (!old || !replace_sorted(&s->kinds[d->kind], old, d))
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
    note_change(s, old);
    if (old->of.n)
        group_remove(s, old);
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
