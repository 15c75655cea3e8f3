/* The format compiler on any text, and the line that it then writes for a request of which little is known. */
#include "base/arena.h"
#include "observe/format_priv.h"
#include "observe/stream_info.h"
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_err err;
    struct mz_str text = { (const char *)data, size };
    struct mz_format *f = mz_format_create(text, size % 2 != 0, &err);
    if (!f)
        return 0;
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_PATH, text);
    mz_headers_add_id(h, MZ_H_CONTENT_TYPE, MZ_STR("application/grpc"));
    struct mz_stream_info info = { .arena = a,
                                   .req = h,
                                   .flags = size % 3 ? 0 : (1ull << MZ_FLAG__COUNT) - 1,
                                   .start_us = 1,
                                   .sni = text };
    (void)mz_addr_parse_ip(MZ_STR("2001:db8::1"), 443, &info.remote);
    info.up.host = info.remote;
    info.up.host_name = text;
    struct mz_format_ctx c = { .info = &info, .now_us = 5, .escape = true };
    struct mz_buf b;
    mz_buf_init(&b);
    mz_format_append(f, &c, &b);
    for (unsigned rule = TEXT_RAW; rule <= TEXT_JSON; rule++) { /* where room ends anywhere */
        size_t room = size * 7 % 400;
        char *mem = mz_alloc(MZ_MEM_LOG, room + 1);
        (void)format_write(f, &c, (enum text_rule)rule, mem, room, &b);
        mz_free(MZ_MEM_LOG, mem);
    }
    mz_buf_fini(&b);
    mz_arena_destroy(a);
    mz_format_destroy(f);
    return 0;
}
