/* SPDX-License-Identifier: Apache-2.0 */
#include <stdint.h>

#include "layer_parts.h"

static kiln_status image(kiln_network *n, kiln_tensor_id *x)
{
    return layer_input(n, "x", F, KILN_SHAPE(1, 4, 7, 7), x);
}

/* --- convolution, pooling, resize --- */

static kiln_status convolution(kiln_network *n)
{
    kiln_tensor_id x, w, b, y;
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.strides[0] = options.strides[1] = 2;
    options.dilations[1] = 2;
    options.before[0] = options.after[1] = 1;
    options.groups = 2;
    TRY(image(n, &x));
    TRY(layer_weights(n, "w", F, KILN_SHAPE(6, 2, 3, 3), layer_numbers, &w));
    TRY(layer_weights(n, "b", F, KILN_SHAPE(6), layer_numbers, &b));
    OUTPUT(kiln_network_add_convolution(n, "y", x, w, b, &options, &y));
    return KILN_OK;
}

static kiln_status convolution_same(kiln_network *n)
{
    kiln_tensor_id x, w, y, z;
    kiln_convolution_options options =
        KILN_CONVOLUTION_OPTIONS(.padding_mode = KILN_PADDING_SAME_UPPER);
    TRY(layer_input(n, "x", F, KILN_SHAPE(2, 3, 9), &x));
    TRY(layer_weights(n, "w", F, KILN_SHAPE(5, 3, 4), layer_numbers, &w));
    TRY(kiln_network_add_convolution(n, "y", x, w, NONE, &options, &y));
    TRY(kiln_network_add_convolution(n, "z", x, w, NONE, NULL, &z));
    TRY(kiln_network_mark_output(n, y));
    return kiln_network_mark_output(n, z);
}

static kiln_status convolution_3d(kiln_network *n)
{
    kiln_tensor_id x, w, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(1, 2, 4, 5, 6), &x));
    TRY(layer_weights(n, "w", F, KILN_SHAPE(2, 2, 2, 3, 3), layer_numbers, &w));
    OUTPUT(kiln_network_add_convolution(n, "y", x, w, NONE, NULL, &y));
    return KILN_OK;
}

static kiln_status deconvolution(kiln_network *n)
{
    kiln_tensor_id x, w, y;
    kiln_convolution_options options = KILN_CONVOLUTION_OPTIONS_INIT;
    options.strides[0] = options.strides[1] = 2;
    options.output_padding[0] = options.output_padding[1] = 1;
    options.before[0] = options.before[1] = options.after[0] = options.after[1] = 1;
    TRY(image(n, &x));
    TRY(layer_weights(n, "w", F, KILN_SHAPE(4, 3, 3, 3), layer_numbers, &w));
    OUTPUT(kiln_network_add_deconvolution(n, "y", x, w, NONE, &options, &y));
    return KILN_OK;
}

static kiln_status pooling(kiln_network *n)
{
    static const char *const names[] = {"max", "average", "lp"};
    kiln_tensor_id x, y;
    kiln_pooling_options options = KILN_POOLING_OPTIONS_INIT;
    options.window[0] = options.window[1] = 3;
    options.strides[0] = options.strides[1] = 2;
    options.before[0] = options.before[1] = options.after[0] = options.after[1] = 1;
    TRY(image(n, &x));
    for (int kind = KILN_POOLING_MAX; kind <= KILN_POOLING_LP; kind++) {
        options.include_padding = true;
        OUTPUT(kiln_network_add_pooling(n, names[kind], (kiln_pooling)kind, x, &options, &y));
        OUTPUT(kiln_network_add_global_pooling(n, NULL, (kiln_pooling)kind, x, &y));
    }
    return KILN_OK;
}

static kiln_status resize(kiln_network *n)
{
    kiln_tensor_id x, y;
    kiln_resize_options options = KILN_RESIZE_OPTIONS(.rank = 4);
    options.scales[0] = options.scales[1] = 1.0F;
    options.scales[2] = options.scales[3] = 2.0F;
    TRY(image(n, &x));
    options.coordinates = KILN_COORDINATES_ASYMMETRIC;
    options.nearest = KILN_NEAREST_FLOOR;
    OUTPUT(kiln_network_add_resize(n, "nearest", x, &options, &y));
    options.mode = KILN_RESIZE_LINEAR;
    options.coordinates = KILN_COORDINATES_HALF_PIXEL;
    OUTPUT(kiln_network_add_resize(n, "linear", x, &options, &y));
    options.mode = KILN_RESIZE_CUBIC;
    options.coordinates = KILN_COORDINATES_ALIGN_CORNERS;
    options.by_size = true;
    options.sizes[0] = 1;
    options.sizes[1] = 4;
    options.sizes[2] = 10;
    options.sizes[3] = 5;
    OUTPUT(kiln_network_add_resize(n, "cubic", x, &options, &y));
    return KILN_OK;
}

