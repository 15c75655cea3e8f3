/* Which cluster has a key: the longest prefix (L5). */
#include "filters/redis/redis.h"

#include <string.h>

static bool begins(struct mz_str key, struct mz_str prefix, bool any_case)
{
    if (key.n < prefix.n)
        return false;
    struct mz_str head = { key.p, prefix.n };
    return any_case ? mz_str_ieq(head, prefix) : mz_str_eq(head, prefix);
}

const struct redis_route *redis_route_find(const struct redis_cfg *c, struct mz_str *io_key)
{
    const struct redis_route *r = c->otherwise;
    for (size_t i = 0; i < c->n_routes; i++)
        if (begins(*io_key, c->routes[i].prefix, c->any_case)) {
            r = &c->routes[i];
            break;
        }
    if (r && r->remove_prefix)
        *io_key = mz_str_skip(*io_key, r->prefix.n < io_key->n ? r->prefix.n : io_key->n);
    return r;
}

struct mz_str redis_hash_tag(struct mz_str key)
{
    const char *open = memchr(key.p, '{', key.n);
    if (!open)
        return key;
    const char *from = open + 1;
    const char *close = memchr(from, '}', (size_t)(key.p + key.n - from));
    return close && close > from ? (struct mz_str){ from, (size_t)(close - from) } : key;
}
