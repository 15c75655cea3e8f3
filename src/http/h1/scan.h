#ifndef MZ_HTTP_H1_SCAN_H
#define MZ_HTTP_H1_SCAN_H
/*
 * Finding ends fast. Each function has a form of one byte at a time with the same result: used where the CPU has no SSE2,
 * and compared by a test.
 */
#include "http/validate.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#if defined(__AVX2__)
#include <immintrin.h> /* long: a quarter of a second at each compilation */
#elif defined(__SSE2__)
#include <emmintrin.h>
#endif

#define MZ_H1_PAD                                                                                  \
    32 /* readable bytes that h1_value_end() wants behind the text, the first of them 0 */

static inline bool h1_value_stop(unsigned char c)
{
    return (c < 0x20 && c != '\t') || c == 0x7f;
}

/* The first byte that no field value may hold: CR, LF, NUL, other controls, DEL. There must be one (the padding). */
static inline char *h1_value_end_bytes(char *p)
{
    while (!h1_value_stop((unsigned char)*p))
        p++;
    return p;
}

#if defined(__AVX2__)
static inline char *h1_value_end(char *p)
{
    const __m256i low = _mm256_set1_epi8(0x1f), tab = _mm256_set1_epi8('\t'),
                  del = _mm256_set1_epi8(0x7f);
    for (;; p += 32) {
        __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)p);
        __m256i ctl = _mm256_cmpeq_epi8(_mm256_min_epu8(v, low), v);
        __m256i bad = _mm256_or_si256(_mm256_andnot_si256(_mm256_cmpeq_epi8(v, tab), ctl),
                                      _mm256_cmpeq_epi8(v, del));
        unsigned m = (unsigned)_mm256_movemask_epi8(bad);
        if (m)
            return p + __builtin_ctz(m);
    }
}
#elif defined(__SSE2__)
static inline char *h1_value_end(char *p)
{
    const __m128i low = _mm_set1_epi8(0x1f), tab = _mm_set1_epi8('\t'), del = _mm_set1_epi8(0x7f);
    for (;; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i ctl = _mm_cmpeq_epi8(_mm_min_epu8(v, low), v);
        __m128i bad =
            _mm_or_si128(_mm_andnot_si128(_mm_cmpeq_epi8(v, tab), ctl), _mm_cmpeq_epi8(v, del));
        unsigned m = (unsigned)_mm_movemask_epi8(bad);
        if (m)
            return p + __builtin_ctz(m);
    }
}
#else
static inline char *h1_value_end(char *p)
{
    return h1_value_end_bytes(p);
}
#endif

/* Lower-cases the token at @p in place; its end. A NUL or another byte that is no token character must follow (the padding). */
static inline char *h1_name_end_bytes(char *p)
{
    for (uint8_t low; (low = mz_token_lower[(unsigned char)*p]) != 0; p++)
        *p = (char)low;
    return p;
}

/* The end of a word of the request line: the first control, blank, DEL or byte above it. There must be one (the padding). */
static inline char *h1_word_end_bytes(char *p)
{
    while (*p > 0x20 && *p != 0x7f) /* a char above 0x7f is negative */
        p++;
    return p;
}

/* Are these all bytes of a host (RFC 3986 3.2)? */
static inline bool h1_host_valid_bytes(const char *p, size_t n)
{
    return mz_authority_valid((struct mz_str){ p, n });
}

#ifdef __SSE2__
static inline char *h1_word_end(char *p)
{
    for (;; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p);
        __m128i word = _mm_andnot_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8(0x7f)),
                                        _mm_cmpgt_epi8(v, _mm_set1_epi8(0x20)));
        unsigned stop = ~(unsigned)_mm_movemask_epi8(word) & 0xffff;
        if (stop)
            return p + __builtin_ctz(stop);
    }
}

/* 0xff where @v has a letter, a digit or '-'; @low is @v with 0x20 set. */
static inline __m128i h1_plain_16(__m128i v, __m128i low)
{
    __m128i a = _mm_sub_epi8(low, _mm_set1_epi8('a')), d = _mm_sub_epi8(v, _mm_set1_epi8('0'));
    __m128i ok = _mm_or_si128(_mm_cmpeq_epi8(_mm_min_epu8(a, _mm_set1_epi8(25)), a),
                              _mm_cmpeq_epi8(_mm_min_epu8(d, _mm_set1_epi8(9)), d));
    return _mm_or_si128(ok, _mm_cmpeq_epi8(v, _mm_set1_epi8('-')));
}

