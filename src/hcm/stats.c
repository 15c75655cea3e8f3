#include "hcm/stats.h"

static const struct mz_stat_def hcm_defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    MZ_HCM_STATS(X)
#undef X
};
const struct mz_stat_kind mz_hcm_stats = { "http", hcm_defs, MZ_HS__COUNT };

static const struct mz_stat_def listener_defs[] = {
    { "downstream_rq_1xx", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "downstream_rq_2xx", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "downstream_rq_3xx", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "downstream_rq_4xx", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "downstream_rq_5xx", MZ_COUNTER, MZ_UNIT_NONE, 0 },
    { "downstream_rq_completed", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
const struct mz_stat_kind mz_hcm_listener_stats = { "listener_http", listener_defs, MZ_HL__COUNT };
