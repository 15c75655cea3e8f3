#ifndef MZ_BASE_BASE64_H
#define MZ_BASE_BASE64_H
#include "base/arena.h"

/* The standard alphabet (RFC 4648, 4), with padding or without; bits behind the last byte must be 0. False: not base64. The
 * result lives in @a. */
bool mz_base64_decode(struct mz_str text, struct mz_arena *a, struct mz_str *out);
/* The alphabet for URLs (RFC 4648, 5), otherwise the same. */
bool mz_base64url_decode(struct mz_str text, struct mz_arena *a, struct mz_str *out);
struct mz_str mz_base64_encode(struct mz_str bytes,
                               struct mz_arena *a); /* the standard alphabet, padded */
#endif
