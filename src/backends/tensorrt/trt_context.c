/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_context.h"

#include <stdio.h>

#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_plan.h"
#include "cuda/kln_cuda.h"

/* --- create and destroy --- */

static void release_slots(trt_context *self)
{
    for (size_t i = 0; self->slots != NULL && i < self->slot_count; i++) {
        trt_binding *s = &self->slots[i];
        if (s->device != NULL) {
            kln_cuda_release(KILN_LOCATION_DEVICE, self->engine->device, s->device);
        }
        if (s->allocator.memory != NULL) {
            trt_output_allocator_finish(&s->allocator);
        }
        kln_free(s->host);
    }
    kln_free(self->slots);
}

void trt_context_destroy(void *state)
{
    trt_context *self = state;
    TRT_ENTER_ANYWAY(self->engine->device, "destroying a context");
    trt_ExecutionContext_destroy(self->object);
    trt_RuntimeConfig_destroy(self->config);
    trt_RuntimeCache_destroy(self->cache);
    kln_mapping_close(&self->cache_file);
    release_slots(self);
    trt_profiler_finish(&self->profiler);
    trt_error_recorder_finish(&self->recorder);
    trt_engine_unshare_memory(self->engine, self->shared);
    (void)atomic_fetch_sub(&self->engine->contexts, 1);
    kln_free(self);
}
KLN_SCOPED_POINTER(trt_context, trt_context_destroy)

static kiln_status fill_slots(trt_context *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    trt_CudaEngine *engine = self->engine->engine;
    const int32_t count = trt_CudaEngine_getNbIOTensors(abi, engine);
    const int32_t input = trt_value(abi, TRT_V_TensorIOMode_INPUT);
    const int32_t host = trt_value(abi, TRT_V_TensorLocation_HOST);
    self->slot_count = (size_t)count;
    KLN_NEW(self->slots, (size_t)count, "the bindings of a context");
    size_t next = 0;
    for (int pass = 0; pass < 2; pass++) { /* inputs first, the order of trt_describe */
        for (int32_t i = 0; i < count; i++) {
            const char *name = trt_CudaEngine_getIOTensorName(abi, engine, i);
            const bool is_input = trt_CudaEngine_getTensorIOMode(abi, engine, name) == input;
            if (is_input == (pass == 0)) {
                trt_binding *s = &self->slots[next++];
                s->name = name;
                s->is_input = is_input;
                s->on_host = trt_CudaEngine_getTensorLocation(abi, engine, name) == host;
                s->dtype = trt_dtype(trt_CudaEngine_getTensorDataType(abi, engine, name));
                trt_output_allocator_init(&s->allocator, &self->engine->library->tables,
                                          &self->memory);
            }
        }
        self->input_count = pass == 0 ? next : self->input_count;
    }
    return KILN_OK;
}

static kiln_status fill(trt_context *self, const kiln_context_options *options)
{
    trt_engine *engine = self->engine;
    const trt_abi *abi = &engine->library->abi;
    TRT_ENTER(engine->device);
    self->stream = options->stream;
    trt_device_memory(&self->memory, &self->stream->device);
    trt_logged_clear();
    trt_error_recorder_clear(&engine->recorder);
    KLN_RETURN_IF_ERROR(trt_context_make_object(self, options));
    self->profile_count = trt_CudaEngine_getNbOptimizationProfiles(abi, engine->engine);
    return fill_slots(self);
}

kiln_status trt_context_create(void *state, const kiln_context_options *options, void **out)
{
    *out = NULL;
    trt_engine *engine = state;
    if (engine->engine == NULL) {
        const char *why = "";
        (void)trt_library_runs(engine->library, engine->device, &why);
        return kln_fail(KILN_ERROR_NO_DEVICE,
                        "this plan was built ahead of time and cannot run here%s%s; save it and "
                        "load it on a machine with the GPU it is for",
                        why[0] != '\0' ? ": " : "", why);
    }
    KLN_SCOPED(trt_context_destroy_at) trt_context *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "a context");
    made->engine = engine;
    made->fixed_profile = -1;
    (void)atomic_fetch_add(&engine->contexts, 1);
    trt_profiler_init(&made->profiler, &engine->library->tables);
    trt_error_recorder_init(&made->recorder, &engine->library->tables);
    KLN_RETURN_IF_ERROR(fill(made, options));
    *out = KLN_TAKE(made);
    return KILN_OK;
}

