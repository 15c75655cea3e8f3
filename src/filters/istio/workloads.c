#include "filters/istio/workloads.h"

#include "base/vec.h"
#include "proto/mapper.h"
#include "xds/thread_slot.h"

static const struct mz_stat_def stat_defs[] = { { "total", MZ_GAUGE, MZ_UNIT_NONE, 0 } };
static const struct mz_stat_kind stat_kind = { "workload_discovery", stat_defs, 1 };

struct index { /* what a thread sees: immutable, counted by atomics */
    unsigned refs;
    struct mz_map by_address;
    struct workload **v; /* a reference each */
    size_t n;
};
struct mz_workloads {
    struct mz_xds *xds;
    struct mz_scope *scope;
    struct mz_subscription *sub;
    struct mz_thread_slot *slot;
    MZ_VEC(struct workload *) all; /* in the order in which they came; a reference each */
    struct mz_map by_uid;          /* place in all, plus one */
};

/* ---- a workload ---- */

static struct workload *workload_ref(const struct workload *borrowed)
{
    struct workload *w = (struct workload *)(uintptr_t)borrowed;
    __atomic_fetch_add(&w->refs, 1, __ATOMIC_RELAXED);
    return w;
}

void workload_unref(const struct workload *borrowed)
{
    struct workload *w = (struct workload *)(uintptr_t)borrowed;
    if (w && __atomic_fetch_sub(&w->refs, 1, __ATOMIC_ACQ_REL) == 1)
        mz_arena_destroy(w->arena);
}

static struct mz_str or_else(const char *text, const char *otherwise)
{
    return mz_str_c(text && text[0] ? text : otherwise);
}

static void peer_fill(struct workload *w, const pb_Workload *m)
{
    static const enum peer_type types[] = { [pb_WorkloadType_DEPLOYMENT] = PEER_DEPLOYMENT,
                                            [pb_WorkloadType_CRONJOB] = PEER_CRONJOB,
                                            [pb_WorkloadType_POD] = PEER_POD,
                                            [pb_WorkloadType_JOB] = PEER_JOB };
    const struct mz_str ns = or_else(m->namespace_, "default");
    const struct mz_str identity[] = {
        MZ_STR("spiffe://"), or_else(m->trust_domain, "cluster.local"), MZ_STR("/ns/"), ns,
        MZ_STR("/sa/"),      or_else(m->service_account, "default")
    };
    const struct mz_str from[PEER__TEXTS] = {
        [PEER_NAME] = mz_str_c(m->name),
        [PEER_CLUSTER] = mz_str_c(m->cluster_id),
        [PEER_NAMESPACE] = ns,
        [PEER_WORKLOAD] = mz_str_c(m->workload_name),
        [PEER_SERVICE] = mz_str_c(m->canonical_name),
        [PEER_REVISION] = mz_str_c(m->canonical_revision),
        [PEER_APP] = mz_str_c(m->canonical_name),
        [PEER_VERSION] = mz_str_c(m->canonical_revision),
        [PEER_IDENTITY] = mz_arena_cat(w->arena, MZ_COUNT(identity), identity),
        [PEER_REGION] = mz_str_c(m->locality ? m->locality->region : NULL),
        [PEER_ZONE] = mz_str_c(m->locality ? m->locality->zone : NULL),
    };
    for (unsigned i = 0; i < PEER__TEXTS; i++)
        w->peer.text[i] = mz_arena_dup(w->arena, from[i]);
    w->peer.type =
        (unsigned)m->workload_type < MZ_COUNT(types) ? types[m->workload_type] : PEER_DEPLOYMENT;
}

static struct workload *workload_create(const pb_Workload *m)
{
    struct mz_arena *a = mz_arena_create(MZ_MEM_XDS);
    struct workload *w = mz_arena_new0(a, struct workload);
    w->refs = 1;
    w->arena = a;
    w->uid = mz_arena_dup(a, mz_str_c(m->uid));
    struct mz_str *v = mz_arena_alloc0(a, mz_mul(m->n_addresses, sizeof(*v)) + 1);
    for (size_t i = 0; i < m->n_addresses; i++)
        v[i] = mz_arena_dup(
            a, (struct mz_str){ (const char *)m->addresses[i].data, m->addresses[i].len });
    w->addresses = v;
    w->n_addresses = m->n_addresses;
    peer_fill(w, m);
    peer_object_init(&w->map, &w->peer);
    peer_fields_init(&w->fields, &w->peer);
    return w;
}

