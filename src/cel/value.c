#include "cel/cel_priv.h"

#include <math.h>
#include <stdio.h>
#include <time.h>

const char error_overload[] = "no such overload", error_key[] = "no such key",
           error_overflow[] = "number out of range", error_range[] = "index out of range";

static bool is_number(const struct mz_cel_value *v)
{
    return v->kind == MZ_CEL_INT || v->kind == MZ_CEL_UINT || v->kind == MZ_CEL_DOUBLE;
}

/* ---- order ---- */

static int order(bool less, bool more)
{
    return less ? -1 : more;
}

/* 2^63 and 2^64 as doubles; what is beyond decides without a conversion that would not fit. */
#define TWO_63 9223372036854775808.0
#define TWO_64 18446744073709551616.0

static int double_int_cmp(double d, int64_t i)
{
    if (d < -TWO_63)
        return -1;
    if (d >= TWO_63)
        return 1;
    int64_t whole = (int64_t)d;
    if (whole != i)
        return order(whole<i, whole> i);
    double rest = d - (double)whole;
    return order(rest<0, rest> 0);
}

static int double_uint_cmp(double d, uint64_t u)
{
    if (d < 0)
        return -1;
    if (d >= TWO_64)
        return 1;
    uint64_t whole = (uint64_t)d;
    if (whole != u)
        return order(whole<u, whole> u);
    return d - (double)whole > 0;
}

static int number_cmp(const struct mz_cel_value *a, const struct mz_cel_value *b, bool *out_ok)
{
    if ((a->kind == MZ_CEL_DOUBLE && isnan(a->d)) || (b->kind == MZ_CEL_DOUBLE && isnan(b->d))) {
        *out_ok = false; /* unordered, and unequal */
        return 2;
    }
    if (a->kind == b->kind)
        return a->kind == MZ_CEL_INT    ? order(a->i<b->i, a->i> b->i)
               : a->kind == MZ_CEL_UINT ? order(a->u<b->u, a->u> b->u)
                                        : order(a->d<b->d, a->d> b->d);
    if (a->kind == MZ_CEL_DOUBLE)
        return b->kind == MZ_CEL_INT ? double_int_cmp(a->d, b->i) : double_uint_cmp(a->d, b->u);
    if (b->kind == MZ_CEL_DOUBLE)
        return -number_cmp(b, a, out_ok);
    if (a->kind == MZ_CEL_INT)
        return a->i < 0 ? -1 : order((uint64_t)a->i<b->u, (uint64_t)a->i> b->u);
    return -number_cmp(b, a, out_ok);
}

/* Less, equal, more: -1, 0, 1. *out_ok false: these have no order (2: NaN, which compares false with anything). */
int value_cmp(const struct mz_cel_value *a, const struct mz_cel_value *b, bool *out_ok)
{
    *out_ok = true;
    if (is_number(a) && is_number(b))
        return number_cmp(a, b, out_ok);
    if (a->kind == b->kind) {
        switch ((enum mz_cel_kind)a->kind) {
        case MZ_CEL_BOOL:
            return order(!a->b && b->b, a->b && !b->b);
        case MZ_CEL_STRING:
        case MZ_CEL_BYTES: {
            int c = mz_str_cmp(a->s, b->s);
            return order(c<0, c> 0);
        }
        case MZ_CEL_DURATION:
        case MZ_CEL_TIMESTAMP:
            return a->i != b->i ? order(a->i<b->i, a->i> b->i)
                                : order(a->nanos<b->nanos, a->nanos> b->nanos);
        default:
            break;
        }
    }
    *out_ok = false;
    return 1;
}

/* ---- equality ---- */

#define EQUAL_DEPTH 64

static bool lists_equal(struct run *r, const struct mz_cel_value *a, const struct mz_cel_value *b,
                        unsigned depth)
{
    if (a->list.n != b->list.n)
        return false;
    for (size_t i = 0; i < a->list.n; i++)
        if (!values_equal(r, &a->list.v[i], &b->list.v[i], depth + 1))
            return false;
    return true;
}

static bool maps_equal(struct run *r, const struct mz_cel_value *a, const struct mz_cel_value *b,
                       unsigned depth)
{
    size_t n = a->map.ops->size(a->map.obj);
    if (n != b->map.ops->size(b->map.obj))
        return false;
    for (size_t i = 0; i < n; i++) {
        struct mz_cel_value key, x, y;
        a->map.ops->key(a->map.obj, i, r->arena, &key);
        if (!a->map.ops->get(a->map.obj, &key, r->arena, &x) ||
            !b->map.ops->get(b->map.obj, &key, r->arena, &y) || !values_equal(r, &x, &y, depth + 1))
            return false;
    }
    return true;
}

