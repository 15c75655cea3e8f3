#include "base/arena.h"
#include "observe/attributes.h"
#include "observe/format_priv.h"
#include "observe/metadata.h"
#include "proto/tree.h"

/* Operators that hold others: CEL expressions, and the first of several operators that has a value. */

static bool compile_cel(struct step *s, struct mz_str param, struct mz_arena *a, struct mz_err *err)
{
    struct mz_cel *p = mz_attributes_compile(param, NULL, err);
    if (!p)
        return false;
    mz_arena_cleanup(a, (void (*)(void *))mz_cel_destroy, p);
    s->cel = p;
    return true;
}

static void cel_run(const struct step *s, const struct mz_format_ctx *c, struct mz_cel_value *out)
{
    struct mz_attributes attributes;
    mz_attributes_init(&attributes, c);
    mz_cel_eval(s->cel, &attributes.vars, c->info->arena, out);
}

static void value_cel(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    struct mz_cel_value v;
    struct mz_str text;
    cel_run(s, c, &v);
    if (mz_cel_text(&v, c->info->arena, &text))
        value_str(out, text);
}

/* As CEL, but numbers, booleans and null keep their type in JSON. */
static void value_typed_cel(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    struct mz_cel_value v;
    struct mz_str text;
    cel_run(s, c, &v);
    struct mz_value *tree = mz_arena_new0(c->info->arena, struct mz_value);
    switch ((enum mz_cel_kind)v.kind) {
    case MZ_CEL_BOOL:
        *tree = (struct mz_value){ .kind = MZ_VALUE_BOOL, .b = v.b };
        break;
    case MZ_CEL_INT:
        *tree = (struct mz_value){ .kind = MZ_VALUE_NUMBER, .number = (double)v.i };
        break;
    case MZ_CEL_UINT:
        *tree = (struct mz_value){ .kind = MZ_VALUE_NUMBER, .number = (double)v.u };
        break;
    case MZ_CEL_DOUBLE:
        *tree = (struct mz_value){ .kind = MZ_VALUE_NUMBER, .number = v.d };
        break;
    default:
        if (mz_cel_text(&v, c->info->arena, &text))
            value_str(out, text);
        return;
    }
    out->kind = VALUE_TREE;
    out->tree = tree;
}

/* ---- COALESCE({"operators": ["PROTOCOL", {"command": "REQ", "param": "x-a", "max_length": 5}]}) ---- */

static const struct mz_node *member_of(const struct mz_node *n, struct mz_str key)
{
    for (uint32_t i = 0; n->kind == MZ_NODE_MAP && i < n->n; i++)
        if (mz_str_eq(n->pairs[i].key, key))
            return n->pairs[i].value;
    return NULL;
}

static struct mz_str text_of(const struct mz_node *n)
{
    return n && n->kind == MZ_NODE_STR ? n->text : (struct mz_str){ NULL, 0 };
}

static bool choice_compile(const struct mz_node *n, struct mz_arena *a, struct step *out,
                           struct mz_err *err)
{
    const struct mz_node *max = member_of(n, MZ_STR("max_length"));
    struct mz_str name = text_of(n->kind == MZ_NODE_MAP ? member_of(n, MZ_STR("command")) : n);
    uint64_t limit = UINT32_MAX;
    if (!name.n)
        return mz_err_set(err, "COALESCE: an operator is a name, or an object with \"command\"");
    if (max && (max->kind != MZ_NODE_NUM || !mz_str_u64(max->text, &limit)))
        return mz_err_set(err, "COALESCE: max_length must be a number");
    struct operator_call call = { .name = name,
                                  .param = text_of(member_of(n, MZ_STR("param"))),
                                  .has_limit = max != NULL,
                                  .limit = limit };
    return operator_compile(&call, a, out, err);
}

#define CHOICES_MAX 100
static _Thread_local unsigned coalesce_depth; /* of configuration: a COALESCE may hold another */

static bool choices_compile(struct step *s, const struct mz_node *list, struct mz_arena *a,
                            struct mz_err *err)
{
    if (!list || list->kind != MZ_NODE_LIST || !list->n || list->n > CHOICES_MAX)
        return mz_err_set(err, "COALESCE needs {\"operators\": [...]} with 1 to %d of them",
                          CHOICES_MAX);
    struct step *v = mz_arena_alloc0(a, list->n * sizeof(*v));
    for (uint32_t i = 0; i < list->n; i++)
        if (!choice_compile(list->list[i], a, &v[i], err))
            return false;
    s->steps = v;
    s->path_n = list->n;
    return true;
}

static bool compile_coalesce(struct step *s, struct mz_str param, struct mz_arena *a,
                             struct mz_err *err)
{
    struct mz_arena *tmp = mz_arena_create(MZ_MEM_CONFIG);
    const struct mz_node *n = mz_tree_read(tmp, param, MZ_TEXT_JSON, err);
    bool ok = n && coalesce_depth < 8;
    if (n && !ok)
        (void)mz_err_set(err, "COALESCE is nested too deeply");
    coalesce_depth++;
    ok = ok && choices_compile(s, member_of(n, MZ_STR("operators")), a, err);
    coalesce_depth--;
    mz_arena_destroy(tmp);
    return ok;
}

static void value_coalesce(const struct step *s, const struct mz_format_ctx *c, struct value *out)
{
    for (uint32_t i = 0; i < s->path_n; i++) {
        const struct step *one = &s->steps[i];
        value_end(out);
        step_value(one, c, out);
        if (out->kind == VALUE_NONE)
            continue;
        if (out->kind == VALUE_STR && out->str.n > one->limit)
            out->str.n = one->limit;
        return;
    }
}

const struct operator_row operators_cel[] = {
    { MZ_STR_INIT("CEL"), value_cel, compile_cel, 0, PARAMS_MUST, true, WAY_CALL },
    { MZ_STR_INIT("COALESCE"), value_coalesce, compile_coalesce, 0, PARAMS_MUST, true, WAY_CALL },
    { MZ_STR_INIT("TYPED_CEL"), value_typed_cel, compile_cel, 0, PARAMS_MUST, true, WAY_CALL },
};
const size_t operators_cel_n = MZ_COUNT(operators_cel);
