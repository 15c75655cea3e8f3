/*
 * The clusters of the process (main thread) and what each worker sees of them. The map of names is immutable once a worker
 * has it; a change makes a copy, which is posted at the end of the turn.
 */
#include <stdlib.h>

#include "upstream/cluster_names.h"
#include "upstream/health/health.h"
#include "upstream/lb_subset.h"
#include "upstream/stats.h"
#include "xds/init.h"

struct waiter {
    void (*done)(void *arg);
    void *arg;
};
struct mz_cluster_manager {
    struct mz_upstream_env env;
    struct cluster_names *names;
    uint64_t added; /* clusters so far */
    struct mz_list upstreams;
    struct mz_task publish;
    pthread_mutex_t
        lock; /* hosts of static clusters at first use, the list of upstreams: any thread, rarely */
    struct mz_map
        warming; /* name to entry, one reference each: those that are to come or to replace one, once ready */
    unsigned waiting_primary, waiting_all; /* of those in the map of names: not ready */
    bool initialized; /* all were ready once: from now on clusters warm before they serve */
    struct mz_task ready_task;
    struct mz_task refresh_task;
    MZ_VEC(struct mz_cluster *) refresh; /* one reference each */
    MZ_VEC(struct waiter) waiting;       /* for all, or: */
    MZ_VEC(struct waiter) primary;       /* for those that need no xDS */
    struct mz_map odcds;                 /* on_demand.c */
    struct mz_map dns_caches;            /* dns_cache.c */
    struct mz_scope *scope, *async_scope;
    struct cluster_sleepers *sleepers;
};
struct mz_upstream {
    struct mz_list link; /* main thread */
    struct mz_cluster_manager *manager;
    struct mz_loop *loop;
    unsigned refs; /* atomic: owner, posts under way */
    bool closed;   /* its thread */
    struct cluster_names *names;
    struct mz_map clusters; /* name to mz_wcluster */
    struct mz_scope *scope; /* clusters_inflated */
    uint64_t generation;    /* of names and hosts, as this worker knows them */
    struct lb_site site;
    struct mz_wcluster *local; /* the local cluster's, once some cluster is in use; one reference */
    struct mz_list users;      /* struct mz_upstream_user */
    struct mz_map pending;     /* on_demand.c */
};

/* ---- posts to workers ---- */
struct update {
    struct mz_upstream *upstream;
    struct cluster_names *names; /* new names, or NULL: */
    struct mz_cluster *cluster;  /* new hosts of this one, or: */
    struct host_sets *sets;
    struct mz_host *failed; /* its host that became unhealthy, or: */
    char *answered;         /* what some waited for: mz_discovery_answer() */
    const void *source;
    enum mz_discovery how;
};

static void upstream_release(struct mz_upstream *u)
{
    if (__atomic_fetch_sub(&u->refs, 1, __ATOMIC_ACQ_REL) == 1)
        mz_free(MZ_MEM_UPSTREAM, u);
}

static bool same_hosts(const struct host_sets *a, const struct host_sets *b)
{
    return a->n_hosts == b->n_hosts &&
           (!a->n_hosts || memcmp(a->hosts, b->hosts, a->n_hosts * sizeof(*a->hosts)) == 0);
}

static void wcluster_hosts(struct mz_wcluster *w, struct host_sets *take)
{
    struct host_sets *old = w->lb.sets;
    if (take->seq <= old->seq) {
        host_sets_unref(take);
        return;
    }
    host_sets_ref(old);
    lb_set_hosts(&w->lb, take);
    preconnect_forget(w);
    w->upstream->generation++;
    if (w->original_dst)
        original_dst_follow(w);
    if (cluster_priv(w->cluster)->close_on_host_set_change && !same_hosts(old, take))
        pools_close_all(w, false);
    for (uint32_t i = 0; i < old->n_hosts; i++)
        if (__atomic_load_n(&old->hosts[i]->health_flags, __ATOMIC_RELAXED) & MZ_HOST_GONE)
            pools_host_gone(w, old->hosts[i], false);
    host_sets_unref(old);
}

static void wcluster_remove(struct mz_wcluster *w)
{
    w->removed = true;
    mz_gauge_add(w->upstream->scope, MZ_TLC_CLUSTERS_INFLATED, -1);
    pools_close_all(w, w->upstream->closed);
    mz_wcluster_unref(w);
}

/* The local cluster may come, go, be replaced. */
static void site_follow(struct mz_upstream *u)
{
    struct mz_wcluster *w =
        mz_upstream_find(u, u->manager->env.local_cluster); /* may come here too */
    struct mz_wcluster *old = u->local;
    u->local = w ? mz_wcluster_ref(w) : NULL;
    u->site.local = w ? &w->lb : NULL;
    mz_wcluster_unref(old);
}

static void upstream_names(struct mz_upstream *u, struct cluster_names *take)
{
    struct cluster_names *old = u->names;
    u->names = take;
    u->generation++;
    for (struct mz_map_entry *it = NULL; (it = mz_map_next(&u->clusters, it)) != NULL;) {
        struct mz_wcluster *w = it->value;
        if (cluster_names_get(take, it->key) == cluster_priv(w->cluster)->entry)
            continue;
        (void)mz_map_del(&u->clusters, it->key);
        wcluster_remove(w);
        it = NULL; /* deleting moves entries: from the start */
    }
    cluster_names_unref(old);
    if (u->local)
        site_follow(u);
    if (u->pending.n)
        pending_names(&u->pending, take);
}

