/* SPDX-License-Identifier: Apache-2.0 */
#include "ref_ops.h"
#include "ref_product.h"

#define TILE 256

/* Adds up to four rows of b, weighted by a, to a row of out; every element adds the products in
 * order. */
#define DEFINE_ROW(name, type, add)                                                                \
    static void name(int64_t count, int64_t width, const type *a, const type *b, int64_t b_stride, \
                     type *out)                                                                    \
    {                                                                                              \
        if (count == 4) {                                                                          \
            const type *b1 = b + b_stride;                                                         \
            const type *b2 = b1 + b_stride;                                                        \
            const type *b3 = b2 + b_stride;                                                        \
            for (int64_t c = 0; c < width; c++) {                                                  \
                const type half = add(add(out[c], a[0], b[c]), a[1], b1[c]);                       \
                out[c] = add(add(half, a[2], b2[c]), a[3], b3[c]);                                 \
            }                                                                                      \
            return;                                                                                \
        }                                                                                          \
        for (int64_t k = 0; k < count; k++) {                                                      \
            for (int64_t c = 0; c < width; c++) {                                                  \
                out[c] = add(out[c], a[k], b[k * b_stride + c]);                                   \
            }                                                                                      \
        }                                                                                          \
    }

/* Reads rows of b once for four rows of a, while a tile of out stays in the cache. */
#define DEFINE_MULTIPLY(name, row, type)                                                        \
    void name(int64_t rows, int64_t inner, int64_t columns, const type *a, int64_t a_stride,    \
              const type *b, int64_t b_stride, type *out, int64_t out_stride)                   \
    {                                                                                           \
        for (int64_t j = 0; j < columns; j += TILE) {                                           \
            const int64_t width = columns - j < TILE ? columns - j : TILE;                      \
            for (int64_t i = 0; i < rows; i += 4) {                                             \
                const int64_t end = rows - i < 4 ? rows : i + 4;                                \
                for (int64_t k = 0; k < inner; k += 4) {                                        \
                    const int64_t count = inner - k < 4 ? inner - k : 4;                        \
                    for (int64_t r = i; r < end; r++) {                                         \
                        row(count, width, a + r * a_stride + k, b + k * b_stride + j, b_stride, \
                            out + r * out_stride + j);                                          \
                    }                                                                           \
                }                                                                               \
            }                                                                                   \
        }                                                                                       \
    }
#define ADD_INT(sum, x, y) ((int64_t)((uint64_t)(sum) + (uint64_t)(x) * (uint64_t)(y)))

DEFINE_ROW(add_int_rows, int64_t, ADD_INT)
DEFINE_MULTIPLY(ref_multiply_int, add_int_rows, int64_t)

void ref_multiply(int64_t rows, int64_t inner, int64_t columns, const double *a, int64_t a_stride,
                  const double *b, int64_t b_stride, double *out, int64_t out_stride)
{
    const ref_matrix matrix = {.doubles = b, .row = b_stride, .column = 1};
    ref_multiply_matrix(rows, inner, columns, a, a_stride, &matrix, out, out_stride);
}

/* The shapes of a product by NumPy's rules: a vector is a row on the left, and a column on the
 * right. */
typedef struct product {
    int64_t rows, inner, columns;
    int rank; /* of the result */
    int64_t dims[REF_RANK];
    ref_walk batches; /* operands: result, a, b; in units of matrices */
} product;

static kiln_status plan_product(ref_call *call, const ref_tensor *a, const ref_tensor *b,
                                product *p)
{
    KLN_RETURN_IF(a->rank == 0 || b->rank == 0, KILN_ERROR_RANK,
                  "a scalar cannot be multiplied as a matrix");
    p->rows = a->rank > 1 ? a->dims[a->rank - 2] : 1;
    p->inner = a->dims[a->rank - 1];
    p->columns = b->rank > 1 ? b->dims[b->rank - 1] : 1;
    const int64_t b_rows = b->rank > 1 ? b->dims[b->rank - 2] : b->dims[0];
    KLN_RETURN_IF(b_rows != p->inner, KILN_ERROR_SHAPE,
                  "%lld columns cannot be multiplied with %lld rows", (long long)p->inner,
                  (long long)b_rows);
    ref_tensor a_batch = {.rank = a->rank > 2 ? a->rank - 2 : 0};
    ref_tensor b_batch = {.rank = b->rank > 2 ? b->rank - 2 : 0};
    memcpy(a_batch.dims, a->dims, sizeof a_batch.dims);
    memcpy(b_batch.dims, b->dims, sizeof b_batch.dims);
    ref_tensor batch = {.rank = 0};
    KLN_RETURN_IF_ERROR(ref_broadcast(call, a_batch.rank, a_batch.dims, b_batch.rank, b_batch.dims,
                                      &batch.rank, batch.dims));
    ref_walk_init(&p->batches, batch.rank, batch.dims);
    ref_walk_add_broadcast(&p->batches, &batch);
    ref_walk_add_broadcast(&p->batches, &a_batch);
    ref_walk_add_broadcast(&p->batches, &b_batch);
    ref_walk_begin(&p->batches);
    KLN_RETURN_IF_ERROR(ref_count(batch.rank, batch.dims, &batch.count));
    KLN_RETURN_IF_ERROR(ref_spend(
        call, (double)batch.count * (double)p->rows * (double)p->inner * (double)p->columns));
    memcpy(p->dims, batch.dims, sizeof p->dims);
    p->rank = batch.rank;
    if (a->rank > 1) {
        p->dims[p->rank++] = p->rows;
    }
    if (b->rank > 1) {
        p->dims[p->rank++] = p->columns;
    }
    return KILN_OK;
}

