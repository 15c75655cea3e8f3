/* Any bytes as a token: views stay within it or the arena, what is accepted has its parts; no key of ours verifies it. */
#include "jwt/jwt.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n);

#define KEYS                                                                                       \
    "{\"keys\":[{\"kty\":\"oct\",\"k\":\"c2VjcmV0LW9mLXRoZS1mdXp6ZXI\"},"                          \
    "{\"kty\":\"EC\",\"crv\":\"P-256\",\"x\":\"f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU\","     \
    "\"y\":\"x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0\"},"                                      \
    "{\"kty\":\"OKP\",\"crv\":\"Ed25519\",\"x\":\"11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo\"}]" \
    "}"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    static struct mz_jwks *set;
    enum mz_jwt_status s = MZ_JWT_OK;
    if (!set)
        set = mz_jwks_create(MZ_STR(KEYS), &s);
    if (!set)
        abort();
    char *copy = malloc(n + 1);
    if (n)
        memcpy(copy, p, n);
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_jwt j;
    s = mz_jwt_parse((struct mz_str){ copy, n }, a, &j);
    if (!*mz_jwt_status_text(s))
        abort();
    if (s == MZ_JWT_OK) {
        if (!j.header || !j.payload || j.signed_text.n >= n || !j.signature.n ||
            mz_jwks_verify(set, &j) == MZ_JWT_OK)
            abort();
        (void)mz_jwt_check_time(&j, 1700000000, 60);
        (void)mz_jwt_claim(j.payload, (struct mz_str){ copy, n < 20 ? n : 20 });
        for (size_t i = 0; i < j.n_aud; i++)
            if (mz_jwt_audience(j.aud[i]).n > j.aud[i].n)
                abort();
    }
    mz_arena_destroy(a);
    free(copy);
    return 0;
}
