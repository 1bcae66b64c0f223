/* Operators of com.microsoft on 8-bit values that represent (q - zero point) * scale.
 * SPDX-License-Identifier: Apache-2.0 */
#include "ref_step.h"

/* Scale and zero point of a tensor. */
typedef struct affine {
    double scale, zero;
} affine;

#define CODES 256 /* values of a byte */

typedef double (*function)(double x, double alpha);
typedef enum binary { ADD, MUL } binary;

static double same(double x, double alpha)
{
    (void)alpha;
    return x;
}

static double leaky(double x, double alpha)
{
    return x < 0.0 ? alpha * x : x;
}

static double sigmoid(double x, double alpha)
{
    (void)alpha;
    return ref_sigmoid(x);
}

/* --- reading --- */

/* Reads input `index`, the scale, and the input after it, the zero point, if there is one. */
static kiln_status read_affine(const ref_call *call, size_t index, affine *a)
{
    const ref_tensor *scale = NULL;
    const ref_tensor *zero = ref_input(call, index + 1);
    KLN_RETURN_IF_ERROR(ref_need_float(call, index, &scale));
    KLN_RETURN_IF(scale->count != 1 || (zero != NULL && zero->count != 1), KILN_ERROR_SHAPE,
                  "inputs %zu and %zu, a scale and a zero point, have %lld and %lld elements; one "
                  "is needed",
                  index, index + 1, (long long)scale->count,
                  (long long)(zero != NULL ? zero->count : 1));
    a->scale = ref_get_float(scale, 0);
    a->zero = zero != NULL ? ref_get_float(zero, 0) : 0.0;
    return KILN_OK;
}

static kiln_status need_bytes(const ref_call *call, size_t index, const ref_tensor **tensor)
{
    KLN_RETURN_IF_ERROR(ref_need_number(call, index, tensor));
    return ref_is_byte((*tensor)->dtype) ? KILN_OK : ref_fail_dtype(call, (*tensor)->dtype);
}

static void load(const ref_tensor *x, int64_t start, int64_t step, int64_t n, const affine *a,
                 double *to)
{
    ref_load_float(x, start, step, n, to);
    for (int64_t i = 0; i < n; i++) {
        to[i] = (to[i] - a->zero) * a->scale;
    }
}

static void store(ref_tensor *y, int64_t start, int64_t n, const affine *a, double *values)
{
    for (int64_t i = 0; i < n; i++) {
        values[i] /= a->scale;
    }
    ref_put_quantized(y, start, n, values, a->zero);
}

/* --- elements --- */

static kiln_status ref_op_qlinear_binary(ref_call *call)
{
    const ref_tensor *in[2];
    affine of[3];
    ref_tensor *y = NULL;
    ref_tensor all = {0};
    for (size_t i = 0; i < 3; i++) {
        KLN_RETURN_IF_ERROR(read_affine(call, 3 * i + (i < 2 ? 1 : 0), &of[i]));
    }
    KLN_RETURN_IF_ERROR(need_bytes(call, 0, &in[0]));
    KLN_RETURN_IF_ERROR(need_bytes(call, 3, &in[1]));
    KLN_RETURN_IF_ERROR(ref_broadcast(call, in[0]->rank, in[0]->dims, in[1]->rank, in[1]->dims,
                                      &all.rank, all.dims));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, in[0]->dtype, all.rank, all.dims, &y));
    ref_walk walk;
    ref_walk_init(&walk, y->rank, y->dims);
    ref_walk_add_broadcast(&walk, y);
    ref_walk_add_broadcast(&walk, in[0]);
    ref_walk_add_broadcast(&walk, in[1]);
    ref_walk_begin(&walk);
    while (ref_walk_next(&walk)) {
        for (int64_t i = 0; i < walk.length; i += REF_CHUNK) {
            const int64_t n = walk.length - i < REF_CHUNK ? walk.length - i : REF_CHUNK;
            double a[REF_CHUNK];
            double b[REF_CHUNK];
            load(in[0], walk.offset[1] + i * walk.step[1], walk.step[1], n, &of[0], a);
            load(in[1], walk.offset[2] + i * walk.step[2], walk.step[2], n, &of[1], b);
            for (int64_t k = 0; k < n; k++) {
                a[k] = call->variant == ADD ? a[k] + b[k] : a[k] * b[k];
            }
            store(y, walk.offset[0] + i, n, &of[2], a);
        }
    }
    return KILN_OK;
}

