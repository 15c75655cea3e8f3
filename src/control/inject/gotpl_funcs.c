/* What templates can call: Go's own functions, Istio's, and those of sprig that injection templates are written with. */
#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"
#include "control/inject/gotpl_priv.h"
#include "control/inject/inject_priv.h"
#include "proto/show.h"

static json_t *fail(struct tpl_run *r, const char *what, json_t *at)
{
    const struct mz_str s = tpl_print(r, at);
    (void)mz_err_set(r->err, "line %u: %s \"%.*s\"", r->line, what, (int)(s.n > 60 ? 60 : s.n),
                     s.p);
    return NULL;
}

static json_t *text(struct tpl_run *r, struct mz_str s)
{
    if (!tpl_spend(r, 64 + s.n))
        return NULL;
    json_t *v = json_stringn(s.n ? s.p : "", s.n);
    if (!v)
        (void)mz_err_set(r->err, "line %u: a text is not UTF-8", r->line);
    return tpl_keep(r, v);
}

/* Frees it. NULL: it is too much. */
static json_t *text_of(struct tpl_run *r, struct mz_buf *b)
{
    json_t *out = NULL;
    if (mz_buf_len(b) > TPL_MAX_OUT)
        (void)mz_err_set(r->err, "line %u: makes more than %d MiB of text", r->line,
                         TPL_MAX_OUT >> 20);
    else
        out = text(r, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return out;
}

static void put(struct mz_buf *b, struct mz_str s)
{
    if (mz_buf_len(b) <= TPL_MAX_OUT)
        mz_buf_append(b, s.p, s.n);
}

static int put_dump(const char *p, size_t n, void *arg)
{
    put(arg, (struct mz_str){ p, n });
    return mz_buf_len(arg) > TPL_MAX_OUT ? -1 : 0;
}

/* What shares its parts may be longer than all that was made for it. */
static void dump(struct mz_buf *b, const json_t *v, size_t flags)
{
    (void)json_dump_callback(v, put_dump, b,
                             flags | JSON_ENCODE_ANY); /* what is left out is seen */
}

static json_t *boolean(bool b)
{
    return json_boolean(b); /* never freed */
}

static bool is_number(const json_t *v)
{
    return json_is_number(v);
}

/* The number of a text or a number; what is not set is 0. */
static bool integer(struct tpl_run *r, json_t *v, json_int_t *out)
{
    char *end;
    if (json_is_integer(v)) {
        *out = json_integer_value(v);
        return true;
    }
    if (json_is_real(v)) {
        const double d = json_real_value(v);
        if (!(d >= -0x1p63 && d < 0x1p63))
            return fail(r, "is too large:", v) != NULL;
        *out = (json_int_t)d;
        return true;
    }
    const struct mz_str s = tpl_print(r, v);
    *out = s.n ? (json_int_t)strtoll(s.p, &end, 10) : 0;
    if (!s.n || !*end)
        return true;
    (void)fail(r, "is no number:", v);
    return false;
}

/* ---- comparing ---- */

/* What is not set is as the zero of whatever it is compared with. False: they cannot be compared. */
static bool compare(json_t *a, json_t *b, int *out)
{
    if (json_is_null(a) || json_is_null(b)) {
        *out = tpl_is_true(a) - tpl_is_true(b);
        return true;
    }
    if (json_is_string(a) && json_is_string(b)) {
        *out = strcmp(json_string_value(a), json_string_value(b));
        return true;
    }
    if (is_number(a) && is_number(b)) {
        const double x = json_number_value(a), y = json_number_value(b);
        *out = (x > y) - (x < y);
        return true;
    }
    if (json_is_boolean(a) && json_is_boolean(b)) {
        *out = json_is_true(a) - json_is_true(b);
        return true;
    }
    return false;
}

static json_t *fn_eq(struct tpl_run *r, json_t *const *v, size_t n)
{
    int c;
    if (!tpl_spend(r, json_string_length(v[0])))
        return NULL;
    for (size_t i = 1; i < n; i++) {
        if (!compare(v[0], v[i], &c))
            return fail(r, "cannot be compared with what it stands beside:", v[i]);
        if (c == 0)
            return boolean(true);
    }
    return boolean(false);
}

static json_t *order(struct tpl_run *r, json_t *const *v, int low, int high)
{
    int c;
    if (!tpl_spend(r, json_string_length(v[0])))
        return NULL;
    if (json_is_boolean(v[0]) || !compare(v[0], v[1], &c))
        return fail(r, "cannot be compared with what it stands beside:", v[1]);
    c = (c > 0) - (c < 0);
    return boolean(c >= low && c <= high);
}

#define FN(name) static json_t *name(struct tpl_run *r, json_t *const *v, size_t n)
#define UNUSED   ((void)r, (void)v, (void)n)

FN(fn_ne)
{
    json_t *e = fn_eq(r, v, n);
    return e ? boolean(!json_is_true(e)) : NULL;
}

FN(fn_lt)
{
    UNUSED;
    return order(r, v, -1, -1);
}

FN(fn_le)
{
    UNUSED;
    return order(r, v, -1, 0);
}

FN(fn_gt)
{
    UNUSED;
    return order(r, v, 1, 1);
}

FN(fn_ge)
{
    UNUSED;
    return order(r, v, 0, 1);
}

FN(fn_not)
{
    UNUSED;
    return boolean(!tpl_is_true(v[0]));
}

FN(fn_never)
{
    UNUSED;
    return fail(r, "has no arguments:", v ? v[0] : json_null()); /* and, or: gotpl_eval.c */
}

/* ---- of Go ---- */

FN(fn_len)
{
    UNUSED;
    const size_t len = json_is_array(v[0])    ? json_array_size(v[0])
                       : json_is_object(v[0]) ? json_object_size(v[0])
                                              : json_string_length(v[0]);
    return tpl_keep(r, json_integer((json_int_t)len));
}

FN(fn_index)
{
    json_t *at = v[0];
    for (size_t i = 1; i < n; i++) {
        json_int_t k = 0;
        if (json_is_array(at)) {
            if (!integer(r, v[i], &k))
                return NULL;
            if (k < 0 || (size_t)k >= json_array_size(at))
                return fail(r, "the list has no element", v[i]);
            at = json_array_get(at, (size_t)k);
        } else if (json_is_object(at)) {
            const struct mz_str key = tpl_print(r, v[i]);
            json_t *found = json_object_getn(at, key.p, key.n);
            at = found ? found : json_null();
        } else if (!json_is_null(at)) {
            return fail(r, "has no elements:", at);
        }
    }
    return at;
}

/* One value by one verb: %s %v %d %t %q %x %f %%, with flags and width. False: unknown. */
static bool format_one(struct tpl_run *r, struct mz_buf *b, struct mz_str spec, json_t *v)
{
    char form[40], out[512];
    const char verb = spec.p[spec.n - 1];
    json_int_t i;
    if (spec.n > 16)
        return false;
    if (verb == 'q') {
        dump(b, v, JSON_COMPACT | JSON_ENSURE_ASCII);
        return true;
    }
    if (verb == 's' || verb == 'v' || verb == 't') {
        const struct mz_str s = tpl_print(r, v);
        (void)snprintf(form, sizeof(form), "%.*ss", (int)spec.n - 1, spec.p);
        if (!tpl_spend(r, s.n + 1024))
            return false;
        char *room = mz_arena_alloc(r->arena, s.n + 1024);
        for (size_t k = 1; k < spec.n - 1; k++)
            if (!strchr("-0123456789.", spec.p[k]))
                return false;
        if (spec.n == 2) {
            mz_buf_append(b, s.p, s.n);
            return true;
        }
        unsigned width = 0;
        if (sscanf(form, "%%%*[-]%u", &width) != 1)
            (void)sscanf(form, "%%%u", &width);
        if (width > 1000)
            return false;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* checked above */
        const int len = snprintf(room, s.n + 1024, form, s.p);
#pragma GCC diagnostic pop
        mz_buf_append(b, room, len > 0 ? (size_t)len : 0);
        return len >= 0;
    }
    if (verb != 'd' && verb != 'x' && verb != 'f')
        return false;
    unsigned width = 0;
    for (size_t k = 1; k < spec.n - 1; k++)
        if (!strchr("+-0 123456789.", spec.p[k]))
            return false;
        else if (spec.p[k] >= '0' && spec.p[k] <= '9')
            width = width * 10 + (unsigned)(spec.p[k] - '0');
    if (width > 200 || (verb != 'f' && !integer(r, v, &i)))
        return false;
    (void)snprintf(form, sizeof(form), "%.*s%s%c", (int)spec.n - 1, spec.p, verb == 'f' ? "" : "ll",
                   verb);
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral" /* checked above */
    const int len = verb == 'f' ? snprintf(out, sizeof(out), form, json_number_value(v))
                                : snprintf(out, sizeof(out), form, (long long)i);
#pragma GCC diagnostic pop
    mz_buf_append(b, out, len > 0 && (size_t)len < sizeof(out) ? (size_t)len : 0);
    return len >= 0;
}

FN(fn_printf)
{
    const struct mz_str f = tpl_print(r, v[0]);
    struct mz_buf b;
    size_t arg = 1;
    bool ok = true;
    mz_buf_init(&b);
    for (size_t i = 0; ok && i < f.n; i++) {
        if (f.p[i] != '%') {
            mz_buf_append(&b, f.p + i, 1);
            continue;
        }
        size_t end = i + 1;
        while (end < f.n && strchr("+-0 123456789.", f.p[end]))
            end++;
        if (end < f.n && f.p[end] == '%')
            mz_buf_append(&b, "%", 1);
        else
            ok = end < f.n && arg < n &&
                 format_one(r, &b, (struct mz_str){ f.p + i, end - i + 1 }, v[arg++]);
        i = end;
    }
    if (ok)
        return text_of(r, &b);
    mz_buf_fini(&b);
    return r->work > TPL_MAX_WORK ? json_null()
                                  : fail(r, "cannot be formatted (a width is 200 at most):", v[0]);
}

static json_t *print_all(struct tpl_run *r, json_t *const *v, size_t n, const char *end,
                         bool always)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (i && (always || (!json_is_string(v[i]) && !json_is_string(v[i - 1]))))
            put(&b, MZ_STR(" "));
        put(&b, tpl_print(r, v[i]));
    }
    put(&b, mz_str_c(end));
    return text_of(r, &b);
}

