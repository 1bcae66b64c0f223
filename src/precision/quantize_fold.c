/* SPDX-License-Identifier: Apache-2.0 */
/* What is done to a network before it is quantized, and changes nothing of what it computes. */
#include <math.h>
#include <string.h>

#include "quantize_parts.h"

static kiln_status no_memory(void)
{
    return kln_fail_memory(sizeof(kln_onnx_node), "a folded network");
}

static bool is_output(const kln_onnx_graph *graph, const char *name)
{
    for (size_t i = 0; i < graph->output_count; i++) {
        if (strcmp(graph->outputs[i].name, name) == 0) {
            return true;
        }
    }
    return false;
}

/* --- constants --- */

static const kln_onnx_tensor *constant_of(const kln_onnx_graph *graph, const kln_onnx_node *node)
{
    const kln_onnx_attribute *value = kln_onnx_find_attribute(node, "value");
    return kln_graph_edit_is(node, "Constant") && node->output_count == 1 && value != NULL &&
                   !is_output(graph, node->outputs[0])
               ? value->tensor
               : NULL;
}

static kiln_status copy_initializers(kln_arena *arena, kln_onnx_graph *graph)
{
    const kln_onnx_tensor *from = graph->initializers;
    const size_t count = graph->initializer_count;
    graph->initializers = NULL;
    graph->initializer_capacity = 0;
    for (size_t i = 0; i < count; i++) {
        KLN_RETURN_IF_ERROR(kln_array_grow(arena, &graph->initializers, i,
                                           &graph->initializer_capacity, sizeof *from));
        graph->initializers[i] = from[i];
    }
    return KILN_OK;
}

static kiln_status add_initializer(kln_arena *arena, kln_onnx_graph *graph,
                                   const kln_onnx_tensor *tensor)
{
    KLN_RETURN_IF_ERROR(kln_array_grow(arena, &graph->initializers, graph->initializer_count,
                                       &graph->initializer_capacity, sizeof *tensor));
    graph->initializers[graph->initializer_count++] = *tensor;
    return KILN_OK;
}

