#include "agent/status/status.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/list.h"
#include "base/log.h"
#include "event/loop.h"
#include "grpc/client.h"
#include "net/addr.h"
#include "proto/node.h"
#include "proto/tree.h"
#include "proto/wire.h"
#include "web/server.h"

#define PROBERS_MAX 64
#define METRICS_MAX (64u << 20) /* bytes of one scrape */
#define SCRAPE_MS   10000
#define READY_MS    3000
#define READY_MAX   65536
#define WAITING_MAX 64 /* requests that wait for others at once */

enum prober_kind { PROBE_HTTP, PROBE_TCP, PROBE_GRPC };
struct prober {
    struct mz_str path; /* "/app-health/app/livez" */
    enum prober_kind kind;
    char target[24]; /* "probe-8080", "probe-tls-8080", "probe-grpc-8080" */
    struct mz_addr addr;
    struct mz_str http_path, headers;
    struct mz_str service; /* of gRPC's health protocol; "" the server as a whole */
    uint64_t timeout_ms;
};
struct mz_status {
    struct mz_status_opts o;
    struct mz_arena *arena;
    struct mz_admin *pages;
    struct mz_web *web;
    struct prober probers[PROBERS_MAX];
    size_t probers_n;
    bool has_app; /* metrics of the application are merged */
    struct mz_str app_path;
    struct mz_list waiting; /* struct job */
    unsigned waiting_n;
    bool was_ready, updated; /* updated: clusters and listeners came once */
};

/* A request that waits for what others say. */
struct job {
    struct mz_list link;
    struct mz_status *status;
    struct mz_web_ask *ask;
    struct mz_link_get *gets[2];
    unsigned left; /* of gets */
    struct mz_buf parts[2];
    const struct prober *prober;
    struct mz_io io; /* of a TCP probe */
    struct mz_grpc_stream *grpc;
    bool serving;
    struct mz_timer timer;
};

/* ---- answers ---- */

static void answer(struct job *j, unsigned status, const char *type, struct mz_str text)
{
    struct mz_admin_reply r = { .status = status, .content_type = type };
    mz_buf_init(&r.body);
    mz_buf_append_str(&r.body, text);
    mz_web_answer(j->ask, &r);
    mz_buf_fini(&r.body);
}

static void job_end(struct job *j)
{
    struct mz_status *s = j->status;
    for (size_t i = 0; i < 2; i++) {
        mz_link_get_cancel(j->gets[i]);
        mz_buf_fini(&j->parts[i]);
    }
    mz_grpc_stream_cancel(j->grpc);
    if (j->io.loop) {
        mz_io_del(&j->io);
        (void)close(j->io.fd);
    }
    mz_timer_stop(&j->timer);
    mz_list_del(&j->link);
    s->waiting_n--;
    mz_free(MZ_MEM_ADMIN, j);
}

static const char plain[] = "text/plain; charset=utf-8";

static void end_with(struct job *j, unsigned status, const char *text)
{
    answer(j, status, plain, mz_str_c(text));
    job_end(j);
}

/* ---- readiness ---- */

static bool number_of(struct mz_str text, const char *name, uint64_t *out)
{
    struct mz_str line;
    while (mz_str_split(&text, '\n', &line)) {
        const size_t n = strlen(name);
        if (mz_str_starts(line, mz_str_c(name)) && line.n > n + 2 && line.p[n] == ':')
            return mz_str_u64(mz_str_skip(line, n + 2), out);
    }
    return false;
}

/* NULL: ready. */
static const char *unready(struct mz_status *s, struct mz_str stats)
{
    uint64_t state = 9, workers = 0, n[4] = { 0 };
    (void)number_of(stats, "cluster_manager.cds.update_success", &n[0]);
    (void)number_of(stats, "cluster_manager.cds.update_rejected", &n[1]);
    (void)number_of(stats, "listener_manager.lds.update_success", &n[2]);
    (void)number_of(stats, "listener_manager.lds.update_rejected", &n[3]);
    (void)number_of(stats, "server.state", &state);
    (void)number_of(stats, "listener_manager.workers_started", &workers);
    s->updated = s->updated || (n[0] + n[1] && n[2] + n[3]);
    if (!s->updated)
        return "config not fully received from the control plane";
    if (state != 0)
        return "the proxy is not live";
    return workers ? s->o.waits(s->o.arg) : "the proxy's workers have not started";
}

