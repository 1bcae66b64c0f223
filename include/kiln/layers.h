/*
 * layers.h - the layers that a network can be built of.
 *
 * The head of <kiln/network.h> has what holds for every one of them: names, failures, the lifetime
 * of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_H
#define KILN_LAYERS_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- convolution and pooling: [batch, channels, 1 to 3 spatial dimensions] --- */

#define KILN_MAX_SPATIAL 3

typedef enum kiln_padding_mode {
    KILN_PADDING_EXPLICIT = 0,   /* as `before` and `after` say */
    KILN_PADDING_SAME_UPPER = 1, /* output size = input size / stride; the odd one at the end */
    KILN_PADDING_SAME_LOWER = 2, /* at the beginning */
    KILN_PADDING_VALID = 3       /* none */
} kiln_padding_mode;

/* One number for each spatial dimension; 0 in strides and dilations stands for 1. */
typedef struct kiln_convolution_options {
    size_t struct_size; /* set by KILN_CONVOLUTION_OPTIONS_INIT */
    int64_t strides[KILN_MAX_SPATIAL];
    int64_t dilations[KILN_MAX_SPATIAL];
    kiln_padding_mode padding_mode;
    int64_t before[KILN_MAX_SPATIAL];
    int64_t after[KILN_MAX_SPATIAL];
    int64_t groups;                           /* 0: 1 */
    int64_t output_padding[KILN_MAX_SPATIAL]; /* deconvolution only */
} kiln_convolution_options;

#define KILN_CONVOLUTION_OPTIONS(...) \
    ((kiln_convolution_options){.struct_size = sizeof(kiln_convolution_options), __VA_ARGS__})
#define KILN_CONVOLUTION_OPTIONS_INIT KILN_CONVOLUTION_OPTIONS()

/* kernel: [output channels, input channels / groups, spatial]; bias: [output channels] or
 * KILN_NO_TENSOR. The kernel's rank must be known. `options` may be NULL. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_convolution(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id kernel,
    kiln_tensor_id bias, const kiln_convolution_options *options, kiln_tensor_id *output);
/* The transpose of a convolution. kernel: [input channels, output channels / groups, spatial].
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_deconvolution(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id kernel,
    kiln_tensor_id bias, const kiln_convolution_options *options, kiln_tensor_id *output);

typedef enum kiln_pooling {
    KILN_POOLING_MAX = 0,
    KILN_POOLING_AVERAGE = 1,
    KILN_POOLING_LP = 2 /* the p-norm, p = 2 */
} kiln_pooling;

typedef struct kiln_pooling_options {
    size_t struct_size; /* set by KILN_POOLING_OPTIONS_INIT */
    int32_t spatial;    /* spatial dimensions, 1 to 3; 0: 2 */
    int64_t window[KILN_MAX_SPATIAL];
    int64_t strides[KILN_MAX_SPATIAL];   /* 0: 1 */
    int64_t dilations[KILN_MAX_SPATIAL]; /* 0: 1 */
    kiln_padding_mode padding_mode;
    int64_t before[KILN_MAX_SPATIAL];
    int64_t after[KILN_MAX_SPATIAL];
    bool round_up;        /* the output's size is rounded up instead of down */
    bool include_padding; /* average: padding counts as zeros */
} kiln_pooling_options;

#define KILN_POOLING_OPTIONS_INIT \
    ((kiln_pooling_options){.struct_size = sizeof(kiln_pooling_options), .spatial = 2})

/* Pools over a window. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_pooling(kiln_network *network,
                                                              const char *name, kiln_pooling kind,
                                                              kiln_tensor_id input,
                                                              const kiln_pooling_options *options,
                                                              kiln_tensor_id *output);
/* Pools over all spatial dimensions, which become 1. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_global_pooling(kiln_network *network,
                                                                     const char *name,
                                                                     kiln_pooling kind,
                                                                     kiln_tensor_id input,
                                                                     kiln_tensor_id *output);

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

KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_unary(kiln_network *network, const char *name, kiln_unary kind,
                       kiln_tensor_id input, kiln_tensor_id *output); /* Since 0.1. */

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

