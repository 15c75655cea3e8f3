#include "control/ca/authority.h"

#include <openssl/x509v3.h>

#include <stdlib.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/ca/csr.h"
#include "control/ca/files.h"
#include "control/ca/x509.h"

enum {
    SKEW_S = 120, /* clocks of others may be behind */
    DAY_S = 86400,
    ROOT_TTL_S = 3650 * DAY_S,
    MAX_TTL_S = 90 * DAY_S,
    MAX_ROOTS = 16,
};
#define CERT  "ca-cert.pem"
#define KEY   "ca-key.pem"
#define ROOT  "root-cert.pem"
#define CHAIN "cert-chain.pem"
#define CRL   "ca-crl.pem"
static const char *const names[] = { CERT, KEY, ROOT, CHAIN, CRL };

/* What signs now. */
struct signer {
    struct mz_arena *arena;
    X509 *cert;
    EVP_PKEY *key;
    struct mz_str chain, roots; /* PEM; the first is "" where the root signs itself */
    struct mz_str crl;          /* PEM; "" none */
    bool own;                   /* a root of our own: ours to renew */
    int64_t from_s, until_s;    /* of the certificate */
    int64_t root_until_s;
};
struct mz_authority {
    struct mz_arena *arena;
    struct mz_authority_opts o;
    struct signer now;
    uint64_t stamp; /* of the files */
};

static int64_t now_s(void)
{
    return (int64_t)(mz_clock->wall_us() / 1000000);
}

static void signer_fini(struct signer *s)
{
    X509_free(s->cert);
    EVP_PKEY_free(s->key);
    mz_arena_destroy(s->arena);
    *s = (struct signer){ .arena = NULL };
}

/* ---- a root of our own ---- */

static X509 *root_make(const struct mz_authority *a, EVP_PKEY *key)
{
    const int64_t t = now_s();
    const struct x509_request r = { .organization = a->o.trust_domain,
                                    .authority = true,
                                    .from_s = t - SKEW_S,
                                    .until_s = t + (int64_t)a->o.root_ttl_s };
    return x509_sign(&r, key, NULL, key);
}

/* The new root first, then those that are still good. */
static struct mz_str roots_join(struct mz_arena *arena, struct mz_str fresh, struct mz_str before)
{
    STACK_OF(X509) *v = x509_certs_read(before);
    struct mz_str out = fresh;
    for (int i = 0; i < sk_X509_num(v) && i < MAX_ROOTS; i++) {
        X509 *x = sk_X509_value(v, i);
        const struct mz_str parts[] = { out, x509_cert_pem(x, arena) };
        if (x509_until(x) > now_s() && mz_str_find(out, parts[1]) < 0)
            out = mz_arena_cat(arena, 2, parts);
    }
    x509_certs_free(v);
    return out;
}

static void signer_dates(struct signer *s)
{
    X509 *root = x509_cert_read(s->roots);
    s->from_s = x509_from(s->cert);
    s->until_s = x509_until(s->cert);
    s->root_until_s = root ? x509_until(root) : s->until_s;
    X509_free(root);
}

/* @before: whose key stays; NULL: a new one. */
static bool own_make(const struct mz_authority *a, const struct signer *before, struct signer *out,
                     struct mz_err *err)
{
    struct signer s = { .arena = mz_arena_create(MZ_MEM_TLS), .own = true };
    if (before && EVP_PKEY_up_ref(before->key) == 1)
        s.key = before->key;
    else
        s.key = x509_key_create();
    s.cert = root_make(a, s.key);
    if (!s.cert) {
        signer_fini(&s);
        return mz_err_set(err, "no root certificate could be made");
    }
    const struct mz_str pem = x509_cert_pem(s.cert, s.arena);
    s.roots = before ? roots_join(s.arena, pem, before->roots) : pem;
    signer_dates(&s);
    *out = s;
    return true;
}

static bool own_write(const struct mz_authority *a, const struct signer *s, struct mz_err *err)
{
    struct mz_arena *arena = mz_arena_create(MZ_MEM_TLS);
    const struct mz_str key = x509_key_pem(s->key, arena);
    const bool ok = key.n && file_write(a->o.dir, KEY, true, key, err) &&
                    file_write(a->o.dir, ROOT, false, s->roots, err) &&
                    file_write(a->o.dir, CERT, false, x509_cert_pem(s->cert, arena), err);
    if (key.n)
        explicit_bzero((char *)(uintptr_t)key.p, key.n);
    mz_arena_destroy(arena);
    return ok;
}

