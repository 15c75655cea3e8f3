/*
 * Clusters as they were received. Each is checked when it comes, by making its object on the main thread; the object of one that
 * starts nothing by itself goes again at once, and the first thread that uses the cluster makes it anew, of the same bytes and
 * without asking anybody: no request waits.
 */
#include "base/clock.h"
#include "upstream/cluster_names.h"
#include "upstream/upstream_priv.h"

/* ---- life ---- */

struct cluster_entry *cluster_entry_ref(struct cluster_entry *e)
{
    __atomic_fetch_add(&e->refs, 1, __ATOMIC_RELAXED);
    return e;
}

void cluster_entry_unref(struct cluster_entry *e)
{
    while (e && __atomic_fetch_sub(&e->refs, 1, __ATOMIC_ACQ_REL) == 1) {
        struct cluster_entry *next = e->next;
        MZ_ASSERT(!e->cluster);
        eds_destroy(e);
        cluster_transport_drop(e);
        mz_free(MZ_MEM_UPSTREAM, e);
        e = next;
    }
}

static struct mz_str text_put(char **io_at, struct mz_str text)
{
    char *to = *io_at;
    if (text.n)
        memcpy(to, text.p, text.n);
    *io_at += text.n;
    return (struct mz_str){ to, text.n };
}

static const char *text_in(struct mz_str text, struct mz_str bytes)
{
    return text.n && bytes.n ? memmem(bytes.p, bytes.n, text.p, text.n) : NULL;
}

/* Where @text stands in @bytes already, or a copy of it at *io_at. */
static struct mz_str text_place(struct mz_str text, struct mz_str bytes, char **io_at)
{
    const char *found = text_in(text, bytes);
    return found ? (struct mz_str){ found, text.n } : text_put(io_at, text);
}

/* Entry, message, names: one allocation, for there are thousands. Names stand in the message. */
static struct cluster_entry *entry_alloc(const pb_Cluster *msg, struct mz_str bytes,
                                         struct mz_str version)
{
    struct mz_str name = mz_str_c(msg->name), alt = mz_str_c(msg->alt_stat_name);
    size_t room = (text_in(name, bytes) ? 0 : name.n) + (text_in(alt, bytes) ? 0 : alt.n);
    struct cluster_entry *e = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*e) + bytes.n + version.n + room);
    char *at = (char *)(e + 1);
    e->refs = 1;
    e->bytes = text_put(&at, bytes);
    e->version = text_put(&at, version);
    e->name = text_place(name, e->bytes, &at);
    e->stat_name = alt.n ? text_place(alt, e->bytes, &at) : e->name;
    return e;
}

/* Nothing of it runs unless somebody uses it, and nothing of it lives: not in an object of before that ends just now, either. */
static bool may_sleep(const struct mz_cluster *c)
{
    const struct cluster_priv *p = cluster_priv(c);
    struct mz_cluster_manager *m = p->manager;
    bool idle = (c->type == CLUSTER_STATIC || c->type == CLUSTER_EDS) && !p->outlier && !p->checker;
    bool counts = p->lb.subsets || c->circuit[MZ_PRIORITY_DEFAULT].track_remaining ||
                  c->circuit[MZ_PRIORITY_HIGH].track_remaining;
    return idle && !counts && !mz_str_eq(c->name, mz_cluster_manager_local(m)) &&
           !cluster_in_use(m, c->name) && !mz_scope_shared(c->scope);
}

struct cluster_entry *cluster_entry_create(struct mz_cluster_manager *m, const pb_Cluster *msg,
                                           struct mz_str bytes, struct mz_str version, bool via_api,
                                           struct mz_err *err)
{
    struct cluster_entry *e = entry_alloc(msg, bytes, version);
    struct endpoints_count count = { 0 };
    e->manager = m;
    e->via_api = via_api;
    e->updated_wall_us = mz_clock->wall_us();
    struct mz_cluster *c = cluster_create(e, cluster_manager_env(m), msg, &count, err);
    if (!c) {
        cluster_entry_stop(e);
        cluster_entry_unref(e);
        return NULL;
    }
    e->type = c->type;
    if (may_sleep(c)) {
        e->lb = cluster_priv(c)->lb.type;
        cluster_transport_keep(c);
        if (e->type == CLUSTER_STATIC)
            cluster_entry_members(e, &count);
        eds_sleeps(e);
        mz_cluster_unref(c);
        return e;
    }
    e->settled = true;
    e->cluster = c;
    if (e->type == CLUSTER_STATIC)
        cluster_members_count(c, &count);
    return e;
}

void cluster_entry_stop(struct cluster_entry *e)
{
    eds_stop(e);
    cluster_transport_stop(e);
    cluster_manager_lock(e->manager);
    struct mz_cluster *c = e->cluster;
    __atomic_store_n(&e->cluster, NULL, __ATOMIC_RELEASE);
    e->gone = true;
    cluster_manager_unlock(e->manager);
    if (c)
        cluster_object_stop(c);
    mz_cluster_unref(c);
}

