/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "cuda_driver.h"

/* Looks from one look at the clock to the next, and how long it goes without asking the driver
 * whether something failed. */
#define LOOKS 1024
#define ASKED_EVERY UINT64_C(2000000)

static bool threads_spin(const cuda_table *cuda, int32_t device)
{
    cuda_device *found = NULL;
    unsigned flags = 0;
    int active = 0;
    return cuda->context_state != NULL && cuda_find_device(device, &found) == KILN_OK &&
           cuda->context_state(found->handle, &flags, &active) == CU_SUCCESS &&
           (flags & (CU_CONTEXT_YIELDS | CU_CONTEXT_BLOCKS)) == 0;
}

void kln_fence_make(int32_t device, kln_fence *fence)
{
    const cuda_table *cuda = cuda_functions();
    void *memory = NULL;
    kln_message before;
    kln_message_keep(&before);
    if (fence->word == NULL && cuda->stream_write != NULL && threads_spin(cuda, device) &&
        kln_cuda_allocate(KILN_LOCATION_PINNED, device, sizeof(uint32_t), &memory) == KILN_OK) {
        *fence = (kln_fence){memory, device};
        kln_fence_arm(fence);
    }
    kln_message_restore(&before);
}

void kln_fence_drop(kln_fence *fence)
{
    kln_cuda_release(KILN_LOCATION_PINNED, fence->device, fence->word);
    fence->word = NULL;
}

kiln_status kln_fence_enqueue(const kln_fence *fence, const kiln_stream *stream)
{
    const cuda_table *cuda = cuda_functions();
    return cuda_check(cuda, cuda->stream_write(stream->handle, cuda_address(fence->word), 1, 0),
                      "a write behind the work of a stream of device %d", stream->device);
}

void kln_fence_arm(const kln_fence *fence)
{
    _Atomic uint32_t *word = fence->word;
    atomic_store_explicit(word, 0, memory_order_release);
}

bool kln_fence_is_passed(const kln_fence *fence)
{
    const _Atomic uint32_t *word = fence->word;
    return atomic_load_explicit(word, memory_order_acquire) != 0;
}

kiln_status kln_fence_wait(const kln_fence *fence, const kiln_stream *stream)
{
    uint64_t asked = 0;
    for (;;) {
        for (int looks = 0; looks < LOOKS; looks++) {
            if (kln_fence_is_passed(fence)) {
                return KILN_OK;
            }
        }
        const uint64_t now = kln_now();
        asked = asked != 0 ? asked : now;
        if (now - asked > ASKED_EVERY) {
            if (cuda_functions()->stream_query(stream->handle) != CU_NOT_READY) {
                return kln_stream_wait(stream);
            }
            asked = now;
        }
    }
}
