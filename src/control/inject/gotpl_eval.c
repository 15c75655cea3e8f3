/* Running a template. */
#include <ctype.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "control/inject/gotpl_priv.h"

enum flow { FLOW_ON, FLOW_BREAK, FLOW_CONTINUE, FLOW_FAIL };

static json_t *eval_pipe(struct tpl_run *r, const struct tpl_pipe *p);

static bool fail(struct tpl_run *r, const char *what, struct mz_str name)
{
    return mz_err_set(r->err, "line %u: %s \"%.*s\"", r->line, what,
                      (int)(name.n > 60 ? 60 : name.n), name.p);
}

static bool fail_work(struct tpl_run *r)
{
    return mz_err_set(r->err, "line %u: makes more than %d MiB of values", r->line,
                      TPL_MAX_WORK >> 20);
}

static bool step(struct tpl_run *r)
{
    return ++r->steps <= TPL_MAX_STEPS ||
           mz_err_set(r->err, "line %u: takes more than %d steps", r->line, TPL_MAX_STEPS);
}

static bool fail_depth(struct tpl_run *r)
{
    return mz_err_set(r->err, "line %u: is nested more than %d deep", r->line, TPL_MAX_DEPTH);
}

bool tpl_spend(struct tpl_run *r, size_t bytes)
{
    const size_t room = TPL_MAX_WORK > r->work ? TPL_MAX_WORK - r->work : 0;
    r->work += bytes < TPL_MAX_WORK ? bytes : TPL_MAX_WORK;
    return bytes <= room || fail_work(r);
}

json_t *tpl_keep(struct tpl_run *r, json_t *v)
{
    if (v)
        (void)json_array_append_new(r->kept, v); /* only without memory */
    return v;
}

static size_t depth_of(const struct tpl_run *r, const json_t *v)
{
    return json_is_object(v) || json_is_array(v)
               ? (size_t)(uintptr_t)mz_map_get(&r->depths,
                                               (struct mz_str){ (const char *)&v, sizeof(v) })
               : 0;
}

json_t *tpl_keep_made(struct tpl_run *r, json_t *v)
{
    enum { EACH = 128 }; /* what one takes, about */
    size_t deep = 0, at;
    const char *name;
    json_t *one;
    json_array_foreach(v, at, one) deep = depth_of(r, one) > deep ? depth_of(r, one) : deep;
    json_object_foreach(v, name, one) deep = depth_of(r, one) > deep ? depth_of(r, one) : deep;
    if (!tpl_spend(r, EACH + (json_array_size(v) + json_object_size(v)) * sizeof(void *)) ||
        (++deep > TPL_MAX_DEPTH && !fail_depth(r))) {
        json_decref(v);
        return NULL;
    }
    (void)mz_map_put(&r->depths,
                     mz_arena_dup(r->arena, (struct mz_str){ (const char *)&v, sizeof(v) }),
                     (void *)(uintptr_t)deep);
    return tpl_keep(r, v);
}

/* ---- values ---- */

bool tpl_is_true(const json_t *v)
{
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_OBJECT:
        return json_object_size(v) != 0;
    case JSON_ARRAY:
        return json_array_size(v) != 0;
    case JSON_STRING:
        return json_string_length(v) != 0;
    case JSON_INTEGER:
        return json_integer_value(v) != 0;
    case JSON_REAL:
        return json_real_value(v) < 0 || json_real_value(v) > 0;
    case JSON_TRUE:
        return true;
    default:
        return false;
    }
}

static void put_str(struct mz_buf *b, struct mz_str s)
{
    mz_buf_append(b, s.p, s.n);
}

