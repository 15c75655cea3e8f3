/*
 * `proxy`: the proxy and what it needs, in their order. First the sockets that it asks (secrets, xDS), then its process; at the
 * end its listeners drain before it is stopped.
 */
#include "agent/run/proxy.h"

#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "agent/agent.h"
#include "agent/run/run_priv.h"
#include "agent/tree.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/program.h"
#include "proto/node.h"

#define TOKEN "./var/run/secrets/tokens/istio-token"

const char *agent_env(const struct agent *g, const char *name, const char *otherwise)
{
    const char *v = mz_agent_env(&g->options.settings, name);
    return v && *v ? v : otherwise;
}

/* ---- the pod's DNS ---- */

static void on_names(void *arg, struct mz_str packed)
{
    struct agent *g = arg;
    mz_agent_dns_set(g->dns, packed);
}

/* "sidecar~10.0.0.1~web.shop~shop.svc.cluster.local" */
static struct mz_str domain_of(const char *id)
{
    return mz_str_skip(mz_str_c(id), (size_t)(mz_str_rchr(mz_str_c(id), '~') + 1));
}

static bool start_dns(struct agent *g, struct mz_err *err)
{
    const struct mz_str address = member_text(g->boot.metadata, "DNS_PROXY_ADDR");
    bool wanted = false;
    (void)mz_agent_bool(mz_arena_dup(g->arena, member_text(g->boot.metadata, "DNS_CAPTURE")).p,
                        &wanted);
    if (!wanted || strcmp(g->options.settings.role, "sidecar") != 0)
        return true;
    const struct mz_agent_dns_opts o = {
        .loop = g->loop,
        .address = address.n ? mz_arena_dup(g->arena, address).p : "localhost:15053",
        .resolv_conf = agent_env(g, "RESOLV_CONF", "/etc/resolv.conf"),
        .namespace_ = mz_str_c(g->boot.namespace_),
        .domain = domain_of(g->boot.id),
    };
    g->dns = mz_agent_dns_create(&o, err);
    return g->dns ? true : mz_err_at(err, "DNS_PROXY_ADDR");
}

