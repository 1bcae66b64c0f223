/*
 * plan.h - what an engine that is a plan of TensorRT tells and takes beside inputs and outputs: its
 * optimization profiles and layers, its memory, plugins.
 *
 * An engine of another backend has none of this: the counts are 0, and a call that asks for
 * something fails with KILN_ERROR_UNSUPPORTED and the backend's name.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_PLAN_H
#define KILN_PLAN_H

#include <stdbool.h>
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

/* --- what a plan says of itself --- */

/* The number of optimization profiles; 0 where no input is dynamic, for a plan that was only built,
 * ahead of time, and for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_profile_count(const kiln_engine *engine);

/* Profile `index`, from 0: the range of each dynamic input, and its name or NULL. The arrays
 * are the engine's. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_profile(const kiln_engine *engine, size_t index,
                                                         kiln_profile *profile);

/* Which profile has this name; its index, for kiln_context_set_profile and others, goes to
 * `*profile`. Errors: NULL_ARGUMENT; NAME, with the names there are. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_find_profile(const kiln_engine *engine,
                                                              const char *name, int32_t *profile);

/* The layers as JSON, in the words of the backend's own inspector: for TensorRT an object with
 * "Layers", whose entries are names, or objects with types, shapes and tactics where the plan was
 * built with KILN_PROFILING_DETAILED. The string is the engine's. Errors: NULL_ARGUMENT;
 * UNSUPPORTED; STATE for a plan that was only built, ahead of time; BACKEND; OUT_OF_MEMORY. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_inspect(kiln_engine *engine, const char **json);

/* Bytes of device memory that a context needs for what lies between inputs and outputs, with
 * optimization profile `profile`, from 0; -1: with the one that needs most. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT past the end; UNSUPPORTED; STATE. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_device_memory(kiln_engine *engine, int32_t profile,
                                                               uint64_t *bytes);

/* What Kiln has given TensorRT of the GPU's memory for this engine: its weights, its contexts, and
 * its build where that asked Kiln (kiln_gpu_allocator). */
typedef struct kiln_gpu_memory {
    size_t struct_size;    /* sizeof(kiln_gpu_memory), set by the caller */
    uint64_t bytes_in_use; /* now, as asked for */
    uint64_t bytes_peak;   /* at most, so far */
    uint64_t bytes_limit;  /* kiln_build_options.gpu_memory_bytes; 0: none */
    uint64_t allocations;  /* that worked */
    uint64_t releases;     /* of them */
    uint64_t refused;      /* that would have passed the limit */
    uint64_t failed;       /* that found no memory */
    bool from_pool;        /* of kiln_build_options.gpu_pool */
} kiln_gpu_memory;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small; UNSUPPORTED for
 * another backend, and where the engine was made with KILN_GPU_ALLOCATOR_LIBRARY. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_gpu_memory(kiln_engine *engine,
                                                            kiln_gpu_memory *memory);

/* --- weights that do not all stay on the GPU (kiln_build_options.weight_streaming) --- */

typedef struct kiln_weight_streaming {
    size_t struct_size;       /* sizeof(kiln_weight_streaming), set by the caller */
    int64_t streamable_bytes; /* of weights that can be streamed; 0: built without it */
    int64_t budget_bytes;     /* of them that stay on the GPU */
    int64_t automatic_bytes; /* the budget that TensorRT proposes for the memory that is free now */
    int64_t scratch_bytes;   /* what each context needs beside */
} kiln_weight_streaming;

/* Errors: NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size that is too small; UNSUPPORTED; STATE.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_engine_get_weight_streaming(kiln_engine *engine, kiln_weight_streaming *streaming);

/* Sets how many bytes stay on the GPU, 0 to streamable_bytes; -1: what TensorRT proposes. Only
 * while the engine has no context. Errors: NULL_ARGUMENT; UNSUPPORTED (built without it too);
 * INVALID_ARGUMENT; STATE where there are contexts; BACKEND. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_set_weight_streaming(kiln_engine *engine,
                                                                      int64_t budget_bytes);

/* --- contexts --- */

