/* The control socket: what a mesh is asked by mizzenctl (line.h, client.h). */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/log.h"
#include "base/near.h"
#include "mesh/json.h"
#include "mesh/line.h"
#include "mesh/network.h"
#include "mesh/supervisor_priv.h"

enum { MAX_CLIENTS = 64, MAX_LINE = 256 << 10, DIAL_MS = 5000, MAX_WORDS = 1000, MAX_TREE = 64 };

struct client {
    struct mz_list link;
    struct serve *of;
    struct mz_io io;
    struct mz_mesh_line line;
    bool busy, gone, stops;         /* @stops: it waits for the end of all */
    struct mz_mesh_process process; /* exec */
    struct mz_io dial;
    struct mz_timer limit;
};
struct serve {
    struct supervisor *s;
    struct mz_io io;
    struct mz_list clients;
    unsigned n;
};

static void client_free(void *p)
{
    mz_free(MZ_MEM_MISC, p);
}

static void end_dial(struct client *c)
{
    mz_timer_stop(&c->limit);
    if (c->dial.fd >= 0) {
        mz_io_del(&c->dial);
        (void)close(c->dial.fd);
    }
    c->dial.fd = -1;
}

static void client_close(struct client *c)
{
    if (c->gone)
        return;
    c->gone = true;
    end_dial(c);
    mz_mesh_process_abandon(&c->process);
    mz_io_del(&c->io);
    (void)close(c->io.fd);
    mz_mesh_line_fini(&c->line);
    mz_list_del(&c->link);
    c->of->n--;
    mz_loop_free_later(c->of->s->node.loop, c, client_free);
}

static void answer(struct client *c, json_t *object, int fd)
{
    c->busy = false;
    if (!mz_mesh_line_write(c->io.fd, object, &fd, fd >= 0))
        client_close(c);
    else
        mz_io_again(&c->io, MZ_IO_READ); /* the next request may be there */
}

__attribute__((format(printf, 2, 3))) static void refuse(struct client *c, const char *fmt, ...)
{
    char text[600];
    va_list ap;
    va_start(ap, fmt);
    (void)vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    answer(c, json_pack("{s:s}", "error", text), -1);
}

/* ---- pods by name ---- */

static bool is_named(const struct mz_mesh_pod *p, const char *name)
{
    char full[200];
    (void)snprintf(full, sizeof(full), "%s/%s", p->spec->ns, p->spec->name);
    if (strcmp(full, name) == 0 || strcmp(p->spec->name, name) == 0)
        return true;
    (void)snprintf(full, sizeof(full), "%s.%s", p->spec->name, p->spec->ns);
    return strcmp(full, name) == 0;
}

/* "reviews-v1", "demo/reviews-v1": the name is the last of "demo/Deployment/reviews-v1". */
static bool is_workload(const struct mz_mesh_pod *p, const char *name)
{
    const char *last = strrchr(p->workload, '/') + 1, *slash = strchr(name, '/');
    const bool ns = !slash || (strncmp(name, p->spec->ns, (size_t)(slash - name)) == 0 &&
                               p->spec->ns[slash - name] == 0);
    return ns && strcmp(last, slash ? slash + 1 : name) == 0;
}

/* A ready one rather than another. NULL: @c was refused. */
static struct mz_mesh_pod *find_pod(struct client *c, const char *name)
{
    struct supervisor *s = c->of->s;
    struct mz_mesh_pod *found = NULL;
    const char *slash = strrchr(name, '/');
    struct mz_near near;
    mz_near_init(&near, mz_str_c(slash ? slash + 1 : name));
    mz_list_foreach (it, &s->pods) {
        struct mz_mesh_pod *p = MZ_CONTAINER(it, struct mz_mesh_pod, link);
        if (is_named(p, name))
            return p;
        if (is_workload(p, name) && (!found || (p->ready && !found->ready)))
            found = p;
        mz_near_try(&near, mz_str_c(strrchr(p->workload, '/') + 1));
        mz_near_try(&near, mz_str_c(p->spec->name));
    }
    if (!found)
        refuse(c, "there is no pod \"%.200s\" in the mesh \"%s\"%s", name, s->o->name,
               mz_near_text(&near));
    return found;
}

/* ---- list ---- */

