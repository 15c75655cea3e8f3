/* Well-known types as proto3 JSON writes them. */
#include "proto/proto_priv.h"
#include <stdlib.h>
#include <time.h>

static bool bad(struct walk *w, const struct mz_node *n, const char *what)
{
    char shown[64];
    return walk_fail(w, n, "expected %s, got %s", what, mz_node_what(n, shown));
}

/* Up to nine digits behind a point as nanoseconds; false when there are none, or more. */
static bool fraction(struct mz_str s, int32_t *out_nanos)
{
    char text[] = "000000000";
    uint64_t v;
    if (s.n == 0 || s.n > 9)
        return false;
    memcpy(text, s.p, s.n);
    if (!mz_str_u64((struct mz_str){ text, 9 }, &v))
        return false;
    *out_nanos = (int32_t)v;
    return true;
}

/* "1.5s" without its 's': seconds and nanoseconds of one sign. */
static bool duration_parts(struct mz_str s, int64_t *out_seconds, int32_t *out_nanos)
{
    bool minus = s.n && s.p[0] == '-';
    if (minus)
        s = mz_str_skip(s, 1);
    ptrdiff_t dot = mz_str_chr(s, '.');
    uint64_t seconds;
    int32_t nanos = 0;
    if (!mz_str_u64(dot < 0 ? s : (struct mz_str){ s.p, (size_t)dot }, &seconds) ||
        seconds > 315576000000)
        return false;
    if (dot >= 0 && !fraction(mz_str_skip(s, (size_t)dot + 1), &nanos))
        return false;
    *out_seconds = minus ? -(int64_t)seconds : (int64_t)seconds;
    *out_nanos = minus ? -nanos : nanos;
    return true;
}

/* Of "250ms" the number and the nanoseconds of its unit, cut off the front. */
static bool duration_unit(struct mz_str *rest, uint64_t *out_n, int32_t *out_fraction,
                          int64_t *out_unit)
{
    static const struct {
        struct mz_str name;
        int64_t nanos;
    } units[] = { { MZ_STR_INIT("ns"), 1 },           { MZ_STR_INIT("us"), 1000 },
                  { MZ_STR_INIT("\xc2\xb5s"), 1000 }, { MZ_STR_INIT("ms"), 1000000 },
                  { MZ_STR_INIT("s"), 1000000000 },   { MZ_STR_INIT("m"), 60000000000 },
                  { MZ_STR_INIT("h"), 3600000000000 } };
    size_t n = 0, dot;
    while (n < rest->n && ((rest->p[n] >= '0' && rest->p[n] <= '9') || rest->p[n] == '.'))
        n++;
    const struct mz_str number = { rest->p, n };
    const ptrdiff_t at = mz_str_chr(number, '.');
    dot = at < 0 ? n : (size_t)at;
    *out_fraction = 0;
    if (!mz_str_u64((struct mz_str){ number.p, dot }, out_n) ||
        (at >= 0 && !fraction(mz_str_skip(number, dot + 1), out_fraction)))
        return false;
    *rest = mz_str_skip(*rest, n);
    for (size_t i = 0; i < sizeof(units) / sizeof(*units); i++)
        if (mz_str_starts(*rest, units[i].name)) {
            *out_unit = units[i].nanos;
            *rest = mz_str_skip(*rest, units[i].name.n);
            return true;
        }
    return false;
}

/* "1h30m", "250ms", "1.5h"; at most the 292 years that Go has. */
static bool duration_units_text(struct mz_str s, int64_t *out_seconds, int32_t *out_nanos)
{
    const bool minus = s.n && s.p[0] == '-';
    int64_t all = 0, unit, one;
    uint64_t n;
    int32_t part;
    if (s.n && (s.p[0] == '-' || s.p[0] == '+'))
        s = mz_str_skip(s, 1);
    if (!s.n)
        return false;
    while (s.n) {
        if (!duration_unit(&s, &n, &part, &unit) || n > (uint64_t)(INT64_MAX / unit))
            return false;
        one = (int64_t)n * unit + (int64_t)((double)part * 1e-9 * (double)unit);
        if (one < 0 || all > INT64_MAX - one)
            return false;
        all += one;
    }
    *out_seconds = (minus ? -all : all) / 1000000000;
    *out_nanos = (int32_t)((minus ? -all : all) % 1000000000);
    return true;
}

static bool read_duration(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_Duration *d = (pb_Duration *)m;
    struct mz_str s = n->text;
    if (n->kind == MZ_NODE_STR && s.n && s.p[s.n - 1] == 's' &&
        duration_parts((struct mz_str){ s.p, s.n - 1 }, &d->seconds, &d->nanos))
        return true;
    if (n->kind == MZ_NODE_STR && w->ctx->units && duration_units_text(s, &d->seconds, &d->nanos))
        return true;
    return bad(w, n, "a duration such as \"1.5s\"");
}

