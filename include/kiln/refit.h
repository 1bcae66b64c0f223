/*
 * refit.h - replacing the weights of an engine in use, after trying the new ones.
 *
 *     kiln_refit_sample sample = {.inputs = inputs, .input_count = 1,
 *                                 .expected = answers, .expected_count = 1};
 *     kiln_refit_options options = KILN_REFIT_OPTIONS_INIT;
 *     options.samples = &sample;
 *     options.sample_count = 1;
 *     options.absolute = 1e-3;
 *     if (kiln_engine_refit_file(engine, "new.safetensors", &options) != KILN_OK) {
 *         // the engine is as it was, bit for bit, and contexts never saw anything else
 *     }
 *
 * A refit first checks names, types and sizes. With samples or a check, it then makes a second
 * engine with the new weights, runs the samples on it, and compares the outputs; runs on the engine
 * in use continue meanwhile. Only then are the weights replaced, between runs: each run has either
 * the old weights or the new ones. On an error everything is as it was.
 *
 * - TensorRT: replaces the weights of a plan built with kiln_build_options.refit, with TensorRT's
 *   refitter. The refit waits for runs in progress, and new runs wait for it. Graphs captured with
 *   the old weights are dropped, so the second run after the refit captures again.
 * - ONNX Runtime (on the CPU) and the reference executor: replace any numeric initializer of the
 *   main graph, by making a new session or plan. Each context switches to it with its next run.
 *   Nobody waits, and runs in progress finish with the old weights.
 * - Other backends, and ONNX Runtime on a GPU: UNSUPPORTED.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_REFIT_H
#define KILN_REFIT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Weights of an engine that can be replaced. */
typedef struct kiln_refit_weight {
    size_t struct_size; /* sizeof(kiln_refit_weight), set by the caller */
    const char *name;   /* owned by the engine, valid until the next refit, or as long as the engine
                           (TensorRT) */
    kiln_dtype dtype;
    int64_t elements;
    kiln_shape shape; /* shape in the model; rank -1 for a TensorRT plan if neither the model it was
                         built from in this process nor its manifest gives it */
    bool missing;     /* the plan lacks these weights, or the last refit needed them as well */
    kiln_span values; /* current values, not always aligned, valid as long as `name`; empty if the
                         backend does not show them (TensorRT) */
} kiln_refit_weight;

/* Gives the number of weights that can be replaced. For TensorRT these are the weights that
 * kiln_build_options.refit selected, as its refitter reports them; the first call makes the
 * refitter. Waits for a refit in progress. Errors: NULL_ARGUMENT; UNSUPPORTED for a backend without
 * refit, and for a plan built without it; STATE; BACKEND; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_count(kiln_engine *engine, size_t *count);

/* Describes weights `index`, from 0. Errors: as kiln_engine_refit_count; INVALID_ARGUMENT if
 * `index` is past the end or struct_size is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_get(kiln_engine *engine, size_t index,
                                                           kiln_refit_weight *weight);

/* Input to try the new weights on. All tensors are in host memory and read during the call only. */
typedef struct kiln_refit_sample {
    const kiln_named_tensor *inputs; /* every input of the engine */
    size_t input_count;
    const kiln_named_tensor *expected; /* outputs to compare with; may be empty */
    size_t expected_count;
} kiln_refit_sample;

/* Judges the outputs of sample `index` with the new weights: every output, in host memory, valid
 * during the call. Any result but KILN_OK rejects the weights and becomes the status of the refit.
 * `message` (at most 1,023 bytes, may be left unchanged) becomes part of its sentence. Called in
 * the thread that refits. */
typedef kiln_status (*kiln_refit_check)(void *user, size_t index, const kiln_named_tensor *outputs,
                                        size_t count, char message[1024]);

/* What a refit did. */
typedef struct kiln_refit_report {
    size_t struct_size; /* sizeof(kiln_refit_report), set by the caller */
    size_t replaced;    /* weights replaced; 0 if TensorRT's own parser found them in a model */
    size_t ignored;     /* given weights that the engine does not have */
    size_t converted;   /* weights converted to the engine's type */
    uint64_t rounded;   /* elements whose value changed in the conversion */
    size_t samples;     /* samples run */
    double largest;     /* largest difference from the expected outputs, over all samples */
} kiln_refit_report;

typedef struct kiln_refit_options {
    size_t struct_size; /* set by KILN_REFIT_OPTIONS_INIT */
    const kiln_refit_sample *samples;
    size_t sample_count;
    /* An output passes if |found - expected| <= absolute + relative * |expected|; NaN equals
     * NaN. */
    double absolute, relative;
    kiln_refit_check check; /* or NULL */
    void *user;
    /* float16 and bfloat16 are widened to the engine's type. Weights are narrowed if nothing is
     * lost. Otherwise they are refused with DTYPE, unless this is set: then they are rounded to the
     * nearest value, limited to the type's largest. */
    bool allow_rounding;
    bool ignore_unknown; /* skip weights that the engine does not have, instead of refusing them */
    kiln_refit_report *report; /* filled in as far as the refit came, on an error too; or NULL */
    /* New weights with a NaN are refused with INVALID_ARGUMENT if the engine's have none, and
     * likewise for infinities, unless this is set. For a TensorRT plan, what the engine has is
     * known from the model it was built from in this process, or from its manifest. */
    bool allow_nonfinite;
} kiln_refit_options;

#define KILN_REFIT_OPTIONS(...) KILN_INIT_OF_(kiln_refit_options, __VA_ARGS__)
#define KILN_REFIT_OPTIONS_INIT KILN_INIT_(kiln_refit_options)

/* Replaces weights by name, all of them or none. Later runs use the new weights, and so does a
 * later save: a stripped plan is complete from then on. `options` may be NULL: nothing is tried.
 *
 * `weights` are dense tensors in host memory, read during the call only. For TensorRT they may be
 * in device memory too, if they have the engine's type. A shape may be flat, or differ in
 * dimensions of 1; a shape that implies another order of elements than kiln_refit_weight.shape is
 * refused.
 *
 * Errors: as kiln_engine_refit_count; NULL_ARGUMENT; EMPTY without weights; NAME (with the names
 * that exist, or a name given twice), DTYPE, SIZE, SHAPE; INVALID_ARGUMENT for NaN and infinities
 * (kiln_refit_options.allow_nonfinite); STATE if other weights must be replaced together with
 * these, which for a stripped plan are all: the sentence names them, and kiln_refit_weight.missing
 * is set for each; MISMATCH if an output differs from the expected one, with the largest
 * difference, or would have another shape or type; the status of the check; those of building and
 * running. Any thread; one refit of an engine at a time. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit(kiln_engine *engine,
                                                       const kiln_named_tensor *weights,
                                                       size_t count,
                                                       const kiln_refit_options *options);

/* Like kiln_engine_refit, with the weights of a file: .safetensors, or an ONNX model with the names
 * that the engine was built with. For a stripped plan that is the model it was built from. Errors:
 * as kiln_engine_refit, and those of reading a file. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_file(kiln_engine *engine, const char *path,
                                                            const kiln_refit_options *options);

/* Like kiln_engine_refit_file, from bytes in memory, read during the call only. External weight
 * files of a model are looked for in `folder`, or in the working directory if that is NULL. Errors:
 * as kiln_engine_refit_file; EMPTY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_bytes(kiln_engine *engine, kiln_span bytes,
                                                             const char *folder,
                                                             const kiln_refit_options *options);

#ifdef __cplusplus
}
#endif

#endif