static void update_run(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct update *p = arg;
    if (p->upstream->closed) {
        cluster_names_unref(p->names);
        host_sets_unref(p->sets);
    } else if (p->names) {
        upstream_names(p->upstream, p->names);
    } else if (p->answered) {
        pending_answer(&p->upstream->pending, p->source, mz_str_c(p->answered), p->how);
    } else {
        struct mz_wcluster *w = mz_map_get(&p->upstream->clusters, p->cluster->name);
        bool here = w && w->cluster == p->cluster;
        if (here && p->failed)
            pools_host_failed(w, p->failed);
        else if (here)
            wcluster_hosts(w, p->sets);
        else
            host_sets_unref(p->sets);
    }
    mz_host_unref(p->failed);
    mz_free(MZ_MEM_UPSTREAM, p->answered);
    mz_cluster_unref(p->cluster);
    upstream_release(p->upstream);
    mz_free(MZ_MEM_UPSTREAM, p);
}

static void update_post(struct mz_upstream *u, struct update up)
{
    struct update *p = mz_new0(MZ_MEM_UPSTREAM, struct update);
    *p = up;
    p->upstream = u;
    __atomic_fetch_add(&u->refs, 1, __ATOMIC_RELAXED);
    mz_loop_post(u->loop, update_run, p);
}

static void publish(struct mz_task *t)
{
    struct mz_cluster_manager *m = MZ_CONTAINER(t, struct mz_cluster_manager, publish);
    pthread_mutex_lock(&m->lock);
    mz_list_foreach (it, &m->upstreams)
        update_post(MZ_CONTAINER(it, struct mz_upstream, link),
                    (struct update){ .names = cluster_names_ref(m->names) });
    pthread_mutex_unlock(&m->lock);
}

/* They may ask again. */
static void waiters_run(struct waiter **v, size_t *n, size_t *cap)
{
    struct waiter *old = *v;
    size_t old_n = *n;
    *v = NULL;
    *n = *cap = 0;
    for (size_t i = 0; i < old_n; i++)
        old[i].done(old[i].arg);
    mz_free(MZ_MEM_UPSTREAM, old);
}

static void ready_run(struct mz_task *t)
{
    struct mz_cluster_manager *m = MZ_CONTAINER(t, struct mz_cluster_manager, ready_task);
    if (!m->waiting_primary)
        waiters_run(&m->primary.v, &m->primary.n, &m->primary.cap);
    if (m->waiting_all || !m->waiting.n)
        return;
    m->initialized = true;
    waiters_run(&m->waiting.v, &m->waiting.n, &m->waiting.cap);
}

static void count_health(struct mz_cluster *c, const struct host_sets *s)
{
    struct mz_scope *scope = c->circuit[MZ_PRIORITY_DEFAULT].scope;
    uint64_t healthy = 0, degraded = 0, excluded = 0;
    cluster_entry_settle(cluster_priv(c)->entry);
    for (uint32_t i = 0; i < s->n_hosts; i++) {
        enum mz_host_health health = mz_host_health(s->hosts[i]);
        healthy += health == MZ_HOST_HEALTHY;
        degraded += health == MZ_HOST_DEGRADED;
        excluded += host_excluded(s->hosts[i]);
    }
    mz_gauge_set(scope, MZ_CM_HEALTHY, healthy);
    mz_gauge_set(scope, MZ_CM_DEGRADED, degraded);
    mz_gauge_set(scope, MZ_CM_EXCLUDED, excluded);
}

static void subsets_show(struct mz_cluster *c, const struct subsets *old, const struct subsets *now)
{
    subsets_count(c->scope, old, now);
    if (now)
        mz_gauge_set(now->cfg->scope, 0, now->duplicates);
}

static void hosts_publish(struct mz_cluster *c, struct host_sets *take)
{
    struct cluster_priv *p = cluster_priv(c);
    struct mz_cluster_manager *m = p->manager;
    pthread_mutex_lock(&m->lock);
    struct host_sets *old = p->sets;
    p->sets = take;
    hash_tables_follow(&p->lb, old, take);
    if (take->subsets)
        subsets_show(c, old ? old->subsets : NULL, take->subsets);
    mz_list_foreach (it, &m->upstreams)
        update_post(MZ_CONTAINER(it, struct mz_upstream, link),
                    (struct update){ .cluster = mz_cluster_ref(c), .sets = host_sets_ref(take) });
    pthread_mutex_unlock(&m->lock);
    host_sets_unref(old);
    outlier_hosts_changed(p->outlier);
    checker_hosts_changed(p->checker);
}

struct merge { /* changes of health that wait for the window's end */
    struct mz_timer timer;
    struct mz_cluster *cluster; /* borrowed */
};

/* What happens before the cluster is ready is its beginning, no update of it. */
static void count_update(const struct mz_cluster *c, unsigned event)
{
    struct cluster_priv *p = cluster_priv(c);
    if (p->entry->waiting || p->beginning)
        return;
    p->updated_us = mz_loop_now_us(p->manager->env.main);
    mz_count(p->manager->scope, event, 1);
}

static void refresh(struct mz_cluster *c, unsigned event)
{
    struct cluster_priv *p = cluster_priv(c);
    struct host_sets *s = cluster_sets(c);
    p->seq = s->seq + 1;
    count_update(c, event);
    hosts_publish(c, eds_leaving(c, s) ? eds_left(c, s, p->seq) : host_sets_again(s, p->seq));
    host_sets_unref(s);
}

