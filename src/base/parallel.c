#include "base/parallel.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/arena.h"
#include "base/buf.h"

enum { MAX_THREADS = 16 };

struct work {
    size_t n, next; /* next: atomic */
    void (*each)(void *arg, size_t i);
    void *arg;
};

/* cgroup v2: "max 100000" or "150000 100000". */
static uint32_t cgroup_cpus(void)
{
    char text[64], *rest;
    FILE *f = fopen("/sys/fs/cgroup/cpu.max", "re");
    bool ok = f && fgets(text, sizeof(text), f);
    if (f)
        (void)fclose(f); /* only read */
    if (!ok)
        return 0;
    uint64_t quota = strtoull(text, &rest, 10); /* "max" is no number: no quota */
    uint64_t period = rest == text ? 0 : strtoull(rest, NULL, 10);
    return period ? (uint32_t)((quota + period - 1) / period) : 0;
}

uint32_t mz_cpus(void)
{
    cpu_set_t set;
    uint32_t n = sched_getaffinity(0, sizeof(set), &set) == 0 ? (uint32_t)CPU_COUNT(&set) : 1;
    uint32_t quota = cgroup_cpus();
    if (quota && quota < n)
        n = quota;
    return n ? n : 1;
}

static void take_part(struct work *w)
{
    for (size_t i; (i = __atomic_fetch_add(&w->next, 1, __ATOMIC_RELAXED)) < w->n;)
        w->each(w->arg, i);
}

static void *helper(void *arg)
{
    take_part(arg);
    mz_slice_thread_trim();
    mz_arena_thread_trim();
    mz_mem_thread_end();
    return NULL;
}

/* Signals are for threads that know what to do with them. */
static unsigned start(struct work *w, uint32_t threads, pthread_t *out)
{
    sigset_t all, before;
    unsigned n = 0;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (n + 1 < threads && n < MAX_THREADS && pthread_create(&out[n], NULL, helper, w) == 0)
        n++; /* with fewer it takes longer */
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return n;
}

void mz_parallel(size_t n, uint32_t threads, void (*each)(void *arg, size_t i), void *arg)
{
    struct work w = { n, 0, each, arg };
    pthread_t other[MAX_THREADS];
    const unsigned others = n > 1 ? start(&w, threads, other) : 0;
    take_part(&w);
    for (unsigned i = 0; i < others; i++)
        (void)pthread_join(other[i], NULL);
}