bool values_equal(struct run *r, const struct mz_cel_value *a, const struct mz_cel_value *b,
                  unsigned depth)
{
    bool ok;
    if (depth > EQUAL_DEPTH || !run_pay(r, 1))
        return false;
    if (is_number(a) && is_number(b))
        return value_cmp(a, b, &ok) == 0;
    if (a->kind != b->kind)
        return false;
    switch ((enum mz_cel_kind)a->kind) {
    case MZ_CEL_NULL:
        return true;
    case MZ_CEL_TYPE:
        return mz_str_eq(a->s, b->s);
    case MZ_CEL_STRING:
    case MZ_CEL_BYTES:
        return run_pay(r, a->s.n / 64) && mz_str_eq(a->s, b->s);
    case MZ_CEL_LIST:
        return lists_equal(r, a, b, depth);
    case MZ_CEL_MAP:
        return maps_equal(r, a, b, depth);
    default:
        return value_cmp(a, b, &ok) == 0 && ok;
    }
}

bool mz_cel_equal(const struct mz_cel_value *a, const struct mz_cel_value *b,
                  struct mz_arena *arena)
{
    struct run r MZ_UNINIT;
    r.arena = arena;
    r.cost = 0;
    r.too_dear = false;
    return values_equal(&r, a, b, 0);
}

/* ---- maps written in the expression ---- */

static bool pairs_get(const void *obj, const struct mz_cel_value *key, struct mz_arena *a,
                      struct mz_cel_value *out)
{
    const struct pairs *p = obj;
    for (size_t i = 0; i < p->n; i++)
        if (mz_cel_equal(&p->v[2 * i], key, a)) {
            *out = p->v[2 * i + 1];
            return true;
        }
    return false;
}

static size_t pairs_size(const void *obj)
{
    return ((const struct pairs *)obj)->n;
}

static void pairs_key(const void *obj, size_t i, struct mz_arena *a, struct mz_cel_value *out)
{
    (void)a;
    *out = ((const struct pairs *)obj)->v[2 * i];
}

const struct mz_cel_map map_of_pairs = { .get = pairs_get, .size = pairs_size, .key = pairs_key };

/* ---- times ---- */

struct mz_cel_value mz_cel_duration_us(int64_t us)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_DURATION,
                                  .i = us / 1000000,
                                  .nanos = (int32_t)(us % 1000000 * 1000) };
}

struct mz_cel_value mz_cel_timestamp_us(uint64_t us)
{
    return (struct mz_cel_value){ .kind = MZ_CEL_TIMESTAMP,
                                  .i = (int64_t)(us / 1000000),
                                  .nanos = (int32_t)(us % 1000000 * 1000) };
}

/* 10,000 years, as google.protobuf.Duration. */
#define DURATION_MAX INT64_C(315576000000)

static bool unit_take(struct mz_str *s, double *out_nanos)
{
    static const struct {
        const char *name;
        double nanos;
    } units[] = { { "ns", 1 },    { "us", 1e3 }, { "ms", 1e6 },
                  { "h", 36e11 }, { "m", 6e10 }, { "s", 1e9 } };
    for (size_t i = 0; i < MZ_COUNT(units); i++)
        if (mz_str_starts(*s, mz_str_c(units[i].name))) {
            *s = mz_str_skip(*s, strlen(units[i].name));
            *out_nanos = units[i].nanos;
            return true;
        }
    return false;
}

/* "1h2m3.5s", "-3ms", "0". */
bool duration_parse(struct mz_str text, struct mz_cel_value *out)
{
    bool negative = text.n && text.p[0] == '-';
    struct mz_str s = mz_str_skip(text, negative || (text.n && text.p[0] == '+'));
    int64_t seconds = 0, nanos = 0;
    bool zero = mz_str_eq(s, MZ_STR("0"));
    if (!s.n)
        return false;
    while (s.n && !zero) {
        size_t n = 0;
        while (n < s.n && s.p[n] >= '0' && s.p[n] <= '9')
            n++;
        uint64_t whole = 0;
        if ((n && !mz_str_u64((struct mz_str){ s.p, n }, &whole)) ||
            whole > (uint64_t)DURATION_MAX * 1000)
            return false;
        double part = 0, scale = 0.1, unit;
        bool digits = n > 0;
        s = mz_str_skip(s, n);
        if (s.n && s.p[0] == '.')
            for (s = mz_str_skip(s, 1); s.n && s.p[0] >= '0' && s.p[0] <= '9';
                 s = mz_str_skip(s, 1)) {
                part += (s.p[0] - '0') * scale;
                scale /= 10;
                digits = true;
            }
        if (!digits || !unit_take(&s, &unit))
            return false;
        if (unit >= 1e9) {
            uint64_t per = (uint64_t)(unit / 1e9);
            if (whole > (uint64_t)DURATION_MAX / per)
                return false;
            seconds += (int64_t)(whole * per);
        } else {
            uint64_t in_second = (uint64_t)(1e9 / unit);
            seconds += (int64_t)(whole / in_second);
            nanos += (int64_t)((double)(whole % in_second) * unit);
        }
        double more = part * unit;
        seconds += (int64_t)(more / 1e9);
        nanos += (int64_t)(fmod(more, 1e9) + 0.5);
        seconds += nanos / 1000000000;
        nanos %= 1000000000;
        if (seconds > DURATION_MAX)
            return false;
    }
    *out = (struct mz_cel_value){ .kind = MZ_CEL_DURATION,
                                  .i = negative ? -seconds : seconds,
                                  .nanos = (int32_t)(negative ? -nanos : nanos) };
    return true;
}

