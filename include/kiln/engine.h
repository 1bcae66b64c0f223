/*
 * engine.h - building, saving and loading engines.
 *
 * An engine is a network compiled by one backend. It is immutable, reference-counted and shared:
 * any number of contexts, in any threads, can run it at the same time. It lives until its last
 * reference and its last context are gone.
 *
 *     kiln_build_options options = KILN_BUILD_OPTIONS_INIT;
 *     options.backend = "onnxruntime";
 *     kiln_engine *engine = NULL;
 *     kiln_status status = kiln_engine_build_file("model.onnx", &options, &engine);
 *     ...
 *     kiln_engine_release(engine);
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_ENGINE_H
#define KILN_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <kiln/backend.h>
#include <kiln/export.h>
#include <kiln/issues.h>
#include <kiln/memory.h>
#include <kiln/network.h>
#include <kiln/options.h>
#include <kiln/status.h>
#include <kiln/tensor.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct kiln_engine kiln_engine;

/* Builds an engine from the ONNX model at `path`. Weights in external files are looked for in the
 * model's folder. `options` may be NULL. On success `*engine` holds one reference, to be given back
 * with kiln_engine_release; on an error it is NULL.
 *
 * A TensorRT build takes from a fraction of a second to many minutes, and the first one of a
 * process some seconds more. kiln_build_start_file does the same as a job, and
 * kiln_build_options.cache keeps the resulting plan for later builds.
 *
 * Errors: NULL_ARGUMENT; INVALID_ARGUMENT (options); NOT_FOUND, NOT_A_FILE, EMPTY, IO (the file);
 * MALFORMED (not ONNX, truncated or damaged); LIMIT (a single protobuf message larger than 2 GiB:
 * move the weights to an external file); INVALID_NETWORK; UNSUPPORTED (an operator or type that the
 * backend lacks, by name); NAME (backend); LIBRARY_* (the backend's library); BACKEND (the sentence
 * includes the backend's own message); OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build_file(const char *path,
                                                            const kiln_build_options *options,
                                                            kiln_engine **engine);

/* Like kiln_engine_build_file, from ONNX bytes in memory. `model` must stay alive and unchanged
 * until this returns. External weight files are looked for in `options->weights_folder`, or in the
 * working directory if that is NULL. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build_bytes(kiln_span model,
                                                             const kiln_build_options *options,
                                                             kiln_engine **engine);

/* Builds an engine from a network, built layer by layer or read with kiln_network_from_onnx. The
 * network may exceed 2 GiB.
 *
 * The network is validated first, for the backend and the profiles. If it has errors, the status is
 * UNSUPPORTED if all of them are about operators that the backend lacks, SHAPE if they are about
 * profiles, and INVALID_NETWORK otherwise. The sentence gives the number of errors and the first
 * one; `options.issues` receives all of them.
 *
 * ONNX Runtime and TensorRT use the weights in place, so weight arrays owned by the caller must
 * stay unchanged while the engine lives. Weights owned by the network, mapped files included, are
 * kept alive by the engine, so the network may be destroyed at once.
 *
 * Errors: as kiln_engine_build_file; STATE if `network` is a branch. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build(const kiln_network *network,
                                                       const kiln_build_options *options,
                                                       kiln_engine **engine);

/* The outcome of kiln_engine_tune_file. */
typedef struct kiln_tune_result {
    size_t struct_size;         /* sizeof(kiln_tune_result), set by the caller */
    uint32_t tried;             /* variants tried, the given options included */
    uint32_t failed;            /* variants that could not be built or run */
    uint64_t given_nanoseconds; /* median time of a run with the options as given */
    uint64_t best_nanoseconds;  /* median time of a run with the choices below */
    kiln_switch prefer_nhwc;
    kiln_conv_search conv_search;
    uint32_t merged_products; /* times that products of one tensor with several weights were merged
                                 into one */
    kiln_switch fuse_conv_bias;
    uint32_t fused_attentions; /* attentions of several nodes that were fused into one node each */
    uint32_t transposed_products; /* products whose constant weights are stored transposed */
} kiln_tune_result;

