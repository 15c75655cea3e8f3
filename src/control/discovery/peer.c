#include "control/discovery/peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

enum { MAX_NAMES = 100000, NACK_TEXT = 512, MAX_STALE = 100, LONG_LIST = 16 /* names */ };

struct refusal {
    int code;
    char text[NACK_TEXT], resource[NACK_TEXT], object[NACK_TEXT];
};
struct sub {                 /* one type */
    bool on, waiting, dirty; /* dirty: something is different since the last response */
    bool fresh; /* asked for and not answered yet: an answer must come, even an empty one */
    bool wildcard;
    /* Wildcard: what the client has. Named: what it asked for; version 0 is what it has not got. NULL: nothing. */
    struct mz_set *have;
    MZ_VEC(struct mz_out *)
    stale; /* of a named type, without dirty: only these of what it has are to be looked at */
    uint64_t nonce; /* of the last response; 0: none */
    uint64_t sent, acked, nacked, nonce_acked, sent_us;
    struct refusal *refusal; /* of the last response; NULL: it was not refused */
};
struct mz_peer {
    struct mz_peer_env env;
    struct mz_proxy *proxy;
    struct mz_view *view; /* NULL: to be made */
    struct sub subs[MZ_XDS_TYPE__COUNT];
    uint64_t listens; /* what its listeners were made of (mz_view_listens) */
    uint64_t nonces;
    uint64_t changed_us; /* the oldest change that it has not answered, monotonic; 0: none */
};

static const enum mz_xds_type order[] = { MZ_XDS_CLUSTER,   MZ_XDS_ENDPOINT, MZ_XDS_LISTENER,
                                          MZ_XDS_ROUTE,     MZ_XDS_SECRET,   MZ_XDS_EXTENSION,
                                          MZ_XDS_NAME_TABLE };

void mz_peer_counts_init(struct mz_peer_counts *c)
{
    static const double sizes[] = { 1, 1e4, 1e6, 4e6, 1e7, 4e7 },
                        delays[] = { .1, .5, 1, 3, 5, 10, 20, 30 };
    *c = (struct mz_peer_counts){ .convergence = { .bounds = delays,
                                                   .bounds_n = MZ_COUNT(delays) } };
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++)
        c->sizes[t] = (struct mz_distribution){ .bounds = sizes, .bounds_n = MZ_COUNT(sizes) };
}

struct mz_peer *mz_peer_create(const struct mz_peer_env *env)
{
    struct mz_peer *p = mz_new0(MZ_MEM_XDS, struct mz_peer);
    p->env = *env;
    return p;
}

static void stale_clear(struct sub *s)
{
    mz_vec_foreach (o, &s->stale)
        mz_out_unref(*o);
    mz_vec_free(&s->stale, MZ_MEM_XDS);
}

/* Takes the reference. */
static void have_set(struct sub *s, struct mz_set *to)
{
    mz_set_unref(s->have);
    s->have = to;
}

void mz_peer_identify(struct mz_peer *p, struct mz_str ns, struct mz_str account)
{
    p->env.ns = ns;
    p->env.account = account;
}

void mz_peer_destroy(struct mz_peer *p)
{
    if (!p)
        return;
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        have_set(&p->subs[t], NULL);
        stale_clear(&p->subs[t]);
        mz_free(MZ_MEM_XDS, p->subs[t].refusal);
    }
    mz_view_destroy(p->view);
    mz_proxy_destroy(p->proxy);
    mz_free(MZ_MEM_XDS, p);
}

/* ---- what the client has ---- */

static struct mz_sets *sets(const struct mz_peer *p)
{
    return mz_translator_sets(p->env.translator);
}

/* Stands for a resource that we only know by name and version. */
static struct mz_out *placeholder(struct mz_peer *p, struct mz_str name, uint64_t version)
{
    if (!version)
        return mz_bundles_name(p->env.bundles, name);
    pb_Any nothing = pb_Any__INIT;
    struct mz_out *o = mz_out_create(name, &nothing.base);
    o->version = version;
    return o;
}

/* Changes to one list of what a client has, made at once. */
struct edits {
    MZ_VEC(struct mz_set_edit) v; /* a reference each */
};

static void edit(struct edits *e, struct mz_str name, struct mz_out *out /* taken; NULL: it goes */)
{
    *mz_vec_push(&e->v, MZ_MEM_XDS) = (struct mz_set_edit){ name, out };
}

