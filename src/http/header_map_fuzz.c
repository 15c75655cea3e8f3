/* Any row of operations on a header map ends as on a plain list: same entries in the same order, same answers. */
#include "http/header_map.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define MODEL_MAX 700 /* beyond what first[] can index */

struct model {
    struct mz_str name[MODEL_MAX], value[MODEL_MAX];
    unsigned n;
};

static const char *const names[] = {
    ":method", ":path", "host", "x-forwarded-for", "cookie", "x-a",
    "x-ab",    "te",    "via",  "x-request-id",    "zz",     "x-"
};
static const char *const values[] = { "", "a", "b,c", "some longer value", "0" };
#define N_NAMES (sizeof(names) / sizeof(*names))
#define FEW(X)  X(TE) X(COOKIE)
static const struct mz_header_set few = MZ_HEADER_SET(FEW);
static struct model model;

static bool in_few(struct mz_str name)
{
    return mz_str_eq(name, MZ_STR("te")) || mz_str_eq(name, MZ_STR("cookie"));
}

static unsigned model_drop(struct model *m, struct mz_str name, bool prefix)
{
    unsigned k = 0;
    for (unsigned i = 0; i < m->n; i++) {
        if (prefix ? mz_str_starts(m->name[i], name) : mz_str_eq(m->name[i], name))
            continue;
        m->name[k] = m->name[i];
        m->value[k++] = m->value[i];
    }
    unsigned gone = m->n - k;
    m->n = k;
    return gone;
}

static void model_put(struct model *m, struct mz_str name, struct mz_str value)
{
    m->name[m->n] = name;
    m->value[m->n++] = value;
}

static unsigned model_find(const struct model *m, struct mz_str name) /* m->n: not there */
{
    unsigned i = 0;
    while (i < m->n && !mz_str_eq(m->name[i], name))
        i++;
    return i;
}

/* Of the names here those that requests hold once. */
static bool held_once(const struct model *m, struct mz_str name)
{
    return model_find(m, MZ_STR(":method")) < m->n &&
           (mz_str_eq(name, MZ_STR("x-forwarded-for")) || mz_str_eq(name, MZ_STR("via")) ||
            mz_str_eq(name, MZ_STR("x-request-id")));
}

static struct mz_str joined(struct mz_str x, struct mz_str y, struct mz_arena *a)
{
    if (!x.n || !y.n)
        return x.n ? x : y;
    return mz_arena_cat(a, 3, (struct mz_str[]){ x, MZ_STR(","), y });
}

static void model_add(struct model *m, struct mz_str name, struct mz_str value, struct mz_arena *a)
{
    unsigned i = held_once(m, name) ? model_find(m, name) : m->n;
    if (i < m->n)
        m->value[i] = joined(m->value[i], value, a);
    else
        model_put(m, name, value);
}

static void model_join(struct model *m, struct mz_arena *a)
{
    static struct model out;
    out.n = 0;
    for (unsigned i = 0; i < m->n; i++) {
        unsigned k = held_once(m, m->name[i]) ? model_find(&out, m->name[i]) : out.n;
        if (k < out.n)
            out.value[k] = joined(out.value[k], m->value[i], a);
        else
            model_put(&out, m->name[i], m->value[i]);
    }
    *m = out;
}

/* The first takes the value, the others go. */
static void model_set(struct model *m, struct mz_str name, struct mz_str value)
{
    unsigned k = 0, seen = 0;
    for (unsigned i = 0; i < m->n; i++) {
        bool same = mz_str_eq(m->name[i], name);
        if (same && seen++)
            continue;
        m->name[k] = m->name[i];
        m->value[k++] = same ? value : m->value[i];
    }
    m->n = k;
    if (!seen)
        model_put(m, name, value);
}

static void must(bool ok)
{
    if (!ok)
        abort();
}

static void same_entries(const struct mz_headers *h, const struct model *m)
{
    unsigned i = 0;
    mz_headers_foreach(e, h)
    {
        must(i < m->n && mz_str_eq(e->name, m->name[i]) && mz_str_eq(e->value, m->value[i]));
        must(e->id == (uint8_t)mz_header_id(e->name));
        i++;
    }
    must(i == m->n && h->live == m->n);
}

static void same_answers(const struct mz_headers *h, const struct model *m)
{
    for (unsigned k = 0; k < N_NAMES; k++) {
        struct mz_str name = mz_str_c(names[k]);
        enum mz_header_id id = mz_header_id(name);
        const struct mz_header *e = mz_headers_get(h, name);
        if (id != MZ_H_NONE)
            must(e == mz_headers_get_id(h, id));
        for (unsigned i = 0; i < m->n; i++) {
            if (!mz_str_eq(m->name[i], name))
                continue;
            must(e && mz_str_eq(e->name, name) && mz_str_eq(e->value, m->value[i]));
            e = mz_headers_next(h, e);
        }
        must(e == NULL);
    }
}

static void step(struct mz_headers *h, struct model *m, uint8_t op, uint8_t arg)
{
    struct mz_str name = mz_str_c(names[arg % N_NAMES]);
    struct mz_str value = mz_str_c(values[arg / N_NAMES % (sizeof(values) / sizeof(*values))]);
    enum mz_header_id id = mz_header_id(name);
    unsigned there = model_find(m, name);
    if (there < m->n && m->value[there].n > 1000)
        op = 3; /* long enough */
    switch (op % 9) {
    case 0:
    case 1:
        if (m->n == MODEL_MAX)
            return;
        id != MZ_H_NONE &&op & 8 ? mz_headers_add_id(h, id, value) : mz_headers_add(h, name, value);
        model_add(m, name, value, h->arena);
        break;
    case 2:
        if (m->n == MODEL_MAX)
            return;
        id != MZ_H_NONE &&op & 8 ? mz_headers_set_id(h, id, value) : mz_headers_set(h, name, value);
        model_set(m, name, value);
        break;
    case 3: {
        unsigned gone =
            id != MZ_H_NONE && op & 8 ? mz_headers_remove_id(h, id) : mz_headers_remove(h, name);
        must(gone == model_drop(m, name, false));
        break;
    }
    case 4:
        must(mz_headers_remove_prefix(h, name) == model_drop(m, name, true));
        break;
    case 5:
        mz_headers_remove_set(h, &few);
        for (unsigned k = 0; k < N_NAMES; k++)
            if (in_few(mz_str_c(names[k])))
                model_drop(m, mz_str_c(names[k]), false);
        break;
    case 6: /* many of one name, past 254 places */
        for (unsigned i = 0; i < 60u && m->n < MODEL_MAX; i++) {
            mz_headers_add(h, name, value);
            model_add(m, name, value, h->arena);
        }
        break;
    case 7:
        mz_headers_join_repeated(h);
        model_join(m, h->arena);
        break;
    default:
        same_answers(h, m);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    model.n = 0;
    for (size_t i = 0; i + 1 < n && i < 400; i += 2)
        step(h, &model, p[i], p[i + 1]);
    same_entries(h, &model);
    same_answers(h, &model);
    const struct mz_headers *copy = mz_headers_clone(h, a);
    same_entries(copy, &model);
    same_answers(copy, &model);
    mz_arena_destroy(a);
    return 0;
}
