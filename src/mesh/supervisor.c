#include "mesh/supervisor.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/program.h"
#include "control/ca/authority.h"
#include "control/ca/token.h"
#include "control/model/model.h"
#include "mesh/json.h"
#include "mesh/line.h"
#include "mesh/network.h"
#include "mesh/supervisor_priv.h"

enum {
    MIZZEND_PAUSE_MS = 100,
    MIZZEND_MAX_MS = 10000,
    LASTED_US = 60000000,
    HOPELESS_US = 2000000,
    TOKENS_MS = 6 * 3600 * 1000,
    LOGS_MS = 3000
};

static struct mz_mesh_pod *pod_at(struct mz_list *it)
{
    return MZ_CONTAINER(it, struct mz_mesh_pod, link);
}

void say(const struct supervisor *s, const char *fmt, ...)
{
    va_list ap;
    if (s->o->quiet)
        return;
    va_start(ap, fmt);
    (void)vprintf(fmt, ap); /* the terminal's affair */
    va_end(ap);
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

/* ---- who stays in the machine's network ---- */

static void tell_keeper(const struct supervisor *s, json_t *object)
{
    (void)mz_mesh_line_write(s->o->keeper, object, NULL, 0); /* gone: so are we, soon */
}

/* It answers at once: a moment's wait is nothing to what a changed document costs. */
static int ask_listen(void *arg, const struct mz_mesh_port *p, struct mz_err *err)
{
    const struct supervisor *s = arg;
    struct mz_mesh_line l = { .max = 4096 };
    json_t *answer = NULL;
    enum mz_mesh_read r;
    tell_keeper(s, json_pack("{s:i}", "listen", (int)p->host_port));
    do
        r = mz_mesh_line_read(s->o->keeper, &l, &answer);
    while (r == MZ_MESH_MORE);
    const char *why = json_string_value(json_object_get(answer, "error"));
    const int fd = mz_mesh_line_take(&l, 0);
    if (fd < 0) {
        mz_err_set(err, "cannot publish port %u at 127.0.0.1:%u: %s", p->port, p->host_port,
                   why ? why : "nobody listens");
        (void)mz_mesh_doc_err(p->doc, err);
    }
    json_decref(answer);
    mz_mesh_line_fini(&l);
    return fd;
}

/* ---- published ports ---- */

static bool selects(const json_t *selector, json_t *labels)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)(uintptr_t)selector, key,
                        value) if (!json_equal(value, json_object_get(labels, key))) return false;
    return json_object_size(selector) > 0;
}

uint16_t supervisor_port_of(const struct mz_mesh_pod *p, const struct mz_mesh_port *port)
{
    const char *name = json_string_value(port->target);
    size_t at, k;
    json_t *c, *one;
    if (!name)
        return port->target ? (uint16_t)json_integer_value(port->target) : port->port;
    json_array_foreach(mz_json_at(p->spec->object, "spec", "containers", NULL), at, c)
        json_array_foreach(json_object_get(c, "ports"), k,
                           one) if (strcmp(mz_json_text(one, "name", ""), name) ==
                                    0) return (uint16_t)mz_json_number(one, "containerPort", 0);
    return 0;
}

bool supervisor_is_behind(const struct mz_mesh_pod *p, const struct mz_mesh_port *port)
{
    char key[256];
    if (port->selector)
        return strcmp(p->spec->ns, port->doc->ns) == 0 &&
               selects(port->selector, mz_json_at(p->spec->object, "metadata", "labels", NULL));
    (void)snprintf(key, sizeof(key), "%s/%s/%s", port->doc->ns, port->doc->kind, port->doc->name);
    return !port->selector && strcmp(p->workload, key) == 0;
}

/* One of the ready ones, whichever. */
static bool choose(void *arg, const struct mz_mesh_port *port, uint32_t *out_ip, uint16_t *out_port)
{
    struct supervisor *s = arg;
    unsigned n = 0;
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *p = pod_at(it);
        const uint16_t number =
            p->ready && supervisor_is_behind(p, port) ? supervisor_port_of(p, port) : 0;
        if (!number || mz_rand_below(s->rand, ++n) != 0)
            continue;
        *out_ip = p->ip;
        *out_port = number;
    }
    return n != 0;
}

