/* Settings: flags, the environment under the same names, defaults; what they say is checked before anything is changed. */
#include <arpa/inet.h>
#include <grp.h>
#include <ifaddrs.h>
#include <net/if.h>
#include <netinet/in.h>
#include <pwd.h>
#include <stdio.h>
#include <stdlib.h>

#include "agent/agent.h"
#include "agent/capture/capture.h"
#include "base/args.h"
#include "base/program.h"

#define AT(field) offsetof(struct mz_capture_config, field)
/* The environment has each option too: --dry-run is DRY_RUN. */
static const struct arg_flag flags[] = {
    { "envoy-port", 'p', ARG_TEXT, AT(proxy_port),
      "port of the proxy to which outbound TCP is led (15001)" },
    { "inbound-capture-port", 'z', ARG_TEXT, AT(inbound_port),
      "port to which inbound TCP is led (15006)" },
    { "inbound-tunnel-port", 'e', ARG_TEXT, AT(tunnel_port),
      "port of tunnels, never led anywhere (15008)" },
    { "proxy-uid", 'u', ARG_TEXT, AT(uid),
      "users whose traffic is not captured (of ENVOY_USER, or 1337; none: groups alone)" },
    { "proxy-gid", 'g', ARG_TEXT, AT(gid),
      "groups whose traffic is not captured (as --proxy-uid)" },
    { "istio-inbound-interception-mode", 'm', ARG_TEXT, AT(mode), "REDIRECT or TPROXY" },
    { "istio-inbound-ports", 'b', ARG_TEXT, AT(inbound_ports),
      "inbound ports to capture, * for all, empty for none" },
    { "istio-local-exclude-ports", 'd', ARG_TEXT, AT(inbound_ports_exclude),
      "inbound ports not to capture, with -b '*'" },
    { "istio-exclude-interfaces", 'c', ARG_TEXT, AT(interfaces_exclude),
      "interfaces where nothing is captured" },
    { "istio-service-cidr", 'i', ARG_TEXT, AT(ranges),
      "outbound ranges to capture, * for all, empty for none" },
    { "istio-service-exclude-cidr", 'x', ARG_TEXT, AT(ranges_exclude),
      "outbound ranges not to capture" },
    { "istio-outbound-ports", 'q', ARG_TEXT, AT(outbound_ports),
      "outbound ports to capture whatever the range" },
    { "istio-local-outbound-ports-exclude", 'o', ARG_TEXT, AT(outbound_ports_exclude),
      "outbound ports not to capture" },
    { "kube-virt-interfaces", 'k', ARG_TEXT, AT(virtual_interfaces),
      "interfaces of virtual machines: what comes in is outbound" },
    { "istio-inbound-tproxy-mark", 't', ARG_TEXT, AT(tproxy_mark), "mark of TPROXY (1337)" },
    { "istio-inbound-tproxy-route-table", 'r', ARG_TEXT, AT(tproxy_table),
      "routing table of TPROXY (133)" },
    { "dry-run", 'n', ARG_SWITCH, AT(dry_run), "print the rules, change nothing" },
    { "iptables-probe-port", 0, ARG_TEXT, AT(probe_port),
      "port that --run-validation dials (15002)" },
    { "probe-timeout", 0, ARG_TEXT, AT(probe_timeout), "patience of --run-validation (5s)" },
    { "skip-rule-apply", 0, ARG_SWITCH, AT(skip_apply), "change nothing, for --run-validation" },
    { "run-validation", 0, ARG_SWITCH, AT(validate),
      "check that connections are captured; exit code 126 when not" },
    { "redirect-dns", 0, ARG_SWITCH, AT(dns),
      "lead DNS of resolv.conf's servers to the agent (15053)" },
    { "resolv-conf", 0, ARG_TEXT, AT(resolv_conf),
      "file that names the pod's DNS servers (/etc/resolv.conf)" },
    { "drop-invalid", 0, ARG_SWITCH, AT(drop_invalid), "drop packets outside of any connection" },
    { "dual-stack", 0, ARG_SWITCH, AT(dual_stack), "both families" },
    { "capture-all-dns", 0, ARG_SWITCH, AT(all_dns), "with --redirect-dns: whatever the server" },
    { "network-namespace", 0, ARG_TEXT, AT(namespace_path),
      "path of the network namespace to work in" },
    { "cni-mode", 0, ARG_SWITCH, AT(cni), "the machine's files, a pod's network" },
    { "reconcile", 0, ARG_SWITCH, AT(reconcile), "replace rules that are there and differ" },
    { "cleanup-only", 0, ARG_SWITCH, AT(cleanup), "remove the rules" },
    { "force-apply", 0, ARG_SWITCH, AT(force), "apply even where the rules seem to be in place" },
    { "native-nftables", 0, ARG_SWITCH, AT(nft), "nft instead of iptables" },
    { "force-iptables-binary", 0, ARG_TEXT, AT(binary), "legacy or nft" },
    { "log_output_level", 0, ARG_TEXT, AT(log_output_level),
      "levels, as injectors write them: what is told is told at any" },
};
#define FLAGS        (sizeof(flags) / sizeof(flags[0]))
#define PROBE_FAILED 126

