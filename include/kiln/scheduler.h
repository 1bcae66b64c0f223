/*
 * scheduler.h - many callers, few contexts.
 *
 * A scheduler stands before an engine that many threads want at once. It keeps a pool of contexts,
 * lets requests wait in order of priority, joins those that wait into one batch where the model
 * allows it, and answers each exactly once: done, failed, cancelled or expired.
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
 * Requests are joined along one axis, the first dimension as a rule. That is possible where every
 * input and output has it: dynamic and of one name, or fixed to one size, and then batches that are
 * smaller are filled up with zeros. Only requests whose other dimensions are the same are joined.
 * Rows of a batch must not depend on each other, which nobody can tell from a model: for one whose
 * rows do, batch_axis is -1.
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

/* What a request waits for. */
typedef enum kiln_schedule {
    KILN_SCHEDULE_DEFAULT = 0,   /* of a request: as its scheduler; of a scheduler: LATENCY */
    KILN_SCHEDULE_LATENCY = 1,   /* a free context, and nothing else */
    KILN_SCHEDULE_THROUGHPUT = 2 /* others too, to share a batch, for `delay_nanoseconds` */
} kiln_schedule;

/* Priorities are 0, the default, to this, the first to be served. */
#define KILN_MAX_PRIORITY 7

/* An input or output along which requests differ in length: inputs are filled up to a common one,
 * outputs are cut back to each request's. */
typedef struct kiln_scheduler_padding {
    const char *name;
    int32_t axis; /* a dynamic dimension, not the batch axis */
    double value; /* of the elements that an input is filled up with */
} kiln_scheduler_padding;

typedef struct kiln_scheduler_options {
    size_t struct_size; /* set by KILN_SCHEDULER_OPTIONS_INIT */
    kiln_schedule schedule;
    int32_t contexts; /* of each engine, and so runs of it at once; 0: 1 on the CPU, 2 on a GPU; at
                         most 64. On a GPU two compute at once, each on a stream; more of them copy
                         on these meanwhile, where the backend works on any stream */
    int32_t batch_axis; /* the dimension along which requests are joined; -1: they are not */
    int64_t max_batch;  /* rows of a batch at most; 0: the fixed size of that dimension, or the
                           largest that a profile of the plan has, or 32 */
    int64_t join_rows;  /* that requests are joined to, while one alone may have as many as
                           max_batch; 0: max_batch */
    const int64_t *batch_sizes; /* rows that a batch may have, rising: it is filled up with zeros to
                                   the next; on a GPU each has a graph of its own. NULL: any; on a
                                   GPU powers of two and max_batch, and of a plan with profiles
                                   those sizes that one has, with its smallest and largest */
    size_t batch_size_count;    /* at most 64 */
    uint64_t delay_nanoseconds; /* the longest that THROUGHPUT makes a request wait for others; 0: a
                                   millisecond */
    size_t queue_limit;         /* requests that may wait; 0: 1,024 */
    const kiln_context_options *context;    /* how its contexts are made; without a stream. NULL: as
                                               kiln_context_create has it. On the CPU only the
                                               limits of a run are taken */
    const kiln_scheduler_padding *paddings; /* inputs, all of one length in a request, and outputs;
                                               those whose dimension has the same name need not be
                                               listed. Only for a model that takes no notice of
                                               what inputs are filled up with, by a mask as a rule,
                                               which nobody can tell from it. NULL: only requests
                                               of one length are joined */
    size_t padding_count;
    const int64_t *lengths; /* that inputs are filled up to, rising; requests are joined that come
                               to the same one. NULL: powers of two. A longer one stays as it is */
    size_t length_count;
    bool join_measured; /* on the CPU: of 1, 2, 4, ... rows, up to join_rows, requests are joined to
                           as many as take the least time for each, by what runs of the first shape
                           that came took */
} kiln_scheduler_options;

#define KILN_SCHEDULER_OPTIONS(...) KILN_INIT_OF_(kiln_scheduler_options, __VA_ARGS__)
#define KILN_SCHEDULER_OPTIONS_INIT KILN_INIT_(kiln_scheduler_options)