/* y = f(x), through a table of the result for each byte; y has as many elements as x. */
static void look_up(const ref_tensor *x, const affine *from, function f, double alpha,
                    const affine *to, ref_tensor *y)
{
    uint8_t codes[CODES];
    uint8_t table[CODES];
    double values[CODES];
    for (int i = 0; i < CODES; i++) {
        codes[i] = (uint8_t)i;
    }
    const ref_tensor all = {.dtype = x->dtype, .rank = 1, .count = CODES, .data = codes};
    ref_tensor found = {.dtype = y->dtype, .rank = 1, .count = CODES, .data = table};
    load(&all, 0, 1, CODES, from, values);
    for (int i = 0; i < CODES; i++) {
        values[i] = f(values[i], alpha);
    }
    store(&found, 0, CODES, to, values);
    for (int64_t i = 0; i < x->count; i++) {
        ((uint8_t *)y->data)[i] = table[((const uint8_t *)x->data)[i]];
    }
}

static kiln_status unary(ref_call *call, function f, double alpha)
{
    const ref_tensor *x = NULL;
    ref_tensor *y = NULL;
    affine from;
    affine to;
    KLN_RETURN_IF_ERROR(need_bytes(call, 0, &x));
    KLN_RETURN_IF_ERROR(read_affine(call, 1, &from));
    KLN_RETURN_IF_ERROR(read_affine(call, 3, &to));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, x->dtype, x->rank, x->dims, &y));
    look_up(x, &from, f, alpha, &to, y);
    return KILN_OK;
}

static kiln_status ref_op_qlinear_leaky_relu(ref_call *call)
{
    return unary(call, leaky, ref_attribute_float(call, "alpha", 0.01));
}

static kiln_status ref_op_qlinear_sigmoid(ref_call *call)
{
    return unary(call, sigmoid, 0.0);
}

/* Converts `count` inputs, each followed by its scale and zero point, to the type `dtype` with the
 * scale and zero point of `to`. The first is input `index`. The results are in memory that lasts
 * until the kernel returns. */
static kiln_status requantize(ref_call *call, size_t index, size_t count, const affine *to,
                              kiln_dtype dtype, ref_value *values)
{
    int64_t bytes = 0;
    uint8_t *room = NULL;
    for (size_t i = 0; i < count; i++) {
        const ref_tensor *x = NULL;
        KLN_RETURN_IF_ERROR(need_bytes(call, index + 3 * i, &x));
        bytes += x->count;
    }
    KLN_RETURN_IF_ERROR(ref_scratch(call, (size_t)bytes, 1, &room));
    for (size_t i = 0; i < count; i++) {
        affine from;
        const ref_tensor *x = ref_input(call, index + 3 * i);
        KLN_RETURN_IF_ERROR(read_affine(call, index + 3 * i + 1, &from));
        values[i] = (ref_value){.kind = REF_TENSOR, .tensor = *x};
        values[i].tensor.dtype = dtype;
        values[i].tensor.data = room;
        look_up(x, &from, same, 0.0, to, &values[i].tensor);
        room += x->count;
    }
    return KILN_OK;
}

static kiln_status ref_op_qlinear_concat(ref_call *call)
{
    affine to;
    const ref_tensor *zero = NULL;
    const ref_value *y = NULL;
    const ref_value **parts = NULL;
    ref_value *values = NULL;
    const size_t count = (call->node->input_count - 2) / 3;
    KLN_RETURN_IF(call->node->input_count < 5 || call->node->input_count % 3 != 2,
                  KILN_ERROR_INVALID_NETWORK,
                  "%zu inputs are given; a scale and a zero point and then three for each part are "
                  "needed",
                  call->node->input_count);
    KLN_RETURN_IF_ERROR(read_affine(call, 0, &to));
    KLN_RETURN_IF_ERROR(need_bytes(call, 1, &zero));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count, sizeof *values, &values));
    KLN_RETURN_IF_ERROR(ref_scratch(call, count, sizeof(*parts), &parts));
    KLN_RETURN_IF_ERROR(requantize(call, 2, count, &to, zero->dtype, values));
    for (size_t i = 0; i < count; i++) {
        parts[i] = &values[i];
    }
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){.name = "Concat"}, parts, count, &y));
    return ref_give(call, 0, y);
}

static kiln_status ref_op_qlinear_where(ref_call *call)
{
    affine to;
    const ref_tensor *x = NULL;
    const ref_value *y = NULL;
    ref_value values[2];
    const ref_value *inputs[3] = {call->inputs[0], &values[0], &values[1]};
    KLN_RETURN_IF_ERROR(need_bytes(call, 1, &x));
    KLN_RETURN_IF_ERROR(read_affine(call, 7, &to));
    KLN_RETURN_IF_ERROR(requantize(call, 1, 2, &to, x->dtype, values));
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){.name = "Where"}, inputs, 3, &y));
    return ref_give(call, 0, y);
}

/* --- through real numbers --- */

