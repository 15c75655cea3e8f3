/* An answer of grpc.health.v1 is judged without reading past it; only one frame with SERVING passes. */
#include <stdlib.h>
#include <string.h>

#include "upstream/health/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a), *t = mz_headers_create(a);
    uint32_t value;
    char *copy = malloc(size ? size : 1); /* of its exact size */
    if (size)
        memcpy(copy, data, size);
    mz_headers_set_status(h, 200);
    mz_headers_add_id(t, MZ_H_GRPC_STATUS, MZ_STR("0"));
    enum check_result r = check_grpc_judge(h, t, (struct mz_str){ copy, size }, &value);
    if (r == CHECK_PASSED && (size < 7 || value != 1 || data[0]))
        abort();
    free(copy);
    mz_arena_destroy(a);
    return 0;
}
