/*
 * layers_shape.h - layers that move elements: reshaping, slicing, indexing.
 *
 * <kiln/network.h> has the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_SHAPE_H
#define KILN_LAYERS_SHAPE_H

#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- shapes --- */

/* Changes the shape. A dimension of 0 is copied from the input, and one KILN_DYNAMIC dimension
 * takes the remaining elements. Errors: SHAPE if the number of elements does not match. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reshape(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input,
                                                              const kiln_shape *shape,
                                                              kiln_tensor_id *output);
/* Changes the shape to a computed one, an int64 vector. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_reshape_to(kiln_network *network,
                                                                 const char *name,
                                                                 kiln_tensor_id input,
                                                                 kiln_tensor_id shape,
                                                                 kiln_tensor_id *output);
/* Permutes the dimensions: output dimension i is input dimension permutation[i]. `permutation` has
 * `rank` numbers, each dimension once. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_transpose(kiln_network *network, const char *name, kiln_tensor_id input,
                           const int64_t *permutation, size_t rank, kiln_tensor_id *output);
/* Flattens to a matrix of the dimensions before `axis` by those from it on. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_flatten(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input, int64_t axis,
                                                              kiln_tensor_id *output);
/* Removes dimensions of size 1; a count of 0 means all of them. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_squeeze(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id input,
                                                              const int64_t *axes, size_t count,
                                                              kiln_tensor_id *output);
/* Inserts dimensions of size 1; `axes` are their positions in the output. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_unsqueeze(kiln_network *network,
                                                                const char *name,
                                                                kiln_tensor_id input,
                                                                const int64_t *axes, size_t count,
                                                                kiln_tensor_id *output);
/* Concatenates `count` inputs along `axis`; their other dimensions are equal. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_concat(kiln_network *network,
                                                             const char *name,
                                                             const kiln_tensor_id *inputs,
                                                             size_t count, int64_t axis,
                                                             kiln_tensor_id *output);
/* Splits along `axis` into `count` parts of `sizes`; sizes NULL: equal parts, of which the last may
 * be smaller. `outputs` has room for `count`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_split(kiln_network *network, const char *name,
                                                            kiln_tensor_id input, int64_t axis,
                                                            const int64_t *sizes, size_t count,
                                                            kiln_tensor_id *outputs);
/* Takes elements from starts up to, but not including, ends, in steps, along axes; each array has
 * `count` numbers. axes NULL: the first axes; steps NULL: 1. Numbers past the end are clamped, as
 * in Python. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_slice(kiln_network *network, const char *name, kiln_tensor_id input,
                       const int64_t *starts, const int64_t *ends, const int64_t *axes,
                       const int64_t *steps, size_t count, kiln_tensor_id *output);

typedef enum kiln_pad_mode {
    KILN_PAD_CONSTANT = 0, /* `value` in the input's type; a whole number for integers */
    KILN_PAD_REFLECT = 1,
    KILN_PAD_EDGE = 2,
    KILN_PAD_WRAP = 3 /* needs operator set 19 */
} kiln_pad_mode;

/* Pads each of `rank` dimensions by `before` and `after`; negative numbers crop. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_pad(
    kiln_network *network, const char *name, kiln_tensor_id input, const int64_t *before,
    const int64_t *after, size_t rank, kiln_pad_mode mode, float value, kiln_tensor_id *output);
/* Repeats dimension i repeats[i] times, 0 or more; `repeats` has one number for each of `rank`
 * dimensions. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_tile(kiln_network *network, const char *name,
                                                           kiln_tensor_id input,
                                                           const int64_t *repeats, size_t rank,
                                                           kiln_tensor_id *output);
/* Broadcasts to `shape`, which is static; a 1 in it keeps the input's dimension. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_expand(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             const kiln_shape *shape,
                                                             kiln_tensor_id *output);
/* The input's dimensions as an int64 vector. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_shape(kiln_network *network, const char *name,
                                                            kiln_tensor_id input,
                                                            kiln_tensor_id *output);
/* A vector of start, start + step, ... up to but not including limit; three scalars of one type.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_range(kiln_network *network, const char *name,
                                                            kiln_tensor_id start,
                                                            kiln_tensor_id limit,
                                                            kiln_tensor_id step,
                                                            kiln_tensor_id *output);

/* --- indices --- */

/* input[..., indices, ...]: the dimensions of `indices` replace `axis`. Indices are int32 or int64,
 * here and below. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gather(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             kiln_tensor_id indices, int64_t axis,
                                                             kiln_tensor_id *output);
/* Gathers one element for each index, along `axis`; the output has the shape of `indices`. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_gather_elements(kiln_network *network, const char *name, kiln_tensor_id input,
                                 kiln_tensor_id indices, int64_t axis, kiln_tensor_id *output);
/* Gathers elements or slices: the last dimension of `indices` holds coordinates in the input, after
 * `batch_dims` dimensions that both share. Since 0.1. */
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

/* The input with `updates` written at `indices` along `axis`; indices and updates have the same
 * shape. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_elements(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, int64_t axis, kiln_scatter how, kiln_tensor_id *output);
/* The input with `updates` written at coordinates, as kiln_network_add_gather_nd reads them.
 * `indices` are int64. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_nd(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, kiln_scatter how, kiln_tensor_id *output);
/* One-hot encoding, with a new dimension of `depth` (0 or more) at `axis`. values: [off, on]. An
 * index out of range gives off throughout. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_one_hot(kiln_network *network,
                                                              const char *name,
                                                              kiln_tensor_id indices, int64_t depth,
                                                              kiln_tensor_id values, int64_t axis,
                                                              kiln_tensor_id *output);

typedef struct kiln_nms_options {
    size_t struct_size; /* set by KILN_NMS_OPTIONS_INIT */
    int64_t max_boxes;  /* most boxes for each class in each image */
    float iou_threshold;
    float score_threshold;
    bool center_boxes; /* x center, y center, width, height; otherwise y1, x1, y2, x2 */
} kiln_nms_options;

#define KILN_NMS_OPTIONS(...) KILN_INIT_OF_(kiln_nms_options, __VA_ARGS__)
#define KILN_NMS_OPTIONS_INIT KILN_INIT_(kiln_nms_options)

/* Non-maximum suppression. boxes: [batch, boxes, 4]; scores: [batch, classes, boxes]; output: int64
 * [selected, 3], each row with batch, class and box. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_nms(kiln_network *network, const char *name,
                                                          kiln_tensor_id boxes,
                                                          kiln_tensor_id scores,
                                                          const kiln_nms_options *options,
                                                          kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
