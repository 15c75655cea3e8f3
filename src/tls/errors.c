#include "tls/tls_priv.h"

#include <openssl/err.h>
#include <openssl/proverr.h>
#include <stdio.h>

/*
 * Reasons of failure in Envoy's words (T1): it prints the error code and the reason's name of its own library, so these stand
 * here beside OpenSSL's. A reason that is not in the table keeps OpenSSL's text in capitals and the number 0 as its reason.
 */
#define SSL_LIB_CODE 16u /* of the peer's library: code = 16 << 24 | reason */

static const struct mz_str BAD_DECRYPT =
    MZ_STR_INIT("|503316581:Cipher_functions:OPENSSL_internal:BAD_DECRYPT");

#define SAME(name, number)                                                                         \
    {                                                                                              \
        SSL_R_##name, number, #name                                                                \
    }
/* clang-format off */
static const struct {
    int openssl;
    uint16_t number;
    const char *name;
} reasons[] = {
    SAME(APP_DATA_IN_HANDSHAKE, 100), SAME(ATTEMPT_TO_REUSE_SESSION_IN_DIFFERENT_CONTEXT, 101),
    SAME(BAD_CHANGE_CIPHER_SPEC, 103), SAME(BAD_DIGEST_LENGTH, 106), SAME(BAD_ECPOINT, 108),
    SAME(BAD_HELLO_REQUEST, 110), SAME(BAD_LENGTH, 111), SAME(BAD_PACKET_LENGTH, 112),
    SAME(BAD_SIGNATURE, 114), SAME(BLOCK_CIPHER_PAD_IS_WRONG, 261),
    SAME(CA_DN_LENGTH_MISMATCH, 122), SAME(CCS_RECEIVED_EARLY, 124),
    SAME(CERTIFICATE_VERIFY_FAILED, 125),
    SAME(CERT_LENGTH_MISMATCH, 127), SAME(CLIENTHELLO_TLSEXT, 132),
    SAME(DATA_LENGTH_TOO_LONG, 136), SAME(DECRYPTION_FAILED, 138),
    SAME(DECRYPTION_FAILED_OR_BAD_RECORD_MAC, 139), SAME(DIGEST_CHECK_FAILED, 142),
    SAME(ENCRYPTED_LENGTH_TOO_LONG, 146), SAME(ERROR_IN_RECEIVED_CIPHER_LIST, 148),
    SAME(EXCESSIVE_MESSAGE_SIZE, 150), SAME(HTTPS_PROXY_REQUEST, 155), SAME(HTTP_REQUEST, 156),
    SAME(INAPPROPRIATE_FALLBACK, 157), SAME(INVALID_COMMAND, 158), 
    SAME(MISSING_RSA_CERTIFICATE, 165), SAME(NO_APPLICATION_PROTOCOL, 307),
    SAME(NO_CERTIFICATES_RETURNED, 172), SAME(NO_CERTIFICATE_ASSIGNED, 173),
    SAME(NO_CERTIFICATE_SET, 174), SAME(NO_CIPHERS_AVAILABLE, 175), SAME(NO_CIPHER_MATCH, 177),
    SAME(NO_PRIVATE_KEY_ASSIGNED, 181), SAME(NO_RENEGOTIATION, 182),
    SAME(NO_REQUIRED_DIGEST, 183), SAME(NO_SHARED_CIPHER, 184),
    SAME(OLD_SESSION_CIPHER_NOT_RETURNED, 187), SAME(PEER_DID_NOT_RETURN_A_CERTIFICATE, 192),
    SAME(PROTOCOL_IS_SHUTDOWN, 194), SAME(PSK_IDENTITY_NOT_FOUND, 195),
    SAME(RECORD_LENGTH_MISMATCH, 199), SAME(RENEGOTIATION_ENCODING_ERR, 201),
    SAME(RENEGOTIATION_MISMATCH, 202), SAME(REQUIRED_CIPHER_MISSING, 203),
    SAME(SCSV_RECEIVED_WHEN_RENEGOTIATING, 206), SAME(SESSION_ID_CONTEXT_UNINITIALIZED, 208),
    SAME(SSL3_EXT_INVALID_SERVERNAME, 213), SAME(SSLV3_ALERT_BAD_CERTIFICATE, 1042),
    SAME(SSLV3_ALERT_BAD_RECORD_MAC, 1020), SAME(SSLV3_ALERT_CERTIFICATE_EXPIRED, 1045),
    SAME(SSLV3_ALERT_CERTIFICATE_REVOKED, 1044), SAME(SSLV3_ALERT_CERTIFICATE_UNKNOWN, 1046),
    SAME(SSLV3_ALERT_DECOMPRESSION_FAILURE, 1030), SAME(SSLV3_ALERT_HANDSHAKE_FAILURE, 1040),
    SAME(SSLV3_ALERT_ILLEGAL_PARAMETER, 1047), SAME(SSLV3_ALERT_NO_CERTIFICATE, 1041),
    SAME(SSLV3_ALERT_UNEXPECTED_MESSAGE, 1010), SAME(SSLV3_ALERT_UNSUPPORTED_CERTIFICATE, 1043),
    SAME(SSL_HANDSHAKE_FAILURE, 215), SAME(SSL_SESSION_ID_TOO_LONG, 290),
    SAME(TLSV1_ALERT_ACCESS_DENIED, 1049), SAME(TLSV1_ALERT_DECODE_ERROR, 1050),
    SAME(TLSV1_ALERT_DECRYPTION_FAILED, 1021), SAME(TLSV1_ALERT_DECRYPT_ERROR, 1051),
    SAME(TLSV1_ALERT_EXPORT_RESTRICTION, 1060), SAME(TLSV1_ALERT_INAPPROPRIATE_FALLBACK, 1086),
    SAME(TLSV1_ALERT_INSUFFICIENT_SECURITY, 1071), SAME(TLSV1_ALERT_INTERNAL_ERROR, 1080),
    SAME(TLSV1_ALERT_NO_APPLICATION_PROTOCOL, 1120), SAME(TLSV1_ALERT_NO_RENEGOTIATION, 1100),
    SAME(TLSV1_ALERT_PROTOCOL_VERSION, 1070), SAME(TLSV1_ALERT_RECORD_OVERFLOW, 1022),
    SAME(TLSV1_ALERT_UNKNOWN_CA, 1048), SAME(TLSV1_ALERT_UNKNOWN_PSK_IDENTITY, 1115),
    SAME(TLSV1_ALERT_USER_CANCELLED, 1090), SAME(TOO_MANY_KEY_UPDATES, 260),
    SAME(UNEXPECTED_MESSAGE, 223), SAME(UNEXPECTED_RECORD, 225), SAME(UNINITIALIZED, 226),
    SAME(UNKNOWN_ALERT_TYPE, 227), SAME(UNKNOWN_CERTIFICATE_TYPE, 228),
    SAME(UNKNOWN_CIPHER_RETURNED, 229), SAME(UNKNOWN_CIPHER_TYPE, 230), SAME(UNKNOWN_DIGEST, 231),
    SAME(UNKNOWN_KEY_EXCHANGE_TYPE, 232), SAME(UNKNOWN_PROTOCOL, 233),
    SAME(UNKNOWN_SSL_VERSION, 234), SAME(UNSAFE_LEGACY_RENEGOTIATION_DISABLED, 236),
    SAME(UNSUPPORTED_COMPRESSION_ALGORITHM, 238), SAME(UNSUPPORTED_ELLIPTIC_CURVE, 239),
    SAME(UNSUPPORTED_PROTOCOL, 240), SAME(WRONG_CERTIFICATE_TYPE, 241),
    SAME(WRONG_CIPHER_RETURNED, 242), SAME(WRONG_CURVE, 243), SAME(WRONG_SIGNATURE_TYPE, 245),
    SAME(WRONG_SSL_VERSION, 246), SAME(WRONG_VERSION_NUMBER, 247),
    { SSL_R_CERT_CB_ERROR, 133, "CONNECTION_REJECTED" }, /* by pair_choose() */
    { SSL_R_LENGTH_MISMATCH, 137, "DECODE_ERROR" },
    { SSL_R_BAD_EXTENSION, 149, "ERROR_PARSING_EXTENSION" },
    { SSL_R_BAD_RECORD_TYPE, 225, "UNEXPECTED_RECORD" },
    { SSL_R_INCONSISTENT_EXTMS, 145, "EMS_STATE_INCONSISTENT" },
    { SSL_R_INVALID_CCS_MESSAGE, 103, "BAD_CHANGE_CIPHER_SPEC" },
    { SSL_R_LENGTH_TOO_LONG, 136, "DATA_LENGTH_TOO_LONG" },
    { SSL_R_NO_PROTOCOLS_AVAILABLE, 280, "NO_SUPPORTED_VERSIONS_ENABLED" },
    { SSL_R_NO_SHARED_GROUPS, 266, "NO_SHARED_GROUP" },
    { SSL_R_NO_SHARED_SIGNATURE_ALGORITHMS, 253, "NO_COMMON_SIGNATURE_ALGORITHMS" },
    { SSL_R_NO_SUITABLE_GROUPS, 266, "NO_SHARED_GROUP" },
    { SSL_R_NO_SUITABLE_KEY_SHARE, 266, "NO_SHARED_GROUP" },
    { SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM, 253, "NO_COMMON_SIGNATURE_ALGORITHMS" },
    { SSL_R_PACKET_LENGTH_TOO_LONG, 146, "ENCRYPTED_LENGTH_TOO_LONG" },
    { SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED, 1116, "TLSV1_ALERT_CERTIFICATE_REQUIRED" },
    { SSL_R_TLSV1_BAD_CERTIFICATE_HASH_VALUE, 1114, "TLSV1_ALERT_BAD_CERTIFICATE_HASH_VALUE" },
    { SSL_R_TLSV1_BAD_CERTIFICATE_STATUS_RESPONSE, 1113, "TLSV1_ALERT_BAD_CERTIFICATE_STATUS_RESPONSE" },
    { SSL_R_TLSV1_CERTIFICATE_UNOBTAINABLE, 1111, "TLSV1_ALERT_CERTIFICATE_UNOBTAINABLE" },
    { SSL_R_TLSV1_UNRECOGNIZED_NAME, 1112, "TLSV1_ALERT_UNRECOGNIZED_NAME" },
    { SSL_R_TLSV1_UNSUPPORTED_EXTENSION, 1110, "TLSV1_ALERT_UNSUPPORTED_EXTENSION" },
    { SSL_R_TOO_MANY_WARN_ALERTS, 220, "TOO_MANY_WARNING_ALERTS" },
    { SSL_R_UNSOLICITED_EXTENSION, 222, "UNEXPECTED_EXTENSION" },
};
/* clang-format on */
#undef SAME

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

