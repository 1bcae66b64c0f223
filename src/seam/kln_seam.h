/*
 * kln_seam.h - the seam between Kiln and whatever runs a network. For those who write a backend;
 * users read <kiln/backend.h>.
 *
 * A backend is one const table of operations at the end of its file, registered in registry.c. The
 * modules above never compare names: they ask capabilities and call what the table offers.
 *
 * Who checks what: the engine module checks everything a caller can get wrong (NULL, names, types,
 * ranks, shapes, sizes, alignment, threads), so an operation here gets arguments that fit the
 * description it gave itself. An operation reports what its library reports, with the library's own
 * words in the sentence.
 *
 * Threads: an engine is used by several at once; a context by one at a time.
 *
 * SPDX-License-Identifier: Apache-2.0
 */
#ifndef KLN_SEAM_H
#define KLN_SEAM_H

#include <limits.h>
#include <stddef.h>

#include <kiln/backend.h>
#include <kiln/context.h>
#include <kiln/engine.h>
#include <kiln/plan.h>

#include "base/kln_base.h"
#include "loader/kln_loader.h"
#include "options/kln_options.h"
#include "tensor/kln_tensor.h"

struct kln_onnx_model;

/* What to build or load: a file, bytes or a graph. Lives during the call only. A file was opened
 * and looked at already: who keeps it takes a share of `file`, and nobody opens `path` again, where
 * another file may lie by then. */
typedef struct kln_model {
    const char *path;        /* the file, for messages and to find external weights; NULL: memory */
    const kln_mapping *file; /* with `path`: where `bytes` are mapped; else NULL */
    const char *folder;      /* of a model in memory: where external weights lie; NULL: "." */
    kiln_span bytes;         /* its content; empty where `graph` is given */
    const struct kln_onnx_model *graph; /* a network in memory (onnx/kln_onnx.h), or NULL */
    struct kln_onnx_model **read;       /* what was read of it first, for whoever reads it next; the
                                           caller's, or NULL */
} kln_model;

/* What a sentence calls it. */
const char *kln_model_name(const kln_model *model);

/* A path in the folder that external weights lie in, for a library that wants one: the model's own,
 * one made up in `made`, or NULL, which means the working directory. LIMIT. */
KILN_MUST_CHECK kiln_status kln_model_place(const kln_model *model, char made[PATH_MAX],
                                            const char **path);

/* The ONNX model of a file or of bytes, which must stay as long as `onnx` does where they are in
 * memory; for kln_onnx_model_destroy. It is shared (`read`), so not to be changed. Errors as
 * kln_onnx_read_bytes. */
KILN_MUST_CHECK kiln_status kln_model_read(const kln_model *model, struct kln_onnx_model **onnx);

/* The same, to be changed. */
KILN_MUST_CHECK kiln_status kln_model_read_anew(const kln_model *model,
                                                struct kln_onnx_model **onnx);

/* How far a build is: step `step` of `steps` (0: unknown) of `phase` begins, which has `depth`
 * phases around it. */
typedef struct kln_progress {
    const char *phase;
    int depth;
    int64_t step, steps;
    double fraction; /* of the whole build, 0 to 1, as well as the backend can tell */
} kln_progress;

/* Who listens to a build, and may stop it. */
typedef struct kln_monitor {
    void *user;
    /* False: stop, and return KILN_ERROR_CANCELLED; why it was, the listener knows. Called from any
     * thread of the backend, at its leisure: some hundred times a second are enough. */
    bool (*progress)(void *user, const kln_progress *now);
} kln_monitor;

/* What an engine says of itself. The arena owns every string and array; the engine module owns the
 * arena. */
typedef struct kln_description {
    kln_arena *arena;
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
} kln_description;

/* What a backend with plans of its own can do; all are there. Arguments are checked for NULL and
 * for what the description says. */
typedef struct kln_plan_backend {
    /* A string for kln_free. */
    kiln_status (*inspect)(void *engine, char **json);
    kiln_status (*device_memory)(void *engine, int32_t profile, uint64_t *bytes);
    kiln_status (*gpu_memory)(void *engine, kiln_gpu_memory *memory);
    kiln_status (*refit_count)(void *engine, size_t *count);
    kiln_status (*refit_get)(void *engine, size_t index, kiln_refit_weight *weight);
    kiln_status (*refit)(void *engine, const kiln_named_tensor *weights, size_t count);
    kiln_status (*refit_model)(void *engine, const kln_model *model);
    kiln_status (*get_streaming)(void *engine, kiln_weight_streaming *streaming);
    kiln_status (*set_streaming)(void *engine, int64_t budget);
    kiln_status (*set_profile)(void *context, int32_t profile);
    int32_t (*get_profile)(void *context);
    kiln_status (*save_runtime_cache)(void *context, const char *path);
    kiln_status (*plugin_load)(const char *library, const char *path);
    kiln_status (*plugin_count)(const char *library, size_t *count);
    kiln_status (*plugin_get)(const char *library, size_t index, kiln_plugin *plugin);
} kln_plan_backend;