/* Computes into `out` or, if there is `y`, one matrix after the other, each stored there from
 * `out`. */
static void multiply_floats(product *p, const double *a, const ref_matrix *b, double *out,
                            ref_tensor *y)
{
    const int64_t size = p->rows * p->columns;
    while (ref_walk_next(&p->batches)) {
        for (int64_t i = 0; i < p->batches.length; i++) {
            const int64_t *o = p->batches.offset;
            const int64_t *s = p->batches.step;
            const ref_matrix matrix = ref_matrix_at(b, (o[2] + i * s[2]) * p->inner * p->columns);
            const int64_t to = (o[0] + i * s[0]) * size;
            double *into = out + (y != NULL ? 0 : to);
            memset(into, 0, (size_t)size * sizeof *into);
            ref_multiply_matrix(p->rows, p->inner, p->columns,
                                a + (o[1] + i * s[1]) * p->rows * p->inner, p->inner, &matrix, into,
                                p->columns);
            if (y != NULL) {
                ref_store_float(y, to, 1, size, into);
            }
        }
    }
}

/* Multiplies by a single column, which is a row of the transposed product. */
/* NOLINTNEXTLINE(readability-non-const-parameter): both are written through `turned` */
static bool multiply_by_column(product *p, const float *a, const double *b, double *room, float *y)
{
    while (ref_walk_next(&p->batches)) {
        for (int64_t i = 0; i < p->batches.length; i++) {
            const int64_t *o = p->batches.offset;
            const int64_t *s = p->batches.step;
            const ref_turned turned = {.rows = 1,
                                       .inner = p->inner,
                                       .columns = p->rows,
                                       .a = b + (o[2] + i * s[2]) * p->inner,
                                       .b = a + (o[1] + i * s[1]) * p->rows * p->inner,
                                       .b_stride = p->inner,
                                       .alpha = 1.0,
                                       .room = room,
                                       .y = y + (o[0] + i * s[0]) * p->rows};
            if (!ref_multiply_turned(0, &turned)) {
                return false; /* can only be the first one */
            }
        }
    }
    return true;
}

static void multiply_ints(product *p, const int64_t *a, const int64_t *b, int64_t *out)
{
    while (ref_walk_next(&p->batches)) {
        for (int64_t i = 0; i < p->batches.length; i++) {
            const int64_t *o = p->batches.offset;
            const int64_t *s = p->batches.step;
            ref_multiply_int(p->rows, p->inner, p->columns,
                             a + (o[1] + i * s[1]) * p->rows * p->inner, p->inner,
                             b + (o[2] + i * s[2]) * p->inner * p->columns, p->columns,
                             out + (o[0] + i * s[0]) * p->rows * p->columns, p->columns);
        }
    }
}

static kiln_status product_of_ints(ref_call *call, const ref_tensor *a, const ref_tensor *b,
                                   product *p, ref_tensor *y)
{
    int64_t *left = NULL;
    int64_t *right = NULL;
    int64_t *out = NULL;
    KLN_RETURN_IF_ERROR(ref_ints(call, a, &left));
    KLN_RETURN_IF_ERROR(ref_ints(call, b, &right));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *out, &out));
    memset(out, 0, (size_t)y->count * sizeof *out);
    multiply_ints(p, left, right, out);
    ref_store_int(y, 0, 1, y->count, out);
    return KILN_OK;
}

