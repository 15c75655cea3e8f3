/* Models that stand on each other: what they share, and who keeps it. */
#include "control/model/model_priv.h"

enum {
    SPARE = 8 << 20
}; /* bytes of what is no more that may stay, besides half of what there was */

struct mz_layer {
    unsigned refs;
    struct mz_arena *arena;
    struct mz_layer *below; /* NULL: none */
    size_t beneath, lowest; /* bytes of all below it, of the lowest */
};

static struct mz_layer *layer_create(struct mz_layer *below)
{
    struct mz_layer *l = mz_new0(MZ_MEM_CONFIG, struct mz_layer);
    l->refs = 1;
    l->arena = mz_arena_create(MZ_MEM_CONFIG);
    l->below = below;
    if (below) {
        const size_t bytes = mz_arena_size(below->arena);
        below->refs++;
        l->beneath = below->beneath + bytes;
        l->lowest = below->below ? below->lowest : bytes;
    }
    return l;
}

static void layer_unref(struct mz_layer *l)
{
    for (struct mz_layer *below; l && --l->refs == 0; l = below) { /* there may be thousands */
        below = l->below;
        mz_arena_destroy(l->arena);
        mz_free(MZ_MEM_CONFIG, l);
    }
}

bool model_is_heavy(const struct mz_model *m)
{
    const struct mz_layer *l = m->layer;
    return l->below && l->beneath + mz_arena_size(l->arena) - l->lowest > SPARE + l->lowest / 2;
}

/* ---- tables ---- */

struct mz_table *model_table(size_t n)
{
    struct mz_table *t = mz_alloc(MZ_MEM_CONFIG, sizeof(*t) + n * sizeof(*t->v));
    t->refs = 1;
    return t;
}

struct mz_table *model_table_ref(struct mz_table *t)
{
    t->refs++;
    return t;
}

void model_table_unref(struct mz_table *t)
{
    if (t && --t->refs == 0)
        mz_free(MZ_MEM_CONFIG, t);
}

void model_table_own(struct mz_table **t, size_t n, size_t more)
{
    struct mz_table *own = model_table(n + more);
    if (n)
        memcpy(own->v, (*t)->v, n * sizeof(*own->v));
    model_table_unref(*t);
    *t = own;
}

/* ---- models ---- */

enum { INDEXES = 12 };
static void indexes(struct mz_model *m, struct mz_index **out[INDEXES])
{
    struct mz_index **all[INDEXES] = { &m->by_ns,     &m->by_host,    &m->by_name,
                                       &m->twins,     &m->awaited,    &m->by_workload,
                                       &m->crowded,   &m->rules,      &m->by_address,
                                       &m->rule_docs, &m->by_virtual, &m->in_namespace };
    memcpy(out, all, sizeof(all));
}

struct mz_model *model_create(const struct mz_model *before)
{
    static uint64_t serials; /* of the main thread */
    struct mz_model *m = mz_new0(MZ_MEM_CONFIG, struct mz_model);
    struct mz_index **all[INDEXES];
    indexes(m, all);
    if (before) {
        *m = *before;
        m->patched = NULL;
        m->patched_n = 0;
        m->workloads = NULL;
        m->workloads_n = 0;
        m->rules_patched = NULL;
        m->rules_patched_n = 0;
        m->virtuals_patched = NULL;
        m->virtuals_patched_n = 0;
        m->virtuals_table = model_table_ref(before->virtuals_table);
        m->services_table = model_table_ref(before->services_table);
        m->endpoints = model_table_ref(before->endpoints);
    }
    for (size_t i = 0; i < INDEXES; i++)
        *all[i] = before ? mz_index_ref(*all[i]) : mz_index_create();
    m->refs = 1;
    m->serial = ++serials;
    m->on = before ? before->serial : 0;
    m->layer = layer_create(before ? before->layer : NULL);
    m->arena = m->layer->arena;
    return m;
}

bool mz_model_stands_on(const struct mz_model *m, const struct mz_model *before)
{
    return before && m->on == before->serial;
}

bool mz_model_is_same_but_endpoints(const struct mz_model *m, const struct mz_model *before)
{
    bool same = mz_model_stands_on(m, before) && !m->workloads_n && !m->rules_patched_n &&
                !m->virtuals_patched_n;
    for (size_t i = 0; same && i < m->patched_n; i++)
        same = m->patched[i].was == m->patched[i].is;
    return same;
}

struct mz_model *mz_model_ref(const struct mz_model *m)
{
    struct mz_model *own = (struct mz_model *)(uintptr_t)m; /* only the count changes */
    own->refs++;
    return own;
}

void mz_model_unref(const struct mz_model *m)
{
    struct mz_model *own = (struct mz_model *)(uintptr_t)m;
    struct mz_index **all[INDEXES];
    if (!own || --own->refs)
        return;
    indexes(own, all);
    for (size_t i = 0; i < INDEXES; i++)
        mz_index_unref(*all[i]);
    model_table_unref(own->services_table);
    model_table_unref(own->virtuals_table);
    model_table_unref(own->endpoints);
    layer_unref(own->layer);
    mz_free(MZ_MEM_CONFIG, own);
}
