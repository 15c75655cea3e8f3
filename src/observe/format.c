#include "base/arena.h"
#include "observe/format_priv.h"

/* ---- operators by name ---- */

static const struct {
    const struct operator_row *v;
    const size_t *n;
} tables[] = { { operators_info, &operators_info_n },
               { operators_http, &operators_http_n },
               { operators_cel, &operators_cel_n } };

const struct operator_row *operator_find(struct mz_str name)
{
    for (size_t t = 0; t < MZ_COUNT(tables); t++)
        for (size_t i = 0; i < *tables[t].n; i++)
            if (mz_str_eq(tables[t].v[i].name, name))
                return &tables[t].v[i];
    return NULL;
}

const struct operator_row *operator_nearest(struct mz_str name)
{
    const struct operator_row *best = NULL;
    unsigned best_distance = name.n < 6 ? 2 : 4; /* one more than what is called near */
    for (size_t t = 0; t < MZ_COUNT(tables); t++)
        for (size_t i = 0; i < *tables[t].n; i++) {
            unsigned d = mz_str_distance(tables[t].v[i].name, name, best_distance);
            if (d < best_distance) {
                best_distance = d;
                best = &tables[t].v[i];
            }
        }
    return best;
}

/* ---- a format from its steps ---- */

void format_begin(struct format_builder *b, bool omit_empty)
{
    *b = (struct format_builder){ .f = mz_new0(MZ_MEM_CONFIG, struct mz_format) };
    b->f->arena = mz_arena_create(MZ_MEM_CONFIG);
    b->f->omit_empty = omit_empty;
    mz_buf_init(&b->literal);
}

void format_literal(struct format_builder *b, struct mz_str s)
{
    mz_buf_append_str(&b->literal, s);
}

static void step_add(struct format_builder *b, const struct step *s)
{
    *mz_vec_push(&b->steps, MZ_MEM_CONFIG) = *s;
}

/* What was collected: into @s where it fits, otherwise before it. */
static void lead_take(struct format_builder *b, struct step *s)
{
    size_t n = mz_buf_len(&b->literal);
    struct mz_str text = mz_buf_linearize(&b->literal, n);
    if (n <= LEAD_MAX) {
        s->lead_n = (uint8_t)mz_buf_copyout(&b->literal, 0, s->lead, n);
    } else {
        step_add(b, &(struct step){ .way = WAY_LITERAL, .text = mz_arena_dup(b->f->arena, text) });
    }
    mz_buf_drain(&b->literal, n);
}

void format_step(struct format_builder *b, const struct step *s)
{
    struct step led = *s;
    lead_take(b, &led);
    step_add(b, &led);
}

struct mz_format *format_end(struct format_builder *b)
{
    struct mz_format *f = b->f;
    struct step last = { .way = WAY_LITERAL, .text = { "", 0 } };
    lead_take(b, &last);
    if (last.lead_n)
        step_add(b, &last);
    mz_buf_fini(&b->literal);
    f->n = b->steps.n;
    f->steps = mz_arena_alloc(f->arena, f->n * sizeof(*f->steps) + 1);
    if (f->n)
        memcpy(f->steps, b->steps.v, f->n * sizeof(*f->steps));
    mz_vec_free(&b->steps, MZ_MEM_CONFIG);
    return f;
}

/* ---- compiling ---- */

struct compiler {
    struct format_builder b;
    struct mz_str text;
    size_t at; /* of the '%' that is being read */
    struct mz_err *err;
};

struct token { /* %NAME(param):limit% */
    struct mz_str name, param;
    bool has_param, has_limit;
    uint64_t limit;
    size_t end; /* behind the closing '%' */
};