/* Both broadcast as in NumPy. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_elementwise(kiln_network *network, const char *name, kiln_elementwise kind,
                             kiln_tensor_id a, kiln_tensor_id b, kiln_tensor_id *output);
/* condition ? a : b, all three broadcast. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_where(kiln_network *network, const char *name,
                                                            kiln_tensor_id condition,
                                                            kiln_tensor_id a, kiln_tensor_id b,
                                                            kiln_tensor_id *output);
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_cast(kiln_network *network, const char *name,
                                                           kiln_tensor_id input, kiln_dtype dtype,
                                                           kiln_tensor_id *output); /* Since 0.1. */

/* --- products and reductions --- */

/* As numpy.matmul. Since 0.1. */
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

#define KILN_GEMM_OPTIONS_INIT \
    ((kiln_gemm_options){.struct_size = sizeof(kiln_gemm_options), .alpha = 1.0F, .beta = 1.0F})

/* alpha * a * b + beta * c of matrices; c broadcasts, or is KILN_NO_TENSOR. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gemm(kiln_network *network, const char *name,
                                                           kiln_tensor_id a, kiln_tensor_id b,
                                                           kiln_tensor_id c,
                                                           const kiln_gemm_options *options,
                                                           kiln_tensor_id *output);

/* "bij,bjk->bik", as numpy.einsum. Since 0.1. */
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

/* Over `axes`; a count of 0 means all of them. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reduce(
    kiln_network *network, const char *name, kiln_reduction kind, kiln_tensor_id input,
    const int64_t *axes, size_t count, bool keep_dims, kiln_tensor_id *output);
/* The int64 index of the largest (`largest`) or smallest element along `axis`; the first of equals.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_arg(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t axis,
                                                          bool largest, bool keep_dims,
                                                          kiln_tensor_id *output);
/* The k largest or smallest along `axis`, sorted, and their int64 indices. Since 0.1. */
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
/* Running sums along `axis`; `exclusive` leaves the element itself out. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_cumulative_sum(kiln_network *network, const char *name, kiln_tensor_id input,
                                int64_t axis, bool exclusive, bool reverse, kiln_tensor_id *output);

/* --- normalization; epsilon must be above 0 --- */

/* With given statistics, for inference. The four are [channels]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_batch_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, kiln_tensor_id mean, kiln_tensor_id variance, float epsilon,
    kiln_tensor_id *output);
/* Over the dimensions from `axis` on; bias may be KILN_NO_TENSOR. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_layer_normalization(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id bias, int64_t axis, float epsilon, kiln_tensor_id *output);
/* Each of `groups` groups of channels; scale and bias are [channels]. Since 0.1. */
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
/* Local response normalization over `size` channels. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_lrn(kiln_network *network, const char *name,
                                                          kiln_tensor_id input, int64_t size,
                                                          float alpha, float beta, float bias,
                                                          kiln_tensor_id *output);

/* --- shapes --- */

/* A dimension of 0 is taken from the input, one KILN_DYNAMIC is what is left. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reshape(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input,
                                                              const kiln_shape *shape,
                                                              kiln_tensor_id *output);
/* The same with a shape that is computed: an int64 vector. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reshape_to(kiln_network *network,
                                                                 const char *name,
                                                                 kiln_tensor_id input,
                                                                 kiln_tensor_id shape,
                                                                 kiln_tensor_id *output);
/* Output dimension i is input dimension permutation[i]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_transpose(kiln_network *network, const char *name, kiln_tensor_id input,
                           const int64_t *permutation, size_t rank, kiln_tensor_id *output);
/* To a matrix: the dimensions before `axis`, and those from it on. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_flatten(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input, int64_t axis,
                                                              kiln_tensor_id *output);
/* Takes away dimensions of 1; a count of 0 means all of them. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_squeeze(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input,
                                                              const int64_t *axes, size_t count,
                                                              kiln_tensor_id *output);
/* Puts in dimensions of 1, so that `axes` are their places in the output. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_unsqueeze(kiln_network *network,
                                                                const char *name,
                                                                kiln_tensor_id input,
                                                                const int64_t *axes, size_t count,
                                                                kiln_tensor_id *output);
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_concat(kiln_network *network, const char *name, const kiln_tensor_id *inputs,
                        size_t count, int64_t axis, kiln_tensor_id *output); /* Since 0.1. */