/* --- bind --- */

kiln_status trt_context_bind(void *state, size_t index, const kiln_tensor *tensor)
{
    trt_context *self = state;
    trt_binding *s = &self->slots[index];
    KLN_RETURN_IF(
        tensor->desc.location == KILN_LOCATION_DEVICE && s->on_host, KILN_ERROR_UNSUPPORTED,
        "\"%s\" is a shape tensor: TensorRT reads it on the host, device memory cannot be bound",
        s->name);
    s->reshaped =
        s->reshaped || !kiln_shape_equal(&s->tensor.desc.shape, &tensor->desc.shape) || s->on_host;
    self->has_profile = self->has_profile && !s->reshaped;
    s->tensor = *tensor;
    return KILN_OK;
}

static bool is_on_device(const kiln_tensor *tensor)
{
    return tensor->data != NULL && tensor->desc.location == KILN_LOCATION_DEVICE;
}

static kiln_status grow_on_device(trt_context *self, trt_binding *s, size_t bytes)
{
    if (s->device_bytes >= bytes && s->device != NULL) {
        return KILN_OK;
    }
    void *grown = NULL;
    KLN_RETURN_IF_ERROR(kln_cuda_allocate(KILN_LOCATION_DEVICE, self->engine->device,
                                          bytes > 0 ? bytes : 1, &grown));
    if (s->device != NULL) {
        kln_cuda_release(KILN_LOCATION_DEVICE, self->engine->device, s->device);
    }
    s->device = grown;
    s->device_bytes = bytes > 0 ? bytes : 1;
    return KILN_OK;
}

static kiln_status send_input(trt_context *self, trt_binding *s)
{
    const trt_abi *abi = &self->engine->library->abi;
    if (s->reshaped) {
        const trt_Dims dims = trt_dims(&s->tensor.desc.shape);
        KLN_FAIL_IF(!trt_ExecutionContext_setInputShape(abi, self->object, s->name, &dims),
                    trt_fail(KILN_ERROR_SHAPE, &self->recorder, "input \"%s\"", s->name));
        s->reshaped = false;
    }
    /* TensorRT needs an address even for an empty tensor. */
    static const int64_t nothing;
    const void *address = s->tensor.data != NULL ? s->tensor.data : &nothing;
    if (!s->on_host && !is_on_device(&s->tensor)) {
        size_t bytes = 0;
        KLN_RETURN_IF_ERROR(kiln_tensor_bytes(s->tensor.desc.dtype, &s->tensor.desc.shape, &bytes));
        KLN_RETURN_IF_ERROR(grow_on_device(self, s, bytes));
        if (bytes > 0) {
            KLN_RETURN_IF_ERROR(kln_cuda_copy(self->engine->device, s->device, s->tensor.data,
                                              bytes, self->stream));
        }
        address = s->device;
    }
    KLN_FAIL_IF(!trt_ExecutionContext_setInputTensorAddress(abi, self->object, s->name, address),
                trt_fail(KILN_ERROR_BACKEND, &self->recorder, "input \"%s\"", s->name));
    return KILN_OK;
}

static kiln_status grow_host(trt_binding *s, size_t bytes)
{
    if (s->host_bytes >= bytes && s->host != NULL) {
        return KILN_OK;
    }
    void *grown = kln_alloc_aligned(bytes > 0 ? bytes : 1, 64);
    KLN_RETURN_IF_NO_MEMORY(grown, bytes, "an output");
    kln_free(s->host);
    s->host = grown;
    s->host_bytes = bytes > 0 ? bytes : 1;
    return KILN_OK;
}

static kiln_status fail_bound_bytes(const trt_binding *s, uint64_t needed)
{
    return kln_fail(KILN_ERROR_SIZE, "output \"%s\" has %llu bytes, %zu are bound", s->name,
                    (unsigned long long)needed, s->tensor.bytes);
}

/* The library writes the whole output, however many bytes are bound. If its shape depends on
 * values, its size is known only after the run, and the output allocator provides the memory. */
