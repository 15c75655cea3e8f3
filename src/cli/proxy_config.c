#include "cli/proxy_config.h"

#include "cli/command.h"
#include "cli/pods.h"

#define AT(member) offsetof(struct pc_options, member)
#define OUTPUT                                                                                     \
    { "output", 'o', ARG_TEXT, AT(output), "Output format: one of json|yaml|short" },              \
        { "file", 'f', ARG_TEXT, AT(file),                                                         \
          "Proxy's config dump as a JSON file; '-' is standard input" },                           \
        { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the mesh that runs the pod" },         \
    {                                                                                              \
        "proxy-admin-port", 0, ARG_NUMBER, AT(admin_port),                                         \
            "Port of an address that has none (15000)"                                             \
    }
/* clang-format off */
#define CLUSTER_FLAGS                                                                              \
    { "fqdn", 0, ARG_TEXT, AT(fqdn), "Filter clusters by substring of Service FQDN field" },       \
    { "direction", 0, ARG_TEXT, AT(direction), "Filter clusters by Direction field" },             \
    { "subset", 0, ARG_TEXT, AT(subset), "Filter clusters by substring of Subset field" }
#define VERBOSE { "verbose", 0, ARG_SWITCH, AT(verbose), "Output more information (true)" }
static const struct arg_flag bootstrap_flags[] = { OUTPUT };
static const struct arg_flag cluster_flags[] = { OUTPUT, CLUSTER_FLAGS,
    { "port", 0, ARG_NUMBER, AT(port), "Filter clusters by Port field" } };
static const struct arg_flag listener_flags[] = { OUTPUT, VERBOSE,
    { "address", 0, ARG_TEXT, AT(address), "Filter listeners by address field" },
    { "type", 0, ARG_TEXT, AT(type), "Filter listeners by type field" },
    { "port", 0, ARG_NUMBER, AT(port), "Filter listeners by Port field" } };
static const struct arg_flag route_flags[] = { OUTPUT, VERBOSE,
    { "name", 0, ARG_TEXT, AT(name), "Filter routes by route name field" } };
static const struct arg_flag endpoint_flags[] = { OUTPUT,
    { "address", 0, ARG_TEXT, AT(address), "Filter endpoints by address field" },
    { "port", 0, ARG_NUMBER, AT(port), "Filter endpoints by Port field" },
    { "cluster", 0, ARG_TEXT, AT(cluster), "Filter endpoints by cluster name field" },
    { "status", 0, ARG_TEXT, AT(status), "Filter endpoints by status field" } };
static const struct arg_flag all_flags[] = { OUTPUT, VERBOSE, CLUSTER_FLAGS,
    { "port", 0, ARG_NUMBER, AT(port), "Filter clusters and listeners by Port field" },
    { "address", 0, ARG_TEXT, AT(address), "Filter listeners by address field" },
    { "type", 0, ARG_TEXT, AT(type), "Filter listeners by type field" },
    { "name", 0, ARG_TEXT, AT(name), "Filter routes by route name field" },
    { "with-headers", 0, ARG_SWITCH, AT(with_headers), "Print summary with headers" } };
static const struct arg_flag log_flags[] = {
    { "level", 0, ARG_TEXT, AT(level), "Levels to set: <level>, or [<logger>:]<level>,...; one of trace, debug, info, warning, error, critical, off" },
    { "reset", 'r', ARG_SWITCH, AT(reset), "Reset levels to default value (warning)" },
    { "output", 'o', ARG_TEXT, AT(output), "Not applicable" },
    { "mesh", 0, ARG_TEXT, AT(mesh), "Name or folder of the mesh that runs the pod" },
    { "proxy-admin-port", 0, ARG_NUMBER, AT(admin_port), "Port of an address that has none (15000)" } };
#undef AT

static int run_proxy_config(const struct command *c, int argc, char **argv);
#define COMMAND(word, also, text, table) static const struct command pc_command_##word = { .name = #word, .aliases = also, \
        .arguments = "[POD[.NAMESPACE] | ADDRESS of the proxy's admin]", .help = text, .flags = table, .flags_n = MZ_COUNT(table), .run = run_proxy_config }
