/*
 * layers_math.h - elementwise functions, products, reductions, normalization, quantization.
 *
 * <kiln/network.h> has the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_MATH_H
#define KILN_LAYERS_MATH_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- elementwise functions --- */

/* Activation functions, with their use of alpha and beta (formulas: docs/network.md). */
typedef enum kiln_activation {
    KILN_ACTIVATION_IDENTITY = 0,
    KILN_ACTIVATION_RELU = 1,
    KILN_ACTIVATION_LEAKY_RELU = 2, /* alpha: slope below 0 */
    KILN_ACTIVATION_SIGMOID = 3,
    KILN_ACTIVATION_TANH = 4,
    KILN_ACTIVATION_SWISH = 5,         /* x * sigmoid(x), also called SiLU */
    KILN_ACTIVATION_GELU = 6,          /* exact, with erf */
    KILN_ACTIVATION_GELU_TANH = 7,     /* the usual approximation with tanh */
    KILN_ACTIVATION_ELU = 8,           /* alpha */
    KILN_ACTIVATION_SELU = 9,          /* alpha; beta is gamma */
    KILN_ACTIVATION_SOFTPLUS = 10,     /* ln(e^x + 1) */
    KILN_ACTIVATION_SOFTSIGN = 11,     /* x / (1 + |x|) */
    KILN_ACTIVATION_HARD_SIGMOID = 12, /* max(0, min(1, alpha * x + beta)) */
    KILN_ACTIVATION_HARD_SWISH = 13,
    KILN_ACTIVATION_CLIP = 14, /* alpha: minimum, beta: maximum; whole numbers for integers */
    KILN_ACTIVATION_MISH = 15,
    KILN_ACTIVATION_THRESHOLDED_RELU = 16, /* alpha */
    KILN_ACTIVATION_CELU = 17              /* alpha */
} kiln_activation;

/* Applies an activation function. Unused alpha and beta are ignored. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_activation(kiln_network *network, const char *name, kiln_activation kind,
                            kiln_tensor_id input, float alpha, float beta, kiln_tensor_id *output);
/* Gives x if it is above 0, otherwise slope * x; the slope broadcasts to the input. Since 0.1. */
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
    KILN_UNARY_ROUND, /* ties to even */
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
    KILN_UNARY_IS_NAN,      /* result: bool */
    KILN_UNARY_IS_INF       /* result: bool */
} kiln_unary;

/* Applies a function to each element, in the input's type. Errors: DTYPE if the operator does not
 * accept it. Since 0.1. */
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
    KILN_ELEMENTWISE_MOD,  /* result has the sign of the divisor; integers */
    KILN_ELEMENTWISE_FMOD, /* result has the sign of the dividend */
    KILN_ELEMENTWISE_AND,  /* bool */
    KILN_ELEMENTWISE_OR,
    KILN_ELEMENTWISE_XOR,
    KILN_ELEMENTWISE_EQUAL, /* comparisons, whose result is bool */
    KILN_ELEMENTWISE_LESS,
    KILN_ELEMENTWISE_LESS_OR_EQUAL,
    KILN_ELEMENTWISE_GREATER,
    KILN_ELEMENTWISE_GREATER_OR_EQUAL,
    KILN_ELEMENTWISE_BITWISE_AND, /* integers */
    KILN_ELEMENTWISE_BITWISE_OR,
    KILN_ELEMENTWISE_BITWISE_XOR
} kiln_elementwise;

/* Applies a function to pairs of elements. Both inputs have the same type (DTYPE) and broadcast as
 * in NumPy (SHAPE). Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_elementwise(kiln_network *network, const char *name, kiln_elementwise kind,
                             kiln_tensor_id a, kiln_tensor_id b, kiln_tensor_id *output);
/* condition ? a : b, elementwise; all three broadcast. The condition is bool; a and b have the same
 * type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_where(kiln_network *network, const char *name,
                                                            kiln_tensor_id condition,
                                                            kiln_tensor_id a, kiln_tensor_id b,
                                                            kiln_tensor_id *output);
/* Converts to another type. Real numbers become integers by truncation towards zero. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_cast(kiln_network *network, const char *name,
                                                           kiln_tensor_id input, kiln_dtype dtype,
                                                           kiln_tensor_id *output);

/* --- products and reductions --- */

