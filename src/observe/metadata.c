#include "observe/metadata.h"
#include "observe/json_text.h"

#define FIRST_ROOM 4 /* fields */

struct mz_meta *mz_meta_create(struct mz_arena *a)
{
    struct mz_meta *m = mz_arena_alloc(a, sizeof(*m) + FIRST_ROOM * sizeof(*m->v));
    *m = (struct mz_meta){ (struct mz_field *)(void *)(m + 1), 0, FIRST_ROOM, a };
    return m;
}

static struct mz_field *field_find(struct mz_field *v, size_t n, struct mz_str key)
{
    for (size_t i = 0; i < n; i++) /* a filter's keys are often the very same text */
        if (v[i].key.n == key.n && (v[i].key.p == key.p || mz_str_eq(v[i].key, key)))
            return &v[i];
    return NULL;
}

static __attribute__((noinline)) void fields_widen(struct mz_field **v, size_t n, size_t *cap,
                                                   struct mz_arena *a)
{
    size_t wider = *cap ? *cap * 2 : FIRST_ROOM;
    struct mz_field *copy = mz_arena_alloc(a, wider * sizeof(*copy));
    if (n)
        memcpy(copy, *v, n * sizeof(*copy));
    *v = copy;
    *cap = wider;
}

/* Fields stay sorted, so that JSON has the order that Envoy writes. The key is borrowed. */
static struct mz_field *field_put(struct mz_field **v, size_t *n, size_t *cap, struct mz_str key,
                                  struct mz_arena *a)
{
    struct mz_field *old = field_find(*v, *n, key);
    if (old)
        return old;
    if (*n == *cap)
        fields_widen(v, *n, cap, a);
    struct mz_field *at = *v + (*n)++;
    for (; at != *v && mz_str_cmp(at[-1].key, key) > 0; at--)
        *at = at[-1];
    *at = (struct mz_field){ key, NULL };
    return at;
}

const struct mz_value *mz_meta_get(const struct mz_meta *m, struct mz_str ns,
                                   const struct mz_str *path, size_t n)
{
    const struct mz_field *f = m ? field_find(m->v, m->n, ns) : NULL;
    const struct mz_value *v = f ? f->value : NULL;
    for (size_t i = 0; v && i < n; i++) {
        f = v->kind == MZ_VALUE_STRUCT ? field_find(v->fields.v, v->fields.n, path[i]) : NULL;
        v = f ? f->value : NULL;
    }
    return v;
}

void mz_meta_set(struct mz_meta *m, struct mz_str ns, struct mz_str key, const struct mz_value *v)
{
    struct mz_field *space = field_put(&m->v, &m->n, &m->cap, ns, m->arena);
    bool is_struct = space->value && space->value->kind == MZ_VALUE_STRUCT;
    if (is_struct && space->value->fields.n < space->value->fields.cap) {
        /* Only a struct that was made below has room: it is this stream's own. */
        struct mz_value *own = (struct mz_value *)(uintptr_t)space->value;
        field_put(&own->fields.v, &own->fields.n, &own->fields.cap, key, m->arena)->value = v;
        return;
    }
    size_t n = is_struct ? space->value->fields.n : 0; /* values are shared: change a copy */
    struct mz_value *top =
        mz_arena_alloc(m->arena, sizeof(*top) + (n + 4) * sizeof(*top->fields.v));
    struct mz_field *room = (struct mz_field *)(void *)(top + 1);
    if (n)
        memcpy(room, space->value->fields.v, n * sizeof(*room));
    *top = (struct mz_value){ .kind = MZ_VALUE_STRUCT, .fields = { room, n, n + 4 } };
    field_put(&top->fields.v, &top->fields.n, &top->fields.cap, key, m->arena)->value = v;
    space->value = top;
}

bool mz_meta_set_space(struct mz_meta *m, struct mz_str ns, const struct mz_value *v)
{
    if (m->n && field_find(m->v, m->n, ns))
        return false;
    field_put(&m->v, &m->n, &m->cap, ns, m->arena)->value = v;
    return true;
}

static void copy_keys(struct mz_meta *into, const struct mz_meta *from, struct mz_str ns)
{
    const struct mz_value *v = mz_meta_get(from, ns, NULL, 0);
    for (size_t i = 0; v && v->kind == MZ_VALUE_STRUCT && i < v->fields.n; i++)
        mz_meta_set(into, ns, v->fields.v[i].key, v->fields.v[i].value);
}

const struct mz_meta *mz_meta_merged(const struct mz_meta *base, const struct mz_meta *over,
                                     struct mz_str ns, struct mz_arena *a)
{
    if (!base || !over)
        return over ? over : base;
    struct mz_meta *m = mz_meta_create(a);
    copy_keys(m, base, ns);
    copy_keys(m, over, ns);
    return m;
}