static void refresh_run(struct mz_task *t)
{
    struct mz_cluster_manager *m = MZ_CONTAINER(t, struct mz_cluster_manager, refresh_task);
    for (size_t i = 0; i < m->refresh.n; i++) {
        struct mz_cluster *c = m->refresh.v[i];
        cluster_priv(c)->refresh_due = false;
        if (cluster_is_current(c))
            refresh(c, MZ_CMS_CLUSTER_UPDATED);
        cluster_priv(c)->beginning = false;
        mz_cluster_unref(c);
    }
    m->refresh.n = 0;
}

static void on_merged(struct mz_timer *t)
{
    refresh(MZ_CONTAINER(t, struct merge, timer)->cluster, MZ_CMS_CLUSTER_UPDATED_VIA_MERGE);
}

static void merge_later(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    if (!p->merge) {
        p->merge = cluster_keep(c, sizeof(*p->merge));
        p->merge->cluster = c;
        mz_timer_init(p->manager->env.main, &p->merge->timer, on_merged);
    }
    if (!mz_timer_armed(&p->merge->timer))
        mz_timer_start_ms(&p->merge->timer, p->merge_ms);
}

static bool merge_stop(struct mz_cluster *c)
{
    struct merge *g = cluster_priv(c)->merge;
    bool waited = g && mz_timer_armed(&g->timer);
    if (waited)
        mz_timer_stop(&g->timer);
    return waited;
}

void cluster_set_hosts(struct mz_cluster *c, struct host_sets *take)
{
    struct cluster_priv *p = cluster_priv(c);
    struct mz_cluster_manager *m = p->manager;
    if (merge_stop(c))
        mz_count(m->scope, MZ_CMS_UPDATE_MERGE_CANCELLED, 1);
    count_update(c, MZ_CMS_CLUSTER_UPDATED);
    hosts_publish(c, take);
}

/* A change within the window after another one waits for the window's end, as Envoy has it (update_merge_window); not where a
 * host leaves. */
void cluster_refresh_health(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    struct mz_cluster_manager *m = p->manager;
    struct host_sets *s = cluster_sets(c);
    bool leaving = eds_leaving(c, s);
    count_health(c, s);
    host_sets_unref(s);
    if (p->refresh_due || !cluster_is_current(c))
        return;
    if (p->merge_ms && !leaving &&
        mz_loop_now_us(m->env.main) - p->updated_us <= p->merge_ms * 1000) {
        merge_later(c);
        return;
    }
    if (p->merge_ms && !leaving && !p->entry->waiting && !p->beginning)
        mz_count(m->scope, MZ_CMS_UPDATE_OUT_OF_MERGE_WINDOW, 1);
    if (merge_stop(c))
        mz_count(m->scope, MZ_CMS_UPDATE_MERGE_CANCELLED, 1);
    p->refresh_due = true;
    *mz_vec_push(&m->refresh, MZ_MEM_UPSTREAM) = mz_cluster_ref(c);
    mz_task_schedule(m->env.main, &m->refresh_task);
}

static void activate(struct cluster_entry *e);

static void waiting_count(const struct cluster_entry *e, int by)
{
    struct mz_cluster_manager *m = e->manager;
    m->waiting_all += (unsigned)by;
    if (e->primary)
        m->waiting_primary += (unsigned)by;
    if (by < 0)
        mz_task_schedule(m->env.main, &m->ready_task);
}

/* Everything that the cluster waited for is there. */
static void cluster_ready(struct cluster_entry *e)
{
    if (!e->waiting)
        return;
    e->waiting = false;
    if (mz_map_get(&e->manager->warming, e->name) == e)
        activate(e);
    else
        waiting_count(e, -1);
}

static void secrets_done(void *arg)
{
    struct cluster_entry *e = arg;
    const struct mz_cluster *c = cluster_entry_awake(e);
    if (c && checker_waiting(cluster_priv(c)->checker))
        cluster_priv(c)->warming_checks = true;
    else
        cluster_ready(e);
}

/* First its endpoints, then its secrets, then the first health checks (Envoy's order). */
void cluster_first_done(struct cluster_entry *e)
{
    struct mz_cluster *c = cluster_entry_awake(e);
    const struct cluster_priv *p = c ? cluster_priv(c) : NULL;
    if (p && p->dns_config)
        p->dns_config->wait_for_warm = false;
    if (!e->waiting || e->first_done)
        return;
    e->first_done = true;
    if (e->init && e->init->state == MZ_INIT_IDLE)
        mz_init_start(e->init, secrets_done, e);
    else
        secrets_done(e);
}

bool cluster_warming(const struct mz_cluster *c)
{
    return cluster_priv(c)->warming_checks;
}

void cluster_checks_done(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    if (!p->warming_checks)
        return;
    p->warming_checks = false;
    p->beginning = true;
    cluster_ready(p->entry);
    cluster_refresh_health(c);
    p->beginning &= p->refresh_due;
}

/* Hosts of a cluster that checks them are there, out of use, before it is ready. */
static void checks_begin(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    if (!p->checker)
        return;
    checker_hosts_changed(p->checker);
    struct host_sets *s = cluster_sets(c);
    count_health(c, s);
    host_sets_unref(s);
}

