/* Any text as an expression; what compiles is evaluated over variables made of the same bytes. */
#include "cel/cel_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_err err;
    struct mz_str text = { (const char *)data, size };
    struct fuzz_vars v = { { fuzz_get }, text };
    fuzz_run(mz_cel_create(text, &fuzz_env, &err), &v);
    return 0;
}
