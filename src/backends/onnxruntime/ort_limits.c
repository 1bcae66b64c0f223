/* What ONNX Runtime's kernels refuse, though ONNX has it and they are there for its types.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "ort_lacks.h"

static kln_lack limit(char *why, size_t size, kln_lack lack, const char *words)
{
    (void)snprintf(why, size, "ONNX Runtime " ORT_LACKS_RELEASE " %s", words);
    return lack;
}

/* TensorProto.DataType. */
enum {
    FLOAT = 1,
    INT32 = 6,
    BOOL = 9,
    FLOAT16 = 10,
    DOUBLE = 11,
    UINT32 = 12,
    UINT64 = 13,
    BFLOAT16 = 16
};

/* --- recurrences --- */

static kln_lack limit_recurrence(const kln_node_view *view, char *why, size_t size)
{
    if (kln_view_int(view, "layout", 0) != 0) {
        return limit(why, size, KLN_LACK_BUILD,
                     "has no layout 1 of recurrences; transpose around a node of layout 0");
    }
    if (strcmp(view->node->op_type, "RNN") != 0 && kln_view_type(view, 0) == DOUBLE) {
        return limit(why, size, KLN_LACK_RUN, "does not run it for float64; cast to float32");
    }
    return KLN_LACK_NONE;
}

/* --- windows --- */

static bool is_same(const kln_node_view *view)
{
    return kln_view_is(view, "auto_pad", "SAME_UPPER", false) ||
           kln_view_is(view, "auto_pad", "SAME_LOWER", false);
}

static kln_lack limit_same(const kln_node_view *view, char *why, size_t size)
{
    size_t count = 0;
    const int64_t *dilations = kln_view_ints(view, "dilations", &count);
    for (size_t i = 0; i < count && is_same(view); i++) {
        if (dilations[i] != 1) {
            return limit(why, size, KLN_LACK_RUN,
                         "takes no dilations together with an auto_pad of SAME; give pads");
        }
    }
    return KLN_LACK_NONE;
}

static kln_lack limit_zero_point(const kln_node_view *view, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, 3);
    return rank > 1 || (rank == 1 && kln_view_dim(view, 3, 0) > 1)
               ? limit(why, size, KLN_LACK_RUN, "takes one zero point of the weights, not one for "
                                                "each channel")
               : KLN_LACK_NONE;
}

/* An attribute's number for spatial axis `i`. */
static int64_t at(const kln_node_view *view, const char *name, size_t i, int64_t otherwise)
{
    size_t count = 0;
    const int64_t *list = kln_view_ints(view, name, &count);
    return i < count ? list[i] : otherwise;
}

/* kernel_shape is the weights' own. */
static kln_lack limit_kernel(const kln_node_view *view, char *why, size_t size)
{
    const size_t weights = strcmp(view->node->op_type, "QLinearConv") == 0 ? 3 : 1;
    size_t count = 0;
    const int64_t *kernel = kln_view_ints(view, "kernel_shape", &count);
    for (size_t i = 0; i < count; i++) {
        const int64_t dim = kln_view_dim(view, weights, i + 2);
        if (dim >= 0 && dim != kernel[i]) {
            return limit(why, size, KLN_LACK_RUN, "takes the kernel_shape of the weights only");
        }
    }
    return KLN_LACK_NONE;
}

/* Padding is less than the kernel, and nothing but the batch may be 0. */
static kln_lack limit_window(const kln_node_view *view, char *why, size_t size)
{
    size_t count = 0;
    const int64_t *pads = kln_view_ints(view, "pads", &count);
    const bool given = kln_view_is(view, "auto_pad", "NOTSET", true);
    for (size_t i = 0; given && i < count / 2; i++) {
        const int64_t kernel = at(view, "kernel_shape", i, INT64_MAX);
        if (pads[i] >= kernel || pads[i + count / 2] >= kernel) {
            return limit(why, size, KLN_LACK_BUILD, "takes less padding than the kernel is long");
        }
    }
    return kln_view_count(view, 0) == 0 && kln_view_dim(view, 0, 0) != 0
               ? limit(why, size, KLN_LACK_RUN, "takes no dimension of 0 but the batch")
               : KLN_LACK_NONE;
}

static kln_lack limit_lrn(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_int(view, "size", 1) % 2 == 0
               ? limit(why, size, KLN_LACK_BUILD, "takes an odd size only")
               : KLN_LACK_NONE;
}

/* --- elements --- */

static bool is_float8(int32_t type)
{
    return type >= 17 && type <= 20;
}

