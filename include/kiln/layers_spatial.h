/*
 * layers_spatial.h - convolution, pooling, resizing.
 *
 * <kiln/network.h> has the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_SPATIAL_H
#define KILN_LAYERS_SPATIAL_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- convolution and pooling: tensors are [batch, channels, 1 to 3 spatial dimensions] --- */

#define KILN_MAX_SPATIAL 3

typedef enum kiln_padding_mode {
    KILN_PADDING_EXPLICIT = 0,   /* given by `before` and `after` */
    KILN_PADDING_SAME_UPPER = 1, /* output size = input size / stride; an odd element at the end */
    KILN_PADDING_SAME_LOWER = 2, /* likewise; an odd element at the beginning */
    KILN_PADDING_VALID = 3       /* no padding */
} kiln_padding_mode;

/* One number for each spatial dimension. A 0 in strides or dilations means 1. */
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

#define KILN_CONVOLUTION_OPTIONS(...) KILN_INIT_OF_(kiln_convolution_options, __VA_ARGS__)
#define KILN_CONVOLUTION_OPTIONS_INIT KILN_INIT_(kiln_convolution_options)

/* Convolution. kernel: [output channels, input channels / groups, spatial]; bias: [output channels]
 * or KILN_NO_TENSOR; output: [batch, output channels, spatial]. `options` may be NULL: strides of
 * 1, no padding, one group. Errors: RANK if the kernel's rank is not known. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_convolution(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id kernel,
    kiln_tensor_id bias, const kiln_convolution_options *options, kiln_tensor_id *output);
/* Transposed convolution, with the same arguments except for the kernel: [input channels, output
 * channels / groups, spatial]. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_deconvolution(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id kernel,
    kiln_tensor_id bias, const kiln_convolution_options *options, kiln_tensor_id *output);

typedef enum kiln_pooling {
    KILN_POOLING_MAX = 0,
    KILN_POOLING_AVERAGE = 1,
    KILN_POOLING_LP = 2 /* p-norm with p = 2 */
} kiln_pooling;

typedef struct kiln_pooling_options {
    size_t struct_size; /* set by KILN_POOLING_OPTIONS_INIT */
    int32_t spatial;    /* number of spatial dimensions, 1 to 3; 0: 2 */
    int64_t window[KILN_MAX_SPATIAL];
    int64_t strides[KILN_MAX_SPATIAL];   /* 0: 1 */
    int64_t dilations[KILN_MAX_SPATIAL]; /* 0: 1 */
    kiln_padding_mode padding_mode;
    int64_t before[KILN_MAX_SPATIAL];
    int64_t after[KILN_MAX_SPATIAL];
    bool round_up;        /* round the output size up instead of down */
    bool include_padding; /* average: padding counts as zeros */
} kiln_pooling_options;

#define KILN_POOLING_OPTIONS_INIT KILN_INIT_WITH_(kiln_pooling_options, .spatial = 2)

/* Pooling over a window. output: [batch, channels, spatial]. Errors: UNSUPPORTED for an average
 * with dilations before operator set 19. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_pooling(kiln_network *network,
                                                              const char *name, kiln_pooling kind,
                                                              kiln_tensor_id input,
                                                              const kiln_pooling_options *options,
                                                              kiln_tensor_id *output);
/* Pooling over all spatial dimensions, which become 1. Errors: RANK if the input's rank is not
 * known, for KILN_POOLING_LP. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_global_pooling(kiln_network *network,
                                                                     const char *name,
                                                                     kiln_pooling kind,
                                                                     kiln_tensor_id input,
                                                                     kiln_tensor_id *output);

/* --- resizing --- */

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
    bool antialias;               /* when downsampling; linear and cubic */
    int32_t rank;                 /* number of `scales` or `sizes` */
    bool by_size;                 /* use `sizes`; otherwise `scales` */
    float scales[KILN_MAX_RANK];  /* above 0; 1 keeps a dimension */
    int64_t sizes[KILN_MAX_RANK]; /* 0 or more */
} kiln_resize_options;

#define KILN_RESIZE_OPTIONS(...) KILN_INIT_OF_(kiln_resize_options, __VA_ARGS__)
#define KILN_RESIZE_OPTIONS_INIT KILN_INIT_(kiln_resize_options)

/* Resizes by interpolation. Dimension i becomes sizes[i], or the input's times scales[i], rounded
 * down. `rank` must be the input's. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_resize(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             const kiln_resize_options *options,
                                                             kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