static void add_memory(json_t *o, struct mz_mesh_memory m)
{
    (void)json_object_set_new(o, "rss_kb", json_integer((json_int_t)m.rss_kb));
    (void)json_object_set_new(o, "pss_kb", json_integer((json_int_t)m.pss_kb));
}

static json_t *process_json(pid_t pid, struct mz_mesh_memory *sum)
{
    const struct mz_mesh_memory m = mz_mesh_process_memory(pid);
    char command[32];
    mz_mesh_process_command(pid, command);
    json_t *o = json_pack("{s:i, s:s}", "pid", (int)pid, "command", command);
    add_memory(o, m);
    sum->rss_kb += m.rss_kb;
    sum->pss_kb += m.pss_kb;
    return o;
}

static json_t *container_json(const struct mz_mesh_container *c)
{
    static const char *const states[] = { "waiting", "running", "back-off", "ended" },
                             *const roles[] = { "app", "proxy", "sidecar", "init", "init" };
    struct mz_mesh_memory sum = { 0 };
    pid_t tree[MAX_TREE];
    const size_t n = mz_mesh_process_tree(c->process.host_pid, tree, MAX_TREE);
    json_t *processes = json_array();
    char log[1024];
    for (size_t i = 0; i < n; i++)
        (void)json_array_append_new(processes, process_json(tree[i], &sum));
    json_t *o =
        json_pack("{s:s, s:s, s:i, s:s, s:i, s:i, s:s, s:o}", "name", c->spec->name, "role",
                  roles[c->spec->role], "pid", (int)c->process.host_pid, "state", states[c->state],
                  "restarts", (int)c->restarts, "exit", c->code, "log",
                  mz_mesh_pod_log(c->pod, c->spec->name, log, sizeof(log)), "processes", processes);
    add_memory(o, sum);
    return o;
}

static const char *proxy_of(json_t *containers, const struct mz_mesh_pod *p)
{
    size_t at, k;
    json_t *c, *one;
    if (!p->spec->injected)
        return "none";
    json_array_foreach(containers, at,
                       c) if (strcmp(mz_json_text(c, "name", ""), "istio-proxy") == 0)
        json_array_foreach(json_object_get(c, "processes"), k,
                           one) if (strncmp(mz_json_text(one, "command", ""), "envoy", 5) ==
                                    0) return "envoy";
    return "mizzen";
}

static json_t *pod_json(const struct mz_mesh_pod *p)
{
    json_t *containers = json_array();
    for (size_t i = 0; i < p->n; i++)
        (void)json_array_append_new(containers, container_json(&p->v[i]));
    json_t *labels = mz_json_at(p->spec->object, "metadata", "labels", NULL);
    return json_pack(
        "{s:s, s:s, s:s, s:O, s:s, s:s, s:s, s:b, s:i, s:s, s:s, s:s, s:s, s:b, s:I, s:I, s:o}",
        "name", p->spec->name, "namespace", p->spec->ns, "ip", p->spec->ip, "labels", labels,
        "account", p->spec->account, "node",
        mz_json_text(json_object_get(p->spec->object, "spec"), "nodeName", ""), "workload",
        p->workload, "ready", p->ready, "restarts", (int)mz_mesh_pod_restarts(p), "phase",
        mz_mesh_phase_name(p->phase), "why", p->why, "kind", p->spec->gateway ? "gateway" : "app",
        "proxy", proxy_of(containers, p), "leaving", p->leaving, "ready_ms",
        (json_int_t)(p->ready_after_us / 1000), "created_us", (json_int_t)p->created_us,
        "containers", containers);
}

static void op_list(struct client *c, json_t *request)
{
    struct supervisor *s = c->of->s;
    struct mz_mesh_memory sum = { 0 };
    json_t *pods = json_array();
    (void)request;
    mz_list_foreach (it, &s->pods)
        (void)json_array_append_new(pods, pod_json(MZ_CONTAINER(it, struct mz_mesh_pod, link)));
    answer(c,
           json_pack("{s:s, s:s, s:s, s:b, s:o, s:o, s:o, s:o}", "name", s->o->name, "dir",
                     s->folder->dir, "state", s->node.state, "ready", s->told, "pods", pods,
                     "mizzend", process_json(s->mizzend.host_pid, &sum), "supervisor",
                     process_json(mz_mesh_host_pid(getpid()), &sum), "services_published",
                     mz_mesh_publisher_list(s->publisher)),
           -1);
}