static kln_lack limit_cast(const kln_node_view *view, char *why, size_t size)
{
    const kln_value *output = kln_view_output(view, 0);
    return kln_view_int(view, "saturate", 1) == 0 && output != NULL && output->wire_dtype != 0 &&
                   !is_float8(output->wire_dtype)
               ? limit(why, size, KLN_LACK_BUILD,
                       "takes saturate of 0 for float8 only; leave it out")
               : KLN_LACK_NONE;
}

static kln_lack limit_clip(const kln_node_view *view, char *why, size_t size)
{
    static const int32_t without[] = {4, 5, BFLOAT16}; /* uint16, int16 */
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(without); i++) {
        if (kln_view_type(view, 0) == without[i] &&
            (kln_view_has(view, 1) || kln_view_has(view, 2))) {
            return limit(why, size, KLN_LACK_BUILD, "has no bounds for its type; cast to float32");
        }
    }
    return KLN_LACK_NONE;
}

static kln_lack limit_gelu(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_type(view, 0) == DOUBLE && !kln_view_is(view, "approximate", "tanh", false)
               ? limit(why, size, KLN_LACK_BUILD,
                       "has it for float64 with approximate tanh alone; cast to float32")
               : KLN_LACK_NONE;
}

static kln_lack limit_rms(const kln_node_view *view, char *why, size_t size)
{
    const int32_t type = kln_view_type(view, 0);
    const int32_t scale = kln_view_type(view, 1);
    return type != 0 && scale != 0 && type != scale
               ? limit(why, size, KLN_LACK_BUILD, "takes a scale of the input's own type only")
               : KLN_LACK_NONE;
}

static kln_lack limit_attention(const kln_node_view *view, char *why, size_t size)
{
    for (size_t i = 0; i < 3; i++) {
        if (kln_view_count(view, i) == 0) {
            return limit(why, size, KLN_LACK_RUN, "takes no queries, keys or values without elements");
        }
    }
    return kln_view_type(view, 3) == DOUBLE && kln_view_int(view, "is_causal", 0) != 0
               ? limit(why, size, KLN_LACK_BUILD,
                       "has no is_causal beside a mask of float64; cast to float32")
               : KLN_LACK_NONE;
}

static kln_lack limit_scatter(const kln_node_view *view, char *why, size_t size)
{
    const int32_t type = kln_view_type(view, 0);
    const bool picks = strcmp(view->node->op_type, "ScatterElements") == 0 &&
                       (kln_view_is(view, "reduction", "max", false) ||
                        kln_view_is(view, "reduction", "min", false));
    return ((type == FLOAT16 && !picks) || type == BFLOAT16) &&
                   !kln_view_is(view, "reduction", "none", true) && kln_view_count(view, 2) != 0
               ? limit(why, size, KLN_LACK_RUN,
                       "has no reduction for float16 and bfloat16; cast to float32")
               : KLN_LACK_NONE;
}

/* Padding of SAME is worked out without the dilation, and may come out as less than nothing. */
static kln_lack limit_pool(const kln_node_view *view, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, 0);
    size_t count = 0;
    const int64_t *dilations = kln_view_ints(view, "dilations", &count);
    const int32_t type = kln_view_type(view, 0);
    bool plain = (type == FLOAT || type == FLOAT16) && kln_view_int(view, "storage_order", 0) == 0 &&
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
            return limit(why, size, KLN_LACK_RUN,
                         "takes no auto_pad of SAME where strides pass over elements; give pads");
        }
        if (in + pad < wide - stride) {
            return limit(why, size, KLN_LACK_RUN,
                         "takes no dilation wider than the input with auto_pad of SAME; give pads");
        }
    }
    return KLN_LACK_NONE;
}

/* --- products, parts, places --- */

static bool gives_nothing(const kln_node_view *view)
{
    const kln_value *output = kln_view_output(view, 0);
    bool nothing = false;
    for (size_t i = 0; output != NULL && output->has_shape && i < output->rank; i++) {
        nothing |= output->dims[i].kind == KLN_DIM_NUMBER && output->dims[i].of.number == 0;
    }
    return nothing;
}

