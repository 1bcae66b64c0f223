/* What ONNX allows but ONNX Runtime's kernels refuse, although they support the types.
 * SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "ort_limits.h"
#include "ort_runtime.h"

/* --- element types --- */

static bool is_float8(int32_t type)
{
    return type >= 17 && type <= 20;
}

static ort_refusal limit_cast(const kln_node_view *view)
{
    const kln_value *output = kln_view_output(view, 0);
    return kln_view_int(view, "saturate", 1) == 0 && output != NULL && output->wire_dtype != 0 &&
                   !is_float8(output->wire_dtype)
               ? ort_no_build("takes saturate of 0 for float8 only; leave it out")
               : ort_takes;
}

static ort_refusal limit_clip(const kln_node_view *view)
{
    static const int32_t without[] = {4, 5, BFLOAT16}; /* uint16, int16 */
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(without); i++) {
        if (kln_view_type(view, 0) == without[i] &&
            (kln_view_has(view, 1) || kln_view_has(view, 2))) {
            return ort_no_build("has no bounds for its type; cast to float32");
        }
    }
    return ort_takes;
}

static ort_refusal limit_gelu(const kln_node_view *view)
{
    return kln_view_type(view, 0) == DOUBLE && !kln_view_is(view, "approximate", "tanh", false)
               ? ort_no_build("has it for float64 with approximate tanh alone; cast to float32")
               : ort_takes;
}

static ort_refusal limit_scatter(const kln_node_view *view)
{
    const int32_t type = kln_view_type(view, 0);
    const bool picks = strcmp(view->node->op_type, "ScatterElements") == 0 &&
                       (kln_view_is(view, "reduction", "max", false) ||
                        kln_view_is(view, "reduction", "min", false));
    return ((type == FLOAT16 && !picks) || type == BFLOAT16) &&
                   !kln_view_is(view, "reduction", "none", true) && kln_view_count(view, 2) != 0
               ? ort_no_run("has no reduction for float16 and bfloat16; cast to float32")
               : ort_takes;
}

/* --- products, parts, positions --- */

static ort_refusal limit_matmul(const kln_node_view *view)
{
    const int64_t a = kln_view_rank(view, 0);
    const int64_t b = kln_view_rank(view, 1);
    const int32_t type = kln_view_type(view, 0);
    bool refused = false;
    bool alone = true;
    if (a < 1 || b < 1) {
        return ort_takes;
    }
    if ((type == UINT32 || type == UINT64) && kln_view_dim(view, 0, (size_t)a - 1) == 0 &&
        !ort_gives_nothing(view)) {
        return ort_no_run("has no product of no terms for uint32 and uint64");
    }
    /* A vector is broadcast to all but the last dimension. */
    const int64_t own = b == 1 ? 1 : 2;
    for (int64_t i = own; (b != 2 || a == 1) && (i < a || i < b); i++) {
        const int64_t left = i < a ? kln_view_dim(view, 0, (size_t)(a - 1 - i)) : 1;
        const int64_t right = i < b ? kln_view_dim(view, 1, (size_t)(b - 1 - i)) : 1;
        refused |= (left == 0 && right == 1) || (left == 1 && right == 0);
        alone &= right == 1;
    }
    /* A single matrix on the right is multiplied by all rows at once. */
    alone = alone && b > 1 && b <= a;
    return refused && !alone ? ort_no_run("does not stretch an operand to 0 matrices") : ort_takes;
}

static ort_refusal limit_split(const kln_node_view *view)
{
    const int64_t parts = kln_view_int(view, "num_outputs", 0);
    const int64_t rank = kln_view_rank(view, 0);
    const int64_t axis = kln_view_int(view, "axis", 0);
    const int64_t whole = kln_view_dim(view, 0, (size_t)(axis < 0 ? axis + rank : axis));
    const int64_t part = parts > 0 && whole >= 0 ? (whole + parts - 1) / parts : 0;
    return whole >= 0 && (parts > whole ||
                          ((size_t)parts == view->node->output_count && part * (parts - 1) > whole))
               ? ort_no_run("makes no parts without elements")
               : ort_takes;
}

