/* SPDX-License-Identifier: Apache-2.0 */
/* Engines and contexts over ONNX Runtime. Private to this folder. */
#ifndef KLN_ORT_ENGINE_H
#define KLN_ORT_ENGINE_H

#include "cuda/kln_cuda.h"
#include "ops/kln_ops.h"
#include "ort_handover.h"
#include "ort_runtime.h"

typedef struct ort_profile ort_profile;
typedef struct ort_watch ort_watch;

/* A session and its model. Immutable after the build, except in `serialize`. */
typedef struct ort_engine {
    const ort_runtime *runtime;
    OrtSession *session;
    kln_arena arena;
    kiln_binding *bindings; /* inputs, outputs, optional inputs; strings in the arena */
    size_t input_count;
    size_t output_count;
    kiln_binding *optional; /* initializers that are inputs too; in the arena */
    size_t optional_count;
    /* For each output the input of the same name, which it is identical to, or ORT_NO_INPUT. */
    uint32_t *passed_inputs;
    size_t passed_count;
    /* The model as given. A file stays mapped, which costs only address space, until the engine is
     * saved. A caller's bytes are copied, because they may be freed. */
    kln_mapping file;
    kiln_span bytes;
    /* Or a network in memory: its weights are used in place, and its bytes are written when the
     * engine is saved. */
    ort_handover handover;
    pthread_mutex_t writing; /* guards `written` */
    kln_text written;
    /* For a refit: the build options, and the model as read for a refit. */
    kiln_build_options options; /* without texts and lists */
    const char *path;           /* of `file`, in the arena; or NULL */
    const char *folder;         /* of external weights of `bytes`, likewise */
    kln_onnx_model *read;       /* guarded by `writing`; NULL: not yet */
    /* With the CUDA provider. The stream is an option of the session, so all contexts share one,
     * and its order protects the memory that ONNX Runtime computes in. */
    int32_t device;            /* -1: on the CPU */
    kiln_stream *stream;       /* NULL: likewise */
    OrtMemoryInfo *gpu_memory; /* of the device */
    const char **host_nodes;   /* nodes that run on the CPU nevertheless; in the arena */
    size_t host_node_count;
    const char *no_capture; /* why a run cannot be captured, or NULL; in the arena */
    ort_profile *profile;   /* with profile_nodes; or NULL */
    ort_watch *watch;       /* for a watched model; or NULL */
    /* With its files, if the library maps them too; or NULL. */
    struct kln_onnx_model *external;
    bool is_risky;      /* a node may end the process if a dimension is 0 (ort_ends.c) */
    bool keeps_expands; /* an Expand to no elements: ExpandElimination takes it for an identity, and
                           the result keeps its elements */
    bool keeps_biases;  /* with scales of float16: WeightBiasQuantization rounds biases to whole
                           multiples of a product of two scales, for which float16 is too coarse */
    bool keeps_floats;  /* this processor saturates sums of 8-bit products, which the library
                           introduces between quantized tensors */
    bool lifts_bytes;   /* likewise, if products of bytes are in the model itself: with unsigned
                           weights nothing saturates */
} ort_engine;

static inline size_t ort_binding_count(const ort_engine *engine)
{
    return engine->input_count + engine->output_count + engine->optional_count;
}

#define ORT_NO_INPUT UINT32_MAX

/* Reads names, types and shapes of the session's inputs and outputs into the engine. */
KILN_MUST_CHECK kiln_status ort_read_bindings(ort_engine *engine);

/* --- watched tensors (ort_watch.c) --- */

/* Adds the operator described at kln_watch to the session's options. */
KILN_MUST_CHECK kiln_status ort_watch_begin(ort_engine *engine, const kln_watch *watch,
                                            OrtSessionOptions *session_options);
/* After the session is destroyed. */
void ort_watch_finish(ort_engine *engine);

/* --- the CUDA provider (ort_cuda.c) --- */

/* Refuses options that only this provider has, if another provider is selected. */
KILN_MUST_CHECK kiln_status ort_cuda_check_options(const kiln_build_options *options);
/* Makes the session compute on a GPU. */
KILN_MUST_CHECK kiln_status ort_cuda_append(ort_engine *engine, const kiln_build_options *options,
                                            OrtSessionOptions *session_options);
/* After the session is created: finds the nodes that stayed on the CPU. UNSUPPORTED if none may. */
KILN_MUST_CHECK kiln_status ort_cuda_read_nodes(ort_engine *engine,
                                                const kiln_build_options *options);
/* After the session is destroyed. */
void ort_cuda_finish(ort_engine *engine);
int32_t ort_cuda_device(void *engine);
kiln_stream *ort_cuda_stream(void *engine);
const char *ort_cuda_no_capture(void *engine);

/* --- node times, from ONNX Runtime's own profiler (ort_profile.c) --- */

/* Makes the session with these options record the times of its nodes. */
KILN_MUST_CHECK kiln_status ort_profile_begin(ort_engine *engine,
                                              OrtSessionOptions *session_options);
/* Whether nodes are measured: STATE if not, or no longer. */
KILN_MUST_CHECK kiln_status ort_profile_check(const ort_engine *engine);
/* Ends the profile, unless that has been done, and gives node `index` of the last `runs`. */
KILN_MUST_CHECK kiln_status ort_profile_show(const ort_engine *engine, uint64_t runs, size_t index,
                                             kiln_layer_time *layer);
/* Before the session is destroyed; removes its files. */
void ort_profile_finish(ort_engine *engine);

kiln_status ort_context_time(void *context, bool on);
kiln_status ort_context_layer(void *context, size_t index, kiln_layer_time *layer);

void ort_engine_destroy(void *engine);

/* New weights, by making another session (ort_refit.c). */
extern const kiln_refit_table ort_refit_operations;
/* Makes an engine of `model` with the library `runtime`. */
KILN_MUST_CHECK kiln_status ort_engine_make(const ort_runtime *runtime, const kiln_model *model,
                                            const kiln_build_options *options,
                                            const kiln_monitor *monitor, ort_engine **engine);

kiln_status ort_serialize(void *engine, kiln_span *bytes);
kiln_status ort_describe(void *engine, kiln_description *description);

kiln_status ort_context_create(void *engine, const kiln_context_options *options, void **context);
void ort_context_destroy(void *context);
kiln_status ort_context_bind(void *context, size_t index, const kiln_tensor *tensor);
kiln_status ort_context_run(void *context);
kiln_status ort_context_raw(void *context);
void ort_context_stop(void *context, bool stop);
kiln_status ort_context_output(void *context, size_t index, kiln_tensor *tensor);
kiln_status ort_context_enqueue(void *context, kiln_stream *stream);

/* Examines the model before the library does (ort_guard.c): INVALID_NETWORK and UNSUPPORTED for one
 * that would end the process inside it. Fills in the optional inputs, and what the session must be
 * made with. */
KILN_MUST_CHECK kiln_status ort_guard(ort_engine *engine, const kiln_model *model,
                                      const kiln_build_options *options);
/* The same for a run of a risky engine with inputs of these shapes. */
KILN_MUST_CHECK kiln_status ort_guard_run(const ort_engine *engine, const kln_input_shape *inputs,
                                          size_t count);

#endif
