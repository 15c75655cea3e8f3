#ifndef MZ_ROUTE_RATE_LIMIT_PRIV_H
#define MZ_ROUTE_RATE_LIMIT_PRIV_H
/* For rate_limit.c and rate_limit_build.c. */
#include "route/route_priv.h"

#define HITS_MAX 1000000000u

enum action_kind {
    ACTION_SOURCE_CLUSTER,
    ACTION_DESTINATION_CLUSTER,
    ACTION_HEADER,
    ACTION_QUERY,
    ACTION_REMOTE_ADDRESS,
    ACTION_MASKED_ADDRESS,
    ACTION_GENERIC_KEY,
    ACTION_HEADERS_MATCH,
    ACTION_QUERY_MATCH,
    ACTION_METADATA,
};
struct rate_action {
    uint8_t kind; /* enum action_kind */
    bool skip_if_absent, expect_match, of_route;
    uint8_t mask_v4, mask_v6;
    struct mz_str key;   /* of the entry */
    struct mz_str value; /* of the entry, or the default one */
    struct mz_str name;  /* of header, parameter, metadata namespace */
    struct mz_str *path; /* of metadata */
    struct mz_header_match **headers;
    struct query_match *queries;
    uint32_t n_path, n_headers, n_queries;
};
struct rate_limit {
    struct rate_action *v;
    size_t n;
    unsigned stage;
    uint64_t hits;
    struct mz_format *hits_format; /* NULL: hits */
    struct mz_fraction enabled;    /* by disable_key; without a key: always */
};
struct mz_rate_limits {
    struct rate_limit *v;
    size_t n;
    bool of_filter;
};
#endif
