#include "base/arena.h"
#include "observe/format_priv.h"
#include "observe/json_text.h"
#include "proto/names.h"
#include <stdlib.h>

/*
 * A JSON format is a tree. A string that is one operator keeps the operator's type; any other string is a text format, whose
 * absent values show "-". With omit_empty_values absent members, nulls and objects that hold nothing are left out, so the tree
 * is walked for every line; without, a line always has the same members, and the tree becomes one format that is run.
 */
enum node_kind { NODE_STRUCT, NODE_LIST, NODE_FORMAT, NODE_LITERAL };
struct node {
    enum node_kind kind;
    struct mz_str key;        /* of a member: "key": with quotes and colon */
    struct mz_str raw_key;    /* sorts */
    struct mz_str literal;    /* as written */
    bool null;                /* the literal */
    struct mz_format *format; /* one operator */
    struct node *v;
    size_t n;
};
struct mz_format_json {
    struct mz_arena *arena;
    struct node root;
    struct mz_format *whole; /* NULL: the tree is walked */
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

/* A string that is more than one operator is a value as if it were one. */
static void value_text(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    struct mz_buf longer;
    mz_buf_init(&longer);
    size_t n = format_write(s->format, c, TEXT_RAW, out->scratch, VALUE_SCRATCH, &longer);
    value_str(out, (struct mz_str){ out->scratch, n });
    if (mz_buf_len(&longer)) {
        mz_buf_move_all(value_spill(out), &longer);
        value_take_spill(out);
    }
    mz_buf_fini(&longer);
}

static struct mz_format *text_wrap(struct mz_format_json *f, struct mz_format *text)
{
    static const struct operator_row row = { .value = value_text };
    const struct step s = { .op = &row, .limit = UINT32_MAX, .format = text };
    struct format_builder b;
    format_begin(&b, f->omit_empty);
    format_step(&b, &s);
    struct mz_format *wrapped = format_end(&b);
    mz_arena_cleanup(f->arena, format_destroy, wrapped);
    return wrapped;
}

static bool string_build(struct mz_format_json *f, struct mz_str text, struct node *out,
                         struct mz_err *err)
{
    struct mz_format *fmt = mz_format_create(text, f->omit_empty, err);
    if (!fmt)
        return false;
    mz_arena_cleanup(f->arena, format_destroy, fmt);
    struct mz_str literal;
    if (!mz_format_is_literal(fmt, &literal)) {
        out->kind = NODE_FORMAT;
        out->format = fmt->n == 1 && !fmt->steps[0].lead_n ? fmt : text_wrap(f, fmt);
        return true;
    }
    struct mz_buf b;
    mz_buf_init(&b);
    mz_json_string(&b, literal);
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
        out->literal = MZ_STR("null");
        out->null = true;
        return true;
    }
}

/* The members of @n in order, all of them. */
static void node_flatten(const struct node *n, struct format_builder *b)
{
    switch (n->kind) {
    case NODE_STRUCT:
    case NODE_LIST:
        format_literal(b, n->kind == NODE_STRUCT ? MZ_STR("{") : MZ_STR("["));
        for (size_t i = 0; i < n->n; i++) {
            if (i)
                format_literal(b, MZ_STR(","));
            format_literal(b, n->v[i].key);
            node_flatten(&n->v[i], b);
        }
        format_literal(b, n->kind == NODE_STRUCT ? MZ_STR("}") : MZ_STR("]"));
        return;
    case NODE_FORMAT:
        format_step(b, &n->format->steps[0]);
        return;
    case NODE_LITERAL:
        format_literal(b, n->literal);
        return;
    }
}

struct mz_format_json *mz_format_json_create(const pb_Struct *s, bool omit_empty_values, bool sort,
                                             struct mz_err *err)
{
    struct mz_format_json *f = mz_new0(MZ_MEM_CONFIG, struct mz_format_json);
    f->arena = mz_arena_create(MZ_MEM_CONFIG);
    f->omit_empty = omit_empty_values;
    f->sort = sort;
    if (!struct_build(f, s, &f->root, err)) {
        mz_format_json_destroy(f);
        return NULL;
    }
    if (!omit_empty_values) {
        struct format_builder b;
        format_begin(&b, false);
        node_flatten(&f->root, &b);
        format_literal(&b, MZ_STR("\n"));
        f->whole = format_end(&b);
    }
    return f;
}

void mz_format_json_destroy(struct mz_format_json *f)
{
    if (!f)
        return;
    mz_format_destroy(f->whole);
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_CONFIG, f);
}

/* ---- writing ---- */

static bool node_is_empty(const struct node *n, const struct mz_format_ctx *c)
{
    if (n->kind == NODE_FORMAT) {
        struct value v MZ_UNINIT;
        step_value(&n->format->steps[0], c, &v);
        bool none = v.kind == VALUE_NONE;
        value_end(&v);
        return none;
    }
    if (n->kind == NODE_LITERAL)
        return n->null;
    for (size_t i = 0; i < n->n; i++)
        if (!node_is_empty(&n->v[i], c))
            return false;
    return true;
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
        (void)format_write(n->format, c, TEXT_JSON, NULL, 0, out);
        return;
    case NODE_LITERAL:
        mz_buf_append_str(out, n->literal);
        return;
    }
}

size_t format_json_write(const struct mz_format_json *f, const struct mz_format_ctx *c, char *mem,
                         size_t room, struct mz_buf *overflow)
{
    if (f->whole)
        return format_write(f->whole, c, TEXT_JSON, mem, room, overflow);
    node_write(f, &f->root, c, overflow);
    mz_buf_append(overflow, "\n", 1);
    return 0;
}

void mz_format_json_append(const struct mz_format_json *f, const struct mz_format_ctx *c,
                           struct mz_buf *out)
{
    (void)format_json_write(f, c, NULL, 0, out);
}
