/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backends/tensorrt/trt_context.h"
#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_engine.h"
#include "backends/tensorrt/trt_plan.h"
#include "cuda/kln_cuda.h"

/* --- probe --- */

/* One reason for each library record, written once, because the strings outlive this call. */
static void explain(trt_library *library, int capability, const char *why_none)
{
    if (library->reason[0] != '\0') {
        return;
    }
    const bool builds = library->core.createInferBuilder_INTERNAL != NULL;
    if (capability > 0) {
        (void)snprintf(library->reason, sizeof library->reason,
                       "%s %s a GPU of compute capability %d.%d", library->name,
                       builds ? "builds for and runs on" : "runs version-compatible plans on",
                       capability / 10, capability % 10);
    } else if (builds && library->abi.is_rtx) {
        (void)snprintf(library->reason, sizeof library->reason,
                       "%s builds plans here for GPUs elsewhere (compute_capabilities), but cannot "
                       "run them: %s",
                       library->name, why_none);
    } else {
        (void)snprintf(library->reason, sizeof library->reason,
                       "%s is installed but needs a GPU: %s", library->name, why_none);
    }
}

static kiln_status probe(const char *requested, kiln_backend_info *info)
{
    trt_library *library = NULL;
    KLN_RETURN_IF_ERROR(trt_library_find(requested, &library));
    info->library = library->record != NULL ? kln_library_path(library->record) : "";
    info->version = library->record != NULL ? kln_library_version(library->record) : "";
    if (library->status != KILN_OK) {
        info->reason = library->reason;
        return kln_fail(library->status, "%s", library->reason);
    }
    const char *why_none = "";
    const bool runs = trt_library_runs(library, 0, &why_none);
    const int capability = runs ? trt_device_capability(0) : 0;
    const bool builds = library->core.createInferBuilder_INTERNAL != NULL;
    explain(library, capability, why_none);
    info->reason = library->reason;
    info->capabilities = KILN_CAPABILITY_PROFILES | KILN_CAPABILITY_NATIVE_PLAN;
    if (library->core.createInferRefitter_INTERNAL != NULL) {
        info->capabilities |= KILN_CAPABILITY_REFIT;
    }
    if (runs) {
        info->capabilities |=
            KILN_CAPABILITY_DEVICE_MEMORY | KILN_CAPABILITY_STREAMS | KILN_CAPABILITY_GRAPHS;
        info->available = builds;
        /* A lean runtime only loads plans, which are recognized by their bytes. For a model,
         * another backend is chosen by default. */
        info->score = builds ? 100 : 1;
        info->capabilities |= KILN_CAPABILITY_RUN | (builds ? KILN_CAPABILITY_BUILD : 0U);
        return KILN_OK;
    }
    if (builds && library->abi.is_rtx) {
        /* It can build if it is requested by name, but is never chosen by default. */
        info->score = 1;
        info->capabilities |= KILN_CAPABILITY_BUILD;
        return KILN_OK;
    }
    return kln_fail(trt_device_refusal(), "%s", library->reason);
}

/* --- making engines --- */

/* A build allocates and releases memory thousands of times, and the library's own allocator is
 * fastest at that. Kiln's allocator replaces it only if memory is to be counted or limited. */
static trt_GpuAllocator *allocator_of(trt_engine *made, const kiln_build_options *options)
{
    const bool asked = options->gpu_allocator == KILN_GPU_ALLOCATOR_KILN ||
                       options->gpu_pool != NULL || options->gpu_memory_bytes != 0;
    return made->allocates && asked ? &made->allocator.object : NULL;
}

static kiln_status build_within(trt_engine *made, const kiln_model *model,
                                const kiln_build_options *options, const kiln_monitor *monitor)
{
    TRT_ENTER(made->device);
    made->built.arena = &made->arena;
    const kiln_status status =
        trt_build_plan(made->library, model, options, monitor, allocator_of(made, options),
                       &made->built, &made->memory);
    KLN_RETURN_IF_ERROR(trt_engine_explain_memory(made, (trt_shortage){0, 0}, status));
    KLN_RETURN_IF_ERROR(trt_keep_metadata(made, model));
    const trt_abi *abi = &made->library->abi;
    made->plan =
        (kiln_span){trt_HostMemory_data(abi, made->memory), trt_HostMemory_size(abi, made->memory)};
    /* Ahead of time, there is no GPU to run on, or the plan is for another GPU. */
    if (!trt_library_runs(made->library, made->device, NULL) ||
        options->compute_capability_count != 0 || options->windows_runtime) {
        return KILN_OK;
    }
    /* The library itself has just put that code into the plan. */
    made->runs_host_code = made->runs_host_code || options->version_compatible;
    return trt_engine_deserialize(made, model->path != NULL ? model->path : "the plan");
}