static void edits_apply(struct mz_peer *p, struct sub *s, struct edits *e)
{
    size_t n = 0;
    mz_sort(e->v.v, e->v.n, sizeof(*e->v.v), mz_set_edit_order);
    for (size_t i = 0; i < e->v.n; i++)
        if (n && mz_str_eq(e->v.v[n - 1].name, e->v.v[i].name))
            mz_out_unref(e->v.v[i].out);
        else
            e->v.v[n++] = e->v.v[i];
    if (n)
        have_set(s, mz_set_edit(sets(p), s->have, e->v.v, n));
    for (size_t i = 0; i < n; i++)
        mz_out_unref(e->v.v[i].out);
    mz_vec_free(&e->v, MZ_MEM_XDS);
}

static bool is_stale(const struct sub *s, const struct mz_out *o)
{
    for (size_t i = 0; i < s->stale.n; i++)
        if (mz_str_eq(s->stale.v[i]->name, o->name))
            return true;
    return false;
}

static void mark(struct sub *s, struct mz_out *o)
{
    if (s->dirty || is_stale(s, o))
        return;
    if (s->stale.n < MAX_STALE)
        *mz_vec_push(&s->stale, MZ_MEM_XDS) = mz_out_ref(o);
    else
        s->dirty = true;
}

/* A cluster that is sent again waits for its endpoints again. */
static void forget_endpoints(struct mz_peer *p, const struct mz_set *had,
                             const struct mz_step *step)
{
    struct sub *s = &p->subs[MZ_XDS_ENDPOINT];
    struct edits e = { 0 };
    for (size_t i = 0; had && i < step->changed_n; i++) {
        const struct mz_str name = step->changed[i]->name;
        struct mz_out *mine = mz_set_find(s->have, name);
        if (!mine || !mine->version || !mz_set_find(had, name))
            continue;
        mark(s, mine);
        edit(&e, name, placeholder(p, name, 0));
    }
    edits_apply(p, s, &e);
}

/* ---- responses ---- */

static struct mz_str hex(uint64_t v, char out[17])
{
    mz_u64_hex(v, out);
    out[16] = 0;
    return (struct mz_str){ out, 16 };
}

static unsigned mode_of(const struct mz_peer *p, enum mz_xds_type t)
{
    if (t == MZ_XDS_SECRET)
        return MZ_STEP_SECRET | (p->env.delta ? MZ_STEP_DELTA : MZ_STEP_SOME);
    if (p->env.delta)
        return MZ_STEP_DELTA;
    return p->subs[t].wildcard || t == MZ_XDS_CLUSTER || t == MZ_XDS_LISTENER ? MZ_STEP_WHOLE
                                                                              : MZ_STEP_SOME;
}

static bool send_response(struct mz_peer *p, enum mz_xds_type t, struct mz_str url,
                          const struct mz_set *to, const struct mz_step *step)
{
    struct sub *s = &p->subs[t];
    struct mz_buf b, resources;
    char version[17], nonce[17];
    mz_buf_init(&b);
    mz_buf_init(&resources);
    mz_wire_put_bytes(&b, 1, hex(mz_set_hash(to), version));
    mz_buf_copy(&resources, &step->resources);
    mz_buf_move_all(&b, &resources);
    mz_wire_put_bytes(&b, 4, url);
    mz_wire_put_bytes(&b, 5, hex(p->nonces + 1, nonce));
    for (size_t i = 0; p->env.delta && i < step->removed_n; i++)
        mz_wire_put_bytes(&b, 6, step->removed[i]);
    const size_t bytes = mz_buf_len(&b);
    const bool ok = p->env.send(p->env.arg, &b);
    if (ok && p->env.counts) {
        p->env.counts->sent[t]++;
        mz_distribution_add(&p->env.counts->sizes[t], (double)bytes);
    }
    mz_buf_fini(&b);
    mz_buf_fini(&resources);
    if (ok) {
        s->nonce = ++p->nonces;
        s->sent++;
        s->sent_us = mz_clock->wall_us();
    }
    return ok;
}

/*
 * That there is no such Secret is told at once, to whoever may ask and by the variant that can say it: a gateway's listener waits
 * for that, its readiness for the listener. Later only beside one that there is.
 */
