#ifndef MZ_TLS_STATS_H
#define MZ_TLS_STATS_H
/* "<listener or cluster>.ssl." (T3), Envoy's names. Those of versions, ciphers, groups and algorithms appear when first counted. */
#include "stats/stats.h"

#define MZ_TLS_STATS(X)                                                                                                \
    X(CONNECTION_ERROR, "connection_error") X(HANDSHAKE, "handshake") X(SESSION_REUSED, "session_reused")              \
    X(NO_CERTIFICATE, "no_certificate") X(FAIL_VERIFY_NO_CERT, "fail_verify_no_cert")                                  \
    X(FAIL_VERIFY_ERROR, "fail_verify_error") X(FAIL_VERIFY_SAN, "fail_verify_san")                                    \
    X(FAIL_VERIFY_CERT_HASH, "fail_verify_cert_hash") X(OCSP_STAPLE_FAILED, "ocsp_staple_failed")                      \
    X(OCSP_STAPLE_OMITTED, "ocsp_staple_omitted") X(OCSP_STAPLE_RESPONSES, "ocsp_staple_responses")                    \
    X(OCSP_STAPLE_REQUESTS, "ocsp_staple_requests")
#define MZ_TLS_NAMED(X) /* group, OpenSSL's name, Envoy's name */                                                      \
    X(VERSION, "TLSv1", "versions.TLSv1") X(VERSION, "TLSv1.1", "versions.TLSv1.1")                                    \
    X(VERSION, "TLSv1.2", "versions.TLSv1.2") X(VERSION, "TLSv1.3", "versions.TLSv1.3")                                \
    X(CIPHER, "TLS_AES_128_GCM_SHA256", "ciphers.TLS_AES_128_GCM_SHA256")                                              \
    X(CIPHER, "TLS_AES_256_GCM_SHA384", "ciphers.TLS_AES_256_GCM_SHA384")                                              \
    X(CIPHER, "TLS_CHACHA20_POLY1305_SHA256", "ciphers.TLS_CHACHA20_POLY1305_SHA256")                                  \
    X(CIPHER, "ECDHE-ECDSA-AES128-GCM-SHA256", "ciphers.ECDHE-ECDSA-AES128-GCM-SHA256")                                \
    X(CIPHER, "ECDHE-ECDSA-AES256-GCM-SHA384", "ciphers.ECDHE-ECDSA-AES256-GCM-SHA384")                                \
    X(CIPHER, "ECDHE-ECDSA-CHACHA20-POLY1305", "ciphers.ECDHE-ECDSA-CHACHA20-POLY1305")                                \
    X(CIPHER, "ECDHE-RSA-AES128-GCM-SHA256", "ciphers.ECDHE-RSA-AES128-GCM-SHA256")                                    \
    X(CIPHER, "ECDHE-RSA-AES256-GCM-SHA384", "ciphers.ECDHE-RSA-AES256-GCM-SHA384")                                    \
    X(CIPHER, "ECDHE-RSA-CHACHA20-POLY1305", "ciphers.ECDHE-RSA-CHACHA20-POLY1305")                                    \
    X(CIPHER, "", "ciphers.other")                                                                                     \
    X(GROUP, "x25519", "curves.X25519") X(GROUP, "secp256r1", "curves.P-256") X(GROUP, "secp384r1", "curves.P-384")    \
    X(GROUP, "secp521r1", "curves.P-521") X(GROUP, "", "curves.other")                                                 \
    X(SIGALG, "ecdsa_secp256r1_sha256", "sigalgs.ecdsa_secp256r1_sha256")                                              \
    X(SIGALG, "ecdsa_secp384r1_sha384", "sigalgs.ecdsa_secp384r1_sha384")                                              \
    X(SIGALG, "rsa_pss_rsae_sha256", "sigalgs.rsa_pss_rsae_sha256")                                                    \
    X(SIGALG, "rsa_pss_rsae_sha384", "sigalgs.rsa_pss_rsae_sha384")                                                    \
    X(SIGALG, "rsa_pss_rsae_sha512", "sigalgs.rsa_pss_rsae_sha512")                                                    \
    X(SIGALG, "rsa_pkcs1_sha256", "sigalgs.rsa_pkcs1_sha256") X(SIGALG, "ed25519", "sigalgs.ed25519")                  \
    X(SIGALG, "", "sigalgs.other")
enum mz_tls_stat {
#define X(id, name) MZ_TLS_##id,
    MZ_TLS_STATS(X)
#undef X
    MZ_TLS_NAMED_FIRST
};
enum mz_tls_group { MZ_TLS_GROUP_VERSION, MZ_TLS_GROUP_CIPHER, MZ_TLS_GROUP_GROUP, MZ_TLS_GROUP_SIGALG };
extern const struct mz_stat_kind mz_tls_stats;
/* "<listener>.server_ssl_socket_factory.", "<cluster>.client_ssl_socket_factory.": both names on both sides, as at Envoy */
enum { MZ_SDS_DOWN_NOT_READY, MZ_SDS_UP_NOT_READY, MZ_SDS_UPDATED };
extern const struct mz_stat_kind mz_tls_sds_stats;
/* "<listener or cluster>.ssl.certificate.<name>." */
extern const struct mz_stat_kind mz_tls_expiry_stats;
void mz_tls_count_named(struct mz_scope *s, enum mz_tls_group g, const char *openssl_name);
#endif
