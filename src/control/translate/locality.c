#include "control/translate/locality.h"

#include <stdlib.h>

#define NETWORK "topology.istio.io/network"
#define REGION  "topology.kubernetes.io/region"
#define ZONE    "topology.kubernetes.io/zone"
#define SUBZONE "topology.istio.io/subzone"
#define NODE    "kubernetes.io/hostname"
#define CLUSTER "topology.istio.io/cluster"

/* ---- which setting ---- */

static const ist_LocalityLoadBalancerSetting *same_zone(void)
{
    static char network[] = NETWORK, region[] = REGION, zone[] = ZONE;
    static char *labels[] = { network, region, zone };
    static ist_LocalityLoadBalancerSetting s = ist_LocalityLoadBalancerSetting__INIT;
    s.failover_priority = labels;
    s.n_failover_priority = MZ_COUNT(labels);
    return &s;
}

static const ist_LocalityLoadBalancerSetting *same_node(void)
{
    static char network[] = NETWORK, region[] = REGION, zone[] = ZONE, subzone[] = SUBZONE,
                node[] = NODE;
    static char *labels[] = { network, region, zone, subzone, node };
    static ist_LocalityLoadBalancerSetting s = ist_LocalityLoadBalancerSetting__INIT;
    s.failover_priority = labels;
    s.n_failover_priority = MZ_COUNT(labels);
    return &s;
}

static struct tr_places of_setting(const ist_LocalityLoadBalancerSetting *l)
{
    const bool off = l && l->enabled && !l->enabled->value;
    return (struct tr_places){ .said = off ? NULL : l, .off = off };
}

/* Whoever says that they shall not means it of the proxies, which share by zones where nobody said anything. */
static struct tr_places of_zones(const ist_ZoneAwareLoadBalancerSetting *z)
{
    const bool off = !mz_bool_or(z->enabled, true);
    return (struct tr_places){ .zones = z, .off = off, .force = !off };
}

struct tr_places tr_places_of(const struct mz_view *v, const struct mz_service *s,
                              const struct mz_policy *p)
{
    const ist_MeshConfig *mesh = v->model->mesh.config;
    if (p && p->lb && p->lb->zone_aware_lb_setting)
        return of_zones(p->lb->zone_aware_lb_setting);
    if (p && p->lb && p->lb->locality_lb_setting)
        return of_setting(p->lb->locality_lb_setting);
    if (s && s->distribution == MZ_PREFER_SAME_ZONE)
        return (struct tr_places){ .said = same_zone(), .force = true };
    if (s && s->distribution == MZ_PREFER_SAME_NODE)
        return (struct tr_places){ .said = same_node(), .force = true };
    if (mesh->zone_aware_lb_setting)
        return of_zones(mesh->zone_aware_lb_setting);
    return of_setting(mesh->locality_lb_setting);
}

bool tr_places_weigh(const struct tr_places *p, bool outlier)
{
    const ist_LocalityLoadBalancerSetting *l = p->said;
    return l && (l->n_distribute ||
                 ((outlier || p->force) && (l->n_failover || l->n_failover_priority)));
}

/* ---- labels, with those of the place ---- */

static struct mz_str label(struct mz_str key, const struct mz_view *v, const struct mz_locality *at,
                           struct mz_str node, struct mz_str network, struct mz_labels labels)
{
    const struct {
        struct mz_str key, value;
    } places[] = {
        { MZ_STR(REGION), at->region },   { MZ_STR(ZONE), at->zone },
        { MZ_STR(SUBZONE), at->subzone }, { MZ_STR(NODE), node },
        { MZ_STR(NETWORK), network },     { MZ_STR(CLUSTER), v->model->mesh.cluster_id }
    };
    for (size_t i = 0; i < MZ_COUNT(places); i++)
        if (mz_str_eq(key, places[i].key) && places[i].value.n)
            return places[i].value;
    for (size_t i = 0; i < labels.n; i++)
        if (mz_str_eq(labels.v[i].key, key))
            return labels.v[i].value;
    return MZ_STR("");
}

/* "key" or "key=value", where the value stands for the client's own. */
static struct mz_str wanted(const struct mz_view *v, const char *rule, struct mz_str *out_key)
{
    const struct mz_proxy *p = v->proxy;
    const struct mz_str r = mz_str_c(rule);
    const ptrdiff_t equals = mz_str_chr(r, '=');
    *out_key = (struct mz_str){ r.p, equals < 0 ? r.n : (size_t)equals };
    return equals >= 0
               ? mz_str_skip(r, (size_t)equals + 1)
               : label(*out_key, v, &p->locality, p->node, mz_label_get(p->metadata, "NETWORK"),
                       v->workload ? v->workload->labels : p->labels);
}

static struct mz_str own(const struct mz_view *v, const struct mz_endpoint *e, struct mz_str key)
{
    static const struct mz_locality nowhere;
    const struct mz_workload *w = e->workload;
    return label(key, v, w ? &w->locality : &nowhere, w ? w->node : MZ_STR(""), MZ_STR(""),
                 w ? w->labels : (struct mz_labels){ 0 });
}

