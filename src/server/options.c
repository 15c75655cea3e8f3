#include "server/options.h"

#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/flags.h"
#include "base/log.h"
#include "base/str.h"

#include "revision.h" /* generated: the commit that was built */

static const struct mz_flag flags[] = {
#define AT(member) offsetof(struct mz_options, member)
    { "config-path", 'c', MZ_FLAG_TEXT, AT(config_path), "Path to configuration file" },
    { "config-yaml", 0, MZ_FLAG_TEXT, AT(config_yaml),
      "Inline YAML configuration, merges with the contents of --config-path" },
    { "mode", 0, MZ_FLAG_TEXT, AT(mode),
      "One of 'serve' (default; validate configs and then serve traffic normally) or 'validate' "
      "(validate configs and exit)." },
    { "log-level", 'l', MZ_FLAG_TEXT, AT(log_level),
      "Log levels: [trace][debug][info][warning|warn][error][critical][off]. Default is [info]" },
    { "component-log-level", 0, MZ_FLAG_TEXT, AT(component_log_level),
      "Comma-separated list of component log levels. For example upstream:debug,config:trace" },
    { "log-format", 0, MZ_FLAG_TEXT, AT(log_format),
      "Log message format in spdlog syntax. Default is \"[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] "
      "%v\"" },
    { "log-path", 0, MZ_FLAG_TEXT, AT(log_path), "Path to logfile" },
    { "concurrency", 0, MZ_FLAG_NUMBER, AT(concurrency), "# of worker threads to run" },
    { "service-cluster", 0, MZ_FLAG_TEXT, AT(service_cluster), "Cluster name" },
    { "service-node", 0, MZ_FLAG_TEXT, AT(service_node), "Node name" },
    { "service-zone", 0, MZ_FLAG_TEXT, AT(service_zone), "Zone name" },
    { "drain-time-s", 0, MZ_FLAG_NUMBER, AT(drain_time_s),
      "Drain time in seconds of /drain_listeners?graceful. Default is 600" },
    { "drain-strategy", 0, MZ_FLAG_TEXT, AT(drain_strategy),
      "Drain sequence behaviour, one of 'gradual' (default) or 'immediate'." },
    { "parent-shutdown-time-s", 0, MZ_FLAG_NUMBER, AT(parent_shutdown_time_s),
      "Accepted for hot restart, which this version does not do" },
    { "base-id", 0, MZ_FLAG_NUMBER, AT(base_id),
      "Accepted for hot restart, which this version does not do" },
    { "restart-epoch", 0, MZ_FLAG_NUMBER, AT(restart_epoch),
      "hot restart epoch #; only 0 is possible in this version" },
    { "disable-hot-restart", 0, MZ_FLAG_SWITCH, AT(disable_hot_restart),
      "Disable hot restart functionality" },
    { "file-flush-interval-msec", 0, MZ_FLAG_NUMBER, AT(file_flush_interval_msec),
      "Interval for log flushing in msec" },
    { "local-address-ip-version", 0, MZ_FLAG_TEXT, AT(local_address_ip_version),
      "The local IP address version (v4 or v6)." },
    { "allow-unknown-static-fields", 0, MZ_FLAG_SWITCH, AT(allow_unknown_static_fields),
      "Allow unknown fields in static configuration" },
    { "reject-unknown-dynamic-fields", 0, MZ_FLAG_SWITCH, AT(reject_unknown_dynamic_fields),
      "Reject unknown fields in dynamic configuration" },
    { "skip-deprecated-logs", 0, MZ_FLAG_SWITCH, AT(skip_deprecated_logs),
      "Do not log the use of deprecated fields; none is logged in any case" },
#undef AT
};

const char *mz_server_version(void)
{
    return MZ_REVISION "/" MZ_SERVER_VERSION "/Clean/RELEASE/mizzen";
}

static bool one_of(const char *value, const char *a, const char *b)
{
    return strcmp(value, a) == 0 || strcmp(value, b) == 0;
}

static int check(const char *program, struct mz_options *o)
{
    enum mz_log_level level;
    if (!one_of(o->mode, "serve", "validate"))
        return mz_flags_refuse(program, "(--mode)",
                               "error: unknown mode, it is 'serve' or 'validate'");
    if (!one_of(o->drain_strategy, "gradual", "immediate"))
        return mz_flags_refuse(program, "(--drain-strategy)",
                               "error: unknown drain strategy, it is 'gradual' or 'immediate'");
    if (!one_of(o->local_address_ip_version, "v4", "v6"))
        return mz_flags_refuse(program, "(--local-address-ip-version)",
                               "error: unknown IP address version");
    if (!mz_log_level_parse(mz_str_c(o->log_level), &level))
        return mz_flags_refuse(program, "(--log-level)", "error: invalid log level specified");
    if (o->restart_epoch)
        return mz_flags_refuse(program, "(--restart-epoch)",
                               "error: this version does not do hot restart");
    o->validate = strcmp(o->mode, "validate") == 0;
    return -1;
}

int mz_options_parse(int argc, char **argv, struct mz_options *out_options)
{
    struct mz_options o = { .log_level = "info",
                            .mode = "serve",
                            .drain_strategy = "gradual",
                            .local_address_ip_version = "v4",
                            .drain_time_s = 600,
                            .parent_shutdown_time_s = 900,
                            .file_flush_interval_msec = 10000 };
    const struct mz_program program = { "mizzen-proxy", "-c <string> [flags]", flags,
                                        MZ_COUNT(flags), mz_server_version() };
    int rc = mz_flags_parse(&program, argc, argv, &o);
    if (rc >= 0)
        return rc;
    rc = check(argv[0], &o);
    if (rc < 0)
        *out_options = o;
    return rc;
}