/* ---- dial ---- */

static void on_dialled(struct mz_io *io, unsigned events)
{
    struct client *c = MZ_CONTAINER(io, struct client, dial);
    int e = 0;
    socklen_t n = sizeof(e);
    (void)events;
    if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &e, &n) != 0)
        e = errno;
    const int fd = e ? -1 : dup(io->fd);
    end_dial(c);
    if (fd < 0) {
        refuse(c, "nobody answers there: %s", strerrordesc_np(e));
        return;
    }
    answer(c, json_pack("{s:b}", "ok", 1), fd);
    (void)close(fd);
}

static void on_dial_limit(struct mz_timer *t)
{
    struct client *c = MZ_CONTAINER(t, struct client, limit);
    end_dial(c);
    refuse(c, "nobody answers there: %s", strerrordesc_np(ETIMEDOUT));
}

static void op_dial(struct client *c, json_t *request)
{
    struct supervisor *s = c->of->s;
    const char *name = mz_json_text(request, "pod", "");
    const json_int_t port = mz_json_number(request, "port", 0);
    struct sockaddr_in to = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    const bool node = strcmp(name, "mizzend") == 0;
    const struct mz_mesh_pod *p = node ? NULL : find_pod(c, name);
    if (!node && !p)
        return;
    if (port <= 0 || port > UINT16_MAX || (p && p->sandbox.net < 0)) {
        refuse(c, "%s",
               p && p->sandbox.net < 0 ? "the pod has ended" : "port: must be in 1..65535");
        return;
    }
    to.sin_port = htons((uint16_t)port);
    const int fd = mz_mesh_socket_in(p ? p->sandbox.net : -1, s->node.net);
    if (fd < 0 ||
        (connect(fd, (const struct sockaddr *)&to, sizeof(to)) != 0 && errno != EINPROGRESS) ||
        mz_io_add(s->node.loop, &c->dial, fd, on_dialled) != 0) {
        const int e = errno;
        if (fd >= 0)
            (void)close(fd);
        c->dial.fd = -1;
        refuse(c, "nobody answers there: %s", strerrordesc_np(e));
        return;
    }
    mz_timer_start_ms(&c->limit, DIAL_MS);
}

/* ---- exec ---- */

static void on_exec_ended(struct mz_mesh_process *p, int code)
{
    answer(MZ_CONTAINER(p, struct client, process), json_pack("{s:i}", "exit", code), -1);
}

static bool words(struct client *c, json_t *list, const char **out)
{
    size_t at, n = json_array_size(list);
    json_t *one;
    if (!n || n >= MAX_WORDS)
        return false;
    json_array_foreach(list, at, one)
    {
        out[at] = json_string_value(one);
        if (!out[at])
            return false;
    }
    out[n] = NULL;
    (void)c;
    return true;
}

static void op_exec(struct client *c, json_t *request)
{
    const char *argv[MAX_WORDS], *name = mz_json_text(request, "container", NULL);
    struct mz_mesh_pod *p = find_pod(c, mz_json_text(request, "pod", ""));
    struct mz_err err = { .path = "", .msg = "" };
    if (!p)
        return;
    const struct mz_mesh_container *in = mz_mesh_pod_container(p, name);
    const int fds[] = { mz_mesh_line_take(&c->line, 0), mz_mesh_line_take(&c->line, 1),
                        mz_mesh_line_take(&c->line, 2) };
    c->line.fds_n = 0;
    bool ok = false;
    if (!in)
        mz_err_set(&err, "there is no container \"%.80s\" in the pod %s", name ? name : "",
                   p->spec->name);
    else if (p->sandbox.net < 0)
        mz_err_set(&err, "the pod %s has ended", p->spec->name);
    else if (!words(c, json_object_get(request, "argv"), argv) || fds[2] < 0)
        mz_err_set(&err, "exec needs a command and three descriptors");
    else {
        const struct mz_mesh_spawn spawn = { .in = &p->sandbox,
                                             .argv = argv,
                                             .env = in->spec->env,
                                             .dir = in->spec->dir,
                                             .gid = in->spec->gid,
                                             .caps = in->spec->caps,
                                             .fds = { fds[0], fds[1], fds[2] } };
        ok = mz_mesh_process_start(&c->of->s->node.processes, &c->process, &spawn, on_exec_ended,
                                   &err);
    }
    for (int i = 0; i < 3; i++)
        if (fds[i] >= 0)
            (void)close(fds[i]);
    if (!ok)
        refuse(c, "%s", err.msg);
}

