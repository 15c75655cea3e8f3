/* Binary form: a check of the bytes before protobuf-c sees them, packing, comparing. */
#include "proto/wire.h"
#include "base/buf.h"
#include "proto/pack.h"
#include "proto/proto_priv.h"
#include <stdio.h>

enum wire_type { WIRE_VARINT = 0, WIRE_64 = 1, WIRE_BYTES = 2, WIRE_32 = 5 };

/* An entry of a map is a level of its own on the wire: what text may nest MZ_TREE_MAX_DEPTH deep fits. */
enum { MAX_WIRE_DEPTH = 2 * MZ_TREE_MAX_DEPTH };

bool mz_wire_take_varint(struct mz_str *s, uint64_t *out)
{
    uint64_t v = 0;
    for (unsigned shift = 0; s->n && shift < 70; shift += 7) {
        uint8_t b = (uint8_t)*s->p;
        *s = mz_str_skip(*s, 1);
        v |= shift < 64 ? (uint64_t)(b & 0x7f) << shift : 0;
        if (!(b & 0x80)) {
            *out = v;
            return true;
        }
    }
    return false;
}

size_t mz_wire_varint(uint64_t v, char out[MZ_WIRE_VARINT_MAX])
{
    size_t n = 0;
    for (; v >= 0x80; v >>= 7)
        out[n++] = (char)(v | 0x80);
    out[n++] = (char)v;
    return n;
}

void mz_wire_put_head(struct mz_buf *b, unsigned field, size_t n)
{
    char head[2 * MZ_WIRE_VARINT_MAX];
    size_t at = mz_wire_varint(field << 3 | WIRE_BYTES, head);
    mz_buf_append(b, head, at + mz_wire_varint(n, head + at));
}

void mz_wire_put_bytes(struct mz_buf *b, unsigned field, struct mz_str s)
{
    mz_wire_put_head(b, field, s.n);
    mz_buf_append_str(b, s);
}

bool mz_wire_next(struct mz_str *s, struct mz_wire_piece *out)
{
    uint64_t key, n = 0;
    if (!mz_wire_take_varint(s, &key) || key >> 3 == 0 || key >> 3 > 0x1fffffff)
        return false;
    *out = (struct mz_wire_piece){ .id = (uint32_t)(key >> 3), .wire = (uint8_t)(key & 7) };
    switch (key & 7) {
    case WIRE_VARINT:
        return mz_wire_take_varint(s, &n);
    case WIRE_64:
        n = 8;
        break;
    case WIRE_32:
        n = 4;
        break;
    case WIRE_BYTES:
        if (!mz_wire_take_varint(s, &n))
            return false;
        break;
    default:
        return false;
    }
    if (n > s->n)
        return false;
    out->bytes = (struct mz_str){ s->p, (size_t)n };
    *s = mz_str_skip(*s, (size_t)n);
    return true;
}

struct mz_str mz_wire_bytes(struct mz_str message, unsigned id)
{
    struct mz_wire_piece p;
    struct mz_str last = { 0 };
    while (message.n && mz_wire_next(&message, &p))
        if (p.id == id && p.wire == WIRE_BYTES)
            last = p.bytes;
    return last;
}

static bool scan(struct walk *w, struct mz_str bytes, const ProtobufCMessageDescriptor *d);

/* type_url and value of an Any, in whatever order. */
static bool scan_any(struct walk *w, struct mz_str bytes)
{
    struct mz_str url = { 0 }, value = { 0 };
    struct mz_wire_piece p;
    while (bytes.n && mz_wire_next(&bytes, &p)) {
        if (p.id == 1)
            url = p.bytes;
        else if (p.id == 2)
            value = p.bytes;
    }
    const ProtobufCMessageDescriptor *d = mz_type_find(type_name_of_url(url));
    return !d || scan(w, value, d); /* a type without schema is the business of who opens the Any */
}

static bool scan_known(struct walk *w, const ProtobufCFieldDescriptor *f,
                       const struct mz_wire_piece *p)
{
    if (f->type == PROTOBUF_C_TYPE_MESSAGE)
        return p->wire == WIRE_BYTES ? scan(w, p->bytes, f->descriptor)
                                     : walk_fail(w, NULL, "not a message");
    if (f->type != PROTOBUF_C_TYPE_STRING)
        return true;
    if (p->wire != WIRE_BYTES || !mz_utf8_valid(p->bytes) || memchr(p->bytes.p, 0, p->bytes.n))
        return walk_fail(w, NULL, "not a text in UTF-8 without NUL");
    return true;
}

