/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_times.h"

#include <kiln/histogram.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

uint64_t bench_now(void)
{
    return kiln_clock_now();
}

double bench_milliseconds(void)
{
    return (double)bench_now() / 1e6;
}

static int compare(const void *left, const void *right)
{
    const double a = *(const double *)left;
    const double b = *(const double *)right;
    return a < b ? -1 : a > b;
}

double bench_median(double *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
    return count % 2 == 1 ? values[count / 2] : (values[count / 2 - 1] + values[count / 2]) / 2;
}

uint64_t bench_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * UINT64_C(2685821657736338717);
}

void bench_require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "kiln: %s\n", kiln_error_message());
        exit(1);
    }
}

void *bench_allocate(size_t bytes)
{
    void *memory = calloc(1, bytes > 0 ? bytes : 1);
    if (memory == NULL) {
        (void)fprintf(stderr, "%zu bytes of memory are missing\n", bytes);
        exit(1);
    }
    return memory;
}

void bench_alternate(void (*const run[2])(void *user, size_t turn), void *user, size_t runs,
                     double *medians)
{
    enum { BLOCKS = 100 };
    static double times[3][BLOCKS];
    for (size_t block = 0; block < BLOCKS; block++) {
        for (size_t half = 0; half < 2; half++) {
            const size_t side = (block + half) % 2;
            const uint64_t begin = bench_now();
            for (size_t i = 0; i < runs; i++) {
                run[side](user, i);
            }
            times[side][block] = (double)(bench_now() - begin) / (double)runs;
        }
        times[2][block] = times[0][block] - times[1][block];
    }
    for (size_t i = 0; i < 3; i++) {
        medians[i] = bench_median(times[i], BLOCKS);
    }
}

double bench_processor(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

double bench_memory(const char *field)
{
    char line[256];
    long value = 0;
    FILE *file = fopen("/proc/self/status", "r");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        if (strncmp(line, field, strlen(field)) == 0) {
            value = strtol(line + strlen(field), NULL, 10);
        }
    }
    if (file != NULL) {
        (void)fclose(file);
    }
    return (double)value;
}
