/* SPDX-License-Identifier: Apache-2.0 */
#include <stdio.h>

#include "backends/tensorrt/trt_device.h"
#include "backends/tensorrt/trt_engine.h"
#include "backends/tensorrt/trt_plan.h"
#include "cuda/kln_cuda.h"
#include "memory/kln_memory.h"

kiln_status trt_engine_need(const trt_engine *engine, const char *what)
{
    return engine->engine != NULL ? KILN_OK
                                  : kln_fail(KILN_ERROR_STATE,
                                             "%s: this plan was only built, ahead of time; save it "
                                             "and load it on a machine with the GPU it is for",
                                             what);
}

/* --- the library's memory on the GPU --- */

static kiln_status check_pool(const kiln_build_options *options)
{
    int32_t device = 0;
    const kiln_location location = kln_pool_location(options->gpu_pool, &device);
    KLN_RETURN_IF(
        location != KILN_LOCATION_DEVICE || device != options->device, KILN_ERROR_INVALID_ARGUMENT,
        "gpu_pool: a pool of device memory of GPU %d is needed, this one has %s memory of %d",
        options->device, kiln_location_name(location), device);
    return KILN_OK;
}

kiln_status trt_engine_init_memory(trt_engine *engine, const kiln_build_options *options)
{
    const bool leaves = options->gpu_allocator == KILN_GPU_ALLOCATOR_LIBRARY;
    KLN_RETURN_IF(leaves && (options->gpu_pool != NULL || options->gpu_memory_bytes != 0),
                  KILN_ERROR_INVALID_ARGUMENT,
                  "gpu_allocator: with the library's own there is no %s; leave one of the two out",
                  options->gpu_pool != NULL ? "gpu_pool" : "gpu_memory_bytes");
    if (options->gpu_pool != NULL) {
        KLN_RETURN_IF_ERROR(check_pool(options));
        engine->pool = (trt_pool){options->gpu_pool, options->device};
        trt_pool_memory(&engine->gpu, &engine->pool);
    } else {
        trt_device_memory(&engine->gpu, &engine->device);
    }
    if (!leaves) {
        trt_gpu_allocator_init(&engine->allocator, &engine->library->tables, &engine->gpu,
                               options->gpu_memory_bytes);
        engine->allocates = true;
    }
    return KILN_OK;
}

kiln_status trt_plan_gpu_memory(void *state, kiln_gpu_memory *memory)
{
    trt_engine *engine = state;
    trt_gpu_allocator *allocator = &engine->allocator;
    KLN_RETURN_IF(!engine->allocates, KILN_ERROR_UNSUPPORTED,
                  "kiln_engine_gpu_memory: the library allocates for itself, as gpu_allocator "
                  "asked; without that, Kiln does and counts");
    KLN_LOCKED(&allocator->lock);
    memory->bytes_in_use = allocator->in_use;
    memory->bytes_peak = allocator->peak;
    memory->bytes_limit = allocator->limit;
    memory->allocations = allocator->made;
    memory->releases = allocator->released;
    memory->refused = allocator->refused;
    memory->failed = allocator->failed;
    memory->from_pool = engine->pool.pool != NULL;
    return KILN_OK;
}

trt_shortage trt_engine_shortage(trt_engine *engine)
{
    trt_gpu_allocator *allocator = &engine->allocator;
    trt_shortage found = {0, 0};
    if (engine->allocates) {
        (void)pthread_mutex_lock(&allocator->lock);
        found = (trt_shortage){allocator->refused, allocator->failed};
        (void)pthread_mutex_unlock(&allocator->lock);
    }
    return found;
}

/* TensorRT rarely reports that its own allocations ran out of memory; with less free memory than
 * this, that is the likely cause. */
#define NEARLY_FULL ((size_t)64 << 20)

