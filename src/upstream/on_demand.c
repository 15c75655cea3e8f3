/* Clusters on demand: sources and what they were asked for (main thread), who waits for which name (each worker). */
#include "upstream/on_demand.h"

#include "base/map.h"
#include "proto/tree.h"
#include "upstream/cluster_names.h"
#include "upstream/upstream_priv.h"
#include "xds/subscription.h"

#define NAME_MAX_BYTES 1024

static const char prefix[] = "cluster_manager.odcds.";

/* ---- main thread: sources ---- */

struct mz_odcds {
    unsigned refs;                      /* atomic: the manager, questions under way */
    struct mz_cluster_manager *manager; /* NULL: it has gone */
    struct mz_arena *arena;
    struct mz_str key;             /* the packed source */
    const pb_ConfigSource *source; /* NULL: names of xDS-TP only, of the bootstrap's authorities */
    struct mz_subscription *
        hold; /* never started: the stream stays, and its statistics are there, between questions */
    struct mz_map names; /* struct discovery */
    size_t unanswered;
};
struct discovery {
    struct mz_odcds *source;
    struct mz_subscription *sub;
    struct mz_timer timer; /* nobody waits for the answer any more */
    bool found;            /* the subscription goes on: it has the cluster's changes and its end */
    struct mz_str name;    /* behind the struct */
};

