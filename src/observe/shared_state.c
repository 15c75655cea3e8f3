#include "observe/shared_state.h"

#include "base/map.h"

struct shared {
    struct mz_shared_state base;
    struct mz_arena *arena;
    struct mz_map objects;
};

static const struct shared *of(const struct mz_shared_state *s)
{
    return (const struct shared *)(const void *)s;
}

static void destroy(struct mz_shared_state *s)
{
    struct shared *own = (struct shared *)(void *)s;
    mz_map_fini(&own->objects);
    mz_arena_destroy(own->arena);
}

static bool goes_along(const struct mz_filter_object *o)
{
    return o->sharing != MZ_SHARING_NONE && o->copy;
}

static void add(struct shared *s, struct mz_str name, const struct mz_filter_object *o)
{
    struct mz_filter_object *copy = o->copy(o, s->arena);
    copy->sharing = o->sharing == MZ_SHARING_TRANSITIVE ? MZ_SHARING_TRANSITIVE : MZ_SHARING_NONE;
    copy->read_only = o->read_only;
    (void)mz_map_put(&s->objects, mz_arena_dup(s->arena, name), copy);
    if (o->hash) /* the order of a map is nobody's: a sum */
        s->base.key += mz_xxh64(name.p, name.n, o->hash(o));
}

struct mz_shared_state *mz_shared_state_create(const struct mz_stream_info *i)
{
    struct shared *s = NULL;
    if (!i->filter_state)
        return NULL;
    mz_map_foreach (e, i->filter_state) {
        if (!goes_along(e->value))
            continue;
        if (!s) {
            struct mz_arena *a = mz_arena_create(MZ_MEM_CONN);
            s = mz_arena_new0(a, struct shared);
            s->arena = a;
            s->base = (struct mz_shared_state){ .refs = 1, .destroy = destroy };
            mz_map_init(&s->objects, MZ_MEM_CONN);
        }
        add(s, e->key, e->value);
    }
    return s ? &s->base : NULL;
}

const struct mz_filter_object *mz_shared_state_get(const struct mz_shared_state *s,
                                                   struct mz_str name)
{
    return s ? mz_map_get(&of(s)->objects, name) : NULL;
}

void mz_shared_state_put(const struct mz_shared_state *s, struct mz_stream_info *into)
{
    if (s)
        mz_info_inherit_state(into, &of(s)->objects);
}
