/*
 * layers_shape.h - what moves elements: shapes, parts, indices.
 *
 * <kiln/network.h> has what holds for every layer: names, failures, the lifetime of weights,
 * threads.
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

/* A dimension of 0 is taken from the input, one KILN_DYNAMIC is what is left. SHAPE where the
 * elements do not come out even. Since 0.1. */
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
/* Output dimension i is input dimension permutation[i]; `rank` numbers, each dimension once. Since
 * 0.1. */
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
/* `count` inputs one after the other along `axis`; the other dimensions are the same. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_concat(kiln_network *network,
                                                             const char *name,
                                                             const kiln_tensor_id *inputs,
                                                             size_t count, int64_t axis,
                                                             kiln_tensor_id *output);
/* Into `count` parts of `sizes` along `axis`; sizes NULL: equal parts, of which the last may be
 * smaller. `outputs` has room for `count`. Since 0.1. */
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
/* Dimension i is repeated repeats[i] times, 0 or more; one number for each of `rank` dimensions.
 * Since 0.1. */
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
/* start, start + step, ... before limit, as a vector; three scalars of one type. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_range(kiln_network *network, const char *name,
                                                            kiln_tensor_id start,
                                                            kiln_tensor_id limit,
                                                            kiln_tensor_id step,
                                                            kiln_tensor_id *output);

/* --- indices --- */

/* input[..., indices, ...] along `axis`, which the dimensions of `indices` take the place of.
 * Indices are int32 or int64, here and below. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_gather(kiln_network *network,
                                                             const char *name, kiln_tensor_id input,
                                                             kiln_tensor_id indices, int64_t axis,
                                                             kiln_tensor_id *output);
/* One element for each index, along `axis`; the output has the shape of `indices`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_gather_elements(kiln_network *network, const char *name, kiln_tensor_id input,
                                 kiln_tensor_id indices, int64_t axis, kiln_tensor_id *output);
/* The last dimension of `indices` is a place in the input, behind `batch_dims` dimensions that both
 * have. Since 0.1. */
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

/* The input with `updates` at `indices` along `axis`; the two have one shape. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_elements(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, int64_t axis, kiln_scatter how, kiln_tensor_id *output);
/* The same at places, as kiln_network_add_gather_nd reads them. `indices` are int64. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_scatter_nd(
    kiln_network *network, const char *name, kiln_tensor_id input, kiln_tensor_id indices,
    kiln_tensor_id updates, kiln_scatter how, kiln_tensor_id *output);
/* values: [off, on]; a new dimension of `depth` (0 or more) at `axis`, off all along it for an
 * index out of range. Since 0.1. */
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

#define KILN_NMS_OPTIONS(...) KILN_INIT_OF_(kiln_nms_options, __VA_ARGS__)
#define KILN_NMS_OPTIONS_INIT KILN_INIT_(kiln_nms_options)

/* boxes: [batch, boxes, 4]; scores: [batch, classes, boxes]; output: int64 [chosen, 3] of batch,
 * class and box. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_add_nms(kiln_network *network, const char *name,
                                                          kiln_tensor_id boxes,
                                                          kiln_tensor_id scores,
                                                          const kiln_nms_options *options,
                                                          kiln_tensor_id *output);

#ifdef __cplusplus
}
#endif

#endif
