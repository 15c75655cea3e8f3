/* Metrics: the filter istio.stats, as the documents change it. */
#include <stdlib.h>

#include "control/translate/providers.h"
#include "control/translate/telemetry.h"

struct tag {
    const char *name;
    const ist_MetricsOverrides_TagOverride *to;
};
struct metric {       /* what overrides say of one */
    const char *name; /* as documents call it */
    bool dropped;
    size_t n_tags;
    struct tag *tags;
};
struct provider { /* what is said of one side of it */
    const char *name;
    bool off;
    const pb_Duration *interval;
    size_t n_metrics;
    struct metric *metrics;
};
struct providers {
    size_t n_v;
    struct provider *v;
};
struct names {
    char **v;
    size_t n;
};

static const struct {
    const char *name, *metric;
} known[] = {
    /* by name */
    { "GRPC_REQUEST_MESSAGES", "request_messages_total" },
    { "GRPC_RESPONSE_MESSAGES", "response_messages_total" },
    { "REQUEST_COUNT", "requests_total" },
    { "REQUEST_DURATION", "request_duration_milliseconds" },
    { "REQUEST_SIZE", "request_bytes" },
    { "RESPONSE_SIZE", "response_bytes" },
    { "TCP_CLOSED_CONNECTIONS", "tcp_connections_closed_total" },
    { "TCP_OPENED_CONNECTIONS", "tcp_connections_opened_total" },
    { "TCP_RECEIVED_BYTES", "tcp_received_bytes_total" },
    { "TCP_SENT_BYTES", "tcp_sent_bytes_total" },
};

/* ---- merging ---- */

static struct names names_of(struct mz_arena *a, const ist_Metrics *m, struct names otherwise)
{
    struct names n = { mz_arena_alloc(a, m->n_providers * sizeof(char *)), m->n_providers };
    for (size_t i = 0; i < n.n; i++)
        n.v[i] = m->providers[i]->name;
    return n.n ? n : otherwise;
}

static bool has_name(struct names n, const char *name)
{
    for (size_t i = 0; i < n.n; i++)
        if (strcmp(n.v[i], name) == 0)
            return true;
    return false;
}

static struct provider *provider_at(struct mz_arena *a, struct providers *all, const char *name)
{
    for (size_t i = 0; i < all->n_v; i++)
        if (strcmp(all->v[i].name, name) == 0)
            return &all->v[i];
    const struct provider fresh = { .name = name };
    TR_ADD(a, all, v) = fresh;
    return &all->v[all->n_v - 1];
}

static struct metric *metric_at(struct mz_arena *a, struct provider *p, const char *name)
{
    for (size_t i = 0; i < p->n_metrics; i++)
        if (strcmp(p->metrics[i].name, name) == 0)
            return &p->metrics[i];
    const struct metric fresh = { .name = name };
    TR_ADD(a, p, metrics) = fresh;
    return &p->metrics[p->n_metrics - 1];
}

static void put_tag(struct mz_arena *a, struct metric *m, const char *name,
                    const ist_MetricsOverrides_TagOverride *to)
{
    for (size_t i = 0; i < m->n_tags; i++)
        if (strcmp(m->tags[i].name, name) == 0) {
            m->tags[i].to = to;
            return;
        }
    const struct tag fresh = { name, to };
    TR_ADD(a, m, tags) = fresh;
}

static void override_one(struct mz_arena *a, struct provider *p, const char *name,
                         const ist_MetricsOverrides *o)
{
    struct metric *m = metric_at(a, p, name);
    if (o->disabled)
        m->dropped = o->disabled->value;
    for (size_t i = 0; i < o->n_tag_overrides; i++)
        put_tag(a, m, o->tag_overrides[i]->key, o->tag_overrides[i]->value);
}

static void override_all(struct mz_arena *a, struct provider *p, const ist_MetricsOverrides *o)
{
    const ist_MetricSelector *s = o->match;
    const bool custom = s && s->metric_match_case == ist_MetricSelector_METRIC_MATCH_CUSTOM_METRIC;
    const bool one = s && s->metric_match_case == ist_MetricSelector_METRIC_MATCH_METRIC &&
                     s->metric != ist_MetricSelector_IstioMetric_ALL_METRICS;
    if (!custom && !one && mz_bool_or(o->disabled, false)) {
        p->off = true; /* no filter at all */
        return;
    }
    p->off = false;
    if (custom)
        override_one(a, p, s->custom_metric, o);
    else if (one)
        override_one(a, p,
                     protobuf_c_enum_descriptor_get_value(
                         &ist_MetricSelector_IstioMetric__descriptor, (int)s->metric)
                         ->name,
                     o);
    else
        for (size_t i = 0; i < MZ_COUNT(known); i++)
            override_one(a, p, known[i].name, o);
}

