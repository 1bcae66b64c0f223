/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_context.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_plan.h"

/* --- creating a context as the options ask --- */

static kiln_status load_cache(trt_context *self, const char *path)
{
    const trt_library *library = self->engine->library;
    const trt_abi *abi = &library->abi;
    self->cache = trt_RuntimeConfig_createRuntimeCache(abi, self->config);
    if (trt_is_null(self->cache)) {
        self->cache = NULL;
        return trt_fail(KILN_ERROR_BACKEND, &self->engine->recorder, "a runtime cache");
    }
    if (kln_file_exists(path)) {
        KLN_RETURN_IF_ERROR(kln_mapping_open(path, &self->cache_file));
        const kiln_span bytes = self->cache_file.bytes;
        if (!trt_RuntimeCache_deserialize(abi, self->cache, bytes.data, bytes.size)) {
            return trt_fail(KILN_ERROR_MISMATCH, &self->engine->recorder,
                            "runtime_cache: %s does not take \"%s\"; one of another version or GPU "
                            "must be deleted",
                            library->name, path);
        }
    }
    return trt_RuntimeConfig_setRuntimeCache(abi, self->config, self->cache)
               ? KILN_OK
               : trt_fail(KILN_ERROR_BACKEND, &self->engine->recorder, "a runtime cache");
}

/* Options that only TensorRT-RTX has. */
static kiln_status configure_rtx(trt_context *self, const kiln_context_options *options)
{
    static const trt_enumerator kernels[] = {TRT_V_DynamicShapesKernelSpecializationStrategy_LAZY,
                                             TRT_V_DynamicShapesKernelSpecializationStrategy_LAZY,
                                             TRT_V_DynamicShapesKernelSpecializationStrategy_EAGER,
                                             TRT_V_DynamicShapesKernelSpecializationStrategy_NONE};
    const trt_library *library = self->engine->library;
    const trt_abi *abi = &library->abi;
    const struct {
        bool set;
        trt_method method;
        const char *option;
    } needs[] = {
        {options->runtime_cache != NULL, TRT_M_RuntimeConfig_createRuntimeCache, "runtime_cache"},
        {options->kernel_specialization != KILN_KERNELS_DEFAULT,
         TRT_M_RuntimeConfig_setDynamicShapesKernelSpecializationStrategy, "kernel_specialization"},
        {options->rtx_graphs != KILN_SWITCH_DEFAULT, TRT_M_RuntimeConfig_setCudaGraphStrategy,
         "rtx_graphs"}};
    bool any = false;
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(needs); i++) {
        if (needs[i].set) {
            KLN_RETURN_IF_ERROR(trt_need(library, needs[i].method, needs[i].option));
            any = true;
        }
    }
    if (!any) {
        return KILN_OK;
    }
    self->config = trt_CudaEngine_createRuntimeConfig(abi, self->engine->engine);
    if (trt_is_null(self->config)) {
        self->config = NULL;
        return trt_fail(KILN_ERROR_BACKEND, &self->engine->recorder, "a runtime configuration");
    }
    if (options->kernel_specialization != KILN_KERNELS_DEFAULT) {
        trt_RuntimeConfig_setDynamicShapesKernelSpecializationStrategy(
            abi, self->config, trt_value(abi, kernels[options->kernel_specialization]));
    }
    const bool on = options->rtx_graphs == KILN_SWITCH_ON;
    KLN_FAIL_IF(options->rtx_graphs != KILN_SWITCH_DEFAULT &&
                    !trt_RuntimeConfig_setCudaGraphStrategy(
                        abi, self->config,
                        trt_value(abi, on ? TRT_V_CudaGraphStrategy_WHOLE_GRAPH_CAPTURE
                                          : TRT_V_CudaGraphStrategy_DISABLED)),
                trt_fail(KILN_ERROR_UNSUPPORTED, &self->engine->recorder,
                         "rtx_graphs: %s did not accept it", library->name));
    return options->runtime_cache != NULL ? load_cache(self, options->runtime_cache) : KILN_OK;
}

static kiln_status share_memory(trt_context *self)
{
    const trt_abi *abi = &self->engine->library->abi;
    KLN_RETURN_IF_ERROR(trt_engine_share_memory(self->engine, self->stream, &self->shared));
    void *memory = self->shared->memory;
    const int64_t bytes = self->shared->bytes;
    if (trt_has(abi, TRT_M_ExecutionContext_setDeviceMemoryV2)) {
        trt_ExecutionContext_setDeviceMemoryV2(abi, self->object, memory, bytes);
    } else {
        trt_ExecutionContext_setDeviceMemory(abi, self->object, memory);
    }
    /* These calls return nothing; a refusal is only recorded. */
    return self->recorder.count == 0
               ? KILN_OK
               : trt_fail(KILN_ERROR_BACKEND, &self->recorder,
                          "share_device_memory: %lld bytes were not taken", (long long)bytes);
}

