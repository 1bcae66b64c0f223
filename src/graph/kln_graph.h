/* SPDX-License-Identifier: Apache-2.0 */
/* Networks: the model behind them, rewriting it, and finding problems in it. The builder and the
 * passes of this module are based on the operators (kln_ops.h). */
#ifndef KLN_GRAPH_H
#define KLN_GRAPH_H

#include <kiln/engine.h>
#include <kiln/network.h>

#include "onnx/kln_look.h"
#include "ops/kln_ops.h"

KLN_SCOPED_POINTER(kiln_network, kiln_network_destroy)

/* The model of a network (build_network.c). STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_model(const kiln_network *network,
                                              const kln_onnx_model **model);

/* The same, to be changed temporarily and restored. STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_edit(kiln_network *network, kln_onnx_model **model);

/* Bracket a permanent change of the network's model: the first discards what was inferred, the
 * second registers the new names. STATE for a branch, or a network that has one. */
KILN_MUST_CHECK kiln_status kln_network_rewrite(kiln_network *network, kln_onnx_model **model);
KILN_MUST_CHECK kiln_status kln_network_rewritten(kiln_network *network);

/* Makes a copy of the network, to be changed in its place; then replaces the network by the copy,
 * which cannot fail and consumes `changed`. As kln_network_rewrite; OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_network_fork(kiln_network *network, kiln_network **changed);
void kln_network_take(kiln_network *network, kiln_network *changed);

/* INVALID_NETWORK if calls of the builder were refused and their issues collected; otherwise
 * KILN_OK. (build_issues.c) */
KILN_MUST_CHECK kiln_status kln_network_whole(const kiln_network *network);
/* Puts the issues that the builder collected before those of the validation, and removes issues
 * that only follow from them. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_network_issues(const kiln_network *network,
                                               kiln_issue_list **issues);

/* The model's metadata, as kiln_engine_metadata gives it but without "opset"; in `arena`, with room
 * for one more entry. OUT_OF_MEMORY. (inspect_network.c) */
#define KLN_MODEL_METADATA_MORE 6
KILN_MUST_CHECK kiln_status kln_model_metadata(const kln_onnx_model *model, kln_arena *arena,
                                               kiln_metadata **lines, size_t *count);

/* Sets the missing `quantization` of the bindings, by name, if the adjacent nodes of the main graph
 * determine it: QuantizeLinear and DequantizeLinear, and QLinearConv and QLinearMatMul. A binding
 * of floats that other nodes read as well is not quantized. Scales are in `arena`. OUT_OF_MEMORY.
 * (binding_quantization.c) */
KILN_MUST_CHECK kiln_status kln_graph_read_quantization(const kln_onnx_graph *graph,
                                                        kln_arena *arena, kiln_binding *bindings,
                                                        size_t count);

/* --- querying a graph (graph_edit.c) --- */

/* The inference of a graph in an attribute of the node. NULL if there is none, or `known` is
 * NULL. */
const kln_graph_inference *kln_inference_inside(const kln_node_inference *known,
                                                const kln_onnx_graph *graph);

/* Indexes by the name of a tensor. */
typedef struct kln_graph_index {
    const kln_onnx_graph *graph;
    kln_names constants; /* initializers that no caller may replace */
    kln_names readers;   /* number of node inputs and graph outputs that read it */
    kln_names producers; /* the node that produces it */
    kln_names consumers; /* the last node that reads it */
} kln_graph_index;

/* Call kln_graph_index_finish afterwards, on an error too. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_graph_index_make(const kln_onnx_graph *graph,
                                                 kln_graph_index *index);
void kln_graph_index_finish(kln_graph_index *index);
/* The constant of that name; NULL: none. */
const kln_onnx_tensor *kln_graph_index_constant(const kln_graph_index *index, const char *name);
/* The node of that name in one of the index's maps of nodes; NULL: none. */
const kln_onnx_node *kln_graph_index_node(const kln_graph_index *index, const kln_names *list,
                                          const char *name);

