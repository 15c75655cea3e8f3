#include "upstream/dns_cache.h"

#include "base/clock.h"
#include "upstream/upstream_priv.h"
#include "xds/thread_slot.h"

#define REFRESH_MS     60000
#define MIN_REFRESH_MS 5000
#define HOST_TTL_MS    300000
#define TIMEOUT_MS     5000
#define HOSTS_MAX      1024
#define PENDING_MAX    1024
#define NAME_MAX_BYTES 253

#define DNS_CACHE_STATS(X)                                                                         \
    X(ATTEMPT, "dns_query_attempt", COUNTER)                                                       \
    X(FAILURE, "dns_query_failure", COUNTER)                                                       \
    X(SUCCESS, "dns_query_success", COUNTER)                                                       \
    X(TIMEOUT, "dns_query_timeout", COUNTER)                                                       \
    X(PENDING_OVERFLOW, "dns_rq_pending_overflow", COUNTER)                                        \
    X(ADDED, "host_added", COUNTER)                                                                \
    X(CHANGED, "host_address_changed", COUNTER)                                                    \
    X(OVERFLOW, "host_overflow", COUNTER)                                                          \
    X(REMOVED, "host_removed", COUNTER)                                                            \
    X(HOSTS, "num_hosts", GAUGE)
enum {
#define X(id, name, type) STAT_##id,
    DNS_CACHE_STATS(X)
#undef X
};
static const struct mz_stat_def defs[] = {
#define X(id, name, type) { name, MZ_##type, MZ_UNIT_NONE, 0 },
    DNS_CACHE_STATS(X)
#undef X
};
static const struct mz_stat_kind kind = { "dns_cache", defs, MZ_COUNT(defs) };

struct entry { /* of a name; main thread */
    struct mz_dns_cache *cache;
    struct mz_dns_answer *answer; /* the last; its key, host and port before */
    bool answered;
    uint16_t port;
    struct mz_dns_query *query;
    struct mz_timer timer;   /* to resolve again */
    struct mz_timer timeout; /* of the query */
    uint64_t failure_ms;     /* the next wait after a failure; 0: none failed */
};
struct mz_dns_cache {
    struct mz_cluster_manager *manager;
    struct mz_loop *loop;
    struct mz_arena *arena;
    struct mz_str name;
    uint64_t hash; /* of the message */
    enum mz_dns_family family;
    uint64_t refresh_ms, min_refresh_ms, ttl_ms, timeout_ms, failure_base_ms, failure_max_ms;
    bool backs_off;
    uint32_t max_hosts, max_pending;
    struct mz_scope *scope;
    struct mz_dns *dns;
    struct mz_map entries; /* by key */
    struct mz_task publish;
    struct mz_thread_slot *slot;
    MZ_VEC(struct mz_cluster *) clusters; /* borrowed: from forward_start() to forward_stop() */
    MZ_VEC(struct mz_dns_answer *) fresh; /* of which those who wait are told; a reference each */
    uint32_t n_entries, n_pending;        /* atomics */
    uint32_t refs;                        /* atomic: the manager, posts under way */
};
struct index { /* what threads see */
    unsigned refs;
    struct mz_map by_key;
    struct mz_dns_answer **v; /* a reference each */
    size_t n;
};

/* ---- names ---- */

static bool name_char(char c)
{
    return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9') || c == '.' || c == '-' || c == '_' ||
           c == ':';
}

/* Parts the authority of a request; false: it is none. */
static bool split(struct mz_str s, uint16_t default_port, struct mz_str *out_host,
                  uint16_t *out_port)
{
    struct mz_str host = s, port = MZ_STR("");
    ptrdiff_t colon = mz_str_rchr(s, ':'), end = mz_str_chr(s, ']');
    if (s.n && s.p[0] == '[') {
        if (end < 0 || ((size_t)end + 1 < s.n && s.p[end + 1] != ':'))
            return false;
        host = (struct mz_str){ s.p + 1, (size_t)end - 1 };
        port = mz_str_skip(s, (size_t)end + 1);
    } else if (colon >= 0 && colon == mz_str_chr(s, ':')) {
        host.n = (size_t)colon;
        port = mz_str_skip(s, (size_t)colon);
    }
    uint64_t number = default_port;
    if (port.n && (!mz_str_u64(mz_str_skip(port, 1), &number) || !number || number > 65535))
        return false;
    *out_host = host;
    *out_port = (uint16_t)number;
    return host.n > 0 && host.n <= NAME_MAX_BYTES;
}

