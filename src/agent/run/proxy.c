/*
 * `proxy`: the proxy and what it needs, in their order. First the sockets that it asks (secrets, xDS), then its process; at the
 * end its listeners drain before it is stopped.
 */
#include "agent/run/proxy.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/identity/sds.h"
#include "agent/relay/relay.h"
#include "agent/run/process.h"
#include "agent/settings.h"
#include "agent/status/status.h"
#include "agent/tree.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/program.h"
#include "event/loop.h"
#include "grpc/server.h"
#include "proto/node.h"
#include "router/async.h"

#define STOP_PATIENCE_MS 5000 /* after the drain, for the proxy to end */
#define SDS_FOLDER       "./var/run/secrets/workload-spiffe-uds"
#define TOKEN            "./var/run/secrets/tokens/istio-token"
#define ROOT             "./var/run/secrets/istio/root-cert.pem"

extern char **environ;

struct agent {
    struct mz_agent_options options;
    struct mz_bootstrap boot;
    struct mz_arena *arena;
    struct mz_loop *loop;
    struct mz_link *link;
    struct mz_identity *identity; /* NULL: no authority is asked */
    struct mz_sds *sds;
    struct mz_relay *relay;
    struct mz_grpc_server *sds_server, *xds_server;
    struct mz_process *process;
    struct mz_status *status; /* NULL: status port 0 */
    struct mz_timer drained;
    struct mz_async *drain;
    const char *token_path, *cluster_id;
    bool stopping;
};

static const char *env(const struct agent *g, const char *name, const char *otherwise)
{
    const char *v = mz_agent_env(&g->options.settings, name);
    return v && *v ? v : otherwise;
}

/* ---- files and sockets ---- */

static bool make_folders(const char *path,
                         struct mz_err *err) /* of a file: every folder before its name */
{
    char folder[512];
    const size_t n = strlen(path);
    if (n >= sizeof(folder))
        return mz_err_set(err, "too long a path: %.100s", path);
    memcpy(folder, path, n + 1);
    for (char *p = folder + 1; (p = strchr(p, '/')) != NULL; p++) {
        *p = 0;
        if (mkdir(folder, 0700) != 0 && errno != EEXIST)
            return mz_err_set(err, "cannot make the folder %s: %s", folder, strerror(errno));
        *p = '/';
    }
    return true;
}

static bool write_bootstrap(struct agent *g, struct mz_err *err)
{
    const char *path = g->boot.file, *next = mz_arena_printf(g->arena, "%s.new", path).p;
    if (!make_folders(path, err))
        return false;
    FILE *f = fopen(next, "we");
    if (!f)
        return mz_err_set(err, "cannot write %s: %s", next, strerror(errno));
    const bool whole = fwrite(g->boot.json.p, 1, g->boot.json.n, f) == g->boot.json.n;
    return fclose(f) == 0 && whole && rename(next, path) == 0
               ? true
               : mz_err_set(err, "cannot write %s: %s", path, strerror(errno));
}

/* Of this user or root: others on the machine get neither keys nor streams. */
static bool admit(int fd)
{
    struct ucred c;
    socklen_t n = sizeof(c);
    const bool known = getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &c, &n) == 0;
    if (known && (c.uid == 0 || c.uid == geteuid()))
        return true;
    MZ_LOG(WARN, secret, "user %d is refused at a socket of the proxy's", known ? (int)c.uid : -1);
    return false;
}

/* A server of somebody else's that answers there (SPIRE) is used as it is. */
static bool is_served(const char *path)
{
    struct sockaddr_un a = { .sun_family = AF_UNIX };
    if (strlen(path) >= sizeof(a.sun_path))
        return false;
    memcpy(a.sun_path, path, strlen(path) + 1);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    const bool served = fd >= 0 && connect(fd, (struct sockaddr *)&a, sizeof(a)) == 0;
    if (fd >= 0)
        (void)close(fd);
    return served;
}

