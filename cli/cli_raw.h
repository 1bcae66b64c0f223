/*
 * cli_raw.h - Kiln beside the library under it, called directly.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CLI_RAW_H
#define KILN_CLI_RAW_H

#include "cli.h"

/* Nanoseconds of one inference each; pair i ran one after the other. */
typedef struct cli_raw_times {
    uint64_t *kiln;
    uint64_t *raw;
    size_t count;
    size_t capacity;
} cli_raw_times;

/* Runs `context` through Kiln and through the library alone in turns, each first in every other
 * pair, for `seconds` and at least `least` pairs. It has run with what is bound. */
kiln_status cli_raw_measure(kiln_context *context, double seconds, size_t least,
                            cli_raw_times *found);

/* The median of the ratio within a pair, and of the difference in nanoseconds. */
void cli_raw_between(const cli_raw_times *found, double *ratio, double *difference);

/* A table; sorts the times, so that they no longer belong to pairs. */
void cli_raw_print(cli_raw_times *found, const char *library);
void cli_raw_finish(cli_raw_times *found);

#endif
