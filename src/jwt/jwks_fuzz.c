/* Any bytes as a set of keys: what is accepted has keys, which verify nothing that they did not sign. */
#include "jwt/jwt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

/* {"alg":...}.{}.(bytes): a signature of zeroes fits no key */
static const char *const tokens[] = {
    "eyJhbGciOiJSUzI1NiJ9.e30.AAAA",
    ("eyJhbGciOiJFUzI1NiJ9.e30."
     "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
    "eyJhbGciOiJIUzI1NiJ9.e30.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
};

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    enum mz_jwt_status s = MZ_JWT_OK;
    struct mz_jwks *set = mz_jwks_create((struct mz_str){ (const char *)p, n }, &s);
    if (!set) {
        if (s == MZ_JWT_OK || !*mz_jwt_status_text(s))
            abort();
        return 0;
    }
    if (!mz_jwks_count(set) || mz_jwks_count(set) > MZ_JWKS_MAX_KEYS)
        abort();
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    for (size_t i = 0; i < MZ_COUNT(tokens); i++) {
        struct mz_jwt j;
        if (mz_jwt_parse(mz_str_c(tokens[i]), a, &j) != MZ_JWT_OK ||
            mz_jwks_verify(set, &j) == MZ_JWT_OK)
            abort();
    }
    mz_arena_destroy(a);
    mz_jwks_unref(set);
    return 0;
}
