/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backends/tensorrt/trt_builder.h"
#include "backends/tensorrt/trt_device.h"

/* --- types --- */

static const kiln_dtype dtypes[] = {KILN_DTYPE_FLOAT32,    KILN_DTYPE_FLOAT16,   KILN_DTYPE_INT8,
                                    KILN_DTYPE_INT32,      KILN_DTYPE_BOOL,      KILN_DTYPE_UINT8,
                                    KILN_DTYPE_FLOAT8E4M3, KILN_DTYPE_BFLOAT16,  KILN_DTYPE_INT64,
                                    KILN_DTYPE_INT4,       KILN_DTYPE_FLOAT4E2M1};

kiln_dtype trt_dtype(int32_t type)
{
    return type >= 0 && type < (int32_t)KLN_ARRAY_LENGTH(dtypes) ? dtypes[type]
                                                                 : KILN_DTYPE_UNDEFINED;
}

int32_t trt_type_of(kiln_dtype dtype)
{
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(dtypes); i++) {
        if (dtypes[i] == dtype) {
            return (int32_t)i;
        }
    }
    return -1;
}

/* --- describing the network, for an engine that is built ahead of time --- */

static kiln_status describe_tensor(const trt_build *build, trt_Tensor *tensor, bool is_input,
                                   kln_arena *arena, kiln_binding *binding)
{
    const trt_abi *abi = &build->library->abi;
    const trt_Dims dims = trt_Tensor_getDimensions(abi, tensor);
    *binding = (kiln_binding){.struct_size = sizeof *binding,
                              .name = kln_arena_strdup(arena, trt_Tensor_getName(abi, tensor)),
                              .is_input = is_input,
                              .dtype = trt_dtype(trt_Tensor_getType(abi, tensor)),
                              .shape = trt_shape(&dims)};
    KLN_RETURN_IF_NO_MEMORY(binding->name, 64, "the name of a binding");
    for (int32_t i = 0; is_input && i < dims.nbDims; i++) {
        const char *name = trt_Tensor_getDimensionName(abi, tensor, i);
        if (dims.d[i] < 0 && name != NULL && name[0] != '\0') {
            binding->dim_names[i] = kln_arena_strdup(arena, name);
            KLN_RETURN_IF_NO_MEMORY(binding->dim_names[i], 64, "the name of a dimension");
        }
    }
    return KILN_OK;
}

static kiln_status describe_network(const trt_build *build, kiln_description *description)
{
    const trt_abi *abi = &build->library->abi;
    const int32_t inputs = trt_NetworkDefinition_getNbInputs(abi, build->network);
    const int32_t outputs = trt_NetworkDefinition_getNbOutputs(abi, build->network);
    description->input_count = (size_t)inputs;
    description->output_count = (size_t)outputs;
    const size_t count = description->input_count + description->output_count;
    KLN_ARENA_NEW(description->arena, description->bindings, count, "the bindings of an engine");
    for (int32_t i = 0; i < inputs + outputs; i++) {
        trt_Tensor *tensor = i < inputs
                                 ? trt_NetworkDefinition_getInput(abi, build->network, i)
                                 : trt_NetworkDefinition_getOutput(abi, build->network, i - inputs);
        KLN_RETURN_IF_ERROR(describe_tensor(build, tensor, i < inputs, description->arena,
                                            &description->bindings[i]));
    }
    return KILN_OK;
}

/* --- the build --- */

/* The share of each stage in a build, measured with ResNet-50; LOADING only counts for the first
 * build of a process. The rest is loading the plan. */
#define LOADING 0.20
#define PARSING 0.02
#define BUILDING 0.95 /* including the stages before it */

/* Begins a stage, unless the build is to stop. */
static kiln_status begin_stage(trt_build *build, const char *name, double share)
{
    return trt_progress_stage(&build->progress, name, share)
               ? KILN_OK
               : kln_fail(KILN_ERROR_CANCELLED, "%s: the build was stopped", build->source);
}

static kiln_status fail_lean(const trt_library *library, trt_error_recorder *recorder)
{
    return trt_fail(KILN_ERROR_NOT_FOUND, recorder,
                    "version_compatible: the plan would carry TensorRT's lean runtime, whose "
                    "library is not beside that of %s; install it there, or leave it out with "
                    "exclude_lean_runtime and load the plan with a lean runtime of its version",
                    library->name);
}

