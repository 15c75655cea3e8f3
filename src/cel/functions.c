#include "cel/cel_priv.h"

#include "proto/tree.h"
#include <math.h>
#include <stdlib.h>
#include <time.h>

/* Operators and functions: one row each at the end. They get values that are no errors, and make one. */

#define FUNCTION(name)                                                                             \
    static void name(struct run *r, const struct node *call, const struct mz_cel_value *v,         \
                     struct mz_cel_value *out)

static void fail(struct mz_cel_value *out, const char *why)
{
    *out = mz_cel_error(why);
}

/* ---- comparisons ---- */

FUNCTION(fn_equal)
{
    bool equal = values_equal(r, &v[0], &v[1], 0);
    *out = mz_cel_bool(equal != (call->fn->name.p[1] == '!'));
}

FUNCTION(fn_order)
{
    bool ok;
    int c = value_cmp(&v[0], &v[1], &ok);
    const char *op = call->fn->name.p + 1; /* "<_", "<=_", ">_", ">=_" */
    if (!ok && c != 2) {
        fail(out, error_overload);
        return;
    }
    (void)run_pay(r, v[0].kind == MZ_CEL_STRING ? v[0].s.n / 64 : 0);
    *out = mz_cel_bool(ok && (op[0] == '<' ? c < 0 : c > 0));
    if (ok && op[1] == '=' && c == 0)
        out->b = true;
}

/* ... and no message, whose fields are asked for by name only. */
static bool is_map(const struct mz_cel_value *v)
{
    return v->kind == MZ_CEL_MAP && !v->map.ops->has;
}

FUNCTION(fn_has_member) /* x in list, key in map */
{
    (void)call;
    if (is_map(&v[1])) {
        struct mz_cel_value ignored;
        *out = mz_cel_bool(v[1].map.ops->get(v[1].map.obj, &v[0], r->arena, &ignored));
        return;
    }
    if (v[1].kind != MZ_CEL_LIST) {
        fail(out, error_overload);
        return;
    }
    *out = mz_cel_bool(false);
    for (size_t i = 0; i < v[1].list.n && !out->b; i++)
        out->b = values_equal(r, &v[0], &v[1].list.v[i], 0);
}

/* ---- arithmetic ---- */

static void join(struct run *r, const struct mz_cel_value *v, struct mz_cel_value *out)
{
    if (!r->program->concat)
        fail(out, error_overload);
    else if (run_pay(r, (v[0].s.n + v[1].s.n) / 64))
        *out = (struct mz_cel_value){
            .kind = v[0].kind, .s = mz_arena_cat(r->arena, 2, (struct mz_str[]){ v[0].s, v[1].s })
        };
    else
        fail(out, error_range);
}

static void append(struct run *r, const struct mz_cel_value *v, struct mz_cel_value *out)
{
    size_t n = v[0].list.n + v[1].list.n;
    if (!run_pay(r, n)) {
        fail(out, error_range);
        return;
    }
    struct mz_cel_value *all = mz_arena_alloc(r->arena, n * sizeof(*all));
    for (size_t i = 0; i < n; i++)
        all[i] = i < v[0].list.n ? v[0].list.v[i] : v[1].list.v[i - v[0].list.n];
    *out = (struct mz_cel_value){ .kind = MZ_CEL_LIST, .list = { all, n } };
}

static void int_math(char op, int64_t a, int64_t b, struct mz_cel_value *out)
{
    int64_t c = 0;
    bool over = false;
    switch (op) {
    case '+':
        over = __builtin_add_overflow(a, b, &c);
        break;
    case '-':
        over = __builtin_sub_overflow(a, b, &c);
        break;
    case '*':
        over = __builtin_mul_overflow(a, b, &c);
        break;
    default:
        if (b == 0) {
            fail(out, op == '/' ? "divide by zero" : "modulus by zero");
            return;
        }
        over = a == INT64_MIN && b == -1;
        if (!over)
            c = op == '/' ? a / b : a % b;
    }
    *out = over ? mz_cel_error(error_overflow) : mz_cel_int(c);
}

static void uint_math(char op, uint64_t a, uint64_t b, struct mz_cel_value *out)
{
    uint64_t c = 0;
    bool over = false;
    if ((op == '/' || op == '%') && b == 0) {
        fail(out, op == '/' ? "divide by zero" : "modulus by zero");
        return;
    }
    if (op == '+')
        over = __builtin_add_overflow(a, b, &c);
    else if (op == '-')
        over = __builtin_sub_overflow(a, b, &c);
    else if (op == '*')
        over = __builtin_mul_overflow(a, b, &c);
    else
        c = op == '/' ? a / b : a % b;
    *out = over ? mz_cel_error(error_overflow) : mz_cel_uint(c);
}