/* Depth, unknown fields and texts of @bytes; everything that protobuf-c's own unpacking does not look at. */
static bool scan(struct walk *w, struct mz_str bytes, const ProtobufCMessageDescriptor *d)
{
    struct mz_str rest = bytes;
    struct mz_wire_piece p;
    if (w->depth == MAX_WIRE_DEPTH)
        return walk_fail(w, NULL, "nested too deeply");
    w->depth++;
    while (rest.n) {
        if (!mz_wire_next(&rest, &p))
            return walk_fail(w, NULL, "not the binary form of %s", d->name);
        const ProtobufCFieldDescriptor *f = protobuf_c_message_descriptor_get_field(d, p.id);
        if (!f || !field_is_known(w, d, f)) {
            w->hidden |= f != NULL;
            char number[16];
            snprintf(number, sizeof(number), "%u", p.id);
            if (!walk_unknown(w, 0, 0, "field number", mz_str_c(number), NULL))
                return false;
            continue;
        }
        struct step s = { w->top, mz_str_c(f->name), STEP_FIELD, 0 };
        w->top = &s;
        bool ok = scan_known(w, f, &p);
        w->top = s.up;
        if (!ok)
            return false;
    }
    bool ok = d != &pb_Any__descriptor || w->ctx->unchecked || scan_any(w, bytes);
    w->depth--;
    return ok;
}

static void *arena_alloc(void *arena, size_t n)
{
    return mz_arena_alloc(arena, n);
}

static void arena_free(void *arena, void *p)
{
    (void)arena; /* goes with the arena */
    (void)p;
}

static void complete(const struct walk *w, ProtobufCMessage *m);

/* Entries of maps may come without their value, which then is the empty message; readers can count on one. */
static void complete_field(const struct walk *w, ProtobufCMessage *m,
                           const ProtobufCFieldDescriptor *f)
{
    if (f->label != PROTOBUF_C_LABEL_REPEATED) {
        complete(w, *(ProtobufCMessage **)field_at(f, m));
        return;
    }
    const ProtobufCMessageDescriptor *entry = field_map_entry(m->descriptor, f);
    const ProtobufCFieldDescriptor *value =
        entry && field_message(&entry->fields[1]) ? &entry->fields[1] : NULL;
    ProtobufCMessage **v = *(ProtobufCMessage ***)field_at(f, m);
    for (size_t i = 0; i < *(size_t *)quantifier_at(f, m); i++) {
        if (value && !field_is_set(value, v[i]))
            *(ProtobufCMessage **)field_at(value, v[i]) = message_new(w->arena, value->descriptor);
        complete(w, v[i]);
    }
}

/* What the scan counted as unknown is in nobody's way. */
static void forget(ProtobufCMessage *m, const ProtobufCFieldDescriptor *f)
{
    if (f->label == PROTOBUF_C_LABEL_REPEATED)
        *(size_t *)quantifier_at(f, m) = 0;
    else if (is_oneof(f))
        *(uint32_t *)quantifier_at(f, m) = 0;
    else
        *(ProtobufCMessage **)field_at(f, m) = NULL;
}

static void complete(const struct walk *w, ProtobufCMessage *m)
{
    const ProtobufCMessageDescriptor *d = m->descriptor;
    for (unsigned i = 0; i < d->n_fields; i++) {
        const ProtobufCFieldDescriptor *f = &d->fields[i];
        if (f->type != PROTOBUF_C_TYPE_MESSAGE || !field_is_set(f, m))
            continue;
        if (w->hidden && !field_is_known(w, d, f))
            forget(m, f);
        else
            complete_field(w, m, f);
    }
}

ProtobufCMessage *mz_msg_reopen(struct mz_str bytes, const ProtobufCMessageDescriptor *d,
                                struct mz_arena *a)
{
    ProtobufCAllocator in_arena = { arena_alloc, arena_free, a };
    return protobuf_c_message_unpack(d, &in_arena, bytes.n, (const uint8_t *)bytes.p);
}

bool mz_msg_unpack(struct mz_proto_ctx *ctx, struct mz_str bytes,
                   const ProtobufCMessageDescriptor *d, ProtobufCMessage **out_msg,
                   struct mz_err *err)
{
    struct walk w = { .ctx = ctx, .arena = ctx->arena, .err = err };
    ProtobufCAllocator in_arena = { arena_alloc, arena_free, ctx->arena };
    if (!scan(&w, bytes, d))
        return false;
    ProtobufCMessage *m =
        protobuf_c_message_unpack(d, &in_arena, bytes.n, (const uint8_t *)bytes.p);
    if (!m)
        return mz_err_set(err, "not the binary form of %s", d->name);
    complete(&w, m);
    if (!ctx->partial && !validate_at(NULL, m, err))
        return false;
    *out_msg = m;
    return true;
}

struct mz_str mz_msg_pack_alloc(const ProtobufCMessage *msg, struct mz_arena *a)
{
    struct mz_packer p MZ_UNINIT;
    const struct mz_str own = mz_arena_dup(a, mz_packer_pack(&p, msg));
    mz_packer_fini(&p);
    return own;
}

bool mz_msg_equal(const ProtobufCMessage *x, const ProtobufCMessage *y)
{
    struct mz_packer px MZ_UNINIT, py MZ_UNINIT;
    const bool same = mz_str_eq(mz_packer_pack(&px, x), mz_packer_pack(&py, y));
    mz_packer_fini(&px);
    mz_packer_fini(&py);
    return same;
}

uint64_t mz_msg_hash(const ProtobufCMessage *msg)
{
    struct mz_packer p MZ_UNINIT;
    const struct mz_str bytes = mz_packer_pack(&p, msg);
    const uint64_t hash = mz_xxh64(bytes.p, bytes.n, 0);
    mz_packer_fini(&p);
    return hash;
}