static kiln_status check_bound_bytes(trt_context *self, trt_binding *s)
{
    const trt_abi *abi = &self->engine->library->abi;
    const trt_Dims dims = trt_ExecutionContext_getTensorShape(abi, self->object, s->name);
    const kiln_shape shape = trt_shape(&dims);
    size_t bytes = 0;
    if (!kiln_shape_is_static(&shape)) {
        s->allocator.bound = s->tensor.data;
        s->allocator.bound_bytes = s->tensor.bytes;
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(s->dtype, &shape, &bytes));
    return bytes <= s->tensor.bytes ? KILN_OK : fail_bound_bytes(s, bytes);
}

static kiln_status prepare_output(trt_context *self, trt_binding *s)
{
    const trt_abi *abi = &self->engine->library->abi;
    s->allocator.known = false;
    s->allocator.bound = NULL;
    s->allocator.is_beside = false;
    void *address = s->allocator.made.memory;
    trt_OutputAllocator *allocator = &s->allocator.object;
    if (is_on_device(&s->tensor)) {
        KLN_RETURN_IF_ERROR(check_bound_bytes(self, s));
        address = s->tensor.data;
        allocator = s->allocator.bound != NULL ? allocator : NULL;
    } else if (s->on_host) {
        const int64_t most = trt_ExecutionContext_getMaxOutputSize(abi, self->object, s->name);
        KLN_RETURN_IF_ERROR(grow_host(s, most > 0 ? (size_t)most : 0));
        address = s->host;
        allocator = NULL;
    }
    KLN_FAIL_IF(!trt_ExecutionContext_setOutputAllocator(abi, self->object, s->name, allocator) ||
                    (address != NULL && !trt_ExecutionContext_setOutputTensorAddress(
                                            abi, self->object, s->name, address)),
                trt_fail(KILN_ERROR_BACKEND, &self->recorder, "output \"%s\"", s->name));
    return KILN_OK;
}

/* An output that might not fit was written to the allocator's own memory. */
static kiln_status fetch_on_device(trt_context *self, trt_binding *s, size_t bytes)
{
    const trt_output_allocator *allocator = &s->allocator;
    KLN_FAIL_IF(bytes > s->tensor.bytes, fail_bound_bytes(s, bytes));
    return allocator->is_beside && bytes > 0
               ? kln_cuda_copy(self->engine->device, s->tensor.data, allocator->made.memory, bytes,
                               self->stream)
               : KILN_OK;
}

static kiln_status fetch_output(trt_context *self, trt_binding *s)
{
    const trt_abi *abi = &self->engine->library->abi;
    const trt_Dims dims = s->allocator.known
                              ? s->allocator.shape
                              : trt_ExecutionContext_getTensorShape(abi, self->object, s->name);
    const kiln_shape shape = trt_shape(&dims);
    size_t bytes = 0;
    KLN_RETURN_IF_ERROR(kiln_tensor_bytes(s->dtype, &shape, &bytes));
    s->result = s->tensor;
    s->result.desc.shape = shape;
    s->result.desc.dtype = s->dtype;
    if (is_on_device(&s->tensor)) {
        return fetch_on_device(self, s, bytes);
    }
    if (s->tensor.data == NULL) {
        KLN_RETURN_IF_ERROR(grow_host(s, bytes));
        s->result.data = s->host;
        s->result.bytes = bytes;
        s->result.desc.location = KILN_LOCATION_HOST;
    } else if (s->tensor.bytes < bytes) {
        return fail_bound_bytes(s, bytes);
    }
    if (s->on_host) {
        if (s->result.data != s->host) {
            memcpy(s->result.data, s->host, bytes);
        }
        return KILN_OK;
    }
    return bytes > 0 ? kln_cuda_copy(self->engine->device, s->result.data, s->allocator.made.memory,
                                     bytes, self->stream)
                     : KILN_OK;
}

static kiln_status infer_shapes(trt_context *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    const char *open[8] = {NULL};
    const int32_t count =
        trt_ExecutionContext_inferShapes(abi, self->object, (int32_t)KLN_ARRAY_LENGTH(open), open);
    KLN_RETURN_IF(count > 0, KILN_ERROR_NOT_BOUND, "input \"%s\" has no shape or value yet",
                  open[0] != NULL ? open[0] : "?");
    return count == 0 ? KILN_OK
                      : trt_fail(KILN_ERROR_SHAPE, &self->recorder, "the shapes of the outputs");
}

static kiln_status check_weights(const trt_engine *engine)
{
    return engine->lacks_weights
               ? kln_fail(KILN_ERROR_STATE,
                          "the plan was stripped of its weights, and TensorRT would run it on "
                          "zeros; give them first (kiln_engine_refit_file)")
               : KILN_OK;
}

