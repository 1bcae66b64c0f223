/*
 * context.h - running an engine.
 *
 * A context is what one thread runs an engine with: it holds what is bound to each name, and memory
 * for what is not. Bind once, then run as often as you like; a run copies nothing that lies where
 * the backend can use it (a backend may copy inputs of up to 256 bytes), and allocates nothing.
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
 * Over an engine that computes on a GPU the same calls work the same way, and host memory is
 * copied there and back. What is bound decides what a run costs: memory in pinned pages (a
 * kiln_buffer, or the context's own) is read and written by the GPU without a copy by the host,
 * device memory without any copy. The second run with the same shapes captures copies and kernels
 * as one CUDA graph, where that can be done, and later ones replay it; kiln_context_get_counters
 * says whether, and why not. The capture makes that run longer by the time of some more runs, and
 * for a network of many layers by tenths of a second: kiln_context_warmup has it done before.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_CONTEXT_H
#define KILN_CONTEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/system.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_context kiln_context;

/* Whether runs on a GPU are captured into CUDA graphs, one for each set of shapes. */
typedef enum kiln_graph_policy {
    KILN_GRAPH_AUTOMATIC = 0, /* at the second run of a set of shapes, where it can be done */
    KILN_GRAPH_OFF = 1,       /* never */
    KILN_GRAPH_REQUIRED = 2   /* at the first run; one that cannot be captured fails and says why */
} kiln_graph_policy;

/* When TensorRT-RTX compiles kernels for shapes that it meets. */
typedef enum kiln_kernel_specialization {
    KILN_KERNELS_DEFAULT = 0, /* the library's: lazy */
    KILN_KERNELS_LAZY = 1,    /* in the background; general kernels run meanwhile */
    KILN_KERNELS_EAGER = 2,   /* at once: the first run with new shapes waits */
    KILN_KERNELS_GENERAL = 3  /* never: general kernels only */
} kiln_kernel_specialization;

typedef struct kiln_context_options {
    size_t struct_size; /* set by KILN_CONTEXT_OPTIONS_INIT */

    /* For engines on a GPU (kiln_engine_device); over others anything but 0 and OFF is refused. */
    kiln_graph_policy graphs;
    uint64_t graph_bytes; /* what graphs and the staging buffers of all sets of shapes may take, in
                             bytes of device and pinned memory together; the graphs of shapes that
                             are used more often stay. 0: a sixteenth of the GPU's memory, and
                             256 MiB at least */
    kiln_stream *stream;  /* runs are ordered into this stream of the caller's, which must outlive
                             the context; NULL: a stream of Kiln's */
    int32_t priority;     /* of that stream of Kiln's, as for kiln_stream_create; the kernels of a
                             captured graph have it, too. INVALID_ARGUMENT with `stream`, and where
                             contexts share one (share_device_memory) */
    bool overlap_copies;  /* for throughput: copies from and to host memory go to two other streams,
                             which contexts of the engine over one `stream` share, so that they pass
                             under the kernels of another of these; they do not wait for what is on
                             `stream`, kernels do. A run by itself takes some microseconds longer */

    /* TensorRT's; a backend or version that lacks one refuses it by name with UNSUPPORTED. */
    bool share_device_memory;        /* contexts with this over one engine and one `stream` (NULL:
                                        one of the engine's) have one block of memory for what lies
                                        between inputs and outputs; their runs come one after the
                                        other on that stream */
    uint64_t persistent_cache_bytes; /* of the GPU's L2 cache set aside for activations */
    const char *runtime_cache;       /* TensorRT-RTX: a file of kernels that were compiled before,
                                        read where it exists; kiln_context_save_runtime_cache */
    kiln_kernel_specialization kernel_specialization; /* TensorRT-RTX */
    kiln_switch rtx_graphs; /* TensorRT-RTX: on: it captures whole runs into CUDA graphs itself */

    /* Limits of each run, for models that are not trusted; UNSUPPORTED where the backend cannot
     * keep them. A context that a run was stopped in can be used as before. */
    uint64_t run_milliseconds; /* past it a run ends with TIMEOUT, as soon as the backend can stop
                                  (kiln_context_cancel); one thread of Kiln's watches over it.
                                  Backends reference and onnxruntime; on a GPU with stop_waiting
                                  only. 0: none */
    uint64_t run_memory_bytes; /* that intermediate tensors and outputs in the context's memory may
                                  take; past it a run ends with LIMIT. Backend reference. 0: none */
    bool stop_waiting; /* on a GPU: kiln_context_cancel and run_milliseconds end the wait for a run.
                          What the GPU was given runs to its end all the same, and reads and writes
                          device memory that is bound; until then the context refuses every call
                          but kiln_context_wait and kiln_context_get_counters with STATE. Runs that
                          kiln_context_enqueue would not enqueue are waited for to their end. A run
                          takes about a microsecond more, and a thread that waits long wakes every
                          50 us */
} kiln_context_options;

