/*
 * Active checks: when a host is asked, and what its answers make of it (U6). Rules, order and counters are Envoy 1.40's.
 */
#include "upstream/health/check.h"
#include "runtime/runtime.h"
#include "upstream/stats.h"

static uint32_t flags_of(const struct mz_host *h)
{
    return __atomic_load_n(&h->health_flags, __ATOMIC_RELAXED);
}

static void flags_set(struct mz_host *h, uint32_t set)
{
    __atomic_fetch_or(&h->health_flags, set, __ATOMIC_RELAXED);
}

static void flags_clear(struct mz_host *h, uint32_t clear)
{
    __atomic_fetch_and(&h->health_flags, ~clear, __ATOMIC_RELAXED);
}

static void count_healthy(struct checker *k, int n)
{
    k->healthy += (uint32_t)n;
    mz_gauge_set(k->scope, MZ_HCS_HEALTHY, k->healthy);
}

static void count_degraded(struct checker *k, int n)
{
    k->degraded += (uint32_t)n;
    mz_gauge_set(k->scope, MZ_HCS_DEGRADED, k->degraded);
}

/* ---- when the next check is due ---- */
static uint64_t jittered(const struct checker *k, uint64_t ms, uint64_t jitter_ms)
{
    struct mz_rand *r = mz_loop_rand(k->main);
    const struct mz_runtime *rt = mz_runtime_here();
    uint64_t part = k->cfg.jitter_percent * ms / 100;
    ms += part ? mz_rand_below(r, part) : 0;
    ms += jitter_ms ? mz_rand_below(r, jitter_ms) : 0;
    uint64_t least = mz_runtime_u64(rt, MZ_STR("health_check.min_interval"), 0);
    uint64_t most = mz_runtime_u64(rt, MZ_STR("health_check.max_interval"), UINT64_MAX);
    ms = ms < most ? ms : most;
    ms = ms > least ? ms : least;
    return ms ? ms : 1;
}

/* A cluster that nobody uses is checked more rarely. */
static uint64_t next_ms(const struct checker *k, bool passed, enum check_change change)
{
    const struct check_config *c = &k->cfg;
    uint64_t ms;
    if (!mz_scope_value(k->cluster->scope, MZ_CS_CX_TOTAL))
        ms = passed && change != CHANGE_PENDING ? c->no_traffic_healthy_ms : c->no_traffic_ms;
    else if (passed)
        ms = change == CHANGE_PENDING ? c->healthy_edge_ms : c->interval_ms;
    else
        ms = change == CHANGE_PENDING ? c->unhealthy_edge_ms : c->unhealthy_ms;
    return jittered(k, ms, c->interval_jitter_ms);
}

/* ---- what came of a check ---- */
static void note_why(struct check_session *s, enum check_result result, uint32_t value,
                     bool changed)
{
    struct check_why *w = &s->host->health->checked;
    __atomic_store_n(&w->result, result, __ATOMIC_RELAXED);
    __atomic_store_n(&w->value, value, __ATOMIC_RELAXED);
    __atomic_store_n(&w->bad, s->bad, __ATOMIC_RELAXED);
    __atomic_store_n(&w->good, s->good, __ATOMIC_RELAXED);
    __atomic_store_n(&w->bad_limit, s->checker->cfg.unhealthy_threshold, __ATOMIC_RELAXED);
    __atomic_store_n(&w->good_limit, s->checker->cfg.healthy_threshold, __ATOMIC_RELAXED);
    if (changed)
        __atomic_store_n(&w->since_us, mz_loop_now_us(s->checker->main), __ATOMIC_RELAXED);
}

static void first_ended(struct check_session *s)
{
    struct checker *k = s->checker;
    if (!s->first)
        return;
    s->first = false;
    if (--k->n_first == 0 && !k->stopped)
        k->first_done(k->cluster);
}

/* The host's sets follow, unless the cluster still waits for first checks: then they do when that ends. */
static void publish(struct check_session *s, enum check_change change)
{
    struct checker *k = s->checker;
    if (change == CHANGE_DONE && !cluster_warming(k->cluster))
        cluster_refresh_health(k->cluster);
    if (change == CHANGE_DONE && flags_of(s->host) & MZ_HOST_FAILED_ACTIVE_HC)
        cluster_host_failed(k->cluster, s->host);
}

static enum check_change clear_pending(struct mz_host *h, enum check_change change)
{
    if (!(flags_of(h) & MZ_HOST_PENDING_ACTIVE_HC))
        return change;
    flags_clear(h, MZ_HOST_PENDING_ACTIVE_HC);
    return CHANGE_DONE;
}

