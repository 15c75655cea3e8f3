#ifndef MZ_JWT_JWT_PRIV_H
#define MZ_JWT_JWT_PRIV_H
#include "jwt/jwt.h"

#include <openssl/evp.h>

enum key_type { KEY_RSA, KEY_EC, KEY_OCT, KEY_OKP };
struct jwt_alg { /* RFC 7518, 3.1; RFC 8037, 3.1 */
    struct mz_str name;
    uint8_t type;
    bool pss;
    uint16_t half; /* of ECDSA: bytes of each of its two numbers, which tells the curve */
    const EVP_MD *(*md)(void);
};
extern const struct jwt_alg jwt_algs[];
extern const size_t jwt_algs_n;

struct jwk {
    struct mz_str kid, alg; /* "" none */
    uint8_t type;
    uint16_t half;        /* KEY_EC, as above */
    EVP_PKEY *pkey;       /* NULL: KEY_OCT */
    struct mz_str secret; /* KEY_OCT */
};
struct mz_jwks {
    unsigned refs; /* atomic */
    struct mz_arena *arena;
    struct jwk *v;
    size_t n;
};

/* A member of an object that is to be a string. */
enum member { MEMBER_OK, MEMBER_MISSING, MEMBER_WRONG_TYPE };
const struct mz_node *node_member(const struct mz_node *object, struct mz_str name);
enum member node_text(const struct mz_node *object, const char *name, struct mz_str *out);
#endif