bool dns_cache_key(struct mz_str authority, uint16_t default_port, char out_key[DNS_CACHE_KEY],
                   size_t *out_n, size_t *out_host_n)
{
    struct mz_str host;
    uint16_t port;
    char number[20];
    if (!split(authority, default_port, &host, &port))
        return false;
    for (size_t i = 0; i < host.n; i++) {
        out_key[i] = mz_lower(host.p[i]);
        if (!name_char(out_key[i]))
            return false;
    }
    size_t n = mz_u64_text(port, number);
    out_key[host.n] = ':';
    memcpy(out_key + host.n + 1, number, n);
    *out_host_n = host.n;
    *out_n = host.n + 1 + n;
    return true;
}

/* ---- answers ---- */

static struct mz_dns_answer *answer_ref(struct mz_dns_answer *a)
{
    __atomic_fetch_add(&a->refs, 1, __ATOMIC_RELAXED);
    return a;
}

static void answer_unref(struct mz_dns_answer *a)
{
    if (a && __atomic_fetch_sub(&a->refs, 1, __ATOMIC_ACQ_REL) == 1)
        mz_free(MZ_MEM_UPSTREAM, a);
}

static struct mz_dns_answer *answer_create(struct mz_str key, size_t host_n, const char *why)
{
    size_t why_n = why ? strlen(why) : 0;
    struct mz_dns_answer *a = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*a) + key.n + why_n);
    char *text = (char *)(a + 1);
    memcpy(text, key.p, key.n);
    for (size_t i = 0; i < why_n; i++)
        text[key.n + i] = why[i] == ' ' ? '_' : why[i];
    a->refs = 1;
    a->key = (struct mz_str){ text, key.n };
    a->host = (struct mz_str){ text, host_n };
    a->why = (struct mz_str){ text + key.n, why_n };
    return a;
}

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
        answer_unref(x->v[i]);
    mz_map_fini(&x->by_key);
    mz_free(MZ_MEM_UPSTREAM, x->v);
    mz_free(MZ_MEM_UPSTREAM, x);
}

static const struct mz_shared_ops index_ops = { index_ref, index_unref };

/* ---- main thread: publishing ---- */

/* Clusters first: who is told that a name is there finds its host. */
static void publish(struct mz_task *t)
{
    struct mz_dns_cache *c = MZ_CONTAINER(t, struct mz_dns_cache, publish);
    struct index *x = mz_new0(MZ_MEM_UPSTREAM, struct index);
    x->refs = 1;
    mz_map_init(&x->by_key, MZ_MEM_UPSTREAM);
    x->v = mz_newn0(MZ_MEM_UPSTREAM, struct mz_dns_answer *, c->entries.n + 1);
    mz_map_foreach (it, &c->entries) {
        const struct entry *e = it->value;
        if (!e->answered)
            continue;
        x->v[x->n] = answer_ref(e->answer);
        (void)mz_map_put(&x->by_key, x->v[x->n]->key, x->v[x->n]);
        x->n++;
    }
    for (size_t i = 0; i < c->clusters.n; i++)
        forward_hosts(c->clusters.v[i], x->v, x->n);
    mz_thread_slot_set(c->slot, x);
    for (size_t i = 0; i < c->fresh.n; i++) {
        mz_discovery_answer(c->manager, c, c->fresh.v[i]->key, MZ_DISCOVERY_AVAILABLE);
        answer_unref(c->fresh.v[i]);
    }
    c->fresh.n = 0;
}

void dns_cache_join(struct mz_dns_cache *c, struct mz_cluster *cluster)
{
    *mz_vec_push(&c->clusters, MZ_MEM_UPSTREAM) = cluster;
    mz_task_schedule(c->loop, &c->publish);
}

