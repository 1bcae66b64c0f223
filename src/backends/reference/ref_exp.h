/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential functions in double that a compiler can take several of at once.
 *
 * x = k ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 by a polynomial of degree 10 through the
 * Chebyshev nodes of [-0.3466, 0.3466], whose error is 2^-50. Of every float, rounded to float,
 * the three functions give what the C library's in double give: slow.every_float tries each. */
#ifndef REF_EXP_H
#define REF_EXP_H

#include <math.h>
#include <stdint.h>
#include <string.h>

/* e^x = *power + *power * the result, for |x| < 700. */
static inline double ref_grow(double x, double *power)
{
    const double shift = 0x1.8p52; /* leaves the nearest whole number in the lowest bits */
    const double shifted = x * 0x1.71547652b82fep0 + shift;
    const double k = shifted - shift;
    /* ln 2 in two parts, of which the first times k is exact. */
    const double r = (x - k * 0x1.62e42fefap-1) - k * 0x1.cf79abc9e3b3ap-40;
    const double square = r * r;
    uint64_t bits = 0;
    memcpy(&bits, &shifted, sizeof bits);
    bits = (bits << 52) + UINT64_C(0x3ff0000000000000);
    memcpy(power, &bits, sizeof bits);
    double sum = 0x1.28803f36ecdd5p-22;
    sum = 0x1.a019c9a6c2942p-16 + r * 0x1.72c729cbdb150p-19 + square * sum;
    sum = 0x1.6c16c1738faf6p-10 + r * 0x1.a019ada56ce53p-13 + square * sum;
    sum = 0x1.5555555554cb7p-5 + r * 0x1.1111111c4725cp-7 + square * sum;
    sum = 0x1.0p-1 + r * 0x1.5555555553b79p-3 + square * sum;
    return r + square * sum;
}

/* Past the ends a float is infinite or 0. */
static inline double ref_exp(double x)
{
    double power = 0.0;
    x = x > 150.0 ? 150.0 : x;
    x = x < -150.0 ? -150.0 : x;
    const double more = ref_grow(x, &power);
    return power + power * more;
}

static inline double ref_tanh(double x)
{
    double power = 0.0;
    const double twice = fabs(x) > 20.0 ? 40.0 : 2.0 * fabs(x);
    const double more = ref_grow(twice, &power);
    const double rest = power * more + (power - 1.0); /* e^2|x| - 1 */
    return copysign(rest / (rest + 2.0), x);
}

static inline double ref_logistic(double x)
{
    const double power = ref_exp(x >= 0.0 ? -x : x);
    return (x >= 0.0 ? 1.0 : power) / (1.0 + power);
}

#endif
