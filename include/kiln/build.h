/*
 * build.h - a build as a job: progress, cancelling, limits.
 *
 * A TensorRT build can take minutes. As a job it runs in a thread of its own, says how far it is,
 * and stops when asked to:
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
 * A backend can be stopped at some points of its work only: TensorRT between tactics, some
 * milliseconds apart as a rule, but not while the first builder of a process loads the library's
 * kernels (some seconds) nor within a layer that it compiles in one piece; ONNX Runtime and the
 * reference executor, whose builds are short, not before they are done. A time limit ends the job
 * at the next such point.
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
    uint64_t milliseconds; /* the job ends with KILN_ERROR_TIMEOUT past it; 0: none */
    uint64_t memory_bytes; /* resident memory of the process may grow by so much from the start on;
                              past it the job ends with KILN_ERROR_LIMIT. Checked where the backend
                              can be stopped, every 20 ms at most, and at the end. 0: none */
} kiln_build_limits;

#define KILN_BUILD_LIMITS(...) KILN_INIT_OF_(kiln_build_limits, __VA_ARGS__)
#define KILN_BUILD_LIMITS_INIT KILN_INIT_(kiln_build_limits)

typedef enum kiln_build_state {
    KILN_BUILD_RUNNING = 0,
    KILN_BUILD_STOPPING = 1, /* cancelled, or past a limit; the backend has not stopped yet */
    KILN_BUILD_DONE = 2,     /* the engine can be taken */
    KILN_BUILD_FAILED = 3
} kiln_build_state;

/* How far a job is. */
typedef struct kiln_build_progress {
    size_t struct_size; /* sizeof(kiln_build_progress), set by the caller */
    kiln_build_state state;
    char phase[128];       /* the innermost phase, in the backend's words; "" before the first */
    int32_t depth;         /* phases around it */
    int64_t step, steps;   /* of the phase; steps 0: not known */
    double fraction;       /* of the whole, 0 to 1, from the phases seen; never falls */
    uint64_t reports;      /* of progress by the backend so far; of TensorRT's half a million some
                              hundred a second are passed on */
    uint64_t nanoseconds;  /* since the start; stands still at the end */
    uint64_t memory_bytes; /* by how much resident memory has grown at most */
} kiln_build_progress;

/* Starts building the ONNX model at `path`; as kiln_engine_build_file. `options` and all that they
 * point to are copied, but for `issues`, whose place must stay; `limits` may be NULL. The file is
 * mapped until the job ends: it must not change. Relative paths are taken from the folder that the
 * process is in now. The job's thread takes no signals of the host's. On an error `*build` is NULL.
 * The file is opened at once. Errors: NULL_ARGUMENT, INVALID_ARGUMENT and others of the options
 * that no backend takes; NOT_FOUND, NOT_A_FILE, EMPTY and IO of the file; LIMIT for a path that is
 * too long; OUT_OF_MEMORY, also where no thread is to be had. What the model, the backend (its name
 * too) and its library fail with comes from kiln_build_wait. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_file(const char *path,
                                                           const kiln_build_options *options,
                                                           const kiln_build_limits *limits,
                                                           kiln_build **build);

/* The same of what kiln_engine_load takes: an engine that was saved, with its manifest, a plan, or
 * an ONNX file, which is built. Errors: as kiln_build_start_file; what is wrong with the manifest,
 * or does not fit this machine, comes from kiln_build_wait. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_load(const char *path,
                                                           const kiln_build_options *options,
                                                           const kiln_build_limits *limits,
                                                           kiln_build **build);

/* kiln_build_start_file from ONNX bytes in memory, which must stay alive and unchanged until the
 * job has ended or was destroyed. Errors: EMPTY for 0 bytes, and those of the arguments. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_start_bytes(kiln_span model,
                                                            const kiln_build_options *options,
                                                            const kiln_build_limits *limits,
                                                            kiln_build **build);

/* How far it is. Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_get_progress(kiln_build *build,
                                                             kiln_build_progress *progress);

/* Asks the job to stop; kiln_build_wait then gives CANCELLED, unless it was done before. Returns at
 * once. NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_build_cancel(kiln_build *build);

/* Waits until the job ends, at most `milliseconds` (0: only looks; UINT64_MAX: as long as it
 * takes), and hands the engine out with one reference, once. Where the options named a place for
 * issues, a failure's list is put there, once too. Errors: BUSY where it has not ended
 * yet; what the build failed with, and its sentence; CANCELLED; TIMEOUT and LIMIT
 * (kiln_build_limits); STATE where the engine was taken already, and in a process that was forked
 * after the start. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_build_wait(kiln_build *build, uint64_t milliseconds,
                                                     kiln_engine **engine);

/* What the job failed with, in a sentence, whatever thread asks: "" while it runs, where it worked,
 * and for NULL. The job's, valid as long as it. Any thread. Since 0.1. */
KILN_API const char *kiln_build_error_message(kiln_build *build);

/* Gives up what backends keep in this process from one build to the next. Of TensorRT, that is one
 * builder for each library that was built with: while there is one, the library's kernels stay
 * loaded (gigabytes of resident memory, and some seconds of each first build), and what builds
 * measured is known to the next. Builds that are under way go on; the next one loads and measures
 * anew. Takes about a second for each builder, and waits where a first build loads kernels. Returns
 * how many builders there were. Any thread. Since 0.1. */
KILN_API size_t kiln_build_release_builders(void);

/* Cancels what is still running, waits until the backend has stopped, and releases the job, and the
 * engine if nobody took it. NULL is allowed. Not while another thread is in a call with it. Since
 * 0.1. */
KILN_API void kiln_build_destroy(kiln_build *build);

#ifdef __cplusplus
}
#endif

#endif
