/* What the default line and an Istio-like line of 18 operators cost:   perf stat -e instructions:u format_bench N */
#include "base/arena.h"
#include "observe/format.h"
#include "observe/stream_info.h"
#include <stdio.h>
#include <stdlib.h>

static const char line_format[] =
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" "
    "%RESPONSE_CODE% %RESPONSE_FLAGS% "
    "%RESPONSE_CODE_DETAILS% %BYTES_RECEIVED% %BYTES_SENT% %DURATION% "
    "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" "
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" "
    "%UPSTREAM_CLUSTER% %DOWNSTREAM_LOCAL_ADDRESS%\n";

int main(int argc, char **argv)
{
    unsigned long n = argc > 1 ? strtoul(argv[1], NULL, 10) : 1;
    struct mz_err err;
    struct mz_format *f = mz_format_create(mz_str_c(line_format), false, &err);
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_headers *h = mz_headers_create(a), *r = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, MZ_STR("/productpage?u=normal"));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("productpage.default.svc:9080"));
    mz_headers_add_id(h, MZ_H_USER_AGENT, MZ_STR("curl/7.88.1"));
    mz_headers_add_id(h, MZ_H_X_REQUEST_ID, MZ_STR("b2edbc2c-b607-48f0-9e2a-9b45003e4722"));
    mz_headers_add_id(h, MZ_H_X_FORWARDED_FOR, MZ_STR("10.1.2.3"));
    mz_headers_add_id(r, MZ_H_X_ENVOY_UPSTREAM_SERVICE_TIME, MZ_STR("3"));
    struct mz_stream_info info = { .arena = a,
                                   .has_protocol = true,
                                   .protocol = MZ_HTTP11,
                                   .status = 200,
                                   .details = "via_upstream",
                                   .start_us = 1000,
                                   .end_us = 4000,
                                   .start_wall_us = 1795394991998043,
                                   .tx_body = 1024,
                                   .req = h,
                                   .resp = r };
    info.route.cluster_name = MZ_STR("outbound|9080||productpage.default.svc");
    bool ok = mz_addr_parse_ip(MZ_STR("10.0.0.9"), 8080, &info.up.host) &&
              mz_addr_parse_ip(MZ_STR("10.0.0.1"), 15001, &info.local);
    struct mz_format_ctx c = { .info = &info, .escape = true };
    size_t bytes = 0;
    for (unsigned long i = 0; ok && i < n; i++) {
        struct mz_buf b;
        mz_buf_init(&b);
        mz_format_append(f, &c, &b);
        bytes += mz_buf_len(&b);
        mz_buf_fini(&b);
    }
    printf("%lu lines of %zu bytes\n", n, n ? bytes / n : 0);
    mz_arena_destroy(a);
    mz_format_destroy(f);
    return ok ? 0 : 1;
}