/* Into `count` parts of `sizes` along `axis`; sizes NULL: equal parts. `outputs` has room for
 * `count`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_split(kiln_network *network, const char *name,
                                                            kiln_tensor_id input, int64_t axis,
                                                            const int64_t *sizes, size_t count,
                                                            kiln_tensor_id *outputs);
/* From starts to before ends in steps along axes, `count` of each; axes NULL: the first ones; steps
 * NULL: 1. Numbers past the end are cut off, as in Python. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_slice(kiln_network *network, const char *name, kiln_tensor_id input,
                       const int64_t *starts, const int64_t *ends, const int64_t *axes,
                       const int64_t *steps, size_t count, kiln_tensor_id *output);

typedef enum kiln_pad_mode {
    KILN_PAD_CONSTANT = 0, /* `value` in the input's type: a whole number for integers */
    KILN_PAD_REFLECT = 1,
    KILN_PAD_EDGE = 2,
    KILN_PAD_WRAP = 3 /* operator set 19 */
} kiln_pad_mode;

/* `before` and `after` have one number for each of `rank` dimensions; negative ones cut. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_pad(
    kiln_network *network, const char *name, kiln_tensor_id input, const int64_t *before,
    const int64_t *after, size_t rank, kiln_pad_mode mode, float value, kiln_tensor_id *output);
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_tile(kiln_network *network, const char *name,
                                                           kiln_tensor_id input,
                                                           const int64_t *repeats, size_t rank,
                                                           kiln_tensor_id *output); /* Since 0.1. */
/* Broadcasts to `shape`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_expand(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             const kiln_shape *shape,
                                                             kiln_tensor_id *output);
/* The input's dimensions as an int64 vector. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_shape(kiln_network *network, const char *name,
                                                            kiln_tensor_id input,
                                                            kiln_tensor_id *output);
/* start, start + step, ... before limit; three scalars of one type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_range(kiln_network *network, const char *name,
                                                            kiln_tensor_id start,
                                                            kiln_tensor_id limit,
                                                            kiln_tensor_id step,
                                                            kiln_tensor_id *output);

typedef enum kiln_resize_mode {
    KILN_RESIZE_NEAREST = 0,
    KILN_RESIZE_LINEAR = 1,
    KILN_RESIZE_CUBIC = 2
} kiln_resize_mode;

typedef enum kiln_coordinates {
    KILN_COORDINATES_HALF_PIXEL = 0,
    KILN_COORDINATES_PYTORCH_HALF_PIXEL = 1,
    KILN_COORDINATES_ALIGN_CORNERS = 2,
    KILN_COORDINATES_ASYMMETRIC = 3
} kiln_coordinates;

typedef enum kiln_nearest {
    KILN_NEAREST_ROUND_PREFER_FLOOR = 0,
    KILN_NEAREST_ROUND_PREFER_CEIL = 1,
    KILN_NEAREST_FLOOR = 2,
    KILN_NEAREST_CEIL = 3
} kiln_nearest;

typedef struct kiln_resize_options {
    size_t struct_size; /* set by KILN_RESIZE_OPTIONS_INIT */
    kiln_resize_mode mode;
    kiln_coordinates coordinates;
    kiln_nearest nearest;
    float cubic_coefficient;      /* 0: -0.75 */
    bool antialias;               /* when shrinking; linear and cubic */
    int32_t rank;                 /* numbers in `scales` or `sizes` */
    bool by_size;                 /* `sizes` counts, else `scales` */
    float scales[KILN_MAX_RANK];  /* above 0; 1 leaves a dimension as it is */
    int64_t sizes[KILN_MAX_RANK]; /* above 0 */
} kiln_resize_options;

