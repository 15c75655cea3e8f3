#ifndef MZ_GRPC_FRAME_H
#define MZ_GRPC_FRAME_H
/* Length-prefixed messages (PROTOCOL-HTTP2.md): a flag byte, four bytes of length, the message. */
#include "base/buf.h"

#define MZ_GRPC_PREFIX 5
enum mz_grpc_frame {
    MZ_GRPC_FRAME_MORE,       /* all of the input was taken, the message is not whole */
    MZ_GRPC_FRAME_MESSAGE,    /* d->message is one; the input may hold more */
    MZ_GRPC_FRAME_TOO_LARGE,  /* its length exceeds max; nothing of it was kept */
    MZ_GRPC_FRAME_INVALID,    /* compressed, or a flag that is none */
};
struct mz_grpc_decoder { /* zeroed: at the begin */
    unsigned char prefix[MZ_GRPC_PREFIX];
    uint8_t have;  /* bytes of the prefix */
    uint32_t left; /* of the message */
    struct mz_buf message;
};
void mz_grpc_decoder_init(struct mz_grpc_decoder *d);
void mz_grpc_decoder_fini(struct mz_grpc_decoder *d);
/* Takes bytes off @in up to the end of one message. After MESSAGE the caller empties d->message before the next call; after
 * the last two the stream is of no further use. @max 0: no limit. */
enum mz_grpc_frame mz_grpc_decode(struct mz_grpc_decoder *d, struct mz_buf *in, uint32_t max);
bool mz_grpc_decoder_idle(const struct mz_grpc_decoder *d); /* between two messages */
void mz_grpc_prefix(unsigned char out[MZ_GRPC_PREFIX], uint32_t n); /* of an uncompressed message of @n bytes */
/* Appends prefix and message to @out. */
struct ProtobufCMessage;
void mz_grpc_frame_append(struct mz_buf *out, const struct ProtobufCMessage *msg);
#endif