static bool is_needed(struct mz_peer *p, enum mz_xds_type t, const struct mz_step *step)
{
    if (t == MZ_XDS_SECRET)
        return step->changed_n ||
               (p->subs[t].fresh && p->env.ns.n && p->env.delta && step->removed_n);
    return p->subs[t].fresh || step->changed_n ||
           (step->removed_n && mode_of(p, t) != MZ_STEP_SOME);
}

static void make_view(struct mz_peer *p)
{
    if (!p->view)
        p->view = mz_view_create(p->env.translator, p->proxy);
}

/* What is not there, or not any more. A reference. */
static struct mz_out *without(struct mz_peer *p, enum mz_xds_type t, struct mz_out *had)
{
    return t == MZ_XDS_SECRET && had->version ? mz_out_ref(had) : placeholder(p, had->name, 0);
}

/* By name what there is of it now, else the name alone. */
static struct mz_set *answers(struct mz_peer *p, enum mz_xds_type t)
{
    struct sub *s = &p->subs[t];
    MZ_VEC(struct mz_str) names = { 0 };
    MZ_VEC(struct mz_out *) all = { 0 };
    struct mz_outs now = { 0 };
    struct mz_set_at at = { 0 };
    size_t k = 0;
    for (struct mz_out *o; (o = mz_set_next(s->have, &at));)
        *mz_vec_push(&names, MZ_MEM_XDS) = o->name;
    mz_translate(p->view, t, names.v, names.n, &now);
    at = (struct mz_set_at){ 0 };
    for (size_t i = 0; i < names.n; i++) {
        struct mz_out *had = mz_set_next(s->have, &at);
        while (k < now.v.n && mz_str_cmp(now.v.v[k]->name, names.v[i]) < 0)
            k++; /* added by a patch: nobody asked for it */
        const bool found = k < now.v.n && mz_str_eq(now.v.v[k]->name, names.v[i]);
        *mz_vec_push(&all, MZ_MEM_XDS) = found ? mz_out_ref(now.v.v[k]) : without(p, t, had);
    }
    struct mz_set *set = mz_set_create(sets(p), all.v, all.n);
    mz_vec_foreach (o, &all)
        mz_out_unref(*o);
    mz_vec_free(&all, MZ_MEM_XDS);
    mz_vec_free(&names, MZ_MEM_XDS);
    mz_outs_fini(&now);
    return set;
}

/* All of a type as it is now. A reference. */
static struct mz_set *all_of(struct mz_peer *p, enum mz_xds_type t)
{
    const struct mz_set *have = p->subs[t].have;
    make_view(p);
    if (t == MZ_XDS_LISTENER)
        p->listens = mz_view_listens(p->view);
    if (p->subs[t].wildcard)
        return mz_view_all(p->view, t);
    const uint64_t whom = mz_view_kind(p->view, t);
    struct mz_set *set = whom ? mz_bundles_known(p->env.bundles, whom, t, have) : NULL;
    if (set)
        return mz_set_ref(set);
    set = answers(p, t);
    if (whom)
        mz_bundles_know(p->env.bundles, whom, t, have, set);
    return set;
}

static int compare_names(const void *a, const void *b)
{
    const struct mz_str *x = a, *y = b;
    return mz_str_cmp(*x, *y);
}

/* Only what may be different: names of the stale ones, of those that it still has. */
static struct mz_set *stale_of(struct mz_peer *p, enum mz_xds_type t)
{
    struct sub *s = &p->subs[t];
    MZ_VEC(struct mz_str) names = { 0 };
    struct mz_outs now = { 0 };
    MZ_VEC(struct mz_set_edit) e = { 0 };
    make_view(p);
    mz_vec_foreach (o, &s->stale)
        if (mz_set_find(s->have, (*o)->name))
            *mz_vec_push(&names, MZ_MEM_XDS) = (*o)->name;
    mz_sort(names.v, names.n, sizeof(*names.v), compare_names);
    mz_translate(p->view, t, names.v, names.n, &now);
    size_t k = 0;
    for (size_t i = 0; i < names.n; i++) {
        while (k < now.v.n && mz_str_cmp(now.v.v[k]->name, names.v[i]) < 0)
            k++;
        const bool found = k < now.v.n && mz_str_eq(now.v.v[k]->name, names.v[i]);
        if (found && mz_set_find(s->have, names.v[i])->version == now.v.v[k]->version)
            continue;
        *mz_vec_push(&e, MZ_MEM_XDS) =
            (struct mz_set_edit){ names.v[i],
                                  found ? mz_out_ref(now.v.v[k]) : placeholder(p, names.v[i], 0) };
    }
    struct mz_set *set = e.n ? mz_set_edit(sets(p), s->have, e.v, e.n) : mz_set_ref(s->have);
    mz_vec_foreach (x, &e)
        mz_out_unref(x->out);
    mz_vec_free(&e, MZ_MEM_XDS);
    mz_vec_free(&names, MZ_MEM_XDS);
    mz_outs_fini(&now);
    return set;
}

