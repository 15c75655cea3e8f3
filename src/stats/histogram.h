#ifndef MZ_STATS_HISTOGRAM_H
#define MZ_STATS_HISTOGRAM_H
/*
 * Log-linear histograms with the bins of circllhist: two significant decimal digits, so [1.0,1.1) .. [9.9,10) [10,11) ..
 * and one bin for zero. A writer (one thread) counts upwards only; the reader subtracts what it saw the last time.
 */
#include "base/alloc.h"
#include <stdbool.h>
#include <stdint.h>

#define MZ_HIST_DECADES       20 /* 1 .. 10^19: all of uint64_t */
#define MZ_HIST_BINS          (1 + MZ_HIST_DECADES * 90)
#define MZ_HIST_PERCENT_SCALE 1000000.0 /* values of MZ_UNIT_PERCENT are recorded in millionths */

struct mz_hist { /* one thread's counts; 90 bins of a decade appear at their first value */
    uint64_t zero;
    uint64_t *decade[MZ_HIST_DECADES];
};
struct mz_hist *mz_hist_create(void);
void mz_hist_destroy(struct mz_hist *h);
void mz_hist_add(struct mz_hist *h, uint64_t value); /* the writer's thread */
/* Adds the counts to sums[MZ_HIST_BINS]; any thread. */
void mz_hist_sum(const struct mz_hist *h, uint64_t *sums);
uint16_t mz_hist_bin(uint64_t value);

struct mz_hist_bar {
    uint16_t bin;
    uint64_t total, interval; /* since ever; between the last two latches */
};
struct mz_hist_view { /* what the reader shows: ascending bins */
    struct mz_hist_bar *bars;
    uint32_t n;
    bool percent;
};
/* Replaces the view by these sums; the interval is what they are above the former ones. */
void mz_hist_view_latch(struct mz_hist_view *v, const uint64_t *sums);
void mz_hist_view_fini(struct mz_hist_view *v);

double mz_hist_bin_low(uint16_t bin);
double mz_hist_bin_width(uint16_t bin);

enum { MZ_HIST_QUANTILES = 10 };
extern const double mz_hist_quantiles[MZ_HIST_QUANTILES]; /* 0, 0.25 .. 1 */
/* As circllhist and Envoy compute them; NaN when there is no value. */
void mz_hist_view_quantiles(const struct mz_hist_view *v, bool interval,
                            double out_values[MZ_HIST_QUANTILES]);
uint64_t mz_hist_view_count(const struct mz_hist_view *v, bool interval);
double mz_hist_view_sum(const struct mz_hist_view *v,
                        bool interval); /* approximate: bins' middles */
uint64_t mz_hist_view_below(const struct mz_hist_view *v, bool interval,
                            double bound); /* up to the bin of bound */
#endif
