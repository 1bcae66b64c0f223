/*
 * backend_table.h - what a backend is, for those who write one: in src/backends, or outside Kiln
 * and registered by kiln_backend_register.
 *
 * A backend is one constant table of operations. Kiln never compares names: it asks what a table
 * says of itself and calls what is there. An optional operation that is NULL means that the
 * capability is absent, and a call that needs it fails by name.
 *
 * Who checks what: Kiln checks everything that a caller can get wrong (NULL, names, types, ranks,
 * shapes, sizes, alignment, threads), so an operation gets arguments that fit the description it
 * gave itself. It reports what its library reports, in the library's own words (kiln_fail).
 *
 * Threads: an engine is used by several at once; a context by one at a time.
 *
 * Unstable: the table changes with any version of Kiln. Who is built against another one is refused
 * at registration. Define KILN_UNSTABLE_API before the first include to say that you know.
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

/* --- what an operation is given --- */

/* What to build or load. Lives during the call only. */
typedef struct kiln_model kiln_model;

/* Its file, for messages and to find external weights, which lie beside it; NULL for a model in
 * memory. The file may be another one by now: the bytes are what counts. Since 0.1. */
KILN_API const char *kiln_model_path(const kiln_model *model);

/* Where the external weights of a model in memory lie; NULL: in the working directory. Since 0.1.
 */
KILN_API const char *kiln_model_folder(const kiln_model *model);

/* Its bytes, valid during the call that was given the model: those of the file, or a network
 * written as ONNX with its weights. Errors: NULL_ARGUMENT; OUT_OF_MEMORY; LIMIT for a network of
 * more than 2 GiB. The thread that was given it. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_model_bytes(const kiln_model *model, kiln_span *bytes);

/* How far a build is: step `step` of `steps` (0: unknown) of `phase` begins, which has `depth`
 * phases around it. */
typedef struct kiln_phase {
    const char *phase;
    int depth;
    int64_t step, steps;
    double fraction; /* of the whole build, 0 to 1, as well as the backend can tell */
} kiln_phase;

/* Who listens to a build, and may stop it. */
typedef struct kiln_monitor {
    void *user;
    /* False: stop, and return KILN_ERROR_CANCELLED; why it was, the listener knows. Called from any
     * thread of the backend, as often as it likes: a hundred times a second are enough. */
    bool (*progress)(void *user, const kiln_phase *now);
} kiln_monitor;

/* What an engine says of itself. Kiln zeroes it; what it points to lives as long as the engine. */
typedef struct kiln_description {
    kiln_binding *bindings; /* inputs, outputs, optional inputs, each in the model's order */
    size_t input_count;
    size_t output_count;
    size_t optional_count; /* inputs with a value of their own; only where `device` is the CPU's */
    kiln_metadata *metadata;
    size_t metadata_count;
    const char **host_nodes; /* that run on the CPU though the engine is on a GPU; or NULL */
    size_t host_node_count;
    kiln_profile *profiles; /* with the dynamic inputs of each */
    size_t profile_count;
    struct kln_arena *arena; /* the engine's memory, for Kiln's own backends */
} kiln_description;

struct kln_variant;     /* of Kiln's own backends (src/seam/kln_seam.h) */
struct kln_library_use; /* likewise (src/loader/kln_loader.h) */
struct kln_node_view;   /* likewise (src/ops/kln_ops.h) */

/* Leaves `sentence` as this thread's last failure and returns `status`: what was asked, what was
 * found, what to do; NULL: what the status means. Since 0.1. */
KILN_API kiln_status kiln_fail(kiln_status status, const char *sentence);

/* --- the tables --- */

/* Making an engine, and what it is. Called from several threads at once, but for `destroy`. */
typedef struct kiln_engine_table {
    /* Makes an engine from ONNX. `monitor` may be NULL. NULL: its engines are made in another way
     * (the mock's). */
    kiln_status (*build)(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **engine);

    /* Optional, both or neither: other ways to build for a GPU, which kiln_engine_tune_file tries
     * in turn. Makes number `index` of `model`; `best` is what was the fastest so far. One that
     * comes out as the best or as the one before it is not tried. OUT_OF_MEMORY, or what stands in
     * the way of this one alone. */
    size_t variant_count;
    kiln_status (*variant)(const kiln_model *model, size_t index, const kiln_tune_result *best,
                           struct kln_variant *variant);

    /* Optional: makes an engine from the backend's own format, and as `build` from ONNX. NULL: it
     * has none, and what is loaded is ONNX. */
    kiln_status (*load)(const kiln_model *plan, const kiln_build_options *options,
                        const kiln_monitor *monitor, void **engine);

    /* Optional, with `load`: what `bytes` are where they are in the backend's own format, as "a
     * plan of TensorRT"; NULL where they are something else. Static text. NULL: only `load` can
     * tell. */
    const char *(*recognize)(kiln_span bytes);

    /* Optional: the bytes of a file that `load` (or `build`) takes, valid as long as the engine.
     * NULL: nothing to save. */
    kiln_status (*serialize)(void *engine, kiln_span *bytes);

    /* Required. */
    kiln_status (*describe)(void *engine, kiln_description *description);
    void (*destroy)(void *engine);

    /* Optional: the GPU that the engine works on, or -1. Where there is one, bindings may lie in
     * device memory, pinned memory counts as the host's, and `run` still leaves unbound outputs in
     * host memory. NULL: the CPU. */
    int32_t (*device)(void *engine);

    /* Optional, with `device`: the one stream that all work of the engine goes to, or NULL where
     * each context may use any. Kiln lets one thread at a time enqueue there. */
    kiln_stream *(*stream)(void *engine);

    /* Optional, with `enqueue`: why the engine's work cannot be captured into a graph, or NULL
     * where nothing is known to be in the way. NULL: nothing is. */
    const char *(*no_capture)(void *engine);
} kiln_engine_table;

