/*
 * The validator envoy.tls.cert_validator.spiffe (T1): each trust domain has authorities of its own, and a certificate is judged by
 * those of the domain that its URI names (SPIFFE X.509-SVID, 5.2).
 */
#include "tls/tls_priv.h"

#include <openssl/pem.h>
#include <string.h>

#include "base/base64.h"
#include "proto/data_source.h"
#include "proto/tree.h"

#define FILE_MAX (8u << 20)

struct trust_domain {
    struct mz_str name;
    X509_STORE *store;
};
struct spiffe {
    struct trust_domain *v;
    size_t n;
};

/* ---- building ---- */

static void authority_add(struct tls_factory *f, struct trust_domain *d, X509 *x,
                          struct mz_str path)
{
    if (X509_STORE_add_cert(d->store, x) != 1)
        return;
    if (f->server)
        (void)SSL_CTX_add_client_CA(f->ctx, x);
    verify_note_authority(f, x, path);
}

static struct trust_domain *domain_add(struct spiffe *s, struct mz_str name, struct mz_err *err)
{
    for (size_t i = 0; i < s->n; i++)
        if (mz_str_eq(s->v[i].name, name)) {
            mz_err_set(err, "Multiple trust bundles are given for one trust domain for " MZ_STR_FMT,
                       MZ_STR_ARG(name));
            return NULL;
        }
    struct trust_domain *d = &s->v[s->n++];
    *d = (struct trust_domain){ name, X509_STORE_new() };
    return d;
}

static bool domain_build(struct tls_factory *f, struct spiffe *s,
                         const pb_SPIFFECertValidatorConfig_TrustDomain *m, struct mz_err *err)
{
    struct trust_domain *d = domain_add(s, mz_arena_dup(f->arena, mz_str_c(m->name)), err);
    struct mz_str text;
    if (!d || !m->trust_bundle)
        return d && mz_err_set(err, "is required");
    if (!mz_data_source_read(m->trust_bundle, FILE_MAX, f->arena, &text, err))
        return false;
    bool file = m->trust_bundle->specifier_case == pb_DataSource_SPECIFIER_FILENAME;
    struct mz_str path =
        mz_arena_printf(f->arena, "%s: %s", m->name, file ? m->trust_bundle->filename : "<inline>");
    BIO *b = BIO_new_mem_buf(text.p ? text.p : "", (int)text.n);
    STACK_OF(X509_INFO) *all = PEM_X509_INFO_read_bio(b, NULL, NULL, NULL);
    BIO_free(b);
    int n = all ? sk_X509_INFO_num(all) : 0;
    for (int i = 0; i < n; i++) {
        const X509_INFO *x = sk_X509_INFO_value(all, i);
        if (x->x509)
            authority_add(f, d, x->x509, path);
        if (x->crl && X509_STORE_add_crl(d->store, x->crl) == 1)
            X509_STORE_set_flags(d->store, X509_V_FLAG_CRL_CHECK | X509_V_FLAG_CRL_CHECK_ALL);
    }
    sk_X509_INFO_pop_free(all, X509_INFO_free);
    return n > 0 || mz_err_set(err, "Failed to load trusted CA certificate for %s", m->name);
}

/* ---- a map of bundles: {"trust_domains": {"x.test": {"keys": [{"use": "x509-svid", "x5c": ["..."]}]}}} ---- */

static const struct mz_node *member(const struct mz_node *n, struct mz_str key,
                                    enum mz_node_kind kind)
{
    for (uint32_t i = 0; n && n->kind == MZ_NODE_MAP && i < n->n; i++)
        if (mz_str_eq(n->pairs[i].key, key) && n->pairs[i].value->kind == kind)
            return n->pairs[i].value;
    return NULL;
}

static bool cert_read(struct tls_factory *f, struct trust_domain *d, const struct mz_node *text)
{
    struct mz_str der;
    if (text->kind != MZ_NODE_STR || !mz_base64_decode(text->text, f->arena, &der) || !der.n)
        return false;
    const unsigned char *p = (const unsigned char *)der.p;
    X509 *x = d2i_X509(NULL, &p, (long)der.n);
    if (x)
        authority_add(f, d, x, MZ_STR(""));
    X509_free(x);
    return x != NULL;
}