/* ---- what threads see ---- */

static void index_ref(const void *object)
{
    __atomic_fetch_add(&((struct index *)(uintptr_t)object)->refs, 1, __ATOMIC_RELAXED);
}

static void index_unref(const void *object)
{
    struct index *x = (struct index *)(uintptr_t)object;
    if (__atomic_fetch_sub(&x->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    for (size_t i = 0; i < x->n; i++)
        workload_unref(x->v[i]);
    mz_map_fini(&x->by_address);
    mz_free(MZ_MEM_XDS, x->v);
    mz_free(MZ_MEM_XDS, x);
}

static const struct mz_shared_ops index_ops = { index_ref, index_unref };

/* Of two workloads with one address the first counts (Envoy). */
static void index_add(struct index *x, struct workload *w)
{
    for (size_t i = 0; i < w->n_addresses; i++)
        if (w->addresses[i].n && !mz_map_get(&x->by_address, w->addresses[i]))
            (void)mz_map_put(&x->by_address, w->addresses[i], w);
}

static void publish(const struct mz_workloads *w)
{
    struct index *x = mz_new0(MZ_MEM_XDS, struct index);
    x->refs = 1;
    mz_map_init(&x->by_address, MZ_MEM_XDS);
    x->v = mz_newn0(MZ_MEM_XDS, struct workload *, w->all.n + 1);
    for (size_t i = 0; i < w->all.n; i++) {
        x->v[x->n++] = workload_ref(w->all.v[i]);
        index_add(x, w->all.v[i]);
    }
    mz_gauge_set(w->scope, 0, x->by_address.n);
    mz_thread_slot_set(w->slot, x);
}

/* ---- updates ---- */

/* Those that are named; the others keep their order. */
static void forget(struct mz_workloads *w, const struct mz_str *uids, size_t n)
{
    size_t kept = 0;
    for (size_t i = 0; i < n; i++) {
        size_t at = (size_t)(uintptr_t)mz_map_del(&w->by_uid, uids[i]);
        if (!at)
            continue;
        workload_unref(w->all.v[at - 1]);
        w->all.v[at - 1] = NULL;
    }
    for (size_t i = 0; i < w->all.n; i++) {
        struct workload *one = w->all.v[i];
        if (!one)
            continue;
        if (kept != i)
            (void)mz_map_put(&w->by_uid, one->uid, (void *)(uintptr_t)(kept + 1));
        w->all.v[kept++] = one;
    }
    w->all.n = kept;
}

static void forget_all(struct mz_workloads *w)
{
    for (size_t i = 0; i < w->all.n; i++)
        workload_unref(w->all.v[i]);
    w->all.n = 0;
    mz_map_fini(&w->by_uid);
    mz_map_init(&w->by_uid, MZ_MEM_XDS);
}

static void take(struct mz_workloads *w, struct workload *take)
{
    size_t at = (size_t)(uintptr_t)mz_map_get(&w->by_uid, take->uid);
    if (at) {
        struct workload *old = w->all.v[at - 1];
        (void)mz_map_del(&w->by_uid, old->uid); /* the key is the old one's */
        workload_unref(old);
        w->all.v[at - 1] = take;
    } else {
        *mz_vec_push(&w->all, MZ_MEM_XDS) = take;
        at = w->all.n;
    }
    (void)mz_map_put(&w->by_uid, take->uid, (void *)(uintptr_t)at);
}

static bool open_one(struct mz_workloads *w, const struct mz_resource *r, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_XDS) };
    struct mz_arena *a = ctx.arena;
    ProtobufCMessage *m;
    bool ok = mz_resource_open(w->xds, r, MZ_XDS_WORKLOAD, &ctx, &m, err);
    if (ok)
        take(w, workload_create((const pb_Workload *)m));
    mz_arena_destroy(a);
    return ok;
}