/* Builds the model at `path` for a GPU in several variants, times them, and returns the fastest
 * engine.
 *
 * The variants give the same results up to rounding. They differ in image layout, in the search for
 * convolution algorithms, in whether products of one tensor with several weights are merged, in
 * whether attention is fused into one operator, and in whether weights are stored transposed. Each
 * variant is timed with inputs of zeros, at the `opt` shapes of the first profile or at the model's
 * fixed shapes. Each takes at least a second.
 *
 * When the engine is saved, the manifest records the choices and the model is saved as rewritten.
 * The rewritten model may contain operators of the domain "com.microsoft", which need ONNX
 * Runtime's CUDA provider, and dimensions that the profile fixes (min equals max) may be written
 * into it.
 *
 * `result` may be NULL. Errors: as kiln_engine_build_file with the options as given; SHAPE if a
 * dynamic shape has no profile; UNSUPPORTED for an engine on the CPU. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_tune_file(const char *path,
                                                           const kiln_build_options *options,
                                                           kiln_tune_result *result,
                                                           kiln_engine **engine);

/* Writes the engine to `path` in the backend's own format: a TensorRT plan, or ONNX for the other
 * backends (trtexec and Netron open them). The manifest goes to `path`.json. It records how the
 * engine was built, with which versions and for which device, and a hash of the file.
 *
 * Both files change as one. A reader always finds the old pair or the new one, even if another
 * thread or process saves to the same path at the same time, or if this process is killed during
 * the call. Both are on the disk when the call returns, which takes as long as the disk does.
 *
 * A file that is replaced keeps its mode. A symbolic link stays, and the file it points to is
 * replaced. A device or pipe is written to and gets no manifest.
 *
 * Errors: NULL_ARGUMENT; IO; NOT_FOUND if the folder does not exist; BUSY if the folder stays
 * locked; UNSUPPORTED for a backend that has nothing to save (mock); LIMIT for a manifest larger
 * than 8 MiB, which takes about 100,000 weights. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_save(const kiln_engine *engine, const char *path);

/* Loads an engine written by kiln_engine_save, or a plan or ONNX file from elsewhere.
 *
 * A manifest next to the file selects the backend, unless `options` names one. If the manifest does
 * not match this machine, the load fails with KILN_ERROR_MISMATCH, and the sentence says what was
 * expected and what was found; the backend never sees the file.
 *
 * An ONNX file is built again as it was for the save. `optimization`, `share_weights`, `spinning`,
 * `provider` and the options that belong to the provider (the choices of kiln_engine_tune_file
 * included) come from the manifest if `options` leaves them at their defaults. If `provider` is
 * CPU, the options that belong to CUDA are left out. Device and thread counts depend on the machine
 * and never come from the manifest.
 *
 * A plan is read twice: once for the manifest's hash and once to load it. kiln_build_start_load
 * does the same as a job. Other errors as kiln_engine_build_file. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_load(const char *path,
                                                      const kiln_build_options *options,
                                                      kiln_engine **engine);

/* Gives the bytes that kiln_engine_save writes. `*bytes` belongs to the engine and is valid until
 * the engine is destroyed or its weights are replaced (kiln_engine_refit).
 *
 * Errors: NULL_ARGUMENT; UNSUPPORTED for a backend that has nothing to save (mock), and for weights
 * in external files that ONNX Runtime was given as a file; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_save_bytes(const kiln_engine *engine,
                                                            kiln_span *bytes);

/* Gives the manifest of those bytes as JSON text. Writes at most `size` bytes to `text`, always
 * NUL-terminated, and the full length without the NUL to `*length`. With a `size` of 0 it only
 * reports the length, and `text` may be NULL. The text may change between two calls, because it
 * includes measurements made while the engine runs.
 *
 * Errors: as kiln_engine_save_bytes and kiln_engine_save; LIMIT if `size` is not 0 and too small.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_manifest(const kiln_engine *engine, char *text,
                                                          size_t size, size_t *length);

/* Like kiln_engine_load, from bytes in memory, which are read during the call only. `manifest` is
 * the text that kiln_engine_manifest wrote for them, or {NULL, 0} for a plan or model without one.
 * Errors: as kiln_engine_load; EMPTY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_load_bytes(kiln_span bytes, kiln_span manifest,
                                                            const kiln_build_options *options,
                                                            kiln_engine **engine);

/* Adds a reference and returns `engine`; NULL for NULL. Any thread. Since 0.1. */
KILN_API kiln_engine *kiln_engine_retain(kiln_engine *engine);

