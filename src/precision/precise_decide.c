/* SPDX-License-Identifier: Apache-2.0 */
/* Which nodes compute in the half type, and the type each needs for its inputs. */
#include <math.h>

#include "precise_parts.h"
#include "quantize_parts.h"

/* Operators that accumulate too much for a half type, whose result depends on the bit pattern or on
 * a type that an attribute names, or that draw random numbers of the type. */
static const char *const never[] = {"BitCast",
                                    "Bernoulli",
                                    "CumProd",
                                    "CumSum",
                                    "DFT",
                                    "Det",
                                    "EyeLike",
                                    "LpNormalization",
                                    "GlobalLpPool",
                                    "LpPool",
                                    "MelWeightMatrix",
                                    "MeanVarianceNormalization",
                                    "Multinomial",
                                    "NegativeLogLikelihoodLoss",
                                    "RandomNormal",
                                    "RandomNormalLike",
                                    "RandomUniform",
                                    "RandomUniformLike",
                                    "ReduceL2",
                                    "ReduceLogSum",
                                    "ReduceLogSumExp",
                                    "ReduceSumSquare",
                                    "STFT",
                                    "SoftmaxCrossEntropyLoss",
                                    NULL};

static void stay(precise_node *decided, kiln_precision_reason reason, const char *detail)
{
    decided->reason = reason;
    decided->detail = detail;
    decided->is_half = false;
}

/* Accumulates too much for a half type because of its `reduction` attribute. */
static bool is_adding(const kln_onnx_node *node)
{
    const kln_onnx_attribute *reduction = kln_onnx_find_attribute(node, "reduction");
    return KLN_ONNX_NODE_IS_ANY(node, "ScatterElements", "ScatterND") && reduction != NULL &&
           (reduction->s.size != 4 || memcmp(reduction->s.data, "none", 4) != 0);
}

/* The first tensor of the node with values near the limit of the type, or NULL. */
static const char *find_wide(const precise_pass *pass, const precise_graph *graph,
                             const kln_onnx_node *node)
{
    const kiln_range_table *ranges = pass->options->ranges;
    for (size_t i = 0; i < node->input_count + node->output_count; i++) {
        const char *name =
            i < node->input_count ? node->inputs[i] : node->outputs[i - node->input_count];
        precise_value *value = precise_find(graph, name);
        if (value != NULL && i < node->input_count && precise_is_beyond(pass, value)) {
            return name;
        }
        const kiln_range *range =
            ranges != NULL && value != NULL && value->is_single && value->initializer == NULL
                ? kiln_range_table_find(ranges, name)
                : NULL;
        if (range != NULL &&
            fmax(fmax(fabs(range->low), fabs(range->high)),
                 fmax(fabs(range->least), fabs(range->greatest))) > pass->half_most / 2) {
            return name;
        }
    }
    return NULL;
}

static kiln_status decide(precise_pass *pass, precise_graph *graph);

/* Whether the node stays float32, by request or by necessity. */
static bool must_stay(const precise_pass *pass, const precise_graph *graph, size_t index,
                      precise_node *decided)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const char *wide = find_wide(pass, graph, node);
    if (quantize_is_kept(pass->options, node)) {
        stay(decided, KILN_PRECISION_KEPT, "");
    } else if (is_adding(node) || strcmp(node->domain, "ai.onnx.ml") == 0 ||
               kln_onnx_node_is_among(node, never)) {
        stay(decided, KILN_PRECISION_LOSSY, "");
    } else if (wide != NULL) {
        stay(decided, KILN_PRECISION_RANGE, wide);
    } else if (decided->is_exact) {
        stay(decided, KILN_PRECISION_WHOLE_NUMBERS, "");
    } else if (decided->is_gate) {
        stay(decided, KILN_PRECISION_GATE, "");
    } else if (decided->is_bytes) {
        stay(decided, KILN_PRECISION_BYTES, "");
    } else {
        for (size_t i = 0; i < node->output_count; i++) {
            const precise_value *out = precise_find(graph, node->outputs[i]);
            if (out != NULL && out->is_squared) {
                stay(decided, KILN_PRECISION_SQUARES, node->outputs[i]);
                return true;
            }
        }
        return false;
    }
    return true;
}