static struct mz_grpc_server *serve(struct agent *g, const char *path, struct mz_err *err)
{
    static const struct mz_grpc_server_opts o = { .max_receive = 64u << 20,
                                                  .max_queue = 4u << 20,
                                                  .admit = admit };
    struct mz_addr a;
    if (!make_folders(path, err) || !mz_addr_unix(mz_str_c(path), &a, err))
        return NULL;
    (void)unlink(path); /* of an agent before us: nobody answers there */
    struct mz_grpc_server *s = mz_grpc_server_create(g->loop, NULL, 0, NULL, &o);
    if (!mz_grpc_server_listen(s, &a, NULL, NULL, err) || chmod(path, 0600) != 0) {
        mz_grpc_server_destroy(s);
        return mz_err_at(err, "%s", path), NULL;
    }
    return s;
}

/* ---- the control plane ---- */

static bool root_of(struct agent *g, const char *variable, struct mz_str *out, struct mz_err *err)
{
    const char *path = env(g, variable, ROOT);
    struct file_text f;
    if (!file_read(path, g->arena, &f, err))
        return false;
    if (!f.there && mz_agent_env(&g->options.settings, variable))
        return mz_err_set(err, "%s: there is no %s", variable, path);
    *out = f.text; /* "": the system's authorities */
    return true;
}

static const char *host_of(struct agent *g, const char *address)
{
    const ptrdiff_t colon = mz_str_rchr(mz_str_c(address), ':');
    const struct mz_str host = { address, colon > 0 ? (size_t)colon : strlen(address) };
    if (mz_str_eq(host, MZ_STR("localhost")) || mz_str_starts(host, MZ_STR("127.")))
        return "istiod.istio-system.svc"; /* a forwarded port: the certificate is the control plane's all the same */
    return mz_arena_dup(g->arena, host).p;
}

static bool links(struct agent *g, bool *out_authority, struct mz_err *err)
{
    const char *ca = env(g, "CA_ADDR", g->boot.discovery);
    struct mz_link_target xds = { .address = g->boot.discovery,
                                  .tls = !g->boot.plain,
                                  .server_name =
                                      env(g, "ISTIOD_SAN", host_of(g, g->boot.discovery)) };
    struct mz_link_target authority = { .address = ca,
                                        .tls = !mz_str_ends(mz_str_c(ca), MZ_STR(":15010")),
                                        .server_name = env(g, "ISTIOD_SAN", host_of(g, ca)) };
    const struct mz_link_target admin = {
        .address = mz_arena_printf(g->arena, "%s:%u", g->boot.localhost, g->boot.admin_port).p,
        .http1 = true
    };
    if (!root_of(g, "XDS_ROOT_CA", &xds.root, err) ||
        !root_of(g, "CA_ROOT_CA", &authority.root, err))
        return false;
    *out_authority = !g->boot.plain || mz_agent_env(&g->options.settings, "CA_ADDR");
    if (!mz_link_set(g->link, "xds", &xds, err))
        return mz_err_at(err, "discoveryAddress");
    if (*out_authority && !mz_link_set(g->link, "ca", &authority, err))
        return mz_err_at(err, "CA_ADDR");
    return mz_link_set(g->link, "admin", &admin, err);
}

static void on_certificate(void *arg)
{
    struct agent *g = arg;
    mz_sds_changed(g->sds);
}

static double share(const char *text, double otherwise)
{
    char *end;
    const double v = strtod(text, &end);
    return *text && !*end && v >= 0 && v < 1 ? v : otherwise;
}

