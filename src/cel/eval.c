#include "cel/cel_priv.h"

/* A program at work: the tree is walked, its depth is bounded by build.c. */

static void eval_select(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value of, found = { 0 };
    node_eval(r, n->v[0], &of);
    if (of.kind == MZ_CEL_ERROR) {
        *out = of;
        return;
    }
    if (of.kind != MZ_CEL_MAP) {
        *out = mz_cel_error(error_overload);
        return;
    }
    if (n->kind == NODE_HAS && of.map.ops->has) {
        *out = of.map.ops->has(of.map.obj, n->name);
        return;
    }
    struct mz_cel_value key = mz_cel_string(n->name);
    bool there = of.map.ops->get(of.map.obj, &key, r->arena, &found);
    if (n->kind == NODE_HAS)
        *out = mz_cel_bool(there);
    else
        *out = there ? found : mz_cel_error(error_key);
}

/* && stops at the first false, || at the first true; what is neither counts only where nothing decides. */
static void eval_chain(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    bool decides = n->kind == NODE_OR;
    struct mz_cel_value other = mz_cel_bool(!decides);
    for (uint32_t i = 0; i < n->n; i++) {
        struct mz_cel_value v;
        node_eval(r, n->v[i], &v);
        if (v.kind == MZ_CEL_BOOL && v.b == decides) {
            *out = v;
            return;
        }
        if (v.kind != MZ_CEL_BOOL && other.kind == MZ_CEL_BOOL)
            other = v.kind == MZ_CEL_ERROR ? v : mz_cel_error(error_overload);
    }
    *out = other;
}

static void eval_cond(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value test;
    node_eval(r, n->v[0], &test);
    if (test.kind == MZ_CEL_BOOL)
        node_eval(r, n->v[test.b ? 1 : 2], out);
    else
        *out = test.kind == MZ_CEL_ERROR ? test : mz_cel_error(error_overload);
}

static void eval_truth(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value v;
    node_eval(r, n->v[0], &v);
    *out = mz_cel_bool(v.kind != MZ_CEL_BOOL || v.b);
}

static void eval_members(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value *v = mz_arena_alloc(r->arena, n->n * sizeof(*v));
    for (uint32_t i = 0; i < n->n; i++) {
        node_eval(r, n->v[i], &v[i]);
        if (v[i].kind == MZ_CEL_ERROR) {
            *out = v[i];
            return;
        }
    }
    if (n->kind == NODE_LIST) {
        *out = (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { v, n->n } };
        return;
    }
    struct pairs *p = mz_arena_alloc(r->arena, sizeof(*p));
    *p = (struct pairs){ v, n->n / 2 };
    *out = (struct mz_cel_value){ .kind = MZ_CEL_MAP, .map = { &map_of_pairs, p } };
    for (size_t i = 0; i < p->n; i++)
        if (v[2 * i].kind < MZ_CEL_BOOL || v[2 * i].kind > MZ_CEL_STRING ||
            v[2 * i].kind == MZ_CEL_DOUBLE)
            *out = mz_cel_error(error_overload);
}

static bool loop_item(struct run *r, const struct mz_cel_value *range, size_t i,
                      struct mz_cel_value *out)
{
    if (range->kind == MZ_CEL_LIST) {
        if (i >= range->list.n)
            return false;
        *out = range->list.v[i];
        return true;
    }
    if (i >= range->map.ops->size(range->map.obj))
        return false;
    range->map.ops->key(range->map.obj, i, r->arena, out);
    return true;
}

static void eval_loop(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value range, item, go;
    node_eval(r, n->v[LOOP_RANGE], &range);
    if (range.kind != MZ_CEL_LIST && (range.kind != MZ_CEL_MAP || range.map.ops->has)) {
        *out = range.kind == MZ_CEL_ERROR ? range : mz_cel_error(error_overload);
        return;
    }
    node_eval(r, n->v[LOOP_INIT], &r->slots[n->accu]);
    for (size_t i = 0; loop_item(r, &range, i, &item); i++) {
        r->slots[n->i] = item;
        node_eval(r, n->v[LOOP_CONDITION], &go);
        if (go.kind != MZ_CEL_BOOL) {
            *out = go.kind == MZ_CEL_ERROR ? go : mz_cel_error(error_overload);
            return;
        }
        if (!go.b || r->too_dear)
            break;
        struct mz_cel_value next;
        node_eval(r, n->v[LOOP_STEP], &next);
        r->slots[n->accu] = next;
    }
    node_eval(r, n->v[LOOP_RESULT], out);
}

static void eval_call(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    struct mz_cel_value v[FUNCTION_ARGS];
    for (uint32_t i = 0; i < n->n; i++) {
        node_eval(r, n->v[i], &v[i]);
        if (v[i].kind == MZ_CEL_ERROR) {
            *out = v[i];
            return;
        }
    }
    n->fn->run(r, n, v, out);
}

void node_eval(struct run *r, const struct node *n, struct mz_cel_value *out)
{
    if (!run_pay(r, 1)) {
        *out = mz_cel_error("the expression costs too much");
        return;
    }
    switch ((enum node_kind)n->kind) {
    case NODE_CONST:
        *out = n->value;
        return;
    case NODE_GLOBAL:
        if (!r->vars || !r->vars->get(r->vars, n->i, r->arena, out))
            *out = mz_cel_error("no value now");
        return;
    case NODE_LOCAL:
        *out = r->slots[n->i];
        return;
    case NODE_SELECT:
    case NODE_HAS:
        eval_select(r, n, out);
        return;
    case NODE_CALL:
        eval_call(r, n, out);
        return;
    case NODE_AND:
    case NODE_OR:
        eval_chain(r, n, out);
        return;
    case NODE_COND:
        eval_cond(r, n, out);
        return;
    case NODE_LIST:
    case NODE_MAP:
        eval_members(r, n, out);
        return;
    case NODE_LOOP:
        eval_loop(r, n, out);
        return;
    case NODE_TRUTH:
        eval_truth(r, n, out);
        return;
    }
}

static void run_whole(const struct mz_cel *p, const struct mz_cel_vars *vars, struct mz_arena *a,
                      struct run *r, struct mz_cel_value *out)
{
    r->program = p;
    r->vars = vars;
    r->arena = a;
    r->cost = 0;
    r->too_dear = false;
    node_eval(r, p->root, out);
    if (r->too_dear)
        *out = mz_cel_error("the expression costs too much");
}

void mz_cel_eval(const struct mz_cel *p, const struct mz_cel_vars *vars, struct mz_arena *a,
                 struct mz_cel_value *out)
{
    struct run r MZ_UNINIT; /* slots are written before they are read */
    run_whole(p, vars, a, &r, out);
}

enum mz_cel_outcome mz_cel_test(const struct mz_cel *p, const struct mz_cel_vars *vars,
                                struct mz_arena *a)
{
    struct run r MZ_UNINIT;
    struct mz_cel_value v;
    run_whole(p, vars, a, &r, &v);
    if (r.too_dear)
        return MZ_CEL_TOO_DEAR;
    return v.kind == MZ_CEL_BOOL && v.b ? MZ_CEL_YES : MZ_CEL_NO;
}
