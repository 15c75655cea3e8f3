#include "base/test.h"

#include "base/alloc.h"
#include "filters/compression/compression.h"
#include "proto/mapper.h"
#include <stdlib.h>

/* The compression libraries (H9): round trips in pieces, what a flush gives, bombs (E08), cut and spoilt streams. */

static struct mz_arena *arena;
static struct mz_stats *stats;

#define TYPE(name)            "typed_config: {'@type': type.googleapis.com/envoy.extensions.compression." name
#define ENCODER(name, fields) "{name: lib, " TYPE(name) ", " fields "}}"

static bool config(const char *yaml, struct mz_factory *f, pb_TypedExtensionConfig **out,
                   struct mz_err *err)
{
    static struct mz_proto_ctx ctx;
    ctx = (struct mz_proto_ctx){ .arena = arena };
    *f = (struct mz_factory){ .stats = stats, .workers = 1, .proto = &ctx };
    ProtobufCMessage *m;
    if (!mz_msg_from_text(&ctx, mz_str_c(yaml), MZ_TEXT_YAML, &pb_TypedExtensionConfig__descriptor,
                          &m, err))
        return false;
    *out = (pb_TypedExtensionConfig *)m;
    return true;
}

static struct mz_compressor_lib *encoder(const char *yaml)
{
    struct mz_factory f;
    struct mz_err err;
    pb_TypedExtensionConfig *m;
    struct mz_compressor_lib *l =
        config(yaml, &f, &m, &err) ? mz_compressor_lib_build(m, &f, &err) : NULL;
    if (!l)
        fail_msg("%s: %s", err.path, err.msg);
    return l;
}

static struct mz_decompressor_lib *decoder(const char *yaml)
{
    struct mz_factory f;
    struct mz_err err;
    pb_TypedExtensionConfig *m;
    struct mz_decompressor_lib *l =
        config(yaml, &f, &m, &err) ? mz_decompressor_lib_build(m, &f, &err) : NULL;
    if (!l)
        fail_msg("%s: %s", err.path, err.msg);
    return l;
}

static const struct {
    const char *encode, *decode, *encoding;
} pairs[] = {
    { ENCODER("gzip.compressor.v3.Gzip", ""), ENCODER("gzip.decompressor.v3.Gzip", ""), "gzip" },
    { ENCODER("gzip.compressor.v3.Gzip", "memory_level: 9, compression_level: BEST_COMPRESSION, "
                                         "compression_strategy: FILTERED, window_bits: 15, "
                                         "chunk_size: 65536"),
      ENCODER("gzip.decompressor.v3.Gzip", "window_bits: 15, chunk_size: 65536"), "gzip" },
    { ENCODER("gzip.compressor.v3.Gzip", "compression_strategy: HUFFMAN_ONLY, window_bits: 9"),
      ENCODER("gzip.decompressor.v3.Gzip", "window_bits: 9"), "gzip" },
    { ENCODER("brotli.compressor.v3.Brotli", ""), ENCODER("brotli.decompressor.v3.Brotli", ""),
      "br" },
    { ENCODER("brotli.compressor.v3.Brotli",
              "quality: 6, encoder_mode: TEXT, window_bits: 12, input_block_bits: 16, "
              "disable_literal_context_modeling: true"),
      ENCODER("brotli.decompressor.v3.Brotli", "disable_ring_buffer_reallocation: true"), "br" },
    { ENCODER("zstd.compressor.v3.Zstd", ""), ENCODER("zstd.decompressor.v3.Zstd", ""), "zstd" },
    { ENCODER("zstd.compressor.v3.Zstd", "compression_level: 9, enable_checksum: true, strategy: "
                                         "LAZY2, chunk_size: 4096"),
      ENCODER("zstd.decompressor.v3.Zstd", "chunk_size: 4096"), "zstd" },
};

static void fill(char *p, size_t n) /* text of words, some of them again and again */
{
    uint32_t x = 7;
    for (size_t i = 0; i < n; i++) {
        x = x * 1664525u + 1013904223u;
        p[i] = i % 61 < 40 ? "the same words again and again and again"[i % 61] : (char)(x >> 24);
    }
}

static void expect(const struct mz_buf *b, const char *p, size_t n)
{
    assert_int_equal(mz_buf_len(b), n);
    char *got = malloc(n + 1);
    mz_buf_copyout(b, 0, got, n);
    assert_memory_equal(got, p, n);
    free(got);
}