/* At the end of a build, TensorRT opens the lean runtime to embed in the plan by its file name:
 * beside the core library, or where the system searches for libraries. */
static kiln_status check_lean(const trt_library *library, const kiln_build_options *o)
{
    static const kln_symbol no_symbols[] = {{.name = NULL}};
    const char *const files[] = {KLN_PRINTED("libnvinfer_lean.so.%d", library->abi.version / 10000),
                                 NULL};
    const kln_library_spec spec = {
        .name = "TensorRT's lean runtime", .files = files, .symbols = no_symbols};
    if (!o->version_compatible || o->exclude_lean_runtime || library->abi.is_rtx) {
        return KILN_OK;
    }
    char folder[PATH_MAX];
    kln_library *record = NULL;
    unsigned char no_table = 0;
    (void)snprintf(folder, sizeof folder, "%s", kln_library_path(library->record));
    char *slash = strrchr(folder, '/');
    *(slash != NULL ? slash : folder) = '\0';
    KLN_RETURN_IF_ERROR(kln_library_look(&spec, folder, &record));
    const bool is_there = kln_library_state(record) == KILN_LIBRARY_FOUND;
    kln_library_close(record);
    if (is_there) {
        return KILN_OK;
    }
    const kiln_status status = kln_library_open(&spec, NULL, &no_table, &record);
    kln_library_close(record);
    return status == KILN_OK || status == KILN_ERROR_OUT_OF_MEMORY ? status
                                                                   : fail_lean(library, NULL);
}

static kiln_status fail_plan(trt_build *build)
{
    const kiln_build_options *o = build->options;
    const char *why_none = "";
    if ((o->refit != KILN_REFIT_NONE || o->strip_plan) && trt_device_count(&why_none) == 0) {
        return trt_fail(KILN_ERROR_NO_DEVICE, &build->recorder,
                        "%s: %s builds no plan; for most networks it needs a GPU to build one "
                        "whose weights can be replaced, and %s",
                        build->source, build->library->name, why_none);
    }
    if (o->version_compatible && trt_said(&build->recorder, "libnvinfer_lean")) {
        return fail_lean(build->library, &build->recorder);
    }
    if (o->windows_runtime && trt_said(&build->recorder, "builder_resource_win")) {
        return trt_fail(KILN_ERROR_NOT_FOUND, &build->recorder,
                        "windows_runtime: the kernels for Windows are a library of their own, "
                        "which is not beside that of %s; install it there, or build on Windows",
                        build->library->name);
    }
    if (o->error_on_timing_cache_miss && trt_said(&build->recorder, "TIMING_CACHE_MISS")) {
        return trt_fail(KILN_ERROR_BACKEND, &build->recorder,
                        "error_on_timing_cache_miss: the timing cache does not know all layers of "
                        "%s; build it once without that option, and the cache learns them",
                        build->source);
    }
    return trt_fail(KILN_ERROR_BACKEND, &build->recorder, "%s: %s builds no plan", build->source,
                    build->library->name);
}

static kiln_status make_objects(trt_build *build, double *loading)
{
    trt_library *library = build->library;
    const trt_abi *abi = &library->abi;
    *loading = trt_library_keeps_builder(library) ? 0.0 : LOADING;
    KLN_RETURN_IF_ERROR(begin_stage(build, "loading kernels", *loading));
    if (build->options->keep_builder != KILN_SWITCH_OFF) {
        KLN_RETURN_IF_ERROR(trt_library_keep_builder(library, build->options->device));
    }
    trt_logged_clear();
    build->builder = library->core.createInferBuilder_INTERNAL(&library->logger, abi->version);
    if (trt_is_null(build->builder)) {
        build->builder = NULL;
        return trt_fail(KILN_ERROR_BACKEND, NULL, "%s gives no builder", library->name);
    }
    trt_Builder_setErrorRecorder(abi, build->builder, &build->recorder.object);
    if (build->allocator != NULL) {
        trt_Builder_setGpuAllocator(abi, build->builder, build->allocator);
    }
    build->config = trt_Builder_createBuilderConfig(abi, build->builder);
    const uint32_t strong =
        1U << (unsigned)trt_value(abi, TRT_V_NetworkDefinitionCreationFlag_STRONGLY_TYPED);
    build->network = trt_Builder_createNetworkV2(abi, build->builder, strong);
    KLN_FAIL_IF(
        trt_is_null(build->config) || trt_is_null(build->network),
        trt_fail(KILN_ERROR_BACKEND, &build->recorder, "%s gives no network", library->name));
    return KILN_OK;
}