static bool keys_read(struct tls_factory *f, struct trust_domain *d, const struct mz_node *keys,
                      struct mz_err *err)
{
    if (!keys || keys->n == 0)
        return mz_err_set(err, "No keys found in SPIFFE bundle for domain '" MZ_STR_FMT "'",
                          MZ_STR_ARG(d->name));
    for (uint32_t i = 0; i < keys->n; i++) {
        const struct mz_node *use = member(keys->list[i], MZ_STR("use"), MZ_NODE_STR);
        const struct mz_node *certs = member(keys->list[i], MZ_STR("x5c"), MZ_NODE_LIST);
        if (!use || !mz_str_eq(use->text, MZ_STR("x509-svid")))
            return mz_err_set(
                err, "missing or invalid 'use' field found in cert for domain '" MZ_STR_FMT "'",
                MZ_STR_ARG(d->name));
        if (!certs || certs->n == 0)
            return mz_err_set(
                err, "missing or empty 'x5c' field found in keys for domain: '" MZ_STR_FMT "'",
                MZ_STR_ARG(d->name));
        for (uint32_t k = 0; k < certs->n; k++)
            if (!cert_read(f, d, certs->list[k]))
                return mz_err_set(err, "Invalid x509 object in certs for domain '" MZ_STR_FMT "'",
                                  MZ_STR_ARG(d->name));
    }
    return true;
}

static bool bundles_build(struct tls_factory *f, struct spiffe *s, const pb_DataSource *m,
                          struct mz_err *err)
{
    struct mz_str text;
    if (!mz_data_source_read(m, FILE_MAX, f->arena, &text, err))
        return false;
    const struct mz_node *root = mz_tree_read_json(f->arena, text, err);
    if (!root)
        return false;
    const struct mz_node *all = member(root, MZ_STR("trust_domains"), MZ_NODE_MAP);
    if (!all || all->n == 0)
        return mz_err_set(err, "No trust domains found in SPIFFE bundle");
    s->v = mz_arena_alloc0(f->arena, all->n * sizeof(*s->v));
    for (uint32_t i = 0; i < all->n; i++) {
        struct trust_domain *d = domain_add(s, mz_arena_dup(f->arena, all->pairs[i].key), err);
        if (!d || !keys_read(f, d, member(all->pairs[i].value, MZ_STR("keys"), MZ_NODE_LIST), err))
            return false;
    }
    return true;
}

bool spiffe_build(const pb_TypedExtensionConfig *m, struct tls_factory *f, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = f->arena, .unknown = MZ_UNKNOWN_COUNT };
    ProtobufCMessage *msg;
    if (!mz_any_unpack_as(&ctx, m->typed_config, &pb_SPIFFECertValidatorConfig__descriptor, &msg,
                          err))
        return mz_err_at(err, "typed_config");
    const pb_SPIFFECertValidatorConfig *c = (const pb_SPIFFECertValidatorConfig *)msg;
    struct spiffe *s = f->verify.spiffe = mz_arena_new0(f->arena, struct spiffe);
    if (c->trust_bundles)
        return bundles_build(f, s, c->trust_bundles, err) || mz_err_at(err, "trust_bundles");
    s->v = mz_arena_alloc0(f->arena, (c->n_trust_domains + 1) * sizeof(*s->v));
    for (size_t i = 0; i < c->n_trust_domains; i++)
        if (!domain_build(f, s, c->trust_domains[i], err))
            return mz_err_at(err, "trust_domains[%zu]", i);
    return true;
}

void spiffe_fini(struct spiffe *s)
{
    for (size_t i = 0; s && i < s->n; i++)
        X509_STORE_free(s->v[i].store);
}

/* ---- judging ---- */

/* The domain of the first URI: "spiffe://domain/..."; a URI without a path has none. */
static struct mz_str domain_of(const GENERAL_NAMES *g, struct mz_arena *a)
{
    static const struct mz_str scheme = MZ_STR_INIT("spiffe://");
    for (int i = 0; g && i < sk_GENERAL_NAME_num(g); i++) {
        const GENERAL_NAME *n = sk_GENERAL_NAME_value(g, i);
        if (n->type != GEN_URI)
            continue;
        struct mz_str uri = facts_san_text(n, a);
        if (uri.n <= scheme.n || memcmp(uri.p, scheme.p, scheme.n) != 0)
            return MZ_STR("");
        uri = mz_str_skip(uri, scheme.n);
        ptrdiff_t slash = mz_str_chr(uri, '/');
        return slash > 0 ? (struct mz_str){ uri.p, (size_t)slash } : MZ_STR("");
    }
    return MZ_STR("");
}

