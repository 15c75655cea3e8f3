#include "route/rate_limit_priv.h"

/* rate_limits: messages to actions (H9). */

static struct mz_str key_or(struct builder *b, const char *key, struct mz_str otherwise)
{
    return key[0] ? build_str(b, key) : otherwise;
}

static void metadata_build(struct builder *b, const pb_MetadataKey *m, struct rate_action *out)
{
    out->kind = ACTION_METADATA;
    out->name = build_str(b, m->key);
    out->path = build_newn0(b, struct mz_str, m->n_path);
    for (; out->n_path < m->n_path; out->n_path++)
        out->path[out->n_path] = build_str(b, m->path[out->n_path]->key);
}

static bool headers_match_build(struct builder *b, const pb_RateLimit_Action_HeaderValueMatch *m,
                                struct rate_action *out)
{
    out->kind = ACTION_HEADERS_MATCH;
    out->key = key_or(b, m->descriptor_key, MZ_STR("header_match"));
    out->value = build_str(b, m->descriptor_value);
    out->expect_match = mz_bool_or(m->expect_match, true);
    out->n_headers = (uint32_t)m->n_headers;
    return build_header_matches(b, m->headers, m->n_headers, &out->headers) ||
           mz_err_at(b->err, "header_value_match.headers");
}

static bool query_match_build(struct builder *b,
                              const pb_RateLimit_Action_QueryParameterValueMatch *m,
                              struct rate_action *out)
{
    out->kind = ACTION_QUERY_MATCH;
    out->key = key_or(b, m->descriptor_key, MZ_STR("query_match"));
    out->value = build_str(b, m->descriptor_value);
    out->expect_match = mz_bool_or(m->expect_match, true);
    out->n_queries = (uint32_t)m->n_query_parameters;
    return build_query_matches(b, m->query_parameters, m->n_query_parameters, &out->queries) ||
           mz_err_at(b->err, "query_parameter_value_match.query_parameters");
}

static void named_build(struct builder *b, enum action_kind kind, struct mz_str name,
                        const char *key, bool skip, struct rate_action *out)
{
    out->kind = (uint8_t)kind;
    out->name = name;
    out->key = build_str(b, key);
    out->skip_if_absent = skip;
}

static void plain_build(enum action_kind kind, struct mz_str key, struct rate_action *out)
{
    out->kind = (uint8_t)kind;
    out->key = key;
}

static bool action_build(struct builder *b, const pb_RateLimit_Action *m, bool of_filter,
                         struct rate_action *out)
{
    switch (m->action_specifier_case) {
    case pb_RateLimit_Action_ACTION_SPECIFIER_SOURCE_CLUSTER:
        plain_build(ACTION_SOURCE_CLUSTER, MZ_STR("source_cluster"), out);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_DESTINATION_CLUSTER:
        plain_build(ACTION_DESTINATION_CLUSTER, MZ_STR("destination_cluster"), out);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_REQUEST_HEADERS:
        named_build(b, ACTION_HEADER, build_lower(b, m->request_headers->header_name),
                    m->request_headers->descriptor_key, m->request_headers->skip_if_absent, out);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_QUERY_PARAMETERS:
        named_build(b, ACTION_QUERY, build_str(b, m->query_parameters->query_parameter_name),
                    m->query_parameters->descriptor_key, m->query_parameters->skip_if_absent, out);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_REMOTE_ADDRESS:
        plain_build(ACTION_REMOTE_ADDRESS, MZ_STR("remote_address"), out);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_MASKED_REMOTE_ADDRESS:
        plain_build(ACTION_MASKED_ADDRESS, MZ_STR("masked_remote_address"), out);
        out->mask_v4 = (uint8_t)mz_u32_or(m->masked_remote_address->v4_prefix_mask_len, 32);
        out->mask_v6 = (uint8_t)mz_u32_or(m->masked_remote_address->v6_prefix_mask_len, 128);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_GENERIC_KEY:
        out->kind = ACTION_GENERIC_KEY;
        out->key = key_or(b, m->generic_key->descriptor_key, MZ_STR("generic_key"));
        out->value = build_str(b, m->generic_key->descriptor_value);
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_HEADER_VALUE_MATCH:
        return headers_match_build(b, m->header_value_match, out);
    case pb_RateLimit_Action_ACTION_SPECIFIER_QUERY_PARAMETER_VALUE_MATCH:
        return query_match_build(b, m->query_parameter_value_match, out);
    case pb_RateLimit_Action_ACTION_SPECIFIER_METADATA:
        metadata_build(b, m->metadata->metadata_key, out);
        out->key = build_str(b, m->metadata->descriptor_key);
        out->value = build_str(b, m->metadata->default_value);
        out->of_route = m->metadata->source == pb_RateLimit_Action_MetaData_Source_ROUTE_ENTRY;
        out->skip_if_absent = m->metadata->skip_if_absent;
        return true;
    case pb_RateLimit_Action_ACTION_SPECIFIER_DYNAMIC_METADATA:
        if (of_filter)
            return mz_err_set(b->err,
                              "dynamic_metadata is for rate_limits of routes; use metadata");
        metadata_build(b, m->dynamic_metadata->metadata_key, out);
        out->key = build_str(b, m->dynamic_metadata->descriptor_key);
        out->value = build_str(b, m->dynamic_metadata->default_value);
        return true;
    default:
        return mz_err_set(b->err, "an action is required");
    }
}

