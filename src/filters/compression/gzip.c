#include "filters/compression/compression.h"

#include "base/alloc.h"
#include "base/log.h"
#include "proto/mapper.h"

#include <zlib.h>

/* gzip by zlib. */

#define CHUNK_BYTES   4096
#define GZIP_WRAPPER  16 /* added to window bits: header and trailer of gzip */
#define DEFAULT_RATIO 100

static voidpf gzip_alloc(voidpf opaque, uInt n, uInt size)
{
    (void)opaque;
    return mz_alloc(MZ_MEM_STREAM, mz_mul(n, size));
}

static void gzip_free(voidpf opaque, voidpf p)
{
    (void)opaque;
    mz_free(MZ_MEM_STREAM, p);
}

static void span_in(z_stream *z, const struct mz_code_span *s)
{
    z->next_in = (Bytef *)(uintptr_t)s->in;
    z->avail_in = (uInt)s->in_n;
    z->next_out = (Bytef *)s->out;
    z->avail_out = (uInt)s->room;
}

static void span_out(const z_stream *z, struct mz_code_span *s)
{
    s->in += s->in_n - z->avail_in;
    s->in_n = z->avail_in;
    s->out += s->room - z->avail_out;
    s->room = z->avail_out;
}

/* ---- compressing ---- */

struct deflate_cfg {
    int level, strategy, window_bits, memory_level;
};

static void *compressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                              struct mz_err *err)
{
    (void)f, (void)err;
    static const int strategies[] = { Z_DEFAULT_STRATEGY, Z_FILTERED, Z_HUFFMAN_ONLY, Z_RLE,
                                      Z_FIXED };
    const pb_compressor_Gzip *m = msg;
    struct deflate_cfg *c = mz_new0(MZ_MEM_CONFIG, struct deflate_cfg);
    c->level = m->compression_level ? (int)m->compression_level : Z_DEFAULT_COMPRESSION;
    c->strategy = strategies[m->compression_strategy];
    c->window_bits = (int)mz_u32_or(m->window_bits, 12) + GZIP_WRAPPER;
    c->memory_level = (int)mz_u32_or(m->memory_level, 5);
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    return c;
}

static void config_destroy(void *cfg)
{
    mz_free(MZ_MEM_CONFIG, cfg);
}

static void *compressor_open(const void *cfg)
{
    const struct deflate_cfg *c = cfg;
    z_stream *z = mz_new0(MZ_MEM_STREAM, z_stream);
    z->zalloc = gzip_alloc;
    z->zfree = gzip_free;
    int rc = deflateInit2(z, c->level, Z_DEFLATED, c->window_bits, c->memory_level, c->strategy);
    (void)MZ_BUG(rc != Z_OK); /* constraints hold the numbers within zlib's */
    return z;
}

static enum mz_code_step compressor_step(void *coder, enum mz_code_op op, struct mz_code_span *span)
{
    static const int flushes[] = {
        [MZ_CODE_PROCESS] = Z_NO_FLUSH, [MZ_CODE_FLUSH] = Z_SYNC_FLUSH, [MZ_CODE_FINISH] = Z_FINISH
    };
    z_stream *z = coder;
    span_in(z, span);
    int rc = deflate(z, flushes[op]);
    span_out(z, span);
    if (rc == Z_STREAM_ERROR)
        return MZ_CODED_ERROR;
    bool more = op == MZ_CODE_FINISH ? rc != Z_STREAM_END : z->avail_out == 0;
    return more ? MZ_CODED_AGAIN : MZ_CODED_DONE;
}

static void compressor_close(void *coder)
{
    (void)deflateEnd(coder); /* says when output was never fetched: a stream that ended early */
    mz_free(MZ_MEM_STREAM, coder);
}

const struct mz_compressor_type mz_compressor_gzip = {
    .config_type = "envoy.extensions.compression.gzip.compressor.v3.Gzip",
    .encoding = "gzip",
    .stat_name = "gzip",
    .build = compressor_build,
    .destroy = config_destroy,
    .open = compressor_open,
    .step = compressor_step,
    .close = compressor_close,
};

/* ---- decompressing ---- */

