/*
 * backend_table.h - the interface that a backend implements, in src/backends, or outside Kiln and
 * registered with kiln_backend_register.
 *
 * A backend is one constant table of operations. Kiln never compares names: it relies on what a
 * table says about itself and calls the operations that exist. An optional operation that is NULL
 * means that the backend lacks the capability, and a call that needs it fails by name.
 *
 * Checks: Kiln checks everything that a caller can get wrong (NULL, names, types, ranks, shapes,
 * sizes, alignment, threads), so an operation receives arguments that match the backend's own
 * description. An operation reports its library's errors in the library's own words (kiln_fail).
 *
 * Threads: several threads use an engine at once; a context is used by one thread at a time.
 *
 * Unstable: the table changes with any version of Kiln, and a backend built against another version
 * is refused at registration. Define KILN_UNSTABLE_API before the first include to acknowledge
 * that.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KILN_BACKEND_TABLE_H
#define KILN_BACKEND_TABLE_H

#ifndef KILN_UNSTABLE_API
#error "this header changes with each version of Kiln: define KILN_UNSTABLE_API to use it"
#endif

#include <kiln/backend.h>
#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/plan.h>
#include <kiln/refit.h>

#ifdef __cplusplus
extern "C" {
#endif

/* --- arguments of the operations --- */

/* The model to build or load. Valid during the call only. */
typedef struct kiln_model kiln_model;

/* The model's file, for messages and to find external weights, which are in its folder; NULL for a
 * model in memory. The file may have been replaced meanwhile: only the bytes count. Since 0.1. */
KILN_API const char *kiln_model_path(const kiln_model *model);

/* The folder of the external weights of a model in memory; NULL: the working directory. Since
 * 0.1. */
KILN_API const char *kiln_model_folder(const kiln_model *model);

/* Gives the model's bytes, valid during the call that received the model: those of the file, or a
 * network written as ONNX with its weights. Errors: NULL_ARGUMENT; OUT_OF_MEMORY; LIMIT for a
 * network of more than 2 GiB. Only in the thread that received the model. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_model_bytes(const kiln_model *model, kiln_span *bytes);

/* Progress of a build: step `step` of `steps` (0: unknown) of `phase` begins, inside `depth`
 * enclosing phases. */
typedef struct kiln_phase {
    const char *phase;
    int depth;
    int64_t step, steps;
    double fraction; /* of the whole build, 0 to 1, as far as the backend can tell */
} kiln_phase;

/* Receives the progress of a build, and can stop it. */
typedef struct kiln_monitor {
    void *user;
    /* Returns false to stop the build, which then returns KILN_ERROR_CANCELLED; the listener knows
     * the reason. Called from any thread of the backend, as often as it likes: a hundred times a
     * second is enough. */
    bool (*progress)(void *user, const kiln_phase *now);
} kiln_monitor;

/* Description of an engine. Kiln zeroes it; everything that the backend points it to must live as
 * long as the engine. */
typedef struct kiln_description {
    kiln_binding *bindings; /* inputs, outputs, optional inputs, each in the model's order */
    size_t input_count;
    size_t output_count;
    size_t optional_count; /* inputs with a value of their own; only if `device` is the CPU */
    kiln_metadata *metadata;
    size_t metadata_count;
    const char *
        *host_nodes; /* nodes that run on the CPU although the engine is on a GPU; or NULL */
    size_t host_node_count;
    kiln_profile *profiles; /* each with its dynamic inputs */
    size_t profile_count;
    struct kln_arena *arena; /* the engine's memory, for Kiln's own backends */
} kiln_description;

struct kln_variant;     /* for Kiln's own backends (src/seam/kln_seam.h) */
struct kln_library_use; /* likewise (src/loader/kln_loader.h) */
struct kln_node_view;   /* likewise (src/ops/kln_ops.h) */

/* Sets this thread's error sentence and returns `status`. A sentence says what was asked, what was
 * found and what to do; NULL: the general text of the status. Since 0.1. */