/* ---- files ---- */

static bool chain_ok(const struct signer *s, struct mz_err *err)
{
    X509_STORE *store = X509_STORE_new();
    X509_STORE_CTX *ctx = X509_STORE_CTX_new();
    STACK_OF(X509) *roots = x509_certs_read(s->roots), *between = x509_certs_read(s->chain);
    for (int i = 0; i < sk_X509_num(roots); i++)
        (void)X509_STORE_add_cert(store, sk_X509_value(roots, i)); /* twice the same is fine */
    bool ok = X509_STORE_CTX_init(ctx, store, s->cert, between) == 1;
    ok = ok && X509_verify_cert(ctx) == 1;
    if (!ok)
        mz_err_set(err, CERT ": %s", X509_verify_cert_error_string(X509_STORE_CTX_get_error(ctx)));
    x509_certs_free(roots);
    x509_certs_free(between);
    X509_STORE_CTX_free(ctx);
    X509_STORE_free(store);
    return ok;
}

static bool signer_check(struct signer *s, struct mz_err *err)
{
    if (X509_check_private_key(s->cert, s->key) != 1)
        return mz_err_set(err, KEY ": not the key of " CERT);
    if (X509_check_ca(s->cert) != 1)
        return mz_err_set(err, CERT ": not an authority's");
    return chain_ok(s, err);
}

static bool crl_read(const struct mz_authority *a, struct signer *s, struct mz_err *err)
{
    const char *on = getenv("PILOT_ENABLE_CA_CRL"), *missing = ""; /* nobody changes it */
    if (on && mz_str_ieq(mz_str_c(on), MZ_STR("false")))
        return true;
    const enum file_found f = file_read(a->o.dir, CRL, false, s->arena, &s->crl, err);
    if (f == FILE_FAULT)
        return false;
    if (f == FILE_FOUND && !s->crl.n && a->now.crl.n) /* one that is being written begins so */
        return mz_err_set(err, CRL ": empty; it is removed when it ends");
    if (s->crl.n && !x509_crls_count(s->crl))
        return mz_err_set(err, CRL ": no list of revoked certificates");
    return !s->crl.n || x509_crls_cover(s->crl, s->chain, s->arena, &missing) ||
           mz_err_set(err, CRL ": missing CRL signed by certificates: [%s]", missing);
}

static bool required(const struct mz_authority *a, const char *name, bool secret,
                     struct mz_arena *arena, struct mz_str *out, struct mz_err *err)
{
    const enum file_found f = file_read(a->o.dir, name, secret, arena, out, err);
    return f == FILE_FOUND ||
           (f == FILE_ABSENT
                ? mz_err_set(err, "%s: there is no %s beside the others", a->o.dir, name)
                : false);
}

/* Absent: nothing of it is there. */
static enum file_found signer_read(const struct mz_authority *a, struct signer *out,
                                   struct mz_err *err)
{
    struct signer s = { .arena = mz_arena_create(MZ_MEM_TLS) };
    struct mz_str cert, key = MZ_STR(""), root;
    const enum file_found f = file_read(a->o.dir, CERT, false, s.arena, &cert, err);
    bool ok = f == FILE_FOUND && required(a, KEY, true, s.arena, &key, err) &&
              required(a, ROOT, false, s.arena, &root, err);
    if (ok && file_read(a->o.dir, CHAIN, false, s.arena, &s.chain, err) == FILE_FAULT)
        ok = false;
    if (ok) {
        s.roots = root;
        s.cert = x509_cert_read(cert);
        s.key = x509_key_read(key);
        if (!s.cert || !s.key)
            ok = mz_err_set(err, "%s: no %s", s.cert ? KEY : CERT,
                            s.cert ? "private key" : "certificate");
        ok = ok && signer_check(&s, err) && crl_read(a, &s, err);
    }
    if (key.n)
        explicit_bzero((char *)(uintptr_t)key.p, key.n);
    if (!ok) {
        signer_fini(&s);
        return f == FILE_ABSENT ? f : FILE_FAULT;
    }
    s.own = !s.chain.n && X509_self_signed(s.cert, 0) == 1;
    signer_dates(&s);
    *out = s;
    return FILE_FOUND;
}