bool mz_capture_next(struct mz_str *rest, struct mz_str *out_part)
{
    while (mz_str_split(rest, ',', out_part))
        if (out_part->n)
            return true;
    return false;
}

static const char *yes_no(bool b)
{
    return b ? "true" : "false";
}

void mz_capture_print(const struct mz_capture_config *c)
{
    const struct {
        const char *name, *value;
    } lines[] = {
        { "PROXY_PORT", c->proxy_port },
        { "PROXY_INBOUND_CAPTURE_PORT", c->inbound_port },
        { "PROXY_TUNNEL_PORT", c->tunnel_port },
        { "PROXY_UID", c->uid },
        { "PROXY_GID", c->gid },
        { "INBOUND_INTERCEPTION_MODE", c->mode },
        { "INBOUND_TPROXY_MARK", c->tproxy_mark },
        { "INBOUND_TPROXY_ROUTE_TABLE", c->tproxy_table },
        { "INBOUND_PORTS_INCLUDE", c->inbound_ports },
        { "INBOUND_PORTS_EXCLUDE", c->inbound_ports_exclude },
        { "OUTBOUND_OWNER_GROUPS_INCLUDE", c->groups },
        { "OUTBOUND_OWNER_GROUPS_EXCLUDE", c->groups_exclude },
        { "OUTBOUND_IP_RANGES_INCLUDE", c->ranges },
        { "OUTBOUND_IP_RANGES_EXCLUDE", c->ranges_exclude },
        { "OUTBOUND_PORTS_INCLUDE", c->outbound_ports },
        { "OUTBOUND_PORTS_EXCLUDE", c->outbound_ports_exclude },
        { "KUBE_VIRT_INTERFACES", c->virtual_interfaces },
        { "ENABLE_INBOUND_IPV6", yes_no(c->ipv6) },
        { "DUAL_STACK", yes_no(c->dual_stack) },
        { "DNS_CAPTURE", yes_no(c->dns) },
        { "DROP_INVALID", yes_no(c->drop_invalid) },
        { "CAPTURE_ALL_DNS", yes_no(c->all_dns) },
        { "DNS_SERVERS", NULL },
        { "NETWORK_NAMESPACE", c->namespace_path },
        { "CNI_MODE", yes_no(c->cni) },
        { "EXCLUDE_INTERFACES", c->interfaces_exclude },
        { "RECONCILE", yes_no(c->reconcile) },
        { "CLEANUP_ONLY", yes_no(c->cleanup) },
        { "FORCE_APPLY", yes_no(c->force) },
        { "NATIVE_NFTABLES", yes_no(c->nft) },
        { "FORCE_IPTABLES_BINARY", c->binary },
    };
    printf("[info] Istio config:\n");
    for (size_t i = 0; i < sizeof(lines) / sizeof(lines[0]); i++)
        if (lines[i].value)
            printf("%s=%s\n", lines[i].name, lines[i].value);
        else
            printf("%s=[%s],[%s]\n", lines[i].name, c->dns_servers[0], c->dns_servers[1]);
    printf("\n");
}

