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

/* The model that a network is (build_network.c). STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_model(const kiln_network *network,
                                              const kln_onnx_model **model);

/* The same, to be changed for a while and put back. STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_edit(kiln_network *network, kln_onnx_model **model);

/* Around a change of the network's model that stays: the first forgets what was inferred, the
 * second takes in the names as they are by then. STATE for a branch, or a network that has one. */
KILN_MUST_CHECK kiln_status kln_network_rewrite(kiln_network *network, kln_onnx_model **model);
KILN_MUST_CHECK kiln_status kln_network_rewritten(kiln_network *network);

/* Another network of the same content, to be changed instead; and it in the place of the first one,
 * which cannot fail: `changed` is gone then. As kln_network_rewrite; OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_network_fork(kiln_network *network, kiln_network **changed);
void kln_network_take(kiln_network *network, kiln_network *changed);

/* INVALID_NETWORK where calls of the builder were refused and their issues collected; KILN_OK
 * otherwise. (build_issues.c) */
KILN_MUST_CHECK kiln_status kln_network_whole(const kiln_network *network);
/* Puts the issues that the builder collected before those of the validation, and leaves out what
 * only follows from them. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_network_issues(const kiln_network *network,
                                               kiln_issue_list **issues);

/* What the model says of itself, as kiln_engine_metadata tells it but for "opset"; in `arena`, with
 * room for one line more. OUT_OF_MEMORY. (inspect_network.c) */
#define KLN_MODEL_METADATA_MORE 6
KILN_MUST_CHECK kiln_status kln_model_metadata(const kln_onnx_model *model, kln_arena *arena,
                                               kiln_metadata **lines, size_t *count);

/* Fills in `quantization` of the bindings, by name, where it is not filled in yet and the nodes of
 * the main graph beside them tell: QuantizeLinear and DequantizeLinear, and QLinearConv and
 * QLinearMatMul. A binding of floats that something else reads as well is not quantized. Scales go
 * to `arena`. OUT_OF_MEMORY. (binding_quantization.c) */
KILN_MUST_CHECK kiln_status kln_graph_read_quantization(const kln_onnx_graph *graph,
                                                        kln_arena *arena, kiln_binding *bindings,
                                                        size_t count);

/* --- what is in a graph (graph_edit.c) --- */

/* What is known of a graph that an attribute of the node holds. NULL where nothing is, or `known`
 * is NULL. */
const kln_graph_inference *kln_inference_inside(const kln_node_inference *known,
                                                const kln_onnx_graph *graph);

/* By the name of a tensor. */
typedef struct kln_graph_index {
    const kln_onnx_graph *graph;
    kln_names constants; /* an initializer that no caller may replace */
    kln_names readers;   /* how many inputs of nodes and outputs of the graph read it */
    kln_names producers; /* the node that makes it */
    kln_names consumers; /* the last node that reads it */
} kln_graph_index;

/* kln_graph_index_finish is to follow, on an error too. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_graph_index_make(const kln_onnx_graph *graph,
                                                 kln_graph_index *index);
void kln_graph_index_finish(kln_graph_index *index);
/* The constant of that name; NULL: none. */
const kln_onnx_tensor *kln_graph_index_constant(const kln_graph_index *index, const char *name);
/* The node of that name in one of the index's lists of nodes; NULL: none. */
const kln_onnx_node *kln_graph_index_node(const kln_graph_index *index, const kln_names *list,
                                          const char *name);

/* --- rewriting (graph_edit.c) --- */

/* A change of a model's main graph: nodes are marked as dropped, others are added, and all of it
 * takes place at kln_graph_edit_commit or not at all. What is added lives in the model's arena. */
typedef struct kln_graph_edit {
    kln_onnx_model *model;
    kln_onnx_graph *graph; /* as it was until the commit, and so is its index */
    kln_graph_index index;
    bool *dropped;                        /* for each node */
    struct kln_graph_addition *additions; /* nodes, by where they go */
    size_t addition_count, addition_capacity;
    kln_onnx_tensor **weights; /* new initializers */
    size_t weight_count, weight_capacity;
    const char *domain; /* that is to be imported, or NULL */
    int64_t domain_version;
} kln_graph_edit;

/* Whether a rewriting pass understands the model: it has nodes, and no graphs inside nodes, which
 * may refer to names of this one. */
bool kln_graph_edit_suits(const kln_onnx_model *model);
/* kln_graph_edit_end is to follow, on an error too. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_graph_edit_begin(kln_onnx_model *model, kln_graph_edit *edit);
/* The model is as it was where nothing was committed. */
void kln_graph_edit_end(kln_graph_edit *edit);

/* The constant of that name with so many dimensions, its elements whole bytes that lie in memory;
 * or NULL. */
const kln_onnx_tensor *kln_graph_edit_constant(const kln_graph_edit *edit, const char *name,
                                               size_t rank);
/* How many read `name`, the graph's outputs among them, as it was before the edit. */
size_t kln_graph_edit_readers(const kln_graph_edit *edit, const char *name);
/* The node that makes `name`, of operator `op` of ONNX's own domain (NULL: any), and its index; or
 * NULL. Dropped ones too. */
const kln_onnx_node *kln_graph_edit_producer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index);
/* The node that reads `name` where nothing else does, of operator `op` of ONNX's own domain, and
 * its index; or NULL. */
const kln_onnx_node *kln_graph_edit_consumer(const kln_graph_edit *edit, const char *name,
                                             const char *op, size_t *index);

