#include "listener/listener_priv.h"

/* The share of connections told to go grows evenly to all. */
static bool gradual(uint64_t start, uint64_t end, uint64_t now_us, uint64_t random)
{
    uint64_t elapsed = now_us > start ? now_us - start : 0;
    return random % (end - start) < elapsed;
}

bool mz_process_drain_close(const struct mz_process *p, uint64_t now_us, uint64_t random)
{
    if (!__atomic_load_n(&p->draining, __ATOMIC_ACQUIRE))
        return false;
    uint64_t start = __atomic_load_n(&p->drain_start_us, __ATOMIC_RELAXED);
    uint64_t end = __atomic_load_n(&p->drain_end_us, __ATOMIC_RELAXED);
    if (__atomic_load_n(&p->drain_immediate, __ATOMIC_RELAXED) || now_us >= end || end <= start)
        return true;
    return gradual(start, end, now_us, random);
}

static bool chain_drain_close(const struct mz_filter_chain *c, uint64_t now_us, uint64_t random)
{
    uint64_t start = __atomic_load_n(&c->drain_start_us, __ATOMIC_RELAXED);
    uint64_t end = __atomic_load_n(&c->drain_end_us, __ATOMIC_RELAXED);
    return __atomic_load_n(&c->drain_at_once, __ATOMIC_RELAXED) || now_us >= end || end <= start ||
           gradual(start, end, now_us, random);
}

bool mz_downstream_draining(const struct mz_downstream *d)
{
    const struct mz_process *p = d->worker->process;
    if (__atomic_load_n(&p->health_failed, __ATOMIC_RELAXED) && !d->listener->modify_only_drain)
        return true;
    bool chain = d->chain && __atomic_load_n(&d->chain->drain_end_us, __ATOMIC_RELAXED);
    if (MZ_LIKELY(!chain && !__atomic_load_n(&p->draining, __ATOMIC_RELAXED)))
        return false;
    struct mz_loop *l = d->worker->loop;
    uint64_t now = mz_loop_now_us(l), random = mz_rand_u64(mz_loop_rand(l));
    return (chain && chain_drain_close(d->chain, now, random)) ||
           mz_process_drain_close(p, now, random);
}
