/*
 * The key schedule of TLS 1.3 (RFC 8446 7.1) as an OpenSSL provider. A handshake derives some twenty secrets; OpenSSL's own
 * TLS13-KDF looks up digests, makes an HMAC context and hashes through three layers for each, which is a tenth of a full
 * handshake. This one has the same inputs and outputs and calls OpenSSL's SHA-2 directly.
 */
#define OPENSSL_SUPPRESS_DEPRECATED /* SHA256_Init() and so on: the layers above them are what is saved */
#include "tls/tls_priv.h"

#include <openssl/core_dispatch.h>
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/kdf.h>
#include <openssl/provider.h>
#include <openssl/sha.h>
#include <pthread.h>
#include <string.h>

#define LABEL_MAX 255 /* bytes of prefix and label together, and of the context (RFC 8446 7.1) */

union state {
    SHA256_CTX s256;
    SHA512_CTX s512;
};

struct digest {
    struct mz_str names[3];
    size_t bytes, block;
    bool wide; /* of SHA-512's kind */
};

static const struct digest digests[] = {
    { { MZ_STR("SHA256"), MZ_STR("SHA2-256"), MZ_STR("SHA-256") }, 32, 64, false },
    { { MZ_STR("SHA384"), MZ_STR("SHA2-384"), MZ_STR("SHA-384") }, 48, 128, true },
};

static const struct digest *digest_of(struct mz_str name)
{
    for (size_t i = 0; i < MZ_COUNT(digests); i++)
        for (size_t k = 0; k < MZ_COUNT(digests[i].names); k++)
            if (mz_str_ieq(digests[i].names[k], name))
                return &digests[i];
    return NULL;
}

static void hash_begin(const struct digest *d, union state *s)
{
    if (d->wide)
        (void)SHA384_Init(&s->s512);
    else
        (void)SHA256_Init(&s->s256);
}

static void hash_add(const struct digest *d, union state *s, const void *p, size_t n)
{
    if (d->wide)
        (void)SHA384_Update(&s->s512, p, n);
    else
        (void)SHA256_Update(&s->s256, p, n);
}

static void hash_end(const struct digest *d, union state *s, unsigned char *out)
{
    if (d->wide)
        (void)SHA384_Final(out, &s->s512);
    else
        (void)SHA256_Final(out, &s->s256);
}

/* ---- HMAC (RFC 2104) ---- */

struct hmac {
    const struct digest *d;
    union state in, out; /* with the key's block each */
};

static void hmac_begin(struct hmac *h, const struct digest *d, const unsigned char *key, size_t n)
{
    unsigned char pad[SHA512_CBLOCK] = { 0 };
    h->d = d;
    if (n > d->block) {
        hash_begin(d, &h->in);
        hash_add(d, &h->in, key, n);
        hash_end(d, &h->in, pad);
    } else if (n) {
        memcpy(pad, key, n);
    }
    for (size_t i = 0; i < d->block; i++)
        pad[i] ^= 0x36;
    hash_begin(d, &h->in);
    hash_add(d, &h->in, pad, d->block);
    for (size_t i = 0; i < d->block; i++)
        pad[i] ^= 0x36 ^ 0x5c;
    hash_begin(d, &h->out);
    hash_add(d, &h->out, pad, d->block);
    OPENSSL_cleanse(pad, d->block);
}

static void hmac_end(struct hmac *h, union state *inner, unsigned char *out)
{
    union state outer = h->out;
    hash_end(h->d, inner, out);
    hash_add(h->d, &outer, out, h->d->bytes);
    hash_end(h->d, &outer, out);
    OPENSSL_cleanse(&outer, sizeof(outer));
}

/* ---- what a derivation is asked for ---- */

struct order {
    int mode;
    const struct digest *d;
    struct mz_str key, salt, prefix, label, data;
};

static bool bytes_of(const OSSL_PARAM *p, struct mz_str *out)
{
    if (p->data_type != OSSL_PARAM_OCTET_STRING && p->data_type != OSSL_PARAM_UTF8_STRING)
        return false;
    /* present and empty is not the same as absent: an absent salt is that of the first stage */
    *out = (struct mz_str){ p->data ? p->data : "", p->data_size };
    return true;
}

static bool mode_of(const OSSL_PARAM *p, int *out)
{
    if (p->data_type == OSSL_PARAM_UTF8_STRING) {
        struct mz_str s;
        (void)bytes_of(p, &s);
        *out = mz_str_ieq(s, MZ_STR("EXPAND_ONLY"))    ? EVP_KDF_HKDF_MODE_EXPAND_ONLY
               : mz_str_ieq(s, MZ_STR("EXTRACT_ONLY")) ? EVP_KDF_HKDF_MODE_EXTRACT_ONLY
                                                       : -1;
        return true;
    }
    return OSSL_PARAM_get_int(p, out) == 1;
}

static bool order_read(const OSSL_PARAM *p, struct order *o)
{
    *o = (struct order){ .mode = -1 };
    struct mz_str name = MZ_STR("");
    const struct {
        struct mz_str key;
        struct mz_str *to;
    } texts[] = {
        { MZ_STR(OSSL_KDF_PARAM_KEY), &o->key },       { MZ_STR(OSSL_KDF_PARAM_SALT), &o->salt },
        { MZ_STR(OSSL_KDF_PARAM_PREFIX), &o->prefix }, { MZ_STR(OSSL_KDF_PARAM_LABEL), &o->label },
        { MZ_STR(OSSL_KDF_PARAM_DATA), &o->data },     { MZ_STR(OSSL_KDF_PARAM_DIGEST), &name },
    };
    for (; p && p->key; p++) {
        if (strcmp(p->key, OSSL_KDF_PARAM_MODE) == 0) {
            if (!mode_of(p, &o->mode))
                return false;
            continue;
        }
        for (size_t i = 0; i < MZ_COUNT(texts); i++)
            if (strcmp(p->key, texts[i].key.p) == 0 && !bytes_of(p, texts[i].to))
                return false;
    }
    o->d = digest_of(name);
    return o->d && o->prefix.n + o->label.n <= LABEL_MAX && o->data.n <= LABEL_MAX;
}

