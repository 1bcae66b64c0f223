/* SPDX-License-Identifier: Apache-2.0 */
/* What is found in whole rows: the sum, the mean's distance, the extreme.
 *
 * A sum takes its terms in their order. Several rows are summed side by side, so that no addition
 * waits for the one before it. */
#ifndef REF_ROWS_H
#define REF_ROWS_H

#include "ref_internal.h"

#define REF_BESIDE 16

/* The sums of up to REF_BESIDE rows of `n` neighbouring elements, which begin at `start` and are
 * `stride` apart; with `means` those of the squares of what is left without them, with
 * REF_MAGNITUDES those of the magnitudes. */
extern const double ref_magnitudes[REF_BESIDE];
#define REF_MAGNITUDES ref_magnitudes
void ref_sum_rows(const ref_tensor *x, int64_t start, int64_t stride, int64_t rows, int64_t n,
                  const double *means, double sums[REF_BESIDE]);
/* The greatest (or least) of `n` floats, n > 0; false where one of them is no number. */
bool ref_find_extreme(const float *x, int64_t n, bool most, float *extreme);
/* The index of the first of `n` floats that equals `value`, which one of them does. */
int64_t ref_find_equal(const float *x, int64_t n, float value);

#endif
