/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Networks in eight or four bits, with QuantizeLinear and DequantizeLinear around the nodes that
 * compute in them: the form for which TensorRT and ONNX Runtime have kernels. Scales are symmetric,
 * because TensorRT accepts no others, except for weights with zero points on request; biases stay
 * float32.
 */
#include <math.h>

#include "quantize_parts.h"
#include "tensor/kln_tensor.h"

/* Largest magnitudes: int8 127, leaving out -128 so that values can be negated, or 64 for weights,
 * as 2 * 64 * 255 is less than 2^15; float8 448 (https://arxiv.org/abs/2209.05433); int4 7; uint4
 * 15 above the least. Operator sets: 13 for one scale per channel, 19 for float8, 21 for blocks. */
static const quantize_format formats[] = {
    {KILN_PRECISION_INT8, "int8", KILN_DTYPE_INT8, 127, 127, 13, true},
    {KILN_PRECISION_INT8, "int8", KILN_DTYPE_INT8, 127, 64, 13, true},
    {KILN_PRECISION_FP8, "float8", KILN_DTYPE_FLOAT8E4M3, 448, 448, 19, true},
    {KILN_PRECISION_INT4, "int4", KILN_DTYPE_INT4, 7, 7, 21, false},
    {KILN_PRECISION_INT4, "uint4", KILN_DTYPE_UINT4, 15, 15, 21, false},
    {KILN_PRECISION_FP16, "float16", KILN_DTYPE_FLOAT16, 65504, 65504, 0, true},
    {KILN_PRECISION_BF16, "bfloat16", KILN_DTYPE_BFLOAT16, 0x1.fep127, 0x1.fep127, 0, true},
};

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(quantize_value), "a quantized network");
}

/* --- reading the graph --- */

/* A larger constant with all elements equal is not expanded: nobody trained such weights. */
#define MOST_SPREAD ((size_t)1 << 26)

/* Expands a ConstantOfShape with a known shape, which models exported without weights have in their
 * place. */
static kiln_status spread_constant(quantize_pass *pass, const kln_onnx_node *node,
                                   const kln_value *known, const kln_onnx_tensor **weights)
{
    const kln_onnx_attribute *value = kln_onnx_find_attribute(node, "value");
    kiln_shape shape;
    int64_t count = 0;
    float number = 0;
    if (!kln_onnx_node_is(node, "ConstantOfShape") || known == NULL || !known->is_constant ||
        known->dtype != KILN_DTYPE_FLOAT32 || !kln_value_shape(known, &shape) ||
        !kiln_shape_is_static(&shape) || kiln_shape_elements(&shape, &count) != KILN_OK ||
        (size_t)count > MOST_SPREAD || shape.rank < 2) {
        return KILN_OK;
    }
    if (value != NULL && value->tensor != NULL && value->tensor->data.size == sizeof number) {
        memcpy(&number, value->tensor->data.data, sizeof number);
    }
    kln_arena *arena = &pass->inference->arena;
    kln_onnx_tensor *made = kln_arena_alloc_zeroed(arena, 1, sizeof *made);
    int64_t *dims = kln_arena_alloc_zeroed(arena, (size_t)shape.rank, sizeof *dims);
    float *numbers = kln_arena_alloc(arena, (size_t)count * sizeof *numbers);
    KLN_FAIL_IF(made == NULL || dims == NULL || numbers == NULL, no_memory());
    memcpy(dims, shape.dims, (size_t)shape.rank * sizeof *dims);
    for (int64_t i = 0; i < count; i++) {
        numbers[i] = number;
    }
    *made = (kln_onnx_tensor){.name = known->name,
                              .dtype = KILN_DTYPE_FLOAT32,
                              .rank = (size_t)shape.rank,
                              .dims = dims,
                              .data = {numbers, (size_t)count * sizeof *numbers}};
    *weights = made;
    return KILN_OK;
}