void dns_cache_leave(struct mz_dns_cache *c, const struct mz_cluster *cluster)
{
    for (size_t i = 0; i < c->clusters.n; i++)
        if (c->clusters.v[i] == cluster) {
            c->clusters.v[i] = c->clusters.v[--c->clusters.n];
            return;
        }
}

/* ---- main thread: resolving ---- */

static void resolve(struct entry *e);

static void entry_free(struct entry *e)
{
    if (e->query)
        mz_dns_cancel(e->query);
    mz_timer_stop(&e->timer);
    mz_timer_stop(&e->timeout);
    answer_unref(e->answer);
    mz_free(MZ_MEM_UPSTREAM, e);
}

static void count_hosts(struct mz_dns_cache *c)
{
    __atomic_store_n(&c->n_entries, (uint32_t)c->entries.n, __ATOMIC_RELAXED);
    mz_gauge_set(c->scope, STAT_HOSTS, c->entries.n);
}

/* Nobody asked for it for a while: it goes; else it is looked up again. */
static void on_due(struct mz_timer *t)
{
    struct entry *e = MZ_CONTAINER(t, struct entry, timer);
    struct mz_dns_cache *c = e->cache;
    uint64_t used = __atomic_load_n(&e->answer->used_us, __ATOMIC_RELAXED);
    uint64_t now = mz_loop_now_us(c->loop);
    if (now < used || now - used <= c->ttl_ms * 1000) {
        resolve(e);
        return;
    }
    (void)mz_map_del(&c->entries, e->answer->key);
    entry_free(e);
    mz_count(c->scope, STAT_REMOVED, 1);
    count_hosts(c);
    mz_task_schedule(c->loop, &c->publish);
}

static uint64_t next_failure_ms(struct entry *e)
{
    const struct mz_dns_cache *c = e->cache;
    uint64_t bound = e->failure_ms ? e->failure_ms : c->failure_base_ms;
    e->failure_ms = bound > c->failure_max_ms / 2 ? c->failure_max_ms : bound * 2;
    return c->backs_off ? 1 + mz_rand_below(mz_loop_rand(c->loop), bound) : bound;
}

static uint64_t next_ms(struct entry *e, bool ok, const struct mz_dns_result *v, size_t n)
{
    const struct mz_dns_cache *c = e->cache;
    if (!ok)
        return next_failure_ms(e);
    e->failure_ms = 0;
    uint64_t ttl_ms = n ? UINT64_MAX : c->refresh_ms;
    for (size_t i = 0; i < n; i++)
        if (v[i].ttl_s * UINT64_C(1000) < ttl_ms)
            ttl_ms = v[i].ttl_s * UINT64_C(1000);
    return ttl_ms < c->min_refresh_ms ? c->min_refresh_ms : ttl_ms;
}

/* An address stays until another one comes: a failure later does not take it away. */
static void take(struct entry *e, const struct mz_addr *addr, const char *why)
{
    struct mz_dns_cache *c = e->cache;
    struct mz_dns_answer *old = e->answer;
    bool changed = addr && (!old->addr.len || !mz_addr_eq(addr, &old->addr));
    if (e->answered && !changed)
        return;
    struct mz_dns_answer *a = answer_create(old->key, old->host.n, addr ? NULL : why);
    if (addr)
        a->addr = *addr;
    a->used_us = __atomic_load_n(&old->used_us, __ATOMIC_RELAXED);
    if (changed)
        mz_count(c->scope, STAT_CHANGED, 1);
    if (!e->answered)
        *mz_vec_push(&c->fresh, MZ_MEM_UPSTREAM) = answer_ref(a);
    e->answered = true;
    e->answer = a;
    (void)mz_map_del(&c->entries, old->key); /* the key is the old one's */
    (void)mz_map_put(&c->entries, a->key, e);
    answer_unref(old);
    mz_task_schedule(c->loop, &c->publish);
}

