/* Queries and forms of admin requests, and what HTML makes of them. */
#include "admin/admin.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_arena *arena = mz_arena_create(MZ_MEM_MISC);
    struct mz_headers *h = mz_headers_create(arena);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/x-www-form-urlencoded"));
    struct mz_str text = { (const char *)data, size };
    struct mz_admin_request rq = {
        .method = MZ_STR("POST"), .query = text, .body = text, .headers = h, .arena = arena
    };
    struct mz_str value;
    if (mz_admin_param(&rq, "a", &value)) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_admin_html_escape(&b, value);
        if (mz_buf_find(&b, '<', 0) >= 0 || value.n > size)
            __builtin_trap();
        mz_buf_fini(&b);
    }
    mz_arena_destroy(arena);
    return 0;
}
