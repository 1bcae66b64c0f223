/*
 * histogram.h - statistics of many measured times in a fixed amount of memory.
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
 * A histogram counts values but does not store them. It has one counter for each value below 2,048
 * and 1,024 for each power of two above, so what is read back differs by at most a thousandth from
 * what was recorded, whatever its size. It takes 440 KiB, allocated once. Minimum, maximum, count
 * and mean are exact.
 *
 * One thread at a time may use a histogram. Give each measuring thread its own, and combine them
 * with kiln_histogram_add.
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

/* The time in nanoseconds of the clock that Kiln uses for all its times (CLOCK_MONOTONIC). Any
 * thread. Since 0.1. */
KILN_API uint64_t kiln_clock_now(void);

typedef struct kiln_histogram kiln_histogram;

/* Statistics in the unit of the recorded values, except `count`; all 0 for an empty histogram. */
typedef struct kiln_histogram_summary {
    size_t struct_size; /* sizeof(kiln_histogram_summary), set by the caller */
    uint64_t count;
    uint64_t minimum;
    uint64_t maximum;
    double mean;
    double deviation; /* standard deviation over all values */
    double median;    /* the middle value, or the mean of the two in the middle */
    double p90;       /* kiln_histogram_percentile(90), and so on */
    double p95;
    double p99;
    double p999;
} kiln_histogram_summary;

/* Creates an empty histogram. Errors: NULL_ARGUMENT; OUT_OF_MEMORY. On an error `*histogram` is
 * NULL. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_create(kiln_histogram **histogram);

/* Destroys a histogram. NULL is allowed. Since 0.1. */
KILN_API void kiln_histogram_destroy(kiln_histogram *histogram);

/* Counts `value`. Takes a few nanoseconds and allocates nothing. Does nothing for NULL. Since
 * 0.1. */
KILN_API void kiln_histogram_record(kiln_histogram *histogram, uint64_t value);

/* Adds all counts of `other`; the two may be the same. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_add(kiln_histogram *histogram,
                                                        const kiln_histogram *other);

/* Resets all counts. NULL is allowed. Since 0.1. */
KILN_API void kiln_histogram_clear(kiln_histogram *histogram);

/* Computes the statistics. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_histogram_summarize(const kiln_histogram *histogram,
                                                              kiln_histogram_summary *summary);

/* The percentile as trtexec computes it: the largest value that remains after removing the largest
 * (100 - percent) % of the values, rounded down to a whole number of them. With 99, all but the
 * slowest hundredth are at most the result. `percent` is clamped to 0 (the least) and 100 (the
 * largest). 0 for NULL and for an empty histogram. Since 0.1. */
KILN_API double kiln_histogram_percentile(const kiln_histogram *histogram, double percent);

/* The number of values that are at least `low` and below `high`. A counter that spans a bound
 * counts on the side of its middle. 0 for NULL. Since 0.1. */
KILN_API uint64_t kiln_histogram_count(const kiln_histogram *histogram, double low, double high);

#ifdef __cplusplus
}
#endif

#endif
