/* SPDX-License-Identifier: Apache-2.0 */
/* The interface of the shape inference rules. Private to this module.
 *
 * A rule receives its node's inputs as far as they are known and fills in the outputs. The operator
 * table sets the dtype before the rule runs, so most rules only give a shape. A rule never fails:
 * running out of memory is recorded in the state, and a fault of the model is reported with
 * kln_rule_fault. */
#ifndef KLN_INFER_RULE_H
#define KLN_INFER_RULE_H

#include "infer_expression.h"
#include "kln_ops.h"
#include "kln_schema.h"

/* TensorProto.DataType. */
enum {
    KLN_WIRE_FLOAT = 1,
    KLN_WIRE_UINT8 = 2,
    KLN_WIRE_INT8 = 3,
    KLN_WIRE_INT32 = 6,
    KLN_WIRE_INT64 = 7,
    KLN_WIRE_STRING = 8,
    KLN_WIRE_BOOL = 9,
    KLN_WIRE_FLOAT16 = 10,
    KLN_WIRE_DOUBLE = 11,
    KLN_WIRE_COMPLEX64 = 14,
    KLN_WIRE_COMPLEX128 = 15,
    KLN_WIRE_BFLOAT16 = 16,
    KLN_WIRE_NEWEST = 28 /* float6e3m2 */
};

/* Where operator sets and attribute references are looked up: in the model, or in a function's
 * call. */
typedef struct kln_scope {
    const struct kln_scope *parent;
    const kln_onnx_function *function; /* NULL: the model */
    const kln_onnx_node *call;
    size_t depth;
} kln_scope;

/* Whether the current graph runs. A nested graph is at most as certain to run as the one around
 * it. */
typedef enum kln_branch { KLN_BRANCH_RUNS = 0, KLN_BRANCH_MAY_RUN, KLN_BRANCH_IS_DEAD } kln_branch;

#define KLN_RECENT 16

struct kln_graph_walk;

typedef struct kln_infer_state {
    kln_inference *inference;
    /* from infer_graph.c, for nodes with subgraphs */
    void (*walk_graph)(struct kln_infer_state *state, struct kln_graph_walk *walk,
                       const kln_value *const *bound, size_t bound_count,
                       const char *const *outputs, size_t output_count);
    kln_arena *arena;
    kln_expressions pool;
    kln_infer_options options;
    kln_onnx_index index;
    kln_keys operators; /* (domain, op_type, overload; version) -> index into `resolved` */
    kln_resolved **resolved;
    size_t resolved_count, resolved_capacity;
    /* By the address of the operator's name, since a builder passes the same strings again and
     * again. */
    struct {
        const char *op_type, *domain;
        const kln_onnx_function *function;
        const kln_resolved *resolved;
    } recent[KLN_RECENT];
    struct kln_graph_walk *walks; /* every graph visited, the main one last */
    struct kln_graph_walk *main;
    kln_names aliases; /* declared dimension names that stand for an expression */
    kln_dim *alias_dims;
    size_t alias_count, alias_capacity;
    kln_names input_names; /* dimension names of graph inputs, which never are aliases */
    size_t contents_left;  /* elements that may still be kept */
    size_t nodes_left;     /* limit, because calls of functions multiply nodes */
    size_t depth;          /* of nested graphs */
    kln_branch branch;     /* of the current graph */
    kiln_status status;    /* the first failure, or OK */
} kln_infer_state;

/* A graph, and how far it was gone through. */
/* The same string at the same address needs no lookup, as for the names of a built network. */
#define KLN_RECENT_VALUES 64

typedef struct kln_graph_walk {
    kln_graph_inference inference;
    struct kln_graph_walk *next;
    const kln_scope *scope;
    bool is_started;
    kln_names declared; /* value_info and outputs; from KLN_DECLARED_OUTPUT on they are outputs */
    size_t inputs_done, initializers_done, sparse_done, values_done, outputs_declared, nodes_done,
        outputs_done;
    size_t input_capacity, order_capacity, output_capacity;
    uint32_t recent[KLN_RECENT_VALUES]; /* indices of values, by the address of their names */
} kln_graph_walk;