/* --- what the operator accepts --- */

/* Whether type variable `variable` may be the half type, given the known types of its tensors. */
static bool takes_half(const precise_pass *pass, const precise_graph *graph, size_t index,
                       const kln_schema *schema, int variable)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    if (variable < 0 ||
        !kln_type_is_among(schema->variables[variable].types.tensor, pass->half_wire)) {
        return false;
    }
    for (size_t i = 0; i < node->input_count; i++) {
        const kln_schema_parameter *parameter = kln_schema_input(schema, i);
        const precise_value *value = precise_find(graph, node->inputs[i]);
        if (parameter != NULL && parameter->variable == variable && node->inputs[i][0] != '\0' &&
            (parameter->mixed || value == NULL || !value->is_single)) {
            return false;
        }
    }
    return true;
}

/* Whether the half type represents the scales as normal numbers, without losing digits. */
static bool holds_scales(const precise_pass *pass, const precise_graph *graph,
                         const kln_onnx_node *node)
{
    const bool quantizes = KLN_ONNX_NODE_IS_ANY(node, "QuantizeLinear", "DequantizeLinear");
    const precise_value *scale =
        quantizes && node->input_count > 1 ? precise_find(graph, node->inputs[1]) : NULL;
    if (!quantizes) {
        return true;
    }
    if (scale == NULL || scale->initializer == NULL || scale->initializer->data.data == NULL) {
        return false;
    }
    for (size_t i = 0; i < scale->initializer->data.size / sizeof(float); i++) {
        float number;
        memcpy(&number, (const char *)scale->initializer->data.data + i * sizeof number,
               sizeof number);
        if (!(fabs((double)number) >= pass->half_least && fabs((double)number) < pass->half_most)) {
            return false;
        }
    }
    return true;
}

static bool is_plain_tensor(const precise_value *value)
{
    return value == NULL || value->known == NULL || value->known->kind == KLN_ONNX_KIND_NONE ||
           value->known->kind == KLN_ONNX_KIND_TENSOR;
}

/* How many of the node's inputs or outputs are float32; `*plain`: whether all are tensors. */
static size_t count_singles(const precise_graph *graph, const char *const *names, size_t count,
                            bool *plain)
{
    size_t singles = 0;
    for (size_t i = 0; i < count; i++) {
        const precise_value *value = precise_find(graph, names[i]);
        singles += value != NULL && value->is_single;
        *plain = *plain && is_plain_tensor(value);
    }
    return singles;
}

static void set_wants(precise_graph *graph, const kln_onnx_node *node, precise_node *decided,
                      precise_want want)
{
    for (size_t i = 0; i < node->input_count; i++) {
        const precise_value *value = precise_find(graph, node->inputs[i]);
        decided->wants[i] = value != NULL && value->is_single ? (unsigned char)want : WANT_ANY;
    }
}

/* Whether the types of the outputs follow from those of the inputs. LayerNormalization is exempt:
 * the type of its statistics is an attribute. */
static bool says_outputs(const precise_graph *graph, const kln_onnx_node *node,
                         const kln_schema *schema)
{
    for (size_t k = 0; k < node->output_count; k++) {
        const kln_schema_parameter *parameter = kln_schema_output(schema, k);
        const precise_value *out = precise_find(graph, node->outputs[k]);
        bool said = out == NULL || !out->is_single || parameter == NULL ||
                    parameter->variable < 0 || kln_onnx_node_is(node, "LayerNormalization");
        for (size_t i = 0; !said && i < node->input_count; i++) {
            const kln_schema_parameter *input = kln_schema_input(schema, i);
            said = node->inputs[i][0] != '\0' && input != NULL &&
                   input->variable == parameter->variable;
        }
        if (!said) {
            return false;
        }
    }
    return true;
}

