#ifndef MZ_TLS_INVENTORY_H
#define MZ_TLS_INVENTORY_H
/* The certificates that are loaded now (T3), those of contexts in use: what /certs and two gauges of the server show. Main thread. */
#include "base/arena.h"

struct Envoy__Admin__V3__Certificates;
const struct Envoy__Admin__V3__Certificates *mz_tls_certificates(struct mz_arena *a); /* in the order in which they were loaded */
/* Until the first certificate expires (0: one has; UINT32_MAX: there is none), until the first OCSP response does (0: none). */
uint32_t mz_tls_days_until_expiry(void);
uint64_t mz_tls_seconds_until_ocsp_expiry(void);
#endif
