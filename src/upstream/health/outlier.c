/*
 * Outlier detection on the main thread (U5): hosts that fail in a row, or more than their peers, are out for a while, longer
 * each time. Rules, order and counters are Envoy 1.40's.
 */
#include "runtime/runtime.h"
#include "upstream/health/events.h"
#include "upstream/health/health.h"
#include "upstream/stats.h"
#include <math.h>

static const struct {
    const char *text;
    struct mz_str key; /* of enforcing_... */
    uint16_t detected, enforced;
} rules[RULE__COUNT] = {
#define RULE(id, text, key)                                                                        \
    [RULE_##id] = { text, MZ_STR_INIT("outlier_detection.enforcing_" key), MZ_OD_DETECTED_##id,    \
                    MZ_OD_ENFORCED_##id },
    RULE(5XX, "consecutive_5xx", "consecutive_5xx") RULE(GATEWAY, "consecutive_gateway_failure",
                                                         "consecutive_gateway_failure")
        RULE(SUCCESS_RATE, "success_rate", "success_rate")
            RULE(LOCAL, "consecutive_local_origin_failure", "consecutive_local_origin_failure")
                RULE(LOCAL_SUCCESS_RATE, "local_origin_success_rate", "local_origin_success_rate")
                    RULE(FAILURE_PERCENTAGE, "failure_percentage", "failure_percentage")
                        RULE(LOCAL_FAILURE_PERCENTAGE, "failure_percentage_local_origin",
                             "failure_percentage_local_origin")
#undef RULE
};

const char *outlier_rule_text(enum outlier_rule r)
{
    return rules[r].text;
}

uint64_t outlier_number(struct mz_str key, uint64_t configured)
{
    const struct mz_runtime *r = mz_runtime_here();
    return MZ_LIKELY(mz_runtime_empty(r)) ? configured : mz_runtime_u64(r, key, configured);
}

static uint64_t now_of(const struct outlier *o)
{
    return mz_loop_now_us(o->main);
}

static bool is_out(const struct mz_host *h)
{
    return __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED) & MZ_HOST_FAILED_OUTLIER;
}

static void set_active(struct outlier *o, uint32_t n)
{
    o->active = n;
    mz_gauge_set(o->scope, MZ_OD_ACTIVE, n);
}

/* ---- out and in ---- */
static uint64_t out_for_ms(const struct outlier *o, const struct host_outlier *s)
{
    uint64_t base = outlier_number(OUTLIER_KEY("base_ejection_time_ms"), o->cfg.base_ms);
    uint64_t most = outlier_number(OUTLIER_KEY("max_ejection_time_ms"), o->cfg.max_ms);
    uint64_t want = s->backoff && base > UINT64_MAX / s->backoff ? UINT64_MAX : base * s->backoff;
    want = want < most ? want : most;
    return want > UINT64_MAX - s->jitter_ms ? UINT64_MAX : want + s->jitter_ms;
}

static void note_why(struct outlier *o, struct mz_host *h, const struct outlier_finding *f)
{
    const struct host_outlier *s = &h->health->outlier;
    struct ejected_why *w = &h->health->ejected;
    uint64_t ms = out_for_ms(o, s);
    uint64_t until =
        ms > (UINT64_MAX - s->ejected_us) / 1000 ? UINT64_MAX : s->ejected_us + ms * 1000;
    __atomic_store_n(&w->rule, f->rule, __ATOMIC_RELAXED);
    __atomic_store_n(&w->times, s->ejections, __ATOMIC_RELAXED);
    __atomic_store_n(&w->measured, (uint64_t)(f->measured * 1000), __ATOMIC_RELAXED);
    __atomic_store_n(&w->limit, (uint64_t)(f->limit > 0 ? f->limit * 1000 : 0), __ATOMIC_RELAXED);
    __atomic_store_n(&w->since_us, s->ejected_us, __ATOMIC_RELAXED);
    __atomic_store_n(&w->until_us, until, __ATOMIC_RELAXED);
}

