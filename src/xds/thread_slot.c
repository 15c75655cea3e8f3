#include "xds/thread_slot.h"

#include "base/log.h"

struct mz_thread_slot {
    unsigned refs; /* atomic: users, posts on their way */
    const struct mz_shared_ops *ops;
    struct mz_xds *xds;
    unsigned n;
    const void *v[]; /* by slot of statistics; each touched by its thread only */
};

struct mz_thread_slot *mz_thread_slot_create(struct mz_xds *x, const struct mz_shared_ops *ops)
{
    unsigned n = mz_xds_env(x)->n_workers + 1;
    struct mz_thread_slot *s = mz_alloc0(MZ_MEM_XDS, sizeof(*s) + n * sizeof(*s->v));
    s->refs = 1;
    s->ops = ops;
    s->xds = x;
    s->n = n;
    return s;
}

struct mz_thread_slot *mz_thread_slot_ref(struct mz_thread_slot *s)
{
    __atomic_fetch_add(&s->refs, 1, __ATOMIC_RELAXED);
    return s;
}

void mz_thread_slot_unref(struct mz_thread_slot *s)
{
    if (!s || __atomic_fetch_sub(&s->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (unsigned i = 0; i < s->n; i++)
        if (s->v[i])
            s->ops->unref(s->v[i]);
    mz_free(MZ_MEM_XDS, s);
}

struct swap {
    struct mz_thread_slot *slot; /* reference */
    const void *object;          /* reference */
    unsigned at;
};

static void put(struct mz_thread_slot *s, unsigned at, const void *take)
{
    const void *old = s->v[at];
    s->v[at] = take;
    if (old)
        s->ops->unref(old);
}

static void swap_posted(struct mz_loop *l, void *arg)
{
    (void)l;
    struct swap *w = arg;
    put(w->slot, w->at, w->object);
    mz_thread_slot_unref(w->slot);
    mz_free(MZ_MEM_XDS, w);
}

void mz_thread_slot_set(struct mz_thread_slot *s, const void *take)
{
    const struct mz_xds_env *env = mz_xds_env(s->xds);
    for (unsigned i = 0; i + 1 < s->n; i++) {
        struct swap *w = mz_new0(MZ_MEM_XDS, struct swap);
        s->ops->ref(take);
        *w = (struct swap){ mz_thread_slot_ref(s), take, i + 1 };
        mz_loop_post(env->workers[i], swap_posted, w);
    }
    put(s, 0, take);
}

void mz_thread_slot_put(struct mz_thread_slot *s, const void *take)
{
    MZ_ASSERT(mz_stats_slot < s->n);
    put(s, mz_stats_slot, take);
}

const void *mz_thread_slot_get(const struct mz_thread_slot *s)
{
    return mz_stats_slot < s->n ? s->v[mz_stats_slot] : NULL;
}
