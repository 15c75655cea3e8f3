#include "filters/compression/compression.h"

#include "base/alloc.h"
#include "base/log.h"
#include "proto/mapper.h"

/* The lists of libraries, and the loops around a library's steps. */

static const struct mz_compressor_type *const compressors[] = {
    &mz_compressor_brotli,
    &mz_compressor_gzip,
    &mz_compressor_zstd,
};
static const struct mz_decompressor_type *const decompressors[] = {
    &mz_decompressor_brotli,
    &mz_decompressor_gzip,
    &mz_decompressor_zstd,
};

/* ---- configuration ---- */

static struct mz_str keep(const char *text)
{
    size_t n = strlen(text);
    return (struct mz_str){ mz_strndup(MZ_MEM_CONFIG, text, n), n };
}

static void drop(struct mz_str s)
{
    mz_free(MZ_MEM_CONFIG, (void *)(uintptr_t)s.p);
}

/* Opens the library's message. @names: the types that would fit, for the error. */
static ProtobufCMessage *open_config(const pb_TypedExtensionConfig *m, const struct mz_factory *f,
                                     const char *names, struct mz_err *err)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg = NULL;
    if (!m->typed_config)
        mz_err_set(err, "typed_config must be one of %s, is absent", names);
    else if (!mz_any_unpack(f->proto, m->typed_config, &type, &msg, err))
        mz_err_at(err, "typed_config");
    return msg;
}

struct mz_compressor_lib *mz_compressor_lib_build(const pb_TypedExtensionConfig *m,
                                                  const struct mz_factory *f, struct mz_err *err)
{
    static const char names[] = "envoy.extensions.compression.{gzip.compressor.v3.Gzip, "
                                "brotli.compressor.v3.Brotli, zstd.compressor.v3.Zstd}";
    ProtobufCMessage *msg = open_config(m, f, names, err);
    if (!msg)
        return NULL;
    const struct mz_compressor_type *t = NULL;
    for (size_t i = 0; i < MZ_COUNT(compressors); i++)
        if (strcmp(msg->descriptor->name, compressors[i]->config_type) == 0)
            t = compressors[i];
    if (!t) {
        mz_err_set(err, "must be one of %s, is %s", names, msg->descriptor->name);
        mz_err_at(err, "typed_config");
        return NULL;
    }
    uint32_t chunk = 0;
    void *cfg = t->build(msg, f, &chunk, err);
    if (!cfg) {
        mz_err_at(err, "typed_config");
        return NULL;
    }
    struct mz_compressor_lib *l = mz_new0(MZ_MEM_CONFIG, struct mz_compressor_lib);
    *l = (struct mz_compressor_lib){ t, keep(m->name), mz_str_c(t->encoding), chunk, cfg };
    return l;
}

void mz_compressor_lib_destroy(struct mz_compressor_lib *l)
{
    if (!l)
        return;
    l->type->destroy(l->cfg);
    drop(l->name);
    mz_free(MZ_MEM_CONFIG, l);
}

struct mz_decompressor_lib *mz_decompressor_lib_build(const pb_TypedExtensionConfig *m,
                                                      const struct mz_factory *f,
                                                      struct mz_err *err)
{
    static const char names[] = "envoy.extensions.compression.{gzip.decompressor.v3.Gzip, "
                                "brotli.decompressor.v3.Brotli, zstd.decompressor.v3.Zstd}";
    ProtobufCMessage *msg = open_config(m, f, names, err);
    if (!msg)
        return NULL;
    const struct mz_decompressor_type *t = NULL;
    for (size_t i = 0; i < MZ_COUNT(decompressors); i++)
        if (strcmp(msg->descriptor->name, decompressors[i]->config_type) == 0)
            t = decompressors[i];
    if (!t) {
        mz_err_set(err, "must be one of %s, is %s", names, msg->descriptor->name);
        mz_err_at(err, "typed_config");
        return NULL;
    }
    uint32_t chunk = 0, ratio = 0;
    void *cfg = t->build(msg, f, &chunk, &ratio, err);
    if (!cfg) {
        mz_err_at(err, "typed_config");
        return NULL;
    }
    struct mz_decompressor_lib *l = mz_new0(MZ_MEM_CONFIG, struct mz_decompressor_lib);
    *l = (struct mz_decompressor_lib){ t, keep(m->name), mz_str_c(t->encoding), chunk, ratio, cfg };
    return l;
}

void mz_decompressor_lib_destroy(struct mz_decompressor_lib *l)
{
    if (!l)
        return;
    l->type->destroy(l->cfg);
    drop(l->name);
    mz_free(MZ_MEM_CONFIG, l);
}

/* ---- compressing ---- */

void mz_compressor_open(struct mz_compressor *c, const struct mz_compressor_lib *lib)
{
    c->lib = lib;
    c->coder = lib->type->open(lib->cfg);
}