/* Running an engine, which outlives its contexts. One thread at a time, but for `stop`. */
typedef struct kiln_context_table {
    /* Required. On a GPU, `options->stream` is where all work of the context goes but that of an
     * `enqueue` on another one; it outlives the context. */
    kiln_status (*create)(void *engine, const kiln_context_options *options, void **context);
    void (*destroy)(void *context);

    /* Required. Binding `index` (as `describe` lists them) is `tensor` from now on; its memory
     * stays until the next bind of that index. For an output, dtype UNDEFINED (a zeroed tensor)
     * means that the backend finds memory in each run. */
    kiln_status (*bind)(void *context, size_t index, const kiln_tensor *tensor);

    /* Required. One run with what is bound; returns when the outputs are there. */
    kiln_status (*run)(void *context);

    /* Required. Where output `index` lies after a run, in the numbering of `bind`: the first output
     * is number input_count. Valid until the next run or bind; so is what strings point to, in
     * memory that was bound too, and Kiln copies it. */
    kiln_status (*output)(void *context, size_t index, kiln_tensor *tensor);

    /* Optional: `run` with what was bound for the last one, and nothing but the library's own call
     * in it. NULL: `run` is that. */
    kiln_status (*raw)(void *context);

    /* Optional: true: the run under way ends soon, with any error; called from another thread than
     * the run's. False, from that thread after the run: the next one is not meant. Contexts on a
     * GPU are not asked. NULL: a run cannot be stopped. */
    void (*stop)(void *context, bool stop);

    /* Optional, both or neither: later runs measure each layer or node of the network, or no more;
     * switching it on forgets what was measured. STATE where the engine was not built for it. Then
     * layer `index`, as for kiln_context_layer. NULL: UNSUPPORTED. */
    kiln_status (*time_layers)(void *context, bool on);
    kiln_status (*layer_time)(void *context, size_t index, kiln_layer_time *layer);

    /* Optional, with `device`: enqueues one run on `stream` (the engine's, where it has one) and
     * does not wait. Every binding was bound as DEVICE, outputs with their shape; the address may
     * be that of pinned memory, which the device reaches as well. It may be captured. */
    kiln_status (*enqueue)(void *context, kiln_stream *stream);
} kiln_context_table;

/* A layer of a plan: the nodes of the network that it computes, and the types of what it reads,
 * weights among it, and of what it gives, each as the bit 1 << kiln_dtype. */
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

