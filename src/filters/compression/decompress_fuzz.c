/* Foreign bytes as gzip, brotli and zstd: the output keeps to its limits in any pieces, and the pieces do not matter. */
#include "filters/compression/compression.h"
#include "proto/mapper.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define LIBRARY(name)                                                                              \
    "{name: lib, typed_config: {'@type': type.googleapis.com/envoy.extensions.compression." name   \
    "}}"

static struct mz_decompressor_lib *library(unsigned which)
{
    static const char *const yaml[] = { LIBRARY("gzip.decompressor.v3.Gzip"),
                                        LIBRARY("brotli.decompressor.v3.Brotli"),
                                        LIBRARY("zstd.decompressor.v3.Zstd, chunk_size: 4096") };
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_MISC) };
    struct mz_factory f = { .proto = &ctx };
    struct mz_err err;
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml[which]), MZ_TEXT_YAML,
                          &pb_TypedExtensionConfig__descriptor, &m, &err))
        abort();
    struct mz_decompressor_lib *l =
        mz_decompressor_lib_build((pb_TypedExtensionConfig *)m, &f, &err);
    if (!l)
        abort();
    mz_arena_destroy(ctx.arena);
    return l;
}

static enum mz_decompress decode(const struct mz_decompressor_lib *l, const uint8_t *p, size_t n,
                                 size_t piece, size_t max, struct mz_buf *all)
{
    struct mz_decompressor d;
    struct mz_buf in;
    mz_buf_init(&in);
    mz_decompressor_open(&d, l, NULL);
    enum mz_decompress r = MZ_DECOMPRESS_DONE;
    for (size_t at = 0; r == MZ_DECOMPRESS_DONE && (at < n || at == 0); at += piece) {
        bool end = n - at <= piece;
        mz_buf_append(&in, p + at, end ? n - at : piece);
        do {
            size_t before = mz_buf_len(all);
            r = mz_decompressor_run(&d, &in, all, max, end);
            if (mz_buf_len(all) - before > max + l->chunk ||
                mz_buf_len(all) > (uint64_t)n * l->max_ratio + UINT64_C(2) * l->chunk)
                abort();
        } while (r == MZ_DECOMPRESS_MORE);
    }
    mz_decompressor_close(&d);
    mz_buf_fini(&in);
    return r;
}

static bool failed(enum mz_decompress r)
{
    return r == MZ_DECOMPRESS_BAD || r == MZ_DECOMPRESS_CUT;
}

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct mz_decompressor_lib *libraries[3];
    if (n < 2)
        return 0;
    unsigned which = p[0] % 3;
    size_t piece = p[1] ? p[1] : 1;
    if (!libraries[which])
        libraries[which] = library(which);
    struct mz_buf whole, parts;
    mz_buf_init(&whole);
    mz_buf_init(&parts);
    enum mz_decompress a = decode(libraries[which], p + 2, n - 2, n, 1 << 20, &whole),
                       b = decode(libraries[which], p + 2, n - 2, piece, 1000, &parts);
    /* In pieces a bomb may be found before what is wrong behind it. libzstd looks at a frame that lies there as a whole with other
     * checks (of its declared size) than at one that comes in pieces. */
    bool own_rules = which == 2 && (failed(a) || failed(b));
    if (a != b && b != MZ_DECOMPRESS_RATIO && a != MZ_DECOMPRESS_RATIO && !own_rules)
        abort();
    if (a == MZ_DECOMPRESS_DONE && b == a && mz_buf_len(&whole) != mz_buf_len(&parts))
        abort();
    mz_buf_fini(&whole);
    mz_buf_fini(&parts);
    return 0;
}
