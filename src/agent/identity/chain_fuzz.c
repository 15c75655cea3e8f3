/* An authority's answer, and what it calls certificates. */
#include <stdlib.h>

#include "agent/identity/key.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_str v[MZ_AGENT_CHAIN_MAX];
    const struct mz_str all = { (const char *)data, n };
    const size_t k = mz_agent_chain_of(all, v);
    int64_t from, until;
    if (k > MZ_AGENT_CHAIN_MAX)
        abort();
    for (size_t i = 0; i < k; i++) {
        if (v[i].n && (v[i].p < all.p || v[i].p + v[i].n > all.p + all.n))
            abort();
        if (mz_agent_cert_times(v[i], &from, &until) && from == until + 1)
            abort();
    }
    return 0;
}
