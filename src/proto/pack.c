/* Packing, backwards (pack.h). */
#include "proto/pack.h"
#include "base/alloc.h"
#include "proto/proto_priv.h"
#include <string.h>

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

enum { HEAD = 20 }; /* the longest tag and length */

static unsigned char *grow(struct mz_packer *p, unsigned char *at, size_t n)
{
    const size_t have = (size_t)(p->mem + p->size - at);
    size_t size = p->size * 2;
    while (size - have < n)
        size = mz_mul(size, 2);
    unsigned char *more = mz_alloc(MZ_MEM_CONFIG, size);
    memcpy(more + size - have, at, have);
    mz_free(MZ_MEM_CONFIG, p->more);
    p->mem = p->more = more;
    p->size = size;
    return more + size - have;
}

/* What was written so far, with room for @n octets in front of it. */
static inline unsigned char *room(struct mz_packer *p, unsigned char *at, size_t n)
{
    return MZ_LIKELY((size_t)(at - p->mem) >= n) ? at : grow(p, at, n);
}

/* The rest writes in front of @at, where there is room, and returns the new begin. */
static inline unsigned char *put_varint(unsigned char *at, uint64_t v)
{
    if (MZ_LIKELY(v < 0x80)) {
        *--at = (unsigned char)v;
        return at;
    }
    at -= ((unsigned)(63 - __builtin_clzll(v)) * 9 + 73) / 64;
    unsigned char *to = at;
    for (; v >= 0x80; v >>= 7)
        *to++ = (unsigned char)(v | 0x80);
    *to = (unsigned char)v;
    return at;
}

static inline unsigned char *put_tag(unsigned char *at, uint32_t id, enum wire_type wire)
{
    return put_varint(at, (uint64_t)id << 3 | wire);
}

static inline unsigned char *put(unsigned char *at, const void *bytes, size_t n)
{
    at -= n;
    if (n)
        memcpy(at, bytes, n);
    return at;
}

static unsigned char *put_message(struct mz_packer *p, unsigned char *at,
                                  const ProtobufCMessage *m);

static size_t written(const struct mz_packer *p, const unsigned char *at)
{
    return (size_t)(p->mem + p->size - at);
}

static unsigned char *put_bytes(struct mz_packer *p, unsigned char *at, const void *bytes, size_t n)
{
    at = put(room(p, at, n + HEAD), bytes, n);
    return put_varint(at, n);
}

static enum wire_type wire_of(ProtobufCType type)
{
    switch (type) {
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT:
        return WIRE_32;
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return WIRE_64;
    case PROTOBUF_C_TYPE_STRING:
    case PROTOBUF_C_TYPE_BYTES:
    case PROTOBUF_C_TYPE_MESSAGE:
        return WIRE_BYTES;
    default:
        return WIRE_VARINT;
    }
}

/* One value, with room for its tag. */
static unsigned char *put_value(struct mz_packer *p, unsigned char *at, ProtobufCType type,
                                const void *value)
{
    switch (type) {
    case PROTOBUF_C_TYPE_MESSAGE: {
        const size_t had = written(p, at);
        const ProtobufCMessage *m = *(const ProtobufCMessage *const *)value;
        if (m)
            at = put_message(p, at, m);
        at = room(p, at, HEAD);
        return put_varint(at, written(p, at) - had);
    }
    case PROTOBUF_C_TYPE_STRING: {
        const char *text = *(const char *const *)value;
        return put_bytes(p, at, text, text ? strlen(text) : 0);
    }
    case PROTOBUF_C_TYPE_BYTES: {
        const ProtobufCBinaryData *b = value;
        return put_bytes(p, at, b->data, b->len);
    }
    default:
        break;
    }
    at = room(p, at, HEAD);
    switch (type) {
    case PROTOBUF_C_TYPE_SINT32: {
        const int32_t v = *(const int32_t *)value;
        return put_varint(at, ((uint32_t)v << 1) ^ (uint32_t) - (v < 0));
    }
    case PROTOBUF_C_TYPE_SINT64: {
        const int64_t v = *(const int64_t *)value;
        return put_varint(at, ((uint64_t)v << 1) ^ (uint64_t) - (int64_t)(v < 0));
    }
    case PROTOBUF_C_TYPE_ENUM:
    case PROTOBUF_C_TYPE_INT32:
        return put_varint(at, (uint64_t)(int64_t) * (const int32_t *)value);
    case PROTOBUF_C_TYPE_UINT32:
        return put_varint(at, *(const uint32_t *)value);
    case PROTOBUF_C_TYPE_BOOL:
        return put_varint(at, *(const protobuf_c_boolean *)value != 0);
    case PROTOBUF_C_TYPE_SFIXED32:
    case PROTOBUF_C_TYPE_FIXED32:
    case PROTOBUF_C_TYPE_FLOAT: /* least octet first, as everything here runs on */
        return put(at, value, 4);
    case PROTOBUF_C_TYPE_SFIXED64:
    case PROTOBUF_C_TYPE_FIXED64:
    case PROTOBUF_C_TYPE_DOUBLE:
        return put(at, value, 8);
    default: /* INT64, UINT64 */
        return put_varint(at, *(const uint64_t *)value);
    }
}