/* Another way to build a model than as it was asked for, with the same results but for rounding. */
typedef struct kln_variant {
    kiln_build_options options; /* the ones asked for at first, to be changed */
    struct kln_onnx_model
        *model;            /* rewritten, for kln_onnx_model_destroy; NULL: as it lies there */
    kiln_tune_result told; /* what is different, without the times */
} kln_variant;

/* What the runs of one node took, for backends that keep such a list themselves. */
typedef struct kln_node_time {
    const char *name; /* not "" */
    const char *type; /* of its operator */
    uint64_t nanoseconds;
    uint64_t runs;
} kln_node_time;

/* Number `index` of a list as kiln_context_layer shows it. */
KILN_MUST_CHECK kiln_status kln_node_time_show(const kln_node_time *times, size_t count,
                                               size_t index, kiln_layer_time *layer);

typedef struct kln_backend {
    const char *name;
    const char *description;
    /* The groups of build options (kln_option_group) that it takes, or refuses each itself; others
     * than KLN_OPTIONS_ANY the engine refuses by name for it. */
    unsigned options;
    /* Whether it takes kiln_context_options.run_memory_bytes. */
    bool takes_run_memory;
    /* Whether its engines and contexts are nothing but memory, and so work in a process that was
     * forked after they were made. */
    bool survives_fork;
    /* Whether host functions that it enqueues may be called again with each replay of a graph. */
    bool repeats_calls;
    /* Whether the library itself promises that what it enqueues may be captured and replayed, so
     * that a graph's results need not be checked. */
    bool documents_capture;
    /* Whether it refuses sparse weights, and two nodes of one name in a graph: a check says so. */
    bool dense_only;
    /* Whether some operators' last input, left out by an empty name, ends the process. */
    bool needs_named_tail;
    bool unique_node_names;
    /* Whether an operator that ONNX does not have may be a layer of a plugin's, which only a build
     * can tell. */
    bool has_plugins;

    /* Required. Looks for the library (`library`: a path or folder, or NULL) and fills in
     * available, score, version, library, reason and capabilities; the strings must stay as long as
     * the process. Says no by a score of 0 and a reason, and returns what it is to whoever named
     * this backend: LIBRARY_*, NO_DEVICE or UNSUPPORTED (KILN_OK stands for the last).
     * OUT_OF_MEMORY alone says that the question has no answer. Score: 100 where the backend is the
     * best there is (TensorRT on a GPU it supports), 50 for ONNX Runtime, 10 for the reference
     * executor. */
    kiln_status (*probe)(const char *library, kiln_backend_info *info);

    /* Optional: the foreign library `index`, from 0, that the backend uses; looks for it if nobody
     * did so yet. False past the end. NULL: it uses none. */
    bool (*library)(size_t index, kln_library_use *use);

    /* Optional: gives up what is kept from one build to the next (kiln_build_release_builders); how
     * many there were. Builds that are under way go on. Any thread. */
    size_t (*release_builders)(void);

    /* Optional: whether this version of an operator is run for tensors of `dtype` (that of the
     * first input with a known one). Any thread, and before any probe. NULL: only a build can tell.
     */
    bool (*supports)(const char *domain, const char *name, int64_t opset, kiln_dtype dtype);

    /* Optional: whether tensors of this TensorProto.DataType can be inside a network. As
     * `supports`. NULL: all that ONNX has. */
    bool (*holds)(int32_t wire_dtype);

    /* Optional: the type that a binding of this type has in its engines. NULL: the same. */
    kiln_dtype (*bound_as)(kiln_dtype dtype);

    /* An initializer that is an input of the model too is a weight of its engines, unless a profile
     * or shape hint names it. */
    bool initializers_are_weights;

    /* Makes an engine from ONNX. `monitor` may be NULL. NULL: its engines are made in another way
     * (the mock's). */
    kiln_status (*build)(const kln_model *model, const kiln_build_options *options,
                         const kln_monitor *monitor, void **engine);

    /* Optional, both or neither: other ways to build for a GPU, which kiln_engine_tune_file tries
     * in turn. Makes number `index` of `model`; `best` is what was the fastest so far. One that
     * comes out as the best or as the one before it is not tried. OUT_OF_MEMORY, or what stands in
     * the way of this one alone. */
    size_t variant_count;
    kiln_status (*variant)(const kln_model *model, size_t index, const kiln_tune_result *best,
                           kln_variant *variant);

    /* Optional: makes an engine from the backend's own format. NULL: it has none, and what is
     * loaded is ONNX. */
    kiln_status (*load)(const kln_model *plan, const kiln_build_options *options, void **engine);

    /* Optional, with `load`: what `bytes` are where they are in the backend's own format, as "a
     * plan of TensorRT"; NULL where they are something else. Static text. NULL: only `load` can
     * tell. */
    const char *(*recognize)(kiln_span bytes);

    /* Optional: the bytes of a file that `load` (or `build`) takes, valid as long as the engine.
     * NULL: nothing to save. */
    kiln_status (*serialize)(void *engine, kiln_span *bytes);

    /* Required. */
    kiln_status (*describe)(void *engine, kln_description *description);
    void (*engine_destroy)(void *engine);

    /* Required. The engine outlives its contexts. On a GPU, `options->stream` is where all work of
     * the context goes but that of an `enqueue` on another one; it outlives the context. */
    kiln_status (*context_create)(void *engine, const kiln_context_options *options,
                                  void **context);
    void (*context_destroy)(void *context);

    /* Required. Binding `index` (as `describe` lists them) is `tensor` from now on; its memory
     * stays until the next bind of that index. For an output, dtype UNDEFINED (a zeroed tensor)
     * means that the backend finds memory in each run. */
    kiln_status (*bind)(void *context, size_t index, const kiln_tensor *tensor);

    /* Required. One run with what is bound; returns when the outputs are there. */
    kiln_status (*run)(void *context);

    /* Optional: `run` with what was bound for the last one, and nothing but the library's own call
     * in it. NULL: `run` is that. */
    kiln_status (*raw)(void *context);

    /* Optional: true: the run under way ends soon, with any error; called from another thread than
     * the run's. False, from that thread after the run: the next one is not meant. Contexts on a
     * GPU are not asked. NULL: a run cannot be stopped. */
    void (*stop)(void *context, bool stop);

    /* Required. Where output `index` lies after a run, in the numbering of `bind`: the first output
     * is number input_count. Valid until the next run or bind. */
    kiln_status (*output)(void *context, size_t index, kiln_tensor *tensor);

    /* Optional, both or neither: later runs measure each layer or node of the network, or no more;
     * switching it on forgets what was measured. STATE where the engine was not built for it. Then
     * layer `index`, as kiln_context_layer has it. NULL: UNSUPPORTED. */
    kiln_status (*time_layers)(void *context, bool on);
    kiln_status (*layer_time)(void *context, size_t index, kiln_layer_time *layer);

    /* Optional: the GPU that the engine works on, or -1. Where there is one, bindings may lie in
     * device memory, pinned memory counts as the host's, and `run` still leaves unbound outputs in
     * host memory. NULL: the CPU. */
    int32_t (*device)(void *engine);

    /* Optional, with `device`: the one stream that all work of the engine goes to, or NULL where
     * each context may use any. The engine module lets one thread at a time enqueue there. */
    kiln_stream *(*stream)(void *engine);

    /* Optional, with `device`: enqueues one run on `stream` (the engine's, where it has one) and
     * does not wait. Every binding was bound as DEVICE, outputs with their shape; the address may
     * be that of pinned memory, which the device reaches as well. It may be captured. */
    kiln_status (*enqueue)(void *context, kiln_stream *stream);

    /* Optional, with `enqueue`: why the engine's work cannot be captured into a graph, or NULL
     * where nothing is known to be in the way. NULL: nothing is. */
    const char *(*no_capture)(void *engine);

    /* Optional: the operations of <kiln/plan.h>. NULL: the engine module refuses the call. */
    const struct kln_plan_backend *plan;
} kln_backend;

/* Whether a table has every required operation; INTERNAL with the name of the one it lacks. */
KILN_MUST_CHECK kiln_status kln_backend_check(const kln_backend *backend);

#endif
