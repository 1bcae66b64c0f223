/*
 * inspect.h - inspecting a network without building it, for tools that show or list models.
 *
 *     kiln_network *network = NULL;
 *     kiln_inspection *inspection = NULL;
 *     kiln_inspection_info info = {.struct_size = sizeof info};
 *     if (kiln_network_from_onnx("model.onnx", &network) == KILN_OK &&
 *         kiln_network_inspect(network, true, &inspection) == KILN_OK &&
 *         kiln_inspection_summary(inspection, &info) == KILN_OK) {
 *         for (size_t i = 0; i < info.node_count; i++) {
 *             kiln_inspection_node node = {.struct_size = sizeof node};
 *             status = kiln_inspection_get_node(inspection, i, &node);
 *         }
 *     }
 *     kiln_inspection_destroy(inspection);
 *     kiln_network_destroy(network);
 *
 * No backend is used, so none need be installed. Types and shapes are inferred as far as possible;
 * kiln_check_file reports what is wrong with a model. Strings are owned by the inspection or the
 * network, which must stay unchanged until the inspection is destroyed. Any number of threads may
 * read an inspection at the same time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_INSPECT_H
#define KILN_INSPECT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/issues.h>
#include <kiln/network.h>
#include <kiln/status.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_inspection kiln_inspection;

typedef struct kiln_inspection_info {
    size_t struct_size; /* sizeof(kiln_inspection_info), set by the caller */
    int64_t ir_version;
    size_t input_count; /* without initializers that are inputs too */
    size_t output_count;
    size_t node_count; /* nodes of the main graph and its subgraphs, without the bodies of local
                          functions */
    size_t initializer_count; /* of the same graphs, sparse ones included */
    uint64_t initializer_bytes;
    size_t function_count; /* local functions */
    size_t opset_count;
    size_t metadata_count;
} kiln_inspection_info;

/* An operator set that the model imports. */
typedef struct kiln_inspection_opset {
    size_t struct_size; /* sizeof(kiln_inspection_opset), set by the caller */
    const char *domain; /* "ai.onnx" for ONNX's standard operators */
    int64_t version;
} kiln_inspection_opset;

typedef struct kiln_inspection_node {
    size_t struct_size; /* sizeof(kiln_inspection_node), set by the caller */
    const char *name;   /* "" if the model has none */
    const char *domain; /* "" for ONNX's standard operators */
    const char *operator_type;
    const char *graph; /* "" in the main graph, otherwise the attribute of the enclosing node that
                          holds the subgraph: "then_branch" */
    size_t depth;      /* number of enclosing graphs: 0 in the main graph */
    size_t input_count;
    size_t output_count;
    const char *const *inputs; /* names; "" for an omitted one */
    const char *const *outputs;
    const char *const *input_types; /* "float32[batch,3,224,224]"; "?" for what is not known, "" for
                                       an omitted one */
    const char *const *output_types;
} kiln_inspection_node;

/* Inspects a network: infers all of it, once. Without `with_nodes`, nodes are counted, but
 * kiln_inspection_get_node cannot give them. Errors: NULL_ARGUMENT; STATE for a branch; LIMIT
 * (nesting); OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_inspect(const kiln_network *network,
                                                          bool with_nodes,
                                                          kiln_inspection **inspection);

/* Inspects a file, whose network the inspection owns. Missing or truncated external weight files
 * are not an error: kiln_inspection_issues names them, and everything else is shown. Errors: also
 * those of kiln_network_from_onnx. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspect_file(const char *path, bool with_nodes,
                                                       kiln_inspection **inspection);

/* The parts of a file that could not be read: one issue for each external file. Its tensor is the
 * first of the weights in that file, and `found` is the file as the model names it. NULL if nothing
 * is missing. Owned by the inspection. Since 0.1. */
KILN_API const kiln_issue_list *kiln_inspection_issues(const kiln_inspection *inspection);

/* Destroys an inspection. NULL is allowed. Since 0.1. */
KILN_API void kiln_inspection_destroy(kiln_inspection *inspection);

/* Gives the summary. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_summary(const kiln_inspection *inspection,
                                                             kiln_inspection_info *info);

/* Each of these gives item `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if `index` is
 * past the end or struct_size is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_input(const kiln_inspection *inspection,
                                                               size_t index, kiln_binding *input);
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_output(const kiln_inspection *inspection,
                                                                size_t index, kiln_binding *output);
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_opset(const kiln_inspection *inspection,
                                                               size_t index,
                                                               kiln_inspection_opset *opset);

/* Like kiln_engine_metadata, without "opset". Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_metadata(const kiln_inspection *inspection,
                                                                  size_t index,
                                                                  kiln_metadata *metadata);

/* Gives a node, in the model's order; nodes inside it follow it. STATE if the inspection was made
 * without nodes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_node(const kiln_inspection *inspection,
                                                              size_t index,
                                                              kiln_inspection_node *node);

#ifdef __cplusplus
}
#endif

#endif
