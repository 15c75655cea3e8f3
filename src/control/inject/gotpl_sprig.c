/* Functions of templates: those of sprig that injection templates are written with. */
#include "control/inject/gotpl_funcs.h"

#include <stdio.h>
#include <stdlib.h>

#include "base/base64.h"

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
    return tpl_boolean(!tpl_is_true(v[0]));
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
        tpl_put(&b, mz_buf_len(&b) ? MZ_STR(" ") : MZ_STR(""));
        if (one)
            tpl_dump(&b, one, 0);
        json_decref(one);
    }
    return tpl_text_of(r, &b);
}

FN(fn_squote)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (json_is_null(v[i]))
            continue;
        tpl_put(&b, mz_buf_len(&b) ? MZ_STR(" '") : MZ_STR("'"));
        tpl_put(&b, tpl_print(r, v[i]));
        tpl_put(&b, MZ_STR("'"));
    }
    return tpl_text_of(r, &b);
}

/* @first: the first line, too. */
static json_t *indented(struct tpl_run *r, json_t *const *v, bool first, const char *front)
{
    json_int_t width;
    struct mz_str s = tpl_print(r, v[1]);
    if (!tpl_integer(r, v[0], &width))
        return NULL;
    if (width < 0 || width > 1000)
        return tpl_fail(r, "is no indentation of 0 to 1000:", v[0]);
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
    return tpl_text_of(r, &b);
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

struct mz_str tpl_trim_set(struct mz_str s, struct mz_str set)
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
    return tpl_text(r, tpl_trim_set(tpl_print(r, v[0]), MZ_STR(" \t\r\n\v\f")));
}

FN(fn_trim_all)
{
    UNUSED;
    return tpl_text(r, tpl_trim_set(tpl_print(r, v[1]), tpl_print(r, v[0])));
}

FN(fn_trim_prefix)
{
    UNUSED;
    const struct mz_str s = tpl_print(r, v[1]), p = tpl_print(r, v[0]);
    return tpl_text(r, mz_str_starts(s, p) ? mz_str_skip(s, p.n) : s);
}

FN(fn_trim_suffix)
{
    UNUSED;
    struct mz_str s = tpl_print(r, v[1]);
    const struct mz_str p = tpl_print(r, v[0]);
    s.n -= mz_str_ends(s, p) ? p.n : 0;
    return tpl_text(r, s);
}

/* In characters; from the end where it is below 0. */
FN(fn_trunc)
{
    UNUSED;
    json_int_t k;
    struct mz_str s = tpl_print(r, v[1]);
    if (!tpl_integer(r, v[0], &k))
        return NULL;
    size_t most = k < 0 ? 0 - (size_t)k : (size_t)k, at = s.n;
    if (k >= 0) {
        for (at = 0; at < s.n && (most || ((unsigned char)s.p[at] & 0xc0) == 0x80); at++)
            most -= ((unsigned char)s.p[at] & 0xc0) != 0x80;
        return tpl_text(r, (struct mz_str){ s.p, at });
    }
    while (at && most)
        most -= ((unsigned char)s.p[--at] & 0xc0) != 0x80;
    return tpl_text(r, mz_str_skip(s, at));
}

static json_t *mapped(struct tpl_run *r, json_t *v, int (*fn)(int c))
{
    struct mz_str s = mz_arena_dup(r->arena, tpl_print(r, v));
    for (size_t i = 0; i < s.n; i++)
        if ((unsigned char)s.p[i] < 0x80)
            ((char *)(uintptr_t)s.p)[i] = (char)fn((unsigned char)s.p[i]);
    return tpl_text(r, s);
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
    return tpl_boolean(!needle.n || memmem(in.p, in.n, needle.p, needle.n));
}

FN(fn_has_prefix)
{
    UNUSED;
    return tpl_boolean(mz_str_starts(tpl_print(r, v[1]), tpl_print(r, v[0])));
}

FN(fn_has_suffix)
{
    UNUSED;
    return tpl_boolean(mz_str_ends(tpl_print(r, v[1]), tpl_print(r, v[0])));
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
    tpl_put(&b, in);
    return tpl_text_of(r, &b);
}

FN(fn_to_string)
{
    UNUSED;
    return tpl_text(r, tpl_print(r, v[0]));
}

