/*
 * context.h - running an engine.
 *
 * A context is one thread's seat at an engine: it holds what is bound to each name, and memory for
 * what is not. Bind once, then run as often as you like; a run copies nothing that lies where the
 * backend can use it, and allocates nothing.
 *
 *     kiln_context *context = NULL;
 *     kiln_context_create(engine, NULL, &context);
 *     kiln_context_bind(context, "image", &image);       // your memory, used as it is
 *     kiln_context_run(context);
 *     kiln_tensor scores;
 *     kiln_context_tensor(context, "scores", &scores);   // valid until the next run
 *     kiln_context_destroy(context);
 *
 * A context may move between threads but is used by one at a time: a call that finds another thread
 * inside fails with KILN_ERROR_BUSY and changes nothing.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CONTEXT_H
#define KILN_CONTEXT_H

#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_context kiln_context;

typedef struct kiln_context_options {
    size_t struct_size; /* set by KILN_CONTEXT_OPTIONS_INIT */
} kiln_context_options;

#define KILN_CONTEXT_OPTIONS_INIT \
    ((kiln_context_options){.struct_size = sizeof(kiln_context_options)})

/* Makes a context over `engine`, which it keeps alive. `options` may be NULL. On an error
 * `*context` is NULL. Errors: NULL_ARGUMENT, INVALID_ARGUMENT, OUT_OF_MEMORY, BACKEND. Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_create(kiln_engine *engine,
                                                         const kiln_context_options *options,
                                                         kiln_context **context);

/* Destroys it and gives its reference to the engine back. Must not run at the same time as another
 * call on it. NULL is allowed. Since 0.1. */
KILN_API void kiln_context_destroy(kiln_context *context);

/* Uses the caller's memory for input or output `name`, without a copy, until it is bound again or
 * the context is destroyed; the memory must live that long. An input is read in each run, an output
 * written. The tensor's shape becomes the binding's. A tensor with data NULL and bytes 0 takes the
 * binding back: the context provides the memory again.
 *
 * Errors: NULL_ARGUMENT; NAME (with the names there are); DTYPE, RANK, SHAPE (which dimension,
 * expected, found); SIZE (too few bytes); ALIGNMENT; UNSUPPORTED (location, format or strides the
 * backend cannot take); BUSY. The old binding stays on an error. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind(kiln_context *context, const char *name,
                                                       const kiln_tensor *tensor);

/* Gives input `name` a shape and lets the context provide its memory, which kiln_context_tensor
 * then shows, zeroed. An input whose shape is fixed needs no call. A caller's memory bound to the
 * name is let go. Errors: NULL_ARGUMENT, NAME, RANK, SHAPE (no dimension may be KILN_DYNAMIC),
 * LIMIT, OUT_OF_MEMORY, BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_reshape(kiln_context *context, const char *name,
                                                          const kiln_shape *shape);

/* Where the bytes of `name` are now. For an input: what is bound, or the context's own memory, to
 * be filled before a run. For an output: the result of the last run, valid until the next run, bind
 * or reshape of this context. Errors: NULL_ARGUMENT; NAME; NOT_BOUND for an input whose shape is
 * not known yet; STATE for an output before the first run or after one that failed; DTYPE for a
 * string; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_tensor(kiln_context *context, const char *name,
                                                         kiln_tensor *tensor);

/* Runs once and returns when every output is there. Errors: NOT_BOUND with the input's name;
 * BACKEND with its own message; OUT_OF_MEMORY; BUSY. After an error the bindings are as before and
 * the context can be used again. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run(kiln_context *context);

/* Binds the inputs, runs, and fills in the outputs, in one call. An output with data is written
 * there; one with data NULL is set to show the context's memory, as kiln_context_tensor would.
 * Inputs not named keep what is bound. All arguments are checked before anything changes. Errors:
 * as kiln_context_bind and kiln_context_run; NAME also for one that is named twice. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_tensors(kiln_context *context,
                                                              const kiln_named_tensor *inputs,
                                                              size_t input_count,
                                                              kiln_named_tensor *outputs,
                                                              size_t output_count);

/* How warm a warmup made it. Times are wall-clock nanoseconds of one kiln_context_run each. */
typedef struct kiln_warmup_summary {
    size_t struct_size;         /* sizeof(kiln_warmup_summary), set by the caller */
    uint64_t runs;              /* how many were made */
    uint64_t first_nanoseconds; /* the first: what a cold start costs */
    uint64_t minimum_nanoseconds;
    uint64_t median_nanoseconds; /* of the second half of the runs: what to expect from now on */
    uint64_t total_nanoseconds;
} kiln_warmup_summary;

/* Runs with what is bound until `runs` runs are made or `milliseconds` have passed, whichever comes
 * first, but at least once; 0 means no limit of that kind, and both 0 means 10 runs. `summary` may
 * be NULL. Errors: as kiln_context_run. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs,
                                                         uint64_t milliseconds,
                                                         kiln_warmup_summary *summary);

/* What a context did so far. */
typedef struct kiln_context_counters {
    size_t struct_size;   /* sizeof(kiln_context_counters), set by the caller */
    uint64_t runs;        /* that worked */
    uint64_t failed_runs; /* that did not */
    uint64_t binds;       /* times that a binding was handed to the backend anew */
    uint64_t bytes_owned; /* memory of the context for bindings that the caller did not provide */
} kiln_context_counters;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_get_counters(kiln_context *context,
                                                               kiln_context_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
