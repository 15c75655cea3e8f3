/*
 * First byte: which hash policies a route has; then lines: path, two cookie headers, the header that is hashed. The hash of a
 * request depends on nothing else, and a cookie is made only where there is none.
 */
#include "base/log.h"
#include "route/route.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct mz_str line(struct mz_str *rest)
{
    struct mz_str out = { 0 };
    (void)mz_str_split(rest, '\n', &out); /* an empty rest gives empty lines */
    return out;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (!size)
        return 0;
    struct mz_hash_policy all[] = {
        { .kind = MZ_HASH_HEADER, .name = MZ_STR("x-key") },
        { .kind = MZ_HASH_COOKIE, .name = MZ_STR("id") },
        { .kind = MZ_HASH_COOKIE,
          .name = MZ_STR("made"),
          .cookie_ttl_set = true,
          .cookie_ttl_s = 60,
          .cookie_path = MZ_STR("/") },
        { .kind = MZ_HASH_QUERY, .name = MZ_STR("q") },
        { .kind = MZ_HASH_SOURCE_IP },
        { .kind = MZ_HASH_NONE },
    };
    struct mz_hash_policy used[MZ_COUNT(all)];
    struct mz_route r = { .hash = used };
    for (unsigned i = 0; i < MZ_COUNT(all); i++)
        if (data[0] >> i & 1) {
            all[i].terminal = data[0] >> 7;
            used[r.n_hash++] = all[i];
        }
    struct mz_arena *a = mz_arena_create(MZ_MEM_STREAM);
    struct mz_str rest = { (const char *)data + 1, size - 1 };
    struct mz_headers *h = mz_headers_create(a);
    mz_headers_add_id(h, MZ_H_PATH, line(&rest));
    for (unsigned i = 0; i < 2; i++)
        mz_headers_add(h, MZ_STR("cookie"), line(&rest));
    mz_headers_add(h, MZ_STR("x-key"), line(&rest));
    struct mz_addr addr;
    MZ_ASSERT(mz_addr_parse_ip(MZ_STR("10.0.0.1"), 80, &addr));
    const struct mz_hash_from from = { .client = &addr, .remote = &addr, .local = &addr };
    uint64_t hash[2] = { 0 };
    struct mz_str cookie[2] = { 0 };
    bool have[2];
    for (unsigned i = 0; i < 2; i++)
        have[i] = mz_route_hash(&r, h, &from, a, &hash[i], &cookie[i]);
    MZ_ASSERT(have[0] == have[1] && hash[0] == hash[1] && mz_str_eq(cookie[0], cookie[1]));
    MZ_ASSERT(have[0] || !cookie[0].n);
    MZ_ASSERT(!cookie[0].n || data[0] >> 2 & 1);
    mz_arena_destroy(a);
    return 0;
}
