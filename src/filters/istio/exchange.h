#ifndef MZ_FILTERS_ISTIO_EXCHANGE_H
#define MZ_FILTERS_ISTIO_EXCHANGE_H
/*
 * The exchange of metadata at the begin of a TCP connection (S2): each side writes, before its own bytes, a magic number, a length
 * (both 4 bytes, the most significant first) and a packed Any of a Struct: its node's metadata and id. Without connections.
 */
#include "filters/istio/peer.h"

enum exchange_result {
    EXCHANGE_MORE,      /* keep what has come */
    EXCHANGE_MORE_HEAD, /* ... not even the head is there */
    EXCHANGE_NO_HEAD,   /* the peer does not take part; its bytes are the application's */
    EXCHANGE_NO_PEER,   /* it sent something that cannot be read */
    EXCHANGE_SILENT,    /* it took part and says nothing of itself */
    EXCHANGE_FOUND,
};
struct exchange { /* zeroed to begin with */
    bool has_head;
    uint32_t size;
};
/* Takes the peer's part off the front of @in, where all that came so far is. @end: no more will. Not after a result but MORE. */
enum exchange_result exchange_read(struct exchange *x, struct mz_buf *in, bool end, const struct peer_labels *more,
                                   struct mz_arena *a, struct peer *out);
struct mz_str exchange_write(const struct peer *self, struct mz_str id, struct mz_arena *a); /* our part */
#endif
