/* SPDX-License-Identifier: Apache-2.0 */
/* Loads and launches Kiln's own kernels. Most are PTX 6.0 for sm_50: every driver that Kiln accepts
 * knows that version, and compiles it for all later devices. The fences need newer devices and are
 * loaded only there. */
#include "cuda_driver.h"

static pthread_mutex_t loading = PTHREAD_MUTEX_INITIALIZER;

static void forget_kernels(int32_t index)
{
    cuda_device *device = NULL;
    if (cuda_find_device(index, &device) != KILN_OK) {
        return;
    }
    for (size_t slot = 0; slot < CUDA_KERNELS; slot++) {
        if (atomic_load(&device->kernels[slot]) == NULL) {
            continue;
        }
        cuda_drop(index, cuda_functions()->module_unload, device->modules[slot],
                  "unloading a kernel");
        device->modules[slot] = NULL;
        atomic_store(&device->kernels[slot], NULL);
    }
}

static int load(cuda_device *device, const cuda_kernel *kernel, void **function)
{
    const cuda_table *cuda = cuda_functions();
    void *module = NULL;
    int result = cuda->module_load(&module, kernel->text);
    if (result != CU_SUCCESS) {
        return result;
    }
    result = cuda->module_function(function, module, kernel->name);
    if (result != CU_SUCCESS) {
        cuda_log_failure(cuda->module_unload(module), "unloading a kernel");
        return result;
    }
    device->modules[kernel->slot] = module;
    device->forget_kernels = forget_kernels;
    atomic_store_explicit(&device->kernels[kernel->slot], *function, memory_order_release);
    return CU_SUCCESS;
}

/* Finds the kernel on the device whose context is current; the first call loads it. A failure is
 * not remembered, because memory may suffice the next time. */
static kiln_status find_kernel(cuda_device *device, const cuda_kernel *kernel, void **function)
{
    *function = atomic_load_explicit(&device->kernels[kernel->slot], memory_order_acquire);
    if (*function != NULL) {
        return KILN_OK;
    }
    KLN_RETURN_IF(!cuda_has_kernels(), KILN_ERROR_UNSUPPORTED,
                  "this driver (CUDA %d.%d) lacks functions that %s by a kernel need",
                  kln_cuda_version() / 1000, kln_cuda_version() % 1000 / 10, kernel->does);
    int result = CU_SUCCESS;
    (void)pthread_mutex_lock(&loading);
    *function = atomic_load(&device->kernels[kernel->slot]);
    if (*function == NULL) {
        result = load(device, kernel, function);
    }
    (void)pthread_mutex_unlock(&loading);
    return cuda_check(result, "loading the kernel that %s on device %d (%s)", kernel->does,
                      device->handle, device->name);
}

kiln_status cuda_load_kernel(cuda_device *device, const cuda_kernel *kernel)
{
    void *function = NULL;
    return find_kernel(device, kernel, &function);
}

kiln_status cuda_launch_ahead(kiln_stream *stream, const cuda_kernel *kernel, void **arguments)
{
    cuda_device *device = NULL;
    void *function = NULL;
    cu_launch_attribute ahead = {.id = CU_LAUNCH_AHEAD, .value.on = 1};
    const cu_launch one = {.grid = {1, 1, 1},
                           .block = {1, 1, 1},
                           .stream = stream->handle,
                           .attributes = &ahead,
                           .attribute_count = 1};
    KLN_CUDA_ENTER(stream->device);
    KLN_RETURN_IF_ERROR(cuda_find_device(stream->device, &device));
    KLN_RETURN_IF_ERROR(find_kernel(device, kernel, &function));
    return cuda_check(cuda_functions()->launch_kernel_with(&one, function, arguments, NULL),
                      "%s by a kernel on device %d", kernel->doing, stream->device);
}

kiln_status cuda_launch(kiln_stream *stream, const cuda_kernel *kernel, uint64_t blocks,
                        unsigned threads, void **arguments)
{
    KLN_CUDA_ENTER(stream->device);
    cuda_device *device = NULL;
    void *function = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(stream->device, &device));
    KLN_RETURN_IF_ERROR(find_kernel(device, kernel, &function));
    return cuda_check(cuda_functions()->launch_kernel(function, (unsigned)blocks, 1, 1, threads, 1,
                                                      1, 0, stream->handle, arguments, NULL),
                      "%s by a kernel of %llu blocks on device %d", kernel->doing,
                      (unsigned long long)blocks, stream->device);
}
