#include "control/discovery/bundle.h"

#include <stdio.h>

#include "proto/wire.h"

enum {
    IDLE = 4 << 20, /* bytes of steps that are kept for those who come later, at most */
    NAMES = 1024,
    KNOWN = 4096,
    LARGE = 512, /* less is copied */
};

struct step {
    struct mz_step s;
    struct mz_str key; /* behind the struct */
    MZ_VEC(const struct mz_out *) changed;
    MZ_VEC(struct mz_str) removed;
    const struct mz_set *from, *to; /* hold them */
    bool shares; /* its resources are a fragment each: for one client, not for many */
};
struct known {
    struct mz_str key; /* behind the struct */
    struct mz_set *get;
};
struct mz_bundles {
    struct mz_sets *sets;
    struct mz_map steps;
    struct mz_map known;
    size_t bytes;
    struct mz_map names; /* to struct mz_out, one reference each */
    size_t names_max;    /* looked through when there are more */
};

struct mz_bundles *mz_bundles_create(struct mz_sets *s)
{
    struct mz_bundles *b = mz_new0(MZ_MEM_XDS, struct mz_bundles);
    b->sets = s;
    mz_map_init(&b->steps, MZ_MEM_XDS);
    mz_map_init(&b->known, MZ_MEM_XDS);
    mz_map_init(&b->names, MZ_MEM_XDS);
    b->names_max = NAMES;
    return b;
}

static void step_free(struct step *x)
{
    mz_buf_fini(&x->s.resources);
    mz_vec_free(&x->changed, MZ_MEM_XDS);
    mz_vec_free(&x->removed, MZ_MEM_XDS);
    mz_set_unref(x->from);
    mz_set_unref(x->to);
    mz_free(MZ_MEM_XDS, x);
}

static void drop_steps(struct mz_bundles *b)
{
    mz_map_foreach (it, &b->steps)
        step_free(it->value);
    mz_map_fini(&b->steps);
    mz_map_init(&b->steps, MZ_MEM_XDS);
    b->bytes = 0;
}

static void drop_known(struct mz_bundles *b)
{
    mz_map_foreach (it, &b->known) {
        mz_set_unref(((struct known *)it->value)->get);
        mz_free(MZ_MEM_XDS, it->value);
    }
    mz_map_fini(&b->known);
    mz_map_init(&b->known, MZ_MEM_XDS);
}

static void trim_names(struct mz_bundles *b)
{
    MZ_VEC(struct mz_out *) idle = { 0 };
    mz_map_foreach (it, &b->names)
        if (((struct mz_out *)it->value)->slice.refs == 1)
            *mz_vec_push(&idle, MZ_MEM_XDS) = it->value;
    mz_vec_foreach (o, &idle) {
        (void)mz_map_del(&b->names, (*o)->name);
        mz_out_unref(*o);
    }
    mz_vec_free(&idle, MZ_MEM_XDS);
    b->names_max = b->names.n < NAMES ? NAMES : 2 * b->names.n;
}

struct mz_out *mz_bundles_name(struct mz_bundles *b, struct mz_str name)
{
    struct mz_out *o = mz_map_get(&b->names, name);
    if (o)
        return mz_out_ref(o);
    if (b->names.n >= b->names_max)
        trim_names(b);
    pb_Any nothing = pb_Any__INIT;
    o = mz_out_create(name, &nothing.base);
    o->version = 0;
    (void)mz_map_put(&b->names, o->name, o);
    return mz_out_ref(o);
}

void mz_bundles_trim(struct mz_bundles *b, bool at_rest)
{
    enum {
        UNUSED = 64
    }; /* a table of routes is packed anew where it changed, at each of many changes in a row */
    drop_steps(b);
    drop_known(b);
    mz_sets_trim(b->sets, at_rest ? 0 : UNUSED);
    if (b->names.n >= b->names_max)
        trim_names(b);
}

void mz_bundles_destroy(struct mz_bundles *b)
{
    if (!b)
        return;
    drop_steps(b);
    drop_known(b);
    mz_map_fini(&b->steps);
    mz_map_fini(&b->known);
    mz_map_foreach (it, &b->names)
        mz_out_unref(it->value);
    mz_map_fini(&b->names);
    mz_free(MZ_MEM_XDS, b);
}

size_t mz_bundles_bytes(const struct mz_bundles *b)
{
    return b->bytes;
}

