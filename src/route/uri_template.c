#include "route/uri_template.h"
#include "base/buf.h"
#include "base/regex.h"

/* A template becomes one regular expression, a group per variable: RE2 keeps matching linear. */
#define SEGMENT_CLASS "a-zA-Z0-9_.~%!$&'()+,;:@=-"
#define ONE_SEGMENT   "[" SEGMENT_CLASS "]+"
#define ANY_SEGMENTS  "[/" SEGMENT_CLASS "]*"
#define MAX_TEXT      1024

struct mz_uri_template {
    struct mz_regex *regex;
    struct mz_str vars[MZ_URI_TEMPLATE_VARS]; /* names, within text */
    unsigned n_vars;
    char *text;
};

struct parser {
    struct mz_str rest;
    struct mz_uri_template *t;
    struct mz_buf out; /* the expression */
    bool any_seen;     /* a "**" was read: literals only from here on */
    struct mz_err *err;
};

static bool is_alpha(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}

static bool is_word(char c)
{
    return is_alpha(c) || (c >= '0' && c <= '9') || c == '_';
}

static bool is_segment_char(char c)
{
    return c != '*' && (is_word(c) || (c != 0 && strchr(".~%!$&'()+,;:@=-", c)));
}

static void emit(struct parser *p, const char *s)
{
    mz_buf_append(&p->out, s, strlen(s));
}

static void emit_literal(struct parser *p, char c)
{
    if (!is_word(c) && c != '/')
        emit(p, "\\");
    mz_buf_append(&p->out, &c, 1);
}

/* "*" or "**"; the caller saw the first star. */
static bool parse_stars(struct parser *p)
{
    if (p->any_seen)
        return mz_err_set(p->err, "only literal segments may follow '**' in a URI template");
    bool any = p->rest.n > 1 && p->rest.p[1] == '*';
    p->rest = mz_str_skip(p->rest, any ? 2 : 1);
    p->any_seen = any;
    emit(p, any ? ANY_SEGMENTS : ONE_SEGMENT);
    return true;
}

/* Literals, slashes and stars up to @stop ('}' within a variable, -1: none) or a '{'. */
static bool parse_plain(struct parser *p, int stop)
{
    while (p->rest.n && (unsigned char)p->rest.p[0] != stop && p->rest.p[0] != '{') {
        char c = p->rest.p[0];
        if (c == '*') {
            if (!parse_stars(p))
                return false;
        } else if (c == '/' || is_segment_char(c)) {
            emit_literal(p, c);
            p->rest = mz_str_skip(p->rest, 1);
        } else {
            return mz_err_set(p->err, "character 0x%02x is not allowed in a URI template",
                              (unsigned char)c);
        }
    }
    return true;
}

static bool parse_name(struct parser *p, struct mz_str *out_name)
{
    size_t n = 0;
    while (n < p->rest.n && is_word(p->rest.p[n]))
        n++;
    struct mz_str name = { p->rest.p, n };
    if (n == 0 || n > MZ_URI_TEMPLATE_VAR_NAME || !is_alpha(name.p[0]))
        return mz_err_set(p->err,
                          "variable name '" MZ_STR_FMT
                          "' must begin with a letter and have 1 to %d characters",
                          MZ_STR_ARG(name), MZ_URI_TEMPLATE_VAR_NAME);
    p->rest = mz_str_skip(p->rest, n);
    *out_name = name;
    return true;
}

static bool parse_variable(struct parser *p) /* at '{' */
{
    struct mz_str name;
    p->rest = mz_str_skip(p->rest, 1);
    if (!parse_name(p, &name))
        return false;
    for (unsigned i = 0; i < p->t->n_vars; i++)
        if (mz_str_eq(p->t->vars[i], name))
            return mz_err_set(p->err, "variable '" MZ_STR_FMT "' is there twice", MZ_STR_ARG(name));
    if (p->t->n_vars == MZ_URI_TEMPLATE_VARS)
        return mz_err_set(p->err, "a URI template has at most %d variables", MZ_URI_TEMPLATE_VARS);
    p->t->vars[p->t->n_vars++] = name;
    if (p->any_seen)
        return mz_err_set(p->err, "only literal segments may follow '**' in a URI template");
    emit(p, "(");
    if (p->rest.n && p->rest.p[0] == '=') {
        p->rest = mz_str_skip(p->rest, 1);
        struct mz_str before = p->rest;
        if (!parse_plain(p, '}'))
            return false;
        if (p->rest.p == before.p)
            return mz_err_set(p->err, "variable '" MZ_STR_FMT "' has an empty pattern",
                              MZ_STR_ARG(name));
    } else {
        emit(p, ONE_SEGMENT);
    }
    emit(p, ")");
    if (!p->rest.n || p->rest.p[0] != '}')
        return mz_err_set(p->err, "variable '" MZ_STR_FMT "' is not closed with '}'",
                          MZ_STR_ARG(name));
    p->rest = mz_str_skip(p->rest, 1);
    return true;
}

