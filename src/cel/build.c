#include "cel/cel_priv.h"

/* Nodes from parts: limits, names, functions. */

bool build_begin(struct build *b, const struct mz_cel_env *env, struct mz_err *err)
{
    *b = (struct build){ .env = env, .err = err, .p = mz_new0(MZ_MEM_CONFIG, struct mz_cel) };
    b->p->arena = mz_arena_create(MZ_MEM_CONFIG);
    b->p->concat = env->string_concat;
    return true;
}

struct mz_cel *build_done(struct build *b, struct node *root)
{
    b->p->root = root;
    if (root)
        return b->p;
    mz_cel_destroy(b->p);
    return NULL;
}

void mz_cel_destroy(struct mz_cel *p)
{
    if (!p)
        return;
    mz_arena_destroy(p->arena);
    mz_free(MZ_MEM_CONFIG, p);
}

bool mz_cel_uses(const struct mz_cel *p, unsigned i)
{
    return p->used >> i & 1;
}

/* A node over @v, which may be on the caller's stack. */
static struct node *node_make(struct build *b, enum node_kind kind, struct node **v, uint32_t n)
{
    unsigned depth = 0;
    for (uint32_t i = 0; i < n; i++) {
        if (!v[i])
            return NULL;
        depth = v[i]->depth > depth ? v[i]->depth : depth;
    }
    if (++b->nodes > NODES_MAX || depth + 1 > DEPTH_MAX) {
        (void)mz_err_set(b->err, "expression is too large: at most %u nodes, %u levels", NODES_MAX,
                         DEPTH_MAX);
        return NULL;
    }
    struct node *out = mz_arena_alloc0(b->p->arena, sizeof(*out) + n * sizeof(*v));
    out->kind = (uint8_t)kind;
    out->depth = (uint16_t)(depth + 1);
    out->n = n;
    out->v = (struct node **)(void *)(out + 1);
    if (n)
        memcpy(out->v, v, n * sizeof(*v));
    return out;
}

struct node *build_const(struct build *b, struct mz_cel_value v)
{
    struct node *n = node_make(b, NODE_CONST, NULL, 0);
    if (n)
        n->value = v;
    return n;
}

struct node *build_ident(struct build *b, struct mz_str name)
{
    static const struct mz_str types[] = {
        MZ_STR_INIT("bool"),      MZ_STR_INIT("int"),   MZ_STR_INIT("uint"), MZ_STR_INIT("double"),
        MZ_STR_INIT("string"),    MZ_STR_INIT("bytes"), MZ_STR_INIT("list"), MZ_STR_INIT("map"),
        MZ_STR_INIT("null_type"), MZ_STR_INIT("type"),
    };
    for (uint32_t i = b->n_locals; i; i--)
        if (mz_str_eq(b->locals[i - 1].name, name)) {
            struct node *n = node_make(b, NODE_LOCAL, NULL, 0);
            if (n)
                n->i = b->locals[i - 1].slot;
            return n;
        }
    for (unsigned i = 0; i < b->env->n; i++)
        if (mz_str_eq(b->env->names[i], name)) {
            struct node *n = node_make(b, NODE_GLOBAL, NULL, 0);
            if (n)
                n->i = i;
            b->p->used |= i < 64 ? UINT64_C(1) << i : 0;
            return n;
        }
    for (size_t i = 0; i < MZ_COUNT(types); i++)
        if (mz_str_eq(types[i], name))
            return build_const(b, (struct mz_cel_value){ .kind = MZ_CEL_TYPE, .s = types[i] });
    if (b->env->open)
        return build_const(b, mz_cel_error("no value for such a name"));
    const struct mz_str *near = NULL;
    unsigned best = 3;
    for (unsigned i = 0; i < b->env->n; i++) {
        unsigned d = mz_str_distance(b->env->names[i], name, 3);
        if (d < best) {
            best = d;
            near = &b->env->names[i];
        }
    }
    (void)mz_err_set(b->err, "unknown name \"" MZ_STR_FMT "\"%s" MZ_STR_FMT "%s", MZ_STR_ARG(name),
                     near ? "; did you mean \"" : "", MZ_STR_ARG(near ? *near : MZ_STR("")),
                     near ? "\"?" : "");
    return NULL;
}

