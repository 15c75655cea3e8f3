#include "agent/identity/key.h"
#include "proto/wire.h"

/* repeated string cert_chain = 1. Read by hand: the schemas of the control plane would cost the agent their tables. */
size_t mz_agent_chain_of(struct mz_str bytes, struct mz_str out[MZ_AGENT_CHAIN_MAX])
{
    size_t n = 0;
    while (bytes.n) {
        uint64_t tag, len;
        if (!mz_wire_take_varint(&bytes, &tag) || !mz_wire_take_varint(&bytes, &len))
            return 0;
        if ((tag & 7) == 0)
            continue; /* a number: that was it */
        if ((tag & 7) != 2 || len > bytes.n)
            return 0;
        if (tag >> 3 == 1 && n < MZ_AGENT_CHAIN_MAX)
            out[n++] = (struct mz_str){ bytes.p, (size_t)len };
        bytes = mz_str_skip(bytes, (size_t)len);
    }
    return n;
}
