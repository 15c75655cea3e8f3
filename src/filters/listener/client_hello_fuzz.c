/* Any bytes; the answer must not depend on what is not there yet: a longer prefix never turns NOT_TLS or DONE into another. */
#include "filters/listener/client_hello.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct client_hello h = { 0 };
    size_t used = 0, at = n ? data[0] * n / 256 : 0;
    enum client_hello_result all =
        client_hello_read((struct mz_str){ (const char *)data, n }, a, &h, &used);
    if (all == HELLO_DONE) {
        if (used > n)
            abort();
        (void)client_hello_ja3(&h, a);
        (void)client_hello_ja4(&h, a);
    }
    enum client_hello_result part =
        client_hello_read((struct mz_str){ (const char *)data, at }, a, &h, &used);
    if (part != HELLO_MORE && part != all)
        abort();
    mz_arena_destroy(a);
    return 0;
}
