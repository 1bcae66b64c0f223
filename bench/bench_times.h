/*
 * bench_times.h - the clock of all measurements, and what is said of a few times.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BENCH_TIMES_H
#define BENCH_TIMES_H

#include <stddef.h>
#include <stdint.h>

/* Nanoseconds of CLOCK_MONOTONIC, and milliseconds. */
uint64_t bench_now(void);
double bench_milliseconds(void);

/* The value in the middle; sorts `values`. */
double bench_median(double *values, size_t count);

#endif