/* Exactly @width digits at the front of @s. */
static bool take_digits(struct mz_str *s, size_t width, int *out)
{
    uint64_t v;
    if (s->n < width || !mz_str_u64((struct mz_str){ s->p, width }, &v))
        return false;
    *s = mz_str_skip(*s, width);
    *out = (int)v;
    return true;
}

static bool take_char(struct mz_str *s, const char *set)
{
    if (!s->n || !*s->p || !strchr(set, *s->p))
        return false;
    *s = mz_str_skip(*s, 1);
    return true;
}

/* "Z" or +hh:mm at the end of a timestamp, as seconds east of Greenwich. */
static bool offset_parts(struct mz_str s, int *out_seconds)
{
    int h, min, sign = s.n && s.p[0] == '-' ? -1 : 1;
    *out_seconds = 0;
    if (mz_str_eq(s, MZ_STR("Z")) || mz_str_eq(s, MZ_STR("z")))
        return true;
    if (!take_char(&s, "+-") || !take_digits(&s, 2, &h) || !take_char(&s, ":") ||
        !take_digits(&s, 2, &min) || s.n)
        return false;
    *out_seconds = sign * (h * 3600 + min * 60);
    return h < 24 && min < 60;
}

static bool timestamp_parts(struct mz_str s, int64_t *out_seconds, int32_t *out_nanos)
{
    struct tm t = { 0 };
    int year, month, east;
    if (!take_digits(&s, 4, &year) || !take_char(&s, "-") || !take_digits(&s, 2, &month) ||
        !take_char(&s, "-") || !take_digits(&s, 2, &t.tm_mday) || !take_char(&s, "Tt") ||
        !take_digits(&s, 2, &t.tm_hour) || !take_char(&s, ":") || !take_digits(&s, 2, &t.tm_min) ||
        !take_char(&s, ":") || !take_digits(&s, 2, &t.tm_sec))
        return false;
    if (take_char(&s, ".")) {
        size_t n = strspn(s.p, "0123456789");
        if (!fraction((struct mz_str){ s.p, n }, out_nanos))
            return false;
        s = mz_str_skip(s, n);
    }
    t.tm_year = year - 1900;
    t.tm_mon = month - 1;
    struct tm given = t;
    int64_t at = timegm(&t); /* moves what is out of range, which is how a 31st of June is found */
    bool same = t.tm_mon == given.tm_mon && t.tm_mday == given.tm_mday &&
                t.tm_hour == given.tm_hour && t.tm_min == given.tm_min && t.tm_sec == given.tm_sec;
    if (year < 1 || !same || !offset_parts(s, &east))
        return false;
    *out_seconds = at - east;
    return true;
}

static bool read_timestamp(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_Timestamp *t = (pb_Timestamp *)m;
    if (n->kind == MZ_NODE_STR && timestamp_parts(n->text, &t->seconds, &t->nanos))
        return true;
    return bad(w, n, "a time such as \"2026-01-31T12:00:00Z\"");
}

static bool read_wrapper(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
    return value_read(w, n, f, field_at(f, m));
}

static pb_Value *value_new(struct walk *w)
{
    return (pb_Value *)message_new(w->arena, &pb_Value__descriptor);
}

static bool read_struct(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_Struct *out = (pb_Struct *)m;
    if (n->kind != MZ_NODE_MAP)
        return bad(w, n, "an object");
    out->fields = mz_arena_alloc(w->arena, sizeof(pb_Struct_FieldsEntry *) * n->n + 1);
    struct step s = { w->top, { 0 }, STEP_KEY, 0 };
    bool ok = true;
    w->top = &s;
    for (uint32_t i = 0; ok && i < n->n; i++) {
        const struct mz_pair *p = &n->pairs[i];
        struct mz_node key = {
            .kind = MZ_NODE_STR, .line = p->line, .col = p->col, .text = p->key
        };
        pb_Struct_FieldsEntry *e =
            (pb_Struct_FieldsEntry *)message_new(w->arena, &pb_Struct_FieldsEntry__descriptor);
        s.name = p->key;
        e->value = value_new(w);
        out->fields[out->n_fields++] = e;
        ok = value_read(w, &key, &e->base.descriptor->fields[0], &e->key) &&
             message_read(w, p->value, &e->value->base);
    }
    w->top = s.up;
    return ok;
}

