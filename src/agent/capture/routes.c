/* Policy routing for TPROXY and the loopback address ::6, by rtnetlink (rtnetlink(7)). */
#include <errno.h>
#include <linux/fib_rules.h>
#include <linux/if_addr.h>
#include <linux/rtnetlink.h>
#include <net/if.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/capture/capture.h"

struct request {
    struct nlmsghdr head;
    union {
        struct rtmsg route;
        struct fib_rule_hdr rule;
        struct ifaddrmsg address;
    } body;
    char attributes[128];
};

static void begin(struct request *r, uint16_t type, uint16_t flags, size_t body)
{
    memset(r, 0, sizeof(*r));
    r->head.nlmsg_type = type;
    r->head.nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags);
    r->head.nlmsg_len = (uint32_t)NLMSG_LENGTH(body);
}

static void attribute(struct request *r, uint16_t type, const void *value, uint16_t n)
{
    struct rtattr at = { .rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(n) };
    char *to = (char *)r + NLMSG_ALIGN(r->head.nlmsg_len);
    memcpy(to, &at, sizeof(at));
    memcpy(to + sizeof(at), value, n);
    r->head.nlmsg_len = (uint32_t)(NLMSG_ALIGN(r->head.nlmsg_len) + RTA_ALIGN(at.rta_len));
}

/* 0, or the errno of the kernel's answer. */
static int ask(int fd, const struct request *r)
{
    char answer[4096];
    struct nlmsghdr head;
    struct nlmsgerr e;
    if (send(fd, r, r->head.nlmsg_len, 0) < 0)
        return errno;
    ssize_t n = recv(fd, answer, sizeof(answer), 0);
    if (n < (ssize_t)(sizeof(head) + sizeof(e)))
        return n < 0 ? errno : EPROTO;
    memcpy(&head, answer, sizeof(head));
    memcpy(&e, answer + NLMSG_HDRLEN, sizeof(e));
    return head.nlmsg_type == NLMSG_ERROR ? -e.error : EPROTO;
}

static int fwmark_rule(int fd, unsigned char family, uint16_t type, uint32_t mark, uint32_t table)
{
    struct request r;
    begin(&r, type, type == RTM_NEWRULE ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(r.body.rule));
    r.body.rule.family = family;
    r.body.rule.action = FR_ACT_TO_TBL;
    r.body.rule.table = (unsigned char)(table < 256 ? table : RT_TABLE_UNSPEC);
    attribute(&r, FRA_FWMARK, &mark, sizeof(mark));
    attribute(&r, FRA_TABLE, &table, sizeof(table));
    return ask(fd, &r);
}

/* local default dev lo table T */
static int local_route(int fd, unsigned char family, uint16_t type, uint32_t table)
{
    struct request r;
    const uint32_t lo = if_nametoindex("lo");
    begin(&r, type, type == RTM_NEWROUTE ? NLM_F_CREATE | NLM_F_EXCL : 0, sizeof(r.body.route));
    r.body.route.rtm_family = family;
    r.body.route.rtm_table = (unsigned char)(table < 256 ? table : RT_TABLE_UNSPEC);
    r.body.route.rtm_protocol = RTPROT_BOOT;
    r.body.route.rtm_scope = RT_SCOPE_HOST;
    r.body.route.rtm_type = RTN_LOCAL;
    attribute(&r, RTA_OIF, &lo, sizeof(lo));
    attribute(&r, RTA_TABLE, &table, sizeof(table));
    return ask(fd, &r);
}

static int own_address(int fd)
{
    struct request r;
    unsigned char six[16] = { [15] = 6 };
    begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, sizeof(r.body.address));
    r.body.address.ifa_family = AF_INET6;
    r.body.address.ifa_prefixlen = 128;
    r.body.address.ifa_index = if_nametoindex("lo");
    attribute(&r, IFA_LOCAL, six, sizeof(six));
    attribute(&r, IFA_ADDRESS, six, sizeof(six));
    return ask(fd, &r);
}

static bool said(int error, const char *what, struct mz_err *err)
{
    return !error || error == EEXIST
               ? true
               : mz_err_set(err, "cannot %s: %s", what, strerrordesc_np(error));
}

static bool tproxy(int fd, const struct mz_capture_config *c, unsigned char family,
                   struct mz_err *err)
{
    uint64_t mark = 0, table = 0;
    (void)mz_str_u64(mz_str_c(c->tproxy_mark), &mark); /* checked */
    (void)mz_str_u64(mz_str_c(c->tproxy_table), &table);
    if (c->cleanup) { /* what is not there need not go */
        (void)fwmark_rule(fd, family, RTM_DELRULE, (uint32_t)mark, (uint32_t)table);
        (void)local_route(fd, family, RTM_DELROUTE, (uint32_t)table);
        return true;
    }
    return said(fwmark_rule(fd, family, RTM_NEWRULE, (uint32_t)mark, (uint32_t)table),
                "add the rule of TPROXY's mark", err) &&
           said(local_route(fd, family, RTM_NEWROUTE, (uint32_t)table),
                "add the route of TPROXY's table", err);
}

bool mz_capture_routes(const struct mz_capture_config *c, struct mz_err *err)
{
    if (c->dry_run) {
        printf("[info] skipping configuring routes due to dry run mode\n");
        return true;
    }
    int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
    if (fd < 0)
        return mz_err_set(err, "cannot open a netlink socket: %s", strerrordesc_np(errno));
    bool ok = !c->ipv6 || c->cleanup ||
              said(own_address(fd), "add the address ::6 to the loopback interface", err);
    if (ok && (c->cleanup || (c->inbound_ports[0] && strcmp(c->mode, "TPROXY") == 0)))
        ok = tproxy(fd, c, AF_INET, err) && (!c->ipv6 || tproxy(fd, c, AF_INET6, err));
    (void)close(fd);
    return ok;
}