/* As fmt prints it; what is more than may be is left out. */
static void print(struct mz_buf *b, const json_t *v)
{
    if (mz_buf_len(b) > TPL_MAX_OUT)
        return;
    char text[64];
    const char *name;
    json_t *one;
    size_t at;
    switch (v ? json_typeof(v) : JSON_NULL) {
    case JSON_STRING:
        mz_buf_append(b, json_string_value(v), json_string_length(v));
        return;
    case JSON_INTEGER:
        mz_buf_append(
            b, text,
            (size_t)snprintf(text, sizeof(text), "%lld", (long long)json_integer_value(v)));
        return;
    case JSON_REAL: {
        const double d = json_real_value(v);
        const bool whole = d > -1e15 && d < 1e15 && d - floor(d) <= 0;
        mz_buf_append(b, text, (size_t)snprintf(text, sizeof(text), whole ? "%.0f" : "%.17g", d));
        return;
    }
    case JSON_TRUE:
    case JSON_FALSE:
        put_str(b, json_is_true(v) ? MZ_STR("true") : MZ_STR("false"));
        return;
    case JSON_ARRAY:
        put_str(b, MZ_STR("["));
        json_array_foreach(v, at, one)
        {
            if (mz_buf_len(b) > TPL_MAX_OUT)
                return;
            put_str(b, at ? MZ_STR(" ") : MZ_STR(""));
            print(b, one);
        }
        put_str(b, MZ_STR("]"));
        return;
    case JSON_OBJECT:
        put_str(b, MZ_STR("map["));
        at = 0;
        json_object_foreach((json_t *)(uintptr_t)v, name, one)
        {
            if (mz_buf_len(b) > TPL_MAX_OUT)
                return;
            put_str(b, at++ ? MZ_STR(" ") : MZ_STR(""));
            put_str(b, mz_str_c(name));
            put_str(b, MZ_STR(":"));
            print(b, one);
        }
        put_str(b, MZ_STR("]"));
        return;
    default:
        return; /* a field that is not set is empty; there is no other nothing here */
    }
}

