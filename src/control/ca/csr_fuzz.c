/* Any text as a request: it is refused with a reason, or its key is one that is signed. */
#include "control/ca/csr.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
    struct mz_err err = { .path = "", .msg = "" };
    EVP_PKEY *k = csr_key((struct mz_str){ (const char *)data, n },
                          MZ_STR("spiffe://cluster.local/ns/demo/sa/web"), &err);
    if (!k && !err.msg[0])
        __builtin_trap();
    if (k && EVP_PKEY_get_bits(k) < 256)
        __builtin_trap();
    EVP_PKEY_free(k);
    return 0;
}
