/* A pod came, went or is another: who it is in the model, and which services have it behind them. */
#include "control/model/model_priv.h"

static bool has(const struct mz_model *m, const struct mz_service *s, const struct mz_workload *old,
                struct mz_str address)
{
    for (size_t i = 0; i < s->ports_n; i++) {
        const struct mz_endpoints *e = mz_model_endpoints(m, &s->ports[i]);
        for (size_t k = 0; k < e->n; k++)
            if (e->v[k].workload ? e->v[k].workload == old
                                 : address.n && mz_str_eq(e->v[k].address, address))
                return true;
    }
    return false;
}

static void touch_those(struct model_patch *p, const struct mz_service *const *v, size_t n,
                        const struct mz_workload *old, struct mz_str address)
{
    for (size_t i = 0; i < n; i++)
        if (!v[i]->entry && has(p->before, v[i], old, address))
            (void)model_touch(p, mz_arena_printf(p->d.scratch, "%.*s/%.*s", MZ_STR_ARG(v[i]->ns),
                                                 MZ_STR_ARG(v[i]->name)));
}

/* Their endpoints may be pods that no document names. */
static void touch_selecting(struct model_patch *p, const struct mz_services *l,
                            const struct mz_workload *old, const struct mz_workload *w)
{
    for (size_t i = 0; i < l->n; i++) {
        const struct mz_service *s = l->v[i];
        if (!s->entry && ((old && mz_labels_match(s->selector, old->labels)) ||
                          (w && mz_labels_match(s->selector, w->labels))))
            (void)model_touch(p, mz_arena_printf(p->d.scratch, "%.*s/%.*s", MZ_STR_ARG(s->ns),
                                                 MZ_STR_ARG(s->name)));
    }
}

/* Endpoints name pods of their own namespace; those that name none may have any that has their address. */
static void touch_services(struct model_patch *p, struct mz_str ns, struct mz_str key,
                           const struct mz_workload *old, const struct mz_workload *w,
                           struct mz_str address)
{
    const struct mz_model *m = p->before;
    const struct mz_services *l = mz_index_get(m->by_ns, ns);
    if (m->loose)
        touch_those(p, m->services, m->services_n, old, address);
    else if (l && old)
        touch_those(p, (const struct mz_service *const *)l->v, l->n, old, address);
    if (l)
        touch_selecting(p, l, old, w);
    for (const struct model_waiting *one = mz_index_get(m->awaited, key); one; one = one->next)
        (void)model_touch(p, one->key);
}

static struct mz_str address_of(const struct mz_workload *w)
{
    return w && !w->gone ? w->address : MZ_STR("");
}

/* False: several have one of the addresses. */
static bool move_address(struct mz_model *m, struct mz_str from, struct mz_str to,
                         const struct mz_workload *old, const struct mz_workload *w)
{
    if (mz_index_get(m->crowded, from) || mz_index_get(m->crowded, to))
        return false;
    const struct mz_workload *there = mz_index_get(m->by_address, to);
    if (to.n && there && there != old)
        return false;
    if (from.n)
        (void)mz_index_put(&m->by_address, from, NULL);
    if (to.n)
        (void)mz_index_put(&m->by_address, to, w);
    return true;
}

bool model_patch_pod(struct model_patch *p, const struct mz_store_change *c)
{
    struct mz_model *m = p->d.m;
    const struct mz_str key =
        mz_arena_printf(m->arena, "%.*s/%.*s", MZ_STR_ARG(c->ns), MZ_STR_ARG(c->name));
    const struct mz_workload *old = mz_index_get(m->by_workload, key);
    const struct mz_doc *doc = mz_store_get(p->d.store, c->key);
    const struct mz_workload *w = doc ? model_make_pod(&p->d, doc, NULL) : NULL;
    if (m->selecting)
        return false;
    if (old && w && old->hash == w->hash && old->gone == w->gone) { /* its readiness, perhaps */
        touch_services(p, c->ns, key, NULL, w, MZ_STR(""));
        return true;
    }
    if (old == w)
        return true;
    if (model_is_given(m, address_of(w)))
        return false;
    (void)mz_index_put(&m->by_workload, key, w);
    if (!move_address(m, address_of(old), address_of(w), old, w))
        return false;
    touch_services(p, c->ns, key, old, w, address_of(w));
    if (old)
        *mz_vec_push(&p->workloads, MZ_MEM_CONFIG) = old;
    if (w)
        *mz_vec_push(&p->workloads, MZ_MEM_CONFIG) = w;
    return true;
}
