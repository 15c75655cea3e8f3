/* One stream: what came goes to those who watch it. */
#include "xds/mux_priv.h"

/* @u NULL: what came is none. */
static void deliver_one(struct mz_xds_watch *w, const struct mz_xds_update *u, bool *io_ok,
                        struct mz_err *err)
{
    struct mz_err one;
    if (!u) {
        if (w->ops->refused)
            w->ops->refused(w->arg);
        return;
    }
    bool ok = w->ops->update(w->arg, u, &one);
    if (!ok && *io_ok)
        *err = one;
    *io_ok = *io_ok && ok;
}

/* The watch behind @last, if that is still there; NULL: none. @last NULL: the first. */
static struct mz_xds_watch *watch_behind(struct mz_list *watches, const struct mz_xds_watch *last)
{
    struct mz_list *at = last ? watches : watches->next;
    mz_list_foreach (it, watches)
        if (last && it == &last->link)
            at = it->next;
    return at == watches ? NULL : MZ_CONTAINER(at, struct mz_xds_watch, link);
}

static void deliver_every(struct type_state *s, const struct mz_xds_update *u, bool *io_ok,
                          struct mz_err *err)
{
    struct mz_xds_watch *last = NULL;
    while ((last = watch_behind(&s->every, last)) != NULL)
        deliver_one(last, u, io_ok, err);
}

/* A callback may end any watch, and others may come: each is found anew by its place. */
static void deliver_named(struct named *n, const struct mz_xds_update *u, bool *io_ok,
                          struct mz_err *err)
{
    struct mz_xds_mux *m = n->mux;
    enum mz_xds_type t = n->type;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str name = mz_arena_dup(a, n->name);
    struct mz_xds_watch *last = NULL;
    for (;;) {
        n = mux_named(m, t, name, false);
        last = n ? watch_behind(&n->watches, last) : NULL;
        if (!last)
            break;
        deliver_one(last, u, io_ok, err);
    }
    mz_arena_destroy(a);
}

/* ---- "space/name" ---- */

struct spaces {
    struct mz_xds_mux *mux;
    enum mz_xds_type type;
    const struct mz_xds_update *all;
    struct mz_arena *arena;
    struct mz_map seen;
};

static void deliver_space(struct spaces *s, struct mz_str space, bool *io_ok, struct mz_err *err)
{
    const struct mz_xds_update *u = s->all;
    struct named *n = mux_named(s->mux, s->type, space, false);
    if (!n || mz_map_put(&s->seen, space, s))
        return;
    struct mz_resource *v = mz_arena_alloc0(s->arena, mz_mul(u->n + 1, sizeof(*v)));
    struct mz_str *gone = mz_arena_alloc0(s->arena, mz_mul(u->n_removed + 1, sizeof(*gone)));
    struct mz_answered *names =
        mz_arena_alloc0(s->arena, mz_mul(u->n_answered + 1, sizeof(*names)));
    struct mz_xds_update own = {
        .version = u->version, .v = v, .removed = gone, .answered = names
    };
    for (size_t i = 0; i < u->n; i++)
        if (mz_str_eq(mux_space_of(u->v[i].name), space))
            v[own.n++] = u->v[i];
    for (size_t i = 0; i < u->n_removed; i++)
        if (mz_str_eq(mux_space_of(u->removed[i]), space))
            gone[own.n_removed++] = u->removed[i];
    for (size_t i = 0; i < u->n_answered; i++)
        if (mz_str_eq(mux_space_of(u->answered[i].name), space))
            names[own.n_answered++] = u->answered[i];
    deliver_named(n, &own, io_ok, err);
}

/* To all names that are watched. */
static void deliver_all(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_xds_update *u,
                        bool *io_ok, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    MZ_VEC(struct mz_str) names = { 0 };
    mz_map_foreach (it, &state_of(m, t)->names)
        *mz_vec_push(&names, MZ_MEM_XDS) = mz_arena_dup(a, it->key);
    mz_vec_foreach (name, &names) {
        struct named *n = mux_named(m, t, *name, false);
        if (n)
            deliver_named(n, u, io_ok, err);
    }
    mz_vec_free(&names, MZ_MEM_XDS);
    mz_arena_destroy(a);
}