/* ---- bytes ---- */

static size_t varint_size(uint64_t v)
{
    char bytes[MZ_WIRE_VARINT_MAX];
    return mz_wire_varint(v, bytes);
}

static size_t field_size(size_t n) /* of a field with n bytes */
{
    return 1 + varint_size(n) + n;
}

static size_t any_size(struct mz_str url, size_t bytes)
{
    return field_size(url.n) + (bytes ? field_size(bytes) : 0);
}

struct writer {
    char *at;
};

static void put(struct writer *w, const void *p, size_t n)
{
    if (n)
        memcpy(w->at, p, n);
    w->at += n;
}

static void put_head(struct writer *w, unsigned field, size_t n)
{
    *w->at++ = (char)(field << 3 | 2);
    w->at += mz_wire_varint(n, w->at);
}

static void put_field(struct writer *w, unsigned field, struct mz_str s)
{
    put_head(w, field, s.n);
    put(w, s.p, s.n);
}

static void put_any(struct writer *w, unsigned field, struct mz_str url, struct mz_str bytes)
{
    put_head(w, field, any_size(url, bytes.n));
    put_field(w, 1, url);
    if (bytes.n)
        put_field(w, 2, bytes);
}

enum { VERSION = 16 }; /* digits */

static size_t resource_size(const struct mz_out *o, struct mz_str url, bool delta)
{
    const size_t any = field_size(any_size(url, o->size));
    return delta ? field_size(VERSION) + any + field_size(o->name.n) : any;
}

static void put_resource(struct writer *w, const struct mz_out *o, struct mz_str url, bool delta)
{
    char version[VERSION];
    if (!delta) {
        put_any(w, 2, url, o->bytes);
        return;
    }
    mz_u64_hex(o->version, version);
    put_head(w, 2, resource_size(o, url, true));
    put_field(w, 1, (struct mz_str){ version, VERSION });
    put_any(w, 2, url, o->bytes);
    put_field(w, 3, o->name);
}

static size_t total(struct mz_out *const *v, size_t n, struct mz_str url, bool delta)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t one = resource_size(v[i], url, delta);
        bytes += delta ? field_size(one) : one;
    }
    return bytes;
}

/* What stands in front of its bytes. */
static void put_front(struct writer *w, const struct mz_out *o, struct mz_str url, bool delta)
{
    char version[VERSION];
    if (delta) {
        mz_u64_hex(o->version, version);
        put_head(w, 2, resource_size(o, url, true));
        put_field(w, 1, (struct mz_str){ version, VERSION });
    }
    put_head(w, 2, any_size(url, o->size));
    put_field(w, 1, url);
    put_head(w, 2, o->size);
}

/* ---- what is different ---- */

static void note(void *arg, struct mz_out *was, struct mz_out *now)
{
    struct step *x = arg;
    if (now && now->version)
        *mz_vec_push(&x->changed, MZ_MEM_XDS) = now;
    else if (was && was->version)
        *mz_vec_push(&x->removed, MZ_MEM_XDS) = was->name;
}

/* It was there, and so it is told already. */
static bool is_among(const struct step *x, struct mz_str name)
{
    const struct mz_out *was = mz_set_find(x->from, name);
    return was && was->version;
}

static void find_changes(struct step *x, bool first)
{
    struct mz_set_at at = { 0 };
    mz_set_compare(x->from, x->to, note, x);
    for (struct mz_out *o; first && (o = mz_set_next(x->to, &at));)
        if (!o->version && !is_among(x, o->name))
            *mz_vec_push(&x->removed, MZ_MEM_XDS) = o->name;
}

/* ---- bytes of a step ---- */

struct packing {
    struct mz_str url;
    bool delta;
};

static struct mz_slice *pack_parts(void *arg, struct mz_out *const *v, size_t n)
{
    (void)arg;
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++)
        bytes += field_size(v[i]->bytes.n);
    struct mz_slice *s = mz_slice_create(bytes);
    struct writer w = { s->mem };
    for (size_t i = 0; i < n; i++)
        put_field(&w, MZ_OUT_PART, v[i]->bytes);
    return s;
}

