#include "mesh/network.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/if_link.h>
#include <linux/rtnetlink.h>
#include <linux/veth.h>
#include <net/if.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/netlink.h"

void mz_mesh_ip_text(uint32_t ip, char out_text[16])
{
    (void)snprintf(out_text, 16, "%u.%u.%u.%u", ip >> 24, ip >> 16 & 255, ip >> 8 & 255, ip & 255);
}

static struct in6_addr six_of(uint32_t ip)
{
    struct in6_addr a = { .s6_addr = { 0xfd, 0x00, 0x02, 0x44 } };
    a.s6_addr[14] = (uint8_t)(ip >> 8);
    a.s6_addr[15] = (uint8_t)ip;
    return a;
}

void mz_mesh_ip6_text(uint32_t ip, char out_text[40])
{
    const struct in6_addr a = six_of(ip);
    (void)inet_ntop(AF_INET6, &a, out_text, 40);
}

static int link_up(int fd, const char *name)
{
    struct mz_netlink r;
    const struct ifinfomsg m = { .ifi_family = AF_UNSPEC,
                                 .ifi_index = (int)if_nametoindex(name),
                                 .ifi_flags = IFF_UP,
                                 .ifi_change = IFF_UP };
    mz_netlink_begin(&r, RTM_NEWLINK, 0, &m, sizeof(m));
    return mz_netlink_ask(fd, &r);
}

/* Its address is given: by itself a bridge takes the least of its ports' ones, another with each pod that comes or goes, and to those
 * who still know the one before nobody answers for half a minute. */
static int add_bridge(int fd)
{
    static const unsigned char address[] = { 0x02, 0, 0x0a, 0xf4, 0, 1 };
    struct mz_netlink r;
    const struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
    mz_netlink_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
    mz_netlink_attr_text(&r, IFLA_IFNAME, MZ_MESH_BRIDGE);
    mz_netlink_attr(&r, IFLA_ADDRESS, address, sizeof(address));
    const size_t info = mz_netlink_nest(&r, IFLA_LINKINFO, NULL, 0);
    mz_netlink_attr_text(&r, IFLA_INFO_KIND, "bridge");
    mz_netlink_nest_end(&r, info);
    return mz_netlink_ask(fd, &r);
}

static int add_address(int fd, const char *name, uint32_t ip)
{
    struct mz_netlink r;
    const struct ifaddrmsg m = { .ifa_family = AF_INET,
                                 .ifa_prefixlen = MZ_MESH_PREFIX,
                                 .ifa_index = if_nametoindex(name) };
    const uint32_t bytes = htonl(ip), last = htonl(ip | ((1u << (32 - MZ_MESH_PREFIX)) - 1));
    mz_netlink_begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
    mz_netlink_attr(&r, IFA_LOCAL, &bytes, sizeof(bytes));
    mz_netlink_attr(&r, IFA_ADDRESS, &bytes, sizeof(bytes));
    mz_netlink_attr(&r, IFA_BROADCAST, &last, sizeof(last));
    return mz_netlink_ask(fd, &r);
}