/* Matrix product, as numpy.matmul: [..., m, k] by [..., k, n] gives [..., m, n], and the leading
 * dimensions broadcast. Errors: SHAPE if k differs. Since 0.1. */
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

/* alpha * a * b + beta * c for matrices [m, k] and [k, n], each transposed first if the options say
 * so. c broadcasts to [m, n] or is KILN_NO_TENSOR. `options` may be NULL: alpha and beta 1, not
 * transposed. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gemm(kiln_network *network, const char *name,
                                                           kiln_tensor_id a, kiln_tensor_id b,
                                                           kiln_tensor_id c,
                                                           const kiln_gemm_options *options,
                                                           kiln_tensor_id *output);

/* Einstein summation, as numpy.einsum: "bij,bjk->bik" has a term of letters (and "...") for each of
 * `count` inputs. The text is copied. Since 0.1. */
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

/* Reduces over `axes`, each given once; a count of 0 means all axes. Reduced dimensions become 1
 * with `keep_dims`, and are removed otherwise. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reduce(
    kiln_network *network, const char *name, kiln_reduction kind, kiln_tensor_id input,
    const int64_t *axes, size_t count, bool keep_dims, kiln_tensor_id *output);
/* The int64 index of the largest (`largest`) or smallest element along `axis`; the first one among
 * equals. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_arg(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t axis,
                                                          bool largest, bool keep_dims,
                                                          kiln_tensor_id *output);
/* The k (0 or more) largest or smallest elements along `axis`, sorted, and their int64 indices.
 * Both outputs have k elements along `axis`. Errors: SHAPE if there are fewer. Since 0.1. */
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
/* Cumulative sum along `axis`. `exclusive` omits the element itself; `reverse` starts at the end.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_cumulative_sum(kiln_network *network, const char *name, kiln_tensor_id input,
                                int64_t axis, bool exclusive, bool reverse, kiln_tensor_id *output);

/* --- normalization: the output has the input's shape; epsilon must be above 0 (INVALID_ARGUMENT);
 * channels are dimension 1 --- */

/* Batch normalization with given statistics, for inference. scale, bias, mean and variance are
 * [channels]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_batch_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, kiln_tensor_id mean, kiln_tensor_id variance, float epsilon,
    kiln_tensor_id *output);
/* Layer normalization over the dimensions from `axis` on, to which scale and bias broadcast. bias
 * may be KILN_NO_TENSOR. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_layer_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, int64_t axis, float epsilon, kiln_tensor_id *output);
/* Group normalization over `groups` groups of channels; scale and bias are [channels]. Before
 * operator set 21 the input's rank must be known (RANK), and more than 256 groups are LIMIT. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_group_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, int64_t groups, float epsilon, kiln_tensor_id *output);
/* Instance normalization: each channel of each image; scale and bias are [channels]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_instance_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, float epsilon, kiln_tensor_id *output);
/* RMS normalization: x / sqrt(mean(x^2) + epsilon) * scale over the last dimension, normalized in
 * float32 whatever the input's type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_rms_normalization(kiln_network *network, const char *name, kiln_tensor_id input,
                                   kiln_tensor_id scale, float epsilon, kiln_tensor_id *output);
/* Local response normalization over `size` channels; ONNX Runtime accepts odd numbers only. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_lrn(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t size,
                                                          float alpha, float beta, float bias,
                                                          kiln_tensor_id *output);

/* --- quantization --- */

/* Quantizes: round(input / scale) + zero_point, ties to even.
 *
 * The output type is that of the zero point, and `dtype` is the same or UNDEFINED. Without a zero
 * point (KILN_NO_TENSOR) it is `dtype` (operator set 21), or uint8 if that is UNDEFINED. scale is a
 * scalar, or a vector along `axis`; with `block_size` above 0 (operator set 21) there is one scale
 * for each block along `axis`. The zero point has the scale's shape.
 *
 * Errors: DTYPE for a type that cannot be quantized to; UNSUPPORTED for float8 before operator set
 * 19, 16-bit and 4-bit types before 21, float4 before 23. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_quantize(kiln_network *network, const char *name, kiln_tensor_id input,
                          kiln_tensor_id scale, kiln_tensor_id zero_point, kiln_dtype dtype,
                          int64_t axis, int64_t block_size, kiln_tensor_id *output);
/* Dequantizes: (input - zero_point) * scale, with the same arguments. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_dequantize(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id zero_point, int64_t axis, int64_t block_size, kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