KILN_API kiln_status kiln_fail(kiln_status status, const char *sentence);

/* --- the tables --- */

/* Operations on engines. Called from several threads at once, except `destroy`. */
typedef struct kiln_engine_table {
    /* Builds an engine from ONNX. `monitor` may be NULL. NULL: engines are made in another way (the
     * mock's). */
    kiln_status (*build)(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **engine);

    /* Optional, both or neither: alternative ways to build for a GPU, which kiln_engine_tune_file
     * tries in turn. Makes variant `index` of `model`; `best` is the fastest so far. A variant that
     * equals the best one or the previous one is not tried. Errors: OUT_OF_MEMORY, or what prevents
     * this variant only. */
    size_t variant_count;
    kiln_status (*variant)(const kiln_model *model, size_t index, const kiln_tune_result *best,
                           struct kln_variant *variant);

    /* Optional: loads an engine from the backend's own format, and builds one from ONNX like
     * `build`. NULL: the backend has no format of its own, and loads ONNX. */
    kiln_status (*load)(const kiln_model *plan, const kiln_build_options *options,
                        const kiln_monitor *monitor, void **engine);

    /* Optional, with `load`: describes `bytes` if they are in the backend's own format, such as "a
     * plan of TensorRT"; NULL if they are not. Static text. NULL: only `load` can tell. */
    const char *(*recognize)(kiln_span bytes);

    /* Optional: the bytes of a file that `load` (or `build`) accepts, valid as long as the engine.
     * NULL: nothing to save. */
    kiln_status (*serialize)(void *engine, kiln_span *bytes);

    /* Required. */
    kiln_status (*describe)(void *engine, kiln_description *description);
    void (*destroy)(void *engine);

    /* Optional: the GPU that the engine works on, or -1. On a GPU, bindings may be in device
     * memory, pinned memory counts as the host's, and `run` still leaves unbound outputs in host
     * memory. NULL: the CPU. */
    int32_t (*device)(void *engine);

    /* Optional, with `device`: the one stream that all work of the engine uses, or NULL if each
     * context may use any. Kiln lets one thread at a time enqueue on it. */
    kiln_stream *(*stream)(void *engine);

    /* Optional, with `enqueue`: why the engine's work cannot be captured into a graph, or NULL if
     * no reason is known. NULL: no reason. */
    const char *(*no_capture)(void *engine);
} kiln_engine_table;

/* Operations on contexts. The engine outlives its contexts. One thread at a time, except `stop`. */
typedef struct kiln_context_table {
    /* Required. On a GPU, all work of the context goes to `options->stream`, except that of an
     * `enqueue` on another stream; it outlives the context. */
    kiln_status (*create)(void *engine, const kiln_context_options *options, void **context);
    void (*destroy)(void *context);

    /* Required. Binds `tensor` to binding `index`, in the order of `describe`. Its memory stays
     * valid until the next bind of that index. For an output, dtype UNDEFINED (a zeroed tensor)
     * means that the backend provides memory in each run. */
    kiln_status (*bind)(void *context, size_t index, const kiln_tensor *tensor);

    /* Required. Runs once with the current bindings; returns when the outputs are complete. */
    kiln_status (*run)(void *context);

    /* Required. Gives the location of output `index` after a run, numbered as in `bind`: the first
     * output is number input_count. Valid until the next run or bind. The bytes that strings point
     * to are valid as long, also for bound memory; Kiln copies them. */
    kiln_status (*output)(void *context, size_t index, kiln_tensor *tensor);

    /* Optional: `run` with the bindings of the last run, and nothing but the library's own call.
     * NULL: `run` is that already. */
    kiln_status (*raw)(void *context);

    /* Optional: with true, makes the run in progress end soon, with any error; called from another
     * thread than the run's. With false, from the run's thread after the run, so that the next run
     * is not affected. Not used for contexts on a GPU. NULL: a run cannot be stopped. */
    void (*stop)(void *context, bool stop);

    /* Optional, both or neither: switches the measuring of each layer or node in later runs on or
     * off. Switching it on discards earlier measurements. STATE if the engine was not built for it.
     * The second operation gives layer `index`, as for kiln_context_layer. NULL: UNSUPPORTED. */
    kiln_status (*time_layers)(void *context, bool on);
    kiln_status (*layer_time)(void *context, size_t index, kiln_layer_time *layer);

    /* Optional, with `device`: enqueues one run on `stream` (the engine's, if it has one) and does
     * not wait. Every binding was bound as DEVICE, outputs with their shape. An address may be that
     * of pinned memory, which the device can access as well. The work may be captured. */
    kiln_status (*enqueue)(void *context, kiln_stream *stream);
} kiln_context_table;