#define KILN_RESIZE_OPTIONS(...) \
    ((kiln_resize_options){.struct_size = sizeof(kiln_resize_options), __VA_ARGS__})
#define KILN_RESIZE_OPTIONS_INIT KILN_RESIZE_OPTIONS()

KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_resize(
    kiln_network *network, const char *name, kiln_tensor_id input,
    const kiln_resize_options *options, kiln_tensor_id *output); /* Since 0.1. */

/* --- indices --- */

/* input[..., indices, ...] along `axis`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gather(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             kiln_tensor_id indices, int64_t axis,
                                                             kiln_tensor_id *output);
/* One element for each index, along `axis`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_gather_elements(kiln_network *network, const char *name, kiln_tensor_id input,
                                 kiln_tensor_id indices, int64_t axis, kiln_tensor_id *output);
/* The last dimension of `indices` is a place in the input. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_gather_nd(kiln_network *network, const char *name, kiln_tensor_id input,
                           kiln_tensor_id indices, int64_t batch_dims, kiln_tensor_id *output);

typedef enum kiln_scatter {
    KILN_SCATTER_REPLACE = 0,
    KILN_SCATTER_ADD = 1,
    KILN_SCATTER_MUL = 2,
    KILN_SCATTER_MAX = 3,
    KILN_SCATTER_MIN = 4
} kiln_scatter;

/* The input with `updates` at `indices` along `axis`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_elements(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, int64_t axis, kiln_scatter how, kiln_tensor_id *output);
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_nd(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, kiln_scatter how, kiln_tensor_id *output); /* Since 0.1. */
/* values: [off, on]; a new dimension of `depth` at `axis`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_one_hot(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id indices, int64_t depth,
                                                              kiln_tensor_id values, int64_t axis,
                                                              kiln_tensor_id *output);

typedef struct kiln_nms_options {
    size_t struct_size; /* set by KILN_NMS_OPTIONS_INIT */
    int64_t max_boxes;  /* of each class in each image */
    float iou_threshold;
    float score_threshold;
    bool center_boxes; /* x center, y center, width, height; else y1, x1, y2, x2 */
} kiln_nms_options;

#define KILN_NMS_OPTIONS(...) \
    ((kiln_nms_options){.struct_size = sizeof(kiln_nms_options), __VA_ARGS__})
#define KILN_NMS_OPTIONS_INIT KILN_NMS_OPTIONS()

/* boxes: [batch, boxes, 4]; scores: [batch, classes, boxes]; output: int64 [chosen, 3] of batch,
 * class and box. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_nms(kiln_network *network, const char *name,
                                                          kiln_tensor_id boxes,
                                                          kiln_tensor_id scores,
                                                          const kiln_nms_options *options,
                                                          kiln_tensor_id *output);

/* --- quantization --- */

/* round(input / scale) + zero_point. The type is the zero point's; without one, `dtype` (operator
 * set 21) or uint8. scale is a scalar, or a vector along `axis`; with `block_size` above 0
 * (operator set 21) one for each block along `axis`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_quantize(kiln_network *network, const char *name, kiln_tensor_id input,
                          kiln_tensor_id scale, kiln_tensor_id zero_point, kiln_dtype dtype,
                          int64_t axis, int64_t block_size, kiln_tensor_id *output);
/* (input - zero_point) * scale, the same way. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_dequantize(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id scale,
    kiln_tensor_id zero_point, int64_t axis, int64_t block_size, kiln_tensor_id *output);

/* --- attention and recurrence --- */

