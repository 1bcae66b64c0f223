/* SPDX-License-Identifier: Apache-2.0 */
#include "kln_memory.h"

kiln_status kln_memory_check(kiln_location location, int32_t device)
{
    switch (location) {
        case KILN_LOCATION_HOST: return KILN_OK;
        case KILN_LOCATION_PINNED:
        case KILN_LOCATION_MANAGED:
        case KILN_LOCATION_DEVICE: break;
        default:
            return kln_fail(KILN_ERROR_INVALID_ARGUMENT,
                            "location %d does not exist; there are host (0), pinned (1), managed "
                            "(2) and device (3)",
                            (int)location);
    }
    kiln_device_info info = {.struct_size = sizeof info};
    KLN_RETURN_WITHIN(kln_cuda_device_info(device, &info), "%s memory",
                      kiln_location_name(location));
    KLN_RETURN_IF(location == KILN_LOCATION_MANAGED && !info.managed_memory, KILN_ERROR_UNSUPPORTED,
                  "device %d (%s) has no managed memory", device, info.name);
    return KILN_OK;
}

kiln_status kln_memory_allocate(kiln_location location, int32_t device, size_t bytes, void **memory)
{
    *memory = NULL;
    if (location != KILN_LOCATION_HOST) {
        return kln_cuda_allocate(location, device, bytes, memory);
    }
    *memory = kln_alloc_aligned(bytes, KLN_MEMORY_ALIGNMENT);
    return *memory != NULL ? KILN_OK : kln_fail_memory(bytes, "host memory");
}

void kln_memory_release(kiln_location location, int32_t device, void *memory)
{
    if (location != KILN_LOCATION_HOST) {
        kln_cuda_release(location, device, memory);
    } else {
        kln_free(memory);
    }
}

kiln_status kln_memory_fill(kiln_location location, int32_t device, void *memory, uint8_t value,
                            size_t bytes)
{
    if (location == KILN_LOCATION_MANAGED || location == KILN_LOCATION_DEVICE) {
        return kln_cuda_fill(device, memory, value, bytes, NULL);
    }
    memset(memory, value, bytes);
    return KILN_OK;
}
