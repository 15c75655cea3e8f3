/*
 * The rules of nft's backend: one table of each kind for both families, so a rule about addresses comes twice where IPv6 is on.
 * $L stands for the IPv4 loopback range, $T for the tunnels' port, $M for TPROXY's mark, $1 for an argument.
 */
#include "agent/capture/capture.h"

static const char nat[] = "istio-proxy-nat", mangle[] = "istio-proxy-mangle",
                  raw[] = "istio-proxy-raw";

struct build {
    const struct mz_capture_config *c;
    struct mz_arena *a;
    struct mz_capture_rules *out;
    bool dns, loopback_captured;
};

static void put(struct build *b, const char *table, const char *chain, int at, const char *words,
                struct mz_str arg)
{
    MZ_VEC(struct mz_str) parts = { 0 };
    for (const char *p = words; *p;) {
        const char *dollar = strchr(p, '$');
        *mz_vec_push(&parts, MZ_MEM_CONFIG) =
            (struct mz_str){ p, dollar ? (size_t)(dollar - p) : strlen(p) };
        if (!dollar)
            break;
        *mz_vec_push(&parts, MZ_MEM_CONFIG) = dollar[1] == 'L'   ? mz_str_c(b->c->loopback)
                                              : dollar[1] == 'T' ? mz_str_c(b->c->tunnel_port)
                                              : dollar[1] == 'M' ? mz_str_c(b->c->tproxy_mark)
                                                                 : arg;
        p = dollar + 2;
    }
    *mz_vec_push(&b->out->v, MZ_MEM_CONFIG) =
        (struct mz_capture_rule){ table, chain, mz_arena_cat(b->a, parts.n, parts.v), at };
    mz_vec_free(&parts, MZ_MEM_CONFIG);
}

static void add(struct build *b, const char *table, const char *chain, const char *words)
{
    put(b, table, chain, -1, words, (struct mz_str){ 0 });
}

static void add_each(struct build *b, const char *table, const char *chain, const char *list,
                     const char *words)
{
    struct mz_str rest = mz_str_c(list), part;
    while (mz_capture_next(&rest, &part))
        put(b, table, chain, -1, words, part);
}

/* A rule about addresses: @four, and @six where the machine has IPv6. */
static void both(struct build *b, const char *table, const char *chain, int at, const char *four,
                 const char *six, struct mz_str arg)
{
    put(b, table, chain, at, four, arg);
    if (b->c->ipv6)
        put(b, table, chain, at, six, arg);
}

static bool is_six(struct mz_str address)
{
    return mz_str_chr(address, ':') >= 0;
}

/* One rule for each range of the list, IPv4 before IPv6. */
static void add_ranges(struct build *b, const char *list, const char *four, const char *six)
{
    for (int v6 = 0; v6 <= b->c->ipv6; v6++) {
        struct mz_str rest = mz_str_c(list), part;
        while (mz_capture_next(&rest, &part))
            if (is_six(part) == v6)
                put(b, nat, "istio-output", -1, v6 ? six : four, part);
    }
}

static bool star(const char *s)
{
    return strcmp(s, "*") == 0;
}

static bool is_tproxy(const struct mz_capture_config *c)
{
    return strcmp(c->mode, "TPROXY") == 0;
}

static bool captures_loopback(const char *ranges)
{
    struct mz_str rest = mz_str_c(ranges), part;
    while (mz_capture_next(&rest, &part))
        if (mz_str_starts(part, MZ_STR("127.")) || mz_str_starts(part, MZ_STR("::1/")))
            return true;
    return false;
}

static void skip_interfaces(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->interfaces_exclude), part;
    while (mz_capture_next(&rest, &part)) {
        put(b, nat, "prerouting", -1, "iifname $1 counter return", part);
        put(b, nat, "output", -1, "oifname $1 counter return", part);
        if (is_tproxy(b->c)) {
            put(b, mangle, "prerouting", -1, "iifname $1 counter return", part);
            put(b, mangle, "output", -1, "oifname $1 counter return", part);
        }
    }
    rest = mz_str_c(b->c->virtual_interfaces);
    while (mz_capture_next(&rest, &part))
        put(b, nat, "prerouting", 0, "iifname $1 counter return", part);
}

