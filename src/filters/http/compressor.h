#ifndef MZ_FILTERS_HTTP_COMPRESSOR_H
#define MZ_FILTERS_HTTP_COMPRESSOR_H
/*
 * compressor (H9): configuration (compressor_config.c), which of the chain's encodings a client is given (compressor_choice.c) and
 * the filter (compressor.c). For src/filters/http/compressor*.c only.
 */
#include "filters/compression/compression.h"
#include "filters/http/coding.h"

enum compressor_stat {
    COMPRESSOR_COMPRESSED,
    COMPRESSOR_NOT_COMPRESSED,
    COMPRESSOR_UNCOMPRESSED_BYTES,
    COMPRESSOR_COMPRESSED_BYTES,
    COMPRESSOR_TOO_SMALL,
};
enum compressor_header_stat {
    COMPRESSOR_NO_ACCEPT,
    COMPRESSOR_IDENTITY,
    COMPRESSOR_USED,
    COMPRESSOR_OVERSHADOWED,
    COMPRESSOR_WILDCARD,
    COMPRESSOR_NOT_VALID,
    COMPRESSOR_ETAG,
};

struct compressor_direction {
    struct runtime_flag enabled;
    uint64_t min_length;
    const struct mz_str *types;
    size_t n_types;
    struct mz_scope *scope; /* enum compressor_stat */
};
struct compressor_cfg { /* immutable */
    struct mz_arena *arena;
    struct mz_compressor_lib *lib;
    struct compressor_direction request, response;
    bool requests; /* request_direction_config is there */
    struct mz_scope *headers; /* enum compressor_header_stat */
    struct mz_str status_name; /* x-envoy-compression-status; "": not added */
    const uint32_t *no_codes;
    size_t n_no_codes;
    bool not_with_etag, remove_accept, choose_first;
};
struct compressor_route_cfg {
    struct mz_compressor_lib *lib; /* NULL: the filter's */
    bool disabled, response, has_remove, remove_accept; /* response: answers are compressed whatever the filter says */
};
/* Main thread. The path of an error begins at the message's own field. */
void *compressor_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void compressor_config_destroy(void *cfg); /* NULL is fine */
void *compressor_route_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void compressor_route_config_destroy(void *cfg);

struct compressor_offer { /* of one compressor of the chain, in the order of the chain */
    struct mz_str encoding;
    bool choose_first, refused; /* refused: by the client, with q=0 */
};
struct compressor_decision {
    struct mz_str encoding; /* of one of the offers; "": none */
    enum compressor_header_stat why; /* USED, IDENTITY, WILDCARD, NOT_VALID */
};
/* What an accept-encoding header asks of the offers (an encoding once): the highest q wins, among equals the one that the
 * header names first, or a later one that is to be chosen first; "*" is the first offer that is not refused. */
struct compressor_decision compressor_choose(struct mz_str accept_encoding, struct compressor_offer *offers, size_t n);
#endif
