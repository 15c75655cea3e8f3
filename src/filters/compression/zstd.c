#include "filters/compression/compression.h"

#include "base/alloc.h"
#include "base/log.h"
#include "proto/data_source.h"
#include "proto/mapper.h"

#include <zstd.h>
#include <zstd_errors.h>

/* zstd. */

#define CHUNK_BYTES    MZ_SLICE_BYTES /* zstd would like 128 KiB, too much for each small frame */
#define MAX_RATIO      100            /* Envoy's, which has no field for it */
#define WINDOW_LOG_MAX 23      /* 8 MiB: what RFC 9659 lets a content coding ask of a decoder */
#define DICTIONARY_MAX 1048576 /* bytes */
#define HEADER_MAX     18      /* bytes of a frame's header, which names its dictionary */

/* ---- compressing ---- */

struct compressor_cfg {
    int level, strategy, checksum;
    ZSTD_CDict *dictionary;
};

static void compressor_destroy(void *cfg)
{
    struct compressor_cfg *c = cfg;
    ZSTD_freeCDict(c->dictionary); /* NULL is fine */
    mz_free(MZ_MEM_CONFIG, c);
}

static bool dictionary_read(const pb_DataSource *m, struct mz_arena *a, struct mz_str *out,
                            struct mz_err *err)
{
    if (!mz_data_source_read(m, DICTIONARY_MAX, a, out, err))
        return false;
    return out->n || mz_err_set(err, "must be a dictionary, is empty");
}

static void *compressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                              struct mz_err *err)
{
    (void)f;
    const pb_compressor_Zstd *m = msg;
    struct compressor_cfg *c = mz_new0(MZ_MEM_CONFIG, struct compressor_cfg);
    uint32_t level = mz_u32_or(m->compression_level, ZSTD_CLEVEL_DEFAULT);
    c->level = level < (uint32_t)ZSTD_maxCLevel() ? (int)level : ZSTD_maxCLevel();
    c->strategy = (int)m->strategy;
    c->checksum = m->enable_checksum;
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    if (!m->dictionary)
        return c;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_str bytes;
    bool ok = dictionary_read(m->dictionary, a, &bytes, err);
    if (ok)
        c->dictionary = ZSTD_createCDict(bytes.p, bytes.n, c->level);
    mz_arena_destroy(a);
    if (c->dictionary)
        return c;
    if (ok)
        mz_err_set(err, "is not a dictionary of zstd");
    mz_err_at(err, "dictionary");
    compressor_destroy(c);
    return NULL;
}

static void *compressor_open(const void *cfg)
{
    const struct compressor_cfg *c = cfg;
    ZSTD_CCtx *z = ZSTD_createCCtx();
    if (!z)
        return NULL;
    size_t rc = ZSTD_CCtx_setParameter(z, ZSTD_c_checksumFlag, c->checksum);
    if (!ZSTD_isError(rc))
        rc = c->dictionary ? ZSTD_CCtx_refCDict(z, c->dictionary)
                           : ZSTD_CCtx_setParameter(z, ZSTD_c_compressionLevel, c->level);
    if (!ZSTD_isError(rc))
        rc = ZSTD_CCtx_setParameter(z, ZSTD_c_strategy, c->strategy);
    (void)MZ_BUG(ZSTD_isError(rc)); /* the numbers were checked */
    return z;
}

static enum mz_code_step compressor_step(void *coder, enum mz_code_op op, struct mz_code_span *span)
{
    static const ZSTD_EndDirective ops[] = { [MZ_CODE_PROCESS] = ZSTD_e_continue,
                                             [MZ_CODE_FLUSH] = ZSTD_e_flush,
                                             [MZ_CODE_FINISH] = ZSTD_e_end };
    ZSTD_inBuffer in = { span->in, span->in_n, 0 };
    ZSTD_outBuffer out = { span->out, span->room, 0 };
    size_t left = ZSTD_compressStream2(coder, &out, &in, ops[op]);
    if (ZSTD_isError(left))
        return MZ_CODED_ERROR;
    span->in += in.pos;
    span->in_n -= in.pos;
    span->out += out.pos;
    span->room -= out.pos;
    bool more = op == MZ_CODE_PROCESS ? span->in_n > 0 : left > 0;
    return more ? MZ_CODED_AGAIN : MZ_CODED_DONE;
}