static void inbound_tproxy(struct build *b)
{
    const struct mz_capture_config *c = b->c;
    add(b, mangle, "istio-divert", "counter meta mark set $M");
    add(b, mangle, "istio-divert", "counter accept");
    both(b, mangle, "istio-tproxy", -1,
         "meta l4proto tcp ip daddr != $L tproxy ip to :$1 meta mark set $M counter accept",
         "meta l4proto tcp ip6 daddr != ::1/128 tproxy ip6 to :$1 meta mark set $M counter accept",
         mz_str_c(c->inbound_port));
    add(b, mangle, "prerouting", "meta l4proto tcp counter jump istio-inbound");
    if (star(c->inbound_ports)) {
        add_each(b, mangle, "istio-inbound", c->inbound_ports_exclude,
                 "meta l4proto tcp tcp dport $1 counter return");
        add(b, mangle, "istio-inbound",
            "meta l4proto tcp ct state related,established counter jump istio-divert");
        add(b, mangle, "istio-inbound", "meta l4proto tcp counter jump istio-tproxy");
        return;
    }
    struct mz_str rest = mz_str_c(c->inbound_ports), part;
    while (mz_capture_next(&rest, &part)) {
        put(b, mangle, "istio-inbound", -1,
            "meta l4proto tcp ct state related,established tcp dport $1 counter jump istio-divert",
            part);
        put(b, mangle, "istio-inbound", -1,
            "meta l4proto tcp tcp dport $1 counter jump istio-tproxy", part);
    }
}

static void inbound(struct build *b)
{
    const struct mz_capture_config *c = b->c;
    if (!c->inbound_ports[0])
        return;
    if (is_tproxy(c)) {
        inbound_tproxy(b);
        return;
    }
    add(b, nat, "prerouting", "meta l4proto tcp counter jump istio-inbound");
    if (star(c->inbound_ports)) {
        add_each(b, nat, "istio-inbound", c->inbound_ports_exclude,
                 "meta l4proto tcp tcp dport $1 counter return");
        add(b, nat, "istio-inbound", "meta l4proto tcp counter jump istio-in-redirect");
    } else {
        add_each(b, nat, "istio-inbound", c->inbound_ports,
                 "meta l4proto tcp tcp dport $1 counter jump istio-in-redirect");
    }
}

static void users(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->uid), part;
    while (mz_capture_next(&rest, &part)) {
        if (b->dns)
            both(b, nat, "istio-output", -1,
                 "oifname lo meta l4proto tcp ip daddr != $L tcp dport != { 53, $T } skuid $1 "
                 "counter jump istio-in-redirect",
                 "oifname lo meta l4proto tcp ip6 daddr != ::1/128 tcp dport != { 53, $T } skuid "
                 "$1 counter jump istio-in-redirect",
                 part);
        else
            both(b, nat, "istio-output", -1,
                 "oifname lo meta l4proto tcp ip daddr != $L tcp dport != $T skuid $1 counter jump "
                 "istio-in-redirect",
                 "oifname lo meta l4proto tcp ip6 daddr != ::1/128 tcp dport != $T skuid $1 "
                 "counter jump istio-in-redirect",
                 part);
        if (!b->loopback_captured)
            put(b, nat, "istio-output", -1,
                b->dns ? "oifname lo meta l4proto tcp tcp dport != 53 skuid != $1 counter return"
                       : "oifname lo skuid != $1 counter return",
                part);
        put(b, nat, "istio-output", -1, "skuid $1 counter return", part);
    }
}

