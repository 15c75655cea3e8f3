/* mizzend as a server: a directory that is watched, xDS out. */
#include <signal.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/analyze/report.h"
#include "control/announce/machines.h"
#include "control/ca/ca.h"
#include "control/discovery/server.h"
#include "control/inject/cluster.h"
#include "control/inject/layers.h"
#include "control/keys/keys.h"
#include "control/model/service_ips.h"
#include "control/monitor/monitor.h"
#include "control/program_priv.h"
#include "control/status/writer.h"
#include "control/webhook/webhook.h"

struct serving {
    const struct mz_control_options *o;
    struct mz_loop *loop;
    struct mz_store *store;
    struct mz_source *source;
    struct mz_service_ips *addresses;
    struct mz_discovery *discovery;
    struct mz_machines *machines;
    struct mz_keys *keys;
    struct mz_monitor *monitor;
    struct mz_ca *ca;           /* NULL: nobody asked for a secure port */
    struct mz_webhook *webhook; /* NULL: nobody asked for it */
    struct mz_inject_cluster *injector;
    struct mz_arena *arena; /* texts of settings at the start */
    struct mz_model *model;
    struct mz_status_writer *status; /* NULL: nobody asked for it */
};

static bool status_from(void *arg, struct mz_status_from *out)
{
    const struct serving *s = arg;
    *out = (struct mz_status_from){ .model = s->model,
                                    .store = s->store,
                                    .source = s->source,
                                    .roots = s->ca ? mz_ca_roots(s->ca) : MZ_STR(""),
                                    .crl = s->ca ? mz_ca_crl(s->ca) : MZ_STR("") };
    return s->model != NULL;
}

static void on_authority(void *arg)
{
    mz_status_writer_later(((struct serving *)arg)->status);
}

/* After each commit of the source: documents to a model, the model to everybody. */
static void on_documents(void *arg)
{
    struct serving *s = arg;
    const struct mz_model_opts mo = { .domain = s->o->domain,
                                      .addresses = s->addresses,
                                      .installed = true };
    const uint64_t begin = mz_clock->mono_us();
    struct mz_model *m = mz_model_build(s->store, &mo, s->model);
    const uint64_t built = mz_clock->mono_us(), since = s->source->since_us;
    mz_model_unref(s->model);
    s->model = m;
    mz_discovery_set_model(s->discovery, m);
    mz_keys_look(s->keys, m);
    mz_inject_cluster_look(s->injector, m->mesh.root_ns);
    const uint64_t took = mz_clock->mono_us() - begin;
    const struct mz_monitor_push push = { .waited_us = built - (since ? since : begin),
                                          .model_us = built - begin,
                                          .told_us = took };
    mz_monitor_pushed(s->monitor, &push);
    mz_status_writer_later(s->status);
    MZ_LOG(INFO, config, "%zu services; %zu streams told in %llu us", m->services_n,
           mz_discovery_clients(s->discovery), (unsigned long long)took);
}

static void on_problems(void *arg)
{
    struct serving *s = arg;
    mz_status_writer_later(s->status);
    (void)mz_report_log(s->source); /* counted by whoever asks */
}

static void on_signal(void *arg, int signo)
{
    struct serving *s = arg;
    MZ_LOG(INFO, main, "caught signal %d: shutting down", signo);
    mz_loop_stop(s->loop);
}

static bool parse_address(const char *text, struct mz_addr *out, struct mz_err *err)
{
    struct mz_str t = mz_str_c(text);
    const ptrdiff_t colon = mz_str_rchr(t, ':');
    uint64_t port;
    if (colon < 0 || !mz_str_u64(mz_str_skip(t, (size_t)colon + 1), &port) || port > UINT16_MAX)
        return mz_err_set(err, "\"%s\" is not address:port", text);
    struct mz_str ip = { t.p, (size_t)colon };
    if (ip.n > 1 && ip.p[0] == '[' && ip.p[ip.n - 1] == ']')
        ip = (struct mz_str){ ip.p + 1, ip.n - 2 };
    return mz_addr_parse_ip(ip.n ? ip : MZ_STR("::"), (uint16_t)port, out) ||
           mz_err_set(err, "\"%s\" is not address:port", text);
}