static bool digits_take(struct mz_str *s, unsigned n, int lo, int hi, int *out)
{
    int v = 0;
    if (s->n < n)
        return false;
    for (unsigned i = 0; i < n; i++) {
        if (s->p[i] < '0' || s->p[i] > '9')
            return false;
        v = v * 10 + (s->p[i] - '0');
    }
    *s = mz_str_skip(*s, n);
    *out = v;
    return v >= lo && v <= hi;
}

static bool char_take(struct mz_str *s, const char *any)
{
    if (!s->n || !strchr(any, s->p[0]))
        return false;
    *s = mz_str_skip(*s, 1);
    return true;
}

static bool nanos_take(struct mz_str *s, int32_t *out)
{
    int32_t nanos = 0, scale = 100000000;
    *out = 0;
    if (!char_take(s, "."))
        return true;
    if (!s->n || s->p[0] < '0' || s->p[0] > '9')
        return false;
    for (; s->n && s->p[0] >= '0' && s->p[0] <= '9'; *s = mz_str_skip(*s, 1), scale /= 10)
        nanos += (s->p[0] - '0') * scale;
    *out = nanos;
    return true;
}

/* RFC 3339: 2020-01-02T03:04:05.6Z, or +01:00 for Z. */
bool timestamp_parse(struct mz_str s, struct mz_cel_value *out)
{
    struct tm tm = { 0 };
    int hours = 0, minutes = 0;
    int32_t nanos;
    if (!digits_take(&s, 4, 1, 9999, &tm.tm_year) || !char_take(&s, "-") ||
        !digits_take(&s, 2, 1, 12, &tm.tm_mon) || !char_take(&s, "-") ||
        !digits_take(&s, 2, 1, 31, &tm.tm_mday) || !char_take(&s, "Tt") ||
        !digits_take(&s, 2, 0, 23, &tm.tm_hour) || !char_take(&s, ":") ||
        !digits_take(&s, 2, 0, 59, &tm.tm_min) || !char_take(&s, ":") ||
        !digits_take(&s, 2, 0, 60, &tm.tm_sec) || !nanos_take(&s, &nanos))
        return false;
    bool east = s.n && s.p[0] == '+';
    if (!char_take(&s, "Zz") && (!char_take(&s, "+-") || !digits_take(&s, 2, 0, 23, &hours) ||
                                 !char_take(&s, ":") || !digits_take(&s, 2, 0, 59, &minutes)))
        return false;
    int day = tm.tm_mday;
    tm.tm_year -= 1900;
    tm.tm_mon--;
    time_t t = timegm(&tm);
    int64_t shift = hours * 3600 + minutes * 60;
    *out = (struct mz_cel_value){ .kind = MZ_CEL_TIMESTAMP,
                                  .i = (int64_t)t + (east ? -shift : shift),
                                  .nanos = nanos };
    return s.n == 0 && tm.tm_mday == day; /* no 30th of February */
}

/* ---- texts ---- */

void type_name(const struct mz_cel_value *v, struct mz_cel_value *out)
{
    static const struct mz_str names[] = {
        [MZ_CEL_NULL] = MZ_STR_INIT("null_type"),
        [MZ_CEL_BOOL] = MZ_STR_INIT("bool"),
        [MZ_CEL_INT] = MZ_STR_INIT("int"),
        [MZ_CEL_UINT] = MZ_STR_INIT("uint"),
        [MZ_CEL_DOUBLE] = MZ_STR_INIT("double"),
        [MZ_CEL_STRING] = MZ_STR_INIT("string"),
        [MZ_CEL_BYTES] = MZ_STR_INIT("bytes"),
        [MZ_CEL_LIST] = MZ_STR_INIT("list"),
        [MZ_CEL_MAP] = MZ_STR_INIT("map"),
        [MZ_CEL_DURATION] = MZ_STR_INIT("google.protobuf.Duration"),
        [MZ_CEL_TIMESTAMP] = MZ_STR_INIT("google.protobuf.Timestamp"),
        [MZ_CEL_TYPE] = MZ_STR_INIT("type"),
        [MZ_CEL_ERROR] = MZ_STR_INIT("error"),
    };
    *out = (struct mz_cel_value){ .kind = MZ_CEL_TYPE, .s = names[v->kind] };
}