static void double_math(char op, double a, double b, struct mz_cel_value *out)
{
    if (op == '%')
        fail(out, error_overload);
    else
        *out = mz_cel_double(op == '+' ? a + b : op == '-' ? a - b : op == '*' ? a * b : a / b);
}

#define SECONDS_MIN  (-INT64_C(62135596800)) /* year 1 */
#define SECONDS_MAX  INT64_C(253402300799)   /* year 9999 */
#define DURATION_MAX INT64_C(315576000000)

/* Sum or difference of two durations, or of a timestamp and one, or difference of two timestamps. */
static void time_math(char op, const struct mz_cel_value *v, struct mz_cel_value *out)
{
    bool stamp = v[0].kind == MZ_CEL_TIMESTAMP, other = v[1].kind == MZ_CEL_TIMESTAMP;
    if ((op != '+' && op != '-') || (stamp && other && op == '+') ||
        (!stamp && other && op == '-')) {
        fail(out, error_overload);
        return;
    }
    int sign = op == '+' ? 1 : -1;
    int64_t s = v[0].i + sign * v[1].i; /* both far from the limits */
    int64_t ns = (int64_t)v[0].nanos + sign * (int64_t)v[1].nanos;
    bool is_stamp = stamp != other;
    s += ns / 1000000000;
    ns %= 1000000000;
    if (ns < 0 && (is_stamp || s > 0)) {
        s--;
        ns += 1000000000;
    } else if (ns > 0 && s < 0 && !is_stamp) {
        s++;
        ns -= 1000000000;
    }
    if (is_stamp ? s < SECONDS_MIN || s > SECONDS_MAX : s < -DURATION_MAX || s > DURATION_MAX)
        fail(out, error_overflow);
    else
        *out = (struct mz_cel_value){ .kind = is_stamp ? MZ_CEL_TIMESTAMP : MZ_CEL_DURATION,
                                      .i = s,
                                      .nanos = (int32_t)ns };
}

static bool is_time(const struct mz_cel_value *v)
{
    return v->kind == MZ_CEL_DURATION || v->kind == MZ_CEL_TIMESTAMP;
}

FUNCTION(fn_math)
{
    char op = call->fn->name.p[1];
    if (is_time(&v[0]) && is_time(&v[1])) {
        time_math(op, v, out);
        return;
    }
    if (v[0].kind != v[1].kind) {
        fail(out, error_overload);
        return;
    }
    switch ((enum mz_cel_kind)v[0].kind) {
    case MZ_CEL_INT:
        int_math(op, v[0].i, v[1].i, out);
        return;
    case MZ_CEL_UINT:
        uint_math(op, v[0].u, v[1].u, out);
        return;
    case MZ_CEL_DOUBLE:
        double_math(op, v[0].d, v[1].d, out);
        return;
    case MZ_CEL_STRING:
    case MZ_CEL_BYTES:
        if (op == '+')
            join(r, v, out);
        else
            fail(out, error_overload);
        return;
    case MZ_CEL_LIST:
        if (op == '+') {
            append(r, v, out);
            return;
        }
        fail(out, error_overload);
        return;
    default:
        fail(out, error_overload);
    }
}

FUNCTION(fn_minus)
{
    (void)r;
    (void)call;
    if (v[0].kind == MZ_CEL_INT)
        int_math('-', 0, v[0].i, out);
    else if (v[0].kind == MZ_CEL_DOUBLE)
        *out = mz_cel_double(-v[0].d);
    else
        fail(out, error_overload);
}

FUNCTION(fn_not)
{
    (void)r;
    (void)call;
    *out = v[0].kind == MZ_CEL_BOOL ? mz_cel_bool(!v[0].b) : mz_cel_error(error_overload);
}

/* ---- lists, maps, texts ---- */

static bool index_of(const struct mz_cel_value *v, uint64_t *out)
{
    if (v->kind == MZ_CEL_UINT)
        *out = v->u;
    else if (v->kind == MZ_CEL_INT && v->i >= 0)
        *out = (uint64_t)v->i;
    else if (v->kind == MZ_CEL_DOUBLE && v->d >= 0 && v->d < 1e9 && !(floor(v->d) < v->d))
        *out = (uint64_t)v->d;
    else
        return false;
    return true;
}