struct mz_str tpl_print(struct tpl_run *r, json_t *v)
{
    struct mz_buf b;
    struct mz_str s = MZ_STR("");
    mz_buf_init(&b);
    print(&b, v);
    if (mz_buf_len(&b) > TPL_MAX_OUT)
        r->work = TPL_MAX_WORK + 1;
    else if (tpl_spend(r, 16 + mz_buf_len(&b)))
        s = mz_arena_dup(r->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

/* "HostIP" is "hostIP", "UID" is "uid", "HTTPGet" is "httpGet". */
static struct mz_str json_name(struct mz_str name, char *to)
{
    size_t n = 0;
    while (n < name.n && isupper((unsigned char)name.p[n]))
        n++;
    const size_t low = n > 1 && n < name.n && islower((unsigned char)name.p[n]) ? n - 1 : n;
    for (size_t i = 0; i < name.n; i++)
        to[i] = (char)(i < low ? tolower((unsigned char)name.p[i]) : name.p[i]);
    return (struct mz_str){ to, name.n };
}

static bool is_getter(struct mz_str name)
{
    return mz_str_starts(name, MZ_STR("Get")) && name.n > 3 && isupper((unsigned char)name.p[3]);
}

/* Methods that Go's messages have: "GetX" is X, of a wrapper its value; "String" is the text. */
json_t *tpl_field(json_t *v, struct mz_str name)
{
    char to[128];
    json_t *found = json_object_getn(v, name.p, name.n);
    if (found || name.n > sizeof(to))
        return found;
    if (mz_str_eq(name, MZ_STR("String")) ||
        (mz_str_eq(name, MZ_STR("GetValue")) && !json_is_object(v)))
        return v;
    if (is_getter(name))
        name = mz_str_skip(name, 3);
    const struct mz_str other = json_name(name, to);
    return json_object_getn(v, other.p, other.n);
}

static json_t *follow(struct tpl_run *r, json_t *v, const struct tpl_arg *a)
{
    for (size_t i = 0; v && i < a->n_fields; i++) {
        const bool scalar = json_is_string(v) || json_is_number(v) || json_is_boolean(v);
        json_t *next = tpl_field(v, a->fields[i]);
        if (!next && scalar) {
            (void)fail(r, "there is no field", a->fields[i]);
            return NULL;
        }
        if (!next && json_is_array(v)) {
            (void)fail(r, "a list has no field", a->fields[i]);
            return NULL;
        }
        v = next ? next : json_null();
    }
    return v;
}

/* ---- pipelines ---- */

static struct tpl_var *variable(struct tpl_run *r, struct mz_str name)
{
    for (size_t i = r->n_vars; i--;)
        if (mz_str_eq(r->vars[i].name, name))
            return &r->vars[i];
    return NULL;
}

static json_t *call(struct tpl_run *r, struct mz_str name, json_t *const *v, size_t n)
{
    const struct tpl_function *f = tpl_function_find(name);
    if (n < f->min || n > f->max) {
        (void)fail(r, "a wrong number of arguments for", name);
        return NULL;
    }
    json_t *out = f->fn(r, v, n);
    if (out && r->work > TPL_MAX_WORK) {
        (void)fail_work(r);
        return NULL;
    }
    return out;
}

static json_t *eval_arg(struct tpl_run *r, const struct tpl_arg *a)
{
    const struct tpl_var *var;
    switch (a->kind) {
    case TPL_VALUE:
        return a->value;
    case TPL_DOT:
        return follow(r, r->dot, a);
    case TPL_CALL:
        return call(r, a->text, NULL, 0);
    case TPL_PIPE: {
        json_t *v = eval_pipe(r, a->pipe);
        return v ? follow(r, v, a) : NULL;
    }
    default:
        if (!a->text.n)
            return follow(r, r->data, a);
        var = variable(r, a->text);
        if (!var)
            (void)fail(r, "there is no variable", a->text);
        return var ? follow(r, var->value, a) : NULL;
    }
}

/* "and" and "or" look at no more arguments than they need. */
static json_t *shortcut(struct tpl_run *r, const struct tpl_command *c, json_t *last)
{
    const bool is_or = mz_str_eq(c->v[0].text, MZ_STR("or"));
    json_t *v = NULL;
    for (size_t i = 1; i < c->n; i++) {
        v = eval_arg(r, &c->v[i]);
        if (!v || tpl_is_true(v) == is_or)
            return v;
    }
    if (last)
        return last;
    if (!v)
        (void)fail(r, "a wrong number of arguments for", c->v[0].text);
    return v;
}

static json_t *eval_command(struct tpl_run *r, const struct tpl_command *c, json_t *last)
{
    if (!step(r))
        return NULL;
    if (c->v[0].kind != TPL_CALL)
        return eval_arg(r, &c->v[0]);
    if (mz_str_eq(c->v[0].text, MZ_STR("and")) || mz_str_eq(c->v[0].text, MZ_STR("or")))
        return shortcut(r, c, last);
    json_t **v = mz_arena_alloc(r->arena, (c->n + 1) * sizeof(json_t *));
    size_t n = 0;
    for (size_t i = 1; i < c->n; i++) {
        v[n] = eval_arg(r, &c->v[i]);
        if (!v[n++])
            return NULL;
    }
    if (last)
        v[n++] = last;
    return call(r, c->v[0].text, v, n);
}

static bool set_var(struct tpl_run *r, struct mz_str name, json_t *v, bool declares)
{
    struct tpl_var *had = declares ? NULL : variable(r, name);
    if (had) {
        had->value = v;
        return true;
    }
    if (!declares)
        return fail(r, "there is no variable", name);
    if (r->n_vars == MZ_COUNT(r->vars))
        return fail(r, "too many variables:", name);
    r->vars[r->n_vars++] = (struct tpl_var){ name, v };
    return true;
}

static json_t *eval_value(struct tpl_run *r, const struct tpl_pipe *p)
{
    json_t *v = NULL;
    if (++r->depth > TPL_MAX_DEPTH) {
        (void)fail_depth(r);
        return NULL;
    }
    for (const struct tpl_command *c = p->first; c; c = c->next) {
        v = eval_command(r, c, v);
        if (!v)
            break;
    }
    r->depth--;
    return v;
}

static json_t *eval_pipe(struct tpl_run *r, const struct tpl_pipe *p)
{
    json_t *v = eval_value(r, p);
    for (size_t i = 0; v && i < p->n_vars; i++)
        if (!set_var(r, p->vars[i], v, p->declares))
            return NULL;
    return v;
}

/* ---- nodes ---- */

static enum flow run_list(struct tpl_run *r, const struct tpl_node *n);

static bool put(struct tpl_run *r, struct mz_str s)
{
    if (mz_buf_len(&r->out) + s.n > TPL_MAX_OUT)
        return mz_err_set(r->err, "line %u: makes more than %d MiB of text", r->line,
                          TPL_MAX_OUT >> 20);
    put_str(&r->out, s);
    return true;
}

static enum flow run_branch(struct tpl_run *r, const struct tpl_node *n)
{
    const size_t vars = r->n_vars;
    json_t *dot = r->dot, *v = eval_pipe(r, n->pipe);
    if (!v)
        return FLOW_FAIL;
    const bool yes = tpl_is_true(v);
    if (yes && n->kind == TPL_WITH)
        r->dot = v;
    const enum flow f = run_list(r, yes ? n->body : n->otherwise);
    r->dot = dot;
    r->n_vars = vars;
    return f;
}

static enum flow run_turn(struct tpl_run *r, const struct tpl_node *n, json_t *key, json_t *value)
{
    const struct tpl_pipe *p = n->pipe;
    const size_t vars = r->n_vars;
    bool ok = true;
    if (p->n_vars == 2)
        ok = set_var(r, p->vars[0], key, p->declares);
    if (p->n_vars)
        ok = ok && set_var(r, p->vars[p->n_vars - 1], value, p->declares);
    r->dot = value;
    const enum flow f = ok ? run_list(r, n->body) : FLOW_FAIL;
    r->n_vars = vars;
    return f;
}

static int compare_keys(const void *a, const void *b)
{
    return strcmp(*(const char *const *)a, *(const char *const *)b);
}

/* Go walks maps by their sorted keys. */
static enum flow run_map(struct tpl_run *r, const struct tpl_node *n, json_t *v)
{
    const size_t count = json_object_size(v);
    if (!tpl_spend(r, count * 64)) /* its keys become values */
        return FLOW_FAIL;
    const char **keys = mz_arena_alloc(r->arena, count * sizeof(*keys)), *key;
    json_t *value;
    size_t k = 0;
    enum flow f = FLOW_ON;
    json_object_foreach(v, key, value) keys[k++] = key;
    qsort(keys, k, sizeof(*keys), compare_keys);
    for (size_t i = 0; i < k && (f == FLOW_ON || f == FLOW_CONTINUE); i++)
        f = run_turn(r, n, tpl_keep(r, json_string(keys[i])), json_object_get(v, keys[i]));
    return f == FLOW_FAIL ? f : FLOW_ON;
}

static enum flow run_range(struct tpl_run *r, const struct tpl_node *n)
{
    json_t *dot = r->dot, *v = eval_value(r, n->pipe), *one;
    size_t at;
    enum flow f = FLOW_ON;
    if (!v)
        return FLOW_FAIL;
    if (!tpl_is_true(v)) {
        f = run_list(r, n->otherwise);
    } else if (json_is_object(v)) {
        f = run_map(r, n, v);
    } else if (json_is_array(v)) {
        json_array_foreach(v, at, one)
        {
            f = run_turn(r, n, tpl_keep(r, json_integer((json_int_t)at)), one);
            if (f == FLOW_FAIL || f == FLOW_BREAK)
                break;
        }
        f = f == FLOW_FAIL ? f : FLOW_ON;
    } else if (json_is_integer(v)) {
        for (json_int_t i = 0; i < json_integer_value(v) && (f == FLOW_ON || f == FLOW_CONTINUE);
             i++) {
            json_t *turn = tpl_keep(r, json_integer(i));
            f = step(r) ? run_turn(r, n, turn, turn) : FLOW_FAIL;
        }
        f = f == FLOW_FAIL ? f : FLOW_ON;
    } else {
        f = fail(r, "cannot be walked through:", tpl_print(r, v)) ? FLOW_ON : FLOW_FAIL;
    }
    r->dot = dot;
    return f;
}

static enum flow run_template(struct tpl_run *r, const struct tpl_node *n)
{
    const struct tpl_defined *d = mz_map_get(&r->t->defined, n->text);
    json_t *dot = r->dot, *data = r->data;
    const size_t vars = r->n_vars;
    if (!d)
        return fail(r, "there is no template", n->text) ? FLOW_ON : FLOW_FAIL;
    json_t *v = n->pipe ? eval_pipe(r, n->pipe) : json_null();
    if (!v)
        return FLOW_FAIL;
    struct tpl_var kept[MZ_COUNT(r->vars)];
    memcpy(kept, r->vars, vars * sizeof(*kept));
    r->n_vars = 0; /* it sees none of ours */
    r->dot = r->data = v;
    const enum flow f = run_list(r, d->body);
    memcpy(r->vars, kept, vars * sizeof(*kept));
    r->n_vars = vars;
    r->dot = dot;
    r->data = data;
    return f;
}

static enum flow run_node(struct tpl_run *r, const struct tpl_node *n)
{
    json_t *v;
    r->line = n->line;
    switch (n->kind) {
    case TPL_TEXT:
        return put(r, n->text) ? FLOW_ON : FLOW_FAIL;
    case TPL_ACTION:
        v = eval_pipe(r, n->pipe);
        if (v && !n->pipe->n_vars) {
            const struct mz_str s = tpl_print(r, v);
            return (r->work <= TPL_MAX_WORK || fail_work(r)) && put(r, s) ? FLOW_ON : FLOW_FAIL;
        }
        return v ? FLOW_ON : FLOW_FAIL;
    case TPL_RANGE:
        return run_range(r, n);
    case TPL_TEMPLATE:
        return run_template(r, n);
    case TPL_BREAK:
        return FLOW_BREAK;
    case TPL_CONTINUE:
        return FLOW_CONTINUE;
    default:
        return run_branch(r, n);
    }
}

static enum flow run_list(struct tpl_run *r, const struct tpl_node *n)
{
    enum flow f = FLOW_ON;
    if (++r->depth > TPL_MAX_DEPTH)
        return fail_depth(r) ? FLOW_ON : FLOW_FAIL;
    for (; n && f == FLOW_ON; n = n->next)
        f = step(r) ? run_node(r, n) : FLOW_FAIL;
    r->depth--;
    return f;
}

bool mz_gotpl_run(const struct mz_gotpl *t, json_t *data, struct mz_arena *a, struct mz_str *out,
                  struct mz_err *err)
{
    struct tpl_run *r = mz_new0(MZ_MEM_STREAM, struct tpl_run);
    r->t = t;
    r->arena = a;
    r->data = r->dot = data;
    r->err = err;
    r->kept = json_array();
    mz_map_init(&r->depths, MZ_MEM_STREAM);
    mz_buf_init(&r->out);
    const bool ok = run_list(r, t->body) != FLOW_FAIL;
    if (ok)
        *out = mz_arena_dup(a, mz_buf_linearize(&r->out, mz_buf_len(&r->out)));
    mz_buf_fini(&r->out);
    json_decref(r->kept);
    mz_map_fini(&r->depths);
    mz_free(MZ_MEM_STREAM, r);
    return ok;
}