/* A worker that does not know yet may begin to use @e: then it uses @by; or has just begun: then @by does not sleep either. */
void cluster_entry_replaced(struct cluster_entry *e, struct cluster_entry *by)
{
    cluster_manager_lock(e->manager);
    bool slept = !e->cluster;
    if (slept)
        e->next = cluster_entry_ref(by);
    cluster_manager_unlock(e->manager);
    if (!slept)
        mz_cluster_unref(cluster_entry_use(by));
    cluster_entry_stop(e);
}

/* ---- first use ---- */

struct mz_cluster *cluster_entry_awake(const struct cluster_entry *e)
{
    return __atomic_load_n(&e->cluster, __ATOMIC_ACQUIRE);
}

static struct mz_cluster *make(struct cluster_entry *e)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT,
                                .unchecked = true };
    struct mz_cluster *c = NULL;
    struct endpoints_count count;
    ProtobufCMessage *m;
    struct mz_err err;
    char text[400];
    if (mz_msg_unpack(&ctx, e->bytes, &pb_Cluster__descriptor, &m, &err))
        c = cluster_create(e, cluster_manager_env(e->manager), (const pb_Cluster *)m, &count, &err);
    mz_arena_destroy(ctx.arena);
    if (MZ_BUG(!c)) /* the same bytes were taken when they came */
        MZ_LOG(ERROR, upstream, "cluster " MZ_STR_FMT ": what was kept of it is refused: %s",
               MZ_STR_ARG(e->name), mz_err_text(&err, text, sizeof(text)));
    return c;
}

static void woken(struct mz_loop *l, void *arg)
{
    (void)l;
    struct cluster_entry *e = arg;
    cluster_entry_settle(e);
    cluster_entry_unref(e);
}

static void members_begin(const struct cluster_entry *e, struct mz_scope *s)
{
    uint64_t values[MZ_CM__COUNT];
    bool any = false;
    for (unsigned i = 0; i < MZ_CM__COUNT; i++) {
        values[i] = e->members[i];
        any |= values[i] != 0;
    }
    if (any)
        (void)mz_scope_begin(s, values,
                             MZ_CM__COUNT); /* false: an object of that name ends just now */
}

/* Under the lock: the first one counts where the entry left off. */
static void adopt(struct cluster_entry *e, struct mz_cluster *c)
{
    eds_policy(e, c);
    members_begin(e, c->circuit[MZ_PRIORITY_DEFAULT].scope); /* not possible: settle() does */
    if (e->gone)
        return;
    __atomic_store_n(&e->cluster, mz_cluster_ref(c), __ATOMIC_RELEASE);
    mz_loop_post(cluster_manager_env(e->manager)->main, woken, cluster_entry_ref(e));
}

struct mz_cluster *cluster_entry_use(struct cluster_entry *e)
{
    cluster_manager_lock(e->manager);
    while (e->next)
        e = e->next; /* the one that was asked for holds them all */
    struct mz_cluster *c = e->cluster ? mz_cluster_ref(e->cluster) : NULL;
    cluster_manager_unlock(e->manager);
    struct mz_cluster *made = c ? NULL : make(e), *spare = NULL;
    if (!made)
        return c;
    cluster_manager_lock(e->manager);
    bool replaced = e->next != NULL;
    if (e->cluster) { /* another thread was faster */
        spare = made;
        made = mz_cluster_ref(e->cluster);
    } else if (replaced) {
        spare = made;
    } else {
        adopt(e, made);
    }
    cluster_manager_unlock(e->manager);
    mz_cluster_unref(spare);
    return replaced ? cluster_entry_use(e) : made;
}

struct mz_cluster *cluster_entry_peek(struct cluster_entry *e)
{
    struct mz_cluster *c = cluster_entry_awake(e);
    if (c)
        return mz_cluster_ref(c);
    c = make(e);
    if (c)
        eds_policy(e, c);
    return c;
}

bool cluster_entry_unmade(struct cluster_entry *e, void (*change)(void *arg), void *arg)
{
    cluster_manager_lock(e->manager);
    bool unmade = !e->cluster || !cluster_priv(e->cluster)->sets;
    if (unmade)
        change(arg);
    cluster_manager_unlock(e->manager);
    return unmade;
}

/* ---- what it counts ---- */

/* As cluster_members_count() has it. */
void cluster_entry_members(struct cluster_entry *e, const struct endpoints_count *n)
{
    uint32_t *v = e->members;
    if (v[MZ_CM_TOTAL] != n->total || n->changed)
        v[MZ_CM_CHANGE] += n->changed ? n->changed : 1;
    v[MZ_CM_TOTAL_MATCH_COUNT] +=
        e->n_transports > 1 ? 0 : n->added; /* else host_transport_set() */
    v[MZ_CM_TOTAL] = n->total;
    v[MZ_CM_HEALTHY] = n->healthy;
    v[MZ_CM_DEGRADED] = n->degraded;
    v[MZ_CM_EXCLUDED] = n->excluded;
    v[MZ_CM_MAX_HOST_WEIGHT] = n->max_weight;
}