static void append_parts(struct mz_buf *out, struct packing *k, const struct mz_out *o)
{
    const size_t own = resource_size(o, k->url, k->delta) - mz_set_size(o->parts);
    size_t room;
    struct writer w = { mz_buf_reserve(out, own + 2 * MZ_WIRE_VARINT_MAX, &room) };
    char *const begin = w.at;
    put_front(&w, o, k->url, k->delta);
    put(&w, o->bytes.p, o->bytes.n);
    mz_buf_commit(out, (size_t)(w.at - begin));
    for (size_t i = 0; i < mz_set_pieces(o->parts); i++) {
        struct mz_slice *s = mz_set_piece_packed(o->parts, i, false, pack_parts, NULL);
        mz_buf_append_slice(out, s, s->mem, mz_set_piece_size(o->parts, i));
    }
    mz_buf_append_str(out, o->tail);
    if (k->delta)
        mz_wire_put_bytes(out, 3, o->name);
}

static struct mz_slice *pack_piece(void *arg, struct mz_out *const *v, size_t n)
{
    const struct packing *k = arg;
    const size_t bytes = total(v, n, k->url, k->delta);
    struct mz_slice *s = mz_slice_create(bytes);
    struct writer w = { s->mem };
    for (size_t i = 0; i < n; i++)
        put_resource(&w, v[i], k->url, k->delta);
    return s;
}

/* For the first who is sent a piece, and perhaps the only one: large resources as they are, between what stands around them. */
static void append_shared(struct mz_buf *out, const struct packing *k, struct mz_out *const *v,
                          size_t n)
{
    size_t around = total(v, n, k->url, k->delta);
    for (size_t i = 0; i < n; i++)
        around -= v[i]->bytes.n < LARGE ? 0 : v[i]->bytes.n;
    struct mz_slice *s = mz_slice_create(around);
    struct writer w = { s->mem };
    char *from = w.at;
    for (size_t i = 0; i < n; i++) {
        if (v[i]->bytes.n < LARGE) {
            put_resource(&w, v[i], k->url, k->delta);
            continue;
        }
        put_front(&w, v[i], k->url, k->delta);
        mz_buf_append_slice(out, s, from, (size_t)(w.at - from));
        mz_buf_append_slice(out, &v[i]->slice, v[i]->slice.mem, v[i]->bytes.n);
        from = w.at;
        if (k->delta)
            put_field(&w, 3, v[i]->name);
    }
    mz_buf_append_slice(out, s, from, (size_t)(w.at - from));
    mz_slice_unref(s);
}

static void append_piece(struct step *x, struct packing *k, size_t i, struct mz_out *const *v,
                         size_t n)
{
    if (!mz_set_piece_again(x->to, i, k->delta)) {
        x->shares = true;
        append_shared(&x->s.resources, k, v, n);
        return;
    }
    struct mz_slice *s = mz_set_piece_packed(x->to, i, k->delta, pack_piece, k);
    mz_buf_append_slice(&x->s.resources, s, s->mem, s->cap);
}

static void append(struct mz_buf *out, struct packing *k, const struct mz_out *o)
{
    struct mz_out *const own = (struct mz_out *)(uintptr_t)o; /* it is only read */
    const size_t bytes = total(&own, 1, k->url, k->delta);
    size_t room;
    if (o->parts) {
        append_parts(out, k, o);
        return;
    }
    struct writer w = { mz_buf_reserve(out, bytes, &room) };
    put_resource(&w, o, k->url, k->delta);
    mz_buf_commit(out, bytes);
}

/* Pieces of which everything is sent are packed once for all steps; of the others what is. */
static void append_all(struct mz_bundles *b, struct step *x, struct packing *k,
                       const struct mz_out *const *v, size_t n)
{
    size_t at = 0;
    for (size_t i = 0; i < mz_set_pieces(x->to) && at < n; i++) {
        struct mz_out *const *of;
        const size_t of_n = mz_set_piece(x->to, i, &of);
        size_t in = 0;
        while (at + in < n && in < of_n && v[at + in] == of[in] && !of[in]->parts)
            in++;
        if (in == of_n && in > 1) {
            append_piece(x, k, i, of, of_n);
            at += in;
            continue;
        }
        for (size_t j = 0; j < of_n && at < n; j++)
            if (v[at] == of[j])
                append(&x->s.resources, k, v[at++]);
    }
    (void)b;
}

