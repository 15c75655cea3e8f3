#ifndef MZ_OBSERVE_TEXT_COPY_H
#define MZ_OBSERVE_TEXT_COPY_H
/*
 * Copies of the short texts that log lines are made of, and in the same pass whether one of their bytes wants escaping. Sixteen
 * bytes are looked at together; the last ones of a text are read again with the end of the text, so nothing behind it is.
 */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

enum text_rule {
    TEXT_RAW,  /* every byte as it is */
    TEXT_LOG,  /* control bytes would break lines and terminals (B18); TAB is found, too, though it may stay */
    TEXT_JSON, /* what a string of JSON does not hold as it is, and bytes of which UTF-8 has to be proved */
};
typedef unsigned char text_block __attribute__((vector_size(16)));
typedef signed char text_signed __attribute__((vector_size(16)));
typedef uint64_t text_halves __attribute__((vector_size(16)));

/* Bytes of @b that @rule escapes become 255, all others 0. */
static inline __attribute__((always_inline)) text_block text_odd(text_block b, enum text_rule rule)
{
    if (rule == TEXT_LOG)
        return (text_block)(b < 0x20) | (text_block)(b == 0x7f);
    return (text_block)((text_signed)b < 0x20) | (text_block)(b == 0x7f) | (text_block)(b == '"') |
           (text_block)(b == '\\'); /* signed: from 0x80 on they are negative */
}

static inline __attribute__((always_inline)) bool text_any(text_block odd)
{
    text_halves h = (text_halves)odd;
    return (h[0] | h[1]) != 0;
}

/* Copies @n bytes, of which the caller knows that they fit. True: @rule escapes at least one of them. */
static inline __attribute__((always_inline)) bool text_copy(char *to, const char *from, size_t n,
                                                            enum text_rule rule)
{
    text_block odd = { 0 }, b;
    if (n >= 16) {
        for (size_t i = 0; i + 16 < n; i += 16) {
            memcpy(&b, from + i, 16);
            memcpy(to + i, &b, 16);
            odd |= text_odd(b, rule);
        }
        memcpy(&b, from + n - 16, 16);
        memcpy(to + n - 16, &b, 16);
        odd |= text_odd(b, rule);
    } else if (n >= 8) {
        uint64_t begin, end;
        memcpy(&begin, from, 8);
        memcpy(&end, from + n - 8, 8);
        memcpy(to, &begin, 8);
        memcpy(to + n - 8, &end, 8);
        odd = text_odd((text_block)(text_halves){ begin, end }, rule);
    } else if (n >= 4) {
        uint32_t begin, end;
        memcpy(&begin, from, 4);
        memcpy(&end, from + n - 4, 4);
        memcpy(to, &begin, 4);
        memcpy(to + n - 4, &end, 4);
        uint64_t both = begin | (uint64_t)end << 32;
        odd = text_odd((text_block)(text_halves){ both, both }, rule);
    } else if (n) {
        unsigned char first = (unsigned char)from[0], middle = (unsigned char)from[n / 2],
                      last = (unsigned char)from[n - 1];
        to[0] = (char)first;
        to[n / 2] = (char)middle;
        to[n - 1] = (char)last;
        uint64_t all = first | (uint32_t)middle << 8 | (uint32_t)last << 16 | (uint32_t)last << 24;
        odd = text_odd((text_block)(text_halves){ all | all << 32, all | all << 32 }, rule);
    }
    return rule != TEXT_RAW && text_any(odd);
}
#endif