/* Whether an operator of ONNX's own domain is among the graph's own nodes. */
bool kln_graph_has(const kln_onnx_graph *graph, const char *op);

/* --- rewriting (graph_edit.c) --- */

/* A change of a model's main graph: nodes are marked as dropped and others are added.
 * kln_graph_edit_commit makes all of the change, or none of it. Additions are in the model's
 * arena. */
typedef struct kln_graph_edit {
    kln_onnx_model *model;
    kln_onnx_graph *graph; /* unchanged until the commit, and so is its index */
    kln_graph_index index;
    bool *dropped;                        /* for each node */
    struct kln_graph_addition *additions; /* new nodes, by position */
    size_t addition_count, addition_capacity;
    kln_onnx_tensor **weights; /* new initializers */
    size_t weight_count, weight_capacity;
    const char *domain; /* to be imported, or NULL */
    int64_t domain_version;
} kln_graph_edit;

/* Whether a rewriting pass can handle the model: it has nodes, and no subgraphs, which could refer
 * to names of this graph. */
bool kln_graph_edit_suits(const kln_onnx_model *model);
/* Call kln_graph_edit_end afterwards, on an error too. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_graph_edit_begin(kln_onnx_model *model, kln_graph_edit *edit);
/* Without a commit, the model is unchanged. */
void kln_graph_edit_end(kln_graph_edit *edit);

/* The constant of that name and rank, with elements of whole bytes that are in memory; or NULL. */
const kln_onnx_tensor *kln_graph_edit_constant(const kln_graph_edit *edit, const char *name,
                                               size_t rank);
/* The number of readers of `name` before the edit, graph outputs included. */
size_t kln_graph_edit_readers(const kln_graph_edit *edit, const char *name);
/* The node that produces `name`, of ONNX's own operator `op` (NULL: any), and its index; or NULL.
 * Includes dropped nodes. */
const kln_onnx_node *kln_graph_edit_producer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index);
/* The only reader of `name`, if it is a node of ONNX's own operator `op`, and its index; or
 * NULL. */
const kln_onnx_node *kln_graph_edit_consumer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index);

void kln_graph_edit_drop(kln_graph_edit *edit, size_t index);
/* Adds a node before node `before` of the original graph, named after its first output; NULL if
 * memory is short. `op` and the names must live as long as the model. There is room for
 * KLN_GRAPH_EDIT_ATTRIBUTES attributes. The pointer is valid until the next node is added. */
#define KLN_GRAPH_EDIT_ATTRIBUTES 8
kln_onnx_node *kln_graph_edit_add_node(kln_graph_edit *edit, size_t before, const char *domain,
                                       const char *op, const char *const *inputs,
                                       size_t input_count, const char *const *outputs,
                                       size_t output_count);
/* Declares that added nodes have operators of `domain`, which lives as long as the model. */
void kln_graph_edit_import(kln_graph_edit *edit, const char *domain, int64_t version);
/* Sets an integer or floating-point attribute; `name` lives as long as the model. */
void kln_graph_edit_set_int(kln_onnx_node *node, const char *name, int64_t value);
void kln_graph_edit_set_float(kln_onnx_node *node, const char *name, float value);
/* Adds an initializer "STEM/WHAT", whose elements must be written through `data`; NULL if memory is
 * short. */
kln_onnx_tensor *kln_graph_edit_add_weights(kln_graph_edit *edit, const char *stem,
                                            const char *what, kiln_dtype dtype, size_t rank,
                                            const int64_t *dims);
/* Makes the change. Initializers that only dropped nodes read are removed. On OUT_OF_MEMORY nothing
 * has changed. */
KILN_MUST_CHECK kiln_status kln_graph_edit_commit(kln_graph_edit *edit);