static kiln_status add_value(quantize_pass *pass, const char *name, uint32_t producer)
{
    if (name[0] == '\0' || quantize_find(pass, name) != NULL) {
        return KILN_OK;
    }
    const kln_value *known = kln_inference_find(pass->inference->graph, name);
    const bool is_constant =
        producer == KLN_NO_NODE || kln_onnx_node_is(&pass->graph->nodes[producer], "Constant");
    const kln_onnx_tensor *weights =
        is_constant && known != NULL && known->is_constant && known->dtype == KILN_DTYPE_FLOAT32 &&
                known->initializer != NULL && known->initializer->data.data != NULL
            ? known->initializer
            : NULL;
    if (weights == NULL && producer != KLN_NO_NODE) {
        KLN_RETURN_IF_ERROR(spread_constant(pass, &pass->graph->nodes[producer], known, &weights));
    }
    KLN_RETURN_IF_ERROR(kln_names_set(&pass->names, name, (uint32_t)pass->value_count));
    pass->values[pass->value_count] =
        (quantize_value){.name = name,
                         .weights = weights,
                         .producer = producer,
                         .group = (uint32_t)pass->value_count,
                         .dims = known != NULL && known->has_shape ? known->rank : SIZE_MAX};
    pass->value_count++;
    return KILN_OK;
}

static kiln_status look(quantize_pass *pass)
{
    const kln_onnx_graph *graph = pass->graph;
    size_t most = graph->input_count + graph->initializer_count;
    for (size_t i = 0; i < graph->node_count; i++) {
        most += graph->nodes[i].output_count;
    }
    pass->values = kln_arena_alloc_zeroed(&pass->inference->arena, most, sizeof *pass->values);
    pass->nodes =
        kln_arena_alloc_zeroed(&pass->inference->arena, graph->node_count, sizeof *pass->nodes);
    KLN_FAIL_IF(pass->values == NULL || pass->nodes == NULL, no_memory());
    for (size_t i = 0; i < graph->initializer_count; i++) {
        KLN_RETURN_IF_ERROR(add_value(pass, graph->initializers[i].name, KLN_NO_NODE));
    }
    for (size_t i = 0; i < graph->input_count; i++) {
        KLN_RETURN_IF_ERROR(add_value(pass, graph->inputs[i].name, KLN_NO_NODE));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        for (size_t k = 0; k < graph->nodes[i].output_count; k++) {
            KLN_RETURN_IF_ERROR(add_value(pass, graph->nodes[i].outputs[k], (uint32_t)i));
        }
    }
    for (size_t i = 0; i < graph->node_count + graph->output_count; i++) {
        const bool is_node = i < graph->node_count;
        const size_t count = is_node ? graph->nodes[i].input_count : 1;
        for (size_t k = 0; k < count; k++) {
            quantize_value *value =
                quantize_find(pass, is_node ? graph->nodes[i].inputs[k]
                                            : graph->outputs[i - graph->node_count].name);
            if (value != NULL) {
                value->readers++;
            }
        }
    }
    return KILN_OK;
}

/* --- ranges --- */

static quantize_value *head_of(const quantize_pass *pass, quantize_value *value)
{
    while (value->group != (uint32_t)(value - pass->values)) {
        value = &pass->values[value->group];
    }
    return value;
}

/* A part of a Concat with a range smaller by more than this factor would lose more than two
 * bits. */
#define ALIKE 4.0

static bool are_alike(double a, double b)
{
    return a == 0 || b == 0 || fmin(a, b) * ALIKE >= fmax(a, b);
}

/* The parts of a Concat share one range; otherwise they would have to be requantized. */
static void share_ranges(quantize_pass *pass)
{
    for (size_t i = 0; i < pass->graph->node_count; i++) {
        const kln_onnx_node *node = &pass->graph->nodes[i];
        quantize_value *out =
            node->output_count == 1 ? quantize_find(pass, node->outputs[0]) : NULL;
        for (size_t k = 0; out != NULL && kln_onnx_node_is(node, "Concat") && k < node->input_count;
             k++) {
            quantize_value *in = quantize_find(pass, node->inputs[k]);
            if (in != NULL && in->weights == NULL) {
                quantize_value *head = head_of(pass, in);
                quantize_value *other = head_of(pass, out);
                if (!are_alike(head->reach, other->reach)) {
                    continue;
                }
                other->reach = fmax(other->reach, head->reach);
                head->group = (uint32_t)(other - pass->values);
            }
        }
    }
    for (size_t i = 0; i < pass->value_count; i++) {
        pass->values[i].reach = head_of(pass, &pass->values[i])->reach;
    }
}