FN(fn_print)
{
    return print_all(r, v, n, "", false);
}

FN(fn_println)
{
    return print_all(r, v, n, "\n", true);
}

/* ---- texts ---- */

FN(fn_default)
{
    UNUSED;
    return n > 1 && tpl_is_true(v[1]) ? v[1] : v[0];
}

FN(fn_value_or_default)
{
    UNUSED;
    return json_is_null(v[0]) || (json_is_string(v[0]) && !json_string_length(v[0])) ? v[1] : v[0];
}

FN(fn_empty)
{
    UNUSED;
    return boolean(!tpl_is_true(v[0]));
}

FN(fn_coalesce)
{
    UNUSED;
    for (size_t i = 0; i < n; i++)
        if (tpl_is_true(v[i]))
            return v[i];
    return json_null();
}

FN(fn_ternary)
{
    UNUSED;
    return tpl_is_true(v[2]) ? v[0] : v[1];
}

/* As %q: what is not set is left out. */
FN(fn_quote)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (json_is_null(v[i]))
            continue;
        json_t *one = json_string(tpl_print(r, v[i]).p);
        put(&b, mz_buf_len(&b) ? MZ_STR(" ") : MZ_STR(""));
        if (one)
            dump(&b, one, 0);
        json_decref(one);
    }
    return text_of(r, &b);
}