/* --- element by element --- */

static kiln_status activations(kiln_network *n)
{
    kiln_tensor_id x, y, slope;
    TRY(image(n, &x));
    for (int kind = KILN_ACTIVATION_IDENTITY; kind <= KILN_ACTIVATION_CELU; kind++) {
        OUTPUT(kiln_network_add_activation(n, NULL, (kiln_activation)kind, x, 0.3F, 0.6F, &y));
    }
    TRY(layer_weights(n, "slope", F, KILN_SHAPE(4, 1, 1), layer_numbers, &slope));
    OUTPUT(kiln_network_add_prelu(n, "prelu", x, slope, &y));
    return KILN_OK;
}

static kiln_status unary(kiln_network *n)
{
    kiln_tensor_id x, b, i, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 5), &x)); /* between 0 and 1 */
    TRY(layer_input(n, "b", KILN_DTYPE_BOOL, KILN_SHAPE(3, 5), &b));
    TRY(layer_input(n, "i", KILN_DTYPE_INT32, KILN_SHAPE(3, 5), &i));
    for (int kind = KILN_UNARY_ABS; kind <= KILN_UNARY_IS_INF; kind++) {
        kiln_tensor_id from = kind == KILN_UNARY_NOT ? b : kind == KILN_UNARY_BITWISE_NOT ? i : x;
        if (kind == KILN_UNARY_ACOSH) { /* from 1 on */
            TRY(kiln_network_add_unary(n, "exp2", KILN_UNARY_EXP, x, &from));
        }
        OUTPUT(kiln_network_add_unary(n, NULL, (kiln_unary)kind, from, &y));
    }
    return KILN_OK;
}

static kiln_status elementwise(kiln_network *n)
{
    kiln_tensor_id a, b, i, j, p, q, y;
    TRY(layer_input(n, "a", F, KILN_SHAPE(2, 1, 5), &a));
    TRY(layer_weights(n, "b", F, KILN_SHAPE(3, 1), layer_positive, &b));
    TRY(layer_input(n, "i", KILN_DTYPE_INT32, KILN_SHAPE(4), &i));
    static const int32_t whole[] = {3, 2, 5, 7};
    TRY(layer_weights(n, "j", KILN_DTYPE_INT32, KILN_SHAPE(4), whole, &j));
    TRY(layer_input(n, "p", KILN_DTYPE_BOOL, KILN_SHAPE(2, 3), &p));
    TRY(layer_input(n, "q", KILN_DTYPE_BOOL, KILN_SHAPE(3), &q));
    for (int kind = 0; kind <= KILN_ELEMENTWISE_BITWISE_XOR; kind++) {
        const bool is_whole = kind == KILN_ELEMENTWISE_MOD || kind >= KILN_ELEMENTWISE_BITWISE_AND;
        const bool is_bool = kind >= KILN_ELEMENTWISE_AND && kind <= KILN_ELEMENTWISE_XOR;
        TRY(kiln_network_add_elementwise(n, NULL, (kiln_elementwise)kind,
                                         is_whole  ? i
                                         : is_bool ? p
                                                   : a,
                                         is_whole  ? j
                                         : is_bool ? q
                                                   : b,
                                         &y));
        TRY(kiln_network_mark_output(n, y));
    }
    OUTPUT(kiln_network_add_where(n, "where", q, b, b, &y));
    OUTPUT(kiln_network_add_cast(n, "cast", a, KILN_DTYPE_INT32, &y));
    return KILN_OK;
}

/* --- products and reductions --- */

