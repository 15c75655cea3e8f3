/* OutlierDetection becomes a struct outlier (U5). */
#include "upstream/health/health.h"

#define DEFAULT_INTERVAL_MS     10000
#define DEFAULT_BASE_MS         30000
#define DEFAULT_MAX_MS          300000
#define DEFAULT_IN_A_ROW        5
#define DEFAULT_MAX_PERCENT     10
#define DEFAULT_MINIMUM_HOSTS   5
#define DEFAULT_RATE_VOLUME     100
#define DEFAULT_RATE_STDEV      1900
#define DEFAULT_FAILURE_PERCENT 85
#define DEFAULT_FAILURE_VOLUME  50

static bool times_build(const pb_OutlierDetection *m, struct outlier_config *c, struct mz_err *err)
{
    if (!mz_duration_ms(m->interval, DEFAULT_INTERVAL_MS, &c->interval_ms, err))
        return mz_err_at(err, "interval");
    if (!mz_duration_ms(m->base_ejection_time, DEFAULT_BASE_MS, &c->base_ms, err))
        return mz_err_at(err, "base_ejection_time");
    uint64_t longest = c->base_ms > DEFAULT_MAX_MS ? c->base_ms : DEFAULT_MAX_MS;
    if (!mz_duration_ms(m->max_ejection_time, longest, &c->max_ms, err))
        return mz_err_at(err, "max_ejection_time");
    if (!mz_duration_ms(m->max_ejection_time_jitter, 0, &c->jitter_ms, err))
        return mz_err_at(err, "max_ejection_time_jitter");
    return c->max_ms >= c->base_ms ||
           mz_err_set(err, "outlier detector's max_ejection_time cannot be smaller than "
                           "base_ejection_time") ||
           mz_err_at(err, "max_ejection_time");
}

bool outlier_build(const pb_OutlierDetection *m, struct mz_cluster *c, struct mz_err *err)
{
    if (!m)
        return true;
    struct outlier_config cfg = {
        .consecutive = { [RULE_5XX] = mz_u32_or(m->consecutive_5xx, DEFAULT_IN_A_ROW),
                         [RULE_GATEWAY] =
                             mz_u32_or(m->consecutive_gateway_failure, DEFAULT_IN_A_ROW),
                         [RULE_LOCAL] =
                             mz_u32_or(m->consecutive_local_origin_failure, DEFAULT_IN_A_ROW) },
        .enforcing = { [RULE_5XX] = mz_u32_or(m->enforcing_consecutive_5xx, 100),
                       [RULE_GATEWAY] = mz_u32_or(m->enforcing_consecutive_gateway_failure, 0),
                       [RULE_SUCCESS_RATE] = mz_u32_or(m->enforcing_success_rate, 100),
                       [RULE_LOCAL] = mz_u32_or(m->enforcing_consecutive_local_origin_failure, 100),
                       [RULE_LOCAL_SUCCESS_RATE] =
                           mz_u32_or(m->enforcing_local_origin_success_rate, 100),
                       [RULE_FAILURE_PERCENTAGE] = mz_u32_or(m->enforcing_failure_percentage, 0),
                       [RULE_LOCAL_FAILURE_PERCENTAGE] =
                           mz_u32_or(m->enforcing_failure_percentage_local_origin, 0) },
        .max_percent = mz_u32_or(m->max_ejection_percent, DEFAULT_MAX_PERCENT),
        .rate_hosts = mz_u32_or(m->success_rate_minimum_hosts, DEFAULT_MINIMUM_HOSTS),
        .rate_volume = mz_u32_or(m->success_rate_request_volume, DEFAULT_RATE_VOLUME),
        .rate_stdev = mz_u32_or(m->success_rate_stdev_factor, DEFAULT_RATE_STDEV),
        .failure_threshold = mz_u32_or(m->failure_percentage_threshold, DEFAULT_FAILURE_PERCENT),
        .failure_hosts = mz_u32_or(m->failure_percentage_minimum_hosts, DEFAULT_MINIMUM_HOSTS),
        .failure_volume = mz_u32_or(m->failure_percentage_request_volume, DEFAULT_FAILURE_VOLUME),
        .split_local = m->split_external_local_origin_errors,
        .always_one = mz_bool_or(m->always_eject_one_host, false),
        .uneject_by_check = mz_bool_or(m->successful_active_health_check_uneject_host, true),
    };
    if (!times_build(m, &cfg, err))
        return mz_err_at(err, "outlier_detection");
    cluster_priv(c)->outlier = outlier_create(c, &cfg);
    return true;
}