static bool read_list(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_ListValue *out = (pb_ListValue *)m;
    if (n->kind != MZ_NODE_LIST)
        return bad(w, n, "a list");
    out->values = mz_arena_alloc(w->arena, sizeof(pb_Value *) * n->n + 1);
    struct step s = { w->top, { 0 }, STEP_INDEX, 0 };
    bool ok = true;
    w->top = &s;
    for (; ok && s.index < n->n; s.index++) {
        pb_Value *v = value_new(w);
        out->values[out->n_values++] = v;
        ok = message_read(w, n->list[s.index], &v->base);
    }
    w->top = s.up;
    return ok;
}

static bool read_value_text(struct walk *w, const struct mz_node *n, pb_Value *v)
{
    struct mz_node text = *n;
    text.kind = MZ_NODE_STR; /* large YAML integers keep all their digits this way, as with Envoy */
    v->kind_case = pb_Value_KIND_STRING_VALUE;
    return value_read(
        w, &text,
        protobuf_c_message_descriptor_get_field_by_name(v->base.descriptor, "string_value"),
        &v->string_value);
}

static bool read_value_any(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_Value *v = (pb_Value *)m;
    switch (n->kind) {
    case MZ_NODE_NULL:
        v->kind_case = pb_Value_KIND_NULL_VALUE;
        return true;
    case MZ_NODE_BOOL:
        v->kind_case = pb_Value_KIND_BOOL_VALUE;
        v->bool_value = n->b;
        return true;
    case MZ_NODE_STR:
    case MZ_NODE_NUM:
        if (n->kind == MZ_NODE_STR ? !(n->fraction && w->ctx->fractions)
                                   : n->loose && !w->ctx->fractions)
            return read_value_text(w, n, v);
        v->kind_case = pb_Value_KIND_NUMBER_VALUE;
        return value_read(
            w, n, protobuf_c_message_descriptor_get_field_by_name(m->descriptor, "number_value"),
            &v->number_value);
    case MZ_NODE_LIST:
        v->kind_case = pb_Value_KIND_LIST_VALUE;
        v->list_value = (pb_ListValue *)message_new(w->arena, &pb_ListValue__descriptor);
        return read_list(w, n, &v->list_value->base);
    case MZ_NODE_MAP:
        v->kind_case = pb_Value_KIND_STRUCT_VALUE;
        v->struct_value = (pb_Struct *)message_new(w->arena, &pb_Struct__descriptor);
        return read_struct(w, n, &v->struct_value->base);
    }
    return false;
}

/* "a.bC,d" with lowerCamel parts; the message has them in snake_case. */
static bool read_field_mask(struct walk *w, const struct mz_node *n, ProtobufCMessage *m)
{
    pb_FieldMask *out = (pb_FieldMask *)m;
    if (n->kind != MZ_NODE_STR)
        return bad(w, n, "field paths joined by commas");
    out->paths = mz_arena_alloc(w->arena, sizeof(*out->paths) * (n->text.n + 1));
    struct mz_str rest = n->text, part;
    while (mz_str_split(&rest, ',', &part)) {
        char *to = mz_arena_alloc(w->arena, part.n * 2 + 1);
        out->paths[out->n_paths++] = to;
        for (size_t i = 0; i < part.n; i++) {
            if (part.p[i] == '_' || !part.p[i])
                return bad(w, n, "field paths in lowerCamel");
            if (part.p[i] >= 'A' && part.p[i] <= 'Z')
                *to++ = '_';
            *to++ = mz_lower(part.p[i]);
        }
        *to = 0;
    }
    return true;
}

static const struct well_known table[] = {
    { &pb_Any__descriptor, any_read, false, false },
    { &pb_Duration__descriptor, read_duration, false, true },
    { &pb_Timestamp__descriptor, read_timestamp, false, true },
    { &pb_Struct__descriptor, read_struct, false, false },
    { &pb_Value__descriptor, read_value_any, true, false },
    { &pb_ListValue__descriptor, read_list, false, false },
    { &pb_FieldMask__descriptor, read_field_mask, false, true },
    { &pb_BoolValue__descriptor, read_wrapper, false, true },
    { &pb_UInt32Value__descriptor, read_wrapper, false, true },
    { &pb_UInt64Value__descriptor, read_wrapper, false, true },
    { &pb_Int32Value__descriptor, read_wrapper, false, true },
    { &pb_Int64Value__descriptor, read_wrapper, false, true },
    { &pb_DoubleValue__descriptor, read_wrapper, false, true },
    { &pb_FloatValue__descriptor, read_wrapper, false, true },
    { &pb_StringValue__descriptor, read_wrapper, false, true },
    { &pb_BytesValue__descriptor, read_wrapper, false, true },
};