static kiln_status products(kiln_network *n)
{
    kiln_tensor_id a, w, c, y;
    kiln_gemm_options options = KILN_GEMM_OPTIONS_INIT;
    options.alpha = 0.5F;
    options.beta = 2.0F;
    options.transpose_b = true;
    TRY(layer_input(n, "a", F, KILN_SHAPE(3, 4), &a));
    TRY(layer_weights(n, "w", F, KILN_SHAPE(5, 4), layer_numbers, &w));
    TRY(layer_weights(n, "c", F, KILN_SHAPE(5), layer_numbers, &c));
    OUTPUT(kiln_network_add_gemm(n, "gemm", a, w, c, &options, &y));
    const kiln_tensor_id both[] = {a, w};
    OUTPUT(kiln_network_add_einsum(n, "einsum", "ij,kj->ki", both, 2, &y));
    TRY(layer_weights(n, "v", F, KILN_SHAPE(2, 4, 3), layer_numbers, &w));
    OUTPUT(kiln_network_add_matrix_multiply(n, "product", a, w, &y));
    return KILN_OK;
}

static kiln_status reductions(kiln_network *n)
{
    kiln_tensor_id x, y, z;
    const int64_t axes[] = {0, -1};
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 4, 5), &x));
    for (int kind = KILN_REDUCE_SUM; kind <= KILN_REDUCE_SUM_SQUARE; kind++) {
        OUTPUT(
            kiln_network_add_reduce(n, NULL, (kiln_reduction)kind, x, axes, 2, kind % 2 == 0, &y));
        OUTPUT(
            kiln_network_add_reduce(n, NULL, (kiln_reduction)kind, x, NULL, 0, kind % 2 == 1, &y));
    }
    OUTPUT(kiln_network_add_arg(n, "largest", x, 1, true, false, &y));
    OUTPUT(kiln_network_add_arg(n, "smallest", x, -1, false, true, &y));
    TRY(kiln_network_add_top_k(n, "top", x, 3, -1, true, &y, &z));
    TRY(kiln_network_mark_output(n, y));
    TRY(kiln_network_mark_output(n, z));
    OUTPUT(kiln_network_add_softmax(n, "softmax", x, 1, false, &y));
    OUTPUT(kiln_network_add_softmax(n, "logsoftmax", x, -1, true, &y));
    OUTPUT(kiln_network_add_cumulative_sum(n, "running", x, 1, true, true, &y));
    return KILN_OK;
}

/* --- normalization --- */

static kiln_status normalizations(kiln_network *n)
{
    kiln_tensor_id x, s, b, m, v, w, y;
    TRY(image(n, &x));
    TRY(layer_weights(n, "scale", F, KILN_SHAPE(4), layer_positive, &s));
    TRY(layer_weights(n, "bias", F, KILN_SHAPE(4), layer_numbers, &b));
    TRY(layer_weights(n, "mean", F, KILN_SHAPE(4), layer_numbers + 4, &m));
    TRY(layer_weights(n, "variance", F, KILN_SHAPE(4), layer_positive + 4, &v));
    TRY(layer_weights(n, "last", F, KILN_SHAPE(7), layer_numbers, &w));
    OUTPUT(kiln_network_add_batch_normalization(n, "batch", x, s, b, m, v, 1e-3F, &y));
    OUTPUT(kiln_network_add_layer_normalization(n, "layer", x, w, NONE, -1, 1e-5F, &y));
    OUTPUT(kiln_network_add_group_normalization(n, "group", x, s, b, 2, 1e-5F, &y));
    OUTPUT(kiln_network_add_instance_normalization(n, "instance", x, s, b, 1e-5F, &y));
    OUTPUT(kiln_network_add_rms_normalization(n, "rms", x, w, 1e-5F, &y));
    OUTPUT(kiln_network_add_lrn(n, "lrn", x, 3, 0.1F, 0.75F, 1.0F, &y));
    return KILN_OK;
}

/* --- shapes --- */

