/*
 * ref_product.h - sums of products in their order, many at a time.
 *
 * A sum is taken from its first product to its last, each product rounded and then the sum, so that
 * a result never depends on the machine. What differs between machines is how many sums are
 * taken side by side: up to REF_SIDE columns of four rows.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef REF_PRODUCT_H
#define REF_PRODUCT_H

#include "ref_internal.h"

#define REF_SIDE 24 /* columns of a panel */
#define REF_ROWS 4

/* tile[r][c] += rows[r][offsets[k]] * panel[k][c] for k from 0 to count - 1, in that order; of
 * REF_SIDE columns. `offsets` NULL: k itself. With one row the others are not looked at. */
typedef void (*ref_sum_function)(int64_t count, const int64_t *offsets,
                                 const double *const rows[REF_ROWS], const double *panel,
                                 double *tile, int row_count);

#define REF_SUM_KERNELS 3

/* Those that this machine has, the widest first; how many. All give the same. */
size_t ref_sum_kernels(ref_sum_function kernels[REF_SUM_KERNELS]);

/* A matrix that is read where it lies: float32 or double, element (k, c) at k * row + c * column.
 */
typedef struct ref_matrix {
    const float *floats; /* or NULL */
    const double *doubles;
    int64_t row, column;
} ref_matrix;

/* out += a * b, where a has `rows` x `inner` elements, b `inner` x `columns`. */
void ref_multiply_matrix(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const ref_matrix *b, double *out, int64_t out_stride);

#endif
