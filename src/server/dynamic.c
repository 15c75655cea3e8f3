/*
 * Dynamic resources (X1, X3): what the bootstrap subscribes to, and in which order the process comes up: clusters that need no
 * xDS, runtime layers, the other clusters, then listeners with all that they wait for; then the workers start.
 */
#include "base/log.h"
#include "filters/istio/workloads.h"
#include "listener/ecds.h"
#include "server/server.h"

void mz_server_xds_create(struct mz_server *s)
{
    s->worker_loops = mz_newn0(MZ_MEM_MISC, struct mz_loop *, s->n_workers);
    for (unsigned i = 0; i < s->n_workers; i++)
        s->worker_loops[i] = s->workers[i].loop;
    const struct mz_xds_env env = { .main = s->loop,
                                    .stats = s->stats,
                                    .workers = s->worker_loops,
                                    .n_workers = s->n_workers,
                                    .reject_unknown = s->opts.reject_unknown_dynamic_fields,
                                    .validate = s->opts.validate };
    mz_init_init(&s->init);
    mz_init_init(&s->runtime_init);
    s->xds = mz_xds_create(&env);
    s->dynamic.init = &s->init;
    s->dynamic.rds = mz_rds_manager_create(s->xds);
    s->dynamic.ecds = mz_ecds_create(s->xds);
    s->dynamic.secrets = mz_secrets_create(s->xds, s->stats, s->loop);
}

/* Who serves the first resources cannot come with them: the cluster stands in the bootstrap (as in Envoy). */
static bool is_static(const struct mz_server *s, const char *cluster, struct mz_err *err)
{
    const pb_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    for (size_t i = 0; r && i < r->n_clusters; i++)
        if (strcmp(r->clusters[i]->name, cluster) == 0)
            return true;
    return mz_err_set(err, "Unknown gRPC client cluster '%s'", cluster);
}

static bool servers_known(const struct mz_server *s, const pb_ApiConfigSource *m,
                          struct mz_err *err)
{
    for (size_t i = 0; m && i < m->n_grpc_services; i++)
        if (m->grpc_services[i]->envoy_grpc &&
            !is_static(s, m->grpc_services[i]->envoy_grpc->cluster_name, err))
            return mz_err_at(err, "grpc_services[%zu].envoy_grpc.cluster_name", i);
    for (size_t i = 0; m && i < m->n_cluster_names; i++)
        if (!is_static(s, m->cluster_names[i], err))
            return mz_err_at(err, "cluster_names[%zu]", i);
    return true;
}

static bool source_known(const struct mz_server *s, const pb_ConfigSource *m, struct mz_err *err)
{
    return !m ||
           m->config_source_specifier_case !=
               pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE ||
           servers_known(s, m->api_config_source, err) || mz_err_at(err, "api_config_source");
}

/* Sources for names of xDS-TP. */
static bool authorities_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap *b = s->bootstrap;
    for (size_t i = 0; i < b->n_config_sources; i++)
        if (!source_known(s, b->config_sources[i], err) ||
            !mz_xds_add_authorities(s->xds, b->config_sources[i], false, err))
            return mz_err_at(err, "config_sources[%zu]", i);
    return !b->default_config_source ||
           (source_known(s, b->default_config_source, err) &&
            mz_xds_add_authorities(s->xds, b->default_config_source, true, err)) ||
           mz_err_at(err, "default_config_source");
}

bool mz_server_ads_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    const struct mz_xds_net net = { .node = mz_server_node(s),
                                    .grpc = mz_server_xds_grpc,
                                    .post = mz_server_xds_post,
                                    .post_cancel = mz_server_xds_post_cancel,
                                    .arg = s };
    mz_xds_set_net(s->xds, &net);
    if (!mz_server_xds_context(s, err) || !authorities_build(s, err))
        return false;
    return !d || !d->ads_config ||
           (servers_known(s, d->ads_config, err) && mz_xds_set_ads(s->xds, d->ads_config, err)) ||
           mz_err_at(err, "dynamic_resources.ads_config");
}

static void first_clusters(void *arg)
{
    struct mz_server *s = arg;
    s->cds_waiting = false;
    s->when_clusters_ready(s);
}

/* Which of the two an error is about: one of the source has a path within it. */
static bool is_locator(const char *locator, const struct mz_err *err)
{
    return locator[0] && !err->path[0];
}

