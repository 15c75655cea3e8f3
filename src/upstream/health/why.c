/* Why a host takes no traffic, for people (pain 22): /clusters and the story of a request that found no host. */
#include "base/clock.h"
#include "upstream/health/health.h"

static uint32_t load32(const uint32_t *v)
{
    return __atomic_load_n(v, __ATOMIC_RELAXED);
}

static uint64_t load64(const uint64_t *v)
{
    return __atomic_load_n(v, __ATOMIC_RELAXED);
}

static double seconds(uint64_t later_us, uint64_t us)
{
    return later_us > us ? (double)(later_us - us) / 1e6 : 0;
}

/* What was measured, and the option that set the limit. */
static const struct {
    const char *behind, *limit;
} shapes[RULE__COUNT] = {
    [RULE_5XX] = { " failures in a row", "consecutive_5xx" },
    [RULE_GATEWAY] = { " failures in a row", "consecutive_gateway_failure" },
    [RULE_SUCCESS_RATE] = { "% succeeded", "average less success_rate_stdev_factor deviations" },
    [RULE_LOCAL] = { " failures in a row", "consecutive_local_origin_failure" },
    [RULE_LOCAL_SUCCESS_RATE] = { "% succeeded",
                                  "average less success_rate_stdev_factor deviations" },
    [RULE_FAILURE_PERCENTAGE] = { "% failed", "failure_percentage_threshold" },
    [RULE_LOCAL_FAILURE_PERCENTAGE] = { "% failed", "failure_percentage_threshold" }
};

/* None of the words by which people search Envoy's own rows. */
static void ejected_text(const struct mz_host *h, uint64_t now_us, char *out, size_t room)
{
    const struct ejected_why *w = &h->health->ejected;
    uint32_t rule = load32(&w->rule) < RULE__COUNT ? load32(&w->rule) : 0;
    (void)snprintf(
        out, room, "ejected by %s: %.4g%s (limit %.4g: %s), for %.1fs, %.1fs left, ejection %u",
        outlier_rule_text(rule), (double)load64(&w->measured) / 1000, shapes[rule].behind,
        (double)load64(&w->limit) / 1000, shapes[rule].limit, seconds(now_us, load64(&w->since_us)),
        seconds(load64(&w->until_us), now_us), load32(&w->times));
}

static void result_text(const struct check_why *w, char *out, size_t room)
{
    static const char *const texts[] = { [CHECK_NONE] = "no check has ended yet",
                                         [CHECK_PASSED] = "the last check passed",
                                         [CHECK_BODY] = "the answer lacks the expected bytes",
                                         [CHECK_NAME] = "another service answered",
                                         [CHECK_CLOSED] = "the connection ended before the answer",
                                         [CHECK_PROTOCOL] = "the answer is not valid",
                                         [CHECK_TIMEOUT] = "no answer in time",
                                         [CHECK_TOLD] =
                                             "an answer had x-envoy-immediate-health-check-fail" };
    static const char *const serving[] = { "UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN" };
    uint32_t result = load32(&w->result), value = load32(&w->value);
    const char *err = result == CHECK_CONNECT && value ? strerrordesc_np((int)value) : NULL;
    if (result == CHECK_STATUS)
        (void)snprintf(out, room, "HTTP status %u", value);
    else if (result == CHECK_GRPC)
        (void)snprintf(out, room, "grpc-status %u", value);
    else if (result == CHECK_SERVING)
        (void)snprintf(out, room, "the service says %s",
                       value < MZ_COUNT(serving) ? serving[value] : "something unknown");
    else if (result == CHECK_CONNECT)
        (void)snprintf(out, room, "no connection%s%s", err ? ": " : "", err ? err : "");
    else
        (void)snprintf(out, room, "%s", result < MZ_COUNT(texts) ? texts[result] : "");
}

static void checked_text(const struct mz_host *h, uint64_t now_us, char *out, size_t room)
{
    const struct check_why *w = &h->health->checked;
    char what[96];
    result_text(w, what, sizeof(what));
    if (load32(&w->result) == CHECK_NONE)
        (void)snprintf(out, room, "active check: %s", what);
    else
        (void)snprintf(out, room,
                       "active check failed: %s, %u in a row (limit %u: unhealthy_threshold), for "
                       "%.1fs, until %u in a row pass (%u so far)",
                       what, load32(&w->bad), load32(&w->bad_limit),
                       seconds(now_us, load64(&w->since_us)), load32(&w->good_limit),
                       load32(&w->good));
}

static const struct {
    uint32_t flag;
    const char *kind, *text; /* text NULL: made for the host */
} reasons[] = {
    { MZ_HOST_FAILED_OUTLIER, "outlier_detection", NULL },
    { MZ_HOST_FAILED_ACTIVE_HC, "active_health_check", NULL },
    { MZ_HOST_EXCLUDED_IMMEDIATE_HC, "active_health_check",
      "excluded: it said x-envoy-immediate-health-check-fail, until a check passes" },
    { MZ_HOST_DEGRADED_ACTIVE_HC, "active_health_check",
      "degraded: its last check's answer had x-envoy-degraded" },
    { MZ_HOST_FAILED_EDS, "endpoint_status", "the endpoint's health_status is UNHEALTHY" },
    { MZ_HOST_DRAINING_EDS, "endpoint_status", "the endpoint's health_status is DRAINING" },
    { MZ_HOST_DEGRADED_EDS, "endpoint_status", "the endpoint's health_status is DEGRADED" },
    { MZ_HOST_PENDING_REMOVAL, "removal",
      "no longer in its cluster's endpoints, stays until an active check fails" },
};

unsigned health_reasons(const struct mz_host *h, struct health_reason out[HEALTH_REASONS])
{
    uint32_t flags = load32(&h->health_flags);
    uint64_t now = mz_clock->mono_us();
    unsigned n = 0;
    for (size_t i = 0; i < MZ_COUNT(reasons) && n < HEALTH_REASONS; i++) {
        if (!(flags & reasons[i].flag) || (!reasons[i].text && !h->health))
            continue;
        struct health_reason *r = &out[n++];
        r->kind = reasons[i].kind;
        if (reasons[i].text)
            (void)snprintf(r->text, sizeof(r->text), "%s", reasons[i].text);
        else if (reasons[i].flag == MZ_HOST_FAILED_OUTLIER)
            ejected_text(h, now, r->text, sizeof(r->text));
        else
            checked_text(h, now, r->text, sizeof(r->text));
    }
    return n;
}

/* Bounded: requests may fail in thousands while a cluster with as many hosts is down. */
#define HOSTS_TOLD   3
#define HOSTS_LOOKED 64

struct mz_str mz_wcluster_why_none(struct mz_wcluster *w, const char *why, struct mz_arena *a)
{
    const struct host_sets *s = w->lb.sets;
    struct mz_str all = mz_arena_printf(a, "%s", why ? why : "");
    struct health_reason r[HEALTH_REASONS];
    unsigned told = 0;
    for (uint32_t i = 0; i < s->n_hosts && i < HOSTS_LOOKED && told < HOSTS_TOLD; i++) {
        const struct mz_host *h = s->hosts[i];
        if (health_reasons(h, r))
            all = mz_arena_printf(a, MZ_STR_FMT "%s%.*s %s", MZ_STR_ARG(all), told++ ? "; " : ": ",
                                  h->addr_text_n, h->addr_text, r[0].text);
    }
    return told == HOSTS_TOLD && s->n_hosts > told
               ? mz_arena_printf(a, MZ_STR_FMT "; and others of %u", MZ_STR_ARG(all), s->n_hosts)
               : all;
}
