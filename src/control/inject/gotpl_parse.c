/* Texts to templates. */
#include <ctype.h>
#include <errno.h>
#include <stdlib.h>

#include "control/inject/gotpl_priv.h"

struct parser {
    struct mz_gotpl *t;
    struct mz_str rest; /* of the text */
    uint32_t line;
    bool trim; /* the last action ended with "-}}" */
    /* the action that is being read */
    struct mz_str in;
    unsigned depth;
    struct mz_err *err;
};
enum end { END_TEXT, END_END, END_ELSE, END_FAULT };

static enum end parse_list(struct parser *p, struct tpl_node **out, struct mz_str *out_else);
static struct tpl_pipe *parse_pipe(struct parser *p, bool inner);

static bool fail(struct parser *p, const char *what, struct mz_str at)
{
    return mz_err_set(p->err, "line %u: %s \"%.*s\"", p->line, what, (int)(at.n > 60 ? 60 : at.n),
                      at.p);
}

/* ---- words within an action ---- */

static bool is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\r' || c == '\n';
}

static bool is_word(char c)
{
    return isalnum((unsigned char)c) || c == '_';
}

static void skip_space(struct parser *p)
{
    while (p->in.n && is_space(p->in.p[0])) {
        p->line += p->in.p[0] == '\n';
        p->in = mz_str_skip(p->in, 1);
    }
}

static char peek(const struct parser *p)
{
    return p->in.n ? p->in.p[0] : 0;
}

static struct mz_str take(struct parser *p, size_t n)
{
    const struct mz_str s = { p->in.p, n };
    p->in = mz_str_skip(p->in, n);
    return s;
}

static struct mz_str word(struct parser *p)
{
    size_t n = 0;
    while (n < p->in.n && is_word(p->in.p[n]))
        n++;
    return take(p, n);
}

static bool accept(struct parser *p, const char *text)
{
    const struct mz_str s = mz_str_c(text);
    skip_space(p);
    if (!mz_str_starts(p->in, s))
        return false;
    p->in = mz_str_skip(p->in, s.n);
    return true;
}

/* A word of control, with its end. */
static bool accept_word(struct parser *p, const char *text)
{
    const struct mz_str before = p->in;
    skip_space(p);
    if (mz_str_eq(word(p), mz_str_c(text)))
        return true;
    p->in = before;
    return false;
}

static json_t *literal(struct parser *p, json_t *v)
{
    (void)json_array_append_new(p->t->literals, v); /* NULL is refused there */
    return v;
}

/* ---- literals ---- */

static size_t put_utf8(char *to, uint32_t c)
{
    if (c < 0x80) {
        to[0] = (char)c;
        return 1;
    }
    if (c < 0x800) {
        to[0] = (char)(0xc0 | c >> 6);
        to[1] = (char)(0x80 | (c & 0x3f));
        return 2;
    }
    to[0] = (char)(0xe0 | c >> 12);
    to[1] = (char)(0x80 | (c >> 6 & 0x3f));
    to[2] = (char)(0x80 | (c & 0x3f));
    return 3;
}

/* One escape at @s; its length, 0: none that is known. */
static size_t escape(struct mz_str s, char *to, size_t *n)
{
    static const char from[] = "nrt\\\"'abfv", as[] = "\n\r\t\\\"'\a\b\f\v";
    const char *found = s.n > 1 ? strchr(from, s.p[1]) : NULL;
    char hex[5] = "";
    if (found && s.p[1]) {
        to[(*n)++] = as[found - from];
        return 2;
    }
    const size_t digits = s.n > 1 && s.p[1] == 'u' ? 4 : s.n > 1 && s.p[1] == 'x' ? 2 : 0;
    if (!digits || s.n < 2 + digits)
        return 0;
    memcpy(hex, s.p + 2, digits);
    char *end;
    const unsigned long c = strtoul(hex, &end, 16);
    if (*end || c == 0)
        return 0;
    *n += put_utf8(to + *n, (uint32_t)c);
    return 2 + digits;
}

