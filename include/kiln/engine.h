/*
 * engine.h - from a model to something that runs.
 *
 * An engine is a network made ready by one backend. It is immutable and shared: any number of
 * contexts, in any threads, run over it, and it lives until the last of them and the last reference
 * are gone.
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

/* Builds the ONNX model at `path`; weights in external files are looked for beside it. `options`
 * may be NULL. On success `*engine` holds one reference, for kiln_engine_release; on an error it is
 * NULL. TensorRT takes from a part of a second to many minutes, and some seconds more for the first
 * build of a process: kiln_build_start_file does the same as a job, and kiln_build_options.cache
 * keeps what came of it.
 *
 * Errors: NULL_ARGUMENT, INVALID_ARGUMENT (options); NOT_FOUND, NOT_A_FILE, EMPTY, IO (the file);
 * MALFORMED (not ONNX, truncated or damaged); LIMIT (past 2 GiB in one protobuf message: weights
 * belong in an external file then); INVALID_NETWORK, UNSUPPORTED (an operator or type the backend
 * lacks, by name); NAME (backend); LIBRARY_* (its library); BACKEND (its own message is part of the
 * sentence); OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build_file(const char *path,
                                                            const kiln_build_options *options,
                                                            kiln_engine **engine);

/* The same from ONNX bytes in memory. `model` must stay alive and unchanged until this returns;
 * external weight files are looked for in `options->weights_folder`, or in the working directory.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build_bytes(kiln_span model,
                                                             const kiln_build_options *options,
                                                             kiln_engine **engine);

/* Builds a network: one that was built layer by layer, or read by kiln_network_from_onnx, past 2
 * GiB too. It is validated first, for the backend and the profiles: INVALID_NETWORK (UNSUPPORTED
 * where it is all about operators that the backend lacks, SHAPE where about profiles) says how many
 * errors there are and the first; `options.issues` gets all. Its weights are handed on where they
 * lie (ONNX Runtime, TensorRT), so the caller's arrays must stay as they are while the engine
 * lives; what the network owns itself, mapped files among it, the engine holds on to, so the
 * network may be destroyed at once. Errors: as kiln_engine_build_file, and STATE for a branch.
 * Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_build(const kiln_network *network,
                                                       const kiln_build_options *options,
                                                       kiln_engine **engine);

/* What tuning found. */
typedef struct kiln_tune_result {
    size_t struct_size;         /* sizeof(kiln_tune_result), set by the caller */
    uint32_t tried;             /* ways to build, the options as they were given among them */
    uint32_t failed;            /* that could not be built or run */
    uint64_t given_nanoseconds; /* median of a run as the options were given */
    uint64_t best_nanoseconds;  /* and with those below */
    kiln_switch prefer_nhwc;
    kiln_conv_search conv_search;
    uint32_t merged_products; /* products of one tensor with several weights were made one, so many
                                 times */
    kiln_switch fuse_conv_bias;
    uint32_t fused_attentions;    /* attentions written out in several nodes became one each */
    uint32_t transposed_products; /* products whose constant weights are stored transposed */
} kiln_tune_result;