void mz_compressor_close(struct mz_compressor *c)
{
    if (c->coder)
        c->lib->type->close(c->coder);
    c->coder = NULL;
}

static void steps(struct mz_compressor *c, struct mz_str in, enum mz_code_op op, struct mz_buf *out)
{
    struct mz_code_span s = { .in = in.p, .in_n = in.n };
    enum mz_code_step r;
    do {
        size_t room;
        s.out = mz_buf_reserve(out, c->lib->chunk, &room);
        s.room = c->lib->chunk;
        r = c->lib->type->step(c->coder, op, &s);
        mz_buf_commit(out, c->lib->chunk - s.room);
    } while (r == MZ_CODED_AGAIN);
    (void)MZ_BUG(r == MZ_CODED_ERROR); /* a compressor takes every byte */
}

void mz_compressor_run(struct mz_compressor *c, struct mz_buf *data, bool end)
{
    struct mz_buf out;
    mz_buf_init(&out);
    while (mz_buf_len(data)) {
        struct mz_str part = mz_buf_first(data);
        steps(c, part, MZ_CODE_PROCESS, &out);
        mz_buf_drain(data, part.n);
    }
    steps(c, MZ_STR(""), end ? MZ_CODE_FINISH : MZ_CODE_FLUSH, &out);
    mz_buf_move_all(data, &out);
    mz_buf_fini(&out);
}

/* ---- decompressing ---- */

void mz_decompressor_open(struct mz_decompressor *d, const struct mz_decompressor_lib *lib,
                          struct mz_scope *stats)
{
    *d = (struct mz_decompressor){ .lib = lib, .stats = stats, .coder = lib->type->open(lib->cfg) };
}

void mz_decompressor_close(struct mz_decompressor *d)
{
    if (d->coder)
        d->lib->type->close(d->coder);
    d->coder = NULL;
}

static enum mz_decompress failed(struct mz_decompressor *d, enum mz_decompress why, unsigned stat)
{
    if (d->stats) {
        mz_count(d->stats, stat, 1);
        if (why == MZ_DECOMPRESS_RATIO)
            mz_count(d->stats, d->lib->type->last_stat, 1);
    }
    return why;
}

static bool too_much(const struct mz_decompressor *d, const struct mz_buf *in)
{
    uint64_t all_in = d->in_bytes + mz_buf_len(in);
    return d->out_bytes > all_in * d->lib->max_ratio + d->lib->chunk;
}

/* One step with the first bytes of @in. */
static enum mz_code_step step(struct mz_decompressor *d, struct mz_buf *in, struct mz_buf *out,
                              bool end, unsigned *out_stat)
{
    struct mz_str part = mz_buf_first(in);
    size_t chunk = d->lib->chunk, room;
    struct mz_code_span s = { part.n ? part.p : "", part.n, mz_buf_reserve(out, chunk, &room),
                              chunk };
    enum mz_code_step r =
        d->lib->type->step(d->coder, &s, end && part.n == mz_buf_len(in), out_stat);
    mz_buf_commit(out, chunk - s.room);
    d->out_bytes += chunk - s.room;
    d->in_bytes += part.n - s.in_n;
    mz_buf_drain(in, part.n - s.in_n);
    return r;
}

/* The stream is over and bytes are behind it: another one may begin there; else all that follows is dropped. */
static bool next_stream(struct mz_decompressor *d, struct mz_buf *in)
{
    const struct mz_decompressor_type *t = d->lib->type;
    d->dropping = d->dropping || !t->restart || !t->restart(d->coder, mz_buf_first(in));
    d->ended = d->dropping;
    if (d->dropping) {
        d->in_bytes += mz_buf_len(in);
        mz_buf_fini(in);
    }
    return !d->dropping;
}

enum mz_decompress mz_decompressor_run(struct mz_decompressor *d, struct mz_buf *in,
                                       struct mz_buf *out, size_t max, bool end)
{
    const struct mz_decompressor_type *t = d->lib->type;
    size_t before = mz_buf_len(out);
    enum mz_code_step r = d->ended ? MZ_CODED_ENDED : MZ_CODED_AGAIN;
    while (mz_buf_len(in) || r == MZ_CODED_AGAIN) {
        unsigned stat = 0;
        if (d->ended && !next_stream(d, in))
            break;
        r = step(d, in, out, end, &stat);
        if (r == MZ_CODED_ERROR)
            return failed(d, MZ_DECOMPRESS_BAD, stat);
        if (too_much(d, in))
            return failed(d, MZ_DECOMPRESS_RATIO, t->ratio_stat);
        d->ended = r == MZ_CODED_ENDED;
        if (mz_buf_len(out) - before >= max && (!d->ended || mz_buf_len(in)))
            return MZ_DECOMPRESS_MORE;
    }
    if (end && !d->ended && d->in_bytes)
        return failed(d, MZ_DECOMPRESS_CUT, t->cut_stat);
    return MZ_DECOMPRESS_DONE;
}
