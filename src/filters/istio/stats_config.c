#include <stdlib.h>

#include "base/log.h"
#include "filters/istio/stats_priv.h"
#include "observe/attributes.h"
#include "observe/format.h"
#include "proto/mapper.h"

#define REPORT_MS 5000

const struct mz_str label_names[LABEL__COUNT] = {
#define X(id, name) [LABEL_##id] = MZ_STR_INIT(name),
    LABELS(X)
#undef X
};

/* ---- metrics ---- */

static const struct mz_stat_def defs[METRIC__COUNT] = {
#define X(id, name, group, type, unit)                                                             \
    [METRIC_##id] = { "istio_" name, MZ_##type, MZ_UNIT_##unit, MZ_STAT_LAZY },
    METRICS(X)
#undef X
};
static const struct mz_stat_kind alone[METRIC__COUNT] = {
#define X(id, name, group, type, unit) [METRIC_##id] = { name, &defs[METRIC_##id], 1 },
    METRICS(X)
#undef X
};
const struct mz_stat_kind group_kinds[GROUP__COUNT] = {
    [GROUP_HTTP] = { "istio_http", &defs[METRIC_REQUESTS], METRIC_REQUEST_MESSAGES },
    [GROUP_MESSAGES] = { "istio_messages", &defs[METRIC_REQUEST_MESSAGES],
                         METRIC_TCP_OPENED - METRIC_REQUEST_MESSAGES },
    [GROUP_TCP] = { "istio_tcp", &defs[METRIC_TCP_OPENED], METRIC__COUNT - METRIC_TCP_OPENED },
};
enum {
    FIRST_HTTP = METRIC_REQUESTS,
    FIRST_MESSAGES = METRIC_REQUEST_MESSAGES,
    FIRST_TCP = METRIC_TCP_OPENED
};
const struct metric_row metric_rows[METRIC__COUNT] = {
#define X(id, name, group, type, unit)                                                             \
    [METRIC_##id] = { MZ_STR_INIT(name), GROUP_##group, FIRST_##group, &alone[METRIC_##id] },
    METRICS(X)
#undef X
};

static int metric_of(struct mz_str name)
{
    for (int i = 0; i < METRIC__COUNT; i++)
        if (mz_str_eq(metric_rows[i].name, name))
            return i;
    return -1;
}

static int label_of(struct mz_str name)
{
    for (int i = 0; i < LABEL__COUNT; i++)
        if (mz_str_eq(label_names[i], name))
            return i;
    return -1;
}

/* ---- what a configuration changes ---- */

struct setting {
    struct mz_str metric; /* "": all of them */
    struct mz_str tag;
    int label; /* the standard one of that name, or -1 */
    int to;
};

static void add(struct stats_cfg *c, struct additions *to, const struct setting *s)
{
    struct addition *v = mz_arena_alloc(c->arena, (to->n + 1) * sizeof(*v));
    if (to->n)
        memcpy(v, to->v, to->n * sizeof(*v));
    v[to->n++] = (struct addition){ s->tag, s->to };
    to->v = v;
}

static void set(struct stats_cfg *c, const struct setting *s)
{
    int one = metric_of(s->metric);
    for (int i = 0; i < METRIC__COUNT; i++) {
        if (one != i && s->metric.n)
            continue;
        if (s->label >= 0)
            c->changes[i].tags[s->label] = (int16_t)s->to;
        else if (s->to >= 0)
            add(c, &c->changes[i].added, s);
    }
    for (unsigned i = 0; i < c->n_customs; i++)
        if (s->to >= 0 && (!s->metric.n || mz_str_eq(s->metric, c->customs[i].name)))
            add(c, &c->customs[i].added, s);
}

/* Negative: it cannot be read. */
static int expr_build(struct stats_cfg *c, const char *text)
{
    struct mz_err err = { 0 };
    char why[512];
    struct mz_cel *p = mz_attributes_compile_open(mz_str_c(text), &err);
    if (!p) {
        MZ_LOG(INFO, config, "istio.stats: expression '%s' is left out: %s", text,
               mz_err_text(&err, why, sizeof(why)));
        return TAG_DROPPED;
    }
    struct mz_cel **v = mz_arena_alloc(c->arena, (c->n_exprs + 1) * sizeof(struct mz_cel *));
    if (c->n_exprs)
        memcpy(v, c->exprs, c->n_exprs * sizeof(struct mz_cel *));
    v[c->n_exprs] = p;
    c->exprs = v;
    return (int)c->n_exprs++;
}

static int entry_cmp(const void *a, const void *b)
{
    return strcmp((*(pb_MetricConfig_DimensionsEntry *const *)a)->key,
                  (*(pb_MetricConfig_DimensionsEntry *const *)b)->key);
}

static void metric_build(struct stats_cfg *c, const pb_MetricConfig *m)
{
    struct setting s = { .metric = mz_str_c(m->name) };
    if (m->drop) {
        int one = metric_of(s.metric);
        if (one >= 0)
            c->changes[one].drop = true;
        return;
    }
    for (size_t i = 0; i < m->n_tags_to_remove; i++) {
        s.label = label_of(mz_str_c(m->tags_to_remove[i]));
        s.to = TAG_DROPPED;
        if (s.label >= 0)
            set(c, &s);
    }
    pb_MetricConfig_DimensionsEntry **v =
        mz_arena_alloc(c->arena, (m->n_dimensions + 1) * sizeof(*v));
    for (size_t i = 0; i < m->n_dimensions; i++)
        v[i] = m->dimensions[i];
    qsort(v, m->n_dimensions, sizeof(*v), entry_cmp);
    for (size_t i = 0; i < m->n_dimensions; i++) {
        s.tag = mz_arena_dup(c->arena, mz_str_c(v[i]->key));
        s.label = label_of(s.tag);
        s.to = expr_build(c, v[i]->value);
        set(c, &s);
    }
}

static const struct custom *custom_of(const struct stats_cfg *c, struct mz_str name)
{
    for (unsigned i = 0; i < c->n_customs; i++)
        if (mz_str_eq(c->customs[i].name, name))
            return &c->customs[i];
    return NULL;
}

/* What cannot be is left out and told. */
static void custom_build(struct stats_cfg *c, const pb_MetricDefinition *m)
{
    static const enum mz_stat_type types[] = { [pb_MetricType_COUNTER] = MZ_COUNTER,
                                               [pb_MetricType_GAUGE] = MZ_GAUGE,
                                               [pb_MetricType_HISTOGRAM] = MZ_HISTOGRAM };
    struct mz_str name = mz_arena_dup(c->arena, mz_str_c(m->name));
    const struct mz_str parts[] = { MZ_STR("istio_"), name };
    enum mz_stat_type type = (unsigned)m->type < MZ_COUNT(types) ? types[m->type] : MZ_COUNTER;
    if (metric_of(name) >= 0 || custom_of(c, name)) {
        MZ_LOG(INFO, config, "istio.stats: there is a metric '%s' already", m->name);
        return;
    }
    struct custom x = { .name = name, .expr = expr_build(c, m->value) };
    if (x.expr < 0)
        return;
    x.kind = mz_stat_kind_named(c->stats, mz_arena_cat(c->arena, 2, parts), type,
                                type == MZ_HISTOGRAM ? MZ_UNIT_BYTES : MZ_UNIT_NONE);
    if (!x.kind) {
        MZ_LOG(INFO, config, "istio.stats: metric '%s' is left out: no name, or one too many",
               m->name);
        return;
    }
    const struct mz_stat_tag tag = { MZ_STR("overflow"), MZ_STR("true") };
    x.overflow = mz_scope_tagged(c->stats, x.kind, MZ_STR("istiocustom"), &tag, 1);
    c->customs[c->n_customs++] = x;
}

static bool additions_check(unsigned standard, const struct additions *a, struct mz_err *err)
{
    return standard + a->n <= MZ_STATS_TAGS_MAX ||
           mz_err_set(err, "%u additional dimensions are too many, there may be %u", a->n,
                      MZ_STATS_TAGS_MAX - standard) ||
           mz_err_at(err, "metrics");
}

static bool changes_build(struct stats_cfg *c, const pb_PluginConfig *m, struct mz_err *err)
{
    if (m->n_definitions > CUSTOM_MAX)
        return mz_err_set(err, "%zu are too many, there may be %u", m->n_definitions, CUSTOM_MAX) ||
               mz_err_at(err, "definitions");
    c->customs = mz_arena_alloc0(c->arena, (m->n_definitions + 1) * sizeof(*c->customs));
    for (size_t i = 0; i < m->n_definitions; i++)
        custom_build(c, m->definitions[i]);
    if (!m->n_metrics)
        return true;
    c->changes = mz_arena_alloc0(c->arena, METRIC__COUNT * sizeof(*c->changes));
    for (unsigned i = 0; i < METRIC__COUNT; i++)
        for (unsigned k = 0; k < LABEL__COUNT; k++)
            c->changes[i].tags[k] = TAG_AS_IS;
    for (size_t i = 0; i < m->n_metrics; i++)
        metric_build(c, m->metrics[i]);
    for (unsigned i = 0; i < METRIC__COUNT; i++)
        if (!additions_check(LABEL__COUNT, &c->changes[i].added, err))
            return false;
    for (unsigned i = 0; i < c->n_customs; i++)
        if (!additions_check(0, &c->customs[i].added, err))
            return false;
    return true;
}

/* ---- the whole ---- */

static enum reporter reporter_of(const pb_PluginConfig *m, const struct mz_factory *f)
{
    if (m->reporter == pb_Reporter_SERVER_GATEWAY)
        return REPORTER_GATEWAY;
    return f->traffic_direction == pb_TrafficDirection_INBOUND ? REPORTER_SERVER : REPORTER_CLIENT;
}

static void overflow_build(struct stats_cfg *c)
{
    static const struct mz_str names[] = { [REPORTER_CLIENT] = MZ_STR_INIT("source"),
                                           [REPORTER_SERVER] = MZ_STR_INIT("destination"),
                                           [REPORTER_GATEWAY] = MZ_STR_INIT("waypoint") };
    const struct mz_stat_tag tags[] = { { MZ_STR("reporter"), names[c->reporter] },
                                        { MZ_STR("overflow"), MZ_STR("true") } };
    for (unsigned g = 0; g < GROUP__COUNT; g++)
        c->overflow[g] =
            mz_scope_tagged(c->stats, &group_kinds[g], MZ_STR("istiocustom"), tags, MZ_COUNT(tags));
}

/* istio_build, which tells the version. */
static void version_show(struct stats_cfg *c, const struct mz_factory *f)
{
    static const struct mz_stat_def def = { "istio_build", MZ_GAUGE, MZ_UNIT_NONE, 0 };
    static const struct mz_stat_kind kind = { "istio_build", &def, 1 };
    struct mz_str version = peer_metadata_text(f->node_metadata, MZ_STR("ISTIO_VERSION"));
    const struct mz_stat_tag tags[] = { { MZ_STR("component"), MZ_STR("proxy") },
                                        { MZ_STR("tag"),
                                          version.n ? version : MZ_STR("unknown") } };
    struct mz_scope *s =
        mz_scope_tagged(c->stats, &kind, MZ_STR("istiocustom"), tags, MZ_COUNT(tags));
    if (s)
        mz_gauge_set(s, 0, 1);
}

void *stats_config_build(const void *msg, const struct mz_factory *f, struct mz_err *err)
{
    const pb_PluginConfig *m = msg;
    struct mz_arena *a = mz_arena_create(MZ_MEM_CONFIG);
    struct stats_cfg *c = mz_arena_new0(a, struct stats_cfg);
    *c = (struct stats_cfg){ .arena = a,
                             .stats = f->stats,
                             .reporter = reporter_of(m, f),
                             .no_host_fallback = m->disable_host_header_fallback,
                             .n_slots = f->workers + 1 };
    c->known = mz_arena_alloc0(a, c->n_slots * sizeof(*c->known));
    for (unsigned i = 0; i < c->n_slots; i++)
        mz_map_init(&c->known[i], MZ_MEM_STATS);
    if (!mz_duration_ms(m->tcp_reporting_duration, REPORT_MS, &c->report_ms, err)) {
        mz_err_at(err, "tcp_reporting_duration");
        stats_config_destroy(c);
        return NULL;
    }
    peer_from_metadata(f->node_metadata, NULL, a, &c->self);
    if (!changes_build(c, m, err)) {
        stats_config_destroy(c);
        return NULL;
    }
    overflow_build(c);
    version_show(c, f);
    mz_format_want_principals();
    return c;
}

void stats_config_destroy(void *cfg)
{
    struct stats_cfg *c = cfg;
    for (unsigned i = 0; i < c->n_slots; i++) {
        mz_map_foreach (e, &c->known[i])
            mz_free(MZ_MEM_STATS, (void *)(uintptr_t)e->key.p);
        mz_map_fini(&c->known[i]);
    }
    for (unsigned i = 0; i < c->n_exprs; i++)
        mz_cel_destroy(c->exprs[i]);
    mz_arena_destroy(c->arena);
}