static enum check_change passed_while_failed(struct check_session *s)
{
    struct mz_host *h = s->host;
    s->good++;
    if (!s->first && s->good != s->checker->cfg.healthy_threshold)
        return CHANGE_PENDING;
    flags_clear(h, MZ_HOST_ACTIVE_HC_TIMEOUT | MZ_HOST_EXCLUDED_IMMEDIATE_HC |
                       MZ_HOST_FAILED_ACTIVE_HC);
    __atomic_store_n(&h->healthy_since_us, mz_loop_now_us(s->checker->main),
                     __ATOMIC_RELAXED); /* its slow start begins */
    count_healthy(s->checker, 1);
    event_check(s, EVENT_ADD, NULL);
    return CHANGE_DONE;
}

static bool follow_degraded(struct check_session *s, bool degraded)
{
    if (degraded == ((flags_of(s->host) & MZ_HOST_DEGRADED_ACTIVE_HC) != 0))
        return false;
    if (degraded)
        flags_set(s->host, MZ_HOST_DEGRADED_ACTIVE_HC);
    else
        flags_clear(s->host, MZ_HOST_DEGRADED_ACTIVE_HC);
    count_degraded(s->checker, degraded ? 1 : -1);
    event_check(s, degraded ? EVENT_DEGRADED : EVENT_NO_LONGER_DEGRADED, NULL);
    return true;
}

void check_passed(struct check_session *s, bool degraded)
{
    struct checker *k = s->checker;
    enum check_change change = CHANGE_NONE;
    mz_timer_stop(&s->timeout);
    s->bad = 0;
    if (flags_of(s->host) & MZ_HOST_FAILED_ACTIVE_HC)
        change = passed_while_failed(s);
    if (change != CHANGE_DONE && k->cfg.log_success)
        event_check(s, EVENT_SUCCESS, NULL);
    change = clear_pending(s->host, change);
    if (follow_degraded(s, degraded) && change == CHANGE_NONE)
        change = CHANGE_DONE;
    mz_count(k->scope, MZ_HCS_SUCCESS, 1);
    note_why(s, CHECK_PASSED, 0, change == CHANGE_DONE);
    publish(s, change);
    outlier_check_passed(s->host);
    first_ended(s);
    mz_timer_start_ms(&s->interval, next_ms(k, true, change));
}

static bool is_network(enum check_failure f)
{
    return f == FAILURE_NETWORK || f == FAILURE_NETWORK_TIMEOUT;
}

static enum check_change set_unhealthy(struct check_session *s, const struct check_outcome *o)
{
    struct checker *k = s->checker;
    struct mz_host *h = s->host;
    enum check_change change = CHANGE_NONE;
    s->good = 0;
    s->bad++;
    if (!(flags_of(h) & MZ_HOST_FAILED_ACTIVE_HC)) {
        /* A host that says itself that it is not well is believed at once. */
        bool now = !is_network(o->type) && !o->retriable;
        change = now || s->bad == k->cfg.unhealthy_threshold ? CHANGE_DONE : CHANGE_PENDING;
        if (change == CHANGE_DONE) {
            flags_set(h, MZ_HOST_FAILED_ACTIVE_HC);
            count_healthy(k, -1);
            event_check(s, EVENT_EJECT, o);
        }
    }
    if (o->type == FAILURE_NETWORK_TIMEOUT && flags_of(h) & MZ_HOST_FAILED_ACTIVE_HC)
        flags_set(h, MZ_HOST_ACTIVE_HC_TIMEOUT);
    else
        flags_clear(h, MZ_HOST_ACTIVE_HC_TIMEOUT);
    bool changed = change == CHANGE_DONE;
    change = clear_pending(h, change);
    if (s->first || k->cfg.log_failures)
        event_check(s, EVENT_FAILURE, o);
    mz_count(k->scope, MZ_HCS_FAILURE, 1);
    if (is_network(o->type))
        mz_count(k->scope, MZ_HCS_NETWORK_FAILURE, 1);
    else if (o->type == FAILURE_PASSIVE)
        mz_count(k->scope, MZ_HCS_PASSIVE_FAILURE, 1);
    note_why(s, o->result, o->value, changed || s->first);
    publish(s, change);
    first_ended(s);
    return change;
}

void check_failed(struct check_session *s, const struct check_outcome *o)
{
    mz_timer_stop(&s->timeout);
    enum check_change change = set_unhealthy(s, o);
    mz_timer_start_ms(&s->interval, next_ms(s->checker, false, change));
}

