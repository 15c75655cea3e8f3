/* Delta: only what changed, both ways. What is known of a resource is its version, which a new stream begins with. */
#include "xds/mux_priv.h"

void delta_watched(struct named *n)
{
    struct type_state *s = state_of(n->mux, n->type);
    if (n->changed)
        return;
    n->changed = true;
    *mz_vec_push(&s->changes, MZ_MEM_XDS) = n;
}

static void names_put(struct mz_buf *out, const struct type_state *s)
{
    for (size_t i = 0; i < s->changes.n; i++) {
        const struct named *n = s->changes.v[i];
        bool want = !mz_list_empty(&n->watches);
        if (n->space)
            continue;
        if (want && !n->asked)
            mz_wire_put_bytes(out, 3, n->name);
        else if (!want && n->asked)
            mz_wire_put_bytes(out, 4, n->name);
    }
}

static void versions_put(struct mz_buf *out, const struct type_state *s)
{
    mz_map_foreach (it, &((struct type_state *)(uintptr_t)s)->names) {
        const struct named *n = it->value;
        if (!n->version || (mz_list_empty(&n->watches) && mz_list_empty(&s->every) &&
                            !type_has_spaces(n->type) && !s->n_globs))
            continue;
        struct mz_buf entry;
        mz_buf_init(&entry);
        mz_wire_put_bytes(&entry, 1, n->name);
        mz_wire_put_bytes(&entry, 2, mz_str_c(n->version));
        mz_wire_put_bytes(out, 5, mz_buf_linearize(&entry, mz_buf_len(&entry)));
        mz_buf_fini(&entry);
    }
}

void delta_request(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_buf *out)
{
    struct type_state *s = state_of(m, t);
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    pb_DeltaDiscoveryRequest rq = pb_DeltaDiscoveryRequest__INIT;
    pb_Status detail = pb_Status__INIT;
    rq.type_url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                     xds_types[t].descriptor->name)
                      .p;
    if (s->answer_due && s->nonce)
        rq.response_nonce = s->nonce;
    if (s->answer_due && s->error) {
        detail.code = 13;
        detail.message = s->error;
        rq.error_detail = &detail;
    }
    mz_buf_append_str(out, mz_msg_pack_alloc(&rq.base, a));
    if (!m->node_sent)
        mz_wire_put_bytes(out, 1, m->node);
    /* Every resource: the first request of the type names none; beside names it has to be said. */
    bool every = type_every(s) && !s->every_off;
    if (every && !s->every_asked && (s->n_watched > s->n_spaces || s->first_sent))
        mz_wire_put_bytes(out, 3, MZ_STR("*"));
    if (!every && s->every_asked)
        mz_wire_put_bytes(out, 4, MZ_STR("*"));
    names_put(out, s);
    if (!s->first_sent)
        versions_put(out, s);
    mz_arena_destroy(a);
}

void delta_requested(struct mz_xds_mux *m, enum mz_xds_type t)
{
    struct type_state *s = state_of(m, t);
    s->every_asked = type_every(s) && !s->every_off;
    for (size_t i = 0; i < s->changes.n; i++) {
        struct named *n = s->changes.v[i];
        n->changed = false;
        n->asked = !mz_list_empty(&n->watches);
        if (!n->asked && mz_list_empty(&s->every))
            mux_keep_text(&n->version, (struct mz_str){ 0 });
        mux_named_drop(n);
    }
    s->changes.n = 0;
}

/* ---- responses ---- */

struct taking {
    struct mz_xds_mux *mux;
    enum mz_xds_type type;
    struct mz_xds_update u;
    struct mz_arena *arena;
};

/* All names that a response is about: of what exists, and of what does not (no body). */
static void note_answered(struct taking *k, const pb_DeltaDiscoveryResponse *r)
{
    size_t n = 0;
    for (size_t i = 0; i < r->n_resources; i++)
        n += 1 + r->resources[i]->n_aliases;
    struct mz_answered *v = mz_arena_alloc0(k->arena, mz_mul(n + 1, sizeof(*v)));
    k->u.answered = v;
    for (size_t i = 0; i < r->n_resources; i++) {
        const pb_Resource *m = r->resources[i];
        v[k->u.n_answered++] = (struct mz_answered){ mz_str_c(m->name), m->resource != NULL };
        for (size_t j = 0; j < m->n_aliases; j++)
            v[k->u.n_answered++] =
                (struct mz_answered){ mz_str_c(m->aliases[j]), m->resource != NULL };
    }
}

