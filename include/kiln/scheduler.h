/*
 * scheduler.h - scheduling requests of many callers onto few contexts, with dynamic batching.
 *
 * A scheduler serves many threads from one engine or several copies of it. It keeps a pool of
 * contexts, queues requests by priority, and joins waiting requests into one batch if the model
 * allows it. Every request gets exactly one answer: done, failed, cancelled or expired.
 *
 *     kiln_scheduler_options options = KILN_SCHEDULER_OPTIONS_INIT;
 *     options.schedule = KILN_SCHEDULE_THROUGHPUT;
 *     options.max_batch = 32;
 *     kiln_scheduler *scheduler = NULL;
 *     kiln_scheduler_create(&engine, 1, &options, &scheduler);
 *
 *     kiln_scheduler_run(scheduler, &image, 1, &scores, 1, NULL);          // from any thread
 *
 *     kiln_request *request = NULL;                                        // or without waiting
 *     kiln_scheduler_submit(scheduler, &image, 1, NULL, 0, NULL, &request);
 *     kiln_request_wait(request, -1);
 *     kiln_request_output(request, "scores", &tensor);
 *     kiln_request_release(request);
 *
 * Batching: requests are joined along one axis, usually the first dimension. Every input and output
 * must have that axis, either as a dynamic dimension of the same name or as a fixed dimension of
 * the same size. With a fixed size, smaller batches are padded with zeros. Only requests whose
 * other dimensions are equal are joined. The rows of a batch must be independent of each other,
 * which cannot be determined from a model: if they are not, set batch_axis to -1.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_SCHEDULER_H
#define KILN_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/build.h>
#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/histogram.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_scheduler kiln_scheduler;
typedef struct kiln_request kiln_request;

/* What a request waits for before it runs. */
typedef enum kiln_schedule {
    KILN_SCHEDULE_DEFAULT = 0,   /* for a request: its scheduler's; for a scheduler: LATENCY */
    KILN_SCHEDULE_LATENCY = 1,   /* only for a free context */
    KILN_SCHEDULE_THROUGHPUT = 2 /* also for other requests to share a batch with, for up to
                                    `delay_nanoseconds` */
} kiln_schedule;

/* The highest priority, served first. The lowest, and the default, is 0. */
#define KILN_MAX_PRIORITY 7

/* An input or output whose length along one axis varies between requests. Inputs are padded to a
 * common length, and outputs are cut back to the length of each request. */
typedef struct kiln_scheduler_padding {
    const char *name;
    int32_t axis; /* a dynamic dimension, not the batch axis */
    double value; /* the value that an input is padded with */
} kiln_scheduler_padding;

typedef struct kiln_scheduler_options {
    size_t struct_size; /* set by KILN_SCHEDULER_OPTIONS_INIT */
    kiln_schedule schedule;
    int32_t contexts; /* contexts for each engine, which is also its number of concurrent runs; 0: 1
                         on the CPU, 2 on a GPU; at most 64. On a GPU two compute at once, each on a
                         stream; further ones overlap their copies on these two streams, if the
                         backend can work on any stream */
    int32_t batch_axis; /* dimension along which requests are joined; -1: no batching */
    int64_t max_batch;  /* most rows in a batch; 0: the fixed size of that dimension, or the largest
                           in a profile of the plan, or 32 */
    int64_t join_rows;  /* most rows in a joined batch, while a single request may have up to
                           max_batch; 0: max_batch */
    const int64_t *batch_sizes; /* allowed batch sizes in rows, ascending; a batch is padded with
                                   zeros to the next one. On a GPU each has a graph of its own.
                                   NULL: any size; on a GPU powers of two and max_batch; for a plan
                                   with profiles those of these sizes that a profile covers, and its
                                   smallest and largest */
    size_t batch_size_count;    /* at most 64 */
    uint64_t delay_nanoseconds; /* the longest that a THROUGHPUT request waits for others; 0: one
                                   millisecond */
    size_t queue_limit;         /* most requests in the queue; 0: 1,024 */
    const kiln_context_options *context;    /* of its contexts, without a stream; NULL: the defaults
                                               of kiln_context_create. On the CPU only the run
                                               limits are used */
    const kiln_scheduler_padding *paddings; /* inputs, all of the same length in one request, and
                                               outputs; tensors whose dimension has the same name
                                               need not be listed. Only for a model that ignores the
                                               padding, usually with a mask, which cannot be
                                               determined from the model. NULL: only requests of
                                               equal length are joined */
    size_t padding_count;
    const int64_t *lengths; /* lengths that inputs are padded to, ascending; requests padded to the
                               same length are joined. NULL: powers of two. A longer input is not
                               padded */
    size_t length_count;
    bool join_measured; /* on the CPU: choose the batch size with the least time per row, among 1,
                           2, 4, ... up to join_rows, from measured runs of the first shape that
                           arrives */
} kiln_scheduler_options;

