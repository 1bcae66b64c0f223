/* SPDX-License-Identifier: Apache-2.0 */
#include <float.h>
#include <math.h>

#include "kln_precision.h"

#define BINS KLN_OBSERVED_BINS
/* Non-negative steps of a signed 8-bit number, 0 included. */
#define LEVELS 128

/* --- entropy --- */

/* Sums over all bins before each one. */
typedef struct sums {
    double counts[BINS + 1];
    double filled[BINS + 1]; /* number of bins that are not empty */
    double logs[BINS + 1];   /* count * log(count) */
} sums;

static double x_log_x(double x)
{
    return x > 0 ? x * log(x) : 0;
}

/* The first bin, which holds everything close to 0, is taken to be as full as the second. */
static void sum_up(const kln_observer *observer, sums *of)
{
    of->counts[0] = of->filled[0] = of->logs[0] = 0;
    for (size_t i = 0; i < BINS; i++) {
        const size_t bin = i > 0 ? i : 1;
        const double count = (double)(observer->bins[bin] + observer->bins[BINS + bin]);
        of->counts[i + 1] = of->counts[i] + count;
        of->filled[i + 1] = of->filled[i] + (count > 0 ? 1 : 0);
        of->logs[i + 1] = of->logs[i] + x_log_x(count);
    }
}

/* The divergence of the first `kept` bins, the last of which also holds everything above, from the
 * same in LEVELS steps; times the total count, and without the terms that are equal for every
 * `kept`. */
static double divergence(const sums *of, size_t kept)
{
    const double all = of->counts[BINS];
    const double inside = of->counts[kept];
    const double outside = all - inside;
    const double last = inside - of->counts[kept - 1];
    if (of->filled[kept] < 2 || (last == 0 && outside > 0)) {
        return DBL_MAX; /* one bin is not a distribution, and an empty one cannot hold the rest */
    }
    double sum = of->logs[kept] - x_log_x(last) + x_log_x(last + outside);
    size_t begin = 0;
    for (size_t level = 1; level <= LEVELS; level++) {
        const size_t end = (kept * level + LEVELS - 1) / LEVELS;
        const double count = of->counts[end] - of->counts[begin];
        if (count > 0) {
            const double filled = of->filled[end] - of->filled[begin];
            sum -= (count + (level == LEVELS ? outside : 0)) * log(count / filled);
        }
        begin = end;
    }
    return sum + all * log(inside);
}

/* "8-bit Inference with TensorRT", Szymon Migacz, GTC 2017: the threshold with the least
 * Kullback-Leibler divergence. Details that the slides leave open are as observed in TensorRT 10.6
 * (tests/precision/thresholds.py): where levels start, how the first bin is treated, that the
 * larger of two equals wins, and the half bin added on top. */
static double entropy_threshold(const kln_observer *observer)
{
    sums of;
    size_t best = BINS;
    double least = DBL_MAX;
    sum_up(observer, &of);
    const double equal = of.counts[BINS] * 1e-11; /* rounding errors between equals */
    for (size_t kept = BINS; kept >= LEVELS; kept--) {
        const double found = divergence(&of, kept);
        if (found < least - equal) {
            least = found;
            best = kept;
        }
    }
    return (double)(float)(((double)best + 0.5) * observer->reach / BINS);
}

/* --- mean squared error --- */

static double square_error(const double counts[BINS], size_t kept)
{
    const double step = (double)kept / (LEVELS - 1);
    double sum = 0;
    for (size_t i = 0; i < BINS; i++) {
        if (counts[i] > 0) {
            const double value = (double)i + 0.5;
            const double error = value - fmin(nearbyint(value / step), LEVELS - 1) * step;
            sum += counts[i] * error * error;
        }
    }
    return sum;
}

static double mse_threshold(const kln_observer *observer)
{
    double counts[BINS];
    for (size_t i = 0; i < BINS; i++) {
        counts[i] = (double)(observer->bins[i] + observer->bins[BINS + i]);
    }
    /* First in steps of sixteen, then one by one around the best. */
    size_t best = BINS;
    double least = DBL_MAX;
    for (size_t pass = 0, from = LEVELS, to = BINS; pass < 2; pass++) {
        for (size_t kept = from; kept <= to; kept += pass == 0 ? 16 : 1) {
            const double found = square_error(counts, kept);
            if (found < least) {
                least = found;
                best = kept;
            }
        }
        from = best > LEVELS + 15 ? best - 15 : LEVELS;
        to = best + 15 < BINS ? best + 15 : BINS;
    }
    return (double)best * observer->reach / BINS;
}

/* --- percentiles --- */

/* The value of rank `rank` in ascending order, rounded outwards to the edge of its bin. */
static double quantile(const kln_observer *observer, double rank, bool upper)
{
    const double width = observer->reach / BINS;
    const uint64_t *below = observer->bins + BINS;
    double seen = 0;
    for (size_t i = BINS; i-- > 0;) {
        seen += (double)below[i];
        if (seen > rank) {
            return -width * (double)(upper ? i : i + 1);
        }
    }
    seen += (double)observer->zeros;
    if (seen > rank) {
        return 0;
    }
    for (size_t i = 0; i < BINS; i++) {
        seen += (double)observer->bins[i];
        if (seen > rank) {
            return width * (double)(upper ? i + 1 : i);
        }
    }
    return observer->greatest;
}

/* --- ranges --- */

/* Symmetric about 0, cut to the observed values. The side that reaches farther has exactly the
 * threshold, which is the scale in a calibration cache. */
static void clip(kln_observer const *observer, double threshold, kiln_range *range)
{
    const bool is_below = -observer->least > observer->greatest;
    range->low = is_below ? -threshold : fmax(-threshold, fmin(observer->least, 0));
    range->high = is_below ? fmin(threshold, fmax(observer->greatest, 0)) : threshold;
}

void kln_observer_range(const kln_observer *observer, kiln_calibration_method method,
                        double percent, kiln_range *range)
{
    const bool has_any = observer->finite > 0;
    *range = KILN_RANGE(.low = has_any ? observer->least : 0,
                        .high = has_any ? observer->greatest : 0, .count = observer->count,
                        .nans = observer->nans, .infinities = observer->infinities);
    range->least = range->low;
    range->greatest = range->high;
    /* The bins are too narrow to differ in float32, or all values are zero. */
    if (observer->bins == NULL || observer->reach < BINS * (double)FLT_MIN) {
        return;
    }
    if (method == KILN_CALIBRATE_ENTROPY) {
        clip(observer, entropy_threshold(observer), range);
    } else if (method == KILN_CALIBRATE_MSE) {
        clip(observer, mse_threshold(observer), range);
    } else if (method == KILN_CALIBRATE_PERCENTILE) {
        const double tail = floor((double)observer->finite * (100 - percent) / 200);
        range->low = fmax(quantile(observer, tail, false), observer->least);
        range->high =
            fmin(quantile(observer, (double)observer->finite - 1 - tail, true), observer->greatest);
    }
}