static ort_refusal limit_blocks(const kln_node_view *view)
{
    const int64_t rank = kln_view_rank(view, 1);
    const bool one = rank == 0 || (rank == 1 && kln_view_dim(view, 1, 0) == 1);
    if (one && kln_view_int(view, "block_size", 0) != 0) {
        return ort_no_run("takes a single scale without block_size only; leave it out");
    }
    const int32_t type = kln_view_type(view, 0);
    const int32_t scale = kln_view_type(view, 1);
    return strcmp(view->node->op_type, "QuantizeLinear") == 0 && type != 0 && scale != 0 &&
                   type != scale && type != INT32
               ? ort_no_run("takes a scale of the input's own type only")
               : ort_takes;
}

static ort_refusal limit_pad(const kln_node_view *view)
{
    return kln_view_is(view, "mode", "wrap", false) && kln_view_count(view, 0) == 0
               ? ort_no_run("does not wrap around nothing")
               : ort_takes;
}

static ort_refusal limit_grid(const kln_node_view *view)
{
    return kln_view_type(view, 0) == FLOAT16 && view->opset == 20 &&
                   kln_view_dim(view, 0, 0) == 1 && kln_view_dim(view, 0, 1) == 2
               ? ort_no_run("does not run it for one theta of float16; cast to float32")
               : ort_takes;
}

static ort_refusal limit_maps(const kln_node_view *view)
{
    return kln_view_dim(view, 1, 0) == 0 ? ort_no_run("needs at least 1 channel that comes out")
                                         : ort_takes;
}

static ort_refusal limit_extract(const kln_node_view *view)
{
    return kln_view_count(view, 1) == 0 ? ort_no_run("extracts at least one feature") : ort_takes;
}

/* An empty input name is taken for axes. */
static ort_refusal limit_squeeze(const kln_node_view *view)
{
    return view->node->input_count > 1 && !kln_view_has(view, 1)
               ? ort_no_run("takes axes that are left out of the list of inputs, not an empty name")
               : ort_takes;
}

static ort_refusal limit_truths(const kln_node_view *view)
{
    return kln_view_type(view, 0) == BOOL && kln_view_count(view, 0) == 0 &&
                   !ort_gives_nothing(view)
               ? ort_no_run("does not reduce no truth values")
               : ort_takes;
}

static ort_refusal limit_fill(const kln_node_view *view)
{
    const kln_value *output = kln_view_output(view, 0);
    return output != NULL && is_float8(output->wire_dtype)
               ? ort_no_build("does not fill float8; cast from float32")
               : ort_takes;
}

/* --- branches --- */

