/* SPDX-License-Identifier: Apache-2.0 */
/* The clock of all measurements, and what is said of a few times; calls that must work. */
#ifndef BENCH_TIMES_H
#define BENCH_TIMES_H

#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include <kiln/status.h>

/* Nanoseconds of CLOCK_MONOTONIC, and milliseconds. */
uint64_t bench_now(void);
double bench_milliseconds(void);

/* Nanoseconds of CLOCK_THREAD_CPUTIME_ID or CLOCK_PROCESS_CPUTIME_ID. */
double bench_processor(clockid_t clock);

/* The value in the middle; sorts `values`. */
double bench_median(double *values, size_t count);

/* A field of /proc/self/status, "VmHWM:", in KiB. */
double bench_memory(const char *field);

/* The next of 64 random bits; `state` is not 0. xorshift64*, S. Vigna, 2016. */
uint64_t bench_random(uint64_t *state);

/* What failed ends the program with its sentence. */
void bench_require(kiln_status status);

/* Zeros, or the end of the program. */
void *bench_allocate(size_t bytes);

/* Two ways in 100 alternating blocks of `runs` runs; each is told the run's number in its block.
 * `medians`: nanoseconds of a run of the first, of the second, and of what the first takes more
 * within a pair of blocks. */
void bench_alternate(void (*const run[2])(void *user, size_t turn), void *user, size_t runs,
                     double *medians);

#endif
