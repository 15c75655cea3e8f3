#include "server/server.h"

#include <malloc.h>
#include <signal.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/parallel.h"
#include "filters/registry.h"
#include "hcm/filter.h"
#include "hcm/hcm.h"
#include "listener/address.h"
#include "observe/access_log.h"
#include "observe/decision.h"
#include "observe/log_file.h"
#include "observe/metadata.h"
#include "tls/tls.h"
#include "transports/transports.h"

#define RECORDS_KEPT     64 /* failed and slow requests a worker remembers */
#define FLUSH_MS_DEFAULT 5000

enum mz_server_state mz_server_state(const struct mz_server *s)
{
    if (__atomic_load_n(&s->process.health_failed, __ATOMIC_RELAXED))
        return MZ_SERVER_DRAINING;
    if (s->workers_started)
        return MZ_SERVER_LIVE;
    return s->clusters_ready ? MZ_SERVER_INITIALIZING : MZ_SERVER_PRE_INITIALIZING;
}

/* ---- building ---- */

static struct mz_transport_factory *transport_build(struct mz_server *s, struct mz_proto_ctx *proto,
                                                    const pb_TransportSocket *m, bool downstream,
                                                    struct mz_str prefix, struct mz_init *init,
                                                    struct mz_err *err);

static struct mz_transport_factory *starttls_build(const pb_StartTlsConfig *m,
                                                   const struct mz_tls_env *env, struct mz_err *err)
{
    struct mz_transport_factory *tls = mz_tls_downstream_create(m->tls_socket_config, env, err);
    if (tls)
        return mz_transport_starttls_create(tls);
    mz_err_at(err, "tls_socket_config");
    return NULL;
}

/* One that stands around another. */
static struct mz_transport_factory *wrapper_build(struct mz_server *s, struct mz_proto_ctx *proto,
                                                  const ProtobufCMessageDescriptor *type,
                                                  const ProtobufCMessage *msg, bool downstream,
                                                  struct mz_str prefix, struct mz_init *init,
                                                  struct mz_err *err)
{
    bool stats = type == &pb_tcp_stats_Config__descriptor;
    bool internal = type == &pb_InternalUpstreamTransport__descriptor;
    const pb_TransportSocket *around =
        stats      ? ((const pb_tcp_stats_Config *)msg)->transport_socket
        : internal ? ((const pb_InternalUpstreamTransport *)msg)->transport_socket
                   : ((const pb_ProxyProtocolUpstreamTransport *)msg)->transport_socket;
    struct mz_transport_factory *inner =
        transport_build(s, proto, around, downstream, prefix, init, err);
    if (!inner) {
        mz_err_at(err, "transport_socket");
        return NULL;
    }
    if (stats)
        return mz_transport_tcp_stats_create((const pb_tcp_stats_Config *)msg, inner, s->stats,
                                             prefix, err);
    if (internal)
        return mz_transport_internal_create((const pb_InternalUpstreamTransport *)msg, inner,
                                            s->stats, prefix, err);
    return mz_transport_proxy_create((const pb_ProxyProtocolUpstreamTransport *)msg, inner,
                                     s->stats, prefix, err);
}

static struct mz_transport_factory *transport_build(struct mz_server *s, struct mz_proto_ctx *proto,
                                                    const pb_TransportSocket *m, bool downstream,
                                                    struct mz_str prefix, struct mz_init *init,
                                                    struct mz_err *err)
{
    const struct mz_tls_env env = {
        .stats = s->stats, .prefix = prefix, .secrets = s->dynamic.secrets, .init = init
    };
    struct mz_transport_factory *f = NULL;
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg = NULL;
    if (!m->typed_config)
        mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: ''",
                   m->name);
    else if (mz_any_unpack(proto, m->typed_config, &type, &msg, err)) {
        if (type == &pb_RawBuffer__descriptor)
            f = mz_transport_factory_raw();
        else if (downstream && type == &pb_DownstreamTlsContext__descriptor)
            f = mz_tls_downstream_create((const pb_DownstreamTlsContext *)msg, &env, err);
        else if (downstream && type == &pb_StartTlsConfig__descriptor)
            f = starttls_build((const pb_StartTlsConfig *)msg, &env, err);
        else if (!downstream && type == &pb_UpstreamTlsContext__descriptor)
            f = mz_tls_upstream_create((const pb_UpstreamTlsContext *)msg, &env, err);
        else if (type == &pb_tcp_stats_Config__descriptor ||
                 (!downstream && (type == &pb_ProxyProtocolUpstreamTransport__descriptor ||
                                  type == &pb_InternalUpstreamTransport__descriptor)))
            f = wrapper_build(s, proto, type, msg, downstream, prefix, init, err);
        else
            mz_err_set(err, "is no transport socket of a %s: '%s'",
                       downstream ? "listener" : "cluster", m->typed_config->type_url);
    }
    if (!f)
        mz_err_at(err, "typed_config");
    return f;
}

