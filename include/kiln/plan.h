/*
 * plan.h - TensorRT plans: optimization profiles, layers, memory, plugins.
 *
 * For an engine of another backend the counts are 0, and the other calls fail with
 * KILN_ERROR_UNSUPPORTED and the backend's name, except for the layer times, which most backends
 * have.
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

/* --- inspecting a plan --- */

/* The number of optimization profiles. 0 if no input is dynamic, for a plan that was only built,
 * ahead of time, and for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_profile_count(const kiln_engine *engine);

/* Gives profile `index`, from 0: the range of each dynamic input, and the profile's name or NULL.
 * The arrays are owned by the engine. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_profile(const kiln_engine *engine, size_t index,
                                                         kiln_profile *profile);

/* Finds a profile by name and gives its index, for kiln_context_set_profile and others. Errors:
 * NULL_ARGUMENT; NAME, with the names that exist. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_find_profile(const kiln_engine *engine,
                                                              const char *name, int32_t *profile);

/* Gives the layers as JSON, from the backend's own inspector. TensorRT gives an object with
 * "Layers", whose entries are names, or objects with types, shapes and tactics if the plan was
 * built with KILN_PROFILING_DETAILED. The string is owned by the engine. Errors: NULL_ARGUMENT;
 * UNSUPPORTED; STATE for a plan that was only built, ahead of time; BACKEND; OUT_OF_MEMORY. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_inspect(kiln_engine *engine, const char **json);

/* Gives the bytes of device memory that a context needs for activations with optimization profile
 * `profile`, from 0; -1: with the profile that needs most. Errors: NULL_ARGUMENT; INVALID_ARGUMENT
 * past the end; UNSUPPORTED; STATE. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_device_memory(kiln_engine *engine, int32_t profile,
                                                               uint64_t *bytes);

/* GPU memory that Kiln has given TensorRT for this engine: for its weights, its contexts, and its
 * build if that used Kiln's allocator (kiln_gpu_allocator). */
typedef struct kiln_gpu_memory {
    size_t struct_size;    /* sizeof(kiln_gpu_memory), set by the caller */
    uint64_t bytes_in_use; /* current use, as requested */
    uint64_t bytes_peak;   /* maximum use so far */
    uint64_t bytes_limit;  /* kiln_build_options.gpu_memory_bytes; 0: no limit */
    uint64_t allocations;  /* successful allocations */
    uint64_t releases;     /* releases of those */
    uint64_t refused;      /* requests that would have exceeded the limit */
    uint64_t failed;       /* requests that found no memory */
    bool from_pool;        /* from kiln_build_options.gpu_pool */
} kiln_gpu_memory;

/* Gives the GPU memory of the engine. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is too
 * small; UNSUPPORTED for another backend, and for an engine made with KILN_GPU_ALLOCATOR_LIBRARY.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_gpu_memory(kiln_engine *engine,
                                                            kiln_gpu_memory *memory);

/* --- weight streaming (kiln_build_options.weight_streaming) --- */

typedef struct kiln_weight_streaming {
    size_t struct_size;       /* sizeof(kiln_weight_streaming), set by the caller */
    int64_t streamable_bytes; /* size of the weights that can be streamed; 0: built without weight
                                 streaming */
    int64_t budget_bytes;     /* bytes of these that stay on the GPU */
    int64_t automatic_bytes;  /* the budget that TensorRT proposes for the GPU memory now free */
    int64_t scratch_bytes;    /* additional memory that each context needs */
} kiln_weight_streaming;

/* Gives the state of weight streaming. Errors: NULL_ARGUMENT; INVALID_ARGUMENT if struct_size is
 * too small; UNSUPPORTED; STATE. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_engine_get_weight_streaming(kiln_engine *engine, kiln_weight_streaming *streaming);

/* Sets how many bytes of weights stay on the GPU, 0 to streamable_bytes; -1: TensorRT's proposal.
 * Allowed only while the engine has no contexts. Errors: NULL_ARGUMENT; UNSUPPORTED (also for a
 * plan built without weight streaming); INVALID_ARGUMENT; STATE if there are contexts; BACKEND.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_set_weight_streaming(kiln_engine *engine,
                                                                      int64_t budget_bytes);

/* --- profiles of a context --- */

