#include "server/options.h"

#include <sched.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/log.h"
#include "base/str.h"

#include "revision.h" /* generated: the commit that was built */

enum kind { TEXT, NUMBER, FLAG };
static const struct flag {
    const char *name;
    char letter;
    enum kind kind;
    size_t at; /* offset in struct mz_options */
    const char *help;
} flags[] = {
#define AT(member) offsetof(struct mz_options, member)
    { "config-path", 'c', TEXT, AT(config_path), "Path to configuration file" },
    { "config-yaml", 0, TEXT, AT(config_yaml),
      "Inline YAML configuration, merges with the contents of --config-path" },
    { "mode", 0, TEXT, AT(mode),
      "One of 'serve' (default; validate configs and then serve traffic normally) or 'validate' "
      "(validate configs and exit)." },
    { "log-level", 'l', TEXT, AT(log_level),
      "Log levels: [trace][debug][info][warning|warn][error][critical][off]. Default is [info]" },
    { "component-log-level", 0, TEXT, AT(component_log_level),
      "Comma-separated list of component log levels. For example upstream:debug,config:trace" },
    { "log-format", 0, TEXT, AT(log_format),
      "Log message format in spdlog syntax. Default is \"[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] "
      "%v\"" },
    { "log-path", 0, TEXT, AT(log_path), "Path to logfile" },
    { "concurrency", 0, NUMBER, AT(concurrency), "# of worker threads to run" },
    { "service-cluster", 0, TEXT, AT(service_cluster), "Cluster name" },
    { "service-node", 0, TEXT, AT(service_node), "Node name" },
    { "service-zone", 0, TEXT, AT(service_zone), "Zone name" },
    { "drain-time-s", 0, NUMBER, AT(drain_time_s),
      "Drain time in seconds of /drain_listeners?graceful. Default is 600" },
    { "drain-strategy", 0, TEXT, AT(drain_strategy),
      "Drain sequence behaviour, one of 'gradual' (default) or 'immediate'." },
    { "parent-shutdown-time-s", 0, NUMBER, AT(parent_shutdown_time_s),
      "Accepted for hot restart, which this version does not do" },
    { "base-id", 0, NUMBER, AT(base_id),
      "Accepted for hot restart, which this version does not do" },
    { "restart-epoch", 0, NUMBER, AT(restart_epoch),
      "hot restart epoch #; only 0 is possible in this version" },
    { "disable-hot-restart", 0, FLAG, AT(disable_hot_restart),
      "Disable hot restart functionality" },
    { "file-flush-interval-msec", 0, NUMBER, AT(file_flush_interval_msec),
      "Interval for log flushing in msec" },
    { "local-address-ip-version", 0, TEXT, AT(local_address_ip_version),
      "The local IP address version (v4 or v6)." },
    { "allow-unknown-static-fields", 0, FLAG, AT(allow_unknown_static_fields),
      "Allow unknown fields in static configuration" },
    { "reject-unknown-dynamic-fields", 0, FLAG, AT(reject_unknown_dynamic_fields),
      "Reject unknown fields in dynamic configuration" },
#undef AT
};

const char *mz_server_version(void)
{
    return MZ_REVISION "/" MZ_SERVER_VERSION "/Clean/RELEASE/mizzen";
}

static void print_help(const char *program)
{
    printf("\nUSAGE: \n\n   %s -c <string> [flags]\n\n\nWhere: \n\n", program);
    for (size_t i = 0; i < MZ_COUNT(flags); i++) {
        const struct flag *f = &flags[i];
        const char *value = f->kind == TEXT ? " <string>" : f->kind == NUMBER ? " <uint32_t>" : "";
        if (f->letter)
            printf("   -%c%s,  --%s%s\n     %s\n\n", f->letter, value, f->name, value, f->help);
        else
            printf("   --%s%s\n     %s\n\n", f->name, value, f->help);
    }
    printf("   --version\n     Displays version information and exits.\n\n   -h,  --help\n"
           "     Displays usage information and exits.\n\n\n   mizzen-proxy\n\n");
}