struct labels { /* in the order in which they count */
    char *const *v;
    size_t n;
};
static struct labels labels_of(const struct tr_places *p)
{
    if (p->zones && !p->off)
        return (struct labels){ p->zones->failover_priority, p->zones->n_failover_priority };
    return p->said ? (struct labels){ p->said->failover_priority, p->said->n_failover_priority }
                   : (struct labels){ 0 };
}

void tr_places_key(const struct mz_view *v, const struct tr_places *p, struct mz_key *k)
{
    mz_key_str(k, v->proxy->locality.region);
    mz_key_str(k, v->proxy->locality.zone);
    mz_key_str(k, v->proxy->locality.subzone);
    const struct labels l = labels_of(p);
    for (size_t i = 0; i < l.n; i++) {
        struct mz_str key;
        mz_key_str(k, wanted(v, l.v[i], &key));
    }
}

/* ---- by labels ---- */

/* 0 where all labels are the client's, else the lower the earlier one is that is not; another network counts as all of them. */
static uint32_t steps(const struct mz_view *v, struct labels l, const struct mz_endpoint *e)
{
    const uint32_t n = (uint32_t)l.n;
    uint32_t away = 0;
    for (uint32_t i = 0; i < n; i++) {
        struct mz_str key;
        const struct mz_str want = wanted(v, l.v[i], &key);
        if (mz_str_eq(want, own(v, e, key)))
            continue;
        if (i || !mz_str_eq(key, MZ_STR(NETWORK)))
            return away + n - i;
        away = n;
    }
    return away;
}

/* Without gaps, as proxies want them. */
static void close_gaps(struct mz_arena *a, pb_ClusterLoadAssignment *m)
{
    uint32_t next = 0, most = 0;
    for (size_t i = 0; i < m->n_endpoints; i++)
        most = m->endpoints[i]->priority > most ? m->endpoints[i]->priority : most;
    uint32_t *number = mz_arena_alloc0(a, ((size_t)most + 1) * sizeof(*number)); /* from 1 */
    for (size_t i = 0; i < m->n_endpoints; i++)
        number[m->endpoints[i]->priority] = 1;
    for (uint32_t p = 0; p <= most; p++)
        number[p] = number[p] ? ++next : 0;
    for (size_t i = 0; i < m->n_endpoints; i++)
        m->endpoints[i]->priority = number[m->endpoints[i]->priority] - 1;
}

/* One place becomes several: one for each distance of its endpoints. */
static void by_labels(const struct mz_view *v, struct mz_arena *a, struct labels l,
                      pb_ClusterLoadAssignment *m, const struct mz_endpoint *const *const *of)
{
    pb_LocalityLbEndpoints *const *groups = m->endpoints;
    const size_t n = m->n_endpoints;
    const uint32_t most = 2 * (uint32_t)l.n;
    m->endpoints = NULL;
    m->n_endpoints = 0;
    for (size_t i = 0; i < n; i++) {
        uint32_t *far = mz_arena_alloc(a, groups[i]->n_lb_endpoints * sizeof(*far));
        for (size_t k = 0; k < groups[i]->n_lb_endpoints; k++)
            far[k] = steps(v, l, of[i][k]);
        for (uint32_t away = 0; away <= most; away++) {
            pb_LocalityLbEndpoints *part = NULL;
            for (size_t k = 0; k < groups[i]->n_lb_endpoints; k++) {
                if (far[k] != away)
                    continue;
                if (!part) {
                    part = TR_NEW(a, LocalityLbEndpoints);
                    part->locality = groups[i]->locality;
                    part->priority = away;
                    part->load_balancing_weight = tr_u32(a, 0);
                    TR_ADD(a, m, endpoints) = part;
                }
                TR_ADD(a, part, lb_endpoints) = groups[i]->lb_endpoints[k];
                part->load_balancing_weight->value +=
                    groups[i]->lb_endpoints[k]->load_balancing_weight->value;
            }
        }
    }
    close_gaps(a, m);
}

/* ---- by place ---- */

/* The region that was named for when the client's own fails; NULL: any. */
static const char *next_region(const ist_LocalityLoadBalancerSetting *l, struct mz_str from)
{
    for (size_t i = 0; l && i < l->n_failover; i++)
        if (mz_str_eq(mz_str_c(l->failover[i]->from), from))
            return l->failover[i]->to;
    return NULL;
}

/* How far it is from the client: in its subzone, zone, region, the region to fail over to (@next), or elsewhere. */
static uint32_t distance(const struct mz_locality *from, const pb_Locality *to, const char *next)
{
    if (!mz_str_eq(from->region, mz_str_c(to->region)))
        return !next || strcmp(next, to->region) == 0 ? 3 : 4;
    if (!mz_str_eq(from->zone, mz_str_c(to->zone)))
        return 2;
    return mz_str_eq(from->subzone, mz_str_c(to->sub_zone)) ? 0 : 1;
}