/* Sends what is different of one type, if anything is and if it may. */
static void respond(struct mz_peer *p, enum mz_xds_type t)
{
    struct sub *s = &p->subs[t];
    const bool whole = s->dirty || s->fresh;
    char text[160];
    if (!s->on || s->waiting || !(whole || s->stale.n))
        return;
    const int n =
        snprintf(text, sizeof(text), "type.googleapis.com/%s", mz_translate_descriptor(t)->name);
    const struct mz_str url = { text, (size_t)n };
    struct mz_set *to = whole ? all_of(p, t) : stale_of(p, t);
    if (to == s->have && !s->fresh) {
        s->dirty = false;
        stale_clear(s);
        mz_set_unref(to);
        return;
    }
    const struct mz_step *step =
        mz_bundles_step(p->env.bundles, mode_of(p, t), url, s->have, to, s->fresh);
    if (!is_needed(p, t, step)) {
        s->dirty = false;
        stale_clear(s);
    } else if (send_response(p, t, url, to, step)) {
        if (t == MZ_XDS_CLUSTER)
            forget_endpoints(p, s->have, step);
        have_set(s, mz_set_ref(to)); /* what was sent is what the client has */
        s->dirty = s->fresh = false;
        s->waiting = true;
        stale_clear(s);
    }
    mz_set_unref(to);
}

static void respond_all(struct mz_peer *p)
{
    for (size_t i = 0; i < MZ_COUNT(order); i++)
        respond(p, order[i]);
}

/* ---- requests ---- */

static void look_converged(struct mz_peer *p)
{
    if (!p->changed_us || !mz_peer_settled(p))
        return;
    if (p->env.counts)
        mz_distribution_add(&p->env.counts->convergence,
                            (double)(mz_clock->mono_us() - p->changed_us) / 1e6);
    p->changed_us = 0;
}

static bool take_node(struct mz_peer *p, const pb_Node *node, struct mz_err *err)
{
    if (p->proxy)
        return true; /* a client may repeat it */
    if (!node)
        return mz_err_set(err, "the first request has no node");
    p->proxy = mz_proxy_create(node, err);
    if (p->proxy)
        mz_proxy_verify(p->proxy, p->env.ns, p->env.account);
    return p->proxy != NULL;
}

static bool take_type(struct mz_peer *p, const char *url, enum mz_xds_type *out)
{
    *out = url[0] ? mz_translate_type(mz_str_c(url)) : p->env.only;
    return *out != MZ_XDS_TYPE__COUNT && (p->env.only == MZ_XDS_TYPE__COUNT || p->env.only == *out);
}

/* Resources say in their metadata which object they were made of: /apis/GROUP/VERSION/namespaces/NS/KIND/NAME. */
static void object_of(const struct mz_out *o, char out[NACK_TEXT])
{
    static const char chars[] = "abcdefghijklmnopqrstuvwxyz0123456789-./";
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    const struct mz_str bytes = mz_out_bytes(o, a);
    const ptrdiff_t at = mz_str_find(bytes, MZ_STR("/apis/"));
    struct mz_str path = at < 0 ? MZ_STR("") : mz_str_skip(bytes, (size_t)at + 6), piece[6];
    size_t n = 0;
    while (n < path.n && memchr(chars, path.p[n], sizeof(chars) - 1))
        n++;
    path.n = n;
    n = 0;
    for (struct mz_str one; n < MZ_COUNT(piece) && mz_str_split(&path, '/', &one); n++)
        piece[n] = one;
    if (n == MZ_COUNT(piece))
        (void)snprintf(out, NACK_TEXT, "%.*s/%.*s %.*s %.*s/%.*s", MZ_STR_ARG(piece[0]),
                       MZ_STR_ARG(piece[1]), MZ_STR_ARG(piece[4]), MZ_STR_ARG(piece[3]),
                       MZ_STR_ARG(piece[5]));
    mz_arena_destroy(a);
}