static void finish(struct entry *e, bool ok, const char *why, const struct mz_dns_result *v,
                   size_t n)
{
    struct mz_dns_cache *c = e->cache;
    e->query = NULL;
    mz_timer_stop(&e->timeout);
    mz_count(c->scope, ok ? STAT_SUCCESS : STAT_FAILURE, 1);
    if (n) {
        struct mz_addr addr = v[0].addr;
        mz_addr_set_port(&addr, e->port);
        take(e, &addr, NULL);
    } else {
        take(e, NULL, why);
    }
    mz_timer_start_ms(&e->timer, next_ms(e, ok, v, n));
}

static void on_answer(void *arg, bool ok, const char *why, const struct mz_dns_result *v, size_t n)
{
    char text[128];
    if (n)
        text[0] = '\0';
    else
        (void)snprintf(text, sizeof(text), "cares_%s:%s", ok ? "norecords" : "failure",
                       why  ? why
                       : ok ? "no records"
                            : "unknown");
    finish(arg, ok, text, v, n);
}

static void on_timeout(struct mz_timer *t)
{
    struct entry *e = MZ_CONTAINER(t, struct entry, timeout);
    mz_dns_cancel(e->query);
    mz_count(e->cache->scope, STAT_TIMEOUT, 1);
    finish(e, false, "resolve_timeout", NULL, 0);
}

static void resolve(struct entry *e)
{
    struct mz_dns_cache *c = e->cache;
    struct mz_dns_result literal = { .ttl_s = (uint32_t)(c->refresh_ms / 1000) };
    mz_count(c->scope, STAT_ATTEMPT, 1);
    if (mz_addr_parse_ip(e->answer->host, 0, &literal.addr)) {
        finish(e, true, NULL, &literal, 1);
        return;
    }
    e->query = mz_dns_resolve(c->dns, e->answer->host, c->family, on_answer, e);
    if (c->timeout_ms)
        mz_timer_start_ms(&e->timeout, c->timeout_ms);
}

static void begin(struct mz_dns_cache *c, struct mz_str key, size_t host_n)
{
    uint64_t port = 0;
    if (mz_map_get(&c->entries, key)) /* asked for, or its answer is on the way */
        return;
    struct entry *e = mz_new0(MZ_MEM_UPSTREAM, struct entry);
    (void)mz_str_u64(mz_str_skip(key, host_n + 1), &port); /* we wrote it */
    e->cache = c;
    e->port = (uint16_t)port;
    e->answer = answer_create(key, host_n, NULL);
    e->answer->used_us = mz_loop_now_us(c->loop);
    mz_timer_init(c->loop, &e->timer, on_due);
    mz_timer_init(c->loop, &e->timeout, on_timeout);
    (void)mz_map_put(&c->entries, e->answer->key, e);
    mz_count(c->scope, STAT_ADDED, 1);
    count_hosts(c);
    resolve(e);
}

/* ---- workers ---- */

struct question {               /* posted to main */
    struct mz_dns_cache *cache; /* reference */
    size_t host_n, n;
    char key[];
};

static void cache_unref(struct mz_dns_cache *c)
{
    if (__atomic_fetch_sub(&c->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_thread_slot_unref(c->slot);
    mz_scope_unref(c->scope);
    mz_arena_destroy(c->arena);
}

static void asked(struct mz_loop *l, void *arg)
{
    (void)l;
    struct question *q = arg;
    if (q->cache->manager)
        begin(q->cache, (struct mz_str){ q->key, q->n }, q->host_n);
    cache_unref(q->cache);
    mz_free(MZ_MEM_UPSTREAM, q);
}

const struct mz_dns_answer *dns_cache_find(const struct mz_dns_cache *c, struct mz_str key)
{
    const struct index *x = mz_thread_slot_get(c->slot);
    struct mz_dns_answer *a = x ? mz_map_get(&x->by_key, key) : NULL;
    if (a)
        __atomic_store_n(&a->used_us, mz_clock->mono_us(), __ATOMIC_RELAXED);
    return a;
}

enum mz_dns_load mz_dns_cache_load(struct mz_dns_cache *c, struct mz_upstream *u,
                                   struct mz_str authority, uint16_t default_port,
                                   struct mz_discovery_wait *w,
                                   void (*done)(struct mz_discovery_wait *w, enum mz_discovery how),
                                   const struct mz_dns_answer **out_answer)
{
    char text[DNS_CACHE_KEY];
    size_t n, host_n;
    if (!dns_cache_key(authority, default_port, text, &n, &host_n))
        return MZ_DNS_BAD;
    struct mz_str key = { text, n };
    if (__atomic_load_n(&c->n_pending, __ATOMIC_RELAXED) >= c->max_pending) {
        mz_count(c->scope, STAT_PENDING_OVERFLOW, 1);
        return MZ_DNS_BUSY;
    }
    const struct mz_dns_answer *a = dns_cache_find(c, key);
    if (a) {
        *out_answer = a;
        return MZ_DNS_LOADED;
    }
    if (__atomic_load_n(&c->n_entries, __ATOMIC_RELAXED) >= c->max_hosts) {
        mz_count(c->scope, STAT_OVERFLOW, 1);
        return MZ_DNS_FULL;
    }
    struct question *q = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*q) + n);
    *q = (struct question){ .cache = c, .host_n = host_n, .n = n };
    memcpy(q->key, text, n);
    __atomic_fetch_add(&c->refs, 1, __ATOMIC_RELAXED);
    __atomic_fetch_add(&c->n_pending, 1, __ATOMIC_RELAXED);
    mz_discovery_wait(u, c, key, 0, w, done);
    mz_loop_post(c->loop, asked, q);
    return MZ_DNS_LOADING;
}

