#include "http/h2/stats.h"

static const struct mz_stat_def defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    MZ_HTTP2_CODEC_STATS(X)
#undef X
};
const struct mz_stat_kind mz_http2_codec_stats = { "http2_codec", defs, MZ_H2S__COUNT };