static bool hits_build(struct builder *b, const pb_RateLimit_HitsAddend *m, struct rate_limit *out)
{
    size_t n = strlen(m->format);
    out->hits = mz_u64_or(m->number, 1);
    if ((n > 0) == (m->number != NULL))
        return mz_err_set(b->err, "exactly one of number, format is required");
    if (!n)
        return true;
    if (m->format[0] != '%' || memchr(m->format + 1, '%', n - 1) != m->format + n - 1) {
        mz_err_set(b->err, "must be one operator, is '%s'", m->format);
        return mz_err_at(b->err, "format");
    }
    return build_format(b, m->format, true, &out->hits_format) || mz_err_at(b->err, "format");
}

static bool limit_build(struct builder *b, const pb_RateLimit *m, bool of_filter,
                        struct rate_limit *out)
{
    if (of_filter && (m->stage || m->disable_key[0]))
        return mz_err_set(b->err, "stage and disable_key are for rate_limits of routes");
    *out = (struct rate_limit){ .stage = mz_u32_or(m->stage, 0), .hits = 1 };
    if (m->disable_key[0])
        out->enabled = (struct mz_fraction){
            mz_arena_printf(b->a, "ratelimit.%s.http_filter_enabled", m->disable_key), 100, 100
        };
    if (m->hits_addend && !hits_build(b, m->hits_addend, out))
        return mz_err_at(b->err, "hits_addend");
    out->v = build_newn0(b, struct rate_action, m->n_actions);
    for (; out->n < m->n_actions; out->n++)
        if (!action_build(b, m->actions[out->n], of_filter, &out->v[out->n]))
            return mz_err_at(b->err, "actions[%zu]", out->n);
    return true;
}

bool mz_rate_limits_build(pb_RateLimit **v, size_t n, bool of_filter, struct mz_arena *a,
                          const struct mz_rate_limits **out, struct mz_err *err)
{
    struct builder b = { .a = a, .err = err };
    if (!n)
        return true;
    struct mz_rate_limits *l = build_new0(&b, struct mz_rate_limits);
    l->v = build_newn0(&b, struct rate_limit, n);
    l->of_filter = of_filter;
    for (size_t i = 0; i < n; i++) {
        if (!limit_build(&b, v[i], of_filter, &l->v[l->n]))
            return mz_err_at(err, "[%zu]", i);
        l->n++;
    }
    *out = l;
    return true;
}

bool build_rate_limits(struct builder *b, pb_RateLimit **v, size_t n,
                       const struct mz_rate_limits **out)
{
    return mz_rate_limits_build(v, n, false, b->a, out, b->err) || mz_err_at(b->err, "rate_limits");
}
