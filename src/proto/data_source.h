#ifndef MZ_PROTO_DATA_SOURCE_H
#define MZ_PROTO_DATA_SOURCE_H
/* envoy.config.core.v3.DataSource: bytes from a file, the configuration or the environment; read at configuration time. */
#include "base/arena.h"
#include "base/err.h"

struct Envoy__Config__Core__V3__DataSource;
/* The bytes are copied into @a. More than @max bytes of a file are an error; @err names the member. */
bool mz_data_source_read(const struct Envoy__Config__Core__V3__DataSource *m, size_t max, struct mz_arena *a,
                         struct mz_str *out_bytes, struct mz_err *err);
#endif