/* ---- pods ---- */

static void write_document(struct supervisor *s, const struct mz_mesh_pod *p)
{
    char path[1200];
    struct mz_err err = { .path = "", .msg = "" };
    json_t *o = mz_mesh_pod_document(p);
    char *text = json_dumps(o, JSON_INDENT(1));
    (void)snprintf(path, sizeof(path), "%s/pods/%s_%s.json", s->node.state, p->spec->ns,
                   p->spec->name);
    if (!text || !mz_mesh_write_file(path, mz_str_c(text), &err))
        MZ_LOG(ERROR, main, "%s", err.msg);
    free(text);
    json_decref(o);
}

static void on_settled(struct supervisor *s)
{
    if (s->told || s->stopping ||
        !is_settled(s)) /* a pod has gone meanwhile: it comes again, and so does this */
        return;
    s->told = true;
    say(s, "ready after %.2f s", (double)(mz_clock->mono_us() - s->o->began_us) / 1e6);
    tell_keeper(s, json_pack("{s:b}", "ready", 1));
}

static void look_settled(struct supervisor *s)
{
    if (!s->told && !s->stopping && is_settled(s))
        settling_start(s->settling);
}

static void on_changed(void *arg, struct mz_mesh_pod *p)
{
    struct supervisor *s = arg;
    write_document(s, p);
    services_changed(s->services);
    if (s->stopping)
        return;
    if (p->ready)
        say(s, "  %s/%s is ready (%s, %llu ms after its %s began)", p->spec->ns, p->spec->name,
            p->spec->ip, (unsigned long long)(p->ready_after_us / 1000),
            p->spec->injected ? "agent" : "start");
    else if (p->phase == MZ_MESH_SUCCEEDED || p->phase == MZ_MESH_FAILED)
        say(s, "  %s/%s has %s", p->spec->ns, p->spec->name,
            p->phase == MZ_MESH_FAILED ? "failed" : "done its work");
    if (p->ready) {
        rollout(s);
        look_settled(s);
    }
}

static void pod_free(void *p)
{
    mz_mesh_pod_destroy(p);
}

static void maybe_end(struct supervisor *s);

static void on_over(void *arg, struct mz_mesh_pod *p)
{
    struct supervisor *s = arg;
    char path[1200];
    (void)mz_mesh_remove_all(p->spec->work);
    if (!p->leaving) {
        if (p->phase == MZ_MESH_FAILED && !mz_timer_armed(&s->retry))
            mz_timer_start_ms(&s->retry, 1000);
        rollout(s);
        return;
    }
    (void)snprintf(path, sizeof(path), "%s/pods/%s_%s.json", s->node.state, p->spec->ns,
                   p->spec->name);
    (void)unlink(path);
    mz_list_del(&p->link);
    mz_loop_free_later(s->node.loop, p, pod_free);
    rollout(s);
    maybe_end(s);
}

/* ---- the control plane ---- */

static void start_mizzend(struct supervisor *s);

static void on_mizzend_again(struct mz_timer *t)
{
    start_mizzend(MZ_CONTAINER(t, struct supervisor, mizzend_again));
}

/* What its log begins with, in one line. */
static void mizzend_words(const struct supervisor *s, char *out, size_t room)
{
    char path[1024], text[400];
    (void)snprintf(path, sizeof(path), "%s/logs/mizzend.log", s->node.state);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd >= 0 ? read(fd, text, sizeof(text)) : 0;
    size_t used = 0;
    if (fd >= 0)
        (void)close(fd);
    for (ssize_t i = 0; i < n && used + 2 < room; i++) {
        const bool space = (unsigned char)text[i] <= ' ';
        if (!space || (used && out[used - 1] != ' '))
            out[used++] = space ? ' ' : text[i];
    }
    out[used] = 0;
}

/* The first one ends at once and by itself: a flag of --mizzend is wrong, most likely, and will be the next time. */
static bool mizzend_is_hopeless(const struct supervisor *s, int code)
{
    return !s->mizzend_again_once && !s->told && code > 0 && code < 128 &&
           mz_loop_now_us(s->node.loop) - s->mizzend_began_us < HOPELESS_US;
}