static void on_ready(void *arg, const struct mz_link_got *got)
{
    struct job *j = arg;
    struct mz_status *s = j->status;
    const char *why = got->status == 200 ? unready(s, got->body) : "the proxy does not answer";
    j->gets[0] = NULL;
    if (why && s->was_ready)
        MZ_LOG(WARN, main, "the proxy is not ready: %s", why);
    if (!why && !s->was_ready)
        MZ_LOG(INFO, main, "the proxy is ready");
    s->was_ready = !why;
    end_with(j, why ? 503 : 200, why ? why : "");
}

static void ready(struct job *j)
{
    static const struct mz_str path =
        MZ_STR_INIT("/stats?filter=%5E(server.state%7Clistener_manager.workers_started%7C(cluster_"
                    "manager.cds%7C"
                    "listener_manager.lds).update_(success%7Crejected))%24");
    j->gets[0] = mz_link_get(j->status->o.link, "admin", path, (struct mz_str){ 0 }, READY_MS,
                             READY_MAX, on_ready, j);
}

/* ---- metrics ---- */

static void metrics_end(struct job *j)
{
    struct mz_admin_reply r = { .status = 200,
                                .content_type = "text/plain; version=0.0.4; charset=utf-8" };
    mz_buf_init(&r.body);
    j->status->o.metrics(j->status->o.arg, &r.body);
    for (size_t i = 0; i < 2; i++)
        mz_buf_move_all(&r.body, &j->parts[i]);
    mz_web_answer(j->ask, &r);
    mz_buf_fini(&r.body);
    job_end(j);
}

static void scraped(struct job *j, size_t which, const struct mz_link_got *got)
{
    static const char *const of[] = { "proxy", "application" };
    struct mz_str body = got->body;
    j->gets[which] = NULL;
    if (got->status != 200)
        MZ_LOG(WARN, main, "no metrics of the %s: %s", of[which],
               got->why ? got->why : "another status than 200");
    else if (body.n) {
        if (mz_str_ends(body, MZ_STR("# EOF\n")))
            body.n -= 6; /* of OpenMetrics: more follows here */
        mz_buf_append_str(&j->parts[which], body);
        if (body.n && body.p[body.n - 1] != '\n')
            mz_buf_append(&j->parts[which], "\n", 1);
    }
    if (--j->left == 0)
        metrics_end(j);
}

static void on_proxy(void *arg, const struct mz_link_got *got)
{
    scraped(arg, 0, got);
}

static void on_app(void *arg, const struct mz_link_got *got)
{
    scraped(arg, 1, got);
}

static void metrics(struct job *j, struct mz_str query)
{
    struct mz_status *s = j->status;
    char path[1024] = "/stats/prometheus";
    if (query.n && query.n < sizeof(path) - 20)
        (void)snprintf(path, sizeof(path), "/stats/prometheus?" MZ_STR_FMT, MZ_STR_ARG(query));
    j->left = 1 + s->has_app;
    j->gets[0] = mz_link_get(s->o.link, "metrics", mz_str_c(path), (struct mz_str){ 0 }, SCRAPE_MS,
                             METRICS_MAX, on_proxy, j);
    if (s->has_app)
        j->gets[1] = mz_link_get(s->o.link, "app-metrics", s->app_path, (struct mz_str){ 0 },
                                 SCRAPE_MS, METRICS_MAX, on_app, j);
}

/* ---- the application's probes ---- */

static void on_probe(void *arg, const struct mz_link_got *got)
{
    struct job *j = arg;
    j->gets[0] = NULL;
    if (!got->status) {
        end_with(j, 500, got->why);
        return;
    }
    answer(j, got->status, got->type.n ? got->type.p : plain, got->body);
    job_end(j);
}

static void on_tcp(struct mz_io *io, unsigned events)
{
    struct job *j = MZ_CONTAINER(io, struct job, io);
    int error = 0;
    socklen_t n = sizeof(error);
    (void)events;
    const bool ok = getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &n) == 0 && error == 0;
    end_with(j, ok ? 200 : 500, ok ? "" : strerrordesc_np(error));
}

static void on_tcp_timeout(struct mz_timer *t)
{
    struct job *j = MZ_CONTAINER(t, struct job, timer);
    end_with(j, 500, "timeout");
}