/* Scaled dot product attention. query: [batch, heads, tokens, size], key and value: [batch, kv
 * heads, tokens, size], where heads is a multiple of kv heads (grouped query). */
typedef struct kiln_attention_options {
    size_t struct_size;  /* set by KILN_ATTENTION_OPTIONS_INIT */
    int64_t heads;       /* of the query */
    int64_t kv_heads;    /* 0: as many */
    float scale;         /* 0: 1 / sqrt(size) */
    bool causal;         /* a token sees itself and those before it */
    float softcap;       /* 0: none; above 0: scores go through softcap * tanh(score / softcap) */
    kiln_tensor_id mask; /* added to the scores, broadcast; or bool, true where seen */
    kiln_tensor_id past_key; /* put before `key`; both or none */
    kiln_tensor_id past_value;
} kiln_attention_options;

#define KILN_ATTENTION_OPTIONS_INIT                                          \
    ((kiln_attention_options){.struct_size = sizeof(kiln_attention_options), \
                              .mask = KILN_NO_TENSOR,                        \
                              .past_key = KILN_NO_TENSOR,                    \
                              .past_value = KILN_NO_TENSOR})

/* One operator from operator set 23 on, ordinary ones before it. `present_key` and `present_value`
 * may be NULL; they get past and new keys and values together. The query's rank must be 4. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_attention(
    kiln_network *network, const char *name, kiln_tensor_id query, kiln_tensor_id key,
    kiln_tensor_id value, const kiln_attention_options *options, kiln_tensor_id *output,
    kiln_tensor_id *present_key, kiln_tensor_id *present_value);

typedef enum kiln_recurrent {
    KILN_RECURRENT_RNN = 0,
    KILN_RECURRENT_GRU = 1,
    KILN_RECURRENT_LSTM = 2
} kiln_recurrent;

typedef enum kiln_direction {
    KILN_DIRECTION_FORWARD = 0,
    KILN_DIRECTION_REVERSE = 1,
    KILN_DIRECTION_BOTH = 2
} kiln_direction;

typedef struct kiln_recurrent_options {
    size_t struct_size; /* set by KILN_RECURRENT_OPTIONS_INIT */
    kiln_direction direction;
    int64_t hidden_size;
    bool reset_after;              /* GRU: linear_before_reset, as in cuDNN and PyTorch */
    kiln_tensor_id bias;           /* [directions, 2 * gates * hidden] */
    kiln_tensor_id lengths;        /* int32 [batch] */
    kiln_tensor_id initial_hidden; /* [directions, batch, hidden] */
    kiln_tensor_id initial_cell;   /* LSTM: the same */
} kiln_recurrent_options;

#define KILN_RECURRENT_OPTIONS_INIT                                          \
    ((kiln_recurrent_options){.struct_size = sizeof(kiln_recurrent_options), \
                              .bias = KILN_NO_TENSOR,                        \
                              .lengths = KILN_NO_TENSOR,                     \
                              .initial_hidden = KILN_NO_TENSOR,              \
                              .initial_cell = KILN_NO_TENSOR})

/* input: [tokens, batch, size]; weights: [directions, gates * hidden, size]; recurrence:
 * [directions, gates * hidden, hidden]; gates in ONNX's order (LSTM: iofc, GRU: zrh). output:
 * [tokens, directions, batch, hidden]. `last_hidden` and, for an LSTM, `last_cell` may be NULL;
 * they are [directions, batch, hidden]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_recurrent(
    kiln_network *network, const char *name, kiln_recurrent kind, kiln_tensor_id input,
    kiln_tensor_id weights, kiln_tensor_id recurrence, const kiln_recurrent_options *options,
    kiln_tensor_id *output, kiln_tensor_id *last_hidden, kiln_tensor_id *last_cell);

/* --- control flow --- */