/* ---- stop ---- */

static void op_stop(struct client *c, json_t *request)
{
    (void)request;
    c->stops = true;
    supervisor_stop(c->of->s);
}

void serve_stopped(struct serve *v)
{
    mz_list_foreach (it, &v->clients) {
        struct client *c = MZ_CONTAINER(it, struct client, link);
        if (c->stops)
            answer(c, json_pack("{s:b}", "ok", 1), -1);
    }
}

/* ---- clients ---- */

static const struct {
    const char *name;
    void (*run)(struct client *c, json_t *request);
} ops[] = {
    { "dial", op_dial },
    { "exec", op_exec },
    { "list", op_list },
    { "stop", op_stop },
};

static void handle(struct client *c, json_t *request)
{
    const char *op = mz_json_text(request, "op", "");
    c->busy = true;
    for (size_t i = 0; i < MZ_COUNT(ops); i++)
        if (strcmp(ops[i].name, op) == 0) {
            ops[i].run(c, request);
            return;
        }
    refuse(c, "op: \"%.40s\" is not dial, exec, list or stop", op);
}

static void on_client(struct mz_io *io, unsigned events)
{
    struct client *c = MZ_CONTAINER(io, struct client, io);
    while (!c->busy && !c->gone) {
        json_t *request = NULL;
        errno = 0; /* MORE with EAGAIN: nothing is left to read */
        switch (mz_mesh_line_read(io->fd, &c->line, &request)) {
        case MZ_MESH_MORE:
            if (errno == EAGAIN)
                return;
            break;
        case MZ_MESH_LINE:
            handle(c, request);
            json_decref(request);
            break;
        case MZ_MESH_END:
        case MZ_MESH_BAD:
            client_close(c);
            return;
        }
    }
    if (!c->gone && (events & (MZ_IO_HUP | MZ_IO_END)))
        client_close(c); /* what it asked for ends with it */
}

/* The folder is this user's alone; in a user namespace the machine's root is nobody that can be named. */
static bool admit(int fd)
{
    struct ucred who;
    socklen_t n = sizeof(who);
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) == 0 &&
           (who.uid == geteuid() || who.uid == 0 || who.uid == 65534);
}

static void on_accept(struct mz_io *io, unsigned events)
{
    struct serve *v = MZ_CONTAINER(io, struct serve, io);
    (void)events;
    const int fd = accept4(io->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0)
        return;
    if (v->n >= MAX_CLIENTS || !admit(fd)) {
        (void)close(fd);
        return;
    }
    struct client *c = mz_new0(MZ_MEM_MISC, struct client);
    c->of = v;
    c->line.max = MAX_LINE;
    c->dial.fd = -1;
    mz_timer_init(v->s->node.loop, &c->limit, on_dial_limit);
    mz_list_add_tail(&v->clients, &c->link);
    v->n++;
    if (mz_io_add(v->s->node.loop, &c->io, fd, on_client) != 0)
        MZ_LOG(ERROR, main, "a client cannot be watched");
}

struct serve *serve_create(struct supervisor *s, int listening)
{
    struct serve *v = mz_new0(MZ_MEM_MISC, struct serve);
    v->s = s;
    mz_list_init(&v->clients);
    if (mz_io_add_level(s->node.loop, &v->io, listening, MZ_IO_READ, on_accept) != 0)
        MZ_LOG(ERROR, main, "the control socket cannot be watched");
    return v;
}

void serve_destroy(struct serve *v)
{
    if (!v)
        return;
    mz_list_foreach (it, &v->clients)
        client_close(MZ_CONTAINER(it, struct client, link));
    mz_io_del(&v->io);
    (void)close(v->io.fd);
    mz_free(MZ_MEM_MISC, v);
}