bool mz_capture_dns_wanted(const struct mz_capture_config *c)
{
    return c->dns && (c->all_dns || c->dns_servers[0][0] || c->dns_servers[1][0]);
}

/* ---- checks ---- */

static bool is_number(struct mz_str s, uint64_t max)
{
    uint64_t v;
    return mz_str_u64(s, &v) && v <= max;
}

static bool is_port(struct mz_str s)
{
    return is_number(s, 65535) && s.p[0] != '0';
}

static bool is_word(struct mz_str s, const char *more)
{
    for (size_t i = 0; i < s.n; i++) {
        const char c = mz_lower(s.p[i]);
        if (!((c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || (c && strchr(more, c))))
            return false;
    }
    return s.n != 0;
}

/* An interface: of the kernel's length, of what names of interfaces are made of; + is iptables' wildcard. */
static bool is_name(struct mz_str s)
{
    return s.n < IFNAMSIZ && is_word(s, "._:@+-") && s.p[0] != '-';
}

static bool is_owner(struct mz_str s) /* a number, or a name of the system's data base */
{
    return is_number(s, UINT32_MAX) || (s.n <= 32 && is_word(s, "_-") && s.p[0] != '-');
}

static int range_family(struct mz_str s) /* 4, 6, or 0: no range */
{
    char address[INET6_ADDRSTRLEN], bin[16];
    ptrdiff_t slash = mz_str_chr(s, '/');
    if (slash <= 0 || (size_t)slash >= sizeof(address))
        return 0;
    memcpy(address, s.p, (size_t)slash);
    address[slash] = 0;
    const struct mz_str bits = mz_str_skip(s, (size_t)slash + 1);
    if (inet_pton(AF_INET, address, bin) == 1)
        return is_number(bits, 32) ? 4 : 0;
    return inet_pton(AF_INET6, address, bin) == 1 && is_number(bits, 128) ? 6 : 0;
}

static bool is_range(struct mz_str s)
{
    return range_family(s) != 0;
}

struct list_rule {
    const char *name, *value, *what;
    bool (*good)(struct mz_str part);
    bool star; /* may be "*" */
};

static bool check_list(const struct list_rule *l, struct mz_err *err)
{
    struct mz_str rest = mz_str_c(l->value), part;
    if (l->star && mz_str_eq(rest, MZ_STR("*")))
        return true;
    for (size_t n = 0; mz_capture_next(&rest, &part); n++) {
        if (n == MZ_CAPTURE_LIST_MAX)
            return mz_err_set(err, "%s: more than %d values", l->name, MZ_CAPTURE_LIST_MAX);
        if (!l->good(part))
            return mz_err_set(err, "%s: \"%.60s\" is no %s", l->name,
                              mz_str_c(part.p).n ? part.p : "", l->what);
    }
    return true;
}

static bool check_one(const char *name, const char *value, bool good, const char *expected,
                      struct mz_err *err)
{
    return good ? true : mz_err_set(err, "%s: \"%.60s\" is no %s", name, value, expected);
}

bool mz_capture_check(const struct mz_capture_config *c, struct mz_err *err)
{
    const struct mz_str mode = mz_str_c(c->mode), binary = mz_str_c(c->binary),
                        loopback = mz_str_c(c->loopback);
    const struct list_rule lists[] = {
        { "proxy-uid", c->uid, "user", is_owner, false },
        { "proxy-gid", c->gid, "group", is_owner, false },
        { "istio-inbound-ports", c->inbound_ports, "port", is_port, true },
        { "istio-local-exclude-ports", c->inbound_ports_exclude, "port", is_port, false },
        { "istio-outbound-ports", c->outbound_ports, "port", is_port, false },
        { "istio-local-outbound-ports-exclude", c->outbound_ports_exclude, "port", is_port, false },
        { "istio-service-cidr", c->ranges, "range of addresses", is_range, true },
        { "istio-service-exclude-cidr", c->ranges_exclude, "range of addresses", is_range, false },
        { "istio-exclude-interfaces", c->interfaces_exclude, "interface", is_name, false },
        { "kube-virt-interfaces", c->virtual_interfaces, "interface", is_name, false },
        { "ISTIO_OUTBOUND_OWNER_GROUPS", c->groups, "group", is_owner, true },
        { "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", c->groups_exclude, "group", is_owner, false },
    };
    if (!check_one("envoy-port", c->proxy_port, is_port(mz_str_c(c->proxy_port)), "port", err) ||
        !check_one("inbound-capture-port", c->inbound_port, is_port(mz_str_c(c->inbound_port)),
                   "port", err) ||
        !check_one("inbound-tunnel-port", c->tunnel_port, is_port(mz_str_c(c->tunnel_port)), "port",
                   err) ||
        !check_one("iptables-probe-port", c->probe_port, is_port(mz_str_c(c->probe_port)), "port",
                   err) ||
        !check_one("istio-inbound-tproxy-mark", c->tproxy_mark,
                   is_number(mz_str_c(c->tproxy_mark), UINT32_MAX), "mark", err) ||
        !check_one("istio-inbound-tproxy-route-table", c->tproxy_table,
                   is_number(mz_str_c(c->tproxy_table), UINT32_MAX), "number of a routing table",
                   err) ||
        !check_one("istio-inbound-interception-mode", c->mode,
                   !mode.n || mz_str_eq(mode, MZ_STR("REDIRECT")) ||
                       mz_str_eq(mode, MZ_STR("TPROXY")) || mz_str_eq(mode, MZ_STR("NONE")),
                   "mode: REDIRECT or TPROXY", err) ||
        !check_one("FORCE_IPTABLES_BINARY", c->binary,
                   !binary.n || mz_str_eq(binary, MZ_STR("legacy")) ||
                       mz_str_eq(binary, MZ_STR("nft")),
                   "binary: legacy or nft", err) ||
        !check_one("ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", c->loopback,
                   range_family(loopback) == 4 && mz_str_starts(loopback, MZ_STR("127.")),
                   "IPv4 loopback range", err))
        return false;
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++)
        if (!check_list(&lists[i], err))
            return false;
    size_t groups = 0;
    struct mz_str rest = mz_str_c(c->groups), part;
    while (mz_capture_next(&rest, &part))
        groups++;
    if (groups > MZ_CAPTURE_OWNERS_MAX)
        return mz_err_set(err,
                          "ISTIO_OUTBOUND_OWNER_GROUPS: %zu groups, at most %d can be captured",
                          groups, MZ_CAPTURE_OWNERS_MAX);
    return true;
}