static void pack(struct mz_bundles *b, struct step *x, enum mz_step_mode mode, struct mz_str url)
{
    struct packing k = { url, mode == MZ_STEP_DELTA };
    MZ_VEC(const struct mz_out *) all = { 0 };
    struct mz_set_at at = { 0 };
    if (mode != MZ_STEP_WHOLE) {
        append_all(b, x, &k, x->changed.v, x->changed.n);
        return;
    }
    for (struct mz_out *o; (o = mz_set_next(x->to, &at));)
        if (o->version)
            *mz_vec_push(&all, MZ_MEM_XDS) = o;
    append_all(b, x, &k, all.v, all.n);
    mz_vec_free(&all, MZ_MEM_XDS);
}

/* Now it is for several. */
static void pack_again(struct mz_bundles *b, struct step *x, enum mz_step_mode mode,
                       struct mz_str url)
{
    x->shares = false;
    mz_buf_fini(&x->s.resources);
    pack(b, x, mode, url);
}

/* ---- steps ---- */

const struct mz_step *mz_bundles_step(struct mz_bundles *b, unsigned mode, struct mz_str url,
                                      const struct mz_set *from, const struct mz_set *to,
                                      bool first)
{
    const uint64_t key[] = { mz_set_hash(from), mz_set_hash(to),   mz_set_count(from),
                             mz_set_count(to),  mode * 2u + first, mz_xxh64(url.p, url.n, 0) };
    struct step *x = mz_map_get(&b->steps, (struct mz_str){ (const char *)key, sizeof(key) });
    if (x && (!(mode & MZ_STEP_SECRET) || (mz_set_same(x->to, to) && mz_set_same(x->from, from)))) {
        if (x->shares)
            pack_again(b, x, (enum mz_step_mode)(mode & (MZ_STEP_SECRET - 1)), url);
        return &x->s;
    }
    if (x || b->bytes > IDLE)
        drop_steps(b);
    x = mz_alloc0(MZ_MEM_XDS, sizeof(*x) + sizeof(key));
    memcpy(x + 1, key, sizeof(key));
    x->key = (struct mz_str){ (const char *)(x + 1), sizeof(key) };
    x->from = from ? mz_set_ref(from) : NULL;
    x->to = mz_set_ref(to);
    mz_buf_init(&x->s.resources);
    find_changes(x, first);
    pack(b, x, (enum mz_step_mode)(mode & (MZ_STEP_SECRET - 1)), url);
    x->s.changed = x->changed.v;
    x->s.changed_n = x->changed.n;
    x->s.removed = x->removed.v;
    x->s.removed_n = x->removed.n;
    b->bytes += mz_buf_len(&x->s.resources);
    (void)mz_map_put(&b->steps, x->key, x);
    return &x->s;
}

/* ---- answers that are known ---- */

struct known_key {
    uint64_t whom, type, asked, asked_n;
};

static struct mz_set *known_get(const struct mz_bundles *b, struct mz_str key)
{
    const struct known *x = mz_map_get(&b->known, key);
    return x ? x->get : NULL;
}

static void known_put(struct mz_bundles *b, struct mz_str key, struct mz_set *get)
{
    if (b->known.n >= KNOWN)
        drop_known(b);
    struct known *x = mz_alloc(MZ_MEM_XDS, sizeof(*x) + key.n);
    memcpy(x + 1, key.p, key.n);
    *x = (struct known){ { (const char *)(x + 1), key.n }, mz_set_ref(get) };
    (void)mz_map_put(&b->known, x->key, x);
}

struct mz_set *mz_bundles_known(struct mz_bundles *b, uint64_t whom, unsigned type,
                                const struct mz_set *asked)
{
    const struct known_key k = { whom, type, mz_set_hash(asked), mz_set_count(asked) };
    return known_get(b, (struct mz_str){ (const char *)&k, sizeof(k) });
}

void mz_bundles_know(struct mz_bundles *b, uint64_t whom, unsigned type, const struct mz_set *asked,
                     struct mz_set *get)
{
    const struct known_key k = { whom, type, mz_set_hash(asked), mz_set_count(asked) };
    known_put(b, (struct mz_str){ (const char *)&k, sizeof(k) }, get);
}

/* Three numbers: no key of what is known has as many. */
struct mz_set *mz_bundles_asked(struct mz_bundles *b, const uint64_t list[3])
{
    return known_get(b, (struct mz_str){ (const char *)list, 3 * sizeof(*list) });
}

void mz_bundles_ask(struct mz_bundles *b, const uint64_t list[3], struct mz_set *get)
{
    known_put(b, (struct mz_str){ (const char *)list, 3 * sizeof(*list) }, get);
}