/* A number with its fraction, without zeros behind: "3.5". */
static size_t decimal(char *out, size_t size, uint64_t whole, uint64_t rest, unsigned digits)
{
    int n = snprintf(out, size, "%llu.%0*llu", (unsigned long long)whole, (int)digits,
                     (unsigned long long)rest);
    while (out[n - 1] == '0')
        n--;
    return (size_t)(out[n - 1] == '.' ? n - 1 : n);
}

/* As Go and absl write them: "1h2m3.5s", "139.656us". */
static struct mz_str duration_text(const struct mz_cel_value *v, struct mz_arena *a)
{
    char text[80];
    size_t n = 0;
    bool negative = v->i < 0 || v->nanos < 0;
    uint64_t s = (uint64_t)(v->i < 0 ? -v->i : v->i);
    uint64_t ns = (uint64_t)(v->nanos < 0 ? -v->nanos : v->nanos);
    if (!s && !ns)
        return MZ_STR("0");
    if (negative)
        text[n++] = '-';
    if (!s) {
        unsigned digits = ns >= 1000000 ? 6 : ns >= 1000 ? 3 : 0;
        uint64_t unit = digits == 6 ? 1000000 : digits == 3 ? 1000 : 1;
        n += decimal(text + n, sizeof(text) - n, ns / unit, ns % unit, digits);
        return mz_arena_cat(a, 2,
                            (struct mz_str[]){ { text, n },
                                               mz_str_c(digits == 6   ? "ms"
                                                        : digits == 3 ? "us"
                                                                      : "ns") });
    }
    if (s >= 3600)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%lluh", (unsigned long long)(s / 3600));
    if (s / 60 % 60)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%um", (unsigned)(s / 60 % 60));
    if (s % 60 || ns) {
        n += decimal(text + n, sizeof(text) - n, s % 60, ns, 9);
        text[n++] = 's';
    }
    return mz_arena_dup(a, (struct mz_str){ text, n });
}

static struct mz_str timestamp_text(const struct mz_cel_value *v, struct mz_arena *a)
{
    struct tm tm;
    time_t t = (time_t)v->i;
    char text[40], rest[40];
    if (!gmtime_r(&t, &tm))
        return MZ_STR("");
    size_t n = strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:", &tm);
    size_t m = decimal(rest, sizeof(rest), (uint64_t)tm.tm_sec, (uint64_t)v->nanos, 9);
    return mz_arena_cat(
        a, 4,
        (struct mz_str[]){
            { text, n }, mz_str_c(tm.tm_sec < 10 ? "0" : ""), { rest, m }, MZ_STR("+00:00") });
}

bool mz_cel_text(const struct mz_cel_value *v, struct mz_arena *a, struct mz_str *out)
{
    switch ((enum mz_cel_kind)v->kind) {
    case MZ_CEL_NULL:
        *out = MZ_STR("NULL");
        return true;
    case MZ_CEL_BOOL:
        *out = v->b ? MZ_STR("true") : MZ_STR("false");
        return true;
    case MZ_CEL_INT:
        *out = mz_arena_printf(a, "%lld", (long long)v->i);
        return true;
    case MZ_CEL_UINT:
        *out = mz_arena_printf(a, "%llu", (unsigned long long)v->u);
        return true;
    case MZ_CEL_DOUBLE:
        *out = mz_arena_printf(a, "%g", v->d);
        return true;
    case MZ_CEL_STRING:
    case MZ_CEL_BYTES:
        *out = v->s;
        return true;
    case MZ_CEL_LIST:
        *out = MZ_STR("CelList value");
        return true;
    case MZ_CEL_MAP:
        *out = v->map.ops->text ? v->map.ops->text(v->map.obj, a) : MZ_STR("CelMap value");
        return true;
    case MZ_CEL_TYPE:
        *out = MZ_STR("CelType value");
        return true;
    case MZ_CEL_DURATION:
        *out = duration_text(v, a);
        return true;
    case MZ_CEL_TIMESTAMP:
        *out = timestamp_text(v, a);
        return true;
    case MZ_CEL_ERROR:
        break;
    }
    *out = MZ_STR("");
    return false;
}
