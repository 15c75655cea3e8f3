#include "cel/cel_priv.h"

#include "proto/names.h"

/* google.api.expr.v1alpha1.Expr to nodes. Its nesting is bounded by the reader of messages. */

static struct node *expr(struct build *b, const pb_Expr *e);

static struct node *refuse(struct build *b, const char *why)
{
    (void)mz_err_set(b->err, "%s", why);
    return NULL;
}

static struct node *constant(struct build *b, const pb_Constant *c)
{
    struct mz_cel_value v = { .kind = MZ_CEL_NULL };
    switch (c->constant_kind_case) {
    case pb_Constant_CONSTANT_KIND_NULL_VALUE:
        break;
    case pb_Constant_CONSTANT_KIND_BOOL_VALUE:
        v = mz_cel_bool(c->bool_value != 0);
        break;
    case pb_Constant_CONSTANT_KIND_INT64_VALUE:
        v = mz_cel_int(c->int64_value);
        break;
    case pb_Constant_CONSTANT_KIND_UINT64_VALUE:
        v = mz_cel_uint(c->uint64_value);
        break;
    case pb_Constant_CONSTANT_KIND_DOUBLE_VALUE:
        v = mz_cel_double(c->double_value);
        break;
    case pb_Constant_CONSTANT_KIND_STRING_VALUE:
        v = mz_cel_string(mz_arena_dup(b->p->arena, mz_str_c(c->string_value)));
        break;
    case pb_Constant_CONSTANT_KIND_BYTES_VALUE:
        v = mz_cel_string(mz_arena_dup(
            b->p->arena, (struct mz_str){ (const char *)c->bytes_value.data, c->bytes_value.len }));
        v.kind = MZ_CEL_BYTES;
        break;
    default:
        return refuse(b, "constant without a value");
    }
    return build_const(b, v);
}

static struct node *select_field(struct build *b, const pb_Expr_Select *s)
{
    struct node *of = s->operand ? expr(b, s->operand) : refuse(b, "select_expr without operand");
    return of ? build_select(b, of, mz_str_c(s->field), s->test_only != 0) : NULL;
}

static struct node *call(struct build *b, const pb_Expr_Call *c)
{
    struct node *v[FUNCTION_ARGS];
    uint32_t n = 0;
    if (c->n_args + (c->target != NULL) > FUNCTION_ARGS) {
        (void)mz_err_set(b->err, "no function \"%s\" takes %zu arguments", c->function, c->n_args);
        return NULL;
    }
    if (c->target && !(v[n++] = expr(b, c->target)))
        return NULL;
    for (size_t i = 0; i < c->n_args; i++)
        if (!(v[n++] = expr(b, c->args[i])))
            return NULL;
    return build_call(b, mz_str_c(c->function), c->target != NULL, v, n);
}

static struct node *list(struct build *b, const pb_Expr_CreateList *l)
{
    if (l->n_optional_indices)
        return refuse(b, "optional elements of lists are not supported");
    if (l->n_elements > NODES_MAX)
        return refuse(b, "list is too long");
    struct node **v = mz_arena_alloc(b->p->arena, l->n_elements * sizeof(struct node *));
    for (size_t i = 0; i < l->n_elements; i++)
        if (!(v[i] = expr(b, l->elements[i])))
            return NULL;
    return build_many(b, NODE_LIST, v, (uint32_t)l->n_elements);
}

static struct node *map(struct build *b, const pb_Expr_CreateStruct *m)
{
    if (m->message_name[0])
        return refuse(b, "messages cannot be made");
    if (m->n_entries > NODES_MAX)
        return refuse(b, "map is too long");
    struct node **v = mz_arena_alloc(b->p->arena, 2 * m->n_entries * sizeof(struct node *));
    for (size_t i = 0; i < m->n_entries; i++) {
        const pb_Expr_CreateStruct_Entry *e = m->entries[i];
        if (e->key_kind_case != pb_Expr_CreateStruct_Entry_KEY_KIND_MAP_KEY || !e->value ||
            e->optional_entry)
            return refuse(b, "an entry of a map needs map_key and value");
        if (!(v[2 * i] = expr(b, e->map_key)) || !(v[2 * i + 1] = expr(b, e->value)))
            return NULL;
    }
    return build_many(b, NODE_MAP, v, (uint32_t)(2 * m->n_entries));
}

static struct node *loop(struct build *b, const pb_Expr_Comprehension *c)
{
    struct node *v[LOOP_PARTS] = { 0 };
    if (!c->iter_range || !c->accu_init || !c->loop_condition || !c->loop_step || !c->result)
        return refuse(b, "comprehension_expr needs all its parts");
    if (c->iter_var2[0])
        return refuse(b, "comprehensions over two variables are not supported");
    uint32_t x = b->n_locals;
    if (!(v[LOOP_RANGE] = expr(b, c->iter_range)) || !(v[LOOP_INIT] = expr(b, c->accu_init)) ||
        !build_enter(b, mz_str_c(c->iter_var)) || !build_enter(b, mz_str_c(c->accu_var)) ||
        !(v[LOOP_CONDITION] = expr(b, c->loop_condition)) ||
        !(v[LOOP_STEP] = expr(b, c->loop_step)) || !(v[LOOP_RESULT] = expr(b, c->result)))
        return NULL;
    build_leave(b);
    build_leave(b);
    return build_loop(b, x, x + 1, v);
}

static struct node *expr(struct build *b, const pb_Expr *e)
{
    switch (e->expr_kind_case) {
    case pb_Expr_EXPR_KIND_CONST_EXPR:
        return constant(b, e->const_expr);
    case pb_Expr_EXPR_KIND_IDENT_EXPR:
        return build_ident(b, mz_str_c(e->ident_expr->name));
    case pb_Expr_EXPR_KIND_SELECT_EXPR:
        return select_field(b, e->select_expr);
    case pb_Expr_EXPR_KIND_CALL_EXPR:
        return call(b, e->call_expr);
    case pb_Expr_EXPR_KIND_LIST_EXPR:
        return list(b, e->list_expr);
    case pb_Expr_EXPR_KIND_STRUCT_EXPR:
        return map(b, e->struct_expr);
    case pb_Expr_EXPR_KIND_COMPREHENSION_EXPR:
        return loop(b, e->comprehension_expr);
    default:
        return refuse(b, "expression without a kind");
    }
}

struct mz_cel *mz_cel_create_ast(const pb_Expr *e, const struct mz_cel_env *env, struct mz_err *err)
{
    struct build b;
    (void)build_begin(&b, env, err);
    return build_done(&b, expr(&b, e));
}