static bool start_identity(struct agent *g, struct mz_err *err)
{
    const char *path = mz_arena_printf(g->arena, SDS_FOLDER "/%s",
                                       env(g, "WORKLOAD_IDENTITY_SOCKET_FILE", "socket"))
                           .p;
    uint64_t ttl_ms = 24 * 3600 * 1000, bits = 0;
    if (is_served(path)) {
        MZ_LOG(INFO, secret, "%s is served by somebody else: used as it is", path);
        return true;
    }
    if (!mz_agent_duration(env(g, "SECRET_TTL", "24h"), &ttl_ms) || !ttl_ms)
        return mz_err_set(err, "SECRET_TTL: \"%.60s\" is no duration like 24h",
                          env(g, "SECRET_TTL", ""));
    if (!mz_str_u64(mz_str_c(env(g, "WORKLOAD_RSA_KEY_SIZE", "0")), &bits) ||
        (bits && (bits < 2048 || bits > 4096)))
        return mz_err_set(err, "WORKLOAD_RSA_KEY_SIZE: 2048 to 4096 bits");
    const struct mz_identity_opts o = {
        .loop = g->loop,
        .link = g->link,
        .spiffe = mz_arena_printf(g->arena, "spiffe://%s/ns/%s/sa/%s",
                                  env(g, "TRUST_DOMAIN", "cluster.local"),
                                  g->boot.namespace_ ? g->boot.namespace_ : "default",
                                  g->boot.account ? g->boot.account : "default")
                      .p,
        .token_path = g->token_path,
        .cluster_id = g->cluster_id,
        .ttl_s = ttl_ms / 1000,
        .grace = share(env(g, "SECRET_GRACE_PERIOD_RATIO", ""), 0.5),
        .rsa_bits = (unsigned)bits,
        .changed = on_certificate,
        .arg = g,
    };
    g->identity = mz_identity_create(&o);
    g->sds = mz_sds_create(g->loop, g->identity);
    g->sds_server = serve(g, path, err);
    if (!g->sds_server)
        return false;
    mz_sds_add(g->sds, g->sds_server);
    return true;
}

static bool start_relay(struct agent *g, struct mz_err *err)
{
    const struct mz_relay_opts o = { .loop = g->loop,
                                     .link = g->link,
                                     .token_path = g->boot.plain ? "" : g->token_path,
                                     .cluster_id = g->cluster_id,
                                     .env = environ };
    g->relay = mz_relay_create(&o);
    g->xds_server = serve(g, mz_arena_printf(g->arena, "%s/XDS", g->boot.config_path).p, err);
    if (!g->xds_server)
        return false;
    mz_relay_add(g->relay, g->xds_server);
    return true;
}

/* ---- the end ---- */

static void on_ended(void *arg, int status)
{
    struct agent *g = arg;
    (void)status;
    MZ_LOG(INFO, main, "the proxy has ended");
    mz_loop_stop(g->loop);
}

static void on_drained(struct mz_timer *t)
{
    struct agent *g = MZ_CONTAINER(t, struct agent, drained);
    mz_process_stop(g->process, STOP_PATIENCE_MS);
}

static void drain_headers(void *arg, struct mz_headers *h, bool end)
{
    struct agent *g = arg;
    (void)h;
    if (end)
        g->drain = NULL;
}

static void drain_data(void *arg, struct mz_buf *data, bool end)
{
    struct agent *g = arg;
    mz_buf_drain(data, mz_buf_len(data));
    if (end)
        g->drain = NULL;
}

static void drain_failed(void *arg, const struct mz_async_failure *f)
{
    struct agent *g = arg;
    g->drain = NULL;
    MZ_LOG(WARN, main, "the proxy does not drain: " MZ_STR_FMT, MZ_STR_ARG(f->text));
}

