/* SPDX-License-Identifier: Apache-2.0 */
#include "bench_times.h"

#include <kiln/histogram.h>
#include <stdlib.h>

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
