/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/histogram.h>

#include "kln_base.h"

uint64_t kln_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t kln_deadline(int64_t milliseconds)
{
    const int64_t most = INT64_C(1) << 40; /* 34 years */
    return milliseconds < 0 || milliseconds > most ? UINT64_MAX
                                                   : kln_now() + (uint64_t)milliseconds * 1000000;
}

uint64_t kiln_clock_now(void)
{
    return kln_now();
}