static X509_STORE *store_of(const struct spiffe *s, const GENERAL_NAMES *g, struct mz_arena *a)
{
    struct mz_str name = domain_of(g, a);
    for (size_t i = 0; name.n && i < s->n; i++)
        if (mz_str_eq(s->v[i].name, name))
            return s->v[i].store;
    return NULL;
}

static bool refuse(const struct tls_factory *f, SSL *ssl, unsigned stat, const char *why)
{
    mz_count(f->scope, stat, 1);
    tls_set_failure(ssl, why);
    return false;
}

static bool chain_good(const struct tls_factory *f, SSL *ssl, X509_STORE_CTX *outer, X509 *leaf,
                       X509_STORE *store)
{
    X509_STORE_CTX *c = X509_STORE_CTX_new();
    bool ok =
        X509_STORE_CTX_init(c, store, leaf, X509_STORE_CTX_get0_untrusted(outer)) == 1 &&
        X509_VERIFY_PARAM_set1(X509_STORE_CTX_get0_param(c), X509_STORE_CTX_get0_param(outer)) == 1;
    if (!ok) {
        X509_STORE_CTX_free(c);
        return refuse(f, ssl, MZ_TLS_FAIL_VERIFY_ERROR,
                      "verify cert failed: init and setup X509_STORE_CTX");
    }
    if (f->verify.allow_expired)
        X509_STORE_CTX_set_flags(c, X509_V_FLAG_NO_CHECK_TIME);
    ok = X509_verify_cert(c) == 1;
    if (!ok) {
        char text[256];
        verify_chain_text(c, text);
        X509_STORE_CTX_set_error(outer, X509_STORE_CTX_get_error(c)); /* its alert */
        (void)refuse(f, ssl, MZ_TLS_FAIL_VERIFY_ERROR, text);
    }
    X509_STORE_CTX_free(c);
    return ok;
}

static bool uri_matches(const struct verify_rules *v, const GENERAL_NAMES *g, struct mz_arena *a)
{
    bool asked = false;
    for (size_t k = 0; k < v->n_sans; k++) {
        if (v->sans[k].type != GEN_URI && v->sans[k].type != SAN_ANY)
            continue; /* SPIFFE says nothing of other names */
        asked = true;
        for (int i = 0; g && i < sk_GENERAL_NAME_num(g); i++) {
            const GENERAL_NAME *n = sk_GENERAL_NAME_value(g, i);
            struct mz_str text = n->type == GEN_URI ? facts_san_text(n, a) : MZ_STR("");
            if (text.n && mz_string_match(v->sans[k].match, text))
                return true;
        }
    }
    return !asked;
}

bool spiffe_judge(const struct tls_factory *f, SSL *ssl, X509_STORE_CTX *ctx, X509 *leaf)
{
    /* All ones where the certificate says nothing: it has to (X.509-SVID 4.3). */
    if ((X509_get_extension_flags(leaf) & EXFLAG_CA) ||
        (X509_get_key_usage(leaf) & (KU_CRL_SIGN | KU_KEY_CERT_SIGN)))
        return refuse(f, ssl, MZ_TLS_FAIL_VERIFY_ERROR, "verify cert failed: cert precheck");
    struct mz_arena *a = mz_arena_create(MZ_MEM_TLS);
    GENERAL_NAMES *g = X509_get_ext_d2i(leaf, NID_subject_alt_name, NULL, NULL);
    X509_STORE *store = store_of(f->verify.spiffe, g, a);
    bool ok = store ? chain_good(f, ssl, ctx, leaf, store)
                    : refuse(f, ssl, MZ_TLS_FAIL_VERIFY_ERROR,
                             "verify cert failed: no trust bundle store");
    if (ok && !uri_matches(&f->verify, g, a))
        ok = refuse(f, ssl, MZ_TLS_FAIL_VERIFY_SAN, "verify cert failed: SAN match");
    GENERAL_NAMES_free(g);
    mz_arena_destroy(a);
    return ok;
}
