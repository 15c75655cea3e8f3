/*
 * Stapled OCSP responses (T1, RFC 6066 section 8): read with their certificate, sent to clients that ask. Their signatures are
 * not checked, for they come with the configuration, as at Envoy.
 */
#include "tls/tls_priv.h"

#include <openssl/ocsp.h>
#include <string.h>

#include "base/clock.h"
#include "proto/data_source.h"

#define FILE_MAX (1u << 20)

static int64_t seconds_of(const ASN1_GENERALIZEDTIME *t)
{
    struct tm tm;
    return t && ASN1_TIME_to_tm(t, &tm) ? (int64_t)timegm(&tm) : 0;
}

/* The promise of RFC 7633, TLS feature 5 (status_request) and nothing else. */
static bool must_staple(const X509 *x)
{
    static const unsigned char promise[] = { 0x30, 3, 2, 1, 5 };
    int i = X509_get_ext_by_NID(x, NID_tlsfeature, -1);
    const ASN1_OCTET_STRING *v = i >= 0 ? X509_EXTENSION_get_data(X509_get_ext(x, i)) : NULL;
    return v && ASN1_STRING_length(v) == sizeof(promise) &&
           memcmp(ASN1_STRING_get0_data(v), promise, sizeof(promise)) == 0;
}

static bool of_cert(OCSP_SINGLERESP *one, const X509 *x)
{
    ASN1_INTEGER *serial = NULL;
    const OCSP_CERTID *id = OCSP_SINGLERESP_get0_id(one);
    return OCSP_id_get0_info(NULL, NULL, NULL, &serial, (OCSP_CERTID *)(uintptr_t)id) == 1 &&
           ASN1_INTEGER_cmp(serial, X509_get0_serialNumber(x)) == 0;
}

static bool read_basic(OCSP_BASICRESP *basic, struct key_pair *k, struct mz_err *err)
{
    ASN1_GENERALIZEDTIME *made = NULL, *next = NULL;
    if (!basic)
        return mz_err_set(err, "OCSP response has no body");
    if (OCSP_resp_count(basic) != 1)
        return mz_err_set(err, "OCSP Response must be for one certificate only");
    OCSP_SINGLERESP *one = OCSP_resp_get0(basic, 0);
    if (!of_cert(one, k->cert))
        return mz_err_set(err, "OCSP response does not match its TLS certificate");
    (void)OCSP_single_get0_status(one, NULL, NULL, &made,
                                  &next); /* what it says is the client's to judge */
    k->staple.from_s = seconds_of(made);
    k->staple.until_s = seconds_of(next);
    return true;
}

static bool read_response(struct mz_str bytes, struct key_pair *k, struct mz_err *err)
{
    const unsigned char *p = (const unsigned char *)bytes.p;
    OCSP_RESPONSE *r = d2i_OCSP_RESPONSE(NULL, &p, (long)bytes.n);
    if (!r)
        return mz_err_set(err, "OCSP Response is not a well-formed ASN.1 SEQUENCE");
    OCSP_BASICRESP *basic = NULL;
    bool ok = p == (const unsigned char *)bytes.p + bytes.n ||
              mz_err_set(err, "Data contained more than a single OCSP response");
    if (ok && OCSP_response_status(r) != OCSP_RESPONSE_STATUS_SUCCESSFUL)
        ok = mz_err_set(err, "OCSP response was unsuccessful");
    if (ok) {
        basic = OCSP_response_get1_basic(r);
        ok = read_basic(basic, k, err);
    }
    OCSP_BASICRESP_free(basic);
    OCSP_RESPONSE_free(r);
    return ok;
}

bool staple_build(const pb_TlsCertificate *m, struct tls_factory *f, struct key_pair *k,
                  struct mz_err *err)
{
    struct mz_str bytes = MZ_STR("");
    k->must_staple = must_staple(k->cert);
    if (m->ocsp_staple) {
        if (m->ocsp_staple->specifier_case == pb_DataSource_SPECIFIER_INLINE_STRING)
            return mz_err_set(err, "OCSP staple cannot be provided via inline_string");
        if (!mz_data_source_read(m->ocsp_staple, FILE_MAX, f->arena, &bytes, err))
            return false;
    }
    if (bytes.n) {
        k->staple.der = bytes;
        return read_response(bytes, k, err);
    }
    if (k->must_staple)
        return mz_err_set(err, "OCSP response is required for must-staple certificate");
    return f->staple_policy != STAPLE_MUST ||
           mz_err_set(err, "Required OCSP response is missing from TLS context");
}

enum staple_action staple_action(const struct tls_factory *f, const struct key_pair *k)
{
    enum staple_policy p = k->must_staple ? STAPLE_MUST : f->staple_policy;
    bool there = k->staple.der.n != 0;
    bool valid = there && k->staple.until_s >= (int64_t)(mz_clock->wall_us() / 1000000);
    if (valid)
        return STAPLE_SEND;
    return p == STAPLE_MUST || (p == STAPLE_STRICT && there) ? STAPLE_FAIL : STAPLE_OMIT;
}

/* SSL_CTX_set_tlsext_status_cb(): runs where the client asked, after the certificate was chosen. */
int staple_send(SSL *ssl, void *factory)
{
    (void)factory;
    const struct tls_transport *t = SSL_get_app_data(ssl);
    struct mz_str der = t->staple ? t->staple->der : MZ_STR("");
    unsigned char *copy = der.n ? OPENSSL_memdup(der.p, der.n) : NULL;
    if (!copy)
        return SSL_TLSEXT_ERR_NOACK;
    (void)SSL_set_tlsext_status_ocsp_resp(ssl, copy, (long)der.n); /* takes it */
    return SSL_TLSEXT_ERR_OK;
}
