/* SPDX-License-Identifier: Apache-2.0 */
#include "cuda/kln_cuda.h"
#include "scheduler_parts.h"

#define LEAST_KIND 6 /* 64 bytes */

static size_t kind_of(size_t bytes)
{
    size_t kind = LEAST_KIND;
    while (kind < BLOCK_CLASSES - 1 && ((size_t)1 << kind) < bytes) {
        kind++;
    }
    return kind;
}

static unsigned char *allocate(int32_t device, size_t bytes)
{
    void *memory = NULL;
    if (device < 0) {
        return kln_alloc_aligned(bytes, 64);
    }
    return kln_cuda_allocate(KILN_LOCATION_PINNED, device, bytes, &memory) == KILN_OK ? memory
                                                                                      : NULL;
}

static void drop(result_block *block)
{
    if (block->device < 0) {
        kln_free(block->memory);
    } else {
        kln_cuda_release(KILN_LOCATION_PINNED, block->device, block->memory);
    }
    kln_free(block);
}

/* Pinned memory serves every device, so there is one list. */
static result_block **list_of(block_list *list, int32_t device, size_t kind)
{
    return device < 0 ? &list->free[kind] : &list->pinned[kind];
}

result_block *result_block_take(block_list *list, size_t bytes, int32_t device)
{
    const size_t kind = kind_of(bytes);
    result_block **free = list_of(list, device, kind);
    (void)pthread_mutex_lock(&list->lock);
    result_block *block = *free;
    if (block != NULL) {
        *free = block->next;
    }
    (void)pthread_mutex_unlock(&list->lock);
    if (block == NULL) {
        block = kln_alloc_zeroed(1, sizeof *block);
        if (block == NULL) {
            return NULL;
        }
        block->kind = kind;
        block->device = device;
        block->memory = allocate(device, (size_t)1 << kind);
        if (block->memory == NULL) {
            kln_free(block);
            return NULL;
        }
    }
    atomic_store(&block->references, 1);
    return block;
}

void result_block_release(block_list *list, result_block *block)
{
    if (block == NULL || atomic_fetch_sub(&block->references, 1) != 1) {
        return;
    }
    KLN_LOCKED(&list->lock);
    result_block **free = list_of(list, block->device, block->kind);
    block->next = *free;
    *free = block;
}

bool result_block_holds(const result_block *block, const void *data)
{
    const unsigned char *at = data;
    return block != NULL && at >= block->memory && at < block->memory + ((size_t)1 << block->kind);
}

static void drop_all(result_block *first)
{
    while (first != NULL) {
        result_block *block = first;
        first = block->next;
        drop(block);
    }
}

void block_list_finish(block_list *list)
{
    for (size_t kind = 0; kind < BLOCK_CLASSES; kind++) {
        drop_all(list->free[kind]);
        drop_all(list->pinned[kind]);
    }
    (void)pthread_mutex_destroy(&list->lock);
}
