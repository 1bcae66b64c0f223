/*
 * inspect.h - what a network is, without building it: for a tool that shows or lists models.
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
 * No backend is asked, so none need be installed. Types and shapes are inferred, as far as they
 * can be; kiln_check_file says what is wrong with a model. Every string is the inspection's or the
 * network's, which must stay as it is until the inspection is destroyed. Reading an inspection is
 * for any number of threads at a time.
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
    size_t input_count; /* initializers that are inputs too are not among them */
    size_t output_count;
    size_t node_count; /* of the main graph and of those inside nodes; local functions' bodies are
                          not among them */
    size_t initializer_count; /* of the same graphs, sparse ones too */
    uint64_t initializer_bytes;
    size_t function_count; /* local functions */
    size_t opset_count;
    size_t metadata_count;
} kiln_inspection_info;

/* An operator set that the model imports. */
typedef struct kiln_inspection_opset {
    size_t struct_size; /* sizeof(kiln_inspection_opset), set by the caller */
    const char *domain; /* "ai.onnx" for ONNX's own */
    int64_t version;
} kiln_inspection_opset;

typedef struct kiln_inspection_node {
    size_t struct_size; /* sizeof(kiln_inspection_node), set by the caller */
    const char *name;   /* "" where the model gives none */
    const char *domain; /* "" for ONNX's own */
    const char *operator_type;
    const char *graph; /* "" in the main graph, else the attribute of the node around it that
                          holds its graph: "then_branch" */
    size_t depth;      /* graphs around it: 0 in the main graph */
    size_t input_count;
    size_t output_count;
    const char *const *inputs; /* names; "" for one that is left out */
    const char *const *outputs;
    const char *const *input_types; /* "float32[batch,3,224,224]"; "?" for what is not known, "" for
                                       one that is left out */
    const char *const *output_types;
} kiln_inspection_node;

/* Infers the whole network, once. Without `with_nodes`, kiln_inspection_get_node has none to give,
 * though they are counted. Errors: NULL_ARGUMENT; STATE for a branch; LIMIT (nesting);
 * OUT_OF_MEMORY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_network_inspect(const kiln_network *network,
                                                          bool with_nodes,
                                                          kiln_inspection **inspection);

/* The same for a file, whose network is the inspection's own. External files of weights that are
 * missing, or too short, are no failure: kiln_inspection_issues names them, and everything else is
 * shown. Errors: also those of kiln_network_from_onnx. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspect_file(const char *path, bool with_nodes,
                                                       kiln_inspection **inspection);

/* What of a file could not be read, one issue for each external file: its tensor is the first of
 * the weights that lie there, `found` the file as the model names it. NULL where nothing is
 * missing. The inspection's. Since 0.1. */
KILN_API const kiln_issue_list *kiln_inspection_issues(const kiln_inspection *inspection);

/* NULL is allowed. Since 0.1. */
KILN_API void kiln_inspection_destroy(kiln_inspection *inspection);

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_summary(const kiln_inspection *inspection,
                                                             kiln_inspection_info *info);

/* Each of these gives item `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end or
 * for a struct_size that is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_input(const kiln_inspection *inspection,
                                                               size_t index, kiln_binding *input);
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_output(const kiln_inspection *inspection,
                                                                size_t index, kiln_binding *output);
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_opset(const kiln_inspection *inspection,
                                                               size_t index,
                                                               kiln_inspection_opset *opset);

/* As kiln_engine_metadata, but for "opset". Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_metadata(const kiln_inspection *inspection,
                                                                  size_t index,
                                                                  kiln_metadata *metadata);

/* A node, in the model's order; those inside it follow it. STATE where the inspection was made
 * without nodes. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_inspection_get_node(const kiln_inspection *inspection,
                                                              size_t index,
                                                              kiln_inspection_node *node);

#ifdef __cplusplus
}
#endif

#endif