void mz_dns_cache_waited(struct mz_dns_cache *c)
{
    __atomic_fetch_sub(&c->n_pending, 1, __ATOMIC_RELAXED);
}

/* ---- configuration ---- */

static bool times_build(const pb_DnsCacheConfig *m, struct mz_dns_cache *c, struct mz_err *err)
{
    const pb_Cluster_RefreshRate *f = m->dns_failure_refresh_rate;
    if (!mz_duration_ms(m->dns_refresh_rate, REFRESH_MS, &c->refresh_ms, err))
        return mz_err_at(err, "dns_refresh_rate");
    if (!mz_duration_ms(m->dns_min_refresh_rate, MIN_REFRESH_MS, &c->min_refresh_ms, err))
        return mz_err_at(err, "dns_min_refresh_rate");
    if (!mz_duration_ms(m->host_ttl, HOST_TTL_MS, &c->ttl_ms, err))
        return mz_err_at(err, "host_ttl");
    if (!mz_duration_ms(m->dns_query_timeout, TIMEOUT_MS, &c->timeout_ms, err))
        return mz_err_at(err, "dns_query_timeout");
    if (c->min_refresh_ms > c->refresh_ms)
        return mz_err_set(err,
                          "dns_cache: dns_min_refresh_rate must be at most dns_refresh_rate") ||
               mz_err_at(err, "dns_min_refresh_rate");
    c->backs_off = f != NULL;
    c->failure_base_ms = c->failure_max_ms = c->refresh_ms;
    if (!f)
        return true;
    if (!mz_duration_ms(f->base_interval, REFRESH_MS, &c->failure_base_ms, err) ||
        !mz_duration_ms(f->max_interval, 10 * c->failure_base_ms, &c->failure_max_ms, err))
        return mz_err_at(err, "dns_failure_refresh_rate");
    return c->failure_max_ms >= c->failure_base_ms ||
           mz_err_set(err, "max_interval must be at least base_interval") ||
           mz_err_at(err, "dns_failure_refresh_rate");
}

static void preresolve(struct mz_dns_cache *c, const pb_DnsCacheConfig *m)
{
    for (size_t i = 0; i < m->n_preresolve_hostnames; i++) {
        const pb_SocketAddress *a = m->preresolve_hostnames[i];
        char text[DNS_CACHE_KEY];
        size_t n, host_n;
        if (dns_cache_key(mz_str_c(a->address), (uint16_t)a->port_value, text, &n, &host_n) &&
            c->entries.n < c->max_hosts)
            begin(c, (struct mz_str){ text, n }, host_n);
    }
}

static void *keep_in_arena(void *arena, size_t n)
{
    return mz_arena_alloc0(arena, n);
}

