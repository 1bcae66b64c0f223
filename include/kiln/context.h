/*
 * context.h - running an engine.
 *
 * A context holds the state of one thread's runs: the tensor bound to each input and output, and
 * memory for those that are not bound. Bind once, then run as often as you like. A run allocates
 * nothing, and copies nothing that is already where the backend can use it (a backend may copy
 * inputs of up to 256 bytes).
 *
 *     kiln_context *context = NULL;
 *     kiln_context_create(engine, NULL, &context);
 *     kiln_context_bind(context, "image", &image);       // your memory, used as it is
 *     kiln_context_run(context);
 *     kiln_tensor scores;
 *     kiln_context_tensor(context, "scores", &scores);   // valid until the next run
 *     kiln_context_destroy(context);
 *
 * Threads: a context may move between threads, but only one may use it at a time. A call made while
 * another thread is inside fails with KILN_ERROR_BUSY and changes nothing.
 *
 * GPU engines: the same calls work in the same way, and host memory is copied to the device and
 * back. The bound memory decides what a run costs. The GPU reads and writes pinned memory (a
 * kiln_buffer, or the context's own) without a copy by the host, and device memory without any
 * copy.
 *
 * CUDA graphs: the second run with the same shapes captures copies and kernels as one CUDA graph,
 * if that is possible, and later runs replay it. kiln_context_get_counters says whether they do,
 * and why not. The capture makes that run longer by the time of several runs, and by tenths of a
 * second for a network of many layers; kiln_context_warmup moves that cost to the start.
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

/* Whether runs on a GPU are captured into CUDA graphs, one for each set of input shapes. */
typedef enum kiln_graph_policy {
    KILN_GRAPH_AUTOMATIC = 0, /* at the second run with a set of shapes, if possible */
    KILN_GRAPH_OFF = 1,       /* never */
    KILN_GRAPH_REQUIRED = 2   /* at the first run; a run that cannot be captured fails and says
                                 why */
} kiln_graph_policy;

/* When TensorRT-RTX compiles kernels specialized for the shapes of a run. */
typedef enum kiln_kernel_specialization {
    KILN_KERNELS_DEFAULT = 0, /* the library's default: lazy */
    KILN_KERNELS_LAZY = 1,    /* in the background; general kernels run until they are ready */
    KILN_KERNELS_EAGER = 2,   /* immediately: the first run with new shapes waits */
    KILN_KERNELS_GENERAL = 3  /* never: general kernels only */
} kiln_kernel_specialization;

typedef struct kiln_context_options {
    size_t struct_size; /* set by KILN_CONTEXT_OPTIONS_INIT */

    /* For engines on a GPU (kiln_engine_device). On other engines only 0 and OFF are accepted. */
    kiln_graph_policy graphs;
    uint64_t graph_bytes; /* limit on the memory of graphs and of the staging buffers of all sets of
                             shapes, in bytes of device and pinned memory together; graphs of the
                             shapes used most often are kept. 0: a sixteenth of the GPU's memory,
                             but at least 256 MiB */
    kiln_stream *stream;  /* runs are enqueued on this stream of the caller's, which must outlive
                             the context; NULL: a stream of Kiln's */
    int32_t priority;     /* priority of Kiln's stream, as for kiln_stream_create, and of the
                             kernels of captured graphs. INVALID_ARGUMENT together with `stream`,
                             and if contexts share a stream (share_device_memory) */
    bool overlap_copies;  /* for throughput: copies from and to host memory use two further streams,
                             shared by the engine's contexts over one `stream`, so that they overlap
                             with the kernels of other contexts. Copies do not wait for work on
                             `stream`; kernels do. A run on its own takes some microseconds
                             longer */

    /* For TensorRT. A backend or version that lacks one refuses it by name with UNSUPPORTED. */
    bool share_device_memory;        /* contexts of one engine with this option and the same
                                        `stream` (NULL: one of the engine's) share one block of
                                        activation memory; their runs follow each other on that
                                        stream */
    uint64_t persistent_cache_bytes; /* bytes of the GPU's L2 cache to set aside for activations */
    const char *runtime_cache;       /* TensorRT-RTX: a file of compiled kernels, read if it exists;
                                        kiln_context_save_runtime_cache writes it */
    kiln_kernel_specialization kernel_specialization; /* TensorRT-RTX */
    kiln_switch rtx_graphs; /* TensorRT-RTX: on: it captures whole runs into CUDA graphs itself */

    /* Limits of each run, for untrusted models. UNSUPPORTED if the backend cannot enforce them. A
     * context whose run was stopped can be used as before. */
    uint64_t run_milliseconds; /* a run that takes longer ends with TIMEOUT as soon as the backend
                                  can stop (kiln_context_cancel); one thread of Kiln's watches the
                                  time. Backends reference and onnxruntime; on a GPU only with
                                  stop_waiting. 0: no limit */
    uint64_t run_memory_bytes; /* limit on intermediate tensors, and on outputs in the context's
                                  memory; a run that needs more ends with LIMIT. Backend reference.
                                  0: no limit */
    bool stop_waiting; /* on a GPU: kiln_context_cancel and run_milliseconds end the wait for a run.
                          The work already given to the GPU still runs to its end and accesses the
                          bound device memory; until then the context refuses every call but
                          kiln_context_wait and kiln_context_get_counters with STATE. Runs that
                          kiln_context_enqueue would not enqueue are waited for to their end. A run
                          takes about a microsecond more, and a thread that waits long wakes every
                          50 us */
} kiln_context_options;