/* ---- main thread ---- */
struct mz_cluster_manager *mz_cluster_manager_create(const struct mz_upstream_env *env)
{
    struct mz_cluster_manager *m = mz_new0(MZ_MEM_UPSTREAM, struct mz_cluster_manager);
    m->env = *env;
    m->names = cluster_names_create();
    mz_map_init(&m->warming, MZ_MEM_UPSTREAM);
    mz_map_init(&m->odcds, MZ_MEM_UPSTREAM);
    mz_map_init(&m->dns_caches, MZ_MEM_UPSTREAM);
    mz_list_init(&m->upstreams);
    mz_task_init(&m->publish, publish);
    mz_task_init(&m->ready_task, ready_run);
    mz_task_init(&m->refresh_task, refresh_run);
    pthread_mutex_init(&m->lock, NULL);
    m->scope = mz_scope_create(env->stats, &mz_cluster_manager_stats, MZ_STR("cluster_manager."));
    m->async_scope = mz_scope_create(env->stats, &mz_router_stats, MZ_STR("http.async-client."));
    mz_gauge_set(m->scope, MZ_CMS_WARMING_CLUSTERS, 0);
    m->sleepers = cluster_sleepers_create(m, env->stats);
    return m;
}

void cluster_object_stop(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    dns_cluster_destroy(p->dns);
    p->dns = NULL;
    original_dst_stop(c);
    forward_stop(c);
    (void)merge_stop(c);
    outlier_stop(p->outlier);
    checker_stop(p->checker);
    p->warming_checks = false;
}

void mz_cluster_manager_destroy(struct mz_cluster_manager *m)
{
    if (!m)
        return;
    odcds_stop(&m->odcds);
    mz_task_cancel(&m->publish);
    mz_task_cancel(&m->ready_task);
    mz_task_cancel(&m->refresh_task);
    for (size_t i = 0; i < m->refresh.n; i++)
        mz_cluster_unref(m->refresh.v[i]);
    mz_vec_free(&m->refresh, MZ_MEM_UPSTREAM);
    cluster_sleepers_destroy(m->sleepers);
    cluster_names_foreach(e, m->names) cluster_entry_stop(e);
    mz_map_foreach (it, &m->warming) {
        cluster_entry_stop(it->value);
        cluster_entry_unref(it->value);
    }
    mz_map_fini(&m->warming);
    cluster_names_unref(m->names);
    dns_caches_stop(&m->dns_caches);
    mz_scope_unref(m->scope);
    mz_scope_unref(m->async_scope);
    mz_vec_free(&m->waiting, MZ_MEM_UPSTREAM);
    mz_vec_free(&m->primary, MZ_MEM_UPSTREAM);
    pthread_mutex_destroy(&m->lock);
    mz_free(MZ_MEM_UPSTREAM, m);
}

static void count_clusters(struct mz_cluster_manager *m, unsigned event)
{
    mz_count(m->scope, event, 1);
    mz_gauge_set(m->scope, MZ_CMS_ACTIVE_CLUSTERS, cluster_names_count(m->names));
}

/* Begins what finds the hosts. */
static bool cluster_begin(struct mz_cluster *c, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    if (p->dns_config) {
        p->sets = host_sets_create(NULL, 0, NULL, 0, false, ++p->seq);
        p->dns = dns_cluster_create(c, err);
        if (!p->dns)
            return false;
        p->dns_config->wait_for_warm = p->dns_config->wait_for_warm && dns_cluster_waiting(p->dns);
    }
    if (p->original_dst) {
        p->sets = host_sets_create(NULL, 0, NULL, 0, false, ++p->seq);
        original_dst_start(c);
    }
    if (p->forward) {
        p->sets = host_sets_create(NULL, 0, NULL, 0, false, ++p->seq);
        forward_start(c);
    }
    if (p->lb.subsets && !p->dns_config &&
        !p->entry->eds) { /* its statistics tell of subsets from the start */
        struct host_sets *s = cluster_sets(c);
        subsets_show(c, NULL, s->subsets);
        host_sets_unref(s);
    }
    if (!p->entry->eds)
        checks_begin(c);
    return true;
}

/* What has to be waited for is set before anything can come. */
static bool entry_begin(struct cluster_entry *e, struct mz_err *err)
{
    struct mz_cluster *c = cluster_entry_awake(e);
    const struct cluster_priv *p = c ? cluster_priv(c) : NULL;
    e->number = e->manager->added++;
    e->primary = !e->eds;
    e->waiting = e->eds || e->init || (p && (p->dns_config || p->checker));
    return !c || cluster_begin(c, err);
}

/* Once it is in one of the maps; it may be ready at once. */
static void cluster_go(struct cluster_entry *e)
{
    const struct mz_cluster *c = cluster_entry_awake(e);
    const struct dns_config *dns = c ? cluster_priv(c)->dns_config : NULL;
    bool discovers = e->eds || (dns && dns->wait_for_warm);
    cluster_entry_ref(e);
    eds_start(e);
    if (!discovers)
        cluster_first_done(e);
    if (!e->waiting && mz_map_get(&e->manager->warming, e->name) == e)
        activate(e);
    cluster_entry_unref(e);
}

static void names_put(struct mz_cluster_manager *m, struct cluster_entry *take)
{
    struct cluster_entry *old = cluster_names_put(&m->names, take);
    mz_task_schedule(m->env.main, &m->publish);
    if (!old)
        return;
    if (old->waiting)
        waiting_count(old, -1);
    cluster_entry_replaced(old, take);
    cluster_entry_unref(old);
}

