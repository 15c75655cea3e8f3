#include "control/translate/set.h"

#include <stdlib.h>

#include "base/list.h"
#include "base/vec.h"
#include "proto/wire.h"

/* A piece ends behind a name whose hash says so, or is full: the same names, the same pieces, whatever happened before. */
enum { MEAN = 32, MAX = 128 };

struct piece {
    unsigned refs, n;
    unsigned trims; /* since it was packed or asked for */
    uint64_t hash;  /* of names and versions */
    size_t size;
    struct mz_sets *home;
    struct mz_list packed_link; /* of home->packed, where there is any */
    struct mz_slice *packed[2];
    bool asked[2]; /* mz_set_piece_again() */
    struct mz_out *v[];
};
struct mz_set {
    unsigned refs;
    size_t n, pieces_n, size;
    uint64_t hash;
    struct piece *pieces[];
};
struct mz_sets {
    struct mz_map pieces;  /* by what they point to */
    struct mz_list packed; /* those that are */
};

struct mz_sets *mz_sets_create(void)
{
    struct mz_sets *s = mz_new0(MZ_MEM_XDS, struct mz_sets);
    mz_map_init(&s->pieces, MZ_MEM_XDS);
    mz_list_init(&s->packed);
    return s;
}

void mz_sets_destroy(struct mz_sets *s)
{
    if (!s)
        return;
    mz_map_fini(&s->pieces);
    mz_free(MZ_MEM_XDS, s);
}

size_t mz_sets_count(const struct mz_sets *s)
{
    return s->pieces.n;
}

/* ---- pieces ---- */

static struct mz_str key_of(struct mz_out *const *v, size_t n)
{
    return (struct mz_str){ (const char *)v, n * sizeof(*v) };
}

static struct piece *piece_ref(struct piece *p)
{
    p->refs++;
    return p;
}

static void drop_packed(struct piece *p, unsigned form)
{
    mz_slice_unref(p->packed[form]);
    p->packed[form] = NULL;
    if (!p->packed[!form])
        mz_list_del(&p->packed_link);
}

static void piece_unref(struct piece *p)
{
    if (--p->refs)
        return;
    for (unsigned form = 0; form < 2; form++)
        if (p->packed[form])
            drop_packed(p, form);
    (void)mz_map_del(&p->home->pieces, key_of(p->v, p->n));
    for (size_t i = 0; i < p->n; i++)
        mz_out_unref(p->v[i]);
    mz_free(MZ_MEM_XDS, p);
}

static struct piece *piece_of(struct mz_sets *s, struct mz_out *const *v, size_t n)
{
    struct piece *p = mz_map_get(&s->pieces, key_of(v, n));
    if (p)
        return piece_ref(p);
    p = mz_alloc(MZ_MEM_XDS, sizeof(*p) + n * sizeof(struct mz_out *));
    *p = (struct piece){ .refs = 1, .n = (unsigned)n, .hash = n, .home = s };
    for (size_t i = 0; i < n; i++) {
        char length[MZ_WIRE_VARINT_MAX];
        p->v[i] = mz_out_ref(v[i]);
        p->size += 1 + mz_wire_varint(v[i]->size, length) + v[i]->size;
        p->hash = mz_xxh64(&v[i]->version, sizeof(v[i]->version),
                           mz_xxh64(v[i]->name.p, v[i]->name.n, p->hash));
    }
    (void)mz_map_put(&s->pieces, key_of(p->v, n), p);
    return p;
}

static bool ends_piece(struct mz_str name)
{
    return mz_xxh64(name.p, name.n, 7) % MEAN == 0;
}

/* ---- making one ---- */

struct maker {
    struct mz_sets *s;
    MZ_VEC(struct piece *) pieces;
    struct mz_out *open[MAX]; /* of the piece that is not full yet; borrowed */
    size_t open_n, n;
};

static void close_piece(struct maker *m)
{
    if (m->open_n)
        *mz_vec_push(&m->pieces, MZ_MEM_XDS) = piece_of(m->s, m->open, m->open_n);
    m->open_n = 0;
}

static void add(struct maker *m, struct mz_out *o)
{
    m->open[m->open_n++] = o;
    m->n++;
    if (m->open_n == MAX || ends_piece(o->name))
        close_piece(m);
}

