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

/* Writes the network with the shapes of its outputs as they are inferred. OUT_OF_MEMORY, and as
 * kln_onnx_write_file. */
KILN_MUST_CHECK kiln_status kln_network_write(const kiln_network *network, const char *path,
                                              kln_onnx_weights weights);

typedef struct kln_built_tensor {
    const char *name;
    const kln_value *value; /* what is inferred of it; NULL until somebody asks */
    uint32_t place;         /* of `value` in the graph's part of the inference, probably */
    bool is_output;
    bool is_refused;
} kln_built_tensor;

/* What is known of a tensor. */
typedef struct kln_known {
    const char *name;
    kiln_dtype dtype; /* UNDEFINED: not known */
    int32_t rank;     /* KLN_RANK_OPEN: not known */
} kln_known;

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
    bool is_used;               /* a branch that an If or Loop has taken */
    bool collects;              /* in the root: issues, instead of failing */
    kiln_issue_list *issues;    /* in the root: those collected, or NULL */
    size_t refused_outputs;     /* refused tensors that were to be outputs of this graph */
    kln_inference *inference;   /* in the root: NULL until somebody asks */
    kln_graph_inference *known; /* this graph's part of it, or NULL */
    bool is_known;              /* nothing was added since that was brought up to date */
};

#define KLN_LAYER_INPUTS 16
#define KLN_LAYER_ATTRIBUTES 16

