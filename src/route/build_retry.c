#include "route/retry_on.h"
#include "route/route_priv.h"

static const struct {
    struct mz_str word;
    uint32_t bit;
    unsigned family;
} words[] = {
#define X(id, word, family) { MZ_STR_INIT(word), MZ_RETRY_##id, MZ_RETRY_FAMILY_##family },
    MZ_RETRY_WORDS(X)
#undef X
};

static uint32_t word_bit(struct mz_str word, unsigned families)
{
    for (size_t i = 0; i < MZ_COUNT(words); i++)
        if ((words[i].family & families) && mz_str_eq(words[i].word, word))
            return words[i].bit;
    return 0;
}

uint32_t mz_retry_on_parse(struct mz_str text, unsigned families, unsigned *out_unknown)
{
    uint32_t bits = 0;
    *out_unknown = 0;
    for (struct mz_str part; mz_str_split(&text, ',', &part);) {
        uint32_t bit = word_bit(mz_str_trim(part), families);
        *out_unknown += bit == 0;
        bits |= bit;
    }
    return bits;
}

/* ---- extensions ---- */

static bool extension(struct builder *b, const pb_Any *any,
                      const ProtobufCMessageDescriptor **out_type, ProtobufCMessage **out)
{
    if (!any)
        return mz_err_set(b->err, "typed_config is required");
    return mz_any_unpack(b->env->factory->proto, any, out_type, out, b->err) ||
           mz_err_at(b->err, "typed_config");
}

static bool predicate_build(struct builder *b, const pb_RetryPolicy_RetryHostPredicate *m,
                            struct mz_retry_policy *out)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!extension(b, m->typed_config, &type, &msg))
        return false;
    if (type == &pb_PreviousHostsPredicate__descriptor)
        out->previous_hosts = true;
    else if (type == &pb_OmitCanaryHostsPredicate__descriptor)
        out->omit_canary_hosts = true;
    else if (type == &pb_OmitHostMetadataConfig__descriptor)
        out->omit_metadata =
            mz_meta_build(((const pb_OmitHostMetadataConfig *)msg)->metadata_match, b->a);
    else
        return mz_err_set(b->err, "typed_config is a %s; expected a retry host predicate",
                          type->name);
    return true;
}

static bool priority_build(struct builder *b, const pb_RetryPolicy_RetryPriority *m,
                           struct mz_retry_policy *out)
{
    const ProtobufCMessageDescriptor *type;
    ProtobufCMessage *msg;
    if (!extension(b, m->typed_config, &type, &msg))
        return false;
    if (type != &pb_PreviousPrioritiesConfig__descriptor)
        return mz_err_set(b->err, "typed_config is a %s; expected a retry priority", type->name);
    int32_t frequency = ((const pb_PreviousPrioritiesConfig *)msg)->update_frequency;
    if (frequency < 1)
        return mz_err_set(b->err, "typed_config.update_frequency must be at least 1, is %d",
                          (int)frequency);
    out->previous_priorities = true;
    out->previous_priorities_frequency = (uint32_t)frequency;
    return true;
}

static bool extensions_build(struct builder *b, const pb_route_RetryPolicy *m,
                             struct mz_retry_policy *out)
{
    for (size_t i = 0; i < m->n_retry_host_predicate; i++)
        if (!predicate_build(b, m->retry_host_predicate[i], out))
            return mz_err_at(b->err, "retry_host_predicate[%zu]", i);
    if (m->retry_priority && !priority_build(b, m->retry_priority, out))
        return mz_err_at(b->err, "retry_priority");
    return true;
}

/* ---- back-off ---- */

static bool backoff_build(struct builder *b, const pb_RetryPolicy_RetryBackOff *m,
                          struct mz_retry_policy *out)
{
    if (!m->base_interval)
        return mz_err_set(b->err, "base_interval is required");
    if (!mz_duration_ms(m->base_interval, 0, &out->backoff_base_ms, b->err))
        return mz_err_at(b->err, "base_interval");
    if (!out->backoff_base_ms)
        return mz_err_set(b->err, "base_interval must be greater than 0s");
    if (!mz_duration_ms(m->max_interval, out->backoff_base_ms * 10, &out->backoff_max_ms, b->err))
        return mz_err_at(b->err, "max_interval");
    return out->backoff_max_ms >= out->backoff_base_ms ||
           mz_err_set(
               b->err, "max_interval is %llu ms; must be at least base_interval, which is %llu ms",
               (unsigned long long)out->backoff_max_ms, (unsigned long long)out->backoff_base_ms);
}

static bool ratelimited_build(struct builder *b, const pb_RetryPolicy_RateLimitedRetryBackOff *m,
                              struct mz_retry_policy *out)
{
    if (!m->n_reset_headers)
        return mz_err_set(b->err, "reset_headers must have at least 1 item");
    out->reset_headers = build_newn0(b, struct mz_reset_header, m->n_reset_headers);
    for (size_t i = 0; i < m->n_reset_headers; i++) {
        struct mz_reset_header *h = &out->reset_headers[out->n_reset_headers++];
        h->name = build_lower(b, m->reset_headers[i]->name);
        h->unix_time =
            m->reset_headers[i]->format == pb_RetryPolicy_ResetHeaderFormat_UNIX_TIMESTAMP;
    }
    return mz_duration_ms(m->max_interval, 300000, &out->reset_max_ms, b->err) ||
           mz_err_at(b->err, "max_interval");
}

