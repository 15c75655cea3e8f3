#ifndef MZ_NET_NETLINK_H
#define MZ_NET_NETLINK_H
/* Requests to the kernel's routing socket (rtnetlink(7)): a message with attributes, and its acknowledgement. Blocking. */
#include <linux/netlink.h>
#include <stddef.h>
#include <stdint.h>

struct mz_netlink {
    struct nlmsghdr head;
    char body[1024 - sizeof(struct nlmsghdr)];
};
/* @flags beside NLM_F_REQUEST and NLM_F_ACK; @body: the message's own header (struct ifinfomsg ...). */
void mz_netlink_begin(struct mz_netlink *r, uint16_t type, uint16_t flags, const void *body, size_t n);
void mz_netlink_attr(struct mz_netlink *r, uint16_t type, const void *value, size_t n); /* aborts where there is no room */
void mz_netlink_attr_u32(struct mz_netlink *r, uint16_t type, uint32_t value);
void mz_netlink_attr_text(struct mz_netlink *r, uint16_t type, const char *value);
size_t mz_netlink_nest(struct mz_netlink *r, uint16_t type, const void *head, size_t n); /* what follows is inside, until end */
void mz_netlink_nest_end(struct mz_netlink *r, size_t nest);
int mz_netlink_open(void); /* of the thread's network namespace; -1 and errno */
int mz_netlink_ask(int fd, const struct mz_netlink *r); /* 0, or the errno of the answer */
#endif