/* A layer of a plan: the network nodes that it computes, and the types that it reads (weights
 * included) and produces, each as the bit 1 << kiln_dtype. */
typedef struct kiln_layer_types {
    const char *name;
    const char *const *nodes;
    size_t node_count;
    uint64_t reads, gives;
} kiln_layer_types;

typedef struct kiln_layer_listener {
    kiln_status (*layer)(void *user, const kiln_layer_types *types);
    void *user;
} kiln_layer_listener;

/* Operations of a backend with plans of its own (<kiln/plan.h>); all are required. */
typedef struct kiln_plan_table {
    /* The string is allocated on Kiln's heap. */
    kiln_status (*inspect)(void *engine, char **json);
    /* Reports each layer, until the listener returns an error, which is returned. UNSUPPORTED if
     * the plan does not say; STATE for a plan that was only built, ahead of time. */
    kiln_status (*layer_types)(void *engine, const kiln_layer_listener *listener);
    kiln_status (*device_memory)(void *engine, int32_t profile, uint64_t *bytes);
    kiln_status (*gpu_memory)(void *engine, kiln_gpu_memory *memory);
    kiln_status (*get_streaming)(void *engine, kiln_weight_streaming *streaming);
    kiln_status (*set_streaming)(void *engine, int64_t budget);
    kiln_status (*set_profile)(void *context, int32_t profile);
    int32_t (*get_profile)(void *context);
    kiln_status (*save_runtime_cache)(void *context, const char *path);
    kiln_status (*plugin_load)(const char *library, const char *path);
    kiln_status (*plugin_count)(const char *library, size_t *count);
    kiln_status (*plugin_get)(const char *library, size_t index, kiln_plugin *plugin);
} kiln_plan_table;

/* Replacing the weights of an engine (<kiln/refit.h>). New weights are dense, and have names from
 * `get` and its type and number of elements. */
typedef struct kiln_refit_table {
    /* The weights that can be replaced; names are valid as long as the engine. */
    kiln_status (*count)(void *engine, size_t *count);
    kiln_status (*get)(void *engine, size_t index, kiln_refit_weight *weight);

    /* Makes another engine equal to this one, with these weights in place of its own; runs of this
     * one continue meanwhile. With `count` 0, if weights can be replaced in place, a copy. */
    kiln_status (*beside)(void *engine, const kiln_named_tensor *weights, size_t count,
                          void **made);

    /* Optional, both or neither: replaces the weights of the engine itself, while nothing runs.
     * From a model, the library's own parser finds the weights. NULL: the engine that `beside`
     * makes takes its place, and contexts are made again. */
    kiln_status (*in_place)(void *engine, const kiln_named_tensor *weights, size_t count);
    kiln_status (*in_place_model)(void *engine, const kiln_model *model);
} kiln_refit_table;

