#ifndef MZ_NET_SOCKET_H
#define MZ_NET_SOCKET_H
/* Listening sockets and socket options (L1); all on the main thread at start or update. */
#include "base/err.h"
#include "net/addr.h"
#include <stddef.h>

enum mz_socket_state { MZ_SOCK_PREBIND, MZ_SOCK_BOUND, MZ_SOCK_LISTENING };
struct mz_socket_opt {
    int level, name;
    enum mz_socket_state state;
    bool is_int;
    int value;
    struct mz_str bytes; /* when !is_int */
};
struct mz_socket_opts {
    struct mz_socket_opt *v;
    size_t n;
};
bool mz_socket_opts_apply(int fd, const struct mz_socket_opts *o, enum mz_socket_state at, struct mz_err *err);

struct mz_listen_opts {
    int backlog; /* 0: SOMAXCONN */
    bool reuse_port, transparent, freebind, v4_compat;
    unsigned unix_mode; /* 0: umask */
    const struct mz_socket_opts *opts;
};
/* Returns a bound, listening, non-blocking descriptor or -1 (err: "cannot bind '127.0.0.1:80': Address already in use"). */
int mz_socket_listen(const struct mz_addr *a, const struct mz_listen_opts *o, struct mz_err *err);
/* Where the peer of an accepted connection wanted to go: before REDIRECT (conntrack knows), or, where TPROXY brought it to a
 * transparent socket, the socket's own address. False: not known. */
bool mz_socket_original_dst(int fd, struct mz_addr *out_addr);
/* @foreign: it may bind to addresses of other machines; @mark: SO_MARK, 0: none. False: errno (EPERM without CAP_NET_ADMIN). */
bool mz_socket_impersonate(int fd, bool foreign, uint32_t mark);
bool mz_socket_local(int fd, struct mz_addr *out_addr); /* getsockname(); false: errno says why */
#endif
