#include "filters/compression/compression.h"

#include "base/alloc.h"
#include "proto/mapper.h"

#include <brotli/decode.h>
#include <brotli/encode.h>

/* brotli. */

#define CHUNK_BYTES 4096
#define MAX_RATIO   100 /* Envoy's, which has no field for it */

static void *brotli_alloc(void *opaque, size_t n)
{
    (void)opaque;
    return mz_alloc(MZ_MEM_STREAM, n);
}

static void brotli_free(void *opaque, void *p)
{
    (void)opaque;
    mz_free(MZ_MEM_STREAM, p);
}

/* ---- compressing ---- */

struct encoder_cfg {
    uint32_t quality, mode, window_bits, block_bits, no_context;
};

static void *compressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                              struct mz_err *err)
{
    (void)f, (void)err;
    static const BrotliEncoderMode modes[] = { BROTLI_DEFAULT_MODE, BROTLI_MODE_GENERIC,
                                               BROTLI_MODE_TEXT, BROTLI_MODE_FONT };
    const pb_compressor_Brotli *m = msg;
    struct encoder_cfg *c = mz_new0(MZ_MEM_CONFIG, struct encoder_cfg);
    c->quality = mz_u32_or(m->quality, 3);
    c->mode = modes[m->encoder_mode];
    c->window_bits = mz_u32_or(m->window_bits, 18);
    c->block_bits = mz_u32_or(m->input_block_bits, 24);
    c->no_context = m->disable_literal_context_modeling != 0;
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    return c;
}

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static void *compressor_open(const void *cfg)
{
    const struct encoder_cfg *c = cfg;
    const struct {
        BrotliEncoderParameter name;
        uint32_t value;
    } params[] = { { BROTLI_PARAM_QUALITY, c->quality },
                   { BROTLI_PARAM_LGWIN, c->window_bits },
                   { BROTLI_PARAM_LGBLOCK, c->block_bits },
                   { BROTLI_PARAM_DISABLE_LITERAL_CONTEXT_MODELING, c->no_context },
                   { BROTLI_PARAM_MODE, c->mode } };
    BrotliEncoderState *e = BrotliEncoderCreateInstance(brotli_alloc, brotli_free, NULL);
    for (size_t i = 0; i < MZ_COUNT(params); i++)
        (void)BrotliEncoderSetParameter(e, params[i].name, params[i].value); /* within limits */
    return e;
}

static enum mz_code_step compressor_step(void *coder, enum mz_code_op op, struct mz_code_span *span)
{
    static const BrotliEncoderOperation ops[] = { [MZ_CODE_PROCESS] = BROTLI_OPERATION_PROCESS,
                                                  [MZ_CODE_FLUSH] = BROTLI_OPERATION_FLUSH,
                                                  [MZ_CODE_FINISH] = BROTLI_OPERATION_FINISH };
    const uint8_t *in = (const uint8_t *)span->in;
    uint8_t *out = (uint8_t *)span->out;
    if (!BrotliEncoderCompressStream(coder, ops[op], &span->in_n, &in, &span->room, &out, NULL))
        return MZ_CODED_ERROR;
    span->in = (const char *)in;
    span->out = (char *)out;
    return span->in_n || BrotliEncoderHasMoreOutput(coder) ? MZ_CODED_AGAIN : MZ_CODED_DONE;
}

static void compressor_close(void *coder)
{
    BrotliEncoderDestroyInstance(coder);
}

const struct mz_compressor_type mz_compressor_brotli = {
    .config_type = "envoy.extensions.compression.brotli.compressor.v3.Brotli",
    .encoding = "br",
    .stat_name = "brotli",
    .build = compressor_build,
    .destroy = config_destroy,
    .open = compressor_open,
    .step = compressor_step,
    .close = compressor_close,
};

/* ---- decompressing ---- */

enum { BROTLI_BAD, RATIO_EXCEEDED };
static const struct mz_stat_def stat_defs[] = {
    [BROTLI_BAD] = { "brotli_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [RATIO_EXCEEDED] = { "ratio_exceeded", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind stats = { "brotli decompressor", stat_defs, MZ_COUNT(stat_defs) };

struct decoder_cfg {
    bool whole_ring; /* the window's memory is taken at once instead of growing */
};

static void *decompressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                                uint32_t *out_ratio, struct mz_err *err)
{
    (void)f, (void)err;
    const pb_decompressor_Brotli *m = msg;
    struct decoder_cfg *c = mz_new0(MZ_MEM_CONFIG, struct decoder_cfg);
    c->whole_ring = m->disable_ring_buffer_reallocation;
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    *out_ratio = MAX_RATIO;
    return c;
}

static void *decompressor_open(const void *cfg)
{
    const struct decoder_cfg *c = cfg;
    BrotliDecoderState *d = BrotliDecoderCreateInstance(brotli_alloc, brotli_free, NULL);
    (void)BrotliDecoderSetParameter(d, BROTLI_DECODER_PARAM_DISABLE_RING_BUFFER_REALLOCATION,
                                    c->whole_ring); /* a new decoder takes it */
    return d;
}

static enum mz_code_step decompressor_step(void *coder, struct mz_code_span *span, bool end,
                                           unsigned *out_stat)
{
    (void)end;
    const uint8_t *in = (const uint8_t *)span->in;
    uint8_t *out = (uint8_t *)span->out;
    BrotliDecoderResult r =
        BrotliDecoderDecompressStream(coder, &span->in_n, &in, &span->room, &out, NULL);
    span->in = (const char *)in;
    span->out = (char *)out;
    switch (r) {
    case BROTLI_DECODER_RESULT_SUCCESS:
        return MZ_CODED_ENDED;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_INPUT:
        return MZ_CODED_DONE;
    case BROTLI_DECODER_RESULT_NEEDS_MORE_OUTPUT:
        return MZ_CODED_AGAIN;
    default:
        *out_stat = BROTLI_BAD;
        return MZ_CODED_ERROR;
    }
}

static void decompressor_close(void *coder)
{
    BrotliDecoderDestroyInstance(coder);
}

const struct mz_decompressor_type mz_decompressor_brotli = {
    .config_type = "envoy.extensions.compression.brotli.decompressor.v3.Brotli",
    .encoding = "br",
    .stat_name = "brotli",
    .stats = &stats,
    .ratio_stat = BROTLI_BAD,
    .cut_stat = BROTLI_BAD,
    .last_stat = RATIO_EXCEEDED,
    .build = decompressor_build,
    .destroy = config_destroy,
    .open = decompressor_open,
    .step = decompressor_step,
    .close = decompressor_close,
};
