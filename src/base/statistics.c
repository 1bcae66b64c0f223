/* SPDX-License-Identifier: Apache-2.0 */
#include <stdlib.h>

#include "kln_base.h"

static int compare(const void *left, const void *right)
{
    const uint64_t a = *(const uint64_t *)left;
    const uint64_t b = *(const uint64_t *)right;
    return (a > b) - (a < b);
}

void kln_sort(uint64_t *values, size_t count)
{
    qsort(values, count, sizeof *values, compare);
}

uint64_t kln_median(uint64_t *values, size_t count)
{
    kln_sort(values, count);
    return values[count / 2];
}

uint64_t kln_percentile_rank(uint64_t count, double percent)
{
    const double within = percent < 0 ? 0 : percent > 100 ? 100 : percent;
    /* The tolerance absorbs rounding: 0.1 % of 1,000 is exactly one. */
    const double aside = (double)count * (100 - within) / 100 + 1e-6;
    return aside < (double)count ? count - 1 - (uint64_t)aside : 0;
}