/* A node with a known schema, which alone decides whether it takes the half type. */
static void decide_plain(const precise_pass *pass, precise_graph *graph, size_t index,
                         precise_node *decided, size_t ins, size_t outs)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const kln_schema *schema = precise_schema(graph, index);
    for (size_t i = 0; i < node->input_count; i++) {
        const kln_schema_parameter *parameter = kln_schema_input(schema, i);
        const bool half = parameter != NULL && decided->wants[i] == WANT_SINGLE &&
                          takes_half(pass, graph, index, schema, parameter->variable);
        decided->is_half = decided->is_half || half;
        decided->wants[i] = half ? WANT_HALF : decided->wants[i];
    }
    if (!decided->is_half) {
        stay(decided, KILN_PRECISION_LACKING, "");
        return;
    }
    decided->reason = KILN_PRECISION_CONVERTED;
    for (size_t k = 0; k < node->output_count; k++) {
        const kln_schema_parameter *parameter = kln_schema_output(schema, k);
        precise_value *out = precise_find(graph, node->outputs[k]);
        if (out == NULL || !out->is_single || parameter == NULL || parameter->variable < 0) {
            continue;
        }
        for (size_t i = 0; i < node->input_count; i++) {
            const kln_schema_parameter *input = kln_schema_input(schema, i);
            out->is_half = out->is_half || (decided->wants[i] == WANT_HALF &&
                                            input->variable == parameter->variable);
        }
    }
    /* A float32 tensor that is only inspected, with no float output, is read in whichever type it
     * has. */
    if (ins == 1 && outs == 0) {
        decided->is_half = false;
        decided->reason = KILN_PRECISION_NO_FLOATS;
        set_wants(graph, node, decided, WANT_ANY);
    }
}

/* --- graphs inside nodes --- */

static void require_outputs(precise_graph *inner, size_t from)
{
    for (size_t i = from; i < inner->graph->output_count; i++) {
        precise_value *value = precise_find(inner, inner->graph->outputs[i].name);
        inner->half_outputs[i] = value != NULL && value->is_half;
    }
}

static void count_outputs(precise_graph *graph)
{
    for (size_t i = 0; i < graph->graph->output_count; i++) {
        precise_value *value = precise_find(graph, graph->graph->outputs[i].name);
        if (value != NULL && value->is_single) {
            value->half_reads += graph->half_outputs[i];
            value->single_reads += !graph->half_outputs[i];
        }
    }
}

static void decide_if(precise_graph *graph, size_t index, precise_node *decided)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    precise_graph *const *inner = decided->graphs;
    decided->reason = KILN_PRECISION_NO_FLOATS;
    if (decided->graph_count != 2) {
        return;
    }
    for (size_t i = 0; i < node->output_count; i++) {
        precise_value *out = precise_find(graph, node->outputs[i]);
        bool half = out != NULL && out->is_single;
        for (size_t g = 0; half && g < 2; g++) {
            const precise_value *value =
                i < inner[g]->graph->output_count
                    ? precise_find(inner[g], inner[g]->graph->outputs[i].name)
                    : NULL;
            half = value != NULL && value->is_half;
        }
        for (size_t g = 0; g < 2; g++) {
            if (i < inner[g]->graph->output_count) {
                inner[g]->half_outputs[i] = half;
            }
        }
        if (half) {
            out->is_half = true;
            decided->is_half = true;
            decided->reason = KILN_PRECISION_CONVERTED;
        }
    }
}

/* Loop-carried values stay float32, because rounding errors would accumulate over the iterations.
 * Slices that go in and out do not. */
