/*
 * compare_parts.h - what a comparison of two engines is made of. Private to the room.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_COMPARE_PARTS_H
#define KLN_COMPARE_PARTS_H

#include <kiln/compare.h>
#include <kiln/context.h>

#include "base/kln_base.h"
#include "onnx/kln_onnx.h"

struct kiln_comparison {
    kln_arena arena; /* names, and the differences themselves */
    kiln_tensor_difference *outputs;
    size_t count;
    kiln_tensor_difference *first; /* or NULL */
    size_t inner_count;
    bool passes;
};

/* --- the numbers (compare_tensor.c) --- */

/* Fills in everything but the names. Both lie in host memory and are dense. */
KILN_MUST_CHECK kiln_status kln_compare_tensors(const kiln_tensor *found,
                                                const kiln_tensor *expected,
                                                const kiln_compare_options *options,
                                                kiln_tensor_difference *difference);

/* --- the inputs (compare_inputs.c) --- */

typedef struct kln_compare_inputs {
    kiln_named_tensor *tensors; /* one for each input of the engine, in its order */
    bool *is_owned;             /* made here */
    size_t count;
} kln_compare_inputs;

/* Finds or makes the data of every input. On an error nothing is left. */
KILN_MUST_CHECK kiln_status kln_compare_inputs_make(const kiln_engine *engine,
                                                    const kiln_compare_options *options,
                                                    kln_compare_inputs *inputs);
void kln_compare_inputs_finish(kln_compare_inputs *inputs); /* a zeroed one is allowed */

/* --- running both (compare.c) --- */

typedef struct kln_compare_builds {
    kiln_build_options found, expected;
} kln_compare_builds;

/* Runs both engines on the inputs; the contexts hold the results until the caller destroys them.
 * On an error there are none. */
KILN_MUST_CHECK kiln_status kln_compare_run(kiln_engine *const engines[2],
                                            const kln_compare_inputs *inputs,
                                            kiln_context *contexts[2]);
/* Compares tensor `name` of the two contexts. */
KILN_MUST_CHECK kiln_status kln_compare_output(kiln_context *const contexts[2], const char *name,
                                               const kiln_compare_options *options,
                                               kiln_tensor_difference *difference);

/* --- the first difference (compare_nodes.c) --- */

/* Looks at the inner tensors of the main graph, whose outputs are exchanged meanwhile. */
KILN_MUST_CHECK kiln_status kln_compare_nodes(kln_onnx_model *model,
                                              const kln_compare_builds *builds,
                                              const kln_compare_inputs *inputs,
                                              const kiln_compare_options *options,
                                              kiln_comparison *comparison);

#endif