/* Of the names that the reason holds the longest. */
static void nack_cause(struct sub *s, struct refusal *r)
{
    const struct mz_out *cause = NULL;
    struct mz_set_at at = { 0 };
    r->resource[0] = r->object[0] = 0;
    for (const struct mz_out *o; (o = mz_set_next(s->have, &at));)
        if (o->name.n && (!cause || o->name.n > cause->name.n) &&
            mz_str_find(mz_str_c(r->text), o->name) >= 0)
            cause = o;
    if (!cause)
        return;
    (void)snprintf(r->resource, NACK_TEXT, MZ_STR_FMT, MZ_STR_ARG(cause->name));
    object_of(cause, r->object);
}

/* False: it answers to an older response, and says nothing any more. */
static bool take_nonce(struct mz_peer *p, enum mz_xds_type t, const char *nonce,
                       const pb_Status *error)
{
    struct sub *s = &p->subs[t];
    char now[17];
    if (!nonce[0] || !s->on)
        return true; /* nothing was sent on this stream: it tells of one before */
    if (!s->nonce || !mz_str_eq(mz_str_c(nonce), hex(s->nonce, now)))
        return false;
    if (!s->waiting)
        return true; /* only asks for other names */
    s->waiting = false;
    if (!error) {
        s->acked++;
        s->nonce_acked = s->nonce;
        mz_free(MZ_MEM_XDS, s->refusal);
        s->refusal = NULL;
        return true;
    }
    s->nacked++;
    if (p->env.counts)
        p->env.counts->refused[t]++;
    if (!s->refusal)
        s->refusal = mz_new0(MZ_MEM_XDS, struct refusal);
    s->refusal->code = error->code;
    (void)snprintf(s->refusal->text, NACK_TEXT, "%s", error->message);
    nack_cause(s, s->refusal);
    const char *object = s->refusal->object;
    MZ_LOG(WARN, config, "%.*s refused %s: %s%s%s", MZ_STR_ARG(p->proxy->id), mz_translate_short(t),
           s->refusal->text, object[0] ? " (made of " : "", object);
    return true;
}

static int compare_texts(const void *a, const void *b)
{
    const char *const *x = a, *const *y = b;
    return strcmp(*x, *y);
}

/* State of the world: the list replaces the one before. True: there is something new in it. */
static bool replace_names(struct mz_peer *p, struct sub *s, char **v, size_t n)
{
    bool more = false;
    struct mz_set_at at = { 0 };
    MZ_VEC(struct mz_out *) next = { 0 };
    struct mz_out *had = mz_set_next(s->have, &at);
    qsort(v, n, sizeof(*v), compare_texts);
    for (size_t k = 0; k < n && next.n < MAX_NAMES; k++) {
        const struct mz_str name = mz_str_c(v[k]);
        if (k && strcmp(v[k - 1], v[k]) == 0)
            continue;
        while (had && mz_str_cmp(had->name, name) < 0)
            had = mz_set_next(s->have, &at);
        const bool known = had && mz_str_eq(had->name, name);
        *mz_vec_push(&next, MZ_MEM_XDS) = known ? mz_out_ref(had) : placeholder(p, name, 0);
        more |= !known;
    }
    have_set(s, mz_set_create(sets(p), next.v, next.n));
    mz_vec_foreach (o, &next)
        mz_out_unref(*o);
    mz_vec_free(&next, MZ_MEM_XDS);
    return more;
}

static void state_request(struct mz_peer *p, enum mz_xds_type t, const pb_DiscoveryRequest *r)
{
    struct sub *s = &p->subs[t];
    const bool first = !s->on;
    bool more = false;
    s->on = true;
    s->wildcard = !mz_translate_is_named(p->proxy, t);
    if (!s->wildcard && r->n_resource_names)
        more = replace_names(p, s, r->resource_names, r->n_resource_names);
    else if (!s->wildcard)
        have_set(s, NULL);
    s->fresh |= more || (first && (s->wildcard || s->have));
}

static bool is_star(const char *name)
{
    return name[0] == '*' && !name[1];
}