/* Makes one over `count` engines, copies of one model on one device or several, which it keeps
 * alive; requests go to whichever has a context free. On an error `*scheduler` is NULL. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT, also for engines that differ in inputs or outputs; UNSUPPORTED
 * for inputs or outputs that cannot be bound, and for max_batch or batch_sizes where requests
 * cannot be joined, with the binding for which they cannot; those of kiln_context_create. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_create(kiln_engine *const *engines,
                                                           size_t count,
                                                           const kiln_scheduler_options *options,
                                                           kiln_scheduler **scheduler);

/* kiln_scheduler_stop, and what it holds is given back. Requests that were answered stay until they
 * are released. No other call on the scheduler may be under way or come. NULL is allowed. In a
 * process that was forked since, whose threads stayed behind, it does nothing, and every other call
 * fails with STATE. Since 0.1. */
KILN_API void kiln_scheduler_destroy(kiln_scheduler *scheduler);

/* Runs every size of a batch on every context, made of this request again and again, so that later
 * requests meet neither first runs nor, on a GPU, the making of graphs; their variants are measured
 * as kiln_context_warmup does, for `milliseconds` in all or 0 for a second each. Requests that come
 * meanwhile are served by the contexts that are not being warmed up. Errors: as
 * kiln_scheduler_submit and kiln_context_warmup. Any thread, but none inside `answered`. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_warmup(kiln_scheduler *scheduler,
                                                           const kiln_named_tensor *inputs,
                                                           size_t input_count,
                                                           uint64_t milliseconds);

/* Called once when a request is answered, in a thread of the scheduler's, or in the one that
 * cancels it or stops the scheduler; it should be quick. It may call what takes a request, and
 * kiln_scheduler_submit. kiln_request_wait and kiln_scheduler_next may be there before it has
 * returned; kiln_scheduler_drain and kiln_scheduler_stop wait until it has. */
typedef void (*kiln_request_function)(void *user, kiln_request *request);

typedef struct kiln_request_options {
    size_t struct_size; /* set by KILN_REQUEST_OPTIONS_INIT */
    kiln_schedule schedule;
    int32_t priority;               /* 0 to KILN_MAX_PRIORITY */
    uint64_t deadline_nanoseconds;  /* by kiln_clock_now: a request that does not run by then
                                       expires; 0: none */
    kiln_request_function answered; /* or NULL */
    void *user;                     /* for `answered` */
    bool collect;                   /* kiln_scheduler_next gives it once it is answered */
    bool run_here;                  /* with LATENCY, a context free and nobody waiting, the thread
                                       that submits it runs it, and it is answered by then */
} kiln_request_options;

#define KILN_REQUEST_OPTIONS(...) KILN_INIT_OF_(kiln_request_options, __VA_ARGS__)
#define KILN_REQUEST_OPTIONS_INIT KILN_INIT_(kiln_request_options)

/* Hands a request over and returns at once. Each input of the engine is named once, and is a dense
 * tensor in memory of the host (ordinary, pinned or managed) that must stay as it is until the
 * request is answered. Outputs with data are written there, which is then memory of the very type
 * and size: a result of another shape fails with SHAPE. The others are for kiln_request_output.
 * Strings of inputs point to the caller's bytes, which stay as long; those of outputs, in the
 * caller's memory too, to bytes of the request.
 * Inputs that are optional (kiln_engine_optional_count) have the model's weights. `options` may be
 * NULL. What is refused is refused at once, and nothing is handed over then: NULL_ARGUMENT,
 * INVALID_ARGUMENT; NAME, NOT_BOUND; DTYPE, RANK, SHAPE, SIZE, ALIGNMENT, UNSUPPORTED of a tensor;
 * LIMIT for more rows than max_batch; QUEUE_FULL; STATE for a scheduler that drains or was stopped;
 * OUT_OF_MEMORY. Any thread. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status
kiln_scheduler_submit(kiln_scheduler *scheduler, const kiln_named_tensor *inputs,
                      size_t input_count, const kiln_named_tensor *outputs, size_t output_count,
                      const kiln_request_options *options, kiln_request **request);

/* Submits and waits; every output has data. With LATENCY and a context free it runs in this thread,
 * and no other is involved. Errors: as kiln_scheduler_submit and kiln_request_wait; `answered` and
 * `collect` are refused (INVALID_ARGUMENT), and an output of strings is (UNSUPPORTED). Any thread.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_run(
    kiln_scheduler *scheduler, const kiln_named_tensor *inputs, size_t input_count,
    const kiln_named_tensor *outputs, size_t output_count, const kiln_request_options *options);

typedef enum kiln_request_state {
    KILN_REQUEST_WAITING = 0,
    KILN_REQUEST_RUNNING = 1,
    KILN_REQUEST_DONE = 2, /* from here on it is answered */
    KILN_REQUEST_FAILED = 3,
    KILN_REQUEST_CANCELLED = 4,
    KILN_REQUEST_EXPIRED = 5
} kiln_request_state;