#define KLN_DECLARED_OUTPUT (UINT32_C(1) << 31)
#define KLN_GRAPHS_DEEP ((size_t)48)
/* Nodes of called functions, counted for each call: a limit for functions that call functions. */
#define KLN_NODES_MOST ((size_t)500000)
/* Dimensions of a shape that a rule makes; the specification's own operators need a handful. */
#define KLN_RANK_MOST ((size_t)64)

typedef struct kln_rule {
    kln_infer_state *state;
    kln_graph_inference *graph;
    const kln_scope *scope;
    const kln_onnx_node *node;
    uint32_t index; /* of the node in its graph */
    const kln_resolved *resolved;
    int since;      /* version of the operator's form */
    kln_value **in; /* NULL for an input that is omitted or not known */
    size_t in_count;
    kln_value *out; /* to be filled in; `name` is set, "" if omitted */
    size_t out_count;
    int32_t bound[KLN_VARIABLES_MOST]; /* wire dtype of each type variable, or 0 */
} kln_rule;

/* --- inputs --- */

/* Whether the input is given. */
static inline bool kln_rule_has(const kln_rule *rule, size_t input)
{
    return input < rule->node->input_count && rule->node->inputs[input][0] != '\0';
}
/* Whether it is given and its rank is known. */
static inline bool kln_rule_ranked(const kln_rule *rule, size_t input)
{
    return input < rule->in_count && rule->in[input] != NULL && rule->in[input]->has_shape;
}
/* Whether its contents may be known. Check this before computing anything from them, as most are
 * not. */
static inline bool kln_rule_may_know(const kln_rule *rule, size_t input)
{
    return input < rule->in_count && rule->in[input] != NULL &&
           (rule->in[input]->contents != NULL || rule->in[input]->initializer != NULL);
}
/* 0 if the rank is not known. */
static inline size_t kln_rule_rank(const kln_rule *rule, size_t input)
{
    return kln_rule_ranked(rule, input) ? rule->in[input]->rank : 0;
}
/* Dimension `axis`; unknown if the rank is not known or `axis` is out of range. */
static inline kln_dim kln_rule_dim(const kln_rule *rule, size_t input, size_t axis)
{
    return axis < kln_rule_rank(rule, input) ? rule->in[input]->dims[axis] : KLN_UNKNOWN_DIM;
}
/* TensorProto.DataType; 0 if not known. */
static inline int32_t kln_rule_dtype(const kln_rule *rule, size_t input)
{
    return input < rule->in_count && rule->in[input] != NULL ? rule->in[input]->wire_dtype : 0;
}
/* The elements of an input whose content is known, or NULL. */
const kln_dim *kln_rule_contents(kln_rule *rule, size_t input, size_t *count);
/* The same if all are numbers; copied into the arena. */
const int64_t *kln_rule_numbers(kln_rule *rule, size_t input, size_t *count);
/* The only element of an input whose content is known. */
kln_dim kln_rule_scalar(kln_rule *rule, size_t input);
/* Whether an input certainly holds one integer or truth value that no caller may replace. */
bool kln_rule_single(kln_rule *rule, size_t input, int64_t *number);

/* --- attributes --- */

const kln_onnx_attribute *kln_rule_attribute(const kln_rule *rule, const char *name);
int64_t kln_rule_int(const kln_rule *rule, const char *name, int64_t otherwise);
const char *kln_rule_string(const kln_rule *rule, const char *name, const char *otherwise);
/* NULL and 0 if it is not given. */
const int64_t *kln_rule_ints(const kln_rule *rule, const char *name, size_t *count);
/* The same, in the form that kln_rule_contents has for an input. */
const kln_dim *kln_rule_ints_as_contents(kln_rule *rule, const char *name, size_t *count);
/* From attribute `name`, or from input `input` in versions where it is an input. `known` is false
 * if the input is given but its content is not known. */
