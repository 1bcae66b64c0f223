/* SPDX-License-Identifier: Apache-2.0 */
/* How the builder's layers (build_*.c) add nodes to a network.
 *
 * A layer is opened, given operators with inputs and attributes, and closed. Each node is checked
 * against the operator table and inferred as it is added, so a layer checks only what the operators
 * do not. The first failure sticks: later calls do nothing, and the close removes everything that
 * the layer added and returns the failure. A layer therefore needs no error handling of its own,
 * and a network never holds half a layer.
 *
 * While issues are collected, a failure is kept in the network's list, and the outputs of the layer
 * are refused tensors, of which nothing is known. For a layer that reads one, only problems with
 * its attributes and values are reported. */
#ifndef BUILD_LAYER_H
#define BUILD_LAYER_H

#include <kiln/layers.h>

#include "kln_graph.h"
#include "tensor/kln_tensor.h"

#define KLN_RANK_OPEN (-1)

/* Writes the network with the inferred shapes of its outputs. OUT_OF_MEMORY, and as
 * kln_onnx_write_file. */
KILN_MUST_CHECK kiln_status kln_network_write(const kiln_network *network, const char *path,
                                              kln_onnx_weights weights);

typedef struct kln_built_tensor {
    const char *name;
    const kln_value *value; /* its inference; NULL until requested */
    uint32_t place;         /* probable index of `value` in the graph's inference */
    bool is_output;
    bool is_refused;
} kln_built_tensor;

/* What is known about a tensor. */
typedef struct kln_known {
    const char *name;
    kiln_dtype dtype; /* UNDEFINED: not known */
    int32_t rank;     /* KLN_RANK_OPEN: not known */
} kln_known;

/* The id of a tensor includes the number of its graph, so that a tensor of another branch is
 * detected. */
#define KLN_ID_BITS 22
#define KLN_ID_MASK ((INT32_C(1) << KLN_ID_BITS) - 1)
#define KLN_MAX_BRANCHES (INT32_C(1) << (31 - KLN_ID_BITS))

struct kiln_network {
    kln_onnx_model *model; /* of the whole network, shared by its branches */
    kln_onnx_graph *graph;
    kiln_network *root; /* itself, if it is not a branch */
    kiln_network *parent;
    kiln_network *branches; /* in the root: all branches */
    kiln_network *next;
    int32_t number;       /* of the graph in the root */
    int32_t branch_count; /* in the root */
    kln_built_tensor *tensors;
    size_t tensor_count, tensor_capacity;
    kln_names names;   /* in the root: every name in use, with the tensor's id or USED_NAME */
    kln_names imports; /* in the root: position in the model of each operator set's domain */
    size_t import_capacity;
    uint32_t unnamed;
    bool is_used;               /* a branch that is already in an If or Loop */
    bool collects;              /* in the root: collect issues instead of failing */
    kiln_issue_list *issues;    /* in the root: collected issues, or NULL */
    size_t refused_outputs;     /* refused tensors that were marked as outputs of this graph */
    kln_inference *inference;   /* in the root: NULL until requested */
    kln_graph_inference *known; /* the inference of this graph, or NULL */
    bool is_known;              /* nothing was added since the last update of `known` */
};

#define KLN_LAYER_INPUTS 16
#define KLN_LAYER_ATTRIBUTES 16

typedef struct kln_layer {
    kiln_network *network;
    const char *function; /* the public function, for sentences */
    const char *name;     /* in the arena once it is registered */
    uint32_t hash;        /* its kln_names_hash */
    kiln_status status;
    bool is_refused; /* it reads a refused tensor */
    bool is_marked;  /* `mark` is set */
    kln_infer_mark mark;
    size_t node_mark, initializer_mark, tensor_mark, opset_mark;
    const char *op_type;
    const char *domain;
    const char **inputs; /* `few`, or in the arena */
    size_t input_count, input_capacity;
    size_t attribute_count;
    const char *few[KLN_LAYER_INPUTS];
    uint32_t places[KLN_LAYER_INPUTS]; /* kln_built_tensor.place of each input */
    kln_onnx_attribute attributes[KLN_LAYER_ATTRIBUTES];
} kln_layer;

/* `name` may be NULL. */
void kln_layer_begin(kln_layer *layer, kiln_network *network, const char *function,
                     const char *name, const char *op_type);