static void eject(struct outlier *o, struct mz_host *h, const struct outlier_finding *f)
{
    struct host_outlier *s = &h->health->outlier;
    uint64_t base = outlier_number(OUTLIER_KEY("base_ejection_time_ms"), o->cfg.base_ms);
    uint64_t most = outlier_number(OUTLIER_KEY("max_ejection_time_ms"), o->cfg.max_ms);
    uint64_t jitter = outlier_number(OUTLIER_KEY("max_ejection_time_jitter_ms"), o->cfg.jitter_ms);
    set_active(o, o->active + 1);
    mz_count(o->scope, MZ_OD_ENFORCED_TOTAL, 1);
    mz_count(o->scope, rules[f->rule].enforced, 1);
    __atomic_fetch_or(&h->health_flags, MZ_HOST_FAILED_OUTLIER, __ATOMIC_RELAXED);
    s->ejections++;
    s->ejected_us = now_of(o);
    s->jitter_ms = jitter == UINT64_MAX ? 0 : mz_rand_below(mz_loop_rand(o->main), jitter + 1);
    if (s->backoff < UINT32_MAX && (double)s->backoff * (double)base < (double)most + (double)base)
        s->backoff++;
    note_why(o, h, f);
    cluster_refresh_health(o->cluster);
    cluster_host_failed(o->cluster, h);
    event_ejected(o, h, f, true);
}

static void uneject(struct outlier *o, struct mz_host *h)
{
    struct host_outlier *s = &h->health->outlier;
    set_active(o, o->active - 1);
    __atomic_fetch_and(&h->health_flags, ~(uint32_t)MZ_HOST_FAILED_OUTLIER, __ATOMIC_RELAXED);
    for (unsigned i = 0; i < RULE__COUNT; i++)
        __atomic_store_n(&s->row[i], 0, __ATOMIC_RELAXED);
    s->unejected_us = now_of(o);
    cluster_refresh_health(o->cluster);
    event_unejected(o, h);
}

/* What was found becomes an ejection unless too many are out already, or by the odds of enforcing_... */
static void found(struct outlier *o, struct mz_host *h, uint32_t n_hosts,
                  const struct outlier_finding *f)
{
    mz_count(o->scope, rules[f->rule].detected, 1);
    uint64_t most = outlier_number(OUTLIER_KEY("max_ejection_percent"), o->cfg.max_percent);
    double share = 100.0 * (o->active + 1) / n_hosts;
    bool room = share <= (double)(most < 100 ? most : 100);
    if (!room && !(o->cfg.always_one && o->active == 0)) {
        mz_count(o->scope, MZ_OD_OVERFLOW, 1);
        return;
    }
    if (f->rule == RULE_5XX || f->rule == RULE_SUCCESS_RATE)
        mz_count(o->scope, MZ_OD_TOTAL, 1); /* Envoy's older counter */
    uint64_t odds = outlier_number(rules[f->rule].key, o->cfg.enforcing[f->rule]);
    if (mz_rand_below(mz_loop_rand(o->main), 100) < odds)
        eject(o, h, f);
    else
        event_ejected(o, h, f, false);
}

static uint32_t hosts_of(const struct outlier *o)
{
    struct host_sets *s = cluster_sets(o->cluster);
    uint32_t n = s->n_hosts;
    host_sets_unref(s);
    return n;
}

void outlier_in_a_row(struct mz_host *h, enum outlier_rule r)
{
    struct outlier *o = h->health->outlier.outlier;
    if (o->stopped || is_out(h) ||
        __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED) & MZ_HOST_GONE)
        return;
    static const struct mz_str keys[RULE__COUNT] = {
        [RULE_5XX] = MZ_STR_INIT("outlier_detection.consecutive_5xx"),
        [RULE_GATEWAY] = MZ_STR_INIT("outlier_detection.consecutive_gateway_failure"),
        [RULE_LOCAL] = MZ_STR_INIT("outlier_detection.consecutive_local_origin_failure")
    };
    uint64_t limit = outlier_number(keys[r], o->cfg.consecutive[r]);
    uint32_t row = __atomic_load_n(&h->health->outlier.row[r], __ATOMIC_RELAXED);
    found(o, h, hosts_of(o),
          &(struct outlier_finding){
              .rule = r, .measured = (double)(row > limit ? row : limit), .limit = (double)limit });
    if (r == RULE_5XX)
        mz_count(o->scope, MZ_OD_EJECTIONS_5XX, 1); /* Envoy's older counter */
    __atomic_store_n(&h->health->outlier.row[r], 0, __ATOMIC_RELAXED);
}

void outlier_check_passed(struct mz_host *h)
{
    struct outlier *o = h->health->outlier.outlier;
    uint32_t f = __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED);
    if (o && !o->stopped && o->cfg.uneject_by_check && !(f & MZ_HOST_FAILED_ACTIVE_HC) && is_out(h))
        uneject(o, h);
}