struct node *build_select(struct build *b, struct node *of, struct mz_str field, bool test)
{
    struct node *n = node_make(b, test ? NODE_HAS : NODE_SELECT, &of, 1);
    if (n)
        n->name = mz_arena_dup(b->p->arena, field);
    return n;
}

/* && and || over any number: long chains are flat, and no level each. */
static struct node *build_chain(struct build *b, enum node_kind kind, struct node **v)
{
    if (!v[0] || !v[1])
        return NULL;
    uint32_t total = 0, at = 0;
    for (unsigned k = 0; k < 2; k++)
        total += v[k]->kind == kind ? v[k]->n : 1;
    struct node **all = mz_arena_alloc(b->p->arena, total * sizeof(*all));
    for (unsigned k = 0; k < 2; k++) {
        if (v[k]->kind != kind) {
            all[at++] = v[k];
            continue;
        }
        memcpy(all + at, v[k]->v, v[k]->n * sizeof(*all));
        at += v[k]->n;
    }
    return node_make(b, kind, all, total);
}

struct node *build_many(struct build *b, enum node_kind kind, struct node **v, uint32_t n)
{
    if ((kind == NODE_AND || kind == NODE_OR) && n == 2)
        return build_chain(b, kind, v);
    return node_make(b, kind, v, n);
}

static bool regex_build(struct build *b, struct node *call)
{
    const struct node *pattern = call->v[1];
    if (pattern->kind != NODE_CONST || pattern->value.kind != MZ_CEL_STRING)
        return mz_err_set(b->err, "the pattern of matches() must be a constant string");
    call->regex = mz_regex_create(pattern->value.s, b->err);
    if (call->regex)
        mz_arena_cleanup(b->p->arena, (void (*)(void *))mz_regex_destroy, call->regex);
    return call->regex != NULL;
}

struct node *build_call(struct build *b, struct mz_str name, bool member, struct node **args,
                        uint32_t n)
{
    static const struct {
        struct mz_str name;
        enum node_kind kind;
        uint32_t n;
    } special[] = {
        { MZ_STR_INIT("_&&_"), NODE_AND, 2 },
        { MZ_STR_INIT("_||_"), NODE_OR, 2 },
        { MZ_STR_INIT("_?_:_"), NODE_COND, 3 },
        { MZ_STR_INIT("@not_strictly_false"), NODE_TRUTH, 1 },
        { MZ_STR_INIT("__not_strictly_false__"), NODE_TRUTH, 1 },
    };
    for (size_t i = 0; i < MZ_COUNT(special); i++)
        if (!member && n == special[i].n && mz_str_eq(name, special[i].name))
            return build_many(b, special[i].kind, args, n);
    const struct function *fn = function_find(name, member, n);
    if (!fn) {
        (void)mz_err_set(b->err, "no %s \"" MZ_STR_FMT "\" takes %u arguments",
                         member ? "member function" : "function", MZ_STR_ARG(name),
                         member ? n - 1 : n);
        return NULL;
    }
    if (fn->conversion && !b->env->string_conversion) {
        (void)mz_err_set(b->err, "string() is not enabled (enable_string_conversion)");
        return NULL;
    }
    struct node *call = node_make(b, NODE_CALL, args, n);
    if (!call)
        return NULL;
    call->fn = fn;
    if (mz_str_eq(name, MZ_STR("matches")) && !regex_build(b, call))
        return NULL;
    return call;
}

bool build_enter(struct build *b, struct mz_str name)
{
    if (b->n_locals == SLOTS_MAX)
        return mz_err_set(b->err, "loops are nested too deeply: at most %u", SLOTS_MAX / 2);
    b->locals[b->n_locals] = (struct local){ mz_arena_dup(b->p->arena, name), b->n_locals };
    b->n_locals++;
    return true;
}

void build_leave(struct build *b)
{
    b->n_locals--;
}

struct node *build_loop(struct build *b, uint32_t variable, uint32_t accu,
                        struct node *parts[LOOP_PARTS])
{
    struct node *n = node_make(b, NODE_LOOP, parts, LOOP_PARTS);
    if (!n)
        return NULL;
    n->i = variable;
    n->accu = accu;
    return n;
}