#define KILN_CONTEXT_OPTIONS(...) KILN_INIT_OF_(kiln_context_options, __VA_ARGS__)
#define KILN_CONTEXT_OPTIONS_INIT KILN_INIT_(kiln_context_options)

/* Makes a context over `engine`, which it keeps alive. `options` may be NULL. On an error
 * `*context` is NULL. Errors: NULL_ARGUMENT, INVALID_ARGUMENT (a stream of another device too),
 * OUT_OF_MEMORY, BACKEND, DEVICE; UNSUPPORTED for graphs or a stream where the engine runs on the
 * CPU. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_create(kiln_engine *engine,
                                                         const kiln_context_options *options,
                                                         kiln_context **context);

/* Destroys it and gives its reference to the engine back; waits for what is enqueued, and as it
 * gives memory back, for what else the GPU has to do. Must not run at the same time as another call
 * on it. NULL is allowed. Since 0.1. */
KILN_API void kiln_context_destroy(kiln_context *context);

/* The sentence of the last call that used this context, whatever thread made it: "" where that
 * worked. Calls that were not let in (BUSY, or STATE because of a fork or of a run that was left)
 * leave it, and NULL has none. The context's, valid until its next call. One thread at a time.
 * Since 0.1. */
KILN_API const char *kiln_context_error_message(const kiln_context *context);

/* Uses the caller's memory for input or output `name`, without a copy, until it is bound again or
 * the context is destroyed; the memory must live that long. An input is read in each run, an output
 * written. The tensor's shape becomes the binding's. A zeroed tensor (data NULL, bytes 0, rank 0,
 * no data type) takes the binding back: the context provides the memory again.
 *
 * Memory may be an input's and an output's at once, wholly or in part: each run then copies that
 * input first and reads the copy. What kiln_context_tensor showed as a result may be bound as an
 * input of the next run: it is copied at once, and has to be bound again for the run after that
 * (which fails with STATE). Two outputs may not overlap: the run fails with INVALID_ARGUMENT.
 *
 * Strings are kiln_span elements in ordinary host memory. Those of an input point to the caller's
 * bytes, which each run reads; a run writes an output's elements to what is bound, and they point
 * to bytes of the context, which last until the end of the next run and may be an input of it.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT (an output in the memory of the last results; a location
 * or format that does not exist); NAME (with the names there are); DTYPE, RANK, SHAPE (which
 * dimension, expected, found); SIZE (too few bytes); ALIGNMENT; UNSUPPORTED (location, format or
 * strides the backend cannot take); BUSY. The old binding stays on an error. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind(kiln_context *context, const char *name,
                                                       const kiln_tensor *tensor);

/* Binds every tensor of a plan to the input or output of its name, as kiln_context_bind would, in
 * one call; all are checked before any changes. Each has the largest shape that the plan was made
 * for: bind what kiln_buffer_plan_view gives for a smaller one. The plan must outlive the bindings.
 * Errors: as kiln_context_bind. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind_plan(kiln_context *context,
                                                            const kiln_buffer_plan *plan);

/* Gives input `name` a shape and lets the context provide its memory, which kiln_context_tensor
 * then shows, zeroed. An input whose shape is fixed needs no call. A caller's memory bound to the
 * name is let go. Errors: NULL_ARGUMENT, NAME, RANK, SHAPE (no dimension may be KILN_DYNAMIC),
 * LIMIT, OUT_OF_MEMORY, BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_reshape(kiln_context *context, const char *name,
                                                          const kiln_shape *shape);

/* Fills `memory`, the bytes of one input, before a run. What it returns, if not KILN_OK, becomes
 * the run's status. Called in the thread that runs the context. */
