#include "mesh/client.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/alloc.h"
#include "mesh/line.h"
#include "mesh/state.h"

enum { ANSWER_S = 30, ANSWER_MAX = 64 << 20 };

struct mz_mesh_client {
    char name[MZ_MESH_NAME_MAX + 1];
    int fd;
    struct mz_mesh_line line;
};

/* By the folder's descriptor: paths may be longer than a socket's address has room for. */
static int connect_in(int root_fd, const char *name)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    const int dir = openat(root_fd, name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    int fd = dir < 0 ? -1 : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    (void)snprintf(a.sun_path, sizeof(a.sun_path), "/proc/self/fd/%d/control.sock", dir);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&a, sizeof(a)) != 0) {
        const int e = errno;
        (void)close(fd);
        fd = -1;
        errno = e;
    }
    if (dir >= 0)
        (void)close(dir);
    return fd;
}

static void answer_within(const struct mz_mesh_client *m, long seconds) /* 0: whenever */
{
    const struct timeval limit = { .tv_sec = seconds };
    (void)setsockopt(m->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)); /* else it waits */
}

struct mz_mesh_client *mz_mesh_open(const char *name_or_dir, struct mz_err *err)
{
    char name[MZ_MESH_NAME_MAX + 1];
    *err = (struct mz_err){ 0 };
    if (name_or_dir && !mz_mesh_name_of(name_or_dir, name, err))
        return NULL;
    const int root = mz_mesh_root_open(false, err);
    if (root < 0) {
        if (errno == ENOENT)
            mz_err_set(err, "no mesh is running (mizzenctl up DIR starts one)");
        return NULL;
    }
    if (!name_or_dir && !mz_mesh_only(root, name, err)) {
        (void)close(root);
        return NULL;
    }
    const int fd = connect_in(root, name);
    const int e = errno;
    if (fd < 0 && (e == ENOENT || e == ECONNREFUSED))
        mz_mesh_not_running(root, name, err);
    else if (fd < 0)
        mz_err_set(err, "the mesh \"%s\" does not answer: %s", name, strerrordesc_np(e));
    (void)close(root);
    if (fd < 0)
        return NULL;
    struct mz_mesh_client *m = mz_new0(MZ_MEM_MISC, struct mz_mesh_client);
    memcpy(m->name, name, sizeof(name));
    m->fd = fd;
    m->line.max = ANSWER_MAX;
    answer_within(m, ANSWER_S);
    return m;
}

void mz_mesh_close(struct mz_mesh_client *m)
{
    if (!m)
        return;
    (void)close(m->fd);
    mz_mesh_line_fini(&m->line);
    mz_free(MZ_MEM_MISC, m);
}

const char *mz_mesh_name(const struct mz_mesh_client *m)
{
    return m->name;
}

/* Takes @request. An answer with "error" is NULL and @err. */
static json_t *ask(struct mz_mesh_client *m, json_t *request, const int *fds, unsigned fds_n,
                   struct mz_err *err)
{
    json_t *answer = NULL;
    enum mz_mesh_read r = MZ_MESH_BAD;
    *err = (struct mz_err){ 0 };
    errno = EPIPE;
    if (mz_mesh_line_write(m->fd, request, fds, fds_n)) {
        do {
            errno = 0; /* MORE with EAGAIN: the time is over */
            r = mz_mesh_line_read(m->fd, &m->line, &answer);
        } while (r == MZ_MESH_MORE && errno != EAGAIN);
    }
    if (r != MZ_MESH_LINE) {
        mz_err_set(err, "the mesh \"%s\" %s", m->name,
                   r == MZ_MESH_END    ? "has ended"
                   : r == MZ_MESH_MORE ? "does not answer in time"
                   : errno == EPROTO   ? "answers what is not understood"
                                       : strerrordesc_np(errno));
        return NULL;
    }
    const char *why = json_string_value(json_object_get(answer, "error"));
    if (!why)
        return answer;
    mz_err_set(err, "%s", why);
    json_decref(answer);
    return NULL;
}

json_t *mz_mesh_list(struct mz_mesh_client *m, struct mz_err *err)
{
    return ask(m, json_pack("{s:s}", "op", "list"), NULL, 0, err);
}

int mz_mesh_dial(struct mz_mesh_client *m, const char *pod, uint16_t port, struct mz_err *err)
{
    json_t *a = ask(m, json_pack("{s:s, s:s, s:i}", "op", "dial", "pod", pod, "port", (int)port),
                    NULL, 0, err);
    if (!a)
        return -1;
    json_decref(a);
    const int fd = mz_mesh_line_take(&m->line, 0);
    m->line.fds_n = 0;
    if (fd < 0) {
        mz_err_set(err, "the mesh \"%s\" answers without a connection", m->name);
        return -1;
    }
    (void)fcntl(fd, F_SETFL, 0); /* blocking, as promised */
    return fd;
}

int mz_mesh_exec(struct mz_mesh_client *m, const struct mz_mesh_exec *e, struct mz_err *err)
{
    json_t *argv = json_array();
    for (size_t i = 0; e->argv[i]; i++)
        (void)json_array_append_new(argv, json_string(e->argv[i]));
    answer_within(m, 0);
    json_t *a = ask(m,
                    json_pack("{s:s, s:s, s:o, s:s*}", "op", "exec", "pod", e->pod, "argv", argv,
                              "container", e->container),
                    e->fds, 3, err);
    answer_within(m, ANSWER_S);
    if (!a)
        return -1;
    const int code = (int)json_integer_value(json_object_get(a, "exit"));
    json_decref(a);
    return code;
}

bool mz_mesh_stop(struct mz_mesh_client *m, struct mz_err *err)
{
    answer_within(m, 0);
    json_t *a = ask(m, json_pack("{s:s}", "op", "stop"), NULL, 0, err);
    json_decref(a);
    return a != NULL;
}
