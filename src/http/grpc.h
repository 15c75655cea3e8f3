#ifndef MZ_HTTP_GRPC_H
#define MZ_HTTP_GRPC_H
/* gRPC statuses and HTTP statuses (gRPC "HTTP to gRPC status code mapping"). */
unsigned mz_grpc_status_of_http(unsigned http_status); /* as for local replies: 404 -> 12, 503 -> 14, ... else 2 */
#endif
