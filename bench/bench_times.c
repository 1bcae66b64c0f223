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

void bench_require(kiln_status status)
{
    if (status != KILN_OK) {
        (void)fprintf(stderr, "kiln: %s\n", kiln_error_message());
        exit(1);
    }
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
