/* SPDX-License-Identifier: Apache-2.0 */
#include "backends/tensorrt/trt_device.h"

#include <stdio.h>

#include "cuda/kln_cuda.h"
#include "memory/kln_memory.h"

static pthread_once_t once = PTHREAD_ONCE_INIT;
static char reason_text[512];

static void ask_why(void)
{
    if (kln_cuda_open() != KILN_OK) {
        (void)snprintf(reason_text, sizeof reason_text, "%s", kiln_error_message());
    } else {
        (void)snprintf(reason_text, sizeof reason_text, "the CUDA driver counts no device");
    }
}

int32_t trt_device_count(const char **reason)
{
    const int32_t count = kln_cuda_device_count();
    if (reason != NULL) {
        *reason = "";
    }
    if (count == 0 && reason != NULL) {
        (void)pthread_once(&once, ask_why);
        *reason = reason_text;
    }
    return count;
}

kiln_status trt_device_refusal(void)
{
    kln_library_use driver;
    const kiln_status status = kln_cuda_open();
    switch (status) {
        case KILN_OK:
        case KILN_ERROR_STATE: return KILN_ERROR_NO_DEVICE;
        case KILN_ERROR_LIBRARY_ABSENT:
            KLN_RETURN_IF_ERROR(kln_cuda_library(&driver));
            return kln_getenv(driver.spec->environment) != NULL ? KILN_ERROR_LIBRARY_BROKEN
                                                                : KILN_ERROR_NO_DEVICE;
        default: return status;
    }
}

kiln_status trt_device_check(int32_t index)
{
    if (index == 0 && kiln_device_count() == 0) {
        return KILN_OK;
    }
    kiln_device_info info = {.struct_size = sizeof info};
    return kln_cuda_device_info(index, &info);
}

kiln_status trt_enter(int32_t device, kln_cuda_scope *scope)
{
    scope->pushed = false;
    return kiln_device_count() > 0 ? kln_cuda_enter(device, scope) : KILN_OK;
}

kln_cuda_scope trt_enter_anyway(int32_t device, const char *what)
{
    kln_cuda_scope scope;
    const kiln_status status = trt_enter(device, &scope);
    /* If there was no memory for a CUDA context, there is nothing on the device to release. */
    if (status != KILN_OK && status != KILN_ERROR_OUT_OF_MEMORY) {
        kln_log(KILN_LOG_WARNING, "tensorrt", "%s: %s", what, kiln_error_message());
    }
    return scope;
}

int32_t trt_device_capability(int32_t index)
{
    kiln_device_info info = {.struct_size = sizeof info};
    if (index < 0 || index >= kln_cuda_device_count() ||
        kln_cuda_device_info(index, &info) != KILN_OK) {
        return 0;
    }
    return info.compute_major * 10 + info.compute_minor;
}

bool trt_rtx_runs_on(int32_t capability)
{
    static const int32_t known[] = {75, 80, 86, 89};
    for (size_t i = 0; i < KLN_ARRAY_LENGTH(known); i++) {
        if (capability == known[i]) {
            return true;
        }
    }
    return capability >= 120;
}

/* --- memory --- */

static void *allocate(void *user, size_t size, void *stream, kiln_block *piece)
{
    (void)stream;
    (void)piece;
    const int32_t *device = user;
    void *memory = NULL;
    return kln_cuda_allocate(KILN_LOCATION_DEVICE, *device, size, &memory) == KILN_OK ? memory
                                                                                      : NULL;
}

static bool release(void *user, void *memory, void *stream, const kiln_block *piece)
{
    (void)stream;
    (void)piece;
    const int32_t *device = user;
    kln_cuda_release(KILN_LOCATION_DEVICE, *device, memory);
    return true;
}

/* The copy must follow the work on the stream. The stream is a raw handle, so this waits for the
 * whole device. */
static bool copy(void *user, void *destination, const void *source, size_t size, void *stream)
{
    const int32_t *device = user;
    if (stream != NULL && kln_cuda_wait(*device) != KILN_OK) {
        return false;
    }
    return kln_cuda_copy(*device, destination, source, size, NULL) == KILN_OK;
}

/* NOLINTNEXTLINE(readability-non-const-parameter): trt_memory.user is for any */
void trt_device_memory(trt_memory *memory, int32_t *device)
{
    *memory = (trt_memory){.user = device, .allocate = allocate, .release = release, .copy = copy};
}

/* --- memory of a pool --- */

static void *pool_allocate(void *user, size_t size, void *stream, kiln_block *piece)
{
    const trt_pool *self = user;
    (void)stream;
    if (kiln_pool_allocate(self->pool, size, NULL, piece) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "tensorrt", "%s", kiln_error_message());
        return NULL;
    }
    return piece->data;
}

static bool pool_drop(void *user, void *memory, void *stream, const kiln_block *piece)
{
    const trt_pool *self = user;
    kiln_block block = *piece;
    (void)memory;
    (void)stream;
    return kiln_pool_release(self->pool, &block, NULL) == KILN_OK;
}

/* The GPU may still be using the memory, which cudaFree allows, so this waits. If it cannot, during
 * a capture, the pool never gets the memory back. */
static bool pool_release(void *user, void *memory, void *stream, const kiln_block *piece)
{
    const trt_pool *self = user;
    if (kln_cuda_wait(self->device) != KILN_OK) {
        kln_log(KILN_LOG_WARNING, "tensorrt", "%zu bytes of a pool cannot be used again: %s",
                piece->bytes, kiln_error_message());
        return true;
    }
    return pool_drop(user, memory, stream, piece);
}

void trt_pool_memory(trt_memory *memory, trt_pool *pool)
{
    *memory = (trt_memory){
        .user = pool, .allocate = pool_allocate, .release = pool_release, .drop = pool_drop};
}
