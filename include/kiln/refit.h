/*
 * refit.h - new weights for an engine that is in use, tried before they are taken.
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
 * A refit checks names, types and sizes first. With samples or a check it then makes another engine
 * with the new weights beside the one in use, runs the samples there, and compares; meanwhile runs
 * go on. Only then the weights change, between runs: each run has the old ones or the new ones. On
 * an error everything is as it was.
 *
 * TensorRT: the weights of a plan that was built with kiln_build_options.refit, by its refitter; it
 * waits for the runs under way, and they wait for it; graphs of old weights are gone, so that the
 * second run after it captures anew. ONNX Runtime (on the CPU) and the reference executor: every
 * initializer of the main graph that holds numbers, by a new session or plan, to which each context
 * goes over with its next run; nobody waits, and runs under way end as they began.
 * Other backends, and ONNX Runtime on a GPU: UNSUPPORTED.
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

/* Weights that can be replaced in an engine. */
typedef struct kiln_refit_weight {
    size_t struct_size; /* sizeof(kiln_refit_weight), set by the caller */
    const char *name;   /* the engine's: until the next refit, or as long as it lives (TensorRT) */
    kiln_dtype dtype;
    int64_t elements;
    kiln_shape shape; /* of the model's; rank -1 of a plan of TensorRT where nobody tells it:
                         neither the model that it was built of in this process, nor its manifest */
    bool missing;     /* the plan lacks them, or the last refit could not be done without them */
    kiln_span values; /* as they are now, not always aligned, as long as `name`; no bytes where the
                         backend does not show them (TensorRT) */
} kiln_refit_weight;

/* How many there are: of TensorRT those that kiln_build_options.refit asked for, by its refitter,
 * which the first call makes; a refit that is under way is waited for. Errors: NULL_ARGUMENT;
 * UNSUPPORTED for a backend that has no refit, and for a plan that was built without it; STATE;
 * BACKEND; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_count(kiln_engine *engine, size_t *count);

/* Weights `index`, from 0. Errors: as kiln_engine_refit_count; INVALID_ARGUMENT past the end or for
 * a struct_size that is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_get(kiln_engine *engine, size_t index,
                                                           kiln_refit_weight *weight);

/* What to try the new weights on. All in host memory, read during the call only. */
typedef struct kiln_refit_sample {
    const kiln_named_tensor *inputs; /* every input of the engine */
    size_t input_count;
    const kiln_named_tensor *expected; /* outputs to compare with, or none */
    size_t expected_count;
} kiln_refit_sample;

/* Judges what the new weights make of sample `index`: every output, in host memory, valid during
 * the call. Anything but KILN_OK refuses the weights, and becomes the status of the refit;
 * `message` (at most 1,023 bytes, may be left as it is) becomes part of its sentence. Called in the
 * thread that refits. */
typedef kiln_status (*kiln_refit_check)(void *user, size_t index, const kiln_named_tensor *outputs,
                                        size_t count, char message[1024]);

/* What was done. */
typedef struct kiln_refit_report {
    size_t struct_size; /* sizeof(kiln_refit_report), set by the caller */
    size_t replaced;    /* weights; 0 where a reader of TensorRT's found them in a model */
    size_t ignored;     /* given, but not the engine's */
    size_t converted;   /* to the type that the engine has them in */
    uint64_t rounded;   /* elements that are not what they were, after that */
    size_t samples;     /* that were run */
    double largest;     /* difference from what was expected, over all of them */
} kiln_refit_report;

typedef struct kiln_refit_options {
    size_t struct_size; /* set by KILN_REFIT_OPTIONS_INIT */
    const kiln_refit_sample *samples;
    size_t sample_count;
    /* |found - expected| <= absolute + relative * |expected|; NaN is NaN. */
    double absolute, relative;
    kiln_refit_check check; /* or NULL */
    void *user;
    /* float16 and bfloat16 are widened as the engine's weights ask. Weights are narrowed where
     * nothing is lost; others are refused with DTYPE, unless this is set: then they are rounded to
     * the nearest, but not past the type's largest. */
    bool allow_rounding;
    bool ignore_unknown; /* weights that the engine does not have are passed over, not refused */
    kiln_refit_report *report; /* filled in on an error too, as far as it came; or NULL */
    /* New weights with a NaN are refused with INVALID_ARGUMENT where the engine's have none, and
     * likewise those with an infinity, unless this is set. What a plan of TensorRT has is known of
     * the model that it was built of in this process, or from its manifest. */
    bool allow_nonfinite;
} kiln_refit_options;

#define KILN_REFIT_OPTIONS(...) KILN_INIT_OF_(kiln_refit_options, __VA_ARGS__)
#define KILN_REFIT_OPTIONS_INIT KILN_INIT_(kiln_refit_options)

/* Replaces weights by name, all of them or none. `weights` are dense tensors in host memory (for
 * TensorRT in device memory, too, where their type is the engine's) and are read during the call
 * only. A shape may be a list, or have other dimensions of 1; one that puts the elements in another
 * order than kiln_refit_weight.shape is refused. `options` may be NULL: nothing is
 * tried. Later runs use the new weights, and so does what is saved: a stripped plan is whole from
 * then on. Errors: as kiln_engine_refit_count; NULL_ARGUMENT;
 * EMPTY for none; NAME (with those there are, or one that is given twice), DTYPE, SIZE, SHAPE;
 * INVALID_ARGUMENT for NaN and infinities (kiln_refit_options.allow_nonfinite);
 * STATE where others are needed together with these, of a stripped plan all: their names are in the
 * sentence, and kiln_refit_weight.missing is set for each; MISMATCH where an output is not what was
 * expected, with the largest difference, or would have another shape or type; what the check
 * returned; those of building and running. Any thread; one refit of an engine at a time. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit(kiln_engine *engine,
                                                       const kiln_named_tensor *weights,
                                                       size_t count,
                                                       const kiln_refit_options *options);

/* The same with the weights of a file: .safetensors, or an ONNX model, which has the names that the
 * engine was built with: for a stripped plan, the model that it was built from. Errors: as
 * kiln_engine_refit, and those of reading a file. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_file(kiln_engine *engine, const char *path,
                                                            const kiln_refit_options *options);

/* The same with such bytes in memory, read during the call only; external weight files of a model
 * are looked for in `folder`, or in the working directory where it is NULL. Errors: as
 * kiln_engine_refit_file; EMPTY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_refit_bytes(kiln_engine *engine, kiln_span bytes,
                                                             const char *folder,
                                                             const kiln_refit_options *options);

#ifdef __cplusplus
}
#endif

#endif
