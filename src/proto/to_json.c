/* A message to JSON, as protobuf's own printer does it: fields by number, nothing that has its default. */
#include "base/buf.h"
#include "proto/proto_priv.h"
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

struct printer {
    struct mz_buf *out;
    unsigned flags, level;
    unsigned secret; /* within how many sensitive fields */
    const ProtobufCMessageDescriptor
        *as; /* what the Struct that comes next stands for; NULL: unknown */
};
#define REDACTED "[redacted]"

static void put(struct printer *p, const char *text)
{
    mz_buf_append(p->out, text, strlen(text));
}

static void newline(struct printer *p)
{
    if (!(p->flags & MZ_JSON_PRETTY))
        return;
    put(p, "\n");
    for (unsigned i = 0; i < p->level; i++)
        put(p, " ");
}

/* An object or list: open, item before each element, close. */
static void open_group(struct printer *p, const char *bracket)
{
    put(p, bracket);
    p->level++;
}

static void next_item(struct printer *p, size_t *count)
{
    if ((*count)++)
        put(p, ",");
    newline(p);
}

static void close_group(struct printer *p, const char *bracket, size_t count)
{
    p->level--;
    if (count)
        newline(p);
    put(p, bracket);
}

/* What protobuf's printer escapes beyond RFC 8259: invisible characters, and what ends a script element in HTML. */
static const uint32_t escaped[][2] = {
    { 0x00, 0x1f },     { '<', '<' },       { '>', '>' },       { 0x7f, 0x9f },
    { 0xad, 0xad },     { 0x6dd, 0x6dd },   { 0x70f, 0x70f },   { 0x17b4, 0x17b5 },
    { 0x200b, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x2064 }, { 0x206a, 0x206f },
    { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb },
};

static bool is_escaped(uint32_t c)
{
    for (size_t i = 0; i < MZ_COUNT(escaped); i++)
        if (c >= escaped[i][0] && c <= escaped[i][1])
            return true;
    return false;
}

static size_t decode(const unsigned char *s, uint32_t *out)
{
    size_t n = s[0] < 0x80 ? 1 : s[0] < 0xe0 ? 2 : s[0] < 0xf0 ? 3 : 4;
    *out = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++)
        *out = *out << 6 | (s[i] & 0x3fu);
    return n;
}

/* @s is valid UTF-8. */
static void put_string(struct printer *p, struct mz_str s)
{
    static const char from[] = "\"\\\b\f\n\r\t", to[] = "\"\\bfnrt";
    put(p, "\"");
    size_t plain = 0, i = 0;
    while (i < s.n) {
        uint32_t c;
        size_t n = decode((const unsigned char *)s.p + i, &c);
        const char *brief = c && c < 0x80 ? strchr(from, (int)c) : NULL;
        if (brief || is_escaped(c)) {
            mz_buf_append(p->out, s.p + plain, i - plain);
            if (brief)
                mz_buf_printf(p->out, "\\%c", to[brief - from]);
            else
                mz_buf_printf(p->out, "\\u%04x", c);
            plain = i + n;
        }
        i += n;
    }
    mz_buf_append(p->out, s.p + plain, s.n - plain);
    put(p, "\"");
}

static void put_name(struct printer *p, const char *name)
{
    put_string(p, mz_str_c(name));
    put(p, p->flags & MZ_JSON_PRETTY ? ": " : ":");
}

/* The shortest text that reads back the same. */
static void put_number(struct printer *p, double v, int few, int many)
{
    char text[40];
    snprintf(text, sizeof(text), "%.*g", few, v);
    double back = many < 10 ? (double)strtof(text, NULL) : strtod(text, NULL);
    if (back < v || back > v)
        snprintf(text, sizeof(text), "%.*g", many, v);
    if (isnan(v))
        put(p, "\"NaN\"");
    else if (isinf(v))
        put(p, v > 0 ? "\"Infinity\"" : "\"-Infinity\"");
    else
        put(p, text);
}

static void put_bytes(struct printer *p, const ProtobufCBinaryData *b)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    put(p, "\"");
    for (size_t i = 0; i < b->len; i += 3) {
        size_t left = b->len - i;
        uint32_t v = (uint32_t)b->data[i] << 16 | (left > 1 ? (uint32_t)b->data[i + 1] << 8 : 0) |
                     (left > 2 ? b->data[i + 2] : 0);
        char four[4] = { digits[v >> 18], digits[v >> 12 & 63],
                         left > 1 ? digits[v >> 6 & 63] : '=', left > 2 ? digits[v & 63] : '=' };
        mz_buf_append(p->out, four, 4);
    }
    put(p, "\"");
}