/* HKDF-Expand-Label() of RFC 8446 7.1 */
static bool expand(const struct order *o, struct mz_str secret, struct mz_str data,
                   unsigned char *out, size_t n)
{
    const struct digest *d = o->d;
    if (n == 0 || n > 255 * d->bytes)
        return false;
    unsigned char head[3] = { (unsigned char)(n >> 8), (unsigned char)n,
                              (unsigned char)(o->prefix.n + o->label.n) };
    unsigned char data_n = (unsigned char)data.n, block[SHA512_DIGEST_LENGTH];
    struct hmac h;
    hmac_begin(&h, d, (const unsigned char *)secret.p, secret.n);
    for (unsigned char i = 1; n; i++) {
        union state in = h.in;
        if (i > 1)
            hash_add(d, &in, block, d->bytes);
        hash_add(d, &in, head, sizeof(head));
        hash_add(d, &in, o->prefix.p, o->prefix.n);
        hash_add(d, &in, o->label.p, o->label.n);
        hash_add(d, &in, &data_n, 1);
        hash_add(d, &in, data.p, data.n);
        hash_add(d, &in, &i, 1);
        hmac_end(&h, &in, block);
        size_t part = n < d->bytes ? n : d->bytes;
        memcpy(out, block, part);
        out += part;
        n -= part;
        OPENSSL_cleanse(&in, sizeof(in));
    }
    OPENSSL_cleanse(block, sizeof(block));
    OPENSSL_cleanse(&h, sizeof(h));
    return true;
}

/* The next stage of the schedule: Extract(Derive-Secret(previous, label, ""), input); the first has no previous. */
static bool extract(const struct order *o, unsigned char *out, size_t n)
{
    static const char zeros[SHA512_DIGEST_LENGTH];
    const struct digest *d = o->d;
    unsigned char salt[SHA512_DIGEST_LENGTH] = { 0 }, nothing[SHA512_DIGEST_LENGTH];
    struct mz_str key = o->key.p ? o->key : (struct mz_str){ zeros, d->bytes };
    if (n != d->bytes)
        return false;
    if (o->salt.p) {
        union state s;
        hash_begin(d, &s);
        hash_end(d, &s, nothing);
        if (!expand(o, o->salt, (struct mz_str){ (const char *)nothing, d->bytes }, salt, d->bytes))
            return false;
    }
    struct hmac h;
    hmac_begin(&h, d, salt, d->bytes);
    hash_add(d, &h.in, key.p, key.n);
    hmac_end(&h, &h.in, out);
    OPENSSL_cleanse(&h, sizeof(h));
    OPENSSL_cleanse(salt, sizeof(salt));
    return true;
}

/* ---- the provider ---- */

/* libssl hands all parameters to the derivation itself, so a context has nothing to keep. */
static void *ctx_new(void *provider)
{
    return provider;
}

static void ctx_free(void *ctx)
{
    (void)ctx;
}

static int derive(void *ctx, unsigned char *out, size_t n, const OSSL_PARAM params[])
{
    struct order o;
    (void)ctx;
    if (!order_read(params, &o))
        return 0;
    if (o.mode == EVP_KDF_HKDF_MODE_EXTRACT_ONLY)
        return extract(&o, out, n);
    return o.mode == EVP_KDF_HKDF_MODE_EXPAND_ONLY && o.key.p && expand(&o, o.key, o.data, out, n);
}

static const OSSL_DISPATCH functions[] = { { OSSL_FUNC_KDF_NEWCTX, (void (*)(void))ctx_new },
                                           { OSSL_FUNC_KDF_FREECTX, (void (*)(void))ctx_free },
                                           { OSSL_FUNC_KDF_DERIVE, (void (*)(void))derive },
                                           { 0, NULL } };
static const OSSL_ALGORITHM kdfs[] = { { "TLS13-KDF", "provider=mizzen", functions, NULL },
                                       { NULL, NULL, NULL, NULL } };

static const OSSL_ALGORITHM *query(void *provider, int operation, int *out_no_cache)
{
    (void)provider;
    *out_no_cache = 0;
    return operation == OSSL_OP_KDF ? kdfs : NULL;
}

static int provider_init(const OSSL_CORE_HANDLE *handle, const OSSL_DISPATCH *in,
                         const OSSL_DISPATCH **out, void **out_provider)
{
    static const OSSL_DISPATCH ops[] = {
        { OSSL_FUNC_PROVIDER_QUERY_OPERATION, (void (*)(void))query }, { 0, NULL }
    };
    static char context; /* contexts are this address: none may be NULL */
    (void)handle;
    (void)in;
    *out = ops;
    *out_provider = &context;
    return 1;
}

/* As long as the process runs; volatile: a store that nobody reads would not be made. */
static OSSL_PROVIDER *volatile loaded;

static void load(void)
{
    if (OSSL_PROVIDER_add_builtin(NULL, "mizzen", provider_init) == 1)
        loaded = OSSL_PROVIDER_try_load(NULL, "mizzen", 1); /* else OpenSSL's own stays */
}

const char *kdf_properties(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    (void)pthread_once(&once, load);
    return "?provider=mizzen"; /* a wish: whatever else there is comes from where it always comes */
}