FUNCTION(fn_at)
{
    (void)call;
    uint64_t i;
    if (is_map(&v[0])) {
        if (!v[0].map.ops->get(v[0].map.obj, &v[1], r->arena, out))
            fail(out, error_key);
    } else if (v[0].kind != MZ_CEL_LIST) {
        fail(out, error_overload);
    } else if (!index_of(&v[1], &i) || i >= v[0].list.n) {
        fail(out, error_range);
    } else {
        *out = v[0].list.v[i];
    }
}

static int64_t characters(struct mz_str s)
{
    int64_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
    return n;
}

FUNCTION(fn_size)
{
    (void)call;
    switch ((enum mz_cel_kind)v[0].kind) {
    case MZ_CEL_STRING:
        (void)run_pay(r, v[0].s.n / 64);
        *out = mz_cel_int(characters(v[0].s));
        return;
    case MZ_CEL_BYTES:
        *out = mz_cel_int((int64_t)v[0].s.n);
        return;
    case MZ_CEL_LIST:
        *out = mz_cel_int((int64_t)v[0].list.n);
        return;
    case MZ_CEL_MAP:
        if (is_map(&v[0])) {
            *out = mz_cel_int((int64_t)v[0].map.ops->size(v[0].map.obj));
            return;
        }
        break;
    default:
        break;
    }
    fail(out, error_overload);
}

FUNCTION(fn_text)
{
    if (v[0].kind != MZ_CEL_STRING || v[1].kind != MZ_CEL_STRING) {
        fail(out, error_overload);
        return;
    }
    (void)run_pay(r, v[0].s.n / 64);
    switch (call->fn->name.p[0]) {
    case 'c':
        *out = mz_cel_bool(mz_str_find(v[0].s, v[1].s) >= 0);
        return;
    case 's':
        *out = mz_cel_bool(mz_str_starts(v[0].s, v[1].s));
        return;
    default:
        *out = mz_cel_bool(mz_str_ends(v[0].s, v[1].s));
    }
}

/* RE2 finds nothing in bytes that are not UTF-8, and "!x.matches(...)" would let them pass: once more as Latin-1 (C13). */
FUNCTION(fn_matches)
{
    if (v[0].kind != MZ_CEL_STRING) {
        fail(out, error_overload);
        return;
    }
    (void)run_pay(r, v[0].s.n / 16);
    bool yes = mz_regex_search(call->regex, v[0].s);
    if (!yes && !mz_utf8_valid(v[0].s)) {
        char *wide = mz_arena_alloc(r->arena, v[0].s.n * 2);
        size_t n = 0;
        for (size_t i = 0; i < v[0].s.n; i++) {
            unsigned char c = (unsigned char)v[0].s.p[i];
            if (c >= 0x80)
                wide[n++] = (char)(0xc0 | c >> 6);
            wide[n++] = c >= 0x80 ? (char)(0x80 | (c & 0x3f)) : v[0].s.p[i];
        }
        yes = mz_regex_search(call->regex, (struct mz_str){ wide, n });
    }
    *out = mz_cel_bool(yes);
}

/* ---- conversions ---- */

static bool number_of(struct mz_str s, double *out)
{
    char text[64], *end;
    if (!s.n || s.n >= sizeof(text) || s.p[0] == ' ')
        return false;
    memcpy(text, s.p, s.n);
    text[s.n] = '\0';
    *out = strtod(text, &end);
    return end == text + s.n;
}

FUNCTION(fn_int)
{
    (void)r;
    (void)call;
    int64_t i;
    switch ((enum mz_cel_kind)v[0].kind) {
    case MZ_CEL_INT:
        *out = v[0];
        return;
    case MZ_CEL_UINT:
        *out = v[0].u <= INT64_MAX ? mz_cel_int((int64_t)v[0].u) : mz_cel_error(error_overflow);
        return;
    case MZ_CEL_DOUBLE:
        *out = v[0].d > -9223372036854775808.0 && v[0].d < 9223372036854775808.0
                   ? mz_cel_int((int64_t)v[0].d)
                   : mz_cel_error(error_overflow);
        return;
    case MZ_CEL_STRING:
        *out = mz_str_i64(v[0].s, &i) ? mz_cel_int(i) : mz_cel_error("not a number");
        return;
    case MZ_CEL_TIMESTAMP:
        *out = mz_cel_int(v[0].i);
        return;
    default:
        fail(out, error_overload);
    }
}