static void add_piece(struct maker *m, struct piece *p)
{
    *mz_vec_push(&m->pieces, MZ_MEM_XDS) = piece_ref(p);
    m->n += p->n;
}

static struct mz_set *finish(struct maker *m)
{
    close_piece(m);
    struct mz_set *s = mz_alloc(MZ_MEM_XDS, sizeof(*s) + m->pieces.n * sizeof(struct piece *));
    *s = (struct mz_set){ .refs = 1, .n = m->n, .pieces_n = m->pieces.n };
    for (size_t i = 0; i < m->pieces.n; i++) {
        s->pieces[i] = m->pieces.v[i];
        s->size += s->pieces[i]->size;
        s->hash = mz_xxh64(&s->pieces[i]->hash, sizeof(uint64_t), s->hash + 1);
    }
    mz_vec_free(&m->pieces, MZ_MEM_XDS);
    return s;
}

struct mz_set *mz_set_create(struct mz_sets *s, struct mz_out *const *v, size_t n)
{
    struct maker m = { .s = s };
    for (size_t i = 0; i < n; i++)
        add(&m, v[i]);
    return finish(&m);
}

/* What of a piece stays, with what comes before its end; the last takes all that comes behind it, too. */
static void merge(struct maker *m, const struct piece *p, bool last, const struct mz_set_edit *e,
                  size_t n, size_t *at)
{
    for (size_t i = 0; i < p->n; i++) {
        int c = 1;
        while (*at < n && (c = mz_str_cmp(e[*at].name, p->v[i]->name)) < 0) {
            if (e[*at].out)
                add(m, e[*at].out);
            ++*at;
        }
        if (*at < n && c == 0) {
            if (e[*at].out)
                add(m, e[*at].out);
            ++*at;
        } else {
            add(m, p->v[i]);
        }
    }
    for (; last && *at < n; ++*at)
        if (e[*at].out)
            add(m, e[*at].out);
}

int mz_set_edit_order(const void *a, const void *b)
{
    const struct mz_set_edit *x = a, *y = b;
    const int c = mz_str_cmp(x->name, y->name);
    return c ? c : (y->out != NULL) - (x->out != NULL);
}

void mz_set_edits_sort(struct mz_set_edits *e)
{
    size_t n = 0;
    mz_sort(e->v.v, e->v.n, sizeof(*e->v.v), mz_set_edit_order);
    for (size_t i = 0; i < e->v.n; i++)
        if (!n || !mz_str_eq(e->v.v[n - 1].name, e->v.v[i].name))
            e->v.v[n++] = e->v.v[i];
    e->v.n = n;
}

struct mz_set *mz_set_edit(struct mz_sets *s, const struct mz_set *from,
                           const struct mz_set_edit *e, size_t n)
{
    static const struct piece none;
    struct maker m = { .s = s };
    const size_t pieces = from ? from->pieces_n : 0;
    size_t at = 0;
    for (size_t i = 0; i < pieces; i++) {
        struct piece *p = from->pieces[i];
        const bool last = i + 1 == pieces;
        if (!m.open_n && (at == n || (!last && mz_str_cmp(e[at].name, p->v[p->n - 1]->name) > 0)))
            add_piece(&m, p);
        else
            merge(&m, p, last, e, n, &at);
    }
    if (!pieces)
        merge(&m, &none, true, e, n, &at);
    return finish(&m);
}

struct mz_set *mz_set_ref(const struct mz_set *s)
{
    struct mz_set *own = (struct mz_set *)(uintptr_t)s; /* only the count changes */
    own->refs++;
    return own;
}

void mz_set_unref(const struct mz_set *s)
{
    struct mz_set *own = (struct mz_set *)(uintptr_t)s;
    if (!own || --own->refs)
        return;
    for (size_t i = 0; i < own->pieces_n; i++)
        piece_unref(own->pieces[i]);
    mz_free(MZ_MEM_XDS, own);
}

/* ---- questions ---- */

size_t mz_set_count(const struct mz_set *s)
{
    return s ? s->n : 0;
}

size_t mz_set_size(const struct mz_set *s)
{
    return s ? s->size : 0;
}

uint64_t mz_set_hash(const struct mz_set *s)
{
    return s ? s->hash : 0;
}

bool mz_set_same(const struct mz_set *x, const struct mz_set *y)
{
    const size_t n = x ? x->pieces_n : 0;
    if (x == y || n != (y ? y->pieces_n : 0))
        return x == y;
    for (size_t i = 0; i < n; i++) /* equal pieces are one */
        if (x->pieces[i] != y->pieces[i])
            return false;
    return true;
}

