/* SPDX-License-Identifier: Apache-2.0 */
/* Exponential functions of rows of floats, several at a time, in double. */
#ifndef REF_EXP_H
#define REF_EXP_H

#include <stdint.h>

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
void ref_exp_each_near(int64_t n, const float *x, const double *less, double *e, double *sums);

#endif
