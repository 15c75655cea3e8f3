#include "observe/format_priv.h"
#include "observe/json_text.h"

/*
 * What runs a format. The usual operators are read in place and written straight to where the line will be read from, so that
 * an access log costs some thirty instructions an operator; everything else is called for its value, which is then written.
 */

/* ---- values of steps ---- */

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

/* ---- reading in place ---- */

enum { SHORT_MAX = 64, STEP_ROOM = LEAD_MAX + SHORT_MAX + 2 /* quotes of JSON */ };

enum found {
    FOUND_NONE,
    FOUND_NUMBER,
    FOUND_TEXT,
    FOUND_MADE,  /* a text without odd bytes that stands in the room already */
    FOUND_CALL,  /* not in place: step_value() knows */
    FOUND_WHOLE, /* a literal */
};
struct reading {
    enum found found;
    uint64_t number; /* of FOUND_MADE: the length */
    struct mz_str text;
};

static inline __attribute__((always_inline)) struct reading read_text(struct mz_str s)
{
    return (struct reading){ .found = FOUND_TEXT, .text = s };
}

static inline __attribute__((always_inline)) struct reading read_number(uint64_t n)
{
    return (struct reading){ .found = FOUND_NUMBER, .number = n };
}

static inline __attribute__((always_inline)) struct reading read_made(size_t n)
{
    return (struct reading){ .found = FOUND_MADE, .number = n };
}

static inline __attribute__((always_inline)) struct reading read_as(enum found found)
{
    return (struct reading){ .found = found };
}

static inline __attribute__((always_inline)) struct reading read_span(uint64_t from, uint64_t to)
{
    return from && to >= from ? read_number((to - from) / 1000) : read_as(FOUND_NONE);
}

static inline __attribute__((always_inline)) struct reading read_header(const struct step *s,
                                                                        const struct mz_headers *h)
{
    unsigned at = h ? h->first[s->id] : 0;
    if (!at && h)
        at = h->first[s->id2]; /* 0 without an alternative */
    if (!at)
        return read_as(FOUND_NONE);
    return at < MZ_HEADERS_SCAN ? read_text(h->v[at - 1].value) : read_as(FOUND_CALL);
}

static inline __attribute__((always_inline)) struct reading
read_step(const struct step *s, const struct mz_format_ctx *c, char *room)
{
    const struct mz_stream_info *i = c->info;
    const void *at = (const char *)i + s->offset;
    switch ((enum way)s->way) {
    case WAY_LITERAL:
        return read_as(FOUND_WHOLE);
    case WAY_U64:
        return read_number(*(const uint64_t *)at);
    case WAY_U32:
        return read_number(*(const uint32_t *)at);
    case WAY_SINCE_START:
        return *(const uint64_t *)at ? read_span(i->start_us, *(const uint64_t *)at)
                                     : read_as(FOUND_NONE);
    case WAY_DURATION:
        return i->end_us ? read_span(i->start_us, i->end_us) : read_as(FOUND_CALL);
    case WAY_STR: {
        struct mz_str text = *(const struct mz_str *)at;
        return text.n ? read_text(text) : read_as(FOUND_NONE);
    }
    case WAY_TEXT: {
        const char *text = *(const char *const *)at;
        return text ? read_text(mz_str_c(text)) : read_as(FOUND_NONE);
    }
    case WAY_REQ:
        return read_header(s, ctx_req(c));
    case WAY_RESP:
        return read_header(s, ctx_resp(c));
    case WAY_PROTOCOL: {
        const struct protocol_name *name = &protocol_names[i->protocol];
        if (!i->has_protocol)
            return read_as(FOUND_NONE);
        memcpy(room, name->text, sizeof(name->text));
        return read_made(name->n);
    }
    case WAY_FLAGS:
        *room = '-';
        return i->flags ? read_as(FOUND_CALL) : read_made(1);
    case WAY_ADDR: {
        const struct mz_addr *a = at;
        bool ip4 = a->len && a->sa.sa_family == AF_INET;
        return ip4 ? read_made(mz_addr_text(a, room)) : read_as(FOUND_CALL);
    }
    case WAY_START_TIME:
        time_iso(i->start_wall_us, room);
        return read_made(TIME_ISO_N);
    case WAY_SERVER_NAME:
        return read_as(i->sni.n ? FOUND_CALL : FOUND_NONE);
    case WAY_CALL:
        break;
    }
    return read_as(FOUND_CALL);
}

/* ---- writing ---- */

#define ROOM 1024 /* asked of the buffer at once: most lines need it one or two times */
struct writer {
    struct mz_buf *buf;
    char *start,
        *end;      /* not yet of the buffer is what lies between start and the place of writing */
    bool borrowed; /* that memory is the caller's */
    bool omit_empty;
    enum text_rule rule;
};

