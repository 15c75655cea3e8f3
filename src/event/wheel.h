#ifndef MZ_EVENT_WHEEL_H
#define MZ_EVENT_WHEEL_H
/*
 * Hierarchical timer wheel: 8 levels of 64 places, a tick is 1 ms, so 2^48 ms (8900 years of
 * uptime) fit. A timer sits at the level of the highest base-64 digit in which its place differs
 * from @pos_ms, so each level lies behind all lower ones, and the first bit of the lowest non-empty
 * level is the earliest place. Belongs to one loop; no locks.
 */
#include "event/loop.h"

#define MZ_WHEEL_LEVELS 8
struct mz_wheel {
    uint64_t pos_ms; /* every place up to here was looked at; only advances when something is due */
    uint64_t next_ms;   /* nothing is due before this; may be too early (a stopped timer), never too
                           late */
    struct mz_list now; /* due when placed */
    uint64_t bits[MZ_WHEEL_LEVELS];
    struct mz_list slots[MZ_WHEEL_LEVELS][64];
};
void mz_wheel_init(struct mz_wheel *w, uint64_t now_ms);
/* Fires what is due at now_ms, in order of time; what the callbacks start fires in a later run,
 * even if due at once. */
void mz_wheel_run(struct mz_wheel *w, uint64_t now_ms);
#endif
