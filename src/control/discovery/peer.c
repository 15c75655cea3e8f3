#include "control/discovery/peer.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/clock.h"
#include "base/log.h"
#include "proto/wire.h"

enum { MAX_NAMES = 100000, NACK_TEXT = 512, MAX_STALE = 100 };

struct refusal {
    char text[NACK_TEXT], resource[NACK_TEXT], object[NACK_TEXT];
};
struct sub {                 /* one type */
    bool on, waiting, dirty; /* dirty: something is different since the last response */
    bool fresh; /* asked for and not answered yet: an answer must come, even an empty one */
    bool wildcard;
    /* By name. Wildcard: what the client has. Named: what it asked for; version 0 is what it has not got. */
    MZ_VEC(struct mz_out *) have;
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
    uint64_t nonces;
};

static const enum mz_xds_type order[] = { MZ_XDS_CLUSTER, MZ_XDS_ENDPOINT,  MZ_XDS_LISTENER,
                                          MZ_XDS_ROUTE,   MZ_XDS_EXTENSION, MZ_XDS_NAME_TABLE };

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

static void have_clear(struct sub *s)
{
    mz_vec_foreach (o, &s->have)
        mz_out_unref(*o);
    mz_vec_free(&s->have, MZ_MEM_XDS);
}

void mz_peer_destroy(struct mz_peer *p)
{
    if (!p)
        return;
    for (unsigned t = 0; t < MZ_XDS_TYPE__COUNT; t++) {
        have_clear(&p->subs[t]);
        stale_clear(&p->subs[t]);
        mz_free(MZ_MEM_XDS, p->subs[t].refusal);
    }
    mz_view_destroy(p->view);
    mz_proxy_destroy(p->proxy);
    mz_free(MZ_MEM_XDS, p);
}

/* ---- what the client has ---- */