static void put_enum(struct printer *p, const ProtobufCEnumDescriptor *e, int number)
{
    const ProtobufCEnumValue *v = protobuf_c_enum_descriptor_get_value(e, number);
    if (e == &pb_NullValue__descriptor)
        put(p, "null");
    else if (v)
        put_string(p, mz_str_c(v->name));
    else
        mz_buf_printf(p->out, "%d", number);
}

static void put_message(struct printer *p, const ProtobufCMessage *m);

static void put_value(struct printer *p, const ProtobufCFieldDescriptor *f, const void *at)
{
    static uint8_t text[] = REDACTED;
    static const ProtobufCBinaryData redacted = { sizeof(text) - 1, text };
    switch (f->type) {
    case PROTOBUF_C_TYPE_INT32:
    case PROTOBUF_C_TYPE_SINT32:
    case PROTOBUF_C_TYPE_SFIXED32:
        mz_buf_printf(p->out, "%" PRId32, *(const int32_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT32:
    case PROTOBUF_C_TYPE_FIXED32:
        mz_buf_printf(p->out, "%" PRIu32, *(const uint32_t *)at);
        break;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
        mz_buf_printf(p->out, "\"%" PRId64 "\"", *(const int64_t *)at);
        break;
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
        mz_buf_printf(p->out, "\"%" PRIu64 "\"", *(const uint64_t *)at);
        break;
    case PROTOBUF_C_TYPE_FLOAT:
        put_number(p, (double)*(const float *)at, 6, 9);
        break;
    case PROTOBUF_C_TYPE_DOUBLE:
        put_number(p, *(const double *)at, 15, 17);
        break;
    case PROTOBUF_C_TYPE_BOOL:
        put(p, *(const protobuf_c_boolean *)at ? "true" : "false");
        break;
    case PROTOBUF_C_TYPE_ENUM:
        put_enum(p, f->descriptor, *(const int *)at);
        break;
    case PROTOBUF_C_TYPE_STRING:
        put_string(p, p->secret ? MZ_STR(REDACTED) : mz_str_c(*(char *const *)at));
        break;
    case PROTOBUF_C_TYPE_BYTES:
        put_bytes(p, p->secret ? &redacted : (const ProtobufCBinaryData *)at);
        break;
    case PROTOBUF_C_TYPE_MESSAGE:
        put_message(p, *(ProtobufCMessage *const *)at);
        break;
    }
}

static void put_list(struct printer *p, const ProtobufCFieldDescriptor *f,
                     const ProtobufCMessage *m)
{
    const char *v = *(char *const *)field_at(f, m);
    size_t n = *(const size_t *)quantifier_at(f, m), count = 0;
    open_group(p, "[");
    for (size_t i = 0; i < n; i++) {
        next_item(p, &count);
        put_value(p, f, v + i * field_size(f));
    }
    close_group(p, "]", count);
}

static void put_key(struct printer *p, const ProtobufCFieldDescriptor *f, const void *at)
{
    bool quoted = f->type == PROTOBUF_C_TYPE_STRING ||
                  field_size(f) == 8; /* 64-bit numbers bring their quotes */
    unsigned secret = p->secret;
    p->secret = 0; /* of values */
    if (!quoted)
        put(p, "\"");
    put_value(p, f, at);
    put(p, quoted ? "" : "\"");
    put(p, p->flags & MZ_JSON_PRETTY ? ": " : ":");
    p->secret = secret;
}

static void put_map(struct printer *p, const ProtobufCFieldDescriptor *f,
                    const ProtobufCMessageDescriptor *entry, const ProtobufCMessage *m)
{
    ProtobufCMessage *const *v = *(ProtobufCMessage ***)field_at(f, m);
    size_t n = *(const size_t *)quantifier_at(f, m), count = 0;
    open_group(p, "{");
    for (size_t i = 0; i < n; i++) {
        const void *value = field_at(&entry->fields[1], v[i]);
        next_item(p, &count);
        put_key(p, &entry->fields[0], field_at(&entry->fields[0], v[i]));
        if (entry->fields[1].type == PROTOBUF_C_TYPE_MESSAGE && !*(ProtobufCMessage *const *)value)
            put(p, "{}"); /* an entry that came in binary without its value */
        else
            put_value(p, &entry->fields[1], value);
    }
    close_group(p, "}", count);
}

static bool is_secret(const struct printer *p, const ProtobufCMessageDescriptor *d,
                      const ProtobufCFieldDescriptor *f)
{
    return (p->flags & MZ_JSON_REDACT) && field_is_sensitive(d, f);
}

static void put_fields(struct printer *p, const ProtobufCMessage *m, size_t *count)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        bool shown =
            field_is_set(f, m) ||
            ((p->flags & MZ_JSON_DEFAULTS) && !is_oneof(f) &&
             (f->type != PROTOBUF_C_TYPE_MESSAGE || f->label == PROTOBUF_C_LABEL_REPEATED));
        if (!shown)
            continue;
        next_item(p, count);
        put_name(p, f->name);
        const ProtobufCMessageDescriptor *entry = field_map_entry(d, f);
        bool secret = is_secret(p, d, f);
        p->secret += secret;
        if (entry)
            put_map(p, f, entry, m);
        else if (f->label == PROTOBUF_C_LABEL_REPEATED)
            put_list(p, f, m);
        else
            put_value(p, f, field_at(f, m));
        p->secret -= secret;
    }
}