static kiln_status ref_op_matmul(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_tensor *b = ref_input(call, 1);
    ref_tensor *y = NULL;
    product p = {0};
    KLN_RETURN_IF_ERROR(plan_product(call, a, b, &p));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, a->dtype, p.rank, p.dims, &y));
    if (ref_domain_of(a->dtype) != REF_DOMAIN_FLOAT) {
        return product_of_ints(call, a, b, &p, y);
    }
    double *left = NULL;
    double *out = NULL;
    ref_matrix right;
    const bool floats = a->dtype == KILN_DTYPE_FLOAT32 && b->dtype == KILN_DTYPE_FLOAT32;
    const int64_t size = y->count > 0 ? p.rows * p.columns : 0;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(size + 1), sizeof *out, &out));
    if (floats && p.columns == 1 && p.rows > 1) {
        double *column = NULL;
        product again = p;
        KLN_RETURN_IF_ERROR(ref_doubles(call, b, &column));
        if (multiply_by_column(&again, a->data, column, out, y->data)) {
            return KILN_OK;
        }
    }
    KLN_RETURN_IF_ERROR(ref_doubles(call, a, &left));
    KLN_RETURN_IF_ERROR(ref_matrix_of(call, b, &right));
    right.row = p.columns;
    right.column = 1;
    right.exact = ref_is_exact(a->dtype, b->dtype);
    if (y->count > 0) {
        multiply_floats(&p, left, &right, out, y);
    }
    return KILN_OK;
}

/* Reads zero points and scales of a matrix: a single one, one for each row of the left operand or
 * column of the right one, or of the operand's rank with a 1 in the shared dimension. */
static double at_row(const ref_tensor *values, double otherwise, int64_t row, int64_t index,
                     int64_t matrix)
{
    if (values == NULL || values->count == 1) {
        return values != NULL ? ref_get_float(values, 0) : otherwise;
    }
    const int64_t each = values->rank > 2
                             ? values->dims[values->rank - 1] * values->dims[values->rank - 2]
                             : values->count;
    return ref_get_float(values, (index / matrix * each + row % each) % values->count);
}

/* The same for `count` rows (or columns) of the matrix that starts at `index`. */
static void list_rows(const ref_tensor *values, double otherwise, int64_t count, int64_t index,
                      int64_t matrix, double *list)
{
    for (int64_t i = 0; i < count; i++) {
        list[i] = at_row(values, otherwise, i, index, matrix);
    }
}

/* Checks that there is a single one, or one for each of `count` rows (or columns); with a rank of
 * its own, possibly for each matrix. */
static kiln_status fit_rows(const ref_tensor *values, int64_t count, const char *rows)
{
    KLN_RETURN_IF(
        values != NULL && values->count != 1 &&
            (values->rank < 2 || count == 0 || values->count == 0 ? values->count != count
                                                                  : values->count % count != 0),
        KILN_ERROR_SHAPE,
        "a scale or zero point has %lld elements; one is needed, or one for each of %lld %s",
        (long long)values->count, (long long)count, rows);
    return KILN_OK;
}

static kiln_status centred(ref_call *call, const ref_tensor *x, const ref_tensor *zero, bool left,
                           double **values)
{
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, values));
    const int64_t columns = x->rank > 0 ? x->dims[x->rank - 1] : 1;
    const int64_t rows = x->rank > 1 ? x->dims[x->rank - 2] : 1;
    double *zeros = NULL;
    KLN_RETURN_IF_ERROR(fit_rows(zero, left ? rows : columns, left ? "rows" : "columns"));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(left ? rows : columns), sizeof *zeros, &zeros));
    for (int64_t i = 0; i < x->count; i += columns) {
        if (i % (rows * columns) == 0) {
            list_rows(zero, 0.0, left ? rows : columns, i, rows * columns, zeros);
        }
        const double row = left ? zeros[i / columns % rows] : 0.0;
        double *to = *values + i;
        for (int64_t c = 0; c < columns; c++) {
            to[c] -= left ? row : zeros[c];
        }
    }
    return KILN_OK;
}

static kiln_status quantized_product(ref_call *call, const ref_tensor *a, const ref_tensor *a_zero,
                                     const ref_tensor *b, const ref_tensor *b_zero, product *p,
                                     double **out)
{
    double *left = NULL;
    double *right = NULL;
    KLN_RETURN_IF_ERROR(plan_product(call, a, b, p));
    KLN_RETURN_IF_ERROR(centred(call, a, a_zero, true, &left));
    KLN_RETURN_IF_ERROR(centred(call, b, b_zero, false, &right));
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_count(p->rank, p->dims, &count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof **out, out));
    const ref_matrix matrix = {.doubles = right,
                               .row = p->columns,
                               .column = 1,
                               .exact = ref_is_exact(a->dtype, b->dtype)};
    if (count > 0) {
        multiply_floats(p, left, &matrix, *out, NULL);
    }
    return KILN_OK;
}