static struct mz_out **have_find(struct sub *s, struct mz_str name, size_t *out_at)
{
    size_t lo = 0, hi = s->have.n;
    while (lo < hi) {
        const size_t mid = (lo + hi) / 2;
        const int c = mz_str_cmp(name, s->have.v[mid]->name);
        if (c == 0)
            return &s->have.v[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    *out_at = lo;
    return NULL;
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

static bool have_add(struct mz_peer *p, struct sub *s, struct mz_str name, uint64_t version)
{
    size_t at = 0;
    if (have_find(s, name, &at) || s->have.n >= MAX_NAMES)
        return false;
    (void)mz_vec_push(&s->have, MZ_MEM_XDS);
    memmove(&s->have.v[at + 1], &s->have.v[at], (s->have.n - 1 - at) * sizeof(*s->have.v));
    s->have.v[at] = placeholder(p, name, version);
    return true;
}

static void have_remove(struct sub *s, struct mz_str name)
{
    size_t at = 0;
    struct mz_out **o = have_find(s, name, &at);
    if (!o)
        return;
    at = (size_t)(o - s->have.v);
    mz_out_unref(*o);
    s->have.n--;
    memmove(&s->have.v[at], &s->have.v[at + 1], (s->have.n - at) * sizeof(*s->have.v));
}

/* A cluster that is sent again waits for its endpoints again. */
static void forget(struct mz_peer *p, enum mz_xds_type t, struct mz_str name)
{
    size_t at;
    struct mz_out **o = have_find(&p->subs[t], name, &at);
    if (!o || (*o)->version == 0)
        return;
    mz_out_unref(*o);
    *o = placeholder(p, name, 0);
    p->subs[t].dirty = true;
}

/* ---- responses ---- */

struct diff {
    MZ_VEC(const struct mz_out *) changed;
    MZ_VEC(struct mz_str) removed;
};

static void diff_fini(struct diff *d)
{
    mz_vec_free(&d->changed, MZ_MEM_XDS);
    mz_vec_free(&d->removed, MZ_MEM_XDS);
}

/* What is asked for and does not exist is told once, so that nobody waits for it. */
static void diff_gone(struct diff *d, const struct sub *s, const struct mz_out *o)
{
    if (o->version || s->fresh)
        *mz_vec_push(&d->removed, MZ_MEM_XDS) = o->name;
}

/* Both by name: one pass. */
static void diff_make(struct diff *d, struct sub *s, struct mz_outs *now)
{
    size_t i = 0;
    mz_vec_foreach (o, &now->v) {
        for (; i < s->have.n && mz_str_cmp(s->have.v[i]->name, (*o)->name) < 0; i++)
            diff_gone(d, s, s->have.v[i]);
        const bool known = i < s->have.n && mz_str_eq(s->have.v[i]->name, (*o)->name);
        if (!known || s->have.v[i]->version != (*o)->version)
            *mz_vec_push(&d->changed, MZ_MEM_XDS) = *o;
        i += known;
    }
    for (; i < s->have.n; i++)
        diff_gone(d, s, s->have.v[i]);
}

static struct mz_str hex(uint64_t v, char out[17])
{
    (void)snprintf(out, 17, "%016llx", (unsigned long long)v);
    return (struct mz_str){ out, 16 };
}

static uint64_t version_of(struct mz_outs *now)
{
    uint64_t h = now->v.n;
    mz_vec_foreach (o, &now->v)
        h = mz_xxh64(&(*o)->version, sizeof((*o)->version),
                     mz_xxh64((*o)->name.p, (*o)->name.n, h));
    return h;
}

/* The state of the world: what is not in a response is gone. */
static bool is_whole(const struct mz_peer *p, enum mz_xds_type t)
{
    return !p->env.delta && (p->subs[t].wildcard || t == MZ_XDS_CLUSTER || t == MZ_XDS_LISTENER);
}

static bool send_response(struct mz_peer *p, enum mz_xds_type t, struct mz_outs *now,
                          struct diff *d)
{
    struct sub *s = &p->subs[t];
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str url =
        mz_arena_printf(a, "type.googleapis.com/%s", mz_translate_descriptor(t)->name);
    struct mz_buf b;
    char version[17], nonce[17];
    mz_buf_init(&b);
    mz_wire_put_bytes(&b, 1, hex(version_of(now), version));
    const bool all = is_whole(p, t);
    mz_bundles_append(p->env.bundles, &b, p->env.delta, url,
                      all ? (const struct mz_out *const *)now->v.v : d->changed.v,
                      all ? now->v.n : d->changed.n);
    mz_wire_put_bytes(&b, 4, url);
    mz_wire_put_bytes(&b, 5, hex(p->nonces + 1, nonce));
    if (p->env.delta)
        mz_vec_foreach (name, &d->removed)
            mz_wire_put_bytes(&b, 6, *name);
    const size_t bytes = mz_buf_len(&b);
    const bool ok = p->env.send(p->env.arg, &b);
    if (ok && p->env.counts) {
        p->env.counts->sent[t]++;
        p->env.counts->bytes[t] += bytes;
    }
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    if (ok) {
        s->nonce = ++p->nonces;
        s->sent++;
        s->sent_us = mz_clock->wall_us();
    }
    return ok;
}

/* What was sent is what the client has. */
static void have_update(struct mz_peer *p, enum mz_xds_type t, struct mz_outs *now, struct diff *d)
{
    struct sub *s = &p->subs[t];
    size_t at;
    if (t == MZ_XDS_CLUSTER)
        mz_vec_foreach (o, &d->changed)
            if (have_find(s, (*o)->name, &at))
                forget(p, MZ_XDS_ENDPOINT, (*o)->name);
    if (s->wildcard) {
        have_clear(s);
        s->have.v = now->v.v;
        s->have.n = now->v.n;
        s->have.cap = now->v.cap;
        memset(&now->v, 0, sizeof(now->v)); /* the references moved */
        return;
    }
    mz_vec_foreach (o, &d->changed) {
        struct mz_out **mine = have_find(s, (*o)->name, &at);
        if (!mine)
            continue;
        mz_out_unref(*mine);
        *mine = mz_out_ref(*o);
    }
    mz_vec_foreach (name, &d->removed) {
        struct mz_out **mine = have_find(s, *name, &at), *none;
        if (!mine)
            continue;
        none = placeholder(p, *name, 0); /* the name lies in what goes */
        mz_out_unref(*mine);
        *mine = none;
    }
}

static bool is_needed(struct mz_peer *p, enum mz_xds_type t, const struct diff *d)
{
    if (p->subs[t].fresh || d->changed.n)
        return true;
    return d->removed.n && (p->env.delta || is_whole(p, t));
}

static void make_view(struct mz_peer *p)
{
    if (!p->view)
        p->view = mz_view_create(p->env.translator, p->proxy);
}

static void all_of(struct mz_peer *p, enum mz_xds_type t, struct mz_outs *out)
{
    struct sub *s = &p->subs[t];
    MZ_VEC(struct mz_str) names = { 0 };
    make_view(p);
    if (!s->wildcard)
        mz_vec_foreach (o, &s->have)
            *mz_vec_push(&names, MZ_MEM_XDS) = (*o)->name;
    mz_translate(p->view, t, names.v, names.n, out);
    mz_vec_free(&names, MZ_MEM_XDS);
}

/* Only what may be different: names of the stale ones, of those that it still has. */
static void stale_of(struct mz_peer *p, enum mz_xds_type t, struct mz_outs *out)
{
    struct sub *s = &p->subs[t];
    MZ_VEC(struct mz_str) names = { 0 };
    make_view(p);
    mz_vec_foreach (o, &s->stale)
        *mz_vec_push(&names, MZ_MEM_XDS) = (*o)->name;
    mz_translate(p->view, t, names.v, names.n, out);
    mz_vec_free(&names, MZ_MEM_XDS);
}

static bool is_among(const struct mz_outs *now, struct mz_str name)
{
    for (size_t i = 0; i < now->v.n; i++)
        if (mz_str_eq(now->v.v[i]->name, name))
            return true;
    return false;
}

static void diff_stale(struct diff *d, struct sub *s, struct mz_outs *now)
{
    size_t at;
    mz_vec_foreach (o, &now->v) {
        struct mz_out **mine = have_find(s, (*o)->name, &at);
        if (mine && (*mine)->version != (*o)->version)
            *mz_vec_push(&d->changed, MZ_MEM_XDS) = *o;
    }
    mz_vec_foreach (o, &s->stale) {
        struct mz_out **mine = have_find(s, (*o)->name, &at);
        if (mine && (*mine)->version && !is_among(now, (*o)->name))
            *mz_vec_push(&d->removed, MZ_MEM_XDS) = (*mine)->name;
    }
}

/* Sends what is different of one type, if anything is and if it may. */
static void respond(struct mz_peer *p, enum mz_xds_type t)
{
    struct sub *s = &p->subs[t];
    struct mz_outs now = { 0 };
    struct diff d = { 0 };
    const bool whole = s->dirty || s->fresh;
    if (!s->on || s->waiting || !(whole || s->stale.n))
        return;
    if (whole) {
        all_of(p, t, &now);
        diff_make(&d, s, &now);
    } else {
        stale_of(p, t, &now);
        diff_stale(&d, s, &now);
    }
    if (!is_needed(p, t, &d)) {
        s->dirty = false;
        stale_clear(s);
    } else if (send_response(p, t, &now, &d)) {
        have_update(p, t, &now, &d);
        s->dirty = s->fresh = false;
        s->waiting = true;
        stale_clear(s);
    }
    diff_fini(&d);
    mz_outs_fini(&now);
}

static void respond_all(struct mz_peer *p)
{
    for (size_t i = 0; i < MZ_COUNT(order); i++)
        respond(p, order[i]);
}

/* ---- requests ---- */

static bool take_node(struct mz_peer *p, const pb_Node *node, struct mz_err *err)
{
    if (p->proxy)
        return true; /* a client may repeat it */
    if (!node)
        return mz_err_set(err, "the first request has no node");
    p->proxy = mz_proxy_create(node, err);
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
    const ptrdiff_t at = mz_str_find(o->bytes, MZ_STR("/apis/"));
    struct mz_str path = at < 0 ? MZ_STR("") : mz_str_skip(o->bytes, (size_t)at + 6), piece[6];
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
}

/* Of the names that the reason holds the longest. */
static void nack_cause(struct sub *s, struct refusal *r)
{
    const struct mz_out *cause = NULL;
    r->resource[0] = r->object[0] = 0;
    mz_vec_foreach (o, &s->have)
        if ((*o)->name.n && (!cause || (*o)->name.n > cause->name.n) &&
            mz_str_find(mz_str_c(r->text), (*o)->name) >= 0)
            cause = *o;
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
    size_t i = 0, kept = 0;
    MZ_VEC(struct mz_out *) next = { 0 };
    qsort(v, n, sizeof(*v), compare_texts);
    for (size_t k = 0; k < n && kept < MAX_NAMES; k++) {
        const struct mz_str name = mz_str_c(v[k]);
        if (k && strcmp(v[k - 1], v[k]) == 0)
            continue;
        while (i < s->have.n && mz_str_cmp(s->have.v[i]->name, name) < 0)
            i++;
        const bool known = i < s->have.n && mz_str_eq(s->have.v[i]->name, name);
        *mz_vec_push(&next, MZ_MEM_XDS) =
            known ? mz_out_ref(s->have.v[i]) : placeholder(p, name, 0);
        more |= !known;
        kept++;
    }
    have_clear(s);
    s->have.v = next.v;
    s->have.n = next.n;
    s->have.cap = next.cap;
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
        have_clear(s);
    s->fresh |= more || (first && (s->wildcard || s->have.n));
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

static void delta_request(struct mz_peer *p, enum mz_xds_type t, const pb_DeltaDiscoveryRequest *r)
{
    struct sub *s = &p->subs[t];
    const bool first = !s->on;
    bool more = false;
    s->on = true;
    s->wildcard = !mz_translate_is_named(p->proxy, t);
    for (size_t i = 0; !s->wildcard && i < r->n_resource_names_unsubscribe; i++)
        have_remove(s, mz_str_c(r->resource_names_unsubscribe[i]));
    for (size_t i = 0; !s->wildcard && i < r->n_resource_names_subscribe; i++) {
        const struct mz_str name = mz_str_c(r->resource_names_subscribe[i]);
        if (is_star(name.p))
            continue;
        if (!have_add(p, s, name, 0))
            forget(p, t, name); /* asked for again: it wants it again */
        more = true;
    }
    for (size_t i = 0; first && i < r->n_initial_resource_versions; i++) {
        const struct mz_str name = mz_str_c(r->initial_resource_versions[i]->key);
        const uint64_t version = version_parse(r->initial_resource_versions[i]->value);
        if (!s->wildcard)
            have_remove(s, name);
        (void)have_add(p, s, name, version);
    }
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
    if (delta)
        delta_request(p, t, d); /* what it subscribes to counts whatever it answers to */
    else if (current)
        state_request(p, t, r);
    respond_all(p);
    return true;
}

void mz_peer_writable(struct mz_peer *p)
{
    respond_all(p);
}

/* ---- models ---- */

void mz_peer_detach(struct mz_peer *p)
{
    mz_view_destroy(p->view);
    p->view = NULL;
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
    if (s->stale.n < MAX_STALE)
        *mz_vec_push(&s->stale, MZ_MEM_XDS) = mz_out_ref(o);
    else
        s->dirty = true;
}

/* Services came, went or have other ports: what this client has of their names, whatever those look like. */
static void mark_services(struct mz_peer *p, const struct mz_change *c)
{
    struct sub *s = &p->subs[MZ_XDS_ENDPOINT];
    for (size_t i = 0; s->on && !s->dirty && i < s->have.n; i++) {
        const struct mz_str name = s->have.v[i]->name;
        const ptrdiff_t bar = mz_str_rchr(name, '|');
        if (bar < 0)
            s->dirty = true; /* a name of another form: nobody knows of whom */
        else if (mz_map_get(&c->hosts, mz_str_skip(name, (size_t)bar + 1)) &&
                 !is_stale(s, s->have.v[i]))
            mark(s, s->have.v[i]);
    }
}

/* Notes what this client has of a host whose endpoints are others now. */
static void mark_host(struct mz_peer *p, struct sub *s, struct mz_str host, struct mz_arena *a)
{
    struct mz_str *names;
    size_t n, at;
    mz_translate_names(p->view, host, a, &names, &n);
    for (size_t i = 0; i < n; i++) {
        struct mz_out **o = have_find(s, names[i], &at);
        if (o && !is_stale(s, *o))
            mark(s, *o);
    }
}

static void mark_endpoints(struct mz_peer *p, const struct mz_change *c)
{
    struct sub *s = &p->subs[MZ_XDS_ENDPOINT];
    if (!s->on || s->dirty)
        return;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    make_view(p);
    mz_map_foreach (it, &c->hosts)
        if (!s->dirty)
            mark_host(p, s, it->key, a);
    mz_arena_destroy(a);
}

void mz_peer_push(struct mz_peer *p, const struct mz_change *c)
{
    if (!p->proxy)
        return;
    if (p->view)
        mz_view_renew(p->view);
    if (c->all || c->services ||
        mz_change_is_own(c, p->proxy->ns, p->proxy->name, p->proxy->ips[0])) {
        const bool some = c->services && !c->all;
        for (size_t i = 0; i < MZ_COUNT(order); i++)
            p->subs[order[i]].dirty |=
                p->subs[order[i]].on && !(some && order[i] == MZ_XDS_ENDPOINT);
        if (some)
            mark_services(p, c);
    } else {
        mark_endpoints(p, c);
    }
    respond_all(p);
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
                                   .nack_resource = r ? r->resource : "",
                                   .nack_object = r ? r->object : "" };
    for (size_t i = 0; i < s->have.n; i++)
        out->resources += s->have.v[i]->version != 0;
}

size_t mz_peer_have(const struct mz_peer *p, enum mz_xds_type t, struct mz_out *const **out)
{
    *out = p->subs[t].have.v;
    return p->subs[t].have.n;
}

const struct mz_proxy *mz_peer_proxy(const struct mz_peer *p)
{
    return p->proxy;
}
