#ifndef MZ_CONTROL_MODEL_SECRET_H
#define MZ_CONTROL_MODEL_SECRET_H
/* Certificates, keys and roots in Secrets and ConfigMaps, under Kubernetes' names and the older generic ones. */
#include "base/err.h"
#include "control/sources/doc.h"

struct mz_secret { /* PEM; "" absent */
    struct mz_str cert, key, staple /* DER */, root, crl;
    const char *found; /* names of its entries, for people */
    bool has_cert, has_key, has_root; /* the entry is there, perhaps empty */
    const char *cert_name, *root_name; /* of the entries that were looked at */
};
/* Of a Secret or ConfigMap. An entry that is not base64 is taken as it stands. Everything lives in @a, keys too. */
void mz_secret_open(const struct mz_doc *doc, struct mz_arena *a, struct mz_secret *out);
bool mz_secret_has_pair(const struct mz_secret *s, struct mz_err *err); /* both are there, and the certificate can be read */
bool mz_secret_pair_fits(const struct mz_secret *s, struct mz_err *err); /* after that: the key can be read and is its own */
bool mz_secret_has_root(const struct mz_secret *s, struct mz_err *err); /* at least one certificate */
bool mz_secret_has_crl(const struct mz_secret *s, struct mz_err *err); /* there is none, or it can be read */
bool mz_secret_in_time(struct mz_str pem, int64_t now_s); /* the first certificate of a text holds at that UNIX time */
#endif
