/* Matrix products of com.microsoft whose weights have few bits.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_product.h"
#include "ref_step.h"

/* y[i] = factor * scale * sums[i] + bias, with a single scale and bias, or one per column. */
static kiln_status give_scaled(ref_call *call, const ref_value *sums, double factor, size_t scale,
                               size_t bias)
{
    const ref_tensor *x = &sums->tensor;
    const ref_tensor *s = NULL;
    const ref_tensor *b = ref_input(call, bias);
    const int64_t columns = x->rank > 0 ? x->dims[x->rank - 1] : 1;
    ref_tensor *y = NULL;
    double *values = NULL;
    double *shares[2] = {NULL, NULL};
    KLN_RETURN_IF_ERROR(ref_need_float(call, scale, &s));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, s->dtype, x->rank, x->dims, &y));
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &values));
    KLN_RETURN_IF_ERROR(ref_spread(call, s, 1, &columns, &shares[0]));
    if (b != NULL) {
        KLN_RETURN_IF_ERROR(ref_spread(call, b, 1, &columns, &shares[1]));
    }
    for (int64_t i = 0; i < x->count; i++) {
        const int64_t c = i % columns;
        values[i] = factor * shares[0][c] * values[i] + (b != NULL ? shares[1][c] : 0.0);
    }
    ref_store_float(y, 0, 1, y->count, values);
    return KILN_OK;
}

static kiln_status multiply_integers(ref_call *call, const ref_value *a, const ref_value *b,
                                     size_t a_zero, size_t b_zero, const ref_value **sums)
{
    const ref_value *inputs[4] = {a, b};
    inputs[2] = ref_input(call, a_zero) != NULL ? call->inputs[a_zero] : NULL;
    inputs[3] = ref_input(call, b_zero) != NULL ? call->inputs[b_zero] : NULL;
    return ref_step(call, &(ref_operator){.name = "MatMulInteger"}, inputs, 4, sums);
}

static kiln_status ref_op_matmul_integer_to_float(ref_call *call)
{
    const ref_tensor *scale = ref_input(call, 2);
    const ref_value *sums = NULL;
    KLN_RETURN_IF_ERROR(multiply_integers(call, call->inputs[0], call->inputs[1], 4, 5, &sums));
    return give_scaled(call, sums, ref_get_float(scale, 0), 3, 6);
}

static kiln_status ref_op_dynamic_quantize_matmul(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    const ref_value *sums = NULL;
    ref_value *whole = NULL;
    double *values = NULL;
    KLN_RETURN_IF_ERROR(ref_doubles(call, a, &values));
    const double scale = ref_quantize_row(a->count, values, values);
    /* A byte minus its zero point has 9 bits. */
    KLN_RETURN_IF_ERROR(ref_step_tensor(call, KILN_DTYPE_INT16, a->rank, a->dims, &whole));
    ref_store_float(&whole->tensor, 0, 1, a->count, values);
    KLN_RETURN_IF_ERROR(multiply_integers(call, whole, call->inputs[1], SIZE_MAX, 3, &sums));
    return give_scaled(call, sums, scale, 2, 4);
}

static kiln_status matrix_of(ref_call *call, size_t index, const char *flip,
                             const ref_value **value)
{
    static const int64_t turned[2] = {1, 0};
    const ref_tensor *tensor = NULL;
    KLN_RETURN_IF_ERROR(ref_need_number(call, index, &tensor));
    KLN_RETURN_IF(tensor->rank != 2, KILN_ERROR_RANK, "a matrix is needed, found %d dimensions",
                  tensor->rank);
    *value = call->inputs[index];
    return ref_attribute_int(call, flip, 0) != 0 ? ref_step_turn(call, turned, value) : KILN_OK;
}