static struct mz_transport_factory *listener_transport(const struct mz_factory *f, const void *msg,
                                                       bool downstream, struct mz_err *err)
{
    return transport_build(f->server, f->proto, msg, downstream,
                           f->listener_scope ? f->listener_scope->prefix : MZ_STR("listener."),
                           f->init, err);
}

static struct mz_transport_factory *cluster_transport(void *arg, const void *msg,
                                                      struct mz_str prefix, struct mz_init *init,
                                                      struct mz_err *err)
{
    struct mz_server *s = arg;
    /* After the start it is a cluster by subscription. */
    struct mz_proto_ctx ctx = { .unknown = s->opts.reject_unknown_dynamic_fields
                                               ? MZ_UNKNOWN_REJECT
                                               : MZ_UNKNOWN_COUNT };
    if (s->proto.arena)
        return transport_build(s, &s->proto, msg, false, prefix, init, err);
    ctx.arena = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_transport_factory *f = transport_build(s, &ctx, msg, false, prefix, init, err);
    mz_arena_destroy(ctx.arena);
    return f;
}

static struct mz_transport_factory *cluster_filter(void *arg, const void *filter,
                                                   struct mz_transport_factory *take_inner,
                                                   struct mz_err *err)
{
    struct mz_server *s = arg;
    const pb_cluster_Filter *m = filter;
    struct mz_proto_ctx ctx = { .unknown = s->opts.reject_unknown_dynamic_fields
                                               ? MZ_UNKNOWN_REJECT
                                               : MZ_UNKNOWN_COUNT };
    struct mz_transport_factory *f = NULL;
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    const struct mz_upstream_filter_type *t =
        m->typed_config ? mz_registry_upstream_filter(mz_any_type(m->typed_config)) : NULL;
    ctx.arena = mz_arena_create(MZ_MEM_CONFIG);
    if (!t) {
        mz_transport_factory_unref(take_inner);
        mz_err_set(err, "Didn't find a registered implementation for '%s' with type URL: '%s'",
                   m->name, m->typed_config ? m->typed_config->type_url : "");
    } else if (mz_any_unpack(s->proto.arena ? &s->proto : &ctx, m->typed_config, &type, &msg,
                             err)) {
        f = t->around(msg, &s->factory, take_inner, err);
    } else {
        mz_transport_factory_unref(take_inner);
    }
    mz_arena_destroy(ctx.arena);
    if (!f)
        mz_err_at(err, "typed_config");
    return f;
}

static struct mz_str node_text(struct mz_server *s, const char *from_option, const char *from_file)
{
    return mz_arena_dup(s->arena, mz_str_c(from_option ? from_option : from_file));
}

static void factory_fill(struct mz_server *s)
{
    const pb_Node *n = s->bootstrap->node;
    const pb_Locality *at = n ? n->locality : NULL;
    const char *prefix = s->bootstrap->header_prefix;
    s->factory = (struct mz_factory){
        .stats = s->stats,
        .log_files = s->logs,
        .clusters = s->clusters,
        .recorder = s->recorder,
        .process = &s->process,
        .proto = &s->proto,
        .node_id = node_text(s, s->opts.service_node, n ? n->id : NULL),
        .node_cluster = node_text(s, s->opts.service_cluster, n ? n->cluster : NULL),
        .node_region = node_text(s, NULL, at ? at->region : NULL),
        .node_zone = node_text(s, s->opts.service_zone, at ? at->zone : NULL),
        .node_metadata = n && n->metadata ? mz_value_build(n->metadata, s->arena) : NULL,
        .header_prefix =
            prefix && prefix[0] ? mz_arena_dup(s->arena, mz_str_c(prefix)) : MZ_STR("x-envoy"),
        .version = mz_str_c(mz_server_version()),
        .workers = s->n_workers,
        .main = s->loop,
        .main_worker = &s->main_worker,
        .drain_ms = (uint64_t)s->opts.drain_time_s * 1000,
        .drain_at_once = s->opts.drain_strategy[0] == 'i',
        .xds = s->xds,
        .rds = s->dynamic.rds,
        .ecds = s->dynamic.ecds,
        .init = &s->init,
        .net_filter = mz_registry_net_filter,
        .http_filter = mz_registry_http_filter,
        .tracer = mz_registry_tracer,
        .listener_filter = mz_registry_listener_filter,
        .transport = listener_transport,
        .server = s,
    };
}