static uint64_t version_parse(const char *text)
{
    char *end;
    const uint64_t v = strtoull(text, &end, 16);
    return end - text == 16 && !*end ? v
                                     : 1; /* not ours: not what we have, and not "has nothing" */
}

/* What a client that comes back has: of a wildcard its own names, else of what it asks for. */
static void take_versions(struct mz_peer *p, struct sub *s, const pb_DeltaDiscoveryRequest *r)
{
    struct edits e = { 0 };
    for (size_t i = 0; i < r->n_initial_resource_versions; i++) {
        const struct mz_str name = mz_str_c(r->initial_resource_versions[i]->key);
        if (mz_set_count(s->have) + e.v.n < MAX_NAMES || mz_set_find(s->have, name))
            edit(&e, name,
                 placeholder(p, name, version_parse(r->initial_resource_versions[i]->value)));
    }
    edits_apply(p, s, &e);
}

/* True: there is something new in it. */
static bool change_names(struct mz_peer *p, struct sub *s, const pb_DeltaDiscoveryRequest *r)
{
    struct edits e = { 0 };
    bool more = false;
    for (size_t i = 0; i < r->n_resource_names_unsubscribe; i++)
        if (mz_set_find(s->have, mz_str_c(r->resource_names_unsubscribe[i])))
            edit(&e, mz_str_c(r->resource_names_unsubscribe[i]), NULL);
    for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
        const struct mz_str name = mz_str_c(r->resource_names_subscribe[i]);
        if (is_star(name.p))
            continue;
        if (mz_set_count(s->have) + e.v.n < MAX_NAMES || mz_set_find(s->have, name))
            edit(&e, name, placeholder(p, name, 0)); /* asked for again: it wants it again */
        more = true;
    }
    edits_apply(p, s, &e);
    return more;
}

/* Many clients begin with the same long list. */
static bool first_names(struct mz_peer *p, struct sub *s, const pb_DeltaDiscoveryRequest *r)
{
    uint64_t list[3] = { r->n_resource_names_subscribe, 0, mz_str_hash(MZ_STR("names")) };
    for (size_t i = 0; i < r->n_resource_names_subscribe; i++) {
        const struct mz_str name = mz_str_c(r->resource_names_subscribe[i]);
        list[1] = mz_xxh64(name.p, name.n + 1, list[1]);
        list[2] =
            mz_xxh64(name.p, name.n + 1, list[2]); /* from a number that clients do not know */
    }
    struct mz_set *set = mz_bundles_asked(p->env.bundles, list);
    if (set) {
        have_set(s, mz_set_ref(set));
        return true;
    }
    const bool more = change_names(p, s, r);
    if (s->have)
        mz_bundles_ask(p->env.bundles, list, s->have);
    return more;
}

static void delta_request(struct mz_peer *p, enum mz_xds_type t, const pb_DeltaDiscoveryRequest *r)
{
    struct sub *s = &p->subs[t];
    const bool first = !s->on;
    bool more = false;
    s->on = true;
    s->wildcard = !mz_translate_is_named(p->proxy, t);
    if (!s->wildcard)
        more = !s->have && r->n_resource_names_subscribe >= LONG_LIST ? first_names(p, s, r)
                                                                      : change_names(p, s, r);
    if (first)
        take_versions(p, s, r);
    s->fresh |= more || (first && s->wildcard);
}

bool mz_peer_request(struct mz_peer *p, const ProtobufCMessage *request, struct mz_err *err)
{
    const pb_DiscoveryRequest *r = (const pb_DiscoveryRequest *)request;
    const pb_DeltaDiscoveryRequest *d = (const pb_DeltaDiscoveryRequest *)request;
    const bool delta = p->env.delta;
    enum mz_xds_type t;
    if (!take_node(p, delta ? d->node : r->node, err))
        return false;
    if (!take_type(p, delta ? d->type_url : r->type_url, &t)) {
        MZ_LOG(DEBUG, config, "%.*s asks for %.200s, which is not served", MZ_STR_ARG(p->proxy->id),
               delta ? d->type_url : r->type_url);
        return true;
    }
    const bool current = take_nonce(p, t, delta ? d->response_nonce : r->response_nonce,
                                    delta ? d->error_detail : r->error_detail);
    if (!current && p->env.counts)
        p->env.counts->expired[t]++;
    if (delta)
        delta_request(p, t, d); /* what it subscribes to counts whatever it answers to */
    else if (current)
        state_request(p, t, r);
    respond_all(p);
    look_converged(p);
    return true;
}