/* The good ones are taken. */
static bool update(void *arg, const struct mz_xds_update *u, struct mz_err *err)
{
    struct mz_workloads *w = arg;
    bool ok = true;
    if (u->whole)
        forget_all(w);
    if (u->n_removed)
        forget(w, u->removed, u->n_removed);
    for (size_t i = 0; i < u->n; i++) {
        struct mz_err one = { 0 };
        if (open_one(w, &u->v[i], ok ? err : &one))
            continue;
        if (ok)
            mz_err_at(err, "workload " MZ_STR_FMT, MZ_STR_ARG(u->v[i].name));
        ok = false;
    }
    publish(w);
    return ok;
}

/* ---- life ---- */

struct mz_workloads *mz_workloads_create(struct mz_xds *x, struct mz_stats *stats)
{
    struct mz_workloads *w = mz_new0(MZ_MEM_XDS, struct mz_workloads);
    w->xds = x;
    w->scope = mz_scope_create(stats, &stat_kind, MZ_STR("workload_discovery."));
    w->slot = mz_thread_slot_create(x, &index_ops);
    mz_map_init(&w->by_uid, MZ_MEM_XDS);
    mz_gauge_set(w->scope, 0, 0);
    return w;
}

bool mz_workloads_subscribe(struct mz_workloads *w, const pb_ConfigSource *source,
                            struct mz_err *err)
{
    const struct mz_subscriber who = { .update = update, .arg = w };
    if (source->config_source_specifier_case ==
        pb_ConfigSource_CONFIG_SOURCE_SPECIFIER_API_CONFIG_SOURCE)
        return mz_err_set(err, "workloads come by ADS or from a file: no service has them alone");
    pb_ConfigSource v3 =
        *source; /* Istio's bootstrap leaves the version out, and its proxy does not ask for it here */
    if (v3.resource_api_version == pb_ApiVersion_AUTO)
        v3.resource_api_version = pb_ApiVersion_V3;
    w->sub = mz_subscribe(w->xds, &v3, MZ_XDS_WORKLOAD, MZ_STR(""), MZ_STR("workload_discovery."),
                          &who, err);
    return w->sub != NULL;
}

void mz_workloads_start(struct mz_workloads *w)
{
    mz_subscription_start(w->sub);
}

void mz_workloads_stop(struct mz_workloads *w)
{
    if (!w)
        return;
    mz_subscription_end(w->sub);
    w->sub = NULL;
}

void mz_workloads_destroy(struct mz_workloads *w)
{
    if (!w)
        return;
    mz_workloads_stop(w);
    forget_all(w);
    mz_vec_free(&w->all, MZ_MEM_XDS);
    mz_map_fini(&w->by_uid);
    mz_thread_slot_unref(w->slot);
    mz_scope_unref(w->scope);
    mz_free(MZ_MEM_XDS, w);
}

/* ---- asking ---- */

const struct workload *workload_find(const struct mz_workloads *w, const struct mz_addr *a)
{
    const struct index *x = w ? mz_thread_slot_get(w->slot) : NULL;
    if (!x || !mz_addr_is_ip(a))
        return NULL;
    struct mz_str key = a->sa.sa_family == AF_INET
                            ? (struct mz_str){ (const char *)&a->in4.sin_addr, 4 }
                            : (struct mz_str){ (const char *)&a->in6.sin6_addr, 16 };
    const struct workload *found = mz_map_get(&x->by_address, key);
    return found ? workload_ref(found) : NULL;
}

bool workload_internal_address(const struct mz_meta *metadata, struct mz_addr *out_end)
{
    static const struct mz_str gateway = MZ_STR_INIT("double_hbone"), local = MZ_STR_INIT("local");
    if (mz_meta_get(metadata, MZ_STR("istio"), &gateway, 1))
        return false;
    const struct mz_value *v =
        mz_meta_get(metadata, MZ_STR("envoy.filters.listener.original_dst"), &local, 1);
    return v && v->kind == MZ_VALUE_STRING && mz_addr_parse(v->str, out_end);
}

const struct workload *workload_of_host(const struct mz_workloads *w, const struct mz_addr *host,
                                        const struct mz_meta *metadata)
{
    struct mz_addr end;
    if (!w || !host->len)
        return NULL;
    if (!mz_addr_is_internal(host))
        return workload_find(w, host);
    return workload_internal_address(metadata, &end) ? workload_find(w, &end) : NULL;
}
