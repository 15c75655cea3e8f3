/* Bytes as an Any of whatever type they say: what is accepted prints, merges and packs. */
#include "base/buf.h"
#include "base/log.h"
#include "proto/mapper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err;
    ProtobufCMessage *any, *m;
    const ProtobufCMessageDescriptor *type;
    if (mz_msg_unpack(&ctx, (struct mz_str){ (const char *)data, size }, &pb_Any__descriptor, &any,
                      &err) &&
        mz_any_unpack(&ctx, (pb_Any *)any, &type, &m, &err)) {
        ProtobufCMessage *back = NULL;
        struct mz_buf out;
        mz_buf_init(&out);
        mz_msg_to_json(any, &out, 0);
        mz_buf_fini(&out);
        ctx.partial = true;
        bool ok = mz_msg_unpack(&ctx, mz_msg_pack_alloc(m, ctx.arena), type, &back, &err);
        MZ_ASSERT(ok);
        MZ_ASSERT(mz_msg_equal(m, back));
        mz_msg_merge(m, back, ctx.arena);
    }
    mz_arena_destroy(ctx.arena);
    return 0;
}