void mz_peer_writable(struct mz_peer *p)
{
    respond_all(p);
}

bool mz_peer_ahead(struct mz_peer *p)
{
    return p->view && p->env.only == MZ_XDS_TYPE__COUNT && p->subs[MZ_XDS_CLUSTER].sent &&
           !p->subs[MZ_XDS_ROUTE].on && mz_view_ahead(p->view);
}

/* ---- models ---- */

void mz_peer_prepare(struct mz_peer *p, const struct mz_model *next)
{
    if (!p->view || mz_view_stays(p->view, next))
        return;
    mz_view_destroy(p->view);
    p->view = NULL;
}

void mz_peer_renew(struct mz_peer *p)
{
    if (p->view)
        mz_view_renew(p->view);
}

/* What this client has of a host whose endpoints or ports are others now. */
static void mark_endpoints(struct mz_peer *p, const struct mz_change *c)
{
    struct sub *s = &p->subs[MZ_XDS_ENDPOINT];
    if (!s->on || s->dirty || !c->hosts.n)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    make_view(p);
    mz_map_foreach (it, &c->hosts) {
        struct mz_str *names;
        size_t n;
        mz_translate_names(p->view, it->key, it->value, a, &names, &n);
        for (size_t i = 0; i < n && !s->dirty; i++) {
            struct mz_out *o = mz_set_find(s->have, names[i]);
            if (o)
                mark(s, o);
        }
    }
    mz_arena_destroy(a);
}

/* Whatever came or went: it would be given the same ones. */
static bool same_listeners(struct mz_peer *p)
{
    make_view(p);
    const uint64_t now = mz_view_listens(p->view);
    return now && now == p->listens;
}

void mz_peer_push(struct mz_peer *p, const struct mz_change *c)
{
    const uint64_t began = mz_clock->mono_us();
    if (!p->proxy)
        return;
    if (c->all || c->services ||
        mz_change_is_own(c, p->proxy->ns, p->proxy->name, p->proxy->ips[0])) {
        const bool own = mz_change_is_own(c, p->proxy->ns, p->proxy->name, p->proxy->ips[0]);
        const bool some = c->services && !c->all;
        for (size_t i = 0; i < MZ_COUNT(order); i++)
            p->subs[order[i]].dirty |=
                p->subs[order[i]].on && !(some && order[i] == MZ_XDS_ENDPOINT) &&
                !(some && !own && order[i] == MZ_XDS_LISTENER && same_listeners(p));
        if (some)
            mark_endpoints(p, c);
    } else {
        mark_endpoints(p, c);
        p->subs[MZ_XDS_SECRET].dirty |= p->subs[MZ_XDS_SECRET].on && c->secrets;
    }
    respond_all(p);
    if (!p->changed_us && !mz_peer_settled(p))
        p->changed_us = began;
}

/* ---- what is known of it ---- */

void mz_peer_state(const struct mz_peer *p, enum mz_xds_type t, struct mz_peer_state *out)
{
    const struct sub *s = &p->subs[t];
    const struct refusal *r = s->refusal;
    *out = (struct mz_peer_state){ .subscribed = s->on,
                                   .waiting = s->waiting,
                                   .sent = s->sent,
                                   .acked = s->acked,
                                   .nacked = s->nacked,
                                   .nonce_sent = s->nonce,
                                   .nonce_acked = s->nonce_acked,
                                   .sent_us = s->sent_us,
                                   .nack = r ? r->text : "",
                                   .nack_code = r ? r->code : 0,
                                   .nack_resource = r ? r->resource : "",
                                   .nack_object = r ? r->object : "" };
    struct mz_set_at at = { 0 };
    for (const struct mz_out *o; (o = mz_set_next(s->have, &at));)
        out->resources += o->version != 0;
}

bool mz_peer_settled(const struct mz_peer *p)
{
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++)
        if (p->subs[t].on && (p->subs[t].waiting || p->subs[t].dirty || p->subs[t].stale.n))
            return false;
    return true;
}

const struct mz_set *mz_peer_have(const struct mz_peer *p, enum mz_xds_type t)
{
    return p->subs[t].have;
}

const struct mz_proxy *mz_peer_proxy(const struct mz_peer *p)
{
    return p->proxy;
}