static bool clusters_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    for (size_t i = 0; r && i < r->n_clusters; i++) {
        struct mz_str bytes = mz_msg_pack_alloc((const ProtobufCMessage *)r->clusters[i], s->load);
        if (!mz_cluster_manager_add(s->clusters, r->clusters[i], bytes, false, err))
            return mz_err_at(err, "static_resources.clusters[%zu]", i);
    }
    const char *local =
        s->bootstrap->cluster_manager ? s->bootstrap->cluster_manager->local_cluster_name : "";
    return !local[0] || mz_cluster_manager_has(s->clusters, mz_str_c(local)) ||
           mz_err_set(err, "local cluster '%s' must be defined", local) ||
           mz_err_at(err, "cluster_manager.local_cluster_name");
}

static bool listeners_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    for (size_t i = 0; r && i < r->n_listeners; i++) {
        struct mz_str bytes = mz_msg_pack_alloc((const ProtobufCMessage *)r->listeners[i], s->load);
        if (!mz_listener_manager_add(s->listeners, r->listeners[i], bytes, false, !s->opts.validate,
                                     &s->factory, err))
            return mz_err_at(err, "static_resources.listeners[%zu]", i);
    }
    return true;
}

static bool stats_build(struct mz_server *s, struct mz_err *err)
{
    struct mz_stats_config *c = mz_stats_config_from(s->bootstrap->stats_config, s->arena, err);
    if (!c)
        return mz_err_at(err, "stats_config");
    s->stats = mz_stats_create(s->n_workers + 1);
    mz_stats_configure(s->stats, c);
    const pb_Bootstrap_DeferredStatOptions *d = s->bootstrap->deferred_stat_options;
    if (d && d->enable_deferred_creation_stats)
        mz_stats_defer(s->stats, &mz_cluster_stats);
    s->scope = mz_scope_create(s->stats, &mz_server_stats, MZ_STR("server."));
    mz_gauge_set(s->scope, MZ_SERVER_STAT_CONCURRENCY, s->n_workers);
    mz_count(s->scope, MZ_SERVER_STAT_STATIC_UNKNOWN, s->proto.unknown_n);
    uint64_t version = mz_u64_or(s->bootstrap->stats_server_version_override, 0);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_VERSION, version);
    s->flush_on_admin =
        s->bootstrap->stats_flush_case == pb_Bootstrap_STATS_FLUSH_STATS_FLUSH_ON_ADMIN;
    return mz_duration_ms(s->bootstrap->stats_flush_interval, FLUSH_MS_DEFAULT, &s->flush_ms,
                          err) ||
           mz_err_at(err, "stats_flush_interval");
}

static bool outlier_log_open(struct mz_server *s, struct mz_err *err)
{
    const pb_ClusterManager *m = s->bootstrap->cluster_manager;
    const char *path = m && m->outlier_detection ? m->outlier_detection->event_log_path : NULL;
    if (!path || !path[0])
        return true;
    s->outlier_log = mz_log_file_open(s->logs, mz_str_c(path), err);
    return s->outlier_log || mz_err_at(err, "cluster_manager.outlier_detection.event_log_path");
}

/* Of the thread that asks. */
static struct mz_upstream *upstream_here(void *arg)
{
    const struct mz_server *s = arg;
    if (mz_stats_slot == 0)
        return s->main_worker.upstream;
    return mz_stats_slot <= s->n_workers ? s->workers[mz_stats_slot - 1].upstream : NULL;
}

/* Needs the node as the factory has it. */
static void loggers_set(struct mz_server *s)
{
    size_t n;
    const struct mz_access_logger_type *const *v = mz_registry_access_loggers(&n);
    s->grpc_logs = (struct mz_grpc_log_env){
        .scope =
            mz_scope_create(s->stats, &mz_grpc_log_stats, MZ_STR("access_logs.grpc_access_log.")),
        .node = mz_server_node(s),
        .upstream_here = upstream_here,
        .arg = s,
        .n_slots = s->n_workers + 1,
    };
    mz_log_files_set_loggers(s->logs, v, n, &s->grpc_logs);
}

