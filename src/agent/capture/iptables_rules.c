/*
 * The rules of iptables' backend, as the field's tool has them (their order and words are what people compare). $L and $6 in a
 * rule stand for the family's loopback range and for the address from which the proxy calls its own application.
 */
#include "agent/capture/capture.h"

struct build {
    const struct mz_capture_config *c;
    struct mz_arena *a;
    struct mz_capture_rules *out;
    int family;
    bool dns, loopback_captured;
};

/* $L, $6 and $1 (an argument) in @words are replaced. */
static struct mz_str fill_in(struct build *b, const char *words, struct mz_str arg)
{
    const bool six = b->family == 6;
    MZ_VEC(struct mz_str) parts = { 0 };
    for (const char *at = words; *at;) {
        const char *dollar = strchr(at, '$');
        const size_t n = dollar ? (size_t)(dollar - at) : strlen(at);
        *mz_vec_push(&parts, MZ_MEM_CONFIG) = (struct mz_str){ at, n };
        if (!dollar)
            break;
        *mz_vec_push(&parts, MZ_MEM_CONFIG) =
            dollar[1] == 'L'   ? mz_str_c(six ? "::1/128" : b->c->loopback)
            : dollar[1] == '6' ? mz_str_c(six ? "::6/128" : "127.0.0.6/32")
            : dollar[1] == 'T' ? mz_str_c(b->c->tunnel_port)
            : dollar[1] == 'M' ? mz_str_c(b->c->tproxy_mark)
                               : arg;
        at = dollar + 2;
    }
    struct mz_str all = mz_arena_cat(b->a, parts.n, parts.v);
    mz_vec_free(&parts, MZ_MEM_CONFIG);
    return all;
}

static void insert(struct build *b, const char *table, const char *chain, int at, const char *words,
                   struct mz_str arg)
{
    *mz_vec_push(&b->out->v, MZ_MEM_CONFIG) =
        (struct mz_capture_rule){ table, chain, fill_in(b, words, arg), at };
}

static void add(struct build *b, const char *table, const char *chain, const char *words)
{
    insert(b, table, chain, -1, words, (struct mz_str){ 0 });
}

static void add_each(struct build *b, const char *table, const char *chain, const char *list,
                     const char *words)
{
    struct mz_str rest = mz_str_c(list), part;
    while (mz_capture_next(&rest, &part))
        insert(b, table, chain, -1, words, part);
}

static bool star(const char *s)
{
    return strcmp(s, "*") == 0;
}

static int family_of(struct mz_str range)
{
    return mz_str_chr(range, ':') >= 0 ? 6 : 4;
}

static bool captures_loopback(const char *ranges)
{
    struct mz_str rest = mz_str_c(ranges), part;
    while (mz_capture_next(&rest, &part))
        if (mz_str_starts(part, MZ_STR("127.")) || mz_str_starts(part, MZ_STR("::1/")))
            return true;
    return false;
}

static void add_ranges(struct build *b, const char *list, const char *words)
{
    struct mz_str rest = mz_str_c(list), part;
    while (mz_capture_next(&rest, &part))
        if (family_of(part) == b->family)
            insert(b, "nat", "ISTIO_OUTPUT", -1, words, part);
}

static bool is_tproxy(const struct mz_capture_config *c)
{
    return strcmp(c->mode, "TPROXY") == 0;
}

static void skip_interfaces(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->interfaces_exclude), part;
    while (mz_capture_next(&rest, &part)) {
        insert(b, "nat", "PREROUTING", -1, "-i $1 -j RETURN", part);
        insert(b, "nat", "OUTPUT", -1, "-o $1 -j RETURN", part);
    }
    rest = mz_str_c(b->c->interfaces_exclude);
    while (is_tproxy(b->c) && mz_capture_next(&rest, &part)) {
        insert(b, "mangle", "PREROUTING", -1, "-i $1 -j RETURN", part);
        insert(b, "mangle", "OUTPUT", -1, "-o $1 -j RETURN", part);
    }
    rest = mz_str_c(b->c->virtual_interfaces);
    while (mz_capture_next(&rest, &part))
        insert(b, "nat", "PREROUTING", 1, "-i $1 -j RETURN", part);
}

