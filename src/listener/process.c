#include "listener/listener_priv.h"

bool mz_process_drain_close(const struct mz_process *p, uint64_t now_us, uint64_t random)
{
    if (!__atomic_load_n(&p->draining, __ATOMIC_ACQUIRE))
        return false;
    uint64_t start = __atomic_load_n(&p->drain_start_us, __ATOMIC_RELAXED);
    uint64_t end = __atomic_load_n(&p->drain_end_us, __ATOMIC_RELAXED);
    if (__atomic_load_n(&p->drain_immediate, __ATOMIC_RELAXED) || now_us >= end || end <= start)
        return true;
    /* Gradual: the share of connections told to go grows evenly to all. */
    uint64_t elapsed = now_us > start ? now_us - start : 0;
    return random % (end - start) < elapsed;
}

bool mz_downstream_draining(const struct mz_downstream *d)
{
    const struct mz_process *p = d->worker->process;
    if (__atomic_load_n(&p->health_failed, __ATOMIC_RELAXED) && !d->listener->modify_only_drain)
        return true;
    if (!__atomic_load_n(&p->draining, __ATOMIC_RELAXED))
        return false;
    struct mz_loop *l = d->worker->loop;
    return mz_process_drain_close(p, mz_loop_now_us(l), mz_rand_u64(mz_loop_rand(l)));
}