static json_t *quoted(struct parser *p)
{
    char *to = mz_arena_alloc(p->t->arena, p->in.n + 4);
    size_t n = 0;
    struct mz_str s = mz_str_skip(p->in, 1);
    while (s.n && s.p[0] != '"' && s.p[0] != '\n') {
        size_t used = 1;
        if (s.p[0] == '\\')
            used = escape(s, to, &n);
        else
            to[n++] = s.p[0];
        if (!used)
            break;
        s = mz_str_skip(s, used);
    }
    if (!s.n || s.p[0] != '"') {
        (void)fail(p, "a text does not end:", p->in);
        return NULL;
    }
    p->in = mz_str_skip(s, 1);
    json_t *v = literal(p, json_stringn(to, n));
    if (!v)
        (void)fail(p, "a text is not UTF-8:", MZ_STR(""));
    return v;
}

static json_t *raw(struct parser *p)
{
    const struct mz_str s = mz_str_skip(p->in, 1);
    const ptrdiff_t end = mz_str_chr(s, '`');
    if (end < 0) {
        (void)fail(p, "a text does not end:", p->in);
        return NULL;
    }
    for (ptrdiff_t i = 0; i < end; i++)
        p->line += s.p[i] == '\n';
    p->in = mz_str_skip(s, (size_t)end + 1);
    json_t *v = literal(p, json_stringn(s.p, (size_t)end));
    if (!v)
        (void)fail(p, "a text is not UTF-8:", MZ_STR(""));
    return v;
}

static json_t *number(struct parser *p)
{
    char text[40];
    size_t n = 0;
    while (n < p->in.n && n < sizeof(text) - 1 &&
           (is_word(p->in.p[n]) || strchr(".+-", p->in.p[n]))) {
        text[n] = p->in.p[n];
        n++;
    }
    text[n] = 0;
    char *end;
    errno = 0;
    const long long i = strtoll(text, &end, 0);
    json_t *v = NULL;
    if (!*end) {
        v = errno ? NULL : json_integer(i); /* too large */
    } else {
        const double d = strtod(text, &end);
        v = *end ? NULL : json_real(d);
    }
    if (!v) {
        (void)fail(p, "no number:", p->in);
        return NULL;
    }
    p->in = mz_str_skip(p->in, n);
    return literal(p, v);
}

/* ---- arguments ---- */

static bool fields(struct parser *p, struct tpl_arg *a)
{
    MZ_VEC(struct mz_str) v = { 0 };
    bool ok = true;
    while (ok && peek(p) == '.') {
        p->in = mz_str_skip(p->in, 1);
        struct mz_str name = word(p);
        ok = name.n || fail(p, "a name is missing before", p->in);
        *mz_vec_push(&v, MZ_MEM_CONFIG) = name;
    }
    a->n_fields = v.n;
    a->fields = mz_arena_alloc(p->t->arena, v.n * sizeof(*a->fields));
    if (v.n)
        memcpy(a->fields, v.v, v.n * sizeof(*a->fields));
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return ok;
}

static bool named(struct parser *p, struct tpl_arg *a)
{
    const struct mz_str name = word(p);
    const bool yes = mz_str_eq(name, MZ_STR("true"));
    *a = (struct tpl_arg){ .kind = TPL_VALUE };
    if (yes || mz_str_eq(name, MZ_STR("false"))) {
        a->value = literal(p, json_boolean(yes));
        return true;
    }
    if (mz_str_eq(name, MZ_STR("nil"))) {
        a->value = literal(p, json_null());
        return true;
    }
    *a = (struct tpl_arg){ .kind = TPL_CALL, .text = name };
    return tpl_function_find(name) || fail(p, "there is no function", name);
}

static bool parenthesis(struct parser *p, struct tpl_arg *a)
{
    p->in = mz_str_skip(p->in, 1);
    if (++p->depth > TPL_MAX_DEPTH)
        return fail(p, "is nested too deeply:", p->in);
    *a = (struct tpl_arg){ .kind = TPL_PIPE, .pipe = parse_pipe(p, true) };
    p->depth--;
    return a->pipe && fields(p, a);
}

