#include "net/socket.h"

#include <errno.h>
#include <linux/netfilter_ipv4.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"

#define IP6T_SO_ORIGINAL_DST_NAME                                                                  \
    80 /* linux/netfilter_ipv6/ip6_tables.h does not compile in every libc */

/* Options of TCP and IP that stand at a cluster with a UNIX socket (Istio's bootstrap has a keepalive there) mean nothing to it. */
static bool means_nothing(int fd, const struct mz_socket_opt *s)
{
    int domain = 0;
    socklen_t n = sizeof(domain);
    return s->level != SOL_SOCKET && getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain, &n) == 0 &&
           domain == AF_UNIX;
}

bool mz_socket_opts_apply(int fd, const struct mz_socket_opts *o, enum mz_socket_state at,
                          struct mz_err *err)
{
    for (size_t i = 0; o && i < o->n; i++) {
        const struct mz_socket_opt *s = &o->v[i];
        if (s->state != at)
            continue;
        const void *p = s->is_int ? (const void *)&s->value : (const void *)s->bytes.p;
        socklen_t n = s->is_int ? (socklen_t)sizeof(s->value) : (socklen_t)s->bytes.n;
        if (setsockopt(fd, s->level, s->name, p, n) != 0 && !means_nothing(fd, s))
            return mz_err_set(err, "cannot set socket option (level %d, name %d): %s", s->level,
                              s->name, strerrordesc_np(errno));
    }
    return true;
}

static bool set_int(int fd, int level, int name, int value, const char *what, struct mz_err *err)
{
    if (setsockopt(fd, level, name, &value, sizeof(value)) == 0)
        return true;
    return mz_err_set(err, "cannot set %s: %s", what, strerrordesc_np(errno));
}

static bool prepare_ip(int fd, const struct mz_addr *a, const struct mz_listen_opts *o,
                       struct mz_err *err)
{
    bool v6 = a->sa.sa_family == AF_INET6;
    int level = v6 ? IPPROTO_IPV6 : IPPROTO_IP;
    if (!set_int(fd, SOL_SOCKET, SO_REUSEADDR, 1, "SO_REUSEADDR", err))
        return false;
    if (o->reuse_port && !set_int(fd, SOL_SOCKET, SO_REUSEPORT, 1, "SO_REUSEPORT", err))
        return false;
    if (v6 && !set_int(fd, IPPROTO_IPV6, IPV6_V6ONLY, !o->v4_compat, "IPV6_V6ONLY", err))
        return false;
    if (o->transparent && !set_int(fd, level, v6 ? IPV6_TRANSPARENT : IP_TRANSPARENT, 1,
                                   v6 ? "IPV6_TRANSPARENT" : "IP_TRANSPARENT", err))
        return false;
    if (o->freebind && !set_int(fd, level, v6 ? IPV6_FREEBIND : IP_FREEBIND, 1,
                                v6 ? "IPV6_FREEBIND" : "IP_FREEBIND", err))
        return false;
    return true;
}

/* A socket file that a dead process left behind is in the way of bind(); one that somebody listens on is not removed. */
static void unlink_stale(const struct mz_addr *a)
{
    struct stat st;
    struct sockaddr_storage to;
    const char *file = mz_addr_file(a);
    if (!file || stat(file, &st) != 0 || !S_ISSOCK(st.st_mode))
        return;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return;
    socklen_t len = mz_addr_sockaddr(a, &to);
    if (connect(fd, (struct sockaddr *)&to, len) != 0 && errno == ECONNREFUSED)
        (void)unlink(file); /* bind() reports what is wrong when this failed */
    (void)close(fd);
}

static bool bind_and_listen(int fd, const struct mz_addr *a, const struct mz_listen_opts *o,
                            struct mz_err *err)
{
    char text[MZ_ADDR_TEXT];
    struct sockaddr_storage at;
    bool is_unix = a->sa.sa_family == AF_UNIX;
    if (!is_unix && !prepare_ip(fd, a, o, err))
        return false;
    if (is_unix)
        unlink_stale(a);
    if (!mz_socket_opts_apply(fd, o->opts, MZ_SOCK_PREBIND, err))
        return false;
    mz_addr_text(a, text);
    socklen_t len = mz_addr_sockaddr(a, &at);
    if (bind(fd, (struct sockaddr *)&at, len) != 0)
        return mz_err_set(err, "cannot bind '%s': %s", text, strerrordesc_np(errno));
    const char *file = mz_addr_file(a);
    if (file && o->unix_mode && chmod(file, o->unix_mode) != 0)
        return mz_err_set(err, "cannot set the mode of '%s': %s", text, strerrordesc_np(errno));
    if (!mz_socket_opts_apply(fd, o->opts, MZ_SOCK_BOUND, err))
        return false;
    if (listen(fd, o->backlog ? o->backlog : SOMAXCONN) != 0)
        return mz_err_set(err, "cannot listen on '%s': %s", text, strerrordesc_np(errno));
    return mz_socket_opts_apply(fd, o->opts, MZ_SOCK_LISTENING, err);
}

int mz_socket_listen(const struct mz_addr *a, const struct mz_listen_opts *o, struct mz_err *err)
{
    int fd = socket(a->sa.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        char text[MZ_ADDR_TEXT];
        mz_addr_text(a, text);
        mz_err_set(err, "cannot make a socket for '%s': %s", text, strerrordesc_np(errno));
        return -1;
    }
    if (bind_and_listen(fd, a, o, err))
        return fd;
    (void)close(fd);
    return -1;
}

static bool is_transparent(int fd, bool v6)
{
    int on = 0;
    socklen_t len = sizeof(on);
    int rc = v6 ? getsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &on, &len)
                : getsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &on, &len);
    return rc == 0 && on;
}

bool mz_socket_original_dst(int fd, struct mz_addr *out_addr)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    struct mz_addr local;
    if (!mz_socket_local(fd, &local) || !mz_addr_is_ip(&local))
        return false;
    mz_addr_unmap(&local);
    bool v6 = local.sa.sa_family == AF_INET6;
    int rc = v6 ? getsockopt(fd, IPPROTO_IPV6, IP6T_SO_ORIGINAL_DST_NAME, &at, &len)
                : getsockopt(fd, IPPROTO_IP, SO_ORIGINAL_DST, &at, &len);
    if (rc != 0 && !is_transparent(fd, v6))
        return false;
    *out_addr = rc == 0 ? mz_addr_from_sockaddr(&at, len) : local;
    return true;
}

bool mz_socket_impersonate(int fd, bool foreign, uint32_t mark)
{
    int domain = AF_INET;
    socklen_t len = sizeof(domain);
    (void)getsockopt(fd, SOL_SOCKET, SO_DOMAIN, &domain,
                     &len); /* of IPv4 when it fails, which bind() then tells */
    if (mark && setsockopt(fd, SOL_SOCKET, SO_MARK, &mark, sizeof(mark)) != 0)
        return false;
    if (!foreign)
        return true;
    return domain == AF_INET6
               ? setsockopt(fd, IPPROTO_IPV6, IPV6_TRANSPARENT, &(int){ 1 }, sizeof(int)) == 0
               : setsockopt(fd, IPPROTO_IP, IP_TRANSPARENT, &(int){ 1 }, sizeof(int)) == 0;
}

bool mz_socket_local(int fd, struct mz_addr *out_addr)
{
    struct sockaddr_storage at;
    socklen_t len = sizeof(at);
    if (getsockname(fd, (struct sockaddr *)&at, &len) != 0)
        return false;
    *out_addr = mz_addr_from_sockaddr(&at, len);
    return true;
}
