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

/* A session and what it was made of. Not changed after it was built, but for `serialize`. */
typedef struct ort_engine {
    const ort_runtime *runtime;
    OrtSession *session;
    kln_arena arena;
    kiln_binding *bindings; /* inputs, outputs, optional inputs; strings in the arena */
    size_t input_count;
    size_t output_count;
    kiln_binding *optional; /* initializers that are inputs too; in the arena */
    size_t optional_count;
    /* For each output the input of the same name, which it then is, or ORT_NO_INPUT. */
    uint32_t *passed_inputs;
    size_t passed_count;
    /* The model as it was given: the file stays mapped, which costs address space only, until
     * somebody saves the engine; bytes of a caller are copied, because they go away. */
    kln_mapping file;
    kiln_span bytes;
    /* A network in memory instead: its weights stay where they are, and its bytes are written when
     * somebody saves the engine. */
    ort_handover handover;
    pthread_mutex_t writing; /* guards `written` */
    kln_text written;
    /* For a refit: how it was built, and the model as it was read for one. */
    kiln_build_options options; /* without texts and lists */
    const char *path;           /* of `file`, in the arena; or NULL */
    const char *folder;         /* of external weights of `bytes`, likewise */
    kln_onnx_model *read;       /* under `writing`; NULL: not yet */
    /* With the CUDA provider. The stream is an option of the session, so there is one for all
     * contexts; the memory that ONNX Runtime computes in is shared in its order. */
    int32_t device;            /* -1: on the CPU */
    kiln_stream *stream;       /* NULL: likewise */
    OrtMemoryInfo *gpu_memory; /* of the device */
    const char **host_nodes;   /* that run on the CPU nevertheless; in the arena */
    size_t host_node_count;
    const char *no_capture; /* why a run cannot be captured, or NULL; in the arena */
    ort_profile *profile;   /* with profile_nodes; or NULL */
    ort_watch *watch;       /* of a model that is watched; or NULL */
    /* With its files, where the library maps them too; or NULL. */
    struct kln_onnx_model *external;
    bool is_risky;      /* a node may end the process over dimensions of 0 (ort_ends.c) */
    bool keeps_expands; /* what is expanded to no elements: ExpandElimination takes it for what
                         * stays as it is, and the result keeps its elements */
    bool keeps_biases;  /* beside scales of float16: WeightBiasQuantization rounds biases to whole
                         * multiples of a product of two, which float16 has few digits of */
    bool keeps_floats;  /* this processor cuts off sums of products of 8 bits, which the library
                         * makes of what is computed between quantized tensors */
    bool lifts_bytes;   /* likewise, and products of bytes are the model's own: of unsigned weights
                         * none is cut off */
} ort_engine;

static inline size_t ort_binding_count(const ort_engine *engine)
{
    return engine->input_count + engine->output_count + engine->optional_count;
}

#define ORT_NO_INPUT UINT32_MAX

/* Reads names, types and shapes of the session's inputs and outputs into the engine. */
KILN_MUST_CHECK kiln_status ort_read_bindings(ort_engine *engine);

/* --- tensors that are watched (ort_watch.c) --- */

/* Gives the session's options the operator that kln_watch tells of. */
KILN_MUST_CHECK kiln_status ort_watch_begin(ort_engine *engine, const kln_watch *watch,
                                            OrtSessionOptions *session_options);
/* After the session is gone. */
void ort_watch_finish(ort_engine *engine);

/* --- the CUDA provider (ort_cuda.c) --- */

/* Refuses options that only it has where another provider is asked for. */
KILN_MUST_CHECK kiln_status ort_cuda_check_options(const kiln_build_options *options);
/* Makes the session one that computes on a GPU. */
KILN_MUST_CHECK kiln_status ort_cuda_append(ort_engine *engine, const kiln_build_options *options,
                                            OrtSessionOptions *session_options);
/* After the session was made: which nodes stayed on the CPU. UNSUPPORTED where none may. */
KILN_MUST_CHECK kiln_status ort_cuda_read_nodes(ort_engine *engine,
                                                const kiln_build_options *options);
/* After the session is gone. */
void ort_cuda_finish(ort_engine *engine);
int32_t ort_cuda_device(void *engine);
kiln_stream *ort_cuda_stream(void *engine);
const char *ort_cuda_no_capture(void *engine);

/* --- the times of nodes, from ONNX Runtime's own profiler (ort_profile.c) --- */

/* Lets the session that these options are for write down what its nodes take. */
KILN_MUST_CHECK kiln_status ort_profile_begin(ort_engine *engine,
                                              OrtSessionOptions *session_options);
/* Whether nodes are measured: STATE where not, or no more. */
KILN_MUST_CHECK kiln_status ort_profile_check(const ort_engine *engine);
/* Ends the profile where that was not done yet, and shows node `index` of the last `runs`. */
KILN_MUST_CHECK kiln_status ort_profile_show(const ort_engine *engine, uint64_t runs, size_t index,
                                             kiln_layer_time *layer);
/* Before the session goes; its files go too. */
void ort_profile_finish(ort_engine *engine);

kiln_status ort_context_time(void *context, bool on);
kiln_status ort_context_layer(void *context, size_t index, kiln_layer_time *layer);

void ort_engine_destroy(void *engine);

/* New weights: another session (ort_refit.c). */
extern const kiln_refit_table ort_refit_operations;
/* An engine over what `model` is, by the library that `runtime` is. */
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

/* Looks into the model before the library does (ort_guard.c): INVALID_NETWORK and UNSUPPORTED for
 * one that would end the process inside it; fills in what is optional, and what the session must
 * be made with. */
KILN_MUST_CHECK kiln_status ort_guard(ort_engine *engine, const kiln_model *model,
                                      const kiln_build_options *options);
/* The same for a risky engine's run with inputs of these shapes. */
KILN_MUST_CHECK kiln_status ort_guard_run(const ort_engine *engine, const kln_input_shape *inputs,
                                          size_t count);

#endif