struct mz_out *mz_set_find(const struct mz_set *s, struct mz_str name)
{
    size_t lo = 0, hi = s ? s->pieces_n : 0;
    while (lo < hi) { /* the first piece that does not end before it */
        const size_t mid = (lo + hi) / 2;
        const struct piece *p = s->pieces[mid];
        if (mz_str_cmp(p->v[p->n - 1]->name, name) < 0)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!s || lo == s->pieces_n)
        return NULL;
    const struct piece *p = s->pieces[lo];
    for (lo = 0, hi = p->n; lo < hi;) {
        const size_t mid = (lo + hi) / 2;
        const int c = mz_str_cmp(name, p->v[mid]->name);
        if (c == 0)
            return p->v[mid];
        if (c < 0)
            hi = mid;
        else
            lo = mid + 1;
    }
    return NULL;
}

struct mz_out *mz_set_next(const struct mz_set *s, struct mz_set_at *at)
{
    if (!s || at->piece == s->pieces_n)
        return NULL;
    const struct piece *p = s->pieces[at->piece];
    struct mz_out *o = p->v[at->i];
    if (++at->i == p->n)
        *at = (struct mz_set_at){ at->piece + 1, 0 };
    return o;
}

/* Pieces that are the same are stepped over. */
static void skip_same(const struct mz_set *x, struct mz_set_at *a, const struct mz_set *y,
                      struct mz_set_at *b)
{
    while (x && y && !a->i && !b->i && a->piece < x->pieces_n && b->piece < y->pieces_n &&
           x->pieces[a->piece] == y->pieces[b->piece]) {
        a->piece++;
        b->piece++;
    }
}

static struct mz_out *peek(const struct mz_set *s, struct mz_set_at at)
{
    return mz_set_next(s, &at);
}

void mz_set_compare(const struct mz_set *x, const struct mz_set *y,
                    void (*each)(void *arg, struct mz_out *in_x, struct mz_out *in_y), void *arg)
{
    struct mz_set_at a = { 0 }, b = { 0 };
    for (;;) {
        skip_same(x, &a, y, &b);
        struct mz_out *p = peek(x, a), *q = peek(y, b);
        if (!p && !q)
            return;
        const int c = !p ? 1 : !q ? -1 : mz_str_cmp(p->name, q->name);
        if (c <= 0)
            (void)mz_set_next(x, &a);
        if (c >= 0)
            (void)mz_set_next(y, &b);
        if (c != 0 || p->version != q->version)
            each(arg, c <= 0 ? p : NULL, c >= 0 ? q : NULL);
    }
}

/* ---- packed pieces ---- */

size_t mz_set_pieces(const struct mz_set *s)
{
    return s ? s->pieces_n : 0;
}

size_t mz_set_piece(const struct mz_set *s, size_t i, struct mz_out *const **out)
{
    *out = s->pieces[i]->v;
    return s->pieces[i]->n;
}

size_t mz_set_piece_size(const struct mz_set *s, size_t i)
{
    return s->pieces[i]->size;
}

bool mz_set_piece_again(const struct mz_set *s, size_t i, bool form)
{
    struct piece *p = s->pieces[i];
    const bool again = p->asked[form];
    p->asked[form] = true;
    return again;
}

struct mz_slice *mz_set_piece_packed(const struct mz_set *s, size_t i, bool form,
                                     struct mz_slice *(*pack)(void *arg, struct mz_out *const *v,
                                                              size_t n),
                                     void *arg)
{
    struct piece *p = s->pieces[i];
    p->trims = 0;
    if (!p->packed[form]) {
        if (!p->packed[!form])
            mz_list_add_tail(&p->home->packed, &p->packed_link);
        p->packed[form] = pack(arg, p->v, p->n);
    }
    return p->packed[form];
}

void mz_sets_trim(struct mz_sets *s, unsigned unused)
{
    mz_list_foreach (l, &s->packed) {
        struct piece *p = MZ_CONTAINER(l, struct piece, packed_link);
        if (p->trims++ < unused)
            continue;
        for (unsigned form = 0; form < 2; form++)
            if (p->packed[form] && p->packed[form]->refs == 1)
                drop_packed(p, form);
    }
}