/* Builds the model at `path` for a GPU in several ways that give the same results but for rounding
 * (layout of images, search for convolution algorithms, products with several weights in one,
 * attention in one operator, transposed weights), times each on the first
 * profile's `opt` shapes, or on fixed ones, with inputs of zeroes, and hands out the fastest
 * engine. What was chosen goes into the manifest when the engine is saved, and the model is saved
 * as it was rewritten: operators of the domain "com.microsoft" may be in it, which need ONNX
 * Runtime's CUDA provider, and dimensions that the profile fixes (min is max) may be written into
 * it. Takes a second for each way at least. `result` may be NULL. Errors: as kiln_engine_build_file
 * for the options as they are given; SHAPE where a dynamic shape has no profile; UNSUPPORTED for an
 * engine on the CPU. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_tune_file(const char *path,
                                                           const kiln_build_options *options,
                                                           kiln_tune_result *result,
                                                           kiln_engine **engine);

/* Writes the engine to `path`, in the backend's own format: a TensorRT plan, or ONNX for the others
 * (trtexec and Netron open them). Beside it goes `path`.json, the manifest: how it was built, with
 * which versions, for which device, and a hash of the file. They change as one: whoever loads
 * meanwhile, saves to the same path from another thread or process, or finds them after this one
 * was killed, has the old pair or the new one; both are on the disk when the call returns, which
 * takes as long as the disk does. A file that is replaced keeps its mode; a link stays and what it
 * leads to is replaced; a device or pipe is written to and has no manifest. Errors: NULL_ARGUMENT;
 * IO; NOT_FOUND where there is no such folder; BUSY where the folder stays locked; UNSUPPORTED for
 * a backend that has nothing to save (mock); LIMIT for a manifest past 8 MiB, of some 100,000
 * weights. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_save(const kiln_engine *engine, const char *path);

/* Loads what kiln_engine_save wrote, or a plan or ONNX file from elsewhere. Where a manifest lies
 * beside the file, it chooses the backend (unless `options` names one), and one that does not fit
 * this machine is refused with KILN_ERROR_MISMATCH, expected and found, before the backend sees the
 * file. ONNX is built again as it was for the save: `optimization`, `share_weights`, `spinning`,
 * `provider` and what belongs to that (the choices of kiln_engine_tune_file among it) are the
 * manifest's where `options` leave them at their default; where `provider` is CPU, what belongs to
 * CUDA stays out. Device and threads depend on the machine, so they are never the manifest's. A
 * plan is read once for the manifest's hash and once to be loaded; kiln_build_start_load does it as
 * a job. Other errors as kiln_engine_build_file. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_load(const char *path,
                                                      const kiln_build_options *options,
                                                      kiln_engine **engine);

/* What kiln_engine_save writes, in memory: `*bytes` belong to the engine and live as long as it
 * does, or until its weights are replaced (kiln_engine_refit). Errors: NULL_ARGUMENT; UNSUPPORTED
 * for a backend that has nothing to save (mock), and for weights in external files that ONNX
 * Runtime was given as a file; OUT_OF_MEMORY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_save_bytes(const kiln_engine *engine,
                                                            kiln_span *bytes);

/* The manifest that belongs to those bytes, as JSON text: writes at most `size` bytes to `text`,
 * always with a NUL at the end, and to `*length` how long the whole is without it. A `size` of 0
 * only asks (`text` may be NULL then). What is measured while an engine runs may change it between
 * two calls. Errors: as kiln_engine_save_bytes and kiln_engine_save; LIMIT where `size` is neither
 * 0 nor enough. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_manifest(const kiln_engine *engine, char *text,
                                                          size_t size, size_t *length);

/* kiln_engine_load of bytes in memory, which are read during the call only. `manifest`: what
 * kiln_engine_manifest wrote for them, or {NULL, 0} for a plan or model that has none. Errors: as
 * kiln_engine_load; EMPTY. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_load_bytes(kiln_span bytes, kiln_span manifest,
                                                            const kiln_build_options *options,
                                                            kiln_engine **engine);

/* Adds a reference and returns `engine`. NULL gives NULL. Any thread. Since 0.1. */
KILN_API kiln_engine *kiln_engine_retain(kiln_engine *engine);

/* Gives a reference back; the last one destroys the engine, and waits for what the GPU has to do
 * where the engine has memory there. Contexts hold a reference of their own, so the order does not
 * matter. NULL is allowed. Any thread. Since 0.1. */
KILN_API void kiln_engine_release(kiln_engine *engine);

/* One input or output of an engine. */
typedef struct kiln_binding {
    size_t struct_size; /* sizeof(kiln_binding), set by the caller */
    const char *name;   /* the engine's, as long as it lives */
    bool is_input;      /* else it is an output */
    kiln_dtype dtype;   /* UNDEFINED for what cannot be bound: a sequence, a map */
    kiln_shape shape; /* KILN_DYNAMIC where it is not fixed; rank -1: not even the rank is known */
    const char *dim_names[KILN_MAX_RANK]; /* of dynamic dimensions, "batch"; NULL: it has none */
    /* What its integers stand for, or what the numbers of a binding of floats are rounded to, as
     * the nodes beside it say (docs/precision.md#inputs-and-outputs), or the manifest of a plan.
     * Storage KILN_DTYPE_UNDEFINED: it is not quantized. The engine's. */
    kiln_quantization quantization;
} kiln_binding;

/* The number of inputs and of outputs. 0 for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_input_count(const kiln_engine *engine);
KILN_API size_t kiln_engine_output_count(const kiln_engine *engine);

/* Input or output `index`, from 0, in the model's order. Errors: NULL_ARGUMENT; INVALID_ARGUMENT
 * past the end or for a struct_size that is too small. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_input(const kiln_engine *engine, size_t index,
                                                       kiln_binding *binding);
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_output(const kiln_engine *engine, size_t index,
                                                        kiln_binding *binding);

/* Initializers that are inputs of the model too (from IR version 4 on): what may be fed, but has
 * the model's own weights where nothing is bound. They are bound by name, as inputs are, and stay
 * out of kiln_engine_input_count; an empty tensor (kiln_context_bind) gives them their weights
 * back. 0 for NULL, and where the backend makes constants of them (TensorRT: there
 * kiln_build_options.shape_hints or a profile makes one an input that must be bound). Any thread.
 * Since 0.1. */
KILN_API size_t kiln_engine_optional_count(const kiln_engine *engine);

/* Such an input, from 0, in the model's order. Errors as for kiln_engine_input. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_optional(const kiln_engine *engine, size_t index,
                                                          kiln_binding *binding);

/* One line of what the model or the plan says about itself: "producer", "graph", "domain",
 * "description", "version", "opset", and the model's own metadata under "metadata.KEY". */