static bool start_relay(struct agent *g, struct mz_err *err)
{
    const struct mz_relay_opts o = { .loop = g->loop,
                                     .link = g->link,
                                     .token_path = g->boot.plain ? "" : g->token_path,
                                     .cluster_id = g->cluster_id,
                                     .env = environ,
                                     .names = g->dns ? on_names : NULL,
                                     .arg = g };
    g->relay = mz_relay_create(&o);
    g->xds_server = agent_serve(g, mz_arena_printf(g->arena, "%s/XDS", g->boot.config_path).p, err);
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

/* Ctrl-C a second time is a person who does not want to wait; any other signal once more says nothing new. */
static void on_signal(void *arg, int signo)
{
    struct agent *g = arg;
    if (signo == SIGINT && g->interrupted) {
        mz_end_now(g->end);
        return;
    }
    g->interrupted = g->interrupted || signo == SIGINT;
    MZ_LOG(INFO, main, "caught signal %d", signo);
    mz_end_begin(g->end);
}

static bool start_end(struct agent *g, struct mz_err *err)
{
    struct mz_end_opts o = { .loop = g->loop,
                             .link = g->link,
                             .process = g->process,
                             .inbound_only = strcmp(g->options.settings.role, "sidecar") == 0,
                             .drain_ms = g->boot.termination_drain_ms,
                             .minimum_ms = 5000,
                             .own_ports = { g->boot.status_port, g->boot.envoy_status_port,
                                            g->boot.prometheus_port } };
    const char *minimum = agent_env(g, "MINIMUM_DRAIN_DURATION", "5s");
    (void)mz_agent_bool(agent_env(g, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "false"), &o.on_zero);
    if (!mz_agent_duration(minimum, &o.minimum_ms))
        return mz_err_set(err, "MINIMUM_DRAIN_DURATION: \"%.60s\" is no duration like 5s", minimum);
    g->end = mz_end_create(&o);
    return true;
}

/* ---- the status port ---- */

static void on_quit(void *arg)
{
    struct agent *g = arg;
    MZ_LOG(INFO, main, "asked to end");
    mz_end_now(g->end); /* who asks has finished: nothing is left to drain for */
}

static void on_drain(void *arg)
{
    struct agent *g = arg;
    mz_end_drain(g->end);
}

static const char *waits(void *arg)
{
    const struct agent *g = arg;
    return g->dns && !mz_agent_dns_ready(g->dns) ? "the table of names for DNS is not there yet"
                                                 : NULL;
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
    if (g->dns)
        mz_agent_dns_metrics(g->dns, out);
}

static bool start_status(struct agent *g, struct mz_err *err)
{
    const struct mz_status_opts o = { .loop = g->loop,
                                      .link = g->link,
                                      .port = g->boot.status_port,
                                      .prometheus_port = g->boot.prometheus_port,
                                      .localhost = g->boot.localhost,
                                      .probers = agent_env(g, "ISTIO_KUBE_APP_PROBERS", ""),
                                      .prometheus =
                                          agent_env(g, "ISTIO_PROMETHEUS_ANNOTATIONS", ""),
                                      .quit = on_quit,
                                      .drain = on_drain,
                                      .waits = waits,
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

/* Istio's default place means our own proxy, the one that lies beside this program; any other is meant as it is. */
static void choose_program(struct agent *g)
{
    char self[512];
    if (strcmp(g->boot.binary, "/usr/local/bin/envoy") != 0)
        return;
    const ssize_t n = readlink("/proc/self/exe", self, sizeof(self));
    const ptrdiff_t slash = n > 0 && (size_t)n < sizeof(self)
                                ? mz_str_rchr((struct mz_str){ self, (size_t)n }, '/')
                                : -1;
    if (slash < 0)
        return;
    const char *beside = mz_arena_printf(g->arena, "%.*s/mizzen-proxy", (int)slash, self).p;
    if (access(beside, X_OK) != 0)
        return;
    g->boot.argv[0] = beside;
    if (g->boot.not_followed)
        MZ_LOG(WARN, main, "what an Envoy would follow and this proxy does not: %s",
               g->boot.not_followed);
}

static bool start(struct agent *g, struct mz_err *err)
{
    g->token_path = agent_env(g, "JWT_PATH", TOKEN);
    g->cluster_id = agent_env(g, "ISTIO_META_CLUSTER_ID", "Kubernetes");
    g->authority = !g->boot.plain || mz_agent_env(&g->options.settings, "CA_ADDR");
    choose_program(g);
    if (!agent_folders(g->boot.file, err) || !file_write(g->boot.file, g->boot.json, 0644, err) ||
        !agent_links(g, err) || !agent_secrets(g, err) || !start_dns(g, err) ||
        !start_relay(g, err))
        return false;
    const struct mz_process_opts o = {
        .loop = g->loop, .argv = g->boot.argv, .ended = on_ended, .arg = g
    };
    g->process = mz_process_create(&o);
    if (!start_end(g, err) || !start_status(g, err))
        return false;
    return mz_loop_on_signal(g->loop, SIGTERM, on_signal, g) &&
           mz_loop_on_signal(g->loop, SIGINT, on_signal, g) &&
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
    const bool started = start(g, err);
    if (started) {
        MZ_LOG(INFO, main, "%s: control plane %s", g->boot.id, g->boot.discovery);
        mz_loop_run(g->loop);
    }
    mz_end_destroy(g->end);
    mz_status_stop(g->status);
    mz_process_destroy(g->process);
    mz_grpc_server_destroy(g->xds_server);
    mz_grpc_server_destroy(g->sds_server);
    mz_relay_destroy(g->relay);
    mz_agent_dns_destroy(g->dns);
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
