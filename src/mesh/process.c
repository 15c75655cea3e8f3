#include "mesh/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>

#include "base/alloc.h"

bool mz_mesh_process_start(struct mz_list *all, struct mz_mesh_process *p,
                           const struct mz_mesh_spawn *s,
                           void (*ended)(struct mz_mesh_process *p, int code), struct mz_err *err)
{
    const pid_t pid = mz_mesh_spawn(s, err);
    if (pid < 0)
        return false;
    *p = (struct mz_mesh_process){ .pid = pid, .host_pid = mz_mesh_host_pid(pid), .ended = ended };
    mz_list_add_tail(all, &p->link);
    return true;
}

void mz_mesh_process_signal(const struct mz_mesh_process *p, int signo)
{
    if (p->pid > 0 && kill(-p->pid, signo) != 0)
        (void)kill(p->pid, signo); /* before it led a group; or it has just ended */
}

void mz_mesh_process_abandon(struct mz_mesh_process *p)
{
    if (!p->pid)
        return;
    mz_mesh_process_signal(p, SIGKILL);
    mz_list_del(&p->link);
    p->pid = p->host_pid = 0;
}

static struct mz_mesh_process *find(struct mz_list *all, pid_t pid)
{
    mz_list_foreach (it, all) {
        struct mz_mesh_process *p = MZ_CONTAINER(it, struct mz_mesh_process, link);
        if (p->pid == pid)
            return p;
    }
    return NULL;
}

void mz_mesh_processes_reap(struct mz_list *all)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0 || (pid < 0 && errno == EINTR)) {
        struct mz_mesh_process *p = pid > 0 ? find(all, pid) : NULL;
        if (!p)
            continue;
        mz_list_del(&p->link);
        p->pid = p->host_pid = 0;
        p->ended(p, WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
    }
}

/* ---- what the kernel tells of them ---- */

struct mz_mesh_memory mz_mesh_process_memory(pid_t host_pid)
{
    char path[64], line[256];
    struct mz_mesh_memory m = { 0 };
    (void)snprintf(path, sizeof(path), "/proc/%d/smaps_rollup", (int)host_pid);
    FILE *f = host_pid ? fopen(path, "re") : NULL;
    while (f && fgets(line, sizeof(line), f)) {
        if (strncmp(line, "Rss:", 4) == 0)
            m.rss_kb = strtoull(line + 4, NULL, 10);
        else if (strncmp(line, "Pss:", 4) == 0)
            m.pss_kb = strtoull(line + 4, NULL, 10);
    }
    if (f)
        (void)fclose(f);
    return m;
}

size_t mz_mesh_process_tree(pid_t host_pid, pid_t *out, size_t max)
{
    size_t n = 0;
    if (host_pid && max)
        out[n++] = host_pid;
    for (size_t at = 0; at < n; at++) {
        char path[64];
        char line[2048], *at_text = line, *end;
        (void)snprintf(path, sizeof(path), "/proc/%d/task/%d/children", (int)out[at], (int)out[at]);
        FILE *f = fopen(path, "re");
        const bool any = f && fgets(line, sizeof(line), f);
        for (long child; any && n < max && (child = strtol(at_text, &end, 10)) > 0; at_text = end)
            out[n++] = (pid_t)child;
        if (f)
            (void)fclose(f);
    }
    return n;
}

void mz_mesh_process_command(pid_t host_pid, char out[32])
{
    char path[64];
    (void)snprintf(path, sizeof(path), "/proc/%d/comm", (int)host_pid);
    FILE *f = fopen(path, "re");
    out[0] = 0;
    if (f && fgets(out, 32, f))
        out[strcspn(out, "\n")] = 0;
    if (f)
        (void)fclose(f);
}