/* Declares `layer` and begins it with its inputs. */
#define KLN_LAYER(layer, network, name, op_type, ...)                  \
    kln_layer layer;                                                   \
    kln_layer_begin(&(layer), (network), __func__, (name), (op_type)); \
    kln_layer_inputs(&(layer), __VA_ARGS__)
/* The same for one of several operators, selected by the caller's `kind` of that enumeration. */
#define KLN_NAMES(array) (array), KLN_ARRAY_LENGTH(array)
void kln_layer_begin_kind(kln_layer *layer, kiln_network *network, const char *function,
                          const char *name, const char *const *op_types, size_t count, size_t kind,
                          const char *enumeration);
/* The same for something that is not a node: an input, a constant. */
void kln_layer_open(kln_layer *layer, kiln_network *network, const char *function, const char *name,
                    const char *what);
/* Fails the layer, unless it has failed already. */
void kln_layer_fail(kln_layer *layer, kiln_status status, const char *format, ...) KLN_PRINTF(3, 4);
/* Checks a caller's argument: fails with the sentence unless `holds`. */
#define kln_layer_need(layer, holds, ...) ((holds) ? (void)0 : kln_layer_refuse(layer, __VA_ARGS__))
void kln_layer_refuse(kln_layer *layer, const char *format, ...) KLN_PRINTF(2, 3);

/* The tensor, with what is known of it. NULL for a wrong id, which fails the layer, and after a
 * failure. */
const kln_built_tensor *kln_layer_find(kln_layer *layer, kiln_tensor_id id);
/* What is known about a tensor; nothing for a wrong id. */
kln_known kln_layer_tensor(kln_layer *layer, kiln_tensor_id id);
/* The same for a layer that needs the rank. */
kln_known kln_layer_ranked(kln_layer *layer, kiln_tensor_id id, int32_t least, int32_t most);

void kln_layer_input(kln_layer *layer, kiln_tensor_id id);
void kln_layer_list(kln_layer *layer, const kiln_tensor_id *ids, size_t count);
#define kln_layer_inputs(layer, ...)                             \
    kln_layer_list(layer, (const kiln_tensor_id[]){__VA_ARGS__}, \
                   sizeof((const kiln_tensor_id[]){__VA_ARGS__}) / sizeof(kiln_tensor_id))
void kln_layer_optional(kln_layer *layer, kiln_tensor_id id);
/* Inputs that are small constants, int64 or float32; a scalar if `is_scalar`. */
void kln_layer_input_ints(kln_layer *layer, const char *suffix, const int64_t *values, size_t count,
                          bool is_scalar);
void kln_layer_input_floats(kln_layer *layer, const char *suffix, const float *values, size_t count,
                            bool is_scalar);
/* Weights as a model tensor without a name; checked, bytes not copied. */
kln_onnx_tensor kln_layer_weights(kln_layer *layer, const kiln_weights *weights);
/* A constant as one of the network's own tensors: `values` are copied. */
kiln_tensor_id kln_layer_constant(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                  const int64_t *dims, size_t rank, const void *values,
                                  size_t size);

/* A scalar of that type; float32 if the type is not known. Fails the layer if the type cannot hold
 * the value. */
kiln_tensor_id kln_layer_scalar(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                float value);

/* The network's arena, and the failure if it has no more memory. */
kln_arena *kln_layer_arena(kln_layer *layer);
void kln_layer_no_memory(kln_layer *layer);
/* A copy in the arena; NULL if the layer has failed. */
void *kln_layer_copy(kln_layer *layer, const void *values, size_t size);

/* Attributes. The name is a literal or in the arena; values are copied. */
void kln_layer_int(kln_layer *layer, const char *name, int64_t value);
void kln_layer_dtype(kln_layer *layer, const char *name, kiln_dtype dtype);
void kln_layer_float(kln_layer *layer, const char *name, float value);
void kln_layer_string(kln_layer *layer, const char *name, const char *value);
/* One of several texts, selected by the caller's `argument` of that enumeration. */
void kln_layer_choice(kln_layer *layer, const char *name, const char *argument,
                      const char *const *texts, size_t count, size_t chosen,
                      const char *enumeration);