COMMAND(all, "a", "Retrieves all configuration for the specified proxy", all_flags);
COMMAND(bootstrap, "b", "Retrieves bootstrap configuration for the specified proxy", bootstrap_flags);
COMMAND(cluster, "clusters c", "Retrieves cluster configuration for the specified proxy", cluster_flags);
COMMAND(ecds, "ec", "Retrieves typed extension configuration for the specified proxy", bootstrap_flags);
COMMAND(eds, "", "Retrieves endpoints as configured for the specified proxy", endpoint_flags);
COMMAND(endpoint, "endpoints ep", "Retrieves endpoint configuration for the specified proxy", endpoint_flags);
COMMAND(listener, "listeners l", "Retrieves listener configuration for the specified proxy", listener_flags);
COMMAND(log, "o", "Retrieves and sets logging levels of the specified proxy", log_flags);
COMMAND(route, "routes r", "Retrieves route configuration for the specified proxy", route_flags);
COMMAND(secret, "secrets s", "Retrieves secret configuration for the specified proxy", bootstrap_flags);
static const struct command *const pc_commands[] = {
    &pc_command_all,
    &pc_command_bootstrap,
    &pc_command_cluster,
    &pc_command_ecds,
    &pc_command_eds,
    &pc_command_endpoint,
    &pc_command_listener,
    &pc_command_log,
    &pc_command_route,
    &pc_command_secret,
};
const struct command command_proxy_config = {
    .name = "proxy-config", .aliases = "pc", .arguments = "[POD | ADDRESS]", .sub = pc_commands, .sub_n = MZ_COUNT(pc_commands),
    .help = "Retrieve information about proxy configuration from a proxy",
};

#define EDS_PATH "/config_dump?include_eds=true"
static const struct {
    const char *name, *path;
    bool (*print)(const struct pc *p, struct mz_err *err);
} kinds[] = {
    { "bootstrap", "/config_dump?mask=bootstrap", pc_bootstrap },
    { "cluster", "/config_dump?mask=dynamic_active_clusters,dynamic_warming_clusters,static_clusters", pc_clusters },
    { "ecds", "/config_dump", pc_extensions },
    { "eds", EDS_PATH, pc_endpoints },
    { "endpoint", "/clusters?format=json", pc_hosts },
    { "listener", "/config_dump?mask=dynamic_listeners,static_listeners", pc_listeners },
    { "route", "/config_dump?mask=dynamic_route_configs,static_route_configs", pc_routes },
    { "secret", "/config_dump?mask=dynamic_active_secrets,dynamic_warming_secrets", pc_secrets },
};
/* clang-format on */

/* ---- all ---- */

static bool print_all(struct pc *p, struct mz_err *err)
{
    static const struct {
        const char *title;
        bool (*print)(const struct pc *p, struct mz_err *err);
    } parts[] = {
        { "BOOTSTRAP", pc_bootstrap_summary },
        { "CLUSTER", pc_clusters },
        { "LISTENER", pc_listeners },
        { "ROUTE", pc_routes },
        { "SECRET", pc_secrets },
        { "ENDPOINTS", pc_endpoints },
    };
    p->kinds = true;
    if (p->form == SHOW_JSON) {
        show_write(&p->dump->text, p->out);
        fputc('\n', p->out);
        return true;
    }
    if (p->form == SHOW_YAML) {
        show_print(p->dump->root, SHOW_YAML, false, p->out);
        return true;
    }
    for (size_t i = 0; i < MZ_COUNT(parts); i++) {
        if (i)
            fputc('\n', p->out);
        if (p->o->with_headers)
            fprintf(p->out, "------ %s INFO ------\n\n", parts[i].title);
        if (!parts[i].print(p, err))
            return false;
    }
    return true;
}

/* ---- log ---- */

static bool is_level(struct mz_str s)
{
    static const char *const words[] = { "trace", "debug", "info",     "warning",
                                         "warn",  "error", "critical", "off" };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (mz_str_eq(s, mz_str_c(words[i])))
            return true;
    return false;
}

struct logs {
    const struct proxy_at *proxy;
    struct mz_arena *arena;
    struct mz_buf *answer;
};

/* One logger, or all of them. */
static bool log_set(const struct logs *l, struct mz_str word, struct mz_err *err)
{
    ptrdiff_t at = mz_str_rchr(word, ':');
    if (at < 0)
        at = mz_str_rchr(word, '=');
    const struct mz_str logger = { word.p, at < 0 ? 0 : (size_t)at },
                        level = mz_str_skip(word, (size_t)(at + 1));
    if (!is_level(level))
        return mz_err_set(err, "unrecognized logging level: %.*s", MZ_STR_ARG(level));
    for (size_t i = 0; i < logger.n; i++) /* it becomes a part of an address */
        if (strchr("?&#% /\r\n", logger.p[i]))
            return mz_err_set(err, "unrecognized logger name: %.*s", MZ_STR_ARG(logger));
    const struct mz_str path =
        mz_arena_printf(l->arena, "/logging?%.*s=%.*s",
                        MZ_STR_ARG(logger.n ? logger : MZ_STR("level")), MZ_STR_ARG(level));
    mz_buf_drain(l->answer, mz_buf_len(l->answer));
    return proxy_fetch(l->proxy, "POST", path.p, l->answer, err);
}