static void groups(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->gid), part, none = { 0 };
    while (mz_capture_next(&rest, &part)) {
        both(b, nat, "istio-output", -1,
             "oifname lo meta l4proto tcp ip daddr != $L tcp dport != $T skgid $1 counter jump "
             "istio-in-redirect",
             "oifname lo meta l4proto tcp ip6 daddr != ::1/128 tcp dport != $T skgid $1 counter "
             "jump istio-in-redirect",
             part);
        if (!b->loopback_captured)
            put(b, nat, "istio-output", -1,
                b->dns ? "oifname lo meta l4proto tcp tcp dport != 53 skgid != $1 counter return"
                       : "oifname lo skgid != $1 counter return",
                part);
        put(b, nat, "istio-output", -1, "skgid $1 counter return", part);
    }
    if (star(b->c->groups)) {
        add_each(b, nat, "istio-output", b->c->groups_exclude, "skgid $1 counter return");
        return;
    }
    rest = mz_str_c(b->c->groups);
    while (mz_capture_next(&rest, &part))
        none = mz_arena_printf(b->a, MZ_STR_FMT "skgid != " MZ_STR_FMT " ", MZ_STR_ARG(none),
                               MZ_STR_ARG(part));
    put(b, nat, "istio-output", -1, "$1counter return", none);
}

static void dns_zones(struct build *b)
{
    const struct mz_capture_config *c = b->c;
    struct mz_str rest = mz_str_c(c->uid), part;
    while (mz_capture_next(&rest, &part)) {
        put(b, raw, "istio-output-dns", -1, "udp dport 53 meta skuid $1 counter ct zone set 1",
            part);
        put(b, raw, "istio-output-dns", -1, "udp sport 15053 meta skuid $1 counter ct zone set 2",
            part);
    }
    rest = mz_str_c(c->gid);
    while (mz_capture_next(&rest, &part)) {
        put(b, raw, "istio-output-dns", -1, "udp dport 53 meta skgid $1 counter ct zone set 1",
            part);
        put(b, raw, "istio-output-dns", -1, "udp sport 15053 meta skgid $1 counter ct zone set 2",
            part);
    }
    add(b, raw, "prerouting", "counter jump istio-inbound");
    if (c->all_dns) {
        add(b, raw, "istio-output-dns", "udp dport 53 counter ct zone set 2");
        add(b, raw, "istio-inbound", "udp sport 53 counter ct zone set 1");
        return;
    }
    for (int v6 = 0; v6 <= c->ipv6; v6++) {
        rest = mz_str_c(c->dns_servers[v6]);
        while (mz_capture_next(&rest, &part)) {
            put(b, raw, "istio-output-dns", -1,
                v6 ? "udp dport 53 ip6 daddr $1/128 counter ct zone set 2"
                   : "udp dport 53 ip daddr $1/32 counter ct zone set 2",
                part);
            put(b, raw, "istio-inbound", -1,
                v6 ? "udp sport 53 ip6 saddr $1/128 counter ct zone set 1"
                   : "udp sport 53 ip saddr $1/32 counter ct zone set 1",
                part);
        }
    }
}

static void dns(struct build *b)
{
    static const char *const of_server[2][2] = {
        { "ip daddr $1/32 tcp dport 53 counter redirect to :15053",
          "ip6 daddr $1/128 tcp dport 53 counter redirect to :15053" },
        { "ip daddr $1/32 udp dport 53 counter redirect to :15053",
          "ip6 daddr $1/128 udp dport 53 counter redirect to :15053" },
    };
    add(b, raw, "output", "counter jump istio-output-dns");
    add(b, nat, "istio-output", "counter jump istio-output-dns");
    if (b->c->all_dns) {
        add(b, nat, "istio-output-dns", "meta l4proto tcp tcp dport 53 counter redirect to :15053");
        add(b, nat, "istio-output-dns", "udp dport 53 counter redirect to :15053");
    } else {
        for (int udp = 0; udp < 2; udp++)
            for (int v6 = 0; v6 <= b->c->ipv6; v6++)
                add_each(b, nat, "istio-output-dns", b->c->dns_servers[v6], of_server[udp][v6]);
    }
    dns_zones(b);
}