static bool argument(struct parser *p, struct tpl_arg *a)
{
    const char c = peek(p);
    if (c == '"' || c == '`') {
        *a = (struct tpl_arg){ .kind = TPL_VALUE, .value = c == '"' ? quoted(p) : raw(p) };
        return a->value != NULL;
    }
    if (isdigit((unsigned char)c) ||
        ((c == '-' || c == '+') && p->in.n > 1 && isdigit((unsigned char)p->in.p[1]))) {
        *a = (struct tpl_arg){ .kind = TPL_VALUE, .value = number(p) };
        return a->value != NULL;
    }
    if (c == '(')
        return parenthesis(p, a);
    if (c == '$') {
        p->in = mz_str_skip(p->in, 1);
        *a = (struct tpl_arg){ .kind = TPL_VARIABLE, .text = word(p) };
        return fields(p, a);
    }
    if (c == '.') {
        *a = (struct tpl_arg){ .kind = TPL_DOT };
        if (p->in.n > 1 && is_word(p->in.p[1]))
            return fields(p, a);
        p->in = mz_str_skip(p->in, 1);
        return true;
    }
    return is_word(c) ? named(p, a) : fail(p, "unexpected", p->in);
}

/* Up to what ends a command: "|", ")" or the action's end. */
static struct tpl_command *command(struct parser *p)
{
    MZ_VEC(struct tpl_arg) v = { 0 };
    struct tpl_command *c = NULL;
    bool ok = true;
    for (skip_space(p); ok && peek(p) && peek(p) != '|' && peek(p) != ')'; skip_space(p))
        ok = argument(p, mz_vec_push(&v, MZ_MEM_CONFIG));
    if (ok && !v.n)
        ok = fail(p, "a value is missing before", p->in);
    for (size_t i = 1; ok && i < v.n; i++)
        if (v.v[0].kind != TPL_CALL)
            ok = fail(p, "only functions have arguments:", p->in);
    if (ok) {
        c = mz_arena_new0(p->t->arena, struct tpl_command);
        c->v = mz_arena_alloc(p->t->arena, v.n * sizeof(*c->v));
        memcpy(c->v, v.v, v.n * sizeof(*c->v));
        c->n = v.n;
    }
    mz_vec_free(&v, MZ_MEM_CONFIG);
    return c;
}

/* "$x :=", "$x =", "$i, $x :=". */
static bool variables(struct parser *p, struct tpl_pipe *pipe)
{
    const struct mz_str before = p->in;
    const uint32_t line = p->line;
    struct mz_str names[2];
    size_t n = 0;
    while (n < 2 && accept(p, "$")) {
        names[n] = word(p);
        if (!names[n++].n || !accept(p, ","))
            break;
    }
    const bool declares = n && accept(p, ":=");
    if (declares || (n && !mz_str_starts(p->in, MZ_STR("==")) && accept(p, "="))) {
        memcpy(pipe->vars, names, n * sizeof(*names));
        pipe->n_vars = n;
        pipe->declares = declares;
        return true;
    }
    p->in = before;
    p->line = line;
    return false;
}

/* @inner: up to its ")". */
static struct tpl_pipe *parse_pipe(struct parser *p, bool inner)
{
    struct tpl_pipe *pipe = mz_arena_new0(p->t->arena, struct tpl_pipe);
    struct tpl_command **tail = &pipe->first;
    if (!inner)
        (void)variables(p, pipe); /* it need not have any */
    do {
        struct tpl_command *c = command(p);
        if (!c)
            return NULL;
        if (tail != &pipe->first && c->v[0].kind != TPL_CALL) {
            (void)fail(p, "only functions take a value:", p->in);
            return NULL;
        }
        *tail = c;
        tail = &c->next;
    } while (accept(p, "|"));
    if (inner ? accept(p, ")") : !p->in.n)
        return pipe;
    (void)fail(p, inner ? "a \")\" is missing before" : "unexpected", p->in);
    return NULL;
}

/* ---- actions ---- */

static struct mz_str trimmed(struct parser *p, struct mz_str s, bool front, bool back)
{
    (void)p;
    while (front && s.n && is_space(s.p[0]))
        s = mz_str_skip(s, 1);
    while (back && s.n && is_space(s.p[s.n - 1]))
        s.n--;
    return s;
}