/* Selects optimization profile `profile` from the next run on; a run whose shapes it does not cover
 * fails. -1, the default, selects automatically: the profile in use if it covers the shapes,
 * otherwise the first one that does. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end;
 * UNSUPPORTED; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_set_profile(kiln_context *context,
                                                              int32_t profile);

/* Gives the profile in use: that of the last run, or the one that the next run starts from. -1 if
 * the plan has none because no input is dynamic. Errors: NULL_ARGUMENT; UNSUPPORTED; BUSY. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_get_profile(kiln_context *context,
                                                              int32_t *profile);

/* Saves the kernels that TensorRT-RTX compiled for this context, for
 * kiln_context_options.runtime_cache. The file appears whole or not at all. Errors: NULL_ARGUMENT;
 * UNSUPPORTED; STATE for a context created without runtime_cache; IO; BACKEND; BUSY. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_save_runtime_cache(kiln_context *context,
                                                                     const char *path);

/* --- layer times: all backends but the mock --- */

/* The time of one layer of a plan, or of one node of the network as ONNX Runtime or the reference
 * executor runs it, summed over runs. */
typedef struct kiln_layer_time {
    size_t struct_size;  /* sizeof(kiln_layer_time), set by the caller */
    const char *name;    /* owned by the context, until it is destroyed or profiling is switched on
                            again; a node without a name has that of its first output */
    double milliseconds; /* TensorRT: GPU time; others: wall-clock time, including what runs inside
                            (bodies, functions) */
    uint64_t runs;
    const char *type; /* the operator, such as "Conv"; "" if the library does not report it */
} kiln_layer_time;

/* Switches the measuring of layers in later runs on or off. Switching it on discards earlier
 * measurements. Runs take longer while it is on.
 *
 * ONNX Runtime measures all contexts of an engine built with kiln_build_options.profile_nodes
 * together, and only once: reading the times ends the measuring for good.
 *
 * Errors: NULL_ARGUMENT; UNSUPPORTED; STATE for an engine of ONNX Runtime that was built without
 * that option, or whose times were already read; BUSY; BACKEND. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_profile_layers(kiln_context *context, bool on);

/* Gives the time of layer `index`, from 0, in the order of the first report. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT past the end, with the number of layers, or if struct_size is too small;
 * UNSUPPORTED; STATE if nothing was measured; IO and MALFORMED for the file of ONNX Runtime's
 * profiler; OUT_OF_MEMORY if some layers could not be recorded for lack of memory; BUSY. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_context_layer(kiln_context *context, size_t index,
                                                        kiln_layer_time *layer);

/* --- plugins: custom layers --- */

typedef struct kiln_plugin {
    size_t struct_size; /* sizeof(kiln_plugin), set by the caller */
    const char *name;   /* as ONNX nodes name it; owned by the registry, valid as long as the
                           process */
    const char *version;
    const char *name_space;     /* namespace; "" for none */
    const char *interface_kind; /* the interface it implements: "PLUGIN CREATOR_V3ONE" */
} kiln_plugin;

/* Loads a plugin library into TensorRT's registry, for builds and for plans that need it. It stays
 * loaded as long as the process. `library` selects TensorRT, as kiln_build_options.library; NULL:
 * the best one here. Errors: NULL_ARGUMENT; LIBRARY_* (TensorRT, or the plugins: BROKEN);
 * UNSUPPORTED for TensorRT-RTX, which has no plugins. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_load(const char *library, const char *path);

/* Gives the number of plugin layer types, TensorRT's own included. Errors: as kiln_plugin_load. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_count(const char *library, size_t *count);

/* Describes plugin layer type `index`, from 0. Errors: as kiln_plugin_load; INVALID_ARGUMENT if
 * `index` is past the end or struct_size is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_plugin_get(const char *library, size_t index,
                                                     kiln_plugin *plugin);

#ifdef __cplusplus
}
#endif

#endif