static void outbound_ranges(struct build *b)
{
    struct mz_str names, name, rest, part;
    if (star(b->c->ranges)) {
        add(b, nat, "istio-output", "counter jump istio-redirect");
        names = mz_str_c(b->c->virtual_interfaces);
        while (mz_capture_next(&names, &name))
            put(b, nat, "prerouting", 0, "iifname $1 counter jump istio-redirect", name);
        return;
    }
    for (int v6 = 0; v6 <= b->c->ipv6; v6++) {
        rest = mz_str_c(b->c->ranges);
        while (mz_capture_next(&rest, &part)) {
            if (is_six(part) != v6)
                continue;
            names = mz_str_c(b->c->virtual_interfaces);
            while (mz_capture_next(&names, &name))
                put(b, nat, "prerouting", 0, "iifname $1 counter jump istio-redirect",
                    mz_arena_printf(b->a, MZ_STR_FMT " %s daddr " MZ_STR_FMT, MZ_STR_ARG(name),
                                    v6 ? "ip6" : "ip", MZ_STR_ARG(part)));
            put(b, nat, "istio-output", -1,
                v6 ? "ip6 daddr $1 counter jump istio-redirect"
                   : "ip daddr $1 counter jump istio-redirect",
                part);
        }
    }
}

static void tproxy_marks(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->uid), part, none = { 0 };
    add(b, mangle, "prerouting", "meta l4proto tcp mark $M counter ct mark set mark");
    add(b, mangle, "output", "oifname lo meta l4proto tcp mark $M counter return");
    while (mz_capture_next(&rest, &part))
        both(b, mangle, "output", -1,
             "oifname lo meta l4proto tcp ip daddr != $L skuid $1 counter meta mark set 1338",
             "oifname lo meta l4proto tcp ip6 daddr != ::1/128 skuid $1 counter meta mark set 1338",
             part);
    rest = mz_str_c(b->c->gid);
    while (mz_capture_next(&rest, &part))
        both(b, mangle, "output", -1,
             "oifname lo meta l4proto tcp ip daddr != $L skgid $1 counter meta mark set 1338",
             "oifname lo meta l4proto tcp ip6 daddr != ::1/128 skgid $1 counter meta mark set 1338",
             part);
    add(b, mangle, "output", "meta l4proto tcp ct mark $M counter meta mark set ct mark");
    put(b, mangle, "istio-inbound", 0, "meta l4proto tcp mark $M counter return", none);
    both(b, mangle, "istio-inbound", 1,
         "iifname lo meta l4proto tcp ip saddr 127.0.0.6/32 counter return",
         "iifname lo meta l4proto tcp ip6 saddr ::6/128 counter return", none);
    put(b, mangle, "istio-inbound", 2, "iifname lo meta l4proto tcp mark != 1338 counter return",
        none);
}

void mz_capture_nft_rules(const struct mz_capture_config *c, struct mz_arena *a,
                          struct mz_capture_rules *out)
{
    struct build b = { c, a, out, mz_capture_dns_wanted(c), captures_loopback(c->ranges) };
    skip_interfaces(&b);
    if (c->drop_invalid) {
        add(&b, mangle, "prerouting", "meta l4proto tcp ct state invalid counter jump istio-drop");
        add(&b, mangle, "istio-drop", "counter drop");
    }
    add(&b, nat, "istio-inbound", "meta l4proto tcp tcp dport $T counter return");
    add_each(&b, nat, "istio-redirect", c->proxy_port, "meta l4proto tcp counter redirect to :$1");
    add_each(&b, nat, "istio-in-redirect", c->inbound_port,
             "meta l4proto tcp counter redirect to :$1");
    inbound(&b);
    add(&b, nat, "output", "counter jump istio-output");
    struct mz_str rest = mz_str_c(c->outbound_ports_exclude), part;
    while (mz_capture_next(&rest, &part)) {
        put(&b, nat, "istio-output", -1, "tcp dport $1 counter return", part);
        put(&b, nat, "istio-output", -1, "udp dport $1 counter return", part);
    }
    both(&b, nat, "istio-output", -1, "oifname lo ip saddr 127.0.0.6/32 counter return",
         "oifname lo ip6 saddr ::6/128 counter return", (struct mz_str){ 0 });
    users(&b);
    groups(&b);
    if (b.dns)
        dns(&b);
    both(&b, nat, "istio-output", -1, "ip daddr $L counter return",
         "ip6 daddr ::1/128 counter return", (struct mz_str){ 0 });
    add_ranges(&b, c->ranges_exclude, "ip daddr $1 counter return", "ip6 daddr $1 counter return");
    add_each(&b, nat, "istio-output", c->outbound_ports,
             "tcp dport $1 counter jump istio-redirect");
    outbound_ranges(&b);
    if (is_tproxy(c))
        tproxy_marks(&b);
}