/* All of @in, given in pieces of @piece bytes. */
static enum mz_decompress decode(struct mz_decompressor *d, struct mz_buf *in, size_t piece,
                                 struct mz_buf *out)
{
    struct mz_buf part;
    mz_buf_init(&part);
    enum mz_decompress r;
    do {
        size_t n = mz_buf_len(in) < piece ? mz_buf_len(in) : piece;
        mz_buf_move(&part, in, n);
        do
            r = mz_decompressor_run(d, &part, out, 10000, mz_buf_len(in) == 0);
        while (r == MZ_DECOMPRESS_MORE);
    } while (r == MZ_DECOMPRESS_DONE && mz_buf_len(in));
    mz_buf_fini(&part);
    return r;
}

static void round_trip(size_t pair, size_t total, size_t piece)
{
    struct mz_compressor_lib *el = encoder(pairs[pair].encode);
    struct mz_decompressor_lib *dl = decoder(pairs[pair].decode);
    assert_true(mz_str_eq(el->encoding, mz_str_c(pairs[pair].encoding)));
    assert_true(mz_str_eq(dl->encoding, el->encoding) && mz_str_eq(dl->name, MZ_STR("lib")));
    char *text = malloc(total + 1);
    fill(text, total);
    struct mz_compressor c = { 0 };
    struct mz_decompressor d = { 0 };
    struct mz_buf coded, plain, data;
    mz_buf_init(&coded);
    mz_buf_init(&plain);
    mz_buf_init(&data);
    mz_compressor_open(&c, el);
    for (size_t at = 0; at < total || at == 0; at += piece) {
        mz_buf_append(&data, text + at, total - at < piece ? total - at : piece);
        mz_compressor_run(&c, &data, at + piece >= total);
        mz_buf_move_all(&coded, &data);
    }
    mz_compressor_close(&c);
    uint64_t coded_n = mz_buf_len(&coded);
    mz_decompressor_open(&d, dl, NULL);
    assert_int_equal(decode(&d, &coded, piece / 3 + 1, &plain), MZ_DECOMPRESS_DONE);
    assert_int_equal(d.in_bytes, coded_n);
    assert_int_equal(d.out_bytes, total);
    expect(&plain, text, total);
    mz_decompressor_close(&d);
    mz_buf_fini(&plain);
    mz_buf_fini(&coded);
    mz_buf_fini(&data);
    free(text);
    mz_compressor_lib_destroy(el);
    mz_decompressor_lib_destroy(dl);
}

static void test_round_trips(void **state)
{
    (void)state;
    static const size_t sizes[][2] = { { 0, 1 },        { 1, 1 },         { 1000, 1 },
                                       { 30000, 1000 }, { 30000, 30000 }, { 400000, 65536 } };
    for (size_t p = 0; p < MZ_COUNT(pairs); p++)
        for (size_t i = 0; i < MZ_COUNT(sizes); i++)
            round_trip(p, sizes[i][0], sizes[i][1]);
}

/* The peer reads each piece as soon as it has come, though the stream goes on. */
static void test_flush(void **state)
{
    (void)state;
    for (size_t p = 0; p < MZ_COUNT(pairs); p++) {
        struct mz_compressor_lib *el = encoder(pairs[p].encode);
        struct mz_decompressor_lib *dl = decoder(pairs[p].decode);
        struct mz_compressor c = { 0 };
        struct mz_decompressor d = { 0 };
        struct mz_buf data, plain;
        mz_buf_init(&data);
        mz_buf_init(&plain);
        mz_compressor_open(&c, el);
        mz_decompressor_open(&d, dl, NULL);
        for (int i = 0; i < 20; i++) {
            mz_buf_append_str(&data, MZ_STR("event: one\n"));
            mz_compressor_run(&c, &data, false);
            assert_int_equal(mz_decompressor_run(&d, &data, &plain, 10000, false),
                             MZ_DECOMPRESS_DONE);
            expect(&plain, "event: one\n", 11);
            mz_buf_fini(&plain);
        }
        assert_int_equal(mz_decompressor_run(&d, &data, &plain, 10000, true), MZ_DECOMPRESS_CUT);
        mz_buf_fini(&plain);
        mz_buf_fini(&data);
        mz_compressor_close(&c);
        mz_compressor_close(&c);
        mz_decompressor_close(&d);
        mz_decompressor_close(&d);
        mz_compressor_lib_destroy(el);
        mz_decompressor_lib_destroy(dl);
    }
}

static void compress(const char *yaml, const char *p, size_t n, size_t times, struct mz_buf *out)
{
    struct mz_compressor_lib *l = encoder(yaml);
    struct mz_compressor c = { 0 };
    mz_compressor_open(&c, l);
    for (size_t i = 0; i < times; i++) {
        struct mz_buf data;
        mz_buf_init(&data);
        mz_buf_append(&data, p, n);
        mz_compressor_run(&c, &data, i + 1 == times);
        mz_buf_move_all(out, &data);
        mz_buf_fini(&data);
    }
    mz_compressor_close(&c);
    mz_compressor_lib_destroy(l);
}

