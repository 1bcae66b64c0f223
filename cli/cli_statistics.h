/*
 * cli_statistics.h - what many measured times have to say. The definitions are trtexec's.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CLI_STATISTICS_H
#define KILN_CLI_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

/* All in the unit of the times. */
typedef struct cli_statistics {
    size_t count;
    double minimum;
    double mean;
    double median; /* the middle one, or the mean of the two in the middle */
    double p90;    /* see cli_percentile */
    double p95;
    double p99;
    double p999;
    double maximum;
    double deviation; /* standard deviation by the mean, of all */
} cli_statistics;

/* Sorts `times`. `count` is not 0. */
void cli_statistics_make(uint64_t *times, size_t count, cli_statistics *statistics);

/* The time that is left at the top when the slowest (1,000 - thousandths) / 1,000 of `count` sorted
 * times, rounded down to a whole number of them, are put aside. */
double cli_percentile(const uint64_t *sorted, size_t count, unsigned thousandths);

/* Nanoseconds as "812 ns", "81.2 us", "8.12 ms" or "8.12 s". */
void cli_duration_format(double nanoseconds, char *text, size_t size);

/* Prints how often times fell into each of a dozen ranges from the least to the 99th percentile,
 * and how many lie above. The ranges are equally wide, or grow by a factor where times differ
 * tenfold. */
void cli_histogram_print(const uint64_t *sorted, size_t count);

#endif