FN(fn_b64enc)
{
    UNUSED;
    return tpl_text(r, mz_base64_encode(tpl_print(r, v[0]), r->arena));
}

FN(fn_directory)
{
    UNUSED;
    struct mz_str s = tpl_print(r, v[0]);
    s.n = (size_t)(mz_str_rchr(s, '/') + 1);
    return tpl_text(r, s);
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
    return tpl_integer(r, v[0], &k) ? tpl_keep(r, json_integer(k)) : NULL;
}

static json_t *fold(struct tpl_run *r, json_t *const *v, size_t n, char op)
{
    json_int_t sum = 0, k;
    for (size_t i = 0; i < n; i++) {
        if (!tpl_integer(r, v[i], &k))
            return NULL;
        if (i && (op == '/' || op == '%') && k == 0)
            return tpl_fail(r, "is divided by", v[i]);
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
        return tpl_fail(r, "is no list:", v);
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
    tpl_dump(&x, a, JSON_SORT_KEYS | JSON_COMPACT);
    tpl_dump(&y, b, JSON_SORT_KEYS | JSON_COMPACT);
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
            return tpl_boolean(true);
    }
    return tpl_boolean(false);
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
        tpl_put(&b, at ? with : MZ_STR(""));
        tpl_put(&b, tpl_print(r, one));
    }
    return tpl_text_of(r, &b);
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
    return found ? found : tpl_text(r, MZ_STR(""));
}

FN(fn_has_key)
{
    UNUSED;
    return tpl_boolean(json_object_get(v[0], tpl_print(r, v[1]).p) != NULL);
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

const struct tpl_function tpl_sprig_functions[] = {
    { "add", fn_add, 1, MANY },
    { "append", fn_append, 2, 2 },
    { "b64enc", fn_b64enc, 1, 1 },
    { "coalesce", fn_coalesce, 1, MANY },
    { "contains", fn_contains, 2, 2 },
    { "default", fn_default, 1, 2 },
    { "dict", fn_dict, 0, MANY },
    { "directory", fn_directory, 1, 1 },
    { "div", fn_div, 2, 2 },
    { "empty", fn_empty, 1, 1 },
    { "excludeInterfaces", fn_same, 1, 1 },
    { "first", fn_first, 1, 1 },
    { "formatDuration", fn_same, 1, 1 },
    { "get", fn_get, 2, 2 },
    { "has", fn_has, 2, 2 },
    { "hasKey", fn_has_key, 2, 2 },
    { "hasPrefix", fn_has_prefix, 2, 2 },
    { "hasSuffix", fn_has_suffix, 2, 2 },
    { "indent", fn_indent, 2, 2 },
    { "int", fn_int, 1, 1 },
    { "int64", fn_int, 1, 1 },
    { "join", fn_join, 2, 2 },
    { "kubevirtInterfaces", fn_same, 1, 1 },
    { "last", fn_last, 1, 1 },
    { "list", fn_list, 0, MANY },
    { "lower", fn_lower, 1, 1 },
    { "mod", fn_mod, 2, 2 },
    { "mul", fn_mul, 1, MANY },
    { "nindent", fn_nindent, 2, 2 },
    { "omit", fn_omit, 1, MANY },
    { "omitNil", fn_omit_nil, 1, 1 },
    { "prepend", fn_prepend, 2, 2 },
    { "quote", fn_quote, 0, MANY },
    { "replace", fn_replace, 3, 3 },
    { "rest", fn_rest, 1, 1 },
    { "splitList", fn_split_list, 2, 2 },
    { "squote", fn_squote, 0, MANY },
    { "strdict", fn_strdict, 0, MANY },
    { "sub", fn_sub, 2, 2 },
    { "ternary", fn_ternary, 3, 3 },
    { "toLower", fn_lower, 1, 1 },
    { "toString", fn_to_string, 1, 1 },
    { "trim", fn_trim, 1, 1 },
    { "trimAll", fn_trim_all, 2, 2 },
    { "trimPrefix", fn_trim_prefix, 2, 2 },
    { "trimSuffix", fn_trim_suffix, 2, 2 },
    { "trunc", fn_trunc, 2, 2 },
    { "upper", fn_upper, 1, 1 },
    { "valueOrDefault", fn_value_or_default, 2, 2 },
    { NULL, NULL, 0, 0 },
};