const int64_t *kln_rule_ints_or_input(kln_rule *rule, const char *name, size_t input, size_t *count,
                                      bool *known);
/* Adds the rank if `axis` is negative; reports the fault and returns false if it is out of
 * range. */
bool kln_rule_axis(kln_rule *rule, int64_t axis, size_t rank, size_t *out);

/* --- outputs --- */

static inline bool kln_rule_wants(const kln_rule *rule, size_t output)
{
    return output < rule->out_count && rule->out[output].name[0] != '\0';
}
void kln_rule_set_dtype(kln_rule *rule, size_t output, int32_t wire_dtype);
/* Gives the output a shape of `rank` unknown dimensions to fill in; NULL if it is not requested or
 * memory ran out. */
kln_dim *kln_rule_new_shape(kln_rule *rule, size_t output, size_t rank);
/* The same with the dimensions of input 0, as far as they exist. */
kln_dim *kln_rule_shape_like(kln_rule *rule, size_t output, size_t rank);
/* Gives the output a shape with these dimensions. */
void kln_rule_put_shape(kln_rule *rule, size_t output, const kln_dim *dims, size_t rank);
#define kln_rule_give(rule, output, ...)                                 \
    kln_rule_put_shape((rule), (output), (const kln_dim[]){__VA_ARGS__}, \
                       sizeof((const kln_dim[]){__VA_ARGS__}) / sizeof(kln_dim))
void kln_rule_same_shape(kln_rule *rule, size_t input, size_t output);
void kln_rule_same_type(kln_rule *rule, size_t input, size_t output); /* dtype, kind, element */
/* A vector of those dimensions as known content (negative: unknown). */
void kln_rule_shape_of(kln_rule *rule, size_t output, const kln_dim *dims, size_t rank);
/* The elements to fill in, or NULL if there are too many to track, or memory ran out. */
kln_dim *kln_rule_fill(kln_rule *rule, size_t output, size_t count);
/* The number of elements of the output by its shape; false if a dimension is not a number. */
bool kln_rule_elements(const kln_rule *rule, size_t output, size_t *count);

/* --- dimensions --- */

/* Unifies dimensions that must be equal: gives the better known one. Different numbers are a fault
 * of `what`. */
kln_dim kln_rule_unify(kln_rule *rule, kln_dim a, kln_dim b, const char *what);
/* As numpy broadcasts: 1 gives way. */
kln_dim kln_rule_broadcast_dim(kln_rule *rule, kln_dim a, kln_dim b);
/* Gives the output the shape to which the inputs from `first` to `last` broadcast. */
void kln_rule_broadcast(kln_rule *rule, size_t output, size_t first, size_t last);
/* Product of dims [first, last). */
kln_dim kln_rule_product(kln_rule *rule, const kln_dim *dims, size_t first, size_t last);
static inline bool kln_rule_is(kln_dim dim, int64_t number)
{
    return dim.kind == KLN_DIM_NUMBER && dim.of.number == number;
}

/* Checks the rank of the input, if it is known; otherwise reports a fault and returns false. */
bool kln_rule_need_rank(kln_rule *rule, size_t input, size_t least, size_t most);

/* --- operators with more inputs than the rule has ---
 *
 * The rule of another operator on `count` of this one's inputs, such as those without scales and
 * zero points; one that is not there ends it. */
void kln_rule_with(kln_rule *rule, const size_t *inputs, size_t count, kln_rule_function other);

/* --- faults --- */

/* Records an issue about this node; `format` makes the sentence. */
void kln_rule_tell(kln_rule *rule, kiln_severity severity, kiln_issue_kind kind, const char *tensor,
                   const char *expected, const char *found, const char *format, ...)
    KLN_PRINTF(7, 8);
#define kln_rule_fault(rule, ...) kln_rule_tell((rule), KILN_SEVERITY_ERROR, __VA_ARGS__)

/* --- the state --- */

void kln_state_issue(kln_infer_state *state, kiln_severity severity, kiln_issue_kind kind,
                     const char *node, const char *tensor, const char *expected, const char *found,
                     const char *format, ...) KLN_PRINTF(8, 9);
