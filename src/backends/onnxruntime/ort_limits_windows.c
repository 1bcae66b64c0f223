/* Windows and interpolation that ONNX Runtime's kernels do not support.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_limits.h"
#include "ort_runtime.h"

bool ort_gives_nothing(const kln_node_view *view)
{
    const kln_value *output = kln_view_output(view, 0);
    bool nothing = false;
    for (size_t i = 0; output != NULL && output->has_shape && i < output->rank; i++) {
        nothing |= output->dims[i].kind == KLN_DIM_NUMBER && output->dims[i].of.number == 0;
    }
    return nothing;
}

/* --- windows --- */

static bool is_same(const kln_node_view *view)
{
    return kln_view_is(view, "auto_pad", "SAME_UPPER", false) ||
           kln_view_is(view, "auto_pad", "SAME_LOWER", false);
}

ort_refusal ort_limit_same(const kln_node_view *view)
{
    size_t count = 0;
    const int64_t *dilations = kln_view_ints(view, "dilations", &count);
    for (size_t i = 0; i < count && is_same(view); i++) {
        if (dilations[i] != 1) {
            return ort_no_run("takes no dilations together with an auto_pad of SAME; give pads");
        }
    }
    return ort_takes;
}

/* The input must have one element in at most one dimension, or one for each column: as a vector
 * beside a matrix, otherwise in as many dimensions as the matrices. */
static bool are_columns(const kln_node_view *view, size_t input, size_t matrix)
{
    const int64_t rank = kln_view_rank(view, input);
    const int64_t whole = kln_view_rank(view, matrix);
    const int64_t first = kln_view_dim(view, input, 0);
    if (rank < 1 || whole < 0 || (rank == 1 && (first == 1 || first < 0))) {
        return true;
    }
    bool fits = rank == whole || (rank == 1 && whole == 2);
    for (int64_t i = 0; fits && i < rank; i++) {
        const int64_t own = kln_view_dim(view, input, (size_t)i);
        const int64_t wanted =
            rank > 1 && i == rank - 2 ? 1 : kln_view_dim(view, matrix, (size_t)(whole - rank + i));
        fits = own < 0 || wanted < 0 || own == wanted;
    }
    return fits;
}

ort_refusal ort_limit_columns(const kln_node_view *view)
{
    const bool integer = strcmp(view->node->op_type, "MatMulInteger") == 0;
    for (size_t i = integer ? 3 : 4; i <= (integer ? 3U : 5U); i++) {
        if (!are_columns(view, i, integer ? 1 : 3) && !ort_gives_nothing(view)) {
            return ort_no_run("takes one scale and zero point, or one for each column");
        }
    }
    return ort_takes;
}

ort_refusal ort_limit_zero_point(const kln_node_view *view)
{
    const int64_t rank = kln_view_rank(view, 3);
    return rank > 1 || (rank == 1 && kln_view_dim(view, 3, 0) > 1)
               ? ort_no_run("takes one zero point of the weights, not one for each channel")
               : ort_takes;
}

/* An attribute's value for spatial axis `i`. */
static int64_t at(const kln_node_view *view, const char *name, size_t i, int64_t otherwise)
{
    size_t count = 0;
    const int64_t *list = kln_view_ints(view, name, &count);
    return i < count ? list[i] : otherwise;
}

/* kernel_shape must match the weights. */
ort_refusal ort_limit_kernel(const kln_node_view *view)
{
    const size_t weights = strcmp(view->node->op_type, "QLinearConv") == 0 ? 3 : 1;
    size_t count = 0;
    const int64_t *kernel = kln_view_ints(view, "kernel_shape", &count);
    for (size_t i = 0; i < count; i++) {
        const int64_t dim = kln_view_dim(view, weights, i + 2);
        if (dim >= 0 && dim != kernel[i]) {
            return ort_no_run("takes the kernel_shape of the weights only");
        }
    }
    return ort_takes;
}

static int64_t sum_of(const int64_t *list, size_t count)
{
    int64_t sum = 0;
    for (size_t i = 0; i < count && list[i] < INT32_MAX; i++) {
        sum += list[i];
    }
    return sum;
}

/* With a dimension of 0, the padding must be given. Without channels, the kernel does not
 * terminate. */
