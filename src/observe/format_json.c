#include "base/arena.h"
#include "observe/format_priv.h"
#include "observe/json_text.h"
#include "proto/names.h"
#include <stdlib.h>

/*
 * A JSON format is a tree. A string that is one operator keeps the operator's type; any other string is a text format, whose
 * absent values show "-". With omit_empty_values absent members, nulls and objects that hold nothing are left out.
 */
enum node_kind { NODE_STRUCT, NODE_LIST, NODE_FORMAT, NODE_LITERAL, NODE_NULL };
struct node {
    enum node_kind kind;
    struct mz_str key;     /* of a member: "key": with quotes and colon */
    struct mz_str raw_key; /* sorts */
    struct mz_str literal; /* as written */
    struct mz_format *format;
    struct node *v;
    size_t n;
};
struct mz_format_json {
    struct mz_arena *arena;
    struct node root;
    bool omit_empty, sort;
};

static int node_cmp(const void *a, const void *b)
{
    return mz_str_cmp(((const struct node *)a)->raw_key, ((const struct node *)b)->raw_key);
}

static struct mz_str buf_take(struct mz_buf *b, struct mz_arena *a)
{
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return s;
}

static bool node_build(struct mz_format_json *f, const pb_Value *m, struct node *out,
                       struct mz_err *err);

static void format_destroy(void *format)
{
    mz_format_destroy(format);
}

static bool string_build(struct mz_format_json *f, struct mz_str text, struct node *out,
                         struct mz_err *err)
{
    struct mz_format *fmt = mz_format_create(text, f->omit_empty, err);
    if (!fmt)
        return false;
    mz_arena_cleanup(f->arena, format_destroy, fmt);
    struct mz_str literal;
    out->kind = NODE_FORMAT;
    out->format = fmt;
    if (!mz_format_is_literal(fmt, &literal))
        return true;
    struct mz_buf b;
    mz_buf_init(&b);
    mz_json_string(&b, literal);
    out->kind = NODE_LITERAL;
    out->literal = buf_take(&b, f->arena);
    return true;
}

static bool struct_build(struct mz_format_json *f, const pb_Struct *m, struct node *out,
                         struct mz_err *err)
{
    out->kind = NODE_STRUCT;
    out->n = m->n_fields;
    out->v = mz_arena_alloc0(f->arena, (m->n_fields + 1) * sizeof(*out->v));
    for (size_t i = 0; i < out->n; i++) {
        struct mz_str key = mz_str_c(m->fields[i]->key);
        struct mz_buf b;
        mz_buf_init(&b);
        mz_json_string(&b, key);
        mz_buf_append(&b, ":", 1);
        out->v[i].key = buf_take(&b, f->arena);
        out->v[i].raw_key = mz_arena_dup(f->arena, key);
        if (!node_build(f, m->fields[i]->value, &out->v[i], err))
            return mz_err_at(err, MZ_STR_FMT, MZ_STR_ARG(key));
    }
    if (f->sort && out->n)
        qsort(out->v, out->n, sizeof(*out->v), node_cmp);
    return true;
}

static bool list_build(struct mz_format_json *f, const pb_ListValue *m, struct node *out,
                       struct mz_err *err)
{
    out->kind = NODE_LIST;
    out->n = m->n_values;
    out->v = mz_arena_alloc0(f->arena, (m->n_values + 1) * sizeof(*out->v));
    for (size_t i = 0; i < out->n; i++)
        if (!node_build(f, m->values[i], &out->v[i], err))
            return mz_err_at(err, "[%zu]", i);
    return true;
}

static bool node_build(struct mz_format_json *f, const pb_Value *m, struct node *out,
                       struct mz_err *err)
{
    char number[MZ_JSON_NUMBER_TEXT];
    out->kind = NODE_LITERAL;
    switch (m ? m->kind_case : pb_Value_KIND__NOT_SET) {
    case pb_Value_KIND_STRING_VALUE:
        return string_build(f, mz_str_c(m->string_value), out, err);
    case pb_Value_KIND_STRUCT_VALUE:
        return struct_build(f, m->struct_value, out, err);
    case pb_Value_KIND_LIST_VALUE:
        return list_build(f, m->list_value, out, err);
    case pb_Value_KIND_BOOL_VALUE:
        out->literal = m->bool_value ? MZ_STR("true") : MZ_STR("false");
        return true;
    case pb_Value_KIND_NUMBER_VALUE:
        out->literal = mz_arena_dup(
            f->arena, (struct mz_str){ number, mz_json_number(m->number_value, number) });
        return true;
    default:
        out->kind = NODE_NULL;
        return true;
    }
}

