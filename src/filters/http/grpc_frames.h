#ifndef MZ_FILTERS_HTTP_GRPC_FRAMES_H
#define MZ_FILTERS_HTTP_GRPC_FRAMES_H
/* Counts the messages of a gRPC body as it passes, in whatever pieces: a flag byte, four bytes of length, the message. */
#include "base/buf.h"

struct grpc_frames { /* zeroed: at the begin of a body */
    uint64_t count;  /* messages that have begun, as Envoy counts */
    uint32_t left;   /* bytes of the message that are to come */
    uint32_t length; /* of the head, as far as it came */
    uint8_t head;    /* bytes of the head that came: 0..4 */
};
uint64_t grpc_frames_pass(struct grpc_frames *f, const struct mz_buf *data); /* how many began in @data */
uint64_t grpc_frames_pass_bytes(struct grpc_frames *f, const void *p, size_t n);
#endif