/* An address that a flag names; "": none. The log tells it in words that tests wait for. */
static bool listen_at(struct serving *s, const char *flag, const char *address, const char *what,
                      bool (*listen)(struct serving *s, const struct mz_addr *a,
                                     struct mz_addr *out_addr, struct mz_err *err),
                      struct mz_err *err)
{
    struct mz_addr a, got;
    char text[MZ_ADDR_TEXT];
    if (!address[0])
        return true;
    if (!parse_address(address, &a, err) || !listen(s, &a, &got, err))
        return mz_err_at(err, "%s", flag);
    mz_addr_text(&got, text);
    MZ_LOG(INFO, main, "%s on %s", what, text);
    return true;
}

static bool listen_xds(struct serving *s, const struct mz_addr *a, struct mz_addr *out_addr,
                       struct mz_err *err)
{
    return mz_discovery_listen(s->discovery, a, out_addr, err);
}

static bool listen_monitor(struct serving *s, const struct mz_addr *a, struct mz_addr *out_addr,
                           struct mz_err *err)
{
    return mz_monitor_listen(s->monitor, a, out_addr, err);
}

static bool listen_secure(struct serving *s, const struct mz_addr *a, struct mz_addr *out_addr,
                          struct mz_err *err)
{
    const struct mz_discovery_gate g = mz_ca_gate(s->ca);
    return mz_discovery_listen_secure(s->discovery, a, mz_ca_grpc_factory(s->ca), &g, out_addr,
                                      err);
}

static void more_metrics(void *arg, struct mz_buf *out)
{
    const struct serving *s = arg;
    mz_machines_metrics(s->machines, out);
    mz_keys_metrics(s->keys, out);
    if (s->ca)
        mz_ca_metrics(s->ca, out);
    if (s->webhook)
        mz_webhook_metrics(s->webhook, out);
}

static void layers(void *arg, const char *ns, const json_t *labels, json_t **out_under,
                   json_t **out_over)
{
    const struct serving *s = arg;
    mz_inject_layers(s->model, ns, labels, out_under, out_over);
}

static json_t *mesh(void *arg)
{
    return mz_inject_mesh(((const struct serving *)arg)->model);
}

static bool native_of(void *arg, const char *node)
{
    return mz_inject_cluster_native(((const struct serving *)arg)->injector, node);
}

static bool listen_webhook(struct serving *s, const struct mz_addr *a, struct mz_addr *out_addr,
                           struct mz_err *err)
{
    const struct mz_mesh *m = &s->model->mesh;
    struct mz_inject_opts o;
    mz_inject_opts_init(&o);
    o.image = s->o->inject_image;
    o.ca_address = mz_arena_printf(s->arena, "istiod.%.*s.svc:15012", MZ_STR_ARG(m->root_ns)).p;
    o.trust_domain = mz_arena_dup(s->arena, m->trust_domain).p;
    o.mesh_id = o.trust_domain;
    o.cluster_id = mz_arena_dup(s->arena, m->cluster_id).p;
    o.domain = s->o->domain;
    o.native = mz_inject_native_from_env();
    o.config = layers;
    o.config_arg = s;
    o.mesh = mesh;
    o.native_of = mz_inject_native_is_auto() ? native_of : NULL;
    o.templates = mz_inject_cluster_templates(s->injector);
    s->webhook = mz_webhook_create(s->loop, &o);
    return mz_webhook_listen(s->webhook, a, mz_ca_web_factory(s->ca), out_addr, err);
}

/* Its trust domain is the mesh's at the start. */
static bool start_authority(struct serving *s, struct mz_err *err)
{
    const struct mz_control_options *o = s->o;
    const struct mz_ca_opts co = {
        .authority = { .dir = o->ca_dir,
                       .trust_domain = mz_arena_dup(s->arena, s->model->mesh.trust_domain).p,
                       .root_ttl_s = o->root_ttl_s,
                       .default_ttl_s = o->workload_ttl_s,
                       .max_ttl_s = o->max_workload_ttl_s },
        .tokens = { .dir = o->ca_dir, .issuer = o->token_issuer, .jwks = o->token_jwks },
        .root_ns = mz_arena_dup(s->arena, s->model->mesh.root_ns).p,
        .domain = o->domain,
        .refresh_ms = o->refresh_ms,
        .changed = on_authority,
        .arg = s,
    };
    if (!o->ca_dir)
        MZ_LOG(WARN, main, "no --ca-dir: another root after each start");
    s->ca = mz_ca_create(s->loop, &co, err);
    if (s->ca)
        mz_ca_service_add(mz_ca_get_service(s->ca), mz_discovery_server(s->discovery));
    mz_status_writer_later(s->status);
    return s->ca != NULL;
}

