/* What stands in certificates, as logs, headers and rules want it. */
#include "tls/tls_priv.h"

#include <arpa/inet.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <string.h>

static struct mz_str of_bio(BIO *b, struct mz_arena *a)
{
    char *p;
    long n = BIO_get_mem_data(b, &p);
    struct mz_str s = mz_arena_dup(a, (struct mz_str){ p, n > 0 ? (size_t)n : 0 });
    BIO_free(b);
    return s;
}

static struct mz_str name_text(const X509_NAME *n, struct mz_arena *a)
{
    BIO *b = BIO_new(BIO_s_mem());
    (void)X509_NAME_print_ex(b, n, 0, XN_FLAG_RFC2253);
    return of_bio(b, a);
}

static struct mz_str hex(const unsigned char *p, size_t n, struct mz_arena *a)
{
    static const char digits[] = "0123456789abcdef";
    char *out = mz_arena_alloc(a, n * 2 + 1);
    for (size_t i = 0; i < n; i++) {
        out[2 * i] = digits[p[i] >> 4];
        out[2 * i + 1] = digits[p[i] & 15];
    }
    out[2 * n] = 0;
    return (struct mz_str){ out, 2 * n };
}

static struct mz_str digest(X509 *x, const EVP_MD *md, struct mz_arena *a)
{
    unsigned char d[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    return X509_digest(x, md, d, &n) ? hex(d, n, a) : MZ_STR("");
}

static struct mz_str spki_text(X509 *x, struct mz_arena *a)
{
    unsigned char d[EVP_MAX_MD_SIZE], *der = NULL, text[EVP_MAX_MD_SIZE * 2];
    unsigned n = 0;
    int len = i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x), &der);
    if (len <= 0 || !EVP_Digest(der, (size_t)len, d, &n, EVP_sha256(), NULL))
        n = 0;
    OPENSSL_free(der);
    int m = EVP_EncodeBlock(text, d, (int)n);
    return mz_arena_dup(a, (struct mz_str){ (char *)text, (size_t)m });
}

static struct mz_str serial_text(X509 *x, struct mz_arena *a)
{
    BIGNUM *bn = ASN1_INTEGER_to_BN(X509_get0_serialNumber(x), NULL);
    char *t = bn ? BN_bn2hex(bn) : NULL;
    struct mz_str s = MZ_STR("");
    if (t) {
        size_t n = strlen(t);
        char *out = mz_arena_alloc(a, n + 1);
        for (size_t i = 0; i <= n; i++)
            out[i] = mz_lower(t[i]);
        s = (struct mz_str){ out, n };
    }
    OPENSSL_free(t);
    BN_free(bn);
    return s;
}

static int64_t unix_time(const ASN1_TIME *t)
{
    struct tm tm;
    return t && ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

static struct mz_str ip_text(const ASN1_OCTET_STRING *o, struct mz_arena *a)
{
    char text[INET6_ADDRSTRLEN];
    int n = ASN1_STRING_length(o);
    if (n != 4 && n != 16)
        return MZ_STR("");
    if (!inet_ntop(n == 4 ? AF_INET : AF_INET6, ASN1_STRING_get0_data(o), text, sizeof(text)))
        return MZ_STR("");
    return mz_arena_dup(a, mz_str_c(text));
}

static struct mz_str other_text(const ASN1_TYPE *v, struct mz_arena *a)
{
    static const struct mz_str none = { NULL, 0 };
    switch (v->type) {
    case V_ASN1_UTF8STRING:
    case V_ASN1_IA5STRING:
    case V_ASN1_PRINTABLESTRING:
    case V_ASN1_NUMERICSTRING:
    case V_ASN1_VISIBLESTRING:
        break;
    default:
        return none;
    }
    const char *p = (const char *)ASN1_STRING_get0_data(v->value.asn1_string);
    size_t n = (size_t)ASN1_STRING_length(v->value.asn1_string);
    return memchr(p, 0, n) ? none : mz_arena_dup(a, (struct mz_str){ p, n });
}

struct mz_str facts_san_text(const GENERAL_NAME *n, struct mz_arena *a)
{
    static const struct mz_str none = { NULL, 0 };
    if (n->type == GEN_IPADD) {
        struct mz_str s = ip_text(n->d.iPAddress, a);
        return s.n ? s : none;
    }
    if (n->type == GEN_OTHERNAME)
        return other_text(n->d.otherName->value, a);
    if (n->type != GEN_DNS && n->type != GEN_URI && n->type != GEN_EMAIL)
        return none;
    const ASN1_IA5STRING *v = n->d.ia5;
    const char *p = (const char *)ASN1_STRING_get0_data(v);
    size_t len = (size_t)ASN1_STRING_length(v);
    if (memchr(p, 0, len)) /* a name that ends early for some readers matches for none (G11) */
        return none;
    return mz_arena_dup(a, (struct mz_str){ p, len });
}

struct san_lists {
    int type;
    struct mz_tls_names *out;
};

static void sans(X509 *x, struct mz_arena *a, struct mz_tls_cert_facts *f)
{
    const struct san_lists lists[] = { { GEN_URI, &f->uri_sans },
                                       { GEN_DNS, &f->dns_sans },
                                       { GEN_IPADD, &f->ip_sans },
                                       { GEN_EMAIL, &f->email_sans } };
    GENERAL_NAMES *g = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);
    int n = g ? sk_GENERAL_NAME_num(g) : 0;
    for (size_t k = 0; k < MZ_COUNT(lists); k++) {
        lists[k].out->v = mz_arena_alloc(a, (size_t)n * sizeof(struct mz_str));
        for (int i = 0; i < n; i++) {
            const GENERAL_NAME *e = sk_GENERAL_NAME_value(g, i);
            struct mz_str s = e->type == lists[k].type ? facts_san_text(e, a) : MZ_STR("");
            if (s.n)
                lists[k].out->v[lists[k].out->n++] = s;
        }
    }
    GENERAL_NAMES_free(g);
}

