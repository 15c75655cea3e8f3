/* YAML and JSON as a Bootstrap. What is accepted prints as JSON that reads back to the same bytes. First byte: form, policy. */
#include "base/buf.h"
#include "base/log.h"
#include "proto/mapper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void round_trip(struct mz_proto_ctx *ctx, const ProtobufCMessage *m)
{
    struct mz_err err;
    struct mz_buf out;
    ProtobufCMessage *back = NULL;
    mz_buf_init(&out);
    mz_msg_to_json(m, &out, MZ_JSON_PRETTY);
    struct mz_str text = mz_buf_linearize(&out, mz_buf_len(&out));
    bool ok = mz_msg_from_text(ctx, text, MZ_TEXT_JSON, m->descriptor, &back, &err);
    MZ_ASSERT(ok);
    MZ_ASSERT(mz_msg_equal(m, back));
    mz_buf_fini(&out);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = data[0] & 2 ? MZ_UNKNOWN_COUNT : MZ_UNKNOWN_REJECT };
    struct mz_err err;
    ProtobufCMessage *m;
    struct mz_str text = { (const char *)data + 1, size - 1 };
    if (mz_msg_from_text(&ctx, text, data[0] & 1 ? MZ_TEXT_JSON : MZ_TEXT_YAML,
                         &pb_Bootstrap__descriptor, &m, &err))
        round_trip(&ctx, m);
    mz_arena_destroy(ctx.arena);
    return 0;
}
