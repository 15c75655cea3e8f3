#include "base/arena.h"
#include "base/vec.h"
#include "observe/format_priv.h"
#include "observe/json_text.h"

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

/* ---- compiling ---- */

struct compiler {
    struct mz_format *f;
    struct mz_str text;
    size_t at; /* of the '%' that is being read */
    struct mz_err *err;
    MZ_VEC(struct step) steps;
    struct mz_str literal; /* collected since the last operator, contiguous in a scratch copy */
    char *literal_mem;
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
    *out = (struct step){ .op = op, .limit = limited ? (uint32_t)call->limit : UINT32_MAX };
    return operator_check(op, call, err) && (!op->compile || op->compile(out, call->param, a, err));
}

#define PADDING 16 /* bytes behind a literal that may be read: see writer_put_literal() */

static void literal_flush(struct compiler *c)
{
    if (c->literal.n) {
        char *text = mz_arena_alloc(c->f->arena, c->literal.n + PADDING);
        memcpy(text, c->literal.p, c->literal.n);
        *mz_vec_push(&c->steps, MZ_MEM_CONFIG) =
            (struct step){ .text = { text, c->literal.n }, .limit = UINT32_MAX };
    }
    c->literal.n = 0;
}

static void literal_add(struct compiler *c, struct mz_str s)
{
    memcpy(c->literal_mem + c->literal.n, s.p, s.n); /* never longer than the whole text */
    c->literal.n += s.n;
}

static bool compile_operator(struct compiler *c)
{
    struct token t;
    if (!token_parse(c->text, c->at, &t))
        return mz_err_set(c->err, "no valid format operator at position %zu of \"" MZ_STR_FMT "\"",
                          c->at, MZ_STR_ARG(c->text));
    struct step s;
    const struct operator_call call = { t.name, t.param, t.has_limit, t.limit };
    if (!operator_compile(&call, c->f->arena, &s, c->err))
        return false;
    literal_flush(c);
    *mz_vec_push(&c->steps, MZ_MEM_CONFIG) = s;
    c->at = t.end;
    return true;
}

static bool compile(struct compiler *c)
{
    while (c->at < c->text.n) {
        struct mz_str rest = mz_str_skip(c->text, c->at);
        ptrdiff_t percent = mz_str_chr(rest, '%');
        size_t plain = percent < 0 ? rest.n : (size_t)percent;
        literal_add(c, (struct mz_str){ rest.p, plain });
        c->at += plain;
        if (c->at == c->text.n)
            break;
        if (c->at + 1 < c->text.n && c->text.p[c->at + 1] == '%') {
            literal_add(c, MZ_STR("%"));
            c->at += 2;
        } else if (!compile_operator(c)) {
            return false;
        }
    }
    literal_flush(c);
    return true;
}

struct mz_format *mz_format_create(struct mz_str text, bool omit_empty_values, struct mz_err *err)
{
    struct mz_format *f = mz_new0(MZ_MEM_CONFIG, struct mz_format);
    f->arena = mz_arena_create(MZ_MEM_CONFIG);
    f->omit_empty = omit_empty_values;
    struct compiler c = {
        .f = f, .text = text, .err = err, .literal_mem = mz_alloc(MZ_MEM_CONFIG, text.n + 1)
    };
    c.literal.p = c.literal_mem;
    bool ok = compile(&c);
    mz_free(MZ_MEM_CONFIG, c.literal_mem);
    f->n = c.steps.n;
    f->steps = mz_arena_alloc(f->arena, f->n * sizeof(*f->steps) + 1);
    if (f->n)
        memcpy(f->steps, c.steps.v, f->n * sizeof(*f->steps));
    mz_vec_free(&c.steps, MZ_MEM_CONFIG);
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
    if (f->n > 1 || (f->n == 1 && f->steps[0].op))
        return false;
    *out_text = f->n ? f->steps[0].text : (struct mz_str){ "", 0 };
    return true;
}

/* ---- values ---- */

struct mz_buf *value_spill(struct value *v)
{
    if (!v->spill) {
        v->spill = mz_alloc(MZ_MEM_LOG, sizeof(*v->spill));
        mz_buf_init(v->spill);
    }
    return v->spill;
}

void value_take_spill(struct value *v)
{
    size_t n = mz_buf_len(v->spill);
    if (n <= VALUE_SCRATCH) {
        mz_buf_copyout(v->spill, 0, v->scratch, n);
        value_str(v, (struct mz_str){ v->scratch, n });
    } else {
        value_str(v, mz_buf_linearize(v->spill, n));
    }
}

void value_end(struct value *v)
{
    if (MZ_LIKELY(!v->spill))
        return;
    mz_buf_fini(v->spill);
    mz_free(MZ_MEM_LOG, v->spill);
    v->spill = NULL;
}

void step_value(const struct step *s, const struct mz_format_ctx *c, struct value *v)
{
    v->kind = VALUE_NONE;
    v->clean = false;
    v->spill = NULL;
    if (s->op->value)
        s->op->value(s, c, v);
}

/* ---- writing ---- */

#define ROOM 1024 /* asked of the buffer at once: most lines need it one or two times */
struct writer {
    struct mz_buf *buf;
    char *start, *p, *end;
};

static void writer_flush(struct writer *w)
{
    if (w->p != w->start)
        mz_buf_commit(w->buf, (size_t)(w->p - w->start));
    w->start = w->p;
}

static void writer_more(struct writer *w, size_t n)
{
    writer_flush(w);
    size_t room;
    w->start = w->p = mz_buf_reserve(w->buf, n > ROOM ? n : ROOM, &room);
    w->end = w->start + room;
}