bool mz_server_dynamic_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_DynamicResources *d = s->bootstrap->dynamic_resources;
    if (!mz_runtime_store_subscribe(s->runtime, s->xds, &s->runtime_init, err))
        return mz_err_at(err, "layered_runtime");
    if (d && (d->cds_config || d->cds_resources_locator[0])) {
        if (source_known(s, d->cds_config, err))
            s->dynamic.cds = mz_cds_create(s->clusters, d->cds_config, d->cds_resources_locator,
                                           first_clusters, s, err);
        if (!s->dynamic.cds)
            return mz_err_at(err, "dynamic_resources.%s",
                             is_locator(d->cds_resources_locator, err) ? "cds_resources_locator"
                                                                       : "cds_config");
        s->cds_waiting = true;
    }
    if (d && (d->lds_config || d->lds_resources_locator[0])) {
        if (source_known(s, d->lds_config, err))
            s->dynamic.lds = mz_lds_create(s->listeners, &s->factory, d->lds_config,
                                           d->lds_resources_locator, err);
        if (!s->dynamic.lds)
            return mz_err_at(err, "dynamic_resources.%s",
                             is_locator(d->lds_resources_locator, err) ? "lds_resources_locator"
                                                                       : "lds_config");
    }
    if (s->workloads && !(source_known(s, s->workload_source, err) &&
                          mz_workloads_subscribe(s->workloads, s->workload_source, err)))
        return mz_err_at(err, "bootstrap_extensions: config_source");
    return true;
}

bool mz_server_secrets_build(struct mz_server *s, struct mz_err *err)
{
    const pb_Bootstrap_StaticResources *r = s->bootstrap->static_resources;
    for (size_t i = 0; r && i < r->n_secrets; i++)
        if (!mz_secrets_add(s->dynamic.secrets, r->secrets[i], err))
            return mz_err_at(err, "static_resources.secrets[%zu]", i);
    return true;
}

/* ---- coming up ---- */

static void clusters_all(void *arg)
{
    struct mz_server *s = arg;
    if (s->exiting)
        return;
    s->clusters_ready = true;
    MZ_LOG(INFO, upstream, "cm init: all clusters initialized");
    MZ_LOG(INFO, main, "all clusters initialized. initializing init manager");
    mz_init_start(&s->init, s->when_ready, s);
}

static void clusters_wait(struct mz_server *s)
{
    mz_cluster_manager_when_ready(s->clusters, clusters_all, s);
}

static void runtime_ready(void *arg)
{
    struct mz_server *s = arg;
    s->when_clusters_ready = clusters_wait;
    if (!s->dynamic.cds) {
        clusters_wait(s);
        return;
    }
    MZ_LOG(INFO, upstream, "cm init: initializing cds");
    mz_cds_start(s->dynamic.cds);
}

static void streams_begin(struct mz_loop *l, void *arg)
{
    (void)l;
    struct mz_server *s = arg;
    if (s->exiting)
        return;
    mz_xds_go(s->xds);
    if (s->workloads)
        mz_workloads_start(s->workloads);
    mz_init_start(&s->runtime_init, runtime_ready, s);
}

/* Behind the post that tells this thread's upstream of the clusters, through which the streams go. */
static void primary_ready(void *arg)
{
    struct mz_server *s = arg;
    mz_loop_post(s->loop, streams_begin, s);
}

void mz_server_dynamic_start(struct mz_server *s, void (*ready)(void *arg))
{
    s->when_ready = ready;
    mz_cluster_manager_when_primary_ready(s->clusters, primary_ready, s);
}

void mz_server_dynamic_stop(struct mz_server *s) /* before what it feeds goes */
{
    if (!s->xds)
        return;
    mz_lds_destroy(s->dynamic.lds);
    mz_cds_destroy(s->dynamic.cds);
    s->dynamic.lds = NULL;
    s->dynamic.cds = NULL;
    mz_runtime_store_unsubscribe(s->runtime);
    mz_workloads_stop(s->workloads);
}

void mz_server_xds_destroy(struct mz_server *s) /* when no configuration is left */
{
    if (!s->xds)
        return;
    mz_init_fini(&s->init);
    mz_init_fini(&s->runtime_init);
    mz_rds_manager_destroy(s->dynamic.rds);
    mz_ecds_destroy(s->dynamic.ecds);
    mz_secrets_destroy(s->dynamic.secrets);
    mz_workloads_destroy(s->workloads);
    mz_xds_destroy(s->xds);
    mz_free(MZ_MEM_MISC, s->worker_loops);
}