void kln_graph_edit_drop(kln_graph_edit *edit, size_t index);
/* A node before node `before` of the graph as it was, named as its first output, or NULL without
 * memory. `op` and the names must live as long as the model. Its list of attributes has room for
 * KLN_GRAPH_EDIT_ATTRIBUTES. The pointer is good until the next node is added. */
#define KLN_GRAPH_EDIT_ATTRIBUTES 8
kln_onnx_node *kln_graph_edit_add_node(kln_graph_edit *edit, size_t before, const char *domain,
                                       const char *op, const char *const *inputs,
                                       size_t input_count, const char *const *outputs,
                                       size_t output_count);
/* Operators of `domain` are among what is added. It lives as long as the model. */
void kln_graph_edit_import(kln_graph_edit *edit, const char *domain, int64_t version);
/* A whole-number or a floating-point attribute; `name` lives as long as the model. */
void kln_graph_edit_set_int(kln_onnx_node *node, const char *name, int64_t value);
void kln_graph_edit_set_float(kln_onnx_node *node, const char *name, float value);
/* A new initializer "STEM/WHAT" with its elements still to be written through `data`, or NULL
 * without memory. */
kln_onnx_tensor *kln_graph_edit_add_weights(kln_graph_edit *edit, const char *stem,
                                            const char *what, kiln_dtype dtype, size_t rank,
                                            const int64_t *dims);
/* Makes the change. Initializers that only dropped nodes read go with them. OUT_OF_MEMORY: nothing
 * was changed. */
KILN_MUST_CHECK kiln_status kln_graph_edit_commit(kln_graph_edit *edit);

/* Horizontal fusion: products (MatMul) of one tensor with several matrices of constants, biases
 * among it, become one product that is split afterwards: fewer and larger kernels. Results differ
 * in the last bits.
 * `*merged`: into how many; with 0, on an error too, the model is as it was. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_fuse_horizontally(kln_onnx_model *model, size_t *merged);

/* Calls of the model's own functions become the nodes of their bodies; a function stays where its
 * operator sets differ from the model's in what it uses. `*inlined`: how many calls; with 0, on an
 * error too, the model is as it was. LIMIT, OUT_OF_MEMORY. (inline_functions.c) */
KILN_MUST_CHECK kiln_status kln_inline_functions(kln_onnx_model *model, size_t *inlined);

/* Whether an If is among the nodes of the main graph. */
bool kln_has_branches(const kln_onnx_model *model);
/* An If of the main graph whose condition is known before a run, or only spares its branch a tensor
 * of no elements, becomes the nodes of that branch, for libraries that build no plan of a condition
 * or not of this one. `*inlined`: how many; with 0, on an error too, the model is as it was. LIMIT,
 * OUT_OF_MEMORY. (inline_branches.c) */
KILN_MUST_CHECK kiln_status kln_inline_branches(kln_onnx_model *model, size_t *inlined);

/* The model in version `version` of ONNX's own operator set, with what means something else by then
 * rewritten; one that has it already, or no operator of ONNX's, stays as it is, and so does any on
 * an error. UNSUPPORTED with the node that stands in the way, or for a model that is too old;
 * LIMIT, OUT_OF_MEMORY. (raise_opset.c) */
KILN_MUST_CHECK kiln_status kln_raise_opset(kln_onnx_model *model, int64_t version);

/* Whether a Celu is among the nodes of the main graph. */
bool kln_has_celu(const kln_onnx_model *model);
/* Celu of float16 and bfloat16 becomes the operators that define it, for parsers that know it of
 * float32 alone. `*expanded`: how many; with 0 the model is as it was, and so on an error.
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
    const char *backend;               /* its name, for sentences; NULL: none in particular */
    kln_supports supports;             /* NULL: not asked */
    kln_lacks lacks;                   /* NULL: not asked */
    bool on_gpu;                       /* of a build on a GPU */
    int64_t newest_ir;                 /* 0: any version of the format */
    bool (*holds)(int32_t wire_dtype); /* whether tensors of this type can be inside; NULL: all */
    kiln_dtype (*bound_as)(kiln_dtype dtype); /* the type an input or output gets; NULL: its own */
    bool binds_strings;                       /* inputs and outputs may be of them */
    bool dense_only;                          /* sparse weights are refused */
    bool unique_node_names;                   /* two nodes of one name in a graph are refused */
    bool initializers_are_weights;            /* though they are inputs of the model too */
    bool plugins; /* an operator that ONNX does not have may be a layer of a plugin's: a warning */
    const kln_profile_range *ranges;
    size_t range_count;
} kln_validate_options;

/* All problems of the model, inference's included, errors first in the order of the graph.
 * `options` may be NULL. Fails only for want of memory or at a limit: a model with problems is
 * KILN_OK and a list. */
KILN_MUST_CHECK kiln_status kln_validate(const kln_onnx_model *model,
                                         const kln_validate_options *options,
                                         kiln_issue_list **issues);

/* The same for what was inferred already. Takes the inference's list: `inference->issues` is NULL
 * afterwards, and nothing but kln_inference_destroy and reading may follow. */
KILN_MUST_CHECK kiln_status kln_validate_inference(kln_inference *inference,
                                                   const kln_validate_options *options,
                                                   kiln_issue_list **issues);

/* The operator of node `index` of `graph`, which inference has gone through: the numbers of its
 * inputs and outputs, its attributes. Adds to the inference's issues. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_validate_added(kln_inference *inference,
                                               const kln_graph_inference *graph, uint32_t index);

#endif