static bool timings_build(struct builder *b, const pb_route_RetryPolicy *m,
                          struct mz_retry_policy *out)
{
    if (!mz_duration_ms(m->per_try_timeout, 0, &out->per_try_timeout_ms, b->err))
        return mz_err_at(b->err, "per_try_timeout");
    if (!mz_duration_ms(m->per_try_idle_timeout, 0, &out->per_try_idle_timeout_ms, b->err))
        return mz_err_at(b->err, "per_try_idle_timeout");
    if (m->retry_back_off && !backoff_build(b, m->retry_back_off, out))
        return mz_err_at(b->err, "retry_back_off");
    if (m->rate_limited_retry_back_off &&
        !ratelimited_build(b, m->rate_limited_retry_back_off, out))
        return mz_err_at(b->err, "rate_limited_retry_back_off");
    return true;
}

bool build_retry(struct builder *b, const pb_route_RetryPolicy *m,
                 const struct mz_retry_policy **out)
{
    struct mz_retry_policy *p = build_new0(b, struct mz_retry_policy);
    unsigned unknown;
    p->retry_on = mz_retry_on_parse(mz_str_c(m->retry_on),
                                    MZ_RETRY_FAMILY_HTTP | MZ_RETRY_FAMILY_GRPC, &unknown);
    p->num_retries = mz_u32_or(m->num_retries, 1);
    p->host_selection_attempts = m->host_selection_retry_max_attempts > 0 &&
                                         m->host_selection_retry_max_attempts <= UINT32_MAX
                                     ? (uint32_t)m->host_selection_retry_max_attempts
                                     : 1;
    p->status_codes = build_newn0(b, uint32_t, m->n_retriable_status_codes);
    p->n_status_codes = m->n_retriable_status_codes;
    for (size_t i = 0; i < m->n_retriable_status_codes; i++)
        p->status_codes[i] = m->retriable_status_codes[i];
    p->n_retriable_headers = m->n_retriable_headers;
    if (!build_header_matches(b, m->retriable_headers, m->n_retriable_headers,
                              &p->retriable_headers))
        return mz_err_at(b->err, "retriable_headers");
    p->n_retriable_request_headers = m->n_retriable_request_headers;
    if (!build_header_matches(b, m->retriable_request_headers, m->n_retriable_request_headers,
                              &p->retriable_request_headers))
        return mz_err_at(b->err, "retriable_request_headers");
    *out = p;
    return timings_build(b, m, p) && extensions_build(b, m, p);
}

/* ---- envoy.config.core.v3.RetryPolicy: of services that the proxy asks itself ---- */

static bool core_backoff(const pb_BackoffStrategy *m, struct mz_retry_policy *p, struct mz_err *err)
{
    p->backoff_base_ms = 1000; /* Envoy's, where a route has 25 ms */
    if (m && !mz_duration_ms(m->base_interval, 1000, &p->backoff_base_ms, err))
        return mz_err_at(err, "base_interval");
    p->backoff_max_ms = p->backoff_base_ms * 10;
    if (m && !mz_duration_ms(m->max_interval, p->backoff_max_ms, &p->backoff_max_ms, err))
        return mz_err_at(err, "max_interval");
    return p->backoff_max_ms >= p->backoff_base_ms ||
           mz_err_set(err,
                      "max_interval is %llu ms; must be greater than or equal to base_interval, "
                      "which is %llu ms",
                      (unsigned long long)p->backoff_max_ms,
                      (unsigned long long)p->backoff_base_ms);
}

const struct mz_retry_policy *mz_retry_policy_core(const pb_core_RetryPolicy *m,
                                                   const char *retry_on, struct mz_arena *a,
                                                   struct mz_err *err)
{
    struct mz_retry_policy *p = mz_arena_new0(a, struct mz_retry_policy);
    unsigned unknown;
    p->retry_on = mz_retry_on_parse(mz_str_c(retry_on ? retry_on : m->retry_on),
                                    MZ_RETRY_FAMILY_HTTP | MZ_RETRY_FAMILY_GRPC, &unknown);
    p->num_retries = mz_u32_or(m->num_retries, 1);
    p->host_selection_attempts = 1;
    if (core_backoff(m->retry_back_off, p, err))
        return p;
    (void)mz_err_at(err, "retry_back_off");
    return NULL;
}

bool build_hedge(struct builder *b, const pb_HedgePolicy *m, const struct mz_hedge_policy **out)
{
    struct mz_hedge_policy *p = build_new0(b, struct mz_hedge_policy);
    p->set = true;
    p->on_per_try_timeout = m->hedge_on_per_try_timeout;
    p->initial_requests = mz_u32_or(m->initial_requests, 1);
    if (p->initial_requests < 1)
        return mz_err_set(b->err, "initial_requests must be at least 1, is 0");
    if (m->additional_request_chance &&
        !build_percent(b, m->additional_request_chance, &p->additional))
        return mz_err_at(b->err, "additional_request_chance");
    *out = p;
    return true;
}