static kiln_status explain_full(const trt_engine *engine, kiln_status status)
{
    size_t left = 0;
    size_t total = 0;
    char why[1024];
    (void)snprintf(why, sizeof why, "%s", kiln_error_message());
    KLN_RETURN_IF((status != KILN_ERROR_BACKEND && status != KILN_ERROR_MALFORMED) ||
                      trt_device_count(NULL) == 0 ||
                      kln_cuda_memory_info(engine->device, &left, &total) != KILN_OK ||
                      left >= NEARLY_FULL,
                  status, "%s", why);
    return kln_fail(KILN_ERROR_OUT_OF_MEMORY, "GPU %d has only %zu MiB of memory left: %s",
                    engine->device, left >> 20, why);
}

kiln_status trt_engine_explain_memory(trt_engine *engine, trt_shortage before, kiln_status status)
{
    const trt_shortage now = trt_engine_shortage(engine);
    const bool stopped = status == KILN_ERROR_CANCELLED || status == KILN_ERROR_TIMEOUT;
    KLN_FAIL_IF(status != KILN_OK && now.refused != before.refused,
                kln_fail_within(KILN_ERROR_LIMIT,
                                "gpu_memory_bytes allows %llu bytes, and the library wanted more",
                                (unsigned long long)engine->allocator.limit));
    KLN_FAIL_IF(
        status != KILN_OK && !stopped && now.failed != before.failed,
        kln_fail_within(KILN_ERROR_OUT_OF_MEMORY,
                        "GPU %d had no memory left for what the library wanted", engine->device));
    return status == KILN_OK ? KILN_OK : explain_full(engine, status);
}

/* --- device memory of contexts --- */

static int64_t memory_of(const trt_engine *engine, int32_t profile)
{
    const trt_abi *abi = &engine->library->abi;
    trt_CudaEngine *e = engine->engine;
    if (trt_has(abi, TRT_M_CudaEngine_getDeviceMemorySizeV2)) {
        return profile < 0 ? trt_CudaEngine_getDeviceMemorySizeV2(abi, e)
                           : trt_CudaEngine_getDeviceMemorySizeForProfileV2(abi, e, profile);
    }
    return (int64_t)(profile < 0 ? trt_CudaEngine_getDeviceMemorySize(abi, e)
                                 : trt_CudaEngine_getDeviceMemorySizeForProfile(abi, e, profile));
}

kiln_status trt_plan_device_memory(void *state, int32_t profile, uint64_t *bytes)
{
    const trt_engine *engine = state;
    KLN_RETURN_IF_ERROR(trt_engine_need(engine, "kiln_engine_device_memory"));
    const int64_t found = memory_of(engine, profile);
    *bytes = found > 0 ? (uint64_t)found : 0;
    return KILN_OK;
}

/* TensorRT 10.6 rejects memory that is not aligned to this. */
#define SHARED_ALIGNMENT ((size_t)512)

static kiln_status make_block(const trt_engine *engine, const kiln_stream *stream,
                              trt_shared_block **block)
{
    const int64_t needed = memory_of(engine, -1);
    KLN_SCOPED_FREE trt_shared_block *made = kln_alloc_zeroed(1, sizeof *made);
    KLN_RETURN_IF_NO_MEMORY(made, sizeof *made, "shared device memory");
    made->stream = stream;
    made->bytes = needed > 0 ? needed : 1;
    KLN_RETURN_IF_ERROR(kln_cuda_allocate(KILN_LOCATION_DEVICE, engine->device,
                                          (size_t)made->bytes + SHARED_ALIGNMENT - 1,
                                          &made->allocation));
    const uintptr_t past = (uintptr_t)made->allocation % SHARED_ALIGNMENT;
    made->memory = (unsigned char *)made->allocation + (past != 0 ? SHARED_ALIGNMENT - past : 0);
    *block = KLN_TAKE(made);
    return KILN_OK;
}