static const struct {
    const char *encode, *decode, *error;
} bombs[] = {
    { ENCODER("gzip.compressor.v3.Gzip", "compression_level: BEST_COMPRESSION, window_bits: 15"),
      ENCODER("gzip.decompressor.v3.Gzip", ""), "e.zlib_data_error" },
    { ENCODER("gzip.compressor.v3.Gzip", ""),
      ENCODER("gzip.decompressor.v3.Gzip", "max_inflate_ratio: 2"), "e.zlib_data_error" },
    { ENCODER("brotli.compressor.v3.Brotli", ""), ENCODER("brotli.decompressor.v3.Brotli", ""),
      "e.brotli_error" },
    { ENCODER("zstd.compressor.v3.Zstd", ""), ENCODER("zstd.decompressor.v3.Zstd", ""),
      "e.zstd_generic_error" },
};

/* E08: 32 MiB of zeros. No step gives more than the limit; the end comes within it, and is counted. */
static void test_bombs(void **state)
{
    (void)state;
    static char zeros[1048576];
    for (size_t i = 0; i < MZ_COUNT(bombs); i++) {
        struct mz_buf coded, plain;
        mz_buf_init(&coded);
        mz_buf_init(&plain);
        compress(bombs[i].encode, zeros, sizeof(zeros), 32, &coded);
        struct mz_decompressor_lib *l = decoder(bombs[i].decode);
        uint64_t most = mz_buf_len(&coded) * l->max_ratio + 2 * l->chunk, n, before = 0;
        struct mz_scope *scope = mz_scope_create(stats, l->type->stats, MZ_STR("e."));
        (void)mz_stats_find(stats, mz_str_c(bombs[i].error), &before);
        struct mz_decompressor d = { 0 };
        mz_decompressor_open(&d, l, scope);
        assert_int_equal(decode(&d, &coded, 4000, &plain), MZ_DECOMPRESS_RATIO);
        assert_true(mz_buf_len(&plain) <= most);
        assert_true(mz_stats_find(stats, mz_str_c(bombs[i].error), &n) && n == before + 1);
        assert_true(mz_stats_find(stats, MZ_STR("e.ratio_exceeded"), &n) && n >= 1);
        mz_decompressor_close(&d);
        mz_scope_unref(scope);
        mz_buf_fini(&coded);
        mz_buf_fini(&plain);
        mz_decompressor_lib_destroy(l);
    }
}

/* What one step makes is bounded too, whatever the input. */
static void test_steps(void **state)
{
    (void)state;
    static char zeros[65536];
    struct mz_buf coded, plain;
    mz_buf_init(&coded);
    mz_buf_init(&plain);
    compress(ENCODER("gzip.compressor.v3.Gzip", ""), zeros, sizeof(zeros), 100, &coded);
    struct mz_decompressor_lib *l =
        decoder(ENCODER("gzip.decompressor.v3.Gzip", "max_inflate_ratio: 1032"));
    struct mz_decompressor d = { 0 };
    mz_decompressor_open(&d, l, NULL);
    size_t total = 0;
    enum mz_decompress r;
    do {
        r = mz_decompressor_run(&d, &coded, &plain, 10000, true);
        assert_true(mz_buf_len(&plain) <= 10000 + l->chunk);
        total += mz_buf_len(&plain);
        mz_buf_fini(&plain);
    } while (r == MZ_DECOMPRESS_MORE);
    assert_int_equal(r, MZ_DECOMPRESS_DONE);
    assert_int_equal(total, 100 * sizeof(zeros));
    mz_buf_fini(&coded);
    mz_buf_fini(&plain);
    mz_decompressor_close(&d);
    mz_decompressor_lib_destroy(l);
}

enum { WHOLE, CUT, JUNK_BEHIND, TWICE, SPOILT, NOTHING, NO_SUCH };
static const struct {
    size_t pair;
    int how;
    enum mz_decompress result;
    size_t bytes;
} streams[] = {
    { 0, WHOLE, MZ_DECOMPRESS_DONE, 5000 },       { 3, WHOLE, MZ_DECOMPRESS_DONE, 5000 },
    { 5, WHOLE, MZ_DECOMPRESS_DONE, 5000 },       { 0, CUT, MZ_DECOMPRESS_CUT, 5000 },
    { 3, CUT, MZ_DECOMPRESS_CUT, 5000 },          { 5, CUT, MZ_DECOMPRESS_CUT, 5000 },
    { 0, JUNK_BEHIND, MZ_DECOMPRESS_DONE, 5000 }, { 3, JUNK_BEHIND, MZ_DECOMPRESS_DONE, 5000 },
    { 5, JUNK_BEHIND, MZ_DECOMPRESS_BAD, 5000 },  { 0, TWICE, MZ_DECOMPRESS_DONE, 10000 },
    { 5, TWICE, MZ_DECOMPRESS_DONE, 10000 },      { 0, SPOILT, MZ_DECOMPRESS_BAD, 5000 },
    { 0, NOTHING, MZ_DECOMPRESS_DONE, 0 },        { 3, NOTHING, MZ_DECOMPRESS_DONE, 0 },
    { 5, NOTHING, MZ_DECOMPRESS_DONE, 0 },        { 0, NO_SUCH, MZ_DECOMPRESS_BAD, 0 },
    { 3, NO_SUCH, MZ_DECOMPRESS_BAD, 0 },         { 5, NO_SUCH, MZ_DECOMPRESS_BAD, 0 },
};

