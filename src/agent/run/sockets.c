/* The sockets that the proxy asks: for this user and root, whoever else may be in the pod. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/run/run_priv.h"
#include "base/log.h"
#include "net/addr.h"

bool agent_folders(const char *path, struct mz_err *err)
{
    char folder[512];
    const size_t n = strlen(path);
    if (n >= sizeof(folder))
        return mz_err_set(err, "too long a path: %.100s", path);
    memcpy(folder, path, n + 1);
    for (char *p = folder + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return mz_err_set(err, "cannot make the folder %s: %s", folder, strerrordesc_np(errno));
        *p = '/';
    }
    return true;
}

/* The user at the other end; -1: not known. */
static int peer_of(int fd)
{
    struct ucred c;
    socklen_t n = sizeof(c);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) == 0 ? (int)c.uid : -1;
}

static bool is_friend(int uid)
{
    return uid == 0 || (uid > 0 && (uid_t)uid == geteuid());
}

/* Others on the machine get neither keys nor streams. */
static bool admit(int fd)
{
    const int uid = peer_of(fd);
    if (is_friend(uid))
        return true;
    MZ_LOG(WARN, secret, "user %d is refused at a socket of the proxy's", uid);
    return false;
}

bool agent_is_served(const char *path, struct mz_err *err)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    *err = (struct mz_err){ 0 };
    if (strlen(path) >= sizeof(a.sun_path))
        return false;
    memcpy(a.sun_path, path, strlen(path) + 1);
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool served = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    const int uid = served ? peer_of(fd) : 0;
    if (fd >= 0)
        (void)close(fd);
    return served && is_friend(uid) ? true
           : served ? mz_err_set(err, "%s: user %d serves there, neither root nor us", path, uid)
                    : false;
}

struct mz_grpc_server *agent_serve(struct agent *g, const char *path, struct mz_err *err)
{
    static const struct mz_grpc_server_opts o = { .max_receive = 64u << 20,
                                                  .max_queue = 4u << 20,
                                                  .admit = admit };
    struct mz_addr a;
    if (agent_is_served(path, err)) {
        mz_err_set(err, "%s: another process serves there", path);
        return NULL;
    }
    if (err->msg[0] || !agent_folders(path, err) || !mz_addr_unix(mz_str_c(path), &a, err))
        return NULL;
    (void)unlink(path); /* of an agent before us, or a link: where that leads to is left alone */
    struct mz_grpc_server *s = mz_grpc_server_create(g->loop, NULL, 0, NULL, &o);
    const mode_t before = umask(0177);
    const bool ok = mz_grpc_server_listen(s, &a, NULL, NULL, err);
    (void)umask(before);
    if (ok)
        return s;
    mz_grpc_server_destroy(s);
    return mz_err_at(err, "%s", path), NULL;
}