static kln_lack limit_matmul(const kln_node_view *view, char *why, size_t size)
{
    const int64_t a = kln_view_rank(view, 0);
    const int64_t b = kln_view_rank(view, 1);
    const int32_t type = kln_view_type(view, 0);
    bool refused = false;
    bool alone = true;
    if (a < 1 || b < 1) {
        return KLN_LACK_NONE;
    }
    if ((type == UINT32 || type == UINT64) && kln_view_dim(view, 0, (size_t)a - 1) == 0 &&
        !gives_nothing(view)) {
        return limit(why, size, KLN_LACK_RUN, "has no product of no terms for uint32 and uint64");
    }
    /* A vector is broadcast to all but the last dimension. */
    const int64_t own = b == 1 ? 1 : 2;
    for (int64_t i = own; (b != 2 || a == 1) && (i < a || i < b); i++) {
        const int64_t left = i < a ? kln_view_dim(view, 0, (size_t)(a - 1 - i)) : 1;
        const int64_t right = i < b ? kln_view_dim(view, 1, (size_t)(b - 1 - i)) : 1;
        refused |= (left == 0 && right == 1) || (left == 1 && right == 0);
        alone &= right == 1;
    }
    /* One matrix on the right is multiplied with all rows at once. */
    alone = alone && b > 1 && b <= a;
    return refused && !alone
               ? limit(why, size, KLN_LACK_RUN, "does not stretch an operand to 0 matrices")
               : KLN_LACK_NONE;
}

static kln_lack limit_split(const kln_node_view *view, char *why, size_t size)
{
    const int64_t parts = kln_view_int(view, "num_outputs", 0);
    const int64_t rank = kln_view_rank(view, 0);
    const int64_t axis = kln_view_int(view, "axis", 0);
    const int64_t whole = kln_view_dim(view, 0, (size_t)(axis < 0 ? axis + rank : axis));
    return whole >= 0 && parts > whole
               ? limit(why, size, KLN_LACK_RUN, "makes no more parts than there are elements")
               : KLN_LACK_NONE;
}

static kln_lack limit_blocks(const kln_node_view *view, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, 1);
    const bool one = rank == 0 || (rank == 1 && kln_view_dim(view, 1, 0) == 1);
    if (one && kln_view_int(view, "block_size", 0) != 0) {
        return limit(why, size, KLN_LACK_RUN,
                     "takes a single scale without block_size only; leave it out");
    }
    const int32_t type = kln_view_type(view, 0);
    const int32_t scale = kln_view_type(view, 1);
    return strcmp(view->node->op_type, "QuantizeLinear") == 0 && type != 0 && scale != 0 &&
                   type != scale && type != INT32
               ? limit(why, size, KLN_LACK_RUN, "takes a scale of the input's own type only")
               : KLN_LACK_NONE;
}

static kln_lack limit_pad(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_is(view, "mode", "wrap", false) && kln_view_count(view, 0) == 0
               ? limit(why, size, KLN_LACK_RUN, "does not wrap around nothing")
               : KLN_LACK_NONE;
}

static kln_lack limit_grid(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_type(view, 0) == FLOAT16 && view->opset == 20 &&
                   kln_view_dim(view, 0, 0) == 1 && kln_view_dim(view, 0, 1) == 2
               ? limit(why, size, KLN_LACK_RUN,
                       "does not run it for one theta of float16; cast to float32")
               : KLN_LACK_NONE;
}

static kln_lack limit_truths(const kln_node_view *view, char *why, size_t size)
{
    return kln_view_type(view, 0) == BOOL && kln_view_count(view, 0) == 0
               ? limit(why, size, KLN_LACK_RUN, "does not reduce no truth values")
               : KLN_LACK_NONE;
}

static kln_lack limit_fill(const kln_node_view *view, char *why, size_t size)
{
    const kln_value *output = kln_view_output(view, 0);
    return output != NULL && is_float8(output->wire_dtype)
               ? limit(why, size, KLN_LACK_BUILD, "does not fill float8; cast from float32")
               : KLN_LACK_NONE;
}

/* --- branches --- */

static const kln_value *result_of(const kln_node_view *view, size_t branch, size_t output)
{
    const kln_graph_inference *graph = view->known->graphs[branch];
    return graph != NULL && output < graph->output_count &&
                   graph->outputs[output] != KLN_NO_VALUE
               ? graph->values[graph->outputs[output]]
               : NULL;
}

static bool are_apart(const kln_value *a, const kln_value *b)
{
    bool apart = a->has_shape && b->has_shape && a->rank != b->rank;
    for (size_t i = 0; a->has_shape && b->has_shape && !apart && i < a->rank; i++) {
        apart = a->dims[i].kind == KLN_DIM_NUMBER && b->dims[i].kind == KLN_DIM_NUMBER &&
                a->dims[i].of.number != b->dims[i].of.number;
    }
    return apart;
}

