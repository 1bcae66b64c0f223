/* SPDX-License-Identifier: Apache-2.0 */
/* TensorRT's libraries as found: the core, its ONNX parser, its plugins.
 *
 * There is one record for each way to ask for them. It stays as long as the process, because
 * TensorRT keeps threads and a logger. */
#ifndef TRT_LIBRARY_H
#define TRT_LIBRARY_H

#include "backends/tensorrt/trt_callbacks.h"
#include "loader/kln_loader.h"

#define TRT_ENVIRONMENT "KILN_TENSORRT"

#define TRT_MEMBER(name, r, parameters) r(*name) parameters;
typedef struct trt_core {
    TRT_CORE_FUNCTIONS(TRT_MEMBER) /* createInferBuilder_INTERNAL is NULL in a lean runtime */
} trt_core;
/* The state of a library next to the core. */
typedef struct trt_beside {
    bool sought;
    kln_library *record;
    kiln_status status;
    char reason[1024];
} trt_beside;

typedef struct trt_parser_functions {
    TRT_PARSER_FUNCTIONS(TRT_MEMBER)
} trt_parser_functions;
typedef struct trt_plugin_functions {
    TRT_PLUGIN_FUNCTIONS(TRT_MEMBER)
} trt_plugin_functions;
#undef TRT_MEMBER

typedef struct trt_library {
    struct trt_library *next;
    const char *requested;  /* how it was requested; "" for the best available */
    bool is_in_environment; /* by KILN_TENSORRT, not by an option */
    kiln_status status;     /* of the search; `reason` is the sentence */
    char reason[1024];
    char name[32];       /* "TensorRT-RTX 1.7.1" */
    char no_device[160]; /* why it cannot use this machine's GPU; "" if that was not asked */
    const kln_library_spec *spec;
    kln_library *record;
    trt_core core;
    trt_abi abi;
    trt_tables tables;
    trt_logger logger;

    /* Looked for on first use, under the lock of trt_library.c. */
    trt_beside parser_found, plugin_found;
    bool plugins_registered;
    trt_parser_functions parser;
    trt_plugin_functions plugin;

    trt_Builder *kept; /* trt_keep.c, as the next */
    int32_t kept_device;
    struct trt_library *next_keeper;
    struct trt_timings *timings;
} trt_library;

/* The record for `requested`: a path of a library or its folder; one of the words "10", "11",
 * "rtx", "lean10" and "lean11" for the usual places of that family only; or NULL for the value of
 * the environment variable KILN_TENSORRT, with the same meaning, or else the best available. Fails
 * only if memory is short: `status` says whether it is usable. */
KILN_MUST_CHECK kiln_status trt_library_find(const char *requested, trt_library **library);

/* The same; fails if it is not usable. */
KILN_MUST_CHECK kiln_status trt_library_open(const char *requested, trt_library **library);

/* Whether it can build; otherwise UNSUPPORTED with what to do. */
KILN_MUST_CHECK kiln_status trt_library_need_builder(trt_library *library);

/* Looks for the parser or the plugin library next to the core, or where the environment says, and
 * registers the plugin layers. */
KILN_MUST_CHECK kiln_status trt_library_need_parser(trt_library *library);
KILN_MUST_CHECK kiln_status trt_library_need_plugins(trt_library *library);
/* The same before a model or plan that may have such layers: only logs that they are not available.
 * OUT_OF_MEMORY. */
KILN_MUST_CHECK kiln_status trt_library_offer_plugins(trt_library *library);

/* Ensures that a builder of this library exists and stays after a build, so that the next build
 * need not load the library's kernels again. Waits if another thread is creating it. `device` is
 * the current one. */
KILN_MUST_CHECK kiln_status trt_library_keep_builder(trt_library *library, int32_t device);
bool trt_library_keeps_builder(const trt_library *library);

/* The measurements of builds for GPU `device`, while a builder is kept: a copy for kln_free, empty
 * if there are none. Setting replaces the old ones; empty: drops them. */
KILN_MUST_CHECK kiln_status trt_library_get_timings(trt_library *library, int32_t device,
                                                    kiln_span *copy);
void trt_library_keep_timings(trt_library *library, int32_t device, kiln_span bytes);

/* Whether a plan of this library can run on GPU `device` of this machine; if not, `*reason` (may be
 * NULL) says why. The text stays valid as long as the process. */
bool trt_library_runs(trt_library *library, int32_t device, const char **reason);

/* For the system report: library `index`, from 0. */
bool trt_library_use(size_t index, kln_library_use *use);

/* Refuses what this version lacks: UNSUPPORTED "`what` needs Runtime.x, which TensorRT 10.0.0 does
 * not have". KILN_OK if it exists. */
KILN_MUST_CHECK kiln_status trt_need(const trt_library *library, trt_method method,
                                     const char *what);
KILN_MUST_CHECK kiln_status trt_need_value(const trt_library *library, trt_enumerator enumerator,
                                           const char *what);

#endif
