/* JSON (RFC 8259, strictly) to a tree. */
#include "base/vec.h"
#include "proto/tree.h"

struct reader {
    const char *p, *end;
    const char *row;  /* start of the line that position() saw last */
    const char *seen; /* up to here lines are counted */
    uint32_t line;
    struct mz_arena *arena;
    unsigned depth;
    struct mz_err *err;
};

/* Of r->p, which only moves forward: every byte is looked at once, also of a document that is one long line (H02). */
static void position(struct reader *r, uint32_t *out_line, uint32_t *out_col)
{
    for (const char *nl;
         r->seen < r->p && (nl = memchr(r->seen, '\n', (size_t)(r->p - r->seen))) != NULL;
         r->seen = r->row = nl + 1)
        r->line++;
    r->seen = r->p;
    *out_line = r->line;
    *out_col = (uint32_t)(r->p - r->row) + 1;
}

static void *fail(struct reader *r, const char *what)
{
    uint32_t line, col;
    position(r, &line, &col);
    mz_err_set(r->err, "not JSON: %s (line %u, column %u)", what, line, col);
    return NULL;
}

static void skip_space(struct reader *r)
{
    while (r->p < r->end && (*r->p == ' ' || *r->p == '\t' || *r->p == '\n' || *r->p == '\r'))
        r->p++;
}

static bool take(struct reader *r, char c)
{
    if (r->p == r->end || *r->p != c)
        return false;
    r->p++;
    return true;
}

static int hex4(const char *p)
{
    int v = 0;
    for (int i = 0; i < 4; i++) {
        char c = mz_lower(p[i]);
        int d = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (d < 0)
            return -1;
        v = v * 16 + d;
    }
    return v;
}

static size_t utf8_put(char *out, uint32_t c)
{
    if (c < 0x80) {
        out[0] = (char)c;
        return 1;
    }
    size_t n = c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    for (size_t i = n - 1; i; i--, c >>= 6)
        out[i] = (char)(0x80 | (c & 0x3f));
    out[0] = (char)((0xf00 >> n) | c);
    return n;
}

/* Behind `\u`: one code point, from two escapes where the first is a high surrogate. */
static bool read_unicode(struct reader *r, char **out)
{
    int hi = r->end - r->p < 4 ? -1 : hex4(r->p);
    if (hi < 0)
        return fail(r, "\\u needs four hexadecimal digits") != NULL;
    r->p += 4;
    uint32_t c = (uint32_t)hi;
    if (hi >= 0xd800 && hi < 0xdc00 && r->end - r->p >= 6 && r->p[0] == '\\' && r->p[1] == 'u') {
        int lo = hex4(r->p + 2);
        if (lo >= 0xdc00 && lo < 0xe000) {
            c = 0x10000 + ((uint32_t)(hi - 0xd800) << 10) + (uint32_t)(lo - 0xdc00);
            r->p += 6;
        }
    }
    if (c >= 0xd800 && c < 0xe000)
        return fail(r, "half of a surrogate pair") != NULL;
    *out += utf8_put(*out, c);
    return true;
}

static bool read_escape(struct reader *r, char **out)
{
    static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
    if (r->p == r->end)
        return fail(r, "text ends within a string") != NULL;
    char c = *r->p++;
    if (c == 'u')
        return read_unicode(r, out);
    const char *at = c ? strchr(from, c) : NULL;
    if (!at)
        return fail(r, "unknown escape") != NULL;
    *(*out)++ = to[at - from];
    return true;
}

/* Behind the opening quote; unescaped text is never longer than escaped. */
static bool read_string(struct reader *r, struct mz_str *out)
{
    const char *close = r->p;
    while (close < r->end && *close != '"')
        close += *close == '\\' && close + 1 < r->end ? 2 : 1;
    char *mem = mz_arena_alloc(r->arena, (size_t)(close - r->p) + 1), *w = mem;
    while (!take(r, '"')) {
        if (r->p == r->end)
            return fail(r, "text ends within a string") != NULL;
        if ((unsigned char)*r->p < 0x20)
            return fail(r, "control character in a string") != NULL;
        if (*r->p != '\\')
            *w++ = *r->p++;
        else if (r->p++, !read_escape(r, &w))
            return false;
    }
    *w = 0;
    *out = (struct mz_str){ mem, (size_t)(w - mem) };
    return true;
}

static size_t digits(struct reader *r)
{
    const char *from = r->p;
    while (r->p < r->end && *r->p >= '0' && *r->p <= '9')
        r->p++;
    return (size_t)(r->p - from);
}

