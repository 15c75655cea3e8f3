/* An rbac configuration (policies or matcher) as YAML, an empty line, and a request of "name: value" lines: the index never changes the outcome. */
#include "filters/rbac/rbac.c"
#include "filters/rbac/rbac_fixture.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void request(struct mz_str text, struct mz_headers *h, struct mz_stream_info *info)
{
    for (struct mz_str line; h->n < 50 && mz_str_split(&text, '\n', &line);) {
        ptrdiff_t at = line.n > 1 ? mz_str_chr(mz_str_skip(line, 1), ':') : -1;
        struct mz_str name = { line.p, at < 0 ? line.n : (size_t)at + 1 };
        struct mz_str value = at < 0 ? MZ_STR("") : mz_str_trim(mz_str_skip(line, (size_t)at + 2));
        if (mz_str_eq(name, MZ_STR("remote")))
            (void)mz_addr_parse_ip(value, 7, &info->remote);
        else if (mz_str_eq(name, MZ_STR("local")))
            (void)mz_addr_parse_ip(value, 80, &info->local);
        else if (mz_str_eq(name, MZ_STR("sni")))
            info->sni = value;
        else
            mz_headers_add(h, name, value);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct mz_str text = { (const char *)data, size };
    ptrdiff_t cut = mz_str_find(text, MZ_STR("\n\n"));
    if (cut < 0)
        return 0;
    struct mz_arena *a = mz_arena_create(MZ_MEM_MISC);
    struct mz_err err;
    struct mz_rbac *r = rbac_of_text((struct mz_str){ text.p, (size_t)cut }, a, &err);
    if (r && (r->n || r->tree)) {
        struct mz_headers *h = mz_headers_create(a);
        struct mz_stream_info info;
        mz_info_init(&info);
        info.arena = a;
        request(mz_str_skip(text, (size_t)cut + 2), h, &info);
        struct mz_rbac_input in = { .info = &info, .h = h, .arena = a };
        struct mz_rbac_result res;
        if (!r->index && !r->tree)
            r->index = index_create(r->policies, r->n);
        mz_rbac_check(r, &in, &res);
        if (!r->tree && !mz_str_eq(res.policy, rbac_slow(r, &in)))
            abort();
        (void)mz_rbac_why(r, &in, &res);
        (void)mz_rbac_why_not(r, &in, 0);
    }
    mz_rbac_destroy(r);
    mz_arena_destroy(a);
    return 0;
}
