#include "listener/stats.h"

static const struct mz_stat_def listener_defs[] = {
#define X(id, name, type, unit, flags) { name, MZ_##type, MZ_UNIT_##unit, flags },
    MZ_LISTENER_STATS(X)
#undef X
};
const struct mz_stat_kind mz_listener_stats = { "listener", listener_defs,
                                                MZ_LISTENER_STAT__COUNT };
const struct mz_stat_kind mz_listener_admin_stats = { "listener_admin", listener_defs,
                                                      MZ_LISTENER_STAT_EXTENSION_MISSING };

static const struct mz_stat_def worker_defs[] = {
    [MZ_LISTENER_WORKER_CX_ACTIVE] = { "downstream_cx_active", MZ_GAUGE, MZ_UNIT_NONE, 0 },
    [MZ_LISTENER_WORKER_CX_TOTAL] = { "downstream_cx_total", MZ_COUNTER, MZ_UNIT_NONE, 0 },
};
const struct mz_stat_kind mz_listener_worker_stats = { "listener_worker", worker_defs,
                                                       MZ_LISTENER_WORKER_STAT__COUNT };

static const struct mz_stat_def manager_defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_NONE, 0 },
    MZ_LISTENER_MANAGER_STATS(X)
#undef X
};
const struct mz_stat_kind mz_listener_manager_stats = { "listener_manager", manager_defs,
                                                        MZ_LM_STAT__COUNT };
