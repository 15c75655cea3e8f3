#ifndef MZ_BASE_PERCENT_H
#define MZ_BASE_PERCENT_H
/* Percent-encoding (RFC 3986 2.1); any thread. */
#include "base/arena.h"
#include "base/str.h"

struct mz_str mz_percent_decode(struct mz_arena *a,
                                struct mz_str s); /* once; what is no escape stays; may return s */
/* Escapes what is not visible ASCII, and '%' and the bytes of @reserved. */
struct mz_str mz_percent_encode(struct mz_arena *a, struct mz_str s, const char *reserved);
#endif