static kiln_status shapes(kiln_network *n)
{
    kiln_tensor_id x, y, u, parts[3];
    const int64_t permutation[] = {2, 0, 1};
    const int64_t axes[] = {0, -1};
    const int64_t sizes[] = {1, 3};
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 4, 5), &x));
    OUTPUT(kiln_network_add_reshape(n, "reshape", x, &KILN_SHAPE(0, KILN_DYNAMIC), &y));
    TRY(kiln_network_add_shape(n, "shape", x, &u));
    TRY(kiln_network_mark_output(n, u));
    OUTPUT(kiln_network_add_reshape_to(n, "back", y, u, &y));
    OUTPUT(kiln_network_add_transpose(n, "transpose", x, permutation, 3, &y));
    OUTPUT(kiln_network_add_flatten(n, "flatten", x, 2, &y));
    TRY(kiln_network_add_unsqueeze(n, "unsqueeze", x, axes, 2, &u));
    TRY(kiln_network_mark_output(n, u));
    OUTPUT(kiln_network_add_squeeze(n, "squeeze", u, axes, 2, &y));
    TRY(kiln_network_add_split(n, "split", x, 1, sizes, 2, parts));
    TRY(kiln_network_mark_output(n, parts[0]));
    TRY(kiln_network_mark_output(n, parts[1]));
    TRY(kiln_network_add_split(n, "thirds", x, 0, NULL, 3, parts));
    OUTPUT(kiln_network_add_concat(n, "concat", parts, 3, -2, &y));
    const int64_t starts[] = {-1, 1};
    const int64_t ends[] = {-9, 100};
    const int64_t steps[] = {-2, 1};
    const int64_t along[] = {2, 0};
    OUTPUT(kiln_network_add_slice(n, "slice", x, starts, ends, along, steps, 2, &y));
    const int64_t before[] = {1, 0, 2};
    const int64_t after[] = {0, 1, 2};
    OUTPUT(kiln_network_add_pad(n, "pad", x, before, after, 3, KILN_PAD_CONSTANT, 1.5F, &y));
    OUTPUT(kiln_network_add_pad(n, "reflect", x, before, after, 3, KILN_PAD_REFLECT, 0.0F, &y));
    OUTPUT(kiln_network_add_pad(n, "edge", x, before, after, 3, KILN_PAD_EDGE, 0.0F, &y));
    const int64_t repeats[] = {1, 2, 1};
    OUTPUT(kiln_network_add_tile(n, "tile", x, repeats, 3, &y));
    OUTPUT(kiln_network_add_expand(n, "expand", x, &KILN_SHAPE(2, 1, 4, 1), &y));
    return KILN_OK;
}

static kiln_status ranges(kiln_network *n)
{
    static const int64_t values[] = {2, 11, 3};
    kiln_tensor_id x, a, b, c, y, z;
    TRY(layer_input(n, "x", I, KILN_SHAPE(3), &x));
    TRY(layer_weights(n, "start", I, KILN_SHAPE_SCALAR, &values[0], &a));
    TRY(layer_weights(n, "limit", I, KILN_SHAPE_SCALAR, &values[1], &b));
    TRY(layer_weights(n, "step", I, KILN_SHAPE_SCALAR, &values[2], &c));
    TRY(kiln_network_add_range(n, "range", a, b, c, &y));
    TRY(kiln_network_add_elementwise(n, "sum", KILN_ELEMENTWISE_ADD, x, y, &z));
    return kiln_network_mark_output(n, z);
}

/* --- indices --- */

static kiln_status indices(kiln_network *n)
{
    static const int64_t picks[] = {2, 0, 1, 1};
    static const int64_t elements[] = {0, 1, 2, 1, 0, 2};
    static const float off_on[] = {-1.0F, 5.0F};
    kiln_tensor_id x, i, e, p, u, y, v;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 4), &x));
    TRY(layer_weights(n, "i", I, KILN_SHAPE(2, 2), picks, &i));
    TRY(layer_weights(n, "e", I, KILN_SHAPE(3, 2), elements, &e));
    TRY(layer_weights(n, "p", I, KILN_SHAPE(2, 2), picks, &p));
    TRY(layer_weights(n, "u", F, KILN_SHAPE(3, 2), layer_numbers, &u));
    TRY(layer_weights(n, "two", F, KILN_SHAPE(2), layer_numbers, &v));
    OUTPUT(kiln_network_add_gather(n, "gather", x, i, 1, &y));
    OUTPUT(kiln_network_add_gather_elements(n, "elements", x, e, 1, &y));
    OUTPUT(kiln_network_add_gather_nd(n, "nd", x, p, 0, &y));
    OUTPUT(kiln_network_add_scatter_elements(n, "scatter", x, e, u, 1, KILN_SCATTER_ADD, &y));
    OUTPUT(kiln_network_add_scatter_nd(n, "scatter_nd", x, p, v, KILN_SCATTER_REPLACE, &y));
    TRY(layer_weights(n, "off_on", F, KILN_SHAPE(2), off_on, &v));
    OUTPUT(kiln_network_add_one_hot(n, "one_hot", e, 4, v, -1, &y));
    return KILN_OK;
}

