#ifndef MZ_HTTP_GRPC_H
#define MZ_HTTP_GRPC_H
/* What of gRPC an HTTP proxy knows (H8): which messages are gRPC, and its status beside HTTP's. */
#include "http/header_map.h"

bool mz_is_grpc(const struct mz_headers *h); /* content-type application/grpc or application/grpc+... */
/* grpc-status of an answer's headers or trailers: 0..16; a larger or malformed number is -1 (Envoy: InvalidCode); false: there
 * is none. */
bool mz_grpc_status(const struct mz_headers *h, int *out_status);
unsigned mz_grpc_status_of_http(unsigned http_status); /* of a local reply */
unsigned mz_http_status_of_grpc(int grpc_status);      /* by which a cluster tells success from error */
/* The value of grpc-timeout; false when absent or malformed. At most 8 digits and a unit H M S m u n; rounded up. */
bool mz_grpc_timeout_ms(const struct mz_headers *h, uint64_t *out_ms);
void mz_grpc_timeout_set(struct mz_headers *h, uint64_t ms);
#endif
