#ifndef MZ_CONTROL_CA_CSR_H
#define MZ_CONTROL_CA_CSR_H
/*
 * Certificate signing requests (H05): foreign bytes. A request proves that its sender has the key, and may name the sender and
 * nobody else. What else it wishes (subject, usages) is not looked at: the authority decides.
 */
#include <openssl/evp.h>

#include "base/err.h"
#include "base/str.h"

#define CSR_MAX_BYTES 16384 /* of PEM; a request with an RSA key of 4096 bits has 1,700 */
/**
 * The key of a request in PEM form that @identity ("spiffe://...") may make; owned by the caller. NULL: @err says why not:
 * too large, not a request, signature, RSA below 2048 or above 4096 bits, another curve than P-256 and P-384, another kind of
 * key, a name that is not @identity, the wish to be an authority, more than 16 extensions.
 */
EVP_PKEY *csr_key(struct mz_str pem, struct mz_str identity, struct mz_err *err);
#endif
