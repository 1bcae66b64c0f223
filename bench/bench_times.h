/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of all measurements, and what is said of a few times; calls that must work. */
#ifndef BENCH_TIMES_H
#define BENCH_TIMES_H

#include <stddef.h>
#include <stdint.h>

#include <kiln/status.h>

/* Nanoseconds of CLOCK_MONOTONIC, and milliseconds. */
uint64_t bench_now(void);
double bench_milliseconds(void);

/* The value in the middle; sorts `values`. */
double bench_median(double *values, size_t count);

/* A field of /proc/self/status, "VmHWM:", in KiB. */
double bench_memory(const char *field);

/* What failed ends the program with its sentence. */
void bench_require(kiln_status status);

#endif
