/* SPDX-License-Identifier: Apache-2.0 */
#include <kiln/histogram.h>

#include <time.h>

#include "kln_base.h"

uint64_t kln_now(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * UINT64_C(1000000000) + (uint64_t)now.tv_nsec;
}

uint64_t kiln_clock_now(void)
{
    return kln_now();
}
