#include "base/test.h"

#include "route/route_test.h"
#include "router/retry.h"
#include <stdio.h>

/* ---- doubles of the upstream folder ---- */

static int breaker_left, breaker_taken;
uint32_t mz_wcluster_priority_of(struct mz_wcluster *w, const struct mz_host *h)
{
    (void)w;
    return h->priority;
}

bool mz_circuit_take(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    (void)c, (void)p;
    assert_int_equal(k, MZ_CIRCUIT_RETRY);
    if (breaker_left == 0)
        return false;
    breaker_left--;
    breaker_taken++;
    return true;
}
void mz_circuit_give(struct mz_cluster *c, enum mz_priority p, enum mz_circuit_kind k)
{
    (void)c, (void)p, (void)k;
    breaker_left++;
    breaker_taken--;
}
struct mz_host *mz_host_ref(struct mz_host *h)
{
    h->refs++;
    return h;
}
void mz_host_unref(struct mz_host *h)
{
    h->refs--;
}
#define X(id, name, type, unit, flags) { name, MZ_##type, MZ_UNIT_##unit, flags },
static const struct mz_stat_def cluster_defs[] = { MZ_CLUSTER_STATS(X) };
#undef X
static const struct mz_stat_kind cluster_stats = { "cluster", cluster_defs, MZ_CS__COUNT };

/* ---- a retry to try ---- */

struct world {
    struct fixture f;
    struct mz_cluster cluster;
    struct mz_rand rand;
    struct mz_retry r;
};

/* @policy: the fields of retry_policy, "" for none; @request: header lines. */
static void begin(struct world *w, const char *policy, const char *request)
{
    fixture_init(&w->f);
    struct mz_str yaml =
        mz_arena_printf(w->f.a, "  - {match: {prefix: /}, route: {cluster: one%s%s%s}}\n",
                        policy[0] ? ", retry_policy: {" : "", policy, policy[0] ? "}" : "");
    if (!fixture_routes(&w->f, yaml.p))
        fail_msg("%s: %s", w->f.err.path, w->f.err.msg);
    const struct mz_route *route = fixture_get(&w->f, "h", "/", request);
    w->cluster = (struct mz_cluster){ .scope = mz_scope_create(w->f.stats, &cluster_stats,
                                                               MZ_STR("cluster.one.")) };
    mz_rand_init(&w->rand, 1);
    breaker_left = 3;
    breaker_taken = 0;
    mz_retry_init(&w->r, route, w->f.h, &w->cluster, MZ_PRIORITY_DEFAULT, NULL, NULL, &w->rand,
                  w->f.a);
}

static void end(struct world *w)
{
    mz_retry_fini(&w->r);
    assert_int_equal(breaker_taken, 0);
    mz_scope_unref(w->cluster.scope);
    fixture_fini(&w->f);
}

static uint64_t counted(const struct world *w, enum mz_cluster_stat i)
{
    return mz_scope_value(w->cluster.scope, i);
}

static struct mz_headers *answer(struct world *w, unsigned status, const char *name,
                                 const char *value)
{
    struct mz_headers *h = mz_headers_create(w->f.a);
    mz_headers_set_status(h, status);
    if (name)
        mz_headers_add(h, mz_str_c(name), mz_str_c(value));
    return h;
}

static void test_words(void **state)
{
    static const struct {
        const char *text;
        unsigned families;
        uint32_t bits;
        unsigned unknown;
    } cases[] = {
        { "", 3, 0, 0 },
        { "5xx", 3, MZ_RETRY_5XX, 0 },
        { " 5xx , reset", 3, MZ_RETRY_5XX | MZ_RETRY_RESET, 0 },
        { "cancelled", 3, MZ_RETRY_GRPC_CANCELLED, 0 },
        { "cancelled", MZ_RETRY_FAMILY_HTTP, 0, 1 },
        { "5xx", MZ_RETRY_FAMILY_GRPC, 0, 1 },
        { "5XX,nonsense,connect-failure", 3, MZ_RETRY_CONNECT_FAILURE, 2 },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        unsigned unknown = 99;
        assert_int_equal(mz_retry_on_parse(mz_str_c(cases[i].text), cases[i].families, &unknown),
                         cases[i].bits);
        assert_int_equal(unknown, cases[i].unknown);
    }
}

