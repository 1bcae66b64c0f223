/*
 * pipeline.h - several runs in flight at once, in order, to overlap copies and computation.
 *
 * A GPU copies and computes at the same time if it is given independent work: while it computes
 * batch n, batch n + 1 can be copied to it and the results of batch n - 1 back. A pipeline holds a
 * context, a stream and memory for each run that may be in flight:
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
 * Results come in the order in which runs were pushed. Once every context has seen every set of
 * shapes, pushing and popping allocate nothing. On the CPU the same calls work, but a run is done
 * when the push returns: there is nothing to overlap.
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

/* One thread at a time: a call made while another thread is inside fails with KILN_ERROR_BUSY. */
typedef struct kiln_pipeline kiln_pipeline;

typedef struct kiln_pipeline_options {
    size_t struct_size;       /* set by KILN_PIPELINE_OPTIONS_INIT */
    int32_t depth;            /* runs in flight at once; 0: 2; at most 16 */
    int32_t priority;         /* of the streams, as for kiln_stream_create */
    kiln_graph_policy graphs; /* as in kiln_context_options */
    uint64_t graph_bytes;     /* likewise, for each run in flight */
} kiln_pipeline_options;

#define KILN_PIPELINE_OPTIONS(...) KILN_INIT_OF_(kiln_pipeline_options, __VA_ARGS__)
#define KILN_PIPELINE_OPTIONS_INIT KILN_INIT_(kiln_pipeline_options)

/* Creates a pipeline over `engine` and holds a reference to it. `options` may be NULL. On an error
 * `*pipeline` is NULL. Errors: NULL_ARGUMENT, INVALID_ARGUMENT; those of kiln_context_create. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_create(kiln_engine *engine,
                                                          const kiln_pipeline_options *options,
                                                          kiln_pipeline **pipeline);

/* Waits for the runs in flight, discards their results, and destroys the pipeline. Must not run at
 * the same time as another call on it. NULL is allowed. Since 0.1. */
KILN_API void kiln_pipeline_destroy(kiln_pipeline *pipeline);

/* Starts a run with these inputs. Each input of the engine must be named once; those of
 * kiln_engine_optional may be named, for this run. Host memory is copied before this returns.
 * Device memory is used in place and must stay unchanged until the run is popped. An initializer
 * that the backend made a constant is not an input (NAME).
 *
 * Errors: STATE if `depth` runs are in flight (pop one first); NOT_BOUND with the missing input;
 * otherwise as kiln_context_run_tensors. On an error no run is added. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_push(kiln_pipeline *pipeline,
                                                        const kiln_named_tensor *inputs,
                                                        size_t count);

/* Waits for the oldest run and fills in the outputs. An output with data is written there, to host
 * memory of exactly the result's shape and type. An output with data NULL is set to show the
 * pipeline's memory, valid until the next push. Errors: STATE if no run is in flight; NAME, DTYPE,
 * SHAPE, SIZE, UNSUPPORTED for unsuitable outputs, after which the run can still be popped; the
 * error of the run itself, after which it is gone. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_pop(kiln_pipeline *pipeline,
                                                       kiln_named_tensor *outputs, size_t count);

/* Runs in flight: pushed but not popped. 0 for NULL. Since 0.1. */
KILN_API size_t kiln_pipeline_pending(const kiln_pipeline *pipeline);

/* Gives the sum of its contexts' counters. Each push counts as one run, successful or failed,
 * unless it was refused before a run was requested. `graph_reason` is that of any of the contexts,
 * valid until the next push. Errors: as kiln_context_get_counters. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_pipeline_get_counters(kiln_pipeline *pipeline,
                                                                kiln_context_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
