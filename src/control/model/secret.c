#include "control/model/secret.h"

#include "base/base64.h"
#include "control/ca/x509.h"

struct entries {
    k8s_Secret_DataEntry *const *v; /* of texts: of ConfigMaps and `stringData` the same shape */
    size_t n;
    bool plain;
};

/* As Kubernetes reads it: ends of lines do not count. */
static struct mz_str without_line_ends(struct mz_str s, struct mz_arena *a)
{
    char *own = mz_arena_alloc(a, s.n);
    size_t n = 0;
    for (size_t i = 0; i < s.n; i++)
        if (s.p[i] != '\n' && s.p[i] != '\r')
            own[n++] = s.p[i];
    return (struct mz_str){ own, n };
}

static bool find(const struct entries *e, size_t n, const char *name, struct mz_arena *a,
                 struct mz_str *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < e[i].n; k++) {
            const struct mz_str text = mz_str_c(e[i].v[k]->value);
            if (strcmp(e[i].v[k]->key, name) != 0)
                continue;
            if (e[i].plain || !mz_base64_decode(without_line_ends(text, a), a, out))
                *out = mz_arena_dup(a, text);
            return true;
        }
    return false;
}

static const char *names(const struct entries *e, size_t n, struct mz_arena *a)
{
    struct mz_str all = MZ_STR("");
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < e[i].n; k++)
            all =
                mz_arena_printf(a, "%.*s%s%s", MZ_STR_ARG(all), all.n ? ", " : "", e[i].v[k]->key);
    return all.n ? all.p : "none";
}

/* Under one pair of names or the other: the first where both hold something, else where both are there. */
static void find_pair(const struct entries *e, size_t n, struct mz_arena *a, struct mz_secret *out)
{
    struct mz_str cert = MZ_STR(""), key = MZ_STR("");
    const bool generic = find(e, n, "cert", a, &cert) && find(e, n, "key", a, &key);
    const bool full = generic && cert.n && key.n;
    out->has_cert = find(e, n, "tls.crt", a, &out->cert);
    out->has_key = find(e, n, "tls.key", a, &out->key);
    out->cert_name = "tls.crt";
    (void)find(e, n, "tls.ocsp-staple", a, &out->staple);
    if (!full && (!generic || (out->cert.n && out->key.n)))
        return;
    *out = (struct mz_secret){ .cert = cert,
                               .key = key,
                               .found = out->found,
                               .has_cert = true,
                               .has_key = true,
                               .cert_name = "cert" };
}

static void find_root(const struct entries *e, size_t n, struct mz_arena *a, struct mz_secret *out)
{
    struct mz_str root = MZ_STR(""), other = MZ_STR("");
    const bool generic = find(e, n, "cacert", a, &root);
    const bool is_there = find(e, n, "ca.crt", a, &other);
    const bool first = generic && (root.n || !other.n);
    out->has_root = generic || is_there;
    out->root = first ? root : other;
    out->root_name = first ? "cacert" : "ca.crt";
    (void)find(e, n, first ? "crl" : "ca.crl", a, &out->crl);
}

void mz_secret_open(const struct mz_doc *doc, struct mz_arena *a, struct mz_secret *out)
{
    const ProtobufCMessage *m = mz_doc_body(doc, a);
    const bool secret = doc->kind == MZ_KIND_SECRET;
    const k8s_Secret *s = (const k8s_Secret *)m;
    const k8s_ConfigMap *c = (const k8s_ConfigMap *)m;
    const struct entries e[] = {
        { secret ? (k8s_Secret_DataEntry *const *)s->stringdata
                 : (k8s_Secret_DataEntry *const *)c->data,
          secret ? s->n_stringdata : c->n_data, true },
        { secret ? s->data : NULL, secret ? s->n_data : 0, false },
    };
    *out = (struct mz_secret){ .found = names(e, MZ_COUNT(e), a) };
    find_pair(e, MZ_COUNT(e), a, out);
    find_root(e, MZ_COUNT(e), a, out);
}

bool mz_secret_has_pair(const struct mz_secret *s, struct mz_err *err)
{
    const char *key = strcmp(s->cert_name, "cert") == 0 ? "key" : "tls.key";
    if (!s->has_cert || !s->has_key)
        return mz_err_set(err,
                          "found secret, but didn't have expected keys (cert and key) or (tls.crt "
                          "and tls.key); found: %.200s",
                          s->found);
    if (!s->cert.n || !s->key.n)
        return mz_err_set(err, "found keys \"%s\" and \"%s\", but they were empty", s->cert_name,
                          key);
    X509 *x = x509_cert_read(s->cert);
    const bool ok = x != NULL;
    X509_free(x);
    return ok || mz_err_set(err, "the certificate is malformed: it cannot be read as PEM");
}

bool mz_secret_pair_fits(const struct mz_secret *s, struct mz_err *err)
{
    X509 *x = x509_cert_read(s->cert);
    EVP_PKEY *k = x509_key_read(s->key);
    const bool read = x && k, fits = read && X509_check_private_key(x, k) == 1;
    X509_free(x);
    EVP_PKEY_free(k);
    if (!read)
        return mz_err_set(err, "the certificate is malformed: its key cannot be read as PEM");
    return fits || mz_err_set(err, "the certificate is malformed: the key is not its own");
}

bool mz_secret_has_root(const struct mz_secret *s, struct mz_err *err)
{
    if (!s->has_root)
        return mz_err_set(
            err, "found secret, but didn't have expected keys cacert or ca.crt; found: %.200s",
            s->found);
    if (!s->root.n)
        return mz_err_set(err, "found key \"%s\", but it was empty", s->root_name);
    STACK_OF(X509) *v = x509_certs_read(s->root);
    const bool any = sk_X509_num(v) > 0;
    x509_certs_free(v);
    return any || mz_err_set(err, "the bundle is malformed");
}

bool mz_secret_has_crl(const struct mz_secret *s, struct mz_err *err)
{
    return !s->crl.n || x509_crls_count(s->crl) > 0 ||
           mz_err_set(err, "the list of revoked certificates cannot be read as PEM");
}

bool mz_secret_in_time(struct mz_str pem, int64_t now_s)
{
    X509 *x = x509_cert_read(pem);
    const bool ok = x && x509_from(x) <= now_s && now_s <= x509_until(x);
    X509_free(x);
    return ok;
}
