/*
 * Which priority serves a request (U2): each priority's health is the share of its usable hosts times the overprovisioning
 * factor; load goes to priorities in order up to their health, first to healthy, then to degraded hosts. A priority with too
 * few usable hosts while the whole cluster is short of them is in panic: all its hosts are used.
 */
#include "runtime/runtime.h"
#include "upstream/upstream_priv.h"

struct health {
    uint32_t healthy, degraded; /* percent, at most 100 each */
};

static uint64_t list_size(const struct host_list *l, bool by_weight)
{
    if (!by_weight)
        return l->n;
    uint64_t sum = 0;
    for (uint32_t i = 0; i < l->n; i++)
        sum += weight_of_host(l->v[i]);
    return sum;
}

static uint32_t health_percent(const struct priority_opts *o, uint64_t part, uint64_t total)
{
    uint64_t v = total ? o->overprovisioning * part / total : 0;
    return (uint32_t)(v < 100 ? v : 100);
}

static struct health set_health(const struct host_set *s, const struct priority_opts *o)
{
    uint64_t all = list_size(&s->lists[SOURCE_ALL], o->by_weight);
    uint64_t total = all - (o->by_weight ? s->excluded_weight : s->excluded);
    return (struct health){
        health_percent(o, list_size(&s->lists[SOURCE_HEALTHY], o->by_weight), total),
        health_percent(o, list_size(&s->lists[SOURCE_DEGRADED], o->by_weight), total)
    };
}

bool host_set_in_panic(const struct host_set *s, uint32_t threshold)
{
    uint32_t total = s->lists[SOURCE_ALL].n - s->excluded;
    if (!total)
        return threshold > 0;
    return 100.0 * (s->lists[SOURCE_HEALTHY].n + s->lists[SOURCE_DEGRADED].n) / total < threshold;
}

/* All priorities in panic: load by number of hosts. */
static void loads_in_total_panic(const struct host_set *const *s, uint32_t n,
                                 struct priority_load *out)
{
    uint32_t left = 100, first = UINT32_MAX;
    uint64_t all = 0;
    for (uint32_t p = 0; p < n; p++)
        all += s[p]->lists[SOURCE_ALL].n;
    for (uint32_t p = 0; p < n; p++) {
        uint32_t hosts = s[p]->lists[SOURCE_ALL].n;
        out[p].degraded = 0;
        out[p].healthy = all ? (uint32_t)(100ull * hosts / all) : 0;
        left -= out[p].healthy;
        if (hosts && first == UINT32_MAX)
            first = p;
    }
    out[first == UINT32_MAX ? 0 : first].healthy += left; /* rounding */
}

static bool loads_panic(const struct host_set *const *s, uint32_t n, uint32_t available,
                        uint32_t threshold, struct priority_load *out)
{
    bool total = true;
    for (uint32_t p = 0; p < n; p++) {
        out[p].panic = available < 100 && !(threshold == 0 && available == 0) &&
                       host_set_in_panic(s[p], threshold);
        total = total && out[p].panic;
    }
    return total;
}

static void loads_spread(const struct health *health, uint32_t n, uint32_t available,
                         struct priority_load *out)
{
    uint32_t left = 100;
    for (uint32_t p = 0; p < n; p++) {
        uint32_t want = health[p].healthy * 100 / available;
        out[p].healthy = want < left ? want : left;
        left -= out[p].healthy;
    }
    for (uint32_t p = 0; p < n; p++) {
        uint32_t want = health[p].degraded * 100 / available;
        out[p].degraded = want < left ? want : left;
        left -= out[p].degraded;
    }
    for (uint32_t p = 0; p < n && left; p++) { /* rounding: to the first healthy one */
        out[p].healthy += health[p].healthy ? left : 0;
        left = health[p].healthy ? 0 : left;
    }
    for (uint32_t p = 0; p < n && left; p++) {
        out[p].degraded += health[p].degraded ? left : 0;
        left = health[p].degraded ? 0 : left;
    }
}

void priority_loads_of(const struct host_set *const *s, const struct priority_opts *const *o,
                       uint32_t n, uint32_t panic_threshold, struct priority_load *out_loads)
{
    struct health *health = mz_newn0(MZ_MEM_UPSTREAM, struct health, n);
    uint32_t available = 0;
    for (uint32_t p = 0; p < n; p++) {
        health[p] = set_health(s[p], o[p]);
        available += health[p].healthy + health[p].degraded;
        out_loads[p] = (struct priority_load){ 0 };
    }
    available = available < 100 ? available : 100;
    if (available)
        loads_spread(health, n, available, out_loads);
    mz_free(MZ_MEM_UPSTREAM, health);
    if (loads_panic(s, n, available, panic_threshold, out_loads))
        loads_in_total_panic(s, n, out_loads);
}

/* The runtime's word counts, as long as it is one. */
uint32_t panic_threshold(const struct priority_opts *o)
{
    uint64_t v = mz_runtime_u64(mz_runtime_here(), MZ_STR("upstream.healthy_panic_threshold"),
                                o->panic_threshold);
    return v < 100 ? (uint32_t)v : 100;
}

void priority_loads(const struct host_sets *s, const struct priority_opts *o,
                    struct priority_load *out_loads)
{
    const struct host_set *sets[PRIORITIES_MAX + 1];
    const struct priority_opts *opts[PRIORITIES_MAX + 1];
    for (uint32_t p = 0; p < s->n; p++) {
        sets[p] = &s->v[p];
        opts[p] = o;
    }
    priority_loads_of(sets, opts, s->n, panic_threshold(o), out_loads);
}

uint32_t priority_choose(const struct priority_load *v, uint32_t n,
                         const uint32_t *healthy_override, uint32_t at, enum source *out_source)
{
    uint32_t sum = 0;
    *out_source = SOURCE_HEALTHY;
    for (uint32_t p = 0; p < n; p++) {
        sum += healthy_override ? healthy_override[p] : v[p].healthy;
        if (at < sum)
            return p;
    }
    for (uint32_t p = 0; p < n && !healthy_override; p++) {
        sum += v[p].degraded;
        if (at < sum) {
            *out_source = SOURCE_DEGRADED;
            return p;
        }
    }
    return 0; /* no load anywhere: nothing is healthy and there is no panic */
}