static bool start(struct serving *s, struct mz_err *err)
{
    s->addresses = mz_service_ips_create(s->o->service_cidr, err);
    if (!s->addresses)
        return mz_err_at(err, "--service-cidr");
    if (!s->source->ops->start(s->source, err))
        return false;
    (void)mz_report_log(s->source); /* what is wrong was told; what is right is served */
    if (!s->model)
        on_documents(s); /* an empty directory commits nothing */
    if ((s->o->secure_grpc_addr[0] || s->o->webhook_addr[0]) && !start_authority(s, err))
        return false;
    return listen_at(s, "--webhook-addr", s->o->webhook_addr, "webhook", listen_webhook, err) &&
           listen_at(s, "--secure-grpc-addr", s->o->secure_grpc_addr, "secure xDS", listen_secure,
                     err) &&
           listen_at(s, "--monitoring-addr", s->o->monitoring_addr, "monitoring", listen_monitor,
                     err) &&
           listen_at(s, "--grpc-addr", s->o->grpc_addr, "xDS", listen_xds, err);
}

int program_serve(const struct mz_control_options *o)
{
    struct serving s = { .o = o,
                         .loop = mz_loop_create("main_thread"),
                         .arena = mz_arena_create(MZ_MEM_CONFIG) };
    const struct mz_directory_opts d = { .dirs = o->config_dirs.v,
                                         .dirs_n = o->config_dirs.n,
                                         .mesh_file = o->mesh_config,
                                         .watch = true,
                                         .debounce_ms = 20, /* a change costs little here */
                                         .told = on_problems,
                                         .arg = &s };
    struct mz_err err = { .path = "", .msg = "" };
    char text[sizeof(err)];
    if (o->status_dir)
        s.status = mz_status_writer_create(s.loop, o->status_dir, status_from, &s);
    s.store = mz_store_create(on_documents, &s);
    s.injector = mz_inject_cluster_create(s.store);
    const struct mz_keys_opts keys = mz_keys_opts_from_env(o->keys_dir);
    s.keys = mz_keys_create(s.loop, s.store, &keys);
    s.source = mz_directory_create(s.loop, s.store, &d);
    s.discovery = mz_discovery_create(s.loop);
    const struct mz_machines_opts machines = mz_machines_opts_from_env();
    s.machines = mz_machines_create(s.loop, s.store, &machines);
    const struct mz_discovery_watch watch = mz_machines_watch(s.machines);
    mz_discovery_set_watch(s.discovery, &watch);
    const struct mz_monitor_env me = {
        .loop = s.loop, .debug = { s.discovery, s.store, s.source }, .more = more_metrics, .arg = &s
    };
    s.monitor = mz_monitor_create(&me);
    int rc = 1;
    if ((!o->status_dir ||
         mz_status_dir_ok(o->status_dir, o->config_dirs.v, o->config_dirs.n, &err)) &&
        start(&s, &err) && mz_loop_on_signal(s.loop, SIGTERM, on_signal, &s) &&
        mz_loop_on_signal(s.loop, SIGINT, on_signal, &s)) {
        mz_loop_run(s.loop);
        rc = 0;
    } else {
        MZ_LOG(CRITICAL, main, "%s", mz_err_text(&err, text, sizeof(text)));
    }
    mz_status_writer_destroy(s.status);
    mz_ca_stop(s.ca);
    mz_webhook_destroy(s.webhook);
    mz_monitor_destroy(s.monitor);
    mz_discovery_destroy(s.discovery);
    mz_machines_destroy(s.machines);
    mz_keys_stop(s.keys);
    s.source->ops->destroy(s.source);
    mz_inject_cluster_destroy(s.injector);
    mz_store_destroy(s.store);
    mz_service_ips_destroy(s.addresses);
    mz_model_unref(s.model);
    mz_loop_destroy(s.loop);
    mz_arena_destroy(s.arena);
    mz_keys_destroy(s.keys);
    mz_ca_destroy(s.ca); /* connections that went with the loop used its contexts */
    return rc;
}
