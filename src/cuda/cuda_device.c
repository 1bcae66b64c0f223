/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda_driver.h"

kiln_status kln_cuda_device_info(int32_t device, kiln_device_info *info)
{
    cuda_device *found = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    info->index = device;
    info->name = found->name;
    info->compute_major = found->compute_major;
    info->compute_minor = found->compute_minor;
    info->total_bytes = found->total_bytes;
    info->pci_address = found->pci_address;
    info->multiprocessors = found->multiprocessors;
    info->integrated = found->integrated != 0;
    info->managed_memory = found->managed_memory != 0;
    info->stream_ordered_memory = kln_cuda_has(KLN_CUDA_STREAM_ORDERED, device);
    return KILN_OK;
}

kiln_status kln_cuda_enter(int32_t device, kln_cuda_scope *scope)
{
    scope->pushed = false;
    cuda_device *found = NULL;
    void *context = NULL;
    void *current = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &found));
    KLN_RETURN_IF_ERROR(cuda_primary_context(found, &context));
    const int result = cuda_functions()->context_current(&current);
    if (result == CU_SUCCESS && current == context) {
        return KILN_OK;
    }
    KLN_RETURN_IF_ERROR(cuda_check(result, "the current context"));
    KLN_RETURN_IF_ERROR(cuda_check(cuda_functions()->context_push(context),
                                   "making the context of device %d current", device));
    scope->pushed = true;
    return KILN_OK;
}

void kln_cuda_leave(kln_cuda_scope *scope)
{
    if (scope->pushed) {
        void *context = NULL;
        cuda_log_failure(cuda_functions()->context_pop(&context), "leaving a context");
        scope->pushed = false;
    }
}

void cuda_drop(int32_t device, int (*destroy)(void *handle), void *handle, const char *what)
{
    KLN_SCOPED(kln_cuda_leave) kln_cuda_scope scope = {.pushed = false};
    if (kln_cuda_enter(device, &scope) == KILN_OK) {
        cuda_log_failure(destroy(handle), what);
    }
}

kiln_status kln_cuda_memory_info(int32_t device, size_t *free_bytes, size_t *total_bytes)
{
    KLN_CUDA_ENTER(device);
    return cuda_check(cuda_functions()->memory_info(free_bytes, total_bytes),
                      "the free memory of device %d", device);
}

/* --- the public calls --- */

size_t kiln_device_count(void)
{
    KLN_MESSAGE_STAYS;
    return (size_t)kln_cuda_device_count();
}

kiln_status kiln_device_get(int32_t device, kiln_device_info *info)
{
    KLN_RETURN_IF_NULL(info);
    kiln_device_info found = {.struct_size = sizeof found};
    KLN_RETURN_IF_ERROR(kln_cuda_device_info(device, &found));
    return kln_info_write(__func__, info, &found, sizeof found);
}

kiln_status kiln_device_memory(int32_t device, size_t *free_bytes, size_t *total_bytes)
{
    KLN_RETURN_IF_NULL(free_bytes, total_bytes);
    return kln_cuda_memory_info(device, free_bytes, total_bytes);
}

kiln_status kiln_device_connect(int32_t device, int32_t peer)
{
    cuda_device *from = NULL;
    cuda_device *to = NULL;
    KLN_RETURN_IF_ERROR(cuda_find_device(device, &from));
    KLN_RETURN_IF_ERROR(cuda_find_device(peer, &to));
    const cuda_table *cuda = cuda_functions();
    int can = 0;
    if (cuda->device_can_access != NULL && cuda->context_enable_peer != NULL && device != peer) {
        KLN_RETURN_IF_ERROR(cuda_check(cuda->device_can_access(&can, from->handle, to->handle),
                                       "whether device %d reaches device %d", device, peer));
    }
    KLN_RETURN_IF(can == 0, KILN_ERROR_UNSUPPORTED,
                  "device %d cannot reach the memory of device %d directly; copies between "
                  "them go through the host",
                  device, peer);
    void *context = NULL;
    KLN_RETURN_IF_ERROR(cuda_primary_context(to, &context));
    KLN_CUDA_ENTER(device);
    int result = cuda->context_enable_peer(context, 0);
    result = result == CU_PEER_ALREADY_ENABLED ? CU_SUCCESS : result;
    return cuda_check(result, "access of device %d to device %d", device, peer);
}
