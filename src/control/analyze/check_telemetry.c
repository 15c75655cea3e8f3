#include "control/analyze/check_policy.h"

#include "base/vec.h"
#include "cel/cel.h"
#include "proto/mapper.h"

/* AT(error, path...): false, the path in front. */
#define AT(failure, ...) ((void)(failure), mz_err_at(err, __VA_ARGS__))
/* What a document may have: a proxy's listeners repeat all of it (H01). */
enum { MAX_PROVIDERS = 50, MAX_OVERRIDES = 200, MAX_TAGS = 100, MAX_EXPRESSION = 4096 };

static bool at_most(size_t n, size_t most, const char *path, struct mz_err *err)
{
    return n <= most ? true
                     : AT(mz_err_set(err, "may have at most %zu, has %zu", most, n), "%s", path);
}

static bool providers(ist_ProviderRef *const *v, size_t n, struct mz_err *err)
{
    for (size_t i = 0; i < n; i++)
        if (!v[i]->name[0])
            return AT(mz_err_set(err, "is required"), "providers[%zu].name", i);
    return at_most(n, MAX_PROVIDERS, "providers", err);
}

/* ---- tracing ---- */

static const char *empty_part(const ist_telemetry_Tracing_CustomTag *t)
{
    switch (t->type_case) {
    case ist_telemetry_Tracing_CustomTag_TYPE_LITERAL:
        return t->literal->value[0] ? NULL : "literal.value";
    case ist_telemetry_Tracing_CustomTag_TYPE_ENVIRONMENT:
        return t->environment->name[0] ? NULL : "environment.name";
    case ist_telemetry_Tracing_CustomTag_TYPE_HEADER:
        return t->header->name[0] ? NULL : "header.name";
    case ist_telemetry_Tracing_CustomTag_TYPE_FORMATTER:
        return t->formatter->value[0] ? NULL : "formatter.value";
    default:
        return "type"; /* a proxy would refuse it */
    }
}

static bool tracing(const ist_telemetry_Tracing *m, struct mz_err *err)
{
    const double share = mz_double_or(m->random_sampling_percentage, 0);
    if (!(share >= 0 && share <= 100))
        return AT(mz_err_set(err, "must be in 0..100, is %g", share), "random_sampling_percentage");
    for (size_t i = 0; i < m->n_custom_tags; i++) {
        const char *key = m->custom_tags[i]->key, *part = empty_part(m->custom_tags[i]->value);
        if (!key[0])
            return AT(mz_err_set(err, "the name of a tag must not be empty"), "custom_tags");
        if (part)
            return AT(mz_err_set(err, "is required"), "custom_tags[%.60s].%s", key, part);
    }
    return at_most(m->n_custom_tags, MAX_TAGS, "custom_tags", err) &&
           providers(m->providers, m->n_providers, err);
}

/* ---- metrics ---- */

static bool tags(const ist_MetricsOverrides *o, struct mz_err *err)
{
    for (size_t i = 0; i < o->n_tag_overrides; i++) {
        const ist_MetricsOverrides_TagOverride *t = o->tag_overrides[i]->value;
        const bool removed = t->operation == ist_MetricsOverrides_TagOverride_Operation_REMOVE;
        const char *key = o->tag_overrides[i]->key;
        if (!removed && !t->value[0])
            return AT(mz_err_set(err, "is required with UPSERT"), "tag_overrides[%.60s].value",
                      key);
        if (removed && t->value[0])
            return AT(mz_err_set(err, "stands only with UPSERT"), "tag_overrides[%.60s].value",
                      key);
        if (!at_most(strlen(t->value), MAX_EXPRESSION, "value", err))
            return mz_err_at(err, "tag_overrides[%.60s]", key);
    }
    return at_most(o->n_tag_overrides, MAX_TAGS, "tag_overrides", err);
}

static bool metrics(const ist_Metrics *m, struct mz_err *err)
{
    uint64_t ms;
    for (size_t i = 0; i < m->n_overrides; i++) {
        const ist_MetricSelector *s = m->overrides[i]->match;
        if (s && s->metric_match_case == ist_MetricSelector_METRIC_MATCH_CUSTOM_METRIC &&
            !s->custom_metric[0])
            return AT(mz_err_set(err, "must not be empty"), "overrides[%zu].match.custom_metric",
                      i);
        if (!tags(m->overrides[i], err))
            return mz_err_at(err, "overrides[%zu]", i);
    }
    if (!mz_duration_ms(m->reporting_interval, 0, &ms, err))
        return mz_err_at(err, "reporting_interval");
    return at_most(m->n_overrides, MAX_OVERRIDES, "overrides", err) &&
           providers(m->providers, m->n_providers, err);
}

/* ---- access logs ---- */

/* Names of Envoy's attributes: an expression with another would be refused by every proxy. */
static bool expression(const char *text, struct mz_err *err)
{
    static const struct mz_str names[] = {
        MZ_STR_INIT("request"),  MZ_STR_INIT("response"),     MZ_STR_INIT("connection"),
        MZ_STR_INIT("upstream"), MZ_STR_INIT("source"),       MZ_STR_INIT("destination"),
        MZ_STR_INIT("metadata"), MZ_STR_INIT("filter_state"), MZ_STR_INIT("upstream_filter_state"),
        MZ_STR_INIT("xds")
    };
    const struct mz_cel_env env = {
        .names = names, .n = MZ_COUNT(names), .string_conversion = true, .string_concat = true
    };
    if (!at_most(strlen(text), MAX_EXPRESSION, "expression", err))
        return false;
    struct mz_cel *p = mz_cel_create(mz_str_c(text), &env, err);
    mz_cel_destroy(p);
    return p || mz_err_at(err, "expression");
}

static bool logging(const ist_AccessLogging *m, struct mz_err *err)
{
    if (m->filter && !expression(m->filter->expression, err))
        return mz_err_at(err, "filter");
    return providers(m->providers, m->n_providers, err);
}

bool check_telemetry(const ist_Telemetry *m, struct mz_err *err)
{
    if (!check_targets(m->selector, m->targetref, m->targetrefs, m->n_targetrefs, err))
        return false;
    for (size_t i = 0; i < m->n_tracing; i++)
        if (!tracing(m->tracing[i], err))
            return mz_err_at(err, "tracing[%zu]", i);
    for (size_t i = 0; i < m->n_metrics; i++)
        if (!metrics(m->metrics[i], err))
            return mz_err_at(err, "metrics[%zu]", i);
    for (size_t i = 0; i < m->n_access_logging; i++)
        if (!logging(m->access_logging[i], err))
            return mz_err_at(err, "access_logging[%zu]", i);
    return at_most(m->n_tracing, MAX_PROVIDERS, "tracing", err) &&
           at_most(m->n_metrics, MAX_PROVIDERS, "metrics", err) &&
           at_most(m->n_access_logging, MAX_PROVIDERS, "access_logging", err);
}
