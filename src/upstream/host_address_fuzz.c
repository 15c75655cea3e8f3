/* The address that a request names (x-envoy-original-dst-host and such): what is accepted is what is written back. */
#include "base/log.h"
#include "upstream/upstream_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_addr a, again;
    char text[MZ_ADDR_TEXT];
    if (!host_address_parse((struct mz_str){ (const char *)data, size }, &a))
        return 0;
    struct mz_str back = { text, mz_addr_text(&a, text) };
    MZ_ASSERT(mz_addr_is_ip(&a) && mz_addr_port(&a));
    MZ_ASSERT(host_address_parse(back, &again) && mz_addr_eq(&a, &again));
    return 0;
}