static void on_mizzend_ended(struct mz_mesh_process *p, int code)
{
    struct supervisor *s = MZ_CONTAINER(p, struct supervisor, mizzend);
    if (s->stopping) {
        maybe_end(s);
        return;
    }
    if (mizzend_is_hopeless(s, code)) {
        char words[300], why[400];
        mizzend_words(s, words, sizeof(words));
        (void)snprintf(why, sizeof(why), "mizzend ended with %d: %s", code, words);
        tell_keeper(s, json_pack("{s:s}", "failed", why));
        s->failed = true;
        supervisor_stop(s);
        return;
    }
    s->mizzend_again_once = true;
    if (mz_loop_now_us(s->node.loop) - s->mizzend_began_us > LASTED_US)
        s->mizzend_pause_ms = MIZZEND_PAUSE_MS;
    say(s, "  mizzend ended with %d and is started again (mizzenctl logs mizzend)", code);
    mz_timer_start_ms(&s->mizzend_again, s->mizzend_pause_ms);
    s->mizzend_pause_ms =
        s->mizzend_pause_ms * 2 > MIZZEND_MAX_MS ? MIZZEND_MAX_MS : s->mizzend_pause_ms * 2;
}

static const char *in_state(struct supervisor *s, const char *name)
{
    return mz_arena_printf(s->arena, "%s/%s", s->node.state, name).p;
}

