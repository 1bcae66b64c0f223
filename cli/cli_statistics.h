/* SPDX-License-Identifier: Apache-2.0 */
/* Measured times as a person or a script reads them. The definitions are trtexec's. */
#ifndef KILN_CLI_STATISTICS_H
#define KILN_CLI_STATISTICS_H

#include <stddef.h>
#include <stdint.h>

#include "cli.h"

/* min, mean, median, p90, p95, p99, p99.9 and max, in this order. */
#define CLI_TIME_FIGURES 8
extern const char *const cli_time_names[CLI_TIME_FIGURES];

/* Or the end of the program. */
kiln_histogram *cli_times_create(void);

/* What is said of nanoseconds; all 0 where there are none. */
kiln_histogram_summary cli_times_summarize(const kiln_histogram *times);
void cli_times_figures(const kiln_histogram *times, double figures[CLI_TIME_FIGURES]);

/* A heading for the figures below, with `name` before it, and a row of them. */
void cli_times_table(cli_table *table, const char *name);
void cli_times_row(cli_table *table, const char *name, const kiln_histogram *times);

/* The figures in milliseconds, and the standard deviation by the mean. */
struct cJSON *cli_times_json(const kiln_histogram *times);

/* Nanoseconds as "812 ns", "81.2 us", "8.12 ms" or "8.12 s". */
void cli_duration_format(double nanoseconds, char *text, size_t size);

/* Prints how often times fell into each of a dozen ranges from the least to the 99th percentile,
 * and how many lie above. The ranges are equally wide, or grow by a factor where times differ
 * tenfold. */
void cli_histogram_print(const kiln_histogram *times);

#endif