static bool services_build(struct mz_server *s, struct mz_err *err)
{
    s->runtime =
        mz_runtime_store_create(s->stats, s->bootstrap->layered_runtime,
                                node_text(s, s->opts.service_cluster,
                                          s->bootstrap->node ? s->bootstrap->node->cluster : NULL),
                                err);
    if (!s->runtime)
        return mz_err_at(err, "layered_runtime");
    s->logs = mz_log_files_create(s->stats, s->n_workers + 1, s->opts.file_flush_interval_msec);
    s->recorder = mz_recorder_create(s->n_workers + 1, RECORDS_KEPT);
    const pb_Locality *at = s->bootstrap->node ? s->bootstrap->node->locality : NULL;
    const pb_ClusterManager *manager = s->bootstrap->cluster_manager;
    if (!outlier_log_open(s, err))
        return false;
    mz_workers_create(s, s->n_workers);
    mz_server_xds_create(s);
    const struct mz_upstream_env env = {
        .main = s->loop,
        .stats = s->stats,
        .local_region = node_text(s, NULL, at ? at->region : NULL),
        .local_zone = node_text(s, s->opts.service_zone, at ? at->zone : NULL),
        .local_sub_zone = node_text(s, NULL, at ? at->sub_zone : NULL),
        .local_cluster = node_text(s, NULL, manager ? manager->local_cluster_name : NULL),
        .log_files = s->logs,
        .outlier_log = s->outlier_log,
        .transport = cluster_transport,
        .filter = cluster_filter,
        .transport_arg = s,
        .xds = s->xds,
    };
    s->clusters = mz_cluster_manager_create(&env);
    s->watchdog = mz_watchdog_create(s);
    if (s->bootstrap->enable_dispatcher_stats)
        mz_server_dispatchers_create(s);
    s->main_worker = (struct mz_worker){ .loop = s->loop,
                                         .slot = 0,
                                         .upstream = mz_upstream_create(s->clusters, s->loop),
                                         .recorder = s->recorder,
                                         .process = &s->process };
    factory_fill(s);
    mz_server_node_show(s);
    loggers_set(s);
    s->listeners = mz_listener_manager_create(&s->factory, s->workers, s->n_workers);
    return true;
}

static void flush_stats(struct mz_timer *t)
{
    struct mz_server *s = MZ_CONTAINER(t, struct mz_server, flush_timer);
    mz_server_stats_update(s);
    mz_stats_flush(s->stats);
    mz_timer_start_ms(&s->flush_timer, s->flush_ms);
}

/* What the configuration was read into goes back to the system: nothing built from it points there. */
static void load_end(struct mz_server *s)
{
    mz_arena_destroy(s->load);
    s->load = s->proto.arena = NULL;
    s->bootstrap = NULL;
    mz_slice_thread_trim();
    (void)malloc_trim(0);
}

static bool build(struct mz_server *s, struct mz_err *err)
{
    if (!mz_bootstrap_read(s, err) || !mz_bootstrap_log(s, err) || !stats_build(s, err) ||
        !mz_server_overload_build(s, err) || !services_build(s, err))
        return false;
    if (!s->opts.validate && !mz_server_admin_start(s, err))
        return mz_err_at(err, "admin");
    return mz_server_extensions_build(s, err) && mz_server_ads_build(s, err) &&
           mz_server_secrets_build(s, err) && clusters_build(s, err) && listeners_build(s, err) &&
           mz_server_dynamic_build(s, err);
}

bool mz_server_build(struct mz_server *s, const struct mz_options *o, struct mz_err *err)
{
    s->opts = *o;
    s->start_us = mz_clock->mono_us();
    s->arena = mz_arena_create(MZ_MEM_CONFIG);
    s->load = mz_arena_create(MZ_MEM_CONFIG);
    s->n_workers = o->concurrency ? o->concurrency : mz_cpus();
    if (s->n_workers >= MZ_STATS_SLOTS)
        s->n_workers = MZ_STATS_SLOTS - 1;
    s->loop = mz_loop_create("main_thread");
    mz_timer_init(s->loop, &s->flush_timer, flush_stats);
    mz_drain_init(s);
    bool ok = build(s, err);
    load_end(s);
    return ok;
}

/* ---- running ---- */

static void on_signal(void *arg, int signo)
{
    struct mz_server *s = arg;
    switch (signo) {
    case SIGTERM:
        mz_server_exit(s, "ENVOY_SIGTERM");
        break;
    case SIGINT:
        mz_server_exit(s, "SIGINT");
        break;
    case SIGUSR1:
        MZ_LOG(INFO, main, "reopening log files");
        (void)mz_log_reopen(); /* on failure the old file stays */
        mz_log_files_reopen(s->logs);
        break;
    default:
        MZ_LOG(WARN, main, "caught and eating SIGHUP. See documentation for how to hot restart.");
        break;
    }
}