static kiln_status decide_loop(precise_pass *pass, precise_graph *graph, size_t index,
                               precise_node *decided)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    precise_graph *inner = decided->graph_count == 1 ? decided->graphs[0] : NULL;
    const kln_onnx_attribute *slices = kln_onnx_find_attribute(node, "num_scan_inputs");
    const bool scans = kln_onnx_node_is(node, "Scan") && slices != NULL && slices->i >= 0 &&
                       (size_t)slices->i <= node->input_count;
    size_t carried = SIZE_MAX;
    set_wants(graph, node, decided, WANT_SINGLE);
    decided->reason = KILN_PRECISION_CARRIED;
    if (inner == NULL) {
        return KILN_OK;
    }
    if (scans && inner->graph->input_count == node->input_count) {
        carried = node->input_count - (size_t)slices->i;
        for (size_t i = carried; i < node->input_count; i++) {
            precise_value *slice = precise_find(inner, inner->graph->inputs[i].name);
            if (decided->wants[i] == WANT_SINGLE && slice != NULL && slice->is_single) {
                slice->is_half = true;
                decided->wants[i] = WANT_HALF;
            }
        }
    } else if (kln_onnx_node_is(node, "Loop")) {
        carried = node->input_count >= 2 ? node->input_count - 2 : 0;
    }
    KLN_RETURN_IF_ERROR(decide(pass, inner));
    const size_t first = kln_onnx_node_is(node, "Loop") ? 1 : 0; /* the condition comes first */
    if (carried != SIZE_MAX && first + carried <= inner->graph->output_count) {
        require_outputs(inner, first + carried);
        for (size_t i = carried; i < node->output_count; i++) {
            precise_value *out = precise_find(graph, node->outputs[i]);
            const bool half = first + i < inner->graph->output_count && out != NULL &&
                              out->is_single && inner->half_outputs[first + i];
            if (out != NULL) {
                out->is_half = half;
            }
        }
    }
    count_outputs(inner);
    return KILN_OK;
}

/* --- a node --- */

static kiln_status decide_holder(precise_pass *pass, precise_graph *graph, size_t index,
                                 precise_node *decided)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    if (!kln_onnx_node_is(node, "If")) {
        return decide_loop(pass, graph, index, decided);
    }
    for (size_t g = 0; g < decided->graph_count; g++) {
        KLN_RETURN_IF_ERROR(decide(pass, decided->graphs[g]));
    }
    decide_if(graph, index, decided);
    for (size_t g = 0; g < decided->graph_count; g++) {
        count_outputs(decided->graphs[g]);
    }
    return KILN_OK;
}

/* Constants and casts to float32 produce whichever type their readers use. */
static bool is_source(const precise_graph *graph, const kln_onnx_node *node)
{
    const kln_onnx_attribute *to = kln_onnx_find_attribute(node, "to");
    const precise_value *out =
        node->output_count == 1 ? precise_find(graph, node->outputs[0]) : NULL;
    if (out == NULL || !out->is_single || (kln_onnx_node_is(node, "Cast") && to == NULL)) {
        return false;
    }
    return KLN_ONNX_NODE_IS_ANY(node, "Cast", "Constant", "ConstantOfShape");
}

/* QuantizeLinear reads a float32 input as it is: a cast before it would keep the kernel that
 * produces the input from writing integers directly. */
static bool quantizes_single(const precise_graph *graph, const kln_onnx_node *node)
{
    const precise_value *in =
        kln_onnx_node_is(node, "QuantizeLinear") ? precise_find(graph, node->inputs[0]) : NULL;
    return in != NULL && in->is_single && !in->is_half && !precise_is_constant(in) &&
           !in->is_flexible;
}

