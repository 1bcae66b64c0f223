/*
 * histogram.h - what many measured times have to say, in memory that does not grow.
 *
 *     kiln_histogram *times = NULL;
 *     kiln_histogram_create(&times);
 *     const uint64_t begin = kiln_clock_now();
 *     ...
 *     kiln_histogram_record(times, kiln_clock_now() - begin);       // as often as you like
 *     kiln_histogram_summary found = {.struct_size = sizeof found};
 *     kiln_histogram_summarize(times, &found);                      // found.p99
 *     kiln_histogram_destroy(times);
 *
 * Every value is counted, and none is kept: a histogram has one counter for each value below 2,048
 * and 1,024 for each power of two above, so that what is read back is at most a thousandth from
 * what was recorded, whatever its size. It takes 440 KiB, once. Minimum, maximum, count and mean
 * are exact.
 *
 * A histogram is used by one thread at a time; threads that measure have one each, and
 * kiln_histogram_add brings them together.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_HISTOGRAM_H
#define KILN_HISTOGRAM_H

#include <stddef.h>
#include <stdint.h>

#include <kiln/export.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Nanoseconds of the clock that all of Kiln's times are taken with (CLOCK_MONOTONIC). Any thread.
 * Since 0.1. */
KILN_API uint64_t kiln_clock_now(void);

typedef struct kiln_histogram kiln_histogram;

/* All but `count` in the unit of what was recorded; all 0 where nothing was. */
typedef struct kiln_histogram_summary {
    size_t struct_size; /* sizeof(kiln_histogram_summary), set by the caller */
    uint64_t count;
    uint64_t minimum;
    uint64_t maximum;
    double mean;
    double deviation; /* standard deviation of all */
    double median;    /* the middle one, or the mean of the two in the middle */
    double p90;       /* kiln_histogram_percentile(90), and so on */
    double p95;
    double p99;
    double p999;
} kiln_histogram_summary;

/* Makes an empty one. Errors: NULL_ARGUMENT; OUT_OF_MEMORY, `*histogram` is NULL then. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_create(kiln_histogram **histogram);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_histogram_destroy(kiln_histogram *histogram);

/* Counts `value`. Takes a few nanoseconds and allocates nothing. NULL is allowed and does nothing.
 * Since 0.1. */
KILN_API void kiln_histogram_record(kiln_histogram *histogram, uint64_t value);

/* Counts all that `other` counted; the two may be the same. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_add(kiln_histogram *histogram,
                                                        const kiln_histogram *other);

/* Forgets all. NULL is allowed. Since 0.1. */
KILN_API void kiln_histogram_clear(kiln_histogram *histogram);

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_summarize(const kiln_histogram *histogram,
                                                              kiln_histogram_summary *summary);

/* The largest value that is left when the largest (100 - percent) % of all, rounded down to a whole
 * number of them, are put aside, as trtexec counts: 99 gives what all but the slowest hundredth
 * stayed within. `percent` is taken within 0 (the least) and 100 (the largest). 0 for NULL and for
 * an empty histogram. Since 0.1. */
KILN_API double kiln_histogram_percentile(const kiln_histogram *histogram, double percent);

/* How many of the values are at least `low` and below `high`; a counter that lies across a border
 * counts where its middle is. 0 for NULL. Since 0.1. */
KILN_API uint64_t kiln_histogram_count(const kiln_histogram *histogram, double low, double high);

#ifdef __cplusplus
}
#endif

#endif