static bool is_name_char(char c)
{
    return (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_';
}

/* The ')' that ends a parameter is the last one before "%" or ":<digits>%": parameters may hold '%' and ')'. */
static bool close_find(struct mz_str text, size_t from, size_t *out_close)
{
    for (size_t i = from; i < text.n && text.p[i] != '\n'; i++) {
        if (text.p[i] != ')')
            continue;
        size_t j = i + 1;
        if (j < text.n && text.p[j] == ':') {
            size_t digits = ++j;
            while (j < text.n && text.p[j] >= '0' && text.p[j] <= '9')
                j++;
            if (j == digits)
                continue;
        }
        if (j < text.n && text.p[j] == '%') {
            *out_close = i;
            return true;
        }
    }
    return false;
}

static bool token_parse(struct mz_str text, size_t at, struct token *out)
{
    size_t i = at + 1;
    while (i < text.n && is_name_char(text.p[i]))
        i++;
    *out = (struct token){ .name = { text.p + at + 1, i - at - 1 } };
    if (out->name.n == 0)
        return false;
    if (i < text.n && text.p[i] == '(') {
        size_t close;
        if (!close_find(text, i + 1, &close))
            return false;
        out->has_param = true;
        out->param = (struct mz_str){ text.p + i + 1, close - i - 1 };
        i = close + 1;
    }
    if (i < text.n && text.p[i] == ':') {
        size_t digits = ++i;
        while (i < text.n && text.p[i] >= '0' && text.p[i] <= '9')
            i++;
        if (!mz_str_u64((struct mz_str){ text.p + digits, i - digits }, &out->limit))
            return false;
        out->has_limit = true;
    }
    out->end = i + 1;
    return i < text.n && text.p[i] == '%';
}

static bool unknown_operator(struct mz_str name, struct mz_err *err)
{
    const struct operator_row *near = operator_nearest(name);
    if (!near)
        return mz_err_set(err, "unknown format operator %%" MZ_STR_FMT "%%", MZ_STR_ARG(name));
    return mz_err_set(
        err, "unknown format operator %%" MZ_STR_FMT "%%; did you mean %%" MZ_STR_FMT "%%?",
        MZ_STR_ARG(name), MZ_STR_ARG(near->name));
}

static bool operator_check(const struct operator_row *op, const struct operator_call *t,
                           struct mz_err *err)
{
    if (op->params == PARAMS_MUST && t->param.n == 0)
        return mz_err_set(err, "format operator " MZ_STR_FMT " requires parameters",
                          MZ_STR_ARG(op->name));
    if (op->params == PARAMS_NO && (t->param.n || (t->has_limit && !op->length)))
        return mz_err_set(err,
                          "format operator " MZ_STR_FMT " does not take any parameters or length",
                          MZ_STR_ARG(op->name));
    if (t->has_limit && !op->length)
        return mz_err_set(err,
                          "format operator " MZ_STR_FMT " does not allow length to be specified",
                          MZ_STR_ARG(op->name));
    return true;
}

bool operator_compile(const struct operator_call *call, struct mz_arena *a, struct step *out,
                      struct mz_err *err)
{
    const struct operator_row *op = operator_find(call->name);
    if (!op)
        return unknown_operator(call->name, err);
    bool limited = call->has_limit && call->limit < UINT32_MAX;
    *out = (struct step){ .op = op,
                          .way = op->way,
                          .offset = op->offset,
                          .limit = limited ? (uint32_t)call->limit : UINT32_MAX };
    return operator_check(op, call, err) && (!op->compile || op->compile(out, call->param, a, err));
}

static bool compile_operator(struct compiler *c)
{
    struct token t;
    if (!token_parse(c->text, c->at, &t))
        return mz_err_set(c->err, "no valid format operator at position %zu of \"" MZ_STR_FMT "\"",
                          c->at, MZ_STR_ARG(c->text));
    struct step s;
    const struct operator_call call = { t.name, t.param, t.has_limit, t.limit };
    if (!operator_compile(&call, c->b.f->arena, &s, c->err))
        return false;
    format_step(&c->b, &s);
    c->at = t.end;
    return true;
}

static bool compile(struct compiler *c)
{
    while (c->at < c->text.n) {
        struct mz_str rest = mz_str_skip(c->text, c->at);
        ptrdiff_t percent = mz_str_chr(rest, '%');
        size_t plain = percent < 0 ? rest.n : (size_t)percent;
        format_literal(&c->b, (struct mz_str){ rest.p, plain });
        c->at += plain;
        if (c->at == c->text.n)
            break;
        if (c->at + 1 < c->text.n && c->text.p[c->at + 1] == '%') {
            format_literal(&c->b, MZ_STR("%"));
            c->at += 2;
        } else if (!compile_operator(c)) {
            return false;
        }
    }
    return true;
}

struct mz_format *mz_format_create(struct mz_str text, bool omit_empty_values, struct mz_err *err)
{
    struct compiler c = { .text = text, .err = err };
    format_begin(&c.b, omit_empty_values);
    bool ok = compile(&c);
    struct mz_format *f = format_end(&c.b);
    if (ok)
        return f;
    mz_format_destroy(f);
    return NULL;
}

void mz_format_destroy(struct mz_format *f)
{
    if (!f)
        return;
    mz_arena_destroy(f->arena);
    mz_free(MZ_MEM_CONFIG, f);
}

bool mz_format_is_literal(const struct mz_format *f, struct mz_str *out_text)
{
    const struct step *s = f->steps;
    if (f->n > 1 || (f->n == 1 && s->way != WAY_LITERAL))
        return false;
    *out_text = !f->n       ? (struct mz_str){ "", 0 }
                : s->text.n ? s->text
                            : (struct mz_str){ s->lead, s->lead_n };
    return true;
}