static void flush(struct writer *w, const char *p)
{
    size_t n = (size_t)(p - w->start);
    if (n && w->borrowed)
        mz_buf_append(w->buf, w->start, n);
    else if (n)
        mz_buf_commit(w->buf, n);
    w->borrowed = false;
    w->start = w->end = NULL;
}

/* Returns where there is room for @n bytes. */
static __attribute__((noinline)) char *more(struct writer *w, const char *p, size_t n)
{
    flush(w, p);
    size_t room;
    w->start = mz_buf_reserve(w->buf, n > ROOM ? n : ROOM, &room);
    w->end = w->start + room;
    return w->start;
}

static char *put_raw(struct writer *w, char *p, const char *text, size_t n)
{
    if (n == 0)
        return p; /* there may be no room yet: NULL */
    if ((size_t)(w->end - p) < n)
        p = more(w, p, n);
    memcpy(p, text, n);
    return p + n;
}

/* Control bytes (not TAB, which Envoy lets pass) would break lines and terminals: \xNN (B18). */
static char *put_escaped(struct writer *w, char *p, struct mz_str s)
{
    static const char hex[] = "0123456789abcdef";
    for (size_t i = 0; i < s.n; i++) {
        unsigned char c = (unsigned char)s.p[i];
        if (w->end - p < 4)
            p = more(w, p, 4);
        if ((c < 0x20 && c != '\t') || c == 0x7f) {
            memcpy(p, (char[]){ '\\', 'x', hex[c >> 4], hex[c & 15] }, 4);
            p += 4;
        } else {
            *p++ = (char)c;
        }
    }
    return p;
}

/* A text of any length, with or without bytes that must not stand as they are. */
static __attribute__((noinline)) char *put_any(struct writer *w, char *p, struct mz_str s)
{
    const size_t quote = w->rule == TEXT_JSON;
    if ((size_t)(w->end - p) < s.n + 2 * quote)
        p = more(w, p, s.n + 2 * quote);
    if (w->rule == TEXT_RAW) {
        (void)text_copy(p, s.p, s.n, TEXT_RAW);
        return p + s.n;
    }
    if (w->rule == TEXT_LOG)
        return text_copy(p, s.p, s.n, TEXT_LOG) ? put_escaped(w, p, s) : p + s.n;
    if (text_copy(p + 1, s.p, s.n, TEXT_JSON)) {
        flush(w, p);
        mz_json_string(w->buf, s);
        return NULL;
    }
    p[0] = p[1 + s.n] = '"';
    return p + s.n + 2;
}

static char *put_none(struct writer *w, char *p)
{
    if (w->rule == TEXT_JSON)
        return put_raw(w, p, "null", 4);
    return w->omit_empty ? p : put_raw(w, p, "-", 1);
}

static char *put_number(struct writer *w, char *p, uint64_t n, uint32_t limit)
{
    char digits[20];
    size_t len = mz_u64_text(n, digits);
    return put_raw(w, p, digits, len < limit || w->rule == TEXT_JSON ? len : limit);
}

/* A tree, or a string that stands in quotes. As text a string tree is shown bare, others as JSON that is cut. */
static char *put_tree(struct writer *w, char *p, const struct value *v, uint32_t limit)
{
    struct mz_buf json;
    if (v->kind == VALUE_TREE && v->tree->kind == MZ_VALUE_STRING && w->rule != TEXT_JSON) {
        struct mz_str s = v->tree->str;
        return put_any(w, p, (struct mz_str){ s.p, s.n < limit ? s.n : limit });
    }
    mz_buf_init(&json);
    if (v->kind == VALUE_TREE)
        mz_value_json(v->tree, &json);
    else
        mz_json_string(&json, v->str);
    size_t n = mz_buf_len(&json);
    p = put_raw(w, p, mz_buf_linearize(&json, n).p, n < limit || w->rule == TEXT_JSON ? n : limit);
    mz_buf_fini(&json);
    return p;
}

static __attribute__((noinline)) char *put_called(struct writer *w, char *p, const struct step *s,
                                                  const struct mz_format_ctx *c)
{
    struct value v MZ_UNINIT; /* its scratch is large; step_value() sets the rest */
    step_value(s, c, &v);
    switch (v.kind) {
    case VALUE_NONE:
        p = put_none(w, p);
        break;
    case VALUE_NUMBER:
        p = put_number(w, p, v.number, s->limit);
        break;
    case VALUE_QUOTED:
        if (w->rule != TEXT_JSON) {
            p = put_tree(w, p, &v, s->limit);
            break;
        }
        __attribute__((fallthrough));
    case VALUE_STR:
        v.str.n = v.str.n < s->limit ? v.str.n : s->limit;
        p = v.clean && w->rule != TEXT_JSON ? put_raw(w, p, v.str.p, v.str.n)
                                            : put_any(w, p, v.str);
        break;
    case VALUE_TREE:
        p = put_tree(w, p, &v, s->limit);
        break;
    }
    value_end(&v);
    return p;
}