static void start_mizzend(struct supervisor *s)
{
    struct mz_err err = { .path = "", .msg = "" };
    MZ_VEC(const char *) argv = { 0 };
    const char *const first[] = {
        mz_arena_printf(s->arena, "%s/mizzend", s->node.bin).p,
        "-c",
        in_state(s, "pods"), /* first: of a Pod that is in both, this one has its state */
        "-c",
        s->folder->dir,
        "--ca-dir",
        s->files.ca,
        "--keys-dir",
        in_state(s, "keys"),
        "--status-dir",
        in_state(s, "status"),
        "--grpc-addr",
        "10.244.0.1:15010",
        "--secure-grpc-addr",
        "10.244.0.1:15012",
        "--webhook-addr",
        ""
    };
    const int log =
        open(in_state(s, "logs/mizzend.log"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    for (size_t i = 0; i < MZ_COUNT(first); i++)
        *mz_vec_push(&argv, MZ_MEM_MISC) = first[i];
    for (size_t i = 0; i < s->o->mizzend_args->n; i++)
        *mz_vec_push(&argv, MZ_MEM_MISC) = s->o->mizzend_args->v[i];
    *mz_vec_push(&argv, MZ_MEM_MISC) = NULL;
    const struct mz_mesh_spawn spawn = { .in = &s->mizzend_in,
                                         .argv = argv.v,
                                         .env = (const char *const *)(uintptr_t)s->node.env,
                                         .dir = s->folder->dir,
                                         .caps = UINT64_C(1) << 2 /* CAP_DAC_READ_SEARCH */,
                                         .no_gain = true,
                                         .fds = { s->node.null, log, log } };
    s->mizzend_began_us = mz_loop_now_us(s->node.loop);
    if (!mz_mesh_process_start(&s->node.processes, &s->mizzend, &spawn, on_mizzend_ended, &err)) {
        MZ_LOG(ERROR, main, "%s", err.msg);
        mz_timer_start_ms(&s->mizzend_again, MIZZEND_MAX_MS);
    }
    if (log >= 0)
        (void)close(log);
    mz_vec_free(&argv, MZ_MEM_MISC);
}

/* The root must be there before the first agent asks for it. */
static bool make_authority(struct supervisor *s, struct mz_err *err)
{
    const struct mz_authority_opts o = {
        .dir = s->files.ca,
        .trust_domain = mz_arena_dup(s->arena, s->folder->model->mesh.trust_domain).p
    };
    const struct mz_tokens_opts to = { .dir = s->files.ca };
    struct mz_authority *a = mz_authority_create(&o, err);
    mz_authority_destroy(a);
    s->files.tokens = a ? mz_tokens_create(&to, err) : NULL;
    return s->files.tokens != NULL;
}

static void on_tokens(struct mz_timer *t)
{
    struct supervisor *s = MZ_CONTAINER(t, struct supervisor, tokens);
    struct mz_err err = { .path = "", .msg = "" };
    mz_list_foreach (it, &s->pods)
        if (pod_at(it)->spec->injected && pod_at(it)->stage == MZ_MESH_RUN &&
            !mz_mesh_files_token(&s->files, pod_at(it)->spec, &err))
            MZ_LOG(ERROR, main, "%s", err.msg);
    mz_timer_start_ms(&s->tokens, TOKENS_MS);
}

/* They lie in memory where /run does. */
static void on_logs(struct mz_timer *t)
{
    struct supervisor *s = MZ_CONTAINER(t, struct supervisor, logs);
    char path[1024];
    mz_list_foreach (it, &s->pods) {
        const struct mz_mesh_pod *p = pod_at(it);
        for (size_t i = 0; i < p->n; i++)
            mz_mesh_log_cut(mz_mesh_pod_log(p, p->v[i].spec->name, path, sizeof(path)));
    }
    (void)snprintf(path, sizeof(path), "%s/logs/mizzend.log", s->node.state);
    mz_mesh_log_cut(path);
    mz_timer_start_ms(&s->logs, LOGS_MS);
}

/* ---- changes ---- */

static void take_folder(struct supervisor *s, struct mz_mesh_folder *f, struct mz_mesh_workloads w,
                        struct mz_mesh_ports ports)
{
    struct mz_mesh_folder *before = s->folder;
    struct mz_mesh_ports old = s->ports;
    s->folder = f;
    s->files.folder = f;
    s->workloads = w;
    s->ports = ports;
    mz_mesh_publisher_set(s->publisher, &s->ports, NULL);
    rollout(s);
    services_changed(s->services);
    mz_vec_free(&old.v, MZ_MEM_CONFIG);
    mz_mesh_folder_destroy(before);
}

/* A folder that cannot be understood changes nothing: what runs goes on. */
static void on_folder(void *arg)
{
    struct supervisor *s = arg;
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    struct mz_mesh_workloads w = { 0 };
    struct mz_mesh_ports ports = { 0 };
    if (s->stopping)
        return;
    struct mz_mesh_folder *f = mz_mesh_folder_read(s->folder->dir, &err);
    if (f && mz_mesh_workloads(f, &w, &err) &&
        mz_mesh_ports_wanted(f, s->o->any_port, &ports, &err) &&
        rollout_check(f, &w, s->node.bin, s->node.state, s->node.env, &err)) {
        take_folder(s, f, w, ports);
        return;
    }
    say(s, "  not taken: %s", mz_err_text(&err, text, sizeof(text)));
    mz_vec_free(&ports.v, MZ_MEM_CONFIG);
    mz_mesh_folder_destroy(f);
}

/* ---- the end ---- */

static void maybe_end(struct supervisor *s)
{
    if (!s->stopping || !mz_list_empty(&s->pods))
        return;
    if (s->mizzend.pid)
        mz_mesh_process_signal(&s->mizzend, SIGTERM);
    else
        mz_loop_stop(s->node.loop);
}

void supervisor_stop(struct supervisor *s)
{
    if (s->stopping && s->mizzend.pid && mz_list_empty(&s->pods))
        mz_mesh_process_signal(&s->mizzend, SIGKILL);
    s->stopping = true;
    mz_timer_stop(&s->retry);
    mz_timer_stop(&s->mizzend_again);
    mz_list_foreach (it, &s->pods)
        mz_mesh_pod_stop(pod_at(it), true);
    maybe_end(s);
}

static void on_signal(void *arg, int signo)
{
    (void)signo;
    supervisor_stop(arg);
}

static void on_child(void *arg, int signo)
{
    struct supervisor *s = arg;
    (void)signo;
    mz_mesh_processes_reap(&s->node.processes);
}

/* ---- all ---- */

static bool begin(struct supervisor *s, struct mz_err *err)
{
    const struct mz_mesh_publisher_opts po = {
        .node = &s->node, .choose = choose, .listen = ask_listen, .arg = s
    };
    s->node.net = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
    s->node.null = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (s->node.net < 0 || s->node.null < 0)
        return mz_err_set(err, "/proc/self/ns/net, /dev/null: %s", strerrordesc_np(errno));
    if (!mz_mesh_network_node(&s->node.six, err) || !make_authority(s, err))
        return false;
    s->publisher = mz_mesh_publisher_create(&po);
    mz_mesh_publisher_set(s->publisher, &s->ports, s->o->port_fds);
    s->serve = serve_create(s, s->o->control);
    s->services = services_create(s);
    s->settling = settling_create(s, on_settled);
    s->names = mz_mesh_names_create(s->node.loop, MZ_MESH_NODE_IP);
    s->watch = mz_mesh_watch_create(s->node.loop, s->folder->dir, on_folder, s);
    mz_timer_start_ms(&s->tokens, TOKENS_MS);
    mz_timer_start_ms(&s->logs, LOGS_MS);
    if (!mz_loop_on_signal(s->node.loop, SIGTERM, on_signal, s) ||
        !mz_loop_on_signal(s->node.loop, SIGINT, on_signal, s) ||
        !mz_loop_on_signal(s->node.loop, SIGHUP, on_signal, s) ||
        !mz_loop_on_signal(s->node.loop, SIGCHLD, on_child, s))
        return mz_err_set(err, "signals cannot be waited for");
    const struct mz_mesh_sandbox_opts in = { .node = true, .scratch = s->node.state };
    if (!mz_mesh_sandbox_create(&in, &s->mizzend_in, err))
        return false;
    start_mizzend(s);
    return true;
}

static void end(struct supervisor *s)
{
    mz_mesh_watch_destroy(s->watch);
    mz_list_foreach (it, &s->pods)
        mz_mesh_pod_destroy(pod_at(it));
    mz_mesh_process_abandon(&s->mizzend);
    mz_mesh_sandbox_close(&s->mizzend_in);
    mz_mesh_publisher_destroy(s->publisher);
    mz_timer_stop(&s->tokens);
    mz_timer_stop(&s->logs);
    mz_timer_stop(&s->retry);
    mz_timer_stop(&s->mizzend_again);
    if (s->serve)
        serve_stopped(s->serve);
    serve_destroy(s->serve);
    services_stop(s->services);
    settling_destroy(s->settling);
    mz_mesh_names_destroy(s->names);
    mz_loop_destroy(s->node.loop);
    services_destroy(s->services);
    mz_tokens_destroy(s->files.tokens);
    mz_vec_free(&s->ports.v, MZ_MEM_CONFIG);
    mz_mesh_folder_destroy(s->folder);
    mz_arena_destroy(s->arena);
}

int mz_mesh_supervise(const struct mz_mesh_supervisor_opts *o)
{
    struct supervisor s = { .o = o,
                            .arena = mz_arena_create(MZ_MEM_MISC),
                            .folder = o->folder,
                            .workloads = o->workloads,
                            .ports = o->ports,
                            .mizzend_in = MZ_MESH_NO_SANDBOX,
                            .mizzend_pause_ms = MIZZEND_PAUSE_MS };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    mz_signals_block();
    mz_log_set_all(MZ_LOG_WARN);
    s.node = (struct mz_mesh_node){
        .loop = mz_loop_create("main_thread"), .state = o->state, .bin = o->bin, .env = o->env
    };
    mz_list_init(&s.node.processes);
    mz_list_init(&s.pods);
    s.files = (struct mz_mesh_files){ .ca = in_state(&s, "ca"), .folder = o->folder };
    s.pod_ops = (struct mz_mesh_pod_ops){ .changed = on_changed, .over = on_over, .arg = &s };
    mz_timer_init(s.node.loop, &s.mizzend_again, on_mizzend_again);
    mz_timer_init(s.node.loop, &s.tokens, on_tokens);
    mz_timer_init(s.node.loop, &s.logs, on_logs);
    rollout_init(&s);
    const bool ok = begin(&s, &err);
    if (ok) {
        rollout(&s);
        look_settled(&s); /* nothing to wait for */
        mz_loop_run(s.node.loop);
    } else {
        tell_keeper(&s, json_pack("{s:s}", "failed", mz_err_text(&err, text, sizeof(text))));
    }
    end(&s);
    return ok && !s.failed ? 0 : 1;
}
