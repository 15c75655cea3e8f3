#include "agent/identity/crl.h"

#include <openssl/err.h>
#include <openssl/pem.h>
#include <stdlib.h>

#include "agent/tree.h"
#include "base/log.h"

#define FILE_NAME "./var/run/secrets/istio/crl/ca-crl.pem"

struct crl {
    bool off;
    char *last; /* the last good one */
    size_t last_n;
    uint64_t told; /* hash of the last bad one */
};

struct crl *crl_create(void)
{
    struct crl *c = mz_alloc0(MZ_MEM_TLS, sizeof(*c));
    const char *on = getenv("PILOT_ENABLE_CA_CRL"); /* nobody changes it */
    c->off = on && mz_str_ieq(mz_str_c(on), MZ_STR("false"));
    return c;
}

void crl_destroy(struct crl *c)
{
    if (!c)
        return;
    mz_free(MZ_MEM_TLS, c->last);
    mz_free(MZ_MEM_TLS, c);
}

static bool is_readable(struct mz_str pem)
{
    char passphrase[] = "";                      /* otherwise OpenSSL would ask on the terminal */
    BIO *b = BIO_new_mem_buf(pem.p, (int)pem.n); /* files are small */
    X509_CRL *x = b ? PEM_read_bio_X509_CRL(b, NULL, NULL, passphrase) : NULL;
    const bool ok = x != NULL;
    X509_CRL_free(x);
    BIO_free(b);
    ERR_clear_error();
    return ok;
}

static void keep(struct crl *c, struct mz_str text)
{
    mz_free(MZ_MEM_TLS, c->last);
    c->last = text.n ? mz_strndup(MZ_MEM_TLS, text.p, text.n) : NULL;
    c->last_n = text.n;
}

struct mz_str crl_get(struct crl *c, struct mz_arena *a)
{
    struct file_text f = { .there = false };
    struct mz_err err = { .msg = "" };
    if (c->off)
        return MZ_STR("");
    const bool read = file_read(FILE_NAME, a, &f, &err);
    const bool none = read && !mz_str_trim(f.text).n;
    if (none || (read && is_readable(f.text))) {
        keep(c, none ? MZ_STR("") : f.text);
        return none ? MZ_STR("") : f.text;
    }
    const uint64_t h = read ? mz_xxh64(f.text.p, f.text.n, 1) : 1;
    if (c->told != h)
        MZ_LOG(WARN, secret, "%s: %s; what was stays", FILE_NAME,
               read ? "no list of revoked certificates" : err.msg);
    c->told = h;
    return mz_arena_dup(a, (struct mz_str){ c->last, c->last_n });
}