static kiln_status suppression(kiln_network *n)
{
    static const float corners[] = {0.0F, 0.0F, 1.0F, 1.0F, 0.0F, 0.1F, 1.0F, 1.1F,
                                    0.0F, 5.0F, 1.0F, 6.0F, 0.0F, 5.1F, 1.0F, 6.1F};
    kiln_tensor_id boxes, scores, y;
    kiln_nms_options options = KILN_NMS_OPTIONS(.max_boxes = 3, .iou_threshold = 0.5F);
    TRY(layer_weights(n, "boxes", F, KILN_SHAPE(1, 4, 4), corners, &boxes));
    TRY(layer_input(n, "x", F, KILN_SHAPE(1, 2, 4), &scores));
    OUTPUT(kiln_network_add_nms(n, "y", boxes, scores, &options, &y));
    return KILN_OK;
}

/* --- quantization --- */

static kiln_status quantization(kiln_network *n)
{
    static const int8_t zeros[] = {3, -3, 0, 5};
    static const float one_scale[] = {0.05F};
    static const uint8_t one_zero[] = {100};
    kiln_tensor_id x, s, z, t, zero, q, y;
    TRY(image(n, &x));
    TRY(layer_weights(n, "s", F, KILN_SHAPE(4), layer_positive, &s));
    TRY(layer_weights(n, "z", KILN_DTYPE_INT8, KILN_SHAPE(4), zeros, &z));
    TRY(layer_weights(n, "t", F, KILN_SHAPE_SCALAR, one_scale, &t));
    TRY(layer_weights(n, "zero", KILN_DTYPE_UINT8, KILN_SHAPE_SCALAR, one_zero, &zero));
    TRY(kiln_network_add_quantize(n, "per_axis", x, s, z, KILN_DTYPE_UNDEFINED, 1, 0, &q));
    TRY(kiln_network_mark_output(n, q));
    OUTPUT(kiln_network_add_dequantize(n, "back", q, s, z, 1, 0, &y));
    TRY(kiln_network_add_quantize(n, "per_tensor", x, t, zero, KILN_DTYPE_UINT8, 0, 0, &q));
    OUTPUT(kiln_network_add_dequantize(n, "again", q, t, zero, 0, 0, &y));
    return KILN_OK;
}

static kiln_status quantization_in_blocks(kiln_network *n)
{
    static const uint8_t packed[] = {0x21, 0x43, 0x65, 0x87, 0xa9, 0xcb, 0xed, 0x0f};
    kiln_tensor_id x, w, s, y;
    TRY(layer_input(n, "x", F, KILN_SHAPE(2, 4), &x));
    TRY(layer_weights(n, "w", KILN_DTYPE_INT4, KILN_SHAPE(4, 4), packed, &w));
    TRY(layer_weights(n, "s", F, KILN_SHAPE(2, 4), layer_positive, &s));
    TRY(kiln_network_add_dequantize(n, "dequantized", w, s, NONE, 0, 2, &w));
    OUTPUT(kiln_network_add_matrix_multiply(n, "y", x, w, &y));
    return KILN_OK;
}

/* --- control flow, plugins --- */

static kiln_status branches(kiln_network *n)
{
    kiln_tensor_id x, c, inner, y;
    kiln_network *then = NULL;
    kiln_network *otherwise = NULL;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3), &x));
    TRY(layer_input(n, "c", KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, &c));
    TRY(kiln_network_create_branch(n, "then", &then));
    TRY(kiln_network_create_branch(n, NULL, &otherwise));
    TRY(kiln_network_capture(then, x, &inner));
    TRY(kiln_network_add_unary(then, NULL, KILN_UNARY_NEG, inner, &y));
    TRY(kiln_network_mark_output(then, y));
    TRY(kiln_network_capture(otherwise, x, &inner));
    TRY(kiln_network_add_unary(otherwise, NULL, KILN_UNARY_EXP, inner, &y));
    TRY(kiln_network_mark_output(otherwise, y));
    TRY(kiln_network_add_if(n, "y", c, then, otherwise, &y, 1));
    return kiln_network_mark_output(n, y);
}