static void take_ranges(quantize_pass *pass)
{
    for (size_t i = 0; pass->options->ranges != NULL && i < pass->value_count; i++) {
        quantize_value *value = &pass->values[i];
        const kiln_range *range = kiln_range_table_find(pass->options->ranges, value->name);
        if (range != NULL && value->weights == NULL) {
            value->reach = fmax(fabs(range->low), fabs(range->high));
        }
    }
    share_ranges(pass);
}

/* --- writing the graph --- */

/* Rounds the scale to a number that the rest's half type has too, so that quantizing in one type
 * and dequantizing in the other agree. Below fp16's normal numbers both stay float32
 * (holds_scales). */
static float scale_of(const quantize_pass *pass, const quantize_value *value)
{
    const float number = (float)(value->reach / pass->format->most);
    const bool is_held = number >= 0x1p-14F && number < 65504;
    return pass->options->rest == KILN_PRECISION_BF16
               ? kln_float_from_bfloat16(kln_bfloat16_from_float(number))
           : pass->options->rest == KILN_PRECISION_FP16 && is_held
               ? kln_float_from_half(kln_half_from_float(number))
               : number;
}

static kiln_status quantize_value_of(quantize_pass *pass, quantize_value *value)
{
    kln_onnx_tensor *scale =
        quantize_add_tensor(pass, value->name, "scale", KILN_DTYPE_FLOAT32, 0, NULL);
    kln_onnx_tensor *zero =
        quantize_add_tensor(pass, value->name, "zero_point", pass->format->storage, 0, NULL);
    const char *quantized = kln_arena_printf(pass->arena, "%s/%s", value->name, pass->format->name);
    const char *back = kln_arena_printf(pass->arena, "%s/dequantized", value->name);
    KLN_FAIL_IF(scale == NULL || zero == NULL || quantized == NULL || back == NULL, no_memory());
    const float number = scale_of(pass, value);
    memcpy((void *)(uintptr_t)scale->data.data, &number, sizeof number);
    memset((void *)(uintptr_t)zero->data.data, 0, zero->data.size);
    const char *const there[] = {value->name, scale->name, zero->name};
    const char *const and_back[] = {quantized, scale->name, zero->name};
    KLN_RETURN_IF_ERROR(quantize_add_node(pass, "QuantizeLinear", there, quantized, -1, 0));
    KLN_RETURN_IF_ERROR(quantize_add_node(pass, "DequantizeLinear", and_back, back, -1, 0));
    value->written = back;
    return KILN_OK;
}

/* Quantizes and dequantizes an input once, for all nodes that read it so. */
static kiln_status read_quantized(quantize_pass *pass, const char **input)
{
    quantize_value *value = quantize_find(pass, *input);
    if (value->written == NULL) {
        KLN_RETURN_IF_ERROR(quantize_value_of(pass, value));
    }
    *input = value->written;
    return KILN_OK;
}

static kiln_status write_node(quantize_pass *pass, size_t index)
{
    kln_onnx_node node = kln_precision_named(&pass->graph->nodes[index]);
    const quantize_node *chosen = &pass->nodes[index];
    if (chosen->is_quantized || chosen->is_fed) {
        const char **inputs = kln_arena_alloc_zeroed(pass->arena, node.input_count, sizeof *inputs);
        KLN_FAIL_IF(inputs == NULL, no_memory());
        memcpy(inputs, node.inputs, node.input_count * sizeof *inputs);
        for (size_t k = 0; pass->format->activations && k < node.input_count; k++) {
            if (k == chosen->input || chosen->is_fed_by_both) {
                KLN_RETURN_IF_ERROR(read_quantized(pass, &inputs[k]));
            }
        }
        if (chosen->weights != SIZE_MAX) {
            quantize_value *weights = quantize_find(pass, inputs[chosen->weights]);
            if (weights->written == NULL) {
                kln_patch patch;
                const kln_onnx_node *before = &pass->graph->nodes[index];
                const kln_products *products =
                    kln_patch_of(before, pass->inference->graph, &patch)
                        ? kln_ranges_products(pass->options->ranges, &patch)
                        : NULL;
                KLN_RETURN_IF_ERROR(
                    quantize_weights(pass, weights, chosen, products, &weights->written));
            }
            inputs[chosen->weights] = weights->written;
        }
        node.inputs = inputs;
    }
    return kln_onnx_add_node(pass->arena, &pass->made, &node);
}

