/* SPDX-License-Identifier: Apache-2.0 */
/* Queries on a model, for the code that checks, infers or rewrites it. (onnx_look.c) */
#ifndef KLN_LOOK_H
#define KLN_LOOK_H

#include "kln_onnx.h"

/* The IR version that introduced a version of ONNX's own operator set. */
int64_t kln_onnx_ir_of_opset(int64_t opset);

/* Whether the attribute has that text. NULL, which has none, is allowed. */
bool kln_onnx_attribute_is(const kln_onnx_attribute *attribute, const char *text);
/* The graphs in an attribute, one or a list; returns their number. */
size_t kln_onnx_graphs_of(const kln_onnx_attribute *attribute,
                          struct kln_onnx_graph *const **graphs);
/* Whether an attribute of the node has a graph. */
static inline bool kln_onnx_holds_graphs(const kln_onnx_node *node)
{
    for (size_t i = 0; i < node->attribute_count; i++) {
        const kln_onnx_attribute_type type = node->attributes[i].type;
        if (type == KLN_ONNX_ATTRIBUTE_GRAPH || type == KLN_ONNX_ATTRIBUTE_GRAPHS) {
            return true;
        }
    }
    return false;
}

/* The input, output or initializer of that name in a short list, or NULL; for long ones use
 * kln_names. */
kln_onnx_value *kln_onnx_find_value(kln_onnx_value *values, size_t count, const char *name);
const kln_onnx_tensor *kln_onnx_find_initializer(const kln_onnx_graph *graph, const char *name);

/* Whether `node` is one of several operators of ONNX's own domain, in a NULL-terminated list. */
bool kln_onnx_node_is_among(const kln_onnx_node *node, const char *const *ops);
#define KLN_ONNX_NODE_IS_ANY(node, ...) \
    kln_onnx_node_is_among(node, (const char *const[]){__VA_ARGS__, NULL})

/* Bytes of a dense tensor of these dims. False: a dimension is negative, or the product exceeds a
 * size_t. (onnx_read_tensor.c) */
bool kln_onnx_tensor_bytes(const kln_onnx_tensor *tensor, unsigned bits, size_t *bytes);

/* A node of ONNX's own domain with these names and room for this many attributes, named after its
 * first output. The texts must live as long as the arena. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_make_node(kln_arena *arena, const char *op,
                                               const char *const *inputs, size_t input_count,
                                               const char *const *outputs, size_t output_count,
                                               size_t attributes, kln_onnx_node *node);

/* Makes the model import the operator set, at this version unless it already does. The list is
 * copied. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_onnx_import(kln_onnx_model *model, const char *domain,
                                            int64_t version);

#endif