static void url_encode(struct mz_buf *out, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        unsigned char c = (unsigned char)p[i];
        if ((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
            c == '-' || c == '.' || c == '_')
            mz_buf_append(out, &p[i], 1);
        else
            mz_buf_printf(out, "%%%02X", c);
    }
}

static void pem_into(struct mz_buf *out, X509 *x)
{
    BIO *b = BIO_new(BIO_s_mem());
    char *p;
    (void)PEM_write_bio_X509(b, x);
    long n = BIO_get_mem_data(b, &p);
    url_encode(out, p, n > 0 ? (size_t)n : 0);
    BIO_free(b);
}

static struct mz_str of_buf(struct mz_buf *b, struct mz_arena *a)
{
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(b, mz_buf_len(b)));
    mz_buf_fini(b);
    return s;
}

void facts_of_cert(X509 *x, struct mz_arena *a, struct mz_tls_cert_facts *out)
{
    struct mz_buf pem;
    mz_buf_init(&pem);
    pem_into(&pem, x);
    *out = (struct mz_tls_cert_facts){ .subject = name_text(X509_get_subject_name(x), a),
                                       .issuer = name_text(X509_get_issuer_name(x), a),
                                       .serial = serial_text(x, a),
                                       .sha1 = digest(x, EVP_sha1(), a),
                                       .sha256 = digest(x, EVP_sha256(), a),
                                       .spki = spki_text(x, a),
                                       .valid_from_s = unix_time(X509_get0_notBefore(x)),
                                       .valid_until_s = unix_time(X509_get0_notAfter(x)),
                                       .pem = of_buf(&pem, a) };
    sans(x, a, out);
}

static bool has(STACK_OF(X509) * chain, X509 *leaf)
{
    for (int i = 0; chain && i < sk_X509_num(chain); i++)
        if (X509_cmp(sk_X509_value(chain, i), leaf) == 0)
            return true;
    return false;
}

/* A client's chain begins with its own certificate, a server sees it apart. */
void facts_of_chain(STACK_OF(X509) * chain, X509 *leaf, struct mz_arena *a,
                    struct mz_tls_facts *out)
{
    size_t n = (chain ? (size_t)sk_X509_num(chain) : 0) + !has(chain, leaf), k = 0;
    struct mz_tls_names *const lists[] = { &out->chain_sha1, &out->chain_sha256,
                                           &out->chain_serials };
    for (size_t i = 0; i < MZ_COUNT(lists); i++)
        *lists[i] = (struct mz_tls_names){ mz_arena_alloc0(a, n * sizeof(struct mz_str)), n };
    for (size_t i = 0; i < n; i++) {
        X509 *x = has(chain, leaf) ? sk_X509_value(chain, (int)i)
                  : i == 0         ? leaf
                                   : sk_X509_value(chain, (int)i - 1);
        out->chain_sha1.v[k] = digest(x, EVP_sha1(), a);
        out->chain_sha256.v[k] = digest(x, EVP_sha256(), a);
        out->chain_serials.v[k++] = serial_text(x, a);
    }
}

struct mz_str facts_chain_pem(STACK_OF(X509) * chain, X509 *leaf, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    if (leaf && !has(chain, leaf))
        pem_into(&b, leaf);
    for (int i = 0; chain && i < sk_X509_num(chain); i++)
        pem_into(&b, sk_X509_value(chain, i));
    return of_buf(&b, a);
}
