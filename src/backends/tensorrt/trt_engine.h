/* SPDX-License-Identifier: Apache-2.0 */
/* A plan, and the engine made from it if there is a GPU. */
#ifndef TRT_ENGINE_H
#define TRT_ENGINE_H

#include <stdatomic.h>

#include "backends/tensorrt/trt_builder.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_library.h"
#include "cuda/kln_cuda.h"

/* Activation memory for contexts whose runs follow each other. */
typedef struct trt_shared_block {
    struct trt_shared_block *next;
    const kiln_stream *stream; /* that orders the runs */
    size_t contexts;
    void *allocation;
    void *memory; /* aligned address inside the block */
    int64_t bytes;
} trt_shared_block;

typedef struct trt_engine {
    trt_library *library;
    int32_t device;
    kiln_span plan;         /* located in one of the next three */
    trt_HostMemory *memory; /* of a build */
    kln_mapping mapping;    /* of a file */
    void *copy;             /* of bytes in memory */
    kln_arena arena;        /* of `built` */
    kiln_description built; /* the network's description, if the plan was built here */
    trt_Runtime *runtime;   /* NULL if the engine was only built, ahead of time */
    trt_CudaEngine *engine; /* likewise */
    trt_error_recorder recorder;
    atomic_long contexts;

    /* The source of the library's GPU memory, unless it allocates that itself. */
    bool runs_host_code; /* for a plan with a runtime of its own */
    bool lacks_weights;  /* stripped, and not refit yet: the library would run on zeros */
    bool is_refittable;  /* as requested for its build */
    bool allocates;
    trt_pool pool;
    trt_memory gpu;
    trt_gpu_allocator allocator;

    trt_HostMemory *refitted; /* the plan with new weights, once it has been requested; `plan` is
                                 then located there */
    bool is_stale;            /* `plan` has the weights from before the last refit */

    /* Refit (trt_refit.c): the list; one refit at a time. */
    pthread_mutex_t refitting;
    trt_Refitter *refitter;
    const char **weight_names; /* strings of the refitter */
    bool *weight_missing;
    size_t weight_count;

    /* The blocks of contexts that share device memory, guarded by `sharing`. */
    pthread_mutex_t sharing;
    trt_shared_block *shared;
} trt_engine;

/* An engine without a plan; of the library that `options` name, or of one that is already open. */
KILN_MUST_CHECK kiln_status trt_engine_create(const kiln_build_options *options,
                                              trt_engine **engine);
KILN_MUST_CHECK kiln_status trt_engine_create_with(trt_library *library,
                                                   const kiln_build_options *options,
                                                   trt_engine **engine);
void trt_engine_destroy(void *state);
/* kiln_engine_table.recognize. */
const char *trt_recognize(kiln_span bytes);

/* STATE, with `what` was requested, for a plan that was only built. */
KILN_MUST_CHECK kiln_status trt_engine_need(const trt_engine *engine, const char *what);

void trt_refit_finish(trt_engine *engine);

/* Takes the lock `refitting`, enters the device and clears earlier errors. Everything below is done
 * in between. */
typedef struct trt_refitting {
    trt_engine *engine; /* NULL: not begun */
    kln_cuda_scope scope;
} trt_refitting;
KILN_MUST_CHECK kiln_status trt_refit_begin(trt_engine *engine, trt_refitting *refitting);
void trt_refit_end(trt_refitting *refitting);
/* Begins, until the end of the scope, or returns. */
#define TRT_REFITTING(of)                                                      \
    KLN_SCOPED(trt_refit_end) trt_refitting trt_refitting_ = {.engine = NULL}; \
    KLN_RETURN_IF_ERROR(trt_refit_begin((of), &trt_refitting_))
/* Creates the refitter if there is none yet. */
KILN_MUST_CHECK kiln_status trt_refit_need(trt_engine *engine);
/* Refits with the weights that were set: STATE with those missing. `by_name` is false for the
 * weights of a model: the library sets these itself, and knows which of them a stripped plan
 * needs. */
KILN_MUST_CHECK kiln_status trt_refit_commit(trt_engine *engine, bool by_name);
/* Unsets the weights, whose memory is about to be freed. */
void trt_refit_unset(trt_engine *engine);

/* Sets up GPU memory as the options request; INVALID_ARGUMENT (trt_memory.c). */
KILN_MUST_CHECK kiln_status trt_engine_init_memory(trt_engine *engine,
                                                   const kiln_build_options *options);

/* How often the library's requests for memory failed. */
typedef struct trt_shortage {
    uint64_t refused; /* by the limit */
    uint64_t failed;  /* because the GPU, or the pool, had no more */
} trt_shortage;
trt_shortage trt_engine_shortage(trt_engine *engine);
/* The `status` of what failed since `before`; or LIMIT if the limit was the reason, or
 * OUT_OF_MEMORY if there was no more memory: the library seldom says so itself. */
KILN_MUST_CHECK kiln_status trt_engine_explain_memory(trt_engine *engine, trt_shortage before,
                                                      kiln_status status);

/* The block for contexts whose work goes to `stream`. It is made for the first of them, as large as
 * the profile that needs most, and freed with the last (trt_memory.c). */
KILN_MUST_CHECK kiln_status trt_engine_share_memory(trt_engine *engine, const kiln_stream *stream,
                                                    trt_shared_block **block);
/* NULL is allowed. */
void trt_engine_unshare_memory(trt_engine *engine, trt_shared_block *block);

/* Makes the runtime and deserializes the plan. NO_DEVICE if there is no GPU for that, MALFORMED,
 * MISMATCH, BACKEND. */
KILN_MUST_CHECK kiln_status trt_engine_deserialize(trt_engine *engine, const char *source);

/* The JSON of the engine's inspector for layer `index` (-1: all), NUL-terminated; free it with
 * kln_free. STATE for an engine that was only built. */
KILN_MUST_CHECK kiln_status trt_engine_inspect(trt_engine *engine, int32_t index, char **json);
/* kiln_plan_table.layer_types. (trt_layers.c) */
KILN_MUST_CHECK kiln_status trt_layer_types(void *state, const kiln_layer_listener *listener);

/* kiln_backend.describe. */
/* Keeps the metadata of a built model, apart from its network. */
KILN_MUST_CHECK kiln_status trt_keep_metadata(trt_engine *engine, const kiln_model *model);
/* The same, and the names of its inputs' dimensions, for a loaded plan. */
KILN_MUST_CHECK kiln_status trt_keep_names(trt_engine *engine, const kln_onnx_model *model);
KILN_MUST_CHECK kiln_status trt_describe(void *state, kiln_description *description);

#endif