struct mz_meta *mz_meta_clone(const struct mz_meta *m, struct mz_arena *a)
{
    struct mz_meta *out = mz_meta_create(a);
    for (size_t i = 0; i < m->n; i++)
        copy_keys(out, m, m->v[i].key);
    return out;
}

static void value_copy(const struct mz_value *v, struct mz_value *to, struct mz_arena *a)
{
    *to = *v;
    if (v->kind == MZ_VALUE_STRING) {
        to->str = mz_arena_dup(a, v->str);
    } else if (v->kind == MZ_VALUE_LIST) {
        struct mz_value *list = mz_arena_alloc(a, mz_mul(v->list.n, sizeof(*list)));
        for (size_t i = 0; i < v->list.n; i++)
            value_copy(&v->list.v[i], &list[i], a);
        to->list.v = list;
    } else if (v->kind == MZ_VALUE_STRUCT) {
        to->fields.v = mz_arena_alloc(a, mz_mul(v->fields.n, sizeof(*to->fields.v)));
        to->fields.cap = v->fields.n;
        for (size_t i = 0; i < v->fields.n; i++)
            to->fields.v[i] = (struct mz_field){ mz_arena_dup(a, v->fields.v[i].key),
                                                 mz_value_copy(v->fields.v[i].value, a) };
    }
}

const struct mz_value *mz_value_copy(const struct mz_value *v, struct mz_arena *a)
{
    struct mz_value *to = mz_arena_alloc(a, sizeof(*to));
    value_copy(v, to, a);
    return to;
}

static void list_json(const struct mz_value *v, struct mz_buf *out)
{
    mz_buf_append(out, "[", 1);
    for (size_t i = 0; i < v->list.n; i++) {
        if (i)
            mz_buf_append(out, ",", 1);
        mz_value_json(&v->list.v[i], out);
    }
    mz_buf_append(out, "]", 1);
}

static void struct_json(const struct mz_value *v, struct mz_buf *out)
{
    mz_buf_append(out, "{", 1);
    for (size_t i = 0; i < v->fields.n; i++) {
        if (i)
            mz_buf_append(out, ",", 1);
        mz_json_string(out, v->fields.v[i].key);
        mz_buf_append(out, ":", 1);
        mz_value_json(v->fields.v[i].value, out);
    }
    mz_buf_append(out, "}", 1);
}

void mz_value_json(const struct mz_value *v,
                   struct mz_buf *out) /* recursion bounded by the mapper's depth of messages */
{
    char number[MZ_JSON_NUMBER_TEXT];
    switch (v->kind) {
    case MZ_VALUE_BOOL:
        mz_buf_append_str(out, v->b ? MZ_STR("true") : MZ_STR("false"));
        return;
    case MZ_VALUE_NUMBER:
        mz_buf_append(out, number, mz_json_number(v->number, number));
        return;
    case MZ_VALUE_STRING:
        mz_json_string(out, v->str);
        return;
    case MZ_VALUE_LIST:
        list_json(v, out);
        return;
    case MZ_VALUE_STRUCT:
        struct_json(v, out);
        return;
    case MZ_VALUE_NULL:
        mz_buf_append(out, "null", 4);
        return;
    }
}

static bool lists_eq(const struct mz_value *a, const struct mz_value *b)
{
    if (a->list.n != b->list.n)
        return false;
    for (size_t i = 0; i < a->list.n; i++)
        if (!mz_value_eq(&a->list.v[i], &b->list.v[i]))
            return false;
    return true;
}

static bool structs_eq(const struct mz_value *a, const struct mz_value *b)
{
    if (a->fields.n != b->fields.n)
        return false;
    for (size_t i = 0; i < a->fields.n; i++)
        if (!mz_str_eq(a->fields.v[i].key, b->fields.v[i].key) ||
            !mz_value_eq(a->fields.v[i].value, b->fields.v[i].value))
            return false;
    return true;
}

bool mz_value_eq(const struct mz_value *a, const struct mz_value *b)
{
    if (a->kind != b->kind)
        return false;
    switch (a->kind) {
    case MZ_VALUE_BOOL:
        return a->b == b->b;
    case MZ_VALUE_NUMBER:
        return !(a->number < b->number) && !(a->number > b->number);
    case MZ_VALUE_STRING:
        return mz_str_eq(a->str, b->str);
    case MZ_VALUE_LIST:
        return lists_eq(a, b);
    case MZ_VALUE_STRUCT:
        return structs_eq(a, b);
    case MZ_VALUE_NULL:
        return true;
    }
    return false;
}
