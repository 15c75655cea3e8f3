#include "cel/lex.h"

#include "base/vec.h"

/* Text to nodes, by recursive descent; each level of nesting is counted, so the stack is bounded. */

struct parser {
    struct lexer lexer;
    struct token t; /* the next one */
    struct build b;
    unsigned depth;
};
typedef MZ_VEC(struct node *) nodes;

static struct node *expression(struct parser *p);

static struct node *unexpected(struct parser *p, const char *wanted)
{
    if (p->t.kind == TOKEN_BAD)
        return NULL;
    struct mz_str rest = mz_str_skip(p->lexer.text, p->t.at);
    if (p->t.kind == TOKEN_END)
        (void)mz_err_set(p->b.err, "the expression ends where %s is expected", wanted);
    else
        (void)mz_err_set(p->b.err, "expected %s at position %zu, found \"" MZ_STR_FMT "\"", wanted,
                         p->t.at + 1, (int)(rest.n < 20 ? rest.n : 20), rest.p);
    return NULL;
}

static void advance(struct parser *p)
{
    lex_next(&p->lexer, &p->t);
}

static bool at_sign(const struct parser *p, const char *text)
{
    return p->t.kind == TOKEN_SIGN && mz_str_eq(p->t.text, mz_str_c(text));
}

static bool at_word(const struct parser *p, const char *text)
{
    return p->t.kind == TOKEN_IDENT && mz_str_eq(p->t.text, mz_str_c(text));
}

static bool take(struct parser *p, const char *sign)
{
    if (!at_sign(p, sign))
        return false;
    advance(p);
    return true;
}

static bool expect(struct parser *p, const char *sign, const char *what)
{
    return take(p, sign) || unexpected(p, what) != NULL;
}

/* Expressions up to @close, which is taken; pairs: "key: value" each. */
static bool list(struct parser *p, const char *close, bool pairs, nodes *out)
{
    while (!take(p, close)) {
        if (out->n && !expect(p, ",", "\",\" or the end of the list"))
            return false;
        if (out->n && !mz_str_eq(mz_str_c(close), MZ_STR(")")) && take(p, close))
            return true; /* a comma behind the last one */
        struct node *key = expression(p), *value = NULL;
        if (!key || (pairs && (!expect(p, ":", "\":\"") || !(value = expression(p)))))
            return false;
        *mz_vec_push(out, MZ_MEM_MISC) = key;
        if (pairs)
            *mz_vec_push(out, MZ_MEM_MISC) = value;
    }
    return true;
}

static struct node *list_node(struct parser *p, const char *close, enum node_kind kind)
{
    nodes v = { 0 };
    struct node *n =
        list(p, close, kind == NODE_MAP, &v) ? build_many(&p->b, kind, v.v, (uint32_t)v.n) : NULL;
    mz_vec_free(&v, MZ_MEM_MISC);
    return n;
}

/* ---- macros: loops over @range ---- */

static struct node *call(struct parser *p, const char *name, struct node *a, struct node *b)
{
    return build_call(&p->b, mz_str_c(name), false, (struct node *[]){ a, b }, b ? 2 : 1);
}

static struct node *bool_node(struct parser *p, bool yes)
{
    return build_const(&p->b, mz_cel_bool(yes));
}

static struct node *local(struct parser *p, uint32_t slot)
{
    return build_ident(&p->b, p->b.locals[slot].name);
}

static struct node *cond(struct parser *p, struct node *test, struct node *yes, struct node *no)
{
    return build_many(&p->b, NODE_COND, (struct node *[]){ test, yes, no }, 3);
}

static struct node *chain(struct parser *p, enum node_kind kind, struct node *a, struct node *b)
{
    return build_many(&p->b, kind, (struct node *[]){ a, b }, 2);
}

enum macro { MACRO_ALL, MACRO_EXISTS, MACRO_EXISTS_ONE, MACRO_FILTER, MACRO_MAP, MACRO_NONE };

static enum macro macro_of(struct mz_str name)
{
    static const char *const names[] = { "all", "exists", "exists_one", "filter", "map" };
    for (size_t i = 0; i < MZ_COUNT(names); i++)
        if (mz_str_eq(name, mz_str_c(names[i])))
            return (enum macro)i;
    return MACRO_NONE;
}