static void activate(struct cluster_entry *e)
{
    struct mz_cluster_manager *m = e->manager;
    (void)mz_map_del(&m->warming, e->name);
    names_put(m, e);
    mz_gauge_set(m->scope, MZ_CMS_WARMING_CLUSTERS, m->warming.n);
    mz_gauge_set(m->scope, MZ_CMS_ACTIVE_CLUSTERS, cluster_names_count(m->names));
    MZ_LOG(DEBUG, upstream, "warming cluster " MZ_STR_FMT " complete", MZ_STR_ARG(e->name));
}

static struct cluster_entry *entry_made(struct mz_cluster_manager *m, const pb_Cluster *msg,
                                        struct mz_str bytes, struct mz_str version, bool via_api,
                                        struct mz_err *err)
{
    struct cluster_entry *e = cluster_entry_create(m, msg, bytes, version, via_api, err);
    if (e && !entry_begin(e, err)) {
        cluster_entry_stop(e);
        cluster_entry_unref(e);
        return NULL;
    }
    return e;
}

bool mz_cluster_manager_add(struct mz_cluster_manager *m, const pb_Cluster *msg,
                            struct mz_str bytes, bool via_api, struct mz_err *err)
{
    if (cluster_names_get(m->names, mz_str_c(msg->name)))
        return mz_err_set(err, "cluster manager: duplicate cluster '%s'", msg->name);
    struct cluster_entry *e = entry_made(m, msg, bytes, MZ_STR(""), via_api, err);
    if (!e)
        return false;
    if (e->waiting)
        waiting_count(e, 1);
    names_put(m, e);
    count_clusters(m, MZ_CMS_CLUSTER_ADDED);
    cluster_go(e);
    return true;
}

static void warming_drop(struct mz_cluster_manager *m, struct mz_str name)
{
    struct cluster_entry *e = mz_map_del(&m->warming, name);
    if (!e)
        return;
    cluster_entry_stop(e);
    cluster_entry_unref(e);
    mz_gauge_set(m->scope, MZ_CMS_WARMING_CLUSTERS, m->warming.n);
}

/* The one that was given last, be it warming. */
static struct cluster_entry *newest(struct mz_cluster_manager *m, struct mz_str name)
{
    struct cluster_entry *next = mz_map_get(&m->warming, name);
    return next ? next : cluster_names_get(m->names, name);
}

bool cluster_in_use(struct mz_cluster_manager *m, struct mz_str name)
{
    const struct cluster_entry *active = cluster_names_get(m->names, name), *last = newest(m, name);
    return (active && cluster_entry_awake(active)) || (last && cluster_entry_awake(last));
}

bool mz_cluster_manager_keeps(struct mz_cluster_manager *m, struct mz_str name, struct mz_str bytes)
{
    const struct cluster_entry *active = cluster_names_get(m->names, name), *last = newest(m, name);
    return (active && !active->via_api) || (last && mz_str_eq(last->bytes, bytes));
}

enum mz_cluster_change mz_cluster_manager_set(struct mz_cluster_manager *m, const pb_Cluster *msg,
                                              struct mz_str bytes, struct mz_str version,
                                              struct mz_err *err)
{
    struct mz_str name = mz_str_c(msg->name);
    bool is_active = cluster_names_get(m->names, name) != NULL;
    bool is_new = !newest(m, name);
    if (mz_cluster_manager_keeps(m, name, bytes))
        return MZ_CLUSTER_UNCHANGED;
    struct cluster_entry *e = entry_made(m, msg, bytes, version, true, err);
    if (!e)
        return MZ_CLUSTER_REFUSED;
    bool warms = m->initialized || is_active;
    warming_drop(m, name);
    if (warms) {
        (void)mz_map_put(&m->warming, e->name, e);
        mz_gauge_set(m->scope, MZ_CMS_WARMING_CLUSTERS, m->warming.n);
    } else {
        if (e->waiting)
            waiting_count(e, 1);
        names_put(m, e);
    }
    count_clusters(m, is_new ? MZ_CMS_CLUSTER_ADDED : MZ_CMS_CLUSTER_MODIFIED);
    cluster_go(e);
    return MZ_CLUSTER_CHANGED;
}

/* The subsets that it shows are no more. */
static void subsets_gone(struct mz_cluster *c)
{
    struct host_sets *sets = cluster_sets_made(c); /* a worker may be making them */
    if (sets && sets->subsets)
        subsets_show(c, sets->subsets, NULL);
    host_sets_unref(sets);
}

bool mz_cluster_manager_remove(struct mz_cluster_manager *m, struct mz_str name)
{
    bool warmed = mz_map_get(&m->warming, name) != NULL;
    struct cluster_entry *e = cluster_names_get(m->names, name);
    if (!e && !warmed)
        return false;
    warming_drop(m, name);
    if (e) {
        (void)cluster_names_del(&m->names, name);
        if (e->waiting)
            waiting_count(e, -1);
        struct mz_cluster *c = cluster_entry_awake(e);
        if (c)
            subsets_gone(c);
        cluster_entry_stop(e);
        mz_task_schedule(m->env.main, &m->publish);
    }
    count_clusters(m, MZ_CMS_CLUSTER_REMOVED);
    cluster_entry_unref(e);
    return true;
}

bool mz_cluster_manager_remove_dynamic(struct mz_cluster_manager *m, struct mz_str name)
{
    const struct cluster_entry *e = cluster_names_get(m->names, name);
    return (!e || e->via_api) && mz_cluster_manager_remove(m, name);
}