static void odcds_unref(struct mz_odcds *o)
{
    if (__atomic_fetch_sub(&o->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_map_fini(&o->names);
    mz_arena_destroy(o->arena);
}

static void discovery_end(struct discovery *d)
{
    (void)mz_map_del(&d->source->names, d->name);
    d->source->unanswered -= !d->found;
    mz_timer_stop(&d->timer);
    mz_subscription_end(d->sub);
    mz_free(MZ_MEM_XDS, d);
}

static void discovery_missing(struct discovery *d)
{
    MZ_LOG(DEBUG, upstream, "odcds: cluster " MZ_STR_FMT " is missing", MZ_STR_ARG(d->name));
    mz_discovery_answer(d->source->manager, d->source, d->name, MZ_DISCOVERY_MISSING);
    discovery_end(d);
}

static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct discovery *d = arg;
    struct mz_cluster_manager *m = d->source->manager;
    if (u->n_removed) {
        (void)mz_cluster_manager_remove_dynamic(m, d->name);
        discovery_missing(d);
        return true;
    }
    if (u->n == 0)
        return true;
    struct mz_err why;
    if (cds_set(m, &u->v[0], &why) == MZ_CLUSTER_REFUSED) {
        char text[1500];
        return mz_err_set(err, "Error adding/updating cluster(s) " MZ_STR_FMT ": %s",
                          MZ_STR_ARG(d->name), mz_err_text(&why, text, sizeof(text)));
    }
    d->source->unanswered -= !d->found;
    d->found = true;
    mz_timer_stop(&d->timer);
    return true;
}

/* The first answer was taken or refused, or there was none within the source's initial_fetch_timeout. */
static void first(void *arg)
{
    struct discovery *d = arg;
    if (!d->found)
        discovery_missing(d);
}

static void on_unanswered(struct mz_timer *t)
{
    discovery_end(MZ_CONTAINER(t, struct discovery, timer));
}

static struct discovery *discovery_begin(struct mz_odcds *o, struct mz_str name)
{
    const struct mz_upstream_env *env = cluster_manager_env(o->manager);
    struct mz_err err;
    if (o->unanswered >= MZ_DISCOVERIES)
        return NULL;
    struct discovery *d = mz_alloc0(MZ_MEM_XDS, sizeof(*d) + name.n);
    memcpy(d + 1, name.p, name.n);
    d->name = (struct mz_str){ (char *)(d + 1), name.n };
    d->source = o;
    mz_timer_init(env->main, &d->timer, on_unanswered);
    const struct mz_subscriber who = { update, first, d, NULL, NULL };
    d->sub =
        mz_subscribe(env->xds, o->source, MZ_XDS_CLUSTER, d->name, mz_str_c(prefix), &who, &err);
    if (!d->sub) {
        mz_free(MZ_MEM_XDS, d);
        return NULL;
    }
    (void)mz_map_put(&o->names, d->name, d);
    o->unanswered++;
    return d;
}

static void ask(struct mz_odcds *o, struct mz_str name, uint64_t timeout_ms)
{
    struct discovery *d = mz_map_get(&o->names, name);
    if (name.n > NAME_MAX_BYTES || !mz_utf8_valid(name)) { /* no server could know it */
        mz_discovery_answer(o->manager, o, name, MZ_DISCOVERY_MISSING);
        return;
    }
    if (d && d->found && !cluster_known(o->manager, name)) { /* CDS took it away */
        discovery_end(d);
        d = NULL;
    }
    bool begin = !d;
    if (begin && cluster_known(o->manager, name))
        return; /* it came another way: workers hear of it when it is ready */
    if (begin)
        d = discovery_begin(o, name);
    if (!d) {
        mz_discovery_answer(o->manager, o, name, MZ_DISCOVERY_MISSING);
        return;
    }
    if (!d->found &&
        (!mz_timer_armed(&d->timer) ||
         d->timer.due_ms <
             mz_loop_now_us(cluster_manager_env(o->manager)->main) / 1000 + timeout_ms))
        mz_timer_start_ms(&d->timer, timeout_ms);
    if (begin)
        mz_subscription_start(d->sub);
}

struct mz_odcds *mz_odcds_get(struct mz_cluster_manager *m, const pb_ConfigSource *source,
                              struct mz_err *err)
{
    const struct mz_upstream_env *env = cluster_manager_env(m);
    struct mz_map *all = cluster_manager_odcds(m);
    if (!source && env->xds && !mz_xds_has_authorities(env->xds)) {
        mz_err_set(err, "is required where no authority (config_sources) tells of clusters");
        return NULL;
    }
    if (!env->xds || (source && !mz_xds_is_delta(env->xds, source))) {
        mz_err_set(err, "clusters on demand come by DELTA_GRPC, or by ADS that is DELTA_GRPC");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct mz_str key = source ? mz_msg_pack_alloc(&source->base, a) : MZ_STR("");
    struct mz_odcds *o = mz_map_get(all, key);
    struct mz_proto_ctx ctx = { .arena = a, .unchecked = true };
    ProtobufCMessage *copy = NULL;
    if (o || (source && !mz_msg_unpack(&ctx, key, &pb_ConfigSource__descriptor, &copy, err))) {
        mz_arena_destroy(a);
        return o;
    }
    /* What is wrong with the source is said now, not to the first request. */
    const struct mz_subscriber nobody = { 0 };
    struct mz_subscription *hold = source
                                       ? mz_subscribe(env->xds, source, MZ_XDS_CLUSTER, MZ_STR("*"),
                                                      mz_str_c(prefix), &nobody, err)
                                       : NULL;
    if (source && !hold) {
        mz_arena_destroy(a);
        return NULL;
    }
    o = mz_arena_new0(a, struct mz_odcds);
    o->refs = 1;
    o->manager = m;
    o->arena = a;
    o->key = key;
    o->source = (const pb_ConfigSource *)copy;
    o->hold = hold;
    mz_map_init(&o->names, MZ_MEM_XDS);
    (void)mz_map_put(all, o->key, o);
    return o;
}

bool odcds_has(const struct mz_map *all, struct mz_str name)
{
    mz_map_foreach (it, all) {
        const struct mz_odcds *o = it->value;
        const struct discovery *d = mz_map_get(&o->names, name);
        if (d && d->found)
            return true;
    }
    return false;
}

void odcds_stop(struct mz_map *all)
{
    mz_map_foreach (it, all) {
        struct mz_odcds *o = it->value;
        for (struct mz_map_entry *e; (e = mz_map_next(&o->names, NULL)) != NULL;)
            discovery_end(e->value);
        mz_subscription_end(o->hold);
        o->manager = NULL;
        odcds_unref(o);
    }
    mz_map_fini(all);
}

/* ---- a worker: who waits ---- */

struct pending { /* of one name, as long as somebody waits */
    struct mz_map *all;
    struct mz_list waits;
    struct mz_str name; /* behind the struct */
};

struct question { /* to the main thread */
    struct mz_odcds *source;
    uint64_t timeout_ms;
    size_t n;
    char name[];
};

static void question_run(struct mz_loop *l, void *arg)
{
    (void)l;
    struct question *q = arg;
    if (q->source->manager)
        ask(q->source, (struct mz_str){ q->name, q->n }, q->timeout_ms);
    odcds_unref(q->source);
    mz_free(MZ_MEM_XDS, q);
}

static void pending_free(struct pending *p)
{
    (void)mz_map_del(p->all, p->name);
    mz_free(MZ_MEM_XDS, p);
}

static void wait_leave(struct mz_discovery_wait *w)
{
    struct pending *p = w->pending;
    mz_list_del(&w->link);
    mz_timer_stop(&w->timer);
    w->waiting = false;
    w->pending = NULL;
    if (p && mz_list_empty(&p->waits))
        pending_free(p);
}

static void wait_end(struct mz_discovery_wait *w, enum mz_discovery how)
{
    wait_leave(w);
    w->done(w, how);
}

static void on_timeout(struct mz_timer *t)
{
    wait_end(MZ_CONTAINER(t, struct mz_discovery_wait, timer), MZ_DISCOVERY_TIMEOUT);
}

void mz_discovery_wait(struct mz_upstream *u, const void *source, struct mz_str name,
                       uint64_t timeout_ms, struct mz_discovery_wait *w,
                       void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    struct mz_map *all = upstream_pending(u);
    struct pending *p = mz_map_get(all, name);
    if (!p) {
        p = mz_alloc0(MZ_MEM_XDS, sizeof(*p) + name.n);
        memcpy(p + 1, name.p, name.n);
        p->name = (struct mz_str){ (char *)(p + 1), name.n };
        p->all = all;
        mz_list_init(&p->waits);
        (void)mz_map_put(all, p->name, p);
    }
    w->source = source;
    w->done = done;
    w->waiting = true;
    w->cluster = false;
    w->pending = p;
    mz_list_add_tail(&p->waits, &w->link);
    mz_timer_init(mz_upstream_loop(u), &w->timer, on_timeout);
    if (timeout_ms)
        mz_timer_start_ms(&w->timer, timeout_ms);
}

void mz_discover(struct mz_upstream *u, struct mz_odcds *source, struct mz_str name,
                 uint64_t timeout_ms, struct mz_discovery_wait *w,
                 void (*done)(struct mz_discovery_wait *w, enum mz_discovery how))
{
    mz_discovery_wait(u, source, name, timeout_ms ? timeout_ms : 1, w, done);
    w->cluster = true;
    struct question *q = mz_alloc0(MZ_MEM_XDS, sizeof(*q) + name.n);
    q->source = source;
    q->timeout_ms = timeout_ms;
    q->n = name.n;
    memcpy(q->name, name.p, name.n);
    __atomic_fetch_add(&source->refs, 1, __ATOMIC_RELAXED);
    mz_loop_post(upstream_main(u), question_run, q);
}

void mz_discover_cancel(struct mz_discovery_wait *w)
{
    if (w->waiting)
        wait_leave(w);
}

/* Those of @source (NULL: who wants a cluster) go to @out; true: nobody is left, @p has gone. */
static bool waits_move(struct pending *p, const void *source, struct mz_list *out)
{
    mz_list_foreach (it, &p->waits) {
        struct mz_discovery_wait *w = MZ_CONTAINER(it, struct mz_discovery_wait, link);
        if (source ? w->source != source : !w->cluster)
            continue;
        mz_list_del(it);
        mz_list_add_tail(out, it);
        w->pending = NULL;
    }
    if (!mz_list_empty(&p->waits))
        return false;
    pending_free(p);
    return true;
}

/* A done may end other streams, whose waits leave the list by their cancel. */
static void waits_end(struct mz_list *v, enum mz_discovery how)
{
    while (!mz_list_empty(v))
        wait_end(MZ_CONTAINER(v->next, struct mz_discovery_wait, link), how);
}

void pending_names(struct mz_map *all, const struct cluster_names *names)
{
    struct mz_list done;
    mz_list_init(&done);
    for (struct mz_map_entry *it = NULL; (it = mz_map_next(all, it)) != NULL;) {
        struct pending *p = it->value;
        if (cluster_names_get(names, p->name) && waits_move(p, NULL, &done))
            it = NULL; /* deleting moves entries: from the start */
    }
    waits_end(&done, MZ_DISCOVERY_AVAILABLE);
}

void pending_answer(struct mz_map *all, const void *source, struct mz_str name,
                    enum mz_discovery how)
{
    struct pending *p = mz_map_get(all, name);
    struct mz_list done;
    if (!p)
        return;
    mz_list_init(&done);
    (void)waits_move(p, source, &done);
    waits_end(&done, how);
}

void pending_stop(struct mz_map *all)
{
    mz_map_foreach (it, all) {
        struct pending *p = it->value;
        mz_list_foreach (link, &p->waits) {
            struct mz_discovery_wait *w = MZ_CONTAINER(link, struct mz_discovery_wait, link);
            w->pending = NULL; /* goes with the others */
            wait_leave(w);
        }
        mz_free(MZ_MEM_XDS, p);
    }
    mz_map_fini(all);
}