typedef struct kln_layer {
    kiln_network *network;
    const char *function; /* as the caller knows it */
    const char *name;     /* in the arena once it is taken */
    uint32_t hash;        /* its kln_names_hash */
    kiln_status status;
    bool is_refused; /* it reads a refused tensor */
    bool is_marked;  /* `mark` is set */
    kln_infer_mark mark;
    size_t node_mark, initializer_mark, tensor_mark, opset_mark;
    const char *op_type;
    const char *domain;
    const char **inputs; /* `few`, or the arena's */
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
/* The same for one of several operators, chosen by the caller's `kind` of that enumeration. */
#define KLN_NAMES(array) (array), KLN_ARRAY_LENGTH(array)
void kln_layer_begin_kind(kln_layer *layer, kiln_network *network, const char *function,
                          const char *name, const char *const *op_types, size_t count, size_t kind,
                          const char *enumeration);
/* The same for what is no node: an input, a constant. */
void kln_layer_open(kln_layer *layer, kiln_network *network, const char *function, const char *name,
                    const char *what);
/* Fails the layer unless something failed before. */
void kln_layer_fail(kln_layer *layer, kiln_status status, const char *format, ...) KLN_PRINTF(3, 4);
/* The check of a caller's argument: fails with the sentence unless `holds`. */
#define kln_layer_need(layer, holds, ...) ((holds) ? (void)0 : kln_layer_refuse(layer, __VA_ARGS__))
void kln_layer_refuse(kln_layer *layer, const char *format, ...) KLN_PRINTF(2, 3);

/* The tensor, with what is known of it; NULL for a wrong id, which fails, and after a failure. */
const kln_built_tensor *kln_layer_find(kln_layer *layer, kiln_tensor_id id);
/* What is known of a tensor; nothing for a wrong id. */
kln_known kln_layer_tensor(kln_layer *layer, kiln_tensor_id id);
/* The same where the layer cannot do without the rank. */
kln_known kln_layer_ranked(kln_layer *layer, kiln_tensor_id id, int32_t least, int32_t most);

void kln_layer_input(kln_layer *layer, kiln_tensor_id id);
void kln_layer_list(kln_layer *layer, const kiln_tensor_id *ids, size_t count);
#define kln_layer_inputs(layer, ...)                             \
    kln_layer_list(layer, (const kiln_tensor_id[]){__VA_ARGS__}, \
                   sizeof((const kiln_tensor_id[]){__VA_ARGS__}) / sizeof(kiln_tensor_id))
void kln_layer_optional(kln_layer *layer, kiln_tensor_id id);
/* Inputs that are small constants: int64 or float32; a scalar where `is_scalar`. */
void kln_layer_input_ints(kln_layer *layer, const char *suffix, const int64_t *values, size_t count,
                          bool is_scalar);
void kln_layer_input_floats(kln_layer *layer, const char *suffix, const float *values, size_t count,
                            bool is_scalar);
/* Weights as they stand in a model, without a name; checked, their bytes not copied. */
kln_onnx_tensor kln_layer_weights(kln_layer *layer, const kiln_weights *weights);
/* A constant of one of the network's own tensors: `values` are copied. */
kiln_tensor_id kln_layer_constant(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                  const int64_t *dims, size_t rank, const void *values,
                                  size_t size);

/* A scalar of that type, which fails the layer where the type cannot hold the value; float32 where
 * the type is not known. */
kiln_tensor_id kln_layer_scalar(kln_layer *layer, const char *suffix, kiln_dtype dtype,
                                float value);

/* The network's arena, and what is said where it has no more. */
kln_arena *kln_layer_arena(kln_layer *layer);
void kln_layer_no_memory(kln_layer *layer);
/* A copy in the arena; NULL failed the layer. */
void *kln_layer_copy(kln_layer *layer, const void *values, size_t size);

/* Attributes. The name is a literal or in the arena; values are copied. */
void kln_layer_int(kln_layer *layer, const char *name, int64_t value);
void kln_layer_dtype(kln_layer *layer, const char *name, kiln_dtype dtype);
void kln_layer_float(kln_layer *layer, const char *name, float value);
void kln_layer_string(kln_layer *layer, const char *name, const char *value);
/* One of several texts, chosen by the caller's `argument` of that enumeration. */
void kln_layer_choice(kln_layer *layer, const char *name, const char *argument,
                      const char *const *texts, size_t count, size_t chosen,
                      const char *enumeration);
void kln_layer_ints(kln_layer *layer, const char *name, const int64_t *values, size_t count);
void kln_layer_floats(kln_layer *layer, const char *name, const float *values, size_t count);
void kln_layer_strings(kln_layer *layer, const char *name, const char *const *values, size_t count);
/* The bytes are not copied. */
void kln_layer_tensor_attribute(kln_layer *layer, const char *name, const kiln_weights *weights);
void kln_layer_graph(kln_layer *layer, const char *name, kln_onnx_graph *graph);

/* Ends an operator in the middle of a layer of several; its output is "<layer>/<suffix>", or
 * "<layer>:1" for the suffix ":1". */
kiln_tensor_id kln_layer_emit(kln_layer *layer, const char *suffix);
/* Begins the next operator; with its inputs. */
void kln_layer_operator(kln_layer *layer, const char *op_type);
#define kln_layer_node(layer, op_type, ...)     \
    do {                                        \
        kln_layer_operator((layer), (op_type)); \
        kln_layer_inputs((layer), __VA_ARGS__); \
    } while (0)
/* One operator of up to two inputs (KILN_NO_TENSOR: none) without attributes, emitted. */
kiln_tensor_id kln_layer_simple(kln_layer *layer, const char *suffix, const char *op_type,
                                kiln_tensor_id a, kiln_tensor_id b);

/* Ends the last operator with outputs "<layer>", "<layer>:1" and so on, which go where `outputs`
 * point (NULL: that output is left out); returns how it went. */
KILN_MUST_CHECK kiln_status kln_layer_finish(kln_layer *layer, kiln_tensor_id *const *outputs,
                                             size_t count);
/* The same with outputs that lie one after the other. */
KILN_MUST_CHECK kiln_status kln_layer_finish_all(kln_layer *layer, kiln_tensor_id *outputs,
                                                 size_t count);
/* The usual one. */
KILN_MUST_CHECK kiln_status kln_layer_finish_one(kln_layer *layer, kiln_tensor_id *output);
/* Of a layer without a node: registers its name as a tensor, unless something failed. */
KILN_MUST_CHECK kiln_status kln_layer_close(kln_layer *layer, kiln_tensor_id *output);

/* Makes room for one more tensor. OUT_OF_MEMORY, LIMIT. */
KILN_MUST_CHECK kiln_status kln_network_room(kiln_network *network);
/* Registers a tensor under a name that lives in the arena, and has this hash (kln_names_hash). */
KILN_MUST_CHECK kiln_status kln_network_register(kiln_network *network, const char *name,
                                                 uint32_t hash, bool is_refused,
                                                 kiln_tensor_id *id);
/* The tensor, or NULL when the id is not of this network. */
kln_built_tensor *kln_network_tensor(const kiln_network *network, kiln_tensor_id id);
/* Imports an operator set; an older one of the same domain stays. */
KILN_MUST_CHECK kiln_status kln_network_import(kiln_network *network, const char *domain,
                                               int64_t version);
int64_t kln_network_opset_of(const kiln_network *network);

/* --- inference as the network grows (build_known.c) --- */

/* Brings what is inferred of the network and those around it up to date. */
KILN_MUST_CHECK kiln_status kln_network_know(kiln_network *network);
/* What is known of a tensor; NULL where inference does not know its name. */
KILN_MUST_CHECK kiln_status kln_network_value(kiln_network *network, kiln_tensor_id id,
                                              const kln_value **value);
/* Drops all that is inferred: something changed that was there before. */
void kln_network_forget(kiln_network *network);
kln_known kln_known_of(const char *name, const kln_value *value);

/* --- collected issues (build_issues.c) --- */

/* The status that a call gives for an issue of this kind. */
kiln_status kln_issue_status(kiln_issue_kind kind);
/* Whether it is an error about what the operator is: its name, inputs, outputs, attributes. */
bool kln_issue_is_of_operator(const kiln_issue *issue);
/* Whether a failure of the network's calls is collected instead of returned. */
bool kln_network_collects(const kiln_network *network, kiln_status status);
/* Collects the thread's last message as an issue about `node` and `tensor` where such failures are
 * collected; else returns `status`. */
KILN_MUST_CHECK kiln_status kln_network_refuse(kiln_network *network, kiln_status status,
                                               const char *node, const char *tensor);

#endif
