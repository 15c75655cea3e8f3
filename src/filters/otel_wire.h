#ifndef MZ_FILTERS_OTEL_WIRE_H
#define MZ_FILTERS_OTEL_WIRE_H
/* Pieces of OpenTelemetry's messages that logs and spans have in common, written as bytes. */
#include "base/buf.h"
void otel_put_message(struct mz_buf *out, unsigned field, struct mz_buf *take); /* what @take holds, as a message */
/* AnyValue.string_value. Bytes that are no UTF-8 make a collector refuse the whole: they become '!'. */
void otel_put_string(struct mz_buf *out, struct mz_str text);
void otel_put_pair(struct mz_buf *out, unsigned field, struct mz_str key, struct mz_str text); /* KeyValue with a text */
void otel_put_time(struct mz_buf *out, unsigned field, uint64_t wall_us); /* fixed64, in ns */
#endif