typedef kiln_status (*kiln_fill_function)(void *user, kiln_mutable_span memory);

/* As kiln_context_reshape, and in each run `fill(user)` writes the input at the last moment,
 * straight into memory that the engine reads (staging memory, for a GPU). It stays until the name
 * is bound or reshaped. Errors: as kiln_context_reshape. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind_deferred(kiln_context *context,
                                                                const char *name,
                                                                const kiln_shape *shape,
                                                                kiln_fill_function fill,
                                                                void *user);

/* Where the bytes of input `name` are now: as kiln_context_tensor, which shows the output where a
 * tensor is both. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_input_tensor(kiln_context *context,
                                                               const char *name,
                                                               kiln_tensor *tensor);

/* Where the bytes of `name` are now. For an input: what is bound, or the context's own memory, to
 * be filled before a run. For an output, and for what is both: the result of the last run, valid
 * until the next run, bind or reshape of this context. Errors: NULL_ARGUMENT; NAME; NOT_BOUND for
 * an input whose shape is not known yet; STATE for an output before the first run or after one that
 * failed; DTYPE for a sequence or a map; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_tensor(kiln_context *context, const char *name,
                                                         kiln_tensor *tensor);

/* Runs once and returns when every output is there. Errors: NOT_BOUND with the input's name;
 * NULL_ARGUMENT for a string of some length and no address; BACKEND with its own message;
 * OUT_OF_MEMORY; BUSY; CANCELLED; TIMEOUT and LIMIT (kiln_context_options); STATE after a run that
 * was left on a GPU (stop_waiting). After an error the bindings are as before and the context can
 * be used again. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run(kiln_context *context);

/* Cancels the run that is under way in another thread, which ends with CANCELLED, and returns at
 * once; a run that is done before it notices ends as it would have. Where no run is under way it
 * does nothing: the next one is not meant. The reference executor and ONNX Runtime stop between
 * nodes, and so between the iterations of a loop. What was enqueued on a GPU cannot be stopped:
 * with kiln_context_options.stop_waiting the call that waits for it returns with CANCELLED, and
 * kiln_context_wait waits for its end. Errors: NULL_ARGUMENT; UNSUPPORTED where the backend cannot
 * be told (mock; a GPU without stop_waiting). Any thread, also while another is inside the context;
 * the context must not be destroyed meanwhile. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_cancel(kiln_context *context);

/* Runs once as a program would that calls the backend's library itself, for measuring what Kiln
 * adds: one call of the library with what the last kiln_context_run bound, and on a GPU the wait
 * for it. Nothing is copied between host and device, captured, counted or filled in, and the
 * outputs are not shown afterwards, though memory that is bound is written. `*nanoseconds` (may be
 * NULL) is the time of that call alone. ONNX Runtime: RunWithBinding. TensorRT: enqueueV3. Errors:
 * NULL_ARGUMENT; STATE where what is bound was not run yet; UNSUPPORTED on a GPU where the backend
 * enqueues nothing; the library's own; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_raw(kiln_context *context,
                                                          uint64_t *nanoseconds);

/* Binds the inputs, runs, and fills in the outputs, in one call. An output with data is written
 * there; one with data NULL is set to show the context's memory, as kiln_context_tensor would.
 * Inputs not named keep what is bound. All arguments are checked before anything changes. Errors:
 * as kiln_context_bind and kiln_context_run; NAME also for one that is named twice. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_tensors(kiln_context *context,
                                                              const kiln_named_tensor *inputs,
                                                              size_t input_count,
                                                              kiln_named_tensor *outputs,
                                                              size_t output_count);

/* As kiln_context_run_tensors, and afterwards nothing of the caller's is bound by it any more:
 * memory that was named may go. Outputs that show the context's memory are valid until the next
 * run, bind or reshape. Errors: as kiln_context_run_tensors. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_once(kiln_context *context,
                                                           const kiln_named_tensor *inputs,
                                                           size_t input_count,
                                                           kiln_named_tensor *outputs,
                                                           size_t output_count);

/* Enqueues one run and returns while the GPU works: behind what is on `stream` now (NULL: the
 * context's own), and before what is enqueued there later. Host memory that is bound is read before
 * this returns; outputs in host memory are there after kiln_context_wait, those in device memory
 * for whatever `stream` runs next. A context has one run under way: each later call on it but
 * kiln_context_get_counters waits for that first, so a pipeline has two contexts. Work that cannot
 * be enqueued (a first run with these shapes, outputs whose shape depends on values, an engine on
 * the CPU) is done when this returns. Errors: as kiln_context_run; INVALID_ARGUMENT for a stream of
 * another device; UNSUPPORTED for a stream where the engine runs on the CPU. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_enqueue(kiln_context *context,
                                                          kiln_stream *stream);

/* Waits until the enqueued run is done and its outputs are there, or one that was left
 * (stop_waiting) is done, which has no outputs; at once where none is under way.
 * Errors: NULL_ARGUMENT; DEVICE; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_wait(kiln_context *context);

/* The stream where the context's work goes: its options', or Kiln's; NULL over an engine on the
 * CPU, and for NULL. Events recorded there order other work behind a run. Valid as long as the
 * context. Any thread. Since 0.1. */