void cluster_entry_settle(struct cluster_entry *e)
{
    struct mz_cluster *c = cluster_entry_awake(e);
    if (e->settled || !c)
        return;
    e->settled = true;
    struct mz_scope *s = c->circuit[MZ_PRIORITY_DEFAULT].scope;
    for (unsigned i = 0; i < MZ_CM__COUNT; i++) {
        uint64_t shown = mz_scope_value(s, i);
        if (s->kind->defs[i].type == MZ_GAUGE && shown != e->members[i])
            mz_gauge_set(s, i, e->members[i]);
        else if (shown < e->members[i])
            mz_count(s, i, e->members[i] - shown);
    }
    eds_woken(e, c->scope);
}

/* ---- statistics of those that sleep ---- */

struct cluster_sleepers {
    struct mz_stats_source source;
    struct mz_cluster_manager *manager;
    struct mz_stats *stats;
    struct mz_map prefixes;          /* of those that nobody else has */
    MZ_VEC(struct mz_scope *) shown; /* a reference each */
};

static void hold(void *arg, struct mz_scope *take)
{
    struct cluster_sleepers *s = arg;
    if (take)
        *mz_vec_push(&s->shown, MZ_MEM_UPSTREAM) = take;
}

/* Another that sleeps has the same alt_stat_name. */
static void members_add(const struct cluster_entry *e, struct mz_scope *s)
{
    for (unsigned i = 0; i < MZ_CM__COUNT; i++)
        if (s->kind->defs[i].type == MZ_GAUGE)
            mz_gauge_set(s, i, e->members[i]);
        else
            mz_count(s, i, e->members[i]);
}

/* What only the message tells. */
static void message_show(struct cluster_sleepers *s, const struct cluster_entry *e,
                         struct mz_str prefix)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT,
                                .unchecked = true };
    ProtobufCMessage *m;
    struct mz_err err;
    if (mz_msg_unpack(&ctx, e->bytes, &pb_Cluster__descriptor, &m, &err))
        cluster_transport_show(e, (const pb_Cluster *)m, s->stats, prefix, hold, s);
    mz_arena_destroy(ctx.arena);
}

static void show_one(void *arg, struct cluster_entry *e)
{
    struct cluster_sleepers *s = arg;
    char text[1024];
    if (cluster_entry_awake(e))
        return;
    struct mz_str prefix = cluster_prefix(e->stat_name, text, sizeof(text));
    struct mz_scope *scope = cluster_scope(s->stats, e->type, prefix);
    struct mz_scope *members = mz_scope_create(s->stats, &mz_cluster_member_stats[0], prefix);
    bool alone = !mz_scope_shared(members), add = alone || mz_map_get(&s->prefixes, prefix);
    hold(s, scope);
    hold(s, members);
    hold(s, lb_type_scope(e->lb, s->stats, prefix));
    if (alone)
        members_begin(e, members);
    else if (add) /* else an object of that name ends just now */
        members_add(e, members);
    if (add)
        (void)mz_map_put(&s->prefixes, members->prefix, s);
    hold(s, eds_show(e, scope, add));
    if (e->n_transports > 1)
        message_show(s, e, prefix);
}

static void show(struct mz_stats_source *source)
{
    struct cluster_sleepers *s = MZ_CONTAINER(source, struct cluster_sleepers, source);
    mz_map_init(&s->prefixes, MZ_MEM_UPSTREAM);
    cluster_each(s->manager, show_one, s);
    mz_map_fini(&s->prefixes);
}

static void hide(struct mz_stats_source *source)
{
    struct cluster_sleepers *s = MZ_CONTAINER(source, struct cluster_sleepers, source);
    for (size_t i = 0; i < s->shown.n; i++)
        mz_scope_unref(s->shown.v[i]);
    mz_vec_free(&s->shown, MZ_MEM_UPSTREAM);
}

static void reset_one(void *arg, struct cluster_entry *e)
{
    (void)arg;
    if (cluster_entry_awake(e))
        return;
    e->members[MZ_CM_CHANGE] = e->members[MZ_CM_TOTAL_MATCH_COUNT] = 0;
    eds_reset(e);
}

static void reset(struct mz_stats_source *source)
{
    struct cluster_sleepers *s = MZ_CONTAINER(source, struct cluster_sleepers, source);
    cluster_manager_lock(s->manager);
    cluster_each(s->manager, reset_one, NULL);
    cluster_manager_unlock(s->manager);
}

struct cluster_sleepers *cluster_sleepers_create(struct mz_cluster_manager *m, struct mz_stats *st)
{
    struct cluster_sleepers *s = mz_new0(MZ_MEM_UPSTREAM, struct cluster_sleepers);
    *s = (struct cluster_sleepers){ .source = { .show = show, .hide = hide, .reset = reset },
                                    .manager = m,
                                    .stats = st };
    mz_stats_add_source(st, &s->source);
    return s;
}

void cluster_sleepers_destroy(struct cluster_sleepers *s)
{
    mz_stats_del_source(&s->source);
    mz_free(MZ_MEM_UPSTREAM, s);
}