/* ---- sessions ---- */
static void on_interval(struct mz_timer *t)
{
    struct check_session *s = MZ_CONTAINER(t, struct check_session, interval);
    mz_timer_start_ms(&s->timeout, s->checker->cfg.timeout_ms);
    mz_count(s->checker->scope, MZ_HCS_ATTEMPT, 1);
    s->checker->cfg.type->start(s);
}

static void on_timeout(struct mz_timer *t)
{
    struct check_session *s = MZ_CONTAINER(t, struct check_session, timeout);
    s->checker->cfg.type->drop(s);
    check_failed(
        s, &(struct check_outcome){ .type = FAILURE_NETWORK_TIMEOUT, .result = CHECK_TIMEOUT });
}

static void session_start(struct checker *k, struct mz_host *h)
{
    struct check_session *s = mz_new0(MZ_MEM_UPSTREAM, struct check_session);
    s->checker = k;
    s->host = mz_host_ref(h);
    s->first = s->kept = true;
    mz_timer_init(k->main, &s->interval, on_interval);
    mz_timer_init(k->main, &s->timeout, on_timeout);
    mz_list_add_tail(&k->sessions, &s->link);
    h->health->session = s;
    k->n_first++;
    if (!(flags_of(h) & MZ_HOST_FAILED_ACTIVE_HC))
        count_healthy(k, 1);
    if (flags_of(h) & MZ_HOST_DEGRADED_ACTIVE_HC)
        count_degraded(k, 1);
    uint64_t jitter = k->cfg.initial_jitter_ms;
    mz_timer_start_ms(&s->interval, jitter ? jittered(k, 0, jitter) : 0);
}

static void session_free(void *arg)
{
    struct check_session *s = arg;
    mz_host_unref(s->host);
    mz_free(MZ_MEM_UPSTREAM, s);
}

static void session_end(struct check_session *s)
{
    struct checker *k = s->checker;
    mz_timer_stop(&s->interval);
    mz_timer_stop(&s->timeout);
    k->cfg.type->drop(s);
    mz_list_del(&s->link);
    s->host->health->session = NULL;
    if (!(flags_of(s->host) & MZ_HOST_FAILED_ACTIVE_HC))
        count_healthy(k, -1);
    if (flags_of(s->host) & MZ_HOST_DEGRADED_ACTIVE_HC)
        count_degraded(k, -1);
    first_ended(s); /* who waits for the first check of a host that went waits no longer */
    mz_loop_free_later(k->main, s, session_free); /* it may have been found in its own callback */
}

static bool is_checked(const struct mz_host *h)
{
    return h->health && h->health->checker;
}

void checker_hosts_changed(struct checker *k)
{
    if (!k || k->stopped)
        return;
    struct host_sets *sets = cluster_sets(k->cluster);
    mz_list_foreach (it, &k->sessions)
        MZ_CONTAINER(it, struct check_session, link)->kept = false;
    for (uint32_t i = 0; i < sets->n_hosts; i++) {
        struct mz_host *h = sets->hosts[i];
        if (is_checked(h) && h->health->session)
            h->health->session->kept = true;
        else if (is_checked(h))
            session_start(k, h);
    }
    mz_list_foreach (it, &k->sessions)
        if (!MZ_CONTAINER(it, struct check_session, link)->kept)
            session_end(MZ_CONTAINER(it, struct check_session, link));
    host_sets_unref(sets);
}

bool checker_waiting(const struct checker *k)
{
    return k && k->n_first > 0;
}

/* ---- an answer to a request said that its host is unwell ---- */
struct told {
    struct checker *checker;
    struct mz_host *host;
};

static void told_run(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct told *t = arg;
    struct check_session *s = t->host->health->session;
    if (!t->checker->stopped && s)
        (void)set_unhealthy(
            s, &(struct check_outcome){ .type = FAILURE_PASSIVE, .result = CHECK_TOLD });
    mz_host_unref(t->host);
    checker_unref(t->checker);
    mz_free(MZ_MEM_UPSTREAM, t);
}

void mz_host_says_unhealthy(struct mz_host *h)
{
    if (!is_checked(h))
        return;
    uint32_t before =
        __atomic_fetch_or(&h->health_flags, MZ_HOST_EXCLUDED_IMMEDIATE_HC, __ATOMIC_RELAXED);
    if (before & MZ_HOST_EXCLUDED_IMMEDIATE_HC && before & MZ_HOST_FAILED_ACTIVE_HC)
        return; /* known; answers that were under way all say so */
    struct told *t = mz_new0(MZ_MEM_UPSTREAM, struct told);
    t->checker = checker_ref(h->health->checker);
    t->host = mz_host_ref(h);
    mz_loop_post(t->checker->main, told_run, t);
}

