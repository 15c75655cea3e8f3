#include <malloc.h>

#include "base/clock.h"
#include "base/log.h"
#include "observe/log_file.h"
#include "server/server.h"
#include "tls/inventory.h"

static const struct mz_stat_def defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    MZ_SERVER_STATS(X)
#undef X
};
const struct mz_stat_kind mz_server_stats = { "server", defs, MZ_SERVER_STAT__COUNT };

void mz_server_stats_update(struct mz_server *s)
{
    struct mz_mem_count c[MZ_MEM__COUNT];
    int64_t bytes = 0;
    mz_mem_counts(c);
    for (int i = 0; i < MZ_MEM__COUNT; i++)
        bytes += c[i].bytes;
    struct mallinfo2 heap = mallinfo2();
    enum mz_server_state state = mz_server_state(s);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_MEMORY_ALLOCATED, (uint64_t)(bytes > 0 ? bytes : 0));
    mz_gauge_set(s->scope, MZ_SERVER_STAT_MEMORY_HEAP, heap.arena + heap.hblkhd);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_MEMORY_PHYSICAL, mz_mem_resident_bytes());
    mz_gauge_set(s->scope, MZ_SERVER_STAT_UPTIME, (mz_clock->mono_us() - s->start_us) / 1000000);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_DAYS_UNTIL_CERT, mz_tls_days_until_expiry());
    mz_gauge_set(s->scope, MZ_SERVER_STAT_SECONDS_UNTIL_OCSP, mz_tls_seconds_until_ocsp_expiry());
    mz_gauge_set(s->scope, MZ_SERVER_STAT_CONNECTIONS,
                 mz_listener_manager_connections(s->listeners));
    uint64_t unknown = s->xds ? mz_xds_unknown_fields(s->xds) : 0;
    mz_count(s->scope, MZ_SERVER_STAT_DYNAMIC_UNKNOWN, unknown - s->unknown_counted);
    s->unknown_counted = unknown;
    mz_gauge_set(s->scope, MZ_SERVER_STAT_LIVE, state == MZ_SERVER_LIVE);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_STATE, state);
    mz_log_files_count(s->logs); /* what their writer did (O2) */
    uint64_t bugs = mz_bug_count(), shown = mz_scope_value(s->scope, MZ_SERVER_STAT_BUGS);
    if (bugs > shown)
        mz_count(s->scope, MZ_SERVER_STAT_BUGS, bugs - shown);
}

void mz_server_stats_show(struct mz_server *s)
{
    mz_server_stats_update(s);
    if (s->flush_on_admin)
        mz_stats_flush(s->stats);
}

/* ---- how long turns take ---- */

enum { LOOP_DURATION, POLL_DELAY };
static const struct mz_stat_def dispatcher_defs[] = {
    [LOOP_DURATION] = { "loop_duration_us", MZ_HISTOGRAM, MZ_UNIT_US, 0 },
    [POLL_DELAY] = { "poll_delay_us", MZ_HISTOGRAM, MZ_UNIT_US, 0 },
};
static const struct mz_stat_kind dispatcher_stats = { "dispatcher", dispatcher_defs,
                                                      MZ_COUNT(dispatcher_defs) };

static void on_turn(void *arg, uint64_t duration_us, uint64_t poll_delay_us)
{
    struct mz_scope *s = arg;
    mz_hist_record(s, LOOP_DURATION, duration_us);
    mz_hist_record(s, POLL_DELAY, poll_delay_us);
}

void mz_server_dispatchers_create(struct mz_server *s)
{
    s->dispatchers = mz_newn0(MZ_MEM_MISC, struct mz_scope *, s->n_workers + 1);
    for (unsigned i = 0; i <= s->n_workers; i++) {
        struct mz_loop *l = i ? s->workers[i - 1].loop : s->loop;
        char prefix[80];
        int n =
            i ? snprintf(prefix, sizeof(prefix), "listener_manager.%s.dispatcher.", mz_loop_name(l))
              : snprintf(prefix, sizeof(prefix), "server.dispatcher.");
        s->dispatchers[i] =
            mz_scope_create(s->stats, &dispatcher_stats, (struct mz_str){ prefix, (size_t)n });
        mz_loop_on_turn(l, on_turn, s->dispatchers[i]);
    }
}

void mz_server_dispatchers_destroy(struct mz_server *s)
{
    for (unsigned i = 0; s->dispatchers && i <= s->n_workers; i++)
        mz_scope_unref(s->dispatchers[i]);
    mz_free(MZ_MEM_MISC, s->dispatchers);
}