static kiln_status ref_op_matmul_integer(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_tensor *b = ref_input(call, 1);
    ref_tensor *y = NULL;
    product p = {0};
    double *out = NULL;
    KLN_RETURN_IF_ERROR(
        quantized_product(call, a, ref_input(call, 2), b, ref_input(call, 3), &p, &out));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, KILN_DTYPE_INT32, p.rank, p.dims, &y));
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

static kiln_status ref_op_qlinear_matmul(ref_call *call)
{
    const ref_tensor *t[8];
    for (size_t i = 0; i < 8; i++) {
        KLN_RETURN_IF_ERROR(ref_need_number(call, i, &t[i]));
    }
    ref_tensor *y = NULL;
    product p = {0};
    double *out = NULL;
    KLN_RETURN_IF_ERROR(quantized_product(call, t[0], t[2], t[3], t[5], &p, &out));
    KLN_RETURN_IF_ERROR(fit_rows(t[4], p.columns, "columns"));
    static const size_t by_row[] = {1, 6, 7};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(by_row); i++) {
        KLN_RETURN_IF_ERROR(fit_rows(t[by_row[i]], p.rows, "rows"));
    }
    KLN_RETURN_IF_ERROR(ref_output(call, 0, t[7]->dtype, p.rank, p.dims, &y));
    double *scales = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)p.columns, sizeof *scales, &scales));
    const int64_t matrix = p.rows * p.columns;
    for (int64_t i = 0; i < y->count; i += p.columns) {
        const int64_t row = i / p.columns % p.rows;
        if (row == 0) {
            list_rows(t[4], 1.0, p.columns, i, matrix, scales);
        }
        const double a = at_row(t[1], 1.0, row, i, matrix);
        const double divisor = at_row(t[6], 1.0, row, i, matrix);
        for (int64_t c = 0; c < p.columns; c++) {
            out[i + c] *= a * scales[c] / divisor;
        }
        ref_put_quantized(y, i, p.columns, out + i, at_row(t[7], 0.0, row, i, matrix));
    }
    return KILN_OK;
}

/* The left operand of a Gemm by rows of the result. */
static kiln_status rows_of(ref_call *call, const ref_tensor *x, bool flip, double **values)
{
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, values));
    if (!flip) {
        return KILN_OK;
    }
    double *turned = NULL;
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)x->count, sizeof *turned, &turned));
    for (int64_t c = 0; c < x->dims[1]; c++) {
        for (int64_t r = 0; r < x->dims[0]; r++) {
            turned[c * x->dims[0] + r] = (*values)[r * x->dims[1] + c];
        }
    }
    *values = turned;
    return KILN_OK;
}

kiln_status ref_spread(ref_call *call, const ref_tensor *tensor, int rank, const int64_t *dims,
                       double **values)
{
    int result = 0;
    int64_t both[REF_RANK];
    int64_t count = 0;
    KLN_RETURN_IF_ERROR(ref_broadcast(call, rank, dims, tensor->rank, tensor->dims, &result, both));
    KLN_RETURN_IF(result != rank || memcmp(both, dims, (size_t)rank * sizeof(int64_t)) != 0,
                  KILN_ERROR_SHAPE, "an operand has more elements than what it is added to");
    KLN_RETURN_IF_ERROR(ref_count(rank, dims, &count));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)count, sizeof **values, values));
    int64_t dense[REF_RANK];
    ref_dense_strides(rank, dims, dense);
    ref_walk walk;
    ref_walk_init(&walk, rank, dims);
    ref_walk_add(&walk, dense);
    ref_walk_add_broadcast(&walk, tensor);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        ref_load_float(tensor, walk.offset[1], walk.step[1], walk.length, *values + walk.offset[0]);
    }
    return KILN_OK;
}

