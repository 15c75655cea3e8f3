#include "http/h2/h2_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    return fuzz_both(p, n, false);
}