FUNCTION(fn_uint)
{
    (void)r;
    (void)call;
    uint64_t u;
    switch ((enum mz_cel_kind)v[0].kind) {
    case MZ_CEL_UINT:
        *out = v[0];
        return;
    case MZ_CEL_INT:
        *out = v[0].i >= 0 ? mz_cel_uint((uint64_t)v[0].i) : mz_cel_error(error_overflow);
        return;
    case MZ_CEL_DOUBLE:
        *out = v[0].d >= 0 && v[0].d < 18446744073709551616.0 ? mz_cel_uint((uint64_t)v[0].d)
                                                              : mz_cel_error(error_overflow);
        return;
    case MZ_CEL_STRING:
        *out = mz_str_u64(v[0].s, &u) ? mz_cel_uint(u) : mz_cel_error("not a number");
        return;
    default:
        fail(out, error_overload);
    }
}

FUNCTION(fn_double)
{
    (void)r;
    (void)call;
    double d;
    switch ((enum mz_cel_kind)v[0].kind) {
    case MZ_CEL_DOUBLE:
        *out = v[0];
        return;
    case MZ_CEL_INT:
        *out = mz_cel_double((double)v[0].i);
        return;
    case MZ_CEL_UINT:
        *out = mz_cel_double((double)v[0].u);
        return;
    case MZ_CEL_STRING:
        *out = number_of(v[0].s, &d) ? mz_cel_double(d) : mz_cel_error("not a number");
        return;
    default:
        fail(out, error_overload);
    }
}

FUNCTION(fn_string)
{
    (void)call;
    if (v[0].kind == MZ_CEL_STRING) {
        *out = v[0];
    } else if (v[0].kind == MZ_CEL_BYTES) {
        *out = mz_utf8_valid(v[0].s) ? mz_cel_string(v[0].s) : mz_cel_error("not UTF-8");
    } else if (v[0].kind == MZ_CEL_NULL ||
               (v[0].kind >= MZ_CEL_LIST && v[0].kind != MZ_CEL_DURATION &&
                v[0].kind != MZ_CEL_TIMESTAMP)) {
        fail(out, error_overload);
    } else {
        struct mz_str s;
        (void)mz_cel_text(&v[0], r->arena, &s); /* it has a text */
        *out = mz_cel_string(s);
    }
}

FUNCTION(fn_bytes)
{
    (void)r;
    (void)call;
    *out = v[0];
    out->kind = MZ_CEL_BYTES;
    if (v[0].kind != MZ_CEL_STRING && v[0].kind != MZ_CEL_BYTES)
        fail(out, error_overload);
}

FUNCTION(fn_bool)
{
    (void)r;
    (void)call;
    if (v[0].kind == MZ_CEL_BOOL)
        *out = v[0];
    else if (v[0].kind == MZ_CEL_STRING && mz_str_eq(v[0].s, MZ_STR("true")))
        *out = mz_cel_bool(true);
    else if (v[0].kind == MZ_CEL_STRING && mz_str_eq(v[0].s, MZ_STR("false")))
        *out = mz_cel_bool(false);
    else
        fail(out, error_overload);
}

FUNCTION(fn_duration)
{
    (void)r;
    (void)call;
    if (v[0].kind == MZ_CEL_DURATION)
        *out = v[0];
    else if (v[0].kind != MZ_CEL_STRING)
        fail(out, error_overload);
    else if (!duration_parse(v[0].s, out))
        fail(out, "not a duration");
}

FUNCTION(fn_timestamp)
{
    (void)r;
    (void)call;
    if (v[0].kind == MZ_CEL_TIMESTAMP)
        *out = v[0];
    else if (v[0].kind == MZ_CEL_INT && v[0].i >= SECONDS_MIN && v[0].i <= SECONDS_MAX)
        *out = (struct mz_cel_value){ .kind = MZ_CEL_TIMESTAMP, .i = v[0].i };
    else if (v[0].kind != MZ_CEL_STRING)
        fail(out, error_overload);
    else if (!timestamp_parse(v[0].s, out))
        fail(out, "not a timestamp");
}

FUNCTION(fn_type)
{
    (void)r;
    (void)call;
    type_name(&v[0], out);
}

FUNCTION(fn_dyn)
{
    (void)r;
    (void)call;
    *out = v[0];
}

/* ---- parts of times; of timestamps in UTC ---- */

enum part {
    PART_YEAR,
    PART_MONTH,
    PART_DATE,
    PART_DAY_OF_MONTH,
    PART_DAY_OF_WEEK,
    PART_DAY_OF_YEAR,
    PART_HOURS,
    PART_MINUTES,
    PART_SECONDS,
    PART_MILLIS
};

