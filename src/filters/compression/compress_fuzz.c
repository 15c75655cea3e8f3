/* What is compressed in any pieces comes back as it was. */
#include "filters/compression/compression.h"
#include "proto/mapper.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define LIBRARY(name)                                                                              \
    "{name: lib, typed_config: {'@type': type.googleapis.com/envoy.extensions.compression." name   \
    "}}"
static const char *const encoders[] = { LIBRARY("gzip.compressor.v3.Gzip"),
                                        LIBRARY("brotli.compressor.v3.Brotli, quality: 5"),
                                        LIBRARY("zstd.compressor.v3.Zstd, chunk_size: 4096") };
static const char *const decoders[] = {
    LIBRARY("gzip.decompressor.v3.Gzip, max_inflate_ratio: 1032"),
    LIBRARY("brotli.decompressor.v3.Brotli"), LIBRARY("zstd.decompressor.v3.Zstd, chunk_size: 4096")
};
static struct mz_compressor_lib *encoder[3];
static struct mz_decompressor_lib *decoder[3];

static void build(unsigned which)
{
    const char *const yaml[] = { encoders[which], decoders[which] };
    ProtobufCMessage *m[2];
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_MISC) };
    struct mz_factory f = { .proto = &ctx };
    struct mz_err err;
    for (int i = 0; i < 2; i++)
        if (!mz_msg_from_text(&ctx, mz_str_c(yaml[i]), MZ_TEXT_YAML,
                              &pb_TypedExtensionConfig__descriptor, &m[i], &err))
            abort();
    encoder[which] = mz_compressor_lib_build((pb_TypedExtensionConfig *)m[0], &f, &err);
    decoder[which] = mz_decompressor_lib_build((pb_TypedExtensionConfig *)m[1], &f, &err);
    mz_arena_destroy(ctx.arena);
    if (!encoder[which] || !decoder[which])
        abort();
}

/* Text of pieces; each is named by its length (one byte, 0: a flush of nothing). */
static void encode(const struct mz_compressor_lib *l, const uint8_t *p, size_t n,
                   struct mz_buf *plain, struct mz_buf *coded)
{
    struct mz_compressor c;
    mz_compressor_open(&c, l);
    while (n) {
        size_t piece = p[0] < n - 1 ? p[0] : n - 1;
        struct mz_buf data;
        mz_buf_init(&data);
        mz_buf_append(&data, p + 1, piece);
        mz_buf_append(plain, p + 1, piece);
        n -= piece + 1;
        p += piece + 1;
        mz_compressor_run(&c, &data, n == 0);
        mz_buf_move_all(coded, &data);
        mz_buf_fini(&data);
    }
    mz_compressor_close(&c);
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    if (n < 2)
        return 0;
    unsigned which = p[0] % 3;
    if (!encoder[which])
        build(which);
    struct mz_buf plain, coded, back;
    mz_buf_init(&plain);
    mz_buf_init(&coded);
    mz_buf_init(&back);
    encode(encoder[which], p + 1, n - 1, &plain, &coded);
    struct mz_decompressor d;
    mz_decompressor_open(&d, decoder[which], NULL);
    enum mz_decompress r;
    do
        r = mz_decompressor_run(&d, &coded, &back, 5000, true);
    while (r == MZ_DECOMPRESS_MORE);
    mz_decompressor_close(&d);
    size_t len = mz_buf_len(&plain);
    if (r != MZ_DECOMPRESS_DONE || mz_buf_len(&back) != len ||
        (len && memcmp(mz_buf_linearize(&plain, len).p, mz_buf_linearize(&back, len).p, len) != 0))
        abort();
    mz_buf_fini(&plain);
    mz_buf_fini(&back);
    mz_buf_fini(&coded);
    return 0;
}
