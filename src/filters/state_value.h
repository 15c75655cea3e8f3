#ifndef MZ_FILTERS_STATE_VALUE_H
#define MZ_FILTERS_STATE_VALUE_H
/*
 * Texts made of a request or connection become objects of its filter state (set_filter_state of both kinds). Configuration is
 * immutable; objects live in the arena of whose state they are.
 */
#include "observe/format.h"
#include "observe/stream_info.h"

struct mz_err;
struct Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue;
struct state_values;

/* Main thread. NULL and err with "@field[i]." in front. */
struct state_values *
state_values_build(struct Envoy__Extensions__Filters__Common__SetFilterState__V3__FilterStateValue *const *v, size_t n,
                   const char *field, struct mz_err *err);
void state_values_destroy(struct state_values *c); /* NULL is fine */
/* Formats each by @ctx and puts it into @into's state. A text that its factory cannot read is left out (Envoy). */
void state_values_set(const struct state_values *c, struct mz_stream_info *into, const struct mz_format_ctx *ctx);
/* One object without configuration; @key lives as long as @into. */
void state_text_set(struct mz_stream_info *into, struct mz_str key, struct mz_str text);
#endif