void kln_layer_ints(kln_layer *layer, const char *name, const int64_t *values, size_t count);
void kln_layer_floats(kln_layer *layer, const char *name, const float *values, size_t count);
void kln_layer_strings(kln_layer *layer, const char *name, const char *const *values, size_t count);
/* The bytes are not copied. */
void kln_layer_tensor_attribute(kln_layer *layer, const char *name, const kiln_weights *weights);
void kln_layer_graph(kln_layer *layer, const char *name, kln_onnx_graph *graph);

/* Ends an operator inside a layer of several; its output is "<layer>/<suffix>", or "<layer>:1" for
 * the suffix ":1". */
kiln_tensor_id kln_layer_emit(kln_layer *layer, const char *suffix);
/* Begins the next operator, with its inputs. */
void kln_layer_operator(kln_layer *layer, const char *op_type);
#define kln_layer_node(layer, op_type, ...)     \
    do {                                        \
        kln_layer_operator((layer), (op_type)); \
        kln_layer_inputs((layer), __VA_ARGS__); \
    } while (0)
/* Adds an operator of up to two inputs (KILN_NO_TENSOR: none) without attributes. */
kiln_tensor_id kln_layer_simple(kln_layer *layer, const char *suffix, const char *op_type,
                                kiln_tensor_id a, kiln_tensor_id b);

/* Ends the last operator with outputs "<layer>", "<layer>:1" and so on, which are stored where
 * `outputs` point (NULL: omit that output); returns the status of the layer. */
KILN_MUST_CHECK kiln_status kln_layer_finish(kln_layer *layer, kiln_tensor_id *const *outputs,
                                             size_t count);
/* The same with outputs in an array. */
KILN_MUST_CHECK kiln_status kln_layer_finish_all(kln_layer *layer, kiln_tensor_id *outputs,
                                                 size_t count);
/* The same with one output, the usual case. */
KILN_MUST_CHECK kiln_status kln_layer_finish_one(kln_layer *layer, kiln_tensor_id *output);
/* For a layer without a node: registers its name as a tensor, unless the layer has failed. */
KILN_MUST_CHECK kiln_status kln_layer_close(kln_layer *layer, kiln_tensor_id *output);

/* Makes room for one more tensor. OUT_OF_MEMORY, LIMIT. */
KILN_MUST_CHECK kiln_status kln_network_room(kiln_network *network);
/* Registers a tensor under a name in the arena with this hash (kln_names_hash). */
KILN_MUST_CHECK kiln_status kln_network_register(kiln_network *network, const char *name,
                                                 uint32_t hash, bool is_refused,
                                                 kiln_tensor_id *id);
/* The tensor, or NULL if the id is not of this network. */
kln_built_tensor *kln_network_tensor(const kiln_network *network, kiln_tensor_id id);
/* Imports an operator set; an older one of the same domain stays. */
KILN_MUST_CHECK kiln_status kln_network_import(kiln_network *network, const char *domain,
                                               int64_t version);
int64_t kln_network_opset_of(const kiln_network *network);

/* --- inference of a growing network (build_known.c) --- */

/* Updates the inference of the network and of those that enclose it. */
KILN_MUST_CHECK kiln_status kln_network_know(kiln_network *network);
/* What is known about a tensor; NULL if inference does not know its name. */
KILN_MUST_CHECK kiln_status kln_network_value(kiln_network *network, kiln_tensor_id id,
                                              const kln_value **value);
/* Discards the whole inference, because an existing part of the network has changed. */
void kln_network_forget(kiln_network *network);
kln_known kln_known_of(const char *name, const kln_value *value);

/* --- collected issues (build_issues.c) --- */

/* The status of a call that has an issue of this kind. */
kiln_status kln_issue_status(kiln_issue_kind kind);
/* Whether it is an error about the operator itself: its name, inputs, outputs, attributes. */
bool kln_issue_is_of_operator(const kiln_issue *issue);
/* Whether a failure of the network's calls is collected instead of returned. */
bool kln_network_collects(const kiln_network *network, kiln_status status);
/* Collects the thread's last sentence as an issue about `node` and `tensor`, if such failures are
 * collected; otherwise returns `status`. */
KILN_MUST_CHECK kiln_status kln_network_refuse(kiln_network *network, kiln_status status,
                                               const char *node, const char *tensor);

#endif
