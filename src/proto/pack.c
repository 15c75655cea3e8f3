/* Packing, backwards (pack.h). */
#include "proto/pack.h"
#include "base/alloc.h"
#include <string.h>

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

static void grow(struct mz_packer *p, size_t n)
{
    const size_t have = (size_t)(p->mem + p->size - p->at);
    size_t size = p->size * 2;
    while (size - have < n)
        size = mz_mul(size, 2);
    unsigned char *more = mz_alloc(MZ_MEM_CONFIG, size);
    memcpy(more + size - have, p->at, have);
    mz_free(MZ_MEM_CONFIG, p->more);
    p->mem = p->more = more;
    p->size = size;
    p->at = more + size - have;
}

/* @n octets in front of all others. */
static unsigned char *before(struct mz_packer *p, size_t n)
{
    if (MZ_UNLIKELY((size_t)(p->at - p->mem) < n))
        grow(p, n);
    p->at -= n;
    return p->at;
}

static void put(struct mz_packer *p, const void *bytes, size_t n)
{
    unsigned char *to = before(p, n);
    if (n)
        memcpy(to, bytes, n);
}

static void put_varint(struct mz_packer *p, uint64_t v)
{
    if (MZ_LIKELY(v < 0x80)) {
        *before(p, 1) = (unsigned char)v;
        return;
    }
    unsigned char *to = before(p, ((unsigned)(63 - __builtin_clzll(v)) * 9 + 73) / 64);
    for (; v >= 0x80; v >>= 7)
        *to++ = (unsigned char)(v | 0x80);
    *to = (unsigned char)v;
}

static void put_tag(struct mz_packer *p, uint32_t id, enum wire_type wire)
{
    put_varint(p, (uint64_t)id << 3 | wire);
}

static void put_message(struct mz_packer *p, const ProtobufCMessage *m);

static size_t written(const struct mz_packer *p)
{
    return (size_t)(p->mem + p->size - p->at);
}

/* One value without its tag, and how it stands on the wire. */
static enum wire_type put_value(struct mz_packer *p, ProtobufCType type, const void *at)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SINT32: {
        const int32_t v = *(const int32_t *)at;
        put_varint(p, ((uint32_t)v << 1) ^ (uint32_t) - (v < 0));
        return WIRE_VARINT;
    }
    case PROTOBUF_C_TYPE_SINT64: {
        const int64_t v = *(const int64_t *)at;
        put_varint(p, ((uint64_t)v << 1) ^ (uint64_t) - (int64_t)(v < 0));
        return WIRE_VARINT;
    }
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_INT32:
        put_varint(p, (uint64_t)(int64_t) * (const int32_t *)at);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_UINT32:
        put_varint(p, *(const uint32_t *)at);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_UINT64:
        put_varint(p, *(const uint64_t *)at);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_BOOL:
        put_varint(p, *(const protobuf_c_boolean *)at != 0);
        return WIRE_VARINT;
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: /* least octet first, as everything here runs on */
        put(p, at, 4);
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        put(p, at, 8);
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)at;
        const size_t n = text ? strlen(text) : 0;
        put(p, text, n);
        put_varint(p, n);
        return WIRE_BYTES;
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = at;
        put(p, b->data, b->len);
        put_varint(p, b->len);
        return WIRE_BYTES;
    }
    case PROTOBUF_C_TYPE_MESSAGE: {
        const size_t had = written(p);
        const ProtobufCMessage *m = *(const ProtobufCMessage *const *)at;
        if (m)
            put_message(p, m);
        put_varint(p, written(p) - had);
        return WIRE_BYTES;
    }
    }
    return WIRE_BYTES; /* there are no others */
}

static size_t size_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_BOOL:
        return sizeof(protobuf_c_boolean);
    case PROTOBUF_C_TYPE_INT64:
    case PROTOBUF_C_TYPE_SINT64:
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_UINT64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return 8;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_MESSAGE:
        return sizeof(void *);
    case PROTOBUF_C_TYPE_BYTES:
        return sizeof(ProtobufCBinaryData);
    default:
        return 4;
    }
}

