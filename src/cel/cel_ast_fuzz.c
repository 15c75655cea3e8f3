/* Any bytes as a syntax tree (google.api.expr.v1alpha1.Expr). */
#include "cel/cel_fuzz.h"

#include "proto/mapper.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    struct mz_err err;
    ProtobufCMessage *m;
    struct mz_str bytes = { (const char *)data, size };
    struct fuzz_vars v = { { fuzz_get }, bytes };
    if (mz_msg_unpack(&ctx, bytes, &pb_Expr__descriptor, &m, &err))
        fuzz_run(mz_cel_create_ast((const pb_Expr *)m, &fuzz_env, &err), &v);
    mz_arena_destroy(ctx.arena);
    return 0;
}
