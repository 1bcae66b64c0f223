/* SPDX-License-Identifier: Apache-2.0 */
/* What operators do to types and shapes: the operator table, inference, issues.
 *
 * kln_infer never changes the model. Its results are in one arena and point into the model, which
 * must outlive them. A problem that it finds becomes an issue in a list, not a failure: inference
 * continues with what is still known. */
#ifndef KLN_OPS_H
#define KLN_OPS_H

#include <kiln/issues.h>
#include <kiln/tensor.h>

#include "base/kln_base.h"
#include "onnx/kln_onnx.h"

/* --- symbolic dimensions --- */

/* An exact integer expression over named dimensions, such as `2*seq+1` or `floor((h+1)/2)`. Within
 * one inference, equal expressions are the same pointer. Owned by the inference. */
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
        int64_t number; /* not negative for a dimension */
        double real;
        const kln_expression *expression;
    } of;
} kln_dim;

#define KLN_DIM_OF_NUMBER(value) ((kln_dim){.kind = KLN_DIM_NUMBER, .of.number = (value)})

/* Writes "224", "batch", "2*seq+1" or "?" and returns the full length, as snprintf does. */
size_t kln_dim_format(kln_dim dim, char *text, size_t size);
/* The name, if the expression is just a name; otherwise NULL. */
const char *kln_dim_name(kln_dim dim);
bool kln_dim_equal(kln_dim a, kln_dim b); /* false if one is unknown */

/* --- windows (window.c) --- */

/* A window that slides along one dimension, as in convolution and pooling. */
typedef struct kln_window {
    int64_t stride, dilation; /* at least 1 */
    int64_t before, after;    /* padding */
    bool same;                /* padding for as many positions as strides: SAME_UPPER, _LOWER */
    bool up;                  /* the last window may begin inside and end outside: ceil_mode */
} kln_window;

/* The number of positions of a window of `kernel` elements along a dimension of `in`; -1 if it does
 * not fit, unknown if that cannot be determined. `pool` may be NULL if both are numbers. */
kln_dim kln_window_places(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel);
/* The inverse: the number of elements that windows at `in` positions span, less the padding. */
kln_dim kln_window_span(kln_expressions *pool, const kln_window *w, kln_dim in, kln_dim kernel);

/* --- what is known about a value --- */

#define KLN_NO_NODE UINT32_MAX

/* The scales and zero points of a tensor, from the QuantizeLinear that produced it or the
 * DequantizeLinear that reads it. */
typedef struct kln_value_quantization {
    const char *scale;      /* name of the tensor */
    const char *zero_point; /* NULL: 0 */
    int64_t axis;           /* -1: one scale for the whole tensor */
    int64_t block_size;     /* 0: not blocked */
} kln_value_quantization;

typedef struct kln_value {
    const char *name;
    kln_onnx_kind kind; /* NONE: nothing is known, including dtype and shape */
    kiln_dtype dtype;   /* UNDEFINED: not known, or a type without a kiln_dtype */
    int32_t wire_dtype; /* TensorProto.DataType; 0: not known */
    bool has_shape;     /* false: the rank is not known either */
    bool is_constant;   /* an initializer that is not an input, or computed from constants only */
    size_t rank;        /* not limited to KILN_MAX_RANK */
    const kln_dim *dims;
    /* The elements of a small tensor, in row-major order, if its content is known, at least in
     * part; otherwise NULL. For initializers they are decoded when a rule first needs them: use
     * kln_value_contents. */
    const kln_dim *contents;
    size_t content_count;
    const struct kln_value *element;    /* of a SEQUENCE or OPTIONAL, or NULL; the value type of a
                                           MAP */
    const kln_onnx_tensor *initializer; /* its weights (a Constant node's too), or NULL */
    const kln_value_quantization *quantization; /* or NULL */
    uint32_t producer;  /* index of the node in its graph, or KLN_NO_NODE: input, initializer */
    uint32_t consumers; /* number of nodes that read it, those of subgraphs included, and of graph
                           outputs */
} kln_value;