static void inbound_tproxy(struct build *b)
{
    const struct mz_capture_config *c = b->c;
    add(b, "mangle", "ISTIO_DIVERT", "-j MARK --set-mark $M");
    add(b, "mangle", "ISTIO_DIVERT", "-j ACCEPT");
    insert(b, "mangle", "ISTIO_TPROXY", -1,
           "! -d $L -p tcp -j TPROXY --tproxy-mark $M/0xffffffff --on-port $1",
           mz_str_c(c->inbound_port));
    add(b, "mangle", "PREROUTING", "-p tcp -j ISTIO_INBOUND");
    if (star(c->inbound_ports)) {
        add_each(b, "mangle", "ISTIO_INBOUND", c->inbound_ports_exclude,
                 "-p tcp --dport $1 -j RETURN");
        add(b, "mangle", "ISTIO_INBOUND",
            "-p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT");
        add(b, "mangle", "ISTIO_INBOUND", "-p tcp -j ISTIO_TPROXY");
        return;
    }
    struct mz_str rest = mz_str_c(c->inbound_ports), part;
    while (mz_capture_next(&rest, &part)) {
        insert(b, "mangle", "ISTIO_INBOUND", -1,
               "-p tcp --dport $1 -m conntrack --ctstate RELATED,ESTABLISHED -j ISTIO_DIVERT",
               part);
        insert(b, "mangle", "ISTIO_INBOUND", -1, "-p tcp --dport $1 -j ISTIO_TPROXY", part);
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
    add(b, "nat", "PREROUTING", "-p tcp -j ISTIO_INBOUND");
    if (star(c->inbound_ports)) {
        add_each(b, "nat", "ISTIO_INBOUND", c->inbound_ports_exclude,
                 "-p tcp --dport $1 -j RETURN");
        add(b, "nat", "ISTIO_INBOUND", "-p tcp -j ISTIO_IN_REDIRECT");
    } else {
        add_each(b, "nat", "ISTIO_INBOUND", c->inbound_ports,
                 "-p tcp --dport $1 -j ISTIO_IN_REDIRECT");
    }
}

/* What the proxy itself sends goes out as it is; what the application sends to its own service comes in again. */
static void owner(struct build *b, const char *list, bool user)
{
    struct mz_str rest = mz_str_c(list), part;
    while (mz_capture_next(&rest, &part)) {
        insert(
            b, "nat", "ISTIO_OUTPUT", -1,
            !user ? "-o lo ! -d $L -p tcp ! --dport $T -m owner --gid-owner $1 -j ISTIO_IN_REDIRECT"
            : b->dns
                ? "-o lo ! -d $L -p tcp -m multiport ! --dports 53,$T -m owner --uid-owner $1 -j "
                  "ISTIO_IN_REDIRECT"
                : "-o lo ! -d $L -p tcp ! --dport $T -m owner --uid-owner $1 -j ISTIO_IN_REDIRECT",
            part);
        if (!b->loopback_captured)
            insert(b, "nat", "ISTIO_OUTPUT", -1,
                   b->dns ? user ? "-o lo -p tcp ! --dport 53 -m owner ! --uid-owner $1 -j RETURN"
                                 : "-o lo -p tcp ! --dport 53 -m owner ! --gid-owner $1 -j RETURN"
                   : user ? "-o lo -m owner ! --uid-owner $1 -j RETURN"
                          : "-o lo -m owner ! --gid-owner $1 -j RETURN",
                   part);
        insert(b, "nat", "ISTIO_OUTPUT", -1,
               user ? "-m owner --uid-owner $1 -j RETURN" : "-m owner --gid-owner $1 -j RETURN",
               part);
    }
}

static void owner_groups(struct build *b)
{
    if (star(b->c->groups)) {
        add_each(b, "nat", "ISTIO_OUTPUT", b->c->groups_exclude,
                 "-m owner --gid-owner $1 -j RETURN");
        return;
    }
    struct mz_str rest = mz_str_c(b->c->groups), part, all = { 0 };
    while (mz_capture_next(&rest, &part))
        all = mz_arena_printf(b->a, MZ_STR_FMT "-m owner ! --gid-owner " MZ_STR_FMT " ",
                              MZ_STR_ARG(all), MZ_STR_ARG(part));
    insert(b, "nat", "ISTIO_OUTPUT", -1, "$1-j RETURN", all);
}

/* Asked and answered in two zones of connection tracking: with one, two sockets' questions of the same port would meet. */
static void dns_zones(struct build *b, const char *servers)
{
    struct mz_str rest = mz_str_c(b->c->uid), part;
    while (mz_capture_next(&rest, &part)) {
        insert(b, "raw", "ISTIO_OUTPUT_DNS", -1,
               "-p udp --dport 53 -m owner --uid-owner $1 -j CT --zone 1", part);
        insert(b, "raw", "ISTIO_OUTPUT_DNS", -1,
               "-p udp --sport 15053 -m owner --uid-owner $1 -j CT --zone 2", part);
    }
    rest = mz_str_c(b->c->gid);
    while (mz_capture_next(&rest, &part)) {
        insert(b, "raw", "ISTIO_OUTPUT_DNS", -1,
               "-p udp --dport 53 -m owner --gid-owner $1 -j CT --zone 1", part);
        insert(b, "raw", "ISTIO_OUTPUT_DNS", -1,
               "-p udp --sport 15053 -m owner --gid-owner $1 -j CT --zone 2", part);
    }
    if (b->c->all_dns) {
        add(b, "raw", "PREROUTING", "-j ISTIO_INBOUND");
        add(b, "raw", "ISTIO_OUTPUT_DNS", "-p udp --dport 53 -j CT --zone 2");
        add(b, "raw", "ISTIO_INBOUND", "-p udp --sport 53 -j CT --zone 1");
        return;
    }
    if (servers[0])
        add(b, "raw", "PREROUTING", "-j ISTIO_INBOUND");
    const bool six = b->family == 6;
    rest = mz_str_c(servers);
    while (mz_capture_next(&rest, &part)) {
        insert(b, "raw", "ISTIO_OUTPUT_DNS", -1,
               six ? "-p udp --dport 53 -d $1/128 -j CT --zone 2"
                   : "-p udp --dport 53 -d $1/32 -j CT --zone 2",
               part);
        insert(b, "raw", "ISTIO_INBOUND", -1,
               six ? "-p udp --sport 53 -s $1/128 -j CT --zone 1"
                   : "-p udp --sport 53 -s $1/32 -j CT --zone 1",
               part);
    }
}

static void dns(struct build *b)
{
    const bool six = b->family == 6;
    const char *servers = b->c->dns_servers[six];
    add(b, "raw", "OUTPUT", "-j ISTIO_OUTPUT_DNS");
    if (b->c->all_dns || servers[0])
        add(b, "nat", "ISTIO_OUTPUT", "-j ISTIO_OUTPUT_DNS");
    if (b->c->all_dns) {
        add(b, "nat", "ISTIO_OUTPUT_DNS", "-p tcp --dport 53 -j REDIRECT --to-ports 15053");
        add(b, "nat", "ISTIO_OUTPUT_DNS", "-p udp --dport 53 -j REDIRECT --to-port 15053");
    } else {
        add_each(b, "nat", "ISTIO_OUTPUT_DNS", servers,
                 six ? "-p tcp --dport 53 -d $1/128 -j REDIRECT --to-ports 15053"
                     : "-p tcp --dport 53 -d $1/32 -j REDIRECT --to-ports 15053");
        add_each(b, "nat", "ISTIO_OUTPUT_DNS", servers,
                 six ? "-p udp --dport 53 -d $1/128 -j REDIRECT --to-port 15053"
                     : "-p udp --dport 53 -d $1/32 -j REDIRECT --to-port 15053");
    }
    dns_zones(b, servers);
}

static void outbound_ranges(struct build *b)
{
    struct mz_str part, name, rest = mz_str_c(b->c->ranges), names;
    if (star(b->c->ranges)) {
        add(b, "nat", "ISTIO_OUTPUT", "-j ISTIO_REDIRECT");
        names = mz_str_c(b->c->virtual_interfaces);
        while (mz_capture_next(&names, &name))
            insert(b, "nat", "PREROUTING", 1, "-i $1 -j ISTIO_REDIRECT", name);
        return;
    }
    while (mz_capture_next(&rest, &part)) {
        if (family_of(part) != b->family)
            continue;
        names = mz_str_c(b->c->virtual_interfaces);
        while (mz_capture_next(&names, &name)) {
            struct mz_str both = mz_arena_printf(b->a, MZ_STR_FMT " -d " MZ_STR_FMT,
                                                 MZ_STR_ARG(name), MZ_STR_ARG(part));
            insert(b, "nat", "PREROUTING", 1, "-i $1 -j ISTIO_REDIRECT", both);
        }
        insert(b, "nat", "ISTIO_OUTPUT", -1, "-d $1 -j ISTIO_REDIRECT", part);
    }
}

/* TPROXY keeps addresses, so packets of the proxy to its application look like a client's: marks tell them apart. */
static void tproxy_marks(struct build *b)
{
    struct mz_str rest = mz_str_c(b->c->uid), part;
    add(b, "mangle", "PREROUTING", "-p tcp -m mark --mark $M -j CONNMARK --save-mark");
    add(b, "mangle", "OUTPUT", "-p tcp -o lo -m mark --mark $M -j RETURN");
    while (mz_capture_next(&rest, &part))
        insert(b, "mangle", "OUTPUT", -1,
               "! -d $L -p tcp -o lo -m owner --uid-owner $1 -j MARK --set-mark 1338", part);
    rest = mz_str_c(b->c->gid);
    while (mz_capture_next(&rest, &part))
        insert(b, "mangle", "OUTPUT", -1,
               "! -d $L -p tcp -o lo -m owner --gid-owner $1 -j MARK --set-mark 1338", part);
    const struct mz_str none = { 0 };
    add(b, "mangle", "OUTPUT", "-p tcp -m connmark --mark $M -j CONNMARK --restore-mark");
    insert(b, "mangle", "ISTIO_INBOUND", 1, "-p tcp -m mark --mark $M -j RETURN", none);
    insert(b, "mangle", "ISTIO_INBOUND", 2, "-p tcp -s $6 -i lo -j RETURN", none);
    insert(b, "mangle", "ISTIO_INBOUND", 3, "-p tcp -i lo -m mark ! --mark 1338 -j RETURN", none);
}

void mz_capture_iptables_rules(const struct mz_capture_config *c, int family, struct mz_arena *a,
                               struct mz_capture_rules *out)
{
    struct build b = { c, a, out, family, mz_capture_dns_wanted(c), captures_loopback(c->ranges) };
    skip_interfaces(&b);
    if (c->drop_invalid) {
        add(&b, "mangle", "PREROUTING", "-m conntrack --ctstate INVALID -j ISTIO_DROP");
        add(&b, "mangle", "ISTIO_DROP", "-j DROP");
    }
    add(&b, "nat", "ISTIO_INBOUND", "-p tcp --dport $T -j RETURN");
    add_each(&b, "nat", "ISTIO_REDIRECT", c->proxy_port, "-p tcp -j REDIRECT --to-ports $1");
    add_each(&b, "nat", "ISTIO_IN_REDIRECT", c->inbound_port, "-p tcp -j REDIRECT --to-ports $1");
    inbound(&b);
    add(&b, "nat", "OUTPUT", "-j ISTIO_OUTPUT");
    struct mz_str rest = mz_str_c(c->outbound_ports_exclude), part;
    while (mz_capture_next(&rest, &part)) {
        insert(&b, "nat", "ISTIO_OUTPUT", -1, "-p tcp --dport $1 -j RETURN", part);
        insert(&b, "nat", "ISTIO_OUTPUT", -1, "-p udp --dport $1 -j RETURN", part);
    }
    add(&b, "nat", "ISTIO_OUTPUT", "-o lo -s $6 -j RETURN");
    owner(&b, c->uid, true);
    owner(&b, c->gid, false);
    owner_groups(&b);
    if (b.dns)
        dns(&b);
    add(&b, "nat", "ISTIO_OUTPUT", "-d $L -j RETURN");
    add_ranges(&b, c->ranges_exclude, "-d $1 -j RETURN");
    add_each(&b, "nat", "ISTIO_OUTPUT", c->outbound_ports, "-p tcp --dport $1 -j ISTIO_REDIRECT");
    outbound_ranges(&b);
    if (is_tproxy(c))
        tproxy_marks(&b);
}

/* ---- as the input of iptables-restore ---- */

static bool built_in(struct mz_str chain)
{
    static const struct mz_str names[] = { MZ_STR_INIT("INPUT"),       MZ_STR_INIT("OUTPUT"),
                                           MZ_STR_INIT("FORWARD"),     MZ_STR_INIT("PREROUTING"),
                                           MZ_STR_INIT("POSTROUTING"), MZ_STR_INIT("ACCEPT"),
                                           MZ_STR_INIT("RETURN"),      MZ_STR_INIT("DROP") };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++)
        if (mz_str_eq(chain, names[i]))
            return true;
    return false;
}

