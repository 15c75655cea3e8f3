#ifndef MZ_CONTROL_MODEL_SERVICE_IPS_H
#define MZ_CONTROL_MODEL_SERVICE_IPS_H
/*
 * Addresses of Services that name none, as an API server would give them: out of a range per family. One object serves model after
 * model, so that a service keeps its address while the process and its document live. Which it is follows from namespace and name;
 * where two meet, the later one by name (or that came later) takes the next. An address that a document claims (of a Service,
 * ServiceEntry, pod or machine) is never given, and taken back when that document comes later. Main thread.
 */
#include "base/err.h"

struct mz_service_ips;
/*
 * @ranges: "10.96.0.0/16,fd00:10:96::/112": one of IPv4 (of 8 to 30 bits), one of IPv6 (64 to 126), or only one of them; services that
 * do not say their ipFamilies get one of the first. The lower part of a range (16 to 256 addresses) stays for documents that choose,
 * while there is room above. NULL: err says what is wrong.
 */
struct mz_service_ips *mz_service_ips_create(const char *ranges, struct mz_err *err);
void mz_service_ips_destroy(struct mz_service_ips *s); /* NULL is fine */
#endif
