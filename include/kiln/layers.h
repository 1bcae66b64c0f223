/*
 * layers.h - all layers that a network can be built from, and any operator by name.
 *
 * Each family of layers has a header of its own; this one includes them all. <kiln/network.h> has
 * the rules for every layer: names, errors, the lifetime of weights, threads.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_LAYERS_H
#define KILN_LAYERS_H

#include <kiln/layers_attention.h>
#include <kiln/layers_control.h>
#include <kiln/layers_math.h>
#include <kiln/layers_shape.h>
#include <kiln/layers_spatial.h>
#include <kiln/network.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- operators by name --- */

typedef enum kiln_attribute_kind {
    KILN_ATTRIBUTE_INT = 0,
    KILN_ATTRIBUTE_FLOAT = 1,
    KILN_ATTRIBUTE_STRING = 2,
    KILN_ATTRIBUTE_INTS = 3,
    KILN_ATTRIBUTE_FLOATS = 4,
    KILN_ATTRIBUTE_STRINGS = 5,
    KILN_ATTRIBUTE_TENSOR = 6,
    KILN_ATTRIBUTE_GRAPH = 7
} kiln_attribute_kind;

/* An attribute of an operator. Only the value selected by `kind` is used. */
typedef struct kiln_attribute {
    size_t struct_size; /* set by KILN_ATTRIBUTE_INIT */
    const char *name;
    kiln_attribute_kind kind;
    int64_t i;
    float f;
    const char *s;
    const int64_t *ints;
    const float *floats;
    const char *const *strings;
    size_t count;               /* number of ints, floats or strings */
    const kiln_weights *tensor; /* its bytes are not copied, like those of all weights */
    kiln_network *graph; /* from kiln_network_create_branch; accepts no more layers afterwards */
} kiln_attribute;

#define KILN_ATTRIBUTE(...) KILN_INIT_OF_(kiln_attribute, __VA_ARGS__)
#define KILN_ATTRIBUTE_INIT KILN_INIT_(kiln_attribute)

/* Adds any operator: of ONNX, whether or not it has a layer here, a TensorRT plugin, or a custom
 * operator of ONNX Runtime. `op_type` is its name, such as "Trilu". `domain` NULL or "" is ONNX's
 * own; another domain is imported with `version` (0: 1), which is used for nothing else. An input
 * may be KILN_NO_TENSOR; all `output_count` outputs exist. Names, inputs and attributes are copied.
 *
 * ONNX's operators are checked and inferred like every layer. Errors: INVALID_ARGUMENT for a wrong
 * number of inputs or outputs, a missing or unknown attribute, one of the wrong kind, or an invalid
 * value; DTYPE, RANK, SHAPE; UNSUPPORTED if the operator set does not have the operator yet. Other
 * operators are not known here; validating the network for a backend shows whether that backend has
 * them. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_node(kiln_network *network, const char *name, const char *domain, int32_t version,
                      const char *op_type, const kiln_tensor_id *inputs, size_t input_count,
                      const kiln_attribute *attributes, size_t attribute_count,
                      kiln_tensor_id *outputs, size_t output_count);

#ifdef __cplusplus
}
#endif

#endif
