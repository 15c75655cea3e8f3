#ifndef MZ_FILTERS_HTTP_CODING_H
#define MZ_FILTERS_HTTP_CODING_H
/* What compressor and decompressor (H9) share. */
#include "filters/runtime_flag.h"
#include "http/header_map.h"

/* Is @token among the members of a list that commas part? Without regard to case. */
bool coding_has_token(struct mz_str list, struct mz_str token);
bool coding_no_transform(const struct mz_headers *h); /* cache-control: no-transform */
#endif