#define KILN_SCHEDULER_OPTIONS(...) KILN_INIT_OF_(kiln_scheduler_options, __VA_ARGS__)
#define KILN_SCHEDULER_OPTIONS_INIT KILN_INIT_(kiln_scheduler_options)

/* Creates a scheduler over `count` engines and holds references to them. The engines are copies of
 * one model, on one device or several; each request goes to one with a free context. On an error
 * `*scheduler` is NULL.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT, also for engines that differ in inputs or outputs;
 * UNSUPPORTED for inputs or outputs that cannot be bound, and for max_batch or batch_sizes if
 * requests cannot be joined, with the binding that prevents it; those of kiln_context_create. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_create(kiln_engine *const *engines,
                                                           size_t count,
                                                           const kiln_scheduler_options *options,
                                                           kiln_scheduler **scheduler);

/* Stops the scheduler like kiln_scheduler_stop and frees it. Answered requests stay valid until
 * they are released. No other call on the scheduler may be in progress or follow. NULL is allowed.
 * In a process forked since the scheduler was created, which lacks its threads, this does nothing
 * and every other call fails with STATE. Since 0.1. */
KILN_API void kiln_scheduler_destroy(kiln_scheduler *scheduler);

/* Runs every batch size on every context, with batches made of repetitions of this request, so that
 * later requests meet neither first runs nor, on a GPU, graph captures. Graph variants are measured
 * as in kiln_context_warmup, for `milliseconds` in all, or for a second each if that is 0. Requests
 * that arrive meanwhile are served by the contexts that are not warming up. Errors: as
 * kiln_scheduler_submit and kiln_context_warmup. Any thread, but not inside `answered`. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_warmup(kiln_scheduler *scheduler,
                                                           const kiln_named_tensor *inputs,
                                                           size_t input_count,
                                                           uint64_t milliseconds);

/* Called once when a request is answered, in a thread of the scheduler, or in the thread that
 * cancels the request or stops the scheduler. It should be quick. It may call the functions that
 * take a request, and kiln_scheduler_submit. kiln_request_wait and kiln_scheduler_next may return
 * before it has; kiln_scheduler_drain and kiln_scheduler_stop wait for it. */
typedef void (*kiln_request_function)(void *user, kiln_request *request);

typedef struct kiln_request_options {
    size_t struct_size; /* set by KILN_REQUEST_OPTIONS_INIT */
    kiln_schedule schedule;
    int32_t priority;               /* 0 to KILN_MAX_PRIORITY */
    uint64_t deadline_nanoseconds;  /* time of kiln_clock_now by which the request must start to
                                       run, or else it expires; 0: none */
    kiln_request_function answered; /* or NULL */
    void *user;                     /* passed to `answered` */
    bool collect;                   /* kiln_scheduler_next returns the request once it is
                                       answered */
    bool run_here;                  /* with LATENCY, if a context is free and nobody waits: run the
                                       request in the submitting thread, so that it is answered when
                                       the submit returns */
} kiln_request_options;

#define KILN_REQUEST_OPTIONS(...) KILN_INIT_OF_(kiln_request_options, __VA_ARGS__)
#define KILN_REQUEST_OPTIONS_INIT KILN_INIT_(kiln_request_options)

