/* What the pages need of the server: its parts, its options and node as messages, and what only it can do. */
#include "base/clock.h"
#include "observe/attributes.h"
#include "server/pages_priv.h"
#include "server/server.h"

/* What base/log.c writes without --log-format. */
#define LOG_FORMAT_DEFAULT "[%Y-%m-%d %T.%e][%t][%l][%n] [%g:%#] %v"

static unsigned state(void *arg)
{
    return mz_server_state(arg);
}

static void set_healthy(void *arg, bool ok)
{
    struct mz_server *s = arg;
    __atomic_store_n(&s->process.health_failed, !ok, __ATOMIC_RELAXED);
    mz_server_stats_update(s);
}

static void refresh(void *arg)
{
    mz_server_stats_show(arg);
}

static void quit(void *arg)
{
    mz_server_exit(arg, "/quitquitquit");
}

static void drain_listeners(void *arg, const struct mz_drain_request *rq)
{
    mz_server_drain(arg, rq->inbound_only ? MZ_DRAIN_INBOUND : MZ_DRAIN_ALL, rq->graceful,
                    rq->skip_exit);
}

static pb_Duration *milliseconds(struct mz_arena *a, uint64_t ms)
{
    pb_Duration *d = page_new(a, &pb_Duration__descriptor);
    d->seconds = (int64_t)(ms / 1000);
    d->nanos = (int32_t)(ms % 1000 * 1000000);
    return d;
}

static const pb_CommandLineOptions *options_message(const struct mz_server *s)
{
    const struct mz_options *o = &s->opts;
    pb_CommandLineOptions *m = page_new(s->arena, &pb_CommandLineOptions__descriptor);
    m->base_id = o->base_id;
    m->concurrency = s->n_workers;
    m->config_path = page_chars(o->config_path);
    m->config_yaml = page_chars(o->config_yaml);
    m->allow_unknown_static_fields = o->allow_unknown_static_fields;
    m->reject_unknown_dynamic_fields = o->reject_unknown_dynamic_fields;
    m->skip_deprecated_logs = o->skip_deprecated_logs;
    m->local_address_ip_version =
        o->local_address_ip_version && !strcmp(o->local_address_ip_version, "v6")
            ? pb_CommandLineOptions_IpVersion_v6
            : pb_CommandLineOptions_IpVersion_v4;
    m->log_level = page_chars(o->log_level);
    m->component_log_level = page_chars(o->component_log_level);
    m->log_format = page_chars(o->log_format ? o->log_format : LOG_FORMAT_DEFAULT);
    m->log_path = page_chars(o->log_path);
    m->service_cluster = page_chars(o->service_cluster);
    m->service_node = page_chars(o->service_node);
    m->service_zone = page_chars(o->service_zone);
    m->file_flush_interval = milliseconds(s->arena, o->file_flush_interval_msec);
    m->drain_time = milliseconds(s->arena, 1000ull * o->drain_time_s);
    m->parent_shutdown_time = milliseconds(s->arena, 1000ull * o->parent_shutdown_time_s);
    m->drain_strategy = o->drain_strategy && !strcmp(o->drain_strategy, "immediate")
                            ? pb_CommandLineOptions_DrainStrategy_Immediate
                            : pb_CommandLineOptions_DrainStrategy_Gradual;
    m->disable_hot_restart = true; /* there is none yet, whatever the flag says */
    m->restart_epoch = o->restart_epoch;
    return m;
}

/* The node as the command line completes it; what control planes ask a proxy for is Envoy's name and version. */
pb_Node *mz_server_node_message(const struct mz_server *s)
{
    const struct mz_factory *f = &s->factory;
    pb_Node *n = page_new(s->arena, &pb_Node__descriptor);
    if (s->bootstrap->node)
        *n = *s->bootstrap->node;
    n->id = page_chars(mz_arena_dup(s->arena, f->node_id).p);
    n->cluster = page_chars(mz_arena_dup(s->arena, f->node_cluster).p);
    pb_Locality *l = page_new(s->arena, &pb_Locality__descriptor);
    if (n->locality)
        *l = *n->locality;
    l->zone = page_chars(mz_arena_dup(s->arena, f->node_zone).p);
    if (n->locality || f->node_zone.n)
        n->locality = l;
    if (!n->user_agent_name || !n->user_agent_name[0])
        n->user_agent_name = page_chars("envoy");
    if (n->user_agent_version_type_case == pb_Node_USER_AGENT_VERSION_TYPE__NOT_SET) {
        n->user_agent_version_type_case = pb_Node_USER_AGENT_VERSION_TYPE_USER_AGENT_VERSION;
        n->user_agent_version = page_chars(MZ_SERVER_VERSION);
    }
    if (!n->n_extensions)
        mz_server_abilities(s->arena, n);
    return n;
}

void mz_server_node_show(const struct mz_server *s)
{
    mz_attributes_set_node(mz_server_node_message(s), s->arena);
}

struct mz_str mz_server_node(const struct mz_server *s)
{
    return mz_msg_pack_alloc((const ProtobufCMessage *)mz_server_node_message(s), s->arena);
}

/* Listeners and clusters are left out: the managers keep theirs, and /config_dump puts them in. */
static struct mz_str bootstrap_bytes(const struct mz_server *s)
{
    pb_Bootstrap b = *s->bootstrap;
    b.static_resources = NULL;
    b.node = mz_server_node_message(s);
    return mz_msg_pack_alloc((const ProtobufCMessage *)&b, s->arena);
}

struct mz_pages *mz_server_pages_create(struct mz_server *s)
{
    const struct mz_pages_env env = {
        .stats = s->stats,
        .clusters = s->clusters,
        .listeners = s->listeners,
        .runtime = s->runtime,
        .recorder = s->recorder,
        .log_files = s->logs,
        .dynamic = &s->dynamic,
        .bootstrap = bootstrap_bytes(s),
        .bootstrap_wall_us = mz_clock->wall_us(),
        .options = options_message(s),
        .version = mz_server_version(),
        .start_us = s->start_us,
        .state = state,
        .set_healthy = set_healthy,
        .refresh = refresh,
        .quit = quit,
        .drain_listeners = drain_listeners,
        .arg = s,
    };
    return mz_pages_create(&env);
}
