#include "base/clock.h"

#include <time.h>

static uint64_t read_us(clockid_t id)
{
    struct timespec t;
    clock_gettime(id, &t);
    return (uint64_t)t.tv_sec * 1000000u + (uint64_t)t.tv_nsec / 1000u;
}

static uint64_t mono_us(void)
{
    return read_us(CLOCK_MONOTONIC);
}

static uint64_t wall_us(void)
{
    return read_us(CLOCK_REALTIME);
}

const struct mz_clock mz_clock_system = { mono_us, wall_us };
const struct mz_clock *mz_clock = &mz_clock_system;
