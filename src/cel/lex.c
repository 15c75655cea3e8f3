#include "cel/lex.h"

#include "base/vec.h"
#include <stdlib.h>

static bool is_digit(char c)
{
    return c >= '0' && c <= '9';
}

static bool is_word(char c)
{
    return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_';
}

static int hex_value(char c)
{
    return is_digit(c)            ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

static char peek(const struct lexer *l, size_t ahead)
{
    return l->at + ahead < l->text.n ? l->text.p[l->at + ahead] : '\0';
}

static void bad(struct lexer *l, struct token *out, const char *what)
{
    out->kind = TOKEN_BAD;
    (void)mz_err_set(l->err, "%s at position %zu", what, out->at + 1);
}

static void skip_blanks(struct lexer *l)
{
    while (l->at < l->text.n) {
        char c = l->text.p[l->at];
        if (c == ' ' || (c >= '\t' && c <= '\r')) {
            l->at++;
        } else if (c == '/' && peek(l, 1) == '/') {
            while (l->at < l->text.n && l->text.p[l->at] != '\n')
                l->at++;
        } else {
            return;
        }
    }
}

/* ---- numbers ---- */

static bool hex_number(struct lexer *l, uint64_t *out)
{
    uint64_t u = 0;
    unsigned n = 0;
    for (int d; (d = hex_value(peek(l, 0))) >= 0; l->at++, n++)
        u = u << 4 | (uint64_t)d;
    *out = u;
    return n > 0 && n <= 16;
}

static void integer(struct lexer *l, struct token *out, uint64_t u, bool fits)
{
    bool is_unsigned = peek(l, 0) == 'u' || peek(l, 0) == 'U';
    l->at += is_unsigned;
    if (!fits || (!is_unsigned && u > (uint64_t)INT64_MAX + 1)) {
        bad(l, out, "number out of range");
        return;
    }
    out->minimum = !is_unsigned && u == (uint64_t)INT64_MAX + 1;
    out->value = is_unsigned ? mz_cel_uint(u) : mz_cel_int((int64_t)u);
}

static void fraction(struct lexer *l, struct token *out, size_t end)
{
    char digits[64]; /* strtod wants a NUL; no decimal comma: the process has the C locale */
    size_t n = end - l->at;
    if (n >= sizeof(digits)) {
        bad(l, out, "number is too long");
        return;
    }
    memcpy(digits, l->text.p + l->at, n);
    digits[n] = '\0';
    l->at = end;
    out->value = mz_cel_double(strtod(digits, NULL));
}

static void number(struct lexer *l, struct token *out)
{
    out->kind = TOKEN_VALUE;
    if (peek(l, 0) == '0' && (peek(l, 1) == 'x' || peek(l, 1) == 'X')) {
        uint64_t u;
        l->at += 2;
        bool fits = hex_number(l, &u);
        integer(l, out, u, fits);
        return;
    }
    size_t i = l->at;
    while (i < l->text.n && is_digit(l->text.p[i]))
        i++;
    size_t whole = i;
    if (i + 1 < l->text.n && l->text.p[i] == '.' && is_digit(l->text.p[i + 1]))
        for (i++; i < l->text.n && is_digit(l->text.p[i]);)
            i++;
    size_t e = i;
    if (e < l->text.n && (l->text.p[e] == 'e' || l->text.p[e] == 'E')) {
        e++;
        e += e < l->text.n && (l->text.p[e] == '+' || l->text.p[e] == '-');
        size_t first = e;
        while (e < l->text.n && is_digit(l->text.p[e]))
            e++;
        i = e > first ? e : i;
    }
    if (i > whole) {
        fraction(l, out, i);
        return;
    }
    uint64_t u = 0;
    bool fits = mz_str_u64((struct mz_str){ l->text.p + l->at, whole - l->at }, &u);
    l->at = whole;
    integer(l, out, u, fits);
}

/* ---- strings ---- */

typedef MZ_VEC(char) chars;

static void put_utf8(chars *v, uint32_t c)
{
    char b[4];
    unsigned n = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
    static const unsigned char first[] = { 0, 0, 0xc0, 0xe0, 0xf0 };
    for (unsigned i = n; i-- > 1; c >>= 6)
        b[i] = (char)(0x80 | (c & 0x3f));
    b[0] = (char)(first[n] | c);
    for (unsigned i = 0; i < n; i++)
        *mz_vec_push(v, MZ_MEM_MISC) = b[i];
}

static bool code_digits(struct lexer *l, unsigned n, unsigned base, uint32_t *out)
{
    uint32_t c = 0;
    for (unsigned i = 0; i < n; i++, l->at++) {
        int d = hex_value(peek(l, 0));
        if (d < 0 || (unsigned)d >= base)
            return false;
        c = c * base + (uint32_t)d;
    }
    *out = c;
    return true;
}

/* Behind a backslash. @bytes: numbers are bytes, not characters. */
static bool escape(struct lexer *l, bool bytes, chars *v)
{
    static const char from[] = "abfnrtv\\?\"'`", to[] = "\a\b\f\n\r\t\v\\?\"'`";
    char c = peek(l, 0);
    const char *simple = c ? strchr(from, c) : NULL;
    if (simple) {
        l->at++;
        *mz_vec_push(v, MZ_MEM_MISC) = to[simple - from];
        return true;
    }
    uint32_t code;
    bool octal = c >= '0' && c <= '3';
    unsigned digits = octal ? 3 : c == 'x' || c == 'X' ? 2 : c == 'u' ? 4 : c == 'U' ? 8 : 0;
    l->at += !octal;
    if (!digits || (bytes && digits > 3) || !code_digits(l, digits, octal ? 8 : 16, &code) ||
        (code >= 0xd800 && code < 0xe000) || code > 0x10ffff)
        return false;
    if (bytes)
        *mz_vec_push(v, MZ_MEM_MISC) = (char)code;
    else
        put_utf8(v, code);
    return true;
}

static bool string_body(struct lexer *l, struct mz_str quote, bool raw, bool bytes, chars *v)
{
    while (l->at < l->text.n) {
        if (mz_str_starts(mz_str_skip(l->text, l->at), quote)) {
            l->at += quote.n;
            return true;
        }
        char c = l->text.p[l->at++];
        if (c == '\\' && !raw) {
            if (!escape(l, bytes, v))
                return false;
        } else if ((c == '\n' || c == '\r') && quote.n == 1) {
            return false;
        } else {
            *mz_vec_push(v, MZ_MEM_MISC) = c;
        }
    }
    return false;
}

static void string(struct lexer *l, struct token *out, bool raw, bool bytes)
{
    struct mz_str rest = mz_str_skip(l->text, l->at);
    bool three = rest.n >= 3 && rest.p[1] == rest.p[0] && rest.p[2] == rest.p[0];
    struct mz_str quote = { rest.p, three ? 3 : 1 };
    chars v = { 0 };
    l->at += quote.n;
    if (string_body(l, quote, raw, bytes, &v)) {
        out->kind = TOKEN_VALUE;
        out->value = mz_cel_string(mz_arena_dup(l->arena, (struct mz_str){ v.v, v.n }));
        out->value.kind = bytes ? MZ_CEL_BYTES : MZ_CEL_STRING;
    } else {
        bad(l, out, "string without end, or with an unknown escape,");
    }
    mz_vec_free(&v, MZ_MEM_MISC);
}

/* r"..", b'..', br".." and so on: how long is what stands before the quote? 0: it is no string. */
static size_t string_prefix(const struct lexer *l, bool *out_raw, bool *out_bytes)
{
    *out_raw = *out_bytes = false;
    for (size_t i = 0; i < 3; i++) {
        char c = peek(l, i);
        if (c == '"' || c == '\'')
            return i + 1;
        bool r = (c == 'r' || c == 'R') && !*out_raw, b = (c == 'b' || c == 'B') && !*out_bytes;
        if (!r && !b)
            return 0;
        *out_raw |= r;
        *out_bytes |= b;
    }
    return 0;
}

/* ---- all tokens ---- */

static void sign(struct lexer *l, struct token *out)
{
    static const char *const two[] = { "&&", "||", "==", "!=", "<=", ">=" };
    struct mz_str rest = mz_str_skip(l->text, l->at);
    out->kind = TOKEN_SIGN;
    out->text = (struct mz_str){ rest.p, 1 };
    for (size_t i = 0; i < MZ_COUNT(two); i++)
        if (mz_str_starts(rest, mz_str_c(two[i])))
            out->text.n = 2;
    l->at += out->text.n;
    if (out->text.n == 1 && mz_str_chr(MZ_STR("()[]{},.?:+-*/%!<>"), out->text.p[0]) < 0)
        bad(l, out, "unexpected character");
}

void lex_next(struct lexer *l, struct token *out)
{
    skip_blanks(l);
    *out = (struct token){ .at = l->at };
    if (l->at >= l->text.n)
        return;
    bool raw, bytes;
    char c = peek(l, 0);
    size_t prefix = string_prefix(l, &raw, &bytes);
    if (prefix) {
        l->at += prefix - 1;
        string(l, out, raw, bytes);
    } else if (is_digit(c) || (c == '.' && is_digit(peek(l, 1)))) {
        number(l, out);
    } else if (is_word(c)) {
        while (l->at < l->text.n && is_word(l->text.p[l->at]))
            l->at++;
        out->kind = TOKEN_IDENT;
        out->text = (struct mz_str){ l->text.p + out->at, l->at - out->at };
    } else {
        sign(l, out);
    }
}