static enum part part_of(struct mz_str name)
{
    static const char *const names[] = {
        "getFullYear",  "getMonth", "getDate",    "getDayOfMonth", "getDayOfWeek",
        "getDayOfYear", "getHours", "getMinutes", "getSeconds",    "getMilliseconds",
    };
    unsigned i = 0;
    while (i < MZ_COUNT(names) - 1 && !mz_str_eq(name, mz_str_c(names[i])))
        i++;
    return (enum part)i;
}

FUNCTION(fn_part)
{
    (void)r;
    enum part part = part_of(call->fn->name);
    if (v[0].kind == MZ_CEL_DURATION && part >= PART_HOURS) {
        *out = mz_cel_int(part == PART_HOURS     ? v[0].i / 3600
                          : part == PART_MINUTES ? v[0].i / 60
                          : part == PART_SECONDS ? v[0].i
                                                 : v[0].nanos / 1000000);
        return;
    }
    time_t t = (time_t)v[0].i;
    struct tm tm;
    if (v[0].kind != MZ_CEL_TIMESTAMP || !gmtime_r(&t, &tm)) {
        fail(out, error_overload);
        return;
    }
    const int parts[] = { tm.tm_year + 1900, tm.tm_mon,           tm.tm_mday, tm.tm_mday - 1,
                          tm.tm_wday,        tm.tm_yday,          tm.tm_hour, tm.tm_min,
                          tm.tm_sec,         v[0].nanos / 1000000 };
    *out = mz_cel_int(parts[part]);
}

/* ---- the rows ---- */

#define OPERATOR(name, n, run)                                                                     \
    {                                                                                              \
        MZ_STR_INIT(name), n, n, false, true, false, run                                           \
    }
#define CONVERSION(name, run)                                                                      \
    {                                                                                              \
        MZ_STR_INIT(name), 1, 1, false, true, false, run                                           \
    }
#define TEXT(name, run)                                                                            \
    {                                                                                              \
        MZ_STR_INIT(name), 2, 2, true, false, false, run                                           \
    }
#define PART(name)                                                                                 \
    {                                                                                              \
        MZ_STR_INIT(name), 1, 1, true, false, false, fn_part                                       \
    }
/* clang-format off */
static const struct function functions[] = {
    OPERATOR("_==_", 2, fn_equal), OPERATOR("_!=_", 2, fn_equal),
    OPERATOR("_<_", 2, fn_order), OPERATOR("_<=_", 2, fn_order),
    OPERATOR("_>_", 2, fn_order), OPERATOR("_>=_", 2, fn_order),
    OPERATOR("@in", 2, fn_has_member), OPERATOR("_in_", 2, fn_has_member), OPERATOR("in", 2, fn_has_member),
    OPERATOR("_+_", 2, fn_math), OPERATOR("_-_", 2, fn_math), OPERATOR("_*_", 2, fn_math),
    OPERATOR("_/_", 2, fn_math), OPERATOR("_%_", 2, fn_math),
    OPERATOR("-_", 1, fn_minus), OPERATOR("!_", 1, fn_not), OPERATOR("_[_]", 2, fn_at),
    { MZ_STR_INIT("size"), 1, 1, true, true, false, fn_size },
    { MZ_STR_INIT("matches"), 2, 2, true, true, false, fn_matches },
    TEXT("contains", fn_text), TEXT("startsWith", fn_text), TEXT("endsWith", fn_text),
    CONVERSION("int", fn_int), CONVERSION("uint", fn_uint), CONVERSION("double", fn_double),
    { MZ_STR_INIT("string"), 1, 1, false, true, true, fn_string },
    CONVERSION("bytes", fn_bytes), CONVERSION("bool", fn_bool), CONVERSION("duration", fn_duration),
    CONVERSION("timestamp", fn_timestamp), CONVERSION("type", fn_type), CONVERSION("dyn", fn_dyn),
    PART("getFullYear"), PART("getMonth"), PART("getDate"), PART("getDayOfMonth"), PART("getDayOfWeek"),
    PART("getDayOfYear"), PART("getHours"), PART("getMinutes"), PART("getSeconds"), PART("getMilliseconds"),
};
/* clang-format on */

const struct function *function_find(struct mz_str name, bool member, uint32_t n)
{
    for (size_t i = 0; i < MZ_COUNT(functions); i++) {
        const struct function *f = &functions[i];
        if (mz_str_eq(f->name, name) && n >= f->min && n <= f->max &&
            (member ? f->member : f->global))
            return f;
    }
    return NULL;
}