/* Under the directory's lock: of several that start at once one makes the root. */
static bool load_or_make(struct mz_authority *a, struct mz_err *err)
{
    const int lock = dir_make(a->o.dir, err) ? dir_lock(a->o.dir, err) : -1;
    if (lock < 0)
        return false;
    const enum file_found f = signer_read(a, &a->now, err);
    bool ok = f == FILE_FOUND;
    if (f == FILE_ABSENT)
        ok = own_make(a, NULL, &a->now, err) && own_write(a, &a->now, err);
    a->stamp = files_stamp(a->o.dir, names, MZ_COUNT(names));
    (void)close(lock); /* and so the lock */
    return ok;
}

static void log_signer(const struct mz_authority *a, const char *what)
{
    MZ_LOG(INFO, main, "authority of %s: %s, %s, ends in %lld s", a->o.trust_domain, what,
           a->now.own ? "a root of its own" : "plugged in", (long long)(a->now.until_s - now_s()));
}

struct mz_authority *mz_authority_create(const struct mz_authority_opts *o, struct mz_err *err)
{
    struct mz_authority *a = mz_new0(MZ_MEM_TLS, struct mz_authority);
    a->arena = mz_arena_create(MZ_MEM_TLS);
    a->o = *o;
    a->o.dir = o->dir ? mz_arena_dup(a->arena, mz_str_c(o->dir)).p : NULL;
    a->o.trust_domain = mz_arena_dup(a->arena, mz_str_c(o->trust_domain)).p;
    a->o.root_ttl_s = o->root_ttl_s ? o->root_ttl_s : ROOT_TTL_S;
    a->o.default_ttl_s = o->default_ttl_s ? o->default_ttl_s : DAY_S;
    a->o.max_ttl_s = o->max_ttl_s ? o->max_ttl_s : MAX_TTL_S;
    if (a->o.dir ? load_or_make(a, err) : own_make(a, NULL, &a->now, err)) {
        log_signer(a, "ready");
        return a;
    }
    mz_authority_destroy(a);
    return NULL;
}

void mz_authority_destroy(struct mz_authority *a)
{
    if (!a)
        return;
    signer_fini(&a->now);
    mz_arena_destroy(a->arena);
    mz_free(MZ_MEM_TLS, a);
}

/* ---- changes ---- */

static bool replace(struct mz_authority *a, const struct signer *s, const char *what)
{
    signer_fini(&a->now);
    a->now = *s;
    log_signer(a, what);
    return true;
}

static bool reload(struct mz_authority *a)
{
    struct signer s;
    struct mz_err err = { .path = "", .msg = "" };
    const uint64_t stamp = files_stamp(a->o.dir, names, MZ_COUNT(names));
    if (stamp == a->stamp)
        return false;
    a->stamp = stamp; /* what is broken is told once */
    if (signer_read(a, &s, &err) == FILE_FOUND)
        return replace(a, &s, "files changed");
    MZ_LOG(ERROR, main, "authority: %s; what was stays", err.msg[0] ? err.msg : "files are gone");
    return false;
}

static bool renew(struct mz_authority *a)
{
    struct signer s;
    struct mz_err err = { .path = "", .msg = "" };
    const int64_t life = a->now.until_s - a->now.from_s - SKEW_S;
    if (!a->now.own || a->now.until_s - now_s() > life / 5)
        return false;
    const int lock = a->o.dir ? dir_lock(a->o.dir, &err) : -1;
    bool ok = a->o.dir == NULL || lock >= 0;
    const bool others = ok && a->o.dir && reload(a); /* another replica was first */
    if (ok && !others) {
        ok = own_make(a, &a->now, &s, &err);
        if (ok && a->o.dir && !own_write(a, &s, &err)) {
            signer_fini(&s);
            ok = false;
        }
        if (a->o.dir)
            a->stamp = files_stamp(a->o.dir, names, MZ_COUNT(names));
    }
    if (lock >= 0)
        (void)close(lock); /* and so the lock */
    if (!ok)
        MZ_LOG(ERROR, main, "authority: the root could not be renewed: %s", err.msg);
    return others || (ok && replace(a, &s, "root renewed"));
}