/* There is room for 20 bytes. Nearly all numbers of a line have one digit or three. */
static inline __attribute__((always_inline)) char *digits_put(char *p, uint64_t n)
{
    if (n < 10) {
        *p = (char)('0' + n);
        return p + 1;
    }
    if (n >= 100 && n < 1000) {
        unsigned hundreds = (unsigned)n / 100, rest = (unsigned)n % 100;
        p[0] = (char)('0' + hundreds);
        p[1] = (char)('0' + rest / 10);
        p[2] = (char)('0' + rest % 10);
        return p + 3;
    }
    return p + mz_u64_text(n, p);
}

static inline __attribute__((always_inline)) char *run_step(struct writer *w, char *p,
                                                            const struct step *s,
                                                            const struct mz_format_ctx *c,
                                                            enum text_rule rule)
{
    const size_t quote = rule == TEXT_JSON;
    if (MZ_UNLIKELY(w->end - p < STEP_ROOM))
        p = more(w, p, STEP_ROOM);
    memcpy(p, s->lead, LEAD_MAX); /* of a fixed size: what is too much is written over */
    p += s->lead_n;
    struct reading r = read_step(s, c, p + quote);
    switch (r.found) {
    case FOUND_NONE:
        if (rule == TEXT_JSON)
            memcpy(p, "null", 4);
        else
            *p = '-';
        return p + (rule == TEXT_JSON ? 4 : !w->omit_empty);
    case FOUND_NUMBER:
        return digits_put(p, r.number);
    case FOUND_MADE:
        if (quote)
            p[0] = p[1 + r.number] = '"';
        return p + r.number + 2 * quote;
    case FOUND_TEXT:
        r.text.n = r.text.n < s->limit ? r.text.n : s->limit;
        if (MZ_UNLIKELY(r.text.n > SHORT_MAX || text_copy(p + quote, r.text.p, r.text.n, rule)))
            return put_any(w, p, r.text);
        if (quote)
            p[0] = p[1 + r.text.n] = '"';
        return p + r.text.n + 2 * quote;
    case FOUND_WHOLE:
        return s->text.n ? put_raw(w, p, s->text.p, s->text.n) : p;
    case FOUND_CALL:
        break;
    }
    return put_called(w, p, s, c);
}

static inline __attribute__((always_inline)) char *run(struct writer *w, char *p,
                                                       const struct mz_format *f,
                                                       const struct mz_format_ctx *c,
                                                       enum text_rule rule)
{
    for (const struct step *s = f->steps, *end = s + f->n; s != end; s++)
        p = run_step(w, p, s, c, rule);
    return p;
}

/* The rule is known at each loop, so that none of its steps asks for it. */
static char *run_raw(struct writer *w, char *p, const struct mz_format *f,
                     const struct mz_format_ctx *c)
{
    return run(w, p, f, c, TEXT_RAW);
}

static char *run_log(struct writer *w, char *p, const struct mz_format *f,
                     const struct mz_format_ctx *c)
{
    return run(w, p, f, c, TEXT_LOG);
}

static char *run_json(struct writer *w, char *p, const struct mz_format *f,
                      const struct mz_format_ctx *c)
{
    return run(w, p, f, c, TEXT_JSON);
}

size_t format_write(const struct mz_format *f, const struct mz_format_ctx *c, enum text_rule rule,
                    char *mem, size_t room, struct mz_buf *overflow)
{
    struct writer w = { .buf = overflow,
                        .start = mem,
                        .end = room ? mem + room : mem,
                        .borrowed = true,
                        .omit_empty = f->omit_empty,
                        .rule = rule };
    char *p = rule == TEXT_LOG    ? run_log(&w, mem, f, c)
              : rule == TEXT_JSON ? run_json(&w, mem, f, c)
                                  : run_raw(&w, mem, f, c);
    if (MZ_LIKELY(w.borrowed))
        return (size_t)(p - mem);
    flush(&w, p);
    return 0;
}

void mz_format_append(const struct mz_format *f, const struct mz_format_ctx *c, struct mz_buf *out)
{
    (void)format_write(f, c, c->escape ? TEXT_LOG : TEXT_RAW, NULL, 0,
                       out); /* no room: all of it */
}
