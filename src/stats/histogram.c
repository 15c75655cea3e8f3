#include "stats/histogram.h"

#include <math.h>
#include <string.h>

const double mz_hist_quantiles[MZ_HIST_QUANTILES] = { 0,    0.25, 0.5,   0.75,  0.9,
                                                      0.95, 0.99, 0.995, 0.999, 1 };

static const uint64_t powers[MZ_HIST_DECADES] = {
    1ULL,
    10ULL,
    100ULL,
    1000ULL,
    10000ULL,
    100000ULL,
    1000000ULL,
    10000000ULL,
    100000000ULL,
    1000000000ULL,
    10000000000ULL,
    100000000000ULL,
    1000000000000ULL,
    10000000000000ULL,
    100000000000000ULL,
    1000000000000000ULL,
    10000000000000000ULL,
    100000000000000000ULL,
    1000000000000000000ULL,
    10000000000000000000ULL,
};

struct mz_hist *mz_hist_create(void)
{
    return mz_new0(MZ_MEM_STATS, struct mz_hist);
}

void mz_hist_destroy(struct mz_hist *h)
{
    if (!h)
        return;
    for (unsigned i = 0; i < MZ_HIST_DECADES; i++)
        mz_free(MZ_MEM_STATS, h->decade[i]);
    mz_free(MZ_MEM_STATS, h);
}

/* The decade of v (not 0): floor(log10(v)). */
static unsigned decade_of(uint64_t v)
{
    if (MZ_LIKELY(v < 100)) /* nearly all milliseconds */
        return v >= 10;
    unsigned bits = 64U - (unsigned)__builtin_clzll(v);
    unsigned guess = bits * 1233 >> 12; /* log10(2) = 1233/4096 */
    return guess - (guess >= MZ_HIST_DECADES || v < powers[guess]);
}

static unsigned digits_of(uint64_t v, unsigned decade) /* 10 .. 99 */
{
    return decade == 0   ? (unsigned)v * 10
           : decade == 1 ? (unsigned)v
                         : (unsigned)(v / powers[decade - 1]);
}

uint16_t mz_hist_bin(uint64_t value)
{
    if (!value)
        return 0;
    unsigned d = decade_of(value);
    return (uint16_t)(1 + d * 90 + digits_of(value, d) - 10);
}

/* Apart, so that the common path saves no registers for its calls. */
static __attribute__((noinline)) void add_first(struct mz_hist *h, uint64_t value)
{
    uint64_t *bins = mz_newn0(MZ_MEM_STATS, uint64_t, 90);
    __atomic_store_n(&h->decade[decade_of(value)], bins, __ATOMIC_RELEASE);
    mz_hist_add(h, value);
}

void mz_hist_add(struct mz_hist *h, uint64_t value)
{
    uint64_t *bin = &h->zero;
    if (value) {
        unsigned d = decade_of(value);
        uint64_t *bins = h->decade[d];
        if (MZ_UNLIKELY(!bins)) {
            add_first(h, value);
            return;
        }
        bin = &bins[digits_of(value, d) - 10];
    }
    __atomic_store_n(bin, *bin + 1, __ATOMIC_RELAXED);
}

void mz_hist_sum(const struct mz_hist *h, uint64_t *sums)
{
    sums[0] += __atomic_load_n(&h->zero, __ATOMIC_RELAXED);
    for (unsigned d = 0; d < MZ_HIST_DECADES; d++) {
        const uint64_t *bins = __atomic_load_n(&h->decade[d], __ATOMIC_ACQUIRE);
        for (unsigned i = 0; bins && i < 90; i++)
            sums[1 + d * 90 + i] += __atomic_load_n(&bins[i], __ATOMIC_RELAXED);
    }
}

void mz_hist_view_latch(struct mz_hist_view *v, const uint64_t *sums)
{
    uint32_t n = 0;
    for (unsigned i = 0; i < MZ_HIST_BINS; i++)
        n += sums[i] != 0;
    struct mz_hist_bar *bars = n ? mz_newn0(MZ_MEM_STATS, struct mz_hist_bar, n) : NULL;
    uint32_t at = 0, old = 0;
    for (unsigned i = 0; i < MZ_HIST_BINS; i++) {
        if (!sums[i])
            continue;
        while (old < v->n && v->bars[old].bin < i)
            old++;
        uint64_t before = old < v->n && v->bars[old].bin == i ? v->bars[old].total : 0;
        bars[at++] = (struct mz_hist_bar){ (uint16_t)i, sums[i], sums[i] - before };
    }
    mz_free(MZ_MEM_STATS, v->bars);
    v->bars = bars;
    v->n = n;
}

void mz_hist_view_fini(struct mz_hist_view *v)
{
    mz_free(MZ_MEM_STATS, v->bars);
    v->bars = NULL;
    v->n = 0;
}

double mz_hist_bin_low(uint16_t bin)
{
    if (bin == 0)
        return 0;
    /* In this order of operations the last digits are circllhist's. */
    unsigned step = 10 + (bin - 1u) % 90, decade = (bin - 1u) / 90;
    return (double)step / 10.0 * (double)powers[decade];
}

double mz_hist_bin_width(uint16_t bin)
{
    if (bin == 0)
        return 0;
    unsigned decade = (bin - 1u) / 90;
    return (double)powers[decade] / 10.0;
}

static uint64_t bar_count(const struct mz_hist_bar *b, bool interval)
{
    return interval ? b->interval : b->total;
}

uint64_t mz_hist_view_count(const struct mz_hist_view *v, bool interval)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < v->n; i++)
        n += bar_count(&v->bars[i], interval);
    return n;
}

static double scale(const struct mz_hist_view *v)
{
    return v->percent ? MZ_HIST_PERCENT_SCALE : 1.0;
}

/* The k-th of n values of a bin is taken to lie at k/(n+1) of its width. */
void mz_hist_view_quantiles(const struct mz_hist_view *v, bool interval,
                            double out_values[MZ_HIST_QUANTILES])
{
    uint64_t count = mz_hist_view_count(v, interval), below = 0;
    uint32_t at = 0;
    for (unsigned q = 0; q < MZ_HIST_QUANTILES; q++) {
        if (!count) {
            out_values[q] = (double)NAN;
            continue;
        }
        double rank = ceil((double)count * mz_hist_quantiles[q]);
        if (rank < 1)
            rank = 1;
        while (at + 1 < v->n && (double)(below + bar_count(&v->bars[at], interval)) < rank)
            below += bar_count(&v->bars[at++], interval);
        const struct mz_hist_bar *b = &v->bars[at];
        double part = (rank - (double)below) / ((double)bar_count(b, interval) + 1);
        out_values[q] = (mz_hist_bin_low(b->bin) + part * mz_hist_bin_width(b->bin)) / scale(v);
    }
}

double mz_hist_view_sum(const struct mz_hist_view *v, bool interval)
{
    double sum = 0;
    for (uint32_t i = 0; i < v->n; i++) {
        double low = mz_hist_bin_low(v->bars[i].bin), width = mz_hist_bin_width(v->bars[i].bin);
        /* The harmonic mean of both ends: the least relative error. */
        double middle = width > 0 ? low + low / (low + (low + width)) * width : low;
        sum += middle * (double)bar_count(&v->bars[i], interval);
    }
    return sum / scale(v);
}

uint64_t mz_hist_view_below(const struct mz_hist_view *v, bool interval, double bound)
{
    uint64_t n = 0;
    for (uint32_t i = 0; i < v->n && mz_hist_bin_low(v->bars[i].bin) <= bound * scale(v); i++)
        n += bar_count(&v->bars[i], interval);
    return n;
}
