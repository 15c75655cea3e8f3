#include "filters/istio/exchange.h"

#include "proto/mapper.h"
#include "proto/wire.h"

#define MAGIC      0x3D230467u
#define HEAD_BYTES 8
static const struct mz_str key_peer = MZ_STR_INIT("x-envoy-peer-metadata");
static const struct mz_str key_id = MZ_STR_INIT("x-envoy-peer-metadata-id");

static uint32_t get_u32(const unsigned char *p)
{
    return (uint32_t)p[0] << 24 | (uint32_t)p[1] << 16 | (uint32_t)p[2] << 8 | p[3];
}

static void put_u32(char *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++)
        p[i] = (char)(v >> (24 - 8 * i));
}

/* An Any of a Struct, in which one field is the peer's metadata. */
static enum exchange_result read_body(struct mz_str bytes, const struct peer_labels *more,
                                      struct mz_arena *a, struct peer *out)
{
    struct mz_proto_ctx ctx = { .arena = a, .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err = { 0 };
    ProtobufCMessage *any, *msg;
    if (!mz_msg_unpack(&ctx, bytes, &pb_Any__descriptor, &any, &err) ||
        !mz_any_unpack_as(&ctx, (const pb_Any *)any, &pb_Struct__descriptor, &msg, &err))
        return EXCHANGE_NO_PEER;
    const struct mz_value *v = mz_value_build((const pb_Struct *)msg, a);
    for (size_t i = 0; i < v->fields.n; i++)
        if (mz_str_eq(v->fields.v[i].key, key_peer) &&
            v->fields.v[i].value->kind == MZ_VALUE_STRUCT) {
            peer_from_metadata(v->fields.v[i].value, more, a, out);
            return EXCHANGE_FOUND;
        }
    return EXCHANGE_SILENT;
}

enum exchange_result exchange_read(struct exchange *x, struct mz_buf *in, bool end,
                                   const struct peer_labels *more, struct mz_arena *a,
                                   struct peer *out)
{
    unsigned char head[HEAD_BYTES];
    if (!x->has_head) {
        if (mz_buf_len(in) < HEAD_BYTES)
            return end ? EXCHANGE_NO_HEAD : EXCHANGE_MORE_HEAD;
        (void)mz_buf_copyout(in, 0, head, HEAD_BYTES);
        if (get_u32(head) != MAGIC)
            return EXCHANGE_NO_HEAD;
        x->size = get_u32(head + 4);
        x->has_head = true;
        mz_buf_drain(in, HEAD_BYTES);
    }
    if (x->size > PEER_BYTES_MAX || (mz_buf_len(in) < x->size && end))
        return EXCHANGE_NO_PEER;
    if (mz_buf_len(in) < x->size)
        return EXCHANGE_MORE;
    enum exchange_result r =
        read_body(mz_arena_dup(a, mz_buf_linearize(in, x->size)), more, a, out);
    if (r != EXCHANGE_NO_PEER)
        mz_buf_drain(in, x->size);
    return r;
}

struct mz_str exchange_write(const struct peer *self, struct mz_str id, struct mz_arena *a)
{
    struct mz_value id_value = { .kind = MZ_VALUE_STRING, .str = id };
    struct mz_field fields[] = { { key_peer, peer_metadata(self, a) }, { key_id, &id_value } };
    const struct mz_value v = { .kind = MZ_VALUE_STRUCT,
                                .fields = { fields, id.n ? 2 : 1, MZ_COUNT(fields) } };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_wire_put_bytes(&b, 1, MZ_STR("type.googleapis.com/google.protobuf.Struct"));
    mz_wire_put_bytes(&b, 2, peer_pack(&v, a));
    char head[HEAD_BYTES];
    put_u32(head, MAGIC);
    put_u32(head + 4, (uint32_t)mz_buf_len(&b));
    mz_buf_prepend(&b, head, sizeof(head));
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}
