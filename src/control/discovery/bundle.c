#include "control/discovery/bundle.h"

#include <stdio.h>

#include "proto/wire.h"

enum {
    SMALL = 4096,   /* bytes that are not worth sharing */
    IDLE = 4 << 20, /* bytes of bundles that nobody holds, at most */
    NAMES = 1024,
};

struct bundle {
    struct mz_slice slice; /* the bytes lie behind the struct */
    struct mz_str key;
    struct mz_str bytes;
};
struct mz_bundles {
    struct mz_map map; /* one reference of the slice each */
    size_t bytes;
    struct mz_map names; /* to struct mz_out, one reference each */
    size_t names_max;    /* looked through when there are more */
};

struct mz_bundles *mz_bundles_create(void)
{
    struct mz_bundles *b = mz_new0(MZ_MEM_XDS, struct mz_bundles);
    mz_map_init(&b->map, MZ_MEM_XDS);
    mz_map_init(&b->names, MZ_MEM_XDS);
    b->names_max = NAMES;
    return b;
}

static void bundle_free(struct mz_slice *s)
{
    mz_free(MZ_MEM_XDS, MZ_CONTAINER(s, struct bundle, slice));
}

static void drop(struct mz_bundles *b, struct bundle *one)
{
    (void)mz_map_del(&b->map, one->key);
    b->bytes -= one->bytes.n;
    mz_slice_unref(&one->slice);
}

static void trim_names(struct mz_bundles *b)
{
    MZ_VEC(struct mz_out *) idle = { 0 };
    mz_map_foreach (it, &b->names)
        if (((struct mz_out *)it->value)->refs == 1)
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

void mz_bundles_trim(struct mz_bundles *b)
{
    MZ_VEC(struct bundle *) idle = { 0 };
    mz_map_foreach (it, &b->map) {
        struct bundle *one = it->value;
        if (one->slice.refs == 1)
            *mz_vec_push(&idle, MZ_MEM_XDS) = one;
    }
    mz_vec_foreach (one, &idle)
        drop(b, *one);
    mz_vec_free(&idle, MZ_MEM_XDS);
    trim_names(b);
}

void mz_bundles_destroy(struct mz_bundles *b)
{
    if (!b)
        return;
    mz_map_foreach (it, &b->map)
        mz_slice_unref(&((struct bundle *)it->value)->slice);
    mz_map_fini(&b->map);
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

static size_t any_size(struct mz_str url, struct mz_str bytes)
{
    return field_size(url.n) + (bytes.n ? field_size(bytes.n) : 0);
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
    put_head(w, field, any_size(url, bytes));
    put_field(w, 1, url);
    if (bytes.n)
        put_field(w, 2, bytes);
}

enum { VERSION = 16 }; /* digits */

static size_t resource_size(const struct mz_out *o, struct mz_str url, bool delta)
{
    const size_t any = field_size(any_size(url, o->bytes));
    return delta ? field_size(VERSION) + any + field_size(o->name.n) : any;
}

static void put_resource(struct writer *w, const struct mz_out *o, struct mz_str url, bool delta)
{
    char version[VERSION + 1];
    if (!delta) {
        put_any(w, 2, url, o->bytes);
        return;
    }
    (void)snprintf(version, sizeof(version), "%016llx", (unsigned long long)o->version);
    put_head(w, 2, resource_size(o, url, true));
    put_field(w, 1, (struct mz_str){ version, VERSION });
    put_any(w, 2, url, o->bytes);
    put_field(w, 3, o->name);
}

static size_t total(const struct mz_out *const *v, size_t n, struct mz_str url, bool delta)
{
    size_t bytes = 0;
    for (size_t i = 0; i < n; i++) {
        const size_t one = resource_size(v[i], url, delta);
        bytes += delta ? field_size(one) : one;
    }
    return bytes;
}

/* ---- sharing ---- */

static struct bundle *create(struct mz_bundles *b, struct mz_str key, size_t bytes,
                             const struct mz_out *const *v, size_t n, struct mz_str url, bool delta)
{
    struct bundle *one = mz_alloc(MZ_MEM_XDS, sizeof(*one) + key.n + bytes);
    char *mem = (char *)(one + 1);
    struct writer w = { mem + key.n };
    memcpy(mem, key.p, key.n);
    for (size_t i = 0; i < n; i++)
        put_resource(&w, v[i], url, delta);
    *one = (struct bundle){ .slice = { 1, (uint32_t)bytes, mem + key.n, bundle_free },
                            .key = { mem, key.n },
                            .bytes = { mem + key.n, bytes } };
    if (b->bytes + bytes > IDLE)
        mz_bundles_trim(b);
    (void)mz_map_put(&b->map, one->key, one);
    b->bytes += bytes;
    return one;
}

/* What they are, by their versions: two hashes of all of them, which are hashes of their bytes. */
static struct mz_str key_of(char out[64], bool delta, struct mz_str url,
                            const struct mz_out *const *v, size_t n)
{
    uint64_t h[4] = { n, delta, mz_xxh64(url.p, url.n, 0), 1 };
    for (size_t i = 0; i < n; i++) {
        const uint64_t one[2] = { v[i]->version, mz_xxh64(v[i]->name.p, v[i]->name.n, 0) };
        h[1] = mz_xxh64(one, sizeof(one), h[1]);
        h[3] = mz_xxh64(one, sizeof(one), h[3]);
    }
    memcpy(out, h, sizeof(h));
    return (struct mz_str){ out, sizeof(h) };
}

void mz_bundles_append(struct mz_bundles *b, struct mz_buf *out, bool delta, struct mz_str url,
                       const struct mz_out *const *v, size_t n)
{
    char text[64];
    const size_t bytes = total(v, n, url, delta);
    size_t room;
    if (bytes <= SMALL) {
        struct writer w = { mz_buf_reserve(out, bytes, &room) };
        for (size_t i = 0; i < n; i++)
            put_resource(&w, v[i], url, delta);
        mz_buf_commit(out, bytes);
        return;
    }
    struct mz_str key = key_of(text, delta, url, v, n);
    struct bundle *one = mz_map_get(&b->map, key);
    if (!one)
        one = create(b, key, bytes, v, n, url, delta);
    mz_buf_append_slice(out, &one->slice, one->slice.mem, one->bytes.n);
}
