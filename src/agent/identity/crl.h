#ifndef MZ_AGENT_CRL_H
#define MZ_AGENT_CRL_H
/* Lists of revoked certificates of the mesh's authorities, as the pod has them mounted: ./var/run/secrets/istio/crl/ca-crl.pem. */
#include "base/arena.h"

struct crl;
struct crl *crl_create(void);
void crl_destroy(struct crl *c); /* NULL is fine */
/* What is there now, in @a; "" where nothing is, and with PILOT_ENABLE_CA_CRL=false. One that cannot be read is told once, and the last
 * good one stays. */
struct mz_str crl_get(struct crl *c, struct mz_arena *a);
#endif