/* Where "}}" is, behind texts and comments. */
static ptrdiff_t action_end(struct mz_str s)
{
    if (mz_str_starts(s, MZ_STR("/*")))
        for (size_t i = 2; i + 1 < s.n; i++)
            if (s.p[i] == '*' && s.p[i + 1] == '/') {
                for (i += 2; i + 1 < s.n; i++)
                    if (s.p[i] == '}' && s.p[i + 1] == '}')
                        return (ptrdiff_t)i;
                return -1;
            }
    for (size_t i = 0; i + 1 < s.n; i++) {
        const char c = s.p[i];
        if (c == '}' && s.p[i + 1] == '}')
            return (ptrdiff_t)i;
        if (c != '"' && c != '`' && c != '\'')
            continue;
        for (i++; i < s.n && s.p[i] != c; i++)
            i += c != '`' && s.p[i] == '\\';
    }
    return -1;
}

/* The text up to the next action, and that action in p->in. False: there is none (@out_text is all), or a fault. */
static bool next_action(struct parser *p, struct mz_str *out_text, bool *out_fault)
{
    const struct mz_str all = p->rest;
    size_t at = 0;
    *out_fault = false;
    while (at + 1 < all.n && !(all.p[at] == '{' && all.p[at + 1] == '{'))
        at++;
    const bool any = at + 1 < all.n;
    struct mz_str in = any ? mz_str_skip(all, at + 2) : MZ_STR("");
    const bool trims = in.n > 1 && in.p[0] == '-' && is_space(in.p[1]);
    const struct mz_str text = { all.p, any ? at : all.n };
    for (size_t i = 0; i < text.n; i++)
        p->line += text.p[i] == '\n';
    *out_text = trimmed(p, text, p->trim, trims);
    p->trim = false;
    if (!any) {
        p->rest = MZ_STR("");
        return false;
    }
    in = mz_str_skip(in, trims);
    if (trims)
        while (in.n && is_space(in.p[0])) {
            p->line += in.p[0] == '\n';
            in = mz_str_skip(in, 1);
        }
    const ptrdiff_t end = action_end(in);
    if (end < 0) {
        *out_fault = true;
        return fail(p, "an action does not end:", in);
    }
    p->rest = mz_str_skip(in, (size_t)end + 2);
    in.n = (size_t)end;
    p->trim = in.n > 1 && in.p[in.n - 1] == '-' && is_space(in.p[in.n - 2]);
    in.n -= p->trim;
    if (mz_str_starts(in, MZ_STR("/*"))) {
        for (size_t i = 0; i < in.n; i++)
            p->line += in.p[i] == '\n';
        in = MZ_STR("");
    }
    p->in = trimmed(p, in, false, true);
    return true;
}

/* if, range, with: their bodies up to "end". "else if" and "else with" are an action of their own within. */
static bool branches(struct parser *p, struct tpl_node *n)
{
    struct mz_str otherwise;
    n->pipe = parse_pipe(p, false);
    if (!n->pipe)
        return false;
    enum end e = parse_list(p, &n->body, &otherwise);
    if (e == END_ELSE) {
        struct parser word_at = *p;
        word_at.in = otherwise;
        const bool is_if = accept_word(&word_at, "if");
        const bool is_with = !is_if && accept_word(&word_at, "with");
        if (is_if || is_with) {
            struct tpl_node *inner = mz_arena_new0(p->t->arena, struct tpl_node);
            inner->kind = is_if ? TPL_IF : TPL_WITH;
            inner->line = p->line;
            n->otherwise = inner;
            p->in = word_at.in;
            return branches(p, inner); /* its "end" is ours */
        }
        if (otherwise.n)
            return fail(p, "unexpected", otherwise);
        e = parse_list(p, &n->otherwise, &otherwise);
    }
    if (e == END_END)
        return true;
    return e == END_FAULT ? false : fail(p, "an \"end\" is missing", MZ_STR(""));
}

static bool name_of(struct parser *p, struct mz_str *out)
{
    struct tpl_arg a;
    skip_space(p);
    if ((peek(p) != '"' && peek(p) != '`') || !argument(p, &a))
        return fail(p, "a name is missing before", p->in);
    *out = mz_str_c(json_string_value(a.value));
    return true;
}

static bool define(struct parser *p)
{
    struct mz_str name, otherwise;
    struct tpl_defined *d = mz_arena_new0(p->t->arena, struct tpl_defined);
    if (!name_of(p, &name))
        return false;
    const enum end e = parse_list(p, &d->body, &otherwise);
    if (e != END_END)
        return e != END_FAULT && fail(p, "an \"end\" is missing", MZ_STR(""));
    (void)mz_map_put(&p->t->defined, name, d);
    return true;
}