static void drain(struct agent *g)
{
    static const struct mz_async_ops ops = { .headers = drain_headers,
                                             .data = drain_data,
                                             .failed = drain_failed };
    static const struct mz_async_opts o = { .timeout_ms = 2000 };
    struct mz_headers h;
    if (g->drain)
        return; /* under way */
    mz_headers_init(&h, g->arena);
    mz_headers_add(&h, MZ_STR(":method"), MZ_STR("POST"));
    mz_headers_add(&h, MZ_STR(":scheme"), MZ_STR("http"));
    mz_headers_add(&h, MZ_STR(":path"),
                   strcmp(g->options.settings.role, "sidecar") == 0
                       ? MZ_STR("/drain_listeners?inboundonly&graceful")
                       : MZ_STR("/drain_listeners?graceful"));
    mz_headers_add(&h, MZ_STR(":authority"), MZ_STR("localhost"));
    mz_headers_add(&h, MZ_STR("content-length"), MZ_STR("0"));
    g->drain = mz_async_start(mz_link_upstream(g->link), MZ_STR("admin"), &h, true, &o, &ops, g);
}

static void stop(void *arg, int signo)
{
    struct agent *g = arg;
    if (g->stopping) { /* again: at once */
        mz_timer_stop(&g->drained);
        mz_process_stop(g->process, 0);
        return;
    }
    g->stopping = true;
    MZ_LOG(INFO, main, "caught signal %d: draining for %llu ms", signo,
           (unsigned long long)g->boot.termination_drain_ms);
    drain(g);
    mz_timer_start_ms(&g->drained, g->boot.termination_drain_ms);
}

/* ---- the status port ---- */

static void on_quit(void *arg)
{
    MZ_LOG(INFO, main, "asked to end");
    stop(arg, SIGTERM);
}

static void on_drain(void *arg)
{
    drain(arg);
}

static void own_metrics(void *arg, struct mz_buf *out)
{
    const struct agent *g = arg;
    const struct mz_relay_counts r = mz_relay_counted(g->relay);
    const struct mz_identity_counts none = { 0 },
                                    i = g->identity ? mz_identity_counted(g->identity) : none;
    const int64_t until = g->identity ? mz_identity_get(g->identity)->until : 0;
    mz_buf_printf(out,
                  "# TYPE istio_agent_cert_expiry_seconds "
                  "gauge\nistio_agent_cert_expiry_seconds{resource_name=\"default\"} %lld\n",
                  until ? (long long)(until - (int64_t)(mz_clock->wall_us() / 1000000)) : 0);
    const struct {
        const char *name;
        uint64_t value;
    } counters[] = {
        { "istio_agent_num_outgoing_requests", i.asked },
        { "istio_agent_num_failed_outgoing_requests", i.failed },
        { "istio_agent_num_outgoing_retries", i.failed },
        { "istio_agent_envoy_connection_terminations", r.lost },
        { "istio_agent_xds_proxy_requests", r.requests },
        { "istio_agent_xds_proxy_responses", r.responses },
        { "istio_agent_proxy_starts", mz_process_starts(g->process) },
    };
    for (size_t k = 0; k < sizeof(counters) / sizeof(counters[0]); k++)
        mz_buf_printf(out, "# TYPE %s counter\n%s %llu\n", counters[k].name, counters[k].name,
                      (unsigned long long)counters[k].value);
    mz_buf_printf(out, "# TYPE istio_agent_process_resident_anonymous_bytes gauge\n");
    mz_buf_printf(out, "istio_agent_process_resident_anonymous_bytes %llu\n",
                  (unsigned long long)mz_agent_anonymous_bytes());
}

static bool start_status(struct agent *g, struct mz_err *err)
{
    const struct mz_status_opts o = { .loop = g->loop,
                                      .link = g->link,
                                      .port = g->boot.status_port,
                                      .prometheus_port = g->boot.prometheus_port,
                                      .localhost = g->boot.localhost,
                                      .probers = env(g, "ISTIO_KUBE_APP_PROBERS", ""),
                                      .prometheus = env(g, "ISTIO_PROMETHEUS_ANNOTATIONS", ""),
                                      .quit = on_quit,
                                      .drain = on_drain,
                                      .metrics = own_metrics,
                                      .arg = g };
    if (!o.port)
        return true;
    g->status = mz_status_create(&o, err);
    return g->status != NULL;
}