/* Where a request is. CANCELLED for NULL. Any thread. Since 0.1. */
KILN_API kiln_request_state kiln_request_get_state(const kiln_request *request);

/* Waits until the request is answered, at most so many milliseconds, or as long as it takes where
 * that is negative, and returns what it came to: OK, what the run failed with, CANCELLED, or
 * TIMEOUT for one that expired. BUSY while it is not answered. Several threads may wait. Errors:
 * NULL_ARGUMENT. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_wait(kiln_request *request, int64_t milliseconds);

/* An output of a request that is done: the caller's memory, or the request's, valid until it is
 * released. Errors: NULL_ARGUMENT; NAME; STATE before it is done. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_output(const kiln_request *request,
                                                         const char *name, kiln_tensor *tensor);

/* Ends a request as CANCELLED: at once while it waits; one that runs when its run has ended, which
 * is stopped for it where it is alone in its batch and the backend can (kiln_context_cancel). Its
 * result is lost in any case. Errors: NULL_ARGUMENT; STATE where it is answered. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_request_cancel(kiln_request *request);

/* Releases a request. One that is not answered yet stays in its place, and is answered as it would
 * have been. NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_request_release(kiln_request *request);

/* The next answered request of those that asked to be collected, for the caller to release; NULL
 * goes to `*request` where there is none. Errors: NULL_ARGUMENT. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_next(kiln_scheduler *scheduler,
                                                         kiln_request **request);

/* A descriptor of eventfd(2) for poll and epoll, which can be read once the first of answered
 * requests waits for kiln_scheduler_next: read 8 bytes from it, then take them until there is none.
 * The scheduler's, which closes it. Errors: NULL_ARGUMENT; IO. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_event(kiln_scheduler *scheduler,
                                                          int *descriptor);

/* Takes no more requests and waits until all are answered, at most so many milliseconds: BUSY then,
 * and it goes on; or as long as it takes where that is negative. Errors: NULL_ARGUMENT; STATE after
 * fork. Any thread, but none inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_drain(kiln_scheduler *scheduler,
                                                          int64_t milliseconds);

/* Takes no more requests, cancels those that wait, and waits for those that run. Errors:
 * NULL_ARGUMENT. Any thread, but none inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_stop(kiln_scheduler *scheduler);

/* Puts other engines in the place of those it has, between two batches: requests that wait go to
 * the new ones, those that run are waited for, and then the old ones are released. For an engine
 * that was built meanwhile, of another backend or on another device too, or a new version of the
 * model. After a kiln_scheduler_warmup the new contexts are warmed up in the same way first, while
 * requests go on; batches keep max_batch, and have the sizes that the new engines allow. Errors: as
 * kiln_scheduler_create and kiln_scheduler_warmup, and then all is as before; INVALID_ARGUMENT
 * where inputs or outputs differ; BUSY while another thread does the same; STATE once it was
 * stopped. Any thread, but none inside `answered`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_replace(kiln_scheduler *scheduler,
                                                            kiln_engine *const *engines,
                                                            size_t count);

/* How a build that was to take over ended: what it, or kiln_scheduler_replace, failed with, and the
 * sentence; CANCELLED where the scheduler was destroyed before. In a thread of the scheduler's,
 * which it should not keep: a destroy waits for it. */
