#ifndef MZ_FILTERS_HTTP_DECOMPRESSOR_H
#define MZ_FILTERS_HTTP_DECOMPRESSOR_H
/* decompressor (H9): its configuration (decompressor_config.c), for the filter (decompressor.c). */
#include "filters/compression/compression.h"
#include "filters/http/coding.h"

enum decompressor_stat {
    DECOMPRESSOR_DECOMPRESSED,
    DECOMPRESSOR_NOT_DECOMPRESSED,
    DECOMPRESSOR_UNCOMPRESSED_BYTES,
    DECOMPRESSOR_COMPRESSED_BYTES,
};
struct decompressor_direction {
    struct runtime_flag enabled;
    bool ignore_no_transform;
    struct mz_scope *scope; /* enum decompressor_stat */
};
struct decompressor_cfg { /* immutable */
    struct mz_arena *arena;
    struct mz_decompressor_lib *lib;
    struct mz_scope *errors; /* of the library's kind */
    struct decompressor_direction request, response;
    bool advertise;
    struct mz_str in_trailer, out_trailer; /* x-envoy-decompressor-<name>-compressed-bytes, -uncompressed-bytes */
};
/* Main thread. The path of an error begins at the message's own field. */
void *decompressor_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err);
void decompressor_config_destroy(void *cfg); /* NULL is fine */
#endif
