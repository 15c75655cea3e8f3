#include "observe/metadata.h"
#include "proto/names.h"
#include <stdlib.h>

static void value_fill(const pb_Value *m, struct mz_value *out, struct mz_arena *a);

static int field_cmp(const void *x, const void *y)
{
    return mz_str_cmp(((const struct mz_field *)x)->key, ((const struct mz_field *)y)->key);
}

static void struct_fill(const pb_Struct *m, struct mz_value *out, struct mz_arena *a)
{
    out->kind = MZ_VALUE_STRUCT;
    out->fields.n = out->fields.cap = m->n_fields;
    out->fields.v = mz_arena_alloc(a, m->n_fields * sizeof(*out->fields.v));
    for (size_t i = 0; i < m->n_fields; i++) {
        struct mz_value *v = mz_arena_new0(a, struct mz_value);
        if (m->fields[i]->value)
            value_fill(m->fields[i]->value, v, a);
        out->fields.v[i] = (struct mz_field){ mz_arena_dup(a, mz_str_c(m->fields[i]->key)), v };
    }
    if (m->n_fields)
        qsort(out->fields.v, m->n_fields, sizeof(*out->fields.v), field_cmp);
}

static void list_fill(const pb_ListValue *m, struct mz_value *out, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_alloc0(a, m->n_values * sizeof(*v));
    for (size_t i = 0; i < m->n_values; i++)
        value_fill(m->values[i], &v[i], a);
    out->kind = MZ_VALUE_LIST;
    out->list.v = v;
    out->list.n = m->n_values;
}

static void value_fill(const pb_Value *m, struct mz_value *out, struct mz_arena *a)
{
    switch (m->kind_case) {
    case pb_Value_KIND_BOOL_VALUE:
        out->kind = MZ_VALUE_BOOL;
        out->b = m->bool_value != 0;
        return;
    case pb_Value_KIND_NUMBER_VALUE:
        out->kind = MZ_VALUE_NUMBER;
        out->number = m->number_value;
        return;
    case pb_Value_KIND_STRING_VALUE:
        out->kind = MZ_VALUE_STRING;
        out->str = mz_arena_dup(a, mz_str_c(m->string_value));
        return;
    case pb_Value_KIND_LIST_VALUE:
        list_fill(m->list_value, out, a);
        return;
    case pb_Value_KIND_STRUCT_VALUE:
        struct_fill(m->struct_value, out, a);
        return;
    default:
        out->kind = MZ_VALUE_NULL;
    }
}

const struct mz_value *mz_value_build(const pb_Struct *s, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    struct_fill(s, v, a);
    return v;
}

struct mz_meta *mz_meta_build(const pb_Metadata *m, struct mz_arena *a)
{
    if (!m)
        return NULL;
    struct mz_meta *out = mz_meta_create(a);
    out->n = out->cap = m->n_filter_metadata;
    out->v = mz_arena_alloc(a, out->n * sizeof(*out->v));
    for (size_t i = 0; i < out->n; i++) {
        struct mz_value *v = mz_arena_new0(a, struct mz_value);
        v->kind = MZ_VALUE_STRUCT;
        if (m->filter_metadata[i]->value)
            struct_fill(m->filter_metadata[i]->value, v, a);
        out->v[i] = (struct mz_field){ mz_arena_dup(a, mz_str_c(m->filter_metadata[i]->key)), v };
    }
    if (out->n)
        qsort(out->v, out->n, sizeof(*out->v), field_cmp);
    return out;
}

const struct mz_value *mz_value_of(const pb_Value *m, struct mz_arena *a)
{
    struct mz_value *v = mz_arena_new0(a, struct mz_value);
    value_fill(m, v, a);
    return v;
}