static bool parse_template(struct parser *p)
{
    if (!p->rest.n || p->rest.p[0] != '/')
        return mz_err_set(p->err, "a URI template must begin with '/'");
    if (p->rest.n > MAX_TEXT)
        return mz_err_set(p->err, "a URI template has at most %d characters", MAX_TEXT);
    if (mz_str_find(p->rest, MZ_STR("//")) >= 0)
        return mz_err_set(p->err, "a URI template must not have empty segments");
    emit(p, "^");
    while (p->rest.n)
        if (!(p->rest.p[0] == '{' ? parse_variable(p) : parse_plain(p, -1)))
            return false;
    emit(p, "$");
    return true;
}

struct mz_uri_template *mz_uri_template_create(struct mz_str text, struct mz_err *err)
{
    struct mz_uri_template *t = mz_new0(MZ_MEM_CONFIG, struct mz_uri_template);
    t->text = mz_strndup(MZ_MEM_CONFIG, text.n ? text.p : "", text.n);
    struct parser p = { .rest = { t->text, text.n }, .t = t, .err = err };
    mz_buf_init(&p.out);
    if (parse_template(&p))
        t->regex = mz_regex_create(mz_buf_linearize(&p.out, mz_buf_len(&p.out)), err);
    mz_buf_fini(&p.out);
    if (t->regex)
        return t;
    mz_uri_template_destroy(t);
    return NULL;
}

void mz_uri_template_destroy(struct mz_uri_template *t)
{
    if (!t)
        return;
    mz_regex_destroy(t->regex);
    mz_free(MZ_MEM_CONFIG, t->text);
    mz_free(MZ_MEM_CONFIG, t);
}

bool mz_uri_template_match(const struct mz_uri_template *t, struct mz_str path)
{
    return mz_regex_full(t->regex, path);
}

/* ---- rewriting ---- */

struct piece {
    struct mz_str text;
    int var; /* -1: text */
};
struct mz_uri_rewrite {
    struct piece *v;
    size_t n;
    char *text;
};

static int var_find(const struct mz_uri_template *t, struct mz_str name)
{
    for (unsigned i = 0; i < t->n_vars; i++)
        if (mz_str_eq(t->vars[i], name))
            return (int)i;
    return -1;
}

static bool piece_next(struct mz_str *rest, const struct mz_uri_template *t, struct piece *out,
                       struct mz_err *err)
{
    bool var = rest->p[0] == '{';
    ptrdiff_t end = mz_str_chr(*rest, var ? '}' : '{');
    if (var && end < 0)
        return mz_err_set(err, "a variable is not closed with '}'");
    size_t n = end < 0 ? rest->n : (size_t)end;
    struct mz_str text = { rest->p + (var ? 1 : 0), n - (var ? 1 : 0) };
    *rest = mz_str_skip(*rest, n + (var ? 1 : 0));
    *out = (struct piece){ text, var ? var_find(t, text) : -1 };
    if (var && out->var < 0)
        return mz_err_set(err, "variable '" MZ_STR_FMT "' is not one of the path_match_policy",
                          MZ_STR_ARG(text));
    for (size_t i = 0; !var && i < text.n; i++)
        if (text.p[i] != '/' && !is_segment_char(text.p[i]))
            return mz_err_set(err, "character 0x%02x is not allowed in a rewrite template",
                              (unsigned char)text.p[i]);
    return true;
}

struct mz_uri_rewrite *mz_uri_rewrite_create(struct mz_str text, const struct mz_uri_template *t,
                                             struct mz_err *err)
{
    if (!text.n || text.p[0] != '/') {
        mz_err_set(err, "a rewrite template must begin with '/'");
        return NULL;
    }
    struct mz_uri_rewrite *w = mz_new0(MZ_MEM_CONFIG, struct mz_uri_rewrite);
    w->text = mz_strndup(MZ_MEM_CONFIG, text.p, text.n);
    w->v = mz_newn0(MZ_MEM_CONFIG, struct piece, text.n); /* a piece is one character at least */
    for (struct mz_str rest = { w->text, text.n }; rest.n;) {
        if (!piece_next(&rest, t, &w->v[w->n], err)) {
            mz_uri_rewrite_destroy(w);
            return NULL;
        }
        w->n++;
    }
    return w;
}

void mz_uri_rewrite_destroy(struct mz_uri_rewrite *w)
{
    if (!w)
        return;
    mz_free(MZ_MEM_CONFIG, w->v);
    mz_free(MZ_MEM_CONFIG, w->text);
    mz_free(MZ_MEM_CONFIG, w);
}

struct mz_str mz_uri_rewrite_apply(const struct mz_uri_rewrite *w, const struct mz_uri_template *t,
                                   struct mz_str path, struct mz_arena *a)
{
    struct mz_str groups[1 + MZ_URI_TEMPLATE_VARS];
    if (!mz_regex_groups(t->regex, path, groups, 1 + t->n_vars))
        return (struct mz_str){ 0 };
    struct mz_str *parts = mz_arena_alloc(a, mz_mul(w->n, sizeof(*parts)));
    for (size_t i = 0; i < w->n; i++)
        parts[i] = w->v[i].var < 0 ? w->v[i].text : groups[1 + w->v[i].var];
    return mz_arena_cat(a, w->n, parts);
}
