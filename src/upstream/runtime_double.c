/* Stands for runtime in tests of this folder: nothing is set. */
#include "runtime/runtime.h"

const struct mz_runtime *mz_runtime_here(void)
{
    return NULL;
}

double mz_runtime_double(const struct mz_runtime *r, struct mz_str key, double def)
{
    (void)r;
    (void)key;
    return def;
}