kiln_status trt_engine_share_memory(trt_engine *engine, const kiln_stream *stream,
                                    trt_shared_block **block)
{
    KLN_LOCKED(&engine->sharing);
    trt_shared_block *found = engine->shared;
    while (found != NULL && found->stream != stream) {
        found = found->next;
    }
    if (found == NULL) {
        KLN_RETURN_IF_ERROR(make_block(engine, stream, &found));
        found->next = engine->shared;
        engine->shared = found;
    }
    found->contexts++;
    *block = found;
    return KILN_OK;
}

void trt_engine_unshare_memory(trt_engine *engine, trt_shared_block *block)
{
    if (block == NULL) {
        return;
    }
    KLN_LOCKED(&engine->sharing);
    if (--block->contexts == 0) {
        trt_shared_block **at = &engine->shared;
        while (*at != block) {
            at = &(*at)->next;
        }
        *at = block->next;
        kln_cuda_release(KILN_LOCATION_DEVICE, engine->device, block->allocation);
        kln_free(block);
    }
}

/* --- weight streaming: the V2 methods came with 10.1 --- */

kiln_status trt_get_streaming(void *state, kiln_weight_streaming *streaming)
{
    const trt_engine *engine = state;
    KLN_RETURN_IF_ERROR(trt_engine_need(engine, "kiln_engine_get_weight_streaming"));
    TRT_ENTER(engine->device);
    const trt_abi *abi = &engine->library->abi;
    trt_CudaEngine *e = engine->engine;
    streaming->streamable_bytes = trt_CudaEngine_getStreamableWeightsSize(abi, e);
    if (trt_has(abi, TRT_M_CudaEngine_getWeightStreamingBudgetV2)) {
        streaming->budget_bytes = trt_CudaEngine_getWeightStreamingBudgetV2(abi, e);
        streaming->automatic_bytes = trt_CudaEngine_getWeightStreamingAutomaticBudget(abi, e);
        streaming->scratch_bytes = trt_CudaEngine_getWeightStreamingScratchMemorySize(abi, e);
    } else {
        streaming->budget_bytes = trt_CudaEngine_getWeightStreamingBudget(abi, e);
        streaming->automatic_bytes = trt_CudaEngine_getMinimumWeightStreamingBudget(abi, e);
    }
    return KILN_OK;
}

kiln_status trt_set_streaming(void *state, int64_t budget)
{
    trt_engine *engine = state;
    kiln_weight_streaming streaming;
    KLN_RETURN_IF_ERROR(trt_get_streaming(engine, &streaming));
    KLN_RETURN_IF(streaming.streamable_bytes == 0, KILN_ERROR_UNSUPPORTED,
                  "kiln_engine_set_weight_streaming: the plan was built without weight_streaming");
    KLN_RETURN_IF(budget < -1 || budget > streaming.streamable_bytes, KILN_ERROR_INVALID_ARGUMENT,
                  "kiln_engine_set_weight_streaming: %lld bytes; 0 to %lld is allowed, or -1",
                  (long long)budget, (long long)streaming.streamable_bytes);
    const trt_abi *abi = &engine->library->abi;
    const int64_t bytes = budget < 0 ? streaming.automatic_bytes : budget;
    const long contexts = atomic_load(&engine->contexts);
    KLN_RETURN_IF(
        contexts > 0, KILN_ERROR_STATE,
        "kiln_engine_set_weight_streaming: the engine has %ld context%s; destroy them first",
        contexts, contexts == 1 ? "" : "s");
    TRT_ENTER(engine->device);
    trt_logged_clear();
    trt_error_recorder_clear(&engine->recorder);
    const bool newer = trt_has(abi, TRT_M_CudaEngine_setWeightStreamingBudgetV2);
    const bool taken = newer ? trt_CudaEngine_setWeightStreamingBudgetV2(abi, engine->engine, bytes)
                             : trt_CudaEngine_setWeightStreamingBudget(abi, engine->engine, bytes);
    KLN_FAIL_IF(!taken, trt_fail(KILN_ERROR_BACKEND, &engine->recorder,
                                 "a weight streaming budget of %lld bytes", (long long)bytes));
    return KILN_OK;
}
