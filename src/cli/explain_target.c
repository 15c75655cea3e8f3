/* Where a request goes, in words: cluster, subset, what limits it, endpoints. */
#include <stdio.h>

#include "cli/explain.h"

/* The cluster's part of the answer of /mizzen/explain; NULL: a record of a request that was has none. */
static const struct mz_node *answered(const struct telling *t)
{
    const struct mz_node *list = mz_node_get(t->answer, "clusters");
    for (size_t i = 0; i < mz_node_count(list); i++)
        if (mz_str_eq(mz_node_text(list->list[i], "name"), t->cluster))
            return list->list[i];
    return NULL;
}

/* "outbound|9080|v1|...: 80% of the requests". */
static struct mz_str share(const struct telling *t)
{
    const struct mz_node *list = mz_node_get(t->answer, "clusters");
    uint64_t all = 0;
    for (size_t i = 0; i < mz_node_count(list); i++)
        all += mz_node_number(list->list[i], "weight");
    return all ? mz_arena_printf(t->x->arena, "%g%% of the requests",
                                 100.0 * (double)mz_node_number(answered(t), "weight") /
                                     (double)all)
               : MZ_STR("by its share of the requests");
}

static void subset(struct telling *t, const struct subset_key *k)
{
    char path[300];
    if (!k->subset.n)
        return;
    (void)snprintf(path, sizeof(path), "spec.subsets[name=%.*s]", (int)k->subset.n, k->subset.p);
    said_by(SAY(t, "subset", "%.*s of %.*s", MZ_STR_ARG(k->subset), MZ_STR_ARG(k->fqdn)),
            view_rule(t->x, t->cluster_node, path));
}

/* ---- limits ---- */

static void breakers(struct telling *t)
{
    static const struct {
        const char *field, *what;
    } kinds[] = { { "max_connections", "connections" },
                  { "max_pending_requests", "requests that wait" },
                  { "max_requests", "requests at once" },
                  { "max_retries", "retries at once" } };
    const struct mz_node *list = mz_node_at(t->cluster_node, "circuit_breakers.thresholds"),
                         *one = mz_node_count(list) ? list->list[0] : NULL;
    struct mz_str all = MZ_STR("");
    for (size_t i = 0; i < MZ_COUNT(kinds); i++) {
        const uint64_t n = mz_node_number(one, kinds[i].field);
        if (mz_node_get(one, kinds[i].field) && n < UINT32_MAX)
            all = mz_arena_printf(t->x->arena, "%.*s%s%llu %s", MZ_STR_ARG(all), all.n ? ", " : "",
                                  (unsigned long long)n, kinds[i].what);
    }
    if (all.n)
        said_by(
            SAY(t, "limits", "at most %.*s: what is more is answered 503 at once", MZ_STR_ARG(all)),
            view_rule(t->x, t->cluster_node, "spec.trafficPolicy.connectionPool"));
}

static void outliers(struct telling *t)
{
    const struct mz_node *o = mz_node_get(t->cluster_node, "outlier_detection");
    const uint64_t n = mz_node_get(o, "consecutive_5xx")
                           ? mz_node_number(o, "consecutive_5xx")
                           : mz_node_number(o, "consecutive_gateway_failure");
    const struct mz_str time = mz_node_text(o, "base_ejection_time");
    if (o && n)
        said_by(SAY(t, "outliers", "an endpoint that fails %u times in a row gets nothing for %.*s",
                    (unsigned)n, MZ_STR_ARG(time.n ? time : MZ_STR("30s"))),
                view_rule(t->x, t->cluster_node, "spec.trafficPolicy.outlierDetection"));
}

/* ---- steps ---- */

void tell_cluster(struct telling *t, const struct mz_node *s)
{
    const struct subset_key k = subset_key_parse(step_a(s));
    struct said *d;
    t->cluster = step_a(s);
    t->cluster_node = view_cluster(t->view, t->cluster);
    if (mz_str_eq(step_b(s), MZ_STR("weight")))
        d = SAY(t, "cluster", "%.*s: %.*s", MZ_STR_ARG(t->cluster), MZ_STR_ARG(share(t)));
    else if (k.whole && mz_str_starts(k.direction, MZ_STR("inbound")))
        d = SAY(t, "cluster", "%.*s: the application's port %.*s", MZ_STR_ARG(t->cluster),
                MZ_STR_ARG(k.port));
    else if (mz_str_eq(t->cluster, MZ_STR("BlackHoleCluster")))
        d = SAY(t, "cluster", "BlackHoleCluster: what no document names may not leave the mesh");
    else if (mz_str_eq(t->cluster, MZ_STR("PassthroughCluster")))
        d = SAY(t, "cluster", "PassthroughCluster: it goes on as it is, where it wanted to go");
    else
        d = SAY(t, "cluster", "%.*s", MZ_STR_ARG(t->cluster));
    d->bad = mz_str_eq(t->cluster, MZ_STR("BlackHoleCluster"));
    said_by(d, view_service(t->x, t->cluster_node));
    if (!k.subset.n)
        said_by(d, view_rule(t->x, t->cluster_node, NULL));
    subset(t, &k);
    if (t->inbound)
        return;
    breakers(t);
    outliers(t);
}

void tell_no_cluster(struct telling *t, const struct mz_node *s)
{
    struct said *d = SAY(t, "cluster",
                         "%.*s does not exist: no document makes it (a subset or port that is not "
                         "there?)",
                         MZ_STR_ARG(step_a(s)));
    d->bad = t->ended = true;
    said_by(d, t->rule);
}

void tell_among(struct telling *t, const struct mz_node *s)
{
    (void)SAY(t, "endpoints", "chosen among %.*s", MZ_STR_ARG(step_a(s)));
}

/* " of 3, one of them unhealthy" */
static struct mz_str others(const struct telling *t)
{
    const struct mz_node *hosts = mz_node_get(answered(t), "hosts");
    const size_t n = mz_node_count(hosts);
    size_t bad = 0;
    for (size_t i = 0; i < n; i++)
        bad += mz_str_eq(mz_node_text(hosts->list[i], "health"), MZ_STR("unhealthy"));
    if (n < 2)
        return MZ_STR("");
    return bad ? mz_arena_printf(t->x->arena, " of %zu, of which %zu cannot serve", n, bad)
               : mz_arena_printf(t->x->arena, " of %zu", n);
}

void tell_host(struct telling *t, const struct mz_node *s)
{
    const struct mz_str address = step_a(s), of = others(t);
    const struct pod *p = pods_by_ip(&t->x->pods, address_ip(address));
    if (t->inbound)
        (void)SAY(t, "application", "%.*s", MZ_STR_ARG(address));
    else
        (void)SAY(t, "endpoint", "%.*s%.*s, chosen by %.*s%s%.*s", MZ_STR_ARG(address),
                  MZ_STR_ARG(of), MZ_STR_ARG(step_b(s)), p ? ": the pod " : "",
                  MZ_STR_ARG(p ? p->id : MZ_STR("")));
}

void tell_no_host(struct telling *t, const struct mz_node *s)
{
    struct said *d =
        SAY(t, "endpoint", "there is none to send it to: %.*s; 503", MZ_STR_ARG(step_b(s)));
    d->bad = t->ended = true;
}
