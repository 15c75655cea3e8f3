#ifndef MZ_ROUTE_RETRY_ON_H
#define MZ_ROUTE_RETRY_ON_H
/* The words of retry_on, x-envoy-retry-on and x-envoy-retry-grpc-on (H8). */
#include "base/str.h"

/* X(identifier, "word", family) */
#define MZ_RETRY_WORDS(X)                                                                          \
    X(5XX, "5xx", HTTP)                                                                            \
    X(GATEWAY_ERROR, "gateway-error", HTTP)                                                        \
    X(CONNECT_FAILURE, "connect-failure", HTTP)                                                    \
    X(REFUSED_STREAM, "refused-stream", HTTP)                                                      \
    X(RETRIABLE_4XX, "retriable-4xx", HTTP)                                                        \
    X(RETRIABLE_STATUS_CODES, "retriable-status-codes", HTTP)                                      \
    X(RETRIABLE_HEADERS, "retriable-headers", HTTP)                                                \
    X(ENVOY_RATELIMITED, "envoy-ratelimited", HTTP)                                                \
    X(RESET, "reset", HTTP)                                                                        \
    X(RESET_BEFORE_REQUEST, "reset-before-request", HTTP)                                          \
    X(HTTP3_POST_CONNECT_FAILURE, "http3-post-connect-failure", HTTP)                              \
    X(GRPC_CANCELLED, "cancelled", GRPC)                                                           \
    X(GRPC_DEADLINE_EXCEEDED, "deadline-exceeded", GRPC)                                           \
    X(GRPC_INTERNAL, "internal", GRPC)                                                             \
    X(GRPC_RESOURCE_EXHAUSTED, "resource-exhausted", GRPC)                                         \
    X(GRPC_UNAVAILABLE, "unavailable", GRPC)
enum mz_retry_bit {
#define X(id, word, family) MZ_RETRY_BIT_##id,
    MZ_RETRY_WORDS(X)
#undef X
        MZ_RETRY__COUNT
};
enum mz_retry_on {
#define X(id, word, family) MZ_RETRY_##id = 1 << MZ_RETRY_BIT_##id,
    MZ_RETRY_WORDS(X)
#undef X
};
enum mz_retry_family { MZ_RETRY_FAMILY_HTTP = 1, MZ_RETRY_FAMILY_GRPC = 2 };

/* Words are separated by commas, blanks around them ignored. @families: bits of enum mz_retry_family; words of others are
 * unknown. Unknown words are counted, not refused, as Envoy does. */
uint32_t mz_retry_on_parse(struct mz_str text, unsigned families, unsigned *out_unknown);
#endif