/* ---- where settings come from ---- */

static void defaults(struct mz_capture_config *c)
{
    const char **texts[] = { &c->uid,
                             &c->gid,
                             &c->mode,
                             &c->inbound_ports,
                             &c->inbound_ports_exclude,
                             &c->groups_exclude,
                             &c->ranges,
                             &c->ranges_exclude,
                             &c->outbound_ports,
                             &c->outbound_ports_exclude,
                             &c->virtual_interfaces,
                             &c->interfaces_exclude,
                             &c->namespace_path,
                             &c->binary,
                             &c->dns_servers[0],
                             &c->dns_servers[1],
                             &c->host_ip };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++)
        *texts[i] = "";
    c->resolv_conf = "/etc/resolv.conf";
    c->proxy_port = "15001";
    c->inbound_port = "15006";
    c->tunnel_port = "15008";
    c->tproxy_mark = "1337";
    c->tproxy_table = "133";
    c->probe_port = "15002";
    c->probe_timeout = "5s";
    c->groups = "*";
    c->loopback = "127.0.0.1/32";
}

/* A flag's place in the environment: its name in capitals. */
static bool from_environment(struct mz_capture_config *c, struct mz_err *err)
{
    for (size_t i = 0; i < FLAGS; i++) {
        char name[64];
        size_t n = 0;
        for (; flags[i].name[n] && n + 1 < sizeof(name); n++) {
            char ch = flags[i].name[n];
            name[n] = (char)(ch == '-' ? '_' : ch >= 'a' && ch <= 'z' ? ch - 32 : ch);
        }
        name[n] = 0;
        const char *value = getenv(name); /* NOLINT(concurrency-mt-unsafe): one thread */
        if (!value)
            continue;
        void *at = (char *)c + flags[i].at;
        if (flags[i].kind == ARG_TEXT)
            *(const char **)at = value;
        else if (!mz_agent_bool(value, at))
            return mz_err_set(err, "%s: \"%.60s\" is neither true nor false", name, value);
    }
    const struct {
        const char *name;
        const char **text;
        bool *on;
    } others[] = {
        { "ISTIO_META_DNS_CAPTURE", NULL, &c->dns },
        { "INVALID_DROP", NULL, &c->drop_invalid },
        { "ISTIO_DUAL_STACK", NULL, &c->dual_stack },
        { "ISTIO_OUTBOUND_OWNER_GROUPS", &c->groups, NULL },
        { "ISTIO_OUTBOUND_OWNER_GROUPS_EXCLUDE", &c->groups_exclude, NULL },
        { "ISTIO_OUTBOUND_IPV4_LOOPBACK_CIDR", &c->loopback, NULL },
    };
    for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
        const char *value = getenv(others[i].name); /* NOLINT(concurrency-mt-unsafe) */
        if (!value)
            continue;
        if (others[i].text)
            *others[i].text = value;
        else if (!mz_agent_bool(value, others[i].on))
            return mz_err_set(err, "%s: \"%.60s\" is neither true nor false", others[i].name,
                              value);
    }
    return true;
}

