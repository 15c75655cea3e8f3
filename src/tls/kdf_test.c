/* The key schedule of TLS 1.3: RFC 8448's numbers, and OpenSSL's own answers to random questions (T1). */
#include "tls/tls_priv.h"

#include "base/test.h"
#include <openssl/core_names.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/rand.h>
#include <string.h>

enum { ROUNDS = 2000, OUT_MAX = 400 };

struct question {
    int mode;
    const char *digest;
    struct mz_str key, salt, prefix, label, data; /* p NULL: not given */
    size_t n;
};

static size_t fill(OSSL_PARAM *p, const struct question *q)
{
    size_t n = 0;
    const struct {
        const char *name;
        struct mz_str v;
    } parts[] = { { OSSL_KDF_PARAM_KEY, q->key },
                  { OSSL_KDF_PARAM_SALT, q->salt },
                  { OSSL_KDF_PARAM_PREFIX, q->prefix },
                  { OSSL_KDF_PARAM_LABEL, q->label },
                  { OSSL_KDF_PARAM_DATA, q->data } };
    p[n++] = OSSL_PARAM_construct_int(OSSL_KDF_PARAM_MODE, (int *)(uintptr_t)&q->mode);
    p[n++] =
        OSSL_PARAM_construct_utf8_string(OSSL_KDF_PARAM_DIGEST, (char *)(uintptr_t)q->digest, 0);
    for (size_t i = 0; i < MZ_COUNT(parts); i++)
        if (parts[i].v.p)
            p[n++] = OSSL_PARAM_construct_octet_string(
                parts[i].name, (void *)(uintptr_t)parts[i].v.p, parts[i].v.n);
    p[n] = OSSL_PARAM_construct_end();
    return n;
}

static int ask(const char *properties, const struct question *q, unsigned char out[OUT_MAX])
{
    OSSL_PARAM p[8];
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", properties);
    assert_non_null(kdf);
    EVP_KDF_CTX *ctx = EVP_KDF_CTX_new(kdf);
    (void)fill(p, q);
    int r = EVP_KDF_derive(ctx, out, q->n, p);
    EVP_KDF_CTX_free(ctx);
    EVP_KDF_free(kdf);
    return r == 1;
}

static void test_ours_is_found(void **state)
{
    (void)state;
    EVP_KDF *kdf = EVP_KDF_fetch(NULL, "TLS13-KDF", kdf_properties());
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_KDF_get0_provider(kdf)), "mizzen");
    EVP_KDF_free(kdf);
    EVP_MD *md = EVP_MD_fetch(NULL, "SHA256", kdf_properties()); /* the rest is where it was */
    assert_string_equal(OSSL_PROVIDER_get0_name(EVP_MD_get0_provider(md)), "default");
    EVP_MD_free(md);
}

/* RFC 8448 3: the early secret of no PSK, and the secret that is derived of it with the shared key. */
static void test_rfc_8448(void **state)
{
    (void)state;
    static const unsigned char early[32] = { 0x33, 0xad, 0x0a, 0x1c, 0x60, 0x7e, 0xc0, 0x3b,
                                             0x09, 0xe6, 0xcd, 0x98, 0x93, 0x68, 0x0c, 0xe2,
                                             0x10, 0xad, 0xf3, 0x00, 0xaa, 0x1f, 0x26, 0x60,
                                             0xe1, 0xb2, 0x2e, 0x10, 0xf1, 0x70, 0xf9, 0x2a };
    static const unsigned char shared[32] = { 0x8b, 0xd4, 0x05, 0x4f, 0xb5, 0x5b, 0x9d, 0x63,
                                              0xfd, 0xfb, 0xac, 0xf9, 0xf0, 0x4b, 0x9f, 0x0d,
                                              0x35, 0xe6, 0xd6, 0x3f, 0x53, 0x75, 0x63, 0xef,
                                              0xd4, 0x62, 0x72, 0x90, 0x0f, 0x89, 0x49, 0x2d };
    static const unsigned char handshake[32] = { 0x1d, 0xc8, 0x26, 0xe9, 0x36, 0x06, 0xaa, 0x6f,
                                                 0xdc, 0x0a, 0xad, 0xc1, 0x2f, 0x74, 0x1b, 0x01,
                                                 0x04, 0x6a, 0xa6, 0xb9, 0x9f, 0x69, 0x1e, 0xd2,
                                                 0x21, 0xa9, 0xf0, 0xca, 0x04, 0x3f, 0xbe, 0xac };
    unsigned char out[OUT_MAX];
    struct question q = { .mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY,
                          .digest = "SHA256",
                          .prefix = MZ_STR("tls13 "),
                          .label = MZ_STR("derived"),
                          .n = 32 };
    assert_true(ask(kdf_properties(), &q, out));
    assert_memory_equal(out, early, 32);
    q.salt = (struct mz_str){ (const char *)early, 32 };
    q.key = (struct mz_str){ (const char *)shared, 32 };
    assert_true(ask(kdf_properties(), &q, out));
    assert_memory_equal(out, handshake, 32);
}