KLN_SCOPED_POINTER(trt_engine, trt_engine_destroy)

static kiln_status build(const kiln_model *model, const kiln_build_options *options,
                         const kiln_monitor *monitor, void **engine)
{
    const kiln_phase first = {.phase = "opening the library"};
    KLN_RETURN_IF(monitor != NULL && !monitor->progress(monitor->user, &first),
                  KILN_ERROR_CANCELLED, "%s: the build was stopped", kln_model_name(model));
    KLN_SCOPED(trt_engine_destroy_at) trt_engine *made = NULL;
    KLN_RETURN_IF_ERROR(trt_engine_create(options, &made));
    KLN_RETURN_IF_ERROR(build_within(made, model, options, monitor));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

static kiln_status keep_plan(trt_engine *engine, const kiln_model *plan)
{
    if (plan->file != NULL) {
        engine->mapping = kln_mapping_share(plan->file);
        engine->plan = engine->mapping.bytes;
        return KILN_OK;
    }
    engine->copy = kln_alloc(plan->bytes.size);
    KLN_RETURN_IF_NO_MEMORY(engine->copy, plan->bytes.size, "a copy of the plan");
    memcpy(engine->copy, plan->bytes.data, plan->bytes.size);
    engine->plan = (kiln_span){engine->copy, plan->bytes.size};
    return KILN_OK;
}

/* Bytes that do not begin like a plan must be ONNX, which only a parser can tell. */
static kiln_status check_onnx(const kiln_model *model)
{
    kln_onnx_model *read = NULL;
    const kiln_status status = kln_model_read(model, &read);
    kln_onnx_model_destroy(read);
    if (status != KILN_ERROR_MALFORMED) {
        return status;
    }
    char why[512];
    (void)snprintf(why, sizeof why, "%s", kiln_error_message());
    return kln_fail(KILN_ERROR_MALFORMED,
                    "%s is neither a plan of TensorRT, which begins with \"ftrt\" or \"vtrt\", nor "
                    "an ONNX model: %s",
                    model->path != NULL ? model->path : "what is in memory", why);
}

static kiln_status load_within(trt_engine *made, const kiln_model *plan)
{
    KLN_RETURN_IF_ERROR(keep_plan(made, plan));
    TRT_ENTER(made->device);
    KLN_RETURN_IF_ERROR(
        trt_engine_deserialize(made, plan->path != NULL ? plan->path : "a plan in memory"));
    return plan->origin != NULL ? trt_keep_names(made, plan->origin) : KILN_OK;
}

static kiln_status load(const kiln_model *plan, const kiln_build_options *options,
                        const kiln_monitor *monitor, void **engine)
{
    if (trt_recognize(plan->bytes) == NULL) {
        KLN_RETURN_IF_ERROR(check_onnx(plan));
        return build(plan, options, monitor, engine);
    }
    KLN_SCOPED(trt_engine_destroy_at) trt_engine *made = NULL;
    KLN_RETURN_IF_ERROR(trt_engine_create(options, &made));
    KLN_RETURN_IF_ERROR(load_within(made, plan));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

/* Serializes the plan with the weights of the last refit. By default the library writes a stripped
 * plan without them; and it writes them as fixed unless INCLUDE_REFIT is set (from 10.14 on). */
static kiln_status write_again(trt_engine *engine, trt_HostMemory **memory)
{
    const trt_abi *abi = &engine->library->abi;
    const int32_t refit = trt_value(abi, TRT_V_SerializationFlag_INCLUDE_REFIT);
    const uint32_t wanted = refit >= 0 ? 1U << (unsigned)refit : 0;
    const uint32_t left_out =
        1U << (unsigned)trt_value(abi, TRT_V_SerializationFlag_EXCLUDE_WEIGHTS);
    trt_SerializationConfig *config = trt_CudaEngine_createSerializationConfig(abi, engine->engine);
    *memory = NULL;
    if (!trt_is_null(config)) {
        const uint32_t flags = trt_SerializationConfig_getFlags(abi, config) & ~left_out;
        if (trt_SerializationConfig_setFlags(abi, config, flags | wanted) ||
            trt_SerializationConfig_setFlags(abi, config, flags)) {
            *memory = trt_CudaEngine_serializeWithConfig(abi, engine->engine, config);
        }
        trt_SerializationConfig_destroy(config);
    }
    if (trt_is_null(*memory) || trt_HostMemory_size(abi, *memory) == 0) {
        trt_HostMemory_destroy(*memory);
        *memory = NULL;
        return trt_fail(KILN_ERROR_BACKEND, &engine->recorder,
                        "%s writes no plan with the new weights", engine->library->name);
    }
    return KILN_OK;
}

static kiln_span bytes_of(const trt_engine *engine, trt_HostMemory *memory)
{
    const trt_abi *abi = &engine->library->abi;
    return (kiln_span){trt_HostMemory_data(abi, memory), trt_HostMemory_size(abi, memory)};
}

static kiln_status refresh_plan(trt_engine *engine)
{
    TRT_REFITTING(engine);
    if (engine->is_stale) {
        trt_HostMemory *memory = NULL;
        KLN_RETURN_IF_ERROR(write_again(engine, &memory));
        trt_HostMemory_destroy(engine->refitted);
        engine->refitted = memory;
        engine->plan = bytes_of(engine, memory);
        engine->is_stale = false;
    }
    return KILN_OK;
}

static kiln_status serialize(void *state, kiln_span *bytes)
{
    trt_engine *engine = state;
    const kiln_status status = engine->engine != NULL ? refresh_plan(engine) : KILN_OK;
    *bytes = engine->plan;
    return status == KILN_OK ? kln_bytes_check(*bytes, "the plan") : status;
}

/* Fills in the copy. Its plan is the original's, or its own if that is stale. */
static kiln_status fill_copy(trt_engine *engine, trt_engine *copy)
{
    TRT_REFITTING(engine);
    copy->plan = engine->plan;
    if (engine->is_stale) {
        KLN_RETURN_IF_ERROR(write_again(engine, &copy->memory));
        copy->plan = bytes_of(copy, copy->memory);
    }
    return trt_engine_deserialize(copy, "the plan");
}

static kiln_status refit_beside(void *state, const kiln_named_tensor *weights, size_t count,
                                void **made)
{
    trt_engine *engine = state;
    KLN_SCOPED(trt_engine_destroy_at) trt_engine *copy = NULL;
    (void)weights; /* the caller then refits the copy in place */
    (void)count;
    KLN_RETURN_IF_ERROR(trt_engine_need(engine, "refit"));
    const kiln_build_options options = {.struct_size = sizeof options,
                                        .device = engine->device,
                                        .allow_host_code = engine->runs_host_code,
                                        .strip_plan = engine->lacks_weights};
    KLN_RETURN_IF_ERROR(trt_engine_create_with(engine->library, &options, &copy));
    KLN_RETURN_IF_ERROR(fill_copy(engine, copy));
    *made = KLN_TAKE(copy);
    return KILN_OK;
}

/* -1 for a plan that was only built, ahead of time. */
static int32_t device_of(void *state)
{
    const trt_engine *engine = state;
    return engine->engine != NULL ? engine->device : -1;
}

static kiln_status inspect(void *state, char **json)
{
    return trt_engine_inspect(state, -1, json);
}

/* TensorRT has no float64: its parser converts that to float32, in weights and bindings, too. */
static kiln_dtype bound_as(kiln_dtype dtype)
{
    return dtype == KILN_DTYPE_FLOAT64 ? KILN_DTYPE_FLOAT32 : dtype;
}

static const kiln_plan_table plan_operations = {
    .inspect = inspect,
    .layer_types = trt_layer_types,
    .device_memory = trt_plan_device_memory,
    .gpu_memory = trt_plan_gpu_memory,
    .get_streaming = trt_get_streaming,
    .set_streaming = trt_set_streaming,
    .set_profile = trt_context_set_profile,
    .get_profile = trt_context_get_profile,
    .save_runtime_cache = trt_context_save_cache,
    .plugin_load = trt_plugin_load,
    .plugin_count = trt_plugin_count,
    .plugin_get = trt_plugin_get,
};

static const kiln_refit_table refit_operations = {
    .count = trt_refit_count,
    .get = trt_refit_get,
    .beside = refit_beside,
    .in_place = trt_refit,
    .in_place_model = trt_refit_model,
};

const kiln_backend kln_backend_tensorrt = {
    .struct_size = sizeof(kiln_backend),
    .name = "tensorrt",
    .description = "NVIDIA TensorRT 10, TensorRT 11 and TensorRT-RTX",
    .options = KLN_OPTIONS_TENSORRT,
    .environment = TRT_ENVIRONMENT,
    .has_plugins = true,
    .documents_capture = true,
    .probe = probe,
    .library = trt_library_use,
    .release_builders = trt_release_builders,
    .timings = trt_timings,
    .bound_as = bound_as,
    .initializers_are_weights = true,
    .engine = {.build = build,
               .load = load,
               .recognize = trt_recognize,
               .serialize = serialize,
               .describe = trt_describe,
               .destroy = trt_engine_destroy,
               .device = device_of},
    .context = {.create = trt_context_create,
                .destroy = trt_context_destroy,
                .bind = trt_context_bind,
                .run = trt_context_run,
                .output = trt_context_output,
                .enqueue = trt_context_enqueue,
                .time_layers = trt_context_profile_layers,
                .layer_time = trt_context_layer},
    .plan = &plan_operations,
    .refit = &refit_operations,
};