static bool template(struct parser *p, struct tpl_node *n)
{
    if (!name_of(p, &n->text))
        return false;
    skip_space(p);
    n->pipe = p->in.n ? parse_pipe(p, false) : NULL;
    return !p->in.n || n->pipe;
}

/* One action into @n. */
static bool action(struct parser *p, struct tpl_node *n)
{
    static const struct {
        const char *word;
        enum tpl_kind kind;
    } words[] = { { "if", TPL_IF },
                  { "range", TPL_RANGE },
                  { "with", TPL_WITH },
                  { "break", TPL_BREAK },
                  { "continue", TPL_CONTINUE } };
    for (size_t i = 0; i < MZ_COUNT(words); i++) {
        if (!accept_word(p, words[i].word))
            continue;
        n->kind = words[i].kind;
        if (n->kind == TPL_BREAK || n->kind == TPL_CONTINUE)
            return !p->in.n || fail(p, "unexpected", p->in);
        return branches(p, n);
    }
    if (accept_word(p, "template")) {
        n->kind = TPL_TEMPLATE;
        return template(p, n);
    }
    n->kind = TPL_ACTION;
    n->pipe = parse_pipe(p, false);
    return n->pipe != NULL;
}

static enum end parse_list_inner(struct parser *p, struct tpl_node **tail, struct mz_str *out_else)
{
    struct mz_str text;
    bool fault;
    while (true) {
        struct tpl_node *n = mz_arena_new0(p->t->arena, struct tpl_node);
        n->line = p->line;
        const bool any = next_action(p, &text, &fault);
        if (fault)
            return END_FAULT;
        if (text.n) {
            *n = (struct tpl_node){ .kind = TPL_TEXT, .line = n->line, .text = text };
            *tail = n;
            tail = &n->next;
            n = mz_arena_new0(p->t->arena, struct tpl_node);
        }
        if (!any)
            return END_TEXT;
        skip_space(p);
        n->line = p->line;
        if (!p->in.n)
            continue; /* a comment */
        if (accept_word(p, "end"))
            return p->in.n ? (fail(p, "unexpected", p->in), END_FAULT) : END_END;
        if (accept_word(p, "else")) {
            skip_space(p);
            *out_else = p->in;
            return END_ELSE;
        }
        if (accept_word(p, "define")) {
            if (!define(p))
                return END_FAULT;
            continue;
        }
        if (!action(p, n))
            return END_FAULT;
        *tail = n;
        tail = &n->next;
    }
}

static enum end parse_list(struct parser *p, struct tpl_node **out, struct mz_str *out_else)
{
    if (++p->depth > TPL_MAX_DEPTH) {
        (void)fail(p, "is nested too deeply", MZ_STR(""));
        return END_FAULT;
    }
    const enum end e = parse_list_inner(p, out, out_else);
    p->depth--;
    return e;
}

struct mz_gotpl *mz_gotpl_parse(struct mz_str text, struct mz_err *err)
{
    struct mz_gotpl *t = mz_new0(MZ_MEM_CONFIG, struct mz_gotpl);
    struct mz_str otherwise;
    t->arena = mz_arena_create(MZ_MEM_CONFIG);
    t->literals = json_array();
    mz_map_init(&t->defined, MZ_MEM_CONFIG);
    struct parser p = { .t = t, .rest = mz_arena_dup(t->arena, text), .line = 1, .err = err };
    const enum end e = text.n > TPL_MAX_TEXT ? END_FAULT : parse_list(&p, &t->body, &otherwise);
    if (text.n > TPL_MAX_TEXT)
        (void)mz_err_set(err, "a template has at most %d bytes", TPL_MAX_TEXT);
    else if (e == END_END || e == END_ELSE)
        (void)fail(&p, "without a beginning:", e == END_END ? MZ_STR("end") : MZ_STR("else"));
    if (e == END_TEXT)
        return t;
    mz_gotpl_destroy(t);
    return NULL;
}

void mz_gotpl_destroy(struct mz_gotpl *t)
{
    if (!t)
        return;
    mz_map_fini(&t->defined);
    json_decref(t->literals);
    mz_arena_destroy(t->arena);
    mz_free(MZ_MEM_CONFIG, t);
}