/* Every name that a graph reads, including its subgraphs, which see the outer names too. */
static kiln_status mark_read(const kln_onnx_graph *graph, kln_names *read)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        KLN_RETURN_IF_ERROR(kln_names_set(read, graph->outputs[i].name, 0));
    }
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t k = 0; k < node->input_count; k++) {
            KLN_RETURN_IF_ERROR(kln_names_set(read, node->inputs[k], 0));
        }
        for (size_t k = 0; k < node->attribute_count; k++) {
            kln_onnx_graph *const *inside = NULL;
            const size_t count = kln_onnx_graphs_of(&node->attributes[k], &inside);
            for (size_t g = 0; g < count; g++) {
                KLN_RETURN_IF_ERROR(mark_read(inside[g], read));
            }
        }
    }
    return KILN_OK;
}

static bool is_constant_node(const kln_onnx_node *node)
{
    return node->output_count == 1 && KLN_ONNX_NODE_IS_ANY(node, "Constant", "ConstantOfShape");
}

/* Removes constants that nothing reads any more. */
kiln_status quantize_drop_unread(kln_onnx_graph *made)
{
    KLN_SCOPED(kln_names_finish) kln_names read = {0};
    kiln_status status = mark_read(made, &read);
    for (size_t i = 0; status == KILN_OK && i < made->input_count; i++) {
        status = kln_names_set(&read, made->inputs[i].name, 0);
    }
    size_t kept = 0;
    for (size_t i = 0; status == KILN_OK && i < made->initializer_count; i++) {
        if (kln_names_get(&read, made->initializers[i].name) != KLN_NAMES_NONE) {
            made->initializers[kept++] = made->initializers[i];
        }
    }
    made->initializer_count = status == KILN_OK ? kept : made->initializer_count;
    kept = 0;
    for (size_t i = 0; status == KILN_OK && i < made->node_count; i++) {
        const kln_onnx_node *node = &made->nodes[i];
        if (!is_constant_node(node) || kln_names_get(&read, node->outputs[0]) != KLN_NAMES_NONE) {
            made->nodes[kept++] = *node;
        }
    }
    made->node_count = status == KILN_OK ? kept : made->node_count;
    return status;
}

static kiln_status write_graph(quantize_pass *pass)
{
    pass->made = *pass->graph;
    pass->made.nodes = NULL;
    pass->made.node_count = pass->made.node_capacity = 0;
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(pass->arena, &pass->made));
    for (size_t i = 0; i < pass->graph->node_count; i++) {
        const uint32_t *order = pass->inference->graph->order;
        KLN_RETURN_IF_ERROR(write_node(pass, order != NULL ? order[i] : i));
    }
    return quantize_drop_unread(&pass->made);
}

/* --- report --- */

static kiln_status report(const quantize_pass *pass)
{
    kiln_precision_summary *totals = kln_precision_report_totals(pass->report);
    totals->precision = pass->format->precision;
    totals->bytes_after = kln_precision_constant_bytes(&pass->made);
    totals->cast_count = pass->made.node_count > pass->graph->node_count
                             ? pass->made.node_count - pass->graph->node_count
                             : 0;
    for (size_t i = 0; i < pass->graph->node_count; i++) {
        const kln_onnx_node *node = &pass->graph->nodes[i];
        const quantize_node *chosen = &pass->nodes[i];
        if (quantize_is_added(node)) {
            continue;
        }
        const kln_value *out = node->output_count != 0
                                   ? kln_inference_find(pass->inference->graph, node->outputs[0])
                                   : NULL;
        const bool floats =
            out != NULL && out->dtype == KILN_DTYPE_FLOAT32 && !kln_onnx_node_is(node, "Constant");
        const kiln_precision_node line = {
            .struct_size = sizeof line,
            .name = node->name,
            .operator_type = node->op_type,
            .graph = "",
            .output =
                node->output_count != 0 ? quantize_first_name(pass->arena, node->outputs[0]) : "",
            .dtype = chosen->is_quantized ? pass->format->storage
                     : floats             ? KILN_DTYPE_FLOAT32
                                          : KILN_DTYPE_UNDEFINED,
            .reason = chosen->is_quantized || floats ? chosen->reason : KILN_PRECISION_NO_FLOATS,
            .detail = chosen->detail,
            .multiplications = kln_precision_multiplications(node, pass->inference->graph)};
        totals->converted_count += chosen->is_quantized;
        totals->kept_count += !chosen->is_quantized && floats;
        KLN_RETURN_IF_ERROR(kln_precision_report_add(pass->report, &line));
    }
    return KILN_OK;
}