static const kln_value *result_of(const kln_node_view *view, size_t branch, size_t output)
{
    const kln_graph_inference *graph = view->known->graphs[branch];
    return graph != NULL && output < graph->output_count && graph->outputs[output] != KLN_NO_VALUE
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

static ort_refusal limit_if(const kln_node_view *view)
{
    for (size_t i = 0;
         view->opset < 11 && view->known->graph_count == 2 && i < view->node->output_count; i++) {
        const kln_value *one = result_of(view, 0, i);
        const kln_value *other = result_of(view, 1, i);
        if (one != NULL && other != NULL && are_apart(one, other)) {
            return ort_no_build("takes branches of different shapes from operator set 11 on");
        }
    }
    return ort_takes;
}

/* --- limits in tables --- */

/* Inputs that must have exactly this rank or, if it is 0, one element in at most one dimension. */
static const struct {
    const char *names; /* between spaces */
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

/* The range of an integer attribute. */
static const struct {
    const char *names;
    const char *attribute;
    int64_t otherwise, least, most;
} numbers[] = {
    {" GRU LSTM RNN ", "hidden_size", 0, 1, INT64_MAX},
    {" CumSum CumProd ", "exclusive", 0, 0, 1},
    {" CumSum CumProd ", "reverse", 0, 0, 1},
    {" LpNormalization ", "p", 2, 1, 2},
    {" MaxPool ", "storage_order", 0, 0, 1},
    {" NonMaxSuppression ", "center_point_box", 0, 0, 1},
    {" Attention ", "qk_matmul_output_mode", 0, -1, 3},
    {" Reshape ", "allowzero", 0, 0, 1},
};

/* Attributes of later versions that this release does not know. */
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
    const int64_t dim = kln_view_dim(view, inputs[i].input, 0);
    const bool fits = inputs[i].rank > 0 ? rank == inputs[i].rank
                                         : rank == 0 || (rank == 1 && (dim < 0 || dim == 1));
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
        (void)snprintf(why, size,
                       "ONNX Runtime " ORT_LACKS_RELEASE " needs a hidden_size of at least 1");
        return KLN_LACK_BUILD;
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
    const char *names; /* between spaces */
    ort_refuses refuses;
} limits[] = {
    {" GRU LSTM RNN ", ort_limit_recurrence},
    {" Conv ConvInteger QLinearConv ", ort_limit_same},
    {" Conv ConvInteger QLinearConv ", ort_limit_conv},
    {" ConvTranspose ", ort_limit_transpose},
    {" DeformConv ", limit_maps},
    {" MaxUnpool ", ort_limit_unpool},
    {" Col2Im ", ort_limit_channels},
    {" GroupNormalization ", ort_limit_groups},
    {" ArrayFeatureExtractor ", limit_extract},
    {" Squeeze ", limit_squeeze},
    {" TfIdfVectorizer ", ort_limit_grams},
    {" ConvInteger ", ort_limit_zero_point},
    {" QLinearMatMul MatMulInteger ", ort_limit_columns},
    {" LRN ", ort_limit_lrn},
    {" Cast CastLike ", limit_cast},
    {" Conv ConvInteger ConvTranspose QLinearConv ", ort_limit_kernel},
    {" AveragePool MaxPool LpPool GlobalAveragePool GlobalMaxPool GlobalLpPool ", ort_limit_window},
    {" RMSNormalization ", ort_limit_rms},
    {" Clip ", limit_clip},
    {" Gelu ", limit_gelu},
    {" Attention ", ort_limit_attention},
    {" ScatterND ScatterElements Scatter ", limit_scatter},
    {" AveragePool MaxPool ", ort_limit_pool},
    {" MatMul ", limit_matmul},
    {" Split ", limit_split},
    {" QuantizeLinear DequantizeLinear ", limit_blocks},
    {" Pad ", limit_pad},
    {" AffineGrid ", limit_grid},
    {" ReduceMin ReduceMax ", limit_truths},
    {" ConstantOfShape ", limit_fill},
    {" If ", limit_if},
    {" Resize Upsample ", ort_limit_resize},
};

/* What a kernel does not support, although there is one for the types. */
static kln_lack lacks_form(const kln_node_view *view, char *why, size_t size)
{
    char name[64];
    const int length = snprintf(name, sizeof name, " %s ", view->node->op_type);
    const bool known =
        view->node->domain[0] == '\0' || strcmp(view->node->domain, "ai.onnx.ml") == 0;
    if (!known || length < 0 || (size_t)length >= sizeof name) {
        return KLN_LACK_NONE;
    }
    kln_lack lack = limit_tables(view, name, why, size);
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(limits) && lack == KLN_LACK_NONE; i++) {
        if (strstr(limits[i].names, name) != NULL) {
            const ort_refusal refusal = limits[i].refuses(view);
            lack = refusal.lack;
            if (lack != KLN_LACK_NONE) {
                (void)snprintf(why, size, "ONNX Runtime " ORT_LACKS_RELEASE " %s", refusal.words);
            }
        }
    }
    return lack;
}

kln_lack ort_lacks(const kln_node_view *view, char *why, size_t size)
{
    const int64_t opset = view->opset;
    const bool plain = view->node->domain[0] == '\0';
    kln_lack lack = ort_ends(view, why, size);
    if (lack != KLN_LACK_NONE || view->on_gpu || ort_runtime_is_newer()) {
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
    return lack != KLN_LACK_NONE ? lack : lacks_form(view, why, size);
}