/* Nearly all hosts are letters, digits, '-', '.' and ':', which are looked at 16 at a time. */
static inline bool h1_host_valid(const char *p, size_t n)
{
    for (size_t i = 0; i < n; i += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(p + i));
        __m128i ok = h1_plain_16(v, _mm_or_si128(v, _mm_set1_epi8(0x20)));
        ok = _mm_or_si128(ok, _mm_or_si128(_mm_cmpeq_epi8(v, _mm_set1_epi8('.')),
                                           _mm_cmpeq_epi8(v, _mm_set1_epi8(':'))));
        unsigned plain = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(ok));
        if (plain < 16 && i + plain < n)
            return h1_host_valid_bytes(p + i, n - i);
    }
    return true;
}

/* Letters, digits and '-' 16 at a time (0x20 set in each of them is its lower case); what else a token may hold one by one. */
static inline char *h1_name_end(char *p)
{
    static const uint8_t first[32] = { [0 ... 15] = 0xff };
    const __m128i bit = _mm_set1_epi8(0x20);
    for (;; p += 16) {
        __m128i v = _mm_loadu_si128((const __m128i *)(const void *)p), low = _mm_or_si128(v, bit);
        __m128i ok = h1_plain_16(v, low);
        unsigned n = (unsigned)__builtin_ctz(~(unsigned)_mm_movemask_epi8(ok));
        __m128i keep = _mm_loadu_si128((const __m128i *)(const void *)(first + 16 - n));
        __m128i out = _mm_or_si128(_mm_and_si128(low, keep), _mm_andnot_si128(keep, v));
        _mm_storeu_si128((__m128i *)(void *)p, out);
        if (n < 16)
            return *(p + n) == ':' ? p + n : h1_name_end_bytes(p + n);
    }
}
#else
static inline char *h1_name_end(char *p)
{
    return h1_name_end_bytes(p);
}
static inline char *h1_word_end(char *p)
{
    return h1_word_end_bytes(p);
}
static inline bool h1_host_valid(const char *p, size_t n)
{
    return h1_host_valid_bytes(p, n);
}
#endif

/* Where in a head the search for its end stands: how many of LF, or LF CR, were the last bytes. */
enum h1_end_state { H1_END_NONE, H1_END_LF, H1_END_LF_CR };

/* Bytes of @p up to and with the empty line that ends a head, or 0; @st carries over from text to text. */
static inline size_t h1_head_end_bytes(const char *p, size_t n, enum h1_end_state *st)
{
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n') {
            if (*st != H1_END_NONE)
                return i + 1;
            *st = H1_END_LF;
        } else {
            *st = p[i] == '\r' && *st == H1_END_LF ? H1_END_LF_CR : H1_END_NONE;
        }
    }
    return 0;
}

#ifdef __SSE2__
/* The state behind the last of @n bytes, at least 2, none of which ended the head. */
static inline enum h1_end_state h1_end_state_of(const char *p, size_t n)
{
    if (p[n - 1] == '\n')
        return H1_END_LF;
    return p[n - 1] == '\r' && p[n - 2] == '\n' ? H1_END_LF_CR : H1_END_NONE;
}

/* Of 32 places (34 bytes are read): is here LF, and behind it LF, or CR LF? Bytes up to the end of the head, or 0. */
static inline size_t h1_head_end_32(const char *p)
{
    const __m128i nl = _mm_set1_epi8('\n');
    __m128i a = _mm_loadu_si128((const __m128i *)(const void *)p),
            b = _mm_loadu_si128((const __m128i *)(const void *)(p + 16));
    unsigned lines = (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(a, nl)) |
                     (unsigned)_mm_movemask_epi8(_mm_cmpeq_epi8(b, nl)) << 16;
    for (; lines; lines &= lines - 1) { /* a line in 32 bytes is usual, three are not */
        const char *next = p + __builtin_ctz(lines) + 1;
        if (next[0] == '\n')
            return (size_t)(next + 1 - p);
        if (next[0] == '\r' && next[1] == '\n')
            return (size_t)(next + 2 - p);
    }
    return 0;
}

static inline size_t h1_head_end(const char *p, size_t n, enum h1_end_state *st)
{
    size_t i = 0, k;
    for (; i < n && *st != H1_END_NONE; i++)
        if (h1_head_end_bytes(p + i, 1, st))
            return i + 1;
    if (n - i < 34) {
        k = h1_head_end_bytes(p + i, n - i, st);
        return k ? i + k : 0;
    }
    for (; i + 34 <= n; i += 32)
        if ((k = h1_head_end_32(p + i)) != 0)
            return i + k;
    i = n -
        34; /* the rest, with places that were looked at before; LF LF at the very end is seen by none */
    if ((k = h1_head_end_32(p + i)) != 0)
        return i + k;
    if (p[n - 1] == '\n' && p[n - 2] == '\n')
        return n;
    *st = h1_end_state_of(p + i, 34);
    return 0;
}
#else
static inline size_t h1_head_end(const char *p, size_t n, enum h1_end_state *st)
{
    return h1_head_end_bytes(p, n, st);
}
#endif
#endif