#define KILN_CONTEXT_OPTIONS(...) KILN_INIT_OF_(kiln_context_options, __VA_ARGS__)
#define KILN_CONTEXT_OPTIONS_INIT KILN_INIT_(kiln_context_options)

/* Creates a context of `engine` and holds a reference to it. `options` may be NULL. On an error
 * `*context` is NULL. Errors: NULL_ARGUMENT; INVALID_ARGUMENT (also for a stream of another
 * device); OUT_OF_MEMORY; BACKEND; DEVICE; UNSUPPORTED for graphs or a stream if the engine runs on
 * the CPU. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_create(kiln_engine *engine,
                                                         const kiln_context_options *options,
                                                         kiln_context **context);

/* Destroys the context and gives its reference to the engine back. Waits for enqueued runs, and,
 * because it frees memory, for the GPU's other pending work. Must not run at the same time as
 * another call on the context. NULL is allowed. Since 0.1. */
KILN_API void kiln_context_destroy(kiln_context *context);

/* The error sentence of the last call on this context, whichever thread made it; "" if that call
 * succeeded. A call that was refused entry (BUSY, or STATE because of a fork or of an abandoned
 * run) leaves the sentence unchanged. NULL has none. Owned by the context, valid until the next
 * call on it. One thread at a time. Since 0.1. */
KILN_API const char *kiln_context_error_message(const kiln_context *context);

/* Binds the caller's memory to input or output `name`, without a copy. Each run reads a bound input
 * and writes a bound output. The memory must stay valid until the name is bound again or the
 * context is destroyed. The tensor's shape becomes the shape of the input or output. A zeroed
 * tensor (data NULL, bytes 0, rank 0, no data type) removes the binding: the context provides the
 * memory again.
 *
 * Overlap: an input and an output may share memory, wholly or in part; each run then copies that
 * input first and reads the copy. Two outputs must not overlap: the run fails with
 * INVALID_ARGUMENT. A result shown by kiln_context_tensor may be bound as an input of the next run.
 * It is copied at once and must be bound again for the run after that, which otherwise fails with
 * STATE.
 *
 * Strings are kiln_span elements in ordinary host memory. The elements of an input point to the
 * caller's bytes, which each run reads. A run writes an output's elements to the bound memory; they
 * point to bytes owned by the context, which last until the end of the next run and may be an input
 * of it.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT (an output in the memory of the last results; a location
 * or format that does not exist); NAME (with the names that exist); DTYPE, RANK, SHAPE (which
 * dimension, expected, found); SIZE (too few bytes); ALIGNMENT; UNSUPPORTED (a location, format or
 * strides that the backend cannot use); BUSY. On an error the old binding stays. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind(kiln_context *context, const char *name,
                                                       const kiln_tensor *tensor);

/* Binds every tensor of a plan to the input or output of its name, like kiln_context_bind, in one
 * call. All are checked before any binding changes. Each tensor has the largest shape that the plan
 * was made for; for a smaller one, bind the tensor that kiln_buffer_plan_view gives. The plan must
 * outlive the bindings. Errors: as kiln_context_bind. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind_plan(kiln_context *context,
                                                            const kiln_buffer_plan *plan);

/* Sets the shape of input `name` and lets the context provide its memory, zeroed, which
 * kiln_context_tensor then shows. An input with a fixed shape needs no call. Memory of the caller's
 * that was bound to the name is no longer used. Errors: NULL_ARGUMENT, NAME, RANK, SHAPE (no
 * dimension may be KILN_DYNAMIC), LIMIT, OUT_OF_MEMORY, BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_reshape(kiln_context *context, const char *name,
                                                          const kiln_shape *shape);

/* Fills `memory`, the bytes of one input, before a run. A return value other than KILN_OK becomes
 * the status of the run. Called in the thread that runs the context. */
