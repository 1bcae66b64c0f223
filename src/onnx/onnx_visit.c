/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_look.h"

static const kln_onnx_tensor *visit_list(const kln_onnx_tensor *tensors, size_t count,
                                         kln_onnx_visit visit, void *user)
{
    for (size_t i = 0; i < count; i++) {
        if (!visit(user, &tensors[i])) {
            return &tensors[i];
        }
    }
    return NULL;
}

static const kln_onnx_tensor *visit_attribute(const kln_onnx_attribute *attribute,
                                              kln_onnx_visit visit, void *user)
{
    const kln_onnx_tensor *found = NULL;
    kln_onnx_graph *const *graphs = NULL;
    const size_t count = kln_onnx_graphs_of(attribute, &graphs);
    if (attribute->type == KLN_ONNX_ATTRIBUTE_TENSOR) {
        found = visit_list(attribute->tensor, attribute->tensor != NULL ? 1 : 0, visit, user);
    } else if (attribute->type == KLN_ONNX_ATTRIBUTE_TENSORS) {
        found = visit_list(attribute->tensors, attribute->count, visit, user);
    }
    for (size_t i = 0; i < count && found == NULL; i++) {
        found = kln_onnx_visit_tensors(graphs[i], visit, user);
    }
    return found;
}

/* The reader limits the nesting, so the recursion is bounded. */
const kln_onnx_tensor *kln_onnx_visit_tensors(const kln_onnx_graph *graph, kln_onnx_visit visit,
                                              void *user)
{
    const kln_onnx_tensor *found =
        visit_list(graph->initializers, graph->initializer_count, visit, user);
    for (size_t i = 0; i < graph->node_count && found == NULL; i++) {
        const kln_onnx_node *node = &graph->nodes[i];
        for (size_t j = 0; j < node->attribute_count && found == NULL; j++) {
            found = visit_attribute(&node->attributes[j], visit, user);
        }
    }
    return found;
}
