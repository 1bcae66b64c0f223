/* SPDX-License-Identifier: Apache-2.0 */
/* Deserializes a plan, or explains why the library refuses it. */
#include <stdio.h>

#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_engine.h"
#include "cuda/kln_cuda.h"

void trt_engine_destroy(void *state)
{
    trt_engine *engine = state;
    TRT_ENTER_ANYWAY(engine->device, "destroying an engine");
    trt_refit_finish(engine);
    trt_CudaEngine_destroy(engine->engine);
    trt_Runtime_destroy(engine->runtime);
    if (engine->allocates) {
        trt_gpu_allocator_finish(&engine->allocator);
    }
    trt_HostMemory_destroy(engine->memory);
    trt_HostMemory_destroy(engine->refitted);
    kln_mapping_close(&engine->mapping);
    kln_free(engine->copy);
    kln_arena_finish(&engine->arena);
    trt_error_recorder_finish(&engine->recorder);
    (void)pthread_mutex_destroy(&engine->refitting);
    (void)pthread_mutex_destroy(&engine->sharing);
    kln_free(engine);
}
KLN_SCOPED_POINTER(trt_engine, trt_engine_destroy)

kiln_status trt_engine_create_with(trt_library *library, const kiln_build_options *options,
                                   trt_engine **engine)
{
    KLN_RETURN_IF_ERROR(trt_device_check(options->device));
    KLN_SCOPED(trt_engine_destroy_at) trt_engine *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "an engine of TensorRT");
    made->library = library;
    made->device = options->device;
    made->runs_host_code = options->allow_host_code;
    made->lacks_weights = options->strip_plan;
    made->is_refittable = options->strip_plan || options->refit != KILN_REFIT_NONE;
    atomic_init(&made->contexts, 0);
    (void)pthread_mutex_init(&made->refitting, NULL);
    (void)pthread_mutex_init(&made->sharing, NULL);
    trt_error_recorder_init(&made->recorder, &library->tables);
    KLN_RETURN_IF_ERROR(trt_engine_init_memory(made, options));
    *engine = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status trt_engine_create(const kiln_build_options *options, trt_engine **engine)
{
    trt_library *library = NULL;
    KLN_RETURN_IF_ERROR(trt_library_open(options->library, &library));
    return trt_engine_create_with(library, options, engine);
}

/* Rejects what is obviously not a plan without asking the library. */
static kiln_status check_plan(const trt_engine *engine, const char *source)
{
    KLN_RETURN_IF(engine->plan.size < 32, KILN_ERROR_MALFORMED,
                  "%s: %zu bytes are no plan of TensorRT", source, engine->plan.size);
    return KILN_OK;
}

/* Recognizes a plan by its first word. */
const char *trt_recognize(kiln_span bytes)
{
    if (bytes.size < 4) {
        return NULL;
    }
    return memcmp(bytes.data, "ftrt", 4) == 0   ? "a plan of TensorRT"
           : memcmp(bytes.data, "vtrt", 4) == 0 ? "a plan of TensorRT-RTX"
                                                : NULL;
}

/* The version that built the plan, like "TensorRT-RTX 1.4.0", if the plan states one and it differs
 * from the library in use; else "". Bytes 24 to 27 of a plan hold the version. */
static const char *other_builder(const trt_engine *engine, char text[32])
{
    const unsigned char *bytes = engine->plan.data;
    const trt_abi *abi = &engine->library->abi;
    text[0] = '\0';
    if (bytes == NULL || engine->plan.size < 32) {
        return text;
    }
    const bool of_rtx = memcmp(bytes, "vtrt", 4) == 0;
    const int32_t version = bytes[24] * 10000 + bytes[25] * 100 + bytes[26];
    /* Any other number is not a version, and the bytes not a plan. */
    const bool sensible =
        of_rtx ? version >= 10000 && version < 80000 : version >= 80000 && version < 200000;
    if (trt_recognize(engine->plan) == NULL) {
        return text;
    }
    if (sensible && (version != abi->version || of_rtx != abi->is_rtx)) {
        trt_version_text(of_rtx, version, text);
    } else if (of_rtx != abi->is_rtx) {
        (void)snprintf(text, 32, of_rtx ? "TensorRT-RTX" : "TensorRT");
    }
    return text;
}