/* Doubles x four times and keeps each step. */
static kiln_status loop(kiln_network *n)
{
    static const int64_t four = 4;
    kiln_tensor_id x, trips, i, c, v, d, outputs[2];
    kiln_network *body = NULL;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3), &x));
    TRY(layer_weights(n, "trips", I, KILN_SHAPE_SCALAR, &four, &trips));
    TRY(kiln_network_create_branch(n, "body", &body));
    TRY(layer_input(body, "i", I, KILN_SHAPE_SCALAR, &i));
    TRY(layer_input(body, "c", KILN_DTYPE_BOOL, KILN_SHAPE_SCALAR, &c));
    TRY(layer_input(body, "v", F, KILN_SHAPE(3), &v));
    TRY(kiln_network_add_unary(body, "same", KILN_UNARY_NOT, c, &c));
    TRY(kiln_network_add_unary(body, "on", KILN_UNARY_NOT, c, &c));
    TRY(kiln_network_add_elementwise(body, "doubled", KILN_ELEMENTWISE_ADD, v, v, &v));
    TRY(kiln_network_add_activation(body, "kept", KILN_ACTIVATION_IDENTITY, v, 0, 0, &d));
    TRY(kiln_network_mark_output(body, c));
    TRY(kiln_network_mark_output(body, v));
    TRY(kiln_network_mark_output(body, d));
    TRY(kiln_network_add_loop(n, "y", trips, NONE, &x, 1, body, outputs, 2));
    TRY(kiln_network_mark_output(n, outputs[0]));
    return kiln_network_mark_output(n, outputs[1]);
}

static kiln_status by_name(kiln_network *n)
{
    static const int64_t axes[] = {1};
    const kiln_attribute attributes[] = {
        KILN_ATTRIBUTE(.name = "p", .kind = KILN_ATTRIBUTE_INT, .i = 2),
        KILN_ATTRIBUTE(.name = "axis", .kind = KILN_ATTRIBUTE_INT, .i = axes[0]),
    };
    kiln_tensor_id x, y, z;
    TRY(layer_input(n, "x", F, KILN_SHAPE(3, 4), &x));
    TRY(kiln_network_add_node(n, "norm", NULL, 0, "LpNormalization", &x, 1, attributes, 2, &y, 1));
    TRY(kiln_network_add_cast(n, "z", y, F, &z));
    return kiln_network_mark_output(n, z);
}

const layer_case layer_cases[] = {
    {"convolution", convolution, 18, 1e-5},
    {"convolution_same", convolution_same, 18, 1e-5},
    {"convolution_3d", convolution_3d, 18, 1e-5},
    {"deconvolution", deconvolution, 18, 1e-5},
    {"pooling", pooling, 18, 1e-5},
    {"resize", resize, 18, 1e-5},
    {"activations", activations, 18, 2e-6},
    {"unary", unary, 18, 2e-6},
    {"elementwise", elementwise, 18, 1e-6},
    {"products", products, 18, 1e-5},
    {"reductions", reductions, 18, 1e-5},
    {"normalizations", normalizations, 18, 2e-5},
    {"shapes", shapes, 18, 0},
    {"ranges", ranges, 18, 0},
    {"indices", indices, 18, 1e-6},
    {"suppression", suppression, 18, 0},
    {"quantization", quantization, 18, 1e-6},
    {"quantization_in_blocks", quantization_in_blocks, 21, 1e-5},
    {"attention", layer_attention, 18, 1e-5},
    {"attention_grouped", layer_attention_grouped, 18, 1e-5},
    {"attention_with_past", layer_attention_with_past, 18, 1e-5},
    {"recurrent", layer_recurrent, 18, 1e-5},
    {"branches", branches, 18, 1e-6},
    {"loop", loop, 18, 0},
    {"by_name", by_name, 18, 1e-6},
    {"convolution_windows", layer_convolution_windows, 18, 1e-5},
    {"deconvolution_windows", layer_deconvolution_windows, 18, 1e-5},
    {"max_windows", layer_max_windows, 18, 0},
    {"average_windows", layer_average_windows, 18, 1e-6},
    {"lp_windows", layer_lp_windows, 18, 1e-5},
    {"reduced_axes", layer_reduced_axes, 18, 1e-5},
    {"quantized_types", layer_quantized_types, 21, 0},
    {"quantized_blocks", layer_quantized_blocks, 21, 0},
    {"attention_seen", layer_attention_seen, 18, 1e-5},
    {"recurrent_lengths", layer_recurrent_lengths, 18, 1e-5},
    {"half_type", layer_half_type, 18, 4e-3},
    {"whole_types", layer_whole_types, 18, 0},
};
const size_t layer_case_count = sizeof layer_cases / sizeof layer_cases[0];