void error_named(struct mz_buf *out, unsigned number, const char *name)
{
    mz_buf_printf(out, "|%u:SSL_routines:OPENSSL_internal:%s", SSL_LIB_CODE << 24 | number, name);
}

static void one_error(unsigned long e, struct mz_buf *out)
{
    int r = ERR_GET_REASON(e);
    if (ERR_GET_LIB(e) == ERR_LIB_SSL && r == SSL_R_DECRYPTION_FAILED_OR_BAD_RECORD_MAC)
        mz_buf_append_str(out, BAD_DECRYPT); /* the cipher says so first, whichever it is */
    for (size_t i = 0; ERR_GET_LIB(e) == ERR_LIB_SSL && i < MZ_COUNT(reasons); i++) {
        if (reasons[i].openssl != r)
            continue;
        error_named(out, reasons[i].number, reasons[i].name);
        return;
    }
    const char *text = ERR_reason_error_string(e);
    if (!text && ERR_GET_LIB(e) == ERR_LIB_SSL && r >= SSL_AD_REASON_OFFSET) {
        error_named(out, (unsigned)r,
                    "unknown error"); /* an alert of a number that means nothing */
        return;
    }
    mz_buf_printf(
        out, "|%u:%s:OPENSSL_internal:", ERR_GET_LIB(e) == ERR_LIB_SSL ? SSL_LIB_CODE << 24 : 0,
        ERR_GET_LIB(e) == ERR_LIB_SSL ? "SSL_routines" : "library");
    capitals(text ? text : "UNKNOWN", out);
}

void error_text(struct mz_buf *out)
{
    for (unsigned long e; (e = ERR_get_error()) != 0;)
        if (mz_buf_len(out) < 400 && /* the first ones tell the reason */
            !(ERR_GET_LIB(e) == ERR_LIB_PROV &&
              ERR_GET_REASON(e) == PROV_R_CIPHER_OPERATION_FAILED))
            one_error(e, out);
}

const char *verify_text(int error)
{
    switch (error) {
    case X509_V_ERR_DEPTH_ZERO_SELF_SIGNED_CERT:
        return "self signed certificate";
    case X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN:
        return "self signed certificate in certificate chain";
    case X509_V_ERR_INVALID_PURPOSE:
        return "unsupported certificate purpose";
    default:
        return X509_verify_cert_error_string(error);
    }
}

const char *error_reason(char out_text[160])
{
    unsigned long e = ERR_get_error();
    const char *text = e ? ERR_reason_error_string(e) : NULL;
    (void)snprintf(out_text, 160, "%s", text ? text : "unknown error");
    ERR_clear_error();
    return out_text;
}
