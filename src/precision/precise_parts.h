/* SPDX-License-Identifier: Apache-2.0 */
/* Declarations shared by the passes of this module. Private to it.
 *
 * A pass first analyses and then writes. Every value of every graph gets a precise_value, and every
 * node a precise_node with the decision about it. From these a new graph is made; the old one stays
 * unchanged until everything is done. */
#ifndef PRECISE_PARTS_H
#define PRECISE_PARTS_H

#include "kln_precision.h"
#include "ops/kln_schema.h"

/* TensorProto.DataType of float32. */
#define WIRE_FLOAT 1

struct precise_graph;

typedef struct precise_value {
    const char *name;
    struct precise_graph *graph; /* graph of the value */
    const kln_value *known;      /* NULL: nothing is known */
    bool is_single;              /* a tensor of float32 in the original model */
    bool is_half;                /* in the new model it has the 16-bit type */
    bool is_flexible;            /* a constant or a cast: either type is possible, as the reader
                                    requires */
    bool is_output;              /* an output of its graph */
    bool is_counted;             /* computed from integers only, */
    bool is_shape;               /* or from shapes only */
    bool is_squared;             /* computed from squares that are summed */
    bool is_reduced;             /* read by a sum or a mean */
    bool was_scanned, is_beyond; /* for a constant: whether it exceeds the 16-bit type */
    uint32_t half_reads, single_reads;
    const kln_onnx_tensor *initializer; /* in its graph, and no caller may replace it; or NULL */
    const kln_onnx_node *dequantizes;   /* the node that makes it, in either type, once it is read;
                                           or NULL */
    /* Its names in the new model, in float32 and in the 16-bit type; NULL: not made yet. Both are
     * the same if it was not float32. */
    const char *written[2];
} precise_value;

/* The type that a node requires of an input. */
typedef enum precise_want { WANT_ANY = 0, WANT_SINGLE, WANT_HALF } precise_want;

typedef struct precise_node {
    kiln_precision_reason reason;
    const char *detail; /* the tensor or word that the reason is about, or "" */
    bool is_half;
    bool is_exact;        /* integers pass through it that the 16-bit type cannot hold */
    bool is_gate;         /* or it computes factors of channels, */
    bool is_bytes;        /* or its kernel reads 8-bit numbers, and gives these or an output */
    unsigned char *wants; /* a precise_want for each input */
    struct precise_graph **graphs;
    size_t graph_count;
} precise_node;

typedef struct precise_graph {
    struct precise_graph *parent;
    const char *label; /* "" for the main graph, otherwise "node/attribute" */
    const kln_onnx_graph *graph;
    const kln_graph_inference *known; /* NULL: nothing is known */
    kln_names names;                  /* name of a value -> index in `values` */
    precise_value *values;
    size_t value_count, value_capacity;
    precise_node *nodes;
    bool *half_outputs; /* for each output, whether it is to have the 16-bit type */
    kln_onnx_graph *made;
    struct precise_graph *next; /* in precise_pass.graphs */
} precise_graph;

typedef struct precise_pass {
    kln_onnx_model *model;
    kln_inference *inference;
    const kiln_precision_options *options;
    kiln_precision_report *report;
    kiln_dtype half;
    int32_t half_wire;
    double half_most;  /* the largest number of the 16-bit type */
    double half_least; /* its smallest normal number */
    const char *half_name;
    precise_graph *main, *graphs;
    kln_names used; /* every name of a tensor or node in the model */
    size_t depth;
} precise_pass;

/* --- analysis (precise_look.c) --- */

/* The failure of everything that runs out of memory. */
KILN_MUST_CHECK kiln_status precise_no_memory(void);
KILN_MUST_CHECK kiln_status precise_look(precise_pass *pass, const kln_onnx_graph *graph,
                                         const kln_graph_inference *known, precise_graph *parent,
                                         const char *label, precise_graph **made);
void precise_finish(precise_pass *pass);
/* The value of that name as visible in `graph`, outer graphs included; NULL for "" and for a name
 * that nothing produces. */
precise_value *precise_find(const precise_graph *graph, const char *name);
/* Node number `turn` in an execution order. */
size_t precise_turn(const precise_graph *graph, size_t turn);
const kln_schema *precise_schema(const precise_graph *graph, size_t index);
bool precise_is_constant(const precise_value *value);
/* Marks values and nodes that must stay exact: positions, sums of squares. (precise_exact.c) */
KILN_MUST_CHECK kiln_status precise_mark_exact(precise_graph *graph);

/* Marks nodes that stay because of their neighbours. (precise_gate.c) */
KILN_MUST_CHECK kiln_status precise_mark_kept(const precise_pass *pass, precise_graph *graph);

/* --- decisions (precise_decide.c) --- */

/* For the whole model. */
KILN_MUST_CHECK kiln_status precise_decide_main(precise_pass *pass);
/* The value that node `index` dequantizes, if it is made in the required type when it is read; or
 * NULL. */
precise_value *precise_dequantized(const precise_graph *graph, size_t index);

/* --- writing (precise_write.c) --- */

KILN_MUST_CHECK kiln_status precise_write(precise_pass *pass, precise_graph *graph);
/* Whether a constant has finite numbers beyond the 16-bit type whose value matters. A single such
 * number is a limit or a mask, for which the largest number of the type serves as well. */
bool precise_is_beyond(const precise_pass *pass, precise_value *value);
/* A constant in the 16-bit type; NULL without memory. (precise_weights.c) */
kln_onnx_tensor *precise_convert(precise_pass *pass, const kln_onnx_tensor *tensor,
                                 const char *name);

#endif
