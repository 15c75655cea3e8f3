#ifndef MZ_HCM_SCOPE_KEY_H
#define MZ_HCM_SCOPE_KEY_H
/* The key that chooses a scope of routes (H8): fragments of request headers, all of which have to be there. */
#include "base/arena.h"
#include "base/err.h"

struct mz_headers;
struct scope_fragment { /* where one comes from */
    struct mz_str header, separator; /* separator "": the value is one element */
    struct mz_str key, key_separator; /* key "": the element at index; else what is behind key and its separator */
    uint32_t index;
};
struct scope_keys { /* immutable */
    struct scope_fragment *v;
    size_t n;
};
struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes__ScopeKeyBuilder;
bool scope_keys_build(const struct Envoy__Extensions__Filters__Network__HttpConnectionManager__V3__ScopedRoutes__ScopeKeyBuilder *m,
                      struct mz_arena *a, struct scope_keys *out, struct mz_err *err);
struct mz_str scope_key_join(const struct mz_str *fragments, size_t n, struct mz_arena *a); /* equal only where all are */
bool scope_key_of(const struct scope_keys *k, const struct mz_headers *h, struct mz_arena *a, struct mz_str *out_key);
#endif
