#include "filters/http/ratelimit.h"

/* What a rate limit service's answer adds to messages (H9, F11): its headers are foreign. */

#define HEADERS_MAX 100

static uint64_t window_s(int unit)
{
    static const uint32_t seconds[] = {
        [pb_RateLimitResponse_RateLimit_Unit_SECOND] = 1,
        [pb_RateLimitResponse_RateLimit_Unit_MINUTE] = 60,
        [pb_RateLimitResponse_RateLimit_Unit_HOUR] = 3600,
        [pb_RateLimitResponse_RateLimit_Unit_DAY] = 86400,
        [pb_RateLimitResponse_RateLimit_Unit_MONTH] = 30 * 86400,
        [pb_RateLimitResponse_RateLimit_Unit_YEAR] = 365 * 86400,
        [pb_RateLimitResponse_RateLimit_Unit_WEEK] = 7 * 86400,
    };
    return unit >= 0 && unit < (int)MZ_COUNT(seconds) ? seconds[unit] : 0;
}

/* "10, 10;w=1;name=\"per-ip\", 1000;w=3600" (draft-polli-ratelimit-headers-03). */
static void append_policy(struct mz_buf *b, const pb_RateLimitResponse_RateLimit *l)
{
    uint64_t window = window_s((int)l->unit);
    if (!window)
        return;
    mz_buf_printf(b, ", %u;w=%u", l->requests_per_unit, (unsigned)window);
    if (l->name[0])
        mz_buf_printf(b, ";name=\"%s\"", l->name);
}

static void add(struct mz_headers *to, struct mz_str name, struct mz_str value)
{
    if (foreign_header_fits_answer(name, value)) /* the name of a limit is foreign, too */
        mz_headers_add(to, name, value);
}

void rl_limit_headers(const pb_RateLimitResponse *m, struct mz_headers *to)
{
    const pb_RateLimitResponse_DescriptorStatus *least = NULL;
    struct mz_buf policy;
    mz_buf_init(&policy);
    for (size_t i = 0; i < m->n_statuses && i < HEADERS_MAX; i++) {
        const pb_RateLimitResponse_DescriptorStatus *s = m->statuses[i];
        if (!s->current_limit)
            continue;
        if (!least || s->limit_remaining < least->limit_remaining)
            least = s;
        append_policy(&policy, s->current_limit);
    }
    if (least) {
        struct mz_str text = mz_buf_linearize(&policy, mz_buf_len(&policy));
        long long reset = least->duration_until_reset ? least->duration_until_reset->seconds : 0;
        add(to, MZ_STR("x-ratelimit-limit"),
            mz_arena_printf(to->arena, "%u" MZ_STR_FMT, least->current_limit->requests_per_unit,
                            MZ_STR_ARG(text)));
        add(to, MZ_STR("x-ratelimit-remaining"),
            mz_arena_printf(to->arena, "%u", least->limit_remaining));
        add(to, MZ_STR("x-ratelimit-reset"), mz_arena_printf(to->arena, "%lld", reset));
    }
    mz_buf_fini(&policy);
}

void rl_take_headers(pb_HeaderValue *const *v, size_t n, struct mz_headers *to)
{
    for (size_t i = 0; i < n && i < HEADERS_MAX; i++) {
        struct mz_str name = mz_arena_dup(to->arena, mz_str_c(v[i]->key));
        for (size_t k = 0; k < name.n; k++)
            ((char *)(uintptr_t)name.p)[k] = mz_lower(name.p[k]);
        add(to, name, mz_arena_dup(to->arena, mz_str_c(v[i]->value)));
    }
}