/* What their text form cannot exceed, for those that came as fields or in binary. */
bool well_known_check(const ProtobufCMessage *m, struct mz_err *err)
{
    if (m->descriptor == &pb_Duration__descriptor) {
        const pb_Duration *d = (const pb_Duration *)m;
        bool mixed = (d->seconds < 0 && d->nanos > 0) || (d->seconds > 0 && d->nanos < 0);
        if (mixed || d->seconds < -315576000000 || d->seconds > 315576000000 ||
            d->nanos < -999999999 || d->nanos > 999999999)
            return mz_err_set(err, "%lld seconds and %d nanoseconds is not a duration",
                              (long long)d->seconds, d->nanos);
    } else if (m->descriptor == &pb_Timestamp__descriptor) {
        const pb_Timestamp *t = (const pb_Timestamp *)m;
        if (t->seconds < -62135596800 || t->seconds > 253402300799 || t->nanos < 0 ||
            t->nanos > 999999999)
            return mz_err_set(err, "%lld seconds and %d nanoseconds is not a time",
                              (long long)t->seconds, t->nanos);
    }
    return true;
}

const struct well_known *well_known_find(const ProtobufCMessageDescriptor *d)
{
    if (strcmp(d->package_name, "google.protobuf") != 0)
        return NULL;
    for (size_t i = 0; i < MZ_COUNT(table); i++)
        if (table[i].type == d)
            return &table[i];
    return NULL;
}

static const struct mz_node *value_to_tree(struct mz_arena *a, const pb_Value *v)
{
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_NULL;
    switch (v ? v->kind_case : pb_Value_KIND__NOT_SET) { /* a map entry without a value has none */
    case pb_Value_KIND_NUMBER_VALUE:
        n->kind = MZ_NODE_NUM;
        n->text = mz_arena_printf(a, "%.17g", v->number_value);
        break;
    case pb_Value_KIND_STRING_VALUE:
        n->kind = MZ_NODE_STR;
        n->text = mz_str_c(v->string_value);
        break;
    case pb_Value_KIND_BOOL_VALUE:
        n->kind = MZ_NODE_BOOL;
        n->b = v->bool_value;
        break;
    case pb_Value_KIND_STRUCT_VALUE:
        return mz_struct_to_tree(a, v->struct_value);
    case pb_Value_KIND_LIST_VALUE:
        n->kind = MZ_NODE_LIST;
        n->n = (uint32_t)v->list_value->n_values;
        n->list = mz_arena_alloc(a, sizeof(struct mz_node *) * n->n + 1);
        for (uint32_t i = 0; i < n->n; i++)
            n->list[i] = value_to_tree(a, v->list_value->values[i]);
        break;
    case pb_Value_KIND__NOT_SET:
    case pb_Value_KIND_NULL_VALUE:
    default:
        break;
    }
    return n;
}

/* Recurses; the message came through a reader that bounds its depth. */
const struct mz_node *mz_struct_to_tree(struct mz_arena *a, const pb_Struct *s)
{
    struct mz_node *n = mz_arena_new0(a, struct mz_node);
    n->kind = MZ_NODE_MAP;
    n->n = s ? (uint32_t)s->n_fields : 0;
    n->pairs = mz_arena_alloc0(a, sizeof(*n->pairs) * n->n + 1);
    for (uint32_t i = 0; i < n->n; i++) {
        n->pairs[i].key = mz_str_c(s->fields[i]->key);
        n->pairs[i].value = value_to_tree(a, s->fields[i]->value);
    }
    return n;
}

/* Units of @nanos_each, rounded up; -1s, 1e300s and the like are errors of the configuration. */
static bool duration_units(const pb_Duration *d, int64_t nanos_each, uint64_t *out,
                           struct mz_err *err)
{
    if (d->seconds < 0 || d->nanos < 0)
        return mz_err_set(err, "must not be negative, is %lld.%09ds", (long long)d->seconds,
                          abs(d->nanos));
    if (d->seconds > 315576000000 || d->nanos > 999999999)
        return mz_err_set(err, "%lld seconds and %d nanoseconds is not a duration",
                          (long long)d->seconds, d->nanos);
    *out = (uint64_t)d->seconds * (uint64_t)(1000000000 / nanos_each) +
           (uint64_t)((d->nanos + nanos_each - 1) / nanos_each);
    return true;
}

bool mz_duration_ms(const pb_Duration *d, uint64_t otherwise, uint64_t *out_ms, struct mz_err *err)
{
    *out_ms = otherwise;
    return !d || duration_units(d, 1000000, out_ms, err);
}

bool mz_duration_us(const pb_Duration *d, uint64_t otherwise, uint64_t *out_us, struct mz_err *err)
{
    *out_us = otherwise;
    return !d || duration_units(d, 1000, out_us, err);
}