/* Integers are exact and wrap; a factor other than 1 is a real number. */
static kiln_status gemm_ints(ref_call *call, const ref_tensor *const operands[3], bool a_flip,
                             bool b_flip, ref_tensor *y)
{
    int64_t dense[REF_RANK];
    int64_t added[REF_RANK] = {0};
    const ref_tensor *a = operands[0];
    const ref_tensor *b = operands[1];
    const ref_tensor *c = operands[2];
    const int64_t inner = a->dims[a_flip ? 0 : 1];
    const double alpha = ref_attribute_float(call, "alpha", 1.0);
    const double beta = ref_attribute_float(call, "beta", 1.0);
    for (int i = 0; c != NULL && i < c->rank; i++) {
        ref_dense_strides(c->rank, c->dims, dense);
        added[i + 2 - c->rank] = c->dims[i] == 1 ? 0 : dense[i];
    }
    for (int64_t i = 0; i < y->count; i++) {
        const int64_t row = i / y->dims[1];
        const int64_t column = i % y->dims[1];
        uint64_t sum = 0;
        for (int64_t k = 0; k < inner; k++) {
            const int64_t left = a_flip ? k * a->dims[1] + row : row * inner + k;
            const int64_t right = b_flip ? column * inner + k : k * b->dims[1] + column;
            sum += (uint64_t)ref_get_int(a, left) * (uint64_t)ref_get_int(b, right);
        }
        const int64_t bias = c != NULL ? ref_get_int(c, row * added[0] + column * added[1]) : 0;
        if (alpha == 1.0 && beta == 1.0) {
            ref_put_int(y, i, (int64_t)(sum + (uint64_t)bias));
        } else {
            const bool wide = y->dtype == KILN_DTYPE_UINT64;
            const double whole = wide ? (double)sum : (double)(int64_t)sum;
            const double addend = wide ? (double)(uint64_t)bias : (double)bias;
            ref_put_float(y, i, alpha * whole + beta * addend);
        }
    }
    return KILN_OK;
}

static kiln_status ref_op_gemm(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_tensor *b = ref_input(call, 1);
    const ref_tensor *c = ref_input(call, 2);
    ref_tensor *y = NULL;
    KLN_RETURN_IF(a->rank != 2 || b->rank != 2, KILN_ERROR_RANK,
                  "matrices are needed, found %d and %d dimensions", a->rank, b->rank);
    const bool a_flip = ref_attribute_int(call, "transA", 0) != 0;
    const bool b_flip = ref_attribute_int(call, "transB", 0) != 0;
    const int64_t inner = a->dims[a_flip ? 0 : 1];
    const int64_t dims[2] = {a->dims[a_flip ? 1 : 0], b->dims[b_flip ? 0 : 1]};
    KLN_RETURN_IF(b->dims[b_flip ? 1 : 0] != inner, KILN_ERROR_SHAPE,
                  "%lld columns cannot be multiplied with %lld rows", (long long)inner,
                  (long long)b->dims[b_flip ? 1 : 0]);
    double *left = NULL;
    ref_matrix right;
    double *out = NULL;
    double *bias = NULL;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, a->dtype, 2, dims, &y));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)y->count * (double)inner));
    if (c != NULL) {
        KLN_RETURN_IF_ERROR(ref_spread(call, c, 2, dims, &bias));
    }
    if (ref_domain_of(a->dtype) != REF_DOMAIN_FLOAT) {
        return gemm_ints(call, (const ref_tensor *const[3]){a, b, c}, a_flip, b_flip, y);
    }
    KLN_RETURN_IF_ERROR(rows_of(call, a, a_flip, &left));
    KLN_RETURN_IF_ERROR(ref_matrix_of(call, b, &right));
    right.row = b_flip ? 1 : b->dims[1];
    right.column = b_flip ? b->dims[1] : 1;
    right.exact = ref_is_exact(a->dtype, b->dtype);
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(y->count + dims[0]), sizeof *out, &out));
    const double alpha = ref_attribute_float(call, "alpha", 1.0);
    const double beta = ref_attribute_float(call, "beta", 1.0);
    const ref_turned turned = {dims[0], inner, dims[1], left, right.floats, inner,
                               alpha,   beta,  bias,    out,  y->data};
    if (b_flip && a->dtype == KILN_DTYPE_FLOAT32 && right.floats != NULL &&
        ref_multiply_turned(0, &turned)) {
        return KILN_OK;
    }
    memset(out, 0, (size_t)y->count * sizeof *out);
    ref_multiply_matrix(dims[0], inner, dims[1], left, inner, &right, out, dims[1]);
    for (int64_t i = 0; i < y->count; i++) {
        out[i] = alpha * out[i] + (bias != NULL ? beta * bias[i] : 0.0);
    }
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_matmul[] = {
    REF_OP("MatMul", 1, matmul, 0, "nn"),
    REF_OP("Gemm", 1, gemm, 0, "nn"),
    REF_OP("MatMulInteger", 10, matmul_integer, 0, "nn"),
    REF_OP("QLinearMatMul", 10, qlinear_matmul, 0),
    REF_KERNELS_END
};
/* clang-format on */
