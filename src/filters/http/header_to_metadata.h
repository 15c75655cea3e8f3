#ifndef MZ_FILTERS_HTTP_HEADER_TO_METADATA_H
#define MZ_FILTERS_HTTP_HEADER_TO_METADATA_H
/* header_to_metadata (H9): the rules and what one makes of a message's headers. For header_to_metadata*.c only. */
#include "base/regex.h"
#include "http/header_map.h"
#include "listener/factory.h"
#include "observe/metadata.h"
#include "proto/mapper.h"
#include "stats/stats.h"

#define H2M_VALUE_MAX 8192u /* longer values are not taken, as in Envoy */

enum h2m_stat {
    H2M_REQUEST_RULES_PROCESSED,
    H2M_RESPONSE_RULES_PROCESSED,
    H2M_REQUEST_METADATA_ADDED,
    H2M_RESPONSE_METADATA_ADDED,
    H2M_REQUEST_HEADER_NOT_FOUND,
    H2M_RESPONSE_HEADER_NOT_FOUND,
    H2M_BASE64_DECODE_FAILED,
    H2M_HEADER_VALUE_TOO_LONG,
    H2M_REGEX_SUBSTITUTION_FAILED,
};
struct h2m_entry { /* a KeyValuePair */
    struct mz_str ns, key, value;
    struct mz_regex *rewrite; /* NULL: none */
    struct mz_str rewrite_with;
    uint8_t type, encode;
};
struct h2m_rule {
    struct mz_str header, cookie; /* one of them */
    bool remove, has_present, has_missing;
    struct h2m_entry present, missing;
};
struct h2m_rules {
    struct h2m_rule *v;
    size_t n;
};
struct h2m_cfg { /* immutable */
    struct mz_arena *arena;
    struct mz_scope *scope; /* NULL: no stat_prefix */
    struct h2m_rules request, response;
};
/* Main thread; NULL and err. The path of an error begins at the message's own field. */
struct h2m_cfg *h2m_build(const pb_header_to_metadata_Config *m, struct mz_stats *stats, struct mz_err *err);
void h2m_destroy(struct h2m_cfg *c);
/* Applies the rules to @h, which may lose headers; what they give goes to *meta, made at the first entry. @a is the stream's. */
void h2m_apply(const struct h2m_cfg *c, bool response, struct mz_headers *h, struct mz_meta **meta, struct mz_arena *a);
#endif
