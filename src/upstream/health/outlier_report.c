/*
 * What became of requests and connections, told by workers (U5): counted in the host's atomics. Only the failure that makes
 * a limit full goes to the main thread, which decides.
 */
#include "upstream/health/health.h"

struct notice {
    struct outlier *outlier; /* a reference each */
    struct mz_host *host;
    enum outlier_rule rule;
    bool arm;
};

static void notice_run(struct mz_loop *loop, void *arg)
{
    (void)loop;
    struct notice *n = arg;
    if (n->arm)
        outlier_arm(n->outlier);
    else
        outlier_in_a_row(n->host, n->rule);
    mz_host_unref(n->host);
    outlier_unref(n->outlier);
    mz_free(MZ_MEM_UPSTREAM, n);
}

static void notify(struct mz_host *h, struct notice what)
{
    struct notice *n = mz_new0(MZ_MEM_UPSTREAM, struct notice);
    *n = what;
    n->host = mz_host_ref(h);
    n->outlier = outlier_ref(h->health->outlier.outlier);
    mz_loop_post(n->outlier->main, notice_run, n);
}

/* The interval runs from the first report on: a cluster that nobody uses has no timer. */
static void arm(struct mz_host *h)
{
    struct outlier *o = h->health->outlier.outlier;
    if (MZ_LIKELY(__atomic_load_n(&o->armed, __ATOMIC_RELAXED)))
        return;
    if (!__atomic_exchange_n(&o->armed, 1, __ATOMIC_RELAXED))
        notify(h, (struct notice){ .arm = true });
}

static void fail(struct mz_host *h, enum outlier_rule r, struct mz_str key)
{
    struct host_outlier *s = &h->health->outlier;
    uint32_t n = __atomic_add_fetch(&s->row[r], 1, __ATOMIC_RELAXED);
    if (n == outlier_number(key, s->outlier->cfg.consecutive[r]))
        notify(h, (struct notice){ .rule = r });
}

static void clear(uint32_t *row)
{
    if (__atomic_load_n(row, __ATOMIC_RELAXED)) /* a good host's line is not written by everybody */
        __atomic_store_n(row, 0, __ATOMIC_RELAXED);
}

static void count(struct host_outlier *s, enum outlier_origin from, bool good)
{
    struct outlier_rate *r = &s->rates[from][__atomic_load_n(&s->writing, __ATOMIC_RELAXED)];
    __atomic_add_fetch(&r->total, 1, __ATOMIC_RELAXED);
    if (good)
        __atomic_add_fetch(&r->good, 1, __ATOMIC_RELAXED);
}

static void put_code(struct mz_host *h, unsigned status)
{
    struct host_outlier *s = &h->health->outlier;
    bool bad = status >= 500 && status < 600;
    count(s, ORIGIN_EXTERNAL, !bad);
    if (!bad) {
        clear(&s->row[RULE_5XX]);
        clear(&s->row[RULE_GATEWAY]);
        return;
    }
    if (status >= 502 && status <= 504)
        fail(h, RULE_GATEWAY, OUTLIER_KEY("consecutive_gateway_failure"));
    else
        clear(&s->row[RULE_GATEWAY]);
    fail(h, RULE_5XX, OUTLIER_KEY("consecutive_5xx"));
}

static void put_local(struct mz_host *h, bool good)
{
    struct host_outlier *s = &h->health->outlier;
    count(s, ORIGIN_LOCAL, good);
    if (good)
        clear(&s->row[RULE_LOCAL]);
    else
        fail(h, RULE_LOCAL, OUTLIER_KEY("consecutive_local_origin_failure"));
}

void mz_outlier_status(struct mz_host *h, unsigned http_status)
{
    if (!h->health || !h->health->outlier.outlier)
        return;
    arm(h);
    put_code(h, http_status);
}

void mz_outlier_report(struct mz_host *h, enum mz_outlier_result r, unsigned http_status)
{
    /* Without split_external_local_origin_errors everything counts as an HTTP status; 0: does not count. */
    static const uint16_t as_status[] = {
        [MZ_OUTLIER_SUCCESS] = 200, [MZ_OUTLIER_FAILURE] = 500,
        [MZ_OUTLIER_CONNECTED] = 0, [MZ_OUTLIER_CONNECTED_ALL] = 200,
        [MZ_OUTLIER_TIMEOUT] = 504, [MZ_OUTLIER_CONNECT_FAILED] = 503
    };
    if (!h->health || !h->health->outlier.outlier)
        return;
    arm(h);
    if (!h->health->outlier.outlier->cfg.split_local) {
        unsigned status = http_status ? http_status : as_status[r];
        if (status)
            put_code(h, status);
        return;
    }
    if (r == MZ_OUTLIER_FAILURE || r == MZ_OUTLIER_SUCCESS)
        put_code(h, r == MZ_OUTLIER_FAILURE ? 503 : 200);
    if (r != MZ_OUTLIER_FAILURE)
        put_local(h, r != MZ_OUTLIER_TIMEOUT && r != MZ_OUTLIER_CONNECT_FAILED);
}
