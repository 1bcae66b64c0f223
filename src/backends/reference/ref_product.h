/* SPDX-License-Identifier: Apache-2.0 */
/* Sums of products in a fixed order, many at a time.
 *
 * A sum runs from its first product to its last; each product is rounded, and then the sum, so a
 * result never depends on the machine. The product of two floats is exact in double. Machines
 * differ only in how many sums they compute side by side: up to REF_SIDE columns of four rows. */
#ifndef REF_PRODUCT_H
#define REF_PRODUCT_H

#include "ref_internal.h"

#define REF_SIDE 24  /* columns of a panel */
#define REF_VECTOR 8 /* a multiple of those that a kernel takes at once */
#define REF_ROWS 4

/* tile[r * stride + c] += rows[r][offsets[k]] * panel[k][c] for k from 0 to count - 1, in that
 * order; of `width` columns, and of those behind them up to a multiple of REF_VECTOR. `offsets`
 * NULL: k itself. With one row the others are not looked at. */
typedef void (*ref_sum_function)(int64_t count, const int64_t *offsets,
                                 const double *const rows[REF_ROWS], const double *panel, int width,
                                 double *tile, int64_t stride, int row_count);

#define REF_SUM_KERNELS 3

/* Those that this machine has, the widest first; how many. All give the same. `exact`: a double
 * holds each product, so that whether it is rounded before it is added makes no difference. */
size_t ref_sum_kernels(bool exact, ref_sum_function kernels[REF_SUM_KERNELS]);
/* The widest. */
ref_sum_function ref_sum_kernel(bool exact);
#define REF_PIXELS 32

/* tile[c] += factors[k] * x[offsets[k] + c] for REF_PIXELS c, likewise. */
typedef void (*ref_pixel_function)(int64_t count, const int64_t *offsets, const double *factors,
                                   const double *x, double *tile);
/* The widest. */
ref_pixel_function ref_pixel_kernel(bool exact);
/* Whether a double holds each product of elements of such types, integers less a zero point too. */
static inline bool ref_is_exact(kiln_dtype a, kiln_dtype b)
{
    const bool floats =
        ref_domain_of(a) == REF_DOMAIN_FLOAT && ref_domain_of(b) == REF_DOMAIN_FLOAT;
    const unsigned most = floats ? 32 : 16;
    return kiln_dtype_bits(a) <= most && kiln_dtype_bits(b) <= most;
}

/* A matrix that is read where it lies: float32 or double, element (k, c) at k * row + c * column.
 */
typedef struct ref_matrix {
    const float *floats; /* or NULL */
    const double *doubles;
    int64_t row, column;
    bool exact; /* see ref_sum_kernels */
} ref_matrix;

/* The matrix from one of its elements on. */
static inline ref_matrix ref_matrix_at(const ref_matrix *matrix, int64_t element)
{
    ref_matrix from = *matrix;
    if (from.floats != NULL) {
        from.floats += element;
    } else {
        from.doubles += element;
    }
    return from;
}

/* `tensor` as a matrix that is read where it lies, where it can be; where its rows and columns lie
 * is the caller's to say. */
KILN_MUST_CHECK kiln_status ref_matrix_of(ref_call *call, const ref_tensor *tensor,
                                          ref_matrix *matrix);
/* The same for one row and exact products with floats that lie together by rows or by columns.
 * (ref_product_row.c) */
void ref_multiply_row(int64_t inner, int64_t columns, const double *a, const ref_matrix *b,
                      double *out);
/* out += a * b, where a has `rows` x `inner` elements, b `inner` x `columns`. */
void ref_multiply_matrix(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const ref_matrix *b, double *out, int64_t out_stride);

/* The same by a copy of b that serves several products, ref_panels_count doubles; each product is
 * rounded. */
int64_t ref_panels_count(int64_t inner, int64_t columns);
void ref_pack_panels(int64_t inner, int64_t columns, const ref_matrix *b, double *panels);
void ref_multiply_panels(int64_t rows, int64_t inner, int64_t columns, const double *a,
                         int64_t a_stride, const double *panels, double *out, int64_t out_stride);

/* y = alpha * (a * b) + beta * bias, where a row of b is a column of the product. */
typedef struct ref_turned {
    int64_t rows, inner, columns;
    const double *a; /* floats, `rows` of `inner` */
    const float *b;
    int64_t b_stride; /* from one of its `columns` rows to the next */
    double alpha, beta;
    const double *bias; /* of each result; NULL: none */
    double *room;       /* (columns + 1) * rows */
    float *y;
} ref_turned;

/* What a sum of products in their order gives, found faster. By kernel `index` of those that this
 * machine has, the widest first; false where there is none, or too few terms for it.
 * (ref_product_turned.c) */
bool ref_multiply_turned(size_t index, const ref_turned *product);

#endif