static void put_any(struct printer *p, const ProtobufCMessage *m)
{
    const pb_Any *any = (const pb_Any *)m;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_proto_ctx ctx = { /* shows whatever the bytes have */
                                .arena = a,
                                .unknown = MZ_UNKNOWN_COUNT,
                                .partial = true,
                                .control = true
    };
    const ProtobufCMessageDescriptor *d = mz_type_find(type_name_of_url(mz_str_c(any->type_url)));
    ProtobufCMessage *inner = NULL;
    struct mz_err ignored;
    size_t count = 0;
    if (d)
        (void)mz_msg_unpack(&ctx, (struct mz_str){ (const char *)any->value.data, any->value.len },
                            d, &inner, &ignored);
    open_group(p, "{");
    if (*any->type_url) {
        next_item(p, &count);
        put_name(p, "@type");
        put_string(p, mz_str_c(any->type_url));
    }
    if (inner && !well_known_find(d)) {
        p->as = type_is_typed_struct(d)
                    ? mz_type_find(type_name_of_url(typed_struct_type_url(inner)))
                    : NULL;
        put_fields(p, inner, &count);
        p->as = NULL;
    } else if (inner || any->value.len) {
        next_item(p, &count);
        put_name(p, "value");
        if (inner)
            put_message(p, inner);
        else
            put_bytes(p, &any->value);
    }
    close_group(p, "}", count);
    mz_arena_destroy(a);
}

/* Nothing, 3, 6 or 9 digits behind the seconds. */
static void put_nanos(struct printer *p, int64_t nanos)
{
    if (nanos == 0)
        return;
    int digits = nanos % 1000000 == 0 ? 3 : nanos % 1000 == 0 ? 6 : 9;
    for (int i = digits; i < 9; i++)
        nanos /= 10;
    mz_buf_printf(p->out, ".%0*" PRId64, digits, nanos);
}

static void put_duration(struct printer *p, const ProtobufCMessage *m)
{
    const pb_Duration *d = (const pb_Duration *)m;
    bool minus = d->seconds < 0 || d->nanos < 0;
    uint64_t seconds = d->seconds < 0 ? 0 - (uint64_t)d->seconds : (uint64_t)d->seconds;
    mz_buf_printf(p->out, "\"%s%" PRIu64, minus ? "-" : "", seconds);
    put_nanos(p, d->nanos < 0 ? -(int64_t)d->nanos : d->nanos);
    put(p, "s\"");
}

static void put_timestamp(struct printer *p, const ProtobufCMessage *m)
{
    const pb_Timestamp *t = (const pb_Timestamp *)m;
    struct tm tm;
    time_t at = (time_t)t->seconds;
    char text[40] = "";
    if (gmtime_r(&at, &tm))
        strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &tm);
    put(p, "\"");
    put(p, text);
    put_nanos(p, t->nanos);
    put(p, "Z\"");
}

static void put_wrapper(struct printer *p, const ProtobufCMessage *m)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
    put_value(p, f, field_at(f, m));
}

/* The type that a member names: "@type" of an Any in a Struct, "type_url" of a TypedStruct there. */
static const ProtobufCMessageDescriptor *named_type(const pb_Struct *s, const char *member)
{
    for (size_t i = 0; i < s->n_fields; i++) {
        const pb_Value *v = s->fields[i]->value;
        if (v && v->kind_case == pb_Value_KIND_STRING_VALUE &&
            strcmp(s->fields[i]->key, member) == 0)
            return mz_type_find(type_name_of_url(mz_str_c(v->string_value)));
    }
    return NULL;
}