static void merge(struct mz_view *v, enum tr_class class, const struct tr_said *s,
                  struct providers *out)
{
    struct mz_arena *a = v->arena;
    const ist_MeshConfig_DefaultProviders *d = v->model->mesh.config->default_providers;
    const struct names mesh = { d ? d->metrics : NULL, d ? d->n_metrics : 0 };
    struct names in_scope = mesh, current = mesh;
    for (size_t i = 0; i < s->n_metrics; i++)
        in_scope = names_of(a, s->metrics[i], in_scope); /* the last that names any */
    for (size_t i = 0; !s->n_metrics && i < mesh.n; i++)
        (void)provider_at(a, out, mesh.v[i]);
    for (size_t i = 0; i < s->n_metrics; i++) {
        const ist_Metrics *m = s->metrics[i];
        current = names_of(a, m, current);
        for (size_t k = 0; k < current.n; k++) {
            if (!has_name(in_scope, current.v[k]))
                continue;
            struct provider *p = provider_at(a, out, current.v[k]);
            p->interval = m->reporting_interval ? m->reporting_interval : p->interval;
            for (size_t j = 0; j < m->n_overrides; j++)
                if (tr_mode_is_of(m->overrides[j]->match
                                      ? m->overrides[j]->match->mode
                                      : ist_telemetry_WorkloadMode_CLIENT_AND_SERVER,
                                  class))
                    override_all(a, p, m->overrides[j]);
        }
    }
}

/* ---- the filter ---- */

static int compare_metrics(const void *x, const void *y)
{
    return strcmp(((const struct metric *)x)->name, ((const struct metric *)y)->name);
}

static int compare_tags(const void *x, const void *y)
{
    return strcmp(((const struct tag *)x)->name, ((const struct tag *)y)->name);
}

static int compare_providers(const void *x, const void *y)
{
    return strcmp(((const struct provider *)x)->name, ((const struct provider *)y)->name);
}

static const char *metric_name(const char *name)
{
    for (size_t i = 0; i < MZ_COUNT(known); i++)
        if (strcmp(known[i].name, name) == 0)
            return known[i].metric;
    return name; /* one of their own */
}

static pb_MetricConfig *metric_config(struct mz_arena *a, struct metric *m)
{
    pb_MetricConfig *c = TR_NEW(a, MetricConfig);
    c->name = TR_CONST(metric_name(m->name));
    c->drop = m->dropped;
    if (m->n_tags)
        qsort(m->tags, m->n_tags, sizeof(*m->tags), compare_tags);
    for (size_t i = 0; i < m->n_tags; i++) {
        if (m->tags[i].to->operation == ist_MetricsOverrides_TagOverride_Operation_REMOVE) {
            TR_ADD(a, c, tags_to_remove) = TR_CONST(m->tags[i].name);
            continue;
        }
        pb_MetricConfig_DimensionsEntry *e = TR_NEW(a, MetricConfig_DimensionsEntry);
        e->key = TR_CONST(m->tags[i].name);
        e->value = m->tags[i].to->value;
        TR_ADD(a, c, dimensions) = e;
    }
    return c;
}

static pb_PluginConfig *plugin(struct mz_arena *a, enum tr_class class, struct provider *p)
{
    pb_PluginConfig *m = TR_NEW(a, PluginConfig);
    m->disable_host_header_fallback = class != TR_OUTBOUND;
    m->tcp_reporting_duration = (pb_Duration *)(uintptr_t)p->interval; /* shared with the model */
    if (p->n_metrics)
        qsort(p->metrics, p->n_metrics, sizeof(*p->metrics), compare_metrics);
    for (size_t i = 0; i < p->n_metrics; i++)
        TR_ADD(a, m, metrics) = metric_config(a, &p->metrics[i]);
    return m;
}

void tr_metrics_add(struct mz_view *v, enum tr_class class, const struct tr_said *s,
                    struct tr_telemetry *t)
{
    struct mz_arena *a = v->arena;
    struct providers all = { 0 };
    if (v->proxy->stock)
        return; /* it has no such filter */
    merge(v, class, s, &all);
    if (all.n_v)
        qsort(all.v, all.n_v, sizeof(*all.v), compare_providers);
    for (size_t i = 0; i < all.n_v; i++) {
        const ist_MeshConfig_ExtensionProvider *p =
            tr_provider_by_any_case(v->model, mz_str_c(all.v[i].name));
        if (!p || p->provider_case != ist_MeshConfig_ExtensionProvider_PROVIDER_PROMETHEUS ||
            all.v[i].off)
            continue;
        const pb_PluginConfig *m = plugin(a, class, &all.v[i]);
        TR_ADD(a, t, http_stats) = tr_named_http_filter(a, "istio.stats", m);
        TR_ADD(a, t, tcp_stats) = tr_filter(a, "istio.stats", m);
    }
}
