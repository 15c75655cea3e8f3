/*
 * Clusters of a dynamic forward proxy (U1): a host for each name of a DNS cache that has an address, found by the request's authority.
 * Main makes the hosts; a worker knows them by name.
 */
#include "upstream/auto_sni.h"
#include "upstream/dns_cache.h"
#include "upstream/upstream_priv.h"

struct forward {
    struct mz_dns_cache *cache;
    bool insecure;
    MZ_VEC(struct mz_host *) hosts; /* main thread; one reference each */
};
struct forward_here {           /* one worker's */
    const struct host_sets *of; /* borrowed: compared only */
    uint64_t seq;
    struct mz_arena *arena;
    struct mz_map by_key; /* hosts are the sets' */
};

static struct forward *of(const struct mz_cluster *c)
{
    return cluster_priv(c)->forward;
}

bool mz_cluster_forwards(const struct mz_cluster *c, uint16_t *out_default_port)
{
    *out_default_port = c->transport && c->transport->secure ? 443 : 80;
    return of(c) != NULL;
}

/* ---- configuration ---- */

bool forward_config(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct mz_proto_ctx ctx = { .arena = mz_arena_create(MZ_MEM_CONFIG),
                                .unknown = MZ_UNKNOWN_COUNT };
    const pb_Any *any = m->cluster_type->typed_config;
    ProtobufCMessage *msg = NULL;
    bool ok = any ? mz_any_unpack_as(&ctx, any, &pb_dynamic_forward_proxy_ClusterConfig__descriptor,
                                     &msg, err)
                  : mz_err_set(err, "is required");
    const pb_dynamic_forward_proxy_ClusterConfig *from = (const void *)msg;
    if (ok &&
        from->cluster_implementation_specifier_case !=
            pb_dynamic_forward_proxy_ClusterConfig_CLUSTER_IMPLEMENTATION_SPECIFIER_DNS_CACHE_CONFIG)
        ok = mz_err_set(err, "is required") || mz_err_at(err, "dns_cache_config");
    if (ok) {
        struct forward *f = cluster_keep(c, sizeof(*f));
        f->insecure = from->allow_insecure_cluster_options;
        f->cache = mz_dns_cache_get(cluster_priv(c)->manager, from->dns_cache_config, err);
        cluster_priv(c)->forward = f;
        ok = f->cache || mz_err_at(err, "dns_cache_config");
    }
    mz_arena_destroy(ctx.arena);
    if (!ok)
        return mz_err_at(err, "cluster_type.typed_config");
    return !m->load_assignment ||
           mz_err_set(err, "a dynamic forward proxy has the hosts that requests name only") ||
           mz_err_at(err, "load_assignment");
}

/* A certificate is checked for the name that was asked for, unless the configuration says that it is not. */
bool forward_names_check(const pb_Cluster *m, struct mz_cluster *c, struct mz_err *err)
{
    struct cluster_priv *p = cluster_priv(c);
    if (!p->forward)
        return true;
    if (!m->upstream_http_protocol_options && !m->n_typed_extension_protocol_options) {
        struct mz_auto_sni *a = cluster_keep(c, sizeof(*a));
        *a = (struct mz_auto_sni){ .sni = true, .san = true };
        p->auto_sni = a;
    }
    return p->forward->insecure || (p->auto_sni && p->auto_sni->sni && p->auto_sni->san) ||
           mz_err_set(err,
                      "dynamic_forward_proxy cluster must have auto_sni and "
                      "auto_san_validation true unless allow_insecure_cluster_options is set.");
}

/* ---- main thread ---- */

static struct mz_host *known(const struct forward *f, const struct mz_dns_answer *a)
{
    for (size_t i = 0; i < f->hosts.n; i++)
        if (mz_addr_eq(&f->hosts.v[i]->addr, &a->addr) &&
            mz_str_eq(f->hosts.v[i]->hostname, a->host))
            return f->hosts.v[i];
    return NULL;
}