/* The nearest first, among those that labels made equal. */
static void by_distance(const struct mz_proxy *p, struct mz_arena *a,
                        const ist_LocalityLoadBalancerSetting *l, pb_ClusterLoadAssignment *m)
{
    const char *next = next_region(l, p->locality.region);
    for (size_t i = 0; i < m->n_endpoints; i++)
        m->endpoints[i]->priority =
            5 * m->endpoints[i]->priority + distance(&p->locality, m->endpoints[i]->locality, next);
    close_gaps(a, m);
}

/* Regions only: in the client's own the proxy itself chooses among the zones. */
static void by_region(const struct mz_proxy *p, struct mz_arena *a,
                      const ist_ZoneAwareLoadBalancerSetting *z, pb_ClusterLoadAssignment *m)
{
    const struct mz_str own = p->locality.region;
    const char *next = NULL;
    for (size_t i = 0; i < z->n_failover && !next; i++)
        if (mz_str_eq(mz_str_c(z->failover[i]->from), own))
            next = z->failover[i]->to;
    for (size_t i = 0; i < m->n_endpoints; i++) {
        const char *at = m->endpoints[i]->locality->region;
        const uint32_t away = mz_str_eq(mz_str_c(at), own)    ? 0
                              : next && strcmp(at, next) == 0 ? 1
                                                              : 2;
        m->endpoints[i]->priority = 3 * m->endpoints[i]->priority + away;
    }
    close_gaps(a, m);
}

/* ---- shares ---- */

/* A star is every place below; what is left out is everything, too. */
static bool is_place(const char *pattern, struct mz_str region, struct mz_str zone,
                     struct mz_str subzone)
{
    const struct mz_str parts[] = { region, zone, subzone };
    struct mz_str rest = mz_str_c(pattern), one;
    for (size_t i = 0; i < MZ_COUNT(parts) && mz_str_split(&rest, '/', &one); i++)
        if (mz_str_eq(one, MZ_STR("*")))
            return true;
        else if (!mz_str_eq(one, parts[i]))
            return false;
    return true;
}

/* Of one share: the places that are its own get their part of it. */
static void give(struct mz_arena *a, const ist_LocalityLoadBalancerSetting_Distribute_ToEntry *to,
                 pb_ClusterLoadAssignment *m, bool *had)
{
    bool *mine = mz_arena_alloc0(a, m->n_endpoints * sizeof(*mine));
    uint64_t total = 0;
    for (size_t k = 0; k < m->n_endpoints; k++) {
        const pb_Locality *at = m->endpoints[k]->locality;
        if (had[k] ||
            !is_place(to->key, mz_str_c(at->region), mz_str_c(at->zone), mz_str_c(at->sub_zone)))
            continue;
        total += m->endpoints[k]->load_balancing_weight->value;
        mine[k] = had[k] = true;
    }
    for (size_t k = 0; k < m->n_endpoints; k++) {
        const uint64_t weight = m->endpoints[k]->load_balancing_weight->value;
        if (mine[k] && total && weight && to->value) /* proxies refuse 0 */
            m->endpoints[k]->load_balancing_weight->value =
                (uint32_t)((weight * to->value + total - 1) / total);
    }
}

/* Shares of places, by where the client is; places without a share get nothing. False: nothing is said of this client. */
static bool by_shares(const struct mz_proxy *p, struct mz_arena *a,
                      const ist_LocalityLoadBalancerSetting *l, pb_ClusterLoadAssignment *m)
{
    const ist_LocalityLoadBalancerSetting_Distribute *d = NULL;
    for (size_t i = 0; i < l->n_distribute && !d; i++)
        if (is_place(l->distribute[i]->from, p->locality.region, p->locality.zone,
                     p->locality.subzone))
            d = l->distribute[i];
    if (!d)
        return false;
    bool *had = mz_arena_alloc0(a, m->n_endpoints * sizeof(*had));
    for (size_t i = 0; i < d->n_to; i++)
        give(a, d->to[i], m, had);
    for (size_t k = 0; k < m->n_endpoints; k++)
        if (!had[k])
            m->endpoints[k]->n_lb_endpoints = 0;
    return true;
}

void tr_places_apply(const struct mz_view *v, struct mz_arena *a, const struct tr_places *p,
                     bool outlier, pb_ClusterLoadAssignment *m,
                     const struct mz_endpoint *const *const *of)
{
    const ist_LocalityLoadBalancerSetting *l = p->said;
    const struct labels labels = labels_of(p);
    if (p->zones && !p->off) {
        if (labels.n)
            by_labels(v, a, labels, m, of);
        by_region(v->proxy, a, p->zones, m);
        return;
    }
    if (p->off || (l && l->n_distribute && by_shares(v->proxy, a, l, m)) ||
        (l && l->n_distribute) || !(outlier || p->force))
        return;
    if (l && l->n_failover_priority)
        by_labels(v, a, labels, m, of);
    if (!l || !l->n_failover_priority || l->n_failover)
        by_distance(v->proxy, a, l, m);
}