static void test_answers(
    void **state) /* retry-5xx, -retriable-4xx, -status-codes, -retriable-headers, -on-header */
{
    static const struct {
        const char *policy, *request;
        unsigned status;
        const char *name, *value;
        enum mz_retry_verdict verdict;
    } cases[] = {
        { "", NULL, 503, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: 5xx", NULL, 503, NULL, NULL, MZ_RETRY_YES },
        { "retry_on: 5xx", NULL, 499, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: 5xx", NULL, 200, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: 5xx, num_retries: 0", NULL, 503, NULL, NULL, MZ_RETRY_NO_LIMIT },
        { "retry_on: gateway-error", NULL, 500, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: gateway-error", NULL, 504, NULL, NULL, MZ_RETRY_YES },
        { "retry_on: retriable-4xx", NULL, 409, NULL, NULL, MZ_RETRY_YES },
        { "retry_on: retriable-4xx", NULL, 404, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: retriable-status-codes, retriable_status_codes: [418]", NULL, 418, NULL, NULL,
          MZ_RETRY_YES },
        { "retry_on: retriable-status-codes", "x-envoy-retriable-status-codes: 1, 417,x", 417, NULL,
          NULL, MZ_RETRY_YES },
        { "retry_on: 5xx, retriable_status_codes: [418]", NULL, 418, NULL, NULL, MZ_RETRY_NO },
        { "retry_on: retriable-headers, retriable_headers: [{name: x-again}]", NULL, 200, "x-again",
          "1", MZ_RETRY_YES },
        { "retry_on: retriable-headers", "x-envoy-retriable-header-names: X-Other", 200, "x-other",
          "1", MZ_RETRY_YES },
        { "retry_on: retriable-headers", NULL, 200, "x-other", "1", MZ_RETRY_NO },
        { "", "x-envoy-retry-on: 5xx", 500, NULL, NULL, MZ_RETRY_YES },
        { "", "x-envoy-retry-on: cancelled", 200, "grpc-status", "1", MZ_RETRY_NO },
        { "", "x-envoy-retry-grpc-on: cancelled", 200, "grpc-status", "1", MZ_RETRY_YES },
        { "", "x-envoy-retry-grpc-on: cancelled", 200, "grpc-status", "2", MZ_RETRY_NO },
        { "retry_on: 5xx", "x-envoy-max-retries: 0", 500, NULL, NULL, MZ_RETRY_NO_LIMIT },
        { "retry_on: 5xx, num_retries: 0", "x-envoy-max-retries: 2", 500, NULL, NULL,
          MZ_RETRY_YES },
        { "retry_on: 5xx", NULL, 503, "x-envoy-ratelimited", "true", MZ_RETRY_NO },
        { "retry_on: envoy-ratelimited", NULL, 429, "x-envoy-ratelimited", "true", MZ_RETRY_YES },
        { "retry_on: 5xx, retriable_request_headers: [{name: x-safe}]", NULL, 500, NULL, NULL,
          MZ_RETRY_NO },
        { "retry_on: 5xx, retriable_request_headers: [{name: x-safe}]", "x-safe: 1", 500, NULL,
          NULL, MZ_RETRY_YES },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct world w;
        begin(&w, cases[i].policy, cases[i].request);
        assert_null(
            mz_headers_get_id(w.f.h, MZ_H_X_ENVOY_RETRY_ON)); /* consumed whatever they say */
        assert_null(mz_headers_get_id(w.f.h, MZ_H_X_ENVOY_MAX_RETRIES));
        struct mz_headers *h = answer(&w, cases[i].status, cases[i].name, cases[i].value);
        enum mz_retry_verdict v = mz_retry_on_headers(&w.r, h, 0);
        if (v != cases[i].verdict)
            print_error("case %zu: %s\n", i, w.r.why);
        assert_int_equal(v, cases[i].verdict);
        assert_int_equal(counted(&w, MZ_CS_RQ_RETRY), 0); /* not before its back-off is over */
        mz_retry_begins(&w.r);
        assert_int_equal(counted(&w, MZ_CS_RQ_RETRY), 1);
        assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_LIMIT_EXCEEDED), v == MZ_RETRY_NO_LIMIT);
        end(&w);
    }
}

