/*
 * layers_math.h - functions of elements, products, reductions, normalization, quantization.
 *
 * <kiln/network.h> has what holds for every layer: names, failures, the lifetime of weights,
 * threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_MATH_H
#define KILN_LAYERS_MATH_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- element by element --- */

/* name, value; alpha and beta where the function has them (see docs/network.md for each formula) */
typedef enum kiln_activation {
    KILN_ACTIVATION_IDENTITY = 0,
    KILN_ACTIVATION_RELU = 1,
    KILN_ACTIVATION_LEAKY_RELU = 2, /* alpha: slope below 0 */
    KILN_ACTIVATION_SIGMOID = 3,
    KILN_ACTIVATION_TANH = 4,
    KILN_ACTIVATION_SWISH = 5,         /* x * sigmoid(x), also called SiLU */
    KILN_ACTIVATION_GELU = 6,          /* exact, with erf */
    KILN_ACTIVATION_GELU_TANH = 7,     /* its usual approximation */
    KILN_ACTIVATION_ELU = 8,           /* alpha */
    KILN_ACTIVATION_SELU = 9,          /* alpha, and beta for gamma */
    KILN_ACTIVATION_SOFTPLUS = 10,     /* ln(e^x + 1) */
    KILN_ACTIVATION_SOFTSIGN = 11,     /* x / (1 + |x|) */
    KILN_ACTIVATION_HARD_SIGMOID = 12, /* max(0, min(1, alpha * x + beta)) */
    KILN_ACTIVATION_HARD_SWISH = 13,
    KILN_ACTIVATION_CLIP = 14, /* alpha: least, beta: most; whole numbers for integers */
    KILN_ACTIVATION_MISH = 15,
    KILN_ACTIVATION_THRESHOLDED_RELU = 16, /* alpha */
    KILN_ACTIVATION_CELU = 17              /* alpha */
} kiln_activation;

/* Ignores alpha and beta where the function has none. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_activation(kiln_network *network, const char *name, kiln_activation kind,
                            kiln_tensor_id input, float alpha, float beta, kiln_tensor_id *output);
/* x where it is above 0, else slope * x; the slope broadcasts to the input. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_prelu(kiln_network *network, const char *name,
                                                            kiln_tensor_id input,
                                                            kiln_tensor_id slope,
                                                            kiln_tensor_id *output);

typedef enum kiln_unary {
    KILN_UNARY_ABS = 0,
    KILN_UNARY_NEG,
    KILN_UNARY_EXP,
    KILN_UNARY_LOG,
    KILN_UNARY_SQRT,
    KILN_UNARY_RECIPROCAL,
    KILN_UNARY_FLOOR,
    KILN_UNARY_CEIL,
    KILN_UNARY_ROUND, /* half to even */
    KILN_UNARY_SIGN,
    KILN_UNARY_SIN,
    KILN_UNARY_COS,
    KILN_UNARY_TAN,
    KILN_UNARY_ASIN,
    KILN_UNARY_ACOS,
    KILN_UNARY_ATAN,
    KILN_UNARY_SINH,
    KILN_UNARY_COSH,
    KILN_UNARY_ASINH,
    KILN_UNARY_ACOSH,
    KILN_UNARY_ATANH,
    KILN_UNARY_ERF,
    KILN_UNARY_NOT,         /* bool */
    KILN_UNARY_BITWISE_NOT, /* integers */
    KILN_UNARY_IS_NAN,      /* gives bool */
    KILN_UNARY_IS_INF       /* gives bool */
} kiln_unary;

/* A function of each element, in the input's type; DTYPE where the operator does not take it. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_unary(kiln_network *network, const char *name,
                                                            kiln_unary kind, kiln_tensor_id input,
                                                            kiln_tensor_id *output);

typedef enum kiln_elementwise {
    KILN_ELEMENTWISE_ADD = 0,
    KILN_ELEMENTWISE_SUB,
    KILN_ELEMENTWISE_MUL,
    KILN_ELEMENTWISE_DIV,
    KILN_ELEMENTWISE_POW,
    KILN_ELEMENTWISE_MIN,
    KILN_ELEMENTWISE_MAX,
    KILN_ELEMENTWISE_MOD,  /* the sign of the divisor; integers */
    KILN_ELEMENTWISE_FMOD, /* the sign of the dividend */
    KILN_ELEMENTWISE_AND,  /* bool */
    KILN_ELEMENTWISE_OR,
    KILN_ELEMENTWISE_XOR,
    KILN_ELEMENTWISE_EQUAL, /* the comparisons give bool */
    KILN_ELEMENTWISE_LESS,
    KILN_ELEMENTWISE_LESS_OR_EQUAL,
    KILN_ELEMENTWISE_GREATER,
    KILN_ELEMENTWISE_GREATER_OR_EQUAL,
    KILN_ELEMENTWISE_BITWISE_AND, /* integers */
    KILN_ELEMENTWISE_BITWISE_OR,
    KILN_ELEMENTWISE_BITWISE_XOR
} kiln_elementwise;

/* Both are of one type (DTYPE) and broadcast as in NumPy (SHAPE). Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_elementwise(kiln_network *network, const char *name, kiln_elementwise kind,
                             kiln_tensor_id a, kiln_tensor_id b, kiln_tensor_id *output);
/* condition ? a : b, all three broadcast; the condition is bool, a and b are of one type. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_where(kiln_network *network, const char *name,
                                                            kiln_tensor_id condition,
                                                            kiln_tensor_id a, kiln_tensor_id b,
                                                            kiln_tensor_id *output);
/* In another type: towards zero from a real number to an integer. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_cast(kiln_network *network, const char *name,
                                                           kiln_tensor_id input, kiln_dtype dtype,
                                                           kiln_tensor_id *output);

/* --- products and reductions --- */