static struct mz_cluster_shown shown_of(const struct cluster_entry *e, bool warming)
{
    return (struct mz_cluster_shown){ e->name,    e->bytes, e->version, e->updated_wall_us,
                                      e->via_api, warming };
}

void mz_cluster_manager_show(struct mz_cluster_manager *m,
                             void (*fn)(void *arg, const struct mz_cluster_shown *c), void *arg)
{
    cluster_names_foreach(e, m->names)
    {
        const struct mz_cluster_shown shown = shown_of(e, false);
        fn(arg, &shown);
    }
    mz_map_foreach (it, &m->warming) {
        const struct mz_cluster_shown shown = shown_of(it->value, true);
        if (shown.via_api)
            fn(arg, &shown);
    }
}

void cluster_each(struct mz_cluster_manager *m, void (*fn)(void *arg, struct cluster_entry *e),
                  void *arg)
{
    cluster_names_foreach(e, m->names) fn(arg, e);
    mz_map_foreach (it, &m->warming)
        fn(arg, it->value);
}

bool mz_cluster_manager_has(const struct mz_cluster_manager *m, struct mz_str name)
{
    return cluster_names_get(m->names, name) != NULL;
}

size_t mz_cluster_manager_count(const struct mz_cluster_manager *m)
{
    return cluster_names_count(m->names);
}

static int by_number(const void *x, const void *y)
{
    const struct cluster_entry *const *a = x, *const *b = y;
    return ((*a)->number > (*b)->number) - ((*a)->number < (*b)->number);
}

struct cluster_entry **cluster_list(struct mz_cluster_manager *m, size_t *out_n)
{
    size_t n = 0;
    struct cluster_entry **v =
        mz_newn0(MZ_MEM_UPSTREAM, struct cluster_entry *, cluster_names_count(m->names) + 1);
    cluster_names_foreach(e, m->names) v[n++] = e;
    qsort(v, n, sizeof(*v), by_number);
    *out_n = n;
    return v;
}

void mz_cluster_manager_show_added(struct mz_cluster_manager *m,
                                   void (*fn)(void *arg, const struct mz_cluster_shown *c),
                                   void *arg)
{
    size_t n;
    struct cluster_entry **v = cluster_list(m, &n);
    for (size_t i = 0; i < n; i++) {
        const struct mz_cluster_shown shown = shown_of(v[i], false);
        fn(arg, &shown);
    }
    mz_free(MZ_MEM_UPSTREAM, v);
}

void mz_cluster_manager_when_ready(struct mz_cluster_manager *m, void (*done)(void *arg), void *arg)
{
    *mz_vec_push(&m->waiting, MZ_MEM_UPSTREAM) = (struct waiter){ done, arg };
    mz_task_schedule(m->env.main, &m->ready_task);
}

void mz_cluster_manager_when_primary_ready(struct mz_cluster_manager *m, void (*done)(void *arg),
                                           void *arg)
{
    *mz_vec_push(&m->primary, MZ_MEM_UPSTREAM) = (struct waiter){ done, arg };
    mz_task_schedule(m->env.main, &m->ready_task);
}

struct mz_loop *cluster_loop(struct mz_cluster *c)
{
    return cluster_priv(c)->manager->env.main;
}

struct mz_str mz_cluster_manager_local(const struct mz_cluster_manager *m)
{
    return m->env.local_cluster;
}

struct mz_cluster *cluster_find(struct mz_cluster_manager *m, struct mz_str name)
{
    struct cluster_entry *e = cluster_names_get(m->names, name);
    if (e)
        mz_cluster_unref(cluster_entry_use(e));
    return e ? cluster_entry_awake(e) : NULL;
}

struct mz_cluster *cluster_look(struct mz_cluster_manager *m, struct mz_str name)
{
    const struct cluster_entry *e = cluster_names_get(m->names, name);
    return e ? cluster_entry_awake(e) : NULL;
}

bool cluster_is_current(struct mz_cluster *c)
{
    struct mz_cluster_manager *m = cluster_priv(c)->manager;
    const struct cluster_entry *e = cluster_priv(c)->entry;
    return cluster_names_get(m->names, c->name) == e || mz_map_get(&m->warming, c->name) == e;
}

void cluster_manager_lock(struct mz_cluster_manager *m)
{
    pthread_mutex_lock(&m->lock);
}

void cluster_manager_unlock(struct mz_cluster_manager *m)
{
    pthread_mutex_unlock(&m->lock);
}

struct mz_log_files *cluster_log_files(const struct mz_cluster *c)
{
    return cluster_priv(c)->manager->env.log_files;
}

