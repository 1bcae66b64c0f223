/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by kernels: their table rows, the variants of kernels that serve several
 * operators, and functions used in more than one file. */
#ifndef REF_OPS_H
#define REF_OPS_H

#include <locale.h>

#include "ops/kln_ops.h"
#include "ref_internal.h"

/* Elementwise functions of one float: X(operator, oldest version, expression of x), where a, b and
 * g are the operator's alpha, beta (or lambd, bias) and gamma. First those that the C library
 * computes, then those that a processor does. */
#define REF_CALLED_LIST(X)                         \
    X(Acos, 7, acos(x))                            \
    X(Acosh, 9, acosh(x))                          \
    X(Asin, 7, asin(x))                            \
    X(Asinh, 9, asinh(x))                          \
    X(Atan, 7, atan(x))                            \
    X(Atanh, 9, atanh(x))                          \
    X(Celu, 12, x > 0.0 ? x : a * expm1(x / a))    \
    X(Cos, 7, cos(x))                              \
    X(Cosh, 9, cosh(x))                            \
    X(Elu, 1, x < 0.0 ? a * expm1(x) : x)          \
    X(Erf, 9, erf(x))                              \
    X(Exp, 1, exp(x))                              \
    X(Log, 1, log(x))                              \
    X(Mish, 18, x *tanh(softplus(x)))              \
    X(Selu, 1, x > 0.0 ? g * x : g * a * expm1(x)) \
    X(Sigmoid, 1, sigmoid(x))                      \
    X(Sin, 7, sin(x))                              \
    X(Sinh, 9, sinh(x))                            \
    X(Softplus, 1, softplus(x))                    \
    X(Sqrt, 1, sqrt(x))                            \
    X(Swish, 24, x *sigmoid(a *x))                 \
    X(Tan, 7, tan(x))                              \
    X(Tanh, 1, tanh(x))
#define REF_PLAIN_LIST(X)                                   \
    X(Ceil, 1, ceil(x))                                     \
    X(Floor, 1, floor(x))                                   \
    X(HardSigmoid, 1, ref_clamp(a *x + b, 0.0, 1.0))        \
    X(HardSwish, 14, x *ref_clamp(x / 6.0 + 0.5, 0.0, 1.0)) \
    X(LeakyRelu, 1, x < 0.0 ? a * x : x)                    \
    X(Reciprocal, 1, 1.0 / x)                               \
    X(Round, 11, to_even(x))                                \
    X(Softsign, 1, x / (1.0 + fabs(x)))                     \
    X(ThresholdedRelu, 10, x > a ? x : 0.0)
#define REF_UNARY_LIST(X) REF_CALLED_LIST(X) REF_PLAIN_LIST(X)

typedef enum ref_unary {
#define REF_UNARY_ENUM(name, since, expression) REF_UNARY_##name,
    REF_UNARY_LIST(REF_UNARY_ENUM)
#undef REF_UNARY_ENUM
        REF_UNARY_Gelu,
    REF_UNARY_GeluTanh,
    REF_UNARY_Pow, /* this one and the next of two numbers */
    REF_UNARY_SwiGLU,
    REF_UNARY_COUNT
} ref_unary;

/* Operators on integers too: X(operator, version, of a float x, of a signed x, of an unsigned x) */
#define REF_NUMERIC_LIST(X)                                                  \
    X(Abs, 1, fabs(x), x < 0 ? (int64_t)(0 - (uint64_t)x) : x, x)            \
    X(Neg, 1, -x, (int64_t)(0 - (uint64_t)x), 0 - x)                         \
    X(Relu, 1, x < 0.0 ? 0.0 : x, x < 0 ? 0 : x, x)                          \
    X(Sign, 9, x > 0.0 ? 1.0 : x < 0.0 ? -1.0 : x, (x > 0) - (x < 0), x > 0) \
    X(BitwiseNot, 18, x, ~x, ~x)