/* What each turn makes of the accumulator. @test: the condition, or the mapped value; @more: of a map with a condition. */
static void macro_parts(struct parser *p, enum macro m, uint32_t x, uint32_t accu,
                        struct node *test, struct node *more, struct node *v[LOOP_PARTS])
{
    struct node *one = build_const(&p->b, mz_cel_int(1));
    v[LOOP_RESULT] = local(p, accu);
    v[LOOP_CONDITION] = bool_node(p, true);
    switch (m) {
    case MACRO_ALL:
        v[LOOP_INIT] = bool_node(p, true);
        v[LOOP_CONDITION] = build_many(&p->b, NODE_TRUTH, (struct node *[]){ local(p, accu) }, 1);
        v[LOOP_STEP] = chain(p, NODE_AND, local(p, accu), test);
        return;
    case MACRO_EXISTS:
        v[LOOP_INIT] = bool_node(p, false);
        v[LOOP_CONDITION] = build_many(&p->b, NODE_TRUTH,
                                       (struct node *[]){ call(p, "!_", local(p, accu), NULL) }, 1);
        v[LOOP_STEP] = chain(p, NODE_OR, local(p, accu), test);
        return;
    case MACRO_EXISTS_ONE:
        v[LOOP_INIT] = build_const(&p->b, mz_cel_int(0));
        v[LOOP_STEP] = cond(p, test, call(p, "_+_", local(p, accu), one), local(p, accu));
        v[LOOP_RESULT] = call(p, "_==_", local(p, accu), one);
        return;
    default: {
        struct node *item = m == MACRO_FILTER ? local(p, x) : more ? more : test;
        struct node *added = call(p, "_+_", local(p, accu), build_many(&p->b, NODE_LIST, &item, 1));
        v[LOOP_INIT] = build_many(&p->b, NODE_LIST, NULL, 0);
        v[LOOP_STEP] = m == MACRO_FILTER || more ? cond(p, test, added, local(p, accu)) : added;
    }
    }
}

/* Behind "range.all(": a name, the condition, perhaps a value, the bracket. */
static struct node *macro(struct parser *p, enum macro m, struct node *range)
{
    struct token name = p->t;
    if (name.kind != TOKEN_IDENT)
        return unexpected(p, "a variable's name");
    advance(p);
    uint32_t x = p->b.n_locals;
    if (!expect(p, ",", "\",\"") || !build_enter(&p->b, name.text) ||
        !build_enter(&p->b, MZ_STR("@result")))
        return NULL;
    struct node *test = expression(p), *more = NULL, *v[LOOP_PARTS] = { range };
    if (test && m == MACRO_MAP && take(p, ","))
        more = expression(p);
    if (!test || p->b.err->msg[0] || !expect(p, ")", "\")\""))
        return NULL;
    macro_parts(p, m, x, x + 1, test, more, v);
    build_leave(&p->b);
    build_leave(&p->b);
    return build_loop(&p->b, x, x + 1, v);
}

/* ---- from the tightest to the loosest ---- */

static struct node *arguments(struct parser *p, struct mz_str name, struct node *target)
{
    nodes v = { 0 };
    if (target)
        *mz_vec_push(&v, MZ_MEM_MISC) = target;
    nodes args = { 0 };
    struct node *n = NULL;
    if (list(p, ")", false, &args)) {
        for (size_t i = 0; i < args.n; i++)
            *mz_vec_push(&v, MZ_MEM_MISC) = args.v[i];
        n = build_call(&p->b, name, target != NULL, v.v, (uint32_t)v.n);
    }
    mz_vec_free(&args, MZ_MEM_MISC);
    mz_vec_free(&v, MZ_MEM_MISC);
    return n;
}

static struct node *has(struct parser *p) /* behind "has(" */
{
    struct node *n = expression(p);
    if (!n)
        return NULL;
    if (n->kind != NODE_SELECT) {
        (void)mz_err_set(p->b.err, "has() takes a field selection: has(a.b)");
        return NULL;
    }
    n->kind = NODE_HAS;
    return expect(p, ")", "\")\"") ? n : NULL;
}

static struct node *word(struct parser *p)
{
    struct mz_str name = p->t.text;
    advance(p);
    if (mz_str_eq(name, MZ_STR("true")) || mz_str_eq(name, MZ_STR("false")))
        return bool_node(p, name.n == 4);
    if (mz_str_eq(name, MZ_STR("null")))
        return build_const(&p->b, (struct mz_cel_value){ .kind = MZ_CEL_NULL });
    if (!take(p, "("))
        return build_ident(&p->b, name);
    return mz_str_eq(name, MZ_STR("has")) ? has(p) : arguments(p, name, NULL);
}

static struct node *primary(struct parser *p)
{
    if (p->t.kind == TOKEN_VALUE && !p->t.minimum) {
        struct mz_cel_value v = p->t.value;
        advance(p);
        return build_const(&p->b, v);
    }
    if (p->t.kind == TOKEN_VALUE) {
        (void)mz_err_set(p->b.err, "number out of range at position %zu", p->t.at + 1);
        return NULL;
    }
    if (take(p, "(")) {
        struct node *n = expression(p);
        return n && expect(p, ")", "\")\"") ? n : NULL;
    }
    if (take(p, "["))
        return list_node(p, "]", NODE_LIST);
    if (take(p, "{"))
        return list_node(p, "}", NODE_MAP);
    (void)take(p, "."); /* .name: from the root, where all names are */
    if (p->t.kind != TOKEN_IDENT || at_word(p, "in"))
        return unexpected(p, "a value");
    return word(p);
}