static bool deliver_spaces(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_xds_update *u,
                           struct mz_err *err)
{
    struct spaces s = { .mux = m, .type = t, .all = u, .arena = mz_arena_create(MZ_MEM_XDS) };
    bool ok = true;
    mz_map_init(&s.seen, MZ_MEM_XDS);
    for (size_t i = 0; i < u->n_answered; i++)
        deliver_space(&s, mux_space_of(u->answered[i].name), &ok, err);
    for (size_t i = 0; i < u->n_removed; i++)
        deliver_space(&s, mux_space_of(u->removed[i]), &ok, err);
    /* A response without anything tells those who wait for their first that there is nothing. */
    const struct mz_xds_update none = { .version = MZ_STR("") };
    if (!u->n_answered && !u->n_removed)
        deliver_all(m, t, &none, &ok, err);
    mz_map_fini(&s.seen);
    mz_arena_destroy(s.arena);
    return ok;
}

/* ---- collections ---- */

/* What of @u is of the collection. Its watches see one update, as those of a whole type do. */
static void deliver_glob(struct named *n, const struct mz_xds_update *u, bool *io_ok,
                         struct mz_err *err)
{
    struct mz_xds_mux *m = n->mux;
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_resource *v = mz_arena_alloc0(a, mz_mul(u->n + 1, sizeof(*v)));
    struct mz_str *gone = mz_arena_alloc0(a, mz_mul(u->n_removed + 1, sizeof(*gone)));
    struct mz_xds_update own = {
        .version = u->version, .v = v, .removed = gone, .whole = u->whole
    };
    for (size_t i = 0; i < u->n; i++)
        if (mux_watched(m, n->type, u->v[i].name) == n)
            v[own.n++] = u->v[i];
    for (size_t i = 0; i < u->n_removed; i++)
        if (mux_watched(m, n->type, u->removed[i]) == n)
            gone[own.n_removed++] = u->removed[i];
    /* A response about nothing says that there is nothing; one about others only says nothing. */
    if (own.n || own.n_removed || own.whole || (!u->n && !u->n_removed))
        deliver_named(n, &own, io_ok, err);
    mz_arena_destroy(a);
}

static void deliver_globs(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_xds_update *u,
                          bool *io_ok, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct type_state *s = state_of(m, t);
    struct mz_str *names = mz_arena_alloc0(a, mz_mul(s->n_globs + 1, sizeof(*names)));
    size_t n = 0;
    mz_map_foreach (it, &s->names) {
        const struct named *g = it->value;
        if (g->glob && !mz_list_empty(&g->watches) && n < s->n_globs)
            names[n++] = mz_arena_dup(a, g->name);
    }
    for (size_t i = 0; i < n; i++) { /* a callback may have ended it */
        struct named *g = mux_named(m, t, names[i], false);
        if (g && g->glob && !mz_list_empty(&g->watches))
            deliver_glob(g, u, io_ok, err);
    }
    mz_arena_destroy(a);
}

bool mux_deliver(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_xds_update *u,
                 struct mz_err *err)
{
    struct type_state *s = state_of(m, t);
    bool ok = true;
    if (type_has_spaces(t))
        return deliver_spaces(m, t, u, err);
    deliver_every(s, u, &ok, err);
    for (size_t i = 0; s->n_watched && i < u->n; i++) {
        struct named *n = mux_watched(m, t, u->v[i].name);
        const struct mz_xds_update one = { .version = u->version, .v = &u->v[i], .n = 1 };
        if (n && !n->glob)
            deliver_named(n, &one, &ok, err);
    }
    for (size_t i = 0; s->n_watched && i < u->n_removed; i++) {
        struct named *n = mux_watched(m, t, u->removed[i]);
        const struct mz_xds_update one = { .version = u->version,
                                           .removed = &u->removed[i],
                                           .n_removed = 1 };
        if (n && !n->glob)
            deliver_named(n, &one, &ok, err);
    }
    if (s->n_globs)
        deliver_globs(m, t, u, &ok, err);
    return ok;
}

void mux_refuse(struct mz_xds_mux *m, enum mz_xds_type t, const struct mz_err *err)
{
    struct type_state *s = state_of(m, t);
    char text[1600];
    struct mz_err none;
    bool ok = true;
    MZ_LOG(WARN, config, "gRPC config for type.googleapis.com/%s rejected: %s",
           xds_types[t].descriptor->name, mz_err_text(err, text, sizeof(text)));
    deliver_every(s, NULL, &ok, &none);
    deliver_all(m, t, NULL, &ok, &none);
}