typedef enum ref_numeric {
#define REF_NUMERIC_ENUM(name, since, f, s, u) REF_NUMERIC_##name,
    REF_NUMERIC_LIST(REF_NUMERIC_ENUM)
#undef REF_NUMERIC_ENUM
        REF_NUMERIC_COUNT
} ref_numeric;

/* Operators on two tensors that are broadcast: X(operator, version, of floats, of int64_t, of
 * uint64_t), operands x and y. */
#define REF_BINARY_LIST(X)                                                                        \
    X(Add, 1, x + y, (int64_t)((uint64_t)x + (uint64_t)y), x + y)                                 \
    X(Sub, 1, x - y, (int64_t)((uint64_t)x - (uint64_t)y), x - y)                                 \
    X(Mul, 1, x *y, (int64_t)((uint64_t)x * (uint64_t)y), x *y)                                   \
    X(Div, 1, x / y, divide(x, y), y == 0 ? 0 : x / y)                                            \
    X(Max, 1, isnan(x) || x > y ? x : y, x > y ? x : y, x > y ? x : y)                            \
    X(Min, 1, isnan(x) || x < y ? x : y, x < y ? x : y, x < y ? x : y)                            \
    X(PRelu, 1, x < 0.0 ? x * y : x, x < 0 ? (int64_t)((uint64_t)x * (uint64_t)y) : x, x)         \
    X(BitwiseAnd, 18, x + y, x & y, x & y)                                                        \
    X(BitwiseOr, 18, x + y, x | y, x | y)                                                         \
    X(BitwiseXor, 18, x + y, x ^ y, x ^ y)                                                        \
    X(BitShiftLeft, 11, x + y, y < 0 || y > 63 ? 0 : (int64_t)((uint64_t)x << y),                 \
      y > 63 ? 0 : x << y)                                                                        \
    X(BitShiftRight, 11, x + y, y < 0 || y > 62 ? (x < 0 ? -1 : 0) : x >> y, y > 63 ? 0 : x >> y) \
    X(Mod, 10, modulo_float(x, y), modulo(x, y), y == 0 ? 0 : x % y)                              \
    X(Fmod, 10, fmod(x, y), y == 0 || y == -1 ? 0 : x % y, y == 0 ? 0 : x % y)                    \
    X(Mean, 1, x + y, (int64_t)((uint64_t)x + (uint64_t)y), x + y)

typedef enum ref_binary {
#define REF_BINARY_ENUM(name, since, f, s, u) REF_BINARY_##name,
    REF_BINARY_LIST(REF_BINARY_ENUM)
#undef REF_BINARY_ENUM
} ref_binary;

/* The same with a truth value as the result. */
#define REF_COMPARE_LIST(X)       \
    X(Equal, 1, x == y)           \
    X(Greater, 1, x > y)          \
    X(GreaterOrEqual, 12, x >= y) \
    X(Less, 1, x < y)             \
    X(LessOrEqual, 12, x <= y)    \
    X(And, 1, x != 0 && y != 0)   \
    X(Or, 1, x != 0 || y != 0)    \
    X(Xor, 1, (x != 0) != (y != 0))

typedef enum ref_compare {
#define REF_COMPARE_ENUM(name, since, expression) REF_COMPARE_##name,
    REF_COMPARE_LIST(REF_COMPARE_ENUM)
#undef REF_COMPARE_ENUM
} ref_compare;

typedef enum ref_reduce {
    REF_REDUCE_SUM,
    REF_REDUCE_MEAN,
    REF_REDUCE_MAX,
    REF_REDUCE_MIN,
    REF_REDUCE_PROD,
    REF_REDUCE_L1,
    REF_REDUCE_L2,
    REF_REDUCE_SUM_SQUARE,
    REF_REDUCE_LOG_SUM,
    REF_REDUCE_LOG_SUM_EXP
} ref_reduce;

