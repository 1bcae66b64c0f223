/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Constants under a second name. When two parameters are equal, such as all-zero biases, PyTorch's
 * exporter writes the second as an Identity of the first. TensorRT then runs a kernel for each
 * instead of fusing the bias into the convolution that reads it.
 */
#include "quantize_parts.h"

/* In bytes: a larger constant is not worth storing twice. */
#define SMALL ((size_t)1 << 16)

/* The small initializer, not replaceable by a caller, of which the node is an Identity; or NULL. */
static const kln_onnx_tensor *aliased(const kln_onnx_graph *graph, const kln_onnx_node *node,
                                      const kiln_precision_options *options)
{
    if (!kln_onnx_node_is(node, "Identity") || quantize_is_kept(options, node)) {
        return NULL;
    }
    const kln_onnx_tensor *tensor = kln_onnx_find_initializer(graph, node->inputs[0]);
    const bool fits = tensor != NULL && tensor->data.data != NULL && tensor->data.size <= SMALL &&
                      kln_onnx_find_value(graph->inputs, graph->input_count, tensor->name) == NULL;
    return fits ? tensor : NULL;
}

static const kln_onnx_tensor *constant_of(const kln_onnx_graph *graph, const kln_onnx_node *node,
                                          const kiln_precision_options *options)
{
    (void)graph;
    (void)options;
    const kln_onnx_attribute *value = kln_onnx_find_attribute(node, "value");
    return kln_onnx_node_is(node, "Constant") && value != NULL ? value->tensor : NULL;
}

/* Turns nodes for which `found` gives a constant into initializers, except graph outputs. */
static kiln_status hoist(kln_onnx_model *model, const kiln_precision_options *options,
                         const kln_onnx_tensor *(*found)(const kln_onnx_graph *graph,
                                                         const kln_onnx_node *node,
                                                         const kiln_precision_options *options))
{
    kln_onnx_graph graph = model->graph;
    kln_onnx_node *nodes =
        kln_arena_alloc_zeroed(&model->arena, graph.node_count + 1, sizeof *nodes);
    size_t kept = 0;
    KLN_RETURN_IF_NO_MEMORY(nodes, graph.node_count * sizeof *nodes, "a list of nodes");
    KLN_RETURN_IF_ERROR(kln_onnx_copy_initializers(&model->arena, &graph));
    for (size_t i = 0; i < graph.node_count; i++) {
        const kln_onnx_node *node = &graph.nodes[i];
        const kln_onnx_tensor *tensor = found(&graph, node, options);
        if (tensor == NULL || node->output_count != 1 ||
            kln_onnx_find_value(graph.outputs, graph.output_count, node->outputs[0]) != NULL) {
            nodes[kept++] = *node;
            continue;
        }
        kln_onnx_tensor named = *tensor;
        named.name = node->outputs[0];
        KLN_RETURN_IF_ERROR(kln_onnx_add_initializer(&model->arena, &graph, &named));
    }
    graph.nodes = nodes;
    graph.node_count = graph.node_capacity = kept;
    model->graph = graph;
    return KILN_OK;
}

kiln_status kln_precision_unalias(kln_onnx_model *model, const kiln_precision_options *options)
{
    return hoist(model, options, aliased);
}

kiln_status quantize_hoist_constants(kln_onnx_model *model)
{
    return hoist(model, NULL, constant_of);
}