/* What a backend with plans of its own can do (<kiln/plan.h>); all are there. */
typedef struct kiln_plan_table {
    /* A string of Kiln's heap. */
    kiln_status (*inspect)(void *engine, char **json);
    /* Tells each layer, until one is answered with an error, which is returned. UNSUPPORTED where
     * the plan does not say; STATE for one that was only built, ahead of time. */
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

/* New weights for an engine (<kiln/refit.h>). They are dense, of names that `get` tells, and of
 * their type and number of elements. */
typedef struct kiln_refit_table {
    /* The weights that can be replaced; names live as long as the engine. */
    kiln_status (*count)(void *engine, size_t *count);
    kiln_status (*get)(void *engine, size_t index, kiln_refit_weight *weight);

    /* Another engine as this one is now, with these weights in the place of its own; runs of this
     * one go on meanwhile. With `count` 0, where weights can be replaced in place, a copy. */
    kiln_status (*beside)(void *engine, const kiln_named_tensor *weights, size_t count,
                          void **made);

    /* Optional, both or neither: the engine takes new weights itself, while nothing runs. From a
     * model, the library's own reader finds them. NULL: the engine that `beside` makes takes its
     * place, and contexts are made anew. */
    kiln_status (*in_place)(void *engine, const kiln_named_tensor *weights, size_t count);
    kiln_status (*in_place_model)(void *engine, const kiln_model *model);
} kiln_refit_table;

/* A backend. */
typedef struct kiln_backend {
    size_t struct_size; /* sizeof(kiln_backend) */
    const char *name;   /* of small letters; what options name it by */
    const char *description;
    kiln_engine_table engine;
    kiln_context_table context;
    const kiln_plan_table *plan;   /* of Kiln's own; NULL: Kiln refuses its calls */
    const kiln_refit_table *refit; /* NULL: weights stay as they are */

    /* Required. Looks for the library (`library`: a path or folder, or NULL) and fills in
     * available, score, version, library, reason and capabilities; the strings must stay as long as
     * the process. Says no by a score of 0 and a reason, and returns what it is to whoever named
     * this backend: LIBRARY_*, NO_DEVICE or UNSUPPORTED (KILN_OK stands for the last).
     * OUT_OF_MEMORY alone says that the question has no answer. Score: 100 where the backend is the
     * best there is (TensorRT on a GPU it supports), 50 for ONNX Runtime, 10 for the reference
     * executor. */
    kiln_status (*probe)(const char *library, kiln_backend_info *info);

    /* Of Kiln's own: the foreign library `index`, from 0, that the backend uses; looks for it if
     * nobody did so yet. False past the end. NULL: it uses none that a system report could tell of.
     */
    bool (*library)(size_t index, struct kln_library_use *use);

    /* Optional: gives up what is kept from one build to the next (kiln_build_release_builders); how
     * many there were. Builds that are under way go on. Any thread. */
    size_t (*release_builders)(void);

    /* Of Kiln's own: what the builds of this process for GPU `device` have measured so far and
     * still keep, in Kiln's heap; empty where that is nothing. NULL: nothing is measured. */
    kiln_status (*timings)(const char *library, int32_t device, kiln_span *copy);

    /* Optional: whether this version of an operator is run for tensors of `dtype` (that of the
     * first input with a known one). Any thread, and before any probe. NULL: only a build can tell.
     */
    bool (*supports)(const char *domain, const char *name, int64_t opset, kiln_dtype dtype);

    /* Of Kiln's own: what stands in the way of building or running a node, told from its operator,
     * types and shapes (kln_lack), with the words. As `supports`. */
    int (*lacks)(const struct kln_node_view *view, char *why, size_t size);

    int64_t newest_ir; /* the newest IR version that is read; 0: all */

    /* Optional: whether tensors of this TensorProto.DataType can be inside a network. As
     * `supports`. NULL: all that ONNX has. */
    bool (*holds)(int32_t wire_dtype);

    /* Optional: the type that a binding of this type has in its engines. NULL: the same. */
    kiln_dtype (*bound_as)(kiln_dtype dtype);

    /* The variable that names its library, which options may name as well: "KILN_ONNXRUNTIME".
     * NULL: it opens none, and one that is named is refused. */
    const char *environment;

    /* The groups of build options that it takes, or refuses each itself, as the bits that
     * <kiln/build_options.inc> gives them. What all take needs no bit; others Kiln refuses by name
     * for it. */
    unsigned options;

    bool takes_run_memory; /* it takes kiln_context_options.run_memory_bytes */
    bool survives_fork;    /* its engines and contexts are nothing but memory, and so work in a
                              process that was forked after they were made */
    bool repeats_calls; /* host functions that it enqueues may be called again with each replay of
                           a graph */
    bool documents_capture; /* the library itself promises that what it enqueues may be captured and
                               replayed, so that a graph's results need not be checked */
    bool binds_strings;     /* its inputs and outputs may be of strings; else a check says so */
    bool dense_only;        /* it refuses sparse weights: a check says so */
    bool unique_node_names; /* it refuses two nodes of one name in a graph: a check says so */
    bool has_plugins; /* an operator that ONNX does not have may be a layer of a plugin's, which
                         only a build can tell */
    bool initializers_are_weights; /* an initializer that is an input of the model too is a weight
                                      of its engines, unless a profile or shape hint names it */
} kiln_backend;

/* Makes `backend` one of those that kiln_backend_get lists and that options can name, behind those
 * there are. The table and what it points to must stay as long as the process. Errors:
 * NULL_ARGUMENT; INVALID_ARGUMENT for a struct_size of another version, with the name of a required
 * operation that is missing, or for one of Kiln's own that is set; NAME for a name that is taken or
 * has other characters than small letters, digits and _; LIMIT past 16. Any thread. Since 0.1. */
KILN_API KILN_MUST_CHECK kiln_status kiln_backend_register(const kiln_backend *backend);

#ifdef __cplusplus
}
#endif

#endif
