/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/histogram.h>

#include <math.h>

#include "kln_base.h"

/* Values below 2 * STEPS have a counter each; above, each power of two has STEPS counters. */
#define STEP_BITS 10
#define STEPS ((uint64_t)1 << STEP_BITS)
#define COUNTERS ((size_t)((64 - STEP_BITS + 1) * STEPS))

struct kiln_histogram {
    uint64_t count;
    uint64_t minimum;
    uint64_t maximum;
    long double sum;
    uint64_t counters[COUNTERS];
};

static size_t index_of(uint64_t value)
{
    const unsigned highest = 63U - (unsigned)__builtin_clzll(value | 1U);
    const unsigned shift = highest > STEP_BITS ? highest - STEP_BITS : 0;
    return (size_t)(shift * STEPS + (value >> shift));
}

/* The least value of a counter, and the number of values that it covers. */
static double begin_of(size_t index, double *width)
{
    const unsigned shift = index < 2 * STEPS ? 0 : (unsigned)(index / STEPS - 1);
    *width = ldexp(1.0, (int)shift);
    return (double)(index - shift * STEPS) * *width;
}

/* The value that represents a counter: the middle of its range. */
static double middle_of(size_t index)
{
    double width = 0;
    const double begin = begin_of(index, &width);
    return begin + (width - 1) / 2;
}

kiln_status kiln_histogram_create(kiln_histogram **histogram)
{
    KLN_RETURN_IF_NULL(histogram);
    *histogram = kln_alloc_zeroed(1, sizeof **histogram);
    return *histogram != NULL ? KILN_OK : kln_fail_memory(sizeof **histogram, "a histogram");
}

void kiln_histogram_destroy(kiln_histogram *histogram)
{
    kln_free(histogram);
}

void kiln_histogram_record(kiln_histogram *histogram, uint64_t value)
{
    if (histogram == NULL) {
        return;
    }
    histogram->minimum =
        histogram->count == 0 || value < histogram->minimum ? value : histogram->minimum;
    histogram->maximum = value > histogram->maximum ? value : histogram->maximum;
    histogram->sum += (long double)value;
    histogram->count++;
    histogram->counters[index_of(value)]++;
}

kiln_status kiln_histogram_add(kiln_histogram *histogram, const kiln_histogram *other)
{
    KLN_RETURN_IF_NULL(histogram, other);
    if (other->count == 0) {
        return KILN_OK;
    }
    if (histogram->count == 0 || other->minimum < histogram->minimum) {
        histogram->minimum = other->minimum;
    }
    histogram->maximum = other->maximum > histogram->maximum ? other->maximum : histogram->maximum;
    histogram->sum += other->sum;
    histogram->count += other->count;
    for (size_t i = 0; i < COUNTERS; i++) {
        histogram->counters[i] += other->counters[i];
    }
    return KILN_OK;
}

void kiln_histogram_clear(kiln_histogram *histogram)
{
    if (histogram != NULL) {
        memset(histogram, 0, sizeof *histogram);
    }
}

/* The value at `rank`, counted from 0 in ascending order. The values of one counter are assumed to
 * be spread evenly over its range. */
static double value_at(const kiln_histogram *histogram, uint64_t rank)
{
    uint64_t before = 0;
    size_t index = index_of(histogram->minimum);
    while (before + histogram->counters[index] <= rank) {
        before += histogram->counters[index++];
    }
    double width = 0;
    const double begin = begin_of(index, &width);
    const double place = ((double)(rank - before) + 0.5) / (double)histogram->counters[index];
    const double value = width > 1 ? begin + place * width : begin;
    const double low = (double)histogram->minimum;
    const double high = (double)histogram->maximum;
    return value < low ? low : value > high ? high : value;
}

double kiln_histogram_percentile(const kiln_histogram *histogram, double percent)
{
    if (histogram == NULL || histogram->count == 0) {
        return 0;
    }
    return value_at(histogram, kln_percentile_rank(histogram->count, percent));
}

static double median_of(const kiln_histogram *histogram)
{
    const uint64_t middle = histogram->count / 2;
    const double upper = value_at(histogram, middle);
    return histogram->count % 2 == 1 ? upper : (value_at(histogram, middle - 1) + upper) / 2;
}

static double deviation_of(const kiln_histogram *histogram, double mean)
{
    double squares = 0;
    const size_t last = index_of(histogram->maximum);
    for (size_t i = index_of(histogram->minimum); i <= last; i++) {
        if (histogram->counters[i] != 0) {
            const double off = middle_of(i) - mean;
            squares += off * off * (double)histogram->counters[i];
        }
    }
    return sqrt(squares / (double)histogram->count);
}

kiln_status kiln_histogram_summarize(const kiln_histogram *histogram,
                                     kiln_histogram_summary *summary)
{
    KLN_RETURN_IF_NULL(histogram, summary);
    kiln_histogram_summary found = {.struct_size = sizeof found, .count = histogram->count};
    if (histogram->count != 0) {
        found.minimum = histogram->minimum;
        found.maximum = histogram->maximum;
        found.mean = (double)(histogram->sum / (long double)histogram->count);
        found.deviation = deviation_of(histogram, found.mean);
        found.median = median_of(histogram);
        found.p90 = kiln_histogram_percentile(histogram, 90);
        found.p95 = kiln_histogram_percentile(histogram, 95);
        found.p99 = kiln_histogram_percentile(histogram, 99);
        found.p999 = kiln_histogram_percentile(histogram, 99.9);
    }
    return kln_info_write(__func__, summary, &found, sizeof found);
}

uint64_t kiln_histogram_count(const kiln_histogram *histogram, double low, double high)
{
    uint64_t count = 0;
    if (histogram == NULL || histogram->count == 0) {
        return 0;
    }
    const size_t last = index_of(histogram->maximum);
    for (size_t i = index_of(histogram->minimum); i <= last; i++) {
        if (histogram->counters[i] != 0 && middle_of(i) >= low && middle_of(i) < high) {
            count += histogram->counters[i];
        }
    }
    return count;
}