/* A, its scale and zero point; B and its own; C; those of Y, which is real if they are absent. */
static kiln_status ref_op_qgemm(ref_call *call)
{
    const ref_value *a = NULL;
    const ref_value *b = NULL;
    const ref_value *sums = NULL;
    const ref_tensor *scales[2];
    const ref_tensor *to = ref_input(call, 7);
    const ref_tensor *zero = ref_input(call, 8);
    double *values = NULL;
    double *bias = NULL;
    double *each = NULL;
    ref_tensor *y = NULL;
    KLN_RETURN_IF_ERROR(ref_need_float(call, 1, &scales[0]));
    KLN_RETURN_IF_ERROR(ref_need_float(call, 4, &scales[1]));
    KLN_RETURN_IF_ERROR(matrix_of(call, 0, "transA", &a));
    KLN_RETURN_IF_ERROR(matrix_of(call, 3, "transB", &b));
    KLN_RETURN_IF_ERROR(multiply_integers(call, a, b, 2, 5, &sums));
    const ref_tensor *x = &sums->tensor;
    const int64_t columns = x->dims[1];
    KLN_RETURN_IF_ERROR(ref_doubles(call, x, &values));
    KLN_RETURN_IF_ERROR(ref_spread(call, scales[1], 1, &columns, &each));
    if (ref_input(call, 6) != NULL) {
        KLN_RETURN_IF_ERROR(ref_spread(call, ref_input(call, 6), 2, x->dims, &bias));
    }
    KLN_RETURN_IF_ERROR(ref_output(
        call, 0, to == NULL || zero == NULL ? KILN_DTYPE_FLOAT32 : zero->dtype, 2, x->dims, &y));
    const double alpha = ref_attribute_float(call, "alpha", 1.0) * ref_get_float(scales[0], 0) /
                         (to != NULL && zero != NULL ? ref_get_float(to, 0) : 1.0);
    for (int64_t i = 0; i < x->count; i++) {
        values[i] = alpha * each[i % columns] * (values[i] + (bias != NULL ? bias[i] : 0.0));
    }
    if (to != NULL && zero != NULL) {
        ref_put_quantized(y, 0, x->count, values, ref_get_float(zero, 0));
    } else {
        ref_store_float(y, 0, 1, x->count, values);
    }
    return KILN_OK;
}

/* --- blocks with few bits per weight --- */

#define COLUMNS 64 /* of weights that are unpacked to floats at once */

/* The weights, by rows of the transposed matrix, in blocks of `block` with a scale and a zero point
 * each. */
typedef struct blocks {
    int64_t inner, columns, bits, block, count; /* number of blocks in a row */
    const uint8_t *bytes;
    const ref_tensor *scales, *zeros, *groups; /* zeros and groups may be NULL */
} blocks;

static kiln_status check_count(const ref_tensor *tensor, const char *what, int64_t needed)
{
    KLN_RETURN_IF(tensor != NULL && tensor->count != needed, KILN_ERROR_SHAPE,
                  "%s have %lld elements, %lld are needed", what, (long long)tensor->count,
                  (long long)needed);
    return KILN_OK;
}

/* The size of `count` packed numbers in bytes. */
static int64_t bytes_of(const blocks *b, int64_t count)
{
    return (count * b->bits + 7) / 8;
}

static kiln_status read_blocks(const ref_call *call, blocks *b)
{
    const ref_tensor *packed = ref_input(call, 1);
    b->inner = ref_attribute_int(call, "K", 0);
    b->columns = ref_attribute_int(call, "N", 0);
    b->bits = ref_attribute_int(call, "bits", 4);
    b->block = ref_attribute_int(call, "block_size", 0);
    KLN_RETURN_IF(b->bits != 2 && b->bits != 4 && b->bits != 8, KILN_ERROR_UNSUPPORTED,
                  "weights of %lld bits; of 2, 4 and 8 are computed here", (long long)b->bits);
    KLN_RETURN_IF(b->inner < 1 || b->columns < 0 || b->block < 16 || b->block % 16 != 0 ||
                      b->inner > REF_LARGEST || b->columns > REF_LARGEST || b->block > REF_LARGEST,
                  KILN_ERROR_INVALID_NETWORK,
                  "K is %lld, N is %lld and block_size is %lld; sizes, and a multiple of 16, are "
                  "needed",
                  (long long)b->inner, (long long)b->columns, (long long)b->block);
    b->count = (b->inner + b->block - 1) / b->block;
    b->bytes = packed->data;
    b->scales = ref_input(call, 2);
    b->zeros = ref_input(call, 3);
    b->groups = ref_input(call, 4);
    KLN_FAIL_IF(packed->dtype != KILN_DTYPE_UINT8, ref_fail_dtype(call, packed->dtype));
    const bool bytes = b->zeros != NULL && b->zeros->dtype == KILN_DTYPE_UINT8;
    KLN_RETURN_IF_ERROR(
        check_count(packed, "weights", b->columns * b->count * bytes_of(b, b->block)));
    KLN_RETURN_IF_ERROR(check_count(b->scales, "scales", b->columns * b->count));
    KLN_RETURN_IF_ERROR(check_count(b->zeros, "zero points",
                                    b->columns * (bytes ? bytes_of(b, b->count) : b->count)));
    return check_count(b->groups, "groups", b->inner);
}

