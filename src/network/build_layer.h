/*
 * build_layer.h - how the builder's layers (build_*.c) put nodes into a network.
 *
 * A layer is begun, given operators with inputs and attributes, and finished. The first failure
 * sticks: the calls after it do nothing, and the finish takes everything back and returns it. So a
 * layer reads as what it is, and a network never holds half of one.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef BUILD_LAYER_H
#define BUILD_LAYER_H

#include <kiln/layers.h>

#include "base/kln_base.h"
#include "onnx/kln_onnx.h"
#include "tensor/kln_tensor.h"

#define KLN_RANK_OPEN (-1)

/* Writes the network with the shapes of its outputs as they are inferred. OUT_OF_MEMORY, and as
 * kln_onnx_write_file. */
KILN_MUST_CHECK kiln_status kln_network_write(const kiln_network *network, const char *path,
                                              kln_onnx_weights weights);

/* What the builder itself knows of a tensor; inference knows more. */
typedef struct kln_built_tensor {
    const char *name;
    kiln_dtype dtype; /* UNDEFINED: not known */
    int32_t rank;     /* KLN_RANK_OPEN: not known */
} kln_built_tensor;

/* The id of a tensor holds the number of its graph, so that one of another branch is noticed. */
#define KLN_ID_BITS 22
#define KLN_ID_MASK ((INT32_C(1) << KLN_ID_BITS) - 1)
#define KLN_MAX_BRANCHES (INT32_C(1) << (31 - KLN_ID_BITS))

struct kiln_network {
    kln_onnx_model *model; /* the whole network's; branches share it */
    kln_onnx_graph *graph;
    kiln_network *root; /* itself, where it is no branch */
    kiln_network *parent;
    kiln_network *branches; /* of the root: all of them */
    kiln_network *next;
    int32_t number;       /* of the graph in the root */
    int32_t branch_count; /* in the root */
    kln_built_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    kln_names names;   /* in the root: every name in use, with the tensor's id or USED_NAME */
    kln_names imports; /* in the root: domains of operator sets, to their place in the model */
    size_t import_capacity;
    uint32_t unnamed;
    bool is_used; /* a branch that an If or Loop has taken */
};

#define KLN_LAYER_INPUTS 16
#define KLN_LAYER_ATTRIBUTES 16

typedef struct kln_layer {
    kiln_network *network;
    const char *function; /* as the caller knows it */
    const char *name;     /* in the arena once it is taken */
    kiln_status status;
    size_t node_mark, initializer_mark, tensor_mark, opset_mark;
    const char *op_type;
    const char *domain;
    const char *few[KLN_LAYER_INPUTS];
    const char **inputs; /* `few`, or the arena's */
    size_t input_count, input_capacity;
    kln_onnx_attribute attributes[KLN_LAYER_ATTRIBUTES];
    size_t attribute_count;
} kln_layer;

/* `name` may be NULL. */
void kln_layer_begin(kln_layer *layer, kiln_network *network, const char *function,
                     const char *name, const char *op_type);
/* Fails the layer unless something failed before. */
void kln_layer_fail(kln_layer *layer, kiln_status status, const char *format, ...) KLN_PRINTF(3, 4);
/* The check of a caller's argument: fails with the sentence unless `holds`. */
void kln_layer_need(kln_layer *layer, bool holds, const char *format, ...) KLN_PRINTF(3, 4);

/* What is known of a tensor; a zeroed one with an open rank for a wrong id, which fails. */
kln_built_tensor kln_layer_tensor(kln_layer *layer, kiln_tensor_id id);

/* What can be known of ranks and axes without inference: nothing fails where the rank is open. */
void kln_layer_rank(kln_layer *layer, kiln_tensor_id id, int32_t least, int32_t most);
void kln_layer_axis(kln_layer *layer, kiln_tensor_id id, int64_t axis);
/* Axes of a tensor of `rank`: in range, each one once. */
void kln_layer_axes(kln_layer *layer, int32_t rank, const int64_t *axes, size_t count);

void kln_layer_input(kln_layer *layer, kiln_tensor_id id);
void kln_layer_optional(kln_layer *layer, kiln_tensor_id id);
/* Inputs that are small constants: int64 or float32; a scalar where `is_scalar`. */
void kln_layer_input_ints(kln_layer *layer, const char *suffix, const int64_t *values, size_t count,
                          bool is_scalar);
void kln_layer_input_floats(kln_layer *layer, const char *suffix, const float *values, size_t count,
                            bool is_scalar);
/* A constant of one of the network's own tensors: `values` are copied. */
kiln_tensor_id kln_layer_constant(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                  const int64_t *dims, size_t rank, const void *values,
                                  size_t size);

/* A scalar of that type, which fails the layer where the type cannot hold the value; float32 where
 * the type is not known. */
kiln_tensor_id kln_layer_scalar(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                float value);

void kln_layer_int(kln_layer *layer, const char *name, int64_t value);
void kln_layer_float(kln_layer *layer, const char *name, float value);
void kln_layer_string(kln_layer *layer, const char *name, const char *value);
void kln_layer_ints(kln_layer *layer, const char *name, const int64_t *values, size_t count);
void kln_layer_floats(kln_layer *layer, const char *name, const float *values, size_t count);
void kln_layer_graph(kln_layer *layer, const char *name, kln_onnx_graph *graph);

/* Ends an operator in the middle of a layer of several; its output is "<layer>/<suffix>", or
 * "<layer>:1" for the suffix ":1". */
kiln_tensor_id kln_layer_emit(kln_layer *layer, const char *suffix, kiln_dtype dtype, int32_t rank);
/* Begins the next operator. */
void kln_layer_operator(kln_layer *layer, const char *op_type);
/* One operator of up to two inputs (KILN_NO_TENSOR: none) without attributes, emitted. */
kiln_tensor_id kln_layer_simple(kln_layer *layer, const char *suffix, const char *op_type,
                                kiln_tensor_id a, kiln_tensor_id b, kiln_dtype dtype, int32_t rank);

/* What an output is known to be. */
typedef struct kln_layer_output {
    kiln_tensor_id *id; /* where it goes; NULL: the output is left out */
    kiln_dtype dtype;
    int32_t rank;
} kln_layer_output;

/* Room for `count` of them, each of one type and rank, that go to `ids`; NULL failed the layer. */
kln_layer_output *kln_layer_outputs(kln_layer *layer, kiln_tensor_id *ids, size_t count,
                                    kiln_dtype dtype, int32_t rank);

/* Ends the last operator with outputs "<layer>", "<layer>:1" and so on; returns how it went. */
KILN_MUST_CHECK kiln_status kln_layer_finish(kln_layer *layer, const kln_layer_output *outputs,
                                             size_t count);
/* The usual one. */
KILN_MUST_CHECK kiln_status kln_layer_finish_one(kln_layer *layer, kiln_dtype dtype, int32_t rank,
                                                 kiln_tensor_id *output);

/* Registers a tensor under a name that lives in the arena. */
KILN_MUST_CHECK kiln_status kln_network_register(kiln_network *network, const char *name,
                                                 kiln_dtype dtype, int32_t rank,
                                                 kiln_tensor_id *id);
/* What is known of a tensor, or NULL when the id is not of this network. */
const kln_built_tensor *kln_network_tensor(const kiln_network *network, kiln_tensor_id id);
/* Imports an operator set; an older one of the same domain stays. */
KILN_MUST_CHECK kiln_status kln_network_import(kiln_network *network, const char *domain,
                                               int64_t version);
int64_t kln_network_opset_of(const kiln_network *network);

#endif
