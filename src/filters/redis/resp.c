/* A decoder of one state a byte, and the encoder (L5). */
#include "filters/redis/resp.h"

#include <ctype.h>
#include <string.h>

enum state {
    START,
    NUMBER,
    NUMBER_LF,
    LINE,
    LINE_LF,
    BULK,
    BULK_CR,
    BULK_LF,
    INLINE,
    INLINE_LF,
    DEAD
};

/* ---- decoding ---- */

static void value_begin(struct resp_decoder *d)
{
    if (!d->arena) {
        d->arena = mz_arena_create(MZ_MEM_STREAM);
        mz_buf_init(&d->text);
    }
    struct resp_value *v = mz_arena_new0(d->arena, struct resp_value);
    d->at = v;
    d->bytes += sizeof(*v); /* a byte or two may ask for one */
    d->negative = d->digits = false;
    d->number = 0;
    if (!d->depth) {
        d->root = v;
        return;
    }
    struct resp_value *a = d->stack[d->depth - 1].array;
    if (a->last)
        a->last->next = v;
    else
        a->first = v;
    a->last = v;
    a->n++;
}

/* Every array that ends with this value ends with it. True: the root did. */
static bool value_end(struct resp_decoder *d)
{
    d->state = START;
    while (d->depth && --d->stack[d->depth - 1].left == 0)
        d->depth--;
    return d->depth == 0;
}

static struct mz_str text_take(struct resp_decoder *d)
{
    size_t n = mz_buf_len(&d->text);
    char *p = mz_arena_alloc(d->arena, n + 1);
    (void)mz_buf_copyout(&d->text, 0, p, n);
    p[n] = '\0';
    mz_buf_drain(&d->text, n);
    return (struct mz_str){ p, n };
}

/* Words between white space; what stands between double quotes is one. */
static void inline_words(struct resp_decoder *d)
{
    struct mz_str s = text_take(d);
    struct resp_value *root = d->root;
    root->type = RESP_ARRAY;
    for (size_t i = 0; i < s.n;) {
        if (isspace((unsigned char)s.p[i])) {
            i++;
            continue;
        }
        char *word = mz_arena_alloc(d->arena, s.n - i + 1);
        size_t n = 0;
        for (bool quoted = false; i < s.n && (quoted || !isspace((unsigned char)s.p[i])); i++)
            if (s.p[i] == '"')
                quoted = !quoted;
            else
                word[n++] = s.p[i];
        struct resp_value *v = mz_arena_new0(d->arena, struct resp_value);
        v->type = RESP_BULK;
        v->text = (struct mz_str){ word, n };
        if (root->last)
            root->last->next = v;
        else
            root->first = v;
        root->last = v;
        root->n++;
    }
}

static bool start(struct resp_decoder *d, char c)
{
    static const struct {
        char c;
        enum resp_type type;
        enum state next;
    } kinds[] = { { '*', RESP_ARRAY, NUMBER },
                  { '$', RESP_BULK, NUMBER },
                  { ':', RESP_INTEGER, NUMBER },
                  { '+', RESP_SIMPLE, LINE },
                  { '-', RESP_ERROR, LINE } };
    value_begin(d);
    for (size_t i = 0; i < MZ_COUNT(kinds); i++)
        if (kinds[i].c == c) {
            d->at->type = kinds[i].type;
            d->state = kinds[i].next;
            return true;
        }
    if (!d->commands || d->depth || !(isalnum((unsigned char)c) || isspace((unsigned char)c)))
        return false;
    d->state = c == '\r' ? INLINE_LF : INLINE;
    if (c != '\r')
        mz_buf_append(&d->text, &c, 1);
    return true;
}

static bool digit(struct resp_decoder *d, char c)
{
    if (c == '\r') {
        d->state = NUMBER_LF;
        return d->digits;
    }
    if (c == '-' && !d->digits && !d->negative) {
        d->negative = true;
        return true;
    }
    unsigned v = (unsigned)(c - '0');
    if (v > 9 || d->number > (UINT64_MAX - v) / 10)
        return false;
    d->number = d->number * 10 + v;
    d->digits = true;
    return true;
}

/* The number of an array, a string or an integer is whole. False: none that there may be. */
static bool number_end(struct resp_decoder *d, bool *out_end)
{
    struct resp_value *v = d->at;
    *out_end = false;
    if (v->type == RESP_INTEGER) {
        if (d->number > (uint64_t)INT64_MAX + d->negative)
            return false;
        v->integer = d->negative ? (int64_t)(0 - d->number) : (int64_t)d->number;
        *out_end = value_end(d);
        return true;
    }
    if (d->negative) { /* -1: there is none */
        v->type = RESP_NULL;
        *out_end = value_end(d);
        return d->number == 1;
    }
    if (v->type == RESP_BULK) {
        d->state = d->number ? BULK : BULK_CR;
        return d->number <= RESP_BULK_MAX;
    }
    if (d->number == 0) {
        *out_end = value_end(d);
        return true;
    }
    if (d->number > RESP_ITEMS_MAX || d->depth == RESP_DEPTH)
        return false;
    d->stack[d->depth].array = v;
    d->stack[d->depth++].left = d->number;
    d->state = START;
    return true;
}