static kiln_status enqueue(trt_context *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    KLN_RETURN_IF_ERROR(check_weights(self->engine));
    KLN_RETURN_IF_ERROR(trt_context_choose_profile(self, self->stream));
    for (size_t i = 0; i < self->input_count; i++) {
        KLN_RETURN_IF_ERROR(send_input(self, &self->slots[i]));
    }
    KLN_RETURN_IF_ERROR(infer_shapes(self));
    for (size_t i = self->input_count; i < self->slot_count; i++) {
        KLN_RETURN_IF_ERROR(prepare_output(self, &self->slots[i]));
    }
    KLN_FAIL_IF(
        !trt_ExecutionContext_enqueueV3(abi, self->object, kiln_stream_handle(self->stream)),
        trt_fail(KILN_ERROR_BACKEND, &self->recorder, "the run was not accepted"));
    for (size_t i = self->input_count; i < self->slot_count; i++) {
        KLN_RETURN_IF_ERROR(fetch_output(self, &self->slots[i]));
    }
    return KILN_OK;
}

static kiln_status run(trt_context *self)
{
    KLN_CUDA_ENTER(self->engine->device);
    trt_logged_clear();
    trt_error_recorder_clear(&self->recorder);
    kiln_status status = enqueue(self);
    /* Work in flight reads and writes the caller's memory, so wait for it after a failure, too, and
     * keep the message of that failure. */
    if (status == KILN_OK) {
        status = kiln_stream_synchronize(self->stream);
    } else {
        char sentence[1024];
        (void)snprintf(sentence, sizeof sentence, "%s", kiln_error_message());
        if (kiln_stream_synchronize(self->stream) != KILN_OK) {
            kln_log(KILN_LOG_ERROR, "tensorrt", "%s", kiln_error_message());
        }
        status = kln_fail(status, "%s", sentence);
    }
    if (status == KILN_OK && self->profiles_layers) {
        (void)trt_ExecutionContext_reportToProfiler(&self->engine->library->abi, self->object);
    }
    return status;
}

kiln_status trt_context_run(void *state)
{
    return run(state);
}

/* --- without waiting --- */

/* Sets addresses for what the exec module bound: everything is in device memory, and outputs have
 * their shape. */
static kiln_status set_addresses(trt_context *self)
{
    for (size_t i = 0; i < self->input_count; i++) {
        KLN_RETURN_IF_ERROR(send_input(self, &self->slots[i]));
    }
    KLN_RETURN_IF_ERROR(infer_shapes(self));
    const trt_abi *abi = &self->engine->library->abi;
    for (size_t i = self->input_count; i < self->slot_count; i++) {
        trt_binding *s = &self->slots[i];
        const trt_Dims dims = trt_ExecutionContext_getTensorShape(abi, self->object, s->name);
        const kiln_shape shape = trt_shape(&dims);
        KLN_RETURN_IF(!kiln_shape_equal(&shape, &s->tensor.desc.shape), KILN_ERROR_SHAPE,
                      "the shape of output \"%s\" depends on values", s->name);
        KLN_RETURN_IF_ERROR(prepare_output(self, s));
        s->result = s->tensor;
    }
    return KILN_OK;
}

kiln_status trt_context_enqueue(void *state, kiln_stream *stream)
{
    trt_context *self = state;
    KLN_RETURN_IF(self->captures_itself, KILN_ERROR_UNSUPPORTED,
                  "TensorRT-RTX captures runs itself, as rtx_graphs asks");
    KLN_RETURN_IF_ERROR(check_weights(self->engine));
    trt_logged_clear();
    trt_error_recorder_clear(&self->recorder);
    KLN_RETURN_IF_ERROR(trt_context_choose_profile(self, stream));
    KLN_RETURN_IF_ERROR(set_addresses(self));
    KLN_FAIL_IF(!trt_ExecutionContext_enqueueV3(&self->engine->library->abi, self->object,
                                                kiln_stream_handle(stream)),
                trt_fail(KILN_ERROR_BACKEND, &self->recorder, "the run was not accepted"));
    return KILN_OK;
}

kiln_status trt_context_output(void *state, size_t index, kiln_tensor *tensor)
{
    const trt_context *self = state;
    *tensor = self->slots[index].result;
    return KILN_OK;
}