/* Converts input 0, which is followed by its scale and zero point, to doubles. */
static kiln_status real_input(ref_call *call, const ref_value **value)
{
    const ref_tensor *x = NULL;
    ref_value *made = NULL;
    affine from;
    KLN_RETURN_IF_ERROR(need_bytes(call, 0, &x));
    KLN_RETURN_IF_ERROR(read_affine(call, 1, &from));
    KLN_RETURN_IF_ERROR(ref_step_tensor(call, KILN_DTYPE_FLOAT64, x->rank, x->dims, &made));
    load(x, 0, 1, x->count, &from, made->tensor.data);
    *value = made;
    return KILN_OK;
}

/* Writes the output from doubles, quantized with the scale and zero point in inputs 3 and 4. */
static kiln_status give_real(ref_call *call, const ref_value *value)
{
    const ref_tensor *x = &value->tensor;
    ref_tensor *y = NULL;
    affine to;
    KLN_RETURN_IF_ERROR(read_affine(call, 3, &to));
    KLN_RETURN_IF_ERROR(ref_output(call, 0, ref_input(call, 0)->dtype, x->rank, x->dims, &y));
    store(y, 0, x->count, &to, x->data);
    return KILN_OK;
}

/* Moves the channels from the last dimension to the second, or back. */
static kiln_status move_channels(ref_call *call, bool back, const ref_value **value)
{
    int64_t order[REF_RANK];
    const int rank = (*value)->tensor.rank;
    KLN_RETURN_IF(rank < 3, KILN_ERROR_RANK, "at least 3 dimensions are needed, found %d", rank);
    for (int i = 0; i < rank; i++) {
        order[i] = i == 0 ? 0 : back ? (i == rank - 1 ? 1 : i + 1) : (i == 1 ? rank - 1 : i - 1);
    }
    return ref_step_turn(call, order, value);
}

static kiln_status pool(ref_call *call, const char *name)
{
    const bool last = ref_attribute_int(call, "channels_last", 0) != 0;
    const ref_value *x = NULL;
    KLN_RETURN_IF_ERROR(real_input(call, &x));
    if (last) {
        KLN_RETURN_IF_ERROR(move_channels(call, false, &x));
    }
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){.name = name}, &x, 1, &x));
    if (last) {
        KLN_RETURN_IF_ERROR(move_channels(call, true, &x));
    }
    return give_real(call, x);
}

static kiln_status ref_op_qlinear_average_pool(ref_call *call)
{
    return pool(call, "AveragePool");
}

static kiln_status ref_op_qlinear_global_average_pool(ref_call *call)
{
    return pool(call, "GlobalAveragePool");
}

/* Before version 13 the dimensions from `axis` on are treated as one. */
static kiln_status ref_op_qlinear_softmax(ref_call *call)
{
    const int64_t version = ref_attribute_int(call, "opset", 13);
    const kln_onnx_attribute axis = {
        .name = "axis", .type = KLN_ONNX_ATTRIBUTE_INT, .i = ref_attribute_int(call, "axis", -1)};
    const ref_value *x = NULL;
    KLN_RETURN_IF_ERROR(real_input(call, &x));
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){"Softmax", version, &axis, 1}, &x, 1, &x));
    return give_real(call, x);
}

/* Follows version 13, where the axes are an attribute. */
static kiln_status ref_op_qlinear_reduce_mean(ref_call *call)
{
    const ref_value *x = NULL;
    KLN_RETURN_IF_ERROR(real_input(call, &x));
    KLN_RETURN_IF_ERROR(ref_step(call, &(ref_operator){"ReduceMean", 13, NULL, 0}, &x, 1, &x));
    return give_real(call, x);
}

/* clang-format off */
const ref_kernel ref_kernels_qlinear[] = {
    REF_OP_MS("QLinearAdd", qlinear_binary, ADD, "n"),
    REF_OP_MS("QLinearAveragePool", qlinear_average_pool, 0, "n"),
    REF_OP_MS("QLinearConcat", qlinear_concat, 0, "n"),
    REF_OP_MS("QLinearGlobalAveragePool", qlinear_global_average_pool, 0, "n"),
    REF_OP_MS("QLinearLeakyRelu", qlinear_leaky_relu, 0, "n"),
    REF_OP_MS("QLinearMul", qlinear_binary, MUL, "n"),
    REF_OP_MS("QLinearReduceMean", qlinear_reduce_mean, 0, "n"),
    REF_OP_MS("QLinearSigmoid", qlinear_sigmoid, 0, "n"),
    REF_OP_MS("QLinearSoftmax", qlinear_softmax, 0, "n"),
    REF_OP_MS("QLinearWhere", qlinear_where, 0, "n"),
    REF_KERNELS_END
};
/* clang-format on */
