/* SPDX-License-Identifier: Apache-2.0 */
/* Kiln beside the library under it, called directly. */
#ifndef KILN_CLI_RAW_H
#define KILN_CLI_RAW_H

#include "cli.h"

/* Pairs of inferences, one run right after the other. */
typedef struct cli_raw_times {
    kiln_histogram *kiln; /* nanoseconds; NULL where nothing was measured */
    kiln_histogram *raw;
    size_t count;

    /* Within a pair: of every pair, or of every `step`th where they are many. */
    double *ratios;
    double *differences;
    size_t kept;
    size_t step;
} cli_raw_times;

/* Runs `context` through Kiln and through the library alone in turns, each first in every other
 * pair, for `seconds` and at least `least` pairs. It has run with what is bound. */
kiln_status cli_raw_measure(kiln_context *context, double seconds, size_t least,
                            cli_raw_times *found);

/* The median of the ratio within a pair, and of the difference in nanoseconds. Sorts what is kept.
 */
void cli_raw_between(cli_raw_times *found, double *ratio, double *difference);

void cli_raw_print(cli_raw_times *found, const char *library);
void cli_raw_finish(cli_raw_times *found);

#endif
