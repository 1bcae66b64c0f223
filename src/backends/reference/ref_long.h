/* SPDX-License-Identifier: Apache-2.0 */
/* Conversion of 64-bit integers to doubles and back, for machines without vector instructions for
 * it. Exact below 2^51. */
#ifndef REF_LONG_H
#define REF_LONG_H

#include <stdbool.h>
#include <stdint.h>
#include <string.h>

#define REF_LONG_SHIFT 0x1.8p52 /* leaves a whole number in the lowest bits */
#define REF_LONG_BITS UINT64_C(0x4338000000000000)

/* Not 0 where `v` is not below; the first bit of a number is its sign where it is `is_signed`. */
static inline uint64_t ref_is_long(uint64_t v, bool is_signed)
{
    return (v + (UINT64_C(1) << 51)) >> 52 | (is_signed ? 0 : v >> 63);
}

static inline double ref_double_of(uint64_t v)
{
    const uint64_t bits = v + REF_LONG_BITS;
    double shifted = 0.0;
    memcpy(&shifted, &bits, sizeof shifted);
    return shifted - REF_LONG_SHIFT;
}

static inline uint64_t ref_long_of(double whole)
{
    const double shifted = whole + REF_LONG_SHIFT;
    uint64_t bits = 0;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - REF_LONG_BITS;
}

#endif