/* Gives a reference back. The last one destroys the engine; if the engine has GPU memory, that
 * waits for the GPU's pending work. Each context holds its own reference, so contexts and engine
 * may be released in any order. NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_engine_release(kiln_engine *engine);

/* One input or output of an engine. */
typedef struct kiln_binding {
    size_t struct_size; /* sizeof(kiln_binding), set by the caller */
    const char *name;   /* owned by the engine, valid as long as it lives */
    bool is_input;      /* false: an output */
    kiln_dtype dtype;   /* UNDEFINED if it cannot be bound: a sequence, a map */
    kiln_shape shape; /* KILN_DYNAMIC for a dynamic dimension; rank -1: even the rank is unknown */
    const char
        *dim_names[KILN_MAX_RANK]; /* names of dynamic dimensions, such as "batch"; NULL: none */
    /* For integers: the real numbers they stand for. For floats: what the numbers are rounded to.
     * Taken from the nodes next to the binding (docs/precision.md#inputs-and-outputs), or from a
     * plan's manifest. If `storage` is KILN_DTYPE_UNDEFINED, the binding is not quantized. Owned by
     * the engine. */
    kiln_quantization quantization;
} kiln_binding;

/* The number of inputs, and of outputs. 0 for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_input_count(const kiln_engine *engine);
KILN_API size_t kiln_engine_output_count(const kiln_engine *engine);

/* Describes input or output `index`, from 0, in the model's order. Errors: NULL_ARGUMENT;
 * INVALID_ARGUMENT if `index` is past the end or struct_size is too small. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_input(const kiln_engine *engine, size_t index,
                                                       kiln_binding *binding);
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_output(const kiln_engine *engine, size_t index,
                                                        kiln_binding *binding);

/* The number of optional inputs: initializers that the model also lists as inputs (IR version 4 and
 * later). An optional input that is not bound has the model's own weights. It is bound by name,
 * like any input, but kiln_engine_input_count does not count it; binding an empty tensor
 * (kiln_context_bind) restores the model's weights.
 *
 * 0 for NULL, and for a backend that makes constants of them. TensorRT does, unless
 * kiln_build_options.shape_hints or a profile names the initializer; that makes it an ordinary
 * input, which must be bound. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_optional_count(const kiln_engine *engine);

/* Describes optional input `index`, from 0, in the model's order. Errors: as kiln_engine_input. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_optional(const kiln_engine *engine, size_t index,
                                                          kiln_binding *binding);

/* One entry of the metadata of a model or plan. Keys: "producer", "graph", "domain", "description",
 * "version", "opset", and "metadata.KEY" for the model's own metadata. */
typedef struct kiln_metadata {
    const char *key;   /* owned by the engine, valid as long as it lives */
    const char *value; /* UTF-8; likewise */
} kiln_metadata;

/* The number of metadata entries; 0 for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_metadata_count(const kiln_engine *engine);

/* Gives metadata entry `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_metadata(const kiln_engine *engine, size_t index,
                                                          kiln_metadata *metadata);

/* Describes the backend that built the engine: name, version, library. Errors: as kiln_backend_get.
 * Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_backend(const kiln_engine *engine,
                                                         kiln_backend_info *info);

/* The GPU that the engine runs on, from 0; -1 for the CPU and for NULL. Any thread. Since 0.1. */
KILN_API int32_t kiln_engine_device(const kiln_engine *engine);

