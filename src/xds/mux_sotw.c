/* State of the world: a request names all that is wanted, a response of CDS or LDS is all there is. */
#include "xds/mux_priv.h"

/* The names as they stand in a request: made once for as long as they stay, since each answer repeats them all. */
static void names_pack(struct mz_xds_mux *m, enum mz_xds_type t)
{
    struct type_state *s = state_of(m, t);
    struct mz_buf b;
    (void)m;
    mz_buf_init(&b);
    mz_map_foreach (it, &s->names) {
        const struct named *n = it->value;
        if (!mz_list_empty(&n->watches) && !n->left_out)
            mz_wire_put_bytes(&b, 3, n->name);
    }
    mz_free(MZ_MEM_XDS, (void *)(uintptr_t)s->packed_names.p);
    char *mem = mz_alloc(MZ_MEM_XDS, mz_buf_len(&b) + 1);
    s->packed_names = (struct mz_str){ mem, mz_buf_copyout(&b, 0, mem, mz_buf_len(&b)) };
    s->names_valid = s->names_new = true;
    mz_buf_fini(&b);
}

void sotw_request(struct mz_xds_mux *m, enum mz_xds_type t, struct mz_buf *out)
{
    struct type_state *s = state_of(m, t);
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    pb_DiscoveryRequest rq = pb_DiscoveryRequest__INIT;
    pb_Status detail = pb_Status__INIT;
    rq.version_info = s->version ? s->version : rq.version_info;
    rq.response_nonce = s->nonce ? s->nonce : rq.response_nonce;
    rq.type_url = (char *)(uintptr_t)mz_arena_printf(a, "type.googleapis.com/%s",
                                                     xds_types[t].descriptor->name)
                      .p;
    if (s->error) {
        detail.code = 13; /* INTERNAL, as Envoy's */
        detail.message = s->error;
        rq.error_detail = &detail;
    }
    mz_buf_append_str(out, mz_msg_pack_alloc(&rq.base, a));
    if (!m->node_sent || !m->opts.node_once)
        mz_wire_put_bytes(out, 2, m->node);
    if (!s->names_valid)
        names_pack(m, t);
    mz_buf_append_str(out, s->packed_names);
    mz_arena_destroy(a);
}

void sotw_requested(struct mz_xds_mux *m, enum mz_xds_type t)
{
    struct type_state *s = state_of(m, t);
    MZ_VEC(struct named *) gone = { 0 };
    if (!s->names_new)
        return;
    s->names_new = false;
    mz_map_foreach (it, &s->names) {
        struct named *n = it->value;
        n->asked = !mz_list_empty(&n->watches) && !n->left_out;
        if (mz_list_empty(&n->watches))
            *mz_vec_push(&gone, MZ_MEM_XDS) = n;
    }
    mz_vec_foreach (n, &gone)
        mux_named_drop(*n);
    mz_vec_free(&gone, MZ_MEM_XDS);
}

static bool is_whole(enum mz_xds_type t)
{
    return t == MZ_XDS_CLUSTER || t == MZ_XDS_LISTENER || t == MZ_XDS_SCOPED_ROUTE ||
           t == MZ_XDS_WORKLOAD;
}

/* A resource whose time to live was confirmed has no body. */
static bool resources_open(struct mz_xds_mux *m, enum mz_xds_type t, const pb_DiscoveryResponse *r,
                           struct mz_arena *a, struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_resource *v = mz_arena_alloc0(a, mz_mul(r->n_resources + 1, sizeof(*v)));
    bool heartbeats = false;
    u->v = v;
    for (size_t i = 0; i < r->n_resources; i++) {
        struct wrapped w;
        if (!resource_unwrap(r->resources[i], t, u->version, a, &w, err))
            return mz_err_at(err, "resources[%zu]", i);
        if (w.ttl_ms || w.heartbeat || mux_resource(m, t, w.r.name, false)) {
            struct named *n = mux_resource(m, t, w.r.name, true);
            mux_ttl(n, w.ttl_ms);
            mux_named_drop(n);
        }
        heartbeats |= w.heartbeat;
        if (!w.heartbeat)
            v[u->n++] = w.r;
    }
    u->whole = is_whole(t) && !heartbeats;
    return true;
}

static bool response_take(struct mz_xds_mux *m, enum mz_xds_type t, const pb_DiscoveryResponse *r,
                          struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_xds_update u = { .version = mz_str_c(r->version_info) };
    bool ok = resources_open(m, t, r, a, &u, err);
    if (!ok)
        mux_refuse(m, t, err);
    if (ok && (u.n || u.whole))
        ok = mux_deliver(m, t, &u, err);
    mz_arena_destroy(a);
    return ok;
}

bool sotw_received(struct mz_xds_mux *m, struct mz_str bytes, struct mz_err *err)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    const pb_DiscoveryResponse *r =
        (const pb_DiscoveryResponse *)mux_unpack(bytes, &pb_DiscoveryResponse__descriptor, a, err);
    enum mz_xds_type t;
    if (r && mux_head_taken(m, &(struct mux_head){ r->type_url, r->nonce, r->control_plane }, &t)) {
        struct mz_err why;
        bool taken = response_take(m, t, r, &why);
        if (taken)
            mux_keep_text(&state_of(m, t)->version,
                          mz_str_c(r->version_info ? r->version_info : ""));
        (void)mux_answer(m, t, taken, &why);
    }
    mz_arena_destroy(a);
    return r != NULL;
}
