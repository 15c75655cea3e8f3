/* Requests: first two bytes choose options and the split; the events must not depend on the split. */
#include "http/h1/split_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *p, size_t n)
{
    return split_fuzz(p, n, false);
}