static int run_log(const struct command *c, const struct pc_options *o, const char *where)
{
    struct mz_err err = { .path = "", .msg = "" };
    struct mz_buf answer;
    bool ok = true;
    if (!where)
        return command_usage_error(c, "log requires a pod, or the address of a proxy");
    if (o->reset && o->level[0])
        return command_usage_error(c, "--level cannot be combined with --reset");
    if (strcmp(o->output, "short") != 0)
        return command_usage_error(c, "--output is not applicable for this command");
    mz_buf_init(&answer);
    struct proxy_at at;
    const struct logs l = { &at, mz_arena_create(MZ_MEM_MISC), &answer };
    struct mz_str rest = mz_str_c(o->reset ? "warning" : o->level);
    ok = proxy_find(&at, where, o->mesh, (uint16_t)o->admin_port, &err);
    if (ok && !rest.n)
        ok = proxy_fetch(&at, "POST", "/logging", &answer, &err);
    for (struct mz_str word; ok && mz_str_split(&rest, ',', &word);)
        ok = log_set(&l, word, &err);
    if (ok) {
        printf("%s:\n", where);
        show_write(&answer, stdout);
    }
    proxy_close(&at);
    mz_arena_destroy(l.arena);
    mz_buf_fini(&answer);
    return ok ? EXIT_OK : command_fail(&err);
}

/* ---- one of them ---- */

static bool form_of(const char *text, enum show_form *out)
{
    static const char *const words[] = {
        [SHOW_TABLE] = "short", [SHOW_JSON] = "json", [SHOW_YAML] = "yaml"
    };
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if (strcmp(words[i], text) == 0) {
            *out = (enum show_form)i;
            return true;
        }
    return false;
}

static bool print_kind(const struct command *c, struct pc *p, const char *where, struct mz_err *err)
{
    const bool all = strcmp(c->name, "all") == 0;
    size_t kind = 0;
    while (!all && strcmp(kinds[kind].name, c->name) != 0)
        kind++; /* each command but `all` and `log` is there */
    const char *path = all ? EDS_PATH : kinds[kind].path;
    struct proxy_at at = { .address = where };
    struct dump d;
    if (where && !proxy_find(&at, where, p->o->mesh, (uint16_t)p->o->admin_port, err)) {
        proxy_close(&at);
        return false;
    }
    const bool ok =
        where ? proxy_load(&at, path, &d, err) : dump_load(&d, NULL, 0, path, p->o->file, err);
    p->dump = &d;
    const bool done = ok && (all ? print_all(p, err) : kinds[kind].print(p, err));
    dump_fini(&d);
    proxy_close(&at);
    return done;
}

static int run_proxy_config(const struct command *c, int argc, char **argv)
{
    struct pc_options o = { .output = strcmp(c->name, "bootstrap") == 0 ? "json" : "short",
                            .fqdn = "",
                            .direction = "",
                            .subset = "",
                            .address = "",
                            .type = "",
                            .name = "",
                            .cluster = "",
                            .status = "",
                            .level = "",
                            .admin_port = 15000,
                            .verbose = true };
    struct arg_result r;
    struct mz_err err = { .path = "", .msg = "" };
    struct pc p = { .o = &o, .out = stdout };
    char why[128];
    const int rc = command_args(c, argc, argv, &o, &r);
    if (rc >= 0)
        return rc;
    const char *where = r.others.n ? r.others.v[0] : NULL;
    if (o.admin_port == 0 || o.admin_port > UINT16_MAX)
        return command_usage_error(c, "--proxy-admin-port is not in 1..65535");
    if (strcmp(c->name, "log") == 0)
        return run_log(c, &o, where);
    if ((r.others.n == 1) != (o.file == NULL)) {
        (void)snprintf(why, sizeof(why),
                       "%s requires a pod, the address of a proxy or --file parameter", c->name);
        return command_usage_error(c, why);
    }
    if (!form_of(o.output, &p.form)) {
        (void)snprintf(why, sizeof(why), "output format \"%.60s\" not supported", o.output);
        mz_err_set(&err, "%s", why);
        return command_fail(&err);
    }
    return print_kind(c, &p, where, &err) ? EXIT_OK : command_fail(&err);
}
