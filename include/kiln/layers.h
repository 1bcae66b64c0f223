/*
 * layers.h - the layers that a network can be built of, and any operator by name.
 *
 * Each family has a header of its own; this one includes them all.
 *
 * <kiln/network.h> has what holds for every layer: names, failures, the lifetime of weights,
 * threads.
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

/* --- any operator by name --- */

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

/* One attribute; of the values only the one that `kind` says counts. */
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
    size_t count;               /* of ints, floats or strings */
    const kiln_weights *tensor; /* the bytes it points at are not copied, as those of weights */
    kiln_network *graph;        /* of kiln_network_create_branch; it takes no layer any more */
} kiln_attribute;

#define KILN_ATTRIBUTE(...) KILN_INIT_OF_(kiln_attribute, __VA_ARGS__)
#define KILN_ATTRIBUTE_INIT KILN_INIT_(kiln_attribute)

/* Any operator: one of ONNX, whether it has a layer here or not, a TensorRT plugin, a custom one of
 * ONNX Runtime. `op_type` is its name, as "Trilu". `domain` NULL or "" is ONNX's own; another one
 * is imported with `version` (0: 1), which counts for nothing else. An input may be
 * KILN_NO_TENSOR; all `output_count` outputs are there. Names, inputs and attributes are copied.
 *
 * What ONNX has is checked and inferred as every layer is: INVALID_ARGUMENT for the number of
 * inputs or outputs, an attribute that is missing, unknown or of another kind, or a value; DTYPE,
 * RANK, SHAPE; UNSUPPORTED where the operator set does not have it yet. Of an operator that ONNX
 * does not have nothing is known here; whether the backend has it shows when the network is
 * validated for it. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_network_add_node(kiln_network *network, const char *name, const char *domain, int32_t version,
                      const char *op_type, const kiln_tensor_id *inputs, size_t input_count,
                      const kiln_attribute *attributes, size_t attribute_count,
                      kiln_tensor_id *outputs, size_t output_count);

#ifdef __cplusplus
}
#endif

#endif