void cluster_members_count(struct mz_cluster *c, const struct endpoints_count *n)
{
    struct mz_scope *s = c->circuit[MZ_PRIORITY_DEFAULT].scope;
    cluster_entry_settle(cluster_priv(c)->entry);
    uint64_t plain = cluster_priv(c)->n_matches ? 0 : n->added; /* else host_transport_set() */
    const uint64_t first[MZ_CM__COUNT] = { [MZ_CM_CHANGE] = n->changed ? n->changed : 1,
                                           [MZ_CM_DEGRADED] = n->degraded,
                                           [MZ_CM_EXCLUDED] = n->excluded,
                                           [MZ_CM_HEALTHY] = n->healthy,
                                           [MZ_CM_TOTAL] = n->total,
                                           [MZ_CM_MAX_HOST_WEIGHT] = n->max_weight,
                                           [MZ_CM_TOTAL_MATCH_COUNT] = plain };
    if ((n->total || n->changed) && mz_scope_begin(s, first, MZ_CM__COUNT))
        return;
    uint64_t before = mz_scope_value(s, MZ_CM_TOTAL);
    mz_gauge_set(s, MZ_CM_TOTAL, n->total);
    mz_gauge_set(s, MZ_CM_HEALTHY, n->healthy);
    mz_gauge_set(s, MZ_CM_DEGRADED, n->degraded);
    mz_gauge_set(s, MZ_CM_EXCLUDED, n->excluded);
    mz_gauge_set(s, MZ_CM_MAX_HOST_WEIGHT, n->max_weight);
    if (before != n->total || n->changed)
        mz_count(s, MZ_CM_CHANGE, n->changed ? n->changed : 1);
    mz_count(s, MZ_CM_TOTAL_MATCH_COUNT, plain);
}

struct host_sets *cluster_sets(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    pthread_mutex_lock(&p->manager->lock);
    if (!p->sets)
        p->sets = endpoints_of_bytes(c);
    struct host_sets *s = host_sets_ref(p->sets);
    pthread_mutex_unlock(&p->manager->lock);
    return s;
}

struct host_sets *cluster_sets_peek(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    pthread_mutex_lock(&p->manager->lock);
    struct host_sets *s = p->sets ? host_sets_ref(p->sets) : NULL;
    pthread_mutex_unlock(&p->manager->lock);
    return s ? s : endpoints_of_bytes(c);
}

struct host_sets *cluster_sets_made(struct mz_cluster *c)
{
    struct cluster_priv *p = cluster_priv(c);
    pthread_mutex_lock(&p->manager->lock);
    struct host_sets *s = p->sets ? host_sets_ref(p->sets) : NULL;
    pthread_mutex_unlock(&p->manager->lock);
    return s;
}

void cluster_host_failed(struct mz_cluster *c, struct mz_host *h)
{
    struct mz_cluster_manager *m = cluster_priv(c)->manager;
    pthread_mutex_lock(&m->lock);
    mz_list_foreach (it, &m->upstreams)
        update_post(MZ_CONTAINER(it, struct mz_upstream, link),
                    (struct update){ .cluster = mz_cluster_ref(c), .failed = mz_host_ref(h) });
    pthread_mutex_unlock(&m->lock);
}

struct mz_map *cluster_manager_dns_caches(struct mz_cluster_manager *m)
{
    return &m->dns_caches;
}

const struct mz_upstream_env *cluster_manager_env(const struct mz_cluster_manager *m)
{
    return &m->env;
}

struct mz_map *cluster_manager_odcds(struct mz_cluster_manager *m)
{
    return &m->odcds;
}

bool cluster_known(struct mz_cluster_manager *m, struct mz_str name)
{
    return newest(m, name) != NULL;
}

void mz_discovery_answer(struct mz_cluster_manager *m, const void *source, struct mz_str name,
                         enum mz_discovery how)
{
    pthread_mutex_lock(&m->lock);
    mz_list_foreach (it, &m->upstreams)
        update_post(MZ_CONTAINER(it, struct mz_upstream, link),
                    (struct update){ .answered = mz_strndup(MZ_MEM_UPSTREAM, name.p, name.n),
                                     .source = source,
                                     .how = how });
    pthread_mutex_unlock(&m->lock);
}

struct mz_map *upstream_pending(struct mz_upstream *u)
{
    return &u->pending;
}

struct mz_loop *upstream_main(const struct mz_upstream *u)
{
    return u->manager->env.main;
}

struct mz_log_file *cluster_outlier_log(const struct mz_cluster *c)
{
    return cluster_priv(c)->manager->env.outlier_log;
}

/* ---- a worker's view ---- */
struct mz_upstream *mz_upstream_create(struct mz_cluster_manager *m, struct mz_loop *l)
{
    struct mz_upstream *u = mz_new0(MZ_MEM_UPSTREAM, struct mz_upstream);
    u->refs = 1;
    u->manager = m;
    u->loop = l;
    u->names = cluster_names_ref(m->names);
    u->site.here = (struct locality_spec){ .region = m->env.local_region,
                                           .zone = m->env.local_zone,
                                           .sub_zone = m->env.local_sub_zone };
    char prefix[128];
    int n = snprintf(prefix, sizeof(prefix), "thread_local_cluster_manager.%s.", mz_loop_name(l));
    u->scope = mz_scope_create(
        m->env.stats, &mz_thread_cluster_stats,
        (struct mz_str){ prefix, (size_t)n < sizeof(prefix) ? (size_t)n : sizeof(prefix) - 1 });
    mz_map_init(&u->clusters, MZ_MEM_UPSTREAM);
    mz_map_init(&u->pending, MZ_MEM_UPSTREAM);
    mz_list_init(&u->users);
    pthread_mutex_lock(&m->lock);
    mz_list_add_tail(&m->upstreams, &u->link);
    pthread_mutex_unlock(&m->lock);
    return u;
}

