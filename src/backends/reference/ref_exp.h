/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential functions of rows of floats, several at a time, in double. */
#ifndef REF_EXP_H
#define REF_EXP_H

#include <stdint.h>
#include <string.h>

/* x = k ln 2 + r with |r| <= ln 2 / 2, and e^r - 1 by a polynomial of degree 10 through the
 * Chebyshev nodes of [-0.3466, 0.3466], whose error is 2^-50. */

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

/* Of every float, rounded to float, these give what the C library's functions in double give:
 * slow.every_float tries each. */
void ref_exp_floats(int64_t n, const float *x, float *y);
void ref_logistic_floats(int64_t n, const float *x, float *y);
void ref_tanh_floats(int64_t n, const float *x, float *y);

/* e[i] = e^(x[i] - less), where no x is greater, and their sum: every sixteenth is added to the
 * same partial sum. These doubles are the same on every machine. */
double ref_exp_row(int64_t n, const float *x, double less, double *e);
/* e[i] = e^(x[i] - less[i]), which is added to sums[i]. Likewise. */
void ref_exp_each(int64_t n, const float *x, const double *less, double *e, double *sums);
/* The same faster, on some machines in another order, and each within 2^-49 of the C library's. */
double ref_exp_row_near(int64_t n, const float *x, double less, double *e);
double ref_exp_row_of_doubles(int64_t n, const double *x, double less, double *e);
void ref_exp_each_near(int64_t n, const float *x, const double *less, double *e, double *sums);

#endif
