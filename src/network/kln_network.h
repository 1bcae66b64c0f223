/*
 * kln_network.h - what is known about every tensor of a network before it runs: shape inference,
 * the operator table and validation. The builder and the passes of this module stand on it, and so
 * do the backends that go through a graph node by node.
 *
 * kln_infer never changes the model. Its results live in one arena and point into the model, which
 * must outlive them. A problem found on the way is an issue in a list, not a failure: inference
 * goes on with what is still known.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_NETWORK_H
#define KLN_NETWORK_H

#include <kiln/engine.h>
#include <kiln/issues.h>
#include <kiln/network.h>

#include "base/kln_base.h"
#include "onnx/kln_onnx.h"

/* The model that a network is (build_network.c). STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_model(const kiln_network *network,
                                              const kln_onnx_model **model);

/* The same, to be changed for a while and put back. STATE for a branch. */
KILN_MUST_CHECK kiln_status kln_network_edit(kiln_network *network, kln_onnx_model **model);

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

/* --- rewriting (graph_edit.c) --- */

/* A change of a model's main graph: nodes are marked as dropped, others are added, and all of it
 * takes place at kln_graph_edit_commit or not at all. What is added lives in the model's arena. */
typedef struct kln_graph_edit {
    kln_onnx_model *model;
    kln_onnx_graph *graph; /* as it was until the commit */
    kln_names constants;   /* by name, the index of an initializer that no caller may replace */
    kln_names readers;     /* by name, how many inputs of nodes and outputs of the graph read it */
    kln_names producers;   /* by name, the node that makes it */
    kln_names consumers;   /* by name, the last node that reads it */
    bool *dropped;         /* for each node */
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
/* Whether `node` is this operator of ONNX's own domain. */
bool kln_graph_edit_is(const kln_onnx_node *node, const char *op);

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

/* Products (MatMul) of one tensor with several matrices of constants, biases among it, become one
 * product that is split afterwards: fewer and larger kernels. Results differ in the last bits.
 * `*merged`: into how many; with 0, on an error too, the model is as it was. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_merge_products(kln_onnx_model *model, size_t *merged);

/* --- dimensions that are not numbers --- */

/* An exact integer expression over named dimensions, such as `2*seq+1` or `floor((h+1)/2)`. Equal
 * expressions of one inference are one pointer. Owned by the inference. */
typedef struct kln_expression kln_expression;
typedef struct kln_expressions kln_expressions;

typedef enum kln_dim_kind {
    KLN_DIM_UNKNOWN = 0,
    KLN_DIM_NUMBER,
    KLN_DIM_EXPRESSION,
    KLN_DIM_REAL /* only in contents: an element of a floating-point tensor */
} kln_dim_kind;

/* A dimension of a shape, or an element of a known constant. */
typedef struct kln_dim {
    kln_dim_kind kind;
    union {
        int64_t number; /* of a dimension: not negative */
        double real;
        const kln_expression *expression;
    } of;
} kln_dim;

#define KLN_DIM_OF_NUMBER(value) ((kln_dim){.kind = KLN_DIM_NUMBER, .of.number = (value)})

/* Writes "224", "batch", "2*seq+1" or "?" and returns the full length, as snprintf does. */
size_t kln_dim_format(kln_dim dim, char *text, size_t size);
/* The name when the expression is one name and nothing else, or NULL. */
const char *kln_dim_name(kln_dim dim);
bool kln_dim_equal(kln_dim a, kln_dim b); /* false when one is unknown */

/* --- windows (window.c) --- */

/* A window that slides along one dimension, as those of convolution and pooling do. */
typedef struct kln_window {
    int64_t stride, dilation; /* at least 1 */
    int64_t before, after;    /* padding */
    bool same;                /* padding that makes as many places as strides: SAME_UPPER, _LOWER */
    bool up;                  /* a last window may begin inside and end outside: ceil_mode */
} kln_window;

/* How many places a window of `kernel` elements has along a dimension of `in`; -1 where it does not
 * fit, unknown where nobody can tell. `pool` may be NULL where both are numbers. */
kln_dim kln_window_places(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel);
/* And back: the elements that windows at `in` places span, less the padding. */
kln_dim kln_window_span(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel);

/* --- what is known of a value --- */

#define KLN_NO_NODE UINT32_MAX

/* Scales and zero points that a tensor carries, from the QuantizeLinear that made it or the
 * DequantizeLinear that reads it. */
typedef struct kln_value_quantization {
    const char *scale;      /* the tensor's name */
    const char *zero_point; /* or NULL: 0 */
    int64_t axis;           /* -1: one scale for the whole tensor */
    int64_t block_size;     /* 0: not blocked */
} kln_value_quantization;

typedef struct kln_value {
    const char *name;
    kln_onnx_kind kind; /* NONE: nothing is known, dtype and shape included */
    kiln_dtype dtype;   /* UNDEFINED: not known, or a type kiln_dtype has no match for */
    int32_t wire_dtype; /* TensorProto.DataType; 0: not known */
    bool has_shape;     /* else the rank is open */
    bool is_constant;   /* an initializer that is no input, or computed from constants alone */
    size_t rank;        /* not limited to KILN_MAX_RANK */
    const kln_dim *dims;
    /* The elements, row by row, of a small tensor whose content is known, in part at least; NULL
     * when it is not. Initializers fill this in when a rule first asks: read it through
     * kln_value_contents. */
    const kln_dim *contents;
    size_t content_count;
    const struct kln_value *element;    /* of a SEQUENCE or OPTIONAL, or NULL; a MAP's value */
    const kln_onnx_tensor *initializer; /* its weights (a Constant node's too), or NULL */
    const kln_value_quantization *quantization; /* or NULL */
    uint32_t producer;  /* index of the node in its graph, or KLN_NO_NODE: input, initializer */
    uint32_t consumers; /* nodes that read it, those of subgraphs included, and graph outputs */
} kln_value;

struct kln_graph_inference;
struct kln_resolved;

/* What is known of a node. Values are given by index into the graph's own values, so that no name
 * is looked up again. */
typedef struct kln_node_inference {
    const struct kln_resolved *resolved; /* what its operator comes to; NULL: not looked at */
    uint32_t *inputs;  /* KLN_NO_VALUE for one left out or not known by name; a value of an outer
                          graph has an index of its own in this one */
    uint32_t *outputs; /* KLN_NO_VALUE for one left out */
    /* The graphs of If, Loop and Scan in the order of their attributes, or the body of the
     * model-local function that the node calls. */
    struct kln_graph_inference **graphs;
    size_t graph_count;
} kln_node_inference;

/* Whether the node calls a model-local function. */
bool kln_node_is_call(const kln_node_inference *node);

#define KLN_NO_VALUE UINT32_MAX

typedef struct kln_graph_inference {
    const kln_onnx_graph *graph;
    struct kln_graph_inference *parent; /* whose names are seen here too, or NULL */
    kln_value **values;
    size_t value_count, value_capacity;
    kln_names names;           /* of values, to their index */
    kln_node_inference *nodes; /* as many as graph->nodes, in that order */
    size_t node_count, node_capacity;
    uint32_t *order;            /* the nodes in an order that can run; NULL: as they stand */
    uint32_t *inputs, *outputs; /* of the graph, as indices of values */
    size_t input_count, output_count;
} kln_graph_inference;

/* Room for `count` + 1 elements of `size` in an array of the arena. */
KILN_MUST_CHECK kiln_status kln_array_grow(kln_arena *arena, void *array, size_t count,
                                           size_t *capacity, size_t size);

/* --- inference --- */

typedef struct kln_input_shape {
    const char *name;
    kiln_shape shape; /* KILN_DYNAMIC leaves a dimension as the model has it */
} kln_input_shape;

typedef struct kln_infer_options {
    const kln_input_shape *inputs; /* shapes to assume instead of the model's */
    size_t input_count;
    size_t content_limit; /* elements of a tensor whose content is followed; 0: 4,096 */
    bool ignore_declared; /* leave the model's value_info out, as where a pass made it stale */
    bool open_inputs;     /* take the inputs' ranks, but not their dimensions */
} kln_infer_options;

typedef struct kln_inference {
    kln_arena arena;
    const kln_onnx_model *model;
    kln_graph_inference *graph; /* the main one */
    kiln_issue_list *issues;    /* what contradicts: types, shapes, names, order */
    /* Shapes, ranks and values that contradict in the branch of an If whose condition is not known:
     * faults only where that branch is taken. kln_validate says what becomes of them. */
    kiln_issue_list *doubts;
    struct kln_infer_state *state;
} kln_inference;

/* Infers every value of the model: types, ranks, dimensions and the content of small integer
 * tensors, through subgraphs and model-local functions. Linear in the size of the model. A model
 * with faults is inferred as far as it goes; the faults are in `issues`. Errors: NULL_ARGUMENT;
 * NAME when `options` gives a shape for an input that is not there, RANK, SHAPE when it contradicts
 * the model's; LIMIT (nesting); OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_infer(const kln_onnx_model *model, const kln_infer_options *options,
                                      kln_inference **out);

/* Takes in what was appended to `graph`, one of the inference's, since the last call: inputs,
 * initializers and nodes, for a builder that wants the type of each tensor as it goes. What was
 * there before must not have changed. Takes as long as what is new. After an error the inference
 * can only be destroyed. */
KILN_MUST_CHECK kiln_status kln_infer_more(kln_inference *inference, kln_graph_inference *graph);

/* A graph that sees the names of `parent`, but that no node holds yet. Its inputs are as they are
 * declared. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_infer_branch(kln_inference *inference, const kln_onnx_graph *branch,
                                             kln_graph_inference *parent,
                                             kln_graph_inference **out);

/* How far a graph was gone through. */
typedef struct kln_infer_mark {
    struct kln_graph_walk *walks;
    size_t values, nodes, inputs, initializers, issues, doubts;
} kln_infer_mark;

kln_infer_mark kln_infer_mark_of(const kln_inference *inference, const kln_graph_inference *graph);
/* Forgets what was taken in since the mark; the graph is about to lose it. Nothing may have failed
 * since. */
void kln_infer_take_back(kln_inference *inference, kln_graph_inference *graph,
                         const kln_infer_mark *mark);

void kln_inference_destroy(kln_inference *inference); /* NULL is allowed */

/* The value of that name as `graph` sees it, outer graphs included, or NULL. */
kln_value *kln_inference_find(const kln_graph_inference *graph, const char *name);

/* The elements of a value whose content is known, or NULL. `count` gets their number. Decodes an
 * initializer the first time. */
const kln_dim *kln_value_contents(kln_inference *inference, kln_value *value, size_t *count);

/* The dimensions as a kiln_shape, unknown and symbolic ones as KILN_DYNAMIC. False without a rank
 * or past KILN_MAX_RANK. */
bool kln_value_shape(const kln_value *value, kiln_shape *shape);

/* Writes "float32[batch,3,224,224]" and returns the full length. */
size_t kln_value_format(const kln_value *value, char *text, size_t size);

/* --- the operator table (op_table.c) --- */

/* One version of one operator, as the specification defines it. The texts are lists divided by
 * blanks: `inputs` and `outputs` as name:type, with ? after an optional and * after a repeated one;
 * `attributes` as name:kind, with ! after a required one; `types` as variable=types. docs/inference
 * has the letters. */
typedef struct kln_operator {
    const char *domain; /* "" for ai.onnx */
    const char *name;
    int since;                  /* version of the operator set in which this form appeared */
    int min_inputs, max_inputs; /* INT_MAX: any number */
    int min_outputs, max_outputs;
    const char *inputs, *outputs, *attributes, *types;
    bool deprecated; /* from this version on it must not be used */
} kln_operator;

/* The form of an operator that holds in version `opset` of its domain, or NULL when the table has
 * none. */
const kln_operator *kln_operator_find(const char *domain, const char *name, int64_t opset);
/* Whether any version has an operator of this name. */
bool kln_operator_known(const char *domain, const char *name);
/* The newest version of the operator set `domain` that the table knows; 0 for an unknown domain. */
int64_t kln_operator_newest(const char *domain);

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
    bool (*holds)(int32_t wire_dtype); /* whether tensors of this type can be inside; NULL: all */
    kiln_dtype (*bound_as)(kiln_dtype dtype); /* the type an input or output gets; NULL: its own */
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

KILN_MUST_CHECK kiln_status kln_issues_create(kiln_issue_list **list);

/* Errors before warnings, otherwise as they came. */
KILN_MUST_CHECK kiln_status kln_issues_sort(kiln_issue_list *list);

/* Whether there is an issue of the same kind, node and tensor that is at least so severe. */
bool kln_issues_have(const kiln_issue_list *list, const kiln_issue *issue, kiln_severity least);

/* Drops all but the first `count`. */
void kln_issues_cut(kiln_issue_list *list, size_t count);

/* Copies the texts; NULL texts become "". */
KILN_MUST_CHECK kiln_status kln_issues_add(kiln_issue_list *list, const kiln_issue *issue);

/* Adds the issues of `kind`, or with 0 all, that `from` has to `to`. */
KILN_MUST_CHECK kiln_status kln_issues_merge(kiln_issue_list *to, const kiln_issue_list *from,
                                             kiln_issue_kind kind);

/* KILN_OK when the list has no error, else INVALID_NETWORK with how many there are and the first
 * one's sentence. Where all are of one kind: UNSUPPORTED for operators that a backend lacks, SHAPE
 * for ranges of profiles. */
KILN_MUST_CHECK kiln_status kln_issues_status(const kiln_issue_list *issues);

#endif
