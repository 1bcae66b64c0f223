/* SPDX-License-Identifier: Apache-2.0 */
/* Reductions of whole rows: sum, deviation from the mean, extreme.
 *
 * A sum adds its terms in order. Several rows are summed side by side, so that no addition waits
 * for the previous one. */
#ifndef REF_ROWS_H
#define REF_ROWS_H

#include "ref_internal.h"

#define REF_BESIDE 16

/* Up to REF_BESIDE rows of `n` neighbouring elements, which begin at `start` and are `stride`
 * apart. */
typedef struct ref_block {
    const ref_tensor *x;
    int64_t start, stride, rows, n;
} ref_block;

typedef enum ref_term {
    REF_TERM_PLAIN,
    REF_TERM_MAGNITUDE,
    REF_TERM_SQUARE, /* of what is left without the row's mean, as in the last one */
    REF_TERM_FACTOR, /* the total is a product */
    REF_TERM_SHARE,  /* divided, as is the next one */
    REF_TERM_SQUARE_SHARE
} ref_term;

/* Adds terms to the total of each row; without `means` they are 0. */
void ref_fold_rows(const ref_block *block, ref_term term, const double *means, double divisor,
                   double totals[REF_BESIDE]);
/* The sums of rows; with `means` those of the squares of what is left without them. */
void ref_sum_rows(const ref_tensor *x, int64_t start, int64_t stride, int64_t rows, int64_t n,
                  const double *means, double sums[REF_BESIDE]);
#define REF_COLUMNS 512
/* The same of up to REF_COLUMNS neighbouring columns of `rows` rows that are `step` apart. */
void ref_fold_columns(const ref_tensor *x, int64_t start, int64_t step, int64_t rows, int64_t n,
                      ref_term term, double *totals);
/* The sum of plain, magnitude or square terms in an order of its own; in their order it lies within
 * `doubt`: an addition errs by 2^-53 of the partial sum, and twice as much is allowed for. */
double ref_sum_near(const float *x, int64_t n, ref_term term, double *doubt);
/* Functions of `n` elements of one type, n > 0, the second of each pair for the greatest. */
typedef struct ref_extremes {
    /* The extreme of a row; true where one of them is no number. */
    bool (*find[2])(const void *x, int64_t n, void *extreme);
    /* Of each column, with what `best` holds; no number is it where there is one. */
    void (*best[2])(const void *x, int64_t n, void *best);
    /* Likewise, with the row where it is: the first, or the last; and where there is no number. */
    void (*place[2][2])(const void *x, int64_t n, int32_t row, void *best, int32_t *place,
                        int32_t *odd);
    /* The index of the first (or last) that equals `value`, which one of them does. */
    int64_t (*equal[2])(const void *x, int64_t n, const void *value);
} ref_extremes;

/* NULL where there are none: numbers of that type are widened. (ref_extremes.c) */
const ref_extremes *ref_extremes_of(kiln_dtype dtype);
/* The first (or last) row where the extreme of each column is; -1 where one is no number. */
void ref_place_columns(kiln_dtype dtype, const void *x, int64_t step, int64_t rows, int64_t n,
                       bool most, bool last, int32_t *place);
/* The same of floats: false where one of them is no number. */
bool ref_find_extreme(const float *x, int64_t n, bool most, float *extreme);
int64_t ref_find_equal(const float *x, int64_t n, float value);

#endif