bool mz_authority_refresh(struct mz_authority *a)
{
    const bool changed = a->o.dir && reload(a);
    return renew(a) || changed;
}

struct mz_str mz_authority_trust_domain(const struct mz_authority *a)
{
    return mz_str_c(a->o.trust_domain);
}

struct mz_str mz_authority_roots(const struct mz_authority *a)
{
    return a->now.roots;
}

struct mz_str mz_authority_crl(const struct mz_authority *a)
{
    return a->now.crl;
}

int64_t mz_authority_root_until(const struct mz_authority *a)
{
    return a->now.root_until_s;
}

/* ---- signing ---- */

static void out_push(struct mz_signed *out, struct mz_str pem)
{
    out->v[out->n++] = pem;
}

static void respond(const struct mz_authority *a, X509 *leaf, struct mz_arena *arena,
                    struct mz_signed *out)
{
    STACK_OF(X509) *between = x509_certs_read(a->now.chain);
    *out = (struct mz_signed){ .v = mz_arena_alloc(arena, ((size_t)sk_X509_num(between) + 2) *
                                                              sizeof(*out->v)),
                               .until_s = x509_until(leaf) };
    out_push(out, x509_cert_pem(leaf, arena));
    for (int i = 0; i < sk_X509_num(between); i++)
        out_push(out, x509_cert_pem(sk_X509_value(between, i), arena));
    out_push(out, mz_arena_dup(arena, a->now.roots));
    x509_certs_free(between);
}

static int64_t end_of(const struct mz_authority *a, int64_t ttl_s)
{
    const int64_t end = now_s() + ttl_s;
    return end < a->now.until_s ? end : a->now.until_s;
}

enum mz_sign mz_authority_sign(struct mz_authority *a, struct mz_str csr, struct mz_str identity,
                               int64_t ttl_s, struct mz_arena *arena, struct mz_signed *out,
                               struct mz_err *err)
{
    if (ttl_s < 0 || (uint64_t)ttl_s > a->o.max_ttl_s) {
        mz_err_set(err, "requested TTL %llds is not in 0..%llus", (long long)ttl_s,
                   (unsigned long long)a->o.max_ttl_s);
        return MZ_SIGN_REQUEST;
    }
    EVP_PKEY *key = csr_key(csr, identity, err);
    if (!key)
        return MZ_SIGN_REQUEST;
    const struct x509_request r = {
        .uri = identity,
        .from_s = now_s() - SKEW_S,
        .until_s = end_of(a, ttl_s ? ttl_s : (int64_t)a->o.default_ttl_s),
    };
    X509 *leaf = r.until_s > now_s() ? x509_sign(&r, key, a->now.cert, a->now.key) : NULL;
    EVP_PKEY_free(key);
    if (!leaf) {
        mz_err_set(err, "%s",
                   r.until_s > now_s() ? "the certificate could not be made"
                                       : "the authority has expired");
        return MZ_SIGN_FAULT;
    }
    respond(a, leaf, arena, out);
    X509_free(leaf);
    return MZ_SIGN_OK;
}

bool mz_authority_serving(struct mz_authority *a, const char *const *dns, struct mz_arena *arena,
                          struct mz_str *out_chain_pem, struct mz_str *out_key_pem,
                          int64_t *out_until_s, struct mz_err *err)
{
    EVP_PKEY *key = x509_key_create();
    const struct x509_request r = { .dns = dns,
                                    .from_s = now_s() - SKEW_S,
                                    .until_s = end_of(a, (int64_t)a->o.default_ttl_s) };
    X509 *x = x509_sign(&r, key, a->now.cert, a->now.key);
    if (x) {
        const struct mz_str parts[] = { x509_cert_pem(x, arena), a->now.chain };
        *out_chain_pem = mz_arena_cat(arena, 2, parts);
        *out_key_pem = x509_key_pem(key, arena);
        *out_until_s = r.until_s;
    }
    EVP_PKEY_free(key);
    X509_free(x);
    return x != NULL || mz_err_set(err, "no certificate for the control plane's own servers");
}