ort_refusal ort_limit_conv(const kln_node_view *view)
{
    size_t count = 0;
    const int64_t *pads = kln_view_ints(view, "pads", &count);
    const bool given = kln_view_is(view, "auto_pad", "NOTSET", true);
    const int64_t rank = kln_view_rank(view, 0);
    for (int64_t i = 2; i < rank && !given; i++) {
        if (kln_view_dim(view, 0, (size_t)i) == 0) {
            return ort_no_run("takes no auto_pad where a dimension is 0; give pads");
        }
    }
    return kln_view_dim(view, 0, 1) == 0 && !ort_gives_nothing(view) &&
                   (is_same(view) || (given && sum_of(pads, count) > 0))
               ? ort_no_run("never ends with padding and no channels; leave the node out")
               : ort_takes;
}

/* The requested output shape must yield as many windows as the input has elements. */
ort_refusal ort_limit_transpose(const kln_node_view *view)
{
    size_t count = 0;
    const int64_t *out = kln_view_ints(view, "output_shape", &count);
    const int64_t rank = kln_view_rank(view, 0);
    if (out != NULL && rank > 2 && (int64_t)count == rank) {
        return ort_no_build("takes an output_shape without batch and channels only");
    }
    for (size_t i = 0; i < count && (int64_t)i + 2 < rank; i++) {
        const int64_t in = kln_view_dim(view, 0, i + 2);
        const int64_t side = kln_view_dim(view, 1, i + 2);
        const int64_t stride = at(view, "strides", i, 1);
        const int64_t kernel = (side - 1) * at(view, "dilations", i, 1) + 1;
        if (in < 0 || in > INT32_MAX || side < 1 || stride < 1 || stride > INT32_MAX) {
            continue;
        }
        const int64_t pad = (in - 1) * stride + at(view, "output_padding", i, 0) + kernel - out[i];
        if (out[i] < 1 || (out[i] + (pad > 0 ? pad : 0) - kernel) / stride + 1 != in) {
            return ort_no_run(
                "takes an output_shape only that its windows give, and none of 0; "
                "leave it out");
        }
    }
    return ort_takes;
}

/* The requested output must hold all windows. */
ort_refusal ort_limit_unpool(const kln_node_view *view)
{
    size_t count = 0;
    const kln_dim *out = kln_view_contents(view, 2, &count);
    for (size_t i = 2; out != NULL && i < count && out[i].kind == KLN_DIM_NUMBER; i++) {
        const int64_t in = kln_view_dim(view, 0, i);
        const int64_t kernel = at(view, "kernel_shape", i - 2, 1);
        const int64_t pads = at(view, "pads", i - 2, 0) + at(view, "pads", i - 2 + count - 2, 0);
        if (in > 0 && in < INT32_MAX && kernel < INT32_MAX &&
            out[i].of.number < (in - 1) * at(view, "strides", i - 2, 1) - pads + kernel) {
            return ort_no_run("takes an output_shape only that holds all windows");
        }
    }
    return ort_takes;
}

ort_refusal ort_limit_channels(const kln_node_view *view)
{
    return kln_view_dim(view, 0, 1) == 0 ? ort_no_run("takes no blocks of 0 channels") : ort_takes;
}

/* Padding must be less than the kernel, and only the batch may be 0. */
ort_refusal ort_limit_window(const kln_node_view *view)
{
    size_t count = 0;
    const int64_t *pads = kln_view_ints(view, "pads", &count);
    const bool given = kln_view_is(view, "auto_pad", "NOTSET", true);
    for (size_t i = 0; given && i < count / 2; i++) {
        const int64_t kernel = at(view, "kernel_shape", i, INT64_MAX);
        if (pads[i] >= kernel || pads[i + count / 2] >= kernel) {
            return ort_no_build("takes less padding than the kernel is long");
        }
    }
    return kln_view_count(view, 0) == 0 && kln_view_dim(view, 0, 0) != 0
               ? ort_no_run("takes no dimension of 0 but the batch")
               : ort_takes;
}

ort_refusal ort_limit_lrn(const kln_node_view *view)
{
    return kln_view_int(view, "size", 1) % 2 == 0 ? ort_no_build("takes an odd size only")
                                                  : ort_takes;
}