static struct mz_str random_part(unsigned char *at, unsigned size, bool may_lack)
{
    unsigned char r[2];
    (void)RAND_bytes(r, sizeof(r));
    if (may_lack && r[1] % 4 == 0)
        return (struct mz_str){ NULL, 0 };
    (void)RAND_bytes(at, (int)size);
    return (struct mz_str){ (const char *)at, r[0] % (size + 1) };
}

static void test_same_as_openssl(void **state)
{
    (void)state;
    static const char *const names[] = { "SHA256", "SHA384", "SHA2-256", "sha2-384" };
    unsigned char parts[4][160], ours[OUT_MAX], theirs[OUT_MAX], r[4];
    size_t good = 0;
    for (unsigned i = 0; i < ROUNDS; i++) {
        (void)RAND_bytes(r, sizeof(r));
        bool take = r[0] % 3 == 0;
        const char *digest = names[r[1] % 4];
        size_t whole = strstr(digest, "256") ? 32 : 48;
        struct question q = { .mode = take ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY
                                           : EVP_KDF_HKDF_MODE_EXPAND_ONLY,
                              .digest = digest,
                              .prefix = MZ_STR("tls13 "),
                              .n = take ? whole : 1u + (r[2] | r[3] << 8) % OUT_MAX };
        q.key = random_part(parts[0], 150, take);
        q.label = random_part(parts[1], 60, false);
        q.data = random_part(parts[2], 64, true);
        if (take) { /* a secret of the schedule is as long as its digest */
            (void)RAND_bytes(parts[3], 160);
            q.salt = (struct mz_str){ r[3] % 2 ? (const char *)parts[3] : NULL, whole };
            q.data.p = NULL;
        }
        memset(ours, 0, sizeof(ours));
        memset(theirs, 0, sizeof(theirs));
        int a = ask(kdf_properties(), &q, ours), b = ask("provider=default", &q, theirs);
        assert_int_equal(a, b);
        assert_memory_equal(ours, theirs, sizeof(ours));
        good += a;
    }
    assert_true(good > ROUNDS / 2);
}

static void test_refused(void **state)
{
    (void)state;
    unsigned char out[OUT_MAX];
    const struct question ok = { .mode = EVP_KDF_HKDF_MODE_EXPAND_ONLY,
                                 .digest = "SHA256",
                                 .key = MZ_STR("k"),
                                 .prefix = MZ_STR("tls13 "),
                                 .label = MZ_STR("l"),
                                 .n = 16 };
    static char big[300];
    struct question q = ok;
    assert_true(ask(kdf_properties(), &q, out));
    q.digest = "SHA1";
    assert_false(ask(kdf_properties(), &q, out));
    q = ok;
    q.key.p = NULL;
    assert_false(ask(kdf_properties(), &q, out));
    q = ok;
    q.label = (struct mz_str){ big, 250 };
    assert_false(ask(kdf_properties(), &q, out));
    q = ok;
    q.data = (struct mz_str){ big, 256 };
    assert_false(ask(kdf_properties(), &q, out));
    q = ok;
    q.mode = EVP_KDF_HKDF_MODE_EXTRACT_ONLY; /* not the digest's length */
    assert_false(ask(kdf_properties(), &q, out));
    q.mode = EVP_KDF_HKDF_MODE_EXTRACT_AND_EXPAND;
    assert_false(ask(kdf_properties(), &q, out));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_ours_is_found),
        cmocka_unit_test(test_rfc_8448),
        cmocka_unit_test(test_same_as_openssl),
        cmocka_unit_test(test_refused),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