static struct node *dotted(struct parser *p, struct node *of)
{
    if (p->t.kind != TOKEN_IDENT)
        return unexpected(p, "a field's name");
    struct mz_str name = p->t.text;
    advance(p);
    if (!take(p, "("))
        return build_select(&p->b, of, name, false);
    enum macro m = macro_of(name);
    return m == MACRO_NONE ? arguments(p, name, of) : macro(p, m, of);
}

static struct node *member(struct parser *p)
{
    struct node *n = primary(p);
    while (n) {
        if (take(p, ".")) {
            n = dotted(p, n);
        } else if (take(p, "[")) {
            struct node *key = expression(p);
            n = key && expect(p, "]", "\"]\"") ? call(p, "_[_]", n, key) : NULL;
        } else {
            return n;
        }
    }
    return NULL;
}

static struct node *unary(struct parser *p)
{
    unsigned nots = 0, minuses = 0;
    while (take(p, "!"))
        nots++;
    while (!nots && take(p, "-"))
        minuses++;
    struct node *n;
    if (minuses && p->t.kind == TOKEN_VALUE && p->t.value.kind == MZ_CEL_INT) {
        int64_t i = p->t.value.i; /* the least number has no positive form */
        p->t.value.i = p->t.minimum ? INT64_MIN : -i;
        p->t.minimum = false;
        minuses--;
    }
    n = member(p);
    for (unsigned i = 0; n && i < nots % 2 + (nots && nots % 2 == 0 ? 2 : 0); i++)
        n = call(p, "!_", n, NULL);
    for (unsigned i = 0; n && i < minuses % 2 + (minuses && minuses % 2 == 0 ? 2 : 0); i++)
        n = call(p, "-_", n, NULL);
    return n;
}

static struct node *binary(struct parser *p, unsigned level)
{
    static const struct {
        const char *sign, *name;
        unsigned level;
    } ops[] = {
        { "<", "_<_", 0 },   { "<=", "_<=_", 0 }, { ">", "_>_", 0 }, { ">=", "_>=_", 0 },
        { "==", "_==_", 0 }, { "!=", "_!=_", 0 }, { "+", "_+_", 1 }, { "-", "_-_", 1 },
        { "*", "_*_", 2 },   { "/", "_/_", 2 },   { "%", "_%_", 2 },
    };
    struct node *n = level == 3 ? unary(p) : binary(p, level + 1);
    while (n && level < 3) {
        const char *name = NULL;
        for (size_t i = 0; i < MZ_COUNT(ops); i++)
            if (ops[i].level == level && at_sign(p, ops[i].sign))
                name = ops[i].name;
        if (level == 0 && at_word(p, "in"))
            name = "@in";
        if (!name)
            return n;
        advance(p);
        struct node *right = binary(p, level + 1);
        n = right ? call(p, name, n, right) : NULL;
    }
    return n;
}

/* Operands of && (@and) or ||, any number. */
static struct node *logical(struct parser *p, bool and)
{
    nodes v = { 0 };
    struct node *n = NULL;
    do {
        n = and? binary(p, 0) : logical(p, true);
        *mz_vec_push(&v, MZ_MEM_MISC) = n;
    } while (n && take(p, and? "&&" : "||"));
    if (n && v.n > 1)
        n = build_many(&p->b, and? NODE_AND : NODE_OR, v.v, (uint32_t)v.n);
    mz_vec_free(&v, MZ_MEM_MISC);
    return n;
}

static struct node *expression(struct parser *p)
{
    if (++p->depth > DEPTH_MAX) {
        (void)mz_err_set(p->b.err, "expression is nested too deeply: at most %u levels", DEPTH_MAX);
        return NULL;
    }
    struct node *n = logical(p, false);
    if (n && take(p, "?")) {
        struct node *yes = logical(p, false), *no = NULL;
        if (yes && expect(p, ":", "\":\""))
            no = expression(p);
        n = no ? cond(p, n, yes, no) : NULL;
    }
    p->depth--;
    return n;
}

struct mz_cel *mz_cel_create(struct mz_str text, const struct mz_cel_env *env, struct mz_err *err)
{
    err->msg[0] = '\0';
    if (text.n > TEXT_MAX) {
        (void)mz_err_set(err, "expression is too long: at most %u bytes, is %zu", TEXT_MAX, text.n);
        return NULL;
    }
    struct parser p = { 0 };
    (void)build_begin(&p.b, env, err);
    p.lexer = (struct lexer){ .text = text, .arena = p.b.p->arena, .err = err };
    advance(&p);
    struct node *root = expression(&p);
    if (root && p.t.kind != TOKEN_END) {
        (void)unexpected(&p, "an operator or the end");
        root = NULL;
    }
    return build_done(&p.b, root);
}