/* The machine's first address that is neither loopback nor link-local; with both families, an IPv6 one if there is any. */
static bool find_address(struct mz_capture_config *c, struct mz_arena *a, struct mz_err *err)
{
    struct ifaddrs *all;
    if (getifaddrs(&all) != 0)
        return mz_err_set(err, "cannot list the addresses of this machine");
    for (struct ifaddrs *i = all; i; i = i->ifa_next) {
        char text[INET6_ADDRSTRLEN];
        if (!i->ifa_addr)
            continue;
        if (i->ifa_addr->sa_family == AF_INET) {
            struct sockaddr_in in;
            memcpy(&in, i->ifa_addr, sizeof(in));
            const uint32_t ip = ntohl(in.sin_addr.s_addr);
            if (ip >> 24 == 127 || ip >> 16 == 0xa9fe || c->host_ip[0])
                continue;
            (void)inet_ntop(AF_INET, &in.sin_addr, text, sizeof(text));
            c->host_ip = mz_arena_dup(a, mz_str_c(text)).p;
        } else if (i->ifa_addr->sa_family == AF_INET6) {
            struct sockaddr_in6 in;
            memcpy(&in, i->ifa_addr, sizeof(in));
            if (IN6_IS_ADDR_LOOPBACK(&in.sin6_addr) || IN6_IS_ADDR_LINKLOCAL(&in.sin6_addr))
                continue;
            (void)inet_ntop(AF_INET6, &in.sin6_addr, text, sizeof(text));
            c->ipv6 = true;
            if (!c->host_ip[0])
                c->host_ip = mz_arena_dup(a, mz_str_c(text)).p;
        } else {
            continue;
        }
        if (!c->dual_stack || c->ipv6)
            break;
    }
    freeifaddrs(all);
    return c->host_ip[0] ? true : mz_err_set(err, "this machine has no address but loopback");
}

