#include "agent/settings.h"

#include <arpa/inet.h>
#include <ifaddrs.h>
#include <netinet/in.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent.h"

struct line {
    struct mz_agent_settings s;
    const char *log_output_level, *ignored;
    bool command, ignored_switch;
};
#define AT(field) offsetof(struct line, s.field)
static const struct arg_flag flags[] = {
    { "domain", 0, ARG_TEXT, AT(domain),
      "domain of short names (POD_NAMESPACE.svc.cluster.local)" },
    { "meshConfig", 0, ARG_TEXT, AT(mesh_config),
      "file with the mesh's configuration (./etc/istio/config/mesh)" },
    { "serviceCluster", 0, ARG_TEXT, AT(service_cluster),
      "name of the node's cluster (of its app and namespace)" },
    { "proxyLogLevel", 0, ARG_TEXT, AT(log_level),
      "levels of the proxy: warning, or info,misc:error" },
    { "proxyComponentLogLevel", 0, ARG_TEXT, AT(component_log_level),
      "levels of components, when --proxyLogLevel names none" },
    { "concurrency", 0, ARG_NUMBER, AT(concurrency), "workers of the proxy (ISTIO_CPU_LIMIT)" },
    { "outlierLogPath", 0, ARG_TEXT, AT(outlier_log_path), "file for events of outlier detection" },
    { "log_output_level", 0, ARG_TEXT, offsetof(struct line, log_output_level),
      "levels of the agent: default:info" },
    { "log_as_json", 0, ARG_SWITCH, AT(log_json), "agent and proxy log as JSON" },
    { "command", 0, ARG_SWITCH, offsetof(struct line, command),
      "bootstrap: print the proxy's command line instead" },
    { "binaryPath", 0, ARG_TEXT, AT(binary), "older: field of ProxyConfig" },
    { "configPath", 0, ARG_TEXT, AT(config_path), "older: field of ProxyConfig" },
    { "discoveryAddress", 0, ARG_TEXT, AT(discovery), "older: field of ProxyConfig" },
    { "drainDuration", 0, ARG_TEXT, AT(drain), "older: field of ProxyConfig" },
    { "zipkinAddress", 0, ARG_TEXT, AT(zipkin), "older: tracing of ProxyConfig" },
    { "controlPlaneAuthPolicy", 0, ARG_TEXT, AT(auth_policy), "older: field of ProxyConfig" },
    { "proxyAdminPort", 0, ARG_TEXT, AT(admin_port), "older: field of ProxyConfig" },
    { "parentShutdownDuration", 0, ARG_TEXT, offsetof(struct line, ignored),
      "older: without a hot restart there is no parent" },
    { "connectTimeout", 0, ARG_TEXT, offsetof(struct line, ignored),
      "older: the control plane's resources say it" },
};
#define FLAGS (sizeof(flags) / sizeof(flags[0]))

void mz_agent_settings_help(const char *command, const char *what)
{
    printf("%s\n\nUsage:\n  mizzen-agent %s sidecar|router|waypoint [flags]\n\n", what, command);
    mz_agent_flags_help(flags, FLAGS);
}

/* "default:info,xdsproxy:debug": the level of everything that is not named. */
static const char *default_level(const char *text, struct mz_arena *a)
{
    struct mz_str rest = mz_str_c(text), part;
    while (mz_str_split(&rest, ',', &part)) {
        const ptrdiff_t colon = mz_str_chr(part, ':');
        if (colon < 0 || mz_str_starts(part, MZ_STR("default:")))
            return mz_arena_dup(a, mz_str_skip(part, colon < 0 ? 0 : (size_t)colon + 1)).p;
    }
    return "info";
}

static void find_addresses(struct mz_agent_settings *s, struct mz_arena *a)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return;
    for (struct ifaddrs *i = all; i && s->addresses_n < MZ_AGENT_ADDRESSES; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        const void *bytes = NULL;
        struct sockaddr_in four;
        struct sockaddr_in6 six;
        if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET) {
            memcpy(&four, i->ifa_addr, sizeof(four));
            const uint32_t ip = ntohl(four.sin_addr.s_addr);
            bytes = ip >> 24 == 127 || ip >> 16 == 0xa9fe ? NULL : &four.sin_addr;
        } else if (i->ifa_addr && i->ifa_addr->sa_family == AF_INET6) {
            memcpy(&six, i->ifa_addr, sizeof(six));
            const bool local =
                IN6_IS_ADDR_LOOPBACK(&six.sin6_addr) || IN6_IS_ADDR_LINKLOCAL(&six.sin6_addr);
            bytes = local ? NULL : &six.sin6_addr;
        }
        if (bytes && inet_ntop(i->ifa_addr->sa_family, bytes, text, sizeof(text)))
            s->addresses[s->addresses_n++] = mz_arena_dup(a, mz_str_c(text)).p;
    }
    freeifaddrs(all);
}

static bool role_of(const struct arg_list *words, const char **out_role, struct mz_err *err)
{
    static const char *const roles[] = { "sidecar", "router", "waypoint" };
    *out_role = roles[0];
    if (words->n > 1)
        return mz_err_set(err, "unexpected argument \"%s\"", words->v[1]);
    if (!words->n)
        return true;
    for (size_t i = 0; i < 3; i++)
        if (strcmp(words->v[0], roles[i]) == 0) {
            *out_role = roles[i];
            return true;
        }
    return mz_err_set(err, "invalid proxy type \"%.60s\": sidecar, router or waypoint",
                      words->v[0]);
}

bool mz_agent_settings_read(int argc, char **argv, char *const *env, struct mz_arena *a,
                            struct mz_agent_options *out, struct mz_err *err)
{
    struct line l = { .s = { .domain = "",
                             .service_cluster = "istio-proxy",
                             .mesh_config = "./etc/istio/config/mesh",
                             .log_level = "warning",
                             .component_log_level = "",
                             .outlier_log_path = "",
                             .pod_info = "./etc/istio/pod",
                             .env = env },
                      .log_output_level = "default:info" };
    struct arg_result rest = { 0 };
    char why[256] = "";
    if (!args_parse(flags, FLAGS, argc, argv, &l, &rest, why))
        return mz_err_set(err, "%s", why);
    if (!rest.help && !role_of(&rest.others, &l.s.role, err))
        return false;
    find_addresses(&l.s, a);
    *out = (struct mz_agent_options){ .settings = l.s,
                                      .log_level = default_level(l.log_output_level, a),
                                      .print_command = l.command,
                                      .help = rest.help };
    return true;
}

static void print(const struct mz_bootstrap *b, bool command)
{
    if (!command) {
        printf("%.*s\n", (int)b->json.n, b->json.p);
        return;
    }
    for (size_t i = 0; b->argv[i]; i++)
        printf("%s%s", i ? " " : "", b->argv[i]);
    printf("\n");
}

int mz_agent_bootstrap_main(int argc, char **argv)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_agent_options o;
    struct mz_bootstrap b;
    struct mz_err err = { 0 };
    char text[1600];
    int rc = 1;
    if (mz_agent_settings_read(argc, argv, environ, a, &o, &err)) {
        if (o.help) {
            mz_agent_settings_help("bootstrap", "Prints what a proxy would be started with.");
            rc = 0;
        } else if (mz_bootstrap_make(&o.settings, a, &b, &err)) {
            print(&b, o.print_command);
            rc = 0;
        }
    }
    if (rc)
        fprintf(stderr, "Error: %s\n", mz_err_text(&err, text, sizeof(text)));
    mz_arena_destroy(a);
    return rc;
}