/* Uses optimization profile `profile` from the next run on, and fails a run whose shapes it does
 * not take; -1, and so it is at first: the one in use while the shapes fit it, else the first that
 * they fit. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end; UNSUPPORTED; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_set_profile(kiln_context *context,
                                                              int32_t profile);

/* The profile in use: that of the last run, or the one the next run begins from; -1 where the plan
 * has none, since no input is dynamic. Errors: NULL_ARGUMENT; UNSUPPORTED; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_get_profile(kiln_context *context,
                                                              int32_t *profile);

/* Writes what TensorRT-RTX compiled for this context, for kiln_context_options.runtime_cache; the
 * file appears whole or not at all. Errors: NULL_ARGUMENT; UNSUPPORTED; STATE for a context that
 * was made without runtime_cache; IO; BACKEND; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_save_runtime_cache(kiln_context *context,
                                                                     const char *path);

/* --- what each layer takes: of every backend but the mock --- */

/* The time of one layer of a plan, or of one node of the network as ONNX Runtime or the reference
 * executor runs it, summed over runs. */
typedef struct kiln_layer_time {
    size_t struct_size;  /* sizeof(kiln_layer_time), set by the caller */
    const char *name;    /* the context's, until it is destroyed or profiling is switched on anew; a
                            node without a name has that of its first output */
    double milliseconds; /* TensorRT: of GPU time; else by the clock, what runs inside it (bodies,
                            functions) included */
    uint64_t runs;
    const char *type; /* "Conv": the operator; "" where the library does not say */
} kiln_layer_time;

/* Measures each layer in later runs, or no more. Switching it on forgets what was measured. A run
 * takes longer while it is on. ONNX Runtime measures all contexts of an engine that was built with
 * kiln_build_options.profile_nodes, once: asking for the times ends it for good. Errors:
 * NULL_ARGUMENT; UNSUPPORTED; STATE for an engine of ONNX Runtime that was built without, or whose
 * times were asked for already; BUSY; BACKEND. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_profile_layers(kiln_context *context, bool on);

/* Layer `index`, from 0, in the order of the first report. Errors: NULL_ARGUMENT; INVALID_ARGUMENT
 * past the end, with how many there are, or for a struct_size that is too small; UNSUPPORTED; STATE
 * where nothing was measured; IO and MALFORMED for the file of ONNX Runtime's profiler;
 * OUT_OF_MEMORY where some layers found no memory; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_layer(kiln_context *context, size_t index,
                                                        kiln_layer_time *layer);

/* --- plugins: layers that others wrote --- */

typedef struct kiln_plugin {
    size_t struct_size; /* sizeof(kiln_plugin), set by the caller */
    const char *name;   /* as an ONNX node names it; the registry's, for as long as the process */
    const char *version;
    const char *name_space;     /* "" for none */
    const char *interface_kind; /* "PLUGIN CREATOR_V3ONE": what it was written against */
} kiln_plugin;

/* Loads a library of plugins into TensorRT's registry, for builds and for plans that need it. It
 * stays as long as the process. `library` says which TensorRT, as kiln_build_options.library; NULL:
 * the best there is. Errors: NULL_ARGUMENT; LIBRARY_* (TensorRT, or the plugins: BROKEN);
 * UNSUPPORTED for TensorRT-RTX, which has none. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_load(const char *library, const char *path);

/* How many layer types there are, TensorRT's own among them. Errors: as kiln_plugin_load. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_count(const char *library, size_t *count);

/* Layer type `index`, from 0. Errors: as kiln_plugin_load; INVALID_ARGUMENT past the end or for a
 * struct_size that is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_get(const char *library, size_t index,
                                                     kiln_plugin *plugin);

#ifdef __cplusplus
}
#endif

#endif