typedef kiln_status (*kiln_fill_function)(void *user, kiln_mutable_span memory);

/* Like kiln_context_reshape, with a function that fills the input: each run calls `fill(user)` as
 * late as possible, to write directly into the memory that the engine reads (staging memory for a
 * GPU). It stays in effect until the name is bound or reshaped. Errors: as kiln_context_reshape.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_bind_deferred(kiln_context *context,
                                                                const char *name,
                                                                const kiln_shape *shape,
                                                                kiln_fill_function fill,
                                                                void *user);

/* Shows where the bytes of input `name` are now. Like kiln_context_tensor, which shows the output
 * if a name is both an input and an output. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_input_tensor(kiln_context *context,
                                                               const char *name,
                                                               kiln_tensor *tensor);

/* Shows where the bytes of `name` are now. For an input: the bound memory, or the context's own, to
 * be filled before a run. For an output, and for a name that is both: the result of the last run,
 * valid until the next run, bind or reshape of this context. Errors: NULL_ARGUMENT; NAME; NOT_BOUND
 * for an input whose shape is not known yet; STATE for an output before the first run or after a
 * failed one; DTYPE for a sequence or a map; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_tensor(kiln_context *context, const char *name,
                                                         kiln_tensor *tensor);

/* Runs once and returns when every output is complete. After an error the bindings are as before
 * and the context can be used again.
 *
 * Errors: NOT_BOUND with the input's name; NULL_ARGUMENT for a string of non-zero length with a
 * NULL address; BACKEND with the backend's own message; OUT_OF_MEMORY; BUSY; CANCELLED; TIMEOUT and
 * LIMIT (kiln_context_options); STATE after a run that was abandoned on a GPU (stop_waiting). Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run(kiln_context *context);

/* Cancels the run in progress in another thread and returns at once. That run ends with CANCELLED,
 * unless it is done before it notices. If no run is in progress the call does nothing; it does not
 * affect the next run.
 *
 * The reference executor and ONNX Runtime stop between nodes, and so between the iterations of a
 * loop. Work enqueued on a GPU cannot be stopped. With kiln_context_options.stop_waiting the call
 * that waits for it returns with CANCELLED, and kiln_context_wait waits for its end.
 *
 * Errors: NULL_ARGUMENT; UNSUPPORTED if the backend cannot be stopped (mock; a GPU without
 * stop_waiting). Any thread, even while another is inside the context; the context must not be
 * destroyed meanwhile. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_cancel(kiln_context *context);

/* Runs once the way a program that calls the backend's library directly would, to measure Kiln's
 * overhead. It makes one call of the library with the bindings of the last kiln_context_run, and on
 * a GPU waits for it. `*nanoseconds` (may be NULL) is the time of that call alone. ONNX Runtime:
 * RunWithBinding. TensorRT: enqueueV3.
 *
 * Nothing is copied between host and device, captured, counted or filled in. Bound output memory is
 * written, but kiln_context_tensor does not show outputs afterwards.
 *
 * Errors: NULL_ARGUMENT; STATE if the current bindings have not been run yet; UNSUPPORTED on a GPU
 * if the backend enqueues nothing; the library's own; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_raw(kiln_context *context,
                                                          uint64_t *nanoseconds);

/* Binds the inputs, runs, and fills in the outputs, in one call. An output with data is written
 * there. An output with data NULL is set to show the context's memory, as kiln_context_tensor
 * would. Inputs that are not named keep their bindings. All arguments are checked before anything
 * changes. Errors: as kiln_context_bind and kiln_context_run; NAME also for a name given twice.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_tensors(kiln_context *context,
                                                              const kiln_named_tensor *inputs,
                                                              size_t input_count,
                                                              kiln_named_tensor *outputs,
                                                              size_t output_count);

/* Like kiln_context_run_tensors, but removes its bindings afterwards, so that the caller's memory
 * may be freed. Outputs that show the context's memory are valid until the next run, bind or
 * reshape. Errors: as kiln_context_run_tensors. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_run_once(kiln_context *context,
                                                           const kiln_named_tensor *inputs,
                                                           size_t input_count,
                                                           kiln_named_tensor *outputs,
                                                           size_t output_count);

/* Enqueues one run on `stream` (NULL: the context's own) and returns while the GPU works. The run
 * is ordered after the work now on that stream and before work enqueued there later. Bound host
 * memory is read before this returns. Outputs in host memory are complete after kiln_context_wait;
 * outputs in device memory are complete for work that `stream` runs next.
 *
 * A context has one run in flight. Every later call on it except kiln_context_get_counters first
 * waits for that run, so use two contexts to pipeline. Work that cannot be enqueued (a first run
 * with these shapes, outputs whose shape depends on values, an engine on the CPU) is complete when
 * this returns.
 *
 * Errors: as kiln_context_run; INVALID_ARGUMENT for a stream of another device; UNSUPPORTED for a
 * stream if the engine runs on the CPU. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_enqueue(kiln_context *context,
                                                          kiln_stream *stream);

/* Waits until the enqueued run is done and its outputs are complete. After an abandoned run
 * (stop_waiting), waits until that run is done; it has no outputs. Returns at once if no run is in
 * flight. Errors: NULL_ARGUMENT; DEVICE; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_wait(kiln_context *context);

/* The stream that the context's runs use: the one in its options, or Kiln's. NULL for an engine on
 * the CPU and for NULL. Use events recorded on it to order other work after a run. Valid as long as
 * the context. Any thread. Since 0.1. */
