#ifndef MZ_FILTERS_HTTP_CODING_H
#define MZ_FILTERS_HTTP_CODING_H
/* What compressor and decompressor (H9) share. */
#include "base/arena.h"
#include "http/header_map.h"

struct Envoy__Config__Core__V3__RuntimeFeatureFlag;
struct coding_flag { /* a switch that the runtime may turn */
    bool value;
    struct mz_str key; /* "": the runtime has no say */
};
/* @m NULL: on. The key lives in @a. */
struct coding_flag coding_flag_build(const struct Envoy__Config__Core__V3__RuntimeFeatureFlag *m, struct mz_arena *a);
bool coding_flag_on(const struct coding_flag *f);
/* Is @token among the members of a list that commas part? Without regard to case. */
bool coding_has_token(struct mz_str list, struct mz_str token);
bool coding_no_transform(const struct mz_headers *h); /* cache-control: no-transform */
#endif