enum { ERRNO, STREAM_ERROR, DATA_ERROR, MEM_ERROR, BUF_ERROR, VERSION_ERROR, RATIO_EXCEEDED };
static const struct mz_stat_def stat_defs[] = {
    [ERRNO] = { "zlib_errno", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [STREAM_ERROR] = { "zlib_stream_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DATA_ERROR] = { "zlib_data_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MEM_ERROR] = { "zlib_mem_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [BUF_ERROR] = { "zlib_buf_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [VERSION_ERROR] = { "zlib_version_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [RATIO_EXCEEDED] = { "ratio_exceeded", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind stats = { "gzip decompressor", stat_defs, MZ_COUNT(stat_defs) };

struct inflate_cfg {
    int window_bits;
};
struct inflater {
    z_stream z;
    bool
        later_member; /* bytes behind the first member that are no other member are dropped, not an error: ... */
    bool junk; /* ... such came */
};

static void *decompressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                                uint32_t *out_ratio, struct mz_err *err)
{
    (void)f, (void)err;
    const pb_decompressor_Gzip *m = msg;
    struct inflate_cfg *c = mz_new0(MZ_MEM_CONFIG, struct inflate_cfg);
    c->window_bits = (int)mz_u32_or(m->window_bits, 15) + GZIP_WRAPPER;
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    *out_ratio = mz_u32_or(m->max_inflate_ratio, DEFAULT_RATIO);
    return c;
}

static void *decompressor_open(const void *cfg)
{
    const struct inflate_cfg *c = cfg;
    struct inflater *d = mz_new0(MZ_MEM_STREAM, struct inflater);
    d->z.zalloc = gzip_alloc;
    d->z.zfree = gzip_free;
    int rc = inflateInit2(&d->z, c->window_bits);
    (void)MZ_BUG(rc != Z_OK);
    return d;
}

static enum mz_code_step decompressor_step(void *coder, struct mz_code_span *span, bool end,
                                           unsigned *out_stat)
{
    (void)end;
    static const uint8_t errors[] = { STREAM_ERROR, ERRNO,     STREAM_ERROR, DATA_ERROR,
                                      MEM_ERROR,    BUF_ERROR, VERSION_ERROR };
    struct inflater *d = coder;
    span_in(&d->z, span);
    int rc = inflate(&d->z, Z_NO_FLUSH);
    span_out(&d->z, span);
    if (rc == Z_STREAM_END)
        return MZ_CODED_ENDED;
    if (rc == Z_BUF_ERROR)
        return MZ_CODED_DONE; /* nothing to do without more input */
    if (rc == Z_OK)
        return d->z.avail_out == 0 ? MZ_CODED_AGAIN : MZ_CODED_DONE;
    d->junk = d->later_member && rc == Z_DATA_ERROR && d->z.total_out == 0;
    if (d->junk)
        return MZ_CODED_ENDED;
    *out_stat = rc < 0 && rc >= Z_VERSION_ERROR ? errors[-rc] : (unsigned)DATA_ERROR;
    return MZ_CODED_ERROR;
}

static bool decompressor_restart(void *coder, struct mz_str next)
{
    struct inflater *d = coder;
    if (d->junk || next.p[0] != 0x1f)
        return false;
    d->later_member = true;
    return inflateReset(&d->z) == Z_OK;
}

static void decompressor_close(void *coder)
{
    struct inflater *d = coder;
    (void)inflateEnd(&d->z); /* the state was made by us */
    mz_free(MZ_MEM_STREAM, d);
}

const struct mz_decompressor_type mz_decompressor_gzip = {
    .config_type = "envoy.extensions.compression.gzip.decompressor.v3.Gzip",
    .encoding = "gzip",
    .stat_name = "gzip",
    .stats = &stats,
    .ratio_stat = DATA_ERROR,
    .cut_stat = BUF_ERROR,
    .last_stat = RATIO_EXCEEDED,
    .build = decompressor_build,
    .destroy = config_destroy,
    .open = decompressor_open,
    .step = decompressor_step,
    .restart = decompressor_restart,
    .close = decompressor_close,
};