static kiln_status hoist_constants(kln_arena *arena, kln_onnx_graph *graph)
{
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(arena, graph->node_count + 1, sizeof *nodes);
    size_t kept = 0;
    if (nodes == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(copy_initializers(arena, graph));
    for (size_t i = 0; i < graph->node_count; i++) {
        const kln_onnx_tensor *tensor = constant_of(graph, &graph->nodes[i]);
        if (tensor == NULL) {
            nodes[kept++] = graph->nodes[i];
            continue;
        }
        kln_onnx_tensor named = *tensor;
        named.name = graph->nodes[i].outputs[0];
        KLN_RETURN_IF_ERROR(add_initializer(arena, graph, &named));
    }
    graph->nodes = nodes;
    graph->node_count = graph->node_capacity = kept;
    return KILN_OK;
}

/* --- normalizations --- */

typedef struct fold_pass {
    kln_onnx_model *model;
    kln_arena *arena;
    kln_onnx_graph graph;
    kln_inference *inference;
    kiln_precision_report *report;
} fold_pass;

/* Number `index` of a constant of float32, which may be unaligned. */
static float number_of(const kln_onnx_tensor *tensor, size_t index)
{
    float number = 0;
    memcpy(&number, (const char *)tensor->data.data + index * sizeof number, sizeof number);
    return number;
}

static const kln_onnx_tensor *floats_of(const fold_pass *pass, const kln_onnx_node *node,
                                        size_t input)
{
    const kln_value *value = input < node->input_count
                                 ? kln_inference_find(pass->inference->graph, node->inputs[input])
                                 : NULL;
    return value != NULL && value->is_constant && value->dtype == KILN_DTYPE_FLOAT32 &&
                   value->initializer != NULL && value->initializer->data.data != NULL
               ? value->initializer
               : NULL;
}

/* The convolution whose result only this normalization reads, with constants all around; or NULL.
 */
static kln_onnx_node *find_conv(const fold_pass *pass, const kln_onnx_node *node,
                                const kln_onnx_tensor *of[6])
{
    const kln_onnx_attribute *training = kln_onnx_find_attribute(node, "training_mode");
    const kln_value *between =
        kln_graph_edit_is(node, "BatchNormalization") && node->input_count == 5
            ? kln_inference_find(pass->inference->graph, node->inputs[0])
            : NULL;
    if (between == NULL || between->producer == KLN_NO_NODE || between->consumers != 1 ||
        node->output_count != 1 || (training != NULL && training->i != 0)) {
        return NULL;
    }
    kln_onnx_node *conv = &pass->graph.nodes[between->producer];
    const kln_onnx_attribute *group = kln_onnx_find_attribute(conv, "group");
    const bool across = kln_graph_edit_is(conv, "ConvTranspose");
    of[4] = floats_of(pass, conv, 1);
    of[5] = floats_of(pass, conv, 2);
    const bool has_bias = conv->input_count > 2 && conv->inputs[2][0] != '\0';
    if ((!across && !kln_graph_edit_is(conv, "Conv")) || of[4] == NULL || of[4]->rank < 2 ||
        (across && group != NULL && group->i != 1) || (has_bias && of[5] == NULL)) {
        return NULL;
    }
    const size_t outs = (size_t)of[4]->dims[across ? 1 : 0];
    for (size_t k = 0; k < 4; k++) {
        of[k] = floats_of(pass, node, k + 1);
        if (of[k] == NULL || of[k]->data.size != outs * sizeof(float)) {
            return NULL;
        }
    }
    return conv;
}

static kiln_status fold(fold_pass *pass, const kln_onnx_node *node, kln_onnx_node *conv,
                        const kln_onnx_tensor *const of[6])
{
    const kln_onnx_attribute *epsilon = kln_onnx_find_attribute(node, "epsilon");
    const kln_onnx_tensor *weights = of[4];
    const size_t axis = kln_graph_edit_is(conv, "ConvTranspose") ? 1 : 0;
    const size_t outs = (size_t)weights->dims[axis];
    const size_t count = weights->data.size / sizeof(float);
    size_t stride = 1;
    for (size_t i = axis + 1; i < weights->rank; i++) {
        stride *= (size_t)weights->dims[i];
    }
    float *numbers = kln_arena_alloc(pass->arena, count * sizeof *numbers);
    float *bias = kln_arena_alloc(pass->arena, outs * sizeof *bias);
    double *factors = kln_arena_alloc(pass->arena, outs * sizeof *factors);
    const char **names = kln_arena_alloc_zeroed(pass->arena, 4, sizeof *names);
    int64_t *dims = kln_arena_alloc_zeroed(pass->arena, 1, sizeof *dims);
    const char *stem = node->outputs[0];
    if (numbers == NULL || bias == NULL || factors == NULL || names == NULL || dims == NULL) {
        return no_memory();
    }
    for (size_t o = 0; o < outs; o++) {
        const double before = of[5] != NULL ? (double)number_of(of[5], o) : 0;
        const double variance = (double)number_of(of[3], o);
        factors[o] = (double)number_of(of[0], o) /
                     sqrt(variance + (double)(epsilon != NULL ? epsilon->f : 1e-5F));
        bias[o] = (float)((before - (double)number_of(of[2], o)) * factors[o] +
                          (double)number_of(of[1], o));
    }
    for (size_t i = 0; i < count; i++) {
        numbers[i] = (float)((double)number_of(weights, i) * factors[i / stride % outs]);
    }
    dims[0] = (int64_t)outs;
    kln_onnx_tensor made[2] = {*weights, *of[0]};
    made[0].name = kln_arena_printf(pass->arena, "%s/folded_weights", stem);
    made[0].data.data = numbers;
    made[1].name = kln_arena_printf(pass->arena, "%s/folded_bias", stem);
    made[1].data.data = bias;
    made[1].rank = 1;
    made[1].dims = dims;
    if (made[0].name == NULL || made[1].name == NULL) {
        return no_memory();
    }
    KLN_RETURN_IF_ERROR(add_initializer(pass->arena, &pass->graph, &made[0]));
    KLN_RETURN_IF_ERROR(add_initializer(pass->arena, &pass->graph, &made[1]));
    names[0] = conv->inputs[0];
    names[1] = made[0].name;
    names[2] = made[1].name;
    names[3] = stem;
    conv->inputs = names;
    conv->input_count = 3;
    conv->outputs = names + 3;
    const kiln_precision_node line = {.struct_size = sizeof line,
                                      .name = node->name,
                                      .operator_type = node->op_type,
                                      .graph = "",
                                      .output = stem,
                                      .dtype = KILN_DTYPE_UNDEFINED,
                                      .reason = KILN_PRECISION_FOLDED,
                                      .detail = ""};
    return kln_precision_report_add(pass->report, &line);
}

static kiln_status fold_all(fold_pass *pass)
{
    const size_t count = pass->graph.node_count;
    kln_onnx_node *nodes = kln_arena_alloc_zeroed(pass->arena, count + 1, sizeof *nodes);
    size_t kept = 0;
    if (nodes == NULL) {
        return no_memory();
    }
    memcpy(nodes, pass->graph.nodes, count * sizeof *nodes);
    pass->graph.nodes = nodes;
    bool *folded = kln_arena_alloc_zeroed(pass->arena, count + 1, sizeof *folded);
    if (folded == NULL) {
        return no_memory();
    }
    for (size_t i = 0; i < count; i++) {
        const kln_onnx_tensor *of[6] = {NULL};
        kln_onnx_node *conv = find_conv(pass, &nodes[i], of);
        if (conv != NULL) {
            KLN_RETURN_IF_ERROR(fold(pass, &nodes[i], conv, of));
            folded[i] = true;
        }
    }
    for (size_t i = 0; i < count; i++) {
        if (!folded[i]) {
            nodes[kept++] = nodes[i];
        }
    }
    pass->graph.node_count = pass->graph.node_capacity = kept;
    return KILN_OK;
}

kiln_status quantize_fold(kln_onnx_model *model, kiln_precision_report *report)
{
    fold_pass pass = {.model = model, .arena = &model->arena, .report = report};
    kln_onnx_graph graph = model->graph;
    KLN_RETURN_IF_ERROR(hoist_constants(&model->arena, &graph));
    model->graph = graph;
    KLN_RETURN_IF_ERROR(kln_infer(model, NULL, &pass.inference));
    pass.graph = graph;
    const kiln_status status = fold_all(&pass);
    kln_inference_destroy(pass.inference);
    if (status == KILN_OK) {
        model->graph = pass.graph;
    }
    return status;
}