/* TensorRT explains only in words why it refuses a plan. */
static bool says(trt_engine *engine, const char *const *words, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (trt_said(&engine->recorder, words[i])) {
            return true;
        }
    }
    return false;
}

/* Whether the plan is of another version, or for another GPU. */
static bool is_for_others(trt_engine *engine)
{
    static const char *const words[] = {
        "not compatible with this version", "Version tag does not match", "incompatible device",
        "Platform specific tag mismatch", "different compute capability"};
    return says(engine, words, KLN_ARRAY_LENGTH(words));
}

static bool has_host_code(trt_engine *engine)
{
    static const char *const words[] = {"host code", "HostCode", "lean runtime"};
    return !engine->runs_host_code && says(engine, words, KLN_ARRAY_LENGTH(words));
}

static kiln_status fail_deserialize(trt_engine *engine, const char *source)
{
    const char *why_none = "";
    char other[32];
    if (has_host_code(engine)) {
        return trt_fail(KILN_ERROR_UNSUPPORTED, &engine->recorder,
                        "%s: it carries code that would run in this process; where it is trusted "
                        "like a program, set kiln_build_options.allow_host_code",
                        source);
    }
    if (other_builder(engine, other)[0] != '\0') {
        return trt_fail(KILN_ERROR_MISMATCH, &engine->recorder,
                        "%s: it was built with %s, found is %s; build it again from the model or "
                        "install that version",
                        source, other, engine->library->name);
    }
    KLN_FAIL_IF(!trt_library_runs(engine->library, engine->device, &why_none),
                trt_fail(KILN_ERROR_NO_DEVICE, &engine->recorder,
                         "%s: %s loads a plan only where there is a GPU for it, and %s", source,
                         engine->library->name, why_none));
    if (is_for_others(engine)) {
        return trt_fail(KILN_ERROR_MISMATCH, &engine->recorder,
                        "%s: it was not built for %s on this GPU; build it again from the model",
                        source, engine->library->name);
    }
    if (trt_said(&engine->recorder, "lugin")) {
        const trt_library *library = engine->library;
        return trt_fail(
            KILN_ERROR_UNSUPPORTED, &engine->recorder,
            "%s: it has layers of a plugin that is not loaded (kiln_plugin_load)%s%s", source,
            library->plugin_found.status != KILN_OK ? "; " : "",
            library->plugin_found.status != KILN_OK ? library->plugin_found.reason : "");
    }
    return trt_fail(KILN_ERROR_MALFORMED, &engine->recorder,
                    "%s: %s does not take it for one of its plans", source, engine->library->name);
}

kiln_status trt_engine_deserialize(trt_engine *engine, const char *source)
{
    trt_library *library = engine->library;
    const trt_abi *abi = &library->abi;
    KLN_RETURN_IF_ERROR(check_plan(engine, source));
    /* A plan does not reveal whether it needs plugin layers; registering them takes a
     * millisecond. */
    KLN_RETURN_IF_ERROR(trt_library_offer_plugins(library));
    const trt_shortage before = trt_engine_shortage(engine);
    trt_logged_clear();
    engine->runtime = library->core.createInferRuntime_INTERNAL(&library->logger, abi->version);
    if (trt_is_null(engine->runtime)) {
        engine->runtime = NULL;
        const kiln_status status =
            !trt_library_runs(library, engine->device, NULL)
                ? fail_deserialize(engine, source)
                : trt_fail(KILN_ERROR_BACKEND, NULL, "%s gives no runtime", library->name);
        return trt_engine_explain_memory(engine, before, status);
    }
    trt_Runtime_setErrorRecorder(abi, engine->runtime, &engine->recorder.object);
    if (engine->allocates) {
        trt_Runtime_setGpuAllocator(abi, engine->runtime, &engine->allocator.object);
    }
    if (engine->runs_host_code && trt_has(abi, TRT_M_Runtime_setEngineHostCodeAllowed)) {
        trt_Runtime_setEngineHostCodeAllowed(abi, engine->runtime, true);
    }
    /* Directly from the mapped plan: a stream reader would copy every byte once more. */
    engine->engine = trt_Runtime_deserializeCudaEngine(abi, engine->runtime, engine->plan.data,
                                                       engine->plan.size);
    if (trt_is_null(engine->engine)) {
        engine->engine = NULL;
        return trt_engine_explain_memory(engine, before, fail_deserialize(engine, source));
    }
    return KILN_OK;
}