static unsigned char *put_repeated(struct mz_packer *p, unsigned char *at,
                                   const ProtobufCFieldDescriptor *f, const char *v, size_t n)
{
    const size_t size = field_size(f), had = written(p, at);
    const bool packed = f->flags & PROTOBUF_C_FIELD_FLAG_PACKED;
    const enum wire_type wire = wire_of(f->type);
    for (size_t i = n; i-- > 0;) {
        at = put_value(p, at, f->type, v + i * size);
        if (!packed)
            at = put_tag(at, f->id, wire);
    }
    if (packed) {
        at = room(p, at, HEAD);
        at = put_varint(at, written(p, at) - had);
        at = put_tag(at, f->id, WIRE_BYTES);
    }
    return at;
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
        return field_size(f) == 8 ? !*(const uint64_t *)at : !*(const uint32_t *)at;
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

static inline unsigned char *put_field(struct mz_packer *p, unsigned char *at,
                                       const ProtobufCFieldDescriptor *f, const char *m)
{
    const void *value = m + f->offset, *quantifier = m + f->quantifier_offset;
    if (f->label == PROTOBUF_C_LABEL_REPEATED) {
        const size_t n = *(const size_t *)quantifier;
        return n ? put_repeated(p, at, f, *(const char *const *)value, n) : at;
    }
    if (!is_written(f, quantifier, value))
        return at;
    at = put_value(p, at, f->type, value);
    return put_tag(at, f->id, wire_of(f->type));
}

const ProtobufCMessageDescriptor mz_packed__descriptor = {
    .magic = PROTOBUF_C__MESSAGE_DESCRIPTOR_MAGIC,
    .name = "packed",
    .sizeof_message = sizeof(struct mz_packed),
};

/* Recurses as deep as the message is: its readers and builders bound that. */
static unsigned char *put_message(struct mz_packer *p, unsigned char *at, const ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    if (d == &mz_packed__descriptor) {
        const struct mz_str bytes = ((const struct mz_packed *)m)->bytes;
        return put(room(p, at, bytes.n), bytes.p, bytes.n);
    }
    for (size_t i = m->n_unknown_fields; i-- > 0;) {
        const ProtobufCMessageUnknownField *u = &m->unknown_fields[i];
        at = put(room(p, at, u->len + HEAD), u->data, u->len); /* with its length, if it has one */
        at = put_tag(at, u->tag, (enum wire_type)u->wire_type);
    }
    for (unsigned i = d->n_fields; i-- > 0;)
        at = put_field(p, at, &d->fields[i], (const char *)m);
    return at;
}

struct mz_str mz_packer_pack(struct mz_packer *p, const ProtobufCMessage *m)
{
    p->mem = p->own;
    p->size = sizeof(p->own);
    p->more = NULL;
    const unsigned char *at = put_message(p, p->mem + p->size, m);
    return (struct mz_str){ (const char *)at, written(p, at) };
}

void mz_packer_fini(struct mz_packer *p)
{
    mz_free(MZ_MEM_CONFIG, p->more);
}