void mz_upstream_destroy(struct mz_upstream *u)
{
    if (!u)
        return;
    u->closed = true;
    while (!mz_list_empty(&u->users)) {
        struct mz_upstream_user *user = MZ_CONTAINER(u->users.next, struct mz_upstream_user, link);
        mz_upstream_del_user(user);
        user->gone(user);
    }
    pending_stop(&u->pending);
    u->site.local = NULL;
    mz_wcluster_unref(u->local);
    mz_map_foreach (it, &u->clusters)
        wcluster_remove(it->value);
    mz_map_fini(&u->clusters);
    cluster_names_unref(u->names);
    u->names = NULL;
    mz_scope_unref(u->scope);
    pthread_mutex_lock(&u->manager->lock);
    mz_list_del(&u->link);
    pthread_mutex_unlock(&u->manager->lock);
    upstream_release(u);
}

struct mz_loop *mz_upstream_loop(const struct mz_upstream *u)
{
    return u->loop;
}

struct mz_scope *mz_upstream_async_scope(const struct mz_upstream *u)
{
    return u->manager->async_scope;
}

uint64_t mz_upstream_local_members(struct mz_upstream *u)
{
    if (!u->local && u->manager->env.local_cluster.n)
        site_follow(u);
    return u->local ? mz_cluster_member(u->local->cluster, MZ_CM_TOTAL) : 0;
}

bool mz_upstream_closed(const struct mz_upstream *u)
{
    return u->closed;
}

void mz_upstream_add_user(struct mz_upstream *u, struct mz_upstream_user *user)
{
    mz_list_add_tail(&u->users, &user->link);
}

void mz_upstream_del_user(struct mz_upstream_user *user)
{
    mz_list_del(&user->link);
}

uint64_t upstream_generation(const struct mz_upstream *u)
{
    return u->generation;
}

static struct mz_wcluster *wcluster_create(struct mz_upstream *u, struct mz_cluster *take)
{
    struct mz_cluster *c = take;
    struct mz_wcluster *w = mz_new0(MZ_MEM_UPSTREAM, struct mz_wcluster);
    w->refs = 1;
    w->cluster = c;
    w->upstream = u;
    w->loop = u->loop;
    lb_init(&w->lb, &cluster_priv(c)->lb, &cluster_priv(c)->priorities, mz_loop_rand(u->loop),
            c->scope);
    w->lb.site = u->manager->env.local_cluster.n ? &u->site : NULL;
    lb_set_hosts(&w->lb, cluster_sets(c));
    (void)mz_map_put(&u->clusters, c->name, w);
    mz_gauge_add(u->scope, MZ_TLC_CLUSTERS_INFLATED, 1);
    if (w->lb.site && !u->local)
        site_follow(u);
    return w;
}

struct mz_wcluster *mz_upstream_find(struct mz_upstream *u, struct mz_str name)
{
    struct mz_wcluster *w = mz_map_get(&u->clusters, name);
    if (MZ_LIKELY(w != NULL))
        return w;
    struct cluster_entry *e = u->closed ? NULL : cluster_names_get(u->names, name);
    struct mz_cluster *c = e ? cluster_entry_use(e) : NULL;
    return c ? wcluster_create(u, c) : NULL;
}

struct mz_wcluster *mz_wcluster_ref(struct mz_wcluster *w)
{
    w->refs++;
    return w;
}

void mz_wcluster_unref(struct mz_wcluster *w)
{
    if (!w || --w->refs)
        return;
    lb_fini(&w->lb);
    original_dst_drop(w);
    aggregate_drop(w);
    forward_drop(w);
    mz_free(MZ_MEM_UPSTREAM, w->peeked);
    mz_scope_unref(w->http1_stats.scope);
    mz_scope_unref(w->http2_stats.scope);
    mz_free(MZ_MEM_UPSTREAM, w->pools.v);
    mz_cluster_unref(w->cluster);
    mz_free(MZ_MEM_UPSTREAM, w);
}

struct mz_cluster *mz_wcluster_info(const struct mz_wcluster *w)
{
    return w->cluster;
}

struct mz_host *mz_wcluster_choose(struct mz_wcluster *w, struct mz_lb_ctx *c)
{
    const struct lb_type *t = w->lb.cfg->type;
    struct mz_host *ahead = MZ_UNLIKELY(w->peeked != NULL) ? preconnect_take(w, c) : NULL;
    if (ahead)
        return ahead;
    return MZ_UNLIKELY(t->provided != NULL) ? t->provided(w, c) : lb_choose(&w->lb, c);
}

bool mz_wcluster_hashes(const struct mz_wcluster *w)
{
    const struct lb_type *t = w->lb.cfg->type;
    return t->find || (t == &lb_aggregate && aggregate_hashes((struct mz_wcluster *)(uintptr_t)w));
}

unsigned mz_wcluster_priorities(struct mz_wcluster *w)
{
    const struct priority_load *loads;
    return MZ_UNLIKELY(w->lb.cfg->type == &lb_aggregate) ? aggregate_row(w, &loads) : w->lb.sets->n;
}

uint32_t mz_wcluster_priority_of(struct mz_wcluster *w, const struct mz_host *h)
{
    return w->lb.cfg->type == &lb_aggregate ? aggregate_priority_of(w, h) : h->priority;
}

void mz_wcluster_priority_load(struct mz_wcluster *w, uint32_t *out_percent, unsigned n)
{
    const struct priority_load *loads = w->lb.loads;
    unsigned all = w->lb.sets->n;
    if (w->lb.cfg->type == &lb_aggregate)
        all = aggregate_row(w, &loads);
    for (unsigned i = 0; i < n; i++)
        out_percent[i] = i < all ? loads[i].healthy : 0;
}
