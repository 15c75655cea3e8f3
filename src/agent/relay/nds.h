#ifndef MZ_AGENT_NDS_H
#define MZ_AGENT_NDS_H
/* Name tables on a stream of xDS, without schemas: the messages are looked at as bytes. */
#include "base/buf.h"

/* The first question has neither version nor nonce, an answer to a response both. */
void nds_request(struct mz_buf *b, bool delta, struct mz_str version, struct mz_str nonce);
struct nds_response {
    bool has_table;
    struct mz_str table, version, nonce; /* borrowed */
};
bool nds_response(struct mz_str response, bool delta, struct nds_response *out); /* false: of something else */
#endif