static kiln_status run(trt_build *build, kiln_description *description, trt_HostMemory **plan)
{
    const trt_abi *abi = &build->library->abi;
    double loading = 0.0;
    KLN_RETURN_IF_ERROR(trt_check_profiles(build));
    KLN_RETURN_IF_ERROR(make_objects(build, &loading));
    KLN_RETURN_IF_ERROR(begin_stage(build, "parsing", PARSING));
    KLN_RETURN_IF_ERROR(trt_apply_options(build));
    KLN_RETURN_IF_ERROR(trt_parse(build));
    KLN_RETURN_IF_ERROR(trt_apply_profiles(build));
    KLN_RETURN_IF_ERROR(trt_apply_weights(build));
    KLN_RETURN_IF_ERROR(trt_apply_int4(build));
    KLN_RETURN_IF_ERROR(describe_network(build, description));
    KLN_RETURN_IF_ERROR(trt_timing_begin(build));
    KLN_RETURN_IF_ERROR(begin_stage(build, "building", BUILDING - PARSING - loading));
    build->progress.rounds = build->options->profile_count;
    if (build->progress.monitor != NULL) {
        trt_BuilderConfig_setProgressMonitor(abi, build->config, &build->progress.object);
    }
    const uint64_t begin = kln_now();
    *plan = trt_Builder_buildSerializedNetwork(abi, build->builder, build->network, build->config);
    kln_log(KILN_LOG_DEBUG, "tensorrt", "buildSerializedNetwork took %.1f ms",
            (double)(kln_now() - begin) / 1e6);
    const bool stopped = atomic_load(&build->progress.stopped);
    if (trt_is_null(*plan) || trt_HostMemory_size(abi, *plan) == 0) {
        trt_HostMemory_destroy(*plan);
        *plan = NULL;
        KLN_FAIL_IF(!stopped, fail_plan(build));
        trt_timing_end(build);
        return begin_stage(build, "stopped", 0.0);
    }
    trt_timing_end(build);
    const kiln_status status = begin_stage(build, "loading the plan", 1.0 - BUILDING);
    if (status != KILN_OK) {
        trt_HostMemory_destroy(*plan);
        *plan = NULL;
    }
    return status;
}

kiln_status trt_build_plan(trt_library *library, const kiln_model *model,
                           const kiln_build_options *options, const kiln_monitor *monitor,
                           trt_GpuAllocator *allocator, kiln_description *description,
                           trt_HostMemory **plan)
{
    *plan = NULL;
    KLN_RETURN_IF_ERROR(trt_check_options(options));
    KLN_RETURN_IF_ERROR(trt_library_need_builder(library));
    KLN_RETURN_IF_ERROR(trt_library_need_parser(library));
    KLN_RETURN_IF_ERROR(check_lean(library, options));
    /* The recorder alone takes some kilobytes, too much for the stack of a caller's thread. */
    KLN_SCOPED_FREE trt_build *build = kln_alloc_zeroed(1, sizeof *build);
    KLN_RETURN_IF_NO_MEMORY(build, sizeof *build, "a build");
    build->library = library;
    build->model = model;
    build->options = options;
    build->allocator = allocator;
    KLN_RETURN_IF_ERROR(kln_model_place(model, build->made_place, &build->place));
    build->source = kln_model_name(model);
    trt_error_recorder_init(&build->recorder, &library->tables);
    trt_progress_monitor_init(&build->progress, &library->tables, monitor);
    const kiln_status status = run(build, description, plan);
    trt_timing_finish(build);
    trt_parse_finish(build);
    trt_NetworkDefinition_destroy(build->network);
    trt_BuilderConfig_destroy(build->config);
    trt_Builder_destroy(build->builder);
    trt_progress_monitor_finish(&build->progress);
    trt_error_recorder_finish(&build->recorder);
    return status;
}
