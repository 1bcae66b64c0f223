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
    struct precise_graph *graph; /* whose value it is */
    const kln_value *known;      /* NULL: nothing is */
    bool is_single;              /* a tensor of float32 in the model as it was */
    bool is_half;                /* and of the half type in the one that is made */
    bool is_flexible;            /* a constant or a cast: may be of either, whoever reads it says */
    bool is_output;              /* of its graph */
    bool is_counted;             /* computed from whole numbers alone, */
    bool is_shape;               /* and those from shapes alone */
    bool is_squared;             /* of squares that are summed up */
    bool is_reduced;             /* read by a sum or a mean */
    bool was_scanned, is_beyond; /* a constant: whether the half type is too small for it */
    uint32_t half_reads, single_reads;
    const kln_onnx_tensor *initializer; /* of its graph, that no caller may replace, or NULL */
    const kln_onnx_node *dequantizes;   /* makes it, in either type, once it is read; or NULL */
    /* What it is called in the model that is made, in float32 and in the half type; NULL: there is
     * none yet. Where it was no float32, both are the same. */
    const char *written[2];
} precise_value;

/* What a node wants of an input. */
typedef enum precise_want { WANT_ANY = 0, WANT_SINGLE, WANT_HALF } precise_want;

typedef struct precise_node {
    kiln_precision_reason reason;
    const char *detail; /* the tensor or word that the reason is about, or "" */
    bool is_half;
    bool is_exact;        /* whole numbers go through it that the half type does not hold */
    bool is_gate;         /* or it makes factors of channels, */
    bool is_bytes;        /* or its kernel reads bytes, and gives them or an output */
    unsigned char *wants; /* a precise_want for each input */
    struct precise_graph **graphs;
    size_t graph_count;
} precise_node;

typedef struct precise_graph {
    struct precise_graph *parent;
    const char *label; /* "" for the main graph, else "node/attribute" */
    const kln_onnx_graph *graph;
    const kln_graph_inference *known; /* NULL: nothing is */
    kln_names names;                  /* of values, to their place in `values` */
    precise_value *values;
    size_t value_count, value_capacity;
    precise_node *nodes;
    bool *half_outputs; /* of each output, what its type is to be */
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
    double half_most;  /* the largest number of the half type */
    double half_least; /* the smallest normal one */
    const char *half_name;
    precise_graph *main, *graphs;
    kln_names used; /* every name of a tensor or node in the model */
    size_t depth;
} precise_pass;

/* --- looking (precise_look.c) --- */

/* All that runs out of memory says so. */
KILN_MUST_CHECK kiln_status precise_no_memory(void);
KILN_MUST_CHECK kiln_status precise_look(precise_pass *pass, const kln_onnx_graph *graph,
                                         const kln_graph_inference *known, precise_graph *parent,
                                         const char *label, precise_graph **made);
void precise_finish(precise_pass *pass);
/* The value of that name as `graph` sees it, outer graphs included; NULL for "" and a name that
 * nobody makes. */
precise_value *precise_find(const precise_graph *graph, const char *name);
/* Node number `turn` in an order that can run. */
size_t precise_turn(const precise_graph *graph, size_t turn);
const kln_schema *precise_schema(const precise_graph *graph, size_t index);
bool precise_is_constant(const precise_value *value);
/* Marks values and nodes that are to stay exact: positions, sums of squares. (precise_exact.c) */
KILN_MUST_CHECK kiln_status precise_mark_exact(precise_graph *graph);

/* Marks what stays for what lies around it. (precise_gate.c) */
KILN_MUST_CHECK kiln_status precise_mark_kept(const precise_pass *pass, precise_graph *graph);

/* --- deciding (precise_decide.c) --- */

/* All of the model. */
KILN_MUST_CHECK kiln_status precise_decide_main(precise_pass *pass);
/* What node `index` dequantizes, where that is made in the type that is read once it is; or NULL.
 */
precise_value *precise_dequantized(const precise_graph *graph, size_t index);

/* --- writing (precise_write.c) --- */

KILN_MUST_CHECK kiln_status precise_write(precise_pass *pass, precise_graph *graph);
/* Whether a constant has finite numbers beyond the half type that mean what they say. One number
 * alone that large is a limit or a mask, which the largest of the type serves as well. */
bool precise_is_beyond(const precise_pass *pass, precise_value *value);
/* A constant in the half type: NULL without memory. (precise_weights.c) */
kln_onnx_tensor *precise_convert(precise_pass *pass, const kln_onnx_tensor *tensor,
                                 const char *name);

#endif
