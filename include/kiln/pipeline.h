/*
 * pipeline.h - several runs under way at once, in order.
 *
 * A GPU copies and computes at the same time, if it is given work that does not wait for each
 * other: while it computes batch n, batch n + 1 can be copied to it and the results of batch n - 1
 * back. A pipeline holds a context, a stream and memory for each run that may be under way:
 *
 *     kiln_pipeline *pipeline = NULL;
 *     kiln_pipeline_create(engine, NULL, &pipeline);                // two runs at once
 *     kiln_pipeline_push(pipeline, &batch[0], 1);
 *     for (n = 1; n < count; n++) {
 *         kiln_pipeline_push(pipeline, &batch[n], 1);               // copied, and on its way
 *         kiln_pipeline_pop(pipeline, &scores, 1);                  // of batch n - 1
 *     }
 *     kiln_pipeline_pop(pipeline, &scores, 1);
 *
 * On the CPU the same calls work and a run is done when it was pushed: there is nothing to overlap.
 * Results come in the order in which runs were pushed. Once every set of shapes was seen by every
 * context, pushing and popping allocate nothing.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_PIPELINE_H
#define KILN_PIPELINE_H

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

/* One thread at a time: a call that finds another inside fails with KILN_ERROR_BUSY. */
typedef struct kiln_pipeline kiln_pipeline;

typedef struct kiln_pipeline_options {
    size_t struct_size;       /* set by KILN_PIPELINE_OPTIONS_INIT */
    int32_t depth;            /* runs under way at once; 0: 2; at most 16 */
    int32_t priority;         /* of the streams, as for kiln_stream_create */
    kiln_graph_policy graphs; /* as in kiln_context_options */
    uint64_t graph_bytes;     /* likewise, for each of the runs under way */
} kiln_pipeline_options;

#define KILN_PIPELINE_OPTIONS(...) KILN_INIT_OF_(kiln_pipeline_options, __VA_ARGS__)
#define KILN_PIPELINE_OPTIONS_INIT KILN_INIT_(kiln_pipeline_options)

/* Makes one over `engine`, which it keeps alive. `options` may be NULL. On an error `*pipeline` is
 * NULL. Errors: NULL_ARGUMENT, INVALID_ARGUMENT; those of kiln_context_create. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_create(kiln_engine *engine,
                                                          const kiln_pipeline_options *options,
                                                          kiln_pipeline **pipeline);

/* Waits for what is under way and forgets it. Must not run at the same time as another call on it.
 * NULL is allowed. Since 0.1. */
KILN_API void kiln_pipeline_destroy(kiln_pipeline *pipeline);

/* Starts a run with these inputs: each input of the engine must be named once, and those of
 * kiln_engine_optional may be, for this run. What lies in host memory is copied before this
 * returns; device memory is used where it lies and must stay as it is until the run was popped. An
 * initializer of which the backend made a constant is no input (NAME). Errors: STATE when `depth`
 * runs are under way (pop one first); NOT_BOUND with the input that is missing; otherwise as
 * kiln_context_run_tensors. On an error nothing is under way that was not before. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_push(kiln_pipeline *pipeline,
                                                        const kiln_named_tensor *inputs,
                                                        size_t count);

/* Waits for the oldest run and fills in the outputs. One with data is written there, to host memory
 * of the very shape and type; one with data NULL is set to show the pipeline's memory, which is
 * valid until the next push. Errors: STATE when nothing is under way; NAME, DTYPE, SHAPE, SIZE,
 * UNSUPPORTED for outputs that do not fit, and then the run can still be popped; what the run
 * itself failed with, and then it is gone. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_pop(kiln_pipeline *pipeline,
                                                       kiln_named_tensor *outputs, size_t count);

/* Runs under way: pushed and not popped. 0 for NULL. Since 0.1. */
KILN_API size_t kiln_pipeline_pending(const kiln_pipeline *pipeline);

/* The counters of its contexts, added up: a push is one run, that worked or failed, but for those
 * that were refused before a run was asked for; `graph_reason` is any of theirs, valid until the
 * next push. Errors: as kiln_context_get_counters. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_get_counters(kiln_pipeline *pipeline,
                                                                kiln_context_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
