/* Any bytes; a prefix never gets another final answer than the whole, and a header never reaches past the bytes. */
#include "filters/listener/proxy_header.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct proxy_header h;
    size_t at = n ? data[n - 1] * n / 256 : 0;
    enum proxy_header_result all = proxy_header_read((struct mz_str){ (const char *)data, n }, &h);
    if (all == PROXY_DONE && h.length > n)
        abort();
    enum proxy_header_result part =
        proxy_header_read((struct mz_str){ (const char *)data, at }, &h);
    if (part != PROXY_MORE && part != all)
        abort();
    return 0;
}