/* Horizontal fusion: products (MatMul) of one tensor with several constant matrices, with their
 * biases, become one product that is split afterwards, for fewer and larger kernels. Results differ
 * in the last bits. `*merged`: number of the resulting products; if 0, also on an error, the model
 * is unchanged. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_fuse_horizontally(kln_onnx_model *model, size_t *merged);

/* Replaces calls of the model's own functions by the nodes of their bodies. A function stays if its
 * operator sets differ from the model's in operators that it uses. `*inlined`: number of calls; if
 * 0, also on an error, the model is unchanged. LIMIT, OUT_OF_MEMORY. (inline_functions.c) */
KILN_MUST_CHECK kiln_status kln_inline_functions(kln_onnx_model *model, size_t *inlined);

/* Replaces an If of the main graph by the nodes of a branch, if its condition is known before a
 * run, or only guards the branch against a tensor without elements. For libraries that cannot build
 * conditions, or not this one. `*inlined`: their number; if 0, also on an error, the model is
 * unchanged. LIMIT, OUT_OF_MEMORY. (inline_branches.c) */
KILN_MUST_CHECK kiln_status kln_inline_branches(kln_onnx_model *model, size_t *inlined);

/* Converts the model to version `version` of ONNX's own operator set, rewriting nodes whose meaning
 * has changed. A model that has the version already, or none of ONNX's operators, is unchanged, and
 * so is any on an error. UNSUPPORTED with the node that prevents it, or for a model that is too
 * old; LIMIT, OUT_OF_MEMORY. (raise_opset.c) */
KILN_MUST_CHECK kiln_status kln_raise_opset(kln_onnx_model *model, int64_t version);

/* Replaces Celu of float16 and bfloat16 by the operators that define it, for parsers that accept it
 * in float32 only. `*expanded`: their number; if 0, also on an error, the model is unchanged.
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_expand_celu(kln_onnx_model *model, size_t *expanded);

/* --- validation --- */

/* Whether a backend runs this operator. `dtype` is that of the first input with a known one. */
typedef bool (*kln_supports)(const char *domain, const char *name, int64_t opset, kiln_dtype dtype);

typedef struct kln_profile_range { /* of one input in one optimization profile */
    const char *input;
    kiln_shape min, opt, max;
} kln_profile_range;

typedef struct kln_validate_options {
    const char *backend;               /* name for sentences; NULL: no particular backend */
    kln_supports supports;             /* NULL: not checked */
    kln_lacks lacks;                   /* NULL: not checked */
    bool on_gpu;                       /* for a build on a GPU */
    int64_t newest_ir;                 /* 0: any version of the format */
    bool (*holds)(int32_t wire_dtype); /* whether tensors of this type may occur inside; NULL:
                                          all */
    kiln_dtype (*bound_as)(kiln_dtype dtype); /* type of an input or output in the engine; NULL: its
                                                 own */
    bool binds_strings;                       /* inputs and outputs may be strings */
    bool dense_only;                          /* sparse weights are refused */
    bool unique_node_names;                   /* two nodes of the same name in a graph are
                                                 refused */
    bool initializers_are_weights;            /* even if they are inputs of the model too */
    bool plugins; /* an operator that is not ONNX's may be a plugin layer: a warning */
    const kln_profile_range *ranges;
    size_t range_count;
} kln_validate_options;

/* All problems of the model, those of inference included, errors first in the order of the graph.
 * `options` may be NULL. Fails only if memory is short or at a limit: a model with problems is
 * KILN_OK and a list. */
KILN_MUST_CHECK kiln_status kln_validate(const kln_onnx_model *model,
                                         const kln_validate_options *options,
                                         kiln_issue_list **issues);

/* The same for an existing inference. Takes over its list: afterwards `inference->issues` is NULL,
 * and only reading and kln_inference_destroy are allowed. */
KILN_MUST_CHECK kiln_status kln_validate_inference(kln_inference *inference,
                                                   const kln_validate_options *options,
                                                   kiln_issue_list **issues);

/* Checks the operator of node `index` of `graph`, which has been inferred: number of inputs and
 * outputs, attributes. Adds to the inference's issues. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_validate_added(kln_inference *inference,
                                               const kln_graph_inference *graph, uint32_t index);

#endif
