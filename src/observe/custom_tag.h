#ifndef MZ_OBSERVE_CUSTOM_TAG_H
#define MZ_OBSERVE_CUSTOM_TAG_H
/* envoy.type.tracing.v3.CustomTag: tags of spans and log entries that the configuration asks for (O2, O3). Made on the main thread,
 * immutable, any thread. */
#include "base/arena.h"
#include "base/err.h"
#include "observe/format.h"

struct Envoy__Type__Tracing__V3__CustomTag;
struct mz_custom_tag;
struct mz_custom_tags { /* all zero: none */
    struct mz_custom_tag *v;
    size_t n;
};
/* Environment variables are read now. @a outlives the tags; on failure nothing is left to free, @err begins with the index. */
bool mz_custom_tags_build(struct Envoy__Type__Tracing__V3__CustomTag *const *m, size_t n, struct mz_arena *a,
                          struct mz_custom_tags *out, struct mz_err *err);
void mz_custom_tags_fini(struct mz_custom_tags *t);

struct mz_str mz_custom_tag_name(const struct mz_custom_tags *t, size_t i);
/* The tag's value for the stream of @c; false: it has none and no default, so the tag is left out. Borrowed of the
 * configuration, the stream or @a. */
bool mz_custom_tag_value(const struct mz_custom_tags *t, size_t i, const struct mz_format_ctx *c, struct mz_arena *a,
                         struct mz_str *out_value);
#endif
