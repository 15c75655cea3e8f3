#ifndef MZ_AGENT_CAPTURE_H
#define MZ_AGENT_CAPTURE_H
/*
 * `mizzen-agent iptables` (A4): the rules that lead a pod's connections to its proxy. The work is done in four steps, each of
 * which can be tested alone: settings from flags and environment, rules from settings (pure), text from rules (pure), and the
 * rules put in place. Main thread; nothing here is quick or needs to be.
 */
#include "base/arena.h"
#include "base/err.h"
#include "base/vec.h"

#define MZ_CAPTURE_LIST_MAX 1024 /* values in one list of ports, ranges, interfaces */
#define MZ_CAPTURE_OWNERS_MAX 64 /* groups that are captured share one rule, whose matches the kernel limits */

/* Texts as they were given, checked by mz_capture_check(); comma-separated lists stay lists. */
struct mz_capture_config {
    const char *proxy_port, *inbound_port, *tunnel_port, *uid, *gid, *mode, *tproxy_mark, *tproxy_table;
    const char *inbound_ports, *inbound_ports_exclude, *groups, *groups_exclude;
    const char *ranges, *ranges_exclude, *outbound_ports, *outbound_ports_exclude;
    const char *virtual_interfaces, *interfaces_exclude;
    const char *loopback; /* the IPv4 range that counts as loopback */
    const char *namespace_path, *binary; /* "": this one; "legacy", "nft" or "" */
    const char *probe_port, *probe_timeout;
    const char *log_output_level; /* what injectors write; nothing here has levels */
    const char *resolv_conf;    /* file that names the pod's DNS servers */
    const char *dns_servers[2]; /* found there, comma-separated: IPv4, IPv6 */
    bool dry_run, skip_apply, validate, dns, drop_invalid, dual_stack, all_dns, cni, reconcile;
    bool cleanup, force, nft;
    bool ipv6;           /* the machine has an IPv6 address */
    const char *host_ip; /* an address of this machine that is not loopback */
};

/* One rule of one family, as words of the backend: iptables' `-o lo -j RETURN`, or nft's `oifname lo counter return`. */
struct mz_capture_rule {
    const char *table, *chain;
    struct mz_str text;
    int insert; /* position for an insertion (iptables counts from 1, nft from 0); -1: appended */
};
struct mz_capture_rules {
    MZ_VEC(struct mz_capture_rule) v;
};
#define MZ_CAPTURE_EACH(it, rules) \
    for (const struct mz_capture_rule *it = (rules)->v.v; it && it < (rules)->v.v + (rules)->v.n; it++)

void mz_capture_print(const struct mz_capture_config *c); /* standard output */
/* Port numbers, ranges, names: what is wrong with which option. Nothing that passes can break out of its rule. */
bool mz_capture_check(const struct mz_capture_config *c, struct mz_err *err);
bool mz_capture_dns_wanted(const struct mz_capture_config *c); /* asked for, and there is a server to capture */

/* The rules of a family (4 or 6), in order; texts live in @a. */
void mz_capture_iptables_rules(const struct mz_capture_config *c, int family, struct mz_arena *a,
                               struct mz_capture_rules *out);
/* The input of iptables-restore; empty where there are no rules. */
struct mz_str mz_capture_restore_text(const struct mz_capture_rules *r, struct mz_arena *a);
/* One table for both families. */
void mz_capture_nft_rules(const struct mz_capture_config *c, struct mz_arena *a, struct mz_capture_rules *out);
struct mz_str mz_capture_nft_text(const struct mz_capture_rules *r, struct mz_arena *a); /* the input of nft -f */

bool mz_capture_iptables(const struct mz_capture_config *c, struct mz_err *err); /* applies, reconciles or cleans up */
bool mz_capture_nft(const struct mz_capture_config *c, struct mz_err *err);
/* TPROXY's policy routing and the address ::6 of the loopback interface, by rtnetlink; repeated calls change nothing. */
bool mz_capture_routes(const struct mz_capture_config *c, struct mz_err *err);
/* A connection is made to this machine's own address: it must arrive at the proxy's port with its destination kept. */
bool mz_capture_probe(const struct mz_capture_config *c, struct mz_err *err);

/* Walks a comma-separated list without its empty parts: for (struct mz_str part; mz_capture_next(&rest, &part);) */
bool mz_capture_next(struct mz_str *rest, struct mz_str *out_part);
int mz_capture_main(int argc, char **argv); /* argv: what follows the command's name; the exit code */

/* One run of a program: @input to its standard input, both outputs together into @out (in @a, at most 1 MiB). */
struct mz_capture_run {
    int status; /* exit code; 127: it could not be started */
    struct mz_str out;
};
struct mz_capture_run mz_capture_exec(struct mz_arena *a, const char *const *argv, struct mz_str input);
#endif
