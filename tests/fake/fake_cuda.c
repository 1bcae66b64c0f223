/* SPDX-License-Identifier: Apache-2.0 */
/* See fake_cuda.h. Only what src/cuda/ calls is there. */
#include "fake_cuda.h"

#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SEEN_LIMIT 96

static pthread_mutex_t guard = PTHREAD_MUTEX_INITIALIZER;
context fake_contexts[DEVICE_LIMIT];
stream fake_default_streams[DEVICE_LIMIT];
static size_t pinned;
long fake_objects;
static struct {
    const char *name;
    unsigned long calls;
} seen[SEEN_LIMIT];
static _Thread_local context *stack[16];
static _Thread_local int depth;

long fake_setting(const char *name, long otherwise)
{
    const char *text = getenv(name);
    return text != NULL && text[0] != '\0' ? strtol(text, NULL, 10) : otherwise;
}

int fake_says(const char *name, const char *word)
{
    const char *text = getenv(name);
    return text != NULL && strcmp(text, word) == 0;
}

static void lock(void)
{
    (void)pthread_mutex_lock(&guard);
}

int fake_unlock(int result)
{
    (void)pthread_mutex_unlock(&guard);
    return result;
}

/* Counts the call, takes the lock, and says whether the device is lost. */
int fake_enter(const char *name)
{
    lock();
    for (size_t i = 0; i < SEEN_LIMIT; i++) {
        if (seen[i].name == NULL || strcmp(seen[i].name, name) == 0) {
            seen[i].name = name;
            seen[i].calls++;
            break;
        }
    }
    const long only = fake_setting("FAKE_CUDA_LOST_DEVICE", -1);
    const char *file = getenv("FAKE_CUDA_LOST_FILE");
    const context *here = fake_current_context();
    const int counts = (only < 0 || (here != NULL && here->device == only)) &&
                       (file == NULL || access(file, F_OK) == 0);
    return counts ? (int)fake_setting("FAKE_CUDA_LOST", SUCCESS) : SUCCESS;
}

__attribute__((visibility("default"))) unsigned long fake_cuda_calls(const char *name)
{
    unsigned long calls = 0;
    lock();
    for (size_t i = 0; i < SEEN_LIMIT && seen[i].name != NULL; i++) {
        calls += strcmp(seen[i].name, name) == 0 ? seen[i].calls : 0;
    }
    (void)fake_unlock(SUCCESS);
    return calls;
}

__attribute__((visibility("default"))) unsigned long fake_cuda_bytes(void)
{
    lock();
    size_t bytes = pinned;
    for (int i = 0; i < DEVICE_LIMIT; i++) {
        bytes += fake_contexts[i].used;
    }
    (void)fake_unlock(SUCCESS);
    return bytes;
}

__attribute__((visibility("default"))) unsigned long fake_cuda_objects(void)
{
    lock();
    const long alive = fake_objects;
    (void)fake_unlock(SUCCESS);
    return (unsigned long)alive;
}

__attribute__((visibility("default"))) unsigned long fake_cuda_took(void)
{
    lock();
    const unsigned long took = fake_nanoseconds;
    (void)fake_unlock(SUCCESS);
    return took;
}

/* --- the driver and its devices --- */

CU cuInit(unsigned flags)
{
    (void)flags;
    return (int)fake_setting("FAKE_CUDA_INIT", SUCCESS);
}

CU cuDriverGetVersion(int *version)
{
    *version = (int)fake_setting("FAKE_CUDA_VERSION", 12080);
    return SUCCESS;
}

