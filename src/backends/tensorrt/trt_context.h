/* SPDX-License-Identifier: Apache-2.0 */
/* Running an engine. */
#ifndef TRT_CONTEXT_H
#define TRT_CONTEXT_H

#include "backends/tensorrt/trt_engine.h"

/* One input or output. What lies in device memory is used where it is; what lies on the host has a
 * counterpart in device memory, which grows and is kept, and is copied in order with the run.
 * Values of shape tensors are read by TensorRT from the host itself. */
typedef struct trt_binding {
    const char *name;
    bool is_input;
    bool on_host;  /* TensorRT reads or writes it on the host */
    bool reshaped; /* since the last run */
    kiln_dtype dtype;
    kiln_tensor tensor; /* as it was bound; data NULL: nothing, or for an output any memory */
    void *device;
    size_t device_bytes;
    trt_output_allocator allocator; /* of an output that is not bound to device memory */
    void *host;                     /* an output's memory where the caller gave none */
    size_t host_bytes;
    kiln_tensor result; /* of the last run */
} trt_binding;

typedef struct trt_context {
    trt_engine *engine;
    trt_ExecutionContext *object;
    kiln_stream *stream;
    trt_memory memory;
    trt_error_recorder recorder;
    int32_t profile;
    int32_t profile_count;
    size_t slot_count, input_count;
    trt_binding *slots;
    int32_t fixed_profile;    /* of kiln_context_set_profile; -1: by the shapes */
    bool has_profile;         /* the one in use fits what is bound */
    trt_shared_block *shared; /* with share_device_memory */
    bool captures_itself;     /* RTX, as rtx_graphs asks */
    bool profiles_layers;
    trt_profiler profiler;
    trt_RuntimeConfig *config; /* of RTX, where the options ask for something */
    trt_RuntimeCache *cache;
    kln_mapping cache_file;
} trt_context;

/* Makes self->object as the options ask; on an error the caller destroys what is there
 * (trt_context_plan.c). */
KILN_MUST_CHECK kiln_status trt_context_make_object(trt_context *self,
                                                    const kiln_context_options *options);

/* The profile that what is bound fits, where none was chosen (trt_context_profile.c). */
KILN_MUST_CHECK kiln_status trt_context_choose_profile(trt_context *self,
                                                       const kiln_stream *stream);

/* The operations of kiln_backend. */
KILN_MUST_CHECK kiln_status trt_context_create(void *engine, const kiln_context_options *options,
                                               void **context);
void trt_context_destroy(void *state);
KILN_MUST_CHECK kiln_status trt_context_bind(void *context, size_t index,
                                             const kiln_tensor *tensor);
KILN_MUST_CHECK kiln_status trt_context_run(void *context);
KILN_MUST_CHECK kiln_status trt_context_enqueue(void *context, kiln_stream *stream);
KILN_MUST_CHECK kiln_status trt_context_output(void *context, size_t index, kiln_tensor *tensor);

#endif
