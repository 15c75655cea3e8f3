/* The worker threads (P2): one loop each, made on main, run until main stops them. */
#include <stdio.h>

#include "base/buf.h"
#include "base/log.h"
#include "filters/registry.h"
#include "hcm/filter.h"
#include "net/pipe.h"
#include "server/server.h"

static void *worker_main(void *arg)
{
    struct mz_thread *t = arg;
    mz_stats_thread_slot(t->worker.slot);
    (void)pthread_setname_np(pthread_self(),
                             mz_loop_name(t->worker.loop)); /* for people who look at top */
    mz_loop_run(t->worker.loop);
    mz_registry_worker_stop(&t->worker);
    mz_upstream_destroy(t->worker.upstream);
    t->worker.upstream = NULL;
    mz_loop_turn(t->worker.loop, 0); /* what the pools' end deferred */
    mz_stream_thread_trim();
    mz_slice_thread_trim();
    mz_pipe_thread_trim();
    mz_arena_thread_trim();
    return NULL;
}

void mz_workers_create(struct mz_server *s, unsigned n)
{
    s->n_workers = n;
    s->workers = mz_newn0(MZ_MEM_MISC, struct mz_worker, n);
    s->threads = mz_newn0(MZ_MEM_MISC, struct mz_thread, n);
    for (unsigned i = 0; i < n; i++) {
        char name[32];
        (void)snprintf(name, sizeof(name), "worker_%u", i);
        struct mz_loop *l = mz_loop_create(name);
        mz_loop_set_worker(l, i + 1);
        s->workers[i] = (struct mz_worker){
            .loop = l, .slot = i + 1, .recorder = s->recorder, .process = &s->process
        };
    }
}

void mz_workers_start(struct mz_server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++) {
        struct mz_thread *t = &s->threads[i];
        s->workers[i].upstream = mz_upstream_create(s->clusters, s->workers[i].loop);
        t->worker = s->workers[i];
        int rc = pthread_create(&t->id, NULL, worker_main, t);
        if (rc != 0)
            MZ_LOG(CRITICAL, main, "cannot start worker %u: %s", i, strerrordesc_np(rc));
        t->running = rc == 0;
    }
    s->workers_started = true;
}

void mz_workers_stop(struct mz_server *s)
{
    for (unsigned i = 0; i < s->n_workers; i++)
        if (s->threads[i].running)
            mz_loop_stop(s->workers[i].loop);
    for (unsigned i = 0; i < s->n_workers; i++) {
        if (s->threads[i].running)
            pthread_join(s->threads[i].id, NULL);
        s->threads[i].running = false;
    }
}
