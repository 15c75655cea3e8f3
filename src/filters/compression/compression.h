#ifndef MZ_FILTERS_COMPRESSION_COMPRESSION_H
#define MZ_FILTERS_COMPRESSION_COMPRESSION_H
/*
 * The libraries that compressor and decompressor (H9) use: gzip (zlib), brotli and zstd behind one table each. No sockets, no
 * streams: buffers in, buffers out. A library's configuration is immutable and shared by workers; a coder belongs to one
 * stream's direction. Decompressors stop at each @max of output, so that flow control can wait between two steps, and never
 * give more than max_ratio times what came in (E08).
 */
#include "base/buf.h"
#include "base/err.h"
#include "listener/factory.h"
#include "stats/stats.h"

struct Envoy__Config__Core__V3__TypedExtensionConfig;

enum mz_code_op { MZ_CODE_PROCESS, MZ_CODE_FLUSH, MZ_CODE_FINISH };
/* What one step did with its span. */
enum mz_code_step {
    MZ_CODED_DONE,  /* took all input and did what @op asks for */
    MZ_CODED_AGAIN, /* wants more room or has more to do: call again */
    MZ_CODED_ENDED, /* decompressor: the coded stream is over; the span may have bytes left behind it */
    MZ_CODED_ERROR,
};
struct mz_code_span {
    const char *in;
    size_t in_n;
    char *out;
    size_t room;
};

/* ---- compressing ---- */
struct mz_compressor_type {
    const char *config_type, *encoding; /* encoding: as in content-encoding, accept-encoding */
    const char *stat_name;              /* of statistics: compressor.<library's name>.<stat_name>. */
    void *(*build)(const void *msg, const struct mz_factory *f, uint32_t *out_chunk, struct mz_err *err);
    void (*destroy)(void *cfg);
    void *(*open)(const void *cfg);
    enum mz_code_step (*step)(void *coder, enum mz_code_op op, struct mz_code_span *span);
    void (*close)(void *coder);
};
struct mz_compressor_lib {
    const struct mz_compressor_type *type;
    struct mz_str name, encoding;
    uint32_t chunk; /* bytes of output asked for at once */
    void *cfg;
};
/* Main thread; NULL + err, whose path begins within @m. */
struct mz_compressor_lib *mz_compressor_lib_build(const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                                                  const struct mz_factory *f, struct mz_err *err);
void mz_compressor_lib_destroy(struct mz_compressor_lib *l); /* NULL is fine */

struct mz_compressor {
    const struct mz_compressor_lib *lib;
    void *coder;
};
void mz_compressor_open(struct mz_compressor *c, const struct mz_compressor_lib *lib); /* borrows @lib */
void mz_compressor_close(struct mz_compressor *c);                                     /* zeroed or closed is fine */
static inline bool mz_compressor_is_open(const struct mz_compressor *c)
{
    return c->coder != NULL;
}
/* Replaces what is in @data by its compressed form, from which the peer can read all of it at once; @end closes the stream. */
void mz_compressor_run(struct mz_compressor *c, struct mz_buf *data, bool end);

/* ---- decompressing ---- */
struct mz_decompressor_type {
    const char *config_type, *encoding, *stat_name;
    const struct mz_stat_kind *stats; /* errors; the first is what a bomb and a cut stream count as, unless they say more */
    unsigned ratio_stat, cut_stat, last_stat; /* of a bomb; of a stream cut short; "ratio_exceeded" of ours */
    void *(*build)(const void *msg, const struct mz_factory *f, uint32_t *out_chunk, uint32_t *out_ratio,
                   struct mz_err *err);
    void (*destroy)(void *cfg);
    void *(*open)(const void *cfg);
    /* @end: nothing follows the span's input. On ERROR *out_stat is the error's index in stats. */
    enum mz_code_step (*step)(void *coder, struct mz_code_span *span, bool end, unsigned *out_stat);
    /* The stream ended and @next are the first bytes behind it: does another one of the kind begin there? NULL: never. */
    bool (*restart)(void *coder, struct mz_str next);
    void (*close)(void *coder);
};
struct mz_decompressor_lib {
    const struct mz_decompressor_type *type;
    struct mz_str name, encoding;
    uint32_t chunk, max_ratio;
    void *cfg;
};
struct mz_decompressor_lib *mz_decompressor_lib_build(const struct Envoy__Config__Core__V3__TypedExtensionConfig *m,
                                                      const struct mz_factory *f, struct mz_err *err);
void mz_decompressor_lib_destroy(struct mz_decompressor_lib *l); /* NULL is fine */

enum mz_decompress {
    MZ_DECOMPRESS_DONE,  /* all input is used */
    MZ_DECOMPRESS_MORE,  /* @max bytes were given, there may be more */
    MZ_DECOMPRESS_BAD,   /* not such a stream */
    MZ_DECOMPRESS_RATIO, /* more than max_ratio times the input (and a chunk): a bomb */
    MZ_DECOMPRESS_CUT,   /* @end, and the stream is not over */
};
struct mz_decompressor {
    const struct mz_decompressor_lib *lib;
    struct mz_scope *stats; /* borrowed; NULL: errors are not counted */
    void *coder;
    uint64_t in_bytes, out_bytes;
    bool ended;    /* the coded stream is over, ... */
    bool dropping; /* ... and what follows is none */
};
void mz_decompressor_open(struct mz_decompressor *d, const struct mz_decompressor_lib *lib, struct mz_scope *stats);
void mz_decompressor_close(struct mz_decompressor *d); /* zeroed or closed is fine */
static inline bool mz_decompressor_is_open(const struct mz_decompressor *d)
{
    return d->coder != NULL;
}
/* Takes input from the front of @in, appends about @max bytes of output at most (a chunk more) to @out. @end: nothing will
 * come behind @in. A message with no byte at all is not cut. After BAD, RATIO, CUT only close. */
enum mz_decompress mz_decompressor_run(struct mz_decompressor *d, struct mz_buf *in, struct mz_buf *out, size_t max,
                                       bool end);

extern const struct mz_compressor_type mz_compressor_gzip, mz_compressor_brotli, mz_compressor_zstd;
extern const struct mz_decompressor_type mz_decompressor_gzip, mz_decompressor_brotli, mz_decompressor_zstd;
#endif