/* Submits a request and returns at once. `options` may be NULL.
 *
 * Inputs: name each input of the engine once. Each is a dense tensor in host memory (ordinary,
 * pinned or managed) that must stay unchanged until the request is answered. Input strings point to
 * the caller's bytes, which must stay as long. Optional inputs (kiln_engine_optional_count) have
 * the model's weights.
 *
 * Outputs: an output with data is written there; the memory must have exactly the type and size of
 * the result, and a result of another shape fails with SHAPE. Get the other outputs with
 * kiln_request_output. Output strings, also those in the caller's memory, point to bytes owned by
 * the request.
 *
 * A bad request is refused at once, and nothing is queued: NULL_ARGUMENT; INVALID_ARGUMENT; NAME,
 * NOT_BOUND; DTYPE, RANK, SHAPE, SIZE, ALIGNMENT, UNSUPPORTED for a tensor; LIMIT for more rows
 * than max_batch; QUEUE_FULL; STATE if the scheduler is draining or stopped; OUT_OF_MEMORY. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_scheduler_submit(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                      size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
                      const kiln_request_options *options, kiln_request **request);

/* Submits a request and waits for it. Every output needs data. With LATENCY and a free context the
 * request runs in the calling thread, and no other thread is involved. Errors: as
 * kiln_scheduler_submit and kiln_request_wait; INVALID_ARGUMENT for `answered` and `collect`;
 * UNSUPPORTED for an output of strings. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_run(
    kiln_scheduler *scheduler, const kiln_named_tensor *inputs, size_t input_count,
    const kiln_named_tensor *outputs, size_t output_count, const kiln_request_options *options);

typedef enum kiln_request_state {
    KILN_REQUEST_WAITING = 0,
    KILN_REQUEST_RUNNING = 1,
    KILN_REQUEST_DONE = 2, /* this and all later states: answered */
    KILN_REQUEST_FAILED = 3,
    KILN_REQUEST_CANCELLED = 4,
    KILN_REQUEST_EXPIRED = 5
} kiln_request_state;

/* The state of a request; CANCELLED for NULL. Any thread. Since 0.1. */
KILN_API kiln_request_state kiln_request_get_state(const kiln_request *request);

/* Waits until the request is answered, for at most `milliseconds` (negative: no limit), and returns
 * its outcome: OK, the error of the run, CANCELLED, or TIMEOUT if it expired. BUSY if it is not
 * answered yet. Several threads may wait. Errors: NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_wait(kiln_request *request, int64_t milliseconds);

/* Gives an output of a request that is done. The tensor is in the caller's memory or in the
 * request's, which is valid until the request is released. Errors: NULL_ARGUMENT; NAME; STATE
 * before it is done. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_output(const kiln_request *request,
                                                         const char *name, kiln_tensor *tensor);

/* Ends a request as CANCELLED. A waiting request ends at once. A running one ends with its run,
 * which is stopped if the request is alone in its batch and the backend can stop
 * (kiln_context_cancel). The result is lost in any case. Errors: NULL_ARGUMENT; STATE if it is
 * already answered. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_cancel(kiln_request *request);

/* Releases a request. If it is not answered yet, it keeps its place and is answered all the same.
 * NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_request_release(kiln_request *request);

/* Gives the next answered request that was submitted with `collect`, for the caller to release;
 * `*request` is NULL if there is none. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_next(kiln_scheduler *scheduler,
                                                         kiln_request **request);

/* Gives an eventfd(2) descriptor for poll and epoll. It becomes readable when the first answered
 * request is ready for kiln_scheduler_next: read 8 bytes from it, then collect requests until there
 * are none. Owned by the scheduler, which closes it. Errors: NULL_ARGUMENT; IO. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_event(kiln_scheduler *scheduler,
                                                          int *descriptor);

/* Stops accepting requests and waits until all are answered, for at most `milliseconds` (negative:
 * no limit). If they are not, it returns BUSY, and the scheduler continues to drain. Errors:
 * NULL_ARGUMENT; STATE after fork. Any thread, but not inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_drain(kiln_scheduler *scheduler,
                                                          int64_t milliseconds);

/* Stops accepting requests, cancels those that wait, and waits for those that run. Errors:
 * NULL_ARGUMENT. Any thread, but not inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_stop(kiln_scheduler *scheduler);

/* Replaces the engines between two batches: waiting requests go to the new engines, running ones
 * are waited for, and then the old engines are released. The new engines may come from another
 * backend, be on another device, or hold a new version of the model.
 *
 * After a kiln_scheduler_warmup the new contexts are first warmed up in the same way, while
 * requests are served. Batches keep max_batch, and have the sizes that the new engines allow.
 *
 * Errors: as kiln_scheduler_create and kiln_scheduler_warmup; INVALID_ARGUMENT if inputs or outputs
 * differ; BUSY while another thread replaces engines; STATE once the scheduler is stopped. On an
 * error nothing changes. Any thread, but not inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_replace(kiln_scheduler *scheduler,
                                                            kiln_engine *const *engines,
                                                            size_t count);

/* Reports the outcome of kiln_scheduler_replace_built: the status and sentence of the build or of
 * kiln_scheduler_replace; CANCELLED if the scheduler was destroyed first. Called in a thread of the
 * scheduler. It should return quickly, because a destroy waits for it. */