/* From now on connections are taken. */
static void all_ready(void *arg)
{
    struct mz_server *s = arg;
    if (s->exiting)
        return;
    MZ_LOG(INFO, config, "all dependencies initialized. starting workers");
    mz_workers_start(s);
    mz_listener_manager_start(s->listeners);
    mz_watchdog_start(s->watchdog);
    mz_hist_record(s->scope, MZ_SERVER_STAT_INIT_MS, (mz_clock->mono_us() - s->start_us) / 1000);
    mz_server_stats_update(s);
}

int mz_server_run(struct mz_server *s)
{
    static const int signals[] = { SIGTERM, SIGINT, SIGUSR1, SIGHUP };
    for (size_t i = 0; i < MZ_COUNT(signals); i++)
        if (!mz_loop_on_signal(s->loop, signals[i], on_signal, s))
            MZ_LOG(WARN, main, "cannot handle signal %d", signals[i]);
    mz_runtime_store_add_thread(s->runtime, s->loop);
    for (unsigned i = 0; i < s->n_workers; i++)
        mz_runtime_store_add_thread(s->runtime, s->workers[i].loop);
    if (!s->flush_on_admin)
        mz_timer_start_ms(&s->flush_timer, s->flush_ms);
    mz_server_dynamic_start(s, all_ready);
    MZ_LOG(INFO, main, "starting main dispatch loop");
    mz_loop_run(s->loop);
    MZ_LOG(INFO, main, "main dispatch loop exited");
    mz_workers_stop(s);
    MZ_LOG(INFO, main, "exiting");
    return 0;
}

/* Also after a build that failed half way. */
void mz_server_destroy(struct mz_server *s)
{
    struct mz_err unused;
    if (s->log_format) /* of the bootstrap */
        (void)mz_log_set_format(NULL, &unused);
    mz_timer_stop(&s->flush_timer);
    mz_drain_fini(s);
    for (unsigned i = 0; s->workers && i < s->n_workers; i++)
        mz_loop_turn(s->workers[i].loop,
                     0); /* what was posted at the end, while all that it touches is still there */
    if (s->listeners)    /* when the start fails, somebody may be on the admin address already */
        mz_listener_manager_end_internal(s->listeners);
    if (s->loop)
        mz_loop_turn(s->loop, 0);
    for (unsigned i = 0; s->workers && i < s->n_workers; i++)
        mz_loop_turn(s->workers[i].loop, 0); /* what that posted: a listener's drain that is over */
    mz_stream_thread_trim();                 /* the admin connections' */
    mz_server_dynamic_stop(s);
    mz_listener_manager_destroy(s->listeners);
    if (s->admin_hcm)
        mz_hcm_config_destroy(s->admin_hcm); /* its access logs go before their files */
    if (s->xds)
        mz_xds_halt(s->xds);
    mz_upstream_destroy(s->main_worker.upstream);
    if (s->loop)
        mz_loop_turn(s->loop, 0); /* what the pools' end deferred */
    mz_cluster_manager_destroy(s->clusters);
    if (s->loop)
        mz_loop_turn(s->loop, 0); /* what workers left for this thread to end */
    mz_recorder_destroy(s->recorder);
    if (s->outlier_log)
        mz_log_file_close(s->outlier_log);
    mz_log_files_destroy(s->logs);
    for (unsigned i = 0; s->workers && i < s->n_workers; i++)
        mz_loop_destroy(s->workers[i].loop);
    mz_watchdog_destroy(s->watchdog); /* its last questions may have waited in the workers' loops */
    mz_runtime_store_destroy(s->runtime);
    mz_admin_destroy(s->admin);
    mz_pages_destroy(s->pages);
    mz_server_xds_destroy(s);
    if (s->loop)
        mz_loop_destroy(s->loop);
    mz_server_dispatchers_destroy(s);
    if (s->grpc_logs.scope)
        mz_scope_unref(s->grpc_logs.scope);
    if (s->scope)
        mz_scope_unref(s->scope);
    if (s->stats)
        mz_stats_destroy(s->stats);
    mz_free(MZ_MEM_MISC, s->workers);
    mz_free(MZ_MEM_MISC, s->threads);
    mz_arena_destroy(s->arena);
}
