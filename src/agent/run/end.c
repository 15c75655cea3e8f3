#include "agent/run/end.h"

#include <stdio.h>

#include "agent/run/process.h"
#include "base/log.h"
#include "event/loop.h"
#include "router/async.h"

#define STOP_PATIENCE_MS 5000 /* after the drain, for the proxy to end */
#define CHECK_MS         1000
#define CHECK_FAILURES   5
#define STATS_MAX        (1u << 20)
#define ASK_MS           2000

struct mz_end {
    struct mz_end_opts o;
    struct mz_arena *arena;
    struct mz_timer timer; /* the drain's end; the next look at connections */
    struct mz_async *drain;
    struct mz_link_get *look;
    unsigned failures;
    bool begun, drained, stopping;
};

static void stop(struct mz_end *e, uint64_t patience_ms)
{
    mz_timer_stop(&e->timer);
    e->begun = e->stopping = true;
    mz_process_stop(e->o.process, patience_ms);
}

/* ---- connections that are left ---- */

static bool is_own(const struct mz_end *e, struct mz_str name)
{
    char own[64];
    if (mz_str_starts(name, MZ_STR("admin.")))
        return true;
    for (size_t i = 0; i < MZ_COUNT(e->o.own_ports); i++) {
        (void)snprintf(own, sizeof(own), "0.0.0.0_%u.", e->o.own_ports[i]);
        if (mz_str_starts(name, mz_str_c(own)))
            return true;
    }
    return false;
}

/* Of listeners as a whole: http.* counts the same ones again, and so does each worker. */
static uint64_t connections(const struct mz_end *e, struct mz_str stats)
{
    struct mz_str line;
    uint64_t sum = 0;
    while (mz_str_split(&stats, '\n', &line)) {
        const ptrdiff_t colon = mz_str_rchr(line, ':');
        uint64_t n = 0;
        if (colon < 0 || !mz_str_starts(line, MZ_STR("listener.")) ||
            mz_str_find(line, MZ_STR(".worker_")) >= 0 || is_own(e, mz_str_skip(line, 9)))
            continue;
        if (mz_str_u64(mz_str_trim(mz_str_skip(line, (size_t)colon + 1)), &n))
            sum += n;
    }
    return sum;
}

static void on_stats(void *arg, const struct mz_link_got *got)
{
    struct mz_end *e = arg;
    e->look = NULL;
    if (e->stopping)
        return;
    const bool known = got->status == 200;
    const uint64_t left = known ? connections(e, got->body) : 0;
    e->failures = known ? 0 : e->failures + 1;
    if ((known && !left) || e->failures >= CHECK_FAILURES) {
        MZ_LOG(INFO, main, "%s: the proxy is stopped",
               known ? "no connection is left" : "the proxy does not say which connections it has");
        stop(e, STOP_PATIENCE_MS);
        return;
    }
    MZ_LOG(INFO, main, "%llu connections are left", (unsigned long long)left);
    mz_timer_start_ms(&e->timer, CHECK_MS);
}

static void on_timer(struct mz_timer *t)
{
    struct mz_end *e = MZ_CONTAINER(t, struct mz_end, timer);
    if (!e->o.on_zero)
        stop(e, STOP_PATIENCE_MS);
    else if (!e->look)
        e->look = mz_link_get(e->o.link, "admin",
                              MZ_STR("/stats?usedonly&filter=downstream_cx_active%24"),
                              (struct mz_str){ 0 }, ASK_MS, STATS_MAX, on_stats, e);
}

/* ---- draining ---- */

static void drain_headers(void *arg, struct mz_headers *h, bool end)
{
    struct mz_end *e = arg;
    (void)h;
    if (end)
        e->drain = NULL;
}

static void drain_data(void *arg, struct mz_buf *data, bool end)
{
    struct mz_end *e = arg;
    mz_buf_drain(data, mz_buf_len(data));
    if (end)
        e->drain = NULL;
}

static void drain_failed(void *arg, const struct mz_async_failure *f)
{
    struct mz_end *e = arg;
    e->drain = NULL;
    MZ_LOG(WARN, main, "the proxy does not drain: " MZ_STR_FMT, MZ_STR_ARG(f->text));
}

static void drain(struct mz_end *e)
{
    static const struct mz_async_ops ops = { .headers = drain_headers,
                                             .data = drain_data,
                                             .failed = drain_failed };
    static const struct mz_async_opts o = { .timeout_ms = ASK_MS };
    struct mz_headers h;
    if (e->drain)
        return; /* under way */
    mz_headers_init(&h, e->arena);
    mz_headers_add(&h, MZ_STR(":method"), MZ_STR("POST"));
    mz_headers_add(&h, MZ_STR(":scheme"), MZ_STR("http"));
    mz_headers_add(&h, MZ_STR(":path"),
                   e->o.inbound_only ? MZ_STR("/drain_listeners?inboundonly&graceful")
                                     : MZ_STR("/drain_listeners?graceful"));
    mz_headers_add(&h, MZ_STR(":authority"), MZ_STR("localhost"));
    mz_headers_add(&h, MZ_STR("content-length"), MZ_STR("0"));
    e->drain = mz_async_start(mz_link_upstream(e->o.link), MZ_STR("admin"), &h, true, &o, &ops, e);
}

/* ---- asked for ---- */

void mz_end_drain(struct mz_end *e)
{
    if (e->drained || e->begun)
        return;
    e->drained = true;
    drain(e);
}

void mz_end_begin(struct mz_end *e)
{
    if (e->begun)
        return;
    e->begun = true;
    if (e->drained) {
        MZ_LOG(INFO, main, "drained already: the proxy is stopped");
        stop(e, STOP_PATIENCE_MS);
        return;
    }
    const uint64_t ms = e->o.on_zero ? e->o.minimum_ms : e->o.drain_ms;
    MZ_LOG(INFO, main, "draining for %llu ms%s", (unsigned long long)ms,
           e->o.on_zero ? ", then until no connection is left" : "");
    mz_process_keep_down(e->o.process);
    drain(e);
    mz_timer_start_ms(&e->timer, ms);
}

void mz_end_now(struct mz_end *e)
{
    stop(e, e->stopping ? 0 : STOP_PATIENCE_MS);
}

struct mz_end *mz_end_create(const struct mz_end_opts *o)
{
    struct mz_end *e = mz_alloc0(MZ_MEM_MISC, sizeof(*e));
    e->o = *o;
    e->arena = mz_arena_create(MZ_MEM_MISC);
    mz_timer_init(o->loop, &e->timer, on_timer);
    return e;
}

void mz_end_destroy(struct mz_end *e)
{
    if (!e)
        return;
    mz_timer_stop(&e->timer);
    mz_async_cancel(e->drain);
    mz_link_get_cancel(e->look);
    mz_arena_destroy(e->arena);
    mz_free(MZ_MEM_MISC, e);
}
