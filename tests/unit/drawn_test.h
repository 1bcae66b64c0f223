/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers that are drawn, the same each time, and results that are compared to the bit. */
#ifndef DRAWN_TEST_H
#define DRAWN_TEST_H

#include "kiln_test.h"

static uint64_t random_state = 1;

static inline int64_t draw(int64_t below)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((random_state >> 33) % (uint64_t)below);
}

/* Mostly ordinary numbers; of `strange` in a thousand, zeros of either sign, infinities and NaN. */
static inline float *numbers(int64_t count, int strange)
{
    static const float strange_ones[] = {0.0F, -0.0F, INFINITY, -INFINITY, NAN, 1e-45F, 3e38F};
    float *made = calloc((size_t)count + 1, sizeof *made);
    assert_non_null(made);
    for (int64_t i = 0; i < count; i++) {
        made[i] =
            draw(1000) < strange ? strange_ones[draw(7)] : (float)draw(2000001) / 1000000.0F - 1.0F;
    }
    return made;
}

static inline void expect_bits(const char *what, int64_t count, const double *expected,
                               const float *found)
{
    for (int64_t i = 0; i < count; i++) {
        const float rounded = (float)expected[i];
        const bool same =
            isnan(rounded) ? isnan(found[i]) : memcmp(&rounded, &found[i], sizeof rounded) == 0;
        if (!same) {
            fail_msg("%s: element %lld is %a, %a was found", what, (long long)i, (double)rounded,
                     (double)found[i]);
        }
    }
}

#endif