struct kln_graph_inference;
struct kln_resolved;

/* What is known about a node. Values are indices into the graph's own values, so that no name is
 * looked up again. */
typedef struct kln_node_inference {
    const struct kln_resolved *resolved; /* its operator's table row; NULL: not looked up */
    uint32_t *inputs;  /* KLN_NO_VALUE for an omitted input or an unknown name; a value of an outer
                          graph has an index of its own in this one */
    uint32_t *outputs; /* KLN_NO_VALUE for an omitted output */
    /* The subgraphs of If, Loop and Scan in the order of their attributes, or the body of the
     * model-local function that the node calls. */
    struct kln_graph_inference **graphs;
    size_t graph_count;
} kln_node_inference;

#define KLN_NO_VALUE UINT32_MAX

typedef struct kln_graph_inference {
    const kln_onnx_graph *graph;
    struct kln_graph_inference *parent; /* the graph whose names are visible here too, or NULL */
    kln_value **values;
    size_t value_count, value_capacity;
    kln_names names;           /* name of a value -> its index */
    kln_node_inference *nodes; /* one for each of graph->nodes, in that order */
    size_t node_count, node_capacity;
    uint32_t *order;            /* an execution order of the nodes; NULL: their order in the
                                   graph */
    uint32_t *inputs, *outputs; /* of the graph, as indices of values */
    size_t input_count, output_count;
} kln_graph_inference;

/* --- inference --- */

typedef struct kln_input_shape {
    const char *name;
    kiln_shape shape; /* KILN_DYNAMIC keeps the model's dimension */
} kln_input_shape;

typedef struct kln_infer_options {
    const kln_input_shape *inputs; /* shapes to assume in place of the model's */
    size_t input_count;
    size_t content_limit; /* most elements of a tensor whose content is tracked; 0: 4,096 */
    bool ignore_declared; /* ignore the model's value_info, as when a pass has made it stale */
    bool open_inputs;     /* use the ranks of the inputs, but not their dimensions */
} kln_infer_options;

typedef struct kln_inference {
    kln_arena arena;
    const kln_onnx_model *model;
    kln_graph_inference *graph; /* the main graph */
    kiln_issue_list *issues;    /* contradictions in types, shapes, names, order */
    /* Contradictory shapes, ranks and values in a branch of an If whose condition is not known:
     * faults only if that branch is taken. Validation decides about them. */
    kiln_issue_list *doubts;
    struct kln_infer_state *state;
    /* Hints from code that adds to the model; or NULL. */
    const char *hashed_name;          /* a name, */
    uint32_t hash;                    /* and its kln_names_hash */
    const kln_onnx_node *placed_node; /* a node, */
    const uint32_t *places; /* and where its inputs probably are among the graph's values */
    size_t place_count;
} kln_inference;

/* Infers every value of the model: types, ranks, dimensions and the content of small integer
 * tensors, through subgraphs and model-local functions. Takes time linear in the size of the model.
 * A faulty model is inferred as far as possible; the faults are in `issues`. Errors: NULL_ARGUMENT;
 * NAME if `options` gives a shape for an input that does not exist, RANK, SHAPE if it contradicts
 * the model's; LIMIT (nesting); OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_infer(const kln_onnx_model *model, const kln_infer_options *options,
                                      kln_inference **out);

/* Infers what was appended to `graph`, one of the inference's, since the last call: inputs,
 * initializers and nodes, for a builder that needs the type of each tensor as it is added. Existing
 * parts must not have changed. Takes time in proportion to the new part. After an error the
 * inference can only be destroyed. */
KILN_MUST_CHECK kiln_status kln_infer_more(kln_inference *inference, kln_graph_inference *graph);

/* A graph that sees the names of `parent` but is not yet in a node. Its inputs have their declared
 * types. OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status kln_infer_branch(kln_inference *inference, const kln_onnx_graph *branch,
                                             kln_graph_inference *parent,
                                             kln_graph_inference **out);

/* How far a graph has been inferred. */
typedef struct kln_infer_mark {
    struct kln_graph_walk *walks;
    size_t values, nodes, inputs, initializers, issues, doubts;
} kln_infer_mark;

