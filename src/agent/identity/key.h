#ifndef MZ_AGENT_KEY_H
#define MZ_AGENT_KEY_H
/* A workload's key and the request for a certificate of it. OpenSSL stays in key.c. */
#include "base/arena.h"
#include "base/err.h"

struct mz_agent_key {
    struct mz_str key, csr; /* PEM, in the arena; wipe key when it is not used any more */
};
/* @rsa_bits 0: P-256. @identity: "spiffe://cluster.local/ns/demo/sa/web". */
bool mz_agent_key_create(struct mz_str identity, unsigned rsa_bits, struct mz_arena *a, struct mz_agent_key *out,
                         struct mz_err *err);
/* The time of a certificate (PEM, the first of a chain), UNIX seconds. False: it is none. */
bool mz_agent_cert_times(struct mz_str pem, int64_t *out_from, int64_t *out_until);
bool mz_agent_cert_fits(struct mz_str cert_pem, struct mz_str key_pem); /* the certificate is of this key */
#define MZ_AGENT_CHAIN_MAX 16 /* certificates in an answer; more are left out */
/* IstioCertificateResponse.cert_chain of an authority's answer (foreign bytes); borrows @bytes. 0: none, or it is no message. */
size_t mz_agent_chain_of(struct mz_str bytes, struct mz_str out[MZ_AGENT_CHAIN_MAX]);
#endif