struct mz_format_json *mz_format_json_create(const pb_Struct *s, bool omit_empty_values, bool sort,
                                             struct mz_err *err)
{
    struct mz_format_json *f = mz_new0(MZ_MEM_CONFIG, struct mz_format_json);
    f->arena = mz_arena_create(MZ_MEM_CONFIG);
    f->omit_empty = omit_empty_values;
    f->sort = sort;
    if (struct_build(f, s, &f->root, err))
        return f;
    mz_format_json_destroy(f);
    return NULL;
}

void mz_format_json_destroy(struct mz_format_json *f)
{
    if (!f)
        return;
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_CONFIG, f);
}

/* ---- writing ---- */

static const struct step *only_operator(const struct node *n)
{
    return n->format->n == 1 ? &n->format->steps[0] : NULL;
}

static bool node_is_empty(const struct node *n, const struct mz_format_ctx *c)
{
    if (n->kind == NODE_FORMAT && only_operator(n)) {
        struct value v;
        step_value(only_operator(n), c, &v);
        bool none = v.kind == VALUE_NONE;
        value_end(&v);
        return none;
    }
    if (n->kind != NODE_STRUCT && n->kind != NODE_LIST)
        return n->kind == NODE_NULL;
    for (size_t i = 0; i < n->n; i++)
        if (!node_is_empty(&n->v[i], c))
            return false;
    return true;
}

static void text_write(const struct node *n, const struct mz_format_ctx *c, struct mz_buf *out)
{
    struct mz_buf text;
    mz_buf_init(&text);
    mz_format_append(n->format, c, &text);
    mz_json_string(out, mz_buf_linearize(&text, mz_buf_len(&text)));
    mz_buf_fini(&text);
}

static void operator_write(const struct step *s, const struct mz_format_ctx *c, struct mz_buf *out)
{
    struct value v;
    char digits[20];
    step_value(s, c, &v);
    switch (v.kind) {
    case VALUE_NONE:
        mz_buf_append(out, "null", 4);
        break;
    case VALUE_NUMBER:
        mz_buf_append(out, digits, mz_u64_text(v.number, digits));
        break;
    case VALUE_TREE:
        mz_value_json(v.tree, out);
        break;
    case VALUE_STR:
    case VALUE_QUOTED:
        mz_json_string(out, (struct mz_str){ v.str.p, v.str.n < s->limit ? v.str.n : s->limit });
        break;
    }
    value_end(&v);
}

static void node_write(const struct mz_format_json *f, const struct node *n,
                       const struct mz_format_ctx *c, struct mz_buf *out);

static void children_write(const struct mz_format_json *f, const struct node *n,
                           const struct mz_format_ctx *c, struct mz_buf *out)
{
    bool first = true;
    for (size_t i = 0; i < n->n; i++) {
        if (f->omit_empty && node_is_empty(&n->v[i], c))
            continue;
        if (!first)
            mz_buf_append(out, ",", 1);
        first = false;
        mz_buf_append_str(out, n->v[i].key);
        node_write(f, &n->v[i], c, out);
    }
}

static void node_write(const struct mz_format_json *f, const struct node *n,
                       const struct mz_format_ctx *c, struct mz_buf *out)
{
    switch (n->kind) {
    case NODE_STRUCT:
        mz_buf_append(out, "{", 1);
        children_write(f, n, c, out);
        mz_buf_append(out, "}", 1);
        return;
    case NODE_LIST:
        mz_buf_append(out, "[", 1);
        children_write(f, n, c, out);
        mz_buf_append(out, "]", 1);
        return;
    case NODE_FORMAT:
        if (only_operator(n))
            operator_write(only_operator(n), c, out);
        else
            text_write(n, c, out);
        return;
    case NODE_LITERAL:
        mz_buf_append_str(out, n->literal);
        return;
    case NODE_NULL:
        mz_buf_append(out, "null", 4);
        return;
    }
}

void mz_format_json_append(const struct mz_format_json *f, const struct mz_format_ctx *c,
                           struct mz_buf *out)
{
    struct mz_format_ctx raw = *c;
    raw.escape = false; /* JSON escapes in its own way */
    node_write(f, &f->root, &raw, out);
    mz_buf_append(out, "\n", 1);
}