static bool open_all(struct taking *k, const pb_DeltaDiscoveryResponse *r, struct mz_err *err)
{
    struct mz_resource *v = mz_arena_alloc0(k->arena, mz_mul(r->n_resources + 1, sizeof(*v)));
    struct mz_str *gone =
        mz_arena_alloc0(k->arena, mz_mul(r->n_removed_resources + 1, sizeof(*gone)));
    k->u.v = v;
    for (size_t i = 0; i < r->n_resources; i++) {
        struct wrapped w;
        if (!resource_of_message(r->resources[i], k->type, k->u.version, &w, err))
            return mz_err_at(err, "resources[%zu]", i);
        struct named *n = mux_resource(k->mux, k->type, w.r.name, w.ttl_ms != 0);
        if (n)
            mux_ttl(n, w.ttl_ms);
        if (!w.heartbeat)
            v[k->u.n++] = w.r;
    }
    for (size_t i = 0; i < r->n_removed_resources; i++)
        gone[k->u.n_removed++] = mz_str_c(r->removed_resources[i]);
    k->u.removed = gone;
    if (type_has_spaces(k->type))
        note_answered(k, r);
    return true;
}

static void versions_keep(struct taking *k)
{
    bool every = !mz_list_empty(&state_of(k->mux, k->type)->every);
    for (size_t i = 0; i < k->u.n; i++) {
        struct mz_str name = k->u.v[i].name;
        const struct named *of = mux_watched(k->mux, k->type, name);
        bool wanted = every || (of && of->glob) ||
                      (type_has_spaces(k->type) && mux_space_watched(k->mux, k->type, name));
        struct named *n = mux_resource(k->mux, k->type, name, wanted);
        if (n)
            mux_keep_text(&n->version, k->u.v[i].version.p ? k->u.v[i].version : MZ_STR(""));
    }
    for (size_t i = 0; i < k->u.n_removed; i++) {
        struct named *n = mux_resource(k->mux, k->type, k->u.removed[i], false);
        if (!n)
            continue;
        mux_keep_text(&n->version, (struct mz_str){ 0 });
        mux_named_drop(n);
    }
}

static bool response_take(struct mz_xds_mux *m, enum mz_xds_type t,
                          const pb_DeltaDiscoveryResponse *r, struct mz_err *err)
{
    struct taking k = { .mux = m, .type = t, .arena = mz_arena_create(MZ_MEM_XDS) };
    k.u.version = mz_str_c(r->system_version_info);
    bool ok = open_all(&k, r, err);
    if (!ok)
        mux_refuse(m, t, err);
    /* An answer without anything tells the one who asked for all that there is nothing. */
    if (ok && (k.u.n || k.u.n_removed || !mz_list_empty(&state_of(m, t)->every) ||
               type_has_spaces(t) || state_of(m, t)->n_globs))
        ok = mux_deliver(m, t, &k.u, err);
    if (ok) /* refused: the server sends it again to a stream that begins anew */
        versions_keep(&k);
    mz_arena_destroy(k.arena);
    return ok;
}

bool delta_received(struct mz_xds_mux *m, struct mz_str bytes, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    const pb_DeltaDiscoveryResponse *r = (const pb_DeltaDiscoveryResponse *)mux_unpack(
        bytes, &pb_DeltaDiscoveryResponse__descriptor, a, err);
    enum mz_xds_type t;
    if (r && mux_head_taken(m, &(struct mux_head){ r->type_url, r->nonce, r->control_plane }, &t)) {
        struct mz_err why;
        (void)mux_answer(m, t, response_take(m, t, r, &why), &why);
    }
    mz_arena_destroy(a);
    return r != NULL;
}