/* The kernel computes SAME padding without the dilation, and it may become negative. */
ort_refusal ort_limit_pool(const kln_node_view *view)
{
    const int64_t rank = kln_view_rank(view, 0);
    size_t count = 0;
    const int64_t *dilations = kln_view_ints(view, "dilations", &count);
    const int32_t type = kln_view_type(view, 0);
    bool plain = (type == FLOAT || type == FLOAT16) &&
                 kln_view_int(view, "storage_order", 0) == 0 &&
                 (strcmp(view->node->op_type, "MaxPool") == 0 ? view->node->output_count == 1
                                                              : view->opset < 19);
    for (size_t i = 0; i < count; i++) {
        plain = plain && dilations[i] == 1;
    }
    for (size_t i = 0; is_same(view) && (int64_t)i + 2 < rank; i++) {
        const int64_t in = kln_view_dim(view, 0, i + 2);
        const int64_t stride = at(view, "strides", i, 1);
        const int64_t kernel = at(view, "kernel_shape", i, 1);
        const int64_t wide = (kernel - 1) * at(view, "dilations", i, 1) + 1;
        if (in < 1 || stride < 1 || kernel < 1 || in > INT32_MAX || kernel > INT32_MAX ||
            stride > INT32_MAX) {
            continue;
        }
        const int64_t pad = ((in + stride - 1) / stride - 1) * stride + kernel - in;
        if (pad < 0 && plain) {
            return ort_no_run(
                "takes no auto_pad of SAME where strides pass over elements; give pads");
        }
        if (in + pad < wide - stride) {
            return ort_no_run(
                "takes no dilation wider than the input with auto_pad of SAME; give pads");
        }
    }
    return ort_takes;
}

/* --- interpolation --- */

/* Whether an axis keeps its size: 1 if it does, 0 if not, -1 if that is unknown. */
static int stays(const kln_node_view *view, int64_t axis, int64_t rank)
{
    size_t count = 0;
    const bool resize = strcmp(view->node->op_type, "Resize") == 0;
    const size_t input = resize && view->opset >= 11 ? 2 : 1;
    const kln_dim *scales = kln_view_contents(view, input, &count);
    size_t axes = 0;
    (void)kln_view_ints(view, "axes", &axes);
    if (scales != NULL && axes == 0 && count == (size_t)rank) {
        const kln_dim scale = scales[axis];
        return scale.kind == KLN_DIM_REAL ? scale.of.real == 1.0 : -1;
    }
    const kln_value *output = kln_view_output(view, 0);
    const int64_t in = kln_view_dim(view, 0, (size_t)axis);
    const bool known = output != NULL && output->has_shape && (size_t)axis < output->rank &&
                       output->dims[axis].kind == KLN_DIM_NUMBER && in >= 0;
    return known ? output->dims[axis].of.number == in : -1;
}

static bool fits_linear(const kln_node_view *view, int64_t rank)
{
    const bool inner = stays(view, 0, rank) != 0 && rank > 1 && stays(view, 1, rank) != 0;
    return rank == 2 || rank == 3 || (rank == 5 && inner) ||
           (rank == 4 && (inner || (stays(view, 0, rank) != 0 && stays(view, 3, rank) != 0)));
}

static bool fits_cubic(const kln_node_view *view, int64_t rank)
{
    return rank == 2 || (rank == 4 && stays(view, 0, rank) != 0 &&
                         (stays(view, 1, rank) != 0 || stays(view, 3, rank) != 0));
}

ort_refusal ort_limit_resize(const kln_node_view *view)
{
    const int64_t rank = kln_view_rank(view, 0);
    size_t count = 0;
    if (kln_view_has(view, 3) && kln_view_rank(view, 3) == 1 && kln_view_dim(view, 3, 0) < 0 &&
        kln_view_contents(view, 3, &count) == NULL && rank > 0) {
        return ort_no_build("takes sizes of a known number only; give their input a shape");
    }
    if (rank >= 0 && kln_view_is(view, "mode", "linear", false) && !fits_linear(view, rank)) {
        return ort_no_run("interpolates linearly along 2 or 3 dimensions, the others must stay");
    }
    if (!kln_view_is(view, "mode", "cubic", false)) {
        return ort_takes;
    }
    if (rank >= 0 && !fits_cubic(view, rank)) {
        return ort_no_run("interpolates with cubics along 2 dimensions, the others must stay");
    }
    const int32_t type = kln_view_type(view, 0);
    return type != 0 && type != FLOAT && type != FLOAT16 && !ort_gives_nothing(view) &&
                   kln_view_int(view, "antialias", 0) == 0
               ? ort_no_run("interpolates float32 with cubics, without antialias")
               : ort_takes;
}