/* One byte in a state that looks at each. False: broken. */
static bool step(struct resp_decoder *d, char c, bool *out_end)
{
    switch ((enum state)d->state) {
    case START:
        return start(d, c);
    case NUMBER:
        return digit(d, c);
    case NUMBER_LF:
        return c == '\n' && number_end(d, out_end);
    case BULK_CR:
        d->state = BULK_LF;
        return c == '\r';
    case BULK_LF:
    case LINE_LF:
        d->at->text = text_take(d);
        *out_end = value_end(d);
        return c == '\n';
    case INLINE_LF:
        inline_words(d);
        *out_end = value_end(d);
        return c == '\n';
    default:
        return false;
    }
}

/* Bytes of a string or a line, as many as there are. */
static size_t take_text(struct resp_decoder *d, const char *p, size_t n)
{
    if (d->state == BULK) {
        size_t part = d->number < n ? (size_t)d->number : n;
        mz_buf_append(&d->text, p, part);
        d->number -= part;
        if (d->number == 0)
            d->state = BULK_CR;
        return part;
    }
    const char *cr = memchr(p, '\r', n);
    size_t part = cr ? (size_t)(cr - p) : n;
    if (mz_buf_len(&d->text) + part > RESP_LINE_MAX) {
        d->state = DEAD;
        return n;
    }
    mz_buf_append(&d->text, p, part);
    if (!cr)
        return part;
    d->state = d->state == LINE ? LINE_LF : INLINE_LF;
    return part + 1;
}

static enum resp_result decode_part(struct resp_decoder *d, const char *p, size_t n,
                                    size_t *out_used)
{
    bool end = false, ok = true;
    size_t at = 0;
    while (at < n && ok && !end) {
        if (d->state == BULK || d->state == LINE || d->state == INLINE)
            at += take_text(d, p + at, n - at);
        else
            ok = step(d, p[at++], &end);
        ok = ok && d->state != DEAD;
    }
    d->bytes += at;
    *out_used = at;
    if (!ok || d->bytes > (d->commands ? RESP_COMMAND_MAX : RESP_BULK_MAX) + RESP_LINE_MAX) {
        d->state = DEAD;
        return RESP_BROKEN;
    }
    return end ? RESP_VALUE : RESP_MORE;
}

enum resp_result resp_decode(struct resp_decoder *d, struct mz_buf *in, struct mz_arena **out_arena,
                             const struct resp_value **out)
{
    enum resp_result r = d->state == DEAD ? RESP_BROKEN : RESP_MORE;
    while (r == RESP_MORE && mz_buf_len(in)) {
        struct mz_str s = mz_buf_first(in);
        size_t used = 0;
        r = decode_part(d, s.p, s.n, &used);
        mz_buf_drain(in, used);
    }
    if (r == RESP_VALUE) {
        *out_arena = d->arena;
        *out = d->root;
        d->arena = NULL;
        d->root = d->at = NULL;
        d->bytes = 0;
        mz_buf_fini(&d->text);
    }
    return r;
}

void resp_fini(struct resp_decoder *d)
{
    if (!d->arena)
        return;
    mz_buf_fini(&d->text);
    mz_arena_destroy(d->arena);
    d->arena = NULL;
}

/* ---- encoding ---- */

static void number_line(struct mz_buf *out, char kind, int64_t n)
{
    char text[24];
    size_t at = 0;
    text[at++] = kind;
    if (n < 0)
        text[at++] = '-';
    char digits[20];
    size_t len = mz_u64_text(n < 0 ? 0 - (uint64_t)n : (uint64_t)n, digits);
    memcpy(text + at, digits, len);
    at += len;
    mz_buf_append(out, text, at);
    mz_buf_append(out, "\r\n", 2);
}

void resp_array(struct mz_buf *out, size_t n)
{
    number_line(out, '*', (int64_t)n);
}

void resp_integer(struct mz_buf *out, int64_t n)
{
    number_line(out, ':', n);
}

void resp_bulk(struct mz_buf *out, struct mz_str s)
{
    number_line(out, '$', (int64_t)s.n);
    mz_buf_append(out, s.p, s.n);
    mz_buf_append(out, "\r\n", 2);
}

static void line(struct mz_buf *out, char kind, struct mz_str s)
{
    mz_buf_append(out, &kind, 1);
    for (size_t i = 0; i < s.n;) {
        size_t n = i;
        while (n < s.n && s.p[n] != '\r' && s.p[n] != '\n')
            n++;
        mz_buf_append(out, s.p + i, n - i);
        if (n < s.n)
            mz_buf_append(out, " ", 1);
        i = n + 1;
    }
    mz_buf_append(out, "\r\n", 2);
}

void resp_simple(struct mz_buf *out, struct mz_str s)
{
    line(out, '+', s);
}

void resp_error(struct mz_buf *out, struct mz_str s)
{
    line(out, '-', s);
}

static void encode_one(struct mz_buf *out, const struct resp_value *v)
{
    switch (v->type) {
    case RESP_NULL:
        mz_buf_append(out, "$-1\r\n", 5);
        break;
    case RESP_SIMPLE:
        resp_simple(out, v->text);
        break;
    case RESP_ERROR:
        resp_error(out, v->text);
        break;
    case RESP_INTEGER:
        resp_integer(out, v->integer);
        break;
    case RESP_BULK:
        resp_bulk(out, v->text);
        break;
    case RESP_ARRAY:
        resp_array(out, v->n);
        break;
    }
}

void resp_encode(struct mz_buf *out, const struct resp_value *v)
{
    encode_one(out, v);
    for (const struct resp_value *i = v->type == RESP_ARRAY ? v->first : NULL; i; i = i->next)
        resp_encode(out, i); /* as deep as the decoder lets them be */
}