typedef enum ref_pool { REF_POOL_MAX, REF_POOL_AVERAGE, REF_POOL_LP } ref_pool;
typedef enum ref_cell {
    REF_CELL_RNN,
    REF_CELL_GRU,
    REF_CELL_LSTM,
    REF_CELL_LSTM_OF_BYTES
} ref_cell;
typedef enum ref_softmax { REF_SOFTMAX, REF_LOG_SOFTMAX, REF_HARDMAX } ref_softmax;
typedef enum ref_window { REF_WINDOW_HANN, REF_WINDOW_HAMMING, REF_WINDOW_BLACKMAN } ref_window;

/* Rows of an operator: its name, the oldest version that the kernel knows, the kernel
 * ref_op_<name>, the variant of it and, where inputs are needed, which. Each ref_<family>.c ends
 * with those it has (ref_table.c). */
#define REF_OP_OF(domain_, name, version, kernel, ...)                                      \
    {                                                                                       \
        .op = (name), .domain = (domain_), .since = (version), .function = ref_op_##kernel, \
        .variant = __VA_ARGS__                                                              \
    }
#define REF_OP(name, since, function, ...) REF_OP_OF("", name, since, function, __VA_ARGS__)
#define REF_OP_MS(name, function, ...) REF_OP_OF("com.microsoft", name, 1, function, __VA_ARGS__)
#define REF_KERNELS_END \
    {                   \
        .op = NULL      \
    }

/* --- shared between kernel files --- */

/* `n` elements of two operands, whose steps are 0 or 1, in the type itself; NULL where there is no
 * such form. (ref_binary_lean.c) */
typedef void (*ref_lean_function)(int64_t n, const void *a, int64_t a_step, const void *b,
                                  int64_t b_step, void *out);
ref_lean_function ref_lean_binary(int variant, kiln_dtype dtype);
ref_lean_function ref_lean_compare(int variant, kiln_dtype dtype);

/* Numbers of one type as another one; NULL where there is no such form, false where these numbers
 * have none. (ref_cast_lean.c) */
typedef bool (*ref_lean_cast)(const void *x, int64_t n, void *y);
ref_lean_cast ref_lean_cast_of(kiln_dtype from, kiln_dtype to);

/* The attributes alpha, beta (or lambd, bias) and gamma of a function of one number. */
typedef struct ref_parameters {
    double a;
    double b;
    double g;
} ref_parameters;
typedef void (*ref_row_function)(const ref_parameters *p, int64_t n, const double *v, double *to);
/* y = function(x) by way of doubles; of many numbers of 16 bits by a table, which the context
 * keeps. (ref_short.c) */
KILN_MUST_CHECK kiln_status ref_apply(ref_context *context, ref_row_function function,
                                      const ref_parameters *p, const ref_tensor *x, ref_tensor *y);

kiln_status ref_op_identity(ref_call *call);
/* Before version 7, `broadcast` and `axis` said where the second operand lies in the first; the
 * slopes of PRelu are by channel. (ref_binary.c) */
ref_tensor ref_aligned(const ref_call *call, const ref_tensor *a, const ref_tensor *b);

/* `rows` x `inner` times `inner` x `columns`, added to `out`; b's rows are `b_stride` apart, out's
 * `out_stride`. */
void ref_multiply(int64_t rows, int64_t inner, int64_t columns, const double *a, int64_t a_stride,
                  const double *b, int64_t b_stride, double *out, int64_t out_stride);
void ref_multiply_int(int64_t rows, int64_t inner, int64_t columns, const int64_t *a,
                      int64_t a_stride, const int64_t *b, int64_t b_stride, int64_t *out,
                      int64_t out_stride);

/* The greatest length, step or padding along one spatial dimension. */
#define REF_LARGEST (INT64_C(1) << 30)

/* How a window moves over the spatial dimensions of an operator that has them. */
typedef struct ref_window_shape {
    int rank; /* spatial */
    int64_t input[REF_RANK];
    int64_t kernel[REF_RANK];
    int64_t stride[REF_RANK];
    int64_t dilation[REF_RANK];
    int64_t begin[REF_RANK]; /* padding */
    int64_t end[REF_RANK];
    int64_t output[REF_RANK];
} ref_window_shape;