typedef struct kiln_metadata {
    const char *key;   /* the engine's, as long as it lives */
    const char *value; /* UTF-8 */
} kiln_metadata;

/* How many lines there are; 0 for NULL. Any thread. Since 0.1. */
KILN_API size_t kiln_engine_metadata_count(const kiln_engine *engine);

/* Line `index`, from 0. Errors: NULL_ARGUMENT; INVALID_ARGUMENT past the end. Any thread. Since
 * 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_metadata(const kiln_engine *engine, size_t index,
                                                          kiln_metadata *metadata);

/* The backend that built the engine: name, version, library. Errors: as kiln_backend_get. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_backend(const kiln_engine *engine,
                                                         kiln_backend_info *info);

/* The GPU that the engine computes on, from 0; -1 for the CPU and for NULL. Any thread. Since 0.1.
 */
KILN_API int32_t kiln_engine_device(const kiln_engine *engine);

/* The nodes that run on the CPU though the engine computes on a GPU, one line each: operator and
 * name, in the model's order. They cost copies and keep runs from being captured into graphs. 0 and
 * NULL where there are none, past the end and for engines on the CPU. The engine's. Any thread.
 * Since 0.1. */
KILN_API size_t kiln_engine_host_node_count(const kiln_engine *engine);
KILN_API const char *kiln_engine_host_node(const kiln_engine *engine, size_t index);

/* Persistent memory for every input and output, to be bound once: kiln_buffer_plan_find gives the
 * tensor of each name. Where a shape is dynamic, `profile` has the largest of that name (`max`; the
 * others are not looked at), or an input that it names has a dimension of the same name; an output
 * whose shape is known only after a run may be named there too, with the most that it can be.
 * `profile` may be NULL where every shape is fixed; `options` may be NULL: host memory. Errors:
 * NULL_ARGUMENT; NAME for one that is no binding; RANK, SHAPE for one that does not fit or is not
 * known; those of kiln_buffer_plan_create. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status
kiln_engine_plan_buffers(const kiln_engine *engine, const kiln_profile *profile,
                         const kiln_buffer_plan_options *options, kiln_buffer_plan **plan);

/* --- the mock: a backend played by the caller --- */

/* What the mock hands to the caller's function for one run: the tensors in the order of the
 * bindings. */
typedef struct kiln_mock_run {
    const kiln_tensor *inputs;
    size_t input_count;
    kiln_tensor *outputs; /* write to .data; the memory is there. Set desc.shape where the binding's
                             is dynamic */
    size_t output_count;
    uint64_t index; /* runs of this engine so far, from 0 */
} kiln_mock_run;

/* Plays one run. What it returns becomes the run's status; `message` (at most 1,023 bytes, may be
 * left as it is) becomes part of the sentence. Called from the thread that runs the context, from
 * several at once for several contexts. */
typedef kiln_status (*kiln_mock_handler)(void *user, kiln_mock_run *run, char message[1024]);

/* Enqueues one run on `stream`: the mock plays a GPU then. All tensors lie where the device can
 * reach them, and every output has its shape. */
typedef kiln_status (*kiln_mock_enqueue)(void *user, kiln_mock_run *run, kiln_stream *stream,
                                         char message[1024]);

/* An engine that calls `handler`. */
typedef struct kiln_mock_options {
    size_t struct_size;         /* set by KILN_MOCK_OPTIONS_INIT */
    const kiln_binding *inputs; /* copied, names too */
    size_t input_count;
    const kiln_binding *outputs;
    size_t output_count;
    kiln_mock_handler handler; /* required */
    void *user;                /* handed to `handler`; must outlive the engine and its contexts */
    uint64_t latency_nanoseconds; /* each run takes at least this long */
    uint64_t fail_every;          /* each run whose number (from 1) this divides fails; 0: none */
    kiln_status fail_status;      /* with this; KILN_OK stands for KILN_ERROR_BACKEND */
    kiln_mock_enqueue enqueue;    /* given: an engine of GPU `device`, whose contexts enqueue */
    int32_t device;
    bool one_stream; /* all contexts work on one stream of the engine, as ONNX Runtime does */
} kiln_mock_options;

#define KILN_MOCK_OPTIONS(...) KILN_INIT_OF_(kiln_mock_options, __VA_ARGS__)
#define KILN_MOCK_OPTIONS_INIT KILN_INIT_(kiln_mock_options)

/* Makes an engine of the caller's function, to test what stands above without any library. Outputs
 * with dynamic dimensions must be bound by the caller, or get their size from the input dimensions
 * of the same name. Errors: NULL_ARGUMENT, INVALID_ARGUMENT, OUT_OF_MEMORY. Any thread. Since 0.1.
 */
KILN_API KILN_MUST_CHECK kiln_status kiln_engine_create_mock(const kiln_mock_options *options,
                                                             kiln_engine **engine);

#ifdef __cplusplus
}
#endif

#endif