FN(fn_squote)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (json_is_null(v[i]))
            continue;
        put(&b, mz_buf_len(&b) ? MZ_STR(" '") : MZ_STR("'"));
        put(&b, tpl_print(r, v[i]));
        put(&b, MZ_STR("'"));
    }
    return text_of(r, &b);
}

/* @first: the first line, too. */
static json_t *indented(struct tpl_run *r, json_t *const *v, bool first, const char *front)
{
    json_int_t width;
    struct mz_str s = tpl_print(r, v[1]);
    if (!integer(r, v[0], &width))
        return NULL;
    if (width < 0 || width > 1000)
        return fail(r, "is no indentation of 0 to 1000:", v[0]);
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_append(&b, front, strlen(front));
    char blanks[1001];
    memset(blanks, ' ', sizeof(blanks));
    if (first)
        mz_buf_append(&b, blanks, (size_t)width);
    for (size_t i = 0; i < s.n && mz_buf_len(&b) <= TPL_MAX_OUT; i++) {
        mz_buf_append(&b, s.p + i, 1);
        if (s.p[i] == '\n')
            mz_buf_append(&b, blanks, (size_t)width);
    }
    return text_of(r, &b);
}

FN(fn_indent) /* Istio's: the first line stands where it is written */
{
    UNUSED;
    return indented(r, v, false, "");
}

FN(fn_nindent)
{
    UNUSED;
    return indented(r, v, true, "\n");
}

static struct mz_str trim_set(struct mz_str s, struct mz_str set)
{
    bool is_in[256] = { false };
    for (size_t i = 0; i < set.n; i++)
        is_in[(unsigned char)set.p[i]] = true;
    while (s.n && is_in[(unsigned char)s.p[0]])
        s = mz_str_skip(s, 1);
    while (s.n && is_in[(unsigned char)s.p[s.n - 1]])
        s.n--;
    return s;
}

FN(fn_trim)
{
    UNUSED;
    return text(r, trim_set(tpl_print(r, v[0]), MZ_STR(" \t\r\n\v\f")));
}

FN(fn_trim_all)
{
    UNUSED;
    return text(r, trim_set(tpl_print(r, v[1]), tpl_print(r, v[0])));
}

FN(fn_trim_prefix)
{
    UNUSED;
    const struct mz_str s = tpl_print(r, v[1]), p = tpl_print(r, v[0]);
    return text(r, mz_str_starts(s, p) ? mz_str_skip(s, p.n) : s);
}

FN(fn_trim_suffix)
{
    UNUSED;
    struct mz_str s = tpl_print(r, v[1]);
    const struct mz_str p = tpl_print(r, v[0]);
    s.n -= mz_str_ends(s, p) ? p.n : 0;
    return text(r, s);
}

/* In characters; from the end where it is below 0. */
FN(fn_trunc)
{
    UNUSED;
    json_int_t k;
    struct mz_str s = tpl_print(r, v[1]);
    if (!integer(r, v[0], &k))
        return NULL;
    size_t most = k < 0 ? 0 - (size_t)k : (size_t)k, at = s.n;
    if (k >= 0) {
        for (at = 0; at < s.n && (most || ((unsigned char)s.p[at] & 0xc0) == 0x80); at++)
            most -= ((unsigned char)s.p[at] & 0xc0) != 0x80;
        return text(r, (struct mz_str){ s.p, at });
    }
    while (at && most)
        most -= ((unsigned char)s.p[--at] & 0xc0) != 0x80;
    return text(r, mz_str_skip(s, at));
}

static json_t *mapped(struct tpl_run *r, json_t *v, int (*fn)(int c))
{
    struct mz_str s = mz_arena_dup(r->arena, tpl_print(r, v));
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x80)
            ((char *)(uintptr_t)s.p)[i] = (char)fn((unsigned char)s.p[i]);
    return text(r, s);
}