static void test_resets(void **state) /* retry-reset, retry-connect-failure */
{
    static const struct {
        const char *on;
        enum mz_reset_reason reason;
        bool sent;
        enum mz_retry_verdict verdict;
    } cases[] = {
        { "reset", MZ_RESET_REMOTE, true, MZ_RETRY_YES },
        { "reset", MZ_RESET_OVERFLOW, false, MZ_RETRY_NO },
        { "reset-before-request", MZ_RESET_CONN_TERMINATED, false, MZ_RETRY_YES },
        { "reset-before-request", MZ_RESET_CONN_TERMINATED, true, MZ_RETRY_NO },
        { "5xx", MZ_RESET_CONN_TERMINATED, true, MZ_RETRY_YES },
        { "gateway-error", MZ_RESET_CONNECT_TIMEOUT, false, MZ_RETRY_YES },
        { "refused-stream", MZ_RESET_REMOTE_REFUSED, true, MZ_RETRY_YES },
        { "refused-stream", MZ_RESET_REMOTE, true, MZ_RETRY_NO },
        { "connect-failure", MZ_RESET_REMOTE_CONNECT_FAIL, false, MZ_RETRY_YES },
        { "connect-failure", MZ_RESET_CONNECT_TIMEOUT, false, MZ_RETRY_YES },
        { "connect-failure", MZ_RESET_CONN_TERMINATED, true, MZ_RETRY_NO },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct world w;
        char policy[64];
        snprintf(policy, sizeof(policy), "retry_on: %s", cases[i].on);
        begin(&w, policy, NULL);
        assert_int_equal(mz_retry_on_reset(&w.r, cases[i].reason, cases[i].sent), cases[i].verdict);
        end(&w);
    }
}

static void test_limits(void **state) /* retry-exhausted, retry-overflow */
{
    (void)state;
    struct world w;
    begin(&w, "retry_on: 5xx, num_retries: 2", NULL);
    assert_true(mz_retry_active(&w.r));
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_YES);
    assert_int_equal(breaker_taken, 1);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_YES);
    assert_int_equal(breaker_taken, 1);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_NO_LIMIT);
    assert_int_equal(breaker_taken, 0);
    assert_false(mz_retry_active(&w.r));
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_SUCCESS), 0);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 200, NULL, NULL), 0), MZ_RETRY_NO);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_SUCCESS), 1); /* another try's, with hedging */
    end(&w);

    begin(&w, "retry_on: 5xx, num_retries: 2", NULL);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_YES);
    assert_true(mz_retry_would(&w.r, answer(&w, 503, NULL, NULL)));
    mz_retry_abandon(&w.r);
    assert_int_equal(breaker_taken, 0);
    assert_false(mz_retry_would(&w.r, answer(&w, 503, NULL, NULL)));
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_NO);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_LIMIT_EXCEEDED), 0);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_SUCCESS), 0);
    end(&w);

    begin(&w, "retry_on: 5xx", NULL);
    breaker_left = 0;
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0),
                     MZ_RETRY_NO_OVERFLOW);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_OVERFLOW), 1);
    end(&w);

    begin(&w, "retry_on: 5xx", NULL);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_YES);
    assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 200, NULL, NULL), 0), MZ_RETRY_NO);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_SUCCESS), 1);
    end(&w);
}

static void test_backoff(void **state)
{
    (void)state;
    static const uint64_t below[] = { 10, 20, 35, 35, 35 };
    struct world w;
    begin(&w,
          "retry_on: 5xx, num_retries: 5, retry_back_off: {base_interval: 0.01s, max_interval: "
          "0.035s}",
          NULL);
    uint64_t sum = 0;
    for (size_t i = 0; i < MZ_COUNT(below); i++) {
        assert_int_equal(mz_retry_on_headers(&w.r, answer(&w, 503, NULL, NULL), 0), MZ_RETRY_YES);
        assert_true(w.r.backoff_ms < below[i]);
        mz_retry_begins(&w.r);
        sum += w.r.backoff_ms;
    }
    assert_true(sum > 0);
    assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_BACKOFF_EXPONENTIAL), 5);
    end(&w);
}

static void test_ratelimited_backoff(void **state)
{
    static const struct {
        const char *value;
        uint64_t wall_s, from_ms, to_ms; /* to 0: exponential */
    } cases[] = {
        { "3", 0, 3000, 4500 },     { " 2 ", 0, 2000, 3000 }, { "0", 0, 0, 0 },
        { "11", 0, 0, 0 },          { "junk", 0, 0, 0 },      { "99999999999999999999", 0, 0, 0 },
        { "105", 100, 5000, 7500 }, { "105", 105, 0, 0 },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct world w;
        char policy[160];
        snprintf(policy, sizeof(policy),
                 "retry_on: 5xx, rate_limited_retry_back_off: {max_interval: 10s, reset_headers: "
                 "[{name: X-Reset, format: %s}]}",
                 cases[i].wall_s ? "UNIX_TIMESTAMP" : "SECONDS");
        begin(&w, policy, NULL);
        struct mz_headers *h = answer(&w, 503, "x-reset", cases[i].value);
        assert_int_equal(mz_retry_on_headers(&w.r, h, cases[i].wall_s * 1000000), MZ_RETRY_YES);
        mz_retry_begins(&w.r);
        assert_int_equal(counted(&w, MZ_CS_RQ_RETRY_BACKOFF_RATELIMITED), cases[i].to_ms != 0);
        assert_in_range(w.r.backoff_ms, cases[i].from_ms, cases[i].to_ms ? cases[i].to_ms : 24);
        end(&w);
    }
}

