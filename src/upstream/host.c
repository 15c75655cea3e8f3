#include "base/buf.h"
#include "base/clock.h"
#include "upstream/health/health.h"

/* One allocation beside the host's, only where its cluster watches hosts. */
static struct host_health *host_health_create(const struct mz_cluster *c)
{
    const struct cluster_priv *p = c->priv;
    if (!p || (!p->outlier && !p->checker))
        return NULL;
    struct host_health *s = mz_new0(MZ_MEM_UPSTREAM, struct host_health);
    s->outlier.outlier = p->outlier ? outlier_ref(p->outlier) : NULL;
    for (unsigned i = 0; i < ORIGIN__COUNT; i++)
        s->outlier.rate[i] = -1;
    return s;
}

static void host_health_destroy(struct host_health *s)
{
    if (!s)
        return;
    outlier_unref(s->outlier.outlier);
    checker_unref(s->checker);
    mz_free(MZ_MEM_UPSTREAM, s->check_name);
    mz_free(MZ_MEM_UPSTREAM, s);
}

struct mz_host *host_create(struct mz_cluster *c, const struct mz_addr *a,
                            const struct host_text *t, uint32_t weight, uint32_t priority)
{
    const struct locality_spec *l = t->locality;
    size_t n = t->hostname.n + (l ? l->region.n + l->zone.n + l->sub_zone.n : 0);
    struct mz_host *h = mz_alloc0(MZ_MEM_UPSTREAM, sizeof(*h) + n); /* texts lie behind it */
    char *at = (char *)(h + 1);
    const struct mz_str from[] = { t->hostname, l ? l->region : MZ_STR(""),
                                   l ? l->zone : MZ_STR(""), l ? l->sub_zone : MZ_STR("") };
    struct mz_str *const to[] = { &h->hostname, &h->region, &h->zone, &h->sub_zone };
    for (size_t i = 0; i < MZ_COUNT(to); i++) {
        if (from[i].n)
            memcpy(at, from[i].p, from[i].n);
        *to[i] = (struct mz_str){ at, from[i].n };
        at += from[i].n;
    }
    h->refs = 1;
    h->addr = h->health_check_addr = *a;
    h->weight = weight;
    h->healthy_since_us = mz_clock->mono_us();
    h->priority = priority;
    h->cluster = c;
    char text[MZ_ADDR_TEXT];
    size_t text_n = mz_addr_text(a, text);
    h->health = host_health_create(c);
    h->addr_text_n = (uint8_t)(text_n < sizeof(h->addr_text) ? text_n : sizeof(h->addr_text) - 1);
    memcpy(h->addr_text, text, h->addr_text_n);
    return h;
}

void host_set_addresses(struct mz_host *h, const struct mz_addr *v, size_t n)
{
    MZ_ASSERT(!h->addrs && n && mz_addr_eq(&v[0], &h->addr));
    if (n < 2)
        return;
    h->addrs = mz_newn0(MZ_MEM_UPSTREAM, struct mz_addr, n);
    memcpy(h->addrs, v, n * sizeof(*v));
    h->n_addrs = (uint32_t)n;
}

struct mz_host *mz_host_ref(struct mz_host *h)
{
    __atomic_fetch_add(&h->refs, 1, __ATOMIC_RELAXED);
    return h;
}

void mz_host_unref(struct mz_host *h)
{
    if (!h || __atomic_fetch_sub(&h->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_arena_destroy(h->arena);
    mz_free(MZ_MEM_UPSTREAM, h->addrs);
    host_health_destroy(h->health);
    mz_free(MZ_MEM_UPSTREAM, h);
}

static uint32_t flags_of(const struct mz_host *h)
{
    return __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED);
}

enum mz_host_health mz_host_health(const struct mz_host *h)
{
    uint32_t f = flags_of(h);
    if (f & (MZ_HOST_FAILED_ACTIVE_HC | MZ_HOST_FAILED_OUTLIER | MZ_HOST_FAILED_EDS |
             MZ_HOST_DRAINING_EDS))
        return MZ_HOST_UNHEALTHY;
    return f & (MZ_HOST_DEGRADED_ACTIVE_HC | MZ_HOST_DEGRADED_EDS) ? MZ_HOST_DEGRADED
                                                                   : MZ_HOST_HEALTHY;
}

bool host_excluded(const struct mz_host *h)
{
    return flags_of(h) &
           (MZ_HOST_PENDING_ACTIVE_HC | MZ_HOST_EXCLUDED_IMMEDIATE_HC | MZ_HOST_DRAINING_EDS);
}

uint32_t host_eds_flags(int health_status)
{
    switch (health_status) {
    case pb_HealthStatus_UNHEALTHY:
    case pb_HealthStatus_TIMEOUT: /* Envoy */
        return MZ_HOST_FAILED_EDS;
    case pb_HealthStatus_DRAINING:
        return MZ_HOST_DRAINING_EDS;
    case pb_HealthStatus_DEGRADED:
        return MZ_HOST_DEGRADED_EDS;
    default:
        return 0;
    }
}

static const struct {
    uint32_t flag;
    const char *text;
} flag_texts[] = {
    { MZ_HOST_FAILED_ACTIVE_HC, "/failed_active_hc" },
    { MZ_HOST_FAILED_OUTLIER, "/failed_outlier_check" },
    { MZ_HOST_FAILED_EDS, "/failed_eds_health" },
    { MZ_HOST_DEGRADED_ACTIVE_HC, "/degraded_active_hc" },
    { MZ_HOST_DEGRADED_EDS, "/degraded_eds_health" },
    { MZ_HOST_PENDING_REMOVAL, "/pending_dynamic_removal" },
    { MZ_HOST_PENDING_ACTIVE_HC, "/pending_active_hc" },
    { MZ_HOST_EXCLUDED_IMMEDIATE_HC, "/excluded_via_immediate_hc_fail" },
    { MZ_HOST_ACTIVE_HC_TIMEOUT, "/active_hc_timeout" },
    { MZ_HOST_DRAINING_EDS, "/eds_status_draining" },
};

void host_flags_text(uint32_t flags, struct mz_buf *out)
{
    size_t n = mz_buf_len(out);
    for (size_t i = 0; i < MZ_COUNT(flag_texts); i++)
        if (flags & flag_texts[i].flag)
            mz_buf_append_str(out, mz_str_c(flag_texts[i].text));
    if (mz_buf_len(out) == n)
        mz_buf_append_str(out, MZ_STR("healthy"));
}
