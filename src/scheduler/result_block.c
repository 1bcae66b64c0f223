/* SPDX-License-Identifier: Apache-2.0 */
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

result_block *result_block_take(block_list *list, size_t bytes)
{
    const size_t kind = kind_of(bytes);
    (void)pthread_mutex_lock(&list->lock);
    result_block *block = list->free[kind];
    if (block != NULL) {
        list->free[kind] = block->next;
    }
    (void)pthread_mutex_unlock(&list->lock);
    if (block == NULL) {
        block = kln_alloc_zeroed(1, sizeof *block);
        if (block == NULL) {
            return NULL;
        }
        block->kind = kind;
        block->memory = kln_alloc_aligned((size_t)1 << kind, 64);
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
    (void)pthread_mutex_lock(&list->lock);
    block->next = list->free[block->kind];
    list->free[block->kind] = block;
    (void)pthread_mutex_unlock(&list->lock);
}

bool result_block_holds(const result_block *block, const void *data)
{
    const unsigned char *at = data;
    return block != NULL && at >= block->memory && at < block->memory + ((size_t)1 << block->kind);
}

void block_list_finish(block_list *list)
{
    for (size_t kind = 0; kind < BLOCK_CLASSES; kind++) {
        while (list->free[kind] != NULL) {
            result_block *block = list->free[kind];
            list->free[kind] = block->next;
            kln_free(block->memory);
            kln_free(block);
        }
    }
    (void)pthread_mutex_destroy(&list->lock);
}