/* Most pieces of a line are a few bytes, of which a call would cost more than the copy. An empty string may be NULL. */
static inline void copy_short(char *to, const char *from, size_t n)
{
    if (n > 16) {
        memcpy(to, from, n);
    } else if (n >= 8) {
        uint64_t begin, end;
        memcpy(&begin, from, 8);
        memcpy(&end, from + n - 8, 8);
        memcpy(to, &begin, 8);
        memcpy(to + n - 8, &end, 8);
    } else if (n >= 4) {
        uint32_t begin, end;
        memcpy(&begin, from, 4);
        memcpy(&end, from + n - 4, 4);
        memcpy(to, &begin, 4);
        memcpy(to + n - 4, &end, 4);
    } else if (n) {
        /* cppcheck-suppress arrayIndexOutOfBoundsCond ; the array is as long as n says */
        char middle = from[n / 2], end = from[n - 1];
        to[0] = from[0];
        to[n / 2] = middle;
        to[n - 1] = end;
    }
}

static inline void writer_put(struct writer *w, const char *p, size_t n)
{
    if (n == 0)
        return; /* there may be no room yet: NULL */
    if (MZ_UNLIKELY((size_t)(w->end - w->p) < n))
        writer_more(w, n);
    copy_short(w->p, p, n);
    w->p += n;
}

/* Most literals are a space or a quote: one copy of a fixed size, of which the next step overwrites the rest. */
static inline void writer_put_literal(struct writer *w, struct mz_str s)
{
    if (MZ_UNLIKELY(s.n > PADDING || w->end - w->p < PADDING)) {
        writer_put(w, s.p, s.n);
        return;
    }
    memcpy(w->p, s.p, PADDING);
    w->p += s.n;
}

/* Control bytes (not TAB, which Envoy lets pass) would break lines and terminals: \xNN (B18). */
static inline uint64_t controls(uint64_t w) /* eight bytes at once: below 0x20, or 0x7f */
{
    const uint64_t ones = 0x0101010101010101u, high = ones << 7;
    uint64_t del = w ^ ones * 0x7f;
    return ((w - ones * 0x20) & ~w & high) | ((del - ones) & ~del & high);
}

static inline uint64_t load8(const char *p)
{
    uint64_t w;
    memcpy(&w, p, 8);
    return w;
}

/* A TAB makes the caller look at each byte. */
static inline bool has_control(const char *p, size_t n)
{
    uint64_t found = 0;
    if (n >= 8) {
        for (size_t i = 0; i + 8 < n; i += 8)
            found |= controls(load8(p + i));
        return (found | controls(load8(p + n - 8))) != 0; /* may look at some bytes twice */
    }
    char few[8] = { ' ', ' ', ' ', ' ', ' ', ' ', ' ', ' ' };
    copy_short(few, p, n);
    return controls(load8(few)) != 0;
}

static void put_escaped(struct writer *w, const char *p, size_t n)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c < 0x20 && c != '\t') || c == 0x7f)
            writer_put(w, (char[]){ '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
        else
            writer_put(w, p + i, 1);
    }
}

static void put_value_str(struct writer *w, struct mz_str s, uint32_t limit, bool escape)
{
    size_t n = s.n < limit ? s.n : limit;
    if (MZ_UNLIKELY(escape && has_control(s.p, n)))
        put_escaped(w, s.p, n);
    else
        writer_put(w, s.p, n);
}

/* A tree, or a string that stands in quotes, as text: a string tree is shown bare. */
static void put_json(struct writer *w, struct value *v, uint32_t limit, bool escape)
{
    if (v->kind == VALUE_TREE && v->tree->kind == MZ_VALUE_STRING) {
        put_value_str(w, v->tree->str, limit, escape);
        return;
    }
    struct mz_buf json;
    mz_buf_init(&json);
    if (v->kind == VALUE_TREE)
        mz_value_json(v->tree, &json);
    else
        mz_json_string(&json, v->str);
    put_value_str(w, mz_buf_linearize(&json, mz_buf_len(&json)), limit, false);
    mz_buf_fini(&json);
}

static void put_number(struct writer *w, uint64_t n, uint32_t limit)
{
    if (MZ_UNLIKELY(w->end - w->p < 20))
        writer_more(w, 20);
    size_t len = mz_u64_text(n, w->p);
    w->p += len < limit ? len : limit;
}

static void put_step(struct writer *w, const struct step *s, const struct mz_format_ctx *c,
                     bool omit_empty)
{
    struct value v
        __attribute__((uninitialized)); /* its scratch is large; step_value() sets the rest */
    step_value(s, c, &v);
    switch (v.kind) {
    case VALUE_NONE:
        if (!omit_empty)
            writer_put(w, "-", 1);
        break;
    case VALUE_STR:
        put_value_str(w, v.str, s->limit, c->escape && !v.clean);
        break;
    case VALUE_NUMBER:
        put_number(w, v.number, s->limit);
        break;
    case VALUE_TREE:
    case VALUE_QUOTED:
        put_json(w, &v, s->limit, c->escape);
        break;
    }
    value_end(&v);
}

void mz_format_append(const struct mz_format *f, const struct mz_format_ctx *c, struct mz_buf *out)
{
    struct writer w = { .buf = out };
    for (const struct step *s = f->steps, *end = s + f->n; s != end; s++) {
        if (s->op)
            put_step(&w, s, c, f->omit_empty);
        else
            writer_put_literal(&w, s->text);
    }
    writer_flush(&w);
}