void forward_hosts(struct mz_cluster *c, struct mz_dns_answer *const *v, size_t n)
{
    static const struct locality_spec place = { .priority = 0 };
    struct forward *f = of(c);
    struct cluster_priv *p = cluster_priv(c);
    struct endpoints_count count = { .changed = true };
    struct host_spec *specs = mz_newn0(MZ_MEM_UPSTREAM, struct host_spec, n + 1);
    struct mz_host **hosts = mz_newn0(MZ_MEM_UPSTREAM, struct mz_host *, n + 1);
    for (size_t i = 0; i < n; i++) {
        if (!v[i]->addr.len)
            continue;
        struct host_text t = { v[i]->host, NULL };
        struct mz_host *h = known(f, v[i]);
        if (h) {
            mz_host_ref(h);
        } else {
            h = host_create(c, &v[i]->addr, &t, 1, 0);
            host_transport_set(h);
            count.added++;
        }
        specs[count.total] = (struct host_spec){ mz_host_ref(h), 0 };
        hosts[count.total++] = h;
    }
    count.healthy = count.total;
    for (size_t i = 0; i < f->hosts.n; i++) {
        bool stays = false;
        for (size_t k = 0; k < count.total && !stays; k++)
            stays = hosts[k] == f->hosts.v[i];
        if (!stays)
            __atomic_fetch_or(&f->hosts.v[i]->health_flags, MZ_HOST_GONE, __ATOMIC_RELAXED);
        mz_host_unref(f->hosts.v[i]);
    }
    f->hosts.n = 0;
    for (size_t i = 0; i < count.total; i++)
        *mz_vec_push(&f->hosts, MZ_MEM_UPSTREAM) = hosts[i];
    p->seq = p->sets->seq + 1;
    cluster_set_hosts(c, host_sets_create(specs, (uint32_t)count.total, &place, 1, false, p->seq));
    mz_free(MZ_MEM_UPSTREAM, specs);
    mz_free(MZ_MEM_UPSTREAM, hosts);
    cluster_members_count(c, &count);
}

void forward_start(struct mz_cluster *c)
{
    dns_cache_join(of(c)->cache, c);
}

void forward_stop(struct mz_cluster *c)
{
    struct forward *f = of(c);
    if (!f)
        return;
    dns_cache_leave(f->cache, c);
    for (size_t i = 0; i < f->hosts.n; i++)
        mz_host_unref(f->hosts.v[i]);
    mz_vec_free(&f->hosts, MZ_MEM_UPSTREAM);
}

/* ---- a worker ---- */

void forward_drop(struct mz_wcluster *w)
{
    if (!w->forward)
        return;
    mz_map_fini(&w->forward->by_key);
    mz_arena_destroy(w->forward->arena);
    mz_free(MZ_MEM_UPSTREAM, w->forward);
    w->forward = NULL;
}

static void names_read(struct mz_wcluster *w)
{
    const struct host_sets *sets = w->lb.sets;
    forward_drop(w);
    struct forward_here *here = w->forward = mz_new0(MZ_MEM_UPSTREAM, struct forward_here);
    here->of = sets;
    here->seq = sets->seq;
    here->arena = mz_arena_create(MZ_MEM_UPSTREAM);
    mz_map_init(&here->by_key, MZ_MEM_UPSTREAM);
    for (uint32_t i = 0; i < sets->n_hosts; i++) {
        struct mz_host *h = sets->hosts[i];
        struct mz_str key = mz_arena_printf(here->arena, MZ_STR_FMT ":%u", MZ_STR_ARG(h->hostname),
                                            (unsigned)mz_addr_port(&h->addr));
        (void)mz_map_put(&here->by_key, key, h);
    }
}

static struct mz_host *choose(struct mz_wcluster *w, struct mz_lb_ctx *ctx)
{
    const struct forward *f = of(w->cluster);
    char text[DNS_CACHE_KEY];
    size_t n, host_n;
    uint16_t port;
    (void)mz_cluster_forwards(w->cluster, &port); /* it does */
    struct mz_str authority =
        ctx->headers ? mz_headers_value_id(ctx->headers, MZ_H_AUTHORITY) : ctx->wanted_host;
    port = !ctx->headers && ctx->wanted_port ? ctx->wanted_port : port;
    if (!dns_cache_key(authority, port, text, &n, &host_n)) {
        ctx->why = "the request names no host";
        return NULL;
    }
    if (!w->forward || w->forward->of != w->lb.sets || w->forward->seq != w->lb.sets->seq)
        names_read(w);
    struct mz_str key = { text, n };
    struct mz_host *h = mz_map_get(&w->forward->by_key, key);
    (void)dns_cache_find(f->cache, key); /* it is in use */
    ctx->why =
        h ? "the host that the request names" : "the host that the request names is not known";
    return h;
}

const struct lb_type lb_forward = { .name = "dynamic forward proxy", .provided = choose };