kiln_status trt_context_make_object(trt_context *self, const kiln_context_options *options)
{
    trt_engine *engine = self->engine;
    const trt_abi *abi = &engine->library->abi;
    const int32_t strategy = trt_value(
        abi, options->share_device_memory ? TRT_V_ExecutionContextAllocationStrategy_USER_MANAGED
                                          : TRT_V_ExecutionContextAllocationStrategy_STATIC);
    self->captures_itself = options->rtx_graphs == KILN_SWITCH_ON;
    KLN_RETURN_IF_ERROR(configure_rtx(self, options));
    const trt_shortage before = trt_engine_shortage(engine);
    if (self->config != NULL) {
        trt_RuntimeConfig_setExecutionContextAllocationStrategy(abi, self->config, strategy);
        self->object = trt_CudaEngine_createExecutionContextWithRuntimeConfig(abi, engine->engine,
                                                                              self->config);
    } else {
        self->object = trt_CudaEngine_createExecutionContext(abi, engine->engine, strategy);
    }
    if (trt_is_null(self->object)) {
        self->object = NULL;
        const kiln_status status =
            trt_fail(KILN_ERROR_BACKEND, &engine->recorder, "a context of TensorRT");
        return trt_engine_explain_memory(engine, before, status);
    }
    /* Not earlier: the engine's recorder may by now hold an error of another context. */
    trt_ExecutionContext_setErrorRecorder(abi, self->object, &self->recorder.object);
    if (options->persistent_cache_bytes > 0) {
        const size_t wanted = (size_t)options->persistent_cache_bytes;
        trt_ExecutionContext_setPersistentCacheLimit(abi, self->object, wanted);
        const size_t kept = trt_ExecutionContext_getPersistentCacheLimit(abi, self->object);
        KLN_FAIL_IF(kept != wanted,
                    trt_fail(KILN_ERROR_UNSUPPORTED, &self->recorder,
                             "persistent_cache_bytes: %zu was asked for, %s has %zu", wanted,
                             engine->library->name, kept));
    }
    return options->share_device_memory ? share_memory(self) : KILN_OK;
}

/* --- profiles and layers --- */

kiln_status trt_context_set_profile(void *state, int32_t profile)
{
    trt_context *self = state;
    self->fixed_profile = profile;
    self->has_profile = false;
    return KILN_OK;
}

int32_t trt_context_get_profile(void *context)
{
    const trt_context *self = context;
    return self->fixed_profile >= 0 ? self->fixed_profile : self->profile;
}

kiln_status trt_context_profile_layers(void *state, bool on)
{
    trt_context *self = state;
    const trt_abi *abi = &self->engine->library->abi;
    if (on) {
        trt_profiler_finish(&self->profiler);
        trt_profiler_init(&self->profiler, &self->engine->library->tables);
    }
    self->profiler.is_off = !on;
    /* Reported after the wait for the run: reporting during enqueue would make enqueue block. */
    TRT_ENTER(self->engine->device);
    trt_ExecutionContext_setProfiler(abi, self->object, on ? &self->profiler.object : NULL);
    trt_ExecutionContext_setEnqueueEmitsProfile(abi, self->object, false);
    self->profiles_layers = on;
    return KILN_OK;
}

kiln_status trt_context_layer(void *state, size_t index, kiln_layer_time *layer)
{
    const trt_context *self = state;
    KLN_RETURN_IF(self->profiler.incomplete, KILN_ERROR_OUT_OF_MEMORY,
                  "some layers found no memory to be measured in");
    KLN_RETURN_IF(index >= self->profiler.count, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_context_layer: layer %zu was asked for, %zu were measured", index,
                  self->profiler.count);
    const trt_layer_time *found = &self->profiler.layers[index];
    layer->name = found->name;
    layer->milliseconds = found->milliseconds;
    layer->runs = found->runs;
    return KILN_OK;
}

/* --- kernels that RTX compiled --- */

kiln_status trt_context_save_cache(void *state, const char *path)
{
    trt_context *self = state;
    const trt_abi *abi = &self->engine->library->abi;
    KLN_RETURN_IF(self->cache == NULL, KILN_ERROR_STATE,
                  "kiln_context_save_runtime_cache: the context was made without "
                  "kiln_context_options.runtime_cache");
    TRT_ENTER(self->engine->device);
    trt_logged_clear();
    trt_HostMemory *memory = trt_RuntimeCache_serialize(abi, self->cache);
    KLN_FAIL_IF(trt_is_null(memory),
                trt_fail(KILN_ERROR_BACKEND, &self->recorder, "the runtime cache"));
    const kiln_span bytes = {trt_HostMemory_data(abi, memory), trt_HostMemory_size(abi, memory)};
    const kiln_status status = kln_file_write(path, &bytes, 1, false);
    trt_HostMemory_destroy(memory);
    return status;
}