static void spoil(struct mz_buf *b, int how)
{
    size_t n = mz_buf_len(b);
    char *p = (char *)(uintptr_t)mz_buf_linearize(b, n).p;
    struct mz_buf head;
    mz_buf_init(&head);
    if (how == CUT) {
        mz_buf_move(&head, b, n - 1);
        mz_buf_drain(b, 1);
        mz_buf_move_all(b, &head);
    } else if (how == JUNK_BEHIND) {
        mz_buf_append(b, "\x1f and more", 10);
    } else if (how == TWICE) {
        mz_buf_append(b, p, n);
    } else if (how == SPOILT) {
        p[n - 6] ^= 1; /* of the checksum */
    } else if (how >= NOTHING) {
        mz_buf_fini(b);
        if (how == NO_SUCH)
            mz_buf_append(b, "\xff\xffplain text, which none of them is", 36);
    }
}

static void test_streams(void **state)
{
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(streams); i++)
        for (size_t piece = 1; piece < 100000; piece *= 20) {
            char text[5000];
            fill(text, sizeof(text));
            struct mz_buf coded, plain;
            mz_buf_init(&coded);
            mz_buf_init(&plain);
            compress(pairs[streams[i].pair].encode, text, sizeof(text), 1, &coded);
            spoil(&coded, streams[i].how);
            struct mz_decompressor_lib *l = decoder(pairs[streams[i].pair].decode);
            struct mz_decompressor d = { 0 };
            mz_decompressor_open(&d, l, NULL);
            enum mz_decompress r = decode(&d, &coded, piece, &plain);
            if (r != streams[i].result ||
                (r == MZ_DECOMPRESS_DONE && mz_buf_len(&plain) != streams[i].bytes))
                fail_msg("stream %zu in pieces of %zu: %d, %zu bytes", i, piece, (int)r,
                         mz_buf_len(&plain));
            mz_decompressor_close(&d);
            mz_buf_fini(&coded);
            mz_buf_fini(&plain);
            mz_decompressor_lib_destroy(l);
        }
}

static void test_config_errors(void **state)
{
    (void)state;
    static const struct {
        const char *yaml, *path, *msg;
    } wrong[] = {
        { ENCODER("gzip.decompressor.v3.Gzip", ""), "typed_config", "must be one of" },
        { ENCODER("gzip.compressor.v3.Gzip", "memory_level: 10"), "typed_config.memory_level",
          "must be" },
        { ENCODER("gzip.compressor.v3.Gzip", "chunk_size: 4095"), "typed_config.chunk_size",
          "must be" },
        { ENCODER("brotli.compressor.v3.Brotli", "quality: 12"), "typed_config.quality",
          "must be" },
        { ENCODER("zstd.compressor.v3.Zstd", "dictionary: {inline_string: ''}"),
          "typed_config.dictionary", "is empty" },
        { ENCODER("zstd.compressor.v3.Zstd", "dictionary: {filename: /no/such/file}"),
          "typed_config.dictionary", "" },
    };
    for (size_t i = 0; i < MZ_COUNT(wrong); i++) {
        struct mz_factory f;
        struct mz_err err;
        pb_TypedExtensionConfig *m;
        if (config(wrong[i].yaml, &f, &m, &err))
            assert_null(mz_compressor_lib_build(m, &f, &err));
        if (!strstr(err.path, wrong[i].path) || !strstr(err.msg, wrong[i].msg))
            fail_msg("%zu: %s: %s", i, err.path, err.msg);
    }
}

static int setup(void **state)
{
    (void)state;
    arena = mz_arena_create(MZ_MEM_MISC);
    stats = mz_stats_create(2);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    mz_stats_destroy(stats);
    mz_arena_destroy(arena);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trips), cmocka_unit_test(test_flush),
        cmocka_unit_test(test_bombs),       cmocka_unit_test(test_steps),
        cmocka_unit_test(test_streams),     cmocka_unit_test(test_config_errors),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