/* Reads kernel_shape (or takes `kernel`), strides, dilations, pads, auto_pad and ceil_mode, and
 * computes the output. */
KILN_MUST_CHECK kiln_status ref_window_read(const ref_call *call, const ref_tensor *x,
                                            const int64_t *kernel, ref_window_shape *window);
/* A list attribute with one number for each of `rank` dimensions, `otherwise` where it is absent.
 */
KILN_MUST_CHECK kiln_status ref_per_dimension(const ref_call *call, const char *name, int rank,
                                              int64_t otherwise, int64_t *values);
/* Joins `parts` along `axis` into output 0. */
KILN_MUST_CHECK kiln_status ref_concat(ref_call *call, size_t count, const ref_tensor *const *parts,
                                       int axis);
/* Elements `begin` to `end` - 1 of the tensor `from` along `axis` as a value, which shares its
 * bytes where they lie together; without `keep` that axis is gone. */
KILN_MUST_CHECK kiln_status ref_cut(ref_call *call, const ref_value *from, int axis, int64_t begin,
                                    int64_t end, bool keep, ref_value *value);
/* Output `output` of a node whose body `plan` made no trip: of the type and shape that output
 * `index` of the body stacks up along `axis`, with no element. `given`: what the first trip would
 * get, to infer from what the body does not declare. (ref_no_trip.c) */
KILN_MUST_CHECK kiln_status ref_stack_nothing(ref_call *call, size_t output, const ref_plan *plan,
                                              size_t index, int64_t axis, const ref_value *given,
                                              size_t given_count);
/* Letters and numbers as they are written everywhere, whatever the program's locale; NULL where the
 * C library finds no memory. (ref_text.c) */
locale_t ref_locale(void);
/* Functions of up to REF_CHUNK floats, of `w` too where they have two operands (else it may be
 * `v`): the number of those whose result is not sure, listed in `unsure`. `a` and `g` are the
 * attributes alpha and gamma. (ref_near.c) */
typedef int64_t (*ref_near_row)(int64_t n, const float *v, const float *w, double a, double g,
                                float *to, uint8_t *unsure);
bool ref_has_near(int variant);
int64_t ref_near(int variant, double a, double g, int64_t n, const float *v, const float *w,
                 float *to, uint8_t unsure[REF_CHUNK]);
/* The same of this machine's own, whose n is a multiple of 8, or NULL. (ref_near_wide.c) */
ref_near_row ref_wide_row(int variant);
#define REF_DOUBTS 8
/* y[i]: the float that all within doubts[i % REF_DOUBTS] of values[i] rounds to, times `scale`, NAN
 * where there is none such. False where that is so. Of sums that begin with 0, so never -0.
 * (ref_near.c) */
bool ref_round_within(int64_t n, const double *values, const double doubts[REF_DOUBTS],
                      double scale, float *y);
double ref_sigmoid(double x);
double ref_softplus(double x);
/* A second tensor's strides when it is laid over the dimensions of `like`. FAIL when it is not
 * broadcast that way. */
KILN_MUST_CHECK kiln_status ref_spread(ref_call *call, const ref_tensor *tensor, int rank,
                                       const int64_t *dims, double **values);
/* Stores a float8; past its range it saturates or becomes NaN or infinity. */
void ref_put_float8(ref_tensor *y, int64_t index, double value, bool saturate);
/* Quantizes: round to even, add the zero point, saturate to the dtype. */
double ref_quantized(double scaled, double zero_point, kiln_dtype dtype);
/* What DynamicQuantizeLinear makes of `n` floats, less its zero point; the scale. y may be x. */
double ref_quantize_row(int64_t n, const double *x, double *y);
bool ref_is_byte(kiln_dtype dtype); /* int8 or uint8 */
void ref_put_quantized(ref_tensor *y, int64_t start, int64_t n, const double *scaled,
                       double zero_point);

#endif