/* Unpacks number `index` of a row. */
static double unpacked(const blocks *b, const uint8_t *row, int64_t index)
{
    const int64_t bit = index * b->bits;
    return (double)(row[bit / 8] >> (bit % 8) & ((1 << b->bits) - 1));
}

static double zero_of(const blocks *b, int64_t column, int64_t block)
{
    if (b->zeros == NULL) {
        return (double)(1 << (b->bits - 1));
    }
    if (b->zeros->dtype != KILN_DTYPE_UINT8) {
        return ref_get_float(b->zeros, column * b->count + block);
    }
    return unpacked(b, (const uint8_t *)b->zeros->data + column * bytes_of(b, b->count), block);
}

/* The block of weight k in a row. */
static int64_t block_of(const blocks *b, int64_t k)
{
    const int64_t group = b->groups != NULL ? ref_get_int(b->groups, k) : k / b->block;
    return ref_clamp_int(group, 0, b->count - 1);
}

static void unpack_column(const blocks *b, int64_t column, float *to)
{
    const uint8_t *row = b->bytes + column * b->count * bytes_of(b, b->block);
    int64_t last = -1;
    double zero = 0.0;
    double scale = 0.0;
    for (int64_t k = 0; k < b->inner; k++) {
        const int64_t block = block_of(b, k);
        if (block != last) {
            zero = zero_of(b, column, block);
            scale = ref_get_float(b->scales, column * b->count + block);
            last = block;
        }
        to[k] = (float)((unpacked(b, row, k) - zero) * scale);
    }
}

static kiln_status ref_op_matmul_nbits(ref_call *call)
{
    const ref_tensor *a = ref_input(call, 0);
    ref_tensor *y = NULL;
    ref_tensor shape = *a;
    blocks b = {0};
    float *weights = NULL;
    double *left = NULL;
    double *out = NULL;
    KLN_RETURN_IF_ERROR(read_blocks(call, &b));
    KLN_RETURN_IF(a->rank < 1 || a->dims[a->rank - 1] != b.inner, KILN_ERROR_SHAPE,
                  "rows of %lld elements are multiplied with %lld",
                  (long long)(a->rank > 0 ? a->dims[a->rank - 1] : 1), (long long)b.inner);
    const int64_t rows = a->count / b.inner;
    shape.dims[a->rank - 1] = b.columns;
    KLN_RETURN_IF_ERROR(ref_output(call, 0, a->dtype, a->rank, shape.dims, &y));
    KLN_RETURN_IF_ERROR(ref_spend(call, (double)y->count * (double)b.inner));
    KLN_RETURN_IF_ERROR(ref_doubles(call, a, &left));
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)(b.inner * COLUMNS), sizeof *weights, &weights));
    if (ref_input(call, 5) != NULL) {
        KLN_RETURN_IF_ERROR(ref_spread(call, ref_input(call, 5), y->rank, y->dims, &out));
    } else {
        KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)y->count, sizeof *out, &out));
        memset(out, 0, (size_t)y->count * sizeof *out);
    }
    const ref_matrix matrix = {.floats = weights,
                               .row = 1,
                               .column = b.inner,
                               .exact = ref_is_exact(a->dtype, KILN_DTYPE_FLOAT32)};
    for (int64_t c = 0; c < b.columns && rows > 0; c += COLUMNS) {
        const int64_t width = b.columns - c < COLUMNS ? b.columns - c : COLUMNS;
        for (int64_t i = 0; i < width; i++) {
            unpack_column(&b, c + i, weights + i * b.inner);
        }
        ref_multiply_matrix(rows, b.inner, width, left, b.inner, &matrix, out + c, b.columns);
    }
    ref_store_float(y, 0, 1, y->count, out);
    return KILN_OK;
}

/* clang-format off */
const ref_kernel ref_kernels_bytes[] = {
    REF_OP_MS("DynamicQuantizeMatMul", dynamic_quantize_matmul, 0, "fnf"),
    REF_OP_MS("MatMulIntegerToFloat", matmul_integer_to_float, 0, "nn1f"),
    REF_OP_MS("MatMulNBits", matmul_nbits, 0, "fnf"),
    REF_OP_MS("QGemm", qgemm, 0, "n11nfno??"),
    REF_KERNELS_END
};
/* clang-format on */