/* ---- begin and end ---- */
struct checker *checker_create(struct mz_cluster *c)
{
    struct checker *k = mz_new0(MZ_MEM_UPSTREAM, struct checker);
    k->refs = 1;
    k->cluster = c;
    k->main = cluster_loop(c);
    k->first_done = cluster_checks_done;
    mz_list_init(&k->sessions);
    return k;
}

void checker_scope(struct checker *k, struct mz_stats *st, struct mz_str prefix)
{
    char text[1100];
    int n = snprintf(text, sizeof(text), MZ_STR_FMT "health_check.", MZ_STR_ARG(prefix));
    k->scope = mz_scope_create(
        st, &mz_health_check_stats,
        (struct mz_str){ text, (size_t)n < sizeof(text) ? (size_t)n : sizeof(text) - 1 });
}

struct checker *checker_ref(struct checker *k)
{
    __atomic_fetch_add(&k->refs, 1, __ATOMIC_RELAXED);
    return k;
}

void checker_unref(struct checker *k)
{
    if (!k || __atomic_fetch_sub(&k->refs, 1, __ATOMIC_ACQ_REL) != 1)
        return;
    mz_scope_unref(k->scope);
    mz_scope_unref(k->codec_scope);
    mz_free(MZ_MEM_UPSTREAM, k);
}

void checker_stop(struct checker *k)
{
    if (!k || k->stopped)
        return;
    k->stopped = true;
    mz_list_foreach (it, &k->sessions)
        session_end(MZ_CONTAINER(it, struct check_session, link));
    check_config_fini(&k->cfg);
}

/* ---- hosts ---- */
static bool own_address(const pb_Endpoint_HealthCheckConfig *m, const struct mz_host *h,
                        struct mz_addr *out, struct mz_err *err)
{
    if (m->address)
        return endpoint_address(m->address, out, err) || mz_err_at(err, "address");
    if (!m->port_value)
        return true;
    if (!mz_addr_is_ip(&h->addr))
        return mz_err_set(err, "Invalid host configuration: non-zero port for non-IP address") ||
               mz_err_at(err, "port_value");
    mz_addr_set_port(out, (uint16_t)m->port_value);
    return true;
}

void checker_host(struct checker *k, struct mz_host *h, const pb_Endpoint *e)
{
    const pb_Endpoint_HealthCheckConfig *m = e->health_check_config;
    struct mz_err err; /* what can be wrong here was refused with the cluster */
    if (!k || (m && m->disable_active_health_check))
        return;
    if (k->cfg.alt_port && mz_addr_is_ip(&h->addr))
        mz_addr_set_port(&h->health_check_addr, k->cfg.alt_port);
    if (m)
        (void)own_address(m, h, &h->health_check_addr, &err);
    if (m && m->hostname && m->hostname[0])
        h->health->check_name = mz_strndup(MZ_MEM_UPSTREAM, m->hostname, strlen(m->hostname));
    h->health->checker = checker_ref(k);
    flags_set(h, MZ_HOST_FAILED_ACTIVE_HC | (k->cfg.exclude_new ? MZ_HOST_PENDING_ACTIVE_HC : 0));
}

bool checker_host_check(const pb_Endpoint *e, struct mz_err *err)
{
    struct mz_addr to;
    const pb_Endpoint_HealthCheckConfig *m = e->health_check_config;
    if (!m)
        return true;
    if (m->address)
        return endpoint_address(m->address, &to, err) ||
               mz_err_at(err, "health_check_config.address");
    return !m->port_value || !e->address || e->address->address_case != pb_Address_ADDRESS_PIPE ||
           mz_err_set(err, "Invalid host configuration: non-zero port for non-IP address") ||
           mz_err_at(err, "health_check_config.port_value");
}

bool checker_keeps(const struct checker *k, const struct mz_host *h)
{
    return !k->cfg.forget_removed && is_checked(h) &&
           !(flags_of(h) & (MZ_HOST_FAILED_ACTIVE_HC | MZ_HOST_FAILED_EDS));
}

void checker_inherit(struct mz_host *h, const struct mz_host *from)
{
    if (!is_checked(h) || !is_checked(from))
        return;
    uint32_t checked = MZ_HOST_FAILED_ACTIVE_HC | MZ_HOST_DEGRADED_ACTIVE_HC |
                       MZ_HOST_PENDING_ACTIVE_HC | MZ_HOST_ACTIVE_HC_TIMEOUT;
    flags_clear(h, checked);
    flags_set(h, flags_of(from) & checked);
}
