#ifndef MZ_CONTROL_MODEL_SECRET_DOUBLE_H
#define MZ_CONTROL_MODEL_SECRET_DOUBLE_H
/* For tests: certificates in documents. $CERT, $KEY (its own), $OTHER (another key) and $JUNK in a text become their base64. */
#include "base/base64.h"
#include "base/buf.h"
#include "control/ca/x509.h"

struct secret_double {
    struct mz_arena *arena;
    struct mz_str cert, key, other; /* PEM */
};
static inline void secret_double_init(struct secret_double *s)
{
    const struct x509_request r = { .common_name = "x", .from_s = 1000000000, .until_s = 4000000000 };
    EVP_PKEY *k = x509_key_create(), *other = x509_key_create();
    X509 *x = x509_sign(&r, k, NULL, k);
    s->arena = mz_arena_create(MZ_MEM_CONFIG);
    s->cert = x509_cert_pem(x, s->arena);
    s->key = x509_key_pem(k, s->arena);
    s->other = x509_key_pem(other, s->arena);
    X509_free(x);
    EVP_PKEY_free(k);
    EVP_PKEY_free(other);
}
static inline void secret_double_fini(struct secret_double *s)
{
    mz_arena_destroy(s->arena);
}
/* In its arena, with a NUL behind it. */
static inline struct mz_str secret_double_fill(const struct secret_double *s, const char *text)
{
    static const char *const words[] = { "$CERT", "$KEY", "$OTHER", "$JUNK" };
    const struct mz_str values[] = { s->cert, s->key, s->other, MZ_STR("junk") };
    struct mz_buf b;
    mz_buf_init(&b);
    while (*text) {
        size_t i = 0;
        while (i < MZ_COUNT(words) && strncmp(text, words[i], strlen(words[i])) != 0)
            i++;
        if (i < MZ_COUNT(words))
            mz_buf_append_str(&b, mz_base64_encode(values[i], s->arena));
        else
            mz_buf_append(&b, text, 1);
        text += i < MZ_COUNT(words) ? strlen(words[i]) : 1;
    }
    struct mz_str out = mz_arena_dup(s->arena, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return out;
}
#endif