typedef void (*kiln_replaced_function)(void *user, kiln_status status, const char *message);

/* Serves on, and once a build job has ended puts its engine in the place of those in use, as
 * kiln_scheduler_replace does. The job is the scheduler's from then on; kiln_build_get_progress and
 * kiln_build_cancel may be called on it until the next such call, or until the scheduler is
 * destroyed, which cancels it. Where it fails all stays as it is. `replaced` may be NULL. Errors:
 * NULL_ARGUMENT; BUSY while another job is waited for; STATE once it was stopped; OUT_OF_MEMORY;
 * the job is the caller's then. Any thread, but none inside `answered` or `replaced`. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_replace_built(kiln_scheduler *scheduler,
                                                                  kiln_build *build,
                                                                  kiln_replaced_function replaced,
                                                                  void *user);

/* submitted = done + failed + cancelled + expired + waiting + running, at any time. */
typedef struct kiln_scheduler_counters {
    size_t struct_size; /* sizeof(kiln_scheduler_counters), set by the caller */
    uint64_t submitted; /* requests that were taken */
    uint64_t refused;   /* that were not, for whatever reason */
    uint64_t done;
    uint64_t failed;
    uint64_t cancelled;
    uint64_t expired;
    uint64_t waiting;  /* now */
    uint64_t running;  /* now */
    uint64_t batches;  /* runs */
    uint64_t rows;     /* of requests, in those */
    uint64_t padding;  /* rows of zeros in those */
    uint64_t retried;  /* batches of several requests that failed: each ran again by itself */
    int64_t max_batch; /* rows that a batch may have; 0: requests are not joined */
    uint64_t padded;   /* by how much rows of requests were filled up in length, in all */
    uint64_t profile_switches; /* batches that needed another optimization profile than the one
                                  before them on their context */
    uint64_t graph_hits;       /* runs on a GPU that replayed a captured graph */
    uint64_t graph_misses;     /* and that did not */
    uint64_t replaced;         /* times that other engines took over */
    uint64_t copy_nanoseconds; /* COPY_TIME and RUN_TIME of its batch, for each request that ran */
    uint64_t run_nanoseconds;
} kiln_scheduler_counters;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_counters(kiln_scheduler *scheduler,
                                                                 kiln_scheduler_counters *counters);

/* What one of the engines in use has done since it took its place. */
typedef struct kiln_scheduler_engine_counters {
    size_t struct_size;       /* sizeof(kiln_scheduler_engine_counters), set by the caller */
    int32_t device;           /* -1: the CPU */
    uint64_t batches;         /* runs */
    uint64_t rows;            /* of requests, in those */
    uint64_t running;         /* contexts that have a batch, now */
    uint64_t run_nanoseconds; /* of all runs together, also of those at the same time */
} kiln_scheduler_engine_counters;

/* Of engine `index`, as kiln_scheduler_create or kiln_scheduler_replace was given them. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small or an index past the last.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_engine_counters(
    kiln_scheduler *scheduler, size_t index, kiln_scheduler_engine_counters *counters);

/* What is measured of each request that ran, in nanoseconds but for BATCH_ROWS. */
typedef enum kiln_scheduler_figure {
    KILN_SCHEDULER_QUEUE_TIME = 0, /* from its submission to the begin of its batch */
    KILN_SCHEDULER_COPY_TIME = 1,  /* joining the inputs of a batch and taking its outputs apart */
    KILN_SCHEDULER_RUN_TIME = 2,   /* the run of a batch */
    KILN_SCHEDULER_TOTAL_TIME = 3, /* from a request's submission to its answer */
    KILN_SCHEDULER_BATCH_ROWS = 4  /* rows of a batch, without padding */
} kiln_scheduler_figure;

/* Adds all that was measured of `figure` since the scheduler was made to `histogram`. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for another figure. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_scheduler_get_figure(kiln_scheduler *scheduler,
                                                               kiln_scheduler_figure figure,
                                                               kiln_histogram *histogram);

#ifdef __cplusplus
}
#endif

#endif