typedef MZ_VEC(struct mz_str) texts;

static void new_chain(texts *seen, texts *out, struct mz_arena *a, struct mz_str chain)
{
    if (built_in(chain))
        return;
    mz_vec_foreach (s, seen)
        if (mz_str_eq(*s, chain))
            return;
    *mz_vec_push(seen, MZ_MEM_CONFIG) = chain;
    *mz_vec_push(out, MZ_MEM_CONFIG) = mz_arena_printf(a, "-N " MZ_STR_FMT "\n", MZ_STR_ARG(chain));
}

/* The chain that a rule ends in, where its last words are -j NAME: it must exist even without rules. */
static struct mz_str jump_target(struct mz_str text)
{
    ptrdiff_t blank = mz_str_rchr(text, ' ');
    if (blank < 2 || memcmp(text.p + blank - 2, "-j", 2) != 0)
        return MZ_STR("RETURN");
    return mz_str_skip(text, (size_t)blank + 1);
}

static void table_text(const struct mz_capture_rules *r, const char *table, struct mz_arena *a,
                       texts *out)
{
    texts seen = { 0 };
    const size_t before = out->n;
    *mz_vec_push(out, MZ_MEM_CONFIG) = mz_arena_printf(a, "* %s\n", table);
    MZ_CAPTURE_EACH (rule, r)
        if (strcmp(rule->table, table) == 0)
            new_chain(&seen, out, a, mz_str_c(rule->chain));
    MZ_CAPTURE_EACH (rule, r)
        if (strcmp(rule->table, table) == 0)
            new_chain(&seen, out, a, jump_target(rule->text));
    MZ_CAPTURE_EACH (rule, r) {
        if (strcmp(rule->table, table) != 0)
            continue;
        *mz_vec_push(out, MZ_MEM_CONFIG) =
            rule->insert < 0
                ? mz_arena_printf(a, "-A %s " MZ_STR_FMT "\n", rule->chain, MZ_STR_ARG(rule->text))
                : mz_arena_printf(a, "-I %s %d " MZ_STR_FMT "\n", rule->chain, rule->insert,
                                  MZ_STR_ARG(rule->text));
    }
    mz_vec_free(&seen, MZ_MEM_CONFIG);
    if (out->n == before + 1)
        out->n = before; /* nothing in this table */
    else
        *mz_vec_push(out, MZ_MEM_CONFIG) = MZ_STR("COMMIT\n");
}

struct mz_str mz_capture_restore_text(const struct mz_capture_rules *r, struct mz_arena *a)
{
    static const char *const tables[] = { "filter", "mangle", "nat", "raw" };
    texts out = { 0 };
    for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
        table_text(r, tables[i], a, &out);
    struct mz_str all = out.n ? mz_arena_cat(a, out.n, out.v) : (struct mz_str){ 0 };
    mz_vec_free(&out, MZ_MEM_CONFIG);
    return all;
}