static kln_lack limit_if(const kln_node_view *view, char *why, size_t size)
{
    for (size_t i = 0; view->opset < 11 && view->known->graph_count == 2 &&
                       i < view->node->output_count;
         i++) {
        const kln_value *one = result_of(view, 0, i);
        const kln_value *other = result_of(view, 1, i);
        if (one != NULL && other != NULL && are_apart(one, other)) {
            return limit(why, size, KLN_LACK_BUILD,
                         "takes branches of different shapes from operator set 11 on");
        }
    }
    return KLN_LACK_NONE;
}

/* --- interpolation --- */

/* Whether an axis stays as it is: 1 where it does, 0 where not, -1 where nobody knows. */
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

static kln_lack limit_resize(const kln_node_view *view, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, 0);
    size_t count = 0;
    if (kln_view_has(view, 3) && kln_view_rank(view, 3) == 1 && kln_view_dim(view, 3, 0) < 0 &&
        kln_view_contents(view, 3, &count) == NULL && rank > 0) {
        return limit(why, size, KLN_LACK_BUILD,
                     "takes sizes of a known number only; give their input a shape");
    }
    if (rank >= 0 && kln_view_is(view, "mode", "linear", false) && !fits_linear(view, rank)) {
        return limit(why, size, KLN_LACK_RUN,
                     "interpolates linearly along 2 or 3 dimensions, the others must stay");
    }
    if (!kln_view_is(view, "mode", "cubic", false)) {
        return KLN_LACK_NONE;
    }
    if (rank >= 0 && !fits_cubic(view, rank)) {
        return limit(why, size, KLN_LACK_RUN,
                     "interpolates with cubics along 2 dimensions, the others must stay");
    }
    const int32_t type = kln_view_type(view, 0);
    return type != 0 && type != FLOAT && type != FLOAT16 && !gives_nothing(view) &&
                   kln_view_int(view, "antialias", 0) == 0
               ? limit(why, size, KLN_LACK_RUN, "interpolates float32 with cubics, without antialias")
               : KLN_LACK_NONE;
}

/* --- what a table says --- */

/* Inputs that must have one element in at most one dimension, or, with `rank`, that rank. */
static const struct {
    const char *names; /* between blanks */
    size_t input;
    int64_t rank; /* 0: one element */
} inputs[] = {
    {" ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceMax ReduceMean ReduceMin ReduceProd "
     "ReduceSum ReduceSumSquare ",
     1, 1},
    {" Slice ", 1, 1},
    {" Slice ", 2, 1},
    {" Slice ", 3, 1},
    {" Slice ", 4, 1},
    {" LRN ", 0, 4},
    {" MatMulInteger ", 2, 0},
    {" QLinearMatMul ", 1, 0},
    {" QLinearMatMul ", 2, 0},
    {" QLinearMatMul ", 6, 0},
    {" QLinearMatMul ", 7, 0},
    {" Trilu ", 1, 0},
    {" HannWindow HammingWindow BlackmanWindow ", 0, 0},
};

/* What an integer attribute may be. */
static const struct {
    const char *names;
    const char *attribute;
    int64_t otherwise, least, most;
} numbers[] = {
    {" GRU LSTM RNN ", "hidden_size", 0, 1, INT64_MAX},
    {" CumSum CumProd ", "exclusive", 0, 0, 1},
    {" CumSum CumProd ", "reverse", 0, 0, 1},
    {" LpNormalization ", "p", 2, 1, 2},
    {" NonMaxSuppression ", "center_point_box", 0, 0, 1},
    {" Attention ", "qk_matmul_output_mode", 0, -1, 3},
};

/* Attributes of later versions that it does not know. */
static const struct {
    const char *names;
    const char *attribute;
} unknown[] = {
    {" Attention ", "left_window_size"},
    {" Attention ", "right_window_size"},
};

static kln_lack limit_input(const kln_node_view *view, size_t i, char *why, size_t size)
{
    const int64_t rank = kln_view_rank(view, inputs[i].input);
    const bool fits = inputs[i].rank > 0
                          ? rank == inputs[i].rank
                          : rank == 0 || (rank == 1 && kln_view_dim(view, inputs[i].input, 0) <= 1);
    if (rank < 0 || fits) {
        return KLN_LACK_NONE;
    }
    const kln_schema_parameter *parameter =
        kln_schema_input(view->known->resolved->schema, inputs[i].input);
    (void)snprintf(why, size,
                   "ONNX Runtime " ORT_LACKS_RELEASE " takes its \"%s\" with %s only, not %lldD",
                   parameter != NULL ? parameter->name : "",
                   inputs[i].rank == 4   ? "4 dimensions"
                   : inputs[i].rank == 1 ? "1 dimension"
                                         : "1 element",
                   (long long)rank);
    return KLN_LACK_RUN;
}