/* A message in the form of a Struct: its sensitive members are found by their names. */
static void put_struct_as(struct printer *p, const pb_Struct *s,
                          const ProtobufCMessageDescriptor *d)
{
    size_t count = 0;
    open_group(p, "{");
    for (size_t i = 0; i < s->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = field_find(d, mz_str_c(s->fields[i]->key));
        bool secret = f && is_secret(p, d, f);
        next_item(p, &count);
        put_name(p, s->fields[i]->key);
        p->as = f ? field_message(f) : NULL;
        if (p->as == &pb_Struct__descriptor)
            p->as = type_is_typed_struct(d) ? named_type(s, "type_url") : NULL;
        p->secret += secret;
        if (s->fields[i]->value)
            put_message(p, &s->fields[i]->value->base);
        else
            put(p, "{}");
        p->secret -= secret;
    }
    p->as = NULL;
    close_group(p, "}", count);
}

static void put_struct(struct printer *p, const ProtobufCMessage *m)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
    const pb_Struct *s = (const pb_Struct *)m;
    const ProtobufCMessageDescriptor *own =
        p->flags & MZ_JSON_REDACT ? named_type(s, "@type") : NULL;
    const ProtobufCMessageDescriptor *as = own ? own : p->as;
    if (as && (p->flags & MZ_JSON_REDACT))
        put_struct_as(p, s, as);
    else
        put_map(p, f, f->descriptor, m);
}

static void put_list_value(struct printer *p, const ProtobufCMessage *m)
{
    const ProtobufCFieldDescriptor *f = &m->descriptor->fields[0];
    const pb_ListValue *l = (const pb_ListValue *)m;
    const ProtobufCMessageDescriptor *as = p->as;
    size_t count = 0;
    open_group(p, "[");
    for (size_t i = 0; i < l->n_values; i++) {
        next_item(p, &count);
        p->as = as; /* of each */
        put_value(p, f, &l->values[i]);
    }
    close_group(p, "]", count);
}

static void put_json_value(struct printer *p, const ProtobufCMessage *m)
{
    const pb_Value *v = (const pb_Value *)m;
    const ProtobufCFieldDescriptor *f =
        protobuf_c_message_descriptor_get_field(m->descriptor, v->kind_case);
    if (f)
        put_value(p, f, field_at(f, m));
    else
        put(p, "null");
}

static void put_field_mask(struct printer *p, const ProtobufCMessage *m)
{
    const pb_FieldMask *mask = (const pb_FieldMask *)m;
    put(p, "\"");
    for (size_t i = 0; i < mask->n_paths; i++) {
        if (i)
            put(p, ",");
        for (const char *c = mask->paths[i]; *c; c++) {
            bool up = c[0] == '_' && c[1] >= 'a' && c[1] <= 'z';
            c += up;
            mz_buf_printf(p->out, "%c", up ? *c - 32 : *c);
        }
    }
    put(p, "\"");
}

static const struct {
    const ProtobufCMessageDescriptor *type;
    void (*put)(struct printer *p, const ProtobufCMessage *m);
} special[] = {
    { &pb_Any__descriptor, put_any },
    { &pb_Duration__descriptor, put_duration },
    { &pb_Timestamp__descriptor, put_timestamp },
    { &pb_Struct__descriptor, put_struct },
    { &pb_Value__descriptor, put_json_value },
    { &pb_ListValue__descriptor, put_list_value },
    { &pb_FieldMask__descriptor, put_field_mask },
    { &pb_BoolValue__descriptor, put_wrapper },
    { &pb_UInt32Value__descriptor, put_wrapper },
    { &pb_UInt64Value__descriptor, put_wrapper },
    { &pb_Int32Value__descriptor, put_wrapper },
    { &pb_Int64Value__descriptor, put_wrapper },
    { &pb_DoubleValue__descriptor, put_wrapper },
    { &pb_FloatValue__descriptor, put_wrapper },
    { &pb_StringValue__descriptor, put_wrapper },
    { &pb_BytesValue__descriptor, put_wrapper },
};

static void put_message(struct printer *p, const ProtobufCMessage *m)
{
    size_t count = 0;
    for (size_t i = 0; well_known_find(m->descriptor) && i < MZ_COUNT(special); i++)
        if (special[i].type == m->descriptor) {
            special[i].put(p, m);
            return;
        }
    open_group(p, "{");
    put_fields(p, m, &count);
    close_group(p, "}", count);
}

void mz_msg_to_json(const ProtobufCMessage *msg, struct mz_buf *out, unsigned flags)
{
    struct printer p = { .out = out, .flags = flags };
    put_message(&p, msg);
}