/* A graph to be used once as the branch of an If or the body of a Loop. It belongs to `network` and
 * is destroyed with it. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_create_branch(kiln_network *network,
                                                                const char *name,
                                                                kiln_network **branch);
/* A tensor of the network around it, to be read inside of `branch`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_capture(kiln_network *branch,
                                                          kiln_tensor_id outer,
                                                          kiln_tensor_id *inner);
/* Runs `then` or `otherwise`; both have no inputs and `count` outputs each. `condition` is one
 * bool. The branches take no layer any more after this. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_if(kiln_network *network, const char *name,
                                                         kiln_tensor_id condition,
                                                         kiln_network *then,
                                                         kiln_network *otherwise,
                                                         kiln_tensor_id *outputs, size_t count);
/* Runs `body` until its first output is false or `trips` is reached (either may be KILN_NO_TENSOR).
 * Its inputs are the int64 iteration, the bool condition and the carried tensors; its outputs the
 * condition, the carried tensors, and what is to be stacked up. `outputs` gets the carried ones and
 * the stacks, `count` in all. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_loop(kiln_network *network, const char *name,
                                                           kiln_tensor_id trips,
                                                           kiln_tensor_id condition,
                                                           const kiln_tensor_id *carried,
                                                           size_t carried_count, kiln_network *body,
                                                           kiln_tensor_id *outputs, size_t count);

/* --- any operator by name --- */

typedef enum kiln_attribute_kind {
    KILN_ATTRIBUTE_INT = 0,
    KILN_ATTRIBUTE_FLOAT = 1,
    KILN_ATTRIBUTE_STRING = 2,
    KILN_ATTRIBUTE_INTS = 3,
    KILN_ATTRIBUTE_FLOATS = 4,
    KILN_ATTRIBUTE_STRINGS = 5,
    KILN_ATTRIBUTE_TENSOR = 6,
    KILN_ATTRIBUTE_GRAPH = 7
} kiln_attribute_kind;

/* One attribute; of the values only the one that `kind` says counts. */
typedef struct kiln_attribute {
    size_t struct_size; /* set by KILN_ATTRIBUTE_INIT */
    const char *name;
    kiln_attribute_kind kind;
    int64_t i;
    float f;
    const char *s;
    const int64_t *ints;
    const float *floats;
    const char *const *strings;
    size_t count;               /* of ints, floats or strings */
    const kiln_weights *tensor; /* the bytes it points at are not copied, as those of weights */
    kiln_network *graph;        /* of kiln_network_create_branch; it takes no layer any more */
} kiln_attribute;

#define KILN_ATTRIBUTE(...) ((kiln_attribute){.struct_size = sizeof(kiln_attribute), __VA_ARGS__})
#define KILN_ATTRIBUTE_INIT KILN_ATTRIBUTE()

/* Any operator: one of ONNX, whether it has a layer here or not, a TensorRT plugin, a custom one of
 * ONNX Runtime. `op_type` is its name, as "Trilu". `domain` NULL or "" is ONNX's own; another one
 * is imported with `version` (0: 1), which counts for nothing else. An input may be
 * KILN_NO_TENSOR; all `output_count` outputs are there. Names, inputs and attributes are copied.
 *
 * What ONNX has is checked and inferred as every layer is: INVALID_ARGUMENT for the number of
 * inputs or outputs, an attribute that is missing, unknown or of another kind, or a value; DTYPE,
 * RANK, SHAPE; UNSUPPORTED where the operator set does not have it yet. Of an operator that ONNX
 * does not have nothing is known here; whether the backend has it shows when the network is
 * validated for it. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_node(kiln_network *network, const char *name, const char *domain, int32_t version,
                      const char *op_type, const kiln_tensor_id *inputs, size_t input_count,
                      const kiln_attribute *attributes, size_t attribute_count,
                      kiln_tensor_id *outputs, size_t output_count);

#ifdef __cplusplus
}
#endif

#endif