static kln_lack limit_number(const kln_node_view *view, size_t i, char *why, size_t size)
{
    const int64_t value = kln_view_int(view, numbers[i].attribute, numbers[i].otherwise);
    if (value >= numbers[i].least && value <= numbers[i].most) {
        return KLN_LACK_NONE;
    }
    if (numbers[i].most == INT64_MAX) {
        return limit(why, size, KLN_LACK_BUILD, "needs a hidden_size of at least 1");
    }
    (void)snprintf(why, size,
                   "ONNX Runtime " ORT_LACKS_RELEASE " takes %s of %lld to %lld, not %lld",
                   numbers[i].attribute, (long long)numbers[i].least, (long long)numbers[i].most,
                   (long long)value);
    return KLN_LACK_BUILD;
}

static kln_lack limit_tables(const kln_node_view *view, const char *name, char *why, size_t size)
{
    kln_lack lack = KLN_LACK_NONE;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(unknown); i++) {
        if (strstr(unknown[i].names, name) != NULL &&
            kln_onnx_find_attribute(view->node, unknown[i].attribute) != NULL) {
            (void)snprintf(why, size,
                           "ONNX Runtime " ORT_LACKS_RELEASE " does not know its attribute \"%s\"",
                           unknown[i].attribute);
            return KLN_LACK_BUILD;
        }
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(inputs) && lack == KLN_LACK_NONE; i++) {
        if (strstr(inputs[i].names, name) != NULL) {
            lack = limit_input(view, i, why, size);
        }
    }
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(numbers) && lack == KLN_LACK_NONE; i++) {
        if (strstr(numbers[i].names, name) != NULL) {
            lack = limit_number(view, i, why, size);
        }
    }
    return lack;
}

static const struct {
    const char *names; /* between blanks */
    kln_lacks refuses;
} limits[] = {
    {" GRU LSTM RNN ", limit_recurrence},
    {" Conv ConvInteger QLinearConv ", limit_same},
    {" ConvInteger ", limit_zero_point},
    {" LRN ", limit_lrn},
    {" Cast CastLike ", limit_cast},
    {" Conv ConvInteger ConvTranspose QLinearConv ", limit_kernel},
    {" AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool ", limit_window},
    {" RMSNormalization ", limit_rms},
    {" Clip ", limit_clip},
    {" Gelu ", limit_gelu},
    {" Attention ", limit_attention},
    {" ScatterND ScatterElements Scatter ", limit_scatter},
    {" AveragePool MaxPool ", limit_pool},
    {" MatMul ", limit_matmul},
    {" Split ", limit_split},
    {" QuantizeLinear DequantizeLinear ", limit_blocks},
    {" Pad ", limit_pad},
    {" AffineGrid ", limit_grid},
    {" ReduceMin ReduceMax ", limit_truths},
    {" ConstantOfShape ", limit_fill},
    {" If ", limit_if},
    {" Resize Upsample ", limit_resize},
};

kln_lack ort_lacks_form(const kln_node_view *view, char *why, size_t size)
{
    char name[64];
    const int length = snprintf(name, sizeof name, " %s ", view->node->op_type);
    if (view->node->domain[0] != '\0' || length < 0 || (size_t)length >= sizeof name) {
        return KLN_LACK_NONE;
    }
    kln_lack lack = limit_tables(view, name, why, size);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(limits) && lack == KLN_LACK_NONE; i++) {
        if (strstr(limits[i].names, name) != NULL) {
            lack = limits[i].refuses(view, why, size);
        }
    }
    return lack;
}

kln_lack ort_lacks(const kln_node_view *view, char *why, size_t size)
{
    const int64_t opset = view->opset;
    const bool plain = view->node->domain[0] == '\0';
    kln_lack lack = ort_ends(view, why, size);
    if (lack != KLN_LACK_NONE || view->on_gpu) {
        return lack;
    }
    if (plain && opset > ORT_NEWEST_OPSET) {
        (void)snprintf(why, size,
                       "ONNX Runtime " ORT_LACKS_RELEASE
                       " knows operator sets up to %d, and the model imports %lld",
                       ORT_NEWEST_OPSET, (long long)opset);
        return KLN_LACK_BUILD;
    }
    lack = ort_lacks_kernel(view, why, size);
    return lack != KLN_LACK_NONE ? lack : ort_lacks_form(view, why, size);
}