static bool find_dns_servers(struct mz_capture_config *c, struct mz_arena *a, struct mz_err *err)
{
    FILE *f = fopen(c->resolv_conf, "re");
    if (!f)
        return mz_err_set(err, "cannot read %s", c->resolv_conf);
    char line[512];
    while (fgets(line, sizeof(line), f)) {
        struct mz_str rest = mz_str_c(line);
        unsigned char bin[16];
        char address[INET6_ADDRSTRLEN];
        if (!mz_str_starts(rest, MZ_STR("nameserver")))
            continue;
        rest = mz_str_trim(mz_str_skip(rest, 10));
        size_t n = strcspn(rest.p, " \t\r\n%");
        if (n >= sizeof(address))
            continue;
        memcpy(address, rest.p, n);
        address[n] = 0;
        for (int v = 0; v < 2; v++)
            if (inet_pton(v ? AF_INET6 : AF_INET, address, bin) == 1)
                c->dns_servers[v] = mz_arena_printf(a, "%s%s%s", c->dns_servers[v],
                                                    c->dns_servers[v][0] ? "," : "", address)
                                        .p;
    }
    (void)fclose(f);
    return true;
}

static bool fill(struct mz_capture_config *c, struct mz_arena *a, struct mz_err *err)
{
    if (strcmp(c->uid, "none") == 0) {
        c->uid = "";
        c->gid = c->gid[0] ? c->gid : "1337";
    } else if (!c->uid[0]) {
        const char *name = getenv("ENVOY_USER"); /* NOLINT(concurrency-mt-unsafe) */
        const char *user_name = name ? name : "istio-proxy";
        const struct passwd *user = getpwnam(user_name); /* NOLINT(concurrency-mt-unsafe) */
        c->uid = user ? mz_arena_printf(a, "%u", (unsigned)user->pw_uid).p : "1337";
    }
    if (!c->gid[0])
        c->gid = c->uid;
    return find_address(c, a, err) && (!c->dns || c->all_dns || find_dns_servers(c, a, err));
}

static int run(struct mz_capture_config *c, struct mz_err *err)
{
    if (c->namespace_path[0] && !mz_agent_enter_namespace(c->namespace_path, err))
        return 1;
    if (!c->skip_apply) {
        if (c->dns && !mz_capture_dns_wanted(c))
            printf("[warn] DNS is not captured: no server is known (resolv.conf names none, "
                   "--capture-all-dns is off)\n");
        mz_capture_print(c);
        /* iptables tells what it did before routes are set, nft after */
        if (!(c->nft ? mz_capture_routes(c, err) && mz_capture_nft(c, err)
                     : mz_capture_iptables(c, err) && mz_capture_routes(c, err)))
            return 1;
    }
    if (c->validate && !c->dry_run && !mz_capture_probe(c, err))
        return PROBE_FAILED;
    return 0;
}

int mz_capture_main(int argc, char **argv)
{
    struct mz_capture_config c = { 0 };
    struct mz_err err = { 0 };
    struct arg_result rest = { 0 };
    char why[256] = "";
    mz_program_path();
    defaults(&c);
    if (!from_environment(&c, &err)) {
        fprintf(stderr, "Error: %s\n", err.msg);
        return 1;
    }
    if (!args_parse(flags, FLAGS, argc, argv, &c, &rest, why)) {
        fprintf(stderr, "Error: %s\n", why);
        return 1;
    }
    if (rest.help) {
        printf("Leads a pod's connections to its proxy.\n\nUsage:\n  mizzen-agent iptables "
               "[flags]\n\n");
        mz_agent_flags_help(flags, FLAGS);
        return 0;
    }
    if (rest.others.n) {
        fprintf(stderr, "Error: unexpected argument \"%s\"\n", rest.others.v[0]);
        return 1;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    int rc = 1;
    if (fill(&c, a, &err) && mz_capture_check(&c, &err))
        rc = run(&c, &err);
    (void)fflush(stdout);
    if (rc)
        fprintf(stderr, "Error: %s\n", err.msg);
    mz_arena_destroy(a);
    return rc;
}