kln_infer_mark kln_infer_mark_of(const kln_inference *inference, const kln_graph_inference *graph);
/* Discards what was inferred since the mark, before the graph loses it. Nothing may have failed
 * since. */
void kln_infer_take_back(kln_inference *inference, kln_graph_inference *graph,
                         const kln_infer_mark *mark);

void kln_inference_destroy(kln_inference *inference); /* NULL is allowed */
KLN_SCOPED_POINTER(kln_inference, kln_inference_destroy)
KLN_SCOPED_POINTER(kiln_issue_list, kiln_issue_list_destroy)

/* The value of that name as visible in `graph`, outer graphs included, or NULL. */
kln_value *kln_inference_find(const kln_graph_inference *graph, const char *name);

/* The elements of a value whose content is known, or NULL; `count` receives their number. Decodes
 * an initializer on first use. */
const kln_dim *kln_value_contents(kln_inference *inference, kln_value *value, size_t *count);

/* The dimensions as a kiln_shape, with KILN_DYNAMIC for unknown and symbolic ones. False without a
 * rank or above KILN_MAX_RANK. */
bool kln_value_shape(const kln_value *value, kiln_shape *shape);

/* Writes "float32[batch,3,224,224]" and returns the full length. */
size_t kln_value_format(const kln_value *value, char *text, size_t size);

/* The texts of these, in memory that lasts as long as the block. */
#define KLN_WHAT_TEXT 160
#define KLN_DIM_PRINTED(dim) kln_dim_printed((dim), (char[KLN_WHAT_TEXT]){0})
#define KLN_VALUE_PRINTED(value) kln_value_printed((value), (char[KLN_WHAT_TEXT]){0})
#define KLN_NODE_LABEL(node, index) kln_node_labelled((node), (index), (char[KLN_WHAT_TEXT]){0})
const char *kln_dim_printed(kln_dim dim, char text[KLN_WHAT_TEXT]);
const char *kln_value_printed(const kln_value *value, char text[KLN_WHAT_TEXT]);
const char *kln_node_labelled(const kln_onnx_node *node, uint32_t index, char text[KLN_WHAT_TEXT]);

/* --- a node, as shown to a backend that is asked whether it runs it (node_view.c) --- */

typedef struct kln_node_view {
    kln_inference *inference;
    const kln_graph_inference *graph;
    const kln_onnx_node *node;
    const kln_node_inference *known;
    int64_t opset; /* of the node's domain; 0: not imported */
    bool on_gpu;   /* for a build on a GPU */
} kln_node_view;

/* Whether a backend has everything that a node needs; if not, whether its build fails, or only a
 * run. */
enum { KLN_LACK_NONE = 0, KLN_LACK_BUILD, KLN_LACK_RUN };
typedef int kln_lack;

/* Writes to `why` the reason, to follow "node "x" (Op): ", that the node is not built or run. */
typedef kln_lack (*kln_lacks)(const kln_node_view *view, char *why, size_t size);

kln_node_view kln_view_of(kln_inference *inference, const kln_graph_inference *graph,
                          uint32_t index);
/* NULL for an omitted input, or one that nothing is known about. */
kln_value *kln_view_input(const kln_node_view *view, size_t input);
kln_value *kln_view_output(const kln_node_view *view, size_t output);
bool kln_view_has(const kln_node_view *view, size_t input); /* whether the input is given */
/* TensorProto.DataType of an input that is a tensor; 0: not known. */
int32_t kln_view_type(const kln_node_view *view, size_t input);
/* -1: not known */
int64_t kln_view_rank(const kln_node_view *view, size_t input);
/* The size of a dimension; -1 if it is not a number. */
int64_t kln_view_dim(const kln_node_view *view, size_t input, size_t axis);
/* The number of elements according to the shape, or -1. */
int64_t kln_view_count(const kln_node_view *view, size_t input);
/* The elements of an input whose content is known, or NULL. */
const kln_dim *kln_view_contents(const kln_node_view *view, size_t input, size_t *count);
/* An attribute; `otherwise` if it is missing, or refers to one of a function's call. */
int64_t kln_view_int(const kln_node_view *view, const char *name, int64_t otherwise);
/* Whether a text attribute has this value; `otherwise` likewise. */
bool kln_view_is(const kln_node_view *view, const char *name, const char *text, bool otherwise);
/* NULL and 0 if it is missing. */
const int64_t *kln_view_ints(const kln_node_view *view, const char *name, size_t *count);
/* The letter in the operator table for the type of one of the node's type variables; 0: not known.
 * `*sequence`: the variable is a sequence of that type. */