static void compressor_close(void *coder)
{
    (void)ZSTD_freeCCtx(coder);
}

const struct mz_compressor_type mz_compressor_zstd = {
    .config_type = "envoy.extensions.compression.zstd.compressor.v3.Zstd",
    .encoding = "zstd",
    .stat_name = "zstd",
    .build = compressor_build,
    .destroy = compressor_destroy,
    .open = compressor_open,
    .step = compressor_step,
    .close = compressor_close,
};

/* ---- decompressing ---- */

enum { GENERIC, DICTIONARY, CHECKSUM, MEMORY, RATIO_EXCEEDED };
static const struct mz_stat_def stat_defs[] = {
    [GENERIC] = { "zstd_generic_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [DICTIONARY] = { "zstd_dictionary_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [CHECKSUM] = { "zstd_checksum_wrong_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [MEMORY] = { "zstd_memory_error", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    [RATIO_EXCEEDED] = { "ratio_exceeded", MZ_COUNTER, MZ_UNIT_NONE, MZ_STAT_LAZY },
};
static const struct mz_stat_kind stats = { "zstd decompressor", stat_defs, MZ_COUNT(stat_defs) };

struct decompressor_cfg {
    ZSTD_DDict **dictionaries;
    size_t n;
};
struct decompressor {
    ZSTD_DCtx *z;
    const struct decompressor_cfg *cfg;
    char head[HEADER_MAX]; /* with dictionaries: the first bytes, until they name one */
    size_t head_n, head_at;
    bool dictionary_known, more; /* more: the last call filled its room */
};

static void decompressor_destroy(void *cfg)
{
    struct decompressor_cfg *c = cfg;
    for (size_t i = 0; i < c->n; i++)
        ZSTD_freeDDict(c->dictionaries[i]);
    mz_free(MZ_MEM_CONFIG, c->dictionaries);
    mz_free(MZ_MEM_CONFIG, c);
}

static bool dictionary_add(struct decompressor_cfg *c, const pb_DataSource *m, struct mz_arena *a,
                           struct mz_err *err)
{
    struct mz_str bytes;
    if (!dictionary_read(m, a, &bytes, err))
        return false;
    ZSTD_DDict *d = ZSTD_createDDict(bytes.p, bytes.n);
    if (!d || ZSTD_getDictID_fromDDict(d) == 0) {
        ZSTD_freeDDict(d);
        return mz_err_set(err, "is not a dictionary of zstd with an ID");
    }
    c->dictionaries[c->n++] = d;
    return true;
}

static void *decompressor_build(const void *msg, const struct mz_factory *f, uint32_t *out_chunk,
                                uint32_t *out_ratio, struct mz_err *err)
{
    (void)f;
    const pb_decompressor_Zstd *m = msg;
    struct decompressor_cfg *c = mz_new0(MZ_MEM_CONFIG, struct decompressor_cfg);
    c->dictionaries = mz_newn0(MZ_MEM_CONFIG, ZSTD_DDict *, m->n_dictionaries);
    *out_chunk = mz_u32_or(m->chunk_size, CHUNK_BYTES);
    *out_ratio = MAX_RATIO;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    bool ok = true;
    for (size_t i = 0; ok && i < m->n_dictionaries; i++) {
        ok = dictionary_add(c, m->dictionaries[i], a, err);
        if (!ok)
            mz_err_at(err, "dictionaries[%zu]", i);
    }
    mz_arena_destroy(a);
    if (ok)
        return c;
    decompressor_destroy(c);
    return NULL;
}

static void *decompressor_open(const void *cfg)
{
    struct decompressor *d = mz_new0(MZ_MEM_STREAM, struct decompressor);
    d->cfg = cfg;
    d->dictionary_known = d->cfg->n == 0;
    d->z = ZSTD_createDCtx();
    size_t rc = ZSTD_DCtx_setParameter(d->z, ZSTD_d_windowLogMax, WINDOW_LOG_MAX);
    (void)MZ_BUG(ZSTD_isError(rc));
    return d;
}

static unsigned stat_of(size_t rc)
{
    switch (ZSTD_getErrorCode(rc)) {
    case ZSTD_error_memory_allocation:
        return MEMORY;
    case ZSTD_error_dictionary_corrupted:
    case ZSTD_error_dictionary_wrong:
        return DICTIONARY;
    case ZSTD_error_checksum_wrong:
        return CHECKSUM;
    default:
        return GENERIC;
    }
}

static bool use_dictionary(struct decompressor *d)
{
    unsigned id = ZSTD_getDictID_fromFrame(d->head, d->head_n);
    for (size_t i = 0; id && i < d->cfg->n; i++)
        if (ZSTD_getDictID_fromDDict(d->cfg->dictionaries[i]) == id)
            return !ZSTD_isError(ZSTD_DCtx_refDDict(d->z, d->cfg->dictionaries[i]));
    return id == 0; /* the frame names none */
}

/* One call of the library, which takes all of @in unless the output is full. */
static enum mz_code_step decode(struct decompressor *d, ZSTD_inBuffer *in,
                                struct mz_code_span *span, unsigned *out_stat)
{
    if (in->size == 0 && !d->more)
        return MZ_CODED_DONE; /* the library counts calls in which nothing moves, and gives up */
    ZSTD_outBuffer out = { span->out, span->room, 0 };
    size_t rc = ZSTD_decompressStream(d->z, &out, in);
    span->out += out.pos;
    span->room -= out.pos;
    d->more = false;
    if (ZSTD_isError(rc)) {
        *out_stat = stat_of(rc);
        return MZ_CODED_ERROR;
    }
    if (rc == 0)
        return MZ_CODED_ENDED;
    d->more = span->room == 0;
    return d->more || in->pos < in->size ? MZ_CODED_AGAIN : MZ_CODED_DONE;
}

/* Until the dictionary is known the first bytes are held back. True: it is known now. */
static bool gather_head(struct decompressor *d, struct mz_code_span *span, bool end)
{
    size_t n = HEADER_MAX - d->head_n < span->in_n ? HEADER_MAX - d->head_n : span->in_n;
    if (n)
        memcpy(d->head + d->head_n, span->in, n);
    d->head_n += n;
    span->in += n;
    span->in_n -= n;
    d->dictionary_known = d->head_n == HEADER_MAX || (end && span->in_n == 0);
    return d->dictionary_known;
}

static enum mz_code_step decode_head(struct decompressor *d, struct mz_code_span *span,
                                     unsigned *out_stat)
{
    ZSTD_inBuffer in = { d->head + d->head_at, d->head_n - d->head_at, 0 };
    enum mz_code_step r = decode(d, &in, span, out_stat);
    d->head_at += in.pos;
    if (r == MZ_CODED_ERROR)
        return r;
    return d->head_at < d->head_n || (r == MZ_CODED_DONE && span->in_n) ? MZ_CODED_AGAIN : r;
}

static enum mz_code_step decompressor_step(void *coder, struct mz_code_span *span, bool end,
                                           unsigned *out_stat)
{
    struct decompressor *d = coder;
    if (!d->dictionary_known) {
        if (!gather_head(d, span, end))
            return MZ_CODED_DONE;
        if (!use_dictionary(d)) {
            *out_stat = DICTIONARY;
            return MZ_CODED_ERROR;
        }
    }
    if (d->head_at < d->head_n)
        return decode_head(d, span, out_stat);
    ZSTD_inBuffer in = { span->in, span->in_n, 0 };
    enum mz_code_step r = decode(d, &in, span, out_stat);
    span->in += in.pos;
    span->in_n -= in.pos;
    return r;
}

/* Frames may follow each other (RFC 8878 3.1). */
static bool decompressor_restart(void *coder, struct mz_str next)
{
    (void)coder, (void)next;
    return true;
}

static void decompressor_close(void *coder)
{
    struct decompressor *d = coder;
    (void)ZSTD_freeDCtx(d->z);
    mz_free(MZ_MEM_STREAM, d);
}

const struct mz_decompressor_type mz_decompressor_zstd = {
    .config_type = "envoy.extensions.compression.zstd.decompressor.v3.Zstd",
    .encoding = "zstd",
    .stat_name = "zstd",
    .stats = &stats,
    .ratio_stat = GENERIC,
    .cut_stat = GENERIC,
    .last_stat = RATIO_EXCEEDED,
    .build = decompressor_build,
    .destroy = decompressor_destroy,
    .open = decompressor_open,
    .step = decompressor_step,
    .restart = decompressor_restart,
    .close = decompressor_close,
};