static kiln_status run(quantize_pass *pass)
{
    KLN_RETURN_IF_ERROR(kln_infer(pass->model, NULL, &pass->inference));
    KLN_RETURN_IF_ERROR(look(pass));
    KLN_RETURN_IF_ERROR(quantize_index_make(pass->graph, &pass->index));
    take_ranges(pass);
    quantize_choose(pass);
    KLN_RETURN_IF_ERROR(write_graph(pass));
    KLN_RETURN_IF_ERROR(report(pass));
    KLN_RETURN_IF_ERROR(quantize_check_some(pass));
    pass->model->graph = pass->made;
    return KILN_OK;
}

bool kln_precision_reads_ranges(const kln_onnx_node *node, const kln_graph_inference *known)
{
    const bool is_gate = kln_onnx_node_is(node, "Mul") && node->input_count == 2 &&
                         quantize_is_one_pixel(kln_inference_find(known, node->inputs[0])) !=
                             quantize_is_one_pixel(kln_inference_find(known, node->inputs[1]));
    return is_gate || quantize_is_move(node) ||
           KLN_ONNX_NODE_IS_ANY(node, "Conv", "ConvTranspose", "MatMul", "Gemm", "Add", "Sum",
                                "AveragePool", "ReduceMean", "Concat", "GlobalAveragePool");
}

/* Rewrites that leave the network's results the same and reduce the effect of rounding on them. */
static kiln_status prepare(kln_onnx_model *model, kiln_precision_options *options,
                           const quantize_format *format, kiln_precision_report *report,
                           kiln_range_table **ranges)
{
    KLN_RETURN_IF_ERROR(kln_raise_opset(model, format->opset));
    if (!format->activations) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(quantize_fold(model, options, report));
    if (format->storage != KILN_DTYPE_INT8) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(quantize_head(model, options));
    KLN_RETURN_IF_ERROR(quantize_smooth(model, options, format, ranges));
    return quantize_pad(model, options);
}

static const quantize_format *format_of(const kiln_precision_options *options)
{
    const quantize_format *found = &formats[0];
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(formats); i++) {
        const quantize_format *format = &formats[i];
        const bool has_zeros = format->storage == KILN_DTYPE_UINT4;
        const bool is_reduced = format->weight < format->most;
        found = format->precision == options->precision && (!has_zeros || options->zero_points) &&
                        (!is_reduced || options->reduce_range)
                    ? format
                    : found;
    }
    return found;
}

kiln_status kln_even_out(kln_onnx_model *model, kiln_precision_options *options,
                         kiln_precision_report *report)
{
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *ranges = NULL;
    if (!kln_ranges_have_channels(options->ranges)) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(quantize_fold(model, options, report));
    const kiln_status status = quantize_smooth(model, options, format_of(options), &ranges);
    return status == KILN_OK ? quantize_drop_unread(&model->graph) : status;
}

kiln_status kln_quantize(kln_onnx_model *model, const kiln_precision_options *options,
                         kiln_precision_report *report)
{
    kiln_precision_options how = *options;
    KLN_SCOPED(kiln_range_table_destroy_at) kiln_range_table *ranges = NULL;
    quantize_pass pass = {.model = model,
                          .arena = &model->arena,
                          .options = &how,
                          .report = report,
                          .format = format_of(options)};
    kln_precision_report_totals(report)->bytes_before = kln_precision_constant_bytes(&model->graph);
    KLN_RETURN_IF_ERROR(prepare(model, &how, pass.format, report, &ranges));
    how.ranges = ranges != NULL ? ranges : options->ranges;
    pass.graph = &model->graph;
    const kiln_status status = run(&pass);
    kln_names_finish(&pass.names);
    quantize_index_finish(&pass.index);
    kln_inference_destroy(pass.inference);
    return status;
}