KILN_API kiln_stream *kiln_context_stream(const kiln_context *context);

/* How warm a warmup made it. Times are wall-clock nanoseconds of one kiln_context_run each. What
 * speaks of the runs to come is of the second half of those made, and of the last 1,024 at most. */
typedef struct kiln_warmup_summary {
    size_t struct_size;         /* sizeof(kiln_warmup_summary), set by the caller */
    uint64_t runs;              /* how many were made */
    uint64_t first_nanoseconds; /* the first: what a cold start costs */
    uint64_t minimum_nanoseconds;
    uint64_t maximum_nanoseconds; /* of all, the first among them */
    uint64_t total_nanoseconds;
    uint64_t median_nanoseconds; /* what to expect from now on */
    uint64_t p90_nanoseconds;    /* as kiln_histogram_percentile counts */
    uint64_t p95_nanoseconds;
    uint64_t p99_nanoseconds;

    uint64_t *samples;      /* set by the caller: where the time of each run goes, in their order;
                               NULL: nowhere */
    size_t sample_capacity; /* set by the caller: how many there is room for */
    size_t sample_count;    /* how many were written: the first `sample_capacity` runs at most */
} kiln_warmup_summary;

/* Runs with what is bound until `runs` runs are made or `milliseconds` have passed, whichever comes
 * first, but at least once; 0 means no limit of that kind, and both 0 means 10 runs. On a GPU the
 * graph that the second run captured is then made as fast as it can be: the ways in which inputs
 * and outputs can be copied are measured in turns, for half of `milliseconds` at most, or for a
 * second where that is 0. Meanwhile a refit waits, and so do runs of contexts that share memory or
 * a stream of the engine's with this one. What was found stays with the engine, and is saved with
 * it. `summary` may be NULL. Errors: as kiln_context_run, and then `samples` holds the runs made so
 * far; INVALID_ARGUMENT for a struct_size that is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs,
                                                         uint64_t milliseconds,
                                                         kiln_warmup_summary *summary);

/* What a context did so far. Each call that asked for a run, and was let in (not told BUSY, or
 * STATE because of a fork or of a run that was left), is in `runs` or in `failed_runs`, whatever it
 * failed at: arguments, an input that is not bound, the backend. */
typedef struct kiln_context_counters {
    size_t struct_size;   /* sizeof(kiln_context_counters), set by the caller */
    uint64_t runs;        /* that worked */
    uint64_t failed_runs; /* that did not */
    uint64_t binds;       /* times that a binding was handed to the backend anew */
    uint64_t bytes_owned; /* memory of the context for bindings that the caller did not provide */

    /* Over an engine on a GPU. A run is a hit or a miss. */
    uint64_t graph_hits;      /* runs that replayed a captured graph */
    uint64_t graph_misses;    /* runs without one: new shapes, or none could be captured */
    uint64_t graph_captures;  /* sets of shapes that were captured */
    uint64_t graph_failures;  /* that could not be */
    uint64_t graph_evictions; /* that gave way to others */
    uint64_t graphs;          /* that are held now */
    uint64_t staging_bytes;   /* pinned and device memory for them */
    const char *graph_reason; /* why the last failure was one, or ""; the context's, valid until
                                 the next run */
} kiln_context_counters;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_get_counters(kiln_context *context,
                                                               kiln_context_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