/* ---- as the input of nft -f ---- */

struct chain {
    const char *name, *hook; /* hook: of base chains */
};

static size_t rules_of(const struct mz_capture_rules *r, size_t until, const char *table,
                       const char *chain)
{
    size_t n = 0;
    for (size_t i = 0; i < until; i++)
        n += strcmp(r->v.v[i].table, table) == 0 && strcmp(r->v.v[i].chain, chain) == 0;
    return n;
}

typedef MZ_VEC(struct mz_str) texts;

static void table_text(const struct mz_capture_rules *r, const char *table,
                       const struct chain *chains, size_t n, struct mz_arena *a, texts *out)
{
    size_t used = 0;
    for (size_t i = 0; i < n; i++)
        used += rules_of(r, r->v.n, table, chains[i].name);
    if (!used)
        return;
    *mz_vec_push(out, MZ_MEM_CONFIG) =
        mz_arena_printf(a, "add table inet %s\nflush table inet %s\n", table, table);
    for (size_t i = 0; i < n; i++) {
        if (!rules_of(r, r->v.n, table, chains[i].name))
            continue;
        *mz_vec_push(out, MZ_MEM_CONFIG) =
            chains[i].hook ? mz_arena_printf(a, "add chain inet %s %s { type %s ; }\n", table,
                                             chains[i].name, chains[i].hook)
                           : mz_arena_printf(a, "add chain inet %s %s\n", table, chains[i].name);
    }
    for (size_t i = 0; i < r->v.n; i++) {
        const struct mz_capture_rule *rule = &r->v.v[i];
        if (strcmp(rule->table, table) != 0)
            continue;
        /* an index must name a rule that is there: at the end of a chain an insertion is an addition */
        const bool inside =
            rule->insert >= 0 && (size_t)rule->insert < rules_of(r, i, table, rule->chain);
        *mz_vec_push(out, MZ_MEM_CONFIG) =
            inside ? mz_arena_printf(a, "insert rule inet %s %s index %d " MZ_STR_FMT "\n", table,
                                     rule->chain, rule->insert, MZ_STR_ARG(rule->text))
                   : mz_arena_printf(a, "add rule inet %s %s " MZ_STR_FMT "\n", table, rule->chain,
                                     MZ_STR_ARG(rule->text));
    }
}

struct mz_str mz_capture_nft_text(const struct mz_capture_rules *r, struct mz_arena *a)
{
    static const struct chain of_nat[] = {
        { "prerouting", "nat hook prerouting priority -100" },
        { "output", "nat hook output priority -100" },
        { "istio-inbound", NULL },
        { "istio-redirect", NULL },
        { "istio-in-redirect", NULL },
        { "istio-output", NULL },
        { "istio-output-dns", NULL },
    };
    static const struct chain of_mangle[] = {
        { "prerouting", "filter hook prerouting priority -150" },
        { "output", "route hook output priority -150" },
        { "istio-divert", NULL },
        { "istio-tproxy", NULL },
        { "istio-inbound", NULL },
        { "istio-drop", NULL },
    };
    static const struct chain of_raw[] = {
        { "prerouting", "filter hook prerouting priority -300" },
        { "output", "filter hook output priority -300" },
        { "istio-inbound", NULL },
        { "istio-output-dns", NULL },
    };
    texts out = { 0 };
    table_text(r, nat, of_nat, sizeof(of_nat) / sizeof(of_nat[0]), a, &out);
    table_text(r, mangle, of_mangle, sizeof(of_mangle) / sizeof(of_mangle[0]), a, &out);
    table_text(r, raw, of_raw, sizeof(of_raw) / sizeof(of_raw[0]), a, &out);
    struct mz_str all = out.n ? mz_arena_cat(a, out.n, out.v) : (struct mz_str){ 0 };
    mz_vec_free(&out, MZ_MEM_CONFIG);
    return all;
}