static int lower(int c)
{
    return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

static int upper(int c)
{
    return c >= 'a' && c <= 'z' ? c - 32 : c;
}

FN(fn_lower)
{
    UNUSED;
    return mapped(r, v[0], lower);
}

FN(fn_upper)
{
    UNUSED;
    return mapped(r, v[0], upper);
}

FN(fn_contains)
{
    UNUSED;
    const struct mz_str needle = tpl_print(r, v[0]), in = tpl_print(r, v[1]);
    return boolean(!needle.n || memmem(in.p, in.n, needle.p, needle.n));
}

FN(fn_has_prefix)
{
    UNUSED;
    return boolean(mz_str_starts(tpl_print(r, v[1]), tpl_print(r, v[0])));
}

FN(fn_has_suffix)
{
    UNUSED;
    return boolean(mz_str_ends(tpl_print(r, v[1]), tpl_print(r, v[0])));
}

FN(fn_replace)
{
    UNUSED;
    const struct mz_str old = tpl_print(r, v[0]), as = tpl_print(r, v[1]);
    struct mz_str in = tpl_print(r, v[2]);
    struct mz_buf b;
    mz_buf_init(&b);
    while (in.n && old.n && mz_buf_len(&b) <= TPL_MAX_OUT) {
        const char *at = memmem(in.p, in.n, old.p, old.n);
        if (!at)
            break;
        mz_buf_append(&b, in.p, (size_t)(at - in.p));
        mz_buf_append(&b, as.p, as.n);
        in = mz_str_skip(in, (size_t)(at - in.p) + old.n);
    }
    put(&b, in);
    return text_of(r, &b);
}

FN(fn_to_string)
{
    UNUSED;
    return text(r, tpl_print(r, v[0]));
}

FN(fn_b64enc)
{
    UNUSED;
    return text(r, mz_base64_encode(tpl_print(r, v[0]), r->arena));
}

FN(fn_directory)
{
    UNUSED;
    struct mz_str s = tpl_print(r, v[0]);
    s.n = (size_t)(mz_str_rchr(s, '/') + 1);
    return text(r, s);
}

FN(fn_same)
{
    UNUSED;
    return v[0];
}

/* ---- numbers ---- */

FN(fn_int)
{
    UNUSED;
    json_int_t k;
    return integer(r, v[0], &k) ? tpl_keep(r, json_integer(k)) : NULL;
}

static json_t *fold(struct tpl_run *r, json_t *const *v, size_t n, char op)
{
    json_int_t sum = 0, k;
    for (size_t i = 0; i < n; i++) {
        if (!integer(r, v[i], &k))
            return NULL;
        if (i && (op == '/' || op == '%') && k == 0)
            return fail(r, "is divided by", v[i]);
        if (i && (op == '/' || op == '%') && k == -1)
            k = op == '%' ? 1 : k; /* so that nothing overflows */
        const unsigned long long x = (unsigned long long)sum, y = (unsigned long long)k;
        sum = !i          ? k
              : op == '+' ? (json_int_t)(x + y)
              : op == '-' ? (json_int_t)(x - y)
              : op == '*' ? (json_int_t)(x * y)
              : k == -1   ? (json_int_t)(0 - x)
              : op == '/' ? sum / k
                          : sum % k;
    }
    return tpl_keep(r, json_integer(sum));
}

FN(fn_add)
{
    return fold(r, v, n, '+');
}

FN(fn_sub)
{
    return fold(r, v, n, '-');
}

FN(fn_mul)
{
    return fold(r, v, n, '*');
}

FN(fn_div)
{
    return fold(r, v, n, '/');
}

FN(fn_mod)
{
    return fold(r, v, n, '%');
}

/* ---- lists and maps ---- */

FN(fn_list)
{
    json_t *l = json_array();
    for (size_t i = 0; i < n; i++)
        (void)json_array_append(l, v[i]); /* only without memory, as all here */
    return tpl_keep_made(r, l);
}

/* Not kept yet. */
static json_t *copy_list(struct tpl_run *r, json_t *v)
{
    if (!json_is_array(v) && !json_is_null(v))
        return fail(r, "is no list:", v);
    if (!tpl_spend(r, json_array_size(v) * sizeof(void *)))
        return NULL;
    return json_is_array(v) ? json_copy(v) : json_array();
}

FN(fn_append)
{
    UNUSED;
    json_t *l = copy_list(r, v[0]);
    if (l)
        (void)json_array_append(l, v[1]);
    return l ? tpl_keep_made(r, l) : NULL;
}

FN(fn_prepend)
{
    UNUSED;
    json_t *l = copy_list(r, v[0]);
    if (l)
        (void)json_array_insert(l, 0, v[1]);
    return l ? tpl_keep_made(r, l) : NULL;
}

FN(fn_first)
{
    UNUSED;
    return json_array_size(v[0]) ? json_array_get(v[0], 0) : json_null();
}

FN(fn_last)
{
    UNUSED;
    return json_array_size(v[0]) ? json_array_get(v[0], json_array_size(v[0]) - 1) : json_null();
}

FN(fn_rest)
{
    UNUSED;
    json_t *l = copy_list(r, v[0]);
    if (l)
        (void)json_array_remove(l, 0);
    return l ? tpl_keep_made(r, l) : NULL;
}

/* By their texts where they have parts: parts may be shared, so that comparing them takes for ever. */
static bool same(struct tpl_run *r, json_t *a, json_t *b)
{
    struct mz_buf x, y;
    if (json_typeof(a) != json_typeof(b) || (!json_is_object(a) && !json_is_array(a)))
        return tpl_spend(r, 16 + json_string_length(a)) && json_equal(a, b);
    mz_buf_init(&x);
    mz_buf_init(&y);
    dump(&x, a, JSON_SORT_KEYS | JSON_COMPACT);
    dump(&y, b, JSON_SORT_KEYS | JSON_COMPACT);
    const size_t cost =
        mz_buf_len(&x) > TPL_MAX_OUT ? (size_t)TPL_MAX_WORK + 1 : mz_buf_len(&x) + mz_buf_len(&y);
    const bool is = tpl_spend(r, cost) && mz_str_eq(mz_buf_linearize(&x, mz_buf_len(&x)),
                                                    mz_buf_linearize(&y, mz_buf_len(&y)));
    mz_buf_fini(&x);
    mz_buf_fini(&y);
    return is;
}

FN(fn_has)
{
    UNUSED;
    size_t at;
    json_t *one;
    json_array_foreach(v[1], at, one)
    {
        if (r->work > TPL_MAX_WORK)
            break;
        if (same(r, one, v[0]))
            return boolean(true);
    }
    return boolean(false);
}

FN(fn_join)
{
    UNUSED;
    const struct mz_str with = tpl_print(r, v[0]);
    struct mz_buf b;
    size_t at;
    json_t *one;
    mz_buf_init(&b);
    json_array_foreach(v[1], at, one)
    {
        if (mz_buf_len(&b) > TPL_MAX_OUT || r->work > TPL_MAX_WORK)
            break;
        put(&b, at ? with : MZ_STR(""));
        put(&b, tpl_print(r, one));
    }
    return text_of(r, &b);
}

FN(fn_split_list)
{
    UNUSED;
    const struct mz_str by = tpl_print(r, v[0]);
    struct mz_str rest = tpl_print(r, v[1]);
    json_t *l = json_array();
    while (by.n && tpl_spend(r, 64)) {
        const char *at = memmem(rest.p, rest.n, by.p, by.n);
        const size_t len = at ? (size_t)(at - rest.p) : rest.n;
        (void)json_array_append_new(l, json_stringn(rest.p, len));
        if (!at)
            break;
        rest = mz_str_skip(rest, len + by.n);
    }
    return tpl_keep_made(r, l);
}

FN(fn_dict)
{
    json_t *m = json_object();
    for (size_t i = 0; i < n; i += 2)
        (void)json_object_set(m, tpl_print(r, v[i]).p, i + 1 < n ? v[i + 1] : json_null());
    return tpl_keep_made(r, m);
}

FN(fn_strdict)
{
    json_t *m = json_object();
    for (size_t i = 0; i < n; i += 2)
        (void)json_object_set_new(m, tpl_print(r, v[i]).p,
                                  json_string(i + 1 < n ? tpl_print(r, v[i + 1]).p : ""));
    return tpl_keep_made(r, m);
}

FN(fn_get)
{
    UNUSED;
    json_t *found = json_object_get(v[0], tpl_print(r, v[1]).p);
    return found ? found : text(r, MZ_STR(""));
}

FN(fn_has_key)
{
    UNUSED;
    return boolean(json_object_get(v[0], tpl_print(r, v[1]).p) != NULL);
}

FN(fn_omit)
{
    if (!tpl_spend(r, json_object_size(v[0]) * 64))
        return NULL;
    json_t *m = json_is_object(v[0]) ? json_copy(v[0]) : json_object();
    for (size_t i = 1; i < n; i++)
        (void)json_object_del(m, tpl_print(r, v[i]).p); /* it need not be there */
    return tpl_keep_made(r, m);
}

FN(fn_merge_maps)
{
    json_t *m = json_object();
    for (size_t i = 0; i < n; i++)
        if (json_is_object(v[i]) && tpl_spend(r, json_object_size(v[i]) * 64))
            (void)json_object_update(m, v[i]);
    return tpl_keep_made(r, m);
}

/* NULL: nothing is left of it. */
static json_t *without_nil(struct tpl_run *r, json_t *v)
{
    const char *key;
    json_t *one, *out;
    size_t at;
    if (json_is_null(v) || !tpl_spend(r, 64))
        return NULL;
    if (!json_is_object(v) && !json_is_array(v))
        return json_incref(v);
    const bool map = json_is_object(v);
    size_t dropped = 0;
    out = map ? json_object() : json_array();
    json_object_foreach(v, key, one)
    {
        json_t *kept = without_nil(r, one);
        dropped += !kept;
        (void)json_object_set_new(out, key, kept); /* not NULL */
    }
    json_array_foreach(v, at, one)
    {
        json_t *kept = without_nil(r, one);
        dropped += !kept;
        (void)json_array_append_new(out, kept); /* not NULL */
    }
    if (dropped && !(map ? json_object_size(out) : json_array_size(out))) {
        json_decref(out);
        return NULL;
    }
    return out;
}

FN(fn_omit_nil)
{
    UNUSED;
    json_t *out = without_nil(r, v[0]);
    if (!out || (!json_is_object(out) && !json_is_array(out)))
        return out ? tpl_keep(r, out) : json_null();
    return tpl_keep_made(r, out);
}

/* ---- documents ---- */

/* Maps by their keys, messages and Kubernetes' types in their own order. */
static json_t *dumped(struct tpl_run *r, json_t *v, size_t order, const char *nothing)
{
    struct mz_buf b;
    if (!v || json_is_null(v))
        return v || r->work <= TPL_MAX_WORK ? text(r, mz_str_c(nothing)) : NULL;
    mz_buf_init(&b);
    dump(&b, v, JSON_COMPACT | order);
    return text_of(r, &b);
}

FN(fn_to_json)
{
    UNUSED;
    return dumped(r, v[0], JSON_SORT_KEYS, "{}");
}

FN(fn_struct_to_json)
{
    UNUSED;
    return dumped(r, v[0], 0, "{}");
}

FN(fn_sprig_to_json)
{
    UNUSED;
    return dumped(r, v[0], JSON_SORT_KEYS, "null");
}

FN(fn_to_json_map)
{
    return dumped(r, fn_merge_maps(r, v, n), JSON_SORT_KEYS, "{}");
}

enum { PARSED = 8 }; /* what a byte of text becomes, about */

/* By its brackets, those in texts counted, too. */
static bool is_shallow(struct mz_str s)
{
    unsigned deep = 0, most = 0;
    for (size_t i = 0; i < s.n; i++) {
        if (s.p[i] == '[' || s.p[i] == '{')
            most = ++deep > most ? deep : most;
        else if ((s.p[i] == ']' || s.p[i] == '}') && deep)
            deep--;
    }
    return most <= TPL_MAX_DEPTH;
}

FN(fn_from_json)
{
    UNUSED;
    const struct mz_str s = tpl_print(r, v[0]);
    if (!tpl_spend(r, s.n * PARSED) || !is_shallow(s))
        return r->work > TPL_MAX_WORK ? NULL : fail(r, "is nested too deeply:", v[0]);
    json_t *out = json_loads(s.p, JSON_DECODE_ANY, NULL);
    return out ? tpl_keep(r, out) : text(r, MZ_STR("{}"));
}

FN(fn_to_yaml)
{
    UNUSED;
    struct mz_err err;
    if (json_is_null(v[0]))
        return text(r, MZ_STR("null\n"));
    if (!json_is_object(v[0]) && !json_is_array(v[0]))
        return text(r, mz_arena_printf(r->arena, "%.*s\n", MZ_STR_ARG(tpl_print(r, v[0]))));
    struct mz_buf b;
    mz_buf_init(&b);
    dump(&b, v[0], JSON_COMPACT);
    const bool fits = mz_buf_len(&b) <= TPL_MAX_OUT && tpl_spend(r, mz_buf_len(&b) * PARSED);
    const struct mz_str s =
        fits ? mz_arena_dup(r->arena, mz_buf_linearize(&b, mz_buf_len(&b))) : MZ_STR("");
    mz_buf_fini(&b);
    if (!fits) {
        (void)mz_err_set(r->err, "line %u: makes more than %d MiB of text", r->line,
                         TPL_MAX_OUT >> 20);
        return NULL;
    }
    const struct mz_node *node = mz_tree_read(r->arena, s, MZ_TEXT_JSON, &err);
    if (!node)
        return fail(r, "cannot be written:", v[0]);
    mz_buf_init(&b);
    mz_show_yaml(&b, node, false);
    return text_of(r, &b);
}

/* ---- Istio's ---- */

FN(fn_isset)
{
    UNUSED;
    return boolean(json_object_get(v[0], tpl_print(r, v[1]).p) != NULL);
}

FN(fn_annotation)
{
    UNUSED;
    json_t *notes = tpl_field(v[0], MZ_STR("Annotations"));
    json_t *found = json_object_get(notes, tpl_print(r, v[1]).p);
    return found ? found : text(r, tpl_print(r, v[2]));
}

FN(fn_exclude_inbound_port)
{
    UNUSED;
    const struct mz_str port = trim_set(tpl_print(r, v[0]), MZ_STR(" \t\n"));
    const struct mz_str all = tpl_print(r, v[1]);
    struct mz_str rest = all, one;
    struct mz_buf out;
    if (!port.n || mz_str_eq(port, MZ_STR("0")))
        return text(r, all);
    mz_buf_init(&out);
    while (mz_str_split(&rest, ',', &one)) {
        if (mz_str_eq(one, port)) {
            mz_buf_fini(&out);
            return text(r, all);
        }
        one = mz_str_trim(one);
        put(&out, one);
        put(&out, one.n ? MZ_STR(",") : MZ_STR(""));
    }
    put(&out, port);
    return text_of(r, &out);
}

static json_t *ports(struct tpl_run *r, json_t *containers, const char *but)
{
    struct mz_buf out;
    char number[32];
    size_t i, k;
    json_t *c, *p;
    mz_buf_init(&out);
    json_array_foreach(containers, i, c)
    {
        const char *name = json_string_value(json_object_get(c, "name"));
        if (but && name && strcmp(name, but) == 0)
            continue;
        json_array_foreach(json_object_get(c, "ports"), k, p)
        {
            const char *protocol = json_string_value(json_object_get(p, "protocol"));
            if (protocol && (strcmp(protocol, "UDP") == 0 || strcmp(protocol, "SCTP") == 0))
                continue;
            (void)snprintf(number, sizeof(number), "%s%lld", mz_buf_len(&out) ? "," : "",
                           (long long)json_integer_value(json_object_get(p, "containerPort")));
            put(&out, mz_str_c(number));
        }
    }
    return text_of(r, &out);
}

FN(fn_include_inbound_ports)
{
    UNUSED;
    return ports(r, v[0], NULL);
}

FN(fn_application_ports)
{
    UNUSED;
    return ports(r, v[0], "istio-proxy");
}

/* Of a ProxyConfig what is not the default. */
FN(fn_proto_to_json)
{
    UNUSED;
    const char *mode = json_string_value(json_object_get(v[0], "interceptionMode"));
    json_t *own = json_is_object(v[0]) ? proxy_config_unusual(v[0]) : json_object();
    if (mode && strcmp(mode, "REDIRECT") == 0)
        (void)json_object_del(own, "interceptionMode");
    return dumped(r, tpl_keep_made(r, own), 0, "{}");
}

static bool enriches(const json_t *mesh)
{
    size_t at;
    json_t *one;
    json_array_foreach(json_object_get(mesh, "extensionProviders"), at, one)
    {
        const char *how = json_string_value(
            json_object_get(json_object_get(one, "opentelemetry"), "serviceAttributeEnrichment"));
        if (how && strcmp(how, "OTEL_SEMANTIC_CONVENTIONS") == 0)
            return true;
    }
    return false;
}

static struct mz_str said(const json_t *map, const char *key)
{
    const char *s = json_string_value(json_object_get(map, key));
    return mz_str_c(s ? s : "");
}

/* "1.2@sha256:x" of "host:5000/name:1.2@sha256:x". */
static struct mz_str image_version(struct tpl_run *r, struct mz_str image)
{
    const ptrdiff_t at = mz_str_chr(image, '@');
    const struct mz_str digest = at < 0 ? MZ_STR("") : mz_str_skip(image, (size_t)at + 1);
    image.n = at < 0 ? image.n : (size_t)at;
    const ptrdiff_t slash = mz_str_rchr(image, '/'), colon = mz_str_rchr(image, ':');
    const struct mz_str tag = colon > slash ? mz_str_skip(image, (size_t)colon + 1) : MZ_STR("");
    return mz_arena_printf(r->arena, "%.*s%s%.*s", MZ_STR_ARG(tag), tag.n && digest.n ? "@" : "",
                           MZ_STR_ARG(digest));
}

/* (MeshConfig, annotations, labels, namespace, containers): OpenTelemetry's names for services, where a provider wants them. */
FN(fn_otel_attributes)
{
    UNUSED;
    const json_t *first = json_array_get(v[4], 0);
    const struct mz_str ns = tpl_print(r, v[3]);
    struct mz_str space = said(v[1], "resource.opentelemetry.io/service.namespace"),
                  version = said(v[1], "resource.opentelemetry.io/service.version"),
                  id = said(v[1], "resource.opentelemetry.io/service.instance.id");
    if (!enriches(v[0]))
        return text(r, MZ_STR(""));
    space = space.n ? space : ns;
    version = version.n ? version : said(v[2], "app.kubernetes.io/version");
    if (!version.n && json_array_size(v[4]) == 1)
        version = image_version(r, said(first, "image"));
    if (!id.n && first)
        id =
            mz_arena_printf(r->arena, "%.*s.$(POD_NAME).%s", MZ_STR_ARG(ns), said(first, "name").p);
    return text(r, mz_arena_printf(r->arena, "%s%.*s%s%s%.*s%s%s%.*s",
                                   space.n ? "service.namespace=" : "", MZ_STR_ARG(space),
                                   space.n && version.n ? "," : "",
                                   version.n ? "service.version=" : "", MZ_STR_ARG(version),
                                   (space.n || version.n) && id.n ? "," : "",
                                   id.n ? "service.instance.id=" : "", MZ_STR_ARG(id)));
}

/* A list of networks, by names or as JSON, and one more. */
FN(fn_append_multus)
{
    UNUSED;
    const struct mz_str had = tpl_print(r, v[0]), more = tpl_print(r, v[1]);
    const ptrdiff_t end = mz_str_rchr(had, ']'), slash = mz_str_chr(more, '/');
    struct mz_str rest = had, one;
    size_t at;
    json_t *net;
    if (!had.n)
        return v[1];
    if (end < 0) {
        while (mz_str_split(&rest, ',', &one))
            if (mz_str_eq(mz_str_trim(one), more))
                return v[0];
        return text(r, mz_arena_printf(r->arena, "%.*s, %.*s", MZ_STR_ARG(had), MZ_STR_ARG(more)));
    }
    if (!tpl_spend(r, had.n * PARSED) || !is_shallow(had))
        return v[0];
    json_t *all = tpl_keep(r, json_loadb(had.p, had.n, 0, NULL));
    const struct mz_str ns = { more.p, slash < 0 ? 0 : (size_t)slash },
                        name = mz_str_skip(more, (size_t)(slash + 1));
    if (!json_is_array(all))
        return v[0];
    json_array_foreach(all, at, net) if (mz_str_eq(said(net, "name"), name) &&
                                         mz_str_eq(said(net, "namespace"), ns)) return v[0];
    return text(r,
                mz_arena_printf(r->arena, "%.*s, {\"name\": \"%.*s\"%s%.*s%s}%.*s", (int)end, had.p,
                                MZ_STR_ARG(name), ns.n ? ", \"namespace\": \"" : "", MZ_STR_ARG(ns),
                                ns.n ? "\"" : "", (int)(had.n - (size_t)end), had.p + end));
}

FN(fn_env)
{
    UNUSED;
    const char *value =
        getenv(tpl_print(r, v[0]).p); /* nobody changes the environment of a running process here */
    return value && value[0] ? text(r, mz_str_c(value)) : v[1];
}

/* ---- the table ---- */

enum { MANY = 32 };
static const struct tpl_function functions[] = {
    { "add", fn_add, 1, MANY },
    { "and", fn_never, 1, MANY },
    { "annotation", fn_annotation, 3, 3 },
    { "append", fn_append, 2, 2 },
    { "appendMultusNetwork", fn_append_multus, 2, 2 },
    { "applicationPorts", fn_application_ports, 1, 1 },
    { "b64enc", fn_b64enc, 1, 1 },
    { "coalesce", fn_coalesce, 1, MANY },
    { "contains", fn_contains, 2, 2 },
    { "default", fn_default, 1, 2 },
    { "dict", fn_dict, 0, MANY },
    { "directory", fn_directory, 1, 1 },
    { "div", fn_div, 2, 2 },
    { "empty", fn_empty, 1, 1 },
    { "env", fn_env, 2, 2 },
    { "eq", fn_eq, 2, MANY },
    { "excludeInboundPort", fn_exclude_inbound_port, 2, 2 },
    { "excludeInterfaces", fn_same, 1, 1 },
    { "first", fn_first, 1, 1 },
    { "formatDuration", fn_same, 1, 1 },
    { "fromJSON", fn_from_json, 1, 1 },
    { "fromJson", fn_from_json, 1, 1 },
    { "ge", fn_ge, 2, 2 },
    { "get", fn_get, 2, 2 },
    { "gt", fn_gt, 2, 2 },
    { "has", fn_has, 2, 2 },
    { "hasKey", fn_has_key, 2, 2 },
    { "hasPrefix", fn_has_prefix, 2, 2 },
    { "hasSuffix", fn_has_suffix, 2, 2 },
    { "includeInboundPorts", fn_include_inbound_ports, 1, 1 },
    { "indent", fn_indent, 2, 2 },
    { "index", fn_index, 1, MANY },
    { "int", fn_int, 1, 1 },
    { "int64", fn_int, 1, 1 },
    { "isset", fn_isset, 2, 2 },
    { "join", fn_join, 2, 2 },
    { "kubevirtInterfaces", fn_same, 1, 1 },
    { "last", fn_last, 1, 1 },
    { "le", fn_le, 2, 2 },
    { "len", fn_len, 1, 1 },
    { "list", fn_list, 0, MANY },
    { "lower", fn_lower, 1, 1 },
    { "lt", fn_lt, 2, 2 },
    { "mergeMaps", fn_merge_maps, 0, MANY },
    { "mod", fn_mod, 2, 2 },
    { "mul", fn_mul, 1, MANY },
    { "ne", fn_ne, 2, 2 },
    { "nindent", fn_nindent, 2, 2 },
    { "not", fn_not, 1, 1 },
    { "omit", fn_omit, 1, MANY },
    { "omitNil", fn_omit_nil, 1, 1 },
    { "or", fn_never, 1, MANY },
    { "prepend", fn_prepend, 2, 2 },
    { "print", fn_print, 0, MANY },
    { "printf", fn_printf, 1, MANY },
    { "println", fn_println, 0, MANY },
    { "otelResourceAttributes", fn_otel_attributes, 5, 5 },
    { "protoToJSON", fn_proto_to_json, 1, 1 },
    { "quote", fn_quote, 0, MANY },
    { "replace", fn_replace, 3, 3 },
    { "rest", fn_rest, 1, 1 },
    { "splitList", fn_split_list, 2, 2 },
    { "squote", fn_squote, 0, MANY },
    { "strdict", fn_strdict, 0, MANY },
    { "structToJSON", fn_struct_to_json, 1, 1 },
    { "sub", fn_sub, 2, 2 },
    { "ternary", fn_ternary, 3, 3 },
    { "toJSON", fn_to_json, 1, 1 },
    { "toJson", fn_sprig_to_json, 1, 1 },
    { "toJsonMap", fn_to_json_map, 0, MANY },
    { "toLower", fn_lower, 1, 1 },
    { "toString", fn_to_string, 1, 1 },
    { "toYaml", fn_to_yaml, 1, 1 },
    { "trim", fn_trim, 1, 1 },
    { "trimAll", fn_trim_all, 2, 2 },
    { "trimPrefix", fn_trim_prefix, 2, 2 },
    { "trimSuffix", fn_trim_suffix, 2, 2 },
    { "trunc", fn_trunc, 2, 2 },
    { "upper", fn_upper, 1, 1 },
    { "valueOrDefault", fn_value_or_default, 2, 2 },
};

const struct tpl_function *tpl_function_find(struct mz_str name)
{
    for (size_t i = 0; i < MZ_COUNT(functions); i++)
        if (mz_str_eq(mz_str_c(functions[i].name), name))
            return &functions[i];
    return NULL;
}