/* The nodes of a GPU engine that run on the CPU, as lines of operator and name, in the model's
 * order. Such nodes cost copies between host and device and prevent CUDA graph capture. The count
 * is 0 if there are none and for engines on the CPU; a line is NULL past the end. Lines are owned
 * by the engine. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_host_node_count(const kiln_engine *engine);
KILN_API const char *kiln_engine_host_node(const kiln_engine *engine, size_t index);

/* Allocates persistent memory for every input and output, to be bound once. kiln_buffer_plan_find
 * gives the tensor of each name.
 *
 * `profile` gives the largest shape (`max`; `min` and `opt` are ignored) of each binding whose
 * shape is dynamic. A dynamic dimension may also take its size from a dimension of the same name of
 * an input that `profile` lists. An output whose shape is known only after a run may be listed too,
 * with the largest shape that it can have. `profile` may be NULL if every shape is fixed. `options`
 * may be NULL: host memory.
 *
 * Errors: NULL_ARGUMENT; NAME for a name that is no binding; RANK, SHAPE for a shape that does not
 * match or is not known; those of kiln_buffer_plan_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_engine_plan_buffers(const kiln_engine *engine, const kiln_profile *profile,
                         const kiln_buffer_plan_options *options, kiln_buffer_plan **plan);

/* --- the mock: a backend implemented by the caller --- */

/* One run of a mock engine, as the caller's function receives it. Tensors are in the order of the
 * bindings. */
typedef struct kiln_mock_run {
    const kiln_tensor *inputs;
    size_t input_count;
    kiln_tensor *outputs; /* write to .data, which is allocated. Set desc.shape if the binding's
                             shape is dynamic */
    size_t output_count;
    uint64_t index; /* earlier runs of this engine; 0 for the first */
} kiln_mock_run;

/* Performs one run. The return value becomes the status of the run. `message` (at most 1,023 bytes,
 * may be left unchanged) becomes part of the sentence. Called in the thread that runs the context;
 * with several contexts, from several threads at once. */
typedef kiln_status (*kiln_mock_handler)(void *user, kiln_mock_run *run, char message[1024]);

/* Enqueues one run on `stream`; the mock then stands for a GPU backend. All tensors are in memory
 * that the device can access, and every output has its shape. */
typedef kiln_status (*kiln_mock_enqueue)(void *user, kiln_mock_run *run, kiln_stream *stream,
                                         char message[1024]);

/* Options of an engine that calls `handler`. */
typedef struct kiln_mock_options {
    size_t struct_size;         /* set by KILN_MOCK_OPTIONS_INIT */
    const kiln_binding *inputs; /* copied, names included */
    size_t input_count;
    const kiln_binding *outputs;
    size_t output_count;
    kiln_mock_handler handler; /* required */
    void *user;                /* passed to `handler`; must outlive the engine and its contexts */
    uint64_t latency_nanoseconds; /* the least time that each run takes */
    uint64_t fail_every; /* every run whose number (from 1) is divisible by this fails; 0: none */
    kiln_status fail_status;   /* status of those runs; KILN_OK stands for KILN_ERROR_BACKEND */
    kiln_mock_enqueue enqueue; /* if set: an engine of GPU `device`, whose contexts enqueue */
    int32_t device;
    bool one_stream; /* all contexts share one stream of the engine, as with ONNX Runtime */
} kiln_mock_options;

#define KILN_MOCK_OPTIONS(...) KILN_INIT_OF_(kiln_mock_options, __VA_ARGS__)
#define KILN_MOCK_OPTIONS_INIT KILN_INIT_(kiln_mock_options)

/* Makes an engine of the caller's function, to test code above the engine without any backend
 * library. An output with dynamic dimensions must be bound by the caller, unless input dimensions
 * of the same name give its size. Errors: NULL_ARGUMENT, INVALID_ARGUMENT, OUT_OF_MEMORY. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_create_mock(const kiln_mock_options *options,
                                                             kiln_engine **engine);

#ifdef __cplusplus
}
#endif

#endif
