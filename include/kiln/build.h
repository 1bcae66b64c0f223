/*
 * build.h - builds as jobs, with progress, cancellation and limits.
 *
 * A TensorRT build can take minutes. A job runs it in a thread of its own, reports progress and
 * stops on request:
 *
 *     kiln_build *build = NULL;
 *     kiln_build_start_file("model.onnx", &options, NULL, &build);
 *     kiln_engine *engine = NULL;
 *     while (kiln_build_wait(build, 100, &engine) == KILN_ERROR_BUSY) {
 *         kiln_build_progress progress = {.struct_size = sizeof progress};
 *         kiln_build_get_progress(build, &progress);
 *         ...
 *     }
 *     kiln_build_destroy(build);
 *
 * A backend can stop only at certain points, and a time limit ends the job at the next such point:
 *
 * - TensorRT stops between tactics, usually some milliseconds apart. It cannot stop while the first
 *   builder of a process loads the library's kernels (some seconds), nor within a layer that it
 *   compiles in one piece.
 * - ONNX Runtime and the reference executor, whose builds are short, stop only when they are done.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_BUILD_H
#define KILN_BUILD_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/engine.h>
#include <kiln/export.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_build kiln_build;

/* Limits of a job. */
typedef struct kiln_build_limits {
    size_t struct_size;    /* set by KILN_BUILD_LIMITS_INIT */
    uint64_t milliseconds; /* a job that takes longer ends with KILN_ERROR_TIMEOUT; 0: no limit */
    uint64_t memory_bytes; /* how much the process's resident memory may grow from the start of the
                              job; beyond that the job ends with KILN_ERROR_LIMIT. Checked where the
                              backend can be stopped, at most every 20 ms, and at the end. 0: no
                              limit */
} kiln_build_limits;

#define KILN_BUILD_LIMITS(...) KILN_INIT_OF_(kiln_build_limits, __VA_ARGS__)
#define KILN_BUILD_LIMITS_INIT KILN_INIT_(kiln_build_limits)

typedef enum kiln_build_state {
    KILN_BUILD_RUNNING = 0,
    KILN_BUILD_STOPPING = 1, /* cancelled or past a limit; the backend has not stopped yet */
    KILN_BUILD_DONE = 2,     /* the engine can be taken with kiln_build_wait */
    KILN_BUILD_FAILED = 3
} kiln_build_state;

/* Progress of a job. */
typedef struct kiln_build_progress {
    size_t struct_size; /* sizeof(kiln_build_progress), set by the caller */
    kiln_build_state state;
    char phase[128];       /* innermost phase, in the backend's words; "" before the first */
    int32_t depth;         /* number of enclosing phases */
    int64_t step, steps;   /* within the phase; steps 0: not known */
    double fraction;       /* of the whole job, 0 to 1, from the phases seen so far; never
                              decreases */
    uint64_t reports;      /* progress reports from the backend so far; of TensorRT's half a
                              million, about a hundred a second are passed on */
    uint64_t nanoseconds;  /* since the start; stops when the job ends */
    uint64_t memory_bytes; /* largest growth of resident memory so far */
} kiln_build_progress;

/* Starts a job that builds the ONNX model at `path`, as kiln_engine_build_file does. `options` and
 * everything they point to are copied, except `issues`, whose target must stay valid. `limits` may
 * be NULL. The file is opened at once and stays mapped until the job ends, so it must not change.
 * Relative paths are resolved against the working directory at the time of the call. The job's
 * thread handles no signals of the process. On an error `*build` is NULL.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT and other errors of options that do not depend on a
 * backend; NOT_FOUND, NOT_A_FILE, EMPTY and IO (the file); LIMIT for a path that is too long;
 * OUT_OF_MEMORY, also if no thread can be created. Errors of the model, the backend (its name
 * included) and its library come from kiln_build_wait. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_file(const char *path,
                                                           const kiln_build_options *options,
                                                           const kiln_build_limits *limits,
                                                           kiln_build **build);

/* Like kiln_build_start_file, for what kiln_engine_load accepts: a saved engine with its manifest,
 * a plan, or an ONNX file, which is built. Errors: as kiln_build_start_file; errors in the
 * manifest, or a mismatch with this machine, come from kiln_build_wait. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_load(const char *path,
                                                           const kiln_build_options *options,
                                                           const kiln_build_limits *limits,
                                                           kiln_build **build);

/* Like kiln_build_start_file, from ONNX bytes in memory, which must stay alive and unchanged until
 * the job has ended or is destroyed. Errors: EMPTY for 0 bytes, and those of the arguments. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_bytes(kiln_span model,
                                                            const kiln_build_options *options,
                                                            const kiln_build_limits *limits,
                                                            kiln_build **build);

/* Gives the progress of the job. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too
 * small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_get_progress(kiln_build *build,
                                                             kiln_build_progress *progress);

/* Asks the job to stop, and returns at once. kiln_build_wait then gives CANCELLED, unless the job
 * was done before. NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_build_cancel(kiln_build *build);

/* Waits until the job ends, for at most `milliseconds` (0: does not wait; UINT64_MAX: no limit),
 * and gives the engine with one reference, once. On a failure, the issues go to the place that the
 * options named, if any, also once. Errors: BUSY if the job has not ended yet; the error of the
 * build, with its sentence; CANCELLED; TIMEOUT and LIMIT (kiln_build_limits); STATE if the engine
 * was already taken, and in a process forked after the start. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_wait(kiln_build *build, uint64_t milliseconds,
                                                     kiln_engine **engine);

/* The error sentence of the job, for any thread: "" while it runs, if it succeeded, and for NULL.
 * Owned by the job, valid as long as it is. Any thread. Since 0.1. */
KILN_API const char *kiln_build_error_message(kiln_build *build);

/* Releases what backends keep in this process between builds, and returns the number of builders
 * released. TensorRT keeps one builder for each library used for a build. A builder keeps the
 * library's kernels loaded (gigabytes of resident memory, and some seconds of a first build) and
 * passes measurements on to the next build.
 *
 * Builds in progress continue; the next build loads and measures again. The call takes about a
 * second for each builder, and waits while a first build loads kernels. Any thread. Since 0.1. */
KILN_API size_t kiln_build_release_builders(void);

/* Cancels the job if it still runs, waits until the backend has stopped, and releases the job, and
 * the engine if nobody took it. NULL is allowed. No other thread may be in a call with the job.
 * Since 0.1. */
KILN_API void kiln_build_destroy(kiln_build *build);

#ifdef __cplusplus
}
#endif

#endif
