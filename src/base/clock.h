#ifndef MZ_BASE_CLOCK_H
#define MZ_BASE_CLOCK_H
#include <stdint.h>
/* The one clock (runs can be replayed by replacing it before threads start). Loops cache it per turn: mz_loop_now_us(). */
struct mz_clock {
    uint64_t (*mono_us)(void); /* CLOCK_MONOTONIC: timers and durations */
    uint64_t (*wall_us)(void); /* CLOCK_REALTIME since the epoch: texts only; it may jump */
};
extern const struct mz_clock *mz_clock; /* the system's by default */
extern const struct mz_clock mz_clock_system;
#endif
