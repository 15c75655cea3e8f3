/* Slow start (U2): a host that became healthy a moment ago gets a part of its weight, growing over a window. */
#include "base/clock.h"
#include "runtime/runtime.h"
#include "upstream/upstream_priv.h"
#include <math.h>

#define LEAST_FACTOR 1e-6 /* a schedule needs weights above 0 */

static uint64_t since_us(const struct mz_host *h)
{
    return __atomic_load_n(&h->healthy_since_us, __ATOMIC_RELAXED);
}

/* Until when some host is in its window. */
uint64_t slow_start_until(const struct slow_start *s, const struct host_sets *sets)
{
    uint64_t until = 0;
    for (uint32_t i = 0; i < sets->n_hosts; i++)
        if (mz_host_health(sets->hosts[i]) == MZ_HOST_HEALTHY &&
            since_us(sets->hosts[i]) + s->window_us > until)
            until = since_us(sets->hosts[i]) + s->window_us;
    return until;
}

uint64_t slow_start_now(const struct lb *b)
{
    uint64_t now = b->slow_until_us ? mz_clock->mono_us() : 0;
    return now < b->slow_until_us ? now : 0;
}

double slow_start_aggression(const struct slow_start *s)
{
    double a =
        s->key.n ? mz_runtime_double(mz_runtime_here(), s->key, s->aggression) : s->aggression;
    return a > 0 ? a : 1;
}

double slow_start_factor(const struct slow_start *s, const struct mz_host *h, uint64_t now_us,
                         double aggression)
{
    uint64_t since = since_us(h), age = now_us > since ? now_us - since : 0;
    if (age >= s->window_us || mz_host_health(h) != MZ_HOST_HEALTHY)
        return 1;
    double f = (double)(age > 1000 ? age : 1000) / (double)s->window_us;
    bool plain = !(aggression < 1.0) && !(aggression > 1.0);
    f = plain ? f : pow(f, 1 / aggression);
    f = f > s->min_weight ? f : s->min_weight;
    return f > LEAST_FACTOR ? f < 1 ? f : 1 : LEAST_FACTOR;
}
