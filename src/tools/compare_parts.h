/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a comparison of two engines. Private to this module. */
#ifndef KLN_COMPARE_PARTS_H
#define KLN_COMPARE_PARTS_H

#include <kiln/compare.h>
#include <kiln/context.h>

#include "base/kln_base.h"
#include "engine/kln_engine.h"
#include "onnx/kln_onnx.h"
#include "ops/kln_ops.h"

struct kiln_comparison {
    kln_arena arena; /* names, and the differences themselves */
    kiln_tensor_difference *outputs;
    size_t count;
    kiln_tensor_difference *first; /* or NULL */
    size_t intermediate_count;
    bool passes;
};

/* --- steps of quantized tensors (compare_steps.c) --- */

/* The distance between adjacent values of a quantized tensor. */
typedef struct kln_compare_steps {
    const double *scales;
    size_t count;        /* 0: not quantized, or not known */
    int64_t axis, block; /* if there are several; block 0: none */
    int64_t length, inner;
} kln_compare_steps;

/* Whether any node of the main graph quantizes or dequantizes. */
bool kln_compare_has_steps(const kln_onnx_model *model);
/* The steps of a value from a DequantizeLinear with constant scales, from a node that rounds to
 * small integers, or from nodes that only move such numbers. The scales are in the arena. */
KILN_MUST_CHECK kiln_status kln_compare_steps_of(const kln_graph_inference *graph, uint32_t value,
                                                 kln_arena *arena, kln_compare_steps *steps);
/* Call before kln_compare_step_at: sets the tensor's shape. Scales that do not match are
 * dropped. */
void kln_compare_steps_fit(kln_compare_steps *steps, const kiln_shape *shape);
/* The step of an element, in row-major order. */
double kln_compare_step_at(const kln_compare_steps *steps, int64_t index);

/* --- comparing numbers (compare_tensor.c) --- */

/* Sets everything but the names. Both tensors are dense, in host memory. `steps` are fitted to the
 * shape. */
KILN_MUST_CHECK kiln_status kln_compare_tensor(const kiln_tensor *found,
                                               const kiln_tensor *expected,
                                               const kiln_compare_options *options,
                                               kln_compare_steps *steps,
                                               kiln_tensor_difference *difference);

/* --- the inputs (compare_inputs.c) --- */

typedef struct kln_compare_inputs {
    kiln_named_tensor *tensors; /* the inputs of both engines, and given inputs with a value of
                                   their own */
    bool *is_owned;             /* allocated here */
    size_t count;
} kln_compare_inputs;

/* Finds or makes the data of every input. On an error nothing is left. */
KILN_MUST_CHECK kiln_status kln_compare_inputs_make(kiln_engine *const engines[2],
                                                    const kiln_compare_options *options,
                                                    kln_compare_inputs *inputs);
void kln_compare_inputs_finish(kln_compare_inputs *inputs); /* a zeroed one is allowed */

/* --- running both (compare.c) --- */

typedef struct kln_compare_builds {
    kiln_build_options found, expected;
} kln_compare_builds;

/* Runs each engine on its inputs; the contexts hold the results until the caller destroys them. On
 * an error there are none. */
KILN_MUST_CHECK kiln_status kln_compare_run(kiln_engine *const engines[2],
                                            const kln_compare_inputs *const inputs[2],
                                            kiln_context *contexts[2]);
/* Compares tensor `name` of the two contexts. */
KILN_MUST_CHECK kiln_status kln_compare_output(kiln_context *const contexts[2], const char *name,
                                               const kiln_compare_options *options,
                                               kln_compare_steps *steps,
                                               kiln_tensor_difference *difference);

/* --- running a network in parts (compare_cut.c) --- */

/* A network is run part by part. Tensors that later parts read are kept, as each of the two
 * backends computed them, and become inputs of those parts, so a part costs only its own nodes.
 * Values that cannot be kept (strings, sequences, types without a kiln_dtype) are computed again
 * from kept ones. */

typedef struct kln_cut_kept {
    kiln_tensor tensors[2];
    bool is_kept;
} kln_cut_kept;

/* Where the main graph has a value: an index of the list, or UINT32_MAX. */
enum {
    KLN_CUT_INPUT,
    KLN_CUT_INITIALIZER,
    KLN_CUT_SPARSE,
    KLN_CUT_INFO,
    KLN_CUT_GIVEN, /* of `given` */
    KLN_CUT_PLACES
};

typedef struct kln_cut {
    kln_onnx_model *model; /* its graph is a part while an engine is built */
    kln_onnx_graph whole;  /* its graph otherwise */
    const kln_graph_inference *graph;
    kln_arena *arena;
    const kln_compare_inputs *given;
    bool failed;         /* memory ran out */
    uint32_t *positions; /* of each node in an execution order, */
    uint32_t *order;     /* and the node at each position */
    uint32_t *reads;     /* values that nodes read, in subgraphs too, by position */
    size_t read_count, read_capacity;
    size_t *first_read;    /* of each position, and one more */
    uint32_t *last_reader; /* of each value: a position */
    uint32_t *places[KLN_CUT_PLACES];
    kln_cut_kept *kept; /* of each value */
    uint32_t *live;     /* the values kept */
    size_t live_count;
    uint32_t *chosen; /* positions of the part */
    size_t chosen_count;
    uint32_t last; /* last position of the part */
    uint32_t stamp, mark;
    uint32_t *node_marks, *value_marks;
    kln_onnx_node *nodes; /* room for the graph of a part */
    kln_onnx_value *inputs, *outputs, *infos;
    kln_onnx_tensor *initializers;
    kiln_span *sparse;
    const char **sparse_names;
    kiln_named_tensor *bound[2]; /* inputs of the part, for each engine */
    size_t bound_count[2];
} kln_cut;

/* Everything but the kept tensors is in the inference. */
KILN_MUST_CHECK kiln_status kln_cut_init(kln_cut *cut, kln_onnx_model *model,
                                         kln_inference *inference,
                                         const kln_compare_inputs *inputs);
void kln_cut_finish(kln_cut *cut);
/* Builds the nodes at positions `first` to `last` with the outputs `values`, for each side; on an
 * error the caller releases what exists. `bound` is then the input of each engine. */
KILN_MUST_CHECK kiln_status kln_cut_build(kln_cut *cut, const uint32_t *values, size_t count,
                                          uint32_t first, uint32_t last,
                                          const kln_compare_builds *builds,
                                          kiln_engine *engines[2]);
/* Keeps a newly computed value if something after the part reads it. */
KILN_MUST_CHECK kiln_status kln_cut_keep(kln_cut *cut, uint32_t value,
                                         kiln_context *const contexts[2]);
/* Frees values that nothing after the part reads. Not while an engine of the part lives. */
void kln_cut_forget(kln_cut *cut);

/* --- the first difference (compare_nodes.c) --- */

/* Looks at the intermediate tensors of the main graph, which is exchanged meanwhile. */
KILN_MUST_CHECK kiln_status kln_compare_nodes(kln_onnx_model *model,
                                              const kln_compare_builds *builds,
                                              const kln_compare_inputs *inputs,
                                              const kiln_compare_options *options,
                                              kiln_comparison *comparison);

#endif