/* Nobody else can have it: it need not be looked for before it is used. */
static int add_address6(int fd, const char *name, uint32_t ip)
{
    struct mz_netlink r;
    const struct ifaddrmsg m = { .ifa_family = AF_INET6,
                                 .ifa_prefixlen = MZ_MESH_PREFIX6,
                                 .ifa_flags = IFA_F_NODAD,
                                 .ifa_index = if_nametoindex(name) };
    const struct in6_addr a = six_of(ip);
    mz_netlink_begin(&r, RTM_NEWADDR, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
    mz_netlink_attr(&r, IFA_LOCAL, &a, sizeof(a));
    mz_netlink_attr(&r, IFA_ADDRESS, &a, sizeof(a));
    return mz_netlink_ask(fd, &r);
}

static int add_default_route(int fd, uint32_t by, bool six)
{
    struct mz_netlink r;
    const struct rtmsg m = { .rtm_family = six ? AF_INET6 : AF_INET,
                             .rtm_table = RT_TABLE_MAIN,
                             .rtm_protocol = RTPROT_BOOT,
                             .rtm_scope = RT_SCOPE_UNIVERSE,
                             .rtm_type = RTN_UNICAST };
    const uint32_t bytes = htonl(by);
    const struct in6_addr a = six_of(by);
    mz_netlink_begin(&r, RTM_NEWROUTE, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
    if (six)
        mz_netlink_attr(&r, RTA_GATEWAY, &a, sizeof(a));
    else
        mz_netlink_attr(&r, RTA_GATEWAY, &bytes, sizeof(bytes));
    return mz_netlink_ask(fd, &r);
}

static void name_of(unsigned number, char out_name[IF_NAMESIZE])
{
    (void)snprintf(out_name, IF_NAMESIZE, "pod%u", number);
}

/* One end is a port of the bridge, the other the pod's eth0. */
static int add_pair(int fd, unsigned number, int pod_ns)
{
    struct mz_netlink r;
    char name[IF_NAMESIZE];
    const struct ifinfomsg m = { .ifi_family = AF_UNSPEC,
                                 .ifi_flags = IFF_UP,
                                 .ifi_change = IFF_UP },
                           peer = { .ifi_family = AF_UNSPEC };
    name_of(number, name);
    mz_netlink_begin(&r, RTM_NEWLINK, NLM_F_CREATE | NLM_F_EXCL, &m, sizeof(m));
    mz_netlink_attr_text(&r, IFLA_IFNAME, name);
    mz_netlink_attr_u32(&r, IFLA_MASTER, if_nametoindex(MZ_MESH_BRIDGE));
    const size_t info = mz_netlink_nest(&r, IFLA_LINKINFO, NULL, 0);
    mz_netlink_attr_text(&r, IFLA_INFO_KIND, "veth");
    const size_t data = mz_netlink_nest(&r, IFLA_INFO_DATA, NULL, 0),
                 other = mz_netlink_nest(&r, VETH_INFO_PEER, &peer, sizeof(peer));
    mz_netlink_attr_text(&r, IFLA_IFNAME, "eth0");
    mz_netlink_attr_u32(&r, IFLA_NET_NS_FD, (uint32_t)pod_ns);
    mz_netlink_nest_end(&r, other);
    mz_netlink_nest_end(&r, data);
    mz_netlink_nest_end(&r, info);
    return mz_netlink_ask(fd, &r);
}

static bool said(int error, const char *what, struct mz_err *err)
{
    return !error || mz_err_set(err, "cannot %s: %s", what, strerrordesc_np(error));
}

/* Pods without a proxy come to services through the node. */
static void forward(const char *path)
{
    const int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0)
        return; /* those pods have no services then */
    (void)!write(fd, "1", 1);
    (void)close(fd);
}

bool mz_mesh_network_node(bool *out_six, struct mz_err *err)
{
    const int fd = mz_netlink_open();
    if (fd < 0)
        return mz_err_set(err, "cannot open a netlink socket: %s", strerrordesc_np(errno));
    const bool ok = said(link_up(fd, "lo"), "start the loopback interface", err) &&
                    said(add_bridge(fd), "make a bridge (the kernel needs bridge and veth)", err) &&
                    said(add_address(fd, MZ_MESH_BRIDGE, MZ_MESH_NODE_IP),
                         "give the bridge its address", err) &&
                    said(link_up(fd, MZ_MESH_BRIDGE), "start the bridge", err);
    *out_six = ok && add_address6(fd, MZ_MESH_BRIDGE, MZ_MESH_NODE_IP) == 0;
    (void)close(fd);
    forward("/proc/sys/net/ipv4/ip_forward");
    if (*out_six)
        forward("/proc/sys/net/ipv6/conf/all/forwarding");
    return ok;
}

/* A netlink socket of @ns; -1 and errno. */
static int open_in(int ns, int back)
{
    if (setns(ns, CLONE_NEWNET) != 0)
        return -1;
    const int fd = mz_netlink_open();
    const int e = errno;
    if (setns(back, CLONE_NEWNET) != 0)
        abort(); /* nothing that follows would be where it belongs */
    errno = e;
    return fd;
}

static bool inside(int fd, int ns, int back, uint32_t ip, bool six, struct mz_err *err)
{
    if (setns(ns, CLONE_NEWNET) != 0) /* names of interfaces are this thread's */
        return mz_err_set(err, "cannot enter the pod's network: %s", strerrordesc_np(errno));
    const bool ok =
        said(link_up(fd, "lo"), "start the loopback interface", err) &&
        said(add_address(fd, "eth0", ip), "give the pod its address", err) &&
        (!six || said(add_address6(fd, "eth0", ip), "give the pod its IPv6 address", err)) &&
        said(link_up(fd, "eth0"), "start the pod's interface", err) &&
        said(add_default_route(fd, MZ_MESH_NODE_IP, false), "add the pod's route", err) &&
        (!six ||
         said(add_default_route(fd, MZ_MESH_NODE_IP, true), "add the pod's IPv6 route", err));
    if (setns(back, CLONE_NEWNET) != 0)
        abort();
    return ok;
}

bool mz_mesh_network_pod(int ns, int back, uint32_t ip, bool six, unsigned number,
                         struct mz_err *err)
{
    const int node = mz_netlink_open(), pod = open_in(ns, back);
    bool ok = node >= 0 && pod >= 0;
    if (!ok)
        mz_err_set(err, "cannot open a netlink socket: %s", strerrordesc_np(errno));
    ok = ok && said(add_pair(node, number, ns), "connect the pod with the bridge", err) &&
         inside(pod, ns, back, ip, six, err);
    if (node >= 0)
        (void)close(node);
    if (pod >= 0)
        (void)close(pod);
    return ok;
}

void mz_mesh_network_pod_gone(unsigned number)
{
    struct mz_netlink r;
    struct ifinfomsg m = { .ifi_family = AF_UNSPEC };
    char name[IF_NAMESIZE];
    name_of(number, name);
    m.ifi_index = (int)if_nametoindex(name);
    const int fd = m.ifi_index ? mz_netlink_open() : -1;
    if (fd < 0)
        return; /* it went with its namespace */
    mz_netlink_begin(&r, RTM_DELLINK, 0, &m, sizeof(m));
    (void)mz_netlink_ask(fd, &r); /* the same */
    (void)close(fd);
}

int mz_mesh_socket_in(int ns, int back)
{
    if (ns >= 0 && setns(ns, CLONE_NEWNET) != 0)
        return -1;
    const int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    const int e = errno;
    if (ns >= 0 && setns(back, CLONE_NEWNET) != 0)
        abort();
    errno = e;
    return fd;
}