static void put_repeated(struct mz_packer *p, const ProtobufCFieldDescriptor *f, const void *at,
                         size_t n)
{
    const char *v = *(const char *const *)at;
    const size_t size = size_of(f->type), had = written(p);
    const bool packed = f->flags & PROTOBUF_C_FIELD_FLAG_PACKED;
    for (size_t i = n; i-- > 0;) {
        const enum wire_type w = put_value(p, f->type, v + i * size);
        if (!packed)
            put_tag(p, f->id, w);
    }
    if (packed && n) {
        put_varint(p, written(p) - had);
        put_tag(p, f->id, WIRE_BYTES);
    }
}

/* A pointer that is set, and not to the default of proto2. */
static bool is_given(const ProtobufCFieldDescriptor *f, const void *at)
{
    const void *v = *(const void *const *)at;
    return v && v != f->default_value;
}

/* What proto3 leaves out: its default. */
static bool is_zero(const ProtobufCFieldDescriptor *f, const void *at)
{
    switch (f->type) {
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)at;
        return !text || !*text;
    }
    case PROTOBUF_C_TYPE_MESSAGE:
        return !*(const void *const *)at;
    case PROTOBUF_C_TYPE_BYTES:
        return !((const ProtobufCBinaryData *)at)->len;
    case PROTOBUF_C_TYPE_FLOAT:
        return *(const float *)at == 0; /* -0, too, as protobuf-c has it */
    case PROTOBUF_C_TYPE_DOUBLE:
        return *(const double *)at == 0;
    case PROTOBUF_C_TYPE_BOOL:
        return !*(const protobuf_c_boolean *)at;
    default:
        return size_of(f->type) == 8 ? !*(const uint64_t *)at : !*(const uint32_t *)at;
    }
}

/* Of a field that is no list. */
static bool is_written(const ProtobufCFieldDescriptor *f, const void *quantifier, const void *at)
{
    const bool pointer = f->type == PROTOBUF_C_TYPE_MESSAGE || f->type == PROTOBUF_C_TYPE_STRING;
    if (f->label == PROTOBUF_C_LABEL_REQUIRED)
        return true;
    if (f->flags & PROTOBUF_C_FIELD_FLAG_ONEOF)
        return *(const uint32_t *)quantifier == f->id && (!pointer || is_given(f, at));
    if (f->label == PROTOBUF_C_LABEL_NONE)
        return !is_zero(f, at);
    return pointer ? is_given(f, at) : *(const protobuf_c_boolean *)quantifier != 0;
}

static void put_field(struct mz_packer *p, const ProtobufCFieldDescriptor *f, const char *m)
{
    const void *at = m + f->offset, *quantifier = m + f->quantifier_offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const size_t n = *(const size_t *)quantifier;
        if (n)
            put_repeated(p, f, at, n);
    } else if (is_written(f, quantifier, at)) {
        put_tag(p, f->id, put_value(p, f->type, at));
    }
}

/* Recurses as deep as the message is: its readers and builders bound that. */
static void put_message(struct mz_packer *p, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    for (size_t i = m->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *u = &m->unknown_fields[i];
        put(p, u->data, u->len); /* with their length, where they have one */
        put_tag(p, u->tag, (enum wire_type)u->wire_type);
    }
    for (unsigned i = d->n_fields; i-- > 0;)
        put_field(p, &d->fields[i], (const char *)m);
}

struct mz_str mz_packer_pack(struct mz_packer *p, const ProtobufCMessage *m)
{
    p->mem = p->own;
    p->size = sizeof(p->own);
    p->at = p->mem + p->size;
    p->more = NULL;
    put_message(p, m);
    return (struct mz_str){ (const char *)p->at, written(p) };
}

void mz_packer_fini(struct mz_packer *p)
{
    mz_free(MZ_MEM_CONFIG, p->more);
}