static const struct flag *find(struct mz_str arg)
{
    for (size_t i = 0; i < MZ_COUNT(flags); i++) {
        const struct flag *f = &flags[i];
        if (arg.n == 2 && arg.p[0] == '-' && f->letter && arg.p[1] == f->letter)
            return f;
        if (arg.n > 2 && mz_str_starts(arg, MZ_STR("--")) &&
            mz_str_eq(mz_str_skip(arg, 2), mz_str_c(f->name)))
            return f;
    }
    return NULL;
}

static int refuse(const char *program, const char *arg, const char *why)
{
    fprintf(stderr,
            "PARSE ERROR: Argument: %s\n             %s\n\nFor complete USAGE and HELP type: \n   "
            "%s --help\n\n",
            arg, why, program);
    return 1;
}

static bool store(const struct flag *f, const char *value, struct mz_options *o)
{
    void *at = (char *)o + f->at;
    uint64_t n;
    switch (f->kind) {
    case TEXT:
        *(const char **)at = value;
        return true;
    case NUMBER:
        if (!mz_str_u64(mz_str_c(value), &n) || n > UINT32_MAX)
            return false;
        *(uint32_t *)at = (uint32_t)n;
        return true;
    default:
        *(bool *)at = true;
        return true;
    }
}

static bool one_of(const char *value, const char *a, const char *b)
{
    return strcmp(value, a) == 0 || strcmp(value, b) == 0;
}

static int check(const char *program, struct mz_options *o)
{
    enum mz_log_level level;
    if (!one_of(o->mode, "serve", "validate"))
        return refuse(program, "(--mode)", "error: unknown mode, it is 'serve' or 'validate'");
    if (!one_of(o->drain_strategy, "gradual", "immediate"))
        return refuse(program, "(--drain-strategy)",
                      "error: unknown drain strategy, it is 'gradual' or 'immediate'");
    if (!one_of(o->local_address_ip_version, "v4", "v6"))
        return refuse(program, "(--local-address-ip-version)", "error: unknown IP address version");
    if (!mz_log_level_parse(mz_str_c(o->log_level), &level))
        return refuse(program, "(--log-level)", "error: invalid log level specified");
    if (o->restart_epoch)
        return refuse(program, "(--restart-epoch)", "error: this version does not do hot restart");
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
    for (int i = 1; i < argc; i++) {
        struct mz_str arg = mz_str_c(argv[i]);
        const char *value = NULL;
        if (mz_str_eq(arg, MZ_STR("--version"))) {
            printf("\n%s  version: %s\n\n", argv[0], mz_server_version());
            return 0;
        }
        if (mz_str_eq(arg, MZ_STR("--help")) || mz_str_eq(arg, MZ_STR("-h"))) {
            print_help(argv[0]);
            return 0;
        }
        ptrdiff_t eq = mz_str_starts(arg, MZ_STR("--")) ? mz_str_chr(arg, '=') : -1;
        if (eq > 0) {
            value = argv[i] + eq + 1;
            arg.n = (size_t)eq;
        }
        const struct flag *f = find(arg);
        if (!f)
            return refuse(argv[0], argv[i], "Couldn't find match for argument");
        if (f->kind != FLAG && !value)
            value = i + 1 < argc ? argv[++i] : NULL;
        if (f->kind != FLAG && !value)
            return refuse(argv[0], argv[i], "Missing a value for this argument!");
        if (!store(f, value, &o))
            return refuse(argv[0], argv[i], "Couldn't read argument value");
    }
    int rc = check(argv[0], &o);
    if (rc < 0)
        *out_options = o;
    return rc;
}

/* cgroup v2: "max 100000" or "150000 100000". */
static uint32_t cgroup_cpus(void)
{
    char text[64], *rest;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    bool ok = f && fgets(text, sizeof(text), f);
    if (f)
        (void)fclose(f); /* only read */
    if (!ok)
        return 0;
    uint64_t quota = strtoull(text, &rest, 10); /* "max" is no number: no quota */
    uint64_t period = rest == text ? 0 : strtoull(rest, NULL, 10);
    return period ? (uint32_t)((quota + period - 1) / period) : 0;
}

uint32_t mz_options_cpus(void)
{
    cpu_set_t set;
    uint32_t n = sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
    uint32_t quota = cgroup_cpus();
    if (quota && quota < n)
        n = quota;
    return n ? n : 1;
}
