#ifndef MZ_FILTERS_GRPC_WEB_TEXT_H
#define MZ_FILTERS_GRPC_WEB_TEXT_H
/* The text form of gRPC-Web: base64, of a request as a whole, of an answer frame by frame, each padded. Bytes in pieces of any size. */
#include "base/buf.h"

struct grpc_web_decoder { /* zeroed to begin with */
    unsigned char held[4];
    uint8_t n;
};
/* Takes @data, which is text, and leaves what it means. False: it is not base64; *out_short: it ends within a group. */
bool grpc_web_decode(struct grpc_web_decoder *d, struct mz_buf *data, bool end, bool *out_short);

struct grpc_web_encoder { /* zeroed to begin with */
    uint64_t left;           /* bytes of the frame that are yet to come */
    unsigned char held[3];   /* not written yet */
    uint8_t n, head;         /* bytes of the frame's head that came */
    uint32_t size;
};
/* Takes @data, which is gRPC frames, and leaves their text. */
void grpc_web_encode(struct grpc_web_encoder *e, struct mz_buf *data);
void grpc_web_encode_all(struct mz_buf *data); /* one piece, padded */
#endif