void kln_state_check(kln_infer_state *state, bool enough);         /* false: memory ran out */
void kln_state_status(kln_infer_state *state, kiln_status status); /* keeps the first failure */

/* --- memory --- */
/* Zeroed. NULL if memory ran out, which is recorded, or if long lists were requested too often. */
void *kln_rule_alloc(kln_rule *rule, size_t count, size_t size);

/* --- other modules of inference --- */

/* infer_declare.c: names to values, and their declarations in the model. */
kln_graph_walk *kln_walk_create(kln_infer_state *state, const kln_onnx_graph *graph,
                                kln_graph_inference *parent, const kln_scope *scope);
/* Adds a value. `*before`, which may be NULL: the earlier value of that name, or KLN_NAMES_NONE. */
kln_value *kln_walk_value(kln_infer_state *state, kln_graph_walk *walk, const char *name,
                          uint32_t *index, uint32_t *before);
uint32_t kln_walk_resolve(kln_infer_state *state, kln_graph_walk *walk, const char *name);
void kln_walk_declare(kln_infer_state *state, kln_graph_walk *walk);
void kln_walk_inputs(kln_infer_state *state, kln_graph_walk *walk, const kln_value *const *bound,
                     size_t bound_count);
/* A dimension of that name, or the expression that the name was found to stand for. */
kln_dim kln_state_named_dim(kln_infer_state *state, const char *name);
void kln_state_set_alias(kln_infer_state *state, const char *name, kln_dim dim);
/* The element type of a sequence or optional, with the declared one if none was inferred. */
const kln_value *kln_value_complete(kln_infer_state *state, const kln_value *inferred,
                                    const kln_value *declared);
/* infer_merge.c: compares inferred with declared types. */
void kln_walk_merge(kln_rule *rule, kln_graph_walk *walk, kln_value *value, kln_value *inferred);
void kln_value_from_type(kln_infer_state *state, kln_value *value, const kln_onnx_type *type);
kiln_status kln_state_options(kln_infer_state *state);

/* infer_order.c: registers nodes [first, count) of the graph, and puts them in order. */
void kln_walk_order(kln_infer_state *state, kln_graph_walk *walk, size_t first);

/* infer_node.c */
void kln_infer_node(kln_infer_state *state, kln_graph_walk *walk, uint32_t index);

/* infer_table.c: the rows of an operator in the tables of the families. */
void kln_rule_lookup(const char *domain, const char *name, kln_resolved *resolved);

/* infer_cast.c: checks that attributes which name the type of a computation name a floating-point
 * type. */
void kln_rule_check_precisions(kln_rule *rule);

/* infer_forms.c: whether the inputs' shapes match the form; reports a fault if not. */
bool kln_form_fits(kln_rule *rule, const char *form);

/* infer_nested.c: the results of calling a function, and of a subgraph whose inputs have the types
 * of `bound` (NULL entries: not known). */
void kln_infer_call(kln_rule *rule, const kln_onnx_function *function);
kln_graph_inference *kln_infer_subgraph(kln_rule *rule, const kln_onnx_graph *graph,
                                        kln_branch branch, const kln_value *const *bound,
                                        size_t bound_count);

static inline void kln_value_copy_shape(kln_value *to, const kln_value *from)
{
    to->has_shape = from->has_shape;
    to->rank = from->rank;
    to->dims = from->dims;
}
/* Copies the type of one value to another: kind, dtype, element, and the shape if `shape`. */
void kln_value_copy_type(kln_value *to, const kln_value *from, bool shape);
/* Reduces `to` to what holds for both. */
void kln_value_union(kln_infer_state *state, kln_value *to, const kln_value *from);

/* Reports that `subject` is `found`, a type that the operator does not accept there: an input, or
 * an attribute that names an output's type. A KILN_ISSUE_OPSET if a later version accepts it. */
void kln_rule_wrong_type(kln_rule *rule, bool is_output, size_t index, int32_t type,
                         const char *tensor, const char *subject, const char *found);

#endif
