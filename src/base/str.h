#ifndef MZ_BASE_STR_H
#define MZ_BASE_STR_H
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* A borrowed run of bytes: not NUL-terminated, never owned; valid as long as its source is. p may be NULL where n is 0. */
struct mz_str {
    const char *p;
    size_t n;
};
#define MZ_STR_INIT(lit) { "" lit, sizeof(lit) - 1 } /* for static tables */
#define MZ_STR(lit)      ((struct mz_str){ "" lit, sizeof(lit) - 1 })
#define MZ_STR_FMT       "%.*s"
#define MZ_STR_ARG(s)    (int)(s).n, (s).p

static inline struct mz_str mz_str_c(const char *s) /* NULL gives the empty string */
{
    return (struct mz_str){ s, s ? strlen(s) : 0 };
}
static inline bool mz_str_eq(struct mz_str a, struct mz_str b)
{
    return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool mz_str_starts(struct mz_str s, struct mz_str prefix)
{
    return s.n >= prefix.n && (prefix.n == 0 || memcmp(s.p, prefix.p, prefix.n) == 0);
}
static inline bool mz_str_ends(struct mz_str s, struct mz_str suffix)
{
    return s.n >= suffix.n && (suffix.n == 0 || memcmp(s.p + s.n - suffix.n, suffix.p, suffix.n) == 0);
}
static inline struct mz_str mz_str_skip(struct mz_str s, size_t n) /* n is at most s.n */
{
    if (n && !s.p)
        __builtin_unreachable(); /* tells compilers and checkers: only the empty string may have no bytes */
    return (struct mz_str){ s.p + n, s.n - n };
}
static inline char mz_lower(char c) /* ASCII only */
{
    return c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}
bool mz_str_ieq_n(const char *a, const char *b, size_t n);
static inline bool mz_str_ieq(struct mz_str a, struct mz_str b) /* ASCII case-insensitive */
{
    return a.n == b.n && mz_str_ieq_n(a.p, b.p, a.n);
}
bool mz_str_istarts(struct mz_str s, struct mz_str prefix);
int mz_str_cmp(struct mz_str a, struct mz_str b);            /* as memcmp, shorter first */
ptrdiff_t mz_str_find(struct mz_str s, struct mz_str needle); /* -1 when absent */
ptrdiff_t mz_str_chr(struct mz_str s, char c);
ptrdiff_t mz_str_rchr(struct mz_str s, char c);
struct mz_str mz_str_trim(struct mz_str s); /* blanks and tabs (OWS) at both ends */

/* Cuts the text before the first @sep off the front of @rest. False when @rest was empty. */
bool mz_str_split(struct mz_str *rest, char sep, struct mz_str *out_part);

/* Whole text must be the number: no sign, no blanks, no overflow. @out_value is untouched on failure. */
bool mz_str_u64(struct mz_str s, uint64_t *out_value);
bool mz_str_i64(struct mz_str s, int64_t *out_value); /* an optional leading '-' */

/* Keyed hash (seeded once per process from the system's randomness; H/E11: not predictable by peers). */
uint64_t mz_str_hash(struct mz_str s);
uint64_t mz_str_ihash(struct mz_str s);               /* of the lower-cased text */
uint64_t mz_xxh64(const void *p, size_t n, uint64_t seed); /* xxHash64, where Envoy's own values are visible */

/* Edit distance with a cap, for "did you mean"; returns cap + 1 when it is larger, or where more than 64 bytes differ. */
unsigned mz_str_distance(struct mz_str a, struct mz_str b, unsigned cap);

/* Writes the decimal digits of v (at most 20) and returns their count; no NUL. */
size_t mz_u64_text(uint64_t v, char out_text[20]);
void mz_u64_hex(uint64_t v, char out_text[16]); /* 16 digits, no NUL */
#endif