/* As numpy.matmul: [..., m, k] by [..., k, n] gives [..., m, n], where what stands in front
 * broadcasts. SHAPE where k differs. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_matrix_multiply(kiln_network *network,
                                                                      const char *name,
                                                                      kiln_tensor_id a,
                                                                      kiln_tensor_id b,
                                                                      kiln_tensor_id *output);

typedef struct kiln_gemm_options {
    size_t struct_size; /* set by KILN_GEMM_OPTIONS_INIT */
    float alpha, beta;
    bool transpose_a, transpose_b;
} kiln_gemm_options;

#define KILN_GEMM_OPTIONS_INIT KILN_INIT_WITH_(kiln_gemm_options, .alpha = 1.0F, .beta = 1.0F)

/* alpha * a * b + beta * c of matrices [m, k], [k, n] (transposed where the options say so) and c,
 * which broadcasts to [m, n] or is KILN_NO_TENSOR. `options` may be NULL: 1, 1, not transposed.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gemm(kiln_network *network, const char *name,
                                                           kiln_tensor_id a, kiln_tensor_id b,
                                                           kiln_tensor_id c,
                                                           const kiln_gemm_options *options,
                                                           kiln_tensor_id *output);

/* "bij,bjk->bik", as numpy.einsum: a term of letters (and "...") for each of `count` inputs. The
 * text is copied. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_einsum(kiln_network *network,
                                                             const char *name, const char *equation,
                                                             const kiln_tensor_id *inputs,
                                                             size_t count, kiln_tensor_id *output);

typedef enum kiln_reduction {
    KILN_REDUCE_SUM = 0,
    KILN_REDUCE_MEAN,
    KILN_REDUCE_MAX,
    KILN_REDUCE_MIN,
    KILN_REDUCE_PROD,
    KILN_REDUCE_L1,
    KILN_REDUCE_L2,
    KILN_REDUCE_LOG_SUM,
    KILN_REDUCE_LOG_SUM_EXP,
    KILN_REDUCE_SUM_SQUARE
} kiln_reduction;

/* Over `axes`, each given once; a count of 0 means all of them. Reduced dimensions become 1 where
 * `keep_dims`, else they go. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reduce(
    kiln_network *network, const char *name, kiln_reduction kind, kiln_tensor_id input,
    const int64_t *axes, size_t count, bool keep_dims, kiln_tensor_id *output);
/* The int64 index of the largest (`largest`) or smallest element along `axis`; the first of equals.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_arg(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t axis,
                                                          bool largest, bool keep_dims,
                                                          kiln_tensor_id *output);
/* The k (0 or more) largest or smallest along `axis`, sorted, and their int64 indices; both outputs
 * have k elements there. SHAPE where there are fewer. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_top_k(kiln_network *network, const char *name,
                                                            kiln_tensor_id input, int64_t k,
                                                            int64_t axis, bool largest,
                                                            kiln_tensor_id *values,
                                                            kiln_tensor_id *indices);
/* Softmax along `axis`, or its logarithm. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_softmax(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input, int64_t axis,
                                                              bool logarithm,
                                                              kiln_tensor_id *output);
/* Running sums along `axis`; `exclusive` leaves the element itself out, `reverse` begins at the
 * end. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_cumulative_sum(kiln_network *network, const char *name, kiln_tensor_id input,
                                int64_t axis, bool exclusive, bool reverse, kiln_tensor_id *output);

/* --- normalization: the output has the input's shape; epsilon must be above 0 (INVALID_ARGUMENT);
 * channels are dimension 1 --- */

/* With given statistics, for inference. The four are [channels]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_batch_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, kiln_tensor_id mean, kiln_tensor_id variance, float epsilon,
    kiln_tensor_id *output);
/* Over the dimensions from `axis` on; scale and bias broadcast to these. bias may be
 * KILN_NO_TENSOR. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_layer_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, int64_t axis, float epsilon, kiln_tensor_id *output);
/* Each of `groups` groups of channels; scale and bias are [channels]. Before operator set 21 the
 * input's rank must be known (RANK), and more than 256 groups are LIMIT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_group_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, int64_t groups, float epsilon, kiln_tensor_id *output);
/* Each channel of each image; scale and bias are [channels]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_instance_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, float epsilon, kiln_tensor_id *output);
/* x / sqrt(mean(x^2) + epsilon) * scale over the last dimension; normalized in float32 whatever the
 * input's type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_rms_normalization(kiln_network *network, const char *name, kiln_tensor_id input,
                                   kiln_tensor_id scale, float epsilon, kiln_tensor_id *output);
/* Local response normalization over `size` channels; ONNX Runtime takes odd numbers only. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_lrn(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t size,
                                                          float alpha, float beta, float bias,
                                                          kiln_tensor_id *output);

/* --- quantization --- */

/* round(input / scale) + zero_point, half to even. The type is the zero point's, and `dtype` is
 * that or UNDEFINED; without a zero point (KILN_NO_TENSOR) it is `dtype` (operator set 21), or
 * uint8 where that is UNDEFINED. scale is a scalar, or a vector along `axis`; with `block_size`
 * above 0 (operator set 21) one for each block along `axis`; the zero point has the scale's shape.
 * DTYPE for a type that nothing is quantized to; UNSUPPORTED for float8 before operator set 19, 16
 * and 4 bits before 21, float4 before 23. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_quantize(kiln_network *network, const char *name, kiln_tensor_id input,
                          kiln_tensor_id scale, kiln_tensor_id zero_point, kiln_dtype dtype,
                          int64_t axis, int64_t block_size, kiln_tensor_id *output);
/* (input - zero_point) * scale, the same way. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_dequantize(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id zero_point, int64_t axis, int64_t block_size, kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
