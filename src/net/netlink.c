#include "net/netlink.h"

#include <errno.h>
#include <linux/rtnetlink.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

/* Bytes behind what is there, which are zeroes. */
static char *extend(struct mz_netlink *r, size_t n)
{
    char *at = (char *)r + NLMSG_ALIGN(r->head.nlmsg_len);
    const size_t len = NLMSG_ALIGN(r->head.nlmsg_len) + n;
    if (len > sizeof(*r))
        mz_assert_failed("room for a netlink attribute", __FILE__, __LINE__);
    r->head.nlmsg_len = (uint32_t)len;
    return at;
}

void mz_netlink_begin(struct mz_netlink *r, uint16_t type, uint16_t flags, const void *body,
                      size_t n)
{
    *r =
        (struct mz_netlink){ .head = { .nlmsg_type = type,
                                       .nlmsg_flags = (uint16_t)(NLM_F_REQUEST | NLM_F_ACK | flags),
                                       .nlmsg_len = NLMSG_HDRLEN } };
    memcpy(extend(r, n), body, n);
}

void mz_netlink_attr(struct mz_netlink *r, uint16_t type, const void *value, size_t n)
{
    const struct rtattr at = { .rta_type = type, .rta_len = (uint16_t)RTA_LENGTH(n) };
    char *to = extend(r, RTA_LENGTH(n));
    memcpy(to, &at, sizeof(at));
    if (n)
        memcpy(to + RTA_LENGTH(0), value, n);
}

void mz_netlink_attr_u32(struct mz_netlink *r, uint16_t type, uint32_t value)
{
    mz_netlink_attr(r, type, &value, sizeof(value));
}

void mz_netlink_attr_text(struct mz_netlink *r, uint16_t type, const char *value)
{
    mz_netlink_attr(r, type, value, strlen(value) + 1);
}

size_t mz_netlink_nest(struct mz_netlink *r, uint16_t type, const void *head, size_t n)
{
    const size_t at = NLMSG_ALIGN(r->head.nlmsg_len);
    mz_netlink_attr(r, type, head, n);
    return at;
}

void mz_netlink_nest_end(struct mz_netlink *r, size_t nest)
{
    struct rtattr at;
    char *p = (char *)r + nest;
    r->head.nlmsg_len =
        (uint32_t)NLMSG_ALIGN(r->head.nlmsg_len); /* what is inside must be there whole */
    memcpy(&at, p, sizeof(at));
    at.rta_len = (uint16_t)(r->head.nlmsg_len - nest);
    memcpy(p, &at, sizeof(at));
}

int mz_netlink_open(void)
{
    return socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_ROUTE);
}

int mz_netlink_ask(int fd, const struct mz_netlink *r)
{
    char answer[4096];
    struct nlmsghdr head;
    struct nlmsgerr e;
    if (send(fd, r, r->head.nlmsg_len, 0) < 0)
        return errno;
    const ssize_t n = recv(fd, answer, sizeof(answer), 0);
    if (n < (ssize_t)(sizeof(head) + sizeof(e)))
        return n < 0 ? errno : EPROTO;
    memcpy(&head, answer, sizeof(head));
    memcpy(&e, answer + NLMSG_HDRLEN, sizeof(e));
    return head.nlmsg_type == NLMSG_ERROR ? -e.error : EPROTO;
}