static bool read_number(struct reader *r, struct mz_node *n)
{
    const char *from = r->p;
    (void)take(r, '-');
    const char *lead = r->p;
    size_t count = digits(r);
    bool ok = count && (count == 1 || *lead != '0');
    if (ok && take(r, '.'))
        ok = digits(r) != 0;
    if (ok && (take(r, 'e') || take(r, 'E'))) {
        (void)(take(r, '+') || take(r, '-'));
        ok = digits(r) != 0;
    }
    if (!ok)
        return fail(r, "expected a value") != NULL;
    n->kind = MZ_NODE_NUM;
    n->text = mz_arena_dup(r->arena, (struct mz_str){ from, (size_t)(r->p - from) });
    return true;
}

static bool read_word(struct reader *r, struct mz_node *n)
{
    static const struct {
        struct mz_str word;
        enum mz_node_kind kind;
        bool b;
    } words[] = { { MZ_STR_INIT("null"), MZ_NODE_NULL, false },
                  { MZ_STR_INIT("true"), MZ_NODE_BOOL, true },
                  { MZ_STR_INIT("false"), MZ_NODE_BOOL, false } };
    for (size_t i = 0; i < MZ_COUNT(words); i++) {
        if (!mz_str_starts((struct mz_str){ r->p, (size_t)(r->end - r->p) }, words[i].word))
            continue;
        r->p += words[i].word.n;
        n->kind = words[i].kind;
        n->b = words[i].b;
        return true;
    }
    return read_number(r, n);
}

static const struct mz_node *read_value(struct reader *r);

static bool read_list(struct reader *r, struct mz_node *n)
{
    MZ_VEC(const struct mz_node *) items = { 0 };
    bool ok = true;
    skip_space(r);
    if (!take(r, ']')) {
        do {
            const struct mz_node *item = read_value(r);
            if (!item)
                ok = false;
            else
                *mz_vec_push(&items, MZ_MEM_CONFIG) = item;
            skip_space(r);
        } while (ok && take(r, ','));
        ok = ok && (take(r, ']') || fail(r, "expected ',' or ']'"));
    }
    n->kind = MZ_NODE_LIST;
    n->n = (uint32_t)items.n;
    n->list = mz_arena_alloc(r->arena, (items.n + 1) * sizeof(struct mz_node *));
    if (items.n)
        memcpy(n->list, items.v, items.n * sizeof(struct mz_node *));
    mz_vec_free(&items, MZ_MEM_CONFIG);
    return ok;
}

static bool read_pair(struct reader *r, struct mz_pair *out)
{
    skip_space(r);
    position(r, &out->line, &out->col);
    if (!take(r, '"'))
        return fail(r, "expected a key in quotes") != NULL;
    if (!read_string(r, &out->key))
        return false;
    skip_space(r);
    if (!take(r, ':'))
        return fail(r, "expected ':'") != NULL;
    out->value = read_value(r);
    return out->value != NULL;
}

static bool read_map(struct reader *r, struct mz_node *n)
{
    MZ_VEC(struct mz_pair) pairs = { 0 };
    bool ok = true;
    skip_space(r);
    if (!take(r, '}')) {
        do {
            struct mz_pair pair = { 0 };
            ok = read_pair(r, &pair);
            *mz_vec_push(&pairs, MZ_MEM_CONFIG) = pair;
            skip_space(r);
        } while (ok && take(r, ','));
        ok = ok && (take(r, '}') || fail(r, "expected ',' or '}'")) &&
             mz_tree_check_pairs(pairs.v, pairs.n, r->err);
    }
    n->kind = MZ_NODE_MAP;
    n->n = (uint32_t)pairs.n;
    n->pairs = mz_arena_alloc(r->arena, (pairs.n + 1) * sizeof(*pairs.v));
    if (pairs.n)
        memcpy(n->pairs, pairs.v, pairs.n * sizeof(*pairs.v));
    mz_vec_free(&pairs, MZ_MEM_CONFIG);
    return ok;
}

static const struct mz_node *read_value(struct reader *r)
{
    skip_space(r);
    struct mz_node *n = mz_arena_new0(r->arena, struct mz_node);
    position(r, &n->line, &n->col);
    bool ok;
    if (r->depth == MZ_TREE_MAX_DEPTH)
        return fail(r, "nested too deeply");
    r->depth++;
    if (take(r, '"')) {
        n->kind = MZ_NODE_STR;
        ok = read_string(r, &n->text);
    } else if (take(r, '{')) {
        ok = read_map(r, n);
    } else if (take(r, '[')) {
        ok = read_list(r, n);
    } else {
        ok = read_word(r, n);
    }
    r->depth--;
    return ok ? n : NULL;
}

const struct mz_node *mz_tree_read_json(struct mz_arena *a, struct mz_str text, struct mz_err *err)
{
    const char *p = text.n ? text.p : "";
    struct reader r = {
        .p = p, .row = p, .seen = p, .line = 1, .end = p + text.n, .arena = a, .err = err
    };
    if (!mz_utf8_valid(text))
        return fail(&r, "the text is not UTF-8");
    const struct mz_node *root = read_value(&r);
    skip_space(&r);
    if (root && r.p != r.end)
        return fail(&r, "something follows the end of the document");
    return root;
}
