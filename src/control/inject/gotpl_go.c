/* Functions of templates: Go's own. */
#include "control/inject/gotpl_funcs.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- comparing ---- */

static bool is_number(const json_t *v)
{
    return json_is_number(v);
}

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
            return tpl_fail(r, "cannot be compared with what it stands beside:", v[i]);
        if (c == 0)
            return tpl_boolean(true);
    }
    return tpl_boolean(false);
}

static json_t *order(struct tpl_run *r, json_t *const *v, int low, int high)
{
    int c;
    if (!tpl_spend(r, json_string_length(v[0])))
        return NULL;
    if (json_is_boolean(v[0]) || !compare(v[0], v[1], &c))
        return tpl_fail(r, "cannot be compared with what it stands beside:", v[1]);
    c = (c > 0) - (c < 0);
    return tpl_boolean(c >= low && c <= high);
}

FN(fn_ne)
{
    json_t *e = fn_eq(r, v, n);
    return e ? tpl_boolean(!json_is_true(e)) : NULL;
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
    return tpl_boolean(!tpl_is_true(v[0]));
}

FN(fn_never)
{
    UNUSED;
    return tpl_fail(r, "has no arguments:", v ? v[0] : json_null()); /* and, or: gotpl_eval.c */
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
            if (!tpl_integer(r, v[i], &k))
                return NULL;
            if (k < 0 || (size_t)k >= json_array_size(at))
                return tpl_fail(r, "the list has no element", v[i]);
            at = json_array_get(at, (size_t)k);
        } else if (json_is_object(at)) {
            const struct mz_str key = tpl_print(r, v[i]);
            json_t *found = json_object_getn(at, key.p, key.n);
            at = found ? found : json_null();
        } else if (!json_is_null(at)) {
            return tpl_fail(r, "has no elements:", at);
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
        tpl_dump(b, v, JSON_COMPACT | JSON_ENSURE_ASCII);
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
    if (width > 200 || (verb != 'f' && !tpl_integer(r, v, &i)))
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
        return tpl_text_of(r, &b);
    mz_buf_fini(&b);
    return r->work > TPL_MAX_WORK
               ? json_null()
               : tpl_fail(r, "cannot be formatted (a width is 200 at most):", v[0]);
}

static json_t *print_all(struct tpl_run *r, json_t *const *v, size_t n, const char *end,
                         bool always)
{
    struct mz_buf b;
    mz_buf_init(&b);
    for (size_t i = 0; i < n; i++) {
        if (i && (always || (!json_is_string(v[i]) && !json_is_string(v[i - 1]))))
            tpl_put(&b, MZ_STR(" "));
        tpl_put(&b, tpl_print(r, v[i]));
    }
    tpl_put(&b, mz_str_c(end));
    return tpl_text_of(r, &b);
}

FN(fn_print)
{
    return print_all(r, v, n, "", false);
}

FN(fn_println)
{
    return print_all(r, v, n, "\n", true);
}

const struct tpl_function tpl_go_functions[] = {
    { "and", fn_never, 1, MANY },
    { "eq", fn_eq, 2, MANY },
    { "ge", fn_ge, 2, 2 },
    { "gt", fn_gt, 2, 2 },
    { "index", fn_index, 1, MANY },
    { "le", fn_le, 2, 2 },
    { "len", fn_len, 1, 1 },
    { "lt", fn_lt, 2, 2 },
    { "ne", fn_ne, 2, 2 },
    { "not", fn_not, 1, 1 },
    { "or", fn_never, 1, MANY },
    { "print", fn_print, 0, MANY },
    { "printf", fn_printf, 1, MANY },
    { "println", fn_println, 0, MANY },
    { NULL, NULL, 0, 0 },
};
