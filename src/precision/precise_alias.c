/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants under other names. PyTorch's exporter writes a parameter that equals another one, as
 * biases that are all zero, as an Identity of it; TensorRT makes a kernel of each, and no part of
 * the convolution that reads it.
 */
#include "quantize_parts.h"

/* In bytes: a larger constant would take its room twice. */
#define SMALL ((size_t)1 << 16)

static bool is_among(const kln_onnx_value *values, size_t count, const char *name)
{
    bool found = false;
    for (size_t i = 0; !found && i < count; i++) {
        found = strcmp(values[i].name, name) == 0;
    }
    return found;
}

/* The small initializer that no caller replaces and that the node is an Identity of, or NULL. */
static const kln_onnx_tensor *aliased(const kln_onnx_graph *graph, const kln_onnx_node *node,
                                      const kiln_precision_options *options)
{
    if (!kln_onnx_node_is(node, "Identity") || node->output_count != 1 ||
        quantize_is_kept(options, node) ||
        is_among(graph->outputs, graph->output_count, node->outputs[0])) {
        return NULL;
    }
    for (size_t i = 0; i < graph->initializer_count; i++) {
        const kln_onnx_tensor *tensor = &graph->initializers[i];
        if (strcmp(tensor->name, node->inputs[0]) == 0) {
            const bool fits = tensor->data.data != NULL && tensor->data.size <= SMALL &&
                              !is_among(graph->inputs, graph->input_count, tensor->name);
            return fits ? tensor : NULL;
        }
    }
    return NULL;
}

kiln_status kln_precision_unalias(kln_onnx_model *model, const kiln_precision_options *options)
{
    kln_onnx_graph graph = model->graph;
    kln_onnx_node *nodes =
        kln_arena_alloc_zeroed(&model->arena, graph.node_count + 1, sizeof *nodes);
    size_t kept = 0;
    KLN_RETURN_IF_NO_MEMORY(nodes, graph.node_count * sizeof *nodes, "a list of nodes");
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(&model->arena, &graph));
    for (size_t i = 0; i < graph.node_count; i++) {
        const kln_onnx_tensor *tensor = aliased(&graph, &graph.nodes[i], options);
        if (tensor == NULL) {
            nodes[kept++] = graph.nodes[i];
            continue;
        }
        kln_onnx_tensor named = *tensor;
        named.name = graph.nodes[i].outputs[0];
        KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(&model->arena, &graph, &named));
    }
    graph.nodes = nodes;
    graph.node_count = graph.node_capacity = kept;
    model->graph = graph;
    return KILN_OK;
}
