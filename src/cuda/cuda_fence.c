/* SPDX-License-Identifier: Apache-2.0 */
#include <stdatomic.h>

#include "cuda_driver.h"

/* LOOKS: polls between two reads of the clock. ASKED_EVERY: nanoseconds between queries whether the
 * driver reports a failure. */
#define LOOKS 1024
#define ASKED_EVERY UINT64_C(2000000)

/* A system-wide release store: whoever reads the word sees the outputs, too. (PTX, "Memory
 * Consistency Model".) On an H200, after a graph of five kernels, a kernel signals the end 0.7 us
 * sooner than cuStreamWriteValue32, and a kernel with programmatic dependent launch another 0.5 us
 * sooner; that one waits itself for the preceding work to end ("griddepcontrol.wait"). */
#define FENCE_TEXT(version, target, waits)           \
    ".version " version                              \
    "\n"                                             \
    ".target " target                                \
    "\n"                                             \
    ".address_size 64\n"                             \
    "\n"                                             \
    ".visible .entry kiln_fence(.param .u64 word)\n" \
    "{\n"                                            \
    "    .reg .b64 %word;\n"                         \
    "    .reg .b32 %one;\n"                          \
    "\n"                                             \
    "    ld.param.u64 %word, [word];\n"              \
    "    cvta.to.global.u64 %word, %word;\n"         \
    "    mov.u32 %one, 1;\n" waits                   \
    "    st.release.sys.global.u32 [%word], %one;\n" \
    "    ret;\n"                                     \
    "}\n"

static const cuda_kernel fences = {CUDA_KERNEL_FENCE, "kiln_fence", FENCE_TEXT("6.0", "sm_70", ""),
                                   "ends that are told", "telling the end"};
static const cuda_kernel fences_ahead = {CUDA_KERNEL_FENCE_AHEAD, "kiln_fence",
                                         FENCE_TEXT("7.8", "sm_90", "    griddepcontrol.wait;\n"),
                                         "ends that are told", "telling the end"};

static bool threads_spin(const cuda_table *cuda, int32_t device)
{
    cuda_device *found = NULL;
    unsigned flags = 0;
    int active = 0;
    return cuda->context_state != NULL && cuda_find_device(device, &found) == KILN_OK &&
           cuda->context_state(found->handle, &flags, &active) == CU_SUCCESS &&
           (flags & (CU_CONTEXT_YIELDS | CU_CONTEXT_BLOCKS)) == 0;
}

/* The device's context must be current. */
static bool load(int32_t device, bool *ahead)
{
    cuda_device *found = NULL;
    if (cuda_find_device(device, &found) != KILN_OK || found->compute_major < 7 ||
        cuda_load_kernel(found, &fences) != KILN_OK) {
        return false;
    }
    *ahead = found->compute_major >= 9 && cuda_functions()->launch_kernel_with != NULL &&
             cuda_functions()->capture_info != NULL &&
             cuda_load_kernel(found, &fences_ahead) == KILN_OK;
    return true;
}

void kln_fence_make(int32_t device, kln_fence *fence)
{
    void *memory = NULL;
    bool ahead = false;
    KLN_MESSAGE_STAYS;
    if (fence->word == NULL && threads_spin(cuda_functions(), device) && load(device, &ahead) &&
        kln_cuda_allocate(KILN_LOCATION_PINNED, device, sizeof(uint32_t), &memory) == KILN_OK) {
        *fence = (kln_fence){memory, device, ahead};
        kln_fence_arm(fence);
    }
}

void kln_fence_drop(kln_fence *fence)
{
    kln_cuda_release(KILN_LOCATION_PINNED, fence->device, fence->word);
    fence->word = NULL;
}

/* Whether the next node of a capture would depend on exactly one node, and that a kernel: only then
 * can the dependent launch be used. */
static bool follows_kernel(const kiln_stream *stream)
{
    int status = 0;
    int type = -1;
    uint64_t id = 0;
    void *graph = NULL;
    void *const *nodes = NULL;
    size_t count = 0;
    return cuda_functions()->capture_info(stream->handle, &status, &id, &graph, &nodes, &count) ==
               CU_SUCCESS &&
           status == CU_CAPTURE_ACTIVE && count == 1 &&
           cuda_functions()->graph_node_type(nodes[0], &type) == CU_SUCCESS &&
           type == CU_NODE_KERNEL;
}

kiln_status kln_fence_enqueue(const kln_fence *fence, kiln_stream *stream)
{
    cu_address place = cuda_address(fence->word);
    void *arguments[] = {&place};
    return fence->ahead && follows_kernel(stream)
               ? cuda_launch_ahead(stream, &fences_ahead, arguments)
               : cuda_launch(stream, &fences, 1, 1, arguments);
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