char kln_view_variable(const kln_node_view *view, const char *name, size_t length, bool *sequence);

/* --- the operator table (op_table.c) --- */

/* One version of one operator, as the specification defines it. The texts are lists separated by
 * blanks: `inputs` and `outputs` as name:type, with ? after an optional and * after a repeated one;
 * `attributes` as name:kind, with ! after a required one; `types` as variable=types. docs/inference
 * has the letters. */
typedef struct kln_operator {
    const char *domain; /* "" for ai.onnx */
    const char *name;
    int since;                  /* version of the operator set that introduced this form */
    int min_inputs, max_inputs; /* INT_MAX: any number */
    int min_outputs, max_outputs;
    const char *inputs, *outputs, *attributes; /* NULL: everything but `types` is as in
                                                  kln_operator_form */
    const char *types;
    bool deprecated; /* must not be used from this version on */
} kln_operator;

/* The form of an operator in version `opset` of its domain, or NULL if the table has none. */
const kln_operator *kln_operator_find(const char *domain, const char *name, int64_t opset);
/* The row with its inputs and outputs: itself, or that of an earlier version. */
const kln_operator *kln_operator_form(const kln_operator *row);
/* The next version, or NULL. */
const kln_operator *kln_operator_next(const kln_operator *row);
/* The type of an attribute; UNDEFINED if the operator has none of this name. */
kln_onnx_attribute_type kln_operator_attribute(const kln_operator *row, const char *name);
/* Whether any version has an operator of this name. */
bool kln_operator_known(const char *domain, const char *name);
/* The newest version of the operator set `domain` in the table; 0 for one that the table does not
 * have as a whole. */
int64_t kln_operator_newest(const char *domain);

/* --- issues (issues.c) --- */

#define KLN_ISSUE_TEXT ((size_t)512) /* of a sentence; longer ones are truncated */

KILN_MUST_CHECK kiln_status kln_issues_create(kiln_issue_list **list);

/* Adds an error for each external file that was missing when the model was read. */
KILN_MUST_CHECK kiln_status kln_issues_add_missing(kiln_issue_list *list,
                                                   const kln_onnx_model *model);

/* Puts errors before warnings, and otherwise keeps the order. */
KILN_MUST_CHECK kiln_status kln_issues_sort(kiln_issue_list *list);

/* Whether there is an issue of the same kind, node and tensor and of at least the same severity. */
bool kln_issues_have(const kiln_issue_list *list, const kiln_issue *issue, kiln_severity least);

/* Removes all but the first `count`. */
void kln_issues_cut(kiln_issue_list *list, size_t count);

/* Copies the texts; NULL texts become "". */
KILN_MUST_CHECK kiln_status kln_issues_add(kiln_issue_list *list, const kiln_issue *issue);

/* Adds the issues of `kind`, or all if that is 0, of `from` to `to`. */
KILN_MUST_CHECK kiln_status kln_issues_merge(kiln_issue_list *to, const kiln_issue_list *from,
                                             kiln_issue_kind kind);

/* KILN_OK if the list has no error, otherwise INVALID_NETWORK with their number and the first one's
 * sentence. If all are of one kind: UNSUPPORTED for operators that a backend lacks, SHAPE for
 * ranges of profiles. */
KILN_MUST_CHECK kiln_status kln_issues_status(const kiln_issue_list *issues);

#endif