#define PREDICATE(type)                                                                            \
    "{name: p, typed_config: {'@type': type.googleapis.com/envoy.extensions.retry." type "}}"
static void test_hosts(void **state) /* retry-previous-hosts */
{
    (void)state;
    struct world w;
    struct mz_host a = { 0 }, b = { .canary = true }, c = { 0 };
    begin(&w,
          "retry_on: 5xx, host_selection_retry_max_attempts: 5, retry_host_predicate: [" PREDICATE(
              "host.previous_hosts.v3.PreviousHostsPredicate") ", " PREDICATE("host.omit_canary_"
                                                                              "hosts.v3."
                                                                              "OmitCanaryHostsPredi"
                                                                              "cate") "]",
          NULL);
    assert_int_equal(mz_retry_host_attempts(&w.r), 5);
    assert_false(mz_retry_avoid(&w.r, &a));
    assert_false(mz_retry_avoid(&w.r, &b)); /* canaries are for first tries */
    mz_retry_host_tried(&w.r, &a);
    assert_true(mz_retry_avoid(&w.r, &a));
    assert_true(mz_retry_avoid(&w.r, &b));
    assert_false(mz_retry_avoid(&w.r, &c));
    for (unsigned i = 0; i < 3 * MZ_RETRY_PREVIOUS;
         i++) /* the memory is bounded, references with it */
        mz_retry_host_tried(&w.r, &c);
    assert_int_equal(a.refs, 0);
    assert_int_equal(c.refs, MZ_RETRY_PREVIOUS);
    end(&w);
    assert_int_equal(c.refs, 0);
}

static void test_priorities(void **state)
{
    static const struct {
        uint32_t load[3];
        unsigned tried[4], n_tried;
        bool changed;
        uint32_t out[3];
    } cases[] = {
        { { 100, 0, 0 }, { 0 }, 0, false, { 0 } },
        { { 100, 0, 0 }, { 0 }, 1, false, { 0 } }, /* update_frequency 2: not yet */
        { { 100, 0, 0 }, { 0, 0 }, 2, true, { 0, 100, 0 } },
        { { 50, 30, 20 }, { 0, 0 }, 2, true, { 0, 60, 40 } },
        { { 40, 30, 30 }, { 0, 0, 1 }, 3, true, { 0, 50, 50 } },
        { { 34, 33, 33 }, { 2, 2, 2, 2 }, 4, true, { 51, 49, 0 } },
    };
    (void)state;
    for (size_t i = 0; i < MZ_COUNT(cases); i++) {
        struct world w;
        struct mz_host hosts[4] = { { 0 } };
        uint32_t out[3] = { 0 };
        begin(
            &w,
            "retry_on: 5xx, retry_priority: {name: p, typed_config: {'@type': type.googleapis.com/"
            "envoy.extensions.retry.priority.previous_priorities.v3.PreviousPrioritiesConfig, "
            "update_frequency: 2}}",
            NULL);
        for (unsigned k = 0; k < cases[i].n_tried; k++) {
            hosts[k].priority = cases[i].tried[k];
            mz_retry_host_tried(&w.r, &hosts[k]);
        }
        assert_int_equal(mz_retry_priority_load(&w.r, NULL, cases[i].load, out, 3),
                         cases[i].changed);
        if (cases[i].changed)
            assert_memory_equal(out, cases[i].out, sizeof(out));
        end(&w);
    }
}

static void test_hedge(void **state)
{
    (void)state;
    struct world w;
    begin(&w, "retry_on: connect-failure", NULL);
    assert_int_equal(mz_retry_on_try_timeout(&w.r), MZ_RETRY_YES);
    assert_int_equal(mz_retry_on_try_timeout(&w.r), MZ_RETRY_NO_LIMIT);
    end(&w);
    begin(&w, "", NULL);
    assert_int_equal(mz_retry_on_try_timeout(&w.r), MZ_RETRY_NO);
    end(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_words),   cmocka_unit_test(test_answers),
        cmocka_unit_test(test_resets),  cmocka_unit_test(test_limits),
        cmocka_unit_test(test_backoff), cmocka_unit_test(test_ratelimited_backoff),
        cmocka_unit_test(test_hosts),   cmocka_unit_test(test_priorities),
        cmocka_unit_test(test_hedge),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