static void on_child(void *arg, int signo)
{
    struct agent *g = arg;
    (void)signo;
    mz_process_check(g->process);
}

/* ---- the begin ---- */

/* The ProxyConfig's program; where there is none, the mizzen-proxy that lies beside this one. */
static void choose_program(struct agent *g)
{
    char self[512];
    if (access(g->boot.binary, X_OK) == 0)
        return;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
    const ptrdiff_t slash = n > 0 && (size_t)n < sizeof(self)
                                ? mz_str_rchr((struct mz_str){ self, (size_t)n }, '/')
                                : -1;
    if (slash < 0)
        return;
    const char *beside = mz_arena_printf(g->arena, "%.*s/mizzen-proxy", (int)slash, self).p;
    if (access(beside, X_OK) == 0)
        g->boot.argv[0] = beside;
}

static bool start(struct agent *g, struct mz_err *err)
{
    bool authority;
    g->token_path = env(g, "JWT_PATH", TOKEN);
    g->cluster_id = env(g, "ISTIO_META_CLUSTER_ID", "Kubernetes");
    choose_program(g);
    if (!write_bootstrap(g, err) || !links(g, &authority, err) ||
        (authority && !start_identity(g, err)) || !start_relay(g, err))
        return false;
    const struct mz_process_opts o = {
        .loop = g->loop, .argv = g->boot.argv, .ended = on_ended, .arg = g
    };
    g->process = mz_process_create(&o);
    if (!start_status(g, err))
        return false;
    return mz_loop_on_signal(g->loop, SIGTERM, stop, g) &&
           mz_loop_on_signal(g->loop, SIGINT, stop, g) &&
           mz_loop_on_signal(g->loop, SIGCHLD, on_child, g) && mz_process_start(g->process, err);
}

static int run(struct agent *g, struct mz_err *err)
{
    const struct mz_log_options log = { .level = g->options.log_level };
    if (!mz_log_start(&log, err))
        return 1;
    if (g->options.settings.log_json)
        (void)mz_log_set_json(true);
    mz_signals_block();
    g->loop = mz_loop_create("main_thread");
    g->link = mz_link_create(g->loop);
    mz_timer_init(g->loop, &g->drained, on_drained);
    const bool started = start(g, err);
    if (started) {
        MZ_LOG(INFO, main, "%s: control plane %s", g->boot.id, g->boot.discovery);
        mz_loop_run(g->loop);
    }
    mz_timer_stop(&g->drained);
    mz_async_cancel(g->drain);
    mz_status_stop(g->status);
    mz_process_destroy(g->process);
    mz_grpc_server_destroy(g->xds_server);
    mz_grpc_server_destroy(g->sds_server);
    mz_relay_destroy(g->relay);
    mz_sds_destroy(g->sds);
    mz_identity_destroy(g->identity);
    mz_link_stop(g->link);
    mz_loop_destroy(g->loop);
    mz_status_destroy(g->status);
    mz_link_destroy(g->link);
    return started ? 0 : 1;
}

int mz_agent_proxy_main(int argc, char **argv)
{
    struct agent g = { .arena = mz_arena_create(MZ_MEM_CONFIG) };
    struct mz_err err = { 0 };
    char text[1600];
    int rc = 1;
    if (mz_agent_settings_read(argc, argv, environ, g.arena, &g.options, &err)) {
        if (g.options.help) {
            mz_agent_settings_help(
                "proxy",
                "Runs a proxy: gets its certificate, carries its xDS, watches it, drains it.");
            rc = 0;
        } else if (mz_bootstrap_make(&g.options.settings, g.arena, &g.boot, &err)) {
            rc = run(&g, &err);
        }
    }
    if (rc)
        fprintf(stderr, "Error: %s\n", mz_err_text(&err, text, sizeof(text)));
    mz_arena_destroy(g.arena);
    mz_addr_paths_free();
    const int lost = mz_mem_forgotten();
    return rc ? rc : lost;
}