/* A backend. */
typedef struct kiln_backend {
    size_t struct_size; /* sizeof(kiln_backend) */
    const char *name;   /* lower-case; the name in options */
    const char *description;
    kiln_engine_table engine;
    kiln_context_table context;
    const kiln_plan_table *plan;   /* for Kiln's own backends; NULL: Kiln refuses these calls */
    const kiln_refit_table *refit; /* NULL: weights cannot be replaced */

    /* Required. Looks for the library (`library`: a path or folder, or NULL) and fills in
     * available, score, version, library, reason and capabilities. The strings must stay valid as
     * long as the process.
     *
     * If the backend is not usable, set a score of 0 and a reason, and return the status for a
     * caller that names this backend: LIBRARY_*, NO_DEVICE or UNSUPPORTED (KILN_OK stands for the
     * last). Only OUT_OF_MEMORY means that the question has no answer.
     *
     * Score: 100 for the best possible backend (TensorRT on a GPU it supports), 50 for ONNX
     * Runtime, 10 for the reference executor. */
    kiln_status (*probe)(const char *library, kiln_backend_info *info);

    /* For Kiln's own backends: the foreign library `index`, from 0, that the backend uses; looks
     * for it if that has not been done yet. False past the end. NULL: it uses none for a system
     * report. */
    bool (*library)(size_t index, struct kln_library_use *use);

    /* Optional: releases what is kept between builds (kiln_build_release_builders) and returns the
     * number of builders released. Builds in progress continue. Any thread. */
    size_t (*release_builders)(void);

    /* For Kiln's own backends: what this process's builds for GPU `device` have measured so far and
     * still keep, in Kiln's heap; empty if there is nothing. NULL: nothing is measured. */
    kiln_status (*timings)(const char *library, int32_t device, kiln_span *copy);

    /* Optional: whether this version of an operator runs for tensors of `dtype` (that of the first
     * input with a known one). Any thread, and before any probe. NULL: only a build can tell. */
    bool (*supports)(const char *domain, const char *name, int64_t opset, kiln_dtype dtype);

    /* For Kiln's own backends: what prevents a node from being built or run, judged by its
     * operator, types and shapes (kln_lack), in words. Threads as for `supports`. */
    int (*lacks)(const struct kln_node_view *view, char *why, size_t size);

    int64_t newest_ir; /* newest IR version that can be read; 0: all */

    /* Optional: whether tensors of this TensorProto.DataType may occur inside a network. Threads as
     * for `supports`. NULL: all of ONNX's types. */
    bool (*holds)(int32_t wire_dtype);

    /* Optional: the type that a binding of this type has in the backend's engines. NULL: the
     * same. */
    kiln_dtype (*bound_as)(kiln_dtype dtype);

    /* The environment variable that names its library, which options may name as well:
     * "KILN_ONNXRUNTIME". NULL: it opens no library, and naming one is refused. */
    const char *environment;

    /* The groups of build options that it accepts, or checks and refuses itself, as the bits of
     * <kiln/build_options.inc>. Options for all backends need no bit; Kiln refuses the others by
     * name. */
    unsigned options;

    bool takes_run_memory; /* accepts kiln_context_options.run_memory_bytes */
    bool survives_fork;    /* engines and contexts are nothing but memory, and so work in a process
                              forked after they were made */
    bool repeats_calls; /* host functions that it enqueues may be called again with each replay of a
                           graph */
    bool documents_capture; /* the library documents that its enqueued work may be captured and
                               replayed, so that the results of a graph need not be checked */
    bool binds_strings;     /* inputs and outputs may be strings; otherwise a check reports them */
    bool dense_only;        /* refuses sparse weights, which a check reports */
    bool unique_node_names; /* refuses two nodes of the same name in a graph, which a check reports
                             */
    bool has_plugins; /* an operator that is not ONNX's may be a plugin layer, which only a build
                         can tell */
    bool initializers_are_weights; /* an initializer that the model also lists as an input is a
                                      weight of its engines, unless a profile or shape hint names it
                                    */
} kiln_backend;

/* Registers `backend`: kiln_backend_get lists it after the existing ones, and options can name it.
 * The table and everything it points to must stay valid as long as the process. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size of another version, with the name of a missing
 * required operation, or for an operation set that is only for Kiln's own backends; NAME for a name
 * that is taken or has characters other than lower-case letters, digits and _; LIMIT above 16. Any
 * thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_register(const kiln_backend *backend);

#ifdef __cplusplus
}
#endif

#endif