static struct mz_dns *resolver_create(const pb_DnsCacheConfig *m, const struct mz_dns_cache *c,
                                      struct mz_err *err)
{
    const struct dns_keep keep = { keep_in_arena, c->arena };
    struct dns_config d = { .n_servers = 0 };
    if (m->typed_dns_resolver_config &&
        !dns_resolver_build(m->typed_dns_resolver_config, &d, &keep, err))
        return NULL;
    const struct mz_dns_opts o = { .servers = d.servers,
                                   .n_servers = d.n_servers,
                                   .use_tcp = d.use_tcp,
                                   .no_default_search = d.no_default_search,
                                   .rotate = d.rotate,
                                   .timeout_ms = d.timeout_ms,
                                   .tries = d.tries,
                                   .udp_max = d.udp_max };
    return mz_dns_create(c->loop, &o, err);
}

static struct mz_dns_cache *cache_create(struct mz_cluster_manager *m, const pb_DnsCacheConfig *msg,
                                         struct mz_err *err)
{
    static const enum mz_dns_family families[] = { MZ_DNS_AUTO, MZ_DNS_V4_ONLY, MZ_DNS_V6_ONLY,
                                                   MZ_DNS_V4_PREFERRED, MZ_DNS_ALL };
    const struct mz_upstream_env *env = cluster_manager_env(m);
    if (!env->xds) {
        (void)mz_err_set(err, "there are no threads to tell");
        return NULL;
    }
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct mz_dns_cache *c = mz_arena_new0(a, struct mz_dns_cache);
    *c = (struct mz_dns_cache){ .manager = m,
                                .loop = env->main,
                                .arena = a,
                                .name = mz_arena_dup(a, mz_str_c(msg->name)),
                                .hash = mz_msg_hash(&msg->base),
                                .max_hosts = mz_u32_or(msg->max_hosts, HOSTS_MAX),
                                .max_pending = PENDING_MAX,
                                .refs = 1 };
    if ((unsigned)msg->dns_lookup_family < MZ_COUNT(families))
        c->family = families[msg->dns_lookup_family];
    if (msg->dns_cache_circuit_breaker)
        c->max_pending =
            mz_u32_or(msg->dns_cache_circuit_breaker->max_pending_requests, PENDING_MAX);
    c->dns = times_build(msg, c, err) ? resolver_create(msg, c, err) : NULL;
    if (!c->dns) {
        mz_arena_destroy(a);
        return NULL;
    }
    c->scope = mz_scope_create(env->stats, &kind, mz_arena_printf(a, "dns_cache.%s.", msg->name));
    c->slot = mz_thread_slot_create(env->xds, &index_ops);
    mz_map_init(&c->entries, MZ_MEM_UPSTREAM);
    mz_task_init(&c->publish, publish);
    count_hosts(c);
    preresolve(c, msg);
    return c;
}

struct mz_dns_cache *mz_dns_cache_get(struct mz_cluster_manager *m, const pb_DnsCacheConfig *msg,
                                      struct mz_err *err)
{
    struct mz_map *all = cluster_manager_dns_caches(m);
    struct mz_dns_cache *c = mz_map_get(all, mz_str_c(msg->name));
    if (c && c->hash != mz_msg_hash(&msg->base)) {
        (void)mz_err_set(err, "config specified DNS cache '%s' with different settings", msg->name);
        return NULL;
    }
    if (!c) {
        c = cache_create(m, msg, err);
        if (c)
            (void)mz_map_put(all, c->name, c);
    }
    return c;
}

void dns_caches_stop(struct mz_map *all)
{
    mz_map_foreach (it, all) {
        struct mz_dns_cache *c = it->value;
        mz_map_foreach (e, &c->entries)
            entry_free(e->value);
        mz_map_fini(&c->entries);
        for (size_t i = 0; i < c->fresh.n; i++)
            answer_unref(c->fresh.v[i]);
        mz_vec_free(&c->fresh, MZ_MEM_UPSTREAM);
        mz_vec_free(&c->clusters, MZ_MEM_UPSTREAM);
        mz_task_cancel(&c->publish);
        mz_dns_destroy(c->dns);
        c->manager = NULL;
        cache_unref(c);
    }
    mz_map_fini(all);
}