/* ---- each interval: success rates ---- */
struct sample {
    struct mz_host *host;
    double rate;
};

static void rate_rule(struct outlier *o, enum outlier_origin from, const struct sample *v,
                      uint32_t n, uint32_t n_hosts)
{
    double sum = 0, variance = 0;
    for (uint32_t i = 0; i < n; i++)
        sum += v[i].rate;
    double mean = sum / n;
    for (uint32_t i = 0; i < n; i++)
        variance += (v[i].rate - mean) * (v[i].rate - mean);
    double factor =
        (double)outlier_number(OUTLIER_KEY("success_rate_stdev_factor"), o->cfg.rate_stdev) / 1000;
    o->average[from] = mean;
    o->threshold[from] = mean - factor * sqrt(variance / n);
    for (uint32_t i = 0; i < n; i++) {
        if (v[i].rate >= o->threshold[from])
            continue;
        mz_count(o->scope, MZ_OD_EJECTIONS_SUCCESS_RATE, 1);
        if (!is_out(v[i].host))
            found(o, v[i].host, n_hosts,
                  &(struct outlier_finding){ .rule = from == ORIGIN_LOCAL ? RULE_LOCAL_SUCCESS_RATE
                                                                          : RULE_SUCCESS_RATE,
                                             .measured = v[i].rate,
                                             .limit = o->threshold[from],
                                             .average = mean });
    }
}

static void failure_rule(struct outlier *o, enum outlier_origin from, const struct sample *v,
                         uint32_t n, uint32_t n_hosts)
{
    double limit = (double)outlier_number(OUTLIER_KEY("failure_percentage_threshold"),
                                          o->cfg.failure_threshold);
    for (uint32_t i = 0; i < n; i++)
        if (100.0 - v[i].rate >= limit && !is_out(v[i].host))
            found(o, v[i].host, n_hosts,
                  &(struct outlier_finding){ .rule = from == ORIGIN_LOCAL
                                                         ? RULE_LOCAL_FAILURE_PERCENTAGE
                                                         : RULE_FAILURE_PERCENTAGE,
                                             .measured = 100.0 - v[i].rate,
                                             .limit = limit });
}

struct volumes {
    uint64_t rate_hosts, rate, failure_hosts, failure;
};

/* Samples of hosts with enough requests: for the success rate from the front of @v, for failures from its middle. */
static void collect(struct host_sets *s, enum outlier_origin from, const struct volumes *min,
                    struct sample *v, uint32_t *out_rates, uint32_t *out_failures)
{
    *out_rates = *out_failures = 0;
    for (uint32_t i = 0; i < s->n_hosts; i++) {
        struct mz_host *h = s->hosts[i];
        struct host_outlier *ho = &h->health->outlier;
        const struct outlier_rate *r = &ho->rates[from][!ho->writing];
        uint64_t total = __atomic_load_n(&r->total, __ATOMIC_RELAXED);
        uint64_t good = __atomic_load_n(&r->good, __ATOMIC_RELAXED);
        if (!total || is_out(h))
            continue;
        const struct sample one = { h, 100.0 * (double)good / (double)total };
        if (total >= min->rate || total >= min->failure)
            ho->rate[from] = one.rate;
        if (total >= min->rate)
            v[(*out_rates)++] = one;
        if (total >= min->failure)
            v[s->n_hosts + (*out_failures)++] = one;
    }
}

static void rates(struct outlier *o, struct host_sets *s, enum outlier_origin from)
{
    const struct volumes min = {
        outlier_number(OUTLIER_KEY("success_rate_minimum_hosts"), o->cfg.rate_hosts),
        outlier_number(OUTLIER_KEY("success_rate_request_volume"), o->cfg.rate_volume),
        outlier_number(OUTLIER_KEY("failure_percentage_minimum_hosts"), o->cfg.failure_hosts),
        outlier_number(OUTLIER_KEY("failure_percentage_request_volume"), o->cfg.failure_volume)
    };
    o->average[from] = o->threshold[from] = -1;
    if (!s->n_hosts || (s->n_hosts < min.rate_hosts && s->n_hosts < min.failure_hosts))
        return;
    struct sample *v = mz_newn0(MZ_MEM_UPSTREAM, struct sample, 2 * (size_t)s->n_hosts);
    uint32_t n_rates, n_failures;
    collect(s, from, &min, v, &n_rates, &n_failures);
    if (n_rates && n_rates >= min.rate_hosts)
        rate_rule(o, from, v, n_rates, s->n_hosts);
    if (n_failures && n_failures >= min.failure_hosts)
        failure_rule(o, from, v + s->n_hosts, n_failures, s->n_hosts);
    mz_free(MZ_MEM_UPSTREAM, v);
}

