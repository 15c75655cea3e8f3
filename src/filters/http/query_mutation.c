#include "filters/http/header_mutation.h"

#include <stdlib.h>

#include "http/query.h"
#include "proto/mapper.h"

struct param {
    struct mz_str key;         /* decoded */
    struct mz_str name, value; /* as they stand in the path */
    bool gone;
};
struct params {
    struct param *v;
    size_t n;
};

bool query_op_build(const pb_KeyValueMutation *m, struct query_op *out, struct mz_err *err)
{
    static const uint8_t actions[] = { MZ_APPEND_IF_EXISTS_OR_ADD, MZ_ADD_IF_ABSENT,
                                       MZ_OVERWRITE_IF_EXISTS_OR_ADD, MZ_OVERWRITE_IF_EXISTS };
    const pb_KeyValuePair *kv = m->append ? m->append->record : NULL;
    const char *key = kv ? kv->key : m->remove;
    if (!key[0])
        return mz_err_set(err, "append.record.key or remove must name a query parameter");
    out->key = (struct mz_str){ mz_strndup(MZ_MEM_CONFIG, key, strlen(key)), strlen(key) };
    if (!kv)
        return true;
    out->action = (enum mz_append_action)actions[m->append->action];
    out->value =
        mz_format_create(mz_str_c(kv->value && kv->value->kind_case == pb_Value_KIND_STRING_VALUE
                                      ? kv->value->string_value
                                      : ""),
                         true, err);
    return out->value || mz_err_at(err, "append.record.value");
}

void query_op_fini(struct query_op *op)
{
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)op->key.p);
    mz_format_destroy(op->value);
}

/* @more: places for what is added. */
static struct params params_of(struct mz_str path, size_t more, struct mz_arena *a)
{
    struct mz_str rest = mz_query_of(path), name, value;
    size_t room = more + 1;
    for (size_t i = 0; i < rest.n; i++)
        room += rest.p[i] == '&';
    struct params p = { mz_arena_alloc(a, mz_mul(room, sizeof(*p.v))), 0 };
    while (mz_query_next(&rest, &name, &value))
        p.v[p.n++] = (struct param){ mz_percent_decode(a, name), name, value, false };
    return p;
}

static bool exists(const struct params *p, struct mz_str key)
{
    for (size_t i = 0; i < p->n; i++)
        if (!p->v[i].gone && mz_str_eq(p->v[i].key, key))
            return true;
    return false;
}

static void drop(struct params *p, struct mz_str key)
{
    for (size_t i = 0; i < p->n; i++)
        p->v[i].gone |= mz_str_eq(p->v[i].key, key);
}

static void apply(struct params *p, const struct query_op *op, const struct mz_format_ctx *c,
                  struct mz_arena *a)
{
    if (!op->value) {
        drop(p, op->key);
        return;
    }
    bool there = exists(p, op->key);
    if ((op->action == MZ_ADD_IF_ABSENT && there) ||
        (op->action == MZ_OVERWRITE_IF_EXISTS && !there))
        return;
    if (op->action == MZ_OVERWRITE_IF_EXISTS_OR_ADD || op->action == MZ_OVERWRITE_IF_EXISTS)
        drop(p, op->key);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(op->value, c, &b);
    struct mz_str value = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    p->v[p->n++] = (struct param){ op->key, mz_percent_encode(a, op->key, "&=#+"),
                                   mz_percent_encode(a, value, "&=#+"), false };
}

/* Equal names stay in their order: the array is sorted in place, and its order is that of the addresses of the names only by
 * chance, so the places are compared. */
static int by_key(const void *x, const void *y)
{
    const struct param *const *l = x, *const *r = y;
    int c = mz_str_cmp((*l)->key, (*r)->key);
    return c ? c : (*l > *r) - (*l < *r);
}

static struct mz_str joined(struct mz_str path, const struct params *p, struct mz_arena *a)
{
    const struct param **order = mz_arena_alloc(a, mz_mul(p->n + 1, sizeof(const struct param *)));
    size_t n = 0, bytes;
    ptrdiff_t query = mz_str_chr(path, '?');
    if (query >= 0)
        path.n = (size_t)query;
    bytes = path.n;
    for (size_t i = 0; i < p->n; i++) {
        if (p->v[i].gone)
            continue;
        order[n++] = &p->v[i];
        bytes += 2 + p->v[i].name.n + p->v[i].value.n;
    }
    qsort(order, n, sizeof(const struct param *), by_key);
    char *text = mz_arena_alloc(a, bytes + 1), *at = text;
    at = mempcpy(at, path.p, path.n);
    for (size_t i = 0; i < n; i++) {
        *at++ = i ? '&' : '?';
        at = mempcpy(at, order[i]->name.p, order[i]->name.n);
        *at++ = '=';
        if (order[i]->value.n)
            at = mempcpy(at, order[i]->value.p, order[i]->value.n);
    }
    return (struct mz_str){ text, (size_t)(at - text) };
}

struct mz_str query_mutate(struct mz_str path, const struct query_op *ops, size_t n,
                           const struct mz_format_ctx *c, struct mz_arena *a)
{
    struct params p = params_of(path, n, a);
    for (size_t i = 0; i < n; i++)
        apply(&p, &ops[i], c, a);
    return joined(path, &p, a);
}
