#include <malloc.h>
#include <stdio.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "observe/log_file.h"
#include "server/server.h"

static const struct mz_stat_def defs[] = {
#define X(id, name, type, unit) { name, MZ_##type, MZ_UNIT_##unit, 0 },
    MZ_SERVER_STATS(X)
#undef X
};
const struct mz_stat_kind mz_server_stats = { "server", defs, MZ_SERVER_STAT__COUNT };

static uint64_t resident_bytes(void)
{
    unsigned long long size, resident = 0;
    FILE *f = fopen("/proc/self/statm", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%llu %llu", &size, &resident) != 2)
        resident = 0;
    fclose(f);
    return resident * (uint64_t)sysconf(_SC_PAGESIZE);
}

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
    mz_gauge_set(s->scope, MZ_SERVER_STAT_MEMORY_PHYSICAL, resident_bytes());
    mz_gauge_set(s->scope, MZ_SERVER_STAT_UPTIME, (mz_clock->mono_us() - s->start_us) / 1000000);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_CONNECTIONS,
                 mz_listener_manager_connections(s->listeners));
    mz_gauge_set(s->scope, MZ_SERVER_STAT_LIVE, state == MZ_SERVER_LIVE);
    mz_gauge_set(s->scope, MZ_SERVER_STAT_STATE, state);
    mz_log_files_count(s->logs); /* what their writer did (O2) */
    uint64_t bugs = mz_bug_count(), shown = mz_scope_value(s->scope, MZ_SERVER_STAT_BUGS);
    if (bugs > shown)
        mz_count(s->scope, MZ_SERVER_STAT_BUGS, bugs - shown);
}
