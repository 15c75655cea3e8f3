#ifndef MZ_CONTROL_CA_AUTHORITY_H
#define MZ_CONTROL_CA_AUTHORITY_H
/*
 * The certificate authority of the mesh (C8): a root of its own, or one that is plugged in. Main thread.
 *
 * A directory with ca-cert.pem, ca-key.pem, root-cert.pem and, where there are certificates between the two, cert-chain.pem is
 * plugged in; it is looked at again now and then. A ca-crl.pem beside them is for those who verify: with a list of each authority of
 * cert-chain.pem, else the files are refused as a whole. PILOT_ENABLE_CA_CRL=false: nobody looks at it. One without them gets a root of its own, which is renewed, same key, when a fifth
 * of its time is left: certificates of before and after are good for whoever has either root, and root-cert.pem holds both.
 * Without a directory the root lasts as long as the process.
 */
#include "base/arena.h"
#include "base/err.h"

struct mz_authority;
struct mz_authority_opts {
    const char *dir;          /* NULL: none */
    const char *trust_domain; /* "cluster.local" */
    uint64_t root_ttl_s, default_ttl_s, max_ttl_s; /* 0: 10 years, a day, 90 days */
};
struct mz_authority *mz_authority_create(const struct mz_authority_opts *o, struct mz_err *err); /* copies; NULL and @err */
void mz_authority_destroy(struct mz_authority *a); /* NULL is fine */
/* Looks at files and dates. True: roots or signer are others than before. What is broken is logged, the last good ones stay. */
bool mz_authority_refresh(struct mz_authority *a);
struct mz_str mz_authority_trust_domain(const struct mz_authority *a);
struct mz_str mz_authority_roots(const struct mz_authority *a); /* PEM, at least one; until the next refresh */
struct mz_str mz_authority_crl(const struct mz_authority *a);   /* PEM; "" none; until the next refresh */
int64_t mz_authority_root_until(const struct mz_authority *a);  /* UNIX time; of the first root */

enum mz_sign { MZ_SIGN_OK, MZ_SIGN_REQUEST /* the client's fault */, MZ_SIGN_FAULT /* ours */ };
struct mz_signed { /* PEM, one certificate each but for the last */
    struct mz_str *v; /* the certificate, those between, all roots */
    size_t n;
    int64_t until_s;
};
/**
 * Signs the key of @csr for @identity ("spiffe://..."): nothing but the key is taken from it.
 * @ttl_s  0: the default. Above the maximum or negative: refused; where the authority itself ends earlier, until then.
 */
enum mz_sign mz_authority_sign(struct mz_authority *a, struct mz_str csr, struct mz_str identity, int64_t ttl_s,
                               struct mz_arena *arena, struct mz_signed *out, struct mz_err *err);
/* A certificate for the control plane's own servers, with its key. @dns: NULL-terminated. */
bool mz_authority_serving(struct mz_authority *a, const char *const *dns, struct mz_arena *arena, struct mz_str *out_chain_pem,
                          struct mz_str *out_key_pem, int64_t *out_until_s, struct mz_err *err);
#endif
