/*
 * --run-validation: this program stands at the proxy's ports and dials the probe's port as an application would; the connection
 * must come to it, with the port it was made for. The owner of a socket is who made it, so dialing is done as the proxy's user.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/capture/capture.h"

union address {
    struct sockaddr any;
    struct sockaddr_in four;
    struct sockaddr_in6 six;
};

static socklen_t make(union address *a, bool six, unsigned char last, uint16_t port)
{
    memset(a, 0, sizeof(*a));
    if (six) {
        a->six.sin6_family = AF_INET6;
        a->six.sin6_addr.s6_addr[15] = last;
        a->six.sin6_port = htons(port);
        return sizeof(a->six);
    }
    a->four.sin_family = AF_INET;
    a->four.sin_addr.s_addr = htonl(0x7f000000u | last);
    a->four.sin_port = htons(port);
    return sizeof(a->four);
}

static uint16_t number(const char *text)
{
    uint64_t v = 0;
    (void)mz_str_u64(mz_str_c(text), &v); /* checked */
    return (uint16_t)v;
}

static int listen_at(bool six, uint16_t port)
{
    union address a;
    const int on = 1;
    socklen_t n = make(&a, six, 1, port);
    int fd = socket(a.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on));
    if (bind(fd, &a.any, n) == 0 && listen(fd, 16) == 0)
        return fd;
    (void)close(fd);
    return -1;
}

static int dial(const struct mz_capture_config *c, bool six)
{
    union address from, to;
    uint64_t uid = 0;
    const uid_t me = geteuid();
    const bool other = me == 0 && mz_str_u64(mz_str_c(c->uid), &uid) && seteuid((uid_t)uid) == 0;
    int fd = socket(six ? AF_INET6 : AF_INET, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (other && seteuid(me) != 0)
        _exit(1); /* nothing may go on as somebody else */
    if (fd < 0)
        return -1;
    const socklen_t n = make(&from, six, 1, 0);
    (void)make(&to, six, 6, number(c->probe_port));
    if (bind(fd, &from.any, n) == 0 && (connect(fd, &to.any, n) == 0 || errno == EINPROGRESS))
        return fd;
    (void)close(fd);
    return -1;
}

/* A connection that came: was it made for the probe's port? */
static bool arrived(int listener, bool six, uint16_t port)
{
    union address a = { 0 };
    socklen_t n = sizeof(a);
    int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0)
        return false;
    bool ok = getsockopt(fd, six ? SOL_IPV6 : SOL_IP, SO_ORIGINAL_DST, &a, &n) == 0 &&
              ntohs(six ? a.six.sin6_port : a.four.sin_port) == port;
    (void)close(fd);
    return ok;
}

bool mz_capture_probe(const struct mz_capture_config *c, struct mz_err *err)
{
    const bool six = strchr(c->host_ip, ':') != NULL;
    struct pollfd fds[2] = { { listen_at(six, number(c->proxy_port)), POLLIN, 0 },
                             { listen_at(six, number(c->inbound_port)), POLLIN, 0 } };
    uint64_t patience_ms;
    bool ok = false;
    if (!mz_agent_duration(c->probe_timeout, &patience_ms))
        return mz_err_set(err, "probe-timeout: \"%.60s\" is no duration like 5s", c->probe_timeout);
    if (fds[0].fd < 0 && fds[1].fd < 0)
        return mz_err_set(err, "cannot listen on ports %s and %s", c->proxy_port, c->inbound_port);
    for (uint64_t waited = 0; !ok && waited < patience_ms; waited += 100) {
        int fd = dial(c, six);
        if (poll(fds, 2, 100) > 0)
            for (int i = 0; i < 2; i++)
                ok = ok ||
                     ((fds[i].revents & POLLIN) && arrived(fds[i].fd, six, number(c->probe_port)));
        if (fd >= 0)
            (void)close(fd);
    }
    for (int i = 0; i < 2; i++)
        if (fds[i].fd >= 0)
            (void)close(fds[i].fd);
    if (ok)
        printf("[info] Validation passed, connections are captured\n");
    return ok ? true
              : mz_err_set(err,
                           "connections are not captured: none came to port %s or %s within %s",
                           c->proxy_port, c->inbound_port, c->probe_timeout);
}