static void decide_node(const precise_pass *pass, precise_graph *graph, size_t index,
                        precise_node *decided)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    bool plain = true;
    const size_t ins = count_singles(graph, node->inputs, node->input_count, &plain);
    const size_t outs = count_singles(graph, node->outputs, node->output_count, &plain);
    set_wants(graph, node, decided, WANT_SINGLE);
    if (ins + outs == 0 || (kln_onnx_node_is(node, "Cast") && outs == 0)) {
        decided->reason = KILN_PRECISION_NO_FLOATS;
        set_wants(graph, node, decided, WANT_ANY);
    } else if (must_stay(pass, graph, index, decided)) {
        /* must_stay has set the reason. */
    } else if (is_source(graph, node)) {
        precise_find(graph, node->outputs[0])->is_flexible = true;
        decided->reason = KILN_PRECISION_NO_FLOATS;
        set_wants(graph, node, decided, WANT_ANY);
    } else if (precise_schema(graph, index) == NULL || !plain ||
               !says_outputs(graph, node, precise_schema(graph, index))) {
        stay(decided, KILN_PRECISION_UNKNOWN, "");
    } else if (quantizes_single(graph, node)) {
        decided->reason = KILN_PRECISION_NO_FLOATS;
    } else if (!holds_scales(pass, graph, node)) {
        stay(decided, KILN_PRECISION_LOSSY, node->inputs[1]);
    } else {
        decide_plain(pass, graph, index, decided, ins, outs);
    }
}

precise_value *precise_dequantized(const precise_graph *graph, size_t index)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    precise_value *out = graph->nodes[index].is_half && kln_onnx_node_is(node, "DequantizeLinear")
                             ? precise_find(graph, node->outputs[0])
                             : NULL;
    return out != NULL && !out->is_output ? out : NULL;
}

static void count_inputs(precise_graph *graph, size_t index)
{
    const kln_onnx_node *node = &graph->graph->nodes[index];
    const precise_node *decided = &graph->nodes[index];
    if (precise_dequantized(graph, index) != NULL) {
        return; /* count_scales counts them */
    }
    for (size_t i = 0; i < node->input_count; i++) {
        precise_value *value = precise_find(graph, node->inputs[i]);
        if (value != NULL && value->is_single) {
            value->half_reads += decided->wants[i] == WANT_HALF;
            value->single_reads += decided->wants[i] == WANT_SINGLE;
        }
    }
}

static kiln_status decide(precise_pass *pass, precise_graph *graph)
{
    KLN_RETURN_IF_ERROR(precise_mark_exact(graph));
    KLN_RETURN_IF_ERROR(precise_mark_kept(pass, graph));
    for (size_t i = 0; i < graph->graph->node_count; i++) {
        const size_t index = precise_turn(graph, i);
        precise_node *decided = &graph->nodes[index];
        if (decided->graph_count != 0) {
            KLN_RETURN_IF_ERROR(decide_holder(pass, graph, index, decided));
        } else {
            decide_node(pass, graph, index, decided);
        }
        count_inputs(graph, index);
    }
    return KILN_OK;
}

/* Scales are needed in each type in which the dequantized tensor is read. */
static void count_scales(precise_graph *graph)
{
    for (size_t i = 0; i < graph->graph->node_count; i++) {
        const precise_value *out = precise_dequantized(graph, i);
        const kln_onnx_node *node = &graph->graph->nodes[i];
        for (size_t k = 0; out != NULL && k < node->input_count; k++) {
            precise_value *scale = precise_find(graph, node->inputs[k]);
            if (scale != NULL && scale->is_single) {
                scale->half_reads += out->half_reads != 0 || out->single_reads == 0;
                scale->single_reads += out->single_reads != 0;
            }
        }
    }
}

kiln_status precise_decide_main(precise_pass *pass)
{
    precise_graph *graph = pass->main;
    for (size_t i = 0; pass->options->convert_bindings && i < graph->graph->input_count; i++) {
        precise_value *input = precise_find(graph, graph->graph->inputs[i].name);
        input->is_half = input->is_single && input->initializer == NULL;
    }
    KLN_RETURN_IF_ERROR(decide(pass, graph));
    for (size_t i = 0; i < graph->graph->output_count; i++) {
        const precise_value *output = precise_find(graph, graph->graph->outputs[i].name);
        graph->half_outputs[i] =
            pass->options->convert_bindings && output != NULL && output->is_single &&
            (output->known == NULL || output->known->producer != KLN_NO_NODE || output->is_half);
    }
    count_outputs(graph);
    for (graph = pass->graphs; graph != NULL; graph = graph->next) {
        count_scales(graph);
    }
    return KILN_OK;
}