KILN_API kiln_stream *kiln_context_stream(const kiln_context *context);

/* Times measured by a warmup, as wall-clock nanoseconds of one kiln_context_run each. Median and
 * percentiles, which predict later runs, cover the second half of the runs made, and at most the
 * last 1,024. */
typedef struct kiln_warmup_summary {
    size_t struct_size;         /* sizeof(kiln_warmup_summary), set by the caller */
    uint64_t runs;              /* runs made */
    uint64_t first_nanoseconds; /* the first run: the cost of a cold start */
    uint64_t minimum_nanoseconds;
    uint64_t maximum_nanoseconds; /* of all runs, the first included */
    uint64_t total_nanoseconds;
    uint64_t median_nanoseconds; /* what to expect of later runs */
    uint64_t p90_nanoseconds;    /* percentiles as kiln_histogram_percentile counts them */
    uint64_t p95_nanoseconds;
    uint64_t p99_nanoseconds;

    uint64_t *samples;      /* set by the caller: array for the time of each run, in order; NULL:
                               none */
    size_t sample_capacity; /* set by the caller: elements of `samples` */
    size_t sample_count;    /* elements written: at most the first `sample_capacity` runs */
} kiln_warmup_summary;

/* Runs with the current bindings until `runs` runs are made or `milliseconds` have passed,
 * whichever comes first, but at least once. 0 means no limit of that kind; both 0 means 10 runs.
 *
 * On a GPU it then optimizes the graph that the second run captured: it measures the alternative
 * ways to copy inputs and outputs against each other, for at most half of `milliseconds`, or for a
 * second if that is 0. Meanwhile a refit waits, and so do runs of contexts that share memory or a
 * stream of the engine's with this one. The findings stay with the engine and are saved with it.
 *
 * `summary` may be NULL. Errors: as kiln_context_run, and `samples` then holds the runs made so
 * far; INVALID_ARGUMENT if struct_size is too small. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_warmup(kiln_context *context, uint64_t runs,
                                                         uint64_t milliseconds,
                                                         kiln_warmup_summary *summary);

/* Counters of a context. Every call that asks for a run and is let in counts in `runs` or in
 * `failed_runs`, whatever it fails at: arguments, an input that is not bound, the backend. A call
 * that is refused entry (BUSY, or STATE because of a fork or of an abandoned run) does not
 * count. */
typedef struct kiln_context_counters {
    size_t struct_size;   /* sizeof(kiln_context_counters), set by the caller */
    uint64_t runs;        /* runs that succeeded */
    uint64_t failed_runs; /* runs that failed */
    uint64_t binds;       /* times that a new binding was passed to the backend */
    uint64_t bytes_owned; /* bytes that the context holds for bindings without the caller's
                             memory */

    /* For engines on a GPU. Each run is either a hit or a miss. */
    uint64_t graph_hits;      /* runs that replayed a captured graph */
    uint64_t graph_misses;    /* runs without a graph: new shapes, or capture is not possible */
    uint64_t graph_captures;  /* sets of shapes that were captured */
    uint64_t graph_failures;  /* sets of shapes that could not be captured */
    uint64_t graph_evictions; /* graphs that were evicted in favour of others */
    uint64_t graphs;          /* graphs held now */
    uint64_t staging_bytes;   /* pinned and device memory of the graphs' staging buffers */
    const char *graph_reason; /* reason of the last capture failure, or ""; owned by the context,
                                 valid until the next run */
} kiln_context_counters;

/* Reads the counters. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small; BUSY.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_get_counters(kiln_context *context,
                                                               kiln_context_counters *counters);

#ifdef __cplusplus
}
#endif

#endif