static const struct result {
    int result;
    const char *name, *text;
} results[] = {
    {SUCCESS, "CUDA_SUCCESS", "no error"},
    {INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {34, "CUDA_ERROR_STUB_LIBRARY", "CUDA driver is a stub library"},
    {NO_DEVICE, "CUDA_ERROR_NO_DEVICE", "no CUDA-capable device is detected"},
    {INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {INVALID_IMAGE, "CUDA_ERROR_INVALID_IMAGE", "device kernel image is invalid"},
    {INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {NOT_FOUND, "CUDA_ERROR_NOT_FOUND", "named symbol not found"},
    {LAUNCH_RESOURCES, "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES",
     "too many resources requested for launch"},
    {719, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
};

static int text_of(int result, size_t member, const char **text)
{
    *text = NULL;
    for (size_t i = 0; i < sizeof results / sizeof results[0]; i++) {
        if (results[i].result == result) {
            memcpy(text, (const char *)&results[i] + member, sizeof *text);
        }
    }
    return *text != NULL ? SUCCESS : INVALID_VALUE;
}

CU cuGetErrorName(int result, const char **text)
{
    return text_of(result, offsetof(struct result, name), text);
}

CU cuGetErrorString(int result, const char **text)
{
    return text_of(result, offsetof(struct result, text), text);
}

static int device_count(void)
{
    return (int)fake_setting("FAKE_CUDA_DEVICES", 4);
}

/* `device` -1: pinned memory. */
static size_t device_bytes(int device)
{
    const long only = fake_setting("FAKE_CUDA_MEMORY_DEVICE", device);
    return (size_t)(only == device ? fake_setting("FAKE_CUDA_MEMORY", 1L << 30) : 1L << 30);
}

CU cuDeviceGetCount(int *count)
{
    *count = device_count();
    return SUCCESS;
}

CU cuDeviceGet(int *device, int index)
{
    *device = index;
    return index >= 0 && index < device_count() ? SUCCESS : INVALID_DEVICE;
}

CU cuDeviceGetName(char *name, int size, int device)
{
    (void)snprintf(name, (size_t)size, "Fake GPU %c", 'A' + device);
    return SUCCESS;
}

CU cuDeviceTotalMem_v2(size_t *bytes, int device)
{
    *bytes = device_bytes(device);
    return SUCCESS;
}

CU cuDeviceGetAttribute(int *value, int attribute, int device)
{
    switch (attribute) {
        case 16: *value = 10 * (device + 1); break;
        case 18: *value = 0; break;
        case 75:
            *value = (int)fake_setting("FAKE_CUDA_CAPABILITY", device % 2 ? 90 : 86) / 10;
            break;
        case 76:
            *value = (int)fake_setting("FAKE_CUDA_CAPABILITY", device % 2 ? 90 : 86) % 10;
            break;
        case 83: *value = device != 3; break;
        case 115: *value = device != 3; break;
        default: return INVALID_VALUE;
    }
    return SUCCESS;
}

CU cuDeviceGetPCIBusId(char *text, int size, int device)
{
    (void)snprintf(text, (size_t)size, "0000:%02X:00.0", 0xA0 + device);
    return SUCCESS;
}

/* Devices 0 and 1 are connected, 2 and 3 are. */
CU cuDeviceCanAccessPeer(int *can, int device, int peer)
{
    *can = device / 2 == peer / 2;
    return SUCCESS;
}

/* --- fake_contexts --- */

context *fake_current_context(void)
{
    return depth > 0 ? stack[depth - 1] : NULL;
}

CU cuDevicePrimaryCtxRetain(void **made, int device)
{
    ENTER();
    fake_contexts[device].device = device;
    fake_contexts[device].references++;
    fake_default_streams[device].owner = &fake_contexts[device];
    fake_objects++;
    *made = &fake_contexts[device];
    return fake_unlock(SUCCESS);
}

CU cuDevicePrimaryCtxRelease_v2(int device)
{
    ENTER();
    fake_contexts[device].references--;
    memset(fake_contexts[device].peers, 0, sizeof fake_contexts[device].peers);
    fake_objects--;
    return fake_unlock(fake_contexts[device].references >= 0 ? SUCCESS : INVALID_CONTEXT);
}

CU cuDevicePrimaryCtxGetState(int device, unsigned *flags, int *active)
{
    ENTER();
    *flags = (unsigned)fake_setting("FAKE_CUDA_SCHEDULE", 0);
    *active = fake_contexts[device].references > 0;
    return fake_unlock(SUCCESS);
}

CU cuCtxPushCurrent_v2(void *pushed)
{
    ENTER();
    if (depth == 16) {
        return fake_unlock(INVALID_CONTEXT);
    }
    stack[depth++] = pushed;
    return fake_unlock(SUCCESS);
}

CU cuCtxPopCurrent_v2(void **popped)
{
    lock();
    if (depth == 0) {
        return fake_unlock(INVALID_CONTEXT);
    }
    *popped = stack[--depth];
    return fake_unlock(SUCCESS);
}

CU cuCtxGetCurrent(void **current)
{
    *current = fake_current_context();
    return SUCCESS;
}

CU cuCtxEnablePeerAccess(void *peer, unsigned flags)
{
    ENTER();
    context *here = fake_current_context();
    const context *other = peer;
    if (here == NULL || flags != 0) {
        return fake_unlock(INVALID_CONTEXT);
    }
    if (here->peers[other->device]) {
        return fake_unlock(PEER_ALREADY_ENABLED);
    }
    here->peers[other->device] = 1;
    return fake_unlock(SUCCESS);
}

CU cuCtxGetStreamPriorityRange(int *least, int *greatest)
{
    *least = 0;
    *greatest = -5;
    return fake_current_context() != NULL ? SUCCESS : INVALID_CONTEXT;
}

CU cuMemGetInfo_v2(size_t *free_bytes, size_t *total)
{
    ENTER();
    const context *here = fake_current_context();
    if (here == NULL) {
        return fake_unlock(INVALID_CONTEXT);
    }
    *total = device_bytes(here->device);
    *free_bytes = *total > here->used ? *total - here->used : 0;
    return fake_unlock(SUCCESS);
}

/* --- memory --- */

static void *pointer(address memory)
{
    return (void *)(uintptr_t)memory;
}

static int take(void **memory, size_t bytes, int device)
{
    size_t *used = device >= 0 ? &fake_contexts[device].used : &pinned;
    if (bytes == 0) {
        return INVALID_VALUE;
    }
    if (bytes > device_bytes(device) || *used > device_bytes(device) - bytes) {
        return OUT_OF_MEMORY;
    }
    void *made = NULL;
    if (posix_memalign(&made, 512, bytes + sizeof(piece)) != 0) {
        return OUT_OF_MEMORY;
    }
    piece *header = made;
    header->bytes = bytes;
    header->device = device;
    *used += bytes;
    *memory = header + 1;
    return SUCCESS;
}

static int give_back(void *memory)
{
    piece *header = (piece *)memory - 1;
    *(header->device >= 0 ? &fake_contexts[header->device].used : &pinned) -= header->bytes;
    free(header);
    return SUCCESS;
}

static int take_on_device(address *memory, size_t bytes)
{
    void *made = NULL;
    const context *here = fake_current_context();
    const int result = here != NULL ? take(&made, bytes, here->device) : INVALID_CONTEXT;
    *memory = (address)(uintptr_t)made;
    return result;
}

CU_GIVES(cuMemAlloc_v2, (address * memory, size_t bytes), take_on_device(memory, bytes))

CU_GIVES(cuMemFree_v2, (address memory), give_back(pointer(memory)))

CU_GIVES(cuMemHostAlloc, (void **memory, size_t bytes, unsigned flags), take(memory, bytes, -1))

CU_GIVES(cuMemFreeHost, (void *memory), give_back(memory))

CU_GIVES(cuMemAllocManaged, (address * memory, size_t bytes, unsigned flags),
         flags == 1 ? take_on_device(memory, bytes) : INVALID_VALUE)

CU_GIVES(cuMemAllocAsync, (address * memory, size_t bytes, void *on), take_on_device(memory, bytes))

CU_GIVES(cuMemFreeAsync, (address memory, void *on), give_back(pointer(memory)))

CU cuDeviceGetDefaultMemPool(void **pool, int device)
{
    *pool = &fake_contexts[device];
    return SUCCESS;
}

CU_GIVES(cuMemPoolTrimTo, (void *pool, size_t keep), pool != NULL ? SUCCESS : INVALID_VALUE)

CU_GIVES(cuMemPoolSetAttribute, (void *pool, int attribute, void *value),
         pool != NULL && attribute == 4 && value != NULL ? SUCCESS : INVALID_VALUE)
