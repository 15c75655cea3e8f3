#include "control/translate/resource.h"

#include "base/vec.h"
#include "control/translate/set.h"
#include "proto/pack.h"
#include "proto/wire.h"

enum { AGES = 4, FEW = 1024 };

struct entry {
    struct mz_out *out;
    unsigned age;      /* when it was asked for last */
    struct mz_str key; /* behind the struct */
};
struct mz_cache {
    struct mz_map map;
    unsigned age;
    size_t looked_at; /* entries that were left the last time that all were looked through */
    struct mz_cache_counts counts;
};

/* ---- resources ---- */

static void out_release(struct mz_slice *s)
{
    struct mz_out *o = MZ_CONTAINER(s, struct mz_out, slice);
    mz_set_unref(o->parts);
    mz_free(MZ_MEM_XDS, o);
}

/* @n bytes are to be written before it is finished. */
static struct mz_out *out_alloc(struct mz_str name, size_t n)
{
    struct mz_out *o = mz_alloc(MZ_MEM_XDS, sizeof(*o) + n + name.n);
    char *at = (char *)(o + 1);
    if (name.n)
        memcpy(at + n, name.p, name.n);
    *o = (struct mz_out){ .slice = { 1, 0, at, out_release }, /* nobody appends to it */
                          .name = { at + n, name.n },
                          .bytes = { at, n },
                          .tail = { at, 0 },
                          .size = n };
    return o;
}

static struct mz_out *out_finish(struct mz_out *o)
{
    o->version = mz_xxh64(o->bytes.p, o->bytes.n, 0);
    return o;
}

struct mz_out *mz_out_create(struct mz_str name, const ProtobufCMessage *m)
{
    struct mz_packer p MZ_UNINIT;
    struct mz_out *o = mz_out_of_bytes(name, mz_packer_pack(&p, m));
    mz_packer_fini(&p);
    return o;
}

struct mz_out *mz_out_of_bytes(struct mz_str name, struct mz_str bytes)
{
    struct mz_out *o = out_alloc(name, bytes.n);
    if (bytes.n)
        memcpy(o + 1, bytes.p, bytes.n);
    return out_finish(o);
}

struct mz_out *mz_out_of_parts(struct mz_str name, struct mz_str head, const struct mz_set *parts,
                               struct mz_str tail)
{
    struct mz_out *o = out_alloc(name, head.n + tail.n);
    char *at = (char *)(o + 1);
    memcpy(at, head.p, head.n);
    memcpy(at + head.n, tail.p, tail.n);
    o->bytes.n = head.n;
    o->tail = (struct mz_str){ at + head.n, tail.n };
    o->parts = parts;
    o->size = head.n + mz_set_size(parts) + tail.n;
    const uint64_t of_parts = mz_set_hash(parts);
    o->version = mz_xxh64(tail.p, tail.n,
                          mz_xxh64(&of_parts, sizeof(of_parts), mz_xxh64(head.p, head.n, 0)));
    return o;
}

struct mz_str mz_out_bytes(const struct mz_out *o, struct mz_arena *a)
{
    struct mz_buf b;
    struct mz_set_at at = { 0 };
    if (!o->parts)
        return o->bytes;
    mz_buf_init(&b);
    mz_buf_append_str(&b, o->bytes);
    for (const struct mz_out *p; (p = mz_set_next(o->parts, &at));)
        mz_wire_put_bytes(&b, MZ_OUT_PART, p->bytes);
    mz_buf_append_str(&b, o->tail);
    struct mz_str all = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return all;
}

struct mz_out *mz_out_ref(const struct mz_out *o)
{
    struct mz_out *own = (struct mz_out *)(uintptr_t)o; /* only the count changes */
    own->slice.refs++;
    return own;
}

void mz_out_unref(const struct mz_out *o)
{
    struct mz_out *own = (struct mz_out *)(uintptr_t)o;
    if (own)
        mz_slice_unref(&own->slice);
}

/* ---- keys ---- */

static void put(struct mz_key *k, const void *p, size_t n)
{
    if (k->n <= MZ_KEY_BYTES && n <= MZ_KEY_BYTES - k->n) {
        if (n)
            memcpy(k->bytes + k->n, p, n);
        k->n += n;
    } else {
        k->n = MZ_KEY_BYTES + 1;
    }
}

void mz_key_init(struct mz_key *k, char kind)
{
    k->n = 0;
    put(k, &kind, 1);
}

void mz_key_str(struct mz_key *k, struct mz_str s)
{
    mz_key_u64(k, s.n);
    put(k, s.p, s.n);
}

void mz_key_u64(struct mz_key *k, uint64_t v)
{
    put(k, &v, sizeof(v));
}

/* ---- the cache ---- */

struct mz_cache *mz_cache_create(void)
{
    struct mz_cache *c = mz_new0(MZ_MEM_XDS, struct mz_cache);
    mz_map_init(&c->map, MZ_MEM_XDS);
    return c;
}

static void entry_destroy(struct mz_cache *c, struct entry *e)
{
    c->counts.bytes -= e->out->bytes.n + e->out->tail.n;
    c->counts.entries--;
    mz_out_unref(e->out);
    mz_free(MZ_MEM_XDS, e);
}

void mz_cache_destroy(struct mz_cache *c)
{
    if (!c)
        return;
    mz_map_foreach (it, &c->map)
        entry_destroy(c, it->value);
    mz_map_fini(&c->map);
    mz_free(MZ_MEM_XDS, c);
}

struct mz_out *mz_cache_get(struct mz_cache *c, const struct mz_key *k)
{
    struct entry *e =
        k->n <= MZ_KEY_BYTES ? mz_map_get(&c->map, (struct mz_str){ k->bytes, k->n }) : NULL;
    c->counts.hits += e != NULL;
    c->counts.misses += e == NULL;
    if (!e)
        return NULL;
    e->age = c->age;
    return mz_out_ref(e->out);
}

void mz_cache_put(struct mz_cache *c, const struct mz_key *k, struct mz_out *o)
{
    if (k->n > MZ_KEY_BYTES)
        return;
    struct entry *e = mz_alloc(MZ_MEM_XDS, sizeof(*e) + k->n);
    memcpy(e + 1, k->bytes, k->n);
    *e = (struct entry){ mz_out_ref(o), c->age, { (char *)(e + 1), k->n } };
    struct entry *old = mz_map_put(&c->map, e->key, e);
    if (old)
        entry_destroy(c, old);
    c->counts.entries++;
    c->counts.bytes += o->bytes.n + o->tail.n; /* parts are entries of their own */
}

void mz_cache_age(struct mz_cache *c)
{
    MZ_VEC(struct entry *) old = { 0 };
    c->age++;
    if (c->map.n < FEW + c->looked_at + c->looked_at / 4)
        return;
    mz_map_foreach (it, &c->map) {
        struct entry *e = it->value;
        if (e->out->slice.refs == 1 && c->age - e->age > AGES)
            *mz_vec_push(&old, MZ_MEM_XDS) = e;
    }
    mz_vec_foreach (e, &old) {
        (void)mz_map_del(&c->map, (*e)->key);
        entry_destroy(c, *e);
    }
    mz_vec_free(&old, MZ_MEM_XDS);
    c->looked_at = c->map.n;
}

struct mz_cache_counts mz_cache_counts(const struct mz_cache *c)
{
    return c->counts;
}