static void probe_tcp(struct job *j)
{
    struct sockaddr_storage to, from = { 0 };
    const socklen_t n = mz_addr_sockaddr(&j->prober->addr, &to);
    struct mz_addr source;
    const int fd = socket(to.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    /* from the address that capture leaves alone */
    (void)mz_addr_parse_ip(to.ss_family == AF_INET6 ? MZ_STR("::6") : MZ_STR("127.0.0.6"), 0,
                           &source);
    (void)mz_addr_sockaddr(&source, &from);
    if (fd < 0) {
        end_with(j, 500, strerrordesc_np(errno));
        return;
    }
    if (bind(fd, (struct sockaddr *)&from, n) != 0 ||
        (connect(fd, (struct sockaddr *)&to, n) != 0 && errno != EINPROGRESS)) {
        const int error = errno;
        (void)close(fd);
        end_with(j, 500, strerrordesc_np(error));
        return;
    }
    (void)mz_io_add(j->status->o.loop, &j->io, fd, on_tcp);
    mz_timer_start_ms(&j->timer, j->prober->timeout_ms);
}

/* grpc.health.v1.HealthCheckResponse.status = 1: SERVING is 1. */
static void on_health(void *arg, struct mz_grpc_message *m)
{
    struct job *j = arg;
    j->serving = mz_str_eq(m->bytes, MZ_STR("\x08\x01"));
}

static void on_health_end(void *arg, const struct mz_grpc_status *st,
                          const struct mz_headers *trailers)
{
    struct job *j = arg;
    char why[256] = "not serving";
    (void)trailers;
    j->grpc = NULL;
    if (st->code != MZ_GRPC_OK)
        (void)snprintf(why, sizeof(why), "%s: " MZ_STR_FMT, mz_grpc_code_name(st->code),
                       MZ_STR_ARG(st->message));
    const bool ok = st->code == MZ_GRPC_OK && j->serving;
    end_with(j, ok ? 200 : 500, ok ? "" : why);
}

static void probe_grpc(struct job *j)
{
    static const struct mz_grpc_method method = { .path = "/grpc.health.v1.Health/Check" };
    static const struct mz_grpc_stream_ops ops = { .message = on_health, .closed = on_health_end };
    const struct mz_grpc_opts o = { .timeout_ms = j->prober->timeout_ms,
                                    .max_receive = 4096,
                                    .bytes_only = true,
                                    .no_xff = true,
                                    .no_internal = true };
    struct mz_link *k = j->status->o.link;
    struct mz_buf b;
    mz_buf_init(&b);
    if (j->prober->service.n)
        mz_wire_put_bytes(&b, 1, j->prober->service);
    j->grpc = mz_grpc_stream_open(mz_link_upstream(k), mz_link_service(k, j->prober->target),
                                  &method, &o, &ops, j);
    /* a first message is always taken */
    (void)mz_grpc_stream_send_bytes(j->grpc, mz_buf_linearize(&b, mz_buf_len(&b)));
    mz_grpc_stream_end(j->grpc);
    mz_buf_fini(&b);
}

static void probe(struct job *j)
{
    const struct prober *p = j->prober;
    if (p->kind == PROBE_TCP)
        probe_tcp(j);
    else if (p->kind == PROBE_GRPC)
        probe_grpc(j);
    else
        j->gets[0] = mz_link_get(j->status->o.link, p->target, p->http_path, p->headers,
                                 p->timeout_ms, READY_MAX, on_probe, j);
}

/* ---- requests ---- */

static const struct prober *prober_of(const struct mz_status *s, struct mz_str path)
{
    for (size_t i = 0; i < s->probers_n; i++)
        if (mz_str_eq(s->probers[i].path, path))
            return &s->probers[i];
    return NULL;
}

static struct job *job_begin(struct mz_status *s, struct mz_web_ask *ask)
{
    struct job *j = mz_alloc0(MZ_MEM_ADMIN, sizeof(*j));
    j->status = s;
    j->ask = ask;
    for (size_t i = 0; i < 2; i++)
        mz_buf_init(&j->parts[i]);
    mz_timer_init(s->o.loop, &j->timer, on_tcp_timeout);
    mz_list_add_tail(&s->waiting, &j->link);
    s->waiting_n++;
    return j;
}

static bool is_command(struct mz_status *s, const struct mz_admin_request *rq, struct job *j)
{
    const bool quit = mz_str_eq(rq->path, MZ_STR("/quitquitquit")),
               drain = mz_str_eq(rq->path, MZ_STR("/drain"));
    if (!quit && !drain)
        return false;
    if (!mz_web_ask_local(j->ask))
        end_with(j, 403, "Only requests from localhost are allowed\n");
    else if (!mz_str_eq(rq->method, MZ_STR("POST")))
        end_with(j, 405, "405 - Method Not Allowed\n");
    else {
        (quit ? s->o.quit : s->o.drain)(s->o.arg);
        end_with(j, 200, "OK");
    }
    return true;
}

static bool on_request(void *arg, const struct mz_admin_request *rq, struct mz_web_ask *ask)
{
    struct mz_status *s = arg;
    const struct prober *p = prober_of(s, rq->path);
    const bool is_ready = mz_str_eq(rq->path, MZ_STR("/healthz/ready")),
               is_metrics = mz_str_eq(rq->path, MZ_STR("/metrics")) ||
                            mz_str_eq(rq->path, MZ_STR("/stats/prometheus"));
    const bool is_known = p || is_ready || is_metrics ||
                          mz_str_eq(rq->path, MZ_STR("/quitquitquit")) ||
                          mz_str_eq(rq->path, MZ_STR("/drain"));
    if (s->waiting_n >= WAITING_MAX || !is_known)
        return false; /* the table answers */
    struct job *j = job_begin(s, ask);
    j->prober = p;
    if (is_command(s, rq, j))
        return true;
    if (p)
        probe(j);
    else if (is_ready)
        ready(j);
    else
        metrics(j, rq->query);
    return true;
}

/* ---- settings ---- */

static bool target_set(struct mz_status *s, const char *name, uint64_t port,
                       struct mz_link_target t, struct mz_err *err)
{
    const bool six = strchr(s->o.localhost, ':') != NULL;
    char address[64];
    t.address = address;
    t.unchecked = t.tls;
    t.source = six ? "::6" : "127.0.0.6";
    (void)snprintf(address, sizeof(address), six ? "[%s]:%u" : "%s:%u", s->o.localhost,
                   (unsigned)port);
    return mz_link_set(s->o.link, name, &t, err);
}

static bool is_prober_path(struct mz_str p)
{
    return mz_str_starts(p, MZ_STR("/app-health/")) || mz_str_starts(p, MZ_STR("/app-lifecycle/"));
}

static struct mz_str header_lines(const struct mz_node *list, struct mz_arena *a)
{
    struct mz_str all = { 0 };
    for (size_t i = 0; i < mz_node_count(list); i++)
        all = mz_arena_printf(a, MZ_STR_FMT MZ_STR_FMT ": " MZ_STR_FMT "\n", MZ_STR_ARG(all),
                              MZ_STR_ARG(mz_node_text(list->list[i], "name")),
                              MZ_STR_ARG(mz_node_text(list->list[i], "value")));
    return all;
}

static bool prober_add(struct mz_status *s, struct mz_str path, const struct mz_node *n,
                       struct mz_err *err)
{
    const struct mz_node *http = mz_node_get(n, "http_get"), *tcp = mz_node_get(n, "tcp_socket"),
                         *grpc = mz_node_get(n, "grpc");
    const uint64_t port = mz_node_number(http  ? http
                                         : tcp ? tcp
                                               : grpc,
                                         "port"),
                   seconds = mz_node_number(n, "timeout_seconds");
    struct prober *p = &s->probers[s->probers_n];
    const bool tls = http && mz_str_ieq(mz_node_text(http, "scheme"), MZ_STR("https"));
    if (s->probers_n == PROBERS_MAX)
        return mz_err_set(err, "more than %d probes", PROBERS_MAX);
    if (!is_prober_path(path))
        return mz_err_set(err, "\"%.80s\" is no path of a probe", path.p);
    if (!!http + !!tcp + !!grpc != 1 || !port || port > 65535)
        return mz_err_set(err, "%.80s: httpGet, tcpSocket or grpc with a port", path.p);
    p->path = path;
    p->kind = http ? PROBE_HTTP : tcp ? PROBE_TCP : PROBE_GRPC;
    p->service = mz_node_text(grpc, "service");
    p->timeout_ms = seconds ? seconds * 1000 : 1000;
    p->http_path = mz_node_text(http, "path");
    p->headers = header_lines(mz_node_get(http, "http_headers"), s->arena);
    (void)snprintf(p->target, sizeof(p->target), "probe-%s%u",
                   tls    ? "tls-"
                   : grpc ? "grpc-"
                          : "",
                   (unsigned)port);
    (void)mz_addr_parse_ip(mz_str_c(s->o.localhost), (uint16_t)port, &p->addr);
    s->probers_n++;
    const struct mz_link_target t = { .http1 = !grpc, .tls = tls, .once = true };
    return tcp || target_set(s, p->target, port, t, err);
}

static bool probers_read(struct mz_status *s, struct mz_err *err)
{
    if (!s->o.probers[0])
        return true;
    const struct mz_node *n = mz_tree_read_json(s->arena, mz_str_c(s->o.probers), err);
    if (!n || n->kind != MZ_NODE_MAP)
        return n ? mz_err_set(err, "not an object") : false;
    for (uint32_t i = 0; i < n->n; i++)
        if (!prober_add(s, mz_arena_dup(s->arena, n->pairs[i].key), n->pairs[i].value, err))
            return false;
    return true;
}

/* The agent's and the proxy's own ports would be asked of each other for ever. */
static bool is_own(const struct mz_status *s, uint64_t port)
{
    static const uint16_t own[] = { 15000, 15001, 15004, 15006, 15008, 15020, 15021, 15053, 15090 };
    for (size_t i = 0; i < sizeof(own) / sizeof(own[0]); i++)
        if (port == own[i])
            return true;
    return port == s->o.port || port == s->o.prometheus_port;
}

static bool prometheus_read(struct mz_status *s, struct mz_err *err)
{
    if (!s->o.prometheus[0])
        return true;
    const struct mz_node *n = mz_tree_read_json(s->arena, mz_str_c(s->o.prometheus), err);
    if (!n)
        return false;
    uint64_t port = mz_node_number(n, "port");
    const struct mz_str path = mz_node_text(n, "path");
    if (mz_str_eq(mz_node_text(n, "scrape"), MZ_STR("false")))
        return true;
    port = port ? port : 80;
    if (port > 65535)
        return mz_err_set(err, "port %llu", (unsigned long long)port);
    if (is_own(s, port)) {
        MZ_LOG(WARN, main, "metrics of port %u are not merged: it is the mesh's own",
               (unsigned)port);
        return true;
    }
    s->app_path = path.n ? path : MZ_STR("/metrics");
    s->has_app = true;
    return target_set(s, "app-metrics", port, (struct mz_link_target){ .http1 = true }, err);
}

static bool listen_on(struct mz_status *s, struct mz_err *err)
{
    const struct mz_web_opts o = { .name = "status",
                                   .max_body = 4096,
                                   .max_connections = 256,
                                   .timeout_ms = 60000,
                                   .later = on_request,
                                   .later_arg = s };
    struct mz_addr a;
    s->web = mz_web_create(s->o.loop, s->pages, &o);
    (void)mz_addr_parse_ip(strchr(s->o.localhost, ':') ? MZ_STR("::") : MZ_STR("0.0.0.0"),
                           s->o.port, &a);
    return mz_web_listen(s->web, &a, NULL, NULL, err);
}

struct mz_status *mz_status_create(const struct mz_status_opts *o, struct mz_err *err)
{
    struct mz_status *s = mz_alloc0(MZ_MEM_ADMIN, sizeof(*s));
    s->o = *o;
    s->arena = mz_arena_create(MZ_MEM_ADMIN);
    s->pages = mz_admin_create();
    mz_list_init(&s->waiting);
    const bool ok = (probers_read(s, err) || mz_err_at(err, "ISTIO_KUBE_APP_PROBERS")) &&
                    (prometheus_read(s, err) || mz_err_at(err, "ISTIO_PROMETHEUS_ANNOTATIONS")) &&
                    target_set(s, "metrics", o->prometheus_port,
                               (struct mz_link_target){ .http1 = true }, err) &&
                    listen_on(s, err);
    if (ok)
        return s;
    mz_status_stop(s);
    mz_status_destroy(s);
    return NULL;
}

void mz_status_stop(struct mz_status *s)
{
    if (!s)
        return;
    mz_web_destroy(s->web);
    s->web = NULL;
    while (!mz_list_empty(&s->waiting))
        end_with(MZ_CONTAINER(s->waiting.next, struct job, link), 503, "the agent ends");
}

void mz_status_destroy(struct mz_status *s)
{
    if (!s)
        return;
    mz_admin_destroy(s->pages);
    mz_arena_destroy(s->arena);
    mz_free(MZ_MEM_ADMIN, s);
}
