/* Runs a program and takes what it says. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include "agent/capture/capture.h"

#define OUTPUT_MAX (1u << 20)

struct pipes {
    int in[2], out[2];
};

static void close_all(struct pipes *p)
{
    for (int i = 0; i < 2; i++) {
        if (p->in[i] >= 0)
            (void)close(p->in[i]);
        if (p->out[i] >= 0)
            (void)close(p->out[i]);
    }
}

static void shut(int *fd)
{
    (void)close(*fd);
    *fd = -1;
}

/* Writes and reads in turns: neither side may wait for the other with a full pipe. */
static struct mz_str talk(struct mz_arena *a, struct pipes *p, struct mz_str input)
{
    MZ_VEC(char) out = { 0 };
    char part[4096];
    if (!input.n)
        shut(&p->in[1]);
    for (;;) {
        struct pollfd fds[2] = { { p->out[0], POLLIN, 0 }, { p->in[1], POLLOUT, 0 } };
        if (poll(fds, p->in[1] >= 0 ? 2 : 1, -1) < 0 && errno != EINTR)
            break;
        if (p->in[1] >= 0 && fds[1].revents) {
            ssize_t n = write(p->in[1], input.p, input.n);
            if (n > 0)
                input = mz_str_skip(input, (size_t)n);
            if (!input.n || (n < 0 && errno != EAGAIN && errno != EINTR))
                shut(&p->in[1]);
        }
        if (!fds[0].revents)
            continue;
        ssize_t n = read(p->out[0], part, sizeof(part));
        if (n == 0 || (n < 0 && errno != EINTR))
            break;
        for (ssize_t i = 0; i < n && out.n < OUTPUT_MAX; i++)
            *mz_vec_push(&out, MZ_MEM_CONFIG) = part[i];
    }
    struct mz_str all = mz_arena_dup(a, (struct mz_str){ out.v, out.n });
    mz_vec_free(&out, MZ_MEM_CONFIG);
    return all;
}

struct mz_capture_run mz_capture_exec(struct mz_arena *a, const char *const *argv,
                                      struct mz_str input)
{
    struct mz_capture_run r = { .status = 127 };
    struct pipes p = { { -1, -1 }, { -1, -1 } };
    posix_spawn_file_actions_t actions;
    char *args[64];
    size_t n = 0;
    pid_t pid;
    for (; argv[n] && n < 63; n++)
        args[n] = (char *)(uintptr_t)argv[n]; /* posix_spawn does not write to them */
    args[n] = NULL;
    if (!argv[0] || pipe2(p.in, O_CLOEXEC) != 0 || pipe2(p.out, O_CLOEXEC) != 0) {
        close_all(&p);
        return r;
    }
    (void)fcntl(p.in[1], F_SETFL, O_NONBLOCK);
    (void)posix_spawn_file_actions_init(&actions);
    (void)posix_spawn_file_actions_adddup2(&actions, p.in[0], 0);
    (void)posix_spawn_file_actions_adddup2(&actions, p.out[1], 1);
    (void)posix_spawn_file_actions_adddup2(&actions, p.out[1], 2);
    int rc = posix_spawnp(&pid, argv[0], &actions, NULL, args, environ);
    (void)posix_spawn_file_actions_destroy(&actions);
    if (rc != 0) {
        close_all(&p);
        r.out = mz_arena_dup(a, mz_str_c(strerrordesc_np(rc)));
        return r;
    }
    shut(&p.in[0]);
    shut(&p.out[1]);
    r.out = talk(a, &p, input);
    close_all(&p);
    int status;
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return r;
}