/* The bucket that was read is emptied and written from now on. */
static void turn_page(struct host_outlier *s)
{
    uint32_t next = !s->writing;
    for (unsigned i = 0; i < ORIGIN__COUNT; i++) {
        __atomic_store_n(&s->rates[i][next].total, 0, __ATOMIC_RELAXED);
        __atomic_store_n(&s->rates[i][next].good, 0, __ATOMIC_RELAXED);
        s->rate[i] = -1;
    }
    __atomic_store_n(&s->writing, next, __ATOMIC_RELAXED);
}

static void arm_timer(struct outlier *o)
{
    mz_timer_start_ms(&o->timer, outlier_number(OUTLIER_KEY("interval_ms"), o->cfg.interval_ms));
}

static void tick(struct mz_timer *t)
{
    struct outlier *o = MZ_CONTAINER(t, struct outlier, timer);
    struct host_sets *s = cluster_sets(o->cluster);
    uint64_t now = now_of(o);
    for (uint32_t i = 0; i < s->n_hosts; i++) {
        struct host_outlier *ho = &s->hosts[i]->health->outlier;
        if (is_out(s->hosts[i]) && (now - ho->ejected_us) / 1000 >= out_for_ms(o, ho))
            uneject(o, s->hosts[i]);
        turn_page(ho);
    }
    rates(o, s, ORIGIN_EXTERNAL);
    rates(o, s, ORIGIN_LOCAL);
    uint64_t interval = outlier_number(OUTLIER_KEY("interval_ms"), o->cfg.interval_ms);
    for (uint32_t i = 0; i < s->n_hosts; i++) { /* well for an interval: out for less time next */
        struct host_outlier *ho = &s->hosts[i]->health->outlier;
        if (!is_out(s->hosts[i]) && ho->backoff && ho->unejected_us &&
            (now - ho->unejected_us) / 1000 >= interval)
            ho->backoff--;
    }
    host_sets_unref(s);
    arm_timer(o);
}

/* ---- begin and end ---- */
struct outlier *outlier_create(struct mz_cluster *c, const struct outlier_config *cfg)
{
    struct outlier *o = mz_new0(MZ_MEM_UPSTREAM, struct outlier);
    o->refs = 1;
    o->cluster = c;
    o->main = cluster_loop(c);
    o->cfg = *cfg;
    for (unsigned i = 0; i < ORIGIN__COUNT; i++)
        o->average[i] = o->threshold[i] = -1;
    mz_timer_init(cluster_loop(c), &o->timer, tick);
    return o;
}

void outlier_scope(struct outlier *o, struct mz_stats *st, struct mz_str prefix)
{
    char text[1100];
    int n = snprintf(text, sizeof(text), MZ_STR_FMT "outlier_detection.", MZ_STR_ARG(prefix));
    o->scope = mz_scope_create(
        st, &mz_outlier_stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
}

void outlier_arm(struct outlier *o)
{
    if (!o->stopped && !mz_timer_armed(&o->timer))
        arm_timer(o);
}

void outlier_stop(struct outlier *o)
{
    if (!o)
        return;
    o->stopped = true;
    mz_timer_stop(&o->timer);
    set_active(o, 0);
}

struct outlier *outlier_ref(struct outlier *o)
{
    __atomic_fetch_add(&o->refs, 1, __ATOMIC_RELAXED);
    return o;
}

void outlier_unref(struct outlier *o)
{
    if (!o || __atomic_fetch_sub(&o->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_scope_unref(o->scope);
    mz_free(MZ_MEM_UPSTREAM, o);
}

void outlier_hosts_changed(struct outlier *o)
{
    if (!o || o->stopped)
        return;
    struct host_sets *s = cluster_sets(o->cluster);
    uint32_t n = 0;
    for (uint32_t i = 0; i < s->n_hosts; i++)
        n += is_out(s->hosts[i]);
    host_sets_unref(s);
    set_active(o, n);
}

double outlier_average(const struct outlier *o, enum outlier_origin from)
{
    return o ? o->average[from] : -1;
}

double outlier_threshold(const struct outlier *o, enum outlier_origin from)
{
    return o ? o->threshold[from] : -1;
}
