#ifndef MZ_SERVER_OPTIONS_H
#define MZ_SERVER_OPTIONS_H
/* The command line of mizzen-proxy: Envoy's common flags (spec of flags: options.c, one table). */
#include <stdbool.h>
#include <stdint.h>

struct mz_options {
    const char *config_path, *config_yaml;
    const char *log_level, *component_log_level, *log_format, *log_path;
    const char *mode, *service_cluster, *service_node, *service_zone, *drain_strategy, *local_address_ip_version;
    uint32_t concurrency; /* 0: what the cgroup and the affinity allow */
    uint32_t base_id, restart_epoch, drain_time_s, parent_shutdown_time_s, file_flush_interval_msec;
    bool disable_hot_restart, allow_unknown_static_fields, reject_unknown_dynamic_fields, skip_deprecated_logs;
    bool validate; /* --mode validate */
};
/* -1: go on; otherwise the process shall end with this exit code (what there was to say is printed). Borrows argv. */
int mz_options_parse(int argc, char **argv, struct mz_options *out_options);
#define MZ_SERVER_VERSION "1.40.0"
const char *mz_server_version(void); /* <revision>/<version>/<state>/<build>/<tls>, the form tools read */
#endif