typedef void (*kiln_replaced_function)(void *user, kiln_status status, const char *message);

/* Continues to serve requests and, when the build job ends, replaces the engines with the one it
 * built, as kiln_scheduler_replace does. If the build fails, nothing changes. `replaced` may be
 * NULL.
 *
 * The scheduler owns the job from this call on. kiln_build_get_progress and kiln_build_cancel may
 * be called on it until the next call of this function, or until the scheduler is destroyed, which
 * cancels it.
 *
 * Errors: NULL_ARGUMENT; BUSY while another job is pending; STATE once the scheduler is stopped;
 * OUT_OF_MEMORY. On an error the caller still owns the job. Any thread, but not inside `answered`
 * or `replaced`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_replace_built(kiln_scheduler *scheduler,
                                                                  kiln_build *build,
                                                                  kiln_replaced_function replaced,
                                                                  void *user);

/* At any time, submitted = done + failed + cancelled + expired + waiting + running. */
typedef struct kiln_scheduler_counters {
    size_t struct_size; /* sizeof(kiln_scheduler_counters), set by the caller */
    uint64_t submitted; /* requests accepted */
    uint64_t refused;   /* requests refused, for whatever reason */
    uint64_t done;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t expired;
    uint64_t waiting;  /* at present */
    uint64_t running;  /* at present */
    uint64_t batches;  /* batches run */
    uint64_t rows;     /* rows of requests in those */
    uint64_t padding;  /* rows of zeros in those */
    uint64_t retried;  /* batches of several requests that failed; each of their requests ran again
                          on its own */
    int64_t max_batch; /* most rows in a batch; 0: no batching */
    uint64_t padded;   /* total length by which rows of requests were padded */
    uint64_t profile_switches; /* batches that needed another optimization profile than the previous
                                  batch on their context */
    uint64_t graph_hits;       /* runs on a GPU that replayed a captured graph */
    uint64_t graph_misses;     /* runs on a GPU that did not */
    uint64_t replaced;         /* times that the engines were replaced */
    uint64_t copy_nanoseconds; /* these two: sums over all requests that ran of the COPY_TIME and
                                  RUN_TIME of their batches */
    uint64_t run_nanoseconds;
} kiln_scheduler_counters;

/* Reads the counters. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_counters(kiln_scheduler *scheduler,
                                                                 kiln_scheduler_counters *counters);

/* Counters of one engine since it came into use. */
typedef struct kiln_scheduler_engine_counters {
    size_t struct_size;       /* sizeof(kiln_scheduler_engine_counters), set by the caller */
    int32_t device;           /* -1: the CPU */
    uint64_t batches;         /* batches run */
    uint64_t rows;            /* rows of requests in those */
    uint64_t running;         /* contexts that are running a batch at present */
    uint64_t run_nanoseconds; /* sum over all runs, concurrent ones included */
} kiln_scheduler_engine_counters;

/* Reads the counters of engine `index`, in the order passed to kiln_scheduler_create or
 * kiln_scheduler_replace. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too small or
 * `index` is past the end. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_engine_counters(
    kiln_scheduler *scheduler, size_t index, kiln_scheduler_engine_counters *counters);

/* What is measured for each request that runs, in nanoseconds except for BATCH_ROWS. */
typedef enum kiln_scheduler_figure {
    KILN_SCHEDULER_QUEUE_TIME = 0, /* from submission to the start of its batch */
    KILN_SCHEDULER_COPY_TIME = 1,  /* assembling the inputs of its batch and splitting the
                                      outputs */
    KILN_SCHEDULER_RUN_TIME = 2,   /* the run of its batch */
    KILN_SCHEDULER_TOTAL_TIME = 3, /* from submission to answer */
    KILN_SCHEDULER_BATCH_ROWS = 4  /* rows of its batch, without padding */
} kiln_scheduler_figure;

/* Adds all measurements of `figure` since the scheduler was created to `histogram`. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for an unknown figure. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_figure(kiln_scheduler *scheduler,
                                                               kiln_scheduler_figure figure,
                                                               kiln_histogram *histogram);

#ifdef __cplusplus
}
#endif

#endif
