/* SPDX-License-Identifier: Apache-2.0 */
/* The parts of a refit. Private to this module. */
#ifndef KLN_REFIT_PARTS_H
#define KLN_REFIT_PARTS_H

#include <kiln/refit.h>

#include "engine/kln_engine.h"

/* Where new weights come from: a list, the bytes of a file, or a model that the backend reads. */
typedef struct kln_refit_source {
    const kiln_named_tensor *weights;
    size_t count;
    const kiln_model *model; /* of a file or bytes; or NULL */
    bool is_read_by_backend; /* then `weights` are none */
} kln_refit_source;

/* The weights as the engine takes them. */
typedef struct kln_refit_weights {
    kln_arena arena;
    struct kln_onnx_model *model; /* whose spans some are; or NULL */
    kiln_named_tensor *items;
    size_t count;
} kln_refit_weights;

/* Finds each of the source's weights among the engine's and brings it to the engine's type; counts
 * in `report`. NAME, INVALID_ARGUMENT, DTYPE, SIZE, SHAPE, EMPTY and those of reading. To be
 * finished in any case. */
KILN_MUST_CHECK kiln_status kln_refit_weights_make(kiln_engine *engine,
                                                   const kln_refit_source *source,
                                                   const kiln_refit_options *options,
                                                   kiln_refit_report *report,
                                                   kln_refit_weights *weights);
/* What kln_refit_weights_make does not see, because the backend reads the model: SHAPE where one of
 * its weights has another than the engine's, INVALID_ARGUMENT where one is not finite. */
KILN_MUST_CHECK kiln_status kln_refit_check_model(const kiln_engine *engine,
                                                  const kiln_model *model,
                                                  const kiln_refit_options *options);
void kln_refit_weights_finish(kln_refit_weights *weights);

/* Runs the samples on an engine that has the new weights, and judges what comes of them. */
KILN_MUST_CHECK kiln_status kln_refit_try(kiln_engine *trial, const kiln_refit_options *options,
                                          kiln_refit_report *report);

#endif
