#include "tls/tls_priv.h"

#include <openssl/err.h>
#include <stdio.h>

/*
 * Reasons of failure in Envoy's words (T1): it prints the error code and the reason's name of its own library, so these stand
 * here beside OpenSSL's. A reason that is not in the table keeps OpenSSL's text in capitals and the number 0 as its reason.
 */
#define SSL_LIB_CODE 16u /* of the peer's library: code = 16 << 24 | reason */

static const struct {
    int openssl;
    uint16_t number;
    const char *name;
} reasons[] = {
    { SSL_R_BAD_SIGNATURE, 106, "BAD_SIGNATURE" },
    { SSL_R_BLOCK_CIPHER_PAD_IS_WRONG, 109, "BLOCK_CIPHER_PAD_IS_WRONG" },
    { SSL_R_CERTIFICATE_VERIFY_FAILED, 125, "CERTIFICATE_VERIFY_FAILED" },
    { SSL_R_CLIENTHELLO_TLSEXT, 127, "CLIENTHELLO_TLSEXT" },
    { SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC, 139, "DECRYPTION_FAILED_OR_BAD_RECORD_MAC" },
    { SSL_R_EXCESSIVE_MESSAGE_SIZE, 153, "EXCESSIVE_MESSAGE_SIZE" },
    { SSL_R_HTTPS_PROXY_REQUEST, 156, "HTTPS_PROXY_REQUEST" },
    { SSL_R_HTTP_REQUEST, 157, "HTTP_REQUEST" },
    { SSL_R_INAPPROPRIATE_FALLBACK, 158, "INAPPROPRIATE_FALLBACK" },
    { SSL_R_NO_CERTIFICATE_SET, 176, "NO_CERTIFICATE_SET" },
    { SSL_R_NO_SHARED_CIPHER, 184, "NO_SHARED_CIPHER" },
    { SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE, 192, "PEER_DID_NOT_RETURN_A_CERTIFICATE" },
    { SSL_R_RECORD_LENGTH_MISMATCH, 213, "RECORD_LENGTH_MISMATCH" },
    { SSL_R_TLSV1_ALERT_DECODE_ERROR, 1050, "TLSV1_ALERT_DECODE_ERROR" },
    { SSL_R_UNEXPECTED_MESSAGE, 231, "UNEXPECTED_MESSAGE" },
    { SSL_R_UNEXPECTED_RECORD, 232, "UNEXPECTED_RECORD" },
    { SSL_R_UNSUPPORTED_PROTOCOL, 240, "UNSUPPORTED_PROTOCOL" },
    { SSL_R_WRONG_VERSION_NUMBER, 247, "WRONG_VERSION_NUMBER" },
    { SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, 253, "NO_COMMON_SIGNATURE_ALGORITHMS" },
    { SSL_R_SSLV3_ALERT_UNEXPECTED_MESSAGE, 1010, "SSLV3_ALERT_UNEXPECTED_MESSAGE" },
    { SSL_R_SSLV3_ALERT_BAD_RECORD_MAC, 1020, "SSLV3_ALERT_BAD_RECORD_MAC" },
    { SSL_R_SSLV3_ALERT_HANDSHAKE_FAILURE, 1040, "SSLV3_ALERT_HANDSHAKE_FAILURE" },
    { SSL_R_SSLV3_ALERT_BAD_CERTIFICATE, 1042, "SSLV3_ALERT_BAD_CERTIFICATE" },
    { SSL_R_SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, 1043, "SSLV3_ALERT_UNSUPPORTED_CERTIFICATE" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_REVOKED, 1044, "SSLV3_ALERT_CERTIFICATE_REVOKED" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED, 1045, "SSLV3_ALERT_CERTIFICATE_EXPIRED" },
    { SSL_R_SSLV3_ALERT_CERTIFICATE_UNKNOWN, 1046, "SSLV3_ALERT_CERTIFICATE_UNKNOWN" },
    { SSL_R_SSLV3_ALERT_ILLEGAL_PARAMETER, 1047, "SSLV3_ALERT_ILLEGAL_PARAMETER" },
    { SSL_R_TLSV1_ALERT_UNKNOWN_CA, 1048, "TLSV1_ALERT_UNKNOWN_CA" },
    { SSL_R_TLSV1_ALERT_ACCESS_DENIED, 1049, "TLSV1_ALERT_ACCESS_DENIED" },
    { SSL_R_TLSV1_ALERT_DECRYPT_ERROR, 1051, "TLSV1_ALERT_DECRYPT_ERROR" },
    { SSL_R_TLSV1_ALERT_PROTOCOL_VERSION, 1070, "TLSV1_ALERT_PROTOCOL_VERSION" },
    { SSL_R_TLSV1_ALERT_INSUFFICIENT_SECURITY, 1071, "TLSV1_ALERT_INSUFFICIENT_SECURITY" },
    { SSL_R_TLSV1_ALERT_INTERNAL_ERROR, 1080, "TLSV1_ALERT_INTERNAL_ERROR" },
    { SSL_R_TLSV1_ALERT_USER_CANCELLED, 1090, "TLSV1_ALERT_USER_CANCELLED" },
    { SSL_R_TLSV1_UNRECOGNIZED_NAME, 1112, "TLSV1_ALERT_UNRECOGNIZED_NAME" },
    { SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, 1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED" },
    { SSL_R_NO_APPLICATION_PROTOCOL, 307, "NO_APPLICATION_PROTOCOL" },
};

static void capitals(const char *text, struct mz_buf *out)
{
    for (; *text; text++) {
        char c = *text;
        if (c >= 'a' && c <= 'z')
            c = (char)(c - 'a' + 'A');
        else if (!((c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9')))
            c = '_';
        mz_buf_append(out, &c, 1);
    }
}

static void one_error(unsigned long e, struct mz_buf *out)
{
    int r = ERR_GET_REASON(e);
    for (size_t i = 0; ERR_GET_LIB(e) == ERR_LIB_SSL && i < MZ_COUNT(reasons); i++) {
        if (reasons[i].openssl != r)
            continue;
        mz_buf_printf(out, "|%u:SSL_routines:OPENSSL_internal:%s",
                      SSL_LIB_CODE << 24 | reasons[i].number, reasons[i].name);
        return;
    }
    const char *text = ERR_reason_error_string(e);
    mz_buf_printf(
        out, "|%u:%s:OPENSSL_internal:", ERR_GET_LIB(e) == ERR_LIB_SSL ? SSL_LIB_CODE << 24 : 0,
        ERR_GET_LIB(e) == ERR_LIB_SSL ? "SSL_routines" : "library");
    capitals(text ? text : "UNKNOWN", out);
}

void error_text(struct mz_buf *out)
{
    for (unsigned long e; (e = ERR_get_error()) != 0;)
        if (mz_buf_len(out) < 400) /* the first ones tell the reason */
            one_error(e, out);
}

const char *error_reason(char out_text[160])
{
    unsigned long e = ERR_get_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    (void)snprintf(out_text, 160, "%s", text ? text : "unknown error");
    ERR_clear_error();
    return out_text;
}
