#include "control/model/secret.h"

#include "base/base64.h"
#include "control/ca/x509.h"

struct entries {
    k8s_Secret_DataEntry *const *v; /* of texts: of ConfigMaps and `stringData` the same shape */
    size_t n;
    bool plain;
};

static bool find(const struct entries *e, size_t n, const char *name, struct mz_arena *a,
                 struct mz_str *out)
{
    for (size_t i = 0; i < n; i++)
        for (size_t k = 0; k < e[i].n; k++) {
            const struct mz_str text = mz_str_c(e[i].v[k]->value);
            if (strcmp(e[i].v[k]->key, name) != 0)
                continue;
            if (e[i].plain || !mz_base64_decode(text, a, out))
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
    const size_t n = MZ_COUNT(e);
    struct mz_str text;
    *out = (struct mz_secret){ .found = names(e, n, a) };
    const bool generic = find(e, n, "cert", a, &text) && find(e, n, "key", a, &text);
    const bool root = find(e, n, "cacert", a, &text);
    out->cert_name = generic ? "cert" : "tls.crt";
    out->root_name = root ? "cacert" : "ca.crt";
    out->has_cert = find(e, n, out->cert_name, a, &out->cert);
    out->has_key = find(e, n, generic ? "key" : "tls.key", a, &out->key);
    out->has_root = find(e, n, out->root_name, a, &out->root);
    (void)find(e, n, generic || root ? "crl" : "ca.crl", a, &out->crl);
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
