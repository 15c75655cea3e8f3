/* rbac with 1,000 policies: nanoseconds and the outcome per request (issue 4: under 2 us). usage: rbac_bench [policies] */
#include "filters/rbac/rbac.c"
#include "filters/rbac/rbac_fixture.h"

#include "base/clock.h"
#include <stdio.h>

static struct mz_str policies(unsigned n, const char *form, struct mz_arena *a)
{
    struct mz_buf b;
    mz_buf_init(&b);
    mz_buf_printf(&b, "action: ALLOW\npolicies:\n");
    for (unsigned i = 0; i < n; i++) {
        mz_buf_printf(&b, "  p%04u: {permissions: [{and_rules: {rules: [", i);
        mz_buf_printf(&b, "{header: {name: ':method', string_match: {exact: GET}}}, ");
        if (form[0] == 'r')
            mz_buf_printf(&b, "{url_path: {path: {safe_regex: {regex: '/svc/%u/[a-z]+'}}}}", i);
        else
            mz_buf_printf(&b, "{url_path: {path: {%s: /svc/%u/x}}}",
                          form[0] == 'e' ? "exact" : "prefix", i);
        mz_buf_printf(
            &b,
            "]}}], principals: [{and_ids: {ids: [{header: {name: x-user, string_match: "
            "{exact: user-%u}}}, {remote_ip: {address_prefix: 10.%u.%u.0, prefix_len: 24}}]}}]}\n",
            i, i / 256, i % 256);
    }
    struct mz_str s = mz_arena_dup(a, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_buf_fini(&b);
    return s;
}

static void run(unsigned n, const char *form, struct mz_arena *a)
{
    struct mz_err err;
    uint64_t t0 = mz_clock->mono_us();
    struct mz_rbac *r = rbac_of_text(policies(n, form, a), a, &err);
    if (!r) {
        printf("%s: %s\n", err.path, err.msg);
        return;
    }
    uint64_t built = mz_clock->mono_us() - t0;
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_METHOD, MZ_STR("GET"));
    mz_headers_add_id(h, MZ_H_PATH, mz_arena_printf(a, "/svc/%u/x", n - 1));
    mz_headers_add_id(h, MZ_H_AUTHORITY, MZ_STR("a.test"));
    mz_headers_add(h, MZ_STR("x-user"), mz_arena_printf(a, "user-%u", n - 1));
    struct mz_stream_info info;
    mz_info_init(&info);
    (void)mz_addr_parse_ip(MZ_STR("127.0.0.1"), 80, &info.local);
    struct mz_str ip = mz_arena_printf(a, "10.%u.%u.9", (n - 1) / 256, (n - 1) % 256);
    (void)mz_addr_parse_ip(ip, 1, &info.remote);
    struct mz_rbac_result res = { 0 };
    enum { TIMES = 200000 };
    t0 = mz_clock->mono_us();
    for (unsigned k = 0; k < TIMES; k++) {
        struct mz_arena *stream = mz_arena_create(MZ_MEM_STREAM);
        struct mz_rbac_input in = { .info = &info, .h = h, .arena = stream };
        mz_rbac_check(r, &in, &res);
        mz_arena_destroy(stream);
    }
    uint64_t us = mz_clock->mono_us() - t0;
    printf("%5u policies by %-6s built in %5.1f ms, %6.0f ns a request, %s (" MZ_STR_FMT ")\n", n,
           form, (double)built / 1000, (double)us * 1000 / TIMES,
           res.allowed ? "allowed" : "denied", MZ_STR_ARG(res.policy));
    mz_rbac_destroy(r);
}

int main(int argc, char **argv)
{
    uint64_t n = 1000;
    if (argc > 1 && !mz_str_u64(mz_str_c(argv[1]), &n))
        return 1;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    run((unsigned)n, "prefix", a);
    run((unsigned)n, "exact", a);
    run((unsigned)n, "regex", a);
    mz_arena_destroy(a);
    return 0;
}
